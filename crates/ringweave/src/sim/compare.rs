//! `sim compare`: the same world with several settings, one after the other, in one table.

use std::path::Path;

use ringweave_sim::{Axis, Grid, GridRun, Outcome, Report, page};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    check_writable,
    cli::{CompareArgs, WorldArgs},
    settings, table, title, verdict,
    watch::Watch,
    world, write_whole,
};
use crate::{exit::Problem, print};

/// Most runs side by side; more cannot be read as one table.
const MOST: usize = 24;

/// What `--json` prints.
#[derive(Serialize)]
struct Comparison<'a> {
    runs: Vec<Compared<'a>>,
}

/// One run of it.
#[derive(Serialize)]
struct Compared<'a> {
    settings: Map<String, Value>,
    report: &'a Report,
}

/// Runs each setting and prints the table.
///
/// # Errors
/// If settings make no sense, an invariant was violated, or the page cannot be written.
pub(super) fn run(args: &CompareArgs, is_json: bool) -> Result<(), Problem> {
    if let Some(path) = &args.page {
        return fill(path, &args.world, is_json);
    }
    let runs = runs(args)?;
    if let Some(path) = &args.html {
        check_writable(path)?;
    }
    let mut outcomes = Vec::with_capacity(runs.len());
    for (at, run) in runs.iter().enumerate() {
        let what = format!("{} of {}: {}: ", at + 1, runs.len(), title(run));
        let mut outcome = Watch::new(is_json, what).run(&run.scenario)?;
        if at > 0 {
            // The peak of the process may be that of an earlier run.
            outcome.report.peak_rss_bytes = None;
        }
        outcomes.push((title(run), outcome));
    }
    if is_json {
        let pairs = runs.iter().zip(&outcomes);
        let runs = pairs.map(|(run, (_, outcome))| Compared {
            settings: settings(run),
            report: &outcome.report,
        });
        print::json(&Comparison {
            runs: runs.collect(),
        })?;
    } else {
        let named = |(name, outcome): &'_ (String, Outcome)| (name.clone(), outcome.report.clone());
        let reports: Vec<_> = outcomes.iter().map(named).collect();
        let columns: Vec<_> = reports
            .iter()
            .map(|(name, report)| (name.clone(), report))
            .collect();
        print::line(table::several(&columns).trim_end())?;
    }
    if let Some(path) = &args.html {
        let name = format!("Ringweave: {}", args.vary.join(" "));
        write_whole(path, &page::render(&name, &outcomes))?;
    }
    let pairs = runs.iter().zip(&outcomes);
    let judged: Vec<_> = pairs
        .map(|(run, (_, outcome))| (&run.scenario, outcome))
        .collect();
    verdict(&judged)
}

/// Fills in a page from results; a world has no part in that.
fn fill(path: &Path, world: &WorldArgs, is_json: bool) -> Result<(), Problem> {
    if world.is_given() {
        return Err(Problem::usage(
            "--page runs nothing; settings stand in the study whose results it shows",
        ));
    }
    super::page::run(path, is_json)
}

/// The runs that the words ask for, checked.
fn runs(args: &CompareArgs) -> Result<Vec<GridRun>, Problem> {
    let mut grid = Grid {
        base: world(&args.world)?,
        axes: Vec::new(),
    };
    let mut names = Vec::new();
    for text in &args.vary {
        let wrong = |problem: String| Problem::usage(format!("--vary {text}: {problem}"));
        let (key, values) = text
            .split_once('=')
            .ok_or_else(|| wrong("write KEY=V1,V2, like policy=balanced,nearest".into()))?;
        let key = key.replace('-', "_");
        if names.contains(&key) {
            return Err(wrong("this setting is varied twice".into()));
        }
        let values: Vec<_> = values.split(',').map(str::to_owned).collect();
        let axis = Axis::new(&key, &values, Path::new(""));
        grid.axes
            .push(axis.map_err(|error| wrong(error.to_string()))?);
        names.push(key);
    }
    if grid.size().is_none_or(|size| size > MOST) {
        return Err(Problem::usage(format!(
            "a comparison has at most {MOST} runs; for more there is `ringweave sim sweep`"
        )));
    }
    let runs = grid.runs().map_err(Problem::usage)?;
    for run in &runs {
        let fits = run.scenario.check();
        fits.map_err(|error| Problem::usage(format!("{}: {error}", title(run))))?;
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use ringweave_sim::setting;

    use super::*;
    use crate::sim::flags::Given;

    fn compared(vary: &[&str]) -> Result<Vec<GridRun>, Problem> {
        let given = Given(vec![(setting("peers").unwrap(), "50".to_owned())]);
        runs(&CompareArgs {
            vary: vary.iter().map(|&text| text.to_owned()).collect(),
            html: None,
            page: None,
            world: WorldArgs {
                given,
                ..WorldArgs::default()
            },
        })
    }

    #[test]
    fn every_crossing_is_run_on_the_same_world() {
        let runs = compared(&["policy=balanced,nearest", "ring-size=8,16,none"]).unwrap();
        assert_eq!(runs.len(), 6);
        assert!(runs.iter().all(|run| run.scenario.peers == 50));
        assert_eq!(title(&runs[4]), "policy=nearest ring-size=16");
    }

    #[test]
    fn what_cannot_be_varied_is_named() {
        for (vary, said) in [
            (&["policy"][..], "write KEY=V1,V2"),
            (&["polcy=balanced,nearest"], "did you mean policy?"),
            (&["policy=balanced,best"], "\"best\" is no policy"),
            (&["loss=0,0.1", "loss=0.2"], "varied twice"),
            (
                &["seed=1,2,3,4,5", "loss=0,0.1,0.2,0.3,0.4"],
                "at most 24 runs",
            ),
            (
                &["crash=0.1@10,0.1@99"],
                "crash=0.1@99: crash: 99 s is after the end",
            ),
        ] {
            let problem = compared(vary).unwrap_err();
            assert!(problem.to_string().contains(said), "{vary:?}: {problem}");
        }
    }
}
