//! A well-formed flow, then any bytes: envelopes with every kind of cast, sequence and payload.
#![no_main]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use ringweave_ids::{Guid, Peer, PeerId};
use ringweave_node::{
    Cast, Envelope, Flow, Frame, MessageKind, Port,
    wire::{Book, Contact, Decoder, Encoder},
};
use ringweave_overlay::{Target, polyring::Polyring};

struct Nobody;

impl Book for Nobody {
    fn contact(&self, _peer: Peer) -> Contact {
        Contact { id: PeerId::from_bytes([0; 32]), card: Bytes::new() }
    }

    fn intern(&mut self, _contact: Contact) -> Option<Peer> {
        None
    }
}

fuzz_target!(|bytes: &[u8]| {
    let flow = Arc::new(Flow {
        origin: PeerId::from_bytes([1; 32]),
        incarnation: 1,
        source: Guid::of(&[4, 2]),
        target: Target::Peer { id: PeerId::from_bytes([2; 32]), address: Guid::of(&[4, 17]) },
        port: Port::APP,
        kind: MessageKind::Unicast,
        life: 0,
        first: 0,
    });
    let payload = Bytes::from_static(b"first");
    let first = Envelope { flow, sequence: 1, hops: 0, is_traced: false, cast: Cast::One, payload };
    let mut input = BytesMut::new();
    Encoder::<Polyring>::new().encode(&Frame::Envelope(first), &Nobody, &mut input).expect("it fits");
    input.extend_from_slice(bytes);
    let mut decoder = Decoder::<Polyring>::new();
    while let Ok(Some(_)) = decoder.decode(&mut input, &mut Nobody) {}
});
