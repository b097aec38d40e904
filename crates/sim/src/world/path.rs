//! The way of a message over tables as they are, hop by hop.

use std::fmt::Debug;

use ringweave_node::at_hop;
use ringweave_overlay::{Hop, Target};

/// Hops after which a way is given up as a loop, as the router does.
const LOOP: usize = 64;

/// Follows a message from peer to peer until one says that it has arrived: who, and after how many
/// hops. `next` asks a peer for the next hop; it has no answer for who is down.
///
/// # Errors
/// Why it does not arrive, in words.
pub(super) fn follow<A: Debug>(
    from: u32,
    mut target: Target<A>,
    flow: u64,
    next: impl Fn(u32, &Target<A>, u64) -> Option<Hop<A>>,
) -> Result<(u32, usize), String> {
    let (mut at, mut hops) = (from, 0);
    let mut way = Vec::new();
    loop {
        way.push(at);
        let hop = next(at, &target, at_hop(flow, hops as u8));
        match hop.ok_or_else(|| format!("peer {at} is down"))? {
            Hop::Arrived => return Ok((at, hops)),
            Hop::To(peer) => at = peer.0,
            Hop::Corrected(peer, right) => {
                at = peer.0;
                if let Target::Peer { address, .. } = &mut target {
                    *address = right;
                }
            }
            other => return Err(format!("{other:?} at peer {at}")),
        }
        hops += 1;
        if hops > LOOP {
            let last = way.iter().rposition(|peer| *peer == at).unwrap_or_default();
            return Err(format!("it goes round between peers {:?}", &way[last..]));
        }
    }
}
