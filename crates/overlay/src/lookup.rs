//! The iterative lookup: whoever asks goes to the target itself, a few questions at a time, each put
//! to the nearest peer that it has heard of, until the nearest have all answered.
//!
//! ```text
//! asker ──> a ──> its nearest: d, e       alpha questions under way at a time
//!       ──> b ──> its nearest: e, f       over once the k nearest of all heard of have answered
//! ```
//!
//! Maymounkov and Mazieres, "Kademlia", IPTPS 2002, section 2.3; over disjoint paths: Baumgart and
//! Mies, "S/Kademlia", ICPADS 2007, section 4.4. It asks nobody itself: its owner does, and says what
//! came of it. Nearness is any metric of two points.

use ringweave_ids::{Peer, Point};

use crate::Contact;

/// Peers remembered in one lookup, the nearest: an answer names 64 at the most.
const ROOM: usize = 256;

/// How far a point is from a target.
pub(crate) type Metric = fn(Point, Point) -> u128;

/// How wide a lookup is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Width {
    /// How many of the nearest are looked for (the paper's *k*).
    pub(crate) closest: usize,
    /// Questions under way at a time, on each path (*alpha*).
    pub(crate) at_once: usize,
    /// Paths that share no peer (*d*), from 1.
    pub(crate) paths: u8,
}

/// A lookup under way.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    target: Point,
    metric: Metric,
    width: Width,
    /// Nearest first.
    seen: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    contact: Contact,
    path: u8,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Asked,
    Answered,
    Failed,
}

impl Lookup {
    /// A lookup that begins with the peers known already; with several paths, each gets its share.
    pub(crate) fn new(
        target: Point,
        metric: Metric,
        width: Width,
        known: impl IntoIterator<Item = Contact>,
    ) -> Self {
        let seen = Vec::new();
        let mut lookup = Self {
            target,
            metric,
            width,
            seen,
        };
        for contact in known {
            lookup.add(contact, 0);
        }
        for (candidate, path) in lookup.seen.iter_mut().zip((0..width.paths.max(1)).cycle()) {
            candidate.path = path;
        }
        lookup
    }

    const fn target(&self) -> Point {
        self.target
    }

    /// Whom to ask now, if anybody; who is given counts as asked.
    pub(crate) fn next(&mut self) -> Option<Contact> {
        for path in 0..self.width.paths.max(1) {
            let is_asked = |it: &&Candidate| it.path == path && it.state == State::Asked;
            if self.seen.iter().filter(is_asked).count() >= self.width.at_once.max(1) {
                continue;
            }
            let mut nearest = self.nearest_on(path);
            if let Some(at) = nearest.find(|at| self.seen[*at].state == State::Fresh) {
                drop(nearest);
                self.seen[at].state = State::Asked;
                return Some(self.seen[at].contact);
            }
        }
        None
    }

    /// Who was asked answered with these.
    pub(crate) fn answered(&mut self, by: Peer, found: impl IntoIterator<Item = Contact>) {
        let by = self.seen.iter_mut().find(|it| it.contact.peer == by);
        let path = by.map_or(0, |it| {
            it.state = State::Answered;
            it.path
        });
        for contact in found {
            self.add(contact, path);
        }
    }

    /// Who was asked does not answer.
    pub(crate) fn failed(&mut self, peer: Peer) {
        if let Some(it) = self.seen.iter_mut().find(|it| it.contact.peer == peer) {
            it.state = State::Failed;
        }
    }

    /// Whether the nearest have all answered, on each path.
    pub(crate) fn is_over(&self) -> bool {
        (0..self.width.paths.max(1)).all(|path| {
            let mut nearest = self.nearest_on(path);
            nearest.all(|at| self.seen[at].state == State::Answered)
        })
    }

    /// The nearest that answered, nearest first.
    pub(crate) fn closest(&self) -> impl Iterator<Item = Contact> {
        let answered = self.seen.iter().filter(|it| it.state == State::Answered);
        let closest = answered.map(|it| it.contact);
        closest.take(self.width.closest)
    }

    /// All that it has heard of.
    fn iter(&self) -> impl Iterator<Item = Peer> {
        self.seen.iter().map(|it| it.contact.peer)
    }

