//! Joining: a search walks inward to the center and then outward, ring by ring, to the keeper that
//! has room; the shaping policy chooses the way. A grant only reserves; the newcomer writes its own
//! record, so a lost or doubled grant leaves no ghost (HEALING.md, rules 6 and 7).

use std::{sync::Arc, time::Duration};

use ringweave_ids::{Guid, Peer, Signature, Time};

use super::{
    Cx, Grant, Heading, Member, Message, NOWHERE, Offer, Phase, Policy, Polyring, Position,
    PositionId, Proof, Ring, SETTLE, SWEEP, Seat, Table, Timer, Walk, has_passed,
    message::{MAX_RECORDS, MAX_REFUGES},
    ring::{head, mix},
};
use crate::Event;

/// Hops of a search: more than twice the deepest tree.
pub(super) const MAX_HOPS: u8 = 100;

/// How long a place stays reserved for a newcomer.
const RESERVED: Duration = Duration::from_secs(4);

/// Places reserved at once; a search beyond is answered when one is free.
const MAX_RESERVED: usize = 4_096;

/// How long a search waits before it tries another contact.
const RETRY: Duration = Duration::from_secs(1);

/// How long a newcomer measures round trips before it chooses.
const MEASURE: Duration = Duration::from_millis(400);

/// Heads of branches that a newcomer measures: 16 samples come close to the ideal
/// (Gummadi et al., SIGCOMM 2003).
const CANDIDATES: usize = 16;

/// A newcomer's own search, and the places this peer has reserved for others.
#[derive(Debug, Default)]
pub(super) struct Joining {
    pub(super) placed_at: Time,
    contacts: Vec<Peer>,
    refuges: Vec<Peer>,
    search: Option<Search>,
    reserved: Vec<Reserved>,
    /// Searches that came while all places were granted and none was taken yet.
    waiting: Vec<(Walk, bool)>,
    /// Newcomers sent into a branch since its census was last counted.
    descents: Vec<(PositionId, u64, u32)>,
}

#[derive(Debug)]
struct Search {
    nonce: u64,
    attempt: u32,
    level: u8,
    /// Candidates, when each was asked, and its round trip.
    measured: Vec<(Peer, Time, Option<Duration>)>,
}

#[derive(Debug)]
struct Reserved {
    grant: Arc<Grant>,
    until: Time,
}

/// What a ring's keeper decides about a newcomer.
enum Decision {
    Stay {
        branch: String,
    },
    Descend {
        position: PositionId,
        level: u8,
    },
    Measure,
    /// The ring is full, but nobody in it can be reached yet.
    Wait,
}

impl Joining {
    pub(super) fn sweep(&mut self, now: Time) {
        self.reserved.retain(|reserved| reserved.until > now);
        self.descents.truncate(MAX_RESERVED);
    }

    /// Peers further in, told by the parent: the last resort after all nearer ones are lost.
    pub(super) fn take_refuges(&mut self, mut refuges: Vec<Peer>) {
        refuges.truncate(MAX_REFUGES);
        if !refuges.is_empty() {
            self.refuges = refuges;
        }
    }

    /// Shows every handle that a search or a reserved place names.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        self.contacts
            .iter()
            .chain(&self.refuges)
            .copied()
            .for_each(&mut *see);
        self.reserved
            .iter()
            .for_each(|reserved| see(reserved.grant.peer));
    }

    pub(super) fn held<'a>(&'a self, ring: &'a Ring, now: Time) -> impl Iterator<Item = &'a Grant> {
        let waits = move |reserved: &&Reserved| {
            reserved.until > now
                && reserved.grant.seat.ring == ring.id
                && ring
                    .living_record(reserved.grant.peer)
                    .is_none_or(|record| record.seat != Some(reserved.grant.seat))
        };
        self.reserved
            .iter()
            .filter(waits)
            .map(|reserved| &*reserved.grant)
    }
}

