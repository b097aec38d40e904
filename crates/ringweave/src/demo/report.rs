//! What the demo tells: an object for programs, a story for people.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use ringweave_api::body::{TreeAnswer, TreePeerAnswer};
use ringweave_net::{Shape, Topology};
use serde::Serialize;

use super::{
    crowd::{Crowd, Person},
    trial::{Routes, Spreading},
};
use crate::{draw, exit::Problem, print};

/// Everything the demo found. The names are part of the command-line contract.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    topology: Topology,
    peers: usize,
    ring_size: u32,
    cluster: u32,
    rings: usize,
    depth: usize,
    joined_ms: u64,
    routes_tried: u64,
    routes_ok: u64,
    hops_max: u8,
    hops_mean: f64,
    hops_bound: usize,
    latency_ms_p50: Option<f64>,
    latency_ms_p99: Option<f64>,
    broadcast_reached: u64,
    broadcast_heard: u64,
    broadcast_transmissions: u64,
    broadcast_duplicates: u64,
    broadcast_ms: f64,
    multicast_receivers: usize,
    multicast_delivered: u64,
    multicast_transmissions: u64,
    killed: usize,
    healed_ms: Option<u64>,
    routes_after_tried: u64,
    routes_after_ok: u64,
    broadcast_after_reached: u64,
    broadcast_after_transmissions: u64,
    broadcast_after_duplicates: u64,
    #[serde(skip)]
    broadcast_after_heard: u64,
    #[serde(skip)]
    pub(super) latencies: Vec<u64>,
    #[serde(skip)]
    failed: Option<String>,
}

impl Report {
    pub(super) fn new(peers: usize, shape: &Shape) -> Self {
        Self {
            topology: shape.topology.unwrap_or(Topology::Polyring),
            peers,
            ring_size: shape.ring_size.unwrap_or_default(),
            cluster: shape.cluster.unwrap_or_default(),
            rings: 0,
            depth: 0,
            joined_ms: 0,
            routes_tried: 0,
            routes_ok: 0,
            hops_max: 0,
            hops_mean: 0.0,
            hops_bound: 0,
            latency_ms_p50: None,
            latency_ms_p99: None,
            broadcast_reached: 0,
            broadcast_heard: 0,
            broadcast_transmissions: 0,
            broadcast_duplicates: 0,
            broadcast_ms: 0.0,
            multicast_receivers: 0,
            multicast_delivered: 0,
            multicast_transmissions: 0,
            killed: 0,
            healed_ms: None,
            routes_after_tried: 0,
            routes_after_ok: 0,
            broadcast_after_reached: 0,
            broadcast_after_transmissions: 0,
            broadcast_after_duplicates: 0,
            broadcast_after_heard: 0,
            latencies: Vec::new(),
            failed: None,
        }
    }

    pub(super) fn joined(&mut self, crowd: &Crowd) {
        self.rings = crowd.rings().len();
        self.depth = crowd.depth();
        self.hops_bound = self.bound();
        self.joined_ms = crowd.joined_ms;
    }

    /// The network in words.
    pub(super) fn shape(&self) -> String {
        match self.topology {
            Topology::Polyring => format!("rings of {}", self.ring_size),
            other => other.to_string(),
        }
    }

    /// The most hops at rest.
    fn bound(&self) -> usize {
        match self.topology {
            Topology::Polyring => 2 * self.depth.max(1) - 1 + usize::from(self.cluster > 1),
            // Found, and then connected to directly.
            Topology::Unstructured => 1,
            Topology::Star => 2,
            // At least half the distance with each hop, and a digit the more where there are digits.
            Topology::Chord | Topology::Kademlia | Topology::Pastry | Topology::Tapestry => {
                self.peers.next_power_of_two().ilog2() as usize
            }
            // From a leaf and to a leaf besides.
            Topology::Superpeer => self.peers.next_power_of_two().ilog2() as usize + 2,
        }
    }

    pub(super) fn routes(&mut self, routes: &Routes) {
        (self.routes_tried, self.routes_ok) = (routes.tried, routes.ok);
        self.hops_max = routes.hops.iter().copied().max().unwrap_or(0);
        let sum: u64 = routes.hops.iter().map(|hops| u64::from(*hops)).sum();
        self.hops_mean = rounded(sum as f64 / routes.hops.len().max(1) as f64);
        self.failed.clone_from(&routes.failed);
        let at = |share: f64| {
            let index = (self.latencies.len().checked_sub(1)? as f64 * share).round() as usize;
            self.latencies.get(index).map(|micros| *micros as f64 / 1e3)
        };
        (self.latency_ms_p50, self.latency_ms_p99) = (at(0.50), at(0.99));
    }