    /// The places of the nearest of a path, without those that failed.
    fn nearest_on(&self, path: u8) -> impl Iterator<Item = usize> {
        let is_meant = move |it: &Candidate| it.path == path && it.state != State::Failed;
        let meant = self.seen.iter().enumerate();
        let meant = meant.filter(move |(_, it)| is_meant(it));
        meant.map(|(at, _)| at).take(self.width.closest)
    }

    /// A peer was heard of; who is known stays on the path where it was heard of first.
    fn add(&mut self, contact: Contact, path: u8) {
        let distance = (self.metric)(contact.point, self.target);
        let is_nearer = |it: &Candidate| (self.metric)(it.contact.point, self.target) < distance;
        let at = self.seen.partition_point(is_nearer);
        let is_known = self.seen.get(at).is_some_and(|it| it.contact == contact);
        if is_known || at >= ROOM {
            return;
        }
        self.seen.truncate(ROOM - 1);
        let state = State::Fresh;
        self.seen.insert(
            at,
            Candidate {
                contact,
                path,
                state,
            },
        );
    }
}

/// The lookups of one peer, by number, each with what it is for.
#[derive(Clone, Debug)]
pub(crate) struct Lookups<P> {
    last: u32,
    open: Vec<Open<P>>,
}

#[derive(Clone, Debug)]
struct Open<P> {
    number: u32,
    purpose: P,
    lookup: Lookup,
}

impl<P> Default for Lookups<P> {
    fn default() -> Self {
        Self {
            last: 0,
            open: Vec::new(),
        }
    }
}

impl<P> Lookups<P> {
    pub(crate) const fn len(&self) -> usize {
        self.open.len()
    }

    /// Begins one, and numbers it.
    pub(crate) fn begin(&mut self, purpose: P, lookup: Lookup) -> u32 {
        self.last = self.last.wrapping_add(1);
        let number = self.last;
        self.open.push(Open {
            number,
            purpose,
            lookup,
        });
        number
    }

    /// Whom this one asks now, if anybody, and for what; who is given counts as asked.
    pub(crate) fn next(&mut self, number: u32) -> Option<(Contact, Point)> {
        let lookup = self.lookup(number)?;
        Some((lookup.next()?, lookup.target()))
    }

    /// Who was asked answered with these.
    pub(crate) fn answered(
        &mut self,
        number: u32,
        by: Peer,
        found: impl IntoIterator<Item = Contact>,
    ) {
        if let Some(lookup) = self.lookup(number) {
            lookup.answered(by, found);
        }
    }

    /// Who was asked does not answer.
    pub(crate) fn failed(&mut self, number: u32, peer: Peer) {
        if let Some(lookup) = self.lookup(number) {
            lookup.failed(peer);
        }
    }

    /// Ends one whose nearest have all answered.
    pub(crate) fn end_if_over(&mut self, number: u32) -> Option<(P, Lookup)> {
        self.lookup(number).filter(|lookup| lookup.is_over())?;
        self.end(number)
    }

    /// Ends one, over or not.
    pub(crate) fn end(&mut self, number: u32) -> Option<(P, Lookup)> {
        let at = self.open.iter().position(|it| it.number == number)?;
        let open = self.open.remove(at);
        if self.open.is_empty() {
            self.open = Vec::new();
        }
        Some((open.purpose, open.lookup))
    }

    /// What they are for.
    pub(crate) fn purposes(&self) -> impl Iterator<Item = &P> {
        self.open.iter().map(|it| &it.purpose)
    }

    /// All that they have heard of.
    pub(crate) fn peers(&self) -> impl Iterator<Item = Peer> {
        self.open.iter().flat_map(|it| it.lookup.iter())
    }

