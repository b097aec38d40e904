//! Membership: who is a neighbour, who replaces one that is lost, and whom a peer has heard of.
//!
//! A link is made by a question and its answer: whoever is asked counts it once it has accepted,
//! whoever asked once it heard so. Messages of a connection keep their order, so both ends agree.

use std::time::Duration;

use ringweave_ids::{Peer, Time};
use smallvec::SmallVec;

use super::{Cx, Message, Parting, Phase, Priority, Timer, Unstructured};
use crate::{Contact, Event, Loss, lost::PROBE, views::Drawn};

/// How long a contact has to lead a newcomer in before the next is tried.
const JOIN: Duration = Duration::from_millis(2_000);

/// How long a question may take: a dial's deadline, and the way there and back.
const LATE: Duration = Duration::from_secs(6);

/// How soon vacancies are looked at after a loss; half as often each time, up to every [`SLOW`].
const QUICK: Duration = Duration::from_millis(500);

/// How often vacancies are looked at that nobody fills: in a network of full views some stay.
const SLOW: Duration = Duration::from_secs(30);

/// How soon a newcomer shuffles: its passive view is full after five of them, half a minute later.
const FIRST_SHUFFLE: Duration = Duration::from_secs(1);

/// Peers asked to be neighbours in one round. After a great loss most of those known are dead, which
/// shows only by their dials' deadline: with eight at once, one lives where one in eight does.
const TRIES: usize = 8;

/// The most peers taken from one list.
const MAX_LISTED: usize = 64;

/// Peers asked to be neighbours at once, walks of newcomers and lost peers included.
const MAX_ASKED: usize = 64;

/// Contacts kept.
const MAX_CONTACTS: usize = 16;

/// The longest walk of a newcomer or a shuffle, whatever its sender says.
const MAX_STEPS: u8 = 16;

/// A peer that was asked to be a neighbour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) peer: Peer,
    since: Time,
    /// Whether another has to go for it, if it accepts.
    is_forced: bool,
}

/// When vacancies are looked at next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    round: u32,
    wait: Duration,
    /// The time to the next shuffle: twice the last, up to the configured one.
    shuffle: Duration,
    /// Peers asked in this round.
    tries: u8,
}

impl Unstructured {
    pub(super) fn on_join(&mut self, cx: &mut Cx<'_>, contacts: Vec<Peer>) {
        if self.phase == Phase::Placed {
            if contacts.is_empty() {
                self.pace.wait = SLOW;
                self.pace.shuffle = Duration::from_millis(u64::from(cx.config().shuffle_ms));
                return self.arm(cx);
            }
            for contact in contacts.into_iter().take(MAX_CONTACTS) {
                self.force(cx, contact);
            }
            return;
        }
        self.contacts = contacts;
        self.contacts.truncate(MAX_CONTACTS);
        self.contacts.retain(|contact| *contact != cx.me());
        if self.contacts.is_empty() {
            return self.settle(cx);
        }
        self.phase = Phase::Joining;
        self.try_join(cx);
    }

    /// Joins through the next contact.
    fn try_join(&mut self, cx: &mut Cx<'_>) {
        let at = self.attempt as usize % self.contacts.len().max(1);
        self.attempt = self.attempt.wrapping_add(1);
        cx.after(JOIN, Timer::Join(self.attempt));
        if let Some(contact) = self.contacts.get(at).copied() {
            self.note_asked(cx, contact, true);
            cx.send(contact, Message::Join);
        }
    }

    pub(super) fn on_join_timer(&mut self, cx: &mut Cx<'_>, attempt: u32) {
        if self.phase == Phase::Joining && attempt == self.attempt {
            self.try_join(cx);
        }
    }

