//! Records on disk: what this peer keeps, for others and of its own, outlives it.
//!
//! Each record is one entry of a table beside the memory, written within a second of its change. What is
//! written is the node's own business: this file knows how long a record still lives, and no more.

use std::{collections::BTreeSet, time::Duration};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use ringweave_ids::{Key, Time, wire};
use ringweave_node::{MAX_VALUE, Record, Saved};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::{
    home::HomeError,
    memory::{Store, clock},
};

const TABLE: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("records 1");
/// A record with the longest name and value.
const CAP: usize = MAX_VALUE + 1_024;
/// How often changes are written at most.
const WRITING: Duration = Duration::from_secs(1);
/// Records written at once: some 60 MB at most.
const AT_ONCE: usize = 1_024;

/// A record as it stands on the disk.
#[derive(Serialize, Deserialize)]
struct Entry {
    record: Record,
    /// When it is no longer kept, in seconds since 1970.
    until: u64,
    /// If this peer renews it: for how many seconds.
    own: Option<u32>,
}

/// What has changed since the last writing.
#[derive(Default)]
pub(crate) struct Ledger {
    changed: BTreeSet<Key>,
    written: Time,
    writing: Option<JoinHandle<()>>,
}

/// Seconds since 1970.
fn seconds() -> u64 {
    clock() / 1_000
}

impl Ledger {
    /// What this peer has under a key is another record now, or none.
    pub(crate) fn note(&mut self, key: Key) {
        self.changed.insert(key);
    }

    /// The keys to be written now, if it is time to, or for the last time.
    pub(crate) fn due(&mut self, now: Time, is_last: bool) -> Vec<Key> {
        let is_busy = self
            .writing
            .as_ref()
            .is_some_and(|writing| !writing.is_finished());
        let is_due = is_last || (!is_busy && now.since(self.written) >= WRITING);
        if self.changed.is_empty() || !is_due {
            return Vec::new();
        }
        self.written = now;
        let many = if is_last { self.changed.len() } else { AT_ONCE };
        let rest = self.changed.iter().nth(many).copied();
        let rest = rest
            .map(|from| self.changed.split_off(&from))
            .unwrap_or_default();
        std::mem::replace(&mut self.changed, rest)
            .into_iter()
            .collect()
    }

    /// Writes what the node has under these keys.
    pub(crate) fn write(&mut self, store: Store, changes: Vec<(Key, Option<Saved>)>) {
        let before = self.writing.take();
        self.writing = Some(tokio::spawn(async move {
            if let Some(before) = before {
                // Only the order matters here; its failure was reported by itself.
                let _ = before.await;
            }
            match tokio::task::spawn_blocking(move || store.save_records(&changes)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("cannot write records: {error}"),
                Err(error) => tracing::warn!("cannot write records: {error}"),
            }
        }));
    }

    /// Waits until what was to be written is written.
    pub(crate) async fn wait(&mut self) {
        if let Some(writing) = self.writing.take() {
            // Its failure was reported by itself.
            let _ = writing.await;
        }
    }
}

impl Store {
    /// The records that are still to be kept. One that is damaged is left out.
    pub(crate) fn load_records(&self) -> Result<Vec<Saved>, HomeError> {
        let Some((database, path)) = self.parts() else {
            return Ok(Vec::new());
        };
        let now = seconds();
        let entries = load(database).map_err(|error| HomeError::State {
            path: path.clone(),
            why: error.to_string(),
        })?;
        let read = |bytes: Vec<u8>| {
            let entry: Entry = wire::decode(&bytes, CAP).ok()?;
            let left = entry.until.checked_sub(now).filter(|left| *left > 0)?;
            Some(Saved {
                left: Duration::from_secs(left),
                own: entry.own.map(|own| Duration::from_secs(own.into())),
                record: entry.record,
            })
        };
        Ok(entries.into_iter().filter_map(read).collect())
    }

    fn save_records(&self, changes: &[(Key, Option<Saved>)]) -> Result<(), HomeError> {
        let Some((database, path)) = self.parts() else {
            return Ok(());
        };
        save(database, changes).map_err(|error| HomeError::State {
            path: path.clone(),
            why: error.to_string(),
        })
    }
}

fn load(database: &Database) -> Result<Vec<Vec<u8>>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(TABLE) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut entries = Vec::new();
    for entry in table.iter()? {
        entries.push(entry?.1.value().to_vec());
    }
    Ok(entries)
}

fn save(database: &Database, changes: &[(Key, Option<Saved>)]) -> Result<(), redb::Error> {
    let now = seconds();
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for (key, saved) in changes {
            let Some(saved) = saved else {
                table.remove(&key.0)?;
                continue;
            };
            let entry = Entry {
                record: saved.record.clone(),
                until: now + saved.left.as_secs(),
                own: saved.own.map(|own| own.as_secs() as u32),
            };
            table.insert(&key.0, wire::to_vec(&entry).as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use ringweave_ids::{PeerId, Signature};

    use super::*;

    fn saved(name: &str, left: u64) -> (Key, Option<Saved>) {
        let owner = PeerId::from_bytes([3; 32]);
        let record = Record {
            owner,
            name: Some(name.into()),
            sequence: 7,
            lease: 3_600,
            value: Some(vec![1; MAX_VALUE].into()),
            signature: Signature([0; 64]),
        };
        let key = record.key();
        let (left, own) = (Duration::from_secs(left), None);
        (key, Some(Saved { record, left, own }))
    }

    #[test]
    fn what_was_written_is_there_unless_its_time_is_over() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path().join("state.redb")).unwrap();
        assert!(store.load_records().unwrap().is_empty());
        let all = [
            saved("stays", 1_000),
            saved("goes", 1_000),
            saved("is over", 0),
        ];
        store.save_records(&all).unwrap();
        store.save_records(&[(all[1].0, None)]).unwrap();
        let left = store.load_records().unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].record, all[0].1.as_ref().unwrap().record);
        assert!(
            left[0].left > Duration::from_secs(990),
            "{:?}",
            left[0].left
        );
    }

    #[tokio::test]
    async fn changes_are_written_once_a_second_and_all_of_them_at_the_end() {
        let mut ledger = Ledger::default();
        let second = |n| Time::ZERO + WRITING * n;
        for byte in 0..3 {
            ledger.note(Key([byte; 32]));
            ledger.note(Key([byte; 32]));
        }
        assert_eq!(ledger.due(second(1), false).len(), 3);
        ledger.note(Key([9; 32]));
        assert_eq!(ledger.due(second(1), false), []);
        assert_eq!(ledger.due(second(2), false), [Key([9; 32])]);
        for many in 0..AT_ONCE as u32 + 5 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&many.to_be_bytes());
            ledger.note(Key(key));
        }
        assert_eq!(ledger.due(second(3), false).len(), AT_ONCE);
        assert_eq!(ledger.due(second(3), true).len(), 5);
    }
}
