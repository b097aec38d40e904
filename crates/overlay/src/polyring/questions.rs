//! The pure questions: where next, who else, who keeps a key.

use std::cmp::Reverse;

use ringweave_ids::{Guid, Key, Peer, PeerId, Step};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{
    Order, Polyring, PositionId,
    ring::mix,
    route::{Direction, route},
    table::{Cell, Link, Rank, Slots, pick},
};
use crate::{Hop, Neighbour, Reach, Target, View};

/// What a broadcast still has to cover from a peer on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    /// Everyone: it starts here.
    All,
    /// It came from a child: the parent and the siblings, and what lies beyond them.
    Inward,
    /// It came from the parent or a sibling: everyone below.
    Outward,
    /// Nobody else: a co-member serves the rest.
    Here,
}

impl Polyring {
    pub(super) fn next(
        &self,
        view: &View<'_, Self>,
        target: &Target<Guid>,
        flow: u64,
    ) -> Hop<Guid> {
        match target {
            Target::Peer { id, address } => self.towards(view, address, Some(id), flow),
            Target::Holder(address) | Target::Prefix(address) => {
                self.towards(view, address, None, flow)
            }
            Target::Key { scope, key, choice } => {
                let center = Guid::center();
                self.towards_key(view, scope.as_ref().unwrap_or(&center), key, *choice, flow)
            }
            Target::All => Hop::Arrived,
        }
    }

    /// The five-case rule gives a position; the second step picks its member.
    fn towards(
        &self,
        view: &View<'_, Self>,
        to: &Guid,
        wanted: Option<&PeerId>,
        flow: u64,
    ) -> Hop<Guid> {
        match route(&self.guid, to) {
            Direction::Here => self.here(view, wanted),
            Direction::Parent => {
                let members = &self.table.parent;
                pick(members, self.wanted(view, wanted, members), flow).map_or(Hop::Cut, Hop::To)
            }
            Direction::Sibling(step) => self.across(view, &self.table.own, step, to, wanted, flow),
            Direction::Child(step) => self.across(view, &self.table.below, step, to, wanted, flow),
        }
    }

    /// At the position. Another PeerId is wanted: a co-member may have it.
    fn here(&self, view: &View<'_, Self>, wanted: Option<&PeerId>) -> Hop<Guid> {
        let Some(wanted) = wanted else {
            return Hop::Arrived;
        };
        let Some(peer) = view.host.peer(wanted) else {
            return Hop::Arrived;
        };
        let mate = self.co_members().find(|link| link.peer == peer);
        match mate {
            Some(link) if peer != view.me => {
                if link.is_up {
                    Hop::To(peer)
                } else {
                    Hop::Cut
                }
            }
            _ => Hop::Arrived,
        }
    }

    fn across(
        &self,
        view: &View<'_, Self>,
        slots: &Slots,
        step: Step,
        to: &Guid,
        wanted: Option<&PeerId>,
        flow: u64,
    ) -> Hop<Guid> {
        let Some(cell) = slots.find(step) else {
            return Hop::Nobody;
        };
        if cell.step().coordinate != step.coordinate || cell.position == self.table.mine {
            return self.relabelled(view, slots, cell, to, wanted, flow);
        }
        let members = slots.members(cell);
        pick(members, self.wanted(view, wanted, members), flow)
            .or_else(|| self.around(slots, cell, flow))
            .map_or(Hop::Cut, Hop::To)
    }

    /// The way round a connection that does not stand: through the parent to a sibling, whom it counts
    /// among its children; through a later member of my own position; in the center, through any other
    /// sibling. Who cannot reach it either goes on alike, until the hops are used up.
    #[cold]
    fn around(&self, slots: &Slots, cell: &Cell, flow: u64) -> Option<Peer> {
        let is_sibling = std::ptr::eq(slots, &self.table.own);
        let parent = pick(&self.table.parent, None, flow).filter(|_| is_sibling);
        let rank = usize::from(self.table.rank.at);
        let later = || pick(self.co_members().as_slice().get(rank + 1..)?, None, flow);
        let other = || {
            if !is_sibling {
                return None;
            }
            let [mine, theirs] = [self.table.mine, cell.position];
            let others = slots
                .cells()
                .iter()
                .filter(|it| it.position != mine && it.position != theirs);
            let linked: SmallVec<[Peer; 64]> = others
                .filter_map(|it| pick(slots.members(it), None, flow))
                .collect();
            let at = mix(flow ^ mine.0).checked_rem(linked.len() as u64)?;
            linked.get(at as usize).copied()
        };
        parent.or_else(later).or_else(other)
    }

