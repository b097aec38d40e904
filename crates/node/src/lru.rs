//! A bounded map that forgets what was used least recently.
//!
//! Entries sit in a slab, so a caller may keep a slot number and come back without hashing; the
//! order of use is a doubly linked list through the slab. Iteration goes by slot, which depends on
//! the history alone, never on the hasher.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher},
};

/// The end of the list.
const NONE: u32 = u32::MAX;

/// Up to this many entries take no more room than they need: many maps have one or two.
const SMALL: usize = 4;

/// A map of at most `cap` entries. An empty one takes no memory beyond itself: a peer has several,
/// and most stay empty.
pub(crate) struct Lru<K, V> {
    filled: Option<Box<Filled<K, V>>>,
    cap: usize,
    seed: u64,
}

struct Filled<K, V> {
    index: HashMap<K, u32, Seed>,
    slots: Vec<Option<Entry<K, V>>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
}

struct Entry<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    /// An empty map; `seed` differs from peer to peer, so that no key collides everywhere.
    pub(crate) const fn new(cap: usize, seed: u64) -> Self {
        Self {
            filled: None,
            cap,
            seed,
        }
    }

    /// The slot of `key`, if it is here. It stays the same as long as the entry lives.
    pub(crate) fn slot(&self, key: &K) -> Option<u32> {
        self.filled.as_ref()?.index.get(key).copied()
    }

    /// The entry in `slot`, if one lives there.
    pub(crate) fn at(&mut self, slot: u32) -> Option<(&K, &mut V)> {
        let filled = self.filled.as_mut()?;
        let entry = filled.slots.get_mut(slot as usize)?.as_mut()?;
        Some((&entry.key, &mut entry.value))
    }

    /// The value of `key`, without counting as a use.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        let slot = self.slot(key)?;
        let entry = self.filled.as_ref()?.slots[slot as usize].as_ref();
        entry.map(|entry| &entry.value)
    }

    /// The value of `key`; it is now the one used last.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.slot(key)?;
        self.touch(slot);
        self.at(slot).map(|(_, value)| value)
    }

    /// Makes the entry in `slot` the one used last.
    pub(crate) fn touch(&mut self, slot: u32) {
        if let Some(filled) = &mut self.filled {
            filled.touch(slot);
        }
    }

    /// Puts a value in, and gives its slot and what had to go for it.
    pub(crate) fn insert(&mut self, key: K, value: V) -> (u32, Option<(K, V)>) {
        let seed = Seed(self.seed);
        let filled = self
            .filled
            .get_or_insert_with(|| Box::new(Filled::new(seed)));
        filled.insert(key, value, self.cap)
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.slot(key)?;
        let gone = self.filled.as_mut()?.take(slot);
        gone.map(|(_, value)| value)
    }

    /// Every slot that may hold an entry, for walks with [`at`](Self::at).
    pub(crate) fn slots(&self) -> std::ops::Range<u32> {
        0..self.filled.as_ref().map_or(0, |it| it.slots.len() as u32)
    }

    /// All values, by slot.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        let slots = self.filled.iter().flat_map(|filled| &filled.slots);
        slots.flatten().map(|entry| &entry.value)
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.filled.as_ref().map_or(0, |it| it.index.len())
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.filled = None;
    }
}

impl<K: Clone + Eq + Hash, V> Filled<K, V> {
    fn new(seed: Seed) -> Self {
        Self {
            index: HashMap::with_hasher(seed),
            slots: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    fn insert(&mut self, key: K, value: V, cap: usize) -> (u32, Option<(K, V)>) {
        if let Some(slot) = self.index.get(&key).copied() {
            self.touch(slot);
            let entry = self.slots[slot as usize]
                .as_mut()
                .expect("an indexed slot is filled");
            let old = std::mem::replace(&mut entry.value, value);
            return (slot, Some((key, old)));
        }
        let evicted = if self.index.len() >= cap {
            self.take(self.oldest)
        } else {
            None
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.slots.len() < SMALL {
                self.slots.reserve_exact(1);
            }
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("caps are far below 2^32")
        });
        self.slots[slot as usize] = Some(Entry {
            key: key.clone(),
            value,
            newer: NONE,
            older: NONE,
        });
        self.index.insert(key, slot);
        self.link(slot);
        (slot, evicted)
    }

    fn touch(&mut self, slot: u32) {
        if self.newest != slot && self.slots.get(slot as usize).is_some_and(Option::is_some) {
            self.unlink(slot);
            self.link(slot);
        }
    }

    fn take(&mut self, slot: u32) -> Option<(K, V)> {
        self.slots.get(slot as usize)?.as_ref()?;
        self.unlink(slot);
        let entry = self.slots[slot as usize]
            .take()
            .expect("looked at just above");
        self.index.remove(&entry.key);
        self.free.push(slot);
        Some((entry.key, entry.value))
    }

    fn unlink(&mut self, slot: u32) {
        let entry = self.slots[slot as usize]
            .as_ref()
            .expect("only filled slots are linked");
        let (newer, older) = (entry.newer, entry.older);
        match self.slots.get_mut(newer as usize).and_then(Option::as_mut) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize).and_then(Option::as_mut) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link(&mut self, slot: u32) {
        let older = self.newest;
        let entry = self.slots[slot as usize]
            .as_mut()
            .expect("only filled slots are linked");
        entry.newer = NONE;
        entry.older = older;
        match self.slots.get_mut(older as usize).and_then(Option::as_mut) {
            Some(entry) => entry.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }
}

/// A cheap seeded hash for keys that are hashes already: fold and multiply, eight bytes at a time.
#[derive(Clone, Copy)]
pub(crate) struct Seed(pub(crate) u64);

impl BuildHasher for Seed {
    type Hasher = Mix;

    fn build_hasher(&self) -> Mix {
        Mix(self.0)
    }
}

/// The state of a [`Seed`]ed hash.
pub(crate) struct Mix(u64);

impl Mix {
    fn fold(&mut self, word: u64) {
        // A 64x64 -> 128 bit product folded in half, by the golden ratio (as in wyhash).
        let wide = u128::from(self.0 ^ word) * 0x9E37_79B9_7F4A_7C15_u128;
        self.0 = (wide as u64) ^ ((wide >> 64) as u64).rotate_left(23);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.fold(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut lru = Lru::new(3, 7);
        for key in [1_u64, 2, 3] {
            lru.insert(key, key * 10);
        }
        assert_eq!(lru.get(&1), Some(&mut 10));
        assert_eq!(lru.insert(4, 40).1, Some((2, 20)));
        assert_eq!(lru.peek(&3), Some(&30));
        assert_eq!(lru.insert(5, 50).1, Some((3, 30)));
        assert_eq!(lru.len(), 3);
    }

    #[test]
    fn a_slot_is_used_again_after_its_entry_went() {
        let mut lru = Lru::new(2, 7);
        let (slot, _) = lru.insert(1_u64, 'a');
        assert_eq!(lru.remove(&1), Some('a'));
        assert!(lru.at(slot).is_none());
        assert_eq!(lru.insert(2, 'b').0, slot);
        lru.insert(3, 'c');
        assert_eq!(lru.insert(4, 'd').1, Some((2, 'b')));
        lru.clear();
        assert_eq!(lru.insert(5, 'e').1, None);
    }
}
