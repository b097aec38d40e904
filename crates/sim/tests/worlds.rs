//! Small worlds from their first join to their last check: what they promise, and that a broken one
//! is found out.

#![allow(clippy::unwrap_used)]

use ringweave_sim::{Bootstrap, Canary, Latency, Outcome, Report, Scenario, Share, Topology, run};

/// A world to be tried in seconds: rings of eight, one thread, ten seconds after the bootstrap.
fn world(peers: u32, bootstrap: Bootstrap) -> Scenario {
    Scenario {
        peers,
        bootstrap,
        ring_size: Some(8),
        threads: Some(1),
        duration: 10.0,
        ..Scenario::default()
    }
}

fn built(peers: u32) -> Scenario {
    world(peers, Bootstrap::Built)
}

fn grown(peers: u32) -> Scenario {
    world(peers, Bootstrap::Grown)
}

fn play(scenario: &Scenario) -> Outcome {
    run(scenario, &mut |_| {}).unwrap()
}

/// The outcome of a world in which everything holds.
fn sound(scenario: &Scenario) -> Outcome {
    let outcome = play(scenario);
    let invariants = outcome.report.invariants;
    let replay = scenario.command();
    assert!(invariants.checked > 0, "nothing was checked: {replay}");
    assert_eq!(
        invariants.violated, 0,
        "{:#?}\n{replay}",
        outcome.violations
    );
    outcome
}

/// Without the canary all holds; with it the last check says `words` of something.
fn broken(canary: Canary, scenario: &Scenario, words: &str) {
    sound(scenario);
    let scenario = Scenario {
        canary: Some(canary),
        ..scenario.clone()
    };
    let Outcome {
        report, violations, ..
    } = play(&scenario);
    let is_told = violations.iter().any(|violation| violation.contains(words));
    assert!(
        report.invariants.violated > 0 && is_told,
        "{violations:#?}\n{}",
        scenario.command()
    );
}

fn latency_ms(report: &Report) -> f64 {
    report.latency_ms.unwrap().p50
}

#[test]
fn a_seed_makes_one_world_on_any_number_of_threads() {
    let busy = Scenario {
        lookups: 50,
        broadcasts: 2,
        keys: 20,
        jitter: 0.3,
        loss: 0.01,
        ..grown(60)
    };
    let digest = |seed, threads| {
        play(&Scenario {
            seed,
            threads: Some(threads),
            ..busy.clone()
        })
        .report
        .digest
    };
    let first = digest(1, 1);
    for threads in [1, 2, 2, 3, 3] {
        assert_eq!(
            digest(1, threads),
            first,
            "{threads} threads: {}",
            busy.command()
        );
    }
    assert_ne!(digest(2, 1), first);
}

#[test]
fn a_world_of_real_keys_grows_into_one_sound_tree_on_any_number_of_threads() {
    let scenario = Scenario {
        real_keys: true,
        ring_size: Some(4),
        lookups: 40,
        ..grown(40)
    };
    let grow = |threads| {
        let scenario = Scenario {
            threads: Some(threads),
            ..scenario.clone()
        };
        let Outcome { report, series, .. } = sound(&scenario);
        assert_eq!(
            (report.sent, report.delivered),
            (Some(40), Some(40)),
            "{}",
            scenario.command()
        );
        (series.places, report.digest)
    };
    let first = grow(1);
    assert_eq!(first.0.len(), 40);
    assert_eq!(grow(2), first);
}

#[test]
fn a_built_world_holds_all_invariants() {
    sound(&built(300));
}

#[test]
fn a_grown_world_holds_all_invariants() {
    sound(&grown(300));
}

#[test]
fn a_tenth_that_crashes_at_once_is_healed() {
    let report = sound(&Scenario {
        crash: Some(Share {
            share: 0.1,
            at: 2.0,
        }),
        ..built(300)
    })
    .report;
    assert!(report.heal_s.is_some(), "the invariants never held again");
}

#[test]
fn a_broadcast_at_rest_comes_to_each_peer_once() {
    let broadcast = sound(&Scenario {
        broadcasts: 1,
        ..built(300)
    })
    .report
    .broadcast
    .unwrap();
    assert_eq!((broadcast.reached, broadcast.expected), (300, 300));
    assert_eq!((broadcast.transmissions, broadcast.duplicates), (299, 0));
}

