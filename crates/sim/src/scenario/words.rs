//! The text form of each value: what is read is what is written.
//!
//! ```text
//! constant:50   uniform:20-80   weibull:0.4:600   0.3@10   0.5@10+20   nearest
//! ```

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use thiserror::Error;

use super::{
    Bootstrap, Canary, Churn, Fingers, Latency, Order, Pairs, Policy, Share, Split, Targets,
};

/// A text that says nothing of its kind: what is wrong, and which forms there are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{problem}")]
pub struct WordError {
    problem: String,
}

impl WordError {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
        }
    }
}

/// The forms of a latency, for messages.
const LATENCIES: &str = "constant:MS, uniform:LO-HI, geo or a file";

/// The forms of churn, for messages.
const CHURNS: &str = "none, exponential:MEAN_S, weibull:SHAPE:MEDIAN_S or a file";

impl FromStr for Bootstrap {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        choose(Self::ALL, "bootstrap", text)
    }
}

impl FromStr for Pairs {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        choose(Self::ALL, "choice of pairs", text)
    }
}

impl FromStr for Targets {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        choose(Self::ALL, "choice of targets", text)
    }
}

impl FromStr for Order {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        choose(Self::ALL, "order of a broadcast", text)
    }
}

impl FromStr for Fingers {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        choose(Self::ALL, "choice of fingers", text)
    }
}

impl FromStr for Policy {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        choose(Self::ALL, "policy", text)
    }
}

impl FromStr for Canary {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        choose(Self::ALL, "canary", text)
    }
}

impl FromStr for Latency {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        Self::read(text, Path::new(""))
    }
}

impl FromStr for Churn {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        Self::read(text, Path::new(""))
    }
}

impl FromStr for Share {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let wrong = || form(text, "share at a time", "SHARE@T, like 0.3@10");
        let (share, at) = text.split_once('@').ok_or_else(wrong)?;
        let (share, at) = (decimal(share), decimal(at));
        let (Some(share), Some(at)) = (share, at) else {
            return Err(wrong());
        };
        Ok(Self { share, at })
    }
}

impl FromStr for Split {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let wrong = || form(text, "partition", "SHARE@T+LENGTH, like 0.5@10+20");
        let (share, rest) = text.split_once('@').ok_or_else(wrong)?;
        let (at, length) = rest.split_once('+').ok_or_else(wrong)?;
        let (share, at, length) = (decimal(share), decimal(at), decimal(length));
        let (Some(share), Some(at), Some(length)) = (share, at, length) else {
            return Err(wrong());
        };
        Ok(Self { share, at, length })
    }
}

impl Latency {
    /// Reads the text form; a relative path starts in `folder`.
    ///
    /// # Errors
    /// If the text has the look of a form, but is none, and no file has this name.
    pub(super) fn read(text: &str, folder: &Path) -> Result<Self, WordError> {
        let wrong = || form(text, "latency", LATENCIES);
        if text == "geo" {
            return Ok(Self::Geo);
        }
        if let Some(rest) = text.strip_prefix("constant:") {
            return decimal(rest).map(Self::Constant).ok_or_else(wrong);
        }
        if let Some(rest) = text.strip_prefix("uniform:") {
            let (low, high) = rest.split_once('-').ok_or_else(wrong)?;
            let (low, high) = (decimal(low), decimal(high));
            return low
                .zip(high)
                .map(|(low, high)| Self::Uniform(low, high))
                .ok_or_else(wrong);
        }
        path(text, folder).map(Self::File).ok_or_else(wrong)
    }
}

impl Churn {
    /// Reads the text form; a relative path starts in `folder`.
    ///
    /// # Errors
    /// If the text has the look of a form, but is none, and no file has this name.
    pub(super) fn read(text: &str, folder: &Path) -> Result<Self, WordError> {
        let wrong = || form(text, "churn", CHURNS);
        if text == "none" {
            return Ok(Self::None);
        }
        if let Some(rest) = text.strip_prefix("exponential:") {
            return decimal(rest)
                .map(|mean_s| Self::Exponential { mean_s })
                .ok_or_else(wrong);
        }
        if let Some(rest) = text.strip_prefix("weibull:") {
            let (shape, median_s) = rest.split_once(':').ok_or_else(wrong)?;
            let (shape, median_s) = (decimal(shape), decimal(median_s));
            return shape
                .zip(median_s)
                .map(|(shape, median_s)| Self::Weibull { shape, median_s })
                .ok_or_else(wrong);
        }
        path(text, folder).map(Self::File).ok_or_else(wrong)
    }
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(Self::ALL, *self))
    }
}

impl fmt::Display for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(Self::ALL, *self))
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(Self::ALL, *self))
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(Self::ALL, *self))
    }
}

impl fmt::Display for Fingers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(Self::ALL, *self))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(Self::ALL, *self))
    }
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(Self::ALL, *self))
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(ms) => write!(f, "constant:{ms}"),
            Self::Uniform(low, high) => write!(f, "uniform:{low}-{high}"),
            Self::Geo => f.write_str("geo"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for Churn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Exponential { mean_s } => write!(f, "exponential:{mean_s}"),
            Self::Weibull { shape, median_s } => write!(f, "weibull:{shape}:{median_s}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.share, self.at)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}+{}", self.share, self.at, self.length)
    }
}

impl Bootstrap {
    /// Each way with its word.
    const ALL: &'static [(Self, &'static str)] = &[(Self::Grown, "grown"), (Self::Built, "built")];
}

