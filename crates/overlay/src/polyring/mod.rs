//! The Polymorph Polyring (Jakob Jenkov, "Polymorph P2P Network Algorithm", 2021-2024): rings that
//! are full meshes, a child ring around any position, GUIDs that are coordinates.
//!
//! ```text
//!            [1.0] [1.1] [1.2]          a child ring around [1]
//!                 \  |  /
//!   [0] ---------- [1] ---------- [2]   the center ring
//! ```
//!
//! A position has a permanent id; its coordinate is a label on it, and GUIDs are derived. A ring is
//! known by its parent position's id, so the tree of ids only grows. Each peer keeps three rosters
//! (its own ring, the ring below its position, the ring above) as state that merges. A position may
//! have several members, and one with children should: a cluster.

mod admit;
mod cluster;
mod config;
mod grants;
mod heal;
mod join;
mod keep;
mod lonely;
mod memory;
mod message;
mod news;
#[cfg(test)]
mod nonsense;
mod outline;
mod questions;
mod record;
mod ring;
mod route;
mod settle;
mod sync;
mod table;
mod takeover;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod ways;
mod witness;
mod words;

use std::{sync::Arc, time::Duration};

use ringweave_ids::{Guid, Key, Peer, PeerId, Time};
use smallvec::SmallVec;

pub use config::{Config, Order, Policy, PolicyError, Rule, RuleError};
pub use message::{Heading, Hello, Message, Occasion, Offer, Roster, Testimony, Walk};
pub use questions::{Cover, Detour, Span};
pub use record::{
    Accusation, Census, Grant, Label, Member, Position, PositionId, Proof, Seat, Takeover,
};
pub use ring::{Ring, Version};
pub use route::{Direction, route};

use self::{
    record::Cx,
    ring::Change,
    table::{Role, Table},
};
use crate::links::Links;
use crate::{Event, Hop, Input, Neighbour, Overlay, Reach, Target, View};

/// One peer of a polyring.
#[derive(Clone, Debug)]
pub struct Polyring {
    phase: Phase,
    /// My own record, once I have a place.
    record: Option<Arc<Member>>,
    incarnation: u64,
    /// The ring I sit in.
    own: Ring,
    /// The ring below my position, of which I am a keeper.
    below: Ring,
    /// The ring of my parent position, in outline: what its takeover needs. It seldom changes, and
    /// siblings in one process may share it.
    above: Arc<Ring>,
    /// The positions above mine, from the center outward; none in the center.
    lineage: Vec<Position>,
    /// The GUID of my parent position, derived from them; the center in the center ring.
    prefix: Guid,
    /// Where I sat before, until I have a place again.
    home: Option<Guid>,
    /// My own, derived from the prefix and my position's coordinate.
    guid: Guid,
    links: Links<Role>,
    table: Table,
    /// Whom a broadcast is passed to first.
    order: Order,
    join: join::Joining,
    grants: grants::Grants,
    heal: heal::Healing,
    sync: sync::Repairs,
    counting: keep::Counting,
    staffing: cluster::Staffing,
    memory: memory::Memory,
    /// Whether I am the leader of my position: its ring below hears from me what changes in the own.
    leads: bool,
    /// What changed in the own ring, for the ring below to hear.
    tidings: Vec<outline::Tiding>,
    /// What changed since the last settling, apart from what the rosters say of themselves.
    news: settle::News,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Looking for a place.
    Joining,
    /// Has a place, and is still connecting to its neighbours.
    Settling,
    Placed,
    Left,
}

/// The one-shot timers of a polyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The search for a place, at this attempt, has not been answered.
    Join(u32),
    /// Enough round trips were measured, or enough time has passed.
    Choose(u32),
    /// Connecting to the neighbours has taken long enough.
    Ready,
    /// Connect to neighbours that did not connect by themselves.
    Dial,
    /// Say hello to a neighbour, in turn.
    Beat,
    /// Repair rosters that differed.
    Repair,
    /// The neighbours asked about a suspect have had their time.
    Suspicion(Peer),
    /// Try a peer again that only others hear.
    Redial(Peer),
    /// A suspect has not answered the question of this number.
    Witness(u64),
    /// My turn to take the parent position over.
    Election(u32),
    /// The votes of this election have had their time.
    Count(u32),
    /// A count of the branch may be published again.
    Census,
    /// The patience with a thin cluster has run out.
    Staff,
    /// Greet somebody who was lost.
    Probe,
    /// Tell the neighbours what was learned by hearsay.
    Gossip,
    /// Forget what has aged.
    Sweep,
}

