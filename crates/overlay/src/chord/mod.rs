//! Chord: peers on a circle, each owning the keys up to its point; fingers halve the distance.
//!
//! ```text
//!            me ──> successor ──> ...          the next `successors` peers clockwise
//!        ╱  │  ╲
//!      +1/8 +1/4 +1/2 of the circle            fingers: the first peer at or after me + 2^i
//! ```
//!
//! Stoica, Morris, Karger, Kaashoek and Balakrishnan, "Chord: A Scalable Peer-to-peer Lookup Service
//! for Internet Applications", SIGCOMM 2001, <https://doi.org/10.1145/383059.383071>; with the
//! corrections of Zave, "How to Make Chord Correct", <https://arxiv.org/abs/1502.06461>: a successor
//! list from the start, whoever is adopted has answered, and a predecessor is replaced only by one
//! that is nearer or when it is gone. Broadcasts: El-Ansary, Alima, Brand and Haridi, "Efficient
//! Broadcast in Structured P2P Networks", IPTPS 2003.
//!
//! Differs from the papers: a lost connection counts as a failure at once; every change quickens the
//! next stabilisation; and peers that were lost are looked for again, so that parts of a split
//! network become one (ours).

mod fingers;
mod iterate;
mod route;
mod stabilise;
#[cfg(test)]
mod tests;

use ringweave_ids::{Guid, Key, Peer, PeerId, Point, Time};
use serde::{Deserialize, Serialize};

use self::fingers::Fingers;
use crate::{
    Contact, Hop, Input, Neighbour, Overlay, Reach, Target, View,
    links::Links,
    lookup::Lookups,
    lost::{Lost, PROBE},
    pace::Pace,
    phase::Phase,
    requests::Requests,
    successors::{Side, Successors},
};

type Cx<'a> = crate::Cx<'a, Chord>;

/// The shape of a Chord network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Successors kept, 1 to 64. From the paper (section 5.2): some 2 log2 N. Our choice: 16, with
    /// which half of any network's peers can fail at once and hardly anybody loses all.
    pub successors: u8,
    /// Where fingers point. From the paper (section 4.3): fixed.
    pub fingers: Choice,
    /// How peers look for others, to join and for their fingers; messages are always passed on. Our
    /// choice: as messages go; the paper simulates the other (section 6.1).
    pub lookups: Style,
    /// Whether messages take successors for fingers where that is shorter. Our choice: yes.
    pub has_shortcuts: bool,
    /// The longest time between two stabilisations, in milliseconds. From the paper (section 6.5):
    /// 30 s.
    pub stabilise_ms: u32,
    /// The time between two fingers' refreshes, in milliseconds. From the paper (section 6.5): 30 s.
    pub refresh_ms: u32,
}

/// Where the finger of an interval points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Choice {
    /// To the first peer of the interval.
    #[default]
    Fixed,
    /// To any peer of the interval (Gummadi et al., SIGCOMM 2003, section 3).
    Random,
}

/// How the first peer at or after a point is looked for (section 6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Style {
    /// A question is passed on, and whoever it ends at answers: half the messages.
    #[default]
    Recursive,
    /// Who asks goes to one peer after another itself, each nearer than the last: it knows who is silent.
    Iterative,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            successors: 16,
            fingers: Choice::Fixed,
            lookups: Style::Recursive,
            has_shortcuts: true,
            stabilise_ms: 30_000,
            refresh_ms: 30_000,
        }
    }
}

/// What peers tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Who is the first at or after the target? Passed on until the peer before it is found.
    Find {
        /// Of which point.
        target: Point,
        /// Whom to tell.
        origin: Peer,
        /// The origin's number for it.
        number: u32,
        /// Hops made.
        hops: u8,
    },
    /// The answer: that peer and those after it, nearest first.
    Found {
        /// The number that the question came with.
        number: u32,
        /// At most 64.
        successors: Vec<Peer>,
    },
    /// Who is next to you?
    Ask,
    /// The answer, or told unasked where somebody may not know.
    Tell {
        /// The predecessor, if it is known.
        predecessor: Option<Peer>,
        /// The successors, nearest first, at most 64.
        successors: Vec<Peer>,
    },
    /// You are my successor, as far as I know (the paper's *notify*, Zave's *rectify*).
    Notify,
    /// I am leaving; these are next to me.
    Leave {
        /// The predecessor, if it is known.
        predecessor: Option<Peer>,
        /// The successors, nearest first, at most 64.
        successors: Vec<Peer>,
    },
    /// Who is the first at or after the target, or nearer before it than you?
    Step {
        /// Of which point.
        target: Point,
        /// The asker's number for it.
        number: u32,
    },
    /// The answer.
    Stepped {
        /// The number that the question came with.
        number: u32,
        /// Peers nearer before the target, at most 3; none where the search is over.
        nearer: Vec<Peer>,
        /// That peer and those after it, nearest first, at most 64; none where it goes on.
        successors: Vec<Peer>,
    },
}

