//! What becomes of messages under way: acknowledged, failed at a hop, sent again, given up.

use ringweave_ids::PeerId;
use ringweave_overlay::Overlay;

use super::{
    DEADLINE, Ground, Router,
    control::Acked,
    sender::{FIRST_RETRY, Pending, State},
};
use crate::{Cast, Envelope, Failure, Outcome};

/// Messages of one flow that are sent again at one look: what a receiver holds beyond a gap.
const RETRIES_AT_ONCE: usize = 64;

impl<O: Overlay> Router<O> {
    /// A receiver acknowledged.
    pub(super) fn on_acked(
        &mut self,
        ground: &mut Ground<'_, O>,
        from: PeerId,
        source: &O::Address,
        life: u64,
        acked: &Acked,
    ) {
        if acked.incarnation != self.incarnation {
            return;
        }
        let Some(slot) = self.outflows.flows.slot(&from) else {
            return;
        };
        let out = self.outflows.flow(slot);
        if out.life != life {
            if out.life != 0 {
                return;
            }
            out.life = life;
            out.rebuild();
        }
        if acked.expected > out.base + out.flying as u64 {
            return self.fault(ground, "an acknowledgement of what was never sent");
        }
        if out.address.as_ref() != Some(source) {
            // The receiver itself says where it sits.
            out.address = Some(source.clone());
            out.found = ground.now;
            out.rebuild();
        }
        (out.failure, out.heard) = (None, ground.now);
        out.is_refusing = acked.room == 0 && (out.is_refusing || !acked.refused.is_empty());
        (out.room, out.room_bytes) = (acked.room as usize, acked.room_bytes as usize);
        let settled = acked.expected.saturating_sub(out.base) as usize;
        if let Some(last) = settled.checked_sub(1).and_then(|last| out.queue.get(last))
            && last.tries == 0
        {
            let sample = ground.now.since(last.sent);
            let smooth = out.round_trip.map_or(sample, |old| (old * 7 + sample) / 8);
            if out.round_trip.replace(smooth).is_none() {
                out.hasten();
            }
        }
        let at = Some(source.clone());
        if acked.refused.is_empty() {
            self.settle_some(ground, from, slot, settled, Ok(acked.hops), &at);
        } else {
            for _ in 0..settled {
                let number = self.outflows.flow(slot).base;
                let is_refused = acked.is_refused(number);
                let result = if is_refused {
                    Err(Failure::Refused)
                } else {
                    Ok(acked.hops)
                };
                self.settle_some(ground, from, slot, 1, result, &at);
            }
        }
        if acked.held != 0 {
            self.on_gap(ground, slot, acked);
        }
        self.pump(ground, slot);
    }

    /// The receiver holds messages beyond a gap: they are safe, and what is missing goes again.
    fn on_gap(&mut self, ground: &mut Ground<'_, O>, slot: u32, acked: &Acked) {
        let now = ground.now;
        let out = self.outflows.flow(slot);
        let Some(gap) = acked.expected.checked_sub(out.base).map(|gap| gap as usize) else {
            return;
        };
        for bit in (0..64).filter(|bit| acked.held >> bit & 1 == 1) {
            if let Some(pending) = out.queue.get_mut(gap + 1 + bit) {
                pending.state = State::Held;
                if pending.tries == 0 && out.round_trip.is_none() {
                    // The first word of a receiver may be about what came out of turn.
                    out.round_trip = Some(now.since(pending.sent));
                    out.hasten();
                }
            }
        }
        let patience = out.round_trip.unwrap_or(FIRST_RETRY) / 2;
        let Some(missing) = out.queue.get(gap).filter(|_| gap < out.flying) else {
            return;
        };
        if now.since(missing.sent) >= patience {
            self.resend(ground, slot, gap);
        }
    }

