//! Kademlia: peers as the leaves of a binary tree, near to each other by the exclusive or of points.
//!
//! ```text
//!            ╱╲            bucket 0: up to k peers of the half that I am not in
//!         0 ╱  ╲ 1         bucket 1: up to k of the quarter beside mine
//!          ╱╲   [bucket 0] ...
//!     me ──  [bucket 1]    the smallest subtree around me with k others: all of it, the siblings
//! ```
//!
//! Maymounkov and Mazieres, "Kademlia: A Peer-to-Peer Information System Based on the XOR Metric",
//! IPTPS 2002, <https://doi.org/10.1007/3-540-45748-8_5>; lookups over disjoint paths: Baumgart and
//! Mies, "S/Kademlia", ICPADS 2007, <https://doi.org/10.1109/ICPADS.2007.4447808>.
//!
//! Differs from the paper: messages are routed hop by hop over connections that are held, to all
//! siblings and to some of each other bucket, the near ones in round trip; a lost connection counts as
//! a failure at once; who speaks first is asked before it is taken in; siblings are compared after
//! every change; broadcasts are delegated by prefix; lost peers are looked for again (all ours).

mod buckets;
mod join;
mod route;
#[cfg(test)]
mod tests;
mod upkeep;

use ringweave_ids::{Guid, Key, Peer, PeerId, Point};
use serde::{Deserialize, Serialize};

use self::{buckets::Buckets, join::Phase};
use crate::{
    Contact, Event, Hop, Input, Neighbour, Overlay, Reach, Target, View,
    links::Links,
    lookup::{Lookups, Width},
    lost::{Lost, PROBE},
    pace::Pace,
    requests::Requests,
};

type Cx<'a> = crate::Cx<'a, Kademlia>;

/// The shape of a Kademlia network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Peers in a bucket, and the closest that a lookup finds (*k*), 1 to 64. From the paper (section
    /// 2.2): 20; 1 is the bare table of Gummadi et al., SIGCOMM 2003, section 3.4.
    pub bucket: u8,
    /// Questions of a lookup under way at a time (*alpha*). From the paper (section 2.3): 3.
    pub at_once: u8,
    /// Paths of a lookup that share no peer. From S/Kademlia (section 4.4): several, against liars;
    /// our choice: 1, as connections prove who speaks.
    pub paths: u8,
    /// Connections held into each bucket beyond the siblings, 1 to 16. Our choice: 2, so that one can
    /// break without a detour.
    pub links: u8,
    /// A bucket that was not looked into for so long is refreshed, in milliseconds. From the paper
    /// (section 2.3): an hour.
    pub refresh_ms: u32,
    /// The longest time between two comparisons with a sibling, in milliseconds. Our choice: 30 s, as
    /// in Chord.
    pub compare_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bucket: 20,
            at_once: 3,
            paths: 1,
            links: 2,
            refresh_ms: 3_600_000,
            compare_ms: 30_000,
        }
    }
}

impl Config {
    fn size(&self) -> usize {
        usize::from(self.bucket.clamp(1, 64))
    }

    fn width(&self) -> Width {
        Width {
            closest: self.size(),
            at_once: usize::from(self.at_once.clamp(1, 16)),
            paths: self.paths.clamp(1, 8),
        }
    }
}

/// What peers tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Are you there?
    Ping {
        /// The asker's number for it.
        number: u32,
    },
    /// I am.
    Pong {
        /// The number that the question came with.
        number: u32,
        /// Whether the asker is in this peer's table.
        asker: Standing,
    },
    /// Who is closest to the target, as far as you know (the paper's *FIND_NODE*)?
    Find {
        /// The asker's number for it.
        number: u32,
        /// To which point.
        target: Point,
        /// Who asks.
        asker: Asker,
    },
    /// The answer.
    Found {
        /// The number that the question came with.
        number: u32,
        /// The closest peers, closest first, at most 64.
        closest: Vec<Peer>,
    },
    /// I am leaving.
    Leave,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asker {
    /// One who has no place yet, and does not belong into tables.
    Guest,
    /// A peer of the network.
    Member,
}

/// Whether a peer is in another's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It is.
    Listed,
    /// It is not, or not yet.
    Unlisted,
}

