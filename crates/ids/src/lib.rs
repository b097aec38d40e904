//! Identities, coordinates, time, chance and the wire's primitives: what every floor above shares.
//!
//! Nothing here knows a clock, a socket or a thread. Time and randomness are plain values that a
//! host hands in, so that the same inputs always give the same outputs.

mod chance;
mod guid;
mod peer;
mod point;
mod time;
pub mod wire;

pub use chance::Random;
pub use guid::{Guid, GuidError, MAX_DEPTH, Step};
pub use peer::{Key, KeyError, Peer, PeerId, PeerIdError, Signature};
pub use point::Point;
pub use time::Time;
