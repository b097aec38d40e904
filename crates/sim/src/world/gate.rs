//! Where the threads of a world meet, twice in each window: to agree on the next window, and to hand
//! over what they did to each other's peers.

use std::{
    hint,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use ringweave_overlay::Overlay;

use super::event::Event;

/// Looks at the counter before a waiting thread lets others run.
const SPINS: u32 = 2_000;

/// The meeting place of a fixed number of threads.
pub(crate) struct Gate<O: Overlay> {
    count: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
    /// Whether one of the threads has died.
    is_broken: AtomicBool,
    offers: Vec<AtomicU64>,
    /// By sender, then receiver.
    boxes: Vec<Vec<Mutex<Vec<Event<O>>>>>,
}

impl<O: Overlay> Gate<O> {
    pub(crate) fn new(count: usize) -> Self {
        let row = || (0..count).map(|_| Mutex::new(Vec::new())).collect();
        Self {
            count,
            arrived: AtomicUsize::new(0),
            round: AtomicUsize::new(0),
            is_broken: AtomicBool::new(false),
            offers: (0..count).map(|_| AtomicU64::new(0)).collect(),
            boxes: (0..count).map(|_| row()).collect(),
        }
    }

    /// What a thread holds while it runs, so that its death wakes the others.
    pub(crate) fn enter(&self) -> Watch<'_, O> {
        Watch(self)
    }

    /// Waits until all threads are here.
    ///
    /// # Panics
    /// If one of them died.
    pub(crate) fn wait(&self) {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.count {
            self.arrived.store(0, Ordering::Release);
            self.round.fetch_add(1, Ordering::AcqRel);
            return;
        }
        let mut spins = 0;
        while self.round.load(Ordering::Acquire) == round {
            assert!(
                !self.is_broken.load(Ordering::Relaxed),
                "another thread of the world died"
            );
            if spins < SPINS {
                spins += 1;
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }

    /// Says which window this thread has events in next; all wait, and hear the first of all.
    pub(crate) fn agree(&self, me: usize, next: u64) -> u64 {
        self.offers[me].store(next, Ordering::Release);
        self.wait();
        let first = self
            .offers
            .iter()
            .map(|offer| offer.load(Ordering::Acquire))
            .min();
        first.unwrap_or(u64::MAX)
    }

    /// Leaves events for the peers of the other threads.
    pub(crate) fn post(&self, me: usize, outboxes: &mut [Vec<Event<O>>]) {
        for (to, outbox) in outboxes
            .iter_mut()
            .enumerate()
            .filter(|(_, it)| !it.is_empty())
        {
            self.boxes[me][to]
                .lock()
                .expect("no thread dies with a box in hand")
                .append(outbox);
        }
    }

    /// Takes what the other threads left.
    pub(crate) fn collect(&self, me: usize, mut take: impl FnMut(Event<O>)) {
        for row in &self.boxes {
            let mut held = row[me].lock().expect("no thread dies with a box in hand");
            held.drain(..).for_each(&mut take);
        }
    }
}

/// A thread at work.
pub(crate) struct Watch<'a, O: Overlay>(&'a Gate<O>);

impl<O: Overlay> Drop for Watch<'_, O> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.is_broken.store(true, Ordering::Relaxed);
        }
    }
}
