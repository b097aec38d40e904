//! The hub's roster: its spokes by point, and who of them would be hub next.

use ringweave_ids::{Peer, Point, Random};

use crate::Contact;

/// The rank of the first spoke that has not stood in before.
const NEWCOMERS: u64 = 1_024;

/// A spoke, as its hub knows it.
#[derive(Clone, Copy, Debug)]
struct Spoke {
    contact: Contact,
    /// Who came earlier has the lower one.
    rank: u64,
    /// Others can dial it, as far as it knows.
    is_open: bool,
}

/// All spokes whose connections stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    /// In order of their points.
    spokes: Vec<Spoke>,
    /// Who stood in before this hub took over, first in line first: they keep their standing.
    elders: Vec<Peer>,
    admitted: u64,
}

impl Roster {
    pub(super) const fn len(&self) -> usize {
        self.spokes.len()
    }

    /// An empty roster that remembers the line of the hub before.
    pub(super) fn after(line: &[Contact]) -> Self {
        let elders = line.iter().map(|it| it.peer).collect();
        Self {
            elders,
            ..Self::default()
        }
    }

    /// Takes a spoke in, or its newer word about itself; whether it is new.
    pub(super) fn admit(&mut self, contact: Contact, is_open: bool) -> bool {
        match self.find(contact.point) {
            Ok(at) => {
                self.spokes[at].is_open = is_open;
                false
            }
            Err(at) => {
                let elder = self.elders.iter().position(|it| *it == contact.peer);
                self.admitted += 1;
                let newcomer = NEWCOMERS + self.admitted;
                let rank = elder.map_or(newcomer, |place| place as u64);
                let spoke = Spoke {
                    contact,
                    rank,
                    is_open,
                };
                self.spokes.insert(at, spoke);
                true
            }
        }
    }

    /// Takes a spoke out; whether it was there.
    pub(super) fn remove(&mut self, point: Point) -> bool {
        let found = self.find(point);
        if let Ok(at) = found {
            self.spokes.remove(at);
        }
        found.is_ok()
    }

    /// The spoke at a point.
    pub(super) fn at(&self, point: Point) -> Option<Contact> {
        let at = self.find(point).ok()?;
        Some(self.spokes[at].contact)
    }

    /// Any spoke.
    pub(super) fn draw(&self, random: &mut Random) -> Option<Peer> {
        random.pick(&self.spokes).map(|it| it.contact.peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Contact> {
        self.spokes.iter().map(|it| it.contact)
    }

    pub(super) fn uses(&self) -> impl Iterator<Item = Peer> {
        let spokes = self.iter().map(|it| it.peer);
        spokes.chain(self.elders.iter().copied())
    }

    /// The first `n` in line: those that others can dial, the longest-standing first. `O(N log n)`.
    pub(super) fn line(&self, n: usize) -> Vec<Contact> {
        let mut line: Vec<&Spoke> = Vec::with_capacity(n + 1);
        for spoke in self.spokes.iter().filter(|it| it.is_open) {
            let at = line.partition_point(|it| it.rank < spoke.rank);
            if at < n {
                line.insert(at, spoke);
                line.truncate(n);
            }
        }
        line.iter().map(|it| it.contact).collect()
    }

    /// The `n` spokes nearest to a point, nearest first.
    pub(super) fn nearest(&self, point: Point, n: usize) -> Vec<Peer> {
        let count = self.spokes.len();
        let start = self.find(point).unwrap_or_else(|at| at);
        let reach = n.min(count);
        // The n before and the n after the point, round the circle, hold the n nearest.
        let near = (0..2 * reach).map(|step| (start + count + step - reach) % count.max(1));
        let mut near: Vec<_> = near.map(|at| self.spokes[at].contact).collect();
        near.sort_by_key(|it| (it.point.apart(point), it.point));
        near.dedup();
        near.truncate(n);
        near.iter().map(|it| it.peer).collect()
    }

    fn find(&self, point: Point) -> Result<usize, usize> {
        self.spokes
            .binary_search_by_key(&point, |it| it.contact.point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(value: u128) -> Contact {
        Contact {
            point: Point::new(value),
            peer: Peer(value as u32),
        }
    }

    fn peers(line: &[Contact]) -> Vec<u32> {
        line.iter().map(|it| it.peer.0).collect()
    }

    #[test]
    fn the_longest_standing_that_can_be_dialled_are_first_in_line() {
        let mut roster = Roster::default();
        for (value, is_open) in [(9, true), (2, false), (7, true), (1, true), (4, true)] {
            assert!(roster.admit(contact(value), is_open));
        }
        assert_eq!(peers(&roster.line(3)), [9, 7, 1]);
        assert!(roster.remove(Point::new(7)) && !roster.remove(Point::new(7)));
        assert!(!roster.admit(contact(2), true));
        assert_eq!(peers(&roster.line(3)), [9, 2, 1]);
    }

    #[test]
    fn who_stood_in_before_keeps_its_standing() {
        let mut roster = Roster::after(&[contact(5), contact(3)]);
        for value in [8, 3, 5] {
            roster.admit(contact(value), true);
        }
        assert_eq!(peers(&roster.line(2)), [5, 3]);
    }

    #[test]
    fn the_nearest_are_found_on_both_sides_and_round_the_circle() {
        let mut roster = Roster::default();
        for value in [10, 20, 30, 1_000] {
            roster.admit(contact(value), true);
        }
        let nearest = |value, n| {
            let found = roster.nearest(Point::new(value), n);
            found.iter().map(|it| it.0).collect::<Vec<_>>()
        };
        assert_eq!(nearest(21, 2), [20, 30]);
        assert_eq!(nearest(u128::MAX, 1), [10]);
        assert_eq!(nearest(500, 9), [30, 20, 10, 1_000]);
        assert_eq!(Roster::default().nearest(Point::new(1), 3), []);
    }
}
