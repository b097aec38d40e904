//! Kademlia in the laboratory: whole tables at once, and what must hold at rest: every subtree beside
//! a peer's own that is not empty has a contact and a connection, and the k closest peers are known.

use std::collections::BTreeSet;

use ringweave_ids::{Guid, Key, Peer, Point, Random};
use ringweave_overlay::{
    Contact, Neighbour, Overlay as _, Profile, View,
    kademlia::{Config, Kademlia, Message},
};

use super::{
    check::Findings,
    circle::Circle,
    keys::{Desk, Keys},
    lab::Lab,
    standing::Standing,
};
use crate::Scenario;

impl Standing for Kademlia {}

impl Lab for Kademlia {
    const NAME: &'static str = "kademlia";

    fn config(scenario: &Scenario) -> Config {
        let config = Config::default();
        Config {
            bucket: scenario.bucket.map_or(config.bucket, |size| size as u8),
            links: scenario.links.map_or(config.links, |count| count as u8),
            ..config
        }
    }

    fn build(keys: &Keys, config: &Config, peers: u32) -> Vec<Self> {
        let circle = Circle::of(keys, 0..peers);
        let sorted: Vec<_> = circle.iter().collect();
        let profile = Profile::default();
        let mut built: Vec<_> = (0..peers).map(|_| None).collect();
        let mut table = Vec::new();
        for me in &sorted {
            table.clear();
            fill(&sorted, *me, config, &mut table);
            let desk = Desk {
                keys,
                me: me.peer.0,
                is_blind: false,
            };
            let view = View {
                config,
                me: me.peer,
                profile: &profile,
                host: &desk,
            };
            built[me.peer.0 as usize] = Some(Self::built(&view, &table));
        }
        built.into_iter().flatten().collect()
    }

    fn bound(_: &Config, from: &Guid, to: &Guid) -> usize {
        // Each hop shares one more bit with the target.
        let shared = from.point().zip(to.point());
        let shared = shared.map_or(0, |(from, to)| from.shared_bits(to));
        (Point::BITS - shared) as usize
    }

    fn inspect(config: &Config, peers: &[(u32, &Self)], findings: &mut Findings) {
        let placed = peers.iter().filter_map(|(handle, peer)| {
            Some(Contact {
                point: peer.address()?.point()?,
                peer: Peer(*handle),
            })
        });
        let circle = Circle::from_iter(placed);
        let sorted: Vec<_> = circle.iter().collect();
        let size = usize::from(config.bucket);
        let living: BTreeSet<_> = sorted.iter().map(|it| it.peer.0).collect();
        let mut neighbours = Vec::new();
        for (handle, peer) in peers {
            let Some(point) = peer.address().and_then(Guid::point) else {
                continue;
            };
            let me = Contact {
                point,
                peer: Peer(*handle),
            };
            neighbours.clear();
            peer.neighbours(&mut neighbours);
            inspect(size, &sorted, &living, me, peer, &neighbours, findings);
        }
    }

    fn look_up<'a>(
        &'a self,
        view: &View<'_, Self>,
        circle: &Circle,
        key: &Key,
        table: &dyn Fn(Peer) -> Option<&'a Self>,
    ) -> Option<usize> {
        let target = Point::of_key(key);
        let (found, asked) = Self::look_up(self, view, target, table);
        let size = usize::from(view.config.bucket);
        let closest = circle.closest(target, size + 1);
        let others = closest.into_iter().filter(|it| it.peer != view.me);
        others.take(size).eq(found).then_some(asked)
    }

    type Shared = ();

    fn is_news(message: &Message) -> bool {
        matches!(message, Message::Found { .. } | Message::Leave)
    }
}

/// The subtrees beside a peer's own that hold anybody, the largest first: how many bits they share with
/// it, who is in them, and how many others are nearer.
fn subtrees(sorted: &[Contact], me: Contact) -> impl Iterator<Item = (u8, &[Contact], usize)> {
    let mut own = sorted;
    let all = (0..Point::BITS as u8).map_while(move |index| {
        if own.len() < 2 {
            return None;
        }
        let is_zero = |it: &Contact| it.point.digit(u32::from(index), 1) == 0;
        let (zeros, ones) = own.split_at(own.partition_point(is_zero));
        let (mine, other) = if is_zero(&me) {
            (zeros, ones)
        } else {
            (ones, zeros)
        };
        own = mine;
        Some((index, other, mine.len() - 1))
    });
    all.filter(|(_, other, _)| !other.is_empty())
}

/// A table as it would be after long: all siblings, and k peers of each other bucket, spread over it
/// and in random order.
fn fill(sorted: &[Contact], me: Contact, config: &Config, table: &mut Vec<Contact>) {
    let size = usize::from(config.bucket);
    let mut random = Random::new(me.point.value() as u64);
    for (_, others, nearer) in subtrees(sorted, me) {
        if nearer < size || others.len() <= size {
            table.extend(others);
            continue;
        }
        let start = table.len();
        let drawn = (0..size).map(|at| (at * others.len() + random.below(others.len())) / size);
        table.extend(drawn.map(|at| others[at]));
        // Those that connections are held to come first.
        random.shuffle(&mut table[start..], usize::from(config.links));
    }
}

fn inspect(
    size: usize,
    sorted: &[Contact],
    living: &BTreeSet<u32>,
    me: Contact,
    peer: &Kademlia,
    neighbours: &[Neighbour<Guid>],
    findings: &mut Findings,
) {
    let handle = me.peer.0;
    let table: Vec<_> = peer.table().collect();
    let shared = |it: &Neighbour<Guid>| it.address.point().map(|it| me.point.shared_bits(it));
    let mut near: Vec<Contact> = Vec::new();
    for (index, others, nearer) in subtrees(sorted, me) {
        let mut listed = table.iter().filter(|(it, _)| *it == index);
        let is_known = listed.any(|(_, it)| living.contains(&it.0));
        findings.check(is_known, || {
            let count = others.len();
            format!("peer {handle} knows nobody in its bucket {index}, where {count} peers are")
        });
        let is_linked = neighbours.iter().any(|it| {
            it.linked && shared(it) == Some(u32::from(index)) && living.contains(&it.peer.0)
        });
        findings.check(is_linked, || {
            format!("peer {handle} has no connection into its bucket {index}")
        });
        if nearer < size {
            near.extend(others);
        }
    }
    near.sort_unstable_by_key(|it| it.point.xor(me.point));
    near.truncate(size);
    let missed = near
        .iter()
        .find(|it| !table.iter().any(|(_, listed)| *listed == it.peer));
    findings.check(missed.is_none(), || {
        let missed = missed.map_or(0, |it| it.peer.0);
        format!("peer {handle} does not know peer {missed}, one of its {size} closest")
    });
    let dead = neighbours.iter().find(|it| !living.contains(&it.peer.0));
    findings.check(dead.is_none(), || {
        let dead = dead.map_or(0, |it| it.peer.0);
        format!("peer {handle} holds on to peer {dead}, which is dead")
    });
}
