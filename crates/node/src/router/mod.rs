//! The router: forwards, delivers, acknowledges and retries, whatever the topology.
//!
//! ```text
//! command ─> sender ─┐                        ┌─> receiver ─> inbox
//!                    ├─> route ─> next hop    │
//! neighbour ─────────┘      └──> arrived ─────┼─> spread, trace
//!                                             └─> directory, inspection
//! ```
//!
//! Hops never acknowledge: the origin of a message keeps a copy, hears from its receiver end to end,
//! and sends again until a deadline (Saltzer, Reed and Clark, "End-to-end arguments in system
//! design", TOCS 1984). Answers of the router and messages of the services are not acknowledged;
//! services ask again until they are answered.

mod asks;
mod commands;
mod control;
mod finder;
mod forward;
mod holder;
mod inbox;
mod jobs;
mod multicast;
mod order;
mod receiver;
mod recent;
mod repair;
mod retry;
mod seen;
mod sender;
mod spread;
mod trace;

pub use forward::at_hop;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use ringweave_ids::{Peer, PeerId, Random, Time, wire};
use ringweave_overlay::{Event as Upkeep, Overlay, Target, View, Wish};

use crate::{
    Cast, Counters, Envelope, Event, Failure, Flow, MAX_PAYLOAD, MessageKind, Output, Placed, Port,
    Tick, Timer, directory::Directory, lru::Lru, records::Records,
};
use asks::Asks;
pub(crate) use asks::{Aim, Purpose, Reply};
use control::Control;
use finder::Finder;
pub(crate) use finder::HOME_PREFIX;
use forward::Correction;
use jobs::Jobs;
use receiver::Inflows;
use sender::Outflows;
use spread::Spreads;

/// Within this span a message, a trace or a request is answered or given up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// Steps in which retries and deadlines are looked at, while there is something to look at.
const RETRY_TICK: Duration = Duration::from_millis(50);
/// The number of an envelope that answers another; such a one is never answered itself.
const ANSWER: u64 = 0;
/// Room kept for what is worked on at once: one thing, as a rule.
const LOCAL: usize = 1;
/// Marks of peers that were answered once.
const ANSWERED: usize = 8;
/// Flows of answers kept, one per peer that is answered again and again.
const ANSWER_FLOWS: usize = 4_096;

/// What the router and the services stand on while they work on one input.
pub(crate) struct Ground<'a, O: Overlay> {
    /// The overlay, for its questions.
    pub(crate) overlay: &'a O,
    /// What its questions may look at.
    pub(crate) view: View<'a, O>,
    /// Now.
    pub(crate) now: Time,
    /// Chance.
    pub(crate) random: &'a mut Random,
    /// Where outputs go.
    pub(crate) out: &'a mut Vec<Output<O>>,
}

impl<O: Overlay> Ground<'_, O> {
    pub(crate) fn tell(&mut self, event: Event<O::Address>) {
        self.out.push(Output::Event(event));
    }

    pub(crate) fn after(&mut self, span: Duration, tick: Tick) {
        self.out.push(Output::Timer(span, Timer::Router(tick)));
    }
}

/// Everything of a peer above its overlay.
pub(crate) struct Router<O: Overlay> {
    pub(crate) me: PeerId,
    incarnation: u64,
    name: Option<String>,
    /// Where this peer sits, or sat last.
    address: Option<O::Address>,
    /// Raised whenever the address changes, so that flows with the old one are rebuilt.
    epoch: u32,
    counters: Counters,
    outflows: Outflows<O::Address>,
    inflows: Inflows<O::Address>,
    spreads: Spreads<O>,
    asks: Asks<O::Address>,
    finder: Finder<O::Address>,
    jobs: Jobs<O::Address>,
    pub(crate) directory: Directory<O::Address>,
    /// Made when there is a record: in a large world most peers have none.
    pub(crate) records: Option<Box<Records<O::Address>>>,
    /// Flows of answers, by the peer that is answered and the port.
    answers: Lru<(PeerId, Port), Arc<Flow<O::Address>>>,
    /// Marks of who was answered lately and has no flow there yet: most are answered once.
    answered: [u16; ANSWERED],
    /// Flows that were given a corrected address, latest last.
    corrections: VecDeque<Correction<O::Address>>,
    /// What arrived for the router and the services, to be worked on once the input is through.
    local: VecDeque<Local<O>>,
    /// What the overlay is to hear once the input is through.
    wishes: Vec<Wish>,
    is_ticking: bool,
}

