//! One plot as a file of its own: a figure of several runs over another, a line for each series.
//!
//! It brings its colours along, by light and by dark, so that a Markdown page can show it as an image.

use std::fmt::Write as _;

use plotters::coord::combinators::IntoLogRange as _;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::{Circle, Color};

use super::canvas::{Chart, FINE, Failure, SIZE, draw_between, hue, line};
use super::{HUES, escape};

/// A plot of points in lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// What stands above it.
    pub title: String,
    /// What the horizontal axis counts.
    pub across: Axis,
    /// What the vertical axis counts.
    pub up: Axis,
    /// Each line with its name and points, the leftmost first; made for up to eight, from the ninth on
    /// colours repeat. On a logarithmic axis points that are not above 0 are left out.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// An axis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axis {
    /// What it counts, with the unit.
    pub name: String,
    /// Whether each step multiplies.
    pub is_log: bool,
}

/// Width of the names beside the plot, and height of the title above, in units as meant.
const BESIDE: u32 = 128;
const ABOVE: u32 = 42;

/// Height of a name, in units as meant.
const ROW: u32 = 22;

/// What a plot needs to know outside a page.
const STYLE: &str = include_str!("plot.css");

impl Lines {
    /// The plot as a whole SVG document; nothing where there is no point.
    pub fn svg(&self) -> Option<String> {
        let drawing = match (self.across.is_log, self.up.is_log) {
            (false, false) => self.draw(self.span(across)?, self.rise()?),
            (false, true) => self.draw(self.span(across)?, self.reach(up)?.log_scale()),
            (true, false) => self.draw(self.reach(across)?.log_scale(), self.rise()?),
            (true, true) => self.draw(self.reach(across)?.log_scale(), self.reach(up)?.log_scale()),
        };
        let (width, height) = (SIZE.0 + BESIDE * FINE, SIZE.1 + ABOVE * FINE);
        let (title, above) = (escape(&self.title), escape(&self.up.name));
        let names = self.names();
        Some(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" viewBox=\"0 0 {width} {height}\" \
             width=\"{}\" height=\"{}\" role=\"img\" font-family=\"system-ui, sans-serif\">\n\
             <title>{title}: {above}</title>\n<style>\n{STYLE}\
             .ground {{ fill: var(--ground); }}\n</style>\n\
             <rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>\n\
             <text class=\"strong\" x=\"{left}\" y=\"{}\" font-size=\"{}\" font-weight=\"600\">{title}</text>\n\
             <text class=\"ink\" x=\"{left}\" y=\"{}\" font-size=\"{}\">{above}</text>\n\
             <g transform=\"translate(0 {})\">\n{drawing}</g>\n{names}</svg>\n",
            width / FINE,
            height / FINE,
            16 * FINE,
            15 * FINE,
            34 * FINE,
            13 * FINE,
            ABOVE * FINE,
            left = 8 * FINE,
        ))
    }

    fn draw<R, S>(&self, range: R, height: S) -> String
    where
        R: AsRangedCoord<Value = f64>,
        R::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
        S: AsRangedCoord<Value = f64>,
        S::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
    {
        draw_between(range, height, &self.across.name, |chart| self.curves(chart))
    }

    fn curves<X, Y>(&self, chart: &mut Chart<'_, '_, X, Y>) -> Result<(), Failure>
    where
        X: Ranged<ValueType = f64>,
        Y: Ranged<ValueType = f64>,
    {
        for (run, (_, points)) in self.lines.iter().enumerate() {
            let points: Vec<_> = points
                .iter()
                .copied()
                .filter(|it| self.is_shown(*it))
                .collect();
            line(chart, run, points.clone())?;
            let dot = |point| Circle::new(point, 3 * FINE, hue(run).filled());
            chart.draw_series(points.into_iter().map(dot))?;
        }
        Ok(())
    }

    /// The names beside the plot, that of the line which ends highest first.
    fn names(&self) -> String {
        let end = |points: &[(f64, f64)]| points.last().map_or(f64::NEG_INFINITY, |it| it.1);
        let mut order: Vec<_> = self.lines.iter().enumerate().collect();
        order.sort_by(|(_, one), (_, other)| end(&other.1).total_cmp(&end(&one.1)));
        let mut names = String::new();
        for (place, (run, (name, _))) in (0..).zip(order) {
            let (left, base) = (SIZE.0 + 6 * FINE, (ABOVE + 20 + ROW * place) * FINE);
            let (middle, right) = (base - 4 * FINE, left + 20 * FINE);
            writeln!(
                names,
                "<path class=\"line run-{}\" fill=\"none\" stroke-width=\"{}\" d=\"M{left} {middle}H{right}\"/>\
                 <text class=\"ink\" x=\"{}\" y=\"{base}\" font-size=\"{}\">{}</text>",
                run % HUES,
                2 * FINE,
                right + 6 * FINE,
                13 * FINE,
                escape(name)
            )
            .expect("a string takes all that is written");
        }
        names
    }

    fn is_shown(&self, point: (f64, f64)) -> bool {
        (!self.across.is_log || point.0 > 0.0) && (!self.up.is_log || point.1 > 0.0)
    }

    /// From the least to the largest of all that is shown.
    fn span(&self, of: fn((f64, f64)) -> f64) -> Option<std::ops::Range<f64>> {
        let points = self.lines.iter().flat_map(|(_, points)| points);
        let shown = points.copied().filter(|it| self.is_shown(*it)).map(of);
        let bounds = shown.fold(None, |bounds: Option<(f64, f64)>, value| {
            let (low, high) = bounds.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        });
        bounds.map(|(low, high)| low..high.max(low + 1e-3))
    }

    /// From 0 to a little above the largest.
    fn rise(&self) -> Option<std::ops::Range<f64>> {
        self.span(up).map(|span| 0.0..span.end * 1.06)
    }

    /// A little more than the span, for an axis whose steps multiply.
    fn reach(&self, of: fn((f64, f64)) -> f64) -> Option<std::ops::Range<f64>> {
        self.span(of).map(|span| span.start / 1.15..span.end * 1.15)
    }
}

