//! Unstructured: random neighbours, as Gnutella and its heirs have them. Nobody has an address that
//! leads to it: it is searched for, and a message to everyone follows the tree that the last one left.
//!
//! ```text
//!   o───o   o          active view: 5 links, symmetric; broadcasts go over those of the tree (───)
//!   │╲ ╱ ╲ ╱┊          and are announced over the others (┄┄)
//!   o─o───o─o ┄┄ o     passive view: 30 peers heard of, none linked, from which lost links are replaced
//! ```
//!
//! Membership: HyParView (Leitao, Pereira and Rodrigues, DSN 2007, <https://doi.org/10.1109/DSN.2007.56>).
//! Broadcast: Plumtree (the same, "Epidemic Broadcast Trees", SRDS 2007,
//! <https://doi.org/10.1109/SRDS.2007.27>); its IHAVE and GRAFT are the router's offers and asks. Search:
//! k random walks or a flood (Lv, Cao, Cohen, Li and Shenker, "Search and Replication in Unstructured
//! Peer-to-Peer Networks", ICS 2002, <https://doi.org/10.1145/514191.514206>).
//!
//! Differs from the papers: a link counts once both ends have said so; who knows the wanted peer from its
//! own views passes the search straight to it; and peers that were lost are looked for again, so that
//! parts of a split network become one (ours).

mod membership;
mod search;

use ringweave_ids::{Guid, Key, Peer, PeerId, Point};
use serde::{Deserialize, Serialize};

use crate::{
    Contact, Hop, Input, Neighbour, Overlay, Reach, Target, View, Wish, links::Links, lost::Lost,
    phase::Phase, requests::Requests, views::PartialView,
};

type Cx<'a> = crate::Cx<'a, Unstructured>;

/// The shape of an unstructured network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Peers linked to, 2 to 255. From the paper (HyParView, section 5.1): log10 N + 1, 5 for 10,000.
    pub active: u8,
    /// Peers known beside, 1 to 64. From the paper (HyParView, section 5.1): 30.
    pub passive: u8,
    /// Steps of the walk that a newcomer is announced by, and of a shuffle. From the paper (HyParView,
    /// section 5.1): 6.
    pub active_walk: u8,
    /// Steps left when a newcomer is put into the passive view. From the paper (HyParView, section
    /// 5.1): 3.
    pub passive_walk: u8,
    /// Linked peers told in a shuffle. From the paper (HyParView, section 5.1): 3.
    pub shuffle_active: u8,
    /// Peers of the passive view told in a shuffle. From the paper (HyParView, section 5.1): 4.
    pub shuffle_passive: u8,
    /// The time between two shuffles, in milliseconds. Our choice: 30 s, as the paper counts in rounds;
    /// a passive view is through within four minutes.
    pub shuffle_ms: u32,
    /// How a peer is searched for. From the paper (Lv et al., section 4.3): walks.
    pub search: Search,
    /// Walkers of a search, 1 to 64. From the paper (Lv et al., section 4.3): 16 to 64. Our choice: 32,
    /// with which 10,000 peers are searched well within the deadline of a message.
    pub walkers: u8,
    /// Steps after which a walker asks its origin whether to go on. From the paper (Lv et al., section
    /// 4.3): 4.
    pub check_every: u8,
    /// Steps that a flood goes. From Gnutella (protocol 0.4): 7.
    pub ttl: u8,
    /// How long a search may take, in milliseconds. Our choice: 4.5 s, half a second less than the
    /// router's deadline, so that what was found late is still of use.
    pub search_ms: u32,
}

/// How a peer is searched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// By random walks that check back with their origin.
    #[default]
    Walk,
    /// By asking all neighbours of all neighbours.
    Flood,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            active: 5,
            passive: 30,
            active_walk: 6,
            passive_walk: 3,
            shuffle_active: 3,
            shuffle_passive: 4,
            shuffle_ms: 30_000,
            search: Search::Walk,
            walkers: 32,
            check_every: 4,
            ttl: 7,
            search_ms: 4_500,
        }
    }
}

