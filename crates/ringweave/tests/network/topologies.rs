//! Three processes of every topology. What is said of them is the same for all, but where a topology
//! cannot do a thing by its nature.

use std::thread;

use ringweave::Topology;
use serde_json::Value;

use crate::{
    peer::{Peer, ask, try_ask},
    records, texts,
};

#[test]
fn three_processes_of_every_topology_carry_each_others_messages() {
    thread::scope(|scope| {
        for half in Topology::ALL.chunks(Topology::ALL.len().div_ceil(2)) {
            scope.spawn(|| half.iter().copied().for_each(told_of));
        }
    });
}

fn told_of(topology: Topology) {
    let name = topology.name();
    let anna = Peer::found("anna", &["--topology", name]);
    let bo = Peer::join("bo", &anna);
    let cleo = Peer::join("cleo", &anna);
    let peers = [&anna, &bo, &cleo];
    for peer in peers {
        assert_eq!(ask(peer, &["status"])["topology"], name);
        speak(peer, &others(peers, peer));
    }
    for peer in peers {
        let heard = peer.listen(6);
        assert_eq!(heard.len(), 6, "{name}: each arrives once: {heard:?}");
        for other in others(peers, peer) {
            for kind in ["unicast", "multicast", "broadcast"] {
                assert_eq!(texts(&heard, other.id(), kind), [kind], "{name}");
            }
        }
        look_around(name, peer, &others(peers, peer));
    }
    find(topology, &bo, &cleo);
    records::are_kept(topology, peers);
    founder_leaves_and_comes_back(name, anna, &bo, &cleo);
}

fn others<'a>(peers: [&'a Peer; 3], me: &Peer) -> Vec<&'a Peer> {
    let others = peers.into_iter().filter(|it| it.id() != me.id());
    others.collect()
}

/// To each of the others, to both, to everyone.
fn speak(me: &Peer, others: &[&Peer]) {
    for other in others {
        assert_eq!(ask(me, &["send", other.id(), "unicast"])["delivered"], true);
    }
    let ids: Vec<_> = others.iter().map(|it| it.id()).collect();
    let words = [&["multicast"], &ids[..], &["--", "multicast"]].concat();
    let spread = ask(me, &words);
    let results = spread["results"].as_array().unwrap();
    assert!(
        results.len() == 2 && results.iter().all(|it| it["delivered"] == true),
        "{spread}"
    );
    assert_eq!(ask(me, &["broadcast", "broadcast"])["reached"], 3);
}

/// Tables name the others and nobody else, and ways lead to them.
fn look_around(name: &str, me: &Peer, others: &[&Peer]) {
    me.until(&format!("its {name} is linked"), || {
        let answer = ask(me, &["peers"]);
        let table = answer["peers"].as_array().unwrap();
        let is_other = |it: &Value| others.iter().any(|other| it["peer_id"] == other.id());
        assert!(table.iter().all(is_other), "{name}: {answer}");
        !table.is_empty() && table.iter().all(|it| it["linked"] == true)
    });
    for other in others {
        let traced = ask(me, &["trace", other.id()]);
        let hops = traced["hops"].as_array().unwrap();
        assert!((2..=3).contains(&hops.len()), "{name}: {traced}");
        assert_eq!(hops[0]["peer_id"], me.id());
        assert_eq!(hops.last().unwrap()["peer_id"], other.id());
        let pong = ask(me, &["ping", other.id()]);
        assert_eq!(pong["peer_id"], other.id());
        assert!(
            pong["hops"].as_u64().is_some_and(|hops| hops >= 1),
            "{pong}"
        );
    }
}

/// By the beginning of an id; and by a name, which needs somebody who keeps it.
fn find(topology: Topology, me: &Peer, other: &Peer) {
    let sent = ask(me, &["send", &other.id()[..10], "by prefix"]);
    assert_eq!(sent["peer_id"], other.id());
    let (code, answer) = try_ask(me, &["send", "cleo", "by name"]);
    match topology {
        Topology::Unstructured => assert_eq!((code, &answer["error"]), (3, &"not_found".into())),
        _ => assert_eq!((code, &answer["peer_id"]), (0, &other.id().into())),
    }
    // While connections are still being made, some owner of a name may be out of reach.
    me.until("it knows that nobody is called so", || {
        let (code, answer) = try_ask(me, &["send", "nobody", "to whom?"]);
        (code, &answer["error"]) == (3, &"not_found".into())
    });
}

fn founder_leaves_and_comes_back(name: &str, anna: Peer, bo: &Peer, cleo: &Peer) {
    let data = anna.leave();
    bo.until(&format!("it reaches who is left of a {name}"), || {
        try_ask(bo, &["send", cleo.id(), "she left"]).0 == 0
            && ask(bo, &["broadcast", "we two"])["reached"] == 2
    });
    let anna = Peer::again("anna", data, &[]);
    for (from, to) in [(&anna, bo), (cleo, &anna), (bo, &anna), (&anna, cleo)] {
        from.until(&format!("the founder is back in a {name}"), || {
            try_ask(from, &["send", to.id(), "welcome back"]).0 == 0
        });
    }
    anna.until(&format!("a broadcast reaches all of a {name}"), || {
        ask(&anna, &["broadcast", "back"])["reached"] == 3
    });
}
