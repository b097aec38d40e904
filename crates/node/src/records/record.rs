//! A record: a value under a key, for a time, in its owner's name and with its signature.

use std::time::Duration;

use bytes::Bytes;
use ringweave_ids::{Key, PeerId, Signature, wire};
use ringweave_overlay::Host;
use serde::{Deserialize, Serialize};

use super::Denial;

/// The largest value of a record, in bytes: with its owner, name and signature it fits into one message.
pub const MAX_VALUE: usize = 60 * 1024;
/// The longest name of a record, in bytes.
pub const MAX_RECORD_NAME: usize = 255;
/// The shortest lease of a record.
pub const MIN_LEASE: Duration = Duration::from_secs(10);
/// The longest lease of a record.
pub const MAX_LEASE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How far two clocks may differ before the records of one are old to the other.
const SKEW: Duration = Duration::from_secs(10 * 60);
/// What the key of a named record is derived with.
const NAMED: &str = "ringweave 2026 key of a named record";
/// What a signature is made over, with the network and the record.
const DOMAIN: &str = "ringweave record 1";

/// A value that peers keep for its owner until a lease ends.
///
/// One with a name is **mutable**: its key is made of its owner and the name, and of two the one with the
/// larger sequence is the newer. One without is **immutable**: its key is the BLAKE3 hash of the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who signed it, and may replace it.
    pub owner: PeerId,
    /// What the owner calls it, 1 to [`MAX_RECORD_NAME`] bytes; nothing for an immutable one.
    pub name: Option<String>,
    /// Milliseconds of the owner's clock since 1970, and larger than in any earlier one of the name.
    pub sequence: u64,
    /// How long it is kept from then on, in seconds; [`MIN_LEASE`] to [`MAX_LEASE`].
    pub lease: u32,
    /// At most [`MAX_VALUE`] bytes; nothing if the record was deleted.
    pub value: Option<Bytes>,
    /// By the owner, over all of it and the network's id.
    pub signature: Signature,
}

impl Record {
    /// The key of a peer's named record.
    pub fn key_of(owner: &PeerId, name: &str) -> Key {
        Key::derived(NAMED, &[owner.as_bytes(), name.as_bytes()])
    }

    /// A record of this host's peer, signed.
    pub(super) fn signed(
        host: &dyn Host,
        owner: PeerId,
        name: Option<String>,
        sequence: u64,
        lease: Duration,
        value: Option<Bytes>,
    ) -> Self {
        let mut record = Self {
            owner,
            name,
            sequence,
            lease: lease.as_secs() as u32,
            value,
            signature: Signature([0; 64]),
        };
        record.signature = host.sign(&record.signed_bytes(host.network()));
        record
    }

    fn signed_bytes(&self, network: &[u8; 32]) -> Vec<u8> {
        let Self {
            owner,
            name,
            sequence,
            lease,
            value,
            signature: _,
        } = self;
        let value = value.as_ref().map(|value| Key::hash(value));
        wire::to_vec(&(DOMAIN, network, owner, name, sequence, lease, value))
    }

    /// Where it belongs.
    pub fn key(&self) -> Key {
        match &self.name {
            Some(name) => Self::key_of(&self.owner, name),
            None => Key::hash(self.value.as_deref().unwrap_or_default()),
        }
    }

    /// Whether its value can never be another one.
    pub fn is_immutable(&self) -> bool {
        self.name.is_none()
    }

    /// The room it takes, in bytes.
    pub(super) fn size(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + self.name.as_ref().map_or(0, String::len) + value
    }

