//! Records in worlds: none lost, none stale, in every topology that has holders, and while peers come and go.

#![allow(clippy::unwrap_used)]

use ringweave_sim::{Bootstrap, Churn, Records, Report, Scenario, Share, Topology, run};

fn world(topology: Topology, peers: u32) -> Scenario {
    Scenario {
        topology,
        peers,
        bootstrap: Bootstrap::Built,
        ring_size: Some(8),
        threads: Some(1),
        duration: 30.0,
        records: 100,
        reads: 400,
        ..Scenario::default()
    }
}

/// The report of a world in which nothing is lost or stale.
fn sound(scenario: &Scenario) -> (Report, Records) {
    let outcome = run(scenario, &mut |_| {}).unwrap();
    let records = outcome.report.records.unwrap();
    let Records { missing, stale, .. } = records;
    let said = format!(
        "{records:?} {:#?}\n{}",
        outcome.violations,
        scenario.command()
    );
    assert_eq!((missing, stale), (0, 0), "{said}");
    (outcome.report, records)
}

#[test]
fn every_topology_with_structure_keeps_what_it_acknowledged() {
    for &topology in Topology::ALL {
        if topology == Topology::Unstructured {
            continue;
        }
        let scenario = world(topology, 60);
        let (report, records) = sound(&scenario);
        assert_eq!(report.invariants.violated, 0, "{topology}");
        let Records {
            put,
            kept,
            read,
            found,
            ..
        } = records;
        assert_eq!((kept, found), (put, read), "{topology}: {records:?}");
        assert!(put > 100 && read >= 395, "{topology}: {records:?}");
        assert!(records.bytes_per_s > 0.0);
        let two = Scenario {
            threads: Some(2),
            ..scenario
        };
        assert_eq!(
            sound(&two).0.digest,
            report.digest,
            "{topology} on two threads"
        );
    }
}

#[test]
fn nobody_keeps_records_where_there_is_no_structure() {
    let outcome = run(&world(Topology::Unstructured, 60), &mut |_| {}).unwrap();
    let records = outcome.report.records.unwrap();
    assert_eq!((records.put, records.kept, records.read), (100, 0, 0));
}

#[test]
fn records_outlive_the_comings_and_goings_of_their_holders() {
    for topology in [Topology::Polyring, Topology::Chord] {
        let scenario = Scenario {
            duration: 400.0,
            churn: Churn::Weibull {
                shape: 0.4,
                median_s: 300.0,
            },
            ..world(topology, 100)
        };
        let (_, records) = sound(&scenario);
        let Records {
            put,
            kept,
            read,
            found,
            ..
        } = records;
        assert!(kept * 100 >= put * 98, "{topology}: {records:?}");
        assert!(
            read >= 300 && found * 1_000 >= read * 995,
            "{topology}: {records:?}"
        );
    }
}

#[test]
fn a_tenth_of_the_peers_may_crash_at_once() {
    for topology in [Topology::Polyring, Topology::Kademlia] {
        let scenario = Scenario {
            crash: Some(Share {
                share: 0.1,
                at: 10.0,
            }),
            ..world(topology, 100)
        };
        let (_, records) = sound(&scenario);
        assert!(
            records.found * 100 >= records.read * 95,
            "{topology}: {records:?}"
        );
    }
}
