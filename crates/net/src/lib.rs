//! Real peers: QUIC connections (iroh), one event loop per peer, identity and memory on disk.
//!
//! ```text
//! Handle ──requests──> event loop ──> Node (router, services, overlay; sans-IO)
//!                        │    ↑
//!                        ↓    │ batches, beats, knocks
//!                      links (QUIC), one to each neighbour
//! ```
//!
//! Nothing here contacts anybody but the peers that an invite, the disk, the local network or the
//! network itself named. There are no name servers and no port mapper, and relays are peers.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod book;
mod card;
mod door;
mod event;
mod gate;
mod handle;
mod home;
mod hub;
mod inbox;
#[cfg(test)]
mod intruder;
mod invite;
mod lan;
mod ledger;
mod link;
mod memory;
mod network;
mod note;
mod peer;
mod reach;
mod relay;
mod seen;
mod settings;

pub use gate::Parting;
pub use handle::{
    CallError, Counters, Delivery, Evolution, Handle, MAX_RUN, PeerEvent, PeerInfo, PeerRef,
    Received, Run, Spread, Status, TracedHop, Tree, TreePeer, Watch,
};
pub use home::{HomeError, VERSION as DATA_VERSION};
pub use inbox::Inbox;
pub use invite::{Invite, InviteContact, InviteError, MAX_ADDRESSES, MAX_CONTACTS};
pub use network::{
    MAX_CLUSTER, MAX_RING, Network, Policy, Settled, Shape, ShapeError, Stage, WordError,
};
pub use peer::start;
pub use ringweave_overlay::Topology;
pub use settings::{Data, Entrance, Hosting, Settings, StartError};
