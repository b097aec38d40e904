//! Reports as tables: one run by topic, several side by side. A dash stands for what does not apply.

use std::fmt::Write as _;

use ringweave_sim::{Broadcast, Healing, Records, Report, Walked};

/// A figure: its topic, its name within the topic, and the figure with its unit.
type Row = (&'static str, &'static str, String);

/// What stands where a figure does not apply.
pub(super) const NOTHING: &str = "-";

/// One run: a line for each topic.
pub(super) fn one(report: &Report) -> String {
    by_topic(rows(report))
}

/// Walks over ready tables: a line for each topic.
pub(super) fn walks(walked: &Walked) -> String {
    let hops = walked.hops;
    let peak = walked.peak_rss_bytes.map(|peak| peak as f64);
    by_topic(vec![
        ("network", "topology", walked.topology.clone()),
        ("network", "peers", count(u64::from(walked.peers))),
        ("network", "seed", walked.seed.to_string()),
        ("network", "dead", count(u64::from(walked.dead))),
        ("paths", "walked", count(walked.paths)),
        ("paths", "arrived", count(walked.arrived)),
        ("paths", "lost", count(walked.lost)),
        ("paths", "failed", percent(walked.failed)),
        ("hops", "mean", maybe(hops.map(|all| all.mean), decimal)),
        ("hops", "p50", maybe(hops.map(|all| all.p50), decimal)),
        ("hops", "p99", maybe(hops.map(|all| all.p99), decimal)),
        ("hops", "max", maybe(hops.map(|all| all.max), decimal)),
        ("memory", "peer", maybe(walked.bytes_mean, bytes)),
        ("memory", "peak", maybe(peak, bytes)),
        ("time", "wall", seconds(walked.wall_s)),
        ("time", "cpu", seconds(walked.cpu_s)),
    ])
}

fn by_topic(rows: Vec<Row>) -> String {
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut last = "";
    for (topic, measure, text) in rows {
        if topic != last {
            lines.push(vec![topic.to_owned()]);
            last = topic;
        }
        let cell = format!("{measure} {text}");
        lines.last_mut().expect("a topic began").push(cell);
    }
    aligned(&lines)
}

/// Several runs: a line for each figure, a column for each run.
pub(super) fn several(runs: &[(String, &Report)]) -> String {
    let mut lines: Vec<Vec<String>> = vec![vec![String::new()]];
    for (column, (name, report)) in runs.iter().enumerate() {
        lines[0].push(name.clone());
        for (at, (topic, measure, text)) in rows(report).into_iter().enumerate() {
            if column == 0 {
                lines.push(vec![format!("{topic} {measure}")]);
            }
            lines[at + 1].push(text);
        }
    }
    aligned(&lines)
}