    pub(super) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease.into())
    }

    /// Whether it is what its owner signed, within its bounds, and not out of time by this clock, in
    /// milliseconds since 1970.
    pub(super) fn check(&self, host: &dyn Host, clock: u64) -> Result<(), Denial> {
        let name = self.name.as_ref().map(String::len);
        let is_named = name.is_none_or(|len| (1..=MAX_RECORD_NAME).contains(&len));
        let value = self.value.as_ref().map(Bytes::len);
        if !is_named || value.is_some_and(|len| len > MAX_VALUE) {
            return Err(Denial::TooLarge);
        }
        let is_leased = (MIN_LEASE..=MAX_LEASE).contains(&self.lease());
        if !is_leased || (self.value.is_none() && self.is_immutable()) {
            return Err(Denial::Malformed);
        }
        let bytes = self.signed_bytes(host.network());
        if !host.verify(&self.owner, &bytes, &self.signature) {
            return Err(Denial::Forged);
        }
        let millis = |span: Duration| span.as_millis() as u64;
        let end = self.sequence.saturating_add(millis(self.lease() + SKEW));
        let is_early = self.sequence > clock.saturating_add(millis(SKEW));
        match end < clock || is_early {
            true => Err(Denial::Expired),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ringweave_ids::Peer;

    use super::*;

    /// A host whose peers sign by writing their first byte.
    struct Desk(u8);

    impl Host for Desk {
        fn id(&self, _: Peer) -> PeerId {
            PeerId::from_bytes([self.0; 32])
        }

        fn peer(&self, _: &PeerId) -> Option<Peer> {
            None
        }

        fn sign(&self, bytes: &[u8]) -> Signature {
            let mut seal = [self.0; 64];
            seal[..32].copy_from_slice(&Key::hash(bytes).0);
            Signature(seal)
        }

        fn sign_as_network(&self, _: &[u8]) -> Option<Signature> {
            None
        }

        fn verify(&self, by: &PeerId, bytes: &[u8], signature: &Signature) -> bool {
            Self(by.as_bytes()[0]).sign(bytes) == *signature
        }

        fn verify_network(&self, _: &[u8], _: &Signature) -> bool {
            false
        }

        fn network(&self) -> &[u8; 32] {
            &[7; 32]
        }
    }

    const HOUR: Duration = Duration::from_secs(3_600);
    const NOW: u64 = 1_800_000_000_000;

    fn record(name: Option<&str>, value: Option<&'static [u8]>, lease: Duration) -> Record {
        let (name, value) = (name.map(str::to_owned), value.map(Bytes::from_static));
        Record::signed(
            &Desk(3),
            PeerId::from_bytes([3; 32]),
            name,
            NOW,
            lease,
            value,
        )
    }

    #[test]
    fn each_thing_that_is_wrong_with_a_record_has_its_word() {
        let good = record(Some("n"), Some(b"v"), HOUR);
        let check = |record: &Record| record.check(&Desk(9), NOW);
        assert_eq!(check(&good), Ok(()));
        let other = |change: fn(&mut Record)| {
            let mut record = good.clone();
            change(&mut record);
            check(&record)
        };
        let forged = Err(Denial::Forged);
        assert_eq!(other(|it| it.owner = PeerId::from_bytes([4; 32])), forged);
        assert_eq!(other(|it| it.name = Some("m".into())), forged);
        assert_eq!(other(|it| it.sequence += 1), forged);
        assert_eq!(other(|it| it.lease += 1), forged);
        assert_eq!(
            other(|it| it.value = Some(Bytes::from_static(b"w"))),
            forged
        );
        assert_eq!(other(|it| it.value = None), forged);
        let sized = |name: usize, value: usize| Record {
            name: Some("n".repeat(name)),
            value: Some(vec![0; value].into()),
            ..good.clone()
        };
        for (name, value) in [(0, 1), (MAX_RECORD_NAME + 1, 1), (1, MAX_VALUE + 1)] {
            assert_eq!(check(&sized(name, value)), Err(Denial::TooLarge));
        }
        for lease in [
            Duration::ZERO,
            MIN_LEASE - Duration::from_secs(1),
            MAX_LEASE + MIN_LEASE,
        ] {
            let record = record(Some("n"), Some(b"v"), lease);
            assert_eq!(check(&record), Err(Denial::Malformed));
        }
        assert_eq!(check(&record(None, None, HOUR)), Err(Denial::Malformed));
    }

    #[test]
    fn what_is_over_is_refused_and_what_has_not_begun() {
        let record = record(Some("n"), None, HOUR);
        let millis = |span: Duration| span.as_millis() as u64;
        let end = NOW + millis(HOUR) + millis(SKEW);
        assert_eq!(record.check(&Desk(1), end), Ok(()));
        assert_eq!(record.check(&Desk(1), end + 1), Err(Denial::Expired));
        assert_eq!(record.check(&Desk(1), NOW - millis(SKEW)), Ok(()));
        assert_eq!(
            record.check(&Desk(1), NOW - millis(SKEW) - 1),
            Err(Denial::Expired)
        );
    }

    #[test]
    fn no_value_has_the_key_of_a_name() {
        let named = record(Some("n"), Some(b"v"), HOUR);
        let owner = named.owner.as_bytes();
        let tried = [owner.as_slice(), b"n"].concat();
        assert_ne!(Key::hash(&tried), named.key());
        // A name is no part of another owner's key, however they are put together.
        assert_ne!(Record::key_of(&named.owner, "nn"), named.key());
    }

    #[test]
    fn the_largest_record_fits_into_one_message() {
        let largest = Record {
            name: Some("n".repeat(MAX_RECORD_NAME)),
            value: Some(vec![1; MAX_VALUE].into()),
            sequence: u64::MAX,
            lease: u32::MAX,
            ..record(Some("n"), None, HOUR)
        };
        let word = super::super::Word::Found {
            number: u64::MAX,
            left: u32::MAX,
            record: largest,
        };
        assert!(wire::to_vec(&word).len() <= crate::MAX_PAYLOAD);
    }
}
