use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ringweave_ids::{Guid, Peer, Random, Signature};
use smallvec::SmallVec;

use super::{
    Accusation, Config, Cover, Grant, Hello, Member, Message, Occasion, Order, Policy, Polyring,
    PositionId, Proof, Seat, Timer,
    record::accusation_words,
    ring::TOMBSTONE,
    testing::{Faker, SILENCE, Swarm},
};
use crate::{Cx, Host as _, Input, Output, Overlay, Reach, View};

fn rings_of(ring_size: u16) -> Config {
    Config {
        ring_size,
        ..Config::default()
    }
}

/// Rings in which every position has one member.
fn single_rings_of(ring_size: u16) -> Config {
    Config {
        cluster: 1,
        ..rings_of(ring_size)
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn guids(swarm: &Swarm) -> BTreeMap<u32, Guid> {
    swarm
        .peers
        .keys()
        .map(|number| (*number, swarm.guid(*number).expect("placed")))
        .collect()
}

/// Positions in each ring.
fn ring_sizes(swarm: &Swarm) -> BTreeMap<Guid, usize> {
    let places: BTreeSet<Guid> = guids(swarm).into_values().collect();
    let mut sizes = BTreeMap::new();
    for guid in places {
        *sizes
            .entry(guid.parent().expect("a place has a parent"))
            .or_default() += 1;
    }
    sizes
}

fn assert_whole(swarm: &Swarm) {
    assert_eq!(swarm.broken_route(), None, "{}", swarm.picture());
    let count = swarm.peers.len();
    for from in swarm.peers.keys() {
        assert_eq!(
            swarm.broadcast(*from),
            (count, count - 1),
            "from {from}\n{}",
            swarm.picture()
        );
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
    swarm.run_until(seconds(20), |it| {
        (0..peers).all(|number| it.guid(number).is_some())
    });
    swarm.run(seconds(20));
    assert_whole(&swarm);
    assert_honest(&swarm);
    assert!(
        ring_sizes(&swarm).values().all(|size| *size <= 8),
        "{:?}",
        ring_sizes(&swarm)
    );
}

#[test]
fn balanced_rings_stay_bounded_and_even() {
    let swarm = Swarm::grown(rings_of(4), 60, |_| "");
    let sizes = ring_sizes(&swarm);
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
    let mut swarm = Swarm::grown(single_rings_of(4), 60, |_| "");
    for victim in [0, 1, 5] {
        let before = guids(&swarm);
        let lost = before[&victim].clone();
        swarm.crash(victim);
        let took = heal(&mut swarm);
        assert!(took < seconds(5), "{victim} {took:?}");
        swarm.run(seconds(5));
        assert_whole(&swarm);
        let after = guids(&swarm);
        let moved: Vec<_> = after
            .iter()
            .filter(|(number, guid)| before[number] != **guid)
            .collect();
        assert!(
            moved.iter().any(|(_, guid)| guid.matches(&lost)),
            "nobody took {lost} over: {moved:?}"
        );
        // One is promoted into the gap, and one into the promoted one's, down to a leaf.
        assert!(
            moved.len() <= before[&victim].depth().abs_diff(4) + 1,
            "{moved:?}"
        );
        assert!(
            moved
                .iter()
                .all(|(number, guid)| guid.depth() + 1 == before[number].depth()),
            "{moved:?}"
        );
    }
    assert_honest(&swarm);
}

#[test]
fn positions_with_children_are_held_by_clusters() {
    let swarm = Swarm::grown(rings_of(4), 60, |_| "");
    let mut members: BTreeMap<Guid, usize> = BTreeMap::new();
    for guid in guids(&swarm).into_values() {
        *members.entry(guid).or_default() += 1;
    }
    for guid in members.keys() {
        let parent = guid.parent().expect("a place has a parent");
        let children = members
            .keys()
            .filter(|it| it.parent().as_ref() == Some(&parent));
        if parent.depth() > 0 && children.count() > 1 {
            assert_eq!(
                members[&parent],
                3,
                "{parent} has children\n{}",
                swarm.picture()
            );
        }
    }
}

#[test]
fn a_cluster_that_lost_members_is_filled_and_nobody_below_is_renumbered() {
    for lost in 1..=3 {
        let mut swarm = Swarm::grown(rings_of(4), 60, |_| "");
        let before = guids(&swarm);
        let place = before[&0].clone();
        let members = before.iter().filter(|(_, guid)| **guid == place);
        let victims: Vec<u32> = members.map(|(number, _)| *number).take(lost).collect();
        assert_eq!(victims.len(), lost);
        for victim in &victims {
            swarm.crash(*victim);
        }
        let took = heal(&mut swarm);
        assert!(took < seconds(7), "{lost} lost: {took:?}");
        // Three of the neighbourhood at once may be a split: that takes more patience.
        swarm.run(seconds(if lost < 3 { 60 } else { 340 }));
        assert_whole(&swarm);
        assert_honest(&swarm);
        let after = guids(&swarm);
        let holders = after.values().filter(|guid| **guid == place).count();
        assert_eq!(holders, 3, "{lost} lost\n{}", swarm.picture());
        for (number, guid) in &after {
            let was = &before[number];
            let is_promoted = guid.depth() < was.depth();
            assert!(guid == was || is_promoted, "{number}: {was} -> {guid}");
        }
        let promoted = after
            .iter()
            .filter(|(number, guid)| before[number] != **guid);
        assert!(promoted.count() <= 2 * lost + 1);
    }
}

#[test]
fn any_one_of_forty_may_crash() {
    for victim in 0..40 {
        let mut swarm = Swarm::grown(rings_of(3), 40, |_| "");
        swarm.crash(victim);
        let took = heal(&mut swarm);
        assert!(took < seconds(5), "{victim} {took:?}");
        assert_honest(&swarm);
    }
}

#[test]
fn a_newcomer_whose_search_outlasts_its_patience_finds_a_place() {
    let mut swarm = Swarm::grown(rings_of(4), 6, |_| "");
    swarm.delay = |a, b| Duration::from_millis(if a.max(b) == 6 { 700 } else { 10 });
    swarm.join(6, "", &[0, 1]);
    swarm.run_until(seconds(20), |it| it.guid(6).is_some());
    swarm.run(seconds(10));
    assert_whole(&swarm);
}

#[test]
fn who_is_wrongly_taken_for_dead_refutes_before_the_record_has_aged() {
    let mut swarm = Swarm::grown(rings_of(8), 6, |_| "");
    let (host, now) = (Faker::new(1), swarm.now);
    let (liar, ..) = swarm.peers.get_mut(&1).expect("it was grown");
    let record = liar.own.record(Peer(3)).expect("a sibling").clone();
    let words = accusation_words(&host, &host.id(Peer(3)), record.incarnation);
    let by = [1, 2].map(|accuser| (Peer(accuser), Faker::new(accuser).sign(&words)));
    let accusation = Some(Accusation { by: by.to_vec() });
    let accused = Member {
        accusation,
        ..(*record).clone()
    };
    assert!(liar.own.merge_member(&host, Arc::new(accused), now));
    swarm.feed(1, Input::Timer(Timer::Repair));
    assert!(!swarm.peers[&1].0.own.lives(Peer(3)));
    let believes = |it: &Swarm| it.peers[&1].0.own.lives(Peer(3));
    swarm.run_until(TOMBSTONE / 2, believes);
    swarm.run(seconds(10));
    assert_whole(&swarm);
}

#[test]
fn a_keeper_cannot_tell_a_newcomer_that_somebody_is_dead() {
    let mut swarm = Swarm::grown(rings_of(8), 3, |_| "");
    let (host, now) = (Faker::new(1), swarm.now);
    for (liar, ..) in swarm.peers.values_mut() {
        let Some(record) = liar.own.living_record(Peer(2)).cloned() else {
            continue;
        };
        let by = vec![(Peer(1), Signature([7; 64]))];
        let accusation = Some(Accusation { by });
        let accused = Member {
            accusation,
            ..(*record).clone()
        };
        liar.own.merge_member(&host, Arc::new(accused), now);
    }
    swarm.join(3, "", &[0, 1]);
    swarm.run_until(seconds(5), |it| it.peers[&3].0.record.is_some());
    let (newcomer, ..) = &swarm.peers[&3];
    assert!(newcomer.record.is_some());
    assert!(newcomer.own.records().all(|it| it.accusation.is_none()));
}

/// The record of a peer that sits elsewhere in the center, as granted by another.
fn elsewhere(swarm: &Swarm, whose: Peer, by: Peer, seat: Seat, incarnation: u64) -> Arc<Member> {
    let granted = Grant {
        peer: whose,
        seat,
        coordinate: 3,
        branch: String::new(),
        sequence: 9,
        nonce: 7,
        by: Some(by),
        signature: Signature([0; 64]),
    };
    let grant = granted.sign(&Faker::new(by.0)).expect("a peer signs");
    let host = Faker::new(whose.0);
    let view = View {
        config: &swarm.config,
        me: whose,
        profile: &swarm.peers[&whose.0].1,
        host: &host,
    };
    Member::signed(&view, incarnation, Some(seat), Proof::Grant(grant))
}

fn records(ring: PositionId, member: Arc<Member>) -> Message {
    Message::Records {
        ring,
        members: vec![member],
        positions: Vec::new(),
        wanted: Vec::new(),
    }
}

/// Some peer below the center, and a parent of it.
fn child_and_parent(swarm: &Swarm) -> (u32, Peer) {
    let below = |it: &&u32| swarm.guid(**it).is_some_and(|guid| guid.depth() == 2);
    let child = *swarm.peers.keys().find(below).expect("rings are small");
    let peer = &swarm.peers[&child].0;
    let parent = peer.above.peers_of(peer.own.id).next();
    (child, parent.expect("it has a parent"))
}

#[test]
fn who_says_itself_that_it_moved_is_not_where_it_was() {
    let mut swarm = Swarm::grown(single_rings_of(4), 12, |_| "");
    let (child, parent) = child_and_parent(&swarm);
    let host = Faker::new(parent.0);
    let position = PositionId::new(&host, PositionId::CENTER, &host.id(parent), 7);
    let seat = Seat {
        ring: PositionId::CENTER,
        position,
    };
    let peer = &swarm.peers[&child].0;
    let known = peer.above.record(parent).expect("its parent");
    let incarnation = known.incarnation + 1;
    // Nobody has heard of the one that grants it.
    let moved = elsewhere(&swarm, parent, Peer(99), seat, incarnation);
    let news = records(peer.own.id, moved);
    let holds = |swarm: &Swarm| swarm.peers[&child].0.above.lives(parent);
    swarm.feed(child, Input::Received(Peer(98), news.clone()));
    assert!(holds(&swarm), "a third cannot say so");
    swarm.feed(child, Input::Received(parent, news));
    assert!(!holds(&swarm));
}

#[test]
fn an_old_record_is_not_taken_where_another_ring_has_a_newer_one() {
    let mut swarm = Swarm::grown(rings_of(4), 24, |_| "");
    let (child, parent) = child_and_parent(&swarm);
    let peer = &swarm.peers[&child].0;
    let sibling = peer.own.peers().find(|it| *it != Peer(child));
    let sibling = sibling.expect("it has siblings");
    let known = peer.own.record(sibling).expect("a sibling");
    let seat = Seat {
        ring: PositionId::CENTER,
        position: peer.own.id,
    };
    for (incarnation, is_taken) in [
        (known.incarnation - 1, false),
        (known.incarnation + 1, true),
    ] {
        let member = elsewhere(&swarm, sibling, parent, seat, incarnation);
        let news = records(PositionId::CENTER, member);
        swarm.feed(child, Input::Received(parent, news));
        assert_eq!(swarm.peers[&child].0.above.lives(sibling), is_taken);
    }
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
    assert!(took < Duration::from_millis(1_500), "{took:?}");
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
    let config = Config {
        ring_size: 8,
        policy: Policy::Labelled,
        ..Config::default()
    };
    let mut swarm = Swarm::grown(config, 9, |_| "/eu/dk");
    swarm.crash(0);
    let took = heal(&mut swarm);
    assert!(took < seconds(5), "{took:?}");
    swarm.run(seconds(5));
    assert_whole(&swarm);
}

#[test]
fn peers_of_one_label_share_a_branch() {
    let config = Config {
        ring_size: 8,
        policy: Policy::Labelled,
        ..Config::default()
    };
    let labels = ["/eu/dk/copenhagen", "/eu/de", "/na/ca", "/eu/dk", "/na/us"];
    let swarm = Swarm::grown(config, 40, |number| labels[number as usize % labels.len()]);
    assert_whole(&swarm);
    let guids = guids(&swarm);
    let continent = |number: &u32| &labels[*number as usize % labels.len()][..3];
    for (a, at) in &guids {
        for (b, bt) in &guids {
            let is_together = at.steps()[0] == bt.steps()[0];
            assert_eq!(
                is_together,
                continent(a) == continent(b),
                "{a} {at} {b} {bt}"
            );
        }
    }
}

#[test]
fn nearest_descends_to_the_branch_that_answers_soonest() {
    let config = Config {
        ring_size: 3,
        policy: Policy::Nearest,
        ..Config::default()
    };
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
        assert_eq!(
            guids[&number].steps()[0],
            guids[&(number % 3)].steps()[0],
            "{number} {}",
            guids[&number]
        );
    }
}

#[test]
fn a_search_goes_elsewhere_than_where_it_could_reach_nobody() {
    let place = |shunned: Option<PositionId>| {
        let mut swarm = Swarm::grown(rings_of(4), 40, |_| "");
        // The first contact is not there, so the second attempt is the one that counts.
        swarm.join(40, "", &[99, 0]);
        let (peer, ..) = swarm.peers.get_mut(&40).unwrap();
        shunned.into_iter().for_each(|id| peer.join.shun(id));
        swarm.run(seconds(15));
        assert_whole(&swarm);
        swarm.peers[&40].0.own.id
    };
    let first = place(None);
    assert_ne!(first, PositionId::CENTER);
    assert_ne!(place(Some(first)), first);
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
    assert_eq!(
        swarm.guid(7).map(|guid| guid.depth()),
        Some(1),
        "it stands alone"
    );
    swarm.reconnect(7);
    swarm.run(seconds(60));
    assert_whole(&swarm);
}

#[test]
fn who_lost_everyone_succeeds_its_parent_as_soon_as_it_meets_somebody() {
    let mut swarm = Swarm::grown(rings_of(4), 12, |_| "");
    let was = swarm.guid(7).expect("placed");
    let other = &swarm.peers[&0].0;
    let met = other.record.clone().expect("placed");
    let position = other.own.position(other.position_id()).cloned();
    let position = position.expect("its position is in its ring");
    swarm.isolate(7);
    // It would wait: it may be the one that is cut off.
    swarm.run_until(seconds(40), |it| it.peers[&7].0.heal.election.is_some());
    assert_eq!(swarm.guid(7), Some(was.clone()));
    // It meets one that sits elsewhere: it is not.
    let hello = Message::Hello(Box::new(Hello {
        member: met,
        position,
        above: None,
        digests: SmallVec::new(),
        center: SmallVec::new(),
        sample: SmallVec::new(),
        split: SmallVec::new(),
        occasion: Occasion::Upkeep,
    }));
    swarm.feed(7, Input::Received(Peer(0), hello));
    let parent = swarm.guid(7).expect("still placed");
    assert_eq!(parent.depth() + 1, was.depth());
    assert_eq!(parent.shared(&was), parent.depth());
    assert!(swarm.peers[&7].0.heal.election.is_none());
    swarm.reconnect(7);
    swarm.run(seconds(60));
    assert_whole(&swarm);
}

#[test]
fn crashes_drawn_from_many_seeds_heal() {
    for seed in 1..=12 {
        let mut random = Random::new(seed);
        let mut swarm = Swarm::grown(rings_of(3 + (seed % 4) as u16), 40, |_| "");
        let mut victims: Vec<u32> = swarm.peers.keys().copied().collect();
        random.shuffle(&mut victims, 12);
        for victim in victims.into_iter().take(12) {
            swarm.crash(victim);
            swarm.run(random.between(Duration::ZERO, seconds(4)));
        }
        heal(&mut swarm);
        swarm.run(seconds(10));
        assert_whole(&swarm);
    }
}

#[test]
fn a_peer_uses_whom_it_names_and_none_of_those_long_gone() {
    let mut swarm = Swarm::grown(rings_of(4), 40, |_| "");
    let is_leaf = |peer: &Polyring| peer.below.peers().next().is_none();
    let leaves = swarm.peers.iter().filter(|(_, (peer, ..))| is_leaf(peer));
    // Others signed grants, which speak for their peers for as long as those live.
    let gone: Vec<u32> = leaves.map(|(number, _)| *number).take(10).collect();
    assert_eq!(gone.len(), 10);
    for (turn, number) in gone.iter().enumerate() {
        if turn % 2 == 0 {
            swarm.crash(*number);
        } else {
            swarm.leave(*number);
        }
        swarm.run(seconds(1));
    }
    heal(&mut swarm);
    let users = |swarm: &Swarm| {
        let uses = |number: &&u32| {
            // Whom it has lost it remembers on purpose, up to a bound.
            let mut remembered = BTreeSet::new();
            let memory = &swarm.peers[number].0.memory;
            memory.handles(&mut |peer| {
                remembered.insert(peer.0);
            });
            assert!(remembered.len() <= 108, "{}", remembered.len());
            let used = swarm.uses(**number);
            gone.iter()
                .any(|it| used.contains(it) && !remembered.contains(it))
        };
        swarm.peers.keys().filter(uses).count()
    };
    assert!(users(&swarm) > 0, "tombstones name the dead");
    swarm.run(2 * TOMBSTONE);
    assert_eq!(users(&swarm), 0);
    assert_whole(&swarm);
    for (number, (peer, ..)) in &swarm.peers {
        let (mut table, mut copies) = (Vec::new(), Vec::new());
        peer.neighbours(&mut table);
        peer.fan_out(&peer.span(Reach::All), 0, &mut copies);
        let named = table.iter().map(|neighbour| neighbour.peer);
        let mut named = named.chain(copies.iter().map(|(to, _)| *to));
        let used = swarm.uses(*number);
        assert!(named.all(|peer| used.contains(&peer.0)), "{number}");
    }
}

#[test]
fn the_same_history_gives_the_same_places() {
    let places = || guids(&Swarm::grown(rings_of(4), 30, |_| ""));
    assert_eq!(places(), places());
}

#[test]
fn keys_and_the_order_of_joins_alone_shape_the_tree() {
    let coordinates = |delay: fn(u32, u32) -> Duration| {
        let mut swarm = Swarm::new(rings_of(4));
        swarm.delay = delay;
        for number in 0..60 {
            let contacts: &[u32] = if number == 0 { &[] } else { &[0] };
            swarm.join(number, "", contacts);
            swarm.run_until(seconds(10), |it| it.guid(number).is_some());
        }
        let text = |(number, guid): (u32, Guid)| (number, guid.to_string());
        guids(&swarm).into_iter().map(text).collect::<Vec<_>>()
    };
    let near = coordinates(|_, _| Duration::from_millis(3));
    let far = coordinates(|a, b| Duration::from_millis(20 + u64::from((a * b) % 50)));
    assert_eq!(near, far);
}

#[test]
fn a_broadcast_may_go_sideways_first() {
    let config = Config {
        order: Order::Sideways,
        ..rings_of(4)
    };
    let swarm = Swarm::grown(config, 30, |_| "");
    assert_whole(&swarm);
    let (leaf, ..) = swarm
        .peers
        .values()
        .find(|(peer, ..)| peer.guid.depth() > 1)
        .expect("30 peers do not fit into one ring of 4");
    let mut copies = Vec::new();
    leaf.copies(&Cover::Inward.into(), 0, &mut copies);
    let inward = copies
        .iter()
        .position(|(_, span)| span.cover == Cover::Inward);
    assert_eq!(inward, Some(copies.len() - 1));
}

#[test]
fn a_built_peer_asks_for_its_timers_once() {
    let swarm = Swarm::grown(rings_of(4), 8, |_| "");
    let (peer, profile, _) = &swarm.peers[&1];
    let host = Faker::new(1);
    let view = || View {
        config: &swarm.config,
        me: Peer(1),
        profile,
        host: &host,
    };
    let [own, below, above] = peer.rings().map(Clone::clone);
    let record = own.record(Peer(1)).expect("placed").clone();
    let mut built = Polyring::built(&view(), record, own, below, above, peer.lineage.clone());
    assert_eq!(built.address(), peer.address());
    let mut ask = || {
        let (mut out, random) = (Vec::new(), &mut Random::new(1));
        let now = swarm.now;
        let out_of = &mut out;
        built.handle(
            &mut Cx {
                view: view(),
                now,
                random,
                out: out_of,
            },
            Input::Join(Vec::new()),
        );
        out
    };
    let first = ask();
    assert!(
        matches!(
            first[..],
            [
                Output::Timer(_, Timer::Sweep),
                Output::Timer(_, Timer::Beat)
            ]
        ),
        "{first:?}"
    );
    assert!(ask().is_empty());
}