fn across(point: (f64, f64)) -> f64 {
    point.0
}

fn up(point: (f64, f64)) -> f64 {
    point.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(points: Vec<(f64, f64)>) -> Lines {
        let axis = |name: &str| Axis {
            name: name.into(),
            is_log: true,
        };
        Lines {
            title: "Hops <mean>".into(),
            across: axis("peers"),
            up: axis("hops"),
            lines: vec![("one".into(), points), ("two".into(), vec![(10.0, 50.0)])],
        }
    }

    #[test]
    fn a_plot_is_a_document_that_follows_light_and_dark() {
        for is_log in [[false, false], [false, true], [true, false], [true, true]] {
            let mut plot = lines(vec![(10.0, 1.0), (1_000.0, 3.0)]);
            [plot.across.is_log, plot.up.is_log] = is_log;
            let svg = plot.svg().unwrap();
            assert!(svg.contains("prefers-color-scheme: dark"), "{svg}");
            assert!(svg.contains("Hops &lt;mean&gt;"), "{svg}");
            assert_eq!(svg.matches("<svg").count(), 1);
            assert_eq!(svg.matches("class=\"bar run-0\"").count(), 2, "{svg}");
            let (two, one) = (svg.find(">two<").unwrap(), svg.find(">one<").unwrap());
            assert!(two < one, "the line that ends highest is named first");
        }
    }

    #[test]
    fn what_a_logarithm_does_not_have_is_left_out() {
        let svg = lines(vec![(10.0, 0.0), (100.0, 5.0)]).svg().unwrap();
        assert_eq!(svg.matches("class=\"bar run-0\"").count(), 1);
        let empty = Lines {
            lines: Vec::new(),
            ..lines(Vec::new())
        };
        assert_eq!(empty.svg(), None);
    }
}
