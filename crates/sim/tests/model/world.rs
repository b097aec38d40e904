//! The world that the model explores: real machines, what is under way between each two of them in
//! the order it was sent, the connections, the timers.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use ringweave_ids::{Peer, Random, Time};
use ringweave_overlay::{
    Cx, Event, Input, Loss, Output, Overlay, Profile, View,
    polyring::{Config, Message, Polyring, Timer},
};

use crate::host::{ModelHost, fingerprint};

/// How long a dial takes to fail.
const UNREACHABLE: Duration = Duration::from_secs(1);

/// How long a connection stands that neither side holds, after the last message.
const IDLE: Duration = Duration::from_secs(15);

/// What is counted as nonsense and is none: a label may come before its keeper is known.
const LATE: [&str; 1] = ["a position that its keeper did not sign"];

/// What all states of one exploration have in common.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    /// How many peers there are, 2 to 5.
    pub(crate) count: usize,
    /// Whether applications hold every connection: none is closed for being idle.
    pub(crate) is_kept: bool,
    /// Of all that is drawn: a draw is a function of it, of the peer and of the moment.
    pub(crate) seed: u64,
}

/// One state.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Option<Arc<Node>>>,
    /// What is under way from peer a to peer b, the oldest first: at `a * count + b`.
    ways: Vec<Vec<Arc<Parcel>>>,
    /// The connections that stand, by pair.
    links: Pairs,
    /// The connections that a peer takes for standing: one that broke, until it hears so.
    seen: Pairs,
    /// The connections that a peer asked its host to hold.
    held: Pairs,
    /// The pairs that cannot connect.
    pub(crate) cut: Pairs,
    /// By moment, then by peer.
    alarms: Vec<Alarm>,
    /// What may still go wrong.
    pub(crate) left: Budget,
    /// How often a peer entered: each life has a larger incarnation than all before.
    lives: u64,
    /// Something that somebody received and took for forged.
    pub(crate) forged: Option<&'static str>,
}

/// A peer that runs.
pub(crate) struct Node {
    pub(crate) machine: Polyring,
    profile: Profile,
    fingerprint: u64,
}

/// What may still go wrong, how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// A connection breaks, and all that is under way on it is lost.
    pub(crate) breaks: u8,
    /// Two peers cannot connect any more.
    pub(crate) cuts: u8,
    /// One peer, or a group of them, is cut off from all others.
    pub(crate) splits: u8,
    /// A peer vanishes.
    pub(crate) crashes: u8,
    /// One that vanished, or never was there, enters.
    pub(crate) entries: u8,
    /// A timer runs out while something is under way.
    pub(crate) delays: u8,
}

/// A set of ordered pairs of peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pairs(u64);

/// What one peer's host hands to its machine of another.
struct Parcel {
    what: What,
    fingerprint: u64,
}

#[derive(Clone, Debug)]
enum What {
    Message(Message),
    Up,
    Down,
}

#[derive(Clone, Copy, Debug)]
struct Alarm {
    at: Time,
    peer: usize,
    what: Due,
    fingerprint: u64,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Timer(Timer),
    Unreachable(usize),
    Idle(usize),
}

impl Pairs {
    fn bit(a: usize, b: usize) -> u64 {
        1 << (a * 8 + b)
    }

