//! Records: small values under keys, kept for a time by the peers that a key belongs to.
//!
//! ```text
//!   owner ── Put ──> first holder ── Copy ──> those next to it      all have it: Kept ──> owner
//!                                └── Copy ──> the far holder
//!   reader ── Get ──> first holder, and after a while the far one, too
//! ```
//!
//! The *first* holder of a key is the overlay's owner of it (choice 0), those *near* are its replicas, and
//! the *far* one is choice 1. A put is acknowledged when every copy is there. The first holder answers
//! reads alone as long as it is sure that it has the newest; who has just become first asks the others
//! before it answers. Holders compare their copies when it changes who they are, and every five minutes;
//! values travel only where one lacks them. A deleted record stays, without a value, until its lease ends.
//!
//! Nobody is believed: a record is verified by whoever keeps it, and again by whoever reads it.

mod client;
mod holder;
mod record;
mod saved;
mod store;
mod upkeep;
mod watch;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use ringweave_ids::{Key, PeerId, Time};
use serde::{Deserialize, Serialize};

use crate::Failure;
pub(crate) use client::Errand;
use client::{Getting, Own};
use holder::{Check, Putting};
pub use record::{MAX_LEASE, MAX_RECORD_NAME, MAX_VALUE, MIN_LEASE, Record};
use store::Store;
use upkeep::Round;
use watch::Watches;

/// Why a holder, or this peer itself, would not keep a record. The words are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// Its owner did not sign it.
    Forged,
    /// There is a newer one, or another of the same number.
    Stale,
    /// Its lease is over, or it comes from the future: the owner's clock may be wrong.
    Expired,
    /// The value has more than [`MAX_VALUE`] bytes, or the name more than [`MAX_RECORD_NAME`], or none.
    TooLarge,
    /// Its lease is out of bounds, or it deletes what cannot be deleted.
    Malformed,
    /// The holder has no room.
    Full,
    /// The owner keeps too much already, there or here.
    Quota,
}

/// Why a record could not be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// It was refused.
    Denied(Denial),
    /// Its holders could not be reached.
    Failed(Failure),
    /// Nobody holds keys in a network without structure.
    NoHolders,
}

/// A record that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Under which key.
    pub key: Key,
    /// Its number.
    pub sequence: u64,
    /// Peers that hold it.
    pub copies: u8,
    /// From the command to knowing.
    pub took: Duration,
}

/// A record of this peer that it keeps alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Its key.
    pub key: Key,
    /// Its name; nothing for an immutable one.
    pub name: Option<String>,
    /// Its number.
    pub sequence: u64,
    /// The lease that it is renewed for.
    pub lease: Duration,
    /// Bytes of its value.
    pub bytes: usize,
    /// Whether its holders have this very one.
    pub is_kept: bool,
}

/// A record as this peer has it: for the disk, or for its next node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The record.
    pub record: Record,
    /// How long it is still kept.
    pub left: Duration,
    /// If this peer put it and renews it: for how long.
    pub own: Option<Duration>,
}

/// What peers say on [`Port::RECORDS`](crate::Port::RECORDS). Variants are only ever added, at the end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// To the first holder: keep this, and have the others keep it.
    Put { number: u64, record: Record },
    /// To another holder: keep this, for so many seconds more.
    Copy {
        number: u64,
        left: u32,
        record: Record,
    },
    /// To the first holder or the far one: what is there.
    Get { number: u64, key: Key },
    /// To another holder: what do you have yourself.
    Look { number: u64, key: Key },
    /// To another holder: I have this one.
    Offer {
        number: u64,
        key: Key,
        sequence: u64,
    },
    /// It is kept, by so many peers.
    Kept { number: u64, copies: u8 },
    /// It is not kept.
    Denied { number: u64, why: Denial },
    /// This is there, for so many seconds more.
    Found {
        number: u64,
        left: u32,
        record: Record,
    },
    /// Nothing is there.
    Nothing { number: u64 },
    /// Nothing is here, but not all who may have it could be asked.
    Unsure { number: u64 },
    /// The offered one is lacking.
    Wanted { number: u64 },
    /// As `Get`, to the first holder; and say so when it changes.
    Watch { number: u64, key: Key },
    /// What you watch has changed.
    Touched { key: Key },
}

/// An answer to one of this peer's questions.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is kept, by so many peers, as this one says.
    Kept(u8, PeerId),
    /// It is not kept.
    Denied(Denial),
    /// This is there, for so long.
    Found(Duration, Box<Record>),
    /// Nothing is there.
    Nothing,
    /// Nothing is there, as far as could be seen.
    Unsure,
    /// What was offered is lacking.
    Wanted,
}

/// All about records at this peer.
pub(crate) struct Records<A> {
    /// What it keeps for others.
    store: Store,
    /// What it put, and keeps alive.
    own: BTreeMap<Key, Own>,
    /// Puts that wait for copies.
    puts: BTreeMap<u64, Putting<A>>,
    /// Reads that wait for what the other holders have.
    checks: BTreeMap<Key, Check<A>>,
    /// Comparisons under way.
    rounds: BTreeMap<Key, Round>,
    /// Reads of this peer.
    gets: BTreeMap<u64, Getting>,
    watches: Watches<A>,
    last: u64,
    /// When what is due is looked at next.
    armed: Option<Time>,
    /// When it is looked whether other peers hold what this one keeps.
    look: Option<Time>,
    sweep: Option<Time>,
}

impl<A> Default for Records<A> {
    fn default() -> Self {
        Self {
            store: Store::default(),
            own: BTreeMap::new(),
            puts: BTreeMap::new(),
            checks: BTreeMap::new(),
            rounds: BTreeMap::new(),
            gets: BTreeMap::new(),
            watches: Watches::default(),
            last: 0,
            armed: None,
            look: None,
            sweep: None,
        }
    }
}

impl<A> Records<A> {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// Who waits for an answer, and where.
#[derive(Clone, Debug)]
pub(super) struct Asker<A> {
    id: PeerId,
    at: A,
    number: u64,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its key.
    pub key: Key,
    /// Who put it.
    pub owner: PeerId,
    /// What the owner calls it.
    pub name: Option<String>,
    /// Its number.
    pub sequence: u64,
    /// How long it is still kept if nobody renews it.
    pub left: Duration,
    /// What it carries.
    pub value: Bytes,
}
