//! Suspicion before removal: a lost connection is dialled again while common neighbours ask the
//! suspect themselves. Heard by one, it stays; heard by none, it is taken for dead, and may refute
//! (HEALING.md, rules 4 and 5). An open link is no vote: only an answer after the question is.

use std::{sync::Arc, time::Duration};

use ringweave_ids::{Peer, Signature, Time};
use smallvec::SmallVec;

use super::{
    Accusation, Cx, Member, Message, Polyring, PositionId, Rule, Testimony, Timer, has_passed,
    outline::Tiding,
    record::{MAX_ACCUSERS, accusation_words},
    table::{Link, Rank, Table},
    takeover::Election,
    witness::{WITNESS, Witnessed},
};
use crate::{Loss, Output};

/// Neighbours asked about a suspect, and at most where these do not make it clear.
const WITNESSES: usize = 3;
const MORE_WITNESSES: usize = 6;

/// How long they have to answer.
pub(super) const VERDICT: Duration = Duration::from_millis(1_000);

/// A peer without any connection may itself be the one that is cut off: it waits this long.
const ALONE: Duration = Duration::from_secs(15);

/// A peer that only others hear is dialled again so soon, twice as late each time, up to the last.
const REDIAL_FIRST: Duration = Duration::from_secs(1);
const REDIAL_LAST: Duration = Duration::from_secs(4);

/// Who was heard by others so lately is not taken for dead yet: a lost packet holds an answer up, and who
/// is not connected to it has only their word.
const HEARD: Duration = Duration::from_secs(8);

/// Losses within this span count together.
pub(super) const SPLIT_WINDOW: Duration = Duration::from_secs(10);

/// A split is thought possible for this long.
const SPLIT_MEMORY: Duration = Duration::from_secs(300);

/// Suspects, questions about them, and the election for the parent position.
#[derive(Clone, Debug, Default)]
pub(super) struct Healing {
    suspects: Vec<Suspect>,
    pub(super) witnessed: Vec<Witnessed>,
    pub(super) next_number: u64,
    pub(super) election: Option<Box<Election>>,
    pub(super) round: u32,
    losses: Losses,
    /// Since when no neighbour is connected.
    cut_off: Option<Time>,
}

/// How many neighbours were lost in the last seconds: many at once may be alive beyond a split.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    since: Time,
    count: u16,
    /// When a fifth of them was gone within the window.
    split: Option<Time>,
}

#[derive(Clone, Debug)]
struct Suspect {
    peer: Peer,
    incarnation: u64,
    since: Time,
    asked: SmallVec<[Asked; WITNESSES]>,
    votes: SmallVec<[(Peer, Signature); WITNESSES]>,
    /// Others hear it: who said so, and when to try again.
    redial: Option<Redial>,
    /// It is asked about for the second time, or more often.
    is_again: bool,
}

/// Who was asked about a suspect.
#[derive(Clone, Copy, Debug)]
struct Asked {
    peer: Peer,
    has_answered: bool,
}

/// A peer that others hear is tried again, and who hears it is asked again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Redial {
    pub(super) voucher: Peer,
    /// Whether the voucher does not hear it itself, but knows one who does, whom I cannot reach.
    pub(super) is_hearsay: bool,
    /// When that was said.
    heard: Time,
    wait: Duration,
}

impl Suspect {
    /// Whether everybody who was asked has said something.
    fn is_answered(&self) -> bool {
        self.asked.iter().all(|asked| asked.has_answered)
    }

    /// Somebody hears it: how long until it is tried again.
    fn vouch(&mut self, now: Time, voucher: Peer, is_hearsay: bool) -> Duration {
        let last = self.redial.map(|redial| redial.wait);
        let wait = last.map_or(REDIAL_FIRST, |last| (last * 2).min(REDIAL_LAST));
        self.asked.clear();
        self.votes.clear();
        self.is_again = false;
        self.redial = Some(Redial {
            voucher,
            is_hearsay,
            heard: now,
            wait,
        });
        wait
    }

