//! The server: its socket, its connections, and their end.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use ringweave_net::Handle;
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
};

use crate::{
    files::{self, Address},
    guard::Guard,
    routes,
};

/// Connections at once: enough for a console, some scripts and a scraper; more wait.
const MAX_CONNECTIONS: usize = 64;
/// How long a caller may take to send its request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// How long the answers under way may take when the server ends.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// Rest after a failed accept (out of file descriptors, say), so that it does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Why there is no server.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DoorError {
    /// The address is not of this machine alone.
    #[error("the API listens on loopback addresses only, not on {0}; use 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error(
        "cannot listen for the API on {0}: {1}; another process may hold the port, port 0 takes any"
    )]
    Bind(SocketAddr, io::Error),
    /// The files for the callers cannot be written.
    #[error("cannot write the API's token and address to {}: {}", .0.display(), .1)]
    Files(PathBuf, io::Error),
}

/// A socket that is bound, but not served yet: taken before the peer starts, so that a port in use
/// is found out before anybody else hears of the peer.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
}

/// A running server. Dropping it ends it at once.
#[derive(Debug)]
pub struct Server {
    url: String,
    token_file: PathBuf,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    traces: Traces,
}

/// The files that tell of a running server; they go when it goes.
#[derive(Debug)]
struct Traces {
    data: PathBuf,
    token: String,
}

impl Drop for Traces {
    fn drop(&mut self) {
        files::remove(&self.data, &self.token);
    }
}

impl Door {
    /// Binds a loopback address; port 0 takes any.
    ///
    /// # Errors
    /// If the address is not loopback, or is taken.
    pub async fn bind(address: SocketAddr) -> Result<Self, DoorError> {
        if !address.ip().is_loopback() {
            return Err(DoorError::NotLoopback(address));
        }
        let refused = |error| DoorError::Bind(address, error);
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `peer` from now on; the token and the address go into the directory `data`.
    ///
    /// # Errors
    /// If these files cannot be written.
    pub fn open(self, peer: Handle, data: &Path) -> Result<Server, DoorError> {
        let refused = |error| DoorError::Files(data.to_owned(), error);
        let token = files::fresh_token().map_err(refused)?;
        let address = Address {
            listen: self.address,
            pid: std::process::id(),
        };
        let token_file = files::write(data, &token, &address).map_err(refused)?;
        let traces = Traces {
            data: data.to_owned(),
            token: token.clone(),
        };
        let router = routes::router(peer, Arc::new(Guard::new(token, self.address)));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(self.listener, router, stopped));
        Ok(Server {
            url: format!("http://{}", self.address),
            token_file,
            stop,
            task,
            traces,
        })
    }
}

impl Server {
    /// Where it is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file that holds its token.
    pub fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// Ends it after the answers under way, within half a second.
    pub async fn shut(mut self) {
        self.stop.send_replace(true);
        // A server task that has panicked has ended, too.
        let _ = (&mut self.task).await;
        tracing::debug!(url = self.url, data = %self.traces.data.display(), "the API has ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stopped.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, place)) => {
                let answering = answer(stream, router.clone(), stopped.clone());
                connections.spawn(async move {
                    answering.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the API could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn answer(stream: TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // A caller that goes away in the middle is its own affair.
        _ = &mut connection => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    // An answer that takes longer, or whose caller has gone, ends here.
    let _ = tokio::time::timeout(LAST_ANSWERS, connection).await;
}
