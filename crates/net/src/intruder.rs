//! Tests with a peer made by hand: it speaks QUIC and knows the greeting, and nothing else is right.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use iroh::{
    Endpoint, EndpointAddr, PublicKey, RelayMode, SecretKey, TransportAddr,
    endpoint::{Connection, PortmapperConfig, SendStream, presets},
};
use ringweave_ids::{Guid, Key, PeerId, Random};
use ringweave_node::{
    Cast, Envelope, Flow, Frame, Lacking, MessageKind, Port, Receiver, Repair,
    wire::{Encoder, MAX_CONTACTS},
};
use ringweave_overlay::{
    Target,
    any::{self, Any},
    polyring::Message,
};
use tokio::time::timeout;

use crate::{
    Entrance, Handle, Invite, Parting, PeerEvent, PeerRef, Settings, Shape, StartError, Topology,
    book::Book,
    card::Card,
    gate::{ALPN, Gate, Hello, Side, Turned},
    network::{Network, Secret},
    note::{self, Note},
    start,
};

/// Longest wait for anything here: far more than it takes on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A peer made by hand.
struct Intruder {
    endpoint: Endpoint,
    key: SecretKey,
}

impl Intruder {
    async fn new() -> Self {
        let key = SecretKey::generate();
        let endpoint = Endpoint::builder(presets::Minimal)
            .secret_key(key.clone())
            .alpns(vec![ALPN.to_vec()])
            .relay_mode(RelayMode::Disabled)
            .portmapper_config(PortmapperConfig::Disabled)
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0")
            .unwrap()
            .bind()
            .await
            .unwrap();
        Self { endpoint, key }
    }

    fn id(&self) -> PeerId {
        PeerId::from_bytes(*self.key.public().as_bytes())
    }

    fn gate(&self, network: &Network, secret: Option<Secret>) -> Gate {
        let card = Card {
            sequence: 1,
            addresses: self.endpoint.bound_sockets(),
            relay: None,
        };
        Gate::new(self.id(), network.clone(), secret, 1, card.sign(&self.key))
    }

    async fn dial(&self, to: PeerId, at: SocketAddr) -> Connection {
        let key = PublicKey::from_bytes(to.as_bytes()).unwrap();
        let address = EndpointAddr::from_parts(key, [TransportAddr::Ip(at)]);
        timeout(SOON, self.endpoint.connect(address, ALPN))
            .await
            .unwrap()
            .unwrap()
    }

    /// A connection to a live peer, as a member of its network, and what that peer says of itself.
    async fn greet(&self, invite: &Invite) -> (Connection, Hello) {
        let contact = &invite.contacts[0];
        let connection = self.dial(contact.id, contact.addresses[0]).await;
        let gate = self.gate(&invite.network, invite.secret);
        let hello = gate.greet(&connection).await.unwrap();
        (connection, hello)
    }

    /// The same, with streams for control and messages.
    async fn enter(&self, invite: &Invite) -> (Connection, SendStream, SendStream) {
        let (connection, _) = self.greet(invite).await;
        let (control, messages) = lanes(&connection).await;
        (connection, control, messages)
    }
}

async fn lanes(connection: &Connection) -> (SendStream, SendStream) {
    let mut streams = Vec::new();
    for kind in [0, 1] {
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&[kind]).await.unwrap();
        streams.push(stream);
    }
    let messages = streams.pop().unwrap();
    (streams.pop().unwrap(), messages)
}

async fn founder(shape: Shape) -> (Handle, Invite) {
    let founder = start(Settings {
        shape,
        ..Settings::default()
    })
    .await
    .unwrap();
    let invite = founder.invite().await.unwrap();
    (founder, invite)
}

