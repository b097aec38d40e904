//! Tapestry: peers by number, found digit by digit; each key has one root, where its digits lead.
//!
//! ```text
//!   me 3a7…  ──row 0──> d…  d4…  d1…        each slot: the nearest peer, and two behind it
//!            ──row 1──> 3f… 3f2…
//!   key 3b…, and nobody begins with 3b:     the next digit up stands in: 3c…, 3d…, or 3f…
//! ```
//!
//! Zhao, Huang, Stribling, Rhea, Joseph and Kubiatowicz, "Tapestry: A Resilient Global-scale Overlay
//! for Service Deployment", IEEE JSAC 22(1), 2004, <https://doi.org/10.1109/JSAC.2003.818784>; joins
//! after Hildrum, Kubiatowicz, Rao and Zhao, "Distributed Object Location in a Dynamic Network", SPAA
//! 2002, <https://doi.org/10.1145/564870.564877>.
//!
//! Differs from the papers: a newcomer tells itself to all that share its prefix, and rows are compared
//! afterwards in place of acknowledgements of that multicast; near peers are found by measuring some of
//! those that are told, not level by level; whoever holds a connection to a peer is its backpointer; no
//! pointers to objects are left on the way to a root, since the router's directory keeps names; and
//! peers that were lost are looked for again, so that parts of a split network become one (ours).

mod route;
mod upkeep;

use ringweave_ids::{Guid, Key, Peer, PeerId, Point};
use serde::{Deserialize, Serialize};

use crate::{
    Contact, Hop, Input, Neighbour, Overlay, Reach, Target, View,
    digits::{Digits, Slot},
    links::Links,
    lost::Lost,
    pace::Pace,
    phase::Phase,
    requests::Requests,
};

type Cx<'a> = crate::Cx<'a, Tapestry>;

/// The shape of a Tapestry network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Bits of a digit, 1, 2 or 4. From the paper (section 3.1): 4, hexadecimal digits.
    pub digit_bits: u8,
    /// Whether the next digit up stands in for one that nobody goes on with. From the paper (section
    /// 3.1): yes. Without, a message whose next digit is missing gets nowhere, as in the bare tree of
    /// Gummadi et al., SIGCOMM 2003, section 3.1.
    pub has_surrogates: bool,
    /// Peers of a slot, 1 to 8. From the paper (section 3.2): 3, the nearest and two backups.
    pub slot: u8,
    /// The longest time between two comparisons of rows, in milliseconds. Our choice: 30 s, as
    /// connections already tell who is gone.
    pub compare_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            digit_bits: 4,
            has_surrogates: true,
            slot: 3,
            compare_ms: 30_000,
        }
    }
}

/// What peers tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Passed on to the root of a newcomer's point; each on the way tells it its rows.
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
    /// The newcomer's join came to the root.
    Root {
        /// The newcomer's number for it.
        number: u32,
    },
    /// What do you know of this row? Of none, from the number of digits on: how long does an answer take?
    Ask {
        /// The asker's number for it.
        number: u32,
        /// Which row.
        row: u8,
    },
    /// The answer, or told unasked under number 0 to who may not know.
    Tell {
        /// The number that the question came with.
        number: u32,
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
    /// I know you now, and these of your slot.
    Welcome {
        /// At most 128.
        peers: Vec<Peer>,
    },
    /// I am leaving; these may stand where I stood.
    Leave {
        /// At most 128.
        peers: Vec<Peer>,
    },
}

