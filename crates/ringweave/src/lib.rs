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
//! The program `ringweave` is this library with words on a command line.

pub use ringweave_ids::{Guid, PeerId};
pub use ringweave_net::{
    CallError, Counters, Data, Delivery, Entrance, Handle, HomeError, Inbox, Invite, InviteError,
    PeerEvent, PeerInfo, PeerRef, Policy, Received, Settings, Shape, ShapeError, Spread,
    StartError, Status, Topology, TracedHop, Tree, TreePeer, start,
};
pub use ringweave_node::{Failure, MAX_PAYLOAD, MessageKind, Turn};
