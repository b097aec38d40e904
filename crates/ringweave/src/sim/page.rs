//! A Markdown page whose tables and plots are filled in from the results of sweeps.
//!
//! ```text
//! <!-- compare
//! results = ["studies/topologies/papers.jsonl"]
//! where = { peers = 10000 }
//! each = ["topology"]
//! columns = [["hops, mean", "hops.mean"], ["lost", "lost / sent %"]]
//! -->
//! (what stands here is written anew)
//! <!-- /compare -->
//! ```
//!
//! All else on the page stays as it is. With `plot = { file, title, x, y, log }` instead of columns the
//! part becomes a plot, in an SVG file beside the page.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ringweave_sim::page::{Axis, Lines};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    figures::{Cell, Key, Line, key},
    read_text, write_whole,
};
use crate::{exit::Problem, print};

/// What begins a part that is filled in, what ends its words, and what ends it.
const BEGIN: &str = "<!-- compare\n";
const FILL: &str = "\n-->\n";
const END: &str = "<!-- /compare -->";

/// Cap on a file of results: a line has some 2 KB.
const MAX_RESULTS: u64 = 64 * 1024 * 1024;

/// The words of a part. Paths start in the page's folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// Files of results.
    results: Vec<PathBuf>,
    /// Only runs with these values, by the path of a figure or setting; a list: one of these.
    #[serde(default, rename = "where")]
    only: BTreeMap<String, toml::Value>,
    /// Figures or settings; each combination of their values is a row, or a line of a plot.
    each: Vec<String>,
    /// Heads and cells of a table.
    #[serde(default)]
    columns: Vec<(String, String)>,
    /// A plot instead of a table.
    plot: Option<Plot>,
}

/// A plot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plot {
    /// Where it goes.
    file: PathBuf,
    title: String,
    /// The name of the horizontal axis and what it counts.
    x: (String, String),
    /// The same of the vertical one.
    y: (String, String),
    /// Axes whose steps multiply: `x`, `y`.
    #[serde(default)]
    log: Vec<String>,
}

/// What `--json` prints.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Filled {
    tables: usize,
    plots: usize,
}

/// Fills in a page, and writes it and its plots.
///
/// # Errors
/// If the page, a part of it or a file of results is not what it should be, or cannot be written.
pub(super) fn run(path: &Path, is_json: bool) -> Result<(), Problem> {
    let text = read_text(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let wrong = |(line, problem)| Problem::usage(format!("{}:{line}: {problem}", path.display()));
    let (page, plots, filled) = fill(&text, folder).map_err(wrong)?;
    for (file, svg) in plots {
        write_whole(&folder.join(file), &svg)?;
    }
    write_whole(path, &page)?;
    if is_json {
        return print::json(&filled);
    }
    let Filled { tables, plots } = filled;
    print::line(format!(
        "{}: {tables} tables and {plots} plots",
        path.display()
    ))
}

/// A page, its plots with their files, and how many there are of each.
type Pages = (String, Vec<(PathBuf, String)>, Filled);

/// The page with every part written anew; a problem comes with its line.
fn fill(text: &str, folder: &Path) -> Result<Pages, (usize, String)> {
    let mut page = String::with_capacity(text.len());
    let (mut plots, mut filled) = (Vec::new(), Filled::default());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let start = text.len() - rest.len() + at;
        let number = text[..start].lines().count() + 1;
        let wrong = |problem: String| (number, problem);
        let words = &rest[at + BEGIN.len()..];
        let (words, after) = words
            .split_once(FILL)
            .ok_or_else(|| wrong("this part has no line `-->`".into()))?;
        let is_whole = after.find(END).filter(|end| !after[..*end].contains(BEGIN));
        let end = is_whole.ok_or_else(|| wrong(format!("this part does not end with {END}")))?;
        let part: Part = toml::from_str(words).map_err(|error| {
            let before = error
                .span()
                .map_or(0, |span| words[..span.start].matches('\n').count());
            (number + 1 + before, error.message().to_owned())
        })?;
        let made = part.make(folder).map_err(wrong)?;
        page.push_str(&rest[..at]);
        page.push_str(BEGIN);
        page.push_str(words);
        page.push_str(FILL);
        page.push_str(&made.text);
        page.push_str(END);
        filled.tables += usize::from(made.plot.is_none());
        filled.plots += usize::from(made.plot.is_some());
        plots.extend(made.plot);
        rest = &after[end + END.len()..];
    }
    page.push_str(rest);
    Ok((page, plots, filled))
}

/// What a part becomes.
struct Made {
    text: String,
    plot: Option<(PathBuf, String)>,
}

