//! The newcomer's side of a join: it asks a contact, measures where it is told to, and takes the
//! place it is offered.

use std::{sync::Arc, time::Duration};

use ringweave_ids::{Peer, Signature, Time};

use smallvec::SmallVec;

use super::{
    Cx, Grant, Heading, Member, Message, NOWHERE, Offer, Phase, Polyring, Position, PositionId,
    Proof, Ring, Roster, SETTLE, SWEEP, Seat, Timer, Walk,
    admit::{MAX_COORDINATE, is_sound},
    grants::branch_at,
    memory::HINTS,
    message::{MAX_LINEAGE, MAX_RECORDS},
};
use crate::Event;

/// How long a search waits before it tries another contact: this long at first, then twice as long
/// each time, up to eight times. An offer to an earlier attempt is as good: from far away a search may
/// take longer than the first wait.
const RETRY: Duration = Duration::from_secs(1);

/// How long a newcomer measures round trips before it chooses.
const MEASURE: Duration = Duration::from_millis(400);

/// Contacts that a search asks, in turn.
pub(super) const CONTACTS: usize = 16;

/// Positions that a search shuns at most.
pub(super) const SHUNNED: usize = 8;

/// Contacts that one with a place greets at once.
const GREETED: usize = 4;

/// Heads of branches that a newcomer measures: 16 samples come close to the ideal
/// (Gummadi et al., SIGCOMM 2003).
pub(super) const CANDIDATES: usize = 16;

/// A newcomer's search for a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Joining {
    pub(super) placed_at: Time,
    pub(super) contacts: Vec<Peer>,
    /// The next of them to be tried, round and round.
    turn: usize,
    /// Positions below which nobody could be reached, the last one last.
    shunned: Vec<PositionId>,
    search: Option<Box<Search>>,
}

#[derive(Clone, Debug)]
struct Search {
    nonce: u64,
    /// My own record: I have no place.
    member: Arc<Member>,
    attempt: u32,
    /// Whom this attempt asked.
    contact: Peer,
    level: u8,
    /// Candidates, when each was asked, and its round trip.
    measured: Vec<(Peer, Time, Option<Duration>)>,
}

impl Joining {
    /// Whoever says something may know the way, too.
    pub(super) fn meet(&mut self, peer: Peer) {
        if self.contacts.len() < CONTACTS && !self.contacts.contains(&peer) {
            self.contacts.push(peer);
        }
    }

    /// Below this position there is nobody whom I can reach.
    pub(super) fn shun(&mut self, position: PositionId) {
        self.shunned.retain(|known| *known != position);
        if self.shunned.len() == SHUNNED {
            self.shunned.remove(0);
        }
        self.shunned.push(position);
    }

    /// The next contact in turn.
    fn next(&mut self) -> Option<Peer> {
        let at = self.turn.checked_rem(self.contacts.len())?;
        self.turn += 1;
        self.contacts.get(at).copied()
    }

    /// Shows every handle that a search names, or would.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        let known = self.contacts.iter();
        let measured = self.search.iter().flat_map(|search| &search.measured);
        known
            .chain(measured.map(|(peer, ..)| peer))
            .for_each(|peer| see(*peer));
    }
}

impl Polyring {
    pub(super) fn start(&mut self, cx: &mut Cx<'_>, contacts: Vec<Peer>) {
        if self.record.is_some() && !self.sync.is_beating() {
            // Built with a place: only its timers are missing.
            cx.after(SWEEP, Timer::Sweep);
            self.arm_beat(cx);
            return;
        }
        if self.phase == Phase::Idle {
            cx.after(SWEEP, Timer::Sweep);
        }
        if self.record.is_some() {
            // It has a place. Others may know of more than it does.
            let me = cx.me();
            for peer in contacts
                .into_iter()
                .take(GREETED)
                .filter(|peer| *peer != me)
            {
                self.look_for(cx, peer);
                self.greet(cx, peer);
            }
            return;
        }
        if contacts.is_empty() {
            self.found(cx);
            return;
        }
        self.phase = Phase::Joining;
        (self.join.contacts, self.join.turn) = (contacts, 0);
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
        self.below = Ring::new(seat.position);
        self.above = Arc::new(Ring::new(NOWHERE));
        self.move_in(cx, grant, Vec::new());
    }

