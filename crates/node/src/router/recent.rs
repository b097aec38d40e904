//! Broadcasts of the last minute, kept for neighbours that missed them, and those missed here.
//!
//! A peer without recent broadcasts has none of this.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ringweave_ids::{Peer, Time};
use ringweave_overlay::{Overlay, Reach, Target};
use smallvec::SmallVec;

use super::{order::Held, spread::Name};
use crate::{Envelope, Flow, Known, Lacking, MAX_NAMED};

/// How long a broadcast is kept: longer than an orphaned branch takes to find its way back.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(60);
/// Broadcasts kept: as many as one offer names.
const KEPT: usize = MAX_NAMED;
/// Payload bytes kept: as many messages of 8 KiB.
const KEPT_BYTES: usize = 2 << 20;
/// Missed broadcasts that are looked for at once: as many as one offer names.
const WANTS: usize = MAX_NAMED;
/// Neighbours that are remembered as having one missed broadcast.
const SOURCES: usize = 4;
/// Broadcasts that were asked for and have not come: those looked for, and as many again of those
/// given up, whose answers may still be on their way.
const ASKED: usize = 2 * WANTS;
/// Payload bytes handed out to those who ask, in any second: every neighbour of a large ring may
/// lack the same message.
const SERVED_BYTES: usize = 16 << 20;

/// What a peer knows of recent broadcasts.
pub(super) struct Recent<O: Overlay> {
    kept: VecDeque<Kept<O::Address>>,
    kept_bytes: usize,
    /// Linked neighbours, by handle, as of the last comparison: who came later may lack something.
    pub(super) linked: Vec<Peer>,
    /// Whether this peer has moved since: every neighbour may lack something.
    pub(super) is_moved: bool,
    /// Whether a comparison is due.
    pub(super) is_comparing: bool,
    wants: BTreeMap<Name, Want<O::Span>>,
    /// What was asked for and has not come, the oldest first.
    asked: VecDeque<Name>,
    /// Broadcasts that came late, and have not been offered on.
    pub(super) passing: Vec<(Name, Sources<O::Span>)>,
    pub(super) held: Vec<Held>,
    pub(super) held_bytes: usize,
    /// What own broadcasts to everyone share, and for which epoch it was built.
    pub(super) own: Option<(u32, Arc<Flow<O::Address>>)>,
    served: (Time, usize),
}

/// Neighbours that have a broadcast, and what each thinks is still to be covered from here on.
pub(super) type Sources<S> = SmallVec<[(Peer, S); 1]>;

/// A recent broadcast.
pub(super) struct Kept<A> {
    pub(super) flow: Arc<Flow<A>>,
    pub(super) number: u64,
    pub(super) hops: u8,
    pub(super) payload: Bytes,
    /// The neighbour it came from, while that one is linked.
    pub(super) from: Option<Peer>,
    /// Since when it is known to have been on its way.
    pub(super) at: Time,
}

/// A broadcast that is missed here.
pub(super) struct Want<S> {
    /// Who has it, in the order to ask.
    pub(super) sources: Sources<S>,
    /// How many of them have been asked.
    asked: usize,
    /// When the next one is.
    due: Time,
    /// Since when it is known to have been on its way.
    pub(super) at: Time,
}

impl<A> Kept<A> {
    pub(super) fn name(&self) -> Name {
        (self.flow.origin, self.flow.incarnation, self.number)
    }

    /// Whom it is for, as seen from a peer that has it.
    pub(super) fn reach(&self) -> Reach {
        match self.flow.target {
            Target::Prefix(_) => Reach::Below,
            _ => Reach::All,
        }
    }
}

impl<S> Want<S> {
    /// Drops a source; if its answer is awaited, the next one is asked at `due` instead.
    fn forget(&mut self, place: usize, due: Time) {
        self.sources.remove(place);
        if place < self.asked {
            self.asked -= 1;
            if place == self.asked {
                self.due = due;
            }
        }
    }
}

