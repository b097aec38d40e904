//! Upkeep: questions and answers, who is taken in and who goes, lookups, siblings compared, unused
//! buckets refreshed, the lost looked for.

use std::time::Duration;

use ringweave_ids::{Peer, Point};

use super::{
    Aim, Asker, Cx, Kademlia, Message, PROBE, Purpose, Question, Standing, Timer, Way,
    buckets::{Entry, beat, beats},
    join::Phase,
};
use crate::{Contact, Loss, View, lookup::Lookup, requests::Request};

/// How long a question may take: a connection and an answer over a slow way.
const LATE: Duration = Duration::from_secs(3);

/// Round trips of a question that needs a connection first: two for that, one for itself.
const DIAL_TRIPS: u32 = 3;

/// While the pace is quicker than this, so many siblings are asked at a time; then one.
const SLOW: u32 = 4_000;
const ASKED_IN_HASTE: usize = 3;

/// Lookups under way; more are not begun.
const MAX_SEARCHES: usize = 8;

/// Of these, for the sake of buckets.
const REFRESHED_AT_ONCE: usize = 3;

/// The most peers taken from one list.
const MAX_LISTED: usize = 64;

/// How often buckets are looked through in the time after which they count as unused.
const LOOKS: u32 = 8;

/// The shortest time between two looks, in milliseconds, however short the refresh.
const SHORTEST_LOOK: u32 = 500;

impl Kademlia {
    fn ask(&mut self, cx: &mut Cx<'_>, to: Peer, purpose: Purpose) -> Option<u32> {
        let trips = if self.links.is_up(to) { 1 } else { DIAL_TRIPS };
        let question = Question { purpose, trips };
        let number = self.requests.open(cx.now, to, question)?;
        cx.after(LATE, Timer::Late(number));
        Some(number)
    }

    pub(super) fn ping(&mut self, cx: &mut Cx<'_>, to: Peer, purpose: Purpose) {
        let is_it = |it: &Request<Question>| it.to == to && it.purpose.purpose == purpose;
        if self.requests.iter().any(is_it) {
            return;
        }
        if let Some(number) = self.ask(cx, to, purpose) {
            cx.send(to, Message::Ping { number });
        }
    }

    /// Asks who is closest to a target; whether there was room for the question.
    pub(super) fn inquire(
        &mut self,
        cx: &mut Cx<'_>,
        to: Peer,
        target: Point,
        purpose: Purpose,
    ) -> bool {
        let Some(number) = self.ask(cx, to, purpose) else {
            return false;
        };
        let asker = match self.phase {
            Phase::Announcing(_) | Phase::Placed => Asker::Member,
            Phase::Out | Phase::Joining | Phase::Left => Asker::Guest,
        };
        cx.send(
            to,
            Message::Find {
                number,
                target,
                asker,
            },
        );
        true
    }

    pub(super) fn contact(&self, cx: &Cx<'_>, peer: Peer) -> Contact {
        Contact::of(cx.host(), peer)
    }

    /// The up to `n` closest peers of the table, closest first.
    pub(super) fn known(&self, cx: &Cx<'_>, target: Point, n: usize) -> Vec<Contact> {
        self.closest_known(&cx.view, target, n)
    }

    pub(super) fn closest_known(
        &self,
        view: &View<'_, Self>,
        target: Point,
        n: usize,
    ) -> Vec<Contact> {
        let point = |peer| Contact::of(view.host, peer).point;
        self.buckets.closest(target, n, point)
    }

    /// The closest that are told to who asks.
    pub(super) fn answer(&self, view: &View<'_, Self>, target: Point, asker: Peer) -> Vec<Contact> {
        let size = view.config.size();
        let mut closest = self.closest_known(view, target, size + 1);
        closest.retain(|it| it.peer != asker);
        closest.truncate(size);
        closest
    }

    pub(super) fn on_ping(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32) {
        let asker = match self.buckets.has(from) {
            true => Standing::Listed,
            false => Standing::Unlisted,
        };
        self.hear(cx, from);
        cx.send(from, Message::Pong { number, asker });
    }

    pub(super) fn on_pong(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32, standing: Standing) {
        if self.close(cx, from, number) == Some(Purpose::Announce) {
            self.on_hailed(cx, standing);
        }
    }

