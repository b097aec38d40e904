//! Evolution: the whole network moves to another topology while its messages flow.
//!
//! ```text
//! stage      messages go over   and the other overlay          its end, at the founder
//! settled    star               -
//! preparing  star               polyring: peers take places    everybody has one
//! finishing  polyring           star: what is under way ends   nobody waits for an answer there
//! settled    polyring           -
//! ```
//!
//! A stage is an edition of the network's configuration, signed by the founder; it travels from neighbour
//! to neighbour in notes, and in every greeting. A peer passes *preparing* on once it has a place itself,
//! so that whoever tells is a way in; the other stages at once. That a stage has ended everywhere is
//! found by an echo (Chang, "Echo algorithms: depth parallel operations on general graphs", IEEE Trans.
//! Software Engineering 1982): a peer tells the one that told it when it has done its part and has
//! heard from all its other neighbours.
//!
//! Differs from the paper: a neighbour whose connection is lost is not waited for, and one that comes
//! later is told, too.

use std::time::Duration;

use ringweave_ids::{Peer, Time};
use ringweave_node::Input;
use ringweave_overlay::Topology;

use super::Hub;
use crate::{
    book::Book,
    handle::{CallError, Evolution as Told, PeerEvent},
    link::LinkId,
    network::{Network, Settled, Stage, Step},
    note::{self, Note},
};

/// Between two requests for a place.
const ASK: Duration = Duration::from_secs(1);
/// How long the answers to what an application asked for before are waited for.
const DRAIN: Duration = Duration::from_secs(6);
/// How long the founder waits until everybody has a place in the new topology; then it stays as it was.
const PREPARING: Duration = Duration::from_secs(120);
/// How long it waits for the others to end what is under way in the old one.
const FINISHING: Duration = Duration::from_secs(30);
/// How long a stage stands after everybody has done its part: what was sent meanwhile arrives.
const GRACE: Duration = Duration::from_secs(2);

/// How far this peer is with the latest edition of the network.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evolution {
    /// Who told of it; nobody if this peer made it, or knew it from the start.
    teller: Option<Peer>,
    /// Whether the others have been told.
    has_told: bool,
    /// Whether the teller has heard that this peer, and all behind it, have done their part.
    has_echoed: bool,
    /// Since when.
    since: Time,
    /// When to ask for a place again.
    next_ask: Time,
    /// Since when everybody has done its part, as far as the founder knows.
    done: Option<Time>,
}

impl Evolution {
    /// How far a peer is that starts with this edition.
    pub(super) fn of(settled: &Settled) -> Self {
        let is_settled = settled.stage == Stage::Settled;
        Self {
            has_told: is_settled,
            has_echoed: is_settled,
            ..Self::default()
        }
    }

    /// Whether anything is left to do for this peer.
    pub(super) const fn is_under_way(&self) -> bool {
        !self.has_echoed
    }
}

impl Hub {
    /// Begins to move the network.
    pub(super) fn begin_evolution(&mut self, to: Topology) -> Result<(), CallError> {
        let settled = &self.book.about().settled;
        if !self.book.is_founder() {
            let why =
                "only the peer that founded the network can move it: it holds the network's key";
            return Err(CallError::Denied(why.into()));
        }
        if settled.stage != Stage::Settled || self.evolution.is_under_way() {
            let why = "the network is on its way to another topology already";
            return Err(CallError::Busy(why.into()));
        }
        if settled.topology == to {
            return Err(CallError::Busy(format!(
                "the network's topology is {to} already"
            )));
        }
        self.advance(Step::Prepare(to));
        // Who moves the network is the first there.
        let number = self.book.about().settled.instance.saturating_add(1);
        self.step(number, Input::Join(Vec::new()));
        Ok(())
    }

    /// Where the network is on its way, as people hear it.
    pub(super) fn evolution_told(&self) -> Option<Told> {
        let settled = &self.book.about().settled;
        let now = settled.topology.name();
        let (stage, from, to) = match settled.stage {
            Stage::Settled => return None,
            Stage::Preparing(to) => ("preparing", now, to.name()),
            Stage::Finishing(from) => ("finishing", from.name(), now),
        };
        Some(Told { stage, from, to })
    }