impl<O: Overlay> Recent<O> {
    pub(super) fn new(linked: Vec<Peer>) -> Self {
        Self {
            kept: VecDeque::new(),
            kept_bytes: 0,
            linked,
            is_moved: false,
            is_comparing: false,
            wants: BTreeMap::new(),
            asked: VecDeque::new(),
            passing: Vec::new(),
            held: Vec::new(),
            held_bytes: 0,
            own: None,
            served: (Time::ZERO, 0),
        }
    }

    /// Appends every handle kept.
    pub(super) fn uses(&self, used: &mut Vec<Peer>) {
        used.extend(&self.linked);
        used.extend(self.kept.iter().filter_map(|kept| kept.from));
        let passing = self.passing.iter().map(|(_, sources)| sources);
        let wanted = self.wants.values().map(|want| &want.sources);
        used.extend(passing.chain(wanted).flatten().map(|(peer, _)| *peer));
    }

    pub(super) fn keep(&mut self, envelope: &Envelope<O>, from: Option<Peer>, at: Time) {
        self.kept_bytes += envelope.payload.len();
        if self.kept.capacity() == 0 {
            // Many peers see one broadcast in all this time.
            self.kept.reserve_exact(1);
        }
        self.kept.push_back(Kept {
            flow: Arc::clone(&envelope.flow),
            number: envelope.sequence,
            hops: envelope.hops,
            payload: envelope.payload.clone(),
            from,
            at,
        });
        while self.kept.len() > KEPT || self.kept_bytes > KEPT_BYTES {
            let gone = self.kept.pop_front();
            self.kept_bytes -= gone.map_or(0, |gone| gone.payload.len());
        }
    }

