//! Links: one QUIC connection to another peer, as four small tasks around it.
//!
//! ```text
//! stream ──> reader ──batch──> event loop ──chunks──> queue ──> writer ──> stream      (control)
//! stream ──> reader ──batch──> event loop ──chunks──> queue ──> writer ──> stream      (messages)
//! datagrams: beats
//! ```
//!
//! A reader hands over all bytes that have arrived and reads on when the loop gives the buffer
//! back: that is the credit by which a slow way out slows the way in. A link at rest owns no buffer.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use ringweave_ids::Peer;
use ringweave_node::Lane;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use crate::{event::Event, note};

/// Most bytes a reader hands over at once.
const BATCH: usize = 128 * 1024;
/// Most bytes taken from a stream at once before the first batch is handed over.
const CHUNK: usize = 64 * 1024;
/// Most bytes a writer takes from its queue at once, so that the queue's fill is known this finely.
const WRITE: usize = 128 * 1024;
/// Chunks read from a stream in one go: a batch of packets of the usual size.
const CHUNKS: usize = 64;
/// The other side opens its two streams right after the greeting, or it is not one of us.
const OPENING: Duration = Duration::from_secs(5);
/// Control goes before messages when QUIC chooses what to send.
const CONTROL_PRIORITY: i32 = 1;

/// Control bytes that may wait: a link that cannot carry so little is dead.
pub(crate) const CONTROL_CAP: usize = 1024 * 1024;
/// Waiting message bytes above which the sources of a queue get no more credit.
pub(crate) const HIGH: usize = 512 * 1024;
/// Waiting message bytes below which the sources get credit again.
pub(crate) const LOW: usize = 256 * 1024;
/// Message bytes that may wait whoever sends: every source may have had a batch under way when the
/// queue ran over [`HIGH`].
pub(crate) const MESSAGE_CAP: usize = 4 * 1024 * 1024;

/// Names one connection: the peer, and a number that no other connection of this process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkId {
    pub(crate) peer: Peer,
    pub(crate) stamp: u64,
}

/// A buffer on its way back to its reader: leave to read on.
#[derive(Debug)]
pub(crate) struct Credit(oneshot::Sender<BytesMut>);

impl Credit {
    /// Gives the buffer back, with what could not be decoded yet.
    pub(crate) fn give(self, rest: BytesMut) {
        // The reader may be gone with its connection.
        let _ = self.0.send(rest);
    }
}

/// What the loop and the tasks of a link share.
#[derive(Debug)]
pub(crate) struct Shared {
    origin: Instant,
    /// When anything was last heard, in microseconds since `origin`.
    heard: AtomicU64,
    /// Whether the other side said in its last beat that it holds the link.
    is_wanted: AtomicBool,
    /// Bytes read.
    pub(crate) read: AtomicU64,
    /// Whether the streams end once all that waits is written.
    is_ending: AtomicBool,
    queues: [Queue; 2],
}

/// What waits for one stream.
#[derive(Debug, Default)]
struct Queue {
    chunks: Mutex<VecDeque<Bytes>>,
    waiting: AtomicUsize,
    /// Whether the loop wants to hear when little waits.
    is_watched: AtomicBool,
    wake: Notify,
}

const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Message => 1,
    }
}

impl Shared {
    /// When anything was last heard, in microseconds since the loop's origin.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Counts silence from a later moment, because this process itself was late.
    pub(crate) fn excuse(&self, late: Duration) {
        self.heard
            .fetch_add(late.as_micros() as u64, Ordering::Relaxed);
    }

