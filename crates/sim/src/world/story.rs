//! A run from its first join to its last check: bootstrap, T = 0, what was planned, healing, report.

use std::time::Instant;

use super::{
    Common, START, World,
    check::Findings,
    event::Deed,
    keys::Keys,
    lab::Lab,
    mix,
    play::{DEADLINE, Play, SLICE},
    tally::{self, Upkeep},
    weather::{Weather, share},
};
use crate::{
    Bootstrap, Broadcast, Canary, FaultKind, Invariants, Keys as KeyCounts, Level, Lives, Outcome,
    Policy, Progress, Report, RunError, Scenario, Series, State, Stretch, Terrain, measure,
};

/// Joins a second while the network is small.
const FIRST_JOINS: f64 = 10.0;
/// Seconds in which the network doubles while it grows.
const DOUBLING: f64 = 4.0;
/// How long the last newcomers may take to find their places.
const PATIENCE: u64 = 120_000_000;
/// Quiet between the last place taken and T = 0: counts of branches climb to the center, a level
/// each 3 s, and greetings grow rare.
const QUIET: u64 = 20_000_000;
/// How long invariants may take to hold again after the last fault.
const HEALING: u64 = 60_000_000;
/// Peers up to which every upkeep frame is weighed; in larger worlds one of 32 is.
const WEIGHED: u32 = 10_000;
/// Places kept for a picture.
const PICTURED: usize = 2_000;

/// Runs a scenario over a topology.
pub(crate) fn run<O: Lab>(
    scenario: &Scenario,
    watch: &mut dyn FnMut(Progress),
) -> Result<Outcome, RunError> {
    let began = Instant::now();
    let cpu = measure::cpu_s();
    let lives = Lives::new(
        &scenario.churn,
        scenario.peers,
        scenario.duration,
        scenario.seed,
    )?;
    let mut story = Story::<O>::new(scenario, &lives)?;
    let mut meter = Meter {
        watch,
        told: began,
        peers: 0,
        span: scenario.duration,
    };
    story.bootstrap(&lives, &mut meter);
    story.play(&lives, &mut meter);
    story.heal(&mut meter);
    story.sing(&mut meter);
    let mut outcome = story.report();
    let wall_s = began.elapsed().as_secs_f64();
    outcome.report.wall_s = wall_s;
    outcome.report.cpu_s = measure::cpu_s() - cpu;
    outcome.report.events_per_s = outcome.report.events as f64 / wall_s;
    outcome.report.peak_rss_bytes = measure::memory().map(|(_, peak)| peak);
    Ok(outcome)
}

/// Tells whoever watches, ten times a second.
struct Meter<'a> {
    watch: &'a mut dyn FnMut(Progress),
    told: Instant,
    peers: u32,
    /// Seconds after T = 0.
    span: f64,
}

impl Meter<'_> {
    fn tell(&mut self, now: u64, start: Option<u64>, events: u64) {
        if self.told.elapsed().as_millis() < 100 {
            return;
        }
        self.told = Instant::now();
        let since = start.map_or(0.0, |start| now.saturating_sub(start) as f64 / 1e6);
        let played = (since / self.span.max(1.0)).min(1.0);
        let share = if start.is_some() {
            0.5 + 0.5 * played
        } else {
            0.0
        };
        let simulated_s = now.saturating_sub(START) as f64 / 1e6;
        (self.watch)(Progress {
            simulated_s,
            share,
            peers: self.peers,
            events,
        });
    }
}

struct Story<'a, O: Lab> {
    scenario: &'a Scenario,
    world: World<O>,
    threads: u16,
    /// First handle that no life has: those of flash crowds.
    crowd: u32,
    /// T = 0.
    start: u64,
    play: Option<Play>,
    findings: Findings,
    healed: Option<u64>,
    upkeep: Upkeep,
}

