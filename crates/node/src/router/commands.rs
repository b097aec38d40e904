//! What the application asks for, and where the answers to this peer's own questions go.

use bytes::Bytes;
use ringweave_ids::{PeerId, Time};
use ringweave_overlay::{Overlay, Target};

use super::{
    Ground, Router,
    asks::{Aim, Purpose, Reply},
    holder::Waiting,
    jobs::Receipt,
    trace::Trail,
};
use crate::{Command, Destination, Event, Failure, MessageKind, Outcome, Port, Ticket, inspect};

impl<O: Overlay> Router<O> {
    /// The application wants something.
    pub(crate) fn on_command(
        &mut self,
        ground: &mut Ground<'_, O>,
        ticket: Ticket,
        command: Command<O::Address>,
    ) {
        match command {
            Command::Send(Destination::Peer(id), payload) => {
                self.send(
                    ground,
                    id,
                    payload,
                    MessageKind::Unicast,
                    Receipt::One(ticket),
                );
            }
            Command::Send(Destination::Holder(address), payload) => {
                let send = Waiting::Send(payload, MessageKind::Unicast, Receipt::One(ticket));
                self.await_holder(ground, address, send);
            }
            Command::Run(to, payloads) => self.run(ground, ticket, to, payloads),
            Command::Multicast(to, payload) => self.multicast(ground, ticket, to, &payload),
            Command::Broadcast(below, payload) => self.broadcast(ground, ticket, below, payload),
            Command::Put { name, value, lease } => {
                self.put_record(ground, ticket, name, value, lease);
            }
            Command::Get(key) => self.get_record(ground, ticket, key),
            Command::Watch(key) => self.watch_record(ground, ticket, key),
            Command::Unwatch(ticket) => self.unwatch_record(ticket),
            Command::Owned => ground.tell(Event::Owned(ticket, self.own_records())),
            Command::Learn(placed) => self.finder.learn(&placed),
            Command::Trace(Destination::Peer(id)) if id == self.me => {
                let (trail, now) = (Trail::default(), ground.now);
                self.conclude_trace(ground, ticket, trail, now, None);
            }
            Command::Trace(to) => {
                let purpose = Purpose::Trace(ticket, Trail::default());
                self.ask(ground, aim(to), Port::ROUTER, Bytes::new(), purpose);
            }
            Command::Resolve(query, effort) => self.resolve(ground, ticket, query, effort),
            Command::Inspect(Destination::Peer(id)) if id == self.me => {
                let listing = self.listing(ground, true);
                let none = || Outcome {
                    result: Err(Failure::NoRoute),
                    peer: Some(id),
                    at: None,
                    took: std::time::Duration::ZERO,
                };
                ground.tell(Event::Inspected(ticket, listing.ok_or_else(none)));
            }
            Command::Inspect(to) => {
                let payload = inspect::ask(self.next_ask(), true);
                let purpose = Purpose::Inspect(ticket);
                self.ask(ground, aim(to), Port::INSPECT, payload, purpose);
            }
        }
    }

    /// Many messages to one peer: one look-up, one ticket.
    fn run(
        &mut self,
        ground: &mut Ground<'_, O>,
        ticket: Ticket,
        to: Destination<O::Address>,
        payloads: Vec<Bytes>,
    ) {
        if payloads.is_empty() {
            let (peer, at, took) = (None, None, std::time::Duration::ZERO);
            let outcome = Outcome {
                result: Ok(0),
                peer,
                at,
                took,
            };
            return ground.tell(Event::Ran(ticket, 0, outcome));
        }
        let receipt = Receipt::InRun(self.open_run(ticket, payloads.len()));
        let kind = MessageKind::Unicast;
        match to {
            Destination::Peer(id) => {
                let mut slot = None;
                for payload in payloads {
                    slot = self.enqueue(ground, id, payload, kind, receipt).or(slot);
                }
                if let Some(slot) = slot {
                    self.pump(ground, slot);
                }
            }
            Destination::Holder(address) => {
                for payload in payloads {
                    let send = Waiting::Send(payload, kind, receipt);
                    self.await_holder(ground, address.clone(), send);
                }
            }
        }
    }

