//! Sends to one peer: delivered once, in order, or failed with the place that says why.

#![allow(clippy::unwrap_used)]

mod swarm;

use std::{cell::Cell, rc::Rc, time::Duration};

use bytes::Bytes;
use ringweave_node::{Command, Destination, Failure, Frame, MAX_PAYLOAD, MessageKind, Port};
use swarm::{Swarm, Word, id};

fn port(frame: &Frame<swarm::Tree>) -> Option<Port> {
    match frame {
        Frame::Envelope(envelope) => Some(envelope.flow.port),
        Frame::Overlay(_) | Frame::Repair(_) => None,
    }
}

#[test]
fn a_message_crosses_a_line_and_its_sender_hears_so() {
    let mut swarm = Swarm::line(4);
    let ticket = swarm.send(0, 3, b"hello");
    let outcome = swarm.outcome(ticket);
    assert_eq!(
        (outcome.result, outcome.peer, outcome.at),
        (Ok(3), Some(id(3)), Some(3))
    );
    let messages = swarm.messages(3);
    assert_eq!(
        (messages.len(), messages[0].kind),
        (1, MessageKind::Unicast)
    );
    assert_eq!(
        (messages[0].from, &messages[0].payload[..]),
        (id(0), &b"hello"[..])
    );
}

#[test]
fn messages_arrive_in_order_though_links_reorder_them() {
    let mut swarm = Swarm::line(3);
    swarm.detour = |count| Duration::from_micros((count * 7_919 % 1_013) as u64);
    let tickets = (0..500).map(|n| swarm.send(0, 2, format!("{n}").as_bytes()));
    for ticket in tickets.collect::<Vec<_>>() {
        assert_eq!(swarm.result(ticket), Ok(2));
    }
    assert_eq!(
        swarm.texts(2),
        (0..500).map(|n| n.to_string()).collect::<Vec<_>>()
    );
}

#[test]
fn a_double_after_a_lost_acknowledgement_is_dropped() {
    let mut swarm = Swarm::line(2);
    let lost = Rc::new(Cell::new(0));
    let losses = Rc::clone(&lost);
    swarm.filter = Box::new(move |from, _, frame| {
        let is_ack = from == 1 && port(frame) == Some(Port::ROUTER);
        let passes = !is_ack || losses.get() == 2;
        losses.set(losses.get() + u32::from(!passes));
        passes
    });
    let ticket = swarm.send(0, 1, b"once");
    assert_eq!(swarm.result(ticket), Ok(1));
    assert_eq!((lost.get(), swarm.texts(1).len()), (2, 1));
    assert_eq!(swarm.node(1).counters().duplicates, 2);
}

#[test]
fn a_lost_message_comes_again_and_holds_the_later_ones_back() {
    let mut swarm = Swarm::line(2);
    let count = Rc::new(Cell::new(0));
    swarm.filter = Box::new(move |_, to, frame| {
        let is_message = to == 1 && port(frame) == Some(Port::APP);
        count.set(count.get() + u32::from(is_message));
        !is_message || count.get() != 3
    });
    let tickets = (0..10)
        .map(|n| swarm.send(0, 1, format!("{n}").as_bytes()))
        .collect::<Vec<_>>();
    for ticket in tickets {
        assert_eq!(swarm.result(ticket), Ok(1));
    }
    assert_eq!(swarm.texts(1).concat(), "0123456789");
}

#[test]
fn a_restarted_receiver_refuses_what_its_earlier_life_may_have_had() {
    let mut swarm = Swarm::line(3);
    let first = swarm.send(0, 2, b"first");
    assert_eq!(swarm.result(first), Ok(2));
    // The second is delivered, but nobody hears so before the receiver starts anew.
    swarm.filter = Box::new(|from, _, _| from != 2);
    let second = swarm.send(0, 2, b"second");
    swarm.run(Duration::from_millis(100));
    assert_eq!(swarm.texts(2), ["first", "second"]);
    swarm.filter = Box::new(|_, _, _| true);
    swarm.restart(2);
    assert_eq!(swarm.result(second), Err(Failure::Refused));
    let third = swarm.send(0, 2, b"third");
    assert_eq!(swarm.result(third), Ok(2));
    assert_eq!(swarm.texts(2), ["first", "second", "third"]);
}

