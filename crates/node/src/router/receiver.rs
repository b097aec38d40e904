//! Messages that arrive: doubles dropped, gaps held back, the rest into the inbox, in order.
//!
//! One state per origin. `expected` is the first number that is not settled; what lies beyond it is
//! held until the gap closes or has been open for [`GAP_PATIENCE`]. A number that was skipped or met
//! a full inbox is remembered as refused, so that a retry hears so instead of arriving out of order.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use ringweave_ids::{PeerId, Time, wire};
use ringweave_overlay::Overlay;

use super::{
    ANSWER, Ground, Router,
    control::{Acked, Control},
    inbox::Inbox,
    sender::WINDOW,
};
use crate::{Cast, Envelope, Flow, Message, Port, Tick, Turn, lru::Lru};

/// Origins whose numbers are remembered.
const INFLOWS: usize = 8_192;
/// Messages of one origin held back beyond a gap; more are dropped, and come again.
const HELD: usize = 64;
/// Payload bytes held back over all origins: as much as the inbox.
const HELD_BYTES: usize = 16 << 20;
/// Numbers end here; a flow of a million messages a second gets here after 146,000 years.
pub(super) const LAST_NUMBER: u64 = 1 << 62;
/// How long a gap stays open before it is skipped.
const GAP_PATIENCE: Duration = Duration::from_secs(2);
/// How long an acknowledgement may wait for company.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// Messages that one acknowledgement waits for at most.
const ACK_EVERY: u32 = 64;
/// Room below which a sender may have to stop.
const LITTLE: u32 = 256;
/// Flows found by their pointer instead of their origin; a power of two.
const SHORTCUTS: usize = 8;

/// All flows from origins, and where they end.
pub(super) struct Inflows<A> {
    flows: Lru<PeerId, Inflow<A>>,
    pub(super) inbox: Inbox,
    /// A flow that was here lately, and its slot. It holds the flow, so the pointer names it alone.
    shortcuts: Option<Box<Shortcuts<A>>>,
    /// Slots that owe an acknowledgement.
    owing: Vec<u32>,
    /// Slots that hold messages beyond a gap.
    gapped: Vec<u32>,
    is_acking: bool,
    /// Slots that were told of little room, and may wait for more.
    starved: Vec<u32>,
    held_bytes: usize,
    own: u64,
}

type Shortcuts<A> = [Option<(Arc<Flow<A>>, u32)>; SHORTCUTS];

struct Inflow<A> {
    incarnation: u64,
    expected: u64,
    /// Messages beyond a gap, by number.
    held: Vec<Message>,
    gap_since: Time,
    is_gapped: bool,
    /// Runs (start, length) of refused numbers, at most a window old.
    refused: VecDeque<(u64, u64)>,
    owed: u32,
    is_owing: bool,
    acked: Option<Time>,
    /// The room that was told last.
    told: u32,
    hops: u8,
    /// Where answers go.
    source: A,
}

impl<A> Inflows<A> {
    /// The timer for acknowledgements has run out.
    pub(super) fn rested(&mut self) {
        self.is_acking = false;
    }

    pub(super) fn new(seed: u64) -> Self {
        Self {
            flows: Lru::new(INFLOWS, seed),
            inbox: Inbox::default(),
            shortcuts: None,
            owing: Vec::new(),
            gapped: Vec::new(),
            is_acking: false,
            starved: Vec::new(),
            held_bytes: 0,
            own: 0,
        }
    }

    fn shorten(&mut self, shortcut: usize, flow: &Arc<Flow<A>>, slot: u32) {
        let fresh = || Box::new(std::array::from_fn(|_| None));
        self.shortcuts.get_or_insert_with(fresh)[shortcut] = Some((Arc::clone(flow), slot));
    }

    /// The number of the next message to oneself.
    pub(super) fn next_own(&mut self) -> u64 {
        self.own += 1;
        self.own
    }
}

