//! Dials: bounded in time and number, never twice at once, and not soon again after a failure.
//!
//! Where two peers dial each other at once, the dial of the smaller PeerId wins.

use std::{collections::HashMap, sync::Arc, time::Duration};

use iroh::{EndpointAddr, PublicKey, TransportAddr, endpoint::Connection};
use ringweave_ids::{Peer, PeerId, Time};
use ringweave_node::{Frame, Lane};
use ringweave_overlay::{Host as _, Loss, any::Any};
use tokio::time::timeout;

use super::{Ending, Hub, alarms::What};
use crate::{
    book::Book,
    event::Event,
    gate::{ALPN, Hello, Parting, Turned, remote},
};

/// Deadline of a dial, handshake and greeting included.
const DIAL: Duration = Duration::from_secs(5);
/// Dials under way at once; more wait for a place.
const DIALS: usize = 32;
/// Two connections younger than this were dialled at the same time.
pub(super) const YOUNG: Duration = Duration::from_secs(5);
/// How long the larger waits for the smaller's dial before it tries its own again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a dial that met another one is tried again.
const TRIES: u8 = 3;
/// The longest rest of a peer that could not be reached, reached by doubling from one second.
const LONGEST: Duration = Duration::from_secs(8);
/// How soon a peer that rests is called down again, so that asking at once does not turn in circles.
const NOT_NOW: Duration = Duration::from_millis(250);
/// Unreachable peers remembered.
const RESTS: usize = 4_096;
/// Frames that wait for a connection to one peer.
const WAITING: usize = 256;

#[derive(Clone, Copy, Debug)]
pub(super) struct Dial {
    stamp: u64,
    /// Whether it is under way, not waiting for a place or for the end of a rest.
    pub(super) is_running: bool,
    /// Whether it was begun anew because a newer card came.
    is_renewed: bool,
    tries: u8,
}

/// Peers that could not be reached, and until when they are left alone.
#[derive(Debug, Default)]
pub(super) struct Rests(HashMap<PeerId, Rest>);

#[derive(Clone, Copy, Debug)]
struct Rest {
    failures: u32,
    /// When the last dial failed.
    since: Time,
    until: Time,
}

impl Rests {
    fn note(&mut self, id: PeerId, now: Time) {
        if self.0.len() >= RESTS {
            self.0.retain(|_, rest| rest.until > now);
            if self.0.len() >= RESTS {
                return;
            }
        }
        let rest = self.0.entry(id).or_insert(Rest {
            failures: 0,
            since: now,
            until: now,
        });
        let span = Duration::from_secs(1 << rest.failures.min(5)).min(LONGEST);
        rest.failures += 1;
        rest.since = now;
        rest.until = now + span;
    }

    /// When a dial to a peer failed last, and until when it rests.
    pub(super) fn failure(&self, id: &PeerId) -> Option<(Time, Time)> {
        self.0.get(id).map(|rest| (rest.since, rest.until))
    }

    /// Nobody rests any longer.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// A peer was reached.
    pub(super) fn forget(&mut self, id: &PeerId) {
        self.0.remove(id);
    }

    fn is_resting(&self, id: &PeerId, now: Time) -> bool {
        self.0.get(id).is_some_and(|rest| rest.until > now)
    }
}

impl Hub {
    pub(super) fn send_later(&mut self, number: u32, peer: Peer, lane: Lane, frame: Frame<Any>) {
        let slot = self.slot(peer);
        if slot.waiting.len() < WAITING {
            slot.waiting.push((number, lane, frame));
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
            is_running: false,
            is_renewed: false,
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

    /// A newer card came: a dial that follows the old one is joined by another, once.
    pub(super) fn redial(&mut self, peer: Peer) {
        self.stamps += 1;
        let stamp = self.stamps;
        let has_room = self.dials < DIALS;
        let slot = self.slot(peer);
        let Some(dial) = slot.dial.as_mut().filter(|_| slot.link.is_none()) else {
            return;
        };
        if has_room && dial.is_running && !dial.is_renewed {
            (dial.stamp, dial.is_renewed) = (stamp, true);
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
        let id = self.book.id(peer);
        // Who hosts a relay is dialled itself.
        let site = self.site(peer).filter(|site| site.host != id);
        let fresh = site.and_then(|site| self.want(site));
        let relay = site.map(|site| TransportAddr::Relay(site.url()));
        let addresses = self.book.addresses(peer).into_iter().map(TransportAddr::Ip);
        let addresses: Vec<_> = addresses.chain(relay).collect();
        let key = PublicKey::from_bytes(self.book.id(peer).as_bytes());
        let address = key.map(|key| EndpointAddr::from_parts(key, addresses));
        self.tasks.spawn(async move {
            let attempt = async {
                let address = address.map_err(|_| Turned::Lost)?;
                if address.is_empty() {
                    return Err(Turned::Lost);
                }
                if let Some((url, config)) = fresh {
                    endpoint.insert_relay(url, config).await;
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
    pub(super) fn end_dial(&mut self, peer: Peer) {
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
                self.on_connected(peer, connection, hello);
            }
            (Err(_), None) => {}
            (Err(turned), Some(dial)) => self.on_undialled(peer, dial, turned),
        }
        self.settle();
    }

    fn on_connected(&mut self, peer: Peer, connection: Connection, hello: Hello) {
        let is_smaller = self.book.id(Book::ME) < remote(&connection);
        let is_lost = self.link(peer).is_some_and(|link| {
            let is_theirs = !link.is_mine && link.incarnation == hello.incarnation;
            is_theirs && !is_smaller && self.now.since(link.since) < YOUNG
        });
        if is_lost || !self.book.has(peer) {
            Parting::Double.close(&connection);
            self.end_dial(peer);
            return;
        }
        self.establish(peer, connection, hello, true);
    }

    fn on_undialled(&mut self, peer: Peer, dial: Dial, turned: Turned) {
        let id = self.book.id(peer);
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
        slot.holders.clear();
        let waiting = std::mem::take(&mut slot.waiting);
        self.traffic.dropped += waiting.len() as u64;
        self.down(peer, loss);
        self.end_dial(peer);
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
}