    /// The tag names a position that has another coordinate by now.
    #[cold]
    fn relabelled(
        &self,
        view: &View<'_, Self>,
        slots: &Slots,
        cell: &Cell,
        to: &Guid,
        wanted: Option<&PeerId>,
        flow: u64,
    ) -> Hop<Guid> {
        let is_own = std::ptr::eq(slots, &self.table.own);
        let level = self.guid.depth() - usize::from(is_own);
        let mut corrected = to.clone();
        corrected.steps_mut()[level] = cell.step();
        if cell.position == self.table.mine {
            return match route(&self.guid, &corrected) {
                Direction::Child(below) => {
                    self.across(view, &self.table.below, below, &corrected, wanted, flow)
                }
                _ => self.here(view, wanted),
            };
        }
        let members = slots.members(cell);
        pick(members, self.wanted(view, wanted, members), flow)
            .map_or(Hop::Cut, |peer| Hop::Corrected(peer, corrected))
    }

    /// The wanted peer's handle, where the position has several members to choose from.
    fn wanted(
        &self,
        view: &View<'_, Self>,
        wanted: Option<&PeerId>,
        members: &[Link],
    ) -> Option<Peer> {
        if members.len() < 2 {
            None
        } else {
            wanted.and_then(|id| view.host.peer(id))
        }
    }

    /// Keys live in the ring below their scope, the center ring if there is none: one position of it
    /// by unweighted rendezvous (KEYS.md, rules 3 and 4, with levels <= 1).
    fn towards_key(
        &self,
        view: &View<'_, Self>,
        scope: &Guid,
        key: &Key,
        choice: u8,
        flow: u64,
    ) -> Hop<Guid> {
        let home = if self.prefix.matches(scope) && self.guid.depth() > 0 {
            &self.table.own
        } else if self.guid.matches(scope) {
            &self.table.below
        } else {
            return self.towards(view, scope, None, flow);
        };
        match owner(home, key, choice) {
            None => Hop::Nobody,
            Some(cell) => match self.first(home.members(cell)) {
                Some(peer) if peer == view.me => Hop::Arrived,
                known => known.map_or(Hop::Cut, Hop::To),
            },
        }
    }

    /// Of a cluster one member holds what is kept there, the longest granted that is there; the others
    /// have copies.
    fn first(&self, members: &[Link]) -> Option<Peer> {
        let me = self.me();
        let mut there = members
            .iter()
            .filter(|link| link.is_up || Some(link.peer) == me);
        there.next().map(|link| link.peer)
    }

    pub(super) fn holders(&self, key: &Key, n: usize, found: &mut Vec<Peer>) {
        let own = &self.table.own;
        let mates = self
            .co_members()
            .filter(|link| link.is_up && Some(link.peer) != self.me());
        let mates = mates.map(|link| link.peer);
        let others = rank(own, key).filter(|cell| cell.position != self.table.mine);
        let others = others.filter_map(|cell| self.first(own.members(cell)));
        found.extend(mates.chain(others).take(n));
    }

    pub(super) fn nearest(&self, target: &Target<Guid>, n: usize, found: &mut Vec<Peer>) {
        let (Target::Peer { address: to, .. } | Target::Holder(to) | Target::Prefix(to)) = target
        else {
            return;
        };
        let mut known = Vec::new();
        self.list(&mut known);
        // Hops from a neighbour: up to the shared prefix, across, and down.
        let distance = |at: &Guid| at.depth() + to.depth() - 2 * at.shared(to);
        known.retain(|neighbour: &Neighbour<Guid>| neighbour.linked);
        known.sort_by(|a, b| {
            (distance(&a.address), &a.address).cmp(&(distance(&b.address), &b.address))
        });
        found.extend(known.into_iter().map(|neighbour| neighbour.peer).take(n));
    }

    pub(super) fn reach(&self, reach: Reach) -> Span {
        match reach {
            Reach::All => Span::All,
            Reach::Below => Span::Outward,
        }
    }

