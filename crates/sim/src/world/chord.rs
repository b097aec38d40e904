//! Chord in the laboratory: a whole circle with true fingers at once, and what must hold at rest: one
//! ring in the order of points, true predecessors, successor lists and fingers (Zave, 2015).

use ringweave_ids::{Guid, Point, Random};
use ringweave_overlay::{
    Contact, Overlay as _, Profile, View,
    chord::{Choice, Chord, Config, Message},
};

use super::{
    check::Findings,
    circle::Circle,
    keys::{Desk, Keys},
    lab::Lab,
    standing::Standing,
};
use crate::{Fingers, Scenario};

impl Standing for Chord {}

impl Lab for Chord {
    const NAME: &'static str = "chord";

    fn config(scenario: &Scenario) -> Config {
        let config = Config::default();
        let successors = scenario.successors;
        Config {
            successors: successors.map_or(config.successors, |count| count as u8),
            fingers: match scenario.fingers {
                Fingers::Fixed => Choice::Fixed,
                Fingers::Random => Choice::Random,
            },
            has_shortcuts: !scenario.no_shortcuts,
            ..config
        }
    }

    fn build(keys: &Keys, config: &Config, peers: u32) -> Vec<Self> {
        let circle = Circle::of(keys, 0..peers);
        let profile = Profile::default();
        let mut random = Random::new(u64::from(peers));
        let mut places = vec![0; peers as usize];
        for (place, contact) in circle.iter().enumerate() {
            places[contact.peer.0 as usize] = place;
        }
        let chord = |peer: u32| {
            let place = places[peer as usize];
            let me = circle.at(place);
            let desk = Desk {
                keys,
                me: peer,
                is_blind: false,
            };
            let view = View {
                config,
                me: me.peer,
                profile: &profile,
                host: &desk,
            };
            built(&view, &circle, place, &mut random)
        };
        (0..peers).map(chord).collect()
    }

    fn bound(_: &Config, _: &Guid, _: &Guid) -> usize {
        Point::BITS as usize
    }

    fn inspect(_: &Config, peers: &[(u32, &Self)], findings: &mut Findings) {
        let placed = peers.iter().filter_map(|(handle, peer)| {
            Some(Contact {
                point: peer.address()?.point()?,
                peer: ringweave_ids::Peer(*handle),
            })
        });
        let circle = Circle::from_iter(placed);
        for (handle, peer) in peers {
            let Some(point) = peer.address().and_then(Guid::point) else {
                continue;
            };
            let place = circle.place_of(point);
            let is_alone = circle.len() < 2;
            let before = (!is_alone).then(|| circle.at(place + circle.len() - 1));
            let (predecessor, successors) = peer.circle();
            findings.check(predecessor == before, || {
                format!("peer {handle} takes {predecessor:?} for its predecessor, not {before:?}")
            });
            let successors: Vec<_> = successors.collect();
            let is_first = successors.first().copied() == circle.after(place, 1).next();
            findings.check(is_first, || {
                format!("peer {handle} has the wrong successor")
            });
            let least = (circle.len() - 1).min(2);
            let is_list =
                successors.len() >= least && circle.after(place, successors.len()).eq(successors);
            findings.check(is_list, || {
                format!("peer {handle} has a wrong list of successors")
            });
        }
    }

    type Shared = ();

    fn is_news(message: &Message) -> bool {
        matches!(message, Message::Tell { .. } | Message::Notify)
    }
}

/// The machine of the peer at a place of the circle, its table true.
pub(super) fn built(
    view: &View<'_, Chord>,
    circle: &Circle,
    place: usize,
    random: &mut Random,
) -> Chord {
    let config = view.config;
    let is_alone = circle.len() < 2;
    let predecessor = (!is_alone).then(|| circle.at(place + circle.len() - 1));
    let successors = circle.after(place, usize::from(config.successors));
    let fingers = fingers(circle, circle.at(place), config.fingers, random);
    Chord::built(view, predecessor, successors, fingers)
}

/// The fingers of the intervals that hold a peer.
fn fingers(
    circle: &Circle,
    me: Contact,
    choice: Choice,
    random: &mut Random,
) -> Vec<(u8, Contact)> {
    let distance = |it: Contact| me.point.clockwise(it.point);
    let mut fingers = Vec::new();
    let mut next = 0_u32;
    while next < Point::BITS {
        let first = circle.owner(me.point.plus(1 << next));
        // The first peer from there on shows which intervals hold none.
        let Some(interval) = distance(first).checked_ilog2().filter(|it| *it >= next) else {
            break;
        };
        let finger = match choice {
            Choice::Fixed => first,
            Choice::Random => {
                let start = circle.place_of(me.point.plus(1 << interval));
                let end = circle.place_of(me.point.plus((1_u128 << interval).wrapping_mul(2)));
                let count = (end + circle.len() - start) % circle.len();
                circle.at(start + random.below(count.max(1)))
            }
        };
        fingers.push((interval as u8, finger));
        next = interval + 1;
    }
    fingers
}
