//! What flows over the links: batches in, frames out, and the credit that ties the two.
//!
//! A batch that fed a full message queue is not paid for until the queue has run low, so that its
//! sender waits, and in the end the origin. Control never waits. After two seconds the batch is paid
//! for anyway and the full queue drops what comes, so that one dead end does not stop a whole peer.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::BytesMut;
use ringweave_ids::{Peer, Time};
use ringweave_node::{Frame, Input, Lane, wire::WireError};
use ringweave_overlay::{Loss, any::Any};

use super::{Hub, links::Link};
use crate::{
    book::Book,
    gate::Parting,
    link::{CONTROL_CAP, Credit, HIGH, LinkId, MESSAGE_CAP},
};

/// How long a source waits for a full queue at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// Room made for a first frame, so that small bursts need no second allocation.
const ROOM: usize = 1_024;

/// A batch that is not paid for yet.
#[derive(Debug)]
pub(super) struct Held {
    /// The link it came on.
    from: LinkId,
    credit: Credit,
    rest: BytesMut,
    /// The peer whose queue is full.
    on: Peer,
    until: Time,
}

/// What went over all links.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) bytes_out: u64,
    /// Bytes read on links that are gone; living links count for themselves.
    pub(super) bytes_in: u64,
    pub(super) dropped: u64,
    pub(super) faults: u64,
}

/// Place of a lane in a link's pairs.
pub(super) const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Message => 1,
    }
}

impl Hub {
    /// Decodes a batch and gives it to the node, frame by frame.
    pub(super) fn on_batch(
        &mut self,
        link: LinkId,
        lane: Lane,
        mut bytes: BytesMut,
        credit: Credit,
    ) {
        let Some(mut decoder) = self
            .link_mut(link)
            .and_then(|link| link.decoders[index(lane)].take())
        else {
            return;
        };
        let now = self.now;
        if let Some(link) = self.link_mut(link) {
            link.used = now;
        }
        self.full.clear();
        let skipped = decoder.skipped();
        let is_sound = loop {
            self.make_way();
            match decoder.decode(&mut bytes, &mut self.book) {
                Ok(Some(frame)) => {
                    self.step(decoder.instance(), Input::Received(link.peer, frame));
                }
                Ok(None) => break true,
                Err(error) => {
                    tracing::debug!(%error, peer = ?link.peer, "nonsense on a link");
                    self.traffic.faults += 1;
                    break false;
                }
            }
        };
        self.traffic.faults += decoder.skipped() - skipped;
        let Some(state) = self.link_mut(link) else {
            return;
        };
        if !is_sound {
            // The rest of the stream means nothing without its frames' borders.
            Parting::Nonsense.close(&state.connection);
            self.lose(link.peer, Loss::Closed);
            self.settle();
            return;
        }
        state.decoders[index(lane)] = Some(decoder);
        if !self.full.is_empty() {
            self.flush();
        }
        match self.full.first() {
            Some(&on) if lane == Lane::Message && self.is_watched(on) => {
                self.held.push(Held {
                    from: link,
                    credit,
                    rest: bytes,
                    on,
                    until: self.now + PATIENCE,
                });
            }
            _ => credit.give(bytes),
        }
    }

    /// Little waits in a queue that was full: pay its sources.
    pub(super) fn on_low(&mut self, link: LinkId) {
        if let Some(state) = self.link_mut(link) {
            state.is_stuck = false;
            self.pay(link.peer);
        }
    }

    /// Gives all credit that waits for this peer's queue.
    pub(super) fn pay(&mut self, peer: Peer) {
        for held in self.held.extract_if(.., |held| held.on == peer) {
            held.credit.give(held.rest);
        }
        if self.choked.is_some_and(|(on, _)| on == peer) {
            self.choked = None;
        }
    }

