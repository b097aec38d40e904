//! What goes wrong in a world: when it comes, whom it befalls, and how.

use std::collections::BTreeMap;

use ringweave_ids::Guid;

use super::{
    World,
    event::Deed,
    lab::Lab,
    mix,
    play::{Play, micros},
    weather::{Between, Cut, Storm, share},
};
use crate::{FaultKind, Lives, Parting, RunError, Scenario, Where, Whom};

/// Something that goes wrong once.
pub(crate) struct Mishap {
    /// Microseconds after T = 0.
    at: u64,
    kind: FaultKind,
    /// Who comes and goes by a law: numbers up to `at_start` are those that are up when it begins.
    lives: Option<Lives>,
}

impl Mishap {
    /// When it comes, where T = 0 is at `start`.
    pub(crate) fn moment(&self, start: u64) -> u64 {
        start + self.at
    }

    /// How many peers come that would not come without it.
    pub(crate) fn newcomers(&self) -> u32 {
        match (&self.kind, &self.lives) {
            (FaultKind::FlashCrowd(count, _), _) => *count,
            (_, Some(lives)) => lives.handles - lives.at_start,
            _ => 0,
        }
    }

    /// All that goes wrong in a scenario, by time.
    ///
    /// # Errors
    /// If there would be more lives than a run may have.
    pub(crate) fn all(scenario: &Scenario) -> Result<Vec<Self>, RunError> {
        let crash = scenario
            .crash
            .map(|it| (it.at, FaultKind::Crash(Where::Share(it.share).into())));
        let partition = scenario.partition.map(|it| {
            let off = Parting::Off(Where::Share(it.share).into());
            (it.at, FaultKind::Partition(off, it.length))
        });
        let others = scenario.faults.iter().flat_map(|fault| {
            let again = |at| (at, fault.kind.clone());
            fault.moments().map(again)
        });
        let all = crash.into_iter().chain(partition).chain(others);
        let mut mishaps = Vec::new();
        for ((at, kind), number) in all.zip(1_u64..) {
            let lives = match &kind {
                FaultKind::Churn(law, length) => {
                    let seed = mix(scenario.seed ^ mix(number));
                    Some(Lives::new(law, scenario.peers, *length, seed)?)
                }
                _ => None,
            };
            let at = micros(at);
            mishaps.push(Self { at, kind, lives });
        }
        mishaps.sort_by_key(|mishap| mishap.at);
        Ok(mishaps)
    }
}

impl Play {
    /// Something goes wrong now.
    pub(super) fn befall<O: Lab>(&mut self, world: &mut World<O>, mishap: Mishap) {
        let now = world.now;
        let mut until = now;
        match mishap.kind {
            FaultKind::Crash(whom) => {
                for peer in self.struck(world, &whom) {
                    world.deed(now, peer, Deed::Crash);
                }
            }
            FaultKind::Leave(whom) => {
                for peer in self.struck(world, &whom) {
                    world.deed(now, peer, Deed::Leave);
                }
            }
            FaultKind::Freeze(whom, length) => {
                until += micros(length);
                for peer in self.struck(world, &whom) {
                    world.deed(now, peer, Deed::Freeze(until));
                }
            }
            FaultKind::Partition(parting, length) => {
                until += micros(length);
                let sides = self.sides(world, &parting);
                cut(world, until, Between::Sides(sides));
            }
            FaultKind::DeadPairs(dead, length) => {
                until += micros(length);
                cut(world, until, Between::Pairs(share(dead)));
            }
            FaultKind::Loss(lost, length) => {
                until += micros(length);
                world.common.weather.storms.push(Storm {
                    loss: share(lost),
                    ..Storm::calm(now, until)
                });
            }
            FaultKind::Slow(whom, factor, length) => {
                until += micros(length);
                let slow = self.marked(world, &whom);
                world.common.weather.storms.push(Storm {
                    slow,
                    factor,
                    ..Storm::calm(now, until)
                });
            }
            FaultKind::FlashCrowd(count, length) => {
                until += micros(length);
                let newcomers = (0..count).map(|number| {
                    let at = now + micros(length) * u64::from(number) / u64::from(count);
                    (at, self.crowd + number)
                });
                self.arrivals.extend(newcomers);
                self.crowd += count;
                self.arrivals.make_contiguous().sort_unstable();
            }
            FaultKind::Churn(_, length) => {
                until += micros(length);
                if let Some(lives) = mishap.lives {
                    self.come_and_go(world, &lives);
                }
            }
            FaultKind::Flap(rate, length) => {
                until += micros(length);
                self.flaps.push((until, rate));
            }
            FaultKind::Meet => self.meet(world),
        }
        self.trouble = self.trouble.max(Some(until));
    }