    /// The founder makes the next edition.
    fn advance(&mut self, step: Step) {
        if let Some(network) = self.book.step(step) {
            self.adopt(network, None);
        }
    }

    /// A neighbour greeted with what it takes the network for.
    pub(super) fn on_met(&mut self, peer: Peer, network: Network) {
        if network.succeeds(self.book.about()) {
            self.adopt(network, Some(peer));
        } else if self.evolution.has_told && self.is_evolving() {
            self.tell_network(peer);
        }
    }

    /// Whether anybody may still wait for what its neighbours have done.
    fn is_evolving(&self) -> bool {
        self.evolution.is_under_way() || self.book.about().settled.stage != Stage::Settled
    }

    /// A neighbour passes something on.
    pub(super) fn on_noted(&mut self, link: LinkId, note: Note) {
        if self.link_mut(link).is_none() {
            return;
        }
        let network = match note {
            Note::Cards(cards) => return self.on_cards(link, cards),
            Note::Network(network) => *network,
        };
        let own = self.book.about();
        if network.id != own.id || (network != *own && !network.is_genuine()) {
            self.traffic.faults += 1;
            return;
        }
        let (theirs, ours) = (network.settled.version, own.settled.version);
        if let Some(link) = self.link_mut(link) {
            link.has_done = link.has_done.max(theirs);
        }
        if theirs > ours {
            self.adopt(network, Some(link.peer));
        } else if theirs < ours && self.evolution.has_told {
            self.tell_network(link.peer);
        }
        self.evolve();
    }

    /// The network is this from now on; `teller` said so, or this peer itself. The signature is right.
    fn adopt(&mut self, network: Network, teller: Option<Peer>) {
        let before = self.book.about().settled.overlays().next();
        self.book.settle(network.clone());
        self.gate.settle(network.clone());
        self.contacts.settle(network.clone());
        self.evolution = Evolution {
            teller,
            since: self.now,
            ..Evolution::default()
        };
        let wanted: Vec<_> = network.settled.overlays().collect();
        // By topology too: who missed that a move was given up holds another one under the next's number.
        let held = self.instances.iter().map(|it| (it.number, it.topology));
        let (kept, ended): (Vec<_>, Vec<_>) = held.partition(|it| wanted.contains(it));
        let voice = self.voice;
        for (number, _) in ended.iter().filter(|(number, _)| *number != voice) {
            self.end(*number);
        }
        for (number, topology) in wanted.iter().filter(|it| !kept.contains(it)) {
            self.begin(*number, *topology);
        }
        if ended.iter().any(|(number, _)| *number == voice) {
            // This peer missed a stage: there is nothing left to wait for.
            self.speak_over(wanted[0].0);
            self.end(voice);
        }
        tracing::info!(?before, now = ?wanted, "the network has another edition");
        self.watch(PeerEvent::Evolving {
            topology: network.settled.topology.name(),
            evolution: self.evolution_told(),
        });
        self.next_tick = self.now;
    }

    /// Messages go over this instance from now on.
    fn speak_over(&mut self, number: u32) {
        let saved = self.node().all_saved(self.now);
        self.voice = number;
        if !saved.is_empty() {
            self.step(number, Input::Restore(saved));
        }
        self.watch_anew();
        for saved in self.node().all_saved(self.now) {
            self.ledger.note(saved.record.key());
        }
        let place = self.node().address().cloned();
        self.contacts.is_placed = place.is_some();
        match place {
            Some(guid) => {
                self.contacts.on_placed(&guid, self.placed.take());
                self.watch(PeerEvent::Placed { guid });
            }
            None => {
                self.contacts.next_try = self.now;
                self.watch(PeerEvent::Displaced);
            }
        }
    }

