//! The pure questions: where next, who else, who keeps a key.

use std::cmp::Reverse;

use ringweave_ids::{Guid, Key, Peer, PeerId, Step};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{
    Order, Polyring, PositionId,
    ring::mix,
    route::{Direction, route},
    table::{Cell, Link, Rank, Slots, Table, pick},
};
use crate::{Hop, Neighbour, Reach, Target, View};

/// What a broadcast still has to cover from a peer on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Which way it goes on.
    pub cover: Cover,
    /// Neighbours that the sender has no connection to, at most [`MAX_DETOURS`]: the receiver, whose
    /// neighbours they are as well, hands it to them.
    pub detours: Vec<Detour>,
}

/// Which way a broadcast goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cover {
    /// Everyone: it starts here.
    All,
    /// It came from a child: the parent and the siblings, and what lies beyond them.
    Inward,
    /// It came from the parent or a sibling: everyone below.
    Outward,
    /// Nobody else: a co-member serves the rest.
    Here,
}

/// A neighbour that a broadcast reaches by way of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detour {
    /// Its position.
    pub position: PositionId,
    /// The one member that lacks it, by its place among the position's members, the longest granted
    /// first; nothing for the position and what lies beyond.
    pub member: Option<u16>,
}

/// Detours that one copy carries.
pub(super) const MAX_DETOURS: usize = 64;

