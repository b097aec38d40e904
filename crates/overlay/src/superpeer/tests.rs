//! Stories of superpeers.

use super::{Config, Superpeer};
use crate::{Contact, swarm::Swarm};

type Net = Swarm<Superpeer>;

fn grown(count: u32) -> Net {
    Swarm::grown(Config::default(), count)
}

/// Every leaf is on the owner of its point and on that one's successor, and these have it; the loads
/// are bounded, and everybody is reached.
fn is_whole(net: &Net) {
    let inside = net.peers().filter(|(_, peer)| peer.circle().is_some());
    let mut inside: Vec<Contact> = inside.map(|(_, peer)| peer.me).collect();
    inside.sort_by_key(|it| it.point);
    for (handle, peer) in net.peers().filter(|(_, peer)| peer.circle().is_none()) {
        let at = inside.partition_point(|it| it.point < peer.me.point);
        let right = (0..inside.len().min(2)).map(|step| inside[(at + step) % inside.len()]);
        let right: Vec<_> = right.collect();
        assert_eq!(
            peer.superpeers(),
            right,
            "leaf {handle} is not on these of {inside:?}"
        );
    }
    for (handle, peer) in net.peers().filter(|(_, peer)| peer.circle().is_some()) {
        let own = peer.leaves().filter(|(_, rank, _)| *rank == 0).count();
        assert!(
            own <= Config::default().most_leaves(),
            "superpeer {handle}: {own}"
        );
    }
    let count = net.peers().count();
    assert!(net.longest_way().is_ok(), "{:?}", net.longest_way());
    for (peer, _) in net.peers() {
        assert_eq!(net.broadcast(peer), (count, 0), "of {peer}");
    }
}

fn superpeers(net: &Net) -> usize {
    let inside = net.peers().filter(|(_, peer)| peer.circle().is_some());
    inside.count()
}

#[test]
fn there_are_two_superpeers_as_soon_as_there_are_two_peers() {
    let net = grown(2);
    assert_eq!(superpeers(&net), 2);
    is_whole(&net);
    let net = grown(8);
    assert_eq!(superpeers(&net), 2);
    is_whole(&net);
}

#[test]
fn leaves_are_promoted_where_there_are_many() {
    let net = grown(120);
    let count = superpeers(&net);
    assert!((5..=20).contains(&count), "{count} superpeers");
    is_whole(&net);
}

#[test]
fn leaves_outlive_a_superpeer() {
    let mut net = grown(60);
    let first = net.peers().find(|(_, peer)| peer.circle().is_some());
    let first = first.map_or(0, |it| it.0);
    net.crash(first);
    net.run(30.0);
    is_whole(&net);
}

#[test]
fn the_last_superpeer_that_leaves_names_an_heir() {
    // Nobody is promoted meanwhile.
    let config = Config {
        weigh_ms: 3_600_000,
        ..Config::default()
    };
    for count in [2, 3, 9] {
        let mut net = Swarm::<Superpeer>::grown(config.clone(), count);
        assert_eq!(superpeers(&net), 1);
        net.leave(0);
        net.run(3.0);
        assert_eq!(superpeers(&net), 1);
        is_whole(&net);
    }
}

#[test]
fn leaves_without_any_superpeer_find_their_way_back() {
    let mut net = grown(60);
    let inside = net.peers().filter(|(_, peer)| peer.circle().is_some());
    for (peer, _) in inside.map(|(peer, _)| (peer, ())).collect::<Vec<_>>() {
        net.crash(peer);
    }
    net.run(300.0);
    is_whole(&net);
}

#[test]
fn superpeers_with_hardly_any_leaves_become_leaves() {
    let mut net = grown(120);
    let before = superpeers(&net);
    let leaves = net.peers().filter(|(_, peer)| peer.circle().is_none());
    let leaves: Vec<_> = leaves.map(|(peer, _)| peer).collect();
    for peer in leaves.iter().skip(10) {
        net.leave(*peer);
    }
    net.run(240.0);
    assert!(
        superpeers(&net) < before / 2,
        "{before}, {}",
        superpeers(&net)
    );
    is_whole(&net);
}

#[test]
fn the_parts_of_a_split_become_one() {
    let mut net = grown(80);
    net.split(|peer| (peer % 2) as u8);
    net.run(60.0);
    net.split(|_| 0);
    net.run(120.0);
    is_whole(&net);
}
