//! Timers of one peer: a heap, since none is ever cancelled.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use ringweave_ids::{Peer, Time};
use ringweave_node::{Input, Timer};
use ringweave_overlay::any::Any;

use super::Hub;

/// What an alarm is for.
pub(super) enum What {
    /// The node of this instance asked for it.
    Node(u32, Timer<Any>),
    /// A peer that cannot be dialled now is to be called down; the stamp says which dial.
    Down(Peer, u64),
    /// A dial that met another one is to be looked at again; the stamp says which.
    Again(Peer, u64),
}

struct Alarm {
    at: Time,
    number: u64,
    what: What,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Alarms in order of time, equal ones in order of setting.
pub(super) struct Alarms {
    heap: BinaryHeap<Reverse<Alarm>>,
    count: u64,
}

impl Alarms {
    pub(super) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            count: 0,
        }
    }

    pub(super) fn set(&mut self, at: Time, what: What) {
        self.count += 1;
        self.heap.push(Reverse(Alarm {
            at,
            number: self.count,
            what,
        }));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(alarm)| alarm.at)
    }

    fn due(&mut self, now: Time) -> Option<What> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(alarm)| alarm.what)
    }
}

impl Hub {
    /// Lets every alarm go off that is due.
    pub(super) fn ring(&mut self) {
        // Those that an alarm sets for this same moment wait for the next wake, so this ends.
        for _ in 0..self.alarms.heap.len() {
            match self.alarms.due(self.now) {
                Some(What::Node(number, timer)) => self.step(number, Input::Timer(timer)),
                Some(What::Down(peer, stamp)) => self.on_rested(peer, stamp),
                Some(What::Again(peer, stamp)) => self.dial_again(peer, stamp),
                None => return,
            }
        }
    }
}
