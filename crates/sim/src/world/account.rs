//! What a run came to: counts of all parts, a survey of everyone, the fates of messages, as a report.

use ringweave_node::Counters;

use super::{
    World,
    check::Findings,
    lab::Lab,
    mix,
    play::{Play, Sent, Spread},
    recovery::Recovery,
    tally::{self, Upkeep},
};
use crate::{
    Broadcast, Invariants, Keys, Level, Outcome, Quantiles, Records, Report, Scenario, Series,
    State, Stretch, measure,
};

/// Places kept for a picture.
const PICTURED: usize = 2_000;
/// Points of a curve.
const POINTS: usize = 200;

/// Everything that a report is made of.
pub(crate) struct Account<'a, O: Lab> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) world: World<O>,
    pub(crate) threads: u16,
    pub(crate) bootstrap_s: Option<f64>,
    pub(crate) healed_s: Option<f64>,
    pub(crate) recovery: Recovery,
    pub(crate) play: Play,
    pub(crate) findings: Findings,
    pub(crate) upkeep: Upkeep,
}

/// Counts of all parts of the world.
#[derive(Default)]
struct Sums {
    events: u64,
    digest: u64,
    counters: Counters,
    /// When the first broadcast came to each peer.
    reach: Vec<u64>,
    /// When each broadcast came to its last peer.
    lasts: Vec<u64>,
    answered: u64,
    found: u64,
    /// Times that an application was handed a broadcast which it had, and one of them.
    doubled: u64,
    double: Option<(u32, u64)>,
}

/// What is seen of everyone at the end.
#[derive(Default)]
struct Survey {
    peers: u64,
    digest: u64,
    counters: Counters,
    /// Copies of application messages that each peer handed on.
    forwarded: Vec<u64>,
    contacts: u64,
    contacts_max: u64,
    known: u64,
    levels: Vec<Level>,
    places: Vec<Vec<u32>>,
}

/// The fates of messages.
struct Fates {
    sent: u64,
    delivered: u64,
    hops: Vec<f64>,
    latencies: Vec<f64>,
    stretches: Vec<f64>,
}

