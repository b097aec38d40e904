//! Real peers on loopback: they find each other, talk, heal, and turn away whom they must.

#![allow(clippy::unwrap_used)]

use std::{future::Future, net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use ringweave_net::{
    CallError, Data, Entrance, Handle, Invite, PeerEvent, PeerRef, Received, Settings, Shape,
    StartError, start,
};
use tokio::time::{Instant, timeout};

/// Longest wait for anything here: far more than it takes on a busy machine.
const SOON: Duration = Duration::from_secs(20);

async fn founder(shape: Shape) -> Handle {
    start(Settings {
        shape,
        ..Settings::default()
    })
    .await
    .unwrap()
}

async fn joiner(invite: &Invite) -> Handle {
    start(joining(invite)).await.unwrap()
}

fn joining(invite: &Invite) -> Settings {
    Settings {
        entrance: Entrance::Join(Box::new(invite.clone())),
        ..Settings::default()
    }
}

fn at(path: &Path, entrance: Entrance) -> Settings {
    Settings {
        data: Data::Directory(path.into()),
        entrance,
        ..Settings::default()
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing happened in time"))
}

async fn message(inbox: &mut ringweave_net::Inbox) -> Received {
    soon("a message", inbox.recv())
        .await
        .expect("the peer runs")
}

/// Asks until the answer is what is waited for; every question takes a while by itself.
async fn until<F: Future<Output = bool>>(what: &str, ask: impl Fn() -> F) {
    let deadline = Instant::now() + SOON;
    while !ask().await {
        assert!(Instant::now() < deadline, "{what}: not in time");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_exchange_a_message() {
    let founder = founder(Shape::default()).await;
    let joiner = joiner(&founder.invite().await.unwrap()).await;
    let mut inbox = founder.listen().await.unwrap();
    let delivery = joiner
        .send(PeerRef::Id(founder.id()), Bytes::from_static(b"hello"))
        .await
        .unwrap();
    assert_eq!((delivery.peer, delivery.hops), (founder.id(), 1));
    let received = message(&mut inbox).await;
    assert_eq!(
        (received.from, &received.payload[..]),
        (joiner.id(), &b"hello"[..])
    );
    let mut inbox = joiner.listen().await.unwrap();
    founder
        .send(PeerRef::Id(joiner.id()), Bytes::from_static(b"well met"))
        .await
        .unwrap();
    assert_eq!(&message(&mut inbox).await.payload[..], b"well met");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_in_order_for_the_first_who_listens() {
    let founder = founder(Shape::default()).await;
    let joiner = joiner(&founder.invite().await.unwrap()).await;
    for number in 0..100_u32 {
        joiner
            .send(
                PeerRef::Id(founder.id()),
                Bytes::copy_from_slice(&number.to_le_bytes()),
            )
            .await
            .unwrap();
    }
    let mut inbox = founder.listen().await.unwrap();
    for number in 0..50_u32 {
        assert_eq!(message(&mut inbox).await.payload[..], number.to_le_bytes());
    }
    drop(inbox);
    let mut inbox = founder.listen().await.unwrap();
    for number in 50..100_u32 {
        assert_eq!(message(&mut inbox).await.payload[..], number.to_le_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_reaches_everyone_and_a_multicast_whom_it_names() {
    let shape = Shape {
        ring_size: Some(2),
        ..Shape::default()
    };
    let founder = founder(shape).await;
    let invite = founder.invite().await.unwrap();
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(joiner(&invite).await);
    }
    until("all five are reached", || async {
        founder
            .broadcast(None, Bytes::from_static(b"all"))
            .await
            .is_ok_and(|spread| spread.reached == 5)
    })
    .await;
    let to: Vec<_> = others.iter().map(|other| PeerRef::Id(other.id())).collect();
    let results = founder
        .multicast(to, Bytes::from_static(b"some"))
        .await
        .unwrap();
    for (result, other) in results.into_iter().zip(&others) {
        assert_eq!(result.unwrap().peer, other.id());
    }
    for other in &others {
        let mut inbox = other.listen().await.unwrap();
        while message(&mut inbox).await.payload[..] != b"some"[..] {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_found_by_prefix_name_and_guid_and_the_tree_shows_all() {
    let founder = founder(Shape::default()).await;
    let invite = founder.invite().await.unwrap();
    let anna = start(Settings {
        name: Some("anna".into()),
        ..joining(&invite)
    })
    .await
    .unwrap();
    let guid = anna.status().await.unwrap().guid.unwrap();
    until("anna is known by name", || async {
        founder
            .resolve(PeerRef::Word("anna".into()))
            .await
            .is_ok_and(|id| id == anna.id())
    })
    .await;
    assert_eq!(
        founder
            .resolve(PeerRef::Word(anna.id().short()))
            .await
            .unwrap(),
        anna.id()
    );
    assert_eq!(
        founder.resolve(PeerRef::Guid(guid)).await.unwrap(),
        anna.id()
    );
    let tree = founder.tree(100).await.unwrap();
    assert_eq!((tree.peers.len(), tree.truncated), (2, false));
    let way = founder.trace(PeerRef::Id(anna.id())).await.unwrap();
    assert_eq!(
        way.iter().map(|hop| hop.peer).collect::<Vec<_>>(),
        [founder.id(), anna.id()]
    );
    assert!(matches!(
        founder.resolve(PeerRef::Word("nobody".into())).await,
        Err(CallError::Failed { .. })
    ));
    assert!(matches!(
        founder.resolve(PeerRef::Word("a b".into())).await,
        Err(CallError::Malformed(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_leaves_is_gone_at_once() {
    let founder = founder(Shape::default()).await;
    let joiner = joiner(&founder.invite().await.unwrap()).await;
    let mut events = founder.events();
    let since = Instant::now();
    joiner.leave().await;
    let gone = async {
        loop {
            if let PeerEvent::Down { peer, why } = events.recv().await.unwrap() {
                return (peer, why);
            }
        }
    };
    assert_eq!(
        soon("the goodbye", gone).await,
        (joiner.id(), "closed".into())
    );
    assert!(since.elapsed() < Duration::from_secs(3));
    assert!(matches!(joiner.status().await, Err(CallError::Stopped)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_network_lets_in_whom_it_invited_and_tells_others_why_not() {
    let founder = founder(Shape {
        closed: Some(true),
        ..Shape::default()
    })
    .await;
    let invite = founder.invite().await.unwrap();
    assert!(invite.carries_secret());
    let member = joiner(&invite).await;
    assert!(member.invite().await.unwrap().carries_secret());
    let error = start(joining(&invite.without_secret())).await.unwrap_err();
    assert!(matches!(error, StartError::NoAdmission), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_differs_is_named() {
    let founder = founder(Shape::default()).await;
    let invite = founder.invite().await.unwrap();
    let shape = Shape {
        ring_size: Some(8),
        ..Shape::default()
    };
    let error = start(Settings {
        shape,
        ..joining(&invite)
    })
    .await
    .unwrap_err();
    assert!(
        error.to_string().contains("ring size is 32, not 8"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_to_nobody_ends_in_time() {
    let founder = founder(Shape::default()).await;
    let invite = founder.invite().await.unwrap();
    founder.leave().await;
    let since = Instant::now();
    let error = start(joining(&invite)).await.unwrap_err();
    assert!(
        matches!(error, StartError::NobodyReached { contacts: 1 }),
        "{error}"
    );
    assert!(
        since.elapsed() < Duration::from_secs(14),
        "{:?}",
        since.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let founder = founder(Shape::default()).await;
    let taken: SocketAddr = founder.status().await.unwrap().listen[0];
    let error = start(Settings {
        listen: vec![taken],
        ..Settings::default()
    })
    .await
    .unwrap_err();
    assert!(
        matches!(error, StartError::PortInUse(address) if address == taken),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_peer_rejoins_without_an_invite() {
    let place = tempfile::tempdir().unwrap();
    let founder = founder(Shape::default()).await;
    let invite = founder.invite().await.unwrap();
    let first = start(at(place.path(), Entrance::Join(Box::new(invite))))
        .await
        .unwrap();
    let id = first.id();
    first.leave().await;
    let again = soon("the rejoin", start(at(place.path(), Entrance::Remembered)))
        .await
        .unwrap();
    assert_eq!(again.id(), id);
    again
        .send(PeerRef::Id(founder.id()), Bytes::from_static(b"back"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_founder_founds_the_same_network_again() {
    let place = tempfile::tempdir().unwrap();
    let founder = start(at(place.path(), Entrance::New)).await.unwrap();
    let network = founder.status().await.unwrap().network;
    let joiner = joiner(&founder.invite().await.unwrap()).await;
    founder.leave().await;
    joiner.leave().await;
    let again = soon("the founding", start(at(place.path(), Entrance::New)))
        .await
        .unwrap();
    assert_eq!(again.status().await.unwrap().network, network);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_memory_needs_an_invite() {
    let place = tempfile::tempdir().unwrap();
    let error = start(at(place.path(), Entrance::Remembered))
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::NothingRemembered), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_payload_is_refused() {
    let founder = founder(Shape::default()).await;
    let payload = Bytes::from(vec![0; ringweave_node::MAX_PAYLOAD + 1]);
    let error = founder
        .send(PeerRef::Id(founder.id()), payload)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Failed {
                failure: ringweave_node::Failure::TooLarge,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_that_led_nowhere_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let gone = founder(Shape::default()).await;
    let stale = gone.invite().await.unwrap();
    gone.leave().await;
    let error = start(at(place.path(), Entrance::Join(Box::new(stale))))
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::NobodyReached { .. }), "{error}");
    let founder = founder(Shape::default()).await;
    let invite = founder.invite().await.unwrap();
    start(at(place.path(), Entrance::Join(Box::new(invite))))
        .await
        .unwrap();
}