    /// Whether the other side holds the link.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting(&self, lane: Lane) -> usize {
        self.queues[index(lane)].waiting.load(Ordering::Acquire)
    }

    /// Queues bytes.
    pub(crate) fn push(&self, lane: Lane, chunk: Bytes) {
        let queue = &self.queues[index(lane)];
        queue.waiting.fetch_add(chunk.len(), Ordering::AcqRel);
        queue
            .chunks
            .lock()
            .expect("nothing panics while it holds this lock")
            .push_back(chunk);
        queue.wake.notify_one();
    }

    /// Asks for an [`Event::Low`] when little waits; false if little waits already.
    pub(crate) fn watch(&self, lane: Lane) -> bool {
        let queue = &self.queues[index(lane)];
        queue.is_watched.store(true, Ordering::SeqCst);
        let is_over = queue.waiting.load(Ordering::SeqCst) > LOW;
        if !is_over {
            queue.is_watched.store(false, Ordering::SeqCst);
        }
        is_over
    }

    /// Lets the streams end once all that waits is written and has arrived.
    pub(crate) fn finish(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
        for queue in &self.queues {
            queue.wake.notify_one();
        }
    }

    fn hear(&self) {
        let now = self.origin.elapsed().as_micros() as u64;
        self.heard.fetch_max(now, Ordering::Relaxed);
    }
}

/// The beat that says whether its sender holds the link.
pub(crate) const fn beat(is_held: bool) -> &'static [u8] {
    if is_held { &[1] } else { &[0] }
}

/// The tasks of a link; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Tasks {
    reader: JoinSet<()>,
    writers: JoinSet<()>,
}

impl Tasks {
    /// Waits until all that was queued has arrived, or `span` has passed.
    pub(crate) async fn drain(&mut self, span: Duration) {
        self.reader.abort_all();
        let all = async { while self.writers.join_next().await.is_some() {} };
        // Whoever is too slow for the goodbye finds out by the closed connection.
        let _ = timeout(span, all).await;
    }
}

/// Starts the tasks of a link; they end with the connection, or when the set is dropped.
pub(crate) fn start(
    connection: &Connection,
    link: LinkId,
    origin: Instant,
    events: &mpsc::Sender<Event>,
) -> (Arc<Shared>, Tasks) {
    let shared = Arc::new(Shared {
        origin,
        heard: AtomicU64::new(0),
        is_wanted: AtomicBool::new(true),
        read: AtomicU64::new(0),
        is_ending: AtomicBool::new(false),
        queues: Default::default(),
    });
    shared.hear();
    let mut tasks = Tasks {
        reader: JoinSet::new(),
        writers: JoinSet::new(),
    };
    tasks.reader.spawn(read(
        connection.clone(),
        link,
        Arc::clone(&shared),
        events.clone(),
    ));
    for lane in [Lane::Control, Lane::Message] {
        tasks.writers.spawn(write(
            connection.clone(),
            link,
            lane,
            Arc::clone(&shared),
            events.clone(),
        ));
    }
    (shared, tasks)
}

/// Takes the two streams of the other side, then reads both, and the beats.
async fn read(
    connection: Connection,
    link: LinkId,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
) {
    let streams = timeout(OPENING, accept(&connection)).await;
    if let Ok(Some((control, messages, early))) = streams {
        let readers = async {
            tokio::join!(
                read_lane(control, link, Lane::Control, &shared, &events),
                read_lane(messages, link, Lane::Message, &shared, &events),
            )
        };
        tokio::select! {
            _ = readers => {}
            () = read_beats(&connection, &shared) => {}
            () = note::read(&connection, early, link, &events) => {}
        }
    }
    // The loop may be gone, and the link with it.
    let _ = events.send(Event::Gone(link)).await;
}

/// The streams for control and messages, and notes that came before one of them; nothing if they are
/// not what they should be.
async fn accept(connection: &Connection) -> Option<(RecvStream, RecvStream, Vec<RecvStream>)> {
    let (mut streams, mut early) = ([None, None], Vec::new());
    loop {
        let mut stream = connection.accept_uni().await.ok()?;
        let mut kind = [0];
        stream.read_exact(&mut kind).await.ok()?;
        if kind[0] == note::KIND {
            // As many as QUIC lets the other side open at once.
            early.push(stream);
        } else {
            *streams.get_mut(usize::from(kind[0]))? = Some(stream);
        }
        if let [Some(_), Some(_)] = streams {
            let [control, messages] = streams;
            return Some((control?, messages?, early));
        }
    }
}

