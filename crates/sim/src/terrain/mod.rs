//! Where each peer is, and how far from another: constant, drawn, or by places on a map.
//!
//! ```text
//!   delay(a, b) = access(a) + way(site of a, site of b) + access(b)
//! ```
//!
//! Sites are cities, measured hosts or countries. A pair keeps its delay for a whole run; what varies
//! from message to message (jitter, loss) is added by others. `way` comes from tables made ahead, and
//! what is drawn for a pair is a hash, because every simulated message asks.

mod cities;
mod countries;
mod ground;
mod matrix;

use std::path::Path;

use ringweave_ids::Random;

use self::{
    countries::Spread,
    ground::{Ground, Place},
};
use crate::{
    FileError, Latency,
    draw::mix,
    read::{MOST_MS, Text, is_number},
};

/// Where the peers of one run are.
pub struct Terrain {
    seed: u64,
    ways: Ways,
    least: u32,
}

impl Terrain {
    /// Places handles 0 to `peers`; where each comes to be depends on `seed` and its handle alone.
    ///
    /// A file is told by its content: round trips between countries (`cty1,cty2,rtt_cnt,rtt_avg,
    /// rtt_std,rtt_min,rtt_max`), cities (`geonameid name country lat lon population timezone`, parted
    /// by tabs; the largest 2,000 count), or else a square matrix of round trips in milliseconds
    /// between at most 4,096 hosts.
    ///
    /// # Errors
    /// If a figure of the model makes no sense, or the file cannot be read or is none of these.
    pub fn new(latency: &Latency, peers: u32, seed: u64) -> Result<Self, FileError> {
        // A salt of its own: other draws of the same run know the same seed.
        let seed = mix(seed, SALT);
        let ways = match latency {
            Latency::Constant(ms) => Ways::Constant(micros(*ms)?),
            Latency::Uniform(low, high) => {
                let (low, high) = (micros(*low)?, micros(*high)?);
                if high < low {
                    return Err(setting("the range ends before it begins".into()));
                }
                Ways::Uniform {
                    low,
                    width: high - low,
                }
            }
            Latency::Geo => cities::embedded().placed(peers, seed),
            Latency::File(path) => from_file(path)?.placed(peers, seed),
        };
        let least = ways.least().max(LEAST);
        Ok(Self { seed, ways, least })
    }

    /// The one-way delay between two peers in microseconds, at least 100: the same in both directions
    /// and every time. O(1), a few nanoseconds.
    ///
    /// # Panics
    /// If the model has places and a peer is none of the placed.
    #[inline]
    pub fn delay(&self, a: u32, b: u32) -> u32 {
        let delay = match &self.ways {
            Ways::Constant(delay) => *delay,
            Ways::Uniform { low, width } => {
                let chance = pair(self.seed, a, b) >> 32;
                low + ((chance * (u64::from(*width) + 1)) >> 32) as u32
            }
            Ways::Fixed(ground, table) => {
                let (a, b) = (ground.place(a), ground.place(b));
                table[ground.index(a, b)] + a.access + b.access
            }
            Ways::Spread(ground, spread) => {
                let index = ground.index(ground.place(a), ground.place(b));
                spread.delay(index, pair(self.seed, a, b))
            }
        };
        delay.max(LEAST)
    }

    /// No pair of peers has a delay below this, in microseconds: how far a simulator may look ahead.
    /// It is exact but for drawn delays, where it is the least that could have been drawn.
    pub fn least(&self) -> u32 {
        self.least
    }

    /// A peer near to `peer` and other than it, drawn among those with handles below `limit`: the
    /// ones of its own site and of the nearest sites until there are 32, or all there are. Where the
    /// model has no places, any.
    ///
    /// # Panics
    /// If no other peer has a handle below `limit`, or a peer below it has no place.
    pub fn near(&self, peer: u32, limit: u32, random: &mut Random) -> u32 {
        match &self.ways {
            Ways::Constant(_) | Ways::Uniform { .. } => {
                let others = limit - u32::from(peer < limit);
                let drawn = random.below(others as usize) as u32;
                drawn + u32::from(drawn >= peer)
            }
            Ways::Fixed(ground, _) | Ways::Spread(ground, _) => {
                ground.near(peer, limit, random, |a, b| self.ways.way(ground, a, b))
            }
        }
    }

