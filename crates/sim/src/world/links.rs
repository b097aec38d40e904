//! One peer's connections, as it sees them: dialled, standing, or resting after a failure.
//!
//! A handshake takes two round trips, as QUIC's and the greeting on it do: the dialled side takes
//! the connection for up after one and a half. The constants are those of `net`.

use std::time::Duration;

use ringweave_overlay::Overlay;

use super::event::Parcel;

/// Deadline of a dial.
pub(crate) const DIAL: u64 = 5_000_000;
/// A link that was silent for this long is down.
pub(crate) const SILENCE: u64 = 2_500_000;
/// A link that nobody holds is closed after this long without use.
pub(crate) const IDLE: u64 = 15_000_000;
/// How soon a peer that rests is called down again.
pub(crate) const NOT_NOW: u64 = 250_000;
/// The longest rest of a peer that could not be reached, reached by doubling from one second.
const REST: u64 = 8_000_000;
/// Frames that wait for a connection to one peer.
const WAITING: usize = 256;

/// A connection, or a dial.
pub(crate) struct Link {
    pub(crate) peer: u32,
    /// The other side's life that the connection stands with.
    pub(crate) life: u16,
    pub(crate) state: State,
    pub(crate) hold: Hold,
    /// While dialled, when that began; later when the last frame sent arrives there.
    pub(crate) at: u64,
}

/// What a connection is to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The node holds it.
    Held,
    /// It does not.
    Free,
    /// It does not, and was never told that it stands, as it has stood since before there was time.
    Unheard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Dialled,
    /// The other side rests after a failure: the dial fails without being made.
    Resting,
    Up,
}

/// All connections of a peer, and what waits for one.
pub(crate) struct Links<O: Overlay> {
    /// By handle.
    list: Vec<Link>,
    waiting: Vec<(u32, Box<Parcel<O>>)>,
    /// Peers that could not be reached: how often, and until when they are left alone.
    rests: Vec<(u32, u32, u64)>,
}

impl<O: Overlay> Default for Links<O> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            waiting: Vec::new(),
            rests: Vec::new(),
        }
    }
}

impl<O: Overlay> Links<O> {
    pub(crate) fn get(&mut self, peer: u32) -> Option<&mut Link> {
        let at = self.find(peer).ok()?;
        Some(&mut self.list[at])
    }

    /// A new dial, unless there is a dial or a connection; says whether it is one.
    pub(crate) fn dial(&mut self, peer: u32, now: u64) -> Option<State> {
        let Err(at) = self.find(peer) else {
            return None;
        };
        let is_resting = self
            .rests
            .iter()
            .any(|(it, _, until)| *it == peer && *until > now);
        let state = if is_resting {
            State::Resting
        } else {
            State::Dialled
        };
        self.insert(
            at,
            Link {
                peer,
                life: 0,
                state,
                hold: Hold::Free,
                at: now,
            },
        );
        Some(state)
    }

    /// The connection stands; says whether it did not before.
    pub(crate) fn establish(&mut self, peer: u32, life: u16, now: u64) -> bool {
        self.rests.retain(|(it, ..)| *it != peer);
        match self.find(peer) {
            Ok(at) => {
                let link = &mut self.list[at];
                let was_up = link.state == State::Up && link.life == life;
                (link.state, link.life) = (State::Up, life);
                if !was_up {
                    link.at = now;
                }
                !was_up
            }
            Err(at) => {
                self.insert(
                    at,
                    Link {
                        peer,
                        life,
                        state: State::Up,
                        hold: Hold::Free,
                        at: now,
                    },
                );
                true
            }
        }
    }

    pub(crate) fn remove(&mut self, peer: u32) -> Option<Link> {
        let at = self.find(peer).ok()?;
        if self.waiting.iter().any(|(to, _)| *to == peer) {
            self.waiting.retain(|(to, _)| *to != peer);
        }
        Some(self.list.remove(at))
    }

    /// A dial failed: the next one has to wait, twice as long each time.
    pub(crate) fn rest(&mut self, peer: u32, now: u64) {
        self.rests
            .retain(|(it, _, until)| *it == peer || *until + REST > now);
        let rest = |failures: u32| (1_000_000 << failures.min(3)).min(REST);
        match self.rests.iter_mut().find(|(it, ..)| *it == peer) {
            Some((_, failures, until)) => {
                *failures += 1;
                *until = now + rest(*failures);
            }
            None => self.rests.push((peer, 0, now + rest(0))),
        }
    }

    /// Keeps a frame until the connection stands; says whether there was room.
    pub(crate) fn keep(&mut self, peer: u32, parcel: Box<Parcel<O>>) -> bool {
        let has_room = self.waiting.iter().filter(|(to, _)| *to == peer).count() < WAITING;
        if has_room {
            self.waiting.push((peer, parcel));
        }
        has_room
    }

    /// What waited for this connection, in order.
    pub(crate) fn flush(&mut self, peer: u32) -> Vec<Box<Parcel<O>>> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let (due, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(to, _)| *to == peer);
        self.waiting = rest;
        let due: Vec<(u32, Box<Parcel<O>>)> = due;
        due.into_iter().map(|(_, parcel)| parcel).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.list.iter()
    }

    /// When the next dial or idle connection has had its time; `None` if there is none.
    pub(crate) fn due(&self) -> Option<u64> {
        self.list.iter().filter_map(Link::due).min()
    }

    fn find(&self, peer: u32) -> Result<usize, usize> {
        self.list.binary_search_by_key(&peer, |link| link.peer)
    }

    fn insert(&mut self, at: usize, link: Link) {
        if self.list.len() == self.list.capacity() {
            // A million peers: what doubling would leave unused adds up.
            self.list.reserve_exact(8);
        }
        self.list.insert(at, link);
    }
}

impl Link {
    /// Whether it stands, is not held here, and was hardly used of late.
    pub(crate) fn is_idle(&self, now: u64) -> bool {
        self.state == State::Up && self.hold != Hold::Held && self.at + IDLE / 2 <= now
    }

    /// When the dial has failed, or the connection, if still unused, is closed.
    pub(crate) fn due(&self) -> Option<u64> {
        match self.state {
            State::Dialled => Some(self.at + DIAL),
            State::Resting => Some(self.at + NOT_NOW),
            State::Up if self.hold != Hold::Held => Some(self.at + IDLE),
            State::Up => None,
        }
    }
}

/// A span in microseconds.
pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
