//! The routing table: peers by how many leading bits they share with this one, those that were heard
//! of longest ago first in each bucket.
//!
//! It has the simple form of a bucket for each of 128 bits; those within the smallest subtree that
//! holds k other peers take all of it (the paper's section 2.4), whom one calls siblings here. Contacts
//! are held without their points, 8 bytes each: a host knows the point of each handle.

use ringweave_ids::{Peer, Point, Time};

use crate::Contact;

/// Peers in a bucket of siblings, in buckets' sizes: a subtree of random points has rarely more than
/// twice as many, and points are hashes.
const SIBLINGS: usize = 4;

/// Peers in one bucket's replacement cache: the latest.
const SPARES: usize = 4;

/// The unit of "heard of".
const BEAT: u64 = 4_000_000;

/// Beats after which a peer that nobody is connected to has to answer again to keep its place.
const FRESH: u16 = 15;

/// What is taken for a round trip that was not measured, in milliseconds.
const UNMEASURED: u16 = 100;

/// A peer of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) peer: Peer,
    /// The round trip in milliseconds; 0 where it was not measured.
    pub(super) trip_ms: u16,
    /// The beat in which it was heard of last, of 2^16.
    pub(super) seen: u16,
}

impl Entry {
    /// How dear a connection to it is; one that stands is half as dear, so that few are changed.
    pub(super) const fn cost(&self, is_up: bool) -> u16 {
        let trip = if self.trip_ms == 0 {
            UNMEASURED
        } else {
            self.trip_ms
        };
        if is_up { trip / 2 } else { trip }
    }

    /// Whether it was heard of a moment ago.
    pub(super) fn is_fresh(&self, now: Time) -> bool {
        beat(now).wrapping_sub(self.seen) < FRESH
    }

    /// Beats since it was heard of.
    pub(super) fn age(&self, now: Time) -> u16 {
        beat(now).wrapping_sub(self.seen)
    }
}

/// A bucket that is not empty.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    index: u8,
    count: u16,
    /// The beat of its last lookup.
    looked: u16,
}

/// All buckets.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    me: Point,
    size: usize,
    /// The farthest bucket, of index 0, first.
    list: Vec<Bucket>,
    /// Bucket after bucket.
    entries: Vec<Entry>,
    /// The replacement caches, the oldest first.
    spares: Vec<(u8, Peer)>,
}

impl Buckets {
    /// Empty buckets of `size` peers (the paper's *k*).
    pub(super) const fn new(me: Point, size: usize) -> Self {
        Self {
            me,
            size,
            list: Vec::new(),
            entries: Vec::new(),
            spares: Vec::new(),
        }
    }

    /// The bucket that a point belongs into; none for the own point.
    pub(super) fn index(&self, point: Point) -> Option<u8> {
        let shared = self.me.shared_bits(point);
        (shared < Point::BITS).then_some(shared as u8)
    }

    /// Peers in all buckets.
    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Peers in one bucket.
    pub(super) fn count(&self, index: u8) -> usize {
        let bucket = self.list.iter().find(|it| it.index == index);
        bucket.map_or(0, |it| usize::from(it.count))
    }

    /// Whether a bucket lies within the smallest subtree around this peer with k others: fewer are
    /// nearer than the bucket.
    pub(super) fn is_near(&self, index: u8) -> bool {
        let nearer = self.list.iter().filter(|it| it.index > index);
        nearer.map(|it| usize::from(it.count)).sum::<usize>() < self.size
    }

    /// Whether there is room for one more in a bucket.
    pub(super) fn has_room(&self, index: u8) -> bool {
        let count = self.count(index);
        count < self.size || (self.is_near(index) && count < SIBLINGS * self.size)
    }

    /// The nearest bucket that is not empty.
    pub(super) fn nearest(&self) -> Option<u8> {
        self.list.last().map(|it| it.index)
    }

    pub(super) fn has(&self, peer: Peer) -> bool {
        self.entries.iter().any(|it| it.peer == peer)
    }

    /// The buckets that are not empty, the farthest first, each heard of longest ago first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, &[Entry])> {
        let mut start = 0;
        self.list.iter().map(move |bucket| {
            let from = start;
            start += usize::from(bucket.count);
            (bucket.index, &self.entries[from..start])
        })
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = Peer> {
        self.entries.iter().map(|it| it.peer)
    }