impl crate::Message for Message {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        if let Self::Found { closest, .. } = self {
            closest.iter_mut().for_each(visit);
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The join's attempt of this number had its time.
    Join(u32),
    /// A sibling is to be asked for the others.
    Compare(u32),
    /// Buckets are looked through for unused ones.
    Refresh,
    /// A question is late.
    Late(u32),
    /// A lost peer is to be tried again.
    Probe,
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The lookup of this number.
    Lookup(u32),
    /// Whether a peer that spoke first answers.
    Verify,
    /// Whether the one heard of longest ago in a bucket still answers.
    Check,
    /// Whether the nearest peer has this one in its table, to join.
    Announce,
    /// Who else is near, as a sibling sees it.
    Compare,
    /// Who is near, as a peer sees it that was lost.
    Merge,
}

/// A question that is open.
#[derive(Clone, Copy, Debug)]
struct Question {
    purpose: Purpose,
    /// Round trips that it takes: more where a connection has to be made first.
    trips: u32,
}

/// What a lookup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// The own surroundings, to join or to find them again.
    Own,
    /// A bucket's peers.
    Bucket(u8),
}

/// A neighbour that messages may be routed to.
#[derive(Clone, Copy, Debug)]
struct Way {
    point: Point,
    peer: Peer,
    bucket: u8,
    is_up: bool,
}

/// One peer's table and the protocol that keeps it.
#[derive(Clone, Debug)]
pub struct Kademlia {
    me: Contact,
    guid: Guid,
    phase: Phase,
    /// Those to join through.
    contacts: Vec<Peer>,
    attempt: u32,
    buckets: Buckets,
    /// The neighbours, the farthest bucket's first.
    ways: Vec<Way>,
    /// The buckets or connections changed since the neighbours were chosen.
    is_stale: bool,
    links: Links<()>,
    requests: Requests<Question>,
    searches: Lookups<Aim>,
    /// The buckets to be refreshed as soon as there is time, a bit for each.
    due: u128,
    lost: Lost,
    pace: Pace,
}

impl Overlay for Kademlia {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Address = Guid;
    /// The depth of the subtree around the receiver that it has to serve.
    type Span = u8;

    fn new(view: &View<'_, Self>) -> Self {
        let me = Contact::of(view.host, view.me);
        Self {
            me,
            guid: me.point.into(),
            phase: Phase::Out,
            contacts: Vec::new(),
            attempt: 0,
            buckets: Buckets::new(me.point, view.config.size()),
            ways: Vec::new(),
            is_stale: false,
            links: Links::default(),
            requests: Requests::default(),
            searches: Lookups::default(),
            due: 0,
            lost: Lost::default(),
            pace: Pace::default(),
        }
    }

    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<Self>) {
        if self.phase == Phase::Left {
            return;
        }
        match input {
            Input::Join(contacts) => self.on_join(cx, contacts),
            Input::Received(from, message) => self.on_message(cx, from, message),
            Input::Timer(timer) => self.on_timer(cx, timer),
            Input::Up(peer) => self.on_up(cx, peer),
            Input::Down(peer, loss) => self.on_down(cx, peer, loss),
            Input::Leave => self.on_leave(cx),
        }
        self.hold_links(cx);
    }

    fn address(&self) -> Option<&Guid> {
        (self.phase == Phase::Placed).then_some(&self.guid)
    }

    fn next_hop(&self, view: &View<'_, Self>, target: &Target<Guid>, _: u64) -> Hop<Guid> {
        self.step(view, target)
    }

    fn span(&self, _: Reach) -> u8 {
        0
    }

    fn fan_out(&self, span: &u8, flow: u64, copies: &mut Vec<(Peer, u8)>) {
        self.delegate(*span, flow, copies);
    }

    fn closest(&self, _: &View<'_, Self>, target: &Target<Guid>, n: usize, found: &mut Vec<Peer>) {
        if let Some(point) = target.point() {
            self.nearest(point, n, found);
        }
    }

    fn replicas(&self, _: &View<'_, Self>, key: &Key, n: usize, found: &mut Vec<Peer>) {
        self.nearest(Point::of_key(key), n, found);
    }

    fn locate(&self, _: &View<'_, Self>, peer: &PeerId) -> Option<Guid> {
        Some(Point::of_peer(peer).into())
    }

    fn neighbours(&self, found: &mut Vec<Neighbour<Guid>>) {
        let near = self.ways.iter().map(|way| Neighbour {
            peer: way.peer,
            role: match self.buckets.is_near(way.bucket) {
                true => "sibling",
                false => "contact",
            },
            address: way.point.into(),
            linked: way.is_up,
        });
        found.extend(near);
    }

    fn uses(&self, used: &mut Vec<Peer>) {
        used.extend(&self.contacts);
        used.extend(self.buckets.peers());
        used.extend(self.buckets.spares());
        used.extend(self.ways.iter().map(|way| way.peer));
        used.extend(self.links.iter().map(|link| link.peer));
        used.extend(self.requests.iter().map(|request| request.to));
        used.extend(self.searches.peers());
        used.extend(self.lost.iter());
    }
}

