//! A grid: one world, and settings that are varied in it. Each crossing is a run.
//!
//! ```toml
//! [base]
//! peers = 10000
//! [grid]
//! policy = ["balanced", "nearest"]
//! seed = "1-20"
//! ```

use std::{collections::BTreeSet, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Scenario, ScenarioError, SetError, Setting,
    file::{Source, entries},
    setting,
    settings::known,
};

/// Most runs of a grid; who wants more splits the study.
pub const MAX_RUNS: usize = 100_000;

/// A world and what is varied in it.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    /// What all runs share.
    pub base: Scenario,
    /// What is varied; the last axis turns fastest.
    pub axes: Vec<Axis>,
}

/// A setting and the values that it takes.
#[derive(Clone, Debug)]
pub struct Axis {
    setting: &'static Setting,
    /// Each of them set by itself once, so that it is known to be one.
    values: Vec<String>,
}

/// A crossing of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct GridRun {
    /// The varied settings with their values, in the order of the axes.
    pub settings: Vec<(&'static str, String)>,
    /// The whole.
    pub scenario: Scenario,
}

impl Axis {
    /// The setting of this name and the values that it shall take; relative paths start in `folder`.
    ///
    /// # Errors
    /// If there is no such setting, or one of the texts is no value of it.
    pub fn new(name: &str, values: &[String], folder: &Path) -> Result<Self, SetError> {
        let setting = setting(name)?;
        let mut canonical = Vec::with_capacity(values.len());
        let mut seen = BTreeSet::new();
        for text in values {
            let mut scenario = Scenario::default();
            setting.set(&mut scenario, text, folder)?;
            let text = setting.get(&scenario).unwrap_or_else(|| "none".to_owned());
            if seen.insert(text.clone()) {
                canonical.push(text);
            }
        }
        Ok(Self {
            setting,
            values: canonical,
        })
    }
}

impl Grid {
    /// Reads a study file: tables `[base]`, with the keys of a scenario file, and `[grid]`, where a key
    /// has a list of values; `seed` may also be a range like `"1-20"`.
    ///
    /// `file` is its name for messages, `folder` is where relative paths in it start.
    ///
    /// # Errors
    /// The first line that is no TOML, has an unknown key, or has a value out of its range.
    pub fn from_toml(text: &str, file: &Path, folder: &Path) -> Result<Self, ScenarioError> {
        let source = Source::new(text, file, folder);
        let mut grid = Self::default();
        let table = source.parse()?;
        for (key, value) in entries(table.get_ref()) {
            let name = key.get_ref().as_ref();
            known(name, &["base", "grid"]).map_err(|problem| source.wrong_key(key, problem))?;
            let table = value.get_ref().as_table().ok_or_else(|| {
                source.wrong_key(key, format!("a table is wanted; write [{name}]"))
            })?;
            if name == "base" {
                source.scenario(table, &mut grid.base)?;
            } else {
                grid.axes = axes(&source, table)?;
            }
        }
        let is_small = grid.size().is_some_and(|size| size <= MAX_RUNS);
        if !is_small {
            let problem = format!("grid: there are more than {MAX_RUNS} runs; split the study");
            return Err(source.wrong(0..0, problem));
        }
        Ok(grid)
    }

    /// How many runs there are; nothing if they cannot be counted.
    pub fn size(&self) -> Option<usize> {
        self.axes
            .iter()
            .try_fold(1_usize, |size, axis| size.checked_mul(axis.values.len()))
    }

    /// Every run, the last axis turning fastest.
    ///
    /// # Errors
    /// If a value can no longer be set: a file has gone.
    pub fn runs(&self) -> Result<Vec<GridRun>, SetError> {
        let mut runs = vec![GridRun {
            settings: Vec::new(),
            scenario: self.base.clone(),
        }];
        for axis in &self.axes {
            let mut crossed = Vec::with_capacity(runs.len() * axis.values.len());
            for run in &runs {
                for text in &axis.values {
                    let mut run = run.clone();
                    // The folder is in the text already.
                    axis.setting.set(&mut run.scenario, text, Path::new(""))?;
                    run.settings.push((axis.setting.name, text.clone()));
                    crossed.push(run);
                }
            }
            runs = crossed;
        }
        Ok(runs)
    }
}

