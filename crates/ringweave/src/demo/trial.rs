//! What the demo puts its peers through, and what it measures.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringweave_net::{CallError, Delivery, Handle, PeerRef};
use ringweave_node::MessageKind;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    crowd::{Crowd, Person, stamped},
    report::Progress,
};

/// Messages under way at once while every pair is tried.
const UNDER_WAY: usize = 32;

/// Pairs whose latency is measured, one after the other.
const TIMED: usize = 500;

/// Destinations that each survivor tries while the network heals.
const PROBED: usize = 24;

/// Receivers of the multicast.
const RECEIVERS: usize = 5;

/// How long deliveries may trail behind their acknowledgements.
const TRAILING: Duration = Duration::from_secs(5);

/// What became of messages between pairs.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    pub(super) tried: u64,
    pub(super) ok: u64,
    pub(super) hops: Vec<u8>,
    /// The first that failed.
    pub(super) failed: Option<String>,
}

/// How a broadcast or multicast went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spreading {
    /// Peers that its sender knows to hold it.
    pub(super) reached: u64,
    /// Applications that heard it.
    pub(super) heard: u64,
    pub(super) transmissions: u64,
    pub(super) duplicates: u64,
    pub(super) ms: f64,
}

/// One message over each ordered pair.
pub(super) async fn routes(crowd: &Crowd, progress: &Progress) -> Routes {
    let places = Arc::new(Semaphore::new(UNDER_WAY));
    let ids: Arc<Vec<_>> = Arc::new(crowd.peers.iter().map(Person::id).collect());
    let mut origins = JoinSet::new();
    for (at, person) in crowd.peers.iter().enumerate() {
        let (handle, ids) = (person.handle.clone(), Arc::clone(&ids));
        let (places, progress) = (Arc::clone(&places), progress.clone());
        origins.spawn(async move {
            let mut routes = Routes::default();
            for step in 1..ids.len() {
                let place = places.acquire().await;
                let to = ids[(at + step) % ids.len()];
                let result = handle
                    .send(PeerRef::Id(to), Bytes::from_static(b"ahoy"))
                    .await;
                drop(place);
                progress.step();
                routes.note(&handle, &result);
            }
            routes
        });
    }
    let mut all = Routes::default();
    while let Some(Ok(routes)) = origins.join_next().await {
        all.add(routes);
    }
    all
}

