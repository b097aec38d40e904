//! Hosting a relay: whom it serves, how many, and how much.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use iroh::{EndpointId, SecretKey};
use iroh_relay::{
    KeyCache,
    server::{
        Access, AccessControl, ClientRateLimit, ClientRequest, ConnectionId, Handlers, Metrics,
        QuicConfig, RelayService, Server, ServerConfig, http_server::TlsConfig,
    },
};
use ringweave_ids::PeerId;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Site, tls};
use crate::gate::Gate;

/// Peers served at once: the private ones among the neighbours, and those that look for them.
const CLIENTS: usize = 128;
/// What one peer may send through the relay, in bytes a second: messages, not content. All
/// together stay under 64 MiB/s.
const RATE: NonZeroU32 = NonZeroU32::new(512 * 1024).expect("it is not zero");
/// What it may send at once after a silence.
const BURST: NonZeroU32 = NonZeroU32::new(2 * 1024 * 1024).expect("it is not zero");
/// Connections that have not shown whose they are, at once; more wait in the system's own queue.
const STRANGERS: usize = 32;
/// How long they have.
const GREETING: Duration = Duration::from_secs(5);
/// Rest after the system had no connection to give, which may be for want of descriptors.
const BREATH: Duration = Duration::from_millis(100);
/// How long the last words may take when it ends.
const CLOSING: Duration = Duration::from_millis(500);

/// A running relay; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) site: Site,
    service: RelayService,
    mirror: Server,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

impl Host {
    /// Starts a relay on `socket`'s address and port, the mirror on the port after it; on any port
    /// where that one is taken. Peers reach it at `at`.
    ///
    /// # Errors
    /// If the system has no port for it.
    pub(crate) async fn start(
        key: &SecretKey,
        gate: Arc<Gate>,
        socket: SocketAddr,
        at: IpAddr,
    ) -> io::Result<Self> {
        let tls = tls::show(key);
        let listener = match TcpListener::bind(socket).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((socket.ip(), 0)).await?,
        };
        let address = SocketAddr::new(at, listener.local_addr()?.port());
        let after = SocketAddr::new(socket.ip(), socket.port().saturating_add(1));
        let mirror = match mirror(after, &tls).await {
            Ok(mirror) => mirror,
            Err(_) => mirror(SocketAddr::new(socket.ip(), 0), &tls).await?,
        };
        let site = Site {
            host: PeerId::from_bytes(*key.public().as_bytes()),
            address,
            mirror: mirror.quic_addr().expect("it was told to have one").port(),
        };
        let mut limit = ClientRateLimit::new(RATE);
        limit.max_burst_bytes = Some(BURST);
        let service = RelayService::new(
            Handlers::default(),
            Default::default(),
            Some(limit),
            KeyCache::new(CLIENTS),
            Arc::new(Admission {
                gate,
                clients: AtomicUsize::new(0),
            }),
            Arc::new(Metrics::default()),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            service.clone(),
            TlsConfig::new(Arc::new(tls)),
        ));
        Ok(Self {
            site,
            service,
            mirror,
            _tasks: tasks,
        })
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        let ends = async {
            self.service.shutdown().await;
            // It says nothing but that it was stopped.
            let _ = self.mirror.shutdown().await;
        };
        if timeout(CLOSING, ends).await.is_err() {
            tracing::debug!("the relay took too long to close");
        }
    }
}

/// Tells peers how their packets look from here (QUIC address discovery).
async fn mirror(address: SocketAddr, tls: &rustls::ServerConfig) -> io::Result<Server> {
    let mut quic = QuicConfig::new(address);
    quic.server_config = Some(tls.clone());
    let mut config = ServerConfig::default();
    config.quic = Some(quic);
    Server::spawn(config).await.map_err(io::Error::other)
}

async fn accept(listener: TcpListener, service: RelayService, tls: TlsConfig) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&strangers).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(BREATH).await;
            continue;
        };
        // Small packets in both directions: none waits for another.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let (service, tls) = (service.clone(), tls.clone());
        tasks.spawn(async move {
            service.handle_connection(stream, Some(tls), GREETING).await;
            drop(place);
        });
    }
}

/// Lets members of the network in, by the same rule as the gate.
#[derive(Debug)]
struct Admission {
    gate: Arc<Gate>,
    clients: AtomicUsize,
}

