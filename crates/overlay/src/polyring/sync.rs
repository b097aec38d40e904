//! Keeping rosters alike: a hello with digests on connecting and now and then; where digests
//! differ, a summary, and then only the records that the other side lacks (HEALING.md, rules 2, 3).
//!
//! Everything is verified before it is merged or passed on.

use std::{sync::Arc, time::Duration};

use ringweave_ids::{Peer, Time};
use smallvec::SmallVec;

use super::{
    Cx, Hello, Member, Message, NOWHERE, Occasion, Polyring, Position, PositionId, Ring, Roster,
    Rule, Timer, Version,
    admit::is_sound,
    has_passed,
    message::{MAX_LINEAGE, MAX_RECORDS},
    table::Role,
};
use crate::links::Link;

/// A neighbour that has not connected by itself after this long is dialled.
const DIAL: (Duration, Duration) = (Duration::from_millis(1_000), Duration::from_millis(2_000));

/// How soon rosters that differ are compared in full: most differences are news still under way.
const REPAIR: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1_000));

/// The pace of hellos: this soon after a change, half as often each time (Trickle, Levis et al.,
/// NSDI 2004), up to the slowest.
const BEAT_FIRST: Duration = Duration::from_millis(3_000);
const BEAT_LAST: Duration = Duration::from_secs(30);

/// The slowest of who is connected to no parent: it hears of the ring above from siblings alone, and asks one
/// each time.
const BEAT_UNTOLD: Duration = Duration::from_secs(10);

/// After a change, or without any connection, the next hello is no further away than this.
const BEAT_SOON: Duration = Duration::from_secs(15);

/// How soon a parent is asked again about the same outline, out of turn.
const DOUBT_AGAIN: Duration = Duration::from_millis(500);

/// Who has its place for less long tells no hearsay: it learns what the others know.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// Neighbours that tell a newcomer what is new.
const TOLD_BY: usize = 2;

/// Repairs that wait at once; more are found again by a later hello.
const MAX_REPAIRS: usize = 256;

/// Neighbours beyond the first that a roster is compared with.
const MORE_REPAIRS: usize = 3;

/// Repairs under way, and the paces of what is said unasked.
#[derive(Clone, Debug, Default)]
pub(super) struct Repairs {
    waiting: Vec<Repair>,
    /// Who lives in which ring, by hearsay, and was not told on yet.
    pub(super) gossip: Vec<(PositionId, Peer)>,
    is_dialling: bool,
    /// Whether a comparison is due at some moment to come.
    is_comparing: bool,
    /// Whether I have just come, and am still to compare what I hold with somebody.
    is_new: bool,
    /// Who has just said hello, and asks for no answer: it has come, or holds what I hold.
    content: Option<Peer>,
    turn: u8,
    beat: Duration,
    /// When the next beat is due; a timer that runs out before is an old one.
    beat_at: Time,
    /// With which parent I compared the ring above out of turn, holding what, and when.
    doubt: Option<(Peer, u64, Time)>,
}

/// A roster that differs from a neighbour's.
#[derive(Clone, Debug)]
struct Repair {
    with: Peer,
    ring: PositionId,
    /// The neighbour's digest, as last told.
    told: u64,
    /// Whether it is a new sibling, which knows least.
    is_new: bool,
}

impl Repairs {
    /// Whether to compare with this parent out of turn: not what it was just asked, as it would give the
    /// same answer.
    pub(super) fn may_doubt(&mut self, now: Time, parent: Peer, digest: u64) -> bool {
        let is_same = self.doubt.is_some_and(|(whom, what, at)| {
            (whom, what) == (parent, digest) && !has_passed(now, at, DOUBT_AGAIN)
        });
        if !is_same {
            self.doubt = Some((parent, digest, now));
        }
        !is_same
    }

