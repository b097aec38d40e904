//! Multicasts and broadcasts: each copy once, in its direction, counted on the way back.

#![allow(clippy::unwrap_used)]

mod swarm;

use std::time::Duration;

use bytes::Bytes;
use ringweave_node::{
    Cast, Command, Destination, Event, Failure, Frame, MAX_PAYLOAD, MessageKind, Port,
};
use swarm::{Swarm, Word, id};

/// ```text
///        0
///      /   \
///     1     2
///    / \   / \
///   3   4 5   6
/// ```
fn tree() -> Swarm {
    Swarm::new(&[None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(2)])
}

fn multicast(swarm: &mut Swarm, from: u32, to: &[u32], payload: &[u8]) -> Vec<Result<u8, Failure>> {
    let to = to.iter().map(|to| Destination::Peer(id(*to))).collect();
    let ticket = swarm.command(
        from,
        Command::Multicast(to, Bytes::copy_from_slice(payload)),
    );
    match swarm.answer(ticket) {
        Event::Sent(_, outcomes) => outcomes.into_iter().map(|outcome| outcome.result).collect(),
        other => panic!("not the answer to a multicast: {other:?}"),
    }
}

fn broadcast(swarm: &mut Swarm, from: u32, below: Option<u32>) -> Result<u64, Failure> {
    let ticket = swarm.command(from, Command::Broadcast(below, Bytes::from_static(b"all")));
    match swarm.answer(ticket) {
        Event::Spread(_, result) => result.map(|(count, _)| count),
        other => panic!("not the answer to a broadcast: {other:?}"),
    }
}

/// The copies of messages that went over links: from, to, and for whom if for several.
fn copies(swarm: &Swarm) -> Vec<(u32, u32, Vec<u32>)> {
    let copies = swarm
        .sent
        .iter()
        .filter_map(|(from, to, frame)| match frame {
            Frame::Envelope(envelope) if envelope.flow.port == Port::APP => {
                let receivers = match &envelope.cast {
                    Cast::Several(receivers) => receivers.iter().map(|one| one.address).collect(),
                    Cast::One | Cast::Span(_) | Cast::Kept => Vec::new(),
                };
                Some((*from, *to, receivers))
            }
            _ => None,
        });
    copies.collect()
}

/// Makes a peer know where the others sit, as after an earlier message.
fn warm(swarm: &mut Swarm, from: u32) {
    let count = swarm.nodes.len() as u32;
    for to in (0..count).filter(|to| *to != from) {
        let ticket = swarm.send(from, to, b"warm");
        swarm.result(ticket).unwrap();
    }
    swarm.run(Duration::from_millis(100));
    swarm.sent.clear();
    swarm.events.clear();
}

#[test]
fn copies_of_a_multicast_carry_only_their_direction() {
    let mut swarm = tree();
    warm(&mut swarm, 3);
    let results = multicast(&mut swarm, 3, &[5, 4, 6, 0], b"some");
    assert_eq!(results, [Ok(4), Ok(2), Ok(4), Ok(2)]);
    let expected = [
        (3, 1, vec![5, 4, 6, 0]),
        (1, 0, vec![5, 6, 0]),
        (1, 4, vec![4]),
        (0, 2, vec![5, 6]),
        (2, 5, vec![5]),
        (2, 6, vec![6]),
    ];
    assert_eq!(copies(&swarm), expected);
    assert_eq!(swarm.messages(5)[0].kind, MessageKind::Multicast);
}

#[test]
fn unicasts_and_multicasts_share_one_order() {
    let mut swarm = tree();
    warm(&mut swarm, 3);
    for round in 0..20 {
        swarm.send(3, 6, format!("{round}u").as_bytes());
        let to = [5, 6].map(|to| Destination::Peer(id(to))).to_vec();
        let payload = Bytes::from(format!("{round}m"));
        swarm.command(3, Command::Multicast(to, payload));
    }
    swarm.run(Duration::from_secs(1));
    let expected = (0..20).flat_map(|round| [format!("{round}u"), format!("{round}m")]);
    assert_eq!(swarm.texts(6), expected.collect::<Vec<_>>());
}

#[test]
fn a_multicast_that_is_sent_again_stays_a_multicast() {
    let mut swarm = tree();
    warm(&mut swarm, 3);
    swarm.filter = Box::new(
        |_, _, frame| !matches!(frame, Frame::Envelope(envelope) if matches!(envelope.cast, Cast::Several(_))),
    );
    assert_eq!(multicast(&mut swarm, 3, &[5], b"some"), [Ok(4)]);
    assert_eq!(swarm.messages(5)[0].kind, MessageKind::Multicast);
}

#[test]
fn a_multicast_tells_of_each_receiver() {
    let mut swarm = tree();
    let results = multicast(&mut swarm, 0, &[3, 9, 0, 6], b"some");
    assert_eq!(results, [Ok(2), Err(Failure::NotFound), Ok(0), Ok(2)]);
    assert!(multicast(&mut swarm, 0, &[], b"none").is_empty());
    let large = vec![0; MAX_PAYLOAD + 1];
    let too_large = Err(Failure::TooLarge);
    assert_eq!(
        multicast(&mut swarm, 0, &[1, 3], &large),
        [too_large, too_large]
    );
    let to = vec![
        Destination::Holder(6),
        Destination::Peer(id(6)),
        Destination::Holder(99),
    ];
    let ticket = swarm.command(0, Command::Multicast(to, Bytes::from_static(b"x")));
    let Event::Sent(_, outcomes) = swarm.answer(ticket) else {
        panic!("no outcomes")
    };
    let results = outcomes
        .iter()
        .map(|outcome| outcome.result)
        .collect::<Vec<_>>();
    assert_eq!(results, [Ok(2), Ok(2), Err(Failure::NotFound)]);
}

