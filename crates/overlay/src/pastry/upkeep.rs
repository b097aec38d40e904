//! Upkeep: comparing leaf sets and rows, filling slots, preferring the nearer, finding the lost.

use std::time::Duration;

use ringweave_ids::Peer;

use super::{Cx, Message, Part, Pastry, Phase, Purpose, Timer, closeness};
use crate::{
    Contact, Event, Loss,
    digits::{Slot, UNMEASURED},
    lost::PROBE,
};

/// How long a question may take.
const LATE: Duration = Duration::from_secs(6);

/// How long a slot waits for the answer to one question before another peer is asked; twice as long
/// each time.
const REFILL: Duration = Duration::from_millis(1_000);

/// Peers asked for a slot that lost its own; after that it is taken for empty.
const REFILLS: u8 = 4;

/// The most peers taken from one list: eight full rows.
const MAX_LISTED: usize = 128;

/// Peers whose round trips are measured for one list: enough to come by the near ones in time.
const MEASURED: usize = 2;

impl Pastry {
    pub(super) fn open(&mut self, cx: &mut Cx<'_>, to: Peer, purpose: Purpose) -> Option<u32> {
        let number = self.requests.open(cx.now, to, purpose)?;
        cx.after(LATE, Timer::Late(number));
        Some(number)
    }

    fn ask(&mut self, cx: &mut Cx<'_>, to: Peer, part: Part) {
        let purpose = match self.is_up(to) {
            true => Purpose::Warm,
            false => Purpose::Cold,
        };
        if let Some(number) = self.open(cx, to, purpose) {
            cx.send(to, Message::Ask { number, part });
        }
    }

    pub(super) fn on_late(&mut self, number: u32) {
        if let Some(late) = self.requests.close(number) {
            self.near.remove(late.to);
        }
    }

    /// A life among others begins: rows are compared at once and then ever more rarely.
    pub(super) fn compare_soon(&mut self, cx: &mut Cx<'_>) {
        self.pace.hurry();
        self.compare_later(cx);
    }

    /// All is known already.
    pub(super) fn compare_at_leisure(&mut self, cx: &mut Cx<'_>) {
        self.pace.rest(cx.config().compare_ms);
        self.compare_later(cx);
    }

    fn compare_later(&mut self, cx: &mut Cx<'_>) {
        let (span, round) = self.pace.next(cx.random);
        cx.after(span, Timer::Compare(round));
    }

