//! Upkeep: joining, comparing rows, filling slots, preferring the nearer, finding the
//! lost.

use std::time::Duration;

use ringweave_ids::Peer;

use super::{Cx, Message, Phase, Purpose, Tapestry, Timer};
use crate::{
    Contact, Event, Loss,
    digits::{HOP_LIMIT, MAX_LISTED, REFILL, REFILLS, Slot, UNMEASURED, to_measure},
    lost::PROBE,
};

/// How long a contact has to lead a newcomer in before the next is tried.
const JOIN: Duration = Duration::from_millis(2_000);

/// How long a question may take.
const LATE: Duration = Duration::from_secs(6);

/// Peers told of a leaving: far more than hold any one.
const MAX_TOLD: usize = 512;

/// Peers named to those told: the closest know who else shares the prefix.
const STAND_INS: usize = 8;

impl Tapestry {
    pub(super) fn on_enter(&mut self, cx: &mut Cx<'_>, contacts: Vec<Peer>) {
        if self.phase == Phase::Placed {
            if contacts.is_empty() {
                self.pace.rest(cx.config().compare_ms);
                return self.compare_later(cx);
            }
            for contact in contacts {
                self.meet(cx, contact);
            }
            return;
        }
        self.contacts = contacts;
        self.contacts.retain(|contact| *contact != cx.me());
        if self.contacts.is_empty() {
            return self.settle(cx);
        }
        self.phase = Phase::Joining;
        self.try_join(cx);
    }

    fn try_join(&mut self, cx: &mut Cx<'_>) {
        let at = self.attempt as usize % self.contacts.len().max(1);
        self.attempt = self.attempt.wrapping_add(1);
        cx.after(JOIN, Timer::Join(self.attempt));
        if let Some(contact) = self.contacts.get(at).copied() {
            self.meet(cx, contact);
        }
        // They may know me already, and only not have said so.
        self.announce(cx);
    }

    pub(super) fn on_join_timer(&mut self, cx: &mut Cx<'_>, attempt: u32) {
        if self.phase == Phase::Joining && attempt == self.attempt {
            self.try_join(cx);
        }
    }

    /// Sends a join through a peer: the way in, or into another part of the network.
    fn meet(&mut self, cx: &mut Cx<'_>, through: Peer) {
        if let Some(number) = self.open(cx, through, Purpose::Join) {
            let newcomer = cx.me();
            cx.send(
                through,
                Message::Join {
                    newcomer,
                    number,
                    row: 0,
                    hops: 0,
                },
            );
        }
    }

