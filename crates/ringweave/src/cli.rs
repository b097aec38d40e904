//! The words on the command line. Scripts rely on them: they are added, never changed.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, builder::BoolishValueParser};

use crate::sim::SimCommand;

/// The heading of the options that every command takes.
const EVERYWHERE: &str = "Everywhere";

/// Peers that organise themselves into rings and carry each other's messages.
#[derive(Debug, Parser)]
#[command(
    name = "ringweave",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  ringweave demo                             see a network of 32 peers on this machine
  ringweave up                               be the first peer of a new network
  ringweave up --join ringweave1abc...       join one
  ringweave send k3v7q2m4xz 'hello'          send to a peer by the first letters of its PeerId
  ringweave --data /tmp/b listen             hear what comes to the peer of that directory
  ringweave sim run --peers 10000            see how a topology does before you deploy it

Options of `up` and of every command are also read from the environment: RINGWEAVE_RING_SIZE.
Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 no route or no running peer, 5 denied, 6 timeout."
)]
pub(crate) struct Cli {
    /// The peer's data directory [default: by XDG, ~/.local/share/ringweave]
    #[arg(long, global = true, env = "RINGWEAVE_DATA", hide_env = true, help_heading = EVERYWHERE, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A file of settings in TOML [default: by XDG, ~/.config/ringweave/config.toml, if it exists]
    #[arg(long, global = true, env = "RINGWEAVE_CONFIG", hide_env = true, help_heading = EVERYWHERE, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object, or one a line for streams
    #[arg(long, global = true, env = "RINGWEAVE_JSON", hide_env = true, help_heading = EVERYWHERE, value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show a network of real peers on loopback, in one process
    Demo(DemoArgs),
    /// Run a peer in the foreground
    Up(Box<UpArgs>),
    /// Show the running peer's state
    Status,
    /// Show the running peer's neighbours
    Peers,
    /// Draw the rings of the network
    Tree(TreeArgs),
    /// Print an invite into the running peer's network
    Invite,
    /// Print the running peer's PeerId
    Id,
    /// Measure the way to a peer, there and back
    Ping(PeerArgs),
    /// Show each hop to a peer
    Trace(PeerArgs),
    /// Send a text to one peer
    #[command(
        after_help = "PEER is a PeerId, the first letters of one, a name, or a GUID like [4.2.17]."
    )]
    Send(SendArgs),
    /// Send a text to several peers
    #[command(after_help = "Example: ringweave multicast anna bo [4.2] -- 'lunch?'")]
    Multicast(MulticastArgs),
    /// Send a text to everyone
    Broadcast(BroadcastArgs),
    /// Print the messages that come to the running peer
    #[command(after_help = "\
What a peer sends comes in its order. A broadcast that was held up for longer than two seconds comes
when it comes, marked: (late), or \"late\":true with --json.")]
    Listen,
    /// Move the running network to another topology, while its messages flow
    #[command(after_help = "\
Only the peer that founded the network can move it: it holds the network's key. Peers take places in
the new topology first; then messages go over it, and those under way arrive. If somebody has no place
within two minutes, the network stays as it was. GUIDs change, PeerIds do not.

Examples:
  ringweave evolve --to polyring
  ringweave --data /tmp/a evolve --to kademlia --json")]
    Evolve(EvolveArgs),
    /// Keep small records in the network, and read them
    #[command(
        subcommand,
        after_help = "\
KEY is 64 hexadecimal digits, as `put` prints them, or the name of a record of the running peer.