    fn multicast(
        &mut self,
        ground: &mut Ground<'_, O>,
        ticket: Ticket,
        to: Vec<Destination<O::Address>>,
        payload: &Bytes,
    ) {
        if to.is_empty() {
            return ground.tell(Event::Sent(ticket, Vec::new()));
        }
        let job = self.open_job(ticket, to.len());
        let mut group = Vec::with_capacity(to.len());
        for (part, to) in (0..).zip(to) {
            let receipt = Receipt::Part(job, part);
            match to {
                Destination::Peer(id) => group.push((id, receipt)),
                Destination::Holder(address) => {
                    let send = Waiting::Send(payload.clone(), MessageKind::Multicast, receipt);
                    self.await_holder(ground, address, send);
                }
            }
        }
        self.send_group(ground, group, payload);
    }

    /// What waited for the holder of an address goes to that peer, or fails.
    pub(super) fn release(
        &mut self,
        ground: &mut Ground<'_, O>,
        payload: Bytes,
        kind: MessageKind,
        receipt: Receipt,
        holder: Result<PeerId, (Failure, Option<O::Address>, Time)>,
    ) {
        match holder {
            Ok(id) => self.send(ground, id, payload, kind, receipt),
            Err((failure, at, started)) => {
                let took = ground.now.since(started);
                let outcome = Outcome {
                    result: Err(failure),
                    peer: None,
                    at,
                    took,
                };
                self.conclude(ground, receipt, outcome);
            }
        }
    }

    /// An answer to one of this peer's questions came in.
    pub(crate) fn answered(
        &mut self,
        ground: &mut Ground<'_, O>,
        from: PeerId,
        number: u64,
        reply: Reply<O::Address>,
    ) {
        let Some(ask) = self.asks.open.get(&number) else {
            return;
        };
        let fits = matches!(
            (&ask.purpose, &reply),
            (Purpose::Put | Purpose::HandOver, Reply::Kept)
                | (Purpose::Lookup(_), Reply::Peers(_))
                | (Purpose::Holder(_) | Purpose::Inspect(_), Reply::Listing(_))
                | (Purpose::Record(_), Reply::Record(_))
        );
        let is_asked = match &ask.aim {
            Aim::Peer(id) => *id == from,
            Aim::Target(_) => true,
        };
        if !fits || !is_asked {
            return self.fault(ground, "an answer that does not fit its question");
        }
        if let Some(ask) = self.close_ask(number) {
            self.replied(ground, ask.purpose, ask.started, reply);
        }
    }

    /// A question ended.
    pub(super) fn replied(
        &mut self,
        ground: &mut Ground<'_, O>,
        purpose: Purpose<O::Address>,
        started: Time,
        reply: Reply<O::Address>,
    ) {
        match (purpose, reply) {
            (Purpose::Lookup(number), reply) => self.on_looked_up(ground, number, reply),
            (Purpose::Put, Reply::Failed(..)) => self.on_put_failed(ground),
            (Purpose::Put | Purpose::HandOver, _) => {}
            (Purpose::Record(errand), reply) => {
                self.on_record_reply(ground, errand, started, reply);
            }
            (Purpose::Holder(address), Reply::Listing(listing)) => {
                self.on_holder(ground, &address, Ok(listing.me), started);
            }
            (Purpose::Holder(address), reply) => {
                let failure = failure_of(reply);
                self.on_holder(ground, &address, Err(failure), started);
            }
            (Purpose::Inspect(ticket), Reply::Listing(listing)) => {
                ground.tell(Event::Inspected(ticket, Ok(listing)));
            }
            (Purpose::Inspect(ticket), reply) => {
                let (failure, at) = failure_of(reply);
                let took = ground.now.since(started);
                let outcome = Outcome {
                    result: Err(failure),
                    peer: None,
                    at,
                    took,
                };
                ground.tell(Event::Inspected(ticket, Err(outcome)));
            }
            (Purpose::Trace(ticket, trail), Reply::Way) => {
                self.conclude_trace(ground, ticket, trail, started, None);
            }
            (Purpose::Trace(ticket, trail), reply) => {
                let failed = failure_of(reply);
                self.conclude_trace(ground, ticket, trail, started, Some(failed));
            }
        }
    }
}

fn aim<A>(to: Destination<A>) -> Aim<A> {
    match to {
        Destination::Peer(id) => Aim::Peer(id),
        Destination::Holder(address) => Aim::Target(Target::Holder(address)),
    }
}

/// The failure in a reply; one that does not fit its question counts as none at all.
fn failure_of<A>(reply: Reply<A>) -> (Failure, Option<A>) {
    match reply {
        Reply::Failed(failure, at) => (failure, at),
        Reply::Kept | Reply::Peers(_) | Reply::Listing(_) | Reply::Record(_) | Reply::Way => {
            (Failure::Timeout, None)
        }
    }
}
