//! Walks over ready tables beside published figures, at sizes that take seconds. `just published` walks
//! the sizes of the papers.

#![allow(clippy::unwrap_used)]

use ringweave_ids::Random;
use ringweave_sim::{Bootstrap, Fingers, Scenario, Targets, Topology, Walk, Walked, walk};

fn shape(topology: Topology, peers: u32) -> Scenario {
    Scenario {
        topology,
        peers,
        threads: Some(1),
        bootstrap: Bootstrap::Built,
        ..Scenario::default()
    }
}

fn paths(scenario: Scenario, paths: u32) -> Walk {
    Walk {
        scenario,
        paths,
        targets: Targets::Peers,
        dead: 0.0,
        repair: 0.0,
    }
}

fn walked(one: &Walk) -> Walked {
    walk(one).unwrap()
}

/// The mean hops of paths that all arrive.
fn mean(one: &Walk) -> f64 {
    let walked = walked(one);
    assert_eq!(walked.arrived, walked.paths, "{walked:?}");
    walked.hops.unwrap().mean
}

/// The bare tables of Gummadi et al.: digits of one bit, one peer in each place, nobody next to one but
/// Chord's one successor.
fn bare(topology: Topology, peers: u32) -> Scenario {
    Scenario {
        successors: Some(1),
        fingers: Fingers::Random,
        no_shortcuts: true,
        bucket: Some(1),
        links: Some(1),
        digit_bits: Some(1),
        leaves: Some(0),
        slot: Some(1),
        no_surrogates: true,
        ..shape(topology, peers)
    }
}

#[test]
fn chord_takes_half_the_logarithm() {
    for bits in [9, 10, 12] {
        let scenario = Scenario {
            no_shortcuts: true,
            ..shape(Topology::Chord, 1 << bits)
        };
        let half = f64::from(bits) / 2.0;
        let mean = mean(&paths(scenario, 20_000));
        assert!((mean / half - 1.0).abs() < 0.03, "{mean} hops, not {half}");
    }
}

#[test]
fn pastry_takes_less_than_a_hop_a_digit() {
    let mean = mean(&paths(shape(Topology::Pastry, 4_096), 5_000));
    assert!(mean < 3.0, "{mean}");
}

#[test]
fn every_lookup_of_kademlia_finds_exactly_the_closest() {
    let lookups = Walk {
        targets: Targets::Closest,
        ..paths(shape(Topology::Kademlia, 2_000), 200)
    };
    assert!(mean(&lookups) >= 20.0, "each of the 20 closest is asked");
    let bare = Walk {
        scenario: bare(Topology::Kademlia, 2_000),
        dead: 0.3,
        ..lookups
    };
    assert!(walked(&bare).failed > 0.1, "nothing was compared");
}

#[test]
fn a_bare_table_bears_what_its_geometry_bears() {
    let failed = |topology| {
        let targets = match topology {
            Topology::Chord => Targets::Predecessors,
            _ => Targets::Peers,
        };
        let bare = Walk {
            targets,
            dead: 0.3,
            ..paths(bare(topology, 4_096), 5_000)
        };
        walked(&bare).failed
    };
    // Half of twelve digits have to be gone, and each is there with 0.7: 1 - 0.7^6 is 0.88; where peers
    // are few, so are digits.
    let tree = failed(Topology::Tapestry);
    assert!((0.75..0.9).contains(&tree), "{tree}");
    for topology in [Topology::Kademlia, Topology::Pastry] {
        let failed = failed(topology);
        assert!((0.15..0.32).contains(&failed), "{topology}: {failed}");
    }
    let ring = failed(Topology::Chord);
    assert!(ring < 0.12, "{ring}");
}

