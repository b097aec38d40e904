//! What a world is like and what happens in it. The names of [`Scenario`]'s fields are the keys of a
//! scenario file and, with dashes, the flags of `ringweave sim run`.
//!
//! Every value has one text form, the same in a file, on the command line and in a grid. A scenario
//! says itself as a file ([`Scenario::to_toml`]) or as the command that replays it
//! ([`Scenario::command`]); both read back as the same scenario.

mod expect;
mod fault;
mod file;
mod grid;
mod replay;
mod settings;
mod words;

use std::path::PathBuf;

pub use expect::Expectation;
pub use file::ScenarioError;
pub use grid::{Axis, Grid, GridRun, MAX_RUNS};
pub use ringweave_overlay::{Topology, polyring::Rule};
pub use settings::{Form, SETTINGS, SetError, Setting, setting};
pub use words::WordError;

/// One run, completely: the same scenario gives the same digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// How peers arrange themselves.
    pub topology: Topology,
    /// Peers at T = 0, 1 to 4,000,000.
    pub peers: u32,
    /// Everything that is drawn follows from it.
    pub seed: u64,
    /// Threads that run it; nothing: one for each core.
    pub threads: Option<u16>,
    /// How the network comes to be.
    pub bootstrap: Bootstrap,
    /// Networks of one key that are founded apart, 1 to 16, until the fault `meet`.
    pub networks: u16,
    /// Seconds from T = 0 to the end; load is spread evenly over them.
    pub duration: f64,
    /// How far peers are from each other.
    pub latency: Latency,
    /// Largest share of a pair's delay that is added to each message at random, 0 to 1.
    pub jitter: f64,
    /// Share of packets lost on the way, 0 to under 1: felt as delay.
    pub loss: f64,
    /// Bytes a second that a peer sends at most; nothing: no limit.
    pub upload: Option<u64>,
    /// Bytes a second that a peer receives at most; nothing: no limit.
    pub download: Option<u64>,
    /// How peers come and go.
    pub churn: Churn,
    /// Messages sent from peers to peers after T = 0.
    pub lookups: u64,
    /// Whom they go to.
    pub pairs: Pairs,
    /// Broadcasts after T = 0.
    pub broadcasts: u32,
    /// Multicasts of eight receivers after T = 0.
    pub multicasts: u32,
    /// Questions to the directory after T = 0, each for a random peer.
    pub keys: u32,
    /// Records that are put in the first tenth of the time, with leases of two hours.
    pub records: u32,
    /// Reads of them in the rest of it; after every eighth the record's writer, if it lives, puts a new value.
    pub reads: u64,
    /// Bytes of payload in each message, 16 to 65,536.
    pub payload: u32,
    /// A share of the peers crashes at once.
    pub crash: Option<Share>,
    /// The network falls into two parts for a while.
    pub partition: Option<Split>,
    /// Where a polyring's newcomers go.
    pub policy: Policy,
    /// Whom a polyring's peers pass a broadcast to first.
    pub order: Order,
    /// Most positions in a ring of a polyring; nothing: the topology's own default.
    pub ring_size: Option<u16>,
    /// Members of a position with children, 1 to 16; nothing: the topology's own default.
    pub cluster: Option<u16>,
    /// Successors that a peer of Chord keeps, or a superpeer on its circle, 1 to 64; nothing: the
    /// topology's own default.
    pub successors: Option<u16>,
    /// Neighbours of a peer in an unstructured network, 2 to 255; nothing: the topology's own default.
    pub active: Option<u16>,
    /// Where Chord's fingers point.
    pub fingers: Fingers,
    /// Whether Chord's messages take the way over fingers alone.
    pub no_shortcuts: bool,
    /// Peers in a bucket of Kademlia (k), 1 to 64; nothing: the topology's own default.
    pub bucket: Option<u16>,
    /// Connections into each bucket of Kademlia, 1 to 16; nothing: the topology's own default.
    pub links: Option<u16>,
    /// Bits of a digit of Pastry and Tapestry, 1, 2 or 4; nothing: the topology's own default.
    pub digit_bits: Option<u16>,
    /// Peers of a leaf set of Pastry, 4 to 64, or 0 where tables are built; nothing: the topology's own
    /// default.
    pub leaves: Option<u16>,
    /// Peers of a slot of Tapestry, 1 to 8; nothing: the topology's own default.
    pub slot: Option<u16>,
    /// Whether messages of Tapestry get nowhere when their next digit is missing.
    pub no_surrogates: bool,
    /// A rule of healing that all peers do without, to see what it is good for.
    pub without: Option<Rule>,
    /// Peers that stay whatever happens, 0 to 16: the first ones, whose addresses everybody is given.
    pub anchors: u16,
    /// Share of peers behind NATs: nobody can dial them.
    pub private: f64,
    /// Share of pairs of peers that can never connect, as the way is open in one direction only.
    pub one_way: f64,
    /// Further faults.
    pub faults: Vec<Fault>,
    /// What the run should come to; it changes nothing in it.
    pub expect: Vec<Expectation>,
    /// Whether peers sign with real Ed25519 keys instead of the cheap stand-in.
    pub real_keys: bool,
    /// A fault in the laboratory itself, to prove that its checks bite.
    pub canary: Option<Canary>,
}

