//! What a run measured. The names of [`Report`]'s fields are a contract: scripts read them as JSON.

use serde::{Deserialize, Serialize};

/// Everything a run gives back: the figures, and the curves behind them.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The figures.
    pub report: Report,
    /// The curves, for pictures.
    pub series: Series,
    /// Each violated invariant, in words; at most 100.
    pub violations: Vec<String>,
}

/// The figures of one run. A field that does not apply is null in JSON, never invented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The topology's name.
    pub topology: String,
    /// Peers at T = 0.
    pub peers: u32,
    /// The seed.
    pub seed: u64,
    /// Threads that ran it; the digest does not depend on them.
    pub threads: u16,
    /// A hash over every event of the run, as 16 hexadecimal digits.
    pub digest: String,
    /// Simulated seconds from the first join to T = 0; null where tables were built.
    pub bootstrap_s: Option<f64>,
    /// Simulated seconds from T = 0 to the end.
    pub simulated_s: f64,
    /// Hops of delivered messages; null if none was delivered.
    pub hops: Option<Quantiles>,
    /// One-way latency of delivered messages, in milliseconds, from the sender's wish to the receiver.
    pub latency_ms: Option<Quantiles>,
    /// Latency over the direct one-way delay between the two peers.
    pub stretch: Option<Stretch>,
    /// Messages whose two ends lived from sending to the deadline; null if none was to be sent.
    pub sent: Option<u64>,
    /// Those of them that arrived.
    pub delivered: Option<u64>,
    /// Those that did not.
    pub lost: Option<u64>,
    /// Messages that reached another peer than the one meant: always 0 in a sound protocol.
    pub misdelivered: Option<u64>,
    /// All broadcasts together; null if there was none.
    pub broadcast: Option<Broadcast>,
    /// What a peer holds at the end.
    pub state: State,
    /// What a peer spends on upkeep after T = 0; null if no time passed.
    pub upkeep: Option<Upkeep>,
    /// How the application's messages spread over the peers that carried them on; null if there were none.
    pub load: Option<Load>,
    /// Load by level of the tree, the center first; one entry where a topology has no levels.
    pub levels: Vec<Level>,
    /// Questions to the directory; null if none was asked.
    pub keys: Option<Keys>,
    /// Records; null if none was put.
    #[serde(default)]
    pub records: Option<Records>,
    /// Checks made and violated.
    pub invariants: Invariants,
    /// Simulated seconds from the last fault until the invariants held; null without faults, or if
    /// they never held.
    pub heal_s: Option<f64>,
    /// How the network came through what went wrong; null if nothing did.
    #[serde(default)]
    pub healing: Option<Healing>,
    /// Events handled, the bootstrap included.
    pub events: u64,
    /// Events over wall-clock seconds.
    pub events_per_s: f64,
    /// Processor seconds of the process.
    pub cpu_s: f64,
    /// Seconds by the wall clock.
    pub wall_s: f64,
    /// Peak resident memory of the process in bytes; null where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
}

/// A distribution in five figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

/// Latency over the direct delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
}

/// How broadcasts went, summed over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Broadcast {
    /// Peers reached, the origins included, among those expected.
    pub reached: u64,
    /// Peers alive from the broadcast to its deadline, the origins included.
    pub expected: u64,
    /// Copies sent from peer to peer.
    pub transmissions: u64,
    /// Copies that met a peer which had it.
    pub duplicates: u64,
    /// Copies that came because the receiver asked for them.
    pub repaired: u64,
    /// Broadcasts delivered after a later one of their sender.
    pub late: u64,
    /// Broadcasts offered to a neighbour, each time one was.
    pub offered: u64,
    /// Broadcasts asked of a neighbour, each time one was.
    pub asked: u64,
    /// Milliseconds until the last peer of the slowest broadcast had it.
    pub last_ms: f64,
}

/// What a peer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Peers in its table, on average: those it is connected to.
    pub contacts_mean: f64,
    /// The most peers in any table.
    pub contacts_max: u64,
    /// All other peers that it holds anything of, connected or not, on average.
    #[serde(default)]
    pub known_mean: Option<f64>,
    /// Bytes of memory a simulated peer takes, everything included; null where the system does not tell.
    pub bytes_mean: Option<f64>,
}

