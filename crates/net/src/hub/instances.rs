//! Instances: the overlays that this peer takes part in, each with a router of its own.
//!
//! There is one, but for the time in which the network moves to another topology: then there are two, over
//! the same connections. Which frame belongs to which is said on the streams
//! ([`Encoder::turn_to`](ringweave_node::wire::Encoder::turn_to)).

use std::sync::Arc;

use ringweave_ids::Peer;
use ringweave_node::{Input, Node};
use ringweave_overlay::{Loss, Profile, Topology, any, any::Any, polyring};

use super::Hub;
use crate::{
    book::Book,
    network::{Policy, Settled},
};

/// One overlay, and all of a peer that stands on it.
pub(crate) struct Instance {
    /// How often the network had moved when this one began.
    pub(crate) number: u32,
    pub(super) topology: Topology,
    pub(crate) node: Node<Any>,
    /// Whether it has said goodbye.
    pub(super) has_left: bool,
}

impl Instance {
    /// A peer that has not joined.
    pub(crate) fn new(
        number: u32,
        topology: Topology,
        settled: &Settled,
        profile: Profile,
        name: Option<String>,
        book: &Book,
    ) -> Self {
        let settings = ringweave_node::Settings {
            config: Arc::new(shape(topology, settled)),
            me: Book::ME,
            profile,
            name,
        };
        Self {
            number,
            topology,
            node: Node::new(settings, book),
            has_left: false,
        }
    }
}

/// The shape that a network of this topology has by its configuration.
fn shape(topology: Topology, settled: &Settled) -> any::Config {
    let mut config = any::Config::from(topology);
    if let any::Config::Polyring(config) = &mut config {
        config.ring_size =
            u16::try_from(settled.ring_size).expect("a genuine network's rings are at most 1,024");
        config.cluster = u8::try_from(settled.cluster)
            .expect("a genuine network's clusters have at most 16 members");
        config.policy = match settled.policy {
            Policy::Balanced => polyring::Policy::Balanced,
            Policy::Labelled => polyring::Policy::Labelled,
            Policy::Nearest => polyring::Policy::Nearest,
        };
    }
    config
}

/// What came up while a node ran, for when it has run.
#[derive(Debug)]
pub(super) enum Later {
    /// A connection stands.
    Up(Peer),
    /// A connection is gone, or could not be made.
    Down(Peer, Loss),
    /// These may know the way in.
    Join(Vec<Peer>),
}

impl Hub {
    /// The node that carries the application's messages.
    pub(super) fn node(&self) -> &Node<Any> {
        let voice = self.instance(self.voice);
        let any = voice.or(self.instances.first());
        &any.expect("a peer has an instance as long as it lives")
            .node
    }

    pub(super) fn instance(&self, number: u32) -> Option<&Instance> {
        self.instances.iter().find(|it| it.number == number)
    }

    /// Gives one input to a node and carries out what it asks for, to the end.
    pub(super) fn step(&mut self, number: u32, input: Input<Any>) {
        self.give(number, input);
        self.settle();
    }

    /// Hands inputs that came up while no node ran to the nodes.
    pub(super) fn settle(&mut self) {
        while let Some(later) = self.later.pop_front() {
            match later {
                Later::Up(peer) => self.give_all(|| Input::Up(peer)),
                Later::Down(peer, loss) => self.give_all(|| Input::Down(peer, loss)),
                Later::Join(contacts) => self.give(self.voice, Input::Join(contacts)),
            }
        }
    }

    /// Gives an input to every node.
    pub(super) fn give_all(&mut self, input: impl Fn() -> Input<Any>) {
        let numbers: Vec<_> = self.instances.iter().map(|it| it.number).collect();
        for number in numbers {
            self.give(number, input());
        }
    }

    /// Gives an input to a node; one that is for none of them is dropped.
    fn give(&mut self, number: u32, input: Input<Any>) {
        let Some(instance) = self.instances.iter_mut().find(|it| it.number == number) else {
            // A neighbour that is a stage ahead, or behind: it, or this peer, soon hears of the other.
            tracing::debug!(number, "an input for an overlay that is not here");
            return;
        };
        let (now, random, out) = (self.now, &mut self.random, &mut self.out);
        instance.node.handle(now, random, &self.book, input, out);
        let mut out = std::mem::take(out);
        for output in out.drain(..) {
            self.carry_out(number, output);
        }
        self.out = out;
    }

    /// Begins an instance: it hears of all connections that stand, and has no place yet.
    pub(super) fn begin(&mut self, number: u32, topology: Topology) {
        let settled = &self.book.about().settled;
        let (profile, name) = (self.about.profile.clone(), self.about.name.clone());
        let instance = Instance::new(number, topology, settled, profile, name, &self.book);
        self.instances.push(instance);
        let linked: Vec<_> = self.linked().collect();
        for peer in linked {
            self.give(number, Input::Up(peer));
        }
    }

    /// Ends an instance without a word: the others end theirs as well.
    pub(super) fn end(&mut self, number: u32) {
        let Some(at) = self.instances.iter().position(|it| it.number == number) else {
            return;
        };
        self.past += *self.instances.remove(at).node.counters();
        for slot in &mut self.slots {
            slot.holders.retain(|holder| *holder != number);
            slot.waiting.retain(|(of, ..)| *of != number);
        }
    }
}
