//! Records: kept, found, replaced, deleted, expired, handed over.

#![allow(clippy::unwrap_used)]

mod swarm;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ringweave_ids::{Key, Peer};
use ringweave_node::{
    Cast, Command, Denial, Envelope, Event, Failure, Fetched, Flow, Frame, Input, MAX_LEASE,
    MAX_RECORD_NAME, MAX_VALUE, MessageKind, NotKept, Port, Record, Stored, Ticket,
};
use ringweave_overlay::Target;
use swarm::{Swarm, id};

const HOUR: Duration = Duration::from_secs(3_600);

fn put(swarm: &mut Swarm, by: u32, name: &str, value: &str) -> Result<Stored, NotKept> {
    put_for(
        swarm,
        by,
        Some(name),
        Some(Bytes::copy_from_slice(value.as_bytes())),
        HOUR,
    )
}

fn put_for(
    swarm: &mut Swarm,
    by: u32,
    name: Option<&str>,
    value: Option<Bytes>,
    lease: Duration,
) -> Result<Stored, NotKept> {
    let name = name.map(str::to_owned);
    let ticket = swarm.command(by, Command::Put { name, value, lease });
    match swarm.answer(ticket) {
        Event::Put(_, result) => result,
        other => panic!("not the answer to a put: {other:?}"),
    }
}

fn get(swarm: &mut Swarm, by: u32, key: Key) -> Result<Option<Fetched>, NotKept> {
    let ticket = swarm.command(by, Command::Get(key));
    match swarm.answer(ticket) {
        Event::Got(_, result) => result,
        other => panic!("not the answer to a read: {other:?}"),
    }
}

fn read(swarm: &mut Swarm, by: u32, key: Key) -> Option<String> {
    let found = get(swarm, by, key).unwrap()?;
    assert_eq!(found.key, key);
    Some(String::from_utf8(found.value.to_vec()).unwrap())
}

/// A tree of seven peers.
fn tree() -> Swarm {
    Swarm::new(&[None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(2)])
}

/// A key of each peer, none the same.
fn filled(swarm: &mut Swarm) -> Vec<(Key, String)> {
    let put_one = |by: u32| {
        let value = format!("value of {by}");
        let stored = put(swarm, by, "a name", &value).unwrap();
        (stored.key, value)
    };
    (0..7).map(put_one).collect()
}

#[test]
fn what_one_puts_everybody_reads() {
    let mut swarm = tree();
    let all = filled(&mut swarm);
    for (by, (key, value)) in (0..).zip(&all) {
        assert_eq!(*key, Record::key_of(&id(by), "a name"));
        for reader in 0..7 {
            assert_eq!(read(&mut swarm, reader, *key).as_ref(), Some(value));
        }
    }
    let missing = Record::key_of(&id(0), "another name");
    assert_eq!(get(&mut swarm, 3, missing), Ok(None));
}

#[test]
fn a_put_says_how_many_have_it_and_the_owner_what_it_keeps() {
    let mut swarm = tree();
    let stored = put(&mut swarm, 4, "one", "1").unwrap();
    assert!((3..=4).contains(&stored.copies), "{stored:?}");
    put_for(
        &mut swarm,
        4,
        None,
        Some(Bytes::from_static(b"fixed")),
        HOUR,
    )
    .unwrap();
    let ticket = swarm.command(4, Command::Owned);
    let Event::Owned(_, mut owned) = swarm.answer(ticket) else {
        panic!("not what it owns");
    };
    owned.sort_by_key(|one| one.name.clone());
    let names: Vec<_> = owned.iter().map(|one| one.name.as_deref()).collect();
    assert_eq!(names, [None, Some("one")]);
    assert!(owned.iter().all(|one| one.is_kept && one.lease == HOUR));
    assert_eq!(
        (owned[1].key, owned[1].sequence),
        (stored.key, stored.sequence)
    );
}

