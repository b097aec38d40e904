//! One peer sends as fast as it can to another whose application is slow; others share the way.
//!
//! ```text
//! burst    ─┐                ┌─ slow
//!           ├─ inner ─ inner ┤
//! bystander ┘                └─ bystander
//! ```
//!
//! Whoever shares the way is served within a bounded time, nobody is suspected, and nothing grows.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use ringweave_ids::PeerId;
use ringweave_net::{CallError, Entrance, Handle, PeerEvent, PeerRef, Settings, Shape, start};
use tokio::{
    sync::broadcast,
    time::{sleep, timeout},
};

/// How long the burst goes on.
const BURST: Duration = Duration::from_secs(6);
/// What 99 of 100 bystanders' messages take at most, there and back, in a debug build.
const SERVED: Duration = Duration::from_millis(250);
/// Longest wait for a young network to be whole.
const SOON: Duration = Duration::from_secs(20);
/// What all peers together may hold beyond what they held before: the windows of a few flows.
#[cfg(target_os = "linux")]
const GROWTH: u64 = 96 * 1024 * 1024;
/// Payloads of the burst: several frames to a packet, many to a batch.
const SIZE: usize = 1_000;
/// Messages of one run, and runs under way at once: far more than a receiver's window.
const RUN: usize = 512;
const RUNS: usize = 4;

/// Seven peers in rings of two: two in the center, two below each of them, one further below.
async fn tree() -> Vec<Handle> {
    let shape = Shape {
        ring_size: Some(2),
        cluster: Some(1),
        ..Shape::default()
    };
    let founder = start(Settings {
        shape,
        ..Settings::default()
    });
    let mut peers = vec![founder.await.unwrap()];
    let invite = peers[0].invite().await.unwrap();
    for _ in 0..6 {
        let settings = Settings {
            entrance: Entrance::Join(Box::new(invite.clone())),
            ..Settings::default()
        };
        peers.push(start(settings).await.unwrap());
    }
    peers
}

async fn way(from: &Handle, to: &Handle) -> Vec<PeerId> {
    let deadline = Instant::now() + SOON;
    loop {
        match from.trace(PeerRef::Id(to.id())).await {
            Ok(hops) => return hops.into_iter().map(|hop| hop.peer).collect(),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

/// Two pairs without a common end whose ways share a link: who bursts and to whom, and two bystanders.
async fn pairs(peers: &[Handle]) -> [Handle; 4] {
    let mut ways = Vec::new();
    for from in peers {
        for to in peers.iter().filter(|to| to.id() != from.id()) {
            ways.push((from, to, way(from, to).await));
        }
    }
    for (burst, slow, first) in &ways {
        for (from, to, second) in &ways {
            let ends = [from.id(), to.id()];
            let is_apart = !first.contains(&ends[0]) && !first.contains(&ends[1]);
            let is_apart =
                is_apart && !second.contains(&burst.id()) && !second.contains(&slow.id());
            let mut links = first.windows(2);
            if is_apart && links.any(|link| second.windows(2).any(|other| other == link)) {
                return [*burst, *slow, *from, *to].map(Clone::clone);
            }
        }
    }
    panic!("no two pairs share a link: {ways:?}");
}

/// Bytes of memory that this process holds.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().strip_suffix("kB").unwrap();
    kilobytes.trim().parse::<u64>().unwrap() * 1024
}

/// Who of the peers lost whom since.
fn losses(events: &mut [broadcast::Receiver<PeerEvent>]) -> Vec<String> {
    let mut losses = Vec::new();
    for events in events {
        while let Ok(event) = events.try_recv() {
            if let PeerEvent::Down { why, .. } = event
                && why != "closed"
            {
                losses.push(why);
            }
        }
    }
    losses
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "its bounds are of a quiet machine; run it by name"]
async fn a_burst_to_a_slow_receiver_leaves_the_others_served() {
    let peers = tree().await;
    let [burst, slow, near, far] = pairs(&peers).await;
    let mut events: Vec<_> = peers.iter().map(Handle::events).collect();
    #[cfg(target_os = "linux")]
    let before = resident();
    let since = Instant::now();
    let bursts = (0..RUNS).map(|_| {
        let (burst, to) = (burst.clone(), slow.id());
        tokio::spawn(async move {
            let (mut delivered, mut refused) = (0, 0);
            while since.elapsed() < BURST {
                let payloads = vec![Bytes::from(vec![7; SIZE]); RUN];
                match burst.send_run(PeerRef::Id(to), payloads).await {
                    Ok(run) => delivered += run.delivered,
                    Err(CallError::Failed { .. }) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (delivered, refused)
        })
    });
    let bursts: Vec<_> = bursts.collect();
    let mut inbox = slow.listen().await.unwrap();
    let drain = tokio::spawn(async move {
        let mut count = 0_u64;
        // As many as fit into the time; the last may never come.
        let all = async {
            while inbox.recv().await.is_some() {
                count += 1;
                if count.is_multiple_of(64) {
                    sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let _ = timeout(BURST, all).await;
        count
    });
    let mut heard = far.listen().await.unwrap();
    let hearing = tokio::spawn(async move { while heard.recv().await.is_some() {} });
    let (mut sends, mut traces) = (Vec::new(), Vec::new());
    while since.elapsed() < BURST {
        let to = || PeerRef::Id(far.id());
        let start = Instant::now();
        near.send(to(), "in between".into()).await.unwrap();
        sends.push(start.elapsed());
        let start = Instant::now();
        near.trace(to()).await.unwrap();
        traces.push(start.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    let mut got = (0, 0);
    for burst in bursts {
        let (delivered, refused) = burst.await.unwrap();
        got = (got.0 + delivered, got.1 + refused);
    }
    let drained = drain.await.unwrap();
    hearing.abort();
    let worst = |spans: &mut Vec<Duration>| {
        spans.sort_unstable();
        spans[spans.len() * 99 / 100]
    };
    let (send, trace) = (worst(&mut sends), worst(&mut traces));
    println!(
        "burst: {} delivered, {} runs cut short, {drained} drained; {} sends within {send:?}, traces within {trace:?}",
        got.0,
        got.1,
        sends.len()
    );
    for peer in &peers {
        let counters = peer.status().await.unwrap().counters;
        println!(
            "{}: {} dropped, {} forwarded",
            peer.id().short(),
            counters.dropped,
            counters.forwarded
        );
    }
    assert!(got.0 > 1_000, "the burst was none");
    #[cfg(target_os = "linux")]
    assert!(resident() < before + GROWTH, "{before} {}", resident());
    assert!(send < SERVED && trace < SERVED, "{send:?} {trace:?}");
    assert_eq!(
        losses(&mut events),
        Vec::<String>::new(),
        "nobody is suspected"
    );
}
