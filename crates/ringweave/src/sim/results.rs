//! The results of a sweep: a JSON line for each run that ended, in the order they ended.
//!
//! A run is known by the command that replays it. A last line that was cut short by a crash, and
//! lines of runs that failed, are dropped when the sweep goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use ringweave_sim::{GridRun, Report};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::settings;
use crate::exit::Problem;

/// A run that ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    /// What was measured; nothing if the run failed.
    #[serde(flatten)]
    pub(super) report: Option<Report>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// The settings that the study varies.
    pub(super) settings: Map<String, Value>,
    /// The command that replays it, in the folder of the study.
    pub(super) command: String,
}

/// What a file of results holds for a study.
#[derive(Clone, Debug, Default)]
pub(super) struct Results {
    /// The text of all that is kept, line by line.
    pub(super) kept: String,
    /// Whether anything is not kept.
    pub(super) is_torn: bool,
    /// Reports by the commands of their runs.
    pub(super) done: BTreeMap<String, Report>,
}

impl Line {
    /// The line of a run that ended so.
    pub(super) fn new(run: &GridRun, outcome: Result<Report, String>) -> Self {
        let (report, error) = match outcome {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            report,
            error,
            settings: settings(run),
            command: run.scenario.command(),
        }
    }

    /// As it stands in the file.
    pub(super) fn text(&self) -> String {
        let text = serde_json::to_string(self).expect("plain data always serialises into JSON");
        text + "\n"
    }
}

impl Results {
    /// Reads the results of a study; there are none where there is no file.
    ///
    /// # Errors
    /// If the file cannot be read, or is of another study.
    pub(super) fn read(path: &Path, runs: &[GridRun]) -> Result<Self, Problem> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, runs)
                .map_err(|problem| Problem::usage(format!("{}:{problem}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => {
                let problem = format!("cannot read {}: {error}", path.display());
                Err(Problem::usage(problem))
            }
        }
    }

    /// The same from a text; problems begin with the number of the line.
    fn parse(text: &str, runs: &[GridRun]) -> Result<Self, String> {
        let commands: BTreeSet<_> = runs.iter().map(|run| run.scenario.command()).collect();
        let varied: Vec<_> = runs.iter().map(settings).collect();
        let mut results = Self::default();
        for (at, line) in text.split_inclusive('\n').enumerate() {
            let number = at + 1;
            if !line.ends_with('\n') {
                results.is_torn = true;
                break;
            }
            let read: Line = serde_json::from_str(line)
                .map_err(|error| format!("{number}: this is no result of a sweep: {error}"))?;
            let is_ours = commands.contains(&read.command);
            if !is_ours && varied.contains(&read.settings) {
                return Err(format!(
                    "{number}: this is a result of another study, as its command tells; \
                     name another file with --out"
                ));
            }
            match read.report {
                Some(report) => {
                    results.kept.push_str(line);
                    if is_ours {
                        results.done.insert(read.command, report);
                    }
                }
                None => results.is_torn = true,
            }
        }
        Ok(results)
    }

    /// The runs that have no report yet.
    pub(super) fn missing<'a>(&self, runs: &'a [GridRun]) -> Vec<&'a GridRun> {
        let is_missing = |run: &&GridRun| !self.done.contains_key(&run.scenario.command());
        runs.iter().filter(is_missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use ringweave_sim::Grid;

    use super::*;
    use crate::sim::table::tests::report;

    fn runs(base: &str) -> Vec<GridRun> {
        let text = format!("[base]\n{base}\n[grid]\nseed = \"1-4\"");
        let grid = Grid::from_toml(&text, Path::new("study.toml"), Path::new("")).unwrap();
        grid.runs().unwrap()
    }

    fn done(run: &GridRun) -> String {
        Line::new(run, Ok(report())).text()
    }

    fn seeds(runs: &[&GridRun]) -> Vec<u64> {
        runs.iter().map(|run| run.scenario.seed).collect()
    }

    #[test]
    fn what_has_a_line_is_not_run_again() {
        let runs = runs("peers = 10");
        let text = done(&runs[2]) + &done(&runs[0]);
        let results = Results::parse(&text, &runs).unwrap();
        assert_eq!(seeds(&results.missing(&runs)), [2, 4]);
        assert!(!results.is_torn);
        assert_eq!(results.kept, text);
        assert_eq!(results.done[&runs[0].scenario.command()], report());
    }

    #[test]
    fn a_line_that_was_cut_short_counts_for_nothing() {
        let runs = runs("peers = 10");
        let (first, second) = (done(&runs[0]), done(&runs[1]));
        for cut in [1, second.len() / 2, second.len() - 1] {
            let text = first.clone() + &second[..cut];
            let results = Results::parse(&text, &runs).unwrap();
            assert_eq!(seeds(&results.missing(&runs)), [2, 3, 4]);
            assert!(results.is_torn);
            assert_eq!(results.kept, first);
        }
    }

    #[test]
    fn a_failed_run_is_tried_again() {
        let runs = runs("peers = 10");
        let failed = Line::new(&runs[1], Err("killed by signal 9".into())).text();
        let text = done(&runs[0]) + &failed + &done(&runs[3]);
        let results = Results::parse(&text, &runs).unwrap();
        assert_eq!(seeds(&results.missing(&runs)), [2, 3]);
        assert_eq!(results.kept, done(&runs[0]) + &done(&runs[3]));
    }

    #[test]
    fn results_of_another_study_are_refused_and_those_of_a_larger_one_kept() {
        let (small, large) = (runs("peers = 10"), runs("peers = 20"));
        let error = Results::parse(&done(&large[1]), &small).unwrap_err();
        assert!(
            error.starts_with("1: this is a result of another study"),
            "{error}"
        );
        let error = Results::parse("hello\n", &small).unwrap_err();
        assert!(
            error.starts_with("1: this is no result of a sweep"),
            "{error}"
        );
        let text = done(&small[3]);
        let results = Results::parse(&text, &small[..2]).unwrap();
        assert_eq!(results.kept, text);
        assert_eq!(results.missing(&small[..2]).len(), 2);
    }

    #[test]
    fn a_line_is_the_report_with_settings_and_command() {
        let runs = runs("peers = 10");
        let line = done(&runs[0]);
        assert!(
            line.starts_with("{\"topology\":\"polyring\",\"peers\":12345,"),
            "{line}"
        );
        let end = "\"settings\":{\"seed\":1},\"command\":\"ringweave sim run \
                   --topology polyring --peers 10 --seed 1\"}\n";
        assert!(line.ends_with(end), "{line}");
    }
}
