//! What the table shows, in its order: for each measure its unit, which value is better, and what it
//! means. One list, so that the figures and their explanation cannot part.

use crate::report::{Quantiles, Report};

/// Measures that belong together; left out where no run has any of them.
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) measures: &'static [Measure],
}

/// One row of the table.
pub(super) struct Measure {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    pub(super) meaning: &'static str,
    pub(super) value: fn(&Report) -> Option<f64>,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Better {
    Less,
    More,
    /// Neither, or it depends.
    Open,
}

/// A part of a whole in percent, to the thousandth below it: what is not all never reads as 100.
/// Nothing of nothing is nothing.
fn percent(part: u64, whole: u64) -> Option<f64> {
    let thousandths = (u128::from(part) * 100_000).checked_div(u128::from(whole))?;
    Some(thousandths as f64 / 1_000.0)
}

const fn measure(
    name: &'static str,
    unit: &'static str,
    better: Better,
    value: fn(&Report) -> Option<f64>,
    meaning: &'static str,
) -> Measure {
    Measure {
        name,
        unit,
        better,
        meaning,
        value,
    }
}

fn hops(report: &Report, part: fn(&Quantiles) -> f64) -> Option<f64> {
    report.hops.as_ref().map(part)
}

fn latency(report: &Report, part: fn(&Quantiles) -> f64) -> Option<f64> {
    report.latency_ms.as_ref().map(part)
}

use Better::{Less, More, Open};

/// Every measure.
pub(super) const GROUPS: &[Group] = &[
    Group {
        title: "Messages",
        measures: MESSAGES,
    },
    Group {
        title: "Hops",
        measures: HOPS,
    },
    Group {
        title: "Latency",
        measures: LATENCY,
    },
    Group {
        title: "Stretch",
        measures: STRETCH,
    },
    Group {
        title: "Broadcast",
        measures: BROADCAST,
    },
    Group {
        title: "Load",
        measures: LOAD,
    },
    Group {
        title: "State",
        measures: STATE,
    },
    Group {
        title: "Upkeep",
        measures: UPKEEP,
    },
    Group {
        title: "Invariants",
        measures: INVARIANTS,
    },
    Group {
        title: "The run itself",
        measures: RUN,
    },
];

const MESSAGES: &[Measure] = &[
    measure(
        "Sent",
        "messages",
        Open,
        |report| report.sent.map(|count| count as f64),
        "Messages whose two ends lived from sending to the deadline.",
    ),
    measure(
        "Delivered",
        "%",
        More,
        |report| percent(report.delivered?, report.sent?),
        "The share of the sent messages that arrived in time.",
    ),
    measure(
        "Lost",
        "messages",
        Less,
        |report| report.lost.map(|count| count as f64),
        "Sent messages that did not arrive in time.",
    ),
    measure(
        "Misdelivered",
        "messages",
        Less,
        |report| report.misdelivered.map(|count| count as f64),
        "Messages that reached another peer than the one meant: 0 in a sound protocol.",
    ),
];

const HOPS: &[Measure] = &[
    measure(
        "Mean",
        "hops",
        Less,
        |report| hops(report, |part| part.mean),
        "Connections a delivered message crossed, on average.",
    ),
    measure(
        "Median",
        "hops",
        Less,
        |report| hops(report, |part| part.p50),
        "Half of the messages crossed no more.",
    ),
    measure(
        "95th percentile",
        "hops",
        Less,
        |report| hops(report, |part| part.p95),
        "19 of 20 messages crossed no more.",
    ),
    measure(
        "99th percentile",
        "hops",
        Less,
        |report| hops(report, |part| part.p99),
        "99 of 100 messages crossed no more.",
    ),
    measure(
        "Largest",
        "hops",
        Less,
        |report| hops(report, |part| part.max),
        "The longest way that any delivered message took.",
    ),
];

const LATENCY: &[Measure] = &[
    measure(
        "Mean",
        "ms",
        Less,
        |report| latency(report, |part| part.mean),
        "Time from the sender's wish until the receiver had the message, on average.",
    ),
    measure(
        "Median",
        "ms",
        Less,
        |report| latency(report, |part| part.p50),
        "Half of the messages took no longer.",
    ),
    measure(
        "95th percentile",
        "ms",
        Less,
        |report| latency(report, |part| part.p95),
        "19 of 20 messages took no longer.",
    ),
    measure(
        "99th percentile",
        "ms",
        Less,
        |report| latency(report, |part| part.p99),
        "99 of 100 messages took no longer.",
    ),
    measure(
        "Largest",
        "ms",
        Less,
        |report| latency(report, |part| part.max),
        "The slowest message that still arrived.",
    ),
];

const STRETCH: &[Measure] = &[
    measure(
        "Median",
        "×",
        Less,
        |report| report.stretch.map(|stretch| stretch.p50),
        "Latency over the direct delay between the same two peers; half of the messages had no more.",
    ),
    measure(
        "95th percentile",
        "×",
        Less,
        |report| report.stretch.map(|stretch| stretch.p95),
        "19 of 20 messages had no more.",
    ),
];

const BROADCAST: &[Measure] = &[
    measure(
        "Reached",
        "%",
        More,
        |report| {
            report
                .broadcast
                .and_then(|cast| percent(cast.reached, cast.expected))
        },
        "The share of peers alive throughout that got the broadcast, over all broadcasts.",
    ),
    measure(
        "Copies per peer",
        "copies",
        Less,
        |report| {
            let cast = report.broadcast.filter(|cast| cast.reached > 0)?;
            Some(cast.transmissions as f64 / cast.reached as f64)
        },
        "Copies sent from peer to peer, over the peers reached; just under 1 is the least possible.",
    ),
    measure(
        "Duplicates",
        "copies",
        Less,
        |report| report.broadcast.map(|cast| cast.duplicates as f64),
        "Copies that met a peer which had it already.",
    ),
    measure(
        "Last peer",
        "ms",
        Less,
        |report| report.broadcast.map(|cast| cast.last_ms),
        "Time until the last peer of the slowest broadcast had it.",
    ),
];

const LOAD: &[Measure] = &[
    measure(
        "Busiest over mean",
        "×",
        Less,
        |report| report.load.map(|load| load.max_over_mean),
        "How many times the average the busiest peer carried of the messages of others.",
    ),
    measure(
        "Gini coefficient",
        "0 to 1",
        Less,
        |report| report.load.map(|load| load.gini),
        "How unevenly carrying is spread: 0 is even, 1 is one peer alone.",
    ),
];

const STATE: &[Measure] = &[
    measure(
        "Contacts, mean",
        "peers",
        Less,
        |report| Some(report.state.contacts_mean),
        "Peers in a peer's table at the end, on average: those it is connected to.",
    ),
    measure(
        "Contacts, largest",
        "peers",
        Less,
        |report| Some(report.state.contacts_max as f64),
        "The most peers in any table.",
    ),
    measure(
        "Known, mean",
        "peers",
        Less,
        |report| report.state.known_mean,
        "Other peers that a peer holds anything of, connected or not.",
    ),
    measure(
        "Memory per peer",
        "KiB",
        Less,
        |report| report.state.bytes_mean.map(|bytes| bytes / 1_024.0),
        "Memory that a simulated peer takes, everything included.",
    ),
];

const UPKEEP: &[Measure] = &[
    measure(
        "Messages",
        "1/s per peer",
        Less,
        |report| report.upkeep.map(|upkeep| upkeep.messages_per_s),
        "Messages that a peer sends each second to keep the network whole.",
    ),
    measure(
        "Traffic",
        "B/s per peer",
        Less,
        |report| report.upkeep.map(|upkeep| upkeep.bytes_per_s),
        "The same in bytes, as they go over the wire.",
    ),
];

const INVARIANTS: &[Measure] = &[
    measure(
        "Checked",
        "checks",
        Open,
        |report| Some(report.invariants.checked as f64),
        "How often a rule of the topology was checked.",
    ),
    measure(
        "Violated",
        "checks",
        Less,
        |report| Some(report.invariants.violated as f64),
        "How many of these checks failed: 0 in a sound network.",
    ),
    measure(
        "Healed after",
        "s",
        Less,
        |report| report.heal_s,
        "Time from the last fault until every rule held again; a dash without faults, or if never.",
    ),
];

const RUN: &[Measure] = &[
    measure(
        "Bootstrap",
        "s simulated",
        Open,
        |report| report.bootstrap_s,
        "Simulated time from the first join until the network stood.",
    ),
    measure(
        "Duration",
        "s simulated",
        Open,
        |report| Some(report.simulated_s),
        "Simulated time from then to the end.",
    ),
    measure(
        "Events",
        "thousands",
        Open,
        |report| Some(report.events as f64 / 1_000.0),
        "What the simulator handled, the bootstrap included.",
    ),
    measure(
        "Speed",
        "events/s",
        More,
        |report| Some(report.events_per_s),
        "Events over seconds by the wall clock.",
    ),
    measure(
        "Threads",
        "threads",
        Open,
        |report| Some(f64::from(report.threads)),
        "Threads that ran it; nothing above depends on them.",
    ),
    measure(
        "Processor time",
        "s",
        Less,
        |report| Some(report.cpu_s),
        "Processor seconds of the whole process.",
    ),
    measure(
        "Wall time",
        "s",
        Less,
        |report| Some(report.wall_s),
        "Seconds by the wall clock.",
    ),
    measure(
        "Peak memory",
        "MiB",
        Less,
        |report| {
            report
                .peak_rss_bytes
                .map(|bytes| bytes as f64 / 1_048_576.0)
        },
        "The most memory that the process held.",
    ),
];
