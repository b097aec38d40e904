//! All peers in the order of their points: what topologies on a circle are built from and held against.

use ringweave_ids::{Peer, Point};
use ringweave_overlay::Contact;

use super::keys::Keys;

/// Peers by point.
pub(crate) struct Circle(Vec<Contact>);

impl Circle {
    /// The first `peers` identities.
    pub(crate) fn of(keys: &Keys, peers: u32) -> Self {
        let contact = |peer| Contact {
            point: Point::of_peer(&keys.id(peer)),
            peer: Peer(peer),
        };
        Self::from_iter((0..peers).map(contact))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The peer at this place, counted from anywhere.
    pub(crate) fn at(&self, place: usize) -> Contact {
        self.0[place % self.0.len()]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Contact> {
        self.0.iter().copied()
    }

    /// The place of the first peer at or after a point.
    pub(crate) fn place_of(&self, point: Point) -> usize {
        self.0.partition_point(|it| it.point < point) % self.0.len()
    }

    /// The first peer at or after a point.
    pub(crate) fn owner(&self, point: Point) -> Contact {
        self.0[self.place_of(point)]
    }

    /// The `n` peers after a place, nearest first, without those at the place itself.
    pub(crate) fn after(&self, place: usize, n: usize) -> impl Iterator<Item = Contact> {
        (1..self.len().min(n + 1)).map(move |step| self.at(place + step))
    }
}

impl FromIterator<Contact> for Circle {
    fn from_iter<T: IntoIterator<Item = Contact>>(peers: T) -> Self {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_unstable_by_key(|it| it.point);
        Self(peers)
    }
}
