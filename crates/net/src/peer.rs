//! Starting a peer: its directory, its network, its endpoint, its event loop.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use iroh::{
    Endpoint, NetReportConfig, RelayMode, SecretKey,
    dns::DnsResolver,
    endpoint::{BindOpts, PortmapperConfig, QuicTransportConfig, VarInt, presets},
};
use netwatch::ip::LocalAddresses;
use ringweave_ids::{Guid, PeerId};
use ringweave_node::Node;
use ringweave_overlay::{Overlay, Profile, polyring};
use thiserror::Error;
use tokio::{
    sync::{Semaphore, broadcast, mpsc, oneshot},
    time::timeout,
};

use crate::{
    book::Book,
    card::{ADDRESSES, Card},
    event::{EVENTS, Event},
    gate::{ALPN, Gate, Parting},
    handle::{Handle, REQUESTS},
    home::{Home, HomeError},
    hub::{About, Contacts, Ending, Hub, Parts},
    invite::Invite,
    lan::Lan,
    memory::{self, Memory, Met, Store},
    network::{Network, Policy, Secret, Shape, ShapeError, Topology},
};

/// Connections that have not greeted yet, at once; more are turned away by QUIC itself.
const STRANGERS: usize = 64;
/// How long a stranger has for QUIC's handshake and its greeting.
const GREETING: Duration = Duration::from_secs(5);
/// How long a first join may take.
const FIRST_JOIN: Duration = Duration::from_secs(10);
/// Events kept for a slow watcher.
const WATCHED: usize = 1_024;
/// Bytes of one stream that may be under way: 100 MB/s at 40 ms.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of one connection that may be under way, both ways.
const WINDOW: u32 = 8 * 1024 * 1024;
/// Beats are a byte each; nothing else goes by datagram.
const DATAGRAMS: usize = 4 * 1024;
/// Two streams each way, and the greeting.
const STREAMS: u32 = 2;

/// Where a peer keeps its key and its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// In this directory, made if there is none.
    Directory(PathBuf),
    /// Nowhere: the peer is a new one at each start.
    Ephemeral,
}

/// Which network a peer enters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The one its directory remembers; with none, a new one that this peer founds.
    New,
    /// The one of an invite.
    Join(Box<Invite>),
    /// The one its directory remembers.
    Remembered,
}

/// What a peer is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its key and memory are.
    pub data: Data,
    /// Socket addresses to listen on; port 0 takes any free one.
    pub listen: Vec<SocketAddr>,
    /// Which network it enters.
    pub entrance: Entrance,
    /// The shape of a new network, or what is asked of an existing one.
    pub shape: Shape,
    /// The name it gives itself.
    pub name: Option<String>,
    /// Where it belongs, from the outside in: `/eu/dk/copenhagen`; empty: anywhere.
    pub label: String,
    /// Whether it looks for peers on the local network and lets itself be found there.
    pub lan: bool,
}

impl Default for Settings {
    /// A peer of a new network, on loopback, that remembers nothing.
    fn default() -> Self {
        Self {
            data: Data::Ephemeral,
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            entrance: Entrance::New,
            shape: Shape::default(),
            name: None,
            label: String::new(),
            lan: false,
        }
    }
}

/// Why a peer did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its settings, or those of the network.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// No address to listen on.
    #[error("there is no address to listen on; give at least one, like 0.0.0.0:0")]
    NoAddress,
    /// Another program listens there.
    #[error("the address {0} is in use by another program; stop it, or listen on another port")]
    PortInUse(SocketAddr),
    /// The system would not let it listen there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The endpoint could not be made.
    #[error("cannot make a QUIC endpoint: {0}")]
    Endpoint(String),
    /// The directory belongs to another network.
    #[error(
        "the data directory belongs to the network {remembered}, but the invite leads to {invited}; use another directory"
    )]
    OtherNetwork {
        /// The one remembered.
        remembered: String,
        /// The one of the invite.
        invited: String,
    },
    /// The directory remembers no network.
    #[error("the data directory remembers no network; join one with an invite, or found a new one")]
    NothingRemembered,
    /// A closed network, and no secret.
    #[error(
        "the network is closed and the invite carries no admission; ask a member for an invite"
    )]
    NoAdmission,
    /// A member turned this peer away.
    #[error("refused by a peer of the network: {0}")]
    Refused(Parting),
    /// The network gave it no place.
    #[error("refused a place in the network: {0}")]
    NoPlace(String),
    /// Nobody answered.
    #[error("reached none of the {contacts} peers that the invite names within {} s; is one of them running and reachable from here?", FIRST_JOIN.as_secs())]
    NobodyReached {
        /// How many it names.
        contacts: usize,
    },
    /// The peer stopped while it joined.
    #[error("the peer stopped before it had joined")]
    Stopped,
}