    /// Does what is to be done for the latest edition: takes a place, moves the application's messages,
    /// tells the neighbours, and the one that told. The founder goes on to the next stage.
    pub(super) fn evolve(&mut self) {
        if !self.evolution.is_under_way() || self.leaving.is_some() {
            return;
        }
        let settled = &self.book.about().settled;
        let (version, stage, instance) = (settled.version, settled.stage, settled.instance);
        let is_late = self.now.since(self.evolution.since) >= DRAIN;
        if self.voice != instance && (self.calls.is_idle() || is_late) {
            self.speak_over(instance);
        }
        let (may_tell, is_ready) = match stage {
            Stage::Settled | Stage::Finishing(_) => (true, self.voice == instance),
            Stage::Preparing(_) => {
                let is_placed = self.take_place(instance.saturating_add(1));
                (is_placed, is_placed)
            }
        };
        let teller = self.evolution.teller;
        if may_tell && !self.evolution.has_told {
            self.evolution.has_told = true;
            let linked: Vec<_> = self.linked().filter(|it| Some(*it) != teller).collect();
            for peer in linked {
                self.tell_network(peer);
            }
        }
        let links = self.slots.iter().filter_map(|slot| slot.link.as_deref());
        let mut others = links.filter(|link| Some(link.id.peer) != teller);
        let is_done = is_ready && others.all(|link| link.has_done >= version);
        if stage == Stage::Settled {
            // Nothing follows, so nobody waits.
            self.evolution.has_echoed = is_ready;
        } else if self.book.is_founder() {
            self.lead(stage, is_done);
        } else if is_done {
            self.evolution.has_echoed = true;
            teller.into_iter().for_each(|peer| self.tell_network(peer));
        }
    }

    /// The founder's part: the next stage, once everybody has done its part in this one, or not in time.
    fn lead(&mut self, stage: Stage, is_done: bool) {
        let now = self.now;
        self.evolution.done = match self.evolution.done {
            Some(since) if is_done => Some(since),
            _ => is_done.then_some(now),
        };
        let is_settled = self
            .evolution
            .done
            .is_some_and(|since| now.since(since) >= GRACE);
        let took = now.since(self.evolution.since);
        match stage {
            Stage::Preparing(_) if is_settled => self.advance(Step::Advance),
            Stage::Preparing(to) if took >= PREPARING => {
                tracing::warn!(
                    "not everybody has a place in {to} after two minutes; all stays as it was"
                );
                self.advance(Step::Abandon);
            }
            Stage::Finishing(_) if is_settled || took >= FINISHING => self.advance(Step::Advance),
            _ => {}
        }
    }

    /// Whether this peer has a place in the coming overlay; asks for one, of neighbours that have one.
    fn take_place(&mut self, number: u32) -> bool {
        let Some(instance) = self.instance(number) else {
            return false;
        };
        if instance.node.address().is_some() {
            return true;
        }
        if self.now >= self.evolution.next_ask {
            self.evolution.next_ask = self.now + ASK;
            let version = self.book.about().settled.version;
            let links = self.slots.iter().filter_map(|slot| slot.link.as_deref());
            let placed = links.filter(|link| link.has_done >= version);
            let mut contacts: Vec<_> = placed.map(|link| link.id.peer).collect();
            let is_linked = |peer: &Peer| self.link(*peer).is_some();
            let teller = self.evolution.teller.filter(is_linked);
            contacts.extend(teller.filter(|_| contacts.is_empty()));
            if !contacts.is_empty() {
                self.step(number, Input::Join(contacts));
            }
        }
        let instance = self.instance(number);
        instance.is_some_and(|it| it.node.address().is_some())
    }

    /// Tells a neighbour what the network is, and that this peer has done its part.
    fn tell_network(&mut self, peer: Peer) {
        if let Some(link) = self.link(peer).filter(|_| peer != Book::ME) {
            let note = Note::Network(Box::new(self.book.about().clone()));
            let sending = note::send(link.connection.clone(), note);
            self.tasks.spawn(sending);
        }
    }
}