impl<'a, O: Lab> Story<'a, O> {
    fn new(scenario: &'a Scenario, lives: &Lives) -> Result<Self, RunError> {
        let joining = scenario.faults.iter().map(|fault| match fault.kind {
            FaultKind::FlashCrowd(count, _) => count,
            _ => 0,
        });
        // One more, for canaries: a ghost, or a late newcomer.
        let count = lives.handles + joining.sum::<u32>() + 1;
        let seed = scenario.seed;
        let terrain = Terrain::new(&scenario.latency, count, mix(seed ^ 1))?;
        let weather = Weather {
            jitter: (scenario.jitter * 65_536.0) as u64,
            loss: share(scenario.loss),
            one_way: share(scenario.one_way),
            private: share(scenario.private),
            ..Weather::calm(mix(seed ^ 2), terrain)
        };
        let keys = Keys::drawn(mix(seed ^ 3), count, scenario.real_keys);
        let common = Common {
            seed: mix(seed ^ 4),
            has_labels: scenario.policy == Policy::Labelled,
            upload: scenario.upload,
            download: scenario.download,
            weighed: if scenario.peers <= WEIGHED { 1 } else { 32 },
            canary: scenario.canary,
            ..Common::quiet(keys, weather, O::config(scenario))
        };
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u16);
        let threads = scenario.threads.unwrap_or(cores).max(1);
        let mut world = World::new(common, threads);
        world.now = START;
        Ok(Self {
            scenario,
            world,
            threads,
            crowd: lives.handles,
            start: START,
            play: None,
            findings: Findings::default(),
            healed: None,
            upkeep: Upkeep::default(),
        })
    }

    /// Up to T = 0: everyone who is there at the start has a place, and all is quiet.
    fn bootstrap(&mut self, lives: &Lives, meter: &mut Meter<'_>) {
        match self.scenario.bootstrap {
            Bootstrap::Built => {
                let common = &self.world.common;
                let overlays = O::build(&common.keys, &common.config, lives.at_start);
                self.world.settle(overlays);
            }
            Bootstrap::Grown => self.grow(lives.at_start, meter),
        }
        self.start = self.world.now;
        let end = self.start + (self.scenario.duration * 1e6) as u64;
        self.world.common.measured = self.start..end;
        if !matches!(self.scenario.canary, Some(Canary::RepairOff)) {
            self.findings.add(self.world.check());
        }
    }

    /// Peers join through the protocol, faster the more there are, each through two that have been
    /// there for a while.
    fn grow(&mut self, count: u32, meter: &mut Meter<'_>) {
        let mut random = ringweave_ids::Random::new(mix(self.scenario.seed ^ 5));
        let mut at = START as f64;
        for peer in 0..count {
            let known = peer as usize / 2;
            let contacts = match peer {
                0 => Vec::new(),
                _ => (0..2)
                    .map(|_| random.below(known + 1).min(known) as u32)
                    .collect(),
            };
            self.world.deed(at as u64, peer, Deed::Start(contacts));
            let pace = FIRST_JOINS.max(f64::from(peer) * std::f64::consts::LN_2 / DOUBLING);
            at += 1e6 / pace;
        }
        let last = at as u64;
        let late = last + PATIENCE;
        loop {
            self.step(SLICE, None, meter);
            let placed = self.world.placed();
            meter.peers = placed;
            if self.world.now >= last && placed >= count || self.world.now >= late {
                break;
            }
        }
        self.step(QUIET, None, meter);
    }

    fn step(&mut self, span: u64, start: Option<u64>, meter: &mut Meter<'_>) {
        let until = self.world.now + span;
        self.run(until, start, meter);
    }

    fn run(&mut self, until: u64, start: Option<u64>, meter: &mut Meter<'_>) {
        self.world.run(until.saturating_sub(1), &mut |now, events| {
            meter.tell(now, start, events)
        });
    }

    /// What was planned, until everything is settled.
    fn play(&mut self, lives: &Lives, meter: &mut Meter<'_>) {
        let seed = mix(self.scenario.seed ^ 6);
        let mut play = Play::new(self.scenario, self.start, &lives.lives, self.crowd, seed);
        let end = self.world.common.measured.end;
        let mut is_measured = false;
        loop {
            let until = play.pause(self.world.now);
            play.plan(&mut self.world, until);
            if play.is_over(self.world.now) {
                break;
            }
            self.run(until, Some(self.start), meter);
            if !is_measured && self.world.now >= end {
                is_measured = true;
                for tally in self.world.tallies() {
                    self.upkeep.messages += tally.upkeep.messages;
                    self.upkeep.bytes += tally.upkeep.bytes;
                    self.upkeep.weighed += tally.upkeep.weighed;
                }
            }
            self.watch_healing(&play);
        }
        self.play = Some(play);
    }

    /// Notes when the invariants hold again after the last fault.
    fn watch_healing(&mut self, play: &Play) {
        let now = self.world.now;
        let is_due = play.trouble.is_some_and(|trouble| now >= trouble) && play.has_no_mishaps();
        if is_due && self.healed.is_none() && self.world.check().violated == 0 {
            self.healed = Some(now);
        }
    }

    /// Time to heal after faults, and the last check.
    fn heal(&mut self, meter: &mut Meter<'_>) {
        let Some(play) = self.play.take() else { return };
        if let Some(trouble) = play.trouble {
            while self.healed.is_none() && self.world.now < trouble + HEALING {
                self.step(SLICE, Some(self.start), meter);
                self.watch_healing(&play);
            }
        }
        self.play = Some(play);
    }

    /// The last check, after whatever a canary does to the network.
    fn sing(&mut self, meter: &mut Meter<'_>) {
        let last = self.world.count() - 1;
        match self.scenario.canary {
            Some(Canary::ForgedRoster) => {
                let keys = &self.world.common.keys;
                let forged = self.world.actors().find_map(|(peer, actor)| {
                    let (from, message) = actor.node()?.overlay().forge(keys, last)?;
                    // Who hears it from itself would take it for nonsense.
                    (from != peer).then_some((peer, from, message))
                });
                if let Some((peer, from, message)) = forged {
                    self.world.common.blind = Some(peer);
                    let frame = ringweave_node::Frame::Overlay(message);
                    self.world
                        .deed(self.world.now, peer, Deed::Whisper(from, frame));
                    self.step(SLICE / 5, Some(self.start), meter);
                }
            }
            Some(Canary::DroppedDelta) => {
                self.world.deed(self.world.now, last, Deed::Start(vec![0]));
                let late = self.world.now + DEADLINE;
                while self.world.actor(last).address().is_none() && self.world.now < late {
                    self.step(SLICE / 10, Some(self.start), meter);
                }
            }
            _ => {}
        }
        self.findings.add(self.world.check());
    }

    fn report(mut self) -> Outcome {
        let scenario = self.scenario;
        let play = self
            .play
            .take()
            .unwrap_or_else(|| unreachable!("a run plays before it reports"));
        let (mut events, mut digest, mut counters) =
            (0, 0_u64, ringweave_node::Counters::default());
        let mut reach = Vec::new();
        let mut lasts: Vec<u64> = Vec::new();
        for part in self.world.tallies() {
            events += part.events;
            digest = digest.wrapping_add(part.digest);
            tally::add(&mut counters, &part.buried);
            reach.extend_from_slice(&part.reach);
            lasts.resize(lasts.len().max(part.spreads.len()), 0);
            for (last, at) in lasts.iter_mut().zip(&part.spreads) {
                *last = (*last).max(*at);
            }
        }
        let mut series = Series::default();
        let mut forwarded = Vec::new();
        let (mut contacts, mut most, mut peers) = (0_u64, 0_u64, 0_u64);
        let mut table = Vec::new();
        let mut levels: Vec<(u64, u64, u64)> = Vec::new();
        let mut places = Vec::new();
        for (peer, actor) in self.world.actors() {
            let Some(node) = actor.node() else { continue };
            let own = actor.counters();
            tally::add(&mut counters, &own);
            forwarded.push(own.forwarded);
            table.clear();
            node.neighbours(&mut table);
            contacts += table.len() as u64;
            most = most.max(table.len() as u64);
            peers += 1;
            let Some(address) = node.address() else {
                continue;
            };
            let coordinates = O::coordinates(address);
            let level = coordinates.len().max(1) - 1;
            if levels.len() <= level {
                levels.resize(level + 1, (0, 0, 0));
            }
            let (count, sum, max) = &mut levels[level];
            (*count, *sum, *max) = (*count + 1, *sum + own.forwarded, (*max).max(own.forwarded));
            let mark = coordinates
                .iter()
                .fold(mix(u64::from(peer)), |mark, it| mix(mark ^ u64::from(*it)));
            digest = digest.wrapping_add(mark);
            if !coordinates.is_empty() {
                places.push(coordinates);
            }
        }
        // The shallow ones first, so that a cut picture is still a tree.
        places.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        places.truncate(PICTURED);
        series.places = places;
        let levels = levels
            .into_iter()
            .map(|(peers, sum, most)| Level {
                peers,
                forwarded_mean: sum as f64 / (peers as f64).max(1.0),
                forwarded_max: most,
            })
            .collect();
        let counted: Vec<_> = play.sent.iter().filter(|sent| sent.is_counted).collect();
        let arrived: Vec<_> = counted
            .iter()
            .filter_map(|sent| Some((*sent, sent.arrived?)))
            .collect();
        let mut hops: Vec<f64> = arrived
            .iter()
            .map(|(_, (_, hops))| f64::from(*hops))
            .collect();
        let took = |at: u64, sent: u64| at.saturating_sub(sent) as f64 / 1e3;
        let mut latencies: Vec<f64> = arrived
            .iter()
            .map(|(sent, (at, _))| took(*at, sent.at))
            .collect();
        let terrain = &self.world.common.weather.terrain;
        let mut stretches: Vec<f64> = arrived
            .iter()
            .map(|(sent, (at, _))| {
                let direct = f64::from(terrain.delay(sent.from.0, sent.to.0)) / 1e3;
                took(*at, sent.at) / direct
            })
            .collect();
        for (_, (_, hops)) in &arrived {
            let place = usize::from(*hops);
            series.hops.resize(series.hops.len().max(place + 1), 0);
            series.hops[place] += 1;
        }
        let latency_ms = measure::quantiles(&mut latencies);
        if !latencies.is_empty() {
            let at = |percent: u32| measure::quantile(&latencies, f64::from(percent) / 100.0);
            series.latency_ms = (0..=100).map(at).collect();
        }
        let stretch = measure::quantiles(&mut stretches).map(|it| Stretch {
            p50: it.p50,
            p95: it.p95,
        });
        let is_asked = scenario.lookups > 0 || scenario.multicasts > 0;
        let sent = is_asked.then_some(counted.len() as u64);
        let delivered = is_asked.then_some(arrived.len() as u64);
        let broadcast = (!play.spreads.is_empty()).then(|| {
            let last = |(spread, last): (&super::play::Spread, &u64)| took(*last, spread.at);
            Broadcast {
                reached: play.spreads.iter().map(|it| it.reached).sum(),
                expected: play.spreads.iter().map(|it| it.expected).sum(),
                transmissions: counters.spread,
                duplicates: counters.spread_twice,
                last_ms: play
                    .spreads
                    .iter()
                    .zip(&lasts)
                    .map(last)
                    .fold(0.0, f64::max),
            }
        });
        self.check_broadcasts(&play, broadcast.as_ref(), counters.spread);
        series.reach = curve(&mut reach, play.spreads.first().map_or(0, |it| it.at));
        let calm = scenario.duration > 0.0 && peers > 0;
        let upkeep = calm.then(|| {
            let span = scenario.duration * f64::from(scenario.peers);
            let Upkeep {
                messages,
                bytes,
                weighed,
            } = self.upkeep;
            let each = bytes as f64 / (weighed as f64).max(1.0);
            let messages_per_s = messages as f64 / span;
            crate::Upkeep {
                messages_per_s,
                bytes_per_s: messages_per_s * each,
            }
        });
        let trouble = play.trouble;
        let report = Report {
            topology: O::NAME.into(),
            peers: scenario.peers,
            seed: scenario.seed,
            threads: self.threads,
            digest: format!("{digest:016x}"),
            bootstrap_s: (scenario.bootstrap == Bootstrap::Grown)
                .then(|| (self.start - START) as f64 / 1e6),
            simulated_s: scenario.duration,
            hops: measure::quantiles(&mut hops),
            latency_ms,
            stretch,
            sent,
            delivered,
            lost: sent
                .zip(delivered)
                .map(|(sent, delivered)| sent - delivered),
            misdelivered: is_asked.then_some(play.misdelivered),
            broadcast,
            state: State {
                contacts_mean: contacts as f64 / (peers as f64).max(1.0),
                contacts_max: most,
                bytes_mean: measure::memory().map(|(now, _)| now as f64 / (peers as f64).max(1.0)),
            },
            upkeep,
            load: measure::load(&mut forwarded),
            levels,
            keys: (play.asked_keys > 0).then(|| {
                let parts = || self.world.tallies().map(|part| part.answers);
                KeyCounts {
                    asked: play.asked_keys,
                    answered: parts().map(|(answered, _)| answered).sum(),
                    found: parts().map(|(_, found)| found).sum(),
                }
            }),
            invariants: Invariants {
                checked: self.findings.checked,
                violated: self.findings.violated,
            },
            heal_s: self
                .healed
                .zip(trouble)
                .map(|(at, since)| at.saturating_sub(since) as f64 / 1e6),
            events,
            events_per_s: 0.0,
            cpu_s: 0.0,
            wall_s: 0.0,
            peak_rss_bytes: None,
        };
        Outcome {
            report,
            series,
            violations: self.findings.words,
        }
    }

    /// At rest a broadcast makes N-1 transmissions and reaches everyone once.
    fn check_broadcasts(&mut self, play: &Play, broadcast: Option<&Broadcast>, copies: u64) {
        let Some(broadcast) = broadcast.filter(|_| play.trouble.is_none()) else {
            return;
        };
        let wanted = broadcast.expected - play.spreads.len() as u64;
        let holds = broadcast.duplicates == 0
            && broadcast.reached == broadcast.expected
            && copies == wanted;
        self.findings.check(holds, || {
            let Broadcast { reached, expected, transmissions, duplicates, .. } = broadcast;
            format!(
                "broadcasts at rest reached {reached} of {expected} peers with {transmissions} transmissions, {duplicates} of them in vain"
            )
        });
        self.findings.check(play.misdelivered == 0, || {
            format!(
                "{} messages reached another peer than the one meant",
                play.misdelivered
            )
        });
    }
}

/// Arrivals as a curve of at most 200 points: milliseconds since the start, peers so far.
fn curve(arrivals: &mut [u64], start: u64) -> Vec<(f64, u64)> {
    arrivals.sort_unstable();
    let step = (arrivals.len() / 200).max(1);
    let point = |(index, at): (usize, &u64)| {
        let is_kept = index % step == 0 || index + 1 == arrivals.len();
        // The origin itself counts from the start.
        is_kept.then(|| (at.saturating_sub(start) as f64 / 1e3, index as u64 + 2))
    };
    let mut curve = vec![(0.0, 1)];
    curve.extend(arrivals.iter().enumerate().filter_map(point));
    if arrivals.is_empty() {
        Vec::new()
    } else {
        curve
    }
}
