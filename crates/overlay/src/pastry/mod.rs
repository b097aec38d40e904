//! Pastry: peers by number, found digit by digit, and the numerically closest owns a key.
//!
//! ```text
//!   me 3a7…  ──row 0──> d…            routing table: a row for each digit shared, a column for each
//!            ──row 1──> 3f…           digit that may follow
//!            ──row 2──> 3ae…
//!   … 3a6e 3a6f [3a70] 3a73 3a78 …    leaf set: the nearest by number, both ways
//! ```
//!
//! Rowstron and Druschel, "Pastry: Scalable, Decentralized Object Location, and Routing for
//! Large-Scale Peer-to-Peer Systems", Middleware 2001, <https://doi.org/10.1007/3-540-45518-3_18>;
//! the upkeep of proximity after Castro, Druschel, Hu and Rowstron, "Exploiting Network Proximity in
//! Peer-to-peer Overlay Networks", MSR-TR-2002-82, 2002.
//!
//! Differs from the papers: a lost connection counts as a failure at once; leaf sets are compared
//! after every change, then ever more rarely; a newcomer that is the first of its prefix is told to
//! all that share the rest of it, so that delegated broadcasts reach everyone once; and peers that
//! were lost are looked for again, so that parts of a split network become one (ours).

mod join;
mod leaves;
mod near;
mod route;
#[cfg(test)]
mod tests;
mod upkeep;

use ringweave_ids::{Guid, Key, Peer, PeerId, Point};
use serde::{Deserialize, Serialize};

use self::{leaves::Leaves, near::Near};
use crate::{
    Contact, Hop, Input, Neighbour, Overlay, Reach, Target, View,
    digits::{Digits, Slot},
    links::Links,
    lost::Lost,
    pace::Pace,
    phase::Phase,
    requests::Requests,
};

pub(crate) use self::leaves::closeness;

type Cx<'a> = crate::Cx<'a, Pastry>;

/// The shape of a Pastry network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Bits of a digit, 1, 2 or 4. From the paper (section 2.2): b = 4.
    pub digit_bits: u8,
    /// Peers of the leaf set, half on either side, 4 to 64. From the paper (section 2.2): |L| = 2^b =
    /// 16. In networks that are built, and not joined, 0 is none, as in the bare tables of Gummadi et
    /// al., SIGCOMM 2003, section 4.
    pub leaves: u8,
    /// The longest time between two comparisons of leaf sets, in milliseconds. Our choice: 30 s, as
    /// connections already tell who is gone.
    pub compare_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            digit_bits: 4,
            leaves: 16,
            compare_ms: 30_000,
        }
    }
}

/// What peers tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Passed on to the peer numerically closest to a newcomer; each on the way tells it its rows.
    Join {
        /// Who comes.
        newcomer: Peer,
        /// The newcomer's number for it.
        number: u32,
        /// The first row that it was not told.
        row: u8,
        /// Hops made.
        hops: u8,
    },
    /// What do you know?
    Ask {
        /// The asker's number for it.
        number: u32,
        /// Of what.
        part: Part,
    },
    /// The answer, or told unasked under number 0 to who may not know.
    Tell {
        /// The number that the question came with.
        number: u32,
        /// Of what.
        part: Part,
        /// At most 128.
        peers: Vec<Peer>,
    },
    /// A peer is here now; whose table lacks it passes it on to those that share its prefix.
    Announce {
        /// Who.
        newcomer: Peer,
        /// The first row to pass it on to.
        row: u8,
    },
    /// I am leaving; these are my leaves.
    Leave {
        /// At most 128.
        leaves: Vec<Peer>,
    },
}

/// A part of what a peer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Nothing: only how long the answer takes.
    Nothing,
    /// Its leaf set.
    Leaves,
    /// This row of its table.
    Row(u8),
    /// Its neighbourhood set.
    Near,
}

impl crate::Message for Message {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        match self {
            Self::Join { newcomer, .. } | Self::Announce { newcomer, .. } => visit(newcomer),
            Self::Tell { peers, .. } | Self::Leave { leaves: peers } => {
                peers.iter_mut().for_each(visit);
            }
            Self::Ask { .. } => {}
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The joins' attempt of this number had its time.
    Join(u32),
    /// Leaf sets and rows are to be compared.
    Compare(u32),
    /// A slot that lost its peer may still be empty.
    Refill(Slot, u8),
    /// A question is late.
    Late(u32),
    /// A lost peer is to be tried again.
    Probe,
}

/// What a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Leaf,
    Entry,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Leaf => "leaf",
            Self::Entry => "entry",
        }
    }
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A way in, or to those of another part of the network.
    Join,
    /// To learn; the connection stood, so the answer measures the round trip.
    Warm,
    /// To learn; the answer's time holds the dialling, too.
    Cold,
}

/// One peer's table and the protocol that keeps it.
#[derive(Clone, Debug)]
pub struct Pastry {
    me: Contact,
    guid: Guid,
    phase: Phase,
    /// Those to join through.
    contacts: Vec<Peer>,
    attempt: u32,
    leaves: Leaves,
    digits: Digits,
    near: Near,
    links: Links<Role>,
    requests: Requests<Purpose>,
    lost: Lost,
    pace: Pace,
    /// The row compared last, once all is quiet.
    compared: u8,
    /// Whether the table may name others than those to whom connections are held.
    is_altered: bool,
}

