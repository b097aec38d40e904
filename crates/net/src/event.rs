//! What the tasks of a peer tell its event loop.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use bytes::BytesMut;
use iroh::endpoint::{Connection, SendStream};
use ringweave_ids::{Peer, PeerId};
use ringweave_node::Lane;

use crate::{
    gate::{Hello, Turned},
    link::{Credit, LinkId},
    note,
    relay::{Host, Site},
};

/// Events that may wait for the loop; their senders wait for a place.
pub(crate) const EVENTS: usize = 1_024;

/// One event.
#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes came on a link.
    Batch {
        /// On which.
        link: LinkId,
        /// From which stream.
        lane: Lane,
        /// All that has arrived, from a frame's first byte on.
        bytes: BytesMut,
        /// To be given back with what is left of the bytes.
        credit: Credit,
    },
    /// Little waits in a link's message queue.
    Low(LinkId),
    /// A link's connection is gone.
    Gone(LinkId),
    /// This machine's addresses changed.
    Moved,
    /// A dial has ended.
    Dialled {
        /// Whom.
        peer: Peer,
        /// Which dial.
        stamp: u64,
        /// A connection whose greetings are exchanged, or why not.
        result: Result<Box<(Connection, Hello)>, Turned>,
    },
    /// A stranger connected and passed the gate; it waits for an answer.
    Knocked(Box<Guest>),
    /// The local network knows a peer of this network.
    Found(PeerId, Vec<SocketAddr>),
    /// The application took messages out of its inbox.
    Taken,
    /// The other side of a link told of cards that changed, or of the network.
    Noted(LinkId, note::Note),
    /// The way of a link's packets may be another.
    Rerouted(LinkId),
    /// The relay that passes packets on to this peer: the one in use, the one that is out of reach.
    Home {
        /// Connected.
        found: Option<Site>,
        /// Not connected, after a try.
        lost: Option<Site>,
    },
    /// The relay that this peer is to host runs, or why not.
    Hosting(io::Result<Box<Host>>),
}

/// A stranger that passed the gate.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) connection: Connection,
    pub(crate) hello: Hello,
    /// For the answer.
    pub(crate) send: SendStream,
    /// The public address at which it dialled, from a public one.
    pub(crate) at: Option<IpAddr>,
}