#[test]
fn a_restarted_sender_begins_a_flow_of_its_own() {
    let mut swarm = Swarm::line(2);
    for life in 0..3 {
        let ticket = swarm.send(0, 1, format!("{life}").as_bytes());
        assert_eq!(swarm.result(ticket), Ok(1));
        swarm.restart(0);
        swarm.run(Duration::from_millis(50));
    }
    assert_eq!(swarm.texts(1).concat(), "012");
}

#[test]
fn a_full_inbox_refuses_and_a_drained_one_takes_again() {
    let mut swarm = Swarm::line(2);
    swarm.drains[1] = false;
    let tickets = (0..1_100)
        .map(|_| swarm.send(0, 1, b"x"))
        .collect::<Vec<_>>();
    let results = tickets
        .into_iter()
        .map(|ticket| swarm.result(ticket))
        .collect::<Vec<_>>();
    assert_eq!(
        results.iter().filter(|result| result.is_ok()).count(),
        1_024
    );
    assert!(
        results[1_024..]
            .iter()
            .all(|result| *result == Err(Failure::Refused))
    );
    assert_eq!(swarm.texts(1).len(), 1_024);
    swarm.input(1, ringweave_node::Input::Drained(1_024, 1_024));
    let ticket = swarm.send(0, 1, b"y");
    assert_eq!(swarm.result(ticket), Ok(1));
}

#[test]
fn a_receiver_that_nobody_knows_is_not_found() {
    let mut swarm = Swarm::line(4);
    let ticket = swarm.send(0, 9, b"?");
    let outcome = swarm.outcome(ticket);
    assert_eq!(outcome.result, Err(Failure::NotFound));
    assert!(outcome.took < Duration::from_secs(3), "{:?}", outcome.took);
}

#[test]
fn a_holder_that_is_gone_is_not_found_at_the_hop_that_knows() {
    let mut swarm = Swarm::line(4);
    let ticket = swarm.send(0, 3, b"warm");
    assert_eq!(swarm.result(ticket), Ok(3));
    let holders = vec![Some(0), Some(1), Some(2), None];
    swarm.tell(2, Word::Holders(holders));
    let ticket = swarm.send(0, 3, b"?");
    let outcome = swarm.outcome(ticket);
    assert_eq!(
        (outcome.result, outcome.at),
        (Err(Failure::NotFound), Some(2))
    );
}

#[test]
fn a_peer_that_was_away_is_found_where_it_was_before() {
    let mut swarm = Swarm::unjoined(&[None, Some(0), Some(1), Some(2)]);
    // The directory never hears of the last one; its neighbour knows it all the same.
    swarm.filter = Box::new(|from, _, frame| from != 3 || port(frame) != Some(Port::DIRECTORY));
    (0..4).for_each(|index| swarm.join(index));
    swarm.run(Duration::from_secs(1));
    let ticket = swarm.send(2, 3, b"warm");
    assert_eq!(swarm.result(ticket), Ok(1));
    let there = vec![Some(0), Some(1), Some(2), Some(3)];
    swarm.tell(2, Word::Holders(vec![Some(0), Some(1), Some(2), None]));
    let ticket = swarm.send(2, 3, b"?");
    assert_eq!(swarm.result(ticket), Err(Failure::NotFound));
    swarm.tell(2, Word::Holders(there));
    let ticket = swarm.send(2, 3, b"back");
    assert_eq!(swarm.result(ticket), Ok(1));
}

#[test]
fn a_cut_names_the_hop_before_it() {
    let mut swarm = Swarm::line(4);
    swarm.tell(2, Word::Cut(3));
    let ticket = swarm.send(0, 3, b"?");
    let outcome = swarm.outcome(ticket);
    assert_eq!(
        (outcome.result, outcome.at),
        (Err(Failure::NoRoute), Some(2))
    );
    assert!(
        outcome.took <= Duration::from_millis(5_100),
        "{:?}",
        outcome.took
    );
}

