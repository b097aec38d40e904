//! The peer's state in the text format of Prometheus (version 0.0.4), rendered from one status.

use std::fmt::Write as _;

use ringweave_net::{PeerInfo, Status};

/// The content type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Memory that this process holds, in bytes; nothing where the system does not tell.
pub(crate) fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// All figures of a peer.
pub(crate) fn render(status: &Status, peers: &[PeerInfo]) -> String {
    let mut page = Page::default();
    let counters = &status.counters;
    page.family(
        "ringweave_info",
        "gauge",
        "Who this is and in which network; always 1.",
    );
    let labels = [
        ("peer_id", status.peer_id.to_string()),
        (
            "guid",
            status
                .guid
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        ("network", status.network.clone()),
        ("topology", status.topology.to_owned()),
    ];
    page.sample("ringweave_info", &labels, 1.0);
    for (name, help, value) in [
        (
            "ringweave_placed",
            "Whether the peer has a place in the network.",
            f64::from(u8::from(status.guid.is_some())),
        ),
        (
            "ringweave_uptime_seconds",
            "Time since the peer's start.",
            status.uptime.as_secs_f64(),
        ),
        (
            "ringweave_neighbours",
            "Peers in its table.",
            status.neighbours as f64,
        ),
        (
            "ringweave_links",
            "Connections that stand.",
            status.links as f64,
        ),
    ] {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
    for (name, help, value) in [
        (
            "ringweave_messages_sent_total",
            "Messages this peer sent.",
            counters.sent,
        ),
        (
            "ringweave_messages_delivered_total",
            "Messages delivered here.",
            counters.delivered,
        ),
        (
            "ringweave_messages_forwarded_total",
            "Messages passed on to a neighbour.",
            counters.forwarded,
        ),
        (
            "ringweave_broadcast_copies_total",
            "Copies of broadcasts handed to a neighbour.",
            counters.spread,
        ),
        (
            "ringweave_messages_duplicate_total",
            "Messages that arrived more than once.",
            counters.duplicates,
        ),
        (
            "ringweave_broadcasts_repaired_total",
            "Broadcasts that came because this peer asked a neighbour for them.",
            counters.repaired,
        ),
        (
            "ringweave_broadcasts_late_total",
            "Broadcasts delivered after a later one of their sender.",
            counters.late,
        ),
        (
            "ringweave_broadcasts_offered_total",
            "Broadcasts offered to a neighbour, each time one is.",
            counters.offered,
        ),
        (
            "ringweave_broadcasts_asked_total",
            "Broadcasts asked of a neighbour, each time one is.",
            counters.asked,
        ),
        (
            "ringweave_broadcasts_missed_total",
            "Broadcasts that were offered or missed, and came from nobody who was asked.",
            counters.missed,
        ),
        (
            "ringweave_messages_dropped_total",
            "Messages dropped because a queue was full.",
            counters.dropped,
        ),
        (
            "ringweave_faults_total",
            "Nonsense from the network.",
            counters.faults,
        ),
        (
            "ringweave_link_sent_bytes_total",
            "Bytes written to links, framing included.",
            counters.bytes_out,
        ),
        (
            "ringweave_link_received_bytes_total",
            "Bytes read from links.",
            counters.bytes_in,
        ),
    ] {
        page.family(name, "counter", help);
        page.sample(name, &[], value as f64);
    }
    page.family(
        "ringweave_link_round_trip_seconds",
        "gauge",
        "The last measured round trip of a link.",
    );
    for peer in peers {
        let Some(round_trip) = peer.round_trip else {
            continue;
        };
        let labels = [
            ("peer_id", peer.peer_id.to_string()),
            ("role", peer.role.clone()),
        ];
        page.sample(
            "ringweave_link_round_trip_seconds",
            &labels,
            round_trip.as_secs_f64(),
        );
    }
    if let Some(bytes) = resident() {
        page.family(
            "process_resident_memory_bytes",
            "gauge",
            "Memory that the process holds.",
        );
        page.sample("process_resident_memory_bytes", &[], bytes as f64);
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}")
            .expect("a String takes all");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, String)], value: f64) {
        self.text.push_str(name);
        for (n, (label, text)) in labels.iter().enumerate() {
            let open = if n == 0 { '{' } else { ',' };
            write!(self.text, "{open}{label}=\"{}\"", escape(text)).expect("a String takes all");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        writeln!(self.text, "{close} {value}").expect("a String takes all");
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_one_line_whatever_its_labels_say() {
        let mut page = Page::default();
        page.sample(
            "x",
            &[("name", "a\"b\\c\nd".into()), ("y", "z".into())],
            0.5,
        );
        assert_eq!(page.text, "x{name=\"a\\\"b\\\\c\\nd\",y=\"z\"} 0.5\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_knows_its_memory() {
        assert!(resident().unwrap() > 100_000);
    }
}