impl Scenario {
    /// What a report of this scenario should have come to and did not, each in words.
    pub fn missed(&self, report: &crate::Report) -> Vec<String> {
        let missed = self.expect.iter().filter_map(|each| each.missed(report));
        missed.collect()
    }

    /// How many threads run it: those that are set, or one for each core.
    pub(crate) fn crew(&self) -> u16 {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u16);
        self.threads.unwrap_or(cores).max(1)
    }

    /// Whether peers crash and nothing else goes wrong: then nobody's GUID may change but by promotion.
    pub(crate) fn has_only_crashes(&self) -> bool {
        let is_crash = |fault: &Fault| matches!(fault.kind, FaultKind::Crash(..));
        let has_crash = self.crash.is_some() || !self.faults.is_empty();
        let is_calm = self.churn == Churn::None && self.partition.is_none() && self.one_way == 0.0;
        has_crash && is_calm && self.faults.iter().all(is_crash)
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            topology: Topology::Polyring,
            peers: 1_000,
            seed: 1,
            threads: None,
            bootstrap: Bootstrap::Grown,
            networks: 1,
            duration: 60.0,
            latency: Latency::Constant(50.0),
            jitter: 0.0,
            loss: 0.0,
            upload: None,
            download: None,
            churn: Churn::None,
            lookups: 0,
            pairs: Pairs::Uniform,
            broadcasts: 0,
            multicasts: 0,
            keys: 0,
            records: 0,
            reads: 0,
            payload: 64,
            crash: None,
            partition: None,
            policy: Policy::Balanced,
            order: Order::Inward,
            successors: None,
            active: None,
            fingers: Fingers::Fixed,
            no_shortcuts: false,
            bucket: None,
            links: None,
            digit_bits: None,
            leaves: None,
            slot: None,
            no_surrogates: false,
            ring_size: None,
            cluster: None,
            without: None,
            anchors: 0,
            private: 0.0,
            one_way: 0.0,
            faults: Vec::new(),
            expect: Vec::new(),
            real_keys: false,
            canary: None,
        }
    }
}

/// Where the finger of an interval points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fingers {
    /// `fixed`: to the first peer of the interval, as in Chord's paper.
    Fixed,
    /// `random`: to any peer of the interval.
    Random,
}

/// How the network comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// `grown`: every peer joins through the protocol.
    Grown,
    /// `built`: peers start with ready tables.
    Built,
}

/// How far peers are from each other. Delays are one way; a pair keeps its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Latency {
    /// `constant:MS`: the same between all.
    Constant(f64),
    /// `uniform:LO-HI`: drawn for each pair, in milliseconds.
    Uniform(f64, f64),
    /// `geo`: peers in cities, by population; great circle at two thirds of light's speed.
    Geo,
    /// A path: a square matrix of round trips, round trips between countries, or cities.
    File(PathBuf),
}

/// How peers come and go.
#[derive(Clone, Debug, PartialEq)]
pub enum Churn {
    /// `none`: nobody does.
    None,
    /// `exponential:MEAN_S`
    Exponential {
        /// Mean session in seconds.
        mean_s: f64,
    },
    /// `weibull:SHAPE:MEDIAN_S`
    Weibull {
        /// Below 1: many short sessions, a few very long ones.
        shape: f64,
        /// Median session in seconds.
        median_s: f64,
    },
    /// A path: a trace of `node,up_s,down_s`.
    File(PathBuf),
}

/// Whom lookups go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `uniform`: any peer.
    Uniform,
    /// `local`: one of the peers nearest to the sender.
    Local,
}

/// Where walks over ready tables go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Targets {
    /// `peers`: to a peer that lives.
    #[default]
    Peers,
    /// `keys`: to who owned a key before anybody died; what was kept nowhere else is lost with its owner.
    Keys,
    /// `predecessors`: to the last peer that lives before a key, from where the owner is one hop more.
    /// Chord alone asks for it.
    Predecessors,
    /// `closest`: to all peers closest to a key, by an iterative lookup. Kademlia alone has such.
    Closest,
}

/// Where a polyring's newcomers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `balanced`: the branch of the fewest peers.
    Balanced,
    /// `nearest`: the branch whose head answers soonest.
    Nearest,
    /// `labelled`: the branch of their label, which is where they are.
    Labelled,
}

