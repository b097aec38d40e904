//! A tree of peers with a fixed table: the smallest overlay that has directions.

use ringweave_ids::{Key, Peer, PeerId};
use ringweave_overlay::{Cx, Event, Hop, Input, Neighbour, Overlay, Reach, Target, View};
use serde::{Deserialize, Serialize};

/// Peer `i` has handle `i`; address `a` hangs below `parents[a]` and is held by `holders[a]`.
#[derive(Clone, Debug)]
pub struct Shape {
    pub parents: Vec<Option<u32>>,
    pub holders: Vec<Option<u32>>,
}

/// Tells a peer that its world is another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Word {
    /// These peers hold the addresses now.
    Holders(Vec<Option<u32>>),
    /// The link to the neighbour at this address is cut.
    Cut(u32),
    /// The link to the neighbour at this address stands again.
    Mend(u32),
    /// Every way leads through the neighbour at this address.
    Loop(u32),
    /// Peers, for the codec to swap.
    Greet(Vec<Peer>),
}

impl ringweave_overlay::Message for Word {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        if let Self::Greet(peers) = self {
            peers.iter_mut().for_each(visit);
        }
    }
}

/// The address a copy came from, and whether it only goes down from there.
pub type Span = (Option<u32>, bool);

pub struct Tree {
    me: u32,
    shape: Shape,
    cut: Vec<u32>,
    detour: Option<u32>,
    address: Option<u32>,
}

impl Tree {
    fn sits(&self) -> Option<u32> {
        self.shape
            .holders
            .iter()
            .position(|holder| *holder == Some(self.me))
            .map(|at| at as u32)
    }

    fn children(&self) -> impl Iterator<Item = u32> {
        let parents = self.shape.parents.iter().zip(0..);
        let mine = parents.filter(|(parent, _)| parent.is_some() && **parent == self.address);
        mine.map(|(_, child)| child)
    }

    /// The neighbouring address on the way to `to`.
    fn towards(&self, to: u32) -> Option<u32> {
        let me = self.address?;
        let mut at = to;
        while let Some(parent) = self.shape.parents[at as usize] {
            if parent == me {
                return Some(at);
            }
            at = parent;
        }
        self.shape.parents[me as usize]
    }

    fn owner(&self, key: &Key, choice: u8) -> Option<u32> {
        let holders = self.shape.holders.iter().zip(0..);
        let held = holders
            .filter(|(holder, _)| holder.is_some())
            .map(|(_, address)| address);
        let held = held.collect::<Vec<u32>>();
        let place = key.head().wrapping_add(u64::from(choice)) % held.len() as u64;
        held.get(place as usize).copied()
    }
}

impl Overlay for Tree {
    type Config = Shape;
    type Message = Word;
    type Timer = ();
    type Address = u32;
    type Span = Span;

    fn new(view: &View<'_, Self>) -> Self {
        Self {
            me: view.me.0,
            shape: view.config.clone(),
            cut: Vec::new(),
            detour: None,
            address: None,
        }
    }

    fn handle(&mut self, cx: &mut Cx<'_, Self>, input: Input<Self>) {
        match input {
            Input::Join(_) => {}
            Input::Received(_, Word::Holders(holders)) => self.shape.holders = holders,
            Input::Received(_, Word::Cut(address)) => self.cut.push(address),
            Input::Received(_, Word::Mend(address)) => self.cut.retain(|cut| *cut != address),
            Input::Received(_, Word::Loop(address)) => self.detour = Some(address),
            _ => return,
        }
        let sits = self.sits();
        if let Some(address) = sits.filter(|_| sits != self.address) {
            cx.tell(Event::Placed(address));
        }
        self.address = sits;
        cx.tell(Event::Changed);
    }

    fn address(&self) -> Option<&u32> {
        self.address.as_ref()
    }

    fn next_hop(&self, _: &View<'_, Self>, target: &Target<u32>, _: u64) -> Hop<u32> {
        let to = match target {
            Target::Peer { address, .. } | Target::Holder(address) => Some(*address),
            Target::Key { key, choice, .. } => self.owner(key, *choice),
            Target::Prefix(_) | Target::All => None,
        };
        let holder = |at: u32| self.shape.holders.get(at as usize).copied().flatten();
        let Some(to) = to.filter(|to| holder(*to).is_some()) else {
            return Hop::Nobody;
        };
        if Some(to) == self.address {
            return Hop::Arrived;
        }
        let next = self
            .detour
            .or_else(|| self.towards(to))
            .filter(|next| !self.cut.contains(next));
        next.and_then(holder)
            .map_or(Hop::Cut, |peer| Hop::To(Peer(peer)))
    }

    fn span(&self, reach: Reach) -> Span {
        (None, reach == Reach::Below)
    }

    fn fan_out(&self, span: &Span, _: u64, copies: &mut Vec<(Peer, Span)>) {
        let (from, is_down) = *span;
        let parent = self.address.and_then(|me| self.shape.parents[me as usize]);
        let parent = parent.filter(|_| !is_down).map(|parent| (parent, false));
        let ways = parent
            .into_iter()
            .chain(self.children().map(|child| (child, true)));
        for (to, is_down) in ways.filter(|(to, _)| Some(*to) != from && !self.cut.contains(to)) {
            if let Some(peer) = self.shape.holders[to as usize] {
                copies.push((Peer(peer), (self.address, is_down)));
            }
        }
    }

    fn closest(&self, _: &View<'_, Self>, _: &Target<u32>, _: usize, _: &mut Vec<Peer>) {}

    /// Its neighbours, whatever the key.
    fn replicas(&self, _: &View<'_, Self>, _: &Key, n: usize, found: &mut Vec<Peer>) {
        let mut table = Vec::new();
        self.neighbours(&mut table);
        let linked = table.into_iter().filter(|entry| entry.linked);
        found.extend(linked.map(|entry| entry.peer).take(n));
    }

    fn locate(&self, view: &View<'_, Self>, peer: &PeerId) -> Option<u32> {
        let mut table = Vec::new();
        self.neighbours(&mut table);
        let entry = table.into_iter().find(|entry| view.id(entry.peer) == *peer);
        entry.map(|entry| entry.address)
    }

    fn neighbours(&self, found: &mut Vec<Neighbour<u32>>) {
        let parent = self.address.and_then(|me| self.shape.parents[me as usize]);
        let parent = parent.map(|parent| (parent, "parent"));
        let children = self.children().map(|child| (child, "child"));
        for (address, role) in parent.into_iter().chain(children) {
            if let Some(peer) = self.shape.holders[address as usize] {
                let linked = !self.cut.contains(&address);
                found.push(Neighbour {
                    peer: Peer(peer),
                    role,
                    address,
                    linked,
                });
            }
        }
    }

    fn uses(&self, used: &mut Vec<Peer>) {
        let holders = self.shape.holders.iter().flatten();
        used.extend(holders.map(|holder| Peer(*holder)));
    }
}
