//! Links come and go: who knocks, which of two connections stays, and the end.
//!
//! Between two peers stands one connection. Where both dial at once, the dial of the smaller PeerId
//! wins: the smaller turns the other's dial away, the larger takes what comes. Later on a new
//! connection replaces an old one, since nobody dials who believes to have one.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::BytesMut;
use iroh::endpoint::{Connection, SendStream};
use ringweave_ids::{Peer, Time};
use ringweave_node::{
    Frame, Lane,
    wire::{Decoder, Encoder},
};
use ringweave_overlay::{Host as _, Loss, any::Any};
use smallvec::SmallVec;

use super::{
    Hub,
    dials::{Dial, YOUNG},
    instances::Later,
    paths::{self, Way},
};
use crate::{
    book::Book,
    gate::{Hello, Parting, Side, remote},
    handle::PeerEvent,
    link::{self, LinkId, Shared, Tasks},
};

/// Connections at once; an inner peer of rings of 32 holds about 70.
const LINKS: usize = 4_096;

/// What stands between this peer and another.
pub(super) struct Slot {
    pub(super) link: Option<Box<Link>>,
    pub(super) dial: Option<Dial>,
    pub(super) waiting: Vec<(u32, Lane, Frame<Any>)>,
    /// The instances that hold the connection.
    pub(super) holders: Holders,
}

/// Numbers of instances: one as a rule, two while the network moves.
pub(super) type Holders = SmallVec<[u32; 2]>;

impl Default for Slot {
    fn default() -> Self {
        Self {
            link: None,
            dial: None,
            waiting: Vec::new(),
            holders: Holders::new(),
        }
    }
}

/// A connection that stands.
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) encoders: [Encoder<Any>; 2],
    pub(super) decoders: [Option<Decoder<Any>>; 2],
    pub(super) buffers: [BytesMut; 2],
    pub(super) is_dirty: bool,
    /// Whether its message queue stayed full for so long that messages for it are dropped.
    pub(super) is_stuck: bool,
    /// When something was last sent on it, beats included.
    pub(super) sent: Time,
    /// When something last went over it, either way, that was not a beat.
    pub(super) used: Time,
    pub(super) since: Time,
    pub(super) is_mine: bool,
    /// How packets went when it was new, and how they go as far as was told.
    pub(super) began: Option<Way>,
    pub(super) way: Option<Way>,
    pub(super) incarnation: u64,
    /// The latest edition of the network for which the other side has done its part.
    pub(super) has_done: u32,
    tasks: Tasks,
}

impl Link {
    pub(super) async fn drain(&mut self, span: Duration) {
        self.tasks.drain(span).await;
    }
}

impl Hub {
    pub(super) fn link(&self, peer: Peer) -> Option<&Link> {
        self.slots.get(peer.0 as usize)?.link.as_deref()
    }

