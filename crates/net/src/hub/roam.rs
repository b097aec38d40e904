//! Roaming: this peer slept, or its network changed.
//!
//! Peers that could not be reached may be now, so nobody rests any longer; links may be dead without a
//! word, so each gets a beat at once and shows soon whether it still carries. Where this peer is reached
//! goes on a new card. iroh moves living connections to the new addresses by itself.

use futures_util::StreamExt as _;
use iroh::{Endpoint, Watcher as _};
use ringweave_ids::Time;
use tokio::sync::mpsc;

use super::Hub;
use crate::event::Event;

impl Hub {
    /// Watches the addresses of this machine, as long as the peer lives.
    pub(super) fn watch_moves(&mut self) {
        let moves = watch(self.endpoint.clone(), self.report.clone());
        self.tasks.spawn(moves);
    }

    /// This peer slept, or its addresses are others.
    pub(super) fn on_moved(&mut self) {
        tracing::debug!("awake, or elsewhere");
        self.rests.clear();
        self.contacts.try_now(self.now);
        let slots = self.slots.iter_mut();
        for link in slots.filter_map(|slot| slot.link.as_deref_mut()) {
            link.sent = Time::ZERO;
        }
        self.next_tick = self.now;
        self.renew_card();
    }
}

/// Tells the event loop whenever the machine's addresses are others than before.
async fn watch(endpoint: Endpoint, report: mpsc::Sender<Event>) {
    let mut addresses = endpoint.watch_addr().stream();
    // The stream must not keep the endpoint.
    drop(endpoint);
    // The first are those of the start.
    let mut known = addresses.next().await;
    while let Some(now) = addresses.next().await {
        if known.as_ref() != Some(&now) && report.send(Event::Moved).await.is_err() {
            return;
        }
        known = Some(now);
    }
}