    /// Inward before sideways (or after, as configured) before outward; one member of each
    /// position, which hands it to its co-members.
    pub(super) fn copies(&self, span: &Span, flow: u64, copies: &mut Vec<(Peer, Span)>) {
        if *span == Span::Here {
            return;
        }
        let across = |slots: &Slots, copies: &mut Vec<(Peer, Span)>| {
            let others = slots.cells().iter();
            copies.extend(
                others
                    .filter(|cell| cell.position != self.table.mine)
                    .filter_map(|cell| pick(slots.members(cell), None, flow))
                    .map(|peer| (peer, Span::Outward)),
            );
        };
        if matches!(span, Span::All | Span::Inward) {
            let parent = pick(&self.table.parent, None, flow).map(|peer| (peer, Span::Inward));
            match self.order {
                Order::Inward => {
                    copies.extend(parent);
                    across(&self.table.own, copies);
                }
                Order::Sideways => {
                    across(&self.table.own, copies);
                    copies.extend(parent);
                }
            }
        }
        if matches!(span, Span::All | Span::Outward) {
            across(&self.table.below, copies);
        }
        copies.extend(
            self.co_members()
                .filter(|link| link.is_up && Some(link.peer) != self.me())
                .map(|link| (link.peer, Span::Here)),
        );
    }

    pub(super) fn place_of(&self, view: &View<'_, Self>, id: &PeerId) -> Option<Guid> {
        let peer = view.host.peer(id)?;
        let holds = |members: &[Link]| members.iter().any(|link| link.peer == peer);
        for (slots, parent) in [
            (&self.table.own, &self.prefix),
            (&self.table.below, &self.guid),
        ] {
            let mut cells = slots.cells().iter();
            if let Some(cell) = cells.find(|cell| holds(slots.members(cell))) {
                return Some(parent.child(cell.step()));
            }
        }
        holds(&self.table.parent).then(|| self.prefix.clone())
    }

    /// Those that this peer is to be linked to: of clusters only its partners.
    pub(super) fn list(&self, found: &mut Vec<Neighbour<Guid>>) {
        let rank = self.table.rank;
        let mut push = |members: &[Link], rank: Rank, address: &Guid, role| {
            let others = rank.partners(members);
            for link in others.filter(|link| Some(link.peer) != self.me()) {
                let (peer, address, linked) = (link.peer, address.clone(), link.is_up);
                found.push(Neighbour {
                    peer,
                    role,
                    address,
                    linked,
                });
            }
        };
        push(&self.table.parent, rank, &self.prefix, "parent");
        let (own, below) = (&self.table.own, &self.table.below);
        for cell in own.cells() {
            let (role, rank) = if cell.position == self.table.mine {
                ("co-member", Rank::default())
            } else {
                ("sibling", rank)
            };
            let address = self.prefix.child(cell.step());
            push(own.members(cell), rank, &address, role);
        }
        for cell in below.cells() {
            let address = self.guid.child(cell.step());
            push(below.members(cell), rank, &address, "child");
        }
    }

    fn co_members(&self) -> std::slice::Iter<'_, Link> {
        self.table.own.members_at(self.table.mine).iter()
    }
}

/// What orders the positions of a ring as homes of a key, the best first: highest random weight
/// (Thaler & Ravishankar 1998) over their permanent ids, so that no renumbering moves a key.
fn weight(cell: &Cell, key: &Key) -> (Reverse<u64>, PositionId) {
    let score = mix(key.head() ^ mix(cell.position.0));
    (Reverse(score), cell.position)
}

/// The positions of a ring as homes of a key, best first.
fn rank<'a>(slots: &'a Slots, key: &Key) -> impl Iterator<Item = &'a Cell> {
    let mut cells: Vec<_> = slots.cells().iter().collect();
    cells.sort_by_key(|cell| weight(cell, key));
    cells.into_iter()
}

/// The `choice`-th home of a key, without sorting: the first or the second, as a rule.
fn owner<'a>(slots: &'a Slots, key: &Key, choice: u8) -> Option<&'a Cell> {
    let best_after = |last: Option<(Reverse<u64>, PositionId)>| {
        let weighed = slots.cells().iter().map(|cell| (weight(cell, key), cell));
        let rest = weighed.filter(|(weight, _)| last.is_none_or(|last| *weight > last));
        rest.min_by_key(|(weight, _)| *weight)
    };
    let mut best = best_after(None);
    for _ in 0..choice {
        best = best_after(Some(best?.0));
    }
    best.map(|(_, cell)| cell)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polyring::testing::Swarm;

    #[test]
    fn the_owners_of_a_key_are_the_first_of_its_ranking() {
        let swarm = Swarm::grown(crate::polyring::Config::default(), 9, |_| "");
        let (peer, ..) = &swarm.peers[&0];
        for number in 0..50_u32 {
            let key = Key::of("test", &number.to_le_bytes());
            let ranked: Vec<_> = rank(&peer.table.own, &key).map(|it| it.position).collect();
            let owners = (0..10).map_while(|choice| owner(&peer.table.own, &key, choice));
            assert_eq!(owners.map(|it| it.position).collect::<Vec<_>>(), ranked);
        }
    }
}
