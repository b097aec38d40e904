//! Questions to other peers that are asked again until they are answered.
//!
//! Services talk in single unacknowledged envelopes; an answer is the acknowledgement. One table
//! keeps what is asked, by number; the number travels in the envelope and comes back in the answer
//! or with a failure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use ringweave_ids::{Key, PeerId, Time};
use ringweave_overlay::{Overlay, Target};

use super::{DEADLINE, Ground, Local, Router, finder::Found, trace::Trail};
use crate::{
    Cast, Envelope, Failure, Placed, Port, Ticket,
    records::{Answer, Errand},
};

/// Questions under way; more fail at once.
const ASKS: usize = 4_096;
/// The first wait for an answer.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest wait for an answer.
const LAST_RETRY: Duration = Duration::from_secs(1);
/// How long a place that nobody holds, or a key without an owner, is asked for again: a ring in
/// mid-change settles within it.
const NOBODY_PATIENCE: Duration = Duration::from_millis(1_200);
/// How long one owner of a key is waited for before another is asked.
const OWNER_PATIENCE: Duration = Duration::from_millis(1_500);
/// How long a record is offered to its home before the directory tries anew.
const PUT_PATIENCE: Duration = Duration::from_secs(20);

/// What is asked, and for whom.
#[derive(Debug)]
pub(crate) enum Purpose<A> {
    /// Keep this record of mine.
    Put,
    /// Keep this record of another.
    HandOver,
    /// Whom does this search mean.
    Lookup(u64),
    /// Who holds this address.
    Holder(A),
    /// What are your rings.
    Inspect(Ticket),
    /// About a record.
    Record(Errand),
    /// The way to you.
    Trace(Ticket, Trail<A>),
}

/// Whom it is asked.
#[derive(Clone, Debug)]
pub(crate) enum Aim<A> {
    /// A peer, wherever it sits.
    Peer(PeerId),
    /// Whoever the overlay leads to.
    Target(Target<A>),
}

impl<A> Aim<A> {
    /// Whoever owns a key by this choice.
    pub(crate) const fn owner(key: Key, choice: u8) -> Self {
        Self::Target(Target::Key {
            scope: None,
            key,
            choice,
        })
    }
}

/// How a question ended.
#[derive(Debug)]
pub(crate) enum Reply<A> {
    /// With a failure, and where.
    Failed(Failure, Option<A>),
    /// A record is kept.
    Kept,
    /// These peers.
    Peers(Vec<Placed<A>>),
    /// What a peer tells of its rings.
    Listing(crate::Listing<A>),
    /// What a holder of records says.
    Record(Answer),
    /// The whole way.
    Way,
}

/// All questions under way.
pub(super) struct Asks<A> {
    last: u64,
    pub(super) open: BTreeMap<u64, Box<Ask<A>>>,
}

/// A question under way.
pub(super) struct Ask<A> {
    pub(super) purpose: Purpose<A>,
    pub(super) aim: Aim<A>,
    port: Port,
    payload: Bytes,
    /// Where the peer was found, if a peer is asked.
    address: Option<A>,
    wrong: Option<A>,
    is_sought: bool,
    pub(super) started: Time,
    pub(super) sent: Time,
    due: Time,
    tries: u32,
    failure: Option<(Failure, Option<A>)>,
}

impl<A> Default for Asks<A> {
    fn default() -> Self {
        Self {
            last: 0,
            open: BTreeMap::new(),
        }
    }
}

impl<A> Ask<A> {
    /// How long it is asked at most.
    fn patience(&self) -> Duration {
        match self.purpose {
            Purpose::Put | Purpose::HandOver => PUT_PATIENCE,
            Purpose::Lookup(_) => OWNER_PATIENCE,
            Purpose::Record(errand) => errand.patience(),
            Purpose::Holder(_) | Purpose::Inspect(_) | Purpose::Trace(..) => DEADLINE,
        }
    }

