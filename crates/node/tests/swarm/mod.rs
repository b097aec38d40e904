//! Several nodes in one queue of delayed frames, each of which crosses the codec.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

mod tree;

use std::{
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use ringweave_ids::{Peer, PeerId, Random, Signature, Time};
use ringweave_node::{
    Command, Destination, Event, Failure, Frame, Input, Lane, Message, Node, Outcome, Output,
    Settings, Ticket,
    wire::{Book, Contact, Decoder, Encoder},
};
use ringweave_overlay::{Host, Profile};
pub use tree::{Shape, Tree, Word};

/// How long a frame takes from one peer to the next.
pub const LATENCY: Duration = Duration::from_millis(1);

/// The id of peer `index`: each begins with another character, but 6 and 7 share six of them.
pub fn id(index: u32) -> PeerId {
    let mut bytes = [index as u8 + 1; 32];
    bytes[0] = (index as u8) << 3;
    if index == 7 {
        bytes[..4].copy_from_slice(&id(6).as_bytes()[..4]);
    }
    PeerId::from_bytes(bytes)
}

/// The book and keys of everyone.
pub struct Desk {
    pub me: u32,
    pub count: u32,
}

fn seal(by: &PeerId, bytes: &[u8]) -> Signature {
    let mut key = [0; 32];
    key.copy_from_slice(by.as_bytes());
    let mut seal = [0; 64];
    seal[..32].copy_from_slice(blake3::keyed_hash(&key, bytes).as_bytes());
    Signature(seal)
}

impl Host for Desk {
    fn id(&self, peer: Peer) -> PeerId {
        id(peer.0)
    }

    fn peer(&self, wanted: &PeerId) -> Option<Peer> {
        (0..self.count)
            .find(|index| id(*index) == *wanted)
            .map(Peer)
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        seal(&id(self.me), bytes)
    }

    fn sign_as_network(&self, _: &[u8]) -> Option<Signature> {
        None
    }

    fn verify(&self, by: &PeerId, bytes: &[u8], signature: &Signature) -> bool {
        seal(by, bytes) == *signature
    }

    fn verify_network(&self, _: &[u8], _: &Signature) -> bool {
        false
    }

    fn network(&self) -> &[u8; 32] {
        &[7; 32]
    }
}

impl Book for Desk {
    fn contact(&self, peer: Peer) -> Contact {
        Contact {
            id: id(peer.0),
            card: Bytes::from_static(b"card"),
        }
    }

    fn intern(&mut self, contact: Contact) -> Option<Peer> {
        self.peer(&contact.id)
    }
}

type Link = (Encoder<Tree>, Decoder<Tree>);
type Filter = Box<dyn FnMut(u32, u32, &Frame<Tree>) -> bool>;

/// Peers in a tree.
pub struct Swarm {
    pub now: Time,
    pub nodes: Vec<Option<Node<Tree>>>,
    /// Whether a peer's application takes its messages at once.
    pub drains: Vec<bool>,
    pub events: Vec<(u32, Event<u32>)>,
    /// Every frame that went over a link: from, to, what.
    pub sent: Vec<(u32, u32, Frame<Tree>)>,
    /// Says of each frame whether it gets through.
    pub filter: Filter,
    /// Added to each frame's way, by its place in `sent`.
    pub detour: fn(usize) -> Duration,
    shape: Shape,
    lives: u64,
    links: BTreeMap<(u32, u32, bool), Link>,
    queue: BinaryHeap<std::cmp::Reverse<(Time, u64)>>,
    inputs: BTreeMap<u64, (u32, Input<Tree>)>,
    last: u64,
    random: Random,
    tickets: u64,
}

impl Swarm {
    /// Peers `0..parents.len()`, each at the address of its index, all joined.
    pub fn new(parents: &[Option<u32>]) -> Self {
        let mut swarm = Self::unjoined(parents);
        for index in 0..parents.len() as u32 {
            swarm.join(index);
        }
        swarm.run(Duration::from_secs(1));
        swarm.sent.clear();
        swarm.events.clear();
        swarm
    }

    pub fn unjoined(parents: &[Option<u32>]) -> Self {
        let holders = (0..parents.len() as u32).map(Some).collect();
        let mut swarm = Self {
            now: Time::ZERO,
            nodes: Vec::new(),
            drains: vec![true; parents.len()],
            events: Vec::new(),
            sent: Vec::new(),
            filter: Box::new(|_, _, _| true),
            detour: |_| Duration::ZERO,
            shape: Shape {
                parents: parents.to_vec(),
                holders,
            },
            lives: 0,
            links: BTreeMap::new(),
            queue: BinaryHeap::new(),
            inputs: BTreeMap::new(),
            last: 0,
            random: Random::new(1),
            tickets: 0,
        };
        for index in 0..parents.len() as u32 {
            let node = swarm.fresh(index);
            swarm.nodes.push(Some(node));
        }
        swarm
    }

    /// A line 0 - 1 - 2 - ...
    pub fn line(count: u32) -> Self {
        Self::new(
            &(0..count)
                .map(|index| index.checked_sub(1))
                .collect::<Vec<_>>(),
        )
    }

    fn fresh(&mut self, index: u32) -> Node<Tree> {
        self.lives += 1;
        let settings = Settings {
            config: Arc::new(self.shape.clone()),
            me: Peer(index),
            profile: Profile {
                label: String::new(),
                incarnation: self.lives,
                is_private: false,
                home: None,
            },
            name: Some(format!("peer-{index}")),
        };
        Node::new(settings, &self.desk(index))
    }

    fn desk(&self, me: u32) -> Desk {
        Desk {
            me,
            count: self.shape.holders.len() as u32,
        }
    }

    pub fn join(&mut self, index: u32) {
        self.input(index, Input::Join(Vec::new()));
    }

    /// A new life of a peer, joined.
    pub fn restart(&mut self, index: u32) {
        self.links
            .retain(|(from, to, _), _| *from != index && *to != index);
        self.nodes[index as usize] = Some(self.fresh(index));
        self.join(index);
    }

    /// Every peer learns who holds which address now.
    pub fn reshape(&mut self, holders: Vec<Option<u32>>) {
        self.shape.holders.clone_from(&holders);
        for index in 0..self.nodes.len() as u32 {
            self.tell(index, Word::Holders(holders.clone()));
        }
    }

    pub fn tell(&mut self, index: u32, word: Word) {
        self.input(index, Input::Received(Peer(index), Frame::Overlay(word)));
    }

    pub fn input(&mut self, index: u32, input: Input<Tree>) {
        let desk = self.desk(index);
        let Some(node) = self.nodes[index as usize].as_mut() else {
            return;
        };
        let mut out = Vec::new();
        node.handle(self.now, &mut self.random, &desk, input, &mut out);
        for output in out {
            self.carry(index, output);
        }
    }

    fn carry(&mut self, index: u32, output: Output<Tree>) {
        match output {
            Output::Send(peer, lane, frame) => {
                let passes = (self.filter)(index, peer.0, &frame);
                let count = self.sent.len();
                let frame = self.cross(index, peer.0, lane, &frame);
                self.sent.push((index, peer.0, frame.clone()));
                if passes {
                    let delay = LATENCY + (self.detour)(count);
                    self.after(delay, peer.0, Input::Received(Peer(index), frame));
                }
            }
            Output::Timer(span, timer) => self.after(span, index, Input::Timer(timer)),
            Output::Event(Event::Message(message)) => {
                let bytes = message.payload.len();
                self.events.push((index, Event::Message(message)));
                if self.drains[index as usize] {
                    self.input(index, Input::Drained(1, bytes));
                }
            }
            Output::Event(event) => self.events.push((index, event)),
            Output::Open(_) | Output::Close(_) => {}
        }
    }

    /// Through the codec, as between two hosts.
    fn cross(&mut self, from: u32, to: u32, lane: Lane, frame: &Frame<Tree>) -> Frame<Tree> {
        let mut desk = self.desk(from);
        let (encoder, decoder) = self
            .links
            .entry((from, to, lane == Lane::Control))
            .or_default();
        let mut bytes = BytesMut::new();
        encoder.encode(frame, &desk, &mut bytes).unwrap();
        let frame = decoder.decode(&mut bytes, &mut desk).unwrap().unwrap();
        assert!(bytes.is_empty());
        frame
    }

    fn after(&mut self, span: Duration, to: u32, input: Input<Tree>) {
        self.last += 1;
        self.inputs.insert(self.last, (to, input));
        self.queue
            .push(std::cmp::Reverse((self.now + span, self.last)));
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.run_while(end, |_| true);
        self.now = end;
    }

    fn run_while(&mut self, end: Time, is_waiting: impl Fn(&Self) -> bool) {
        while is_waiting(self)
            && let Some(std::cmp::Reverse((at, number))) = self.queue.peek().copied()
            && at <= end
        {
            self.queue.pop();
            self.now = at;
            let (to, input) = self.inputs.remove(&number).unwrap();
            self.input(to, input);
        }
    }

    pub fn command(&mut self, index: u32, command: Command<u32>) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(index, Input::Command(ticket, command));
        ticket
    }

    pub fn send(&mut self, from: u32, to: u32, payload: &[u8]) -> Ticket {
        let to = Destination::Peer(id(to));
        self.command(from, Command::Send(to, Bytes::copy_from_slice(payload)))
    }

    /// Runs until a command is answered, at most 10 s.
    pub fn answer(&mut self, ticket: Ticket) -> Event<u32> {
        let end = self.now + Duration::from_secs(10);
        self.run_while(end, |swarm| swarm.find(ticket).is_none());
        self.find(ticket)
            .expect("every command is answered")
            .clone()
    }

    pub fn find(&self, ticket: Ticket) -> Option<&Event<u32>> {
        let is_it = |event: &&Event<u32>| match event {
            Event::Sent(of, _)
            | Event::Spread(of, _)
            | Event::Traced(of, _)
            | Event::Resolved(of, _)
            | Event::Inspected(of, _)
            | Event::Put(of, _)
            | Event::Got(of, _)
            | Event::Watched(of, _)
            | Event::Owned(of, _) => *of == ticket,
            _ => false,
        };
        self.events.iter().map(|(_, event)| event).find(is_it)
    }

    /// What became of a send to one.
    pub fn outcome(&mut self, ticket: Ticket) -> Outcome<u32> {
        match self.answer(ticket) {
            Event::Sent(_, mut outcomes) => outcomes.remove(0),
            other => panic!("not the answer to a send: {other:?}"),
        }
    }

    pub fn result(&mut self, ticket: Ticket) -> Result<u8, Failure> {
        self.outcome(ticket).result
    }

    /// What a peer's application got.
    pub fn messages(&self, index: u32) -> Vec<&Message> {
        let events = self.events.iter().filter(|(at, _)| *at == index);
        let message = |event| match event {
            &(_, Event::Message(ref message)) => Some(message),
            _ => None,
        };
        events.filter_map(message).collect()
    }

    pub fn texts(&self, index: u32) -> Vec<String> {
        let messages = self.messages(index).into_iter();
        messages
            .map(|one| String::from_utf8_lossy(&one.payload).into_owned())
            .collect()
    }

    pub fn node(&self, index: u32) -> &Node<Tree> {
        self.nodes[index as usize].as_ref().unwrap()
    }
}