impl Polyring {
    pub(super) fn start(&mut self, cx: &mut Cx<'_>, contacts: Vec<Peer>) {
        if self.phase == Phase::Idle {
            cx.after(SWEEP, Timer::Sweep);
        }
        if self.record.is_some() {
            // It has a place. If that place is all that is left, others may know of more.
            if self.is_alone(cx.me()) {
                self.greet(cx, contacts);
            }
            return;
        }
        if contacts.is_empty() {
            self.found(cx);
            return;
        }
        self.phase = Phase::Joining;
        self.join.contacts = contacts;
        let attempt = self
            .join
            .search
            .as_ref()
            .map_or(0, |search| search.attempt + 1);
        self.seek(cx, attempt);
    }

    /// Founds the network: the first position of the center, granted by the network's own key.
    fn found(&mut self, cx: &mut Cx<'_>) {
        let nonce = cx.random.bits();
        let position = PositionId::new(cx.host(), PositionId::CENTER, &cx.id(cx.me()), nonce);
        let seat = Seat {
            ring: PositionId::CENTER,
            position,
        };
        let grant = Grant {
            peer: cx.me(),
            seat,
            coordinate: 0,
            branch: branch_at(&cx.view.profile.label, 0, cx.config().policy),
            sequence: 0,
            nonce,
            by: None,
            signature: Signature([0; 64]),
        };
        let Some(grant) = grant.sign(cx.host()) else {
            cx.tell(Event::Refused(
                "only a holder of the network's key can found it".into(),
            ));
            return;
        };
        self.own = Ring::new(PositionId::CENTER);
        self.above = Ring::new(NOWHERE);
        self.move_in(cx, grant, Guid::center());
    }

    fn seek(&mut self, cx: &mut Cx<'_>, attempt: u32) {
        let nonce = cx.random.bits();
        let contact = self.join.contacts[attempt as usize % self.join.contacts.len()];
        self.join.search = Some(Search {
            nonce,
            attempt,
            level: 0,
            measured: Vec::new(),
        });
        self.send_walk(cx, contact, nonce, Heading::Inward, 0);
        cx.after(RETRY, Timer::Join(attempt));
    }

    fn send_walk(&mut self, cx: &mut Cx<'_>, to: Peer, nonce: u64, heading: Heading, level: u8) {
        let label = cx.view.profile.label.clone();
        let walk = Walk {
            joiner: cx.me(),
            nonce,
            label,
            level,
            heading,
            hops: 0,
        };
        cx.send(to, Message::Join(walk));
    }

    pub(super) fn on_join_timer(&mut self, cx: &mut Cx<'_>, attempt: u32) {
        if self.phase == Phase::Joining
            && self
                .join
                .search
                .as_ref()
                .is_some_and(|search| search.attempt == attempt)
        {
            self.seek(cx, attempt + 1);
        }
    }

    /// A contact that cannot be reached: on to the next one, at once if it was not tried yet.
    pub(super) fn on_contact_down(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        let Some(search) = &self.join.search else {
            return;
        };
        let (attempt, len) = (search.attempt, self.join.contacts.len());
        if self.phase == Phase::Joining
            && self.join.contacts[attempt as usize % len] == peer
            && (attempt as usize + 1) < len
        {
            self.seek(cx, attempt + 1);
        }
    }

    pub(super) fn on_join(&mut self, cx: &mut Cx<'_>, mut walk: Walk) {
        if self.record.is_none() || walk.joiner == cx.me() {
            return;
        }
        walk.hops += 1;
        if walk.hops > MAX_HOPS {
            cx.fault("a search that never ends");
            return;
        }
        match walk.heading {
            Heading::Inward if self.own.id == PositionId::CENTER => match self.keeper(cx) {
                Some(keeper) if keeper == cx.me() => self.decide(cx, walk, true),
                Some(keeper) => cx.send(keeper, Message::Join(walk)),
                None => {}
            },
            Heading::Inward => {
                let parents: Vec<_> = self
                    .above
                    .members_of(self.own.id)
                    .map(|record| record.peer)
                    .collect();
                if let Some(parent) = parents.into_iter().find(|parent| self.is_up(*parent)) {
                    cx.send(parent, Message::Join(walk));
                }
            }
            Heading::Outward => match self.leader(cx, &self.own, self.position_id()) {
                Some(leader) if leader != cx.me() => cx.send(leader, Message::Join(walk)),
                _ => self.decide(cx, walk, false),
            },
        }
    }

