//! What applications do: the payloads that the laboratory recognises when they arrive.

use bytes::Bytes;

/// What a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lookup = 1,
    Broadcast = 2,
    Multicast = 3,
}

/// A payload of `len` bytes, at least nine, that says what it is.
pub(crate) fn payload(kind: Kind, index: u64, len: u32) -> Bytes {
    let mut bytes = vec![0; (len as usize).max(9)];
    bytes[0] = kind as u8;
    bytes[1..9].copy_from_slice(&index.to_le_bytes());
    bytes.into()
}

/// What a payload says that it is.
pub(crate) fn read(payload: &[u8]) -> Option<(Kind, u64)> {
    let kind = match payload.first()? {
        1 => Kind::Lookup,
        2 => Kind::Broadcast,
        3 => Kind::Multicast,
        _ => return None,
    };
    let index = payload.get(1..9)?.try_into().ok()?;
    Some((kind, u64::from_le_bytes(index)))
}

/// Broadcasts that may be open at once: a bit each.
pub(crate) const OPEN: u64 = 64;

/// The bit of the broadcast that a payload belongs to; 0 for what is none.
pub(crate) fn bit(payload: &[u8]) -> u64 {
    match read(payload) {
        Some((Kind::Broadcast, index)) => 1 << (index % OPEN),
        _ => 0,
    }
}
