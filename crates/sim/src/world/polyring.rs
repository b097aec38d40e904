//! The polyring in the laboratory: a tree of full rings at once, and what must hold at rest
//! (POLYRING.md, 2.6): every position and every GUID is held by one cluster, all members of a ring
//! hold the same roster, and prefixes are their parents' GUIDs.

use std::sync::Arc;

use ringweave_ids::{Guid, Peer, Signature, Step, Time};
use ringweave_overlay::{
    Overlay as _, Profile, View,
    polyring::{
        self, Census, Grant, Member, Message, Polyring, Position, PositionId, Proof, Ring, Seat,
    },
};

use super::{
    check::Findings,
    keys::{Desk, Keys},
    lab::Lab,
    mix,
};
use crate::{Order, Policy, Scenario};

/// The ring id of a roster that is not known.
const NOWHERE: PositionId = PositionId(u64::MAX);

impl Lab for Polyring {
    const NAME: &'static str = "polyring";

    fn config(scenario: &Scenario) -> polyring::Config {
        let config = polyring::Config::default();
        polyring::Config {
            ring_size: scenario.ring_size.unwrap_or(config.ring_size),
            policy: match scenario.policy {
                Policy::Balanced => polyring::Policy::Balanced,
                Policy::Nearest => polyring::Policy::Nearest,
                Policy::Labelled => polyring::Policy::Labelled,
            },
            order: match scenario.order {
                Order::Inward => polyring::Order::Inward,
                Order::Sideways => polyring::Order::Sideways,
            },
            cluster: scenario.cluster.map_or(config.cluster, |size| size as u8),
            without: scenario.without.map(Into::into),
        }
    }

    fn build(keys: &Keys, config: &polyring::Config, peers: u32) -> Vec<Self> {
        Builder::new(keys, config, peers).build()
    }

    fn coordinates(address: &Guid) -> Vec<u32> {
        address.steps().iter().map(|step| step.coordinate).collect()
    }

    fn bound(from: &Guid, to: &Guid) -> usize {
        // Up to the shared ring, across, and down: 2(d-1)+1 where both are d deep.
        (from.depth() + to.depth()).saturating_sub(1)
    }

    fn is_at(address: &Guid, place: &Guid, is_ring: bool) -> bool {
        if is_ring {
            address.parent().is_some_and(|parent| parent.matches(place))
        } else {
            address.matches(place)
        }
    }

    fn inspect(peers: &[(u32, &Self)], findings: &mut Findings) {
        // Ring, its members' digest, and how many they are.
        let mut rings: Vec<(PositionId, u64, u32, u32)> = peers
            .iter()
            .map(|(handle, peer)| (peer.rings()[0].id, peer.rings()[0].digest(), 1, *handle))
            .collect();
        rings.sort_unstable();
        for pair in rings.windows(2) {
            findings.check(pair[0].0 != pair[1].0 || pair[0].1 == pair[1].1, || {
                format!(
                    "peers {} and {} hold different rosters of their ring",
                    pair[0].3, pair[1].3
                )
            });
        }
        rings.dedup_by(|next, first| {
            let is_same = next.0 == first.0;
            if is_same {
                first.2 += next.2;
            }
            is_same
        });
        let find = |id: PositionId| {
            let at = rings.binary_search_by_key(&id, |ring| ring.0).ok()?;
            Some((rings[at].1, rings[at].2))
        };
        let mut places: Vec<(&Guid, u32, PositionId)> = Vec::with_capacity(peers.len());
        let mut positions: Vec<(PositionId, &Guid)> = Vec::with_capacity(peers.len());
        for (handle, peer) in peers {
            let Some(guid) = peer.address() else { continue };
            let position = peer.rings()[1].id;
            places.push((guid, *handle, position));
            positions.push((position, guid));
            let [own, below, above] = peer.rings();
            let is_mine = own.living().any(|record| record.peer.0 == *handle);
            let size = own.living().count() as u32;
            let real = find(own.id).map_or(0, |(_, size)| size);
            findings.check(is_mine && size == real, || {
                format!("peer {handle} at {guid} counts {size} members in its ring of {real}")
            });
            let children = below.living().count() as u32;
            let is_below_true = match find(position) {
                Some(real) => real == (below.digest(), children),
                None => children == 0,
            };
            findings.check(is_below_true, || {
                format!("peer {handle} at {guid} is mistaken about the ring below it")
            });
            if own.id != PositionId::CENTER {
                let real = find(above.id).map(|(digest, _)| digest);
                findings.check(real == Some(above.digest()), || {
                    format!("peer {handle} at {guid} is mistaken about the ring above it")
                });
            }
        }
        places.sort_unstable_by(|a, b| a.0.cmp(b.0));
        let coordinates = |guid: &Guid| Self::coordinates(guid);
        for pair in places.windows(2) {
            // Members of one position share its GUID.
            let is_apart = coordinates(pair[0].0) != coordinates(pair[1].0);
            findings.check(is_apart || pair[0].2 == pair[1].2, || {
                format!(
                    "peers {} and {} both sit at {}",
                    pair[0].1, pair[1].1, pair[0].0
                )
            });
        }
        positions.sort_unstable_by_key(|(position, _)| *position);
        for (handle, peer) in peers {
            let Some(guid) = peer.address() else { continue };
            let ring = peer.rings()[0].id;
            let parent = positions.binary_search_by_key(&ring, |(position, _)| *position);
            let is_below = match parent {
                Ok(at) => guid.parent().as_ref() == Some(positions[at].1),
                Err(_) => ring == PositionId::CENTER && guid.depth() == 1,
            };
            findings.check(is_below, || {
                format!("peer {handle} at {guid} does not sit below its parent")
            });
        }
    }

