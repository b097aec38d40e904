//! Ways into the network: the peers an invite, the disk or the local network named.
//!
//! They are dialled in waves, several at once, since most of those that the disk remembers may be gone
//! and a dial takes seconds to find that out. Whoever answers first is asked for a place.

use std::{net::SocketAddr, time::Duration};

use ringweave_ids::{Guid, Peer, PeerId, Time};
use ringweave_node::Input;
use ringweave_overlay::Host as _;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{Ending, Hub, instances::Later};
use crate::{
    book::Book,
    invite::{InviteContact, MAX_ADDRESSES, MAX_CONTACTS},
    memory::{Memory, Met, Store},
    network::Network,
};

/// Contacts dialled in one wave.
const ABREAST: usize = 4;
/// Contacts of its own invite that a peer passes on in those it writes.
const PASSED_ON: usize = 2;
/// Between two waves: most peers on Earth have answered a dial by then.
const WAVE: Duration = Duration::from_millis(300);
/// Contacts dialled in one round of waves: as many as dials may be under way.
const ROUND: usize = 32;
/// Between two rounds, and how long a place may be lost before contacts are asked for another.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long a founder looks for its old network before it founds it again.
const FOUNDING: Duration = Duration::from_secs(5);
/// How often the memory is written at most.
const SAVING: Duration = Duration::from_secs(2);

/// Tells whoever started this peer that it has a place, or why not.
pub(crate) type Placed = oneshot::Sender<Result<(), Ending>>;

/// Whom this peer knows outside its table, and whether it has found its way in.
pub(crate) struct Contacts {
    memory: Memory,
    store: Store,
    /// Whether this peer has been a member of the network in an earlier life.
    pub(super) is_known: bool,
    pub(super) is_placed: bool,
    pub(super) next_try: Time,
    turn: usize,
    /// Peers asked for a place, as long as there is none.
    asked: Vec<Peer>,
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
            asked: Vec::new(),
            is_changed: false,
            saved: Time::ZERO,
            saving: None,
        }
    }

    /// This peer has a place, and so is a member from now on. Who waits for that hears it at once if
    /// the disk knows, else as soon as it does: a member that dies then comes back as one.
    pub(super) fn on_placed(&mut self, guid: &Guid, told: Option<Placed>) {
        self.is_placed = true;
        self.asked.clear();
        self.is_changed |= self.memory.place.as_ref() != Some(guid);
        self.memory.place = Some(guid.clone());
        if std::mem::replace(&mut self.is_known, true) {
            if let Some(told) = told {
                // Whoever started this peer may have given up on it.
                let _ = told.send(Ok(()));
            }
        } else {
            self.write(told);
        }
    }

    /// A peer was met: it moves to the front of the memory.
    pub(super) fn note(&mut self, book: &Book, peer: Peer) {
        let id = book.id(peer);
        let hints = book.hints(peer);
        self.memory.note(Met {
            id,
            card: book.card(peer),
            hints,
        });
        self.is_changed = true;
    }

    /// The network is this from now on.
    pub(super) fn settle(&mut self, network: Network) {
        self.memory.network = network;
        self.is_changed = true;
    }

    /// This peer was elsewhere for a while: whom it could not reach then it may reach now.
    pub(super) fn try_now(&mut self, now: Time) {
        self.turn = 0;
        self.next_try = now;
    }

    /// Starts to write the memory if it changed; not too often, unless it is the last time.
    pub(super) fn save(&mut self, now: Time, is_last: bool) {
        let is_newcomer = !self.is_known && !self.is_placed;
        if is_newcomer || !self.is_changed || (!is_last && now.since(self.saved) < SAVING) {
            return;
        }
        self.saved = now;
        self.write(None);
    }

    fn write(&mut self, told: Option<Placed>) {
        self.is_changed = false;
        let (store, memory, before) = (self.store.clone(), self.memory.clone(), self.saving.take());
        self.saving = Some(tokio::spawn(async move {
            if let Some(before) = before {
                // Only the order matters here; its failure was reported by itself.
                let _ = before.await;
            }
            let saved = tokio::task::spawn_blocking(move || store.save(&memory)).await;
            match saved {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("cannot remember peers: {error}"),
                Err(error) => tracing::warn!("cannot remember peers: {error}"),
            }
            if let Some(told) = told {
                // Whoever started this peer may have given up on it.
                let _ = told.send(Ok(()));
            }
        }));
    }

    /// Where this peer remembers.
    pub(super) fn store(&self) -> Store {
        self.store.clone()
    }

    /// Waits until what was to be written is written.
    pub(super) async fn written(&mut self) {
        if let Some(saving) = self.saving.take() {
            // Its failure was reported by itself.
            let _ = saving.await;
        }
    }
}