    fn lookup(&mut self, number: u32) -> Option<&mut Lookup> {
        let open = self.open.iter_mut().find(|it| it.number == number);
        open.map(|it| &mut it.lookup)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use ringweave_ids::Random;

    use super::*;

    fn contact(value: u32) -> Contact {
        Contact {
            point: Point::new(u128::from(value)),
            peer: Peer(value),
        }
    }

    fn width(closest: usize, at_once: usize, paths: u8) -> Width {
        Width {
            closest,
            at_once,
            paths,
        }
    }

    fn lookup(width: Width, known: &[u32]) -> Lookup {
        let known = known.iter().map(|it| contact(*it));
        Lookup::new(Point::new(0), Point::xor, width, known)
    }

    fn asked(lookup: &mut Lookup) -> Vec<u32> {
        std::iter::from_fn(|| lookup.next())
            .map(|it| it.peer.0)
            .collect()
    }

    #[test]
    fn the_nearest_are_asked_and_no_more_than_alpha_at_once() {
        let mut lookup = lookup(width(4, 2, 1), &[9, 3, 7, 5]);
        assert_eq!(asked(&mut lookup), [3, 5]);
        lookup.answered(Peer(5), [contact(1), contact(8)]);
        assert_eq!(asked(&mut lookup), [1]);
    }

    #[test]
    fn it_is_over_when_the_nearest_have_answered_and_those_that_failed_do_not_count() {
        let mut lookup = lookup(width(2, 3, 1), &[1, 2, 3, 4]);
        assert_eq!(asked(&mut lookup), [1, 2]);
        lookup.answered(Peer(1), []);
        lookup.failed(Peer(2));
        assert!(!lookup.is_over());
        assert_eq!(asked(&mut lookup), [3]);
        lookup.answered(Peer(3), [contact(1), contact(2)]);
        assert!(lookup.is_over());
        let closest: Vec<_> = lookup.closest().map(|it| it.peer.0).collect();
        assert_eq!(closest, [1, 3]);
    }

    #[test]
    fn paths_share_no_peer() {
        let mut lookup = lookup(width(2, 1, 2), &[8, 9]);
        assert_eq!(asked(&mut lookup), [8, 9]);
        lookup.answered(Peer(8), [contact(2), contact(3)]);
        lookup.answered(Peer(9), [contact(2), contact(4)]);
        // 2 is on the path of 8, so 9 leads to 4.
        assert_eq!(asked(&mut lookup), [2, 4]);
    }

    proptest! {
        /// S/Kademlia, section 4.4: whoever answers what in whatever order, each peer is asked once, on
        /// the path on which it was heard of first, and every path ends.
        #[test]
        fn several_paths_never_share_a_peer(
            known in prop::collection::vec(1..400_u32, 1..20),
            answers in prop::collection::vec(prop::collection::vec(1..400_u32, 0..24), 1..40),
            paths in 2..5_u8,
            seed: u64,
        ) {
            let mut random = Random::new(seed);
            let mut lookup = lookup(width(4, 2, paths), &known);
            let mut path_of = BTreeMap::new();
            let mut open = Vec::new();
            loop {
                while let Some(asked) = lookup.next() {
                    let place = lookup.seen.iter().find(|it| it.contact == asked);
                    let path = place.expect("it is known").path;
                    prop_assert_eq!(path_of.insert(asked.peer.0, path), None, "asked twice");
                    open.push(asked.peer);
                }
                for candidate in &lookup.seen {
                    let path = path_of.get(&candidate.contact.peer.0);
                    prop_assert!(path.is_none_or(|path| *path == candidate.path));
                }
                for path in 0..paths {
                    let at_once = open.iter().filter(|it| path_of[&it.0] == path).count();
                    prop_assert!(at_once <= 2);
                }
                if open.is_empty() {
                    break;
                }
                let peer = open.swap_remove(random.below(open.len()));
                match random.below(5) {
                    0 => lookup.failed(peer),
                    _ => {
                        let found = &answers[peer.0 as usize % answers.len()];
                        lookup.answered(peer, found.iter().map(|it| contact(*it)));
                    }
                }
            }
            prop_assert!(lookup.is_over());
        }
    }

    #[test]
    fn nobody_known_is_the_end_of_it() {
        assert!(lookup(width(2, 1, 2), &[]).is_over());
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut lookup = lookup(width(2, 1, 1), &[]);
        lookup.answered(Peer(0), (1..1_000).rev().map(contact));
        assert_eq!(lookup.iter().count(), ROOM);
        assert_eq!(lookup.iter().next(), Some(Peer(1)));
    }
}