/// The ring id of a roster that is not known: no position has it.
const NOWHERE: PositionId = PositionId(u64::MAX);

/// How long a newcomer waits for neighbours that exist but do not connect, once some have.
const SETTLE: Duration = Duration::from_millis(500);

/// How long it waits if none connects at all.
const SETTLE_ALONE: Duration = Duration::from_secs(3);

/// A peer is new to its ring for this long: it dials its neighbours, they do not dial it.
const NEW: Duration = Duration::from_secs(3);

/// How often aged records are looked for.
const SWEEP: Duration = Duration::from_secs(30);

impl Overlay for Polyring {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Address = Guid;
    type Span = Span;

    fn new(view: &View<'_, Self>) -> Self {
        Self {
            phase: Phase::Idle,
            record: None,
            incarnation: view.profile.incarnation,
            own: Ring::new(NOWHERE),
            below: Ring::new(NOWHERE),
            above: Arc::new(Ring::new(NOWHERE)),
            lineage: Vec::new(),
            prefix: Guid::center(),
            home: view.profile.home.clone(),
            guid: Guid::center(),
            links: Links::default(),
            table: Table::default(),
            order: view.config.order,
            join: join::Joining::default(),
            grants: grants::Grants::default(),
            heal: heal::Healing::default(),
            sync: sync::Repairs::default(),
            counting: keep::Counting::default(),
            staffing: cluster::Staffing::default(),
            memory: memory::Memory::default(),
            leads: false,
            tidings: Vec::new(),
            news: settle::News::default(),
        }
    }

    fn handle(&mut self, cx: &mut crate::Cx<'_, Self>, input: Input<Self>) {
        if self.phase == Phase::Left {
            return;
        }
        match input {
            Input::Join(contacts) => self.start(cx, contacts),
            Input::Received(from, message) => self.on_message(cx, from, message),
            Input::Timer(timer) => self.on_timer(cx, timer),
            Input::Up(peer) => self.on_up(cx, peer),
            Input::Down(peer, loss) => self.on_down(cx, peer, loss),
            Input::Leave => self.leave(cx),
        }
        self.settle(cx);
        self.sync.rest();
    }

    fn address(&self) -> Option<&Guid> {
        (self.phase == Phase::Placed).then_some(&self.guid)
    }

    fn next_hop(&self, view: &View<'_, Self>, target: &Target<Guid>, flow: u64) -> Hop<Guid> {
        if self.record.is_none() {
            Hop::Cut
        } else {
            self.next(view, target, flow)
        }
    }

    fn span(&self, reach: Reach) -> Span {
        self.reach(reach)
    }

    fn fan_out(&self, span: &Span, flow: u64, copies: &mut Vec<(Peer, Span)>) {
        self.copies(span, flow, copies);
    }

    fn closest(
        &self,
        _view: &View<'_, Self>,
        target: &Target<Guid>,
        n: usize,
        found: &mut Vec<Peer>,
    ) {
        self.nearest(target, n, found);
    }

    fn replicas(&self, _view: &View<'_, Self>, key: &Key, n: usize, found: &mut Vec<Peer>) {
        self.holders(key, n, found);
    }

    fn locate(&self, view: &View<'_, Self>, peer: &PeerId) -> Option<Guid> {
        self.place_of(view, peer)
    }

    fn neighbours(&self, found: &mut Vec<Neighbour<Guid>>) {
        self.list(found);
    }

    fn uses(&self, used: &mut Vec<Peer>) {
        // Taken apart, so that no field that comes to hold handles is left out here.
        let Self {
            record,
            own,
            below,
            above,
            links,
            table,
            join,
            grants,
            heal,
            sync,
            memory,
            lineage,
            staffing: _,
            phase: _,
            incarnation: _,
            prefix: _,
            home: _,
            guid: _,
            order: _,
            counting: _,
            leads: _,
            // Told by the end of every input.
            tidings: _,
            news: _,
        } = self;
        let see = &mut |peer: Peer| used.push(peer);
        record.iter().for_each(|record| record.handles(see));
        own.handles(see);
        below.handles(see);
        above.handles(see);
        links.iter().for_each(|link| see(link.peer));
        table.handles(see);
        join.handles(see);
        grants.handles(see);
        heal.handles(see);
        sync.handles(see);
        memory.handles(see);
        lineage.iter().for_each(|position| position.handles(see));
    }
}