impl crate::Message for Message {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        match self {
            Self::Find { origin, .. } => visit(origin),
            Self::Found { successors, .. } => successors.iter_mut().for_each(visit),
            Self::Tell {
                predecessor,
                successors,
            }
            | Self::Leave {
                predecessor,
                successors,
            } => predecessor.iter_mut().chain(successors).for_each(visit),
            Self::Stepped {
                nearer, successors, ..
            } => nearer.iter_mut().chain(successors).for_each(visit),
            Self::Ask | Self::Notify | Self::Step { .. } => {}
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The joins' attempt of this number had its time.
    Join(u32),
    /// The neighbours on the circle are due.
    Stabilise(u32),
    /// The predecessor is to be told of other successors.
    Tell,
    /// The next finger is due.
    Refresh,
    /// A question is late.
    Late(u32),
    /// A lost peer is to be tried again.
    Probe,
}

/// What a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Successor,
    Predecessor,
    Finger,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Successor => "successor",
            Self::Predecessor => "predecessor",
            Self::Finger => "finger",
        }
    }
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The first successor, to join.
    Join,
    /// The finger of an interval.
    Finger(u8),
    /// The own successor, as a peer sees it that was lost.
    Merge,
    /// A step of the search of this number.
    Step(u32),
}

/// One peer's table and the protocol that keeps it.
#[derive(Clone, Debug)]
pub struct Chord {
    me: Contact,
    guid: Guid,
    phase: Phase,
    /// Those to join through.
    contacts: Vec<Peer>,
    attempt: u32,
    predecessor: Option<Contact>,
    successors: Successors,
    fingers: Fingers,
    links: Links<Role>,
    requests: Requests<Purpose>,
    searches: Lookups<Purpose>,
    lost: Lost,
    /// Those that said goodbye, the latest last.
    left: Vec<(Peer, Time)>,
    pace: Pace,
    /// The interval refreshed last.
    refreshed: u8,
    /// The predecessor is about to be told of other successors.
    is_telling: bool,
}

impl Overlay for Chord {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Address = Guid;
    type Span = Point;

