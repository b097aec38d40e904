//! What a small message costs on a line of three peers: origin, forwarder and receiver together,
//! codec and acknowledgements included, sockets excluded.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/swarm/mod.rs"]
mod swarm;

use std::{hint::black_box, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringweave_ids::{Peer, Random, Time};
use ringweave_node::{
    Command, Destination, Event, Input, Node, Output, Settings, Ticket, Timer,
    wire::{Decoder, Encoder},
};
use ringweave_overlay::Profile;
use swarm::{Desk, Shape, Tree, id};

/// Messages of one round: a batch that a socket would carry at once.
const BATCH: u64 = 256;

struct Line {
    now: Time,
    random: Random,
    nodes: Vec<Node<Tree>>,
    timers: Vec<(Time, usize, Timer<Tree>)>,
    /// Encoders, decoders and bytes under way, by from * 3 + to.
    links: Vec<(Encoder<Tree>, Decoder<Tree>, BytesMut)>,
    out: Vec<Output<Tree>>,
    delivered: u64,
    settled: u64,
    tickets: u64,
}

impl Line {
    fn new() -> Self {
        let shape = Shape {
            parents: vec![None, Some(0), Some(1)],
            holders: (0..3).map(Some).collect(),
        };
        let node = |me| {
            let settings = Settings {
                config: Arc::new(shape.clone()),
                me: Peer(me),
                profile: Profile {
                    label: String::new(),
                    incarnation: 1,
                    is_private: false,
                    home: None,
                },
                name: None,
            };
            Node::new(settings, &Desk { me, count: 3 })
        };
        let mut line = Self {
            now: Time::ZERO,
            random: Random::new(1),
            nodes: (0..3).map(node).collect(),
            timers: Vec::new(),
            links: (0..9).map(|_| Default::default()).collect(),
            out: Vec::new(),
            delivered: 0,
            settled: 0,
            tickets: 0,
        };
        (0..3).for_each(|me| line.input(me, Input::Join(Vec::new())));
        for _ in 0..100 {
            line.step();
        }
        line
    }

    fn input(&mut self, me: usize, input: Input<Tree>) {
        let desk = Desk {
            me: me as u32,
            count: 3,
        };
        let mut out = std::mem::take(&mut self.out);
        self.nodes[me].handle(self.now, &mut self.random, &desk, input, &mut out);
        let mut drained = (0, 0);
        for output in out.drain(..) {
            match output {
                Output::Send(peer, _, frame) => {
                    let (encoder, _, bytes) = &mut self.links[me * 3 + peer.0 as usize];
                    encoder.encode(&frame, &desk, bytes).unwrap();
                }
                Output::Timer(span, timer) => self.timers.push((self.now + span, me, timer)),
                Output::Event(Event::Message(message)) => {
                    drained = (drained.0 + 1, drained.1 + message.payload.len());
                    self.delivered += 1;
                    black_box(message);
                }
                Output::Event(Event::Sent(_, outcomes)) => {
                    assert!(outcomes[0].result.is_ok());
                    self.settled += 1;
                }
                _ => {}
            }
        }
        self.out = out;
        if drained.0 > 0 {
            self.input(me, Input::Drained(drained.0, drained.1));
        }
    }

    /// One round: 100 us pass, every link is read, timers fire.
    fn step(&mut self) {
        self.now = self.now + Duration::from_micros(100);
        for link in 0..9 {
            let (from, to) = (link / 3, link % 3);
            let mut bytes = std::mem::take(&mut self.links[link].2);
            let mut decoder = std::mem::take(&mut self.links[link].1);
            let mut desk = Desk {
                me: to as u32,
                count: 3,
            };
            while let Some(frame) = decoder.decode(&mut bytes, &mut desk).unwrap() {
                self.input(to, Input::Received(Peer(from as u32), frame));
            }
            self.links[link].1 = decoder;
        }
        let now = self.now;
        for place in (0..self.timers.len()).rev() {
            if self.timers[place].0 <= now {
                let (_, me, timer) = self.timers.swap_remove(place);
                self.input(me, Input::Timer(timer));
            }
        }
    }

    /// Sends a batch and sees it through.
    fn round(&mut self, payload: &Bytes) {
        let goal = self.settled + BATCH;
        for _ in 0..BATCH {
            self.tickets += 1;
            let send = Command::Send(Destination::Peer(id(2)), payload.clone());
            self.input(0, Input::Command(Ticket(self.tickets), send));
        }
        while self.settled < goal {
            self.step();
        }
    }
}

fn line(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("line of three");
    group.throughput(Throughput::Elements(BATCH));
    for size in [16, 128] {
        let payload = Bytes::from(vec![7; size]);
        let mut line = Line::new();
        line.round(&payload);
        group.bench_function(format!("{size} B"), |bench| {
            bench.iter(|| line.round(&payload))
        });
    }
    group.finish();
}

criterion_group!(benches, line);
criterion_main!(benches);
