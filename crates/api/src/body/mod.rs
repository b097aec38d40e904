//! The bodies of requests and answers, and with them the objects that `--json` prints.
//!
//! Fields are added, never changed or taken away. Times are in milliseconds unless the name says so.

mod records;

use std::{net::SocketAddr, time::Duration};

use data_encoding::BASE64;
use ringweave_ids::{Guid, PeerId};
use ringweave_net::{CallError, Counters, Delivery, PeerInfo, Received, Spread, TracedHop};
use ringweave_node::{MessageKind, Turn};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Fault;
pub(crate) use records::key_of;
pub use records::{
    DeleteBody, OwnedAnswer, PutBody, RecordAnswer, RecordsAnswer, StoredAnswer, WatchEvent,
};

/// A message for one peer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendBody {
    /// A PeerId, its first characters, a name, or a GUID.
    pub to: String,
    /// What it carries.
    #[serde(flatten)]
    pub payload: Payload,
}

/// A message for several peers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MulticastBody {
    /// The receivers, each as in [`SendBody::to`].
    pub to: Vec<String>,
    /// What it carries.
    #[serde(flatten)]
    pub payload: Payload,
}

/// A message for everyone.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BroadcastBody {
    /// Only for the peers at or below this GUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "[4.2]")]
    pub below: Option<Guid>,
    /// What it carries.
    #[serde(flatten)]
    pub payload: Payload,
}

/// What a message carries: text, or any bytes in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Payload {
    /// The text. Where the bytes are no UTF-8, what of them can be read.
    #[serde(default)]
    pub payload: String,
    /// The bytes in base64; they count where both stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
}

impl Payload {
    /// A payload of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            payload: text.into(),
            payload_base64: None,
        }
    }

    /// A payload of any bytes.
    pub fn bytes(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::text(text),
            Err(_) => Self {
                payload: String::from_utf8_lossy(bytes).into_owned(),
                payload_base64: Some(BASE64.encode(bytes)),
            },
        }
    }

    /// The bytes that are meant; nothing if the base64 is malformed.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self.payload_base64 {
            Some(text) => BASE64.decode(text.as_bytes()).ok(),
            None => Some(self.payload.into_bytes()),
        }
    }
}

/// Whom a trace goes to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceBody {
    /// As in [`SendBody::to`].
    pub to: String,
}

/// What the network is to become.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvolveBody {
    /// The topology: `polyring`, `chord`, `kademlia`, `pastry`, `tapestry`, `unstructured`, `star` or
    /// `superpeer`.
    pub to: String,
}

/// A delivered message.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Delivered {
    /// Always true.
    pub delivered: bool,
    /// Who took it.
    #[schema(value_type = String)]
    pub peer_id: PeerId,
    /// Where that peer sits.
    #[schema(value_type = Option<String>)]
    pub guid: Option<Guid>,
    /// Hops it made.
    pub hops: u8,
    /// From sending to knowing.
    pub ms: f64,
}

impl From<Delivery> for Delivered {
    fn from(delivery: Delivery) -> Self {
        Self {
            delivered: true,
            peer_id: delivery.peer,
            guid: delivery.guid,
            hops: delivery.hops,
            ms: ms(delivery.took),
        }
    }
}

/// A message that was not delivered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Undelivered {
    /// Always false.
    pub delivered: bool,
    /// Why.
    #[serde(flatten)]
    pub fault: Fault,
}

impl From<Fault> for Undelivered {
    fn from(fault: Fault) -> Self {
        Self {
            delivered: false,
            fault,
        }
    }
}

/// What became of a multicast, in the order of its receivers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MulticastAnswer {
    /// One for each receiver.
    pub results: Vec<ReceiverResult>,
}

/// What became of a multicast at one receiver.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReceiverResult {
    /// The receiver as the request named it.
    pub to: String,
    /// Delivered, or not.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Delivered, or not.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Outcome {
    /// It was.
    Delivered(Delivered),
    /// It was not.
    Undelivered(Undelivered),
}

impl From<Result<Delivery, CallError>> for Outcome {
    fn from(result: Result<Delivery, CallError>) -> Self {
        match result {
            Ok(delivery) => Self::Delivered(delivery.into()),
            Err(error) => Self::Undelivered(Fault::from(error).into()),
        }
    }
}

/// How far a broadcast got.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BroadcastAnswer {
    /// Peers that hold it, the origin included.
    pub reached: u64,
    /// Time to the last answer.
    pub ms: f64,
}

impl From<Spread> for BroadcastAnswer {
    fn from(spread: Spread) -> Self {
        Self {
            reached: spread.reached,
            ms: ms(spread.took),
        }
    }
}

/// The way to a peer, the asked one first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TraceAnswer {
    /// Each peer on the way.
    pub hops: Vec<HopAnswer>,
}

