//! Coming and going: a newcomer looks up its own point, announces itself to those it found, and has a
//! place when the nearest of them lists it.

use std::time::Duration;

use ringweave_ids::Peer;

use super::{Aim, Cx, Kademlia, Message, Purpose, Standing, Timer};
use crate::Event;

/// How long an attempt to join may take before the next.
const JOIN: Duration = Duration::from_millis(2_000);

/// How often the nearest peer is asked whether it lists this one; a peer that never does is no reason
/// to stay out.
const HAILS: u8 = 5;

/// The most peers joined through, or met, at once.
const MAX_CONTACTS: usize = 64;

/// Where a peer is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not started.
    #[default]
    Out,
    /// Looking for those near to it.
    Joining,
    /// Known to some, and so often asked whether by the nearest, too.
    Announcing(u8),
    /// In the tree.
    Placed,
    /// Gone for good.
    Left,
}

impl Kademlia {
    pub(super) fn on_join(&mut self, cx: &mut Cx<'_>, mut contacts: Vec<Peer>) {
        contacts.retain(|contact| *contact != cx.me());
        contacts.truncate(MAX_CONTACTS);
        match self.phase {
            Phase::Out | Phase::Joining if contacts.is_empty() => self.settle(cx),
            Phase::Out | Phase::Joining => {
                self.contacts = contacts;
                self.phase = Phase::Joining;
                self.try_join(cx);
            }
            // Built, it has no timers yet.
            Phase::Placed if contacts.is_empty() => {
                self.pace.rest(cx.config().compare_ms);
                self.arm(cx);
            }
            Phase::Announcing(_) | Phase::Placed => {
                for contact in contacts {
                    self.meet(cx, contact);
                }
            }
            Phase::Left => {}
        }
    }

    fn try_join(&mut self, cx: &mut Cx<'_>) {
        self.next_attempt(cx);
        if !self.searches.purposes().any(|aim| *aim == Aim::Own) {
            let contacts = std::mem::take(&mut self.contacts);
            let known: Vec<_> = contacts.iter().map(|it| self.contact(cx, *it)).collect();
            self.contacts = contacts;
            self.search(cx, self.me.point, Aim::Own, known);
        }
    }

    fn next_attempt(&mut self, cx: &mut Cx<'_>) {
        self.attempt = self.attempt.wrapping_add(1);
        cx.after(JOIN, Timer::Join(self.attempt));
    }

    pub(super) fn on_join_timer(&mut self, cx: &mut Cx<'_>, attempt: u32) {
        if attempt != self.attempt {
            return;
        }
        match self.phase {
            Phase::Joining => self.try_join(cx),
            Phase::Announcing(_) => {
                self.next_attempt(cx);
                self.hail(cx);
            }
            Phase::Out | Phase::Placed | Phase::Left => {}
        }
    }

    /// The own surroundings are known: they get to know this peer.
    pub(super) fn announce(&mut self, cx: &mut Cx<'_>) {
        self.phase = Phase::Announcing(0);
        self.next_attempt(cx);
        let near = self.buckets.iter();
        let near = near.filter(|(index, _)| self.buckets.is_near(*index));
        let near: Vec<_> = near.flat_map(|(_, bucket)| bucket).collect();
        let near: Vec<_> = near.iter().map(|it| it.peer).collect();
        for peer in near {
            self.inquire(cx, peer, self.me.point, Purpose::Compare);
        }
        self.hail(cx);
    }

    /// Asks the nearest peer whether it lists this one.
    pub(super) fn hail(&mut self, cx: &mut Cx<'_>) {
        let nearest = self.known(cx, self.me.point, 1);
        match nearest.first() {
            Some(nearest) => self.ping(cx, nearest.peer, Purpose::Announce),
            None => {
                self.phase = Phase::Joining;
                self.try_join(cx);
            }
        }
    }

    /// The nearest peer says whether it lists this one.
    pub(super) fn on_hailed(&mut self, cx: &mut Cx<'_>, standing: Standing) {
        let Phase::Announcing(hails) = self.phase else {
            return;
        };
        if standing == Standing::Listed || hails >= HAILS {
            return self.settle(cx);
        }
        self.phase = Phase::Announcing(hails + 1);
        self.hail(cx);
    }

    /// This peer is in the tree; it looks into all buckets that are farther than the nearest peer.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        self.phase = Phase::Placed;
        self.contacts = Vec::new();
        cx.tell(Event::Placed(self.guid.clone()));
        self.arm(cx);
        let nearest = self.buckets.nearest().unwrap_or(0);
        self.due |= (1 << nearest) - 1;
        self.refresh_due(cx);
    }

    pub(super) fn on_leave(&mut self, cx: &mut Cx<'_>) {
        for link in self.links.iter().filter(|link| link.is_up) {
            cx.send(link.peer, Message::Leave);
        }
        self.phase = Phase::Left;
        cx.tell(Event::Left);
    }
}