impl Hub {
    /// Enters the network: through its contacts, or, with none, by founding it.
    pub(super) fn enter(&mut self) {
        self.watch_moves();
        if self.contacts.memory.met.is_empty() {
            self.step(self.voice, Input::Join(Vec::new()));
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
        let is_alone = self.dials == 0 && self.linked().next().is_none();
        if is_alone && self.book.is_founder() && self.now.since(Time::ZERO) >= FOUNDING {
            self.step(self.voice, Input::Join(Vec::new()));
            self.contacts.next_try = self.now + PATIENCE;
        } else {
            self.try_contacts();
        }
    }

    /// Dials the next contacts, and asks for a place whoever can be asked.
    fn try_contacts(&mut self) {
        let met = &self.contacts.memory.met;
        let wave = self.contacts.turn..(self.contacts.turn + ABREAST).min(met.len());
        let chosen: Vec<Met> = met.get(wave.clone()).unwrap_or_default().to_vec();
        let is_over = wave.end >= met.len();
        let is_last = is_over || wave.end.is_multiple_of(ROUND);
        self.contacts.turn = if is_over { 0 } else { wave.end };
        self.contacts.next_try = self.now + if is_last { PATIENCE } else { WAVE };
        self.make_way();
        let mut dialled = Vec::new();
        for met in chosen {
            let Some(peer) = self.book.admit(met.id) else {
                continue;
            };
            self.book.learn(peer, &met.card);
            self.book.hint(peer, &met.hints);
            if peer != Book::ME {
                self.dial(peer);
                dialled.push(peer);
            }
        }
        let linked: Vec<_> = self.linked().collect();
        let asked = if linked.is_empty() { dialled } else { linked };
        if !asked.is_empty() && (is_last || asked != self.contacts.asked) {
            self.contacts.asked.clone_from(&asked);
            self.step(self.voice, Input::Join(asked));
        }
    }

    /// A connection stands: the first while there is no place leads to one, perhaps.
    pub(super) fn on_answered(&mut self, peer: Peer) {
        let is_searching = !self.contacts.is_placed && self.leaving.is_none();
        let asked = &self.contacts.asked;
        let is_first = asked.first() != Some(&peer) && self.linked().all(|other| other == peer);
        if is_searching && is_first && !asked.is_empty() {
            self.contacts.asked = vec![peer];
            self.later.push_back(Later::Join(vec![peer]));
        }
    }

    pub(super) fn linked(&self) -> impl Iterator<Item = Peer> {
        let links = self.slots.iter().filter_map(|slot| slot.link.as_deref());
        links.map(|link| link.id.peer)
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
        self.step(self.voice, Input::Join(vec![peer]));
    }

    /// The peers an invite names: this one, then two that its own invite named, then those it is linked
    /// with, then those it met.
    pub(super) fn invited(&self) -> Vec<InviteContact> {
        let memory = &self.contacts.memory;
        let named = memory.invited.iter().filter_map(|id| self.book.peer(id));
        let met = memory.met.iter().filter_map(|met| self.book.peer(&met.id));
        let mut contacts: Vec<InviteContact> = Vec::new();
        for peer in std::iter::once(Book::ME)
            .chain(named.take(PASSED_ON))
            .chain(self.linked())
            .chain(met)
        {
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
