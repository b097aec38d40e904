//! A ring's roster: state that merges. Joining two rosters is commutative, associative and
//! idempotent, so it does not matter who hears what first, or twice (HEALING.md, section 2).
//!
//! For each peer the record of the highest rank wins; for each position the largest label and the
//! largest census. Nothing is taken back: death and departure are records, too, which age away.

use std::{num::NonZeroU32, ops::Range, sync::Arc, time::Duration};

use ringweave_ids::{Peer, PeerId, Time};
use serde::{Deserialize, Serialize};

use super::{
    NOWHERE,
    record::{Census, Label, Member, Position, PositionId},
};
use crate::Host;

/// How long the record of a peer that is gone is remembered: longer than any repair takes.
pub(super) const TOMBSTONE: Duration = Duration::from_secs(120);

/// How long a freed coordinate rests, so that late messages do not meet a stranger
/// (HEALING.md, rule 7).
pub(super) const REST: Duration = Duration::from_secs(60);

/// It rests longer where more lived at and below it: they may be back after a split.
const LONG_REST: Duration = Duration::from_secs(600);
const FEW: u32 = 3;

/// What one peer knows of one ring.
///
/// What is asked often is kept beside the records in plain fields, so that no question about the
/// whole ring follows a pointer or asks the host.
#[derive(Clone, Debug)]
pub struct Ring {
    /// The ring: the id of its parent position.
    pub id: PositionId,
    /// Whose records are held: parallel to `entries`, apart from them because it is searched most.
    known: Vec<Known>,
    /// By position, of each the longest granted first; then those that do not live here.
    entries: Vec<Entry>,
    /// By id.
    places: Vec<Place>,
    /// The sums of the hashes of the living part: of members and of positions.
    member_words: u64,
    place_words: u64,
    change: Change,
}

/// What has become of a roster since its holder last looked, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Nothing,
    /// Counts, or words about peers that do not live here.
    Words,
    /// Who lives where, or a coordinate.
    Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    peer: Peer,
    /// Since when it does not live here; nothing while it does.
    gone: Option<Second>,
}

#[derive(Clone, Debug)]
struct Entry {
    record: Arc<Member>,
    /// Of the PeerId.
    head: u64,
    /// Where it lives; [`NOWHERE`] if not in this ring.
    position: PositionId,
}

#[derive(Clone, Debug)]
struct Place {
    position: Position,
    id: PositionId,
    coordinate: u32,
    /// Since when it has no living member; nothing while it has.
    vacant: Option<Second>,
}

/// A moment in whole seconds from 1, half as long as a [`Time`] and never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Second(NonZeroU32);

impl Second {
    fn of(time: Time) -> Self {
        let seconds = u32::try_from(time.as_micros() / 1_000_000).unwrap_or(u32::MAX - 1);
        Self(NonZeroU32::MIN.saturating_add(seconds))
    }

    /// How long ago it was, to the second below.
    fn age(self, now: Time) -> Duration {
        Duration::from_secs(u64::from(
            Self::of(now).0.get().saturating_sub(self.0.get()),
        ))
    }
}

/// Which record of a peer somebody holds: enough to see who lacks what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The first eight bytes of the PeerId.
    pub head: u64,
    /// Its record's incarnation.
    pub incarnation: u64,
    /// Whether it is taken for dead.
    pub is_accused: bool,
}

impl Ring {
    /// An empty roster.
    pub fn new(id: PositionId) -> Self {
        Self {
            id,
            known: Vec::new(),
            entries: Vec::new(),
            places: Vec::new(),
            member_words: 0,
            place_words: 0,
            change: Change::Shape,
        }
    }

    /// Every record held, the dead and departed included: these come last.
    pub fn records(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.entries.iter().map(|entry| &entry.record)
    }

    /// The living members, position by position, of each the longest granted first.
    pub fn living(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.inhabitants().map(|(_, entry)| &entry.record)
    }

