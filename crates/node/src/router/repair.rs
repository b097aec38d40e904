//! Broadcasts that were missed: offered where the table changed, asked for, and offered on.
//!
//! ```text
//!   I have these          ─ offer ─>    those it lacks
//!                         <─ ask ──
//!                         ─ copies ─>   to the application, and offered on
//! ```
//!
//! While nothing changes the tree of copies alone works, without a word of this. Where a neighbour
//! comes, it is offered what is recent; where one goes, whoever took its place in the tree is offered
//! what was under way through it; and a number that is jumped over is asked of the neighbour that
//! jumped. Payloads travel only when asked for, from one neighbour at a time, as in Plumtree (Leitao
//! et al., "Epidemic Broadcast Trees", SRDS 2007). Differs from the paper: there are no offers at
//! rest, and who lacked a broadcast passes the offer on along the tree, by the span that came with
//! it, not to every neighbour: a whole branch that missed one is served with one offer a peer.

use std::{sync::Arc, time::Duration};

use ringweave_ids::{Peer, Time};
use ringweave_overlay::{Overlay, Reach, Target, Wish};

use super::{
    Ground, Router,
    forward::{HOP_LIMIT, flow_hash},
    receiver::LAST_NUMBER,
    recent::{KEPT_FOR, Offers, Recent},
    spread::Up,
};
use crate::{Cast, Envelope, Frame, Known, Lacking, Lane, MAX_NAMED, Output, Repair, Tick};

/// How long a change of the table waits for others before neighbours are compared.
const COMPARE_DELAY: Duration = Duration::from_millis(200);
/// How long a broadcast has to come by itself before it is asked for: the copies of one take about
/// as long to everyone in a network around the world.
const GRACE: Duration = Duration::from_millis(500);
/// How much longer, at most, where broadcasts follow a tree that peers find by themselves: where a
/// branch of it is cut off, all along the cut hear offers, and the first that asks serves the rest. In
/// all less than what follows a gap is held back for.
const SUPPRESSION: Duration = Duration::from_millis(700);
/// The latest of so many draws is waited for, so that most wait long and few short.
const DRAWS: usize = 6;
/// How long a neighbour that was asked has to answer before another is: the longest round trip, and
/// time for the payload.
const PATIENCE: Duration = Duration::from_millis(750);
/// How far back what came from a lost neighbour may not have gone everywhere.
const IN_DOUBT: Duration = Duration::from_secs(10);
/// The shortest time between two looks at what is recent no more.
const LEAST_REST: Duration = Duration::from_secs(1);
/// Random neighbours that are offered what is in doubt. Each neighbour of the lost one draws its
/// own, so in a ring of 32 any one of them is left out by all with probability 5 %.
const WITNESSES: usize = 3;

impl<O: Overlay> Router<O> {
    /// What is known of recent broadcasts, from now on.
    pub(super) fn recent(&mut self, ground: &mut Ground<'_, O>) -> &mut Recent<O> {
        self.spreads.recent.get_or_insert_with(|| {
            ground.after(KEPT_FOR, Tick::Forget);
            Box::new(Recent::new(linked(ground.overlay)))
        })
    }

    /// Neighbours came or went, or may have: those that are new are compared with soon.
    pub(crate) fn compare_soon(&mut self, ground: &mut Ground<'_, O>) {
        if let Some(recent) = &mut self.spreads.recent
            && !std::mem::replace(&mut recent.is_comparing, true)
        {
            ground.after(COMPARE_DELAY, Tick::Compare);
        }
    }

    /// Offers what is recent to the neighbours that were not there before.
    pub(super) fn compare(&mut self, ground: &mut Ground<'_, O>) {
        let Some(recent) = &mut self.spreads.recent else {
            return;
        };
        recent.is_comparing = false;
        let is_moved = std::mem::take(&mut recent.is_moved);
        let before = std::mem::replace(&mut recent.linked, linked(ground.overlay));
        let is_new = |peer: &Peer| is_moved || !contains(&before, *peer);
        if !recent.linked.iter().any(is_new) {
            return;
        }
        let mut offers = Offers::new();
        let copies = &mut self.spreads.copies;
        for kept in recent.kept() {
            let span = ground.overlay.span(kept.reach());
            ground.overlay.fan_out(&span, flow_hash(&kept.flow), copies);
            for (peer, span) in copies.drain(..) {
                if is_new(&peer) && kept.from != Some(peer) {
                    offers.add(peer, span, kept, ground.now);
                }
            }
        }
        self.offer(ground, offers);
    }

