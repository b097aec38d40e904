//! Superpeers in the laboratory: a whole network at once, every so many-th peer of the circle a
//! superpeer, and what must hold at rest: a true inner circle, every leaf on the two superpeers that
//! its point says, and no superpeer with more leaves than it may have.

use ringweave_ids::{Guid, Peer, Point, Random};
use ringweave_overlay::{
    Contact, Overlay as _, Profile, View,
    chord::Chord,
    superpeer::{Config, Message, Superpeer},
};

use super::{
    check::Findings,
    chord,
    circle::Circle,
    keys::{Desk, Keys},
    lab::Lab,
    standing::Standing,
};
use crate::Scenario;

/// Superpeers that a leaf knows.
const KNOWN: usize = 8;

impl Standing for Superpeer {}

impl Lab for Superpeer {
    const NAME: &'static str = "superpeer";

    fn config(scenario: &Scenario) -> Config {
        Config {
            inner: Chord::config(scenario),
            ..Config::default()
        }
    }

    fn build(keys: &Keys, config: &Config, peers: u32) -> Vec<Self> {
        let everyone = Circle::of(keys, 0..peers);
        let redundancy = usize::from(config.redundancy);
        let count = everyone.len().div_ceil(usize::from(config.leaves) + 1);
        let count = count.max(redundancy.min(everyone.len()));
        // Evenly among the peers, and not on the circle, so that each has as many leaves.
        let chosen = (0..count).map(|it| everyone.at(it * everyone.len() / count));
        let superpeers = Circle::from_iter(chosen);
        let mut leaves = vec![Vec::new(); count];
        let mut places = vec![None; peers as usize];
        for contact in everyone.iter() {
            let place = superpeers.place_of(contact.point);
            match superpeers.at(place) == contact {
                true => places[contact.peer.0 as usize] = Some(place),
                false => leaves[place].push(contact),
            }
        }
        let profile = Profile::default();
        let mut random = Random::new(u64::from(peers));
        let built = |me: u32| {
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
            let Some(place) = places[me as usize] else {
                let place = superpeers.place_of(Point::of_peer(&keys.id(me)));
                return Self::built_leaf(&view, &line(&superpeers, place, KNOWN));
            };
            let within = View {
                config: &config.inner,
                me: Peer(me),
                profile: &profile,
                host: &desk,
            };
            let circle = chord::built(&within, &superpeers, place, &mut random);
            let held = (0..redundancy.min(count)).flat_map(|rank| {
                let owner = (place + count - rank) % count;
                leaves[owner].iter().map(move |leaf| (*leaf, rank as u8))
            });
            Self::built_super(&view, circle, held)
        };
        (0..peers).map(built).collect()
    }

    fn bound(config: &Config, from: &Guid, to: &Guid) -> usize {
        // One hop into the circle, and one out of it.
        Chord::bound(&config.inner, from, to) + 2
    }

    fn inspect(config: &Config, peers: &[(u32, &Self)], findings: &mut Findings) {
        let inside = peers.iter();
        let inside = inside.filter_map(|(handle, peer)| Some((*handle, peer.circle()?)));
        let inside: Vec<_> = inside.collect();
        Chord::inspect(&config.inner, &inside, findings);
        let superpeers = inside.iter().filter_map(|(handle, circle)| {
            Some(Contact {
                point: circle.address()?.point()?,
                peer: Peer(*handle),
            })
        });
        let superpeers = Circle::from_iter(superpeers);
        if superpeers.len() == 0 {
            return findings.check(peers.is_empty(), || "there is no superpeer".into());
        }
        let redundancy = usize::from(config.redundancy);
        let mut expected = vec![Vec::new(); superpeers.len()];
        for (handle, peer) in peers {
            let Some(point) = peer.address().and_then(Guid::point) else {
                continue;
            };
            if peer.circle().is_some() {
                continue;
            }
            let place = superpeers.place_of(point);
            let right = line(&superpeers, place, redundancy);
            findings.check(peer.superpeers() == right, || {
                let its = peer.superpeers();
                format!("leaf {handle} is on {its:?}, and not on {right:?}")
            });
            for rank in 0..right.len() {
                expected[(place + rank) % superpeers.len()].push((Peer(*handle), rank as u8));
            }
        }
        for (handle, peer) in peers {
            let Some(circle) = peer.circle() else {
                continue;
            };
            let Some(point) = circle.address().and_then(Guid::point) else {
                continue;
            };
            let right = &mut expected[superpeers.place_of(point)];
            right.sort_unstable_by_key(|(peer, _)| peer.0);
            let held = peer.leaves().map(|(leaf, rank, _)| (leaf.peer, rank));
            let mut held: Vec<_> = held.collect();
            held.sort_unstable_by_key(|(peer, _)| peer.0);
            findings.check(held == *right, || {
                format!("superpeer {handle} has the leaves {held:?}, and not {right:?}")
            });
            let own = peer.leaves().filter(|(_, rank, _)| *rank == 0);
            let (count, able) = own.fold((0, 0), |(count, able), (_, _, is_open)| {
                (count + 1, able + usize::from(is_open))
            });
            findings.check(count <= config.most_leaves() || able == 0, || {
                format!("superpeer {handle} has {count} leaves")
            });
        }
    }

    type Shared = ();

    fn is_news(message: &Message) -> bool {
        match message {
            Message::Inner(message) => Chord::is_news(message),
            Message::Place { .. } | Message::Astray => true,
            _ => false,
        }
    }
}

/// The superpeer at a place, and those after it: at most `n`.
fn line(superpeers: &Circle, place: usize, n: usize) -> Vec<Contact> {
    let first = [superpeers.at(place)].into_iter();
    first.chain(superpeers.after(place, n - 1)).collect()
}
