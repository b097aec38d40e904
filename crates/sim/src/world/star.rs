//! The star in the laboratory: a whole one at once, and what must hold at rest: one hub, whose roster
//! names everyone else, and one line of stand-ins that all agree on.

use ringweave_ids::{Guid, Peer};
use ringweave_overlay::{
    Contact, Overlay as _, Profile, View,
    star::{Config, Message, Star},
};

use super::{
    check::Findings,
    circle::Circle,
    keys::{Desk, Keys},
    lab::Lab,
    standing::Standing,
};
use crate::Scenario;

impl Standing for Star {}

impl Lab for Star {
    const NAME: &'static str = "star";

    fn config(scenario: &Scenario) -> Config {
        let config = Config::default();
        // A simulated hub has no connections to pay for.
        let spokes = config.spokes.max(scenario.peers);
        Config { spokes, ..config }
    }

    fn build(keys: &Keys, config: &Config, peers: u32) -> Vec<Self> {
        let profile = Profile::default();
        let contact = |peer: u32| Contact::of(&desk(keys, 0), Peer(peer));
        let hub = contact(0);
        let stand_ins: Vec<_> = (1..peers)
            .take(usize::from(config.stand_ins))
            .map(contact)
            .collect();
        let built = |me: u32| {
            let desk = desk(keys, me);
            let view = View {
                config,
                me: Peer(me),
                profile: &profile,
                host: &desk,
            };
            match me {
                0 => Self::built_hub(&view, (1..peers).map(contact)),
                _ => Self::built_spoke(&view, hub, &stand_ins),
            }
        };
        (0..peers).map(built).collect()
    }

    fn bound(_: &Config, _: &Guid, _: &Guid) -> usize {
        2
    }

    fn inspect(_: &Config, peers: &[(u32, &Self)], findings: &mut Findings) {
        let is_hub = |handle: u32, peer: &Self| peer.hub().is_some_and(|it| it.0.peer.0 == handle);
        let placed = peers.iter().filter(|(_, peer)| peer.address().is_some());
        let placed: Vec<_> = placed.copied().collect();
        let hubs: Vec<_> = placed
            .iter()
            .filter(|(it, peer)| is_hub(*it, peer))
            .collect();
        findings.check(hubs.len() == 1 || placed.is_empty(), || {
            let hubs: Vec<_> = hubs.iter().map(|(handle, _)| handle).collect();
            format!("the hubs are {hubs:?}, and not one")
        });
        let Some((middle, hub)) = hubs.first() else {
            return;
        };
        let others = placed.iter().filter(|(handle, _)| handle != middle);
        let others = others.filter_map(|(handle, peer)| {
            Some(Contact {
                point: peer.address()?.point()?,
                peer: Peer(*handle),
            })
        });
        let others: Vec<_> = Circle::from_iter(others).iter().collect();
        findings.check(hub.spokes().eq(others), || {
            format!("the roster of the hub {middle} is not everyone else")
        });
        for (handle, peer) in &placed {
            findings.check(peer.hub() == hub.hub(), || {
                let (its, true_one) = (peer.hub(), hub.hub());
                format!("peer {handle} takes {its:?} for the hub, not {true_one:?}")
            });
            findings.check(peer.stand_ins() == hub.stand_ins(), || {
                format!("peer {handle} has another line of stand-ins than its hub")
            });
        }
    }

    type Shared = ();

    fn is_news(message: &Message) -> bool {
        matches!(message, Message::Lead { .. } | Message::Led { .. })
    }
}

const fn desk(keys: &Keys, me: u32) -> Desk<'_> {
    Desk {
        keys,
        me,
        is_blind: false,
    }
}
