//! The forwarding table, derived from rosters and links: arrays indexed by coordinate, so that a
//! decision costs one look-up whatever the ring's size.

use ringweave_ids::{Peer, Step};
use smallvec::SmallVec;

use super::{record::PositionId, ring::Ring};
use crate::Host;

/// Where the own ring's, the child ring's and the parent's members are.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// This peer's own position.
    pub(super) mine: PositionId,
    /// The own ring, this peer's position among it.
    pub(super) own: Slots,
    /// The child ring.
    pub(super) below: Slots,
    /// The parent position.
    pub(super) parent: Cell,
}

/// The positions of one ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    /// Coordinate -> index of its cell plus one; 0 for none.
    by_coordinate: Vec<u16>,
    cells: Vec<Cell>,
}

/// One position and who holds it.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    /// Which position.
    pub(super) position: PositionId,
    /// Its place in its ring.
    pub(super) step: Step,
    /// Its members, the longest granted first.
    pub(super) members: SmallVec<[Link; 1]>,
}

/// A member and whether a connection to it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) is_up: bool,
}

impl Default for PositionId {
    fn default() -> Self {
        Self::CENTER
    }
}

impl Slots {
    /// The table of a ring, given the links that stand.
    pub(super) fn new(ring: &Ring, host: &dyn Host, is_up: impl Fn(Peer) -> bool) -> Self {
        let mut cells: Vec<_> = ring
            .staffed()
            .map(|position| {
                let step = Step {
                    coordinate: position.coordinate(),
                    tag: position.id().tag(),
                };
                (
                    position.population(),
                    Cell::new(ring, position.id(), step, host, &is_up),
                )
            })
            .collect();
        // A coordinate given twice goes to the larger branch, else to the smaller id, for everyone
        // alike, until the keeper has written another one (HEALING.md, rule 8).
        cells.sort_by_key(|(population, cell)| {
            (
                cell.step.coordinate,
                std::cmp::Reverse(*population),
                cell.position,
            )
        });
        cells.dedup_by_key(|(_, cell)| cell.step.coordinate);
        let cells: Vec<_> = cells.into_iter().map(|(_, cell)| cell).collect();
        let len = cells
            .last()
            .map_or(0, |cell| cell.step.coordinate as usize + 1);
        let mut by_coordinate = vec![0; len];
        for (index, cell) in cells.iter().enumerate() {
            by_coordinate[cell.step.coordinate as usize] = index as u16 + 1;
        }
        Self {
            by_coordinate,
            cells,
        }
    }

    /// All positions, by coordinate.
    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The position that a step means: by coordinate; where the tag differs, by tag.
    pub(super) fn find(&self, step: Step) -> Option<&Cell> {
        let index = self
            .by_coordinate
            .get(step.coordinate as usize)
            .copied()
            .unwrap_or(0);
        let found = index
            .checked_sub(1)
            .map(|index| &self.cells[usize::from(index)]);
        match found {
            Some(cell) if cell.step.matches(step) => found,
            _ if step.tag == 0 => None,
            _ => self.cells.iter().find(|cell| cell.step.tag == step.tag),
        }
    }
}

impl Cell {
    /// The members of one position.
    pub(super) fn new(
        ring: &Ring,
        position: PositionId,
        step: Step,
        host: &dyn Host,
        is_up: impl Fn(Peer) -> bool,
    ) -> Self {
        let mut members: SmallVec<[_; 1]> = ring.members_of(position).collect();
        members.sort_by_cached_key(|record| (record.sequence(), host.id(record.peer)));
        let link = |record: &std::sync::Arc<super::record::Member>| Link {
            peer: record.peer,
            is_up: is_up(record.peer),
        };
        Self {
            position,
            step,
            members: members.into_iter().map(link).collect(),
        }
    }

    /// The member to use: the wanted one if it is linked, else one of the linked by flow.
    pub(super) fn pick(&self, wanted: Option<Peer>, flow: u64) -> Option<Peer> {
        if let [only] = self.members.as_slice() {
            return only.is_up.then_some(only.peer);
        }
        let live = || {
            self.members
                .iter()
                .filter(|link| link.is_up)
                .map(|link| link.peer)
        };
        if let Some(wanted) = wanted
            && live().any(|peer| peer == wanted)
        {
            return Some(wanted);
        }
        let count = live().count();
        if count == 0 {
            None
        } else {
            live().nth((flow % count as u64) as usize)
        }
    }
}
