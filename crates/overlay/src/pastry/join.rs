//! Joining: over the way to the own point, past those that know whom the newcomer needs; then the
//! newcomer tells them that it is there (section 2.4).

use std::time::Duration;

use ringweave_ids::Peer;

use super::{Cx, Message, Part, Pastry, Phase, Purpose, Timer};
use crate::{Contact, Event, digits::HOP_LIMIT};

/// How long a contact has to lead a newcomer in before the next is tried.
const JOIN: Duration = Duration::from_millis(2_000);

impl Pastry {
    pub(super) fn on_enter(&mut self, cx: &mut Cx<'_>, contacts: Vec<Peer>) {
        if self.phase == Phase::Placed {
            if contacts.is_empty() {
                return self.compare_at_leisure(cx);
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

    pub(super) fn try_join(&mut self, cx: &mut Cx<'_>) {
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
    pub(super) fn meet(&mut self, cx: &mut Cx<'_>, through: Peer) {
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

    /// This peer is among its leaves.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) {
        self.phase = Phase::Placed;
        self.contacts = Vec::new();
        cx.tell(Event::Placed(self.guid.clone()));
        self.compare_soon(cx);
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
        self.tell(cx, newcomer, number, Part::Row(upto), peers);
        if hops == 0 {
            // Whom one enters through is near, says the paper.
            let near = self.near.iter().collect();
            self.tell(cx, newcomer, number, Part::Near, near);
        }
        let Some(next) = self.toward(contact.point, Some(newcomer)) else {
            return self.tell_leaves(cx, newcomer, number);
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

    /// Tells all of the table that this peer is here.
    pub(super) fn announce(&self, cx: &mut Cx<'_>) {
        let newcomer = cx.me();
        let mut told: Vec<Peer> = Vec::new();
        for (slot, peers) in self.digits.slots() {
            for entry in peers {
                let row = slot.row + 1;
                told.push(entry.contact().peer);
                cx.send(entry.contact().peer, Message::Announce { newcomer, row });
            }
        }
        let row = self.digits.count();
        for leaf in self.leaves.iter() {
            if !told.contains(&leaf.peer) {
                told.push(leaf.peer);
                cx.send(leaf.peer, Message::Announce { newcomer, row });
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
        if from == newcomer && self.leaves.contains(newcomer) {
            self.tell_leaves(cx, newcomer, 0);
        }
    }
}
