//! Clusters: a position with children should have several members, so that no single loss is felt
//! below it. Newcomers fill it first; a cluster that stays thin promotes children (HEALING.md,
//! rules 6 and 9).

use std::{sync::Arc, time::Duration};

use ringweave_ids::{Peer, Signature, Time};
use smallvec::SmallVec;

use super::{
    Cx, Grant, Member, Message, Offer, Phase, Policy, Polyring, Position, Proof, Ring, Roster,
    Rule, Timer, Walk, grants::branch_at, memory::HINTS, table::Slots,
};

/// How long a thin cluster waits for newcomers before it promotes a child.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long it waits where so many vanished at once that a split is likely: they may come back.
const SPLIT_PATIENCE: Duration = Duration::from_secs(300);

/// How long a promoted child has to take its seat before another one is chosen.
const TAKEN: Duration = Duration::from_secs(4);

/// What the leader of a position knows of its cluster's strength.
#[derive(Clone, Debug, Default)]
pub(super) struct Staffing {
    /// Since when it has been too thin.
    thin_since: Option<Time>,
    /// Whether it was stronger before.
    has_lost: bool,
    /// Members when last looked at.
    members: u16,
    /// When a child was last promoted.
    promoted: Option<Time>,
    /// When the next look is due.
    due: Option<Time>,
}

impl Staffing {
    /// The position was taken over: all its members were lost.
    pub(super) fn taken_over() -> Self {
        Self {
            has_lost: true,
            ..Self::default()
        }
    }
}

/// What it costs those below a peer if it moves, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Price {
    /// Nothing: it has no children.
    Leaf,
    /// Little: others are members of its position, too.
    Mate,
    /// Their only parent.
    Sole,
}

/// What it costs if this member of a ring is promoted out of it.
pub(super) fn price(ring: &Ring, slots: &Slots, record: &Member) -> Price {
    let Some(seat) = record.seat else {
        return Price::Sole;
    };
    let members = slots.members_at(seat.position).len();
    let population = ring.position(seat.position).map_or(1, Position::population);
    if members > 1 {
        Price::Mate
    } else if population == 1 {
        Price::Leaf
    } else {
        Price::Sole
    }
}

impl Polyring {
    /// Whether a newcomer may become a member of my position, which I lead.
    pub(super) fn has_seat_for(&self, cx: &Cx<'_>, walk: &Walk) -> bool {
        let Some(position) = self.own.position(self.position_id()) else {
            return false;
        };
        let branch = &position.grant.branch;
        let belongs = cx.config().policy != Policy::Labelled
            || branch.is_empty()
            || walk
                .level
                .checked_sub(1)
                .is_some_and(|level| *branch == branch_at(&walk.label, level, cx.config().policy));
        let has_children = !self.below.is_empty();
        let taken =
            usize::from(self.table.rank.of) + self.grants.held_seats(&self.own, cx.now).count();
        !walk.member.is_private
            && belongs
            && has_children
            && taken < usize::from(cx.config().cluster)
    }

    /// A seat in my position for this peer.
    pub(super) fn seat_grant(&self, cx: &mut Cx<'_>, peer: Peer) -> Option<Arc<Grant>> {
        let seat = self.seat()?;
        let position = self.own.position(seat.position)?;
        let (coordinate, branch) = (position.coordinate(), position.grant.branch.clone());
        let records = self.own.records();
        let of_position =
            records.filter(|it| it.seat.is_some_and(|at| at.position == seat.position));
        let known = of_position.map(|record| record.sequence());
        let held = self
            .grants
            .held_seats(&self.own, cx.now)
            .map(|grant| grant.sequence);
        let last = known.chain(held).filter(|it| *it < u64::MAX).max();
        let grant = Grant {
            peer,
            seat,
            coordinate,
            branch,
            sequence: last.map_or(0, |last| last.saturating_add(1)),
            nonce: cx.random.bits(),
            by: Some(cx.me()),
            signature: Signature([0; 64]),
        };
        grant.sign(cx.host())
    }

