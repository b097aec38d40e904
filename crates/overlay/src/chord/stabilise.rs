//! Upkeep: joining, learning who is next on the circle, refreshing fingers, finding the lost.

use std::time::Duration;

use ringweave_ids::{Peer, Point, Time};

use super::{Choice, Chord, Cx, Message, PROBE, Phase, Purpose, Style, Timer};
use crate::{Contact, Event};

/// How long a contact has to lead a newcomer in before the next is tried.
const JOIN: Duration = Duration::from_millis(2_000);

/// How long a question may take.
const LATE: Duration = Duration::from_secs(6);

/// How long news of the successors waits for more.
const TELL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(100));

/// How long what others say of a peer that said goodbye is not believed, and of how many.
const LEFT_FOR: Duration = Duration::from_secs(60);
const MAX_LEFT: usize = 16;

/// Hops after which a question is dropped.
const HOP_LIMIT: u8 = 64;

/// The most peers taken from one list.
pub(super) const MAX_LISTED: usize = 64;

impl Chord {
    pub(super) fn on_join(&mut self, cx: &mut Cx<'_>, contacts: Vec<Peer>) {
        if self.phase == Phase::Placed {
            return match contacts.is_empty() {
                true => {
                    self.pace.rest(cx.config().stabilise_ms);
                    self.arm(cx);
                }
                false => contacts
                    .into_iter()
                    .for_each(|contact| self.meet(cx, contact)),
            };
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
        let Some(contact) = self.contacts.get(at).copied() else {
            return;
        };
        self.look_up(cx, self.me.point, Purpose::Join, Some(contact));
        // It may know me already, and only not have said so.
        if let Some(successor) = self.successor() {
            cx.send(successor.peer, Message::Notify);
        }
    }

    pub(super) fn on_join_timer(&mut self, cx: &mut Cx<'_>, attempt: u32) {
        if self.phase == Phase::Joining && attempt == self.attempt {
            self.try_join(cx);
        }
    }

    /// This peer is on the circle.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        self.phase = Phase::Placed;
        self.contacts = Vec::new();
        cx.tell(Event::Placed(self.guid.clone()));
        self.arm(cx);
        self.refresh_all(cx);
    }

    fn arm(&mut self, cx: &mut Cx<'_>) {
        let refresh = Duration::from_millis(u64::from(cx.config().refresh_ms));
        let span = cx.random.between(Duration::ZERO, refresh);
        cx.after(span, Timer::Refresh);
        self.stabilise_later(cx);
    }

    fn stabilise_later(&mut self, cx: &mut Cx<'_>) {
        let (span, round) = self.pace.next(cx.random);
        cx.after(span, Timer::Stabilise(round));
    }

    /// Something changed nearby: the neighbours are asked soon.
    fn quicken(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Placed && self.pace.quicken() {
            self.stabilise_later(cx);
        }
    }

    pub(super) fn on_stabilise(&mut self, cx: &mut Cx<'_>, round: u32) {
        if self.pace.elapse(round, cx.config().stabilise_ms).is_none() {
            return;
        }
        self.stabilise_later(cx);
        if let Some(successor) = self.successor() {
            cx.send(successor.peer, Message::Ask);
        }
    }

    /// Differs from the paper: a list that changed is told the predecessor soon, not only when asked for.
    fn tell_soon(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Placed && !std::mem::replace(&mut self.is_telling, true) {
            let span = cx.random.between(TELL.0, TELL.1);
            cx.after(span, Timer::Tell);
        }
    }

    pub(super) fn on_tell_timer(&mut self, cx: &mut Cx<'_>) {
        self.is_telling = false;
        if let Some(predecessor) = self.predecessor {
            self.tell_neighbours(cx, predecessor.peer);
        }
    }

    pub(super) fn ask(&mut self, cx: &mut Cx<'_>, to: Peer, purpose: Purpose) -> Option<u32> {
        let number = self.requests.open(cx.now, to, purpose)?;
        cx.after(LATE, Timer::Late(number));
        Some(number)
    }

