//! Takeover: when no member of the parent position lives, the ring below it chooses one of its own
//! to hold the same position, so that nobody below gets another GUID (HEALING.md, rules 10 and 14).
//! The heir of rank k acts after k x 1.5 s; its own old position, if it had children, is taken over
//! in turn. A takeover that was wrong leaves a position with two members: traffic, no harm.

use std::{sync::Arc, time::Duration};

use ringweave_ids::{Peer, Signature, Time};

use super::{
    Cx, Message, NOWHERE, Phase, Polyring, PositionId, Proof, Ring, Roster, Rule, Seat, Takeover,
    Timer,
    cluster::{Staffing, price},
    has_passed,
    record::{MAX_VOTES, vote_words},
    ring::Change,
};

use crate::Event;

/// The next heir acts so much later.
const RANK: Duration = Duration::from_millis(1_500);

/// Who knows nobody above waits so much longer: its siblings may.
const ORPHAN: Duration = Duration::from_secs(4);

/// How long votes are waited for; a majority ends it sooner.
const COUNT: Duration = Duration::from_millis(700);

/// Without any connection an heir waits this long: it may be the one that is cut off.
const ALONE: Duration = Duration::from_secs(15);

/// An election for the parent position, as this peer sees it.
#[derive(Clone, Debug)]
pub(super) struct Election {
    /// Since when I hear no parent; nothing while I still do.
    since: Option<Time>,
    rank: u32,
    /// Asked for votes already, and what came.
    votes: Option<Vec<(Peer, Signature)>>,
    /// Who asked for my vote while I still heard a parent.
    asked_by: Vec<Peer>,
}

impl Election {
    /// Shows the handles of voters and candidates.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        let votes = self.votes.iter().flatten();
        votes.for_each(|(voter, _)| see(*voter));
        self.asked_by.iter().for_each(|peer| see(*peer));
    }
}

impl Polyring {
    pub(super) fn has_no_parent(&self) -> bool {
        self.own.id != PositionId::CENTER && self.above.peers_of(self.own.id).next().is_none()
    }

    /// After every change: starts or ends an election.
    pub(super) fn watch_parent(&mut self, cx: &mut Cx<'_>) {
        let has_parent = self.own.id == PositionId::CENTER || !self.table.parent.is_empty();
        let is_off = cx.config().without == Some(Rule::Takeover);
        if has_parent || is_off {
            self.heal.election = None;
            return;
        }
        let rank = self.heir_rank(cx);
        let running = self
            .heal
            .election
            .as_ref()
            .filter(|election| election.since.is_some());
        if running.is_some_and(|election| election.votes.is_some() || election.rank <= rank) {
            return;
        }
        // A new vacancy, or an heir before me is gone as well.
        let since = running
            .and_then(|election| election.since)
            .unwrap_or(cx.now);
        let asked_by = self
            .heal
            .election
            .take()
            .map(|election| election.asked_by)
            .unwrap_or_default();
        for candidate in asked_by {
            self.vote(cx, candidate);
        }
        self.heal.round += 1;
        self.heal.election = Some(Box::new(Election {
            since: Some(since),
            rank,
            votes: None,
            asked_by: Vec::new(),
        }));
        // Where nobody above was ever known, the siblings may know somebody.
        let is_orphan = self.above.records().next().is_none();
        let patience = if is_orphan { ORPHAN } else { Duration::ZERO };
        let wait = (RANK * rank + patience).saturating_sub(cx.now.since(since));
        self.arm_probe(cx);
        cx.after(wait, Timer::Election(self.heal.round));
    }

    /// My place among the heirs that I hear: childless first, then those whose position has other
    /// members, then the longest granted.
    fn heir_rank(&self, cx: &Cx<'_>) -> u32 {
        let key = |record: &Arc<super::Member>| {
            let price = price(&self.own, &self.table.own, record);
            (price, record.sequence(), cx.id(record.peer))
        };
        let is_there =
            |record: &&Arc<super::Member>| record.peer == cx.me() || self.is_up(record.peer);
        let mut heirs: Vec<_> = self.own.living().filter(is_there).collect();
        heirs.sort_by_cached_key(|record| key(record));
        heirs
            .iter()
            .position(|record| record.peer == cx.me())
            .map_or(u32::MAX >> 16, |rank| rank as u32)
    }