    pub(crate) fn has(self, a: usize, b: usize) -> bool {
        self.0 & Self::bit(a, b) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn set(&mut self, a: usize, b: usize, is_in: bool) {
        match is_in {
            true => self.0 |= Self::bit(a, b),
            false => self.0 &= !Self::bit(a, b),
        }
    }

    fn set_both(&mut self, a: usize, b: usize, is_in: bool) {
        self.set(a, b, is_in);
        self.set(b, a, is_in);
    }
}

impl World {
    /// Nobody is there yet.
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            now: Time::from_micros(1),
            nodes: vec![None; setup.count],
            ways: vec![Vec::new(); setup.count * setup.count],
            links: Pairs::default(),
            seen: Pairs::default(),
            held: Pairs::default(),
            cut: Pairs::default(),
            alarms: Vec::new(),
            left: Budget::default(),
            lives: 0,
            forged: None,
        }
    }

    /// Starts a peer that joins through `contacts`; with none it founds a network.
    pub(crate) fn enter(&mut self, setup: &Setup, peer: usize, contacts: &[usize]) {
        self.lives += 1;
        let profile = Profile {
            incarnation: self.lives * 1_000_000,
            ..Profile::default()
        };
        let host = ModelHost(handle(peer));
        let machine = Polyring::new(&View {
            config: &setup.config,
            me: host.0,
            profile: &profile,
            host: &host,
        });
        self.nodes[peer] = Some(Arc::new(Node {
            machine,
            profile,
            fingerprint: 0,
        }));
        let contacts = contacts.iter().map(|contact| handle(*contact)).collect();
        self.feed(setup, peer, Input::Join(contacts));
    }

    /// A peer that has a place hears of another.
    pub(crate) fn greet(&mut self, setup: &Setup, peer: usize, other: usize) {
        self.feed(setup, peer, Input::Join(vec![handle(other)]));
    }

    pub(crate) fn is_there(&self, peer: usize) -> bool {
        self.nodes[peer].is_some()
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = (usize, &Node)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(peer, node)| Some((peer, &**node.as_ref()?)))
    }

    pub(crate) fn is_linked(&self, a: usize, b: usize) -> bool {
        self.links.has(a, b)
    }

    /// The ordered pairs between which something is under way.
    pub(crate) fn ways(&self) -> impl Iterator<Item = (usize, usize)> {
        let count = self.nodes.len();
        let ways = self.ways.iter().enumerate();
        ways.filter(|(_, way)| !way.is_empty())
            .map(move |(at, _)| (at / count, at % count))
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.ways.iter().all(Vec::is_empty)
    }

    /// When the next timer runs out.
    pub(crate) fn next_alarm(&self) -> Option<Time> {
        self.alarms.first().map(|alarm| alarm.at)
    }

    /// Hands the oldest parcel from one peer over to another.
    pub(crate) fn deliver(&mut self, setup: &Setup, from: usize, to: usize) {
        let way = self.way(from, to);
        let parcel = self.ways[way].remove(0);
        let sender = handle(from);
        let input = match &parcel.what {
            What::Message(message) => Input::Received(sender, message.clone()),
            What::Up => {
                self.seen.set(to, from, true);
                Input::Up(sender)
            }
            What::Down => {
                self.seen.set(to, from, false);
                Input::Down(sender, Loss::Silent)
            }
        };
        self.feed(setup, to, input);
    }

    /// The next timer that changes anything runs out.
    pub(crate) fn tick(&mut self, setup: &Setup) {
        while !self.alarms.is_empty() {
            let Alarm { at, peer, what, .. } = self.alarms.remove(0);
            self.now = self.now.max(at);
            let input = match what {
                Due::Timer(timer) => Input::Timer(timer),
                Due::Unreachable(to) if self.links.has(peer, to) => continue,
                Due::Unreachable(to) => Input::Down(handle(to), Loss::Unreachable),
                Due::Idle(other) => {
                    self.break_link(setup, peer, other);
                    return;
                }
            };
            if self.feed(setup, peer, input) {
                return;
            }
        }
    }

    /// A connection breaks; both sides hear of it in their turn.
    pub(crate) fn break_link(&mut self, setup: &Setup, a: usize, b: usize) {
        self.links.set_both(a, b, false);
        self.watch(setup, a, b);
        for (from, to) in [(a, b), (b, a)] {
            let way = self.way(from, to);
            self.ways[way].clear();
            if self.is_there(to) {
                self.send(from, to, What::Down);
            }
        }
    }

    /// Two peers cannot connect any more.
    pub(crate) fn cut(&mut self, setup: &Setup, a: usize, b: usize) {
        self.cut.set_both(a, b, true);
        if self.links.has(a, b) {
            self.break_link(setup, a, b);
        }
    }

    /// Those in the mask and all others cannot connect any more.
    pub(crate) fn split(&mut self, setup: &Setup, mask: u32) {
        let count = self.nodes.len();
        for (a, b) in (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))) {
            if (mask >> a & 1) != (mask >> b & 1) {
                self.cut(setup, a, b);
            }
        }
    }

    /// All can connect again.
    pub(crate) fn mend(&mut self) {
        self.cut = Pairs::default();
    }

    /// A peer vanishes; those that are connected to it hear so in their turn.
    pub(crate) fn crash(&mut self, setup: &Setup, peer: usize) {
        self.nodes[peer] = None;
        self.alarms.retain(|alarm| alarm.peer != peer);
        for other in (0..self.nodes.len()).filter(|other| *other != peer) {
            self.seen.set(peer, other, false);
            let is_known = self.links.has(peer, other) || self.seen.has(other, peer);
            self.links.set_both(peer, other, false);
            self.held.set(peer, other, false);
            self.watch(setup, peer, other);
            for (from, to) in [(peer, other), (other, peer)] {
                let way = self.way(from, to);
                self.ways[way].clear();
            }
            if is_known && self.is_there(other) {
                self.send(peer, other, What::Down);
            }
        }
    }

    /// A hash of all of it.
    pub(crate) fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Delivers in a fixed order, the clock standing, until nothing is under way; whether that came.
    pub(crate) fn settle(&mut self, setup: &Setup) -> bool {
        const LIMIT: usize = 20_000;
        for _ in 0..LIMIT {
            let Some((from, to)) = self.ways().next() else {
                return true;
            };
            self.deliver(setup, from, to);
        }
        false
    }

    /// Runs on without faults until a moment; whether it came to rest between the timers.
    pub(crate) fn run(&mut self, setup: &Setup, end: Time) -> bool {
        loop {
            if !self.settle(setup) {
                return false;
            }
            if self.next_alarm().is_none_or(|at| at > end) {
                return true;
            }
            self.tick(setup);
        }
    }

    /// Gives a machine an input and carries out its outputs; whether anything came of it.
    fn feed(&mut self, setup: &Setup, peer: usize, input: Input<Polyring>) -> bool {
        let Some(node) = self.nodes[peer].as_ref() else {
            return false;
        };
        let (mut machine, profile) = (node.machine.clone(), node.profile.clone());
        let before = node.fingerprint;
        let host = ModelHost(handle(peer));
        let mut random = Random::new(fingerprint(&(setup.seed, peer, self.now)));
        let mut out = Vec::new();
        let view = View {
            config: &setup.config,
            me: host.0,
            profile: &profile,
            host: &host,
        };
        let mut cx = Cx {
            view,
            now: self.now,
            random: &mut random,
            out: &mut out,
        };
        machine.handle(&mut cx, input);
        let fingerprint = fingerprint(&machine);
        self.nodes[peer] = Some(Arc::new(Node {
            machine,
            profile,
            fingerprint,
        }));
        let is_change = fingerprint != before || !out.is_empty();
        for output in out {
            self.carry_out(setup, peer, output);
        }
        is_change
    }

    fn carry_out(&mut self, setup: &Setup, peer: usize, output: Output<Polyring>) {
        match output {
            Output::Send(to, message) => {
                let to = to.0 as usize;
                self.dial(peer, to);
                if self.links.has(peer, to) {
                    self.send(peer, to, What::Message(message));
                    self.watch(setup, peer, to);
                }
            }
            Output::Open(to) => {
                let to = to.0 as usize;
                self.held.set(peer, to, true);
                self.dial(peer, to);
                self.watch(setup, peer, to);
            }
            Output::Close(to) => {
                self.held.set(peer, to.0 as usize, false);
                self.watch(setup, peer, to.0 as usize);
            }
            Output::Timer(span, timer) => self.arm(span, peer, Due::Timer(timer)),
            Output::Event(Event::Fault(kind)) if !LATE.contains(&kind) => self.forged = Some(kind),
            Output::Event(_) => {}
        }
    }

    fn dial(&mut self, from: usize, to: usize) {
        // What is sent on a connection that broke is lost until the sender hears of it.
        if from == to || self.links.has(from, to) || self.seen.has(from, to) {
            return;
        }
        if self.is_there(to) && !self.cut.has(from, to) {
            self.links.set_both(from, to, true);
            self.send(from, to, What::Up);
            self.send(to, from, What::Up);
            return;
        }
        let is_dialling = |alarm: &Alarm| {
            alarm.peer == from && matches!(alarm.what, Due::Unreachable(other) if other == to)
        };
        if !self.alarms.iter().any(is_dialling) {
            self.arm(UNREACHABLE, from, Due::Unreachable(to));
        }
    }

    /// A connection was used, held, let go or lost: when it will have been idle for too long.
    fn watch(&mut self, setup: &Setup, a: usize, b: usize) {
        let (a, b) = (a.min(b), a.max(b));
        let is_of_pair =
            |alarm: &Alarm| alarm.peer == a && matches!(alarm.what, Due::Idle(it) if it == b);
        self.alarms.retain(|alarm| !is_of_pair(alarm));
        let is_held = setup.is_kept || self.held.has(a, b) || self.held.has(b, a);
        if self.links.has(a, b) && !is_held {
            self.arm(IDLE, a, Due::Idle(b));
        }
    }

    fn send(&mut self, from: usize, to: usize, what: What) {
        let fingerprint = fingerprint(&what);
        let way = self.way(from, to);
        self.ways[way].push(Arc::new(Parcel { what, fingerprint }));
    }

    fn arm(&mut self, span: Duration, peer: usize, what: Due) {
        let alarm = Alarm {
            at: self.now + span,
            peer,
            what,
            fingerprint: fingerprint(&what),
        };
        let key = |alarm: &Alarm| (alarm.at, alarm.peer, alarm.fingerprint);
        let at = self.alarms.partition_point(|it| key(it) <= key(&alarm));
        self.alarms.insert(at, alarm);
    }

    fn way(&self, from: usize, to: usize) -> usize {
        from * self.nodes.len() + to
    }

    /// What would be delivered next between two peers, in a word.
    pub(crate) fn next_word(&self, from: usize, to: usize) -> String {
        let parcel = self.ways[self.way(from, to)].first();
        parcel.map_or_else(String::new, |parcel| word(&parcel.what))
    }

    /// Whose timer runs out next, and which.
    pub(crate) fn next_alarm_word(&self) -> String {
        let alarm = self.alarms.first();
        alarm.map_or_else(String::new, |alarm| {
            format!("{} {:?}", alarm.peer, alarm.what)
        })
    }
}

