//! Upkeep: finding the superpeers of a point, attaching to them, and how many superpeers there are.

use std::time::Duration;

use ringweave_ids::Peer;

use super::{Cx, Message, Phase, Superpeer, Timer, circle::LEFT, leaves::Leaf};
use crate::{Contact, Event, Hop, Input, Loss, Overlay as _, chord};

/// How long a peer has to lead to the owner of a point before the next is asked.
const SEEK: (Duration, Duration) = (Duration::from_millis(1_000), Duration::from_millis(1_500));

/// Hops after which a question is dropped.
const HOP_LIMIT: u8 = 64;

/// The most superpeers told of and taken from one list: with 8 hardly any leaf is left without one,
/// even if a third fail at once.
const MAX_LISTED: usize = 8;

/// The most contacts remembered.
const MAX_CONTACTS: usize = 8;

/// The most leaves, of any rank: no more can come where the rules hold, but for a network in which
/// nobody can be dialled.
const MAX_LEAVES: usize = 1_024;

/// Rounds of a search, of about a second each, after which no superpeer is taken to live.
const LAST_RESORT: u32 = 40;

/// Looks at the load, one after another, that find hardly any leaves before a superpeer would rather be
/// a leaf: half a minute, more than a newcomer on the circle needs to get its leaves.
const IDLE: u8 = 6;

/// Looks at the load at which a new superpeer asks contacts for other circles: for ten minutes, as
/// there are several where all superpeers were lost at once.
const DOUBTS: u8 = 120;

/// The most other leaves told of, and taken from one list.
const MAX_OTHERS: usize = 4;

/// A search for the superpeers of the own point.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Search {
    round: u32,
    /// The question that is open; 0 for none.
    number: u32,
    last: u32,
    tries: u32,
}

impl Superpeer {
    pub(super) fn enter(&mut self, cx: &mut Cx<'_>, mut contacts: Vec<Peer>) {
        contacts.retain(|contact| *contact != cx.me());
        match self.phase {
            Phase::Super if contacts.is_empty() => {
                self.drive(cx, Input::Join(contacts));
                self.begin(cx);
            }
            // They may be of another network.
            Phase::Super => self.drive(cx, Input::Join(contacts)),
            Phase::Leaf if contacts.is_empty() => self.check_later(cx),
            Phase::Leaf => {
                let Some(first) = self.first() else { return };
                for contact in contacts {
                    cx.send(contact, find(first));
                }
            }
            _ if contacts.is_empty() => self.open_circle(cx, contacts),
            _ => {
                contacts.truncate(MAX_CONTACTS);
                self.contacts = contacts;
                self.phase = Phase::Joining;
                self.seek(cx);
            }
        }
    }

    /// Asks where this peer belongs, until somebody knows.
    fn seek(&mut self, cx: &mut Cx<'_>) {
        // On its way into the circle, its point is its own.
        if self.search.number != 0 || self.circle.is_some() {
            return;
        }
        self.search.tries = 0;
        self.search.last = self.search.last.wrapping_add(1).max(1);
        self.search.number = self.search.last;
        self.ask_next(cx);
    }

    pub(super) fn on_late(&mut self, cx: &mut Cx<'_>, round: u32) {
        let is_leaf = matches!(self.phase, Phase::Joining | Phase::Leaf) && self.circle.is_none();
        if round != self.search.round || self.search.number == 0 || !is_leaf {
            return;
        }
        let is_open = !cx.view.profile.is_private;
        let is_lost = self.phase == Phase::Leaf && self.superpeers.is_empty();
        let is_last_resort = is_lost && is_open && self.search.tries >= LAST_RESORT;
        if is_last_resort && cx.random.below(8) == 0 {
            // Others find this one, or are found once it asks its contacts.
            return self.open_circle(cx, Vec::new());
        }
        self.ask_next(cx);
    }

    fn ask_next(&mut self, cx: &mut Cx<'_>) {
        self.search.round = self.search.round.wrapping_add(1);
        let span = cx.random.between(SEEK.0, SEEK.1);
        cx.after(span, Timer::Seek(self.search.round));
        let superpeers = self.superpeers.iter().map(|it| it.peer);
        let others = self.spares.iter().chain(&self.contacts).copied();
        let mut all: Vec<_> = superpeers.chain(others).collect();
        all.retain(|it| *it != cx.me());
        let at = self.search.tries as usize % all.len().max(1);
        self.search.tries = self.search.tries.saturating_add(1);
        if let Some(next) = all.get(at) {
            let (origin, number, hops) = (cx.me(), self.search.number, 0);
            cx.send(
                *next,
                Message::Seek {
                    origin,
                    number,
                    hops,
                },
            );
        }
    }

