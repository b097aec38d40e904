//! Events to come, by window of time.
//!
//! A window is as long as the shortest delay between two peers, so what happens in one window can
//! only bear on other peers in later ones. Windows of the current page are kept one by one, later
//! pages unsorted: an event is moved once, and sorted once, within its window.

use std::collections::BTreeMap;

use ringweave_overlay::Overlay;

use super::event::Event;

/// Events in a chunk.
const CHUNK: usize = 256;

/// Windows in a page.
const PAGE: u64 = 1_024;

/// The events of one part of the peers.
pub(crate) struct Calendar<O: Overlay> {
    /// Length of a window in microseconds.
    span: u64,
    page: u64,
    /// The windows of the current page that are still to come.
    windows: Vec<Vec<Event<O>>>,
    /// No window of the current page before this one has events.
    cursor: usize,
    later: BTreeMap<u64, Later<O>>,
}

/// Events of a later page, in chunks: most events of a large world wait here, and an array that doubles
/// would leave half of itself empty.
struct Later<O: Overlay> {
    first: u64,
    chunks: Vec<Vec<Event<O>>>,
}

impl<O: Overlay> Later<O> {
    fn push(&mut self, event: Event<O>) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(event),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(event);
                self.chunks.push(chunk);
            }
        }
    }
}

impl<O: Overlay> Calendar<O> {
    pub(crate) fn new(span: u64) -> Self {
        Self {
            span,
            page: 0,
            windows: (0..PAGE).map(|_| Vec::new()).collect(),
            cursor: 0,
            later: BTreeMap::new(),
        }
    }

    /// The number of the window that a moment falls into.
    pub(crate) fn window(&self, at: u64) -> u64 {
        at / self.span
    }

    pub(crate) fn push(&mut self, event: Event<O>) {
        let window = self.window(event.at);
        if window / PAGE == self.page {
            let place = (window % PAGE) as usize;
            self.cursor = self.cursor.min(place);
            self.windows[place].push(event);
        } else {
            let fresh = || Later {
                first: window,
                chunks: Vec::new(),
            };
            let later = self.later.entry(window / PAGE).or_insert_with(fresh);
            later.first = later.first.min(window);
            later.push(event);
        }
    }

    /// The first window that has events; the largest number if there is none.
    pub(crate) fn next(&mut self) -> u64 {
        while self.cursor < self.windows.len() && self.windows[self.cursor].is_empty() {
            self.cursor += 1;
        }
        let near = match self.cursor < self.windows.len() {
            true => self.page * PAGE + self.cursor as u64,
            false => u64::MAX,
        };
        let far = self
            .later
            .first_key_value()
            .map_or(u64::MAX, |(_, later)| later.first);
        near.min(far)
    }

    /// Takes the events of a window out, in no order. No window before it may be asked for again.
    pub(crate) fn take(&mut self, window: u64) -> Vec<Event<O>> {
        if window / PAGE != self.page {
            debug_assert!(self.windows.iter().all(Vec::is_empty), "time goes forward");
            self.page = window / PAGE;
            self.cursor = (window % PAGE) as usize;
            if let Some(later) = self.later.remove(&self.page) {
                for event in later.chunks.into_iter().flatten() {
                    let place = (self.window(event.at) % PAGE) as usize;
                    self.windows[place].push(event);
                }
            }
        }
        std::mem::take(&mut self.windows[(window % PAGE) as usize])
    }
}
