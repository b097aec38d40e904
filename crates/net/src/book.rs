//! The book: what the handles inside a peer's machine stand for, and where those peers are reached.
//!
//! An entry lives while the machine has not said `Forget` or a connection or a dial stands. Numbers
//! of dead entries rest before they are used again, so that a late word about an old peer does not
//! hit a new one.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use bytes::Bytes;
use iroh::SecretKey;
use ringweave_ids::{Peer, PeerId, Signature};
use ringweave_node::wire::{Book as Introductions, Contact};
use ringweave_overlay::Host;

use crate::{
    card::{ADDRESSES, Card, is_signed},
    network::Network,
    seen::Seen,
};

/// Peers known at once. Rings of 1,024 at two levels fit eight times.
const ENTRIES: usize = 16_384;
/// Dead numbers that rest before one is used again.
const RESTING: usize = 1_024;

/// One known peer.
#[derive(Debug)]
struct Entry {
    id: PeerId,
    /// The signed card as it came; empty if none did.
    card: Bytes,
    told: Card,
    /// Addresses that an invite, the disk or the local network named, unsigned.
    hints: Vec<SocketAddr>,
    /// Whether the machine may still name the peer.
    is_named: bool,
    /// Connections and dials that stand.
    holds: u32,
}

/// Handles <-> peers, and this peer's keys.
#[derive(Debug)]
pub(crate) struct Book {
    key: SecretKey,
    network_key: Option<SecretKey>,
    network: Network,
    entries: Vec<Option<Entry>>,
    free: VecDeque<u32>,
    by_id: HashMap<PeerId, Peer>,
    seen: RefCell<Seen>,
    /// Forged or malformed cards that came.
    pub(crate) forgeries: u64,
}

impl Book {
    /// A book that knows only its owner, as handle 0.
    pub(crate) fn new(
        key: SecretKey,
        network_key: Option<SecretKey>,
        network: Network,
        card: &Card,
    ) -> Self {
        let id = PeerId::from_bytes(*key.public().as_bytes());
        let me = Entry {
            id,
            card: card.sign(&key),
            told: card.clone(),
            hints: Vec::new(),
            is_named: true,
            holds: 1,
        };
        Self {
            key,
            network_key,
            network,
            entries: vec![Some(me)],
            free: VecDeque::new(),
            by_id: HashMap::from([(id, Self::ME)]),
            seen: RefCell::default(),
            forgeries: 0,
        }
    }

    /// The owner's own handle.
    pub(crate) const ME: Peer = Peer(0);

    /// The network all this is about.
    pub(crate) fn about(&self) -> &Network {
        &self.network
    }

    /// Whether the owner holds the network's key.
    pub(crate) fn is_founder(&self) -> bool {
        self.network_key.is_some()
    }

    /// The handle of a peer, made if there is none; nothing if the book is full.
    pub(crate) fn admit(&mut self, id: PeerId) -> Option<Peer> {
        if let Some(&peer) = self.by_id.get(&id) {
            if let Some(entry) = self.entry_mut(peer) {
                entry.is_named = true;
            }
            return Some(peer);
        }
        if self.by_id.len() >= ENTRIES {
            return None;
        }
        let entry = Entry {
            id,
            card: Bytes::new(),
            told: Card::default(),
            hints: Vec::new(),
            is_named: true,
            holds: 0,
        };
        let peer = if self.free.len() > RESTING {
            let number = self
                .free
                .pop_front()
                .expect("there are more than a thousand");
            self.entries[number as usize] = Some(entry);
            Peer(number)
        } else {
            self.entries.push(Some(entry));
            Peer(u32::try_from(self.entries.len() - 1).expect("entries are bounded far below 2^32"))
        };
        self.by_id.insert(id, peer);
        Some(peer)
    }

    /// Whether the handle stands for someone.
    pub(crate) fn has(&self, peer: Peer) -> bool {
        self.entry(peer).is_some()
    }

    /// Takes a card that came from anywhere. A forged one changes nothing, an older one neither.
    pub(crate) fn learn(&mut self, peer: Peer, card: &Bytes) {
        let Some(entry) = self.entries.get(peer.0 as usize).and_then(Option::as_ref) else {
            return;
        };
        if card.is_empty() || entry.card == *card || peer == Self::ME {
            return;
        }
        let Some((told, signature)) = Card::read(card) else {
            self.forgeries += 1;
            return;
        };
        if told.sequence <= entry.told.sequence && !entry.card.is_empty() {
            return;
        }
        if !told.is_by(&entry.id, &signature) {
            self.forgeries += 1;
            return;
        }
        if let Some(entry) = self.entry_mut(peer) {
            // A slice of a received batch would keep the whole batch alive.
            entry.card = Bytes::copy_from_slice(card);
            entry.told = told;
        }
    }

    /// Takes addresses that nobody signed: they help to dial, and are never passed on.
    pub(crate) fn hint(&mut self, peer: Peer, addresses: &[SocketAddr]) {
        let Some(entry) = self.entry_mut(peer) else {
            return;
        };
        for address in addresses {
            if !entry.hints.contains(address) {
                entry.hints.push(*address);
            }
        }
        let surplus = entry.hints.len().saturating_sub(ADDRESSES);
        entry.hints.drain(..surplus);
    }

    /// Where to dial a peer: its own words first.
    pub(crate) fn addresses(&self, peer: Peer) -> Vec<SocketAddr> {
        let Some(entry) = self.entry(peer) else {
            return Vec::new();
        };
        let mut addresses = entry.told.addresses.clone();
        for hint in &entry.hints {
            if !addresses.contains(hint) {
                addresses.push(*hint);
            }
        }
        addresses
    }