    pub(super) fn broadcast(&mut self, spread: Spreading) {
        self.broadcast_reached = spread.reached;
        self.broadcast_heard = spread.heard;
        self.broadcast_transmissions = spread.transmissions;
        self.broadcast_duplicates = spread.duplicates;
        self.broadcast_ms = rounded(spread.ms);
    }

    pub(super) fn multicast(&mut self, (receivers, spread): (usize, Spreading)) {
        self.multicast_receivers = receivers;
        self.multicast_delivered = spread.heard.min(spread.reached);
        self.multicast_transmissions = spread.transmissions;
    }

    pub(super) fn healed(&mut self, killed: usize, took: Option<Duration>, after: &Routes) {
        self.killed = killed;
        self.healed_ms = took.map(|took| took.as_millis() as u64);
        (self.routes_after_tried, self.routes_after_ok) = (after.tried, after.ok);
        self.failed = self.failed.take().or_else(|| after.failed.clone());
    }

    pub(super) fn broadcast_after(&mut self, spread: Spreading) {
        self.broadcast_after_reached = spread.reached;
        self.broadcast_after_transmissions = spread.transmissions;
        self.broadcast_after_duplicates = spread.duplicates;
        self.broadcast_after_heard = spread.heard;
    }

    /// What of all this did not hold.
    pub(super) fn verdict(&self) -> Vec<String> {
        let peers = self.peers as u64;
        let left = peers - self.killed as u64;
        // Where broadcasts find their tree by duplicates, the first ones have some, and the origin's count
        // lacks those who had to ask.
        let is_exact = self.topology != Topology::Unstructured;
        let is_healed = self.healed_ms.is_some_and(|took| took <= 5_000);
        let claims = [
            (
                self.routes_ok == self.routes_tried,
                format!("{} of {} routes", self.routes_ok, self.routes_tried),
            ),
            (
                usize::from(self.hops_max) <= self.hops_bound,
                format!("{} hops, bound {}", self.hops_max, self.hops_bound),
            ),
            (
                (self.broadcast_reached == peers || !is_exact) && self.broadcast_heard == peers - 1,
                format!("broadcast reached {}", self.broadcast_reached),
            ),
            (
                self.broadcast_transmissions == peers - 1 || !is_exact,
                format!("{} transmissions", self.broadcast_transmissions),
            ),
            (
                self.broadcast_duplicates == 0 || !is_exact,
                format!("{} duplicates", self.broadcast_duplicates),
            ),
            (
                self.multicast_delivered == self.multicast_receivers as u64,
                format!("multicast to {}", self.multicast_delivered),
            ),
            (
                is_healed,
                self.healed_ms.map_or("not healed".into(), |took| {
                    format!("healed after {took} ms, over 5 s")
                }),
            ),
            (
                self.routes_after_ok == self.routes_after_tried,
                format!(
                    "{} of {} routes after healing",
                    self.routes_after_ok, self.routes_after_tried
                ),
            ),
            (
                self.broadcast_after_heard == left - 1
                    && (self.broadcast_after_reached == left || !is_exact),
                format!(
                    "broadcast after healing reached {} of {left}",
                    self.broadcast_after_heard + 1
                ),
            ),
            (
                !is_exact
                    || self.broadcast_after_transmissions == left - 1
                        && self.broadcast_after_duplicates == 0,
                format!(
                    "{} transmissions after healing",
                    self.broadcast_after_transmissions
                ),
            ),
        ];
        let failed = claims
            .into_iter()
            .filter(|(held, _)| !held)
            .map(|(_, claim)| claim);
        failed.chain(self.failed.clone()).collect()
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Tells the story, unless programs listen.
pub(super) struct Teller {
    is_json: bool,
}

impl Teller {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    pub(super) fn say(&self, text: &str) -> Result<(), Problem> {
        if self.is_json {
            Ok(())
        } else {
            print::line(text)
        }
    }

    /// A bar on standard error, where a person watches.
    pub(super) fn progress(&self, what: &'static str, len: usize) -> Progress {
        let is_watched = !self.is_json && io::stderr().is_terminal();
        let bar = if is_watched {
            ProgressBar::new(len as u64)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
        bar.set_style(style.expect("the template is well-formed"));
        bar.set_message(what);
        Progress(Arc::new(bar))
    }

    pub(super) fn joined(&self, crowd: &Crowd, report: &Report) -> Result<(), Problem> {
        let peer = |person: &Person| TreePeerAnswer {
            guid: person.guid.clone(),
            peer_id: person.id(),
            name: Some(person.name.clone()),
        };
        let answer = TreeAnswer {
            peers: crowd.peers.iter().map(peer).collect(),
            truncated: false,
        };
        if report.topology != Topology::Polyring {
            return self.say(&format!("joined in {} ms\n", report.joined_ms));
        }
        let tree = if crowd.peers.len() <= 64 {
            draw::tree(&answer, None)
        } else {
            rings(crowd)
        };
        self.say(&format!("joined in {} ms:\n\n{tree}", report.joined_ms))
    }

    pub(super) fn routes(&self, report: &Report) -> Result<(), Problem> {
        let ms = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2} ms"));
        self.say(&format!(
            "routes      {} of {} ordered pairs delivered and acknowledged\n\
             hops        mean {:.2}, max {} (bound {})\n\
             latency     p50 {}, p99 {} one way",
            report.routes_ok,
            report.routes_tried,
            report.hops_mean,
            report.hops_max,
            report.hops_bound,
            ms(report.latency_ms_p50),
            ms(report.latency_ms_p99),
        ))
    }

    pub(super) fn spread(&self, report: &Report) -> Result<(), Problem> {
        self.say(&format!(
            "broadcast   reached {} of {} in {:.1} ms: {} transmissions, {} duplicates\n\
             multicast   {} of {} receivers with {} transmissions",
            report.broadcast_reached,
            report.peers,
            report.broadcast_ms,
            report.broadcast_transmissions,
            report.broadcast_duplicates,
            report.multicast_delivered,
            report.multicast_receivers,
            report.multicast_transmissions,
        ))
    }

    pub(super) fn crash(&self, victims: &[Person]) -> Result<(), Problem> {
        let places: Vec<_> = victims
            .iter()
            .map(|victim| victim.guid.to_string())
            .collect();
        self.say(&format!(
            "crash       {} peers, without a word: {}",
            victims.len(),
            places.join(" ")
        ))
    }

    pub(super) fn healed(&self, report: &Report) -> Result<(), Problem> {
        let took = report
            .healed_ms
            .map_or("not healed".into(), |took| format!("healed in {took} ms"));
        self.say(&format!(
            "heal        {took}: {} of {} pairs of survivors, broadcast reached {} of {}",
            report.routes_after_ok,
            report.routes_after_tried,
            report.broadcast_after_reached,
            report.peers - report.killed,
        ))
    }

    pub(super) fn verdict(&self, report: &Report) -> Result<(), Problem> {
        let failed = report.verdict();
        if failed.is_empty() {
            self.say("\neverything held")
        } else {
            self.say(&format!("\nDID NOT HOLD: {}", failed.join("; ")))
        }
    }

    pub(super) fn commands(
        &self,
        data: &Path,
        first: &str,
        far: &str,
        guid: &str,
        invite: &str,
    ) -> Result<(), Problem> {
        let data = data.display();
        let text = format!(
            "\nThe network stays up until Ctrl-C. From a second terminal, as {first}:\n\n  \
             export RINGWEAVE_DATA={data}\n  \
             ringweave status\n  \
             ringweave peers\n  \
             ringweave tree\n  \
             ringweave trace {far}\n  \
             ringweave send '{guid}' 'hello out there'\n  \
             ringweave broadcast 'hello all'\n  \
             ringweave listen\n\n\
             or as a peer of its own:\n\n  \
             ringweave up --data /tmp/mine --lan=false --join {invite}\n\n\
             (`ringweave` is `cargo run --release --` in this checkout.)"
        );
        if self.is_json {
            eprintln!("{text}")
        } else {
            print::line(text)?
        }
        Ok(())
    }
}

/// Rings in a line each, where there are too many peers to draw.
fn rings(crowd: &Crowd) -> String {
    let rings = crowd.rings();
    let rows: Vec<_> = rings
        .iter()
        .map(|(parent, peers)| {
            let shown: Vec<_> = peers.iter().take(6).map(ToString::to_string).collect();
            let more = if peers.len() > 6 { " ..." } else { "" };
            vec![
                parent.to_string(),
                peers.len().to_string(),
                shown.join(" ") + more,
            ]
        })
        .collect();
    let depth = crowd.depth();
    draw::table(&["RING BELOW", "PEERS", "PLACES"], &rows)
        + &format!(
            "{} peers in {} rings, {depth} levels\n",
            crowd.peers.len(),
            rings.len()
        )
}

/// How far something has come.
#[derive(Clone)]
pub(super) struct Progress(Arc<ProgressBar>);

impl Progress {
    pub(super) fn step(&self) {
        self.0.inc(1);
    }

    pub(super) fn set(&self, at: usize) {
        self.0.set_position(at as u64);
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
