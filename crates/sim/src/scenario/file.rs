//! Scenario files: TOML whose keys are the names of the settings, tables `[[fault]]`, and one
//! `[expect]`.
//!
//! An unknown key is an error, and every error names the file, the line and the key.

use std::{borrow::Cow, ops::Range, path::Path};

use thiserror::Error;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Expectation, Fault, SETTINGS, Scenario, fault::Part, setting, settings::known};

/// What is wrong with a scenario file or a study file, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}:{line}: {problem}")]
pub struct ScenarioError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The key and what is wrong with it.
    pub problem: String,
}

impl Scenario {
    /// Reads a scenario file. Relative paths in it start in the folder of `file`.
    ///
    /// Each value is checked by itself; whether all fit together, [`Scenario::check`] says.
    ///
    /// # Errors
    /// The first line that is no TOML, has an unknown key, or has a value out of its range.
    pub fn from_toml(text: &str, file: &Path) -> Result<Self, ScenarioError> {
        let folder = file.parent().unwrap_or(Path::new(""));
        let source = Source::new(text, file, folder);
        let mut scenario = Self::default();
        source.scenario(source.parse()?.get_ref(), &mut scenario)?;
        Ok(scenario)
    }

    /// The line of a scenario file, from 1, that sets this key; nothing if none does. For problems that
    /// are found once all settings are known.
    pub fn line_of(text: &str, key: &str) -> Option<usize> {
        let table = DeTable::parse(text).ok()?;
        let value = table.get_ref().get(key)?;
        Some(line_at(text, value.span().start))
    }
}

/// A file that is being read.
pub(super) struct Source<'a> {
    text: &'a str,
    file: &'a Path,
    folder: &'a Path,
}

/// A key and its value, each with its place.
pub(super) type Entry<'a, 'i> = (&'a Spanned<Cow<'i, str>>, &'a Spanned<DeValue<'i>>);

impl<'a> Source<'a> {
    /// `file` is its name for messages, `folder` is where relative paths start.
    pub(super) fn new(text: &'a str, file: &'a Path, folder: &'a Path) -> Self {
        Self { text, file, folder }
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder
    }

    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>, ScenarioError> {
        DeTable::parse(self.text).map_err(|error| {
            let place = error.span().unwrap_or(0..0);
            self.wrong(place, error.message().replace('\n', ", "))
        })
    }

    /// Sets what a table of settings and faults says.
    pub(super) fn scenario(
        &self,
        table: &DeTable<'_>,
        scenario: &mut Scenario,
    ) -> Result<(), ScenarioError> {
        for (key, value) in entries(table) {
            let name = key.get_ref().as_ref();
            if name == "fault" {
                scenario.faults = self.faults(value)?;
                continue;
            }
            if name == "expect" {
                scenario.expect = self.expectations(value)?;
                continue;
            }
            let names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
            known(name, &[&names[..], &["fault", "expect"]].concat())
                .map_err(|problem| self.wrong_key(key, problem))?;
            let setting = setting(name).map_err(|error| self.wrong_key(key, error))?;
            let text = self.scalar(name, value)?;
            setting
                .set(scenario, &text, self.folder)
                .map_err(|error| self.wrong(value.span(), format!("{name}: {error}")))?;
        }
        Ok(())
    }

