//! Peer-to-peer middleware: peers organise themselves into a Polymorph Polyring and give an
//! application messages to any peer, to several, to everyone near, and to everyone.
//!
//! No server is needed: any peer can be the first, and [`start`] makes one. What comes back is a
//! [`Handle`]: cheap to clone, each call with a deadline of its own, no answer ever silent.
//!
//! ```no_run
//! use ringweave::{Data, PeerRef, Settings};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let peer = ringweave::start(Settings { data: Data::Directory("data".into()), ..Settings::default() }).await?;
//! println!("invite others with {}", peer.invite().await?);
//! peer.send(PeerRef::Word("anna".into()), "hello".into()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! It keeps small records for others to read, too ([`Handle::put`], [`Handle::get`], [`Handle::watch`]). Whole
//! programs are in `examples/`.
//!
//! The program `ringweave` is this library with words on a command line.

pub use ringweave_ids::{Guid, Key, KeyError, PeerId};
pub use ringweave_net::{
    CallError, Counters, Data, Delivery, Entrance, Handle, HomeError, Inbox, Invite, InviteError,
    PeerEvent, PeerInfo, PeerRef, Policy, Received, Settings, Shape, ShapeError, Spread,
    StartError, Status, Topology, TracedHop, Tree, TreePeer, Watch, start,
};
pub use ringweave_node::{
    Denial, Failure, Fetched, MAX_LEASE, MAX_PAYLOAD, MAX_RECORD_NAME, MAX_VALUE, MIN_LEASE,
    MessageKind, NotKept, Owned, Stored, Turn,
};
