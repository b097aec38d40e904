//! Search: walkers or a flood look for a peer; it answers its origin itself, which is then linked to it.

use std::{collections::VecDeque, time::Duration};

use ringweave_ids::{Guid, Peer, PeerId, Point, Time};

use super::{Cx, Message, Phase, Search, Searched, Timer, Unstructured, Way};
use crate::Event;

/// Walkers that wait here for a word of their origins: those of eight searches at once.
const MAX_PARKED: usize = 256;

/// How long a walker waits: the longest dial, and the way there and back. Those whose origins have
/// found what they wanted hear nothing.
const PARKED_FOR: Duration = Duration::from_secs(6);

/// Floods remembered, so that each is passed on once.
const MAX_SEEN: usize = 256;

/// Steps after which a walker ends that nobody stopped. From the paper (section 4.3): 1,024.
const MAX_STEPS: u16 = 1_024;

/// The longest flood, whatever its sender says.
const MAX_TTL: u8 = 16;

/// What is searched for, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) wanted: PeerId,
    pub(super) origin: Peer,
    pub(super) number: u32,
}

/// Searches of others that this peer has a part in, and what all cost.
#[derive(Clone, Debug, Default)]
pub(super) struct Searches {
    parked: VecDeque<Parked>,
    /// Marks of the latest floods.
    seen: VecDeque<u64>,
    pub(super) count: Searched,
}

/// A walker that waits.
#[derive(Clone, Copy, Debug)]
struct Parked {
    query: Query,
    steps: u16,
    /// Where it came from.
    from: Peer,
    since: Time,
}

impl Searches {
    /// Appends every handle kept.
    pub(super) fn uses(&self, used: &mut Vec<Peer>) {
        let parked = self.parked.iter();
        used.extend(parked.flat_map(|it| [it.query.origin, it.from]));
    }

    /// Notes a flood; whether it is new here.
    fn is_new(&mut self, mark: u64) -> bool {
        if self.seen.contains(&mark) {
            return false;
        }
        if self.seen.len() >= MAX_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(mark);
        true
    }
}

impl Unstructured {
    /// The router wants to reach a peer.
    pub(super) fn seek(&mut self, cx: &mut Cx<'_>, id: PeerId) {
        let me = cx.me();
        let peer = cx.host().peer(&id);
        if self.phase != Phase::Placed || peer == Some(me) {
            return cx.tell(Event::Sought { id, address: None });
        }
        if peer.is_some_and(|peer| self.links.is_up(peer)) {
            let address = Some(Guid::from(Point::of_peer(&id)));
            return cx.tell(Event::Sought { id, address });
        }
        self.searches.count.begun += 1;
        let Some(number) = self.requests.open(cx.now, me, id) else {
            return cx.tell(Event::Sought { id, address: None });
        };
        let config = cx.config();
        cx.after(
            Duration::from_millis(u64::from(config.search_ms)),
            Timer::Late(number),
        );
        let query = Query {
            wanted: id,
            origin: me,
            number,
        };
        if let Some(known) = peer.filter(|peer| self.passive.has(*peer)) {
            self.ask(cx, known, query, Way::End);
        }
        match config.search {
            Search::Walk => {
                self.send_walkers(cx, query);
                let half = Duration::from_millis(u64::from(config.search_ms / 2));
                cx.after(half, Timer::Again(number));
            }
            Search::Flood => {
                self.searches.is_new(self.mark(cx, query));
                self.flood(cx, query, config.ttl, me);
            }
        }
    }

    fn send_walkers(&mut self, cx: &mut Cx<'_>, query: Query) {
        for _ in 0..cx.config().walkers.clamp(1, 64) {
            self.walk(cx, query, 0, query.origin);
        }
    }

