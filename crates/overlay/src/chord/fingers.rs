//! The finger table: for each power of two the first peer at or after that distance. Those of small
//! powers are all the successor, and are not kept.

use ringweave_ids::{Peer, Point};

use crate::Contact;

/// The fingers that differ, by interval.
#[derive(Clone, Debug)]
pub(super) struct Fingers {
    me: Point,
    /// From the nearest to the farthest; each stands for all intervals from its own down to the one
    /// after the finger before.
    list: Vec<(u8, Contact)>,
}

impl Fingers {
    pub(super) const fn new(me: Point) -> Self {
        let list = Vec::new();
        Self { me, list }
    }

    /// Where an interval begins, clockwise from this peer.
    pub(super) const fn start(&self, interval: u8) -> Point {
        self.me.plus(1 << interval)
    }

    /// The interval that a point lies in: 2^i up to 2^(i+1) from here.
    pub(super) fn interval(&self, point: Point) -> Option<u8> {
        let distance = self.me.clockwise(point);
        (distance != 0).then(|| (Point::BITS - 1 - distance.leading_zeros()) as u8)
    }

    /// The finger of an interval is this peer; whether that is news.
    pub(super) fn set(&mut self, interval: u8, contact: Contact) -> bool {
        let at = self.list.partition_point(|(it, _)| *it < interval);
        match self.list.get_mut(at) {
            Some((it, known)) if *it == interval => {
                let is_news = *known != contact;
                *known = contact;
                is_news
            }
            _ => {
                if self.list.len() == self.list.capacity() {
                    self.list.reserve_exact(4);
                }
                self.list.insert(at, (interval, contact));
                true
            }
        }
    }

    /// A peer was heard of: it is taken where no finger is known, or the known one is farther. Whether
    /// it was.
    pub(super) fn learn(&mut self, contact: Contact) -> bool {
        let Some(interval) = self.interval(contact.point) else {
            return false;
        };
        let distance = self.me.clockwise(contact.point);
        let known = self.list.iter().find(|(it, _)| *it == interval);
        let is_nearer = |(_, it): &(u8, Contact)| distance < self.me.clockwise(it.point);
        known.is_none_or(is_nearer) && self.set(interval, contact)
    }

    /// Takes a peer out; whether it was there.
    pub(super) fn remove(&mut self, peer: Peer) -> bool {
        let before = self.list.len();
        self.list.retain(|(_, contact)| contact.peer != peer);
        self.list.len() < before
    }

    /// The first peer at or after `start` is this one: those that were held to lie before it are gone.
    /// Whether there were any.
    pub(super) fn refute(&mut self, start: Point, first: Point) -> bool {
        let (me, before) = (self.me, self.list.len());
        let from = me.clockwise(start);
        let room = start.clockwise(first);
        self.list.retain(|(_, contact)| {
            let distance = me.clockwise(contact.point);
            distance < from || distance - from >= room
        });
        self.list.len() < before
    }

    /// All, nearest first; each once.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Contact> {
        self.list.iter().map(|(_, contact)| *contact)
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

    #[test]
    fn who_is_nearer_to_the_start_is_taken() {
        let mut fingers = Fingers::new(Point::new(0));
        assert!(fingers.learn(contact(15)));
        assert!(fingers.learn(contact(9)) && !fingers.learn(contact(12)));
        assert!(fingers.learn(contact(3)));
        let fingers: Vec<_> = fingers.iter().map(|it| it.peer.0).collect();
        assert_eq!(fingers, [3, 9]);
    }

    #[test]
    fn who_would_lie_before_the_first_is_gone() {
        let mut fingers = Fingers::new(Point::new(0));
        for value in [3, 9, 17] {
            fingers.learn(contact(value));
        }
        assert!(!fingers.refute(Point::new(8), Point::new(9)));
        assert!(fingers.refute(Point::new(8), Point::new(17)));
        let fingers: Vec<_> = fingers.iter().map(|it| it.peer.0).collect();
        assert_eq!(fingers, [3, 17]);
    }

    #[test]
    fn intervals_are_powers_of_two() {
        let fingers = Fingers::new(Point::new(10));
        assert_eq!(fingers.interval(Point::new(10)), None);
        assert_eq!(fingers.interval(Point::new(11)), Some(0));
        assert_eq!(fingers.interval(Point::new(17)), Some(2));
        assert_eq!(fingers.interval(Point::new(9)), Some(127));
    }
}
