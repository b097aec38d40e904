//! Axes and curves as SVG that follows the page's style sheet.
//!
//! The `plotters` crate lays out axes and draws. It knows fixed colours and whole pixels only, so a
//! plot is drawn [`FINE`] times as large as meant, in colours that are mere names, which become
//! classes of the style sheet afterwards: that is how a plot follows light and dark.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Color, IntoDrawingArea, IntoFont, LineSeries,
    RGBColor, Ranged, SVGBackend, TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{HUES, grouped};

/// Drawn units for each unit of the plot as meant.
pub(super) const FINE: u32 = 4;

/// Width of a drawing, in units as meant.
const WIDTH: u32 = 460;

/// Width and height of a drawing as drawn: one column of a desk, the whole of a phone.
pub(super) const SIZE: (u32, u32) = (WIDTH * FINE, 284 * FINE);

/// Width left of the axis labels, and height below them, in units as meant.
const LEFT: u32 = 60;
const BELOW: u32 = 46;

/// Width of the area within the axes, in units as meant.
pub(super) const PLOT_WIDTH: f64 = (WIDTH - LEFT - 8) as f64;

/// Colours that stand for classes, see [`dressed`].
pub(super) const INK: RGBColor = RGBColor(1, 0, 0);
pub(super) const STRONG: RGBColor = RGBColor(2, 0, 0);
const RULE: RGBColor = RGBColor(3, 0, 0);

/// The name of a run's colour.
pub(super) fn hue(run: usize) -> RGBColor {
    RGBColor(0, 0, (run % HUES) as u8)
}

/// Axes that curves can be drawn between.
pub(super) type Chart<'a, 'b, X, Y = RangedCoordf64> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

/// Why something could not be drawn; into a string, nothing fails.
pub(super) type Failure = Box<dyn std::error::Error>;

/// Axes from 0 to `top` and over `range`, and what `curves` draws between them.
pub(super) fn draw<R>(
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
    draw_between(range, 0.0..top.max(1e-3), unit, curves)
}

/// Axes over two ranges, and what `curves` draws between them.
pub(super) fn draw_between<R, S>(
    range: R,
    height: S,
    unit: &str,
    curves: impl FnOnce(&mut Chart<'_, '_, R::CoordDescType, S::CoordDescType>) -> Result<(), Failure>,
) -> String
where
    R: AsRangedCoord,
    R::CoordDescType: ValueFormatter<R::Value> + Ranged<ValueType = R::Value>,
    R::Value: Tick,
    S: AsRangedCoord,
    S::CoordDescType: ValueFormatter<S::Value> + Ranged<ValueType = S::Value>,
    S::Value: Tick,
{
    let mut drawing = String::new();
    let attempt = || -> Result<(), Failure> {
        let area = SVGBackend::with_string(&mut drawing, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin_top(10 * FINE)
            .margin_right(8 * FINE)
            .x_label_area_size(BELOW * FINE)
            .y_label_area_size(LEFT * FINE)
            .build_cartesian_2d(range, height)?;
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
pub(super) trait Tick {
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

/// A run's curve.
pub(super) fn line<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    run: usize,
    points: Vec<(X::ValueType, Y::ValueType)>,
) -> Result<(), Failure>
where
    X: Ranged,
    X::ValueType: Clone + 'static,
    Y: Ranged,
    Y::ValueType: Clone + 'static,
{
    chart.draw_series(LineSeries::new(points, hue(run).stroke_width(2 * FINE)))?;
    Ok(())
}

/// Text as axes have it.
pub(super) fn text(color: RGBColor, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    sized(color, 13, horizontal, vertical)
}

/// Text of a size in units as meant.
pub(super) fn sized(
    color: RGBColor,
    size: u32,
    horizontal: HPos,
    vertical: VPos,
) -> TextStyle<'static> {
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