    /// Looks for the first peer at or after a point: through another, or over the own table.
    fn look_up(&mut self, cx: &mut Cx<'_>, target: Point, purpose: Purpose, through: Option<Peer>) {
        if cx.config().lookups == Style::Iterative {
            return self.search(cx, target, purpose, through);
        }
        let (origin, hops) = (cx.me(), 0);
        let Some(number) = self.ask(cx, through.unwrap_or(origin), purpose) else {
            return;
        };
        match through {
            None => self.on_find(cx, target, origin, number, hops),
            Some(through) => cx.send(
                through,
                Message::Find {
                    target,
                    origin,
                    number,
                    hops,
                },
            ),
        }
    }

    pub(super) fn on_late(&mut self, cx: &mut Cx<'_>, number: u32) {
        if let Some(late) = self.requests.close(number)
            && let Purpose::Step(search) = late.purpose
        {
            self.step_failed(cx, search, late.to);
        }
    }

    /// One interval's finger, the next each time.
    pub(super) fn on_refresh(&mut self, cx: &mut Cx<'_>) {
        let refresh = Duration::from_millis(u64::from(cx.config().refresh_ms));
        cx.after(refresh, Timer::Refresh);
        let least = self.least_interval();
        let next = self.refreshed.checked_sub(1);
        self.refreshed = match next {
            Some(next) if next >= least => next,
            _ => (Point::BITS - 1) as u8,
        };
        self.refresh(cx, self.refreshed);
    }

    fn refresh_all(&mut self, cx: &mut Cx<'_>) {
        for interval in (self.least_interval()..Point::BITS as u8).rev() {
            self.refresh(cx, interval);
        }
    }

    /// The first interval that the successor does not stand for.
    fn least_interval(&self) -> u8 {
        let successor = self.successors.iter().next();
        let interval = successor.and_then(|it| self.fingers.interval(it.point));
        interval.map_or(Point::BITS as u8, |interval| interval + 1)
    }

    fn refresh(&mut self, cx: &mut Cx<'_>, interval: u8) {
        let target = self.finger_target(cx, interval);
        self.look_up(cx, target, Purpose::Finger(interval), None);
    }

    pub(super) fn on_find(
        &mut self,
        cx: &mut Cx<'_>,
        target: Point,
        origin: Peer,
        number: u32,
        hops: u8,
    ) {
        if self.phase != Phase::Placed || cx.is_astray(hops, HOP_LIMIT) {
            return;
        }
        let successor = self.successors.iter().find(|it| {
            // A newcomer is not its own successor, though it may have been here before.
            self.links.is_up(it.peer) && it.peer != origin
        });
        let is_mine = origin != cx.me() && self.owns(target);
        let Some(successor) = successor.filter(|_| !is_mine) else {
            return self.answer(cx, origin, number, true);
        };
        if target.is_in(self.me.point, successor.point) {
            return self.answer(cx, origin, number, false);
        }
        let next = self.preceding(target, true).filter(|it| it.peer != origin);
        let next = next.unwrap_or(successor).peer;
        let hops = hops + 1;
        cx.send(
            next,
            Message::Find {
                target,
                origin,
                number,
                hops,
            },
        );
    }

    /// Tells who asked of the peers from here on, this one among them or not.
    fn answer(&mut self, cx: &mut Cx<'_>, origin: Peer, number: u32, with_me: bool) {
        let me = with_me.then_some(cx.me());
        let mut successors: Vec<_> = me.into_iter().chain(self.proven()).collect();
        successors.retain(|peer| *peer != origin);
        if origin == cx.me() {
            return self.on_found(cx, number, &successors);
        }
        cx.send(origin, Message::Found { number, successors });
    }

    /// The successors that answer.
    pub(crate) fn proven(&self) -> impl Iterator<Item = Peer> {
        let linked = self
            .successors
            .iter()
            .filter(|it| self.links.is_up(it.peer));
        linked.map(|it| it.peer)
    }

    pub(super) fn on_found(&mut self, cx: &mut Cx<'_>, number: u32, successors: &[Peer]) {
        let purpose = self.requests.close(number).map(|it| it.purpose);
        self.conclude(cx, purpose, successors);
    }

