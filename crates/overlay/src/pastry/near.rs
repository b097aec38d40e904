//! The neighbourhood set: the nearest peers by measured round trip, wherever their points are. Messages
//! are not routed over it; it is where nearer entries for the table come from.

use ringweave_ids::{Peer, Random};

/// Peers kept. From the paper (section 2.2): 2^b or twice as many.
pub(super) const ROOM: usize = 16;

/// The nearest, each with its round trip in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Near(Vec<(Peer, u32)>);

impl Near {
    /// A round trip was measured.
    pub(super) fn offer(&mut self, peer: Peer, trip_us: u32) {
        self.remove(peer);
        let at = self.0.partition_point(|(_, known)| *known <= trip_us);
        if at >= ROOM {
            return;
        }
        self.0.truncate(ROOM - 1);
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(4);
        }
        self.0.insert(at, (peer, trip_us));
    }

    pub(super) fn remove(&mut self, peer: Peer) {
        self.0.retain(|(known, _)| *known != peer);
    }

    /// Any of them.
    pub(super) fn any(&self, random: &mut Random) -> Option<Peer> {
        random.pick(&self.0).map(|(peer, _)| *peer)
    }

    /// All, nearest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Peer> {
        self.0.iter().map(|(peer, _)| *peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_stay() {
        let mut near = Near::default();
        for peer in 0..40 {
            near.offer(Peer(peer), 1_000 - peer);
        }
        near.offer(Peer(30), 1);
        let peers: Vec<_> = near.iter().map(|it| it.0).collect();
        assert_eq!(peers[..3], [30, 39, 38]);
        assert_eq!(peers.len(), ROOM);
    }
}