impl AccessControl for Admission {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        let client = PeerId::from_bytes(*request.endpoint_id().as_bytes());
        let deny = |reason: &str| Access::Deny {
            reason: Some(reason.into()),
        };
        if !self.gate.takes_pass(&client, request.auth_token()) {
            return deny("not a member of the network");
        }
        if self.clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS {
            self.clients.fetch_sub(1, Ordering::Relaxed);
            return deny("no room for another peer");
        }
        Access::Allow
    }

    fn on_disconnect(&self, _endpoint_id: EndpointId, _connection_id: ConnectionId) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use bytes::Bytes;
    use iroh::{
        Endpoint, EndpointAddr, RelayConfig, RelayMap, RelayMode, TransportAddr, Watcher as _,
        endpoint::{PortmapperConfig, presets},
    };
    use iroh_relay::RelayQuicConfig;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        network::{Network, Secret, Shape},
        relay::{resolver, trust},
    };

    /// Longest wait for anything here: far more than it takes on a busy machine.
    const SOON: Duration = Duration::from_secs(20);
    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn gate(network: &Network, secret: Option<Secret>, key: &SecretKey) -> Arc<Gate> {
        let id = PeerId::from_bytes(*key.public().as_bytes());
        Arc::new(Gate::new(id, network.clone(), secret, 1, Bytes::new()))
    }

    fn network(secret: &Secret) -> Network {
        Network::found(&SecretKey::generate(), &Shape::default(), Some(secret)).unwrap()
    }

    async fn host(network: &Network, secret: Secret) -> Host {
        let key = SecretKey::generate();
        let gate = gate(network, Some(secret), &key);
        Host::start(&key, gate, SocketAddr::new(LOCAL, 0), LOCAL)
            .await
            .unwrap()
    }

    /// An endpoint that has no other way than the relay.
    async fn client(site: Site, key: SecretKey, pass: String) -> Endpoint {
        let mirror = Some(RelayQuicConfig::new(site.mirror));
        let config = RelayConfig::new(site.url(), mirror).with_auth_token(pass);
        Endpoint::builder(presets::Minimal)
            .secret_key(key)
            .alpns(vec![b"test".to_vec()])
            .relay_mode(RelayMode::Custom(RelayMap::from_iter([config])))
            .portmapper_config(PortmapperConfig::Disabled)
            .ca_tls_config(trust())
            .dns_resolver(resolver())
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0")
            .unwrap()
            .bind()
            .await
            .unwrap()
    }

    /// What an endpoint says of its relay once it has tried: whether it got in, or why not.
    async fn verdict(endpoint: &Endpoint) -> Result<(), String> {
        let mut status = endpoint.home_relay_status();
        let tried = async {
            loop {
                if let Some(home) = status.get().first() {
                    if home.is_connected() {
                        return Ok(());
                    }
                    if let Some(error) = home.last_error() {
                        let reason = home.auth_denied_reason().map(ToOwned::to_owned);
                        return Err(reason.unwrap_or_else(|| format!("{error:#}")));
                    }
                }
                status.updated().await.unwrap();
            }
        };
        timeout(SOON, tried).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_members_talk_through_a_relay_that_cannot_read_them() {
        let secret = Secret::generate();
        let network = network(&secret);
        let host = host(&network, secret).await;
        let mut clients = Vec::new();
        for _ in 0..2 {
            let key = SecretKey::generate();
            let pass = gate(&network, Some(secret), &key).pass(&host.site.host);
            let client = client(host.site, key, pass).await;
            verdict(&client).await.unwrap();
            clients.push(client);
        }
        let address =
            EndpointAddr::from_parts(clients[0].id(), [TransportAddr::Relay(host.site.url())]);
        let (dialled, accepted) = tokio::join!(
            timeout(SOON, clients[1].connect(address, b"test")),
            timeout(SOON, async {
                clients[0].accept().await.unwrap().await.unwrap()
            }),
        );
        assert_eq!(dialled.unwrap().unwrap().remote_id(), clients[0].id());
        assert_eq!(accepted.unwrap().remote_id(), clients[1].id());
        host.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_is_no_member_is_turned_away() {
        let secret = Secret::generate();
        let network = network(&secret);
        let host = host(&network, secret).await;
        let key = SecretKey::generate();
        let others = SecretKey::generate();
        let elsewhere = PeerId::from_bytes([7; 32]);
        for pass in [
            "nonsense".into(),
            gate(&network, Some(Secret::generate()), &key).pass(&host.site.host),
            gate(&network, Some(secret), &others).pass(&host.site.host),
            gate(&network, Some(secret), &key).pass(&elsewhere),
        ] {
            let client = client(host.site, key.clone(), pass).await;
            let why = verdict(&client).await.unwrap_err();
            assert_eq!(why, "not a member of the network");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_relay_with_anothers_name_is_not_used() {
        let secret = Secret::generate();
        let network = network(&secret);
        let host = host(&network, secret).await;
        let site = Site {
            host: PeerId::from_bytes(*SecretKey::generate().public().as_bytes()),
            ..host.site
        };
        let key = SecretKey::generate();
        let pass = gate(&network, Some(secret), &key).pass(&site.host);
        let client = client(site, key, pass).await;
        let tried = timeout(Duration::from_secs(2), verdict(&client)).await;
        assert!(!matches!(tried, Ok(Ok(()))), "it was trusted");
    }
}