    /// Pays what has waited long enough; the queues it waited for drop what comes until they run low.
    pub(super) fn pay_overdue(&mut self) {
        let now = self.now;
        let overdue = self
            .held
            .iter()
            .filter(|held| held.until <= now)
            .map(|held| held.on);
        let mut stuck: Vec<_> = overdue
            .chain(
                self.choked
                    .filter(|(_, until)| *until <= now)
                    .map(|(on, _)| on),
            )
            .collect();
        stuck.dedup();
        for peer in stuck {
            if let Some(link) = self.slots[peer.0 as usize].link.as_deref_mut() {
                link.is_stuck = true;
            }
            self.pay(peer);
        }
    }

    /// Drops the credit of a link that is gone, and pays those who waited for it.
    pub(super) fn unhold(&mut self, link: LinkId) {
        self.held.retain(|held| held.from != link);
        self.pay(link.peer);
    }

    /// Requests of this peer's own application fed a full queue: they wait like any other source.
    pub(super) fn choke(&mut self, peer: Peer) {
        self.flush();
        if self.is_watched(peer) {
            self.choked = Some((peer, self.now + PATIENCE));
        }
    }

    /// Asks to hear when the queue has run low; false if it has already.
    fn is_watched(&self, peer: Peer) -> bool {
        self.link(peer)
            .is_some_and(|link| link.shared.watch(Lane::Message))
    }

    /// Sends a frame, over a connection that is dialled first if there is none.
    pub(super) fn send(&mut self, number: u32, peer: Peer, lane: Lane, frame: Frame<Any>) {
        self.make_room(peer);
        let slot = &mut self.slots[peer.0 as usize];
        let Some(link) = slot.link.as_deref_mut() else {
            self.send_later(number, peer, lane, frame);
            return;
        };
        if lane == Lane::Message {
            let waiting = link.shared.waiting(lane) + link.buffers[index(lane)].len();
            if waiting > HIGH {
                if link.is_stuck || waiting > MESSAGE_CAP {
                    self.traffic.dropped += 1;
                    return;
                }
                if !self.full.contains(&peer) {
                    self.full.push(peer);
                }
            }
        }
        link.used = self.now;
        if let Err(error) = link.write(number, lane, &frame, &self.book) {
            tracing::warn!(%error, ?peer, "a frame of our own does not fit, and is dropped");
            self.traffic.dropped += 1;
        }
        if !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push(peer);
        }
    }

    /// Hands what was written to the links' writers, and what arrived to the application.
    pub(super) fn flush(&mut self) {
        if !self.arrived.is_empty() {
            self.shelf.put(&mut self.arrived);
        }
        // A link that is lost here makes the node say more, on other links: each is lost only once.
        while let Some(peer) = self.dirty.pop() {
            let Some(link) = self.slots[peer.0 as usize].link.as_deref_mut() else {
                continue;
            };
            link.is_dirty = false;
            link.sent = self.now;
            for lane in [Lane::Control, Lane::Message] {
                let chunk = std::mem::take(&mut link.buffers[index(lane)]).freeze();
                if !chunk.is_empty() {
                    self.traffic.bytes_out += chunk.len() as u64;
                    link.shared.push(lane, chunk);
                }
            }
            if link.shared.waiting(Lane::Control) > CONTROL_CAP {
                Parting::Busy.close(&link.connection);
                self.lose(peer, Loss::Silent);
                self.settle();
            }
        }
    }

    /// Bytes read on all links so far.
    pub(super) fn bytes_in(&self) -> u64 {
        let living = self.slots.iter().filter_map(|slot| slot.link.as_deref());
        self.traffic.bytes_in
            + living
                .map(|link| link.shared.read.load(Ordering::Relaxed))
                .sum::<u64>()
    }
}

impl Link {
    /// Writes a frame to its lane's buffer.
    fn write(
        &mut self,
        number: u32,
        lane: Lane,
        frame: &Frame<Any>,
        book: &Book,
    ) -> Result<(), WireError> {
        let buffer = &mut self.buffers[index(lane)];
        if buffer.is_empty() {
            buffer.reserve(ROOM);
        }
        let encoder = &mut self.encoders[index(lane)];
        encoder.turn_to(number, buffer);
        encoder.encode(frame, book, buffer)
    }
}