/// Every figure, the same ones for every report.
fn rows(report: &Report) -> Vec<Row> {
    let mut rows = vec![
        ("world", "topology", report.topology.clone()),
        ("world", "peers", count(u64::from(report.peers))),
        ("world", "seed", report.seed.to_string()),
        ("world", "threads", report.threads.to_string()),
        ("world", "digest", report.digest.clone()),
        ("time", "bootstrap", maybe(report.bootstrap_s, seconds)),
        ("time", "simulated", seconds(report.simulated_s)),
        ("time", "wall", seconds(report.wall_s)),
        ("time", "cpu", seconds(report.cpu_s)),
        ("messages", "sent", maybe(report.sent, count)),
        ("messages", "delivered", maybe(report.delivered, count)),
        ("messages", "lost", maybe(report.lost, count)),
        (
            "messages",
            "misdelivered",
            maybe(report.misdelivered, count),
        ),
    ];
    for (topic, figures, unit) in [
        ("hops", report.hops, decimal as fn(f64) -> String),
        ("latency", report.latency_ms, milliseconds),
    ] {
        rows.extend([
            (topic, "mean", maybe(figures.map(|all| all.mean), unit)),
            (topic, "p50", maybe(figures.map(|all| all.p50), unit)),
            (topic, "p95", maybe(figures.map(|all| all.p95), unit)),
            (topic, "p99", maybe(figures.map(|all| all.p99), unit)),
            (topic, "max", maybe(figures.map(|all| all.max), unit)),
        ]);
    }
    let stretch = report.stretch;
    let (upkeep, load) = (report.upkeep, report.load);
    let records = |of: fn(&Records) -> u64| maybe(report.records.as_ref().map(of), count);
    let spread = |of: fn(&Broadcast) -> u64| maybe(report.broadcast.as_ref().map(of), count);
    rows.extend([
        ("stretch", "p50", maybe(stretch.map(|all| all.p50), decimal)),
        ("stretch", "p95", maybe(stretch.map(|all| all.p95), decimal)),
        ("broadcast", "reached", spread(|all| all.reached)),
        ("broadcast", "expected", spread(|all| all.expected)),
        (
            "broadcast",
            "transmissions",
            spread(|all| all.transmissions),
        ),
        ("broadcast", "duplicates", spread(|all| all.duplicates)),
        ("broadcast", "repaired", spread(|all| all.repaired)),
        ("broadcast", "late", spread(|all| all.late)),
        (
            "broadcast",
            "last",
            maybe(report.broadcast.map(|all| all.last_ms), milliseconds),
        ),
        ("records", "put", records(|all| all.put)),
        ("records", "kept", records(|all| all.kept)),
        ("records", "read", records(|all| all.read)),
        ("records", "stale", records(|all| all.stale)),
        ("records", "missing", records(|all| all.missing)),
        ("records", "unreachable", records(|all| all.unreachable)),
        (
            "records",
            "bytes",
            maybe(report.records.map(|all| all.bytes_per_s), per_second),
        ),
        ("contacts", "mean", decimal(report.state.contacts_mean)),
        ("contacts", "max", count(report.state.contacts_max)),
        ("contacts", "known", maybe(report.state.known_mean, decimal)),
        ("memory", "peer", maybe(report.state.bytes_mean, bytes)),
        (
            "memory",
            "peak",
            maybe(report.peak_rss_bytes.map(|peak| peak as f64), bytes),
        ),
        (
            "upkeep",
            "messages",
            maybe(upkeep.map(|all| all.messages_per_s), per_second),
        ),
        (
            "upkeep",
            "bytes",
            maybe(upkeep.map(|all| all.bytes_per_s), per_second),
        ),
        (
            "load",
            "max/mean",
            maybe(load.map(|all| all.max_over_mean), decimal),
        ),
        ("load", "gini", maybe(load.map(|all| all.gini), decimal)),
        ("events", "all", count(report.events)),
        (
            "events",
            "rate",
            format!("{}/s", count(report.events_per_s as u64)),
        ),
        ("invariants", "checked", count(report.invariants.checked)),
        ("invariants", "violated", count(report.invariants.violated)),
        ("invariants", "healed", maybe(report.heal_s, seconds)),
    ]);
    let figure = |of: fn(&Healing) -> Option<f64>, unit: fn(f64) -> String| {
        maybe(report.healing.as_ref().and_then(of), unit)
    };
    let number =
        |of: fn(&Healing) -> Option<u64>| maybe(report.healing.as_ref().and_then(of), count);
    rows.extend([
        ("healing", "routes", figure(|of| of.routes_s, seconds)),
        ("healing", "renumbered", figure(|of| of.renumbered, percent)),
        ("healing", "promoted", figure(|of| of.promoted, percent)),
        ("healing", "promotions", figure(|of| of.promotions, decimal)),
        ("healing", "moved", figure(|of| of.moved, percent)),
        ("healing", "removed", number(|of| of.removed)),
        ("healing", "handles", number(|of| of.handles_max)),
        ("healing", "cluster", figure(|of| of.cluster_mean, decimal)),
    ]);
    rows
}