    /// Connections that break by chance between now and `until`.
    pub(super) fn flap<O: Lab>(&mut self, world: &mut World<O>, until: u64) {
        let now = world.now;
        self.flaps.retain(|(end, _)| *end > now);
        let span = until - now;
        let rate: f64 = self.flaps.iter().map(|(_, rate)| rate).sum();
        if rate == 0.0 {
            return;
        }
        let chance = share((rate * span as f64 / 1e6).min(1.0));
        for peer in 0..world.count() {
            if world.actor(peer).node().is_some() {
                let at = now + mix(u64::from(peer) ^ mix(now)) % span;
                world.deed(at, peer, Deed::Flap(chance));
            }
        }
    }

    /// Those that are up live on by a law, and newcomers with them.
    fn come_and_go<O: Lab>(&mut self, world: &World<O>, lives: &Lives) {
        let up = everyone(world);
        let handle = |who: u32| match who.checked_sub(lives.at_start) {
            Some(number) => Some(self.crowd + number),
            None => up.get(who as usize).copied(),
        };
        for life in &lives.lives {
            let Some(who) = handle(life.who) else {
                continue;
            };
            let moment = |relative: i64| world.now + relative.max(0) as u64;
            if life.up > 0 {
                self.arrivals.push_back((moment(life.up), who));
            }
            if let Some(down) = life.down.filter(|_| !self.is_anchor(who)) {
                self.departures.push_back((moment(down), who));
            }
        }
        self.crowd += lives.handles - lives.at_start;
        self.arrivals.make_contiguous().sort_unstable();
        self.departures.make_contiguous().sort_unstable();
    }

    /// The networks are no longer apart: one peer of each is told of one of the first.
    fn meet<O: Lab>(&mut self, world: &mut World<O>) {
        let Some(apart) = world.common.weather.cuts.first_mut() else {
            return;
        };
        apart.until = world.now;
        let Between::Sides(sides) = &apart.between else {
            return;
        };
        let sides = sides.clone();
        let is_in = |network: u8| {
            let sides = &sides;
            move |peer: u32| sides.get(peer as usize) == Some(&network)
        };
        for network in 1..self.networks {
            let finder = self.anyone_who(world, is_in(network));
            let found = self.anyone_who(world, is_in(0));
            if let (Some(finder), Some(found)) = (finder, found) {
                world.deed(world.now, finder, Deed::Hear(vec![found]));
            }
        }
    }

    /// Whom a crash or a freeze befalls: anchors stay.
    fn struck<O: Lab>(&mut self, world: &World<O>, whom: &Whom) -> Vec<u32> {
        let mut struck = self.victims(world, whom);
        struck.retain(|peer| !self.is_anchor(*peer));
        struck
    }

