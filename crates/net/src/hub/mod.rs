//! The event loop of one peer: everything the peer is lives in this one task.
//!
//! ```text
//! links, dials, acceptor ──Event──┐
//! handles ──────────────Request───┼──> Hub ──Input──> Node ──Output──> Hub ──chunks──> links
//! the clock ──────────────Alarm───┘
//! ```
//!
//! One wake handles everything that waits, and only then are the links' buffers handed to their
//! writers: many frames per write, one write per link. Nothing here blocks but the one `select!`.

mod alarms;
mod beats;
mod calls;
mod contacts;
mod dials;
mod evolve;
mod flow;
mod instances;
mod links;
mod lookup;
mod paths;
mod relays;
mod roam;
mod sweep;
mod tree;
mod watches;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use iroh::Endpoint;
use ringweave_ids::{Guid, Peer, Random, Time};
use ringweave_node::{Counters, Event as Told, Input, Message, Output, Saved};
use ringweave_overlay::{Host as _, Loss, Profile, any::Any};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::JoinSet,
    time::{Instant as Clock, sleep_until, timeout},
};

use self::{
    alarms::{Alarms, What},
    calls::Calls,
    dials::Rests,
    evolve::Evolution,
    flow::Held,
    instances::Later,
    links::Slot,
    sweep::Sweeps,
};
pub(crate) use self::{contacts::Contacts, instances::Instance, relays::Relays, watches::Seen};
use crate::{
    book::Book,
    event::{Event, Guest},
    gate::{Gate, Parting, remote},
    handle::{PeerEvent, Request},
    home::Home,
    inbox::Shelf,
    invite::Invite,
    lan::Lan,
    ledger::Ledger,
};

/// Events and requests taken at one wake before the links are served.
const BURST: usize = 64;
/// How long a leaving peer waits for its overlay to say goodbye.
const GOODBYE: Duration = Duration::from_millis(600);
/// How long it then waits until its last bytes have arrived.
const DRAIN: Duration = Duration::from_millis(500);
/// How long the endpoint may take to say that its connections are closed.
const CLOSING: Duration = Duration::from_millis(700);

/// What a hub is made of.
pub(crate) struct Parts {
    /// The first is the one that carries messages.
    pub(crate) instances: Vec<Instance>,
    pub(crate) book: Book,
    pub(crate) gate: Arc<Gate>,
    pub(crate) endpoint: Endpoint,
    pub(crate) origin: Instant,
    pub(crate) seed: u64,
    pub(crate) contacts: Contacts,
    pub(crate) events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) watchers: broadcast::Sender<PeerEvent>,
    pub(crate) placed: oneshot::Sender<Result<(), Ending>>,
    pub(crate) about: About,
    pub(crate) relays: Relays,
    /// Kept as long as the peer lives: its directory, its announcement on the local network.
    pub(crate) kept: (Option<Home>, Option<Lan>),
    /// Records of an earlier life.
    pub(crate) restored: Vec<Saved>,
}

/// Why a first join came to nothing.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// A peer of the network turned this one away.
    Parted(Parting),
    /// The overlay was refused a place.
    Refused(String),
}

/// What a peer tells of itself on request.
pub(crate) struct About {
    pub(crate) name: Option<String>,
    /// What it says of itself when it joins.
    pub(crate) profile: Profile,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) secret: Option<crate::network::Secret>,
}

/// The event loop of one peer.
pub(crate) struct Hub {
    instances: Vec<Instance>,
    /// The number of the one that carries the application's messages.
    voice: u32,
    /// Counters of those that ended.
    past: Counters,
    evolution: Evolution,
    book: Book,
    gate: Arc<Gate>,
    endpoint: Endpoint,
    origin: Instant,
    now: Time,
    random: Random,
    out: Vec<Output<Any>>,
    later: VecDeque<Later>,
    slots: Vec<Slot>,
    rests: Rests,
    sweeps: Sweeps,
    /// Links with something to hand to their writers.
    dirty: Vec<Peer>,
    /// Full message queues that the current batch or request fed.
    full: Vec<Peer>,
    held: Vec<Held>,
    /// While set, requests wait: they fed this link's full queue.
    choked: Option<(Peer, Time)>,
    alarms: Alarms,
    next_tick: Time,
    stamps: u64,
    dials: usize,
    dial_queue: VecDeque<Peer>,
    tasks: JoinSet<()>,
    contacts: Contacts,
    relays: Relays,
    calls: Calls,
    shelf: Arc<Shelf>,
    watches: watches::Watches,
    /// Records of an earlier life, for the node to take back.
    restored: Vec<Saved>,
    /// Records that are to be written to the disk.
    ledger: Ledger,
    /// Messages for the shelf, since the last flush.
    arrived: Vec<(u32, Message)>,
    traffic: flow::Traffic,
    events: mpsc::Receiver<Event>,
    report: mpsc::Sender<Event>,
    requests: mpsc::Receiver<Request>,
    watchers: broadcast::Sender<PeerEvent>,
    placed: Option<oneshot::Sender<Result<(), Ending>>>,
    about: About,
    kept: (Option<Home>, Option<Lan>),
    leaving: Option<Leaving>,
}

