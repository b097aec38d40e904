//! The door: sockets to listen on, and strangers who knock.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use iroh::{
    Endpoint, NetReportConfig, RelayMap, RelayMode, SecretKey,
    endpoint::{
        BindOpts, Incoming, IncomingAddr, LocalTransportAddr, PortmapperConfig,
        QuicTransportConfig, VarInt, presets,
    },
};
use netwatch::ip::LocalAddresses;
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::{
    card::ADDRESSES,
    event::{Event, Guest},
    gate::{ALPN, Gate},
    reach::is_public,
    relay,
    settings::StartError,
};

/// Connections that have not greeted yet, at once; more are turned away by QUIC itself.
const STRANGERS: usize = 64;
/// How long a stranger has for QUIC's handshake and its greeting.
const GREETING: Duration = Duration::from_secs(5);
/// Bytes of one stream that may be under way: 100 MB/s at 40 ms.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of one connection that may be under way, both ways.
const WINDOW: u32 = 8 * 1024 * 1024;
/// Beats are a byte each; nothing else goes by datagram.
const DATAGRAMS: usize = 4 * 1024;
/// Two streams each way, the greeting, and one note at a time.
const STREAMS: u32 = 3;

/// Whether an endpoint may ever use relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relays {
    /// Those that peers of the network host, as they become known.
    OfPeers,
    /// None.
    Nobodys,
}

/// Listens where it was asked to, and nowhere else; contacts nobody by itself.
pub(crate) async fn bind(
    key: &SecretKey,
    listen: &[SocketAddr],
    relays: Relays,
) -> Result<Endpoint, StartError> {
    for address in listen {
        probe(*address)?;
    }
    let mut builder = Endpoint::builder(presets::Minimal)
        .secret_key(key.clone())
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(match relays {
            Relays::OfPeers => RelayMode::Custom(RelayMap::empty()),
            Relays::Nobodys => RelayMode::Disabled,
        })
        .ca_tls_config(relay::trust())
        .clear_address_lookup()
        .dns_resolver(relay::resolver())
        .portmapper_config(PortmapperConfig::Disabled)
        .net_report_config(NetReportConfig::minimal())
        .transport_config(transport())
        .clear_ip_transports();
    let (mut has_v4, mut has_v6) = (false, false);
    for address in listen {
        // Of each family, the first one is the way out to everywhere.
        let is_first = !std::mem::replace(
            if address.is_ipv4() {
                &mut has_v4
            } else {
                &mut has_v6
            },
            true,
        );
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let options = BindOpts::default().set_prefix_len(if is_first { 0 } else { whole });
        builder = builder
            .bind_addr_with_opts(*address, options)
            .map_err(|error| StartError::Endpoint(error.to_string()))?;
    }
    builder.bind().await.map_err(|error| {
        // Another program may have come in between.
        listen
            .iter()
            .find_map(|address| probe(*address).err())
            .unwrap_or(StartError::Endpoint(format!("{error:#}")))
    })
}

/// Whether an address is free; the endpoint itself does not say which of several was not.
fn probe(address: SocketAddr) -> Result<(), StartError> {
    match UdpSocket::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(StartError::PortInUse(address))
        }
        Err(source) => Err(StartError::Listen { address, source }),
    }
}

fn transport() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .datagram_send_buffer_size(DATAGRAMS)
        .build()
}

/// Where others reach this peer: its sockets, on every interface where they are on all.
pub(crate) fn reachable(bound: &[SocketAddr]) -> Vec<SocketAddr> {
    let local = LocalAddresses::new();
    let mut addresses = BTreeSet::new();
    for socket in bound {
        if !socket.ip().is_unspecified() {
            addresses.insert(*socket);
            continue;
        }
        let is_same_family = |address: &&IpAddr| address.is_ipv4() == socket.is_ipv4();
        let is_global = |address: &&IpAddr| match address {
            IpAddr::V4(_) => true,
            // A link-local address means nothing without its interface.
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        };
        let regular: Vec<_> = local
            .regular
            .iter()
            .filter(is_same_family)
            .filter(is_global)
            .collect();
        let chosen = if regular.is_empty() {
            local.loopback.iter().filter(is_same_family).collect()
        } else {
            regular
        };
        addresses.extend(
            chosen
                .into_iter()
                .map(|address| SocketAddr::new(*address, socket.port())),
        );
    }
    addresses.into_iter().take(ADDRESSES).collect()
}

/// Lets strangers greet, a bounded number at a time, and hands those who pass to the event loop.
pub(crate) async fn accept(endpoint: Endpoint, gate: Arc<Gate>, events: mpsc::Sender<Event>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(place) = Arc::clone(&strangers).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let (gate, events) = (Arc::clone(&gate), events.clone());
        let at = dialled_at(&incoming);
        tokio::spawn(async move {
            let greeting = async {
                let connection = incoming.await.ok()?;
                let (hello, send) = gate.receive(&connection).await.ok()?;
                Some(Guest {
                    connection,
                    hello,
                    send,
                    at,
                })
            };
            if let Ok(Some(guest)) = timeout(GREETING, greeting).await {
                // The loop may be gone.
                let _ = events.send(Event::Knocked(Box::new(guest))).await;
            }
            drop(place);
        });
    }
}

/// The public address at which a stranger dials, if it comes from a public one: those of one house
/// say nothing about the world.
fn dialled_at(incoming: &Incoming) -> Option<IpAddr> {
    match (incoming.local_addr(), incoming.remote_addr()) {
        (LocalTransportAddr::Ip(Some(at)), IncomingAddr::Ip(from)) => {
            (is_public(&at) && is_public(&from.ip())).then_some(at.to_canonical())
        }
        _ => None,
    }
}
