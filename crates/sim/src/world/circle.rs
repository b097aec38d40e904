//! All peers in the order of their points: what topologies on a circle are built from and held against.

use ringweave_ids::{Peer, Point};
use ringweave_overlay::Contact;

use super::keys::Keys;

/// Peers by point.
pub(crate) struct Circle(Vec<Contact>);

impl Circle {
    /// These peers.
    pub(crate) fn of(keys: &Keys, peers: impl Iterator<Item = u32>) -> Self {
        let contact = |peer| Contact {
            point: Point::of_peer(&keys.id(peer)),
            peer: Peer(peer),
        };
        Self::from_iter(peers.map(contact))
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

    /// The `n` peers closest to a point by the exclusive or, closest first.
    pub(crate) fn closest(&self, point: Point, n: usize) -> Vec<Contact> {
        // Who shares more bits is closer, so all of them are in the smallest subtree with so many.
        let (mut near, mut bits) = (&self.0[..], 0);
        while near.len() > n && bits < Point::BITS {
            let digit = |it: &Contact| it.point.digit(bits, 1);
            let (zeros, ones) = near.split_at(near.partition_point(|it| digit(it) == 0));
            let half = [zeros, ones][usize::from(point.digit(bits, 1))];
            if half.len() < n {
                break;
            }
            (near, bits) = (half, bits + 1);
        }
        let mut near = near.to_vec();
        near.sort_unstable_by_key(|it| it.point.xor(point));
        near.truncate(n);
        near
    }
}

impl FromIterator<Contact> for Circle {
    fn from_iter<T: IntoIterator<Item = Contact>>(peers: T) -> Self {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_unstable_by_key(|it| it.point);
        Self(peers)
    }
}