/// What peers tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// I am new: be my neighbour, and tell others of me.
    Join,
    /// Somebody is new: whoever the walk ends at asks it to be a neighbour.
    ForwardJoin {
        /// Who.
        newcomer: Peer,
        /// Steps left.
        steps: u8,
    },
    /// Be my neighbour.
    Neighbour(Priority),
    /// You are my neighbour now.
    Accept,
    /// I have no room.
    Refuse,
    /// You are my neighbour no more.
    Disconnect(Parting),
    /// Peers that I know, for as many that you know.
    Shuffle {
        /// Who tells.
        origin: Peer,
        /// Steps left to whom it is for.
        steps: u8,
        /// Linked ones and others, at most 64.
        peers: Vec<Peer>,
    },
    /// The answer, straight to the origin.
    Shuffled {
        /// At most 64.
        peers: Vec<Peer>,
    },
    /// You brought a broadcast that another had brought before: announce them from now on.
    Prune,
    /// Who is this? Passed on until it is found.
    Query {
        /// Whom.
        wanted: PeerId,
        /// Who searches.
        origin: Peer,
        /// The origin's number for it.
        number: u32,
        /// How it goes on.
        way: Way,
    },
    /// A walker asks its origin: do you still search?
    Check {
        /// The search.
        number: u32,
    },
    /// I still search.
    Go {
        /// The search.
        number: u32,
    },
    /// I am the one.
    Hit {
        /// The search.
        number: u32,
    },
}

/// How badly a neighbour is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Priority {
    /// Whoever asks has no other, or must be let in: another has to go if there is no room.
    High,
    /// Only if there is room.
    Low,
}

/// Why a neighbour is one no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parting {
    /// Another took its place.
    Replaced,
    /// Whoever says so leaves the network.
    Leaving,
}

/// How a query goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// To one random neighbour, so many steps so far.
    Walk(u16),
    /// To all neighbours, so many steps more.
    Flood(u8),
    /// No further: to whom somebody took for the wanted one.
    End,
}

impl crate::Message for Message {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        match self {
            Self::ForwardJoin { newcomer, .. } => visit(newcomer),
            Self::Shuffle { origin, peers, .. } => {
                std::iter::once(origin).chain(peers).for_each(visit);
            }
            Self::Shuffled { peers } => peers.iter_mut().for_each(visit),
            Self::Query { origin, .. } => visit(origin),
            Self::Join
            | Self::Neighbour(_)
            | Self::Accept
            | Self::Refuse
            | Self::Disconnect(_)
            | Self::Prune
            | Self::Check { .. }
            | Self::Go { .. }
            | Self::Hit { .. } => {}
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The joins' attempt of this number had its time.
    Join(u32),
    /// The next shuffle is due.
    Shuffle,
    /// Vacancies are looked at, if this is the latest such timer.
    Fill(u32),
    /// A search had its time.
    Late(u32),
    /// Half of a search's time is over.
    Again(u32),
    /// A lost peer is to be tried again.
    Probe,
}

/// How a copy of a broadcast goes to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Push {
    /// At once.
    Eager,
    /// When it is asked for.
    Lazy,
}

/// What searches cost and came to, as seen by one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// Searches begun here.
    pub begun: u32,
    /// Those of them that found their peer.
    pub found: u32,
    /// Messages sent here for searches, anybody's.
    pub sent: u32,
    /// Walkers that ended here for want of room.
    pub dropped: u32,
}

/// One peer's views and the protocol that keeps them.
#[derive(Clone, Debug)]
pub struct Unstructured {
    guid: Guid,
    phase: Phase,
    /// Those to join through, first and whenever nobody else is left.
    contacts: Vec<Peer>,
    attempt: u32,
    active: PartialView<Contact>,
    passive: PartialView<Peer>,
    /// Neighbours to which broadcasts are announced only.
    lazy: Vec<Peer>,
    links: Links<()>,
    /// Peers that were asked to be neighbours.
    asked: Vec<membership::Asked>,
    pace: membership::Pace,
    lost: Lost,
    /// Searches of this peer.
    requests: Requests<PeerId>,
    searches: search::Searches,
}

impl Overlay for Unstructured {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Address = Guid;
    type Span = Push;

