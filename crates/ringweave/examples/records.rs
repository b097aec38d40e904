//! Two peers on this machine: one keeps a record in the network, the other reads and watches it.
//!
//! ```console
//! $ cargo run --example records
//! ```

use std::{error::Error, time::Duration};

use ringweave::{Data, Entrance, Handle, Settings, start};

const LEASE: Duration = Duration::from_secs(60);

/// A peer that forgets everything, and is seen by nobody but its own network.
async fn peer(entrance: Entrance) -> Result<Handle, Box<dyn Error>> {
    let settings = Settings {
        data: Data::Ephemeral,
        entrance,
        listen: vec!["127.0.0.1:0".parse()?],
        lan: false,
        ..Settings::default()
    };
    Ok(start(settings).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let anna = peer(Entrance::New).await?;
    let bo = peer(Entrance::Join(anna.invite().await?.into())).await?;

    // Anna renews it as long as she runs; without her it stays for a minute.
    let stored = anna.put("colour".into(), "green".into(), LEASE).await?;
    println!("{} is kept by {} peers", stored.key, stored.copies);

    // By its key anybody reads it, and knows that Anna signed it.
    let found = bo.get(stored.key).await?.ok_or("nothing is kept there")?;
    assert_eq!((found.owner, &found.value[..]), (anna.id(), &b"green"[..]));

    let mut watch = bo.watch(stored.key).await?;
    let now = watch.next().await.ok_or("the peer stopped")??;
    assert!(now.is_some_and(|record| &record.value[..] == b"green"));
    for colour in ["blue", "red"] {
        anna.put("colour".into(), colour.into(), LEASE).await?;
        let seen = watch.next().await.ok_or("the peer stopped")??;
        let value = seen.map(|record| String::from_utf8_lossy(&record.value).into_owned());
        println!("bo sees {}", value.as_deref().unwrap_or("nothing"));
    }
    anna.delete("colour".into()).await?;
    assert!(bo.get(stored.key).await?.is_none());

    // What never changes is kept under its hash.
    let fixed = bo.put_immutable("for ever the same".into(), LEASE).await?;
    println!("{}", fixed.key);
    assert!(anna.get(fixed.key).await?.is_some());
    for peer in [bo, anna] {
        peer.leave().await;
    }
    Ok(())
}
