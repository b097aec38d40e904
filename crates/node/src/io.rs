//! What goes into a node and what comes out of it.

use std::{fmt, time::Duration};

use bytes::Bytes;
use ringweave_ids::{Key, Peer, PeerId};
use ringweave_overlay::{Loss, Overlay};
use serde::{Deserialize, Serialize};

use crate::{Envelope, Fetched, NotKept, Owned, Repair, Saved, Stored};

/// One input of a node.
pub enum Input<O: Overlay> {
    /// Enter the network through any of these peers; with none, found it.
    Join(Vec<Peer>),
    /// A frame came from a neighbour.
    Received(Peer, Frame<O>),
    /// A timer ran out.
    Timer(crate::Timer<O>),
    /// A connection stands.
    Up(Peer),
    /// A connection is gone, or could not be made.
    Down(Peer, Loss),
    /// The application wants something; the answer carries the ticket.
    Command(Ticket, Command<O::Address>),
    /// The application took this many messages and payload bytes out of its inbox.
    Drained(usize, usize),
    /// Records that this peer had in an earlier life, or under another topology.
    Restore(Vec<Saved>),
    /// Nothing more waits for this node right now: what was held back for company goes.
    Rest,
    /// Leave the network.
    Leave,
}

impl<O: Overlay> fmt::Debug for Input<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join(contacts) => f.debug_tuple("Join").field(contacts).finish(),
            Self::Received(peer, frame) => {
                f.debug_tuple("Received").field(peer).field(frame).finish()
            }
            Self::Timer(timer) => f.debug_tuple("Timer").field(timer).finish(),
            Self::Up(peer) => f.debug_tuple("Up").field(peer).finish(),
            Self::Down(peer, loss) => f.debug_tuple("Down").field(peer).field(loss).finish(),
            Self::Command(ticket, command) => f
                .debug_tuple("Command")
                .field(ticket)
                .field(command)
                .finish(),
            Self::Drained(messages, bytes) => f
                .debug_tuple("Drained")
                .field(messages)
                .field(bytes)
                .finish(),
            Self::Restore(saved) => f.debug_tuple("Restore").field(&saved.len()).finish(),
            Self::Rest => f.write_str("Rest"),
            Self::Leave => f.write_str("Leave"),
        }
    }
}

/// What travels between two neighbours.
pub enum Frame<O: Overlay> {
    /// Upkeep of the overlay.
    Overlay(O::Message),
    /// A routed message.
    Envelope(Envelope<O>),
    /// A word about recent broadcasts.
    Repair(Repair<O::Span>),
}

impl<O: Overlay> Clone for Frame<O> {
    fn clone(&self) -> Self {
        match self {
            Self::Overlay(message) => Self::Overlay(message.clone()),
            Self::Envelope(envelope) => Self::Envelope(envelope.clone()),
            Self::Repair(repair) => Self::Repair(repair.clone()),
        }
    }
}

impl<O: Overlay> fmt::Debug for Frame<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlay(message) => f.debug_tuple("Overlay").field(message).finish(),
            Self::Envelope(envelope) => f.debug_tuple("Envelope").field(envelope).finish(),
            Self::Repair(repair) => f.debug_tuple("Repair").field(repair).finish(),
        }
    }
}

/// Which queue of a link a frame goes through; control goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Upkeep, acknowledgements, failures, words about broadcasts.
    Control,
    /// Messages.
    Message,
}

/// One output of a node, for the host to carry out in order.
pub enum Output<O: Overlay> {
    /// Send; dials if there is no connection.
    Send(Peer, Lane, Frame<O>),
    /// Hold a connection to the peer.
    Open(Peer),
    /// The connection is no longer held.
    Close(Peer),
    /// Hand the timer back after this span.
    Timer(Duration, crate::Timer<O>),
    /// Something for the application.
    Event(Event<O::Address>),
}

impl<O: Overlay> fmt::Debug for Output<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(peer, lane, frame) => f
                .debug_tuple("Send")
                .field(peer)
                .field(lane)
                .field(frame)
                .finish(),
            Self::Open(peer) => f.debug_tuple("Open").field(peer).finish(),
            Self::Close(peer) => f.debug_tuple("Close").field(peer).finish(),
            Self::Timer(span, timer) => f.debug_tuple("Timer").field(span).field(timer).finish(),
            Self::Event(event) => f.debug_tuple("Event").field(event).finish(),
        }
    }
}

/// The host's number for a command; its answers carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Whom a command means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination<A> {
    /// This peer, wherever it sits.
    Peer(PeerId),
    /// Whoever holds this address.
    Holder(A),
}

/// What an application asks for.
#[derive(Clone, Debug)]
pub enum Command<A> {
    /// Send to one peer; answered by [`Event::Sent`] with one outcome.
    Send(Destination<A>, Bytes),
    /// Send a run of messages to one peer, in order; answered by [`Event::Ran`].
    Run(Destination<A>, Vec<Bytes>),
    /// Send to several; answered by [`Event::Sent`] with an outcome for each, in this order.
    Multicast(Vec<Destination<A>>, Bytes),
    /// Send to everyone, or to everyone at or below an address; answered by [`Event::Spread`].
    Broadcast(Option<A>, Bytes),
    /// Where a peer sat when the application last heard of it. Sends to it start there, and look it
    /// up anew if it has gone; not answered.
    Learn(Placed<A>),
    /// Find the way; answered by [`Event::Traced`].
    Trace(Destination<A>),
    /// Who is meant; answered by [`Event::Resolved`].
    Resolve(Query<A>, Effort),
    /// What the holder of an address tells of its rings; answered by [`Event::Inspected`].
    Inspect(Destination<A>),
    /// Keep a value in the network, and renew it while this peer runs; answered by [`Event::Put`].
    Put {
        /// What this peer calls it; without a name it is immutable, and its key is its hash.
        name: Option<String>,
        /// At most [`MAX_VALUE`](crate::MAX_VALUE) bytes; nothing deletes it.
        value: Option<Bytes>,
        /// How long it is kept without this peer.
        lease: Duration,
    },
    /// What is kept under a key; answered by [`Event::Got`].
    Get(Key),
    /// What is kept under a key, now and whenever it changes; told by [`Event::Watched`], until
    /// [`Unwatch`](Self::Unwatch).
    Watch(Key),
    /// The watch of this ticket ends; not answered.
    Unwatch(Ticket),
    /// What this peer keeps alive in the network; answered by [`Event::Owned`].
    Owned,
}

