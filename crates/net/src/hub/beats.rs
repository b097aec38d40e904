//! Beats: what tells a living peer from a dead one, and what else takes its time.

use std::time::Duration;

use ringweave_ids::Time;
use ringweave_overlay::Loss;

use super::Hub;
use crate::{event::Event, link};

/// A link on which nothing was sent for this long gets a beat.
const BEAT: Duration = Duration::from_secs(1);
/// A link that was silent for this long is suspected: two beats are missing.
const SILENCE: Duration = Duration::from_millis(2_500);
/// A link that nobody holds is closed after this long without use.
const IDLE: Duration = Duration::from_secs(15);
/// Between two looks at the links; the soonest of beats and suspicions is met this closely.
const TICK: Duration = Duration::from_millis(50);
/// A loop that comes this late to a tick was held up, and so perhaps were its readers.
const LATE: Duration = Duration::from_millis(100);

impl Hub {
    /// Looks at every link: beats, suspicions, idleness; then at all else that takes its time.
    pub(super) fn tick(&mut self) {
        let late = self.now.since(self.next_tick);
        if late > LATE {
            for link in self.slots.iter().filter_map(|slot| slot.link.as_deref()) {
                link.shared.excuse(late);
            }
        }
        if late > SILENCE {
            // The machine slept: the others have taken this peer for dead by now.
            self.on_moved();
        }
        let mut next = self.now + BEAT;
        let (mut silent, mut idle) = (Vec::new(), Vec::new());
        for slot in &mut self.slots {
            let Some(link) = slot.link.as_deref_mut() else {
                continue;
            };
            if self.now.since(link.sent) >= BEAT {
                link.sent = self.now;
                // A full send buffer means that something is on its way anyhow.
                let _ = link
                    .connection
                    .send_datagram(link::beat(!slot.holders.is_empty()).into());
            }
            let silence = self.now.since(Time::from_micros(link.shared.heard()));
            if silence >= SILENCE {
                silent.push(link.id.peer);
            }
            let is_held = !slot.holders.is_empty() || link.shared.is_wanted();
            if !is_held && self.now.since(link.used) >= IDLE {
                idle.push(link.id.peer);
            }
            next = next.min(link.sent + BEAT);
            next = next.min(self.now + SILENCE.saturating_sub(silence));
        }
        if !self.contacts.is_placed {
            next = next.min(self.contacts.next_try);
        }
        if self.evolution.is_under_way() {
            next = next.min(self.now + TICK);
        }
        self.next_tick = next.max(self.now + TICK);
        // The overlay dials again at once, while it asks the neighbours.
        for peer in silent {
            self.lose(peer, Loss::Silent);
            self.settle();
        }
        for peer in idle {
            self.lose(peer, Loss::Closed);
            self.settle();
        }
        self.pay_overdue();
        while self.tasks.try_join_next().is_some() {}
        self.on_event(Event::Taken);
        self.keep_trying();
        self.evolve();
        self.tell_news();
        self.expire();
        self.contacts.save(self.now, false);
        self.write_records(false);
        self.end_watches();
        self.sweep();
    }
}
