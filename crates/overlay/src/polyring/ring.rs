//! A ring's roster: state that merges. Joining two rosters is commutative, associative and
//! idempotent, so it does not matter who hears what first, or twice (HEALING.md, section 2).
//!
//! For each peer the record of the highest rank wins; for each position the largest label and the
//! largest census. Nothing is taken back: death and departure are records, too, which age away.

use std::{sync::Arc, time::Duration};

use ringweave_ids::{Peer, PeerId, Time};
use serde::{Deserialize, Serialize};

use super::record::{Census, Label, Member, Position, PositionId};
use crate::Host;

/// How long the record of a peer that is gone is remembered: longer than any repair takes.
pub(super) const TOMBSTONE: Duration = Duration::from_secs(120);

/// How long a freed coordinate rests, so that late messages do not meet a stranger
/// (HEALING.md, rule 7).
pub(super) const REST: Duration = Duration::from_secs(60);

/// What one peer knows of one ring.
#[derive(Clone, Debug)]
pub struct Ring {
    /// The ring: the id of its parent position.
    pub id: PositionId,
    /// By PeerId.
    members: Vec<Entry>,
    /// By id.
    positions: Vec<Place>,
}

#[derive(Clone, Debug)]
struct Entry {
    peer: Peer,
    record: Arc<Member>,
    since: Time,
}

#[derive(Clone, Debug)]
struct Place {
    position: Position,
    /// When it last had a living member.
    lived: Time,
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
            members: Vec::new(),
            positions: Vec::new(),
        }
    }

    /// Every record held, the dead and departed included, by PeerId.
    pub fn records(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.iter().map(|entry| &entry.record)
    }

    /// The living members, by PeerId.
    pub fn living(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.records().filter(|record| record.lives_in(self.id))
    }

    /// The living members of a position, by PeerId.
    pub fn members_of(&self, position: PositionId) -> impl Iterator<Item = &Arc<Member>> {
        self.living()
            .filter(move |record| record.seat.is_some_and(|seat| seat.position == position))
    }

    /// Every position held, by id.
    pub fn positions(&self) -> impl Iterator<Item = &Position> {
        self.positions.iter().map(|place| &place.position)
    }

    /// The position of this id.
    pub fn position(&self, id: PositionId) -> Option<&Position> {
        self.find_position(id)
            .ok()
            .map(|at| &self.positions[at].position)
    }

    /// The positions that somebody holds, by id.
    pub fn staffed(&self) -> impl Iterator<Item = &Position> {
        self.positions()
            .filter(|position| self.members_of(position.id()).next().is_some())
    }

    /// The record of a peer.
    pub fn record(&self, peer: Peer) -> Option<&Arc<Member>> {
        self.members
            .iter()
            .find(|entry| entry.peer == peer)
            .map(|entry| &entry.record)
    }

    /// The record of a peer, if it lives in this ring.
    pub fn living_record(&self, peer: Peer) -> Option<&Arc<Member>> {
        self.record(peer).filter(|record| record.lives_in(self.id))
    }

    /// Joins one record in; whether it changed anything. The caller has verified it.
    pub fn merge_member(&mut self, host: &dyn Host, record: Arc<Member>, now: Time) -> bool {
        let id = host.id(record.peer);
        match self
            .members
            .binary_search_by_key(&id, |entry| host.id(entry.peer))
        {
            Ok(at) => {
                let entry = &mut self.members[at];
                if entry.record.rank() >= record.rank() {
                    return false;
                }
                entry.since = now;
                entry.record = record;
            }
            Err(at) => {
                self.members.insert(
                    at,
                    Entry {
                        peer: record.peer,
                        record,
                        since: now,
                    },
                );
            }
        }
        true
    }

    /// Joins one position in; whether it changed anything. The caller has verified it.
    pub fn merge_position(&mut self, position: Position, now: Time) -> bool {
        match self.find_position(position.id()) {
            Ok(at) => {
                let mine = &mut self.positions[at].position;
                let is_founder_other = position.grant.signature.0 < mine.grant.signature.0;
                if is_founder_other {
                    mine.grant = position.grant;
                }
                let is_relabelled = larger(&mine.label, &position.label, label_rank);
                if is_relabelled {
                    mine.label = position.label;
                }
                let is_recounted = larger(&mine.census, &position.census, census_rank);
                if is_recounted {
                    mine.census = position.census;
                }
                is_founder_other || is_relabelled || is_recounted
            }
            Err(at) => {
                self.positions.insert(
                    at,
                    Place {
                        position,
                        lived: now,
                    },
                );
                true
            }
        }
    }

    /// Drops what has aged: records of the gone, and positions that nobody took over.
    pub fn sweep(&mut self, now: Time) {
        let id = self.id;
        self.members
            .retain(|entry| entry.record.lives_in(id) || now.since(entry.since) < TOMBSTONE);
        let members = &self.members;
        let lives = |position: PositionId| {
            let holds = |entry: &Entry| {
                entry
                    .record
                    .seat
                    .is_some_and(|seat| seat.position == position)
            };
            members
                .iter()
                .any(|entry| entry.record.lives_in(id) && holds(entry))
        };
        for place in &mut self.positions {
            if lives(place.position.id()) {
                place.lived = now;
            }
        }
        self.positions.retain(|place| now.since(place.lived) < REST);
    }

    /// A hash of the living part: equal rosters, equal hashes.
    pub fn digest(&self, host: &dyn Host) -> u64 {
        let mut sum = 0_u64;
        for record in self.living() {
            let position = record.seat.map_or(0, |seat| seat.position.0);
            sum = sum.wrapping_add(mix(
                head(&host.id(record.peer)) ^ mix(record.incarnation ^ mix(position))
            ));
            if let Some(place) = record.seat.and_then(|seat| self.position(seat.position)) {
                sum ^= mix(u64::from(place.coordinate()) << 32
                    | u64::from(place.version()) ^ mix(position));
            }
        }
        sum
    }

    /// What is held, the dead and departed included, by PeerId.
    pub fn versions(&self, host: &dyn Host) -> Vec<Version> {
        let version = |record: &Arc<Member>| Version {
            head: head(&host.id(record.peer)),
            incarnation: record.incarnation,
            is_accused: record.accusation.is_some(),
        };
        self.records().map(version).collect()
    }

    fn find_position(&self, id: PositionId) -> Result<usize, usize> {
        self.positions
            .binary_search_by_key(&id, |place| place.position.id())
    }
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
    mine: &Option<Arc<T>>,
    theirs: &Option<Arc<T>>,
    rank: impl Fn(&T) -> R,
) -> bool {
    match (mine, theirs) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(mine), Some(theirs)) => rank(theirs) > rank(mine),
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
mod tests {
    use proptest::prelude::*;
    use ringweave_ids::Signature;

