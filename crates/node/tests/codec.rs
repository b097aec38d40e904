//! The codec: what goes in comes out, and no bytes do harm.

#![allow(clippy::unwrap_used)]

mod swarm;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use ringweave_ids::{Key, Peer};
use ringweave_node::{
    Cast, Envelope, Flow, Frame, Known, Lacking, MAX_NAMED, MAX_PAYLOAD, MessageKind, Port,
    Receiver, Repair,
    wire::{Book, Contact, Decoder, Encoder, MAX_FRAME},
};
use ringweave_overlay::{Overlay, Target};
use swarm::{Desk, Tree, Word, id};

type Span = <Tree as Overlay>::Span;

const PEERS: u32 = 20;

fn desk() -> Desk {
    Desk {
        me: 0,
        count: PEERS,
    }
}

fn target() -> impl Strategy<Value = Target<u32>> {
    prop_oneof![
        (0..PEERS, any::<u32>()).prop_map(|(of, address)| Target::Peer {
            id: id(of),
            address
        }),
        any::<u32>().prop_map(Target::Holder),
        (any::<Option<u32>>(), any::<[u8; 32]>(), any::<u8>()).prop_map(|(scope, key, choice)| {
            Target::Key {
                scope,
                key: Key(key),
                choice,
            }
        }),
        any::<u32>().prop_map(Target::Prefix),
        proptest::strategy::Just(Target::All),
    ]
}

fn flow() -> impl Strategy<Value = Flow<u32>> {
    let kind = prop_oneof![
        proptest::strategy::Just(MessageKind::Unicast),
        proptest::strategy::Just(MessageKind::Broadcast),
    ];
    (0..PEERS, any::<(u64, u32, u16, u64, u64)>(), target(), kind).prop_map(
        |(origin, (incarnation, source, port, life, first), target, kind)| Flow {
            origin: id(origin),
            incarnation,
            source,
            target,
            port: Port(port),
            kind,
            life,
            first,
        },
    )
}

fn cast() -> impl Strategy<Value = Cast<Tree>> {
    let receiver = (0..PEERS, any::<u32>(), any::<(u64, u64, u64)>()).prop_map(
        |(of, address, (sequence, life, first))| Receiver {
            id: id(of),
            address,
            sequence,
            life,
            first,
        },
    );
    prop_oneof![
        proptest::strategy::Just(()).prop_map(|()| Cast::One),
        proptest::collection::vec(receiver, 0..20).prop_map(Cast::Several),
        any::<(Option<u32>, bool)>().prop_map(Cast::Span),
        proptest::strategy::Just(()).prop_map(|()| Cast::Kept),
    ]
}

/// A frame of one of these flows.
fn frame(flows: Vec<Arc<Flow<u32>>>) -> impl Strategy<Value = Frame<Tree>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    let some = (
        0..flows.len(),
        any::<u64>(),
        any::<(u8, bool)>(),
        cast(),
        payload,
    );
    let envelope = some.prop_map(move |(flow, sequence, (hops, is_traced), cast, payload)| {
        Frame::Envelope(Envelope {
            flow: Arc::clone(&flows[flow]),
            sequence,
            hops,
            is_traced,
            cast,
            payload: payload.into(),
        })
    });
    let peers = proptest::collection::vec((0..PEERS).prop_map(Peer), 0..30);
    prop_oneof![
        4 => envelope,
        1 => peers.prop_map(|peers| Frame::Overlay(Word::Greet(peers))),
        1 => repair().prop_map(Frame::Repair),
    ]
}

/// A word about recent broadcasts.
fn repair() -> impl Strategy<Value = Repair<Span>> {
    let numbers = proptest::collection::vec(any::<(u64, u32)>(), 0..20);
    let known = (0..PEERS, any::<u64>(), numbers).prop_map(|(of, incarnation, numbers)| Known {
        origin: id(of),
        incarnation,
        numbers,
    });
    let lacking = |known: Vec<Known>| {
        let lacking = known.into_iter().map(|known| Lacking {
            origin: known.origin,
            incarnation: known.incarnation,
            numbers: known
                .numbers
                .into_iter()
                .map(|(number, _)| number)
                .collect(),
        });
        Repair::Ask(lacking.collect())
    };
    let known = proptest::collection::vec(known, 0..10);
    prop_oneof![
        (any::<Span>(), known.clone()).prop_map(|(span, known)| Repair::Offer { span, known }),
        known.prop_map(lacking),
    ]
}

