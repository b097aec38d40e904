//! The pure questions: where next, whom a broadcast is delegated to, who is near.

use ringweave_ids::{Guid, Peer, Point};

use super::{Pastry, leaves::closeness};
use crate::{
    Contact, Hop, Target,
    digits::{Entry, Slot},
};

impl Pastry {
    pub(super) fn is_up(&self, peer: Peer) -> bool {
        self.links.is_up(peer)
    }

    /// All of the table to which connections stand.
    pub(super) fn linked(&self) -> impl Iterator<Item = Contact> {
        let table = self.table().map(|(contact, _)| contact);
        table.filter(|it| self.is_up(it.peer))
    }

    /// The leaves to which connections stand.
    pub(super) fn linked_leaves(&self) -> impl Iterator<Item = Contact> {
        self.leaves.iter().filter(|it| self.is_up(it.peer))
    }

    /// The peer of a slot that a connection leads to; a leaf that belongs there stands in for it.
    fn delegate(&self, slot: Slot) -> Option<Contact> {
        let entries = self.digits.slot(slot).iter();
        let mut entries = entries.map(|it: &Entry| it.contact());
        let entry = entries.find(|it| self.is_up(it.peer));
        let fits = |it: &Contact| self.digits.slot_of(it.point) == Some(slot);
        entry.or_else(|| self.linked_leaves().find(fits))
    }

    /// The next peer towards a point; nobody if this one is numerically closest (section 2.3).
    /// The peer `except` is not gone through.
    pub(super) fn toward(&self, point: Point, except: Option<Peer>) -> Option<Contact> {
        let mine = closeness(point, self.me.point);
        let is_meant = |it: &Contact| Some(it.peer) != except;
        let is_up = |peer| self.is_up(peer) && Some(peer) != except;
        let closest = |it: &Contact| closeness(point, it.point);
        if self.leaves.cover(point, is_up) {
            let leaves = self.linked_leaves().filter(is_meant);
            let leaf = leaves.min_by_key(closest);
            return leaf.filter(|it| closest(it) < mine);
        }
        let slot = self.digits.slot_of(point)?;
        if let Some(entry) = self.delegate(slot).filter(is_meant) {
            return Some(entry);
        }
        // The rare case: whoever shares as much, and is closer.
        let shares = |it: &Contact| self.digits.shared(it.point, point) >= slot.row;
        let others = self.linked().filter(is_meant);
        let others = others.filter(|it| shares(it) && closest(it) < mine);
        others.min_by_key(closest)
    }

    pub(super) fn step(&self, target: &Target<Guid>) -> Hop<Guid> {
        let Some(point) = target.point() else {
            return match target {
                Target::All => Hop::Arrived,
                _ => Hop::Nobody,
            };
        };
        if point == self.me.point {
            return Hop::Arrived;
        }
        if let Some(there) = self.linked().find(|it| it.point == point) {
            return Hop::To(there.peer);
        }
        match self.toward(point, None) {
            Some(next) => Hop::To(next.peer),
            None if self.is_cut_off() => Hop::Cut,
            None => match target {
                Target::Key { .. } => Hop::Arrived,
                _ => Hop::Nobody,
            },
        }
    }

    /// Whether the table names peers, and no connection leads to any.
    fn is_cut_off(&self) -> bool {
        self.table().next().is_some() && self.linked().next().is_none()
    }

    /// From row `first` on, each slot's peer gets all that share its prefix with it.
    pub(super) fn copy(&self, first: u8, copies: &mut Vec<(Peer, u8)>) {
        let rows = self.digits.slots().filter(|(slot, _)| slot.row >= first);
        copies.extend(rows.filter_map(|(slot, _)| {
            let delegate = self.delegate(slot)?;
            Some((delegate.peer, slot.row + 1))
        }));
    }

    pub(super) fn nearest(&self, target: &Target<Guid>, n: usize, found: &mut Vec<Peer>) {
        if let Some(point) = target.point() {
            closest(self.linked().collect(), point, n, found);
        }
    }

    /// The leaves next to a key: they hold what this peer holds.
    pub(super) fn next_to(&self, point: Point, n: usize, found: &mut Vec<Peer>) {
        closest(self.linked_leaves().collect(), point, n, found);
    }
}

/// Appends the peers numerically closest to a point, closest first, each once.
fn closest(mut peers: Vec<Contact>, point: Point, n: usize, found: &mut Vec<Peer>) {
    peers.sort_unstable_by_key(|it| closeness(point, it.point));
    peers.dedup();
    found.extend(peers.iter().map(|it| it.peer).take(n));
}

#[cfg(test)]
mod tests {
    use ringweave_ids::{Key, Random};

    use super::*;
    use crate::{
        digits::Digits,
        pastry::{leaves::Leaves, near::Near},
        phase::Phase,
    };

    fn contact(peer: u32) -> Contact {
        Contact {
            point: Point::of_key(&Key::of("peer", &peer.to_le_bytes())),
            peer: Peer(peer),
        }
    }

    /// A network whose tables hold all that belongs there; handles are places in the list.
    fn network(peers: u32) -> Vec<Pastry> {
        let of = |me: u32| {
            let point = contact(me).point;
            let mut peer = Pastry {
                me: contact(me),
                guid: point.into(),
                phase: Phase::Placed,
                contacts: Vec::new(),
                attempt: 0,
                leaves: Leaves::new(point, 8),
                digits: Digits::new(point, 4, 1),
                near: Near::default(),
                links: crate::links::Links::default(),
                requests: crate::requests::Requests::default(),
                lost: crate::lost::Lost::default(),
                pace: crate::pace::Pace::default(),
                compared: 0,
                is_altered: false,
            };
            // Everybody begins elsewhere, so that tables differ.
            for other in (0..peers).map(|other| (other + me) % peers) {
                peer.digits.learn(contact(other));
                peer.leaves.insert(contact(other));
                peer.links.set_up(Peer(other), true);
            }
            peer
        };
        (0..peers).map(of).collect()
    }

    #[test]
    fn every_way_ends_at_the_numerically_closest_and_is_short() {
        let network = network(300);
        let mut random = Random::new(1);
        for _ in 0..2_000 {
            let drawn = u128::from(random.bits()) << 64 | u128::from(random.bits());
            let point = Point::new(drawn);
            let owner = (0..300).min_by_key(|peer| closeness(point, contact(*peer).point));
            let (mut at, mut hops) = (random.below(300), 0);
            while let Some(next) = network[at].toward(point, None) {
                (at, hops) = (next.peer.0 as usize, hops + 1);
                assert!(hops <= 5, "too many hops to {point}");
            }
            assert_eq!(Some(at as u32), owner);
        }
    }

    #[test]
    fn a_broadcast_reaches_everyone_once() {
        let network = network(300);
        let (mut reached, mut open) = (vec![3], vec![(Peer(3), 0)]);
        while let Some((at, span)) = open.pop() {
            let mut copies = Vec::new();
            network[at.0 as usize].copy(span, &mut copies);
            reached.extend(copies.iter().map(|(peer, _)| peer.0));
            open.extend(copies);
        }
        reached.sort_unstable();
        assert_eq!(reached, (0..300).collect::<Vec<_>>());
    }
}
