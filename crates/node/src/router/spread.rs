//! Broadcasts: every peer once, and the count of those reached on the way back.
//!
//! The overlay says which copies to send on; a window of numbers per origin drops what comes twice.
//! What is missed all the same is made good by comparing with neighbours: [`repair`](super::repair).
//! The count is a convergecast (Segall, "Distributed network protocols", IEEE Trans. IT 1983): each
//! peer answers the neighbour it heard from once all its own copies have answered, or its time is up,
//! which is shorter the further out it sits, so that partial counts still arrive.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use ringweave_ids::{Peer, PeerId, Time, wire};
use ringweave_overlay::{Overlay, Reach, Target, Wish};
use smallvec::SmallVec;

use super::{
    ANSWER, DEADLINE, Ground, Router,
    control::Control,
    forward::{HOP_LIMIT, flow_hash},
    receiver::LAST_NUMBER,
    recent::{Offers, Recent},
    seen::Seen,
};
use crate::{
    Cast, Envelope, Event, Failure, Flow, Frame, Lane, MAX_PAYLOAD, Message, MessageKind, Output,
    Port, Ticket, Turn, lru::Lru,
};

/// Origins whose numbers are remembered.
const SEEN: usize = 8_192;
/// Broadcasts whose copies have not all answered; the oldest is counted no further.
const BRANCHES: usize = 1_024;
/// Own broadcasts on their way to the holder of a branch.
const ROUTED: usize = 1_024;
/// How long the origin waits for the count.
const PATIENCE: Duration = Duration::from_secs(4);
/// How much less each hop waits: time for its answer to travel.
const PER_HOP: Duration = Duration::from_millis(150);
/// The least that any peer waits.
const LEAST_PATIENCE: Duration = Duration::from_millis(300);

/// Which broadcast: its origin, the life of that, and the number.
pub(super) type Name = (PeerId, u64, u64);

/// Broadcasts that came by.
pub(super) struct Spreads<O: Overlay> {
    pub(super) seen: Lru<PeerId, Seen>,
    branches: Lru<Name, Branch<O>>,
    routed: BTreeMap<u64, Routed>,
    last: u64,
    pub(super) copies: Vec<(Peer, O::Span)>,
    /// When this peer got its first place: what was on its way before is not for it.
    pub(super) placed: Time,
    /// Nothing while there were no broadcasts lately.
    pub(super) recent: Option<Box<Recent<O>>>,
}

/// A broadcast whose copies have not all answered.
struct Branch<O: Overlay> {
    up: Up<O::Address>,
    span: O::Span,
    /// Who got a copy, and whether it has answered.
    copies: SmallVec<[(Peer, bool); 8]>,
    count: u64,
    started: Time,
    latest: Time,
    due: Time,
}

/// Who hears the count.
#[derive(Clone)]
pub(super) enum Up<A> {
    /// The application: the broadcast began here.
    Origin(Ticket),
    /// The neighbour that handed it over.
    Neighbour(Peer),
    /// The origin, far away: it is spread from here below.
    Far(PeerId, A),
}

/// An own broadcast on its way to the holder of a branch.
struct Routed {
    ticket: Ticket,
    started: Time,
    /// Whether a copy came back: this peer is in the branch itself.
    is_inside: bool,
}

impl<O: Overlay> Spreads<O> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seen: Lru::new(SEEN, seed),
            branches: Lru::new(BRANCHES, seed),
            routed: BTreeMap::new(),
            last: 0,
            copies: Vec::new(),
            placed: Time::ZERO,
            recent: None,
        }
    }

    /// Appends the neighbours that got copies, those that wait for counts, and those that may know more.
    pub(super) fn uses(&self, used: &mut Vec<Peer>) {
        for branch in self.branches.values() {
            used.extend(branch.copies.iter().map(|(peer, _)| *peer));
            if let Up::Neighbour(peer) = branch.up {
                used.push(peer);
            }
        }
        if let Some(recent) = &self.recent {
            recent.uses(used);
        }
    }
}

impl<O: Overlay> Branch<O> {
    /// Whether nothing more is waited for.
    fn is_answered(&self) -> bool {
        self.copies.iter().all(|(_, has_answered)| *has_answered)
    }
}

impl<A> Up<A> {
    /// The neighbour that handed the broadcast over, if one did.
    fn neighbour(&self) -> Option<Peer> {
        match self {
            Self::Neighbour(peer) => Some(*peer),
            Self::Origin(_) | Self::Far(..) => None,
        }
    }
}

fn patience(hops: u8) -> Duration {
    PATIENCE
        .saturating_sub(PER_HOP * u32::from(hops))
        .max(LEAST_PATIENCE)
}