    fn new(view: &View<'_, Self>) -> Self {
        let me = Contact::of(view.host, view.me);
        let room = usize::from(view.config.successors.clamp(1, 64));
        Self {
            me,
            guid: me.point.into(),
            phase: Phase::Out,
            contacts: Vec::new(),
            attempt: 0,
            predecessor: None,
            successors: Successors::new(me.point, Side::Clockwise, room),
            fingers: Fingers::new(me.point),
            links: Links::default(),
            requests: Requests::default(),
            searches: Lookups::default(),
            lost: Lost::default(),
            left: Vec::new(),
            pace: Pace::default(),
            refreshed: 0,
            is_telling: false,
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
            Input::Down(peer, _) => self.on_down(cx, peer),
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

    fn span(&self, _: Reach) -> Point {
        self.me.point
    }

    fn fan_out(&self, span: &Point, _: u64, copies: &mut Vec<(Peer, Point)>) {
        self.delegate(*span, copies);
    }

    fn closest(&self, _: &View<'_, Self>, target: &Target<Guid>, n: usize, found: &mut Vec<Peer>) {
        self.nearest(target, n, found);
    }

    fn replicas(&self, _: &View<'_, Self>, _: &Key, n: usize, found: &mut Vec<Peer>) {
        let linked = self
            .successors
            .iter()
            .filter(|it| self.links.is_up(it.peer));
        found.extend(linked.map(|it| it.peer).take(n));
    }

    fn locate(&self, _: &View<'_, Self>, peer: &PeerId) -> Option<Guid> {
        Some(Point::of_peer(peer).into())
    }

    fn neighbours(&self, found: &mut Vec<Neighbour<Guid>>) {
        for (contact, role) in self.table() {
            if found.iter().all(|it| it.peer != contact.peer) {
                found.push(Neighbour {
                    peer: contact.peer,
                    role: role.name(),
                    address: contact.point.into(),
                    linked: self.links.is_up(contact.peer),
                });
            }
        }
    }

    fn uses(&self, used: &mut Vec<Peer>) {
        used.extend(&self.contacts);
        used.extend(self.table().map(|(contact, _)| contact.peer));
        used.extend(self.links.iter().map(|link| link.peer));
        used.extend(self.requests.iter().map(|request| request.to));
        used.extend(self.searches.peers());
        used.extend(self.lost.iter());
        used.extend(self.left.iter().map(|(peer, _)| *peer));
    }
}

impl Chord {
    /// A peer with a ready table, connected to all it names. For simulations and measurements that do
    /// not begin with joins.
    ///
    /// It has no timers yet: a host that drives it from here on gives it `Input::Join` once, without
    /// contacts, which asks for them and does nothing else.
    pub fn built(
        view: &View<'_, Self>,
        predecessor: Option<Contact>,
        successors: impl IntoIterator<Item = Contact>,
        fingers: impl IntoIterator<Item = (u8, Contact)>,
    ) -> Self {
        let mut peer = Self::new(view);
        peer.phase = Phase::Placed;
        peer.predecessor = predecessor;
        for successor in successors {
            peer.successors.insert(successor);
        }
        for (interval, finger) in fingers {
            peer.fingers.set(interval, finger);
        }
        let wanted = peer.wanted();
        peer.links.build(wanted.into_iter());
        peer
    }

    /// All of the table, each as what it is first.
    fn table(&self) -> impl Iterator<Item = (Contact, Role)> {
        let successors = self.successors.iter().map(|it| (it, Role::Successor));
        let predecessor = self.predecessor.map(|it| (it, Role::Predecessor));
        let fingers = self.fingers.iter().map(|it| (it, Role::Finger));
        successors.chain(predecessor).chain(fingers)
    }

    /// The peer before this one, and those after it, nearest first.
    pub fn circle(&self) -> (Option<Contact>, impl Iterator<Item = Contact>) {
        (self.predecessor, self.successors.iter())
    }

    /// Whether this peer asked its host to hold the connection.
    pub(crate) fn holds(&self, peer: Peer) -> bool {
        self.links.is_held(peer)
    }

    /// Whom connections are held to, and as what.
    fn wanted(&self) -> Vec<(Peer, Role)> {
        self.table().map(|(it, role)| (it.peer, role)).collect()
    }

    /// Holds connections to all of the table, and to nobody else.
    fn hold_links(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Left {
            return;
        }
        let wanted = self.wanted();
        self.links.follow(wanted.into_iter(), cx.out);
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: Peer, message: Message) {
        self.hear(cx, from);
        match message {
            Message::Find {
                target,
                origin,
                number,
                hops,
            } => self.on_find(cx, target, origin, number, hops),
            Message::Found { number, successors } => self.on_found(cx, number, &successors),
            Message::Ask => self.tell_neighbours(cx, from),
            Message::Tell {
                predecessor,
                successors,
            } => self.on_tell(cx, from, predecessor, &successors),
            Message::Notify => self.on_notify(cx, from),
            Message::Leave {
                predecessor,
                successors,
            } => self.on_leaving(cx, from, predecessor, &successors),
            Message::Step { target, number } => self.on_step(cx, from, target, number),
            Message::Stepped {
                number,
                nearer,
                successors,
            } => self.on_stepped(cx, from, number, &nearer, &successors),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Join(attempt) => self.on_join_timer(cx, attempt),
            Timer::Stabilise(round) => self.on_stabilise(cx, round),
            Timer::Tell => self.on_tell_timer(cx),
            Timer::Refresh => self.on_refresh(cx),
            Timer::Late(number) => self.on_late(cx, number),
            Timer::Probe => self.on_probe(cx),
        }
    }
}
