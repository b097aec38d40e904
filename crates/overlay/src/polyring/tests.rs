use std::{collections::BTreeMap, time::Duration};

use ringweave_ids::Guid;

use super::{
    Config, Policy,
    testing::{SILENCE, Swarm},
};

fn rings_of(ring_size: u16) -> Config {
    Config { ring_size, ..Config::default() }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn guids(swarm: &Swarm) -> BTreeMap<u32, Guid> {
    swarm.peers.keys().map(|number| (*number, swarm.guid(*number).expect("placed"))).collect()
}

fn assert_whole(swarm: &Swarm) {
    assert_eq!(swarm.broken_route(), None, "{}", swarm.picture());
    let count = swarm.peers.len();
    for from in swarm.peers.keys() {
        assert_eq!(swarm.broadcast(*from), (count, count - 1), "from {from}\n{}", swarm.picture());
    }
}

/// From a crash to whole routes; the crash itself is noticed only after `SILENCE`.
fn heal(swarm: &mut Swarm) -> Duration {
    swarm.run(SILENCE + Duration::from_millis(50));
    SILENCE + swarm.run_until(seconds(40), |it| it.broken_route().is_none())
}

fn assert_honest(swarm: &Swarm) {
    assert_eq!(swarm.faults, Vec::new());
}

#[test]
fn a_network_grown_one_by_one_is_whole() {
    let swarm = Swarm::grown(rings_of(4), 40, |_| "");
    assert_whole(&swarm);
    assert_honest(&swarm);
    let depths = guids(&swarm).values().map(Guid::depth).max();
    assert_eq!(depths, Some(3), "{}", swarm.picture());
}

#[test]
fn a_network_that_joins_all_at_once_is_whole() {
    let mut swarm = Swarm::new(rings_of(8));
    swarm.join(0, "", &[]);
    swarm.run(seconds(1));
    for number in 1..80 {
        swarm.join(number, "", &[0]);
    }
    let peers = 80;
    swarm.run_until(seconds(20), |it| (0..peers).all(|number| it.guid(number).is_some()));
    swarm.run(seconds(20));
    assert_whole(&swarm);
    assert_honest(&swarm);
}

#[test]
fn balanced_rings_stay_bounded_and_even() {
    let swarm = Swarm::grown(rings_of(4), 60, |_| "");
    let mut sizes: BTreeMap<Guid, usize> = BTreeMap::new();
    for guid in guids(&swarm).into_values() {
        *sizes.entry(guid.parent().expect("a place has a parent")).or_default() += 1;
    }
    assert!(sizes.values().all(|size| *size <= 4), "{sizes:?}");
}

#[test]
fn a_crashed_leaf_is_forgotten() {
    let mut swarm = Swarm::grown(rings_of(4), 30, |_| "");
    swarm.crash(29);
    let took = heal(&mut swarm);
    swarm.run(seconds(5));
    assert!(took < seconds(5), "{took:?}");
    assert_whole(&swarm);
    assert_honest(&swarm);
}

#[test]
fn a_crashed_inner_peer_renumbers_nobody_below_it() {
    let mut swarm = Swarm::grown(rings_of(4), 60, |_| "");
    for victim in [0, 1, 5] {
        let before = guids(&swarm);
        let lost = before[&victim].clone();
        swarm.crash(victim);
        let took = heal(&mut swarm);
        assert!(took < seconds(5), "{victim} {took:?}");
        swarm.run(seconds(5));
        assert_whole(&swarm);
        let after = guids(&swarm);
        let moved: Vec<_> = after.iter().filter(|(number, guid)| before[number] != **guid).collect();
        assert!(moved.iter().any(|(_, guid)| guid.matches(&lost)), "nobody took {lost} over: {moved:?}");
        // One is promoted into the gap, and one into the promoted one's, down to a leaf.
        assert!(moved.len() <= before[&victim].depth().abs_diff(4) + 1, "{moved:?}");
        assert!(moved.iter().all(|(number, guid)| guid.depth() + 1 == before[number].depth()), "{moved:?}");
    }
    assert_honest(&swarm);
}

#[test]
fn a_third_crashes_at_once_and_the_rest_finds_together() {
    let mut swarm = Swarm::grown(rings_of(5), 90, |_| "");
    for victim in (0..90).filter(|number| number % 3 == 1) {
        swarm.crash(victim);
    }
    heal(&mut swarm);
    swarm.run(seconds(10));
    assert_whole(&swarm);
}

#[test]
fn a_leaving_inner_peer_is_replaced_at_once() {
    let mut swarm = Swarm::grown(rings_of(4), 30, |_| "");
    swarm.leave(1);
    let took = swarm.run_until(seconds(5), |it| it.broken_route().is_none());
    assert!(took < seconds(1), "{took:?}");
    swarm.run(seconds(5));
    assert_whole(&swarm);
    assert_honest(&swarm);
}

#[test]
fn the_founder_of_a_network_of_two_may_go() {
    let mut swarm = Swarm::grown(rings_of(4), 2, |_| "");
    swarm.crash(0);
    swarm.run(seconds(20));
    swarm.join(2, "", &[1]);
    swarm.run_until(seconds(5), |it| it.guid(2).is_some());
    assert_whole(&swarm);
}

#[test]
fn a_single_branch_survives_its_only_center_peer() {
    let config = Config { ring_size: 8, policy: Policy::Labelled };
    let mut swarm = Swarm::grown(config, 9, |_| "/eu/dk");
    swarm.crash(0);
    let took = heal(&mut swarm);
    assert!(took < seconds(5), "{took:?}");
    swarm.run(seconds(5));
    assert_whole(&swarm);
}

#[test]
fn peers_of_one_label_share_a_branch() {
    let config = Config { ring_size: 8, policy: Policy::Labelled };
    let labels = ["/eu/dk/copenhagen", "/eu/de", "/na/ca", "/eu/dk", "/na/us"];
    let swarm = Swarm::grown(config, 40, |number| labels[number as usize % labels.len()]);
    assert_whole(&swarm);
    let guids = guids(&swarm);
    let continent = |number: &u32| &labels[*number as usize % labels.len()][..3];
    for (a, at) in &guids {
        for (b, bt) in &guids {
            let is_together = at.steps()[0] == bt.steps()[0];
            assert_eq!(is_together, continent(a) == continent(b), "{a} {at} {b} {bt}");
        }
    }
}

#[test]
fn nearest_descends_to_the_branch_that_answers_soonest() {
    let config = Config { ring_size: 3, policy: Policy::Nearest };
    let mut swarm = Swarm::new(config);
    // Peers of one residue modulo three are 2 ms apart, others 60 ms.
    swarm.delay = |a, b| Duration::from_millis(if a % 3 == b % 3 { 2 } else { 60 });
    for number in 0..12 {
        let contacts: &[u32] = if number == 0 { &[] } else { &[0] };
        swarm.join(number, "", contacts);
        swarm.run_until(seconds(10), |it| it.guid(number).is_some());
    }
    swarm.run(seconds(5));
    assert_whole(&swarm);
    let guids = guids(&swarm);
    for number in 3..12 {
        assert_eq!(guids[&number].steps()[0], guids[&(number % 3)].steps()[0], "{number} {}", guids[&number]);
    }
}

#[test]
fn a_restarted_peer_takes_a_place_again() {
    let mut swarm = Swarm::grown(rings_of(4), 20, |_| "");
    for victim in [3, 7, 19] {
        swarm.crash(victim);
        swarm.run(Duration::from_millis(300));
        swarm.join(victim, "", &[0, 1]);
        swarm.run_until(seconds(10), |it| it.guid(victim).is_some());
        swarm.run(seconds(15));
        assert_whole(&swarm);
    }
}

#[test]
fn a_joiner_whose_first_contacts_are_dead_gets_in_by_the_third() {
    let mut swarm = Swarm::grown(rings_of(4), 10, |_| "");
    swarm.join(50, "", &[90, 91, 9]);
    let took = swarm.run_until(seconds(10), |it| it.guid(50).is_some());
    assert!(took < seconds(5), "{took:?}");
}

#[test]
fn a_peer_that_lost_everyone_goes_back_when_it_meets_one() {
    let mut swarm = Swarm::grown(rings_of(4), 12, |_| "");
    swarm.isolate(7);
    swarm.run(seconds(60));
    assert_eq!(swarm.guid(7).map(|guid| guid.depth()), Some(1), "it stands alone");
    swarm.reconnect(7);
    swarm.run(seconds(60));
    assert_whole(&swarm);
}
