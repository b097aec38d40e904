//! A fault as parts, the pairs of key and value that a table `[[fault]]` holds, and as one word:
//!
//! ```text
//! crash@10:share=0.3   freeze@10+5:ring=[4.2]   loss@5+20:share=0.1   slow@5+20:position=[0],factor=8
//! crash@10:ring=[],spare=1   partition@10+30:parts=2,repeat=20,every=60   churn@10+300:law=exponential:600
//! ```

use std::{fmt, str::FromStr};

use ringweave_ids::Guid;

use super::{
    Churn, Fault, FaultKind, Parting, Repeat, Where, Whom, WordError,
    settings::{self, MAX_PEERS, MAX_SECONDS, known, within},
    words::decimal,
};

/// The factor of the slowest link; more is a partition.
const MAX_FACTOR: f64 = 10_000.0;
/// The deepest level that can be named; no tree is that deep.
const MAX_LEVEL: u32 = 64;
/// Most times that a fault comes.
const MAX_TIMES: u32 = 10_000;
/// Most parts of a network.
const MAX_PARTS: u32 = 100;

/// Each kind of fault with the keys that it takes, apart from those of every fault.
const KINDS: &[(&str, &[&str])] = &[
    (
        "crash",
        &["share", "ring", "position", "level", "spare", "only"],
    ),
    (
        "leave",
        &["share", "ring", "position", "level", "spare", "only"],
    ),
    (
        "freeze",
        &[
            "share", "ring", "position", "level", "spare", "only", "length",
        ],
    ),
    (
        "partition",
        &[
            "share", "ring", "position", "level", "spare", "only", "parts", "branches", "length",
        ],
    ),
    ("loss", &["share", "length"]),
    (
        "slow",
        &[
            "share", "ring", "position", "level", "spare", "only", "factor", "length",
        ],
    ),
    ("flash_crowd", &["peers", "length"]),
    ("churn", &["law", "length"]),
    ("dead_pairs", &["share", "length"]),
    ("flap", &["rate", "length"]),
    ("meet", &[]),
];

/// The keys of every fault.
const COMMON: &[&str] = &["at", "kind", "repeat", "every"];

/// Every key of a fault.
const KEYS: &[&str] = &[
    "at", "kind", "share", "ring", "position", "level", "spare", "only", "parts", "branches",
    "length", "factor", "peers", "law", "rate", "repeat", "every",
];

/// Keys whose values are texts in a file.
pub(super) const TEXTS: &[&str] = &["kind", "ring", "position", "level", "law"];

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
        let length = |seconds: &f64| ("length", seconds.to_string());
        let share = |share: &f64| ("share", share.to_string());
        let (kind, rest) = match &self.kind {
            FaultKind::Crash(whom) => ("crash", whom.parts()),
            FaultKind::Leave(whom) => ("leave", whom.parts()),
            FaultKind::Freeze(whom, time) => ("freeze", with(whom.parts(), length(time))),
            FaultKind::Partition(parting, time) => {
                let parts = match parting {
                    Parting::Off(whom) => whom.parts(),
                    Parting::Parts(count) => vec![("parts", count.to_string())],
                    Parting::Branches(count) => vec![("branches", count.to_string())],
                };
                ("partition", with(parts, length(time)))
            }
            FaultKind::Loss(lost, time) => ("loss", vec![share(lost), length(time)]),
            FaultKind::Slow(whom, factor, time) => {
                let parts = with(whom.parts(), ("factor", factor.to_string()));
                ("slow", with(parts, length(time)))
            }
            FaultKind::FlashCrowd(peers, time) => {
                let peers = ("peers", peers.to_string());
                ("flash_crowd", vec![peers, length(time)])
            }
            FaultKind::Churn(law, time) => ("churn", vec![("law", law.to_string()), length(time)]),
            FaultKind::DeadPairs(dead, time) => ("dead_pairs", vec![share(dead), length(time)]),
            FaultKind::Flap(rate, time) => ("flap", vec![("rate", rate.to_string()), length(time)]),
            FaultKind::Meet => ("meet", Vec::new()),
        };
        let again = self.repeat.iter().flat_map(|repeat| {
            let (times, every) = (repeat.times.to_string(), repeat.every.to_string());
            [("repeat", times), ("every", every)]
        });
        let first = [("at", self.at.to_string()), ("kind", kind.to_owned())];
        first
            .into_iter()
            .chain(rest)
            .chain(again)
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
            if !COMMON.contains(&key.as_str()) && !taken.contains(&key.as_str()) {
                return Err(parts.wrong(key, format!("{kind} takes no {key}")));
            }
        }
        let at = parts.number("at", 0.0, MAX_SECONDS)?;
        let repeat = parts.repeat()?;
        let length = || parts.number("length", 0.0, MAX_SECONDS);
        let kind = match *kind {
            "crash" => FaultKind::Crash(parts.whom(kind)?),
            "leave" => FaultKind::Leave(parts.whom(kind)?),
            "freeze" => FaultKind::Freeze(parts.whom(kind)?, length()?),
            "partition" => FaultKind::Partition(parts.parting(kind)?, length()?),
            "loss" => {
                let share = parts.number("share", 0.0, 1.0)?;
                if share >= 1.0 {
                    return Err(parts.wrong("share", "1 is everything; write less than 1".into()));
                }
                FaultKind::Loss(share, length()?)
            }
            "slow" => {
                let whom = parts.whom(kind)?;
                FaultKind::Slow(whom, parts.number("factor", 1.0, MAX_FACTOR)?, length()?)
            }
            "churn" => FaultKind::Churn(parts.law()?, length()?),
            "dead_pairs" => FaultKind::DeadPairs(parts.number("share", 0.0, 1.0)?, length()?),
            "flap" => FaultKind::Flap(parts.number("rate", 0.0, 1.0)?, length()?),
            "meet" => FaultKind::Meet,
            _ => FaultKind::FlashCrowd(parts.whole("peers", 1, MAX_PEERS)?, length()?),
        };
        Ok(Self { at, kind, repeat })
    }
}

