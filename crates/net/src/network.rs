//! A network's configuration: one object, signed with the network's key, that all its peers agree on.
//!
//! The network's id *is* that public key. The object travels in invites and is compared in every
//! handshake, so two peers never disagree about the shape of their rings.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use iroh::{PublicKey, SecretKey};
use ringweave_ids::{Signature, wire};
use ringweave_overlay::{Topology, polyring};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Sets signatures over a network's configuration apart from all others.
const DOMAIN: &[u8] = b"ringweave network 1|";
/// Sets the commitment to an admission secret apart from proofs made with it.
const COMMITMENT: &str = "ringweave 2026 admission commitment";

/// Largest ring a network may ask for: every peer holds a connection to each of its ring.
pub const MAX_RING: u32 = 1_024;
/// Most members a position may have.
pub const MAX_CLUSTER: u32 = 16;

/// Where newcomers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Where the fewest peers are.
    Balanced,
    /// Into the branch of their label.
    Labelled,
    /// To the ring with the lowest measured round trip.
    Nearest,
}

impl Policy {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Labelled => "labelled",
            Self::Nearest => "nearest",
        }
    }
}

/// A word that names nothing of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{given:?} is no {kind}: choose one of {choices}")]
pub struct WordError {
    kind: &'static str,
    given: String,
    choices: &'static str,
}

impl FromStr for Policy {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        [Self::Balanced, Self::Labelled, Self::Nearest]
            .into_iter()
            .find(|policy| policy.name() == text)
            .ok_or_else(|| WordError {
                kind: "policy",
                given: text.into(),
                choices: "balanced, labelled, nearest",
            })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a caller asks of a network's shape: used for a new one, compared with an existing one.
/// What is not said takes its default, or whatever the network has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The topology; polyring unless said.
    pub topology: Option<Topology>,
    /// Most positions in a ring; 32 unless said.
    pub ring_size: Option<u32>,
    /// Members of a position with children; 3 unless said.
    pub cluster: Option<u32>,
    /// Where newcomers go; balanced unless said.
    pub policy: Option<Policy>,
    /// Whether joining needs an invite with a secret; not unless said.
    pub closed: Option<bool>,
}

/// A shape that no network can have, or that the network at hand does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A number out of its range.
    #[error("the {setting} of {given} is not between {low} and {high}")]
    Range {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        given: u32,
        /// The least allowed.
        low: u32,
        /// The most allowed.
        high: u32,
    },
    /// The network has another value.
    #[error(
        "the network's {setting} is {is}, not {wanted}; leave the setting out to take the network's"
    )]
    Differs {
        /// Which setting.
        setting: &'static str,
        /// What was asked for.
        wanted: String,
        /// What the network has.
        is: String,
    },
}

/// Where a network is on its way from one topology to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It goes nowhere.
    #[default]
    Settled,
    /// Peers take places in this topology too; messages go over the old one.
    Preparing(Topology),
    /// Messages go over the new topology; in this one those under way arrive.
    Finishing(Topology),
}

/// What all peers of a network agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Which edition of the object this is; a later one replaces it.
    pub version: u32,
    /// How often the network has moved to another topology: the number of the overlay that carries its
    /// messages.
    pub instance: u32,
    /// Whether it moves to another one now.
    pub stage: Stage,
    /// How its peers arrange themselves.
    pub topology: Topology,
    /// Most positions in a ring.
    pub ring_size: u32,
    /// Members of a position with children.
    pub cluster: u32,
    /// Where newcomers go.
    pub policy: Policy,
    /// In a closed network, what the admission secret must hash to.
    pub admission: Option<[u8; 32]>,
}

/// The object as it was before networks could move. One that never moved is signed in this form.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Settled1 {
    version: u32,
    topology: Topology,
    ring_size: u32,
    cluster: u32,
    policy: Policy,
    admission: Option<[u8; 32]>,
}

impl From<Settled1> for Settled {
    fn from(old: Settled1) -> Self {
        Self {
            version: old.version,
            instance: 0,
            stage: Stage::Settled,
            topology: old.topology,
            ring_size: old.ring_size,
            cluster: old.cluster,
            policy: old.policy,
            admission: old.admission,
        }
    }
}

impl From<&Settled> for Settled1 {
    fn from(new: &Settled) -> Self {
        Self {
            version: new.version,
            topology: new.topology,
            ring_size: new.ring_size,
            cluster: new.cluster,
            policy: new.policy,
            admission: new.admission,
        }
    }
}

impl Settled {
    /// The overlays that a peer takes part in, by number; the one that carries messages first.
    pub(crate) fn overlays(&self) -> impl Iterator<Item = (u32, Topology)> {
        let other = match self.stage {
            Stage::Settled => None,
            Stage::Preparing(next) => Some((self.instance.saturating_add(1), next)),
            Stage::Finishing(last) => Some((self.instance.saturating_sub(1), last)),
        };
        std::iter::once((self.instance, self.topology)).chain(other)
    }

