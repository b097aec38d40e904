//! A process that runs `ringweave up` in a network namespace, and the commands that talk to it there.

use std::{
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
/// Where all peers listen: each has a machine of its own.
const PORT: &str = "0.0.0.0:4000";

/// A running peer; dropping it kills its process.
pub(crate) struct Peer {
    pub(crate) name: String,
    space: String,
    child: Child,
    data: TempDir,
    ready: Value,
}

impl Peer {
    /// The first peer of a new network.
    pub(crate) fn found(name: &str, space: &str, words: &[&str]) -> Self {
        Self::start(name, space, words)
    }

    /// A peer of `other`'s network.
    pub(crate) fn join(name: &str, space: &str, other: &Self) -> Self {
        Self::start(name, space, &["--join", other.invite()])
    }

    fn start(name: &str, space: &str, words: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = program(space, &data);
        let up = [
            "up",
            "--json",
            "--lan=false",
            "--listen",
            PORT,
            "--name",
            name,
        ];
        command.args(up).args(words);
        let log = std::fs::File::create(format!("/tmp/nat-{name}.log")).unwrap();
        command.env(
            "RINGWEAVE_LOG",
            std::env::var("NATLOG").unwrap_or("error".into()),
        );
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let (sender, lines) = channel();
        let reader = BufReader::new(child.stdout.take().unwrap());
        // All is read, so that the process never waits for its reader.
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                // Only the first one is awaited.
                let _ = sender.send(line);
            }
        });
        let first = lines.recv_timeout(PATIENCE);
        let mut peer = Self {
            name: name.into(),
            space: space.into(),
            child,
            data,
            ready: Value::Null,
        };
        let line = first.unwrap_or_else(|error| panic!("{name} did not become ready: {error}"));
        peer.ready = serde_json::from_str(&line).unwrap();
        assert_eq!(peer.ready["event"], "ready", "{line}");
        peer
    }

    pub(crate) fn id(&self) -> &str {
        self.ready["peer_id"].as_str().unwrap()
    }

    fn invite(&self) -> &str {
        self.ready["invite"].as_str().unwrap()
    }

    /// Asks the peer; the exit code, and the object on standard output.
    pub(crate) fn try_ask(&self, words: &[&str]) -> (i32, Value) {
        let told = program(&self.space, &self.data)
            .arg("--json")
            .args(words)
            .output()
            .unwrap();
        let text = String::from_utf8(told.stdout).unwrap();
        let answer = serde_json::from_str(&text).unwrap_or_else(|error| {
            let why = String::from_utf8_lossy(&told.stderr);
            panic!("{} {words:?}: {error} in {text:?}; {why}", self.name)
        });
        (told.status.code().unwrap(), answer)
    }

    pub(crate) fn text(&self, words: &[&str]) -> String {
        let told = program(&self.space, &self.data)
            .args(words)
            .output()
            .unwrap();
        String::from_utf8(told.stdout).unwrap()
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
    command.args([
        "netns",
        "exec",
        space,
        env!("CARGO_BIN_EXE_ringweave"),
        "--data",
    ]);
    command.arg(data.path());
    // No settings of whoever runs the tests.
    command
        .env("XDG_CONFIG_HOME", data.path())
        .stdin(Stdio::null());
    command
}
