//! Messages of this peer on their way: numbered, kept, acknowledged, sent again.
//!
//! Each receiver has one flow of consecutive numbers, shared by unicasts and multicasts. A queue
//! holds its messages in order; the first `flying` of them have been sent and wait for an
//! acknowledgement, the rest wait for the window. The window is what the receiver's inbox said it
//! takes, so a receiver that drains slowly slows its senders down before it has to refuse.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use ringweave_ids::{PeerId, Time};
use ringweave_overlay::{Overlay, Target};

use super::{Ground, Router, finder::Found, jobs::Receipt};
use crate::{Cast, Envelope, Failure, Flow, MAX_PAYLOAD, MessageKind, Outcome, Port, lru::Lru};

/// Receivers that this peer keeps a flow to.
const OUTFLOWS: usize = 4_096;
/// Messages that may be under way to a receiver before its first word.
const FIRST_WINDOW: usize = 64;
/// Messages that may be under way to one receiver: a whole inbox.
pub(super) const WINDOW: usize = 1_024;
/// Messages that may wait for a window, over all receivers; more are refused.
pub(super) const QUEUE: usize = 4_096;
/// Payload bytes that may be under way, over all receivers: a whole inbox.
const FLYING_BYTES: usize = 16 << 20;
/// Payload bytes kept, under way or waiting; a send beyond is refused.
pub(super) const KEPT_BYTES: usize = 2 * FLYING_BYTES;
/// How long a receiver's word that it has no room is believed.
const PROBE: Duration = Duration::from_millis(50);
/// The shortest wait before a message is sent again: long against a delayed acknowledgement.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The wait before the first word of a receiver, when its distance is not known: any way through a
/// large network and back (RFC 6298, section 2.1).
const BLIND_RETRY: Duration = Duration::from_secs(1);
/// How long a receiver is trusted to remember a flow. After that the flow begins anew, as towards a
/// receiver that was never heard: nothing of it is under way, so nothing can arrive twice.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The longest wait before a message is sent again.
const LAST_RETRY: Duration = Duration::from_millis(500);

/// All flows to receivers.
pub(super) struct Outflows<A> {
    pub(super) flows: Lru<PeerId, Outflow<A>>,
    /// No number of a forgotten flow is as high: where new flows begin.
    floor: u64,
    /// Messages that wait for a window.
    pub(super) waiting: usize,
    pub(super) flying_bytes: usize,
    pub(super) kept_bytes: usize,
    /// What multicasts share, and for which epoch it was built.
    pub(super) group: Option<(u32, Arc<Flow<A>>)>,
}

/// The flow to one receiver.
pub(super) struct Outflow<A> {
    pub(super) address: Option<A>,
    /// Where it was not, when last asked for there.
    pub(super) wrong: Option<A>,
    /// When the address was last found, so that older failures do not drop it again.
    pub(super) found: Time,
    pub(super) is_sought: bool,
    pub(super) plain: Option<Arc<Flow<A>>>,
    pub(super) group: Option<Arc<Flow<A>>>,
    pub(super) epoch: u32,
    /// The number of the queue's first message.
    pub(super) base: u64,
    pub(super) first: u64,
    pub(super) life: u64,
    /// Whether the receiver, without room, has refused already: it need not be waited for.
    pub(super) is_refusing: bool,
    /// When the receiver was heard last.
    pub(super) heard: Time,
    pub(super) queue: VecDeque<Pending>,
    pub(super) flying: usize,
    pub(super) room: usize,
    pub(super) room_bytes: usize,
    pub(super) flying_bytes: usize,
    pub(super) round_trip: Option<Duration>,
    pub(super) due: Time,
    pub(super) failure: Option<(Failure, Option<A>)>,
}

pub(super) struct Pending {
    pub(super) payload: Bytes,
    pub(super) receipt: Receipt,
    pub(super) kind: MessageKind,
    pub(super) state: State,
    pub(super) tries: u8,
    pub(super) started: Time,
    pub(super) sent: Time,
    pub(super) due: Time,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// The receiver has it, but not yet all before it.
    Held,
}

