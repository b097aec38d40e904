//! Watches: who watches a key reads it, and again whenever its holder says that it has changed.
//!
//! The holder keeps who watches for a minute and says no more than that there is news; what the news is
//! comes by a read like any other. A watcher reads every twenty seconds anyhow, so a holder that is new, or
//! a word that is lost, costs it no more than those.

use std::{collections::BTreeMap, time::Duration};

use ringweave_ids::{Key, PeerId, Time, wire};
use ringweave_overlay::Overlay;

use super::{Fetched, NotKept, Word, client::Reader};
use crate::{
    Event, Port, Ticket,
    router::{Ground, Router},
};

/// Keys that a peer watches at most.
const WATCHING: usize = 1_024;
/// Keys that others watch here, and watchers of one key.
const WATCHED: usize = 4_096;
const WATCHERS: usize = 64;
/// How long a holder keeps a watcher.
const KEEP: Duration = Duration::from_secs(60);
/// How often a watcher reads anyhow.
const AGAIN: Duration = Duration::from_secs(20);
/// How soon after a read that failed.
const SOON: Duration = Duration::from_secs(2);

/// What a peer watches.
pub(super) struct Watching {
    key: Key,
    /// The sequence that it was told last: nothing before the first, nothing within for no record.
    told: Option<Option<u64>>,
    next: Time,
    /// Whether a read is under way, and whether there was news meanwhile.
    is_reading: bool,
    is_touched: bool,
}

/// Who watches a key here.
pub(super) struct Watcher<A> {
    id: PeerId,
    at: A,
    until: Time,
}

/// All watches: of this peer, and here.
pub(super) struct Watches<A> {
    own: BTreeMap<Ticket, Watching>,
    here: BTreeMap<Key, Vec<Watcher<A>>>,
}

impl<A> Default for Watches<A> {
    fn default() -> Self {
        Self {
            own: BTreeMap::new(),
            here: BTreeMap::new(),
        }
    }
}

impl<A> Watches<A> {
    /// When the next read of a watched key is due.
    pub(super) fn next(&self) -> Option<Time> {
        let waiting = self.own.values().filter(|watching| !watching.is_reading);
        waiting.map(|watching| watching.next).min()
    }

    /// Whether nobody watches anything here.
    pub(super) fn is_empty(&self) -> bool {
        self.here.is_empty()
    }

    /// Notes a watcher of a key; whoever has no room reads every twenty seconds.
    pub(super) fn note(&mut self, key: Key, id: PeerId, at: A, now: Time) {
        if self.here.len() >= WATCHED && !self.here.contains_key(&key) {
            return;
        }
        let until = now + KEEP;
        let watchers = self.here.entry(key).or_default();
        watchers.retain(|watcher| watcher.id != id && watcher.until > now);
        if watchers.len() < WATCHERS {
            watchers.push(Watcher { id, at, until });
        }
    }

    /// Forgets who has not come back.
    pub(super) fn sweep(&mut self, now: Time) {
        self.here.retain(|_, watchers| {
            watchers.retain(|watcher| watcher.until > now);
            !watchers.is_empty()
        });
    }
}

impl<O: Overlay> Router<O> {
    /// Watches a key.
    pub(crate) fn watch_record(&mut self, ground: &mut Ground<'_, O>, ticket: Ticket, key: Key) {
        if !ground.overlay.is_structured() {
            return ground.tell(Event::Watched(ticket, Err(NotKept::NoHolders)));
        }
        let records = self.records.get_or_insert_default();
        if records.watches.own.len() >= WATCHING {
            let busy = NotKept::Failed(crate::Failure::Refused);
            return ground.tell(Event::Watched(ticket, Err(busy)));
        }
        let watching = Watching {
            key,
            told: None,
            next: ground.now,
            is_reading: false,
            is_touched: false,
        };
        records.watches.own.insert(ticket, watching);
        self.read_watched(ground);
    }

    /// Watches no more.
    pub(crate) fn unwatch_record(&mut self, ticket: Ticket) {
        if let Some(records) = &mut self.records {
            records.watches.own.remove(&ticket);
        }
    }

    /// Reads what is due.
    pub(super) fn read_watched(&mut self, ground: &mut Ground<'_, O>) {
        let Some(records) = &mut self.records else {
            return;
        };
        let own = records.watches.own.iter_mut();
        let due = own.filter(|(_, watching)| !watching.is_reading && watching.next <= ground.now);
        let mut reads = Vec::new();
        for (ticket, watching) in due {
            watching.is_reading = true;
            watching.is_touched = false;
            reads.push((*ticket, watching.key));
        }
        for (ticket, key) in reads {
            self.begin_read(ground, Reader::Watch(ticket), key);
        }
        self.arm_records(ground);
    }

    /// A read of a watched key ended.
    pub(super) fn on_watched_read(
        &mut self,
        ground: &mut Ground<'_, O>,
        ticket: Ticket,
        result: Result<Option<Fetched>, NotKept>,
    ) {
        let now = ground.now;
        let Some(records) = &mut self.records else {
            return;
        };
        let Some(watching) = records.watches.own.get_mut(&ticket) else {
            return;
        };
        watching.is_reading = false;
        let wait = if result.is_ok() { AGAIN } else { SOON };
        watching.next = if watching.is_touched { now } else { now + wait };
        if let Ok(found) = result {
            let sequence = found.as_ref().map(|found| found.sequence);
            if watching.told.replace(sequence) != Some(sequence) {
                ground.tell(Event::Watched(ticket, Ok(found)));
            }
        }
        self.read_watched(ground);
    }

    /// Tells those who watch a key here that there is news.
    pub(super) fn touch_watchers(&mut self, ground: &mut Ground<'_, O>, key: &Key) {
        let Some(records) = &self.records else {
            return;
        };
        let Some(watchers) = records.watches.here.get(key) else {
            return;
        };
        let live = watchers.iter().filter(|watcher| watcher.until > ground.now);
        let live: Vec<_> = live
            .map(|watcher| (watcher.id, watcher.at.clone()))
            .collect();
        let word = wire::to_vec(&Word::Touched { key: *key });
        for (id, at) in live {
            self.post(ground, id, at, Port::RECORDS, word.clone().into());
        }
    }

    /// A holder says that there is news of a key.
    pub(super) fn on_touched(&mut self, ground: &mut Ground<'_, O>, key: &Key) {
        let Some(records) = &mut self.records else {
            return;
        };
        for watching in records.watches.own.values_mut().filter(|it| it.key == *key) {
            watching.is_touched = true;
            watching.next = ground.now;
        }
        self.read_watched(ground);
    }
}
