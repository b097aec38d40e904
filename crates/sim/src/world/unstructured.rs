//! Unstructured networks in the laboratory: a random graph of even degree at once, and what must hold
//! at rest: active views are symmetric, within their bounds, and connect everyone (Leitao et al., DSN
//! 2007, section 2.3).

use ringweave_ids::{Guid, Peer, Random};
use ringweave_overlay::{
    Contact, Overlay as _, Profile, View,
    unstructured::{Config, Message, Unstructured},
};

use super::{
    check::Findings,
    keys::{Desk, Keys},
    lab::Lab,
    standing::Standing,
};
use crate::Scenario;

impl Standing for Unstructured {}

impl Lab for Unstructured {
    const NAME: &'static str = "unstructured";

    const IS_STRUCTURED: bool = false;

    fn config(scenario: &Scenario) -> Config {
        let config = Config::default();
        let active = scenario.active;
        Config {
            active: active.map_or(config.active, |count| count as u8),
            ..config
        }
    }

    fn build(keys: &Keys, config: &Config, peers: u32) -> Vec<Self> {
        let mut random = Random::new(u64::from(peers));
        let graph = regular(peers, usize::from(config.active), &mut random);
        let profile = Profile::default();
        let built = |(me, active): (u32, &Vec<u32>)| {
            let desk = Desk {
                keys,
                me,
                is_blind: false,
            };
            let view = View {
                config,
                me: Peer(me),
                profile: &profile,
                host: &desk,
            };
            let active = active.iter().map(|peer| Contact::of(&desk, Peer(*peer)));
            // One more for each that may be drawn in vain: this peer, its neighbours, the same twice.
            let drawn = 2 * usize::from(config.passive);
            let passive: Vec<_> = (0..drawn)
                .map(|_| Peer(random.below(peers as usize) as u32))
                .collect();
            Self::built(&view, active, passive)
        };
        (0..).zip(&graph).map(built).collect()
    }

    fn bound(_: &Config, _: &Guid, _: &Guid) -> usize {
        1
    }

    fn inspect(_: &Config, peers: &[(u32, &Self)], findings: &mut Findings) {
        let place = |peer: Peer| peers.binary_search_by_key(&peer.0, |(handle, _)| *handle);
        for (handle, peer) in peers {
            let me = Peer(*handle);
            let (active, passive) = peer.views();
            let (active, passive): (Vec<_>, Vec<_>) = (active.collect(), passive.collect());
            let (rooms, passives) = peer.rooms();
            let is_fair = active.len() <= rooms
                && passive.len() <= passives
                && !active.contains(&me)
                && !passive.contains(&me)
                && active.iter().all(|it| !passive.contains(it));
            findings.check(is_fair, || format!("peer {handle} has unsound views"));
            let is_one_sided = |it: &&Peer| {
                let other = place(**it).ok().map(|at| peers[at].1);
                other.is_none_or(|other| other.views().0.all(|back| back != me))
            };
            let one_sided = active.iter().find(is_one_sided);
            findings.check(one_sided.is_none(), || {
                let other = one_sided.map_or(0, |it| it.0);
                format!("peer {handle} has the neighbour {other}, which has not it")
            });
        }
        let placed = |(_, peer): &&(u32, &Self)| peer.address().is_some();
        let count = peers.iter().filter(placed).count();
        let mut reached = vec![false; peers.len()];
        let mut open: Vec<usize> = peers
            .iter()
            .position(|it| placed(&it))
            .into_iter()
            .collect();
        let mut connected = 0;
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut reached[at], true) {
                continue;
            }
            connected += 1;
            let neighbours = peers[at].1.views().0;
            open.extend(neighbours.filter_map(|it| place(it).ok()));
        }
        findings.check(connected == count, || {
            format!("the active views connect {connected} of {count} peers")
        });
    }

    type Shared = ();

    fn is_news(message: &Message) -> bool {
        matches!(
            message,
            Message::ForwardJoin { .. } | Message::Neighbour(_) | Message::Disconnect(_)
        )
    }
}

/// A connected random graph in which nearly everyone has `degree` neighbours: random circles through
/// all peers, and pairs where the degree is odd.
fn regular(peers: u32, degree: usize, random: &mut Random) -> Vec<Vec<u32>> {
    let mut graph: Vec<Vec<u32>> = vec![Vec::with_capacity(degree); peers as usize];
    let mut link = |a: u32, b: u32| {
        if a != b && !graph[a as usize].contains(&b) {
            graph[a as usize].push(b);
            graph[b as usize].push(a);
        }
    };
    if peers as usize <= degree + 1 {
        (0..peers).for_each(|a| (0..a).for_each(|b| link(a, b)));
        return graph;
    }
    let mut order: Vec<u32> = (0..peers).collect();
    for _ in 0..degree / 2 {
        random.shuffle(&mut order, peers as usize);
        let next = order.iter().cycle().skip(1);
        order.iter().zip(next).for_each(|(a, b)| link(*a, *b));
    }
    if degree % 2 == 1 {
        random.shuffle(&mut order, peers as usize);
        order
            .chunks_exact(2)
            .for_each(|pair| link(pair[0], pair[1]));
    }
    graph
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_graph_is_symmetric_and_of_even_degree() {
        for peers in [1, 2, 6, 7, 100, 1_001] {
            let graph = regular(peers, 5, &mut Random::new(7));
            let degrees: usize = graph.iter().map(Vec::len).sum();
            // Where there are few, many draws meet a pair that is linked already.
            let most = 5.min(peers as usize - 1) * graph.len();
            assert!(peers < 100 || degrees * 10 >= most * 9, "{peers} peers");
            let least = graph.iter().map(Vec::len).min();
            assert!(least >= Some(2.min(peers as usize - 1)), "{peers} peers");
            for (a, others) in (0..).zip(&graph) {
                assert!(
                    others.len() <= 5 && others.iter().all(|b| graph[*b as usize].contains(&a))
                );
            }
        }
    }
}