    /// Whether others hear it, and nothing has been said against that since.
    fn is_content(&self) -> bool {
        self.redial.is_some() && self.asked.is_empty() && self.votes.is_empty()
    }

    fn has_asked(&self, peer: Peer) -> bool {
        self.asked.iter().any(|asked| asked.peer == peer)
    }
}

impl Healing {
    /// The peer is connected, or its suspicion is no longer this peer's business.
    pub(super) fn forget(&mut self, peer: Peer) {
        self.suspects.retain(|suspect| suspect.peer != peer);
    }

    /// One of the neighbours was taken for dead, and so many are left: whether a third of them went at
    /// once.
    pub(super) fn note_loss(&mut self, now: Time, left: usize) -> bool {
        let losses = &mut self.losses;
        if has_passed(now, losses.since, SPLIT_WINDOW) {
            (losses.since, losses.count) = (now, 0);
        }
        losses.count = losses.count.saturating_add(1);
        let count = usize::from(losses.count);
        if count >= 2 && count * 5 >= left + count {
            losses.split = Some(now);
        }
        count >= 2 && count * 3 >= left + count
    }

    /// Whether so many vanished together that the network may have split.
    pub(super) fn is_split_likely(&self, now: Time) -> bool {
        let split = self.losses.split;
        split.is_some_and(|split| !has_passed(now, split, SPLIT_MEMORY))
    }

    pub(super) fn suspects(&self, peer: Peer) -> bool {
        self.suspect(peer).is_some()
    }

    /// Whether questions about suspects are under way, for others.
    pub(super) fn is_witness(&self) -> bool {
        !self.witnessed.is_empty()
    }

    fn suspect(&self, peer: Peer) -> Option<&Suspect> {
        self.suspects.iter().find(|suspect| suspect.peer == peer)
    }

    fn suspect_mut(&mut self, peer: Peer) -> Option<&mut Suspect> {
        let mut suspects = self.suspects.iter_mut();
        suspects.find(|suspect| suspect.peer == peer)
    }

    /// Whether the peer is suspected, and others hear it.
    pub(super) fn is_vouched(&self, peer: Peer) -> bool {
        self.redial(peer).is_some()
    }

    pub(super) fn redial(&self, peer: Peer) -> Option<Redial> {
        let suspect = self.suspect(peer).filter(|suspect| !suspect.is_again);
        suspect?.redial
    }

    /// Whether the peer was connected to me last, and is suspected.
    pub(super) fn has_lost(&self, peer: Peer) -> bool {
        self.suspect(peer).is_some_and(|it| it.redial.is_none())
    }

    /// Shows every handle that a suspicion, a question about one, or the election names.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        for suspect in &self.suspects {
            see(suspect.peer);
            suspect.asked.iter().for_each(|asked| see(asked.peer));
            suspect.redial.iter().for_each(|redial| see(redial.voucher));
            suspect.votes.iter().for_each(|(voter, _)| see(*voter));
        }
        for witnessed in &self.witnessed {
            see(witnessed.asker);
            see(witnessed.suspect);
        }
        if let Some(election) = &self.election {
            election.handles(see);
        }
    }
}

impl Polyring {
    /// Whoever says something is there, whatever was thought of its link.
    pub(super) fn hear(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        if !self.is_up(peer) {
            self.on_up(cx, peer);
        }
    }

    pub(super) fn on_down(&mut self, cx: &mut Cx<'_>, peer: Peer, loss: Loss) {
        self.relink(cx.now, peer, false);
        // What is lost is held no more: whoever dials, it is to be held anew.
        self.links.release(peer);
        self.on_contact_down(cx, peer);
        if self.record.is_some() && self.links.is_cut_off() {
            self.arm_probe(cx);
        }
        if self.record.is_some() && self.links.is_wanted(peer) {
            // Whom others hear is dialled again in its turn.
            if !self.heal.is_vouched(peer) {
                self.suspect(cx, peer);
            }
        } else {
            if loss == Loss::Unreachable {
                self.doubt(cx, peer);
            }
            self.links.tidy();
        }
    }

