//! Figures of a sweep's results: found by their paths, gathered over runs, written for people.

use ringweave_sim::Topology;
use serde_json::Value;

use super::table::{NOTHING, count};

/// One run of the results.
#[derive(Debug)]
pub(super) struct Line(Value);

/// What a cell of a table tells.
#[derive(Debug, PartialEq)]
pub(super) enum Cell {
    /// `PATH`: the mean over runs.
    Mean(String),
    /// `PATH / PATH`, as percent with a `%` behind: sum over sum.
    Share(String, String, Unit),
}

/// How a share is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// As it is.
    One,
    /// In hundredths.
    Percent,
}

/// A value by which rows are put in order: topologies as the program lists them, numbers by size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// A topology, by its place in the list.
    Topology(usize),
    /// A whole number.
    Whole(u64),
    /// Anything else, as text.
    Text(String),
}

impl Line {
    /// Reads a line of results.
    ///
    /// # Errors
    /// If it is none, or that of a run that failed.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| format!("this is no result of a sweep: {error}"))?;
        match (value.get("error"), value.get("command")) {
            (Some(error), _) => Err(format!("this run failed: {error}")),
            (None, Some(Value::String(_))) => Ok(Self(value)),
            _ => Err("this is no result of a sweep: it has no command".into()),
        }
    }

    /// The command that replays it.
    pub(super) fn command(&self) -> &str {
        self.0["command"].as_str().unwrap_or_default()
    }

    /// The figure or varied setting at a path like `hops.mean`; null where it does not apply.
    pub(super) fn figure(&self, path: &str) -> Option<&Value> {
        let step = |value: &'_ Value, name: &str| value.get(name).is_some();
        let root = match path.split('.').next() {
            Some(first) if step(&self.0, first) => &self.0,
            _ => &self.0["settings"],
        };
        path.split('.').try_fold(root, |value, name| match value {
            Value::Null => Some(value),
            _ => value.get(name),
        })
    }

    fn number(&self, path: &str) -> Option<f64> {
        self.figure(path)?.as_f64()
    }
}

impl Cell {
    /// Reads a cell's words.
    ///
    /// # Errors
    /// If they are none.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: write PATH, PATH / PATH, or PATH / PATH %");
        let is_path = |path: &&str| !path.is_empty() && !path.contains([' ', '/', '%']);
        let (share, unit) = match text.strip_suffix('%') {
            Some(share) => (share.trim(), Unit::Percent),
            None => (text.trim(), Unit::One),
        };
        match share
            .split_once('/')
            .map(|(part, whole)| (part.trim(), whole.trim()))
        {
            Some((part, whole)) if is_path(&part) && is_path(&whole) => {
                Ok(Self::Share(part.to_owned(), whole.to_owned(), unit))
            }
            None if unit == Unit::One && is_path(&share) => Ok(Self::Mean(share.to_owned())),
            _ => Err(wrong()),
        }
    }

    /// Whether some run has what it tells of: a column of dashes is a typing error.
    ///
    /// # Errors
    /// If none has.
    pub(super) fn check(&self, lines: &[&Line]) -> Result<(), String> {
        let paths = match self {
            Self::Mean(path) => vec![path],
            Self::Share(part, whole, _) => vec![part, whole],
        };
        let is_unknown = |path: &&&String| lines.iter().all(|line| line.number(path).is_none());
        match paths.iter().find(is_unknown) {
            Some(path) => Err(format!("no result has {path}")),
            None => Ok(()),
        }
    }

    /// The figure of these runs together; nothing where it does not apply to any of them.
    pub(super) fn value(&self, lines: &[&Line]) -> Option<f64> {
        match self {
            Self::Mean(path) => {
                let values: Vec<_> = lines.iter().filter_map(|line| line.number(path)).collect();
                let sum: f64 = values.iter().sum();
                (!values.is_empty()).then(|| sum / values.len() as f64)
            }
            Self::Share(part, whole, unit) => {
                let pairs = lines
                    .iter()
                    .filter_map(|line| Some((line.number(part)?, line.number(whole)?)));
                let add = |sum: (f64, f64), pair: (f64, f64)| (sum.0 + pair.0, sum.1 + pair.1);
                let (part, whole) = pairs.fold((0.0, 0.0), add);
                let factor = if *unit == Unit::Percent { 100.0 } else { 1.0 };
                (whole > 0.0).then(|| factor * part / whole)
            }
        }
    }

    /// The same for people; of a figure that not all of several runs have, how many have it.
    pub(super) fn text(&self, lines: &[&Line]) -> String {
        let Some(value) = self.value(lines) else {
            return NOTHING.to_owned();
        };
        let text = text_of(value);
        match self {
            // What is not all never reads as 100.
            Self::Share(_, _, Unit::Percent) if (99.0..100.0).contains(&value) => {
                format!("{:.3} %", (value * 1_000.0).floor() / 1_000.0)
            }
            Self::Share(_, _, Unit::Percent) => format!("{text} %"),
            Self::Share(..) => text,
            Self::Mean(path) => {
                let known = lines
                    .iter()
                    .filter(|line| line.number(path).is_some())
                    .count();
                if known == lines.len() {
                    text
                } else {
                    format!("{text} ({known} of {})", lines.len())
                }
            }
        }
    }
}