    /// Whether this failure is an answer, given how long it was asked.
    fn is_final(&self, failure: Failure, now: Time) -> bool {
        match (&self.purpose, &self.aim, failure) {
            // Another owner may be asked at once.
            (Purpose::Lookup(_), _, Failure::NoRoute | Failure::NotFound) => true,
            (_, Aim::Target(_), Failure::NotFound) => now.since(self.started) >= NOBODY_PATIENCE,
            _ => false,
        }
    }
}

impl<O: Overlay> Router<O> {
    /// The number that the next question will have, for its payload.
    pub(crate) fn next_ask(&self) -> u64 {
        self.asks.last + 1
    }

    /// Asks; the reply comes through [`replied`](Self::replied), never before this returns.
    pub(crate) fn ask(
        &mut self,
        ground: &mut Ground<'_, O>,
        aim: Aim<O::Address>,
        port: Port,
        payload: Bytes,
        purpose: Purpose<O::Address>,
    ) {
        if self.asks.open.len() >= ASKS {
            self.local.push_back(Local::Unasked(purpose));
            return;
        }
        self.asks.last += 1;
        let number = self.asks.last;
        let now = ground.now;
        self.asks.open.insert(
            number,
            Box::new(Ask {
                purpose,
                aim,
                port,
                payload,
                address: None,
                wrong: None,
                is_sought: false,
                started: now,
                sent: now,
                due: now,
                tries: 0,
                failure: None,
            }),
        );
        self.tick(ground);
        self.put_question(ground, number);
    }

    /// Sends a question on its way.
    fn put_question(&mut self, ground: &mut Ground<'_, O>, number: u64) {
        let Some(ask) = self.asks.open.get_mut(&number) else {
            return;
        };
        let wait = match ask.purpose {
            // A probe that goes out anew measures anew: it waits for any way there and back.
            Purpose::Trace(..) => LAST_RETRY,
            // A record is in no hurry, and a way through a large network takes its time.
            Purpose::Put | Purpose::HandOver => LAST_RETRY,
            // Its holder waits for others before it answers.
            Purpose::Record(Errand::Put(..)) => LAST_RETRY,
            _ => (FIRST_RETRY * (1 << ask.tries.min(4))).min(LAST_RETRY),
        };
        ask.due = ground.now + wait;
        ask.tries += 1;
        let target = match &ask.aim {
            Aim::Target(target) => target.clone(),
            Aim::Peer(id) => match (ask.address.clone(), *id) {
                (Some(address), id) => Target::Peer { id, address },
                (None, _) if ask.is_sought => return,
                (None, id) => {
                    let avoid = ask.wrong.clone();
                    match self.find(ground, &id, avoid.as_ref()) {
                        Found::At(address) => {
                            let Some(ask) = self.asks.open.get_mut(&number) else {
                                return;
                            };
                            ask.address = Some(address.clone());
                            Target::Peer { id, address }
                        }
                        Found::Sought => {
                            let Some(ask) = self.asks.open.get_mut(&number) else {
                                return;
                            };
                            ask.is_sought = true;
                            return;
                        }
                        Found::Absent => {
                            let failed = Local::AskFailed(number, Failure::NotFound, None);
                            self.local.push_back(failed);
                            return;
                        }
                        Found::Unknown => return,
                    }
                }
            },
        };
        let Some(source) = self.address.clone() else {
            return;
        };
        let Some(ask) = self.asks.open.get_mut(&number) else {
            return;
        };
        ask.sent = ground.now;
        let is_traced = matches!(ask.purpose, Purpose::Trace(..));
        if let Purpose::Trace(_, trail) = &mut ask.purpose {
            trail.clear();
        }
        let (port, payload) = (ask.port, ask.payload.clone());
        let flow = Arc::new(self.flow(source, target, port));
        let envelope = Envelope {
            flow,
            sequence: number,
            hops: 0,
            is_traced,
            cast: Cast::One,
            payload,
        };
        self.route(ground, envelope);
    }

