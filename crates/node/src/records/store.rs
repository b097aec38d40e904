//! What this peer keeps for others: records by key, within quotas.

use std::{collections::BTreeMap, time::Duration};

use ringweave_ids::{Key, PeerId, Time};

use super::{Denial, Record};

/// Records kept at most.
const RECORDS: usize = 65_536;
/// Bytes kept at most.
const BYTES: usize = 64 * 1024 * 1024;
/// One owner's share of either, at most.
const OWNERS: usize = 8;

/// A record that is kept, and what is known of its other copies.
pub(super) struct Kept {
    pub(super) record: Record,
    pub(super) expires: Time,
    /// Who held it when its copies were compared last ([`Mark`]).
    pub(super) mark: Mark,
    /// Whether no newer one is anywhere, as far as its holders know; asked of them before it is answered
    /// where not.
    pub(super) is_sure: bool,
    /// When its copies are compared, whether or not anything has changed.
    pub(super) due: Time,
    /// When another holder spoke of it last.
    pub(super) heard: Time,
}

/// Who holds a record, as a number: whether this peer is one of its owners, and a hash of those next to
/// it if it is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Mark {
    const FIRST: u64 = 1;
    const FAR: u64 = 2;

    /// The mark of a record that no owner was ever told of.
    pub(super) const NONE: Self = Self(0);

    pub(super) fn new(is_first: bool, is_far: bool, near: u64) -> Self {
        let first = u64::from(is_first) * Self::FIRST;
        let far = u64::from(is_far) * Self::FAR;
        // Never that of nobody.
        Self((near & !7) | first | far | 4)
    }

    pub(super) fn is_first(self) -> bool {
        self.0 & Self::FIRST != 0
    }

    pub(super) fn is_far(self) -> bool {
        self.0 & Self::FAR != 0
    }
}

/// How a record compares with what was kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// It is newer, and kept now.
    New,
    /// It is what is kept.
    Same,
    /// It is older than what is kept.
    Old,
}

/// Everything kept.
#[derive(Default)]
pub(super) struct Store {
    kept: BTreeMap<Key, Box<Kept>>,
    bytes: usize,
    owners: BTreeMap<PeerId, (usize, usize)>,
}