    pub(super) fn on_election(&mut self, cx: &mut Cx<'_>, round: u32) {
        let Some(election) = self
            .heal
            .election
            .as_ref()
            .filter(|_| self.heal.round == round)
        else {
            return;
        };
        if !self.has_no_parent() || election.votes.is_some() {
            return;
        }
        let is_other = |peer: Peer| peer != cx.me();
        let has_others = self.own.peers().chain(self.above.peers()).any(is_other);
        if self.links.is_cut_off()
            && has_others
            && !election
                .since
                .is_some_and(|since| has_passed(cx.now, since, ALONE))
        {
            self.reach_out(cx);
            cx.after(COUNT, Timer::Election(round));
            return;
        }
        let mine = self.own_vote(cx);
        if let Some(election) = &mut self.heal.election {
            election.votes = Some(vec![mine]);
        }
        for peer in self.living_peers(&self.own, cx.me()) {
            if self.is_up(peer) {
                cx.send(
                    peer,
                    Message::Elect {
                        position: self.own.id,
                    },
                );
            }
        }
        cx.after(COUNT, Timer::Count(round));
        self.check_majority(cx);
    }

    pub(super) fn on_elect(&mut self, cx: &mut Cx<'_>, from: Peer, position: PositionId) {
        if position != self.own.id || !self.own.lives(from) {
            return;
        }
        if self.has_no_parent() {
            self.vote(cx, from);
            return;
        }
        // I still hear a parent, or think so: ask it, and vote once it is gone.
        let mut parents: Vec<_> = self.above.members_of(self.own.id).cloned().collect();
        parents.retain(|parent| self.is_up(parent.peer));
        for parent in parents {
            self.witness(cx, cx.me(), parent.peer, parent.incarnation);
        }
        let election = self.heal.election.get_or_insert_with(|| {
            Box::new(Election {
                since: None,
                rank: u32::MAX,
                votes: None,
                asked_by: Vec::new(),
            })
        });
        if !election.asked_by.contains(&from) && election.asked_by.len() < MAX_VOTES {
            election.asked_by.push(from);
        }
    }

    fn vote(&self, cx: &mut Cx<'_>, candidate: Peer) {
        let words = vote_words(cx.host(), self.own.id, &cx.id(candidate));
        let signature = cx.host().sign(&words);
        cx.send(
            candidate,
            Message::Vote {
                position: self.own.id,
                signature,
            },
        );
    }

    pub(super) fn on_vote(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        position: PositionId,
        signature: Signature,
    ) {
        let words = vote_words(cx.host(), position, &cx.id(cx.me()));
        if position != self.own.id || !self.own.lives(from) {
            return;
        }
        if !cx.host().verify(&cx.id(from), &words, &signature) {
            cx.fault("a vote that its voter did not sign");
            return;
        }
        let Some(votes) = self
            .heal
            .election
            .as_mut()
            .and_then(|election| election.votes.as_mut())
        else {
            return;
        };
        if votes.len() < MAX_VOTES && votes.iter().all(|(voter, _)| *voter != from) {
            votes.push((from, signature));
        }
        self.check_majority(cx);
    }

    fn check_majority(&mut self, cx: &mut Cx<'_>) {
        let votes = self
            .heal
            .election
            .as_ref()
            .and_then(|election| election.votes.as_ref())
            .map_or(0, Vec::len);
        if votes * 2 > self.own.peers().count() || votes == MAX_VOTES {
            self.take_over(cx);
        }
    }

    /// The votes have had their time: those who did not vote are gone, too, or will refute.
    pub(super) fn on_count(&mut self, cx: &mut Cx<'_>, round: u32) {
        let is_counting = self
            .heal
            .election
            .as_ref()
            .is_some_and(|election| election.votes.is_some());
        if self.heal.round == round && is_counting && self.has_no_parent() {
            self.take_over(cx);
        }
    }

    /// Who lives alone in its ring is the only heir of the parent position. Where nobody above lives
    /// either, it comes one position further inward with each hello, at last into the center.
    pub(super) fn succeed(&mut self, cx: &mut Cx<'_>) {
        if cx.config().without != Some(Rule::Takeover) {
            let mine = self.own_vote(cx);
            self.move_inward(cx, vec![mine]);
        }
    }

