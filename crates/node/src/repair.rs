//! What two neighbours say to each other of broadcasts that one of them may have missed.
//!
//! Nothing of this is said while nothing changes. Payloads travel only when they are asked for, as
//! in the lazy push of Plumtree (Leitao, Pereira and Rodrigues, "Epidemic Broadcast Trees", SRDS
//! 2007, <https://doi.org/10.1109/SRDS.2007.27>).

use ringweave_ids::PeerId;
use serde::{Deserialize, Serialize};

/// The most broadcasts that one word names.
pub const MAX_NAMED: usize = 256;

/// A word about recent broadcasts. Variants are only ever added, at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Repair<S> {
    /// The sender has these; who lacks one asks for it.
    Offer {
        /// What whoever lacked one covers from there on, by offering it in turn.
        span: S,
        /// Which, at most [`MAX_NAMED`] together.
        known: Vec<Known>,
    },
    /// The sender lacks these, at most [`MAX_NAMED`] together. The answers are copies of their own.
    Ask(Vec<Lacking>),
}

/// Broadcasts of one life of an origin that a peer has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Whose.
    pub origin: PeerId,
    /// In which life of it.
    pub incarnation: u64,
    /// Which, and since how many milliseconds each is known to have been on its way.
    pub numbers: Vec<(u64, u32)>,
}

/// Broadcasts of one life of an origin that a peer lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Whose.
    pub origin: PeerId,
    /// In which life of it.
    pub incarnation: u64,
    /// Which.
    pub numbers: Vec<u64>,
}

impl<S> Repair<S> {
    /// How many broadcasts it names.
    pub fn named(&self) -> usize {
        match self {
            Self::Offer { known, .. } => known.iter().map(|of| of.numbers.len()).sum(),
            Self::Ask(lacking) => lacking.iter().map(|of| of.numbers.len()).sum(),
        }
    }
}
