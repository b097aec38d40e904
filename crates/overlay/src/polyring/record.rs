//! What is written down about a ring, each piece signed by who may write it.
//!
//! - a [`Member`] record, by the peer itself: which position it holds;
//! - a [`Grant`], by the ring's keeper: that a new position is the peer's, under which coordinate; or
//!   by a member of a position: that the peer is a member of it, too;
//! - a [`Label`], by the ring's keeper: another coordinate for a position;
//! - a [`Census`], by a member of the position: how many peers live at and below it;
//! - an [`Accusation`], by neighbours: that they no longer hear a peer.
//!
//! What is signed names peers by PeerId; the records themselves carry handles.

use std::{cmp::Reverse, sync::Arc};

use ringweave_ids::{Peer, PeerId, Signature};
use serde::{Deserialize, Serialize};

use super::words::Words;
use crate::{Host, View, polyring::Polyring};

/// The permanent id of a position, and of the ring below it. 0 is the center.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PositionId(pub u64);

impl PositionId {
    /// The parent position that the center ring would have.
    pub const CENTER: Self = Self(0);

    /// The id of a position at its first grant (DESIGN.md, decision 10): nobody chooses it.
    pub fn new(host: &dyn Host, ring: Self, first: &PeerId, nonce: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(b"pos")
            .update(host.network())
            .update(&ring.0.to_le_bytes());
        hasher.update(first.as_bytes()).update(&nonce.to_le_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self(u64::from_le_bytes(head).max(1))
    }

    /// The tag that addresses carry for it: the low 32 bits, never 0.
    pub const fn tag(self) -> u32 {
        let low = self.0 as u32;
        if low == 0 { 1 } else { low }
    }
}

/// A place in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seat {
    /// The ring: the id of its parent position.
    pub ring: PositionId,
    /// The position.
    pub position: PositionId,
}

/// A peer's own word about where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub peer: Peer,
    /// Larger than in every earlier record of this peer.
    pub incarnation: u64,
    /// Where; nowhere after it left. In a roster, a record of another ring says that the peer moved.
    pub seat: Option<Seat>,
    /// By what right.
    pub proof: Proof,
    /// Whether others cannot dial it, as far as it knows.
    pub is_private: bool,
    /// By the peer.
    pub signature: Signature,
    /// Why others take it for dead, at this incarnation.
    pub accusation: Option<Accusation>,
}

/// By what right a peer holds a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// The keeper granted it.
    Grant(Arc<Grant>),
    /// All members of the position were gone, and the ring below it chose this peer.
    Takeover(Arc<Takeover>),
    /// It holds none.
    None,
}

/// A word that a position is a peer's: by the ring's keeper that founded it for the peer, or by a
/// member of the position that took the peer in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whose.
    pub peer: Peer,
    /// Which position of which ring.
    pub seat: Seat,
    /// Its coordinate then.
    pub coordinate: u32,
    /// The label of the branch that starts here, as `/eu/dk`; empty for none.
    pub branch: String,
    /// Larger than in every earlier grant of the ring, or seat of the position, that the signer knew:
    /// seniority.
    pub sequence: u64,
    /// Drawn by the signer; it is part of the id of the position that the grant founds.
    pub nonce: u64,
    /// The signer; nobody for the network's first grant, which the network's key signs.
    pub by: Option<Peer>,
    /// By the signer.
    pub signature: Signature,
}

/// The votes of a child ring for the peer that takes its parent position over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// Which position.
    pub seat: Seat,
    /// The seniority it has there: that of the position's last member, plus one.
    pub sequence: u64,
    /// Signatures of members of the ring below, at most [`MAX_VOTES`].
    pub votes: Vec<(Peer, Signature)>,
}

/// Votes that a takeover carries: more would not say more in a ring of common size.
pub(super) const MAX_VOTES: usize = 32;

/// A new coordinate for a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Which ring and position.
    pub seat: Seat,
    /// The coordinate.
    pub coordinate: u32,
    /// 0 is the grant's; larger wins.
    pub version: u32,
    /// The keeper that wrote it.
    pub by: Peer,
    /// By the keeper.
    pub signature: Signature,
}