impl Node {
    /// Asks the machine's pure questions.
    pub(crate) fn view<'a>(&'a self, setup: &'a Setup, host: &'a ModelHost) -> View<'a, Polyring> {
        View {
            config: &setup.config,
            me: host.0,
            profile: &self.profile,
            host,
        }
    }
}

/// The handle of a peer's number.
pub(crate) fn handle(peer: usize) -> Peer {
    Peer(peer as u32)
}

fn word(what: &What) -> String {
    let What::Message(message) = what else {
        return format!("{what:?}");
    };
    let text = format!("{message:?}");
    let end = text.find(|it: char| !it.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.now, self.links, self.seen, self.held).hash(state);
        (self.cut, self.left, self.lives).hash(state);
        for node in &self.nodes {
            node.as_ref().map(|node| node.fingerprint).hash(state);
        }
        for way in &self.ways {
            way.len().hash(state);
            way.iter().for_each(|parcel| parcel.fingerprint.hash(state));
        }
        for alarm in &self.alarms {
            (alarm.at, alarm.peer, alarm.fingerprint).hash(state);
        }
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "at {} {:?}", self.now, self.left)?;
        for (peer, node) in self.living() {
            let [own, below, above] = node.machine.rings();
            write!(
                f,
                "  {peer}: {:?}",
                node.machine.address().map(ToString::to_string)
            )?;
            for (name, ring) in [("own", own), ("below", below), ("above", above)] {
                write!(f, " {name} {:x}:", ring.id.0 & 0xffff)?;
                for record in ring.records() {
                    let seat = record.seat.map(|seat| seat.position.0 & 0xffff);
                    let mark = match (record.lives_in(ring.id), &record.accusation) {
                        (true, _) => "",
                        (false, Some(_)) => "!",
                        (false, None) => "-",
                    };
                    write!(f, " {mark}{}@{:x}", record.peer.0, seat.unwrap_or(0))?;
                }
            }
            writeln!(f)?;
        }
        for (from, to) in self.ways() {
            let way = &self.ways[self.way(from, to)];
            let words: Vec<_> = way.iter().map(|parcel| word(&parcel.what)).collect();
            writeln!(f, "  {from} -> {to}: {}", words.join(" "))?;
        }
        Ok(())
    }
}
