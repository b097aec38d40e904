//! Who a peer is: its public key, and the small handle that stands for it inside one machine.

use std::{fmt, str::FromStr};

use data_encoding::{BASE32_NOPAD, Encoding, HEXLOWER, HEXLOWER_PERMISSIVE, Specification};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::sync::LazyLock;
use thiserror::Error;

static TEXT: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification
        .symbols
        .push_str(&BASE32_NOPAD.specification().symbols.to_lowercase());
    specification
        .translate
        .from
        .push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    specification
        .translate
        .to
        .push_str("abcdefghijklmnopqrstuvwxyz");
    specification
        .encoding()
        .expect("lower-case RFC 4648 base32 is a valid encoding")
});

/// A peer, forever: its Ed25519 public key.
///
/// People see it as 52 letters and digits (base32, lower case), or the first ten of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

impl PeerId {
    /// Length of the full text form.
    pub const TEXT_LEN: usize = 52;
    /// Length of the short text form, for tables and logs.
    pub const SHORT_LEN: usize = 10;

    /// The peer of this public key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public key.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first [`SHORT_LEN`](Self::SHORT_LEN) characters of the text: enough to tell peers apart,
    /// and accepted wherever a peer is named.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(Self::SHORT_LEN);
        text
    }

    /// Whether the text form starts with `prefix` (any letter case).
    pub fn has_prefix(&self, prefix: &str) -> bool {
        let text = self.to_string();
        text.get(..prefix.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&TEXT.encode(&self.0))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// A text that is no PeerId.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a PeerId is 52 letters a-z and digits 2-7, but this is {0:?}")]
pub struct PeerIdError(pub String);

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        let bytes = TEXT.decode(text.as_bytes()).ok();
        bytes
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| PeerIdError(text.into()))
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(D::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// A peer inside one machine: a 4-byte handle with no order and no meaning outside it.
///
/// Order and ties go by [`PeerId`]. The host keeps the book handle <-> PeerId and addresses, and
/// swaps handles for contacts when a message leaves or enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Peer(pub u32);

/// A point that data can be kept under: 32 bytes of BLAKE3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The key of `data` within the key space `kind`.
    pub fn of(kind: &str, data: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(kind.as_bytes()).update(b"|").update(data);
        Self(*hasher.finalize().as_bytes())
    }

    /// The hash of `data` itself, as `b3sum` prints it.
    pub fn hash(data: &[u8]) -> Self {
        Self(*blake3::hash(data).as_bytes())
    }

    /// A key made of `parts`, apart from the keys of every other `context` and from every [`hash`](Self::hash).
    pub fn derived(context: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for part in parts {
            hasher
                .update(&(part.len() as u64).to_le_bytes())
                .update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The first eight bytes, little endian: what rendezvous hashing starts from.
    #[inline]
    pub fn head(&self) -> u64 {
        let mut head = [0; 8];
        head.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(head)
    }
}

impl fmt::Display for Key {
    /// 64 hexadecimal digits, as `b3sum` prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a key has 64 hexadecimal digits")]
pub struct KeyError;

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(KeyError)
    }
}

/// A signature by a peer's key: Ed25519 on real networks, a keyed hash in simulations.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (left, right) = self.0.split_at(32);
        (
            <&[u8; 32]>::try_from(left).expect("half of 64"),
            <&[u8; 32]>::try_from(right).expect("half of 64"),
        )
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (left, right) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&left);
        bytes[32..].copy_from_slice(&right);
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back_in_any_case() {
        let id = PeerId::from_bytes(std::array::from_fn(|i| i as u8 * 7));
        let text = id.to_string();
        assert_eq!(text.len(), PeerId::TEXT_LEN);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        assert!(id.has_prefix(&text[..4].to_uppercase()));
        assert!(!id.has_prefix("zzzz"));
    }

    #[test]
    fn an_altered_text_is_refused() {
        let text = PeerId::from_bytes([9; 32]).to_string();
        for bad in [&text[1..], &text.replace('b', "1"), "", "peer"] {
            assert!(bad.parse::<PeerId>().is_err(), "{bad}");
        }
    }
}