/// How many peers live at and below a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Which ring and position.
    pub seat: Seat,
    /// How many, this position's members included.
    pub population: u32,
    /// Larger wins.
    pub version: u64,
    /// The member of the position that counted.
    pub by: Peer,
    /// By that member.
    pub signature: Signature,
}

/// That neighbours no longer hear a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accusation {
    /// Who says so, in order of PeerId, at most [`MAX_ACCUSERS`].
    pub by: Vec<(Peer, Signature)>,
}

/// Two observers, where there are two (DESIGN.md, decision 10).
pub(super) const MAX_ACCUSERS: usize = 2;

/// What a position is, apart from who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The grant that founded it.
    pub grant: Arc<Grant>,
    /// What was written of it since. Most positions are leaves, and have nothing.
    later: Option<Arc<Later>>,
}

/// What was written of a position after its grant: at least one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Later {
    label: Option<Arc<Label>>,
    census: Option<Arc<Census>>,
}

impl Position {
    /// A position with a later coordinate and the last count of its branch, where there are any.
    pub fn new(grant: Arc<Grant>, label: Option<Arc<Label>>, census: Option<Arc<Census>>) -> Self {
        let is_plain = label.is_none() && census.is_none();
        let later = (!is_plain).then(|| Arc::new(Later { label, census }));
        Self { grant, later }
    }

    /// The same position, without any count.
    #[must_use]
    pub(super) fn uncounted(self) -> Self {
        match self.census() {
            Some(_) => Self::new(self.grant.clone(), self.label().cloned(), None),
            None => self,
        }
    }

    /// Whether this is the very same, and not only equal.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        fn is_same<T>(mine: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
            mine.map(Arc::as_ptr) == other.map(Arc::as_ptr)
        }
        Arc::ptr_eq(&self.grant, &other.grant)
            && is_same(self.label(), other.label())
            && is_same(self.census(), other.census())
    }

    /// A later coordinate, if it was given one.
    pub fn label(&self) -> Option<&Arc<Label>> {
        self.later.as_ref()?.label.as_ref()
    }

    /// The last count of its branch, if one was made.
    pub fn census(&self) -> Option<&Arc<Census>> {
        self.later.as_ref()?.census.as_ref()
    }

    /// The same position under another coordinate.
    #[must_use]
    pub fn relabelled(&self, label: Arc<Label>) -> Self {
        Self::new(self.grant.clone(), Some(label), self.census().cloned())
    }

    /// The same position, counted anew.
    #[must_use]
    pub fn recounted(&self, census: Arc<Census>) -> Self {
        Self::new(self.grant.clone(), self.label().cloned(), Some(census))
    }

    /// Whether it is written in the one way that there is.
    pub(super) fn is_normal(&self) -> bool {
        self.later.is_none() || self.label().is_some() || self.census().is_some()
    }

    /// Its permanent id.
    pub fn id(&self) -> PositionId {
        self.grant.seat.position
    }

    /// Its coordinate now.
    pub fn coordinate(&self) -> u32 {
        self.label()
            .map_or(self.grant.coordinate, |label| label.coordinate)
    }

    /// The version of its coordinate.
    pub fn version(&self) -> u32 {
        self.label().map_or(0, |label| label.version)
    }

    /// Of two positions with one coordinate the one with the smaller claim keeps it: the larger branch,
    /// else the one that was granted first (HEALING.md, rule 8).
    pub(super) fn claim(&self) -> impl Ord + use<> {
        (Reverse(self.population()), self.grant.sequence, self.id())
    }

    /// Peers at and below it, as last counted; at least one.
    pub fn population(&self) -> u32 {
        self.census().map_or(1, |census| census.population.max(1))
    }
}

impl Member {
    /// Writes and signs a record of the machine's own peer.
    pub fn signed(
        view: &View<'_, Polyring>,
        incarnation: u64,
        seat: Option<Seat>,
        proof: Proof,
    ) -> Arc<Self> {
        let mut record = Self {
            peer: view.me,
            incarnation,
            seat,
            proof,
            is_private: view.profile.is_private,
            signature: Signature([0; 64]),
            accusation: None,
        };
        record.signature = view.host.sign(&record.words(view.host));
        Arc::new(record)
    }