    pub(super) fn arm_dial(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.is_dialling, true) {
            let span = cx.random.between(DIAL.0, DIAL.1);
            cx.after(span, Timer::Dial);
        }
    }

    /// Whether the peer has just said hello, and asks for no answer.
    pub(super) fn is_content(&self, peer: Peer) -> bool {
        self.content == Some(peer)
    }

    /// The input is through.
    pub(super) const fn rest(&mut self) {
        self.content = None;
    }

    fn arm_comparison(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.is_comparing, true) {
            let span = cx.random.between(REPAIR.0, REPAIR.1);
            cx.after(span, Timer::Repair);
        }
    }

    /// I have taken a place: what I was told of my rings is compared once its neighbours are connected.
    pub(super) fn arrive(&mut self, cx: &mut Cx<'_>) {
        self.is_new = cx.config().without != Some(Rule::Repair);
        if self.is_new {
            self.arm_comparison(cx);
        }
    }

    /// It was heard again: others tell it on.
    pub(super) fn heard(&mut self, ring: PositionId, peer: Peer) {
        self.gossip.retain(|told| *told != (ring, peer));
    }

    /// Whether the beats have been armed.
    pub(super) fn is_beating(&self) -> bool {
        !self.beat.is_zero()
    }

    /// Shows the handles of the neighbours that repairs are planned with.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        self.waiting.iter().for_each(|repair| see(repair.with));
        self.gossip.iter().for_each(|(_, peer)| see(*peer));
    }
}

impl Polyring {
    pub(super) fn on_up(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        self.relink(cx.now, peer, true);
        self.heal.forget(peer);
        if self.heal.is_witness() {
            self.vouch(cx, peer);
        }
        if self.record.is_some() && self.links.is_wanted(peer) {
            if self.links.hold(peer) {
                cx.out.push(crate::Output::Open(peer));
            }
            self.send_hello(cx, peer);
        }
    }

    /// Says hello to one who may be no neighbour, and asks for an answer.
    pub(super) fn greet(&mut self, cx: &mut Cx<'_>, to: Peer) {
        self.say_hello(cx, to, Occasion::Greeting);
    }

    pub(super) fn send_hello(&mut self, cx: &mut Cx<'_>, to: Peer) {
        let occasion = match self.sync.is_new {
            true => Occasion::Arrival,
            false => Occasion::Upkeep,
        };
        self.say_hello(cx, to, occasion);
    }

    fn say_hello(&mut self, cx: &mut Cx<'_>, to: Peer, occasion: Occasion) {
        let Some(member) = self.record.clone() else {
            return;
        };
        let Some(position) = self.own.position(self.position_id()).cloned() else {
            return;
        };
        self.digest_outline(to);
        let held = [&self.own, &self.below, &self.above]
            .into_iter()
            .filter(|ring| ring.id != NOWHERE);
        let digests = held
            .map(|ring| (ring.id, self.digest_for(to, ring)))
            .collect();
        let above = (!self.above.is_empty()).then_some(self.above.id);
        let (center, sample, split) = (self.center(cx), self.sample(cx), self.split_sample(cx));
        cx.send(
            to,
            Message::Hello(Box::new(Hello {
                member,
                position,
                above,
                digests,
                center,
                sample,
                split,
                occasion,
            })),
        );
        if self.below.lives(to) {
            self.send_lineage(cx, to);
        }
    }

