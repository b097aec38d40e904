//! One network twice: real peers on loopback QUIC, and simulated ones with the same keys, chance and
//! joins. Who sits where, and how far it is from each to each, must be the same in both.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet, fs, future::Future, io::Write as _, os::unix::fs::OpenOptionsExt as _,
    path::Path, time::Duration,
};

use ringweave::{Data, Entrance, Guid, Handle, Invite, PeerId, PeerRef, Settings, Shape, start};
use ringweave_sim::{Twin, TwinPeer};
use tokio::time::Instant;

/// Three rings from the center outward: 3 peers, 9, and the rest.
const PEERS: u8 = 16;
const RING_SIZE: u16 = 3;
const NETWORK: [u8; 32] = [0xa5; 32];

/// Longest wait for anything here: far more than it takes on a busy machine.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn real_and_simulated_peers_make_the_same_tree_of_the_same_distances() {
    let peers: Vec<_> = (0..PEERS).map(peer).collect();
    let twin = Twin::grow(&peers, &NETWORK, RING_SIZE);
    assert_eq!(twin.violations(), Vec::<String>::new());
    let placed = |(id, guid): (PeerId, Option<Guid>)| (id, guid.expect("it found a place"));
    let simulated: Vec<_> = twin.places().into_iter().map(placed).collect();
    assert_eq!(
        simulated.iter().map(|(_, guid)| guid.depth()).max(),
        Some(3)
    );

    let disk = tempfile::tempdir().unwrap();
    let real = grow(&peers, disk.path()).await;
    assert_eq!(words(&places(&real).await), words(&simulated));

    for (from, sender) in (0..).zip(&real) {
        for (to, receiver) in (0..).zip(&real).filter(|(to, _)| *to != from) {
            let whom = PeerRef::Id(receiver.id());
            let sent = sender.send(whom.clone(), "how far".into()).await.unwrap();
            let way = sender.trace(whom).await.unwrap();
            let real = [usize::from(sent.hops), way.len() - 1];
            assert_eq!(
                real.map(Some),
                [twin.hops(from, to); 2],
                "from {from} to {to}: {way:?}"
            );
        }
    }
}

/// A tree as people read it: tags name positions by what their keepers drew, and that follows the clock.
fn words(places: &[(PeerId, Guid)]) -> Vec<String> {
    let line = |(id, guid): &(PeerId, Guid)| format!("{id} {guid}");
    places.iter().map(line).collect()
}

fn peer(number: u8) -> TwinPeer {
    TwinPeer {
        secret: [number + 1; 32],
        chance: 1_000 + u64::from(number),
    }
}

/// Real peers, each started once those before it are settled; the first founds and is everyone's contact.
async fn grow(peers: &[TwinPeer], disk: &Path) -> Vec<Handle> {
    let mut handles: Vec<Handle> = Vec::new();
    let mut invite: Option<Invite> = None;
    for (number, peer) in peers.iter().enumerate() {
        let home = disk.join(number.to_string());
        fs::create_dir(&home).unwrap();
        put_key(&home.join("identity.key"), &peer.secret);
        let mut settings = Settings {
            data: Data::Directory(home.clone()),
            chance: Some(peer.chance),
            ..Settings::default()
        };
        match &invite {
            Some(invite) => settings.entrance = Entrance::Join(Box::new(invite.clone())),
            None => {
                put_key(&home.join("network.key"), &NETWORK);
                settings.shape = Shape {
                    ring_size: Some(RING_SIZE.into()),
                    // Of a cluster the flow chooses a member: then distances differ from flow to flow.
                    cluster: Some(1),
                    ..Shape::default()
                };
            }
        }
        let handle = start(settings).await.unwrap();
        if invite.is_none() {
            invite = Some(handle.invite().await.unwrap());
        }
        handles.push(handle);
        until("everyone knows its neighbours", || are_settled(&handles)).await;
    }
    handles
}

/// A key as a data directory holds it.
fn put_key(path: &Path, secret: &[u8; 32]) {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
        .open(path)
        .unwrap()
        .write_all(hex.as_bytes())
        .unwrap();
}

/// Whether every peer is connected to its parent, siblings and children, as all places together tell,
/// and to nobody else.
async fn are_settled(handles: &[Handle]) -> bool {
    let places = places(handles).await;
    for (handle, (_, mine)) in handles.iter().zip(&places) {
        let known = handle.peers().await.unwrap();
        let linked: BTreeSet<_> = known
            .iter()
            .filter(|known| known.linked)
            .map(|known| (known.peer_id, known.guid.clone()))
            .collect();
        let is_near = |other: &Guid| {
            other.parent() == mine.parent()
                || other.parent().as_ref() == Some(mine)
                || mine.parent().as_ref() == Some(other)
        };
        let near = places
            .iter()
            .filter(|(id, guid)| *id != handle.id() && is_near(guid));
        if linked != near.cloned().collect() || linked.len() < known.len() {
            return false;
        }
    }
    true
}

async fn places(handles: &[Handle]) -> Vec<(PeerId, Guid)> {
    let mut places = Vec::new();
    for handle in handles {
        let guid = handle.status().await.unwrap().guid;
        places.push((
            handle.id(),
            guid.expect("a peer that has joined has a place"),
        ));
    }
    places
}

/// Asks until the answer is yes; every question takes a while by itself.
async fn until<F: Future<Output = bool>>(what: &str, ask: impl Fn() -> F) {
    let deadline = Instant::now() + SOON;
    while !ask().await {
        assert!(Instant::now() < deadline, "{what}: not in time");
        tokio::task::yield_now().await;
    }
}
