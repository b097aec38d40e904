//! What all peers of a polyring agree on.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The shape of a polyring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Positions in a ring before newcomers are sent outward, 2 to 1,024. A soft bound: grants that
    /// cross each other may overshoot it.
    pub ring_size: u16,
    /// Where a newcomer goes.
    pub policy: Policy,
    /// Whom a broadcast is passed to first.
    pub order: Order,
    /// Members that a position with children should have, 1 to 16.
    pub cluster: u8,
    /// For laboratories: a rule of healing that is switched off. It never travels.
    #[serde(skip)]
    pub without: Option<Rule>,
}

/// A rule of healing, for the laboratory that switches it off and must see the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `takeover`: the ring below a position that lost all its members takes it over.
    Takeover,
    /// `merge`: two center rings that meet become one.
    Merge,
    /// `suspicion`: a silent peer is asked about before it is taken for dead.
    Suspicion,
    /// `patience`: a thin cluster waits for newcomers before it promotes a child.
    Patience,
    /// `memory`: peers that were lost at once are remembered and looked for.
    Memory,
    /// `repair`: rosters that differ are compared.
    Repair,
}

impl Default for Config {
    /// Our choice: 32 keeps an inner peer at some 63 links and a million peers within four levels.
    /// From the paper: inward before sideways.
    fn default() -> Self {
        Self {
            ring_size: 32,
            policy: Policy::Balanced,
            order: Order::Inward,
            cluster: 3,
            without: None,
        }
    }
}

/// The shaping policy: where a newcomer goes (POLYRING.md 2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// Rings fill from the inside out, evenly.
    #[default]
    Balanced,
    /// Peers of one label share a branch: `/eu/dk/copenhagen` sits below `/eu/dk`, below `/eu`.
    Labelled,
    /// Below a full ring, the branch whose head answers soonest.
    Nearest,
}

/// Whom a broadcast is passed to first; the children are always last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The parent, then the siblings: from the paper ("Broadcast"), as the way inward is the longer.
    #[default]
    Inward,
    /// The siblings, then the parent.
    Sideways,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Balanced => "balanced",
            Self::Labelled => "labelled",
            Self::Nearest => "nearest",
        })
    }
}

/// A text that names no policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no shaping policy; there are balanced, labelled and nearest")]
pub struct PolicyError(String);

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "balanced" => Ok(Self::Balanced),
            "labelled" => Ok(Self::Labelled),
            "nearest" => Ok(Self::Nearest),
            other => Err(PolicyError(other.into())),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Takeover => "takeover",
            Self::Merge => "merge",
            Self::Suspicion => "suspicion",
            Self::Patience => "patience",
            Self::Memory => "memory",
            Self::Repair => "repair",
        })
    }
}

/// A text that names no rule of healing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no rule of healing; choose one of takeover, merge, suspicion, patience, memory, repair"
)]
pub struct RuleError(String);

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        match text {
            "takeover" => Ok(Self::Takeover),
            "merge" => Ok(Self::Merge),
            "suspicion" => Ok(Self::Suspicion),
            "patience" => Ok(Self::Patience),
            "memory" => Ok(Self::Memory),
            "repair" => Ok(Self::Repair),
            other => Err(RuleError(other.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_reads_back() {
        for word in [
            "takeover",
            "merge",
            "suspicion",
            "patience",
            "memory",
            "repair",
        ] {
            assert_eq!(word.parse::<Rule>().unwrap().to_string(), word);
            assert!(RuleError(String::new()).to_string().contains(word));
        }
        let error = "hope".parse::<Rule>().unwrap_err().to_string();
        assert!(error.starts_with("\"hope\" is no rule"), "{error}");
    }
}