    pub(super) fn on_hello(&mut self, cx: &mut Cx<'_>, from: Peer, hello: Box<Hello>) {
        // Most say what is known, by then: nothing is to be taken.
        let is_known = self.holds(&hello);
        let hello = *hello;
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
        let was_wanted = self.links.is_wanted(from);
        self.learn_sample(cx, from, &hello.sample);
        self.learn_split(cx, from, &hello.split);
        self.compare_centers(cx, from, &hello.center);
        if !is_known {
            self.take(cx, from, seat.ring, [hello.member], [hello.position]);
        }
        // Where somebody is lost, the newcomer's keeper may be mistaken, too.
        let is_content = hello.occasion == Occasion::Arrival && !self.memory.has_lost();
        if is_content && !self.is_parent(from) {
            self.sync.content = Some(from);
        } else {
            self.compare(cx, from, hello.digests, was_wanted);
        }
        // It may be taken for dead here: it should hear so, and refute.
        let ring = self.ring(seat.ring);
        let told = ring.and_then(|ring| ring.record(from)).cloned();
        if let Some(told) = told.filter(|told| told.accusation.is_some()) {
            self.send_records(cx, from, seat.ring, vec![told], Vec::new());
        }
        if hello.occasion == Occasion::Greeting {
            self.send_hello(cx, from);
        } else if !self.is_neighbour(from) {
            // It takes me for a neighbour: I am elsewhere by now.
            let record = self.record.clone().into_iter().collect();
            self.send_records(cx, from, seat.ring, record, Vec::new());
        }
        // The table does not know yet who came just now.
        let is_neighbour =
            self.is_neighbour(from) || self.above.peers_of(self.own.id).any(|peer| peer == from);
        if self.is_alone() && self.own.id != PositionId::CENTER && !is_neighbour {
            // I am not the one that is cut off.
            self.succeed(cx);
            self.greet(cx, from);
            return;
        }
        let lacks_above =
            hello.above.is_none() && seat.ring == self.own.id && self.own.id != PositionId::CENTER;
        if lacks_above && !self.above.is_empty() {
            let above = Roster::of(&self.above);
            self.send_records(cx, from, above.ring, above.members, above.positions);
            let (positions, center) = (self.lineage.clone(), self.center(cx).into_vec());
            cx.send(from, Message::Lineage { positions, center });
        }
    }

    /// Where a neighbour says that it holds something else, it is found out what.
    fn compare(
        &mut self,
        cx: &mut Cx<'_>,
        with: Peer,
        digests: impl IntoIterator<Item = (PositionId, u64)>,
        was_wanted: bool,
    ) {
        self.digest_outline(with);
        let is_sibling = self.own.lives(with);
        let mut is_alike = true;
        for (id, digest) in digests.into_iter().take(3) {
            let Some(ring) = self.ring(id) else { continue };
            if self.digest_for(with, ring) != digest {
                is_alike = false;
                let is_new = is_sibling && !was_wanted;
                let (ring, told) = (id, digest);
                let with = match is_sibling && id == self.above.id {
                    true => self.linked_parent().unwrap_or(with),
                    false => with,
                };
                self.plan_repair(
                    cx,
                    Repair {
                        with,
                        ring,
                        told,
                        is_new,
                    },
                );
            }
        }
        if is_alike && is_sibling {
            self.sync.content = Some(with);
        }
    }

    /// A parent that is connected: it knows more of the ring above than any sibling.
    fn linked_parent(&self) -> Option<Peer> {
        self.links.linked(Role::Parent).next()
    }

    /// Whether the rosters have all that a hello says of its sender.
    fn holds(&self, hello: &Hello) -> bool {
        let ring = hello.member.seat.and_then(|seat| self.ring(seat.ring));
        ring.is_some_and(|ring| {
            ring.record(hello.member.peer) == Some(&hello.member)
                && ring.position(hello.position.id()) == Some(&hello.position)
        })
    }

    fn plan_repair(&mut self, cx: &mut Cx<'_>, repair: Repair) {
        if cx.config().without == Some(Rule::Repair) {
            return;
        }
        self.quicken(cx);
        let mut waiting = self.sync.waiting.iter_mut();
        let is_same = |it: &&mut Repair| it.with == repair.with && it.ring == repair.ring;
        if let Some(plan) = waiting.find(is_same) {
            *plan = repair;
            return;
        }
        if self.sync.waiting.len() >= MAX_REPAIRS {
            return;
        }
        self.sync.arm_comparison(cx);
        self.sync.waiting.push(repair);
    }

