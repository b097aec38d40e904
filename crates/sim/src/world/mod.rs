//! A world: peers, what lies between them, and time.
//!
//! ```text
//! thread 0   |-- window --|   |-- window --|        a window is as long as the shortest delay, so
//! thread 1   |-- window --|   |-- window --|        what a peer does bears on others later only
//!                         hand over
//! ```
//!
//! Every thread has a part of the peers. Within a window it takes them one by one, each with all its
//! events, so that a peer's tables are read into the processor's cache once. A peer's events are
//! ordered by (time, sender, the sender's n-th); delays and losses are hashes of (seed, from, to, n).
//! So the number of threads changes nothing.

mod account;
mod actor;
mod calendar;
mod check;
mod chord;
mod circle;
mod event;
mod gate;
mod kademlia;
mod keys;
mod lab;
mod links;
mod load;
mod mishap;
mod pastry;
mod path;
mod play;
mod polyring;
mod prefixes;
mod records;
mod recovery;
mod search;
mod shard;
mod standing;
mod star;
mod story;
mod superpeer;
mod tally;
mod tapestry;
mod twin;
mod unstructured;
mod walk;
mod weather;

use std::{ops::Range, sync::Arc, thread};

use bytes::{Bytes, BytesMut};
use ringweave_ids::{Peer, PeerId};
use ringweave_node::{
    Frame, Placed,
    wire::{Book, Contact, Encoder},
};

pub use self::search::{Graph, SearchCost};
pub(crate) use self::story::run;
pub use self::twin::{Twin, TwinPeer};
pub(crate) use self::walk::run as walk;
use self::{
    actor::Actor,
    check::Crowd,
    event::{ANY, Deed, Event, WORLD, What},
    gate::Gate,
    keys::{Desk, Keys},
    lab::Lab,
    shard::{Shard, Sink},
    weather::Weather,
};
use crate::Canary;

/// The moment of the first join, so that no machine meets a zero clock.
const START: u64 = 1_000_000;
/// The longest window: shorter than any time-out that reaches from one peer to another.
const LONGEST_WINDOW: u64 = 100_000;
/// Bytes of a contact's card on real networks: two addresses, a number and a signature.
const CARD: usize = 96;

/// What all parts of a world share and none changes while it runs.
pub(crate) struct Common<O: Lab> {
    pub(crate) seed: u64,
    /// Length of a window in microseconds.
    pub(crate) span: u64,
    pub(crate) keys: Keys,
    pub(crate) config: Arc<O::Config>,
    pub(crate) weather: Weather,
    pub(crate) has_labels: bool,
    /// Bytes a second.
    pub(crate) upload: Option<u64>,
    pub(crate) download: Option<u64>,
    /// When upkeep is measured.
    pub(crate) measured: Range<u64>,
    /// One frame of so many is weighed; 0 for none.
    pub(crate) weighed: u64,
    pub(crate) canary: Option<Canary>,
    /// Who takes every signature for good: a canary.
    pub(crate) blind: Option<u32>,
    /// Seeds of the peers' chance, where they are given.
    pub(crate) chances: Vec<u64>,
}

impl<O: Lab> Common<O> {
    /// What is the same everywhere: the topology's own configuration, no limits, nothing measured.
    pub(crate) fn quiet(keys: Keys, weather: Weather, config: O::Config) -> Self {
        Self {
            seed: weather.seed,
            span: u64::from(weather.terrain.least()).clamp(1, LONGEST_WINDOW),
            keys,
            config: Arc::new(config),
            weather,
            has_labels: false,
            upload: None,
            download: None,
            measured: 0..0,
            weighed: 0,
            canary: None,
            blind: None,
            chances: Vec::new(),
        }
    }

    fn desk(&self, me: u32) -> Desk<'_> {
        Desk {
            keys: &self.keys,
            me,
            is_blind: self.blind == Some(me),
        }
    }

    /// The seed of a peer's chance in one of its lives.
    fn chance(&self, peer: u32, life: u16) -> u64 {
        let given = self.chances.get(peer as usize).copied();
        given.unwrap_or_else(|| mix(self.seed ^ mix(u64::from(peer) << 16 | u64::from(life))))
    }

    fn label(&self, peer: u32) -> String {
        if self.has_labels {
            self.weather.terrain.label(peer)
        } else {
            String::new()
        }
    }

    /// The bytes of a frame on the wire, if this one is weighed; else 0.
    fn weigh(&self, frame: &Frame<O>, sink: &mut Sink<'_, O>, number: u32) -> u32 {
        let is_limited = self.upload.is_some() || self.download.is_some();
        let is_sampled = self.weighed > 0
            && self.measured.contains(&sink.now)
            && u64::from(number) % self.weighed == 0;
        if !is_limited && !is_sampled {
            return 0;
        }
        let mut bytes = BytesMut::new();
        // A fresh encoder writes the flow's header each time, as the first message of a flow does.
        match Encoder::new().encode(frame, &Cards(&self.keys), &mut bytes) {
            Ok(()) => bytes.len() as u32,
            Err(_) => ringweave_node::wire::MAX_FRAME as u32,
        }
    }
}

/// The contacts of peers, as a real host writes them into frames.
struct Cards<'a>(&'a Keys);

impl Book for Cards<'_> {
    fn contact(&self, peer: Peer) -> Contact {
        Contact {
            id: self.0.id(peer.0),
            card: Bytes::from_static(&[0; CARD]),
        }
    }

    fn intern(&mut self, contact: Contact) -> Option<Peer> {
        self.0.handle(&contact.id).map(Peer)
    }
}

/// All peers, and what they live in.
pub(crate) struct World<O: Lab> {
    pub(crate) common: Common<O>,
    shards: Vec<Shard<O>>,
    /// Everything before has happened.
    pub(crate) now: u64,
    /// The world's own doings so far.
    number: u32,
}