    /// As the keeper of the own (center) ring or of the ring below: where does the newcomer go?
    fn decide(&mut self, cx: &mut Cx<'_>, walk: Walk, is_own: bool) {
        let ring = if is_own { &self.own } else { &self.below };
        let held = self
            .join
            .held(ring, cx.now)
            .find(|grant| grant.peer == walk.joiner)
            .cloned();
        if let Some(grant) = held {
            let grant = Arc::new(grant);
            self.offer(cx, &walk, grant, is_own);
            return;
        }
        match self.choose(cx, ring, &walk) {
            Decision::Wait => {
                self.join
                    .waiting
                    .retain(|(other, _)| other.joiner != walk.joiner);
                if self.join.waiting.len() < MAX_RESERVED {
                    self.join.waiting.push((walk, is_own));
                }
            }
            Decision::Stay { branch } => self.reserve(cx, &walk, branch, is_own),
            Decision::Descend { position, level } => {
                self.descend(cx, Walk { level, ..walk }, position, is_own)
            }
            Decision::Measure => {
                let mut heads: Vec<_> = ring
                    .staffed()
                    .filter_map(|position| self.leader(cx, ring, position.id()))
                    .collect();
                cx.random.shuffle(&mut heads, CANDIDATES);
                heads.truncate(CANDIDATES.min(MAX_RECORDS));
                cx.send(
                    walk.joiner,
                    Message::Choose {
                        nonce: walk.nonce,
                        candidates: heads,
                    },
                );
            }
        }
    }

    /// After a change: those who waited for somebody to take a place are decided upon again.
    pub(super) fn serve_waiting(&mut self, cx: &mut Cx<'_>) {
        for (walk, is_own) in std::mem::take(&mut self.join.waiting) {
            self.decide(cx, walk, is_own);
        }
    }

    fn choose(&self, cx: &Cx<'_>, ring: &Ring, walk: &Walk) -> Decision {
        let taken = ring.staffed().count() + self.join.held(ring, cx.now).count();
        let has_room = taken < usize::from(cx.config().ring_size);
        let part = label_part(&walk.label, walk.level);
        let is_labelled = cx.config().policy == Policy::Labelled && part.is_some();
        let branch = branch_at(&walk.label, walk.level, cx.config().policy);
        if is_labelled {
            let of_branch = ring
                .staffed()
                .filter(|position| position.grant.branch == branch);
            if let Some(position) = of_branch.map(Position::id).min() {
                return Decision::Descend {
                    position,
                    level: walk.level + 1,
                };
            }
        }
        if has_room {
            return Decision::Stay { branch };
        }
        if is_labelled {
            // Peers of one label meet again below the same position, as long as it lives.
            let label = ringweave_ids::Key::of("branch", branch.as_bytes()).head();
            let best = ring
                .staffed()
                .max_by_key(|position| (mix(label ^ position.id().0), position.id()));
            if let Some(position) = best.map(Position::id) {
                return Decision::Descend {
                    position,
                    level: walk.level,
                };
            }
        }
        if cx.config().policy == Policy::Nearest {
            return Decision::Measure;
        }
        let weight = |position: &Position| {
            let version = position.census.as_ref().map_or(0, |census| census.version);
            let sent = self
                .join
                .descents
                .iter()
                .find(|(id, at, _)| *id == position.id() && *at == version);
            position.population() + sent.map_or(0, |(_, _, count)| *count)
        };
        let reachable = |position: &&Position| self.leader(cx, ring, position.id()).is_some();
        let salt = head(&cx.id(walk.joiner));
        let emptiest = ring
            .staffed()
            .filter(reachable)
            .min_by_key(|position| (weight(position), mix(salt ^ position.id().0)));
        emptiest.map_or(Decision::Wait, |position| Decision::Descend {
            position: position.id(),
            level: walk.level,
        })
    }

