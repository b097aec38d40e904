//! News: what a peer hears of its rings is verified, merged, and told to those who cannot have heard it
//! (HEALING.md, rule 3). Who was not told finds out by comparing (`sync.rs`).

use std::{sync::Arc, time::Duration};

use ringweave_ids::Peer;
use smallvec::SmallVec;

use super::{
    Cx, Member, Message, NOWHERE, Polyring, Position, PositionId, Timer, has_passed,
    message::MAX_RECORDS,
    outline::Tiding,
    sync::SETTLED,
    table::{Rank, Role},
};

/// How long hearsay waits before it is told on.
const GOSSIP: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1_000));

impl Polyring {
    /// A peer said itself where it is: news where an older record of it is held.
    pub(super) fn take_word(&mut self, cx: &mut Cx<'_>, member: &Arc<Member>) {
        let rings = [&self.own, &self.below, &self.above];
        let holds = rings.into_iter().find(|ring| ring.has(member.peer));
        if let Some(id) = holds.map(|ring| ring.id) {
            self.take(cx, member.peer, id, [member.clone()], []);
        }
    }

    /// Verifies and merges.
    pub(super) fn take(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        id: PositionId,
        members: impl IntoIterator<Item = Arc<Member>>,
        positions: impl IntoIterator<Item = Position>,
    ) {
        let mut told: SmallVec<[(PositionId, Arc<Member>); 2]> = SmallVec::new();
        let mut told_positions = Vec::new();
        let mut relabelled = Vec::new();
        for position in positions {
            let position = match id == self.above.id {
                true => position.uncounted(),
                false => position,
            };
            let ring = self.ring(id);
            if ring.and_then(|ring| ring.position(position.id())) == Some(&position) {
                continue;
            }
            let newer = ring.and_then(|ring| ring.relabelled_since(&position));
            relabelled.extend(newer.cloned());
            if let Some(position) = self.admit_position(cx, from, id, position) {
                let is_new = self
                    .ring(id)
                    .and_then(|ring| ring.position(position.id()))
                    .is_none_or(|mine| {
                        mine.coordinate() != position.coordinate()
                            || mine.version() != position.version()
                    });
                let ring = self.ring_mut(id);
                if ring.is_some_and(|ring| ring.merge_position(position.clone(), cx.now)) {
                    told_positions.push(position.clone());
                    if is_new && id == self.own.id {
                        self.tidings.push(Tiding::Position(position.id()));
                    }
                }
            }
        }
        for record in members {
            let mine = self.ring(id).and_then(|ring| ring.record(record.peer));
            if mine.is_some_and(|mine| !record.outranks(mine)) {
                self.sync.heard(id, record.peer);
                continue;
            }
            if let Some(newer) = self.newer_elsewhere(id, &record).cloned() {
                // It has moved since then, and who says this does not know.
                if self.may_share(from) {
                    self.send_records(cx, from, id, vec![newer], Vec::new());
                }
                continue;
            }
            // A peer's newer record says that it moved, in every ring that still has the older one.
            for id in [self.own.id, self.below.id, self.above.id] {
                let is_of_ring = record.seat.is_some_and(|seat| seat.ring == id);
                let is_known = self.ring(id).is_some_and(|ring| ring.has(record.peer));
                if id == NOWHERE || !(is_of_ring || is_known) {
                    continue;
                }
                if !self.admit_member(cx, from, id, &record) {
                    self.see_off(cx, from, id, &record);
                    continue;
                }
                let lived = self.ring(id).is_some_and(|ring| ring.lives(record.peer));
                if self
                    .ring_mut(id)
                    .is_some_and(|ring| ring.merge_member(cx.view.host, record.clone(), cx.now))
                {
                    self.quicken(cx);
                    let is_hearsay = from != record.peer && !self.is_mate(from);
                    let is_here = id != self.above.id && record.lives_in(id);
                    if !lived && is_here && is_hearsay {
                        self.plan_gossip(cx, id, record.peer);
                    }
                    if lived && record.accusation.is_some() {
                        self.remember_lost(cx, record.peer);
                    }
                    told.push((id, record.clone()));
                    if id == self.own.id {
                        self.tidings.push(Tiding::Member(record.peer));
                    }
                }
            }
        }
        if !relabelled.is_empty() && self.may_share(from) {
            self.send_records(cx, from, id, Vec::new(), relabelled);
        }
        if let Some(parent) = self.doubted(from, &told) {
            // Without those that the outline is about to forget, as they may be what is lacking then.
            Arc::make_mut(&mut self.above).outline(self.own.id);
            let digest = self.above.digest();
            if self.sync.may_doubt(cx.now, parent, digest) {
                self.send_summary(cx, parent, &self.above, digest);
            }
        }
        if self.has_mates() && !self.is_mate(from) {
            self.tell_mates(cx, from, id, &told, &told_positions);
        }
    }

    /// What another ring of mine than this one has of the peer, if that is newer.
    fn newer_elsewhere(&self, id: PositionId, record: &Arc<Member>) -> Option<&Arc<Member>> {
        let rings = [&self.own, &self.below, &*self.above].into_iter();
        let others = rings.filter(|ring| ring.id != id);
        let mut known = others.filter_map(|ring| ring.record(record.peer));
        known.find(|mine| mine.outranks(record))
    }

