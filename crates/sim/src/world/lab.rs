//! What the laboratory asks of a topology beside its protocol: how to make one at once, what must
//! hold at rest, and which of its messages a canary may swallow.

use ringweave_ids::{Guid, Key, Peer};
use ringweave_overlay::View;

use super::{check::Findings, circle::Circle, keys::Keys, standing::Standing};
use crate::Scenario;

/// A topology in the laboratory.
pub(crate) trait Lab: Standing {
    /// Its name.
    const NAME: &'static str;

    /// As its machines say ([`Overlay::is_structured`](ringweave_overlay::Overlay::is_structured)).
    const IS_STRUCTURED: bool = true;

    /// What all peers agree on.
    fn config(scenario: &Scenario) -> Self::Config;

    /// The machines of `peers` peers with ready tables, by handle; every wanted connection stands.
    fn build(keys: &Keys, config: &Self::Config, peers: u32) -> Vec<Self>;

    /// The coordinates of an address, from the center outward; none where it has no levels.
    fn coordinates(_: &Self::Address) -> Vec<u32> {
        Vec::new()
    }

    /// The most hops between two addresses at rest.
    fn bound(config: &Self::Config, from: &Self::Address, to: &Self::Address) -> usize;

    /// Whether the address is in the ring below the place, or at the place itself.
    fn is_at(_: &Self::Address, _: &Guid, _is_ring: bool) -> bool {
        false
    }

    /// Looks at all tables at once, and notes what does not hold; `peers` are in order of handle.
    fn inspect(config: &Self::Config, peers: &[(u32, &Self)], findings: &mut Findings);

    /// Looks the peers closest to a key up by asking one table after the other: how many were asked, if
    /// it finds exactly those of `circle` that are closest. Nothing where peers do not look up so.
    fn look_up<'a>(
        &'a self,
        _: &View<'_, Self>,
        _: &Circle,
        _: &Key,
        _table: &dyn Fn(Peer) -> Option<&'a Self>,
    ) -> Option<usize> {
        None
    }

    /// What peers hold alike, to be held once.
    type Shared: Default + Send;

    /// Gives up its own copy of what others hold alike; nothing that it does depends on it.
    fn share(&mut self, _: &mut Self::Shared) {}

    /// Whether a message tells of a change.
    fn is_news(message: &Self::Message) -> bool;

    /// Whether a message belongs to the repair of differences.
    fn is_repair(_: &Self::Message) -> bool {
        false
    }

    /// A message that slips the peer `ghost` into this machine's table, and its alleged sender.
    fn forge(&self, _: &Keys, _ghost: u32) -> Option<(u32, Self::Message)> {
        None
    }
}
