//! Peers that cannot dial each other, each on a machine of its own: a network namespace.

#![allow(clippy::unwrap_used)]

mod peer;
mod world;

use std::time::{Duration, Instant};

use peer::Peer;
use world::{Nat, World};

/// A world to try peers in, or nothing and a line that says why.
fn world() -> Option<World> {
    match World::new() {
        Ok(world) => Some(world),
        Err(why) => {
            eprintln!("skipped: no network namespaces here ({why})");
            None
        }
    }
}

#[test]
fn peers_behind_nats_reach_each_other() {
    let Some(mut world) = world() else { return };
    let (space, address) = world.public();
    let parent = Peer::found("parent", &space, &[]);
    let (space, _) = world.public();
    let other = Peer::join("other", &space, &parent);
    let (space, a_outside) = world.private(Nat::KeepsPorts);
    let anna = Peer::join("anna", &space, &parent);
    let (space, b_outside) = world.private(Nat::KeepsPorts);
    let bo = Peer::join("bo", &space, &parent);
    let (space, _) = world.private(Nat::RandomPorts);
    let cleo = Peer::join("cleo", &space, &parent);
    let start = Instant::now();
    let all = [&parent, &other, &anna, &bo, &cleo];
    loop {
        let reached = reached(&all);
        eprintln!("{:?}: {reached:?}", start.elapsed());
        if reached.iter().all(|x| x.2) || start.elapsed() > Duration::from_secs(20) {
            break;
        }
    }
    std::thread::sleep(Duration::from_secs(3));
    for peer in all {
        eprintln!("{}", peer.text(&["status"]));
        eprintln!("{}", peer.text(&["peers"]));
    }
    eprintln!("{}", parent.text(&["tree"]));
    let _ = (address, a_outside, b_outside);
}

fn reached(all: &[&Peer]) -> Vec<(String, String, bool)> {
    let mut found = Vec::new();
    for from in all {
        for to in all {
            if from.id() != to.id() {
                let (_, answer) = from.try_ask(&["send", to.id(), "hello"]);
                found.push((
                    from.name.clone(),
                    to.name.clone(),
                    answer["delivered"] == true,
                ));
            }
        }
    }
    found.retain(|x| !x.2);
    found
}
