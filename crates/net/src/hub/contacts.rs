//! Ways into the network: the peers an invite, the disk or the local network named, tried in turn.

use std::{net::SocketAddr, time::Duration};

use ringweave_ids::{Guid, Peer, PeerId, Time};
use ringweave_node::Input;
use ringweave_overlay::{Host as _, Overlay};
use tokio::task::JoinHandle;

use super::Hub;
use crate::{
    book::Book,
    invite::{InviteContact, MAX_ADDRESSES, MAX_CONTACTS},
    memory::{Memory, Met, PEERS, Store},
};

/// Contacts tried at once.
const ABREAST: usize = 4;
/// How long one set of contacts has before the next is tried too.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long a founder looks for its old network before it founds it again.
const FOUNDING: Duration = Duration::from_secs(5);
/// How often the memory is written at most.
const SAVING: Duration = Duration::from_secs(2);

/// Whom this peer knows outside its table, and whether it has found its way in.
pub(crate) struct Contacts {
    memory: Memory,
    store: Store,
    /// Whether this peer has been a member of the network in an earlier life.
    pub(super) is_known: bool,
    pub(super) is_placed: bool,
    pub(super) next_try: Time,
    turn: usize,
    /// Whether there is something to write; a newcomer writes nothing before it has a place, so that
    /// an invite that led nowhere leaves nothing behind.
    is_changed: bool,
    saved: Time,
    saving: Option<JoinHandle<()>>,
}

impl Contacts {
    pub(crate) fn new(memory: Memory, store: Store, is_known: bool) -> Self {
        Self {
            memory,
            store,
            is_known,
            is_placed: false,
            next_try: Time::ZERO,
            turn: 0,
            is_changed: false,
            saved: Time::ZERO,
            saving: None,
        }
    }

    /// This peer has a place, and so is a member from now on.
    pub(super) fn on_placed(&mut self) {
        self.is_placed = true;
        self.is_changed |= !self.is_known;
        self.is_known = true;
    }

    /// A peer was met: it moves to the front of the memory.
    pub(super) fn note(&mut self, book: &Book, peer: Peer) {
        let id = book.id(peer);
        let hints = book.hints(peer);
        self.memory.met.retain(|met| met.id != id);
        self.memory.met.insert(
            0,
            Met {
                id,
                card: book.card(peer),
                hints,
            },
        );
        self.memory.met.truncate(PEERS);
        self.is_changed = true;
    }

    /// Starts to write the memory if it changed; not too often, unless it is the last time.
    pub(super) fn save(&mut self, now: Time, is_last: bool) {
        let is_newcomer = !self.is_known && !self.is_placed;
        if is_newcomer || !self.is_changed || (!is_last && now.since(self.saved) < SAVING) {
            return;
        }
        self.is_changed = false;
        self.saved = now;
        let (store, memory, before) = (self.store.clone(), self.memory.clone(), self.saving.take());
        self.saving = Some(tokio::spawn(async move {
            if let Some(before) = before {
                // Only the order matters here; its failure was reported by itself.
                let _ = before.await;
            }
            let saved = tokio::task::spawn_blocking(move || store.save(&memory)).await;
            if let Ok(Err(error)) = saved {
                tracing::warn!("cannot remember peers: {error}");
            }
        }));
    }

    /// Waits until what was to be written is written.
    pub(super) async fn written(&mut self) {
        if let Some(saving) = self.saving.take() {
            // Its failure was reported by itself.
            let _ = saving.await;
        }
    }
}

impl<O: Overlay<Address = Guid>> Hub<O> {
    /// Enters the network: through its contacts, or, with none, by founding it.
    pub(super) fn enter(&mut self) {
        if self.contacts.memory.met.is_empty() {
            self.step(Input::Join(Vec::new()));
            self.contacts.next_try = self.now + PATIENCE;
        } else {
            self.try_contacts();
        }
    }

    /// While this peer has no place: the next contacts; a founder founds anew if nobody is there.
    pub(super) fn keep_trying(&mut self) {
        if self.contacts.is_placed || self.leaving.is_some() || self.now < self.contacts.next_try {
            return;
        }
        let is_alone = self.slots.iter().all(|slot| slot.link.is_none());
        if is_alone && self.book.is_founder() && self.now.since(Time::ZERO) >= FOUNDING {
            self.step(Input::Join(Vec::new()));
            self.contacts.next_try = self.now + PATIENCE;
        } else {
            self.try_contacts();
        }
    }

    fn try_contacts(&mut self) {
        let met = &self.contacts.memory.met;
        let count = met.len().min(ABREAST);
        let turn = self.contacts.turn;
        let chosen: Vec<Met> = (0..count)
            .map(|k| met[(turn + k) % met.len()].clone())
            .collect();
        self.contacts.turn = turn.wrapping_add(count);
        // Until a founder founds, its contacts get the whole time.
        self.contacts.next_try = self.now
            + if self.book.is_founder() {
                FOUNDING
            } else {
                PATIENCE
            };
        self.make_way();
        let mut peers = Vec::new();
        for met in chosen {
            let Some(peer) = self.book.admit(met.id) else {
                continue;
            };
            self.book.learn(peer, &met.card);
            self.book.hint(peer, &met.hints);
            if peer != Book::ME {
                peers.push(peer);
            }
        }
        if !peers.is_empty() {
            self.step(Input::Join(peers));
        }
    }

    /// The local network knows a peer: a way in for one that has no place, and else of no use.
    pub(super) fn on_found(&mut self, id: PeerId, addresses: &[SocketAddr]) {
        if self.contacts.is_placed || self.leaving.is_some() {
            return;
        }
        self.make_way();
        let Some(peer) = self.book.admit(id).filter(|peer| *peer != Book::ME) else {
            return;
        };
        self.book.hint(peer, addresses);
        self.step(Input::Join(vec![peer]));
    }

    /// The peers an invite names: this one, then those it is linked with, then those it met.
    pub(super) fn invited(&self) -> Vec<InviteContact> {
        let linked = self
            .slots
            .iter()
            .filter_map(|slot| slot.link.as_deref())
            .map(|link| link.id.peer);
        let met = self
            .contacts
            .memory
            .met
            .iter()
            .filter_map(|met| self.book.peer(&met.id));
        let mut contacts: Vec<InviteContact> = Vec::new();
        for peer in std::iter::once(Book::ME).chain(linked).chain(met) {
            let id = self.book.id(peer);
            let mut addresses = self.book.addresses(peer);
            addresses.truncate(MAX_ADDRESSES);
            if contacts.len() < MAX_CONTACTS
                && !addresses.is_empty()
                && contacts.iter().all(|other| other.id != id)
            {
                contacts.push(InviteContact { id, addresses });
            }
        }
        contacts
    }
}
