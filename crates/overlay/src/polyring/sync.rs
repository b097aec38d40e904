//! Keeping rosters alike: a hello with digests on connecting and now and then; where digests
//! differ, a summary, and then only the records that the other side lacks (HEALING.md, rules 2, 3).
//!
//! Everything is verified before it is merged or passed on.

use std::{collections::HashSet, sync::Arc, time::Duration};

use ringweave_ids::{Guid, Peer, Signature, Time};

use super::{
    Census, Cx, Hello, Label, Member, Message, NOWHERE, Phase, Polyring, Position, PositionId, Proof, Ring, Seat,
    Timer, Version, has_passed,
    join::{MAX_COORDINATE, is_sound},
    message::MAX_RECORDS,
    record::{MAX_ACCUSERS, MAX_VOTES, accusation_words, vote_words},
    ring::head,
};
use crate::Message as _;

/// A neighbour that has not connected by itself after this long is dialled.
const DIAL: (Duration, Duration) = (Duration::from_millis(1_000), Duration::from_millis(2_000));

/// How soon rosters that differ are compared in full: most differences are news still under way.
const REPAIR: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1_000));

/// The pace of hellos: this soon after a change, half as often each time (Trickle, Levis et al.,
/// NSDI 2004), up to the slowest.
const BEAT_FIRST: Duration = Duration::from_millis(1_500);
const BEAT_LAST: Duration = Duration::from_secs(15);

/// A branch's count is published at most this often.
const CENSUS: Duration = Duration::from_secs(3);

/// Repairs that wait at once; more are found again by a later hello.
const MAX_REPAIRS: usize = 256;

/// Handles remembered between two sweeps; when there are more they are swept at once.
const MAX_NOTED: usize = 4_096;

/// Repairs under way, and the paces of what is said unasked.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    waiting: Vec<(Peer, PositionId)>,
    is_dialling: bool,
    beat: Duration,
    turn: usize,
    counted: Time,
    is_counting: bool,
    noted: HashSet<u32>,
}

impl Repairs {
    pub(super) fn arm_dial(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.is_dialling, true) {
            let span = cx.random.between(DIAL.0, DIAL.1);
            cx.after(span, Timer::Dial);
        }
    }

    /// Remembers the handles that a message brought, so that they can be given back.
    pub(super) fn note(&mut self, message: &Message) {
        if matches!(
            message,
            Message::Join(_) | Message::Choose { .. } | Message::Offer(_) | Message::Hello(_) | Message::Records { .. }
        ) {
            message.clone().visit(&mut |peer| {
                self.noted.insert(peer.0);
            });
        }
    }
}

impl Polyring {
    pub(super) fn on_up(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        if !self.is_up(peer) {
            self.up.push(peer);
        }
        self.heal.forget(peer);
        self.is_dirty = true;
        if self.record.is_some() && self.wanted_links(cx.me()).contains(&peer) {
            self.send_hello(cx, peer);
        }
    }

    pub(super) fn send_hello(&mut self, cx: &mut Cx<'_>, to: Peer) {
        let Some(member) = self.record.clone() else { return };
        let Some(position) = self.own.position(self.position_id()).cloned() else { return };
        let held = [&self.own, &self.below, &self.above].into_iter().filter(|ring| ring.id != NOWHERE);
        let digests = held.map(|ring| (ring.id, ring.digest(cx.host()))).collect();
        let above = (self.above.id != NOWHERE).then_some(self.above.id);
        cx.send(to, Message::Hello(Box::new(Hello { member, position, above, digests })));
        if self.below.living_record(to).is_some() {
            self.send_prefix(cx, to);
        }
    }

