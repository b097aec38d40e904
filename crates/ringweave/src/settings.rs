//! Settings in layers: defaults, then the file, then the environment, then the flags.
//!
//! The last two are one to the parser, which knows the order. Everything is checked here, before
//! anything on disk or in the network changes.

use std::{
    env, fs,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use ringweave_api::{Word, check_name};
use ringweave_net::{Hosting, Invite, MAX_CLUSTER, MAX_RING, Policy, Shape, Topology};
use serde::Deserialize;

use crate::{cli::UpArgs, exit::Problem};

/// The folder of the program below the directories of XDG.
const FOLDER: &str = "ringweave";
/// Cap on a file of settings or with an invite; both are far smaller.
const MAX_FILE: u64 = 64 * 1024;
/// The longest label, in bytes: it travels in every join.
const MAX_LABEL: usize = 128;

/// What a file of settings may say: the flags' names in snake case.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    data: Option<PathBuf>,
    join: Option<String>,
    listen: Option<Listen>,
    api: Option<SocketAddr>,
    name: Option<String>,
    label: Option<String>,
    topology: Option<String>,
    ring_size: Option<u32>,
    cluster: Option<u32>,
    policy: Option<String>,
    closed: Option<bool>,
    lan: Option<bool>,
    relay: Option<bool>,
}

/// One address or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Listen {
    One(SocketAddr),
    Several(Vec<SocketAddr>),
}

/// What a peer is started with, checked.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) data: PathBuf,
    pub(crate) join: Option<Invite>,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) api: SocketAddr,
    pub(crate) name: Option<String>,
    pub(crate) label: String,
    pub(crate) shape: Shape,
    pub(crate) lan: bool,
    pub(crate) relay: Hosting,
}

impl File {
    /// Reads `file`, or the one at its usual place if that exists.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, or has a key that no setting has.
    pub(crate) fn read(file: Option<&Path>) -> Result<Self, Problem> {
        let usual = xdg("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("config.toml"));
        let path = match (file, usual) {
            (Some(path), _) => path.to_owned(),
            (None, Some(path)) if path.is_file() => path,
            (None, _) => return Ok(Self::default()),
        };
        let text = read_text(&path)?;
        toml::from_str(&text).map_err(|error| {
            let place = error.span().map_or_else(String::new, |span| {
                let line = text
                    .get(..span.start)
                    .map_or(1, |before| before.matches('\n').count() + 1);
                format!(":{line}")
            });
            Problem::usage(format!("{}{place}: {}", path.display(), error.message()))
        })
    }
}

/// The data directory: as given, as in the file, or by XDG.
///
/// # Errors
/// If nothing says where it is.
pub(crate) fn data(given: Option<&Path>, file: &File) -> Result<PathBuf, Problem> {
    given
        .map(Path::to_owned)
        .or_else(|| file.data.clone())
        .or_else(|| xdg("XDG_DATA_HOME", ".local/share"))
        .ok_or_else(|| {
            Problem::usage(
                "there is no home directory to keep the data in; name one with --data DIR",
            )
        })
}

/// Puts the layers together. `is_plain_join`: whether the invite stands on the command line, where
/// every process of the machine can read it.
///
/// # Errors
/// The first setting that makes no sense.
pub(crate) fn up(
    args: UpArgs,
    is_plain_join: bool,
    data: PathBuf,
    file: File,
) -> Result<Up, Problem> {
    let name = args.name.or(file.name);
    if let Some(name) = &name {
        check_name(name).map_err(|error| Problem::usage(format!("--name: {error}")))?;
    }
    let label = args.label.or(file.label).unwrap_or_default();
    check_label(&label)?;
    let shape = Shape {
        topology: args
            .topology
            .or(file.topology)
            .map(|word| topology(&word))
            .transpose()?,
        ring_size: args
            .ring_size
            .or(file.ring_size)
            .map(ring_size)
            .transpose()?,
        cluster: args.cluster.or(file.cluster).map(cluster).transpose()?,
        policy: args
            .policy
            .or(file.policy)
            .map(|word| word.parse::<Policy>().map_err(Problem::usage))
            .transpose()?,
        closed: args.closed.or(file.closed),
    };
    let listen = match (args.listen, file.listen) {
        (given, _) if !given.is_empty() => given,
        (_, Some(Listen::One(address))) => vec![address],
        (_, Some(Listen::Several(addresses))) => addresses,
        (_, None) => vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))],
    };
    let join = match args.join {
        Some(word) => Some(invite(&word, is_plain_join)?),
        None => file.join.map(|word| invite(&word, false)).transpose()?,
    };
    if let Some(invite) = &join {
        // Found out here, so that nothing is written for a network that is not the wanted one.
        invite.network().compare(&shape).map_err(Problem::usage)?;
    }
    let api = args
        .api
        .or(file.api)
        .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    Ok(Up {
        data,
        join,
        listen,
        api,
        name,
        label,
        shape,
        lan: args.lan.or(file.lan).unwrap_or(true),
        relay: match args.relay.or(file.relay) {
            None => Hosting::WhenReached,
            Some(true) => Hosting::Always,
            Some(false) => Hosting::Never,
        },
    })
}

