//! A peer above its topology and below its sockets: router and services over any overlay, sans-IO.
//!
//! ```text
//! Input ──> Node ──> overlay: upkeep            ──> Output
//!                └─> router: forward, deliver, acknowledge, retry
//!                    └─> directory, inspection, the application's inbox
//! ```
//!
//! A host (sockets or simulator) feeds [`Input`]s and carries out [`Output`]s, in order. The router
//! never learns which topology it runs on.

mod directory;
mod envelope;
mod inspect;
mod io;
mod lru;
mod node;
mod records;
mod repair;
mod router;
pub mod wire;

pub use directory::MAX_NAME;
pub use envelope::{Cast, Envelope, Flow, Port, Receiver};
pub use io::{
    Command, Destination, Effort, Event, Failure, Frame, Input, Lane, Listing, Message,
    MessageKind, Outcome, Output, Placed, Query, Ticket, Traced, Turn,
};
pub use node::{Counters, Node, Settings, Tick, Timer};
pub use records::{
    Denial, Fetched, MAX_LEASE, MAX_RECORD_NAME, MAX_VALUE, MIN_LEASE, NotKept, Owned, Record,
    Saved, Stored,
};
pub use repair::{Known, Lacking, MAX_NAMED, Repair};
pub use router::at_hop;

/// The largest payload of one message, in bytes. Larger things travel as content, not as messages.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The most receivers that one copy of a multicast carries; more travel in further copies.
pub const MAX_RECEIVERS: usize = 256;
