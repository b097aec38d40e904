//! Any bytes as a stream of frames: the decoder must not panic, and what it decodes must encode.
#![no_main]

use std::collections::HashMap;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use ringweave_ids::{Peer, PeerId};
use ringweave_node::wire::{Book, Contact, Decoder, Encoder};
use ringweave_overlay::polyring::Polyring;

#[derive(Default)]
struct Names {
    peers: Vec<Contact>,
    handles: HashMap<PeerId, u32>,
}

impl Book for Names {
    fn contact(&self, peer: Peer) -> Contact {
        self.peers[peer.0 as usize].clone()
    }

    fn intern(&mut self, contact: Contact) -> Option<Peer> {
        let next = self.peers.len() as u32;
        let handle = *self.handles.entry(contact.id).or_insert(next);
        if handle == next {
            self.peers.push(contact);
        }
        Some(Peer(handle))
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut names = Names::default();
    let mut decoder = Decoder::<Polyring>::new();
    let mut encoder = Encoder::<Polyring>::new();
    let (mut input, mut output) = (BytesMut::from(bytes), BytesMut::new());
    while let Ok(Some(frame)) = decoder.decode(&mut input, &mut names) {
        encoder.encode(&frame, &names, &mut output).expect("what was decoded fits");
    }
});