impl<O: Overlay> Router<O> {
    /// The application broadcasts.
    pub(super) fn broadcast(
        &mut self,
        ground: &mut Ground<'_, O>,
        ticket: Ticket,
        below: Option<O::Address>,
        payload: Bytes,
    ) {
        let is_full = below.is_some() && self.spreads.routed.len() >= ROUTED;
        let source = match self.address.clone() {
            _ if payload.len() > MAX_PAYLOAD => Err(Failure::TooLarge),
            _ if is_full => Err(Failure::Refused),
            Some(source) => Ok(source),
            None => Err(Failure::NoRoute),
        };
        let source = match source {
            Ok(source) => source,
            Err(failure) => return ground.tell(Event::Spread(ticket, Err(failure))),
        };
        let now = ground.now;
        self.counters.sent += 1;
        self.spreads.last += 1;
        let number = self.spreads.last;
        let name = (self.me, self.incarnation, number);
        let is_all = below.is_none();
        let flow = match below {
            Some(address) => self.flow_below(source, address, number),
            None => self.flow_to_all(ground, source, number),
        };
        let envelope = Envelope {
            flow,
            sequence: number,
            hops: 0,
            is_traced: false,
            cast: Cast::One,
            payload,
        };
        if is_all {
            self.is_new(ground, name);
            self.recent(ground).keep(&envelope, None, now);
            let span = ground.overlay.span(Reach::All);
            self.spread(ground, &envelope, &span, Up::Origin(ticket), 1);
        } else {
            let routed = Routed {
                ticket,
                started: now,
                is_inside: false,
            };
            self.spreads.routed.insert(number, routed);
            self.tick(ground);
            self.route(ground, envelope);
        }
    }

    /// The flow of broadcasts to everyone: the same one as long as they follow each other.
    fn flow_to_all(
        &mut self,
        ground: &mut Ground<'_, O>,
        source: O::Address,
        number: u64,
    ) -> Arc<Flow<O::Address>> {
        let epoch = self.epoch;
        let last = self.recent(ground).own.take();
        let flow = match last {
            Some((built, flow)) if built == epoch => flow,
            last => {
                let first = last.map_or(number, |(_, flow)| flow.first);
                self.broadcast_flow(source, Target::All, first)
            }
        };
        self.recent(ground).own = Some((epoch, Arc::clone(&flow)));
        flow
    }

    /// The flow of a broadcast to a branch. Others do not get it, so nobody waits for its number.
    fn flow_below(
        &mut self,
        source: O::Address,
        address: O::Address,
        number: u64,
    ) -> Arc<Flow<O::Address>> {
        if let Some(recent) = &mut self.spreads.recent {
            recent.own = None;
        }
        self.broadcast_flow(source, Target::Prefix(address), number)
    }

    fn broadcast_flow(
        &self,
        source: O::Address,
        target: Target<O::Address>,
        first: u64,
    ) -> Arc<Flow<O::Address>> {
        Arc::new(Flow {
            kind: MessageKind::Broadcast,
            first,
            ..self.flow(source, target, Port::APP)
        })
    }

    /// A broadcast to a branch has reached its holder.
    pub(super) fn on_prefix(&mut self, ground: &mut Ground<'_, O>, envelope: Envelope<O>) {
        let flow = &envelope.flow;
        let span = ground.overlay.span(Reach::Below);
        if flow.origin == self.me {
            let Some(routed) = self.spreads.routed.remove(&envelope.sequence) else {
                return;
            };
            let now = ground.now;
            self.is_new(ground, (self.me, self.incarnation, envelope.sequence));
            self.recent(ground).keep(&envelope, None, now);
            self.spread(ground, &envelope, &span, Up::Origin(routed.ticket), 1);
            return;
        }
        let up = Up::Far(flow.origin, flow.source.clone());
        self.take_copy(ground, &envelope, &span, up);
    }

    /// A neighbour handed a copy of a broadcast over.
    pub(super) fn on_copy(
        &mut self,
        ground: &mut Ground<'_, O>,
        from: Peer,
        envelope: Envelope<O>,
    ) {
        let Cast::Span(span) = &envelope.cast else {
            return;
        };
        self.take_copy(ground, &envelope, span, Up::Neighbour(from));
    }

