//! `sim walk`: ways over ready tables, without time.

use ringweave_sim::{Bootstrap, RunError, Scenario, Walk, walk};

use super::{cli::WalkArgs, set, table};
use crate::{exit::Problem, print};

/// Walks them and prints what that came to.
///
/// # Errors
/// If the settings make no sense.
pub(super) fn run(args: &WalkArgs, is_json: bool) -> Result<(), Problem> {
    let mut scenario = Scenario {
        bootstrap: Bootstrap::Built,
        ..Scenario::default()
    };
    set(&mut scenario, &args.shape.0)?;
    let walked = walk(&Walk {
        scenario,
        paths: args.paths,
        targets: args.targets,
        dead: args.dead,
        repair: args.repair,
    });
    let walked = walked.map_err(|error| match error {
        RunError::Setting { field, problem } => {
            Problem::usage(format!("--{}: {problem}", field.replace('_', "-")))
        }
        other => Problem::usage(other),
    })?;
    if is_json {
        print::json(&walked)
    } else {
        print::line(table::walks(&walked).trim_end())
    }
}
