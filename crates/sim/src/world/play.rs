//! What happens in a world after T = 0, second by second: messages, broadcasts, questions, arrivals
//! and departures, mishaps. The world stands still while it is planned, so a plan may look at everyone.

use std::collections::VecDeque;

use ringweave_ids::Random;
use ringweave_node::{Command, Destination, Effort, Query};

use super::{
    World,
    event::Deed,
    lab::Lab,
    load::{self, Kind},
    mishap::Mishap,
    records::Records,
    tally::Delivery,
};
use crate::{Pairs, Scenario};

/// Within this span a message is delivered or given up: the router's deadline.
pub(crate) const DEADLINE: u64 = 5_000_000;
/// The world stands still this often.
pub(crate) const SLICE: u64 = 1_000_000;
/// Receivers of a multicast.
const RECEIVERS: usize = 8;
/// Peers whom a newcomer is told of.
const CONTACTS: usize = 3;
/// Broadcasts that may be open at once: each remembers everyone who was there.
const OPEN: usize = 64;
/// Draws for a peer that is up before the world is taken for empty.
const TRIES: u32 = 10_000;

/// One message to one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: u64,
    pub(crate) from: (u32, u16),
    pub(crate) to: (u32, u16),
    /// When it arrived, after how many hops.
    pub(crate) arrived: Option<(u64, u8)>,
    /// Whether the sender took it on.
    is_asked: bool,
    /// Whether both ends lived to the deadline.
    pub(crate) is_counted: bool,
}

/// One broadcast.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pub(crate) at: u64,
    /// Who was there when it began.
    there: Vec<(u32, u16)>,
    /// Whether the origin was still there to begin it.
    pub(crate) is_begun: bool,
    pub(crate) reached: u64,
    pub(crate) expected: u64,
}

/// Everything that is planned and what became of it.
pub(crate) struct Play {
    /// T = 0 and the end.
    start: u64,
    end: u64,
    pub(super) random: Random,
    pairs: Pairs,
    payload: u32,
    lookups: Pace,
    broadcasts: Pace,
    multicasts: Pace,
    keys: Pace,
    pub(crate) records: Records,
    pub(crate) sent: Vec<Sent>,
    /// Messages before this one are settled.
    settled: usize,
    pub(crate) misdelivered: u64,
    pub(crate) asked_keys: u64,
    pub(crate) spreads: Vec<Spread>,
    open: VecDeque<usize>,
    mishaps: VecDeque<Mishap>,
    pub(super) arrivals: VecDeque<(u64, u32)>,
    pub(super) departures: VecDeque<(u64, u32)>,
    /// First of the handles that are left for those who come with a mishap.
    pub(super) crowd: u32,
    /// Until when connections break by chance, and how often in a second.
    pub(super) flaps: Vec<(u64, f64)>,
    pub(super) networks: u8,
    /// So many peers, the first ones, are up whatever happens.
    anchors: u32,
    /// When the last thing that went wrong is over; nothing if nothing did.
    pub(crate) trouble: Option<u64>,
}

/// So many things, spread evenly.
pub(super) struct Pace {
    count: u64,
    next: u64,
}

impl Pace {
    pub(super) fn new(count: u64) -> Self {
        Self { count, next: 0 }
    }

    /// The moment of the next one, if it comes before `until`; it is then done.
    pub(super) fn due(&mut self, start: u64, end: u64, until: u64) -> Option<(u64, u64)> {
        if self.next == self.count {
            return None;
        }
        let span = u128::from(end - start) * u128::from(2 * self.next + 1);
        let at = start + (span / u128::from(2 * self.count)) as u64;
        let number = self.next;
        (at < until).then(|| {
            self.next += 1;
            (at, number)
        })
    }
}