impl<A> Inflow<A> {
    fn refuse(&mut self, number: u64) {
        match self.refused.back_mut() {
            Some((start, length)) if *start + *length == number => *length += 1,
            _ => self.refused.push_back((number, 1)),
        }
    }

    fn forget_old_refusals(&mut self) {
        let horizon = self.expected.saturating_sub(WINDOW as u64);
        while self
            .refused
            .front()
            .is_some_and(|(start, length)| start + length <= horizon)
        {
            self.refused.pop_front();
        }
    }

    fn held_bits(&self) -> u64 {
        let after = self.expected + 1;
        let bits = self
            .held
            .iter()
            .filter_map(|message| message.sequence.checked_sub(after));
        bits.filter(|bit| *bit < 64)
            .fold(0, |bits, bit| bits | 1 << bit)
    }
}

impl<O: Overlay> Router<O> {
    /// A message for the application arrived from another peer, for this one alone.
    pub(super) fn on_message(
        &mut self,
        ground: &mut Ground<'_, O>,
        flow: &Arc<Flow<O::Address>>,
        sequence: u64,
        hops: u8,
        payload: Bytes,
    ) {
        if flow.origin == self.me {
            return self.fault(ground, "a message of this peer's own came back");
        }
        if sequence.max(flow.first) >= LAST_NUMBER {
            return self.fault(ground, "a number that no flow reaches");
        }
        let Some(slot) = self.inflow(ground, flow, sequence) else {
            return;
        };
        let Some((_, inflow)) = self.inflows.flows.at(slot) else {
            return;
        };
        inflow.hops = hops;
        let message = Message {
            kind: flow.kind,
            from: flow.origin,
            sequence,
            payload,
            hops,
            turn: Turn::InOrder,
        };
        if sequence == inflow.expected {
            self.accept(ground, slot, message);
            self.accept_held(ground, slot);
        } else if sequence < inflow.expected {
            self.counters.duplicates += 1;
        } else {
            self.hold(ground, slot, message);
        }
        self.owe(ground, slot);
    }

    /// The state of a flow's origin, brought up to what the flow says of itself; nothing if the
    /// message must not be delivered.
    fn inflow(
        &mut self,
        ground: &mut Ground<'_, O>,
        flow: &Arc<Flow<O::Address>>,
        sequence: u64,
    ) -> Option<u32> {
        let shortcut = (Arc::as_ptr(flow) as usize >> 4) % SHORTCUTS;
        if let Some(shortcuts) = &self.inflows.shortcuts
            && let Some((known, slot)) = &shortcuts[shortcut]
            && Arc::ptr_eq(known, flow)
        {
            let slot = *slot;
            if let Some((origin, inflow)) = self.inflows.flows.at(slot)
                && *origin == flow.origin
                && inflow.incarnation == flow.incarnation
                && inflow.expected >= flow.first
            {
                self.inflows.flows.touch(slot);
                return Some(slot);
            }
        }
        let is_mine = flow.life == 0 || flow.life == self.incarnation;
        let known = self
            .inflows
            .flows
            .get(&flow.origin)
            .map(|inflow| inflow.incarnation);
        if known.is_some_and(|known| known > flow.incarnation) {
            // A life of the origin that is over.
            self.counters.duplicates += 1;
            return None;
        }
        let is_known = known == Some(flow.incarnation);
        // A flow that knows this life must find its state; where that is forgotten, nobody can say
        // what has been delivered before.
        if !is_mine || (!is_known && flow.life != 0) {
            let reset = Control::Reset {
                incarnation: flow.incarnation,
                sequence,
            };
            self.answer(ground, flow.origin, flow.source.clone(), &reset);
            return None;
        }
        if !is_known {
            let (slot, evicted) = self.inflows.flows.insert(
                flow.origin,
                Inflow {
                    incarnation: flow.incarnation,
                    expected: flow.first,
                    held: Vec::new(),
                    gap_since: ground.now,
                    is_gapped: false,
                    refused: VecDeque::new(),
                    owed: 0,
                    is_owing: false,
                    acked: None,
                    told: WINDOW as u32,
                    hops: 0,
                    source: flow.source.clone(),
                },
            );
            let lost = evicted.map_or(0, |(_, old)| bytes_of(&old.held));
            self.inflows.held_bytes -= lost;
            self.inflows.shorten(shortcut, flow, slot);
            return Some(slot);
        }
        let slot = self.inflows.flows.slot(&flow.origin)?;
        let (_, inflow) = self.inflows.flows.at(slot)?;
        inflow.source.clone_from(&flow.source);
        if flow.first > inflow.expected {
            self.skip_to(ground, slot, flow.first, false);
        }
        self.inflows.shorten(shortcut, flow, slot);
        Some(slot)
    }

