//! Records: Ringweave beside libp2p-kad and mainline, in one run, 50 nodes of each on loopback in this process.
//!
//! All three keep 500 values of 256 bytes, put by nodes in turn, and one node reads them in an order of
//! chance: one at a time, 16 at a time, 64 at a time. Ringweave's are named records, signed and verified at
//! every holder and by the reader, and acknowledged when all copies are there; libp2p-kad's are put with a
//! quorum of one and read until the first copy is there; mainline's are immutable values of BEP 44.
//!
//!     cargo run --release --bin records [ringweave|libp2p|mainline]
//!
//! Without a word each of the three runs in a process of its own, one after the other.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::Semaphore;

#[path = "../records/kad.rs"]
mod kad;
#[path = "../records/main_line.rs"]
mod main_line;
#[path = "../records/ours.rs"]
mod ours;

/// Nodes of each.
pub const NODES: usize = 50;
/// Values kept.
const VALUES: usize = 500;
/// Bytes of a value.
const SIZE: usize = 256;
/// Reads at each concurrency, as long as they take no longer than [`SPAN`].
const READS: usize = 4_000;
/// How long reads of one concurrency are begun.
const SPAN: Duration = Duration::from_secs(15);
/// Reads at once.
const AT_ONCE: [usize; 3] = [1, 16, 64];

/// A network that keeps values.
pub trait Network: Send + Sync + 'static {
    /// Puts a value at the node of this number; gives what it is read by.
    fn put(&self, node: usize, name: usize, value: Vec<u8>) -> impl Future<Output = Result<Vec<u8>>> + Send;
    /// Reads at the last node, which came last: in a polyring the lowest.
    fn get(&self, key: Vec<u8>) -> impl Future<Output = Result<Option<Vec<u8>>>> + Send;
}

#[tokio::main]
async fn main() -> Result<()> {
    let which = std::env::args().nth(1);
    let Some(which) = which else {
        println!("{NODES} nodes, {VALUES} values of {SIZE} B, {READS} reads by one node at each concurrency");
        for which in ["ringweave", "libp2p", "mainline"] {
            let status = std::process::Command::new(std::env::current_exe()?).arg(which).status()?;
            ensure!(status.success(), "{which}: {status}");
        }
        return Ok(());
    };
    match which.as_str() {
        "ringweave" => measure("ringweave", ours::Ours::start).await,
        "libp2p" => measure("libp2p-kad", kad::Kad::start).await,
        "mainline" => measure("mainline", main_line::MainLine::start).await,
        other => anyhow::bail!("{other}: ringweave, libp2p or mainline"),
    }
}

fn value(name: usize) -> Vec<u8> {
    let mut value = vec![0; SIZE];
    value[..8].copy_from_slice(&(name as u64).to_le_bytes());
    value
}

async fn measure<N: Network, F: Future<Output = Result<N>>>(name: &str, start: impl FnOnce() -> F) -> Result<()> {
    let before = memory();
    let network = Arc::new(start().await.with_context(|| format!("{name} does not start"))?);
    // What nodes have to say to each other after a start is said before anything is measured.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let node = memory().saturating_sub(before) as f64 / NODES as f64 / 1_048_576.0;
    let (mut puts, mut keys) = (Vec::new(), Vec::new());
    let busy = cpu();
    for n in 0..VALUES {
        let began = Instant::now();
        keys.push(network.put(n % NODES, n, value(n)).await.context("a put")?);
        puts.push(began.elapsed());
    }
    let put_cpu = (cpu() - busy) / VALUES as f64 * 1e6;
    let (p50, p99) = quantiles(&mut puts);
    println!("{name:>10}  memory {node:.2} MiB a node");
    println!("{name:>10}  put       p50 {p50:7.2} ms  p99 {p99:7.2} ms  cpu {put_cpu:5.0} us");
    for at_once in AT_ONCE {
        let (places, busy, bytes) = (Arc::new(Semaphore::new(at_once)), cpu(), loopback());
        let (began, mut reads) = (Instant::now(), Vec::with_capacity(READS));
        let mut order = 1_usize;
        while reads.len() < READS && began.elapsed() < SPAN {
            let place = Arc::clone(&places).acquire_owned().await?;
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let n = (order >> 33) % VALUES;
            let (network, key) = (Arc::clone(&network), keys[n].clone());
            reads.push(tokio::spawn(async move {
                let began = Instant::now();
                let found = network.get(key).await;
                drop(place);
                let is_right = found.ok().flatten().is_some_and(|found| found == value(n));
                (began.elapsed(), is_right)
            }));
        }
        let (mut times, mut missed) = (Vec::new(), 0);
        for read in reads {
            let (time, is_right) = read.await?;
            times.push(time);
            missed += usize::from(!is_right);
        }
        let count = times.len() as f64;
        let rate = count / began.elapsed().as_secs_f64();
        let (p50, p99) = quantiles(&mut times);
        let each = (cpu() - busy) / count * 1e6;
        let sent = (loopback() - bytes) / count;
        println!(
            "{name:>10}  get x{at_once:<3}  p50 {p50:7.2} ms  p99 {p99:7.2} ms  cpu {each:5.0} us  {rate:7.0}/s  \
             {sent:6.0} B on loopback  {missed} of {count} missed"
        );
    }
    Ok(())
}

fn quantiles(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    (at(0.5), at(0.99))
}

/// User and system time of this process so far, in seconds.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Resident bytes of this process.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

/// Bytes that went over the loopback interface so far: all of this machine's, so it should be idle.
fn loopback() -> f64 {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    let bytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    bytes.unwrap_or(0.0)
}
