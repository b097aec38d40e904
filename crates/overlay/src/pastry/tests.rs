//! What the paper says of tables and ways, after any history.

use proptest::prelude::*;
use ringweave_ids::Point;

use super::{Config, Pastry, leaves::closeness};
use crate::{
    Overlay as _,
    swarm::{Swarm, steps},
};

/// Peers that are always there.
const BASE: u32 = 8;

fn points(net: &Swarm<Pastry>) -> Vec<(Point, u32)> {
    let points = net
        .peers()
        .filter_map(|(handle, peer)| Some((peer.address()?.point()?, handle)));
    let mut points: Vec<_> = points.collect();
    points.sort_unstable();
    points
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Section 2.2: the leaves are the nearest on either side; section 2.3: each hop shares a longer
    /// prefix with the target, or is numerically closer.
    #[test]
    fn leaves_are_true_and_every_hop_gains_after_any_history(steps in steps(24)) {
        let config = Config { leaves: 4, ..Config::default() };
        let mut net = Swarm::<Pastry>::grown(config, BASE);
        for (deed, pause) in steps {
            net.befall(deed, BASE);
            net.run(f64::from(pause) / 1_000.0);
        }
        net.run(150.0);
        let points = points(&net);
        let count = points.len();
        prop_assert_eq!(count, net.peers().count());
        for (place, (_, handle)) in points.iter().enumerate() {
            let (_, peer) = net.peers().find(|it| it.0 == *handle).expect("it is up");
            let [clockwise, counter] = peer.halves().map(|half| half.map(|it| it.peer.0).collect::<Vec<_>>());
            let at = |step: usize| points[(place + step) % count].1;
            prop_assert_eq!(clockwise, (1..=2).map(at).collect::<Vec<_>>());
            prop_assert_eq!(counter, (1..=2).map(|step| at(count - step)).collect::<Vec<_>>());
        }
        let point = |handle: u32| points.iter().find(|it| it.1 == handle).expect("it is up").0;
        for (end, to) in &points {
            let target = net.target(*to).expect("it has a place");
            for (_, from) in &points {
                let path = net.path(*from, &target);
                prop_assert_eq!(path.last(), Some(to));
                for hop in path.windows(2) {
                    let [before, after] = [hop[0], hop[1]].map(point);
                    let is_longer = after.shared_bits(*end) / 4 > before.shared_bits(*end) / 4;
                    let is_closer = closeness(*end, after) < closeness(*end, before);
                    prop_assert!(is_longer || is_closer, "{:?} gains nothing", hop);
                }
            }
        }
    }
}