    /// Who waits for a place.
    pub(super) fn spares(&self) -> impl Iterator<Item = Peer> {
        self.spares.iter().map(|(_, peer)| *peer)
    }

    /// Adds a peer that answered as the one heard of last, if there is room.
    pub(super) fn insert(&mut self, index: u8, entry: Entry) -> bool {
        if !self.has_room(index) {
            return false;
        }
        let at = self.list.partition_point(|it| it.index < index);
        let before = self.list[..at].iter();
        let start = before.map(|it| usize::from(it.count)).sum::<usize>();
        match self.list.get_mut(at).filter(|it| it.index == index) {
            Some(bucket) => {
                let end = start + usize::from(bucket.count);
                bucket.count += 1;
                self.entries.insert(end, entry);
            }
            None => {
                let (count, looked) = (1, entry.seen);
                let bucket = Bucket {
                    index,
                    count,
                    looked,
                };
                self.list.insert(at, bucket);
                self.entries.insert(start, entry);
            }
        }
        self.spares.retain(|(_, peer)| *peer != entry.peer);
        true
    }

    /// Takes the table as it is to be: bucket after bucket from the farthest, each peer once.
    pub(super) fn fill(&mut self, peers: impl Iterator<Item = (u8, Peer)>) {
        for (index, peer) in peers {
            let (trip_ms, seen) = (0, 0);
            self.entries.push(Entry {
                peer,
                trip_ms,
                seen,
            });
            match self.list.last_mut().filter(|it| it.index == index) {
                Some(bucket) => bucket.count += 1,
                None => self.list.push(Bucket {
                    index,
                    count: 1,
                    looked: 0,
                }),
            }
        }
        self.entries.shrink_to_fit();
        self.list.shrink_to_fit();
    }

    /// The peer was heard of: it goes to the end of its bucket. Whether it was there.
    pub(super) fn see(&mut self, peer: Peer, now: Time, trip_ms: Option<u16>) -> bool {
        let Some((_, at, end)) = self.find(peer) else {
            return false;
        };
        let entry = &mut self.entries[at];
        entry.seen = beat(now);
        entry.trip_ms = trip_ms.unwrap_or(entry.trip_ms);
        self.entries[at..end].rotate_left(1);
        true
    }

    /// Takes a peer out, of the caches, too; gives the bucket it was in.
    pub(super) fn remove(&mut self, peer: Peer) -> Option<u8> {
        self.spares.retain(|(_, spare)| *spare != peer);
        let (bucket, at, _) = self.find(peer)?;
        self.entries.remove(at);
        let index = self.list[bucket].index;
        self.list[bucket].count -= 1;
        if self.list[bucket].count == 0 {
            self.list.remove(bucket);
        }
        Some(index)
    }

    /// Who was heard of longest ago in a bucket.
    pub(super) fn oldest(&self, index: u8) -> Option<Entry> {
        let (_, entries) = self.iter().find(|(it, _)| *it == index)?;
        entries.first().copied()
    }

    /// The bucket is full: the peer may have its place when one is free.
    pub(super) fn spare(&mut self, index: u8, peer: Peer) {
        self.spares.retain(|(_, spare)| *spare != peer);
        let is_it = |(it, _): &(u8, Peer)| *it == index;
        if self.spares.iter().filter(|it| is_it(it)).count() >= SPARES
            && let Some(at) = self.spares.iter().position(is_it)
        {
            self.spares.remove(at);
        }
        self.spares.push((index, peer));
    }

    /// The latest of those that wait for a place in a bucket.
    pub(super) fn take_spare(&mut self, index: u8) -> Option<Peer> {
        let at = self.spares.iter().rposition(|(it, _)| *it == index)?;
        Some(self.spares.remove(at).1)
    }