    /// Where a peer is, from the outside in: `/eu/dk/copenhagen` for cities, `/eu/dk` for countries,
    /// `/h4/h123` for the hosts of a matrix (a region is called after its most central host). Empty
    /// where the model has no places.
    pub fn label(&self, peer: u32) -> String {
        match &self.ways {
            Ways::Constant(_) | Ways::Uniform { .. } => String::new(),
            Ways::Fixed(ground, _) | Ways::Spread(ground, _) => ground.label(peer).to_owned(),
        }
    }
}

/// The delays of a model. Tables have a row for each site, in microseconds one way.
enum Ways {
    Constant(u32),
    Uniform {
        low: u32,
        width: u32,
    },
    /// To the table's entry come the access delays of both ends.
    Fixed(Ground, Vec<u32>),
    /// Drawn for each pair; access is part of what was measured.
    Spread(Ground, Spread),
}

impl Ways {
    /// How far two sites are from each other, as a rule.
    fn way(&self, ground: &Ground, a: u16, b: u16) -> u32 {
        let index = ground.pair(a, b);
        match self {
            Self::Constant(delay) => *delay,
            Self::Uniform { low, .. } => *low,
            Self::Fixed(_, table) => table[index],
            Self::Spread(_, spread) => spread.mean(index),
        }
    }

    fn least(&self) -> u32 {
        match self {
            Self::Constant(delay) => *delay,
            Self::Uniform { low, .. } => *low,
            Self::Fixed(ground, table) => ground.least(|index, access| table[index] + access),
            Self::Spread(ground, spread) => ground.least(|index, _| spread.least(index)),
        }
    }
}

/// Sites before anybody is at them.
struct Map {
    /// A label for each site.
    labels: Vec<String>,
    /// How many live there, for each site: peers are spread in proportion. Not all zero.
    people: Vec<u64>,
    /// The delays between them.
    table: Table,
}

enum Table {
    Fixed(Vec<u32>),
    Spread(Spread),
}

impl Map {
    fn placed(self, peers: u32, seed: u64) -> Ways {
        let far: &dyn Fn(usize) -> u32 = match &self.table {
            Table::Fixed(table) => &|index| table[index],
            Table::Spread(spread) => &|index| spread.mean(index),
        };
        let ground = Ground::new(self.labels, &self.people, peers, seed, far);
        match self.table {
            Table::Fixed(table) => Ways::Fixed(ground, table),
            Table::Spread(spread) => Ways::Spread(ground, spread),
        }
    }
}

/// The least delay of any pair, in microseconds: two processes on one machine.
const LEAST: u32 = 100;

const SALT: u64 = 0x07e4_4a14;

/// 64 bits for a pair of peers, whatever their order.
#[inline]
fn pair(seed: u64, a: u32, b: u32) -> u64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    mix(seed, u64::from(low) << 32 | u64::from(high))
}

fn micros(ms: f64) -> Result<u32, FileError> {
    if (0.0..=MOST_MS).contains(&ms) {
        return Ok((ms * 1_000.0).round() as u32);
    }
    Err(setting(format!(
        "{ms} is no delay in milliseconds, 0 to {MOST_MS}"
    )))
}

fn setting(problem: String) -> FileError {
    FileError::Setting {
        field: "latency",
        problem,
    }
}

/// Tells the three formats by the first line that counts, with or without a row of names.
fn from_file(path: &Path) -> Result<Map, FileError> {
    let text = Text::read(path)?;
    let Some(first) = text.lines().next() else {
        return Err(text.error(
            "empty; expected a square matrix of round trips, round trips between countries, or cities",
        ));
    };
    let fields = first.fields();
    let columns = first.columns();
    let is_word = |text: &str| !text.is_empty() && !is_number(text);
    let is_countries = fields[0].eq_ignore_ascii_case("cty1")
        || fields.len() == 7 && is_word(fields[0]) && is_word(fields[1]) && is_number(fields[2]);
    let is_cities = columns[0].eq_ignore_ascii_case("geonameid")
        || columns.len() >= 6
            && is_number(columns[0])
            && columns[1..3].iter().all(|it| is_word(it));
    if is_countries {
        countries::parse(&text)
    } else if is_cities {
        cities::parse(&text)
    } else {
        matrix::parse(&text)
    }
}