Examples:
  ringweave kv put colour green                   keep it, and renew it while the peer runs
  ringweave kv put colour blue --lease 2h         replace it; it outlives the peer by two hours
  ringweave kv get colour                         one's own, by its name
  ringweave kv get 5fd1...                        anybody's, by its key
  ringweave kv watch 5fd1... --json               a line now, and one whenever it changes
  ringweave kv put notes - < notes.txt            the value from standard input, at most 60 KiB
  ringweave kv put --immutable 'never changes'    its key is its BLAKE3 hash"
    )]
    Kv(KvCommand),
    /// Try a topology out on simulated peers, up to millions
    #[command(
        subcommand,
        after_help = "\
Examples:
  ringweave sim run --peers 10000 --lookups 10000 --broadcasts 3
  ringweave sim compare --vary policy=balanced,nearest --latency geo --lookups 5000
  ringweave sim sweep study.toml --out study.jsonl"
    )]
    Sim(SimCommand),
    /// Print a completion script for a shell
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What `demo` takes.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many peers
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub(crate) peers: usize,
    /// End when everything was shown; 0 only if everything held
    #[arg(long)]
    pub(crate) once: bool,
    /// How peers arrange themselves
    #[arg(long, default_value = "polyring", value_name = "TOPOLOGY")]
    pub(crate) topology: String,
    /// Most positions in a ring [default: small enough for three levels]
    #[arg(long, value_name = "N")]
    pub(crate) ring_size: Option<u32>,
    /// Members of a position with children
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) cluster: u32,
}

/// What `up` takes. What is not given comes from the file of settings, or has a default.
#[derive(Debug, Default, Args)]
#[command(after_help = "\
Examples:
  ringweave up --name anna                        found a network, or rejoin the remembered one
  ringweave up --join @invite.txt                 join with the invite in a file
  pbpaste | ringweave up --join -                 join with the invite on standard input
  ringweave up --closed --policy labelled --label /eu/dk/copenhagen

An invite that carries a secret is read from a file or standard input only.")]
pub(crate) struct UpArgs {
    /// Join the network of this invite: the text, @FILE, or - for standard input
    #[arg(
        long,
        env = "RINGWEAVE_JOIN",
        hide_env = true,
        hide_env_values = true,
        value_name = "INVITE"
    )]
    pub(crate) join: Option<String>,
    /// Listen for peers here (UDP); may be given more than once [default: any port]
    #[arg(
        long,
        env = "RINGWEAVE_LISTEN",
        hide_env = true,
        value_name = "ADDR",
        value_delimiter = ','
    )]
    pub(crate) listen: Vec<SocketAddr>,
    /// Serve the local HTTP interface here [default: 127.0.0.1:0, any port]
    #[arg(long, env = "RINGWEAVE_API", hide_env = true, value_name = "ADDR")]
    pub(crate) api: Option<SocketAddr>,
    /// A name that others may call this peer by
    #[arg(long, env = "RINGWEAVE_NAME", hide_env = true, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Where this peer belongs, from the outside in: /eu/dk/copenhagen
    #[arg(long, env = "RINGWEAVE_LABEL", hide_env = true, value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// How peers of a new network arrange themselves: polyring, chord, kademlia, pastry, tapestry, unstructured, star, superpeer
    #[arg(
        long,
        env = "RINGWEAVE_TOPOLOGY",
        hide_env = true,
        value_name = "TOPOLOGY"
    )]
    pub(crate) topology: Option<String>,
    /// Most positions in a ring of a new network [default: 32]
    #[arg(long, env = "RINGWEAVE_RING_SIZE", hide_env = true, value_name = "N")]
    pub(crate) ring_size: Option<u32>,
    /// Members of a position with children [default: 3]
    #[arg(long, env = "RINGWEAVE_CLUSTER", hide_env = true, value_name = "N")]
    pub(crate) cluster: Option<u32>,
    /// Where newcomers of a new network go: balanced, nearest, labelled [default: balanced]
    #[arg(long, env = "RINGWEAVE_POLICY", hide_env = true, value_name = "POLICY")]
    pub(crate) policy: Option<String>,
    /// Only who holds an invite with a secret may join the new network
    #[arg(long, env = "RINGWEAVE_CLOSED", hide_env = true, value_parser = BoolishValueParser::new(), num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) closed: Option<bool>,
    /// Find and be found by peers on the local network [default: true]
    #[arg(long, env = "RINGWEAVE_LAN", hide_env = true, value_parser = BoolishValueParser::new(), num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) lan: Option<bool>,
    /// Host a relay for members that nobody can dial [default: once a peer from elsewhere has dialled this one]
    #[arg(long, env = "RINGWEAVE_RELAY", hide_env = true, value_parser = BoolishValueParser::new(), num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) relay: Option<bool>,
}

