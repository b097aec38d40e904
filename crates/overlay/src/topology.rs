//! The names of the topologies.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How the peers of a network arrange themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// Rings around the peers of rings.
    Polyring,
    /// A circle with fingers.
    Chord,
    /// A binary tree with buckets.
    Kademlia,
    /// A prefix table and the leaves around.
    Pastry,
    /// A prefix mesh with backups.
    Tapestry,
    /// Partial views, and broadcasts along a tree in them.
    Unstructured,
    /// A hub and its spokes.
    Star,
    /// Leaves on a circle of superpeers.
    Superpeer,
}

/// A word that is no topology.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{given:?} is no topology: choose one of {choices}", choices = choices())]
pub struct TopologyError {
    given: String,
}

impl Topology {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Polyring,
        Self::Chord,
        Self::Kademlia,
        Self::Pastry,
        Self::Tapestry,
        Self::Unstructured,
        Self::Star,
        Self::Superpeer,
    ];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Polyring => "polyring",
            Self::Chord => "chord",
            Self::Kademlia => "kademlia",
            Self::Pastry => "pastry",
            Self::Tapestry => "tapestry",
            Self::Unstructured => "unstructured",
            Self::Star => "star",
            Self::Superpeer => "superpeer",
        }
    }
}

fn choices() -> String {
    let names: Vec<_> = Topology::ALL.iter().map(|it| it.name()).collect();
    names.join(", ")
}

impl FromStr for Topology {
    type Err = TopologyError;

    fn from_str(text: &str) -> Result<Self, TopologyError> {
        let known = Self::ALL.iter().find(|it| it.name() == text);
        known
            .copied()
            .ok_or_else(|| TopologyError { given: text.into() })
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for topology in Topology::ALL {
            assert_eq!(topology.to_string().parse(), Ok(*topology));
        }
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_choices() {
        let error = "pyramid".parse::<Topology>().unwrap_err().to_string();
        assert!(
            error.contains("choose one of polyring, chord, kademlia"),
            "{error}"
        );
    }
}
