//! What a peer is started with, and what can be in the way.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use thiserror::Error;

use crate::{
    gate::Parting,
    home::HomeError,
    invite::Invite,
    network::{Shape, ShapeError},
};

/// How long a first join may take.
pub(crate) const FIRST_JOIN: Duration = Duration::from_secs(10);

/// Where a peer keeps its key and its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// In this directory, made if there is none.
    Directory(PathBuf),
    /// Nowhere: the peer is a new one at each start.
    Ephemeral,
}

/// Which network a peer enters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The one its directory remembers; with none, a new one that this peer founds.
    New,
    /// The one of an invite.
    Join(Box<Invite>),
    /// The one its directory remembers.
    Remembered,
}

/// Whether a peer hosts a relay for those members of its network that nobody can dial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hosting {
    /// Once a peer from elsewhere has dialled it at a public address.
    #[default]
    WhenReached,
    /// From the start.
    Always,
    /// Not at all.
    Never,
}

/// What a peer is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its key and memory are.
    pub data: Data,
    /// Socket addresses to listen on; port 0 takes any free one.
    pub listen: Vec<SocketAddr>,
    /// Which network it enters.
    pub entrance: Entrance,
    /// The shape of a new network, or what is asked of an existing one.
    pub shape: Shape,
    /// The name it gives itself.
    pub name: Option<String>,
    /// Where it belongs, from the outside in: `/eu/dk/copenhagen`; empty: anywhere.
    pub label: String,
    /// Whether it looks for peers on the local network and lets itself be found there.
    pub lan: bool,
    /// Whether it hosts a relay. On loopback relays are neither hosted nor used unless always.
    pub relay: Hosting,
    /// The seed of its choices of protocol; nothing: the system draws one. Keys never come from it.
    /// For tests and twins.
    pub chance: Option<u64>,
}

impl Default for Settings {
    /// A peer of a new network, on loopback, that remembers nothing.
    fn default() -> Self {
        Self {
            data: Data::Ephemeral,
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            entrance: Entrance::New,
            shape: Shape::default(),
            name: None,
            label: String::new(),
            lan: false,
            relay: Hosting::default(),
            chance: None,
        }
    }
}

/// Why a peer did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its settings, or those of the network.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// No address to listen on.
    #[error("there is no address to listen on; give at least one, like 0.0.0.0:0")]
    NoAddress,
    /// Another program listens there.
    #[error("the address {0} is in use by another program; stop it, or listen on another port")]
    PortInUse(SocketAddr),
    /// The system would not let it listen there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The endpoint could not be made.
    #[error("cannot make a QUIC endpoint: {0}")]
    Endpoint(String),
    /// The directory belongs to another network.
    #[error(
        "the data directory belongs to the network {remembered}, but the invite leads to {invited}; use another directory"
    )]
    OtherNetwork {
        /// The one remembered.
        remembered: String,
        /// The one of the invite.
        invited: String,
    },
    /// The directory remembers no network.
    #[error("the data directory remembers no network; join one with an invite, or found a new one")]
    NothingRemembered,
    /// A closed network, and no secret.
    #[error(
        "the network is closed and the invite carries no admission; ask a member for an invite"
    )]
    NoAdmission,
    /// A member turned this peer away.
    #[error("refused by a peer of the network: {0}")]
    Refused(Parting),
    /// The network gave it no place.
    #[error("refused a place in the network: {0}")]
    NoPlace(String),
    /// Nobody answered.
    #[error("reached none of the {contacts} peers that the invite names within {} s; is one of them running and reachable from here?", FIRST_JOIN.as_secs())]
    NobodyReached {
        /// How many it names.
        contacts: usize,
    },
    /// The peer stopped while it joined.
    #[error("the peer stopped before it had joined")]
    Stopped,
}
