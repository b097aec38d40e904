//! The page of a run or a comparison: one HTML file, without anything from elsewhere.

use crate::Outcome;

/// Writes the page of these runs, each with its name.
pub fn render(title: &str, runs: &[(String, Outcome)]) -> String {
    // Stands in for the page until its pictures are merged.
    let names: Vec<&str> = runs.iter().map(|(name, _)| name.as_str()).collect();
    format!(
        "<!doctype html><title>{title}</title><p>{}</p>\n",
        names.join(", ")
    )
}
