//! Lookups over whole static networks against brute force, and what must hold of broadcasts.

use proptest::prelude::*;
use ringweave_ids::{Peer, Point, Random, Time};

use super::{
    Asker, Config, Kademlia, Message,
    buckets::{Buckets, Entry, beats},
};
use crate::{
    lookup::{Lookup, Width},
    swarm::{Swarm, steps},
};

/// A static network: everybody's buckets, filled in a random order with all that they take.
struct Net {
    points: Vec<Point>,
    buckets: Vec<Buckets>,
}

impl Net {
    fn of(points: Vec<Point>, size: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut order: Vec<_> = (0..points.len()).collect();
        let buckets = points.iter().map(|me| {
            let mut buckets = Buckets::new(*me, size);
            random.shuffle(&mut order, points.len());
            // The nearest buckets first, so that those beyond know how many are nearer.
            order.sort_by_key(|it| std::cmp::Reverse(me.shared_bits(points[*it])));
            for it in &order {
                if let Some(index) = buckets.index(points[*it]) {
                    let (peer, trip_ms, seen) = (Peer(*it as u32), 0, 0);
                    buckets.insert(
                        index,
                        Entry {
                            peer,
                            trip_ms,
                            seen,
                        },
                    );
                }
            }
            buckets
        });
        let buckets = buckets.collect();
        Self { points, buckets }
    }

    fn point(&self, peer: Peer) -> Point {
        self.points[peer.0 as usize]
    }

    /// The lookup of a target by a peer: whom it finds, and how many it asks.
    fn look_up(&self, from: u32, target: Point, width: Width) -> (Vec<Peer>, usize) {
        let known = |at: u32| {
            let buckets = &self.buckets[at as usize];
            buckets.closest(target, width.closest, |it| self.point(it))
        };
        let mut lookup = Lookup::new(target, Point::xor, width, known(from));
        let mut asked = 0;
        while let Some(next) = lookup.next() {
            asked += 1;
            let mut found = known(next.peer.0);
            found.retain(|it| it.peer.0 != from);
            lookup.answered(next.peer, found);
        }
        assert!(lookup.is_over());
        (lookup.closest().map(|it| it.peer).collect(), asked)
    }

    fn closest(&self, from: u32, target: Point, n: usize) -> Vec<Peer> {
        let others = (0..self.points.len() as u32).filter(|it| *it != from);
        let mut all: Vec<_> = others.map(Peer).collect();
        all.sort_by_key(|it| self.point(*it).xor(target));
        all.truncate(n);
        all
    }
}

fn random_point(random: &mut Random) -> Point {
    Point::new(u128::from(random.bits()) << 64 | u128::from(random.bits()))
}

