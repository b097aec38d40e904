//! The prefix table of Pastry and Tapestry: peers by how many digits they share with this one, and by
//! the first digit in which they differ.
//!
//! ```text
//!   me = 3a7…      0    1    2    3    …    a    …    f
//!   row 0          0…   1…   2…   ·    …    a…   …    f…      no digit shared
//!   row 1          30…  31…  32…  33…  …    ·    …    3f…     the first
//!   row 2          3a0… …                                     the first two
//! ```
//!
//! A slot holds a few peers, the nearest by measured round trip first. Only slots that hold somebody
//! take room: one sorted list is the whole table, since point and slot are one.

use std::time::Duration;

use ringweave_ids::{Peer, Point, Random};

use crate::Contact;

/// How long a slot waits for the answer to one question before another peer is asked; twice as long
/// each time.
pub(crate) const REFILL: Duration = Duration::from_millis(1_000);

/// Peers asked for a slot that lost its own; after that it is taken for empty.
pub(crate) const REFILLS: u8 = 4;

/// Hops after which a join is dropped: as many as there are digits, and as many again in rare cases.
pub(crate) const HOP_LIMIT: u8 = 64;

/// The most peers of one list: eight full rows.
pub(crate) const MAX_LISTED: usize = 128;

/// Peers whose round trips are measured for one list: enough to come by the near ones in time.
const MEASURED: usize = 2;

/// A round trip that was never measured.
pub(crate) const UNMEASURED: u32 = u32::MAX;

/// A place in the table: the digits shared, and the first that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// How many leading digits are shared.
    pub row: u8,
    /// The digit after them.
    pub column: u8,
}

/// A peer of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    point: Point,
    peer: Peer,
    /// Its round trip in microseconds.
    pub(crate) trip_us: u32,
}

/// The table of one peer.
#[derive(Clone, Debug)]
pub(crate) struct Digits {
    me: Point,
    /// Bits of a digit.
    bits: u8,
    /// Peers in a slot.
    room: u8,
    /// By slot; within one, nearest first.
    list: Vec<Entry>,
}

impl Entry {
    pub(crate) const fn contact(self) -> Contact {
        Contact {
            point: self.point,
            peer: self.peer,
        }
    }
}

/// A few of those that were told and are new: they may be nearer than who stands in their slots.
pub(crate) fn to_measure(
    told: &[Contact],
    random: &mut Random,
    is_new: impl Fn(Peer) -> bool,
) -> Vec<Peer> {
    let mut others: Vec<_> = told.iter().map(|it| it.peer).collect();
    others.retain(|peer| is_new(*peer));
    let count = MEASURED.min(others.len());
    let drawn = (0..count).map(|_| others.swap_remove(random.below(others.len())));
    drawn.collect()
}

impl Digits {
    /// An empty table of `room` peers a slot, for digits of `bits` bits: 1, 2 or 4, or the next of these.
    pub(crate) const fn new(me: Point, bits: u8, room: u8) -> Self {
        let bits = if bits > 4 {
            4
        } else {
            bits.next_power_of_two()
        };
        let list = Vec::new();
        Self {
            me,
            bits,
            room,
            list,
        }
    }

    /// Digits of a point, and so rows of a table.
    pub(crate) const fn count(&self) -> u8 {
        (Point::BITS / self.bits as u32) as u8
    }

    /// The largest digit.
    pub(crate) const fn last(&self) -> u8 {
        u8::MAX >> (8 - self.bits)
    }

    /// A digit of a point, the most significant of row 0.
    pub(crate) const fn digit(&self, point: Point, row: u8) -> u8 {
        point.digit(row as u32, self.bits as u32)
    }

    /// How many leading digits two points share.
    pub(crate) const fn shared(&self, one: Point, other: Point) -> u8 {
        (one.shared_bits(other) / self.bits as u32) as u8
    }