impl Play {
    /// A plan from T = 0 at `start`; `lives` are arrivals and departures relative to it, and handles
    /// from `crowd` on belong to those who come with a mishap.
    pub(crate) fn new(
        scenario: &Scenario,
        start: u64,
        lives: &[crate::Life],
        mishaps: Vec<Mishap>,
        crowd: u32,
        seed: u64,
    ) -> Self {
        let end = start + micros(scenario.duration);
        let moment = |relative: i64| start + relative.max(0) as u64;
        let mut arrivals: Vec<_> = lives
            .iter()
            .filter(|life| life.up > 0)
            .map(|life| (moment(life.up), life.who))
            .collect();
        let mut departures: Vec<_> = lives
            .iter()
            .filter_map(|life| Some((moment(life.down?), life.who)))
            .collect();
        arrivals.retain(|(at, _)| *at < end);
        let anchors = u32::from(scenario.anchors);
        departures.retain(|(at, who)| *at < end && *who >= anchors);
        arrivals.sort_unstable();
        departures.sort_unstable();
        let has_churn = !(arrivals.is_empty() && departures.is_empty());
        Self {
            start,
            end,
            random: Random::new(seed),
            pairs: scenario.pairs,
            payload: scenario.payload,
            lookups: Pace::new(scenario.lookups),
            broadcasts: Pace::new(u64::from(scenario.broadcasts)),
            multicasts: Pace::new(u64::from(scenario.multicasts)),
            keys: Pace::new(u64::from(scenario.keys)),
            records: Records::new(scenario.records, scenario.reads, scenario.payload),
            sent: Vec::new(),
            settled: 0,
            misdelivered: 0,
            asked_keys: 0,
            spreads: Vec::new(),
            open: VecDeque::new(),
            mishaps: mishaps.into(),
            arrivals: arrivals.into(),
            departures: departures.into(),
            crowd,
            flaps: Vec::new(),
            networks: scenario.networks.min(255) as u8,
            anchors,
            trouble: has_churn.then_some(end),
        }
    }

    /// When the world should stand still next.
    pub(crate) fn pause(&self, now: u64) -> u64 {
        let first = self.mishaps.front();
        let mishap = first.map_or(u64::MAX, |mishap| mishap.moment(self.start));
        (now + SLICE).min(mishap.max(now + 1))
    }