    /// A bucket whose peers are siblings no more keeps k of them, the latest heard of and all that are
    /// `dear`.
    pub(super) fn trim(&mut self, is_dear: impl Fn(Peer) -> bool) {
        let indices: Vec<_> = self.list.iter().map(|it| it.index).collect();
        for index in indices {
            let surplus = self.count(index).saturating_sub(self.size);
            if surplus == 0 || self.is_near(index) {
                continue;
            }
            let (_, entries) = self.iter().find(|(it, _)| *it == index).unwrap_or_default();
            let plain = entries.iter().filter(|it| !is_dear(it.peer));
            let all = plain.chain(entries.iter().filter(|it| is_dear(it.peer)));
            let dropped: Vec<_> = all.take(surplus).map(|it| it.peer).collect();
            for peer in dropped {
                self.remove(peer);
            }
        }
    }

    /// The bucket is looked into now.
    pub(super) fn look(&mut self, index: u8, now: Time) {
        if let Some(bucket) = self.list.iter_mut().find(|it| it.index == index) {
            bucket.looked = beat(now);
        }
    }

    /// The buckets that were not looked into for so many beats.
    pub(super) fn unused(&self, now: Time, beats: u16) -> impl Iterator<Item = u8> {
        let is_due = move |it: &&Bucket| beat(now).wrapping_sub(it.looked) >= beats;
        self.list.iter().filter(is_due).map(|it| it.index)
    }

    /// The up to `n` peers nearest to the target, nearest first. `point` says where a peer sits.
    pub(super) fn closest(
        &self,
        target: Point,
        n: usize,
        point: impl Fn(Peer) -> Point,
    ) -> Vec<Contact> {
        let shared = self.me.shared_bits(target);
        let distance = |it: &Contact| it.point.xor(target);
        let mut found: Vec<Contact> = Vec::with_capacity(2 * n);
        let mut take = |group: &mut dyn Iterator<Item = Entry>| {
            let start = found.len();
            let contact = |it: Entry| Contact {
                point: point(it.peer),
                peer: it.peer,
            };
            found.extend(group.map(contact));
            found[start..].sort_unstable_by_key(distance);
            found.len() < n
        };
        // Who differs from this peer where the target does is nearest; then those nearer to this peer,
        // who all share as much with the target as it does; then the others, bucket by bucket.
        let same = self.iter().filter(|(it, _)| u32::from(*it) == shared);
        let nearer = self.iter().filter(|(it, _)| u32::from(*it) > shared);
        if take(&mut same.flat_map(|(_, it)| it.iter().copied()))
            && take(&mut nearer.flat_map(|(_, it)| it.iter().copied()))
        {
            let farther: Vec<_> = self.iter().collect();
            let farther = farther.iter().rev();
            let mut farther = farther.filter(|(it, _)| u32::from(*it) < shared);
            farther.all(|(_, bucket)| take(&mut bucket.iter().copied()));
        }
        found.truncate(n);
        found
    }

    /// The place of a peer's bucket, its own place, and the end of the bucket.
    fn find(&self, peer: Peer) -> Option<(usize, usize, usize)> {
        let at = self.entries.iter().position(|it| it.peer == peer)?;
        let mut end = 0;
        let bucket = self.list.iter().position(|bucket| {
            end += usize::from(bucket.count);
            at < end
        })?;
        Some((bucket, at, end))
    }
}

/// Which beat it is.
pub(super) const fn beat(now: Time) -> u16 {
    (now.as_micros() / BEAT) as u16
}

