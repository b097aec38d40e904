//! A small deterministic world for tests: machines, a queue of events, and a host with a keyed hash
//! for signatures.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

use ringweave_ids::{Guid, Peer, PeerId, Random, Signature, Time};

use super::{Config, Message, Polyring, Timer, ring::mix};
use crate::{
    Cx, Event, Hop, Host, Input, Loss, Message as _, Output, Overlay, Profile, Reach, Target, View,
};

const NETWORK: [u8; 32] = [42; 32];

/// A host whose handles are the peers' numbers and whose signatures are keyed hashes.
#[derive(Clone, Debug)]
pub(crate) struct Faker {
    me: u32,
}

impl Faker {
    pub(crate) fn new(me: u32) -> Self {
        Self { me }
    }
}

fn id_of(number: u32) -> PeerId {
    let mut bytes = *blake3::hash(&number.to_le_bytes()).as_bytes();
    bytes[28..].copy_from_slice(&number.to_le_bytes());
    PeerId::from_bytes(bytes)
}

fn keyed(key: &[u8; 32], bytes: &[u8]) -> Signature {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(blake3::keyed_hash(key, bytes).as_bytes());
    Signature(signature)
}

impl Host for Faker {
    fn id(&self, peer: Peer) -> PeerId {
        id_of(peer.0)
    }
    fn peer(&self, id: &PeerId) -> Option<Peer> {
        let bytes = id.as_bytes();
        Some(Peer(u32::from_le_bytes([
            bytes[28], bytes[29], bytes[30], bytes[31],
        ])))
    }
    fn sign(&self, bytes: &[u8]) -> Signature {
        keyed(id_of(self.me).as_bytes(), bytes)
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

#[derive(Debug)]
enum What {
    Message(u32, Message),
    Timer(Timer),
    Up(u32),
    Down(u32, Loss),
}

/// Peers that exchange messages with delays, until told otherwise.
pub(crate) struct Swarm {
    pub(crate) now: Time,
    pub(crate) config: Config,
    pub(crate) peers: BTreeMap<u32, (Polyring, Profile, Random)>,
    links: BTreeSet<(u32, u32)>,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    events: BTreeMap<u64, (u32, What)>,
    next: u64,
    pub(crate) faults: Vec<(u32, &'static str)>,
    pub(crate) delay: fn(u32, u32) -> Duration,
    isolated: BTreeSet<u32>,
}

/// How long a crash goes unnoticed, as on real links.
pub(crate) const SILENCE: Duration = Duration::from_millis(2_500);

impl Swarm {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            now: Time::from_micros(1),
            config,
            peers: BTreeMap::new(),
            links: BTreeSet::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next: 0,
            faults: Vec::new(),
            delay: |a, b| Duration::from_millis(5 + u64::from((a ^ b) % 20)),
            isolated: BTreeSet::new(),
        }
    }

    /// Starts a peer that joins through `contacts`; with none it founds the network.
    pub(crate) fn join(&mut self, number: u32, label: &str, contacts: &[u32]) {
        self.start(number, label, contacts, None);
    }

    /// Starts a peer that was here before.
    pub(crate) fn rejoin(&mut self, number: u32, contacts: &[u32], home: Guid) {
        self.start(number, "", contacts, Some(home));
    }

    fn start(&mut self, number: u32, label: &str, contacts: &[u32], home: Option<Guid>) {
        let incarnation = 1_000_000 + self.now.as_micros() / 1_000;
        let profile = Profile {
            label: label.into(),
            incarnation,
            is_private: false,
            home,
        };
        let host = Faker::new(number);
        let view = View {
            config: &self.config,
            me: Peer(number),
            profile: &profile,
            host: &host,
        };
        let peer = Polyring::new(&view);
        self.peers
            .insert(number, (peer, profile, Random::new(u64::from(number))));
        self.feed(
            number,
            Input::Join(contacts.iter().map(|it| Peer(*it)).collect()),
        );
    }

    /// A network of `count` peers that joined one after the other, labelled by `label`.
    pub(crate) fn grown(config: Config, count: u32, label: impl Fn(u32) -> &'static str) -> Self {
        let mut swarm = Self::new(config);
        for number in 0..count {
            let contacts: &[u32] = if number == 0 { &[] } else { &[0] };
            swarm.join(number, label(number), contacts);
            swarm.run_until(Duration::from_secs(10), |it| it.guid(number).is_some());
        }
        swarm.run(Duration::from_secs(5));
        swarm
    }

    /// The handles that a peer uses.
    pub(crate) fn uses(&self, number: u32) -> BTreeSet<u32> {
        let mut used = Vec::new();
        self.peers[&number].0.uses(&mut used);
        used.into_iter().map(|peer| peer.0).collect()
    }

    pub(crate) fn guid(&self, number: u32) -> Option<Guid> {
        self.peers
            .get(&number)
            .and_then(|(peer, ..)| peer.address().cloned())
    }

    /// The peer vanishes; its neighbours notice only by its silence.
    pub(crate) fn crash(&mut self, number: u32) {
        self.peers.remove(&number);
        let broken: Vec<_> = self
            .links
            .iter()
            .copied()
            .filter(|(a, b)| *a == number || *b == number)
            .collect();
        for (a, b) in broken {
            self.links.remove(&(a, b));
            let other = if a == number { b } else { a };
            self.push(SILENCE, other, What::Down(number, Loss::Silent));
        }
    }

    /// The peer lives on, but nobody reaches it and it reaches nobody.
    pub(crate) fn isolate(&mut self, number: u32) {
        self.isolated.insert(number);
        let broken: Vec<_> = self
            .links
            .iter()
            .copied()
            .filter(|(a, b)| *a == number || *b == number)
            .collect();
        for (a, b) in broken {
            self.links.remove(&(a, b));
            self.push(SILENCE, a, What::Down(b, Loss::Silent));
            self.push(SILENCE, b, What::Down(a, Loss::Silent));
        }
    }

    pub(crate) fn reconnect(&mut self, number: u32) {
        self.isolated.remove(&number);
    }

    pub(crate) fn leave(&mut self, number: u32) {
        self.feed(number, Input::Leave);
        self.run(Duration::from_millis(50));
        self.crash(number);
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse((at, _))) = self.queue.peek().copied()
            && at <= end
        {
            self.step();
        }
        self.now = end;
    }

