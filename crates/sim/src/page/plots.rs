//! The curves of the runs: hops, latency, load by level, the reach of a broadcast.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{Circle, Color, EmptyElement, Rectangle, Text, TextStyle};
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{
    Chart, FINE, Failure, INK, PLOT_WIDTH, SIZE, STRONG, draw, hue, line, sized, text,
};
use super::{grouped, key, names};
use crate::report::{Level, Outcome};

/// Every plot of which some run has the data.
pub(super) fn section(runs: &[(String, Outcome)]) -> String {
    let plots = [hops(runs), latency(runs), load(runs), reach(runs)];
    let figures: String = plots
        .into_iter()
        .flatten()
        .map(|plot| plot.figure(runs))
        .collect();
    if figures.is_empty() {
        return figures;
    }
    format!("<section>\n<h2>Curves</h2>\n<div class=\"plots\">\n{figures}</div>\n</section>\n")
}

/// A drawing and the words around it.
struct Plot {
    title: &'static str,
    /// What the vertical axis counts, told above it: sideways text is hard to read.
    axis: &'static str,
    note: String,
    drawing: String,
}

impl Plot {
    fn figure(self, runs: &[(String, Outcome)]) -> String {
        let Self {
            title,
            axis,
            note,
            drawing,
        } = self;
        let (names, key) = (names(runs), key(runs));
        format!(
            "<figure>\n<h3>{title}</h3>\n<p class=\"axis\">{axis}</p>\n\
             <svg class=\"plot\" viewBox=\"0 0 {} {}\" role=\"img\" \
             aria-label=\"{title} of {names}: {axis}\">\n{drawing}</svg>\n\
             <figcaption>\n{key}<p>{note}</p>\n</figcaption>\n</figure>\n",
            SIZE.0, SIZE.1
        )
    }
}

fn hops(runs: &[(String, Outcome)]) -> Option<Plot> {
    let curves: Vec<Vec<(u32, f64)>> = runs
        .iter()
        .map(|(_, run)| {
            let total: u64 = run.series.hops.iter().sum();
            let share = |count: &u64| 100.0 * *count as f64 / total.max(1) as f64;
            let last = run.series.hops.iter().rposition(|count| *count > 0);
            let counts = &run.series.hops[..last.map_or(0, |last| last + 1)];
            (0..).zip(counts.iter().map(share)).collect()
        })
        .collect();
    let most = curves.iter().flatten().map(|point| point.0).max()?;
    let top = curves
        .iter()
        .flatten()
        .map(|point| point.1)
        .fold(0.0, f64::max);
    let drawing = draw(0..most.max(1), top * 1.06, "hops", |chart| {
        for (run, curve) in curves.iter().enumerate() {
            line(chart, run, curve.clone())?;
            // Whole hops only: the points are the data, the line leads the eye.
            if most <= 40 {
                let points = curve
                    .iter()
                    .map(|point| Circle::new(*point, 3 * FINE, hue(run).filled()));
                chart.draw_series(points)?;
            }
        }
        Ok(())
    });
    let note = "How many connections a delivered message crossed. Further left is better.".into();
    Some(Plot {
        title: "Hops",
        axis: "Share of delivered messages, %",
        note,
        drawing,
    })
}

fn latency(runs: &[(String, Outcome)]) -> Option<Plot> {
    let curves: Vec<Vec<(f64, f64)>> = runs
        .iter()
        .map(|(_, run)| {
            let percentiles = run.series.latency_ms.iter().copied();
            percentiles
                .zip((0..).map(f64::from))
                .filter(|point| point.0.is_finite())
                .collect()
        })
        .collect();
    let end = curves
        .iter()
        .filter_map(|curve| curve.last())
        .map(|point| point.0);
    let end = end.reduce(f64::max)?;
    // One message in a hundred may take ten times as long as all others: it would squeeze them into
    // a wall.
    let usual = curves
        .iter()
        .flatten()
        .filter(|point| point.1 <= 99.0)
        .map(|point| point.0);
    let usual = usual.fold(0.0, f64::max);
    let (limit, note) = if end > 1.5 * usual && usual > 0.0 {
        (
            1.1 * usual,
            "The slowest hundredth reaches beyond the right edge.",
        )
    } else {
        (1.02 * end, "A curve ends at the slowest message.")
    };
    let drawing = draw(
        0.0..limit.max(1e-3),
        100.0,
        "ms from wish to arrival",
        |chart| {
            for (run, curve) in curves.iter().enumerate() {
                let seen = curve.iter().copied().filter(|point| point.0 <= limit);
                line(chart, run, seen.collect())?;
            }
            Ok(())
        },
    );
    let note = format!("Further left is better. {note}");
    Some(Plot {
        title: "Latency",
        axis: "Messages that took no longer, %",
        note,
        drawing,
    })
}

