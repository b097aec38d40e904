//! A run from its first join to its last check: bootstrap, T = 0, what was planned, healing, report.

use std::time::Instant;

use super::{
    Common, START, World,
    account::Account,
    check::Findings,
    event::Deed,
    keys::Keys,
    lab::Lab,
    mishap::Mishap,
    mix,
    play::{DEADLINE, Play, SLICE},
    recovery::Recovery,
    tally::Upkeep,
    weather::{Between, Cut, Weather, share},
};
use crate::{
    Bootstrap, Canary, Lives, Outcome, Policy, Progress, RunError, Scenario, Terrain, measure,
};

/// Joins a second while the network is small.
const FIRST_JOINS: f64 = 10.0;
/// Seconds in which the network doubles while it grows.
const DOUBLING: f64 = 4.0;
/// How long the last newcomers may take to find their places.
const PATIENCE: u64 = 120_000_000;
/// Quiet between the last place taken and T = 0: a cluster that is still thin promotes a child after 20 s,
/// which then connects; counts of branches climb to the center, a level each 3 s, and greetings grow rare.
const QUIET: u64 = 25_000_000;
/// Where tables go on improving after that, as fingers do, T = 0 is when they all stand, but no later than
/// so long after.
const CALM: u64 = 30_000_000;
/// The end may fall into a promotion, or a link's loss: what just happened is known by so much later.
const NEWS: u64 = 2_000_000;
/// How long invariants may take to hold again after the last fault.
const HEALING: u64 = 60_000_000;
/// Peers up to which healing is looked for twice a second; in larger worlds once, as a look costs.
const WATCHED: u32 = 2_000;
/// Peers up to which every upkeep frame is weighed; in larger worlds one of 32 is.
const WEIGHED: u32 = 10_000;

/// Peers that a newcomer may be told of before one is found that it can reach.
const MAX_DRAWS: usize = 100;

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
    mishaps: Vec<Mishap>,
    /// First handle that no life has: those of peers who come with a mishap.
    crowd: u32,
    /// T = 0.
    start: u64,
    play: Option<Play>,
    findings: Findings,
    healed: Option<u64>,
    recovery: Recovery,
    upkeep: Upkeep,
}