/// Starts a peer; returns once it has a place in the network.
///
/// The first join with an invite gives up after 10 s; a peer that was a member before keeps trying.
///
/// # Errors
/// Says what is in the way; nothing keeps running then.
pub async fn start(settings: Settings) -> Result<Handle, StartError> {
    if settings.listen.is_empty() {
        return Err(StartError::NoAddress);
    }
    let ground = Ground::prepare(&settings)?;
    let topology = ground.memory.network.settled.topology;
    match topology {
        Topology::Polyring => run::<polyring::Polyring>(settings, ground, polyring_config).await,
    }
}

/// What a peer stands on before it has an endpoint.
struct Ground {
    home: Option<Home>,
    key: SecretKey,
    network_key: Option<SecretKey>,
    memory: Memory,
    store: Store,
    is_known: bool,
}

impl Ground {
    fn prepare(settings: &Settings) -> Result<Self, StartError> {
        let (home, key, store) = match &settings.data {
            Data::Ephemeral => (None, SecretKey::generate(), Store::nowhere()),
            Data::Directory(path) => {
                let home = Home::open(path)?;
                let key = home.identity()?;
                let store = Store::open(home.state())?;
                (Some(home), key, store)
            }
        };
        let remembered = store.load()?;
        let is_known = remembered.is_some();
        let (mut memory, network_key) = match (&settings.entrance, remembered) {
            (Entrance::Join(invite), remembered) => (join(invite, remembered, settings)?, None),
            (_, Some(memory)) => (memory, None),
            (Entrance::Remembered, None) => return Err(StartError::NothingRemembered),
            (Entrance::New, None) => {
                let network_key = match &home {
                    Some(home) => home.make_network_key()?,
                    None => SecretKey::generate(),
                };
                let secret = settings
                    .shape
                    .closed
                    .unwrap_or(false)
                    .then(Secret::generate);
                let network = Network::found(&network_key, &settings.shape, secret.as_ref())?;
                (
                    Memory {
                        network,
                        secret,
                        incarnation: 0,
                        met: Vec::new(),
                    },
                    Some(network_key),
                )
            }
        };
        memory.network.compare(&settings.shape)?;
        let network_key = match (network_key, &home) {
            (None, Some(home)) => home.network_key()?,
            (network_key, _) => network_key,
        };
        let network_key = network_key.filter(|key| *key.public().as_bytes() == memory.network.id);
        memory.incarnation = memory::incarnation(memory.incarnation);
        if is_known || network_key.is_some() {
            store.save(&memory)?;
        }
        Ok(Self {
            home,
            key,
            network_key,
            memory,
            store,
            is_known,
        })
    }
}

/// The memory of a peer that follows an invite.
fn join(
    invite: &Invite,
    remembered: Option<Memory>,
    settings: &Settings,
) -> Result<Memory, StartError> {
    let network = invite.network();
    network.compare(&settings.shape)?;
    if let Some(memory) = &remembered
        && memory.network.id != network.id
    {
        let (remembered, invited) = (memory.network.name(), network.name());
        return Err(StartError::OtherNetwork {
            remembered,
            invited,
        });
    }
    let mut memory = remembered.unwrap_or_else(|| Memory {
        network: network.clone(),
        secret: None,
        incarnation: 0,
        met: Vec::new(),
    });
    if network.settled.version > memory.network.settled.version {
        memory.network = network.clone();
    }
    memory.secret = invite
        .secret
        .filter(|secret| memory.network.admits(secret))
        .or(memory.secret);
    if memory.network.is_closed() && memory.secret.is_none() {
        return Err(StartError::NoAdmission);
    }
    for contact in invite.contacts().iter().rev() {
        let hints = contact.addresses.clone();
        let known = memory
            .met
            .iter()
            .position(|met| met.id == contact.id)
            .map(|place| memory.met.remove(place));
        let card = known.map(|met| met.card).unwrap_or_default();
        memory.met.insert(
            0,
            Met {
                id: contact.id,
                card,
                hints,
            },
        );
    }
    if memory.met.is_empty() {
        return Err(StartError::NobodyReached { contacts: 0 });
    }
    memory.met.truncate(memory::PEERS);
    Ok(memory)
}

fn polyring_config(network: &Network) -> polyring::Config {
    let settled = &network.settled;
    polyring::Config {
        ring_size: u16::try_from(settled.ring_size)
            .expect("a genuine network's rings are at most 1,024"),
        policy: match settled.policy {
            Policy::Balanced => polyring::Policy::Balanced,
            Policy::Labelled => polyring::Policy::Labelled,
            Policy::Nearest => polyring::Policy::Nearest,
        },
    }
}

