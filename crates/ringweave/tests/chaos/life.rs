//! One life of a peer: a process that runs `ringweave up`, and what the system says of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::Value;
use tokio::sync::oneshot;

/// Where a peer's standard error goes, in its directory.
pub(crate) const LOG: &str = "stderr.log";

/// A process that runs a peer; dropping it kills the process.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a peer on a directory; its first object is told once the peer has a place.
    pub(crate) fn start(
        name: &str,
        data: &Path,
        words: &[&str],
    ) -> (Self, oneshot::Receiver<Value>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringweave"))
            .args(["up", "--json", "--lan=false", "--listen", "127.0.0.1:0"])
            .args(["--name", name, "--data"])
            .arg(data)
            .args(words)
            // No settings of whoever runs the tests.
            .env("XDG_CONFIG_HOME", data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log(data))
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, ready) = oneshot::channel();
        let mut log = log(data);
        thread::spawn(move || {
            use std::io::Write as _;
            let mut tell = Some(tell);
            // All is read, so that the process never waits for its reader.
            for line in lines.map_while(Result::ok) {
                // The log is for people who look for a cause; a full disk is another story.
                let _ = writeln!(log, "{line}");
                // The last line of one that is killed may be cut.
                if let Ok(object) = serde_json::from_str(&line)
                    && let Some(tell) = tell.take()
                {
                    // Whoever waits may have given up.
                    let _ = tell.send(object);
                }
            }
        });
        (Self(child), ready)
    }

    /// Bytes of memory that the process holds; nothing once it has ended.
    pub(crate) fn resident(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    }

    /// How it ended, if it did so by itself.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.0.try_wait().unwrap()?;
        Some(status.to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL. A process that has ended cannot be killed, and need not be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn log(data: &Path) -> File {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    options.open(data.join(LOG)).unwrap()
}

/// `ringweave send --json` as a person types it: its exit code, and its object.
pub(crate) fn send(data: &Path, to: &str, text: &str) -> (Option<i32>, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringweave"))
        .args(["--json", "--data"])
        .arg(data)
        .args(["send", to, text])
        .env("XDG_CONFIG_HOME", data)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), answer)
}
