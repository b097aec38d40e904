//! Signatures that were found good: the same signed record reaches a peer many times.

use std::collections::HashSet;

use ringweave_ids::{PeerId, Signature};

/// Good signatures remembered, in two generations of this many (32 bytes each).
const GENERATION: usize = 8_192;

/// A bounded memory of good signatures.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
}

impl Seen {
    /// Whether `check` finds the signature good, asking it only if nobody asked lately.
    pub(crate) fn check(
        &mut self,
        by: &PeerId,
        bytes: &[u8],
        signature: &Signature,
        check: impl FnOnce() -> bool,
    ) -> bool {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(by.as_bytes())
            .update(&signature.0)
            .update(bytes);
        let digest = *hasher.finalize().as_bytes();
        if self.young.contains(&digest) {
            return true;
        }
        let is_good = self.old.contains(&digest) || check();
        if is_good {
            if self.young.len() >= GENERATION {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(digest);
        }
        is_good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_signature_is_checked_once_and_a_bad_one_always() {
        let (mut seen, by, signature) = (
            Seen::default(),
            PeerId::from_bytes([1; 32]),
            Signature([2; 64]),
        );
        assert!(!seen.check(&by, b"record", &signature, || false));
        assert!(seen.check(&by, b"record", &signature, || true));
        assert!(seen.check(&by, b"record", &signature, || panic!("asked again")));
        assert!(!seen.check(&by, b"other", &signature, || false));
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut seen, by, signature) = (
            Seen::default(),
            PeerId::from_bytes([1; 32]),
            Signature([2; 64]),
        );
        for number in 0..3 * GENERATION {
            seen.check(&by, &number.to_le_bytes(), &signature, || true);
        }
        assert!(seen.young.len() + seen.old.len() <= 2 * GENERATION);
    }
}