    /// Whether the peer itself signed it.
    pub fn is_signed(&self, host: &dyn Host) -> bool {
        let words = self.words(host);
        host.verify(&host.id(self.peer), &words, &self.signature)
    }

    /// Whether those who accuse it, if anybody does, are others and signed that, and are not too many.
    pub fn is_accusation_signed(&self, host: &dyn Host) -> bool {
        let Some(accusation) = &self.accusation else {
            return true;
        };
        let words = accusation_words(host, &host.id(self.peer), self.incarnation);
        let is_signed = |(accuser, signature): &(Peer, Signature)| {
            *accuser != self.peer && host.verify(&host.id(*accuser), &words, signature)
        };
        let count = accusation.by.len();
        (1..=MAX_ACCUSERS).contains(&count) && accusation.by.iter().all(is_signed)
    }

    fn words(&self, host: &dyn Host) -> Words {
        let claim = match &self.proof {
            Proof::Grant(grant) => Some(&grant.signature),
            Proof::Takeover(takeover) => takeover.votes.first().map(|(_, signature)| signature),
            Proof::None => None,
        };
        Words::of("member", host, |words| {
            words.number(self.incarnation).maybe(self.seat, Words::seat);
            words.maybe(claim, |words, claim| words.raw(&claim.0));
            words.number(u64::from(self.is_private));
        })
    }

    /// Its seniority among the members of its position: smaller is older.
    pub fn sequence(&self) -> u64 {
        match &self.proof {
            Proof::Grant(grant) => grant.sequence,
            Proof::Takeover(takeover) => takeover.sequence,
            Proof::None => u64::MAX,
        }
    }

    /// Whether it is a living member of `ring`.
    pub fn lives_in(&self, ring: PositionId) -> bool {
        self.accusation.is_none() && self.seat.is_some_and(|seat| seat.ring == ring)
    }

    /// Whether it replaces `other`, a record of the same peer.
    pub fn outranks(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        !Arc::ptr_eq(self, other) && self.rank() > other.rank()
    }

    /// What decides between two records of one peer: the larger wins. It covers all that is signed,
    /// so that two records of one rank are one record.
    fn rank(&self) -> impl PartialOrd + use<'_> {
        let accuser = |at: usize| {
            self.accusation
                .as_ref()
                .and_then(|it| it.by.get(at))
                .map(|vote| &vote.1.0)
        };
        (
            self.incarnation,
            self.accusation.is_some(),
            &self.signature.0,
            accuser(0),
            accuser(1),
        )
    }
}

impl Grant {
    /// Signs the grant as the machine's own peer, or as the network where `by` is nobody.
    /// Nothing, if that needs the network's key and the host does not hold it.
    pub fn sign(mut self, host: &dyn Host) -> Option<Arc<Self>> {
        let words = self.words(host);
        self.signature = match self.by {
            Some(_) => host.sign(&words),
            None => host.sign_as_network(&words)?,
        };
        Some(Arc::new(self))
    }

    /// Whether its signer (or the network) signed it.
    pub fn is_signed(&self, host: &dyn Host) -> bool {
        let words = self.words(host);
        match self.by {
            Some(signer) => host.verify(&host.id(signer), &words, &self.signature),
            None => host.verify_network(&words, &self.signature),
        }
    }

    /// Whether it founds its position: the position's id follows from it, so that nobody chooses one.
    pub fn founds(&self, host: &dyn Host) -> bool {
        let id = PositionId::new(host, self.seat.ring, &host.id(self.peer), self.nonce);
        id == self.seat.position
    }

    fn words(&self, host: &dyn Host) -> Words {
        Words::of("grant", host, |words| {
            words.raw(host.id(self.peer).as_bytes()).seat(self.seat);
            words.number(u64::from(self.coordinate)).text(&self.branch);
            words.number(self.sequence).number(self.nonce);
            words.maybe(self.by, |words, keeper| {
                words.raw(host.id(keeper).as_bytes())
            });
        })
    }
}

