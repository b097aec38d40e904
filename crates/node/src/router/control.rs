//! What routers say to each other on [`Port::ROUTER`].

use ringweave_ids::PeerId;
use serde::{Deserialize, Serialize};

use crate::{Failure, Port};

/// A word between two routers. Variants are only ever added, at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Control<A> {
    /// What a receiver has of a flow.
    Acked(Acked),
    /// A receiver is not in the life that the flow was begun with, or forgot the flow.
    Reset {
        /// The life of the origin that it answers.
        incarnation: u64,
        /// The number that met it.
        sequence: u64,
    },
    /// A message ended before its receiver.
    Failed {
        /// For which service it was.
        port: Port,
        /// Its number.
        sequence: u64,
        /// Whom it was for, where it was for a peer.
        whom: Option<PeerId>,
        /// Why.
        failure: Failure,
        /// Where it ended, if that peer has a place.
        at: Option<A>,
    },
    /// A hop of a trace; the envelope says whose.
    Hop {
        /// Which trace.
        number: u64,
        /// Which hop, from 1.
        hop: u8,
        /// Whether it is the last one.
        is_last: bool,
        /// Where this hop sits.
        at: A,
    },
    /// How many peers a copy of a broadcast reached.
    Reached {
        /// Whose broadcast.
        origin: PeerId,
        /// In which life of it.
        incarnation: u64,
        /// Which one.
        number: u64,
        /// Peers that hold it, at and below the one that answers.
        count: u64,
    },
}

/// A cumulative acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acked {
    /// The life of the origin that is acknowledged.
    pub incarnation: u64,
    /// All numbers below are settled.
    pub expected: u64,
    /// Bit i: number `expected + 1 + i` is held beyond the gap.
    pub held: u64,
    /// Runs (start, length) of numbers below `expected` that were refused, in order; none older
    /// than a window.
    pub refused: Vec<(u64, u64)>,
    /// Messages that the inbox still takes.
    pub room: u32,
    /// Payload bytes that the inbox still takes.
    pub room_bytes: u32,
    /// Hops that the latest message made.
    pub hops: u8,
}

impl Acked {
    /// Whether the receiver refused this number.
    pub(crate) fn is_refused(&self, number: u64) -> bool {
        let after = self.refused.partition_point(|(start, _)| *start <= number);
        let run = after.checked_sub(1).and_then(|last| self.refused.get(last));
        run.is_some_and(|(start, length)| number - start < *length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_name_their_numbers_and_no_others() {
        let acked = Acked {
            incarnation: 1,
            expected: 20,
            held: 0,
            refused: vec![(3, 2), (9, 1)],
            room: 0,
            room_bytes: 0,
            hops: 1,
        };
        let refused = (0..20)
            .filter(|&number| acked.is_refused(number))
            .collect::<Vec<_>>();
        assert_eq!(refused, [3, 4, 9]);
    }
}
