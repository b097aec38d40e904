//! How people write a peer: a PeerId, the first characters of one, a name, or a GUID.

use ringweave_ids::{Guid, GuidError, PeerId, PeerIdError};
use ringweave_net::PeerRef;
use thiserror::Error;

/// The longest name of a peer, in bytes: it fits into a column and into a directory record.
pub const MAX_NAME: usize = 48;

/// A text that names no peer in any form.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WhomError {
    /// It starts like a GUID and is none.
    #[error(transparent)]
    Guid(#[from] GuidError),
    /// It is as long as a PeerId and is none.
    #[error(transparent)]
    PeerId(#[from] PeerIdError),
    /// It can be no name, either.
    #[error(
        "a peer is a PeerId or its first characters, a name (up to {MAX_NAME} letters, digits, '-', '_' \
         and '.'), or a GUID like [4.2.17], but this is {0:?}"
    )]
    Word(String),
}

/// Reads what a person wrote for a peer.
///
/// # Errors
/// If it is none of the forms.
pub fn whom(text: &str) -> Result<PeerRef, WhomError> {
    if text.starts_with('[') {
        return Ok(PeerRef::Guid(text.parse::<Guid>()?));
    }
    if text.len() >= PeerId::TEXT_LEN {
        return Ok(PeerRef::Id(text.parse()?));
    }
    check_name(text)?;
    Ok(PeerRef::Word(text.into()))
}

/// Whether a peer may bear this name.
///
/// # Errors
/// If it is empty, too long, or has other characters than letters, digits, `-`, `_` and `.`.
pub fn check_name(name: &str) -> Result<(), WhomError> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_fine) {
        Ok(())
    } else {
        Err(WhomError::Word(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_known() {
        let id = PeerId::from_bytes([7; 32]);
        assert_eq!(whom(&id.to_string()), Ok(PeerRef::Id(id)));
        assert_eq!(whom("[4.2.17]"), Ok(PeerRef::Guid(Guid::of(&[4, 2, 17]))));
        assert_eq!(whom("anna"), Ok(PeerRef::Word("anna".into())));
        assert_eq!(whom(&id.short()), Ok(PeerRef::Word(id.short())));
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        let altered = format!("1{}", &PeerId::from_bytes([7; 32]).to_string()[1..]);
        for text in [
            "",
            " ",
            "an na",
            "[4.2",
            "[4..2]",
            "a/b",
            &altered,
            &"x".repeat(49),
            &"a".repeat(60),
        ] {
            assert!(whom(text).is_err(), "{text:?}");
        }
    }
}
