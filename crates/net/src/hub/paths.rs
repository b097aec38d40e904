//! Paths: how each neighbour is reached, and why so.

use iroh::{TransportAddr, endpoint::Connection};
use ringweave_ids::{Guid, Peer, PeerId, Time};
use ringweave_overlay::{Host as _, Neighbour};

use super::{Hub, links::Link};
use crate::{handle::PeerInfo, relay::Site};

/// The role of the peer through which messages go where there is no connection.
const PARENT: &str = "parent";

/// How packets go on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From socket to socket.
    Direct,
    /// Through the relay of this peer, if it has a name that we know.
    Relay(Option<PeerId>),
}

impl Way {
    /// The word of the contract.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay(_) => "relay",
        }
    }

    /// Whose relay.
    pub(super) const fn relay(self) -> Option<PeerId> {
        match self {
            Self::Direct => None,
            Self::Relay(host) => host,
        }
    }
}

/// The way that a connection's packets go now.
pub(super) fn way(connection: &Connection) -> Option<Way> {
    let paths = connection.paths();
    let path = paths.iter().find(|path| path.is_selected())?;
    Some(match path.remote_addr() {
        TransportAddr::Relay(url) => Way::Relay(Site::read(url.as_str()).map(|site| site.host)),
        _ => Way::Direct,
    })
}

impl Hub {
    /// This peer's neighbours, and how each is reached.
    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        let mut neighbours = Vec::new();
        self.node().neighbours(&mut neighbours);
        let has_parent = neighbours
            .iter()
            .any(|neighbour| neighbour.role == PARENT && self.link(neighbour.peer).is_some());
        neighbours
            .into_iter()
            .map(|neighbour| self.peer_info(neighbour, has_parent))
            .collect()
    }

    fn peer_info(&self, neighbour: Neighbour<Guid>, has_parent: bool) -> PeerInfo {
        let peer = neighbour.peer;
        let link = self.link(peer);
        let way = link.and_then(|link| way(&link.connection));
        let (path, why) = match (link, way) {
            (Some(link), Some(way)) => (way.word(), self.why_so(link, way)),
            // The connection has just broken, or its first path is being chosen.
            (Some(_), None) => ("none", "the path is being chosen".into()),
            (None, _) => {
                let is_passed_on = has_parent && neighbour.role != PARENT;
                (
                    if is_passed_on { PARENT } else { "none" },
                    self.why_not(peer),
                )
            }
        };
        let round_trip = link.and_then(|link| {
            let paths = link.connection.paths();
            let path = paths.iter().find(|path| path.is_selected())?;
            Some(path.rtt())
        });
        let addresses = self.book.addresses(peer);
        PeerInfo {
            peer_id: self.book.id(peer),
            role: neighbour.role.into(),
            guid: neighbour.address,
            linked: link.is_some(),
            path: path.into(),
            relay: way.and_then(Way::relay),
            why,
            round_trip,
            addresses: addresses.iter().map(ToString::to_string).collect(),
        }
    }

    fn why_so(&self, link: &Link, way: Way) -> String {
        let is_theirs = self
            .site(link.id.peer)
            .is_some_and(|site| site.host == self.book.id(link.id.peer));
        match way {
            Way::Direct if self.is_advertised(link) => "it is at an address that it names".into(),
            Way::Direct if !link.is_mine && link.began == Some(Way::Direct) => {
                "it dialled this peer".into()
            }
            Way::Direct => "a direct path opened through the NATs".into(),
            Way::Relay(_) if is_theirs || self.relays.reach.is_proven() => {
                "no direct path yet: one of the two is behind a NAT".into()
            }
            Way::Relay(_) => "no direct path yet: both are behind NATs".into(),
        }
    }

    /// Whether a link's packets go to an address that the peer itself, or whoever told of it, named.
    fn is_advertised(&self, link: &Link) -> bool {
        let paths = link.connection.paths();
        let selected = paths.iter().find(|path| path.is_selected());
        selected.is_some_and(|path| match path.remote_addr() {
            TransportAddr::Ip(address) => self.book.addresses(link.id.peer).contains(address),
            _ => false,
        })
    }

    fn why_not(&self, peer: Peer) -> String {
        let dial = self
            .slots
            .get(peer.0 as usize)
            .and_then(|slot| slot.dial.as_ref());
        let failure = self.rests.failure(&self.book.id(peer));
        match (dial, failure) {
            (Some(dial), _) if dial.is_running => "it is being dialled".into(),
            (_, Some((failed, until))) => format!(
                "a dial failed {} s ago{}",
                self.now.since(failed).as_secs(),
                next(until, self.now)
            ),
            _ => "not dialled yet".into(),
        }
    }
}

fn next(until: Time, now: Time) -> String {
    let rest = until.since(now).as_secs();
    if rest == 0 {
        String::new()
    } else {
        format!(", it is left alone for {rest} s more")
    }
}
