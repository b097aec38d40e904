//! The connections of one peer: which stand, which it holds, and which its table asks for, as what.

use ringweave_ids::Peer;
use smallvec::SmallVec;

use crate::{Output, Overlay};

/// Connections by handle, in one small sorted array.
#[derive(Clone, Debug)]
pub(crate) struct Links<R>(Vec<Link<R>>);

/// A peer to which a connection stands, is held, or should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link<R> {
    pub(crate) peer: Peer,
    /// The connection stands.
    pub(crate) is_up: bool,
    /// This peer asked its host to hold it.
    pub(crate) is_held: bool,
    /// What the peer is to this one, as of the last settling; nothing where it is no neighbour.
    pub(crate) role: Option<R>,
}

/// Some neighbours.
pub(crate) type Linked = SmallVec<[Peer; 64]>;

impl<R> Default for Links<R> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<R: Copy + PartialEq> Links<R> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link<R>> {
        self.0.iter()
    }

    pub(crate) fn is_up(&self, peer: Peer) -> bool {
        self.get(peer).is_some_and(|link| link.is_up)
    }

    pub(crate) fn is_held(&self, peer: Peer) -> bool {
        self.get(peer).is_some_and(|link| link.is_held)
    }

    pub(crate) fn is_wanted(&self, peer: Peer) -> bool {
        self.get(peer).is_some_and(|link| link.role.is_some())
    }

    /// Whether no connection stands.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.0.iter().all(|link| !link.is_up)
    }

    /// Those that lead to neighbours.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &Link<R>> {
        self.0.iter().filter(|link| link.role.is_some())
    }

    /// Those of a role whose connections stand.
    pub(crate) fn linked(&self, role: R) -> impl Iterator<Item = Peer> {
        let linked = self
            .0
            .iter()
            .filter(move |it| it.is_up && it.role == Some(role));
        linked.map(|link| link.peer)
    }

    /// Notes that the connection stands, or no more; whether that is news.
    pub(crate) fn set_up(&mut self, peer: Peer, is_up: bool) -> bool {
        let link = self.entry(peer);
        let was_up = std::mem::replace(&mut link.is_up, is_up);
        was_up != is_up
    }

    /// Holds the connection; whether that is news.
    pub(crate) fn hold(&mut self, peer: Peer) -> bool {
        !std::mem::replace(&mut self.entry(peer).is_held, true)
    }

    pub(crate) fn release(&mut self, peer: Peer) {
        self.entry(peer).is_held = false;
    }

    /// Says anew which are wanted, and as what; gives those that are meant, each once, in their order.
    pub(crate) fn want(
        &mut self,
        peers: impl Iterator<Item = (Peer, R)>,
        is_meant: impl Fn(&Link<R>) -> bool,
    ) -> Linked {
        self.0.iter_mut().for_each(|link| link.role = None);
        let mut meant = Linked::new();
        peers.for_each(|(peer, role)| {
            let link = self.entry(peer);
            if link.role.is_none() {
                link.role = Some(role);
                if is_meant(link) {
                    meant.push(peer);
                }
            }
        });
        meant
    }

    /// Holds connections to these and to nobody else: what the host is to open and to close for it.
    pub(crate) fn follow<O: Overlay>(
        &mut self,
        wanted: impl Iterator<Item = (Peer, R)>,
        out: &mut Vec<Output<O>>,
    ) {
        for peer in self.want(wanted, |link| !link.is_held) {
            self.hold(peer);
            out.push(Output::Open(peer));
        }
        while let Some(peer) = self.surplus() {
            self.release(peer);
            out.push(Output::Close(peer));
        }
        self.tidy();
    }

    /// These are wanted, held and stand: the connections of a table that was built, not grown.
    pub(crate) fn build(&mut self, wanted: impl Iterator<Item = (Peer, R)>) {
        for peer in self.want(wanted, |_| true) {
            self.set_up(peer, true);
            self.hold(peer);
        }
    }

    /// The first held one that is not wanted.
    pub(crate) fn surplus(&self) -> Option<Peer> {
        let mut surplus = self
            .0
            .iter()
            .filter(|link| link.is_held && link.role.is_none());
        surplus.next().map(|link| link.peer)
    }

    /// Holds and wants none any more.
    pub(crate) fn let_go(&mut self) {
        for link in &mut self.0 {
            (link.is_held, link.role) = (false, None);
        }
        self.tidy();
    }

    /// Drops the links that are nothing any more.
    pub(crate) fn tidy(&mut self) {
        self.0
            .retain(|link| link.is_up || link.is_held || link.role.is_some());
    }

    fn get(&self, peer: Peer) -> Option<&Link<R>> {
        self.find(peer).ok().map(|at| &self.0[at])
    }

    fn entry(&mut self, peer: Peer) -> &mut Link<R> {
        let at = self.find(peer).unwrap_or_else(|at| {
            let link = Link {
                peer,
                is_up: false,
                is_held: false,
                role: None,
            };
            if self.0.len() == self.0.capacity() {
                self.0.reserve_exact(8 + self.0.len() / 8);
            }
            self.0.insert(at, link);
            at
        });
        &mut self.0[at]
    }

    fn find(&self, peer: Peer) -> Result<usize, usize> {
        self.0.binary_search_by_key(&peer.0, |link| link.peer.0)
    }
}
