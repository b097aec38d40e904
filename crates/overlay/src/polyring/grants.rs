//! The keeper's side of a join: a search walks inward to the center and then outward, ring by ring,
//! to the keeper that has room; the shaping policy chooses the way. A grant only reserves; the
//! newcomer writes its own record, so a lost or doubled grant leaves no ghost (HEALING.md, rule 6).

use std::{sync::Arc, time::Duration};

use ringweave_ids::{Peer, Signature, Time};
use smallvec::SmallVec;

use super::{
    Cx, Grant, Heading, Message, Offer, Policy, Polyring, Position, PositionId, Ring, Roster, Seat,
    Walk,
    admit::MAX_COORDINATE,
    join::{CANDIDATES, SHUNNED},
    message::MAX_RECORDS,
    ring::{head, mix},
    table::{Cell, Link, Role},
};

/// Hops of a search: more than twice the deepest tree.
pub(super) const MAX_HOPS: u8 = 100;

/// Hops by peers that look for a place themselves.
const MAX_PLACELESS: u8 = 4;

/// How long a place stays reserved for a newcomer.
const RESERVED: Duration = Duration::from_secs(4);

/// Places reserved at once; a search beyond is answered when one is free.
const MAX_RESERVED: usize = 4_096;

/// How long a newcomer that was sent into a branch is expected to be counted there: a walk, a
/// connection, and two counts on the way up.
const EXPECTED: Duration = Duration::from_secs(8);

/// The places this peer has reserved for newcomers, and those it could not place yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Grants {
    reserved: Vec<Reserved>,
    /// Searches that came while all places were granted and none was taken yet.
    waiting: Vec<(Walk, bool)>,
    /// The branches that newcomers were sent into lately, by id.
    descents: Vec<Descent>,
}

/// A branch is taken to be as large as it should be by now, until its census says so: whether a
/// count was made before or after a newcomer came makes no difference then.
#[derive(Clone, Debug)]
struct Descent {
    position: PositionId,
    /// Peers at and below it, once the newcomers are there.
    expected: u32,
    /// When the last one was sent.
    sent: Time,
}

#[derive(Clone, Debug)]
struct Reserved {
    grant: Arc<Grant>,
    until: Time,
    /// Whether it is a seat in a position that exists.
    is_seat: bool,
}

/// The way to the place that a newcomer had before.
enum Home {
    /// It is in this ring, and free.
    Here { coordinate: u32, branch: String },
    /// It is this position, or below it; so many parts of the label are used up then.
    Below { position: PositionId, level: u8 },
}

/// What a ring's keeper decides about a newcomer.
enum Decision {
    Stay {
        branch: String,
    },
    Descend {
        position: PositionId,
        level: u8,
    },
    Measure,
    /// The ring is full, but nobody in it can be reached yet.
    Wait,
}

impl Grants {
    pub(super) fn sweep(&mut self, now: Time) {
        self.reserved.retain(|reserved| reserved.until > now);
        self.descents
            .retain(|descent| now.since(descent.sent) <= EXPECTED);
    }

    fn hold(&mut self, grant: Arc<Grant>, now: Time, is_seat: bool) {
        let until = now + RESERVED;
        self.reserved.push(Reserved {
            grant,
            until,
            is_seat,
        });
    }