    /// Notes since when no neighbour is connected.
    fn watch_neighbours(&mut self, now: Time) {
        let has_neighbour = self.links.wanted().any(|link| link.is_up);
        let since = self.heal.cut_off.unwrap_or(now);
        self.heal.cut_off = (!has_neighbour).then_some(since);
    }

    /// Notes that the connection stands, or no more.
    pub(super) fn relink(&mut self, now: Time, peer: Peer, is_up: bool) {
        if self.links.set_up(peer, is_up) {
            self.watch_neighbours(now);
            self.news.has_relinked = true;
            self.news.has_rerouted |= self.table.set_up(peer, is_up);
        }
    }

    /// Dials again, and asks the neighbours that should hear it, too.
    fn suspect(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        self.links.hold(peer);
        cx.out.push(Output::Open(peer));
        let known = self.heal.suspect(peer);
        let redial = self.heal.redial(peer);
        if known.is_some() && redial.is_none() {
            // They have been asked.
            return;
        }
        // The connection may stand, and only have been silent.
        cx.send(peer, Message::Ping(0));
        if self.links.is_cut_off() {
            self.reach_out(cx);
        }
        let witnesses = match redial {
            // Where few hear it, others asked at random would say nothing, again and again.
            Some(redial) => vec![redial.voucher],
            None => self.witnesses(cx, peer, WITNESSES),
        };
        self.ask(cx, peer, witnesses, redial, false);
    }

    /// A few of those that should hear the peer, those connected to me first, and last those that
    /// have been asked.
    fn witnesses(&self, cx: &mut Cx<'_>, peer: Peer, count: usize) -> Vec<Peer> {
        if cx.config().without == Some(Rule::Suspicion) {
            return Vec::new();
        }
        let mut common = self.common_neighbours(peer, cx.me());
        let (all, suspect) = (common.len(), self.heal.suspect(peer));
        cx.random.shuffle(&mut common, all);
        common.sort_by_key(|witness| {
            let is_asked = suspect.is_some_and(|suspect| suspect.has_asked(*witness));
            (is_asked, !self.is_up(*witness))
        });
        common.truncate(count);
        common
    }

    /// Puts the question to a few of those that should hear the peer.
    fn ask(
        &mut self,
        cx: &mut Cx<'_>,
        peer: Peer,
        witnesses: Vec<Peer>,
        redial: Option<Redial>,
        is_again: bool,
    ) {
        self.heal.forget(peer);
        let Some(incarnation) = self.living_anywhere(peer).map(|record| record.incarnation) else {
            return;
        };
        let redial = redial.filter(|_| !witnesses.is_empty());
        for witness in &witnesses {
            inquire(cx, *witness, peer, incarnation);
        }
        let asked = witnesses.into_iter().map(|peer| Asked {
            peer,
            has_answered: false,
        });
        self.heal.suspects.push(Suspect {
            peer,
            incarnation,
            since: cx.now,
            asked: asked.collect(),
            votes: SmallVec::new(),
            redial,
            is_again,
        });
        cx.after(VERDICT, Timer::Suspicion(peer));
    }

    /// Nobody said that it hears the peer. Of whom nobody said anything is asked once more; about who was
    /// heard by others, until that is long ago.
    fn judge(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        let Some(suspect) = self.heal.suspect(peer) else {
            return;
        };
        let redial = suspect.redial;
        let is_open = match redial {
            Some(redial) => !has_passed(cx.now, redial.heard, HEARD),
            None => suspect.votes.is_empty() && !suspect.is_again,
        };
        if is_open {
            let mut witnesses = self.witnesses(cx, peer, MORE_WITNESSES);
            if let Some(Redial { voucher, .. }) = redial {
                witnesses.retain(|witness| *witness != voucher);
                witnesses.insert(0, voucher);
            }
            self.watch_neighbours(cx.now);
            let may_ask = cx.config().without != Some(Rule::Suspicion);
            if may_ask && self.above.lives(peer) && self.heal.cut_off.is_some() {
                // No neighbour is left to ask: the ring above knows my parents.
                witnesses = self.living_peers(&self.above, cx.me());
                witnesses.retain(|witness| *witness != peer);
                cx.random.shuffle(&mut witnesses, WITNESSES);
                witnesses.truncate(WITNESSES);
            }
            if !witnesses.is_empty() {
                return self.ask(cx, peer, witnesses, redial, true);
            }
        }
        self.conclude(cx, peer);
    }

