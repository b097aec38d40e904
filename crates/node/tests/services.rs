//! Traces, the directory and inspection.

#![allow(clippy::unwrap_used)]

mod swarm;

use std::time::Duration;

use ringweave_ids::{Key, PeerId};
use ringweave_node::{
    Command, Destination, Effort, Event, Failure, Frame, Input, Outcome, Placed, Port, Query,
    Traced,
};
use ringweave_overlay::Target;
use swarm::{LATENCY, Swarm, Word, id};

fn trace(
    swarm: &mut Swarm,
    from: u32,
    to: Destination<u32>,
) -> Result<Vec<Traced<u32>>, Outcome<u32>> {
    let ticket = swarm.command(from, Command::Trace(to));
    match swarm.answer(ticket) {
        Event::Traced(_, result) => result,
        other => panic!("not the answer to a trace: {other:?}"),
    }
}

fn resolve(swarm: &mut Swarm, from: u32, query: Query<u32>) -> Result<Vec<Placed<u32>>, Failure> {
    let ticket = swarm.command(from, Command::Resolve(query, Effort::Patient));
    match swarm.answer(ticket) {
        Event::Resolved(_, result) => result,
        other => panic!("not the answer to a question: {other:?}"),
    }
}

fn ids(placed: Result<Vec<Placed<u32>>, Failure>) -> Vec<PeerId> {
    placed.unwrap().into_iter().map(|one| one.id).collect()
}

fn prefix(index: u32, len: usize) -> Query<u32> {
    Query::Prefix(id(index).to_string()[..len].to_owned())
}

#[test]
fn a_trace_shows_every_hop_in_order() {
    let mut swarm = Swarm::line(5);
    for to in [Destination::Peer(id(4)), Destination::Holder(4)] {
        let hops = trace(&mut swarm, 0, to).unwrap();
        let way = hops
            .iter()
            .map(|hop| (hop.id, hop.address))
            .collect::<Vec<_>>();
        assert_eq!(
            way,
            (0..5).map(|index| (id(index), index)).collect::<Vec<_>>()
        );
        let expected = (0..5).map(|hop| LATENCY * 2 * hop).collect::<Vec<_>>();
        assert_eq!(
            hops.iter().map(|hop| hop.round_trip).collect::<Vec<_>>(),
            expected
        );
    }
    for to in [Destination::Peer(id(0)), Destination::Holder(0)] {
        let hops = trace(&mut swarm, 0, to).unwrap();
        assert_eq!(hops.iter().map(|hop| hop.id).collect::<Vec<_>>(), [id(0)]);
    }
}

#[test]
fn a_trace_into_silence_names_the_last_hop_heard() {
    let mut swarm = Swarm::line(4);
    trace(&mut swarm, 0, Destination::Peer(id(3))).unwrap();
    swarm.filter = Box::new(|_, to, _| to != 3);
    let outcome = trace(&mut swarm, 0, Destination::Peer(id(3))).unwrap_err();
    assert_eq!(
        (outcome.result, outcome.at),
        (Err(Failure::Timeout), Some(2))
    );
    swarm.tell(1, Word::Cut(2));
    let outcome = trace(&mut swarm, 0, Destination::Peer(id(3))).unwrap_err();
    assert_eq!(
        (outcome.result, outcome.at),
        (Err(Failure::NoRoute), Some(1))
    );
}

#[test]
fn reports_that_overtake_each_other_are_put_in_order() {
    let mut swarm = Swarm::line(6);
    // The second frame is the first hop's report.
    swarm.detour = |count| Duration::from_millis(if count == 1 { 50 } else { 0 });
    let hops = trace(&mut swarm, 0, Destination::Holder(5)).unwrap();
    let way = hops.iter().map(|hop| hop.address).collect::<Vec<_>>();
    assert_eq!(way, [0, 1, 2, 3, 4, 5]);
    assert!(hops[1].round_trip > hops[5].round_trip);
}

