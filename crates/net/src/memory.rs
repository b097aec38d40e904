//! What a peer remembers on disk: its network, its last life, and whom it met where.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use redb::{Database, ReadableDatabase as _, TableDefinition};
use ringweave_ids::{Guid, PeerId, wire};
use serde::{Deserialize, Serialize};

use crate::{
    home::HomeError,
    network::{Network, Network1, Secret},
};

/// Everything is one small record under one key: it is always written as a whole.
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("peer");
const KEY: &str = "memory 4";
/// The same of before networks could move to another topology.
const KEY_3: &str = "memory 3";
/// The same of before those that the invite named were kept.
const KEY_2: &str = "memory 2";
/// Peers remembered.
pub(crate) const PEERS: usize = 256;
/// 256 peers with the largest cards and hints.
const CAP: usize = 512 * 1024;
/// The record is small; the cache of the database need not be its default gigabyte.
const CACHE: usize = 1024 * 1024;

/// A peer that was met.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Met {
    pub(crate) id: PeerId,
    /// Its signed card, if it gave one.
    pub(crate) card: Bytes,
    /// Addresses nobody signed.
    pub(crate) hints: Vec<SocketAddr>,
}

/// What a peer remembers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) network: Network,
    pub(crate) secret: Option<Secret>,
    /// The last life's number.
    pub(crate) incarnation: u64,
    /// Most recently met first, at most [`PEERS`].
    pub(crate) met: Vec<Met>,
    /// Where it sat last.
    pub(crate) place: Option<Guid>,
    /// Those of the met that its invite named, at most [`MAX_CONTACTS`](crate::MAX_CONTACTS): never forgotten, as whoever wrote
    /// the invite expects them to be there when all others are gone.
    pub(crate) invited: Vec<PeerId>,
}

/// A memory of before networks could move.
#[derive(Serialize, Deserialize)]
struct Memory3 {
    network: Network1,
    secret: Option<Secret>,
    incarnation: u64,
    met: Vec<Met>,
    place: Option<Guid>,
    invited: Vec<PeerId>,
}

/// A memory of before the invite's contacts were remembered.
#[derive(Serialize, Deserialize)]
struct Memory2 {
    network: Network1,
    secret: Option<Secret>,
    incarnation: u64,
    met: Vec<Met>,
    place: Option<Guid>,
}

impl From<Memory3> for Memory {
    fn from(old: Memory3) -> Self {
        Self {
            network: old.network.into(),
            secret: old.secret,
            incarnation: old.incarnation,
            met: old.met,
            place: old.place,
            invited: old.invited,
        }
    }
}

impl From<Memory2> for Memory {
    fn from(old: Memory2) -> Self {
        Self {
            network: old.network.into(),
            secret: old.secret,
            incarnation: old.incarnation,
            met: old.met,
            place: old.place,
            invited: Vec::new(),
        }
    }
}

impl Memory {
    /// A peer was met: it moves to the front; who was met longest ago and not named by the invite is
    /// forgotten, if there are too many.
    pub(crate) fn note(&mut self, met: Met) {
        self.met.retain(|known| known.id != met.id);
        self.met.insert(0, met);
        if self.met.len() > PEERS {
            let is_invited = |met: &Met| self.invited.contains(&met.id);
            let last = self.met.iter().rposition(|met| !is_invited(met));
            last.map(|at| self.met.remove(at));
        }
    }
}

/// Where the memory is kept: a file, or nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Store(Option<(Arc<Database>, PathBuf)>);

impl Store {
    /// A store that forgets.
    pub(crate) const fn nowhere() -> Self {
        Self(None)
    }

    /// Opens the file, making it if there is none.
    pub(crate) fn open(path: PathBuf) -> Result<Self, HomeError> {
        let database = Database::builder().set_cache_size(CACHE).create(&path);
        match database {
            Ok(database) => Ok(Self(Some((Arc::new(database), path)))),
            Err(error) => Err(HomeError::State {
                path,
                why: error.to_string(),
            }),
        }
    }

    /// The file's database, and where it is; nothing if all is forgotten.
    pub(crate) fn parts(&self) -> Option<(&Database, &PathBuf)> {
        self.0.as_ref().map(|(database, path)| (&**database, path))
    }

    /// What was remembered, if anything.
    pub(crate) fn load(&self) -> Result<Option<Memory>, HomeError> {
        let Some((database, path)) = &self.0 else {
            return Ok(None);
        };
        let failed = |why: String| HomeError::State {
            path: path.clone(),
            why,
        };
        let read = |key| read(database, key).map_err(|error| failed(error.to_string()));
        let memory = if let Some(bytes) = read(KEY)? {
            wire::decode(&bytes, CAP)
        } else if let Some(bytes) = read(KEY_3)? {
            wire::decode(&bytes, CAP).map(|old: Memory3| old.into())
        } else if let Some(bytes) = read(KEY_2)? {
            wire::decode(&bytes, CAP).map(|old: Memory2| old.into())
        } else {
            return Ok(None);
        };
        let memory: Memory = memory.map_err(|error| failed(error.to_string()))?;
        if memory.network.is_genuine() {
            Ok(Some(memory))
        } else {
            Err(failed("its network's signature is wrong".into()))
        }
    }