    /// Peers of my rings that are linked to the peer where all is well.
    fn common_neighbours(&self, peer: Peer, me: Peer) -> Vec<Peer> {
        let Table {
            mine,
            own,
            below,
            parent,
            ..
        } = &self.table;
        let mut common = Vec::new();
        let is_child = !self.own.lives(peer) && self.below.lives(peer);
        let ring = if is_child { below } else { own };
        let seat = self.table.seat_of(peer);
        let mut add = |cell: PositionId, members: &[Link]| {
            for (at, link) in (0..).zip(members) {
                let of = members.len() as u16;
                let is_linked = seat.is_none_or(|(position, rank)| {
                    position == cell || rank.is_paired(Rank { at, of })
                });
                let candidate = link.peer;
                let is_other = candidate != me && candidate != peer;
                if is_linked && is_other && !common.contains(&candidate) {
                    common.push(candidate);
                }
            }
        };
        for cell in ring.cells() {
            add(cell.position, ring.members(cell));
        }
        if is_child {
            add(*mine, own.members_at(*mine));
        } else {
            add(self.own.id, parent);
        }
        common
    }

    /// Asks those that should hear a neighbour that does not come whether it is gone.
    pub(super) fn ask_after(&self, cx: &mut Cx<'_>, peer: Peer) {
        let Some(record) = self.living_anywhere(peer) else {
            return;
        };
        let incarnation = record.incarnation;
        for witness in self.witnesses(cx, peer, WITNESSES) {
            inquire(cx, witness, peer, incarnation);
        }
    }

    pub(super) fn on_answer(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        peer: Peer,
        incarnation: u64,
        testimony: Testimony,
    ) {
        let cut_off = self.heal.cut_off;
        let Some(suspect) = self.heal.suspect_mut(peer) else {
            return;
        };
        let mut asked = suspect.asked.iter_mut();
        // Who accused and hears it again takes it back.
        let is_heard = testimony == Testimony::Heard;
        let is_open = |asked: &&mut Asked| asked.peer == from && (is_heard || !asked.has_answered);
        let Some(asked) = asked.find(is_open) else {
            return;
        };
        if suspect.incarnation != incarnation {
            return;
        }
        asked.has_answered = true;
        let is_early = !has_passed(cx.now, suspect.since, WITNESS);
        match testimony {
            Testimony::Hearsay(voucher) if self.links.is_up(voucher) => {
                if self.living_anywhere(voucher).is_some() {
                    self.ask_more(cx, peer, &[voucher]);
                }
            }
            Testimony::Hearsay(voucher) if voucher == cx.me() => {}
            Testimony::Heard | Testimony::Hearsay(_) => {
                if cut_off.is_some_and(|at| has_passed(cx.now, at, ALONE)) {
                    // My neighbours live, but none of them and I can connect: another place is better.
                    self.join.shun(self.own.id);
                    self.restart(cx, vec![from]);
                    return;
                }
                let wait = suspect.vouch(cx.now, from, !is_heard);
                cx.after(wait, Timer::Redial(peer));
                return;
            }
            Testimony::Accused(signature) => {
                let words = accusation_words(cx.host(), &cx.id(peer), incarnation);
                if !cx.host().verify(&cx.id(from), &words, &signature) {
                    cx.fault("an accusation that its observer did not sign");
                    return;
                }
                suspect.votes.push((from, signature));
            }
        }
        if is_early && self.heal.suspect(peer).is_some_and(Suspect::is_answered) {
            // A cut takes many links at once: who answers without asking has lost it with me.
            let others = self.witnesses(cx, peer, MORE_WITNESSES);
            self.ask_more(cx, peer, &others);
        }
        // Where there are few to ask, it has its time to be reached again.
        let suspect = self.heal.suspect(peer).filter(|it| it.is_answered());
        if suspect.is_some_and(|it| !is_early || it.votes.len() >= WITNESSES) {
            self.judge(cx, peer);
        }
    }