    fn faults(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<Fault>, ScenarioError> {
        let tables = value.get_ref().as_array().ok_or_else(|| {
            let problem = "fault: there may be several; write [[fault]] above each";
            self.wrong(value.span(), problem.to_owned())
        })?;
        tables.iter().map(|table| self.fault(table)).collect()
    }

    fn fault(&self, value: &Spanned<DeValue<'_>>) -> Result<Fault, ScenarioError> {
        let table = value.get_ref().as_table().ok_or_else(|| {
            self.wrong(value.span(), "fault: write [[fault]] above each".to_owned())
        })?;
        let entries = entries(table);
        let mut parts: Vec<Part> = Vec::new();
        for (key, value) in &entries {
            let name = key.get_ref().to_string();
            let text = self.scalar(&format!("fault.{name}"), value)?;
            parts.push((name, text));
        }
        Fault::from_parts(&parts).map_err(|error| {
            let dot = if error.key.is_empty() { "" } else { "." };
            let problem = format!("fault{dot}{}: {}", error.key, error.problem);
            let place = error
                .part
                .and_then(|part| entries.get(part))
                .map_or(value.span(), |(_, value)| value.span());
            self.wrong(place, problem)
        })
    }

    fn expectations(
        &self,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<Expectation>, ScenarioError> {
        let table = value.get_ref().as_table().ok_or_else(|| {
            let problem = "expect: write [expect], and FIGURE = BOUND below it";
            self.wrong(value.span(), problem.to_owned())
        })?;
        let read = |(key, value): &Entry<'_, '_>| {
            let name = key.get_ref().as_ref();
            let text = self.scalar(&format!("expect.{name}"), value)?;
            Expectation::new(name, &text)
                .map_err(|error| self.wrong(value.span(), format!("expect.{name}: {error}")))
        };
        entries(table).iter().map(read).collect()
    }

    /// A single value as the text that a flag would take.
    pub(super) fn scalar(
        &self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<String, ScenarioError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Float(number) => Ok(number.as_str().to_owned()),
            DeValue::Boolean(flag) => Ok(flag.to_string()),
            DeValue::Integer(number) => {
                let text = number.to_string();
                let read = i128::from_str_radix(number.as_str(), number.radix());
                Ok(read.map_or(text, |number| number.to_string()))
            }
            other => {
                let problem = format!("{name}: one value is wanted; found: {}", other.type_str());
                Err(self.wrong(value.span(), problem))
            }
        }
    }

    pub(super) fn wrong_key(
        &self,
        key: &Spanned<Cow<'_, str>>,
        problem: impl std::fmt::Display,
    ) -> ScenarioError {
        self.wrong(key.span(), format!("{}: {problem}", key.get_ref()))
    }

    pub(super) fn wrong(&self, place: Range<usize>, problem: String) -> ScenarioError {
        ScenarioError {
            file: self.file.display().to_string(),
            line: line_at(self.text, place.start),
            problem,
        }
    }
}

fn line_at(text: &str, start: usize) -> usize {
    let before = text.get(..start).unwrap_or(text);
    before.matches('\n').count() + 1
}

/// The entries of a table in the order of the file.
pub(super) fn entries<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Entry<'a, 'i>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Churn, FaultKind, Latency, RunError, Where};

    fn read(text: &str) -> Result<Scenario, ScenarioError> {
        Scenario::from_toml(text, Path::new("world.toml"))
    }

    #[test]
    fn a_file_says_a_world() {
        let scenario = read(
            "peers = 2_000\nseed = 0xff\nlatency = \"uniform:20-80\"\nduration = 5\n\
             churn = \"weibull:0.4:600\"\nreal_keys = true\ncrash = \"0.3@2\"\n\n\
             [[fault]]\nat = 1.5\nkind = \"slow\"\nring = \"[]\"\nfactor = 3\nlength = 1\n",
        )
        .unwrap();
        assert_eq!((scenario.peers, scenario.seed), (2_000, 255));
        assert_eq!(scenario.latency, Latency::Uniform(20.0, 80.0));
        assert!(matches!(scenario.churn, Churn::Weibull { .. }));
        let slow = FaultKind::Slow(Where::Ring("[]".into()).into(), 3.0, 1.0);
        assert_eq!(
            scenario.faults,
            [Fault {
                at: 1.5,
                kind: slow,
                repeat: None,
            }]
        );
        assert!(scenario.check().is_ok());
    }

    #[test]
    fn every_error_names_file_line_and_key() {
        for (text, said) in [
            (
                "\n\npeer = 5",
                "world.toml:3: peer: unknown key; did you mean peers?",
            ),
            (
                "colour = 5",
                "world.toml:1: colour: unknown key; there are topology",
            ),
            ("peers = 5\nseed = ", "world.toml:2: "),
            ("peers = 5\npeers = 6", "world.toml:2: duplicate key"),
            (
                "peers = 0",
                "world.toml:1: peers: 0 is not between 1 and 4000000",
            ),
            (
                "peers = -3",
                "world.toml:1: peers: \"-3\" is no whole number",
            ),
            (
                "peers = [5]",
                "world.toml:1: peers: one value is wanted; found: array",
            ),
            ("\nloss = 1", "world.toml:2: loss: 1 is everything"),
            (
                "topology = \"pyramid\"",
                "world.toml:1: topology: \"pyramid\" is no topology",
            ),
            (
                "cluster = 17",
                "world.toml:1: cluster: 17 is not between 1 and 16",
            ),
            (
                "without = \"hope\"",
                "world.toml:1: without: \"hope\" is no rule of healing; choose one of takeover,",
            ),
            (
                "payload = 8",
                "world.toml:1: payload: 8 is not between 16 and 65536",
            ),
            (
                "latency = \"gone.gz\"",
                "world.toml:1: latency: gone.gz is no file",
            ),
            (
                "churn = \"weibul:0.4\"",
                "world.toml:1: churn: \"weibul:0.4\" is no churn; write",
            ),
            (
                "crash = \"1.5@3\"",
                "world.toml:1: crash: 1.5 is not between 0 and 1",
            ),
            (
                "crash = 0.3",
                "world.toml:1: crash: \"0.3\" is no share at a time",
            ),
            (
                "duration = inf",
                "world.toml:1: duration: \"inf\" is no number",
            ),
            (
                "[fault]\nat = 1",
                "world.toml:1: fault: there may be several",
            ),
            ("[world]\npeers = 1", "world.toml:1: world: unknown key"),
            ("expect = 5", "world.toml:1: expect: write [expect]"),
            (
                "[expect]\n\nheal = 30",
                "world.toml:3: expect.heal: unknown key; did you mean heal_s?",
            ),
            (
                "[expect]\nreached = 2",
                "world.toml:2: expect.reached: 2 is not between 0 and 1",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_error_in_a_fault_names_its_own_line() {
        let good = "[[fault]]\nat = 1\nkind = \"crash\"\nshare = 0.1\n\n";
        for (text, said) in [
            (
                "at = 1\nkind = \"crash\"\nshare = 1.5",
                "world.toml:9: fault.share: 1.5 is not between 0 and 1",
            ),
            (
                "kind = \"crash\"\nshare = 0.5",
                "world.toml:6: fault.at: is missing",
            ),
            (
                "at = 1\nkind = \"crash\"",
                "world.toml:6: fault: crash takes exactly one of",
            ),
            (
                "at = 1\nkind = \"crash\"\nlenth = 5",
                "world.toml:9: fault.lenth: unknown key; did you mean length?",
            ),
            (
                "at = 1\nkind = \"loss\"\nfactor = 2",
                "world.toml:9: fault.factor: loss takes no factor",
            ),
            (
                "at = 1\nkind = \"freeze\"\nposition = \"4\"",
                "world.toml:9: fault.position: a GUID stands",
            ),
        ] {
            let error = read(&format!("{good}[[fault]]\n{text}\n")).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_relative_path_starts_in_the_folder_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rtt.txt"), "").unwrap();
        let text = "latency = \"rtt.txt\"";
        let scenario = Scenario::from_toml(text, &folder.path().join("world.toml")).unwrap();
        assert_eq!(
            scenario.latency,
            Latency::File(folder.path().join("rtt.txt"))
        );
    }

    #[test]
    fn the_line_of_a_key_is_found() {
        let text = "# a world\npeers = 5\n\ncrash = \"0.1@99\"\n";
        assert_eq!(Scenario::line_of(text, "crash"), Some(4));
        assert_eq!(Scenario::line_of(text, "seed"), None);
    }

    #[test]
    fn settings_that_do_not_fit_together_are_found() {
        for (text, field) in [
            ("peers = 20_000\nreal_keys = true", "real_keys"),
            ("crash = \"0.1@61\"", "crash"),
            ("duration = 1\npartition = \"0.1@2+3\"", "partition"),
            ("[[fault]]\nat = 99\nkind = \"crash\"\nshare = 1", "fault"),
            (
                "[[fault]]\nat = 9\nkind = \"crash\"\nshare = 0.1\nrepeat = 3\nevery = 30",
                "fault",
            ),
            ("[[fault]]\nat = 9\nkind = \"meet\"", "fault"),
            ("networks = 2", "networks"),
            (
                "networks = 2\nbootstrap = \"built\"\n[[fault]]\nat = 9\nkind = \"meet\"",
                "networks",
            ),
            (
                "peers = 4_000_000\n[[fault]]\nat = 9\nkind = \"flash_crowd\"\npeers = 1\nlength = 1",
                "fault",
            ),
        ] {
            let RunError::Setting { field: found, .. } = read(text).unwrap().check().unwrap_err()
            else {
                panic!("{text}");
            };
            assert_eq!(found, field, "{text}");
        }
    }
}