    /// A question has its answer; there may have been none.
    pub(super) fn conclude(
        &mut self,
        cx: &mut Cx<'_>,
        purpose: Option<Purpose>,
        successors: &[Peer],
    ) {
        let found = cx.listed(successors, MAX_LISTED).iter();
        let found: Vec<_> = found.map(|peer| Contact::of(cx.host(), *peer)).collect();
        match purpose {
            Some(Purpose::Finger(interval)) => {
                if let Some(first) = found.first()
                    && cx.config().fingers == Choice::Fixed
                {
                    let start = self.fingers.start(interval);
                    self.fingers.refute(start, first.point);
                }
                let first = found.first().filter(|it| it.peer != cx.me());
                let beyond = first.filter(|it| self.fingers.interval(it.point) >= Some(interval));
                if let Some(finger) = beyond {
                    self.take_finger(cx, *finger);
                }
            }
            // Unasked, it leads to a nearer successor.
            Some(Purpose::Step(_)) => {}
            Some(Purpose::Join | Purpose::Merge) | None => {
                for contact in found {
                    self.learn(cx, contact);
                }
                if self.phase == Phase::Joining
                    && let Some(first) = self.successors.iter().next()
                {
                    cx.send(first.peer, Message::Notify);
                }
            }
        }
    }

    fn take_finger(&mut self, cx: &mut Cx<'_>, finger: Contact) {
        match cx.config().fingers {
            Choice::Fixed => {
                self.fingers.learn(finger);
            }
            Choice::Random => {
                if let Some(interval) = self.fingers.interval(finger.point) {
                    self.fingers.set(interval, finger);
                }
            }
        }
    }

    /// A peer is said to be on the circle: it is connected to before it counts.
    fn learn(&mut self, cx: &mut Cx<'_>, contact: Contact) {
        let before = self.predecessor.filter(|it| *it != contact);
        let is_between = before.is_some_and(|it| contact.point.is_in(it.point, self.me.point));
        // Between my predecessor and me is nobody, or it says so itself.
        if contact.peer == cx.me() || is_between || self.has_left(cx.now, contact.peer) {
            return;
        }
        if self.successors.insert(contact) {
            self.quicken(cx);
            if self.links.is_up(contact.peer) {
                self.tell_soon(cx);
            }
        }
        if cx.config().fingers == Choice::Fixed {
            self.fingers.learn(contact);
        }
    }

    pub(super) fn tell_neighbours(&self, cx: &mut Cx<'_>, to: Peer) {
        let (predecessor, successors) = self.circle_without(to);
        cx.send(
            to,
            Message::Tell {
                predecessor,
                successors,
            },
        );
    }

    fn circle_without(&self, to: Peer) -> (Option<Peer>, Vec<Peer>) {
        let predecessor = self.predecessor.map(|it| it.peer);
        let successors = self.proven().filter(|peer| *peer != to);
        (predecessor, successors.collect())
    }

    pub(super) fn on_tell(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        predecessor: Option<Peer>,
        successors: &[Peer],
    ) {
        let successors = cx.listed(successors, MAX_LISTED);
        if self.successor().is_some_and(|it| it.peer == from) {
            // Who comes before my successor told it so itself: it is back, if it ever left.
            self.left.retain(|(peer, _)| Some(*peer) != predecessor);
        }
        for peer in [from].iter().chain(&predecessor).chain(successors) {
            let contact = Contact::of(cx.host(), *peer);
            self.learn(cx, contact);
        }
        let is_first = self.successor().is_some_and(|it| it.peer == from);
        if is_first {
            self.adopt(cx, from, successors);
        }
        if is_first && predecessor != Some(cx.me()) {
            cx.send(from, Message::Notify);
        }
    }

    /// The list is the successor's own, behind it (Zave, section 3): who is not in that is gone.
    fn adopt(&mut self, cx: &mut Cx<'_>, from: Peer, told: &[Peer]) {
        let Some(last) = told.last() else {
            return;
        };
        let [after, upto] = [from, *last].map(|peer| Contact::of(cx.host(), peer).point);
        let is_told = |peer| told.contains(&peer);
        let mut gone = self.successors.keep_between(after, upto, is_told);
        if let Some(before) = self.predecessor {
            let end = self.me.point.plus(u128::MAX);
            gone.extend(self.successors.keep_between(before.point, end, |_| false));
        }
        for gone in gone {
            self.fingers.remove(gone);
            self.tell_soon(cx);
        }
    }

