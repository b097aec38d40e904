//! Peers that were lost and may be alive beyond a split: tried again now and then, so that the parts
//! of a network find each other when they can. An extension of ours to the topologies whose papers
//! say nothing of splits.

use std::time::Duration;

use ringweave_ids::{Peer, Random, Time};

/// Peers remembered: the latest.
const ROOM: usize = 16;

/// How long each is remembered.
const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// The pace at which they are tried, one at a time.
pub(crate) const PROBE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(8));

/// The peers lost last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lost {
    list: Vec<(Peer, Time)>,
    is_probing: bool,
}

impl Lost {
    /// The peer is lost. Says whether a timer is to be asked for, [`PROBE`] from now.
    pub(crate) fn add(&mut self, now: Time, peer: Peer) -> bool {
        self.found(peer);
        if self.list.len() >= ROOM {
            self.list.remove(0);
        }
        self.list.push((peer, now));
        !std::mem::replace(&mut self.is_probing, true)
    }

    /// The peer was heard of.
    pub(crate) fn found(&mut self, peer: Peer) {
        self.list.retain(|(lost, _)| *lost != peer);
    }

    /// The timer ran out: whom to try. While there is one, the next timer is to be asked for.
    pub(crate) fn next(&mut self, now: Time, random: &mut Random) -> Option<Peer> {
        self.list.retain(|(_, since)| now.since(*since) < KEPT_FOR);
        let next = random.pick(&self.list).map(|(peer, _)| *peer);
        self.is_probing = next.is_some();
        next
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Peer> {
        self.list.iter().map(|(peer, _)| *peer)
    }
}