struct Leaving {
    until: Time,
    has_left: bool,
    told: Vec<oneshot::Sender<()>>,
}

impl Hub {
    pub(crate) fn new(parts: Parts) -> Self {
        let (report, events) = parts.events;
        Self {
            voice: parts.instances[0].number,
            instances: parts.instances,
            past: Counters::default(),
            evolution: Evolution::of(&parts.book.about().settled),
            book: parts.book,
            gate: parts.gate,
            endpoint: parts.endpoint,
            origin: parts.origin,
            now: Time::ZERO,
            random: Random::new(parts.seed),
            out: Vec::new(),
            later: VecDeque::new(),
            slots: Vec::new(),
            rests: Rests::default(),
            sweeps: Sweeps::default(),
            dirty: Vec::new(),
            full: Vec::new(),
            held: Vec::new(),
            choked: None,
            alarms: Alarms::new(),
            next_tick: Time::ZERO,
            stamps: 0,
            dials: 0,
            dial_queue: VecDeque::new(),
            tasks: JoinSet::new(),
            contacts: parts.contacts,
            relays: parts.relays,
            calls: Calls::default(),
            shelf: Shelf::new(report.clone()),
            watches: watches::Watches::default(),
            restored: parts.restored,
            ledger: Ledger::default(),
            arrived: Vec::new(),
            traffic: flow::Traffic::default(),
            events,
            report,
            requests: parts.requests,
            watchers: parts.watchers,
            placed: Some(parts.placed),
            about: parts.about,
            kept: parts.kept,
            leaving: None,
        }
    }

    /// Runs until the peer has left, or nobody holds a handle to it.
    pub(crate) async fn run(mut self) {
        let origin = Clock::from_std(self.origin);
        let sleep = sleep_until(origin);
        tokio::pin!(sleep);
        let mut events = Vec::with_capacity(BURST);
        self.now = self.clock();
        self.next_tick = self.now;
        self.start_relays();
        let records = std::mem::take(&mut self.restored);
        if !records.is_empty() {
            self.step(self.voice, Input::Restore(records));
        }
        self.enter();
        self.flush();
        loop {
            let due = self
                .alarms
                .next()
                .map_or(self.next_tick, |alarm| alarm.min(self.next_tick));
            let due = origin + Duration::from_micros(due.as_micros());
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            let mut request = None;
            let is_listening = self.is_listening();
            tokio::select! {
                biased;
                () = &mut sleep => {}
                _ = self.events.recv_many(&mut events, BURST) => {}
                got = self.requests.recv(), if is_listening => match got {
                    Some(got) => request = Some(got),
                    None => self.leave(None),
                },
            }
            self.now = self.clock();
            for event in events.drain(..) {
                self.on_event(event);
            }
            self.serve(request);
            self.ring();
            if self.now >= self.next_tick {
                self.tick();
            }
            if self.events.is_empty() {
                self.give_all(|| Input::Rest);
                self.settle();
            }
            self.flush();
            if self
                .leaving
                .as_ref()
                .is_some_and(|leaving| leaving.has_left || self.now >= leaving.until)
            {
                break;
            }
        }
        self.stop().await;
    }

