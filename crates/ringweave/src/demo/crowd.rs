//! The demo's peers, and what each of them has heard.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ringweave_api::Word;
use ringweave_ids::{Guid, PeerId};
use ringweave_net::{Counters, Entrance, Handle, Inbox, Invite, PeerInfo, Settings, Shape, start};
use ringweave_node::MessageKind;
use tokio::task::JoinSet;

use super::report::Teller;
use crate::exit::Problem;

/// Peers that join at once: a small flash crowd.
const AT_ONCE: usize = 8;

/// How long a network at rest may take to connect all its neighbours.
const SETTLING: Duration = Duration::from_secs(20);

/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(50);

/// All peers of the demo that live.
pub(super) struct Crowd {
    pub(super) peers: Vec<Person>,
    doomed: BTreeSet<usize>,
    pub(super) joined_ms: u64,
}

/// One peer.
pub(super) struct Person {
    number: usize,
    pub(super) name: String,
    pub(super) handle: Handle,
    pub(super) guid: Guid,
    pub(super) heard: Arc<Heard>,
}

/// What a peer's application heard.
#[derive(Debug)]
pub(super) struct Heard {
    origin: Instant,
    unicasts: AtomicU64,
    multicasts: AtomicU64,
    broadcasts: AtomicU64,
    /// One-way times of the messages that said when they left, in microseconds.
    times: Mutex<Vec<u64>>,
}

impl Heard {
    pub(super) fn count(&self, kind: MessageKind) -> u64 {
        let counter = match kind {
            MessageKind::Unicast => &self.unicasts,
            MessageKind::Multicast => &self.multicasts,
            MessageKind::Broadcast => &self.broadcasts,
        };
        counter.load(Ordering::Acquire)
    }

    pub(super) fn times(&self) -> Vec<u64> {
        std::mem::take(
            &mut *self
                .times
                .lock()
                .expect("nothing panics while it holds this lock"),
        )
    }

