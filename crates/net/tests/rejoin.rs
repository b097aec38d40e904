//! Coming back: a peer that restarts finds its network though most of those it knew are gone.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use ringweave_net::{Data, Entrance, PeerRef, Settings, Shape, start};

/// Back within seconds, on a busy machine, too. A dial to one that is gone takes five.
const BACK: Duration = Duration::from_secs(5);
/// Longest wait for a young ring to be linked.
const SOON: Duration = Duration::from_secs(20);
/// Those who are gone.
const GONE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_back_within_seconds_though_most_it_knew_are_gone() {
    let place = tempfile::tempdir().unwrap();
    let founder = start(Settings::default()).await.unwrap();
    let invite = Box::new(founder.invite().await.unwrap());
    let joining = |data| Settings {
        data,
        entrance: Entrance::Join(invite.clone()),
        ..Settings::default()
    };
    let data = Data::Directory(place.path().into());
    let mut others = vec![start(joining(data.clone())).await.unwrap()];
    for _ in 0..GONE {
        others.push(start(joining(Data::Ephemeral)).await.unwrap());
    }
    // It has met them all, the founder first and so long ago.
    let deadline = Instant::now() + SOON;
    while others[0].status().await.unwrap().links < GONE {
        assert!(Instant::now() < deadline, "they do not all meet");
        tokio::task::yield_now().await;
    }
    for other in others {
        other.leave().await;
    }
    let since = Instant::now();
    let again = start(Settings {
        data,
        entrance: Entrance::Remembered,
        ..Settings::default()
    });
    let again = again.await.unwrap();
    let took = since.elapsed();
    assert!(took < BACK, "{took:?}");
    again
        .send(PeerRef::Id(founder.id()), "back".into())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_restarts_is_given_its_guid_again() {
    let disk = tempfile::tempdir().unwrap();
    let founder = start(Settings {
        shape: Shape {
            ring_size: Some(4),
            ..Shape::default()
        },
        ..Settings::default()
    });
    let founder = founder.await.unwrap();
    let invite = Box::new(founder.invite().await.unwrap());
    let joining = |data| Settings {
        data,
        entrance: Entrance::Join(invite.clone()),
        ..Settings::default()
    };
    let mut others = Vec::new();
    for _ in 0..GONE {
        others.push(start(joining(Data::Ephemeral)).await.unwrap());
    }
    let data = Data::Directory(disk.path().into());
    let last = start(joining(data.clone())).await.unwrap();
    let before = last.status().await.unwrap().guid.unwrap();
    last.leave().await;
    // Somebody else comes meanwhile, and has a place of its own.
    others.push(start(joining(Data::Ephemeral)).await.unwrap());
    let other = others.last().unwrap().status().await.unwrap().guid.unwrap();
    let again = start(Settings {
        data,
        entrance: Entrance::Remembered,
        ..Settings::default()
    });
    let again = again.await.unwrap();
    let after = again.status().await.unwrap().guid.unwrap();
    assert_ne!(
        other.to_string(),
        before.to_string(),
        "its place rests for a while"
    );
    assert_eq!(after.to_string(), before.to_string());
}
