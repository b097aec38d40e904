//! A peer of a table and its point, as the topologies hold it that arrange peers by number.

use ringweave_ids::{Peer, Point};

use crate::Host;

/// A peer and where it sits: never what somebody claims, always the hash of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Where it sits.
    pub point: Point,
    /// Who.
    pub peer: Peer,
}

impl Contact {
    /// The contact of a peer that the host's book has.
    pub fn of(host: &dyn Host, peer: Peer) -> Self {
        Self {
            point: Point::of_peer(&host.id(peer)),
            peer,
        }
    }
}
