//! `sim`: the laboratory on the command line. One world, several side by side, or a whole study.
//!
//! What a world is and what is measured, `ringweave_sim` says; here are the words, the tables, the
//! files and the processes.

mod cli;
mod compare;
mod figures;
mod flags;
mod page;
mod results;
mod run;
mod search;
mod sweep;
mod table;
mod walk;
mod watch;

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use ringweave_api::Word;
use ringweave_sim::{Expectation, Form, GridRun, Outcome, Report, RunError, Scenario, setting};
use serde_json::{Map, Value};

pub(crate) use self::cli::SimCommand;
use self::{cli::WorldArgs, flags::Given};
use crate::exit::Problem;

/// Cap on a scenario or study file; both are far smaller.
const MAX_FILE: u64 = 1024 * 1024;

/// Most violations that are told one by one.
const MAX_TOLD: usize = 10;

/// Does what the command says.
///
/// # Errors
/// If settings or files make no sense, or an invariant was violated.
pub(crate) fn run(command: &SimCommand, is_json: bool) -> Result<(), Problem> {
    match command {
        SimCommand::Run(args) => run::run(args, is_json),
        SimCommand::Compare(args) => compare::run(args, is_json),
        SimCommand::Walk(args) => walk::run(args, is_json),
        SimCommand::Sweep(args) => sweep::run(args, is_json),
        SimCommand::Search(args) => search::run(args, is_json),
    }
}

/// The scenario that the file and the flags say. Whether all of it fits together is not checked yet.
///
/// # Errors
/// The first of them that makes no sense.
fn world(args: &WorldArgs) -> Result<Scenario, Problem> {
    let mut scenario = match &args.scenario {
        Some(file) => Scenario::from_toml(&read_text(file)?, file).map_err(Problem::usage)?,
        None => Scenario::default(),
    };
    set(&mut scenario, &args.given)?;
    for text in &args.faults {
        let fault = text.parse();
        scenario
            .faults
            .push(fault.map_err(|error| Problem::usage(format!("--fault: {error}")))?);
    }
    for text in &args.expect {
        let expectation: Expectation = text
            .parse()
            .map_err(|error| Problem::usage(format!("--expect: {error}")))?;
        scenario
            .expect
            .retain(|each| each.name() != expectation.name());
        scenario.expect.push(expectation);
    }
    Ok(scenario)
}

/// Gives the settings the values of these flags.
///
/// # Errors
/// The first of them that makes no sense.
fn set(scenario: &mut Scenario, given: &Given) -> Result<(), Problem> {
    for (setting, text) in &given.0 {
        let set = setting.set(scenario, text, Path::new(""));
        set.map_err(|error| {
            let flag = setting.name.replace('_', "-");
            Problem::usage(format!("--{flag}: {error}"))
        })?;
    }
    Ok(())
}

/// The same, checked as a whole.
///
/// # Errors
/// The first setting that makes no sense or does not fit the others; one that stands in the file
/// with its line.
fn whole_world(args: &WorldArgs) -> Result<Scenario, Problem> {
    let scenario = world(args)?;
    let Err(error) = scenario.check() else {
        return Ok(scenario);
    };
    let (Some(file), RunError::Setting { field, .. }) = (&args.scenario, &error) else {
        return Err(Problem::usage(error));
    };
    let is_given = args
        .given
        .0
        .iter()
        .any(|(setting, _)| setting.name == *field);
    // Which of several faults it is, a key cannot tell; the message can.
    let line = if is_given || *field == "fault" {
        None
    } else {
        Scenario::line_of(&read_text(file)?, field)
    };
    let place = line.map_or_else(String::new, |line| format!("{}:{line}: ", file.display()));
    Err(Problem::usage(format!("{place}{error}")))
}

