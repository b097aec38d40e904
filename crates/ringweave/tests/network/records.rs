//! Records of real processes: kept by all, on disk, and through every change of topology.

use std::{thread, time::Duration};

use ringweave::Topology;
use serde_json::Value;

use crate::peer::{Peer, ask, try_ask};

/// Longer than until the disk has what was put: a peer writes once a second, and tells nobody when it has.
const WRITTEN: Duration = Duration::from_millis(2_500);

/// Puts a value, and gives its key.
fn put(peer: &Peer, name: &str, value: &str) -> String {
    let answer = ask(peer, &["kv", "put", name, value]);
    assert!(
        answer["copies"].as_u64().is_some_and(|copies| copies >= 1),
        "{answer}"
    );
    answer["key"].as_str().unwrap().to_owned()
}

fn read(peer: &Peer, key: &str) -> Option<String> {
    let (code, answer) = try_ask(peer, &["kv", "get", key]);
    match code {
        0 => Some(answer["payload"].as_str().unwrap().to_owned()),
        _ => {
            assert_eq!(
                (code, &answer["error"]),
                (3, &Value::from("not_found")),
                "{answer}"
            );
            None
        }
    }
}

/// What three peers of a topology have of each other's records.
pub(crate) fn are_kept(topology: Topology, peers: [&Peer; 3]) {
    if topology == Topology::Unstructured {
        let (code, answer) = try_ask(peers[0], &["kv", "put", "colour", "green"]);
        assert_eq!(code, 1, "{answer}");
        let said = answer["message"].as_str().unwrap();
        assert!(said.contains("unstructured"), "{said}");
        return;
    }
    for peer in peers {
        let first = put(peer, "colour", "green");
        assert_eq!(put(peer, "colour", "blue"), first);
        for reader in peers {
            assert_eq!(read(reader, &first).as_deref(), Some("blue"), "{topology}");
        }
        assert_eq!(read(peer, "colour").as_deref(), Some("blue"));
        let listed = ask(peer, &["kv", "list"]);
        let [record] = listed["records"].as_array().unwrap().as_slice() else {
            panic!("{listed}");
        };
        assert_eq!(
            (&record["name"], &record["kept"]),
            (&"colour".into(), &true.into())
        );
        ask(peer, &["kv", "del", "colour"]);
        for reader in peers {
            assert_eq!(read(reader, &first), None, "{topology}");
        }
    }
    let fixed = ask(
        peers[0],
        &["kv", "put", "--immutable", "never changes", "--lease", "2h"],
    );
    let key = fixed["key"].as_str().unwrap();
    let found = ask(peers[2], &["kv", "get", key]);
    assert_eq!(
        (&found["payload"], &found["owner"]),
        (&"never changes".into(), &peers[0].id().into())
    );
    assert!(
        found["left_s"].as_f64().is_some_and(|left| left > 7_000.0),
        "{found}"
    );
}

#[test]
fn records_outlive_all_processes() {
    let anna = Peer::found("anna", &[]);
    let bo = Peer::join("bo", &anna);
    let cleo = Peer::join("cleo", &anna);
    let keys: Vec<_> = (0..10)
        .map(|n| put(&bo, &format!("n{n}"), &format!("value {n}")))
        .collect();
    thread::sleep(WRITTEN);
    let [anna, bo, cleo] =
        [("anna", anna), ("bo", bo), ("cleo", cleo)].map(|(name, peer)| (name, peer.crash()));
    // Bo stays away: what it put is there without it.
    let anna = Peer::again(anna.0, anna.1, &[]);
    let cleo = Peer::again(cleo.0, cleo.1, &["--join", anna.invite()]);
    for (n, key) in keys.iter().enumerate() {
        for reader in [&anna, &cleo] {
            let expected = Some(format!("value {n}"));
            reader.until("it reads what was put", || {
                let (code, answer) = try_ask(reader, &["kv", "get", key]);
                code == 0 && answer["payload"].as_str() == expected.as_deref()
            });
        }
    }
    // And back, it knows what it keeps alive, and may replace it.
    let bo = Peer::again(bo.0, bo.1, &["--join", anna.invite()]);
    let listed = ask(&bo, &["kv", "list"]);
    assert_eq!(listed["records"].as_array().unwrap().len(), 10);
    bo.until("it can replace its record", || {
        try_ask(&bo, &["kv", "put", "n0", "newer"]).0 == 0
    });
    assert_eq!(read(&cleo, &keys[0]).as_deref(), Some("newer"));
}

#[test]
fn records_move_with_their_network() {
    let anna = Peer::found("anna", &["--topology", "star"]);
    let bo = Peer::join("bo", &anna);
    let cleo = Peer::join("cleo", &anna);
    let dora = Peer::join("dora", &anna);
    let peers = [&anna, &bo, &cleo, &dora];
    let keys: Vec<_> = peers
        .iter()
        .map(|peer| put(peer, "mine", peer.id()))
        .collect();
    for to in ["polyring", "kademlia", "star"] {
        ask(&anna, &["evolve", "--to", to]);
        for (peer, key) in peers.iter().zip(&keys) {
            for reader in peers {
                reader.until(&format!("it reads everybody's record in a {to}"), || {
                    let (code, answer) = try_ask(reader, &["kv", "get", key]);
                    code == 0 && answer["payload"] == peer.id()
                });
            }
        }
    }
}

#[test]
fn a_lone_peer_keeps_records_and_refuses_words_that_make_no_sense() {
    let anna = Peer::found("anna", &[]);
    let key = put(&anna, "colour", "green");
    assert_eq!(read(&anna, &key).as_deref(), Some("green"));
    let large = "x".repeat(61 * 1024);
    for (words, code, error) in [
        (vec!["kv", "put", "n", &large], 2, "too_large"),
        (vec!["kv", "put", "n", "v", "--lease", "5s"], 2, "malformed"),
        (vec!["kv", "put", "n", "v", "--lease", "8d"], 2, "malformed"),
        (vec!["kv", "get", "nothing of this name"], 3, "not_found"),
    ] {
        let (got, answer) = try_ask(&anna, &words);
        assert_eq!((got, &answer["error"]), (code, &error.into()), "{answer}");
    }
}

#[test]
fn a_watch_tells_of_every_change() {
    let anna = Peer::found("anna", &[]);
    let bo = Peer::join("bo", &anna);
    let key = put(&anna, "colour", "green");
    let mut told = bo.watch(&key);
    let mut hears = |value: &str| {
        let event = told.next().unwrap();
        assert_eq!(
            (&event["event"], &event["payload"]),
            (&"record".into(), &value.into())
        );
        assert_eq!(event["owner"], anna.id());
    };
    hears("green");
    for value in ["blue", "red"] {
        put(&anna, "colour", value);
        hears(value);
    }
    ask(&anna, &["kv", "del", "colour"]);
    assert_eq!(told.next().unwrap()["event"], "nothing");
}
