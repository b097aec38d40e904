//! Tapestry in the laboratory: a whole mesh at once, and what must hold at rest: a peer in every slot
//! into which somebody belongs (property 1 of Hildrum et al.), who does belong there, and one root for
//! each point, wherever the way begins.
//!
//! Who builds a mesh at once does not know who is near to whom: any peers that fit a slot are taken.

use ringweave_ids::{Guid, Key, Peer, Point, Random};
use ringweave_overlay::{
    Contact, Overlay as _, Profile, View,
    tapestry::{Config, Message, Tapestry},
};

use super::{
    check::Findings,
    keys::{Desk, Keys},
    lab::Lab,
    prefixes::Prefixes,
    standing::Standing,
};
use crate::Scenario;

/// Points whose roots are looked for.
const POINTS: u64 = 64;

/// Ways to each root.
const WAYS: usize = 16;

/// Hops after which a way to a root is given up: more than there are digits.
const LOOP: usize = 64;

impl Standing for Tapestry {}

impl Lab for Tapestry {
    const NAME: &'static str = "tapestry";

    fn config(scenario: &Scenario) -> Config {
        let config = Config::default();
        let (bits, slot) = (scenario.digit_bits, scenario.slot);
        Config {
            digit_bits: bits.map_or(config.digit_bits, |bits| bits as u8),
            has_surrogates: !scenario.no_surrogates,
            slot: slot.map_or(config.slot, |count| count as u8),
            ..config
        }
    }

    fn build(keys: &Keys, config: &Config, peers: u32) -> Vec<Self> {
        let contact = |peer| Contact {
            point: Point::of_peer(&keys.id(peer)),
            peer: Peer(peer),
        };
        let mut random = Random::new(u64::from(peers));
        let mut entries = vec![Vec::new(); peers as usize];
        Prefixes::of((0..peers).map(contact), config.digit_bits).each_group(&mut |group| {
            group.each_slot(|peer, _, others| {
                let first = random.below(others.len());
                let others = others.iter().cycle().skip(first).take(others.len());
                entries[peer.0 as usize].extend(others.take(usize::from(config.slot)));
            });
        });
        let profile = Profile::default();
        let built = |(peer, entries): (u32, Vec<Contact>)| {
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
            Self::built(&view, entries)
        };
        (0..peers).zip(entries).map(built).collect()
    }

    fn bound(config: &Config, _: &Guid, _: &Guid) -> usize {
        // A digit a hop.
        (Point::BITS / u32::from(config.digit_bits)) as usize
    }

    fn inspect(config: &Config, peers: &[(u32, &Self)], findings: &mut Findings) {
        let placed = peers.iter().filter_map(|(handle, peer)| {
            Some(Contact {
                point: peer.address()?.point()?,
                peer: Peer(*handle),
            })
        });
        let prefixes = Prefixes::of(placed, config.digit_bits);
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
        for point in (0..POINTS).map(|it| Point::of_key(&Key::of("root", &it.to_le_bytes()))) {
            let step = (peers.len() / WAYS).max(1);
            let roots = peers.iter().step_by(step).map(|(handle, _)| *handle);
            let mut roots: Vec<_> = roots.map(|from| root(peers, from, point)).collect();
            roots.dedup();
            findings.check(roots.len() <= 1 && !roots.contains(&None), || {
                format!("point {point} has several roots, or none: {roots:?}")
            });
        }
    }

    type Shared = ();

    fn is_news(message: &Message) -> bool {
        matches!(message, Message::Announce { .. } | Message::Tell { .. })
    }
}

/// Where a way to the root of a point ends.
fn root(peers: &[(u32, &Tapestry)], from: u32, point: Point) -> Option<u32> {
    let mut at = from;
    for _ in 0..LOOP {
        let place = peers.binary_search_by_key(&at, |(handle, _)| *handle);
        match peers[place.ok()?].1.surrogate(point) {
            Some(next) => at = next.peer.0,
            None => return Some(at),
        }
    }
    None
}
