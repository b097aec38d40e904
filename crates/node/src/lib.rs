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

mod envelope;
mod io;

pub use envelope::{Cast, Envelope, Flow, Port, Receiver};
pub use io::{
    Command, Destination, Event, Failure, Frame, Input, Lane, Listing, Message, MessageKind, Output, Outcome, Placed,
    Query, Ticket, Traced,
};

/// The largest payload of one message, in bytes. Larger things travel as content, not as messages.
pub const MAX_PAYLOAD: usize = 64 * 1024;