    /// Runs until the condition holds.
    ///
    /// # Panics
    /// If it does not within `limit`.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        condition: impl Fn(&Self) -> bool,
    ) -> Duration {
        let start = self.now;
        while !condition(self) {
            assert!(
                self.now.since(start) < limit,
                "not within {limit:?}: {}",
                self.picture()
            );
            self.run(Duration::from_millis(50));
        }
        self.now.since(start)
    }

    pub(crate) fn picture(&self) -> String {
        let line = |(number, (peer, ..)): (&u32, &(Polyring, Profile, Random))| {
            format!(
                "{number}: {} phase {:?}, {} up",
                peer.guid,
                peer.phase,
                peer.links.iter().filter(|link| link.is_up).count()
            )
        };
        self.peers.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Walks the live tables from one peer to another: the hops, or where it ended.
    pub(crate) fn route(&self, from: u32, to: u32) -> Result<usize, String> {
        let address = self.guid(to).ok_or("the destination has no place")?;
        let mut target = Target::Peer {
            id: id_of(to),
            address,
        };
        // Another number at each hop, the same ones each time, as a router gives them.
        let flow = mix(u64::from(from) << 32 | u64::from(to));
        let (mut at, mut hops) = (from, 0);
        loop {
            let (peer, profile, _) = self.peers.get(&at).ok_or(format!("{at} is gone"))?;
            let host = Faker::new(at);
            let view = View {
                config: &self.config,
                me: Peer(at),
                profile,
                host: &host,
            };
            let next = match peer.next_hop(&view, &target, flow.rotate_left(7 * hops as u32)) {
                Hop::Arrived if at == to => return Ok(hops),
                Hop::To(next) => next,
                Hop::Corrected(next, address) => {
                    target = Target::Peer {
                        id: id_of(to),
                        address,
                    };
                    next
                }
                other => return Err(format!("{from} -> {to}: {other:?} at {at} {}", peer.guid)),
            };
            hops += 1;
            if hops > 64 || !self.peers.contains_key(&next.0) {
                return Err(format!("{from} -> {to}: lost at {at}, next {next:?}"));
            }
            at = next.0;
        }
    }

    /// The first pair that cannot reach each other within the bound, if any.
    pub(crate) fn broken_route(&self) -> Option<String> {
        for from in self.peers.keys() {
            for to in self.peers.keys() {
                let bound = || {
                    let depth = |number: u32| self.guid(number).map_or(1, |guid| guid.depth());
                    depth(*from) + depth(*to)
                };
                match self.route(*from, *to) {
                    Ok(hops) if hops <= bound() => {}
                    Ok(hops) => {
                        return Some(format!("{from} -> {to}: {hops} hops, bound {}", bound()));
                    }
                    Err(why) => return Some(why),
                }
            }
        }
        None
    }

    /// Spreads a broadcast over the live tables: peers reached, transmissions.
    pub(crate) fn broadcast(&self, from: u32) -> (usize, usize) {
        let mut reached = BTreeSet::from([from]);
        let mut transmissions = 0;
        let mut copies = vec![(from, self.peers[&from].0.span(Reach::All))];
        while let Some((at, span)) = copies.pop() {
            let mut out = Vec::new();
            self.peers[&at].0.fan_out(&span, 0, &mut out);
            transmissions += out.len();
            for (peer, span) in out {
                assert!(reached.insert(peer.0), "{} got it twice", peer.0);
                copies.push((peer.0, span));
            }
        }
        (reached.len(), transmissions)
    }

    /// Gives a peer an input and carries out its outputs.
    ///
    /// # Panics
    /// If an output names a handle that its host might have forgotten.
    pub(crate) fn feed(&mut self, number: u32, input: Input<Polyring>) {
        let Some((peer, profile, random)) = self.peers.get_mut(&number) else {
            return;
        };
        let mut handed = vec![Peer(number)];
        peer.uses(&mut handed);
        named_by_input(&input, &mut handed);
        let handed: BTreeSet<u32> = handed.into_iter().map(|peer| peer.0).collect();
        let host = Faker::new(number);
        let mut out = Vec::new();
        let view = View {
            config: &self.config,
            me: Peer(number),
            profile,
            host: &host,
        };
        peer.handle(
            &mut Cx {
                view,
                now: self.now,
                random,
                out: &mut out,
            },
            input,
        );
        for output in out {
            for peer in named_by_output(&output) {
                assert!(handed.contains(&peer.0), "{peer:?} in {output:?}");
            }
            match output {
                Output::Send(to, message) => {
                    self.dial(number, to.0);
                    if self.links.contains(&pair(number, to.0)) {
                        let delay = (self.delay)(number, to.0);
                        self.push(delay, to.0, What::Message(number, message));
                    }
                }
                Output::Open(to) => self.dial(number, to.0),
                Output::Timer(span, timer) => self.push(span, number, What::Timer(timer)),
                Output::Event(Event::Fault(kind)) => self.faults.push((number, kind)),
                Output::Close(_) | Output::Event(_) => {}
            }
        }
    }

    fn dial(&mut self, from: u32, to: u32) {
        if from == to || self.links.contains(&pair(from, to)) {
            return;
        }
        if !self.peers.contains_key(&to)
            || self.isolated.contains(&to)
            || self.isolated.contains(&from)
        {
            self.push(
                Duration::from_secs(1),
                from,
                What::Down(to, Loss::Unreachable),
            );
            return;
        }
        self.links.insert(pair(from, to));
        let delay = (self.delay)(from, to);
        self.push(delay, from, What::Up(to));
        self.push(delay, to, What::Up(from));
    }

    fn push(&mut self, span: Duration, to: u32, what: What) {
        self.next += 1;
        self.queue.push(Reverse((self.now + span, self.next)));
        self.events.insert(self.next, (to, what));
    }

    fn step(&mut self) {
        let Some(Reverse((at, number))) = self.queue.pop() else {
            return;
        };
        self.now = at;
        let Some((to, what)) = self.events.remove(&number) else {
            return;
        };
        let input = match what {
            What::Message(from, message) => Input::Received(Peer(from), message),
            What::Timer(timer) => Input::Timer(timer),
            What::Up(peer) => Input::Up(Peer(peer)),
            // The peer came back before its silence was noticed: its new connection replaced the old.
            What::Down(peer, _) if self.links.contains(&pair(to, peer)) => return,
            What::Down(peer, loss) => Input::Down(Peer(peer), loss),
        };
        self.feed(to, input);
    }
}

fn named_by_input(input: &Input<Polyring>, named: &mut Vec<Peer>) {
    match input {
        Input::Join(contacts) => named.extend(contacts),
        Input::Received(from, message) => {
            named.push(*from);
            message.clone().visit(&mut |peer| named.push(*peer));
        }
        Input::Up(peer) | Input::Down(peer, _) => named.push(*peer),
        // A stale timer is no licence to name its peer.
        Input::Timer(_) | Input::Leave => {}
    }
}

fn named_by_output(output: &Output<Polyring>) -> Vec<Peer> {
    match output {
        Output::Send(to, message) => {
            let mut named = vec![*to];
            message.clone().visit(&mut |peer| named.push(*peer));
            named
        }
        Output::Open(peer)
        | Output::Close(peer)
        | Output::Timer(_, Timer::Suspicion(peer) | Timer::Redial(peer)) => vec![*peer],
        Output::Timer(..) | Output::Event(_) => Vec::new(),
    }
}

fn pair(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}
