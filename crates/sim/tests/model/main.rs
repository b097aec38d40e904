//! A model of the polyring, explored with stateright (<https://docs.rs/stateright>): the machines
//! that run in the product, every order of delivery between different pairs of peers, and faults at any
//! moment. `docs/studies/model.md` says what is modelled, what is not, and how much was explored.
//!
//! As a test among others, the small cases. `just model` explores all of them:
//!
//! ```text
//! MODEL_SIZE=full cargo test --release -p ringweave-sim --test model -- --nocapture --test-threads 1
//! ```
//!
//! `MODEL_ONLY=split` explores the cases alone whose names begin so; `MODEL_SEED=2` takes other random
//! walks than the first.

#![allow(clippy::unwrap_used)]

mod cases;
mod host;
mod protocol;
mod whole;
mod world;

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use stateright::{Checker, Expectation, HasDiscoveries, Model as _, UniformChooser};

use crate::{
    cases::{ANYTHING, CANARIES, Case, FIVE, THREE},
    protocol::{Protocol, Step},
};

/// Steps of random walks, and of those among other tests.
const WALKED: usize = 100_000;
const WALKED_SMALL: usize = 10_000;

fn is_full() -> bool {
    env::var("MODEL_SIZE").is_ok_and(|size| size == "full")
}

/// The cases of a list that are asked for.
fn asked(cases: &'static [Case]) -> impl Iterator<Item = &'static Case> {
    let only = env::var("MODEL_ONLY").unwrap_or_default();
    let is_asked = move |case: &&Case| case.name.starts_with(&only);
    cases
        .iter()
        .filter(is_asked)
        .filter(|case| is_full() || case.is_small)
}

/// What a checker found by name: what must not be, with the way there, and what was to be seen.
fn findings(
    case: &Case,
    checker: &impl Checker<Protocol>,
    extent: &str,
    took: Duration,
) -> BTreeMap<&'static str, String> {
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    let depth = checker.max_depth();
    let took = took.as_secs_f64();
    println!(
        "{}: {extent} {states} states, {steps} steps, {depth} deep, {took:.1} s",
        case.name
    );
    let model = checker.model();
    let trace = |(name, path): (&'static str, stateright::Path<_, Step>)| {
        let is_wrong = model.property(name).expectation == Expectation::Always;
        (
            name,
            if is_wrong {
                model.story(path)
            } else {
                String::new()
            },
        )
    };
    checker.discoveries().into_iter().map(trace).collect()
}

/// Explores a case, nearest states first.
fn explore(case: &Case) -> BTreeMap<&'static str, String> {
    let began = Instant::now();
    let checker = case.protocol().checker().target_state_count(case.bound);
    let stop = match case.is_wrong {
        true => HasDiscoveries::AnyFailures,
        false => HasDiscoveries::All,
    };
    let checker = checker.finish_when(stop).spawn_bfs().join();
    let extent = match checker.state_count() >= case.bound || case.is_wrong {
        true => "the first",
        false => "all",
    };
    findings(case, &checker, extent, began.elapsed())
}

/// Walks through a case at random.
fn wander(case: &Case, steps: usize) -> BTreeMap<&'static str, String> {
    let began = Instant::now();
    let seed = env::var("MODEL_SEED").map_or(1, |seed| seed.parse().unwrap());
    let checker = case.protocol().checker().target_state_count(steps);
    let checker = checker.spawn_simulation(seed, UniformChooser).join();
    findings(case, &checker, "at random", began.elapsed())
}

/// Nothing that must not be was found, and all that was to be seen was.
fn assert_right(case: &Case, found: &BTreeMap<&'static str, String>) {
    for (name, story) in found {
        let is_sight = story.is_empty();
        assert!(is_sight, "{}: it is not so that {name}\n{story}", case.name);
    }
    for sight in case.sights {
        assert!(
            found.contains_key(sight),
            "{}: it was not seen that {sight}",
            case.name
        );
    }
}

#[test]
fn three_peers_end_whole_whatever_the_order() {
    for case in asked(THREE) {
        assert_right(case, &explore(case));
    }
}

#[test]
fn five_peers_end_whole_as_far_as_one_looks() {
    for case in asked(FIVE) {
        assert_right(case, &explore(case));
    }
}

#[test]
fn random_ways_end_whole() {
    let steps = if is_full() { WALKED } else { WALKED_SMALL };
    for case in asked(FIVE).chain(asked(ANYTHING)) {
        let mut found = wander(case, steps);
        found.retain(|_, story| !story.is_empty());
        for (name, story) in &found {
            println!("{}: {name}\n{story}", case.name);
        }
        assert!(found.is_empty(), "{}", case.name);
    }
}

/// A check that cannot fail is worth nothing: without a rule, the model must find what it is for.
#[test]
fn without_a_rule_the_model_finds_what_the_rule_is_for() {
    for (case, wrong) in CANARIES {
        let found = explore(case);
        assert!(
            found.contains_key(wrong),
            "{}: {:?}",
            case.name,
            found.keys()
        );
    }
}
