//! The checks of a world at rest: tables by the topology itself, routes and broadcasts by walking
//! over everybody's tables at once.

use ringweave_ids::{Key, Peer, Random};
use ringweave_node::Node;
use ringweave_overlay::{Hop, Neighbour, Reach, Target, View};

use super::{Common, actor::Actor, lab::Lab, path::follow};
use crate::Canary;

/// Violations told in words; more are only counted.
const TOLD: usize = 100;
/// Routes walked in one check, where there are more pairs than this.
const ROUTES: u32 = 10_000;

/// What checks came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) checked: u64,
    pub(crate) violated: u64,
    /// The first violations, in words.
    pub(crate) words: Vec<String>,
}

impl Findings {
    /// Notes a check; `words` are asked for only if it failed.
    pub(crate) fn check(&mut self, holds: bool, words: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.violated += 1;
            if self.words.len() < TOLD {
                self.words.push(words());
            }
        }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.checked += more.checked;
        self.violated += more.violated;
        let room = TOLD - self.words.len();
        self.words.extend(more.words.into_iter().take(room));
    }
}

/// Everybody, by handle.
pub(crate) struct Crowd<'a, O: Lab> {
    pub(crate) common: &'a Common<O>,
    /// Peers that are up, by handle.
    pub(crate) actors: Vec<(u32, &'a Actor<O>)>,
    /// Handle -> place in `actors` plus one; 0 for who is down.
    places: Vec<u32>,
}

