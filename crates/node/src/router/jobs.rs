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
    /// One message of that run.
    InRun(u64),
}

/// Multicasts under way. Each has at least one message in a bounded queue, so they are bounded too.
pub(super) struct Jobs<A> {
    next: u64,
    open: BTreeMap<u64, Job<A>>,
    runs: BTreeMap<u64, Run<A>>,
}

/// A run under way.
struct Run<A> {
    ticket: Ticket,
    left: usize,
    delivered: usize,
    /// The last outcome, or the first failure.
    outcome: Option<Outcome<A>>,
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
            runs: BTreeMap::new(),
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

    /// Begins a run of `len` messages.
    pub(super) fn open_run(&mut self, ticket: Ticket, len: usize) -> u64 {
        let number = self.jobs.next;
        self.jobs.next += 1;
        let run = Run {
            ticket,
            left: len,
            delivered: 0,
            outcome: None,
        };
        self.jobs.runs.insert(number, run);
        number
    }

    /// A message of a run is settled.
    fn conclude_in_run(
        &mut self,
        ground: &mut Ground<'_, O>,
        number: u64,
        outcome: Outcome<O::Address>,
    ) {
        let Some(run) = self.jobs.runs.get_mut(&number) else {
            return;
        };
        run.left -= 1;
        run.delivered += usize::from(outcome.result.is_ok());
        if run
            .outcome
            .as_ref()
            .is_none_or(|first| first.result.is_ok())
        {
            run.outcome = Some(outcome);
        }
        if run.left == 0
            && let Some(Run {
                ticket,
                delivered,
                outcome: Some(outcome),
                ..
            }) = self.jobs.runs.remove(&number)
        {
            ground.tell(Event::Ran(ticket, delivered, outcome));
        }
    }

    /// A message to one receiver is settled.
    pub(super) fn conclude(
        &mut self,
        ground: &mut Ground<'_, O>,
        receipt: Receipt,
        outcome: Outcome<O::Address>,
    ) {
        match receipt {
            Receipt::InRun(number) => self.conclude_in_run(ground, number, outcome),
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
