//! The table of the figures, and the sentences that say how to read it.

use super::measures::{Better, GROUPS, Group, Measure};
use super::{escape, grouped, swatch};
use crate::report::Outcome;

/// The figures, a column for each run.
pub(super) fn figures(runs: &[(String, Outcome)]) -> String {
    let bodies: String = present(runs).map(|group| body(group, runs)).collect();
    if bodies.is_empty() {
        return bodies;
    }
    let heads: String = runs
        .iter()
        .enumerate()
        .map(|(index, (name, _))| {
            let swatch = if runs.len() > 1 {
                swatch(index)
            } else {
                String::new()
            };
            format!(
                "<th scope=\"col\" class=\"number\">{swatch}{}</th>",
                escape(name)
            )
        })
        .collect();
    format!(
        "<section>\n<h2>Figures</h2>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Figures of the runs\">\n\
         <table class=\"figures\" style=\"--runs:{}\">\n<thead><tr><th scope=\"col\">Measure</th>\
         <th scope=\"col\" class=\"unit\">Unit</th>{heads}</tr></thead>\n{bodies}</table>\n</div>\n\
         </section>\n",
        runs.len()
    )
}

/// One sentence for each measure that the table has.
pub(super) fn meanings(runs: &[(String, Outcome)]) -> String {
    let lists: String = present(runs)
        .map(|group| {
            let items: String = group
                .measures
                .iter()
                .map(|measure| {
                    format!(
                        "<dt>{}</dt><dd>{}</dd>\n",
                        measure.name,
                        escape(measure.meaning)
                    )
                })
                .collect();
            format!(
                "<div>\n<h3>{}</h3>\n<dl>\n{items}</dl>\n</div>\n",
                group.title
            )
        })
        .collect();
    if lists.is_empty() {
        return lists;
    }
    format!(
        "<section>\n<h2>How to read this</h2>\n<p>A dash stands where a measure does not apply to \
         a run.</p>\n<div class=\"meanings\">\n{lists}</div>\n</section>\n"
    )
}

/// The groups of which some run has something.
fn present(runs: &[(String, Outcome)]) -> impl Iterator<Item = &'static Group> {
    GROUPS.iter().filter(|group| {
        let values = |measure: &Measure| {
            runs.iter()
                .any(|(_, run)| (measure.value)(&run.report).is_some())
        };
        group.measures.iter().any(values)
    })
}

fn body(group: &Group, runs: &[(String, Outcome)]) -> String {
    let rows: String = group
        .measures
        .iter()
        .map(|measure| row(measure, runs))
        .collect();
    format!(
        "<tbody>\n<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"{}\"><span>{}</span></th></tr>\n\
         {rows}</tbody>\n",
        runs.len() + 2,
        group.title
    )
}

/// On a phone the unit moves from its own column to the name, see the style sheet.
fn row(measure: &Measure, runs: &[(String, Outcome)]) -> String {
    let Measure { name, unit, .. } = measure;
    let values: Vec<Option<f64>> = runs
        .iter()
        .map(|(_, run)| (measure.value)(&run.report).filter(|value| value.is_finite()))
        .collect();
    let decimals = decimals(unit, &values);
    let texts: Vec<Option<String>> = values
        .iter()
        .map(|value| value.map(|value| grouped(value, decimals)))
        .collect();
    let best = best(measure.better, &values, &texts);
    let cells: String = texts
        .iter()
        .map(|text| match text {
            None => "<td class=\"number\"><span aria-label=\"not applicable\">–</span></td>".into(),
            Some(text) if best == Some(text) => format!(
                "<td class=\"number best\">{text}<span class=\"unseen\"> (better)</span></td>"
            ),
            Some(text) => format!("<td class=\"number\">{text}</td>"),
        })
        .collect();
    format!(
        "<tr><th scope=\"row\">{name} <span class=\"unit\">{unit}</span></th>\
         <td class=\"unit\">{unit}</td>{cells}</tr>\n"
    )
}

/// The best value as it is shown: what looks the same is the same, and where all are, none is best.
fn best<'a>(
    better: Better,
    values: &[Option<f64>],
    texts: &'a [Option<String>],
) -> Option<&'a String> {
    let known = || {
        values
            .iter()
            .zip(texts)
            .filter_map(|(value, text)| value.zip(text.as_ref()))
    };
    let best = match better {
        Better::Less => known().min_by(|a, b| a.0.total_cmp(&b.0)),
        Better::More => known().max_by(|a, b| a.0.total_cmp(&b.0)),
        Better::Open => None,
    };
    let (_, best) = best?;
    known().any(|(_, text)| text != best).then_some(best)
}

/// Decimals for a whole row, so that its values can be compared at a glance.
fn decimals(unit: &str, values: &[Option<f64>]) -> usize {
    let known = || values.iter().flatten();
    if known().all(|value| value.fract() == 0.0) {
        return 0;
    }
    if unit == "%" {
        return 3;
    }
    match known().fold(0.0, |largest: f64, value| largest.max(value.abs())) {
        largest if largest >= 1_000.0 => 0,
        largest if largest >= 10.0 => 1,
        largest if largest >= 1.0 => 2,
        largest if largest >= 0.1 => 3,
        _ => 4,
    }
}
