//! Watches of records: each feeds one receiver, which sees the latest value.

use std::collections::BTreeMap;

use ringweave_ids::Key;
use ringweave_node::{Command, Fetched, Input, NotKept, Ticket};
use tokio::sync::watch;

use super::Hub;
use crate::handle::Watch;

/// What a watch was told last; nothing before the first time.
pub(crate) type Seen = Option<Result<Option<Fetched>, NotKept>>;

/// Watches of handles, by ticket.
#[derive(Default)]
pub(super) struct Watches(BTreeMap<u64, (Key, watch::Sender<Seen>)>);

impl Hub {
    /// Begins to watch a key.
    pub(super) fn watch_key(&mut self, key: Key) -> Watch {
        let number = self.calls.number();
        let (sender, receiver) = watch::channel(None);
        self.watches.0.insert(number, (key, sender));
        self.step(
            self.voice,
            Input::Command(Ticket(number), Command::Watch(key)),
        );
        Watch(receiver)
    }

    /// The node tells of a watch.
    pub(super) fn on_watched(&mut self, ticket: Ticket, told: Result<Option<Fetched>, NotKept>) {
        let is_over = told.is_err();
        if let Some((_, sender)) = self.watches.0.get(&ticket.0) {
            // Who has gone is noticed at the next look.
            let _ = sender.send(Some(told));
        }
        if is_over {
            self.watches.0.remove(&ticket.0);
        }
    }

    /// Ends the watches that nobody looks at any more.
    pub(super) fn end_watches(&mut self) {
        let gone = self
            .watches
            .0
            .extract_if(.., |_, (_, sender)| sender.is_closed());
        for (number, _) in gone.collect::<Vec<_>>() {
            let end = Command::Unwatch(Ticket(number));
            self.step(self.voice, Input::Command(Ticket(number), end));
        }
    }

    /// Another node speaks for this peer: it watches what the last one watched.
    pub(super) fn watch_anew(&mut self) {
        let watches: Vec<_> = self
            .watches
            .0
            .iter()
            .map(|(number, (key, _))| (*number, *key))
            .collect();
        for (number, key) in watches {
            self.step(
                self.voice,
                Input::Command(Ticket(number), Command::Watch(key)),
            );
        }
    }
}