    fn is_news(message: &Message) -> bool {
        matches!(message, Message::Hello(_) | Message::Records { .. })
    }

    fn is_repair(message: &Message) -> bool {
        matches!(message, Message::Summary { .. })
    }

    fn forge(&self, keys: &Keys, ghost: u32) -> Option<(u32, Message)> {
        let [own, ..] = self.rings();
        let model = own.living().next()?;
        let Proof::Grant(granted) = &model.proof else {
            return None;
        };
        let desk = Desk {
            keys,
            me: ghost,
            is_blind: false,
        };
        let position = PositionId::new(&desk, own.id, &keys.id(ghost), granted.nonce);
        let seat = Seat {
            ring: own.id,
            position,
        };
        // Everything is as it should be, but that no keeper has signed it.
        let coordinate = own.positions().map(Position::coordinate).max()? + 1;
        let grant = Arc::new(Grant {
            peer: Peer(ghost),
            seat,
            coordinate,
            ..(**granted).clone()
        });
        let proof = Proof::Grant(grant.clone());
        let member = Member {
            peer: Peer(ghost),
            seat: Some(seat),
            proof,
            ..(**model).clone()
        };
        let message = Message::Records {
            ring: own.id,
            members: vec![Arc::new(member)],
            positions: vec![Position::new(grant, None, None)],
            wanted: Vec::new(),
        };
        Some((model.peer.0, message))
    }
}

/// Makes a whole tree: levels filled from the center outward, the last one evenly.
struct Builder<'a> {
    keys: &'a Keys,
    config: &'a polyring::Config,
    /// The parent of each peer; itself in the center.
    parents: Vec<u32>,
    coordinates: Vec<u32>,
    /// First child and how far its siblings are apart, and how many there are.
    children: Vec<(u32, u32, u32)>,
    populations: Vec<u32>,
}

impl<'a> Builder<'a> {
    fn new(keys: &'a Keys, config: &'a polyring::Config, peers: u32) -> Self {
        let size = u32::from(config.ring_size);
        let (mut parents, mut coordinates) = (Vec::new(), Vec::new());
        let mut children = vec![(0, 1, 0); peers as usize];
        let (mut start, mut len) = (0, size.min(peers));
        for peer in 0..len {
            parents.push(peer);
            coordinates.push(peer);
        }
        while (parents.len() as u32) < peers {
            let first = start + len;
            let next = (peers - first).min(len.saturating_mul(size));
            for number in 0..next {
                let parent = start + number % len;
                parents.push(parent);
                coordinates.push(number / len);
                let family = &mut children[parent as usize];
                *family = (start + len + number % len, len, family.2 + 1);
            }
            (start, len) = (first, next);
        }
        let mut populations = vec![1; peers as usize];
        for peer in (size.min(peers)..peers).rev() {
            populations[parents[peer as usize] as usize] += populations[peer as usize];
        }
        Self {
            keys,
            config,
            parents,
            coordinates,
            children,
            populations,
        }
    }

