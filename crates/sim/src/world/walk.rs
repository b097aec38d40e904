//! Walks over ready tables, without time: what a geometry is worth by itself.
//!
//! ```text
//!   ready tables ──> a share dies ──> who lives hears of its dead      ──> from peer to peer
//!   of everybody     at once          neighbours; nobody can repair        by the real next_hop
//! ```
//!
//! Static resilience after Gummadi, Gummadi, Gribble, Ratnasamy, Shenker and Stoica, "The Impact of DHT
//! Routing Geometry on Resilience and Proximity", SIGCOMM 2003, section 4,
//! <https://doi.org/10.1145/863955.863998>. With time for repair, the survivors live on in a world first.

use std::time::Instant;

use ringweave_ids::{Key, Peer, Point, Random, Time};
use ringweave_overlay::{Cx, Hop, Input, Loss, Profile, Target, View};

use super::{
    Common, START, World,
    circle::Circle,
    event::Deed,
    keys::{Desk, Keys},
    lab::Lab,
    mix,
    path::follow,
    weather::Weather,
};
use crate::{RunError, Targets, Terrain, Walk, Walked, measure};

/// Draws of a peer that lives, before one gives up.
const DRAWS: usize = 10_000;

/// A way to be walked.
struct Errand {
    from: u32,
    /// The peer, or the number of the key.
    to: u64,
    /// Where it has to end: the peer, or who owned the key before anybody died.
    goal: Option<u32>,
}

/// Everybody's tables, as they are.
struct Ground<'a, O: Lab> {
    walk: &'a Walk,
    keys: &'a Keys,
    config: &'a O::Config,
    profile: &'a Profile,
    /// The tables of a peer; nothing if it is dead.
    table: &'a dyn Fn(u32) -> Option<&'a O>,
}

/// Builds the tables, lets peers die, and walks.
///
/// # Errors
/// If the settings make no sense.
pub(crate) fn run<O: Lab>(walk: &Walk) -> Result<Walked, RunError> {
    walk.check()?;
    if !O::IS_STRUCTURED {
        let problem = format!(
            "nothing leads to an address in {}; peers are searched",
            O::NAME
        );
        let field = "topology";
        return Err(RunError::Setting { field, problem });
    }
    let (began, cpu) = (Instant::now(), measure::cpu_s());
    let empty = measure::memory().map(|(now, _)| now);
    let scenario = &walk.scenario;
    let (peers, seed) = (scenario.peers, scenario.seed);
    let keys = Keys::drawn(mix(seed ^ 3), peers, scenario.real_keys);
    let config = O::config(scenario);
    let profile = Profile::default();
    let mut tables = O::build(&keys, &config, peers);
    let full = measure::memory().map(|(now, _)| now);
    let mut random = Random::new(mix(seed ^ 7));
    let is_dead = deaths(walk, &mut random);
    let errands = {
        let table = |peer: u32| tables.get(peer as usize);
        let ground = Ground {
            walk,
            keys: &keys,
            config: &config,
            profile: &profile,
            table: &table,
        };
        ground.errands(&is_dead, &mut random)?
    };
    let mut hops = if walk.repair > 0.0 {
        let world = repaired(walk, keys, config, tables, &is_dead)?;
        let table = |peer| Some(world.actor(peer).node()?.overlay());
        let ground = Ground {
            walk,
            keys: &world.common.keys,
            config: &*world.common.config,
            profile: &profile,
            table: &table,
        };
        ground.walk(&errands, &is_dead)
    } else {
        bereave(&keys, &config, &mut tables, &is_dead, &mut random);
        let table = |peer: u32| {
            tables
                .get(peer as usize)
                .filter(|_| !is_dead[peer as usize])
        };
        let ground = Ground {
            walk,
            keys: &keys,
            config: &config,
            profile: &profile,
            table: &table,
        };
        ground.walk(&errands, &is_dead)
    };
    let is_lost = |it: &&Errand| it.goal.is_some_and(|goal| is_dead[goal as usize]);
    let (paths, arrived) = (errands.len() as u64, hops.len() as u64);
    let bytes = empty
        .zip(full)
        .map(|(empty, full)| full.saturating_sub(empty));
    Ok(Walked {
        topology: O::NAME.into(),
        peers,
        seed,
        dead: is_dead.iter().filter(|it| **it).count() as u32,
        paths,
        arrived,
        lost: errands.iter().filter(is_lost).count() as u64,
        failed: (paths - arrived) as f64 / paths as f64,
        hops: measure::quantiles(&mut hops),
        bytes_mean: bytes.map(|bytes| bytes as f64 / f64::from(peers)),
        cpu_s: measure::cpu_s() - cpu,
        wall_s: began.elapsed().as_secs_f64(),
        peak_rss_bytes: measure::memory().map(|(_, peak)| peak),
    })
}

