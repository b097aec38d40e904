//! A picture of a network's rings: the center ring in the middle, each further ring around the
//! position it hangs from.
//!
//! ```text
//!        o o             Sizes come from the outside in: a ring is just wide enough for what hangs
//!       o A o            from its positions, so that siblings never overlap and a busy branch gets
//!        o o    B        more room than an idle one. Place 0 is at the top; the next ones follow
//!     D      C           clockwise.
//! ```

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_PI_2, PI, TAU};

use super::{escape, grouped};
use crate::report::Outcome;

/// The rings of each run that has some.
pub(super) fn section(runs: &[(String, Outcome)]) -> String {
    let figures: String = runs
        .iter()
        .filter(|(_, run)| !run.series.places.is_empty())
        .map(|(name, run)| figure(name, &run.series.places, run.report.peers))
        .collect();
    if figures.is_empty() {
        return figures;
    }
    format!(
        "<section>\n<h2>Rings</h2>\n<p>Every dot is a peer. The center ring is in the middle; a ring \
         further out surrounds the position it belongs to, where several peers may stand together. \
         Pointing at a dot shows its coordinate.</p>\n<div class=\"rings\">\n{figures}</div>\n\
         </section>\n"
    )
}

/// Peers of a picture at most: more would be dust.
const PEERS_MAX: usize = 2_000;

/// Half the width of a picture.
const HALF: f64 = 500.0;

/// Largest radius of a dot: in a small network, dots should not become balls.
const DOT_MAX: f64 = 14.0;

/// Colours there are for levels.
const HUES: usize = 6;

fn figure(name: &str, places: &[Vec<u32>], peers: u32) -> String {
    let places = &places[..places.len().min(PEERS_MAX)];
    let mut root = Place::default();
    for place in places {
        root.settle(place);
    }
    let levels = levels(places);
    let drawing = draw(&root, levels.len());
    let name = escape(name);
    let shown = grouped(places.len() as f64, 0);
    let count = if places.len() < peers as usize {
        format!("{shown} of {} peers", grouped(f64::from(peers), 0))
    } else {
        format!("{shown} peers")
    };
    let key: String = levels
        .iter()
        .enumerate()
        .map(|(level, count)| {
            let label = if level == 0 {
                "center".into()
            } else {
                format!("level {level}")
            };
            let hue = level % HUES;
            let count = grouped(*count as f64, 0);
            format!("<li><span class=\"dot level-{hue}\"></span>{label}: {count}</li>\n")
        })
        .collect();
    format!(
        "<figure>\n<h3>{name}</h3>\n<p class=\"axis\">{count}</p>\n\
         <svg viewBox=\"{0} {0} {1} {1}\" role=\"img\" \
         aria-label=\"Rings of {name}: {shown} peers on {2} levels\">\n{drawing}</svg>\n\
         <figcaption>\n<ul class=\"key\">\n{key}</ul>\n</figcaption>\n</figure>\n",
        -HALF,
        2.0 * HALF,
        levels.len()
    )
}

/// How many peers each level has, the center first.
fn levels(places: &[Vec<u32>]) -> Vec<u64> {
    let mut levels = Vec::new();
    for place in places {
        let level = place.len().saturating_sub(1);
        if levels.len() <= level {
            levels.resize(level + 1, 0);
        }
        levels[level] += 1;
    }
    levels
}

/// A position: the peers that hold it, and the ring below it.
#[derive(Default)]
struct Place {
    peers: u32,
    ring: BTreeMap<u32, Self>,
}

impl Place {
    fn settle(&mut self, coordinate: &[u32]) {
        match coordinate.split_first() {
            None => self.peers += 1,
            Some((number, rest)) => self.ring.entry(*number).or_default().settle(rest),
        }
    }
}

/// A position with its sizes, in radii of the smallest dot.
struct Layout {
    /// The radius of its ring; 0 without one.
    radius: f64,
    /// The radius of everything, its ring's positions included.
    extent: f64,
    /// Each position of its ring with the angle where it lies.
    ring: Vec<(u32, f64, Self)>,
    peers: u32,
}

/// What a drawing really covers: less than its extent where branches differ.
#[derive(Clone, Copy)]
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Layout {
    fn frame(&self, (x, y): (f64, f64), depth: usize) -> Frame {
        let reach = self.radius.max(heap(self.peers, dot(depth)));
        let own = Frame {
            left: x - reach,
            right: x + reach,
            top: y - reach,
            bottom: y + reach,
        };
        self.ring.iter().fold(own, |frame, (_, angle, below)| {
            let center = (x + self.radius * angle.cos(), y + self.radius * angle.sin());
            let below = below.frame(center, depth + 1);
            Frame {
                left: frame.left.min(below.left),
                right: frame.right.max(below.right),
                top: frame.top.min(below.top),
                bottom: frame.bottom.max(below.bottom),
            }
        })
    }
}