/// Lines of cells, each column as wide as its widest cell.
pub(super) fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            write!(row, "{cell:width$}  ").expect("a string takes all that is written");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn maybe<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| NOTHING.to_owned(), text)
}

/// A whole number with its thousands apart: `1,000,000`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that suits them.
pub(super) fn bytes(value: f64) -> String {
    let units = [
        (1_073_741_824.0, "GiB"),
        (1_048_576.0, "MiB"),
        (1_024.0, "KiB"),
    ];
    let unit = units.into_iter().find(|(size, _)| value >= *size);
    match unit {
        Some((size, unit)) => format!("{:.1} {unit}", value / size),
        None => format!("{value:.0} B"),
    }
}

pub(super) fn decimal(value: f64) -> String {
    format!("{value:.2}")
}

fn seconds(value: f64) -> String {
    format!("{value:.2} s")
}

fn milliseconds(value: f64) -> String {
    format!("{value:.1} ms")
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn per_second(value: f64) -> String {
    format!("{value:.2}/s")
}

#[cfg(test)]
pub(super) mod tests {
    use ringweave_sim::{Invariants, Quantiles, State};

    use super::*;

    /// A report of a world in which little happened.
    pub(in crate::sim) fn report() -> Report {
        Report {
            topology: "polyring".into(),
            peers: 12_345,
            seed: 1,
            threads: 2,
            digest: "0123456789abcdef".into(),
            bootstrap_s: None,
            simulated_s: 60.0,
            hops: Some(Quantiles {
                mean: 2.5,
                p50: 2.0,
                p95: 4.0,
                p99: 5.0,
                max: 6.0,
            }),
            latency_ms: None,
            stretch: None,
            sent: Some(1_000),
            delivered: Some(999),
            lost: Some(1),
            misdelivered: Some(0),
            broadcast: Some(Broadcast {
                reached: 12_345,
                expected: 12_345,
                transmissions: 12_344,
                duplicates: 0,
                repaired: 0,
                late: 0,
                offered: 0,
                asked: 0,
                last_ms: 310.0,
            }),
            state: State {
                contacts_mean: 3.25,
                contacts_max: 63,
                known_mean: None,
                bytes_mean: Some(2_048.0),
            },
            upkeep: None,
            load: None,
            invariants: Invariants {
                checked: 10,
                violated: 0,
            },
            levels: Vec::new(),
            keys: None,
            records: None,
            heal_s: None,
            healing: None,
            events: 1_234_567,
            events_per_s: 1e6,
            cpu_s: 1.5,
            wall_s: 1.25,
            peak_rss_bytes: None,
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_topic_and_a_dash_for_what_does_not_apply() {
        let table = one(&report());
        for line in [
            "world       topology polyring  peers 12,345",
            "time        bootstrap -",
            "latency     mean -",
            "memory      peer 2.0 KiB",
        ] {
            assert!(table.contains(line), "{line}:\n{table}");
        }
        assert_eq!(table.lines().count(), 15, "{table}");
    }

    #[test]
    fn several_runs_stand_side_by_side() {
        let (first, mut second) = (report(), report());
        second.lost = None;
        let runs = [
            ("loss=0".to_owned(), &first),
            ("loss=0.1".to_owned(), &second),
        ];
        let table = several(&runs);
        let lost = table.lines().find(|line| line.starts_with("messages lost"));
        let words: Vec<_> = lost.unwrap().split_whitespace().collect();
        assert_eq!(words, ["messages", "lost", "1", "-"]);
        assert!(table.lines().next().unwrap().ends_with("loss=0.1"));
    }

    #[test]
    fn figures_are_written_for_people() {
        let counts = [0, 999, 1_000, 1_234_567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [10.0, 1_536.0, 3e9].map(bytes),
            ["10 B", "1.5 KiB", "2.8 GiB"]
        );
    }
}
