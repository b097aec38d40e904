//! What every topology must do, whatever it is: each story here is told of all of them.
//!
//! ```text
//! CONFORMANCE_ONLY=chord cargo test --release -p ringweave-sim --test conformance -- --nocapture
//! ```

#![allow(clippy::unwrap_used)]

use std::{env, path::Path, sync::mpsc, thread};

use ringweave_sim::{Report, Scenario, Topology, run};

/// A network in some trouble, and what must be said of it in the end.
struct Story {
    name: &'static str,
    /// As a scenario's file has it, but for the topology.
    text: &'static str,
    /// Whether tables, and all that a machine still names, keep within what their topology says.
    is_bounded: bool,
}

/// All stories. Everywhere all invariants must hold at the end, and nobody may get what is another's.
const STORIES: &[Story] = &[
    Story {
        name: "peers that join one by one reach each other",
        text: "peers = 60\nlookups = 300\nbroadcasts = 3\n[expect]\ndelivered = 1\nreached = 1",
        is_bounded: true,
    },
    Story {
        name: "two are a network",
        text: "peers = 2\nlookups = 20\nbroadcasts = 3\n[expect]\ndelivered = 1\nreached = 1",
        is_bounded: false,
    },
    Story {
        name: "peers that join all at once through a single one find their places",
        text: "peers = 1\nduration = 60\n[[fault]]\nat = 1\nkind = \"flash_crowd\"\npeers = 60\n\
               length = 0.1\n[expect]\nheal_s = 30",
        is_bounded: false,
    },
    Story {
        name: "who leaves is missed by nobody",
        text: "peers = 80\nduration = 60\nlookups = 200\n[[fault]]\nat = 10\nkind = \"leave\"\n\
               share = 0.3\n[expect]\nheal_s = 30\ndelivered = 0.99",
        is_bounded: false,
    },
    Story {
        name: "a tenth crashes",
        text: "peers = 200\nduration = 60\nlookups = 200\n[[fault]]\nat = 10\nkind = \"crash\"\n\
               share = 0.1\n[expect]\nheal_s = 30",
        is_bounded: true,
    },
    Story {
        name: "three in ten crash",
        text: "peers = 200\nduration = 60\nlookups = 200\n[[fault]]\nat = 10\nkind = \"crash\"\n\
               share = 0.3\n[expect]\nheal_s = 30",
        is_bounded: true,
    },
    Story {
        name: "peers come and go",
        text: "peers = 150\nduration = 120\nlookups = 500\nbroadcasts = 5\n\
               churn = \"exponential:600\"\n[expect]\ndelivered = 0.99\nreached = 0.98",
        is_bounded: true,
    },
    Story {
        name: "halves that were apart become one network",
        text: "peers = 80\nduration = 120\nlookups = 200\n[[fault]]\nat = 10\nkind = \"partition\"\n\
               parts = 2\nlength = 30\n[expect]\nheal_s = 60",
        is_bounded: false,
    },
    Story {
        name: "ready tables are those that the protocol comes to",
        text: "peers = 1000\nbootstrap = \"built\"\nlookups = 1000\nbroadcasts = 3\n[expect]\n\
               delivered = 1\nreached = 1",
        is_bounded: true,
    },
];

/// Seeds of each story.
const SEEDS: [u64; 2] = [1, 2];

/// The most peers in a table, and the most others that a machine still names in any way, in networks of
/// up to 1,000.
struct Bounds {
    contacts: u64,
    handles: u64,
}

/// Where a table is logarithmic, its bound is that of four rows of digits, or twelve fingers.
const fn bounds(topology: Topology) -> Bounds {
    let (contacts, handles) = match topology {
        // Two rings of 32 in clusters of three, and the parents.
        Topology::Polyring => (100, 250),
        // Sixteen successors, the predecessor, fingers; those that left or were lost, and questions.
        Topology::Chord => (16 + 1 + 12, 100),
        // Siblings, up to four buckets of 20, and two of each other bucket; all buckets.
        Topology::Kademlia => (80 + 2 * 10, 20 * 10),
        // Sixteen leaves, and four rows of 15; near ones and those being measured.
        Topology::Pastry => (16 + 4 * 15, 250),
        // The first of each slot; all three of each, and those being measured.
        Topology::Tapestry => (4 * 15, 250),
        // The active view; the passive one, walkers' origins, and those being asked.
        Topology::Unstructured => (5, 250),
        // Of a hub, everybody.
        Topology::Star => (1_000, 1_000),
        // Twice as many leaves as are its own, and Chord's table.
        Topology::Superpeer => (2 * 24 + 29, 250),
    };
    Bounds { contacts, handles }
}

