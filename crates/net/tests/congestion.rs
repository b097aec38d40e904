//! One peer sends as fast as it can; others share the way.
//!
//! ```text
//! burst    ─┐                ┌─ slow
//!           ├─ inner ─ inner ┤
//! bystander ┘                └─ bystander
//! ```
//!
//! Whoever shares the way is served within a bounded time, nobody is suspected, nothing grows, and
//! what is dropped is counted. All waits have deadlines.

#![allow(clippy::unwrap_used)]

use std::{
    future::Future,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringweave_ids::PeerId;
use ringweave_net::{
    CallError, Counters, Entrance, Handle, Invite, PeerEvent, PeerRef, Settings, Shape, start,
};
use tokio::{
    sync::{Mutex, broadcast},
    task::JoinSet,
    time::{sleep, timeout},
};

/// How long a burst goes on.
const BURST: Duration = Duration::from_secs(2);
/// What 95 of 100 bystanders' messages take at most, there and back, in a debug build on a busy
/// machine: half of what one waits who stands behind a queue that does not move.
const SERVED: Duration = Duration::from_secs(1);
/// Longest wait for anything here: far more than it takes on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// What all peers together may hold beyond what they held before: the windows of a few flows.
#[cfg(target_os = "linux")]
const GROWTH: u64 = 96 * 1024 * 1024;
/// Payloads of a burst to one: several frames to a packet, many to a batch.
const SIZE: usize = 1_000;
/// Messages of one run, and runs under way at once: far more than a receiver's window.
const RUN: usize = 512;
const RUNS: usize = 4;
/// Payloads of a burst to all, and how many are under way at once: more than a link's queue takes.
const LARGE: usize = 16 * 1024;
const SPREADS: usize = 64;
/// Messages that an inbox takes.
const INBOX: u64 = 1_024;

/// They look at the time and at the memory of the whole process, so one runs after the other.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing happened in time"))
}

async fn peer(shape: Shape, entrance: Entrance) -> Handle {
    let settings = Settings {
        shape,
        entrance,
        ..Settings::default()
    };
    soon("a start", start(settings)).await.unwrap()
}

async fn joiner(invite: &Invite) -> Handle {
    peer(Shape::default(), Entrance::Join(Box::new(invite.clone()))).await
}

async fn counters(peer: &Handle) -> Counters {
    soon("a status", peer.status()).await.unwrap().counters
}

