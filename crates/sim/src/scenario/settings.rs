//! The table of settings: each with its name, how its value is read and written, and its range.
//!
//! Files, flags and grids all set values through this table, so that a key, a flag and an axis of one
//! name take the same texts and give the same answers.

use std::{fmt::Display, path::Path, str::FromStr};

use thiserror::Error;

use super::{Bootstrap, Churn, Fault, FaultKind, Latency, Scenario, WordError, words::decimal};
use crate::RunError;

/// Most peers of a world: four times what the laboratory is built for.
pub(super) const MAX_PEERS: u32 = 4_000_000;

/// Most peers that sign with real keys: joins verify signatures by the dozen.
const MAX_REAL_KEYS: u32 = 10_000;

/// Longest time in a world, in seconds: 115 days.
pub(super) const MAX_SECONDS: f64 = 10_000_000.0;

/// Most messages of a run: each is measured by itself.
const MAX_LOOKUPS: u64 = 1_000_000_000;
/// Most records of a run: what was last put is remembered of each.
const MAX_RECORDS: u32 = 10_000_000;

/// Longest one-way delay, in milliseconds.
const MAX_DELAY_MS: f64 = 60_000.0;

/// The word for an optional setting that is not set.
const NONE: &str = "none";

/// How a setting's value is written where texts and numbers differ, as in TOML and JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A number.
    Number,
    /// A text.
    Text,
    /// `true` or `false`.
    Flag,
}

/// A setting: a field of [`Scenario`] that has one value.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The field's name; with dashes, the flag's.
    pub name: &'static str,
    /// How its value is written.
    pub form: Form,
    get: fn(&Scenario) -> Option<String>,
    set: fn(&mut Scenario, &str, &Path) -> Result<(), WordError>,
    check: fn(&Scenario) -> Result<(), String>,
}

/// Why a setting cannot have a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{problem}")]
pub struct SetError {
    problem: String,
}

impl Setting {
    /// Its value in this scenario as text; nothing where it is not set.
    pub fn get(&self, scenario: &Scenario) -> Option<String> {
        (self.get)(scenario)
    }

    /// Sets and checks it. An optional setting takes `none`; a relative path starts in `folder`.
    ///
    /// # Errors
    /// If the text is no value of this setting, is out of its range, or names no file.
    pub fn set(&self, scenario: &mut Scenario, text: &str, folder: &Path) -> Result<(), SetError> {
        (self.set)(scenario, text, folder)
            .map_err(|error| error.to_string())
            .and_then(|()| (self.check)(scenario))
            .map_err(|problem| SetError { problem })
    }
}

/// The setting of this name, with underscores.
///
/// # Errors
/// If there is none; says which is meant, if one is near.
pub fn setting(name: &str) -> Result<&'static Setting, SetError> {
    let names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    known(name, &names).map_err(|problem| SetError { problem })?;
    let found = SETTINGS.iter().find(|setting| setting.name == name);
    Ok(found.expect("a known name is in the table"))
}

impl Scenario {
    /// Whether each setting is in its range and all fit together.
    ///
    /// # Errors
    /// The first that is not or does not.
    pub fn check(&self) -> Result<(), RunError> {
        let wrong = |field, problem| RunError::Setting { field, problem };
        for setting in SETTINGS {
            (setting.check)(self).map_err(|problem| wrong(setting.name, problem))?;
        }
        for fault in &self.faults {
            Fault::from_parts(&fault.parts()).map_err(|error| {
                let colon = if error.key.is_empty() { "" } else { ": " };
                wrong("fault", format!("{}{colon}{}", error.key, error.problem))
            })?;
            let times = fault.repeat.map_or(1, |repeat| repeat.times);
            let crowd = match fault.kind {
                FaultKind::FlashCrowd(peers, _) => peers.saturating_mul(times),
                _ => 0,
            };
            if self.peers.saturating_add(crowd) > MAX_PEERS {
                let problem = format!("with this crowd there are more than {MAX_PEERS} peers");
                return Err(wrong("fault", problem));
            }
            let last = fault.moments().last().unwrap_or(fault.at);
            in_time(last, self.duration).map_err(|problem| wrong("fault", problem))?;
        }
        let meets = |fault: &Fault| fault.kind == FaultKind::Meet;
        match (self.networks > 1, self.faults.iter().any(meets)) {
            (true, false) => {
                let problem = "they never meet; add the fault meet@T";
                return Err(wrong("networks", problem.into()));
            }
            (false, true) => {
                let problem = "meet: there is one network only; set networks to 2";
                return Err(wrong("fault", problem.into()));
            }
            _ => {}
        }
        if self.networks > 1 && self.bootstrap == Bootstrap::Built {
            let problem = "a built network is one; networks apart have to be grown";
            return Err(wrong("networks", problem.into()));
        }
        if u32::from(self.networks) > self.peers {
            let problem = format!("{} are more than there are peers", self.networks);
            return Err(wrong("networks", problem));
        }
        if let Some(crash) = self.crash {
            in_time(crash.at, self.duration).map_err(|problem| wrong("crash", problem))?;
        }
        if let Some(split) = self.partition {
            in_time(split.at, self.duration).map_err(|problem| wrong("partition", problem))?;
        }
        if self.real_keys && self.peers > MAX_REAL_KEYS {
            let problem = format!(
                "{} peers are too many to sign with real keys; at most {MAX_REAL_KEYS} can",
                self.peers
            );
            return Err(wrong("real_keys", problem));
        }
        Ok(())
    }
}