    /// Compares each roster in full with one neighbour, where news under way did not do it: one knows
    /// most of what the others know. A few more are asked in turn, if they differ even then; what is
    /// still missing after that shows at a later hello.
    pub(super) fn on_repair(&mut self, cx: &mut Cx<'_>) {
        self.sync.is_comparing = false;
        let mut plans = std::mem::take(&mut self.sync.waiting);
        let count = plans.len();
        cx.random.shuffle(&mut plans, count);
        plans.sort_by_key(|plan| plan.is_new);
        let mut compared: SmallVec<[PositionId; 3]> = SmallVec::new();
        if self.sync.is_new {
            self.compare_on_arrival(cx, &mut compared);
        }
        let mut left = count.saturating_sub(1).min(MORE_REPAIRS);
        for plan in plans {
            let Repair {
                with, ring, told, ..
            } = plan;
            let mine = self.ring(ring).map(|it| (it, self.digest_for(with, it)));
            let differs = mine.filter(|(_, digest)| *digest != told);
            let is_next = self.is_up(with) && !compared.contains(&ring);
            if let Some((mine, digest)) = differs.filter(|_| is_next) {
                self.send_summary(cx, with, mine, digest);
                compared.push(ring);
            } else if differs.is_some() && left > 0 {
                left -= 1;
                self.plan_repair(cx, plan);
            }
        }
    }

    /// Who has come holds what its keeper held a few round trips ago: a sibling, or else a parent, tells
    /// what is new since.
    fn compare_on_arrival(&mut self, cx: &mut Cx<'_>, compared: &mut SmallVec<[PositionId; 3]>) {
        self.sync.is_new = false;
        let mut known: SmallVec<[Peer; 64]> = self.links.linked(Role::Sibling).collect();
        if known.is_empty() {
            known.extend(self.links.linked(Role::Parent));
        }
        cx.random.shuffle(&mut known, TOLD_BY);
        known.truncate(TOLD_BY);
        let own = known.iter().map(|with| (self.own.id, *with));
        let parent = self.linked_parent();
        let above = parent.or_else(|| known.first().copied());
        for (id, with) in own.chain(above.map(|with| (self.above.id, with))) {
            if let Some(mine) = self.ring(id) {
                self.send_summary(cx, with, mine, self.digest_for(with, mine));
                compared.push(id);
            }
        }
        let is_early = !has_passed(cx.now, self.join.placed_at, SETTLED);
        if known.is_empty() && is_early && self.links.wanted().next().is_some() {
            self.sync.arrive(cx);
        }
    }

    pub(super) fn send_summary(&self, cx: &mut Cx<'_>, with: Peer, ring: &Ring, digest: u64) {
        let versions = self.versions_for(with, ring);
        let summary = Message::Summary {
            ring: ring.id,
            digest,
            places: ring.place_digest(),
            versions,
        };
        cx.send(with, summary);
    }

