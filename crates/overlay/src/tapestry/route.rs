//! The pure questions: where next, whom a broadcast is delegated to, who is near.

use ringweave_ids::{Guid, Peer, Point};

use super::{Config, Tapestry};
use crate::{Contact, Hop, Target, digits::Slot};

impl Tapestry {
    pub(super) fn is_up(&self, peer: Peer) -> bool {
        self.links.is_up(peer)
    }

    /// All of the mesh to which connections stand.
    pub(super) fn linked(&self) -> impl Iterator<Item = Contact> {
        self.digits.iter().filter(|it| self.is_up(it.peer))
    }

    /// The nearest peer of a slot that a connection leads to.
    fn delegate(&self, slot: Slot, except: Option<Peer>) -> Option<Contact> {
        let mut entries = self.digits.slot(slot).iter().map(|it| it.contact());
        entries.find(|it| self.is_up(it.peer) && Some(it.peer) != except)
    }

    /// The next peer towards the root of a point; nobody if this one is the root (the paper's
    /// *NextHop*, section 3.1). The peer `except` is taken for absent.
    ///
    /// Digit by digit: where nobody goes on with the point's digit, the next digit up stands in for it,
    /// after the last the first. All that share a prefix see the same slots empty, so all take the same
    /// turn.
    pub(super) fn toward(&self, point: Point, except: Option<Peer>) -> Option<Contact> {
        for row in self.digits.rows() {
            let mine = self.digits.digit(self.me.point, row);
            let wanted = self.digits.digit(point, row);
            let last = self.digits.last();
            let turns = (0..=last).map(|turn| wanted.wrapping_add(turn) & last);
            for column in turns.take_while(|column| *column != mine) {
                let slot = Slot { row, column };
                if let Some(next) = self.delegate(slot, except) {
                    return Some(next);
                }
            }
        }
        None
    }

    /// The peer with the next digit of a point, and nobody in its place.
    fn exact(&self, point: Point) -> Option<Contact> {
        self.delegate(self.digits.slot_of(point)?, None)
    }

    pub(super) fn step(&self, config: &Config, target: &Target<Guid>) -> Hop<Guid> {
        let Some(point) = target.point() else {
            return match target {
                Target::All => Hop::Arrived,
                _ => Hop::Nobody,
            };
        };
        if point == self.me.point {
            return Hop::Arrived;
        }
        if let Some(there) = self.linked().find(|it| it.point == point) {
            return Hop::To(there.peer);
        }
        let next = match config.has_surrogates {
            true => self.toward(point, None),
            false => self.exact(point),
        };
        match next {
            Some(next) => Hop::To(next.peer),
            None if self.is_cut_off() => Hop::Cut,
            None => match target {
                Target::Key { .. } => Hop::Arrived,
                _ => Hop::Nobody,
            },
        }
    }

    /// Whether the mesh names peers, and no connection leads to any.
    fn is_cut_off(&self) -> bool {
        self.digits.iter().next().is_some() && self.linked().next().is_none()
    }

    /// From row `first` on, each slot's nearest peer gets all that share its prefix with it.
    pub(super) fn copy(&self, first: u8, copies: &mut Vec<(Peer, u8)>) {
        let slots = self.digits.slots().filter(|(slot, _)| slot.row >= first);
        copies.extend(slots.filter_map(|(slot, _)| {
            let delegate = self.delegate(slot, None)?;
            Some((delegate.peer, slot.row + 1))
        }));
    }

    /// Those that share most with a point first, of these the numerically closest.
    pub(super) fn nearest(&self, point: Point, n: usize, found: &mut Vec<Peer>) {
        let mut linked: Vec<_> = self.linked().collect();
        linked.sort_unstable_by_key(|it| it.point.xor(point));
        found.extend(linked.iter().map(|it| it.peer).take(n));
    }
}

#[cfg(test)]
mod tests {
    use ringweave_ids::{Key, Random};

    use super::*;
    use crate::{digits::Digits, phase::Phase};

    /// A mesh with all that belongs there; handles are places in the list.
    fn mesh(peers: u32) -> Vec<Tapestry> {
        let point = |peer: u32| Point::of_key(&Key::of("peer", &peer.to_le_bytes()));
        let contact = |peer| Contact {
            point: point(peer),
            peer: Peer(peer),
        };
        let of = |me: u32| {
            let mut mesh = Tapestry {
                me: contact(me),
                guid: point(me).into(),
                phase: Phase::Placed,
                contacts: Vec::new(),
                attempt: 0,
                root: None,
                digits: Digits::new(point(me), 4, 3),
                links: crate::links::Links::default(),
                requests: crate::requests::Requests::default(),
                lost: crate::lost::Lost::default(),
                pace: crate::pace::Pace::default(),
                compared: 0,
                is_altered: false,
            };
            // Everybody begins elsewhere, so that tables differ.
            for other in (0..peers).map(|other| (other + me) % peers) {
                mesh.digits.learn(contact(other));
                mesh.links.set_up(Peer(other), true);
            }
            mesh
        };
        (0..peers).map(of).collect()
    }

    fn root(mesh: &[Tapestry], from: usize, point: Point) -> usize {
        let mut at = from;
        for _ in 0..32 {
            match mesh[at].toward(point, None) {
                Some(next) => at = next.peer.0 as usize,
                None => return at,
            }
        }
        panic!("{point} has no root from {from}");
    }

    #[test]
    fn a_point_has_one_root_wherever_the_way_begins() {
        let mesh = mesh(150);
        let mut random = Random::new(1);
        for _ in 0..200 {
            let drawn = u128::from(random.bits()) << 64 | u128::from(random.bits());
            let point = Point::new(drawn);
            let first = root(&mesh, 0, point);
            assert!((1..150).all(|from| root(&mesh, from, point) == first));
        }
    }

    /// Section 4.2: behind the nearest of a slot stand two others, who see to it that any two peers may
    /// die and every point still has one root, the one that it has where they never were.
    #[test]
    fn backups_stand_in_so_that_roots_stay_one() {
        let mut random = Random::new(2);
        for _ in 0..20 {
            let mut mesh = mesh(100);
            let dead = [0; 2].map(|_: i32| random.below(100));
            for peer in &mut mesh {
                dead.iter().for_each(|dead| {
                    peer.links.set_up(Peer(*dead as u32), false);
                });
            }
            let living: Vec<_> = (0..100).filter(|it| !dead.contains(it)).collect();
            let drawn = u128::from(random.bits()) << 64 | u128::from(random.bits());
            let points = dead.map(|dead| mesh[dead].me.point);
            for point in points.into_iter().chain([Point::new(drawn)]) {
                let first = root(&mesh, living[0], point);
                assert!(living.contains(&first));
                let mut roots = living.iter().map(|from| root(&mesh, *from, point));
                assert!(roots.all(|root| root == first));
            }
        }
    }

    #[test]
    fn a_peer_is_the_root_of_its_own_point() {
        let mesh = mesh(40);
        for to in 0..40 {
            assert_eq!(root(&mesh, (to + 7) % 40, mesh[to].me.point), to);
        }
    }

    #[test]
    fn a_broadcast_reaches_everyone_once() {
        let mesh = mesh(150);
        let (mut reached, mut open) = (vec![3], vec![(Peer(3), 0)]);
        while let Some((at, span)) = open.pop() {
            let mut copies = Vec::new();
            mesh[at.0 as usize].copy(span, &mut copies);
            reached.extend(copies.iter().map(|(peer, _)| peer.0));
            open.extend(copies);
        }
        reached.sort_unstable();
        assert_eq!(reached, (0..150).collect::<Vec<_>>());
    }
}
