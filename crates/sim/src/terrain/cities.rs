//! Cities and the great circles between them.
//!
//! Peers are placed by population. A way takes as long as light in glass (two thirds of its speed in
//! vacuum) takes along the great circle: a floor that real cables, which go around, do not reach. The
//! tables in `data/` hold the world's largest cities with the largest of each larger country, and
//! all countries.

use std::collections::BTreeMap;

use super::{Map, Table};
use crate::{
    FileError,
    read::{Line, Text},
};

/// One city.
struct City<'a> {
    id: u64,
    name: &'a str,
    /// Two letters.
    country: &'a str,
    /// Latitude and longitude in degrees.
    at: (f64, f64),
    people: u64,
}

/// What the table of countries says of one.
pub(super) struct Country {
    /// Two letters.
    continent: &'static str,
    pub(super) people: u64,
}

/// The map of the cities that come with the crate.
pub(super) fn embedded() -> Map {
    let text = Text::new("cities.tsv", include_str!("../../data/cities.tsv"));
    parse(&text).expect("a test reads the embedded table")
}

pub(super) fn parse(text: &Text) -> Result<Map, FileError> {
    let mut cities = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let is_named = line.columns()[0].eq_ignore_ascii_case(COLUMNS[0]);
        if index == 0 && is_named {
            continue;
        }
        cities.push(city(&line)?);
    }
    if cities.is_empty() {
        return Err(text.error("no city"));
    }
    cities.sort_unstable_by_key(|city| (u64::MAX - city.people, city.id));
    cities.truncate(MOST_CITIES);
    let known = countries();
    let label = |city: &City<'_>| {
        let continent = known
            .get(city.country)
            .map_or(NOWHERE.into(), |it| it.continent.to_lowercase());
        let country = slug(city.country);
        format!("/{continent}/{country}/{}", slug(city.name))
    };
    Ok(Map {
        labels: cities.iter().map(label).collect(),
        // Where a table does not know, somebody lives nevertheless.
        people: cities.iter().map(|city| city.people.max(1)).collect(),
        table: Table::Fixed(ways(&cities)),
    })
}

/// All countries, by their two letters.
pub(super) fn countries() -> BTreeMap<&'static str, Country> {
    let lines = include_str!("../../data/countries.tsv").lines();
    let country = |line: &'static str| {
        let mut fields = line.split('\t');
        let code = fields.next()?;
        let continent = fields.next()?;
        let people = fields.next()?.parse().ok()?;
        Some((code, Country { continent, people }))
    };
    // The one line that is no country is the comment.
    lines.filter_map(country).collect()
}

/// The continent of a country, as a part of a label.
pub(super) fn continent(code: &str) -> String {
    let countries = countries();
    let country = countries.get(code);
    country.map_or(NOWHERE.into(), |it| it.continent.to_lowercase())
}

/// The continent of countries that the table does not have.
const NOWHERE: &str = "xx";

/// The first six columns; what comes after them does not count.
const COLUMNS: [&str; 6] = ["geonameid", "name", "country", "lat", "lon", "population"];

/// How many cities of a file count, the largest: their table of delays takes 16 MB.
const MOST_CITIES: usize = 2_000;

/// More people than a city, or the world, has; their sum over all cities does not overflow.
const MOST_PEOPLE: u64 = 100_000_000_000;

fn city<'a>(line: &Line<'a>) -> Result<City<'a>, FileError> {
    let fields = line.columns();
    let Some(&[id, name, country, lat, lon, people]) = fields.first_chunk() else {
        return Err(line.error(format!(
            "{} columns where a city has at least {}: {}",
            fields.len(),
            COLUMNS.len(),
            COLUMNS.join(" ")
        )));
    };
    let id = id
        .parse()
        .map_err(|_| line.field_error("geonameid", format!("{id:?} is no whole number")))?;
    if country.is_empty() {
        return Err(line.field_error("country", "\"\" is no code of a country"));
    }
    let people = people
        .parse()
        .ok()
        .filter(|&people| people <= MOST_PEOPLE)
        .ok_or_else(|| {
            line.field_error("population", format!("{people:?} is no number of people"))
        })?;
    Ok(City {
        id,
        name,
        country,
        at: (
            degrees(line, "lat", lat, 90.0)?,
            degrees(line, "lon", lon, 180.0)?,
        ),
        people,
    })
}

fn degrees(line: &Line<'_>, field: &str, text: &str, most: f64) -> Result<f64, FileError> {
    let degrees = text.parse().ok();
    degrees
        .filter(|degrees: &f64| degrees.abs() <= most)
        .ok_or_else(|| {
            let problem = format!("{text:?} is no angle from -{most} to {most} degrees");
            line.field_error(field, problem)
        })
}