    fn take_copy(
        &mut self,
        ground: &mut Ground<'_, O>,
        envelope: &Envelope<O>,
        span: &O::Span,
        up: Up<O::Address>,
    ) {
        let (flow, now) = (&envelope.flow, ground.now);
        let name = (flow.origin, flow.incarnation, envelope.sequence);
        if !flow.is_broadcast() {
            return self.fault(ground, "a copy of what is no broadcast");
        }
        if envelope.sequence >= LAST_NUMBER {
            return self.fault(ground, "a number that no flow reaches");
        }
        if !self.is_new(ground, name) {
            self.counters.duplicates += 1;
            self.counters.spread_twice += 1;
            if let Some(peer) = up.neighbour() {
                self.wish(ground, Wish::Prune(peer));
            }
            return self.answer_count(ground, name, &up, 0, Duration::ZERO);
        }
        let count = if flow.origin == self.me {
            // A branch that this peer is in: it holds the message already.
            let Some(routed) = self.spreads.routed.get_mut(&envelope.sequence) else {
                return;
            };
            routed.is_inside = true;
            1
        } else {
            let source = up.neighbour().map(|peer| (peer, span.clone()));
            self.take(ground, envelope, source)
        };
        if let Some(recent) = &mut self.spreads.recent {
            recent.found(&name);
        }
        self.recent(ground).keep(envelope, up.neighbour(), now);
        self.spread(ground, envelope, span, up, count);
    }

    /// Hands a new broadcast to the application; gives how many peers hold it now.
    pub(super) fn take(
        &mut self,
        ground: &mut Ground<'_, O>,
        envelope: &Envelope<O>,
        source: Option<(Peer, O::Span)>,
    ) -> u64 {
        let flow = &envelope.flow;
        let message = Message {
            kind: MessageKind::Broadcast,
            from: flow.origin,
            sequence: envelope.sequence,
            payload: envelope.payload.clone(),
            hops: envelope.hops,
            turn: Turn::InOrder,
        };
        self.deliver_in_order(ground, flow.incarnation, flow.first, message, source)
    }

    /// Sends the copies on, and waits for their counts; only announces those that are to be announced.
    pub(super) fn spread(
        &mut self,
        ground: &mut Ground<'_, O>,
        envelope: &Envelope<O>,
        span: &O::Span,
        up: Up<O::Address>,
        count: u64,
    ) {
        let flow = &envelope.flow;
        let name = (flow.origin, flow.incarnation, envelope.sequence);
        let mut copies = std::mem::take(&mut self.spreads.copies);
        if envelope.hops < HOP_LIMIT {
            ground.overlay.fan_out(span, flow_hash(flow), &mut copies);
        }
        let mut sent = SmallVec::new();
        let mut offers = Offers::new();
        for (peer, span) in copies.drain(..) {
            if up.neighbour() == Some(peer) {
                continue;
            }
            if ground.overlay.announces(&span) {
                if let Some(kept) = self.spreads.recent.as_ref().and_then(|it| it.find(&name)) {
                    offers.add(peer, span, kept, ground.now);
                }
                continue;
            }
            let copy = Envelope {
                flow: Arc::clone(flow),
                sequence: envelope.sequence,
                hops: envelope.hops + 1,
                is_traced: false,
                cast: Cast::Span(span),
                payload: envelope.payload.clone(),
            };
            self.counters.spread += 1;
            self.hand_over(ground, peer, copy);
            sent.push((peer, false));
        }
        self.spreads.copies = copies;
        self.offer(ground, offers);
        if sent.is_empty() {
            return self.answer_count(ground, name, &up, count, Duration::ZERO);
        }
        let now = ground.now;
        let due = now + patience(envelope.hops);
        let branch = Branch {
            up,
            span: span.clone(),
            copies: sent,
            count,
            started: now,
            latest: now,
            due,
        };
        if let (_, Some((name, old))) = self.spreads.branches.insert(name, branch) {
            self.close_branch(ground, name, &old);
        }
        self.tick(ground);
    }

    /// A copy was counted, or an own broadcast to a branch.
    pub(super) fn on_reached(
        &mut self,
        ground: &mut Ground<'_, O>,
        from: PeerId,
        name: Name,
        count: u64,
    ) {
        let now = ground.now;
        let peer = ground.view.host.peer(&from);
        if let Some(branch) = self.spreads.branches.get(&name) {
            let mut open = branch
                .copies
                .iter_mut()
                .filter(|(_, has_answered)| !has_answered);
            let answers = open.find(|(waiting, _)| Some(*waiting) == peer);
            if let Some((_, has_answered)) = answers {
                *has_answered = true;
                branch.count = branch.count.saturating_add(count);
                branch.latest = now;
                if branch.is_answered()
                    && let Some(branch) = self.spreads.branches.remove(&name)
                {
                    self.close_branch(ground, name, &branch);
                }
                return;
            }
        }
        if (name.0, name.1) == (self.me, self.incarnation)
            && let Some(routed) = self.spreads.routed.remove(&name.2)
        {
            let outside = u64::from(!routed.is_inside);
            let took = now.since(routed.started);
            let reached = count.saturating_add(outside);
            ground.tell(Event::Spread(routed.ticket, Ok((reached, took))));
        }
    }

