//! `sim run`: one world.

use super::{cli::RunArgs, is_fine, table, verdict, watch::Watch, whole_world};
use crate::{exit::Problem, print};

/// Runs it and prints the report.
///
/// # Errors
/// If the settings make no sense, an invariant was violated, or an expectation missed.
pub(super) fn run(args: &RunArgs, is_json: bool) -> Result<(), Problem> {
    let scenario = whole_world(&args.world)?;
    let watch = Watch::new(is_json, "");
    let outcome = watch.run(&scenario)?;
    if is_json {
        print::json(&outcome.report)?;
    } else {
        print::line(table::one(&outcome.report).trim_end())?;
        if is_fine(&scenario, &outcome.report) {
            print::line(format!("\nreplay:  {}", scenario.command()))?;
        }
    }
    verdict(&[(&scenario, &outcome)])
}