    /// The connection to a neighbour is gone: what came from it may not have gone everywhere.
    pub(super) fn on_neighbour_lost(&mut self, ground: &mut Ground<'_, O>, lost: Peer) {
        let now = ground.now;
        let Some(recent) = &mut self.spreads.recent else {
            return;
        };
        recent.linked.retain(|peer| *peer != lost);
        recent.forget_source(lost, now);
        let mut offers = Offers::new();
        let copies = &mut self.spreads.copies;
        for name in recent.came_from(lost, now, IN_DOUBT) {
            let Some(kept) = recent.find(&name) else {
                continue;
            };
            let span = ground.overlay.span(kept.reach());
            ground.overlay.fan_out(&span, flow_hash(&kept.flow), copies);
            ground.random.shuffle(copies, WITNESSES);
            for (peer, span) in copies.drain(..).take(WITNESSES) {
                offers.add(peer, span, kept, now);
            }
        }
        self.offer(ground, offers);
        self.compare_soon(ground);
    }

    /// This peer has a place, or another one: to its neighbours there it is new.
    pub(super) fn on_moved(&mut self, ground: &mut Ground<'_, O>) {
        if self.address.is_none() {
            self.spreads.placed = ground.now;
        }
        if let Some(recent) = &mut self.spreads.recent {
            recent.is_moved = true;
            // Who is below this place need not be below the address that those are for.
            recent.retain(|kept| !matches!(kept.flow.target, Target::Prefix(_)));
        }
        self.compare_soon(ground);
    }

    /// A neighbour says something of recent broadcasts.
    pub(crate) fn on_repair(
        &mut self,
        ground: &mut Ground<'_, O>,
        from: Peer,
        repair: Repair<O::Span>,
    ) {
        if repair.named() > MAX_NAMED {
            return self.fault(ground, "a word that names too many broadcasts");
        }
        match repair {
            Repair::Offer { span, known } => self.on_offer(ground, from, &span, &known),
            Repair::Ask(lacking) => self.on_ask(ground, from, &lacking),
        }
    }

    /// A neighbour has these: what is missing here is asked for, once it had time to come by itself.
    fn on_offer(
        &mut self,
        ground: &mut Ground<'_, O>,
        from: Peer,
        span: &O::Span,
        known: &[Known],
    ) {
        let (me, now) = (self.me, ground.now);
        for of in known.iter().filter(|of| of.origin != me) {
            for (number, age) in &of.numbers {
                let age = Duration::from_millis(u64::from(*age));
                let name = (of.origin, of.incarnation, *number);
                let is_history = self.address.is_none() || now.since(self.spreads.placed) < age;
                if is_history || *number >= LAST_NUMBER || self.has_seen(&name) {
                    continue;
                }
                let source = (from, span.clone());
                let due = now + GRACE.saturating_sub(age) + self.suppression(ground);
                let at = Time::from_micros(now.as_micros().saturating_sub(age.as_micros() as u64));
                self.recent(ground).want(name, source, at, due);
            }
        }
        self.ask_around(ground);
    }

    /// How much longer this peer waits, for another along the same cut to ask (the timers of Nonnenmacher
    /// and Biersack, "Scalable feedback for large groups", ToN 1999).
    fn suppression(&self, ground: &mut Ground<'_, O>) -> Duration {
        if ground.overlay.is_structured() {
            return Duration::ZERO;
        }
        let draws = (0..DRAWS).map(|_| ground.random.between(Duration::ZERO, SUPPRESSION));
        draws.max().unwrap_or_default()
    }

    /// A neighbour lacks these: it gets those that are kept.
    fn on_ask(&mut self, ground: &mut Ground<'_, O>, from: Peer, lacking: &[Lacking]) {
        self.wish(ground, Wish::Graft(from));
        for of in lacking {
            for number in &of.numbers {
                let name = (of.origin, of.incarnation, *number);
                let Some(recent) = &mut self.spreads.recent else {
                    return;
                };
                let Some(kept) = recent.find(&name) else {
                    continue;
                };
                let copy = Envelope {
                    flow: Arc::clone(&kept.flow),
                    sequence: kept.number,
                    hops: kept.hops.saturating_add(1),
                    is_traced: false,
                    cast: Cast::Kept,
                    payload: kept.payload.clone(),
                };
                if recent.may_serve(ground.now, copy.payload.len()) {
                    self.counters.spread += 1;
                    self.hand_over(ground, from, copy);
                }
            }
        }
    }