    fn descend(&mut self, cx: &mut Cx<'_>, walk: Walk, position: PositionId, is_own: bool) {
        let ring = if is_own { &self.own } else { &self.below };
        let version = ring
            .position(position)
            .and_then(|it| it.census.as_ref())
            .map_or(0, |census| census.version);
        let leader = self.leader(cx, ring, position);
        self.join
            .descents
            .retain(|(id, at, _)| *id != position || *at == version);
        match self
            .join
            .descents
            .iter_mut()
            .find(|(id, ..)| *id == position)
        {
            Some((_, _, count)) => *count += 1,
            None => self.join.descents.push((position, version, 1)),
        }
        match leader {
            Some(leader) if leader == cx.me() => self.decide(cx, walk, false),
            Some(leader) => cx.send(
                leader,
                Message::Join(Walk {
                    heading: Heading::Outward,
                    ..walk
                }),
            ),
            None => {}
        }
    }

    fn reserve(&mut self, cx: &mut Cx<'_>, walk: &Walk, branch: String, is_own: bool) {
        self.join.sweep(cx.now);
        if self.join.reserved.len() >= MAX_RESERVED {
            return;
        }
        let ring = if is_own { &self.own } else { &self.below };
        let nonce = cx.random.bits();
        let position = PositionId::new(cx.host(), ring.id, &cx.id(walk.joiner), nonce);
        let granted = ring.positions().map(|position| position.grant.sequence);
        let held = self.join.held(ring, cx.now).map(|grant| grant.sequence);
        let sequence = granted.chain(held).max().map_or(0, |last| last + 1);
        let grant = Grant {
            peer: walk.joiner,
            seat: Seat {
                ring: ring.id,
                position,
            },
            coordinate: self.free_coordinate(cx, ring),
            branch,
            sequence,
            nonce,
            by: Some(cx.me()),
            signature: Signature([0; 64]),
        };
        let Some(grant) = grant.sign(cx.host()) else {
            return;
        };
        self.join.reserved.push(Reserved {
            grant: grant.clone(),
            until: cx.now + RESERVED,
        });
        self.offer(cx, walk, grant, is_own);
    }

    fn offer(&self, cx: &mut Cx<'_>, walk: &Walk, grant: Arc<Grant>, is_own: bool) {
        let (ring, above, prefix) = if is_own {
            (&self.own, &self.above, self.prefix.clone())
        } else {
            (&self.below, &self.own, self.guid.clone())
        };
        let members = |ring: &Ring| ring.living().take(MAX_RECORDS).cloned().collect();
        let positions = |ring: &Ring| ring.staffed().take(MAX_RECORDS).cloned().collect();
        let offer = Offer {
            nonce: walk.nonce,
            grant,
            prefix,
            members: members(ring),
            positions: positions(ring),
            above_members: members(above),
            above_positions: positions(above),
            above: above.id,
        };
        cx.send(walk.joiner, Message::Offer(Box::new(offer)));
    }

    pub(super) fn on_choose(&mut self, cx: &mut Cx<'_>, nonce: u64, candidates: Vec<Peer>) {
        let Some(search) = self
            .join
            .search
            .as_mut()
            .filter(|search| search.nonce == nonce)
        else {
            return;
        };
        search.measured = candidates
            .into_iter()
            .take(CANDIDATES)
            .map(|peer| (peer, cx.now, None))
            .collect();
        search.attempt += 1;
        let attempt = search.attempt;
        for (peer, ..) in &search.measured {
            cx.send(*peer, Message::Ping(nonce));
        }
        cx.after(MEASURE, Timer::Choose(attempt));
    }

