//! A fault as parts, the pairs of key and value that a table `[[fault]]` holds, and as one word:
//!
//! ```text
//! crash@10:share=0.3   freeze@10+5:ring=[4.2]   loss@5+20:share=0.1   slow@5+20:position=[0],factor=8
//! ```

use std::{fmt, str::FromStr};

use ringweave_ids::Guid;

use super::{
    Fault, FaultKind, Where, WordError,
    settings::{MAX_PEERS, MAX_SECONDS, known, within},
    words::decimal,
};

/// The factor of the slowest link; more is a partition.
const MAX_FACTOR: f64 = 10_000.0;

/// Each kind of fault with the keys that it takes, `at` and `kind` apart.
const KINDS: &[(&str, &[&str])] = &[
    ("crash", &["share", "ring", "position"]),
    ("freeze", &["share", "ring", "position", "length"]),
    ("partition", &["share", "ring", "position", "length"]),
    ("loss", &["share", "length"]),
    ("slow", &["share", "ring", "position", "factor", "length"]),
    ("flash_crowd", &["peers", "length"]),
];

/// Every key of a fault.
const KEYS: &[&str] = &[
    "at", "kind", "share", "ring", "position", "length", "factor", "peers",
];

/// What is wrong with a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FaultError {
    /// The key; empty where it is about the fault as a whole.
    pub(super) key: String,
    /// Which of the parts, if it is one of them.
    pub(super) part: Option<usize>,
    /// What is wrong.
    pub(super) problem: String,
}

/// A key and the text of its value.
pub(super) type Part = (String, String);

impl Fault {
    /// The pairs of key and value that say this fault, `at` and `kind` first.
    pub(super) fn parts(&self) -> Vec<Part> {
        let place = |place: &Where| match place {
            Where::Share(share) => ("share", share.to_string()),
            Where::Ring(guid) => ("ring", guid.clone()),
            Where::Position(guid) => ("position", guid.clone()),
        };
        let length = |seconds: &f64| ("length", seconds.to_string());
        let (kind, rest) = match &self.kind {
            FaultKind::Crash(whom) => ("crash", vec![place(whom)]),
            FaultKind::Freeze(whom, time) => ("freeze", vec![place(whom), length(time)]),
            FaultKind::Partition(whom, time) => ("partition", vec![place(whom), length(time)]),
            FaultKind::Loss(share, time) => {
                ("loss", vec![("share", share.to_string()), length(time)])
            }
            FaultKind::Slow(whom, factor, time) => {
                let factor = ("factor", factor.to_string());
                ("slow", vec![place(whom), factor, length(time)])
            }
            FaultKind::FlashCrowd(peers, time) => {
                let peers = ("peers", peers.to_string());
                ("flash_crowd", vec![peers, length(time)])
            }
        };
        let first = [("at", self.at.to_string()), ("kind", kind.to_owned())];
        first
            .into_iter()
            .chain(rest)
            .map(|(key, text)| (key.to_owned(), text))
            .collect()
    }

