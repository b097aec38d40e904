//! Superpeer: the able ones on a circle, everybody else a leaf on two of them.
//!
//! ```text
//!      leaf  leaf   leaf  leaf      a leaf is connected to the superpeer that owns its point on the
//!        ╲ ╱    ╲  ╱   ╲ ╱          circle and to that one's successor; so its place follows from its
//!   ── super ── super ── super ──   id, and the way to it is the way to its point
//! ```
//!
//! Yang and Garcia-Molina, "Designing a Super-Peer Network", ICDE 2003,
//! <https://doi.org/10.1109/ICDE.2003.1260781>: clients on superpeers that are chosen by capacity, and
//! redundancy of 2. The superpeers' own overlay is [`chord`], whole, with its
//! messages and timers passed through. Differs from the paper: no flooding and no index of clients, as
//! points say where who is; superpeers are made and unmade by how many leaves they have (section 5.3
//! leaves that to local rules), and the longest-standing leaf that others can dial is the ablest.

mod circle;
mod leaves;
mod route;
#[cfg(test)]
mod tests;
mod upkeep;

use ringweave_ids::{Guid, Key, Peer, PeerId, Point};
use serde::{Deserialize, Serialize};

use self::{circle::inner, leaves::Leaves, upkeep::Search};
use crate::{
    Contact, Hop, Input, Neighbour, Output, Overlay, Reach, Target, View, chord, chord::Chord,
    links::Links,
};

type Cx<'a> = crate::Cx<'a, Superpeer>;

/// The shape of a superpeer network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The superpeers' circle. From the paper (section 3): any network of its own; our choice: Chord.
    pub inner: chord::Config,
    /// Superpeers of a leaf, 1 to 4. From the paper (section 3.2): 2.
    pub redundancy: u8,
    /// Leaves that a superpeer should have, as their first. Our choice: 16, so that of a million peers
    /// one in 17 is a superpeer, whose some 60 connections are those of any peer of a structured
    /// network, and a leaf has 2. One and a half times as many make it promote one of them.
    pub leaves: u16,
    /// How long a leaf has to wait between two checks that its superpeers still have it, in
    /// milliseconds. Our choice: 30 s; connections tell sooner what is lost, and this finds what they
    /// do not tell.
    pub check_ms: u32,
    /// The time between two looks of a superpeer at its load, in milliseconds. Our choice: 5 s, in
    /// which a promotion is done.
    pub weigh_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inner: chord::Config::default(),
            redundancy: 2,
            leaves: 16,
            check_ms: 30_000,
            weigh_ms: 5_000,
        }
    }
}

impl Config {
    /// The most own leaves of a superpeer at rest, if there are able ones among them.
    pub const fn most_leaves(&self) -> usize {
        self.leaves as usize + self.leaves as usize / 2
    }
}

/// What peers tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Among superpeers: what the circle says.
    Inner(chord::Message),
    /// Where does the origin belong? Passed on to the superpeer that owns its point.
    Seek {
        /// Whose point, and whom to tell.
        origin: Peer,
        /// The origin's number for it.
        number: u32,
        /// Hops made.
        hops: u8,
    },
    /// To these you belong: the answer of the point's owner, or its word that they changed.
    Place {
        /// The number that the question came with; 0 unasked.
        number: u32,
        /// The owner first, then those after it; at most 8. A leaf attaches to the first of them and
        /// asks the others when those are gone.
        superpeers: Vec<Peer>,
        /// Some other leaves, at most 4, for a leaf that loses all superpeers at once.
        others: Vec<Peer>,
        /// Whether the leaf is attached to the sender.
        is_attached: bool,
    },
    /// I am your leaf.
    Attach {
        /// Which of my superpeers you are, from 0.
        rank: u8,
        /// Others cannot dial me.
        is_private: bool,
    },
    /// Your point is not mine any more: seek anew, through me.
    Astray,
    /// I am not your leaf any more, or no superpeer.
    Detach,
    /// Be a superpeer.
    Promote,
    /// I have so few leaves that I would rather be one: would you take us?
    Offer {
        /// How many.
        leaves: u16,
    },
    /// Yes.
    Accept,
    /// I leave, and there is no other superpeer: this one of my leaves is in my place.
    Bequeath {
        /// Who.
        heir: Peer,
    },
}

impl crate::Message for Message {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        match self {
            Self::Inner(message) => message.visit(visit),
            Self::Seek { origin: peer, .. } | Self::Bequeath { heir: peer } => visit(peer),
            Self::Place {
                superpeers, others, ..
            } => superpeers.iter_mut().chain(others).for_each(visit),
            Self::Attach { .. }
            | Self::Astray
            | Self::Detach
            | Self::Promote
            | Self::Offer { .. }
            | Self::Accept => {}
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The circle's, of the life on it that has this number.
    Inner(u32, chord::Timer),
    /// The search's round of this number had its time.
    Seek(u32),
    /// What connections do not tell is looked at.
    Check,
    /// The load is looked at, in the life on the circle that has this number.
    Weigh(u32),
}

/// What a broadcast still has to cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    /// Everyone: it starts here.
    Whole,
    /// Everyone but the leaf at this point, for which its superpeer starts it.
    Beyond(Point),
    /// A part of the circle, and the leaves there.
    Inner(Point),
    /// Nobody else.
    Nobody,
}

