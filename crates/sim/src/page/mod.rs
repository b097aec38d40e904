//! Runs side by side, as one HTML page that needs nothing else: no script, no request, no font.
//!
//! A table of the figures, plots of the curves and pictures of the rings, in one colour per run, by
//! light and by dark, on a desk and on a phone. What was not measured is not drawn. The page judges
//! nothing beyond marking which value of a row is better.

mod canvas;
mod lines;
mod measures;
mod plots;
mod rings;
mod table;
#[cfg(test)]
mod tests;

pub use self::lines::{Axis, Lines};
use crate::report::Outcome;

/// Renders a report that compares runs, each with its name, on the same world.
///
/// Made for one to eight runs; from the ninth on, colours repeat. The result is a whole HTML document.
pub fn render(title: &str, runs: &[(String, Outcome)]) -> String {
    let title = escape(title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>{title}</h1>\n{}</header>\n<main>\n",
        introduction(runs)
    );
    page.push_str(&violations(runs));
    page.push_str(&table::figures(runs));
    page.push_str(&plots::section(runs));
    page.push_str(&rings::section(runs));
    page.push_str(&table::meanings(runs));
    page.push_str("</main>\n");
    page.push_str(&footer(runs));
    page.push_str("</body>\n</html>\n");
    page
}

/// Colours, by light and by dark, and what plots are drawn with; then the page around them.
const STYLE: &str = concat!(include_str!("plot.css"), include_str!("style.css"));

/// Colours there are for runs.
const HUES: usize = 8;

/// One paragraph of what is compared, and the key to the colours.
fn introduction(runs: &[(String, Outcome)]) -> String {
    let Some((_, first)) = runs.first() else {
        return "<p>No runs.</p>\n".into();
    };
    let peers = span(runs.iter().map(|(_, run)| f64::from(run.report.peers)), 0);
    let seconds = span(runs.iter().map(|(_, run)| run.report.simulated_s), 1);
    let seed = if runs
        .iter()
        .all(|(_, run)| run.report.seed == first.report.seed)
    {
        format!("seed {}", first.report.seed)
    } else {
        "different seeds".into()
    };
    let world = format!("{peers} peers, {seconds} simulated seconds, {seed}");
    if let [(name, run)] = runs {
        let topology = escape(&run.report.topology);
        return format!(
            "<p>One run of the simulator, <b>{}</b>: {topology} with {world}. The figures come \
             first, then the curves behind them.</p>\n",
            escape(name)
        );
    }
    format!(
        "<p>{} runs of the simulator side by side, on the same world: {world}. Each run keeps its \
         colour throughout; a dot in the table marks the better value of a row, where it is clear \
         which that is.</p>\n{}",
        number(runs.len()),
        key(runs)
    )
}

/// Every violated invariant, up front: a run that broke its rules proves nothing else.
fn violations(runs: &[(String, Outcome)]) -> String {
    let mut lists = String::new();
    for (name, run) in runs.iter().filter(|(_, run)| !run.violations.is_empty()) {
        let items: String = run
            .violations
            .iter()
            .map(|violation| format!("<li>{}</li>\n", escape(violation)))
            .collect();
        lists.push_str(&format!(
            "<details>\n<summary><b>{}</b>: {} violated, {} told</summary>\n<ul>\n{items}</ul>\n\
             </details>\n",
            escape(name),
            grouped(run.report.invariants.violated as f64, 0),
            run.violations.len()
        ));
    }
    if lists.is_empty() {
        return lists;
    }
    format!("<section class=\"alarm\">\n<h2>Violated invariants</h2>\n{lists}</section>\n")
}

/// What it takes to run each again.
fn footer(runs: &[(String, Outcome)]) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let rows: String = runs
        .iter()
        .map(|(name, run)| {
            let report = &run.report;
            format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"number\">{}</td>\
                 <td class=\"number\">{}</td><td><code>{}</code></td></tr>\n",
                escape(name),
                escape(&report.topology),
                grouped(f64::from(report.peers), 0),
                report.seed,
                escape(&report.digest)
            )
        })
        .collect();
    format!(
        "<footer>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Runs\">\n\
         <table>\n<thead><tr><th scope=\"col\">Run</th><th scope=\"col\">Topology</th>\
         <th scope=\"col\" class=\"number\">Peers</th><th scope=\"col\" class=\"number\">Seed</th>\
         <th scope=\"col\">Digest</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n\
         <p>The same scenario gives the same digest, on any number of threads.</p>\n</footer>\n"
    )
}

/// Which colour is whose; nothing for a single run, which needs none.
fn key(runs: &[(String, Outcome)]) -> String {
    if runs.len() < 2 {
        return String::new();
    }
    let items: String = runs
        .iter()
        .enumerate()
        .map(|(index, (name, _))| format!("<li>{}{}</li>\n", swatch(index), escape(name)))
        .collect();
    format!("<ul class=\"key\">\n{items}</ul>\n")
}

fn swatch(index: usize) -> String {
    format!("<span class=\"swatch run-{}\"></span>", index % HUES)
}

/// The names of the runs, escaped, for descriptions of pictures.
fn names(runs: &[(String, Outcome)]) -> String {
    let names: Vec<String> = runs.iter().map(|(name, _)| escape(name)).collect();
    names.join(", ")
}

/// One value if all are alike, else the least and the largest.
fn span(values: impl Iterator<Item = f64> + Clone, decimals: usize) -> String {
    let least = values.clone().fold(f64::INFINITY, f64::min);
    let largest = values.fold(f64::NEG_INFINITY, f64::max);
    let decimals = if least.fract() == 0.0 && largest.fract() == 0.0 {
        0
    } else {
        decimals
    };
    let (least, largest) = (grouped(least, decimals), grouped(largest, decimals));
    if least == largest {
        least
    } else {
        format!("{least} to {largest}")
    }
}

/// Small numbers in words, as they begin sentences.
fn number(count: usize) -> String {
    const WORDS: [&str; 9] = [
        "No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight",
    ];
    WORDS
        .get(count)
        .map_or_else(|| count.to_string(), |word| (*word).to_owned())
}

/// A number with a comma at every thousand.
fn grouped(value: f64, decimals: usize) -> String {
    let plain = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut text = String::new();
    if value < 0.0 && plain.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        text.push('\u{2212}');
    }
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

/// Text as HTML shows it literally, in elements and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
