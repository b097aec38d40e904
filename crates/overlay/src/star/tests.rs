//! Stories of a star.

use super::{Config, Star};
use crate::{Event, swarm::Swarm};

type Net = Swarm<Star>;

fn grown(count: u32) -> Net {
    Swarm::grown(Config::default(), count)
}

/// The one hub that all agree on.
fn hub(star: &Net) -> u32 {
    let hubs: Vec<_> = star.peers().map(|(_, peer)| peer.hub()).collect();
    assert!(
        hubs.iter().all(|it| it.is_some() && *it == hubs[0]),
        "{hubs:?}"
    );
    let lines: Vec<_> = star.peers().map(|(_, peer)| peer.stand_ins()).collect();
    assert!(lines.iter().all(|line| *line == lines[0]));
    hubs[0].map_or(0, |it| it.0.peer.0)
}

fn is_whole(star: &Net) {
    let count = star.peers().count();
    assert!(star.longest_way() <= Ok(2), "{:?}", star.longest_way());
    for (peer, _) in star.peers() {
        assert_eq!(star.broadcast(peer), (count, 0));
    }
}

#[test]
fn whoever_is_asked_leads_to_the_hub() {
    for count in [1, 2, 3, 20, 60] {
        let star = grown(count);
        assert_eq!(hub(&star), 0);
        is_whole(&star);
    }
}

#[test]
fn the_first_stand_in_that_lives_takes_over() {
    let mut star = grown(30);
    star.crash(0);
    star.crash(1);
    star.run(12.0);
    assert_eq!(hub(&star), 2);
    is_whole(&star);
    star.crash(2);
    star.run(12.0);
    assert_eq!(hub(&star), 3);
}

#[test]
fn a_hub_that_leaves_is_followed_within_a_second_and_a_half() {
    let mut star = grown(30);
    star.leave(0);
    star.run(1.5);
    assert_eq!(hub(&star), 1);
    is_whole(&star);
}

#[test]
fn a_stand_in_asks_those_before_it_though_it_is_not_connected_to_them() {
    let mut star = grown(3);
    star.part(1, 2);
    star.leave(0);
    star.run(2.0);
    assert_eq!(hub(&star), 1);
    is_whole(&star);
}

#[test]
fn the_last_of_two_is_the_hub() {
    let mut star = grown(2);
    star.crash(0);
    star.run(12.0);
    assert_eq!(hub(&star), 1);
}

#[test]
fn two_hubs_become_one_after_a_split() {
    let mut star = grown(40);
    star.split(|peer| (peer % 3 == 1).into());
    star.run(30.0);
    let hubs = star.peers().filter_map(|(_, peer)| peer.hub());
    let hubs: std::collections::BTreeSet<_> = hubs.map(|it| it.0.peer.0).collect();
    assert_eq!(hubs, [0, 1].into());
    star.split(|_| 0);
    star.run(60.0);
    assert_eq!(hub(&star), 1);
    is_whole(&star);
}

#[test]
fn with_nobody_in_line_somebody_else_takes_over() {
    let mut star = grown(30);
    for peer in 0..9 {
        star.crash(peer);
    }
    star.run(180.0);
    hub(&star);
    is_whole(&star);
}

#[test]
fn a_full_hub_says_so() {
    let config = Config {
        spokes: 5,
        ..Config::default()
    };
    let star = Swarm::<Star>::grown(config, 8);
    assert!(star.heard(|event| matches!(event, Event::Refused(_))) > 0);
    assert_eq!(star.heard(|event| matches!(event, Event::Placed(_))), 6);
}
