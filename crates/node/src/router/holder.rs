//! Who holds an address: asked of the holder itself, and believed for a moment only.
//!
//! A message to an address becomes a message to the peer that holds it, so that it has a number in
//! that peer's flow, and a retry never reaches another.

use std::time::Duration;

use bytes::Bytes;
use ringweave_ids::{PeerId, Time};
use ringweave_overlay::{Overlay, Target};

use super::{
    Ground, Router,
    asks::{Aim, Purpose},
    jobs::Receipt,
    sender::{KEPT_BYTES, QUEUE},
};
use crate::{Event, Failure, MAX_PAYLOAD, MessageKind, Placed, Port, Ticket, inspect};

/// Holders of addresses kept.
const HOLDERS: usize = 64;
/// How long a peer is taken for the holder of an address without asking again.
const HOLDER_FOR: Duration = Duration::from_secs(1);

/// Why nobody was found, and where that was.
type Failed<A> = (Failure, Option<A>);

/// What waits for the holder of an address.
#[derive(Debug)]
pub(super) enum Waiting {
    /// A message.
    Send(Bytes, MessageKind, Receipt),
    /// Whoever asked who holds it.
    Ask(Ticket),
}

/// Who was found to hold which address, and what waits to hear it.
pub(super) struct Holders<A> {
    /// The latest ones, latest last.
    known: Vec<(A, PeerId, Time)>,
    waiting: Vec<(A, Vec<Waiting>)>,
}

impl<A> Default for Holders<A> {
    fn default() -> Self {
        Self {
            known: Vec::new(),
            waiting: Vec::new(),
        }
    }
}

impl<A> Holders<A> {
    /// This peer is not where it was thought to be.
    pub(super) fn drop_peer(&mut self, id: &PeerId) {
        self.known.retain(|(_, holder, _)| holder != id);
    }
}

impl<O: Overlay> Router<O> {
    /// Sends, or answers, once the holder of an address is known.
    pub(super) fn await_holder(
        &mut self,
        ground: &mut Ground<'_, O>,
        address: O::Address,
        what: Waiting,
    ) {
        if let Waiting::Send(payload, _, receipt) = &what {
            let receipt = *receipt;
            if payload.len() > MAX_PAYLOAD {
                return self.refuse(ground, receipt, None, Failure::TooLarge);
            }
            let all = &self.outflows;
            if all.waiting >= QUEUE || all.kept_bytes + payload.len() > KEPT_BYTES {
                return self.refuse(ground, receipt, None, Failure::Refused);
            }
        }
        let others = self
            .finder
            .holders
            .waiting
            .iter_mut()
            .find(|(wanted, _)| *wanted == address);
        if others.is_none() {
            let known =
                self.finder.holders.known.iter().find(|(held, _, since)| {
                    *held == address && ground.now.since(*since) < HOLDER_FOR
                });
            if let (Some((_, id, _)), Waiting::Send(payload, kind, receipt)) = (known, &what) {
                let (id, kind, receipt) = (*id, *kind, *receipt);
                return self.release(ground, payload.clone(), kind, receipt, Ok(id));
            }
        }
        if let Waiting::Send(payload, ..) = &what {
            self.outflows.waiting += 1;
            self.outflows.kept_bytes += payload.len();
        }
        match others {
            Some((_, others)) => others.push(what),
            None => {
                self.finder
                    .holders
                    .waiting
                    .push((address.clone(), vec![what]));
                let payload = inspect::ask(self.next_ask(), false);
                let aim = Aim::Target(Target::Holder(address.clone()));
                self.ask(
                    ground,
                    aim,
                    Port::INSPECT,
                    payload,
                    Purpose::Holder(address),
                );
            }
        }
    }

    /// The question who holds an address was answered, or could not be.
    pub(super) fn on_holder(
        &mut self,
        ground: &mut Ground<'_, O>,
        address: &O::Address,
        holder: Result<Placed<O::Address>, Failed<O::Address>>,
        started: Time,
    ) {
        if let Ok(placed) = &holder {
            self.finder
                .holders
                .known
                .retain(|(held, _, _)| held != address);
            if self.finder.holders.known.len() == HOLDERS {
                self.finder.holders.known.remove(0);
            }
            self.finder
                .holders
                .known
                .push((address.clone(), placed.id, ground.now));
            if placed.id != self.me {
                self.finder.learn(placed);
            }
        }
        let place = self
            .finder
            .holders
            .waiting
            .iter()
            .position(|(wanted, _)| wanted == address);
        let Some(place) = place else { return };
        let (_, waiting) = self.finder.holders.waiting.remove(place);
        for what in waiting {
            match what {
                Waiting::Ask(ticket) => {
                    let result = match &holder {
                        Ok(placed) => Ok(vec![placed.clone()]),
                        Err((Failure::NotFound, _)) => Ok(Vec::new()),
                        Err((failure, _)) => Err(*failure),
                    };
                    ground.tell(Event::Resolved(ticket, result));
                }
                Waiting::Send(payload, kind, receipt) => {
                    self.outflows.waiting -= 1;
                    self.outflows.kept_bytes -= payload.len();
                    let id = match &holder {
                        Ok(placed) => Ok(placed.id),
                        Err((failure, at)) => Err((*failure, at.clone(), started)),
                    };
                    self.release(ground, payload, kind, receipt, id);
                }
            }
        }
    }
}
