//! Keeping rosters alike: a hello with digests on connecting and now and then; where digests
//! differ, a summary, and then only the records that the other side lacks (HEALING.md, rules 2, 3).
//!
//! Everything is verified before it is merged or passed on.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ringweave_ids::{Guid, Peer};

use super::{
    Cx, Hello, Member, Message, NOWHERE, Polyring, Position, PositionId, Ring, Timer, Version,
    message::{MAX_RECORDS, MAX_REFUGES},
    ring::head,
};

/// A neighbour that has not connected by itself after this long is dialled.
const DIAL: (Duration, Duration) = (Duration::from_millis(1_000), Duration::from_millis(2_000));

/// How soon rosters that differ are compared in full: most differences are news still under way.
const REPAIR: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1_000));

/// The pace of hellos: this soon after a change, half as often each time (Trickle, Levis et al.,
/// NSDI 2004), up to the slowest.
const BEAT_FIRST: Duration = Duration::from_millis(1_500);
const BEAT_LAST: Duration = Duration::from_secs(15);

/// Repairs that wait at once; more are found again by a later hello.
const MAX_REPAIRS: usize = 256;

/// Repairs under way, and the paces of what is said unasked.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    waiting: Vec<(Peer, PositionId)>,
    is_dialling: bool,
    beat: Duration,
    turn: usize,
    noted: BTreeSet<u32>,
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
        let mut note = |peer: Peer| {
            self.noted.insert(peer.0);
        };
        match message {
            Message::Join(walk) => note(walk.joiner),
            Message::Choose {
                candidates: peers, ..
            }
            | Message::Prefix { refuges: peers, .. } => {
                peers.iter().copied().for_each(note);
            }
            Message::Offer(offer) => {
                let members = offer.members.iter().chain(&offer.above_members);
                members.for_each(|member| member.handles(&mut note));
                let positions = offer.positions.iter().chain(&offer.above_positions);
                positions.for_each(|position| position.handles(&mut note));
            }
            Message::Hello(hello) => {
                hello.member.handles(&mut note);
                hello.position.handles(&mut note);
            }
            Message::Records {
                members, positions, ..
            } => {
                members.iter().for_each(|member| member.handles(&mut note));
                positions
                    .iter()
                    .for_each(|position| position.handles(&mut note));
            }
            Message::Ask { suspect, .. } | Message::Answer { suspect, .. } => note(*suspect),
            Message::Summary { .. }
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::Elect { .. }
            | Message::Vote { .. } => {}
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
        let Some(member) = self.record.clone() else {
            return;
        };
        let Some(position) = self.own.position(self.position_id()).cloned() else {
            return;
        };
        let held = [&self.own, &self.below, &self.above]
            .into_iter()
            .filter(|ring| ring.id != NOWHERE);
        let digests = held.map(|ring| (ring.id, ring.digest(cx.host()))).collect();
        let above = (self.above.id != NOWHERE).then_some(self.above.id);
        cx.send(
            to,
            Message::Hello(Box::new(Hello {
                member,
                position,
                above,
                digests,
            })),
        );
        if self.below.living_record(to).is_some() {
            self.send_prefix(cx, to);
        }
    }

    pub(super) fn on_hello(&mut self, cx: &mut Cx<'_>, from: Peer, hello: Hello) {
        if hello.member.peer != from {
            cx.fault("a hello in another peer's name");
            return;
        }
        let Some(seat) = hello.member.seat else {
            return;
        };
        if self.record.is_none() {
            return;
        }
        // A member of my parent position: its ring is the one above mine, whatever I held before.
        if seat.position == self.own.id && self.above.id != seat.ring && self.has_no_parent() {
            self.above = Ring::new(seat.ring);
        }
        self.take(
            cx,
            from,
            seat.ring,
            vec![hello.member],
            vec![hello.position],
        );
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
        let lacks_above =
            hello.above.is_none() && seat.ring == self.own.id && self.own.id != PositionId::CENTER;
        if lacks_above && self.above.id != NOWHERE {
            let (members, positions) = whole(&self.above);
            self.send_records(cx, from, self.above.id, members, positions);
            let (position, guid) = (self.own.id, self.prefix.clone());
            cx.send(
                from,
                Message::Prefix {
                    position,
                    guid,
                    refuges: Vec::new(),
                },
            );
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

    pub(super) fn on_summary(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        id: PositionId,
        theirs: Vec<Version>,
    ) {
        if !self.may_share(from) {
            cx.fault("a summary from a peer of no common ring");
            return;
        }
        let Some(ring) = self.ring(id) else { return };
        let mine = ring.versions(cx.host());
        let rank = |version: &Version| (version.incarnation, version.is_accused);
        let is_behind = |version: &&Version, others: &[Version]| {
            others
                .iter()
                .find(|other| other.head == version.head)
                .is_none_or(|other| rank(other) < rank(version))
        };
        let lacks: Vec<u64> = mine
            .iter()
            .filter(|version| is_behind(version, &theirs))
            .map(|it| it.head)
            .collect();
        let wanted: Vec<u64> = theirs
            .iter()
            .filter(|version| is_behind(version, &mine))
            .map(|it| it.head)
            .take(MAX_RECORDS)
            .collect();
        let (members, mut positions) = self.pick_records(cx, id, &lacks);
        // Labels may differ where members do not.
        if lacks.is_empty() && wanted.is_empty() {
            positions = self
                .ring(id)
                .map(|ring| ring.positions().take(MAX_RECORDS).cloned().collect())
                .unwrap_or_default();
        }
        if !(members.is_empty() && positions.is_empty() && wanted.is_empty()) {
            cx.send(
                from,
                Message::Records {
                    ring: id,
                    members,
                    positions,
                    wanted,
                },
            );
        }
    }

    fn pick_records(
        &self,
        cx: &Cx<'_>,
        id: PositionId,
        heads: &[u64],
    ) -> (Vec<Arc<Member>>, Vec<Position>) {
        let Some(ring) = self.ring(id) else {
            return (Vec::new(), Vec::new());
        };
        let is_picked = |record: &&Arc<Member>| heads.contains(&head(&cx.id(record.peer)));
        let members: Vec<_> = ring
            .records()
            .filter(is_picked)
            .take(MAX_RECORDS)
            .cloned()
            .collect();
        let positions = members
            .iter()
            .filter_map(|record| ring.position(record.seat?.position))
            .cloned()
            .collect();
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
            && positions
                .iter()
                .any(|position| position.id() == self.own.id);
        if is_above {
            self.above = Ring::new(id);
        }
        if self.ring(id).is_none() {
            return;
        }
        self.take(cx, from, id, members, positions);
        if !wanted.is_empty() && self.may_share(from) {
            let (members, positions) =
                self.pick_records(cx, id, &wanted[..wanted.len().min(MAX_RECORDS)]);
            if !members.is_empty() {
                cx.send(
                    from,
                    Message::Records {
                        ring: id,
                        members,
                        positions,
                        wanted: Vec::new(),
                    },
                );
            }
        }
    }

    /// Verifies and merges; passes on to the children what is new in their ring above.
    fn take(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        id: PositionId,
        members: Vec<Arc<Member>>,
        positions: Vec<Position>,
    ) {
        let mut new_positions = Vec::new();
        for position in positions {
            if let Some(position) = self.admit_position(cx, from, id, position) {
                let is_new = self
                    .ring(id)
                    .and_then(|ring| ring.position(position.id()))
                    .is_none_or(|mine| {
                        mine.coordinate() != position.coordinate()
                            || mine.version() != position.version()
                    });
                if self
                    .ring_mut(id)
                    .is_some_and(|ring| ring.merge_position(position.clone(), cx.now))
                {
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
                let is_known = self
                    .ring(id)
                    .is_some_and(|ring| ring.record(record.peer).is_some());
                if id == NOWHERE
                    || !(is_of_ring || is_known)
                    || !self.admit_member(cx, from, id, &record)
                {
                    continue;
                }
                if self
                    .ring_mut(id)
                    .is_some_and(|ring| ring.merge_member(cx.view.host, record.clone(), cx.now))
                {
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
                let position = record
                    .seat
                    .and_then(|seat| self.own.position(seat.position));
                if let Some(position) =
                    position.filter(|it| new_positions.iter().all(|new| new.id() != it.id()))
                {
                    new_positions.push(position.clone());
                }
            }
            for child in self.living_peers(&self.below, cx.me()) {
                self.send_records(cx, child, id, new_members.clone(), new_positions.clone());
            }
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
            cx.send(
                to,
                Message::Records {
                    ring,
                    members,
                    positions,
                    wanted: Vec::new(),
                },
            );
        }
    }

    pub(super) fn send_prefix(&self, cx: &mut Cx<'_>, child: Peer) {
        if !self.is_up(child) || self.record.is_none() {
            return;
        }
        let mut refuges = self.living_peers(&self.above, cx.me());
        cx.random.shuffle(&mut refuges, MAX_REFUGES);
        refuges.truncate(MAX_REFUGES);
        let (position, guid) = (self.position_id(), self.guid.clone());
        cx.send(
            child,
            Message::Prefix {
                position,
                guid,
                refuges,
            },
        );
    }

    pub(super) fn on_prefix(
        &mut self,
        from: Peer,
        position: PositionId,
        guid: Guid,
        refuges: Vec<Peer>,
    ) {
        let is_parent = self
            .above
            .members_of(self.own.id)
            .any(|record| record.peer == from);
        let is_sibling = self.own.living_record(from).is_some();
        if position != self.own.id || !(is_parent || (is_sibling && self.has_no_parent())) {
            return;
        }
        self.join.take_refuges(refuges);
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
        let parents = self
            .above
            .members_of(self.own.id)
            .map(|record| record.peer)
            .collect();
        let groups = [
            self.living_peers(&self.own, cx.me()),
            parents,
            self.living_peers(&self.below, cx.me()),
        ];
        self.sync.turn += 1;
        let turn = self.sync.turn;
        let linked = (0..3)
            .map(|offset| &groups[(turn + offset) % 3])
            .find_map(|group| {
                let linked: Vec<_> = group
                    .iter()
                    .copied()
                    .filter(|peer| self.is_up(*peer))
                    .collect();
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

    /// Gives back the handles that no roster, link or duty names any more.
    pub(super) fn forget_unused(&mut self, cx: &mut Cx<'_>) {
        let mut used: BTreeSet<u32> = self
            .up
            .iter()
            .chain(&self.held)
            .map(|peer| peer.0)
            .collect();
        used.insert(cx.me().0);
        let mut keep = |peer: Peer| {
            used.insert(peer.0);
        };
        self.join.handles(&mut keep);
        self.grants.handles(&mut keep);
        for ring in [&self.own, &self.below, &self.above] {
            ring.records().for_each(|record| record.handles(&mut keep));
            ring.positions()
                .for_each(|position| position.handles(&mut keep));
        }
        let mut unused: Vec<u32> = self.sync.noted.difference(&used).copied().collect();
        unused.sort_unstable_by_key(|handle| cx.id(Peer(*handle)));
        self.sync.noted.retain(|handle| used.contains(handle));
        cx.out.extend(
            unused
                .into_iter()
                .map(|handle| crate::Output::Forget(Peer(handle))),
        );
    }

    pub(super) fn ring(&self, id: PositionId) -> Option<&Ring> {
        [&self.own, &self.below, &self.above]
            .into_iter()
            .find(|ring| ring.id == id && id != NOWHERE)
    }

    pub(super) fn ring_mut(&mut self, id: PositionId) -> Option<&mut Ring> {
        [&mut self.own, &mut self.below, &mut self.above]
            .into_iter()
            .find(|ring| ring.id == id && id != NOWHERE)
    }

    pub(super) fn is_neighbour(&self, peer: Peer) -> bool {
        self.own.living_record(peer).is_some()
            || self.below.living_record(peer).is_some()
            || self
                .above
                .members_of(self.own.id)
                .any(|record| record.peer == peer)
    }

    /// Rosters are told to neighbours only, and to who was one until lately.
    fn may_share(&self, peer: Peer) -> bool {
        [&self.own, &self.below, &self.above]
            .into_iter()
            .any(|ring| ring.record(peer).is_some())
    }
}

/// A whole roster's living part, as far as one message goes.
fn whole(ring: &Ring) -> (Vec<Arc<Member>>, Vec<Position>) {
    (
        ring.living().take(MAX_RECORDS).cloned().collect(),
        ring.staffed().take(MAX_RECORDS).cloned().collect(),
    )
}
