//! The gate: what two peers tell each other before anything else, and whom they turn away.
//!
//! ```text
//! dialler ──open bi──> Hello ──────────────> acceptor    version | length u16 | body
//!         <─────────── Hello or a close code ─
//! ```
//!
//! In a closed network each side proves that it knows the admission secret by a keyed BLAKE3 over
//! this very TLS session (RFC 5705 keying material), its role and both keys: a proof is worth
//! nothing on another connection, and the secret itself never travels.

use std::sync::RwLock;

use bytes::Bytes;
use data_encoding::BASE32_NOPAD;
use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use ringweave_ids::{PeerId, wire};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    card::CARD_CAP,
    network::{Network, Secret},
};

/// What QUIC calls this protocol.
pub(crate) const ALPN: &[u8] = b"ringweave/1";
/// Largest body of a greeting: the card, the network, a hash, a number.
const HELLO_CAP: usize = CARD_CAP + 256;
/// The label under which keying material is derived.
const LABEL: &[u8] = b"EXPORTER-ringweave-admission-1";
/// Sets the key of passes apart from all else that is made of the secret.
const PASSES: &str = "ringweave 2026 pass to a relay";

/// Why a peer closes a connection, as a QUIC application code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Parting {
    /// It leaves the network, or stops.
    #[error("it leaves")]
    Leaving,
    /// Nobody used the connection.
    #[error("the connection was idle")]
    Idle,
    /// There is another connection between the two.
    #[error("there is another connection already")]
    Double,
    /// It speaks another version.
    #[error("it speaks another version of the protocol")]
    Version,
    /// It belongs to another network.
    #[error("it belongs to another network")]
    Network,
    /// The two were told different configurations of the network.
    #[error("its network configuration differs; ask for a new invite")]
    Configuration,
    /// No admission to a closed network.
    #[error(
        "the network is closed and the invite carries no valid admission; ask a member for an invite"
    )]
    Admission,
    /// It has too many connections.
    #[error("it has no room for another connection")]
    Busy,
    /// Nonsense came.
    #[error("it received nonsense")]
    Nonsense,
}

impl Parting {
    const ALL: [Self; 9] = [
        Self::Leaving,
        Self::Idle,
        Self::Double,
        Self::Version,
        Self::Network,
        Self::Configuration,
        Self::Admission,
        Self::Busy,
        Self::Nonsense,
    ];

    /// Whether another try would end the same.
    pub(crate) const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Version | Self::Network | Self::Configuration | Self::Admission
        )
    }

    fn code(self) -> VarInt {
        let place = Self::ALL.iter().position(|each| *each == self);
        VarInt::from_u32(1 + place.expect("all are listed") as u32)
    }

    /// What a connection was closed with by the other side.
    pub(crate) fn of(error: &ConnectionError) -> Option<Self> {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::ALL
                .into_iter()
                .find(|each| each.code() == close.error_code),
            _ => None,
        }
    }

    /// Closes a connection, saying so in words as well.
    pub(crate) fn close(self, connection: &Connection) {
        connection.close(self.code(), self.to_string().as_bytes());
    }
}

/// How a greeting failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// This side turns the other away.
    Away(Parting),
    /// The other side turned this one away.
    Down(Parting),
    /// The connection broke.
    Lost,
}

/// What one peer tells another at first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// What the peer takes the network for, signed.
    pub(crate) network: Network,
    proof: Option<[u8; 32]>,
    /// Where the peer is reached, signed.
    pub(crate) card: Bytes,
    /// Which life of the peer this is.
    pub(crate) incarnation: u64,
}

/// Which side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It dialled.
    Dialler,
    /// It was dialled.
    Acceptor,
}

/// What a peer checks others against, shared by its dials and its acceptors.
#[derive(Debug)]
pub(crate) struct Gate {
    me: PeerId,
    network: RwLock<Network>,
    secret: Option<Secret>,
    incarnation: u64,
    /// What keys the passes.
    passes: Secret,
    card: RwLock<Bytes>,
}

impl Gate {
    pub(crate) fn new(
        me: PeerId,
        network: Network,
        secret: Option<Secret>,
        incarnation: u64,
        card: Bytes,
    ) -> Self {
        // Into an open network whoever knows it is let in, and so into its relays.
        let passes = secret.map_or(network.id, |secret| secret.0);
        Self {
            me,
            network: RwLock::new(network),
            secret,
            incarnation,
            passes: Secret(blake3::derive_key(PASSES, &passes)),
            card: RwLock::new(card),
        }
    }

    /// Shows another card from now on.
    pub(crate) fn renew(&self, card: Bytes) {
        *self
            .card
            .write()
            .expect("nothing panics while it holds this lock") = card;
    }

    /// Takes the network for this from now on.
    pub(crate) fn settle(&self, network: Network) {
        *self
            .network
            .write()
            .expect("nothing panics while it holds this lock") = network;
    }

    fn network(&self) -> Network {
        let network = self.network.read();
        network
            .expect("nothing panics while it holds this lock")
            .clone()
    }

    /// What lets this peer use the relay of `host`: worth nothing to others, or at another relay.
    pub(crate) fn pass(&self, host: &PeerId) -> String {
        self.pass_of(host, &self.me)
    }

    /// Whether `client` may use this peer's relay.
    pub(crate) fn takes_pass(&self, client: &PeerId, pass: Option<String>) -> bool {
        let wanted = blake3::hash(self.pass_of(&self.me, client).as_bytes());
        // The comparison of hashes takes the same time wherever they differ.
        pass.is_some_and(|pass| blake3::hash(pass.as_bytes()) == wanted)
    }

