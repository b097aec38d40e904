//! A square matrix of round trips between measured hosts, over which peers are spread evenly.
//!
//! Where the two directions of a pair differ, their mean counts. The diagonal does not: peers of one
//! host are as far from each other as their access delays say. Hosts are grouped into regions by
//! medoids (Kaufman & Rousseeuw, *Clustering by means of medoids*, 1987: the BUILD phase, then
//! alternating assignment), for labels only.

use super::{Map, Table};
use crate::{
    FileError,
    read::{Line, Text},
};

/// The most hosts of a matrix: the table takes 64 MiB then.
const MOST_HOSTS: usize = 4_096;

/// The most regions: as many as a large ring of regions would have positions.
const MOST_REGIONS: usize = 16;

pub(super) fn parse(text: &Text) -> Result<Map, FileError> {
    let mut rows: Vec<f32> = Vec::new();
    let mut width = 0;
    let mut last = None;
    for (index, line) in text.lines().enumerate() {
        if index == 0 && line.is_header() {
            continue;
        }
        last = Some(line);
        let fields = line.fields();
        if width == 0 {
            width = fields.len();
        }
        row(&line, &fields, width, &mut rows)?;
    }
    let Some(last) = last else {
        return Err(text.error("no row of round trips"));
    };
    let height = rows.len() / width;
    if height < width {
        return Err(last.error(format!(
            "the last row is number {height} where the first has {width} columns; {SQUARE}"
        )));
    }
    if width < 2 {
        return Err(last.error("one host alone has no round trips"));
    }
    let ways = one_way(&rows, width);
    let labels = labels(&ways, width);
    Ok(Map {
        labels,
        people: vec![1; width],
        table: Table::Fixed(ways),
    })
}

const SQUARE: &str = "a matrix of round trips is square";

fn row(
    line: &Line<'_>,
    fields: &[&str],
    width: usize,
    rows: &mut Vec<f32>,
) -> Result<(), FileError> {
    if width > MOST_HOSTS {
        return Err(line.error(format!(
            "{width} columns; a matrix has at most {MOST_HOSTS} hosts"
        )));
    }
    for (column, field) in (1..).zip(fields) {
        let rtt = line.round_trip(&format!("column {column}"), field)?;
        rows.push(rtt as f32);
    }
    if fields.len() != width {
        let columns = fields.len();
        return Err(line.error(format!(
            "{columns} columns where the first row has {width}; {SQUARE}"
        )));
    }
    if rows.len() > width * width {
        let height = rows.len() / width;
        return Err(line.error(format!(
            "row {height} where the first has {width} columns; {SQUARE}"
        )));
    }
    Ok(())
}

/// One-way delays in microseconds: half the mean of the two directions' round trips.
fn one_way(rows: &[f32], hosts: usize) -> Vec<u32> {
    let mut ways = vec![0; rows.len()];
    for a in 0..hosts {
        for b in 0..a {
            let sum = f64::from(rows[a * hosts + b]) + f64::from(rows[b * hosts + a]);
            let way = (sum * 1_000.0 / 4.0).round() as u32;
            ways[a * hosts + b] = way;
            ways[b * hosts + a] = way;
        }
    }
    ways
}

/// `/hM/hN` for host N in the region around host M.
fn labels(ways: &[u32], hosts: usize) -> Vec<String> {
    let medoids = medoids(ways, hosts);
    let label = |host| format!("/h{}/h{host}", closest(&medoids, host, ways, hosts));
    (0..hosts).map(label).collect()
}

/// The hosts in whose midst the others are, in ascending order.
fn medoids(ways: &[u32], hosts: usize) -> Vec<usize> {
    let way = |a: usize, b: usize| u64::from(ways[a * hosts + b]);
    let regions = MOST_REGIONS.min(hosts.isqrt().max(2));
    // How far each host is from the nearest medoid so far.
    let mut far = vec![u64::from(u32::MAX); hosts];
    let mut medoids: Vec<usize> = Vec::new();
    for _ in 0..regions {
        let gain = |&host: &usize| {
            let gains = far.iter().enumerate();
            let sum: u64 = gains
                .map(|(other, far)| far.saturating_sub(way(host, other)))
                .sum();
            // The first of equals.
            (sum, hosts - host)
        };
        let free = (0..hosts).filter(|host| !medoids.contains(host));
        let best = free.max_by_key(gain).expect("fewer regions than hosts");
        medoids.push(best);
        for (other, far) in far.iter_mut().enumerate() {
            *far = (*far).min(way(best, other));
        }
    }
    medoids.sort_unstable();
    for _ in 0..ROUNDS {
        let of: Vec<usize> = (0..hosts)
            .map(|host| closest(&medoids, host, ways, hosts))
            .collect();
        let center = |&medoid: &usize| {
            let members = (0..hosts).filter(|&host| of[host] == medoid);
            let members: Vec<usize> = members.collect();
            let sum = |&host: &usize| members.iter().map(|&it| way(host, it)).sum::<u64>();
            let center = members.iter().copied().min_by_key(sum);
            center.expect("a medoid is of its own region")
        };
        let mut moved: Vec<usize> = medoids.iter().map(center).collect();
        moved.sort_unstable();
        if moved == medoids {
            break;
        }
        medoids = moved;
    }
    medoids
}