    /// The records of those that do not live in it.
    pub(super) fn gone(&self) -> impl Iterator<Item = &Arc<Member>> {
        let held = self.known.iter().zip(&self.entries);
        let gone = held.skip_while(|(known, _)| known.lives());
        gone.map(|(_, entry)| &entry.record)
    }

    /// The living members of a position, the longest granted first.
    pub fn members_of(&self, position: PositionId) -> impl Iterator<Item = &Arc<Member>> {
        let members = &self.entries[self.range_of(position)];
        members.iter().map(|entry| &entry.record)
    }

    /// Every position held, by id.
    pub fn positions(&self) -> impl Iterator<Item = &Position> {
        self.places.iter().map(|place| &place.position)
    }

    /// The position of this id.
    pub fn position(&self, id: PositionId) -> Option<&Position> {
        self.find_place(id).ok().map(|at| &self.places[at].position)
    }

    /// The coordinate of the position of this id.
    pub(super) fn coordinate(&self, id: PositionId) -> Option<u32> {
        self.find_place(id)
            .ok()
            .map(|at| self.places[at].coordinate)
    }

    /// The positions that somebody holds, by id.
    pub fn staffed(&self) -> impl Iterator<Item = &Position> {
        self.staffed_places().map(|place| &place.position)
    }