impl Polyring {
    /// A peer with ready tables: it holds `record` in `own`, and is connected to all its neighbours.
    /// For simulations and measurements that do not begin with joins.
    ///
    /// It has no timers yet: a host that drives it from here on gives it `Input::Join` once, without
    /// contacts, which asks for them and does nothing else.
    pub fn built(
        view: &View<'_, Self>,
        record: Arc<Member>,
        own: Ring,
        below: Ring,
        above: Ring,
        lineage: Vec<Position>,
    ) -> Self {
        let mut peer = Self {
            phase: Phase::Placed,
            incarnation: record.incarnation,
            own,
            below,
            above: Arc::new(above),
            ..Self::new(view)
        };
        peer.follow(lineage);
        peer.record = Some(record);
        Arc::make_mut(&mut peer.above).outline(peer.own.id);
        peer.place();
        peer.derive_tables([Change::Shape; 3]);
        for neighbour in peer.neighbourhood(view.me, |_| true) {
            peer.links.set_up(neighbour, true);
            peer.links.hold(neighbour);
            peer.table.set_up(neighbour, true);
        }
        peer.settle_rings();
        peer
    }

    /// What this peer knows of its own ring, of the ring below its position, and of the ring above, to
    /// which its parent belongs: of that only the outline. Where there is no such ring, the roster is empty.
    pub fn rings(&self) -> [&Ring; 3] {
        [&self.own, &self.below, &self.above]
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: Peer, message: Message) {
        self.hear(cx, from);
        if self.phase == Phase::Joining {
            // A search comes from one without a place, or for one.
            if !matches!(message, Message::Join(_)) {
                self.join.meet(from);
            }
            if message.presumes_a_place() {
                self.tell_placeless(cx, from);
                return;
            }
        }
        match message {
            Message::Join(walk) => self.on_join(cx, *walk),
            Message::Choose { nonce, candidates } => self.on_choose(cx, nonce, candidates),
            Message::Offer(offer) => self.on_offer(cx, *offer),
            Message::Promote(offer) => self.on_promote(cx, from, *offer),
            Message::Hello(hello) => self.on_hello(cx, from, hello),
            Message::Summary {
                ring,
                digest,
                places,
                versions,
            } => self.on_summary(cx, from, ring, (digest, places), versions),
            Message::Records {
                ring,
                members,
                positions,
                wanted,
            } => {
                self.on_records(cx, from, ring, members, positions, wanted);
            }
            Message::Lineage { positions, center } => {
                self.on_lineage(cx, from, positions, center);
            }
            Message::Contacts { nonce, peers } => self.on_contacts(cx, nonce, peers),
            Message::Meet { strangers } => self.on_meet(cx, from, strangers),
            Message::Ask {
                suspect,
                incarnation,
            } => self.on_ask(cx, from, suspect, incarnation),
            Message::Answer {
                suspect,
                incarnation,
                testimony,
            } => {
                self.on_answer(cx, from, suspect, incarnation, testimony);
            }
            Message::Ping(number) => cx.send(from, Message::Pong(number)),
            Message::Pong(number) => self.on_pong(cx, from, number),
            Message::Elect { position } => self.on_elect(cx, from, position),
            Message::Vote {
                position,
                signature,
            } => self.on_vote(cx, from, position, signature),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Join(attempt) => self.on_join_timer(cx, attempt),
            Timer::Choose(attempt) => self.on_choose_timer(cx, attempt),
            Timer::Ready => self.on_ready(cx, true),
            Timer::Dial => self.on_dial(cx),
            Timer::Beat => self.on_beat(cx),
            Timer::Repair => self.on_repair(cx),
            Timer::Suspicion(peer) => self.on_suspicion(cx, peer),
            Timer::Redial(peer) => self.on_redial(cx, peer),
            Timer::Witness(number) => self.on_witness(cx, number),
            Timer::Election(round) => self.on_election(cx, round),
            Timer::Count(round) => self.on_count(cx, round),
            Timer::Census => self.on_census(cx),
            Timer::Staff => self.staff(cx),
            Timer::Probe => self.on_probe(cx),
            Timer::Gossip => self.on_gossip(cx),
            Timer::Sweep => self.on_sweep(cx),
        }
    }

