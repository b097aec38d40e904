//! The book: what the handles inside a peer's machine stand for, and where those peers are reached.
//!
//! An entry lives while the machine uses it, or a connection or a dial stands; the others go at the
//! next sweep. Numbers of dead entries rest until the sweep after that, so that a late word about an
//! old peer does not hit a new one.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr};

use bytes::Bytes;
use iroh::SecretKey;
use ringweave_ids::{Peer, PeerId, Signature, Time};
use ringweave_node::wire::{Book as Introductions, Contact, MAX_CONTACTS};
use ringweave_overlay::Host;

use crate::{
    card::{ADDRESSES, Card, is_signed},
    memory,
    network::{Network, Step},
    seen::Seen,
};

/// Peers known at once. Rings of 1,024 at two levels fit eight times.
const ENTRIES: usize = 16_384;
/// Entries beyond twice those in use that are not worth a sweep: together a few hundred kilobytes.
const SLACK: usize = 1_024;

/// One known peer.
#[derive(Debug)]
struct Entry {
    id: PeerId,
    /// The signed card as it came; empty if none did.
    card: Bytes,
    told: Card,
    /// Addresses that an invite, the disk or the local network named, unsigned.
    hints: Vec<SocketAddr>,
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
    /// Numbers of dead entries that may be used again.
    free: Vec<u32>,
    /// Those that the last sweep made dead.
    resting: Vec<u32>,
    /// How many the last sweep left.
    left: usize,
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
            holds: 1,
        };
        Self {
            key,
            network_key,
            network,
            entries: vec![Some(me)],
            free: Vec::new(),
            resting: Vec::new(),
            left: 1,
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

    /// Takes the network for this from now on.
    pub(crate) fn settle(&mut self, network: Network) {
        self.network = network;
    }

    /// The network one step on, if the owner holds the network's key.
    pub(crate) fn step(&self, step: Step) -> Option<Network> {
        self.network.step(self.network_key.as_ref()?, step)
    }

    /// Whether the owner holds the network's key.
    pub(crate) fn is_founder(&self) -> bool {
        self.network_key.is_some()
    }

    /// The handle of a peer, made if there is none; nothing if the book is full.
    pub(crate) fn admit(&mut self, id: PeerId) -> Option<Peer> {
        if let Some(&peer) = self.by_id.get(&id) {
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
            holds: 0,
        };
        let peer = if let Some(number) = self.free.pop() {
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

    /// Gives the owner a newer card.
    pub(crate) fn renew(&mut self, mut card: Card) -> Bytes {
        let signed = self.entries[0].as_mut().map(|me| {
            card.sequence = me.told.sequence + 1;
            me.card = card.sign(&self.key);
            me.told = card;
            me.card.clone()
        });
        signed.expect("the owner holds itself")
    }

    /// What a peer said last of where it is reached.
    pub(crate) fn told(&self, peer: Peer) -> Option<&Card> {
        self.entry(peer).map(|entry| &entry.told)
    }

    /// Takes a card that came from anywhere; whether it is a newer one. A forged one changes nothing,
    /// an older one neither.
    pub(crate) fn learn(&mut self, peer: Peer, card: &Bytes) -> bool {
        let Some(entry) = self.entries.get(peer.0 as usize).and_then(Option::as_ref) else {
            return false;
        };
        if card.is_empty() || entry.card == *card || peer == Self::ME {
            return false;
        }
        let Some((told, signature)) = Card::read(card) else {
            self.forgeries += 1;
            return false;
        };
        if told.sequence <= entry.told.sequence && !entry.card.is_empty() {
            return false;
        }
        if !told.is_by(&entry.id, &signature) {
            self.forgeries += 1;
            return false;
        }
        if let Some(entry) = self.entry_mut(peer) {
            // A slice of a received batch would keep the whole batch alive.
            entry.card = Bytes::copy_from_slice(card);
            entry.told = told;
        }
        true
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
    }

    /// Whether so many came since the last sweep that another will find much.
    pub(crate) fn has_grown(&self) -> bool {
        self.by_id.len() > 2 * self.left + SLACK
    }

    /// Whether the peers of one more frame may find no place.
    pub(crate) fn is_tight(&self) -> bool {
        self.by_id.len() + MAX_CONTACTS > ENTRIES
    }

    /// Drops the entries that are neither among `used` nor held by a connection or a dial; gives the
    /// handles they had. Linear in the entries and in `used`.
    pub(crate) fn sweep(&mut self, used: &[Peer]) -> Vec<Peer> {
        let mut is_used = vec![false; self.entries.len()];
        for peer in used {
            if let Some(is_used) = is_used.get_mut(peer.0 as usize) {
                *is_used = true;
            }
        }
        self.free.append(&mut self.resting);
        for ((entry, is_used), number) in self.entries.iter_mut().zip(is_used).zip(0..) {
            if let Some(dead) = entry.take_if(|entry| !is_used && entry.holds == 0) {
                self.by_id.remove(&dead.id);
                self.resting.push(number);
            }
        }
        self.left = self.by_id.len();
        self.resting.iter().copied().map(Peer).collect()
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

    fn clock(&self, _: Time) -> u64 {
        memory::clock()
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
    fn an_entry_lives_while_it_is_used_or_held() {
        let (mut book, id) = (book(), PeerId::from_bytes([7; 32]));
        let peer = book.admit(id).unwrap();
        book.hold(peer);
        assert_eq!(book.sweep(&[]), [], "a connection holds it");
        book.release(peer);
        assert_eq!(book.sweep(&[peer, peer]), [], "the machine names it");
        assert_eq!((book.peer(&id), book.has(peer)), (Some(peer), true));
        assert_eq!(book.sweep(&[Book::ME, Peer(9_999)]), [peer]);
        assert_eq!((book.peer(&id), book.has(peer)), (None, false));
        assert!(book.has(Book::ME), "the owner holds itself");
    }

    #[test]
    fn a_dead_number_rests_until_the_next_sweep() {
        let (mut book, id) = (book(), |byte| PeerId::from_bytes([byte; 32]));
        let dead = book.admit(id(7)).unwrap();
        book.sweep(&[]);
        let other = book.admit(id(8)).unwrap();
        assert_ne!(other, dead);
        assert_eq!(book.sweep(&[other]), []);
        assert_eq!(book.admit(id(9)), Some(dead));
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
        let used: Vec<_> = (0..100)
            .filter_map(|number| book.peer(&id(number)))
            .collect();
        assert!(book.is_tight() && book.has_grown());
        assert_eq!(book.sweep(&used).len(), ENTRIES - 1 - used.len());
        assert!(!book.is_tight() && !book.has_grown());
        assert!(used.iter().all(|peer| book.has(*peer)));
        assert!(book.admit(id(u64::MAX)).is_some(), "a place was freed");
    }
}