impl<'a, O: Lab> Story<'a, O> {
    fn new(scenario: &'a Scenario, lives: &Lives) -> Result<Self, RunError> {
        let mishaps = Mishap::all(scenario)?;
        // One more, for canaries: a ghost, or a late newcomer.
        let count = lives.handles + mishaps.iter().map(Mishap::newcomers).sum::<u32>() + 1;
        let seed = scenario.seed;
        let terrain = Terrain::new(&scenario.latency, count, mix(seed ^ 1))?;
        let weather = Weather {
            jitter: (scenario.jitter * 65_536.0) as u64,
            loss: share(scenario.loss),
            one_way: share(scenario.one_way),
            private: share(scenario.private),
            ..Weather::calm(mix(seed ^ 2), terrain)
        };
        let keys = Keys::drawn(mix(seed ^ 3), count, scenario.real_keys)
            .founded_by(u32::from(scenario.networks));
        let common = Common {
            seed: mix(seed ^ 4),
            has_labels: scenario.policy == Policy::Labelled,
            upload: scenario.upload,
            download: scenario.download,
            weighed: if scenario.peers <= WEIGHED { 1 } else { 32 },
            canary: scenario.canary,
            ..Common::quiet(keys, weather, O::config(scenario))
        };
        let threads = scenario.crew();
        let mut world = World::new(common, threads);
        world.now = START;
        Ok(Self {
            scenario,
            world,
            threads,
            mishaps,
            crowd: lives.handles,
            start: START,
            play: None,
            findings: Findings::default(),
            healed: None,
            recovery: Recovery::default(),
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
        if !matches!(self.scenario.canary, Some(Canary::RepairOff)) {
            let networks = u32::from(self.scenario.networks);
            let findings = self.settled(networks, meter);
            self.findings.add(findings);
        }
        self.start = self.world.now;
        let end = self.start + (self.scenario.duration * 1e6) as u64;
        self.world.common.measured = self.start..end;
    }

    /// The first check: what is just being mended has its time, as at the end.
    fn settled(&mut self, networks: u32, meter: &mut Meter<'_>) -> Findings {
        let late = self.world.now + CALM;
        let is_true = self.scenario.canary.is_none();
        let mut findings = self.world.check_apart(networks);
        while is_true && findings.violated > 0 && self.world.now < late {
            self.step(SLICE / 2, None, meter);
            findings = self.world.check_apart(networks);
        }
        findings
    }

    /// Peers join through the protocol, faster the more there are, each through two that have been
    /// there for a while.
    fn grow(&mut self, count: u32, meter: &mut Meter<'_>) {
        let mut random = ringweave_ids::Random::new(mix(self.scenario.seed ^ 5));
        let mut at = START as f64;
        let networks = u32::from(self.scenario.networks);
        let anchors = u32::from(self.scenario.anchors);
        if networks > 1 {
            self.keep_apart(networks);
        }
        for peer in 0..count {
            let known = (peer / networks) as usize / 2;
            let contacts = if peer < networks {
                Vec::new()
            } else {
                let mut draw = || {
                    let known = random.below(known + 1).min(known) as u32;
                    known * networks + peer % networks
                };
                // Who can reach nobody that it was told of is in no network.
                let weather = &self.world.common.weather;
                let mut reach = |_| {
                    let mut draws = (0..MAX_DRAWS).map(|_| draw());
                    draws.find(|known| weather.can_dial(peer, *known))
                };
                let mut told: Vec<u32> = (0..2).filter_map(&mut reach).collect();
                let is_untold = |anchor: &u32| *anchor < peer && !told.contains(anchor);
                let anchors: Vec<u32> = (0..anchors).filter(is_untold).collect();
                told.extend(anchors);
                told
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
        // Where two cannot connect, what one knows comes to the other by the hellos of others.
        let has_dead_pairs = self.world.common.weather.has_dead_pairs();
        self.step(if has_dead_pairs { 3 * QUIET } else { QUIET }, None, meter);
    }

    /// Nobody of one network reaches anybody of another, until they meet.
    fn keep_apart(&mut self, networks: u32) {
        let peers = 0..self.world.count();
        let sides = peers.map(|peer| (peer % networks) as u8).collect();
        self.world.common.weather.cuts.push(Cut {
            from: 0,
            until: u64::MAX,
            between: Between::Sides(sides),
        });
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
        let mishaps = std::mem::take(&mut self.mishaps);
        let mut play = Play::new(
            self.scenario,
            self.start,
            &lives.lives,
            mishaps,
            self.crowd,
            seed,
        );
        let end = self.world.common.measured.end;
        let mut is_measured = false;
        let scenario = self.scenario;
        let is_rough = scenario.loss + scenario.one_way + scenario.private > 0.0;
        loop {
            let until = play.pause(self.world.now);
            if is_rough || play.strikes(self.world.now) {
                self.recovery.begin(&self.world);
            }
            play.plan(&mut self.world, until);
            if play.is_over(self.world.now) {
                break;
            }
            self.pass(until, &play, meter);
            if !is_measured && self.world.now >= end {
                is_measured = true;
                for tally in self.world.tallies() {
                    self.upkeep.messages += tally.upkeep.messages;
                    self.upkeep.bytes += tally.upkeep.bytes;
                    self.upkeep.weighed += tally.upkeep.weighed;
                }
            }
        }
        self.play = Some(play);
    }

    /// Lets the world go on, and looks at it in between.
    fn pass(&mut self, until: u64, play: &Play, meter: &mut Meter<'_>) {
        let is_watched = self.world.count() <= WATCHED;
        let look = if is_watched { SLICE / 2 } else { SLICE };
        while self.world.now < until {
            let next = until.min(self.world.now + look);
            self.run(next, Some(self.start), meter);
            self.recovery.survey(&self.world);
            self.watch_healing(play);
        }
    }

    /// Notes when routes are whole and when the invariants hold again after the last fault.
    fn watch_healing(&mut self, play: &Play) {
        let now = self.world.now;
        let is_due = play.trouble.is_some_and(|trouble| now >= trouble) && play.has_no_mishaps();
        if !is_due || self.healed.is_some() {
            return;
        }
        self.recovery.try_routes(&self.world);
        if self.world.check().violated == 0 {
            self.healed = Some(now);
        }
    }

    /// Time to heal after faults, and the last check.
    fn heal(&mut self, meter: &mut Meter<'_>) {
        let Some(play) = self.play.take() else { return };
        if let Some(trouble) = play.trouble {
            while self.healed.is_none() && self.world.now < trouble + HEALING {
                self.pass(self.world.now + SLICE, &play, meter);
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
        let mut findings = self.world.check();
        let late = self.world.now + NEWS;
        let is_true = self.scenario.canary.is_none();
        while is_true && findings.violated > 0 && self.world.now < late {
            self.step(SLICE / 2, Some(self.start), meter);
            findings = self.world.check();
        }
        if self.scenario.has_only_crashes() {
            self.recovery.check(&self.world, &mut findings);
        }
        self.findings.add(findings);
    }

    fn report(self) -> Outcome {
        let scenario = self.scenario;
        let start = scenario.bootstrap == Bootstrap::Grown;
        let play = self
            .play
            .unwrap_or_else(|| unreachable!("a run plays before it reports"));
        Account {
            scenario,
            world: self.world,
            threads: self.threads,
            bootstrap_s: start.then(|| (self.start - START) as f64 / 1e6),
            healed_s: self
                .healed
                .zip(play.trouble)
                .map(|(at, since)| at.saturating_sub(since) as f64 / 1e6),
            play,
            recovery: self.recovery,
            findings: self.findings,
            upkeep: self.upkeep,
        }
        .outcome()
    }
}
