//! Some peers and what lies between them, for tests: messages take 10 ms, dials 30 ms, a dial that
//! fails 5 s, and a silence is noticed after 2.5 s.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use proptest::prelude::*;
use ringweave_ids::{Key, Peer, PeerId, Random, Signature, Time};

use crate::{Cx, Host, Input, Loss, Message as _, Output, Overlay, Profile, Reach, Target, View};

/// Microseconds.
const WAY: u64 = 10_000;
const DIAL: u64 = 30_000;
const SILENCE: u64 = 2_500_000;
const TIMEOUT: u64 = 5_000_000;

/// Peers that there may be, strangers included.
const KNOWN: u32 = 4_096;

static NAMES: LazyLock<BTreeMap<PeerId, u32>> =
    LazyLock::new(|| (0..KNOWN).map(|peer| (id(peer), peer)).collect());

fn id(peer: u32) -> PeerId {
    PeerId::from_bytes(Key::of("swarm", &peer.to_le_bytes()).0)
}

/// How the books of the peers number others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Books {
    /// All alike, as the swarm does.
    Alike,
    /// Each in an order of its own.
    Apart,
}

/// Something that happens to a network, and milliseconds until the next.
pub(crate) type Step = (Deed, u16);

/// What happens; to which of those that are not of the base, by its place among them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    Join,
    Crash(u16),
    Leave(u16),
}

/// Any history of a network.
pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let deed = prop_oneof![
        3 => Just(Deed::Join),
        1 => any::<u16>().prop_map(Deed::Crash),
        1 => any::<u16>().prop_map(Deed::Leave),
    ];
    prop::collection::vec((deed, 0..3_000_u16), 1..most)
}

/// Peers by number, and what is under way.
pub(crate) struct Swarm<O: Overlay> {
    config: O::Config,
    books: Books,
    peers: Vec<Option<O>>,
    desks: Vec<Desk>,
    randoms: Vec<Random>,
    /// The side of a split that each is on.
    sides: Vec<u8>,
    links: BTreeSet<(u32, u32)>,
    /// By when, to whom, from whom, and which: a peer's outputs to different others have no order.
    queue: BTreeMap<(u64, u32, u32, u64), Input<O>>,
    events: Vec<(u32, crate::Event<O::Address>)>,
    /// All that was taken in, where somebody wants to know.
    transcript: Option<blake3::Hasher>,
    /// Outputs of one input, at most.
    most_outputs: usize,
    now: u64,
    last: u64,
    profile: Profile,
}

/// One peer's host: its handles are the swarm's numbers, masked.
#[derive(Clone, Copy, Debug)]
struct Desk {
    mask: u32,
}

impl Desk {
    /// The handle of a number, and the number of a handle.
    const fn swap(self, peer: u32) -> Peer {
        Peer(peer ^ self.mask)
    }
}

impl Host for Desk {
    fn id(&self, peer: Peer) -> PeerId {
        id(self.swap(peer.0).0)
    }

    fn peer(&self, id: &PeerId) -> Option<Peer> {
        NAMES.get(id).map(|peer| self.swap(*peer))
    }

    fn sign(&self, _: &[u8]) -> Signature {
        Signature([0; 64])
    }

    fn sign_as_network(&self, _: &[u8]) -> Option<Signature> {
        None
    }

    fn verify(&self, _: &PeerId, _: &[u8], _: &Signature) -> bool {
        false
    }

    fn verify_network(&self, _: &[u8], _: &Signature) -> bool {
        false
    }

    fn network(&self) -> &[u8; 32] {
        &[0; 32]
    }
}

const fn pair(a: u32, b: u32) -> (u32, u32) {
    if a < b { (a, b) } else { (b, a) }
}

impl<O: Overlay> Swarm<O> {
    /// `count` peers, of whom the first founds the network and the others join one by one through
    /// one who is in it, 200 ms apart; a minute later.
    pub(crate) fn grown(config: O::Config, count: u32) -> Self {
        Self::new(config, Books::Alike, None).grow(count)
    }

    /// The same, with books like these; all is written down from the beginning.
    pub(crate) fn transcribed(config: O::Config, count: u32, books: Books) -> Self {
        Self::new(config, books, Some(blake3::Hasher::new())).grow(count)
    }