    /// Shows every handle that a reserved place or a waiting search names.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        self.reserved
            .iter()
            .for_each(|reserved| reserved.grant.handles(see));
        self.waiting.iter().for_each(|(walk, _)| walk.handles(see));
    }

    /// Peers at and below a position, the newcomers on their way included.
    fn weight(&self, position: &Position, now: Time) -> u32 {
        let descent = self
            .descents
            .binary_search_by_key(&position.id(), |descent| descent.position)
            .map(|at| &self.descents[at]);
        let expected = descent
            .ok()
            .filter(|descent| now.since(descent.sent) <= EXPECTED)
            .map_or(0, |descent| descent.expected);
        expected.max(position.population())
    }

    /// A newcomer is on its way into the branch.
    fn expect(&mut self, position: &Position, now: Time) {
        let (expected, sent) = (self.weight(position, now).saturating_add(1), now);
        let position = position.id();
        let descent = Descent {
            position,
            expected,
            sent,
        };
        match self
            .descents
            .binary_search_by_key(&position, |descent| descent.position)
        {
            Ok(at) => self.descents[at] = descent,
            Err(at) => self.descents.insert(at, descent),
        }
    }

    /// The new positions of a ring that are granted and not taken yet.
    pub(super) fn held<'a>(&'a self, ring: &'a Ring, now: Time) -> impl Iterator<Item = &'a Grant> {
        self.reserved(ring, now, false)
    }

    /// The seats of my position that are granted and not taken yet.
    pub(super) fn held_seats<'a>(
        &'a self,
        own: &'a Ring,
        now: Time,
    ) -> impl Iterator<Item = &'a Grant> {
        self.reserved(own, now, true)
    }

    fn reserved<'a>(
        &'a self,
        ring: &'a Ring,
        now: Time,
        is_seat: bool,
    ) -> impl Iterator<Item = &'a Grant> {
        let waits = move |reserved: &&Reserved| {
            reserved.until > now
                && reserved.is_seat == is_seat
                && reserved.grant.seat.ring == ring.id
                && ring
                    .living_record(reserved.grant.peer)
                    .is_none_or(|record| record.seat != Some(reserved.grant.seat))
        };
        self.reserved
            .iter()
            .filter(waits)
            .map(|reserved| &*reserved.grant)
    }
}

impl Polyring {
    pub(super) fn on_join(&mut self, cx: &mut Cx<'_>, mut walk: Walk) {
        if walk.joiner() == cx.me() {
            return;
        }
        if walk.member.seat.is_some() {
            cx.fault("a search for a place by one who has one");
            return;
        }
        // Whatever place it had in an earlier life is free.
        self.take_word(cx, &walk.member);
        walk.hops += 1;
        walk.shunned.truncate(SHUNNED);
        let way = walk.way.as_ref().map_or(0, Vec::len);
        if walk.hops.max(u8::try_from(way).unwrap_or(u8::MAX)) > MAX_HOPS {
            cx.fault("a search that never ends");
            return;
        }
        if let Some(way) = &mut walk.way {
            way.push(cx.me());
            if walk.hops == 1 {
                self.name_contacts(cx, &walk);
            }
        }
        if self.record.is_none() {
            // Who looks for a place itself knows whom to ask.
            let contact = self.contact().filter(|_| walk.hops <= MAX_PLACELESS);
            if let Some(contact) = contact.filter(|contact| *contact != walk.joiner()) {
                cx.send(contact, Message::Join(Box::new(walk)));
            }
            return;
        }
        match walk.heading {
            Heading::Inward if self.own.id == PositionId::CENTER => match self.keeper(cx) {
                Some(keeper) if keeper == cx.me() => self.decide(cx, walk, true),
                Some(keeper) => cx.send(keeper, Message::Join(Box::new(walk))),
                None => {}
            },
            Heading::Inward => {
                let parent = self.leader(cx, &self.above, self.own.id);
                // Mine cannot be reached: others of my ring have other ones.
                let next = parent.or_else(|| {
                    let siblings: SmallVec<[Peer; 64]> = self.links.linked(Role::Sibling).collect();
                    cx.random.pick(&siblings).copied()
                });
                if let Some(next) = next {
                    cx.send(next, Message::Join(Box::new(walk)));
                }
            }
            Heading::Outward => match self.leader(cx, &self.own, self.position_id()) {
                Some(leader) if leader != cx.me() => cx.send(leader, Message::Join(Box::new(walk))),
                _ => self.decide(cx, walk, false),
            },
        }
    }

