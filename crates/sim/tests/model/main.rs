//! A model of the polyring that is checked exhaustively (stateright): the real machines, every order
//! of delivery between different pairs of peers, connections that break at any moment.

#![allow(clippy::unwrap_used)]

mod host;
mod protocol;
mod whole;
mod world;

use std::time::{Duration, Instant};

use ringweave_overlay::polyring::{Config, Rule};
use stateright::{Checker, Model};

use crate::{
    protocol::{Protocol, Step},
    world::{Budget, Setup, World},
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn setup(count: usize, ring_size: u16, cluster: u8, without: Option<Rule>) -> Setup {
    let config = Config { ring_size, cluster, without, ..Config::default() };
    Setup { config, count, seed: 1 }
}

/// Peers that joined one after the other, and came to rest.
fn grown(setup: &Setup, left: Budget) -> World {
    let mut world = World::new(setup);
    for peer in 0..setup.count {
        let contacts: Vec<usize> = (0..peer).collect();
        world.enter(setup, peer, &contacts);
        let end = world.now + seconds(10);
        assert!(world.run(setup, end));
    }
    let end = world.now + seconds(100);
    assert!(world.run(setup, end));
    world.left = left;
    world
}

fn check(name: &str, protocol: Protocol) -> Vec<(&'static str, String)> {
    let began = Instant::now();
    let cap: usize = std::env::var("CAP").ok().and_then(|x| x.parse().ok()).unwrap_or(200_000);
    let checker = protocol.checker().target_state_count(cap).spawn_bfs().join();
    println!(
        "{name}: {} states, {} unique, depth {}, {:.1} s, {} verdicts",
        checker.state_count(), checker.unique_state_count(), checker.max_depth(),
        began.elapsed().as_secs_f64(), checker.model().verdicts.lock().unwrap().len()
    );
    let mut found = Vec::new();
    for (name, path) in checker.discoveries() {
        let mut text = String::new();
        let mut last = None;
        for (world, step) in path.into_vec() {
            if let Some(step) = step {
                let word = match step {
                    Step::Deliver(from, to) => world.next_word(from, to),
                    Step::Tick => world.next_alarm_word(),
                    _ => String::new(),
                };
                text += &format!("  {} {step:?} {word}\n", world.now);
            }
            last = Some(world);
        }
        let mut end = last.unwrap();
        text += &format!("{end:?}");
        let model = checker.model();
        end.mend();
        end.run(&model.setup, model.horizon + seconds(180));
        text += &format!("in the end {:?}\n{end:?}", end.forged);
        println!("{name}\n{text}");
        found.push((name, text));
    }
    found
}

#[test]
fn probe() {
    let n: usize = std::env::var("N").ok().and_then(|x| x.parse().ok()).unwrap_or(3);
    let g = |k: &str| std::env::var(k).ok().and_then(|x| x.parse::<u64>().ok()).unwrap_or(0);
    let setup = setup(n, g("RING").max(2) as u16, g("CLUSTER").max(1) as u8, None);
    let left = Budget { breaks: g("BREAKS") as u8, cuts: g("CUTS") as u8, splits: g("SPLITS") as u8,
        crashes: g("CRASHES") as u8, entries: g("ENTRIES") as u8, delays: g("DELAYS") as u8 };
    let start = if g("JOINS") > 0 {
        let mut world = World::new(&setup);
        world.enter(&setup, 0, &[]);
        assert!(world.run(&setup, ringweave_ids::Time::from_micros(5_000_000)));
        for p in 1..n { world.enter(&setup, p, &[0]); }
        world.left = left;
        world
    } else if g("APART") > 0 {
        let mut world = grown(&setup, Budget::default());
        world.split(g("MASK") as u32);
        let end = world.now + seconds(g("APART"));
        assert!(world.run(&setup, end));
        println!("apart {world:?}");
        world.mend();
        world.left = left;
        world
    } else if g("FOREIGN") > 0 {
        let mut world = World::new(&setup);
        let k = g("FOREIGN") as usize;
        for p in 0..n { let c: Vec<usize> = if p < k { (0..p).collect() } else { (k..p).collect() }; world.enter(&setup, p, &c);
            let end = world.now + seconds(5); assert!(world.run(&setup, end)); }
        let end = world.now + seconds(60); assert!(world.run(&setup, end));
        println!("apart {world:?}");
        world.greet(&setup, n - 1, &[0]);
        world.left = left;
        world
    } else { grown(&setup, left) };
    println!("{start:?}");
    check("probe", Protocol::new(setup, start, seconds(g("FAULTS")), seconds(g("HORIZON"))));
}