impl Label {
    /// Signs the label as the machine's own peer.
    pub fn sign(mut self, host: &dyn Host) -> Arc<Self> {
        self.signature = host.sign(&self.words(host));
        Arc::new(self)
    }

    /// Whether its keeper signed it.
    pub fn is_signed(&self, host: &dyn Host) -> bool {
        host.verify(&host.id(self.by), &self.words(host), &self.signature)
    }

    fn words(&self, host: &dyn Host) -> Words {
        Words::of("label", host, |words| {
            words.seat(self.seat).number(u64::from(self.coordinate));
            words.number(u64::from(self.version));
        })
    }
}

impl Census {
    /// Signs the count as the machine's own peer.
    pub fn sign(mut self, host: &dyn Host) -> Arc<Self> {
        self.signature = host.sign(&self.words(host));
        Arc::new(self)
    }

    /// Whether its counter signed it.
    pub fn is_signed(&self, host: &dyn Host) -> bool {
        host.verify(&host.id(self.by), &self.words(host), &self.signature)
    }

    fn words(&self, host: &dyn Host) -> Words {
        Words::of("census", host, |words| {
            words.seat(self.seat).number(u64::from(self.population));
            words.number(self.version);
        })
    }
}

/// What an accuser signs.
pub(super) fn accusation_words(host: &dyn Host, suspect: &PeerId, incarnation: u64) -> Words {
    Words::of("dead", host, |words| {
        words.raw(suspect.as_bytes()).number(incarnation);
    })
}

/// What a voter signs.
pub(super) fn vote_words(host: &dyn Host, position: PositionId, candidate: &PeerId) -> Words {
    Words::of("takeover", host, |words| {
        words.number(position.0).raw(candidate.as_bytes());
    })
}

impl Member {
    /// Shows every handle in the record.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        see(self.peer);
        match &self.proof {
            Proof::Grant(grant) => grant.handles(see),
            Proof::Takeover(takeover) => takeover.votes.iter().for_each(|(voter, _)| see(*voter)),
            Proof::None => {}
        }
        let accusers = self.accusation.iter().flat_map(|accusation| &accusation.by);
        accusers.for_each(|(accuser, _)| see(*accuser));
    }
}

impl Grant {
    /// Shows every handle in the grant.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        see(self.peer);
        self.by.into_iter().for_each(see);
    }
}

impl Position {
    /// Shows every handle in the record.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        self.grant.handles(see);
        self.label().iter().for_each(|label| see(label.by));
        self.census().iter().for_each(|census| see(census.by));
    }
}

/// Records know their handles, so that a host can swap them.
pub(super) trait Visit {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer));
}

impl Visit for Grant {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        visit(&mut self.peer);
        if let Some(keeper) = &mut self.by {
            visit(keeper);
        }
    }
}

impl Visit for Member {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        visit(&mut self.peer);
        match &mut self.proof {
            Proof::Grant(grant) => Arc::make_mut(grant).visit(visit),
            Proof::Takeover(takeover) => {
                Arc::make_mut(takeover)
                    .votes
                    .iter_mut()
                    .for_each(|(voter, _)| visit(voter));
            }
            Proof::None => {}
        }
        if let Some(accusation) = &mut self.accusation {
            accusation
                .by
                .iter_mut()
                .for_each(|(accuser, _)| visit(accuser));
        }
    }
}

impl Visit for Position {
    fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
        Arc::make_mut(&mut self.grant).visit(visit);
        let Some(later) = self.later.as_mut().map(Arc::make_mut) else {
            return;
        };
        if let Some(label) = &mut later.label {
            visit(&mut Arc::make_mut(label).by);
        }
        if let Some(census) = &mut later.census {
            visit(&mut Arc::make_mut(census).by);
        }
    }
}

/// The context of a polyring's inputs.
pub(super) type Cx<'a> = crate::Cx<'a, Polyring>;