impl Part {
    fn make(&self, folder: &Path) -> Result<Made, String> {
        let lines = self.lines(folder)?;
        let mut rows: BTreeMap<Vec<Key>, Vec<&Line>> = BTreeMap::new();
        for line in &lines {
            let value = |path: &String| {
                let found = line.figure(path);
                found
                    .map(key)
                    .ok_or_else(|| format!("each: no result has {path}"))
            };
            let keys = self.each.iter().map(value).collect::<Result<_, _>>()?;
            rows.entry(keys).or_default().push(line);
        }
        if rows.is_empty() {
            return Err("no result fits".into());
        }
        match &self.plot {
            Some(_) if !self.columns.is_empty() => Err("a part has columns or a plot".into()),
            Some(plot) => plot.make(&rows, self.source(&rows)),
            None => self.table(&rows),
        }
    }

    /// The results that fit, each run once.
    fn lines(&self, folder: &Path) -> Result<Vec<Line>, String> {
        let mut lines: BTreeMap<String, Line> = BTreeMap::new();
        for name in &self.results {
            let path = folder.join(name);
            let cannot = |problem: String| format!("cannot read {}: {problem}", path.display());
            let size = fs::metadata(&path)
                .map_err(|error| cannot(error.to_string()))?
                .len();
            if size > MAX_RESULTS {
                return Err(cannot(format!("it has more than {MAX_RESULTS} bytes")));
            }
            let text = fs::read_to_string(&path).map_err(|error| cannot(error.to_string()))?;
            for (number, text) in (1..).zip(text.lines()) {
                let line = Line::read(text)
                    .map_err(|problem| format!("{}:{number}: {problem}", path.display()))?;
                if self.fits(&line) {
                    lines.insert(line.command().to_owned(), line);
                }
            }
        }
        Ok(lines.into_values().collect())
    }

    fn fits(&self, line: &Line) -> bool {
        self.only.iter().all(|(path, wanted)| {
            let is = |wanted: &toml::Value| match (line.figure(path), wanted) {
                (Some(Value::String(text)), toml::Value::String(wanted)) => text == wanted,
                (Some(value), toml::Value::Integer(wanted)) => {
                    value.as_f64() == Some(*wanted as f64)
                }
                (Some(value), toml::Value::Float(wanted)) => value.as_f64() == Some(*wanted),
                (Some(Value::Bool(value)), toml::Value::Boolean(wanted)) => value == wanted,
                _ => false,
            };
            match wanted {
                toml::Value::Array(any) => any.iter().any(is),
                one => is(one),
            }
        })
    }

    fn table(&self, rows: &BTreeMap<Vec<Key>, Vec<&Line>>) -> Result<Made, String> {
        let cells: Vec<(&str, Cell)> = self
            .columns
            .iter()
            .map(|(head, cell)| Ok((head.as_str(), Cell::read(cell)?)))
            .collect::<Result<_, String>>()?;
        if cells.is_empty() {
            return Err("a part has columns or a plot".into());
        }
        let all: Vec<_> = rows.values().flatten().copied().collect();
        for (_, cell) in &cells {
            cell.check(&all)?;
        }
        let heads = self
            .each
            .iter()
            .map(String::as_str)
            .chain(cells.iter().map(|it| it.0));
        let mut text = row(heads.map(str::to_owned));
        text += &row((0..self.each.len() + cells.len()).map(|at| {
            let is_figure = at >= self.each.len();
            if is_figure { "---:" } else { "---" }.to_owned()
        }));
        for (keys, lines) in rows {
            let names = keys.iter().map(Key::text);
            let figures = cells.iter().map(|(_, cell)| cell.text(lines));
            text += &row(names.chain(figures));
        }
        text += &self.source(rows);
        Ok(Made { text, plot: None })
    }

    /// Where the figures are from.
    fn source(&self, rows: &BTreeMap<Vec<Key>, Vec<&Line>>) -> String {
        let count: usize = rows.values().map(Vec::len).sum();
        let files: Vec<_> = self
            .results
            .iter()
            .map(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                format!("[{name}]({})", path.display())
            })
            .collect();
        let (is_one, files) = (count == 1, files.join(", "));
        let runs = if is_one {
            "One run"
        } else {
            &format!("{count} runs")
        };
        format!("\n{runs}, each with the command that replays it: {files}.\n")
    }
}

impl Plot {
    fn make(&self, rows: &BTreeMap<Vec<Key>, Vec<&Line>>, source: String) -> Result<Made, String> {
        let (x, y) = (Cell::read(&self.x.1)?, Cell::read(&self.y.1)?);
        let all: Vec<_> = rows.values().flatten().copied().collect();
        for cell in [&x, &y] {
            cell.check(&all)?;
        }
        let unknown = self
            .log
            .iter()
            .find(|axis| !["x", "y"].contains(&axis.as_str()));
        if let Some(axis) = unknown {
            return Err(format!("plot.log: {axis:?} is neither x nor y"));
        }
        let axis = |letter: &str, name: &String| Axis {
            name: name.clone(),
            is_log: self.log.iter().any(|it| it == letter),
        };
        let line = |(keys, lines): (&Vec<Key>, &Vec<&Line>)| {
            let mut points: Vec<(f64, Vec<&Line>)> = Vec::new();
            for line in lines {
                let Some(at) = x.value(&[line]) else { continue };
                match points.iter_mut().find(|point| point.0 == at) {
                    Some(point) => point.1.push(line),
                    None => points.push((at, vec![line])),
                }
            }
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            let points = points
                .iter()
                .filter_map(|(at, lines)| Some((*at, y.value(lines)?)));
            let names: Vec<_> = keys.iter().map(Key::text).collect();
            (names.join(", "), points.collect())
        };
        let plot = Lines {
            title: self.title.clone(),
            across: axis("x", &self.x.0),
            up: axis("y", &self.y.0),
            lines: rows.iter().map(line).collect(),
        };
        let svg = plot.svg().ok_or("plot: there is no point to draw")?;
        let (title, file) = (&self.title, self.file.display());
        Ok(Made {
            text: format!("![{title}: {}]({file})\n{source}", self.y.0),
            plot: Some((self.file.clone(), svg)),
        })
    }
}