/// So many milliseconds in beats, at least one.
pub(super) fn beats(millis: u32) -> u16 {
    let beats = u64::from(millis) * 1_000 / BEAT;
    u16::try_from(beats).unwrap_or(u16::MAX / 2).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A peer whose point is its number at the top of 128 bits.
    fn point(peer: Peer) -> Point {
        Point::new(u128::from(peer.0) << 96)
    }

    fn entry(peer: u32) -> Entry {
        Entry {
            peer: Peer(peer),
            trip_ms: 0,
            seen: 0,
        }
    }

    fn insert(buckets: &mut Buckets, peer: u32) -> bool {
        let index = buckets.index(point(Peer(peer)));
        index.is_some_and(|index| buckets.insert(index, entry(peer)))
    }

    fn listed(buckets: &Buckets, index: u8) -> Vec<u32> {
        let bucket = buckets.iter().find(|(it, _)| *it == index);
        bucket.map_or(Vec::new(), |(_, entries)| {
            entries.iter().map(|it| it.peer.0).collect()
        })
    }

    #[test]
    fn a_bucket_beyond_the_siblings_holds_k_and_the_first_come_stay() {
        let mut buckets = Buckets::new(Point::new(0), 2);
        assert!(insert(&mut buckets, 1) && insert(&mut buckets, 2));
        assert!(insert(&mut buckets, 1 << 31));
        assert!(insert(&mut buckets, 1 << 31 | 1));
        assert!(!insert(&mut buckets, 1 << 31 | 2));
        assert_eq!(listed(&buckets, 0), [1 << 31, 1 << 31 | 1]);
    }

    #[test]
    fn siblings_are_all_kept() {
        let mut buckets = Buckets::new(Point::new(0), 2);
        assert!((0..5).all(|peer| insert(&mut buckets, 1 << 31 | peer)));
        // Two are nearer now: the far bucket is one like others.
        assert!(insert(&mut buckets, 1) && insert(&mut buckets, 2));
        assert!(!buckets.is_near(0));
        buckets.trim(|peer| peer == Peer(1 << 31));
        assert_eq!(listed(&buckets, 0), [1 << 31, 1 << 31 | 4]);
    }

    #[test]
    fn who_is_heard_of_goes_to_the_end() {
        let mut buckets = Buckets::new(Point::new(0), 8);
        for peer in [8, 9, 10] {
            insert(&mut buckets, peer);
        }
        let now = Time::from_micros(40_000_000);
        assert!(buckets.see(Peer(8), now, Some(30)) && !buckets.see(Peer(7), now, None));
        assert_eq!(listed(&buckets, 28), [9, 10, 8]);
        assert_eq!(buckets.oldest(28), Some(entry(9)));
        assert_eq!(buckets.remove(Peer(9)), Some(28));
        assert_eq!(listed(&buckets, 28), [10, 8]);
    }

    #[test]
    fn the_latest_spare_comes_first_and_few_are_kept() {
        let mut buckets = Buckets::new(Point::new(0), 2);
        for peer in 0..9 {
            buckets.spare(0, Peer(peer));
        }
        buckets.spare(1, Peer(20));
        assert_eq!(buckets.spares().count(), SPARES + 1);
        assert_eq!(buckets.take_spare(0), Some(Peer(8)));
        assert_eq!(buckets.take_spare(3), None);
    }

    proptest! {
        /// The order of groups of buckets is that of distances.
        #[test]
        fn the_closest_are_those_of_a_full_sort(
            me: u32, target: u32, peers in prop::collection::btree_set(any::<u32>(), 0..200), n in 1_usize..30,
        ) {
            let mut buckets = Buckets::new(point(Peer(me)), 8);
            for peer in &peers {
                insert(&mut buckets, *peer);
            }
            let target = point(Peer(target));
            let mut all: Vec<_> = buckets.peers().collect();
            all.sort_by_key(|peer| point(*peer).xor(target));
            all.truncate(n);
            let closest = buckets.closest(target, n, point);
            prop_assert_eq!(closest.iter().map(|it| it.peer).collect::<Vec<_>>(), all);
        }

        /// Whatever comes and goes, counts and entries agree, and nobody is in a wrong bucket.
        #[test]
        fn buckets_stay_whole(me: u32, steps in prop::collection::vec((any::<u32>(), 0_u8..4), 0..300)) {
            let mut buckets = Buckets::new(point(Peer(me)), 3);
            for (peer, what) in steps {
                let peer = peer % 512 << 20 | me & 0xf_ffff;
                match what {
                    0 => { buckets.remove(Peer(peer)); }
                    1 => { buckets.see(Peer(peer), Time::ZERO, None); }
                    _ if !buckets.has(Peer(peer)) => { insert(&mut buckets, peer); }
                    _ => {}
                }
                buckets.trim(|_| false);
                let mut count = 0;
                for (index, entries) in buckets.iter() {
                    prop_assert!(!entries.is_empty());
                    prop_assert!(entries.len() <= 3 || buckets.is_near(index));
                    count += entries.len();
                    for entry in entries {
                        prop_assert_eq!(buckets.index(point(entry.peer)), Some(index));
                    }
                }
                prop_assert_eq!(count, buckets.len());
            }
        }
    }
}
