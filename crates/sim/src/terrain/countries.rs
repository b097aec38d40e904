//! Round trips between countries, as many probes measured them: mean, deviation and least.
//!
//! Peers are placed by population. Each pair of peers draws a delay of its own that it keeps: the
//! least of its two countries plus a log-normal that has the measured mean and deviation, because
//! round trips have a hard floor and a long tail. Access delays are part of what was measured.
//! Pairs of countries that nobody measured take the shortest way over measured ones.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{Map, Table, cities::continent, ground::LEAST_ACCESS};
use crate::{
    FileError,
    read::{Line, Text},
};

/// What was measured between two countries; round trips in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measured {
    count: f64,
    mean: f64,
    deviation: f64,
    least: f64,
}

pub(super) fn parse(text: &Text) -> Result<Map, FileError> {
    let mut pairs: BTreeMap<(&str, &str), Measured> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let fields = line.fields();
        if index == 0 && fields[0].eq_ignore_ascii_case(COLUMNS[0]) {
            continue;
        }
        let (a, b, measured) = row(&line, &fields)?;
        // `None`, `Unknown` and the like: probes that nobody knows the place of.
        let is_country = |code: &str| code.len() == 2;
        if !is_country(a) || !is_country(b) || measured.count == 0.0 {
            continue;
        }
        // Where a pair comes twice, in either order, the line of more measurements counts.
        match pairs.entry((a.min(b), a.max(b))) {
            Entry::Vacant(entry) => {
                entry.insert(measured);
            }
            Entry::Occupied(mut entry) if entry.get().count < measured.count => {
                entry.insert(measured);
            }
            Entry::Occupied(_) => {}
        }
    }
    if pairs.is_empty() {
        return Err(text.error("no pair of countries"));
    }
    let mut codes: Vec<&str> = pairs.keys().flat_map(|&(a, b)| [a, b]).collect();
    codes.sort_unstable();
    codes.dedup();
    let known = super::cities::countries();
    let people = |code: &&str| known.get(code).map_or(UNKNOWN_PEOPLE, |it| it.people);
    let label = |code: &&str| format!("/{}/{}", continent(code), code.to_lowercase());
    Ok(Map {
        labels: codes.iter().map(label).collect(),
        people: codes.iter().map(people).collect(),
        table: Table::Spread(Spread::new(&codes, &pairs)),
    })
}

const COLUMNS: [&str; 7] = [
    "cty1", "cty2", "rtt_cnt", "rtt_avg", "rtt_std", "rtt_min", "rtt_max",
];

/// Inhabitants of a country that the table of countries does not have: a small one.
const UNKNOWN_PEOPLE: u64 = 1_000_000;

fn row<'a>(line: &Line<'a>, fields: &[&'a str]) -> Result<(&'a str, &'a str, Measured), FileError> {
    let &[a, b, count, mean, deviation, least, most] = fields else {
        return Err(line.error(format!(
            "{} columns where round trips between countries have {}: {}",
            fields.len(),
            COLUMNS.len(),
            COLUMNS.join(",")
        )));
    };
    for (name, code) in COLUMNS.into_iter().zip([a, b]) {
        if code.is_empty() || !code.chars().all(char::is_alphabetic) {
            return Err(line.field_error(name, format!("{code:?} is no code of a country")));
        }
    }
    // Neither is a delay that anybody gets, so stray measurements may make them as large as they will.
    let stray = |field, text| line.figure(field, text, f64::MAX, "round trip in milliseconds");
    stray("rtt_max", most)?;
    let mean = line.round_trip("rtt_avg", mean)?;
    let measured = Measured {
        count: line.figure("rtt_cnt", count, f64::MAX, "count")?,
        mean,
        // A single measurement has no deviation.
        deviation: match deviation {
            "" => 0.0,
            deviation => stray("rtt_std", deviation)?,
        },
        // Files round the figures differently, so the mean of one may be a hair below its least.
        least: line.round_trip("rtt_min", least)?.min(mean),
    };
    Ok((a, b, measured))
}

/// The law of delays between each two countries.
pub(super) struct Spread {
    /// A row for each country.
    laws: Vec<Law>,
    /// For each shape, the quantiles of a log-normal of mean 1, in 1/65536.
    quantiles: Vec<[u32; QUANTILES]>,
}

/// Between two countries: `least + above * quantile`, in microseconds one way.
#[derive(Clone, Copy, Debug)]
struct Law {
    least: u32,
    above: u32,
    shape: u8,
}

impl Spread {
    fn new(codes: &[&str], pairs: &BTreeMap<(&str, &str), Measured>) -> Self {
        let n = codes.len();
        let ways = shortest(codes, pairs);
        let mut laws = Vec::with_capacity(n * n);
        for (a, a_code) in codes.iter().enumerate() {
            for (b, b_code) in codes.iter().enumerate() {
                let key = (*a_code.min(b_code), *a_code.max(b_code));
                let filled = filled(if a == b { DOMESTIC_MS } else { ways[a * n + b] });
                laws.push(Law::new(pairs.get(&key).unwrap_or(&filled)));
            }
        }
        Self {
            laws,
            quantiles: (0..SHAPES).map(|shape| quantiles(shape as u8)).collect(),
        }
    }