/// A setting of the field of this name: how its value is written, read and checked.
macro_rules! setting {
    ($name:ident, $form:ident, $read:expr, $check:expr) => {
        Setting {
            name: stringify!($name),
            form: Form::$form,
            get: |from| Some(from.$name.to_string()),
            set: |into, text, _| $read(text).map(|value| into.$name = value),
            check: $check,
        }
    };
}

/// The same of a field that may be unset.
macro_rules! optional {
    ($name:ident, $form:ident, $read:expr, $check:expr) => {
        Setting {
            name: stringify!($name),
            form: Form::$form,
            get: |from| from.$name.map(|value| value.to_string()),
            set: |into, text, _| option(text, $read).map(|value| into.$name = value),
            check: $check,
        }
    };
}

/// Every setting, in the order of the fields.
pub const SETTINGS: &[Setting] = &[
    setting!(topology, Text, parse, anything),
    setting!(peers, Number, whole, |of| within(of.peers, 1, MAX_PEERS)),
    setting!(seed, Number, whole, anything),
    optional!(threads, Number, whole, |of| optional(of.threads, 1, 256)),
    setting!(bootstrap, Text, parse, anything),
    setting!(networks, Number, whole, |of| within(of.networks, 1, 16)),
    setting!(duration, Number, number, |of| within(
        of.duration,
        0.0,
        MAX_SECONDS
    )),
    Setting {
        name: "latency",
        form: Form::Text,
        get: |from| Some(from.latency.to_string()),
        set: |into, text, folder| Latency::read(text, folder).map(|value| into.latency = value),
        check: |of| latency(&of.latency),
    },
    setting!(jitter, Number, number, |of| within(of.jitter, 0.0, 1.0)),
    setting!(loss, Number, number, |of| loss(of.loss)),
    optional!(upload, Number, whole, |of| optional(of.upload, 1, u64::MAX)),
    optional!(download, Number, whole, |of| optional(
        of.download,
        1,
        u64::MAX
    )),
    Setting {
        name: "churn",
        form: Form::Text,
        get: |from| Some(from.churn.to_string()),
        set: |into, text, folder| Churn::read(text, folder).map(|value| into.churn = value),
        check: |of| churn(&of.churn),
    },
    setting!(lookups, Number, whole, |of| within(
        of.lookups,
        0,
        MAX_LOOKUPS
    )),
    setting!(pairs, Text, parse, anything),
    setting!(broadcasts, Number, whole, anything),
    setting!(multicasts, Number, whole, anything),
    setting!(keys, Number, whole, anything),
    setting!(records, Number, whole, |of| within(
        of.records,
        0,
        MAX_RECORDS
    )),
    setting!(reads, Number, whole, |of| within(of.reads, 0, MAX_LOOKUPS)),
    setting!(payload, Number, whole, |of| within(of.payload, 16, 65_536)),
    optional!(crash, Text, parse, |of| {
        of.crash
            .map_or(Ok(()), |crash| befalls(crash.share, crash.at, 0.0))
    }),
    optional!(partition, Text, parse, |of| {
        of.partition
            .map_or(Ok(()), |split| befalls(split.share, split.at, split.length))
    }),
    setting!(policy, Text, parse, anything),
    setting!(order, Text, parse, anything),
    optional!(ring_size, Number, whole, |of| optional(
        of.ring_size,
        2,
        1_024
    )),
    optional!(cluster, Number, whole, |of| optional(of.cluster, 1, 16)),
    optional!(successors, Number, whole, |of| optional(
        of.successors,
        1,
        64
    )),
    optional!(active, Number, whole, |of| optional(of.active, 2, 255)),
    setting!(fingers, Text, parse, anything),
    setting!(no_shortcuts, Flag, flag, anything),
    optional!(bucket, Number, whole, |of| optional(of.bucket, 1, 64)),
    optional!(links, Number, whole, |of| optional(of.links, 1, 16)),
    optional!(digit_bits, Number, whole, |of| digit_bits(of.digit_bits)),
    optional!(leaves, Number, whole, leaves),
    optional!(slot, Number, whole, |of| optional(of.slot, 1, 8)),
    setting!(no_surrogates, Flag, flag, anything),
    optional!(without, Text, parse, anything),
    setting!(anchors, Number, whole, |of| within(of.anchors, 0, 16)),
    setting!(private, Number, number, |of| within(of.private, 0.0, 1.0)),
    setting!(one_way, Number, number, |of| within(of.one_way, 0.0, 1.0)),
    setting!(real_keys, Flag, flag, anything),
    optional!(canary, Text, parse, anything),
];

