//! What walks over ready tables are made of, and what they measure.

use serde::{Deserialize, Serialize};

use crate::{Quantiles, RunError, Scenario, Targets, Topology};

/// Most paths: each is remembered.
const MAX_PATHS: u32 = 10_000_000;

/// Walks over the ready tables of many peers, completely: the same walk gives the same figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// Topology, peers, seed and the settings of the topology; threads and delays while there is repair.
    /// Nothing else of it is looked at.
    pub scenario: Scenario,
    /// Paths to be walked, from random peers that live, 1 to 10,000,000.
    pub paths: u32,
    /// Where they go.
    pub targets: Targets,
    /// Share of the peers that dies before, all at once, 0 to under 1.
    pub dead: f64,
    /// Simulated seconds that the survivors then have to mend their tables, up to 3,600; with 0 they hear
    /// who is dead, and nobody mends anything.
    pub repair: f64,
}

/// What walks came to. The names of the fields are a contract: scripts read them as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Walked {
    /// The topology's name.
    pub topology: String,
    /// Peers that were there first.
    pub peers: u32,
    /// The seed.
    pub seed: u64,
    /// Those of the peers that died.
    pub dead: u32,
    /// Paths walked.
    pub paths: u64,
    /// Those of them that came where they had to.
    pub arrived: u64,
    /// Paths to keys whose owner died.
    pub lost: u64,
    /// Share of the paths that did not arrive, the lost ones among them.
    pub failed: f64,
    /// Hops of those that arrived; of lookups, the peers asked. Null if none did.
    pub hops: Option<Quantiles>,
    /// Memory of the process by peer once all tables are built; null where the system does not tell.
    pub bytes_mean: Option<f64>,
    /// Processor seconds, of building, dying and walking.
    pub cpu_s: f64,
    /// Seconds from the beginning to the end.
    pub wall_s: f64,
    /// The process's largest resident memory; null where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
}

impl Walk {
    /// Whether each setting is in its range and all fit together.
    ///
    /// # Errors
    /// The first that is not or does not.
    pub fn check(&self) -> Result<(), RunError> {
        self.scenario.check()?;
        let wrong = |field, problem: String| Err(RunError::Setting { field, problem });
        if !(1..=MAX_PATHS).contains(&self.paths) {
            return wrong(
                "paths",
                format!("{} is not between 1 and {MAX_PATHS}", self.paths),
            );
        }
        if !(0.0..1.0).contains(&self.dead) {
            return wrong("dead", format!("{} is no share below 1", self.dead));
        }
        if !(0.0..=3_600.0).contains(&self.repair) {
            return wrong(
                "repair",
                format!("{} is not between 0 and 3600", self.repair),
            );
        }
        let peers = f64::from(self.scenario.peers);
        if peers - (self.dead * peers).round() < 2.0 {
            return wrong("peers", "a path takes two that live".into());
        }
        let only = match self.targets {
            Targets::Peers | Targets::Keys => None,
            Targets::Predecessors => Some(Topology::Chord),
            Targets::Closest => Some(Topology::Kademlia),
        };
        match only.filter(|only| *only != self.scenario.topology) {
            Some(only) => wrong("targets", format!("there are such in {only} alone")),
            None => Ok(()),
        }
    }
}