    /// Shows every handle in the records and positions held.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        self.records().for_each(|record| record.handles(see));
        self.positions().for_each(|position| position.handles(see));
    }

    /// The record of a peer.
    pub fn record(&self, peer: Peer) -> Option<&Arc<Member>> {
        self.find(peer).map(|at| &self.entries[at].record)
    }

    /// The record of a peer, if it lives in this ring.
    pub fn living_record(&self, peer: Peer) -> Option<&Arc<Member>> {
        self.find(peer)
            .filter(|at| self.known[*at].lives())
            .map(|at| &self.entries[at].record)
    }

    /// Whether a record of the peer is held.
    pub(super) fn has(&self, peer: Peer) -> bool {
        self.find(peer).is_some()
    }

    /// Whether the peer lives in this ring.
    pub(super) fn lives(&self, peer: Peer) -> bool {
        self.find(peer).is_some_and(|at| self.known[at].lives())
    }

    /// Whether nobody lives in it.
    pub(super) fn is_empty(&self) -> bool {
        self.peers().next().is_none()
    }

    /// How many members live in it.
    pub(super) fn population(&self) -> usize {
        self.peers().count()
    }

    /// The living members' handles, in the order of [`living`](Self::living).
    pub(super) fn peers(&self) -> impl Iterator<Item = Peer> {
        let living = self.known.iter().take_while(|known| known.lives());
        living.map(|known| known.peer)
    }

    /// The handles of a position's living members, the longest granted first.
    pub(super) fn peers_of(&self, position: PositionId) -> impl Iterator<Item = Peer> {
        let members = &self.known[self.range_of(position)];
        members.iter().map(|known| known.peer)
    }

    /// The handles of some of the living, by their places in the order of [`living`](Self::living).
    pub(super) fn peers_in(&self, places: Range<usize>) -> impl Iterator<Item = Peer> {
        self.known[places].iter().map(|known| known.peer)
    }

    /// The positions of the living, in the order of [`living`](Self::living).
    pub(super) fn homes(&self) -> impl Iterator<Item = PositionId> {
        self.inhabitants().map(|(_, entry)| entry.position)
    }

    /// Where a position's living members are among all.
    fn range_of(&self, position: PositionId) -> Range<usize> {
        if position == NOWHERE {
            return 0..0;
        }
        let first = self.entries.partition_point(|it| it.position < position);
        let members = self.entries[first..].iter();
        first..first + members.take_while(|it| it.position == position).count()
    }

    /// The coordinates of the positions that somebody holds, by position id.
    pub(super) fn labels(&self) -> impl Iterator<Item = (PositionId, u32)> {
        self.staffed_places()
            .map(|place| (place.id, place.coordinate))
    }

    /// The coordinates of all positions, the vacant ones' included.
    pub(super) fn coordinates(&self) -> impl Iterator<Item = u32> {
        self.places.iter().map(|place| place.coordinate)
    }

    /// Makes room for a roster of known size, and no more.
    pub(super) fn reserve(&mut self, members: usize, positions: usize) {
        self.known.reserve_exact(members);
        self.entries.reserve_exact(members);
        self.places.reserve_exact(positions);
    }

    /// Joins one record in; whether it changed anything. The caller has verified it.
    pub fn merge_member(&mut self, host: &dyn Host, record: Arc<Member>, now: Time) -> bool {
        let entry = match self.find(record.peer) {
            Some(at) if !record.outranks(&self.entries[at].record) => return false,
            Some(at) => Entry {
                record,
                ..self.take_out(at, now)
            },
            None => Entry {
                head: head(&host.id(record.peer)),
                position: NOWHERE,
                record,
            },
        };
        self.put_in(host, entry, now);
        true
    }

    /// Takes a peer out, as if it had never been heard of.
    pub(super) fn forget(&mut self, peer: Peer, now: Time) {
        if let Some(at) = self.find(peer) {
            self.take_out(at, now);
        }
    }

    /// Joins one position in; whether it changed anything. The caller has verified it.
    pub fn merge_position(&mut self, position: Position, now: Time) -> bool {
        let id = position.id();
        match self.find_place(id) {
            Ok(at) => {
                let place = &mut self.places[at];
                let before = place.word();
                let mine = &mut place.position;
                let is_founder_other = !Arc::ptr_eq(&position.grant, &mine.grant)
                    && position.grant.signature.0 < mine.grant.signature.0;
                if is_founder_other {
                    mine.grant = position.grant.clone();
                }
                let is_relabelled = larger(mine.label(), position.label(), label_rank);
                if let Some(label) = position.label().filter(|_| is_relabelled) {
                    *mine = mine.relabelled(label.clone());
                }
                let is_recounted = larger(mine.census(), position.census(), census_rank);
                if let Some(census) = position.census().filter(|_| is_recounted) {
                    *mine = mine.recounted(census.clone());
                }
                if is_founder_other || is_relabelled {
                    place.coordinate = place.position.coordinate();
                    let change = place.word().wrapping_sub(before);
                    self.place_words = self.place_words.wrapping_add(change);
                    self.change = Change::Shape;
                } else if is_recounted {
                    self.change = self.change.max(Change::Words);
                }
                is_founder_other || is_relabelled || is_recounted
            }
            Err(at) => {
                let is_held = self.peers_of(id).next().is_some();
                let place = Place {
                    coordinate: position.coordinate(),
                    position,
                    id,
                    vacant: (!is_held).then(|| Second::of(now)),
                };
                self.place_words = self.place_words.wrapping_add(place.word());
                insert(&mut self.places, at, place);
                self.change = Change::Shape;
                true
            }
        }
    }

    /// The position as it is held, if it has another label since.
    pub(super) fn relabelled_since(&self, position: &Position) -> Option<&Position> {
        let mine = self.position(position.id())?;
        larger(position.label(), mine.label(), label_rank).then_some(mine)
    }

    /// Whether [`sweep`](Self::sweep) would drop something.
    pub(super) fn has_aged(&self, now: Time) -> bool {
        let is_aged = |since: Option<Second>| since.is_some_and(|it| it.age(now) >= REST);
        self.known.iter().any(|known| is_aged(known.gone))
            || self.places.iter().any(|place| is_aged(place.vacant))
    }

    /// Whether this is the other, to the last record, and not only in what it says.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        let is_same_member =
            |(mine, other): (&Entry, &Entry)| Arc::ptr_eq(&mine.record, &other.record);
        let is_same_place = |(mine, other): (&Place, &Place)| {
            mine.position.is_alike(&other.position) && mine.vacant == other.vacant
        };
        (self.id, self.digest(), self.change) == (other.id, other.digest(), other.change)
            && self.known == other.known
            && self.places.len() == other.places.len()
            && self.entries.iter().zip(&other.entries).all(is_same_member)
            && self.places.iter().zip(&other.places).all(is_same_place)
    }

    /// Drops what has aged: records of the gone, and positions that nobody took over.
    pub fn sweep(&mut self, now: Time) {
        let is_aged = |since: Option<Second>, limit| since.is_some_and(|it| it.age(now) >= limit);
        let stays = |known: &Known| !is_aged(known.gone, TOMBSTONE);
        if !self.known.iter().all(stays) {
            let mut known = self.known.iter();
            self.entries.retain(|_| known.next().is_some_and(stays));
            self.known.retain(stays);
            self.change = self.change.max(Change::Words);
        }
        let before = self.places.len();
        self.places.retain(|place| {
            let is_large = place.position.population() > FEW;
            !is_aged(place.vacant, if is_large { LONG_REST } else { REST })
        });
        if self.places.len() < before {
            self.change = self.change.max(Change::Words);
        }
    }

    /// A hash of the living part: equal rosters, equal hashes.
    pub fn digest(&self) -> u64 {
        self.member_words.wrapping_add(self.place_words)
    }

    /// What of the digest is of positions.
    pub(super) fn place_digest(&self) -> u64 {
        self.place_words
    }

    /// The digest of a roster whose living members are these of mine.
    pub(super) fn digest_of(&self, members: impl Iterator<Item = Peer>) -> u64 {
        let living = members.filter_map(|peer| self.find(peer));
        let words = living
            .filter(|at| self.known[*at].lives())
            .map(|at| self.entries[at].word());
        words.fold(self.place_words, u64::wrapping_add)
    }

    /// What is held, the dead and departed included, by head.
    pub fn versions(&self) -> Vec<Version> {
        self.versions_of(|_| true)
    }

    /// What is held, of the living only these, by head.
    pub(super) fn versions_of(&self, is_meant: impl Fn(Peer) -> bool) -> Vec<Version> {
        let held = self.known.iter().zip(&self.entries);
        let meant = held.filter(|(known, _)| !known.lives() || is_meant(known.peer));
        let mut versions: Vec<_> = meant.map(|(_, entry)| entry.version()).collect();
        versions.sort_unstable_by_key(|version| version.head);
        versions
    }

    /// Forgets all living members but those of a position, and of every other one the longest granted.
    pub(super) fn outline(&mut self, position: PositionId) {
        let is_surplus = |entries: &[Entry], at: usize| {
            let home = entries[at].position;
            home == entries[at - 1].position && home != position && home != NOWHERE
        };
        for at in (1..self.entries.len()).rev() {
            if is_surplus(&self.entries, at) {
                let word = self.entries.remove(at).word();
                self.known.remove(at);
                self.member_words = self.member_words.wrapping_sub(word);
                self.change = Change::Shape;
            }
        }
    }

    /// The records of these peers, named by head, smallest first.
    pub(super) fn pick<'a>(&'a self, heads: &'a [u64]) -> impl Iterator<Item = &'a Arc<Member>> {
        debug_assert!(heads.is_sorted());
        let is_picked = |entry: &&Entry| heads.binary_search(&entry.head).is_ok();
        self.entries
            .iter()
            .filter(is_picked)
            .map(|entry| &entry.record)
    }

    /// What has become of it since [`settle`](Self::settle).
    pub(super) fn change(&self) -> Change {
        self.change
    }

    /// Its holder has looked.
    pub(super) fn settle(&mut self) -> Change {
        std::mem::replace(&mut self.change, Change::Nothing)
    }

    fn inhabitants(&self) -> impl Iterator<Item = (&Known, &Entry)> {
        let held = self.known.iter().zip(&self.entries);
        held.take_while(|(known, _)| known.lives())
    }

    fn staffed_places(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.vacant.is_none())
    }

    fn find(&self, peer: Peer) -> Option<usize> {
        self.known.iter().position(|known| known.peer == peer)
    }

    fn find_place(&self, id: PositionId) -> Result<usize, usize> {
        self.places.binary_search_by_key(&id, |place| place.id)
    }

    /// Puts a record where it belongs: its peer lives where it says, if it lives here.
    fn put_in(&mut self, host: &dyn Host, mut entry: Entry, now: Time) {
        let seat = entry.record.seat;
        let home = seat.filter(|seat| seat.position != NOWHERE && entry.record.lives_in(self.id));
        entry.position = home.map_or(NOWHERE, |seat| seat.position);
        let known = Known {
            peer: entry.record.peer,
            gone: home.is_none().then(|| Second::of(now)),
        };
        let turn = |entry: &Entry| (entry.position, entry.record.sequence(), entry.head);
        let at = self.entries.partition_point(|other| {
            // Most are of another position, which is seen without looking at their records.
            let order = other.position.cmp(&entry.position);
            let order = order.then_with(|| turn(other).cmp(&turn(&entry)));
            let id = |entry: &Entry| host.id(entry.record.peer);
            order.then_with(|| id(other).cmp(&id(&entry))).is_lt()
        });
        let word = entry.word();
        insert(&mut self.known, at, known);
        insert(&mut self.entries, at, entry);
        let Some(seat) = home else {
            self.change = self.change.max(Change::Words);
            return;
        };
        self.change = Change::Shape;
        self.member_words = self.member_words.wrapping_add(word);
        if let Ok(place) = self.find_place(seat.position) {
            let place = &mut self.places[place];
            let before = place.word();
            place.vacant = None;
            let change = place.word().wrapping_sub(before);
            self.place_words = self.place_words.wrapping_add(change);
        }
    }

    /// Takes a record out that is about to be replaced.
    fn take_out(&mut self, at: usize, now: Time) -> Entry {
        let (known, entry) = (self.known.remove(at), self.entries.remove(at));
        if !known.lives() {
            return entry;
        }
        self.change = Change::Shape;
        self.member_words = self.member_words.wrapping_sub(entry.word());
        if self.range_of(entry.position).is_empty()
            && let Ok(place) = self.find_place(entry.position)
        {
            let place = &mut self.places[place];
            self.place_words = self.place_words.wrapping_sub(place.word());
            place.vacant = Some(Second::of(now));
        }
        entry
    }
}

