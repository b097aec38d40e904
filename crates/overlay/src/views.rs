//! Partial views: a bounded random sample of the network, each peer once.

use ringweave_ids::{Peer, Random};
use smallvec::SmallVec;

use crate::Contact;

/// What a view holds of a peer.
pub(crate) trait Entry: Copy {
    fn peer(&self) -> Peer;
}

impl Entry for Peer {
    fn peer(&self) -> Peer {
        *self
    }
}

impl Entry for Contact {
    fn peer(&self) -> Peer {
        self.peer
    }
}

/// Some peers of a view.
pub(crate) type Drawn = SmallVec<[Peer; 8]>;

/// A view of at most so many peers, in no order that means anything.
#[derive(Clone, Debug)]
pub(crate) struct PartialView<T> {
    room: usize,
    list: Vec<T>,
}

impl<T: Entry> PartialView<T> {
    /// An empty view with room for `room` peers, at least one.
    pub(crate) fn new(room: usize) -> Self {
        let (room, list) = (room.max(1), Vec::new());
        Self { room, list }
    }

    /// How many it takes.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= self.room
    }

    /// How many more it takes.
    pub(crate) fn vacancies(&self) -> usize {
        self.room - self.list.len()
    }

    pub(crate) fn has(&self, peer: Peer) -> bool {
        self.list.iter().any(|it| it.peer() == peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.list.iter().copied()
    }

    /// Adds a peer; gives the one that was drawn to make room, if it took that. One that is there
    /// already changes nothing.
    pub(crate) fn insert(&mut self, entry: T, random: &mut Random) -> Option<T> {
        if self.has(entry.peer()) {
            return None;
        }
        let evicted = self
            .is_full()
            .then(|| self.list.swap_remove(random.below(self.list.len())));
        if self.list.capacity() == 0 {
            self.list.reserve_exact(self.room);
        }
        self.list.push(entry);
        evicted
    }

    /// Adds a peer in the place of the first of `before` that is there, or else of a random one.
    pub(crate) fn replace(&mut self, entry: T, before: &mut Drawn, random: &mut Random) {
        if self.is_full() && !self.has(entry.peer()) {
            while let Some(peer) = before.pop() {
                if self.remove(peer) {
                    break;
                }
            }
        }
        self.insert(entry, random);
    }

    /// Takes a peer out; whether it was there.
    pub(crate) fn remove(&mut self, peer: Peer) -> bool {
        let at = self.list.iter().position(|it| it.peer() == peer);
        at.map(|at| self.list.swap_remove(at)).is_some()
    }

    /// Up to `n` random peers that are `meant`, each once.
    pub(crate) fn draw(
        &self,
        n: usize,
        random: &mut Random,
        is_meant: impl Fn(Peer) -> bool,
    ) -> Drawn {
        let meant = self.list.iter().map(Entry::peer);
        let mut meant: SmallVec<[Peer; 32]> = meant.filter(|peer| is_meant(*peer)).collect();
        random.shuffle(&mut meant, n);
        meant.truncate(n);
        meant.into_iter().collect()
    }

    /// One random peer other than `but`.
    pub(crate) fn any_but(&self, but: Peer, random: &mut Random) -> Option<Peer> {
        self.draw(1, random, |peer| peer != but).pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_never_outgrows_its_room_and_names_nobody_twice() {
        let mut random = Random::new(1);
        let mut view = PartialView::new(5);
        for step in 0..1_000 {
            let peer = Peer(random.below(40) as u32);
            let (was_there, was_full) = (view.has(peer), view.is_full());
            let evicted = view.insert(peer, &mut random);
            assert_eq!(evicted.is_some(), was_full && !was_there, "step {step}");
            assert!(view.has(peer) && view.iter().count() <= 5);
            let mut list: Vec<_> = view.iter().map(|it| it.0).collect();
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), view.iter().count());
        }
    }

    #[test]
    fn who_was_sent_makes_room_first() {
        let mut random = Random::new(2);
        let mut view = PartialView::new(3);
        for peer in 1..=3 {
            view.insert(Peer(peer), &mut random);
        }
        let mut sent = Drawn::from_slice(&[Peer(2), Peer(9)]);
        view.replace(Peer(4), &mut sent, &mut random);
        assert!(view.has(Peer(1)) && !view.has(Peer(2)) && view.has(Peer(3)) && view.has(Peer(4)));
    }

    #[test]
    fn any_peer_is_drawn_but_those_not_meant() {
        let mut random = Random::new(3);
        let mut view = PartialView::new(4);
        for peer in 0..4 {
            view.insert(Peer(peer), &mut random);
        }
        let mut drawn = [0; 4];
        for _ in 0..300 {
            let peer = view.any_but(Peer(2), &mut random).unwrap();
            drawn[peer.0 as usize] += 1;
        }
        assert!(
            drawn[2] == 0 && [0, 1, 3].iter().all(|at| drawn[*at] > 50),
            "{drawn:?}"
        );
        assert_eq!(view.draw(9, &mut random, |_| true).len(), 4);
    }
}