/// The share of paths that fail in a sketch of the bare XOR geometry that knows nothing of our code: ids
/// at random, one random peer for each bit in which another may first differ, always the nearest that lives.
fn sketched(peers: usize, paths: u32, dead: f64, random: &mut Random) -> f64 {
    let mut ids: Vec<u64> = (0..peers).map(|_| random.bits()).collect();
    ids.sort_unstable();
    let mut tables = Vec::with_capacity(peers);
    for &id in &ids {
        let mut table = [None; 64];
        for (bit, slot) in table.iter_mut().enumerate() {
            let low = (id ^ (1 << bit)) & (u64::MAX << bit);
            let from = ids.partition_point(|&other| other < low);
            let to = ids.partition_point(|&other| other <= low | !(u64::MAX << bit));
            *slot = (from < to).then(|| from + random.below(to - from));
        }
        tables.push(table);
    }
    let lives: Vec<bool> = ids
        .iter()
        .map(|_| random.below(1_000) as f64 >= dead * 1_000.0)
        .collect();
    let mut alive = || loop {
        let one = random.below(peers);
        if lives[one] {
            return one;
        }
    };
    let mut failed = 0;
    for _ in 0..paths {
        let (mut at, goal) = (alive(), alive());
        while at != goal {
            let nearer = |&next: &usize| ids[next] ^ ids[goal] < ids[at] ^ ids[goal];
            let live = tables[at].iter().flatten().copied();
            let live = live.filter(|&next| lives[next]).filter(nearer);
            let Some(next) = live.min_by_key(|&next| ids[next] ^ ids[goal]) else {
                failed += 1;
                break;
            };
            at = next;
        }
    }
    f64::from(failed) / f64::from(paths)
}

#[test]
fn a_bare_table_bears_what_a_sketch_of_it_bears() {
    let random = &mut Random::new(1);
    assert!(
        sketched(4_096, 2_000, 0.0, random) == 0.0,
        "a path ends early"
    );
    let sketched = sketched(4_096, 10_000, 0.3, random);
    for topology in [Topology::Kademlia, Topology::Pastry] {
        let bare = Walk {
            dead: 0.3,
            ..paths(bare(topology, 4_096), 10_000)
        };
        let failed = walked(&bare).failed;
        assert!(
            (failed - sketched).abs() < 0.05,
            "{topology}: {failed}, not {sketched}"
        );
    }
}

#[test]
fn sixteen_neighbours_on_the_circle_keep_every_path() {
    let chord = Scenario {
        successors: Some(16),
        no_shortcuts: false,
        ..bare(Topology::Chord, 4_096)
    };
    let pastry = Scenario {
        leaves: Some(16),
        ..bare(Topology::Pastry, 4_096)
    };
    for scenario in [chord, pastry] {
        let walk = Walk {
            dead: 0.3,
            ..paths(scenario, 5_000)
        };
        let walked = walked(&walk);
        assert!(walked.failed < 0.005, "{walked:?}");
    }
}

#[test]
fn keys_of_the_dead_are_lost_and_no_others() {
    for dead in [0.1, 0.3, 0.5] {
        let keys = Walk {
            targets: Targets::Keys,
            dead,
            repair: 60.0,
            ..paths(shape(Topology::Chord, 500), 2_000)
        };
        let walked = walked(&keys);
        assert_eq!(walked.arrived, walked.paths - walked.lost, "{walked:?}");
        // As many keys as peers, give or take how unevenly 500 share the circle.
        assert!((walked.failed - dead).abs() < 0.1, "{walked:?}");
    }
}

#[test]
fn the_same_seed_walks_the_same() {
    let walk = Walk {
        dead: 0.2,
        ..paths(shape(Topology::Pastry, 500), 500)
    };
    let figures = |seed| {
        let mut walk = walk.clone();
        walk.scenario.seed = seed;
        let walked = walked(&walk);
        (walked.arrived, walked.hops)
    };
    assert_eq!(figures(1), figures(1));
    assert_ne!(figures(1), figures(2));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |walk: Walk, field: &str| {
        let error = ringweave_sim::walk(&walk).unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
    };
    let walk = |topology| paths(shape(topology, 100), 10);
    let chord = walk(Topology::Chord);
    refused(walk(Topology::Unstructured), "topology");
    refused(
        Walk {
            dead: 1.0,
            ..chord.clone()
        },
        "dead",
    );
    refused(
        Walk {
            targets: Targets::Closest,
            ..chord
        },
        "targets",
    );
}