/// What a neighbour outside the circle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Superpeer,
}

/// Where a peer is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Not started.
    #[default]
    Out,
    /// Looking for its superpeers for the first time.
    Joining,
    /// A leaf, if there is a superpeer right now; it may be on its way into the circle.
    Leaf,
    /// On the circle.
    Super,
    /// Gone for good.
    Left,
}

/// One peer's table and the protocol that keeps it.
#[derive(Clone, Debug)]
pub struct Superpeer {
    me: Contact,
    guid: Guid,
    phase: Phase,
    /// Some of those it joined through, or lost: where no superpeer is left, they may know more.
    contacts: Vec<Peer>,
    /// A leaf's, the first first.
    superpeers: Vec<Contact>,
    /// More superpeers that a leaf may ask.
    spares: Vec<Peer>,
    search: Search,
    /// A superpeer's place on the circle, or that of a leaf on its way there.
    circle: Option<Box<Chord>>,
    /// Lives on the circle, and ends of them.
    life: u32,
    /// Whether somebody may still take this peer for a superpeer.
    was_inside: bool,
    /// Whether it is on the circle for so short that its leaves may still be with its successor.
    is_young: bool,
    /// Whether the circle changed under this input.
    is_changed: bool,
    leaves: Leaves,
    /// What the leaves were told last.
    told: Vec<Peer>,
    /// Looks at the load that found hardly any leaves, one after another; a leaf's checks on its way
    /// into the circle.
    idle: u8,
    /// Looks at the load at which contacts are still asked for other circles.
    doubts: u8,
    links: Links<Role>,
}

impl Overlay for Superpeer {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Address = Guid;
    type Span = Span;

    fn new(view: &View<'_, Self>) -> Self {
        let me = Contact::of(view.host, view.me);
        Self {
            me,
            guid: me.point.into(),
            phase: Phase::Out,
            contacts: Vec::new(),
            superpeers: Vec::new(),
            spares: Vec::new(),
            search: Search::default(),
            circle: None,
            life: 0,
            was_inside: false,
            is_young: false,
            is_changed: false,
            leaves: Leaves::default(),
            told: Vec::new(),
            idle: 0,
            doubts: 0,
            links: Links::default(),
        }
    }

    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<Self>) {
        if self.phase == Phase::Left {
            return;
        }
        match input {
            Input::Join(contacts) => self.enter(cx, contacts),
            Input::Received(from, message) => self.on_message(cx, from, message),
            Input::Timer(timer) => self.on_timer(cx, timer),
            Input::Up(peer) => self.on_up(cx, peer),
            Input::Down(peer, loss) => self.on_down(cx, peer, loss),
            Input::Leave => self.leave(cx),
        }
        if std::mem::take(&mut self.is_changed) {
            self.review_leaves(cx);
        }
        self.hold_links(cx);
    }

    fn address(&self) -> Option<&Guid> {
        matches!(self.phase, Phase::Leaf | Phase::Super).then_some(&self.guid)
    }

    fn next_hop(&self, view: &View<'_, Self>, target: &Target<Guid>, flow: u64) -> Hop<Guid> {
        self.step(view, target, flow)
    }

    fn span(&self, _: Reach) -> Span {
        Span::Whole
    }

    fn fan_out(&self, span: &Span, flow: u64, copies: &mut Vec<(Peer, Span)>) {
        self.spread(span, flow, copies);
    }

    fn closest(
        &self,
        view: &View<'_, Self>,
        target: &Target<Guid>,
        n: usize,
        found: &mut Vec<Peer>,
    ) {
        self.nearest(view, target, n, found);
    }

    fn replicas(&self, view: &View<'_, Self>, key: &Key, n: usize, found: &mut Vec<Peer>) {
        if let Some(circle) = self.inside() {
            circle.replicas(&inner(view), key, n, found);
        }
    }

    fn locate(&self, _: &View<'_, Self>, peer: &PeerId) -> Option<Guid> {
        Some(Point::of_peer(peer).into())
    }

    fn neighbours(&self, found: &mut Vec<Neighbour<Guid>>) {
        let superpeers = self.superpeers.iter().map(|it| (*it, "superpeer"));
        let leaves = self.leaves.iter().map(|it| (it.contact, "leaf"));
        found.extend(superpeers.chain(leaves).map(|(contact, role)| Neighbour {
            peer: contact.peer,
            role,
            address: contact.point.into(),
            linked: self.links.is_up(contact.peer),
        }));
        if let Some(circle) = self.inside() {
            circle.neighbours(found);
        }
    }

    fn uses(&self, used: &mut Vec<Peer>) {
        used.extend(self.contacts.iter().chain(&self.spares).chain(&self.told));
        used.extend(self.superpeers.iter().map(|it| it.peer));
        used.extend(self.leaves.iter().map(|it| it.contact.peer));
        used.extend(self.links.iter().map(|link| link.peer));
        if let Some(circle) = &self.circle {
            circle.uses(used);
        }
    }
}