    /// Puts a fault together and checks it.
    ///
    /// # Errors
    /// The first part that is unknown, missing, does not fit the kind, or is out of range.
    pub(super) fn from_parts(parts: &[Part]) -> Result<Self, FaultError> {
        let parts = Parts(parts);
        for (part, (key, _)) in parts.0.iter().enumerate() {
            known(key, KEYS).map_err(|problem| FaultError {
                key: key.clone(),
                part: Some(part),
                problem,
            })?;
        }
        let kind = parts.text("kind")?;
        let Some((kind, taken)) = KINDS.iter().find(|(name, _)| *name == kind) else {
            let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            return Err(parts.wrong(
                "kind",
                format!("{kind:?} is no fault; choose one of {names}"),
            ));
        };
        for (key, _) in parts.0 {
            if !matches!(key.as_str(), "at" | "kind") && !taken.contains(&key.as_str()) {
                return Err(parts.wrong(key, format!("{kind} takes no {key}")));
            }
        }
        let at = parts.number("at", 0.0, MAX_SECONDS)?;
        let length = || parts.number("length", 0.0, MAX_SECONDS);
        let kind = match *kind {
            "crash" => FaultKind::Crash(parts.place(kind)?),
            "freeze" => FaultKind::Freeze(parts.place(kind)?, length()?),
            "partition" => FaultKind::Partition(parts.place(kind)?, length()?),
            "loss" => {
                let share = parts.number("share", 0.0, 1.0)?;
                if share >= 1.0 {
                    return Err(parts.wrong("share", "1 is everything; write less than 1".into()));
                }
                FaultKind::Loss(share, length()?)
            }
            "slow" => {
                let place = parts.place(kind)?;
                FaultKind::Slow(place, parts.number("factor", 1.0, MAX_FACTOR)?, length()?)
            }
            _ => FaultKind::FlashCrowd(parts.peers()?, length()?),
        };
        Ok(Self { at, kind })
    }
}

/// The parts of one fault.
struct Parts<'a>(&'a [Part]);

impl Parts<'_> {
    fn find(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, text)| text.as_str())
    }

    fn text(&self, key: &str) -> Result<&str, FaultError> {
        self.find(key)
            .ok_or_else(|| self.wrong(key, "is missing".into()))
    }

    fn number(&self, key: &str, low: f64, high: f64) -> Result<f64, FaultError> {
        let text = self.text(key)?;
        let number = decimal(text)
            .ok_or_else(|| self.wrong(key, format!("{text:?} is no number, like 0.5")))?;
        within(number, low, high).map_err(|problem| self.wrong(key, problem))?;
        Ok(number)
    }

    fn peers(&self) -> Result<u32, FaultError> {
        let text = self.text("peers")?;
        let number = text
            .parse()
            .map_err(|_| self.wrong("peers", format!("{text:?} is no whole number")))?;
        within(number, 1, MAX_PEERS).map_err(|problem| self.wrong("peers", problem))?;
        Ok(number)
    }

    /// The one key that says whom it befalls.
    fn place(&self, kind: &str) -> Result<Where, FaultError> {
        let mut given = ["share", "ring", "position"]
            .into_iter()
            .filter(|key| self.find(key).is_some());
        let one = format!("{kind} takes exactly one of share, ring and position");
        let Some(key) = given.next() else {
            return Err(self.wrong("", one));
        };
        if let Some(second) = given.next() {
            return Err(self.wrong(second, one));
        }
        let text = self.text(key)?;
        if key == "share" {
            return self.number(key, 0.0, 1.0).map(Where::Share);
        }
        let guid: Guid = text
            .parse()
            .map_err(|error| self.wrong(key, format!("{error}")))?;
        if key == "ring" {
            return Ok(Where::Ring(text.to_owned()));
        }
        if guid.depth() == 0 {
            let problem = "nobody holds [], the center; write a place in a ring, like [4.2]";
            return Err(self.wrong(key, problem.into()));
        }
        Ok(Where::Position(text.to_owned()))
    }

    fn wrong(&self, key: &str, problem: String) -> FaultError {
        FaultError {
            key: key.to_owned(),
            part: self.0.iter().position(|(name, _)| name == key),
            problem,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts();
        let parts = Parts(&parts);
        let text = |key| parts.find(key).unwrap_or_default();
        write!(f, "{}@{}", text("kind"), text("at"))?;
        if let Some(length) = parts.find("length") {
            write!(f, "+{length}")?;
        }
        let rest = parts
            .0
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "at" | "kind" | "length"));
        for (which, (key, text)) in rest.enumerate() {
            let mark = if which == 0 { ':' } else { ',' };
            write!(f, "{mark}{key}={text}")?;
        }
        Ok(())
    }
}