    fn new(view: &View<'_, Self>) -> Self {
        Self {
            guid: Contact::of(view.host, view.me).point.into(),
            phase: Phase::Out,
            contacts: Vec::new(),
            attempt: 0,
            active: PartialView::new(usize::from(view.config.active.max(2))),
            passive: PartialView::new(usize::from(view.config.passive.clamp(1, 64))),
            lazy: Vec::new(),
            links: Links::default(),
            asked: Vec::new(),
            pace: membership::Pace::default(),
            lost: Lost::default(),
            requests: Requests::default(),
            searches: search::Searches::default(),
        }
    }

    fn is_structured(&self) -> bool {
        false
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

    fn wish(&mut self, cx: &mut Cx<'_>, wish: Wish) {
        match wish {
            Wish::Seek(id) => self.seek(cx, id),
            Wish::Prune(peer) => {
                if self.set_push(peer, Push::Lazy) {
                    cx.send(peer, Message::Prune);
                }
            }
            Wish::Graft(peer) => {
                self.set_push(peer, Push::Eager);
            }
        }
    }

    fn address(&self) -> Option<&Guid> {
        (self.phase == Phase::Placed).then_some(&self.guid)
    }

    fn next_hop(&self, view: &View<'_, Self>, target: &Target<Guid>, _: u64) -> Hop<Guid> {
        match target {
            Target::Peer { id, .. } => {
                let peer = view.host.peer(id);
                match peer.filter(|peer| self.links.is_up(*peer)) {
                    _ if peer == Some(view.me) => Hop::Arrived,
                    Some(peer) => Hop::To(peer),
                    None => Hop::Cut,
                }
            }
            Target::Holder(address) if *address == self.guid => Hop::Arrived,
            Target::Holder(address) => {
                let is_it = |peer: &Peer| Guid::from(Point::of_peer(&view.id(*peer))) == *address;
                self.linked().find(is_it).map_or(Hop::Nobody, Hop::To)
            }
            Target::Key { .. } | Target::Prefix(_) | Target::All => Hop::Nobody,
        }
    }

    fn span(&self, _: Reach) -> Push {
        Push::Eager
    }

    fn fan_out(&self, _: &Push, _: u64, copies: &mut Vec<(Peer, Push)>) {
        for contact in self.active.iter() {
            if self.links.is_up(contact.peer) {
                copies.push((contact.peer, self.push(contact.peer)));
            }
        }
    }

    fn announces(&self, span: &Push) -> bool {
        *span == Push::Lazy
    }

    fn closest(
        &self,
        view: &View<'_, Self>,
        target: &Target<Guid>,
        n: usize,
        found: &mut Vec<Peer>,
    ) {
        let before = found.len();
        if let Hop::To(peer) = self.next_hop(view, target, 0) {
            found.push(peer);
        }
        let first = found.get(before).copied();
        let others = self.active.iter().map(|it| it.peer);
        let others = others.filter(|peer| Some(*peer) != first && self.links.is_up(*peer));
        found.extend(others);
        found.truncate(before + n);
    }

    fn replicas(&self, _: &View<'_, Self>, _: &Key, _: usize, _: &mut Vec<Peer>) {}

    fn locate(&self, view: &View<'_, Self>, peer: &PeerId) -> Option<Guid> {
        let linked = view.host.peer(peer).filter(|it| self.links.is_up(*it));
        linked.map(|_| Point::of_peer(peer).into())
    }

    fn neighbours(&self, found: &mut Vec<Neighbour<Guid>>) {
        found.extend(self.active.iter().map(|contact| Neighbour {
            peer: contact.peer,
            role: "active",
            address: contact.point.into(),
            linked: self.links.is_up(contact.peer),
        }));
    }

    fn uses(&self, used: &mut Vec<Peer>) {
        used.extend(&self.contacts);
        used.extend(self.active.iter().map(|contact| contact.peer));
        used.extend(self.passive.iter());
        used.extend(self.links.iter().map(|link| link.peer));
        used.extend(self.asked.iter().map(|it| it.peer));
        used.extend(self.lost.iter());
        self.searches.uses(used);
    }
}

impl Unstructured {
    /// A peer with ready views, connected to all of its active view. For simulations and measurements
    /// that do not begin with joins.
    ///
    /// It has no timers yet: a host that drives it from here on gives it `Input::Join` once, without
    /// contacts, which asks for them and does nothing else.
    pub fn built(
        view: &View<'_, Self>,
        active: impl IntoIterator<Item = Contact>,
        passive: impl IntoIterator<Item = Peer>,
    ) -> Self {
        let mut peer = Self::new(view);
        peer.phase = Phase::Placed;
        // Nobody is replaced, so nothing is drawn.
        let mut random = ringweave_ids::Random::new(0);
        for contact in active {
            if !peer.active.is_full() && contact.peer != view.me {
                peer.active.insert(contact, &mut random);
                peer.links.set_up(contact.peer, true);
                peer.links.hold(contact.peer);
            }
        }
        for known in passive {
            if !peer.passive.is_full() && known != view.me && !peer.active.has(known) {
                peer.passive.insert(known, &mut random);
            }
        }
        peer
    }

    /// The peers of the active view, and those of the passive one.
    pub fn views(&self) -> (impl Iterator<Item = Peer>, impl Iterator<Item = Peer>) {
        (self.active.iter().map(|it| it.peer), self.passive.iter())
    }

    /// How many peers each of them takes.
    pub fn rooms(&self) -> (usize, usize) {
        (self.active.room(), self.passive.room())
    }

    /// What searches cost here and came to.
    pub fn searched(&self) -> Searched {
        self.searches.count
    }

    /// How copies go to a neighbour.
    pub fn push(&self, peer: Peer) -> Push {
        match self.lazy.contains(&peer) {
            true => Push::Lazy,
            false => Push::Eager,
        }
    }

    /// Says how copies go to a neighbour; whether that is news.
    fn set_push(&mut self, peer: Peer, push: Push) -> bool {
        if !self.active.has(peer) || self.push(peer) == push {
            return false;
        }
        match push {
            Push::Lazy => self.lazy.push(peer),
            Push::Eager => self.lazy.retain(|it| *it != peer),
        }
        true
    }

    /// All peers that a connection stands to.
    fn linked(&self) -> impl Iterator<Item = Peer> {
        let up = self.links.iter().filter(|link| link.is_up);
        up.map(|link| link.peer)
    }

    /// Holds connections to all of the active view, and to nobody else.
    fn hold_links(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Left {
            return;
        }
        let active = self.active.iter().map(|it| (it.peer, ()));
        self.links.follow(active, cx.out);
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: Peer, message: Message) {
        self.hear(cx, from);
        match message {
            Message::Join => self.on_newcomer(cx, from),
            Message::ForwardJoin { newcomer, steps } => {
                self.on_forward_join(cx, from, newcomer, steps);
            }
            Message::Neighbour(priority) => self.on_neighbour(cx, from, priority),
            Message::Accept => self.on_accept(cx, from),
            Message::Refuse => self.on_refuse(cx, from),
            Message::Disconnect(parting) => self.on_disconnect(cx, from, parting),
            Message::Shuffle {
                origin,
                steps,
                peers,
            } => self.on_shuffle(cx, from, origin, steps, peers),
            Message::Shuffled { peers } => self.on_shuffled(cx, &peers),
            Message::Prune => {
                self.set_push(from, Push::Lazy);
            }
            Message::Query {
                wanted,
                origin,
                number,
                way,
            } => self.on_query(
                cx,
                from,
                search::Query {
                    wanted,
                    origin,
                    number,
                },
                way,
            ),
            Message::Check { number } => self.on_check(cx, from, number),
            Message::Go { number } => self.on_go(cx, from, number),
            Message::Hit { number } => self.on_hit(cx, from, number),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Join(attempt) => self.on_join_timer(cx, attempt),
            Timer::Shuffle => self.on_shuffle_timer(cx),
            Timer::Fill(round) => self.on_fill_timer(cx, round),
            Timer::Late(number) => self.on_late(cx, number),
            Timer::Again(number) => self.on_again(cx, number),
            Timer::Probe => self.on_probe(cx),
        }
    }
}

#[cfg(test)]
mod tests;
