//! The pure questions: where next, whom a broadcast goes on to, who is near.

use ringweave_ids::{Guid, Peer};

use super::{Phase, Span, Superpeer, circle::inner};
use crate::{Contact, Hop, Overlay as _, Reach, Target, View};

impl Superpeer {
    /// A leaf's first superpeer to which the connection stands.
    pub(super) fn first(&self) -> Option<Contact> {
        let mut superpeers = self.superpeers.iter().copied();
        superpeers.find(|it| self.links.is_up(it.peer))
    }

    pub(super) fn step(
        &self,
        view: &View<'_, Self>,
        target: &Target<Guid>,
        flow: u64,
    ) -> Hop<Guid> {
        let Some(point) = target.point() else {
            return match target {
                Target::All => Hop::Arrived,
                _ => Hop::Nobody,
            };
        };
        let is_key = matches!(target, Target::Key { .. });
        if point == self.me.point && !is_key {
            return Hop::Arrived;
        }
        let Some(circle) = self.inside() else {
            return self.first().map_or(Hop::Cut, |it| Hop::To(it.peer));
        };
        if let Some(leaf) = self.leaves.at(point).filter(|_| !is_key) {
            return Hop::To(leaf.peer);
        }
        match circle.next_hop(&inner(view), target, flow) {
            // Its leaves, and those that have no superpeer right now, are looked for at the successor.
            Hop::Nobody if self.is_young => {
                let successor = circle.proven().next();
                successor.map_or(Hop::Nobody, Hop::To)
            }
            hop => hop,
        }
    }

    /// Along the circle by Chord's delegation, and to the own leaves.
    pub(super) fn spread(&self, span: &Span, flow: u64, copies: &mut Vec<(Peer, Span)>) {
        if *span == Span::Nobody {
            return;
        }
        let origin = match span {
            Span::Beyond(origin) => *origin,
            _ => self.me.point,
        };
        let Some(circle) = self.inside().filter(|_| self.phase == Phase::Super) else {
            let span = match span {
                // Somebody takes this peer for a superpeer: the owner of its point stands for it.
                Span::Inner(_) => *span,
                _ => Span::Beyond(origin),
            };
            copies.extend(self.first().map(|first| (first.peer, span)));
            return;
        };
        let part = match span {
            Span::Inner(part) => *part,
            _ => circle.span(Reach::All),
        };
        let mut parts = Vec::new();
        circle.fan_out(&part, flow, &mut parts);
        copies.extend(
            parts
                .into_iter()
                .map(|(peer, part)| (peer, Span::Inner(part))),
        );
        let leaves = self.leaves.own().filter(|it| it.point != origin);
        copies.extend(leaves.map(|it| (it.peer, Span::Nobody)));
    }

    pub(super) fn nearest(
        &self,
        view: &View<'_, Self>,
        target: &Target<Guid>,
        n: usize,
        found: &mut Vec<Peer>,
    ) {
        let Some(point) = target.point() else {
            return;
        };
        let mut inside = Vec::new();
        if let Some(circle) = self.inside() {
            circle.closest(&inner(view), target, n, &mut inside);
        }
        let inside = inside.iter().map(|peer| Contact::of(view.host, *peer));
        let leaves = self.leaves.iter().map(|it| it.contact);
        let superpeers = self.superpeers.iter().copied();
        let all = inside.chain(leaves).chain(superpeers);
        let mut all: Vec<_> = all.filter(|it| self.links.is_up(it.peer)).collect();
        all.sort_by_key(|it| it.point.clockwise(point));
        all.dedup();
        found.extend(all.iter().map(|it| it.peer).take(n));
    }
}
