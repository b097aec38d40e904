//! The cost of one routing decision, table look-up and member choice included, in rings of 8, 64
//! and 1,024 positions.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringweave_ids::{Guid, Key, Peer, PeerId, Signature, Step, Time};
use ringweave_overlay::{
    Hop, Host, Overlay, Profile, Target, View,
    polyring::{Config, Grant, Member, Polyring, Position, PositionId, Proof, Ring, Seat},
};

struct Quiet;

impl Host for Quiet {
    fn id(&self, peer: Peer) -> PeerId {
        PeerId::from_bytes(Key::of("bench", &peer.0.to_le_bytes()).0)
    }
    fn peer(&self, _id: &PeerId) -> Option<Peer> {
        None
    }
    fn sign(&self, _bytes: &[u8]) -> Signature {
        Signature([0; 64])
    }
    fn sign_as_network(&self, _bytes: &[u8]) -> Option<Signature> {
        None
    }
    fn verify(&self, _by: &PeerId, _bytes: &[u8], _signature: &Signature) -> bool {
        true
    }
    fn verify_network(&self, _bytes: &[u8], _signature: &Signature) -> bool {
        true
    }
    fn network(&self) -> &[u8; 32] {
        &[0; 32]
    }
}

/// A ring of `size` positions, one member each, numbered from `first`.
fn ring(id: PositionId, size: u32, first: u32) -> Ring {
    let mut ring = Ring::new(id);
    for number in 0..size {
        let position = PositionId((id.0 + 1) * 10_000 + u64::from(number) + 1);
        let (grant, record) = member(Seat { ring: id, position }, Peer(first + number), number);
        ring.merge_position(Position::new(grant, None, None), Time::ZERO);
        ring.merge_member(&Quiet, record, Time::ZERO);
    }
    ring
}

fn member(seat: Seat, peer: Peer, coordinate: u32) -> (Arc<Grant>, Arc<Member>) {
    let signature = Signature([0; 64]);
    let (branch, sequence) = (String::new(), u64::from(coordinate));
    let grant = Arc::new(Grant {
        peer,
        seat,
        coordinate,
        branch,
        sequence,
        nonce: 0,
        by: None,
        signature,
    });
    let proof = Proof::Grant(grant.clone());
    let record = Member {
        peer,
        incarnation: 1,
        seat: Some(seat),
        proof,
        is_private: false,
        signature,
        accusation: None,
    };
    (grant, Arc::new(record))
}

fn decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for size in [8, 64, 1_024] {
        let above = ring(PositionId::CENTER, size, 0);
        let parent = above
            .positions()
            .nth(1)
            .expect("rings have more than one position")
            .clone();
        let own = ring(parent.id(), size, 10_000);
        let mine = own
            .records()
            .find(|record| record.peer == Peer(10_001))
            .expect("just made")
            .clone();
        let position = mine.seat.expect("a living member").position;
        let below = ring(position, size, 20_000);
        let prefix = Guid::center().child(Step {
            coordinate: parent.coordinate(),
            tag: parent.id().tag(),
        });
        let config = Config {
            ring_size: size as u16,
            ..Config::default()
        };
        let profile = Profile::default();
        let view = View {
            config: &config,
            me: mine.peer,
            profile: &profile,
            host: &Quiet,
        };
        let peer = Polyring::built(&view, mine, own, below, above, vec![parent.clone()]);
        let to = |address: Guid| Target::Peer {
            id: Quiet.id(Peer(99_999)),
            address,
        };
        let last = size - 1;
        let mine = peer.address().expect("built with a place").clone();
        let known = |at: &Guid, coordinate| at.child(Step { coordinate, tag: 0 });
        let cases = [
            ("parent", to(Guid::of(&[3, 1, 4]))),
            ("sibling", to(known(&known(&prefix, last), 5))),
            ("child", to(known(&known(&mine, last), 2))),
        ];
        for (name, target) in cases {
            assert!(
                matches!(peer.next_hop(&view, &target, 7), Hop::To(_)),
                "{name} {size}"
            );
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| peer.next_hop(black_box(&view), black_box(&target), black_box(7)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
