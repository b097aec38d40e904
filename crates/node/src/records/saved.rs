//! What a host writes down, and gives back to the next node of the same peer.

use std::{collections::BTreeSet, time::Duration};

use ringweave_ids::{Key, Time};
use ringweave_overlay::Overlay;

use super::{Saved, client::Own};
use crate::router::{Ground, Router};

/// Own records are put again within this span after a start.
const SPREAD: Duration = Duration::from_secs(5);

impl<O: Overlay> Router<O> {
    /// What this peer has under a key.
    pub(crate) fn saved(&self, key: &Key, now: Time) -> Option<Saved> {
        let records = self.records.as_ref()?;
        let own = records.own.get(key);
        let kept = records.store.get(key, now);
        let of_own = own.map(|own| Saved {
            record: own.record.clone(),
            left: own.lease,
            own: Some(own.lease),
        });
        of_own.or_else(|| {
            kept.map(|kept| Saved {
                record: kept.record.clone(),
                left: kept.expires.since(now),
                own: None,
            })
        })
    }

    /// Everything that this peer has.
    pub(crate) fn all_saved(&self, now: Time) -> Vec<Saved> {
        let Some(records) = &self.records else {
            return Vec::new();
        };
        let kept = records.store.iter().map(|(key, _)| key);
        let keys: BTreeSet<Key> = kept.chain(records.own.keys()).copied().collect();
        keys.iter().filter_map(|key| self.saved(key, now)).collect()
    }

    /// Takes back what this peer had: others' records, which it offers to those who hold them now, and its
    /// own, which it puts again.
    pub(crate) fn restore_records(&mut self, ground: &mut Ground<'_, O>, saved: Vec<Saved>) {
        for Saved { record, left, own } in saved {
            let key = record.key();
            if let Some(lease) = own {
                let renew = ground.now + ground.random.between(Duration::ZERO, SPREAD);
                let own = Own::restored(record.clone(), lease, renew);
                let records = self.records.get_or_insert_default();
                records.own.entry(key).or_insert(own);
            }
            // What is no longer in order is dropped.
            let _ = self.keep_record(ground, record, left);
        }
        if self.records.is_some() {
            self.look_soon(ground);
        }
    }
}