    /// Something of the circle came: a leaf leads a question on, and corrects all else.
    pub(super) fn on_inner(&mut self, cx: &mut Cx<'_>, from: Peer, message: chord::Message) {
        if self.circle.is_some() {
            return self.drive(cx, Input::Received(from, message));
        }
        match message {
            chord::Message::Find {
                target,
                origin,
                number,
                hops,
            } if origin != cx.me() && hops < HOP_LIMIT => {
                if hops > 0 {
                    // It came over a table that takes this peer for a superpeer.
                    cx.send(from, Message::Inner(LEFT));
                }
                let Some(first) = self.first() else { return };
                let hops = hops + 1;
                let find = chord::Message::Find {
                    target,
                    origin,
                    number,
                    hops,
                };
                cx.send(first.peer, Message::Inner(find));
            }
            chord::Message::Leave { .. } | chord::Message::Find { .. } => {}
            _ => cx.send(from, Message::Inner(LEFT)),
        }
    }

    pub(super) fn on_seek(&mut self, cx: &mut Cx<'_>, origin: Peer, number: u32, hops: u8) {
        if origin == cx.me() || cx.is_astray(hops, HOP_LIMIT) {
            return;
        }
        let point = Contact::of(cx.host(), origin).point;
        if point == self.me.point {
            return cx.fault("a peer at this one's point");
        }
        let mut way = self.way(&cx.view, point);
        if way == Hop::To(origin) {
            // Who asks is not on the circle, whatever this one believed.
            self.drive(cx, Input::Received(origin, LEFT));
            way = self.way(&cx.view, point);
        }
        match way {
            Hop::To(next) => {
                let hops = hops + 1;
                cx.send(
                    next,
                    Message::Seek {
                        origin,
                        number,
                        hops,
                    },
                );
            }
            Hop::Arrived | Hop::Cut if self.inside().is_some() => {
                self.tell_place(cx, origin, number, false);
            }
            _ => {}
        }
    }

    /// The superpeers that own points as this one does: itself, and those after it.
    pub(super) fn line(&self) -> Vec<Peer> {
        let after = self.inside().into_iter().flat_map(|it| it.proven());
        let me = [self.me.peer].into_iter();
        me.chain(after).take(MAX_LISTED).collect()
    }

    /// Some leaves of a superpeer are remembered as contacts.
    pub(super) fn learn(&mut self, cx: &mut Cx<'_>, from: Peer, others: &[Peer]) {
        if self.superpeers.iter().all(|it| it.peer != from) {
            return;
        }
        for other in cx.listed(others, MAX_OTHERS) {
            if *other != cx.me() {
                self.remember(cx, *other);
            }
        }
    }

    fn tell_place(&self, cx: &mut Cx<'_>, to: Peer, number: u32, is_attached: bool) {
        let mut superpeers = self.line();
        superpeers.retain(|peer| *peer != to);
        let leaves: Vec<_> = self.leaves.iter().map(|it| it.contact.peer).collect();
        let drawn = (0..MAX_OTHERS).filter_map(|_| cx.random.pick(&leaves).copied());
        let mut others: Vec<_> = drawn.collect();
        others.retain(|peer| *peer != to);
        cx.send(
            to,
            Message::Place {
                number,
                superpeers,
                others,
                is_attached,
            },
        );
    }

    pub(super) fn on_place(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        number: u32,
        listed: &[Peer],
        is_attached: bool,
    ) {
        let is_asked = number != 0 && number == self.search.number;
        let is_known = self.superpeers.iter().any(|it| it.peer == from);
        match self.phase {
            Phase::Joining | Phase::Leaf if is_asked || is_known => {}
            Phase::Super | Phase::Leaf if is_attached => return cx.send(from, Message::Detach),
            _ => return,
        }
        let mut line: Vec<Peer> = Vec::new();
        for peer in cx.listed(listed, MAX_LISTED) {
            if *peer != cx.me() && !line.contains(peer) {
                line.push(*peer);
            }
        }
        if line.first() != Some(&from) {
            return cx.fault("a place that is another's to give");
        }
        let count = usize::from(cx.config().redundancy.clamp(1, 4));
        self.spares = line.split_off(count.min(line.len()));
        self.attach(cx, line);
        if is_asked {
            self.search.number = 0;
        }
        if is_attached && self.phase == Phase::Joining {
            self.phase = Phase::Leaf;
            cx.tell(Event::Placed(self.guid.clone()));
            self.check_later(cx);
        }
    }