#[test]
fn silence_ends_in_a_timeout() {
    let mut swarm = Swarm::line(3);
    swarm.filter = Box::new(|_, to, _| to != 2);
    let ticket = swarm.send(0, 2, b"?");
    let outcome = swarm.outcome(ticket);
    assert_eq!(outcome.result, Err(Failure::Timeout));
    assert!(
        outcome.took <= Duration::from_millis(5_100),
        "{:?}",
        outcome.took
    );
    swarm.filter = Box::new(|_, _, _| true);
    let ticket = swarm.send(0, 2, b"after");
    assert_eq!(swarm.result(ticket), Ok(2));
}

#[test]
fn a_peer_that_moved_is_found_anew_and_nobody_is_mistaken_for_it() {
    let mut swarm = Swarm::line(6);
    let ticket = swarm.send(0, 4, b"one");
    assert_eq!(swarm.result(ticket), Ok(4));
    swarm.reshape(vec![Some(0), Some(1), Some(2), Some(3), Some(5), Some(4)]);
    let ticket = swarm.send(0, 4, b"two");
    let outcome = swarm.outcome(ticket);
    assert_eq!((outcome.result, outcome.at), (Ok(5), Some(5)));
    assert!(
        outcome.took < Duration::from_millis(100),
        "{:?}",
        outcome.took
    );
    assert_eq!(
        (swarm.texts(4).concat(), swarm.texts(5).len()),
        ("onetwo".into(), 0)
    );
}

#[test]
fn a_peer_that_moved_onto_the_way_takes_what_is_its_own() {
    let mut swarm = Swarm::line(5);
    let ticket = swarm.send(0, 4, b"one");
    assert_eq!(swarm.result(ticket), Ok(4));
    swarm.reshape(vec![Some(0), Some(1), Some(4), Some(3), Some(2)]);
    swarm.sent.clear();
    let ticket = swarm.send(0, 4, b"two");
    assert_eq!(swarm.outcome(ticket).at, Some(2));
    let transmissions = swarm
        .sent
        .iter()
        .filter(|(_, _, frame)| port(frame) == Some(Port::APP));
    assert_eq!(transmissions.count(), 2);
}

#[test]
fn a_message_after_one_that_timed_out_waits_for_nothing() {
    let mut swarm = Swarm::line(2);
    let first = swarm.send(0, 1, b"a");
    swarm.result(first).unwrap();
    swarm.filter = Box::new(|_, to, _| to != 1);
    let lost = swarm.send(0, 1, b"lost");
    assert_eq!(swarm.result(lost), Err(Failure::Timeout));
    swarm.filter = Box::new(|_, _, _| true);
    let next = swarm.send(0, 1, b"b");
    let outcome = swarm.outcome(next);
    assert_eq!(outcome.result, Ok(1));
    assert!(
        outcome.took < Duration::from_millis(100),
        "{:?}",
        outcome.took
    );
    assert_eq!(swarm.texts(1).concat(), "ab");
}

#[test]
fn a_gap_that_stays_is_skipped_and_what_was_missing_is_refused() {
    let mut swarm = Swarm::line(2);
    let first = swarm.send(0, 1, b"0");
    swarm.result(first).unwrap();
    // Every transmission of one message is lost, for longer than a receiver waits.
    swarm.filter = Box::new(
        |_, _, frame| !matches!(frame, Frame::Envelope(envelope) if &envelope.payload[..] == b"1"),
    );
    let missing = swarm.send(0, 1, b"1");
    let later = (2..5)
        .map(|n| swarm.send(0, 1, format!("{n}").as_bytes()))
        .collect::<Vec<_>>();
    assert_eq!(swarm.result(later[0]), Ok(1));
    let waited = swarm.outcome(later[0]).took;
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_millis(2_200));
    assert_eq!(swarm.result(missing), Err(Failure::Refused));
    assert_eq!(swarm.texts(1).concat(), "0234");
    assert_eq!(swarm.node(1).counters().dropped, 1);
}

#[test]
fn tables_that_contradict_each_other_end_at_the_hop_limit() {
    let mut swarm = Swarm::line(4);
    let ticket = swarm.send(0, 3, b"warm");
    assert_eq!(swarm.result(ticket), Ok(3));
    // Peer 2 sends whatever is not for it back to where it came from.
    swarm.tell(2, Word::Loop(1));
    swarm.sent.clear();
    let ticket = swarm.send(0, 3, b"round and round");
    let outcome = swarm.outcome(ticket);
    assert_eq!(outcome.result, Err(Failure::NoRoute));
    let once = swarm
        .sent
        .iter()
        .filter(|(_, _, frame)| port(frame) == Some(Port::APP))
        .count();
    let tries = once / 64;
    assert!(
        (2..=12).contains(&tries) && once % 64 == 0,
        "{once} transmissions"
    );
}