    /// Whom I ask for a place at this moment, if I do.
    pub(super) fn contact(&self) -> Option<Peer> {
        self.join.search.as_ref().map(|search| search.contact)
    }

    /// Every other attempt asks one whom a connection leads to already, as it may name others while
    /// it lives; the rest try the contacts in turn, as who is connected may be of no help.
    fn next_contact(&mut self, attempt: u32) -> Option<Peer> {
        let up = |peer: &&Peer| attempt % 2 == 1 && self.links.is_up(**peer);
        let connected = self.join.contacts.iter().find(up).copied();
        connected.or_else(|| self.join.next())
    }

    fn seek(&mut self, cx: &mut Cx<'_>, attempt: u32) {
        // The same for all attempts.
        let known = self.join.search.as_ref().map(|search| search.nonce);
        let nonce = known.unwrap_or_else(|| cx.random.bits());
        let Some(contact) = self.next_contact(attempt) else {
            return;
        };
        let member = self.placeless(cx);
        self.join.search = Some(Box::new(Search {
            nonce,
            member,
            attempt,
            contact,
            level: 0,
            measured: Vec::new(),
        }));
        self.send_walk(cx, contact, nonce, Heading::Inward, 0);
        cx.after(RETRY * (1 << attempt.min(3)), Timer::Join(attempt));
    }

    /// My record while I have no place: it ends whatever I was in an earlier life.
    fn placeless(&mut self, cx: &mut Cx<'_>) -> Arc<Member> {
        let known = self.join.search.as_ref().map(|search| &search.member);
        let known = known.filter(|member| member.incarnation == self.incarnation);
        let known = known.cloned();
        known.unwrap_or_else(|| Member::signed(&cx.view, self.incarnation, None, Proof::None))
    }

    /// Who takes me for a neighbour hears that I have no place.
    pub(super) fn tell_placeless(&self, cx: &mut Cx<'_>, to: Peer) {
        if let Some(search) = &self.join.search {
            self.send_records(cx, to, NOWHERE, vec![search.member.clone()], Vec::new());
        }
    }

    fn send_walk(&mut self, cx: &mut Cx<'_>, to: Peer, nonce: u64, heading: Heading, level: u8) {
        let label = cx.view.profile.label.clone();
        let Some(search) = &self.join.search else {
            return;
        };
        // Who offers a place may not be able to dial me: then the offer comes back by those who can.
        let member = search.member.clone();
        let needs_help = search.attempt > 0 || member.is_private;
        let way = needs_help.then(Vec::new);
        let walk = Walk {
            member,
            way,
            home: self.home.clone(),
            shunned: self.join.shunned.clone(),
            nonce,
            label,
            level,
            heading,
            hops: 0,
            hints: SmallVec::new(),
        };
        cx.send(to, Message::Join(Box::new(walk)));
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
        let (attempt, is_asked) = (search.attempt, search.contact == peer);
        let is_another_left = self.join.turn < self.join.contacts.len();
        if self.phase == Phase::Joining && is_asked && is_another_left {
            self.seek(cx, attempt + 1);
        }
    }

    /// A contact names others.
    pub(super) fn on_contacts(&mut self, cx: &mut Cx<'_>, nonce: u64, peers: Vec<Peer>) {
        let search = self.join.search.as_ref();
        if search.is_some_and(|search| search.nonce == nonce) {
            let others = peers.into_iter().filter(|peer| *peer != cx.me());
            others.take(HINTS).for_each(|peer| self.join.meet(peer));
        }
    }