    /// A question was answered; nothing if it is not open (any more).
    pub(super) fn close_ask(&mut self, number: u64) -> Option<Box<Ask<O::Address>>> {
        let ask = self.asks.open.remove(&number);
        if self.asks.open.is_empty() {
            // An empty map keeps its last node, and most peers ask next to nothing.
            self.asks.open = BTreeMap::new();
        }
        ask
    }

    /// Records of this peer that are still on their way are old.
    pub(crate) fn drop_puts(&mut self) {
        self.asks
            .open
            .retain(|_, ask| !matches!(ask.purpose, Purpose::Put));
    }

    fn end_ask(
        &mut self,
        ground: &mut Ground<'_, O>,
        number: u64,
        failure: Failure,
        at: Option<O::Address>,
    ) {
        if let Some(ask) = self.close_ask(number) {
            self.replied(ground, ask.purpose, ask.started, Reply::Failed(failure, at));
        }
    }

    /// A question ended at a hop, or before it went.
    pub(super) fn on_ask_failed(
        &mut self,
        ground: &mut Ground<'_, O>,
        number: u64,
        failure: Failure,
        at: Option<O::Address>,
    ) {
        let now = ground.now;
        let Some(ask) = self.asks.open.get_mut(&number) else {
            return;
        };
        if ask.is_final(failure, now) {
            return self.end_ask(ground, number, failure, at);
        }
        ask.failure = Some((failure, at));
        let is_lost = matches!(failure, Failure::NotFound | Failure::NoRoute);
        if let (Aim::Peer(id), true) = (&ask.aim, is_lost && ask.address.is_some()) {
            let id = *id;
            ask.wrong = ask.address.take();
            self.finder.drop_address(&id);
        }
    }

    /// The search for a peer that is to be asked ended.
    pub(super) fn on_asked_sought(
        &mut self,
        ground: &mut Ground<'_, O>,
        id: &PeerId,
        found: &Result<O::Address, Failure>,
    ) {
        let waits = |ask: &Ask<O::Address>| {
            ask.is_sought && matches!(&ask.aim, Aim::Peer(aim) if aim == id)
        };
        let waiting = self.asks.open.iter().filter(|(_, ask)| waits(ask));
        let waiting = waiting.map(|(number, _)| *number).collect::<Vec<_>>();
        for number in waiting {
            let Some(ask) = self.asks.open.get_mut(&number) else {
                continue;
            };
            ask.is_sought = false;
            match found {
                Ok(address) => {
                    let is_news = ask.wrong.as_ref() != Some(address);
                    ask.address = Some(address.clone());
                    if is_news {
                        self.put_question(ground, number);
                    }
                }
                Err(failure) => {
                    let last = ask.failure.as_ref().map_or(*failure, |(last, _)| *last);
                    if (*failure, last) == (Failure::NotFound, Failure::NotFound) {
                        self.end_ask(ground, number, Failure::NotFound, None);
                        continue;
                    }
                    ask.address = ask.wrong.take();
                    if ask.failure.is_none() {
                        ask.failure = Some((*failure, None));
                    }
                }
            }
        }
    }

    /// Asks again and gives up; says whether any question is still open.
    pub(super) fn retry_asks(&mut self, ground: &mut Ground<'_, O>) -> bool {
        let now = ground.now;
        let due =
            |ask: &Ask<O::Address>| ask.due <= now || now.since(ask.started) >= ask.patience();
        let due = self.asks.open.iter().filter(|(_, ask)| due(ask));
        for number in due.map(|(number, _)| *number).collect::<Vec<_>>() {
            let Some(ask) = self.asks.open.get_mut(&number) else {
                continue;
            };
            if now.since(ask.started) < ask.patience() {
                self.put_question(ground, number);
            } else if !self.end_trace(ground, number) {
                let Some(ask) = self.asks.open.get_mut(&number) else {
                    continue;
                };
                let failure = ask.failure.take();
                let (failure, at) = failure.unwrap_or((Failure::Timeout, None));
                self.end_ask(ground, number, failure, at);
            }
        }
        // Searches between two rounds have no question open, but need the tick.
        self.next_rounds(ground);
        !self.asks.open.is_empty() || self.finder.is_busy()
    }
}
