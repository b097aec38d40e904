//! Star: one hub that everybody is connected to, and stand-ins that take its place.
//!
//! ```text
//!      spoke   spoke                a spoke sends everything to the hub, the hub straight to the
//!          ╲   ╱                    spoke it is for: two hops
//!   spoke ── hub ══ stand-in 0
//!            ║    ╲    ║            stand-ins are connected to each other; when the hub is gone, the
//!         stand-in 1 ══╝            first that lives is the hub, under a higher term
//! ```
//!
//! No paper: this is the plain arrangement of a server and its clients, as the yardstick for the others;
//! terms are those of Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm",
//! USENIX ATC 2014, <https://raft.github.io>. Differs from the paper: there is no vote, as the line of
//! stand-ins says who is next; two hubs, after a split, meet, and one of them brings its spokes over.

mod roster;
#[cfg(test)]
mod tests;
mod upkeep;

use ringweave_ids::{Guid, Key, Peer, PeerId, Point};
use serde::{Deserialize, Serialize};

use self::{roster::Roster, upkeep::Search};
use crate::{
    Contact, Hop, Input, Neighbour, Overlay, Reach, Target, View, links::Links, lost::Lost,
};

type Cx<'a> = crate::Cx<'a, Star>;

/// The shape of a star.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The most spokes of a hub. Our choice: 4,096, whose QUIC connections, at 50 to 100 KB each, take
    /// some 400 MB of the hub, and whose signs of life some thousand packets a second.
    pub spokes: u32,
    /// Stand-ins, at most 16. Our choice: 8, with which even the failure of a third of all peers at
    /// once leaves none but once in 50,000 times, and whose 28 connections are nothing.
    pub stand_ins: u8,
    /// How long a spoke has to wait between two checks that its hub still has it, in milliseconds. Our
    /// choice: 30 s; connections tell sooner what is lost, and this finds what they do not tell.
    pub check_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            spokes: 4_096,
            stand_ins: 8,
            check_ms: 30_000,
        }
    }
}

/// What peers tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// I would be your spoke, or am.
    Join {
        /// Others cannot dial me.
        is_private: bool,
        /// The term of your line that I know; 0 for none.
        term: u32,
        /// Its version.
        version: u32,
    },
    /// You are my spoke, and this is the line.
    Lead {
        /// How many hubs there were, as far as is known: the larger is the later.
        term: u32,
        /// The line's, in this term.
        version: u32,
        /// Who is hub when I am gone: first the first. At most 16.
        stand_ins: Vec<Peer>,
        /// Some other spokes, at most 4, for one that loses the hub and the whole line at once.
        others: Vec<Peer>,
    },
    /// This is the hub, as far as I know: the answer to a join or a question, or from a hub that gives
    /// way to another.
    Led {
        /// Who.
        hub: Peer,
        /// Its term.
        term: u32,
    },
    /// I have all the spokes that I can have.
    Full,
    /// Who is the hub?
    Ask,
    /// I am not your spoke or hub any more.
    Leave,
}

impl crate::Message for Message {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        match self {
            Self::Lead {
                stand_ins, others, ..
            } => stand_ins.iter_mut().chain(others).for_each(visit),
            Self::Led { hub, .. } => visit(hub),
            Self::Join { .. } | Self::Full | Self::Ask | Self::Leave => {}
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// No hub was found since the search's round of this number.
    Seek(u32),
    /// The line changed: the spokes hear it.
    Tell,
    /// What connections do not tell is looked at.
    Check,
    /// A lost peer is to be tried again.
    Probe,
}

/// What a broadcast still has to cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    /// Everyone: it starts here.
    Whole,
    /// Everyone but the peer at this point: it is on its way to the hub.
    Beyond(Point),
    /// Nobody else.
    Nobody,
}

/// What a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Hub,
    StandIn,
    Spoke,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::StandIn => "stand-in",
            Self::Spoke => "spoke",
        }
    }
}

/// Where a peer is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Not started, or refused.
    #[default]
    Out,
    /// Looking for the hub for the first time.
    Joining,
    /// A spoke, if there is a hub right now.
    Spoke,
    /// The hub.
    Hub,
    /// Gone for good.
    Left,
}