    /// As the keeper of the own (center) ring or of the ring below: where does the newcomer go?
    fn decide(&mut self, cx: &mut Cx<'_>, mut walk: Walk, is_own: bool) {
        if is_own {
            self.hint(cx, &mut walk);
        }
        let ring = if is_own { &self.own } else { &self.below };
        if !is_own {
            let mut seats = self.grants.held_seats(&self.own, cx.now);
            if let Some(grant) = seats.find(|grant| grant.peer == walk.joiner()).cloned() {
                let offer = self.seat_offer(walk.nonce, Arc::new(grant), &walk.hints);
                self.send_offer(cx, &walk, offer);
                return;
            }
        }
        let held = self
            .grants
            .held(ring, cx.now)
            .find(|grant| grant.peer == walk.joiner())
            .cloned();
        if let Some(grant) = held {
            let grant = Arc::new(grant);
            self.offer(cx, &walk, grant, is_own);
            return;
        }
        match self.way_home(cx, &walk, is_own) {
            Some(Home::Here { coordinate, branch }) => {
                self.reserve(cx, &walk, branch, Some(coordinate), is_own);
                return;
            }
            Some(Home::Below { position, level }) => {
                self.descend(cx, Walk { level, ..walk }, position, is_own);
                return;
            }
            None => {}
        }
        if !is_own && self.has_seat_for(cx, &walk) {
            self.reserve_seat(cx, &walk);
            return;
        }
        match self.choose(cx, &walk, is_own) {
            Decision::Wait => {
                self.grants
                    .waiting
                    .retain(|(other, _)| other.joiner() != walk.joiner());
                if self.grants.waiting.len() < MAX_RESERVED {
                    self.grants.waiting.push((walk, is_own));
                }
            }
            Decision::Stay { branch } => self.reserve(cx, &walk, branch, None, is_own),
            Decision::Descend { position, level } => {
                self.descend(cx, Walk { level, ..walk }, position, is_own)
            }
            Decision::Measure => {
                let is_shunned = |position: PositionId| walk.shunned.contains(&position);
                let mut heads: Vec<_> = ring
                    .staffed()
                    .map(Position::id)
                    .filter_map(|id| Some((is_shunned(id), self.leader(cx, ring, id)?)))
                    .collect();
                if heads.iter().any(|(is_shunned, _)| !is_shunned) {
                    heads.retain(|(is_shunned, _)| !is_shunned);
                }
                let mut heads: Vec<_> = heads.into_iter().map(|(_, head)| head).collect();
                cx.random.shuffle(&mut heads, CANDIDATES);
                heads.truncate(CANDIDATES.min(MAX_RECORDS));
                cx.send(
                    walk.joiner(),
                    Message::Choose {
                        nonce: walk.nonce,
                        candidates: heads,
                    },
                );
            }
        }
    }

    /// Where a newcomer that was here before finds its old place, seen from this ring: free, or with
    /// room in its cluster, or further outward. Nothing if somebody else has it by now.
    fn way_home(&self, cx: &Cx<'_>, walk: &Walk, is_own: bool) -> Option<Home> {
        let (ring, slots) = match is_own {
            true => (&self.own, &self.table.own),
            false => (&self.below, &self.table.below),
        };
        let level = if is_own { 0 } else { self.guid.depth() };
        let home = walk.home.as_ref()?;
        let step = *home.steps().get(level)?;
        if home.shared(&self.guid) < level || step.coordinate > MAX_COORDINATE {
            return None;
        }
        let is_last = home.depth() == level + 1;
        let branch = branch_at(&walk.label, walk.level, cx.config().policy);
        let has_coordinate = |position: &&Position| position.coordinate() == step.coordinate;
        if let Some(position) = ring.staffed().find(has_coordinate) {
            let is_of_branch = position.grant.branch == branch;
            let members = slots.members_at(position.id()).len();
            let has_seat = !walk.member.is_private
                && position.population() as usize > members
                && members < usize::from(cx.config().cluster);
            let is_reachable = self.leader(cx, ring, position.id()).is_some();
            let level = walk.level + u8::from(is_of_branch && !branch.is_empty());
            let position = position.id();
            let is_way = is_of_branch && is_reachable && (!is_last || has_seat);
            return is_way.then_some(Home::Below { position, level });
        }
        // A branch without members is about to be taken over; one of a label has one position.
        let mut vacant = ring.positions().filter(has_coordinate);
        let mut held = self.grants.held(ring, cx.now);
        let is_free = vacant.all(|position| position.population() <= 1)
            && held.all(|grant| grant.coordinate != step.coordinate);
        let is_of_other = !branch.is_empty() && ring.staffed().any(|it| it.grant.branch == branch);
        let coordinate = step.coordinate;
        let is_here = is_last && is_free && !is_of_other && self.has_room(cx, ring);
        is_here.then_some(Home::Here { coordinate, branch })
    }

