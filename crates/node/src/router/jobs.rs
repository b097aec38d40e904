//! Who is to hear what became of a message: one ticket, or one part of a multicast's.

use std::{collections::BTreeMap, time::Duration};

use ringweave_ids::PeerId;
use ringweave_overlay::Overlay;

use super::{Ground, Router};
use crate::{Event, Failure, Outcome, Ticket};

/// Where the outcome of a message to one receiver goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Receipt {
    /// A send.
    One(Ticket),
    /// This part of that multicast.
    Part(u64, u32),
}

/// Multicasts under way. Each has at least one message in a bounded queue, so they are bounded too.
pub(super) struct Jobs<A> {
    next: u64,
    open: BTreeMap<u64, Job<A>>,
}

struct Job<A> {
    ticket: Ticket,
    outcomes: Vec<Option<Outcome<A>>>,
    left: usize,
}

impl<A> Default for Jobs<A> {
    fn default() -> Self {
        Self {
            next: 0,
            open: BTreeMap::new(),
        }
    }
}

impl<O: Overlay> Router<O> {
    /// Begins a multicast of `parts` receivers.
    pub(super) fn open_job(&mut self, ticket: Ticket, parts: usize) -> u64 {
        let number = self.jobs.next;
        self.jobs.next += 1;
        let outcomes = std::iter::repeat_with(|| None).take(parts).collect();
        self.jobs.open.insert(
            number,
            Job {
                ticket,
                outcomes,
                left: parts,
            },
        );
        number
    }

    /// A message to one receiver is settled.
    pub(super) fn conclude(
        &mut self,
        ground: &mut Ground<'_, O>,
        receipt: Receipt,
        outcome: Outcome<O::Address>,
    ) {
        match receipt {
            Receipt::One(ticket) => ground.tell(Event::Sent(ticket, vec![outcome])),
            Receipt::Part(number, part) => {
                let Some(job) = self.jobs.open.get_mut(&number) else {
                    return;
                };
                let Some(place) = job.outcomes.get_mut(part as usize) else {
                    return;
                };
                if place.replace(outcome).is_none() {
                    job.left -= 1;
                }
                if job.left == 0
                    && let Some(job) = self.jobs.open.remove(&number)
                {
                    let outcomes = job.outcomes.into_iter().flatten().collect();
                    ground.tell(Event::Sent(job.ticket, outcomes));
                }
            }
        }
    }

    /// A message to one receiver failed before it had a number.
    pub(super) fn refuse(
        &mut self,
        ground: &mut Ground<'_, O>,
        receipt: Receipt,
        peer: Option<PeerId>,
        failure: Failure,
    ) {
        let outcome = Outcome {
            result: Err(failure),
            peer,
            at: None,
            took: Duration::ZERO,
        };
        self.conclude(ground, receipt, outcome);
    }
}