fn axes(source: &Source<'_>, table: &DeTable<'_>) -> Result<Vec<Axis>, ScenarioError> {
    let mut axes = Vec::new();
    for (key, value) in entries(table) {
        let name = key.get_ref().as_ref();
        setting(name).map_err(|error| source.wrong_key(key, error))?;
        let mut values = Vec::new();
        if let Some(list) = value.get_ref().as_array() {
            for each in list.iter() {
                let text = source.scalar(name, each)?;
                let read = Axis::new(name, std::slice::from_ref(&text), source.folder());
                read.map_err(|error| source.wrong(each.span(), format!("{name}: {error}")))?;
                values.push(text);
            }
        } else {
            values = range(source, name, value)?;
        }
        if values.is_empty() {
            let problem = format!("{name}: the list is empty");
            return Err(source.wrong(value.span(), problem));
        }
        let axis = Axis::new(name, &values, source.folder());
        axes.push(axis.map_err(|error| source.wrong(value.span(), format!("{name}: {error}")))?);
    }
    Ok(axes)
}

/// The seeds of `"1-20"`.
fn range(
    source: &Source<'_>,
    name: &str,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<String>, ScenarioError> {
    let range = value.get_ref().as_str().and_then(|text| {
        let (first, last) = text.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        (name == "seed" && first <= last && last - first < MAX_RUNS as u64).then_some(first..=last)
    });
    let Some(range) = range else {
        let also = if name == "seed" {
            ", or a range of seeds like \"1-20\""
        } else {
            ""
        };
        let problem = format!("{name}: write a list of values in square brackets{also}");
        return Err(source.wrong(value.span(), problem));
    };
    Ok(range.map(|seed| seed.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    fn read(text: &str) -> Result<Grid, ScenarioError> {
        Grid::from_toml(text, Path::new("study.toml"), Path::new(""))
    }

    #[test]
    fn every_crossing_is_a_run_and_the_last_axis_turns_fastest() {
        let text =
            "[base]\npeers = 50\n[grid]\npolicy = [\"nearest\", \"balanced\"]\nseed = \"1-3\"";
        let runs = read(text).unwrap().runs().unwrap();
        assert_eq!(runs.len(), 6);
        let fourth = &runs[3];
        assert_eq!(
            fourth.settings,
            [("policy", "balanced".into()), ("seed", "1".into())]
        );
        assert_eq!(fourth.scenario.policy, Policy::Balanced);
        assert_eq!((fourth.scenario.peers, fourth.scenario.seed), (50, 1));
    }

    #[test]
    fn a_value_counts_once_however_it_is_written() {
        let runs = read("[grid]\nloss = [0, 0.0, 0.10, 0.1]").unwrap().runs();
        assert_eq!(runs.unwrap().len(), 2);
    }

    #[test]
    fn an_optional_setting_can_be_varied_to_nothing() {
        let grid = read("[base]\ncrash = \"0.1@5\"\n[grid]\ncrash = [\"none\", \"0.2@5\"]");
        let runs = grid.unwrap().runs().unwrap();
        assert_eq!(runs[0].scenario.crash, None);
        assert_eq!(runs[0].settings, [("crash", "none".into())]);
    }

    #[test]
    fn every_error_names_file_line_and_key() {
        for (text, said) in [
            (
                "[bass]\n",
                "study.toml:1: bass: unknown key; did you mean base?",
            ),
            (
                "base = 5\n",
                "study.toml:1: base: a table is wanted; write [base]",
            ),
            (
                "[base]\npeer = 5",
                "study.toml:2: peer: unknown key; did you mean peers?",
            ),
            (
                "[grid]\npeer = [5]",
                "study.toml:2: peer: unknown key; did you mean peers?",
            ),
            (
                "[grid]\npeers = [5,\n 0]",
                "study.toml:3: peers: 0 is not between 1",
            ),
            (
                "[grid]\npeers = 5",
                "study.toml:2: peers: write a list of values in square brackets",
            ),
            (
                "[grid]\nseed = \"5-1\"",
                "study.toml:2: seed: write a list of values in square brackets, or",
            ),
            ("[grid]\nseed = []", "study.toml:2: seed: the list is empty"),
            (
                "[grid]\nseed = \"1-100000\"\nloss = [0, 0.1]",
                "study.toml:1: grid: there are more than 100000 runs",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
    }
}