/// A row of a Markdown table.
fn row(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = cells.map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = concat!(
        "{\"topology\":\"chord\",\"peers\":10,\"sent\":4,\"lost\":1,\"hops\":{\"mean\":2.0},",
        "\"settings\":{\"seed\":1},\"command\":\"a\"}\n",
        "{\"topology\":\"chord\",\"peers\":10,\"sent\":4,\"lost\":0,\"hops\":{\"mean\":3.0},",
        "\"settings\":{\"seed\":2},\"command\":\"b\"}\n",
        "{\"topology\":\"polyring\",\"peers\":10,\"sent\":4,\"lost\":0,\"hops\":null,",
        "\"settings\":{\"seed\":1},\"command\":\"c\"}\n",
        "{\"topology\":\"chord\",\"peers\":100,\"sent\":4,\"lost\":0,\"hops\":{\"mean\":5.0},",
        "\"settings\":{\"seed\":1},\"command\":\"d\"}\n",
    );

    fn page(words: &str) -> Result<Pages, (usize, String)> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("all.jsonl"), RESULTS).unwrap();
        let text = format!(
            "# Title\n\n<!-- compare\nresults = [\"all.jsonl\"]\neach = [\"topology\"]\n{words}\n-->\nold\n\
             <!-- /compare -->\nby hand\n"
        );
        fill(&text, folder.path())
    }

    const TABLE: &str = "where = { peers = 10 }\ncolumns = [[\"hops\", \"hops.mean\"], [\"lost\", \"lost / sent %\"]]";

    #[test]
    fn a_table_is_written_anew_and_the_words_around_it_stay() {
        let (text, plots, filled) = page(TABLE).unwrap();
        assert!(
            text.starts_with("# Title\n\n<!-- compare\nresults"),
            "{text}"
        );
        assert!(text.ends_with("<!-- /compare -->\nby hand\n"), "{text}");
        assert!(!text.contains("old"), "{text}");
        let table = "| topology | hops | lost |\n| --- | ---: | ---: |\n\
                     | polyring | - | 0 % |\n| chord | 2.50 | 12.5 % |\n";
        assert!(text.contains(table), "{text}");
        assert!(text.contains("\n3 runs, each"), "{text}");
        assert!(plots.is_empty());
        assert_eq!(
            filled,
            Filled {
                tables: 1,
                plots: 0
            }
        );
    }

    #[test]
    fn a_page_that_is_filled_in_does_not_change_any_more() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("all.jsonl"), RESULTS).unwrap();
        let (text, ..) = page(TABLE).unwrap();
        assert_eq!(fill(&text, folder.path()).unwrap().0, text);
    }

    #[test]
    fn a_plot_is_a_file_beside_the_page() {
        let words = "plot = { file = \"hops.svg\", title = \"Hops\", x = [\"peers\", \"peers\"], \
                     y = [\"hops, mean\", \"hops.mean\"], log = [\"x\"] }";
        let (text, plots, _) = page(words).unwrap();
        assert!(text.contains("![Hops: hops, mean](hops.svg)\n"), "{text}");
        assert_eq!(plots[0].0, Path::new("hops.svg"));
        // Chord at two sizes, the polyring at none.
        assert_eq!(plots[0].1.matches("<circle").count(), 2, "{}", plots[0].1);
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_line() {
        for (words, line, said) in [
            (
                "columns = [[\"a\", \"hops.meen\"]]",
                3,
                "no result has hops.meen",
            ),
            ("colums = []", 6, "unknown field `colums`"),
            (
                "where = { peers = 11 }\ncolumns = [[\"a\", \"lost\"]]",
                3,
                "no result fits",
            ),
            ("", 3, "columns or a plot"),
        ] {
            let problem = page(words).unwrap_err();
            assert_eq!(problem.0, line, "{problem:?}");
            assert!(problem.1.contains(said), "{problem:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let problem = fill("\n<!-- compare\n\n-->\n", folder.path()).unwrap_err();
        assert_eq!(problem, (2, format!("this part does not end with {END}")));
    }
}
