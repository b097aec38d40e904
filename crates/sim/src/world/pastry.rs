//! Pastry in the laboratory: all leaf sets and routing tables at once, and what must hold at rest: true
//! leaf sets on both sides, and a peer in every slot into which somebody belongs, who does belong there.
//!
//! Who builds all tables at once does not know who is near to whom: any peer that fits a slot is taken.

use ringweave_ids::{Guid, Peer, Point, Random};
use ringweave_overlay::{
    Contact, Overlay as _, Profile, View,
    pastry::{Config, Message, Pastry},
};

use super::{
    check::Findings,
    circle::Circle,
    keys::{Desk, Keys},
    lab::Lab,
    prefixes::Prefixes,
    standing::Standing,
};
use crate::Scenario;

impl Standing for Pastry {}

impl Lab for Pastry {
    const NAME: &'static str = "pastry";

    fn config(scenario: &Scenario) -> Config {
        let config = Config::default();
        let (bits, leaves) = (scenario.digit_bits, scenario.leaves);
        Config {
            digit_bits: bits.map_or(config.digit_bits, |bits| bits as u8),
            leaves: leaves.map_or(config.leaves, |count| count as u8),
            ..config
        }
    }

    fn build(keys: &Keys, config: &Config, peers: u32) -> Vec<Self> {
        let circle = Circle::of(keys, 0..peers);
        let mut random = Random::new(u64::from(peers));
        let mut entries = vec![Vec::new(); peers as usize];
        Prefixes::of(circle.iter(), config.digit_bits).each_group(&mut |group| {
            group.each_slot(|peer, _, others| {
                entries[peer.0 as usize].extend(random.pick(others));
            });
        });
        let places = places_of(&circle, peers);
        let profile = Profile::default();
        let built = |(peer, entries): (u32, Vec<Contact>)| {
            let [after, before] = halves(&circle, places[peer as usize], side(config));
            let desk = Desk {
                keys,
                me: peer,
                is_blind: false,
            };
            let view = View {
                config,
                me: Peer(peer),
                profile: &profile,
                host: &desk,
            };
            Self::built(&view, after.into_iter().chain(before), entries)
        };
        (0..peers).zip(entries).map(built).collect()
    }

    fn bound(config: &Config, _: &Guid, _: &Guid) -> usize {
        // A digit a hop, and one hop between leaves.
        (Point::BITS / u32::from(config.digit_bits) + 1) as usize
    }

    fn inspect(config: &Config, peers: &[(u32, &Self)], findings: &mut Findings) {
        let placed = peers.iter().filter_map(|(handle, peer)| {
            Some(Contact {
                point: peer.address()?.point()?,
                peer: Peer(*handle),
            })
        });
        let circle = Circle::from_iter(placed);
        for (handle, peer) in peers {
            let Some(point) = peer.address().and_then(Guid::point) else {
                continue;
            };
            let halves = halves(&circle, circle.place_of(point), side(config));
            for (mine, theirs) in peer.halves().into_iter().zip(halves) {
                let is_true = mine.eq(theirs);
                findings.check(is_true, || format!("peer {handle} has a wrong leaf set"));
            }
        }
        let prefixes = Prefixes::of(circle.iter(), config.digit_bits);
        let wanted = prefixes.slots();
        for (handle, peer) in peers.iter().filter(|(_, peer)| peer.address().is_some()) {
            let stranger = peer.slots().find(|(_, contact)| !prefixes.has(*contact));
            findings.check(stranger.is_none(), || {
                format!("peer {handle} has an entry for nobody: {stranger:?}")
            });
            // Nobody stands in a slot where nobody belongs, so numbers are all that needs comparing.
            let (filled, wanted) = (peer.slots().count(), wanted[*handle as usize]);
            findings.check(filled == wanted as usize, || {
                format!("peer {handle} fills {filled} slots of {wanted}")
            });
        }
    }

    type Shared = ();

    fn is_news(message: &Message) -> bool {
        matches!(message, Message::Announce { .. } | Message::Tell { .. })
    }
}

/// Leaves on one side.
fn side(config: &Config) -> usize {
    usize::from(config.leaves / 2)
}

/// The place on the circle of each handle.
fn places_of(circle: &Circle, peers: u32) -> Vec<usize> {
    let mut places = vec![0; peers as usize];
    for (place, contact) in circle.iter().enumerate() {
        places[contact.peer.0 as usize] = place;
    }
    places
}

/// The nearest peers clockwise of a place, and those the other way, each nearest first.
fn halves(circle: &Circle, place: usize, room: usize) -> [Vec<Contact>; 2] {
    let after = circle.after(place, room).collect();
    let steps = 1..circle.len().min(room + 1);
    let before = steps.map(|step| circle.at(place + circle.len() - step));
    [after, before.collect()]
}