impl Pairs {
    /// Each choice with its word.
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Uniform, "uniform"), (Self::Local, "local")];
}

impl Targets {
    /// Each choice with its word.
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::Peers, "peers"),
        (Self::Keys, "keys"),
        (Self::Predecessors, "predecessors"),
        (Self::Closest, "closest"),
    ];
}

impl Fingers {
    /// Each choice with its word.
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Fixed, "fixed"), (Self::Random, "random")];
}

impl Order {
    /// Each order with its word.
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Inward, "inward"), (Self::Sideways, "sideways")];
}

impl Policy {
    /// Each policy with its word.
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::Balanced, "balanced"),
        (Self::Nearest, "nearest"),
        (Self::Labelled, "labelled"),
    ];
}

impl Canary {
    /// Each canary with its word.
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::RepairOff, "repair_off"),
        (Self::ForgedRoster, "forged_roster"),
        (Self::DroppedDelta, "dropped_delta"),
        (Self::Misrouted, "misrouted"),
        (Self::DoubledBroadcast, "doubled_broadcast"),
        (Self::DoubledDelivery, "doubled_delivery"),
    ];
}

/// A finite number.
pub(super) fn decimal(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn choose<T: Copy>(all: &[(T, &str)], kind: &str, text: &str) -> Result<T, WordError> {
    let found = all.iter().find(|(_, word)| *word == text);
    found.map(|(value, _)| *value).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|(_, word)| *word).collect();
        let many = if words.len() > 1 { "one of " } else { "" };
        WordError::new(format!(
            "{text:?} is no {kind}; choose {many}{}",
            words.join(", ")
        ))
    })
}

fn name<T: Copy + PartialEq>(all: &'static [(T, &'static str)], value: T) -> &'static str {
    let found = all.iter().find(|(each, _)| *each == value);
    found
        .map(|(_, word)| *word)
        .expect("every value has a word")
}

fn form(text: &str, kind: &str, forms: &str) -> WordError {
    WordError::new(format!("{text:?} is no {kind}; write {forms}"))
}

/// A path. With a colon it is one only if it exists: more likely a form was mistyped.
fn path(text: &str, folder: &Path) -> Option<PathBuf> {
    let path = folder.join(text);
    let is_path = !text.is_empty() && (!text.contains(':') || path.exists());
    is_path.then_some(path)
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};

    use proptest::prelude::*;

    use super::*;

    fn survives<T: FromStr<Err = WordError> + Display + Debug + PartialEq>(value: &T) {
        assert_eq!(value.to_string().parse::<T>().as_ref(), Ok(value));
    }

    fn refused<T: FromStr<Err = WordError> + Debug>(text: &str, said: &str) {
        let error = text.parse::<T>().unwrap_err().to_string();
        assert!(error.contains(said), "{text:?}: {error}");
    }

    #[test]
    fn every_word_reads_back() {
        Bootstrap::ALL.iter().for_each(|(value, _)| survives(value));
        Pairs::ALL.iter().for_each(|(value, _)| survives(value));
        Order::ALL.iter().for_each(|(value, _)| survives(value));
        Fingers::ALL.iter().for_each(|(value, _)| survives(value));
        Targets::ALL.iter().for_each(|(value, _)| survives(value));
        Policy::ALL.iter().for_each(|(value, _)| survives(value));
        Canary::ALL.iter().for_each(|(value, _)| survives(value));
    }

    #[test]
    fn a_mistyped_form_is_answered_with_the_forms() {
        refused::<Churn>("weibul:0.4", "weibull:SHAPE:MEDIAN_S");
        refused::<Churn>("weibull:0.4", "weibull:SHAPE:MEDIAN_S");
        refused::<Churn>("exponential:long", "exponential:MEAN_S");
        refused::<Latency>("const:5", "constant:MS");
        refused::<Latency>("uniform:5", "uniform:LO-HI");
        refused::<Latency>("constant:inf", "constant:MS");
        refused::<Latency>("", "constant:MS");
        refused::<Share>("0.3", "SHARE@T");
        refused::<Split>("0.3@10", "SHARE@T+LENGTH");
        refused::<Policy>("best", "choose one of balanced, nearest, labelled");
    }

    #[test]
    fn a_word_without_a_colon_is_a_path() {
        let path = Latency::File("data/rtt.gz".into());
        assert_eq!("data/rtt.gz".parse(), Ok(path.clone()));
        survives(&path);
    }

    #[test]
    fn a_path_with_a_colon_is_one_if_the_file_is_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a:b"), "").unwrap();
        let read = Churn::read("a:b", folder.path());
        assert_eq!(read, Ok(Churn::File(folder.path().join("a:b"))));
        assert!(Churn::read("a:c", folder.path()).is_err());
    }

    proptest! {
        #[test]
        fn numbers_survive_their_text(a in 0.0..1e9f64, b in 0.0..1e9f64, c in 0.0..1.0f64) {
            survives(&Latency::Constant(a));
            survives(&Latency::Uniform(a, b));
            survives(&Churn::Exponential { mean_s: a });
            survives(&Churn::Weibull { shape: c, median_s: b });
            survives(&Share { share: c, at: a });
            survives(&Split { share: c, at: a, length: b });
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC*") {
            let _ = text.parse::<Latency>();
            let _ = text.parse::<Churn>();
            let _ = text.parse::<Share>();
            let _ = text.parse::<Split>();
        }
    }
}