fn width(closest: usize, paths: u8) -> Width {
    Width {
        closest,
        at_once: 3,
        paths,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whoever looks up whatever finds exactly the k closest, on one path or several.
    #[test]
    fn a_lookup_finds_exactly_the_closest(
        seed: u64, count in 1_usize..250, size in 2_usize..12, paths in 1_u8..4,
    ) {
        let mut random = Random::new(seed);
        let points = (0..count).map(|_| random_point(&mut random)).collect();
        let net = Net::of(points, size, seed);
        for _ in 0..40 {
            let from = random.below(count) as u32;
            let target = random_point(&mut random);
            let (found, _) = net.look_up(from, target, width(size, paths));
            prop_assert_eq!(found, net.closest(from, target, size));
        }
    }

    /// So it does where the tree is lopsided: half of the peers share their first bits.
    #[test]
    fn a_lookup_is_exact_in_a_lopsided_tree(seed: u64, count in 1_usize..120, depth in 1_u32..40) {
        let mut random = Random::new(seed);
        let points = (0..count).map(|at| match at % 2 {
            0 => random_point(&mut random),
            _ => Point::new(random_point(&mut random).value() >> depth),
        });
        let net = Net::of(points.collect(), 20, seed);
        for _ in 0..40 {
            let from = random.below(count) as u32;
            let target = Point::new(random_point(&mut random).value() >> random.below(64));
            let (found, _) = net.look_up(from, target, width(20, 1));
            prop_assert_eq!(found, net.closest(from, target, 20));
        }
    }
}

/// Peers that are always there.
const BASE: u32 = 12;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whoever is named, and whoever speaks and then is silent, gets into no bucket: it has to answer.
    #[test]
    fn buckets_hold_only_peers_that_answered(
        named in prop::collection::vec((0..BASE, 0..BASE + 8, 100..4_000_u32), 1..60),
    ) {
        let mut net = Swarm::<Kademlia>::grown(Config::default(), BASE);
        for (to, from, stranger) in named.into_iter().filter(|it| it.0 != it.1) {
            let (number, target) = (stranger % 40, Point::new(7));
            let closest = (stranger..stranger + 20).map(Peer).collect();
            net.hear(to, from, Message::Found { number, closest });
            net.hear(to, from, Message::Find { number, target, asker: Asker::Member });
            net.run(0.1);
            for (_, peer) in net.peers() {
                prop_assert!(peer.table().all(|(_, it)| it.0 < BASE));
            }
        }
    }

    /// Section 2.2: a newcomer gets no place in a full bucket while those in it live, whoever comes and
    /// goes.
    #[test]
    fn an_old_peer_that_lives_is_never_evicted_for_a_new_one(steps in steps(20)) {
        let config = Config { bucket: 2, ..Config::default() };
        let mut net = Swarm::<Kademlia>::grown(config, 2 * BASE);
        let full = |peer: &Kademlia| -> Vec<_> {
            let beyond = peer.buckets.iter().filter(|(index, _)| !peer.buckets.is_near(*index));
            let old = beyond.filter(|(_, bucket)| bucket.len() == 2);
            old.flat_map(|(_, bucket)| bucket.iter().map(|it| it.peer)).collect()
        };
        let before: Vec<_> = net.peers().map(|(handle, peer)| (handle, full(peer))).collect();
        prop_assert!(before.iter().any(|(_, old)| !old.is_empty()), "no bucket is full");
        for (deed, pause) in steps {
            // The base is all that was there: only newcomers go.
            net.befall(deed, 2 * BASE);
            net.run(f64::from(pause) / 1_000.0);
        }
        net.run(60.0);
        for (handle, old) in before {
            let (_, peer) = net.peers().find(|it| it.0 == handle).expect("it is up");
            prop_assert!(old.iter().all(|it| peer.buckets.has(*it)), "{} lost one", handle);
        }
    }
}

/// Section 2.3: whoever looks up nothing refreshes each bucket in an hour, and the look that finds it due
/// comes an eighth of that later at most.
#[test]
fn a_quiet_bucket_is_refreshed_in_an_hour() {
    let mut net = Swarm::<Kademlia>::grown(Config::default(), BASE);
    let hour = Config::default().refresh_ms;
    let unused = |net: &Swarm<Kademlia>, ms: u32| {
        let all = net
            .peers()
            .map(|(_, peer)| peer.buckets.unused(net.now(), beats(ms)).count());
        all.sum::<usize>()
    };
    net.run(3_500.0);
    assert!(unused(&net, hour / 10 * 9) > 0, "nothing is quiet");
    net.run(3_600.0);
    assert_eq!(unused(&net, hour / 8 * 10), 0);
}

#[test]
fn a_lookup_asks_few() {
    let mut random = Random::new(7);
    let points = (0..2_000).map(|_| random_point(&mut random)).collect();
    let net = Net::of(points, 20, 7);
    for from in 0..50 {
        let target = random_point(&mut random);
        let (found, asked) = net.look_up(from, target, width(20, 1));
        assert_eq!(found, net.closest(from, target, 20));
        assert!((20..40).contains(&asked), "{asked} questions");
    }
}

#[test]
fn old_age_is_told_in_beats() {
    let entry = Entry {
        peer: Peer(1),
        trip_ms: 0,
        seen: super::buckets::beat(Time::from_micros(3_600_000_000)),
    };
    assert!(entry.is_fresh(Time::from_micros(3_630_000_000)));
    assert!(!entry.is_fresh(Time::from_micros(3_700_000_000)));
}