    /// What comes next, where this peer decides: a stage further on the way to another topology, or
    /// back from where it began.
    pub(crate) fn next(&self, step: Step) -> Self {
        let mut next = self.clone();
        next.version = self.version.saturating_add(1);
        match (step, self.stage) {
            (Step::Prepare(to), _) => next.stage = Stage::Preparing(to),
            (Step::Advance, Stage::Preparing(to)) => {
                next.stage = Stage::Finishing(self.topology);
                next.topology = to;
                next.instance = self.instance.saturating_add(1);
            }
            (Step::Advance | Step::Abandon, _) => next.stage = Stage::Settled,
        }
        next
    }
}

/// A step of a network on its way to another topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To take places in this one.
    Prepare(Topology),
    /// To the next stage.
    Advance,
    /// To stay where it was.
    Abandon,
}

/// A network: its configuration, its key, and the key's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// What all agree on.
    pub settled: Settled,
    /// The network's public key.
    pub id: [u8; 32],
    signature: Signature,
}

/// Lets a peer into a closed network. Never printed, and never sent to a peer that has not proved
/// that it knows it too.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A new one.
    pub(crate) fn generate() -> Self {
        Self(SecretKey::generate().to_bytes())
    }

    fn commitment(&self) -> [u8; 32] {
        blake3::derive_key(COMMITMENT, &self.0)
    }
}

impl Network {
    /// A new network of the given shape under `key`; closed if there is a secret.
    ///
    /// # Errors
    /// If the shape is out of range.
    pub(crate) fn found(
        key: &SecretKey,
        shape: &Shape,
        secret: Option<&Secret>,
    ) -> Result<Self, ShapeError> {
        let usual = polyring::Config::default();
        let settled = Settled {
            version: 1,
            instance: 0,
            stage: Stage::Settled,
            topology: shape.topology.unwrap_or(Topology::Polyring),
            ring_size: within(
                "ring size",
                shape.ring_size.unwrap_or(usual.ring_size.into()),
                2,
                MAX_RING,
            )?,
            cluster: within(
                "cluster",
                shape.cluster.unwrap_or(usual.cluster.into()),
                1,
                MAX_CLUSTER,
            )?,
            policy: shape.policy.unwrap_or(Policy::Balanced),
            admission: secret.map(Secret::commitment),
        };
        Ok(Self::signed(key, settled))
    }

    /// A network of this configuration.
    fn signed(key: &SecretKey, settled: Settled) -> Self {
        let id = *key.public().as_bytes();
        let signature = Signature(key.sign(&signed(&id, &settled)).to_bytes());
        Self {
            settled,
            id,
            signature,
        }
    }

    /// The network one step on; nothing if the key is another one's.
    pub(crate) fn step(&self, key: &SecretKey, step: Step) -> Option<Self> {
        let is_own = key.public().as_bytes() == &self.id;
        is_own.then(|| Self::signed(key, self.settled.next(step)))
    }

    /// Whether it is a later edition of the other one.
    pub(crate) fn succeeds(&self, other: &Self) -> bool {
        self.id == other.id && self.settled.version > other.settled.version
    }

    /// Whether the network's key made the signature, and the values are in range.
    pub(crate) fn is_genuine(&self) -> bool {
        let in_range = (2..=MAX_RING).contains(&self.settled.ring_size)
            && (1..=MAX_CLUSTER).contains(&self.settled.cluster);
        in_range
            && PublicKey::from_bytes(&self.id).is_ok_and(|key| {
                let signature = iroh::Signature::from_bytes(&self.signature.0);
                key.verify(&signed(&self.id, &self.settled), &signature)
                    .is_ok()
            })
    }

    /// Whether `secret` is the one that lets peers in.
    pub(crate) fn admits(&self, secret: &Secret) -> bool {
        // blake3's own comparison takes the same time wherever the bytes differ.
        self.settled
            .admission
            .is_some_and(|wanted| blake3::Hash::from_bytes(secret.commitment()) == wanted)
    }

    /// Whether joining needs the secret.
    pub fn is_closed(&self) -> bool {
        self.settled.admission.is_some()
    }

    /// The network's id as people see it.
    pub fn name(&self) -> String {
        BASE32_NOPAD.encode(&self.id).to_lowercase()
    }

    /// Compares with what a caller asked for.
    ///
    /// # Errors
    /// Names the first setting that differs.
    pub fn compare(&self, shape: &Shape) -> Result<(), ShapeError> {
        let Settled {
            topology,
            ring_size,
            cluster,
            policy,
            ..
        } = &self.settled;
        differs("topology", shape.topology, *topology)?;
        differs("ring size", shape.ring_size, *ring_size)?;
        differs("cluster", shape.cluster, *cluster)?;
        differs("policy", shape.policy, *policy)?;
        differs("closed", shape.closed, self.is_closed())
    }
}