impl From<Cover> for Span {
    fn from(cover: Cover) -> Self {
        let detours = Vec::new();
        Self { cover, detours }
    }
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
            Direction::Here => self.here(view, wanted, flow),
            Direction::Parent => {
                let members = &self.table.parent;
                self.member(view, members, wanted, flow)
                    .or_else(|| self.around_to_parent(flow))
                    .map_or(Hop::Cut, Hop::To)
            }
            Direction::Sibling(step) => self.across(view, &self.table.own, step, to, wanted, flow),
            Direction::Child(step) => self.across(view, &self.table.below, step, to, wanted, flow),
        }
    }

    /// At the position. Another PeerId is wanted: a co-member may have it.
    fn here(&self, view: &View<'_, Self>, wanted: Option<&PeerId>, flow: u64) -> Hop<Guid> {
        let Some(wanted) = wanted else {
            return Hop::Arrived;
        };
        let Some(peer) = view.host.peer(wanted) else {
            return Hop::Arrived;
        };
        let mate = self.co_members().find(|link| link.peer == peer);
        match mate {
            Some(link) if link.is_up && peer != view.me => Hop::To(peer),
            Some(_) if peer != view.me => self.around_to_mate(flow).map_or(Hop::Cut, Hop::To),
            _ => Hop::Arrived,
        }
    }

    /// The way round a connection that does not stand: by one of those who are neighbours of both where
    /// all is well. They have ways of their own to choose from, other ones at each hop.
    fn around(&self, ways: &[Option<Peer>], flow: u64) -> Option<Peer> {
        let ways = ways.iter().copied().flatten();
        let ways: SmallVec<[Peer; 8]> = self.linked_mates().chain(ways).collect();
        let at = mix(flow).checked_rem(ways.len() as u64)?;
        ways.get(at as usize).copied()
    }

    /// To a co-member: through another one, the parent, a child or a sibling.
    #[cold]
    fn around_to_mate(&self, flow: u64) -> Option<Peer> {
        let Table {
            own,
            below,
            parent,
            mine,
            ..
        } = &self.table;
        let parent = pick(parent, None, flow);
        let (child, sibling) = (
            any_linked(below, &[], flow),
            any_linked(own, &[*mine], flow),
        );
        self.around(&[parent, child, sibling], flow)
    }

    /// To the parent: through a co-member or a sibling.
    #[cold]
    fn around_to_parent(&self, flow: u64) -> Option<Peer> {
        let Table { own, mine, .. } = &self.table;
        self.around(&[any_linked(own, &[*mine], flow)], flow)
    }

    /// To a sibling or a child: through a co-member or another of that ring; to a sibling also through
    /// the parent, who counts it among its children.
    #[cold]
    fn around_to(&self, slots: &Slots, cell: &Cell, flow: u64) -> Option<Peer> {
        let is_sibling = std::ptr::eq(slots, &self.table.own);
        let parent = pick(&self.table.parent, None, flow).filter(|_| is_sibling);
        let other = any_linked(slots, &[self.table.mine, cell.position], flow);
        self.around(&[parent, other], flow)
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
        self.member(view, members, wanted, flow)
            .or_else(|| self.around_to(slots, cell, flow))
            .map_or(Hop::Cut, Hop::To)
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
                _ => self.here(view, wanted, flow),
            };
        }
        let members = slots.members(cell);
        self.member(view, members, wanted, flow)
            .map_or(Hop::Cut, |peer| Hop::Corrected(peer, corrected))
    }

    /// The member to go on by: the wanted one if it is connected, else another one of its position, or a
    /// co-member of mine that is paired with it, which is as near. One of the two may have no
    /// connection to it either, so it is not always the same.
    fn member(
        &self,
        view: &View<'_, Self>,
        members: &[Link],
        wanted: Option<&PeerId>,
        flow: u64,
    ) -> Option<Peer> {
        let wanted = wanted.filter(|_| members.len() > 1);
        let wanted = wanted.and_then(|id| view.host.peer(id));
        let found = pick(members, wanted, flow);
        if wanted.is_none() || found == wanted || mix(!flow).is_multiple_of(2) {
            return found;
        }
        let paired = wanted.and_then(|wanted| {
            let rank = Rank::among(members, wanted)?;
            let mates = rank.partners(self.co_members().as_slice());
            let mut others = mates.filter(|mate| mate.is_up && Some(mate.peer) != self.me());
            others.next().map(|mate| mate.peer)
        });
        paired.or(found)
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

    /// Of a cluster one member holds what is kept there, the longest granted that is there, so that who
    /// puts and who asks meet. Nothing copies it to the others: when it is gone, owners put anew.
    fn first(&self, members: &[Link]) -> Option<Peer> {
        let me = self.me();
        let mut there = members
            .iter()
            .filter(|link| link.is_up || Some(link.peer) == me);
        there.next().map(|link| link.peer)
    }

    pub(super) fn holders(&self, key: &Key, n: usize, found: &mut Vec<Peer>) {
        // All members of a cluster answer for its keys.
        let first = found.len();
        found.extend(self.linked_mates());
        let more = n.saturating_sub(found.len() - first);
        if more > 0 {
            let own = &self.table.own;
            let homes = best(own, key, more + 1);
            let others = homes
                .iter()
                .filter(|(_, cell)| cell.position != self.table.mine);
            let others = others.filter_map(|(_, cell)| self.first(own.members(cell)));
            found.extend(others.take(more));
        }
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
        let cover = match reach {
            Reach::All => Cover::All,
            Reach::Below => Cover::Outward,
        };
        cover.into()
    }

    /// Inward before sideways (or after, as configured) before outward; one member of each
    /// position, which hands it to its co-members. Whom no connection leads to is reached by a
    /// neighbour of both.
    pub(super) fn copies(&self, span: &Span, flow: u64, copies: &mut Vec<(Peer, Span)>) {
        let Span { cover, detours } = span;
        let first = copies.len();
        let mut missing: SmallVec<[Detour; 4]> = SmallVec::new();
        let mut across = |slots: &Slots, copies: &mut Vec<(Peer, Span)>| {
            let cells = slots.cells().iter();
            for cell in cells.filter(|cell| cell.position != self.table.mine) {
                match pick(slots.members(cell), None, flow) {
                    Some(peer) => copies.push((peer, Cover::Outward.into())),
                    None => missing.push(Detour {
                        position: cell.position,
                        member: None,
                    }),
                }
            }
        };
        let mut has_parent = true;
        if matches!(cover, Cover::All | Cover::Inward) {
            let parent = pick(&self.table.parent, None, flow);
            has_parent = parent.is_some() || self.table.parent.is_empty();
            let parent = parent.map(|peer| (peer, Cover::Inward.into()));
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
        if matches!(cover, Cover::All | Cover::Outward) {
            across(&self.table.below, copies);
        }
        if *cover != Cover::Here {
            let mates = (0..).zip(self.co_members());
            for (at, mate) in mates.filter(|(at, _)| *at != self.table.rank.at) {
                if mate.is_up {
                    copies.push((mate.peer, Cover::Here.into()));
                } else {
                    let (position, member) = (self.table.mine, Some(at));
                    missing.push(Detour { position, member });
                }
            }
        }
        if !has_parent {
            let (position, member) = (self.table.above, None);
            missing.push(Detour { position, member });
        }
        if !missing.is_empty() {
            self.send_round(&missing, flow, &mut copies[first..]);
        }
        for detour in detours.iter().take(MAX_DETOURS) {
            copies.extend(self.detour(detour, flow));
        }
    }

    /// Gives each neighbour without a connection to one of the copies, whose receiver knows it, too:
    /// co-members know all that this peer knows; children know each other and my position; siblings know
    /// each other and the parent, and the parent knows them.
    #[cold]
    fn send_round(&self, missing: &[Detour], flow: u64, copies: &mut [(Peer, Span)]) {
        let Table {
            mine, own, below, ..
        } = &self.table;
        for detour in missing {
            let is_child = !below.members_at(detour.position).is_empty();
            let is_mate = |peer| own.seat_of(peer).is_some_and(|seat| seat.0 == *mine);
            let knows_it =
                |peer: Peer| is_child == below.seat_of(peer).is_some() || detour.position == *mine;
            let best = copies.iter().any(|(peer, _)| is_mate(*peer));
            let is_able = |peer| if best { is_mate(peer) } else { knows_it(peer) };
            let able = copies
                .iter_mut()
                .filter(|(peer, span)| is_able(*peer) && span.detours.len() < MAX_DETOURS);
            let mut able: SmallVec<[_; 64]> = able.map(|(_, span)| &mut span.detours).collect();
            if let Some(at) = mix(flow ^ detour.position.0).checked_rem(able.len() as u64) {
                able[at as usize].push(*detour);
            }
        }
    }

    /// The copy for one whom its sender has no connection to, if this peer has one.
    fn detour(&self, detour: &Detour, flow: u64) -> Option<(Peer, Span)> {
        let Table {
            above,
            own,
            below,
            parent,
            ..
        } = &self.table;
        let is_parent = detour.position == *above;
        let members = match is_parent {
            true => parent,
            false => [own, below]
                .map(|slots| slots.members_at(detour.position))
                .into_iter()
                .find(|members| !members.is_empty())?,
        };
        match detour.member {
            Some(at) => {
                let link = members.get(usize::from(at))?;
                link.is_up.then(|| (link.peer, Cover::Here.into()))
            }
            None => {
                let cover = if is_parent {
                    Cover::Inward
                } else {
                    Cover::Outward
                };
                pick(members, None, flow).map(|peer| (peer, cover.into()))
            }
        }
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

    /// The other members of my position that are connected.
    fn linked_mates(&self) -> impl Iterator<Item = Peer> {
        let linked = self.co_members().filter(|link| link.is_up);
        linked
            .map(|link| link.peer)
            .filter(|peer| Some(*peer) != self.me())
    }

    fn co_members(&self) -> std::slice::Iter<'_, Link> {
        self.table.own.members_at(self.table.mine).iter()
    }
}

/// One of the connected members of a ring, those of `but` apart.
fn any_linked(slots: &Slots, but: &[PositionId], flow: u64) -> Option<Peer> {
    let cells = slots.cells().iter();
    let others = cells.filter(|cell| !but.contains(&cell.position));
    let linked = others.filter_map(|cell| pick(slots.members(cell), None, flow));
    let linked: SmallVec<[Peer; 64]> = linked.collect();
    let at = mix(flow ^ linked.len() as u64).checked_rem(linked.len() as u64)?;
    linked.get(at as usize).copied()
}

/// What orders the positions of a ring as homes of a key, the best first: highest random weight
/// (Thaler & Ravishankar 1998) over their permanent ids, so that no renumbering moves a key.
type Weight = (Reverse<u64>, PositionId);

fn weight(cell: &Cell, key: &Key) -> Weight {
    let score = mix(key.head() ^ mix(cell.position.0));
    (Reverse(score), cell.position)
}

/// The `choice`-th home of a key: the first or the second, as a rule.
fn owner<'a>(slots: &'a Slots, key: &Key, choice: u8) -> Option<&'a Cell> {
    let choice = usize::from(choice);
    let homes = best(slots, key, choice + 1);
    homes.get(choice).map(|(_, cell)| *cell)
}

/// The first `n` homes of a key and their weights, without sorting the others.
fn best<'a>(slots: &'a Slots, key: &Key, n: usize) -> SmallVec<[(Weight, &'a Cell); 4]> {
    let mut best: SmallVec<[_; 4]> = SmallVec::new();
    for cell in slots.cells() {
        let weight = weight(cell, key);
        if best.last().is_none_or(|(last, _)| weight < *last) || best.len() < n {
            let at = best.partition_point(|(other, _)| *other < weight);
            best.insert(at, (weight, cell));
            best.truncate(n);
        }
    }
    best
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
            let mut ranked: Vec<_> = peer.table.own.cells().iter().collect();
            ranked.sort_by_key(|cell| weight(cell, &key));
            let ranked: Vec<_> = ranked.into_iter().map(|it| it.position).collect();
            let owners = (0..10).map_while(|choice| owner(&peer.table.own, &key, choice));
            assert_eq!(owners.map(|it| it.position).collect::<Vec<_>>(), ranked);
        }
    }
}