impl FromStr for Fault {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let wrong = || {
            WordError::new(format!(
                "{text:?} is no fault; write KIND@T[+LENGTH]:KEY=VALUE[,KEY=VALUE], like freeze@10+5:share=0.3"
            ))
        };
        let (head, tail) = text.split_once(':').unwrap_or((text, ""));
        let (kind, time) = head.split_once('@').ok_or_else(wrong)?;
        let (at, length) = time
            .split_once('+')
            .map_or((time, None), |(at, length)| (at, Some(length)));
        let mut parts = vec![("at", at), ("kind", kind)];
        parts.extend(length.map(|length| ("length", length)));
        for pair in tail.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
            if parts.iter().any(|(name, _)| *name == key) {
                return Err(WordError::new(format!("{key}: given twice in {text:?}")));
            }
            parts.push((key, value));
        }
        let own = |(key, text): (&str, &str)| (key.to_owned(), text.to_owned());
        let parts: Vec<_> = parts.into_iter().map(own).collect();
        Self::from_parts(&parts).map_err(|error| {
            let colon = if error.key.is_empty() { "" } else { ": " };
            WordError::new(format!("{}{colon}{}", error.key, error.problem))
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places() -> impl Strategy<Value = Where> {
        let guid = prop::collection::vec(any::<u32>(), 1..4)
            .prop_map(|coordinates| Guid::of(&coordinates).to_string());
        prop_oneof![
            (0.0..=1.0f64).prop_map(Where::Share),
            guid.clone().prop_map(Where::Ring),
            guid.prop_map(Where::Position),
            Just(Where::Ring("[]".into())),
        ]
    }

    pub(in crate::scenario) fn faults() -> impl Strategy<Value = Fault> {
        let time = 0.0..1e6f64;
        let kind = prop_oneof![
            places().prop_map(FaultKind::Crash),
            (places(), time.clone()).prop_map(|(whom, time)| FaultKind::Freeze(whom, time)),
            (places(), time.clone()).prop_map(|(whom, time)| FaultKind::Partition(whom, time)),
            (0.0..1.0f64, time.clone()).prop_map(|(share, time)| FaultKind::Loss(share, time)),
            (places(), 1.0..100.0f64, time.clone())
                .prop_map(|(whom, factor, time)| FaultKind::Slow(whom, factor, time)),
            (1..MAX_PEERS, time.clone())
                .prop_map(|(peers, time)| FaultKind::FlashCrowd(peers, time)),
        ];
        (time, kind).prop_map(|(at, kind)| Fault { at, kind })
    }

    proptest! {
        #[test]
        fn a_fault_survives_its_text_and_its_parts(fault in faults()) {
            prop_assert_eq!(fault.to_string().parse(), Ok(fault.clone()));
            prop_assert_eq!(Fault::from_parts(&fault.parts()), Ok(fault));
        }
    }

    #[test]
    fn a_fault_that_makes_no_sense_says_which_key() {
        for (text, said) in [
            ("crash", "KIND@T"),
            ("crush@1:share=0.1", "kind: \"crush\" is no fault"),
            ("crash@1", "exactly one of share, ring and position"),
            (
                "crash@1:share=0.1,ring=[0]",
                "ring: crash takes exactly one",
            ),
            ("crash@1:share=1.5", "share: 1.5 is not between 0 and 1"),
            ("crash@1:share=0.1,share=0.2", "share: given twice"),
            ("crash@1+5:share=0.1", "length: crash takes no length"),
            ("crash@1:ring=4", "square brackets"),
            ("crash@1:position=[]", "nobody holds []"),
            ("crash@x:share=1", "at: \"x\" is no number"),
            ("freeze@1:share=1", "length: is missing"),
            ("loss@1+5:share=1", "share: 1 is everything"),
            ("loss@1+5:ring=[0]", "ring: loss takes no ring"),
            (
                "slow@1+5:share=1,factor=0.5",
                "factor: 0.5 is not between 1",
            ),
            ("slow@1+5:share=1,facter=2", "did you mean factor?"),
            ("flash_crowd@1+5:peers=0", "peers: 0 is not between 1"),
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
