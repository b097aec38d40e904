//! How a world comes through what goes wrong: who has another GUID afterwards, who was promoted, who
//! was taken for dead and was not, and how soon routes are whole again.

use std::collections::{BTreeMap, BTreeSet};

use ringweave_ids::{Peer, Random};

use super::{World, check::Findings, lab::Lab, mix, standing::Place};
use crate::Healing;

/// Routes sampled to see whether all deliver.
const ROUTES: u32 = 300;
/// Peers up to which everyone's rosters are looked through, a second of the world at a time.
const SURVEYED: usize = 20_000;
/// A verdict may come this long after the way is open again: a silence, and the neighbours' answers.
const GRACE: u64 = 5_000_000;

/// What was seen of a world since the first trouble.
#[derive(Default)]
pub(crate) struct Recovery {
    /// Who was there just before it: in which life, and where.
    before: Vec<Stay>,
    /// Where everyone was when last looked at, by peer.
    last: BTreeMap<u32, Stay>,
    promotions: u64,
    /// Deaths that were told, by peer and incarnation: counted, or true at the time.
    told: BTreeSet<(u32, u64)>,
    removed: u64,
    handles: u64,
    is_begun: bool,
    is_surveyed: bool,
    /// When routes were whole after the last trouble.
    pub(crate) routes: Option<u64>,
}

/// A peer and its place before anything went wrong.
#[derive(Clone)]
struct Stay {
    peer: u32,
    life: u16,
    lineage: Vec<Place>,
}

/// What became of a peer's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Same,
    /// The same position under another GUID.
    Renumbered,
    /// A position further in, above the old one, under the GUID that it had; or under another.
    Promoted {
        is_renumbered: bool,
    },
    /// Any other position, or none.
    Moved,
}

impl Recovery {
    /// Remembers who is where; once, just before the first trouble.
    pub(crate) fn begin<O: Lab>(&mut self, world: &World<O>) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        self.before = stays(world).collect();
        self.before.sort_unstable_by_key(|stay| stay.peer);
    }

    /// Looks for peers that were promoted since the last look, and through everyone's rosters for
    /// living peers that are taken for dead.
    pub(crate) fn survey<O: Lab>(&mut self, world: &World<O>) {
        if !self.is_begun || world.count() as usize > SURVEYED {
            return;
        }
        self.is_surveyed = true;
        self.count_promotions(world);
        let mut used: Vec<Peer> = Vec::new();
        // Whether anyone who says so could have known better.
        let mut deaths: BTreeMap<(u32, u64), bool> = BTreeMap::new();
        for (peer, actor) in world.actors() {
            let Some(node) = actor.node() else { continue };
            used.clear();
            node.overlay().uses(&mut used);
            used.sort_unstable_by_key(|peer| peer.0);
            used.dedup();
            self.handles = self.handles.max(used.len() as u64);
            node.overlay().accused(&mut |whom, incarnation| {
                let death = (whom, incarnation);
                if !self.told.contains(&death) && lives(world, whom, incarnation) {
                    *deaths.entry(death).or_default() |= are_in_touch(world, peer, whom);
                }
            });
        }
        self.removed += deaths.values().filter(|is_wrong| **is_wrong).count() as u64;
        self.told.extend(deaths.into_keys());
    }

    fn count_promotions<O: Lab>(&mut self, world: &World<O>) {
        let now: BTreeMap<u32, Stay> = stays(world).map(|stay| (stay.peer, stay)).collect();
        let promoted = now.values().filter(|stay| {
            let last = self.last.get(&stay.peer);
            let is_further_in = last.is_some_and(|last| {
                let fate = fate(&last.lineage, &stay.lineage);
                last.life == stay.life && matches!(fate, Fate::Promoted { .. })
            });
            let node = world.actor(stay.peer).node();
            is_further_in && node.is_some_and(|node| node.overlay().is_granted(Peer(stay.peer)))
        });
        self.promotions += promoted.count() as u64;
        self.last = now;
    }

    /// Whether 300 routes between any peers all deliver, however long they are.
    pub(crate) fn try_routes<O: Lab>(&mut self, world: &World<O>) {
        if self.routes.is_some() {
            return;
        }
        let crowd = world.crowd();
        let mut random = Random::new(mix(world.common.seed ^ mix(world.now)));
        let mut anyone = || crowd.actors[random.below(crowd.actors.len())].0;
        let is_whole = crowd.actors.is_empty()
            || (0..ROUTES).all(|_| crowd.follow(anyone(), anyone()).is_ok());
        self.routes = is_whole.then_some(world.now);
    }

    /// No crash gives a survivor another GUID, unless it was promoted to a position above its own.
    pub(crate) fn check<O: Lab>(&self, world: &World<O>, findings: &mut Findings) {
        for (stay, now, fate) in self.fates(world) {
            let keeps = matches!(
                fate,
                Fate::Same
                    | Fate::Promoted {
                        is_renumbered: false
                    }
            );
            findings.check(keeps, || {
                let (peer, was) = (stay.peer, written(&stay.lineage));
                match fate {
                    Fate::Moved if now.is_empty() => {
                        format!("peer {peer} was at {was} and is nowhere")
                    }
                    Fate::Moved => {
                        format!(
                            "peer {peer} was at {was} and is in another position, {}",
                            written(&now)
                        )
                    }
                    _ => format!("peer {peer} at {was} became {}", written(&now)),
                }
            });
        }
    }

    /// The figures; nothing if nothing went wrong. `trouble` is the end of what did.
    pub(crate) fn healing<O: Lab>(
        &self,
        world: &World<O>,
        trouble: Option<u64>,
    ) -> Option<Healing> {
        if !self.is_begun {
            return None;
        }
        let fates: Vec<Fate> = self.fates(world).map(|(.., fate)| fate).collect();
        let share = |is_it: fn(&Fate) -> bool| {
            let count = fates.iter().filter(|fate| is_it(fate)).count();
            (!fates.is_empty()).then(|| count as f64 / fates.len() as f64)
        };
        let sizes = world.actors().filter_map(|(_, actor)| {
            let size = actor.node()?.overlay().cluster()?;
            (size > 0).then_some(size)
        });
        let (mut members, mut positions, mut least) = (0_u64, 0.0, None::<u32>);
        for size in sizes {
            members += 1;
            positions += 1.0 / f64::from(size);
            least = Some(least.map_or(size, |least| least.min(size)));
        }
        let routes = self.routes.zip(trouble);
        Some(Healing {
            survivors: fates.len() as u64,
            renumbered: share(|fate| {
                matches!(
                    fate,
                    Fate::Renumbered
                        | Fate::Promoted {
                            is_renumbered: true
                        }
                )
            }),
            promoted: share(|fate| matches!(fate, Fate::Promoted { .. })),
            promotions: (self.is_surveyed && !self.before.is_empty())
                .then(|| self.promotions as f64 / self.before.len() as f64),
            moved: share(|fate| matches!(fate, Fate::Moved)),
            removed: self.is_surveyed.then_some(self.removed),
            routes_s: routes.map(|(at, since)| at.saturating_sub(since) as f64 / 1e6),
            handles_max: self.is_surveyed.then_some(self.handles),
            cluster_mean: least.map(|_| members as f64 / positions),
            cluster_min: least.map(u64::from),
        })
    }

    /// What became of everyone who lived through it, and where each is now.
    fn fates<O: Lab>(&self, world: &World<O>) -> impl Iterator<Item = (&Stay, Vec<Place>, Fate)> {
        self.before.iter().filter_map(|stay| {
            let actor = world.actor(stay.peer);
            actor.node().filter(|_| actor.life() == stay.life)?;
            let now = actor.address().map(O::lineage).unwrap_or_default();
            let fate = fate(&stay.lineage, &now);
            Some((stay, now, fate))
        })
    }
}

