//! What Zave proves of Chord, in every state that a random history comes to: one ring, in the order of
//! its points, into which everybody leads ("How to Make Chord Correct", section 4).

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringweave_ids::Point;

use super::{Chord, Config, Style};
use crate::{
    Contact, Overlay as _,
    swarm::{Deed, Swarm, steps},
};

/// Successors kept; so many peers and one more make the base, which is always there (section 5).
const SUCCESSORS: u8 = 3;
const BASE: u32 = SUCCESSORS as u32 + 1;

/// The first successor of each that is up; those that are on their way in and know nobody have none.
fn best(net: &Swarm<Chord>) -> BTreeMap<u32, Contact> {
    let up: BTreeMap<_, _> = net.peers().collect();
    let best = |peer: &Chord| peer.circle().1.find(|it| up.contains_key(&it.peer.0));
    let all = up.iter();
    all.filter_map(|(handle, peer)| Some((*handle, best(peer)?)))
        .collect()
}

/// Those on the ring that a peer leads into, from where it is met on.
fn ring(best: &BTreeMap<u32, Contact>, from: u32) -> Option<Vec<Contact>> {
    let mut at = from;
    for _ in 0..best.len() {
        at = best.get(&at)?.peer.0;
    }
    let mut ring = vec![*best.get(&at)?];
    while ring[ring.len() - 1].peer.0 != at {
        ring.push(*best.get(&ring[ring.len() - 1].peer.0)?);
    }
    Some(ring)
}

/// One ring, ordered, and all others on a way into it.
fn is_one_ring(net: &Swarm<Chord>) -> Result<(), TestCaseError> {
    let best = best(net);
    let mut rings = Vec::new();
    for from in best.keys() {
        let ring = ring(&best, *from);
        prop_assert!(ring.is_some(), "{} leads nowhere", from);
        let mut ring = ring.unwrap_or_default();
        let turns = ring
            .windows(2)
            .filter(|it| it[1].point < it[0].point)
            .count();
        let is_closed = ring.last().map(|it| it.point) > ring.first().map(|it| it.point);
        prop_assert_eq!(
            turns + usize::from(is_closed),
            1,
            "{} goes round more than once",
            from
        );
        ring.sort_by_key(|it| it.point);
        rings.push(ring);
    }
    prop_assert!(
        rings.iter().all(|ring| *ring == rings[0]),
        "there are several rings"
    );
    Ok(())
}

/// Whether everybody would still have a successor without this one: of others nothing is claimed.
fn may_go(net: &Swarm<Chord>, gone: u32) -> bool {
    let up: BTreeMap<_, _> = net.peers().collect();
    up.values().all(|peer| {
        let mut others = peer.circle().1.filter(|it| it.peer.0 != gone);
        others.any(|it| up.contains_key(&it.peer.0))
    })
}

/// At rest all is as it should be: predecessors and lists.
fn is_ideal(net: &Swarm<Chord>) -> Result<(), TestCaseError> {
    let points = net
        .peers()
        .filter_map(|(handle, peer)| Some((peer.address()?.point()?, handle)));
    let mut points: Vec<(Point, u32)> = points.collect();
    points.sort_unstable();
    let count = points.len();
    prop_assert_eq!(count, net.peers().count());
    for (place, (_, handle)) in points.iter().enumerate() {
        let (_, peer) = net.peers().find(|it| it.0 == *handle).expect("it is up");
        let (before, after) = peer.circle();
        let after: Vec<_> = after.map(|it| it.peer.0).collect();
        let expected = 1..count.min(1 + usize::from(SUCCESSORS));
        let expected = expected.map(|step| points[(place + step) % count].1);
        prop_assert_eq!(after, expected.collect::<Vec<_>>());
        let expected = points[(place + count - 1) % count].1;
        prop_assert_eq!(before.map(|it| it.peer.0), Some(expected));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn there_is_one_ring_in_every_state_and_at_rest_it_is_the_right_one(
        steps in steps(24), is_iterative: bool,
    ) {
        let lookups = if is_iterative { Style::Iterative } else { Style::Recursive };
        let config = Config { successors: SUCCESSORS, lookups, ..Config::default() };
        let mut net = Swarm::<Chord>::grown(config, BASE);
        for (deed, pause) in steps {
            let before: Vec<_> = net.peers().map(|it| it.0).collect();
            let chosen = match deed {
                Deed::Crash(which) | Deed::Leave(which) => {
                    let others = &before[BASE as usize..];
                    others.get(usize::from(which) % others.len().max(1)).copied()
                }
                Deed::Join => None,
            };
            if chosen.is_none_or(|it| may_go(&net, it)) {
                net.befall(deed, BASE);
            }
            for _ in 0..4 {
                is_one_ring(&net)?;
                net.run(f64::from(pause) / 4_000.0);
            }
        }
        net.run(150.0);
        is_one_ring(&net)?;
        is_ideal(&net)?;
    }
}

/// Both styles come to the same fingers; and where one of those on the way is silent, who asks goes on
/// with another.
#[test]
fn both_styles_find_the_same() {
    let tables = |lookups| {
        let config = Config {
            lookups,
            ..Config::default()
        };
        let mut net = Swarm::<Chord>::grown(config, 60);
        net.crash(11);
        net.run(240.0);
        assert!(net.longest_way().is_ok());
        let tables = net.peers().map(|(handle, peer)| {
            let fingers: Vec<_> = peer.fingers.iter().collect();
            (handle, fingers)
        });
        tables.collect::<Vec<_>>()
    };
    assert_eq!(tables(Style::Recursive), tables(Style::Iterative));
}

/// What others say of it is not believed for a minute, but by its successor, to whom it speaks itself.
#[test]
fn who_said_goodbye_may_come_back_at_once() {
    for count in [3, 30] {
        let mut net = Swarm::<Chord>::grown(Config::default(), count);
        net.leave(0);
        net.run(1.0);
        net.again(0, &[1, 2]);
        net.run(3.0);
        let placed = net.peers().filter(|(_, it)| it.address().is_some());
        assert_eq!(placed.count(), count as usize);
        assert!(net.longest_way().is_ok());
    }
}
