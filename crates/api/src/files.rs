//! The two files by which the programs of the same user find a running peer and prove who they are.
//!
//! Both lie in the data directory with mode 0600 and are written whole: a new file beside the old
//! one, then a rename. The token is new at each start and is worth nothing afterwards.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// The bearer token's file.
pub const TOKEN_FILE: &str = "api.token";
/// The file that tells where the interface listens.
pub const ADDRESS_FILE: &str = "api.json";

/// Bytes of chance in a token: out of reach of guessing.
const TOKEN_BYTES: usize = 32;
/// Cap on either file when it is read; they are far smaller.
const MAX_FILE: u64 = 4 * 1024;

/// What the address file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// Where the interface listens.
    pub(crate) listen: SocketAddr,
    /// The process behind it.
    pub(crate) pid: u32,
}

/// A fresh token in hexadecimal.
///
/// # Errors
/// If the operating system gives no randomness.
pub(crate) fn fresh_token() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(HEXLOWER.encode(&bytes))
}

/// Writes both files; answers the token file's path.
pub(crate) fn write(data: &Path, token: &str, address: &Address) -> io::Result<PathBuf> {
    let json = serde_json::to_string(address).map_err(io::Error::other)?;
    replace(data, TOKEN_FILE, token)?;
    replace(data, ADDRESS_FILE, &json)?;
    Ok(data.join(TOKEN_FILE))
}

/// Takes both files away, if they are still those of this token.
pub(crate) fn remove(data: &Path, token: &str) {
    if read_text(&data.join(TOKEN_FILE)).is_ok_and(|text| text == token) {
        // What cannot be removed is worth nothing: the token dies with the process.
        let _ = fs::remove_file(data.join(ADDRESS_FILE));
        let _ = fs::remove_file(data.join(TOKEN_FILE));
    }
}

/// Reads where a peer listens, and its token.
pub(crate) fn read(data: &Path) -> io::Result<(Address, String)> {
    let text = read_text(&data.join(ADDRESS_FILE))?;
    let address = serde_json::from_str(&text).map_err(io::Error::from)?;
    let token = read_text(&data.join(TOKEN_FILE))?;
    Ok((address, token.trim().to_owned()))
}

fn read_text(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_FILE)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn replace(data: &Path, name: &str, text: &str) -> io::Result<()> {
    let fresh = data.join(format!("{name}.new"));
    // A file left by a process that died while writing may have any mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(fresh, data.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address {
            listen: ([127, 0, 0, 1], 4000).into(),
            pid: 7,
        }
    }

    #[test]
    fn what_is_written_is_read_and_removed() {
        let data = tempfile::tempdir().unwrap();
        let token = fresh_token().unwrap();
        write(data.path(), &token, &address()).unwrap();
        assert_eq!(read(data.path()).unwrap(), (address(), token.clone()));
        remove(data.path(), "another");
        assert!(read(data.path()).is_ok());
        remove(data.path(), &token);
        assert!(read(data.path()).is_err());
    }

    #[test]
    fn every_token_is_another() {
        assert_ne!(fresh_token().unwrap(), fresh_token().unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_with_a_wide_mode_is_replaced_by_a_narrow_one() {
        use std::os::unix::fs::PermissionsExt as _;
        let data = tempfile::tempdir().unwrap();
        for name in [TOKEN_FILE, "api.token.new"] {
            let path = data.path().join(name);
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let path = write(data.path(), "new", &address()).unwrap();
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