    pub(super) fn on_hello(&mut self, cx: &mut Cx<'_>, from: Peer, hello: Hello) {
        if hello.member.peer != from {
            cx.fault("a hello in another peer's name");
            return;
        }
        let Some(seat) = hello.member.seat else { return };
        if self.record.is_none() {
            return;
        }
        // A member of my parent position: its ring is the one above mine, whatever I held before.
        if seat.position == self.own.id && self.above.id != seat.ring && self.has_no_parent() {
            self.above = Ring::new(seat.ring);
        }
        self.take(cx, from, seat.ring, vec![hello.member], vec![hello.position]);
        for (id, digest) in hello.digests.into_iter().take(3) {
            let Some(ring) = self.ring(id) else { continue };
            if ring.digest(cx.host()) != digest {
                self.plan_repair(cx, from, id);
            }
        }
        if !self.is_neighbour(from) {
            // It takes me for a neighbour: I am elsewhere by now.
            let record = self.record.clone().into_iter().collect();
            self.send_records(cx, from, seat.ring, record, Vec::new());
        }
        let lacks_above = hello.above.is_none() && seat.ring == self.own.id && self.own.id != PositionId::CENTER;
        if lacks_above && self.above.id != NOWHERE {
            let (members, positions) = whole(&self.above);
            self.send_records(cx, from, self.above.id, members, positions);
            let (position, guid) = (self.own.id, self.prefix.clone());
            cx.send(from, Message::Prefix { position, guid });
        }
    }

    fn plan_repair(&mut self, cx: &mut Cx<'_>, with: Peer, ring: PositionId) {
        if self.sync.waiting.contains(&(with, ring)) || self.sync.waiting.len() >= MAX_REPAIRS {
            return;
        }
        if self.sync.waiting.is_empty() {
            let span = cx.random.between(REPAIR.0, REPAIR.1);
            cx.after(span, Timer::Repair);
        }
        self.sync.waiting.push((with, ring));
    }

    pub(super) fn on_repair(&mut self, cx: &mut Cx<'_>) {
        for (with, id) in std::mem::take(&mut self.sync.waiting) {
            let versions = self.ring(id).map(|ring| ring.versions(cx.host()));
            if let Some(versions) = versions.filter(|_| self.is_up(with)) {
                cx.send(with, Message::Summary { ring: id, versions });
            }
        }
    }

    pub(super) fn on_summary(&mut self, cx: &mut Cx<'_>, from: Peer, id: PositionId, theirs: Vec<Version>) {
        if !self.may_share(from) {
            cx.fault("a summary from a peer of no common ring");
            return;
        }
        let Some(ring) = self.ring(id) else { return };
        let mine = ring.versions(cx.host());
        let rank = |version: &Version| (version.incarnation, version.is_accused);
        let is_behind = |version: &&Version, others: &[Version]| {
            others.iter().find(|other| other.head == version.head).is_none_or(|other| rank(other) < rank(version))
        };
        let lacks: Vec<u64> = mine.iter().filter(|version| is_behind(version, &theirs)).map(|it| it.head).collect();
        let wanted: Vec<u64> =
            theirs.iter().filter(|version| is_behind(version, &mine)).map(|it| it.head).take(MAX_RECORDS).collect();
        let (members, mut positions) = self.pick_records(cx, id, &lacks);
        // Labels may differ where members do not.
        if lacks.is_empty() && wanted.is_empty() {
            positions = self.ring(id).map(|ring| ring.positions().take(MAX_RECORDS).cloned().collect()).unwrap_or_default();
        }
        if !(members.is_empty() && positions.is_empty() && wanted.is_empty()) {
            cx.send(from, Message::Records { ring: id, members, positions, wanted });
        }
    }

    fn pick_records(&self, cx: &Cx<'_>, id: PositionId, heads: &[u64]) -> (Vec<Arc<Member>>, Vec<Position>) {
        let Some(ring) = self.ring(id) else { return (Vec::new(), Vec::new()) };
        let is_picked = |record: &&Arc<Member>| heads.contains(&head(&cx.id(record.peer)));
        let members: Vec<_> = ring.records().filter(is_picked).take(MAX_RECORDS).cloned().collect();
        let positions = members.iter().filter_map(|record| ring.position(record.seat?.position)).cloned().collect();
        (members, positions)
    }