#[test]
fn an_immutable_value_has_its_hash_for_a_key() {
    let mut swarm = tree();
    let value = Bytes::from_static(b"what never changes");
    let stored = put_for(&mut swarm, 2, None, Some(value.clone()), HOUR).unwrap();
    assert_eq!(stored.key.0, *blake3::hash(&value).as_bytes());
    // Another may keep the same.
    let again = put_for(&mut swarm, 5, None, Some(value.clone()), HOUR).unwrap();
    assert_eq!(stored.key, again.key);
    let found = get(&mut swarm, 6, stored.key).unwrap().unwrap();
    assert_eq!((found.value, found.name), (value, None));
    let none = put_for(&mut swarm, 2, None, None, HOUR);
    assert_eq!(none, Err(NotKept::Denied(Denial::Malformed)));
}

#[test]
fn the_newest_value_is_read_and_a_deleted_one_is_gone() {
    let mut swarm = tree();
    let key = put(&mut swarm, 1, "it", "old").unwrap().key;
    for turn in 0..20 {
        let value = format!("turn {turn}");
        put(&mut swarm, 1, "it", &value).unwrap();
        for reader in 0..7 {
            assert_eq!(read(&mut swarm, reader, key).as_ref(), Some(&value));
        }
    }
    put_for(&mut swarm, 1, Some("it"), None, HOUR).unwrap();
    assert_eq!(read(&mut swarm, 6, key), None);
    put(&mut swarm, 1, "it", "again").unwrap();
    assert_eq!(read(&mut swarm, 6, key).as_deref(), Some("again"));
}

#[test]
fn a_lease_ends_where_its_owner_is_gone_and_is_renewed_where_not() {
    let mut swarm = tree();
    let minute = Duration::from_secs(60);
    let value = || Some(Bytes::from_static(b"for a minute"));
    let left = put_for(&mut swarm, 3, Some("it"), value(), minute)
        .unwrap()
        .key;
    let stays = put_for(&mut swarm, 4, Some("it"), value(), minute)
        .unwrap()
        .key;
    swarm.restart(3);
    swarm.run(minute / 2);
    assert!(read(&mut swarm, 0, left).is_some());
    swarm.run(minute);
    assert_eq!(read(&mut swarm, 0, left), None);
    for _ in 0..10 {
        assert!(read(&mut swarm, 0, stays).is_some());
        swarm.run(minute);
    }
}

#[test]
fn who_holds_a_key_now_is_handed_its_record() {
    let mut swarm = tree();
    let all = filled(&mut swarm);
    // Two leave the addresses: all keys have other owners.
    swarm.nodes[5] = None;
    swarm.nodes[6] = None;
    let holders = (0..7).map(|at| (at < 5).then_some(at)).collect();
    swarm.reshape(holders);
    for (key, value) in &all {
        for reader in 0..5 {
            assert_eq!(
                read(&mut swarm, reader, *key).as_ref(),
                Some(value),
                "at once"
            );
        }
    }
    swarm.run(Duration::from_secs(30));
    swarm.sent.clear();
    for (key, value) in &all {
        assert_eq!(read(&mut swarm, 0, *key).as_ref(), Some(value), "later");
    }
    // Once the copies are where they belong, the first holder answers alone.
    let frames = swarm.sent.len();
    assert!(frames <= 7 * 2 * 3, "{frames} frames for seven reads");
}

#[test]
fn a_new_value_is_read_whoever_holds_the_key() {
    let mut swarm = tree();
    let key = put(&mut swarm, 1, "it", "first").unwrap().key;
    let shapes = [
        vec![0, 1, 2, 3, 4],
        vec![0, 1, 2, 3, 4, 5, 6],
        vec![0, 1, 2, 3],
    ];
    for turn in 0..12 {
        let alive = &shapes[turn % shapes.len()];
        swarm.reshape((0..7).map(|at| alive.contains(&at).then_some(at)).collect());
        let value = format!("turn {turn}");
        put(&mut swarm, 1, "it", &value).unwrap();
        for reader in 0..4 {
            assert_eq!(
                read(&mut swarm, reader, key).as_ref(),
                Some(&value),
                "{turn}"
            );
        }
    }
}

