//! Traces: every hop reports itself to the origin, which measures the way there and back.

use std::time::Duration;

use ringweave_ids::{PeerId, Time, wire};
use ringweave_overlay::{Overlay, Target};

use super::{
    Ground, Router,
    asks::{Purpose, Reply},
    control::Control,
};
use crate::{Envelope, Event, Failure, Outcome, Port, Ticket, Traced};

/// What is known of a way so far.
#[derive(Debug)]
pub(crate) struct Trail<A> {
    /// Hops heard of, by their number from 1.
    hops: Vec<(u8, Traced<A>)>,
    last: Option<u8>,
}

impl<A> Default for Trail<A> {
    fn default() -> Self {
        Self {
            hops: Vec::new(),
            last: None,
        }
    }
}

impl<A> Trail<A> {
    /// Forgets everything: the probe goes out anew.
    pub(super) fn clear(&mut self) {
        self.hops.clear();
        self.last = None;
    }

    fn is_whole(&self) -> bool {
        self.last
            .is_some_and(|last| self.hops.len() >= usize::from(last))
    }
}

impl<O: Overlay> Router<O> {
    /// A traced envelope is here: the origin hears of it.
    pub(super) fn report_hop(
        &mut self,
        ground: &mut Ground<'_, O>,
        envelope: &Envelope<O>,
        is_last: bool,
    ) {
        let Some(at) = self.address.clone() else {
            return;
        };
        let flow = &envelope.flow;
        if flow.port != Port::ROUTER {
            return;
        }
        let (number, hop) = (envelope.sequence, envelope.hops);
        if flow.origin == self.me {
            if is_last && !matches!(flow.target, Target::Key { .. }) {
                self.on_hop(ground, self.me, number, hop, is_last, at);
            }
            return;
        }
        let report = Control::Hop {
            number,
            hop,
            is_last,
            at,
        };
        self.answer(ground, flow.origin, flow.source.clone(), &report);
    }

    /// A hop reported itself.
    pub(super) fn on_hop(
        &mut self,
        ground: &mut Ground<'_, O>,
        from: PeerId,
        number: u64,
        hop: u8,
        is_last: bool,
        at: O::Address,
    ) {
        let now = ground.now;
        let Some(ask) = self.asks.open.get_mut(&number) else {
            return;
        };
        let round_trip = now.since(ask.sent);
        let Purpose::Trace(_, trail) = &mut ask.purpose else {
            return;
        };
        if hop > 0 && trail.hops.iter().all(|(known, _)| *known != hop) {
            trail.hops.push((
                hop,
                Traced {
                    id: from,
                    address: at,
                    round_trip,
                },
            ));
        }
        if is_last {
            trail.last = Some(hop);
        }
        if trail.is_whole() {
            self.end_trace(ground, number);
        }
    }

    /// Ends a trace if its last hop is known, with the hops that were heard of.
    pub(super) fn end_trace(&mut self, ground: &mut Ground<'_, O>, number: u64) -> bool {
        let ask = self.asks.open.get(&number);
        let is_there = ask.is_some_and(
            |ask| matches!(&ask.purpose, Purpose::Trace(_, trail) if trail.last.is_some()),
        );
        if is_there && let Some(ask) = self.close_ask(number) {
            self.replied(ground, ask.purpose, ask.started, Reply::Way);
        }
        is_there
    }

    /// Tells how a trace ended.
    pub(super) fn conclude_trace(
        &mut self,
        ground: &mut Ground<'_, O>,
        ticket: Ticket,
        mut trail: Trail<O::Address>,
        started: Time,
        failed: Option<(Failure, Option<O::Address>)>,
    ) {
        trail.hops.sort_by_key(|(hop, _)| *hop);
        let result = match (failed, self.address.clone()) {
            (None, Some(address)) => {
                let me = Traced {
                    id: self.me,
                    address,
                    round_trip: Duration::ZERO,
                };
                let hops = trail.hops.into_iter().map(|(_, traced)| traced);
                Ok(std::iter::once(me).chain(hops).collect())
            }
            (failed, _) => {
                let (failure, at) = failed.unwrap_or((Failure::NoRoute, None));
                let furthest = trail.hops.pop().map(|(_, traced)| traced.address);
                let at = at.or(furthest);
                let took = ground.now.since(started);
                Err(Outcome {
                    result: Err(failure),
                    peer: None,
                    at,
                    took,
                })
            }
        };
        ground.tell(Event::Traced(ticket, result));
    }

    /// Decodes what a service of another peer said; nonsense is counted.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(
        &mut self,
        ground: &mut Ground<'_, O>,
        envelope: &Envelope<O>,
    ) -> Option<T> {
        let read = wire::decode(&envelope.payload, crate::MAX_PAYLOAD);
        if read.is_err() {
            self.fault(ground, "a word between services that does not decode");
        }
        read.ok()
    }
}
