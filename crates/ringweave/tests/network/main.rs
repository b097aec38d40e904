//! Real processes on loopback: what the program promises, seen from outside.

#![allow(clippy::unwrap_used)]

mod door;
mod peer;
mod records;
mod topologies;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use peer::{Peer, ask, try_ask};
use serde_json::Value;

/// The contract's deadline for the end of a send, and a little for starting a process.
const SEND_ENDS: Duration = Duration::from_secs(7);

/// How long a crash may be felt: five seconds, which the demo and the overlay's own tests hold it to,
/// and some for starting a dozen processes beside other tests on a busy machine.
const HEALED: Duration = Duration::from_millis(6_500);

#[test]
fn three_processes_carry_each_others_messages() {
    let anna = Peer::found("anna", &[]);
    let bo = Peer::join("bo", &anna);
    let cleo = Peer::join("cleo", &anna);

    for n in 0..5 {
        let sent = ask(&anna, &["send", bo.id(), &format!("letter {n}")]);
        assert_eq!(sent["delivered"], true, "{sent}");
        assert!(sent["hops"].is_u64() && sent["ms"].is_number(), "{sent}");
    }
    let spread = ask(&anna, &["multicast", bo.id(), "cleo", "--", "to both"]);
    assert!(
        spread["results"]
            .as_array()
            .unwrap()
            .iter()
            .all(|result| result["delivered"] == true),
        "{spread}"
    );
    assert_eq!(ask(&anna, &["broadcast", "to all"])["reached"], 3);
    assert_eq!(ask(&cleo, &["send", "bo", "done"])["delivered"], true);
    assert_eq!(
        ask(&anna, &["send", &cleo.id()[..10], "done"])["delivered"],
        true
    );

    let heard = bo.listen(8);
    let letters = texts(&heard, anna.id(), "unicast");
    assert_eq!(
        letters,
        ["letter 0", "letter 1", "letter 2", "letter 3", "letter 4"]
    );
    assert_eq!(texts(&heard, anna.id(), "multicast"), ["to both"]);
    assert_eq!(texts(&heard, anna.id(), "broadcast"), ["to all"]);
    assert_eq!(texts(&heard, cleo.id(), "unicast"), ["done"]);
    assert_eq!(heard.len(), 8, "each arrives once");
    assert!(
        heard.iter().all(|event| event["late"] == false),
        "{heard:?}"
    );
    let counters = &ask(&bo, &["status"])["counters"];
    for name in ["repaired", "late", "offered", "asked", "missed"] {
        assert!(counters[name].is_u64(), "{name}: {counters}");
    }

    let heard = cleo.listen(3);
    assert_eq!(texts(&heard, anna.id(), "multicast"), ["to both"]);
    assert_eq!(texts(&heard, anna.id(), "broadcast"), ["to all"]);
    assert_eq!(texts(&heard, anna.id(), "unicast"), ["done"]);
}

#[test]
fn the_network_is_seen_alike_by_its_peers() {
    let anna = Peer::found("anna", &["--ring-size", "2"]);
    let bo = Peer::join("bo", &anna);
    let cleo = Peer::join("cleo", &anna);
    for peer in [&anna, &bo, &cleo] {
        assert_eq!(ask(peer, &["id"])["peer_id"], peer.id());
        assert_eq!(ask(peer, &["status"])["ring_size"], 2);
        peer.until("tree has three peers", || {
            let tree = ask(peer, &["tree"]);
            tree["peers"]
                .as_array()
                .is_some_and(|peers| peers.len() == 3)
        });
    }
    // Two in the center, one below: no way is longer than 2 (2 - 1) + 1 hops.
    let traced = ask(&bo, &["trace", cleo.id()]);
    let hops = traced["hops"].as_array().unwrap();
    assert!((2..=4).contains(&hops.len()), "{traced}");
    assert_eq!(hops[0]["peer_id"], bo.id());
    assert_eq!(hops.last().unwrap()["peer_id"], cleo.id());
}