/// Seven peers in rings of two: two in the center, two below each of them, one further below.
async fn tree() -> Vec<Handle> {
    let shape = Shape {
        ring_size: Some(2),
        cluster: Some(1),
        ..Shape::default()
    };
    let mut peers = vec![peer(shape, Entrance::New).await];
    let invite = soon("an invite", peers[0].invite()).await.unwrap();
    for _ in 0..6 {
        peers.push(joiner(&invite).await);
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

/// The bystanders talk for as long as the burst goes on; each message and each trace gets through.
async fn talk(near: &Handle, far: &Handle) -> [Duration; 2] {
    let (mut sends, mut traces) = (Vec::new(), Vec::new());
    let since = Instant::now();
    while since.elapsed() < BURST {
        let to = || PeerRef::Id(far.id());
        let start = Instant::now();
        near.send(to(), "in between".into()).await.unwrap();
        sends.push(start.elapsed());
        let start = Instant::now();
        near.trace(to()).await.unwrap();
        traces.push(start.elapsed());
        // The pace of their talk, not a wait for anything.
        sleep(Duration::from_millis(5)).await;
    }
    [sends, traces].map(|mut spans| {
        spans.sort_unstable();
        println!(
            "{} bystanders' questions: median {:?}, slowest {:?}",
            spans.len(),
            spans[spans.len() / 2],
            spans[spans.len() - 1]
        );
        spans[spans.len() * 95 / 100]
    })
}

/// What must hold of the others while a burst goes on.
async fn stand_by(peers: &[Handle], near: &Handle, far: &Handle, burst: JoinSet<()>) {
    let mut events: Vec<_> = peers.iter().map(Handle::events).collect();
    #[cfg(target_os = "linux")]
    let before = resident();
    let [send, trace] = talk(near, far).await;
    assert!(send < SERVED && trace < SERVED, "{send:?} {trace:?}");
    #[cfg(target_os = "linux")]
    println!("grew by {} KiB", resident().saturating_sub(before) / 1024);
    #[cfg(target_os = "linux")]
    assert!(resident() < before + GROWTH, "{before} {}", resident());
    let lost = losses(&mut events);
    assert_eq!(lost, Vec::<String>::new(), "nobody is suspected");
    drop(burst);
    for peer in peers {
        let counters = counters(peer).await;
        let (delivered, dropped) = (counters.delivered, counters.dropped);
        println!(
            "{}: {delivered} delivered, {dropped} dropped",
            peer.id().short()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_to_a_slow_receiver_leaves_the_others_served() {
    let _alone = ALONE.lock().await;
    let peers = tree().await;
    let [burst, slow, near, far] = pairs(&peers).await;
    let mut tasks = JoinSet::new();
    for _ in 0..RUNS {
        let (burst, to) = (burst.clone(), slow.id());
        tasks.spawn(async move {
            loop {
                let payloads = vec![Bytes::from(vec![7; SIZE]); RUN];
                match burst.send_run(PeerRef::Id(to), payloads).await {
                    Ok(_) | Err(CallError::Failed { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    let mut inbox = soon("an inbox", slow.listen()).await.unwrap();
    tasks.spawn(async move {
        while inbox.recv().await.is_some() {
            // It is slow: that is its part here.
            sleep(Duration::from_micros(300)).await;
        }
    });
    let mut inbox = soon("an inbox", far.listen()).await.unwrap();
    tasks.spawn(async move { while inbox.recv().await.is_some() {} });
    stand_by(&peers, &near, &far, tasks).await;
    let delivered = counters(&slow).await.delivered;
    assert!(delivered > 200, "the burst was none: {delivered}");
}

/// Nobody acknowledges a broadcast to its origin before the next goes: only the links hold it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_broadcasts_leaves_the_others_served() {
    let _alone = ALONE.lock().await;
    let peers = tree().await;
    let [burst, _, near, far] = pairs(&peers).await;
    let mut tasks = JoinSet::new();
    for peer in &peers {
        let mut inbox = soon("an inbox", peer.listen()).await.unwrap();
        tasks.spawn(async move { while inbox.recv().await.is_some() {} });
    }
    for _ in 0..SPREADS {
        let burst = burst.clone();
        tasks.spawn(async move {
            loop {
                match burst.broadcast(None, vec![7; LARGE].into()).await {
                    Ok(_) | Err(CallError::Failed { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    stand_by(&peers, &near, &far, tasks).await;
    let spread = counters(&burst).await.spread;
    assert!(spread > 200, "the burst was none: {spread}");
}

/// Broadcasts are not refused: who cannot take one counts it, and is not counted by its origin.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_inbox_does_not_take_is_counted() {
    const BEYOND: u64 = 50;
    let _alone = ALONE.lock().await;
    let founder = peer(Shape::default(), Entrance::New).await;
    let invite = soon("an invite", founder.invite()).await.unwrap();
    let deaf = joiner(&invite).await;
    let spread = || async { founder.broadcast(None, "all".into()).await.unwrap().reached };
    let linked = async { while spread().await < 2 {} };
    soon("the first broadcast", linked).await;
    let mut spreads = JoinSet::new();
    for _ in 1..INBOX + BEYOND {
        let founder = founder.clone();
        spreads.spawn(async move { founder.broadcast(None, "all".into()).await.unwrap().reached });
    }
    let reached = soon("the broadcasts", spreads.join_all()).await;
    let told = reached.iter().filter(|reached| **reached == 2).count() as u64;
    let counters = counters(&deaf).await;
    assert_eq!((counters.delivered, counters.dropped), (INBOX, BEYOND));
    assert!(
        told < INBOX,
        "{told} are said to be held there, beside the first"
    );
}