#[test]
fn a_broadcast_reaches_everyone_once() {
    for origin in 0..7 {
        let mut swarm = tree();
        assert_eq!(broadcast(&mut swarm, origin, None), Ok(7));
        assert_eq!(copies(&swarm).len(), 6, "one transmission less than peers");
        for other in 0..7 {
            let count = usize::from(other != origin);
            assert_eq!(swarm.messages(other).len(), count);
            assert!(
                swarm
                    .messages(other)
                    .iter()
                    .all(|one| one.kind == MessageKind::Broadcast)
            );
        }
        let spread = (0..7)
            .map(|peer| swarm.node(peer).counters().spread)
            .sum::<u64>();
        assert_eq!(spread, 6);
    }
}

#[test]
fn a_broadcast_below_an_address_stays_below_it() {
    let mut swarm = tree();
    assert_eq!(
        broadcast(&mut swarm, 5, Some(1)),
        Ok(4),
        "three below, and the origin"
    );
    let counts = (0..7)
        .map(|peer| swarm.messages(peer).len())
        .collect::<Vec<_>>();
    assert_eq!(counts, [0, 1, 0, 1, 1, 0, 0]);
    let mut swarm = tree();
    assert_eq!(
        broadcast(&mut swarm, 3, Some(1)),
        Ok(3),
        "the origin is one of them"
    );
    assert_eq!(swarm.messages(3).len(), 0);
    let mut swarm = tree();
    assert_eq!(
        broadcast(&mut swarm, 1, Some(1)),
        Ok(3),
        "the origin holds the address"
    );
    assert_eq!(broadcast(&mut swarm, 0, Some(42)), Err(Failure::NotFound));
}

#[test]
fn a_copy_that_comes_twice_is_dropped_and_not_sent_on() {
    let mut swarm = tree();
    broadcast(&mut swarm, 0, None).unwrap();
    let twice = swarm.sent.iter().find(|(from, to, frame)| {
        (*from, *to) == (0, 1)
            && matches!(frame, Frame::Envelope(envelope) if matches!(envelope.cast, Cast::Span(_)))
    });
    let (_, _, frame) = twice.unwrap().clone();
    let before = copies(&swarm).len();
    swarm.input(
        1,
        ringweave_node::Input::Received(ringweave_ids::Peer(0), frame),
    );
    swarm.run(Duration::from_secs(1));
    assert_eq!(copies(&swarm).len(), before);
    assert_eq!(swarm.node(1).counters().duplicates, 1);
    assert_eq!(swarm.messages(1).len(), 1);
}

#[test]
fn a_silent_branch_makes_the_count_partial_not_endless() {
    let mut swarm = tree();
    swarm.filter = Box::new(|_, to, _| to != 5);
    assert_eq!(broadcast(&mut swarm, 3, None), Ok(6));
    assert!(swarm.now.as_micros() < 5_500_000 + 1_000_000);
}

#[test]
fn a_lost_neighbour_is_not_waited_for() {
    let mut swarm = tree();
    swarm.filter = Box::new(|_, to, _| to != 5);
    let began = swarm.now;
    let ticket = swarm.command(2, Command::Broadcast(None, Bytes::from_static(b"all")));
    swarm.run(Duration::from_millis(50));
    let lost = ringweave_overlay::Loss::Silent;
    swarm.input(2, ringweave_node::Input::Down(ringweave_ids::Peer(5), lost));
    let Event::Spread(_, Ok((6, _))) = swarm.answer(ticket) else {
        panic!("no count")
    };
    assert!(swarm.now.since(began) < Duration::from_millis(100));
}

#[test]
fn a_neighbour_that_is_waited_for_is_used_until_the_count_is_there() {
    let mut swarm = tree();
    swarm.filter = Box::new(|_, to, _| to != 5);
    let uses = |swarm: &Swarm| {
        let mut used = Vec::new();
        swarm.node(2).uses(&mut used);
        used.contains(&ringweave_ids::Peer(5))
    };
    let ticket = swarm.command(2, Command::Broadcast(None, Bytes::from_static(b"all")));
    let holders = (0..7).map(|index| (index != 5).then_some(index));
    swarm.reshape(holders.collect());
    swarm.run(Duration::from_secs(1));
    assert!(uses(&swarm), "though the overlay does not know it any more");
    swarm.answer(ticket);
    assert!(!uses(&swarm));
}

#[test]
fn a_peer_without_a_place_cannot_broadcast() {
    let mut swarm = Swarm::unjoined(&[None, Some(0)]);
    assert_eq!(broadcast(&mut swarm, 0, None), Err(Failure::NoRoute));
    swarm.tell(0, Word::Cut(1));
    let large = Command::Broadcast(None, Bytes::from(vec![0; MAX_PAYLOAD + 1]));
    let ticket = swarm.command(0, large);
    assert!(matches!(
        swarm.answer(ticket),
        Event::Spread(_, Err(Failure::TooLarge))
    ));
}