async fn refused(intruder: &Intruder, invite: &Invite, gate: &Gate) -> Parting {
    let contact = &invite.contacts[0];
    let connection = intruder.dial(contact.id, contact.addresses[0]).await;
    match timeout(SOON, gate.greet(&connection)).await.unwrap() {
        Err(Turned::Down(parting)) => parting,
        other => panic!("not turned down: {:?}", other.map(|_| "let in")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_the_secret_is_refused_and_told_so() {
    let (_founder, invite) = founder(Shape {
        closed: Some(true),
        ..Shape::default()
    })
    .await;
    let intruder = Intruder::new().await;
    for secret in [None, Some(Secret::generate())] {
        let gate = intruder.gate(&invite.network, secret);
        assert_eq!(refused(&intruder, &invite, &gate).await, Parting::Admission);
    }
    intruder.enter(&invite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_network_or_configuration_is_refused_and_told_so() {
    let (_founder, invite) = founder(Shape::default()).await;
    let intruder = Intruder::new().await;
    let other = Network::found(&SecretKey::generate(), &Shape::default(), None).unwrap();
    let gate = intruder.gate(&other, None);
    assert_eq!(refused(&intruder, &invite, &gate).await, Parting::Network);
    let mut altered = invite.network.clone();
    altered.settled.ring_size = 7;
    let gate = intruder.gate(&altered, None);
    assert_eq!(
        refused(&intruder, &invite, &gate).await,
        Parting::Configuration
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edition_that_the_network_did_not_sign_is_refused_in_greetings_and_in_notes() {
    let (founder, invite) = founder(Shape::default()).await;
    let intruder = Intruder::new().await;
    let mut forged = invite.network.clone();
    forged.settled.version += 1;
    forged.settled.topology = Topology::Star;
    let gate = intruder.gate(&forged, None);
    assert_eq!(refused(&intruder, &invite, &gate).await, Parting::Nonsense);
    let (connection, _control, _messages) = intruder.enter(&invite).await;
    let forged = Note::Network(Box::new(forged));
    note::send(connection.clone(), forged).await;
    let mut status = founder.status().await.unwrap();
    for _ in 0..200 {
        if status.counters.faults > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        status = founder.status().await.unwrap();
    }
    assert!(status.counters.faults > 0, "a forged note is nonsense");
    assert_eq!((status.topology, status.evolution), ("polyring", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_that_is_turned_away_says_why() {
    let (_founder, invite) = founder(Shape::default()).await;
    let (_other, elsewhere) = founder(Shape::default()).await;
    let misled = Invite {
        contacts: elsewhere.contacts,
        ..invite
    };
    let entrance = Entrance::Join(Box::new(misled));
    let error = start(Settings {
        entrance,
        ..Settings::default()
    })
    .await
    .unwrap_err();
    assert!(
        matches!(error, StartError::Refused(Parting::Network)),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused_and_told_so() {
    let (_founder, invite) = founder(Shape::default()).await;
    let intruder = Intruder::new().await;
    let connection = intruder
        .dial(invite.contacts[0].id, invite.contacts[0].addresses[0])
        .await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&[99, 0, 0]).await.unwrap();
    let reason = timeout(SOON, connection.closed()).await.unwrap();
    assert_eq!(Parting::of(&reason), Some(Parting::Version));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_worth_nothing_on_another_connection_or_from_another_side() {
    let key = SecretKey::generate();
    let secret = Secret::generate();
    let network = Network::found(&key, &Shape::default(), Some(&secret)).unwrap();
    let (one, two) = (Intruder::new().await, Intruder::new().await);
    let at = two.endpoint.bound_sockets()[0];
    let mut proofs = Vec::new();
    for _ in 0..2 {
        let accepted = async { two.endpoint.accept().await.unwrap().await.unwrap() };
        let (dialled, accepted) = tokio::join!(one.dial(two.id(), at), accepted);
        let mine = one
            .gate(&network, Some(secret))
            .prove(&dialled, Side::Dialler);
        let theirs = two
            .gate(&network, Some(secret))
            .prove(&accepted, Side::Acceptor);
        proofs.extend([mine.unwrap(), theirs.unwrap()]);
    }
    for (place, proof) in proofs.iter().enumerate() {
        assert!(!proofs[..place].contains(proof), "proof {place} came twice");
    }
}

/// Throws a million frames at a live peer, which keeps serving. Each connection brings envelopes
/// that decode and make no sense, to the last one of which the router listens, then frames that do
/// not decode: the peer closes the connection at the first of those, and the next one follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_million_frames_of_nonsense_leave_a_peer_serving() {
    let (founder, invite) = founder(Shape::default()).await;
    let entrance = Entrance::Join(Box::new(invite.clone()));
    let member = start(Settings {
        entrance,
        ..Settings::default()
    })
    .await
    .unwrap();
    // Some of it looks like messages for the application, and would fill its inbox.
    let mut inbox = founder.listen().await.unwrap();
    tokio::spawn(async move { while inbox.recv().await.is_some() {} });
    let mut random = Random::new(20_261_121);
    let intruder = Intruder::new().await;
    for round in 0..250 {
        let (connection, mut control, mut messages) = intruder.enter(&invite).await;
        let mut bundle = senseless(&mut random, 3_500);
        bundle.extend(undecodable(&mut random, 500));
        let lane = if round % 2 == 0 {
            &mut control
        } else {
            &mut messages
        };
        // The peer closes the connection in the midst of it.
        let _ = timeout(SOON, lane.write_all(&bundle)).await.unwrap();
        let reason = timeout(SOON, connection.closed()).await.unwrap();
        assert_eq!(
            Parting::of(&reason),
            Some(Parting::Nonsense),
            "round {round}: {reason}"
        );
    }
    let hello = Bytes::from_static(b"still there?");
    let delivery = member.send(PeerRef::Id(founder.id()), hello).await.unwrap();
    assert_eq!(delivery.peer, founder.id());
    let faults = founder.status().await.unwrap().counters.faults;
    assert!(faults >= 250, "{faults} faults");
}

/// A peer that names strangers without end fills the book of another, which sweeps it and lets
/// members in as before.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_are_only_named_do_not_keep_members_out() {
    let (founder, invite) = founder(Shape::default()).await;
    let intruder = Intruder::new().await;
    let (_connection, mut control, _messages) = intruder.enter(&invite).await;
    let mut random = Random::new(20_261_125);
    for _ in 0..8 {
        let frame = strangers(&mut random, MAX_CONTACTS);
        timeout(SOON, control.write_all(&frame))
            .await
            .unwrap()
            .unwrap();
    }
    // What the book refuses is counted.
    timeout(SOON, async {
        while founder.status().await.unwrap().counters.faults == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let entrance = Entrance::Join(Box::new(invite));
    let member = start(Settings {
        entrance,
        ..Settings::default()
    });
    let member = timeout(SOON, member).await.unwrap().unwrap();
    let hello = Bytes::from_static(b"in");
    let delivery = member.send(PeerRef::Id(founder.id()), hello).await.unwrap();
    assert_eq!(delivery.peer, founder.id());
}

/// A neighbour asks for far more than it reads: what waits for it is bounded, what is beyond is dropped
/// and counted, and others are served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_that_does_not_read_costs_a_bounded_queue() {
    const KEPT: u64 = 32;
    const SIZE: usize = 48 * 1024;
    let (founder, invite) = founder(Shape::default()).await;
    for _ in 0..KEPT {
        let spread = founder.broadcast(None, vec![7; SIZE].into());
        timeout(SOON, spread).await.unwrap().unwrap();
    }
    let mut inbox = founder.listen().await.unwrap();
    let intruder = Intruder::new().await;
    let (connection, hello) = intruder.greet(&invite).await;
    let (mut control, _messages) = lanes(&connection).await;
    let lacking = vec![Lacking {
        origin: founder.id(),
        incarnation: hello.incarnation,
        numbers: (0..=KEPT).collect(),
    }];
    let frame = encoded(&Frame::Repair(Repair::Ask(lacking)), &stranger());
    let dropped = async {
        while founder.status().await.unwrap().counters.dropped == 0 {
            control.write_all(&frame).await.unwrap();
        }
    };
    timeout(SOON, dropped).await.unwrap();
    let entrance = Entrance::Join(Box::new(invite));
    let member = start(Settings {
        entrance,
        ..Settings::default()
    });
    let member = timeout(SOON, member).await.unwrap().unwrap();
    let send = member.send(PeerRef::Id(founder.id()), "in between".into());
    timeout(SOON, send).await.unwrap().unwrap();
    let heard = timeout(SOON, inbox.recv()).await.unwrap().unwrap();
    assert_eq!(heard.from, member.id());
}

/// A frame of upkeep that names so many random peers.
fn strangers(random: &mut Random, count: usize) -> BytesMut {
    let mut book = stranger();
    let stranger = |_| {
        let id = PeerId::from_bytes(std::array::from_fn(|_| random.bits() as u8));
        book.admit(id).unwrap()
    };
    let candidates = (0..count).map(stranger).collect();
    let frame = upkeep(Message::Choose {
        nonce: 0,
        candidates,
    });
    encoded(&frame, &book)
}

/// The book of a peer that knows nobody.
fn stranger() -> Book {
    let network = Network::found(&SecretKey::generate(), &Shape::default(), None).unwrap();
    Book::new(SecretKey::generate(), None, network, &Card::default())
}

/// Upkeep of the polyring that the network is.
fn upkeep(message: Message) -> Frame<Any> {
    Frame::Overlay(any::Message::Polyring(message))
}

/// The first frame of a lane.
fn encoded(frame: &Frame<Any>, book: &Book) -> BytesMut {
    let mut bytes = BytesMut::new();
    let mut encoder = Encoder::new();
    encoder.encode(frame, book, &mut bytes).unwrap();
    bytes
}

/// Envelopes that decode: of random origins, to random targets, for every service, with random insides.
fn senseless(random: &mut Random, count: usize) -> BytesMut {
    let mut encoder = Encoder::<Any>::new();
    let network = Network::found(&SecretKey::generate(), &Shape::default(), None).unwrap();
    let book = Book::new(SecretKey::generate(), None, network, &Card::default());
    let id = |random: &mut Random| PeerId::from_bytes(std::array::from_fn(|_| random.bits() as u8));
    let guid = |random: &mut Random| {
        let depth = random.below(4);
        Guid::of(
            &(0..depth)
                .map(|_| random.below(3) as u32)
                .collect::<Vec<_>>(),
        )
    };
    let ports = [
        Port::ROUTER,
        Port::DIRECTORY,
        Port::INSPECT,
        Port::APP,
        Port(999),
    ];
    let flows: Vec<_> = (0..64)
        .map(|_| {
            let target = match random.below(5) {
                0 => Target::Peer {
                    id: id(random),
                    address: guid(random),
                },
                1 => Target::Holder(guid(random)),
                2 => Target::Key {
                    scope: None,
                    key: Key([random.bits() as u8; 32]),
                    choice: 0,
                },
                3 => Target::Prefix(guid(random)),
                _ => Target::All,
            };
            let port = ports[random.below(ports.len())];
            Arc::new(Flow {
                origin: id(random),
                incarnation: random.bits(),
                source: guid(random),
                target,
                port,
                kind: MessageKind::Unicast,
                life: 0,
                first: 0,
            })
        })
        .collect();
    let mut bytes = BytesMut::new();
    for _ in 0..count {
        let receiver = |random: &mut Random| Receiver {
            id: id(random),
            address: guid(random),
            sequence: random.bits(),
            life: random.bits(),
            first: random.bits(),
        };
        let envelope = Envelope {
            flow: Arc::clone(&flows[random.below(flows.len())]),
            sequence: if random.below(2) == 0 {
                random.below(9) as u64
            } else {
                random.bits()
            },
            hops: random.bits() as u8,
            is_traced: random.below(4) == 0,
            cast: if random.below(8) == 0 {
                Cast::Several(vec![receiver(random)])
            } else {
                Cast::One
            },
            payload: (0..random.below(90)).map(|_| random.bits() as u8).collect(),
        };
        encoder
            .encode(&Frame::Envelope(envelope), &book, &mut bytes)
            .unwrap();
    }
    bytes
}

/// Frames of every tag with sound lengths and random insides; the last one cannot be sound.
fn undecodable(random: &mut Random, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 1..count {
        let len = 1 + random.below(60);
        bytes.push(len as u8);
        bytes.push(if random.below(2) == 0 {
            random.below(3) as u8
        } else {
            random.bits() as u8
        });
        bytes.extend((1..len).map(|_| random.bits() as u8));
    }
    // A length beyond every cap.
    bytes.extend([0xff; 4]);
    bytes
}

#[test]
fn a_peer_that_dies_without_a_word_is_down_in_time() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (mine, theirs) = (runtime(), runtime());
    let (founder, invite) = mine.block_on(founder(Shape::default()));
    let entrance = Entrance::Join(Box::new(invite));
    let victim = theirs
        .block_on(start(Settings {
            entrance,
            ..Settings::default()
        }))
        .unwrap();
    let mut events = founder.events();
    // Its threads stop where they are: no packet leaves it any more, as after a SIGKILL.
    theirs.shutdown_background();
    let since = std::time::Instant::now();
    let down = mine.block_on(async {
        timeout(SOON, async {
            loop {
                if let PeerEvent::Down { peer, why } = events.recv().await.unwrap() {
                    return (peer, why);
                }
            }
        })
        .await
        .unwrap()
    });
    let took = since.elapsed();
    assert_eq!(down, (victim.id(), "silent".into()));
    // 3.5 s, and what this process itself was late on a busy machine.
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(5)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_say_nothing_do_not_keep_members_out() {
    let (founder, invite) = founder(Shape::default()).await;
    let intruder = Arc::new(Intruder::new().await);
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(
            intruder
                .dial(invite.contacts[0].id, invite.contacts[0].addresses[0])
                .await,
        );
    }
    let entrance = Entrance::Join(Box::new(invite));
    let member = start(Settings {
        entrance,
        ..Settings::default()
    })
    .await
    .unwrap();
    member
        .send(PeerRef::Id(founder.id()), Bytes::from_static(b"in"))
        .await
        .unwrap();
    for connection in silent {
        timeout(SOON, connection.closed()).await.unwrap();
    }
}