    fn clock(&self) -> Time {
        Time::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Whether requests are taken now: back-pressure on those who send from here.
    fn is_listening(&self) -> bool {
        self.choked.is_none()
            && self.leaving.is_none()
            && !self.node().is_congested()
            && self.voice == self.book.about().settled.instance
            && self.calls.has_room()
    }

    fn serve(&mut self, first: Option<Request>) {
        let mut next = first;
        for _ in 0..BURST {
            if next.is_none() && self.is_listening() {
                next = self.requests.try_recv().ok();
            }
            let Some(request) = next.take() else { return };
            self.full.clear();
            self.on_request(request);
            if let Some(&peer) = self.full.first() {
                self.choke(peer);
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Batch {
                link,
                lane,
                bytes,
                credit,
            } => self.on_batch(link, lane, bytes, credit),
            Event::Low(link) => self.on_low(link),
            Event::Gone(link) => self.on_gone(link),
            Event::Moved => self.on_moved(),
            Event::Dialled {
                peer,
                stamp,
                result,
            } => self.on_dialled(peer, stamp, result),
            Event::Knocked(guest) => {
                let Guest {
                    connection,
                    hello,
                    send,
                    at,
                } = *guest;
                if let Some(at) = at {
                    self.on_reached(&remote(&connection), at);
                }
                self.on_knock(connection, hello, send);
            }
            Event::Found(id, addresses) => self.on_found(id, &addresses),
            Event::Taken => {
                for taken in self.shelf.taken() {
                    let drained = Input::Drained(taken.messages, taken.bytes);
                    self.step(taken.instance, drained);
                }
            }
            Event::Noted(link, note) => self.on_noted(link, note),
            Event::Rerouted(link) => self.on_rerouted(link),
            Event::Home { found, lost } => self.on_home(found, lost),
            Event::Hosting(host) => self.on_hosting(host),
        }
    }

    fn carry_out(&mut self, number: u32, output: Output<Any>) {
        match output {
            Output::Send(peer, lane, frame) => self.send(number, peer, lane, frame),
            Output::Open(peer) => self.open(number, peer),
            Output::Close(peer) => self.unpin(number, peer),
            Output::Timer(span, timer) => {
                self.alarms.set(self.now + span, What::Node(number, timer));
            }
            Output::Event(event) => self.tell(number, event),
        }
    }

    fn tell(&mut self, number: u32, event: Told<Guid>) {
        match event {
            Told::Message(message) => self.arrived.push((number, message)),
            Told::Kept(key) if number == self.voice => self.ledger.note(key),
            Told::Kept(_) => {}
            Told::Watched(ticket, told) => self.on_watched(ticket, told),
            Told::Changed => {}
            Told::Fault(kind) => tracing::debug!(kind, "nonsense from the network"),
            Told::Left => self.on_left(number),
            // Where another overlay than the one that carries messages has its place is its own affair.
            Told::Placed(_) | Told::Displaced | Told::Refused(_) if number != self.voice => {
                tracing::debug!(number, ?event, "in the other overlay");
                self.next_tick = self.now;
            }
            Told::Placed(guid) => {
                self.contacts.on_placed(&guid, self.placed.take());
                self.watch(PeerEvent::Placed { guid });
            }
            Told::Displaced => {
                self.contacts.is_placed = false;
                self.contacts.next_try = self.now + contacts::PATIENCE;
                self.watch(PeerEvent::Displaced);
            }
            Told::Refused(why) => {
                if let Some(placed) = self.placed.take() {
                    // Whoever started this peer may have given up on it.
                    let _ = placed.send(Err(Ending::Refused(why.clone())));
                }
                self.watch(PeerEvent::Refused { why });
            }
            answer => self.on_answer(answer),
        }
    }

    fn watch(&self, event: PeerEvent) {
        tracing::debug!(me = ?self.book.id(Book::ME), ?event);
        // Nobody need be watching.
        let _ = self.watchers.send(event);
    }

    /// Starts to leave; the loop ends when the overlay has said goodbye, or soon after.
    fn leave(&mut self, told: Option<oneshot::Sender<()>>) {
        if let Some(leaving) = &mut self.leaving {
            leaving.told.extend(told);
            return;
        }
        let told = told.into_iter().collect();
        self.leaving = Some(Leaving {
            until: self.now + GOODBYE,
            has_left: false,
            told,
        });
        self.give_all(|| Input::Leave);
        self.settle();
    }

    /// An overlay has said goodbye; when all have, so has this peer.
    fn on_left(&mut self, number: u32) {
        let instances = &mut self.instances;
        for instance in instances.iter_mut().filter(|it| it.number == number) {
            instance.has_left = true;
        }
        if let Some(leaving) = &mut self.leaving {
            leaving.has_left = instances.iter().all(|it| it.has_left);
        }
    }

    /// Ends everything in order: last bytes out, connections closed, memory written.
    /// Starts to write the records that changed, if it is time.
    fn write_records(&mut self, is_last: bool) {
        let now = self.now;
        let keys = self.ledger.due(now, is_last);
        if keys.is_empty() {
            return;
        }
        let changes = keys
            .into_iter()
            .map(|key| (key, self.node().saved(&key, now)));
        let changes = changes.collect();
        self.ledger.write(self.contacts.store(), changes);
    }

    async fn stop(mut self) {
        let links: Vec<_> = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.link.take())
            .collect();
        for link in &links {
            link.shared.finish();
        }
        let drained =
            futures_util::future::join_all(links.into_iter().map(|mut link| async move {
                link.drain(DRAIN).await;
                Parting::Leaving.close(&link.connection);
            }));
        drained.await;
        self.contacts.save(self.now, true);
        self.write_records(true);
        self.relays.stop().await;
        if timeout(CLOSING, self.endpoint.close()).await.is_err() {
            tracing::debug!("the endpoint took too long to close");
        }
        self.contacts.written().await;
        self.ledger.wait().await;
        self.shelf.put(&mut self.arrived);
        self.shelf.close();
        self.watch(PeerEvent::Left);
        // Whoever is told may start the peer again at once, in the same directory.
        drop((self.contacts, self.kept));
        for told in self.leaving.map(|leaving| leaving.told).unwrap_or_default() {
            // The one who asked may have gone.
            let _ = told.send(());
        }
    }

    fn invite(&self) -> Invite {
        let network = self.book.about().clone();
        Invite {
            network,
            secret: self.about.secret,
            contacts: self.invited(),
        }
    }

    fn down(&mut self, peer: Peer, loss: Loss) {
        let why = match loss {
            Loss::Closed => "closed",
            Loss::Silent => "silent",
            Loss::Unreachable => "unreachable",
            Loss::Refused => "refused",
        };
        self.watch(PeerEvent::Down {
            peer: self.book.id(peer),
            why: why.into(),
        });
        self.later.push_back(Later::Down(peer, loss));
    }
}

/// Requests and answers under way, by number.
pub(crate) type Numbered<T> = HashMap<u64, T>;