    fn pass_of(&self, host: &PeerId, client: &PeerId) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.passes.0);
        hasher.update(host.as_bytes()).update(client.as_bytes());
        BASE32_NOPAD
            .encode(hasher.finalize().as_bytes())
            .to_lowercase()
    }

    /// Greets as the one who dialled, and waits to be greeted.
    pub(crate) async fn greet(&self, connection: &Connection) -> Result<Hello, Turned> {
        let parted = || parted(connection);
        let (mut send, mut recv) = connection.open_bi().await.map_err(|_| parted())?;
        self.say(connection, Side::Dialler, &mut send).await?;
        self.hear(connection, Side::Acceptor, &mut recv).await
    }

    /// Listens as the one who was dialled. The answer is given by [`say`](Self::say) once the peer
    /// has decided that it wants the connection.
    pub(crate) async fn receive(
        &self,
        connection: &Connection,
    ) -> Result<(Hello, SendStream), Turned> {
        let (send, mut recv) = connection
            .accept_bi()
            .await
            .map_err(|_| parted(connection))?;
        let hello = self.hear(connection, Side::Dialler, &mut recv).await?;
        Ok((hello, send))
    }

    /// Says who this peer is.
    pub(crate) async fn say(
        &self,
        connection: &Connection,
        side: Side,
        send: &mut SendStream,
    ) -> Result<(), Turned> {
        let hello = Hello {
            network: self.network(),
            proof: self.proof(connection, side, &self.me, &remote(connection)),
            card: self
                .card
                .read()
                .expect("nothing panics while it holds this lock")
                .clone(),
            incarnation: self.incarnation,
        };
        let body = wire::to_vec(&hello);
        let length = u16::try_from(body.len()).expect("a greeting is under a kilobyte");
        let mut bytes = vec![wire::VERSION];
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        send.write_all(&bytes)
            .await
            .map_err(|_| parted(connection))?;
        // Nothing more is said on this stream; a failure shows in the connection itself.
        let _ = send.finish();
        Ok(())
    }

    async fn hear(
        &self,
        connection: &Connection,
        from: Side,
        recv: &mut RecvStream,
    ) -> Result<Hello, Turned> {
        let away = |parting: Parting| {
            parting.close(connection);
            Turned::Away(parting)
        };
        let mut head = [0; 3];
        recv.read_exact(&mut head[..1])
            .await
            .map_err(|_| parted(connection))?;
        if head[0] != wire::VERSION {
            return Err(away(Parting::Version));
        }
        recv.read_exact(&mut head[1..])
            .await
            .map_err(|_| parted(connection))?;
        let length = usize::from(u16::from_le_bytes([head[1], head[2]]));
        if length > HELLO_CAP {
            return Err(away(Parting::Nonsense));
        }
        let mut body = vec![0; length];
        recv.read_exact(&mut body)
            .await
            .map_err(|_| parted(connection))?;
        let hello: Hello = wire::decode(&body, HELLO_CAP).map_err(|_| away(Parting::Nonsense))?;
        let network = self.network();
        if hello.network.id != network.id {
            return Err(away(Parting::Network));
        }
        let theirs = &hello.network;
        // A later edition is news, an earlier one is about to be: see `Hub::adopt`.
        let is_other = theirs.settled.version == network.settled.version && *theirs != network;
        if is_other || theirs.settled.admission != network.settled.admission {
            return Err(away(Parting::Configuration));
        }
        if *theirs != network && !theirs.is_genuine() {
            return Err(away(Parting::Nonsense));
        }
        if network.is_closed() {
            let wanted = self.proof(connection, from, &remote(connection), &self.me);
            let wanted = wanted.map(blake3::Hash::from_bytes);
            // The comparison of hashes takes the same time wherever they differ.
            let is_proved =
                wanted.is_some_and(|wanted| hello.proof.is_some_and(|proof| wanted == proof));
            if !is_proved {
                return Err(away(Parting::Admission));
            }
        }
        Ok(hello)
    }

    /// What this peer would show on a connection.
    #[cfg(test)]
    pub(crate) fn prove(&self, connection: &Connection, side: Side) -> Option<[u8; 32]> {
        self.proof(connection, side, &self.me, &remote(connection))
    }

    /// What shows on this connection that `prover` knows the secret; nothing if this peer does not.
    fn proof(
        &self,
        connection: &Connection,
        side: Side,
        prover: &PeerId,
        verifier: &PeerId,
    ) -> Option<[u8; 32]> {
        let secret = self.secret.as_ref()?;
        let mut session = [0; 32];
        connection
            .export_keying_material(&mut session, LABEL, b"")
            .ok()?;
        let mut hasher = blake3::Hasher::new_keyed(&secret.0);
        hasher
            .update(&session)
            .update(&[(side == Side::Dialler).into()]);
        hasher.update(prover.as_bytes()).update(verifier.as_bytes());
        Some(*hasher.finalize().as_bytes())
    }
}

/// Who is at the other end.
pub(crate) fn remote(connection: &Connection) -> PeerId {
    PeerId::from_bytes(*connection.remote_id().as_bytes())
}

fn parted(connection: &Connection) -> Turned {
    let parting = connection
        .close_reason()
        .and_then(|error| Parting::of(&error));
    parting.map_or(Turned::Lost, Turned::Down)
}