/// One peer's table and the protocol that keeps it.
#[derive(Clone, Debug)]
pub struct Star {
    me: Contact,
    guid: Guid,
    phase: Phase,
    /// Some of those it joined through: where nobody in line lives, they may know more.
    contacts: Vec<Peer>,
    /// A spoke's, while the connection stands and the hub has it.
    hub: Option<Contact>,
    /// The term and the version of the line.
    term: u32,
    version: u32,
    /// The line, first the first; this peer may be in it.
    stand_ins: Vec<Contact>,
    /// The hub's.
    roster: Roster,
    /// Whether a timer runs for telling the spokes of the line.
    is_telling: bool,
    search: Search,
    links: Links<Role>,
    /// Whether stand-ins to whom there is no connection are to be dialled.
    is_dialling: bool,
    lost: Lost,
}

impl Overlay for Star {
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
            hub: None,
            term: 0,
            version: 0,
            stand_ins: Vec::new(),
            roster: Roster::default(),
            is_telling: false,
            search: Search::default(),
            links: Links::default(),
            is_dialling: false,
            lost: Lost::default(),
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
            Input::Up(peer) => self.on_up(peer),
            Input::Down(peer, loss) => self.on_down(cx, peer, loss),
            Input::Leave => self.leave(cx),
        }
        self.hold_links(cx);
    }

    fn address(&self) -> Option<&Guid> {
        matches!(self.phase, Phase::Spoke | Phase::Hub).then_some(&self.guid)
    }

    fn next_hop(&self, _: &View<'_, Self>, target: &Target<Guid>, _: u64) -> Hop<Guid> {
        let Some(point) = target.point() else {
            return match target {
                Target::All => Hop::Arrived,
                _ => Hop::Nobody,
            };
        };
        let is_key = matches!(target, Target::Key { .. });
        if point == self.me.point && !is_key {
            return Hop::Arrived;
        }
        match self.phase {
            Phase::Hub if is_key => Hop::Arrived,
            Phase::Hub => {
                let spoke = self.roster.at(point);
                spoke.map_or(Hop::Nobody, |spoke| Hop::To(spoke.peer))
            }
            _ => self.hub.map_or(Hop::Cut, |hub| Hop::To(hub.peer)),
        }
    }

    fn span(&self, _: Reach) -> Span {
        Span::Whole
    }

    fn fan_out(&self, span: &Span, _: u64, copies: &mut Vec<(Peer, Span)>) {
        let origin = match span {
            Span::Whole => self.me.point,
            Span::Beyond(origin) => *origin,
            Span::Nobody => return,
        };
        copies.extend(self.hub.map(|hub| (hub.peer, Span::Beyond(origin))));
        let spokes = self.roster.iter().filter(|it| it.point != origin);
        copies.extend(spokes.map(|it| (it.peer, Span::Nobody)));
    }

    fn closest(&self, _: &View<'_, Self>, target: &Target<Guid>, n: usize, found: &mut Vec<Peer>) {
        let Some(point) = target.point() else {
            return;
        };
        found.extend(self.hub.map(|hub| hub.peer).into_iter().take(n));
        found.extend(self.roster.nearest(point, n));
    }

    fn replicas(&self, _: &View<'_, Self>, _: &Key, n: usize, found: &mut Vec<Peer>) {
        // Who is hub next has what the hub had.
        let linked = self.stand_ins.iter().map(|it| it.peer);
        found.extend(linked.filter(|peer| self.links.is_up(*peer)).take(n));
    }

    fn locate(&self, _: &View<'_, Self>, peer: &PeerId) -> Option<Guid> {
        Some(Point::of_peer(peer).into())
    }

    fn neighbours(&self, found: &mut Vec<Neighbour<Guid>>) {
        found.extend(self.table().map(|(contact, role)| Neighbour {
            peer: contact.peer,
            role: role.name(),
            address: contact.point.into(),
            linked: self.links.is_up(contact.peer),
        }));
    }

    fn uses(&self, used: &mut Vec<Peer>) {
        used.extend(&self.contacts);
        used.extend(self.hub.iter().chain(&self.stand_ins).map(|it| it.peer));
        used.extend(self.roster.uses());
        used.extend(self.search.uses());
        used.extend(self.links.iter().map(|link| link.peer));
        used.extend(self.lost.iter());
    }
}