#[test]
fn what_cannot_be_kept_is_refused_with_a_reason() {
    let mut swarm = tree();
    let mut refused = |name: &str, len: usize, lease| {
        let value = Some(Bytes::from(vec![1; len]));
        match put_for(&mut swarm, 0, Some(name), value, lease).unwrap_err() {
            NotKept::Denied(why) => why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused("", 1, HOUR), Denial::TooLarge);
    assert_eq!(
        refused(&"n".repeat(MAX_RECORD_NAME + 1), 1, HOUR),
        Denial::TooLarge
    );
    assert_eq!(refused("n", MAX_VALUE + 1, HOUR), Denial::TooLarge);
    assert_eq!(refused("n", 1, Duration::from_secs(1)), Denial::Malformed);
    assert_eq!(refused("n", 1, MAX_LEASE + HOUR), Denial::Malformed);
    let largest = "n".repeat(MAX_RECORD_NAME);
    let value = Some(Bytes::from(vec![1; MAX_VALUE]));
    let key = put_for(&mut swarm, 0, Some(&largest), value, MAX_LEASE)
        .unwrap()
        .key;
    assert_eq!(
        get(&mut swarm, 6, key).unwrap().unwrap().value.len(),
        MAX_VALUE
    );
}

#[test]
fn one_owner_has_its_share_and_no_more() {
    let mut swarm = Swarm::new(&[None, Some(0)]);
    let value = || Some(Bytes::from(vec![1; MAX_VALUE]));
    let mut kept = 0;
    let why = loop {
        match put_for(&mut swarm, 0, Some(&format!("{kept}")), value(), HOUR) {
            Ok(_) => kept += 1,
            Err(why) => break why,
        }
    };
    assert_eq!(why, NotKept::Denied(Denial::Quota));
    assert!((100..200).contains(&kept), "{kept}");
    put_for(&mut swarm, 1, Some("mine"), value(), HOUR).unwrap();
    // What it has may be replaced.
    put_for(&mut swarm, 0, Some("0"), value(), HOUR).unwrap();
}

#[test]
fn holders_that_cannot_be_reached_are_not_holders_that_have_nothing() {
    let mut swarm = Swarm::line(3);
    let all = (0..3).map(|by| put(&mut swarm, by, "it", "value").unwrap().key);
    let all: Vec<_> = all.collect();
    swarm.filter = Box::new(|from, to, _| from != 0 && to != 0);
    let nothing = Record::key_of(&id(2), "nothing");
    let mut failed = 0;
    for key in all.into_iter().chain([nothing]) {
        match get(&mut swarm, 0, key) {
            // Kept by the reader itself, or put by it.
            Ok(Some(_)) => {}
            Ok(None) => panic!("nobody said that there is nothing"),
            Err(why) => {
                assert!(
                    matches!(why, NotKept::Failed(Failure::Timeout | Failure::NoRoute)),
                    "{why:?}"
                );
                failed += 1;
            }
        }
    }
    assert!(failed > 0);
}

/// Something for the records of peer `to`, as if it came from peer `from`.
fn inject(swarm: &mut Swarm, from: u32, to: u32, payload: Vec<u8>) {
    let target = Target::Peer {
        id: id(to),
        address: to,
    };
    inject_at(swarm, from, to, target, payload);
}

fn inject_at(swarm: &mut Swarm, from: u32, to: u32, target: Target<u32>, payload: Vec<u8>) {
    let flow = Flow {
        origin: id(from),
        incarnation: 1,
        source: from,
        target,
        port: Port::RECORDS,
        kind: MessageKind::Unicast,
        life: 0,
        first: 0,
    };
    let envelope = Envelope {
        flow: Arc::new(flow),
        sequence: 1,
        hops: 0,
        is_traced: false,
        cast: Cast::One,
        payload: payload.into(),
    };
    swarm.input(to, Input::Received(Peer(from), Frame::Envelope(envelope)));
}

#[test]
fn garbage_is_counted_and_a_forged_record_is_not_kept() {
    let mut swarm = Swarm::line(2);
    // Words caught on their way, and said again with one byte changed.
    swarm.filter = Box::new(|_, _, _| true);
    let key = put(&mut swarm, 1, "it", "value").unwrap().key;
    let words = swarm
        .sent
        .iter()
        .filter_map(|(from, to, frame)| match frame {
            Frame::Envelope(envelope) if envelope.flow.port == Port::RECORDS => {
                Some((*from, *to, envelope.payload.to_vec()))
            }
            _ => None,
        });
    let words: Vec<_> = words.collect();
    assert!(
        words.iter().any(|(_, _, payload)| payload.len() > 100),
        "no record on its way"
    );
    let faults = |swarm: &Swarm| {
        (0..2)
            .map(|peer| swarm.node(peer).counters().faults)
            .sum::<u64>()
    };
    assert_eq!(faults(&swarm), 0);
    for (from, to, payload) in words {
        for at in 0..payload.len() {
            for bit in [1, 128] {
                let mut payload = payload.clone();
                payload[at] ^= bit;
                inject(&mut swarm, from, to, payload);
            }
        }
        swarm.run(Duration::from_secs(1));
    }
    assert!(faults(&swarm) > 100, "{}", faults(&swarm));
    for reader in 0..2 {
        assert_eq!(read(&mut swarm, reader, key).as_deref(), Some("value"));
    }
}

#[test]
fn a_record_said_again_is_stale() {
    let mut swarm = Swarm::line(2);
    let key = put(&mut swarm, 1, "it", "old").unwrap().key;
    let old: Vec<_> = swarm.sent.drain(..).collect();
    put(&mut swarm, 1, "it", "new").unwrap();
    for (from, to, frame) in old {
        if let Frame::Envelope(envelope) = frame
            && envelope.flow.port == Port::RECORDS
        {
            inject(&mut swarm, from, to, envelope.payload.to_vec());
        }
    }
    swarm.run(Duration::from_secs(2));
    for reader in 0..2 {
        assert_eq!(read(&mut swarm, reader, key).as_deref(), Some("new"));
    }
}

/// What a watch told so far: the values in order, nothing where there was none.
fn watched(swarm: &Swarm, ticket: Ticket) -> Vec<Option<String>> {
    let told = swarm.events.iter().filter_map(|(_, event)| match event {
        Event::Watched(of, told) if *of == ticket => Some(told.clone().unwrap()),
        _ => None,
    });
    let text = |found: Fetched| String::from_utf8(found.value.to_vec()).unwrap();
    told.map(|found| found.map(text)).collect()
}

#[test]
fn a_watcher_hears_of_every_change_at_once_and_of_the_end() {
    let mut swarm = tree();
    let second = Duration::from_secs(1);
    let key = Record::key_of(&id(1), "it");
    let watch = swarm.command(6, Command::Watch(key));
    swarm.run(second);
    let mut expected = vec![None];
    assert_eq!(watched(&swarm, watch), expected);
    for turn in 0..5 {
        let value = format!("turn {turn}");
        put(&mut swarm, 1, "it", &value).unwrap();
        swarm.run(second);
        expected.push(Some(value));
        assert_eq!(watched(&swarm, watch), expected);
    }
    put_for(&mut swarm, 1, Some("it"), None, HOUR).unwrap();
    swarm.run(second);
    expected.push(None);
    assert_eq!(watched(&swarm, watch), expected);
    // Renewals and rereads are no news.
    swarm.run(HOUR);
    assert_eq!(watched(&swarm, watch), expected);
    let _ = swarm.command(6, Command::Unwatch(watch));
    put(&mut swarm, 1, "it", "unseen").unwrap();
    swarm.run(Duration::from_secs(60));
    assert_eq!(watched(&swarm, watch), expected);
}

#[test]
fn a_watcher_hears_when_a_lease_ends_and_whoever_holds_the_key_then() {
    let mut swarm = tree();
    let minute = Duration::from_secs(60);
    let value = Some(Bytes::from_static(b"for a minute"));
    let key = put_for(&mut swarm, 3, Some("it"), value, minute)
        .unwrap()
        .key;
    let watch = swarm.command(0, Command::Watch(key));
    swarm.run(Duration::from_secs(5));
    swarm.reshape(
        (0..7)
            .map(|at| (at != 5 && at != 6).then_some(at))
            .collect(),
    );
    swarm.restart(3);
    swarm.run(minute * 3);
    assert_eq!(
        watched(&swarm, watch),
        [Some("for a minute".to_owned()), None]
    );
}

/// The first holder of a key among the peers at the first `count` addresses.
fn first(key: Key, count: u64) -> u32 {
    (key.head() % count) as u32
}

/// A name whose key belongs to whom it should.
fn name_of(by: u32, is_it: impl Fn(Key) -> bool) -> String {
    let mut names = (0..1_000).map(|number| format!("name {number}"));
    names
        .find(|name| is_it(Record::key_of(&id(by), name)))
        .unwrap()
}

#[test]
fn a_put_is_not_acknowledged_while_one_who_answers_for_the_key_lacks_it() {
    let mut swarm = tree();
    // Beside peer 1 are its parent and its first child, and no message but those for it goes to 3.
    let name = name_of(0, |key| first(key, 7) == 1);
    swarm.filter = Box::new(|_, to, _| to != 3);
    let failed = put(&mut swarm, 0, &name, "value");
    assert_eq!(failed, Err(NotKept::Failed(Failure::Timeout)));
    swarm.filter = Box::new(|_, _, _| true);
    assert_eq!(
        put(&mut swarm, 0, &name, "value").map(|it| it.copies >= 3),
        Ok(true)
    );
}

#[test]
fn what_replaced_a_record_and_failed_leaves_the_old_one_alive() {
    let mut swarm = tree();
    let minute = Duration::from_secs(60);
    let name = name_of(5, |key| first(key, 7) == 1);
    let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let key = put_for(&mut swarm, 5, Some(&name), value("old"), minute)
        .unwrap()
        .key;
    swarm.filter = Box::new(|_, to, _| to != 1);
    put_for(&mut swarm, 5, Some(&name), value("new"), minute).unwrap_err();
    swarm.filter = Box::new(|_, _, _| true);
    // Longer than a lease: only who renews it keeps it there.
    swarm.run(minute * 3);
    assert_eq!(read(&mut swarm, 6, key).as_deref(), Some("old"));
}

#[test]
fn a_new_first_holder_does_not_take_what_it_is_handed_for_the_newest() {
    let mut swarm = tree();
    let mut tried = 0;
    for number in 0..40 {
        let name = format!("name {number}");
        swarm.reshape((0..7).map(Some).collect());
        swarm.sent.clear();
        let key = put(&mut swarm, 1, &name, "old").unwrap().key;
        // The copy of it that was on its way to another holder.
        let copies = swarm.sent.iter().filter_map(|(_, _, frame)| match frame {
            Frame::Envelope(it)
                if it.flow.port == Port::RECORDS && it.payload.first() == Some(&1) =>
            {
                Some(it.payload.to_vec())
            }
            _ => None,
        });
        let copies: Vec<_> = copies.collect();
        put(&mut swarm, 1, &name, "new").unwrap();
        swarm.reshape((0..7).map(|at| (at < 5).then_some(at)).collect());
        let holder = first(key, 5);
        let has = |peer: u32| swarm.node(peer).saved(&key, swarm.now).is_some();
        // Somebody that it asks has the new one: a neighbour in the tree, or the far holder.
        let neighbours = (0..5).filter(|at| {
            let is_child = |of: u32, at: u32| at > 0 && (at - 1) / 2 == of;
            is_child(holder, *at) || is_child(*at, holder)
        });
        // What the writer has of its own is not among what it keeps for others.
        let mut asked = neighbours.chain([(holder + 1) % 5]).filter(|at| *at != 1);
        if has(holder) || copies.is_empty() || !asked.any(has) {
            continue;
        }
        tried += 1;
        let target = Target::Key {
            scope: None,
            key,
            choice: 0,
        };
        inject_at(&mut swarm, 0, holder, target, copies[0].clone());
        assert!(
            swarm.node(holder).saved(&key, swarm.now).is_some(),
            "it took the copy"
        );
        assert_eq!(read(&mut swarm, 1, key).as_deref(), Some("new"));
        let reader = (holder + 1) % 5;
        assert_eq!(
            read(&mut swarm, reader, key).as_deref(),
            Some("new"),
            "{reader}"
        );
    }
    assert!(tried >= 3, "{tried}");
}