    /// For myself.
    fn own_vote(&self, cx: &Cx<'_>) -> (Peer, Signature) {
        let words = vote_words(cx.host(), self.own.id, &cx.id(cx.me()));
        (cx.me(), cx.host().sign(&words))
    }

    /// The election is won.
    fn take_over(&mut self, cx: &mut Cx<'_>) {
        let election = self.heal.election.take();
        if let Some(votes) = election.and_then(|election| election.votes) {
            self.move_inward(cx, votes);
        }
    }

    /// Moves one level inward, to the parent position: its GUID, its ring, its children.
    fn move_inward(&mut self, cx: &mut Cx<'_>, votes: Vec<(Peer, Signature)>) {
        let seat = Seat {
            ring: self.above.id,
            position: self.own.id,
        };
        let records = self.above.records();
        let of_position =
            records.filter(|it| it.seat.is_some_and(|it| it.position == seat.position));
        let last = of_position.map(|record| record.sequence()).max();
        let sequence = last.map_or(0, |last| last.saturating_add(1));
        let takeover = Takeover {
            seat,
            sequence,
            votes,
        };
        self.rise(cx, seat, Proof::Takeover(Arc::new(takeover)), None);
        self.staffing = Staffing::taken_over();
    }

    /// Moves one level inward: what was above is my ring now, and my ring the one below. `above` is
    /// the ring that lies above then, where somebody told.
    pub(super) fn rise(
        &mut self,
        cx: &mut Cx<'_>,
        seat: Seat,
        proof: Proof,
        above: Option<Roster>,
    ) {
        let orphans = self.living_peers(&self.below, cx.me());
        let above_id = above.as_ref().map_or(NOWHERE, |above| above.ring);
        let own = std::mem::replace(&mut self.above, Arc::new(Ring::new(above_id)));
        self.below = std::mem::replace(&mut self.own, Arc::unwrap_or_clone(own));
        let mut lineage = std::mem::take(&mut self.lineage);
        lineage.pop();
        // The ring above then, even where nobody in it is known.
        if above_id == NOWHERE
            && let Some(parent) = lineage.last()
        {
            let mut above = Ring::new(parent.grant.seat.ring);
            above.merge_position(parent.clone(), cx.now);
            self.above = Arc::new(above);
        }
        self.follow(lineage);
        self.heal.election = None;
        // All neighbours hear from me in any case.
        self.leads = true;
        self.staffing = Staffing::default();
        if let Some(above) = above {
            self.take_roster(cx, above);
        }
        self.occupy(cx, seat, proof);
        // Whoever was promoted out of this ring before me is my parent now.
        let of_parent = |record: &&Arc<super::Member>| {
            record.accusation.is_none() && record.seat.is_some_and(|it| it.position == seat.ring)
        };
        let parent = self.own.records().find(of_parent).cloned();
        if let Some(parent) = parent.filter(|it| it.seat.is_some_and(|it| it.ring == self.above.id))
        {
            Arc::make_mut(&mut self.above).merge_member(cx.host(), parent, cx.now);
        }
        let Some(record) = self.record.clone() else {
            return;
        };
        self.below.merge_member(cx.host(), record.clone(), cx.now);
        let position: Vec<_> = self
            .own
            .position(seat.position)
            .cloned()
            .into_iter()
            .collect();
        let children = self.living_peers(&self.below, cx.me());
        for peer in children {
            self.send_records(cx, peer, self.below.id, vec![record.clone()], Vec::new());
            self.send_records(cx, peer, seat.ring, vec![record.clone()], position.clone());
        }
        // My former children hold my former ring as the one above: now it has a vacancy.
        for peer in orphans {
            self.send_records(cx, peer, self.below.id, vec![record.clone()], Vec::new());
        }
        self.join.placed_at = cx.now;
        // What is said from here on is said from the new place.
        if self.place() && self.phase == Phase::Placed {
            cx.tell(Event::Placed(self.guid.clone()));
        }
        self.derive_tables([Change::Shape; 3]);
        // Who moved dials; a place is a place at once, its neighbours connect meanwhile.
        for peer in self.neighbourhood(cx.me(), |_| true) {
            if self.links.hold(peer) {
                cx.out.push(crate::Output::Open(peer));
            }
            if self.is_up(peer) {
                self.send_hello(cx, peer);
            }
        }
        debug_assert!(matches!(self.phase, Phase::Settling | Phase::Placed));
    }
}
