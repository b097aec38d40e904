//! Peers by the digits of their points: what prefix tables are built from and held against.

use ringweave_ids::{Peer, Point};
use ringweave_overlay::{Contact, Slot};

/// Bits of a digit.
const BITS: u32 = 4;

/// Values of a digit.
const BASE: usize = 1 << BITS;

/// Peers in the order of their points.
pub(crate) struct Prefixes(Vec<Contact>);

/// All peers that share a prefix, and how they go on.
pub(crate) struct Group<'a> {
    /// How many digits they share.
    pub(crate) row: u8,
    /// The peers by their next digit.
    columns: [&'a [Contact]; BASE],
}

impl Prefixes {
    /// These peers.
    pub(crate) fn of(peers: impl IntoIterator<Item = Contact>) -> Self {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_unstable_by_key(|it| it.point);
        Self(peers)
    }

    pub(crate) fn has(&self, contact: Contact) -> bool {
        let at = self.0.binary_search_by_key(&contact.point, |it| it.point);
        at.is_ok_and(|at| self.0[at].peer == contact.peer)
    }

    /// How many slots somebody belongs into, by the handle of whose table it is.
    pub(crate) fn slots(&self) -> Vec<u32> {
        let handles = self.0.iter().map(|it| it.peer.0 as usize + 1);
        let mut slots = vec![0; handles.max().unwrap_or(0)];
        self.each_group(&mut |group| {
            group.each_slot(|peer, _, _| slots[peer.0 as usize] += 1);
        });
        slots
    }

    /// Shows every group of two peers and more, those that share less first.
    pub(crate) fn each_group<'a>(&'a self, see: &mut dyn FnMut(&Group<'a>)) {
        visit(&self.0, 0, see);
    }
}

impl<'a> Group<'a> {
    /// Each peer, with each slot of its row that somebody belongs into, and all who do.
    pub(crate) fn each_slot(&self, mut see: impl FnMut(Peer, Slot, &'a [Contact])) {
        for (mine, members) in self.columns.iter().enumerate() {
            for member in *members {
                for (column, others) in self.columns.iter().enumerate() {
                    if column != mine && !others.is_empty() {
                        let (row, column) = (self.row, column as u8);
                        see(member.peer, Slot { row, column }, others);
                    }
                }
            }
        }
    }
}

fn visit<'a>(peers: &'a [Contact], row: u8, see: &mut dyn FnMut(&Group<'a>)) {
    if peers.len() < 2 || u32::from(row) >= Point::BITS / BITS {
        return;
    }
    let mut columns: [&[Contact]; BASE] = [&[]; BASE];
    for members in peers.chunk_by(|one, other| digit(one, row) == digit(other, row)) {
        columns[usize::from(digit(&members[0], row))] = members;
    }
    see(&Group { row, columns });
    for members in columns {
        visit(members, row + 1, see);
    }
}

fn digit(contact: &Contact, row: u8) -> u8 {
    contact.point.digit(u32::from(row), BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_prefixes_is_a_slot_once() {
        let contact = |top: u128| Contact {
            point: Point::new(top << 112),
            peer: Peer(top as u32),
        };
        let peers = [0x3a70, 0x3a7f, 0x3b00, 0x4000].map(contact);
        let (mut groups, mut slots) = (0, Vec::new());
        Prefixes::of(peers).each_group(&mut |group| {
            groups += 1;
            group.each_slot(|peer, slot, _| slots.push((peer.0, slot.row, slot.column)));
        });
        let mine: Vec<_> = slots.iter().filter(|it| it.0 == 0x3a70).collect();
        assert_eq!(mine, [&(0x3a70, 0, 4), &(0x3a70, 1, 11), &(0x3a70, 3, 15)]);
        assert_eq!(groups, 4);
        assert_eq!(Prefixes::of(peers).slots()[0x3a70], 3);
    }
}
