//! The plain, non-generic handle to a running peer: what the API, the program and the library use.
//!
//! A handle is cheap to clone. Its calls go to the peer's event loop over a bounded queue and wait
//! for the answer; each has a deadline of its own below, so none waits for ever.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use ringweave_ids::{Guid, Key, PeerId};
use ringweave_node::{
    Denial, Failure, Fetched, MAX_LEASE, MAX_RECORD_NAME, MAX_VALUE, MIN_LEASE, MessageKind,
    NotKept, Owned, Record, Stored, Turn,
};
use ringweave_overlay::Topology;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::hub::Seen;
use crate::inbox::Inbox;
use crate::invite::Invite;

/// Calls that may wait for the event loop at once; more callers wait for a place.
pub(crate) const REQUESTS: usize = 256;

/// Messages in one run: two of them fit into what a peer lets wait.
pub const MAX_RUN: usize = 1_024;

/// A running peer.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) id: PeerId,
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) events: broadcast::Sender<PeerEvent>,
}

/// How a peer is named by a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRef {
    /// A whole PeerId.
    Id(PeerId),
    /// A GUID, `[4.2.17]`.
    Guid(Guid),
    /// A name, or the first characters of a PeerId.
    Word(String),
}

/// What a call to a running peer can fail with.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The words of the contract: not found, no route, refused, timeout, too large.
    #[error("{}", explain(.failure, .peer, .at))]
    Failed {
        /// Which.
        failure: Failure,
        /// To whom it was, as the caller named it.
        peer: String,
        /// The hop at which it failed, if one said so.
        at: Option<Guid>,
    },
    /// Several peers start with the given characters.
    #[error("{prefix:?} is ambiguous: it could be {}", .candidates.iter().map(PeerId::short).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// Whom it could mean.
        candidates: Vec<PeerId>,
    },
    /// The text names no peer in any form.
    #[error("{0}")]
    Malformed(String),
    /// The network's topology cannot do that.
    #[error("{0}")]
    Unable(String),
    /// Nobody is found by that word, where nobody keeps names.
    #[error(
        "no neighbour is called {word}, and an unstructured network keeps no names: use a whole PeerId"
    )]
    NoNames {
        /// What was given.
        word: String,
    },
    /// A record was not kept, or not read.
    #[error("{}", explain_record(.0))]
    Record(NotKept),
    /// This peer may not do that.
    #[error("{0}")]
    Denied(String),
    /// The network is doing something else.
    #[error("{0}")]
    Busy(String),
    /// The peer has stopped.
    #[error("the peer has stopped")]
    Stopped,
}

fn explain(failure: &Failure, peer: &str, at: &Option<Guid>) -> String {
    let place = at
        .as_ref()
        .map(|at| format!(" (at hop {at})"))
        .unwrap_or_default();
    match failure {
        Failure::NotFound => format!("no peer {peer} in this network{place}"),
        Failure::NoRoute => format!("no route to {peer}{place}; it may be rejoining, try again"),
        Failure::Refused => {
            format!("{peer} refused the message{place}: its inbox is full or it restarted")
        }
        Failure::Timeout => format!("no answer from {peer} within the deadline"),
        Failure::TooLarge => format!(
            "the payload is over the limit of {} bytes",
            ringweave_node::MAX_PAYLOAD
        ),
    }
}

fn explain_record(why: &NotKept) -> String {
    match why {
        NotKept::NoHolders => "an unstructured network keeps no records, as nobody in it holds a key; any other topology does".into(),
        NotKept::Failed(Failure::Refused) => "too many records are put or read at once; try again".into(),
        NotKept::Failed(_) => {
            "those who hold the key cannot be reached, so nobody knows what is there; try again".into()
        }
        NotKept::Denied(Denial::TooLarge) => format!(
            "a record has a name of 1 to {MAX_RECORD_NAME} bytes and a value of at most {MAX_VALUE} bytes; \
             larger things travel as content"
        ),
        NotKept::Denied(Denial::Malformed) => format!(
            "a lease has {} s to {} days, and only what has a name can be deleted",
            MIN_LEASE.as_secs(),
            MAX_LEASE.as_secs() / 86_400
        ),
        NotKept::Denied(Denial::Forged) => "the holder says that the signature is wrong".into(),
        NotKept::Denied(Denial::Stale) => {
            "there is a newer record of that name; does another process use the same identity?".into()
        }
        NotKept::Denied(Denial::Expired) => {
            "the holder says that the lease is over: the clock of this peer or of that one is wrong".into()
        }
        NotKept::Denied(Denial::Full) => "those who hold the key have no room for more records".into(),
        NotKept::Denied(Denial::Quota) => {
            "this peer keeps as many records, or bytes, as one peer may; delete some".into()
        }
    }
}