async fn run<O: Overlay<Address = Guid>>(
    settings: Settings,
    ground: Ground,
    config: fn(&Network) -> O::Config,
) -> Result<Handle, StartError> {
    let Ground {
        home,
        key,
        network_key,
        mut memory,
        store,
        is_known,
    } = ground;
    let id = PeerId::from_bytes(*key.public().as_bytes());
    memory.met.retain(|met| met.id != id);
    let contact_count = memory.met.len();
    let origin = Instant::now();
    let endpoint = bind(&key, &settings.listen).await?;
    let listen = endpoint.bound_sockets();
    let network = memory.network.clone();
    let card = Card {
        sequence: memory.incarnation,
        addresses: reachable(&listen),
        relay: None,
    };
    let book = Book::new(key, network_key, network.clone(), &card);
    let own_card = book.card(Book::ME);
    let gate = Arc::new(Gate::new(
        id,
        network.clone(),
        memory.secret,
        memory.incarnation,
        own_card,
    ));
    let events = mpsc::channel(EVENTS);
    let (requests, asked) = mpsc::channel(REQUESTS);
    let (watchers, _) = broadcast::channel(WATCHED);
    let (placed, is_placed) = oneshot::channel();
    let profile = Profile {
        label: settings.label,
        incarnation: memory.incarnation,
    };
    let about = About {
        name: settings.name.clone(),
        listen: listen.clone(),
        secret: memory.secret,
    };
    let node_settings = ringweave_node::Settings {
        config: Arc::new(config(&network)),
        me: Book::ME,
        profile,
        name: settings.name,
    };
    let node = Node::<O>::new(node_settings, &book);
    let lan = if settings.lan {
        discover(id, &network, &listen, events.0.clone())
    } else {
        None
    };
    tokio::spawn(accept(
        endpoint.clone(),
        Arc::clone(&gate),
        events.0.clone(),
    ));
    let hub = Hub::new(Parts {
        node,
        book,
        gate,
        endpoint,
        origin,
        seed: seed(),
        contacts: Contacts::new(memory, store, is_known),
        events,
        requests: asked,
        watchers: watchers.clone(),
        placed,
        about,
        kept: (home, lan),
    });
    tokio::spawn(hub.run());
    let handle = Handle {
        id,
        requests,
        events: watchers,
    };
    let is_first = matches!(settings.entrance, Entrance::Join(_)) && !is_known;
    let outcome = if is_first {
        timeout(FIRST_JOIN, is_placed)
            .await
            .map_err(|_| StartError::NobodyReached {
                contacts: contact_count,
            })
    } else {
        Ok(is_placed.await)
    };
    let failure = match outcome {
        Ok(Ok(Ok(()))) => return Ok(handle),
        Ok(Ok(Err(Ending::Parted(parting)))) => StartError::Refused(parting),
        Ok(Ok(Err(Ending::Refused(why)))) => StartError::NoPlace(why),
        Ok(Err(_)) => StartError::Stopped,
        Err(failure) => failure,
    };
    handle.leave().await;
    Err(failure)
}

/// A seed for choices of protocol; keys come from elsewhere.
fn seed() -> u64 {
    let bytes = SecretKey::generate().to_bytes();
    u64::from_le_bytes(bytes[..8].try_into().expect("eight of thirty-two bytes"))
}

/// One resolver for all endpoints of the process. It never falls back to anyone's public servers,
/// and is asked only for names that somebody configured.
static RESOLVER: LazyLock<DnsResolver> = LazyLock::new(|| {
    DnsResolver::builder()
        .with_system_defaults()
        .disable_fallback()
        .build()
});

/// Listens where it was asked to, and nowhere else; contacts nobody by itself.
async fn bind(key: &SecretKey, listen: &[SocketAddr]) -> Result<Endpoint, StartError> {
    for address in listen {
        probe(*address)?;
    }
    let mut builder = Endpoint::builder(presets::Minimal)
        .secret_key(key.clone())
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .dns_resolver(RESOLVER.clone())
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
fn reachable(bound: &[SocketAddr]) -> Vec<SocketAddr> {
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

fn discover(
    me: PeerId,
    network: &Network,
    listen: &[SocketAddr],
    events: mpsc::Sender<Event>,
) -> Option<Lan> {
    let port = listen
        .iter()
        .find(|socket| !socket.ip().is_loopback())?
        .port();
    match Lan::start(me, &network.id, port, events) {
        Ok(lan) => Some(lan),
        Err(error) => {
            tracing::warn!("no discovery on the local network: {error}");
            None
        }
    }
}

/// Lets strangers greet, a bounded number at a time, and hands those who pass to the event loop.
async fn accept(endpoint: Endpoint, gate: Arc<Gate>, events: mpsc::Sender<Event>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(place) = Arc::clone(&strangers).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let (gate, events) = (Arc::clone(&gate), events.clone());
        tokio::spawn(async move {
            let greeting = async {
                let connection = incoming.await.ok()?;
                let (hello, send) = gate.receive(&connection).await.ok()?;
                Some((connection, hello, send))
            };
            if let Ok(Some(guest)) = timeout(GREETING, greeting).await {
                // The loop may be gone.
                let _ = events.send(Event::Knocked(Box::new(guest))).await;
            }
            drop(place);
        });
    }
}