    pub(super) fn on_records(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        id: PositionId,
        members: Vec<Arc<Member>>,
        positions: Vec<Position>,
        wanted: Vec<u64>,
    ) {
        if self.record.is_none() {
            return;
        }
        if self.is_alone(cx.me()) && self.rejoin_through(cx, from, &members) {
            return;
        }
        if members.len() > MAX_RECORDS || positions.len() > MAX_RECORDS {
            cx.fault("more records than one message may carry");
            return;
        }
        // After a takeover the ring above is learned from a sibling.
        let is_above = self.above.id == NOWHERE
            && self.own.id != PositionId::CENTER
            && id != self.own.id
            && id != self.below.id
            && self.own.living_record(from).is_some()
            && positions.iter().any(|position| position.id() == self.own.id);
        if is_above {
            self.above = Ring::new(id);
        }
        if self.ring(id).is_none() {
            return;
        }
        self.take(cx, from, id, members, positions);
        if !wanted.is_empty() && self.may_share(from) {
            let (members, positions) = self.pick_records(cx, id, &wanted[..wanted.len().min(MAX_RECORDS)]);
            if !members.is_empty() {
                cx.send(from, Message::Records { ring: id, members, positions, wanted: Vec::new() });
            }
        }
    }

    /// Verifies and merges; passes on to the children what is new in their ring above.
    fn take(&mut self, cx: &mut Cx<'_>, from: Peer, id: PositionId, members: Vec<Arc<Member>>, positions: Vec<Position>) {
        let mut new_positions = Vec::new();
        for position in positions {
            if let Some(position) = self.admit_position(cx, from, id, position) {
                let is_new = self.ring(id).and_then(|ring| ring.position(position.id())).is_none_or(|mine| {
                    mine.coordinate() != position.coordinate() || mine.version() != position.version()
                });
                if self.ring_mut(id).is_some_and(|ring| ring.merge_position(position.clone(), cx.now)) {
                    self.is_dirty = true;
                    if is_new {
                        new_positions.push(position);
                    }
                }
            }
        }
        let mut new_members = Vec::new();
        for record in members {
            // A peer's newer record says that it moved, in every ring that still has the older one.
            for id in [self.own.id, self.below.id, self.above.id] {
                let is_of_ring = record.seat.is_some_and(|seat| seat.ring == id);
                let is_known = self.ring(id).is_some_and(|ring| ring.record(record.peer).is_some());
                if id == NOWHERE || !(is_of_ring || is_known) || !self.admit_member(cx, from, id, &record) {
                    continue;
                }
                if self.ring_mut(id).is_some_and(|ring| ring.merge_member(cx.view.host, record.clone(), cx.now)) {
                    self.is_dirty = true;
                    self.sync.beat = BEAT_FIRST;
                    if id == self.own.id {
                        new_members.push(record.clone());
                    }
                }
            }
        }
        let is_news = id == self.own.id && !(new_members.is_empty() && new_positions.is_empty());
        if is_news && self.is_leader(cx) {
            for record in &new_members {
                let position = record.seat.and_then(|seat| self.own.position(seat.position));
                if let Some(position) = position.filter(|it| new_positions.iter().all(|new| new.id() != it.id())) {
                    new_positions.push(position.clone());
                }
            }
            for child in self.living_peers(&self.below, cx.me()) {
                self.send_records(cx, child, id, new_members.clone(), new_positions.clone());
            }
        }
    }