/// Who dies: exactly the share, drawn at random.
fn deaths(walk: &Walk, random: &mut Random) -> Vec<bool> {
    let peers = walk.scenario.peers as usize;
    let mut is_dead = vec![false; peers];
    let mut left = (walk.dead * peers as f64).round() as usize;
    while left > 0 {
        let drawn = random.below(peers);
        left -= usize::from(!std::mem::replace(&mut is_dead[drawn], true));
    }
    is_dead
}

/// Who lives hears of each dead neighbour. Whatever it would do about that is thrown away.
fn bereave<O: Lab>(
    keys: &Keys,
    config: &O::Config,
    tables: &mut [O],
    is_dead: &[bool],
    random: &mut Random,
) {
    let profile = Profile::default();
    let (mut neighbours, mut out) = (Vec::new(), Vec::new());
    for (overlay, me) in tables
        .iter_mut()
        .zip(0..)
        .filter(|(_, me)| !is_dead[*me as usize])
    {
        overlay.neighbours(&mut neighbours);
        for it in neighbours
            .drain(..)
            .filter(|it| is_dead[it.peer.0 as usize])
        {
            let desk = Desk {
                keys,
                me,
                is_blind: false,
            };
            let mut cx = Cx {
                view: View {
                    config,
                    me: Peer(me),
                    profile: &profile,
                    host: &desk,
                },
                now: Time::from_micros(START),
                random,
                out: &mut out,
            };
            overlay.handle(&mut cx, Input::Down(it.peer, Loss::Silent));
            out.clear();
        }
    }
}

/// The survivors, after they had their time to repair what they can.
fn repaired<O: Lab>(
    walk: &Walk,
    keys: Keys,
    config: O::Config,
    tables: Vec<O>,
    is_dead: &[bool],
) -> Result<World<O>, RunError> {
    let scenario = &walk.scenario;
    let seed = scenario.seed;
    let terrain = Terrain::new(&scenario.latency, scenario.peers, mix(seed ^ 1))?;
    let weather = Weather::calm(mix(seed ^ 2), terrain);
    let mut world = World::new(Common::quiet(keys, weather, config), scenario.crew());
    world.now = START;
    world.settle(tables);
    for (peer, _) in (0..).zip(is_dead).filter(|(_, is_dead)| **is_dead) {
        world.deed(world.now, peer, Deed::Crash);
    }
    let span = (walk.repair * 1e6) as u64;
    world.run(world.now + span, &mut |_, _| {});
    Ok(world)
}

