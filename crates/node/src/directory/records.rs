//! What this peer keeps of the directory: signed records, by id and by name.

use std::collections::BTreeMap;

use ringweave_ids::{Key, Peer, PeerId, Signature, Time, wire};
use serde::{Deserialize, Serialize};

use super::{CHOICES, MAX_NAME};
use crate::{Query, router::HOME_PREFIX};

/// Records kept of each kind. One peer has one of each.
const RECORDS: usize = 65_536;
/// Records in one answer: enough to tell several from one, and to show whom it could mean.
pub(super) const ANSWERED: usize = 16;
/// What a signature of a record is made over, with the network and the record.
const DOMAIN: &str = "ringweave directory record 1";

/// What a peer says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record<A> {
    pub(super) id: PeerId,
    pub(super) address: A,
    pub(super) name: Option<String>,
    pub(super) incarnation: u64,
    pub(super) sequence: u64,
    /// Seconds; 0 says that the peer has left.
    pub(super) lease: u32,
}

/// A record and its peer's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signed<A> {
    pub(super) record: Record<A>,
    pub(super) signature: Signature,
}

/// Under which key a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// That of its id's first characters.
    Peer,
    /// That of its name.
    Name,
}

/// What the directories of two peers say. Variants are only ever added, at the end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word<A> {
    /// Keep this record, for so many seconds more.
    Put {
        number: u64,
        kind: Kind,
        left: u32,
        signed: Signed<A>,
    },
    /// It is kept.
    Kept { number: u64 },
    /// Whom does this mean.
    Ask { number: u64, query: Query<A> },
    /// These.
    Told { number: u64, signed: Vec<Signed<A>> },
}

/// Where a key leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// This peer owns it.
    Here,
    /// Through this neighbour.
    Via(Peer),
    /// Nowhere, at the moment.
    Nowhere,
}

/// A record that is kept.
pub(super) struct Held<A> {
    pub(super) signed: Signed<A>,
    pub(super) expires: Time,
    pub(super) key: Key,
    /// Where its key led when last looked at, by choice.
    pub(super) ways: [Way; CHOICES as usize],
    /// Whom this peer has given copies as an owner of its key, by choice: a hash; 0 for nobody yet.
    pub(super) near: [u64; CHOICES as usize],
}

/// The records that this peer keeps.
pub(super) struct Records<A> {
    pub(super) peers: BTreeMap<PeerId, Box<Held<A>>>,
    pub(super) names: BTreeMap<(String, PeerId), Box<Held<A>>>,
    /// The name under which a peer's record is kept, so that it has one.
    named: BTreeMap<PeerId, String>,
}

impl<A> Default for Records<A> {
    fn default() -> Self {
        Self {
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
            named: BTreeMap::new(),
        }
    }
}

impl<A> Records<A> {
    /// All records.
    pub(super) fn held(&self) -> impl Iterator<Item = &Held<A>> {
        let all = self.peers.values().chain(self.names.values());
        all.map(|held| &**held)
    }
}

/// The key under which the answer to a query is kept; nothing if no key can hold one.
pub(crate) fn query_key<A>(query: &Query<A>) -> Option<Key> {
    match query {
        Query::Peer(id) => Some(peer_key(id)),
        Query::Prefix(prefix) => {
            let is_text = prefix.bytes().all(|byte| symbol(byte).is_some());
            let home = prefix.get(..HOME_PREFIX).filter(|_| is_text)?;
            let fits = prefix.len() <= PeerId::TEXT_LEN;
            fits.then(|| Key::of("peer", home.to_ascii_lowercase().as_bytes()))
        }
        Query::Name(name) if name.len() <= MAX_NAME => Some(Key::of("name", name.as_bytes())),
        Query::Name(_) | Query::Holder(_) => None,
    }
}

pub(super) fn peer_key(id: &PeerId) -> Key {
    Key::of("peer", &id.to_string().as_bytes()[..HOME_PREFIX])
}

/// The five bits that a character of a PeerId's text stands for.
fn symbol(byte: u8) -> Option<u8> {
    match byte.to_ascii_lowercase() {
        letter @ b'a'..=b'z' => Some(letter - b'a'),
        digit @ b'2'..=b'7' => Some(digit - b'2' + 26),
        _ => None,
    }
}