    /// Whether everything planned has been set going and settled.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        let is_settled = self.settled == self.sent.len() && self.open.is_empty();
        now >= self.end && is_settled && self.mishaps.is_empty() && self.records.is_over()
    }

    /// Whether something has gone wrong, or does now.
    pub(crate) fn strikes(&self, now: u64) -> bool {
        let is_due = |mishap: &Mishap| mishap.moment(self.start) <= now;
        self.trouble.is_some() || self.mishaps.front().is_some_and(is_due)
    }

    /// Whether nothing more will go wrong.
    pub(crate) fn has_no_mishaps(&self) -> bool {
        self.mishaps.is_empty()
    }

    /// Settles what has had its time, and sets going what comes before `until`.
    pub(crate) fn plan<O: Lab>(&mut self, world: &mut World<O>, until: u64) {
        self.gather(world);
        self.settle(world);
        while self
            .mishaps
            .front()
            .is_some_and(|mishap| mishap.moment(self.start) <= world.now)
            && let Some(mishap) = self.mishaps.pop_front()
        {
            self.befall(world, mishap);
        }
        while self.departures.front().is_some_and(|(at, _)| *at < until)
            && let Some((at, who)) = self.departures.pop_front()
        {
            world.deed(at, who, Deed::Crash);
        }
        while self.arrivals.front().is_some_and(|(at, _)| *at < until)
            && let Some((at, who)) = self.arrivals.pop_front()
        {
            let contacts = self.contacts(world, who);
            world.deed(at, who, Deed::Start(contacts));
        }
        self.flap(world, until);
        let (start, end) = (self.start, self.end);
        while let Some((at, _)) = self.lookups.due(start, end, until) {
            self.look_up(world, at);
        }
        while let Some((at, _)) = self.multicasts.due(start, end, until) {
            self.multicast(world, at);
        }
        while let Some((at, _)) = self.keys.due(start, end, until) {
            self.ask(world, at);
        }
        let Self {
            records, random, ..
        } = self;
        records.plan(world, (start, end, until), |world| {
            drawn(random, world, |_| true)
        });
        // More of them wait for the next second.
        while self.open.len() < OPEN
            && let Some((at, _)) = self.broadcasts.due(start, end, until)
        {
            self.broadcast(world, at.max(world.now));
        }
    }

    /// A peer that is up and has a place, other than `but`.
    fn anyone<O: Lab>(&mut self, world: &World<O>, but: Option<u32>) -> Option<u32> {
        self.anyone_who(world, |peer| Some(peer) != but)
    }

    /// A peer that is up, has a place, and is one of these.
    pub(super) fn anyone_who<O: Lab>(
        &mut self,
        world: &World<O>,
        is_it: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        drawn(&mut self.random, world, is_it)
    }

    /// Whom a newcomer is told of: peers of one part, which it then belongs to itself.
    fn contacts<O: Lab>(&mut self, world: &mut World<O>, who: u32) -> Vec<u32> {
        let weather = &world.common.weather;
        let Some(first) = self.anyone_who(world, |peer| weather.can_dial(who, peer)) else {
            return Vec::new();
        };
        let now = world.now;
        world.common.weather.put_beside(who, first, now);
        let weather = &world.common.weather;
        let more = (1..CONTACTS)
            .filter_map(|_| self.anyone_who(world, |peer| !weather.are_apart(first, peer, now)));
        let drawn: Vec<u32> = [first].into_iter().chain(more).collect();
        let anchors = (0..self.anchors).filter(|anchor| !drawn.contains(anchor));
        drawn.iter().copied().chain(anchors).collect()
    }

    pub(super) fn is_anchor(&self, peer: u32) -> bool {
        peer < self.anchors
    }

    fn pair<O: Lab>(&mut self, world: &World<O>) -> Option<(u32, u32)> {
        let from = self.anyone(world, None)?;
        if self.pairs == Pairs::Uniform {
            return Some((from, self.anyone(world, Some(from))?));
        }
        let mut draws = (0..TRIES).map(|_| {
            world
                .common
                .weather
                .terrain
                .near(from, self.crowd, &mut self.random)
        });
        let to = draws.find(|to| *to != from && world.actor(*to).address().is_some())?;
        Some((from, to))
    }

    fn note<O: Lab>(&mut self, world: &World<O>, at: u64, from: u32, to: u32) {
        let life = |peer: u32| (peer, world.actor(peer).life());
        let (from, to) = (life(from), life(to));
        let (arrived, is_asked, is_counted) = (None, false, false);
        self.sent.push(Sent {
            at,
            from,
            to,
            arrived,
            is_asked,
            is_counted,
        });
    }

    /// A message to a peer whose place the sender has heard of.
    fn look_up<O: Lab>(&mut self, world: &mut World<O>, at: u64) {
        let Some((from, to)) = self.pair(world) else {
            return;
        };
        let index = self.sent.len() as u64;
        self.note(world, at, from, to);
        self.tell(world, at, from, to);
        let payload = load::payload(Kind::Lookup, index, self.payload);
        let send = Command::Send(Destination::Peer(world.id(to)), payload);
        world.deed(at, from, Deed::Command(index, send));
    }

    fn tell<O: Lab>(&self, world: &mut World<O>, at: u64, from: u32, to: u32) {
        if let Some(placed) = world.whereabouts(to) {
            world.deed(at, from, Deed::Command(u64::MAX, Command::Learn(placed)));
        }
    }

    fn multicast<O: Lab>(&mut self, world: &mut World<O>, at: u64) {
        let Some(from) = self.anyone(world, None) else {
            return;
        };
        let index = self.sent.len() as u64;
        let mut group: Vec<u32> = Vec::new();
        for _ in 0..RECEIVERS {
            let Some(to) = self.anyone(world, Some(from)) else {
                return;
            };
            if !group.contains(&to) {
                self.note(world, at, from, to);
                self.tell(world, at, from, to);
                group.push(to);
            }
        }
        let payload = load::payload(Kind::Multicast, index, self.payload);
        let to = group
            .into_iter()
            .map(|to| Destination::Peer(world.id(to)))
            .collect();
        world.deed(
            at,
            from,
            Deed::Command(index, Command::Multicast(to, payload)),
        );
    }

    /// Asks the directory where a peer sits.
    fn ask<O: Lab>(&mut self, world: &mut World<O>, at: u64) {
        let Some(from) = self.anyone(world, None) else {
            return;
        };
        let Some(to) = self.anyone(world, Some(from)) else {
            return;
        };
        let query = Query::Peer(world.id(to));
        self.asked_keys += 1;
        let ticket = KEYS | u64::from(to);
        world.deed(
            at,
            from,
            Deed::Command(ticket, Command::Resolve(query, Effort::Once)),
        );
    }

    fn broadcast<O: Lab>(&mut self, world: &mut World<O>, at: u64) {
        let Some(from) = self.anyone(world, None) else {
            return;
        };
        let placed = world
            .actors()
            .filter(|(_, actor)| actor.address().is_some());
        let there = placed.map(|(peer, actor)| (peer, actor.life())).collect();
        let number = self.spreads.len();
        self.open.push_back(number);
        self.spreads.push(Spread {
            at,
            there,
            is_begun: false,
            reached: 0,
            expected: 0,
        });
        let payload = load::payload(Kind::Broadcast, number as u64, self.payload);
        world.deed(
            at,
            from,
            Deed::Command(SPREADS | number as u64, Command::Broadcast(None, payload)),
        );
    }

    /// Takes in what arrived.
    fn gather<O: Lab>(&mut self, world: &mut World<O>) {
        let mut deliveries: Vec<Delivery> = Vec::new();
        let mut asked: Vec<u64> = Vec::new();
        let mut heard = Vec::new();
        for tally in world.tallies_mut() {
            deliveries.append(&mut tally.deliveries);
            asked.append(&mut tally.asked);
            heard.append(&mut tally.records);
        }
        self.records.gather(heard);
        for ticket in asked {
            if ticket & (SPREADS | KEYS) == SPREADS {
                self.spreads[(ticket ^ SPREADS) as usize].is_begun = true;
                continue;
            }
            let Some(first) = self.sent.get(ticket as usize).copied() else {
                continue;
            };
            // All receivers of a multicast follow its first.
            for sent in self.sent[ticket as usize..].iter_mut().take(RECEIVERS) {
                if (sent.at, sent.from) == (first.at, first.from) {
                    sent.is_asked = true;
                }
            }
        }
        for Delivery {
            kind,
            index,
            at,
            by,
            hops,
        } in deliveries
        {
            let reach = if kind == Kind::Multicast {
                RECEIVERS
            } else {
                1
            };
            let mut meant = self.sent[index as usize..].iter_mut().take(reach);
            match meant.find(|sent| sent.to.0 == by) {
                Some(sent) => sent.arrived = sent.arrived.or(Some((at, hops))),
                None => self.misdelivered += 1,
            }
        }
    }

    fn settle<O: Lab>(&mut self, world: &mut World<O>) {
        let lives = |world: &World<O>, (peer, life): (u32, u16)| {
            let actor = world.actor(peer);
            actor.node().is_some() && actor.life() == life
        };
        while let Some(sent) = self.sent.get_mut(self.settled)
            && sent.at + DEADLINE <= world.now
        {
            sent.is_counted = sent.is_asked && lives(world, sent.from) && lives(world, sent.to);
            self.settled += 1;
        }
        while let Some(place) = self.open.front().copied()
            && self.spreads[place].at + DEADLINE <= world.now
        {
            self.open.pop_front();
            for whom in std::mem::take(&mut self.spreads[place].there) {
                let is_heard = world.actor(whom.0).has_heard(place as u64);
                let spread = &mut self.spreads[place];
                let is_there = spread.is_begun && lives(world, whom);
                spread.expected += u64::from(is_there);
                spread.reached += u64::from(is_there && is_heard);
            }
        }
    }
}

/// A peer that is up, has a place, and is one of these.
fn drawn<O: Lab>(
    random: &mut Random,
    world: &World<O>,
    is_it: impl Fn(u32) -> bool,
) -> Option<u32> {
    let count = world.count() as usize;
    let mut draws = (0..TRIES).map(|_| random.below(count) as u32);
    draws.find(|peer| is_it(*peer) && world.actor(*peer).address().is_some())
}

/// Microseconds.
pub(crate) fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

/// Sets the tickets of questions to the directory apart; the rest is whom they are about.
const KEYS: u64 = 1 << 62;
/// Sets the tickets of broadcasts apart; the rest is which.
const SPREADS: u64 = 1 << 61;