fn load(runs: &[(String, Outcome)]) -> Option<Plot> {
    let groups = runs.iter().map(|(_, run)| run.report.levels.len()).max();
    let groups = groups.filter(|groups| *groups > 0)?;
    let all = || runs.iter().flat_map(|(_, run)| &run.report.levels);
    let top = all().map(|level| level.forwarded_mean).fold(0.0, f64::max);
    let width = (0.84 / runs.len() as f64).min(0.42);
    let longest = all().map(|level| most(level).len()).max().unwrap_or(0) as f64;
    let annotation = match width * PLOT_WIDTH / groups as f64 {
        slot if slot > longest * 6.6 + 4.0 => Some(Annotation::Level),
        slot if slot > 8.5 => Some(Annotation::Upright),
        _ => None,
    };
    let room = match annotation {
        Some(Annotation::Level) => 1.1,
        Some(Annotation::Upright) => 1.08 + longest * 0.03,
        None => 1.06,
    };
    let drawing = draw(0.0..groups as f64, top.max(1e-3) * room, "", |chart| {
        for group in 0..groups {
            let style = text(INK, HPos::Center, VPos::Top);
            let label = Text::new(label(group, runs, groups), (0, 7 * FINE as i32), style);
            let place = EmptyElement::at((group as f64 + 0.5, 0.0));
            chart.plotting_area().draw(&(place + label))?;
        }
        for (run, (_, outcome)) in runs.iter().enumerate() {
            let left = 0.5 + width * (run as f64 - runs.len() as f64 / 2.0);
            bars(
                chart,
                run,
                &outcome.report.levels,
                (left, width),
                annotation,
            )?;
        }
        Ok(())
    });
    let note = match annotation {
        Some(_) => "Bars are means. The number on a bar is the most that any one peer carried on.",
        None => "Bars are means over the peers of a level.",
    };
    let axis = "Messages carried on for others, per peer";
    Some(Plot {
        title: "Load by level",
        axis,
        note: note.into(),
        drawing,
    })
}

/// A run's bar in the group of each level, from `left` on within the group, and as wide.
fn bars(
    chart: &mut Chart<'_, '_, RangedCoordf64>,
    run: usize,
    levels: &[Level],
    (left, width): (f64, f64),
    annotation: Option<Annotation>,
) -> Result<(), Failure> {
    for (group, level) in levels.iter().enumerate() {
        let (left, right) = (left + 0.04 * width, left + 0.96 * width);
        let (left, right) = (group as f64 + left, group as f64 + right);
        let corners = [(left, 0.0), (right, level.forwarded_mean)];
        chart
            .plotting_area()
            .draw(&Rectangle::new(corners, hue(run).filled()))?;
        if let Some(annotation) = annotation {
            let place = EmptyElement::at((f64::midpoint(left, right), level.forwarded_mean));
            let text = Text::new(most(level), annotation.offset(), annotation.text());
            chart.plotting_area().draw(&(place + text))?;
        }
    }
    Ok(())
}

/// How the largest load is written on a bar.
#[derive(Clone, Copy)]
enum Annotation {
    /// Along the axis, where bars are wide enough.
    Level,
    /// Along the bar.
    Upright,
}

impl Annotation {
    fn offset(self) -> (i32, i32) {
        match self {
            Self::Level => (0, -(3 * FINE as i32)),
            Self::Upright => (0, -(4 * FINE as i32)),
        }
    }

    fn text(self) -> TextStyle<'static> {
        match self {
            Self::Level => sized(STRONG, 11, HPos::Center, VPos::Bottom),
            Self::Upright => {
                let style = sized(STRONG, 10, HPos::Left, VPos::Center);
                TextStyle {
                    font: style.font.transform(FontTransform::Rotate270),
                    ..style
                }
            }
        }
    }
}

fn most(level: &Level) -> String {
    grouped(level.forwarded_max as f64, 0)
}

fn label(group: usize, runs: &[(String, Outcome)], groups: usize) -> String {
    let flat = runs.iter().any(|(_, run)| run.report.levels.len() == 1);
    match group {
        0 if groups == 1 => "all peers".into(),
        0 if flat => "center or all".into(),
        0 => "center".into(),
        _ if groups > 6 => group.to_string(),
        _ => format!("level {group}"),
    }
}

fn reach(runs: &[(String, Outcome)]) -> Option<Plot> {
    let curves: Vec<Vec<(f64, f64)>> = runs
        .iter()
        .map(|(_, run)| thinned(&run.series.reach))
        .collect();
    let end = curves
        .iter()
        .flatten()
        .map(|point| point.0)
        .reduce(f64::max)?;
    let top = curves
        .iter()
        .flatten()
        .map(|point| point.1)
        .fold(1.0, f64::max);
    let drawing = draw(
        0.0..1.02 * end.max(1e-3),
        top * 1.04,
        "ms since it began",
        |chart| {
            for (run, curve) in curves.iter().enumerate() {
                line(chart, run, curve.clone())?;
                let last = curve
                    .last()
                    .map(|point| Circle::new(*point, 3 * FINE, hue(run).filled()));
                chart.draw_series(last)?;
            }
            Ok(())
        },
    );
    let note =
        "The first broadcast of each run; the dot is the last peer. Steeper is better.".into();
    Some(Plot {
        title: "Reach of a broadcast",
        axis: "Peers that have it",
        note,
        drawing,
    })
}

/// Points of a curve of reach at most: more cannot be told apart.
const POINTS_MAX: usize = 400;

/// At most [`POINTS_MAX`] points of a curve, the first and the last among them.
fn thinned(curve: &[(f64, u64)]) -> Vec<(f64, f64)> {
    let step = curve.len().div_ceil(POINTS_MAX).max(1);
    let last = curve.len().saturating_sub(1);
    let kept = curve
        .iter()
        .enumerate()
        .filter(|(index, _)| index % step == 0 || *index == last);
    kept.map(|(_, (ms, peers))| (*ms, *peers as f64)).collect()
}
