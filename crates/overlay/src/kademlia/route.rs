//! The pure questions: where next, whom a broadcast is delegated to, who is near.

use ringweave_ids::{Guid, Peer, Point};

use super::{Kademlia, Way};
use crate::{Contact, Hop, Target, View, lookup::Lookup};

impl Kademlia {
    /// The neighbours to whom connections stand.
    fn linked(&self) -> impl Iterator<Item = &Way> {
        self.ways.iter().filter(|way| way.is_up)
    }

    /// On to the neighbour closest to the target, if it is closer than this peer.
    pub(super) fn step(&self, view: &View<'_, Self>, target: &Target<Guid>) -> Hop<Guid> {
        let Some(point) = target.point() else {
            return match target {
                Target::All => Hop::Arrived,
                _ => Hop::Nobody,
            };
        };
        if point == self.me.point {
            return Hop::Arrived;
        }
        let distance = |way: &&Way| way.point.xor(point);
        let is_closer = |way: &&Way| distance(way) < self.me.point.xor(point);
        if let Some(way) = self.linked().min_by_key(distance).filter(is_closer) {
            return Hop::To(way.peer);
        }
        match target {
            Target::Key { .. } => Hop::Arrived,
            // One who is only just arriving holds a connection here before it is in the table.
            Target::Peer { id, .. }
                if let Some(peer) = view.host.peer(id)
                    && self.links.is_up(peer) =>
            {
                Hop::To(peer)
            }
            _ if self.ways.iter().any(|way| is_closer(&way)) => Hop::Cut,
            _ => Hop::Nobody,
        }
    }

    /// Each subtree beside this peer's own, from the depth on, is delegated to one peer in it.
    pub(super) fn delegate(&self, depth: u8, flow: u64, copies: &mut Vec<(Peer, u8)>) {
        for bucket in self.ways.chunk_by(|a, b| a.bucket == b.bucket) {
            let linked = || bucket.iter().filter(|way| way.is_up);
            let choice = flow.checked_rem(linked().count() as u64);
            let delegate = choice.and_then(|choice| linked().nth(choice as usize));
            if let Some(way) = delegate.filter(|way| way.bucket >= depth) {
                copies.push((way.peer, way.bucket + 1));
            }
        }
    }

    /// The up to `n` linked peers closest to a point, closest first.
    pub(super) fn nearest(&self, point: Point, n: usize, found: &mut Vec<Peer>) {
        let mut linked: Vec<_> = self.linked().collect();
        linked.sort_unstable_by_key(|way| way.point.xor(point));
        found.extend(linked.iter().map(|way| way.peer).take(n));
    }

    /// Looks the k closest peers to a point up where all tables can be asked at once (section 2.3): whom
    /// it finds, closest first, and how many it asked. `table` has the machine of a peer, if it lives.
    /// For simulations and measurements.
    pub fn look_up<'a>(
        &'a self,
        view: &View<'_, Self>,
        target: Point,
        table: &dyn Fn(Peer) -> Option<&'a Self>,
    ) -> (Vec<Contact>, usize) {
        let width = view.config.width();
        let known = self.closest_known(view, target, width.closest);
        let mut lookup = Lookup::new(target, Point::xor, width, known);
        let mut asked = 0;
        while let Some(next) = lookup.next() {
            asked += 1;
            match table(next.peer) {
                Some(it) => lookup.answered(next.peer, it.answer(view, target, view.me)),
                None => lookup.failed(next.peer),
            }
        }
        (lookup.closest().collect(), asked)
    }
}