    /// An own broadcast to a branch did not get to the branch.
    pub(super) fn on_spread_failed(
        &mut self,
        ground: &mut Ground<'_, O>,
        number: u64,
        failure: Failure,
    ) {
        if let Some(routed) = self.spreads.routed.remove(&number) {
            ground.tell(Event::Spread(routed.ticket, Err(failure)));
        }
    }

    /// Answers with partial counts where the time is up; says whether any broadcast is open.
    pub(super) fn close_spreads(&mut self, ground: &mut Ground<'_, O>) -> bool {
        let now = ground.now;
        let mut is_open = false;
        for slot in self.spreads.branches.slots() {
            let Some((name, branch)) = self.spreads.branches.at(slot) else {
                continue;
            };
            if branch.due > now {
                is_open = true;
                continue;
            }
            let name = *name;
            if let Some(branch) = self.spreads.branches.remove(&name) {
                self.close_branch(ground, name, &branch);
            }
        }
        let is_late = |routed: &Routed| now.since(routed.started) >= DEADLINE;
        let late = self
            .spreads
            .routed
            .iter()
            .filter(|(_, routed)| is_late(routed));
        for number in late.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.on_spread_failed(ground, number, Failure::Timeout);
        }
        is_open || !self.spreads.routed.is_empty()
    }

    /// A neighbour is gone: nothing more is heard of the copies it has. Who is in its place now may
    /// lack them, and what it was to send on.
    pub(super) fn give_up_branch(&mut self, ground: &mut Ground<'_, O>, peer: Peer) {
        let mut offers = Offers::new();
        let mut copies = std::mem::take(&mut self.spreads.copies);
        for slot in self.spreads.branches.slots() {
            let Some((name, branch)) = self.spreads.branches.at(slot) else {
                continue;
            };
            let mut open = branch
                .copies
                .iter_mut()
                .filter(|(_, has_answered)| !has_answered);
            let Some((_, has_answered)) = open.find(|(waiting, _)| *waiting == peer) else {
                continue;
            };
            *has_answered = true;
            let name = *name;
            if let Some(kept) = self.spreads.recent.as_ref().and_then(|it| it.find(&name)) {
                ground
                    .overlay
                    .fan_out(&branch.span, flow_hash(&kept.flow), &mut copies);
                for (to, span) in copies.drain(..) {
                    if !branch.copies.iter().any(|(served, _)| *served == to) {
                        offers.add(to, span, kept, ground.now);
                    }
                }
            }
            if branch.is_answered()
                && let Some(branch) = self.spreads.branches.remove(&name)
            {
                self.close_branch(ground, name, &branch);
            }
        }
        self.spreads.copies = copies;
        self.offer(ground, offers);
    }

    fn close_branch(&mut self, ground: &mut Ground<'_, O>, name: Name, branch: &Branch<O>) {
        let took = branch.latest.since(branch.started);
        self.answer_count(ground, name, &branch.up, branch.count, took);
    }

    fn answer_count(
        &mut self,
        ground: &mut Ground<'_, O>,
        (origin, incarnation, number): Name,
        up: &Up<O::Address>,
        count: u64,
        took: Duration,
    ) {
        let reached = Control::Reached {
            origin,
            incarnation,
            number,
            count,
        };
        match up {
            Up::Origin(ticket) => ground.tell(Event::Spread(*ticket, Ok((count, took)))),
            Up::Far(id, address) => self.answer(ground, *id, address.clone(), &reached),
            Up::Neighbour(peer) => {
                // Straight back over the link it came by, wherever that neighbour sits.
                let id = ground.view.id(*peer);
                let there = ground.overlay.locate(&ground.view, &id);
                let Some(address) = there.or_else(|| self.address.clone()) else {
                    return;
                };
                let Some(flow) = self.answer_flow(id, address, Port::ROUTER) else {
                    return;
                };
                let envelope = Envelope {
                    flow,
                    sequence: ANSWER,
                    hops: 1,
                    is_traced: false,
                    cast: Cast::One,
                    payload: wire::to_vec(&reached).into(),
                };
                ground.out.push(Output::Send(
                    *peer,
                    Lane::Control,
                    Frame::Envelope(envelope),
                ));
            }
        }
    }
}
