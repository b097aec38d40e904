//! The order of an origin's broadcasts: what comes beyond a gap waits for it, but not for long.

use std::time::Duration;

use ringweave_ids::{Peer, PeerId, Time};
use ringweave_overlay::Overlay;

use super::{Ground, Router, seen::Seen, spread::Name};
use crate::{MAX_NAMED, Message, Turn};

/// Broadcasts of one origin held back beyond a gap; with more, the gap is waited for no longer.
const HELD: usize = 64;
/// Broadcasts held back over all origins: as many as are kept.
const HELD_ALL: usize = MAX_NAMED;
/// Payload bytes held back over all origins: as many as are kept.
const HELD_BYTES: usize = 2 << 20;
/// How long a broadcast waits for those before it; as long as a unicast does.
const GAP_PATIENCE: Duration = Duration::from_secs(2);
/// How long those before it have to come by themselves before they are asked for.
const GAP_GRACE: Duration = Duration::from_millis(200);

/// A broadcast that waits for earlier ones of its origin.
pub(super) struct Held {
    incarnation: u64,
    since: Time,
    message: Message,
}

impl<O: Overlay> Router<O> {
    /// Whether this broadcast is here for the first time; from now on it is not.
    pub(super) fn is_new(&mut self, ground: &mut Ground<'_, O>, name: Name) -> bool {
        let (origin, incarnation, number) = name;
        match self.spreads.seen.get(&origin) {
            Some(seen) if seen.incarnation > incarnation => return false,
            Some(seen) if seen.incarnation == incarnation => return seen.mark(number),
            Some(seen) => {
                let life = seen.incarnation;
                self.wait_until(ground, origin, life, u64::MAX);
            }
            None => {}
        }
        let fresh = Seen::new(incarnation, number);
        self.spreads.seen.insert(origin, fresh);
        true
    }

    /// Whether this broadcast has been here, or belongs to a life of its origin that is over.
    pub(super) fn has_seen(&self, (origin, incarnation, number): &Name) -> bool {
        let seen = self.spreads.seen.peek(origin);
        seen.is_some_and(|seen| {
            seen.incarnation > *incarnation
                || (seen.incarnation == *incarnation && seen.has(*number))
        })
    }

    /// A new broadcast, before which none from `first` on may be missing: into the inbox, in order.
    /// Those that are missing are asked of `source`. Gives how many peers hold it: one, unless the
    /// inbox is full.
    pub(super) fn deliver_in_order(
        &mut self,
        ground: &mut Ground<'_, O>,
        incarnation: u64,
        first: u64,
        mut message: Message,
        source: Option<(Peer, O::Span)>,
    ) -> u64 {
        let (origin, number) = (message.from, message.sequence);
        self.wait_until(ground, origin, incarnation, first.min(number));
        let Some(seen) = self.spreads.seen.get(&origin) else {
            return u64::from(self.deliver(ground, message));
        };
        if number > seen.expected {
            return self.hold_back(ground, incarnation, message, source);
        }
        if number == seen.expected {
            seen.expected += 1;
        } else {
            self.counters.late += 1;
            message.turn = Turn::Late;
        }
        let count = u64::from(self.deliver(ground, message));
        self.release_next(ground, origin, incarnation);
        count
    }

    /// A broadcast beyond a gap.
    fn hold_back(
        &mut self,
        ground: &mut Ground<'_, O>,
        incarnation: u64,
        message: Message,
        source: Option<(Peer, O::Span)>,
    ) -> u64 {
        let (origin, number, now) = (message.from, message.sequence, ground.now);
        let holes = match self.spreads.seen.peek(&origin) {
            Some(seen) => seen.holes(number).take(HELD).collect(),
            None => Vec::new(),
        };
        let recent = self.recent(ground);
        for hole in holes {
            let name = (origin, incarnation, hole);
            if let Some(source) = &source
                && !recent.is_wanted(&name)
            {
                recent.want(name, source.clone(), now, now + GAP_GRACE);
            }
        }
        recent.held_bytes += message.payload.len();
        recent.held.push(Held {
            incarnation,
            since: now,
            message,
        });
        let theirs = recent
            .held
            .iter()
            .filter(|held| held.message.from == origin);
        let is_full =
            theirs.count() > HELD || recent.held.len() > HELD_ALL || recent.held_bytes > HELD_BYTES;
        if is_full {
            self.wait_until(ground, origin, incarnation, number + 1);
        }
        self.tick(ground);
        1
    }

    /// Delivers the held broadcasts that are next.
    fn release_next(&mut self, ground: &mut Ground<'_, O>, origin: PeerId, incarnation: u64) {
        while let Some(seen) = self.spreads.seen.get(&origin)
            && let Some(recent) = &mut self.spreads.recent
            && let Some(place) = recent.held.iter().position(|held| {
                (held.message.from, held.incarnation, held.message.sequence)
                    == (origin, incarnation, seen.expected)
            })
        {
            seen.expected += 1;
            let held = recent.held.swap_remove(place);
            recent.held_bytes -= held.message.payload.len();
            self.deliver(ground, held.message);
        }
    }

    /// Waits no longer for an origin's broadcasts before `next`: delivers what is held of them.
    fn wait_until(
        &mut self,
        ground: &mut Ground<'_, O>,
        origin: PeerId,
        incarnation: u64,
        next: u64,
    ) {
        while let Some(recent) = &mut self.spreads.recent {
            let theirs = recent.held.iter().enumerate().filter(|(_, held)| {
                (held.message.from, held.incarnation) == (origin, incarnation)
                    && held.message.sequence < next
            });
            let Some((place, _)) = theirs.min_by_key(|(_, held)| held.message.sequence) else {
                break;
            };
            let held = recent.held.swap_remove(place);
            recent.held_bytes -= held.message.payload.len();
            self.deliver(ground, held.message);
        }
        if let Some(seen) = self.spreads.seen.get(&origin)
            && seen.incarnation == incarnation
            && seen.expected < next
        {
            seen.expected = next;
            self.release_next(ground, origin, incarnation);
        }
    }

    /// Delivers what has waited for too long.
    pub(super) fn release_overdue(&mut self, ground: &mut Ground<'_, O>) {
        let now = ground.now;
        let is_overdue = |held: &&Held| now.since(held.since) >= GAP_PATIENCE;
        while let Some(recent) = &self.spreads.recent
            && let Some(held) = recent.held.iter().find(is_overdue)
        {
            let (origin, number) = (held.message.from, held.message.sequence);
            self.wait_until(ground, origin, held.incarnation, number + 1);
        }
    }
}