    /// Where a point belongs; nowhere if it is this peer's own.
    pub(crate) fn slot_of(&self, point: Point) -> Option<Slot> {
        let row = self.shared(self.me, point);
        (row < self.count()).then(|| Slot {
            row,
            column: self.digit(point, row),
        })
    }

    /// The peers of a slot, nearest first.
    pub(crate) fn slot(&self, slot: Slot) -> &[Entry] {
        let (start, end) = self.bounds(slot);
        &self.list[start..end]
    }

    /// The peers of a row, by column.
    pub(crate) fn row(&self, row: u8) -> &[Entry] {
        let start = self.list.partition_point(|it| self.row_of(it) < row);
        let end = self.list.partition_point(|it| self.row_of(it) <= row);
        &self.list[start..end]
    }

    /// The slots that hold somebody, in order, with whom they hold.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (Slot, &[Entry])> {
        let same =
            |one: &Entry, other: &Entry| self.slot_of(one.point) == self.slot_of(other.point);
        self.list
            .chunk_by(same)
            .filter_map(|peers| Some((self.slot_of(peers[0].point)?, peers)))
    }

    /// All, by slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Contact> {
        self.list.iter().map(|it| it.contact())
    }

    /// The rows, from the first to the last that holds somebody.
    pub(crate) fn rows(&self) -> std::ops::Range<u8> {
        let last = self.list.last();
        0..last.map_or(0, |it| self.row_of(it) + 1)
    }

    /// What somebody at a point needs of this table: the rows from `first` on to the one that the point
    /// belongs into, which is given, too.
    pub(crate) fn towards(&self, point: Point, first: u8) -> (u8, impl Iterator<Item = Peer>) {
        let upto = self.shared(self.me, point);
        let rows = first..=upto.min(self.count() - 1);
        let entries = rows.flat_map(|row| self.row(row));
        (upto, entries.map(|it| it.peer))
    }

    /// The row to look at after another, round and round.
    pub(crate) fn row_after(&self, row: u8) -> u8 {
        match row + 1 {
            next if next < self.rows().end => next,
            _ => 0,
        }
    }

    /// Those that fill the slots of a row as this peer does: the row's own that are up, or else of the
    /// `linked` who share more with this one.
    pub(crate) fn guides(
        &self,
        row: u8,
        is_up: impl Fn(Peer) -> bool,
        linked: impl Iterator<Item = Contact>,
    ) -> Vec<Peer> {
        let own = self.row(row).iter().map(|it| it.peer);
        let mut guides: Vec<_> = own.filter(|peer| is_up(*peer)).collect();
        if guides.is_empty() {
            let deeper = linked.filter(|it| self.shared(it.point, self.me) > row);
            guides.extend(deeper.map(|it| it.peer));
        }
        guides
    }

    /// Takes a peer that was heard of, if its slot has room; whether it did.
    pub(crate) fn learn(&mut self, contact: Contact) -> bool {
        self.offer(contact, UNMEASURED)
    }

    /// Takes a peer whose round trip was measured if its slot has room, or holds one that is more than
    /// an eighth farther, which goes. Whether the table is another one now.
    pub(crate) fn offer(&mut self, contact: Contact, trip_us: u32) -> bool {
        let Some(slot) = self.slot_of(contact.point) else {
            return false;
        };
        let (start, end) = self.bounds(slot);
        let known = self.list[start..end]
            .iter()
            .position(|it| it.peer == contact.peer);
        if let Some(known) = known {
            let before = self.list[start + known].trip_us;
            if trip_us != UNMEASURED && before.abs_diff(trip_us) > trip_us / 8 {
                self.list[start + known].trip_us = trip_us;
                self.list[start..end].sort_by_key(|it| it.trip_us);
            }
            return false;
        }
        let entry = Entry {
            point: contact.point,
            peer: contact.peer,
            trip_us,
        };
        if end - start < usize::from(self.room) {
            if self.list.len() == self.list.capacity() {
                self.list.reserve_exact(8 + self.list.len() / 8);
            }
            let nearer = self.list[start..end].partition_point(|it| it.trip_us <= trip_us);
            self.list.insert(start + nearer, entry);
            return true;
        }
        let last = &mut self.list[end - 1];
        if trip_us.saturating_add(trip_us / 8) >= last.trip_us {
            return false;
        }
        *last = entry;
        self.list[start..end].sort_by_key(|it| it.trip_us);
        true
    }

    /// Takes a peer out: the slot that it was in.
    pub(crate) fn remove(&mut self, peer: Peer) -> Option<Slot> {
        let at = self.list.iter().position(|it| it.peer == peer)?;
        let gone = self.list.remove(at);
        self.slot_of(gone.point)
    }

    fn row_of(&self, entry: &Entry) -> u8 {
        self.shared(self.me, entry.point)
    }

    fn bounds(&self, slot: Slot) -> (usize, usize) {
        let of = |it: &Entry| self.slot_of(it.point);
        let start = self.list.partition_point(|it| of(it) < Some(slot));
        let count = self.list[start..].iter();
        let count = count.take_while(|it| of(it) == Some(slot)).count();
        (start, start + count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(top: u128) -> Contact {
        Contact {
            point: Point::new(top << 112),
            peer: Peer(top as u32),
        }
    }

    fn table(room: u8) -> Digits {
        Digits::new(contact(0x3a7f).point, 4, room)
    }

    fn slot(row: u8, column: u8) -> Slot {
        Slot { row, column }
    }

    #[test]
    fn a_point_has_one_slot_and_this_peer_none() {
        let table = table(1);
        assert_eq!(table.slot_of(contact(0x4000).point), Some(slot(0, 4)));
        assert_eq!(table.slot_of(contact(0x3b00).point), Some(slot(1, 11)));
        assert_eq!(table.slot_of(contact(0x3a70).point), Some(slot(3, 0)));
        assert_eq!(table.slot_of(contact(0x3a7f).point), None);
    }

    #[test]
    fn slots_come_in_order_and_hold_what_belongs_there() {
        let mut table = table(2);
        for value in [0xf000, 0x3a70, 0x3b00, 0x4000, 0x3b11, 0x3b22, 0x3a7f] {
            table.learn(contact(value));
        }
        let slots: Vec<_> = table.slots().map(|(slot, it)| (slot, it.len())).collect();
        let expected = [
            (slot(0, 4), 1),
            (slot(0, 15), 1),
            (slot(1, 11), 2),
            (slot(3, 0), 1),
        ];
        assert_eq!(slots, expected);
        assert_eq!((table.row(0).len(), table.row(2).len()), (2, 0));
        assert_eq!(table.rows(), 0..4);
    }

    #[test]
    fn the_nearer_stays_in_a_full_slot() {
        let mut table = table(1);
        assert!(table.learn(contact(0x4000)) && !table.learn(contact(0x4111)));
        assert!(table.offer(contact(0x4222), 1_000));
        assert!(!table.offer(contact(0x4333), 950), "hardly nearer");
        assert!(table.offer(contact(0x4333), 500));
        assert_eq!(table.iter().collect::<Vec<_>>(), [contact(0x4333)]);
        assert_eq!(table.remove(Peer(0x4333)), Some(slot(0, 4)));
        assert_eq!(table.remove(Peer(0x4333)), None);
    }

    #[test]
    fn backups_stand_in_the_order_of_their_round_trips() {
        let mut table = table(3);
        for (value, trip) in [(0x4000, 300), (0x4111, 100), (0x4222, 200), (0x4333, 150)] {
            table.offer(contact(value), trip);
        }
        let peers = |table: &Digits| -> Vec<_> { table.iter().map(|it| it.peer.0).collect() };
        assert_eq!(peers(&table), [0x4111, 0x4333, 0x4222]);
        table.offer(contact(0x4222), 10);
        assert_eq!(peers(&table), [0x4222, 0x4111, 0x4333]);
    }
}
