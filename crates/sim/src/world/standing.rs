//! Where a peer stands among the others, as far as healing is concerned: the position it holds and
//! those above it, whom it takes for dead, and how many members its position has.

use ringweave_ids::{Guid, Peer, Step};
use ringweave_overlay::{
    Overlay,
    polyring::{Polyring, Proof},
};

/// What the laboratory asks of a topology to see how it heals.
pub(crate) trait Standing: Overlay {
    /// The positions from the center to the peer's own, each by what it is for good and by the
    /// coordinate that it has now.
    fn lineage(_: &Self::Address) -> Vec<Place> {
        Vec::new()
    }

    /// Shows every peer that this one takes for dead, with the incarnation that died.
    fn accused(&self, _: &mut dyn FnMut(u32, u64)) {}

    /// Whether this peer was granted its place, and did not take it over.
    fn is_granted(&self, _: Peer) -> bool {
        true
    }

    /// How many members the peer's position has, if there is a ring below it.
    fn cluster(&self) -> Option<u32> {
        None
    }
}

/// A position: what it is for good, and its coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: u32,
    pub(crate) coordinate: u32,
}

impl Standing for Polyring {
    fn lineage(address: &Guid) -> Vec<Place> {
        // The tag is the low half of the position's permanent id: enough to tell positions apart.
        let place = |step: &Step| Place {
            id: step.tag,
            coordinate: step.coordinate,
        };
        address.steps().iter().map(place).collect()
    }

    fn accused(&self, see: &mut dyn FnMut(u32, u64)) {
        for ring in self.rings() {
            for record in ring.records().filter(|record| record.accusation.is_some()) {
                see(record.peer.0, record.incarnation);
            }
        }
    }

    fn is_granted(&self, me: Peer) -> bool {
        let [own, ..] = self.rings();
        let record = own.living_record(me);
        record.is_some_and(|record| matches!(record.proof, Proof::Grant(_)))
    }

    fn cluster(&self) -> Option<u32> {
        let [own, below, _] = self.rings();
        below.living().next()?;
        Some(own.members_of(below.id).count() as u32)
    }
}