/// One peer on the way.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HopAnswer {
    /// Who.
    #[schema(value_type = String)]
    pub peer_id: PeerId,
    /// Where.
    #[schema(value_type = String)]
    pub guid: Guid,
    /// From the origin there and back.
    pub round_trip_ms: f64,
}

impl From<TracedHop> for HopAnswer {
    fn from(hop: TracedHop) -> Self {
        Self {
            peer_id: hop.peer,
            guid: hop.guid,
            round_trip_ms: ms(hop.round_trip),
        }
    }
}

/// Who is meant.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ResolveAnswer {
    /// Who.
    #[schema(value_type = String)]
    pub peer_id: PeerId,
}

/// An invite into the peer's network.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct InviteAnswer {
    /// The ticket.
    pub invite: String,
    /// Whether it admits who holds it into a closed network, and so must be kept secret.
    pub carries_secret: bool,
}

/// A peer's neighbours.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PeersAnswer {
    /// Each of them.
    pub peers: Vec<PeerAnswer>,
}

/// A neighbour.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PeerAnswer {
    /// Who.
    #[schema(value_type = String)]
    pub peer_id: PeerId,
    /// What it is to this peer: `parent`, `sibling`, `child`.
    pub role: String,
    /// Where it sits.
    #[schema(value_type = String)]
    pub guid: Guid,
    /// Whether a connection stands.
    pub linked: bool,
    /// `direct`, `relay`, `parent` (no connection, messages go through the parent) or `none`.
    pub path: String,
    /// Whose relay, if it is one.
    #[schema(value_type = Option<String>)]
    pub relay: Option<PeerId>,
    /// Why this path and no better one.
    pub why: String,
    /// The connection's round trip, if linked.
    pub round_trip_ms: Option<f64>,
    /// Where it is reached.
    pub addresses: Vec<String>,
}

impl From<PeerInfo> for PeerAnswer {
    fn from(info: PeerInfo) -> Self {
        Self {
            peer_id: info.peer_id,
            role: info.role,
            guid: info.guid,
            linked: info.linked,
            path: info.path,
            relay: info.relay,
            why: info.why,
            round_trip_ms: info.round_trip.map(ms),
            addresses: info.addresses,
        }
    }
}

/// The rings of the network.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TreeAnswer {
    /// Every peer found, by GUID.
    pub peers: Vec<TreePeerAnswer>,
    /// Whether there may be more.
    pub truncated: bool,
}

/// A peer in the rings.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TreePeerAnswer {
    /// Where.
    #[schema(value_type = String)]
    pub guid: Guid,
    /// Who.
    #[schema(value_type = String)]
    pub peer_id: PeerId,
    /// The name it gave itself.
    pub name: Option<String>,
}

/// A peer's state at a glance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusAnswer {
    /// Who.
    #[schema(value_type = String)]
    pub peer_id: PeerId,
    /// The name it gave itself.
    pub name: Option<String>,
    /// Where it sits; nothing while it joins.
    #[schema(value_type = Option<String>)]
    pub guid: Option<Guid>,
    /// The network's id.
    pub network: String,
    /// Whether joining needs an invite with a secret.
    pub closed: bool,
    /// The topology that messages go over.
    pub topology: String,
    /// Where the network is on its way to another one, if it is on its way.
    pub evolution: Option<EvolutionAnswer>,
    /// Most positions in a ring.
    pub ring_size: usize,
    /// Members of a position with children.
    pub cluster: usize,
    /// The shaping policy.
    pub policy: String,
    /// The addresses it listens on.
    #[schema(value_type = Vec<String>)]
    pub listen: Vec<SocketAddr>,
    /// Whether anybody may be expected to reach it by dialling.
    pub reachable: bool,
    /// Why it thinks so.
    pub why: String,
    /// Where it hosts a relay for others, if it does.
    #[schema(value_type = Option<String>)]
    pub hosts_relay: Option<SocketAddr>,
    /// Whose relay passes packets on to it, if one does.
    #[schema(value_type = Option<String>)]
    pub home_relay: Option<PeerId>,
    /// Neighbours in its table.
    pub neighbours: usize,
    /// Connections that stand.
    pub links: usize,
    /// Seconds since its start.
    pub uptime_s: f64,
    /// Memory that the process holds, in bytes, where the system tells.
    pub rss_bytes: Option<u64>,
    /// Counters since its start.
    pub counters: CountersAnswer,
}

impl From<ringweave_net::Status> for StatusAnswer {
    fn from(status: ringweave_net::Status) -> Self {
        Self {
            peer_id: status.peer_id,
            name: status.name,
            guid: status.guid,
            network: status.network,
            closed: status.closed,
            topology: status.topology.into(),
            evolution: status.evolution.map(Into::into),
            ring_size: status.ring_size,
            cluster: status.cluster,
            policy: status.policy,
            listen: status.listen,
            reachable: status.reachable,
            why: status.why,
            hosts_relay: status.hosts_relay,
            home_relay: status.home_relay,
            neighbours: status.neighbours,
            links: status.links,
            uptime_s: status.uptime.as_secs_f64(),
            rss_bytes: crate::metrics::resident(),
            counters: status.counters.into(),
        }
    }
}

