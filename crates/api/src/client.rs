//! A small client for the interface: what the program's commands speak through.

use std::{io, path::Path, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::net::TcpStream;

use crate::{
    Fault,
    body::{
        BroadcastAnswer, BroadcastBody, DeleteBody, Delivered, EvolveBody, InviteAnswer,
        MulticastAnswer, MulticastBody, PeersAnswer, PutBody, RecordAnswer, RecordsAnswer,
        ResolveAnswer, SendBody, StatusAnswer, StoredAnswer, TraceAnswer, TraceBody, TreeAnswer,
    },
    files::{self, Address},
};

/// The largest answer that is read: a tree of 10,000 peers has 2 MiB.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// The longest line of a stream: a payload of 64 KiB as text and in base64, escaped.
const MAX_LINE: usize = 1024 * 1024;
/// How long an answer may take; the server gives up before.
const DEADLINE: Duration = Duration::from_secs(12);
/// How long a connection within the machine may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No peer runs on this data directory.
    #[error(
        "no peer runs on {directory} ({why}); start one with `ringweave up`, or name its directory with --data"
    )]
    NotRunning {
        /// The data directory.
        directory: String,
        /// How that was found.
        why: String,
    },
    /// The peer does not take the token.
    #[error(
        "the peer at {0} refused the token; its files in the data directory may be of another start"
    )]
    Denied(String),
    /// The peer went away in the middle of a stream.
    #[error("the peer at {0} has gone away; `ringweave status` tells whether it runs")]
    Gone(String),
    /// The peer answered that it failed.
    #[error("{}", .0.message)]
    Answered(Fault),
    /// The answer did not come in time.
    #[error("the peer at {0} did not answer within 12 s")]
    Silent(String),
    /// The answer was none.
    #[error("the peer at {0} gave no proper answer: {1}")]
    Broken(String, String),
}

/// A running peer, as its data directory tells of it.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    token: String,
    directory: String,
}

/// The lines of a stream, each a JSON object.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    waiting: Vec<u8>,
    host: String,
}