    fn resend(&mut self, ground: &mut Ground<'_, O>, slot: u32, index: usize) {
        let out = self.outflows.flow(slot);
        let Some(pending) = out.queue.get(index) else {
            return;
        };
        let kind = pending.kind;
        let Some(flow) = self.shared(ground, slot, kind) else {
            return;
        };
        let out = self.outflows.flow(slot);
        let sequence = out.base + index as u64;
        let Some(pending) = out.queue.get(index) else {
            return;
        };
        let tries = pending.tries.saturating_add(1);
        let due = ground.now + out.retry_after(tries);
        let Some(pending) = out.queue.get_mut(index) else {
            return;
        };
        (pending.tries, pending.sent, pending.due) = (tries, ground.now, due);
        let payload = pending.payload.clone();
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

    /// A hop says that a message ended there.
    pub(super) fn on_send_failed(
        &mut self,
        ground: &mut Ground<'_, O>,
        whom: &PeerId,
        sequence: u64,
        failure: Failure,
        at: Option<O::Address>,
    ) {
        let Some(slot) = self.outflows.flows.slot(whom) else {
            return;
        };
        let out = self.outflows.flow(slot);
        let index = sequence.checked_sub(out.base).map(|index| index as usize);
        let Some(pending) = index.and_then(|index| out.queue.get(index)) else {
            return;
        };
        let is_news = pending.sent >= out.found;
        out.failure = Some((failure, at));
        // Where no connection leads now, the peer may have found another place already.
        let is_lost = matches!(failure, Failure::NotFound | Failure::NoRoute);
        if is_lost && is_news && out.address.is_some() {
            out.wrong = out.address.take();
            out.rebuild();
            self.finder.drop_address(whom);
            self.locate(ground, slot);
        }
    }

    /// A receiver says that it is in another life than the flow was begun with.
    pub(super) fn on_reset(&mut self, ground: &mut Ground<'_, O>, from: PeerId, sequence: u64) {
        let Some(slot) = self.outflows.flows.slot(&from) else {
            return;
        };
        let out = self.outflows.flow(slot);
        if sequence < out.first || sequence >= out.base + out.flying as u64 {
            return;
        }
        let (flown, at) = (out.flying, out.address.clone());
        out.life = 0;
        self.settle_some(ground, from, slot, flown, Err(Failure::Refused), &at);
        self.restart_numbers(slot);
        self.pump(ground, slot);
    }

    /// Retries and deadlines; says whether anything is still under way.
    pub(super) fn retry_sends(&mut self, ground: &mut Ground<'_, O>) -> bool {
        let mut is_busy = false;
        for slot in self.outflows.flows.slots() {
            let Some((id, out)) = self.outflows.flows.at(slot) else {
                continue;
            };
            if out.queue.is_empty() {
                continue;
            }
            let (id, now) = (*id, ground.now);
            let is_late = |pending: &Pending| now.since(pending.started) >= DEADLINE;
            let late = out
                .queue
                .iter()
                .take_while(|pending| is_late(pending))
                .count();
            if late > 0 {
                let failure = out.failure.clone();
                let (failure, at) = failure.unwrap_or((Failure::Timeout, None));
                self.settle_some(ground, id, slot, late, Err(failure), &at);
                self.restart_numbers(slot);
            }
            self.retry_flow(ground, slot);
            self.pump(ground, slot);
            is_busy |= !self.outflows.flow(slot).queue.is_empty();
        }
        is_busy
    }

    /// The network changed: what failed at a hop is tried again at the next look.
    pub(super) fn hurry(&mut self, ground: &mut Ground<'_, O>) {
        for slot in self.outflows.flows.slots() {
            let out = self.outflows.flow(slot);
            if out.failure.is_some() {
                out.due = ground.now;
                let flown = out.queue.iter_mut().take(out.flying);
                flown.for_each(|pending| pending.due = ground.now);
            }
        }
    }

    fn retry_flow(&mut self, ground: &mut Ground<'_, O>, slot: u32) {
        let now = ground.now;
        let out = self.outflows.flow(slot);
        if out.due > now || out.flying == 0 || !self.locate(ground, slot) {
            return;
        }
        let mut left = RETRIES_AT_ONCE;
        let mut index = 0;
        // A retry that fails right here may settle messages, so the queue is looked at anew.
        while left > 0 && index < self.outflows.flow(slot).flying {
            let pending = &self.outflows.flow(slot).queue[index];
            if pending.state == State::Open && pending.due <= now {
                self.resend(ground, slot, index);
                left -= 1;
            }
            index += 1;
        }
        let out = self.outflows.flow(slot);
        let open = out
            .queue
            .iter()
            .take(out.flying)
            .filter(|pending| pending.state == State::Open);
        out.due = open.map(|pending| pending.due).min().unwrap_or(now);
    }

    /// The first `count` messages of a queue are settled.
    pub(super) fn settle_some(
        &mut self,
        ground: &mut Ground<'_, O>,
        id: PeerId,
        slot: u32,
        count: usize,
        result: Result<u8, Failure>,
        at: &Option<O::Address>,
    ) {
        for _ in 0..count {
            let out = self.outflows.flow(slot);
            let Some(gone) = out.queue.pop_front() else {
                return;
            };
            out.base += 1;
            let is_flown = out.flying > 0;
            if is_flown {
                out.flying -= 1;
                out.flying_bytes -= gone.payload.len();
            }
            self.settle_one(ground, id, gone, is_flown, result, at.clone());
        }
    }

    /// A message that left its queue is settled.
    pub(super) fn settle_one(
        &mut self,
        ground: &mut Ground<'_, O>,
        id: PeerId,
        gone: Pending,
        is_flown: bool,
        result: Result<u8, Failure>,
        at: Option<O::Address>,
    ) {
        let size = gone.payload.len();
        let all = &mut self.outflows;
        all.kept_bytes -= size;
        if is_flown {
            all.flying_bytes -= size;
        } else {
            all.waiting -= 1;
        }
        let took = ground.now.since(gone.started);
        self.conclude(
            ground,
            gone.receipt,
            Outcome {
                result,
                peer: Some(id),
                at,
                took,
            },
        );
    }
}