#[test]
fn a_stopped_peer_is_told_of_in_time() {
    let anna = Peer::found("anna", &[]);
    let bo = Peer::join("bo", &anna);
    let cleo = Peer::join("cleo", &anna);
    assert_eq!(
        ask(&bo, &["send", cleo.id(), "still here?"])["delivered"],
        true
    );
    let id = cleo.id().to_owned();
    cleo.crash();
    let start = Instant::now();
    let (code, answer) = try_ask(&bo, &["send", &id, "and now?"]);
    assert!([3, 4, 6].contains(&code), "{code} {answer}");
    assert_eq!(answer["delivered"], false);
    let word = answer["error"].as_str().unwrap();
    assert!(
        ["not_found", "no_route", "timeout"].contains(&word),
        "{answer}"
    );
    assert!(start.elapsed() < SEND_ENDS, "{:?}", start.elapsed());
    let (code, answer) = try_ask(&bo, &["send", "nobody", "hello?"]);
    assert_eq!(
        (code, &answer["error"]),
        (3, &Value::from("not_found")),
        "{answer}"
    );
}

#[test]
fn a_newcomers_first_message_arrives_within_two_seconds_of_its_start() {
    let anna = Peer::found("anna", &[]);
    let start = Instant::now();
    let bo = Peer::join("bo", &anna);
    assert_eq!(ask(&bo, &["send", anna.id(), "hi"])["delivered"], true);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// Five processes, in one ring or in three levels; one is killed, whichever it is, and within five
/// seconds the others all reach each other.
#[test]
fn any_one_of_five_may_be_killed() {
    for (ring_size, victim) in [("32", 0), ("32", 3), ("2", 0), ("2", 1)] {
        let anna = Peer::found("p0", &["--ring-size", ring_size]);
        let others = (1..5).map(|n| Peer::join(&format!("p{n}"), &anna));
        let others: Vec<_> = others.collect();
        let mut peers: Vec<_> = std::iter::once(anna).chain(others).collect();
        peers.remove(victim).crash();
        let start = Instant::now();
        thread::scope(|scope| {
            for from in &peers {
                for to in peers.iter().filter(|to| to.id() != from.id()) {
                    scope.spawn(|| {
                        // A send gives up by itself after five seconds.
                        while try_ask(from, &["send", to.id(), "all well?"]).0 != 0 {
                            assert!(start.elapsed() < SEND_ENDS, "still not healed");
                        }
                    });
                }
            }
        });
        let took = start.elapsed();
        assert!(
            took < HEALED,
            "{took:?} with rings of {ring_size}, victim {victim}"
        );
    }
}

#[test]
fn those_who_watch_see_neighbours_come_and_go() {
    let anna = Peer::found("anna", &[]);
    let mut events = anna.events();
    let bo = Peer::join("bo", &anna);
    let id = Value::from(bo.id());
    assert!(events.any(|event| event["event"] == "up" && event["peer"] == id));
    bo.leave();
    assert!(events.any(|event| event["event"] == "down" && event["peer"] == id));
}

#[test]
fn a_listener_learns_that_its_peer_has_gone() {
    let anna = Peer::found("anna", &[]);
    let listener = anna.listener();
    anna.crash();
    assert_eq!(listener.code(), 4);
}

#[test]
fn the_door_is_shut_to_strangers() {
    let anna = Peer::found("anna", &[]);
    for path in [
        "/v1/status",
        "/v1/peers",
        "/v1/invite",
        "/v1/listen",
        "/v1/events",
        "/openapi.json",
        "/metrics",
        "/no",
    ] {
        assert_eq!(anna.http("GET", path, &[]).0, 401, "{path} without a token");
        assert_eq!(
            anna.http("GET", path, &[("Authorization", "Bearer guess")])
                .0,
            401,
            "{path} with a guess"
        );
    }
    for path in ["/", "/healthz", "/v1/status", "/openapi.json", "/metrics"] {
        let token = anna.token();
        let (code, body) = anna.http(
            "GET",
            path,
            &[("Authorization", &token), ("Origin", "http://evil.example")],
        );
        assert_eq!(code, 403, "{path} from a foreign origin");
        assert!(!body.contains(anna.id()));
        let (code, body) = anna.http(
            "GET",
            path,
            &[("Authorization", &token), ("Host", "evil.example")],
        );
        assert_eq!(code, 403, "{path} for a foreign host");
        assert!(!body.contains(anna.id()));
    }
    for path in ["/", "/healthz"] {
        let (code, body) = anna.http("GET", path, &[]);
        assert_eq!(code, 200);
        assert!(
            !body.contains(anna.id()) && !body.contains("ringweave1"),
            "{path} holds data"
        );
    }
    let token = anna.token();
    let (code, figures) = anna.http("GET", "/metrics", &[("Authorization", &token)]);
    assert!(
        code == 200 && figures.contains("\nringweave_links 0\n"),
        "{figures}"
    );
    let (code, document) = anna.http("GET", "/openapi.json", &[("Authorization", &token)]);
    assert!(code == 200 && document.contains("/v1/send"));
    assert_eq!(anna.http("GET", "/no", &[("Authorization", &token)]).0, 404);
}

#[test]
fn the_files_of_the_door_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let anna = Peer::found("anna", &[]);
    for name in ["api.token", "api.json", "identity.key"] {
        let mode = fs::metadata(anna.data().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn an_invite_that_was_changed_on_its_way_changes_nothing() {
    let anna = Peer::found("anna", &[]);
    let invite = anna.invite().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let mut altered = invite.clone();
    let letter = if altered.as_bytes()[40] == b'a' {
        "b"
    } else {
        "a"
    };
    altered.replace_range(40..41, letter);
    for (text, said) in [
        (&invite[..invite.len() - 9], "cut short"),
        (&altered, "altered"),
    ] {
        let data = folder.path().join("peer");
        let (code, error) = peer::refused(&data, &["--join", text]);
        assert!(code == 2 && error.contains(said), "{code} {error}");
        assert!(!data.exists());
    }
    let data = folder.path().join("peer");
    let (code, error) = peer::refused(&data, &["--join", &invite, "--ring-size", "7"]);
    assert!(code == 2 && error.contains("ring size"), "{code} {error}");
    assert!(!data.exists());
}

#[test]
fn a_closed_network_lets_in_who_holds_the_secret_from_a_file() {
    let anna = Peer::found("anna", &["--closed"]);
    let folder = tempfile::tempdir().unwrap();
    let (code, error) = peer::refused(&folder.path().join("peer"), &["--join", anna.invite()]);
    assert!(code == 2 && error.contains("@FILE"), "{code} {error}");
    let file = folder.path().join("invite.txt");
    fs::write(&file, anna.invite()).unwrap();
    let bo = Peer::start("bo", &["--join", &format!("@{}", file.display())]);
    assert_eq!(ask(&bo, &["send", "anna", "in"])["delivered"], true);
    assert_eq!(ask(&bo, &["status"])["closed"], true);
}

#[test]
fn a_peer_leaves_in_order_and_rejoins_without_an_invite() {
    let anna = Peer::found("anna", &[]);
    let bo = Peer::join("bo", &anna);
    let id = bo.id().to_owned();
    let data = bo.leave();
    assert!(
        !data.path().join("api.token").exists(),
        "the token outlived its server"
    );
    let bo = Peer::again("bo", data, &[]);
    assert_eq!(bo.id(), id);
    assert_eq!(
        ask(&anna, &["send", &id, "welcome back"])["delivered"],
        true
    );
    assert_eq!(texts(&bo.listen(1), anna.id(), "unicast"), ["welcome back"]);
}

#[test]
fn a_newcomer_that_is_killed_at_once_comes_back_as_a_member() {
    let anna = Peer::found("anna", &[]);
    let bo = Peer::join("bo", &anna);
    let id = bo.id().to_owned();
    let bo = Peer::again("bo", bo.crash(), &[]);
    assert_eq!(bo.id(), id);
    let of = |peer| ask(peer, &["status"])["network"].clone();
    assert_eq!(of(&bo), of(&anna), "it founded another network");
}

/// While it sleeps the others take it for dead and close its connections.
#[test]
fn a_peer_that_slept_is_back_within_seconds() {
    let anna = Peer::found("anna", &[]);
    let bo = Peer::join("bo", &anna);
    let cleo = Peer::join("cleo", &anna);
    bo.sleep(Duration::from_secs(8));
    let start = Instant::now();
    for (from, to) in [(&bo, &cleo), (&cleo, &bo), (&anna, &bo), (&anna, &cleo)] {
        from.until("all is well again", || {
            try_ask(from, &["send", to.id(), "slept well?"]).0 == 0
        });
    }
    let took = start.elapsed();
    assert!(took < HEALED, "{took:?}");
}

/// What a peer said in this way, in the order in which it arrived; its numbers must rise.
fn texts<'a>(heard: &'a [Value], from: &str, kind: &str) -> Vec<&'a str> {
    let theirs: Vec<_> = heard
        .iter()
        .filter(|event| event["from"] == from && event["kind"] == kind)
        .collect();
    let numbers: Vec<_> = theirs
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    theirs
        .into_iter()
        .map(|event| event["payload"].as_str().unwrap())
        .collect()
}