impl<'a, O: Lab> Ground<'a, O> {
    /// What ways are to be walked, drawn at random; asked while everybody lives.
    fn errands(&self, is_dead: &[bool], random: &mut Random) -> Result<Vec<Errand>, RunError> {
        let mut errands = Vec::with_capacity(self.walk.paths as usize);
        for number in 0..u64::from(self.walk.paths) {
            let mut living = |but: Option<u32>| {
                let mut draws = (0..DRAWS).map(|_| random.below(is_dead.len()) as u32);
                let drawn = draws.find(|it| !is_dead[*it as usize] && Some(*it) != but);
                drawn.ok_or_else(|| RunError::Setting {
                    field: "dead",
                    problem: "hardly anybody lives".into(),
                })
            };
            let from = living(None)?;
            let (to, goal) = match self.walk.targets {
                Targets::Peers => {
                    let to = living(Some(from))?;
                    (u64::from(to), Some(to))
                }
                Targets::Keys => {
                    let asks = random.below(is_dead.len()) as u32;
                    let owner = self.follow(asks, self.key(number), None).ok();
                    (number, owner.map(|(owner, _)| owner))
                }
                Targets::Predecessors | Targets::Closest => (number, None),
            };
            errands.push(Errand { from, to, goal });
        }
        Ok(errands)
    }

    /// Walks them all: the hops of those that end where they have to.
    fn walk(&self, errands: &[Errand], is_dead: &[bool]) -> Vec<f64> {
        let circle = match self.walk.targets {
            Targets::Peers | Targets::Keys => Circle::from_iter([]),
            Targets::Predecessors | Targets::Closest => {
                let living = (0..is_dead.len() as u32).filter(|it| !is_dead[*it as usize]);
                Circle::of(self.keys, living)
            }
        };
        let hops = errands.iter().filter_map(|errand| {
            let hops = match self.walk.targets {
                Targets::Peers => {
                    let target = self.peer(errand.to as u32)?;
                    self.hops(errand.from, target, errand.goal?)?
                }
                Targets::Keys => self.hops(errand.from, self.key(errand.to), errand.goal?)?,
                Targets::Predecessors => {
                    let owner = circle.place_of(Point::of_key(&key(errand.to)));
                    let before = circle.at(owner + circle.len() - 1).peer.0;
                    let way = self.follow(errand.from, self.key(errand.to), Some(before));
                    way.ok().filter(|(end, _)| *end == before)?.1
                }
                Targets::Closest => self.look_up(&circle, errand)?,
            };
            Some(hops as f64)
        });
        hops.collect()
    }

    /// How many peers a lookup of a key asks, if it finds exactly the closest.
    fn look_up(&self, circle: &Circle, errand: &Errand) -> Option<usize> {
        let overlay = (self.table)(errand.from)?;
        let desk = self.desk(errand.from);
        let table = |peer: Peer| (self.table)(peer.0);
        overlay.look_up(&self.view(&desk), circle, &key(errand.to), &table)
    }

    fn peer(&self, to: u32) -> Option<Target<O::Address>> {
        let address = (self.table)(to)?.address()?.clone();
        let id = self.keys.id(to);
        Some(Target::Peer { id, address })
    }

    fn key(&self, number: u64) -> Target<O::Address> {
        Target::Key {
            scope: None,
            key: key(number),
            choice: 0,
        }
    }

    /// Hops to the goal, if the way ends there.
    fn hops(&self, from: u32, target: Target<O::Address>, goal: u32) -> Option<usize> {
        let (end, hops) = self.follow(from, target, None).ok()?;
        (end == goal).then_some(hops)
    }

    /// Follows the way to its end, or up to the peer `upto` if it leads there.
    fn follow(
        &self,
        from: u32,
        target: Target<O::Address>,
        upto: Option<u32>,
    ) -> Result<(u32, usize), String> {
        follow(from, target, u64::from(from), |at, target, flow| {
            let overlay = (self.table)(at)?;
            if upto == Some(at) {
                return Some(Hop::Arrived);
            }
            let desk = self.desk(at);
            Some(overlay.next_hop(&self.view(&desk), target, flow))
        })
    }

    fn desk(&self, me: u32) -> Desk<'a> {
        Desk {
            keys: self.keys,
            me,
            is_blind: false,
        }
    }

    fn view<'b>(&'b self, desk: &'b Desk<'a>) -> View<'b, O> {
        View {
            config: self.config,
            me: Peer(desk.me),
            profile: self.profile,
            host: desk,
        }
    }
}

/// The key of this number.
fn key(number: u64) -> Key {
    Key::of("walk", &number.to_le_bytes())
}