    /// Whether the ring may have one more position.
    fn has_room(&self, cx: &Cx<'_>, ring: &Ring) -> bool {
        let taken = ring.staffed().count() + self.grants.held(ring, cx.now).count();
        taken < usize::from(cx.config().ring_size)
    }

    /// After a change: those who waited for somebody to take a place are decided upon again.
    pub(super) fn serve_waiting(&mut self, cx: &mut Cx<'_>) {
        for (walk, is_own) in std::mem::take(&mut self.grants.waiting) {
            self.decide(cx, walk, is_own);
        }
    }

    fn choose(&self, cx: &Cx<'_>, walk: &Walk, is_own: bool) -> Decision {
        let (ring, slots) = if is_own {
            (&self.own, &self.table.own)
        } else {
            (&self.below, &self.table.below)
        };
        let part = label_part(&walk.label, walk.level);
        let is_labelled = cx.config().policy == Policy::Labelled && part.is_some();
        let branch = branch_at(&walk.label, walk.level, cx.config().policy);
        if is_labelled {
            let of_branch = ring
                .staffed()
                .filter(|position| position.grant.branch == branch);
            if let Some(position) = of_branch.map(Position::id).min() {
                return Decision::Descend {
                    position,
                    level: walk.level + 1,
                };
            }
        }
        if self.has_room(cx, ring) {
            return Decision::Stay { branch };
        }
        if is_labelled {
            // Peers of one label meet again below the same position, as long as it lives.
            let label = ringweave_ids::Key::of("branch", branch.as_bytes()).head();
            let best = ring
                .staffed()
                .max_by_key(|position| (mix(label ^ position.id().0), position.id()));
            if let Some(position) = best.map(Position::id) {
                return Decision::Descend {
                    position,
                    level: walk.level,
                };
            }
        }
        if cx.config().policy == Policy::Nearest {
            return Decision::Measure;
        }
        // Ties go by coordinate, not by id: keys and the order of joins alone shape the tree.
        let salt = head(&cx.id(walk.joiner()));
        let rank = |cell: &Cell, position| {
            let weight = self.grants.weight(position, cx.now);
            (weight, mix(salt ^ u64::from(cell.step().coordinate)))
        };
        let is_there = |link: &Link| link.is_up || link.peer == cx.me();
        let cells = slots.cells().iter();
        let reachable = cells.filter(|cell| slots.members(cell).iter().any(is_there));
        // Where it could reach nobody it goes only if there is no other way.
        let is_shunned = |position: PositionId| walk.shunned.contains(&position);
        let emptiest = reachable
            .filter_map(|cell| {
                let rank = rank(cell, ring.position(cell.position)?);
                Some(((is_shunned(cell.position), rank), cell.position))
            })
            .min();
        emptiest.map_or(Decision::Wait, |(_, position)| Decision::Descend {
            position,
            level: walk.level,
        })
    }

    fn descend(&mut self, cx: &mut Cx<'_>, walk: Walk, id: PositionId, is_own: bool) {
        let ring = if is_own { &self.own } else { &self.below };
        let leader = self.leader(cx, ring, id);
        if let Some(position) = ring.position(id) {
            self.grants.expect(position, cx.now);
        }
        match leader {
            Some(leader) if leader == cx.me() => self.decide(cx, walk, false),
            Some(leader) => cx.send(
                leader,
                Message::Join(Box::new(Walk {
                    heading: Heading::Outward,
                    ..walk
                })),
            ),
            None => {}
        }
    }

