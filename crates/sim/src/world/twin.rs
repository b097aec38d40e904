//! A world that retells what real peers did: given keys and chance, joins one by one.

use ringweave_ids::{Guid, PeerId};
use ringweave_overlay::polyring::{Config, Polyring};

use super::{Common, START, World, event::Deed, keys::Keys, weather::Weather};
use crate::{Latency, Terrain};

/// How long a newcomer may take to find a place.
const PATIENCE: u64 = 30_000_000;
/// Pause between two joins: every connection stands, every greeting has been heard.
const PAUSE: u64 = 1_000_000;

/// One peer, as a real host would start it.
#[derive(Clone, Copy, Debug)]
pub struct TwinPeer {
    /// Its Ed25519 secret.
    pub secret: [u8; 32],
    /// The seed of its chance.
    pub chance: u64,
}

/// A polyring grown from given peers, the first of which founds it and is everyone's contact.
pub struct Twin {
    world: World<Polyring>,
}

impl Twin {
    /// Grows the network; `network` is the secret that its id belongs to.
    pub fn grow(peers: &[TwinPeer], network: &[u8; 32], ring_size: u16) -> Self {
        let secrets: Vec<_> = peers.iter().map(|peer| peer.secret).collect();
        let keys = Keys::given(&secrets, network);
        let terrain = Terrain::new(&Latency::Constant(1.0), peers.len() as u32, 0)
            .expect("a constant delay needs no file");
        let config = Config {
            ring_size,
            cluster: 1,
            ..Config::default()
        };
        let common = Common {
            chances: peers.iter().map(|peer| peer.chance).collect(),
            ..Common::quiet(keys, Weather::calm(0, terrain), config)
        };
        let mut world = World::new(common, 1);
        world.now = START;
        for peer in 0..peers.len() as u32 {
            let contacts = if peer == 0 { Vec::new() } else { vec![0] };
            world.deed(world.now, peer, Deed::Start(contacts));
            let late = world.now + PATIENCE;
            while world.actor(peer).address().is_none() && world.now < late {
                world.run(world.now + PAUSE / 10, &mut |_, _| {});
            }
            world.run(world.now + PAUSE, &mut |_, _| {});
        }
        Self { world }
    }

    /// Where each peer sits, in the order they came; nothing for one without a place.
    pub fn places(&self) -> Vec<(PeerId, Option<Guid>)> {
        let place = |peer| {
            (
                self.world.id(peer),
                self.world.actor(peer).address().cloned(),
            )
        };
        (0..self.world.count()).map(place).collect()
    }

    /// Hops from one peer to another over their tables; nothing if no way leads there.
    pub fn hops(&self, from: u32, to: u32) -> Option<usize> {
        self.world.hops(from, to)
    }

    /// Everything that does not hold, in words.
    pub fn violations(&self) -> Vec<String> {
        self.world.check().words
    }
}