    use super::*;
    use crate::polyring::{
        record::{Accusation, Grant, Proof, Seat},
        testing::Faker,
    };

    /// A piece of a roster, small enough that pieces collide often.
    #[derive(Clone, Debug)]
    enum Piece {
        Member(Arc<Member>),
        Position(Position),
    }

    fn seat(position: u64) -> Seat {
        Seat {
            ring: PositionId(9),
            position: PositionId(position),
        }
    }

    fn grant(position: u64, byte: u8) -> Arc<Grant> {
        Arc::new(Grant {
            peer: Peer(0),
            seat: seat(position),
            coordinate: position as u32,
            branch: String::new(),
            sequence: 0,
            nonce: 0,
            by: None,
            signature: Signature([byte; 64]),
        })
    }

    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let member = (0..5_u32, 0..4_u64, 0..4_u64, any::<bool>(), 0..3_u8).prop_map(
            |(peer, incarnation, position, is_accused, byte)| {
                // A signature covers its record: another position, another signature.
                Piece::Member(Arc::new(Member {
                    peer: Peer(peer),
                    incarnation,
                    seat: (position > 0).then(|| seat(position)),
                    proof: Proof::None,
                    signature: Signature([position as u8; 64]),
                    accusation: is_accused.then(|| Accusation {
                        by: (0..=byte / 2)
                            .map(|it| (Peer(7), Signature([byte + it; 64])))
                            .collect(),
                    }),
                }))
            },
        );
        let position = (1..4_u64, 0..3_u8, 0..3_u32, 0..3_u32, 0..3_u64).prop_map(
            |(position, byte, version, coordinate, count)| {
                let (seat, by, signature) = (seat(position), Peer(1), Signature([byte; 64]));
                let label = Label {
                    seat,
                    coordinate,
                    version,
                    by,
                    signature,
                };
                let census = Census {
                    seat,
                    population: coordinate,
                    version: count,
                    by,
                    signature,
                };
                Piece::Position(Position {
                    grant: grant(position, byte),
                    label: (version > 0).then(|| Arc::new(label)),
                    census: (count > 0).then(|| Arc::new(census)),
                })
            },
        );
        prop::collection::vec(prop_oneof![member, position], 0..24)
    }

    fn joined(parts: &[&[Piece]]) -> (Vec<Arc<Member>>, Vec<Position>) {
        let host = Faker::new(0);
        let mut ring = Ring::new(PositionId(9));
        for piece in parts.iter().copied().flatten() {
            match piece.clone() {
                Piece::Member(record) => ring.merge_member(&host, record, Time::ZERO),
                Piece::Position(position) => ring.merge_position(position, Time::ZERO),
            };
        }
        (
            ring.records().cloned().collect(),
            ring.positions().cloned().collect(),
        )
    }

    /// Joins a whole roster into another, as repair between neighbours does.
    fn join_rosters(
        a: &(Vec<Arc<Member>>, Vec<Position>),
        b: &(Vec<Arc<Member>>, Vec<Position>),
    ) -> (Vec<Arc<Member>>, Vec<Position>) {
        let pieces = |(members, positions): &(Vec<Arc<Member>>, Vec<Position>)| {
            let members = members.iter().cloned().map(Piece::Member);
            members
                .chain(positions.iter().cloned().map(Piece::Position))
                .collect::<Vec<_>>()
        };
        joined(&[&pieces(a), &pieces(b)])
    }

    proptest! {
        #[test]
        fn joining_rosters_is_commutative_associative_and_idempotent(
            a in pieces(), b in pieces(), c in pieces(),
        ) {
            let (a, b, c) = (joined(&[&a]), joined(&[&b]), joined(&[&c]));
            prop_assert_eq!(join_rosters(&a, &b), join_rosters(&b, &a));
            let left = join_rosters(&join_rosters(&a, &b), &c);
            prop_assert_eq!(&left, &join_rosters(&a, &join_rosters(&b, &c)));
            prop_assert_eq!(&join_rosters(&left, &left), &left);
            prop_assert_eq!(&join_rosters(&left, &a), &left);
        }
    }
}