    /// To one who asks me, and not for the first time.
    pub(super) fn name_contacts(&self, cx: &mut Cx<'_>, walk: &Walk) {
        let mut peers: Vec<Peer> = match self.record {
            Some(_) => self
                .links
                .wanted()
                .filter(|link| link.is_up)
                .map(|link| link.peer)
                .collect(),
            None => self.join.contacts.clone(),
        };
        peers.retain(|peer| *peer != walk.joiner());
        cx.random.shuffle(&mut peers, HINTS);
        peers.truncate(HINTS);
        let nonce = walk.nonce;
        cx.send(walk.joiner(), Message::Contacts { nonce, peers });
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
        if offer.grant.peer != cx.me() {
            // It came by me, and its granter may not reach it; those on the way do.
            let next = offer.way.last().copied().unwrap_or(offer.grant.peer);
            if self.is_up(next) {
                self.pass_offer(cx, offer);
            }
            return;
        }
        let is_mine = self
            .join
            .search
            .as_ref()
            .is_some_and(|search| search.nonce == offer.nonce);
        if self.phase != Phase::Joining || !is_mine {
            return;
        }
        let grant = offer.grant;
        let is_sound = grant.coordinate <= MAX_COORDINATE && offer.own.ring == grant.seat.ring;
        if !grant.is_signed(cx.host()) || !is_sound {
            cx.fault("an offer that its keeper did not sign");
            return;
        }
        // The first rosters come from the keeper that granted the place: who grants is trusted with
        // telling who else is there. Every record is still signed by its peer.
        let is_known = offer
            .own
            .positions
            .iter()
            .any(|it| it.id() == grant.seat.position);
        if !is_known && !grant.founds(cx.host()) {
            cx.fault("an offer of a seat in a position that is not there");
            return;
        }
        self.own = Ring::new(offer.own.ring);
        self.below = Ring::new(grant.seat.position);
        let above = offer.above.as_ref().map_or(NOWHERE, |above| above.ring);
        self.above = Arc::new(Ring::new(above));
        let below = offer
            .below
            .filter(|below| below.ring == grant.seat.position);
        let rosters = [Some(offer.own), offer.above, below];
        for roster in rosters.into_iter().flatten() {
            self.take_roster(cx, roster);
        }
        self.inherit(cx, &offer.hints, offer.split);
        let mut lineage = offer.lineage;
        lineage.truncate(MAX_LINEAGE);
        self.move_in(cx, grant, lineage);
    }

    /// Takes a roster from one who is trusted with it.
    pub(super) fn take_roster(&mut self, cx: &mut Cx<'_>, roster: Roster) {
        let (id, me) = (roster.ring, cx.me());
        let is_above = id == self.above.id;
        let Some(ring) = self.ring_mut(id) else {
            return;
        };
        ring.reserve(roster.members.len() + 1, roster.positions.len() + 1);
        let members = roster.members.into_iter().take(MAX_RECORDS);
        for record in members.filter(|record| record.peer != me) {
            if record.is_signed(cx.host()) && record.is_accusation_signed(cx.host()) {
                ring.merge_member(cx.host(), record, cx.now);
            }
        }
        let positions = roster.positions.into_iter().take(MAX_RECORDS);
        for position in positions.filter(|position| is_sound(position, id)) {
            let position = if is_above {
                position.uncounted()
            } else {
                position
            };
            ring.merge_position(position, cx.now);
        }
    }

    /// Contacts that were tried and not reached may live beyond a split of which nobody else here knows
    /// any more.
    fn miss_contacts(&mut self, cx: &mut Cx<'_>) {
        let tried = self.join.contacts.iter().take(self.join.turn);
        let missed: SmallVec<[Peer; CONTACTS]> =
            tried.copied().filter(|it| !self.is_up(*it)).collect();
        for contact in missed {
            self.look_for(cx, contact);
        }
    }

    fn move_in(&mut self, cx: &mut Cx<'_>, grant: Arc<Grant>, lineage: Vec<Position>) {
        (self.join.search, self.home) = (None, None);
        self.join.placed_at = cx.now;
        self.phase = Phase::Settling;
        self.follow(lineage);
        let seat = grant.seat;
        if self.own.position(seat.position).is_none() {
            self.own
                .merge_position(Position::new(grant.clone(), None, None), cx.now);
        }
        self.occupy(cx, seat, Proof::Grant(grant));
        self.sync.arrive(cx);
        self.miss_contacts(cx);
        cx.after(SETTLE, Timer::Ready);
        self.arm_beat(cx);
    }
}