#[test]
fn a_lost_probe_is_sent_again() {
    let mut swarm = Swarm::line(3);
    let mut lost = false;
    swarm.filter = Box::new(move |_, to, frame| {
        let is_probe = matches!(frame, Frame::Envelope(envelope) if envelope.is_traced);
        let passes = !is_probe || to != 2 || lost;
        lost |= !passes;
        passes
    });
    let hops = trace(&mut swarm, 0, Destination::Peer(id(2))).unwrap();
    assert_eq!(hops.len(), 3);
    assert!(
        hops[2].round_trip < Duration::from_millis(10),
        "measured from the probe that came"
    );
}

#[test]
fn a_prefix_means_none_one_or_several() {
    let mut swarm = Swarm::line(9);
    assert_eq!(ids(resolve(&mut swarm, 0, prefix(5, 10))), [id(5)]);
    let mut both = [id(6), id(7)];
    both.sort();
    assert_eq!(ids(resolve(&mut swarm, 0, prefix(6, 4))), both);
    assert_eq!(ids(resolve(&mut swarm, 3, prefix(6, 6))), both);
    assert_eq!(ids(resolve(&mut swarm, 0, prefix(7, 12))), [id(7)]);
    assert_eq!(
        ids(resolve(&mut swarm, 0, Query::Prefix("zzzz".into()))),
        []
    );
    assert_eq!(
        ids(resolve(&mut swarm, 0, Query::Prefix("no-id".into()))),
        []
    );
    assert_eq!(
        ids(resolve(&mut swarm, 4, Query::Prefix(String::new()))),
        [3, 4, 5].map(id)
    );
    let upper = Query::Prefix(id(5).to_string()[..8].to_uppercase());
    assert_eq!(ids(resolve(&mut swarm, 0, upper)), [id(5)]);
}

#[test]
fn names_ids_and_addresses_are_resolved() {
    let mut swarm = Swarm::line(6);
    let five = [Placed {
        id: id(5),
        address: 5,
        name: Some("peer-5".into()),
    }];
    assert_eq!(
        resolve(&mut swarm, 0, Query::Name("peer-5".into())).unwrap(),
        five
    );
    assert_eq!(resolve(&mut swarm, 1, Query::Peer(id(5))).unwrap(), five);
    assert_eq!(resolve(&mut swarm, 2, Query::Holder(5)).unwrap(), five);
    assert_eq!(
        resolve(&mut swarm, 0, Query::Name("nobody".into())).unwrap(),
        []
    );
    assert_eq!(resolve(&mut swarm, 0, Query::Peer(id(77))).unwrap(), []);
    assert_eq!(resolve(&mut swarm, 0, Query::Holder(77)).unwrap(), []);
    assert_eq!(ids(resolve(&mut swarm, 3, Query::Peer(id(3)))), [id(3)]);
}

#[test]
fn a_peer_that_left_is_not_found_any_more() {
    let mut swarm = Swarm::line(6);
    assert_eq!(ids(resolve(&mut swarm, 0, Query::Peer(id(5)))), [id(5)]);
    swarm.input(5, Input::Leave);
    swarm.run(Duration::from_millis(100));
    assert_eq!(ids(resolve(&mut swarm, 1, Query::Peer(id(5)))), []);
    assert_eq!(
        ids(resolve(&mut swarm, 1, Query::Name("peer-5".into()))),
        []
    );
}

#[test]
fn records_move_when_their_keys_lead_elsewhere() {
    let mut swarm = Swarm::line(8);
    // The last peer is gone, and with it its records; every key is counted over seven now.
    swarm.nodes[7] = None;
    swarm.reshape((0..7).map(Some).chain([None]).collect());
    swarm.run(Duration::from_secs(3));
    for wanted in 0..7 {
        for asker in [0, 3, 6] {
            assert_eq!(
                ids(resolve(&mut swarm, asker, prefix(wanted, 12))),
                [id(wanted)]
            );
        }
    }
}