    /// Somebody takes me for its successor.
    pub(super) fn on_notify(&mut self, cx: &mut Cx<'_>, from: Peer) {
        let contact = Contact::of(cx.host(), from);
        if contact.point == self.me.point {
            return cx.fault("a peer at this one's point");
        }
        let before = self.predecessor;
        if before == Some(contact) {
            return;
        }
        self.left.retain(|(peer, _)| *peer != from);
        let is_nearer = before.is_none_or(|it| contact.point.is_in(it.point, self.me.point));
        if !is_nearer {
            // It does not know who is between us.
            self.on_find(cx, contact.point, from, 0, 0);
            return;
        }
        self.predecessor = Some(contact);
        self.learn(cx, contact);
        self.quicken(cx);
        cx.tell(Event::Changed);
        if let Some(before) = before {
            self.tell_neighbours(cx, before.peer);
        }
        if self.phase == Phase::Joining && self.successor().is_some() {
            self.settle(cx);
        }
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
        if !self.links.is_wanted(peer) {
            return;
        }
        cx.tell(Event::Changed);
        if self.successors.iter().any(|it| it.peer == peer) {
            self.tell_soon(cx);
            self.quicken(cx);
        }
        if self.successor().is_some_and(|it| it.peer == peer) {
            cx.send(peer, Message::Ask);
        }
    }

    pub(super) fn on_down(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        let was_up = self.links.set_up(peer, false);
        self.links.release(peer);
        let was_near = self.forget(cx, peer);
        if was_near && was_up && self.lost.add(cx.now, peer) {
            self.probe_later(cx);
        }
        self.links.tidy();
        self.steps_failed(cx, peer);
        let joins = self.phase == Phase::Joining && self.contacts.contains(&peer);
        if joins && self.contacts.len() > 1 {
            self.try_join(cx);
        }
    }

    /// Takes a peer out of the table; whether it was there.
    fn forget(&mut self, cx: &mut Cx<'_>, peer: Peer) -> bool {
        let was_before = self.predecessor.is_some_and(|it| it.peer == peer);
        if was_before {
            self.predecessor = None;
        }
        let was_after = self.successors.remove(peer);
        let was_finger = self.fingers.remove(peer);
        if self.successors.iter().next().is_none()
            && let Some(nearest) = self.fingers.iter().next()
        {
            self.successors.insert(nearest);
        }
        if was_before || was_after {
            self.quicken(cx);
        }
        if was_after {
            self.tell_soon(cx);
        }
        let was_there = was_before || was_after || was_finger;
        if was_there {
            cx.tell(Event::Changed);
        }
        was_there
    }

    pub(super) fn on_leave(&mut self, cx: &mut Cx<'_>) {
        let before = self.predecessor.map(|it| it.peer);
        let told: Vec<_> = before.into_iter().chain(self.proven()).collect();
        for peer in told {
            let (predecessor, successors) = self.circle_without(peer);
            cx.send(
                peer,
                Message::Leave {
                    predecessor,
                    successors,
                },
            );
        }
        self.phase = Phase::Left;
        cx.tell(Event::Left);
    }

    pub(super) fn on_leaving(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        predecessor: Option<Peer>,
        successors: &[Peer],
    ) {
        let was_before = self.predecessor.is_some_and(|it| it.peer == from);
        self.forget(cx, from);
        if self.left.len() >= MAX_LEFT {
            self.left.remove(0);
        }
        self.left.push((from, cx.now));
        let before = predecessor.filter(|it| was_before && *it != cx.me());
        if let Some(before) = before {
            self.predecessor = Some(Contact::of(cx.host(), before));
        }
        for peer in cx.listed(successors, MAX_LISTED) {
            let contact = Contact::of(cx.host(), *peer);
            self.learn(cx, contact);
        }
    }

    /// Whether a peer said goodbye so lately that others may not know it yet.
    fn has_left(&self, now: Time, peer: Peer) -> bool {
        let mut left = self.left.iter();
        left.any(|(it, since)| *it == peer && now.since(*since) < LEFT_FOR)
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

    /// Asks one who may be of another circle.
    fn meet(&mut self, cx: &mut Cx<'_>, stranger: Peer) {
        self.look_up(cx, self.me.point, Purpose::Merge, Some(stranger));
    }
}