/// A delivered message.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// Who took it.
    pub peer: PeerId,
    /// Where that peer sits.
    pub guid: Option<Guid>,
    /// Hops it made.
    pub hops: u8,
    /// From sending to knowing.
    pub took: Duration,
}

/// A delivered run of messages.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// How many.
    pub delivered: usize,
    /// Hops that the last one made.
    pub hops: u8,
    /// From the last one's sending to knowing.
    pub took: Duration,
}

/// How far a broadcast got.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// Peers that hold it, this one included.
    pub reached: u64,
    /// Time to the last answer.
    pub took: Duration,
}

/// One hop of a trace, the origin first.
#[derive(Clone, Debug, Serialize)]
pub struct TracedHop {
    /// Who.
    pub peer: PeerId,
    /// Where.
    pub guid: Guid,
    /// From the origin there and back; zero for the origin.
    pub round_trip: Duration,
}

/// A message from the network.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    /// How it was sent.
    pub kind: MessageKind,
    /// Who sent it.
    pub from: PeerId,
    /// Its number in the sender's flow.
    pub seq: u64,
    /// Hops it made.
    pub hops: u8,
    /// Whether it comes after those that were sent before it.
    pub turn: Turn,
    /// What it carries.
    #[serde(skip)]
    pub payload: Bytes,
}

/// What happens at a peer, for those who watch.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PeerEvent {
    /// It has a place, or another than before.
    Placed {
        /// Where.
        guid: Guid,
    },
    /// It lost its place and joins again by itself.
    Displaced,
    /// A connection stands.
    Up {
        /// To whom.
        peer: PeerId,
    },
    /// A connection is gone.
    Down {
        /// To whom.
        peer: PeerId,
        /// Why: `closed`, `silent`, `unreachable`, `refused`.
        why: String,
    },
    /// Packets to a neighbour go another way now.
    Path {
        /// To whom.
        peer: PeerId,
        /// `direct` or `relay`.
        path: String,
        /// Whose relay.
        relay: Option<PeerId>,
    },
    /// The network is on its way to another topology, or has arrived.
    Evolving {
        /// The topology that messages go over now.
        topology: &'static str,
        /// Where it is on its way; nothing once it has arrived.
        evolution: Option<Evolution>,
    },
    /// The network refused this peer, for good.
    Refused {
        /// Why.
        why: String,
    },
    /// It has left.
    Left,
}

/// A peer's state at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Who.
    pub peer_id: PeerId,
    /// The name it gave itself.
    pub name: Option<String>,
    /// Where it sits; nothing while it joins.
    pub guid: Option<Guid>,
    /// The network's id (its public key, base32).
    pub network: String,
    /// Whether joining needs an invite with a secret.
    pub closed: bool,
    /// The topology.
    pub topology: &'static str,
    /// Where the network is on its way to another one, if it is on its way.
    pub evolution: Option<Evolution>,
    /// Most positions in a ring.
    pub ring_size: usize,
    /// Members of a position with children.
    pub cluster: usize,
    /// The shaping policy.
    pub policy: String,
    /// The socket addresses it listens on.
    pub listen: Vec<SocketAddr>,
    /// Whether anybody may be expected to reach it by dialling.
    pub reachable: bool,
    /// Why it thinks so.
    pub why: String,
    /// Where it hosts a relay for others, if it does.
    pub hosts_relay: Option<SocketAddr>,
    /// Whose relay passes packets on to it, if one does.
    pub home_relay: Option<PeerId>,
    /// Neighbours in its table.
    pub neighbours: usize,
    /// Connections that stand.
    pub links: usize,
    /// Since when it runs.
    pub uptime: Duration,
    /// Counters since its start.
    pub counters: Counters,
}

