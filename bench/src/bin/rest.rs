//! A peer at rest with 31 siblings: its memory, and what goes over its links.
//!
//! 31 peers run in this process, one in a process of its own, whose memory is measured. Bytes are
//! those of the loopback interface, headers of IP, UDP and QUIC included, so the machine must be
//! quiet otherwise.
//!
//!     cargo build --release --manifest-path ../Cargo.toml -p ringweave
//!     cargo run --release --bin rest -- ../target/release/ringweave [SECONDS]

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ringweave_net::{Entrance, Settings, start};

const SIBLINGS: usize = 31;

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let program = words.next().context("give the path of the program ringweave")?;
    let seconds: u64 = words.next().map_or(Ok(60), |word| word.parse())?;
    let founder = start(Settings::default()).await?;
    let invite = founder.invite().await?;
    let mut others = Vec::new();
    for _ in 1..SIBLINGS {
        let entrance = Entrance::Join(Box::new(invite.clone()));
        others.push(start(Settings { entrance, ..Settings::default() }).await?);
    }
    let data = std::env::temp_dir().join(format!("ringweave-rest-{}", std::process::id()));
    let mut measured = Command::new(program)
        .args(["up", "--json", "--lan=false", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--data"])
        .arg(&data)
        .args(["--join", &invite.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(measured.stdout.take().context("its output")?);
    let mut ready = String::new();
    lines.read_line(&mut ready)?;
    // The first word is ready; what follows is of no interest, but must be read.
    std::thread::spawn(move || lines.lines().for_each(drop));
    let id: serde_json::Value = serde_json::from_str(&ready)?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let links = founder.status().await?.links;
    ensure!(links == SIBLINGS, "the founder has {links} links; {id}");
    let before = loopback()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let bytes = loopback()? - before;
    let resident = resident(measured.id())?;
    let links = (SIBLINGS + 1) * SIBLINGS / 2;
    let rate = bytes as f64 / seconds as f64 / links as f64;
    println!("links          {links} between {} peers", SIBLINGS + 1);
    println!("per link       {rate:.0} B/s, both directions, all headers included");
    println!("resident set   {:.1} MiB of the peer in a process of its own", resident as f64 / 1024.0);
    measured.kill()?;
    measured.wait()?;
    std::fs::remove_dir_all(&data)?;
    Ok(())
}

/// Bytes sent over the loopback interface so far.
fn loopback() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/net/dev")?;
    let line = text.lines().find(|line| line.trim_start().starts_with("lo:")).context("a loopback interface")?;
    let sent = line.split_whitespace().nth(9).context("its counters")?;
    Ok(sent.parse()?)
}

/// Resident memory of a process, in KiB.
fn resident(process: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("its memory")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}