#[test]
fn the_second_owner_answers_where_the_first_is_silent() {
    let mut swarm = Swarm::line(6);
    swarm.filter = Box::new(|_, _, frame| match frame {
        Frame::Envelope(envelope) => !matches!(envelope.flow.target, Target::Key { choice: 0, .. }),
        Frame::Overlay(_) | Frame::Repair(_) => true,
    });
    for wanted in 0..6 {
        assert_eq!(
            ids(resolve(&mut swarm, 2, prefix(wanted, 12))),
            [id(wanted)]
        );
    }
}

#[test]
fn an_older_record_never_replaces_a_newer_one() {
    let mut swarm = Swarm::unjoined(&[None, Some(0), Some(1), Some(2)]);
    (0..4).for_each(|index| swarm.join(index));
    swarm.run(Duration::from_secs(1));
    let old = swarm.sent.clone();
    swarm.reshape(vec![Some(0), Some(1), Some(3), Some(2)]);
    swarm.run(Duration::from_secs(3));
    for (from, to, frame) in old {
        swarm.input(to, Input::Received(ringweave_ids::Peer(from), frame));
    }
    swarm.run(Duration::from_secs(1));
    for (wanted, address) in [(2, 3), (3, 2)] {
        let name = Query::Name(format!("peer-{wanted}"));
        let placed = resolve(&mut swarm, 0, name).unwrap();
        assert_eq!(
            placed.iter().map(|one| one.address).collect::<Vec<_>>(),
            [address]
        );
    }
}

#[test]
fn records_are_renewed_within_their_lease() {
    let mut swarm = Swarm::line(4);
    swarm.run(Duration::from_secs(2 * 60 * 60));
    assert_eq!(ids(resolve(&mut swarm, 0, prefix(3, 12))), [id(3)]);
    let upkeep = swarm.sent.len();
    assert!(upkeep < 4 * 9 * 4 * 4 * 3, "{upkeep} frames in two hours");
    // Nobody renews for the dead: its record is gone after a lease.
    swarm.nodes[3] = None;
    swarm.run(Duration::from_secs(31 * 60));
    assert_eq!(
        ids(resolve(&mut swarm, 0, Query::Name("peer-3".into()))),
        []
    );
}

#[test]
fn a_record_that_its_peer_did_not_sign_is_a_fault() {
    let mut swarm = Swarm::line(3);
    swarm.filter = Box::new(|_, _, _| true);
    let puts = {
        let mut other = Swarm::unjoined(&[None, Some(0), Some(1)]);
        (0..3).for_each(|index| other.join(index));
        other.run(Duration::from_millis(100));
        other
            .sent
            .into_iter()
            .filter_map(|(_, to, frame)| match frame {
                Frame::Envelope(envelope) if envelope.flow.port == Port::DIRECTORY => {
                    Some((to, envelope))
                }
                _ => None,
            })
    };
    let mut faults = 0;
    for (to, mut envelope) in puts.collect::<Vec<_>>() {
        let mut payload = envelope.payload.to_vec();
        let Some(last) = payload.len().checked_sub(1).filter(|last| *last > 100) else {
            continue;
        };
        payload[last] ^= 1;
        envelope.payload = payload.into();
        swarm.input(
            to,
            Input::Received(ringweave_ids::Peer(1), Frame::Envelope(envelope)),
        );
        swarm.run(Duration::from_millis(10));
        faults += 1;
    }
    let counted = (0..3)
        .map(|index| swarm.node(index).counters().faults)
        .sum::<u64>();
    assert!(faults > 0);
    assert_eq!(counted, faults);
}

