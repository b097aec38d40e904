//! Some peers and what lies between them, for tests: messages take 10 ms, dials 30 ms, a dial that
//! fails 5 s, and a silence is noticed after 2.5 s.

use std::collections::{BTreeMap, BTreeSet};

use ringweave_ids::{Key, Peer, PeerId, Random, Signature, Time};

use crate::{Cx, Host, Input, Loss, Output, Overlay, Profile, Reach, Target, View};

/// Microseconds.
const WAY: u64 = 10_000;
const DIAL: u64 = 30_000;
const SILENCE: u64 = 2_500_000;
const TIMEOUT: u64 = 5_000_000;

/// Peers by handle, and what is under way.
pub(crate) struct Swarm<O: Overlay> {
    config: O::Config,
    peers: Vec<Option<O>>,
    /// The side of a split that each is on.
    sides: Vec<u8>,
    links: BTreeSet<(u32, u32)>,
    queue: BTreeMap<(u64, u64), (u32, Input<O>)>,
    events: Vec<(u32, crate::Event<O::Address>)>,
    now: u64,
    last: u64,
    random: Random,
    profile: Profile,
}

struct Desk;

impl Host for Desk {
    fn id(&self, peer: Peer) -> PeerId {
        PeerId::from_bytes(Key::of("swarm", &peer.0.to_le_bytes()).0)
    }

    fn peer(&self, id: &PeerId) -> Option<Peer> {
        (0..1_000).map(Peer).find(|peer| self.id(*peer) == *id)
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
        let mut swarm = Self {
            config,
            peers: Vec::new(),
            sides: Vec::new(),
            links: BTreeSet::new(),
            queue: BTreeMap::new(),
            events: Vec::new(),
            now: 1_000_000,
            last: 0,
            random: Random::new(u64::from(count)),
            profile: Profile::default(),
        };
        for peer in 0..count {
            let contact = [swarm.random.below(peer.max(1) as usize) as u32];
            swarm.start(&contact[..contact.len().min(peer as usize)]);
            swarm.run(0.2);
        }
        swarm.run(60.0);
        swarm
    }

    /// A further peer joins.
    pub(crate) fn start(&mut self, contacts: &[u32]) -> u32 {
        let me = self.peers.len() as u32;
        let view = View {
            config: &self.config,
            me: Peer(me),
            profile: &self.profile,
            host: &Desk,
        };
        self.peers.push(Some(O::new(&view)));
        self.sides.push(0);
        let contacts = contacts.iter().map(|it| Peer(*it)).collect();
        self.later(0, me, Input::Join(contacts));
        me
    }

    pub(crate) fn crash(&mut self, peer: u32) {
        self.peers[peer as usize] = None;
        self.cut_links(SILENCE, Loss::Silent, |a, b| a == peer || b == peer);
    }

    pub(crate) fn leave(&mut self, peer: u32) {
        self.later(0, peer, Input::Leave);
        self.run(0.0);
        self.peers[peer as usize] = None;
        self.cut_links(2 * WAY, Loss::Closed, |a, b| a == peer || b == peer);
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
            self.later(after, a, Input::Down(Peer(b), loss));
            self.later(after, b, Input::Down(Peer(a), loss));
        }
    }

    /// Lets some seconds pass.
    pub(crate) fn run(&mut self, seconds: f64) {
        let end = self.now + (seconds * 1e6) as u64;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), (to, input)) = entry.remove_entry();
            self.now = at;
            self.meet(to, input);
        }
        self.now = end;
    }

    fn later(&mut self, after: u64, to: u32, input: Input<O>) {
        self.last += 1;
        self.queue
            .insert((self.now + after, self.last), (to, input));
    }

    fn meet(&mut self, me: u32, input: Input<O>) {
        let is_stale = match &input {
            Input::Down(peer, _) => self.links.contains(&pair(me, peer.0)),
            Input::Up(peer) => !self.links.contains(&pair(me, peer.0)),
            Input::Received(peer, _) => self.sides[me as usize] != self.sides[peer.0 as usize],
            _ => false,
        };
        let Some(peer) = self.peers[me as usize].as_mut().filter(|_| !is_stale) else {
            return;
        };
        let mut out = Vec::new();
        let view = View {
            config: &self.config,
            me: Peer(me),
            profile: &self.profile,
            host: &Desk,
        };
        peer.handle(
            &mut Cx {
                view,
                now: Time::from_micros(self.now),
                random: &mut self.random,
                out: &mut out,
            },
            input,
        );
        for output in out {
            match output {
                Output::Send(to, message) => {
                    let wait = self.dial(me, to.0);
                    self.later(wait + WAY, to.0, Input::Received(Peer(me), message));
                }
                Output::Open(to) => {
                    self.dial(me, to.0);
                }
                Output::Timer(span, timer) => {
                    let span = span.as_micros() as u64;
                    self.later(span, me, Input::Timer(timer));
                }
                Output::Event(event) => self.events.push((me, event)),
                // Nothing is idle for long enough here.
                Output::Close(_) => {}
            }
        }
    }

    /// Sees to a connection; gives how long that takes.
    fn dial(&mut self, from: u32, to: u32) -> u64 {
        if self.links.contains(&pair(from, to)) {
            return 0;
        }
        let is_there = self.peers[to as usize].is_some();
        if !is_there || self.sides[from as usize] != self.sides[to as usize] {
            self.later(TIMEOUT, from, Input::Down(Peer(to), Loss::Unreachable));
            return TIMEOUT;
        }
        self.links.insert(pair(from, to));
        self.later(DIAL, from, Input::Up(Peer(to)));
        self.later(DIAL, to, Input::Up(Peer(from)));
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
            for (to, peer) in self.peers() {
                let address = peer.address().cloned().ok_or((from, to))?;
                let id = Desk.id(Peer(to));
                let target = Target::Peer { id, address };
                longest = longest.max(self.way(from, to, &target).ok_or((from, to))?);
            }
        }
        Ok(longest)
    }

    fn way(&self, from: u32, to: u32, target: &Target<O::Address>) -> Option<usize> {
        let mut at = from;
        for hops in 0..64 {
            if at == to {
                return Some(hops);
            }
            let view = View {
                config: &self.config,
                me: Peer(at),
                profile: &self.profile,
                host: &Desk,
            };
            let peer = self.peers[at as usize].as_ref()?;
            let crate::Hop::To(next) = peer.next_hop(&view, target, 0) else {
                return None;
            };
            at = next.0;
        }
        None
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
            let Some(peer) = self.peers[at as usize].as_ref() else {
                continue;
            };
            peer.fan_out(&span, 0, &mut copies);
            for (to, span) in copies.drain(..) {
                match reached.insert(to.0) {
                    true => open.push((to.0, span)),
                    false => twice += 1,
                }
            }
        }
        (reached.len(), twice)
    }
}
