//! The peers next to one on the circle, on one side of it: Chord's successor list, and either half of
//! Pastry's leaf set.

use ringweave_ids::{Peer, Point};

use crate::Contact;

/// Which way a list looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Towards larger points.
    Clockwise,
    /// Towards smaller points.
    Counter,
}

/// The nearest peers on one side, nearest first.
#[derive(Clone, Debug)]
pub(crate) struct Successors {
    me: Point,
    side: Side,
    room: usize,
    list: Vec<Contact>,
}

impl Successors {
    /// An empty list of at most `room` peers.
    pub(crate) const fn new(me: Point, side: Side, room: usize) -> Self {
        let list = Vec::new();
        Self {
            me,
            side,
            room,
            list,
        }
    }

    /// How far a point is on this side.
    pub(crate) const fn distance(&self, point: Point) -> u128 {
        match self.side {
            Side::Clockwise => self.me.clockwise(point),
            Side::Counter => point.clockwise(self.me),
        }
    }

    /// Whether a peer belongs into the list, and is not there.
    pub(crate) fn wants(&self, contact: Contact) -> bool {
        let distance = self.distance(contact.point);
        let last = self.list.last().filter(|_| self.list.len() >= self.room);
        self.room > 0
            && distance != 0
            && last.is_none_or(|last| distance < self.distance(last.point))
            && !self.list.contains(&contact)
    }

    /// Adds a peer where it belongs; whether it was wanted.
    pub(crate) fn insert(&mut self, contact: Contact) -> bool {
        if !self.wants(contact) {
            return false;
        }
        let distance = self.distance(contact.point);
        let before = |it: &Contact| self.distance(it.point) < distance;
        let at = self.list.partition_point(before);
        if self.list.capacity() == 0 {
            self.list.reserve_exact(self.room);
        }
        self.list.truncate(self.room - 1);
        self.list.insert(at.min(self.list.len()), contact);
        true
    }

    /// Takes a peer out; whether it was there.
    pub(crate) fn remove(&mut self, peer: Peer) -> bool {
        let before = self.list.len();
        self.list.retain(|contact| contact.peer != peer);
        self.list.len() < before
    }

    /// Keeps of those beyond `after`, up to and with `upto`, only these; gives those that went.
    pub(crate) fn keep_between(
        &mut self,
        after: Point,
        upto: Point,
        is_kept: impl Fn(Peer) -> bool,
    ) -> Vec<Peer> {
        let (after, upto) = (self.distance(after), self.distance(upto));
        let (me, side) = (self.me, self.side);
        let is_gone = |it: &mut Contact| {
            let distance = Self::new(me, side, 0).distance(it.point);
            distance > after && distance <= upto && !is_kept(it.peer)
        };
        self.list
            .extract_if(.., is_gone)
            .map(|it| it.peer)
            .collect()
    }

    /// All, nearest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = Contact> {
        self.list.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(value: u128) -> Contact {
        Contact {
            point: Point::new(value),
            peer: Peer(value as u32),
        }
    }

    fn listed(list: &Successors) -> Vec<u32> {
        list.iter().map(|contact| contact.peer.0).collect()
    }

    #[test]
    fn who_is_not_told_of_between_two_is_gone() {
        let mut list = Successors::new(Point::new(50), Side::Clockwise, 8);
        for value in [60, 70, 80, 10] {
            list.insert(contact(value));
        }
        let gone = list.keep_between(Point::new(60), Point::new(80), |peer| peer == Peer(80));
        assert_eq!(gone, [Peer(70)]);
        assert_eq!(listed(&list), [60, 80, 10]);
    }

    #[test]
    fn the_nearest_stay_and_in_their_order() {
        for (side, expected) in [
            (Side::Clockwise, [60, 90, 10]),
            (Side::Counter, [40, 20, 10]),
        ] {
            let mut list = Successors::new(Point::new(50), side, 3);
            for value in [20, 90, 10, 60, 40, 50, 60] {
                list.insert(contact(value));
            }
            assert_eq!(listed(&list), expected);
            assert!(list.remove(Peer(10)) && !list.remove(Peer(10)));
        }
    }
}
