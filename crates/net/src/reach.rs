//! Whether others reach this peer, and how it knows.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// What a peer knows of how others reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It listens on loopback only.
    Loopback,
    /// No address of it means anything to peers elsewhere.
    Private,
    /// It has a public address, at which nobody has dialled it.
    Unproven(IpAddr),
    /// A peer from elsewhere has dialled it at this public address.
    Proven(IpAddr),
}

impl Reach {
    /// What a peer's own addresses say.
    pub(crate) fn of(addresses: &[SocketAddr]) -> Self {
        let mut ips = addresses.iter().map(SocketAddr::ip);
        if let Some(ip) = ips.clone().find(is_public) {
            Self::Unproven(ip)
        } else if ips.all(|ip| ip.is_loopback()) {
            Self::Loopback
        } else {
            Self::Private
        }
    }

    /// Whether the peer, who meets the others at these addresses, lives behind a NAT: some of them are
    /// public, and none of its own is. Where all are private, they share a house and dial each other.
    pub(crate) fn is_behind(self, mut others: impl Iterator<Item = IpAddr>) -> bool {
        self == Self::Private && others.any(|ip| is_public(&ip))
    }

    /// Whether anybody may be expected to reach the peer.
    pub(crate) const fn is_proven(self) -> bool {
        matches!(self, Self::Proven(_))
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => write!(f, "it listens on loopback only"),
            Self::Private => write!(f, "all its addresses are private"),
            Self::Unproven(ip) => write!(f, "nobody has dialled it at {ip} yet"),
            Self::Proven(ip) => write!(f, "a peer from elsewhere has dialled it at {ip}"),
        }
    }
}

/// Whether an address means the same peer to everybody: not one of a house, a machine or a link.
pub(crate) fn is_public(ip: &IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            // The provider's side of a carrier's NAT (RFC 6598).
            let is_shared = first == 100 && second & 0xc0 == 64;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || is_shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unique_local()
                || ip.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_house_is_not_public() {
        for ip in [
            "10.0.0.2",
            "192.168.1.4",
            "172.31.0.1",
            "100.100.1.1",
            "127.0.0.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.2",
        ] {
            assert!(!is_public(&ip.parse().unwrap()), "{ip}");
        }
        for ip in ["198.18.1.2", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert!(is_public(&ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn who_meets_public_peers_from_a_private_address_is_behind_a_nat() {
        let house: IpAddr = "192.168.1.4".parse().unwrap();
        let public: IpAddr = "198.18.1.2".parse().unwrap();
        let is_behind = |reach: Reach, others: &[IpAddr]| reach.is_behind(others.iter().copied());
        assert!(is_behind(Reach::Private, &[house, public]));
        assert!(!is_behind(Reach::Private, &[house]));
        assert!(!is_behind(Reach::Private, &[]));
        assert!(!is_behind(Reach::Loopback, &[public]));
        assert!(!is_behind(Reach::Unproven(public), &[public]));
    }

    #[test]
    fn one_public_address_is_enough_to_be_dialled_at() {
        let of = |texts: &[&str]| {
            let addresses: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
            Reach::of(&addresses)
        };
        let public = "198.18.1.2".parse().unwrap();
        assert_eq!(of(&["127.0.0.1:1"]), Reach::Loopback);
        assert_eq!(of(&["10.0.0.2:1", "127.0.0.1:1"]), Reach::Private);
        assert_eq!(of(&["10.0.0.2:1", "198.18.1.2:1"]), Reach::Unproven(public));
    }
}
