//! A peer believes nobody: messages that say anything, from neighbours and strangers, change nothing.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::{prelude::*, strategy::ValueTree as _};
use ringweave_ids::{Guid, Peer, Random, Signature};

use super::{
    Accusation, Config, Grant, Heading, Hello, Member, Message, Occasion, Offer, Position,
    PositionId, Proof, Roster, Seat, Testimony, Version, Walk, testing::Swarm,
};
use crate::Input;

/// Messages that say anything about known and unknown peers, rings and positions.
fn nonsense(rings: Vec<u64>) -> impl Strategy<Value = Message> {
    let ring = prop_oneof![
        Just(0),
        Just(u64::MAX),
        any::<u64>(),
        prop::sample::select(rings)
    ];
    let ring = ring.prop_map(PositionId);
    let seat = (ring.clone(), ring.clone()).prop_map(|(ring, position)| Seat { ring, position });
    let signature = any::<u8>().prop_map(|byte| Signature([byte; 64]));
    let testimony = prop_oneof![
        Just(Testimony::Heard),
        (0..30_u32).prop_map(|peer| Testimony::Hearsay(Peer(peer))),
        signature.clone().prop_map(Testimony::Accused),
    ];
    let grant = (
        0..30_u32,
        seat.clone(),
        any::<u32>(),
        any::<u64>(),
        signature.clone(),
    )
        .prop_map(|(peer, seat, coordinate, sequence, signature)| {
            let (by, branch) = (peer.checked_sub(3).map(Peer), "/x".repeat(peer as usize));
            let peer = Peer(peer);
            Arc::new(Grant {
                peer,
                seat,
                coordinate,
                branch,
                sequence,
                nonce: sequence,
                by,
                signature,
            })
        });
    let member = (
        0..30_u32,
        any::<u64>(),
        prop::option::of(seat),
        grant.clone(),
        signature.clone(),
        any::<bool>(),
    )
        .prop_map(|(peer, incarnation, seat, grant, signature, is_accused)| {
            let by = [(Peer(peer / 2), signature)].into_iter().collect();
            let accusation = is_accused.then_some(Accusation { by });
            let proof = Proof::Grant(grant);
            Arc::new(Member {
                peer: Peer(peer),
                incarnation,
                seat,
                proof,
                is_private: false,
                signature,
                accusation,
            })
        });
    let position = grant
        .clone()
        .prop_map(|grant| Position::new(grant, None, None));
    let members = prop::collection::vec(member.clone(), 0..4);
    let positions = prop::collection::vec(position.clone(), 0..4);
    let lineage = prop::collection::vec(position.clone(), 0..60);
    let walk = (
        member.clone(),
        any::<u64>(),
        any::<u8>(),
        any::<bool>(),
        any::<u8>(),
    )
        .prop_map(|(member, nonce, level, is_inward, hops)| {
            let heading = if is_inward {
                Heading::Inward
            } else {
                Heading::Outward
            };
            Walk {
                member,
                way: (hops % 3 == 0).then(|| vec![Peer(u32::from(level) % 30)]),
                home: (hops % 5 == 0).then(|| Guid::of(&[u32::from(level), u32::MAX])),
                nonce,
                label: "/eu//dk/".into(),
                level,
                heading,
                hops,
                hints: [Peer(u32::from(hops) % 30)].into_iter().collect(),
                shunned: vec![PositionId(nonce); usize::from(hops % 12)],
            }
        });
    prop_oneof![
        walk.prop_map(|walk| Message::Join(Box::new(walk))),
        (
            any::<u64>(),
            prop::collection::vec((0..30_u32).prop_map(Peer), 0..40)
        )
            .prop_map(|(nonce, candidates)| Message::Choose { nonce, candidates }),
        (
            any::<u64>(),
            grant,
            members.clone(),
            positions.clone(),
            ring.clone()
        )
            .prop_map(|(nonce, grant, members, positions, above)| {
                let roster = |ring| Roster {
                    ring,
                    members: members.clone(),
                    positions: positions.clone(),
                };
                let offer = Box::new(Offer {
                    nonce,
                    way: vec![Peer(7); (nonce % 3) as usize],
                    lineage: positions.clone(),
                    hints: [Peer(5)].into_iter().collect(),
                    split: vec![Peer(3), Peer(40)],
                    own: roster(grant.seat.ring),
                    above: (nonce % 2 == 0).then(|| roster(above)),
                    below: (nonce % 3 == 0).then(|| roster(grant.seat.position)),
                    grant,
                });
                if nonce % 5 == 0 {
                    Message::Promote(offer)
                } else {
                    Message::Offer(offer)
                }
            }),
        (
            member,
            position,
            prop::option::of(ring.clone()),
            any::<u64>()
        )
            .prop_map(|(member, position, above, digest)| {
                let digests = above.into_iter().map(|ring| (ring, digest)).collect();
                Message::Hello(Box::new(Hello {
                    member,
                    position,
                    above,
                    digests,
                    center: [Peer(digest as u32 % 30)].into_iter().collect(),
                    sample: [Peer(7)].into_iter().collect(),
                    split: [Peer(50)].into_iter().collect(),
                    occasion: [Occasion::Arrival, Occasion::Upkeep, Occasion::Greeting]
                        [digest as usize % 3],
                }))
            }),
        (
            ring.clone(),
            prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 0..9)
        )
            .prop_map(|(ring, versions)| {
                let version = |(head, incarnation, is_accused)| Version {
                    head,
                    incarnation,
                    is_accused,
                };
                Message::Summary {
                    ring,
                    digest: versions.len() as u64,
                    places: 0,
                    versions: versions.into_iter().map(version).collect(),
                }
            }),
        (
            ring.clone(),
            members,
            positions,
            prop::collection::vec(any::<u64>(), 0..9)
        )
            .prop_map(|(ring, members, positions, wanted)| Message::Records {
                ring,
                members,
                positions,
                wanted
            }),
        lineage.prop_map(|positions| Message::Lineage {
            positions,
            center: vec![Peer(11); 9],
        }),
        prop::collection::vec((0..30_u32).prop_map(Peer), 0..9)
            .prop_map(|strangers| Message::Meet { strangers }),
        (
            any::<u64>(),
            prop::collection::vec((0..30_u32).prop_map(Peer), 0..9)
        )
            .prop_map(|(nonce, peers)| Message::Contacts { nonce, peers }),
        (0..30_u32, any::<u64>()).prop_map(|(peer, incarnation)| Message::Ask {
            suspect: Peer(peer),
            incarnation
        }),
        (0..30_u32, any::<u64>(), testimony).prop_map(|(peer, incarnation, testimony)| {
            Message::Answer {
                suspect: Peer(peer),
                incarnation,
                testimony,
            }
        }),
        any::<u64>().prop_map(Message::Ping),
        any::<u64>().prop_map(Message::Pong),
        ring.clone()
            .prop_map(|position| Message::Elect { position }),
        (ring, signature).prop_map(|(position, signature)| Message::Vote {
            position,
            signature
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nonsense_from_neighbours_and_strangers_changes_nothing(
        seed in any::<u64>(), count in 50..200_usize,
    ) {
        let config = Config { ring_size: 4, ..Config::default() };
        let guids = |swarm: &Swarm| -> BTreeMap<u32, Option<Guid>> {
            swarm.peers.keys().map(|number| (*number, swarm.guid(*number))).collect()
        };
        let mut swarm = Swarm::grown(config, 14, |_| "");
        let before = guids(&swarm);
        let rings: Vec<u64> = swarm.peers[&5].0.own.positions().map(|position| position.id().0).collect();
        let mut random = Random::new(seed);
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let messages = nonsense(rings);
        for _ in 0..count {
            let message = messages.new_tree(&mut runner).expect("no filter rejects").current();
            let (to, from) = (random.below(14) as u32, Peer(random.below(30) as u32));
            swarm.feed(to, Input::Received(from, message));
        }
        swarm.run(Duration::from_secs(30));
        prop_assert_eq!(guids(&swarm), before);
        prop_assert_eq!(swarm.broken_route(), None);
        prop_assert!(!swarm.faults.is_empty());
    }
}