fn frames() -> impl Strategy<Value = Vec<Frame<Tree>>> {
    let flows = proptest::collection::vec(flow().prop_map(Arc::new), 1..8);
    flows.prop_flat_map(|flows| proptest::collection::vec(frame(flows), 0..40))
}

fn written(frames: &[Frame<Tree>]) -> BytesMut {
    let (mut encoder, mut bytes) = (Encoder::new(), BytesMut::new());
    for frame in frames {
        encoder.encode(frame, &desk(), &mut bytes).unwrap();
    }
    bytes
}

fn read_all(mut bytes: BytesMut) -> Vec<Frame<Tree>> {
    let mut decoder = Decoder::<Tree>::new();
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = decoder.decode(&mut bytes, &mut desk()) {
        frames.push(frame);
    }
    frames
}

fn text(frames: &[Frame<Tree>]) -> Vec<String> {
    frames.iter().map(|frame| format!("{frame:?}")).collect()
}

proptest! {
    #[test]
    fn frames_and_back(frames in frames()) {
        prop_assert_eq!(text(&read_all(written(&frames))), text(&frames));
    }

    #[test]
    fn frames_come_through_in_any_pieces(frames in frames(), piece in 1_usize..50) {
        let bytes = written(&frames);
        let (mut decoder, mut desk) = (Decoder::<Tree>::new(), desk());
        let (mut input, mut read) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            while let Some(frame) = decoder.decode(&mut input, &mut desk).unwrap() {
                read.push(frame);
            }
        }
        prop_assert!(input.is_empty());
        prop_assert_eq!(text(&read), text(&frames));
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        read_all(BytesMut::from(&bytes[..]));
    }

    #[test]
    fn mutated_frames_do_no_harm(
        frames in frames(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = written(&frames);
        for (place, byte) in changes {
            if !bytes.is_empty() {
                let place = place % bytes.len();
                bytes[place] = byte;
            }
        }
        read_all(bytes);
    }

    #[test]
    fn a_truncated_stream_asks_for_more_or_errs(frames in frames(), cut in any::<usize>()) {
        let mut bytes = written(&frames);
        let cut = cut % (bytes.len() + 1);
        let is_whole = cut == bytes.len();
        bytes.truncate(cut);
        let read = read_all(bytes);
        prop_assert!(is_whole || read.len() < frames.len() || frames.is_empty());
        prop_assert_eq!(text(&read), text(&frames[..read.len()]));
    }
}

fn unicast(flow: &Arc<Flow<u32>>, sequence: u64, payload: &[u8]) -> Frame<Tree> {
    Frame::Envelope(Envelope {
        flow: Arc::clone(flow),
        sequence,
        hops: 2,
        is_traced: false,
        cast: Cast::One,
        payload: Bytes::copy_from_slice(payload),
    })
}

fn some_flow(number: u64) -> Arc<Flow<u32>> {
    Arc::new(Flow {
        origin: id(1),
        incarnation: number,
        source: 1,
        target: Target::Holder(2),
        port: Port::APP,
        kind: MessageKind::Unicast,
        life: 0,
        first: 1,
    })
}

#[test]
fn a_small_message_of_a_known_flow_has_four_bytes_of_header() {
    let (mut encoder, mut bytes) = (Encoder::new(), BytesMut::new());
    let flow = some_flow(1);
    encoder
        .encode(&unicast(&flow, 7, b"first"), &desk(), &mut bytes)
        .unwrap();
    let before = bytes.len();
    encoder
        .encode(&unicast(&flow, 8, b"payload"), &desk(), &mut bytes)
        .unwrap();
    assert_eq!(bytes.len() - before, 4 + b"payload".len());
}

#[test]
fn messages_of_a_flow_come_with_the_same_flow() {
    let flow = some_flow(1);
    let frames = (0..5)
        .map(|number| unicast(&flow, number, b"x"))
        .collect::<Vec<_>>();
    let read = read_all(written(&frames));
    let flows = read.iter().map(|frame| match frame {
        Frame::Envelope(envelope) => &envelope.flow,
        Frame::Overlay(_) | Frame::Repair(_) => panic!("no envelope"),
    });
    let flows = flows.collect::<Vec<_>>();
    assert!(flows.windows(2).all(|two| Arc::ptr_eq(two[0], two[1])));
}

#[test]
fn more_flows_than_slots_take_turns() {
    let flows = (0..600).map(some_flow).collect::<Vec<_>>();
    let twice = flows.iter().chain(&flows).chain(flows.iter().rev());
    let frames = twice
        .map(|flow| unicast(flow, flow.incarnation, b"x"))
        .collect::<Vec<_>>();
    assert_eq!(text(&read_all(written(&frames))), text(&frames));
}