    /// Whether the answer belonged to the search for a place.
    pub(super) fn on_measured(&mut self, cx: &mut Cx<'_>, from: Peer, number: u64) -> bool {
        let Some(search) = self
            .join
            .search
            .as_mut()
            .filter(|search| search.nonce == number)
        else {
            return false;
        };
        if let Some((_, asked, took)) = search.measured.iter_mut().find(|(peer, ..)| *peer == from)
        {
            *took = took.or(Some(cx.now.since(*asked)));
        }
        let attempt = search.attempt;
        if !search.measured.is_empty() && search.measured.iter().all(|(_, _, took)| took.is_some())
        {
            self.on_choose_timer(cx, attempt);
        }
        true
    }

    pub(super) fn on_choose_timer(&mut self, cx: &mut Cx<'_>, attempt: u32) {
        let Some(search) = self
            .join
            .search
            .as_mut()
            .filter(|search| search.attempt == attempt)
        else {
            return;
        };
        let measured = std::mem::take(&mut search.measured);
        let answered = measured
            .into_iter()
            .filter_map(|(peer, _, took)| Some((took?, peer)));
        let best = answered.min_by_key(|(took, peer)| (*took, cx.id(*peer)));
        search.attempt += 1;
        let (nonce, attempt, level) = (search.nonce, search.attempt, search.level);
        cx.after(RETRY, Timer::Join(attempt));
        if let Some((_, peer)) = best {
            self.send_walk(cx, peer, nonce, Heading::Outward, level);
        }
    }

    pub(super) fn on_offer(&mut self, cx: &mut Cx<'_>, offer: Offer) {
        let is_mine = self
            .join
            .search
            .as_ref()
            .is_some_and(|search| search.nonce == offer.nonce);
        if self.phase != Phase::Joining || !is_mine {
            return;
        }
        let grant = offer.grant;
        if grant.peer != cx.me() || !grant.is_signed(cx.host()) || grant.coordinate > MAX_COORDINATE
        {
            cx.fault("an offer that is not mine, or not signed");
            return;
        }
        self.own = Ring::new(grant.seat.ring);
        self.above = Ring::new(if grant.seat.ring == PositionId::CENTER {
            NOWHERE
        } else {
            offer.above
        });
        // The first rosters come from the keeper that granted the place: who grants is trusted with
        // telling who else is there. Every record is still signed by its peer.
        for record in offer
            .members
            .into_iter()
            .filter(|record| record.lives_in(grant.seat.ring))
        {
            if record.peer != cx.me() && record.is_signed(cx.host()) {
                self.own.merge_member(cx.host(), record, cx.now);
            }
        }
        for position in offer
            .positions
            .into_iter()
            .filter(|position| is_sound(position, grant.seat.ring))
        {
            self.own.merge_position(position, cx.now);
        }
        if self.above.id != NOWHERE {
            let above = self.above.id;
            for record in offer
                .above_members
                .into_iter()
                .filter(|record| record.lives_in(above))
            {
                if record.is_signed(cx.host()) {
                    self.above.merge_member(cx.host(), record, cx.now);
                }
            }
            for position in offer
                .above_positions
                .into_iter()
                .filter(|position| is_sound(position, above))
            {
                self.above.merge_position(position, cx.now);
            }
        }
        self.move_in(cx, grant, offer.prefix);
    }

    fn move_in(&mut self, cx: &mut Cx<'_>, grant: Arc<Grant>, prefix: Guid) {
        self.join.search = None;
        self.join.placed_at = cx.now;
        self.phase = Phase::Settling;
        self.prefix = prefix;
        let seat = grant.seat;
        self.own.merge_position(
            Position {
                grant: grant.clone(),
                label: None,
                census: None,
            },
            cx.now,
        );
        self.below = Ring::new(seat.position);
        self.occupy(cx, seat, Proof::Grant(grant));
        cx.after(SETTLE, Timer::Ready);
        self.arm_beat(cx);
    }
}

/// A peer that has lost everyone: it keeps its place, so that others can join it, and goes back to
/// the others as soon as it meets one.
impl Polyring {
    pub(super) fn is_alone(&self, me: Peer) -> bool {
        self.wanted_links(me).is_empty()
    }

