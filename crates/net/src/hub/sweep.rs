//! Sweeps of the book: it grows with every peer that anyone names, and the node does not say whom it
//! no longer uses. Now and then it is asked, and whoever it does not name is forgotten.

use std::time::Duration;

use ringweave_ids::Time;
use ringweave_node::Frame;
use ringweave_overlay::Message as _;

use super::{Hub, links::Slot};
use crate::book::Book;

/// Between two sweeps: as often as the overlay drops what has aged, after which there is most to find.
const EVERY: Duration = Duration::from_secs(30);
/// Between two sweeps of a book that is nearly full, so that a peer that names strangers without end
/// keeps the others out for a moment only, and costs little time.
const HURRIED: Duration = Duration::from_secs(1);

/// When the book was last swept.
#[derive(Debug, Default)]
pub(super) struct Sweeps(Time);

impl Sweeps {
    /// Whether another sweep is worth its cost.
    fn is_due(&self, book: &Book, now: Time) -> bool {
        let since = now.since(self.0);
        (book.has_grown() && since >= EVERY) || (book.is_tight() && since >= HURRIED)
    }
}

impl Hub {
    /// Makes room where a frame or a newcomer may find none.
    pub(super) fn make_way(&mut self) {
        if self.book.is_tight() {
            self.sweep();
        }
    }

    /// Forgets the peers that nobody uses, if it is time.
    ///
    /// Between inputs only: what a decoded frame names is in use no sooner than the node has taken it.
    pub(super) fn sweep(&mut self) {
        if !self.later.is_empty() || !self.sweeps.is_due(&self.book, self.now) {
            return;
        }
        self.sweeps = Sweeps(self.now);
        let mut used = Vec::new();
        for instance in &self.instances {
            instance.node.uses(&mut used);
        }
        // Frames that wait for a connection name peers, too: the book is asked when they are written.
        let waiting = self.slots.iter_mut().flat_map(|slot| &mut slot.waiting);
        for (_, _, frame) in waiting {
            if let Frame::Overlay(message) = frame {
                message.visit(&mut |peer| used.push(*peer));
            }
        }
        let forgotten = self.book.sweep(&used);
        tracing::debug!(forgotten = forgotten.len(), "swept the book");
        for peer in forgotten {
            if let Some(slot) = self.slots.get_mut(peer.0 as usize) {
                *slot = Slot::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use iroh::SecretKey;
    use ringweave_ids::PeerId;

    use super::*;
    use crate::{
        card::Card,
        network::{Network, Shape},
    };

    fn book_of(count: u64) -> Book {
        let network = Network::found(&SecretKey::generate(), &Shape::default(), None).unwrap();
        let mut book = Book::new(SecretKey::generate(), None, network, &Card::default());
        for number in 0..count {
            let mut bytes = [1; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            book.admit(PeerId::from_bytes(bytes)).unwrap();
        }
        book
    }

    #[test]
    fn a_sweep_waits_for_growth_and_for_its_time() {
        let (sweeps, start) = (Sweeps::default(), Time::ZERO);
        let (small, grown, tight) = (book_of(100), book_of(4_000), book_of(16_000));
        let is_due = |book, span| sweeps.is_due(book, start + span);
        assert!(!is_due(&small, 10 * EVERY), "there is little to find");
        assert!(!is_due(&grown, EVERY / 2) && is_due(&grown, EVERY));
        assert!(!is_due(&tight, HURRIED / 2) && is_due(&tight, HURRIED));
    }
}