    pub(super) fn on_find(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        number: u32,
        target: Point,
        asker: Asker,
    ) {
        if asker == Asker::Member {
            self.hear(cx, from);
        }
        let closest = self.answer(&cx.view, target, from);
        let closest = closest.iter().map(|it| it.peer).collect();
        cx.send(from, Message::Found { number, closest });
    }

    pub(super) fn on_found(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32, closest: &[Peer]) {
        let closest = cx.listed(closest, MAX_LISTED);
        let Some(purpose) = self.close(cx, from, number) else {
            return;
        };
        let found = closest.iter();
        let found = found.filter(|it| **it != cx.me());
        let found: Vec<_> = found.map(|it| self.contact(cx, *it)).collect();
        match purpose {
            Purpose::Lookup(number) => {
                self.searches.answered(number, from, found);
                self.drive(cx, number);
            }
            Purpose::Compare => {
                for contact in found {
                    if self.is_news(contact) {
                        self.ping(cx, contact.peer, Purpose::Verify);
                    }
                }
            }
            Purpose::Merge if found.iter().any(|it| self.is_news(*it)) => {
                self.due |= self.poor(usize::from(cx.config().links));
                let mut known = self.known(cx, self.me.point, cx.config().size());
                known.extend(found);
                self.search(cx, self.me.point, Aim::Own, known);
                self.refresh_due(cx);
            }
            Purpose::Merge | Purpose::Verify | Purpose::Check | Purpose::Announce => {}
        }
    }

    pub(super) fn on_leaving(&mut self, cx: &mut Cx<'_>, from: Peer) {
        self.lost.found(from);
        self.evict(cx, from);
    }

    /// Whether a peer is one that this one should know and does not: a sibling, or the first of a
    /// bucket.
    fn is_news(&self, contact: Contact) -> bool {
        let index = self.buckets.index(contact.point);
        index.is_some_and(|index| {
            let is_missed = self.buckets.is_near(index) || self.buckets.count(index) == 0;
            is_missed && self.buckets.has_room(index) && !self.buckets.has(contact.peer)
        })
    }

    /// A peer of the network said something unasked: before it is taken in, it has to answer.
    fn hear(&mut self, cx: &mut Cx<'_>, from: Peer) {
        if self.buckets.see(from, cx.now, None) {
            return;
        }
        let Some(index) = self.buckets.index(self.contact(cx, from).point) else {
            return cx.fault("a peer at this one's point");
        };
        if self.buckets.has_room(index) {
            self.ping(cx, from, Purpose::Verify);
        } else {
            self.queue(cx, index, from);
        }
    }

    /// The bucket is full: the peer gets the place of the one heard of longest ago, if that is dead.
    fn queue(&mut self, cx: &mut Cx<'_>, index: u8, peer: Peer) {
        self.buckets.spare(index, peer);
        let Some(oldest) = self.buckets.oldest(index) else {
            return;
        };
        if self.links.is_up(oldest.peer) {
            self.buckets.see(oldest.peer, cx.now, None);
        } else if !oldest.is_fresh(cx.now) {
            self.ping(cx, oldest.peer, Purpose::Check);
        }
    }

    /// A question was answered, if it is open: what it was for. Who answers is taken in.
    fn close(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32) -> Option<Purpose> {
        let (question, took) = self.requests.answered(cx.now, from, number)?;
        let trip_ms = (took / question.trips).as_millis();
        let trip_ms = u16::try_from(trip_ms).unwrap_or(u16::MAX).max(1);
        self.take(cx, from, trip_ms);
        Some(question.purpose)
    }

    fn take(&mut self, cx: &mut Cx<'_>, peer: Peer, trip_ms: u16) {
        if self.buckets.see(peer, cx.now, Some(trip_ms)) {
            return;
        }
        let Some(index) = self.buckets.index(self.contact(cx, peer).point) else {
            return cx.fault("a peer at this one's point");
        };
        let seen = beat(cx.now);
        let entry = Entry {
            peer,
            trip_ms,
            seen,
        };
        if !self.buckets.insert(index, entry) {
            return self.queue(cx, index, peer);
        }
        self.is_stale = true;
        if self.buckets.is_near(index) {
            self.quicken(cx);
        }
    }

