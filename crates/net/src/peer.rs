//! Starting a peer: its directory, its network, its endpoint, its event loop.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use iroh::SecretKey;
use ringweave_ids::PeerId;
use ringweave_overlay::Profile;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::timeout,
};

use crate::{
    book::Book,
    card::Card,
    door::{self, accept, bind, reachable},
    event::{EVENTS, Event},
    gate::Gate,
    handle::{Handle, REQUESTS},
    home::Home,
    hub::{About, Contacts, Ending, Hub, Instance, Parts, Relays},
    invite::{Invite, MAX_CONTACTS},
    lan::Lan,
    memory::{self, Memory, Met, Store},
    network::{Network, Secret},
    reach::Reach,
    settings::{Data, Entrance, FIRST_JOIN, Hosting, Settings, StartError},
};

/// Events kept for a slow watcher.
const WATCHED: usize = 1_024;

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
    run(settings, ground).await
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
                        place: None,
                        invited: Vec::new(),
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
        place: None,
        invited: Vec::new(),
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
        memory.invited.retain(|id| *id != contact.id);
        memory.invited.insert(0, contact.id);
    }
    memory.invited.truncate(MAX_CONTACTS);
    if memory.met.is_empty() {
        return Err(StartError::NobodyReached { contacts: 0 });
    }
    memory.met.truncate(memory::PEERS);
    Ok(memory)
}

async fn run(settings: Settings, ground: Ground) -> Result<Handle, StartError> {
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
    let is_local = settings.listen.iter().all(|at| at.ip().is_loopback());
    let has_relays = !is_local || settings.relay == Hosting::Always;
    let relays = if has_relays {
        door::Relays::OfPeers
    } else {
        door::Relays::Nobodys
    };
    let endpoint = bind(&key, &settings.listen, relays).await?;
    let listen = endpoint.bound_sockets();
    let network = memory.network.clone();
    let card = Card {
        sequence: memory.incarnation,
        addresses: reachable(&listen),
        relay: None,
    };
    let reach = Reach::of(&card.addresses);
    let relays = Relays::new(settings.relay, has_relays, reach);
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
        is_private: reach.is_behind(memory.met.iter().flat_map(whereabouts)),
        home: memory.place.clone(),
    };
    let about = About {
        name: settings.name.clone(),
        profile: profile.clone(),
        listen: listen.clone(),
        secret: memory.secret,
    };
    let settled = &network.settled;
    let instances = settled.overlays().map(|(number, topology)| {
        let (profile, name) = (profile.clone(), settings.name.clone());
        Instance::new(number, topology, settled, profile, name, &book)
    });
    let instances = instances.collect();
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
        instances,
        book,
        gate,
        endpoint,
        origin,
        seed: settings.chance.unwrap_or_else(seed),
        restored: store.load_records()?,
        contacts: Contacts::new(memory, store, is_known),
        events,
        requests: asked,
        watchers: watchers.clone(),
        placed,
        about,
        relays,
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

/// Where a peer was met: what its card says, and what nobody signed.
fn whereabouts(met: &Met) -> impl Iterator<Item = IpAddr> {
    let told = Card::read(&met.card).map(|(card, _)| card.addresses);
    let all = told.into_iter().flatten().chain(met.hints.iter().copied());
    all.map(|address| address.ip())
}

/// A seed for choices of protocol; keys come from elsewhere.
fn seed() -> u64 {
    let bytes = SecretKey::generate().to_bytes();
    u64::from_le_bytes(bytes[..8].try_into().expect("eight of thirty-two bytes"))
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
