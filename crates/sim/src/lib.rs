//! The laboratory: worlds of simulated peers that run the very code of real ones.
//!
//! One seed makes one world with one digest, on any number of threads. A [`Scenario`] says what the
//! world is like and what happens in it, [`run`] lets it happen, a [`Report`] says what was measured.
//! Nothing here knows sockets or async; the machines are driven through `overlay` and `node` alone.

mod draw;
mod measure;
pub mod page;
mod read;
mod report;
mod scenario;
mod sessions;
mod terrain;
mod walk;
mod world;

pub use read::FileError;
pub use report::{
    Broadcast, Healing, Invariants, Keys, Level, Load, Outcome, Quantiles, Records, Report, Series,
    State, Stretch, Upkeep,
};
pub use scenario::{
    Axis, Bootstrap, Canary, Churn, Expectation, Fault, FaultKind, Fingers, Form, Grid, GridRun,
    Latency, MAX_RUNS, Order, Pairs, Parting, Policy, Repeat, Rule, SETTINGS, Scenario,
    ScenarioError, SetError, Setting, Share, Split, Targets, Topology, Where, Whom, WordError,
    setting,
};
pub use sessions::{Life, Lives};
pub use terrain::Terrain;
pub use walk::{Walk, Walked};
pub use world::{Graph, SearchCost, Twin, TwinPeer};

use ringweave_overlay::{
    chord::Chord, kademlia::Kademlia, pastry::Pastry, polyring::Polyring, star::Star,
    superpeer::Superpeer, tapestry::Tapestry, unstructured::Unstructured,
};
use thiserror::Error;

/// Why a world could not be made or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// A setting that makes no sense, or does not fit another.
    #[error("{field}: {problem}")]
    Setting {
        /// Which setting, by its name in a scenario file.
        field: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A file of measured data that is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Where a run is, for people who watch; told about ten times a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Simulated seconds so far, the bootstrap included.
    pub simulated_s: f64,
    /// Share of the run that is done, as far as it can be told, 0 to 1.
    pub share: f64,
    /// Peers that have a place now.
    pub peers: u32,
    /// Events so far.
    pub events: u64,
}

/// Runs a scenario from its first join to its last check.
///
/// `watch` is called from the running thread.
///
/// # Errors
/// If the scenario makes no sense or a file it names is not what it says.
pub fn run(scenario: &Scenario, watch: &mut dyn FnMut(Progress)) -> Result<Outcome, RunError> {
    match scenario.topology {
        Topology::Polyring => world::run::<Polyring>(scenario, watch),
        Topology::Chord => world::run::<Chord>(scenario, watch),
        Topology::Kademlia => world::run::<Kademlia>(scenario, watch),
        Topology::Pastry => world::run::<Pastry>(scenario, watch),
        Topology::Tapestry => world::run::<Tapestry>(scenario, watch),
        Topology::Unstructured => world::run::<Unstructured>(scenario, watch),
        Topology::Star => world::run::<Star>(scenario, watch),
        Topology::Superpeer => world::run::<Superpeer>(scenario, watch),
    }
}

/// Walks over ready tables, without time.
///
/// # Errors
/// If the settings make no sense.
pub fn walk(walk: &Walk) -> Result<Walked, RunError> {
    match walk.scenario.topology {
        Topology::Polyring => world::walk::<Polyring>(walk),
        Topology::Chord => world::walk::<Chord>(walk),
        Topology::Kademlia => world::walk::<Kademlia>(walk),
        Topology::Pastry => world::walk::<Pastry>(walk),
        Topology::Tapestry => world::walk::<Tapestry>(walk),
        Topology::Unstructured => world::walk::<Unstructured>(walk),
        Topology::Star => world::walk::<Star>(walk),
        Topology::Superpeer => world::walk::<Superpeer>(walk),
    }
}
