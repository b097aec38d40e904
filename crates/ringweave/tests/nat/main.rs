//! Peers that cannot dial each other, each on a machine of its own: a network namespace.

#![allow(clippy::unwrap_used)]

mod peer;
mod world;

use std::{
    thread,
    time::{Duration, Instant},
};

use peer::{GLANCE, Peer};
use world::{Nat, World};

/// How long a network may take after its last join until everybody reaches everybody.
const SETTLED: Duration = Duration::from_secs(10);
/// How long until a path between two NATs that keep their ports is direct.
const OPENED: Duration = Duration::from_secs(10);
/// How long all may take to reach all after a peer on which others depend is gone.
const HEALED: Duration = Duration::from_secs(15);

/// A world to try peers in, or nothing and a line that says why.
fn world() -> Option<World> {
    match World::new() {
        Ok(world) => Some(world),
        Err(why) => {
            eprintln!("skipped: there can be no network namespaces here: {why}");
            None
        }
    }
}

#[test]
fn peers_behind_nats_reach_each_other_and_survive_a_relay() {
    let Some(mut world) = world() else { return };
    let (space, _) = world.public();
    let hub = Peer::found("hub", &space, &[]);
    let (space, _) = world.public();
    let spare = Peer::join("spare", &space, &hub);
    let (space, anna_outside) = world.private(Nat::KeepsPorts);
    let anna = Peer::join("anna", &space, &hub);
    let (space, bo_outside) = world.private(Nat::KeepsPorts);
    let bo = Peer::join("bo", &space, &hub);
    let (space, _) = world.private(Nat::RandomPorts);
    let cleo = Peer::join("cleo", &space, &hub);

    all_reach_all(&[&hub, &spare, &anna, &bo, &cleo], SETTLED);
    for public in [&hub, &spare] {
        let status = public.ask(&["status"]);
        assert_eq!(status["reachable"], true, "{status}");
        assert!(status["hosts_relay"].is_string(), "{status}");
    }
    for private in [&anna, &bo, &cleo] {
        let status = private.ask(&["status"]);
        assert_eq!(status["reachable"], false, "{status}");
        assert!(status["hosts_relay"].is_null(), "{status}");
        let home = status["home_relay"].as_str().unwrap();
        assert!([hub.id(), spare.id()].contains(&home), "{status}");
        for public in [&hub, &spare] {
            assert_eq!(private.path(public)["path"], "direct");
        }
    }
    within(OPENED, "a direct path between two NATs", || {
        anna.path(&bo)["path"] == "direct" && bo.path(&anna)["path"] == "direct"
    });
    // What a NAT with random ports lets through depends on the other NAT. Where it says relay, it
    // says whose.
    for other in [&anna, &bo] {
        let told = cleo.path(other);
        eprintln!("cleo to {}: {told}", other.name());
        match told["path"].as_str().unwrap() {
            "direct" => assert!(told["relay"].is_null(), "{told}"),
            "relay" => assert!(told["relay"].is_string(), "{told}"),
            path => panic!("{path}: {told}"),
        }
        assert!(!told["why"].as_str().unwrap().is_empty(), "{told}");
    }

    world.block_udp(&anna_outside, &bo_outside);
    within(HEALED, "another way round what is blocked", || {
        anna.path(&bo)["path"] == "relay" && bo.path(&anna)["path"] == "relay"
    });
    all_reach_all(&[&hub, &spare, &anna, &bo, &cleo], HEALED);

    hub.crash();
    all_reach_all(&[&spare, &anna, &bo, &cleo], HEALED);
    within(HEALED, "the other relay in use", || {
        [&anna, &bo, &cleo]
            .iter()
            .all(|private| private.ask(&["status"])["home_relay"] == spare.id())
    });
}