    /// Whether a record may enter the roster of this ring.
    fn admit_member(&self, cx: &mut Cx<'_>, from: Peer, id: PositionId, record: &Arc<Member>) -> bool {
        let Some(ring) = self.ring(id) else { return false };
        if ring.record(record.peer).is_some_and(|mine| mine.rank() >= record.rank()) {
            return false;
        }
        if !record.is_signed(cx.host()) {
            cx.fault("a record that its peer did not sign");
            return false;
        }
        if let Some(accusation) = &record.accusation {
            let words = accusation_words(cx.host(), &cx.id(record.peer), record.incarnation);
            let is_signed = |(accuser, signature): &(Peer, Signature)| {
                *accuser != record.peer && cx.host().verify(&cx.id(*accuser), &words, signature)
            };
            let count = accusation.by.len();
            if count == 0 || count > MAX_ACCUSERS || !accusation.by.iter().all(is_signed) {
                cx.fault("an accusation that its observers did not sign");
                return false;
            }
            let few = ring.living().count() <= 3;
            if record.peer != cx.me() && (self.is_up(record.peer) || (count < 2 && !few && !self.heal.suspects(record.peer))) {
                // I hear it myself, or one observer is not enough.
                return false;
            }
        }
        let Some(seat) = record.seat.filter(|seat| seat.ring == id) else { return true };
        let is_proven = match &record.proof {
            Proof::Grant(grant) => {
                grant.peer == record.peer
                    && grant.seat == seat
                    && grant.coordinate <= MAX_COORDINATE
                    && grant.is_signed(cx.host())
                    && self.may_grant(ring, from, grant.by)
            }
            Proof::Takeover(takeover) => {
                let words = vote_words(cx.host(), seat.position, &cx.id(record.peer));
                let is_cast = |(voter, signature): &(Peer, Signature)| {
                    cx.host().verify(&cx.id(*voter), &words, signature)
                };
                let count = takeover.votes.len();
                takeover.seat == seat
                    && (1..=MAX_VOTES).contains(&count)
                    && takeover.votes.iter().all(is_cast)
                    && ring.position(seat.position).is_some()
            }
            Proof::None => false,
        };
        if !is_proven {
            cx.fault("a record whose right to its position is not proven");
        }
        is_proven
    }

    /// Whether this keeper may have granted a position of the ring: a member (living or not) of its
    /// parent position, or one that was promoted out of the ring. In the center, any member known.
    /// What lies above my own ring, my neighbours have verified.
    fn may_grant(&self, ring: &Ring, from: Peer, keeper: Option<Peer>) -> bool {
        let Some(keeper) = keeper else { return ring.id == PositionId::CENTER };
        if ring.id == self.above.id && self.is_neighbour(from) {
            return true;
        }
        let from_here = ring.record(keeper);
        if ring.id == PositionId::CENTER {
            return from_here.is_some();
        }
        let parents = [&self.own, &self.above].into_iter().find(|it| it.position(ring.id).is_some());
        let Some(parents) = parents else { return false };
        let held_it = |seat: Seat| seat.position == ring.id || seat.ring != parents.id;
        parents.record(keeper).is_some_and(|record| record.seat.is_none_or(held_it))
            || from_here.is_some_and(|record| !record.lives_in(ring.id))
    }

    fn admit_position(&self, cx: &mut Cx<'_>, from: Peer, id: PositionId, position: Position) -> Option<Position> {
        let ring = self.ring(id)?;
        if ring.position(position.id()) == Some(&position) {
            return None;
        }
        let host = cx.host();
        let is_signed = is_sound(&position, id)
            && position.grant.is_signed(host)
            && position.label.as_ref().is_none_or(|label| label.is_signed(host) && self.may_grant(ring, from, Some(label.by)))
            && position.census.as_ref().is_none_or(|census| census.is_signed(host));
        if !is_signed {
            cx.fault("a position that its keeper did not sign");
            return None;
        }
        Some(position)
    }

    /// Someone says I am dead, or elsewhere: I say it anew, louder (HEALING.md, R6).
    pub(super) fn refute(&mut self, cx: &mut Cx<'_>) {
        let (Some(record), Some(seat)) = (self.record.clone(), self.seat()) else { return };
        let told = self.own.record(cx.me()).cloned().unwrap_or_else(|| record.clone());
        if told == record {
            return;
        }
        self.incarnation = self.incarnation.max(told.incarnation) + 1;
        let record = Member::signed(cx.host(), cx.me(), self.incarnation, Some(seat), record.proof.clone());
        self.own.merge_member(cx.host(), record.clone(), cx.now);
        self.record = Some(record.clone());
        let position: Vec<_> = self.own.position(seat.position).cloned().into_iter().collect();
        for peer in self.wanted_links(cx.me()) {
            self.send_records(cx, peer, seat.ring, vec![record.clone()], position.clone());
        }
    }

    pub(super) fn send_records(
        &self,
        cx: &mut Cx<'_>,
        to: Peer,
        ring: PositionId,
        members: Vec<Arc<Member>>,
        positions: Vec<Position>,
    ) {
        // Who is not connected learns it on connecting.
        if self.is_up(to) {
            cx.send(to, Message::Records { ring, members, positions, wanted: Vec::new() });
        }
    }

