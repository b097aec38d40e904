//! Messages over two hops: Ringweave beside a bare framed iroh stream, in one run.
//!
//! Both carry 128-byte messages from a first peer through a second to a third, all three in this
//! process, each message as a frame of its own at every hop. The bare stream only copies frames
//! from one stream to the next; Ringweave routes by GUID, numbers, holds back, delivers to an
//! inbox and acknowledges end to end. The bare endpoints have iroh's own transport settings. The two are measured in turn, so that a machine whose speed
//! drifts drifts for both; the ratio of each round is what counts.
//!
//!     cargo run --release --bin hops [ROUNDS] [SECONDS]
//!     cargo run --release --bin hops profile      only Ringweave, for 10 s: something to profile

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use iroh::{
    Endpoint, EndpointAddr, RelayMode, TransportAddr,
    endpoint::{Connection, PortmapperConfig, RecvStream, SendStream, presets},
};
use ringweave_net::{Entrance, Handle, PeerRef, Settings, Shape, start};
use tokio::time::interval;

const SIZE: usize = 128;
const ALPN: &[u8] = b"bare/1";
/// Messages of one run, and runs under way at once.
const RUN: usize = 256;
const RUNS: usize = 4;
/// Messages whose latency is measured, one each millisecond.
const TIMED: usize = 2_000;

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "profile") {
        let (rate, cpu) = ringweave_rate(Duration::from_secs(10)).await?;
        println!("{rate:.0} msg/s, {cpu:.2} us of CPU each");
        return Ok(());
    }
    let rounds: usize = words.next().map_or(Ok(5), |word| word.parse())?;
    let seconds: u64 = words.next().map_or(Ok(3), |word| word.parse())?;
    let span = Duration::from_secs(seconds);
    println!("{rounds} rounds of {seconds} s each, {SIZE} B, two hops, one process");
    println!("round   bare msg/s   ringweave msg/s   ratio   cpu us/msg bare   ringweave");
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let (bare, bare_cpu) = bare_rate(span).await.context("the bare stream")?;
        let (ours, ours_cpu) = ringweave_rate(span).await.context("ringweave")?;
        ratios.push(ours / bare);
        println!(
            "{round:5}   {bare:10.0}   {ours:15.0}   {:5.2}   {bare_cpu:15.2}   {ours_cpu:9.2}",
            ours / bare
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[ratios.len() / 2]);
    let (p50, p99) = bare_latency().await?;
    println!("latency at 1,000/s, one way over two hops, bare:      p50 {p50:.0} us, p99 {p99:.0} us");
    let (p50, p99) = ringweave_latency().await?;
    println!("latency at 1,000/s, one way over two hops, ringweave: p50 {p50:.0} us, p99 {p99:.0} us");
    Ok(())
}

/// User and system time of this process so far, in seconds.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Counts what arrives for `span`, after a second's start; messages per second and CPU microseconds each.
async fn rate(count: &AtomicU64, span: Duration) -> (f64, f64) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, began, cpu_before) = (count.load(Ordering::Relaxed), Instant::now(), cpu());
    tokio::time::sleep(span).await;
    let arrived = (count.load(Ordering::Relaxed) - before) as f64;
    let rate = arrived / began.elapsed().as_secs_f64();
    (rate, (cpu() - cpu_before) * 1e6 / arrived.max(1.0))
}

// The bare stream.

async fn endpoint() -> Result<Endpoint> {
    let builder = Endpoint::builder(presets::Minimal)
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .portmapper_config(PortmapperConfig::Disabled)
        .clear_ip_transports();
    Ok(builder.bind_addr(SocketAddr::from(([127, 0, 0, 1], 0)))?.bind().await?)
}

async fn join(from: &Endpoint, to: &Endpoint) -> Result<(Connection, Connection)> {
    let address = TransportAddr::Ip(to.bound_sockets()[0]);
    let address = EndpointAddr::from_parts(to.id(), [address]);
    let accept = async { anyhow::Ok(to.accept().await.context("closed")?.await?) };
    let (dialled, accepted) = tokio::try_join!(async { anyhow::Ok(from.connect(address, ALPN).await?) }, accept)?;
    Ok((dialled, accepted))
}