/// One-way delays in microseconds, a row for each city.
fn ways(cities: &[City<'_>]) -> Vec<u32> {
    let n = cities.len();
    let points: Vec<[f64; 3]> = cities.iter().map(|city| point(city.at)).collect();
    let mut ways = vec![0; n * n];
    for a in 0..n {
        for b in 0..a {
            let way = (radians(points[a], points[b]) * EARTH_KM / KM_PER_US).round() as u32;
            ways[a * n + b] = way;
            ways[b * n + a] = way;
        }
    }
    ways
}

/// The earth's mean radius.
const EARTH_KM: f64 = 6_371.0;

/// Two thirds of 299,792 km/s.
const KM_PER_US: f64 = 0.199_862;

/// On the unit sphere.
fn point((lat, lon): (f64, f64)) -> [f64; 3] {
    let (lat, lon) = (lat.to_radians(), lon.to_radians());
    [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
}

/// The angle between two points of the unit sphere, by their chord: exact for near ones, too.
fn radians(a: [f64; 3], b: [f64; 3]) -> f64 {
    let square: f64 = (0..3).map(|axis| (a[axis] - b[axis]).powi(2)).sum();
    2.0 * (square.sqrt() / 2.0).min(1.0).asin()
}

/// A name as a part of a label: small letters and digits, with dashes between words.
fn slug(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    if words.is_empty() {
        return NOWHERE.into();
    }
    words.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "geonameid\tname\tcountry\tlat\tlon\tpopulation\ttimezone\n";

    fn read(rows: &str) -> Result<Map, FileError> {
        parse(&Text::new("cities.tsv", format!("{HEADER}{rows}")))
    }

    #[track_caller]
    fn refuses(rows: &str, expected: &str) {
        let error = read(rows).err().expect("the rows are wrong").to_string();
        assert_eq!(error, format!("cities.tsv{expected}"));
    }

    fn table(map: &Map) -> &[u32] {
        match &map.table {
            Table::Fixed(table) => table,
            Table::Spread(_) => panic!("cities have a table"),
        }
    }

    #[test]
    fn the_embedded_tables_are_whole() {
        let map = embedded();
        assert!(map.labels.len() >= 250);
        assert!(map.labels.contains(&"/eu/dk/copenhagen".to_string()));
        assert!(map.labels.contains(&"/sa/br/sao-paulo".to_string()));
        assert!(map.labels.iter().all(|label| label.is_ascii()));
        assert!(!map.labels.iter().any(|label| label.starts_with("/xx")));
        let countries = countries();
        assert!(countries.len() > 240);
        let people: u64 = countries.values().map(|country| country.people).sum();
        assert!((7_000_000_000..9_000_000_000).contains(&people));
    }

    #[test]
    fn delays_are_those_of_light_in_glass_along_great_circles() {
        // London and New York are 5,570 km apart: 27.9 ms.
        let rows = "1\tLondon\tGB\t51.508\t-0.126\t9\tx\n2\tNew York\tUS\t40.714\t-74.006\t8\tx\n";
        let map = read(rows).unwrap();
        assert_eq!(map.labels, ["/eu/gb/london", "/na/us/new-york"]);
        let way = table(&map)[1];
        assert!((27_700..28_000).contains(&way), "{way}");
        assert_eq!(table(&map), [0, way, way, 0]);
    }

    #[test]
    fn the_largest_cities_of_a_long_table_count() {
        let row = |n: usize| format!("{n}\tc{n}\tDE\t1\t1\t{n}\tx\n");
        let map = read(&(0..2_100).map(row).collect::<String>()).unwrap();
        assert_eq!(map.labels.len(), MOST_CITIES);
        assert_eq!(map.labels[0], "/eu/de/c2099");
    }

    #[test]
    fn odd_names_make_plain_labels() {
        assert_eq!(slug("St. John's  (Old)"), "st-john-s-old");
        assert_eq!(slug("Århus"), "århus");
        assert_eq!(slug("///"), NOWHERE);
    }

    #[test]
    fn wrong_rows_are_refused() {
        refuses(
            "x\ta\tDE\t1\t1\t5\tz",
            ":2: geonameid: \"x\" is no whole number",
        );
        refuses(
            "1\ta\t\t1\t1\t5\tz",
            ":2: country: \"\" is no code of a country",
        );
        refuses(
            "1\ta\tDE\t91\t1\t5\tz",
            ":2: lat: \"91\" is no angle from -90 to 90 degrees",
        );
        refuses(
            "1\ta\tDE\t1\tnan\t5\tz",
            ":2: lon: \"nan\" is no angle from -180 to 180 degrees",
        );
        refuses(
            "# x\n1\ta\tDE\t1\t1\t-5\tz",
            ":3: population: \"-5\" is no number of people",
        );
        refuses(
            "1\ta\tDE",
            ":2: 3 columns where a city has at least 6: geonameid name country lat lon population",
        );
        refuses("", ": no city");
    }
}