/// Whether a name is one of these.
///
/// # Errors
/// If not; says which is meant, if one is near.
pub(super) fn known(name: &str, names: &[&str]) -> Result<(), String> {
    if names.contains(&name) {
        return Ok(());
    }
    let distance = |known: &&&str| strsim::damerau_levenshtein(name, known);
    let near = names.iter().min_by_key(distance);
    // A third of the letters wrong is a typing error; more is another word.
    let meant = near.filter(|known| distance(known) * 3 <= known.len().max(3));
    Err(match meant {
        Some(known) => format!("unknown key; did you mean {known}?"),
        None => format!("unknown key; there are {}", names.join(", ")),
    })
}

/// Whether a value is in its range.
///
/// # Errors
/// If not; says the range.
pub(super) fn within<T: PartialOrd + Display>(value: T, low: T, high: T) -> Result<(), String> {
    if value >= low && value <= high {
        Ok(())
    } else {
        Err(format!("{value} is not between {low} and {high}"))
    }
}

fn anything(_: &Scenario) -> Result<(), String> {
    Ok(())
}

fn optional<T: PartialOrd + Display>(value: Option<T>, low: T, high: T) -> Result<(), String> {
    value.map_or(Ok(()), |value| within(value, low, high))
}

fn digit_bits(bits: Option<u16>) -> Result<(), String> {
    match bits {
        None | Some(1 | 2 | 4) => Ok(()),
        Some(bits) => Err(format!("{bits} is none of 1, 2 and 4")),
    }
}

fn leaves(of: &Scenario) -> Result<(), String> {
    match (of.leaves, of.bootstrap) {
        (Some(0), Bootstrap::Built) => Ok(()),
        (Some(0), Bootstrap::Grown) => {
            Err("nobody finds its place without leaves; set bootstrap to built".into())
        }
        (leaves, _) => optional(leaves, 4, 64),
    }
}

fn loss(share: f64) -> Result<(), String> {
    within(share, 0.0, 1.0)?;
    if share < 1.0 {
        Ok(())
    } else {
        Err("1 is everything; write less than 1".into())
    }
}

fn befalls(share: f64, at: f64, length: f64) -> Result<(), String> {
    within(share, 0.0, 1.0)?;
    within(at, 0.0, MAX_SECONDS)?;
    within(length, 0.0, MAX_SECONDS)
}

fn in_time(at: f64, duration: f64) -> Result<(), String> {
    if at <= duration {
        Ok(())
    } else {
        Err(format!(
            "{at} s is after the end, at {duration} s; it would never happen"
        ))
    }
}

fn latency(latency: &Latency) -> Result<(), String> {
    match latency {
        Latency::Constant(ms) => within(*ms, 0.0, MAX_DELAY_MS),
        Latency::Uniform(low, high) => {
            within(*low, 0.0, MAX_DELAY_MS)?;
            within(*high, *low, MAX_DELAY_MS)
        }
        Latency::Geo => Ok(()),
        Latency::File(path) => file(path, "constant:MS, uniform:LO-HI or geo"),
    }
}

pub(super) fn churn(churn: &Churn) -> Result<(), String> {
    let time = |seconds: f64| within(seconds, 0.001, MAX_SECONDS);
    match churn {
        Churn::None => Ok(()),
        Churn::Exponential { mean_s } => time(*mean_s),
        Churn::Weibull { shape, median_s } => {
            within(*shape, 0.1, 10.0)?;
            time(*median_s)
        }
        Churn::File(path) => file(path, "none, exponential:MEAN_S or weibull:SHAPE:MEDIAN_S"),
    }
}

fn file(path: &Path, forms: &str) -> Result<(), String> {
    if path.is_file() {
        Ok(())
    } else {
        Err(format!(
            "{} is no file, and none of {forms}",
            path.display()
        ))
    }
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, WordError> {
    text.parse()
        .map_err(|error: T::Err| WordError::new(error.to_string()))
}

fn whole<T: FromStr>(text: &str) -> Result<T, WordError> {
    let is_whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_whole {
        return Err(WordError::new(format!("{text:?} is no whole number")));
    }
    text.parse()
        .map_err(|_| WordError::new(format!("{text} is too large")))
}

fn number(text: &str) -> Result<f64, WordError> {
    decimal(text).ok_or_else(|| WordError::new(format!("{text:?} is no number")))
}

fn flag(text: &str) -> Result<bool, WordError> {
    text.parse()
        .map_err(|_| WordError::new(format!("{text:?} is neither true nor false")))
}

fn option<T>(text: &str, read: fn(&str) -> Result<T, WordError>) -> Result<Option<T>, WordError> {
    if text == NONE {
        Ok(None)
    } else {
        read(text).map(Some)
    }
}