    fn desk(&self, me: u32) -> Desk<'a> {
        Desk {
            keys: self.keys,
            me,
            is_blind: false,
        }
    }

    fn is_central(&self, peer: u32) -> bool {
        self.parents[peer as usize] == peer
    }

    fn family(&self, peer: u32) -> impl Iterator<Item = u32> + use<> {
        let (first, step, count) = self.children[peer as usize];
        (0..count).map(move |number| first + number * step)
    }

    fn build(&self) -> Vec<Polyring> {
        let count = self.parents.len() as u32;
        let mut records: Vec<(Arc<Member>, Position)> = Vec::with_capacity(count as usize);
        let mut guids: Vec<Guid> = Vec::with_capacity(count as usize);
        for peer in 0..count {
            let parent = self.parents[peer as usize];
            let ring = match self.is_central(peer) {
                true => PositionId::CENTER,
                false => records[parent as usize].1.id(),
            };
            let prefix = match self.is_central(peer) {
                true => Guid::center(),
                false => guids[parent as usize].clone(),
            };
            let (record, position) = self.record(peer, ring);
            let step = Step {
                coordinate: position.coordinate(),
                tag: position.id().tag(),
            };
            guids.push(prefix.child(step));
            records.push((record, position));
        }
        let ring = |id: PositionId, members: &mut dyn Iterator<Item = u32>| {
            let mut ring = Ring::new(id);
            for member in members {
                let (record, position) = &records[member as usize];
                ring.merge_position(position.clone(), Time::ZERO);
                ring.merge_member(&self.desk(0), record.clone(), Time::ZERO);
            }
            ring
        };
        let central = count.min(u32::from(self.config.ring_size));
        let center = ring(PositionId::CENTER, &mut (0..central));
        let rings: Vec<Ring> = (0..count)
            .map(|peer| ring(records[peer as usize].1.id(), &mut self.family(peer)))
            .collect();
        let own = |peer: u32| match self.is_central(peer) {
            true => center.clone(),
            false => rings[self.parents[peer as usize] as usize].clone(),
        };
        let above = |peer: u32| match self.is_central(peer) {
            true => Ring::new(NOWHERE),
            false => own(self.parents[peer as usize]),
        };
        let profile = Profile {
            label: String::new(),
            incarnation: 1,
            is_private: false,
        };
        (0..count)
            .map(|peer| {
                let desk = self.desk(peer);
                let (me, host) = (Peer(peer), &desk);
                let view = View {
                    config: self.config,
                    me,
                    profile: &profile,
                    host,
                };
                let prefix = guids[peer as usize].parent().unwrap_or_default();
                let record = records[peer as usize].0.clone();
                let below = rings[peer as usize].clone();
                Polyring::built(&view, record, own(peer), below, above(peer), prefix)
            })
            .collect()
    }

    fn record(&self, peer: u32, ring: PositionId) -> (Arc<Member>, Position) {
        let keeper = match (peer, self.is_central(peer)) {
            (0, _) => None,
            (_, true) => Some(0),
            (_, false) => Some(self.parents[peer as usize]),
        };
        let nonce = mix(u64::from(peer));
        let desk = self.desk(peer);
        let position = PositionId::new(&desk, ring, &self.keys.id(peer), nonce);
        let seat = Seat { ring, position };
        let coordinate = self.coordinates[peer as usize];
        let unsigned = Signature([0; 64]);
        let grant = Grant {
            peer: Peer(peer),
            seat,
            coordinate,
            branch: String::new(),
            sequence: u64::from(coordinate),
            nonce,
            by: keeper.map(Peer),
            signature: unsigned,
        };
        let grant = grant
            .sign(&self.desk(keeper.unwrap_or(0)))
            .expect("the first peer holds the network's key");
        let population = self.populations[peer as usize];
        let census = (population > 1).then(|| {
            Census {
                seat,
                population,
                version: 1,
                by: Peer(peer),
                signature: unsigned,
            }
            .sign(&desk)
        });
        let proof = Proof::Grant(grant.clone());
        let record = Member::signed(&desk, Peer(peer), 1, Some(seat), proof);
        (record, Position::new(grant, None, census))
    }
}
