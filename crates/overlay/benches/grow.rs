//! The cost of upkeep while a network grows: a few thousand peers join one after the other, rings
//! of 32, over links of constant delay. Prints nanoseconds per input of `handle`, by kind, and what
//! a peer takes in memory.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures time"
)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ringweave_ids::{Key, Peer, PeerId, Random, Signature, Time};
use ringweave_overlay::{
    Cx, Host, Input, Loss, Output, Overlay, Profile, View,
    polyring::{Config, Message, Polyring, Timer},
};

/// Peers that join, where the command line says nothing else.
const PEERS: u32 = 4_000;

/// Between two joins.
const PACE: Duration = Duration::from_millis(10);

/// On every link.
const DELAY: Duration = Duration::from_millis(10);

/// Quiet time after the last join.
const REST: Duration = Duration::from_secs(40);

const NETWORK: [u8; 32] = [42; 32];

/// One host's view of the book that all share: handles are numbers.
struct Book<'a> {
    ids: &'a [PeerId],
    me: u32,
}

/// A stand-in for a signature: a keyed hash that costs next to nothing (FNV-1a over words).
fn keyed(key: &[u8; 32], bytes: &[u8]) -> Signature {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for chunk in key.chunks(8).chain(bytes.chunks(8)) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
        hash ^= hash >> 29;
    }
    let mut signature = [0; 64];
    signature[..8].copy_from_slice(&hash.to_le_bytes());
    Signature(signature)
}

impl Host for Book<'_> {
    fn id(&self, peer: Peer) -> PeerId {
        self.ids[peer.0 as usize]
    }
    fn peer(&self, _id: &PeerId) -> Option<Peer> {
        None
    }
    fn sign(&self, bytes: &[u8]) -> Signature {
        keyed(self.ids[self.me as usize].as_bytes(), bytes)
    }
    fn sign_as_network(&self, bytes: &[u8]) -> Option<Signature> {
        (self.me == 0).then(|| keyed(&NETWORK, bytes))
    }
    fn verify(&self, by: &PeerId, bytes: &[u8], signature: &Signature) -> bool {
        keyed(by.as_bytes(), bytes) == *signature
    }
    fn verify_network(&self, bytes: &[u8], signature: &Signature) -> bool {
        keyed(&NETWORK, bytes) == *signature
    }
    fn network(&self) -> &[u8; 32] {
        &NETWORK
    }
}

/// Peers, the links between them, and what is under way.
struct World {
    now: Time,
    config: Config,
    profile: Profile,
    ids: Vec<PeerId>,
    peers: Vec<(Polyring, Random)>,
    links: Vec<Vec<u32>>,
    queue: BTreeMap<(Time, u64), (u32, Input<Polyring>)>,
    next: u64,
    out: Vec<Output<Polyring>>,
    costs: BTreeMap<&'static str, (u64, Duration)>,
}

impl World {
    fn new(count: u32) -> Self {
        let id = |number: u32| PeerId::from_bytes(Key::of("bench", &number.to_le_bytes()).0);
        Self {
            now: Time::from_micros(1),
            config: Config::default(),
            profile: Profile {
                label: String::new(),
                incarnation: 1,
                is_private: false,
                home: None,
            },
            ids: (0..count).map(id).collect(),
            peers: Vec::new(),
            links: vec![Vec::new(); count as usize],
            queue: BTreeMap::new(),
            next: 0,
            out: Vec::new(),
            costs: BTreeMap::new(),
        }
    }

    fn join(&mut self) {
        let number = self.peers.len() as u32;
        let mut random = Random::new(u64::from(number));
        let contact = random.below(self.peers.len().max(1)) as u32;
        let book = Book {
            ids: &self.ids,
            me: number,
        };
        let peer = Polyring::new(&View {
            config: &self.config,
            me: Peer(number),
            profile: &self.profile,
            host: &book,
        });
        self.peers.push((peer, random));
        let contacts = (number > 0).then_some(Peer(contact));
        self.feed(number, Input::Join(contacts.into_iter().collect()));
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= end
        {
            let ((at, _), (to, input)) = entry.remove_entry();
            self.now = at;
            self.feed(to, input);
        }
        self.now = end;
    }