/// A way of two hops: what to write to, what to read from, and what must live meanwhile.
async fn bare_way() -> Result<(SendStream, RecvStream, Vec<Endpoint>, Vec<Connection>)> {
    let ends = vec![endpoint().await?, endpoint().await?, endpoint().await?];
    let (a, b1) = join(&ends[0], &ends[1]).await?;
    let (b2, c) = join(&ends[1], &ends[2]).await?;
    let mut first = a.open_uni().await?;
    first.write_all(&[0]).await?;
    let mut middle = b1.accept_uni().await?;
    let mut onward = b2.open_uni().await?;
    onward.write_all(&[0]).await?;
    let mut last = c.accept_uni().await?;
    let mut mark = [0];
    middle.read_exact(&mut mark).await?;
    last.read_exact(&mut mark).await?;
    tokio::spawn(async move {
        // Ends with its connections.
        if let Err(error) = forward(middle, onward).await { eprintln!("forward: {error:#}"); }
    });
    Ok((first, last, ends, vec![a, b1, b2, c]))
}

/// The hop: every frame is looked at, and written anew.
async fn forward(mut from: RecvStream, mut to: SendStream) -> Result<()> {
    let mut input = BytesMut::new();
    while let Some(chunk) = from.read_chunk(256 * 1024).await? {
        input.extend_from_slice(&chunk);
        let mut output = BytesMut::with_capacity(input.len());
        while let Some(frame) = take_frame(&mut input) {
            put_frame(&mut output, &frame);
        }
        if !output.is_empty() {
            to.write_chunk(output.freeze()).await?;
        }
    }
    Ok(())
}

fn put_frame(output: &mut BytesMut, payload: &[u8]) {
    output.extend_from_slice(&(payload.len() as u16).to_le_bytes());
    output.extend_from_slice(payload);
}

fn take_frame(input: &mut BytesMut) -> Option<Bytes> {
    let len = usize::from(u16::from_le_bytes(*input.first_chunk()?));
    if input.len() < 2 + len {
        return None;
    }
    input.advance(2);
    Some(input.split_to(len).freeze())
}

async fn bare_rate(span: Duration) -> Result<(f64, f64)> {
    let (mut first, mut last, ends, connections) = bare_way().await?;
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    let reader = tokio::spawn(async move {
        let mut input = BytesMut::new();
        while let Ok(Some(chunk)) = last.read_chunk(256 * 1024).await {
            input.extend_from_slice(&chunk);
            let mut frames = 0;
            while take_frame(&mut input).is_some() {
                frames += 1;
            }
            counter.fetch_add(frames, Ordering::Relaxed);
        }
    });
    let writer = tokio::spawn(async move {
        let payload = [7; SIZE];
        loop {
            let mut output = BytesMut::with_capacity(RUN * (SIZE + 2));
            for _ in 0..RUN {
                put_frame(&mut output, &payload);
            }
            if let Err(error) = first.write_chunk(output.freeze()).await {
                eprintln!("write: {error:#}");
                return;
            }
        }
    });
    let measured = rate(&count, span).await;
    writer.abort();
    reader.abort();
    close(ends, connections).await;
    Ok(measured)
}

async fn close(ends: Vec<Endpoint>, connections: Vec<Connection>) {
    drop(connections);
    for end in ends {
        end.close().await;
    }
}

async fn bare_latency() -> Result<(f64, f64)> {
    let (mut first, mut last, ends, connections) = bare_way().await?;
    let origin = Instant::now();
    let reader = tokio::spawn(async move {
        let (mut input, mut times) = (BytesMut::new(), Vec::new());
        while times.len() < TIMED {
            let Ok(Some(chunk)) = last.read_chunk(256 * 1024).await else { break };
            input.extend_from_slice(&chunk);
            while let Some(frame) = take_frame(&mut input) {
                times.push(age(origin, &frame));
            }
        }
        times
    });
    let mut tick = interval(Duration::from_millis(1));
    for _ in 0..TIMED {
        tick.tick().await;
        let mut output = BytesMut::new();
        put_frame(&mut output, &stamp(origin));
        first.write_chunk(output.freeze()).await?;
    }
    let times = reader.await?;
    close(ends, connections).await;
    percentiles(times)
}

