//! What the ring below a position knows of the ring that the position sits in: its outline, which is all
//! members of the position itself, and of every other one the longest granted. An heir needs no more to
//! be heard in the ring above; there it learns the rest, and how large the branches are. Most peers are leaves: what they hold, and are
//! told, is what a network costs.

use std::sync::Arc;

use ringweave_ids::Peer;
use smallvec::SmallVec;

use super::{
    Cx, Polyring, Position, PositionId, Ring, Roster, Version, message::MAX_RECORDS, table::Role,
};

/// Members of an outline, before there is an allocation.
const FEW: usize = 64;

/// Something changed in my ring, and the ring below may not know it yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tiding {
    /// The record of a peer.
    Member(Peer),
    /// The label of a position.
    Position(PositionId),
}

impl Polyring {
    /// The outline of my ring for the ring below my position.
    pub(super) fn outline(&self) -> SmallVec<[Peer; FEW]> {
        let mine = self.table.mine;
        let slots = &self.table.own;
        let of = |cell: &super::table::Cell| {
            let members = slots.members(cell);
            let count = if cell.position == mine {
                members.len()
            } else {
                1
            };
            members.iter().take(count)
        };
        slots
            .cells()
            .iter()
            .flat_map(of)
            .map(|link| link.peer)
            .collect()
    }

    /// The digest of that outline: what all in the ring below should have of the ring above.
    pub fn outline_digest(&self) -> u64 {
        let digest = || self.own.digest_of(self.outline().into_iter());
        self.table.outline.unwrap_or_else(digest)
    }

    /// Remembers that digest where this neighbour will be told it, or have it compared.
    pub(super) fn digest_outline(&mut self, neighbour: Peer) {
        if self.table.outline.is_none() && self.is_outlined(neighbour, self.own.id) {
            self.table.outline = Some(self.outline_digest());
        }
    }

    /// What this peer knows of the ring above, for siblings in the same process to share.
    pub const fn above(&self) -> &Arc<Ring> {
        &self.above
    }

    /// Shares what a sibling in the same process knows of the ring above, if it is the same to the last
    /// record: in a process with a million peers it is a tenth of its memory. Whether it is.
    pub fn share_above(&mut self, siblings: &Arc<Ring>) -> bool {
        let is_alike = Arc::ptr_eq(&self.above, siblings) || self.above.is_alike(siblings);
        if is_alike {
            self.above = Arc::clone(siblings);
        }
        is_alike
    }

    /// The outline of my ring as a roster.
    pub(super) fn outline_roster(&self) -> Roster {
        let outline = self.outline().into_iter();
        let living = outline.filter_map(|peer| self.own.living_record(peer));
        let members = living.chain(self.own.gone());
        let positions = self.own.staffed().cloned().map(Position::uncounted);
        Roster {
            ring: self.own.id,
            members: members.take(MAX_RECORDS).cloned().collect(),
            positions: positions.take(MAX_RECORDS).collect(),
        }
    }

    /// Whether this neighbour holds only the outline of that ring.
    fn is_outlined(&self, peer: Peer, ring: PositionId) -> bool {
        ring == self.own.id && self.below.lives(peer) && !self.own.lives(peer)
    }

    /// The digest that this neighbour should have of a ring of mine.
    pub(super) fn digest_for(&self, peer: Peer, ring: &Ring) -> u64 {
        if self.is_outlined(peer, ring.id) {
            self.outline_digest()
        } else {
            ring.digest()
        }
    }

    /// What this neighbour should hold of a ring of mine.
    pub(super) fn versions_for(&self, peer: Peer, ring: &Ring) -> Vec<Version> {
        if self.is_outlined(peer, ring.id) {
            let outline = self.outline();
            ring.versions_of(|peer| outline.contains(&peer))
        } else {
            ring.versions()
        }
    }

    /// Who becomes the leader says hello to the children: what changed since the last one died, they may
    /// not have heard.
    pub(super) fn watch_lead(&mut self, cx: &mut Cx<'_>) {
        let leads = self.is_leader();
        if leads && !self.leads {
            let children: SmallVec<[Peer; FEW]> = self.links.linked(Role::Child).collect();
            for child in children {
                self.send_hello(cx, child);
            }
        }
        self.leads = leads;
    }

    /// As the leader: tells the children what has changed since in the outline that they hold.
    pub(super) fn tell_outline(&mut self, cx: &mut Cx<'_>, before: &[Peer]) {
        let tidings = std::mem::take(&mut self.tidings);
        if self.below.is_empty() || !self.is_leader() {
            return;
        }
        let after = self.outline();
        let is_known = |peer: &Peer| before.contains(peer) || after.contains(peer);
        let mut peers: SmallVec<[Peer; FEW]> = SmallVec::new();
        let mut positions: Vec<Position> = Vec::new();
        let mut add = |position: Option<&Position>| {
            let news = position.filter(|it| positions.iter().all(|known| known.id() != it.id()));
            positions.extend(news.cloned());
        };
        for tiding in tidings {
            match tiding {
                Tiding::Member(peer) if is_known(&peer) && !peers.contains(&peer) => {
                    peers.push(peer);
                }
                Tiding::Member(_) => {}
                Tiding::Position(id) => add(self.own.position(id)),
            }
        }
        let promoted = after.iter().filter(|peer| !before.contains(peer));
        for peer in promoted {
            if !peers.contains(peer) {
                peers.push(*peer);
            }
        }
        let records = peers.iter().filter_map(|peer| self.own.record(*peer));
        let members: Vec<_> = records.cloned().collect();
        let seats = members.iter().filter_map(|record| record.seat);
        for seat in seats {
            add(self.own.position(seat.position));
        }
        if members.is_empty() && positions.is_empty() {
            return;
        }
        for child in self.living_peers(&self.below, cx.me()) {
            self.send_records(cx, child, self.own.id, members.clone(), positions.clone());
        }
    }
}
