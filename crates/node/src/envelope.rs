//! Envelopes: what the router carries, split into what a flow of messages shares and what each has.
//!
//! The shared part ([`Flow`]) crosses each link once and is a number from then on, so that a small
//! message costs a few bytes of header and no look-up of keys at a hop.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use ringweave_ids::PeerId;
use ringweave_overlay::{Overlay, Target};
use serde::{Deserialize, Serialize};

use crate::MessageKind;

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
    /// Records: small values under keys.
    pub const RECORDS: Self = Self(3);
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
    /// How its messages were sent; a multicast that is retried to one receiver stays a multicast.
    pub kind: MessageKind,
    /// The life of the receiver that the origin knows of; 0 before the first acknowledgement.
    pub life: u64,
    /// Numbers below this one are settled: a receiver that waits for one of them waits no more. From
    /// this one on, a broadcast's numbers are all of the same reach.
    pub first: u64,
}

impl<A> Flow<A> {
    /// Whether its messages are broadcasts of the application.
    pub(crate) fn is_broadcast(&self) -> bool {
        self.port == Port::APP
            && self.kind == MessageKind::Broadcast
            && matches!(self.target, Target::All | Target::Prefix(_))
    }
}

/// One message on its way.
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

impl<O: Overlay> Clone for Envelope<O> {
    fn clone(&self) -> Self {
        Self {
            flow: Arc::clone(&self.flow),
            sequence: self.sequence,
            hops: self.hops,
            is_traced: self.is_traced,
            cast: self.cast.clone(),
            payload: self.payload.clone(),
        }
    }
}

impl<O: Overlay> fmt::Debug for Envelope<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("flow", &self.flow)
            .field("sequence", &self.sequence)
            .field("hops", &self.hops)
            .field("is_traced", &self.is_traced)
            .field("cast", &self.cast)
            .field("payload", &self.payload.len())
            .finish()
    }
}

/// How a message spreads.
pub enum Cast<O: Overlay> {
    /// To the flow's target.
    One,
    /// To those receivers that lie in this direction.
    Several(Vec<Receiver<O::Address>>),
    /// To all that the span still covers.
    Span(O::Span),
    /// A broadcast again, for the neighbour that asked for it.
    Kept,
}

impl<O: Overlay> Clone for Cast<O> {
    fn clone(&self) -> Self {
        match self {
            Self::One => Self::One,
            Self::Several(receivers) => Self::Several(receivers.clone()),
            Self::Span(span) => Self::Span(span.clone()),
            Self::Kept => Self::Kept,
        }
    }
}

impl<O: Overlay> fmt::Debug for Cast<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("One"),
            Self::Several(receivers) => f.debug_tuple("Several").field(receivers).finish(),
            Self::Span(span) => f.debug_tuple("Span").field(span).finish(),
            Self::Kept => f.write_str("Kept"),
        }
    }
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
    /// The life of the receiver that the origin knows of, as in [`Flow::life`].
    pub life: u64,
    /// Numbers below this one are settled, as in [`Flow::first`].
    pub first: u64,
}
