//! A polyring that does not break: each file of `scenarios/healing` is something that once went wrong,
//! and a bound on how soon it must be right again.
//!
//! As a test among others, small worlds on a few seeds. `just healing` runs the worlds of the files
//! themselves, on twenty seeds:
//!
//! ```text
//! HEALING_SEEDS=1-20 cargo test --release -p ringweave-sim --test healing -- --nocapture
//! ```
//!
//! `HEALING_ONLY=center,halves` runs these alone; `just healing 1-3 center,halves` both.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    env, fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    sync::mpsc,
    thread,
};

use ringweave_sim::{Churn, Fault, FaultKind, Report, Rule, Scenario, run};

/// Who goes without a rule fails where it matters: a check that passes would be blind.
/// The last seed is larger where a small world gets by without the rule on some.
const CANARIES: &[(Rule, &str, u64)] = &[
    (Rule::Takeover, "center", 2),
    (Rule::Merge, "halves", 2),
    (Rule::Suspicion, "dead-mates", 2),
    (Rule::Patience, "flapping-split", 2),
    (Rule::Memory, "halves-churn-1-min", 8),
    (Rule::Repair, "storm", 2),
];

/// Seeds of the small worlds.
const FEW: RangeInclusive<u64> = 1..=2;
/// Peers of a small world, in rings of four: three levels.
const SMALL: u32 = 80;
/// The same where they come and go: of 80, on some seeds, nobody does, or all who live through a split are
/// on one side, and nothing that is remembered leads to the other.
const RESTLESS: u32 = 200;
/// Newcomers of a flash crowd in a small world.
const CROWD: u32 = 120;
/// Seconds of a small world.
const SHORT: f64 = 500.0;
/// Promotions that a small world may come to, by those that the file allows: it has fewer clusters and
/// splits. Measured: 0.15 to 0.24 a peer with patience, 0.31 to 0.39 without; 0.41 and 0.52 in full.
const PROMOTIONS: f64 = 0.6;
/// Messages in a small world.
const LOOKUPS: u64 = 1_000;

/// One run: of which scenario, and in which world.
#[derive(Clone)]
struct Trial {
    name: String,
    scenario: Scenario,
}

/// What a run came to.
struct Result {
    seed: u64,
    report: Report,
    /// What did not hold, in words; nothing if all did.
    wrong: Vec<String>,
    command: String,
}

#[test]
fn what_went_wrong_once_heals() {
    let trials: Vec<_> = suite().into_iter().flat_map(on_seeds).collect();
    judge(&trials);
}

#[test]
fn every_rule_has_the_scenario_that_fails_without_it() {
    for (_, name, _) in CANARIES {
        let is_there = files().iter().any(|file| name_of(file) == *name);
        assert!(is_there, "there is no {name}.toml");
    }
}

#[test]
fn what_a_rule_is_for_fails_without_it() {
    let all: BTreeMap<_, _> = suite()
        .into_iter()
        .map(|it| (it.name.clone(), it))
        .collect();
    let mut trials = Vec::new();
    for (rule, name, last) in CANARIES {
        let Some(trial) = all.get(*name) else {
            continue;
        };
        let mut trial = trial.clone();
        trial.name = canary(*rule, name);
        trial.scenario.without = Some(*rule);
        trials.extend(on_these(trial, 1..=*last));
    }
    let results = play(&trials);
    let mut problems = Vec::new();
    eprintln!("{HEADING}");
    for (name, results) in &results {
        let is_bitten = results.iter().any(|result| !result.wrong.is_empty());
        eprintln!("{}", line(name, results));
        if !is_bitten {
            let command = &results[0].command;
            problems.push(format!(
                "{name} passes: the rule is not missed\n  {command}"
            ));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// The name of the trial that goes without a rule.
fn canary(rule: Rule, name: &str) -> String {
    format!("{name} without {rule}")
}

/// Runs all, tells how each went, and holds that to what is known.
fn judge(trials: &[Trial]) {
    let results = play(trials);
    let mut problems = Vec::new();
    eprintln!("{HEADING}");
    for (name, results) in &results {
        eprintln!("{}", line(name, results));
        let bad = results.iter().filter(|result| !result.wrong.is_empty());
        for result in bad {
            let wrong = result.wrong.join("\n    ");
            problems.push(format!("{name}:\n    {wrong}\n  {}", result.command));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// What stands above the lines of a table.
const HEADING: &str = "median/worst                       passed         heal s       routes s  \
                       renumbered %    promotions %   removed";

fn passed(results: &[Result]) -> usize {
    let passed = results.iter().filter(|result| result.wrong.is_empty());
    passed.count()
}

fn line(name: &str, results: &[Result]) -> String {
    let figures = |of: fn(&Report) -> Option<f64>| {
        let mut all: Vec<_> = results
            .iter()
            .map(|result| of(&result.report).unwrap_or(f64::INFINITY))
            .collect();
        all.sort_by(f64::total_cmp);
        let (median, worst) = (all[(all.len() - 1) / 2], all[all.len() - 1]);
        let text = |figure: f64| match figure.is_finite() {
            true => format!("{figure:.1}"),
            false => "-".to_owned(),
        };
        format!("{}/{}", text(median), text(worst))
    };
    let [heal, routes, renumbered, promotions, removed] = [
        figures(|report| report.heal_s),
        figures(|report| report.healing?.routes_s),
        figures(|report| report.healing?.renumbered.map(|share| 100.0 * share)),
        figures(|report| report.healing?.promotions.map(|share| 100.0 * share)),
        figures(|report| report.healing?.removed.map(|count| count as f64)),
    ];
    let passed = format!("{}/{}", passed(results), results.len());
    format!(
        "{name:34} {passed:>6}  {heal:>13}  {routes:>13}  {renumbered:>12}  {promotions:>13}  {removed:>8}"
    )
}

/// All runs, as many at once as there are cores; results by scenario, in order of seed.
fn play(trials: &[Trial]) -> BTreeMap<String, Vec<Result>> {
    let next = AtomicUsize::new(0);
    let (done, results) = mpsc::channel();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                while let Some(trial) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                    done.send((trial.name.clone(), outcome(&trial.scenario)))
                        .unwrap();
                }
            });
        }
    });
    drop(done);
    let mut all: BTreeMap<String, Vec<Result>> = BTreeMap::new();
    for (name, result) in results {
        all.entry(name).or_default().push(result);
    }
    let order = |results: &mut Vec<Result>| results.sort_by_key(|result| result.seed);
    all.values_mut().for_each(order);
    all
}

