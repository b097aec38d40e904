//! A process that runs `ringweave up` in a network namespace, and the commands that talk to it there.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

/// For anything that a loaded machine may do slowly, but surely.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rest between two looks at a condition.
pub(crate) const GLANCE: Duration = Duration::from_millis(100);
/// Where all peers listen: each has a machine of its own.
const LISTEN: &str = "0.0.0.0:4000";

/// A running peer; dropping it kills its process.
pub(crate) struct Peer {
    name: String,
    space: String,
    child: Child,
    data: TempDir,
    ready: Value,
}

impl Peer {
    /// The first peer of a new network.
    pub(crate) fn found(name: &str, space: &str, words: &[&str]) -> Self {
        Self::start(name, space, tempfile::tempdir().unwrap(), words)
    }

    /// A peer of `other`'s network.
    pub(crate) fn join(name: &str, space: &str, other: &Self) -> Self {
        Self::join_as(name, space, other, &[])
    }

    /// A peer of `other`'s network that is told something else, too.
    pub(crate) fn join_as(name: &str, space: &str, other: &Self, words: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let invite = data.path().join("invite");
        fs::write(&invite, other.ready["invite"].as_str().unwrap()).unwrap();
        let word = format!("@{}", invite.display());
        let words = [&["--join", &word], words].concat();
        Self::start(name, space, data, &words)
    }

    fn start(name: &str, space: &str, data: TempDir, words: &[&str]) -> Self {
        let up = ["up", "--lan=false", "--listen", LISTEN, "--name", name];
        let mut child = program(space, &data)
            .args(up)
            .args(words)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let reader = BufReader::new(child.stdout.take().unwrap());
        // All is read, so that the process never waits for its reader.
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                // Only the first one is awaited.
                let _ = sender.send(line);
            }
        });
        let mut peer = Self {
            name: name.into(),
            space: space.into(),
            child,
            data,
            ready: Value::Null,
        };
        let first = lines.recv_timeout(PATIENCE);
        let first = first.unwrap_or_else(|error| panic!("{name} did not become ready: {error}"));
        peer.ready = serde_json::from_str(&first).unwrap();
        assert_eq!(peer.ready["event"], "ready", "{first}");
        peer
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> &str {
        self.ready["peer_id"].as_str().unwrap()
    }

    /// What the peer says, whether it worked or not.
    pub(crate) fn try_ask(&self, words: &[&str]) -> Value {
        let told = program(&self.space, &self.data)
            .args(words)
            .output()
            .unwrap();
        let text = String::from_utf8(told.stdout).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| {
            let why = String::from_utf8_lossy(&told.stderr);
            panic!("{} {words:?}: {error} in {text:?}; {why}", self.name)
        })
    }

    /// What the peer says, if it says anything but an error.
    pub(crate) fn ask(&self, words: &[&str]) -> Value {
        let answer = self.try_ask(words);
        assert!(
            answer["error"].is_null(),
            "{} {words:?}: {answer}",
            self.name
        );
        answer
    }

    /// What `peers` says of another peer; nothing if they are no neighbours.
    pub(crate) fn path(&self, other: &Self) -> Value {
        let answer = self.ask(&["peers"]);
        let mut peers = answer["peers"].as_array().unwrap().iter();
        let found = peers.find(|peer| peer["peer_id"] == other.id());
        found.cloned().unwrap_or(Value::Null)
    }

    /// Ends the process at once, as a power cut would.
    pub(crate) fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A process that has ended cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program in a namespace. `ip` becomes it, so that the child's number is the program's.
fn program(space: &str, data: &TempDir) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space, env!("CARGO_BIN_EXE_ringweave")]);
    command.args(["--json", "--data"]).arg(data.path());
    // No settings of whoever runs the tests.
    command.env("XDG_CONFIG_HOME", data.path());
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}
