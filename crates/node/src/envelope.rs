//! Envelopes: what the router carries, split into what a flow of messages shares and what each has.
//!
//! The shared part ([`Flow`]) crosses each link once and is a number from then on, so that a small
//! message costs a few bytes of header and no look-up of keys at a hop.

use std::sync::Arc;

use bytes::Bytes;
use ringweave_ids::PeerId;
use ringweave_overlay::{Overlay, Target};
use serde::{Deserialize, Serialize};

/// Which service a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port(pub u16);

impl Port {
    /// The router's own: acknowledgements, failures, traces.
    pub const ROUTER: Self = Self(0);
    /// The directory PeerId -> address.
    pub const DIRECTORY: Self = Self(1);
    /// What a peer tells of its rings.
    pub const INSPECT: Self = Self(2);
    /// The application's messages.
    pub const APP: Self = Self(16);
}

/// What all messages of a flow share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow<A> {
    /// Who sends.
    pub origin: PeerId,
    /// Which life of the origin: its start in milliseconds.
    pub incarnation: u64,
    /// Where the origin sat when the flow began; answers go there.
    pub source: A,
    /// Where to.
    pub target: Target<A>,
    /// For which service.
    pub port: Port,
}

/// One message on its way.
#[derive(Clone, Debug)]
pub struct Envelope<O: Overlay> {
    /// What it shares with others.
    pub flow: Arc<Flow<O::Address>>,
    /// Its number in the flow of its origin to its receiver (one receiver: per PeerId; broadcast: per origin).
    pub sequence: u64,
    /// Hops made so far.
    pub hops: u8,
    /// Whether every hop reports itself to the origin.
    pub is_traced: bool,
    /// How it spreads.
    pub cast: Cast<O>,
    /// What it carries, at most [`MAX_PAYLOAD`](crate::MAX_PAYLOAD) bytes.
    pub payload: Bytes,
}

/// How a message spreads.
#[derive(Clone, Debug)]
pub enum Cast<O: Overlay> {
    /// To the flow's target.
    One,
    /// To those receivers that lie in this direction.
    Several(Vec<Receiver<O::Address>>),
    /// To all that the span still covers.
    Span(O::Span),
}

/// One receiver of a multicast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver<A> {
    /// Who.
    pub id: PeerId,
    /// Where it sits.
    pub address: A,
    /// The message's number in the origin's flow to this receiver.
    pub sequence: u64,
}