impl<A: Clone + PartialEq> Outflows<A> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            flows: Lru::new(OUTFLOWS, seed),
            // 0 is the number of answers.
            floor: 1,
            waiting: 0,
            flying_bytes: 0,
            kept_bytes: 0,
            group: None,
        }
    }

    pub(super) fn flow(&mut self, slot: u32) -> &mut Outflow<A> {
        self.flows
            .at(slot)
            .expect("a slot is used within the call that looked it up")
            .1
    }
}

impl<A: Clone> Outflow<A> {
    fn new(first: u64, epoch: u32) -> Self {
        Self {
            address: None,
            wrong: None,
            found: Time::ZERO,
            is_sought: false,
            plain: None,
            group: None,
            epoch,
            base: first,
            first,
            life: 0,
            is_refusing: false,
            heard: Time::ZERO,
            queue: VecDeque::new(),
            flying: 0,
            room: FIRST_WINDOW,
            room_bytes: FLYING_BYTES,
            flying_bytes: 0,
            round_trip: None,
            due: Time::ZERO,
            failure: None,
        }
    }

    /// Whether the next message may go. A receiver without room is tried all the same after a
    /// while: it says so itself, or its word that it has room again was lost.
    pub(super) fn is_open(&self, bytes: usize, all_bytes: usize, now: Time) -> bool {
        let has_room = self.flying < self.room.min(WINDOW)
            && self.flying_bytes + bytes <= self.room_bytes
            && all_bytes + bytes <= FLYING_BYTES;
        let may_probe = self.is_refusing || now.since(self.heard) >= PROBE;
        has_room || (self.flying == 0 && may_probe)
    }

    pub(super) fn retry_after(&self, tries: u8) -> Duration {
        let first = self
            .round_trip
            .map_or(BLIND_RETRY, |span| FIRST_RETRY.max(span * 3));
        (first * (1 << tries.min(4))).min(LAST_RETRY.max(first))
    }

    /// The receiver's distance is known now: what waits for a blind retry waits less.
    pub(super) fn hasten(&mut self) {
        let wait = self.retry_after(0);
        for pending in self.queue.iter_mut().take(self.flying) {
            pending.due = pending.due.min(pending.sent + wait);
            self.due = self.due.min(pending.due);
        }
    }

    /// Forgets the envelopes' shared part, because something in it changed.
    pub(super) fn rebuild(&mut self) {
        self.plain = None;
        self.group = None;
    }
}

impl<O: Overlay> Router<O> {
    pub(crate) fn is_congested(&self) -> bool {
        self.outflows.waiting >= QUEUE / 2 || self.outflows.kept_bytes >= KEPT_BYTES / 2
    }

    /// Sends to one peer.
    pub(super) fn send(
        &mut self,
        ground: &mut Ground<'_, O>,
        to: PeerId,
        payload: Bytes,
        kind: MessageKind,
        receipt: Receipt,
    ) {
        if let Some(slot) = self.enqueue(ground, to, payload, kind, receipt) {
            self.pump(ground, slot);
        }
    }

