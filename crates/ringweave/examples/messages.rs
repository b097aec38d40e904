//! Three peers on this machine that write to each other: to one, to several, to all.
//!
//! ```console
//! $ cargo run --example messages
//! ```

use std::error::Error;

use ringweave::{Data, Entrance, Handle, PeerRef, Settings, start};

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
    let invite = anna.invite().await?;
    let bo = peer(Entrance::Join(invite.clone().into())).await?;
    let cleo = peer(Entrance::Join(invite.into())).await?;

    let sent = anna.send(PeerRef::Id(bo.id()), "hello".into()).await?;
    println!("delivered after {} hops, {:?}", sent.hops, sent.took);
    let both = vec![PeerRef::Id(anna.id()), PeerRef::Id(cleo.id())];
    for outcome in bo.multicast(both, "lunch?".into()).await? {
        println!("{} has it", outcome?.peer.short());
    }
    let spread = cleo.broadcast(None, "at one".into()).await?;
    println!("{} peers hold it", spread.reached);

    let mut inbox = bo.listen().await?;
    for _ in 0..2 {
        let message = inbox.recv().await.ok_or("the peer stopped")?;
        let text = String::from_utf8_lossy(&message.payload);
        println!("{} says: {text}", message.from.short());
    }
    for peer in [cleo, bo, anna] {
        peer.leave().await;
    }
    Ok(())
}
