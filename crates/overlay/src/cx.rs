//! What a host lends a machine for one input.

use std::time::Duration;

use ringweave_ids::{Guid, Peer, PeerId, Random, Signature, Time};

use crate::{Event, Output, Overlay};

/// The services of a host that are not plain data: its book of peers and its keys.
pub trait Host {
    /// The PeerId behind a handle.
    fn id(&self, peer: Peer) -> PeerId;
    /// The handle of a peer, if the book has it.
    fn peer(&self, id: &PeerId) -> Option<Peer>;
    /// Signs as this peer.
    fn sign(&self, bytes: &[u8]) -> Signature;
    /// Signs as the network, if this peer holds the network's key (its founder does).
    fn sign_as_network(&self, bytes: &[u8]) -> Option<Signature>;
    /// Whether `by` made this signature over `bytes`.
    fn verify(&self, by: &PeerId, bytes: &[u8], signature: &Signature) -> bool;
    /// Whether the network's key made this signature over `bytes`.
    fn verify_network(&self, bytes: &[u8], signature: &Signature) -> bool;
    /// The network's public key.
    fn network(&self) -> &[u8; 32];
    /// Milliseconds since 1970 by the host's clock, to date what others keep. A simulation that begins
    /// in 1970 needs no other clock than its own.
    fn clock(&self, now: Time) -> u64 {
        now.as_micros() / 1_000
    }
}

/// What a peer says of itself when it joins; it may differ from peer to peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Where it belongs, from the outside in: `/eu/dk/copenhagen`. Empty: anywhere.
    pub label: String,
    /// Larger than in any earlier life of this peer: the host's start time in milliseconds.
    pub incarnation: u64,
    /// Whether others cannot dial it, as far as it knows.
    pub is_private: bool,
    /// Where it sat when it was last in this network: it would like to sit there again.
    pub home: Option<Guid>,
}

/// What the pure questions may look at.
#[derive(Clone, Copy)]
pub struct View<'a, O: Overlay> {
    /// The network's configuration.
    pub config: &'a O::Config,
    /// This peer's handle.
    pub me: Peer,
    /// This peer's own words about itself.
    pub profile: &'a Profile,
    /// The host's services.
    pub host: &'a dyn Host,
}

impl<O: Overlay> View<'_, O> {
    /// The PeerId behind a handle.
    pub fn id(&self, peer: Peer) -> PeerId {
        self.host.id(peer)
    }
}

/// What one input may use and produce.
pub struct Cx<'a, O: Overlay> {
    /// What the questions see, too.
    pub view: View<'a, O>,
    /// Now.
    pub now: Time,
    /// Chance.
    pub random: &'a mut Random,
    /// Where outputs go, in order.
    pub out: &'a mut Vec<Output<O>>,
}

impl<'a, O: Overlay> Cx<'a, O> {
    /// This peer's handle.
    pub fn me(&self) -> Peer {
        self.view.me
    }

    /// The network's configuration.
    pub fn config(&self) -> &'a O::Config {
        self.view.config
    }

    /// The host's services.
    pub fn host(&self) -> &'a dyn Host {
        self.view.host
    }

    /// The PeerId behind a handle.
    pub fn id(&self, peer: Peer) -> PeerId {
        self.view.host.id(peer)
    }

    /// Sends a message.
    pub fn send(&mut self, to: Peer, message: O::Message) {
        self.out.push(Output::Send(to, message));
    }

    /// Asks for a timer.
    pub fn after(&mut self, span: Duration, timer: O::Timer) {
        self.out.push(Output::Timer(span, timer));
    }

    /// Tells those above.
    pub fn tell(&mut self, event: Event<O::Address>) {
        self.out.push(Output::Event(event));
    }

    /// As many peers of a list as it may have; a longer one is nonsense.
    pub(crate) fn listed<'l>(&mut self, list: &'l [Peer], most: usize) -> &'l [Peer] {
        if list.len() > most {
            self.fault("a list that is too long");
        }
        &list[..list.len().min(most)]
    }

    /// Whether something has gone on for longer than any way is.
    pub(crate) fn is_astray(&mut self, hops: u8, most: u8) -> bool {
        if hops >= most {
            self.fault("a way without an end");
        }
        hops >= most
    }

    /// Counts nonsense from the network.
    pub fn fault(&mut self, kind: &'static str) {
        self.tell(Event::Fault(kind));
    }
}
