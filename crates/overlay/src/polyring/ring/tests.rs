//! A roster is the same whatever order its pieces come in.

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

/// A member that holds a position.
fn living(peer: u32, position: u64) -> Arc<Member> {
    Arc::new(Member {
        peer: Peer(peer),
        incarnation: 1,
        seat: Some(seat(position)),
        proof: Proof::None,
        is_private: false,
        signature: Signature([1; 64]),
        accusation: None,
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
                is_private: false,
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
            let label = (version > 0).then(|| Arc::new(label));
            let census = (count > 0).then(|| Arc::new(census));
            Piece::Position(Position::new(grant(position, byte), label, census))
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

    /// Two halves may relabel a position at once, each to a coordinate of its own.
    #[test]
    fn rosters_with_other_labels_have_other_digests(
        position in 1_u64.., coordinates in (0..512_u32, 0..512_u32), versions in (1..3_u32, 1..3_u32),
    ) {
        let digest = |coordinate: u32, version: u32| {
            let (by, signature) = (Peer(1), Signature([1; 64]));
            let label = Label { seat: seat(position), coordinate, version, by, signature };
            let mut ring = Ring::new(PositionId(9));
            ring.merge_position(
                Position::new(grant(position, 1), Some(Arc::new(label)), None),
                Time::ZERO,
            );
            ring.merge_member(&Faker::new(0), living(0, position), Time::ZERO);
            ring.digest()
        };
        let (one, other) = (digest(coordinates.0, versions.0), digest(coordinates.1, versions.1));
        let is_same = coordinates.0 == coordinates.1 && versions.0 == versions.1;
        prop_assert_eq!(one == other, is_same);
    }
}