#[test]
fn unknown_frames_are_skipped_and_counted() {
    let flow = some_flow(1);
    let mut bytes = BytesMut::from(&[3, 99, 1, 2, 2, 0xf0, 1][..]);
    bytes.extend_from_slice(&written(&[unicast(&flow, 1, b"x")]));
    let mut decoder = Decoder::<Tree>::new();
    assert!(decoder.decode(&mut bytes, &mut desk()).unwrap().is_some());
    assert_eq!(decoder.skipped(), 2);
}

#[test]
fn words_about_broadcasts_that_name_too_many_are_skipped() {
    let ask = |count| {
        Frame::Repair(Repair::Ask(vec![Lacking {
            origin: id(1),
            incarnation: 1,
            numbers: vec![7; count],
        }]))
    };
    let mut bytes = written(&[ask(MAX_NAMED + 1), ask(MAX_NAMED)]);
    // A variant that nobody knows yet.
    bytes.extend_from_slice(&[3, 3, 99, 0]);
    let mut decoder = Decoder::<Tree>::new();
    let frame = decoder.decode(&mut bytes, &mut desk()).unwrap().unwrap();
    assert!(matches!(frame, Frame::Repair(word) if word.named() == MAX_NAMED));
    assert!(decoder.decode(&mut bytes, &mut desk()).unwrap().is_none());
    assert_eq!(decoder.skipped(), 2);
}

#[test]
fn a_refused_contact_skips_its_frame_only() {
    struct Strict;
    impl Book for Strict {
        fn contact(&self, peer: Peer) -> Contact {
            Contact {
                id: id(peer.0),
                card: Bytes::new(),
            }
        }
        fn intern(&mut self, contact: Contact) -> Option<Peer> {
            (contact.id != id(3)).then_some(Peer(1))
        }
    }
    let greet = |peer| Frame::Overlay(Word::Greet(vec![Peer(peer)]));
    let mut bytes = written(&[greet(3), greet(1)]);
    let mut decoder = Decoder::<Tree>::new();
    let frame = decoder.decode(&mut bytes, &mut Strict).unwrap().unwrap();
    assert!(matches!(frame, Frame::Overlay(Word::Greet(peers)) if peers == [Peer(1)]));
    assert_eq!(decoder.skipped(), 1);
}

#[test]
fn lengths_beyond_their_caps_are_refused() {
    let flow = some_flow(1);
    let large = unicast(&flow, 1, &vec![0; MAX_PAYLOAD + 1]);
    assert!(
        Decoder::<Tree>::new()
            .decode(&mut written(&[large]), &mut desk())
            .is_err()
    );
    let huge = unicast(&flow, 1, &vec![0; MAX_FRAME]);
    let mut bytes = BytesMut::new();
    assert!(Encoder::new().encode(&huge, &desk(), &mut bytes).is_err());
    assert!(bytes.is_empty());
    let endless = [&[0xff; 9][..], &[0x80; 9], &[0]];
    for bytes in endless {
        let mut bytes = BytesMut::from(bytes);
        assert!(
            Decoder::<Tree>::new()
                .decode(&mut bytes, &mut desk())
                .is_err()
        );
    }
}

#[test]
fn frames_of_two_instances_share_a_stream() {
    let (book, mut bytes) = (desk(), BytesMut::new());
    let mut encoder = Encoder::<Tree>::new();
    let mut said = Vec::new();
    for instance in [0, 0, 7, 7, 300, 0] {
        encoder.turn_to(instance, &mut bytes);
        let before = bytes.len();
        let greet = Frame::Overlay(Word::Greet(vec![Peer(instance % PEERS)]));
        encoder.encode(&greet, &book, &mut bytes).unwrap();
        said.push((instance, bytes.len() - before));
    }
    let frames: usize = said.iter().map(|(_, len)| len).sum();
    assert_eq!(bytes.len() - frames, 3 + 4 + 3, "only a turn is said");
    let (mut decoder, mut book) = (Decoder::<Tree>::new(), desk());
    for (instance, _) in said {
        let frame = decoder.decode(&mut bytes, &mut book).unwrap();
        assert!(matches!(frame, Some(Frame::Overlay(_))));
        assert_eq!(decoder.instance(), instance);
    }
    assert!(bytes.is_empty() && decoder.skipped() == 0);
}