/// Everyone with a place, part by part.
fn stays<O: Lab>(world: &World<O>) -> impl Iterator<Item = Stay> {
    world.actors().filter_map(|(peer, actor)| {
        let lineage = O::lineage(actor.address()?);
        let life = actor.life();
        Some(Stay {
            peer,
            life,
            lineage,
        })
    })
}

fn fate(was: &[Place], now: &[Place]) -> Fate {
    if was.is_empty() {
        // A topology without positions: where a peer sits follows from who it is.
        return Fate::Same;
    }
    let Some(position) = now.last() else {
        return Fate::Moved;
    };
    let Some(depth) = was.iter().position(|place| place.id == position.id) else {
        return Fate::Moved;
    };
    let coordinates = |place: &Place| place.coordinate;
    let (is_promoted, was) = (depth + 1 < was.len(), &was[..=depth]);
    let is_renumbered = !was.iter().map(coordinates).eq(now.iter().map(coordinates));
    match (is_promoted, is_renumbered) {
        (true, is_renumbered) => Fate::Promoted { is_renumbered },
        (false, true) => Fate::Renumbered,
        (false, false) => Fate::Same,
    }
}

/// Whether the peer is up in the life that this incarnation belongs to.
fn lives<O: Lab>(world: &World<O>, peer: u32, incarnation: u64) -> bool {
    let node = world.actor(peer).node();
    node.is_some_and(|node| node.settings().profile.incarnation <= incarnation)
}

/// Whether nothing but bad luck has kept the two apart lately.
fn are_in_touch<O: Lab>(world: &World<O>, one: u32, other: u32) -> bool {
    let weather = &world.common.weather;
    let moments = [world.now.saturating_sub(GRACE), world.now];
    let is_parted = moments
        .iter()
        .any(|at| weather.cut(one, other, *at).is_some());
    let since = world.now.saturating_sub(GRACE);
    let was_frozen = [one, other]
        .iter()
        .any(|peer| world.actor(*peer).frozen_until() > since);
    !is_parted && !was_frozen
}

fn written(lineage: &[Place]) -> String {
    let coordinates: Vec<_> = lineage
        .iter()
        .map(|place| place.coordinate.to_string())
        .collect();
    format!("[{}]", coordinates.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(of: &[(u32, u32)]) -> Vec<Place> {
        let place = |(id, coordinate): &(u32, u32)| Place {
            id: *id,
            coordinate: *coordinate,
        };
        of.iter().map(place).collect()
    }

    #[test]
    fn a_fate_tells_promotion_from_another_number_and_from_another_place() {
        let was = lineage(&[(7, 0), (8, 2), (9, 4)]);
        for (now, expected) in [
            (&[(7, 0), (8, 2), (9, 4)][..], Fate::Same),
            (&[(7, 1), (8, 2), (9, 4)], Fate::Renumbered),
            (
                &[(7, 0), (8, 2)],
                Fate::Promoted {
                    is_renumbered: false,
                },
            ),
            (
                &[(7, 3)],
                Fate::Promoted {
                    is_renumbered: true,
                },
            ),
            (&[(7, 0), (8, 2), (10, 4)], Fate::Moved),
            (&[], Fate::Moved),
        ] {
            assert_eq!(fate(&was, &lineage(now)), expected, "{now:?}");
        }
    }
}