    fn new(config: O::Config, books: Books, transcript: Option<blake3::Hasher>) -> Self {
        Self {
            config,
            books,
            peers: Vec::new(),
            desks: Vec::new(),
            randoms: Vec::new(),
            sides: Vec::new(),
            links: BTreeSet::new(),
            queue: BTreeMap::new(),
            events: Vec::new(),
            transcript,
            most_outputs: 0,
            now: 1_000_000,
            last: 0,
            profile: Profile::default(),
        }
    }

    fn grow(mut self, count: u32) -> Self {
        let mut random = Random::new(u64::from(count));
        for peer in 0..count {
            let contact = [random.below(peer.max(1) as usize) as u32];
            self.start(&contact[..contact.len().min(peer as usize)]);
            self.run(0.2);
        }
        self.run(60.0);
        self
    }

    /// A further peer joins.
    pub(crate) fn start(&mut self, contacts: &[u32]) -> u32 {
        let me = self.peers.len() as u32;
        let mut random = Random::new(u64::from(me) << 32 | 7);
        let mask = random.bits() as u32;
        let mask = if self.books == Books::Apart { mask } else { 0 };
        self.desks.push(Desk { mask });
        self.randoms.push(random);
        self.sides.push(0);
        let peer = O::new(&self.view(me));
        self.peers.push(Some(peer));
        let contacts = contacts.iter().map(|it| self.handle(me, *it)).collect();
        self.later(0, me, me, Input::Join(contacts));
        me
    }

    /// One that was here before joins anew.
    pub(crate) fn again(&mut self, peer: u32, contacts: &[u32]) {
        self.peers[peer as usize] = Some(O::new(&self.view(peer)));
        let contacts = contacts.iter().map(|it| self.handle(peer, *it)).collect();
        self.later(0, peer, peer, Input::Join(contacts));
    }