    /// These are the superpeers from now on: who is new, or has another rank, hears of it.
    fn attach(&mut self, cx: &mut Cx<'_>, line: Vec<Peer>) {
        let line = line.iter().map(|peer| Contact::of(cx.host(), *peer));
        let line: Vec<_> = line.collect();
        if line == self.superpeers {
            return;
        }
        let before = std::mem::replace(&mut self.superpeers, line);
        for gone in before.iter().filter(|it| !self.superpeers.contains(it)) {
            cx.send(gone.peer, Message::Detach);
        }
        for (at, superpeer) in self.superpeers.iter().enumerate() {
            if before.get(at) != Some(superpeer) {
                let message = attachment(cx, at);
                cx.send(superpeer.peer, message);
            }
        }
        cx.tell(Event::Changed);
    }

    fn check_later(&self, cx: &mut Cx<'_>) {
        let span = Duration::from_millis(u64::from(cx.config().check_ms.max(1_000)));
        let span = cx.random.between(span / 2, span);
        cx.after(span, Timer::Check);
    }

    pub(super) fn on_check(&mut self, cx: &mut Cx<'_>) {
        self.check_later(cx);
        for (at, superpeer) in self.superpeers.iter().enumerate() {
            let message = attachment(cx, at);
            cx.send(superpeer.peer, message);
        }
        if self.phase != Phase::Leaf {
            return;
        }
        // A way into the circle that takes a whole check leads nowhere.
        self.idle = if self.circle.is_some() {
            self.idle + 1
        } else {
            0
        };
        if self.idle > 1 {
            self.close_circle(cx);
            self.idle = 0;
        }
        if self.superpeers.is_empty() {
            self.seek(cx);
        }
        if self.was_inside && self.circle.is_none() {
            // Somebody may have heard of its place on the circle only after it was given up.
            let links = self.links.iter().filter(|it| it.is_up && !it.is_held);
            for peer in links.map(|it| it.peer).collect::<Vec<_>>() {
                cx.send(peer, Message::Inner(LEFT));
            }
        }
    }

    pub(super) fn on_attach(&mut self, cx: &mut Cx<'_>, from: Peer, rank: u8, is_open: bool) {
        let contact = Contact::of(cx.host(), from);
        if contact.point == self.me.point {
            return cx.fault("a peer at this one's point");
        }
        let is_full = self.leaves.len() >= MAX_LEAVES && self.leaves.at(contact.point).is_none();
        if self.inside().is_none() || is_full {
            return cx.send(from, Message::Detach);
        }
        if self.leaves.admit(Leaf {
            contact,
            rank,
            is_open,
        }) {
            cx.tell(Event::Changed);
        }
        if rank == 0 {
            match self.owns(contact.point) {
                true => self.tell_place(cx, from, 0, true),
                false => cx.send(from, Message::Astray),
            }
        }
    }

    pub(super) fn on_astray(&mut self, cx: &mut Cx<'_>, from: Peer) {
        let rank = self.superpeers.iter().position(|it| it.peer == from);
        match rank {
            Some(0) if matches!(self.phase, Phase::Joining | Phase::Leaf) => self.seek(cx),
            Some(_) => {}
            // It takes this peer for its leaf, and would hand it broadcasts.
            None => cx.send(from, Message::Detach),
        }
    }

    pub(super) fn on_detach(&mut self, cx: &mut Cx<'_>, from: Peer) {
        if self.leaves.remove(from) {
            cx.tell(Event::Changed);
        }
        self.lose_superpeer(cx, from);
    }