impl crate::Message for Message {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        match self {
            Self::Join { newcomer, .. } | Self::Announce { newcomer, .. } => visit(newcomer),
            Self::Tell { peers, .. } | Self::Welcome { peers } | Self::Leave { peers } => {
                peers.iter_mut().for_each(visit);
            }
            Self::Root { .. } | Self::Ask { .. } => {}
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The joins' attempt of this number had its time.
    Join(u32),
    /// Rows are to be compared.
    Compare(u32),
    /// A slot that lost its peer may still be empty.
    Refill(Slot, u8),
    /// A question is late.
    Late(u32),
    /// A lost peer is to be tried again.
    Probe,
}

/// What a neighbour is: the nearest of its slot. Backups are held no connection to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Primary;

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
pub struct Tapestry {
    me: Contact,
    guid: Guid,
    phase: Phase,
    /// Those to join through.
    contacts: Vec<Peer>,
    attempt: u32,
    /// Who answered as the root of this peer's point.
    root: Option<Peer>,
    digits: Digits,
    links: Links<Primary>,
    requests: Requests<Purpose>,
    lost: Lost,
    pace: Pace,
    /// The row compared last, once all is quiet.
    compared: u8,
    /// Whether the table may name others than those to whom connections are held.
    is_altered: bool,
}

impl Overlay for Tapestry {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Address = Guid;
    type Span = u8;

    fn new(view: &View<'_, Self>) -> Self {
        let me = Contact::of(view.host, view.me);
        let room = view.config.slot.clamp(1, 8);
        Self {
            me,
            guid: me.point.into(),
            phase: Phase::Out,
            contacts: Vec::new(),
            attempt: 0,
            root: None,
            digits: Digits::new(me.point, view.config.digit_bits, room),
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

    fn next_hop(&self, view: &View<'_, Self>, target: &Target<Guid>, _: u64) -> Hop<Guid> {
        self.step(view.config, target)
    }

    fn span(&self, _: Reach) -> u8 {
        0
    }

    fn fan_out(&self, span: &u8, _: u64, copies: &mut Vec<(Peer, u8)>) {
        self.copy(*span, copies);
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
        found.extend(self.slots().map(|(_, contact)| Neighbour {
            peer: contact.peer,
            role: "primary",
            address: contact.point.into(),
            linked: self.is_up(contact.peer),
        }));
    }

    fn uses(&self, used: &mut Vec<Peer>) {
        used.extend(&self.contacts);
        used.extend(self.root);
        used.extend(self.digits.iter().map(|contact| contact.peer));
        used.extend(self.links.iter().map(|link| link.peer));
        used.extend(self.requests.iter().map(|request| request.to));
        used.extend(self.lost.iter());
    }
}

impl Tapestry {
    /// A peer with a ready mesh, connected to the first of each slot. For simulations and measurements
    /// that do not begin with joins.
    ///
    /// It has no timers yet: a host that drives it from here on gives it `Input::Join` once, without
    /// contacts, which asks for them and does nothing else.
    pub fn built(view: &View<'_, Self>, entries: impl IntoIterator<Item = Contact>) -> Self {
        let mut peer = Self::new(view);
        peer.phase = Phase::Placed;
        for entry in entries {
            peer.digits.learn(entry);
        }
        let wanted = peer.wanted();
        peer.links.build(wanted.into_iter());
        peer
    }

    /// The slots of the mesh that hold a peer, in order, with the nearest.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, Contact)> {
        let slots = self.digits.slots();
        slots.filter_map(|(slot, peers)| Some((slot, peers.first()?.contact())))
    }

    /// The next peer towards the root of a point; nobody at the root.
    pub fn surrogate(&self, point: Point) -> Option<Contact> {
        self.toward(point, None)
    }

    /// Whom connections are held to.
    fn wanted(&self) -> Vec<(Peer, Primary)> {
        self.slots().map(|(_, it)| (it.peer, Primary)).collect()
    }

    /// Holds connections to the first of each slot, and to nobody else.
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
            Message::Root { number } => self.on_root(cx, from, number),
            Message::Ask { number, row } => self.on_ask(cx, from, number, row),
            Message::Tell { number, peers } => self.on_tell(cx, from, number, &peers),
            Message::Announce { newcomer, row } => self.on_announce(cx, from, newcomer, row),
            Message::Welcome { peers } => self.on_welcome(cx, from, &peers),
            Message::Leave { peers } => self.on_leaving(cx, from, &peers),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Join(attempt) => self.on_join_timer(cx, attempt),
            Timer::Compare(round) => self.on_compare(cx, round),
            Timer::Refill(slot, tries) => self.refill(cx, slot, tries),
            Timer::Late(number) => self.on_late(cx, number),
            Timer::Probe => self.on_probe(cx),
        }
    }
}
