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
    /// Whether other members hold it, too.
    pub(super) has_mates: bool,
    /// The own ring, this peer's position among it.
    pub(super) own: Slots,
    /// The child ring.
    pub(super) below: Slots,
    /// The members of the parent position, the longest granted first.
    pub(super) parent: SmallVec<[Link; 2]>,
}

/// The positions of one ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    /// Coordinate -> index of its cell plus one; 0 for none.
    by_coordinate: Vec<u16>,
    cells: Vec<Cell>,
    /// The members of each position, the longest granted first, position by position.
    links: Vec<Link>,
    /// Whether the ring gave a coordinate twice; only one of the two positions has a cell.
    pub(super) is_doubled: bool,
}

/// One position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    /// Which position.
    pub(super) position: PositionId,
    coordinate: u32,
    /// Where its members are among the links.
    first: u16,
    len: u16,
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

impl Table {
    /// Notes that the connection to a peer stands, or no more; whether the table names it.
    pub(super) fn set_up(&mut self, peer: Peer, is_up: bool) -> bool {
        let rings = self.own.links.iter_mut().chain(&mut self.below.links);
        let mut is_named = false;
        for link in rings.chain(&mut self.parent) {
            if link.peer == peer {
                link.is_up = is_up;
                is_named = true;
            }
        }
        is_named
    }
}

impl Slots {
    /// Derives the table of a ring anew, given the links that stand.
    pub(super) fn derive(&mut self, ring: &Ring, host: &dyn Host, is_up: impl Fn(Peer) -> bool) {
        let mut homes: SmallVec<[_; 64]> = ring.homes().collect();
        homes.sort_unstable_by_key(|(position, ..)| *position);
        let mut labels: SmallVec<[_; 64]> = ring.labels().collect();
        // A coordinate given twice goes to the larger branch, else to the smaller id, for everyone
        // alike, until the keeper has written another one (HEALING.md, rule 8).
        let size = |id| ring.position(id).map_or(0, |it| it.population());
        labels.sort_unstable_by(|(a, at), (b, bt)| {
            at.cmp(bt)
                .then_with(|| size(*b).cmp(&size(*a)))
                .then(a.cmp(b))
        });
        let given = labels.len();
        labels.dedup_by_key(|(_, coordinate)| *coordinate);
        self.is_doubled = labels.len() < given;

        self.cells.clear();
        self.cells.reserve_exact(labels.len());
        self.links.clear();
        self.links.reserve_exact(homes.len());
        for (position, coordinate) in &labels {
            let first = self.links.len();
            let start = homes.partition_point(|(home, ..)| home < position);
            let mut members: SmallVec<[_; 1]> = homes[start..]
                .iter()
                .take_while(|(home, ..)| home == position)
                .collect();
            if members.len() > 1 {
                members.sort_by_cached_key(|(_, peer, record)| (record.sequence(), host.id(*peer)));
            }
            self.links.extend(members.iter().map(|(_, peer, _)| Link {
                peer: *peer,
                is_up: is_up(*peer),
            }));
            self.cells.push(Cell {
                position: *position,
                coordinate: *coordinate,
                first: first as u16,
                len: members.len() as u16,
            });
        }

        let len = labels.last().map_or(0, |(_, last)| *last as usize + 1);
        self.by_coordinate.clear();
        self.by_coordinate.reserve_exact(len);
        self.by_coordinate.resize(len, 0);
        for (index, cell) in self.cells.iter().enumerate() {
            self.by_coordinate[cell.coordinate as usize] = index as u16 + 1;
        }
    }

    /// All positions, by coordinate.
    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The members of a position of this ring, the longest granted first.
    pub(super) fn members(&self, cell: &Cell) -> &[Link] {
        &self.links[usize::from(cell.first)..][..usize::from(cell.len)]
    }

    /// The members of the position of this id, the longest granted first; none where it has no cell.
    pub(super) fn members_at(&self, position: PositionId) -> &[Link] {
        let mut cells = self.cells.iter();
        cells
            .find(|cell| cell.position == position)
            .map_or(&[], |cell| self.members(cell))
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
            Some(cell) if cell.step().matches(step) => found,
            _ if step.tag == 0 => None,
            _ => self.cells.iter().find(|cell| cell.step().tag == step.tag),
        }
    }
}

impl Cell {
    /// Its place in its ring.
    pub(super) fn step(&self) -> Step {
        Step {
            coordinate: self.coordinate,
            tag: self.position.tag(),
        }
    }
}

/// The members of one position, the longest granted first.
pub(super) fn members_of(
    ring: &Ring,
    position: PositionId,
    host: &dyn Host,
    is_up: impl Fn(Peer) -> bool,
) -> SmallVec<[Link; 2]> {
    let mut members: SmallVec<[_; 1]> = ring.members_of(position).collect();
    if members.len() > 1 {
        members.sort_by_cached_key(|record| (record.sequence(), host.id(record.peer)));
    }
    let link = |record: &std::sync::Arc<super::record::Member>| Link {
        peer: record.peer,
        is_up: is_up(record.peer),
    };
    members.into_iter().map(link).collect()
}

/// The member to use: the wanted one if it is linked, else one of the linked by flow.
pub(super) fn pick(members: &[Link], wanted: Option<Peer>, flow: u64) -> Option<Peer> {
    if let [only] = members {
        return only.is_up.then_some(only.peer);
    }
    let live = || {
        members
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