    /// Takes a peer out of the table; whether it was there.
    fn evict(&mut self, cx: &mut Cx<'_>, peer: Peer) -> bool {
        let Some(index) = self.buckets.remove(peer) else {
            return false;
        };
        self.is_stale = true;
        if let Some(spare) = self.buckets.take_spare(index) {
            self.ping(cx, spare, Purpose::Verify);
        }
        if self.buckets.is_near(index) {
            self.quicken(cx);
        } else if self.buckets.count(index) < usize::from(cx.config().links) {
            self.due |= 1 << index;
            self.refresh_due(cx);
        }
        true
    }

    pub(super) fn on_up(&mut self, _: &mut Cx<'_>, peer: Peer) {
        self.lost.found(peer);
        self.links.set_up(peer, true);
        self.is_stale |= self.links.is_wanted(peer);
    }

    pub(super) fn on_down(&mut self, cx: &mut Cx<'_>, peer: Peer, loss: Loss) {
        let was_held = self.links.is_held(peer);
        let was_up = self.links.set_up(peer, false);
        self.links.release(peer);
        // A connection that nobody holds is closed when it is idle: that says nothing.
        let is_gone = was_held || loss != Loss::Closed;
        if is_gone && self.evict(cx, peer) && was_held && was_up && self.lost.add(cx.now, peer) {
            self.probe_later(cx);
        }
        self.links.tidy();
        let open = self.requests.iter().filter(|it| it.to == peer);
        let open: Vec<_> = open.map(|it| it.number).collect();
        for number in open {
            self.fail(cx, number);
        }
    }

    pub(super) fn on_late(&mut self, cx: &mut Cx<'_>, number: u32) {
        self.fail(cx, number);
    }

    /// A question was not answered.
    fn fail(&mut self, cx: &mut Cx<'_>, number: u32) {
        let Some(request) = self.requests.close(number) else {
            return;
        };
        match request.purpose.purpose {
            Purpose::Lookup(number) => {
                self.searches.failed(number, request.to);
                self.drive(cx, number);
            }
            Purpose::Check => {
                self.evict(cx, request.to);
            }
            // Another may be the nearest by now; if not, the attempt's time runs out.
            Purpose::Announce if !self.buckets.has(request.to) => {
                if let Phase::Announcing(_) = self.phase {
                    self.hail(cx);
                }
            }
            Purpose::Verify | Purpose::Announce | Purpose::Compare | Purpose::Merge => {}
        }
    }

    pub(super) fn search(
        &mut self,
        cx: &mut Cx<'_>,
        target: Point,
        aim: Aim,
        known: impl IntoIterator<Item = Contact>,
    ) {
        if self.searches.len() >= MAX_SEARCHES {
            return;
        }
        let lookup = Lookup::new(target, Point::xor, cx.config().width(), known);
        let number = self.searches.begin(aim, lookup);
        self.drive(cx, number);
    }

    /// Asks on, or ends the lookup.
    fn drive(&mut self, cx: &mut Cx<'_>, number: u32) {
        while let Some((next, target)) = self.searches.next(number) {
            if !self.inquire(cx, next.peer, target, Purpose::Lookup(number)) {
                self.searches.failed(number, next.peer);
            }
        }
        let Some((aim, lookup)) = self.searches.end_if_over(number) else {
            return;
        };
        match aim {
            Aim::Own if self.phase == Phase::Joining && lookup.closest().next().is_some() => {
                self.announce(cx);
            }
            Aim::Own => {}
            Aim::Bucket(index) => self.buckets.look(index, cx.now),
        }
        self.refresh_due(cx);
    }

    /// Begins with the buckets that are due, the nearest first.
    pub(super) fn refresh_due(&mut self, cx: &mut Cx<'_>) {
        if self.phase != Phase::Placed || self.buckets.len() == 0 {
            return;
        }
        let for_buckets = |aim: &&Aim| **aim != Aim::Own;
        while let Some(bit) = self.due.checked_ilog2()
            && self.searches.len() < MAX_SEARCHES
            && self.searches.purposes().filter(for_buckets).count() < REFRESHED_AT_ONCE
        {
            self.due ^= 1 << bit;
            let target = self.random_in(cx, bit as u8);
            let known = self.known(cx, target, cx.config().size());
            self.search(cx, target, Aim::Bucket(bit as u8), known);
        }
    }