/// The lowest PeerId whose text begins with the prefix.
fn lowest(prefix: &str) -> Option<PeerId> {
    let mut bytes = [0_u8; 32];
    for (place, byte) in prefix.bytes().enumerate() {
        let bits = symbol(byte)?;
        for bit in (0..5).filter(|bit| bits >> (4 - bit) & 1 == 1) {
            let at = place * 5 + bit;
            *bytes.get_mut(at / 8)? |= 0x80 >> (at % 8);
        }
    }
    Some(PeerId::from_bytes(bytes))
}

impl<A> Record<A> {
    fn is_newer(&self, other: &Self) -> bool {
        (self.incarnation, self.sequence) > (other.incarnation, other.sequence)
    }
}

impl<A: Serialize> Record<A> {
    pub(super) fn bytes(&self, network: &[u8; 32]) -> Vec<u8> {
        wire::to_vec(&(DOMAIN, network, self))
    }
}

impl<A: Clone> Records<A> {
    /// What is known of a query, newest records only, at most [`ANSWERED`].
    pub(super) fn answer(&self, query: &Query<A>, now: Time) -> Vec<Signed<A>> {
        let alive = |held: &&Held<A>| held.expires > now;
        let found = |held: &Held<A>| held.signed.clone();
        match query {
            Query::Peer(id) => self
                .peers
                .get(id)
                .map(|held| &**held)
                .filter(alive)
                .map(found)
                .into_iter()
                .collect(),
            Query::Prefix(prefix) => {
                let Some(from) = lowest(prefix) else {
                    return Vec::new();
                };
                let range = self.peers.range(from..);
                let range = range.take_while(|(id, _)| id.has_prefix(prefix));
                range
                    .map(|(_, held)| &**held)
                    .filter(alive)
                    .take(ANSWERED)
                    .map(found)
                    .collect()
            }
            Query::Name(name) => {
                let from = (name.clone(), PeerId::from_bytes([0; 32]));
                let range = self
                    .names
                    .range(from..)
                    .take_while(|((other, _), _)| other == name);
                range
                    .map(|(_, held)| &**held)
                    .filter(alive)
                    .take(ANSWERED)
                    .map(found)
                    .collect()
            }
            Query::Holder(_) => Vec::new(),
        }
    }

    /// Keeps a record whose signature holds; says whether there was room.
    pub(super) fn keep(&mut self, kind: Kind, held: Held<A>) -> bool {
        let record = &held.signed.record;
        let (id, is_gone) = (record.id, record.lease == 0);
        let old = match (kind, self.named.get(&id)) {
            (Kind::Peer, _) => self.peers.get(&id),
            (Kind::Name, Some(name)) => self.names.get(&(name.clone(), id)),
            (Kind::Name, None) => None,
        };
        if let Some(old) = old {
            let old = &old.signed.record;
            let is_same = (old.incarnation, old.sequence) == (record.incarnation, record.sequence);
            if !record.is_newer(old) {
                // What is older is answered too: its sender need not offer it again.
                return is_same || old.is_newer(record);
            }
        }
        self.drop_record(kind, &id);
        if is_gone {
            return true;
        }
        match kind {
            Kind::Peer if self.peers.len() < RECORDS => {
                self.peers.insert(id, Box::new(held));
                true
            }
            Kind::Name if self.names.len() < RECORDS => {
                let Some(name) = record.name.clone() else {
                    return false;
                };
                self.named.insert(id, name.clone());
                self.names.insert((name, id), Box::new(held));
                true
            }
            Kind::Peer | Kind::Name => false,
        }
    }

    /// The record of a peer, of this kind.
    pub(super) fn get_mut(&mut self, kind: Kind, id: &PeerId) -> Option<&mut Held<A>> {
        match kind {
            Kind::Peer => self.peers.get_mut(id).map(|held| &mut **held),
            Kind::Name => {
                let name = self.named.get(id)?.clone();
                self.names.get_mut(&(name, *id)).map(|held| &mut **held)
            }
        }
    }

    fn drop_record(&mut self, kind: Kind, id: &PeerId) {
        match kind {
            Kind::Peer => {
                self.peers.remove(id);
            }
            Kind::Name => {
                if let Some(name) = self.named.remove(id) {
                    self.names.remove(&(name, *id));
                }
            }
        }
    }

    pub(super) fn sweep_out(&mut self, now: Time) {
        self.peers.retain(|_, held| held.expires > now);
        let named = &mut self.named;
        self.names.retain(|(_, id), held| {
            let is_alive = held.expires > now;
            if !is_alive {
                named.remove(id);
            }
            is_alive
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.names.is_empty()
    }
}