/// How hard to look for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Ask every owner of the key once: a few round trips.
    Once,
    /// Where nobody was found, ask again for about a second: a record may be on its way.
    Patient,
}

/// A question to the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query<A> {
    /// A whole PeerId.
    Peer(PeerId),
    /// The first characters of a PeerId's text; at least four reach beyond this peer's own table.
    Prefix(String),
    /// A name that a peer gave itself.
    Name(String),
    /// Whoever holds the address.
    Holder(A),
}

impl<A: PartialEq> Query<A> {
    /// Whether this peer is among those meant.
    pub(crate) fn fits(&self, placed: &Placed<A>) -> bool {
        match self {
            Self::Peer(id) => placed.id == *id,
            Self::Prefix(prefix) => placed.id.has_prefix(prefix),
            Self::Name(name) => placed.name.as_ref() == Some(name),
            Self::Holder(address) => placed.address == *address,
        }
    }
}

/// What a node tells its host.
#[derive(Clone, Debug)]
pub enum Event<A> {
    /// The peer has a place, or another than before.
    Placed(A),
    /// The peer lost its place, and joins again by itself.
    Displaced,
    /// The overlay's table changed.
    Changed,
    /// The network refused the join, for good.
    Refused(String),
    /// The peer has left.
    Left,
    /// A message for the application, in order per sender unless it says otherwise.
    Message(Message),
    /// What became of a run: how many were delivered, and the last outcome, or the first failure.
    Ran(Ticket, usize, Outcome<A>),
    /// What became of a send or multicast.
    Sent(Ticket, Vec<Outcome<A>>),
    /// How far a broadcast got: peers that hold it (the origin counts), and the time to the last answer.
    Spread(Ticket, Result<(u64, Duration), Failure>),
    /// The way to a peer.
    Traced(Ticket, Result<Vec<Traced<A>>, Outcome<A>>),
    /// Who is meant: nobody, one, or several.
    Resolved(Ticket, Result<Vec<Placed<A>>, Failure>),
    /// What a peer tells of its rings.
    Inspected(Ticket, Result<Listing<A>, Outcome<A>>),
    /// What became of a record.
    Put(Ticket, Result<Stored, NotKept>),
    /// What is kept under a key: nothing, if nobody has it.
    Got(Ticket, Result<Option<Fetched>, NotKept>),
    /// What is kept under a watched key from now on; an error ends the watch.
    Watched(Ticket, Result<Option<Fetched>, NotKept>),
    /// What this peer keeps alive in the network.
    Owned(Ticket, Vec<Owned>),
    /// What this peer has under a key is another record now, or none ([`Node::saved`](crate::Node::saved)):
    /// for a host with a disk.
    Kept(Key),
    /// Nonsense came from the network.
    Fault(&'static str),
}

/// A message for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// How it was sent.
    pub kind: MessageKind,
    /// Who sent it.
    pub from: PeerId,
    /// Its number in the sender's flow.
    pub sequence: u64,
    /// What it carries.
    pub payload: Bytes,
    /// Hops it made.
    pub hops: u8,
    /// Whether it comes after those that were sent before it.
    pub turn: Turn,
}

/// Where a message stands among those of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// After all earlier ones that came at all.
    InOrder,
    /// A later broadcast of the same sender came first, and did not wait any longer.
    Late,
}

/// How a message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// To one.
    Unicast,
    /// To several.
    Multicast,
    /// To everyone, or everyone below an address.
    Broadcast,
}

/// What became of a message to one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<A> {
    /// Delivered after so many hops, or why not.
    pub result: Result<u8, Failure>,
    /// Who took it, or was to.
    pub peer: Option<PeerId>,
    /// Where that peer sits, or the hop at which it failed.
    pub at: Option<A>,
    /// From sending to knowing.
    pub took: Duration,
}

/// Why a message was not delivered. The words are part of the command-line contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No such peer, or nobody holds the address.
    NotFound,
    /// The peer exists, but no connection leads there.
    NoRoute,
    /// The receiver would not take it: its inbox is full, or it is another life of the peer.
    Refused,
    /// No answer within the deadline.
    Timeout,
    /// More than [`MAX_PAYLOAD`](crate::MAX_PAYLOAD) bytes.
    TooLarge,
}

/// A peer and where it sits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed<A> {
    /// Who.
    pub id: PeerId,
    /// Where.
    pub address: A,
    /// The name it gave itself, if any.
    pub name: Option<String>,
}

/// One hop of a trace, the origin first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced<A> {
    /// Who.
    pub id: PeerId,
    /// Where.
    pub address: A,
    /// From the origin there and back; zero for the origin itself.
    pub round_trip: Duration,
}

/// What a peer tells of its rings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing<A> {
    /// The peer itself.
    pub me: Placed<A>,
    /// Its neighbours and what each is to it (`parent`, `sibling`, `child`), at most 1,024.
    pub neighbours: Vec<(Placed<A>, String)>,
}