    /// The next message of a flow goes into the inbox, or is refused.
    fn accept(&mut self, ground: &mut Ground<'_, O>, slot: u32, message: Message) {
        let number = message.sequence;
        let is_taken = self.deliver(ground, message);
        let Some((_, inflow)) = self.inflows.flows.at(slot) else {
            return;
        };
        inflow.expected = number + 1;
        if !is_taken {
            inflow.refuse(number);
        }
    }

    /// The held messages that are next go into the inbox.
    fn accept_held(&mut self, ground: &mut Ground<'_, O>, slot: u32) {
        while let Some((_, inflow)) = self.inflows.flows.at(slot) {
            let is_next = inflow
                .held
                .first()
                .is_some_and(|message| message.sequence == inflow.expected);
            if !is_next {
                // Whatever is still held waits behind another gap.
                inflow.gap_since = ground.now;
                return;
            }
            let message = inflow.held.remove(0);
            self.inflows.held_bytes -= message.payload.len();
            self.accept(ground, slot, message);
        }
    }

    /// A message beyond a gap.
    fn hold(&mut self, ground: &mut Ground<'_, O>, slot: u32, message: Message) {
        let size = message.payload.len();
        let Some((_, inflow)) = self.inflows.flows.at(slot) else {
            return;
        };
        let place = inflow
            .held
            .binary_search_by_key(&message.sequence, |held| held.sequence);
        match place {
            Ok(_) => self.counters.duplicates += 1,
            Err(_) if message.sequence - inflow.expected > WINDOW as u64 => {
                self.fault(ground, "a message beyond the window");
            }
            Err(_) if inflow.held.len() >= HELD || self.inflows.held_bytes + size > HELD_BYTES => {
                self.counters.dropped += 1;
            }
            Err(place) => {
                if inflow.held.is_empty() {
                    inflow.gap_since = ground.now;
                }
                inflow.held.insert(place, message);
                self.inflows.held_bytes += size;
                if !inflow.is_gapped {
                    inflow.is_gapped = true;
                    self.inflows.gapped.push(slot);
                    self.tick(ground);
                }
            }
        }
    }

    /// Waits no longer for numbers below `next`: delivers what is held of them and, where the origin
    /// has not settled them itself, remembers the others as refused.
    fn skip_to(&mut self, ground: &mut Ground<'_, O>, slot: u32, next: u64, is_refusal: bool) {
        while let Some((_, inflow)) = self.inflows.flows.at(slot) {
            let held = inflow.held.first().map(|message| message.sequence);
            let stop = held.map_or(next, |held| held.min(next));
            if is_refusal {
                for number in inflow.expected..stop {
                    inflow.refuse(number);
                    self.counters.dropped += 1;
                }
            }
            inflow.expected = inflow.expected.max(stop);
            if held.is_none_or(|held| held >= next) {
                break;
            }
            let message = inflow.held.remove(0);
            self.inflows.held_bytes -= message.payload.len();
            self.accept(ground, slot, message);
        }
        self.accept_held(ground, slot);
    }