    pub(super) fn send_prefix(&self, cx: &mut Cx<'_>, child: Peer) {
        if self.is_up(child) && self.record.is_some() {
            cx.send(child, Message::Prefix { position: self.position_id(), guid: self.guid.clone() });
        }
    }

    pub(super) fn on_prefix(&mut self, from: Peer, position: PositionId, guid: Guid) {
        let is_parent = self.above.members_of(self.own.id).any(|record| record.peer == from);
        let is_sibling = self.own.living_record(from).is_some();
        if position != self.own.id || !(is_parent || (is_sibling && self.has_no_parent())) {
            return;
        }
        if self.prefix != guid {
            self.prefix = guid;
            self.is_dirty = true;
        }
    }

    /// Dials whoever is missing and did not come by itself.
    pub(super) fn on_dial(&mut self, cx: &mut Cx<'_>) {
        self.sync.is_dialling = false;
        for peer in self.wanted_links(cx.me()) {
            if !self.held.contains(&peer) {
                self.held.push(peer);
                cx.out.push(crate::Output::Open(peer));
            }
        }
    }

    pub(super) fn arm_beat(&mut self, cx: &mut Cx<'_>) {
        self.sync.beat = BEAT_FIRST;
        cx.after(BEAT_FIRST, Timer::Beat);
    }

    /// A hello to one neighbour: siblings, children and parents in turn.
    pub(super) fn on_beat(&mut self, cx: &mut Cx<'_>) {
        let parents = self.above.members_of(self.own.id).map(|record| record.peer).collect();
        let groups = [self.living_peers(&self.own, cx.me()), parents, self.living_peers(&self.below, cx.me())];
        self.sync.turn += 1;
        let turn = self.sync.turn;
        let linked = (0..3).map(|offset| &groups[(turn + offset) % 3]).find_map(|group| {
            let linked: Vec<_> = group.iter().copied().filter(|peer| self.is_up(*peer)).collect();
            cx.random.pick(&linked).copied()
        });
        if let Some(peer) = linked {
            self.send_hello(cx, peer);
        } else {
            self.on_lonely_beat(cx);
        }
        self.sync.beat = (self.sync.beat * 2).min(BEAT_LAST);
        let span = cx.random.between(self.sync.beat / 2, self.sync.beat);
        cx.after(span, Timer::Beat);
    }

    /// Publishes how many peers live at and below my position, in steps, and not too often.
    pub(super) fn count(&mut self, cx: &mut Cx<'_>) {
        let (Some(seat), true) = (self.seat(), self.phase == Phase::Placed) else { return };
        if !self.is_leader(cx) {
            return;
        }
        let mates = self.own.members_of(seat.position).count() as u32;
        let population = self.below.staffed().map(Position::population).fold(mates, u32::saturating_add);
        let Some(position) = self.own.position(seat.position) else { return };
        let last = position.population();
        let is_step = population != last && (population.min(last) < 8 || population.abs_diff(last) * 4 >= last);
        if !is_step {
            return;
        }
        if !has_passed(cx.now, self.sync.counted, CENSUS) && self.sync.counted != Time::ZERO {
            if !std::mem::replace(&mut self.sync.is_counting, true) {
                cx.after(CENSUS, Timer::Census);
            }
            return;
        }
        self.sync.counted = cx.now;
        let version = position.census.as_ref().map_or(0, |census| census.version) + 1;
        let census = Census { seat, population, version, by: cx.me(), signature: Signature([0; 64]) };
        let counted = Position { census: Some(census.sign(cx.host())), ..position.clone() };
        self.own.merge_position(counted.clone(), cx.now);
        let parents = self.above.members_of(seat.ring).map(|record| record.peer);
        let told: Vec<_> = parents.chain(self.living_peers(&self.own, cx.me())).collect();
        for peer in told {
            self.send_records(cx, peer, seat.ring, Vec::new(), vec![counted.clone()]);
        }
    }