impl<'a, O: Lab> Crowd<'a, O> {
    pub(crate) fn new(common: &'a Common<O>, mut actors: Vec<(u32, &'a Actor<O>)>) -> Self {
        actors.retain(|(_, actor)| actor.node().is_some());
        actors.sort_unstable_by_key(|(handle, _)| *handle);
        let mut places = vec![0; common.keys.count() as usize];
        for ((handle, _), place) in actors.iter().zip(1..) {
            places[*handle as usize] = place;
        }
        Self {
            common,
            actors,
            places,
        }
    }

    fn node(&self, handle: u32) -> Option<&'a Node<O>> {
        let place = self.places.get(handle as usize)?.checked_sub(1)?;
        self.actors[place as usize].1.node()
    }

    /// All checks.
    pub(crate) fn check(&self, seed: u64) -> Findings {
        let mut findings = Findings::default();
        let mut random = Random::new(seed);
        let mut tables = Vec::with_capacity(self.actors.len());
        for (handle, actor) in &self.actors {
            let name = || format!("peer {handle} has no place");
            findings.check(actor.address().is_some(), name);
            tables.extend(actor.node().map(|node| (*handle, node.overlay())));
        }
        O::inspect(&self.common.config, &tables, &mut findings);
        drop(tables);
        self.check_links(&mut findings);
        // Where nothing leads to an address, there are no routes to follow.
        if O::IS_STRUCTURED {
            self.check_routes(&mut random, &mut findings);
        }
        self.check_broadcast(&mut random, &mut findings);
        findings
    }

    fn check_links(&self, findings: &mut Findings) {
        let mut table = Vec::new();
        for (handle, actor) in &self.actors {
            let Some(node) = actor.node() else { continue };
            table.clear();
            node.neighbours(&mut table);
            let is_missed = |it: &&Neighbour<O::Address>| {
                let is_linked = it.linked || self.common.weather.is_dead(*handle, it.peer.0);
                !is_linked || self.node(it.peer.0).is_none()
            };
            let missing = table.iter().find(is_missed);
            findings.check(missing.is_none(), || {
                let whom = missing.map_or(0, |it| it.peer.0);
                format!("peer {handle} has no connection to its neighbour {whom}")
            });
        }
    }

    fn check_routes(&self, random: &mut Random, findings: &mut Findings) {
        let count = self.actors.len() as u64;
        if count * count <= u64::from(ROUTES) {
            for (from, _) in &self.actors {
                for (to, _) in &self.actors {
                    self.check_route(*from, *to, findings);
                }
            }
            return;
        }
        for _ in 0..ROUTES {
            let mut draw = || self.actors[random.below(self.actors.len())].0;
            let (from, to) = (draw(), draw());
            self.check_route(from, to, findings);
        }
    }

    fn check_route(&self, from: u32, to: u32, findings: &mut Findings) {
        let route = self.walk(from, to);
        findings.check(route.is_ok(), || {
            let why = route.err().unwrap_or_default();
            format!("no route from peer {from} to peer {to}: {why}")
        });
    }

    /// Hops over the tables, no more than the topology allows at rest, unless some have to go round a
    /// connection that cannot be made.
    pub(crate) fn walk(&self, from: u32, to: u32) -> Result<usize, String> {
        let address = |handle| self.node(handle).and_then(Node::address);
        let bound = address(from).zip(address(to));
        let bound = bound.map_or(0, |(from, to)| O::bound(&self.common.config, from, to));
        let hops = self.follow(from, to)?;
        if hops > bound && !self.common.weather.has_dead_pairs() {
            return Err(format!("{hops} hops where {bound} are the most"));
        }
        Ok(hops)
    }

    /// Hops over the tables, however many.
    pub(crate) fn follow(&self, from: u32, to: u32) -> Result<usize, String> {
        let address = |handle| self.node(handle).and_then(Node::address);
        let (Some(_), Some(end)) = (address(from), address(to)) else {
            return Err("one of them has no place".into());
        };
        let id = self.common.keys.id(to);
        let target = Target::Peer {
            id,
            address: end.clone(),
        };
        let flow = Key(*id.as_bytes()).head();
        let (end, hops) = follow(from, target, flow, |at, target, flow| {
            let node = self.node(at)?;
            let desk = self.common.desk(at);
            let view = View {
                config: &*self.common.config,
                me: Peer(at),
                profile: &node.settings().profile,
                host: &desk,
            };
            let lead = |next: Peer| Peer(self.misled(at, next.0));
            Some(match node.overlay().next_hop(&view, target, flow) {
                Hop::To(next) => Hop::To(lead(next)),
                Hop::Corrected(next, address) => Hop::Corrected(lead(next), address),
                other => other,
            })
        })?;
        if end != to {
            return Err(format!("it arrives at peer {end}"));
        }
        Ok(hops)
    }

    /// Where a hop leads; elsewhere at the first peer, if a canary sings.
    fn misled(&self, at: u32, next: u32) -> u32 {
        if self.common.canary != Some(Canary::Misrouted) || at != self.actors[0].0 {
            return next;
        }
        let mut table = Vec::new();
        if let Some(node) = self.node(at) {
            node.neighbours(&mut table);
        }
        table
            .iter()
            .map(|it| it.peer.0)
            .find(|other| *other != next)
            .unwrap_or(next)
    }

    /// Spreads a broadcast over the tables: everyone once, or at least once where it finds its tree
    /// itself, announced or not. Where a connection cannot be made, tables
    /// alone do not do that: repair does.
    fn check_broadcast(&self, random: &mut Random, findings: &mut Findings) {
        if self.actors.is_empty() || self.common.weather.has_dead_pairs() {
            return;
        }
        let (origin, _) = self.actors[random.below(self.actors.len())];
        let Some(node) = self.node(origin) else {
            return;
        };
        let flow = Key(*self.common.keys.id(origin).as_bytes()).head();
        let mut reached = vec![false; self.places.len()];
        reached[origin as usize] = true;
        let (mut count, mut doubles) = (1_u64, 0_u64);
        let mut open = vec![(origin, node.overlay().span(Reach::All))];
        let mut copies = Vec::new();
        while let Some((at, span)) = open.pop() {
            let Some(node) = self.node(at) else { continue };
            node.overlay().fan_out(&span, flow, &mut copies);
            for (peer, span) in copies.drain(..) {
                let to = peer.0 as usize;
                if std::mem::replace(&mut reached[to], true) {
                    doubles += 1;
                } else if self.node(peer.0).is_some() {
                    count += 1;
                    open.push((peer.0, span));
                }
            }
        }
        let all = self.actors.len() as u64;
        findings.check(count == all && (doubles == 0 || !O::IS_STRUCTURED), || {
            format!("a broadcast of peer {origin} reaches {count} of {all} peers, {doubles} of its copies twice")
        });
    }
}