    /// A superpeer is gone, or none any more: the other one takes its place at once.
    fn lose_superpeer(&mut self, cx: &mut Cx<'_>, peer: Peer) -> bool {
        let before = self.superpeers.len();
        let was_first = self.superpeers.first().is_some_and(|it| it.peer == peer);
        self.superpeers.retain(|it| it.peer != peer);
        self.spares.retain(|it| *it != peer);
        if self.superpeers.len() == before {
            return false;
        }
        cx.tell(Event::Changed);
        match self.superpeers.first() {
            Some(next) if was_first => {
                let message = attachment(cx, 0);
                cx.send(next.peer, message);
            }
            Some(_) => {}
            None => self.search.number = 0,
        }
        self.seek(cx);
        true
    }

    pub(super) fn on_promote(&mut self, cx: &mut Cx<'_>, from: Peer) {
        let is_mine = self.superpeers.iter().any(|it| it.peer == from);
        let is_free = self.phase == Phase::Leaf && self.circle.is_none();
        if !is_mine || !is_free || cx.view.profile.is_private {
            return;
        }
        let superpeers = self.superpeers.iter().map(|it| it.peer);
        let contacts = superpeers.chain(self.spares.iter().copied()).collect();
        self.open_circle(cx, contacts);
    }

    /// This peer has its place on the circle.
    pub(super) fn be_super(&mut self, cx: &mut Cx<'_>) {
        let is_new = self.address().is_none();
        self.phase = Phase::Super;
        self.search.number = 0;
        for superpeer in std::mem::take(&mut self.superpeers) {
            cx.send(superpeer.peer, Message::Detach);
        }
        (self.is_young, self.doubts) = (true, DOUBTS);
        self.told = self.line();
        if is_new {
            cx.tell(Event::Placed(self.guid.clone()));
            self.check_later(cx);
        }
        cx.tell(Event::Changed);
        self.begin(cx);
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        self.idle = 0;
        self.weigh_later(cx);
    }

    fn weigh_later(&self, cx: &mut Cx<'_>) {
        let span = Duration::from_millis(u64::from(cx.config().weigh_ms.max(1_000)));
        let span = cx.random.between(span / 2, span);
        cx.after(span, Timer::Weigh(self.life));
    }

    /// The circle changed: leaves hear who are theirs now.
    pub(super) fn review_leaves(&mut self, cx: &mut Cx<'_>) {
        if self.inside().is_none() {
            return;
        }
        let line = self.line();
        let is_news = line != self.told;
        self.told = line;
        for leaf in self.leaves.own().collect::<Vec<_>>() {
            match self.owns(leaf.point) {
                true if is_news => self.tell_place(cx, leaf.peer, 0, true),
                true => {}
                false => cx.send(leaf.peer, Message::Astray),
            }
        }
    }

    pub(super) fn on_weigh(&mut self, cx: &mut Cx<'_>) {
        self.weigh_later(cx);
        self.is_young = false;
        self.review_leaves(cx);
        let Some(successor) = self.inside().map(|it| it.proven().next()) else {
            return;
        };
        let count = self.leaves.own().count();
        if self.doubts > 0 {
            self.doubts -= 1;
            self.look_for_others(cx);
        }
        let Some(successor) = successor else {
            self.look_for_others(cx);
            if cx.config().redundancy > 1 {
                self.promote(cx);
            }
            return;
        };
        if count > cx.config().most_leaves() {
            self.promote(cx);
        }
        let few = usize::from(cx.config().leaves) / 4;
        let is_idle = count <= few && self.is_dispensable(cx);
        self.idle = if is_idle {
            self.idle.saturating_add(1)
        } else {
            0
        };
        if self.idle >= IDLE {
            let leaves = count as u16;
            cx.send(successor, Message::Offer { leaves });
        }
    }

    /// There may be another circle, and contacts know of it.
    fn look_for_others(&mut self, cx: &mut Cx<'_>) {
        let known = self.contacts.iter().chain(&self.spares);
        let known: Vec<_> = known.copied().collect();
        if let Some(any) = cx.random.pick(&known) {
            self.drive(cx, Input::Join(vec![*any]));
        }
    }

    fn promote(&mut self, cx: &mut Cx<'_>) {
        if let Some(leaf) = self.leaves.choose() {
            cx.send(leaf.peer, Message::Promote);
        }
    }

    /// Whether enough superpeers stay without this one.
    fn is_dispensable(&self, cx: &Cx<'_>) -> bool {
        let others = self.inside().map_or(0, |it| it.proven().count());
        others >= usize::from(cx.config().redundancy.clamp(1, 4))
    }

