//! The forwarding table, derived from rosters and links: arrays indexed by coordinate, so that a
//! decision costs one look-up whatever the ring's size.

use ringweave_ids::{Peer, Step};
use smallvec::SmallVec;

use super::{
    record::{Position, PositionId},
    ring::Ring,
};

/// Where the own ring's, the child ring's and the parent's members are.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// This peer's own position.
    pub(super) mine: PositionId,
    /// Its parents' position: its ring.
    pub(super) above: PositionId,
    /// Its place among the members of its position.
    pub(super) rank: Rank,
    /// The digest of the own ring's outline, if one of the ring below asked for it since it changed.
    pub(super) outline: Option<u64>,
    /// The own ring, this peer's position among it.
    pub(super) own: Slots,
    /// The child ring.
    pub(super) below: Slots,
    /// The members of the parent position, the longest granted first.
    pub(super) parent: SmallVec<[Link; 2]>,
}

/// What a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Sibling,
    Parent,
    Child,
}

/// A member's place in its position: the longest granted has 0.
///
/// Two neighbouring positions share their connections out by it: a single peer is linked to all
/// members of the other, two clusters pair their members off (DESIGN.md, decision 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rank {
    pub(super) at: u16,
    /// How many members there are; at least 1.
    pub(super) of: u16,
}

/// The positions of one ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    /// Coordinate -> index of its cell plus one; 0 for none.
    by_coordinate: Vec<u16>,
    /// By coordinate; those that lost theirs to another position come last.
    cells: Vec<Cell>,
    /// The members of each position, the longest granted first, position by position.
    links: Vec<Link>,
    /// Whether the ring gave a coordinate twice: it leads to only one of the two positions.
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

/// A position that somebody holds, on the way into a table.
struct Home {
    position: PositionId,
    coordinate: u32,
    /// Where its members are among all.
    first: u16,
    len: u16,
    has_cell: bool,
}

/// A member and whether a connection to it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) is_up: bool,
}

/// How far ahead of the last one a link is looked for in an older table.
const LOOK_AHEAD: usize = 4;

impl Default for Rank {
    fn default() -> Self {
        Self { at: 0, of: 1 }
    }
}

impl Rank {
    /// The place of a peer among these members, if it is one of them.
    pub(super) fn among(members: &[Link], peer: Peer) -> Option<Self> {
        let at = members.iter().position(|link| link.peer == peer)?;
        let (at, of) = (at as u16, members.len() as u16);
        Some(Self { at, of })
    }

    /// Whether it is paired with that member of a neighbouring position.
    pub(super) fn is_paired(self, other: Self) -> bool {
        let pairs = self.of.min(other.of).max(1);
        pairs == 1 || self.at % pairs == other.at % pairs
    }

    /// Whether it is the first of its position that is paired with some members of one of so many.
    pub(super) fn is_first(self, others: u16) -> bool {
        self.at < self.of.min(others).max(1)
    }

    /// Those of a neighbouring position's members that it is paired with.
    pub(super) fn partners(self, members: &[Link]) -> impl Iterator<Item = &Link> + use<'_> {
        let of = members.len() as u16;
        let is_partner = move |(at, _): &(u16, &Link)| self.is_paired(Self { at: *at, of });
        (0..).zip(members).filter(is_partner).map(|(_, link)| link)
    }
}

impl Default for PositionId {
    fn default() -> Self {
        Self::CENTER
    }
}

impl Table {
    /// Of a ring's members those that this peer is paired with, and all others of its own position.
    pub(super) fn partners<'a>(&self, ring: &'a Slots) -> impl Iterator<Item = Peer> + use<'a> {
        let (mine, rank) = (self.mine, self.rank);
        let of_cell = move |cell: &'a Cell| {
            let is_mine = cell.position == mine;
            let rank = if is_mine { Rank::default() } else { rank };
            rank.partners(ring.members(cell)).map(|link| link.peer)
        };
        ring.cells.iter().flat_map(of_cell)
    }

    /// The position that a neighbour is a member of, and its place there.
    pub(super) fn seat_of(&self, peer: Peer) -> Option<(PositionId, Rank)> {
        let seat = self.own.seat_of(peer).or_else(|| self.below.seat_of(peer));
        seat.or_else(|| Some((self.above, Rank::among(&self.parent, peer)?)))
    }

    /// Whether the peer is a child, and this one the first of its parents that is paired with it.
    pub(super) fn is_first_above(&self, child: Peer) -> bool {
        let seat = self.below.seat_of(child);
        seat.is_some_and(|(_, rank)| self.rank.is_first(rank.of))
    }

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

    /// Shows the handles of all members.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        let rings = self.own.links.iter().chain(&self.below.links);
        rings.chain(&self.parent).for_each(|link| see(link.peer));
    }
}

