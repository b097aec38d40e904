//! Questions that a peer has asked and waits for: numbered, timed, bounded, each with what it is for.

use std::time::Duration;

use ringweave_ids::{Peer, Time};

/// Questions open at once; more are not asked.
const MAX_OPEN: usize = 256;

/// The questions that are open.
#[derive(Clone, Debug)]
pub(crate) struct Requests<P> {
    last: u32,
    open: Vec<Request<P>>,
}

/// A question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<P> {
    pub(crate) number: u32,
    /// Whom it was put to.
    pub(crate) to: Peer,
    pub(crate) asked: Time,
    /// What it is for.
    pub(crate) purpose: P,
}

impl<P> Default for Requests<P> {
    fn default() -> Self {
        let open = Vec::new();
        Self { last: 0, open }
    }
}

impl<P> Requests<P> {
    /// A new question, if there is room: its number.
    pub(crate) fn open(&mut self, now: Time, to: Peer, purpose: P) -> Option<u32> {
        if self.open.len() >= MAX_OPEN {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        let (number, asked) = (self.last, now);
        self.open.push(Request {
            number,
            to,
            asked,
            purpose,
        });
        Some(number)
    }

    /// It was answered, or is too late: what it was.
    pub(crate) fn close(&mut self, number: u32) -> Option<Request<P>> {
        let at = self.open.iter().position(|it| it.number == number)?;
        let request = self.open.swap_remove(at);
        if self.open.is_empty() {
            self.open.shrink_to_fit();
        }
        Some(request)
    }

    /// Who was asked answered: what it was, and how long that took.
    pub(crate) fn answered(&mut self, now: Time, by: Peer, number: u32) -> Option<(P, Duration)> {
        let is_it = |it: &Request<P>| it.number == number && it.to == by;
        self.open.iter().find(|it| is_it(it))?;
        let request = self.close(number)?;
        Some((request.purpose, now.since(request.asked)))
    }

    /// All that are open.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Request<P>> {
        self.open.iter()
    }
}
