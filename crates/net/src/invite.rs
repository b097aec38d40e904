//! Invites: a text that holds all a newcomer needs to find a network and be let in.
//!
//! ```text
//! ringweave1 | base32( length u16 | body | first 5 bytes of BLAKE3(length | body) )
//! ```
//!
//! The digit is the version. The body is the signed network, the admission secret if the network is
//! closed, and peers with addresses. Any letter case is read, since a QR code is smaller in capitals.

use std::{fmt, net::SocketAddr, str::FromStr};

use data_encoding::BASE32_NOPAD;
use ringweave_ids::{PeerId, wire};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::network::{Network, Secret};

/// What every invite starts with; the version follows.
const WORD: &str = "ringweave";
/// The version written, and the only one read.
const VERSION: &str = "1";
/// Bytes of the checksum: one altered invite in 2^40 passes it.
const CHECKSUM: usize = 5;
/// Bytes that say how long the body is.
const LENGTH: usize = 2;
/// Peers an invite names: two survive one of them, four survive a bad day.
pub const MAX_CONTACTS: usize = 4;
/// Addresses of one peer in an invite.
pub const MAX_ADDRESSES: usize = 4;
/// No body is larger: four peers of four IPv6 addresses take 470 bytes, the network 180.
const BODY_CAP: usize = 1_024;

/// An invitation into a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    pub(crate) network: Network,
    pub(crate) secret: Option<Secret>,
    pub(crate) contacts: Vec<InviteContact>,
}

/// A peer that an invite names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteContact {
    /// Who.
    pub id: PeerId,
    /// Where it was reached when the invite was written, at most [`MAX_ADDRESSES`].
    pub addresses: Vec<SocketAddr>,
}

/// Why a text is no invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InviteError {
    /// It does not look like one at all.
    #[error(
        "this is no invite: an invite starts with {WORD}{VERSION} and goes on with letters a-z and digits 2-7"
    )]
    Malformed,
    /// The end is missing.
    #[error("the invite is cut short; copy it again, to its very end")]
    Truncated,
    /// A character differs, or the signature is not the network's.
    #[error("the invite is altered: {0}; ask for a new one")]
    Altered(&'static str),
    /// Another version of the program wrote it.
    #[error(
        "the invite is of a version that this program does not read; it reads version {VERSION}"
    )]
    OtherVersion,
}

impl Invite {
    /// Whether it lets its reader into a closed network, and so must be kept from others.
    pub fn carries_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// The network it leads into.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The same invite for the eyes of anybody: it shows where the network is, and lets nobody in.
    #[must_use]
    pub fn without_secret(&self) -> Self {
        Self {
            secret: None,
            ..self.clone()
        }
    }

    /// The peers it names.
    pub fn contacts(&self) -> &[InviteContact] {
        &self.contacts
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = wire::to_vec(&(&self.network, &self.secret, &self.contacts));
        let length =
            u16::try_from(body.len()).expect("an invite's lists are bounded far below 64 KiB");
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend_from_slice(&body);
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(&sum.as_bytes()[..CHECKSUM]);
        write!(
            f,
            "{WORD}{VERSION}{}",
            BASE32_NOPAD.encode(&bytes).to_lowercase()
        )
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        let text = text.trim().to_lowercase();
        let rest = match text.strip_prefix(WORD) {
            Some(rest) => rest,
            None if !text.is_empty() && WORD.starts_with(&text) => {
                return Err(InviteError::Truncated);
            }
            None => return Err(InviteError::Malformed),
        };
        let letters = rest.trim_start_matches(|letter: char| {
            letter.is_ascii_digit() && !('2'..='7').contains(&letter)
        });
        match &rest[..rest.len() - letters.len()] {
            VERSION => {}
            "" if rest.is_empty() => return Err(InviteError::Truncated),
            "" if rest.starts_with(|letter: char| letter.is_ascii_digit()) => {
                return Err(InviteError::OtherVersion);
            }
            "" => return Err(InviteError::Malformed),
            _ => return Err(InviteError::OtherVersion),
        }
        if !letters
            .bytes()
            .all(|letter| matches!(letter, b'a'..=b'z' | b'2'..=b'7'))
        {
            return Err(InviteError::Malformed);
        }
        read(&letters.to_uppercase())
    }
}

