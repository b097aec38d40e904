//! Cards: where a peer says it can be reached, signed by itself, so that others can pass it on.

use std::net::SocketAddr;

use bytes::Bytes;
use iroh::{PublicKey, SecretKey};
use ringweave_ids::{PeerId, Signature, wire};
use serde::{Deserialize, Serialize};

/// Largest card, in bytes; every introduction on the wire carries one.
pub(crate) const CARD_CAP: usize = 512;
/// Most addresses of one peer: its interfaces, its outside address, with room.
pub(crate) const ADDRESSES: usize = 8;
/// Longest relay URL.
const RELAY_CAP: usize = 128;
/// Sets signatures over cards apart from all others.
const DOMAIN: &[u8] = b"ringweave card 1|";

/// Where a peer is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// Larger than in any earlier card of this peer: milliseconds since 1970 when it was made.
    pub(crate) sequence: u64,
    /// At most [`ADDRESSES`].
    pub(crate) addresses: Vec<SocketAddr>,
    /// The relay that it hosts, or another one that passes packets on to it; see
    /// [`Site::read`](crate::relay::Site::read).
    pub(crate) relay: Option<String>,
}

impl Card {
    /// The card as it travels: the fields, then the peer's signature.
    pub(crate) fn sign(&self, key: &SecretKey) -> Bytes {
        let id = PeerId::from_bytes(*key.public().as_bytes());
        let signature = Signature(key.sign(&signed(&id, self)).to_bytes());
        wire::to_vec(&(self, signature)).into()
    }

    /// Reads a card without looking at its signature.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, Signature)> {
        let (card, signature): (Self, Signature) = wire::decode(bytes, CARD_CAP).ok()?;
        let is_bounded = card.addresses.len() <= ADDRESSES
            && card
                .relay
                .as_ref()
                .is_none_or(|relay| relay.len() <= RELAY_CAP);
        is_bounded.then_some((card, signature))
    }

    /// Whether `id` made the signature.
    pub(crate) fn is_by(&self, id: &PeerId, signature: &Signature) -> bool {
        is_signed(id, &signed(id, self), signature)
    }
}

/// Whether `id` made the signature over `bytes`.
pub(crate) fn is_signed(id: &PeerId, bytes: &[u8], signature: &Signature) -> bool {
    PublicKey::from_bytes(id.as_bytes()).is_ok_and(|key| {
        key.verify(bytes, &iroh::Signature::from_bytes(&signature.0))
            .is_ok()
    })
}

fn signed(id: &PeerId, card: &Card) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(&wire::to_vec(card));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_card_fits() {
        let key = SecretKey::generate();
        let card = Card {
            sequence: u64::MAX,
            addresses: vec![
                "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"
                    .parse()
                    .unwrap();
                ADDRESSES
            ],
            relay: Some("r".repeat(RELAY_CAP)),
        };
        let bytes = card.sign(&key);
        assert!(bytes.len() <= CARD_CAP, "{} bytes", bytes.len());
        let (read, signature) = Card::read(&bytes).unwrap();
        assert_eq!(read, card);
        assert!(read.is_by(&PeerId::from_bytes(*key.public().as_bytes()), &signature));
        assert!(!read.is_by(
            &PeerId::from_bytes(*SecretKey::generate().public().as_bytes()),
            &signature
        ));
    }

    #[test]
    fn a_card_with_too_much_on_it_is_refused() {
        let addresses = vec![SocketAddr::from(([127, 0, 0, 1], 1)); ADDRESSES + 1];
        let bytes = Card {
            addresses,
            ..Card::default()
        }
        .sign(&SecretKey::generate());
        assert!(Card::read(&bytes).is_none());
        assert!(Card::read(b"").is_none());
    }
}
