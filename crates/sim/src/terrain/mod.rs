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

use self::{countries::Spread, ground::Ground};
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::read::tests::{file, packed};

    /// Hosts in a row, so many milliseconds of round trip apart.
    fn row_of_hosts(hosts: u32, apart: u32) -> String {
        let rtt = |a: u32, b: u32| format!("{} ", a.abs_diff(b) * apart);
        let row = |a| (0..hosts).map(|b| rtt(a, b)).collect::<String>() + "\n";
        (0..hosts).map(row).collect()
    }

    fn of_text(text: &str, peers: u32) -> Terrain {
        let (_dir, path) = file("some.gz", &packed(text));
        Terrain::new(&Latency::File(path), peers, 1).unwrap()
    }

    const COUNTRIES: &str = "# from probes\ncty1,cty2,rtt_cnt,rtt_avg,rtt_std,rtt_min,rtt_max\n\
        DE,DE,9,12,8,2,40\nDE,FR,9,20,10,10,400\nFR,JP,9,240,30,200,900\n";

    /// One of each model.
    fn all(peers: u32) -> Vec<Terrain> {
        let given = [
            Latency::Constant(50.0),
            Latency::Uniform(10.0, 90.0),
            Latency::Geo,
        ];
        let given = given.map(|latency| Terrain::new(&latency, peers, 1).unwrap());
        let mut all = Vec::from(given);
        all.push(of_text(&row_of_hosts(20, 10), peers));
        all.push(of_text(COUNTRIES, peers));
        all
    }

    #[test]
    fn delays_are_symmetric_stable_and_never_below_the_least() {
        for (model, (terrain, again)) in all(300).iter().zip(all(300)).enumerate() {
            let mut least = u32::MAX;
            for a in 0..300 {
                for b in 0..a {
                    let delay = terrain.delay(a, b);
                    assert_eq!(delay, terrain.delay(b, a));
                    assert_eq!(delay, again.delay(a, b));
                    least = least.min(delay);
                }
            }
            assert!(least >= terrain.least() && least >= LEAST, "model {model}");
            assert!(least < terrain.least() * 3 / 2, "model {model}: {least}");
        }
    }

    #[test]
    fn another_seed_is_another_terrain() {
        for latency in [Latency::Geo, Latency::Uniform(1.0, 100.0)] {
            let [a, b] = [1, 2].map(|seed| Terrain::new(&latency, 100, seed).unwrap());
            assert!((1..100).any(|peer| a.delay(0, peer) != b.delay(0, peer)));
        }
    }

    #[test]
    fn where_a_peer_is_does_not_depend_on_how_many_there_are() {
        let few = Terrain::new(&Latency::Geo, 10, 1).unwrap();
        let many = Terrain::new(&Latency::Geo, 1_000, 1).unwrap();
        assert!((0..10).all(|peer| few.label(peer) == many.label(peer)));
        assert_eq!(few.delay(3, 7), many.delay(3, 7));
    }

    #[test]
    fn a_constant_delay_is_what_it_says_and_a_uniform_one_fills_its_range() {
        let constant = Terrain::new(&Latency::Constant(50.0), 2, 1).unwrap();
        assert_eq!((constant.delay(0, 1), constant.least()), (50_000, 50_000));
        let none = Terrain::new(&Latency::Constant(0.0), 2, 1).unwrap();
        assert_eq!((none.delay(0, 1), none.least()), (100, 100));
        let uniform = Terrain::new(&Latency::Uniform(10.0, 20.0), 0, 1).unwrap();
        let delays = (0..5_000).map(|peer| uniform.delay(peer, peer + 1));
        let delays: Vec<u32> = delays.collect();
        assert!(delays.iter().all(|us| (10_000..=20_000).contains(us)));
        let mean = delays.iter().sum::<u32>() / 5_000;
        assert!((14_800..15_200).contains(&mean), "{mean}");
    }

    #[test]
    fn delays_that_make_no_sense_are_refused() {
        let bad = [
            Latency::Constant(-1.0),
            Latency::Constant(f64::NAN),
            Latency::Constant(1e9),
            Latency::Uniform(20.0, 10.0),
            Latency::Uniform(1.0, f64::INFINITY),
        ];
        for latency in bad {
            let error = Terrain::new(&latency, 1, 1).err().unwrap().to_string();
            assert!(error.starts_with("latency: "), "{error}");
        }
    }

    #[test]
    fn files_are_told_by_what_they_hold() {
        let label = |text: &str| of_text(text, 1).label(0);
        assert!(label("0 5\n5 0\n").starts_with("/h"));
        assert!(label("a b\n0 5\n5 0\n").starts_with("/h"));
        assert!(label("DE,FR,9,20,1,10,40\n").starts_with("/eu/"));
        let city = "7\tNew York\tUS\t40.7\t-74\t8000000\tAmerica/New_York\n";
        assert_eq!(label(city), "/na/us/new-york");
        let head = "geonameid\tname\tcountry\tlat\tlon\tpopulation\ttimezone\n";
        assert_eq!(label(&format!("# cities\n{head}{city}")), "/na/us/new-york");
    }

    #[test]
    fn files_of_other_kinds_are_refused_with_their_line() {
        for (text, expected) in [
            ("", "some.txt: empty; expected a square matrix"),
            ("# nothing\n\n", "some.txt: empty; expected a square matrix"),
            (
                "node,up_s,down_s\n1,2,3\n",
                "some.txt:2: the last row is number 1",
            ),
            (
                "1 2\n3 4\n5 6\n",
                "some.txt:3: row 3 where the first has 2 columns",
            ),
            ("0 1\n1 x\n", "some.txt:2: column 2: \"x\" is no round trip"),
        ] {
            let (_dir, path) = file("some.txt", text.as_bytes());
            let error = Terrain::new(&Latency::File(path), 2, 1).err().unwrap();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn near_peers_are_of_the_nearest_sites_that_make_a_vicinity() {
        let terrain = of_text(&row_of_hosts(100, 10), 1_000);
        let host = |peer| -> i32 {
            terrain
                .label(peer)
                .rsplit_once('h')
                .unwrap()
                .1
                .parse()
                .unwrap()
        };
        let mut random = Random::new(1);
        let mut met = BTreeSet::new();
        for _ in 0..2_000 {
            let near = terrain.near(5, 1_000, &mut random);
            assert!((host(near) - host(5)).abs() <= 4, "{}", host(near));
            met.insert(near);
        }
        assert!((32..64).contains(&met.len()), "{}", met.len());
    }

    #[test]
    fn a_near_peer_is_another_below_the_limit() {
        // 200 sites: more than are known around each, so that a low limit asks for them all.
        let terrains = [
            of_text(&row_of_hosts(200, 10), 400),
            Terrain::new(&Latency::Constant(1.0), 400, 1).unwrap(),
        ];
        proptest!(|(peer in 0u32..400, limit in 2u32..400, seed: u64)| {
            for terrain in &terrains {
                let near = terrain.near(peer, limit, &mut Random::new(seed));
                prop_assert!(near < limit && near != peer);
            }
        });
    }

    #[test]
    fn every_candidate_of_a_small_world_is_drawn() {
        for terrain in all(6) {
            let mut random = Random::new(3);
            let met: BTreeSet<u32> = (0..300).map(|_| terrain.near(2, 5, &mut random)).collect();
            assert!(met.into_iter().eq([0, 1, 3, 4]));
        }
    }
}