    pub(super) fn on_summary(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        id: PositionId,
        (digest, places): (u64, u64),
        mut theirs: Vec<Version>,
    ) {
        if !self.may_share(from) {
            // A stranger; or one of my ring whom I do not know yet, as I have just risen into it.
            return;
        }
        let Some(ring) = self.ring(id) else { return };
        let mine = self.digest_for(from, ring);
        if mine == digest {
            return;
        }
        let members = mine.wrapping_sub(ring.place_digest());
        let is_relabelled = members == digest.wrapping_sub(places);
        theirs.sort_by_key(|version| version.head);
        let lacks = newer(&self.versions_for(from, ring), &theirs);
        let mut wanted = newer(&theirs, &ring.versions());
        wanted.truncate(MAX_RECORDS);
        let (members, mut positions) = self.pick_records(id, &lacks);
        // Those of the same members that nobody holds make no difference.
        if is_relabelled {
            positions = self
                .ring(id)
                .map(|ring| ring.staffed().take(MAX_RECORDS).cloned().collect())
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

    fn pick_records(&self, id: PositionId, heads: &[u64]) -> (Vec<Arc<Member>>, Vec<Position>) {
        let Some(ring) = self.ring(id) else {
            return (Vec::new(), Vec::new());
        };
        let members: Vec<_> = ring.pick(heads).take(MAX_RECORDS).cloned().collect();
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
        mut wanted: Vec<u64>,
    ) {
        if self.record.is_none() {
            return;
        }
        if members.len() > MAX_RECORDS || positions.len() > MAX_RECORDS {
            cx.fault("more records than one message may carry");
            return;
        }
        self.take(cx, from, id, members, positions);
        if !wanted.is_empty() && self.may_share(from) {
            wanted.truncate(MAX_RECORDS);
            wanted.sort_unstable();
            let (members, positions) = self.pick_records(id, &wanted);
            if !members.is_empty() {
                self.send_records(cx, from, id, members, positions);
            }
        }
    }

    pub(super) fn send_lineage(&self, cx: &mut Cx<'_>, child: Peer) {
        if !self.is_up(child) || self.record.is_none() {
            return;
        }
        let (positions, center) = (self.lineage_below(), self.center(cx).into_vec());
        cx.send(child, Message::Lineage { positions, center });
    }

    pub(super) fn on_lineage(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        positions: Vec<Position>,
        center: Vec<Peer>,
    ) {
        let is_parent = self.is_parent(from);
        let is_sibling = self.own.lives(from);
        let is_mine = positions.last().map(Position::id) == Some(self.own.id);
        if !is_mine || !(is_parent || (is_sibling && self.has_no_parent())) {
            return;
        }
        if positions.len() > MAX_LINEAGE || !self.is_line(cx, &positions) {
            cx.fault("ancestors that are none");
            return;
        }
        self.news.has_new_center |= self.learn_center(center);
        self.news.has_new_prefix |= self.follow(positions);
    }

    /// Whether each of these positions was granted in the ring below the one before. Those held already
    /// were looked at when they came.
    fn is_line(&self, cx: &Cx<'_>, positions: &[Position]) -> bool {
        let rings = positions.iter().map(Position::id);
        let mut rings = std::iter::once(PositionId::CENTER).chain(rings);
        positions.iter().enumerate().all(|(level, position)| {
            let known = self.lineage.get(level).map(|known| &known.grant);
            let is_new = known != Some(&position.grant);
            let is_signed =
                || position.grant.founds(cx.host()) && position.grant.is_signed(cx.host());
            rings.next().is_some_and(|ring| is_sound(position, ring)) && (!is_new || is_signed())
        })
    }

    /// Dials whoever is missing and did not come by itself.
    pub(super) fn on_dial(&mut self, cx: &mut Cx<'_>) {
        self.sync.is_dialling = false;
        // Suspects are dialled in their turn.
        let is_missing = |it: &&Link<Role>| !(it.is_held || self.heal.suspects(it.peer));
        let wanted = self.links.wanted().filter(is_missing);
        let missing: Vec<_> = wanted.map(|link| link.peer).collect();
        for peer in missing {
            self.links.hold(peer);
            cx.out.push(crate::Output::Open(peer));
            // Where the connection stands already, no `Up` will follow.
            cx.send(peer, Message::Ping(0));
            self.ask_after(cx, peer);
        }
    }

    pub(super) fn arm_beat(&mut self, cx: &mut Cx<'_>) {
        self.sync.beat = BEAT_FIRST;
        cx.after(BEAT_FIRST, Timer::Beat);
    }

    /// A hello to one neighbour: siblings, children and parents in turn.
    pub(super) fn on_beat(&mut self, cx: &mut Cx<'_>) {
        if cx.now < self.sync.beat_at {
            return;
        }
        self.sync.turn = (self.sync.turn + 1) % 3;
        // Who has no children has twice the time for its parents: siblings know no more than they do.
        let roles = match self.sync.turn {
            0 => [Role::Sibling, Role::Parent, Role::Child],
            1 => [Role::Parent, Role::Child, Role::Sibling],
            _ => [Role::Child, Role::Parent, Role::Sibling],
        };
        let linked = roles.into_iter().find_map(|role| {
            let linked: SmallVec<[Peer; 64]> = self.links.linked(role).collect();
            cx.random.pick(&linked).copied()
        });
        if let Some(peer) = linked {
            self.send_hello(cx, peer);
        }
        let may_repair = cx.config().without != Some(Rule::Repair);
        let is_untold = may_repair && !self.above.is_empty() && self.linked_parent().is_none();
        if is_untold {
            self.ask_sibling(cx);
        }
        let last = if is_untold { BEAT_UNTOLD } else { BEAT_LAST };
        self.sync.beat = (self.sync.beat * 2).min(last);
        let beat = self.sync.beat;
        self.beat_within(cx, beat);
    }

    /// Compares the ring above with a sibling.
    fn ask_sibling(&self, cx: &mut Cx<'_>) {
        let siblings: SmallVec<[Peer; 64]> = self.links.linked(Role::Sibling).collect();
        if let Some(sibling) = cx.random.pick(&siblings) {
            let digest = self.digest_for(*sibling, &self.above);
            self.send_summary(cx, *sibling, &self.above, digest);
        }
    }

    fn beat_within(&mut self, cx: &mut Cx<'_>, span: Duration) {
        let span = cx.random.between(span / 2, span);
        self.sync.beat_at = cx.now + span;
        cx.after(span, Timer::Beat);
    }

    /// Something changed: hellos come at the quick pace again.
    pub(super) fn quicken(&mut self, cx: &mut Cx<'_>) {
        self.sync.beat = BEAT_FIRST;
        if self.sync.beat_at > cx.now + BEAT_SOON {
            self.beat_within(cx, BEAT_SOON);
        }
    }

    pub(super) fn ring(&self, id: PositionId) -> Option<&Ring> {
        [&self.own, &self.below, &self.above]
            .into_iter()
            .find(|ring| ring.id == id && id != NOWHERE)
    }

    pub(super) fn ring_mut(&mut self, id: PositionId) -> Option<&mut Ring> {
        let mut rings = [&mut self.own, &mut self.below].into_iter();
        if let Some(ring) = rings.find(|ring| ring.id == id && id != NOWHERE) {
            return Some(ring);
        }
        let is_above = self.above.id == id && id != NOWHERE;
        is_above.then(|| Arc::make_mut(&mut self.above))
    }

    pub(super) fn is_neighbour(&self, peer: Peer) -> bool {
        self.is_parent(peer) || self.own.lives(peer) || self.below.lives(peer)
    }

    /// Whether it is a member of my parent position, as of the last settling.
    pub(super) fn is_parent(&self, peer: Peer) -> bool {
        self.table.parent.iter().any(|link| link.peer == peer)
    }

    /// Rosters are told to neighbours only, and to who was one until lately.
    pub(super) fn may_share(&self, peer: Peer) -> bool {
        [&self.own, &self.below, &self.above]
            .into_iter()
            .any(|ring| ring.has(peer))
    }
}

/// The heads of those in `mine` that `theirs` lacks or holds older; both are sorted by head.
fn newer(mine: &[Version], theirs: &[Version]) -> Vec<u64> {
    let rank = |version: &Version| (version.incarnation, version.is_accused);
    let mut theirs = theirs.iter().peekable();
    let is_newer = |version: &&Version| {
        while theirs.next_if(|it| it.head < version.head).is_some() {}
        let other = theirs.peek().filter(|it| it.head == version.head);
        other.is_none_or(|other| rank(other) < rank(version))
    };
    mine.iter().filter(is_newer).map(|it| it.head).collect()
}