#[test]
fn a_peer_tells_of_its_rings() {
    let mut swarm = Swarm::line(5);
    for to in [Destination::Peer(id(3)), Destination::Holder(3)] {
        let ticket = swarm.command(0, Command::Inspect(to));
        let Event::Inspected(_, Ok(listing)) = swarm.answer(ticket) else {
            panic!("no listing")
        };
        assert_eq!(
            (listing.me.id, listing.me.name.as_deref()),
            (id(3), Some("peer-3"))
        );
        let told = listing
            .neighbours
            .iter()
            .map(|(one, role)| (one.id, &**role));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [(id(2), "parent"), (id(4), "child")]
        );
    }
    let ticket = swarm.command(0, Command::Inspect(Destination::Peer(id(0))));
    assert!(matches!(swarm.answer(ticket), Event::Inspected(_, Ok(_))));
    let ticket = swarm.command(0, Command::Inspect(Destination::Holder(50)));
    let Event::Inspected(_, Err(outcome)) = swarm.answer(ticket) else {
        panic!("a listing")
    };
    assert_eq!(outcome.result, Err(Failure::NotFound));
}

#[test]
fn a_peer_sends_as_soon_as_it_has_a_place() {
    let mut swarm = Swarm::unjoined(&[None, Some(0), Some(1), Some(2)]);
    (0..3).for_each(|index| swarm.join(index));
    swarm.run(Duration::from_secs(1));
    let early = swarm.send(3, 0, b"early");
    swarm.join(3);
    let ticket = swarm.send(3, 0, b"at once");
    assert_eq!((swarm.result(early), swarm.result(ticket)), (Ok(3), Ok(3)));
    assert_eq!(swarm.texts(0), ["early", "at once"]);
    let back = swarm.send(0, 3, b"welcome");
    assert_eq!(swarm.result(back), Ok(3));
}

#[test]
fn nonsense_is_counted_and_changes_nothing() {
    let mut swarm = Swarm::line(2);
    let ticket = swarm.send(0, 1, b"a");
    swarm.result(ticket).unwrap();
    let envelopes = swarm.sent.iter().filter_map(|(_, to, frame)| match frame {
        Frame::Envelope(envelope) => Some((*to, envelope.clone())),
        Frame::Overlay(_) | Frame::Repair(_) => None,
    });
    let mut count = 0;
    for (to, mut envelope) in envelopes.collect::<Vec<_>>() {
        if envelope.flow.port == Port::APP {
            continue;
        }
        envelope.payload = vec![0xff; 40].into();
        swarm.input(
            to,
            Input::Received(ringweave_ids::Peer(1 - to), Frame::Envelope(envelope)),
        );
        count += 1;
    }
    let counted = swarm.node(0).counters().faults + swarm.node(1).counters().faults;
    assert!(count > 0);
    assert_eq!(counted, count);
    let ticket = swarm.send(0, 1, b"b");
    assert_eq!(swarm.result(ticket), Ok(1));
}

#[test]
fn a_record_outlives_all_owners_of_its_key_at_once() {
    let parents: Vec<_> = (0..15_u32)
        .map(|at| at.checked_sub(1).map(|up| up / 2))
        .collect();
    let mut tried = 0;
    for wanted in 0..15 {
        let key = Key::of("peer", &id(wanted).to_string().as_bytes()[..4]);
        let owners = [0, 1].map(|choice| (key.head().wrapping_add(choice) % 15) as u32);
        // Leaves, as the others are the ways of the tree.
        if owners.contains(&wanted) || owners.iter().any(|owner| *owner < 7) {
            continue;
        }
        tried += 1;
        let mut swarm = Swarm::new(&parents);
        swarm.run(Duration::from_secs(5));
        for owner in owners {
            swarm.nodes[owner as usize] = None;
        }
        swarm.reshape(
            (0..15)
                .map(|at| (!owners.contains(&at)).then_some(at))
                .collect(),
        );
        swarm.run(Duration::from_secs(5));
        // Somebody who has not met it.
        let asker = (0..7).find(|asker| *asker != wanted).unwrap();
        let found = resolve(&mut swarm, asker, Query::Peer(id(wanted)));
        assert_eq!(ids(found), [id(wanted)], "without {owners:?}");
    }
    assert!(tried >= 2, "{tried}");
}
