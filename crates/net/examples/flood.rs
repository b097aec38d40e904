//! How many messages of 128 bytes a second go over two hops of real QUIC, acknowledgements included.
//!
//! Three peers on loopback in one process, in rings of two: the message goes from one end through
//! the middle to the other end. `cargo run --release -p ringweave-net --example flood [SECONDS] [SENDS_AT_ONCE]`

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringweave_net::{Entrance, PeerRef, Settings, Shape, start};

const SIZE: usize = 128;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(5), |word| word.parse())?;
    let abreast: usize = std::env::args()
        .nth(2)
        .map_or(Ok(1_024), |word| word.parse())?;
    let shape = Shape {
        ring_size: Some(2),
        ..Shape::default()
    };
    let middle = start(Settings {
        shape,
        ..Settings::default()
    })
    .await?;
    let invite = middle.invite().await?;
    let join = || Settings {
        entrance: Entrance::Join(Box::new(invite.clone())),
        ..Settings::default()
    };
    let mut ends = Vec::new();
    for _ in 0..3 {
        ends.push(start(join()).await?);
    }
    let mut pair = None;
    for from in &ends {
        for to in &ends {
            let way = if from.id() == to.id() {
                Vec::new()
            } else {
                from.trace(PeerRef::Id(to.id())).await?
            };
            if way.len() == 3 {
                pair = Some((from.clone(), to.clone()));
            }
        }
    }
    let (from, to) = pair.ok_or("no two peers are two hops apart")?;
    let mut inbox = to.listen().await?;
    let received = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&received);
    tokio::spawn(async move {
        while inbox.recv().await.is_some() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let since = Instant::now();
    let until = since + Duration::from_secs(seconds);
    let target = to.id();
    let senders = (0..abreast).map(|_| {
        let from = from.clone();
        tokio::spawn(async move {
            let payload = Bytes::from(vec![7; SIZE]);
            let (mut delivered, mut failed) = (0_u64, 0_u64);
            while Instant::now() < until {
                match from.send(PeerRef::Id(target), payload.clone()).await {
                    Ok(_) => delivered += 1,
                    Err(_) => failed += 1,
                }
            }
            (delivered, failed)
        })
    });
    let (mut delivered, mut failed) = (0, 0);
    for sender in senders.collect::<Vec<_>>() {
        let (one, other) = sender.await?;
        delivered += one;
        failed += other;
    }
    let took = since.elapsed().as_secs_f64();
    println!(
        "{delivered} delivered, {failed} failed, {} received in {took:.2} s: {:.0} messages/s",
        received.load(Ordering::Relaxed),
        delivered as f64 / took
    );
    Ok(())
}