impl Overlay for Pastry {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Address = Guid;
    type Span = u8;

    fn new(view: &View<'_, Self>) -> Self {
        let me = Contact::of(view.host, view.me);
        let room = match view.config.leaves {
            0 => 0,
            leaves => usize::from(leaves.clamp(4, 64) / 2),
        };
        Self {
            me,
            guid: me.point.into(),
            phase: Phase::Out,
            contacts: Vec::new(),
            attempt: 0,
            leaves: Leaves::new(me.point, room),
            digits: Digits::new(me.point, view.config.digit_bits, 1),
            near: Near::default(),
            links: Links::default(),
            requests: Requests::default(),
            lost: Lost::default(),
            pace: Pace::default(),
            compared: 0,
            is_altered: false,
        }
    }

    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<Self>) {
        if self.phase == Phase::Left {
            return;
        }
        match input {
            Input::Join(contacts) => self.on_enter(cx, contacts),
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

    fn next_hop(&self, _: &View<'_, Self>, target: &Target<Guid>, _: u64) -> Hop<Guid> {
        self.step(target)
    }

    fn span(&self, _: Reach) -> u8 {
        0
    }

    fn fan_out(&self, span: &u8, _: u64, copies: &mut Vec<(Peer, u8)>) {
        self.copy(*span, copies);
    }

    fn closest(&self, _: &View<'_, Self>, target: &Target<Guid>, n: usize, found: &mut Vec<Peer>) {
        self.nearest(target, n, found);
    }

    fn replicas(&self, _: &View<'_, Self>, key: &Key, n: usize, found: &mut Vec<Peer>) {
        self.next_to(Point::of_key(key), n, found);
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
                    linked: self.is_up(contact.peer),
                });
            }
        }
    }

    fn uses(&self, used: &mut Vec<Peer>) {
        used.extend(&self.contacts);
        used.extend(self.table().map(|(contact, _)| contact.peer));
        used.extend(self.near.iter());
        used.extend(self.links.iter().map(|link| link.peer));
        used.extend(self.requests.iter().map(|request| request.to));
        used.extend(self.lost.iter());
    }
}

impl Pastry {
    /// A peer with a ready table, connected to all it names. For simulations and measurements that do
    /// not begin with joins.
    ///
    /// It has no timers yet: a host that drives it from here on gives it `Input::Join` once, without
    /// contacts, which asks for them and does nothing else.
    pub fn built(
        view: &View<'_, Self>,
        leaves: impl IntoIterator<Item = Contact>,
        entries: impl IntoIterator<Item = Contact>,
    ) -> Self {
        let mut peer = Self::new(view);
        peer.phase = Phase::Placed;
        for entry in entries {
            peer.digits.learn(entry);
        }
        for leaf in leaves {
            peer.leaves.insert(leaf);
        }
        let wanted = peer.wanted();
        peer.links.build(wanted.into_iter());
        peer
    }

    /// All of the table, each as what it is first.
    fn table(&self) -> impl Iterator<Item = (Contact, Role)> {
        let leaves = self.leaves.iter().map(|it| (it, Role::Leaf));
        let entries = self.digits.iter().map(|it| (it, Role::Entry));
        leaves.chain(entries)
    }

    /// The leaves clockwise and those the other way, each nearest first.
    pub fn halves(&self) -> [impl Iterator<Item = Contact>; 2] {
        self.leaves.sides().map(|side| side.iter())
    }

    /// The slots of the routing table that hold a peer, in order, with the peer.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, Contact)> {
        let slots = self.digits.slots();
        slots.filter_map(|(slot, peers)| Some((slot, peers.first()?.contact())))
    }

    /// Whom connections are held to, and as what.
    fn wanted(&self) -> Vec<(Peer, Role)> {
        self.table().map(|(it, role)| (it.peer, role)).collect()
    }

    /// Holds connections to all of the table, and to nobody else.
    fn hold_links(&mut self, cx: &mut Cx<'_>) {
        if self.phase == Phase::Left || !std::mem::take(&mut self.is_altered) {
            return;
        }
        let wanted = self.wanted();
        self.links.follow(wanted.into_iter(), cx.out);
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: Peer, message: Message) {
        self.hear(cx, from);
        match message {
            Message::Join {
                newcomer,
                number,
                row,
                hops,
            } => self.on_join(cx, newcomer, number, row, hops),
            Message::Ask { number, part } => self.on_ask(cx, from, number, part),
            Message::Tell {
                number,
                part,
                peers,
            } => self.on_tell(cx, from, number, part, &peers),
            Message::Announce { newcomer, row } => self.on_announce(cx, from, newcomer, row),
            Message::Leave { leaves } => self.on_leaving(cx, from, &leaves),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Join(attempt) => self.on_join_timer(cx, attempt),
            Timer::Compare(round) => self.on_compare(cx, round),
            Timer::Refill(slot, tries) => self.refill(cx, slot, tries),
            Timer::Late(number) => self.on_late(number),
            Timer::Probe => self.on_probe(cx),
        }
    }
}