async fn read_beats(connection: &Connection, shared: &Shared) {
    while let Ok(beat) = connection.read_datagram().await {
        shared.hear();
        shared
            .is_wanted
            .store(beat.as_ref() == self::beat(true), Ordering::Relaxed);
    }
}

async fn read_lane(
    mut stream: RecvStream,
    link: LinkId,
    lane: Lane,
    shared: &Shared,
    events: &mpsc::Sender<Event>,
) {
    let mut buffer = BytesMut::new();
    loop {
        // The first chunk is awaited without a buffer of one's own, so that silence costs no memory.
        let Ok(Some(first)) = stream.read_chunk(CHUNK).await else {
            return;
        };
        let before = buffer.len();
        buffer.extend_from_slice(&first);
        drop(first);
        let is_open = drain(&mut stream, &mut buffer);
        shared.hear();
        shared
            .read
            .fetch_add((buffer.len() - before) as u64, Ordering::Relaxed);
        let (give, given) = oneshot::channel();
        if events
            .send(Event::Batch {
                link,
                lane,
                bytes: buffer,
                credit: Credit(give),
            })
            .await
            .is_err()
        {
            return;
        }
        match given.await {
            Ok(rest) if is_open => buffer = rest,
            _ => return,
        }
        if buffer.is_empty() {
            buffer = BytesMut::new();
        }
    }
}

/// Takes what else has arrived; false if the stream ended.
fn drain(stream: &mut RecvStream, buffer: &mut BytesMut) -> bool {
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    while buffer.len() < BATCH {
        match stream.read_many_chunks(&mut chunks).now_or_never() {
            None => return true,
            Some(Ok(Some(count))) => {
                for chunk in &mut chunks[..count] {
                    buffer.extend_from_slice(&std::mem::take(chunk));
                }
            }
            Some(_) => return false,
        }
    }
    true
}

/// Writes what the loop queues.
async fn write(
    connection: Connection,
    link: LinkId,
    lane: Lane,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
) {
    let Ok(mut stream) = connection.open_uni().await else {
        return;
    };
    if lane == Lane::Control && stream.set_priority(CONTROL_PRIORITY).is_err() {
        return;
    }
    if stream.write_all(&[index(lane) as u8]).await.is_err() {
        return;
    }
    let queue = &shared.queues[index(lane)];
    let mut chunks = Vec::new();
    loop {
        let size = take(queue, &mut chunks);
        if chunks.is_empty() {
            if shared.is_ending.load(Ordering::SeqCst) {
                if stream.finish().is_ok() {
                    // Ends when the other side has it all, or the connection breaks.
                    let _ = stream.stopped().await;
                }
                return;
            }
            // A permit left by a push since then makes this return at once.
            queue.wake.notified().await;
            continue;
        }
        if write_all(&mut stream, &mut chunks).await.is_err() {
            return;
        }
        let before = queue.waiting.fetch_sub(size, Ordering::SeqCst);
        if before - size <= LOW && queue.is_watched.swap(false, Ordering::SeqCst) {
            // The loop may be gone, and the link with it.
            let _ = events.send(Event::Low(link)).await;
        }
    }
}

async fn write_all(
    stream: &mut SendStream,
    chunks: &mut Vec<Bytes>,
) -> Result<(), iroh::endpoint::WriteError> {
    stream.write_all_chunks(chunks).await?;
    chunks.clear();
    // A burst must not leave its list behind on a link at rest.
    chunks.shrink_to(CHUNKS);
    Ok(())
}

/// Moves the next bytes to write out of the queue; returns how many.
fn take(queue: &Queue, chunks: &mut Vec<Bytes>) -> usize {
    let mut waiting = queue
        .chunks
        .lock()
        .expect("nothing panics while it holds this lock");
    let mut size = 0;
    while size < WRITE
        && let Some(chunk) = waiting.pop_front()
    {
        size += chunk.len();
        chunks.push(chunk);
    }
    if waiting.is_empty() {
        waiting.shrink_to(CHUNKS);
    }
    size
}