    fn feed(&mut self, number: u32, input: Input<Polyring>) {
        let mut out = std::mem::take(&mut self.out);
        let kind = kind(&input);
        let (peer, random) = &mut self.peers[number as usize];
        let book = Book {
            ids: &self.ids,
            me: number,
        };
        let view = View {
            config: &self.config,
            me: Peer(number),
            profile: &self.profile,
            host: &book,
        };
        let mut cx = Cx {
            view,
            now: self.now,
            random,
            out: &mut out,
        };
        let start = Instant::now();
        peer.handle(&mut cx, input);
        let took = start.elapsed();
        let cost = self.costs.entry(kind).or_default();
        *cost = (cost.0 + 1, cost.1 + took);
        for output in out.drain(..) {
            match output {
                Output::Send(to, message) => {
                    self.dial(number, to.0);
                    self.push(DELAY, to.0, Input::Received(Peer(number), message));
                }
                Output::Open(to) => self.dial(number, to.0),
                Output::Timer(span, timer) => self.push(span, number, Input::Timer(timer)),
                Output::Close(_) | Output::Event(_) => {}
            }
        }
        self.out = out;
    }

    fn dial(&mut self, from: u32, to: u32) {
        if from == to || self.links[from as usize].contains(&to) {
            return;
        }
        if to as usize >= self.peers.len() {
            self.push(DELAY, from, Input::Down(Peer(to), Loss::Unreachable));
            return;
        }
        self.links[from as usize].push(to);
        self.links[to as usize].push(from);
        self.push(DELAY, from, Input::Up(Peer(to)));
        self.push(DELAY, to, Input::Up(Peer(from)));
    }

    fn push(&mut self, span: Duration, to: u32, input: Input<Polyring>) {
        self.next += 1;
        self.queue.insert((self.now + span, self.next), (to, input));
    }
}

fn kind(input: &Input<Polyring>) -> &'static str {
    match input {
        Input::Join(_) => "join",
        Input::Up(_) => "up",
        Input::Down(..) => "down",
        Input::Leave => "leave",
        Input::Received(_, message) => match message {
            Message::Join(_) => "message walk",
            Message::Offer(_) => "message offer",
            Message::Hello(_) => "message hello",
            Message::Summary { .. } => "message summary",
            Message::Records { .. } => "message records",
            Message::Lineage { .. } => "message lineage",
            Message::Meet { .. } => "message meet",
            Message::Promote(_) => "message promote",
            _ => "message, other",
        },
        Input::Timer(timer) => match timer {
            Timer::Beat => "timer beat",
            Timer::Repair => "timer repair",
            Timer::Sweep => "timer sweep",
            Timer::Ready => "timer ready",
            _ => "timer, other",
        },
    }
}

/// Resident memory of this process, in bytes; 0 where there is no `/proc`.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|word| word.parse().ok());
    pages.unwrap_or(0) * 4_096
}

fn main() {
    let count = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let count = count.unwrap_or(PEERS);
    let (before, start) = (resident(), Instant::now());
    let mut world = World::new(count);
    for _ in 0..count {
        world.join();
        world.run(PACE);
    }
    world.run(REST);
    let took = start.elapsed();

    let clock = Instant::now();
    for _ in 0..1_000 {
        std::hint::black_box(Instant::now());
    }
    let clock = clock.elapsed() / 1_000;
    let placed = world.peers.iter().filter(|it| it.0.address().is_some());
    println!("{} of {count} peers placed in {took:.2?}", placed.count());
    let mut depths = BTreeMap::<_, u32>::new();
    for (peer, _) in &world.peers {
        *depths
            .entry(peer.address().map(|it| it.depth()))
            .or_default() += 1;
    }
    println!("by depth: {depths:?}");
    let (mut inputs, mut spent) = (0, Duration::ZERO);
    for (kind, (times, cost)) in &world.costs {
        let cost = cost.saturating_sub(clock * *times as u32);
        inputs += times;
        spent += cost;
        let each = cost.as_nanos() / u128::from(*times);
        println!(
            "{kind:16} {times:9} x {each:6} ns = {:7.1} ms",
            cost.as_secs_f64() * 1e3
        );
    }
    let each = spent.as_nanos() / u128::from(inputs);
    println!("all              {inputs:9} x {each:6} ns = {spent:.2?}");
    println!(
        "{:.0} joins per second of handling, {} inputs each",
        f64::from(count) / spent.as_secs_f64(),
        inputs / u64::from(count)
    );
    println!(
        "{} bytes of struct, {} bytes of memory per peer, the queue included",
        size_of::<Polyring>(),
        (resident() - before) / count as usize
    );
}