/// Whom a polyring passes a broadcast to first; children come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `inward`: the parent, then the siblings.
    Inward,
    /// `sideways`: the siblings, then the parent.
    Sideways,
}

/// `SHARE@T`: a share of the peers, at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// 0 to 1.
    pub share: f64,
    /// Seconds after T = 0.
    pub at: f64,
}

/// `SHARE@T+LENGTH`: a share of the peers cut off from the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    /// 0 to 1.
    pub share: f64,
    /// Seconds after T = 0.
    pub at: f64,
    /// Seconds until it heals.
    pub length: f64,
}

/// Something that goes wrong: a table `[[fault]]` of a scenario file.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Seconds after T = 0.
    pub at: f64,
    /// What.
    pub kind: FaultKind,
    /// Whether it comes again.
    pub repeat: Option<Repeat>,
}

/// `repeat = 20`, `every = 60`: a fault that comes so many times, this many seconds apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeat {
    /// How often in all, 2 to 10,000.
    pub times: u32,
    /// Seconds from one beginning to the next.
    pub every: f64,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// `crash`: they vanish without a word.
    Crash(Whom),
    /// `leave`: they say goodbye and go.
    Leave(Whom),
    /// `freeze`: they do nothing for `length` seconds, and go on with the state they had.
    Freeze(Whom, f64),
    /// `partition`: the network is in parts for `length` seconds. Who comes meanwhile is in the part
    /// of the peers it comes through.
    Partition(Parting, f64),
    /// `loss`: this share of packets is lost for `length` seconds.
    Loss(f64, f64),
    /// `slow`: the delays of their links are multiplied by `factor` for `length` seconds.
    Slow(Whom, f64, f64),
    /// `flash_crowd`: so many more peers join within `length` seconds.
    FlashCrowd(u32, f64),
    /// `churn`: peers come and go by a law, which is not a trace, for `length` seconds.
    Churn(Churn, f64),
    /// `dead_pairs`: this share of all pairs cannot connect for `length` seconds; it is the same pairs
    /// each time.
    DeadPairs(f64, f64),
    /// `flap`: every connection breaks with this probability a second, for `length` seconds.
    Flap(f64, f64),
    /// `meet`: one peer of each further network is given the address of one of the first.
    Meet,
}

/// Whom a fault befalls.
#[derive(Clone, Debug, PartialEq)]
pub struct Whom {
    /// Where they are.
    pub place: Where,
    /// `spare = 1`: so many positions of a ring or level are spared, drawn at random; of a single
    /// position, so many members.
    pub spare: u32,
    /// `only = 1`: no more of them than this, drawn at random.
    pub only: Option<u32>,
}

/// Where the peers are that a fault befalls.
#[derive(Clone, Debug, PartialEq)]
pub enum Where {
    /// `share = 0.3`: so many of all, drawn at random.
    Share(f64),
    /// `ring = "[4.2]"`: everyone in the ring below this place; `[]` is the center ring.
    Ring(String),
    /// `position = "[4.2]"`: whoever holds this place.
    Position(String),
    /// `level = "1-2"`: everyone so deep; 1 is the center ring.
    Level(u32, u32),
}

/// How a network falls into parts.
#[derive(Clone, Debug, PartialEq)]
pub enum Parting {
    /// These are cut off from the others.
    Off(Whom),
    /// `parts = 3`: so many parts of equal size, drawn at random.
    Parts(u8),
    /// `branches = 2`: so many parts; all below one position of the center are in one of them.
    Branches(u8),
}

impl From<Where> for Whom {
    /// All of them.
    fn from(place: Where) -> Self {
        let (spare, only) = (0, None);
        Self { place, spare, only }
    }
}

impl Fault {
    /// The seconds after T = 0 at which it comes.
    pub(crate) fn moments(&self) -> impl Iterator<Item = f64> + use<> {
        let Repeat { times, every } = self.repeat.unwrap_or(Repeat {
            times: 1,
            every: 0.0,
        });
        let first = self.at;
        (0..times).map(move |time| first + f64::from(time) * every)
    }
}

/// A fault in the laboratory itself, to prove that its checks bite: such a run must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// `repair_off`: differences between rosters are never repaired, and some news is lost.
    RepairOff,
    /// `forged_roster`: at the end one peer's roster names a member that is not there.
    ForgedRoster,
    /// `dropped_delta`: the last join's news is lost on the way to one sibling, just before the check.
    DroppedDelta,
    /// `misrouted`: one peer hands messages to the wrong neighbour.
    Misrouted,
    /// `doubled_broadcast`: one peer sends its copies twice.
    DoubledBroadcast,
    /// `doubled_delivery`: one peer's application is handed each broadcast twice.
    DoubledDelivery,
}
