//! The pure questions: where next, whom a broadcast is delegated to, who is near.

use ringweave_ids::{Guid, Peer, Point};

use super::{Choice, Chord};
use crate::{Contact, Hop, Target, View};

impl Chord {
    /// The first successor to whom a connection stands.
    pub(super) fn successor(&self) -> Option<Contact> {
        self.successors.iter().find(|it| self.links.is_up(it.peer))
    }

    /// Whether the point is this peer's own, as far as it knows: between its predecessor and itself.
    pub(crate) fn owns(&self, point: Point) -> bool {
        let me = self.me.point;
        if let Some(before) = self.predecessor {
            return point.is_in(before.point, me);
        }
        // Until a predecessor says hello, it is the last peer that this one knows before itself.
        let way = |it: &Contact| me.clockwise(it.point);
        let Some(known) = self.linked().max_by_key(way) else {
            return true;
        };
        // Where that is a finger, there are others between, no farther than as many successors reach.
        let last = self.successors.iter().next_back();
        let reach = last.map_or(u128::MAX, |last| match way(&last) < way(&known) {
            true => way(&last),
            false => u128::MAX,
        });
        point.is_in(known.point, me) && point.clockwise(me) <= reach
    }

    /// All of the table to which connections stand.
    fn linked(&self) -> impl Iterator<Item = Contact> {
        let table = self.table().map(|(contact, _)| contact);
        table.filter(|it| self.links.is_up(it.peer))
    }

    /// Those that a message may take the way through.
    pub(super) fn routes(&self, has_shortcuts: bool) -> impl Iterator<Item = Contact> {
        let shortcuts = self.successors.iter().filter(move |_| has_shortcuts);
        let routes = self.fingers.iter().chain(shortcuts);
        routes.filter(|it| self.links.is_up(it.peer))
    }

    /// The last peer before the point that a connection leads to (the paper's
    /// *closest_preceding_finger*).
    pub(super) fn preceding(&self, point: Point, has_shortcuts: bool) -> Option<Contact> {
        let room = self.me.point.clockwise(point);
        let way = |it: &Contact| self.me.point.clockwise(it.point);
        let before = self.routes(has_shortcuts).filter(|it| way(it) < room);
        before.max_by_key(way)
    }

    pub(super) fn step(&self, view: &View<'_, Self>, target: &Target<Guid>) -> Hop<Guid> {
        let Some(point) = target.point() else {
            return match target {
                Target::All => Hop::Arrived,
                _ => Hop::Nobody,
            };
        };
        if point == self.me.point {
            return Hop::Arrived;
        }
        let has_shortcuts = view.config.has_shortcuts;
        let is_it = |it: &Contact| it.point == point;
        if let Some(there) = self.routes(has_shortcuts).find(is_it) {
            return Hop::To(there.peer);
        }
        if self.owns(point) {
            return match target {
                Target::Key { .. } => Hop::Arrived,
                _ => Hop::Nobody,
            };
        }
        let Some(successor) = self.successor() else {
            return Hop::Cut;
        };
        if point.is_in(self.me.point, successor.point) {
            return Hop::To(successor.peer);
        }
        let next = self.preceding(point, has_shortcuts);
        Hop::To(next.unwrap_or(successor).peer)
    }

    /// Everyone between this peer and the limit is delegated to a finger, up to the next finger
    /// (El-Ansary et al., section 3).
    pub(super) fn delegate(&self, limit: Point, copies: &mut Vec<(Peer, Point)>) {
        let me = self.me.point;
        let first = copies.len();
        let is_meant = |it: &Contact| limit == me || me.clockwise(it.point) < me.clockwise(limit);
        let delegates = self.successor().into_iter().chain(self.routes(false));
        let mut delegates: Vec<_> = delegates.filter(is_meant).collect();
        delegates.sort_unstable_by_key(|it| me.clockwise(it.point));
        delegates.dedup();
        copies.extend(delegates.iter().map(|it| (it.peer, limit)));
        for (copy, next) in copies[first..].iter_mut().zip(delegates.iter().skip(1)) {
            copy.1 = next.point;
        }
    }

    pub(super) fn nearest(&self, target: &Target<Guid>, n: usize, found: &mut Vec<Peer>) {
        let Some(point) = target.point() else {
            return;
        };
        let mut linked: Vec<_> = self.linked().collect();
        linked.sort_by_key(|it| it.point.clockwise(point));
        linked.dedup();
        found.extend(linked.iter().map(|it| it.peer).take(n));
    }

    /// Where a finger of the interval is looked for.
    pub(super) fn finger_target(&self, cx: &mut super::Cx<'_>, interval: u8) -> Point {
        let start = self.fingers.start(interval);
        match cx.config().fingers {
            Choice::Fixed => start,
            Choice::Random => {
                let drawn = u128::from(cx.random.bits()) << 64 | u128::from(cx.random.bits());
                start.plus(drawn & ((1 << interval) - 1))
            }
        }
    }
}