/// A network on its way from one topology to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Evolution {
    /// `preparing`: peers take places in the new topology, messages go over the old one; `finishing`:
    /// messages go over the new one, and in the old one those under way arrive.
    pub stage: &'static str,
    /// The topology that it leaves.
    pub from: &'static str,
    /// The topology that it goes to.
    pub to: &'static str,
}

/// Counters since a peer's start.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counters {
    /// Messages this peer sent.
    pub sent: u64,
    /// Messages delivered here.
    pub delivered: u64,
    /// Messages passed on to a neighbour; one broadcast counts once per copy, own copies included.
    pub forwarded: u64,
    /// Copies of broadcasts handed to a neighbour (transmissions).
    pub spread: u64,
    /// Messages that arrived more than once.
    pub duplicates: u64,
    /// Broadcasts that came because this peer asked a neighbour for them.
    pub repaired: u64,
    /// Broadcasts delivered after a later one of their sender; each is marked [`Turn::Late`].
    pub late: u64,
    /// Broadcasts offered to a neighbour, each time one is.
    pub offered: u64,
    /// Broadcasts asked of a neighbour, each time one is.
    pub asked: u64,
    /// Broadcasts that were offered or missed, and came from nobody who was asked.
    pub missed: u64,
    /// Messages dropped because a queue was full.
    pub dropped: u64,
    /// Nonsense from the network.
    pub faults: u64,
    /// Bytes written to links, framing included, QUIC excluded.
    pub bytes_out: u64,
    /// Bytes read from links.
    pub bytes_in: u64,
}

/// A neighbour.
#[derive(Clone, Debug, Serialize)]
pub struct PeerInfo {
    /// Who.
    pub peer_id: PeerId,
    /// What it is to this peer: `parent`, `sibling`, `child`.
    pub role: String,
    /// Where it sits.
    pub guid: Guid,
    /// Whether a connection stands.
    pub linked: bool,
    /// `direct`, `relay`, `parent` (no connection, messages go through the parent) or `none`.
    pub path: String,
    /// Whose relay, if it is one.
    pub relay: Option<PeerId>,
    /// Why this path and no better one.
    pub why: String,
    /// The connection's round trip, if linked.
    pub round_trip: Option<Duration>,
    /// Where it is reached.
    pub addresses: Vec<String>,
}

/// The rings as seen from the center outward.
#[derive(Clone, Debug, Serialize)]
pub struct Tree {
    /// Every peer found, by GUID.
    pub peers: Vec<TreePeer>,
    /// Whether peers were left out, because there were more than asked for or some did not answer.
    pub truncated: bool,
}

/// A peer in a tree.
#[derive(Clone, Debug, Serialize)]
pub struct TreePeer {
    /// Where.
    pub guid: Guid,
    /// Who.
    pub peer_id: PeerId,
    /// The name it gave itself.
    pub name: Option<String>,
}

/// A watched key; the watch ends when this is dropped.
#[derive(Debug)]
pub struct Watch(pub(crate) watch::Receiver<Seen>);

impl Watch {
    /// What is kept under the key: first what is there now, then every change, or the last of several that
    /// came together. Nothing once the peer has stopped.
    ///
    /// Cancel-safe: what was not taken comes with the next call.
    pub async fn next(&mut self) -> Option<Result<Option<Fetched>, CallError>> {
        loop {
            self.0.changed().await.ok()?;
            let told = self.0.borrow_and_update().clone();
            if let Some(told) = told {
                return Some(told.map_err(CallError::Record));
            }
        }
    }
}