    /// A copy of a broadcast that this peer asked for.
    pub(super) fn on_kept(
        &mut self,
        ground: &mut Ground<'_, O>,
        from: Peer,
        envelope: &Envelope<O>,
    ) {
        let flow = &envelope.flow;
        let name = (flow.origin, flow.incarnation, envelope.sequence);
        if !flow.is_broadcast() || flow.origin == self.me || envelope.sequence >= LAST_NUMBER {
            return self.fault(ground, "a copy of what is no broadcast");
        }
        if self.has_seen(&name) {
            self.counters.duplicates += 1;
            self.counters.spread_twice += 1;
            return;
        }
        let recent = self.spreads.recent.as_mut();
        let Some(recent) = recent.filter(|recent| recent.is_awaited(&name)) else {
            return self.fault(ground, "a copy that nobody asked for");
        };
        let want = recent.found(&name);
        self.is_new(ground, name);
        self.counters.repaired += 1;
        let (sources, at) = want.map_or_else(Default::default, |want| (want.sources, want.at));
        let source = sources.iter().find(|(peer, _)| *peer == from).cloned();
        self.take(ground, envelope, source);
        self.recent(ground).keep(envelope, Some(from), at);
        if !ground.overlay.is_structured() {
            // The tree was broken here only: beyond, its links are whole.
            let span = ground.overlay.span(Reach::All);
            self.spread(ground, envelope, &span, Up::Neighbour(from), 1);
        } else if !sources.is_empty() && envelope.hops < HOP_LIMIT {
            self.recent(ground).passing.push((name, sources));
        }
        self.tick(ground);
    }

    /// What is to be done a little later; says whether anything is left.
    pub(super) fn repair_spreads(&mut self, ground: &mut Ground<'_, O>) -> bool {
        self.pass_on(ground);
        self.ask_around(ground);
        self.release_overdue(ground);
        let recent = self.spreads.recent.as_ref();
        recent.is_some_and(|recent| recent.is_busy())
    }

    /// Offers on what came late, but not to those who have it.
    fn pass_on(&mut self, ground: &mut Ground<'_, O>) {
        let Some(recent) = &mut self.spreads.recent else {
            return;
        };
        let mut offers = Offers::new();
        let copies = &mut self.spreads.copies;
        for (name, sources) in std::mem::take(&mut recent.passing) {
            let Some(kept) = recent.find(&name) else {
                continue;
            };
            for (_, span) in &sources {
                ground.overlay.fan_out(span, flow_hash(&kept.flow), copies);
            }
            for (peer, span) in copies.drain(..) {
                if !sources.iter().any(|(source, _)| *source == peer) {
                    offers.add(peer, span, kept, ground.now);
                }
            }
        }
        self.offer(ground, offers);
    }

    pub(super) fn offer(&mut self, ground: &mut Ground<'_, O>, offers: Offers<O::Span>) {
        for (peer, span, known) in offers.into_iter() {
            let offer = Repair::Offer { span, known };
            self.counters.offered += offer.named() as u64;
            ground
                .out
                .push(Output::Send(peer, Lane::Control, Frame::Repair(offer)));
        }
    }

    /// Asks for what is missing, each time one neighbour for each broadcast.
    fn ask_around(&mut self, ground: &mut Ground<'_, O>) {
        let Some(recent) = &mut self.spreads.recent else {
            return;
        };
        let (asks, missed) = recent.ask(ground.now, PATIENCE);
        let is_busy = recent.is_busy();
        self.counters.missed += missed;
        for (peer, lacking) in asks {
            let ask = Repair::Ask(lacking);
            self.counters.asked += ask.named() as u64;
            self.wish(ground, Wish::Graft(peer));
            ground
                .out
                .push(Output::Send(peer, Lane::Control, Frame::Repair(ask)));
        }
        if is_busy {
            self.tick(ground);
        }
    }

    /// Forgets the broadcasts that are recent no more, and everything once there is none.
    pub(super) fn forget_broadcasts(&mut self, ground: &mut Ground<'_, O>) {
        let now = ground.now;
        let Some(recent) = &mut self.spreads.recent else {
            return;
        };
        recent.retain(|kept| now.since(kept.at) < KEPT_FOR);
        match recent.rest(now) {
            Some(rest) => ground.after(rest.max(LEAST_REST), Tick::Forget),
            None => self.spreads.recent = None,
        }
    }
}

/// The linked neighbours, by handle.
fn linked<O: Overlay>(overlay: &O) -> Vec<Peer> {
    let mut table = Vec::new();
    overlay.neighbours(&mut table);
    let linked = table.into_iter().filter(|neighbour| neighbour.linked);
    let mut linked = linked.map(|neighbour| neighbour.peer).collect::<Vec<_>>();
    linked.sort_unstable_by_key(|peer| peer.0);
    linked.shrink_to_fit();
    linked
}

fn contains(sorted: &[Peer], peer: Peer) -> bool {
    sorted.binary_search_by_key(&peer.0, |it| it.0).is_ok()
}