fn stamp(origin: Instant) -> Vec<u8> {
    let mut payload = vec![0; SIZE];
    payload[..8].copy_from_slice(&(origin.elapsed().as_nanos() as u64).to_le_bytes());
    payload
}

fn age(origin: Instant, payload: &[u8]) -> f64 {
    let left = payload.first_chunk().map_or(0, |head| u64::from_le_bytes(*head));
    (origin.elapsed().as_nanos() as u64).saturating_sub(left) as f64 / 1e3
}

fn percentiles(mut times: Vec<f64>) -> Result<(f64, f64)> {
    ensure!(times.len() == TIMED, "{} of {TIMED} messages arrived", times.len());
    times.sort_by(f64::total_cmp);
    Ok((times[TIMED / 2], times[TIMED * 99 / 100]))
}

// Ringweave.

/// Three peers in a row: the first sits below the second, the third beside it.
async fn ringweave_way() -> Result<(Handle, Handle, Vec<Handle>)> {
    let shape = Shape { ring_size: Some(2), ..Shape::default() };
    let founder = start(Settings { shape, ..Settings::default() }).await?;
    let invite = founder.invite().await?;
    let newcomer = || {
        let entrance = Entrance::Join(Box::new(invite.clone()));
        start(Settings { entrance, ..Settings::default() })
    };
    let second = newcomer().await?;
    let outer = newcomer().await?;
    let place = outer.status().await?.guid.context("placed")?;
    ensure!(place.depth() == 2, "the outer peer sits at {place}");
    let mut hops = Vec::new();
    for far in [&founder, &second] {
        hops.push((outer.trace(PeerRef::Id(far.id())).await?.len() - 1, far.clone()));
    }
    let (_, far) = hops.into_iter().find(|(hops, _)| *hops == 2).context("a peer two hops away")?;
    Ok((outer.clone(), far, vec![founder, second, outer]))
}

async fn ringweave_rate(span: Duration) -> Result<(f64, f64)> {
    let (from, to, all) = ringweave_way().await?;
    let count = Arc::new(AtomicU64::new(0));
    let mut inbox = to.listen().await?;
    let counter = Arc::clone(&count);
    let reader = tokio::spawn(async move {
        while inbox.recv().await.is_some() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let payload = Bytes::from_static(&[7; SIZE]);
    let writers: Vec<_> = (0..RUNS)
        .map(|_| {
            let (from, to, payload) = (from.clone(), PeerRef::Id(to.id()), payload.clone());
            tokio::spawn(async move {
                loop {
                    if let Err(error) = from.send_run(to.clone(), vec![payload.clone(); RUN]).await {
                        return error;
                    }
                }
            })
        })
        .collect();
    let measured = rate(&count, span).await;
    for writer in writers {
        if writer.is_finished() {
            return Err(writer.await?.into());
        }
        writer.abort();
    }
    reader.abort();
    for peer in all {
        peer.leave().await;
    }
    Ok(measured)
}

async fn ringweave_latency() -> Result<(f64, f64)> {
    let (from, to, all) = ringweave_way().await?;
    let origin = Instant::now();
    let mut inbox = to.listen().await?;
    let reader = tokio::spawn(async move {
        let mut times = Vec::new();
        while times.len() < TIMED
            && let Some(message) = inbox.recv().await
        {
            times.push(age(origin, &message.payload));
        }
        times
    });
    let mut tick = interval(Duration::from_millis(1));
    for _ in 0..TIMED {
        tick.tick().await;
        let (from, to) = (from.clone(), PeerRef::Id(to.id()));
        let payload = Bytes::from(stamp(origin));
        tokio::spawn(async move {
            // A message that fails is missed by the reader.
            let _ = from.send(to, payload).await;
        });
    }
    let times = reader.await?;
    for peer in all {
        peer.leave().await;
    }
    percentiles(times)
}