fn within(setting: &'static str, given: u32, low: u32, high: u32) -> Result<u32, ShapeError> {
    if (low..=high).contains(&given) {
        Ok(given)
    } else {
        Err(ShapeError::Range {
            setting,
            given,
            low,
            high,
        })
    }
}

fn differs<T: PartialEq + fmt::Display>(
    setting: &'static str,
    wanted: Option<T>,
    is: T,
) -> Result<(), ShapeError> {
    match wanted {
        Some(wanted) if wanted != is => Err(ShapeError::Differs {
            setting,
            wanted: wanted.to_string(),
            is: is.to_string(),
        }),
        _ => Ok(()),
    }
}

fn signed(id: &[u8; 32], settled: &Settled) -> Vec<u8> {
    let mut bytes = DOMAIN.to_vec();
    bytes.extend_from_slice(id);
    bytes.extend_from_slice(&wire::to_vec(&Settled1::from(settled)));
    if (settled.instance, settled.stage) != (0, Stage::Settled) {
        bytes.extend_from_slice(&wire::to_vec(&(settled.instance, settled.stage)));
    }
    bytes
}

/// A network as it was written down before networks could move.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Network1 {
    settled: Settled1,
    id: [u8; 32],
    signature: Signature,
}

impl From<Network1> for Network {
    fn from(old: Network1) -> Self {
        Self {
            settled: old.settled.into(),
            id: old.id,
            signature: old.signature,
        }
    }
}

#[cfg(test)]
impl From<Network> for Network1 {
    fn from(new: Network) -> Self {
        Self {
            settled: Settled1::from(&new.settled),
            id: new.id,
            signature: new.signature,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_networks_key_makes_a_network() {
        let key = SecretKey::generate();
        let network = Network::found(&key, &Shape::default(), None).unwrap();
        assert!(network.is_genuine());
        let wider = Settled {
            ring_size: 64,
            ..network.settled
        };
        assert!(
            !Network {
                settled: wider,
                ..network
            }
            .is_genuine()
        );
        assert!(
            !Network {
                id: *SecretKey::generate().public().as_bytes(),
                ..network
            }
            .is_genuine()
        );
    }

    #[test]
    fn a_network_moves_stage_by_stage_and_each_is_signed() {
        let key = SecretKey::generate();
        let star = Shape {
            topology: Some(Topology::Star),
            ..Shape::default()
        };
        let first = Network::found(&key, &star, None).unwrap();
        assert!(first.step(&SecretKey::generate(), Step::Advance).is_none());
        let overlays = |network: &Network| network.settled.overlays().collect::<Vec<_>>();
        let (star, rings) = ((0, Topology::Star), (1, Topology::Polyring));
        let second = first.step(&key, Step::Prepare(Topology::Polyring)).unwrap();
        assert_eq!(overlays(&second), [star, rings]);
        let third = second.step(&key, Step::Advance).unwrap();
        assert_eq!(overlays(&third), [rings, star]);
        let last = third.step(&key, Step::Advance).unwrap();
        assert_eq!(overlays(&last), [rings]);
        let back = second.step(&key, Step::Abandon).unwrap();
        assert_eq!(overlays(&back), [star]);
        for (later, earlier) in [(&second, &first), (&third, &second), (&last, &third)] {
            assert!(later.is_genuine() && later.succeeds(earlier) && !earlier.succeeds(later));
        }
        let mut forged = third;
        forged.settled.stage = Stage::Finishing(Topology::Chord);
        assert!(!forged.is_genuine());
    }

    #[test]
    fn a_difference_names_its_setting() {
        let network = Network::found(&SecretKey::generate(), &Shape::default(), None).unwrap();
        assert_eq!(network.compare(&Shape::default()), Ok(()));
        assert_eq!(
            network.compare(&Shape {
                ring_size: Some(32),
                ..Shape::default()
            }),
            Ok(())
        );
        let error = network
            .compare(&Shape {
                ring_size: Some(8),
                ..Shape::default()
            })
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the network's ring size is 32, not 8; leave the setting out to take the network's"
        );
        assert!(
            network
                .compare(&Shape {
                    closed: Some(true),
                    ..Shape::default()
                })
                .is_err()
        );
    }

    #[test]
    fn a_shape_out_of_range_is_refused() {
        let shape = Shape {
            ring_size: Some(1),
            ..Shape::default()
        };
        assert!(matches!(
            Network::found(&SecretKey::generate(), &shape, None),
            Err(ShapeError::Range { given: 1, .. })
        ));
    }

    #[test]
    fn a_closed_network_knows_its_secret() {
        let secret = Secret::generate();
        let network =
            Network::found(&SecretKey::generate(), &Shape::default(), Some(&secret)).unwrap();
        assert!(network.is_closed() && network.admits(&secret));
        assert!(!network.admits(&Secret::generate()));
    }
}