    /// Takes a place: the rosters stand, the record is written.
    fn occupy(&mut self, cx: &mut Cx<'_>, seat: Seat, proof: Proof) {
        self.incarnation += 1;
        let record = Member::signed(&cx.view, self.incarnation, Some(seat), proof);
        self.own.merge_member(cx.host(), record.clone(), cx.now);
        self.record = Some(record);
        self.news.has_moved = true;
    }

    /// A newcomer is ready once its neighbours are connected, or have had their time.
    fn on_ready(&mut self, cx: &mut Cx<'_>, is_late: bool) {
        if self.phase != Phase::Settling {
            return;
        }
        let wanted = self.links.wanted().count();
        let linked = self.links.wanted().filter(|link| link.is_up).count();
        let waited = cx.now.since(self.join.placed_at);
        let is_complete = linked == wanted;
        if !is_complete && !(is_late && (linked > 0 || waited >= SETTLE_ALONE)) {
            if is_late {
                cx.after(SETTLE, Timer::Ready);
            }
            return;
        }
        self.phase = Phase::Placed;
        cx.tell(Event::Placed(self.guid.clone()));
        for child in self.living_peers(&self.below, cx.me()) {
            self.send_lineage(cx, child);
        }
    }

    fn leave(&mut self, cx: &mut Cx<'_>) {
        if self.record.is_some() {
            self.incarnation += 1;
            let record = Member::signed(&cx.view, self.incarnation, None, Proof::None);
            let parents = self.above.peers_of(self.own.id);
            let told: Vec<_> = parents
                .chain(self.living_peers(&self.own, cx.me()))
                .collect();
            for peer in told {
                self.send_records(cx, peer, self.own.id, vec![record.clone()], Vec::new());
            }
            for peer in self.living_peers(&self.below, cx.me()) {
                self.send_records(cx, peer, self.own.id, vec![record.clone()], Vec::new());
            }
        }
        self.phase = Phase::Left;
        self.record = None;
        cx.tell(Event::Left);
    }

    fn on_sweep(&mut self, cx: &mut Cx<'_>) {
        for id in [self.own.id, self.below.id, self.above.id] {
            if self.ring(id).is_some_and(|ring| ring.has_aged(cx.now))
                && let Some(ring) = self.ring_mut(id)
            {
                ring.sweep(cx.now);
            }
        }
        self.grants.sweep(cx.now);
        self.news.has_aged = true;
        cx.after(SWEEP, Timer::Sweep);
    }

    fn me(&self) -> Option<Peer> {
        self.record.as_ref().map(|record| record.peer)
    }

    fn seat(&self) -> Option<Seat> {
        self.record.as_ref().and_then(|record| record.seat)
    }

    /// My position; no position has the id of the center.
    fn position_id(&self) -> PositionId {
        self.seat().map_or(PositionId::CENTER, |seat| seat.position)
    }

    fn is_up(&self, peer: Peer) -> bool {
        self.links.is_up(peer)
    }

    fn living_peers(&self, ring: &Ring, me: Peer) -> Vec<Peer> {
        ring.peers().filter(|peer| *peer != me).collect()
    }

    /// The longest-granted member of a position that is me or connected.
    fn leader(&self, cx: &Cx<'_>, ring: &Ring, position: PositionId) -> Option<Peer> {
        let mut members = ring.peers_of(position);
        members.find(|peer| *peer == cx.me() || self.is_up(*peer))
    }

    /// Whether no longer-granted member of my position is connected.
    fn is_leader(&self) -> bool {
        let before_me = usize::from(self.table.rank.at);
        let is_led = || {
            let mates = self.table.own.members_at(self.table.mine);
            mates.iter().take(before_me).any(|link| link.is_up)
        };
        before_me == 0 || !is_led()
    }

    /// The keeper of the own ring, as far as this peer can tell: in the center, the leader of the
    /// lowest living coordinate; elsewhere the leader of the parent position.
    fn keeper(&self, cx: &Cx<'_>) -> Option<Peer> {
        if self.own.id != PositionId::CENTER {
            return self.leader(cx, &self.above, self.own.id);
        }
        let mut labels: SmallVec<[_; 64]> = self.own.labels().collect();
        labels.sort_unstable_by_key(|(position, coordinate)| (*coordinate, *position));
        let mut positions = labels.into_iter().map(|(position, _)| position);
        positions.find_map(|position| self.leader(cx, &self.own, position))
    }
}

/// How old a moment is, for those that may not have come yet.
fn has_passed(now: Time, since: Time, span: Duration) -> bool {
    now.since(since) >= span
}
