//! Messages on their way from the event loop to the application.
//!
//! The shelf keeps what nobody has fetched; the node bounds it by refusing more than its inbox
//! holds. A listener fetches all at once and tells the loop what it took.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use ringweave_node::Message;
use tokio::sync::{Notify, mpsc};

use crate::{event::Event, handle::Received};

/// Messages taken that came by one instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) instance: u32,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug, Default)]
struct Stock {
    /// Each with the instance that it came by.
    messages: VecDeque<(u32, Received)>,
    taken: Vec<Taken>,
    /// Which listener is served; an earlier one hears the end.
    listener: u64,
    is_closed: bool,
    /// Whether the loop has been told that something was taken.
    is_reported: bool,
}

impl Stock {
    /// Notes that a message was taken.
    fn take(&mut self, instance: u32, bytes: usize) {
        let known = self.taken.iter_mut().find(|it| it.instance == instance);
        match known {
            Some(taken) => {
                taken.messages += 1;
                taken.bytes += bytes;
            }
            // As many as there are instances: two at most between two looks.
            None => self.taken.push(Taken {
                instance,
                messages: 1,
                bytes,
            }),
        }
    }
}

/// The application's messages.
#[derive(Debug)]
pub(crate) struct Shelf {
    stock: Mutex<Stock>,
    ready: Notify,
    report: mpsc::Sender<Event>,
}

impl Shelf {
    pub(crate) fn new(report: mpsc::Sender<Event>) -> Arc<Self> {
        Arc::new(Self {
            stock: Mutex::default(),
            ready: Notify::new(),
            report,
        })
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock
            .lock()
            .expect("nothing panics while it holds this lock")
    }

    /// Puts messages on the shelf: one lock and one wake for all that a wake of the loop brought.
    pub(crate) fn put(&self, messages: &mut Vec<(u32, Message)>) {
        let received = messages.drain(..).map(|(instance, message)| {
            let received = Received {
                kind: message.kind,
                from: message.from,
                seq: message.sequence,
                hops: message.hops,
                turn: message.turn,
                payload: message.payload,
            };
            (instance, received)
        });
        self.stock().messages.extend(received);
        self.ready.notify_one();
    }

    /// Messages and payload bytes taken since the last call.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        let mut stock = self.stock();
        stock.is_reported = false;
        std::mem::take(&mut stock.taken)
    }

    /// No message follows.
    pub(crate) fn close(&self) {
        self.stock().is_closed = true;
        self.ready.notify_waiters();
        self.ready.notify_one();
    }

    /// A new listener; the one before hears the end.
    pub(crate) fn listen(self: &Arc<Self>) -> Inbox {
        let mut stock = self.stock();
        stock.listener += 1;
        let number = stock.listener;
        drop(stock);
        self.ready.notify_waiters();
        self.ready.notify_one();
        Inbox {
            shelf: Arc::clone(self),
            number,
            fetched: VecDeque::new(),
        }
    }
}

/// Messages for the application. Dropping it leaves those it did not return in the inbox.
#[derive(Debug)]
pub struct Inbox {
    shelf: Arc<Shelf>,
    number: u64,
    fetched: VecDeque<(u32, Received)>,
}

impl Inbox {
    /// The next message; nothing once the peer has stopped, or another listener has taken over.
    pub async fn recv(&mut self) -> Option<Received> {
        loop {
            if let Some((_, message)) = self.fetched.pop_front() {
                return Some(message);
            }
            // Asked for before looking, so that nothing is missed in between.
            let ready = self.shelf.ready.notified();
            let is_first = {
                let mut stock = self.shelf.stock();
                if stock.listener != self.number {
                    None
                } else if stock.messages.is_empty() {
                    if stock.is_closed {
                        return None;
                    }
                    Some(false)
                } else {
                    // All at once, and the empty queue in exchange.
                    std::mem::swap(&mut self.fetched, &mut stock.messages);
                    for (instance, message) in &self.fetched {
                        stock.take(*instance, message.payload.len());
                    }
                    Some(!std::mem::replace(&mut stock.is_reported, true))
                }
            };
            match is_first {
                None => {
                    // A permit meant for the one who took over must not end here.
                    self.shelf.ready.notify_one();
                    return None;
                }
                Some(true) => {
                    // Where there is no place for the event, the loop's next tick looks by itself.
                    if self.shelf.report.try_send(Event::Taken).is_err() {
                        self.shelf.stock().is_reported = false;
                    }
                }
                Some(false) if self.fetched.is_empty() => ready.await,
                Some(false) => {}
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut stock = self.shelf.stock();
        while let Some(message) = self.fetched.pop_back() {
            stock.messages.push_front(message);
        }
        drop(stock);
        self.shelf.ready.notify_one();
    }
}
