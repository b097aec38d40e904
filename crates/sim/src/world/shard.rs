//! One thread's part of the peers, and its loop over windows of time.

use std::collections::BinaryHeap;

use ringweave_node::Output;

use super::{
    Common,
    actor::Actor,
    calendar::Calendar,
    event::{Event, Soon},
    gate::Gate,
    lab::Lab,
    tally::Tally,
};

/// Every `shards`-th peer, and the events they wait for.
pub(crate) struct Shard<O: Lab> {
    me: usize,
    shards: usize,
    pub(crate) actors: Vec<Actor<O>>,
    calendar: Calendar<O>,
    soon: BinaryHeap<Soon<O>>,
    outboxes: Vec<Vec<Event<O>>>,
    outputs: Vec<Output<O>>,
    shared: O::Shared,
    pub(crate) tally: Tally,
    /// The moment up to which everything has happened.
    now: u64,
}

/// Where a peer's doings go while it meets an event.
pub(crate) struct Sink<'a, O: Lab> {
    pub(crate) now: u64,
    /// The end of the window: what comes before it is this peer's own.
    end: u64,
    me: usize,
    shards: usize,
    calendar: &'a mut Calendar<O>,
    soon: &'a mut BinaryHeap<Soon<O>>,
    outboxes: &'a mut [Vec<Event<O>>],
    pub(crate) outputs: Vec<Output<O>>,
    pub(crate) shared: &'a mut O::Shared,
    pub(crate) tally: &'a mut Tally,
}

impl<O: Lab> Sink<'_, O> {
    pub(crate) fn push(&mut self, event: Event<O>) {
        let there = event.to as usize % self.shards;
        if there != self.me {
            self.outboxes[there].push(event);
        } else if event.at < self.end {
            self.soon.push(Soon(event));
        } else {
            self.calendar.push(event);
        }
    }
}

impl<O: Lab> Shard<O> {
    /// The part `me` of `shards`, with its share of `count` peers.
    pub(crate) fn new(me: usize, shards: usize, count: u32, span: u64) -> Self {
        let peers = (me as u32..count).step_by(shards);
        Self {
            me,
            shards,
            actors: peers.map(Actor::new).collect(),
            calendar: Calendar::new(span),
            soon: BinaryHeap::new(),
            outboxes: (0..shards).map(|_| Vec::new()).collect(),
            outputs: Vec::new(),
            shared: O::Shared::default(),
            tally: Tally::default(),
            now: 0,
        }
    }

    pub(crate) fn push(&mut self, event: Event<O>) {
        self.calendar.push(event);
    }

    /// Lets everything happen before the window `end`; `watch` is told now and then.
    pub(crate) fn run(
        &mut self,
        common: &Common<O>,
        gate: &Gate<O>,
        end: u64,
        mut watch: impl FnMut(u64, u64),
    ) {
        let _watch = gate.enter();
        loop {
            let window = gate.agree(self.me, self.calendar.next());
            if window >= end {
                break;
            }
            self.live(common, window);
            gate.post(self.me, &mut self.outboxes);
            gate.wait();
            let calendar = &mut self.calendar;
            gate.collect(self.me, |event| calendar.push(event));
            watch(self.now, self.tally.events);
        }
    }

    /// Everything that happens in one window, peer by peer.
    fn live(&mut self, common: &Common<O>, window: u64) {
        let mut events = self.calendar.take(window);
        events.sort_unstable_by_key(|event| (event.to, event.order()));
        let mut events = events.into_iter().peekable();
        let end = (window + 1) * common.span;
        while let Some(first) = events.next() {
            let to = first.to;
            let mut next = Some(first);
            while let Some(event) = next {
                self.meet(common, event, end);
                let is_due = events.peek().is_some_and(|event| {
                    let soon = self.soon.peek();
                    event.to == to && soon.is_none_or(|soon| event.order() < soon.0.order())
                });
                next = if is_due {
                    events.next()
                } else {
                    self.soon.pop().map(|soon| soon.0)
                };
            }
        }
        self.now = end;
    }

    fn meet(&mut self, common: &Common<O>, event: Event<O>, end: u64) {
        self.tally.events += 1;
        self.tally.digest = self.tally.digest.wrapping_add(event.mark());
        let place = event.to as usize / self.shards;
        self.with(place, event.at, end, |actor, sink| {
            actor.meet(common, event, sink)
        });
    }

    /// Lets the world do something with a peer, at a moment before which everything has happened.
    pub(crate) fn with<T>(
        &mut self,
        place: usize,
        now: u64,
        end: u64,
        work: impl FnOnce(&mut Actor<O>, &mut Sink<'_, O>) -> T,
    ) -> T {
        let mut sink = Sink {
            now,
            end,
            me: self.me,
            shards: self.shards,
            calendar: &mut self.calendar,
            soon: &mut self.soon,
            outboxes: &mut self.outboxes,
            outputs: std::mem::take(&mut self.outputs),
            shared: &mut self.shared,
            tally: &mut self.tally,
        };
        let result = work(&mut self.actors[place], &mut sink);
        self.outputs = sink.outputs;
        result
    }

    /// What the peers of this part did to those of others, outside of [`run`](Self::run).
    pub(crate) fn unpost(&mut self) -> Vec<Event<O>> {
        self.outboxes.iter_mut().flat_map(std::mem::take).collect()
    }
}
