//! A peer that has lost everyone: it keeps its place, so that others can join it, and goes back to
//! the others as soon as it meets one.

use std::time::Duration;

use ringweave_ids::{Guid, Peer};

use super::{Cx, NOWHERE, Polyring, PositionId, Ring, Table, has_passed};
use crate::Event;

/// Lost peers that a lonely one greets at a time.
const GREETED: usize = 3;

/// How long a peer without a way up waits for its siblings to tell it one.
const STRANDED: Duration = Duration::from_secs(5);

impl Polyring {
    /// Whether it has no neighbours at all.
    pub(super) fn is_alone(&self) -> bool {
        self.links.wanted().next().is_none()
    }

    /// No neighbour is connected: greets a few that were lost. One without any way up and nobody
    /// beside it looks for another place.
    pub(super) fn on_lonely_beat(&mut self, cx: &mut Cx<'_>) {
        let rings = [&self.own, &self.above, &self.below];
        let mut lost: Vec<_> = rings
            .into_iter()
            .flat_map(Ring::records)
            .filter(|record| record.accusation.is_some())
            .map(|record| record.peer)
            .collect();
        if self.own.id != PositionId::CENTER
            && self.above.id == NOWHERE
            && has_passed(cx.now, self.join.placed_at, STRANDED)
        {
            let me = cx.me();
            let further = self
                .join
                .refuges
                .iter()
                .chain(&lost)
                .chain(&self.join.contacts);
            lost = further.copied().filter(|peer| *peer != me).collect();
            if !lost.is_empty() {
                self.restart(cx, lost);
            }
            return;
        }
        cx.random.shuffle(&mut lost, GREETED);
        let me = cx.me();
        for peer in lost.into_iter().filter(|peer| *peer != me).take(GREETED) {
            self.greet(cx, peer);
        }
    }

    pub(super) fn restart(&mut self, cx: &mut Cx<'_>, contacts: Vec<Peer>) {
        for link in self.links.iter().filter(|link| link.is_held) {
            cx.out.push(crate::Output::Close(link.peer));
        }
        self.links.let_go();
        self.record = None;
        (self.own, self.below, self.above) =
            (Ring::new(NOWHERE), Ring::new(NOWHERE), Ring::new(NOWHERE));
        self.follow(Vec::new());
        self.guid = Guid::center();
        self.table = Table::default();
        // Its turn as an heir of the place it had may still come.
        self.heal.election = None;
        cx.tell(Event::Displaced);
        self.start(cx, contacts);
    }
}