fn outcome(scenario: &Scenario) -> Result {
    let outcome = run(scenario, &mut |_| {}).unwrap();
    let mut wrong = scenario.missed(&outcome.report);
    wrong.extend(outcome.violations.into_iter().take(5));
    Result {
        seed: scenario.seed,
        report: outcome.report,
        wrong,
        command: scenario.command(),
    }
}

/// The scenarios of the folder, as they are or small.
fn suite() -> Vec<Trial> {
    let only = env::var("HEALING_ONLY").unwrap_or_default();
    let only: Vec<_> = only.split(',').filter(|name| !name.is_empty()).collect();
    let mut trials = Vec::new();
    for name in &only {
        let is_there = files().iter().any(|file| name_of(file) == *name);
        assert!(is_there, "HEALING_ONLY: there is no {name}.toml");
    }
    for file in files() {
        let name = name_of(&file).to_owned();
        if !only.is_empty() && !only.contains(&name.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let scenario = Scenario::from_toml(&text, &file);
        let mut scenario = scenario.unwrap_or_else(|error| panic!("{error}"));
        if seeds().is_none() {
            shrink(&mut scenario);
        }
        let fits = scenario.check();
        fits.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        scenario.threads = Some(1);
        trials.push(Trial { name, scenario });
    }
    trials
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/healing");
    let files = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// The name of a scenario: its file's.
fn name_of(file: &Path) -> &str {
    file.file_stem().unwrap().to_str().unwrap()
}

fn on_seeds(trial: Trial) -> impl Iterator<Item = Trial> {
    on_these(trial, FEW)
}

/// On the seeds that were asked for, or else on these.
fn on_these(trial: Trial, usual: RangeInclusive<u64>) -> impl Iterator<Item = Trial> {
    seeds().or_else(few).unwrap_or(usual).map(move |seed| {
        let mut trial = trial.clone();
        trial.scenario.seed = seed;
        trial
    })
}

/// The seeds that were asked for: then the worlds are as large as their files say.
fn seeds() -> Option<RangeInclusive<u64>> {
    range("HEALING_SEEDS")
}

/// The seeds of small worlds that were asked for.
fn few() -> Option<RangeInclusive<u64>> {
    range("HEALING_FEW")
}

/// `3` or `1-20`.
fn range(variable: &str) -> Option<RangeInclusive<u64>> {
    let text = env::var(variable).ok()?;
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    Some(first.parse().unwrap()..=last.parse().unwrap())
}

/// Whether peers come and go for several sessions' time.
fn is_outlived(fault: &Fault) -> bool {
    let FaultKind::Churn(law, length) = &fault.kind else {
        return false;
    };
    match law {
        Churn::Exponential { mean_s: session }
        | Churn::Weibull {
            median_s: session, ..
        } => *length >= 3.0 * session,
        Churn::None | Churn::File(_) => false,
    }
}

/// The same story in a world that a test can afford.
fn shrink(scenario: &mut Scenario) {
    let is_restless = scenario.churn != Churn::None || scenario.faults.iter().any(is_outlived);
    let small = if is_restless { RESTLESS } else { SMALL };
    scenario.peers = scenario.peers.min(small);
    scenario.ring_size = Some(4);
    scenario.duration = scenario.duration.min(SHORT);
    scenario.lookups = scenario.lookups.min(LOOKUPS);
    for expectation in &mut scenario.expect {
        if expectation.name() == "promotions" {
            let bound = expectation.bound() * PROMOTIONS;
            *expectation = format!("promotions={bound}").parse().unwrap();
        }
    }
    for fault in &mut scenario.faults {
        if let FaultKind::FlashCrowd(peers, _) = &mut fault.kind {
            *peers = (*peers).min(CROWD / fault.repeat.map_or(1, |repeat| repeat.times));
        }
        if let Some(repeat) = &mut fault.repeat {
            let room = (scenario.duration - fault.at) / repeat.every;
            repeat.times = repeat.times.min(room as u32);
        }
    }
}