#[test]
fn peers_behind_nats_outlive_their_parent() {
    let Some(mut world) = world() else { return };
    // Two in the center, the others below them, in a closed network.
    let (space, _) = world.public();
    let hub = Peer::found("hub", &space, &["--closed", "--ring-size", "2"]);
    let (space, _) = world.public();
    let spare = Peer::join("spare", &space, &hub);
    let mut private = Vec::new();
    for name in ["anna", "bo", "cleo", "dan"] {
        let (space, _) = world.private(Nat::KeepsPorts);
        private.push(Peer::join(name, &space, &hub));
    }
    let mut all = vec![&hub, &spare];
    all.extend(&private);
    all_reach_all(&all, SETTLED);
    let answer = hub.ask(&["peers"]);
    let mut peers = answer["peers"].as_array().unwrap().iter();
    assert!(
        peers.any(|peer| peer["role"] == "child"),
        "nobody sits below: {answer}"
    );

    hub.crash();
    let mut left = vec![&spare];
    left.extend(&private);
    all_reach_all(&left, HEALED);
}

/// Shows that the walls between the houses are real, that it is the relays that let the others
/// through, and that messages find their way without them.
#[test]
fn without_relays_siblings_behind_nats_talk_through_their_parent() {
    let Some(mut world) = world() else { return };
    // Two in the center, and three below them: two of those share a parent.
    let (space, _) = world.public();
    let shape = ["--relay=false", "--ring-size", "2"];
    let hub = Peer::found("hub", &space, &shape);
    let (space, _) = world.public();
    let spare = Peer::join_as("spare", &space, &hub, &["--relay=false"]);
    let mut private = Vec::new();
    for name in ["anna", "bo", "cleo"] {
        let (space, _) = world.private(Nat::KeepsPorts);
        private.push(Peer::join(name, &space, &hub));
    }
    let [anna, bo, cleo] = &private[..] else {
        panic!("three are private")
    };
    all_reach_all(&[&hub, &spare, anna, bo, cleo], SETTLED);
    let pairs = [(anna, bo), (anna, cleo), (bo, cleo)];
    let siblings = pairs
        .into_iter()
        .find(|(one, other)| !one.path(other).is_null());
    let (anna, bo) = siblings.expect("two share a parent");
    within(SETTLED, "a dial that fails", || {
        let told = anna.path(bo);
        told["why"]
            .as_str()
            .is_some_and(|why| why.starts_with("a dial failed"))
    });
    for told in [anna.path(bo), bo.path(anna)] {
        assert_eq!(told["linked"], false, "{told}");
        assert_eq!(told["role"], "sibling", "{told}");
        assert_eq!(told["path"], "parent", "{told}");
    }
    let answer = anna.ask(&["send", bo.id(), "hello"]);
    assert_eq!(answer["hops"], 2, "{answer}");
    let status = hub.ask(&["status"]);
    assert_eq!(status["reachable"], true, "{status}");
    for public in [&hub, &spare] {
        let status = public.ask(&["status"]);
        assert!(status["hosts_relay"].is_null(), "{status}");
    }
}

/// Waits until every one of them delivers a message to every other one.
fn all_reach_all(peers: &[&Peer], limit: Duration) {
    let start = Instant::now();
    thread::scope(|scope| {
        for from in peers {
            scope.spawn(move || {
                for to in peers.iter().filter(|to| to.id() != from.id()) {
                    loop {
                        let answer = from.try_ask(&["send", to.id(), "hello"]);
                        if answer["delivered"] == true {
                            break;
                        }
                        let (from, to, took) = (from.name(), to.name(), start.elapsed());
                        assert!(took < limit, "{from} to {to} after {took:?}: {answer}");
                        thread::sleep(GLANCE);
                    }
                }
            });
        }
    });
    let count = peers.len() * (peers.len() - 1);
    eprintln!("{count} pairs after {} ms", start.elapsed().as_millis());
}

/// Waits for a condition, which is looked at once at least.
fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(GLANCE);
    }
}
