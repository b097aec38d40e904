//! A host for the model: handles are the peers' numbers, signatures are hashes, and every peer holds
//! the network's key, so that any of them can found a network.

use std::{
    fmt::{self, Write as _},
    hash::{DefaultHasher, Hasher as _},
};

use ringweave_ids::{Peer, PeerId, Signature};
use ringweave_overlay::Host;

const NETWORK: [u8; 32] = [42; 32];

/// The host of one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelHost(pub(crate) Peer);

/// The PeerId of a number: scattered, as keys are, and the number itself at its end.
pub(crate) fn id_of(peer: Peer) -> PeerId {
    let mut bytes = [0; 32];
    for (at, chunk) in (0..).zip(bytes.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&hash(&[b"peer", &peer.0.to_le_bytes(), &[at]]).to_le_bytes());
    }
    bytes[28..].copy_from_slice(&peer.0.to_le_bytes());
    PeerId::from_bytes(bytes)
}

fn keyed(key: &[u8; 32], bytes: &[u8]) -> Signature {
    let mut signature = [0; 64];
    signature[..8].copy_from_slice(&hash(&[key, bytes]).to_le_bytes());
    Signature(signature)
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.iter().for_each(|part| hasher.write(part));
    hasher.finish()
}

impl Host for ModelHost {
    fn id(&self, peer: Peer) -> PeerId {
        id_of(peer)
    }
    fn peer(&self, id: &PeerId) -> Option<Peer> {
        let number = id.as_bytes().last_chunk()?;
        Some(Peer(u32::from_le_bytes(*number)))
    }
    fn sign(&self, bytes: &[u8]) -> Signature {
        keyed(id_of(self.0).as_bytes(), bytes)
    }
    fn sign_as_network(&self, bytes: &[u8]) -> Option<Signature> {
        Some(keyed(&NETWORK, bytes))
    }
    fn verify(&self, by: &PeerId, bytes: &[u8], signature: &Signature) -> bool {
        keyed(by.as_bytes(), bytes) == *signature
    }
    fn verify_network(&self, bytes: &[u8], signature: &Signature) -> bool {
        keyed(&NETWORK, bytes) == *signature
    }
    fn network(&self) -> &[u8; 32] {
        &NETWORK
    }
}

/// A hash of all that a value says of itself: the derived `Debug` of a machine shows every field.
pub(crate) fn fingerprint(value: &impl fmt::Debug) -> u64 {
    struct Sink(DefaultHasher);
    impl fmt::Write for Sink {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut sink = Sink(DefaultHasher::new());
    write!(sink, "{value:?}").expect("a hash takes everything");
    sink.0.finish()
}
