//! The application's inbox: bounded, and a full one refuses.

use bytes::Bytes;
use ringweave_overlay::Overlay;

use super::{Ground, Router};
use crate::{Event, Failure, Message, MessageKind, Turn};

/// Messages that wait for the application.
pub(super) const INBOX: usize = 1_024;
/// Payload bytes that wait for the application.
const INBOX_BYTES: usize = 16 << 20;

/// How much waits for the application.
#[derive(Default)]
pub(super) struct Inbox {
    messages: usize,
    bytes: usize,
}

impl Inbox {
    /// Messages it still takes.
    pub(super) fn room(&self) -> usize {
        INBOX - self.messages
    }

    /// Payload bytes it still takes.
    pub(super) fn room_bytes(&self) -> usize {
        INBOX_BYTES - self.bytes
    }

    /// Takes a place, if there is one.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let is_free = self.room() > 0 && self.room_bytes() >= bytes;
        if is_free {
            self.messages += 1;
            self.bytes += bytes;
        }
        is_free
    }
}

impl<O: Overlay> Router<O> {
    /// The application took messages out.
    pub(crate) fn on_drained(&mut self, ground: &mut Ground<'_, O>, messages: usize, bytes: usize) {
        let inbox = &mut self.inflows.inbox;
        inbox.messages = inbox.messages.saturating_sub(messages);
        inbox.bytes = inbox.bytes.saturating_sub(bytes);
        if inbox.room() >= INBOX / 4 {
            self.tell_room(ground);
        }
    }

    /// Puts a message in; says whether there was room.
    pub(super) fn deliver(&mut self, ground: &mut Ground<'_, O>, message: Message) -> bool {
        let is_taken = self.inflows.inbox.take(message.payload.len());
        if is_taken {
            self.counters.delivered += 1;
            ground.tell(Event::Message(message));
        } else {
            self.counters.dropped += 1;
        }
        is_taken
    }

    /// A message to oneself.
    pub(super) fn deliver_own(
        &mut self,
        ground: &mut Ground<'_, O>,
        kind: MessageKind,
        payload: Bytes,
    ) -> Result<u8, Failure> {
        self.counters.sent += 1;
        let sequence = self.inflows.next_own();
        let message = Message {
            kind,
            from: self.me,
            sequence,
            payload,
            hops: 0,
            turn: Turn::InOrder,
        };
        if self.deliver(ground, message) {
            Ok(0)
        } else {
            Err(Failure::Refused)
        }
    }
}