    /// Skips gaps that were open for too long; says whether any is still open.
    pub(super) fn skip_gaps(&mut self, ground: &mut Ground<'_, O>) -> bool {
        let mut gapped = std::mem::take(&mut self.inflows.gapped);
        gapped.retain(|&slot| {
            let Some((_, inflow)) = self.inflows.flows.at(slot) else {
                return false;
            };
            let is_old = ground.now.since(inflow.gap_since) >= GAP_PATIENCE;
            if let Some(first) = inflow.held.first().filter(|_| is_old) {
                let next = first.sequence;
                self.skip_to(ground, slot, next, true);
                self.owe(ground, slot);
            }
            let Some((_, inflow)) = self.inflows.flows.at(slot) else {
                return false;
            };
            inflow.is_gapped = !inflow.held.is_empty();
            inflow.is_gapped
        });
        gapped.append(&mut self.inflows.gapped);
        self.inflows.gapped = gapped;
        !self.inflows.gapped.is_empty()
    }

    /// An acknowledgement is due: at once if the flow was quiet or much has come, else soon.
    fn owe(&mut self, ground: &mut Ground<'_, O>, slot: u32) {
        let Some((_, inflow)) = self.inflows.flows.at(slot) else {
            return;
        };
        inflow.owed += 1;
        let enough = ACK_EVERY.min(inflow.told / 2).max(1);
        let was_quiet = inflow
            .acked
            .is_none_or(|acked| ground.now.since(acked) >= ACK_DELAY);
        if inflow.owed >= enough || (was_quiet && !inflow.is_owing) {
            self.acknowledge(ground, slot);
        } else if !inflow.is_owing {
            inflow.is_owing = true;
            self.inflows.owing.push(slot);
            if !self.inflows.is_acking {
                self.inflows.is_acking = true;
                ground.after(ACK_DELAY, Tick::Acks);
            }
        }
    }

    /// Whether acknowledgements wait for company.
    pub(crate) fn owes(&self) -> bool {
        !self.inflows.owing.is_empty()
    }

    /// Sends the acknowledgements that waited.
    pub(crate) fn flush_acks(&mut self, ground: &mut Ground<'_, O>) {
        let mut owing = std::mem::take(&mut self.inflows.owing);
        for slot in owing.drain(..) {
            let Some((_, inflow)) = self.inflows.flows.at(slot) else {
                continue;
            };
            inflow.is_owing = false;
            if inflow.owed > 0 {
                self.acknowledge(ground, slot);
            }
        }
        // Acknowledging owes nothing new, so the buffer can be kept for the next time.
        self.inflows.owing = owing;
    }

    /// There is room again: those who were told of little hear it.
    pub(super) fn tell_room(&mut self, ground: &mut Ground<'_, O>) {
        for slot in std::mem::take(&mut self.inflows.starved) {
            self.acknowledge(ground, slot);
        }
    }

    fn acknowledge(&mut self, ground: &mut Ground<'_, O>, slot: u32) {
        let (room, room_bytes) = (self.inflows.inbox.room(), self.inflows.inbox.room_bytes());
        let Some((_, inflow)) = self.inflows.flows.at(slot) else {
            return;
        };
        inflow.forget_old_refusals();
        inflow.owed = 0;
        inflow.acked = Some(ground.now);
        inflow.told = room as u32;
        if inflow.told < LITTLE && !self.inflows.starved.contains(&slot) {
            self.inflows.starved.push(slot);
        }
        let Some((origin, inflow)) = self.inflows.flows.at(slot) else {
            return;
        };
        let acked = Control::Acked(Acked {
            incarnation: inflow.incarnation,
            expected: inflow.expected,
            held: inflow.held_bits(),
            refused: inflow.refused.iter().copied().collect(),
            room: room as u32,
            room_bytes: room_bytes as u32,
            hops: inflow.hops,
        });
        let (origin, source) = (*origin, inflow.source.clone());
        let Some(flow) = self.answer_flow(origin, source, Port::ROUTER) else {
            return;
        };
        let payload = wire::to_vec::<Control<O::Address>>(&acked).into();
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
}

fn bytes_of(held: &[Message]) -> usize {
    held.iter().map(|message| message.payload.len()).sum()
}