    /// Remembers; returns when it is on the disk.
    pub(crate) fn save(&self, memory: &Memory) -> Result<(), HomeError> {
        let Some((database, path)) = &self.0 else {
            return Ok(());
        };
        let failed = |why: String| HomeError::State {
            path: path.clone(),
            why,
        };
        let bytes = wire::encode(memory, CAP).map_err(|error| failed(error.to_string()))?;
        write(database, &bytes).map_err(|error| failed(error.to_string()))
    }
}

fn read(database: &Database, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(TABLE) {
        Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_vec())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write(database: &Database, bytes: &[u8]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        table.insert(KEY, bytes)?;
        // Two memories would contradict each other one day.
        table.remove(KEY_3)?;
        table.remove(KEY_2)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Milliseconds since 1970; before that there is no right answer.
pub(crate) fn clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// The number of a new life: later than the last one, even if the clock went back.
pub(crate) fn incarnation(last: u64) -> u64 {
    clock().max(last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use iroh::SecretKey;

    use super::*;
    use crate::network::Shape;

    #[test]
    fn what_was_saved_is_there_after_a_restart() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("state.redb");
        let network = Network::found(&SecretKey::generate(), &Shape::default(), None).unwrap();
        let met = Met {
            id: PeerId::from_bytes([3; 32]),
            card: Bytes::from_static(b"card"),
            hints: Vec::new(),
        };
        let memory = Memory {
            network,
            secret: None,
            incarnation: 7,
            met: vec![met],
            place: "[4.2.17]".parse().ok(),
            invited: vec![PeerId::from_bytes([3; 32])],
        };
        let store = Store::open(path.clone()).unwrap();
        assert!(store.load().unwrap().is_none());
        store.save(&memory).unwrap();
        drop(store);
        let read = Store::open(path).unwrap().load().unwrap().unwrap();
        assert_eq!(
            (read.incarnation, read.met[0].id, read.invited),
            (7, PeerId::from_bytes([3; 32]), memory.invited)
        );
        assert_eq!(read.network, memory.network);
        assert_eq!(read.place.unwrap().to_string(), "[4.2.17]");
    }

    #[test]
    fn a_memory_of_before_invites_were_kept_is_read_and_written_anew() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("state.redb");
        let network = Network::found(&SecretKey::generate(), &Shape::default(), None).unwrap();
        let old = Memory2 {
            network: network.into(),
            secret: None,
            incarnation: 7,
            met: Vec::new(),
            place: "[4.2]".parse().ok(),
        };
        let store = Store::open(path).unwrap();
        let (database, _) = store.0.as_ref().unwrap();
        let transaction = database.begin_write().unwrap();
        let bytes = wire::encode(&old, CAP).unwrap();
        let mut table = transaction.open_table(TABLE).unwrap();
        table.insert(KEY_2, &bytes[..]).unwrap();
        drop(table);
        transaction.commit().unwrap();
        let memory = store.load().unwrap().unwrap();
        assert_eq!((memory.incarnation, memory.place.is_some()), (7, true));
        store.save(&memory).unwrap();
        assert!(read(database, KEY_2).unwrap().is_none());
        assert_eq!(store.load().unwrap().unwrap().incarnation, 7);
    }

    #[test]
    fn whom_the_invite_named_is_not_forgotten() {
        let network = Network::found(&SecretKey::generate(), &Shape::default(), None).unwrap();
        let met = |number: u16| {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&number.to_le_bytes());
            Met {
                id: PeerId::from_bytes(id),
                card: Bytes::new(),
                hints: Vec::new(),
            }
        };
        let mut memory = Memory {
            network,
            secret: None,
            incarnation: 0,
            met: vec![met(0), met(1)],
            place: None,
            invited: vec![met(1).id],
        };
        (2..1_000).for_each(|number| memory.note(met(number)));
        let knows = |number| memory.met.iter().any(|known| known.id == met(number).id);
        assert_eq!(memory.met.len(), PEERS);
        assert_eq!([0, 1, 2, 999].map(knows), [false, true, false, true]);
    }

    #[test]
    fn the_fullest_memory_fits() {
        let network = Network::found(&SecretKey::generate(), &Shape::default(), None).unwrap();
        let met = Met {
            id: PeerId::from_bytes([3; 32]),
            card: Bytes::from(vec![0; crate::card::CARD_CAP]),
            hints: vec!["[2001:db8::1]:65535".parse().unwrap(); crate::card::ADDRESSES],
        };
        let memory = Memory {
            network,
            secret: None,
            incarnation: u64::MAX,
            met: vec![met; PEERS],
            place: None,
            invited: vec![PeerId::from_bytes([3; 32]); crate::MAX_CONTACTS],
        };
        assert!(wire::encode(&memory, CAP).is_ok());
    }

    #[test]
    fn a_file_that_is_no_memory_is_refused_and_kept() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("state.redb");
        std::fs::write(&path, vec![7; 8_192]).unwrap();
        assert!(matches!(
            Store::open(path.clone()),
            Err(HomeError::State { .. })
        ));
        assert_eq!(std::fs::read(path).unwrap(), vec![7; 8_192]);
    }

    #[test]
    fn a_new_life_is_later_than_the_last() {
        assert!(incarnation(u64::MAX - 5) > u64::MAX - 5);
        assert!(incarnation(0) > 1_500_000_000_000);
    }
}