    /// Founds a position for the newcomer, under the coordinate that it wishes for or a free one.
    fn reserve(
        &mut self,
        cx: &mut Cx<'_>,
        walk: &Walk,
        branch: String,
        wish: Option<u32>,
        is_own: bool,
    ) {
        self.grants.sweep(cx.now);
        if self.grants.reserved.len() >= MAX_RESERVED {
            return;
        }
        let ring = if is_own { &self.own } else { &self.below };
        let nonce = cx.random.bits();
        let position = PositionId::new(cx.host(), ring.id, &cx.id(walk.joiner()), nonce);
        let granted = ring.positions().map(|position| position.grant.sequence);
        let held = self.grants.held(ring, cx.now).map(|grant| grant.sequence);
        let sequence = granted.chain(held).max().map_or(0, |last| last + 1);
        let grant = Grant {
            peer: walk.joiner(),
            seat: Seat {
                ring: ring.id,
                position,
            },
            coordinate: wish.unwrap_or_else(|| self.free_coordinate(cx, ring)),
            branch,
            sequence,
            nonce,
            by: Some(cx.me()),
            signature: Signature([0; 64]),
        };
        let Some(grant) = grant.sign(cx.host()) else {
            return;
        };
        self.grants.hold(grant.clone(), cx.now, false);
        self.offer(cx, walk, grant, is_own);
    }

    fn reserve_seat(&mut self, cx: &mut Cx<'_>, walk: &Walk) {
        self.grants.sweep(cx.now);
        if self.grants.reserved.len() >= MAX_RESERVED {
            return;
        }
        if let Some(grant) = self.seat_grant(cx, walk.joiner()) {
            self.grants.hold(grant.clone(), cx.now, true);
            let offer = self.seat_offer(walk.nonce, grant, &walk.hints);
            self.send_offer(cx, walk, offer);
        }
    }

    /// An offer goes to the newcomer, back by the way that its search came.
    fn send_offer(&self, cx: &mut Cx<'_>, walk: &Walk, mut offer: Offer) {
        offer.way = walk.way.clone().unwrap_or_default();
        offer.way.pop_if(|last| *last == cx.me());
        self.pass_offer(cx, offer);
    }

    /// One step further to the newcomer.
    pub(super) fn pass_offer(&self, cx: &mut Cx<'_>, mut offer: Offer) {
        let next = offer.way.pop().unwrap_or(offer.grant.peer);
        cx.send(next, Message::Offer(Box::new(offer)));
    }

    fn offer(&self, cx: &mut Cx<'_>, walk: &Walk, grant: Arc<Grant>, is_own: bool) {
        let (ring, lineage) = if is_own {
            (&self.own, self.lineage.clone())
        } else {
            (&self.below, self.lineage_below())
        };
        let above = || match is_own {
            true => Roster::of(&self.above),
            false => self.outline_roster(),
        };
        let offer = Offer {
            nonce: walk.nonce,
            way: Vec::new(),
            grant,
            lineage,
            hints: walk.hints.clone(),
            split: self.memory.split(),
            own: Roster::of(ring),
            above: (ring.id != PositionId::CENTER).then(above),
            below: None,
        };
        self.send_offer(cx, walk, offer);
    }
}

/// The `level`-th part of a label: `dk` of `/eu/dk/copenhagen` at level 1.
fn label_part(label: &str, level: u8) -> Option<&str> {
    label
        .split('/')
        .filter(|part| !part.is_empty())
        .nth(usize::from(level))
}

/// The branch that a peer of this label starts at this level: `/eu/dk` at level 1; empty where
/// labels do not shape the network, or the label ends before.
pub(super) fn branch_at(label: &str, level: u8, policy: Policy) -> String {
    if policy != Policy::Labelled || label_part(label, level).is_none() {
        return String::new();
    }
    let parts = label
        .split('/')
        .filter(|part| !part.is_empty())
        .take(usize::from(level) + 1);
    parts.fold(String::new(), |branch, part| branch + "/" + part)
}
