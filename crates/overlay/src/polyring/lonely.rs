//! A peer that can connect to nobody around it, though others hear them: it looks for another place.

use std::sync::Arc;

use ringweave_ids::{Guid, Peer};
use smallvec::SmallVec;

use super::{Cx, NOWHERE, Polyring, Ring, Table, join::CONTACTS};
use crate::Event;

impl Polyring {
    /// Whether it has no neighbours at all.
    pub(super) fn is_alone(&self) -> bool {
        self.links.wanted().next().is_none()
    }

    /// Gives the place up, and looks for another one through `contacts`.
    pub(super) fn restart(&mut self, cx: &mut Cx<'_>, mut contacts: Vec<Peer>) {
        contacts.extend(self.acquaintances());
        contacts.extend(&self.join.contacts);
        let mut seen = SmallVec::<[Peer; CONTACTS]>::new();
        contacts.retain(|peer| {
            let is_new = *peer != cx.me() && seen.len() < CONTACTS && !seen.contains(peer);
            is_new.then(|| seen.push(*peer)).is_some()
        });
        for link in self.links.iter().filter(|link| link.is_held) {
            cx.out.push(crate::Output::Close(link.peer));
        }
        self.links.let_go();
        self.record = None;
        self.incarnation += 1;
        self.home = None;
        (self.own, self.below) = (Ring::new(NOWHERE), Ring::new(NOWHERE));
        self.above = Arc::new(Ring::new(NOWHERE));
        self.follow(Vec::new());
        self.guid = Guid::center();
        self.table = Table::default();
        // Its turn as an heir of the place it had may still come.
        self.heal.election = None;
        cx.tell(Event::Displaced);
        self.start(cx, contacts);
    }
}