    /// Puts the question to those, too, that were not asked yet.
    fn ask_more(&mut self, cx: &mut Cx<'_>, peer: Peer, others: &[Peer]) {
        let Some(suspect) = self.heal.suspect_mut(peer) else {
            return;
        };
        let incarnation = suspect.incarnation;
        for other in others {
            let is_one = *other == cx.me() || *other == peer;
            if is_one || suspect.asked.len() >= MORE_WITNESSES || suspect.has_asked(*other) {
                continue;
            }
            suspect.asked.push(Asked {
                peer: *other,
                has_answered: false,
            });
            inquire(cx, *other, peer, incarnation);
        }
    }

    pub(super) fn on_suspicion(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        let Some(suspect) = self.heal.suspect(peer) else {
            return;
        };
        if suspect.is_content() || !has_passed(cx.now, suspect.since, VERDICT) {
            return;
        }
        if self.links.is_cut_off() && !has_passed(cx.now, suspect.since, ALONE) {
            self.reach_out(cx);
            cx.out.push(Output::Open(peer));
            cx.after(VERDICT, Timer::Suspicion(peer));
            return;
        }
        self.judge(cx, peer);
    }

    /// Nobody hears it.
    fn conclude(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        let Some(at) = self
            .heal
            .suspects
            .iter()
            .position(|suspect| suspect.peer == peer)
        else {
            return;
        };
        let suspect = self.heal.suspects.swap_remove(at);
        let record = self.living_anywhere(peer);
        if record.is_some_and(|record| record.incarnation != suspect.incarnation) {
            // Somebody has heard it since: what it says of itself is newer than the question.
            return self.suspect(cx, peer);
        }
        let words = accusation_words(cx.host(), &cx.id(peer), suspect.incarnation);
        let mut by = vec![(cx.me(), cx.host().sign(&words))];
        by.extend(suspect.votes.into_iter().take(MAX_ACCUSERS - 1));
        by.sort_by_key(|(accuser, _)| cx.id(*accuser));
        for id in [self.own.id, self.below.id, self.above.id] {
            let Some(ring) = self.ring_mut(id) else {
                continue;
            };
            let Some(record) = ring.living_record(peer) else {
                continue;
            };
            if record.incarnation != suspect.incarnation {
                continue;
            }
            let accused = Arc::new(Member {
                accusation: Some(Accusation { by: by.clone() }),
                ..(**record).clone()
            });
            ring.merge_member(cx.view.host, accused.clone(), cx.now);
            // Those of my own position that are not linked to it cannot hear it themselves, nor can the
            // children, who are told at the end; the others can.
            if id == self.own.id {
                self.tidings.push(Tiding::Member(peer));
            }
            for peer in self.mates(cx.me()) {
                self.send_records(cx, peer, id, vec![accused.clone()], Vec::new());
            }
        }
        self.remember_lost(cx, peer);
    }

    pub(super) fn on_redial(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        if !self.is_up(peer) && self.heal.suspects(peer) {
            self.suspect(cx, peer);
        }
    }

    /// Without any connection: tries peers of the ring above, who are no neighbours.
    pub(super) fn reach_out(&mut self, cx: &mut Cx<'_>) {
        let mut others = self.living_peers(&self.above, cx.me());
        cx.random.shuffle(&mut others, WITNESSES);
        for peer in others.into_iter().take(WITNESSES) {
            cx.send(peer, Message::Ping(0));
        }
    }

    pub(super) fn living_anywhere(&self, peer: Peer) -> Option<&Arc<Member>> {
        [&self.own, &self.below, &self.above]
            .into_iter()
            .find_map(|ring| ring.living_record(peer))
    }
}

/// Asks one who should hear the suspect.
fn inquire(cx: &mut Cx<'_>, witness: Peer, suspect: Peer, incarnation: u64) {
    cx.send(
        witness,
        Message::Ask {
            suspect,
            incarnation,
        },
    );
}