    /// Half of a search's time is over and nobody was found: walkers may be lost, with a peer or for want
    /// of room, so as many set out again.
    pub(super) fn on_again(&mut self, cx: &mut Cx<'_>, number: u32) {
        let open = self.requests.iter().find(|it| it.number == number);
        if let Some(wanted) = open.map(|it| it.purpose) {
            let origin = cx.me();
            self.send_walkers(
                cx,
                Query {
                    wanted,
                    origin,
                    number,
                },
            );
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>, to: Peer, query: Query, way: Way) {
        let Query {
            wanted,
            origin,
            number,
        } = query;
        let query = Message::Query {
            wanted,
            origin,
            number,
            way,
        };
        self.say(cx, to, query);
    }

    /// Sends a message of a search.
    fn say(&mut self, cx: &mut Cx<'_>, to: Peer, message: Message) {
        self.searches.count.sent += 1;
        cx.send(to, message);
    }

    /// A walker takes a step: to any neighbour but where it came from, if there is another.
    fn walk(&mut self, cx: &mut Cx<'_>, query: Query, steps: u16, from: Peer) {
        let next = self.active.any_but(from, cx.random);
        let next = next.or_else(|| self.active.has(from).then_some(from));
        if let Some(next) = next {
            self.ask(cx, next, query, Way::Walk(steps + 1));
        }
    }

    fn flood(&mut self, cx: &mut Cx<'_>, query: Query, ttl: u8, from: Peer) {
        let Some(ttl) = ttl.min(MAX_TTL).checked_sub(1) else {
            return;
        };
        let others = self.active.draw(usize::MAX, cx.random, |peer| peer != from);
        for peer in others {
            self.ask(cx, peer, query, Way::Flood(ttl));
        }
    }

    /// What a flood is known by.
    fn mark(&self, cx: &Cx<'_>, query: Query) -> u64 {
        let origin = Point::of_peer(&cx.id(query.origin)).value() as u64;
        origin ^ u64::from(query.number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    pub(super) fn on_query(&mut self, cx: &mut Cx<'_>, from: Peer, query: Query, way: Way) {
        if query.origin == cx.me() || self.phase != Phase::Placed {
            return self.on_own_query(cx, from, query, way);
        }
        let wanted = cx.host().peer(&query.wanted);
        if wanted == Some(cx.me()) {
            let number = query.number;
            return self.say(cx, query.origin, Message::Hit { number });
        }
        if let Way::Flood(_) = way
            && !self.searches.is_new(self.mark(cx, query))
        {
            return;
        }
        let wanted = wanted.filter(|_| way != Way::End);
        if let Some(wanted) = wanted.filter(|it| self.links.is_up(*it)) {
            return self.ask(cx, wanted, query, Way::End);
        }
        // It may be gone: whoever was only heard of does not end the search.
        if let Some(wanted) = wanted.filter(|it| self.passive.has(*it)) {
            self.ask(cx, wanted, query, Way::End);
        }
        match way {
            Way::Walk(steps) => self.on_walker(cx, from, query, steps),
            Way::Flood(ttl) => self.flood(cx, query, ttl, from),
            Way::End => {}
        }
    }

    /// One of this peer's own walkers came by: it goes on while the search does.
    fn on_own_query(&mut self, cx: &mut Cx<'_>, from: Peer, query: Query, way: Way) {
        let is_open = self.requests.iter().any(|it| it.number == query.number);
        if let Way::Walk(steps) = way
            && query.origin == cx.me()
            && is_open
            && steps < MAX_STEPS
        {
            self.walk(cx, query, steps, from);
        }
    }

    fn on_walker(&mut self, cx: &mut Cx<'_>, from: Peer, query: Query, steps: u16) {
        if steps >= MAX_STEPS {
            return;
        }
        let every = u16::from(cx.config().check_every.max(1));
        if !steps.is_multiple_of(every) {
            return self.walk(cx, query, steps, from);
        }
        let since = cx.now;
        let parked = &mut self.searches.parked;
        parked.retain(|it| since.since(it.since) < PARKED_FOR);
        if parked.len() >= MAX_PARKED {
            self.searches.count.dropped += 1;
            return;
        }
        parked.push_back(Parked {
            query,
            steps,
            from,
            since,
        });
        let number = query.number;
        self.say(cx, query.origin, Message::Check { number });
    }

    pub(super) fn on_check(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32) {
        if self.requests.iter().any(|it| it.number == number) {
            self.say(cx, from, Message::Go { number });
        }
    }

    pub(super) fn on_go(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32) {
        let parked = &mut self.searches.parked;
        let is_it = |it: &Parked| it.query.origin == from && it.query.number == number;
        let Some(at) = parked.iter().position(is_it) else {
            return;
        };
        if let Some(walker) = parked.remove(at) {
            self.walk(cx, walker.query, walker.steps, walker.from);
        }
    }

    pub(super) fn on_hit(&mut self, cx: &mut Cx<'_>, from: Peer, number: u32) {
        let id = cx.id(from);
        let is_it = self
            .requests
            .iter()
            .any(|it| it.number == number && it.purpose == id);
        // Another walker may have been first, or the search is over.
        if is_it && self.requests.close(number).is_some() {
            self.searches.count.found += 1;
            let address = Some(Guid::from(Point::of_peer(&id)));
            cx.tell(Event::Sought { id, address });
        }
    }

    /// A search had its time.
    pub(super) fn on_late(&mut self, cx: &mut Cx<'_>, number: u32) {
        if let Some(request) = self.requests.close(number) {
            let (id, address) = (request.purpose, None);
            cx.tell(Event::Sought { id, address });
        }
    }
}