#[test]
fn every_topology_does_what_all_must() {
    let mut told = Vec::new();
    for topology in topologies() {
        for story in STORIES {
            for seed in SEEDS {
                told.push((story, scenario(topology, story.text, seed)));
            }
        }
    }
    let problems = each(&told, |(story, scenario)| {
        let outcome = run(scenario, &mut |_| {}).unwrap();
        let mut wrong = scenario.missed(&outcome.report);
        wrong.extend(outcome.violations.into_iter().take(5));
        if outcome.report.misdelivered.is_some_and(|count| count > 0) {
            wrong.push(format!("{:?} misdelivered", outcome.report.misdelivered));
        }
        if story.is_bounded {
            wrong.extend(overgrown(scenario.topology, &outcome.report));
        }
        (!wrong.is_empty()).then(|| {
            let (topology, wrong) = (scenario.topology, wrong.join("\n    "));
            format!(
                "{topology}: {}:\n    {wrong}\n  {}",
                story.name,
                scenario.command()
            )
        })
    });
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn a_seed_has_one_digest_on_one_thread_and_on_two() {
    let text = "peers = 100\nduration = 40\nlookups = 100\nbroadcasts = 2\n\
                churn = \"exponential:300\"\n[[fault]]\nat = 10\nkind = \"crash\"\nshare = 0.1";
    let all: Vec<_> = topologies().collect();
    let problems = each(&all, |topology| {
        let digest = |threads, seed| {
            let scenario = Scenario {
                threads: Some(threads),
                ..scenario(*topology, text, seed)
            };
            run(&scenario, &mut |_| {}).unwrap().report.digest
        };
        let (one, two, other) = (digest(1, 1), digest(2, 1), digest(1, 2));
        let is_alike = one == two && one != other;
        (!is_alike)
            .then(|| format!("{topology}: {one} on one thread, {two} on two, {other} of seed 2"))
    });
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// What is wrong with the size of tables.
fn overgrown(topology: Topology, report: &Report) -> Option<String> {
    let bounds = bounds(topology);
    let contacts = report.state.contacts_max;
    let handles = report.healing.as_ref().and_then(|it| it.handles_max);
    let is_within = contacts <= bounds.contacts && handles.unwrap_or(0) <= bounds.handles;
    (!is_within).then(|| format!("a table of {contacts} peers, {handles:?} named in all"))
}

fn topologies() -> impl Iterator<Item = Topology> {
    let only = env::var("CONFORMANCE_ONLY").ok();
    let all = Topology::ALL.iter().copied();
    all.filter(move |it| only.as_deref().is_none_or(|only| it.name() == only))
}

fn scenario(topology: Topology, text: &str, seed: u64) -> Scenario {
    let scenario = Scenario::from_toml(text, Path::new("conformance.toml")).unwrap();
    let scenario = Scenario {
        topology,
        seed,
        threads: Some(1),
        ..scenario
    };
    scenario.check().unwrap();
    scenario
}

/// What is wrong with each, on as many threads as there are cores.
fn each<T: Sync>(all: &[T], wrong: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (said, problems) = mpsc::channel();
    thread::scope(|scope| {
        for core in 0..cores {
            let (said, wrong) = (said.clone(), &wrong);
            scope.spawn(move || {
                for problem in all.iter().skip(core).step_by(cores).filter_map(wrong) {
                    said.send(problem).unwrap();
                }
            });
        }
    });
    drop(said);
    let mut problems: Vec<_> = problems.into_iter().collect();
    problems.sort();
    problems
}