impl Routes {
    fn note(&mut self, from: &Handle, result: &Result<Delivery, CallError>) {
        self.tried += 1;
        match result {
            Ok(delivery) => {
                self.ok += 1;
                self.hops.push(delivery.hops);
            }
            Err(error) => {
                self.failed
                    .get_or_insert_with(|| format!("from {}: {error}", from.id().short()));
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.tried += other.tried;
        self.ok += other.ok;
        self.hops.extend(other.hops);
        self.failed = self.failed.take().or(other.failed);
    }
}

/// One-way times between pairs on a network at rest, in microseconds, sorted. The pairs lie evenly
/// over all.
pub(super) async fn latencies(crowd: &Crowd) -> Vec<u64> {
    let count = crowd.peers.len();
    let stride = (crowd.pairs() / TIMED).max(1);
    for pair in (0..crowd.pairs()).step_by(stride) {
        let (from, step) = (pair / (count - 1), pair % (count - 1) + 1);
        let to = crowd.peers[(from + step) % count].id();
        let payload = Bytes::from(stamped(crowd.origin()));
        // A message that fails here has no latency; that every pair works is tested elsewhere.
        let _ = crowd.peers[from]
            .handle
            .send(PeerRef::Id(to), payload)
            .await;
    }
    let mut times: Vec<_> = crowd
        .peers
        .iter()
        .flat_map(|person| person.heard.times())
        .collect();
    times.sort_unstable();
    times
}

/// One broadcast from the peer furthest out.
pub(super) async fn broadcast(crowd: &Crowd) -> Spreading {
    let before = Before::note(crowd, MessageKind::Broadcast).await;
    let began = Instant::now();
    let spread = crowd
        .deepest()
        .handle
        .broadcast(None, Bytes::from_static(b"all hands"))
        .await;
    let ms = began.elapsed().as_secs_f64() * 1e3;
    let reached = spread.map_or(0, |spread| spread.reached);
    // The origin's own application need not hear what it said.
    let expected = crowd.peers.len() as u64 - 1;
    before.compare(crowd, expected, reached, ms).await
}

/// One multicast from the first peer to a few that lie far apart.
pub(super) async fn multicast(crowd: &Crowd) -> (usize, Spreading) {
    let others = &crowd.peers[1..];
    let stride = (others.len() / RECEIVERS).max(1);
    let to: Vec<_> = others
        .iter()
        .step_by(stride)
        .take(RECEIVERS)
        .map(|it| PeerRef::Id(it.id()))
        .collect();
    let count = to.len();
    let before = Before::note(crowd, MessageKind::Multicast).await;
    let began = Instant::now();
    let results = crowd
        .first()
        .handle
        .multicast(to, Bytes::from_static(b"you few"))
        .await;
    let ms = began.elapsed().as_secs_f64() * 1e3;
    let reached = results.map_or(0, |results| {
        results.iter().filter(|result| result.is_ok()).count()
    });
    (
        count,
        before
            .compare(crowd, count as u64, reached as u64, ms)
            .await,
    )
}

/// The counters before something spreads.
struct Before {
    kind: MessageKind,
    heard: u64,
    transmissions: u64,
    duplicates: u64,
}

impl Before {
    async fn note(crowd: &Crowd, kind: MessageKind) -> Self {
        Self {
            kind,
            heard: heard(crowd, kind),
            transmissions: transmissions(crowd, kind).await,
            duplicates: crowd.total(|counters| counters.duplicates).await,
        }
    }

    async fn compare(&self, crowd: &Crowd, expected: u64, reached: u64, ms: f64) -> Spreading {
        let began = Instant::now();
        while heard(crowd, self.kind) - self.heard < expected && began.elapsed() < TRAILING {
            tokio::task::yield_now().await;
        }
        Spreading {
            reached,
            heard: heard(crowd, self.kind) - self.heard,
            transmissions: transmissions(crowd, self.kind).await - self.transmissions,
            duplicates: crowd.total(|counters| counters.duplicates).await - self.duplicates,
            ms,
        }
    }
}

fn heard(crowd: &Crowd, kind: MessageKind) -> u64 {
    crowd
        .peers
        .iter()
        .map(|person| person.heard.count(kind))
        .sum()
}

async fn transmissions(crowd: &Crowd, kind: MessageKind) -> u64 {
    match kind {
        MessageKind::Broadcast => crowd.total(|counters| counters.spread).await,
        _ => crowd.total(|counters| counters.forwarded).await,
    }
}

/// Crashes the doomed, and tries to send from every survivor to others until all have got through.
/// How long that took; nothing if it took longer than `limit`.
pub(super) async fn heal(crowd: &Crowd, limit: Duration, crash: impl FnOnce()) -> Option<Duration> {
    let count = crowd.peers.len();
    let mut probes = JoinSet::new();
    crash();
    let began = Instant::now();
    for (at, person) in crowd.peers.iter().enumerate() {
        let stride = ((count - 1) / PROBED).max(1);
        for step in (1..count).step_by(stride) {
            let (handle, to) = (person.handle.clone(), crowd.peers[(at + step) % count].id());
            probes.spawn(async move {
                while began.elapsed() < limit {
                    let sent = handle.send(PeerRef::Id(to), Bytes::from_static(b"still there?"));
                    if sent.await.is_ok() {
                        return Some(began.elapsed());
                    }
                }
                None
            });
        }
    }
    let mut last = Duration::ZERO;
    while let Some(probe) = probes.join_next().await {
        last = last.max(probe.ok()??);
    }
    Some(last)
}