/// What a peer sends to keep the network whole: overlay and directory, in messages and wire bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Upkeep {
    /// Messages a second a peer.
    pub messages_per_s: f64,
    /// Bytes a second a peer, as the wire codec writes them.
    pub bytes_per_s: f64,
}

/// How evenly carrying other peers' messages is spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// The busiest peer over the mean.
    pub max_over_mean: f64,
    /// Gini coefficient: 0 is even, 1 is one peer alone.
    pub gini: f64,
}

/// How a network came through what went wrong. Shares are of the peers that lived from before it to
/// the end; a peer is known to keep its position by the position's permanent id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Healing {
    /// Peers with a place before it that lived to the end.
    pub survivors: u64,
    /// Share that has a position of before under another GUID; null without survivors, as the next two.
    pub renumbered: Option<f64>,
    /// Share that holds a position above its own: promoted into it, or taken over.
    pub promoted: Option<f64>,
    /// Promotions for each peer with a place before it: times that parents took a peer from the ring
    /// below them into their cluster, whoever it was. Takeovers are none. Null in worlds above 20,000
    /// peers.
    #[serde(default)]
    pub promotions: Option<f64>,
    /// Share that is in any other position, or has none.
    pub moved: Option<f64>,
    /// Times a peer was taken for dead that was up and not cut off from who thought so; looked for
    /// twice a second in rosters. Null in worlds above 20,000 peers, as the next.
    pub removed: Option<u64>,
    /// The most other peers that a machine held anything of at once: members, contacts, newcomers that
    /// wait, reservations.
    pub handles_max: Option<u64>,
    /// Seconds from the end of the last fault until 300 sampled routes all delivered; null without
    /// faults, or if they never did.
    pub routes_s: Option<f64>,
    /// Members of a position with a ring below it, on average; null if there is none.
    pub cluster_mean: Option<f64>,
    /// The fewest members of any of them.
    pub cluster_min: Option<u64>,
}

/// Questions to the directory: where does this peer sit?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Asked.
    pub asked: u64,
    /// Answered, rightly or not.
    pub answered: u64,
    /// Answered with the very peer.
    pub found: u64,
}

/// Records that were put, replaced and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Records {
    /// Puts that were answered, new values of old records included.
    pub put: u64,
    /// Those of them that were acknowledged.
    pub kept: u64,
    /// Reads of acknowledged records that were answered.
    pub read: u64,
    /// Those that found the value last acknowledged before, or a newer one.
    pub found: u64,
    /// Those that found an older one: always 0 in a sound service.
    pub stale: u64,
    /// Those that were told that there is nothing: likewise.
    pub missing: u64,
    /// Those that were told that the holders cannot be reached.
    pub unreachable: u64,
    /// Messages about records a second a peer, puts and reads included.
    pub messages_per_s: f64,
    /// Their bytes a second a peer, as the wire codec writes them.
    pub bytes_per_s: f64,
}

/// Checks of the topology's invariants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invariants {
    /// Checks made.
    pub checked: u64,
    /// Checks that failed.
    pub violated: u64,
}

/// The curves of one run, for pictures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Delivered messages by their hops: index 0 counts those of no hop.
    pub hops: Vec<u64>,
    /// Latency in milliseconds at each percentile, 0 to 100; empty without messages.
    pub latency_ms: Vec<f64>,
    /// Peers reached over time by the first broadcast: (milliseconds since it began, peers so far).
    pub reach: Vec<(f64, u64)>,
    /// Up to 2,000 peers of the network, as coordinates from the center outward; empty where a
    /// topology has none.
    pub places: Vec<Vec<u32>>,
}

/// The peers of one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// How many there are.
    pub peers: u64,
    /// Messages of the application that one of them carried on, on average.
    pub forwarded_mean: f64,
    /// The most that any of them carried on.
    pub forwarded_max: u64,
}