impl Superpeer {
    /// A superpeer with a ready table, connected to all it names: a peer of a ready circle
    /// ([`Chord::built`]) and its leaves, each with what this one is to it, from 0. For simulations and
    /// measurements that do not begin with joins.
    ///
    /// It has no timers yet: a host that drives it from here on gives it `Input::Join` once, without
    /// contacts, which asks for them and does nothing else.
    pub fn built_super(
        view: &View<'_, Self>,
        circle: Chord,
        leaves: impl IntoIterator<Item = (Contact, u8)>,
    ) -> Self {
        let mut peer = Self::new(view);
        peer.phase = Phase::Super;
        for (contact, rank) in leaves {
            let is_open = true;
            peer.leaves.admit(leaves::Leaf {
                contact,
                rank,
                is_open,
            });
            peer.links.set_up(contact.peer, true);
        }
        let mut table = Vec::new();
        circle.neighbours(&mut table);
        for neighbour in table {
            peer.links.set_up(neighbour.peer, true);
        }
        peer.circle = Some(Box::new(circle));
        peer.told = peer.line();
        peer
    }

    /// A leaf of a ready network, and its superpeers, the first first, with those that it may ask
    /// beside them. As with [`built_super`](Self::built_super).
    pub fn built_leaf(view: &View<'_, Self>, superpeers: &[Contact]) -> Self {
        let mut peer = Self::new(view);
        peer.phase = Phase::Leaf;
        let count = usize::from(view.config.redundancy.clamp(1, 4));
        let (first, spares) = superpeers.split_at(count.min(superpeers.len()));
        peer.superpeers = first.to_vec();
        peer.spares = spares.iter().map(|it| it.peer).collect();
        for superpeer in first {
            peer.links.set_up(superpeer.peer, true);
            peer.links.hold(superpeer.peer);
        }
        peer
    }

    /// A superpeer's place on the circle; nothing for a leaf.
    pub fn circle(&self) -> Option<&Chord> {
        self.inside()
    }

    /// A leaf's superpeers, the first first; a superpeer has none.
    pub fn superpeers(&self) -> &[Contact] {
        &self.superpeers
    }

    /// A superpeer's leaves, each with what this one is to it, from 0, and with whether it could be
    /// asked to be a superpeer.
    pub fn leaves(&self) -> impl Iterator<Item = (Contact, u8, bool)> {
        let leaves = self.leaves.iter();
        leaves.map(|it| (it.contact, it.rank, it.is_open))
    }

    /// A leaf holds connections to its superpeers; these hold none to it.
    fn hold_links(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Left {
            return;
        }
        let wanted: Vec<_> = self.superpeers.iter().map(|it| it.peer).collect();
        let wanted = wanted.into_iter().map(|it| (it, Role::Superpeer));
        for peer in self.links.want(wanted, |link| !link.is_held) {
            self.links.hold(peer);
            cx.out.push(Output::Open(peer));
        }
        while let Some(peer) = self.links.surplus() {
            self.links.release(peer);
            if !self.circle.as_ref().is_some_and(|it| it.holds(peer)) {
                cx.out.push(Output::Close(peer));
            }
        }
        self.links.tidy();
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: Peer, message: Message) {
        self.links.set_up(from, true);
        match message {
            Message::Inner(message) => self.on_inner(cx, from, message),
            Message::Seek {
                origin,
                number,
                hops,
            } => self.on_seek(cx, origin, number, hops),
            Message::Place {
                number,
                superpeers,
                others,
                is_attached,
            } => {
                self.learn(cx, from, &others);
                self.on_place(cx, from, number, &superpeers, is_attached);
            }
            Message::Attach { rank, is_private } => self.on_attach(cx, from, rank, !is_private),
            Message::Astray => self.on_astray(cx, from),
            Message::Detach => self.on_detach(cx, from),
            Message::Promote => self.on_promote(cx, from),
            Message::Offer { leaves } => self.on_offer(cx, from, leaves),
            Message::Bequeath { heir } => self.on_bequeath(cx, from, heir),
            Message::Accept => self.on_accept(cx, from),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Inner(life, timer) if life == self.life => self.drive(cx, Input::Timer(timer)),
            Timer::Inner(..) => {}
            Timer::Seek(round) => self.on_late(cx, round),
            Timer::Check => self.on_check(cx),
            Timer::Weigh(life) if life == self.life => self.on_weigh(cx),
            Timer::Weigh(_) => {}
        }
    }
}
