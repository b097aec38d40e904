//! The lookup in the iterative style: whoever asks goes from peer to peer itself, each nearer before the
//! target than the last, until one names the first at or after it (section 6.1).

use ringweave_ids::{Peer, Point};

use super::{Chord, Cx, Message, Phase, Purpose, stabilise::MAX_LISTED};
use crate::{
    Contact,
    lookup::{Lookup, Width},
};

/// Searches under way; more are not begun, and are tried again as what they are for is.
const MAX_SEARCHES: usize = 64;

/// Peers named to who asks for the next step: where one is silent, there are others.
const MAX_NEARER: usize = 3;

/// One peer after another is asked, the nearest of all heard of.
const WIDTH: Width = Width {
    closest: 1,
    at_once: 1,
    paths: 1,
};

impl Chord {
    /// Begins a search: through another, or with the own table.
    pub(super) fn search(
        &mut self,
        cx: &mut Cx<'_>,
        target: Point,
        purpose: Purpose,
        through: Option<Peer>,
    ) {
        let known = match through {
            Some(through) => vec![through],
            None => {
                let (nearer, successors) = self.step_towards(target, cx.me());
                if !successors.is_empty() {
                    return self.conclude(cx, Some(purpose), &successors);
                }
                nearer
            }
        };
        if self.searches.len() >= MAX_SEARCHES {
            return;
        }
        let known = known.iter().map(|peer| Contact::of(cx.host(), *peer));
        let lookup = Lookup::new(target, Point::clockwise, WIDTH, known);
        let number = self.searches.begin(purpose, lookup);
        self.drive(cx, number);
    }

    /// Asks on, or gives the search up where nobody is left.
    fn drive(&mut self, cx: &mut Cx<'_>, number: u32) {
        while let Some((next, target)) = self.searches.next(number) {
            match self.ask(cx, next.peer, Purpose::Step(number)) {
                Some(number) => cx.send(next.peer, Message::Step { target, number }),
                None => self.searches.failed(number, next.peer),
            }
        }
        self.searches.end_if_over(number);
    }

    /// Who is nearer before the target, or else who is the first at or after it; the asker aside.
    fn step_towards(&self, target: Point, asker: Peer) -> (Vec<Peer>, Vec<Peer>) {
        let is_mine = asker != self.me.peer && self.owns(target);
        let successor = self.successor();
        let is_next = successor.is_none_or(|it| target.is_in(self.me.point, it.point));
        if is_mine || is_next {
            let me = (is_mine || successor.is_none()).then_some(self.me.peer);
            let first = me.into_iter().chain(self.proven());
            return (Vec::new(), first.filter(|it| *it != asker).collect());
        }
        let way = |it: &Contact| self.me.point.clockwise(it.point);
        let room = self.me.point.clockwise(target);
        let routes = self.routes(true).chain(successor);
        let mut nearer: Vec<_> = routes.filter(|it| way(it) < room).collect();
        nearer.sort_unstable_by_key(|it| std::cmp::Reverse(way(it)));
        nearer.dedup();
        nearer.retain(|it| it.peer != asker);
        let nearer = nearer.iter().map(|it| it.peer).take(MAX_NEARER);
        (nearer.collect(), Vec::new())
    }

    pub(super) fn on_step(&mut self, cx: &mut Cx<'_>, from: Peer, target: Point, number: u32) {
        if self.phase != Phase::Placed {
            return;
        }
        let (nearer, successors) = self.step_towards(target, from);
        cx.send(
            from,
            Message::Stepped {
                number,
                nearer,
                successors,
            },
        );
    }

    pub(super) fn on_stepped(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        number: u32,
        nearer: &[Peer],
        successors: &[Peer],
    ) {
        let nearer = cx.listed(nearer, MAX_NEARER);
        let successors = cx.listed(successors, MAX_LISTED);
        let answered = self.requests.answered(cx.now, from, number);
        let Some((Purpose::Step(number), _)) = answered else {
            return;
        };
        if !successors.is_empty() {
            if let Some((purpose, _)) = self.searches.end(number) {
                self.conclude(cx, Some(purpose), successors);
            }
            return;
        }
        let others = nearer.iter().filter(|it| **it != cx.me());
        let others: Vec<_> = others.map(|it| Contact::of(cx.host(), *it)).collect();
        self.searches.answered(number, from, others);
        self.drive(cx, number);
    }

    /// Who was asked is silent: the next nearest is.
    pub(super) fn step_failed(&mut self, cx: &mut Cx<'_>, search: u32, peer: Peer) {
        self.searches.failed(search, peer);
        self.drive(cx, search);
    }

    /// A connection is down: so are the steps that waited for it.
    pub(super) fn steps_failed(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        let is_step = |purpose| matches!(purpose, Purpose::Step(_));
        let open = self.requests.iter();
        let open = open.filter(|it| it.to == peer && is_step(it.purpose));
        for number in open.map(|it| it.number).collect::<Vec<_>>() {
            self.on_late(cx, number);
        }
    }
}
