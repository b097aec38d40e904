//! The rings of a network, asked for peer by peer from the center outward.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use ringweave_ids::{Guid, PeerId, Time};
use ringweave_node::{Command, Destination, Failure, Listing};
use ringweave_overlay::Topology;

use super::{
    Hub,
    calls::{Pending, failed, reply},
};
use crate::handle::{Answer, CallError, Tree, TreePeer};

/// How long a tree may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Peers asked at once.
const ABREAST: usize = 16;
/// No tree is larger, whatever the caller asks for.
const LIMIT: usize = 65_536;

/// A tree under way.
pub(super) struct Walk {
    limit: usize,
    until: Time,
    found: BTreeMap<Vec<u32>, TreePeer>,
    known: BTreeSet<PeerId>,
    /// Found, and not asked yet.
    next: VecDeque<Guid>,
    open: usize,
    is_cut: bool,
    answer: Answer<Tree>,
}

impl Hub {
    pub(super) fn tree(&mut self, limit: usize, answer: Answer<Tree>) {
        let topology = self.book.about().settled.topology;
        if topology != Topology::Polyring {
            let why =
                format!("a {topology} network has no rings; its neighbours are told by peers");
            return reply(answer, Err(CallError::Unable(why)));
        }
        let Some(center) = self
            .node()
            .address()
            .and_then(|guid| guid.steps().first().copied())
        else {
            return reply(
                answer,
                Err(failed(Failure::NoRoute, "the center".into(), None)),
            );
        };
        let walk = Walk {
            limit: limit.min(LIMIT),
            until: self.now + DEADLINE,
            found: BTreeMap::new(),
            known: BTreeSet::new(),
            next: VecDeque::from([Guid::center().child(center)]),
            open: 0,
            is_cut: false,
            answer,
        };
        let number = self.calls.number();
        self.calls.trees.insert(number, walk);
        self.go_on(number);
    }

    /// Asks the next peers; a tree with nobody left to ask is whole.
    fn go_on(&mut self, number: u64) {
        loop {
            let Some(walk) = self.calls.trees.get_mut(&number) else {
                return;
            };
            if walk.open >= ABREAST {
                return;
            }
            let Some(guid) = walk.next.pop_front() else {
                break;
            };
            walk.open += 1;
            self.ask(
                Pending::Tree(number),
                Command::Inspect(Destination::Holder(guid)),
            );
        }
        if self
            .calls
            .trees
            .get(&number)
            .is_some_and(|walk| walk.open == 0)
        {
            self.end_tree(number);
        }
    }

    pub(super) fn on_listing(&mut self, number: u64, listing: Option<Listing<Guid>>) {
        let Some(walk) = self.calls.trees.get_mut(&number) else {
            return;
        };
        walk.open -= 1;
        match listing {
            None => walk.is_cut = true,
            Some(Listing { me, neighbours }) => {
                for placed in
                    std::iter::once(me).chain(neighbours.into_iter().map(|(placed, _)| placed))
                {
                    if walk.known.contains(&placed.id) {
                        continue;
                    }
                    if walk.found.len() >= walk.limit {
                        walk.is_cut = true;
                        break;
                    }
                    walk.known.insert(placed.id);
                    walk.next.push_back(placed.address.clone());
                    let order = placed
                        .address
                        .steps()
                        .iter()
                        .map(|step| step.coordinate)
                        .collect();
                    let peer = TreePeer {
                        guid: placed.address,
                        peer_id: placed.id,
                        name: placed.name,
                    };
                    walk.found.insert(order, peer);
                }
            }
        }
        self.go_on(number);
    }

    pub(super) fn expire_trees(&mut self) {
        let now = self.now;
        let late: Vec<_> = self
            .calls
            .trees
            .iter()
            .filter(|(_, walk)| walk.until <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            if let Some(walk) = self.calls.trees.get_mut(&number) {
                walk.is_cut = true;
            }
            self.end_tree(number);
        }
    }

    fn end_tree(&mut self, number: u64) {
        let Some(walk) = self.calls.trees.remove(&number) else {
            return;
        };
        let tree = if walk.found.is_empty() {
            Err(failed(Failure::NoRoute, "the center".into(), None))
        } else {
            Ok(Tree {
                peers: walk.found.into_values().collect(),
                truncated: walk.is_cut,
            })
        };
        reply(walk.answer, tree);
    }
}
