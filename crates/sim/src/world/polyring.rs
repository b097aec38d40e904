//! The polyring in the laboratory: a tree of full rings at once, and what must hold at rest
//! (POLYRING.md, 2.6): every position and every GUID is held by one cluster, all members of a ring
//! hold the same roster, and prefixes are their parents' GUIDs.

use std::{collections::BTreeMap, sync::Arc};

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
            without: scenario.without,
        }
    }

    fn build(keys: &Keys, config: &polyring::Config, peers: u32) -> Vec<Self> {
        Builder::new(keys, config, peers).build()
    }

    fn coordinates(address: &Guid) -> Vec<u32> {
        address.steps().iter().map(|step| step.coordinate).collect()
    }

    fn bound(config: &polyring::Config, from: &Guid, to: &Guid) -> usize {
        // Up to the shared ring, across, and down: 2(d-1)+1 where both are d deep; one more to the
        // right member of a cluster.
        (from.depth() + to.depth()).saturating_sub(1) + usize::from(config.cluster > 1)
    }

    fn is_at(address: &Guid, place: &Guid, is_ring: bool) -> bool {
        if is_ring {
            address.parent().is_some_and(|parent| parent.matches(place))
        } else {
            address.matches(place)
        }
    }

    fn inspect(_: &polyring::Config, peers: &[(u32, &Self)], findings: &mut Findings) {
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
        let mut positions: Vec<(PositionId, &Guid, &Self)> = Vec::with_capacity(peers.len());
        for (handle, peer) in peers {
            let Some(guid) = peer.address() else { continue };
            let position = peer.rings()[1].id;
            places.push((guid, *handle, position));
            positions.push((position, guid, peer));
            let [own, below, _] = peer.rings();
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
        positions.sort_unstable_by_key(|(position, ..)| *position);
        let mut outlines = vec![None; positions.len()];
        for (handle, peer) in peers {
            let Some(guid) = peer.address() else { continue };
            let [own, _, above] = peer.rings();
            let parent = positions.binary_search_by_key(&own.id, |(position, ..)| *position);
            let is_below = match parent {
                Ok(at) => guid.parent().as_ref() == Some(positions[at].1),
                Err(_) => own.id == PositionId::CENTER && guid.depth() == 1,
            };
            findings.check(is_below, || {
                format!("peer {handle} at {guid} does not sit below its parent")
            });
            if own.id != PositionId::CENTER {
                let real = parent.ok().map(|at| {
                    *outlines[at].get_or_insert_with(|| positions[at].2.outline_digest())
                });
                findings.check(real == Some(above.digest()), || {
                    format!("peer {handle} at {guid} is mistaken about the ring above it")
                });
            }
        }
    }

    type Shared = BTreeMap<PositionId, Arc<Ring>>;

    fn share(&mut self, shared: &mut Self::Shared) {
        let [own, ..] = self.rings();
        if own.id == PositionId::CENTER || Arc::strong_count(self.above()) > 1 {
            return;
        }
        let siblings = shared.entry(own.id).or_insert_with(|| self.above().clone());
        if !self.share_above(siblings) {
            *siblings = self.above().clone();
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

/// Makes a whole tree: levels filled from the center outward, the last one evenly, and clusters for
/// the positions that have children.
struct Builder<'a> {
    keys: &'a Keys,
    config: &'a polyring::Config,
    profile: Profile,
    /// By level, from the center outward.
    places: Vec<Place>,
    /// The place of each peer.
    homes: Vec<u32>,
}

/// A position on the way to being built.
struct Place {
    /// The place of its parents; none in the center.
    parent: Option<u32>,
    coordinate: u32,
    /// Who holds it, the longest granted first.
    members: Vec<u32>,
    children: Vec<u32>,
    /// Peers at and below it.
    population: u32,
}

/// A position, made: its id, its record, its GUID.
struct Made {
    position: Position,
    guid: Guid,
}

impl<'a> Builder<'a> {
    fn new(keys: &'a Keys, config: &'a polyring::Config, peers: u32) -> Self {
        let (size, cluster) = (
            u32::from(config.ring_size),
            u32::from(config.cluster.max(1)),
        );
        let place = |parent, coordinate, peer| Place {
            parent,
            coordinate,
            members: vec![peer],
            children: Vec::new(),
            population: 1,
        };
        let central = size.min(peers);
        let mut places: Vec<_> = (0..central).map(|peer| place(None, peer, peer)).collect();
        let mut level = 0..central;
        let mut next = central;
        while next < peers {
            let left = peers - next;
            // Each inner position takes its mates, and one child at least.
            let inner = (left / cluster).clamp(1, level.end - level.start);
            let mates = (inner * (cluster - 1)).min(left - 1);
            for mate in 0..mates {
                places[(level.start + mate % inner) as usize]
                    .members
                    .push(next + mate);
            }
            next += mates;
            let children = (left - mates).min(inner.saturating_mul(size));
            let first = places.len() as u32;
            for child in 0..children {
                let parent = level.start + child % inner;
                places[parent as usize].children.push(first + child);
                places.push(place(Some(parent), child / inner, next + child));
            }
            next += children;
            level = first..first + children;
        }
        let mut homes = vec![0; peers as usize];
        for at in (0..places.len()).rev() {
            let below = places[at].children.iter();
            let below: u32 = below.map(|child| places[*child as usize].population).sum();
            let members = places[at].members.clone();
            places[at].population = below + members.len() as u32;
            for peer in members {
                homes[peer as usize] = at as u32;
            }
        }
        let profile = Profile {
            label: String::new(),
            incarnation: 1,
            is_private: false,
            home: None,
        };
        Self {
            keys,
            config,
            profile,
            places,
            homes,
        }
    }

    fn desk(&self, me: u32) -> Desk<'a> {
        Desk {
            keys: self.keys,
            me,
            is_blind: false,
        }
    }

    fn build(&self) -> Vec<Polyring> {
        let mut made: Vec<Made> = Vec::with_capacity(self.places.len());
        for place in &self.places {
            let parent = place.parent.map(|parent| &made[parent as usize]);
            let ring = parent.map_or(PositionId::CENTER, |parent| parent.position.id());
            let prefix = parent.map_or_else(Guid::center, |parent| parent.guid.clone());
            let position = self.position(place, ring);
            let step = Step {
                coordinate: position.coordinate(),
                tag: position.id().tag(),
            };
            let guid = prefix.child(step);
            made.push(Made { position, guid });
        }
        let records: Vec<Arc<Member>> = (0..self.homes.len() as u32)
            .map(|peer| self.record(peer, &made[self.homes[peer as usize] as usize].position))
            .collect();
        let ring = |id: PositionId, places: &mut dyn Iterator<Item = u32>| {
            let mut ring = Ring::new(id);
            for place in places {
                ring.merge_position(made[place as usize].position.clone(), Time::ZERO);
                for member in &self.places[place as usize].members {
                    let record = records[*member as usize].clone();
                    ring.merge_member(&self.desk(0), record, Time::ZERO);
                }
            }
            ring
        };
        let is_central = |place: &u32| self.places[*place as usize].parent.is_none();
        let center = ring(
            PositionId::CENTER,
            &mut (0..self.places.len() as u32).take_while(is_central),
        );
        let rings: Vec<Ring> = made
            .iter()
            .zip(&self.places)
            .map(|(made, place)| ring(made.position.id(), &mut place.children.iter().copied()))
            .collect();
        let ring_of = |place: u32| match self.places[place as usize].parent {
            None => center.clone(),
            Some(parent) => rings[parent as usize].clone(),
        };
        let built = |peer: u32| {
            let home = self.homes[peer as usize];
            let parent = self.places[home as usize].parent;
            let desk = self.desk(peer);
            let above = parent.map_or_else(|| Ring::new(NOWHERE), ring_of);
            let lineage = self.lineage(&made, parent);
            let record = records[peer as usize].clone();
            let below = rings[home as usize].clone();
            let view = self.view(peer, &desk);
            Polyring::built(&view, record, ring_of(home), below, above, lineage)
        };
        (0..self.homes.len() as u32).map(built).collect()
    }

    /// The positions from the center to a parent.
    fn lineage(&self, made: &[Made], parent: Option<u32>) -> Vec<Position> {
        let next = |place: &u32| self.places[*place as usize].parent;
        let line = std::iter::successors(parent, next);
        let mut lineage: Vec<_> = line
            .map(|place| made[place as usize].position.clone())
            .collect();
        lineage.reverse();
        lineage
    }

    fn view<'b>(&'b self, peer: u32, desk: &'b Desk<'a>) -> View<'b, Polyring> {
        View {
            config: self.config,
            me: Peer(peer),
            profile: &self.profile,
            host: desk,
        }
    }

    /// A position, founded by the oldest member of its parent position.
    fn position(&self, place: &Place, ring: PositionId) -> Position {
        let founder = place.members[0];
        let keeper = match (founder, place.parent) {
            (0, _) => None,
            (_, None) => Some(0),
            (_, Some(parent)) => Some(self.places[parent as usize].members[0]),
        };
        let id = self.keys.id(founder);
        let position = PositionId::new(&self.desk(0), ring, &id, mix(u64::from(founder)));
        let seat = Seat { ring, position };
        let grant = self.grant(founder, seat, place.coordinate, keeper, 0);
        let population = place.population;
        let census = (population > 1).then(|| {
            Census {
                seat,
                population,
                version: 1,
                by: Peer(founder),
                signature: Signature([0; 64]),
            }
            .sign(&self.desk(founder))
        });
        Position::new(grant, None, census)
    }

    fn grant(
        &self,
        peer: u32,
        seat: Seat,
        coordinate: u32,
        by: Option<u32>,
        rank: u32,
    ) -> Arc<Grant> {
        let grant = Grant {
            peer: Peer(peer),
            seat,
            coordinate,
            branch: String::new(),
            sequence: u64::from(coordinate + rank),
            nonce: mix(u64::from(peer)),
            by: by.map(Peer),
            signature: Signature([0; 64]),
        };
        grant
            .sign(&self.desk(by.unwrap_or(0)))
            .expect("the first peer holds the network's key")
    }

    fn record(&self, peer: u32, position: &Position) -> Arc<Member> {
        let members = &self.places[self.homes[peer as usize] as usize].members;
        let rank = members
            .iter()
            .position(|member| *member == peer)
            .unwrap_or(0) as u32;
        let seat = position.grant.seat;
        let grant = match rank {
            0 => position.grant.clone(),
            _ => self.grant(peer, seat, position.coordinate(), Some(members[0]), rank),
        };
        let desk = self.desk(peer);
        let view = self.view(peer, &desk);
        Member::signed(&view, 1, Some(seat), Proof::Grant(grant))
    }
}
