//! The curves of the runs: hops, latency, load by level, the reach of a broadcast.
//!
//! The `plotters` crate lays out axes and draws. It knows fixed colours and whole pixels only, so a
//! plot is drawn [`FINE`] times as large as meant, in colours that are mere names, which become
//! classes of the page's style sheet afterwards: that is how a plot follows light and dark.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Circle, Color, EmptyElement, IntoDrawingArea,
    IntoFont, LineSeries, RGBColor, Ranged, Rectangle, SVGBackend, Text, TextStyle,
};
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{HUES, grouped, key, names};
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
    let levels = |run: &'_ Outcome| run.series.levels.len();
    let groups = runs
        .iter()
        .map(|(_, run)| levels(run))
        .max()
        .filter(|groups| *groups > 0)?;
    let all = || runs.iter().flat_map(|(_, run)| &run.series.levels);
    let top = all().map(|level| level.forwarded_mean).fold(0.0, f64::max);
    let width = (0.84 / runs.len() as f64).min(0.42);
    let slot = width * PLOT_WIDTH / groups as f64;
    let longest = all().map(|level| most(level).len()).max().unwrap_or(0) as f64;
    let style = match slot {
        slot if slot > longest * 6.6 + 4.0 => Some(Annotation::Level),
        slot if slot > 8.5 => Some(Annotation::Upright),
        _ => None,
    };
    let room = match style {
        Some(Annotation::Level) => 1.1,
        Some(Annotation::Upright) => 1.08 + longest * 0.03,
        None => 1.06,
    };
    let drawing = draw(0.0..groups as f64, top.max(1e-3) * room, "", |chart| {
        for group in 0..groups {
            let label = label(group, runs, groups);
            chart.plotting_area().draw(
                &(EmptyElement::at((group as f64 + 0.5, 0.0))
                    + Text::new(
                        label,
                        (0, (7 * FINE) as i32),
                        text(INK, HPos::Center, VPos::Top),
                    )),
            )?;
        }
        for (run, (_, outcome)) in runs.iter().enumerate() {
            for (group, level) in outcome.series.levels.iter().enumerate() {
                let before = run as f64 - runs.len() as f64 / 2.0;
                let left = group as f64 + 0.5 + width * (before + 0.04);
                let corner = (left + 0.92 * width, level.forwarded_mean);
                let bar = Rectangle::new([(left, 0.0), corner], hue(run).filled());
                chart.plotting_area().draw(&bar)?;
                if let Some(style) = style {
                    let middle = (left + 0.46 * width, level.forwarded_mean);
                    let text = Text::new(most(level), style.offset(), style.text());
                    chart
                        .plotting_area()
                        .draw(&(EmptyElement::at(middle) + text))?;
                }
            }
        }
        Ok(())
    });
    let note = match style {
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
    let flat = runs.iter().any(|(_, run)| run.series.levels.len() == 1);
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

/// Drawn units for each unit of the plot as meant.
const FINE: u32 = 4;

/// Width of a drawing, in units as meant.
const WIDTH: u32 = 460;

/// Width and height of a drawing as drawn: one column of a desk, the whole of a phone.
const SIZE: (u32, u32) = (WIDTH * FINE, 284 * FINE);

/// Width left of the axis labels, and height below them, in units as meant.
const LEFT: u32 = 52;
const BELOW: u32 = 46;

/// Width of the area within the axes, in units as meant.
const PLOT_WIDTH: f64 = (WIDTH - LEFT - 8) as f64;

/// Colours that stand for classes, see [`dressed`].
const INK: RGBColor = RGBColor(1, 0, 0);
const STRONG: RGBColor = RGBColor(2, 0, 0);
const RULE: RGBColor = RGBColor(3, 0, 0);

fn hue(run: usize) -> RGBColor {
    RGBColor(0, 0, (run % HUES) as u8)
}

type Chart<'a, 'b, X> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, RangedCoordf64>>;
type Failure = Box<dyn std::error::Error>;

/// Axes from 0 to `top` and over `range`, and what `curves` draws between them.
fn draw<R>(
    range: R,
    top: f64,
    unit: &str,
    curves: impl FnOnce(&mut Chart<'_, '_, R::CoordDescType>) -> Result<(), Failure>,
) -> String
where
    R: AsRangedCoord,
    R::CoordDescType: ValueFormatter<R::Value> + Ranged<ValueType = R::Value>,
    R::Value: Tick,
{
    let mut drawing = String::new();
    let attempt = || -> Result<(), Failure> {
        let area = SVGBackend::with_string(&mut drawing, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin_top(10 * FINE)
            .margin_right(8 * FINE)
            .x_label_area_size(BELOW * FINE)
            .y_label_area_size(LEFT * FINE)
            .build_cartesian_2d(range, 0.0..top.max(1e-3))?;
        let labels = if unit.is_empty() { 0 } else { 7 };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(labels)
            .y_labels(6)
            .x_desc(unit)
            .x_label_formatter(&|value| value.tick())
            .y_label_formatter(&|value| value.tick())
            .label_style(text(INK, HPos::Center, VPos::Center))
            .axis_desc_style(text(INK, HPos::Center, VPos::Center))
            .axis_style(RULE.stroke_width(FINE))
            .bold_line_style(RULE.stroke_width(FINE))
            .light_line_style(RULE.mix(0.0))
            .set_all_tick_mark_size(4 * FINE)
            .draw()?;
        curves(&mut chart)?;
        drop(chart);
        area.present()?;
        Ok(())
    };
    attempt().expect("a string takes whatever is drawn");
    dressed(&drawing)
}

/// A value on an axis, in as few digits as tell it.
trait Tick {
    fn tick(&self) -> String;
}

impl Tick for u32 {
    fn tick(&self) -> String {
        grouped(f64::from(*self), 0)
    }
}

impl Tick for f64 {
    fn tick(&self) -> String {
        // Steps of an axis are round, up to what adding them leaves over.
        let decimals = (0..4).find(|decimals| {
            let shifted = self * 10_f64.powi(*decimals);
            (shifted - shifted.round()).abs() < 1e-6 * shifted.abs().max(1.0)
        });
        grouped(*self, decimals.unwrap_or(4) as usize)
    }
}

fn line<X>(
    chart: &mut Chart<'_, '_, X>,
    run: usize,
    points: Vec<(X::ValueType, f64)>,
) -> Result<(), Failure>
where
    X: Ranged,
    X::ValueType: Clone + 'static,
{
    chart.draw_series(LineSeries::new(points, hue(run).stroke_width(2 * FINE)))?;
    Ok(())
}

fn text(color: RGBColor, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    sized(color, 13, horizontal, vertical)
}

fn sized(color: RGBColor, size: u32, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    // What plotters calls the size of a font is 1.24 times what SVG calls so.
    let font = ("sans-serif", 1.24 * f64::from(size * FINE)).into_font();
    TextStyle {
        font,
        color: color.to_backend_color(),
        pos: Pos::new(horizontal, vertical),
    }
}

/// A drawing without its outer tag, its colours made classes.
fn dressed(drawing: &str) -> String {
    let inside = drawing.trim_end().strip_suffix("</svg>").unwrap_or(drawing);
    let mut inside = inside
        .split_once('>')
        .map_or(inside, |(_, inside)| inside)
        .to_owned();
    inside = inside
        .replace(" font-family=\"sans-serif\"", "")
        .replace(" opacity=\"1\"", "");
    let names = [(INK, "ink"), (STRONG, "strong"), (RULE, "rule")];
    for (RGBColor(red, green, blue), name) in names {
        let color = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
        for place in ["fill", "stroke"] {
            inside = inside.replace(&format!("{place}={color}"), &format!("class=\"{name}\""));
        }
    }
    for run in 0..HUES {
        let RGBColor(red, green, blue) = hue(run);
        let color = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
        for (place, name) in [("fill", "bar"), ("stroke", "line")] {
            let class = format!("class=\"{name} run-{run}\"");
            inside = inside.replace(&format!("{place}={color}"), &class);
        }
    }
    inside.trim_start().to_owned()
}
