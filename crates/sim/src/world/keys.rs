//! Who the peers are and how they sign: a cheap stand-in for a million of them, or real Ed25519.
//!
//! Handles are the world's own numbers, the same in every machine, so no peer needs a book. A
//! stand-in PeerId is drawn from the seed and ends in its peer's number; its signature is a keyed
//! 64-bit hash (DESIGN.md, decision 9): a million peers could not verify 33 real ones each.

use std::collections::HashMap;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use ringweave_ids::{Peer, PeerId, Signature};
use ringweave_overlay::Host;

use super::mix;

/// All identities of a world.
pub(crate) struct Keys {
    seed: u64,
    count: u32,
    /// So many of the first peers hold the network's key: each founds a network.
    founders: u32,
    network: [u8; 32],
    real: Option<Real>,
}

struct Real {
    peers: Vec<SigningKey>,
    handles: HashMap<PeerId, u32>,
    network: SigningKey,
}

impl Keys {
    /// Identities drawn from a seed.
    pub(crate) fn drawn(seed: u64, count: u32, is_real: bool) -> Self {
        if !is_real {
            let network = words(mix(seed ^ NETWORK));
            return Self {
                seed,
                count,
                founders: 1,
                network,
                real: None,
            };
        }
        let secrets: Vec<_> = (0..count)
            .map(|peer| words(mix(seed) ^ u64::from(peer)))
            .collect();
        Self::given(&secrets, &words(mix(seed ^ NETWORK)))
    }

    /// Identities of given Ed25519 secrets.
    pub(crate) fn given(secrets: &[[u8; 32]], network: &[u8; 32]) -> Self {
        let peers: Vec<_> = secrets.iter().map(SigningKey::from_bytes).collect();
        let network = SigningKey::from_bytes(network);
        let ids = peers
            .iter()
            .map(|key| PeerId::from_bytes(key.verifying_key().to_bytes()));
        let handles = ids.zip(0..).collect();
        Self {
            seed: 0,
            count: peers.len() as u32,
            founders: 1,
            network: network.verifying_key().to_bytes(),
            real: Some(Real {
                peers,
                handles,
                network,
            }),
        }
    }

    /// The same, with the network's key in the hands of the first `founders` peers.
    pub(crate) fn founded_by(self, founders: u32) -> Self {
        Self { founders, ..self }
    }

    /// How many peers there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn id(&self, peer: u32) -> PeerId {
        if let Some(real) = &self.real {
            return PeerId::from_bytes(real.peers[peer as usize].verifying_key().to_bytes());
        }
        let mut bytes = words(mix(self.seed ^ mix(u64::from(peer) + 1)));
        bytes[28..].copy_from_slice(&peer.to_le_bytes());
        PeerId::from_bytes(bytes)
    }

    pub(crate) fn handle(&self, id: &PeerId) -> Option<u32> {
        if let Some(real) = &self.real {
            return real.handles.get(id).copied();
        }
        let bytes = id.as_bytes();
        let peer = u32::from_le_bytes([bytes[28], bytes[29], bytes[30], bytes[31]]);
        (peer < self.count && self.id(peer) == *id).then_some(peer)
    }
}

/// The services of one peer's host.
pub(crate) struct Desk<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) me: u32,
    /// Takes every signature for good: a canary.
    pub(crate) is_blind: bool,
}

impl Host for Desk<'_> {
    fn id(&self, peer: Peer) -> PeerId {
        self.keys.id(peer.0)
    }

    fn peer(&self, id: &PeerId) -> Option<Peer> {
        self.keys.handle(id).map(Peer)
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        match &self.keys.real {
            Some(real) => Signature(real.peers[self.me as usize].sign(bytes).to_bytes()),
            None => sealed(head(self.keys.id(self.me).as_bytes()), bytes),
        }
    }

    fn sign_as_network(&self, bytes: &[u8]) -> Option<Signature> {
        // Who founds the network holds its key.
        (self.me < self.keys.founders).then(|| match &self.keys.real {
            Some(real) => Signature(real.network.sign(bytes).to_bytes()),
            None => sealed(head(&self.keys.network), bytes),
        })
    }

    fn verify(&self, by: &PeerId, bytes: &[u8], signature: &Signature) -> bool {
        self.is_blind
            || match &self.keys.real {
                Some(_) => is_real(by.as_bytes(), bytes, signature),
                None => sealed(head(by.as_bytes()), bytes) == *signature,
            }
    }

    fn verify_network(&self, bytes: &[u8], signature: &Signature) -> bool {
        match &self.keys.real {
            Some(_) => is_real(&self.keys.network, bytes, signature),
            None => sealed(head(&self.keys.network), bytes) == *signature,
        }
    }

    fn network(&self) -> &[u8; 32] {
        &self.keys.network
    }
}

/// Sets the network's key apart from the peers'.
const NETWORK: u64 = 0x6e65_7477_6f72_6b00;

fn is_real(by: &[u8; 32], bytes: &[u8], signature: &Signature) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    VerifyingKey::from_bytes(by).is_ok_and(|key| key.verify_strict(bytes, &signature).is_ok())
}

/// 32 bytes drawn from a seed.
fn words(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, number) in bytes.chunks_exact_mut(8).zip(1..) {
        chunk.copy_from_slice(&mix(seed.wrapping_add(number)).to_le_bytes());
    }
    bytes
}

fn head(bytes: &[u8; 32]) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(head)
}

/// A keyed 64-bit hash in the place of a signature: folded products, eight bytes at a time.
fn sealed(key: u64, bytes: &[u8]) -> Signature {
    let fold = |state: u64, word: u64| {
        let wide = u128::from(state ^ word) * 0x9e37_79b9_7f4a_7c15_u128;
        (wide as u64) ^ ((wide >> 64) as u64).rotate_left(23)
    };
    let mut state = key ^ bytes.len() as u64;
    let (whole, rest) = bytes.as_chunks::<8>();
    for word in whole {
        state = fold(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    state = fold(state, u64::from_le_bytes(last));
    let mut signature = [0; 64];
    signature[..8].copy_from_slice(&mix(state).to_le_bytes());
    Signature(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_found_by_its_id_and_no_stranger_is() {
        for is_real in [false, true] {
            let keys = Keys::drawn(7, 20, is_real);
            assert!((0..20).all(|peer| keys.handle(&keys.id(peer)) == Some(peer)));
            assert_eq!(keys.handle(&Keys::drawn(8, 20, is_real).id(3)), None);
        }
    }

    #[test]
    fn only_the_signer_and_the_very_bytes_verify() {
        for is_real in [false, true] {
            let keys = Keys::drawn(7, 4, is_real);
            let desk = |me| Desk {
                keys: &keys,
                me,
                is_blind: false,
            };
            let signature = desk(1).sign(b"a ring is a full mesh");
            assert!(desk(2).verify(&keys.id(1), b"a ring is a full mesh", &signature));
            assert!(!desk(2).verify(&keys.id(3), b"a ring is a full mesh", &signature));
            assert!(!desk(2).verify(&keys.id(1), b"a ring is a full mash", &signature));
            let network = desk(0).sign_as_network(b"grant").unwrap();
            assert!(desk(2).verify_network(b"grant", &network));
            assert!(desk(1).sign_as_network(b"grant").is_none());
        }
    }
}