    /// Any point of a bucket's subtree.
    fn random_in(&self, cx: &mut Cx<'_>, index: u8) -> Point {
        let side = 1 << (Point::BITS - 1 - u32::from(index));
        let drawn = u128::from(cx.random.bits()) << 64 | u128::from(cx.random.bits());
        Point::new(self.me.point.value() ^ side ^ (drawn & (side - 1)))
    }

    /// The buckets up to the nearest peer's that hold hardly anybody, a bit for each.
    fn poor(&self, count: usize) -> u128 {
        let upto = self.buckets.nearest().unwrap_or(0);
        let poor = (0..upto).filter(|it| self.buckets.count(*it) < count);
        poor.fold(0, |bits, index| bits | 1 << index)
    }

    pub(super) fn arm(&mut self, cx: &mut Cx<'_>) {
        let span = cx.random.between(Duration::ZERO, look_span(cx));
        cx.after(span, Timer::Refresh);
        self.compare_later(cx);
    }

    fn compare_later(&mut self, cx: &mut Cx<'_>) {
        let (span, round) = self.pace.next(cx.random);
        cx.after(span, Timer::Compare(round));
    }

    /// Something changed nearby: siblings are compared soon.
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
        let is_hasty = waited < SLOW;
        self.compare_later(cx);
        let is_sibling = |it: &&Way| it.is_up && self.buckets.is_near(it.bucket);
        let siblings = self.ways.iter().filter(is_sibling);
        let mut siblings: Vec<_> = siblings.map(|it| it.peer).collect();
        let count = if is_hasty { ASKED_IN_HASTE } else { 1 };
        cx.random.shuffle(&mut siblings, count);
        for sibling in siblings.into_iter().take(count) {
            self.inquire(cx, sibling, self.me.point, Purpose::Compare);
        }
        if !is_hasty {
            // Beyond the siblings an empty bucket is hardly ever one of an empty subtree.
            let upto = self.buckets.nearest().unwrap_or(0);
            let beyond = (0..upto).filter(|index| !self.buckets.is_near(*index));
            let empty = beyond.filter(|index| self.buckets.count(*index) == 0);
            self.due |= empty.fold(0, |bits, index| bits | 1 << index);
            self.refresh_due(cx);
        }
    }

    /// Buckets that were not looked into for long; and who in them was not heard of has to answer.
    pub(super) fn on_refresh(&mut self, cx: &mut Cx<'_>) {
        cx.after(look_span(cx), Timer::Refresh);
        let long = beats(cx.config().refresh_ms);
        let unused = self.buckets.unused(cx.now, long);
        self.due |= unused.fold(0, |bits, index| bits | 1 << index);
        let entries = self.buckets.iter().flat_map(|(_, bucket)| bucket);
        let is_old = |it: &&Entry| it.age(cx.now) >= long && !self.links.is_up(it.peer);
        let old: Vec<_> = entries.filter(is_old).map(|it| it.peer).collect();
        for peer in old {
            self.ping(cx, peer, Purpose::Check);
        }
        self.refresh_due(cx);
    }

    fn probe_later(&mut self, cx: &mut Cx<'_>) {
        let span = cx.random.between(PROBE.0, PROBE.1);
        cx.after(span, Timer::Probe);
    }

    /// Asks a peer that was lost who is near to this one, as it sees it.
    pub(super) fn on_probe(&mut self, cx: &mut Cx<'_>) {
        let Some(lost) = self.lost.next(cx.now, cx.random) else {
            return;
        };
        self.probe_later(cx);
        self.meet(cx, lost);
    }

    /// Asks one who may be of another network that was once one with this.
    pub(super) fn meet(&mut self, cx: &mut Cx<'_>, stranger: Peer) {
        self.inquire(cx, stranger, self.me.point, Purpose::Merge);
    }
}

fn look_span(cx: &Cx<'_>) -> Duration {
    Duration::from_millis(u64::from(
        (cx.config().refresh_ms / LOOKS).max(SHORTEST_LOOK),
    ))
}