    async fn listen(&self, mut inbox: Inbox) {
        while let Some(message) = inbox.recv().await {
            let arrived = self.origin.elapsed().as_micros() as u64;
            if let Some(left) = departure(&message.payload) {
                let mut times = self
                    .times
                    .lock()
                    .expect("nothing panics while it holds this lock");
                times.push(arrived.saturating_sub(left));
            }
            let counter = match message.kind {
                MessageKind::Unicast => &self.unicasts,
                MessageKind::Multicast => &self.multicasts,
                MessageKind::Broadcast => &self.broadcasts,
            };
            counter.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The word that says that a payload tells when it left.
const STAMP: &[u8] = b"left at ";

/// A payload that says when it left.
pub(super) fn stamped(origin: Instant) -> Vec<u8> {
    let now = origin.elapsed().as_micros() as u64;
    [STAMP, &now.to_le_bytes()].concat()
}

fn departure(payload: &[u8]) -> Option<u64> {
    let time = payload.strip_prefix(STAMP)?;
    Some(u64::from_le_bytes(time.try_into().ok()?))
}

impl Crowd {
    /// Starts the peers, those that will crash on the runtime `doomed`, and waits until each is
    /// connected to all its neighbours.
    pub(super) async fn gather(
        count: usize,
        shape: &Shape,
        doomed: &tokio::runtime::Handle,
        teller: &Teller,
    ) -> Result<Self, Problem> {
        let began = Instant::now();
        let victims = victims(count);
        let mut crowd = Self {
            peers: Vec::new(),
            doomed: victims,
            joined_ms: 0,
        };
        let founder = Settings {
            shape: *shape,
            name: Some(name(0)),
            ..Settings::default()
        };
        let founder = Person::start(0, founder, began).await?;
        let invite = founder.handle.invite().await.map_err(stopped)?;
        crowd.peers.push(founder);
        let progress = teller.progress("joining", count);
        let mut joining = JoinSet::new();
        let mut next = 1;
        while crowd.peers.len() < count {
            // The center ring forms one by one, so that who crashes there is known beforehand.
            let at_once = if shape.ring_size.is_some_and(|size| next < size as usize) {
                1
            } else {
                AT_ONCE
            };
            while next < count && joining.len() < at_once {
                let settings = newcomer(next, &invite);
                let task = Person::start(next, settings, began);
                if crowd.doomed.contains(&next) {
                    joining.spawn_on(task, doomed);
                } else {
                    joining.spawn(task);
                }
                next += 1;
            }
            let Some(joined) = joining.join_next().await else {
                break;
            };
            crowd
                .peers
                .push(joined.map_err(|error| Problem::new(Word::Failed, error))??);
            progress.set(crowd.peers.len());
        }
        progress.finish();
        crowd.joined_ms = began.elapsed().as_millis() as u64;
        crowd.peers.sort_by_key(|person| person.number);
        crowd.settle(&[]).await?;
        Ok(crowd)
    }

    /// Waits until every peer is connected to all its neighbours, and to none of the dead, and notes
    /// where each sits.
    pub(super) async fn settle(&mut self, dead: &[Person]) -> Result<(), Problem> {
        let dead: Vec<_> = dead.iter().map(Person::id).collect();
        let began = Instant::now();
        loop {
            let mut missing = Vec::new();
            for person in &mut self.peers {
                let status = person.handle.status().await.map_err(stopped)?;
                let peers = person.handle.peers().await.map_err(stopped)?;
                match status.guid {
                    Some(guid) => person.guid = guid,
                    None => missing.push(format!("{} has no place", person.name)),
                }
                let is_dead = |peer: &&PeerInfo| dead.contains(&peer.peer_id);
                missing.extend(
                    peers
                        .iter()
                        .filter(is_dead)
                        .map(|peer| format!("{} still holds {} for alive", person.name, peer.guid)),
                );
                missing.extend(peers.iter().filter(|peer| !peer.linked).map(|peer| {
                    format!(
                        "{} is not connected to its {} {}",
                        person.name, peer.role, peer.guid
                    )
                }));
            }
            let Some(first) = missing.first() else {
                return Ok(());
            };
            if began.elapsed() > SETTLING {
                let count = missing.len();
                let what =
                    format!("{count} links are missing after {SETTLING:?}; the first: {first}");
                return Err(Problem::new(Word::Failed, what));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    pub(super) fn first(&self) -> &Person {
        &self.peers[0]
    }

    /// The first of those that sit furthest out.
    pub(super) fn deepest(&self) -> &Person {
        let depth = |person: &&Person| person.guid.depth();
        self.peers
            .iter()
            .rev()
            .max_by_key(depth)
            .expect("a crowd has a founder")
    }

    /// Ordered pairs of two different peers.
    pub(super) fn pairs(&self) -> usize {
        self.peers.len() * (self.peers.len() - 1)
    }

    pub(super) fn origin(&self) -> Instant {
        self.first().heard.origin
    }

    /// Peers of each ring, by the GUID of its parent position.
    pub(super) fn rings(&self) -> BTreeMap<Guid, Vec<Guid>> {
        let mut rings: BTreeMap<Guid, Vec<Guid>> = BTreeMap::new();
        for person in &self.peers {
            let parent = person.guid.parent().unwrap_or_default();
            rings.entry(parent).or_default().push(person.guid.clone());
        }
        rings
    }

    pub(super) fn depth(&self) -> usize {
        self.deepest().guid.depth()
    }

    /// Takes out those that are about to crash. They are to be kept until then: a peer that nobody
    /// holds a handle to leaves in an orderly way.
    pub(super) fn doom(&mut self) -> Vec<Person> {
        let doomed = std::mem::take(&mut self.doomed);
        let (gone, left) = std::mem::take(&mut self.peers)
            .into_iter()
            .partition::<Vec<_>, _>(|person| doomed.contains(&person.number));
        self.peers = left;
        gone
    }

    /// The sum of a counter over all peers.
    pub(super) async fn total(&self, counter: fn(&Counters) -> u64) -> u64 {
        let mut sum = 0;
        for person in &self.peers {
            if let Ok(status) = person.handle.status().await {
                sum += counter(&status.counters);
            }
        }
        sum
    }

    /// Every peer leaves.
    pub(super) async fn part(self) {
        let mut leaving = JoinSet::new();
        for person in self.peers {
            leaving.spawn(async move { person.handle.leave().await });
        }
        leaving.join_all().await;
    }
}

impl Person {
    async fn start(number: usize, settings: Settings, origin: Instant) -> Result<Self, Problem> {
        let name = settings.name.clone().unwrap_or_default();
        let handle = start(settings).await?;
        let (unicasts, multicasts, broadcasts) = Default::default();
        let times = Mutex::new(Vec::new());
        let heard = Arc::new(Heard {
            origin,
            unicasts,
            multicasts,
            broadcasts,
            times,
        });
        let inbox = handle.listen().await.map_err(stopped)?;
        let listener = Arc::clone(&heard);
        tokio::spawn(async move { listener.listen(inbox).await });
        Ok(Self {
            number,
            name,
            handle,
            guid: Guid::center(),
            heard,
        })
    }

    pub(super) fn id(&self) -> PeerId {
        self.handle.id()
    }
}

fn newcomer(number: usize, invite: &Invite) -> Settings {
    let entrance = Entrance::Join(Box::new(invite.clone()));
    Settings {
        entrance,
        name: Some(name(number)),
        ..Settings::default()
    }
}

fn name(number: usize) -> String {
    format!("peer{number}")
}

/// Who crashes: one of the first, which sits in the center ring with others below it, and every
/// sixteenth, wherever it sits. Never the founder, whose API the other commands use.
fn victims(count: usize) -> BTreeSet<usize> {
    let every = (16..count).step_by(16).map(|number| number - 1);
    every.chain([1]).filter(|number| *number < count).collect()
}

fn stopped(error: ringweave_net::CallError) -> Problem {
    Problem::new(Word::Failed, error)
}

/// A directory for the token of the demo's API; it goes when the demo ends.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self, Problem> {
        let path = std::env::temp_dir().join(format!("ringweave-demo-{}", std::process::id()));
        let made = || -> io::Result<()> {
            use std::os::unix::fs::DirBuilderExt as _;
            fs::DirBuilder::new().mode(0o700).create(&path)
        };
        made().map_err(|error| {
            Problem::new(
                Word::Failed,
                format!("cannot make the directory {}: {error}", path.display()),
            )
        })?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}
