//! The table of figures and what each of them means: one list says both.

use super::{escape, grouped, swatch};
use crate::report::{Outcome, Quantiles, Report};

/// Measures that belong together; left out where no run has any of them.
struct Group {
    title: &'static str,
    measures: &'static [Measure],
}

/// One row of the table.
struct Measure {
    name: &'static str,
    unit: &'static str,
    better: Better,
    meaning: &'static str,
    value: fn(&Report) -> Option<f64>,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    Less,
    More,
    /// Neither, or it depends.
    Open,
}

/// The figures, a column for each run.
pub(super) fn table(runs: &[(String, Outcome)]) -> String {
    let bodies: String = present(runs).map(|group| body(group, runs)).collect();
    if bodies.is_empty() {
        return bodies;
    }
    let heads: String = runs
        .iter()
        .enumerate()
        .map(|(index, (name, _))| {
            let swatch = if runs.len() > 1 {
                swatch(index)
            } else {
                String::new()
            };
            format!(
                "<th scope=\"col\" class=\"number\">{swatch}{}</th>",
                escape(name)
            )
        })
        .collect();
    format!(
        "<section>\n<h2>Figures</h2>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Figures of the runs\">\n\
         <table class=\"figures\" style=\"--runs:{}\">\n<thead><tr><th scope=\"col\">Measure</th>\
         <th scope=\"col\" class=\"unit\">Unit</th>{heads}</tr></thead>\n{bodies}</table>\n</div>\n\
         </section>\n",
        runs.len()
    )
}

/// One sentence for each measure that the table has.
pub(super) fn meanings(runs: &[(String, Outcome)]) -> String {
    let lists: String = present(runs)
        .map(|group| {
            let items: String = group
                .measures
                .iter()
                .map(|measure| {
                    format!(
                        "<dt>{}</dt><dd>{}</dd>\n",
                        measure.name,
                        escape(measure.meaning)
                    )
                })
                .collect();
            format!(
                "<div>\n<h3>{}</h3>\n<dl>\n{items}</dl>\n</div>\n",
                group.title
            )
        })
        .collect();
    if lists.is_empty() {
        return lists;
    }
    format!(
        "<section>\n<h2>How to read this</h2>\n<p>A dash stands where a measure does not apply to \
         a run.</p>\n<div class=\"meanings\">\n{lists}</div>\n</section>\n"
    )
}

/// The groups of which some run has something.
fn present(runs: &[(String, Outcome)]) -> impl Iterator<Item = &'static Group> {
    GROUPS.iter().filter(|group| {
        let values = |measure: &Measure| {
            runs.iter()
                .any(|(_, run)| (measure.value)(&run.report).is_some())
        };
        group.measures.iter().any(values)
    })
}

fn body(group: &Group, runs: &[(String, Outcome)]) -> String {
    let rows: String = group
        .measures
        .iter()
        .map(|measure| row(measure, runs))
        .collect();
    format!(
        "<tbody>\n<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"{}\"><span>{}</span></th></tr>\n\
         {rows}</tbody>\n",
        runs.len() + 2,
        group.title
    )
}

fn row(measure: &Measure, runs: &[(String, Outcome)]) -> String {
    let values: Vec<Option<f64>> = runs
        .iter()
        .map(|(_, run)| (measure.value)(&run.report).filter(|value| value.is_finite()))
        .collect();
    let decimals = decimals(measure.unit, &values);
    let texts: Vec<Option<String>> = values
        .iter()
        .map(|value| value.map(|value| grouped(value, decimals)))
        .collect();
    let best = best(measure.better, &values, &texts);
    let cells: String = texts
        .iter()
        .map(|text| match text {
            None => "<td class=\"number\"><span aria-label=\"not applicable\">–</span></td>".into(),
            Some(text) if best == Some(text) => format!(
                "<td class=\"number best\">{text}<span class=\"unseen\"> (better)</span></td>"
            ),
            Some(text) => format!("<td class=\"number\">{text}</td>"),
        })
        .collect();
    format!(
        "<tr><th scope=\"row\">{}</th><td class=\"unit\">{}</td>{cells}</tr>\n",
        measure.name, measure.unit
    )
}

/// The best value as it is shown: what looks the same is the same, and where all are, none is best.
fn best<'a>(
    better: Better,
    values: &[Option<f64>],
    texts: &'a [Option<String>],
) -> Option<&'a String> {
    let known = || {
        values
            .iter()
            .zip(texts)
            .filter_map(|(value, text)| value.zip(text.as_ref()))
    };
    let best = match better {
        Better::Less => known().min_by(|a, b| a.0.total_cmp(&b.0)),
        Better::More => known().max_by(|a, b| a.0.total_cmp(&b.0)),
        Better::Open => None,
    };
    let (_, best) = best?;
    known().any(|(_, text)| text != best).then_some(best)
}

/// Decimals for a whole row, so that its values can be compared at a glance.
fn decimals(unit: &str, values: &[Option<f64>]) -> usize {
    let known = || values.iter().flatten();
    if known().all(|value| value.fract() == 0.0) {
        return 0;
    }
    if unit == "%" {
        return 3;
    }
    match known().fold(0.0, |largest: f64, value| largest.max(value.abs())) {
        largest if largest >= 1_000.0 => 0,
        largest if largest >= 10.0 => 1,
        largest if largest >= 1.0 => 2,
        largest if largest >= 0.1 => 3,
        _ => 4,
    }
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

const GROUPS: &[Group] = &[
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
        "Other peers that a peer knows at the end, on average.",
    ),
    measure(
        "Contacts, largest",
        "peers",
        Less,
        |report| Some(report.state.contacts_max as f64),
        "The most peers in any table.",
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
        "events",
        Open,
        |report| Some(report.events as f64),
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