/// What the handle asks of the event loop.
#[derive(Debug)]
pub(crate) enum Request {
    Send(PeerRef, Bytes, Answer<Delivery>),
    Run(PeerRef, Vec<Bytes>, Answer<Run>),
    Multicast(
        Vec<PeerRef>,
        Bytes,
        oneshot::Sender<Vec<Result<Delivery, CallError>>>,
    ),
    Broadcast(Option<Guid>, Bytes, Answer<Spread>),
    Trace(PeerRef, Answer<Vec<TracedHop>>),
    Resolve(PeerRef, Answer<PeerId>),
    Tree(usize, Answer<Tree>),
    Status(oneshot::Sender<Status>),
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Invite(oneshot::Sender<Invite>),
    Listen(oneshot::Sender<Inbox>),
    Evolve(Topology, Answer<()>),
    Put(Option<String>, Option<Bytes>, Duration, Answer<Stored>),
    Get(Key, Answer<Option<Fetched>>),
    Watch(Key, oneshot::Sender<Watch>),
    Owned(oneshot::Sender<Vec<Owned>>),
    Leave(oneshot::Sender<()>),
}

pub(crate) type Answer<T> = oneshot::Sender<Result<T, CallError>>;

impl Handle {
    /// Who this peer is.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Sends to one peer and waits until it is delivered (at most 6 s).
    ///
    /// # Errors
    /// Every way in which it was not delivered.
    pub async fn send(&self, to: PeerRef, payload: Bytes) -> Result<Delivery, CallError> {
        self.ask(|answer| Request::Send(to, payload, answer))
            .await?
    }

    /// Sends many messages to one peer, in order, and waits until all are delivered: far cheaper a
    /// message than [`send`](Self::send). At most [`MAX_RUN`] at once; each has 5 s, so a run should
    /// not be larger than what gets through within them.
    ///
    /// # Errors
    /// The first message's that was not delivered; the others may have been.
    pub async fn send_run(&self, to: PeerRef, payloads: Vec<Bytes>) -> Result<Run, CallError> {
        if payloads.len() > MAX_RUN {
            return Err(CallError::Malformed(format!(
                "a run of {} messages is over the limit of {MAX_RUN}; send it in parts",
                payloads.len()
            )));
        }
        self.ask(|answer| Request::Run(to, payloads, answer))
            .await?
    }

    /// Sends to several peers along one tree; the results stand in the order of `to`.
    ///
    /// # Errors
    /// If the peer has stopped.
    pub async fn multicast(
        &self,
        to: Vec<PeerRef>,
        payload: Bytes,
    ) -> Result<Vec<Result<Delivery, CallError>>, CallError> {
        self.ask(|answer| Request::Multicast(to, payload, answer))
            .await
    }

    /// Sends to everyone, or to everyone at or below a GUID, and waits for how far it got.
    ///
    /// # Errors
    /// If the payload is too large or the GUID has no holder.
    pub async fn broadcast(
        &self,
        below: Option<Guid>,
        payload: Bytes,
    ) -> Result<Spread, CallError> {
        self.ask(|answer| Request::Broadcast(below, payload, answer))
            .await?
    }

    /// The way to a peer, this peer first.
    ///
    /// # Errors
    /// If the way ends before the peer.
    pub async fn trace(&self, to: PeerRef) -> Result<Vec<TracedHop>, CallError> {
        self.ask(|answer| Request::Trace(to, answer)).await?
    }

    /// Who is meant.
    ///
    /// # Errors
    /// If nobody is, or several are.
    pub async fn resolve(&self, who: PeerRef) -> Result<PeerId, CallError> {
        self.ask(|answer| Request::Resolve(who, answer)).await?
    }

    /// The rings of the network, from the center outward, at most `limit` peers.
    ///
    /// # Errors
    /// If not even the center answers.
    pub async fn tree(&self, limit: usize) -> Result<Tree, CallError> {
        self.ask(|answer| Request::Tree(limit, answer)).await?
    }

    /// This peer's state.
    ///
    /// # Errors
    /// If the peer has stopped.
    pub async fn status(&self) -> Result<Status, CallError> {
        self.ask(Request::Status).await
    }