    /// Whom a fault concerns, among those that are up, by handle.
    fn victims<O: Lab>(&mut self, world: &World<O>, whom: &Whom) -> Vec<u32> {
        let mut there = match &whom.place {
            Where::Share(of) => {
                let mut up = everyone(world);
                let count = (up.len() as f64 * of).round() as usize;
                self.random.shuffle(&mut up, count);
                up.truncate(count);
                up
            }
            Where::Ring(place) => at_place(world, place, true),
            Where::Position(place) => at_place(world, place, false),
            Where::Level(first, last) => {
                let levels = *first as usize..=*last as usize;
                placed(world, |address| {
                    levels.contains(&O::coordinates(address).len())
                })
            }
        };
        if whom.spare > 0 {
            let is_one = matches!(whom.place, Where::Position(_));
            let position = |peer: u32| {
                let address = world.actor(peer).address();
                let coordinates = address.map(O::coordinates).unwrap_or_default();
                (coordinates, if is_one { peer } else { 0 })
            };
            let mut positions: Vec<_> = there.iter().map(|peer| position(*peer)).collect();
            positions.sort_unstable();
            positions.dedup();
            let count = positions.len().min(whom.spare as usize);
            self.random.shuffle(&mut positions, count);
            let spared = &positions[..count];
            there.retain(|peer| !spared.contains(&position(*peer)));
        }
        if let Some(only) = whom.only {
            let count = there.len().min(only as usize);
            self.random.shuffle(&mut there, count);
            there.truncate(count);
        }
        there
    }

    fn marked<O: Lab>(&mut self, world: &World<O>, whom: &Whom) -> Vec<bool> {
        let mut marks = vec![false; world.count() as usize];
        for peer in self.victims(world, whom) {
            marks[peer as usize] = true;
        }
        marks
    }

    /// The part of everyone.
    fn sides<O: Lab>(&mut self, world: &World<O>, parting: &Parting) -> Vec<u8> {
        let mut sides = vec![0; world.count() as usize];
        match parting {
            Parting::Off(whom) => {
                for peer in self.victims(world, whom) {
                    sides[peer as usize] = 1;
                }
            }
            Parting::Parts(count) => {
                let mut up = everyone(world);
                let len = up.len();
                self.random.shuffle(&mut up, len);
                for (peer, side) in up.into_iter().zip((0..*count).cycle()) {
                    sides[peer as usize] = side;
                }
            }
            Parting::Branches(count) => {
                let mut branches: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
                for (peer, actor) in world.actors() {
                    let address = actor.address().map(O::coordinates);
                    if let Some(first) = address.as_ref().and_then(|it| it.first()) {
                        branches.entry(*first).or_default().push(peer);
                    }
                }
                for (peers, side) in branches.into_values().zip((0..*count).cycle()) {
                    for peer in peers {
                        sides[peer as usize] = side;
                    }
                }
            }
        }
        sides
    }
}

/// From now on, until then, these cannot reach each other.
fn cut<O: Lab>(world: &mut World<O>, until: u64, between: Between) {
    let (now, number) = (world.now, world.common.weather.cuts.len());
    world.common.weather.cuts.push(Cut {
        from: now,
        until,
        between,
    });
    for peer in 0..world.count() {
        if world.actor(peer).node().is_some() {
            world.deed(now, peer, Deed::Cut(number));
        }
    }
}

/// Everyone who is up, by handle.
fn everyone<O: Lab>(world: &World<O>) -> Vec<u32> {
    let up = world.actors().filter(|(_, actor)| actor.node().is_some());
    let mut up: Vec<u32> = up.map(|(peer, _)| peer).collect();
    // The parts of the world list their peers one after the other.
    up.sort_unstable();
    up
}

/// Everyone who sits at such an address, by handle.
fn placed<O: Lab>(world: &World<O>, is_it: impl Fn(&O::Address) -> bool) -> Vec<u32> {
    let there = world
        .actors()
        .filter(|(_, actor)| actor.address().is_some_and(&is_it));
    let mut there: Vec<u32> = there.map(|(peer, _)| peer).collect();
    there.sort_unstable();
    there
}

fn at_place<O: Lab>(world: &World<O>, place: &str, is_ring: bool) -> Vec<u32> {
    let Ok(place) = place.parse::<Guid>() else {
        return Vec::new();
    };
    placed(world, |address| O::is_at(address, &place, is_ring))
}
