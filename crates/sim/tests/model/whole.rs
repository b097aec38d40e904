//! What a network must be at rest.

use std::collections::{BTreeMap, BTreeSet};

use ringweave_overlay::{
    Hop, Overlay as _, Target,
    polyring::{PositionId, Ring},
};

use crate::{
    host::{ModelHost, id_of},
    world::{Node, Setup, World, handle},
};

/// What is wrong with a network at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    Whole,
    /// Two clusters hold one GUID.
    Doubled,
    /// A peer has no place, or is not of one network with the others.
    Lost,
    /// Peers that should hold the same roster of a ring do not, or it is not true.
    Untrue,
    /// It did not come to rest at all.
    Restless,
}

/// Looks at a network that had its time.
pub(crate) fn judge(world: &World, setup: &Setup) -> Verdict {
    if is_doubled(world) {
        Verdict::Doubled
    } else if !is_connected(world, setup) {
        Verdict::Lost
    } else if !is_true(world) {
        Verdict::Untrue
    } else {
        Verdict::Whole
    }
}

/// Whether somebody's roster gives a coordinate to two positions that are held, or two peers sit at the
/// same coordinates that are not members of one cluster in each other's eyes.
fn is_doubled(world: &World) -> bool {
    let mut rings = world.living().flat_map(|(_, node)| node.machine.rings());
    let is_doubled_in = |ring: &Ring| {
        let mut coordinates = BTreeSet::new();
        !ring.staffed().all(|it| coordinates.insert(it.coordinate()))
    };
    let mut clusters: BTreeMap<Vec<u32>, BTreeSet<(PositionId, Vec<u32>)>> = BTreeMap::new();
    for (_, node) in world.living() {
        if let Some(guid) = node.machine.address() {
            let steps = guid.steps().iter().map(|step| step.coordinate).collect();
            clusters.entry(steps).or_default().insert(cluster(node));
        }
    }
    rings.any(is_doubled_in) || clusters.values().any(|clusters| clusters.len() > 1)
}

/// The position that a placed peer holds, and who holds it in its eyes.
fn cluster(node: &Node) -> (PositionId, Vec<u32>) {
    // The ring below a position has its id.
    let [own, below, _] = node.machine.rings();
    let members = own.members_of(below.id).map(|record| record.peer.0);
    (below.id, members.collect())
}

/// Whether everybody has a place and reaches everybody over connections that stand.
fn is_connected(world: &World, setup: &Setup) -> bool {
    let living: Vec<usize> = world.living().map(|(peer, _)| peer).collect();
    let reaches = |from: usize, to: usize| {
        let address = world.nodes[to].as_ref()?.machine.address()?.clone();
        let mut target = Target::Peer {
            id: id_of(handle(to)),
            address,
        };
        let mut at = from;
        for _ in 0..4 * living.len() {
            let (node, host) = (world.nodes[at].as_ref()?, ModelHost(handle(at)));
            let next = match node.machine.next_hop(&node.view(setup, &host), &target, 0) {
                Hop::Arrived => return (at == to).then_some(()),
                Hop::To(next) => next,
                Hop::Corrected(next, address) => {
                    let id = id_of(handle(to));
                    target = Target::Peer { id, address };
                    next
                }
                Hop::Nobody | Hop::Cut => return None,
            };
            if !world.is_linked(at, next.0 as usize) {
                return None;
            }
            at = next.0 as usize;
        }
        None
    };
    let pairs = living
        .iter()
        .flat_map(|a| living.iter().map(move |b| (*a, *b)));
    pairs
        .into_iter()
        .all(|(from, to)| reaches(from, to).is_some())
}

/// Whether each peer's rosters of its own ring and of the one below tell of exactly those who live there,
/// all alike, and that of the one above of what its parents have it know.
fn is_true(world: &World) -> bool {
    let mut digests: BTreeMap<PositionId, u64> = BTreeMap::new();
    for (_, node) in world.living() {
        let [own, below, above] = node.machine.rings();
        for ring in [own, below] {
            let who: BTreeSet<u32> = ring.living().map(|record| record.peer.0).collect();
            let truth: BTreeSet<u32> = world
                .living()
                .filter(|(_, other)| other.machine.rings()[0].id == ring.id)
                .map(|(peer, _)| peer as u32)
                .collect();
            if who != truth || *digests.entry(ring.id).or_insert(ring.digest()) != ring.digest() {
                return false;
            }
        }
        let is_parent = |other: &Node| other.machine.rings()[1].id == own.id;
        let parents: Vec<_> = world.living().filter(|(_, it)| is_parent(it)).collect();
        let is_orphan = own.id != PositionId::CENTER && parents.is_empty();
        let is_outline = |it: &Node| it.machine.outline_digest() == above.digest();
        if is_orphan || !parents.iter().all(|(_, it)| is_outline(it)) {
            return false;
        }
    }
    true
}