/// Reads what follows the version, in capitals.
fn read(letters: &str) -> Result<Invite, InviteError> {
    // Eight letters make five bytes: enough to learn how many there must be.
    let head = letters.get(..8).ok_or(InviteError::Truncated)?;
    let head = BASE32_NOPAD
        .decode(head.as_bytes())
        .map_err(|_| InviteError::Malformed)?;
    let length = usize::from(u16::from_le_bytes([head[0], head[1]]));
    if length > BODY_CAP {
        return Err(InviteError::Altered("its length is out of range"));
    }
    let expected = (LENGTH + length + CHECKSUM) * 8;
    match letters.len().cmp(&expected.div_ceil(5)) {
        std::cmp::Ordering::Less => return Err(InviteError::Truncated),
        std::cmp::Ordering::Greater => {
            return Err(InviteError::Altered("it is longer than it says"));
        }
        std::cmp::Ordering::Equal => {}
    }
    let bytes = BASE32_NOPAD
        .decode(letters.as_bytes())
        .map_err(|_| InviteError::Altered("its last letter is wrong"))?;
    let (told, sum) = bytes.split_at(bytes.len() - CHECKSUM);
    if blake3::hash(told).as_bytes()[..CHECKSUM] != *sum {
        return Err(InviteError::Altered("its checksum is wrong"));
    }
    let (network, secret, contacts): (Network, Option<Secret>, Vec<InviteContact>) =
        wire::decode(&told[LENGTH..], BODY_CAP)
            .map_err(|_| InviteError::Altered("its body does not decode"))?;
    if !network.is_genuine() {
        return Err(InviteError::Altered("the network's signature is wrong"));
    }
    if secret
        .as_ref()
        .is_some_and(|secret| !network.admits(secret))
    {
        return Err(InviteError::Altered("its secret is not the network's"));
    }
    let is_bounded = contacts.len() <= MAX_CONTACTS
        && contacts
            .iter()
            .all(|contact| contact.addresses.len() <= MAX_ADDRESSES);
    if !is_bounded {
        return Err(InviteError::Altered("it names more than an invite may"));
    }
    Ok(Invite {
        network,
        secret,
        contacts,
    })
}

#[cfg(test)]
mod tests {
    use iroh::SecretKey;

    use super::*;
    use crate::network::Shape;

    fn invite(is_closed: bool) -> Invite {
        let secret = is_closed.then(Secret::generate);
        let key = SecretKey::generate();
        let contact = |port| InviteContact {
            id: PeerId::from_bytes(*SecretKey::generate().public().as_bytes()),
            addresses: vec![
                SocketAddr::from(([192, 0, 2, 1], port)),
                "[2001:db8::1]:9".parse().unwrap(),
            ],
        };
        Invite {
            network: Network::found(&key, &Shape::default(), secret.as_ref()).unwrap(),
            secret,
            contacts: vec![contact(1), contact(2)],
        }
    }

    #[test]
    fn text_and_back_in_any_case() {
        for is_closed in [false, true] {
            let invite = invite(is_closed);
            let text = invite.to_string();
            assert!(text.starts_with("ringweave1"));
            assert_eq!(text.parse(), Ok(invite.clone()));
            assert_eq!(
                format!(" {}\n", text.to_uppercase()).parse(),
                Ok(invite.clone())
            );
            assert_eq!(invite.carries_secret(), is_closed);
        }
    }

    #[test]
    fn every_shortened_invite_is_called_cut_short() {
        let text = invite(true).to_string();
        for end in 1..text.len() {
            assert_eq!(
                text[..end].parse::<Invite>(),
                Err(InviteError::Truncated),
                "{end} letters"
            );
        }
    }

    #[test]
    fn every_altered_letter_is_noticed() {
        let text = invite(false).to_string();
        for at in "ringweave1".len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            let altered = String::from_utf8(bytes).unwrap();
            // An altered length may also make it look too short.
            let error = altered.parse::<Invite>().unwrap_err();
            assert!(
                matches!(error, InviteError::Altered(_) | InviteError::Truncated),
                "letter {at}: {error}"
            );
        }
        assert!(matches!(
            format!("{text}a").parse::<Invite>(),
            Err(InviteError::Altered(_))
        ));
    }

    #[test]
    fn other_texts_are_told_apart() {
        let text = invite(false).to_string();
        for other in [text.replacen('1', "2", 1), text.replacen('1', "10", 1)] {
            assert_eq!(other.parse::<Invite>(), Err(InviteError::OtherVersion));
        }
        for other in ["", "hello", "ringweave", "ringweave1!!!!!!!!", "ringweavex"] {
            let error = other.parse::<Invite>().unwrap_err();
            assert!(
                matches!(error, InviteError::Malformed | InviteError::Truncated),
                "{other}: {error}"
            );
        }
    }

    #[test]
    fn a_network_signed_by_another_key_is_refused() {
        let mut forged = invite(false);
        forged.network.settled.ring_size = 7;
        assert_eq!(
            forged.to_string().parse::<Invite>(),
            Err(InviteError::Altered("the network's signature is wrong"))
        );
    }
}