    /// Something changed nearby: leaf sets are compared soon.
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
        for leaf in self.firsts() {
            self.ask(cx, leaf, Part::Leaves);
        }
        let rows = self.digits.rows();
        if !is_quiet {
            for row in rows {
                self.ask_row(cx, row);
            }
            return;
        }
        self.compared = match self.compared + 1 {
            next if next < rows.end => next,
            _ => 0,
        };
        self.ask_row(cx, self.compared);
        if let Some(near) = self.near.any(cx.random) {
            self.ask(cx, near, Part::Near);
        }
    }

    /// The nearest leaf on either side, of those that connections lead to.
    fn firsts(&self) -> Vec<Peer> {
        let sides = self.leaves.sides().into_iter();
        let firsts = sides.filter_map(|side| side.iter().find(|it| self.is_up(it.peer)));
        let mut firsts: Vec<_> = firsts.map(|it| it.peer).collect();
        firsts.dedup();
        firsts
    }

    /// Asks a peer of a row, or of one further down, for that row; they fill the same slots.
    fn ask_row(&mut self, cx: &mut Cx<'_>, row: u8) {
        let linked = |it: &Contact| self.is_up(it.peer);
        let entries = self.digits.row(row).iter().map(|it| it.contact());
        let mut peers: Vec<_> = entries.filter(linked).collect();
        if peers.is_empty() {
            let deeper = self.linked();
            peers.extend(deeper.filter(|it| self.digits.shared(it.point, self.me.point) > row));
        }
        if let Some(contact) = cx.random.pick(&peers).copied() {
            self.ask(cx, contact.peer, Part::Row(row));
        }
    }

    pub(super) fn tell(
        &self,
        cx: &mut Cx<'_>,
        to: Peer,
        number: u32,
        part: Part,
        mut peers: Vec<Peer>,
    ) {
        peers.retain(|peer| *peer != to);
        peers.truncate(MAX_LISTED);
        cx.send(
            to,
            Message::Tell {
                number,
                part,
                peers,
            },
        );
    }

    pub(super) fn tell_leaves(&self, cx: &mut Cx<'_>, to: Peer, number: u32) {
        let leaves = self.leaf_peers();
        self.tell(cx, to, number, Part::Leaves, leaves);
    }

    /// The leaves that answer, each once.
    fn leaf_peers(&self) -> Vec<Peer> {
        let mut leaves: Vec<_> = self.linked_leaves().collect();
        leaves.sort_unstable_by_key(|it| it.point);
        leaves.dedup();
        leaves.iter().map(|it| it.peer).collect()
    }

    pub(super) fn on_ask(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32, part: Part) {
        if self.phase != Phase::Placed {
            return;
        }
        let contact = Contact::of(cx.host(), from);
        self.learn(cx, contact);
        match part {
            Part::Nothing => self.tell(cx, from, number, part, Vec::new()),
            Part::Leaves => self.tell_leaves(cx, from, number),
            Part::Row(row) => {
                let entries = self.digits.row(row).iter().map(|it| it.contact().peer);
                let peers = entries.filter(|peer| self.is_up(*peer)).collect();
                self.tell(cx, from, number, part, peers);
            }
            Part::Near => {
                let near = self.near.iter().collect();
                self.tell(cx, from, number, part, near);
            }
        }
    }

    pub(super) fn on_tell(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        number: u32,
        part: Part,
        peers: &[Peer],
    ) {
        let is_join = |it: &&crate::requests::Request<Purpose>| {
            it.number == number && it.purpose == Purpose::Join
        };
        let is_join = number != 0 && self.requests.iter().find(is_join).is_some();
        let contact = Contact::of(cx.host(), from);
        self.learn(cx, contact);
        let told = peers.iter().take(MAX_LISTED);
        let told: Vec<_> = told.map(|peer| Contact::of(cx.host(), *peer)).collect();
        if part != Part::Near {
            for contact in &told {
                self.learn(cx, *contact);
            }
        }
        if is_join && part == Part::Leaves {
            self.requests.close(number);
            self.announce(cx);
        } else if !is_join {
            self.measure(cx, from, number);
            if self.phase == Phase::Placed {
                self.measure_some(cx, &told);
            }
        }
        let is_greeting = number == 0 && part == Part::Leaves;
        if self.phase == Phase::Joining && is_greeting && self.closest() == Some(from) {
            self.settle(cx);
        }
    }

    /// The linked leaf numerically closest to this peer: it owned this peer's point before.
    fn closest(&self) -> Option<Peer> {
        let closest = |it: &Contact| closeness(self.me.point, it.point);
        let leaf = self.linked_leaves().min_by_key(closest);
        leaf.map(|it| it.peer)
    }

    /// An answer came: its time is the peer's round trip, unless there was dialling in it.
    fn measure(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32) {
        let Some((purpose, trip)) = self.requests.answered(cx.now, from, number) else {
            return;
        };
        match purpose {
            Purpose::Join => {}
            Purpose::Cold => self.ask(cx, from, Part::Nothing),
            Purpose::Warm => {
                let trip_us = u32::try_from(trip.as_micros()).unwrap_or(UNMEASURED - 1);
                self.near.offer(from, trip_us);
                let contact = Contact::of(cx.host(), from);
                if self.digits.offer(contact, trip_us) {
                    self.is_altered = true;
                    cx.tell(Event::Changed);
                }
            }
        }
    }

    /// Measures a few of those that were heard of, and may be nearer than who stands in their slots.
    fn measure_some(&mut self, cx: &mut Cx<'_>, told: &[Contact]) {
        let is_new = |it: &&Contact| it.peer != cx.me() && !self.links.is_wanted(it.peer);
        let mut others: Vec<_> = told.iter().filter(is_new).collect();
        for _ in 0..MEASURED.min(others.len()) {
            let at = cx.random.below(others.len());
            let peer = others.swap_remove(at).peer;
            self.ask(cx, peer, Part::Nothing);
        }
    }

    /// A peer is said to be there: it is connected to, and counts once it is.
    pub(super) fn learn(&mut self, cx: &mut Cx<'_>, contact: Contact) {
        if contact.peer == cx.me() {
            return;
        }
        if self.leaves.insert(contact) {
            self.is_altered = true;
            self.quicken(cx);
        }
        self.is_altered |= self.digits.learn(contact);
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
            // A leaf may not know me; of an entry, how far it is.
            let part = match self.leaves.contains(peer) {
                true => Part::Leaves,
                false => Part::Nothing,
            };
            self.ask(cx, peer, part);
        }
    }

    pub(super) fn on_down(&mut self, cx: &mut Cx<'_>, peer: Peer, loss: Loss) {
        let was_up = self.links.set_up(peer, false);
        self.links.release(peer);
        if loss != Loss::Closed {
            self.near.remove(peer);
        }
        let was_there = self.forget(cx, peer);
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
        let was_leaf = self.leaves.remove(peer);
        let slot = self.digits.remove(peer);
        if was_leaf {
            self.mend_leaves(cx, peer);
        }
        if let Some(slot) = slot {
            let leaves: Vec<_> = self.leaves.iter().collect();
            for leaf in leaves {
                self.digits.learn(leaf);
            }
            self.refill(cx, slot, 0);
        }
        let was_there = was_leaf || slot.is_some();
        if was_there {
            self.is_altered = true;
            cx.tell(Event::Changed);
        }
        was_there
    }

    /// The leaf set lost a peer: the farthest on that side knows the next (section 3.2).
    fn mend_leaves(&mut self, cx: &mut Cx<'_>, gone: Peer) {
        if self.leaves.is_bare() {
            let known: Vec<_> = self.table().map(|(it, _)| it).collect();
            for contact in known {
                self.leaves.insert(contact);
            }
        }
        let gone = Contact::of(cx.host(), gone);
        let [clockwise, counter] = self.leaves.sides();
        let side = match self.leaves.is_clockwise(gone.point) {
            true => clockwise,
            false => counter,
        };
        let farthest = side.iter().rev().find(|it| self.is_up(it.peer));
        if let Some(leaf) = farthest {
            self.ask(cx, leaf.peer, Part::Leaves);
        }
        self.quicken(cx);
    }

    /// A slot lost its peer: those of its row know another, or those of the next (section 3.2).
    pub(super) fn refill(&mut self, cx: &mut Cx<'_>, slot: Slot, tries: u8) {
        if tries >= REFILLS || !self.digits.slot(slot).is_empty() {
            return;
        }
        self.ask_row(cx, slot.row);
        cx.after(REFILL * (1 << tries), Timer::Refill(slot, tries + 1));
    }

    pub(super) fn on_leave(&mut self, cx: &mut Cx<'_>) {
        let leaves = self.leaf_peers();
        for peer in &leaves {
            let others = leaves.iter().copied().filter(|it| it != peer);
            let leaves = others.collect();
            cx.send(*peer, Message::Leave { leaves });
        }
        self.phase = Phase::Left;
        cx.tell(Event::Left);
    }

    pub(super) fn on_leaving(&mut self, cx: &mut Cx<'_>, from: Peer, leaves: &[Peer]) {
        self.near.remove(from);
        self.forget(cx, from);
        for peer in leaves.iter().take(MAX_LISTED) {
            let contact = Contact::of(cx.host(), *peer);
            self.learn(cx, contact);
        }
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