impl Star {
    /// The hub of a ready star, connected to all its spokes; of these the first are in line. For
    /// simulations and measurements that do not begin with joins.
    ///
    /// It has no timers yet: a host that drives it from here on gives it `Input::Join` once, without
    /// contacts, which asks for them and does nothing else.
    pub fn built_hub(view: &View<'_, Self>, spokes: impl IntoIterator<Item = Contact>) -> Self {
        let mut peer = Self::new(view);
        (peer.phase, peer.term, peer.version) = (Phase::Hub, 1, 1);
        for spoke in spokes {
            peer.roster.admit(spoke, true);
            peer.links.set_up(spoke.peer, true);
        }
        peer.stand_ins = peer.roster.line(usize::from(view.config.stand_ins));
        for stand_in in &peer.stand_ins {
            peer.links.hold(stand_in.peer);
        }
        peer
    }

    /// A spoke of a ready star, connected to its hub and, if it is in line, to the others there. As
    /// with [`built_hub`](Self::built_hub).
    pub fn built_spoke(view: &View<'_, Self>, hub: Contact, stand_ins: &[Contact]) -> Self {
        let mut peer = Self::new(view);
        (peer.phase, peer.term, peer.version) = (Phase::Spoke, 1, 1);
        (peer.hub, peer.stand_ins) = (Some(hub), stand_ins.to_vec());
        let table: Vec<_> = peer.table().map(|(it, _)| it.peer).collect();
        for neighbour in table {
            peer.links.set_up(neighbour, true);
            peer.links.hold(neighbour);
        }
        peer
    }

    /// The hub, as this peer knows it, and the hub's term; nothing while there is none.
    pub fn hub(&self) -> Option<(Contact, u32)> {
        let me = (self.phase == Phase::Hub).then_some(self.me);
        Some((me.or(self.hub)?, self.term))
    }

    /// Who is hub next, first the first.
    pub fn stand_ins(&self) -> &[Contact] {
        &self.stand_ins
    }

    /// A hub's spokes, in order of their points; a spoke has none.
    pub fn spokes(&self) -> impl Iterator<Item = Contact> {
        self.roster.iter()
    }

    /// The peers it is connected to, or should be.
    fn table(&self) -> impl Iterator<Item = (Contact, Role)> {
        let hub = self.hub.map(|it| (it, Role::Hub));
        let line = if self.is_in_line() {
            &self.stand_ins[..]
        } else {
            &[]
        };
        let me = self.me.peer;
        let line = line.iter().filter(move |it| it.peer != me);
        let line = line.map(|it| (*it, Role::StandIn));
        let spokes = self
            .roster
            .iter()
            .map(|it| match self.stand_ins.contains(&it) {
                true => (it, Role::StandIn),
                false => (it, Role::Spoke),
            });
        hub.into_iter().chain(line).chain(spokes)
    }

    /// Whether this peer would be hub, some time.
    fn is_in_line(&self) -> bool {
        self.stand_ins.contains(&self.me)
    }

    /// A spoke holds its connection to the hub, and those in line theirs to each other.
    fn hold_links(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Left {
            return;
        }
        let is_dialling = std::mem::take(&mut self.is_dialling);
        let is_in_line = self.is_in_line() || self.phase == Phase::Hub;
        let line = if is_in_line { &self.stand_ins[..] } else { &[] };
        let others = line.iter().map(|it| it.peer).filter(|it| {
            let is_there = self.links.is_up(*it) || self.links.is_held(*it);
            *it != self.me.peer && (is_dialling || is_there)
        });
        let hub = self.hub.iter().map(|it| (it.peer, Role::Hub));
        let wanted: Vec<_> = hub.chain(others.map(|it| (it, Role::StandIn))).collect();
        self.links.follow(wanted.into_iter(), cx.out);
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: Peer, message: Message) {
        self.on_up(from);
        match message {
            Message::Join {
                is_private,
                term,
                version,
            } => self.on_join(cx, from, !is_private, (term, version)),
            Message::Lead {
                term,
                version,
                stand_ins,
                others,
            } => {
                self.on_lead(cx, from, (term, version), &stand_ins);
                self.learn(cx, from, &others);
            }
            Message::Led { hub, term } => self.on_led(cx, from, hub, term),
            Message::Full => self.on_full(cx, from),
            Message::Ask => self.tell_hub(cx, from),
            Message::Leave => self.on_leave(cx, from),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Seek(round) => self.on_seek(cx, round),
            Timer::Tell => self.on_tell(cx),
            Timer::Check => self.on_check(cx),
            Timer::Probe => self.on_probe(cx),
        }
    }
}