    /// The delay of a pair whose countries have this index and whose hash is `bits`.
    #[inline]
    pub(super) fn delay(&self, index: usize, bits: u64) -> u32 {
        let law = self.laws[index];
        let quantile = self.quantiles[usize::from(law.shape)][bits as usize % QUANTILES];
        law.at(quantile)
    }

    pub(super) fn mean(&self, index: usize) -> u32 {
        self.laws[index].at(1 << 16)
    }

    pub(super) fn least(&self, index: usize) -> u32 {
        let law = self.laws[index];
        law.at(self.quantiles[usize::from(law.shape)][0])
    }
}

impl Law {
    fn new(measured: &Measured) -> Self {
        let one_way = |ms: f64| (ms * 500.0).round() as u32;
        let least = measured.least.max(LEAST_MS);
        let above = (measured.mean - least).max(0.0);
        let variation = if above > 0.0 {
            measured.deviation / above
        } else {
            0.0
        };
        Self {
            least: one_way(least),
            above: one_way(above),
            shape: (variation * STEPS).round().min((SHAPES - 1) as f64) as u8,
        }
    }

    #[inline]
    fn at(self, quantile: u32) -> u32 {
        let above = (u64::from(self.above) * u64::from(quantile)) >> 16;
        self.least.saturating_add(above.min(MOST_ABOVE) as u32)
    }
}

/// The most that is drawn above the least of a pair, in microseconds: half an hour. No measured pair
/// comes near it, and no sum of delays overflows.
const MOST_ABOVE: u64 = 1_800_000_000;

/// Quantiles of each law: a power of two, and few enough that all stay in the nearest cache.
const QUANTILES: usize = 256;

/// Shapes a unit of variation (deviation over mean).
const STEPS: f64 = 8.0;

/// Shapes in all: up to a variation of 4. What varies more is mostly stray measurements.
const SHAPES: usize = 33;

/// The least round trip, in milliseconds: two peers' access, there and back. Some probes
/// share a rack, and a simulator can look no further ahead than the least delay.
const LEAST_MS: f64 = 4.0 * LEAST_ACCESS as f64 / 1_000.0;

/// The mean round trip within a country that nobody measured: about the median of those that were,
/// in RIPE Atlas.
const DOMESTIC_MS: f64 = 6.0;

/// The mean round trip of two countries that no measured way joins: to the other side of the world.
const FAR_MS: f64 = 250.0;

/// What is taken for two countries that nobody measured: a fifth of the mean either way. Our choice:
/// of the measured pairs with many measurements most vary by about as much.
fn filled(mean: f64) -> Measured {
    Measured {
        count: 0.0,
        mean,
        deviation: mean / 5.0,
        least: mean * 0.8,
    }
}

/// The shortest mean round trips over measured pairs (Floyd 1962), a row for each country. O(n^3).
fn shortest(codes: &[&str], pairs: &BTreeMap<(&str, &str), Measured>) -> Vec<f64> {
    let n = codes.len();
    let place = |code| codes.binary_search(&code).expect("codes are of the pairs");
    let mut ways = vec![f64::INFINITY; n * n];
    for (&(a, b), measured) in pairs {
        let (a, b) = (place(a), place(b));
        ways[a * n + b] = measured.mean;
        ways[b * n + a] = measured.mean;
    }
    for by in 0..n {
        for a in 0..n {
            for b in 0..n {
                let way = ways[a * n + by] + ways[by * n + b];
                if way < ways[a * n + b] {
                    ways[a * n + b] = way;
                }
            }
        }
    }
    for way in &mut ways {
        if way.is_infinite() {
            *way = FAR_MS;
        }
    }
    ways
}

/// Quantiles of the log-normal of mean 1 and this shape, in 1/65536, the least first.
fn quantiles(shape: u8) -> [u32; QUANTILES] {
    let variation = f64::from(shape) / STEPS;
    let sigma = (1.0 + variation * variation).ln().sqrt();
    let values = normal_quantiles().map(|x| (sigma * x).exp());
    // Their own mean, not the law's: what lies beyond the last quantile is missing from it.
    let mean = values.iter().sum::<f64>() / QUANTILES as f64;
    values.map(|value| (value / mean * 65_536.0).round() as u32)
}