impl Whom {
    fn parts(&self) -> Vec<(&'static str, String)> {
        let place = match &self.place {
            Where::Share(share) => ("share", share.to_string()),
            Where::Ring(guid) => ("ring", guid.clone()),
            Where::Position(guid) => ("position", guid.clone()),
            Where::Level(first, last) if first == last => ("level", first.to_string()),
            Where::Level(first, last) => ("level", format!("{first}-{last}")),
        };
        let spare = (self.spare > 0).then(|| ("spare", self.spare.to_string()));
        let only = self.only.map(|count| ("only", count.to_string()));
        [place].into_iter().chain(spare).chain(only).collect()
    }
}

fn with<T>(mut parts: Vec<T>, more: T) -> Vec<T> {
    parts.push(more);
    parts
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

    fn whole(&self, key: &str, low: u32, high: u32) -> Result<u32, FaultError> {
        let text = self.text(key)?;
        let number = text
            .parse()
            .map_err(|_| self.wrong(key, format!("{text:?} is no whole number")))?;
        within(number, low, high).map_err(|problem| self.wrong(key, problem))?;
        Ok(number)
    }

    fn law(&self) -> Result<Churn, FaultError> {
        let laws = "exponential:MEAN_S or weibull:SHAPE:MEDIAN_S";
        let text = self.text("law")?;
        let law = text.parse();
        let law: Churn = law.map_err(|error: WordError| self.wrong("law", error.to_string()))?;
        if matches!(law, Churn::None | Churn::File(_)) {
            return Err(self.wrong("law", format!("{text:?} is no law; write {laws}")));
        }
        settings::churn(&law).map_err(|problem| self.wrong("law", problem))?;
        Ok(law)
    }

    fn repeat(&self) -> Result<Option<Repeat>, FaultError> {
        if self.find("repeat").is_none() && self.find("every").is_none() {
            return Ok(None);
        }
        let times = self.whole("repeat", 2, MAX_TIMES)?;
        let every = self.number("every", 0.001, MAX_SECONDS)?;
        Ok(Some(Repeat { times, every }))
    }

    fn parting(&self, kind: &str) -> Result<Parting, FaultError> {
        let keys = ["share", "ring", "position", "level", "parts", "branches"];
        match self.one_of(kind, &keys)? {
            key @ "parts" => Ok(Parting::Parts(self.whole(key, 2, MAX_PARTS)? as u8)),
            key @ "branches" => Ok(Parting::Branches(self.whole(key, 2, MAX_PARTS)? as u8)),
            _ => self.whom(kind).map(Parting::Off),
        }
    }

    /// The one key of these that is given.
    fn one_of(&self, kind: &str, keys: &[&'static str]) -> Result<&'static str, FaultError> {
        let mut given = keys.iter().filter(|key| self.find(key).is_some());
        let (last, others) = keys.split_last().expect("a fault takes some key");
        let one = format!(
            "{kind} takes exactly one of {} and {last}",
            others.join(", ")
        );
        let Some(key) = given.next() else {
            return Err(self.wrong("", one));
        };
        match given.next() {
            Some(second) => Err(self.wrong(second, one)),
            None => Ok(key),
        }
    }

    fn whom(&self, kind: &str) -> Result<Whom, FaultError> {
        let place = self.place(kind)?;
        let count = |key| {
            let given = self.find(key).is_some();
            given.then(|| self.whole(key, 1, MAX_PEERS)).transpose()
        };
        let spare = count("spare")?.unwrap_or(0);
        if spare > 0 && matches!(place, Where::Share(_)) {
            let problem = "a share spares the others anyway; it goes with ring, position and level";
            return Err(self.wrong("spare", problem.into()));
        }
        let only = count("only")?;
        Ok(Whom { place, spare, only })
    }

    /// The one key that says where they are.
    fn place(&self, kind: &str) -> Result<Where, FaultError> {
        let key = self.one_of(kind, &["share", "ring", "position", "level"])?;
        let text = self.text(key)?;
        if key == "share" {
            return self.number(key, 0.0, 1.0).map(Where::Share);
        }
        if key == "level" {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let level = |text: &str| -> Result<u32, FaultError> {
                let number = text.parse().map_err(|_| {
                    self.wrong(key, format!("{text:?} is no level; write 1, or 1-2"))
                })?;
                within(number, 1, MAX_LEVEL).map_err(|problem| self.wrong(key, problem))?;
                Ok(number)
            };
            let (first, last) = (level(first)?, level(last)?);
            within(last, first, MAX_LEVEL).map_err(|problem| self.wrong(key, problem))?;
            return Ok(Where::Level(first, last));
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
            (1..5u32, 5..9u32).prop_map(|(first, last)| Where::Level(first, last)),
        ]
    }

    fn whom() -> impl Strategy<Value = Whom> {
        let counts = (0..3u32, prop::option::of(1..9u32));
        (places(), counts).prop_map(|(place, (spare, only))| {
            let is_share = matches!(place, Where::Share(_));
            let spare = if is_share { 0 } else { spare };
            Whom { place, spare, only }
        })
    }

    fn partings() -> impl Strategy<Value = Parting> {
        prop_oneof![
            whom().prop_map(Parting::Off),
            (2..9u8).prop_map(Parting::Parts),
            (2..9u8).prop_map(Parting::Branches),
        ]
    }

    pub(in crate::scenario) fn faults() -> impl Strategy<Value = Fault> {
        let time = 0.0..1e6f64;
        let share = 0.0..1.0f64;
        let law = (0.1..10.0f64, 1.0..1e4f64)
            .prop_map(|(shape, median_s)| Churn::Weibull { shape, median_s });
        let kind = prop_oneof![
            whom().prop_map(FaultKind::Crash),
            whom().prop_map(FaultKind::Leave),
            (whom(), time.clone()).prop_map(|(whom, time)| FaultKind::Freeze(whom, time)),
            (partings(), time.clone()).prop_map(|(how, time)| FaultKind::Partition(how, time)),
            (share.clone(), time.clone()).prop_map(|(share, time)| FaultKind::Loss(share, time)),
            (whom(), 1.0..100.0f64, time.clone())
                .prop_map(|(whom, factor, time)| FaultKind::Slow(whom, factor, time)),
            (1..MAX_PEERS, time.clone())
                .prop_map(|(peers, time)| FaultKind::FlashCrowd(peers, time)),
            (law, time.clone()).prop_map(|(law, time)| FaultKind::Churn(law, time)),
            (share.clone(), time.clone())
                .prop_map(|(share, time)| FaultKind::DeadPairs(share, time)),
            (share, time.clone()).prop_map(|(rate, time)| FaultKind::Flap(rate, time)),
            Just(FaultKind::Meet),
        ];
        let repeat = (2..9u32, 1.0..1e3f64).prop_map(|(times, every)| Repeat { times, every });
        let repeat = prop::option::of(repeat);
        (time, kind, repeat).prop_map(|(at, kind, repeat)| Fault { at, kind, repeat })
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
            ("crash@1", "exactly one of share, ring, position and level"),
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
            ("crash@1:level=0", "level: 0 is not between 1"),
            ("crash@1:level=3-2", "level: 2 is not between 3"),
            ("crash@1:level=all", "level: \"all\" is no level"),
            ("crash@1:share=0.1,spare=1", "spare: a share spares"),
            ("crash@1:ring=[],only=0", "only: 0 is not between 1"),
            ("partition@1+5:parts=1", "parts: 1 is not between 2"),
            (
                "partition@1+5:parts=2,share=0.5",
                "parts: partition takes exactly one of",
            ),
            ("churn@1+5:law=none", "law: \"none\" is no law"),
            ("churn@1+5:law=weibull:9", "law: \"weibull:9\" is no churn"),
            ("flap@1+5:rate=2", "rate: 2 is not between 0 and 1"),
            ("meet@1:share=1", "share: meet takes no share"),
            ("crash@1:share=0.1,repeat=3", "every: is missing"),
            ("crash@1:share=0.1,repeat=1,every=2", "repeat: 1 is not"),
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