    /// This peer is in the network.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        self.phase = Phase::Placed;
        cx.tell(Event::Placed(self.guid.clone()));
        (self.pace.wait, self.pace.shuffle) = (QUICK, FIRST_SHUFFLE);
        self.arm(cx);
    }

    fn arm(&mut self, cx: &mut Cx<'_>) {
        let span = cx.random.between(Duration::ZERO, self.pace.shuffle);
        cx.after(span, Timer::Shuffle);
        self.fill_later(cx);
    }

    fn fill_later(&mut self, cx: &mut Cx<'_>) {
        self.pace.round = self.pace.round.wrapping_add(1);
        let span = cx.random.between(self.pace.wait / 2, self.pace.wait);
        cx.after(span, Timer::Fill(self.pace.round));
    }

    /// A neighbour is lost: vacancies are looked at soon.
    fn quicken(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Placed && self.pace.wait > QUICK {
            (self.pace.wait, self.pace.tries) = (QUICK, 0);
            self.fill_later(cx);
        }
    }

    pub(super) fn on_fill_timer(&mut self, cx: &mut Cx<'_>, round: u32) {
        if round != self.pace.round {
            return;
        }
        self.pace.wait = (self.pace.wait.max(QUICK) * 2).min(SLOW);
        self.pace.tries = 0;
        self.fill_later(cx);
        self.asked.retain(|it| cx.now.since(it.since) < LATE);
        self.fill(cx);
    }

    /// Asks peers of the passive view to fill what is vacant.
    fn fill(&mut self, cx: &mut Cx<'_>) {
        if self.phase != Phase::Placed {
            return;
        }
        let vacancies = self.active.vacancies();
        // Where many are gone, most of those asked are, too.
        let wanted = if vacancies == 1 { 1 } else { 2 * vacancies };
        let open = self.asked.iter().filter(|it| !it.is_forced).count();
        let open = wanted.min(TRIES).saturating_sub(open);
        let n = open.min(TRIES.saturating_sub(usize::from(self.pace.tries)));
        let priority = match self.active.is_empty() {
            true => Priority::High,
            false => Priority::Low,
        };
        let asked = &self.asked;
        let is_new = |peer| asked.iter().all(|it| it.peer != peer);
        let candidates = self.passive.draw(n, cx.random, is_new);
        self.pace.tries += candidates.len() as u8;
        let is_stranded = self.active.is_empty() && self.asked.is_empty() && n > 0;
        if candidates.is_empty() && is_stranded {
            // Nobody is left but those that led it in once.
            let contacts = std::mem::take(&mut self.contacts);
            if let Some(contact) = cx.random.pick(&contacts).copied() {
                self.pace.tries += 1;
                self.invite(cx, contact, Priority::High, false);
            }
            self.contacts = contacts;
        }
        for peer in candidates {
            self.invite(cx, peer, priority, false);
        }
    }

    /// Asks a peer to be a neighbour, even if others have to go for it.
    fn force(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        self.invite(cx, peer, Priority::High, true);
    }

    fn invite(&mut self, cx: &mut Cx<'_>, peer: Peer, priority: Priority, is_forced: bool) {
        let is_other = peer != cx.me() && !self.active.has(peer);
        if is_other && self.note_asked(cx, peer, is_forced) {
            cx.send(peer, Message::Neighbour(priority));
        }
    }

    /// Notes that a peer was asked; whether it had not been.
    fn note_asked(&mut self, cx: &Cx<'_>, peer: Peer, is_forced: bool) -> bool {
        let is_news = self.asked.iter().all(|it| it.peer != peer);
        if is_news && self.asked.len() < MAX_ASKED {
            let since = cx.now;
            self.asked.push(Asked {
                peer,
                since,
                is_forced,
            });
            return true;
        }
        false
    }

    /// The question is answered, or moot; it is given if it was open.
    fn close(&mut self, peer: Peer) -> Option<Asked> {
        let at = self.asked.iter().position(|it| it.peer == peer)?;
        Some(self.asked.swap_remove(at))
    }

    /// A peer is a neighbour from now on; another makes room if it must.
    fn adopt(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        self.close(peer);
        self.passive.remove(peer);
        if self.active.has(peer) {
            return;
        }
        let contact = Contact::of(cx.host(), peer);
        if let Some(evicted) = self.active.insert(contact, cx.random) {
            self.dismiss(cx, evicted.peer);
        }
        self.lost.found(peer);
        if self.phase == Phase::Joining {
            self.settle(cx);
        }
        cx.tell(Event::Changed);
    }

    /// Tells a neighbour that it is one no more. It stays known.
    fn dismiss(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        self.lazy.retain(|it| *it != peer);
        self.close(peer);
        cx.send(peer, Message::Disconnect(Parting::Replaced));
        self.know(cx, peer, &mut Drawn::new());
    }

    /// Takes a peer out of the active view; whether it was there.
    fn drop_neighbour(&mut self, cx: &mut Cx<'_>, peer: Peer) -> bool {
        self.lazy.retain(|it| *it != peer);
        let was_there = self.active.remove(peer);
        if was_there {
            cx.tell(Event::Changed);
        }
        was_there
    }

    /// Puts a peer into the passive view, in the place of one of `before` if there is no room.
    fn know(&mut self, cx: &mut Cx<'_>, peer: Peer, before: &mut Drawn) {
        if peer != cx.me() && !self.active.has(peer) {
            self.passive.replace(peer, before, cx.random);
        }
    }

    /// Somebody joins through this peer.
    pub(super) fn on_newcomer(&mut self, cx: &mut Cx<'_>, newcomer: Peer) {
        if self.phase == Phase::Out {
            return;
        }
        self.adopt(cx, newcomer);
        cx.send(newcomer, Message::Accept);
        let steps = cx.config().active_walk;
        let others = self.active.iter().map(|it| it.peer);
        let others: SmallVec<[Peer; 8]> = others.filter(|peer| *peer != newcomer).collect();
        for other in others {
            cx.send(other, Message::ForwardJoin { newcomer, steps });
        }
    }

    pub(super) fn on_forward_join(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        newcomer: Peer,
        steps: u8,
    ) {
        if newcomer == cx.me() || self.phase != Phase::Placed {
            return;
        }
        let steps = steps.min(MAX_STEPS);
        let next = self
            .active
            .draw(1, cx.random, |peer| peer != from && peer != newcomer)
            .pop();
        match next.filter(|_| steps > 0) {
            Some(next) => {
                if steps == cx.config().passive_walk {
                    self.know(cx, newcomer, &mut Drawn::new());
                }
                let steps = steps - 1;
                cx.send(next, Message::ForwardJoin { newcomer, steps });
            }
            None => self.force(cx, newcomer),
        }
    }

    pub(super) fn on_neighbour(&mut self, cx: &mut Cx<'_>, from: Peer, priority: Priority) {
        let has_room = !self.active.is_full() || self.active.has(from);
        if self.phase == Phase::Out || !has_room && priority == Priority::Low {
            cx.send(from, Message::Refuse);
            return;
        }
        self.adopt(cx, from);
        cx.send(from, Message::Accept);
    }

    pub(super) fn on_accept(&mut self, cx: &mut Cx<'_>, from: Peer) {
        let asked = self.close(from);
        if self.active.has(from) {
            return;
        }
        match asked.is_some_and(|it| it.is_forced || !self.active.is_full()) {
            true => self.adopt(cx, from),
            false => cx.send(from, Message::Disconnect(Parting::Replaced)),
        }
    }

    pub(super) fn on_refuse(&mut self, cx: &mut Cx<'_>, from: Peer) {
        self.close(from);
        // It knew of a link that this peer counts on, or knows no more.
        if self.drop_neighbour(cx, from) {
            self.know(cx, from, &mut Drawn::new());
            self.quicken(cx);
        }
        self.fill(cx);
    }

    pub(super) fn on_disconnect(&mut self, cx: &mut Cx<'_>, from: Peer, parting: Parting) {
        let was_there = self.drop_neighbour(cx, from);
        match parting {
            Parting::Replaced => self.know(cx, from, &mut Drawn::new()),
            Parting::Leaving => {
                self.passive.remove(from);
                self.close(from);
            }
        }
        if was_there {
            self.quicken(cx);
            self.fill(cx);
        }
    }

    pub(super) fn on_shuffle_timer(&mut self, cx: &mut Cx<'_>) {
        let longest = Duration::from_millis(u64::from(cx.config().shuffle_ms));
        self.pace.shuffle = (self.pace.shuffle * 2).min(longest);
        cx.after(self.pace.shuffle, Timer::Shuffle);
        let me = cx.me();
        let Some(next) = self.active.any_but(me, cx.random) else {
            return;
        };
        let config = cx.config();
        let (active, passive) = (config.shuffle_active, config.shuffle_passive);
        let active = self.active.draw(active.into(), cx.random, |it| it != next);
        let passive = self.passive.draw(passive.into(), cx.random, |_| true);
        let peers = active.into_iter().chain(passive).collect();
        let (origin, steps) = (me, config.active_walk);
        cx.send(
            next,
            Message::Shuffle {
                origin,
                steps,
                peers,
            },
        );
    }

    pub(super) fn on_shuffle(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        origin: Peer,
        steps: u8,
        peers: Vec<Peer>,
    ) {
        if !self.active.has(from) {
            // A link of which this end knows nothing.
            cx.send(from, Message::Disconnect(Parting::Replaced));
        }
        if origin == cx.me() || self.phase != Phase::Placed {
            return;
        }
        let peers = cx.listed(&peers, MAX_LISTED).to_vec();
        let steps = steps.min(MAX_STEPS).saturating_sub(1);
        let next = self
            .active
            .draw(1, cx.random, |peer| peer != from && peer != origin)
            .pop();
        if let Some(next) = next.filter(|_| steps > 0) {
            cx.send(
                next,
                Message::Shuffle {
                    origin,
                    steps,
                    peers,
                },
            );
            return;
        }
        let mut told = self
            .passive
            .draw(peers.len() + 1, cx.random, |it| it != origin);
        let answer = told.to_vec();
        cx.send(origin, Message::Shuffled { peers: answer });
        self.know(cx, origin, &mut told);
        for peer in peers {
            self.know(cx, peer, &mut told);
        }
        self.fill(cx);
    }

    pub(super) fn on_shuffled(&mut self, cx: &mut Cx<'_>, peers: &[Peer]) {
        let mut told = Drawn::new();
        for peer in cx.listed(peers, MAX_LISTED) {
            self.know(cx, *peer, &mut told);
        }
        self.fill(cx);
    }

    /// The peer is there.
    pub(super) fn hear(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        if !self.links.is_up(peer) {
            self.on_up(cx, peer);
        }
    }

    pub(super) fn on_up(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        self.lost.found(peer);
        self.links.set_up(peer, true);
        if self.active.has(peer) {
            // Another connection than the one that the link was made on: its other end may have
            // forgotten the link with that.
            cx.tell(Event::Changed);
            cx.send(peer, Message::Neighbour(Priority::Low));
        }
    }

    pub(super) fn on_down(&mut self, cx: &mut Cx<'_>, peer: Peer, loss: Loss) {
        let was_up = self.links.set_up(peer, false);
        self.links.release(peer);
        let was_asked = self.close(peer).is_some();
        let was_near = self.drop_neighbour(cx, peer);
        if loss != Loss::Closed {
            self.passive.remove(peer);
        }
        if was_near && was_up && loss != Loss::Closed && self.lost.add(cx.now, peer) {
            self.probe_later(cx);
        }
        self.links.tidy();
        if self.phase == Phase::Joining {
            if was_asked && self.contacts.len() > 1 {
                self.try_join(cx);
            }
            return;
        }
        if was_near {
            self.quicken(cx);
        }
        if was_near || was_asked {
            self.fill(cx);
        }
    }

    pub(super) fn on_leave(&mut self, cx: &mut Cx<'_>) {
        let told: SmallVec<[Peer; 8]> = self.active.iter().map(|it| it.peer).collect();
        for peer in told {
            cx.send(peer, Message::Disconnect(Parting::Leaving));
        }
        self.phase = Phase::Left;
        cx.tell(Event::Left);
    }

    fn probe_later(&mut self, cx: &mut Cx<'_>) {
        let span = cx.random.between(PROBE.0, PROBE.1);
        cx.after(span, Timer::Probe);
    }

    /// Asks a peer that was lost to be a neighbour again: if it answers, it was beyond a split.
    pub(super) fn on_probe(&mut self, cx: &mut Cx<'_>) {
        if let Some(lost) = self.lost.next(cx.now, cx.random) {
            self.probe_later(cx);
            self.force(cx, lost);
        }
    }
}
