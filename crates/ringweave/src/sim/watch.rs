//! A bar on standard error, where a person watches a run.

use std::{
    fs,
    io::{self, IsTerminal as _},
    time::Instant,
};

use indicatif::{ProgressBar, ProgressStyle};
use ringweave_sim::{Outcome, Progress, Scenario};

use super::table::{bytes, count};
use crate::exit::Problem;

/// Steps of the bar from beginning to end.
const STEPS: u64 = 1_000;

/// How a run goes on, for whoever watches.
pub(super) struct Watch {
    bar: ProgressBar,
    what: String,
    began: Instant,
}

impl Watch {
    /// `what` stands before the figures; empty for nothing.
    pub(super) fn new(is_json: bool, what: impl Into<String>) -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}%");
        let bar = bar(is_json, STEPS);
        bar.set_style(style.expect("the template is well-formed"));
        Self {
            bar,
            what: what.into(),
            began: Instant::now(),
        }
    }

    /// Runs a scenario under this watch.
    ///
    /// # Errors
    /// If it makes no sense.
    pub(super) fn run(&self, scenario: &Scenario) -> Result<Outcome, Problem> {
        let outcome = ringweave_sim::run(scenario, &mut |progress| self.tell(progress));
        self.bar.finish_and_clear();
        outcome.map_err(Problem::usage)
    }

    fn tell(&self, progress: Progress) {
        if self.bar.is_hidden() {
            return;
        }
        let share = progress.share.clamp(0.0, 1.0);
        self.bar.set_position((share * STEPS as f64) as u64);
        let rate = progress.events as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        let memory = memory().map_or_else(|| "-".to_owned(), bytes);
        self.bar.set_message(format!(
            "{}{:.1} s, {} peers, {} events/s, {memory}",
            self.what,
            progress.simulated_s,
            count(u64::from(progress.peers)),
            count(rate as u64),
        ));
    }
}

/// A bar of so many steps; hidden where nobody watches.
pub(super) fn bar(is_json: bool, len: u64) -> ProgressBar {
    if !is_json && io::stderr().is_terminal() {
        ProgressBar::new(len)
    } else {
        ProgressBar::hidden()
    }
}

/// Resident memory of this process in bytes, where the system tells.
fn memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}
