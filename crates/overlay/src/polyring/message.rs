//! What peers of a polyring tell each other, all of it upkeep.

use std::sync::Arc;

use ringweave_ids::{Guid, Peer, Signature};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{
    memory::{CENTER, HINTS, SAMPLE},
    record::{Grant, Member, Position, PositionId, Visit},
    ring::{Ring, Version},
};

/// Records in one message; more follow by repair.
pub(super) const MAX_RECORDS: usize = 128;

/// Levels of the deepest tree.
pub(super) const MAX_LINEAGE: usize = 48;

/// One message between two peers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// A newcomer looks for a place; passed on inward, then outward.
    Join(Box<Walk>),
    /// To a newcomer: measure these and walk on at the one that answers soonest.
    Choose {
        /// The newcomer's number for its search.
        nonce: u64,
        /// Heads of branches, at most [`MAX_RECORDS`].
        candidates: Vec<Peer>,
    },
    /// To a newcomer: this place is yours if you take it within 4 s.
    Offer(Box<Offer>),
    /// To a child: become a member of your parent position.
    Promote(Box<Offer>),
    /// On connecting and now and then: who I am and what I hold.
    Hello(Box<Hello>),
    /// My roster of a ring, in short: tell me what I lack.
    Summary {
        /// Which ring.
        ring: PositionId,
        /// Its digest: news under way may have made the rosters alike by now.
        digest: u64,
        /// What of it is of positions: where only this differs, a label does.
        places: u64,
        /// What I hold of it.
        versions: Vec<Version>,
    },
    /// Pieces of a roster.
    Records {
        /// Of which ring.
        ring: PositionId,
        /// Its members, at most [`MAX_RECORDS`].
        members: Vec<Arc<Member>>,
        /// Its positions, at most [`MAX_RECORDS`].
        positions: Vec<Position>,
        /// Heads of PeerIds whose records I want in return.
        wanted: Vec<u64>,
    },
    /// To a child: your parent position sits here.
    Lineage {
        /// The positions from the center to the parent position, at most [`MAX_LINEAGE`].
        positions: Vec<Position>,
        /// The longest-granted members of the center, at most [`CENTER`](super::memory::CENTER).
        center: Vec<Peer>,
    },
    /// Inward: peers of this network whose center is another one.
    Meet {
        /// Their center, as far as they know, and who was met.
        strangers: Vec<Peer>,
    },
    /// Do you hear the suspect? Answered after asking the suspect itself.
    Ask {
        /// Whom.
        suspect: Peer,
        /// In which incarnation.
        incarnation: u64,
    },
    /// What came of asking the suspect.
    Answer {
        /// Whom.
        suspect: Peer,
        /// In which incarnation.
        incarnation: u64,
        /// What is known of it.
        testimony: Testimony,
    },
    /// Say something: measures the round trip, and proves life.
    Ping(u64),
    /// Something, said.
    Pong(u64),
    /// All members of our parent position are gone: may I take it over?
    Elect {
        /// The parent position.
        position: PositionId,
    },
    /// You may.
    Vote {
        /// The parent position.
        position: PositionId,
        /// Over the position and the candidate.
        signature: Signature,
    },
    /// To a newcomer that searches for longer: others to ask, should I be gone by the next time.
    Contacts {
        /// The number of its search.
        nonce: u64,
        /// Neighbours of mine, at most [`HINTS`].
        peers: Vec<Peer>,
    },
}

/// A newcomer's search for a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Who: its own record, which says that it has no place, so that no earlier one is held for it.
    pub member: Arc<Member>,
    /// The peers that it came by, its contact first, at most [`MAX_HOPS`](super::grants::MAX_HOPS): an
    /// offer goes back by them, as nobody else may be able to dial the newcomer. Not kept at first.
    pub way: Option<Vec<Peer>>,
    /// Where it sat before, and would like to sit again.
    pub home: Option<Guid>,
    /// Positions below which it could reach nobody, at most [`SHUNNED`](super::join::SHUNNED).
    pub shunned: Vec<PositionId>,
    /// Its number for this search.
    pub nonce: u64,
    /// Where it belongs; empty for anywhere.
    pub label: String,
    /// How many parts of the label the way outward has used up.
    pub level: u8,
    /// Which way it goes.
    pub heading: Heading,
    /// Hops made, at most [`MAX_HOPS`](super::grants::MAX_HOPS).
    pub hops: u8,
    /// Peers anywhere in the network, put in by the center, at most
    /// [`HINTS`](super::memory::HINTS).
    pub hints: SmallVec<[Peer; HINTS]>,
}

/// Which way a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Heading {
    /// To the center.
    Inward,
    /// Into the ring below the receiver.
    Outward,
}

/// A place, offered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// The newcomer's number for its search; 0 where nobody searched.
    pub nonce: u64,
    /// By whom it still goes to the newcomer, the last first.
    pub way: Vec<Peer>,
    /// The place.
    pub grant: Arc<Grant>,
    /// The positions above the place, from the center outward, at most [`MAX_LINEAGE`].
    pub lineage: Vec<Position>,
    /// Peers anywhere in the network, at most [`HINTS`](super::memory::HINTS).
    pub hints: SmallVec<[Peer; HINTS]>,
    /// Peers that were lost together, at most [`SPLIT`](super::memory::SPLIT).
    pub split: Vec<Peer>,
    /// The ring of the place.
    pub own: Roster,
    /// The ring of the parent position; none in the center.
    pub above: Option<Roster>,
    /// The ring below the place, where there is one.
    pub below: Option<Roster>,
}