    fn view(&self, me: u32) -> View<'_, O> {
        View {
            config: &self.config,
            me: self.handle(me, me),
            profile: &self.profile,
            host: &self.desks[me as usize],
        }
    }

    /// What a peer calls another.
    fn handle(&self, me: u32, other: u32) -> Peer {
        self.desks[me as usize].swap(other)
    }

    pub(crate) fn crash(&mut self, peer: u32) {
        self.peers[peer as usize] = None;
        self.cut_links(SILENCE, Loss::Silent, |a, b| a == peer || b == peer);
    }

    /// The connection between two breaks, which can connect again.
    pub(crate) fn part(&mut self, one: u32, other: u32) {
        self.cut_links(0, Loss::Silent, |a, b| (a, b) == pair(one, other));
        self.run(0.0);
    }

    pub(crate) fn leave(&mut self, peer: u32) {
        self.later(0, peer, peer, Input::Leave);
        self.run(0.0);
        self.peers[peer as usize] = None;
        self.cut_links(2 * WAY, Loss::Closed, |a, b| a == peer || b == peer);
    }

    /// Lets a step happen, but for its pause; the first `base` peers stay whatever happens.
    pub(crate) fn befall(&mut self, deed: Deed, base: u32) {
        let others: Vec<_> = self.peers().map(|(peer, _)| peer).collect();
        let others = &others[base as usize..];
        let chosen = |which: u16| {
            others
                .get(usize::from(which) % others.len().max(1))
                .copied()
        };
        match deed {
            Deed::Join => {
                self.start(&[self.peers.len() as u32 % base]);
            }
            Deed::Crash(which) => chosen(which).into_iter().for_each(|it| self.crash(it)),
            Deed::Leave(which) => chosen(which).into_iter().for_each(|it| self.leave(it)),
        }
    }

    /// Now.
    pub(crate) const fn now(&self) -> Time {
        Time::from_micros(self.now)
    }

    /// Whom a message for a target passes, from a peer on, that peer among them.
    pub(crate) fn path(&self, from: u32, target: &Target<O::Address>) -> Vec<u32> {
        let mut path = vec![from];
        while let Some(next) = self.next(path[path.len() - 1], target)
            && path.len() < 64
        {
            path.push(next);
        }
        path
    }

    fn next(&self, at: u32, target: &Target<O::Address>) -> Option<u32> {
        let peer = self.peers.get(at as usize)?.as_ref()?;
        let crate::Hop::To(next) = peer.next_hop(&self.view(at), target, 0) else {
            return None;
        };
        Some(self.handle(at, next.0).0)
    }

    /// The target that a peer is.
    pub(crate) fn target(&self, peer: u32) -> Option<Target<O::Address>> {
        let machine = self.peers.get(peer as usize)?.as_ref()?;
        let address = machine.address()?.clone();
        let id = id(peer);
        Some(Target::Peer { id, address })
    }

    /// Peers of the two kinds do not reach each other any more; all do that are of one kind.
    pub(crate) fn split(&mut self, side: impl Fn(u32) -> u8) {
        self.sides = (0..self.peers.len() as u32).map(side).collect();
        let sides = self.sides.clone();
        self.cut_links(SILENCE, Loss::Silent, |a, b| {
            sides[a as usize] != sides[b as usize]
        });
    }

    fn cut_links(&mut self, after: u64, loss: Loss, is_cut: impl Fn(u32, u32) -> bool) {
        let cut = self.links.iter().copied().filter(|(a, b)| is_cut(*a, *b));
        for (a, b) in cut.collect::<Vec<_>>() {
            self.links.remove(&(a, b));
            self.down(after, a, b, loss);
            self.down(after, b, a, loss);
        }
    }

    fn down(&mut self, after: u64, at: u32, other: u32, loss: Loss) {
        self.told(after, at, other, |peer| Input::Down(peer, loss));
    }

    /// The input is about another, under the handle that the peer has for it.
    fn told(&mut self, after: u64, to: u32, other: u32, input: impl FnOnce(Peer) -> Input<O>) {
        if self.peers.get(to as usize).is_some_and(Option::is_some) {
            let other_handle = self.handle(to, other);
            self.later(after, to, other, input(other_handle));
        }
    }

    /// Lets some seconds pass.
    pub(crate) fn run(&mut self, seconds: f64) {
        let end = self.now + (seconds * 1e6) as u64;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, to, from, _), input) = entry.remove_entry();
            self.now = at;
            self.meet(to, from, input);
        }
        self.now = end;
    }

    fn later(&mut self, after: u64, to: u32, from: u32, input: Input<O>) {
        self.last += 1;
        let key = (self.now + after, to, from, self.last);
        self.queue.insert(key, input);
    }

    fn side(&self, peer: u32) -> u8 {
        self.sides.get(peer as usize).copied().unwrap_or(0)
    }

    fn meet(&mut self, me: u32, from: u32, input: Input<O>) {
        let is_stale = match &input {
            Input::Down(..) => self.links.contains(&pair(me, from)),
            Input::Up(_) => !self.links.contains(&pair(me, from)),
            Input::Received(..) => self.side(me) != self.side(from),
            _ => false,
        };
        if is_stale {
            return;
        }
        let Some(mut peer) = self.peers[me as usize].take() else {
            return;
        };
        if self.transcript.is_some() {
            self.note(me, from, &input);
        }
        let mut random = std::mem::replace(&mut self.randoms[me as usize], Random::new(0));
        let mut out = Vec::new();
        let mut cx = Cx {
            view: self.view(me),
            now: Time::from_micros(self.now),
            random: &mut random,
            out: &mut out,
        };
        peer.handle(&mut cx, input);
        self.randoms[me as usize] = random;
        self.peers[me as usize] = Some(peer);
        self.most_outputs = self.most_outputs.max(out.len());
        for output in out {
            self.carry_out(me, output);
        }
    }

    fn carry_out(&mut self, me: u32, output: Output<O>) {
        let number = |peer: Peer| self.desks[me as usize].swap(peer.0).0;
        match output {
            Output::Send(to, mut message) => {
                let to = number(to);
                message.visit(&mut |peer| peer.0 = number(*peer));
                let wait = self.dial(me, to);
                self.say(wait + WAY, me, to, message);
            }
            Output::Open(to) => {
                let to = number(to);
                self.dial(me, to);
            }
            Output::Timer(span, timer) => {
                let span = span.as_micros() as u64;
                self.later(span, me, me, Input::Timer(timer));
            }
            Output::Event(event) => self.events.push((me, event)),
            // Nothing is idle for long enough here.
            Output::Close(_) => {}
        }
    }

    /// A message, which names others by the swarm's numbers, arrives after a while.
    fn say(&mut self, after: u64, from: u32, to: u32, mut message: O::Message) {
        if let Some(desk) = self.desks.get(to as usize).copied() {
            message.visit(&mut |peer| *peer = desk.swap(peer.0));
            self.told(after, to, from, |peer| Input::Received(peer, message));
        }
    }

    /// Notes an input, in the swarm's numbers.
    fn note(&mut self, me: u32, from: u32, input: &Input<O>) {
        let what = match input {
            Input::Received(_, message) => {
                let desk = self.desks[me as usize];
                let mut message = message.clone();
                message.visit(&mut |peer| *peer = desk.swap(peer.0));
                format!("{message:?}")
            }
            Input::Timer(timer) => format!("{timer:?}"),
            Input::Down(_, loss) => format!("{loss:?}"),
            Input::Join(_) | Input::Up(_) | Input::Leave => String::new(),
        };
        let line = format!("{} {me} {from} {what}\n", self.now);
        if let Some(transcript) = &mut self.transcript {
            transcript.update(line.as_bytes());
        }
    }

    /// A hash of everything that anybody was told so far.
    pub(crate) fn digest(&self) -> Option<blake3::Hash> {
        self.transcript.as_ref().map(blake3::Hasher::finalize)
    }

    /// Somebody, who may be a stranger, says something over a connection that stands.
    pub(crate) fn hear(&mut self, to: u32, from: u32, message: O::Message) {
        if self.links.insert(pair(to, from)) {
            self.told(0, to, from, Input::Up);
            self.told(0, from, to, Input::Up);
        }
        self.say(0, from, to, message);
        self.run(0.0);
    }

    /// Those who never joined are gone.
    pub(crate) fn strangers_go(&mut self) {
        let count = self.peers.len() as u32;
        self.cut_links(0, Loss::Closed, |a, b| a.max(b) >= count);
    }

    /// The most outputs that one input had so far.
    pub(crate) const fn most_outputs(&self) -> usize {
        self.most_outputs
    }

    /// The most others that one peer may still name, beside those it is connected to.
    pub(crate) fn most_named(&self) -> usize {
        let named = |(me, peer): (u32, &O)| {
            let mut used = Vec::new();
            peer.uses(&mut used);
            let desk = self.desks[me as usize];
            let used: BTreeSet<_> = used.iter().map(|it| desk.swap(it.0).0).collect();
            let linked = |it: &&u32| self.links.contains(&pair(me, **it));
            used.iter().filter(|it| !linked(it)).count()
        };
        self.peers().map(named).max().unwrap_or(0)
    }

    /// Sees to a connection; gives how long that takes.
    fn dial(&mut self, from: u32, to: u32) -> u64 {
        if self.links.contains(&pair(from, to)) {
            return 0;
        }
        let is_there = self.peers.get(to as usize).is_some_and(Option::is_some);
        if !is_there || self.side(from) != self.side(to) {
            self.down(TIMEOUT, from, to, Loss::Unreachable);
            return TIMEOUT;
        }
        self.links.insert(pair(from, to));
        self.told(DIAL, from, to, Input::Up);
        self.told(DIAL, to, from, Input::Up);
        DIAL
    }

    /// Those that live.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (u32, &O)> {
        let peers = self.peers.iter().zip(0..);
        peers.filter_map(|(peer, handle)| Some((handle, peer.as_ref()?)))
    }

    /// How often something was told that is like this.
    pub(crate) fn heard(&self, is_it: impl Fn(&crate::Event<O::Address>) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| is_it(event)).count()
    }

    /// Hops from everyone to everyone; says whose way does not lead there.
    pub(crate) fn longest_way(&self) -> Result<usize, (u32, u32)> {
        let mut longest = 0;
        for (from, _) in self.peers() {
            for (to, _) in self.peers() {
                let target = self.target(to).ok_or((from, to))?;
                let path = self.path(from, &target);
                let is_there = path.last() == Some(&to);
                longest = longest.max(is_there.then_some(path.len() - 1).ok_or((from, to))?);
            }
        }
        Ok(longest)
    }

    /// How many peers a broadcast of this one comes to, and how often it comes twice.
    pub(crate) fn broadcast(&self, origin: u32) -> (usize, usize) {
        let (mut reached, mut twice) = (BTreeSet::from([origin]), 0);
        let Some(peer) = self.peers[origin as usize].as_ref() else {
            return (0, 0);
        };
        let mut open = vec![(origin, peer.span(Reach::All))];
        let mut copies = Vec::new();
        while let Some((at, span)) = open.pop() {
            let Some(peer) = self.peers.get(at as usize).and_then(Option::as_ref) else {
                continue;
            };
            peer.fan_out(&span, 0, &mut copies);
            for (to, span) in copies.drain(..) {
                let to = self.handle(at, to.0).0;
                match reached.insert(to) {
                    true => open.push((to, span)),
                    false => twice += 1,
                }
            }
        }
        (reached.len(), twice)
    }
}