    /// This peer is in the mesh.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        self.phase = Phase::Placed;
        self.contacts = Vec::new();
        cx.tell(Event::Placed(self.guid.clone()));
        self.pace.hurry();
        self.compare_later(cx);
    }

    fn open(&mut self, cx: &mut Cx<'_>, to: Peer, purpose: Purpose) -> Option<u32> {
        let number = self.requests.open(cx.now, to, purpose)?;
        cx.after(LATE, Timer::Late(number));
        Some(number)
    }

    fn ask(&mut self, cx: &mut Cx<'_>, to: Peer, row: u8) {
        let purpose = match self.is_up(to) {
            true => Purpose::Warm,
            false => Purpose::Cold,
        };
        if let Some(number) = self.open(cx, to, purpose) {
            cx.send(to, Message::Ask { number, row });
        }
    }

    /// Who does not answer though no connection tells why is no backup.
    pub(super) fn on_late(&mut self, cx: &mut Cx<'_>, number: u32) {
        if let Some(late) = self.requests.close(number)
            && late.purpose != Purpose::Join
            && !self.is_up(late.to)
        {
            self.forget(cx, late.to);
        }
    }

    fn compare_later(&mut self, cx: &mut Cx<'_>) {
        let (span, round) = self.pace.next(cx.random);
        cx.after(span, Timer::Compare(round));
    }

    /// Something changed nearby: rows are compared soon.
    fn quicken(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Placed && self.pace.quicken() {
            self.compare_later(cx);
        }
    }

    pub(super) fn on_compare(&mut self, cx: &mut Cx<'_>, round: u32) {
        let longest = cx.config().compare_ms;
        let Some(waited) = self.pace.elapse(round, longest) else {
            return;
        };
        let is_quiet = waited >= longest;
        self.compare_later(cx);
        if !is_quiet {
            for row in self.digits.rows() {
                self.ask_row(cx, row);
            }
            return;
        }
        self.compared = self.digits.row_after(self.compared);
        self.ask_row(cx, self.compared);
        // Backups are held no connection to: now and then one shows that it is there.
        let backups: Vec<_> = self.backups().collect();
        if let Some(backup) = cx.random.pick(&backups).copied() {
            self.ask(cx, backup, self.digits.count());
        }
    }

    /// Those that stand behind the nearest of their slots.
    fn backups(&self) -> impl Iterator<Item = Peer> {
        let behind = self.digits.slots().flat_map(|(_, peers)| &peers[1..]);
        behind.map(|it| it.contact().peer)
    }

    /// Asks a peer of a row, or of one further down, for that row; they fill the same slots.
    fn ask_row(&mut self, cx: &mut Cx<'_>, row: u8) {
        let is_up = |peer| self.is_up(peer);
        let guides = self.digits.guides(row, is_up, self.linked());
        if let Some(guide) = cx.random.pick(&guides).copied() {
            self.ask(cx, guide, row);
        }
    }

    pub(super) fn on_join(
        &mut self,
        cx: &mut Cx<'_>,
        newcomer: Peer,
        number: u32,
        row: u8,
        hops: u8,
    ) {
        let is_mine = newcomer == cx.me();
        if self.phase != Phase::Placed || is_mine || cx.is_astray(hops, HOP_LIMIT) {
            return;
        }
        let contact = Contact::of(cx.host(), newcomer);
        let (upto, entries) = self.digits.towards(contact.point, row);
        let mut peers: Vec<_> = entries.filter(|peer| self.is_up(*peer)).collect();
        peers.push(cx.me());
        self.tell(cx, newcomer, 0, peers);
        let Some(next) = self.toward(contact.point, Some(newcomer)) else {
            return cx.send(newcomer, Message::Root { number });
        };
        let (row, hops) = (row.max(upto + 1), hops + 1);
        cx.send(
            next.peer,
            Message::Join {
                newcomer,
                number,
                row,
                hops,
            },
        );
    }

    /// The way to the own point ended there: whom to tell is known now.
    pub(super) fn on_root(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32) {
        if self.requests.close(number).is_none() {
            return;
        }
        let contact = Contact::of(cx.host(), from);
        self.learn(cx, contact);
        self.root = (self.phase == Phase::Joining).then_some(from);
        self.announce(cx);
        if self.root.is_some() && self.digits.iter().all(|it| it.peer != from) {
            // Its slot is full of others.
            let (newcomer, row) = (cx.me(), self.digits.count());
            cx.send(from, Message::Announce { newcomer, row });
        }
    }

    fn tell(&self, cx: &mut Cx<'_>, to: Peer, number: u32, mut peers: Vec<Peer>) {
        peers.retain(|peer| *peer != to);
        peers.truncate(MAX_LISTED);
        cx.send(to, Message::Tell { number, peers });
    }

    /// The peers of a row that answer.
    fn row_peers(&self, row: u8) -> Vec<Peer> {
        let entries = self.digits.row(row).iter().map(|it| it.contact().peer);
        entries.filter(|peer| self.is_up(*peer)).collect()
    }

    pub(super) fn on_ask(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32, row: u8) {
        if self.phase != Phase::Placed {
            return;
        }
        let contact = Contact::of(cx.host(), from);
        self.learn(cx, contact);
        let peers = self.row_peers(row);
        self.tell(cx, from, number, peers);
    }

    pub(super) fn on_tell(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32, peers: &[Peer]) {
        let told = cx.listed(peers, MAX_LISTED).iter();
        let told = [from].into_iter().chain(told.copied());
        let told: Vec<_> = told.map(|peer| Contact::of(cx.host(), peer)).collect();
        for contact in &told {
            self.learn(cx, *contact);
        }
        self.measure(cx, from, number);
        if self.phase == Phase::Placed && number != 0 {
            self.measure_some(cx, &told[1..]);
        }
    }

    /// An answer came: its time is the peer's round trip, unless there was dialling in it.
    fn measure(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32) {
        let Some((purpose, trip)) = self.requests.answered(cx.now, from, number) else {
            return;
        };
        match purpose {
            Purpose::Join => {}
            Purpose::Cold => self.ask(cx, from, self.digits.count()),
            Purpose::Warm => {
                let trip_us = u32::try_from(trip.as_micros()).unwrap_or(UNMEASURED - 1);
                let contact = Contact::of(cx.host(), from);
                let is_new = self.digits.offer(contact, trip_us);
                self.is_altered = true;
                if is_new {
                    cx.tell(Event::Changed);
                }
            }
        }
    }

    /// Measures a few of those that were heard of, and may be nearer than who stands in their slots.
    fn measure_some(&mut self, cx: &mut Cx<'_>, told: &[Contact]) {
        let me = cx.me();
        let is_new = |peer| peer != me && !self.links.is_wanted(peer);
        for peer in to_measure(told, cx.random, is_new) {
            self.ask(cx, peer, self.digits.count());
        }
    }

    /// Tells all of the mesh that this peer is here.
    fn announce(&self, cx: &mut Cx<'_>) {
        let newcomer = cx.me();
        for (slot, peers) in self.digits.slots() {
            for (entry, place) in peers.iter().zip(0..) {
                // The nearest passes it on to those that share its prefix.
                let row = if place == 0 {
                    slot.row + 1
                } else {
                    self.digits.count()
                };
                cx.send(entry.contact().peer, Message::Announce { newcomer, row });
            }
        }
    }

    pub(super) fn on_announce(&mut self, cx: &mut Cx<'_>, from: Peer, newcomer: Peer, row: u8) {
        let contact = Contact::of(cx.host(), newcomer);
        if self.phase != Phase::Placed || newcomer == cx.me() {
            return;
        }
        let Some(slot) = self.digits.slot_of(contact.point) else {
            return cx.fault("a peer at this one's point");
        };
        let is_first = self.digits.slot(slot).is_empty();
        self.learn(cx, contact);
        if is_first {
            let mut copies = Vec::new();
            self.copy(row, &mut copies);
            copies.retain(|(peer, _)| *peer != newcomer && *peer != from);
            for (peer, row) in copies {
                cx.send(peer, Message::Announce { newcomer, row });
            }
        }
        if from == newcomer {
            // Those of its slot share a digit more with it than this peer does.
            let slot = self.digits.slot(slot).iter();
            let peers = slot.map(|it| it.contact().peer);
            let peers = peers.filter(|it| *it != newcomer).collect();
            cx.send(newcomer, Message::Welcome { peers });
        }
    }

    /// A peer knows this one now; once its root does, messages come here.
    pub(super) fn on_welcome(&mut self, cx: &mut Cx<'_>, from: Peer, peers: &[Peer]) {
        for peer in cx.listed(peers, MAX_LISTED) {
            let contact = Contact::of(cx.host(), *peer);
            self.learn(cx, contact);
        }
        if self.phase == Phase::Joining && self.root == Some(from) {
            self.settle(cx);
        }
    }

    /// A peer is said to be there: if it is the first of its slot it is connected to.
    fn learn(&mut self, cx: &mut Cx<'_>, contact: Contact) {
        if contact.peer == cx.me() {
            return;
        }
        let slot = self.digits.slot_of(contact.point);
        let is_first = slot.is_some_and(|slot| self.digits.slot(slot).is_empty());
        if self.digits.learn(contact) && is_first {
            self.is_altered = true;
            self.quicken(cx);
        }
    }

    /// The peer is there.
    pub(super) fn hear(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        if !self.is_up(peer) {
            self.on_up(cx, peer);
        }
    }

    pub(super) fn on_up(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        self.lost.found(peer);
        let is_news = self.links.set_up(peer, true);
        if !self.links.is_wanted(peer) || !is_news {
            return;
        }
        cx.tell(Event::Changed);
        if self.phase == Phase::Placed {
            self.ask(cx, peer, self.digits.count());
        }
    }

    pub(super) fn on_down(&mut self, cx: &mut Cx<'_>, peer: Peer, loss: Loss) {
        let was_up = self.links.set_up(peer, false);
        self.links.release(peer);
        // A backup's connection closes because nobody holds it.
        let was_there = match loss {
            Loss::Closed if !self.links.is_wanted(peer) => false,
            _ => self.forget(cx, peer),
        };
        if was_there && was_up && self.lost.add(cx.now, peer) {
            self.probe_later(cx);
        }
        self.links.tidy();
        let joins = self.phase == Phase::Joining && self.contacts.contains(&peer);
        if joins && self.contacts.len() > 1 {
            self.try_join(cx);
        }
    }

    /// Takes a peer out of the table; whether it was there.
    fn forget(&mut self, cx: &mut Cx<'_>, peer: Peer) -> bool {
        let slot = self.digits.remove(peer);
        if let Some(slot) = slot {
            self.refill(cx, slot, 0);
            self.quicken(cx);
            self.is_altered = true;
            cx.tell(Event::Changed);
        }
        slot.is_some()
    }

    /// A slot lost its peer: those of its row know another, or those of the next (section 4.2).
    pub(super) fn refill(&mut self, cx: &mut Cx<'_>, slot: Slot, tries: u8) {
        if tries >= REFILLS || !self.digits.slot(slot).is_empty() {
            return;
        }
        self.ask_row(cx, slot.row);
        cx.after(REFILL * (1 << tries), Timer::Refill(slot, tries + 1));
    }

    /// Whoever holds a connection to this peer has it in its mesh, or is in this one's.
    pub(super) fn on_leave(&mut self, cx: &mut Cx<'_>) {
        let linked = self.links.iter().filter(|link| link.is_up);
        let linked: Vec<_> = linked.map(|link| link.peer).take(MAX_TOLD).collect();
        for peer in linked {
            let mut peers = Vec::new();
            self.nearest(self.me.point, STAND_INS, &mut peers);
            peers.retain(|it| *it != peer);
            cx.send(peer, Message::Leave { peers });
        }
        self.phase = Phase::Left;
        cx.tell(Event::Left);
    }

    pub(super) fn on_leaving(&mut self, cx: &mut Cx<'_>, from: Peer, peers: &[Peer]) {
        for peer in cx.listed(peers, MAX_LISTED) {
            let contact = Contact::of(cx.host(), *peer);
            self.learn(cx, contact);
        }
        self.forget(cx, from);
    }

    fn probe_later(&mut self, cx: &mut Cx<'_>) {
        let span = cx.random.between(PROBE.0, PROBE.1);
        cx.after(span, Timer::Probe);
    }

    /// Asks a peer that was lost where I belong, as it sees it.
    pub(super) fn on_probe(&mut self, cx: &mut Cx<'_>) {
        let Some(lost) = self.lost.next(cx.now, cx.random) else {
            return;
        };
        self.probe_later(cx);
        self.meet(cx, lost);
    }
}