/// The living part of a ring's roster, as far as it fits into a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Roster {
    /// Which ring.
    pub ring: PositionId,
    /// Its members, at most [`MAX_RECORDS`].
    pub members: Vec<Arc<Member>>,
    /// Its positions, at most [`MAX_RECORDS`].
    pub positions: Vec<Position>,
}

impl Roster {
    /// What is known of a ring. Those that are gone belong to it: who had not heard that they are could
    /// take them for members, from one who has not heard it either.
    pub(super) fn of(ring: &Ring) -> Self {
        Self {
            ring: ring.id,
            members: ring.records().take(MAX_RECORDS).cloned().collect(),
            positions: ring.staffed().take(MAX_RECORDS).cloned().collect(),
        }
    }

    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        for member in &mut self.members {
            Arc::make_mut(member).visit(visit);
        }
        for position in &mut self.positions {
            position.visit(visit);
        }
    }
}

/// Who a peer is and what it holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Its own record.
    pub member: Arc<Member>,
    /// Its position.
    pub position: Position,
    /// The ring above its own; nothing in the center, or where it lacks it.
    pub above: Option<PositionId>,
    /// Digests of the rings it holds, at most three.
    pub digests: SmallVec<[(PositionId, u64); 3]>,
    /// The longest-granted members of its center.
    pub center: SmallVec<[Peer; CENTER]>,
    /// Some peers that it knows to live.
    pub sample: SmallVec<[Peer; SAMPLE]>,
    /// Some of those that it lost together with many others, which may live beyond a split.
    pub split: SmallVec<[Peer; SAMPLE]>,
    /// Why it is said, and so what it asks for.
    pub occasion: Occasion,
}

/// What one who was asked knows of a suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Testimony {
    /// It answers.
    Heard,
    /// It does not answer me, but this peer said that it hears it.
    Hearsay(Peer),
    /// It does not answer; the accusation, signed.
    Accused(Signature),
}

/// Why a hello is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Occasion {
    /// Its sender has just taken its place, and compares its rosters with somebody by itself: nothing is
    /// to be answered.
    Arrival,
    /// Neighbours say what they hold: who holds something else compares.
    Upkeep,
    /// The receiver may be no neighbour, and is asked for an answer.
    Greeting,
}

impl Walk {
    /// Who looks for a place.
    pub(super) fn joiner(&self) -> Peer {
        self.member.peer
    }

    /// Shows every handle in it.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        self.member.handles(see);
        let way = self.way.iter().flatten();
        way.chain(&self.hints).for_each(|peer| see(*peer));
    }
}

impl Message {
    /// Whether it is meant for one who has a place.
    pub(super) fn presumes_a_place(&self) -> bool {
        match self {
            Self::Hello(_)
            | Self::Summary { .. }
            | Self::Lineage { .. }
            | Self::Promote(_)
            | Self::Meet { .. }
            | Self::Ask { .. }
            | Self::Ping(_)
            | Self::Elect { .. } => true,
            Self::Join(_)
            | Self::Choose { .. }
            | Self::Offer(_)
            | Self::Records { .. }
            | Self::Answer { .. }
            | Self::Pong(_)
            | Self::Vote { .. }
            | Self::Contacts { .. } => false,
        }
    }
}

impl crate::Message for Message {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        match self {
            Self::Join(walk) => {
                Arc::make_mut(&mut walk.member).visit(visit);
                walk.way.iter_mut().flatten().for_each(&mut *visit);
                walk.hints.iter_mut().for_each(visit);
            }
            Self::Choose {
                candidates: peers, ..
            }
            | Self::Contacts { peers, .. }
            | Self::Meet { strangers: peers } => peers.iter_mut().for_each(visit),
            Self::Lineage { positions, center } => {
                for position in positions {
                    position.visit(visit);
                }
                center.iter_mut().for_each(visit);
            }
            Self::Offer(offer) | Self::Promote(offer) => {
                Arc::make_mut(&mut offer.grant).visit(visit);
                let others = offer.above.iter_mut().chain(&mut offer.below);
                for roster in [&mut offer.own].into_iter().chain(others) {
                    roster.visit(visit);
                }
                for position in &mut offer.lineage {
                    position.visit(visit);
                }
                offer
                    .hints
                    .iter_mut()
                    .chain(&mut offer.split)
                    .chain(&mut offer.way)
                    .for_each(visit);
            }
            Self::Hello(hello) => {
                Arc::make_mut(&mut hello.member).visit(visit);
                hello.position.visit(visit);
                let known = hello.center.iter_mut().chain(&mut hello.sample);
                known.chain(&mut hello.split).for_each(visit);
            }
            Self::Records {
                members, positions, ..
            } => {
                members
                    .iter_mut()
                    .for_each(|member| Arc::make_mut(member).visit(visit));
                positions
                    .iter_mut()
                    .for_each(|position| position.visit(visit));
            }
            Self::Answer {
                suspect, testimony, ..
            } => {
                visit(suspect);
                if let Testimony::Hearsay(voucher) = testimony {
                    visit(voucher);
                }
            }
            Self::Ask { suspect, .. } => visit(suspect),
            Self::Summary { .. }
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Elect { .. }
            | Self::Vote { .. } => {}
        }
    }
}