impl<O: Lab> Account<'_, O> {
    /// The report and its curves; times and memory of the process are left to fill in.
    pub(crate) fn outcome(mut self) -> Outcome {
        let mut sums = self.sums();
        let mut survey = self.survey();
        tally::add(&mut sums.counters, &survey.counters);
        let mut fates = self.fates();
        let broadcast = self.broadcasts(&sums);
        self.check(&sums, broadcast.as_ref());
        let latency_ms = measure::quantiles(&mut fates.latencies);
        let series = self.series(&mut sums, &mut survey, &fates);
        let (scenario, play) = (self.scenario, &self.play);
        let has_messages = scenario.lookups > 0 || scenario.multicasts > 0;
        let each = |sum: u64| sum as f64 / (survey.peers as f64).max(1.0);
        let digest = sums.digest.wrapping_add(survey.digest);
        let report = Report {
            topology: O::NAME.into(),
            peers: scenario.peers,
            seed: scenario.seed,
            threads: self.threads,
            digest: format!("{digest:016x}"),
            bootstrap_s: self.bootstrap_s,
            simulated_s: scenario.duration,
            hops: measure::quantiles(&mut fates.hops),
            latency_ms,
            stretch: measure::quantiles(&mut fates.stretches).map(stretch),
            sent: has_messages.then_some(fates.sent),
            delivered: has_messages.then_some(fates.delivered),
            lost: has_messages.then_some(fates.sent - fates.delivered),
            misdelivered: has_messages.then_some(play.misdelivered),
            broadcast,
            state: State {
                contacts_mean: each(survey.contacts),
                contacts_max: survey.contacts_max,
                known_mean: Some(each(survey.known)),
                bytes_mean: measure::memory().map(|(now, _)| each(now)),
            },
            upkeep: self.upkeep(),
            load: measure::load(&mut survey.forwarded),
            levels: survey.levels,
            keys: (play.asked_keys > 0).then_some(Keys {
                asked: play.asked_keys,
                answered: sums.answered,
                found: sums.found,
            }),
            records: self.records(),
            invariants: Invariants {
                checked: self.findings.checked,
                violated: self.findings.violated,
            },
            heal_s: self.healed_s,
            healing: self.recovery.healing(&self.world, play.trouble),
            events: sums.events,
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

    fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for part in self.world.tallies() {
            sums.events += part.events;
            sums.digest = sums.digest.wrapping_add(part.digest);
            tally::add(&mut sums.counters, &part.buried);
            sums.reach.extend_from_slice(&part.reach);
            sums.lasts
                .resize(sums.lasts.len().max(part.spreads.len()), 0);
            for (last, at) in sums.lasts.iter_mut().zip(&part.spreads) {
                *last = (*last).max(*at);
            }
            sums.answered += part.answers.0;
            sums.found += part.answers.1;
            sums.doubled += part.doubled;
            sums.double = sums.double.or(part.double);
        }
        sums
    }

    fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        let (mut table, mut known) = (Vec::new(), Vec::new());
        for (peer, actor) in self.world.actors() {
            let Some(node) = actor.node() else { continue };
            let counters = actor.counters();
            tally::add(&mut survey.counters, &counters);
            survey.forwarded.push(counters.forwarded);
            table.clear();
            node.neighbours(&mut table);
            survey.contacts += table.len() as u64;
            survey.contacts_max = survey.contacts_max.max(table.len() as u64);
            survey.peers += 1;
            known.clear();
            node.overlay().uses(&mut known);
            known.sort_unstable_by_key(|other| other.0);
            known.dedup();
            survey.known += known.iter().filter(|other| other.0 != peer).count() as u64;
            let Some(address) = node.address() else {
                continue;
            };
            let place = O::coordinates(address);
            let mark = |mark, coordinate: &u32| mix(mark ^ u64::from(*coordinate));
            let mark = place.iter().fold(mix(u64::from(peer)), mark);
            survey.digest = survey.digest.wrapping_add(mark);
            survey.levels.resize(
                survey.levels.len().max(place.len()).max(1),
                Level::default(),
            );
            let level = &mut survey.levels[place.len().saturating_sub(1)];
            level.peers += 1;
            // A sum until everyone was seen.
            level.forwarded_mean += counters.forwarded as f64;
            level.forwarded_max = level.forwarded_max.max(counters.forwarded);
            if !place.is_empty() {
                survey.places.push(place);
            }
        }
        for level in &mut survey.levels {
            level.forwarded_mean /= (level.peers as f64).max(1.0);
        }
        survey
    }

    fn fates(&self) -> Fates {
        let terrain = &self.world.common.weather.terrain;
        let counted = || self.play.sent.iter().filter(|sent| sent.is_counted);
        let mut fates = Fates {
            sent: counted().count() as u64,
            delivered: 0,
            hops: Vec::new(),
            latencies: Vec::new(),
            stretches: Vec::new(),
        };
        for Sent {
            at,
            from,
            to,
            arrived,
            ..
        } in counted()
        {
            let Some((arrived, hops)) = arrived else {
                continue;
            };
            let took = millis(*arrived, *at);
            let direct = f64::from(terrain.delay(from.0, to.0)) / 1e3;
            fates.delivered += 1;
            fates.hops.push(f64::from(*hops));
            fates.latencies.push(took);
            fates.stretches.push(took / direct);
        }
        fates
    }

    fn broadcasts(&self, sums: &Sums) -> Option<Broadcast> {
        let spreads = &self.play.spreads;
        let last = |(spread, last): (&Spread, &u64)| millis(*last, spread.at);
        (!spreads.is_empty()).then(|| Broadcast {
            reached: spreads.iter().map(|spread| spread.reached).sum(),
            expected: spreads.iter().map(|spread| spread.expected).sum(),
            transmissions: sums.counters.spread,
            duplicates: sums.counters.spread_twice,
            repaired: sums.counters.repaired,
            late: sums.counters.late,
            offered: sums.counters.offered,
            asked: sums.counters.asked,
            last_ms: spreads
                .iter()
                .zip(&sums.lasts)
                .map(last)
                .fold(0.0, f64::max),
        })
    }

    /// What no table shows: at rest a broadcast makes N-1 transmissions and reaches everyone once; and
    /// whatever happens, no message reaches another peer than the one meant, and no application is
    /// handed a broadcast twice in one life.
    fn check(&mut self, sums: &Sums, broadcast: Option<&Broadcast>) {
        let misdelivered = self.play.misdelivered;
        self.findings.check(misdelivered == 0, || {
            format!("{misdelivered} messages reached another peer than the one meant")
        });
        self.findings.check(sums.doubled == 0, || {
            let (peer, number) = sums.double.unwrap_or_default();
            format!(
                "{} times an application was handed a broadcast which it had; peer {peer} was \
                 handed broadcast {number}",
                sums.doubled
            )
        });
        if self.scenario.records > 0 {
            let Records { missing, stale, .. } = self.play.records.figures;
            self.findings.check(missing == 0, || {
                format!(
                    "{missing} reads of records that had been kept were told that there is nothing"
                )
            });
            self.findings.check(stale == 0, || {
                format!("{stale} reads found an older value than had been kept")
            });
        }
        let is_at_rest = self.play.trouble.is_none() && !self.world.common.weather.has_dead_pairs();
        let Some(broadcast) = broadcast.filter(|_| is_at_rest) else {
            return;
        };
        let Broadcast {
            reached,
            expected,
            transmissions,
            duplicates,
            ..
        } = *broadcast;
        let begun = self.play.spreads.iter().filter(|spread| spread.is_begun);
        let wanted = expected - begun.count() as u64;
        let is_once = (transmissions, duplicates) == (wanted, 0);
        // The first broadcasts of a topology without structure find the tree of those that follow.
        let holds = reached == expected && (is_once || !O::IS_STRUCTURED);
        self.findings.check(holds, || {
            format!(
                "broadcasts at rest reached {reached} of {expected} peers with {transmissions} \
                 transmissions, {duplicates} of them in vain"
            )
        });
    }

    fn records(&self) -> Option<Records> {
        let mut traffic = Upkeep::default();
        for part in self.world.tallies() {
            traffic.messages += part.traffic.messages;
            traffic.bytes += part.traffic.bytes;
            traffic.weighed += part.traffic.weighed;
        }
        let figures = self.play.records.figures;
        let each = self.each_second(traffic).unwrap_or_default();
        (self.scenario.records > 0).then_some(Records {
            messages_per_s: each.messages_per_s,
            bytes_per_s: each.bytes_per_s,
            ..figures
        })
    }

    fn upkeep(&self) -> Option<crate::Upkeep> {
        self.each_second(self.upkeep)
    }

    fn each_second(&self, counts: Upkeep) -> Option<crate::Upkeep> {
        let Upkeep {
            messages,
            bytes,
            weighed,
        } = counts;
        let span = self.scenario.duration * f64::from(self.scenario.peers);
        let messages_per_s = messages as f64 / span;
        let bytes_each = bytes as f64 / (weighed as f64).max(1.0);
        (span > 0.0).then_some(crate::Upkeep {
            messages_per_s,
            bytes_per_s: messages_per_s * bytes_each,
        })
    }

    fn series(&self, sums: &mut Sums, survey: &mut Survey, fates: &Fates) -> Series {
        let mut series = Series::default();
        for hops in &fates.hops {
            let place = *hops as usize;
            series.hops.resize(series.hops.len().max(place + 1), 0);
            series.hops[place] += 1;
        }
        if !fates.latencies.is_empty() {
            let at = |percent: u32| measure::quantile(&fates.latencies, f64::from(percent) / 100.0);
            series.latency_ms = (0..=100).map(at).collect();
        }
        let start = self.play.spreads.first().map_or(0, |spread| spread.at);
        series.reach = curve(&mut sums.reach, start);
        // The shallow ones first, so that a cut picture is still a tree.
        survey
            .places
            .sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        survey.places.truncate(PICTURED);
        series.places = std::mem::take(&mut survey.places);
        series
    }
}

fn stretch(figures: Quantiles) -> Stretch {
    Stretch {
        p50: figures.p50,
        p95: figures.p95,
    }
}

/// Milliseconds from one moment of the world to another.
fn millis(until: u64, since: u64) -> f64 {
    until.saturating_sub(since) as f64 / 1e3
}

/// Arrivals as a curve: milliseconds since the start, peers so far, the origin counted from the start.
fn curve(arrivals: &mut [u64], start: u64) -> Vec<(f64, u64)> {
    if arrivals.is_empty() {
        return Vec::new();
    }
    arrivals.sort_unstable();
    let (step, last) = ((arrivals.len() / POINTS).max(1), arrivals.len() - 1);
    let kept = arrivals
        .iter()
        .enumerate()
        .filter(|(index, _)| index % step == 0 || *index == last);
    let points = kept.map(|(index, at)| (millis(*at, start), index as u64 + 2));
    std::iter::once((0.0, 1)).chain(points).collect()
}
