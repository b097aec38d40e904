//! The overlay interface: how peers of one network find their place and their way, sans-IO.
//!
//! An [`Overlay`] is a state machine for *upkeep* (joins, repairs: [`Overlay::handle`]) and a set of
//! pure *questions* (where next, who keeps this key). After Dabek et al., "Towards a Common API for
//! Structured Peer-to-Peer Overlays", IPTPS 2003, with the split of upkeep from questions ours.
//!
//! A machine knows its peers by 4-byte handles ([`Peer`]); the host keeps their keys and addresses.
//! It has no clock, socket, thread or randomness of its own: a [`Cx`] lends them for one input, and
//! takes the outputs. Envelopes, hop counts and retries are the router's, one floor up.

pub mod any;
pub mod chord;
#[cfg(test)]
mod conformance;
mod contact;
mod cx;
mod digits;
pub mod kademlia;
mod links;
mod lookup;
mod lost;
mod pace;
pub mod pastry;
mod phase;
pub mod polyring;
mod requests;
pub mod star;
mod successors;
pub mod superpeer;
#[cfg(test)]
mod swarm;
pub mod tapestry;
mod topology;
pub mod unstructured;
mod views;

use std::{
    fmt::{Debug, Display},
    time::Duration,
};

pub use contact::Contact;
pub use cx::{Cx, Host, Profile, View};
pub use digits::Slot;
use ringweave_ids::{Key, Peer, PeerId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
pub use topology::{Topology, TopologyError};

/// A topology: the table of one peer and the protocol that keeps it true.
pub trait Overlay: Sized + Send + 'static {
    /// What all peers of a network agree on (it is signed with the network's key).
    type Config: Clone + Debug + Send + Sync + 'static;
    /// What peers tell each other for upkeep.
    type Message: Message;
    /// What a one-shot timer hands back. Timers are never cancelled; a stale one is ignored.
    type Timer: Copy + Debug + Send + 'static;
    /// Where a peer sits: coordinates in a polyring, a point on the circle elsewhere.
    type Address: Address;
    /// What a broadcast still has to cover.
    type Span: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// A peer that has not joined.
    fn new(view: &View<'_, Self>) -> Self;

    /// Whether there is a way to every address: peers are found where they sit, keys have owners, a
    /// broadcast can be confined to a branch, and takes each peer one copy. Where not, the router
    /// speaks its [`Wish`]es, and has no directory.
    fn is_structured(&self) -> bool {
        true
    }

    /// Takes one input; what is to be done goes out through `cx`.
    ///
    /// Total: nonsense from the network is a counted fault ([`Cx::fault`]), never a panic.
    fn handle(&mut self, cx: &mut Cx<'_, Self>, input: Input<Self>);

    /// Takes a wish of the router; asked only of a topology without structure.
    fn wish(&mut self, _: &mut Cx<'_, Self>, _: Wish) {}

    /// Where this peer sits, once it has joined.
    fn address(&self) -> Option<&Self::Address>;

    /// The next step towards `target`. Constant time, or logarithmic in the network's size.
    ///
    /// `flow` picks among equals, so that one flow of messages keeps one way.
    fn next_hop(
        &self,
        view: &View<'_, Self>,
        target: &Target<Self::Address>,
        flow: u64,
    ) -> Hop<Self::Address>;

    /// What a broadcast that starts here has to cover: everyone, or everyone below this peer.
    fn span(&self, reach: Reach) -> Self::Span;

    /// The copies to send on for a broadcast that arrived here with `span`; a broadcast that starts
    /// here has its whole [`span`](Self::span). The order is the order to send in.
    fn fan_out(&self, span: &Self::Span, flow: u64, copies: &mut Vec<(Peer, Self::Span)>);

    /// Whether a copy with this span is only announced: whoever gets it by nobody else asks for it.
    fn announces(&self, _: &Self::Span) -> bool {
        false
    }

    /// The up to `n` linked peers closest to `target`, closest first, this peer not among them.
    fn closest(
        &self,
        view: &View<'_, Self>,
        target: &Target<Self::Address>,
        n: usize,
        found: &mut Vec<Peer>,
    );

    /// The other peers that hold local copies of `key`, best first; asked of the key's owner. At least
    /// `n` where there are so many, and all that may be asked in the owner's place.
    fn replicas(&self, view: &View<'_, Self>, key: &Key, n: usize, found: &mut Vec<Peer>);

    /// The address of a peer in this peer's own table.
    fn locate(&self, view: &View<'_, Self>, peer: &PeerId) -> Option<Self::Address>;

    /// The peers of this peer's table, in an order that is the same for the same history.
    fn neighbours(&self, found: &mut Vec<Neighbour<Self::Address>>);

    /// Appends every handle that the machine may still name: tables, rosters, duties under way; in
    /// no order, some more than once.
    ///
    /// Between two inputs a host may forget all others, this peer's own excepted. The machine names
    /// none of those again before the host hands it out; a timer that carries one is ignored.
    fn uses(&self, used: &mut Vec<Peer>);
}

/// One input of an overlay.
#[derive(Clone, Debug)]
pub enum Input<O: Overlay> {
    /// Enter the network through any of these peers; with none, found it.
    Join(Vec<Peer>),
    /// A neighbour said something.
    Received(Peer, O::Message),
    /// A timer ran out.
    Timer(O::Timer),
    /// A connection to the peer stands.
    Up(Peer),
    /// The connection to the peer is gone, or could not be made.
    Down(Peer, Loss),
    /// Leave the network, telling whom it concerns.
    Leave,
}

/// What a router wants of a topology without structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To reach this peer; [`Event::Sought`] always answers.
    Seek(PeerId),
    /// No copies over the link to this neighbour: it brought one that another had brought before.
    Prune(Peer),
    /// Copies over the link to this neighbour: one of the two lacked one that the other had.
    Graft(Peer),
}

/// One output of an overlay, for the host to carry out in order.
#[derive(Clone, Debug)]
pub enum Output<O: Overlay> {
    /// Send; dials if there is no connection.
    Send(Peer, O::Message),
    /// Hold a connection to the peer: dial it if there is none, and keep it.
    Open(Peer),
    /// The connection is no longer held; the host closes it when nobody else holds it.
    Close(Peer),
    /// Hand the timer back after this span.
    Timer(Duration, O::Timer),
    /// Something the router or the application may want to know.
    Event(Event<O::Address>),
}

/// What an overlay tells those above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<A> {
    /// This peer has a place, or another place than before.
    Placed(A),
    /// This peer lost its place, and is joining again by itself.
    Displaced,
    /// The table changed: neighbours, or who holds which key.
    Changed,
    /// The join was refused, for good.
    Refused(String),
    /// This peer has left; nothing follows.
    Left,
    /// The network sent nonsense of this kind.
    Fault(&'static str),
    /// The search for a peer ended.
    Sought {
        /// Whom.
        id: PeerId,
        /// Where it was found, linked now; nothing if it was not found in time.
        address: Option<A>,
    },
}

/// Why a connection is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// The other side closed it in an orderly way.
    Closed,
    /// Nothing was heard for too long.
    Silent,
    /// It could not be made within its deadline.
    Unreachable,
    /// The other side refused it.
    Refused,
}

/// Where a message wants to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target<A> {
    /// To this peer, last known at this address. The PeerId decides at the end, always.
    Peer {
        /// Whom.
        id: PeerId,
        /// Where it sat.
        address: A,
    },
    /// To whoever holds the address.
    Holder(A),
    /// To the `choice`-th owner of the key, from 0; within `scope`, if there is one.
    Key {
        /// The branch that the key is confined to.
        scope: Option<A>,
        /// The key.
        key: Key,
        /// Which owner: 0 is the first, 1 holds the far copy.
        choice: u8,
    },
    /// To everyone at or below the address.
    Prefix(A),
    /// To everyone.
    All,
}

/// The next step of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop<A> {
    /// It is here.
    Arrived,
    /// On to this neighbour, which is linked.
    To(Peer),
    /// On to this neighbour, under a corrected target address (its ring was renumbered).
    Corrected(Peer, A),
    /// Nobody holds the address, or the holder is another peer than the wanted one.
    Nobody,
    /// Somebody holds it, but no connection leads there now.
    Cut,
}

/// How far a broadcast goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// Everyone in the network.
    All,
    /// This peer and everyone below it.
    Below,
}

/// A peer of the table, as people and upper floors see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour<A> {
    /// Who.
    pub peer: Peer,
    /// What it is to this peer: `parent`, `sibling`, `child`, `successor`...
    pub role: &'static str,
    /// Where it sits.
    pub address: A,
    /// Whether a connection stands.
    pub linked: bool,
}

/// A message between overlays of one kind.
pub trait Message: Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Shows every handle in the message to `visit`, which may swap it, always in the same order.
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer));
}

/// An address of a topology.
pub trait Address:
    Clone
    + Debug
    + Display
    + PartialEq
    + Eq
    + std::hash::Hash
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<T> Address for T where
    T: Clone
        + Debug
        + Display
        + PartialEq
        + Eq
        + std::hash::Hash
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}