/// What `tree` takes.
#[derive(Debug, Args)]
pub(crate) struct TreeArgs {
    /// Most peers to ask for, at most 10000
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) limit: u16,
}

/// A peer.
#[derive(Debug, Args)]
pub(crate) struct PeerArgs {
    /// A PeerId, the first letters of one, a name, or a GUID like [4.2.17]
    pub(crate) peer: String,
}

/// What `send` takes.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// To whom
    pub(crate) peer: String,
    /// What, at most 64 KiB
    pub(crate) text: String,
}

/// What `multicast` takes.
#[derive(Debug, Args)]
pub(crate) struct MulticastArgs {
    /// To whom
    #[arg(required = true, num_args = 1..)]
    pub(crate) peers: Vec<String>,
    /// What, at most 64 KiB
    #[arg(last = true, required = true, value_name = "TEXT")]
    pub(crate) text: String,
}

/// What `broadcast` takes.
#[derive(Debug, Args)]
pub(crate) struct BroadcastArgs {
    /// What, at most 64 KiB
    pub(crate) text: String,
}

/// What can be done with records.
#[derive(Debug, Subcommand)]
pub(crate) enum KvCommand {
    /// Keep a value under a name of the running peer's
    Put(PutArgs),
    /// Print the value under a key
    Get(KeyArgs),
    /// Print the value under a key, now and whenever it changes
    Watch(KeyArgs),
    /// Delete a record of the running peer
    Del(NameArgs),
    /// List what the running peer keeps alive in the network
    List,
}

/// What `kv put` takes.
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// What to call it
    #[arg(required_unless_present = "immutable")]
    pub(crate) name: Option<String>,
    /// Its value: a text of at most 60 KiB, or - for standard input
    #[arg(required_unless_present = "immutable")]
    pub(crate) value: Option<String>,
    /// Keep this value, which never changes, under its hash: a text, or - for standard input
    #[arg(long, value_name = "VALUE", conflicts_with_all = ["name", "value"])]
    pub(crate) immutable: Option<String>,
    /// How long it stays without the running peer: 90s, 30m, 2h, 7d
    #[arg(long, default_value = "1h", value_name = "SPAN", value_parser = lease)]
    pub(crate) lease: u64,
}

/// What `kv get` takes.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// 64 hexadecimal digits, or the name of a record of the running peer
    pub(crate) key: String,
}

/// What `kv del` takes.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// What the running peer calls it
    pub(crate) name: String,
}

/// A span in seconds.
fn lease(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        unit => return Err(format!("{unit:?} is no unit: write 90s, 30m, 2h or 7d")),
    };
    let count = digits.parse::<u64>().ok();
    count
        .and_then(|count| count.checked_mul(unit))
        .ok_or_else(|| format!("{text:?} is no span: write 90s, 30m, 2h or 7d"))
}

/// What `evolve` takes.
#[derive(Debug, Args)]
pub(crate) struct EvolveArgs {
    /// How peers arrange themselves then: polyring, chord, kademlia, pastry, tapestry, unstructured, star, superpeer
    #[arg(long, value_name = "TOPOLOGY")]
    pub(crate) to: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_words_are_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn spans_are_read_in_their_units() {
        let read = ["90", "90s", "30m", "30min", "2h", "7d"].map(super::lease);
        assert_eq!(read, [90, 90, 1_800, 1_800, 7_200, 604_800].map(Ok));
        for wrong in [
            "",
            "h",
            "2w",
            "-1h",
            "1.5h",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert!(super::lease(wrong).is_err(), "{wrong}");
        }
    }
}