impl Kademlia {
    /// A peer with a ready table, connected to its siblings and to the first of each other bucket. For
    /// simulations and measurements that do not begin with joins.
    ///
    /// `peers` are in the order of their buckets, the farthest first. It has no timers yet: a host that
    /// drives it from here on gives it `Input::Join` once, without contacts, which asks for them and
    /// does nothing else.
    pub fn built(view: &View<'_, Self>, peers: &[Contact]) -> Self {
        let mut peer = Self::new(view);
        peer.phase = Phase::Placed;
        let index = |it: &Contact| peer.me.point.shared_bits(it.point) as u8;
        let placed: Vec<_> = peers.iter().map(|it| (index(it), it.peer)).collect();
        peer.buckets.fill(placed.into_iter());
        let wanted = peer.wanted(view.config);
        peer.links.build(wanted.iter().map(|(_, it)| (*it, ())));
        let is_wanted = |it: &&Contact| peer.links.is_wanted(it.peer);
        let ways = peers.iter().filter(is_wanted).map(|it| Way {
            point: it.point,
            peer: it.peer,
            bucket: index(it),
            is_up: true,
        });
        peer.ways = ways.collect();
        peer
    }

    /// All of the table, the farthest bucket first: the number of bits that each shares with this peer,
    /// and who it is.
    pub fn table(&self) -> impl Iterator<Item = (u8, Peer)> {
        let buckets = self.buckets.iter();
        buckets.flat_map(|(index, bucket)| bucket.iter().map(move |it| (index, it.peer)))
    }

    /// Whom connections are to be held to: all siblings, and of each other bucket those of the shortest
    /// round trip.
    fn wanted(&self, config: &Config) -> Vec<(u8, Peer)> {
        let room = usize::from(config.links.clamp(1, 16));
        let mut wanted = Vec::new();
        let mut beyond = self.buckets.len();
        for (index, bucket) in self.buckets.iter() {
            beyond -= bucket.len();
            if beyond < config.size() {
                wanted.extend(bucket.iter().map(|it| (index, it.peer)));
                continue;
            }
            let mut ranked: Vec<_> = bucket.iter().collect();
            ranked.sort_by_key(|it| it.cost(self.links.is_up(it.peer)));
            let (near, far) = ranked.split_at(room.min(ranked.len()));
            let is_up = |it: &&&buckets::Entry| self.links.is_up(it.peer);
            // Until one of them stands, one that does keeps the bucket from being cut off.
            let stand_in = far
                .iter()
                .find(is_up)
                .filter(|_| !near.iter().any(|it| is_up(&it)));
            let chosen = near.iter().chain(stand_in);
            wanted.extend(chosen.map(|it| (index, it.peer)));
        }
        wanted
    }

    /// Holds connections to those that are wanted, and to nobody else.
    fn hold_links(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Left || !std::mem::take(&mut self.is_stale) {
            return;
        }
        let links = &self.links;
        self.buckets.trim(|peer| links.is_up(peer));
        let wanted = self.wanted(cx.config());
        let known = std::mem::take(&mut self.ways);
        let way = |(bucket, peer): &(u8, Peer)| Way {
            point: match known.iter().find(|it| it.peer == *peer) {
                Some(way) => way.point,
                None => Contact::of(cx.host(), *peer).point,
            },
            peer: *peer,
            bucket: *bucket,
            is_up: self.links.is_up(*peer),
        };
        self.ways = wanted.iter().map(way).collect();
        let named = |ways: &[Way]| {
            ways.iter()
                .map(|it| (it.peer, it.is_up))
                .collect::<Vec<_>>()
        };
        if named(&known) != named(&self.ways) {
            cx.tell(Event::Changed);
        }
        let wanted = wanted.iter().map(|(_, peer)| (*peer, ()));
        self.links.follow(wanted, cx.out);
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: Peer, message: Message) {
        if !self.links.is_up(from) {
            self.on_up(cx, from);
        }
        match message {
            Message::Ping { number } => self.on_ping(cx, from, number),
            Message::Pong { number, asker } => self.on_pong(cx, from, number, asker),
            Message::Find {
                number,
                target,
                asker,
            } => self.on_find(cx, from, number, target, asker),
            Message::Found { number, closest } => self.on_found(cx, from, number, &closest),
            Message::Leave => self.on_leaving(cx, from),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Join(attempt) => self.on_join_timer(cx, attempt),
            Timer::Compare(round) => self.on_compare(cx, round),
            Timer::Refresh => self.on_refresh(cx),
            Timer::Late(number) => self.on_late(cx, number),
            Timer::Probe => self.on_probe(cx),
        }
    }
}