/// The size of a position whose depth is 0 for the middle, 1 for the positions of the center ring.
fn layout(place: &Place, depth: usize) -> Layout {
    let ring: Vec<(u32, Layout)> = place
        .ring
        .iter()
        .map(|(number, below)| (*number, layout(below, depth + 1)))
        .collect();
    let heap = heap(place.peers, dot(depth));
    let widest = ring
        .iter()
        .fold(0.0, |widest: f64, (_, below)| widest.max(below.extent));
    if ring.is_empty() {
        return Layout {
            radius: 0.0,
            extent: heap,
            ring: Vec::new(),
            peers: place.peers,
        };
    }
    // A sample of a large network has positions that nobody in the sample holds. One with a single
    // branch would only push it outward.
    let lone = ring.len() == 1 && place.peers == 0;
    let clear = if lone { 0.0 } else { heap + widest + GAP };
    let radius = if lone {
        0.0
    } else {
        fit(&ring, clear.max(1.6 * widest))
    };
    let spare = (TAU - turn(&ring, radius)).max(0.0) / ring.len() as f64;
    let mut angle = -FRAC_PI_2 - half_turn(ring[0].1.extent, radius) - spare / 2.0;
    let ring = ring
        .into_iter()
        .map(|(number, below)| {
            let half = half_turn(below.extent, radius) + spare / 2.0;
            let middle = angle + half;
            angle = middle + half;
            (number, middle, below)
        })
        .collect();
    Layout {
        radius,
        extent: radius + widest,
        ring,
        peers: place.peers,
    }
}

/// The least radius, not under `least`, at which everything fits around a ring.
fn fit(ring: &[(u32, Layout)], least: f64) -> f64 {
    let (mut low, mut high) = (least, least);
    while turn(ring, high) > TAU {
        low = high;
        high *= 2.0;
    }
    for _ in 0..32 {
        let middle = f64::midpoint(low, high);
        if turn(ring, middle) > TAU {
            low = middle
        } else {
            high = middle
        }
    }
    high
}

/// The angle that all positions of a ring need together.
fn turn(ring: &[(u32, Layout)], radius: f64) -> f64 {
    ring.iter()
        .map(|(_, below)| 2.0 * half_turn(below.extent, radius))
        .sum()
}

fn half_turn(extent: f64, radius: f64) -> f64 {
    let room = 1.05 * extent + GAP / 2.0;
    if radius > room {
        (room / radius).asin()
    } else {
        FRAC_PI_2
    }
}

/// Room between neighbours, in radii of the smallest dot.
const GAP: f64 = 0.8;

/// The radius of a peer's dot: peers further in carry more, and are fewer.
fn dot(depth: usize) -> f64 {
    1.0 + 1.0 / depth.max(1) as f64
}

/// The radius of the peers that hold one position together.
fn heap(peers: u32, dot: f64) -> f64 {
    match peers {
        0 => 0.0,
        1 => dot,
        _ => dot + circle(peers, dot),
    }
}

/// The radius of the circle on which the dots of one position stand.
fn circle(peers: u32, dot: f64) -> f64 {
    if peers < 2 {
        0.0
    } else {
        1.15 * dot / (PI / f64::from(peers)).sin()
    }
}

/// Rings below, dots above, each level in its colour.
fn draw(root: &Place, levels: usize) -> String {
    let layout = layout(root, 0);
    let frame = layout.frame((0.0, 0.0), 0);
    let side = (frame.right - frame.left)
        .max(frame.bottom - frame.top)
        .max(1.0);
    let scale = (2.0 * HALF - 8.0) / side;
    let middle = (
        f64::midpoint(frame.left, frame.right),
        f64::midpoint(frame.top, frame.bottom),
    );
    let mut pen = Pen {
        scale,
        rings: vec![String::new(); levels + 1],
        dots: vec![String::new(); levels + 1],
    };
    pen.place(
        &layout,
        (-middle.0 * scale, -middle.1 * scale),
        &mut Vec::new(),
    );
    let group = |kind: &str, level: usize, shapes: &String| {
        let hue = level % HUES;
        let center = if level == 0 { " center" } else { "" };
        format!("<g class=\"{kind}{center} level-{hue}\">\n{shapes}</g>\n")
    };
    let mut drawing = String::new();
    for (kind, shapes) in [("orbits", &pen.rings), ("peers", &pen.dots)] {
        for (level, shapes) in shapes
            .iter()
            .enumerate()
            .filter(|(_, shapes)| !shapes.is_empty())
        {
            drawing.push_str(&group(kind, level, shapes));
        }
    }
    drawing
}

/// What is drawn so far, by level.
struct Pen {
    scale: f64,
    rings: Vec<String>,
    dots: Vec<String>,
}

impl Pen {
    fn place(&mut self, layout: &Layout, (x, y): (f64, f64), coordinate: &mut Vec<u32>) {
        if layout.radius > 0.0 {
            let radius = layout.radius * self.scale;
            self.rings[coordinate.len()].push_str(&format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>\n"
            ));
        }
        self.peers(layout.peers, (x, y), coordinate);
        for (number, angle, below) in &layout.ring {
            let reach = layout.radius * self.scale;
            coordinate.push(*number);
            self.place(
                below,
                (x + reach * angle.cos(), y + reach * angle.sin()),
                coordinate,
            );
            coordinate.pop();
        }
    }

    fn peers(&mut self, peers: u32, (x, y): (f64, f64), coordinate: &[u32]) {
        let level = coordinate.len().saturating_sub(1);
        let natural = dot(coordinate.len());
        let scale = self.scale.min(DOT_MAX / natural);
        let radius = natural * scale;
        let reach = circle(peers, natural) * scale;
        let numbers: Vec<String> = coordinate.iter().map(u32::to_string).collect();
        let title = numbers.join(".");
        for peer in 0..peers {
            let angle = TAU * f64::from(peer) / f64::from(peers) - FRAC_PI_2;
            let (x, y) = (x + reach * angle.cos(), y + reach * angle.sin());
            self.dots[level].push_str(&format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>[{title}]</title>\
                 </circle>\n"
            ));
        }
    }
}
