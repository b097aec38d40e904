//! Links come and go: dials, knocks, beats, suspicion, and the end.
//!
//! Between two peers stands one connection. Where both dial at once, the dial of the smaller PeerId
//! wins: the smaller turns the other's dial away, the larger takes what comes. Later on a new
//! connection replaces an old one, since nobody dials who believes to have one.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::BytesMut;
use iroh::{
    EndpointAddr, PublicKey, TransportAddr,
    endpoint::{Connection, SendStream},
};
use ringweave_ids::{Guid, Peer, PeerId, Time};
use ringweave_node::{
    Frame, Input, Lane,
    wire::{Decoder, Encoder},
};
use ringweave_overlay::{Host as _, Loss, Overlay};
use tokio::time::timeout;

use super::{Ending, Hub, alarms::What};
use crate::{
    book::Book,
    event::Event,
    gate::{ALPN, Hello, Parting, Side, Turned, remote},
    handle::PeerEvent,
    link::{self, LinkId, Shared, Tasks},
};

/// Deadline of a dial, handshake and greeting included.
const DIAL: Duration = Duration::from_secs(5);
/// Deadline of a dial to a peer that has fallen silent: with [`SILENCE`] and a tick it makes 3.5 s.
const REDIAL: Duration = Duration::from_millis(900);
/// Dials under way at once; more wait for a place.
const DIALS: usize = 32;
/// Connections at once; an inner peer of rings of 32 holds about 70.
const LINKS: usize = 4_096;
/// Frames that wait for a connection to one peer.
const WAITING: usize = 256;
/// A link on which nothing was sent for this long gets a beat.
const BEAT: Duration = Duration::from_secs(1);
/// A link that was silent for this long is suspected: two beats are missing.
const SILENCE: Duration = Duration::from_millis(2_500);
/// A link that nobody holds is closed after this long without use.
const IDLE: Duration = Duration::from_secs(15);
/// Two connections younger than this were dialled at the same time.
const YOUNG: Duration = Duration::from_secs(5);
/// How long the larger waits for the smaller's dial before it tries its own again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a dial that met another one is tried again.
const TRIES: u8 = 3;
/// The longest rest of a peer that could not be reached, reached by doubling from one second.
const REST: Duration = Duration::from_secs(32);
/// How soon a peer that rests is called down again, so that asking at once does not turn in circles.
const NOT_NOW: Duration = Duration::from_millis(250);
/// Unreachable peers remembered.
const RESTS: usize = 4_096;
/// Between two looks at the links; the soonest of beats and suspicions is met this closely.
const TICK: Duration = Duration::from_millis(50);
/// A loop that comes this late to a tick was held up, and so perhaps were its readers.
const LATE: Duration = Duration::from_millis(100);

/// What stands between this peer and another.
pub(super) struct Slot<O: Overlay> {
    pub(super) link: Option<Box<Link<O>>>,
    dial: Option<Dial>,
    waiting: Vec<(Lane, Frame<O>)>,
    /// Whether the node holds the connection.
    pub(super) is_open: bool,
}