    /// This peer's neighbours.
    ///
    /// # Errors
    /// If the peer has stopped.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, CallError> {
        self.ask(Request::Peers).await
    }

    /// An invite into this peer's network.
    ///
    /// # Errors
    /// If the peer has stopped.
    pub async fn invite(&self) -> Result<Invite, CallError> {
        self.ask(Request::Invite).await
    }

    /// The messages for the application, the waiting ones first. A later call takes over from an earlier one.
    ///
    /// # Errors
    /// If the peer has stopped.
    pub async fn listen(&self) -> Result<Inbox, CallError> {
        self.ask(Request::Listen).await
    }

    /// What happens at this peer from now on; a slow watcher misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<PeerEvent> {
        self.events.subscribe()
    }

    /// Begins to move the network to another topology; [`status`](Self::status) tells how far it is.
    ///
    /// Peers take places in the new topology first, while messages go over the old one; once everybody
    /// has one, messages go over the new one, and those under way arrive over the old one. If somebody
    /// has none within two minutes, the network stays as it was.
    ///
    /// # Errors
    /// If this peer does not hold the network's key, as its founder does; if the network is on its way
    /// already, or has this topology.
    pub async fn evolve(&self, to: Topology) -> Result<(), CallError> {
        self.ask(|answer| Request::Evolve(to, answer)).await?
    }

    /// Keeps a value in the network under a name of this peer's, and waits until all copies are there (at
    /// most 7 s). While this peer runs it renews the lease; without it the value stays for `lease`.
    ///
    /// The key by which others read it is [`key`](Self::key) of the name. Putting again replaces the value.
    ///
    /// # Errors
    /// [`CallError::Record`]: it is too large, refused, or its holders cannot be reached. Then it may have
    /// been kept or not; it is not tried again, and what it was to replace is renewed as before.
    pub async fn put(
        &self,
        name: String,
        value: Bytes,
        lease: Duration,
    ) -> Result<Stored, CallError> {
        self.ask(|answer| Request::Put(Some(name), Some(value), lease, answer))
            .await?
    }

    /// Keeps a value that never changes; its key is its BLAKE3 hash.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_immutable(&self, value: Bytes, lease: Duration) -> Result<Stored, CallError> {
        self.ask(|answer| Request::Put(None, Some(value), lease, answer))
            .await?
    }

    /// Deletes what this peer keeps under a name: nobody reads it from then on, and nothing older comes back.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn delete(&self, name: String) -> Result<Stored, CallError> {
        self.ask(|answer| Request::Put(Some(name), None, MAX_LEASE, answer))
            .await?
    }

    /// What is kept under a key; nothing if nobody keeps anything there (at most 6 s).
    ///
    /// # Errors
    /// [`CallError::Record`] if too few of its holders can be reached to say so.
    pub async fn get(&self, key: Key) -> Result<Option<Fetched>, CallError> {
        self.ask(|answer| Request::Get(key, answer)).await?
    }

    /// What is kept under a key, now and whenever it changes: within a second, as a rule, and within twenty
    /// if its holder has just gone.
    ///
    /// # Errors
    /// If the peer has stopped.
    pub async fn watch(&self, key: Key) -> Result<Watch, CallError> {
        self.ask(|answer| Request::Watch(key, answer)).await
    }

    /// The key of a name of this peer's.
    pub fn key(&self, name: &str) -> Key {
        Record::key_of(&self.id, name)
    }

    /// What this peer keeps alive in the network.
    ///
    /// # Errors
    /// If the peer has stopped.
    pub async fn records(&self) -> Result<Vec<Owned>, CallError> {
        self.ask(Request::Owned).await
    }

    /// Leaves the network in an orderly way and stops the peer (at most 2 s).
    pub async fn leave(&self) {
        // A peer that has already stopped has left.
        let _ = self.ask(Request::Leave).await;
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, CallError> {
        let (answer, told) = oneshot::channel();
        self.requests
            .send(request(answer))
            .await
            .map_err(|_| CallError::Stopped)?;
        told.await.map_err(|_| CallError::Stopped)
    }
}
