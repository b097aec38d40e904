//! The leaves of a superpeer, in the order in which they came.

use ringweave_ids::{Peer, Point};

use crate::Contact;

/// A leaf, as a superpeer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) contact: Contact,
    /// Which of the leaf's superpeers this one is: 0 for the first.
    pub(super) rank: u8,
    /// Others can dial it, as far as it knows, and it was not asked in vain to be a superpeer.
    pub(super) is_open: bool,
}

/// All leaves whose connections stand, the longest-standing first.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaves(Vec<Leaf>);

impl Leaves {
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a leaf in, or notes that it takes this superpeer for another one than before; whether
    /// either is news.
    pub(super) fn admit(&mut self, leaf: Leaf) -> bool {
        let known = self.0.iter_mut().find(|it| it.contact == leaf.contact);
        match known {
            Some(known) => {
                let is_news = known.rank != leaf.rank;
                known.rank = leaf.rank;
                is_news
            }
            None => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(8);
                }
                self.0.push(leaf);
                true
            }
        }
    }

    /// Takes a leaf out; whether it was there.
    pub(super) fn remove(&mut self, peer: Peer) -> bool {
        let before = self.0.len();
        self.0.retain(|it| it.contact.peer != peer);
        self.0.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// The leaf at a point.
    pub(super) fn at(&self, point: Point) -> Option<Contact> {
        let mut leaves = self.iter().map(|it| it.contact);
        leaves.find(|it| it.point == point)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Leaf> {
        self.0.iter()
    }

    /// Those whose first superpeer this one is.
    pub(super) fn own(&self) -> impl Iterator<Item = Contact> {
        let own = self.0.iter().filter(|it| it.rank == 0);
        own.map(|it| it.contact)
    }

    /// Who is asked next to be a superpeer: of the own leaves the longest-standing that others can
    /// dial. It is not asked again.
    pub(super) fn choose(&mut self) -> Option<Contact> {
        let mut own = self.0.iter_mut().filter(|it| it.rank == 0 && it.is_open);
        let chosen = own.next()?;
        chosen.is_open = false;
        Some(chosen.contact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(value: u128, rank: u8, is_open: bool) -> Leaf {
        let contact = Contact {
            point: Point::new(value),
            peer: Peer(value as u32),
        };
        Leaf {
            contact,
            rank,
            is_open,
        }
    }

    #[test]
    fn the_longest_standing_own_leaf_that_can_be_dialled_is_chosen_once() {
        let mut leaves = Leaves::default();
        for (value, rank, is_open) in [(9, 1, true), (4, 0, false), (7, 0, true), (2, 0, true)] {
            assert!(leaves.admit(leaf(value, rank, is_open)));
        }
        let mut chosen = || leaves.choose().map(|it| it.peer.0);
        assert_eq!((chosen(), chosen(), chosen()), (Some(7), Some(2), None));
    }

    #[test]
    fn a_leaf_is_held_once_and_its_rank_changes() {
        let mut leaves = Leaves::default();
        assert!(leaves.admit(leaf(4, 1, true)) && !leaves.admit(leaf(4, 1, true)));
        assert_eq!(leaves.own().count(), 0);
        assert!(leaves.admit(leaf(4, 0, true)));
        assert_eq!((leaves.own().count(), leaves.len()), (1, 1));
        assert!(leaves.remove(Peer(4)) && !leaves.remove(Peer(4)));
    }
}
