//! The local network: peers of one network find each other by multicast DNS (RFC 6762, RFC 6763).
//!
//! What is announced: who this peer is, its port, and a hash of the network's id, by which members
//! know each other and strangers learn nothing they could join with.

use std::net::SocketAddr;

use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use ringweave_ids::PeerId;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{card::ADDRESSES, event::Event};

const SERVICE: &str = "_ringweave._udp.local.";
/// Sets the announced hash apart from other hashes of the network's id.
const CONTEXT: &str = "ringweave 2026 local network discovery";
/// Characters of the hash that are announced.
const TAG_LEN: usize = 16;

/// Announces this peer and listens for others until it is dropped.
pub(crate) struct Lan {
    daemon: ServiceDaemon,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

impl Lan {
    /// Starts; `port` is where this peer listens for connections.
    pub(crate) fn start(
        me: PeerId,
        network: &[u8; 32],
        port: u16,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, mdns_sd::Error> {
        let tag = tag(network);
        let daemon = ServiceDaemon::new()?;
        let properties = [("peer", me.to_string()), ("network", tag.clone())];
        let host = format!("{}.local.", me.short());
        let info = ServiceInfo::new(SERVICE, &me.short(), &host, "", port, &properties[..])?
            .enable_addr_auto();
        let found = daemon.browse(SERVICE)?;
        daemon.register(info)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok(event) = found.recv_async().await {
                let ServiceEvent::ServiceResolved(service) = event else {
                    continue;
                };
                if let Some((id, addresses)) = read(&service, &tag)
                    && id != me
                    && events.send(Event::Found(id, addresses)).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Self {
            daemon,
            _tasks: tasks,
        })
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // It says goodbye on the local network, on its own thread. One that has ended or has too much
        // to do says none, and its announcement runs out by itself.
        let _ = self.daemon.shutdown();
    }
}

fn tag(network: &[u8; 32]) -> String {
    let mut text = blake3::Hash::from_bytes(blake3::derive_key(CONTEXT, network))
        .to_hex()
        .to_string();
    text.truncate(TAG_LEN);
    text
}

/// A peer of the network with this tag.
fn read(service: &ResolvedService, tag: &str) -> Option<(PeerId, Vec<SocketAddr>)> {
    if service.get_property_val_str("network")? != tag {
        return None;
    }
    let id = service.get_property_val_str("peer")?.parse().ok()?;
    let addresses = service
        .get_addresses()
        .iter()
        .map(|address| address.to_ip_addr());
    let dialable = addresses.filter(|address| match address {
        std::net::IpAddr::V4(_) => true,
        // A link-local address means nothing without its interface.
        std::net::IpAddr::V6(address) => !address.is_unicast_link_local(),
    });
    Some((
        id,
        dialable
            .take(ADDRESSES)
            .map(|address| SocketAddr::new(address, service.get_port()))
            .collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_tells_networks_apart_and_not_which_they_are() {
        assert_ne!(tag(&[1; 32]), tag(&[2; 32]));
        assert_eq!(tag(&[1; 32]).len(), TAG_LEN);
        assert!(!tag(&[1; 32]).contains("0101010101"));
    }
}
