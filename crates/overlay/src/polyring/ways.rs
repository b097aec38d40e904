//! Tests of the ways round what is missing: connections that do not stand, and places left behind.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ringweave_ids::{Guid, Key, Peer};

use super::{
    Config,
    testing::{Faker, Swarm},
};
use crate::{Hop, Overlay, Target, View};

fn rings_of(ring_size: u16) -> Config {
    Config {
        ring_size,
        ..Config::default()
    }
}

fn coordinates(guid: &Guid) -> Vec<u32> {
    guid.steps().iter().map(|step| step.coordinate).collect()
}

/// Both take the connection between them for lost, or for made.
fn link(swarm: &mut Swarm, a: u32, b: u32, is_up: bool) {
    let now = swarm.now;
    for (one, other) in [(a, b), (b, a)] {
        let (peer, ..) = swarm.peers.get_mut(&one).unwrap();
        peer.relink(now, Peer(other), is_up);
    }
}

/// Pairs of neighbours, each once, both of whom have others.
fn pairs(swarm: &Swarm) -> Vec<(u32, u32)> {
    let is_lone = |number: &u32| swarm.peers[number].0.links.wanted().count() < 2;
    let mut pairs = Vec::new();
    for (number, (peer, ..)) in &swarm.peers {
        let linked = peer.links.wanted().filter(|link| link.is_up);
        pairs.extend(
            linked
                .map(|link| (*number, link.peer.0))
                .filter(|(a, b)| a < b && !is_lone(a) && !is_lone(b)),
        );
    }
    pairs
}

#[test]
fn routes_and_broadcasts_go_round_any_connection_that_is_missing() {
    let mut swarm = Swarm::grown(rings_of(4), 40, |_| "");
    let count = swarm.peers.len();
    for (a, b) in pairs(&swarm) {
        link(&mut swarm, a, b, false);
        for from in 0..count as u32 {
            assert_eq!(
                swarm.broadcast(from),
                (count, count - 1),
                "{from}, without {a} - {b}"
            );
            for to in [a, b] {
                swarm.route(from, to).unwrap();
            }
        }
        link(&mut swarm, a, b, true);
    }
}

#[test]
fn who_comes_back_is_given_its_place_again() {
    let mut swarm = Swarm::grown(rings_of(4), 40, |_| "");
    let is_leaf = |number: &u32| swarm.peers[number].0.below.population() == 0;
    let leaves: Vec<_> = (0..40).filter(is_leaf).take(6).collect();
    assert!(!leaves.is_empty());
    for (leaf, away) in leaves.into_iter().zip([0, 1, 5, 20].into_iter().cycle()) {
        let before = swarm.guid(leaf).unwrap();
        swarm.crash(leaf);
        swarm.run(Duration::from_secs(away) + Duration::from_millis(100));
        swarm.rejoin(leaf, &[0, 1], before.clone());
        swarm.run_until(Duration::from_secs(5), |it| it.guid(leaf).is_some());
        let after = swarm.guid(leaf).unwrap();
        assert_eq!(
            coordinates(&after),
            coordinates(&before),
            "away for {away} s"
        );
        swarm.run(Duration::from_secs(15));
        assert_eq!(swarm.broken_route(), None);
    }
}

#[test]
fn a_place_that_another_one_has_by_now_is_not_taken_from_it() {
    let mut swarm = Swarm::grown(rings_of(4), 40, |_| "");
    let taken = swarm.guid(39).unwrap();
    swarm.rejoin(50, &[0], taken.clone());
    swarm.run_until(Duration::from_secs(5), |it| it.guid(50).is_some());
    swarm.run(Duration::from_secs(5));
    assert_eq!(swarm.guid(39), Some(taken.clone()));
    assert_ne!(swarm.guid(50), Some(taken));
    assert_eq!(swarm.broken_route(), None);
}

#[test]
fn a_key_leads_everybody_to_the_same_member_of_a_cluster() {
    let swarm = Swarm::grown(rings_of(4), 40, |_| "");
    let end = |from: u32, target: &Target<Guid>| {
        let mut at = from;
        for _ in 0..20 {
            let (peer, profile, _) = &swarm.peers[&at];
            let host = Faker::new(at);
            let view = View {
                config: &swarm.config,
                me: Peer(at),
                profile,
                host: &host,
            };
            match peer.next_hop(&view, target, u64::from(from)) {
                Hop::Arrived => return Some(at),
                Hop::To(next) => at = next.0,
                _ => return None,
            }
        }
        None
    };
    for number in 0..50_u32 {
        let key = Key::of("test", &number.to_le_bytes());
        let target = Target::Key {
            scope: None,
            key,
            choice: 0,
        };
        let first = end(0, &target);
        assert!(first.is_some());
        assert!((0..40).all(|from| end(from, &target) == first));
    }
}