#[test]
fn a_receiver_that_forgot_a_quiet_flow_takes_it_up_again() {
    let mut swarm = Swarm::line(2);
    let ticket = swarm.send(0, 1, b"a");
    assert_eq!(swarm.result(ticket), Ok(1));
    swarm.run(Duration::from_secs(61));
    swarm.restart(1);
    swarm.run(Duration::from_millis(50));
    let ticket = swarm.send(0, 1, b"b");
    assert_eq!(swarm.result(ticket), Ok(1));
    assert_eq!(swarm.texts(1).concat(), "ab");
}

#[test]
fn a_message_to_oneself_is_delivered_here() {
    let mut swarm = Swarm::line(2);
    let ticket = swarm.send(0, 0, b"note");
    assert_eq!(swarm.result(ticket), Ok(0));
    assert_eq!(
        (swarm.texts(0).concat(), swarm.sent.len()),
        ("note".into(), 0)
    );
}

#[test]
fn an_address_means_whoever_holds_it() {
    let mut swarm = Swarm::line(4);
    let to = |address| Command::Send(Destination::Holder(address), Bytes::from_static(b"hi"));
    let ticket = swarm.command(0, to(3));
    assert_eq!(swarm.outcome(ticket).peer, Some(id(3)));
    let ticket = swarm.command(0, to(0));
    assert_eq!(swarm.result(ticket), Ok(0));
    let ticket = swarm.command(0, to(17));
    assert_eq!(swarm.result(ticket), Err(Failure::NotFound));
}

#[test]
fn an_oversized_payload_is_refused_at_once() {
    let mut swarm = Swarm::line(2);
    let ticket = swarm.send(0, 1, &vec![0; MAX_PAYLOAD + 1]);
    assert!(swarm.find(ticket).is_some());
    assert_eq!(swarm.result(ticket), Err(Failure::TooLarge));
    let ticket = swarm.send(0, 1, &vec![0; MAX_PAYLOAD]);
    assert_eq!(swarm.result(ticket), Ok(1));
}

#[test]
fn the_window_and_the_queue_are_bounded_and_say_so() {
    let mut swarm = Swarm::line(2);
    swarm.filter = Box::new(|_, _, _| false);
    let tickets = (0..64 + 4_096)
        .map(|_| swarm.send(0, 1, b"x"))
        .collect::<Vec<_>>();
    assert!(swarm.node(0).is_congested());
    assert!(tickets.iter().all(|ticket| swarm.find(*ticket).is_none()));
    let ticket = swarm.send(0, 1, b"one too many");
    assert_eq!(swarm.result(ticket), Err(Failure::Refused));
    swarm.run(Duration::from_secs(6));
    assert!(
        tickets
            .into_iter()
            .all(|ticket| swarm.find(ticket).is_some())
    );
    assert!(!swarm.node(0).is_congested());
}

#[test]
fn thousands_go_through_at_one_acknowledgement_for_many() {
    let mut swarm = Swarm::line(3);
    let mut tickets = Vec::new();
    for _ in 0..20 {
        tickets.extend((0..500).map(|_| swarm.send(0, 2, b"x")));
        swarm.run(Duration::from_millis(10));
    }
    let is_delivered = |ticket| swarm.find(ticket).is_some();
    swarm_all(&tickets, is_delivered);
    let acks = swarm
        .sent
        .iter()
        .filter(|(from, _, frame)| *from == 2 && port(frame) == Some(Port::ROUTER));
    let acks = acks.count();
    assert!(acks < 10_000 / 30, "{acks} acknowledgements");
    assert_eq!(swarm.texts(2).len(), 10_000);
}

fn swarm_all<T: Copy>(items: &[T], claim: impl Fn(T) -> bool) {
    assert!(items.iter().all(|item| claim(*item)));
}
