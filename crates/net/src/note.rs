//! Notes: what a peer tells those it is linked with beside the protocol: newer cards, or a later edition
//! of the network.
//!
//! ```text
//! kind u8 = 2 | the sender's body to the end of a stream of its own
//! ```
//!
//! A card is introduced once on a link, by the dictionary of its encoder. When it changes later, its
//! owner and the owner's neighbours say so in a note. What is lost does little harm: a card is in
//! every greeting, too.

use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, RecvStream, VarInt};
use ringweave_ids::{PeerId, wire};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::timeout};

use crate::{card::CARD_CAP, event::Event, link::LinkId, network::Network};

/// Sets the stream of a note apart from those of the two lanes.
pub(crate) const KIND: u8 = 2;
/// Cards in one note; more go in another one.
pub(crate) const CARDS: usize = 32;
/// The largest note.
const CAP: usize = CARDS * (CARD_CAP + 48);
/// How long one may take; a link that is slower than that has other troubles.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a note that nobody waits for is stopped with.
const UNWANTED: VarInt = VarInt::from_u32(0);

/// Whose card, and the card.
pub(crate) type Told = (PeerId, Bytes);

/// A note.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Note {
    /// Cards that changed, at most [`CARDS`].
    Cards(Vec<Told>),
    /// What the network is now, and that the sender has done its part: see [`evolve`](crate::hub).
    Network(Box<Network>),
}

/// Sends a note, or gives up.
pub(crate) async fn send(connection: Connection, note: Note) {
    let sent = async {
        let mut stream = connection.open_uni().await.ok()?;
        stream.write_all(&[KIND]).await.ok()?;
        stream.write_all(&wire::to_vec(&note)).await.ok()?;
        stream.finish().ok()
    };
    if let Ok(None) | Err(_) = timeout(PATIENCE, sent).await {
        tracing::debug!("a note was not sent");
    }
}

/// Hands over the notes of a link, those that came early first, until its connection ends.
pub(crate) async fn read(
    connection: &Connection,
    early: Vec<RecvStream>,
    link: LinkId,
    events: &mpsc::Sender<Event>,
) {
    let mut early = early.into_iter();
    loop {
        let stream = match early.next() {
            Some(stream) => Some(stream),
            None => match connection.accept_uni().await {
                Ok(stream) => timeout(PATIENCE, kind(stream)).await.ok().flatten(),
                Err(_) => return,
            },
        };
        let Some(mut stream) = stream else { continue };
        let note = timeout(PATIENCE, body(&mut stream)).await;
        let Ok(Some(note)) = note else {
            // It may have ended by itself.
            let _ = stream.stop(UNWANTED);
            continue;
        };
        if events.send(Event::Noted(link, note)).await.is_err() {
            return;
        }
    }
}

/// The stream, if it is a note's. Any other is dropped, which stops it.
async fn kind(mut stream: RecvStream) -> Option<RecvStream> {
    let mut kind = [0];
    stream.read_exact(&mut kind).await.ok()?;
    (kind[0] == KIND).then_some(stream)
}

async fn body(stream: &mut RecvStream) -> Option<Note> {
    let bytes = stream.read_to_end(CAP).await.ok()?;
    let note: Note = wire::decode(&bytes, CAP).ok()?;
    let is_fair = match &note {
        Note::Cards(cards) => cards.len() <= CARDS,
        Note::Network(_) => true,
    };
    is_fair.then_some(note)
}