impl Store {
    pub(super) fn get(&self, key: &Key, now: Time) -> Option<&Kept> {
        let kept = self.kept.get(key).map(|kept| &**kept);
        kept.filter(|kept| kept.expires > now)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Kept> {
        self.kept.get_mut(key).map(|kept| &mut **kept)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Kept)> {
        self.kept.iter().map(|(key, kept)| (key, &**kept))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Keeps a record that was checked, for so long at most.
    pub(super) fn keep(
        &mut self,
        key: Key,
        record: Record,
        left: Duration,
        now: Time,
    ) -> Result<Fresh, Denial> {
        let expires = now + left.min(record.lease());
        let old = self.kept.get(&key).filter(|kept| kept.expires > now);
        if let Some(kept) = old {
            let (new, old) = (record.sequence, kept.record.sequence);
            // Anybody may keep the same immutable value for longer.
            let is_longer = record.is_immutable() && expires > kept.expires && new != old;
            if !is_longer && (record.is_immutable() || new <= old) {
                let is_same = record.is_immutable() || kept.record == record;
                return Ok(if is_same { Fresh::Same } else { Fresh::Old });
            }
        }
        let (owner, size) = (record.owner, record.size());
        let of_key = self.kept.get(&key).map(|kept| &kept.record);
        let freed = of_key.map_or(0, Record::size);
        let of_owner = of_key.is_some_and(|old| old.owner == owner);
        let (count, bytes) = self.owners.get(&owner).copied().unwrap_or_default();
        let own_freed = if of_owner { freed } else { 0 };
        let is_more = of_key.is_none();
        if (is_more && self.kept.len() >= RECORDS) || self.bytes - freed + size > BYTES {
            return Err(Denial::Full);
        }
        if (!of_owner && count >= RECORDS / OWNERS) || bytes - own_freed + size > BYTES / OWNERS {
            return Err(Denial::Quota);
        }
        self.remove(&key);
        let (count, bytes) = self.owners.get(&owner).copied().unwrap_or_default();
        self.bytes += size;
        self.owners.insert(owner, (count + 1, bytes + size));
        let kept = Kept {
            record,
            expires,
            mark: Mark::NONE,
            is_sure: false,
            due: now,
            heard: now,
        };
        self.kept.insert(key, Box::new(kept));
        Ok(Fresh::New)
    }

    pub(super) fn remove(&mut self, key: &Key) {
        let Some(kept) = self.kept.remove(key) else {
            return;
        };
        let size = kept.record.size();
        self.bytes -= size;
        let owner = kept.record.owner;
        if let Some((count, bytes)) = self.owners.get_mut(&owner) {
            *count -= 1;
            *bytes -= size;
            if *count == 0 {
                self.owners.remove(&owner);
            }
        }
    }

    /// Removes what has expired, and tells its keys.
    pub(super) fn sweep(&mut self, now: Time) -> Vec<Key> {
        let old = self.kept.iter().filter(|(_, kept)| kept.expires <= now);
        let old: Vec<_> = old.map(|(key, _)| *key).collect();
        for key in &old {
            self.remove(key);
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use ringweave_ids::Signature;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn record(owner: u8, name: Option<&str>, sequence: u64, bytes: usize) -> (Key, Record) {
        let record = Record {
            owner: PeerId::from_bytes([owner; 32]),
            name: name.map(str::to_owned),
            sequence,
            lease: HOUR.as_secs() as u32,
            value: Some(vec![1; bytes].into()),
            signature: Signature([0; 64]),
        };
        (record.key(), record)
    }

    fn keep(store: &mut Store, (key, record): (Key, Record), now: Time) -> Result<Fresh, Denial> {
        store.keep(key, record, HOUR, now)
    }

    #[test]
    fn the_newest_stays_and_the_others_are_told_apart() {
        let (mut store, now) = (Store::default(), Time::ZERO);
        let of = |sequence, bytes| record(1, Some("n"), sequence, bytes);
        assert_eq!(keep(&mut store, of(5, 1), now), Ok(Fresh::New));
        assert_eq!(keep(&mut store, of(5, 1), now), Ok(Fresh::Same));
        assert_eq!(keep(&mut store, of(4, 1), now), Ok(Fresh::Old));
        assert_eq!(
            keep(&mut store, of(5, 2), now),
            Ok(Fresh::Old),
            "another of the same number"
        );
        assert_eq!(keep(&mut store, of(6, 1), now), Ok(Fresh::New));
        assert_eq!(
            store.get(&of(6, 1).0, now).map(|kept| kept.record.sequence),
            Some(6)
        );
        // What is over is nothing.
        assert!(store.get(&of(6, 1).0, now + HOUR).is_none());
        assert_eq!(keep(&mut store, of(2, 1), now + HOUR), Ok(Fresh::New));
    }

    #[test]
    fn an_immutable_one_lives_as_long_as_the_longest_lease() {
        let (mut store, now) = (Store::default(), Time::ZERO);
        let later = now + HOUR / 2;
        assert_eq!(keep(&mut store, record(1, None, 1, 9), now), Ok(Fresh::New));
        assert_eq!(
            keep(&mut store, record(2, None, 2, 9), later),
            Ok(Fresh::New)
        );
        let key = record(1, None, 1, 9).0;
        let kept = store.get(&key, now + HOUR).map(|kept| kept.record.owner);
        assert_eq!(kept, Some(PeerId::from_bytes([2; 32])));
        assert_eq!(
            keep(&mut store, record(3, None, 3, 9), now),
            Ok(Fresh::Same)
        );
    }

    #[test]
    fn quotas_count_what_is_there_and_a_refused_one_costs_nothing() {
        let (mut store, now) = (Store::default(), Time::ZERO);
        let (large, share) = (60 * 1024, BYTES / OWNERS);
        let mut count = 0;
        let name = |count: usize| count.to_string();
        while keep(&mut store, record(1, Some(&name(count)), 1, large), now) == Ok(Fresh::New) {
            count += 1;
        }
        assert!(
            count * large <= share && (count + 1) * (large + 1_000) > share,
            "{count}"
        );
        let refused = keep(&mut store, record(1, Some("more"), 1, large), now);
        assert_eq!(refused, Err(Denial::Quota));
        // In place of an old one there is room; and an old one stays if the new one is refused.
        assert_eq!(
            keep(&mut store, record(1, Some("0"), 2, large), now),
            Ok(Fresh::New)
        );
        let small = record(1, Some("1"), 2, 10);
        assert_eq!(keep(&mut store, small.clone(), now), Ok(Fresh::New));
        assert_eq!(
            keep(&mut store, record(1, Some("1"), 3, 2 * large), now),
            Err(Denial::Quota)
        );
        assert_eq!(
            store.get(&small.0, now).map(|kept| kept.record.sequence),
            Some(2)
        );
        // Eight owners fill everything.
        for owner in 2..=9 {
            let mut count = 0;
            while keep(&mut store, record(owner, Some(&name(count)), 1, large), now)
                == Ok(Fresh::New)
            {
                count += 1;
            }
        }
        let last = keep(&mut store, record(10, Some("n"), 1, large), now);
        assert_eq!(last, Err(Denial::Full));
        assert!(store.bytes <= BYTES);
        let keys: Vec<_> = store.iter().map(|(key, _)| *key).collect();
        assert_eq!(store.sweep(now + HOUR).len(), keys.len());
        assert!(store.is_empty() && store.bytes == 0 && store.owners.is_empty());
    }
}
