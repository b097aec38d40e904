//! Reading and writing bytes: postcard behind a version, with a cap on every length.
//!
//! postcard is not self-describing, so a struct never changes once released; a variant is added.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The version byte that opens every link; peers of different versions part with a clear error.
pub const VERSION: u8 = 1;

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// More bytes than the place allows.
    #[error("{len} bytes where at most {cap} are allowed")]
    TooLong {
        /// How many there are.
        len: usize,
        /// How many there may be.
        cap: usize,
    },
    /// The bytes do not decode.
    #[error("malformed bytes: {0}")]
    Malformed(&'static str),
}

/// Writes `value`.
///
/// # Errors
/// [`WireError::TooLong`] if it takes more than `cap` bytes.
pub fn encode<T: Serialize>(value: &T, cap: usize) -> Result<Vec<u8>, WireError> {
    let bytes = to_vec(value);
    if bytes.len() > cap {
        Err(WireError::TooLong {
            len: bytes.len(),
            cap,
        })
    } else {
        Ok(bytes)
    }
}

/// Writes `value`, whose size its own type bounds. Two equal values give equal bytes, so this is
/// also what signatures are made over.
pub fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain data always serialises into memory")
}

/// Reads a value that fills `bytes` to the last one.
///
/// # Errors
/// If there are more than `cap` bytes, too few, too many, or they are malformed.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], cap: usize) -> Result<T, WireError> {
    if bytes.len() > cap {
        return Err(WireError::TooLong {
            len: bytes.len(),
            cap,
        });
    }
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(WireError::Malformed("bytes left over")),
        Err(_) => Err(WireError::Malformed("not the expected shape")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_over_short_and_long_bytes_are_refused() {
        let bytes = encode(&(7_u32, "ring"), 64).unwrap();
        assert_eq!(
            decode::<(u32, String)>(&bytes, 64).unwrap(),
            (7, "ring".into())
        );
        assert!(decode::<(u32, String)>(&bytes[..bytes.len() - 1], 64).is_err());
        assert!(decode::<u32>(&bytes, 64).is_err());
        assert!(decode::<(u32, String)>(&bytes, 3).is_err());
        assert!(encode(&"ring", 3).is_err());
    }
}
