//! What members of a position do for its ring and its branch: counting the branch, and, as keepers,
//! handing out coordinates.

use std::time::Duration;

use ringweave_ids::{Peer, Signature, Time};
use smallvec::SmallVec;

use super::{
    Census, Cx, Label, Phase, Polyring, Position, PositionId, Ring, Seat, Timer,
    admit::MAX_COORDINATE,
    has_passed,
    ring::{head, mix},
    table::Role,
};

/// A branch's count is published at most this often.
const CENSUS: Duration = Duration::from_secs(3);

/// Branches of one order of size differ by less than this.
const SIZE: u32 = 64;

/// Coordinates that a keeper chooses from, in ring sizes.
const ROOM: usize = 4;

/// The same while others may grant in the same ring beyond a split: two that choose alike there cost a
/// branch its GUIDs when the halves meet.
const SPLIT_ROOM: usize = 64;

/// When the branch was last counted, and whether it will be again.
#[derive(Clone, Debug, Default)]
pub(super) struct Counting {
    counted: Option<Time>,
    is_armed: bool,
}

impl Polyring {
    /// Publishes how many peers live at and below my position, in steps, and not too often.
    pub(super) fn count(&mut self, cx: &mut Cx<'_>) {
        let (Some(seat), true) = (self.seat(), self.phase == Phase::Placed) else {
            return;
        };
        if self.has_mates() && !self.is_leader() {
            return;
        }
        let mates = u32::from(self.table.rank.of);
        let population = self
            .below
            .staffed()
            .map(Position::population)
            .fold(mates, u32::saturating_add);
        let Some(position) = self.own.position(seat.position) else {
            return;
        };
        let last = position.population();
        let is_step = population != last
            && (population.min(last) < 8 || population.abs_diff(last) * 4 >= last);
        if !is_step {
            return;
        }
        if self
            .counting
            .counted
            .is_some_and(|last| !has_passed(cx.now, last, CENSUS))
        {
            if !std::mem::replace(&mut self.counting.is_armed, true) {
                cx.after(CENSUS, Timer::Census);
            }
            return;
        }
        self.counting.counted = Some(cx.now);
        let version = position.census().map_or(0, |census| census.version) + 1;
        let census = Census {
            seat,
            population,
            version,
            by: cx.me(),
            signature: Signature([0; 64]),
        };
        let counted = position.recounted(census.sign(cx.host()));
        self.own.merge_position(counted.clone(), cx.now);
        // The keeper sends newcomers by it: at once. To the others it matters whether there is a branch at
        // all, and then its order of size.
        let size = |count: u32| (count > 1).then(|| count.ilog(SIZE));
        let is_for_all = seat.ring == PositionId::CENTER || size(population) != size(last);
        let mut others: SmallVec<[Peer; 64]> = match is_for_all {
            true => self.links.linked(Role::Sibling).collect(),
            false => self.mates(cx.me()).into_iter().collect(),
        };
        others.extend(self.links.linked(Role::Parent));
        for peer in others {
            self.send_records(cx, peer, seat.ring, Vec::new(), vec![counted.clone()]);
        }
    }

    pub(super) fn on_census(&mut self, cx: &mut Cx<'_>) {
        self.counting.is_armed = false;
        self.count(cx);
    }

    /// As a keeper: a coordinate given twice stays with the larger branch, else with the one that was
    /// granted first; the others get a free one (HEALING.md, rule 8).
    ///
    /// Whether it gave one.
    pub(super) fn relabel(&mut self, cx: &mut Cx<'_>) -> bool {
        let mut is_relabelled = false;
        if !(self.table.own.is_doubled || self.table.below.is_doubled) {
            return is_relabelled;
        }
        let keeps_own = self.own.id == PositionId::CENTER && self.keeper(cx) == Some(cx.me());
        let rings = [
            keeps_own.then_some(self.own.id),
            self.is_leader().then_some(self.below.id),
        ];
        for id in rings.into_iter().flatten() {
            let Some(ring) = self.ring(id) else { continue };
            let mut staffed: Vec<_> = ring.staffed().collect();
            staffed.sort_by_key(|it| (it.coordinate(), it.claim()));
            let doubled = staffed
                .windows(2)
                .find(|pair| pair[0].coordinate() == pair[1].coordinate());
            let Some(position) = doubled.map(|pair| pair[1].clone()) else {
                continue;
            };
            let label = Label {
                seat: Seat {
                    ring: id,
                    position: position.id(),
                },
                coordinate: self.free_coordinate(cx, ring),
                version: position.version() + 1,
                by: cx.me(),
                signature: Signature([0; 64]),
            };
            let relabelled = position.relabelled(label.sign(cx.host()));
            let mut told = self.living_peers(ring, cx.me());
            if id == self.own.id {
                told.extend(self.living_peers(&self.below, cx.me()));
            }
            for peer in told {
                self.send_records(cx, peer, id, Vec::new(), vec![relabelled.clone()]);
            }
            if let Some(ring) = self.ring_mut(id) {
                ring.merge_position(relabelled, cx.now);
            }
            // One at a time: the next settling finds the next.
            is_relabelled = true;
        }
        is_relabelled
    }

    /// Never plainly the lowest free one: the halves of a split would choose the same
    /// (HEALING.md, rule 7). The window keeps tables small, and is wider where a split is likely.
    pub(super) fn free_coordinate(&self, cx: &Cx<'_>, ring: &Ring) -> u32 {
        let count = ring.coordinates().count() + self.grants.held(ring, cx.now).count();
        let room = match self.heal.is_split_likely(cx.now) {
            true => SPLIT_ROOM,
            false => ROOM,
        };
        let window = room * usize::from(cx.config().ring_size).max(count);
        // A ring of more positions than there are coordinates has one that nobody takes.
        let window = window.min(MAX_COORDINATE as usize + 1).max(count + 1);
        let granted = self.grants.held(ring, cx.now).map(|grant| grant.coordinate);
        let mut is_used: SmallVec<[bool; 256]> = SmallVec::from_elem(false, window);
        for coordinate in ring.coordinates().chain(granted) {
            if let Some(is_used) = is_used.get_mut(coordinate as usize) {
                *is_used = true;
            }
        }
        let salt = head(&cx.id(cx.me()));
        let free = (0..window as u32).filter(|coordinate| !is_used[*coordinate as usize]);
        free.min_by_key(|coordinate| mix(salt ^ u64::from(*coordinate)))
            .expect("the window has one more than is used")
    }
}
