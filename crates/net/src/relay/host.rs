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