/// Rounds of moving medoids to the middle of their regions; it settles within a few.
const ROUNDS: usize = 10;

/// The medoid nearest to a host, which is itself if it is one.
fn closest(medoids: &[usize], host: usize, ways: &[u32], hosts: usize) -> usize {
    let key = |&&medoid: &&usize| (medoid != host, ways[host * hosts + medoid], medoid);
    *medoids.iter().min_by_key(key).expect("there is a region")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Map, FileError> {
        parse(&Text::new("rtt.txt", text))
    }

    #[track_caller]
    fn refuses(text: &str, expected: &str) {
        let error = read(text).err().expect("the matrix is wrong").to_string();
        assert_eq!(error, format!("rtt.txt{expected}"));
    }

    #[track_caller]
    fn table(text: &str) -> Vec<u32> {
        match read(text).unwrap().table {
            Table::Fixed(table) => table,
            Table::Spread(_) => panic!("a matrix has a table"),
        }
    }

    #[test]
    fn round_trips_become_one_way_delays_in_microseconds() {
        let expected = [0, 5_000, 10_000, 5_000, 0, 15_500, 10_000, 15_500, 0];
        assert_eq!(table("0 10 20\n10 0 31\n20 31 0\n"), expected);
        assert_eq!(table("a,b,c\n0, 10, 20\n# x\n10,0,31\n20,31,0"), expected);
        assert_eq!(table("0\t1e1 20\r\n10 0\t31\r\n\r\n20 31 0"), expected);
    }

    #[test]
    fn both_directions_of_a_pair_count_and_the_diagonal_does_not() {
        assert_eq!(table("7 10\n20 9\n"), [0, 7_500, 7_500, 0]);
        assert_eq!(table("0 0\n0 0\n"), [0; 4]);
    }

    #[test]
    fn figures_that_are_no_round_trips_are_refused() {
        let what = "is no round trip in milliseconds";
        refuses("# c\n0 1\nabc 0", &format!(":3: column 1: \"abc\" {what}"));
        refuses("0 nan\n1 0", &format!(":1: column 2: \"nan\" {what}"));
        refuses("0 1\ninf 0", &format!(":2: column 1: \"inf\" {what}"));
        refuses("0,-1\n1,0", &format!(":1: column 2: \"-1\" {what}"));
        refuses("0,1,\n1,0,", &format!(":1: column 3: \"\" {what}"));
        refuses("a 1\n1 0", &format!(":1: column 1: \"a\" {what}"));
        refuses(
            "0 600001\n1 0",
            ":1: column 2: \"600001\" is too large for a round trip in milliseconds",
        );
    }

    #[test]
    fn what_is_not_square_is_refused() {
        refuses(
            "0 1 2\n1 0 3\n2 3\n",
            &format!(":3: 2 columns where the first row has 3; {SQUARE}"),
        );
        refuses(
            "0 1\n1 0\n\n2 3\n",
            &format!(":4: row 3 where the first has 2 columns; {SQUARE}"),
        );
        refuses(
            "0 1 2\n1 0 3\n",
            &format!(":2: the last row is number 2 where the first has 3 columns; {SQUARE}"),
        );
        refuses("0", ":1: one host alone has no round trips");
        refuses("just words\n", ": no row of round trips");
        let wide = "0 ".repeat(MOST_HOSTS + 1);
        refuses(&wide, ":1: 4097 columns; a matrix has at most 4096 hosts");
    }

    #[test]
    fn hosts_that_are_near_to_each_other_share_a_region() {
        // Two groups of eight hosts: 2 ms within, 200 ms between.
        let rtt = |a: usize, b: usize| if a / 8 == b / 8 { 2 } else { 200 };
        let row = |a| (0..16).map(|b| format!("{} ", rtt(a, b))).collect();
        let rows: Vec<String> = (0..16).map(row).collect();
        let labels = read(&rows.join("\n")).unwrap().labels;
        let region = |host: usize| labels[host].split('/').nth(1).unwrap();
        for a in 0..8 {
            assert!((8..16).all(|b| region(a) != region(b)), "{labels:?}");
            assert!(labels[a].ends_with(&format!("/h{a}")));
        }
    }
}
