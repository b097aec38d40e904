//! Multicasts at their origin: one envelope for all receivers whose way is known.

use std::sync::Arc;

use bytes::Bytes;
use ringweave_ids::PeerId;
use ringweave_overlay::{Overlay, Target};

use super::{ANSWER, Ground, Router, jobs::Receipt};
use crate::{Cast, Envelope, Flow, MAX_RECEIVERS, MessageKind, Port, Receiver};

impl<O: Overlay> Router<O> {
    /// A multicast: those whose way is known and whose window is open share their copies.
    pub(super) fn send_group(
        &mut self,
        ground: &mut Ground<'_, O>,
        to: Vec<(PeerId, Receipt)>,
        payload: &Bytes,
    ) {
        let mut receivers = Vec::with_capacity(to.len());
        for (id, receipt) in to {
            let kind = MessageKind::Multicast;
            let Some(slot) = self.enqueue(ground, id, payload.clone(), kind, receipt) else {
                continue;
            };
            let all_bytes = self.outflows.flying_bytes;
            let out = self.outflows.flow(slot);
            let is_next = out.flying + 1 == out.queue.len();
            if !is_next
                || !out.is_open(payload.len(), all_bytes, ground.now)
                || !self.locate(ground, slot)
            {
                self.pump(ground, slot);
                continue;
            }
            let out = self.outflows.flow(slot);
            let Some(address) = out.address.clone() else {
                continue;
            };
            let sequence = out.base + out.flying as u64;
            receivers.push(Receiver {
                id,
                address,
                sequence,
                life: out.life,
                first: out.first,
            });
            self.take_off(ground.now, slot);
        }
        let Some(source) = self.address.clone() else {
            return;
        };
        let epoch = self.epoch;
        let flow = match &self.outflows.group {
            Some((built, flow)) if *built == epoch => Arc::clone(flow),
            _ => {
                let flow = self.flow(source, Target::All, Port::APP);
                let flow = Arc::new(Flow {
                    kind: MessageKind::Multicast,
                    ..flow
                });
                self.outflows.group = Some((epoch, Arc::clone(&flow)));
                flow
            }
        };
        for receivers in receivers.chunks(MAX_RECEIVERS) {
            let envelope = Envelope {
                flow: Arc::clone(&flow),
                sequence: ANSWER,
                hops: 0,
                is_traced: false,
                cast: Cast::Several(receivers.to_vec()),
                payload: payload.clone(),
            };
            self.share_out(ground, envelope);
        }
    }
}
