//! Streams: what happens at the peer, and the messages for the application, as server-sent events.
//!
//! Each stream holds one of a few places and gives it back when its caller goes away.

use std::{convert::Infallible, time::Duration};

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use ringweave_ids::Key;
use ringweave_net::{Inbox, PeerEvent, Watch};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use crate::body::{MessageEvent, WatchEvent};

/// A sign of life on a quiet stream, so that a caller notices a dead one.
const BEAT: Duration = Duration::from_secs(15);

/// The messages of an inbox, until the peer stops or another listener takes over.
pub(crate) fn messages(
    inbox: Inbox,
    place: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let lines = stream::unfold((inbox, place), |(mut inbox, place)| async move {
        let received = inbox.recv().await?;
        Some((Ok(line(&MessageEvent::from(received))), (inbox, place)))
    });
    Sse::new(lines).keep_alive(KeepAlive::new().interval(BEAT))
}

/// What happens from now on; a slow caller is told how much it missed.
pub(crate) fn events(
    events: broadcast::Receiver<PeerEvent>,
    place: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let lines = stream::unfold((events, place), |(mut events, place)| async move {
        let line = match events.recv().await {
            Ok(event) => line(&event),
            Err(broadcast::error::RecvError::Lagged(count)) => {
                line(&json!({"event": "missed", "count": count}))
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((Ok(line), (events, place)))
    });
    Sse::new(lines).keep_alive(KeepAlive::new().interval(BEAT))
}

/// What is kept under a key, until the peer stops, or cannot tell.
pub(crate) fn watched(
    watch: Watch,
    key: Key,
    place: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let lines = stream::unfold(Some((watch, place)), move |held| async move {
        let (mut watch, place) = held?;
        let told = watch.next().await?;
        let is_over = told.is_err();
        let line = line(&WatchEvent::of(key, told));
        Some((Ok(line), (!is_over).then_some((watch, place))))
    });
    Sse::new(lines).keep_alive(KeepAlive::new().interval(BEAT))
}

fn line(value: &impl Serialize) -> Event {
    Event::default()
        .json_data(value)
        .expect("plain data always serialises into JSON")
}