    pub(super) fn on_offer(&mut self, cx: &mut Cx<'_>, from: Peer, leaves: u16) {
        let count = self.leaves.own().count() + usize::from(leaves) + 1;
        let has_room = count <= usize::from(cx.config().leaves);
        let is_next = self.inside().and_then(|it| it.circle().0);
        if has_room && is_next.is_some_and(|it| it.peer == from) {
            // It does not leave, too.
            self.idle = 0;
            cx.send(from, Message::Accept);
        }
    }

    pub(super) fn on_accept(&mut self, cx: &mut Cx<'_>, from: Peer) {
        let successor = self.inside().and_then(|it| it.proven().next());
        if successor != Some(from) || self.idle < IDLE || !self.is_dispensable(cx) {
            return;
        }
        let line = self.line().split_off(1);
        self.close_circle(cx);
        self.phase = Phase::Leaf;
        for leaf in self.leaves.iter() {
            cx.send(leaf.contact.peer, Message::Detach);
        }
        self.leaves.clear();
        (self.told, self.idle) = (Vec::new(), 0);
        let count = usize::from(cx.config().redundancy.clamp(1, 4));
        self.spares = line.iter().skip(count).copied().collect();
        self.attach(cx, line.into_iter().take(count).collect());
    }

    pub(super) fn on_up(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        self.links.set_up(peer, true);
        self.drive(cx, Input::Up(peer));
        let is_mine = self.superpeers.iter().any(|it| it.peer == peer);
        if self.was_inside && self.circle.is_none() && !is_mine {
            cx.send(peer, Message::Inner(LEFT));
        }
    }

    pub(super) fn on_down(&mut self, cx: &mut Cx<'_>, peer: Peer, loss: Loss) {
        self.links.set_up(peer, false);
        self.links.release(peer);
        self.drive(cx, Input::Down(peer, loss));
        let was_leaf = self.leaves.remove(peer);
        if was_leaf {
            cx.tell(Event::Changed);
        }
        if self.lose_superpeer(cx, peer) || was_leaf {
            self.remember(cx, peer);
        }
    }

    /// Keeps a peer among the contacts, in the place of any.
    fn remember(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        self.contacts.retain(|it| *it != peer);
        if self.contacts.len() >= MAX_CONTACTS {
            let any = cx.random.below(self.contacts.len());
            self.contacts.swap_remove(any);
        }
        self.contacts.push(peer);
    }

    /// The only superpeer leaves: its heir makes a circle of its own, and the others ask it first.
    pub(super) fn on_bequeath(&mut self, cx: &mut Cx<'_>, from: Peer, heir: Peer) {
        let is_only = self.superpeers.iter().map(|it| it.peer).eq([from]);
        if !is_only || self.phase != Phase::Leaf || self.circle.is_some() {
            return cx.fault("an heir that is another's to name");
        }
        if heir == cx.me() {
            return self.open_circle(cx, Vec::new());
        }
        self.spares.insert(0, heir);
        self.spares.truncate(MAX_LISTED);
    }

    pub(super) fn leave(&mut self, cx: &mut Cx<'_>) {
        let is_last = self.inside().is_some_and(|it| it.proven().next().is_none());
        if let Some(heir) = self.leaves.choose().filter(|_| is_last) {
            for leaf in self.leaves.own() {
                let heir = heir.peer;
                cx.send(leaf.peer, Message::Bequeath { heir });
            }
        }
        let leaves = self.leaves.iter().map(|it| it.contact);
        let told: Vec<_> = leaves.chain(self.superpeers.iter().copied()).collect();
        for peer in told {
            cx.send(peer.peer, Message::Detach);
        }
        self.close_circle(cx);
        self.phase = Phase::Left;
        cx.tell(Event::Left);
    }
}

fn attachment(cx: &Cx<'_>, at: usize) -> Message {
    Message::Attach {
        rank: at as u8,
        is_private: cx.view.profile.is_private,
    }
}

/// Asks, in the name of a superpeer, where it belongs on the circle of somebody else.
const fn find(superpeer: Contact) -> Message {
    Message::Inner(chord::Message::Find {
        target: superpeer.point,
        origin: superpeer.peer,
        number: 0,
        hops: 0,
    })
}