    /// My position, offered to one who shall be a member of it.
    pub(super) fn seat_offer(&self, nonce: u64, grant: Arc<Grant>, hints: &[Peer]) -> Offer {
        Offer {
            nonce,
            way: Vec::new(),
            grant,
            lineage: self.lineage.clone(),
            hints: SmallVec::from_slice(&hints[..hints.len().min(HINTS)]),
            split: self.memory.split(),
            own: Roster::of(&self.own),
            above: (self.above.id != super::NOWHERE).then(|| Roster::of(&self.above)),
            below: Some(Roster::of(&self.below)),
        }
    }

    /// As the leader: promotes a child where the cluster has been thin for too long. At once, if it
    /// is down to one member; a child is left for the ring below in any case.
    pub(super) fn staff(&mut self, cx: &mut Cx<'_>) {
        let (size, members) = (u16::from(cx.config().cluster), self.table.rank.of);
        let staffing = &mut self.staffing;
        staffing.has_lost |= members < staffing.members;
        staffing.members = members;
        if members >= size {
            staffing.has_lost = false;
        }
        let is_thin = members < size && self.phase == Phase::Placed && self.below.population() > 1;
        if !is_thin || !self.is_leader() {
            self.staffing.thin_since = None;
            return;
        }
        let since = *self.staffing.thin_since.get_or_insert(cx.now);
        let patience = match members {
            _ if cx.config().without == Some(Rule::Patience) => Duration::ZERO,
            1 if self.staffing.has_lost => Duration::ZERO,
            _ if self.heal.is_split_likely(cx.now) => SPLIT_PATIENCE,
            _ => PATIENCE,
        };
        let promoted = self.staffing.promoted.map(|at| at + TAKEN);
        let due = promoted.map_or(since + patience, |it| it.max(since + patience));
        if due > cx.now {
            if self.staffing.due.is_none_or(|at| at <= cx.now || at > due) {
                self.staffing.due = Some(due);
                cx.after(due.since(cx.now), Timer::Staff);
            }
            return;
        }
        let Some(heir) = self.candidate(cx) else {
            return;
        };
        self.staffing.promoted = Some(cx.now);
        if let Some(grant) = self.seat_grant(cx, heir) {
            let offer = Box::new(self.seat_offer(0, grant, &[]));
            cx.send(heir, Message::Promote(offer));
        }
        self.staffing.due = Some(cx.now + TAKEN);
        cx.after(TAKEN, Timer::Staff);
    }

    /// The child to promote: one that can be dialled and is connected; without children rather than
    /// from a cluster that has some, and no one who is alone above its children.
    fn candidate(&self, cx: &Cx<'_>) -> Option<Peer> {
        let fit = self
            .below
            .living()
            .filter(|record| !record.is_private && self.is_up(record.peer));
        let ranked = fit.map(|record| (price(&self.below, &self.table.below, record), record));
        let first = ranked
            .filter(|(price, _)| *price < Price::Sole)
            .min_by_key(|(price, record)| (*price, record.sequence(), cx.id(record.peer)));
        first.map(|(_, record)| record.peer)
    }

    /// My parent takes me into its position.
    pub(super) fn on_promote(&mut self, cx: &mut Cx<'_>, from: Peer, offer: Offer) {
        let grant = offer.grant;
        if !self.is_parent(from) || grant.seat.position != self.own.id || grant.peer != cx.me() {
            return;
        }
        if grant.by != Some(from) || !grant.is_signed(cx.host()) {
            cx.fault("a promotion that no parent signed");
            return;
        }
        let is_sole = !self.has_mates() && !self.below.is_empty();
        if self.phase != Phase::Placed || is_sole || grant.seat.ring != self.above.id {
            return;
        }
        self.take_roster(cx, offer.own);
        self.rise(cx, grant.seat, Proof::Grant(grant), offer.above);
    }
}
