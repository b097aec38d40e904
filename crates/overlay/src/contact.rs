//! A peer of a table and its point, as the topologies hold it that arrange peers by number.

use ringweave_ids::{Guid, Key, Peer, Point};

use crate::{Host, Target};

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

impl Target<Guid> {
    /// The point that it is at, where peers are arranged by number; none for everyone.
    pub(crate) fn point(&self) -> Option<Point> {
        match self {
            Self::Peer { id, address } => {
                Some(address.point().unwrap_or_else(|| Point::of_peer(id)))
            }
            Self::Holder(address) | Self::Prefix(address) => address.point(),
            Self::Key { key, choice: 0, .. } => Some(Point::of_key(key)),
            Self::Key { key, choice, .. } => {
                let mut bytes = key.0.to_vec();
                bytes.push(*choice);
                Some(Point::of_key(&Key::of("choice", &bytes)))
            }
            Self::All => None,
        }
    }
}
