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
        let owned = u64::from(is_first) * Self::FIRST | u64::from(is_far) * Self::FAR;
        // Never that of nobody.
        Self(near & !7 | owned | 4)
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