/// The topology of this name.
///
/// # Errors
/// If there is none, or not in this version.
pub(crate) fn topology(word: &str) -> Result<Topology, Problem> {
    word.parse()
        .map_err(|error| Problem::usage(format!("--topology: {error}")))
}

/// A ring's size.
///
/// # Errors
/// If it is out of range.
pub(crate) fn ring_size(size: u32) -> Result<u32, Problem> {
    if (2..=MAX_RING).contains(&size) {
        Ok(size)
    } else {
        Err(Problem::usage(format!(
            "--ring-size {size} is out of range; a ring has 2 to {MAX_RING} positions"
        )))
    }
}

/// A cluster's size.
///
/// # Errors
/// If it is out of range.
pub(crate) fn cluster(size: u32) -> Result<u32, Problem> {
    if (1..=MAX_CLUSTER).contains(&size) {
        Ok(size)
    } else {
        Err(Problem::usage(format!(
            "--cluster {size} is out of range; a position with children has 1 to {MAX_CLUSTER} members"
        )))
    }
}

fn check_label(label: &str) -> Result<(), Problem> {
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let is_fine = label
        .strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(is_word));
    if label.is_empty() || (is_fine && label.len() <= MAX_LABEL) {
        Ok(())
    } else {
        Err(Problem::usage(format!(
            "--label {label:?} is none; a label looks like /eu/dk/copenhagen and has at most {MAX_LABEL} characters"
        )))
    }
}

fn invite(word: &str, is_plain: bool) -> Result<Invite, Problem> {
    let text = match word.strip_prefix('@') {
        Some(file) => read_text(Path::new(file))?,
        None if word == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().take(MAX_FILE).read_to_string(&mut text);
            read.map_err(|error| {
                Problem::usage(format!(
                    "cannot read the invite from standard input: {error}"
                ))
            })?;
            text
        }
        None => word.to_owned(),
    };
    let invite: Invite = text.trim().parse()?;
    if is_plain && invite.carries_secret() && text == word {
        return Err(Problem::usage(
            "this invite carries a secret, and other processes can read a command line; \
             give it as --join @FILE, or as --join - on standard input",
        ));
    }
    Ok(invite)
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|error| {
            Problem::new(
                Word::Malformed,
                format!("cannot read {}: {error}", path.display()),
            )
        })?;
    Ok(text)
}

fn xdg(variable: &str, below_home: &str) -> Option<PathBuf> {
    // By the specification a relative path is to be ignored.
    let set = env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let base = set.or_else(|| env::home_dir().map(|home| home.join(below_home)))?;
    Some(base.join(FOLDER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        toml::from_str(text).unwrap()
    }

    fn merged(args: UpArgs, text: &str) -> Result<Up, Problem> {
        up(args, true, PathBuf::from("data"), file(text))
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let args = UpArgs {
            name: Some("flag".into()),
            ..UpArgs::default()
        };
        let up = merged(
            args,
            "name = \"file\"\nring_size = 8\nlisten = \"127.0.0.1:7\"",
        )
        .unwrap();
        assert_eq!(up.name.as_deref(), Some("flag"));
        assert_eq!(up.shape.ring_size, Some(8));
        assert_eq!(up.listen, ["127.0.0.1:7".parse().unwrap()]);
        assert!(up.lan && up.shape.closed.is_none());
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        assert!(toml::from_str::<File>("ringsize = 8").is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "ring_size = 1",
            "ring_size = 4096",
            "cluster = 17",
            "topology = \"pyramid\"",
            "policy = \"best\"",
            "name = \"an na\"",
            "label = \"eu\"",
            "label = \"/eu//dk\"",
            "join = \"ringweave1\"",
            "join = \"hello\"",
        ] {
            let problem = merged(UpArgs::default(), text).unwrap_err();
            assert_eq!(problem.exit, crate::exit::Exit::Usage, "{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let problem = File::read(Some(Path::new("/nowhere/at/all.toml"))).unwrap_err();
        assert!(problem.to_string().contains("/nowhere/at/all.toml"));
    }
}