/// Where a run is: the moment, and events so far.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(u64, u64);

impl<O: Lab> World<O> {
    pub(crate) fn new(common: Common<O>, threads: u16) -> Self {
        let (count, shards) = (common.keys.count(), usize::from(threads.max(1)));
        let part = |me| Shard::new(me, shards, count, common.span);
        Self {
            shards: (0..shards).map(part).collect(),
            common,
            now: 0,
            number: 0,
        }
    }

    /// The world does something to a peer, at a moment that is still to come.
    pub(crate) fn deed(&mut self, at: u64, to: u32, deed: Deed<O>) {
        self.number += 1;
        let what = What::Deed(Box::new(deed));
        let event = Event {
            at: at.max(self.now),
            to,
            from: WORLD,
            number: self.number,
            life: ANY,
            what,
        };
        let shard = to as usize % self.shards.len();
        self.shards[shard].push(event);
    }

    /// Lets everything happen up to the end of the window that `until` falls into.
    pub(crate) fn run(&mut self, until: u64, watch: Watch<'_>) {
        let end = until / self.common.span + 1;
        let gate = Gate::new(self.shards.len());
        let common = &self.common;
        let parts = self.shards.len() as u64;
        thread::scope(|scope| {
            let (first, rest) = self.shards.split_first_mut().expect("a world has a part");
            for shard in rest {
                let gate = &gate;
                scope.spawn(move || shard.run(common, gate, end, |_, _| {}));
            }
            first.run(common, &gate, end, |now, events| watch(now, events * parts));
        });
        self.now = end * self.common.span;
    }

    pub(crate) fn actor(&self, peer: u32) -> &Actor<O> {
        let shards = self.shards.len();
        &self.shards[peer as usize % shards].actors[peer as usize / shards]
    }

    pub(crate) fn count(&self) -> u32 {
        self.common.keys.count()
    }

    /// Everyone, with its handle, part by part.
    pub(crate) fn actors(&self) -> impl Iterator<Item = (u32, &Actor<O>)> {
        let shards = self.shards.len();
        self.shards.iter().enumerate().flat_map(move |(me, shard)| {
            let handle = move |place: usize| (place * shards + me) as u32;
            shard
                .actors
                .iter()
                .enumerate()
                .map(move |(place, actor)| (handle(place), actor))
        })
    }

    /// Peers that are up and have a place.
    pub(crate) fn placed(&self) -> u32 {
        self.actors()
            .filter(|(_, actor)| actor.address().is_some())
            .count() as u32
    }

    pub(crate) fn tallies(&self) -> impl Iterator<Item = &tally::Tally> {
        self.shards.iter().map(|shard| &shard.tally)
    }

    pub(crate) fn tallies_mut(&mut self) -> impl Iterator<Item = &mut tally::Tally> {
        self.shards.iter_mut().map(|shard| &mut shard.tally)
    }

    /// All checks, on the tables as they are now.
    pub(crate) fn check(&self) -> check::Findings {
        self.crowd().check(mix(self.common.seed ^ self.now))
    }

    /// The same, of some networks that are apart: the peer `peer` belongs to `peer % networks`.
    pub(crate) fn check_apart(&self, networks: u32) -> check::Findings {
        let mut findings = check::Findings::default();
        for network in 0..networks {
            let actors = self.actors().filter(|(peer, _)| peer % networks == network);
            let crowd = Crowd::new(&self.common, actors.collect());
            findings.add(crowd.check(mix(self.common.seed ^ self.now)));
        }
        findings
    }

    /// Everyone who is up, seen at once.
    pub(crate) fn crowd(&self) -> Crowd<'_, O> {
        Crowd::new(&self.common, self.actors().collect())
    }

    /// Hops from one peer to another, over the tables as they are now.
    pub(crate) fn hops(&self, from: u32, to: u32) -> Option<usize> {
        self.crowd().walk(from, to).ok()
    }

    /// Puts peers with ready tables into the world.
    pub(crate) fn settle(&mut self, overlays: Vec<O>) {
        let (now, end) = (self.now, self.now);
        let shards = self.shards.len();
        let mut table = Vec::new();
        let mut named = |overlay: &O| -> Box<[u32]> {
            overlay.neighbours(&mut table);
            table.drain(..).map(|it| it.peer.0).collect()
        };
        let links: Vec<_> = overlays.iter().map(&mut named).collect();
        for (peer, overlay) in overlays.into_iter().enumerate() {
            let shard = &mut self.shards[peer % shards];
            let common = &self.common;
            shard.with(peer / shards, now, end, |actor, sink| {
                actor.settle_in(common, overlay, sink)
            });
        }
        // Who is named need not name who names it.
        for (from, links) in (0..).zip(links) {
            for to in links {
                let shard = &mut self.shards[to as usize % shards];
                shard.actors[to as usize / shards].meet_first(from, now);
            }
        }
        let posted: Vec<_> = self.shards.iter_mut().flat_map(Shard::unpost).collect();
        for event in posted {
            self.shards[event.to as usize % shards].push(event);
        }
    }

    pub(crate) fn id(&self, peer: u32) -> PeerId {
        self.common.keys.id(peer)
    }

    /// A peer and where it sits now.
    pub(crate) fn whereabouts(&self, peer: u32) -> Option<Placed<O::Address>> {
        let address = self.actor(peer).address()?.clone();
        Some(Placed {
            id: self.id(peer),
            address,
            name: None,
        })
    }
}

/// 64 bits that look random and follow from `x`.
#[inline]
pub(crate) fn mix(x: u64) -> u64 {
    crate::draw::mix(x, 1)
}