impl<O: Overlay> Default for Slot<O> {
    fn default() -> Self {
        Self {
            link: None,
            dial: None,
            waiting: Vec::new(),
            is_open: false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Dial {
    stamp: u64,
    /// Whether a connection stands that fell silent.
    is_redial: bool,
    /// Whether it is under way, not waiting for a place or for the end of a rest.
    is_running: bool,
    tries: u8,
}

/// A connection that stands.
pub(super) struct Link<O: Overlay> {
    pub(super) id: LinkId,
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) encoders: [Encoder<O>; 2],
    pub(super) decoders: [Option<Decoder<O>>; 2],
    pub(super) buffers: [BytesMut; 2],
    pub(super) is_dirty: bool,
    /// Whether its message queue stayed full for so long that messages for it are dropped.
    pub(super) is_stuck: bool,
    /// When something was last sent on it, beats included.
    pub(super) sent: Time,
    /// When something last went over it, either way, that was not a beat.
    pub(super) used: Time,
    since: Time,
    is_mine: bool,
    is_suspect: bool,
    incarnation: u64,
    tasks: Tasks,
}

impl<O: Overlay> Link<O> {
    pub(super) async fn drain(&mut self, span: Duration) {
        self.tasks.drain(span).await;
    }
}

/// Peers that could not be reached, and until when they are left alone.
#[derive(Debug, Default)]
pub(super) struct Rests(HashMap<PeerId, (u32, Time)>);

impl Rests {
    fn note(&mut self, id: PeerId, now: Time) {
        if self.0.len() >= RESTS {
            self.0.retain(|_, (_, until)| *until > now);
            if self.0.len() >= RESTS {
                return;
            }
        }
        let (failures, until) = self.0.entry(id).or_insert((0, now));
        let rest = Duration::from_secs(1 << (*failures).min(5)).min(REST);
        *failures += 1;
        *until = now + rest;
    }

    fn is_resting(&self, id: &PeerId, now: Time) -> bool {
        self.0.get(id).is_some_and(|(_, until)| *until > now)
    }
}

impl<O: Overlay<Address = Guid>> Hub<O> {
    pub(super) fn link(&self, peer: Peer) -> Option<&Link<O>> {
        self.slots.get(peer.0 as usize)?.link.as_deref()
    }

    /// The link, if it still is that very connection.
    pub(super) fn link_mut(&mut self, id: LinkId) -> Option<&mut Link<O>> {
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

    fn slot(&mut self, peer: Peer) -> &mut Slot<O> {
        self.make_room(peer);
        &mut self.slots[peer.0 as usize]
    }

    /// Clears what is left of a peer that the book no longer has.
    pub(super) fn tidy(&mut self, peer: Peer) {
        if !self.book.has(peer)
            && let Some(slot) = self.slots.get_mut(peer.0 as usize)
        {
            *slot = Slot::default();
        }
    }

    pub(super) fn open(&mut self, peer: Peer) {
        self.slot(peer).is_open = true;
        self.dial(peer);
    }

    pub(super) fn unpin(&mut self, peer: Peer) {
        if let Some(slot) = self.slots.get_mut(peer.0 as usize) {
            slot.is_open = false;
        }
    }

    pub(super) fn send_later(&mut self, peer: Peer, lane: Lane, frame: Frame<O>) {
        let slot = self.slot(peer);
        if slot.waiting.len() < WAITING {
            slot.waiting.push((lane, frame));
        } else {
            self.traffic.dropped += 1;
        }
        self.dial(peer);
    }

    /// Dials unless there is a connection or a dial already.
    pub(super) fn dial(&mut self, peer: Peer) {
        let id = self.book.id(peer);
        let is_resting = self.rests.is_resting(&id, self.now);
        let is_known = peer != Book::ME && self.book.has(peer);
        self.stamps += 1;
        let stamp = self.stamps;
        let slot = self.slot(peer);
        if slot.link.is_some() || slot.dial.is_some() {
            return;
        }
        slot.dial = Some(Dial {
            stamp,
            is_redial: false,
            is_running: false,
            tries: 0,
        });
        self.book.hold(peer);
        if is_resting || !is_known {
            self.alarms.set(self.now + NOT_NOW, What::Down(peer, stamp));
        } else if self.dials >= DIALS {
            self.dial_queue.push_back(peer);
        } else {
            self.start_dial(peer, stamp, DIAL);
        }
    }

    fn start_dial(&mut self, peer: Peer, stamp: u64, limit: Duration) {
        self.dials += 1;
        if let Some(dial) = &mut self.slot(peer).dial {
            dial.is_running = true;
        }
        let (endpoint, gate, report) = (
            self.endpoint.clone(),
            Arc::clone(&self.gate),
            self.report.clone(),
        );
        let addresses = self.book.addresses(peer).into_iter().map(TransportAddr::Ip);
        let key = PublicKey::from_bytes(self.book.id(peer).as_bytes());
        let address = key.map(|key| EndpointAddr::from_parts(key, addresses));
        self.tasks.spawn(async move {
            let attempt = async {
                let address = address.map_err(|_| Turned::Lost)?;
                if address.is_empty() {
                    return Err(Turned::Lost);
                }
                let connection = endpoint
                    .connect(address, ALPN)
                    .await
                    .map_err(|_| Turned::Lost)?;
                let hello = gate.greet(&connection).await?;
                Ok(Box::new((connection, hello)))
            };
            let result = timeout(limit, attempt).await.unwrap_or(Err(Turned::Lost));
            // The loop may be gone.
            let _ = report
                .send(Event::Dialled {
                    peer,
                    stamp,
                    result,
                })
                .await;
        });
    }

    /// A dial is over, one way or another; the next that waits may start.
    fn end_dial(&mut self, peer: Peer) {
        if let Some(slot) = self.slots.get_mut(peer.0 as usize)
            && slot.dial.take().is_some()
        {
            self.book.release(peer);
        }
    }

    fn next_dial(&mut self) {
        self.dials -= 1;
        while self.dials < DIALS
            && let Some(peer) = self.dial_queue.pop_front()
        {
            if let Some(Dial { stamp, .. }) = self.slot(peer).dial {
                self.start_dial(peer, stamp, DIAL);
            }
        }
    }

    pub(super) fn on_dialled(
        &mut self,
        peer: Peer,
        stamp: u64,
        result: Result<Box<(Connection, Hello)>, Turned>,
    ) {
        self.next_dial();
        let dial = self.slot(peer).dial.filter(|dial| dial.stamp == stamp);
        match (result, dial) {
            (Ok(fresh), _) => {
                let (connection, hello) = *fresh;
                self.on_connected(peer, connection, hello, dial);
            }
            (Err(_), None) => {}
            (Err(turned), Some(dial)) => self.on_undialled(peer, dial, turned),
        }
        self.settle();
    }

    fn on_connected(
        &mut self,
        peer: Peer,
        connection: Connection,
        hello: Hello,
        dial: Option<Dial>,
    ) {
        let is_smaller = self.book.id(Book::ME) < remote(&connection);
        let is_lost = self.link(peer).is_some_and(|link| {
            let is_theirs = !link.is_mine && link.incarnation == hello.incarnation;
            is_theirs && !is_smaller && self.now.since(link.since) < YOUNG
        });
        let is_redial = dial.is_some_and(|dial| dial.is_redial);
        if (is_lost && !is_redial) || !self.book.has(peer) {
            Parting::Double.close(&connection);
            self.end_dial(peer);
            self.tidy(peer);
            return;
        }
        self.establish(peer, connection, hello, true);
    }

    fn on_undialled(&mut self, peer: Peer, dial: Dial, turned: Turned) {
        let id = self.book.id(peer);
        if dial.is_redial {
            self.end_dial(peer);
            let is_silent = self
                .link(peer)
                .is_some_and(|link| self.silence(link) >= SILENCE);
            if is_silent {
                self.lose(peer, Loss::Silent);
            } else if let Some(link) = self.slot(peer).link.as_deref_mut() {
                link.is_suspect = false;
            }
            return;
        }
        if self.link(peer).is_some() {
            self.end_dial(peer);
            return;
        }
        if turned == Turned::Down(Parting::Double) && dial.tries < TRIES {
            if let Some(dial) = &mut self.slot(peer).dial {
                dial.is_running = false;
            }
            self.alarms
                .set(self.now + AGAIN, What::Again(peer, dial.stamp));
            return;
        }
        self.rests.note(id, self.now);
        let loss = match turned {
            Turned::Down(parting) | Turned::Away(parting) if parting.is_final() => {
                self.on_refused(parting, turned);
                Loss::Refused
            }
            Turned::Down(Parting::Busy) => Loss::Refused,
            _ => Loss::Unreachable,
        };
        self.on_unreachable(peer, loss);
    }

    /// A peer of the network, or of another, turned this one away for good.
    fn on_refused(&mut self, parting: Parting, turned: Turned) {
        tracing::info!(?turned, "refused: {parting}");
        if !self.contacts.is_known
            && let Some(placed) = self.placed.take()
        {
            // Whoever started this peer may have given up on it.
            let _ = placed.send(Err(Ending::Parted(parting)));
        }
    }

    /// A peer that was not dialled because it rests.
    pub(super) fn on_rested(&mut self, peer: Peer, stamp: u64) {
        if self
            .slot(peer)
            .dial
            .is_some_and(|dial| dial.stamp == stamp && !dial.is_running)
        {
            self.on_unreachable(peer, Loss::Unreachable);
        }
    }

    fn on_unreachable(&mut self, peer: Peer, loss: Loss) {
        if self.link(peer).is_some() {
            return;
        }
        let slot = self.slot(peer);
        slot.is_open = false;
        let waiting = std::mem::take(&mut slot.waiting);
        self.traffic.dropped += waiting.len() as u64;
        self.down(peer, loss);
        self.end_dial(peer);
        self.tidy(peer);
        self.settle();
    }

    pub(super) fn dial_again(&mut self, peer: Peer, stamp: u64) {
        let slot = self.slot(peer);
        let Some(dial) = slot.dial.as_mut().filter(|dial| dial.stamp == stamp) else {
            return;
        };
        if slot.link.is_some() {
            self.end_dial(peer);
            return;
        }
        dial.tries += 1;
        self.start_dial(peer, stamp, DIAL);
    }

    /// Someone connected, and passed the gate.
    pub(super) fn on_knock(&mut self, connection: Connection, hello: Hello, mut send: SendStream) {
        let id = remote(&connection);
        let known = self.book.peer(&id);
        let is_smaller = self.book.id(Book::ME) < id;
        let slot = known.and_then(|peer| self.slots.get(peer.0 as usize));
        let is_dialling = slot.is_some_and(|slot| {
            slot.dial
                .is_some_and(|dial| !dial.is_redial && dial.is_running)
        });
        let link = slot.and_then(|slot| slot.link.as_deref());
        let is_same_moment = link.is_some_and(|link| {
            link.is_mine
                && !link.is_suspect
                && link.incarnation == hello.incarnation
                && self.now.since(link.since) < YOUNG
        });
        let count = self.slots.iter().filter(|slot| slot.link.is_some()).count();
        let verdict = if is_smaller && (is_same_moment || (is_dialling && link.is_none())) {
            Some(Parting::Double)
        } else if (link.is_none() && count >= LINKS)
            || self.leaving.is_some()
            || hello.instance != 0
        {
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
    fn establish(&mut self, peer: Peer, connection: Connection, hello: Hello, is_mine: bool) {
        if self.link(peer).is_some() {
            self.lose_to(peer, Loss::Closed, Some(Parting::Double));
        }
        self.rests.0.remove(&self.book.id(peer));
        self.book.hold(peer);
        self.book.learn(peer, &hello.card);
        self.end_dial(peer);
        self.stamps += 1;
        let id = LinkId {
            peer,
            stamp: self.stamps,
        };
        let (shared, tasks) = link::start(&connection, id, self.origin, &self.report);
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
            is_suspect: false,
            incarnation: hello.incarnation,
            tasks,
        };
        let slot = self.slot(peer);
        slot.link = Some(Box::new(link));
        let waiting = std::mem::take(&mut slot.waiting);
        self.next_tick = self.now;
        self.contacts.note(&self.book, peer);
        self.watch(PeerEvent::Up {
            peer: self.book.id(peer),
        });
        for (lane, frame) in waiting {
            self.send(peer, lane, frame);
        }
        self.later.push_back(Input::Up(peer));
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
            slot.is_open = false;
        }
        parting.unwrap_or(Parting::Idle).close(&link.connection);
        self.traffic.bytes_in += link.shared.read.load(Ordering::Relaxed);
        self.down(peer, loss);
        self.unhold(link.id);
        self.book.release(peer);
        self.tidy(peer);
    }

    fn silence(&self, link: &Link<O>) -> Duration {
        self.now.since(Time::from_micros(link.shared.heard()))
    }

    /// Looks at every link: beats, suspicions, idleness; then at all else that takes its time.
    pub(super) fn tick(&mut self) {
        let late = self.now.since(self.next_tick);
        if late > LATE {
            for link in self.slots.iter().filter_map(|slot| slot.link.as_deref()) {
                link.shared.excuse(late);
            }
        }
        let mut next = self.now + BEAT;
        let (mut suspects, mut idle) = (Vec::new(), Vec::new());
        for slot in &mut self.slots {
            let Some(link) = slot.link.as_deref_mut() else {
                continue;
            };
            if self.now.since(link.sent) >= BEAT {
                link.sent = self.now;
                // A full send buffer means that something is on its way anyhow.
                let _ = link
                    .connection
                    .send_datagram(link::beat(slot.is_open).into());
            }
            let silence = self.now.since(Time::from_micros(link.shared.heard()));
            if silence >= SILENCE && !link.is_suspect {
                link.is_suspect = true;
                suspects.push(link.id.peer);
            } else if silence < SILENCE && slot.dial.is_none() {
                link.is_suspect = false;
            }
            let is_held = slot.is_open || link.shared.is_wanted();
            if !is_held && self.now.since(link.used) >= IDLE {
                idle.push(link.id.peer);
            }
            next = next.min(link.sent + BEAT);
            if !link.is_suspect {
                next = next.min(self.now + SILENCE.saturating_sub(silence));
            }
            if let Some(path) = link
                .connection
                .paths()
                .iter()
                .find(|path| path.is_selected())
            {
                self.book.time(link.id.peer, path.rtt());
            }
        }
        self.next_tick = next.max(self.now + TICK);
        for peer in suspects {
            self.redial(peer);
        }
        for peer in idle {
            self.lose(peer, Loss::Closed);
            self.settle();
        }
        self.pay_overdue();
        while self.tasks.try_join_next().is_some() {}
        self.on_event(Event::Taken);
        self.keep_trying();
        self.expire();
        self.contacts.save(self.now, false);
    }

    fn redial(&mut self, peer: Peer) {
        self.stamps += 1;
        let stamp = self.stamps;
        let slot = self.slot(peer);
        if slot.dial.is_none() {
            slot.dial = Some(Dial {
                stamp,
                is_redial: true,
                is_running: false,
                tries: 0,
            });
            self.book.hold(peer);
            self.start_dial(peer, stamp, REDIAL);
        }
    }
}
