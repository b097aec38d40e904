//! What peers cost at rest: N peers in one process, memory and traffic per link.
//!
//! `cargo run --release -p ringweave-net --example crowd [PEERS] [RING_SIZE] [SECONDS]`

use std::{
    error::Error,
    time::{Duration, Instant},
};

use ringweave_net::{Entrance, Handle, Settings, Shape, start};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let word = |place, otherwise| {
        std::env::args()
            .nth(place)
            .map_or(Ok(otherwise), |word| word.parse::<u64>())
    };
    let (peers, ring_size, seconds) = (word(1, 32)?, word(2, 32)?, word(3, 20)?);
    let shape = Shape {
        ring_size: Some(u32::try_from(ring_size)?),
        ..Shape::default()
    };
    let since = Instant::now();
    let founder = start(Settings {
        shape,
        ..Settings::default()
    })
    .await?;
    let invite = founder.invite().await?;
    let mut crowd = vec![founder];
    let mut slowest = Duration::ZERO;
    for _ in 1..peers {
        let since = Instant::now();
        let entrance = Entrance::Join(Box::new(invite.clone()));
        crowd.push(
            start(Settings {
                entrance,
                ..Settings::default()
            })
            .await?,
        );
        slowest = slowest.max(since.elapsed());
    }
    println!(
        "{peers} peers after {:.1} s, the slowest join {slowest:.0?}",
        since.elapsed().as_secs_f64()
    );
    // Rosters settle before rest is measured.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = totals(&crowd).await?;
    let (cpu, wire) = (cpu_ticks()?, udp_bytes()?);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = totals(&crowd).await?;
    let span = seconds as f64;
    let ends = after.0 as f64;
    println!(
        "{} ends of links, {:.1} MiB resident, {:.1} ticks of CPU a second",
        after.0,
        resident()?,
        (cpu_ticks()? - cpu) as f64 / span
    );
    println!(
        "frames: {:.0} B/s an end of a link",
        (after.1 - before.1) as f64 / span / ends
    );
    println!(
        "loopback: {:.0} B/s an end of a link, headers included",
        (udp_bytes()? - wire) as f64 / span / ends
    );
    Ok(())
}

async fn totals(crowd: &[Handle]) -> Result<(usize, u64), Box<dyn Error>> {
    let (mut links, mut bytes) = (0, 0);
    for peer in crowd {
        let status = peer.status().await?;
        links += status.links;
        bytes += status.counters.bytes_out;
    }
    Ok((links, bytes))
}

/// Resident memory of this process in MiB.
fn resident() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .ok_or("no VmRSS")?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .ok_or("no number")?
        .parse::<f64>()?
        / 1024.0)
}

fn cpu_ticks() -> Result<u64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .ok_or("no fields")?
        .split_whitespace()
        .collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// Bytes the loopback interface has sent, whoever sent them.
fn udp_bytes() -> Result<u64, Box<dyn Error>> {
    Ok(
        std::fs::read_to_string("/sys/class/net/lo/statistics/tx_bytes")?
            .trim()
            .parse()?,
    )
}
