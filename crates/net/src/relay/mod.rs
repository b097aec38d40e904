//! Relays: peers that others can reach pass packets on to those that nobody can dial.
//!
//! ```text
//! A ──TCP, TLS──> relay of P <──TCP, TLS── B     sealed QUIC packets, until A and B have opened
//! A <────────────── UDP ────────────────> B     a direct path with what P told them of themselves
//! ```
//!
//! A relay is named by a URL that says all there is to know, so that nobody is asked for anything:
//! whose it is, where, and on which ports. Both ends of its TLS are keys (RFC 7250), the host's is
//! its PeerId; there are no certificates and no authorities. What it passes on is QUIC between the
//! two peers, which it cannot read.

mod host;
mod names;
mod tls;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use data_encoding::HEXLOWER;
use iroh::RelayUrl;
use ringweave_ids::PeerId;

pub(crate) use self::{host::Host, names::resolver, tls::trust};

/// What ends the name of every relay: a domain that will never exist (RFC 2606).
const DOMAIN: &str = "ringweave.invalid";

/// A relay: whose, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    /// The peer that hosts it.
    pub(crate) host: PeerId,
    /// Where it takes TCP connections.
    pub(crate) address: SocketAddr,
    /// The UDP port, at the same address, where it tells peers how they look from outside.
    pub(crate) mirror: u16,
}

impl Site {
    /// `https://PEERID.MIRROR.IP.ringweave.invalid:PORT/`, the IP in hexadecimal.
    pub(crate) fn text(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) => HEXLOWER.encode(&ip.octets()),
            IpAddr::V6(ip) => HEXLOWER.encode(&ip.octets()),
        };
        let (host, mirror, port) = (self.host, self.mirror, self.address.port());
        format!("https://{host}.{mirror}.{ip}.{DOMAIN}:{port}/")
    }

    /// The same as iroh names relays.
    pub(crate) fn url(&self) -> RelayUrl {
        self.text()
            .parse()
            .expect("letters, digits and dots make a URL")
    }

    /// Reads what [`text`](Self::text) wrote, and nothing else.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (name, port) = text
            .strip_prefix("https://")?
            .strip_suffix('/')?
            .rsplit_once(':')?;
        let (host, mirror, ip) = read_name(name)?;
        let site = Self {
            host,
            address: SocketAddr::new(ip, port.parse().ok()?),
            mirror,
        };
        // One relay has one name: no leading zeros, no capitals. 443 would be left out by others.
        (site.text() == text && site.address.port() != 443).then_some(site)
    }
}

/// What the name in a relay's URL says: whose it is, its mirror's port, its address.
fn read_name(name: &str) -> Option<(PeerId, u16, IpAddr)> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut words = name.strip_suffix(DOMAIN)?.strip_suffix('.')?.split('.');
    let (host, mirror, ip) = (words.next()?, words.next()?, words.next()?);
    let ip = HEXLOWER.decode(ip.as_bytes()).ok()?;
    let ip = match (
        <[u8; 4]>::try_from(ip.as_slice()),
        <[u8; 16]>::try_from(ip.as_slice()),
    ) {
        (Ok(octets), _) => IpAddr::V4(Ipv4Addr::from(octets)),
        (_, Ok(octets)) => IpAddr::V6(Ipv6Addr::from(octets)),
        _ => return None,
    };
    words
        .next()
        .is_none()
        .then_some((host.parse().ok()?, mirror.parse().ok()?, ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(address: &str) -> Site {
        Site {
            host: PeerId::from_bytes([7; 32]),
            address: address.parse().unwrap(),
            mirror: 4_001,
        }
    }

    #[test]
    fn a_name_says_whose_and_where() {
        for address in ["198.18.1.2:4000", "[2001:db8::2]:65535"] {
            let site = site(address);
            assert_eq!(Site::read(&site.text()), Some(site));
            assert_eq!(site.url().as_str(), site.text());
            let url = site.url();
            let name = url.host_str().unwrap();
            assert_eq!(
                read_name(name),
                Some((site.host, site.mirror, site.address.ip()))
            );
        }
    }

    #[test]
    fn other_names_are_no_relays() {
        let text = site("198.18.1.2:4000").text();
        for text in [
            "",
            "https://relay.example.com:4000/",
            &text.replace("invalid", "example"),
            &text.replace("4001", "04001"),
            &text.replace("https", "http"),
            &text.replace(":4000", ":443"),
            &text.to_uppercase(),
            &format!("{text}?token=1"),
        ] {
            assert_eq!(Site::read(text), None, "{text}");
        }
    }
}