    /// No neighbour is connected: greets a few that were lost. One without any way up and nobody
    /// beside it looks for another place.
    pub(super) fn on_lonely_beat(&mut self, cx: &mut Cx<'_>) {
        let rings = [&self.own, &self.above, &self.below];
        let mut lost: Vec<_> = rings
            .into_iter()
            .flat_map(Ring::records)
            .filter(|record| record.accusation.is_some())
            .map(|record| record.peer)
            .collect();
        if self.own.id != PositionId::CENTER
            && self.above.id == NOWHERE
            && has_passed(cx.now, self.join.placed_at, STRANDED)
        {
            let me = cx.me();
            let further = self
                .join
                .refuges
                .iter()
                .chain(&lost)
                .chain(&self.join.contacts);
            lost = further.copied().filter(|peer| *peer != me).collect();
            if !lost.is_empty() {
                self.restart(cx, lost);
            }
            return;
        }
        cx.random.shuffle(&mut lost, GREETED);
        self.greet(cx, lost);
    }

    fn greet(&mut self, cx: &mut Cx<'_>, peers: Vec<Peer>) {
        let me = cx.me();
        for peer in peers.into_iter().filter(|peer| *peer != me).take(GREETED) {
            self.send_hello(cx, peer);
        }
    }

    /// Alone, and greeted back by a peer that sits elsewhere: whether I follow it there.
    pub(super) fn rejoin_through(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        members: &[Arc<Member>],
    ) -> bool {
        let sits_elsewhere = |record: &&Arc<Member>| {
            record.peer == from
                && record.seat.is_some_and(|seat| {
                    self.ring(seat.ring).is_none() || seat.ring == PositionId::CENTER
                })
        };
        let is_met = members
            .iter()
            .find(sits_elsewhere)
            .is_some_and(|record| record.is_signed(cx.host()));
        if is_met {
            self.restart(cx, vec![from]);
        }
        is_met
    }

    fn restart(&mut self, cx: &mut Cx<'_>, contacts: Vec<Peer>) {
        for peer in std::mem::take(&mut self.held) {
            cx.out.push(crate::Output::Close(peer));
        }
        self.record = None;
        (self.own, self.below, self.above) =
            (Ring::new(NOWHERE), Ring::new(NOWHERE), Ring::new(NOWHERE));
        (self.prefix, self.guid) = (Guid::center(), Guid::center());
        self.table = Table::default();
        cx.tell(Event::Displaced);
        self.start(cx, contacts);
    }
}

/// Lost peers that a lonely one greets at a time.
const GREETED: usize = 3;

/// How long a peer without a way up waits for its siblings to tell it one.
const STRANDED: Duration = Duration::from_secs(5);

/// The largest coordinate that is taken from the network: tables are arrays of it.
pub(super) const MAX_COORDINATE: u32 = 1 << 14;

/// Whether a position belongs to the ring and its coordinate is bounded.
pub(super) fn is_sound(position: &Position, ring: PositionId) -> bool {
    let of_ring = |seat: Seat| seat.ring == ring && seat.position == position.id();
    position.grant.seat.ring == ring
        && position.coordinate() <= MAX_COORDINATE
        && position
            .label
            .as_ref()
            .is_none_or(|label| of_ring(label.seat))
        && position
            .census
            .as_ref()
            .is_none_or(|census| of_ring(census.seat))
}

/// The `level`-th part of a label: `dk` of `/eu/dk/copenhagen` at level 1.
fn label_part(label: &str, level: u8) -> Option<&str> {
    label
        .split('/')
        .filter(|part| !part.is_empty())
        .nth(usize::from(level))
}

/// The branch that a peer of this label starts at this level: `/eu/dk` at level 1; empty where
/// labels do not shape the network, or the label ends before.
fn branch_at(label: &str, level: u8, policy: Policy) -> String {
    if policy != Policy::Labelled || label_part(label, level).is_none() {
        return String::new();
    }
    let parts = label
        .split('/')
        .filter(|part| !part.is_empty())
        .take(usize::from(level) + 1);
    parts.fold(String::new(), |branch, part| branch + "/" + part)
}