    /// The link, if it still is that very connection.
    pub(super) fn link_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.slots
            .get_mut(id.peer.0 as usize)?
            .link
            .as_deref_mut()
            .filter(|link| link.id == id)
    }

    pub(super) fn make_room(&mut self, peer: Peer) {
        if self.slots.len() <= peer.0 as usize {
            self.slots.resize_with(peer.0 as usize + 1, Slot::default);
        }
    }

    pub(super) fn slot(&mut self, peer: Peer) -> &mut Slot {
        self.make_room(peer);
        &mut self.slots[peer.0 as usize]
    }

    pub(super) fn open(&mut self, number: u32, peer: Peer) {
        let holders = &mut self.slot(peer).holders;
        if !holders.contains(&number) {
            holders.push(number);
        }
        self.dial(peer);
    }

    pub(super) fn unpin(&mut self, number: u32, peer: Peer) {
        if let Some(slot) = self.slots.get_mut(peer.0 as usize) {
            slot.holders.retain(|holder| *holder != number);
        }
    }

    /// Someone connected, and passed the gate.
    pub(super) fn on_knock(&mut self, connection: Connection, hello: Hello, mut send: SendStream) {
        self.make_way();
        let id = remote(&connection);
        let known = self.book.peer(&id);
        let is_smaller = self.book.id(Book::ME) < id;
        let slot = known.and_then(|peer| self.slots.get(peer.0 as usize));
        let is_dialling = slot.is_some_and(|slot| slot.dial.is_some_and(|dial| dial.is_running));
        let link = slot.and_then(|slot| slot.link.as_deref());
        let is_same_moment = link.is_some_and(|link| {
            link.is_mine
                && link.incarnation == hello.incarnation
                && self.now.since(link.since) < YOUNG
        });
        let count = self.slots.iter().filter(|slot| slot.link.is_some()).count();
        let verdict = if is_smaller && (is_same_moment || (is_dialling && link.is_none())) {
            Some(Parting::Double)
        } else if (link.is_none() && count >= LINKS) || self.leaving.is_some() {
            Some(Parting::Busy)
        } else {
            None
        };
        let peer = if verdict.is_none() {
            self.book.admit(id)
        } else {
            None
        };
        let Some(peer) = peer else {
            verdict.unwrap_or(Parting::Busy).close(&connection);
            return;
        };
        let (gate, answered) = (Arc::clone(&self.gate), connection.clone());
        self.tasks.spawn(async move {
            // A failure shows on the link's own streams.
            let _ = gate.say(&answered, Side::Acceptor, &mut send).await;
        });
        self.establish(peer, connection, hello, false);
        self.settle();
    }

    /// A connection stands: it takes the place of an older one, if there is one.
    pub(super) fn establish(
        &mut self,
        peer: Peer,
        connection: Connection,
        hello: Hello,
        is_mine: bool,
    ) {
        if self.link(peer).is_some() {
            self.lose_to(peer, Loss::Closed, Some(Parting::Double));
        }
        self.rests.forget(&self.book.id(peer));
        self.book.hold(peer);
        self.book.learn(peer, &hello.card);
        self.consider(peer);
        self.end_dial(peer);
        self.stamps += 1;
        let id = LinkId {
            peer,
            stamp: self.stamps,
        };
        let (shared, tasks) = link::start(&connection, id, self.origin, &self.report);
        let way = paths::way(&connection);
        self.follow(&connection, id);
        let link = Link {
            id,
            connection,
            shared,
            encoders: [Encoder::new(), Encoder::new()],
            decoders: [Some(Decoder::new()), Some(Decoder::new())],
            buffers: [BytesMut::new(), BytesMut::new()],
            is_dirty: false,
            is_stuck: false,
            sent: self.now,
            used: self.now,
            since: self.now,
            is_mine,
            began: way,
            way,
            incarnation: hello.incarnation,
            has_done: 0,
            tasks,
        };
        let slot = self.slot(peer);
        slot.link = Some(Box::new(link));
        let waiting = std::mem::take(&mut slot.waiting);
        self.next_tick = self.now;
        self.name_hosts(peer);
        self.contacts.note(&self.book, peer);
        self.watch(PeerEvent::Up {
            peer: self.book.id(peer),
        });
        for (number, lane, frame) in waiting {
            self.send(number, peer, lane, frame);
        }
        self.later.push_back(Later::Up(peer));
        self.on_answered(peer);
        self.on_met(peer, hello.network);
    }

    pub(super) fn on_gone(&mut self, id: LinkId) {
        let Some(link) = self.link_mut(id) else {
            return;
        };
        let reason = link.connection.close_reason();
        let loss = match reason {
            Some(iroh::endpoint::ConnectionError::TimedOut) => Loss::Silent,
            _ => Loss::Closed,
        };
        self.lose(id.peer, loss);
        self.settle();
    }

    /// Takes a link down and tells the node.
    pub(super) fn lose(&mut self, peer: Peer, loss: Loss) {
        self.lose_to(peer, loss, None);
    }

    fn lose_to(&mut self, peer: Peer, loss: Loss, parting: Option<Parting>) {
        let slot = self.slot(peer);
        let Some(link) = slot.link.take() else { return };
        if parting.is_none() {
            // One that takes its place keeps it open; else the node opens anew if it wants to.
            slot.holders.clear();
        }
        parting.unwrap_or(Parting::Idle).close(&link.connection);
        self.traffic.bytes_in += link.shared.read.load(Ordering::Relaxed);
        self.down(peer, loss);
        self.unhold(link.id);
        self.book.release(peer);
    }
}
