//! Records: what is put, read, watched and listed.

use ringweave_ids::{Key, PeerId};
use ringweave_net::CallError;
use ringweave_node::{Fetched, Owned, Record, Stored};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Payload, ms};
use crate::Fault;

/// A record to be kept.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutBody {
    /// What this peer calls it, 1 to 255 bytes; without a name it never changes, and its key is its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How long it stays if this peer does not renew it, in seconds: 10 s to 7 days, an hour if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<u64>,
    /// Its value, at most 60 KiB.
    #[serde(flatten)]
    pub payload: Payload,
}

/// Which record.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteBody {
    /// What this peer calls it.
    pub name: String,
}

/// A record that is kept, or deleted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StoredAnswer {
    /// By which anybody reads it: 64 hexadecimal digits.
    pub key: String,
    /// Its number; a later one of the same name has a larger one.
    pub sequence: u64,
    /// Peers that hold it.
    pub copies: u8,
    /// From asking to knowing.
    pub ms: f64,
}

impl From<Stored> for StoredAnswer {
    fn from(stored: Stored) -> Self {
        Self {
            key: stored.key.to_string(),
            sequence: stored.sequence,
            copies: stored.copies,
            ms: ms(stored.took),
        }
    }
}

/// A record that was read.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordAnswer {
    /// Always true.
    pub found: bool,
    /// Its key.
    pub key: String,
    /// Who put it, and signed it.
    #[schema(value_type = String)]
    pub owner: PeerId,
    /// What its owner calls it.
    pub name: Option<String>,
    /// Its number.
    pub sequence: u64,
    /// How long it stays if its owner does not renew it, in seconds.
    pub left_s: f64,
    /// Its value.
    #[serde(flatten)]
    pub payload: Payload,
}

impl From<Fetched> for RecordAnswer {
    fn from(fetched: Fetched) -> Self {
        Self {
            found: true,
            key: fetched.key.to_string(),
            owner: fetched.owner,
            name: fetched.name,
            sequence: fetched.sequence,
            left_s: fetched.left.as_secs_f64(),
            payload: Payload::bytes(&fetched.value),
        }
    }
}

/// What this peer keeps alive in the network.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordsAnswer {
    /// Each of them, by key.
    pub records: Vec<OwnedAnswer>,
}

/// A record of this peer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OwnedAnswer {
    /// Its key.
    pub key: String,
    /// What this peer calls it.
    pub name: Option<String>,
    /// Its number.
    pub sequence: u64,
    /// What it is renewed for, in seconds.
    pub lease_s: f64,
    /// Bytes of its value.
    pub bytes: usize,
    /// Whether its holders have this very one.
    pub kept: bool,
}

impl From<Owned> for OwnedAnswer {
    fn from(owned: Owned) -> Self {
        Self {
            key: owned.key.to_string(),
            name: owned.name,
            sequence: owned.sequence,
            lease_s: owned.lease.as_secs_f64(),
            bytes: owned.bytes,
            kept: owned.is_kept,
        }
    }
}

/// What a watch tells.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum WatchEvent {
    /// This is kept under the key.
    Record(RecordAnswer),
    /// Nothing is kept under the key.
    Nothing {
        /// Which.
        key: String,
    },
    /// The watch is over.
    Failed(Fault),
}

impl WatchEvent {
    pub(crate) fn of(key: Key, told: Result<Option<Fetched>, CallError>) -> Self {
        match told {
            Ok(Some(fetched)) => Self::Record(fetched.into()),
            Ok(None) => Self::Nothing {
                key: key.to_string(),
            },
            Err(error) => Self::Failed(error.into()),
        }
    }
}

/// The key that a text means: one of 64 hexadecimal digits, or that of a name of the peer `owner`.
pub(crate) fn key_of(text: &str, owner: &PeerId) -> Key {
    text.parse().unwrap_or_else(|_| Record::key_of(owner, text))
}