impl Known {
    const fn lives(&self) -> bool {
        self.gone.is_none()
    }
}

impl Entry {
    fn version(&self) -> Version {
        Version {
            head: self.head,
            incarnation: self.record.incarnation,
            is_accused: self.record.accusation.is_some(),
        }
    }

    /// What a living member adds to the digest.
    fn word(&self) -> u64 {
        mix(self.head ^ mix(self.record.incarnation ^ mix(self.position.0)))
    }
}

impl Place {
    /// What it adds to the digest; nothing while it is vacant.
    fn word(&self) -> u64 {
        if self.vacant.is_some() {
            return 0;
        }
        let version = u64::from(self.position.version());
        mix((u64::from(self.coordinate) << 32 | version) ^ mix(self.id.0))
    }
}

/// Inserts, growing by an eighth: rosters linger, so that room to spare would, too.
fn insert<T>(items: &mut Vec<T>, at: usize, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact(4 + items.len() / 8);
    }
    items.insert(at, item);
}

/// The first eight bytes of a PeerId, little endian.
pub(super) fn head(id: &PeerId) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&id.as_bytes()[..8]);
    u64::from_le_bytes(head)
}

/// A fixed 64-bit mixer (SplitMix64's finaliser, Steele et al. 2014): every peer must agree on it.
pub(super) const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn larger<T, R: PartialOrd>(
    mine: Option<&Arc<T>>,
    theirs: Option<&Arc<T>>,
    rank: impl Fn(&T) -> R,
) -> bool {
    match (mine, theirs) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(mine), Some(theirs)) => !Arc::ptr_eq(mine, theirs) && rank(theirs) > rank(mine),
    }
}

fn label_rank(label: &Label) -> (u32, std::cmp::Reverse<u32>, [u8; 64]) {
    (
        label.version,
        std::cmp::Reverse(label.coordinate),
        label.signature.0,
    )
}

fn census_rank(census: &Census) -> (u64, u32, [u8; 64]) {
    (census.version, census.population, census.signature.0)
}

#[cfg(test)]
mod tests;