    /// Puts a message into its flow's queue; nothing if it was refused or delivered right here.
    pub(super) fn enqueue(
        &mut self,
        ground: &mut Ground<'_, O>,
        to: PeerId,
        payload: Bytes,
        kind: MessageKind,
        receipt: Receipt,
    ) -> Option<u32> {
        if payload.len() > MAX_PAYLOAD {
            self.refuse(ground, receipt, Some(to), Failure::TooLarge);
            return None;
        }
        if to == self.me {
            let result = self.deliver_own(ground, kind, payload);
            let at = self.address.clone();
            let outcome = Outcome {
                result,
                peer: Some(to),
                at,
                took: Duration::ZERO,
            };
            self.conclude(ground, receipt, outcome);
            return None;
        }
        let all = &mut self.outflows;
        if all.waiting >= QUEUE || all.kept_bytes + payload.len() > KEPT_BYTES {
            self.refuse(ground, receipt, Some(to), Failure::Refused);
            return None;
        }
        all.waiting += 1;
        all.kept_bytes += payload.len();
        self.counters.sent += 1;
        let slot = match all.flows.slot(&to) {
            Some(slot) => {
                all.flows.touch(slot);
                slot
            }
            None => self.open_flow(ground, to),
        };
        let now = ground.now;
        let flow = self.outflows.flow(slot);
        if flow.queue.is_empty() {
            flow.due = now;
            if flow.life != 0 && now.since(flow.heard) >= REMEMBERED {
                (flow.life, flow.first) = (0, flow.base);
                flow.rebuild();
            }
            self.tick(ground);
        }
        let state = State::Open;
        self.outflows.flow(slot).queue.push_back(Pending {
            payload,
            receipt,
            kind,
            state,
            tries: 0,
            started: now,
            sent: now,
            due: now,
        });
        Some(slot)
    }

    fn open_flow(&mut self, ground: &mut Ground<'_, O>, to: PeerId) -> u32 {
        let flow = Outflow::new(self.outflows.floor, self.epoch);
        let (slot, evicted) = self.outflows.flows.insert(to, flow);
        if let Some((other, old)) = evicted {
            let floor = self.outflows.floor.max(old.base + old.queue.len() as u64);
            self.outflows.floor = floor;
            for (index, gone) in old.queue.into_iter().enumerate() {
                let is_flown = index < old.flying;
                self.settle_one(ground, other, gone, is_flown, Err(Failure::Refused), None);
            }
            let newcomer = self.outflows.flow(slot);
            (newcomer.base, newcomer.first) = (floor, floor);
        }
        slot
    }

    /// Sends what the window of a flow allows.
    pub(super) fn pump(&mut self, ground: &mut Ground<'_, O>, slot: u32) {
        while let Some(flow) = self.ready(ground, slot) {
            let (all_bytes, now) = (self.outflows.flying_bytes, ground.now);
            let out = self.outflows.flow(slot);
            let Some(next) = out.queue.get(out.flying) else {
                return;
            };
            let size = next.payload.len();
            if !out.is_open(size, all_bytes, now) {
                return;
            }
            let sequence = out.base + out.flying as u64;
            let payload = self.take_off(ground.now, slot);
            let envelope = Envelope {
                flow,
                sequence,
                hops: 0,
                is_traced: false,
                cast: Cast::One,
                payload,
            };
            self.route(ground, envelope);
        }
    }

    /// Marks the next message of a flow as sent, and gives its payload.
    pub(super) fn take_off(&mut self, now: Time, slot: u32) -> Bytes {
        let out = self.outflows.flow(slot);
        let due = now + out.retry_after(0);
        if out.flying == 0 {
            out.due = due;
        }
        let next = &mut out.queue[out.flying];
        (next.sent, next.due) = (now, due);
        let payload = next.payload.clone();
        out.flying += 1;
        out.flying_bytes += payload.len();
        self.outflows.waiting -= 1;
        self.outflows.flying_bytes += payload.len();
        payload
    }

    /// The shared part of the next message's envelope, if there is one and its receiver is found.
    fn ready(&mut self, ground: &mut Ground<'_, O>, slot: u32) -> Option<Arc<Flow<O::Address>>> {
        let out = self.outflows.flow(slot);
        let kind = out.queue.get(out.flying)?.kind;
        self.shared(ground, slot, kind)
    }