/// What is worked on once the input at hand is through, so that no call answers itself.
enum Local<O: Overlay> {
    /// Something for the router or a service.
    Arrived(Envelope<O>),
    /// A question of this peer failed right here.
    AskFailed(u64, Failure, Option<O::Address>),
    /// A question was never asked: too many are open.
    Unasked(Purpose<O::Address>),
}

impl<O: Overlay> Router<O> {
    pub(crate) fn new(
        me: PeerId,
        incarnation: u64,
        name: Option<String>,
        address: Option<O::Address>,
    ) -> Self {
        let seed = head(&me) ^ incarnation;
        Self {
            me,
            incarnation,
            name,
            address,
            epoch: 0,
            counters: Counters::default(),
            outflows: Outflows::new(seed),
            inflows: Inflows::new(seed),
            spreads: Spreads::new(seed),
            asks: Asks::default(),
            finder: Finder::new(seed),
            jobs: Jobs::default(),
            directory: Directory::default(),
            records: None,
            answers: Lru::new(ANSWER_FLOWS, seed),
            answered: [0; ANSWERED],
            corrections: VecDeque::new(),
            local: VecDeque::new(),
            wishes: Vec::new(),
            is_ticking: false,
        }
    }

    /// This peer and where it sits, once it has a place.
    pub(crate) fn placed(&self) -> Option<Placed<O::Address>> {
        let address = self.address.clone()?;
        Some(Placed {
            id: self.me,
            address,
            name: self.name.clone(),
        })
    }