    /// The signed card of a peer, empty if it has none.
    pub(crate) fn card(&self, peer: Peer) -> Bytes {
        self.entry(peer)
            .map(|entry| entry.card.clone())
            .unwrap_or_default()
    }

    /// Addresses of a peer that nobody signed.
    pub(crate) fn hints(&self, peer: Peer) -> Vec<SocketAddr> {
        self.entry(peer)
            .map(|entry| entry.hints.clone())
            .unwrap_or_default()
    }

    /// A connection or a dial stands.
    pub(crate) fn hold(&mut self, peer: Peer) {
        if let Some(entry) = self.entry_mut(peer) {
            entry.holds += 1;
        }
    }

    /// A connection or a dial is gone.
    pub(crate) fn release(&mut self, peer: Peer) {
        if let Some(entry) = self.entry_mut(peer) {
            entry.holds = entry.holds.saturating_sub(1);
        }
        self.bury(peer);
    }

    /// The machine will not name the peer again.
    pub(crate) fn forget(&mut self, peer: Peer) {
        if peer != Self::ME
            && let Some(entry) = self.entry_mut(peer)
        {
            entry.is_named = false;
        }
        self.bury(peer);
    }

    fn bury(&mut self, peer: Peer) {
        let is_dead = self
            .entry(peer)
            .is_some_and(|entry| !entry.is_named && entry.holds == 0);
        if is_dead && let Some(entry) = self.entries[peer.0 as usize].take() {
            self.by_id.remove(&entry.id);
            self.free.push_back(peer.0);
        }
    }

    fn entry(&self, peer: Peer) -> Option<&Entry> {
        self.entries.get(peer.0 as usize)?.as_ref()
    }

    fn entry_mut(&mut self, peer: Peer) -> Option<&mut Entry> {
        self.entries.get_mut(peer.0 as usize)?.as_mut()
    }
}

impl Introductions for Book {
    fn contact(&self, peer: Peer) -> Contact {
        Contact {
            id: self.id(peer),
            card: self.card(peer),
        }
    }

    fn intern(&mut self, contact: Contact) -> Option<Peer> {
        let peer = self.admit(contact.id)?;
        self.learn(peer, &contact.card);
        Some(peer)
    }
}

impl Host for Book {
    fn id(&self, peer: Peer) -> PeerId {
        // A handle that was forgotten stands for nobody: no peer has the zero key.
        self.entry(peer)
            .map_or(PeerId::from_bytes([0; 32]), |entry| entry.id)
    }

    fn peer(&self, id: &PeerId) -> Option<Peer> {
        self.by_id.get(id).copied()
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(self.key.sign(bytes).to_bytes())
    }

    fn sign_as_network(&self, bytes: &[u8]) -> Option<Signature> {
        self.network_key
            .as_ref()
            .map(|key| Signature(key.sign(bytes).to_bytes()))
    }

    fn verify(&self, by: &PeerId, bytes: &[u8], signature: &Signature) -> bool {
        self.seen
            .borrow_mut()
            .check(by, bytes, signature, || is_signed(by, bytes, signature))
    }

    fn verify_network(&self, bytes: &[u8], signature: &Signature) -> bool {
        self.verify(&PeerId::from_bytes(self.network.id), bytes, signature)
    }

    fn network(&self) -> &[u8; 32] {
        &self.network.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Shape;

    fn book() -> Book {
        let network = Network::found(&SecretKey::generate(), &Shape::default(), None).unwrap();
        Book::new(SecretKey::generate(), None, network, &Card::default())
    }

    fn card(sequence: u64, port: u16) -> Card {
        Card {
            sequence,
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], port))],
            relay: None,
        }
    }

    #[test]
    fn a_forged_card_is_ignored_and_an_older_one_too() {
        let (mut book, key) = (book(), SecretKey::generate());
        let id = PeerId::from_bytes(*key.public().as_bytes());
        let peer = book
            .intern(Contact {
                id,
                card: card(5, 50).sign(&key),
            })
            .unwrap();
        assert_eq!(book.addresses(peer)[0].port(), 50);
        book.learn(peer, &card(9, 90).sign(&SecretKey::generate()));
        assert_eq!((book.addresses(peer)[0].port(), book.forgeries), (50, 1));
        book.learn(peer, &card(4, 40).sign(&key));
        assert_eq!((book.addresses(peer)[0].port(), book.forgeries), (50, 1));
        book.learn(peer, &card(6, 60).sign(&key));
        assert_eq!(book.addresses(peer)[0].port(), 60);
    }

    #[test]
    fn an_entry_lives_while_it_is_named_or_held() {
        let (mut book, id) = (book(), PeerId::from_bytes([7; 32]));
        let peer = book.admit(id).unwrap();
        book.hold(peer);
        book.forget(peer);
        assert_eq!(book.peer(&id), Some(peer), "a connection holds it");
        book.release(peer);
        assert_eq!(book.peer(&id), None);
        assert_ne!(book.admit(id), Some(peer), "a dead number rests");
    }

    #[test]
    fn the_book_is_bounded() {
        let mut book = book();
        let id = |number: u64| {
            let mut bytes = [1; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            PeerId::from_bytes(bytes)
        };
        let admitted = (0..2 * ENTRIES as u64)
            .filter(|&number| book.admit(id(number)).is_some())
            .count();
        assert_eq!(admitted, ENTRIES - 1, "all but the owner's own place");
        book.forget(book.peer(&id(3)).unwrap());
        assert!(book.admit(id(u64::MAX)).is_some(), "a place was freed");
    }
}
