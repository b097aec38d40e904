//! The data directory of a peer: who may use it, which version it has, and files that are never half written.
//!
//! The directory may exist and hold files that are not ours; only the names listed here are touched.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use iroh::SecretKey;
use thiserror::Error;

/// The version of the directory's layout; another one is refused and nothing is changed.
pub const VERSION: &str = "1";

const VERSION_FILE: &str = "version";
const LOCK_FILE: &str = "lock";
const IDENTITY_FILE: &str = "identity.key";
const NETWORK_FILE: &str = "network.key";
const STATE_FILE: &str = "state.redb";
/// A version file says a small number; whatever is longer is not ours.
const VERSION_CAP: u64 = 64;
/// Owner may read and write, nobody else anything.
const SECRET_MODE: u32 = 0o600;

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HomeError {
    /// It was written by another version of the program.
    #[error(
        "the data directory {path} has version {found:?}, but this program reads version {VERSION}; use another directory or another version of the program",
        path = path.display()
    )]
    OtherVersion {
        /// The directory.
        path: PathBuf,
        /// What its version file says.
        found: String,
    },
    /// Another process uses it.
    #[error("the data directory {} is in use by another process; stop it, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// A key file can be read by others.
    #[error(
        "the key file {path} has mode {mode:03o}, so others may read it; if nobody has, run `chmod 600 {path}`, else remove it to become a new peer",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is not what its name says.
    #[error("the file {} is not a key of 32 bytes in hexadecimal; restore it, or remove it to become a new peer", .0.display())]
    Malformed(PathBuf),
    /// The remembered state cannot be read.
    #[error("the state file {path} cannot be used: {why}; move it away to start without memory", path = path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system refused.
    #[error("cannot use {path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A data directory that this process alone uses.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    /// Held for as long as the directory is used; the system lets go of it when the process ends.
    _lock: File,
}

impl Home {
    /// Opens the directory, making it first if need be.
    ///
    /// # Errors
    /// If it has another version, is in use, or the system refuses. Nothing is changed then.
    pub(crate) fn open(path: &Path) -> Result<Self, HomeError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| HomeError::Io { path, source }
        };
        check_version(path)?;
        fs::create_dir_all(path).map_err(failed(path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(SECRET_MODE)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(HomeError::InUse(path.to_path_buf())),
            Err(TryLockError::Error(source)) => {
                return Err(HomeError::Io {
                    path: lock_path,
                    source,
                });
            }
        }
        let home = Self {
            path: path.to_path_buf(),
            _lock: lock,
        };
        // Again, now that nobody else can write it.
        if !check_version(path)? {
            home.write(VERSION_FILE, format!("{VERSION}\n").as_bytes())?;
        }
        Ok(home)
    }

    /// Where the remembered state lies.
    pub(crate) fn state(&self) -> PathBuf {
        self.path.join(STATE_FILE)
    }

    /// The peer's key, made at first start.
    pub(crate) fn identity(&self) -> Result<SecretKey, HomeError> {
        match self.key(IDENTITY_FILE)? {
            Some(key) => Ok(key),
            None => self.make_key(IDENTITY_FILE),
        }
    }

    /// The network's key, if this peer founded it.
    pub(crate) fn network_key(&self) -> Result<Option<SecretKey>, HomeError> {
        self.key(NETWORK_FILE)
    }

    /// The network's key, made if there is none: this peer founds.
    pub(crate) fn make_network_key(&self) -> Result<SecretKey, HomeError> {
        match self.key(NETWORK_FILE)? {
            Some(key) => Ok(key),
            None => self.make_key(NETWORK_FILE),
        }
    }

    fn key(&self, name: &str) -> Result<Option<SecretKey>, HomeError> {
        let path = self.path.join(name);
        let failed = |source| HomeError::Io {
            path: path.clone(),
            source,
        };
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(HomeError::Exposed { path, mode });
        }
        let text = fs::read(&path).map_err(failed)?;
        let bytes = data_encoding::HEXLOWER.decode(text.trim_ascii()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        match bytes {
            Some(bytes) => Ok(Some(SecretKey::from_bytes(&bytes))),
            None => Err(HomeError::Malformed(path)),
        }
    }

    fn make_key(&self, name: &str) -> Result<SecretKey, HomeError> {
        let key = SecretKey::generate();
        let text = data_encoding::HEXLOWER.encode(&key.to_bytes());
        self.write(name, format!("{text}\n").as_bytes())?;
        Ok(key)
    }

    /// Writes a file as a whole or not at all: beside it, to the disk, then over it.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        let path = self.path.join(name);
        let failed = |source| HomeError::Io {
            path: path.clone(),
            source,
        };
        let beside = self.path.join(format!("{name}.new"));
        // A rest of an interrupted write, with whatever mode, must not be written into.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(SECRET_MODE)
            .open(&beside)
            .map_err(failed)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        fs::rename(&beside, &path).map_err(failed)?;
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(failed)
    }
}

/// Whether there is a version file; one of another version is an error.
fn check_version(path: &Path) -> Result<bool, HomeError> {
    let file = path.join(VERSION_FILE);
    let failed = |source| HomeError::Io {
        path: file.clone(),
        source,
    };
    match fs::metadata(&file) {
        Ok(metadata) if metadata.len() > VERSION_CAP => {
            return Err(HomeError::OtherVersion {
                path: path.into(),
                found: "unknown".into(),
            });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    }
    let text = String::from_utf8_lossy(&fs::read(&file).map_err(failed)?)
        .trim()
        .to_owned();
    if text == VERSION {
        Ok(true)
    } else {
        Err(HomeError::OtherVersion {
            path: path.into(),
            found: text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(place.path()).unwrap();
        let key = home.identity().unwrap();
        assert_eq!(home.identity().unwrap().to_bytes(), key.to_bytes());
        assert!(home.network_key().unwrap().is_none());
        let mode = fs::metadata(place.path().join(IDENTITY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(place.path()).unwrap();
        home.identity().unwrap();
        let file = place.path().join(IDENTITY_FILE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            home.identity(),
            Err(HomeError::Exposed { mode: 0o640, .. })
        ));
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "a refused file is left as it is");
    }

    #[test]
    fn a_damaged_key_is_refused_and_kept() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(place.path()).unwrap();
        home.write(IDENTITY_FILE, b"not a key").unwrap();
        assert!(matches!(home.identity(), Err(HomeError::Malformed(_))));
        assert_eq!(
            fs::read(place.path().join(IDENTITY_FILE)).unwrap(),
            b"not a key"
        );
    }

    #[test]
    fn a_directory_is_used_by_one_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(place.path()).unwrap();
        assert!(matches!(Home::open(place.path()), Err(HomeError::InUse(_))));
        drop(home);
        Home::open(place.path()).unwrap();
    }

    #[test]
    fn another_version_is_refused_and_nothing_is_written() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(VERSION_FILE), "2\n").unwrap();
        fs::write(place.path().join("notes.txt"), "not ours").unwrap();
        assert!(
            matches!(Home::open(place.path()), Err(HomeError::OtherVersion { found, .. }) if found == "2")
        );
        let mut names: Vec<_> = fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["notes.txt", VERSION_FILE]);
    }
}