    /// The name of another peer, if this one came across it.
    pub(crate) fn known_name(&self, id: &PeerId) -> Option<String> {
        self.finder.name(id)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Appends every handle kept: of broadcasts that are being counted, and of ways to keys.
    pub(crate) fn uses(&self, used: &mut Vec<Peer>) {
        self.spreads.uses(used);
        self.directory.uses(used);
    }

    /// Wants something of the overlay, if it has no structure.
    fn wish(&mut self, ground: &Ground<'_, O>, wish: Wish) {
        if !ground.overlay.is_structured() {
            self.wishes.push(wish);
        }
    }

    /// What the overlay has not heard yet.
    pub(crate) fn take_wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// A neighbour handed an envelope over.
    pub(crate) fn on_envelope(
        &mut self,
        ground: &mut Ground<'_, O>,
        from: Peer,
        envelope: Envelope<O>,
    ) {
        match &envelope.cast {
            Cast::One => self.route(ground, envelope),
            Cast::Several(_) => self.share_out(ground, envelope),
            Cast::Span(_) => self.on_copy(ground, from, envelope),
            Cast::Kept => self.on_kept(ground, from, &envelope),
        }
    }

    /// An envelope to one target ends here.
    fn fail(&mut self, ground: &mut Ground<'_, O>, envelope: &Envelope<O>, failure: Failure) {
        let flow = &envelope.flow;
        let whom = match &flow.target {
            Target::Peer { id, .. } => Some(*id),
            _ => None,
        };
        self.answer_failure(ground, flow, envelope.sequence, whom, failure);
    }

    fn answer_failure(
        &mut self,
        ground: &mut Ground<'_, O>,
        flow: &Flow<O::Address>,
        sequence: u64,
        whom: Option<PeerId>,
        failure: Failure,
    ) {
        let at = self.address.clone();
        if sequence == ANSWER {
            return;
        }
        if flow.origin == self.me && flow.port != Port::APP {
            self.local
                .push_back(Local::AskFailed(sequence, failure, at));
        } else if flow.origin == self.me {
            self.on_failed(ground, flow.port, sequence, whom, failure, at);
        } else {
            let failed = Control::Failed {
                port: flow.port,
                sequence,
                whom,
                failure,
                at,
            };
            self.answer(ground, flow.origin, flow.source.clone(), &failed);
        }
    }

    /// Says something to the router of the peer `to`, which sits at `address`.
    fn answer(
        &mut self,
        ground: &mut Ground<'_, O>,
        to: PeerId,
        address: O::Address,
        control: &Control<O::Address>,
    ) {
        self.post(
            ground,
            to,
            address,
            Port::ROUTER,
            wire::to_vec(control).into(),
        );
    }

    /// Sends a payload to a service of the peer `to`, unacknowledged and without a number.
    pub(crate) fn post(
        &mut self,
        ground: &mut Ground<'_, O>,
        to: PeerId,
        address: O::Address,
        port: Port,
        payload: Bytes,
    ) {
        let Some(flow) = self.answer_flow(to, address, port) else {
            return;
        };
        let envelope = Envelope {
            flow,
            sequence: ANSWER,
            hops: 0,
            is_traced: false,
            cast: Cast::One,
            payload,
        };
        self.route(ground, envelope);
    }

    /// The flow in which a peer is answered; kept, so that links know it by number.
    fn answer_flow(
        &mut self,
        to: PeerId,
        address: O::Address,
        port: Port,
    ) -> Option<Arc<Flow<O::Address>>> {
        let source = self.address.as_ref()?;
        if let Some(flow) = self.answers.get(&(to, port)) {
            let is_there =
                matches!(&flow.target, Target::Peer { address: at, .. } if *at == address);
            if is_there && flow.source == *source {
                return Some(Arc::clone(flow));
            }
        }
        let flow = Arc::new(self.flow(source.clone(), Target::Peer { id: to, address }, port));
        let mark = head(&to) ^ u64::from(port.0);
        let last = &mut self.answered[(mark >> 16) as usize % ANSWERED];
        if *last == mark as u16 {
            self.answers.insert((to, port), Arc::clone(&flow));
        }
        *last = mark as u16;
        Some(flow)
    }

    /// A flow of this peer, with neither life nor settled numbers.
    fn flow(&self, source: O::Address, target: Target<O::Address>, port: Port) -> Flow<O::Address> {
        Flow {
            origin: self.me,
            incarnation: self.incarnation,
            source,
            target,
            port,
            kind: MessageKind::Unicast,
            life: 0,
            first: 0,
        }
    }

    /// Works on what arrived for the router and the services.
    pub(crate) fn settle(&mut self, ground: &mut Ground<'_, O>) {
        if self.local.is_empty() {
            return;
        }
        while let Some(local) = self.local.pop_front() {
            let envelope = match local {
                Local::Arrived(envelope) => envelope,
                Local::AskFailed(number, failure, at) => {
                    self.on_ask_failed(ground, number, failure, at);
                    continue;
                }
                Local::Unasked(purpose) => {
                    let failed = Reply::Failed(Failure::Refused, None);
                    self.replied(ground, purpose, ground.now, failed);
                    continue;
                }
            };
            match envelope.flow.port {
                Port::ROUTER if envelope.is_traced => self.report_hop(ground, &envelope, true),
                Port::ROUTER => self.on_control(ground, &envelope),
                Port::DIRECTORY => self.on_directory(ground, &envelope),
                Port::INSPECT => self.on_inspect(ground, &envelope),
                Port::RECORDS => self.on_records(ground, &envelope),
                _ => self.fault(ground, "a message for a service that is not here"),
            }
        }
        self.local.shrink_to(LOCAL);
    }

    fn on_control(&mut self, ground: &mut Ground<'_, O>, envelope: &Envelope<O>) {
        let from = envelope.flow.origin;
        let life = envelope.flow.incarnation;
        match wire::decode(&envelope.payload, MAX_PAYLOAD) {
            Ok(Control::Acked(acked)) => {
                self.on_acked(ground, from, &envelope.flow.source, life, &acked)
            }
            Ok(Control::Reset {
                incarnation,
                sequence,
            }) if incarnation == self.incarnation => {
                self.on_reset(ground, from, sequence);
            }
            Ok(Control::Reset { .. }) => {}
            Ok(Control::Failed {
                port,
                sequence,
                whom,
                failure,
                at,
            }) => {
                self.on_failed(ground, port, sequence, whom, failure, at);
            }
            Ok(Control::Hop {
                number,
                hop,
                is_last,
                at,
            }) => {
                self.on_hop(ground, from, number, hop, is_last, at);
            }
            Ok(Control::Reached {
                origin,
                incarnation,
                number,
                count,
            }) => {
                self.on_reached(ground, from, (origin, incarnation, number), count);
            }
            Err(_) => self.fault(ground, "a word between routers that does not decode"),
        }
    }

    /// A message of this peer ended at a hop.
    fn on_failed(
        &mut self,
        ground: &mut Ground<'_, O>,
        port: Port,
        sequence: u64,
        whom: Option<PeerId>,
        failure: Failure,
        at: Option<O::Address>,
    ) {
        match (port, whom) {
            (Port::APP, Some(whom)) => {
                self.on_send_failed(ground, &whom, sequence, failure, at);
            }
            (Port::APP, None) => self.on_spread_failed(ground, sequence, failure),
            _ => self.on_ask_failed(ground, sequence, failure, at),
        }
    }

    pub(crate) fn on_tick(&mut self, ground: &mut Ground<'_, O>, tick: Tick) {
        match tick {
            Tick::Acks => {
                self.inflows.rested();
                self.flush_acks(ground);
            }
            Tick::Directory => self.tend_directory(ground),
            Tick::Compare => self.compare(ground),
            Tick::Forget => self.forget_broadcasts(ground),
            Tick::Records => self.tend_records(ground),
            Tick::Retries => {
                self.is_ticking = false;
                // All six are looked at, whatever the others have left to do.
                let is_busy = self.retry_sends(ground)
                    | self.skip_gaps(ground)
                    | self.close_spreads(ground)
                    | self.repair_spreads(ground)
                    | self.hedge_reads(ground)
                    | self.retry_asks(ground);
                if is_busy {
                    self.tick(ground);
                }
            }
        }
    }

    /// Makes sure that retries and deadlines are looked at soon.
    fn tick(&mut self, ground: &mut Ground<'_, O>) {
        if !self.is_ticking {
            self.is_ticking = true;
            ground.after(RETRY_TICK, Tick::Retries);
        }
    }

    /// The overlay told something.
    pub(crate) fn on_upkeep(&mut self, ground: &mut Ground<'_, O>, event: &Upkeep<O::Address>) {
        match event {
            Upkeep::Placed(address) => {
                self.finder.forget_absent();
                if self.address.as_ref() != Some(address) {
                    self.on_moved(ground);
                    self.address = Some(address.clone());
                    self.epoch += 1;
                    self.publish(ground);
                }
            }
            Upkeep::Changed => {
                self.finder.forget_absent();
                self.hurry(ground);
                self.on_changed(ground);
                self.holders_changed(ground);
                self.compare_soon(ground);
            }
            Upkeep::Fault(_) => self.counters.faults += 1,
            Upkeep::Sought { id, address } => self.on_sought(ground, *id, address.clone()),
            Upkeep::Displaced | Upkeep::Refused(_) | Upkeep::Left => {}
        }
    }

    /// The connection to a neighbour is gone.
    pub(crate) fn on_down(&mut self, ground: &mut Ground<'_, O>, peer: Peer) {
        self.give_up_branch(ground, peer);
        self.on_neighbour_lost(ground, peer);
    }

    /// This peer is about to leave.
    pub(crate) fn on_leave(&mut self, ground: &mut Ground<'_, O>) {
        self.withdraw(ground);
    }

    pub(crate) fn fault(&mut self, ground: &mut Ground<'_, O>, kind: &'static str) {
        self.counters.faults += 1;
        ground.tell(Event::Fault(kind));
    }
}

/// The first eight bytes of a PeerId: a hash of it, as public keys are uniform.
pub(crate) fn head(id: &PeerId) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&id.as_bytes()[..8]);
    u64::from_le_bytes(head)
}
