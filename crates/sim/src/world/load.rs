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

/// The broadcasts that one life of a peer has, a bit each: as many as the scenario has broadcasts.
#[derive(Default)]
pub(crate) struct Heard(Vec<u64>);

impl Heard {
    /// Notes a broadcast; says whether it is new.
    pub(crate) fn mark(&mut self, index: u64) -> bool {
        let (word, bit) = place(index);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    pub(crate) fn has(&self, index: u64) -> bool {
        let (word, bit) = place(index);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

/// The word and the bit of a broadcast.
fn place(index: u64) -> (usize, u64) {
    (index as usize / 64, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_is_new_once_and_stands_for_nothing_else() {
        let mut heard = Heard::default();
        for index in [3, 67, 0, 1_000] {
            assert!(!heard.has(index));
            assert!(heard.mark(index));
            assert!(heard.has(index) && !heard.mark(index));
        }
        assert!(!heard.has(131), "64 after another");
    }
}
