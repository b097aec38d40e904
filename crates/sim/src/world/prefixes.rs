//! Peers by the digits of their points: what prefix tables are built from and held against.

use ringweave_ids::{Peer, Point};
use ringweave_overlay::{Contact, Slot};

/// Most values of a digit.
const BASE: usize = 16;

/// Peers in the order of their points.
pub(crate) struct Prefixes {
    sorted: Vec<Contact>,
    /// Bits of a digit, 1, 2 or 4.
    bits: u32,
}

/// All peers that share a prefix, and how they go on.
pub(crate) struct Group<'a> {
    /// How many digits they share.
    pub(crate) row: u8,
    /// The peers by their next digit.
    columns: [&'a [Contact]; BASE],
}

impl Prefixes {
    /// These peers, by digits of so many bits.
    pub(crate) fn of(peers: impl IntoIterator<Item = Contact>, bits: u8) -> Self {
        let mut sorted: Vec<_> = peers.into_iter().collect();
        sorted.sort_unstable_by_key(|it| it.point);
        let bits = u32::from(bits);
        Self { sorted, bits }
    }

    pub(crate) fn has(&self, contact: Contact) -> bool {
        let at = self
            .sorted
            .binary_search_by_key(&contact.point, |it| it.point);
        at.is_ok_and(|at| self.sorted[at].peer == contact.peer)
    }

    /// How many slots somebody belongs into, by the handle of whose table it is.
    pub(crate) fn slots(&self) -> Vec<u32> {
        let handles = self.sorted.iter().map(|it| it.peer.0 as usize + 1);
        let mut slots = vec![0; handles.max().unwrap_or(0)];
        self.each_group(&mut |group| {
            group.each_slot(|peer, _, _| slots[peer.0 as usize] += 1);
        });
        slots
    }

    /// Shows every group of two peers and more, those that share less first.
    pub(crate) fn each_group<'a>(&'a self, see: &mut dyn FnMut(&Group<'a>)) {
        visit(&self.sorted, self.bits, 0, see);
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

fn visit<'a>(peers: &'a [Contact], bits: u32, row: u8, see: &mut dyn FnMut(&Group<'a>)) {
    let digit = |contact: &Contact| contact.point.digit(u32::from(row), bits);
    if peers.len() < 2 || u32::from(row) >= Point::BITS / bits {
        return;
    }
    let mut columns: [&[Contact]; BASE] = [&[]; BASE];
    for members in peers.chunk_by(|one, other| digit(one) == digit(other)) {
        columns[usize::from(digit(&members[0]))] = members;
    }
    see(&Group { row, columns });
    for members in columns {
        visit(members, bits, row + 1, see);
    }
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
        Prefixes::of(peers, 4).each_group(&mut |group| {
            groups += 1;
            group.each_slot(|peer, slot, _| slots.push((peer.0, slot.row, slot.column)));
        });
        let mine: Vec<_> = slots.iter().filter(|it| it.0 == 0x3a70).collect();
        assert_eq!(mine, [&(0x3a70, 0, 4), &(0x3a70, 1, 11), &(0x3a70, 3, 15)]);
        assert_eq!(groups, 4);
        assert_eq!(Prefixes::of(peers, 4).slots()[0x3a70], 3);
    }
}