/// The middle of each of the equal parts of a standard normal law, by summing its density.
fn normal_quantiles() -> [f64; QUANTILES] {
    const STEP: f64 = 1e-3;
    let mut x = -6.0f64;
    let mut below = 0.0;
    std::array::from_fn(|index| {
        let wanted = (index as f64 + 0.5) / QUANTILES as f64;
        while below < wanted {
            below += (-x * x / 2.0).exp() * STEP / std::f64::consts::TAU.sqrt();
            x += STEP;
        }
        x - STEP / 2.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "cty1,cty2,rtt_cnt,rtt_avg,rtt_std,rtt_min,rtt_max\n";

    fn read(rows: &str) -> Result<Map, FileError> {
        parse(&Text::new("rtt.csv", format!("{HEADER}{rows}")))
    }

    #[track_caller]
    fn refuses(rows: &str, expected: &str) {
        let error = read(rows).err().expect("the rows are wrong").to_string();
        assert_eq!(error, format!("rtt.csv{expected}"));
    }

    /// The mean one-way delays between countries, in milliseconds.
    fn means(map: &Map) -> Vec<f64> {
        let Table::Spread(spread) = &map.table else {
            panic!("countries have laws");
        };
        let mean = |index| f64::from(spread.mean(index)) / 1_000.0;
        (0..spread.laws.len()).map(mean).collect()
    }

    #[test]
    fn pairs_nobody_measured_take_the_shortest_way() {
        let map = read("DE,FR,9,20,1,10,40\nES,FR,9,30,1,20,40\nJP,KR,9,40,1,30,50\n").unwrap();
        assert_eq!(
            map.labels,
            ["/eu/de", "/eu/es", "/eu/fr", "/as/jp", "/as/kr"]
        );
        let means = means(&map);
        assert_eq!(means[0], DOMESTIC_MS / 2.0);
        assert_eq!(means[1], 25.0, "Germany to Spain by way of France");
        assert_eq!(means[2], 10.0);
        assert_eq!(means[3], FAR_MS / 2.0, "nothing leads to Japan");
    }

    #[test]
    fn peers_are_spread_by_population() {
        let map = read("DE,DK,9,20,1,10,40\nDE,ZZ,9,20,1,10,40\n").unwrap();
        assert!((70_000_000..100_000_000).contains(&map.people[0]));
        assert!((5_000_000..7_000_000).contains(&map.people[1]));
        assert_eq!(map.people[2], UNKNOWN_PEOPLE);
        assert_eq!(map.labels[2], "/xx/zz");
    }

    #[test]
    fn probes_of_unknown_place_do_not_count() {
        let map = read("None,Unknown,9,20,1,10,40\nDE,None,9,20,,20,20\nDE,DE,1,5,,5,5\n").unwrap();
        assert_eq!(map.labels, ["/eu/de"]);
        refuses("None,None,9,20,1,10,40\n", ": no pair of countries");
    }

    #[test]
    fn of_a_pair_that_comes_twice_the_better_measured_counts() {
        let rows = "DE,FR,9,20,1,10,40\nFR,DE,99,24,1,10,40\nDE,FR,50,30,1,10,40\n";
        assert_eq!(means(&read(rows).unwrap())[1], 12.0);
    }

    #[test]
    fn wrong_rows_are_refused() {
        let what = "is no round trip in milliseconds";
        refuses("DE,FR,9,x,1,1,1", &format!(":2: rtt_avg: \"x\" {what}"));
        refuses("DE,FR,9,5,nan,1,1", &format!(":2: rtt_std: \"nan\" {what}"));
        refuses("DE,FR,9,5,1,-1,1", &format!(":2: rtt_min: \"-1\" {what}"));
        refuses("DE,FR,9,5,1,1,inf", &format!(":2: rtt_max: \"inf\" {what}"));
        refuses("DE,FR,many,5,1,1,5", ":2: rtt_cnt: \"many\" is no count");
        refuses("DE,,9,5,1,1,5", ":2: cty2: \"\" is no code of a country");
        refuses("1,FR,9,5,1,1,5", ":2: cty1: \"1\" is no code of a country");
        refuses(
            "# x\nDE,FR,9",
            ":3: 3 columns where round trips between countries have 7: \
             cty1,cty2,rtt_cnt,rtt_avg,rtt_std,rtt_min,rtt_max",
        );
        refuses("", ": no pair of countries");
    }

    #[test]
    fn drawn_delays_have_the_measured_mean_deviation_and_least() {
        let map = read("DE,DE,999,30,10,20,400\n").unwrap();
        let Table::Spread(spread) = map.table else {
            panic!("countries have laws");
        };
        let delays: Vec<f64> = (0..QUANTILES as u64)
            .map(|bits| f64::from(spread.delay(0, bits)) / 500.0)
            .collect();
        let mean = delays.iter().sum::<f64>() / 256.0;
        let square = delays.iter().map(|rtt| (rtt - mean).powi(2)).sum::<f64>() / 256.0;
        assert!((mean - 30.0).abs() < 0.1, "{mean}");
        assert!((8.0..10.5).contains(&square.sqrt()), "{}", square.sqrt());
        assert!(delays.iter().all(|&rtt| rtt >= 20.0));
        assert_eq!(spread.least(0), spread.delay(0, 0));
    }

    #[test]
    fn normal_quantiles_are_those_of_the_tables() {
        let quantiles = normal_quantiles();
        // The 0.5/256 quantile, and the median from either side.
        assert!((quantiles[0] + 2.886).abs() < 0.01, "{}", quantiles[0]);
        assert!((quantiles[127] + quantiles[128]).abs() < 0.01);
        assert!((quantiles[192] - 0.681).abs() < 0.01, "{}", quantiles[192]);
    }
}
