//! `sim run`: one world.

use super::{cli::RunArgs, table, verdict, watch::Watch, whole_world};
use crate::{exit::Problem, print};

/// Runs it and prints the report.
///
/// # Errors
/// If the settings make no sense, or an invariant was violated.
pub(super) fn run(args: &RunArgs, is_json: bool) -> Result<(), Problem> {
    let scenario = whole_world(&args.world)?;
    let watch = Watch::new(is_json, "");
    let outcome = watch.run(&scenario)?;
    if is_json {
        print::json(&outcome.report)?;
    } else {
        print::line(table::one(&outcome.report).trim_end())?;
        if outcome.report.invariants.violated == 0 {
            print::line(format!("\nreplay:  {}", scenario.command()))?;
        }
    }
    verdict(&[(&scenario, &outcome)])
}
