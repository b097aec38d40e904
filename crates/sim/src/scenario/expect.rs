//! What a run is expected to come to: a bound on a figure of its report.
//!
//! ```text
//! heal_s=30   delivered=0.9995   removed=0
//! ```

use std::{fmt, str::FromStr};

use super::{
    WordError,
    settings::{known, within},
    words::decimal,
};
use crate::{Broadcast, Healing, Report};

/// A bound on a figure of the report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    measure: &'static Measure,
    bound: f64,
}

/// A figure of a report that may be bounded.
#[derive(Clone, Copy, Debug)]
struct Measure {
    name: &'static str,
    side: Side,
    /// The largest bound that makes sense.
    limit: f64,
    get: fn(&Report) -> Option<f64>,
}

/// On which side of the bound the figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    AtLeast,
    AtMost,
}

impl PartialEq for Measure {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Bounds of times and counts: more than any run measures.
const MANY: f64 = 1e15;

const MEASURES: &[Measure] = &[
    at_most("heal_s", MANY, |report| report.heal_s),
    at_most("routes_s", MANY, |report| healing(report)?.routes_s),
    at_least("delivered", 1.0, |report| {
        share(report.delivered?, report.sent?)
    }),
    at_least("reached", 1.0, |report| {
        let Broadcast {
            reached, expected, ..
        } = report.broadcast?;
        share(reached, expected)
    }),
    at_most("redundant", 1.0, |report| {
        let Broadcast {
            duplicates,
            transmissions,
            ..
        } = report.broadcast?;
        share(duplicates, transmissions)
    }),
    at_most("misdelivered", MANY, |report| {
        report.misdelivered.map(|count| count as f64)
    }),
    at_most("renumbered", 1.0, |report| healing(report)?.renumbered),
    at_most("promoted", 1.0, |report| healing(report)?.promoted),
    at_most("promotions", MANY, |report| healing(report)?.promotions),
    at_most("moved", 1.0, |report| healing(report)?.moved),
    at_most("removed", MANY, |report| {
        healing(report)?.removed.map(|count| count as f64)
    }),
    at_most("handles", MANY, |report| {
        healing(report)?.handles_max.map(|count| count as f64)
    }),
    at_least("cluster", 16.0, |report| healing(report)?.cluster_mean),
    at_most("upkeep_messages", MANY, |report| {
        Some(report.upkeep?.messages_per_s)
    }),
    at_most("upkeep_bytes", MANY, |report| {
        Some(report.upkeep?.bytes_per_s)
    }),
    at_most("violated", MANY, |report| {
        Some(report.invariants.violated as f64)
    }),
];

const fn at_most(name: &'static str, limit: f64, get: fn(&Report) -> Option<f64>) -> Measure {
    let side = Side::AtMost;
    Measure {
        name,
        side,
        limit,
        get,
    }
}

const fn at_least(name: &'static str, limit: f64, get: fn(&Report) -> Option<f64>) -> Measure {
    let side = Side::AtLeast;
    Measure {
        name,
        side,
        limit,
        get,
    }
}

fn healing(report: &Report) -> Option<&Healing> {
    report.healing.as_ref()
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Expectation {
    /// The figure of this name, bounded by what the text says.
    ///
    /// # Errors
    /// If there is no such figure, or the bound is out of its range.
    pub(super) fn new(name: &str, text: &str) -> Result<Self, WordError> {
        let names: Vec<_> = MEASURES.iter().map(|measure| measure.name).collect();
        known(name, &names).map_err(WordError::new)?;
        let measure = MEASURES.iter().find(|measure| measure.name == name);
        let measure = measure.expect("a known name is in the table");
        let bound = decimal(text)
            .ok_or_else(|| WordError::new(format!("{text:?} is no number, like 0.5")))?;
        within(bound, 0.0, measure.limit).map_err(WordError::new)?;
        Ok(Self { measure, bound })
    }

    /// The name of the figure.
    pub fn name(&self) -> &'static str {
        self.measure.name
    }

    /// The bound.
    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// How the report misses it, in words; nothing if it does not. What was not measured, because
    /// it never came about, is missed.
    pub fn missed(&self, report: &Report) -> Option<String> {
        let Self { measure, bound } = self;
        let side = match measure.side {
            Side::AtLeast => "at least",
            Side::AtMost => "at most",
        };
        let name = measure.name;
        let Some(figure) = (measure.get)(report) else {
            return Some(format!("{name} has no value; {side} {bound} was expected"));
        };
        let is_met = match measure.side {
            Side::AtLeast => figure >= *bound,
            Side::AtMost => figure <= *bound,
        };
        (!is_met).then(|| format!("{name} is {figure}; {side} {bound} was expected"))
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name(), self.bound)
    }
}

impl FromStr for Expectation {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let (name, bound) = text.split_once('=').ok_or_else(|| {
            WordError::new(format!(
                "{text:?} is no expectation; write FIGURE=BOUND, like heal_s=30"
            ))
        })?;
        Self::new(name, bound).map_err(|error| WordError::new(format!("{name}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expectation_survives_its_text() {
        for measure in MEASURES {
            let text = format!("{}=0.25", measure.name);
            let read: Expectation = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn an_expectation_that_makes_no_sense_says_why() {
        for (text, said) in [
            ("heal_s", "write FIGURE=BOUND"),
            ("heals=3", "heals: unknown key; did you mean heal_s?"),
            ("delivered=1.5", "delivered: 1.5 is not between 0 and 1"),
            ("removed=none", "removed: \"none\" is no number"),
        ] {
            let error = text.parse::<Expectation>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
