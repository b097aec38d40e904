//! The leaf set: half of it the nearest peers clockwise, half those the other way.

use ringweave_ids::{Peer, Point};

use crate::{
    Contact,
    successors::{Side, Successors},
};

/// Both halves.
#[derive(Clone, Debug)]
pub(super) struct Leaves {
    me: Point,
    clockwise: Successors,
    counter: Successors,
}

impl Leaves {
    /// An empty set with room for `room` peers on either side.
    pub(super) const fn new(me: Point, room: usize) -> Self {
        Self {
            me,
            clockwise: Successors::new(me, Side::Clockwise, room),
            counter: Successors::new(me, Side::Counter, room),
        }
    }

    /// Adds a peer wherever it belongs; whether it belonged anywhere.
    pub(super) fn insert(&mut self, contact: Contact) -> bool {
        let [one, other] = self.sides_mut().map(|side| side.insert(contact));
        one || other
    }

    /// Takes a peer out; whether it was there.
    pub(super) fn remove(&mut self, peer: Peer) -> bool {
        let [one, other] = self.sides_mut().map(|side| side.remove(peer));
        one || other
    }

    pub(super) fn contains(&self, peer: Peer) -> bool {
        self.iter().any(|it| it.peer == peer)
    }

    /// All, those of one side first; where peers are few, many stand on both sides.
    pub(super) fn iter(&self) -> impl Iterator<Item = Contact> {
        self.clockwise.iter().chain(self.counter.iter())
    }

    /// The peers clockwise and those the other way, each nearest first.
    pub(super) const fn sides(&self) -> [&Successors; 2] {
        [&self.clockwise, &self.counter]
    }

    const fn sides_mut(&mut self) -> [&mut Successors; 2] {
        [&mut self.clockwise, &mut self.counter]
    }

    /// Whether a side has nobody.
    pub(super) fn is_bare(&self) -> bool {
        self.sides().iter().any(|side| side.iter().next().is_none())
    }

    /// Whether the point lies in the arc from the farthest leaf on one side to the farthest on the
    /// other; all of the circle does where the two meet. Only those count that `is_up`.
    pub(super) fn cover(&self, point: Point, is_up: impl Fn(Peer) -> bool) -> bool {
        let far = |side: &Successors| {
            let last = side.iter().rev().find(|it| is_up(it.peer));
            last.map_or(0, |it| side.distance(it.point))
        };
        let (after, before) = (far(&self.clockwise), far(&self.counter));
        let do_meet = after.checked_add(before).is_none();
        do_meet || self.clockwise.distance(point) <= after || self.counter.distance(point) <= before
    }

    /// Whether a point lies clockwise, by the shorter way.
    pub(super) const fn is_clockwise(&self, point: Point) -> bool {
        self.me.clockwise(point) <= point.clockwise(self.me)
    }
}

/// How close a peer is to a point: the least owns it. Of two that are as far, it is the one clockwise
/// of the point, wherever the question is asked.
pub(crate) const fn closeness(point: Point, peer: Point) -> (u128, u128) {
    (point.apart(peer), point.clockwise(peer))
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

    fn leaves(room: usize, values: &[u128]) -> Leaves {
        let mut leaves = Leaves::new(Point::new(100), room);
        values.iter().for_each(|value| {
            leaves.insert(contact(*value));
        });
        leaves
    }

    #[test]
    fn either_side_keeps_its_nearest() {
        let leaves = leaves(2, &[70, 80, 90, 110, 120, 130]);
        let listed: Vec<_> = leaves.iter().map(|it| it.peer.0).collect();
        assert_eq!(listed, [110, 120, 90, 80]);
        assert!(leaves.contains(Peer(90)) && !leaves.contains(Peer(70)));
    }

    #[test]
    fn the_arc_ends_at_the_farthest_leaves_that_are_up() {
        let leaves = leaves(2, &[70, 80, 90, 110, 120, 130]);
        let covers = |value| leaves.cover(Point::new(value), |_| true);
        assert!(covers(80) && covers(100) && covers(120));
        assert!(!covers(79) && !covers(121));
        assert!(!leaves.cover(Point::new(120), |peer| peer != Peer(120)));
    }

    #[test]
    fn a_few_peers_cover_the_circle() {
        let far = Point::new(u128::MAX / 2);
        assert!(leaves(8, &[90]).cover(far, |_| true));
        assert!(leaves(8, &[90, 110, 7_000]).cover(far, |_| true));
        assert!(!leaves(8, &[]).cover(far, |_| true));
    }

    #[test]
    fn a_point_has_one_owner() {
        let (low, high) = (Point::new(10), Point::new(20));
        let point = Point::new(15);
        assert!(closeness(point, high) < closeness(point, low));
    }
}