#[test]
fn loss_and_jitter_slow_messages_down_and_lose_none() {
    let calm = Scenario {
        lookups: 200,
        ..built(100)
    };
    let rough = Scenario {
        loss: 0.05,
        jitter: 0.5,
        ..calm.clone()
    };
    let [calm, rough] = [&calm, &rough].map(|scenario| sound(scenario).report);
    for report in [&calm, &rough] {
        assert_eq!(
            (report.sent, report.delivered, report.lost),
            (Some(200), Some(200), Some(0))
        );
    }
    assert!(
        latency_ms(&rough) > latency_ms(&calm),
        "{rough:?}\n{calm:?}"
    );
}

#[test]
fn a_narrow_upload_makes_a_broadcast_late() {
    let wide = Scenario {
        broadcasts: 1,
        payload: 4_096,
        ..built(100)
    };
    let narrow = Scenario {
        upload: Some(50_000),
        ..wide.clone()
    };
    let [wide, narrow] =
        [&wide, &narrow].map(|scenario| sound(scenario).report.broadcast.unwrap().last_ms);
    assert!(narrow > wide, "{narrow} ms, but {wide} ms without a limit");
}

#[test]
fn distance_is_felt_as_latency_and_changes_no_way() {
    let near = Scenario {
        lookups: 50,
        latency: Latency::Constant(5.0),
        ..built(100)
    };
    let far = Scenario {
        latency: Latency::Constant(50.0),
        ..near.clone()
    };
    let [near, far] = [&near, &far].map(|scenario| sound(scenario).report);
    assert_eq!(near.hops, far.hops);
    assert!(latency_ms(&far) > 9.0 * latency_ms(&near));
}

#[test]
fn without_repair_rosters_stay_different() {
    broken(Canary::RepairOff, &grown(60), "hold different rosters");
}

#[test]
fn a_member_that_is_not_there_is_noticed() {
    broken(
        Canary::ForgedRoster,
        &grown(60),
        "has no connection to its neighbour",
    );
}

#[test]
fn news_that_one_sibling_missed_is_noticed() {
    broken(Canary::DroppedDelta, &grown(60), "hold different rosters");
}

#[test]
fn a_peer_that_hands_messages_to_the_wrong_neighbour_is_noticed() {
    broken(Canary::Misrouted, &grown(60), "no route from peer 0");
}

#[test]
fn a_peer_that_sends_its_copies_twice_is_noticed() {
    let scenario = Scenario {
        broadcasts: 4,
        ..grown(60)
    };
    broken(Canary::DoubledBroadcast, &scenario, "of them in vain");
}

#[test]
fn an_application_that_is_handed_a_broadcast_twice_is_noticed_under_churn() {
    let scenario = Scenario {
        broadcasts: 4,
        churn: "exponential:120".parse().unwrap(),
        ..grown(60)
    };
    broken(
        Canary::DoubledDelivery,
        &scenario,
        "handed a broadcast which it had",
    );
}

#[test]
fn an_unstructured_network_finds_everyone_without_addresses() {
    for bootstrap in [Bootstrap::Built, Bootstrap::Grown] {
        let report = sound(&Scenario {
            topology: Topology::Unstructured,
            lookups: 100,
            broadcasts: 2,
            ..world(120, bootstrap)
        })
        .report;
        assert_eq!((report.sent, report.delivered), (Some(100), Some(100)));
        assert_eq!(report.hops.unwrap().max, 1.0);
    }
}

#[test]
fn the_tree_of_an_unstructured_network_is_found_once() {
    // Where links are slow, announcements come long before copies do.
    for latency in [50.0, 100.0] {
        let spread = |broadcasts| {
            let scenario = Scenario {
                topology: Topology::Unstructured,
                latency: Latency::Constant(latency),
                broadcasts,
                duration: 60.0,
                ..built(400)
            };
            sound(&scenario).report.broadcast.unwrap()
        };
        let (two, many) = (spread(2), spread(22));
        assert_eq!((two.reached, many.reached), (800, 8_800));
        assert_eq!((many.asked, many.repaired), (0, 0), "{latency} ms");
        let each = (many.transmissions - two.transmissions) as f64 / (20.0 * 399.0);
        assert!((1.0..1.02).contains(&each), "{each}: {two:?} {many:?}");
    }
}

#[test]
fn an_unstructured_network_heals_when_most_of_it_is_gone() {
    let report = sound(&Scenario {
        topology: Topology::Unstructured,
        duration: 40.0,
        faults: vec!["crash@5:share=0.8".parse().unwrap()],
        ..grown(150)
    })
    .report;
    assert!(
        report.heal_s.is_some_and(|heal| heal < 35.0),
        "{:?}",
        report.heal_s
    );
}