/// A value as something to put rows in order by.
pub(super) fn key(value: &Value) -> Key {
    let Value::String(text) = value else {
        let whole = value.as_u64().map(Key::Whole);
        return whole.unwrap_or_else(|| Key::Text(value.to_string()));
    };
    let place = Topology::ALL
        .iter()
        .position(|topology| topology.name() == text);
    place.map_or_else(|| Key::Text(text.clone()), Key::Topology)
}

impl Key {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Topology(place) => Topology::ALL[*place].name().to_owned(),
            Self::Whole(number) => count(*number),
            Self::Text(text) => text.clone(),
        }
    }
}

/// A figure, which is never below 0, in three digits or as many as it has.
fn text_of(value: f64) -> String {
    match value {
        value if value.fract() == 0.0 || value >= 100.0 => count(value.round() as u64),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.2}"),
        value if value >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::read(text).unwrap()
    }

    #[test]
    fn a_figure_that_does_not_apply_is_null_and_one_that_is_not_there_is_nothing() {
        let line = line("{\"hops\":null,\"lost\":2,\"settings\":{\"seed\":7},\"command\":\"x\"}");
        assert_eq!(line.figure("hops.mean"), Some(&Value::Null));
        assert_eq!(line.figure("lost"), Some(&Value::from(2)));
        assert_eq!(line.figure("seed"), Some(&Value::from(7)));
        assert_eq!(line.figure("loss"), None);
    }

    #[test]
    fn shares_are_sums_over_sums_and_means_say_how_many_runs_they_are_of() {
        let lines = [
            line("{\"lost\":1,\"sent\":1,\"heal_s\":4.0,\"command\":\"x\"}"),
            line("{\"lost\":0,\"sent\":3,\"heal_s\":null,\"command\":\"y\"}"),
        ];
        let text = |cell: &str| Cell::read(cell).unwrap().text(&[&lines[0], &lines[1]]);
        assert_eq!(text("lost / sent %"), "25 %");
        assert_eq!(text("lost / sent"), "0.25");
        assert_eq!(text("heal_s"), "4 (1 of 2)");
        assert_eq!(text("lost"), "0.50");
        let most = line("{\"reached\":99999,\"expected\":100000,\"command\":\"z\"}");
        let share = Cell::read("reached / expected %").unwrap();
        assert_eq!(share.text(&[&most]), "99.999 %");
    }

    #[test]
    fn what_is_no_cell_or_result_is_refused() {
        for text in ["", "a b", "a / ", "/ b", "a %", "a / b / c"] {
            assert!(Cell::read(text).is_err(), "{text:?}");
        }
        for text in ["", "{}", "{\"error\":\"killed\",\"command\":\"x\"}"] {
            assert!(Line::read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn figures_have_as_many_digits_as_tell_them() {
        let texts = [0.0, 3.0, 1_234.0, 2.346, 23.46, 1_234.6, 0.05, 0.0012].map(text_of);
        assert_eq!(
            texts,
            [
                "0", "3", "1,234", "2.35", "23.5", "1,235", "0.050", "0.0012"
            ]
        );
    }
}