    /// What is kept, the oldest first.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Kept<O::Address>> {
        self.kept.iter()
    }

    pub(super) fn find(&self, name: &Name) -> Option<&Kept<O::Address>> {
        self.kept.iter().rev().find(|kept| kept.name() == *name)
    }

    /// Keeps only what `stays`.
    pub(super) fn retain(&mut self, stays: impl Fn(&Kept<O::Address>) -> bool) {
        self.kept.retain(stays);
        self.kept_bytes = self.kept.iter().map(|kept| kept.payload.len()).sum();
    }

    /// What came from a neighbour within the last `span`. It is forgotten that it did.
    pub(super) fn came_from(&mut self, lost: Peer, now: Time, span: Duration) -> Vec<Name> {
        let theirs = self.kept.iter_mut().filter(|kept| kept.from == Some(lost));
        theirs
            .filter_map(|kept| {
                kept.from = None;
                (now.since(kept.at) < span).then(|| kept.name())
            })
            .collect()
    }

    /// How long until what is kept now is recent no more; nothing if all is forgotten.
    pub(super) fn rest(&self, now: Time) -> Option<Duration> {
        let is_idle = self.kept.is_empty()
            && self.wants.is_empty()
            && self.passing.is_empty()
            && self.held.is_empty();
        let latest = self.kept.iter().map(|kept| now.since(kept.at)).min();
        (!is_idle).then(|| KEPT_FOR.saturating_sub(latest.unwrap_or(KEPT_FOR)))
    }

    /// Whether a copy of so many bytes may be handed out now.
    pub(super) fn may_serve(&mut self, now: Time, bytes: usize) -> bool {
        let (since, served) = &mut self.served;
        if now.since(*since) >= Duration::from_secs(1) {
            (*since, *served) = (now, 0);
        }
        *served += bytes;
        *served <= SERVED_BYTES
    }

    /// Whether a broadcast is looked for.
    pub(super) fn is_wanted(&self, name: &Name) -> bool {
        self.wants.contains_key(name)
    }

    /// A neighbour has a broadcast that is missed here; it is asked at `due`, or after others. One
    /// that was asked before it had it is asked again, unless its answer comes.
    pub(super) fn want(&mut self, name: Name, source: (Peer, O::Span), at: Time, due: Time) {
        if !self.wants.contains_key(&name) && self.wants.len() >= WANTS {
            return;
        }
        let want = self.wants.entry(name).or_insert_with(|| Want {
            sources: SmallVec::new(),
            asked: 0,
            due,
            at,
        });
        match want.sources.iter().position(|(peer, _)| *peer == source.0) {
            Some(place) if place >= want.asked => return,
            Some(place) => want.forget(place, want.due),
            None if want.sources.len() >= SOURCES => return,
            None => {}
        }
        want.sources.push(source);
    }

    /// Whether a neighbour was asked for a broadcast that has not come yet.
    pub(super) fn is_awaited(&self, name: &Name) -> bool {
        self.asked.contains(name)
    }

    /// A broadcast came: it is missed no longer.
    pub(super) fn found(&mut self, name: &Name) -> Option<Want<O::Span>> {
        self.asked.retain(|asked| asked != name);
        self.wants.remove(name)
    }

    /// Whether anything is missed, held back, or to be passed on.
    pub(super) fn is_busy(&self) -> bool {
        !self.wants.is_empty() || !self.passing.is_empty() || !self.held.is_empty()
    }

    /// A neighbour that can be asked no longer.
    pub(super) fn forget_source(&mut self, lost: Peer, now: Time) {
        for want in self.wants.values_mut() {
            let place = want.sources.iter().position(|(peer, _)| *peer == lost);
            if let Some(place) = place {
                want.forget(place, now);
            }
        }
    }

    /// Whom to ask for what now, each with `patience` for the answer; and how many broadcasts are
    /// given up, as nobody is left to ask.
    pub(super) fn ask(
        &mut self,
        now: Time,
        patience: Duration,
    ) -> (Vec<(Peer, Vec<Lacking>)>, u64) {
        let (mut asks, before) = (Vec::new(), self.wants.len());
        let asked = &mut self.asked;
        self.wants.retain(|name, want| {
            if want.due > now {
                return true;
            }
            let Some((peer, _)) = want.sources.get(want.asked) else {
                return false;
            };
            want.asked += 1;
            want.due = now + patience;
            if !asked.contains(name) {
                asked.push_back(*name);
            }
            let lacking = of(&mut asks, |(it, _)| it == peer, || (*peer, Vec::new()));
            let is_it = |of: &Lacking| (of.origin, of.incarnation) == (name.0, name.1);
            let lacking = of(&mut lacking.1, is_it, || Lacking {
                origin: name.0,
                incarnation: name.1,
                numbers: Vec::new(),
            });
            lacking.numbers.push(name.2);
            true
        });
        let surplus = asked.len().saturating_sub(ASKED);
        asked.drain(..surplus);
        (asks, (before - self.wants.len()) as u64)
    }
}

/// What is offered to whom, gathered so that each neighbour hears of all at once.
pub(super) struct Offers<S>(Vec<(Peer, S, Vec<Known>)>);

impl<S: PartialEq> Offers<S> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn add<A>(&mut self, to: Peer, span: S, kept: &Kept<A>, now: Time) {
        let place = self
            .0
            .iter()
            .position(|(peer, its, _)| *peer == to && *its == span);
        let place = place.unwrap_or_else(|| {
            self.0.push((to, span, Vec::new()));
            self.0.len() - 1
        });
        let (origin, incarnation, number) = kept.name();
        let is_it = |of: &Known| (of.origin, of.incarnation) == (origin, incarnation);
        let known = of(&mut self.0[place].2, is_it, || Known {
            origin,
            incarnation,
            numbers: Vec::new(),
        });
        let age = now.since(kept.at).as_millis();
        known
            .numbers
            .push((number, u32::try_from(age).unwrap_or(u32::MAX)));
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (Peer, S, Vec<Known>)> {
        self.0.into_iter()
    }
}

/// The item that is the wanted one, from the end; a new one at the end if there is none.
fn of<T>(items: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let place = items.iter().rposition(is_it).unwrap_or_else(|| {
        items.push(new());
        items.len() - 1
    });
    &mut items[place]
}