    pub(super) fn on_census(&mut self, cx: &mut Cx<'_>) {
        self.sync.is_counting = false;
        self.count(cx);
    }

    /// As a keeper: a coordinate given twice stays with the larger branch, else the smaller id; the
    /// others get a free one (HEALING.md, rule 8).
    pub(super) fn relabel(&mut self, cx: &mut Cx<'_>) {
        let keeps_own = self.own.id == PositionId::CENTER && self.keeper(cx) == Some(cx.me());
        let rings = [keeps_own.then_some(self.own.id), self.is_leader(cx).then_some(self.below.id)];
        for id in rings.into_iter().flatten() {
            let Some(ring) = self.ring(id) else { continue };
            let mut staffed: Vec<_> = ring.staffed().collect();
            staffed.sort_by_key(|it| (it.coordinate(), std::cmp::Reverse(it.population()), it.id()));
            let doubled = staffed.windows(2).find(|pair| pair[0].coordinate() == pair[1].coordinate());
            let Some(position) = doubled.map(|pair| pair[1].clone()) else { continue };
            let label = Label {
                seat: Seat { ring: id, position: position.id() },
                coordinate: self.free_coordinate(cx, ring),
                version: position.version() + 1,
                by: cx.me(),
                signature: Signature([0; 64]),
            };
            let relabelled = Position { label: Some(label.sign(cx.host())), ..position };
            let mut told = self.living_peers(ring, cx.me());
            if id == self.own.id {
                told.extend(self.living_peers(&self.below, cx.me()));
            }
            for peer in told {
                self.send_records(cx, peer, id, Vec::new(), vec![relabelled.clone()]);
            }
            if let Some(ring) = self.ring_mut(id) {
                ring.merge_position(relabelled, cx.now);
            }
            // One at a time: the next settling finds the next.
            self.is_dirty = true;
        }
    }

    /// Gives back the handles that no roster, link or duty names any more.
    pub(super) fn forget_unused(&mut self, cx: &mut Cx<'_>) {
        let mut used: HashSet<u32> = self.up.iter().chain(&self.held).map(|peer| peer.0).collect();
        used.insert(cx.me().0);
        for ring in [&self.own, &self.below, &self.above] {
            let (members, positions) = (ring.records().cloned().collect(), ring.positions().cloned().collect());
            let mut message = Message::Records { ring: ring.id, members, positions, wanted: Vec::new() };
            message.visit(&mut |peer| {
                used.insert(peer.0);
            });
        }
        let mut unused: Vec<u32> = self.sync.noted.difference(&used).copied().collect();
        unused.sort_unstable_by_key(|handle| cx.id(Peer(*handle)));
        self.sync.noted.retain(|handle| used.contains(handle));
        cx.out.extend(unused.into_iter().map(|handle| crate::Output::Forget(Peer(handle))));
        debug_assert!(self.sync.noted.len() <= MAX_NOTED.max(used.len()));
    }

    pub(super) fn ring(&self, id: PositionId) -> Option<&Ring> {
        [&self.own, &self.below, &self.above].into_iter().find(|ring| ring.id == id && id != NOWHERE)
    }

    pub(super) fn ring_mut(&mut self, id: PositionId) -> Option<&mut Ring> {
        [&mut self.own, &mut self.below, &mut self.above].into_iter().find(|ring| ring.id == id && id != NOWHERE)
    }

    fn is_neighbour(&self, peer: Peer) -> bool {
        self.own.living_record(peer).is_some()
            || self.below.living_record(peer).is_some()
            || self.above.members_of(self.own.id).any(|record| record.peer == peer)
    }

    /// Rosters are told to neighbours only, and to who was one until lately.
    fn may_share(&self, peer: Peer) -> bool {
        [&self.own, &self.below, &self.above].into_iter().any(|ring| ring.record(peer).is_some())
    }
}

/// A whole roster's living part, as far as one message goes.
fn whole(ring: &Ring) -> (Vec<Arc<Member>>, Vec<Position>) {
    (ring.living().take(MAX_RECORDS).cloned().collect(), ring.staffed().take(MAX_RECORDS).cloned().collect())
}