/// Tells what these runs violated and missed, each with the command that replays it, on standard error.
///
/// # Errors
/// If there is anything; an object on standard output has said so.
fn verdict(runs: &[(&Scenario, &Outcome)]) -> Result<(), Problem> {
    let (mut checked, mut violated) = (0, 0);
    let (mut expected, mut missed) = (0, 0);
    for (scenario, outcome) in runs {
        let invariants = outcome.report.invariants;
        let misses = scenario.missed(&outcome.report);
        checked += invariants.checked;
        violated += invariants.violated;
        expected += scenario.expect.len();
        missed += misses.len();
        if is_fine(scenario, &outcome.report) {
            continue;
        }
        for violation in outcome.violations.iter().take(MAX_TOLD) {
            eprintln!("violated: {violation}");
        }
        let untold = invariants.violated.saturating_sub(MAX_TOLD as u64);
        if untold > 0 {
            eprintln!("violated: {untold} more");
        }
        for miss in misses {
            eprintln!("missed:   {miss}");
        }
        eprintln!("replay:   {}", scenario.command());
    }
    let mut said = Vec::new();
    if violated > 0 {
        said.push(format!(
            "{violated} of {checked} checks found an invariant violated"
        ));
    }
    if missed > 0 {
        said.push(format!("{missed} of {expected} expectations were missed"));
    }
    if said.is_empty() {
        return Ok(());
    }
    Err(Problem::new(Word::Failed, said.join("; ")).told())
}

/// Whether a run violated no invariant and met what was expected of it.
fn is_fine(scenario: &Scenario, report: &Report) -> bool {
    report.invariants.violated == 0 && scenario.missed(report).is_empty()
}

/// The varied settings of a run as JSON: numbers as numbers, null for what is not set.
fn settings(run: &GridRun) -> Map<String, Value> {
    let value = |name: &str, text: &str| {
        let form = setting(name).map_or(Form::Text, |setting| setting.form);
        match form {
            Form::Text => Value::from(text),
            // What no number has is written `none`.
            Form::Number | Form::Flag => serde_json::from_str(text).unwrap_or(Value::Null),
        }
    };
    run.settings
        .iter()
        .map(|(name, text)| ((*name).to_owned(), value(name, text)))
        .collect()
}

/// The varied settings of a run in one line, as in `policy=nearest seed=3`.
fn title(run: &GridRun) -> String {
    let each = run
        .settings
        .iter()
        .map(|(name, text)| format!("{}={text}", name.replace('_', "-")));
    each.collect::<Vec<_>>().join(" ")
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let file = fs::File::open(path)?;
        if file.take(MAX_FILE + 1).read_to_string(&mut text)? as u64 > MAX_FILE {
            return Err(io::Error::other(format!(
                "it has more than {MAX_FILE} bytes"
            )));
        }
        Ok(text)
    };
    read().map_err(|error| Problem::usage(format!("cannot read {}: {error}", path.display())))
}

/// Writes a file so that it is either the old one or the new one, never a part.
fn write_whole(path: &Path, text: &str) -> Result<(), Problem> {
    let cannot = |error| {
        Problem::new(
            Word::Failed,
            format!("cannot write {}: {error}", path.display()),
        )
    };
    let name = path
        .file_name()
        .ok_or_else(|| Problem::usage(format!("{} is no name of a file", path.display())))?;
    let beside = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let beside = path.with_file_name(beside);
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|error| {
            // Of no use to anyone; that it cannot be removed changes nothing.
            let _ = fs::remove_file(&beside);
            cannot(error)
        })
}

/// Whether a file can be written there, found out before hours are spent on what it shall hold.
fn check_writable(path: &Path) -> Result<(), Problem> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if path.file_name().is_none() || path.is_dir() || !folder.is_dir() {
        return Err(Problem::usage(format!(
            "cannot write {}: its folder is missing, or it is a folder itself",
            path.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ringweave_sim::Grid;

    use super::*;

    #[test]
    fn varied_settings_keep_their_kind_in_json() {
        let text = "[grid]\nring_size = [\"none\"]\nseed = [18446744073709551615]\nloss = [0.1]\n\
                    policy = [\"nearest\"]\nreal_keys = [true]";
        let grid = Grid::from_toml(text, Path::new("study.toml"), Path::new("")).unwrap();
        let run = &grid.runs().unwrap()[0];
        assert_eq!(
            serde_json::to_string(&settings(run)).unwrap(),
            "{\"loss\":0.1,\"policy\":\"nearest\",\"real_keys\":true,\"ring_size\":null,\
             \"seed\":18446744073709551615}"
        );
        assert_eq!(
            title(run),
            "ring-size=none seed=18446744073709551615 loss=0.1 policy=nearest real-keys=true"
        );
    }

    #[test]
    fn a_file_is_written_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        write_whole(&path, "old").unwrap();
        write_whole(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_whole(&folder.path().join("gone/page.html"), "").is_err());
        assert!(check_writable(&folder.path().join("gone/page.html")).is_err());
        assert!(check_writable(folder.path()).is_err());
    }
}
