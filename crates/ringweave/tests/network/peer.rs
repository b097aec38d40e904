//! A process that runs `ringweave up`, and the commands that talk to it. All waits have deadlines.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::door;

/// For anything that a loaded machine may do slowly, but surely.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an orderly leave may take.
const FAREWELL: Duration = Duration::from_secs(3);
/// Rest between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(20);

/// A running peer; dropping it kills its process.
pub(crate) struct Peer {
    name: String,
    child: Child,
    data: Option<TempDir>,
    ready: Value,
}

impl Peer {
    /// The first peer of a new network.
    pub(crate) fn found(name: &str, words: &[&str]) -> Self {
        Self::start(name, words)
    }

    /// A peer of `other`'s network.
    pub(crate) fn join(name: &str, other: &Self) -> Self {
        Self::start(name, &["--join", other.invite()])
    }

    /// A peer with a directory of its own.
    pub(crate) fn start(name: &str, words: &[&str]) -> Self {
        Self::again(name, tempfile::tempdir().unwrap(), words)
    }

    /// A peer with the directory of an earlier one.
    pub(crate) fn again(name: &str, data: TempDir, words: &[&str]) -> Self {
        let mut child = up(data.path(), words)
            .args(["--name", name])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = lines(&mut child);
        let first = lines.recv_timeout(PATIENCE);
        let ready: Value = match &first {
            Ok(line) => serde_json::from_str(line).unwrap(),
            Err(error) => {
                let _ = child.kill();
                panic!("{name} did not become ready: {error}");
            }
        };
        assert_eq!(ready["event"], "ready", "{ready}");
        // The rest is read, so that the process never waits for its reader.
        thread::spawn(move || lines.iter().for_each(drop));
        Self {
            name: name.into(),
            child,
            data: Some(data),
            ready,
        }
    }

    pub(crate) fn id(&self) -> &str {
        self.ready["peer_id"].as_str().unwrap()
    }

    pub(crate) fn invite(&self) -> &str {
        self.ready["invite"].as_str().unwrap()
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.as_ref().unwrap().path()
    }

    /// The `Authorization` header that opens the door.
    pub(crate) fn token(&self) -> String {
        let file = self.ready["token_file"].as_str().unwrap();
        format!("Bearer {}", std::fs::read_to_string(file).unwrap())
    }

    pub(crate) fn http(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        door::request(self.address(), method, path, headers)
    }

    /// What happens at the peer from now on.
    pub(crate) fn events(&self) -> impl Iterator<Item = Value> {
        door::events(self.address(), "/v1/events", &self.token())
    }

    /// What is kept under a key, now and whenever it changes.
    pub(crate) fn watch(&self, key: &str) -> impl Iterator<Item = Value> {
        let path = format!("/v1/records/watch?key={key}");
        door::events(self.address(), &path, &self.token())
    }

    fn address(&self) -> &str {
        self.ready["api"]
            .as_str()
            .unwrap()
            .strip_prefix("http://")
            .unwrap()
    }

    /// The first `count` messages of the inbox. A little longer is listened, so that one more is seen.
    pub(crate) fn listen(&self, count: usize) -> Vec<Value> {
        let mut child = command(self, &["listen"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = lines(&mut child);
        let mut heard = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let wait = if heard.len() < count {
                rest
            } else {
                rest.min(Duration::from_millis(300))
            };
            match lines.recv_timeout(wait) {
                Ok(line) => heard.push(serde_json::from_str(&line).unwrap()),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(heard.len() >= count, "{} heard only {heard:?}", self.name);
        heard
    }

    /// A listener that goes on until its peer ends. It is known to the peer when this returns.
    pub(crate) fn listener(&self) -> Listener {
        let mut child = command(self, &["listen"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = lines(&mut child);
        let me = self.id();
        assert_eq!(ask(self, &["send", me, "to myself"])["delivered"], true);
        lines.recv_timeout(PATIENCE).unwrap();
        Listener(child)
    }

    /// Waits for a condition.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "{}: {what}", self.name);
            thread::sleep(GLANCE);
        }
    }

    /// Ends the process at once, as a power cut would; the directory stays as long as it is held.
    pub(crate) fn crash(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.data.take().unwrap()
    }

    /// Stops the process as a closed lid does, and wakes it after a while.
    pub(crate) fn sleep(&self, span: Duration) {
        let signal = |name: &str| {
            let pid = self.child.id().to_string();
            let status = Command::new("kill")
                .args([name, pid.as_str()])
                .status()
                .unwrap();
            assert!(status.success(), "kill {name}: {status}");
        };
        signal("-STOP");
        thread::sleep(span);
        signal("-CONT");
    }

    /// Leaves in order; the directory stays.
    pub(crate) fn leave(mut self) -> TempDir {
        assert_eq!(
            self.http("POST", "/v1/leave", &[("Authorization", &self.token())])
                .0,
            204
        );
        let deadline = Instant::now() + FAREWELL;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return self.data.take().unwrap();
            }
            assert!(Instant::now() < deadline, "{} does not leave", self.name);
            thread::sleep(GLANCE);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A process that has ended cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that runs `ringweave listen`.
pub(crate) struct Listener(Child);

impl Listener {
    /// How it ends.
    pub(crate) fn code(mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code().unwrap();
            }
            assert!(Instant::now() < deadline, "the listener does not end");
            thread::sleep(GLANCE);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks a peer, and expects an answer.
pub(crate) fn ask(peer: &Peer, words: &[&str]) -> Value {
    let (code, answer) = try_ask(peer, words);
    assert_eq!(code, 0, "{} {words:?}: {answer}", peer.name);
    answer
}

/// Asks a peer; the exit code, and the object on standard output.
pub(crate) fn try_ask(peer: &Peer, words: &[&str]) -> (i32, Value) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(peer, words).output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    let answer = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!(
            "{words:?}: {error} in {text:?}; {}",
            String::from_utf8_lossy(&stderr)
        );
    });
    (status.code().unwrap(), answer)
}

/// An `up` that is to fail; the exit code, and what it said.
pub(crate) fn refused(data: &Path, words: &[&str]) -> (i32, String) {
    let output = up(data, words).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn up(data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringweave"));
    command
        .args([
            "up",
            "--json",
            "--lan=false",
            "--listen",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(data)
        .args(words);
    // No settings of whoever runs the tests.
    command.env("XDG_CONFIG_HOME", data).stdin(Stdio::null());
    command
}

fn command(peer: &Peer, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringweave"));
    command
        .arg("--json")
        .arg("--data")
        .arg(peer.data())
        .args(words);
    command
        .env("XDG_CONFIG_HOME", peer.data())
        .stdin(Stdio::null());
    command
}

fn lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let reader = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