impl Client {
    /// The peer that runs on the directory `data`.
    ///
    /// # Errors
    /// If no peer has left its address there, or its token cannot be read.
    pub fn open(data: &Path) -> Result<Self, ClientError> {
        let directory = data.display().to_string();
        match files::read(data) {
            // A token goes to this machine only, whatever the file says.
            Ok((address, _)) if !address.listen.ip().is_loopback() => {
                let why = format!(
                    "{} names {}, which is not loopback",
                    files::ADDRESS_FILE,
                    address.listen
                );
                Err(ClientError::NotRunning { directory, why })
            }
            Ok((address, token)) => Ok(Self {
                address,
                token,
                directory,
            }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClientError::Denied(directory))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ClientError::NotRunning {
                directory,
                why: format!("there is no {}", files::ADDRESS_FILE),
            }),
            Err(error) => {
                let why = format!("{} cannot be read: {error}", files::ADDRESS_FILE);
                Err(ClientError::NotRunning { directory, why })
            }
        }
    }

    /// The peer's state.
    ///
    /// # Errors
    /// Every way in which there is no answer; likewise below.
    pub async fn status(&self) -> Result<StatusAnswer, ClientError> {
        self.get("/v1/status").await
    }

    /// The peer's neighbours.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn peers(&self) -> Result<PeersAnswer, ClientError> {
        self.get("/v1/peers").await
    }

    /// The rings of the network, at most `limit` peers.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn tree(&self, limit: usize) -> Result<TreeAnswer, ClientError> {
        self.get(&format!("/v1/tree?limit={limit}")).await
    }

    /// An invite into the peer's network.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn invite(&self) -> Result<InviteAnswer, ClientError> {
        self.get("/v1/invite").await
    }

    /// Who is meant by a text.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn resolve(&self, peer: &str) -> Result<ResolveAnswer, ClientError> {
        self.get(&format!(
            "/v1/resolve?peer={}",
            utf8_percent_encode(peer, NON_ALPHANUMERIC)
        ))
        .await
    }

    /// Sends to one peer.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn send(&self, body: &SendBody) -> Result<Delivered, ClientError> {
        self.post("/v1/send", body).await
    }

    /// Sends to several peers.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn multicast(&self, body: &MulticastBody) -> Result<MulticastAnswer, ClientError> {
        self.post("/v1/multicast", body).await
    }

    /// Sends to everyone.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn broadcast(&self, body: &BroadcastBody) -> Result<BroadcastAnswer, ClientError> {
        self.post("/v1/broadcast", body).await
    }

    /// The way to a peer.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn trace(&self, body: &TraceBody) -> Result<TraceAnswer, ClientError> {
        self.post("/v1/trace", body).await
    }

    /// Begins to move the network to another topology; gives the peer's state then.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn evolve(&self, body: &EvolveBody) -> Result<StatusAnswer, ClientError> {
        self.post("/v1/evolve", body).await
    }

    /// Keeps a record in the network.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn put(&self, body: &PutBody) -> Result<StoredAnswer, ClientError> {
        self.post("/v1/records", body).await
    }

    /// What is kept under a key, or under a name of the peer itself.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn get_record(&self, key: &str) -> Result<RecordAnswer, ClientError> {
        let key = utf8_percent_encode(key, NON_ALPHANUMERIC);
        self.get(&format!("/v1/records/read?key={key}")).await
    }

    /// What is kept under a key, now and whenever it changes.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn watch(&self, key: &str) -> Result<Lines, ClientError> {
        let key = utf8_percent_encode(key, NON_ALPHANUMERIC);
        self.stream(&format!("/v1/records/watch?key={key}")).await
    }

    /// Deletes a record of the peer.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn delete(&self, body: &DeleteBody) -> Result<StoredAnswer, ClientError> {
        self.post("/v1/records/delete", body).await
    }

    /// What the peer keeps alive in the network.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn records(&self) -> Result<RecordsAnswer, ClientError> {
        self.get("/v1/records").await
    }

    /// The messages for the application, the waiting ones first.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn listen(&self) -> Result<Lines, ClientError> {
        self.stream("/v1/listen").await
    }

    /// What happens at the peer from now on.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn events(&self) -> Result<Lines, ClientError> {
        self.stream("/v1/events").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(self.request(Method::GET, path, Bytes::new()))
            .await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).expect("plain data always serialises into JSON");
        self.read(self.request(Method::POST, path, body.into()))
            .await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        request: impl Future<Output = Result<Response<Incoming>, ClientError>>,
    ) -> Result<T, ClientError> {
        let whole = async {
            let response = request.await?;
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await;
            let bytes = body.map_err(|error| self.broken(error))?.to_bytes();
            serde_json::from_slice(&bytes).map_err(|error| self.broken(error))
        };
        tokio::time::timeout(DEADLINE, whole)
            .await
            .unwrap_or_else(|_| Err(ClientError::Silent(self.host())))
    }

    async fn stream(&self, path: &str) -> Result<Lines, ClientError> {
        let answer =
            tokio::time::timeout(DEADLINE, self.request(Method::GET, path, Bytes::new())).await;
        let response = answer.unwrap_or_else(|_| Err(ClientError::Silent(self.host())))?;
        Ok(Lines {
            body: response.into_body(),
            waiting: Vec::new(),
            host: self.host(),
        })
    }

    /// One request on a connection of its own; a failure that the server told is an error.
    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let not_running = |why: String| ClientError::NotRunning {
            directory: self.directory.clone(),
            why,
        };
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(self.address.listen))
            .await
            .map_err(|_| not_running(format!("{} does not answer", self.host())))?
            .map_err(|error| not_running(format!("{}: {error}", self.host())))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.host())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.broken(error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED => Err(ClientError::Denied(self.host())),
            _ => {
                let body = Limited::new(response.into_body(), MAX_ANSWER)
                    .collect()
                    .await;
                let bytes = body.map_err(|error| self.broken(error))?.to_bytes();
                let fault = serde_json::from_slice(&bytes).map_err(|error| self.broken(error))?;
                Err(ClientError::Answered(fault))
            }
        }
    }

    fn host(&self) -> String {
        self.address.listen.to_string()
    }

    fn broken(&self, error: impl ToString) -> ClientError {
        ClientError::Broken(self.host(), error.to_string())
    }
}

impl Lines {
    /// The next object; nothing once the peer has stopped or another listener took over.
    ///
    /// # Errors
    /// If the connection breaks, or a line is longer than any can be.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.waiting.drain(..=end).collect();
                // Comments, blank lines and other fields of the stream carry nothing.
                if let Some(data) = line.strip_prefix(b"data:") {
                    let text = String::from_utf8_lossy(data);
                    return Ok(Some(text.trim().to_owned()));
                }
                continue;
            }
            if self.waiting.len() > MAX_LINE {
                return Err(ClientError::Broken(
                    self.host.clone(),
                    "an endless line".into(),
                ));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.waiting.extend_from_slice(data);
                    }
                }
                Some(Err(_)) => return Err(ClientError::Gone(self.host.clone())),
            }
        }
    }
}