/// A network on its way from one topology to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvolutionAnswer {
    /// `preparing`: peers take places in the new topology, messages go over the old one; `finishing`:
    /// messages go over the new one, and those under way in the old one arrive.
    pub stage: String,
    /// The topology that it leaves.
    pub from: String,
    /// The topology that it goes to.
    pub to: String,
}

impl From<ringweave_net::Evolution> for EvolutionAnswer {
    fn from(evolution: ringweave_net::Evolution) -> Self {
        Self {
            stage: evolution.stage.into(),
            from: evolution.from.into(),
            to: evolution.to.into(),
        }
    }
}

/// Counters since a peer's start.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CountersAnswer {
    /// Messages this peer sent.
    pub sent: u64,
    /// Messages delivered here.
    pub delivered: u64,
    /// Messages passed on to a neighbour.
    pub forwarded: u64,
    /// Copies of broadcasts handed to a neighbour.
    pub spread: u64,
    /// Messages that arrived more than once.
    pub duplicates: u64,
    /// Broadcasts that came because this peer asked a neighbour for them.
    pub repaired: u64,
    /// Broadcasts delivered after a later one of their sender.
    pub late: u64,
    /// Broadcasts offered to a neighbour, each time one is.
    pub offered: u64,
    /// Broadcasts asked of a neighbour, each time one is.
    pub asked: u64,
    /// Broadcasts that were offered or missed, and came from nobody who was asked.
    pub missed: u64,
    /// Messages dropped because a queue was full.
    pub dropped: u64,
    /// Nonsense from the network.
    pub faults: u64,
    /// Bytes written to links.
    pub bytes_out: u64,
    /// Bytes read from links.
    pub bytes_in: u64,
}

impl From<Counters> for CountersAnswer {
    fn from(counters: Counters) -> Self {
        let Counters {
            sent,
            delivered,
            forwarded,
            spread,
            duplicates,
            repaired,
            late,
            offered,
            asked,
            missed,
            dropped,
            faults,
            bytes_out,
            bytes_in,
        } = counters;
        Self {
            sent,
            delivered,
            forwarded,
            spread,
            duplicates,
            repaired,
            late,
            offered,
            asked,
            missed,
            dropped,
            faults,
            bytes_out,
            bytes_in,
        }
    }
}

/// A message from the network, one line of `listen`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename = "message")]
pub struct MessageEvent {
    /// `unicast`, `multicast` or `broadcast`.
    #[schema(value_type = String)]
    pub kind: MessageKind,
    /// Who sent it.
    #[schema(value_type = String)]
    pub from: PeerId,
    /// Its number in the sender's flow.
    pub seq: u64,
    /// Hops it made.
    pub hops: u8,
    /// Whether a later message of the same sender came first.
    pub late: bool,
    /// What it carries.
    #[serde(flatten)]
    pub payload: Payload,
}

impl From<Received> for MessageEvent {
    fn from(received: Received) -> Self {
        Self {
            kind: received.kind,
            from: received.from,
            seq: received.seq,
            hops: received.hops,
            late: received.turn == Turn::Late,
            payload: Payload::bytes(&received.payload),
        }
    }
}

/// Milliseconds, to the microsecond.
pub fn ms(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_payload_survives_the_way_whatever_its_bytes() {
        for bytes in [&b"ring"[..], b"", &[0xff, 0, 0xfe]] {
            let text = serde_json::to_string(&Payload::bytes(bytes)).unwrap();
            let payload: Payload = serde_json::from_str(&text).unwrap();
            assert_eq!(payload.into_bytes().unwrap(), bytes);
        }
    }

    #[test]
    fn a_message_says_whether_it_came_late() {
        for (turn, late) in [(Turn::InOrder, false), (Turn::Late, true)] {
            let event = MessageEvent::from(Received {
                kind: MessageKind::Broadcast,
                from: PeerId::from_bytes([7; 32]),
                seq: 3,
                hops: 2,
                turn,
                payload: "ring".into(),
            });
            let line = serde_json::to_value(event).unwrap();
            assert_eq!(
                (&line["event"], &line["late"]),
                (&json!("message"), &json!(late))
            );
        }
    }

    #[test]
    fn an_outcome_is_told_apart_on_the_wire() {
        let fault = Fault::new(crate::Word::NoRoute, "no way");
        let text = serde_json::to_string(&Outcome::Undelivered(fault.clone().into())).unwrap();
        assert_eq!(
            text,
            r#"{"delivered":false,"error":"no_route","message":"no way"}"#
        );
        let Outcome::Undelivered(read) = serde_json::from_str(&text).unwrap() else {
            panic!("{text}")
        };
        assert_eq!(read.fault, fault);
    }
}