    /// A peer says itself that it lives at another position of the ring, and nobody here knows whether
    /// it may: in any case it is not where it was.
    fn see_off(&mut self, cx: &mut Cx<'_>, from: Peer, id: PositionId, record: &Arc<Member>) {
        let position = |record: &Member| record.seat.map(|seat| seat.position);
        let mine = self.ring(id).and_then(|ring| ring.living_record(from));
        let has_left = from == record.peer
            && mine.is_some_and(|it| record.outranks(it) && position(record) != position(it))
            && record.is_signed(cx.host());
        if has_left && let Some(ring) = self.ring_mut(id) {
            ring.forget(from, cx.now);
            self.quicken(cx);
        }
    }

    /// The parent to compare with after this one told me of the ring above.
    ///
    /// Only the leader tells what changes there. What another member says may be old, and when that one
    /// learns better, nobody passes it on: the leader knows. Where what was told is odd, one of us holds
    /// one for living whom the other knows to be gone.
    fn doubted(&self, from: Peer, told: &[(PositionId, Arc<Member>)]) -> Option<Peer> {
        if !self.is_parent(from) {
            return None;
        }
        let mut parents = self.above.peers_of(self.own.id);
        let leader = parents.find(|parent| self.links.is_up(*parent));
        let of_others = |(ring, record): &(PositionId, Arc<Member>)| {
            *ring == self.above.id && record.peer != from
        };
        let is_hearsay = leader != Some(from) && told.iter().any(of_others);
        match leader.filter(|_| is_hearsay) {
            Some(leader) => Some(leader),
            None => self.is_outline_odd(told).then_some(from),
        }
    }

    /// Whether I was told of one in the ring above that is not the longest granted of its position: of
    /// other positions than my parent's, no other is told.
    fn is_outline_odd(&self, told: &[(PositionId, Arc<Member>)]) -> bool {
        let above = &self.above;
        told.iter().any(|(id, record)| {
            let seat = record
                .seat
                .filter(|_| *id == above.id && record.lives_in(above.id));
            let position = seat.map(|seat| seat.position);
            let other = position.filter(|position| *position != self.own.id);
            other.is_some_and(|it| above.peers_of(it).next() != Some(record.peer))
        })
    }

    /// Passes news on to the other members of my position. What a peer says of itself, it tells all that
    /// it is paired with; of others it may have told me alone.
    fn tell_mates(
        &self,
        cx: &mut Cx<'_>,
        from: Peer,
        id: PositionId,
        told: &[(PositionId, Arc<Member>)],
        positions: &[Position],
    ) {
        let (me, seat, of) = (cx.me(), self.table.seat_of(from), self.table.rank.of);
        let mates = (0..).zip(self.table.own.members_at(self.table.mine));
        for (at, mate) in mates.filter(|(_, mate)| mate.peer != me) {
            let is_paired = seat.is_some_and(|(_, rank)| rank.is_paired(Rank { at, of }));
            for ring in [self.own.id, self.below.id, self.above.id] {
                let is_news = |(id, record): &&(PositionId, Arc<Member>)| {
                    *id == ring && !(is_paired && record.peer == from)
                };
                let members = told.iter().filter(is_news);
                let members: Vec<_> = members.map(|(_, record)| record.clone()).collect();
                let is_of_ring = ring == id;
                let is_unheard = !is_paired || !members.is_empty() || told.is_empty();
                let mut positions = match is_of_ring && is_unheard {
                    true => positions.to_vec(),
                    false => Vec::new(),
                };
                for restaffed in members.iter().filter_map(|it| self.restaffed(ring, it)) {
                    if positions.iter().all(|it| it.id() != restaffed.id()) {
                        positions.push(restaffed.clone());
                    }
                }
                if !(members.is_empty() && positions.is_empty()) {
                    self.send_records(cx, mate.peer, ring, members, positions);
                }
            }
        }
    }

    /// The position that a member holds alone: who came while it was vacant does not know it.
    fn restaffed(&self, ring: PositionId, member: &Member) -> Option<&Position> {
        let (seat, ring) = (member.seat?, self.ring(ring)?);
        let is_alone = ring.peers_of(seat.position).eq([member.peer]);
        ring.position(seat.position).filter(|_| is_alone)
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

    fn is_mate(&self, peer: Peer) -> bool {
        let mates = self.table.own.members_at(self.table.mine);
        mates.iter().any(|link| link.peer == peer)
    }

    /// Somebody lives in a ring of mine, and I heard it from a third: those who do not know it yet
    /// hear it from me, unless I hear it again before.
    fn plan_gossip(&mut self, cx: &mut Cx<'_>, ring: PositionId, peer: Peer) {
        if !has_passed(cx.now, self.join.placed_at, SETTLED)
            || self.sync.gossip.len() >= MAX_RECORDS
        {
            return;
        }
        if self.sync.gossip.is_empty() {
            let span = cx.random.between(GOSSIP.0, GOSSIP.1);
            cx.after(span, Timer::Gossip);
        }
        self.sync.gossip.push((ring, peer));
    }

    pub(super) fn on_gossip(&mut self, cx: &mut Cx<'_>) {
        let gossip = std::mem::take(&mut self.sync.gossip);
        let rings = [(self.own.id, Role::Sibling), (self.below.id, Role::Child)];
        for (id, role) in rings {
            let Some(ring) = self.ring(id) else { continue };
            let told = gossip.iter().filter(|(ring, _)| *ring == id);
            let members: Vec<_> = told
                .filter_map(|(_, peer)| ring.living_record(*peer).cloned())
                .collect();
            if members.is_empty() {
                continue;
            }
            let mut positions: Vec<_> = members
                .iter()
                .filter_map(|record| ring.position(record.seat?.position).cloned())
                .collect();
            positions.dedup_by_key(|position| position.id());
            for peer in self.links.linked(role) {
                self.send_records(cx, peer, id, members.clone(), positions.clone());
            }
        }
    }
}
