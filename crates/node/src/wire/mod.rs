//! Frames as bytes, sans-IO: one [`Encoder`] and one [`Decoder`] for each direction of a stream.
//!
//! ```text
//! frame     length (varint) tag body
//! overlay   1  contacts (count, then id, card length, card)  message (postcard, peers as indices)
//! flow      2  slot  flow (postcard): from now on the slot stands for it
//! repair    3  a word about recent broadcasts (postcard)
//! instance  4  number (varint): what follows belongs to this overlay of the two peers; 0 at first
//! envelope  1000ccst  slot  hops  [sequence - last of the slot, zigzag varint]  [cast]  payload
//!                cc  one, several, span, kept;  s: a sequence follows, else it is the next;  t: traced
//! ```
//!
//! What the messages of a flow share crosses a stream once; a small message then costs five bytes
//! of header. Frames of unknown tags are skipped and counted, so that older peers understand newer
//! ones. No bytes whatsoever make a decoder panic or take more memory than its caps say.

mod decode;
mod encode;

use bytes::Bytes;
pub use decode::Decoder;
pub use encode::Encoder;
pub use ringweave_ids::wire::WireError;
use ringweave_ids::{Peer, PeerId};

/// The longest frame: a roster of a large ring, or 64 KiB of payload for many receivers.
pub const MAX_FRAME: usize = 256 * 1024;
/// The longest card of a contact: eight signed addresses.
pub const MAX_CARD: usize = 512;
/// The most contacts in one frame: rings have at most some thousands of members.
pub const MAX_CONTACTS: usize = 4_096;

/// Flows that a stream knows by number, each way.
const SLOTS: usize = 256;
const OVERLAY: u8 = 1;
const FLOW: u8 = 2;
const REPAIR: u8 = 3;
const INSTANCE: u8 = 4;
const ENVELOPE: u8 = 0x80;
const TRACED: u8 = 1;
const SEQUENCE: u8 = 2;
const SEVERAL: u8 = 1 << 2;
const SPAN: u8 = 2 << 2;
const KEPT: u8 = 3 << 2;
const CAST: u8 = 3 << 2;

/// How a peer is named to another peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Who.
    pub id: PeerId,
    /// Where it is reached, signed by itself: opaque here, at most [`MAX_CARD`] bytes.
    pub card: Bytes,
}

/// The host's book of peers, as the codec needs it.
pub trait Book {
    /// How the peer behind a handle is named to others.
    fn contact(&self, peer: Peer) -> Contact;
    /// The handle for a contact from another peer; nothing if its card is forged or the book full.
    fn intern(&mut self, contact: Contact) -> Option<Peer>;
}

fn check(len: usize, cap: usize) -> Result<(), WireError> {
    if len > cap {
        Err(WireError::TooLong { len, cap })
    } else {
        Ok(())
    }
}

fn zigzag(delta: i64) -> u64 {
    (delta as u64) << 1 ^ (delta >> 63) as u64
}

fn unzigzag(word: u64) -> i64 {
    (word >> 1) as i64 ^ -((word & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_and_back() {
        for delta in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(delta)), delta);
        }
        assert_eq!((zigzag(-1), zigzag(1)), (1, 2));
    }
}