    pub(super) fn shared(
        &mut self,
        ground: &mut Ground<'_, O>,
        slot: u32,
        kind: MessageKind,
    ) -> Option<Arc<Flow<O::Address>>> {
        let epoch = self.epoch;
        let out = self.outflows.flow(slot);
        if out.epoch != epoch {
            out.epoch = epoch;
            out.rebuild();
        }
        let kept = if kind == MessageKind::Multicast {
            &out.group
        } else {
            &out.plain
        };
        if let Some(flow) = kept {
            return Some(Arc::clone(flow));
        }
        if !self.locate(ground, slot) {
            return None;
        }
        let source = self.address.clone()?;
        let (id, out) = self.outflows.flows.at(slot)?;
        let target = Target::Peer {
            id: *id,
            address: out.address.clone()?,
        };
        let (life, first) = (out.life, out.first);
        let flow = self.flow(source, target, Port::APP);
        let flow = Arc::new(Flow {
            kind,
            life,
            first,
            ..flow
        });
        let out = self.outflows.flow(slot);
        let kept = if kind == MessageKind::Multicast {
            &mut out.group
        } else {
            &mut out.plain
        };
        *kept = Some(Arc::clone(&flow));
        Some(flow)
    }

    /// Whether the receiver's address is known; if not, it is looked for.
    pub(super) fn locate(&mut self, ground: &mut Ground<'_, O>, slot: u32) -> bool {
        let out = self.outflows.flow(slot);
        if out.address.is_some() {
            return true;
        }
        if out.is_sought {
            return false;
        }
        let avoid = out.wrong.clone();
        let Some((id, _)) = self.outflows.flows.at(slot) else {
            return false;
        };
        let id = *id;
        match self.find(ground, &id, avoid.as_ref()) {
            Found::At(address) => {
                let out = self.outflows.flow(slot);
                out.address = Some(address);
                out.found = ground.now;
                true
            }
            Found::Sought => {
                self.outflows.flow(slot).is_sought = true;
                false
            }
            Found::Absent => {
                self.outflows.flow(slot).is_sought = true;
                self.on_receiver_sought(ground, &id, Err(Failure::NotFound));
                self.outflows.flow(slot).address.is_some()
            }
            Found::Unknown => {
                self.outflows.flow(slot).failure = Some((Failure::NoRoute, None));
                false
            }
        }
    }

    /// The search for a receiver ended.
    pub(super) fn on_receiver_sought(
        &mut self,
        ground: &mut Ground<'_, O>,
        id: &PeerId,
        found: Result<O::Address, Failure>,
    ) {
        let Some(slot) = self.outflows.flows.slot(id) else {
            return;
        };
        let out = self.outflows.flow(slot);
        if !std::mem::take(&mut out.is_sought) {
            return;
        }
        match found {
            Ok(address) => {
                // What flew to the old place goes to the new one at the next look; where there is
                // no other place, it waits its time.
                if out.wrong.as_ref() != Some(&address) {
                    let flown = out.queue.iter_mut().take(out.flying);
                    flown.for_each(|pending| pending.due = ground.now);
                    out.due = ground.now;
                }
                out.address = Some(address);
                out.found = ground.now;
                out.rebuild();
                self.pump(ground, slot);
            }
            Err(failure) => {
                let last = out.failure.as_ref().map_or(failure, |(last, _)| *last);
                if (failure, last) == (Failure::NotFound, Failure::NotFound) {
                    return self.give_up(ground, id, Failure::NotFound);
                }
                // The directory could not be asked, or lost the record of a peer that is merely cut
                // off: the old place is tried again while the deadlines last.
                out.address = out.wrong.take();
                out.found = ground.now;
                if out.failure.is_none() {
                    out.failure = Some((failure, None));
                }
            }
        }
    }

    /// Everything to this receiver fails.
    fn give_up(&mut self, ground: &mut Ground<'_, O>, id: &PeerId, failure: Failure) {
        let Some(slot) = self.outflows.flows.slot(id) else {
            return;
        };
        let out = self.outflows.flow(slot);
        let at = out.failure.take().and_then(|(_, at)| at);
        // It may be there the next time, where it was sought before, too.
        out.wrong = None;
        let count = out.queue.len();
        self.settle_some(ground, *id, slot, count, Err(failure), &at);
        self.restart_numbers(slot);
    }

    /// Numbers below the queue are settled, whatever the receiver heard of them.
    pub(super) fn restart_numbers(&mut self, slot: u32) {
        let out = self.outflows.flow(slot);
        out.first = out.base;
        out.rebuild();
    }
}