impl Slots {
    /// Derives the table of a ring anew, given the links that stand. The array of coordinates puts the
    /// positions in order.
    pub(super) fn derive(&mut self, ring: &Ring, is_up: impl Fn(Peer) -> bool) {
        let home = |(position, coordinate)| Home {
            position,
            coordinate,
            first: 0,
            len: 0,
            has_cell: false,
        };
        let mut homes: SmallVec<[Home; 64]> = ring.labels().map(home).collect();
        // Both are by position; some members may be of a position that is not known.
        let mut members = (0_u16..).zip(ring.homes()).peekable();
        for home in &mut homes {
            while members.next_if(|(_, at)| *at < home.position).is_some() {}
            home.first = members.peek().map_or(0, |(at, _)| *at);
            while members.next_if(|(_, at)| *at == home.position).is_some() {
                home.len += 1;
            }
        }
        // What is known of a link stands in the old table, mostly at much the same place.
        let before = std::mem::take(&mut self.links);
        let mut at = 0;
        let mut linked = |peer: Peer| {
            let mut ahead = before[at..].iter().take(LOOK_AHEAD);
            if let Some(passed) = ahead.position(|link| link.peer == peer) {
                at += passed + 1;
                return before[at - 1];
            }
            let is_up = is_up(peer);
            Link { peer, is_up }
        };

        let len = homes.iter().map(|home| home.coordinate as usize + 1).max();
        self.by_coordinate.clear();
        self.by_coordinate.reserve_exact(len.unwrap_or(0));
        self.by_coordinate.resize(len.unwrap_or(0), 0);
        self.is_doubled = false;
        // A coordinate given twice is one position's for everyone alike, until the keeper has written
        // another one.
        let claim = |home: &Home| ring.position(home.position).map(Position::claim);
        for (index, home) in homes.iter().enumerate() {
            let slot = &mut self.by_coordinate[home.coordinate as usize];
            let other = slot.checked_sub(1).map(|other| &homes[usize::from(other)]);
            self.is_doubled |= other.is_some();
            if other.is_none_or(|other| claim(home) < claim(other)) {
                *slot = index as u16 + 1;
            }
        }

        self.cells.clear();
        self.cells.reserve_exact(homes.len());
        self.links.reserve_exact(ring.population());
        let mut by_coordinate = std::mem::take(&mut self.by_coordinate);
        for slot in by_coordinate.iter_mut().filter(|slot| **slot > 0) {
            let home = &mut homes[usize::from(*slot) - 1];
            self.settle(home, ring, &mut linked);
            home.has_cell = true;
            *slot = self.cells.len() as u16;
        }
        self.by_coordinate = by_coordinate;
        for home in homes.iter().filter(|home| !home.has_cell) {
            self.settle(home, ring, &mut linked);
        }
    }

    /// Gives a position its cell.
    fn settle(&mut self, home: &Home, ring: &Ring, linked: impl FnMut(Peer) -> Link) {
        let first = self.links.len();
        let members = usize::from(home.first)..usize::from(home.first + home.len);
        self.links.extend(ring.peers_in(members).map(linked));
        self.cells.push(Cell {
            position: home.position,
            coordinate: home.coordinate,
            first: first as u16,
            len: (self.links.len() - first) as u16,
        });
    }

    /// All positions.
    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The members of a position of this ring, the longest granted first.
    pub(super) fn members(&self, cell: &Cell) -> &[Link] {
        &self.links[usize::from(cell.first)..][..usize::from(cell.len)]
    }

    /// The position of this ring that a peer is a member of, and its place there.
    pub(super) fn seat_of(&self, peer: Peer) -> Option<(PositionId, Rank)> {
        let at = self.links.iter().position(|link| link.peer == peer)? as u16;
        let holds = |cell: &&Cell| (cell.first..cell.first + cell.len).contains(&at);
        let cell = self.cells.iter().find(holds)?;
        let (at, of) = (at - cell.first, cell.len);
        Some((cell.position, Rank { at, of }))
    }

    /// The members of the position of this id, the longest granted first.
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
