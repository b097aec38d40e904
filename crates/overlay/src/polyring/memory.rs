//! Whom a peer remembers beyond its neighbours, and how two networks that were one, or should be,
//! find together (HEALING.md, rules 12 and 13).
//!
//! Every peer knows the longest-granted members of its center. Two peers that meet and name none in
//! common sit in different networks: each tells its own center of the other, the centers greet each
//! other, and rings merge by their ids from there outward. To meet at all, a peer greets those it has
//! lost, in turn.

use std::time::Duration;

use ringweave_ids::{Peer, Time};
use smallvec::SmallVec;

use super::{
    Cx, Message, Polyring, PositionId, Rule, Timer, Walk, has_passed, heal::SPLIT_WINDOW,
    sync::SETTLED,
};

/// Members of the center that everybody knows.
pub(super) const CENTER: usize = 4;

/// Peers that a hello tells of.
pub(super) const SAMPLE: usize = 2;

/// Peers anywhere that a newcomer is told of.
pub(super) const HINTS: usize = 4;

/// Living peers anywhere, known by hearsay.
const VIEW: usize = 24;

/// Lost peers remembered.
const LOST: usize = 32;

/// Peers remembered that were lost together, which may be alive beyond a split.
pub(super) const SPLIT: usize = 48;

/// A lost peer is greeted this often before it is forgotten.
const TRIES: u8 = 60;

/// Between two greetings.
const PROBE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));

/// Between two greetings while much is lost, and how many are greeted at a time then.
const ALARM: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));
const ALARMED: usize = 8;

/// The center is told of strangers at most this often.
const MEET: Duration = Duration::from_secs(1);

/// Who founded a center for want of another looks for others for so long.
const FOUNDED: Duration = Duration::from_secs(120);

/// For so long after meeting strangers their center is taken on its own word.
const MEETING: Duration = Duration::from_secs(60);

/// Peers beyond the neighbours.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The center's longest granted, as the parent told.
    center: SmallVec<[Peer; CENTER]>,
    view: Vec<Peer>,
    lost: Vec<Lost>,
    split: Vec<Lost>,
    turn: usize,
    /// When the next greeting is due; a timer that runs out at another moment is an old one.
    probe_at: Option<Time>,
    met: Option<Time>,
    told: Option<Time>,
    /// Since when the center is one that this peer founded for want of another.
    founded: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    peer: Peer,
    since: Time,
    tries: u8,
}

impl Memory {
    /// Shows every handle remembered.
    pub(super) fn handles(&self, see: &mut dyn FnMut(Peer)) {
        self.center
            .iter()
            .chain(&self.view)
            .for_each(|peer| see(*peer));
        let lost = self.lost.iter().chain(&self.split);
        lost.for_each(|lost| see(lost.peer));
    }

    /// The peer is there.
    pub(super) fn found(&mut self, peer: Peer) {
        self.lost.retain(|lost| lost.peer != peer);
        self.split.retain(|lost| lost.peer != peer);
    }

    /// Whether somebody is looked for.
    pub(super) fn has_lost(&self) -> bool {
        !(self.lost.is_empty() && self.split.is_empty())
    }

    /// Those that may be alive beyond a split, for newcomers to remember, too.
    pub(super) fn split(&self) -> Vec<Peer> {
        self.split.iter().map(|lost| lost.peer).collect()
    }

    fn lose(&mut self, cx: &mut Cx<'_>, peer: Peer, is_split: bool) {
        let (since, tries) = (cx.now, 0);
        let lost = Lost { peer, since, tries };
        self.view.retain(|known| *known != peer);
        let has_snapshot = cx.config().without != Some(Rule::Memory);
        let (list, cap) = match is_split && has_snapshot {
            true => (&mut self.split, SPLIT),
            false => (&mut self.lost, LOST),
        };
        if list.iter().any(|it| it.peer == peer) {
            return;
        }
        if list.len() < cap {
            list.push(lost);
        } else {
            let at = cx.random.below(cap);
            list[at] = lost;
        }
    }

    fn see(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        if peer == cx.me() || self.view.contains(&peer) {
            return;
        }
        if self.view.len() < VIEW {
            if self.view.capacity() == self.view.len() {
                self.view.reserve_exact(VIEW / 4);
            }
            self.view.push(peer);
        } else {
            let at = cx.random.below(VIEW);
            self.view[at] = peer;
        }
    }
}

impl Polyring {
    /// The center's longest-granted members: those of its ring, or those that the parent told.
    pub(super) fn center(&self, cx: &Cx<'_>) -> SmallVec<[Peer; CENTER]> {
        if self.own.id != PositionId::CENTER {
            return self.memory.center.clone();
        }
        let mut oldest: SmallVec<[_; CENTER + 1]> = SmallVec::new();
        for record in self.own.living() {
            let rank = (record.sequence(), cx.id(record.peer));
            let at = oldest.partition_point(|(other, _)| *other < rank);
            if at < CENTER {
                oldest.insert(at, (rank, record.peer));
                oldest.truncate(CENTER);
            }
        }
        oldest.into_iter().map(|(_, peer)| peer).collect()
    }

    /// The parent told who the center's longest granted are; whether they are others than before.
    pub(super) fn learn_center(&mut self, mut center: Vec<Peer>) -> bool {
        center.truncate(CENTER);
        let is_other = *self.memory.center != *center;
        if is_other && !center.is_empty() {
            self.memory.center = SmallVec::from_vec(center);
        }
        is_other
    }

    /// Whom to ask for a place: the center, and others anywhere.
    pub(super) fn acquaintances(&self) -> impl Iterator<Item = Peer> {
        self.memory.center.iter().chain(&self.memory.view).copied()
    }

    /// A few peers for a hello to tell of.
    pub(super) fn sample(&self, cx: &mut Cx<'_>) -> SmallVec<[Peer; SAMPLE]> {
        let mut sample = SmallVec::new();
        let known: SmallVec<[Peer; 64]> = self
            .links
            .wanted()
            .filter(|link| link.is_up)
            .map(|link| link.peer)
            .collect();
        if cx.random.below(2) == 0 {
            sample.extend(cx.random.pick(&known).copied());
        } else {
            sample.extend(cx.random.pick(&self.memory.view).copied());
        }
        sample.extend(cx.random.pick(&self.memory.view).copied());
        sample
    }

    pub(super) fn learn_sample(&mut self, cx: &mut Cx<'_>, from: Peer, sample: &[Peer]) {
        self.memory.found(from);
        for peer in sample.iter().take(SAMPLE) {
            self.memory.see(cx, *peer);
        }
    }

    /// A few of those lost together, for a hello to tell a newcomer of: what all of them remember is then
    /// as much as what the neighbourhood did, not what a few granters did.
    pub(super) fn split_sample(&self, cx: &mut Cx<'_>) -> SmallVec<[Peer; SAMPLE]> {
        let split = &self.memory.split;
        let picks = (0..SAMPLE.min(split.len())).filter_map(|_| cx.random.pick(split));
        picks.map(|lost| lost.peer).collect()
    }

    /// Newcomers alone learn of them: one loss must not have the whole network dial the same few.
    pub(super) fn learn_split(&mut self, cx: &mut Cx<'_>, from: Peer, split: &[Peer]) {
        let is_new = !has_passed(cx.now, self.join.placed_at, SETTLED);
        if is_new && self.is_neighbour(from) {
            self.inherit(cx, &[], split.iter().take(SAMPLE).copied());
        }
    }

    /// A neighbour was taken for dead.
    pub(super) fn remember_lost(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        let known = self.own.population() + self.below.population();
        let is_split = self.heal.note_loss(cx.now, known);
        if is_split {
            // Those lost just before belong to it.
            let is_of_it = |it: &mut Lost| !has_passed(cx.now, it.since, SPLIT_WINDOW);
            let before: SmallVec<[Lost; LOST]> =
                self.memory.lost.extract_if(.., is_of_it).collect();
            for lost in before {
                self.memory.lose(cx, lost.peer, true);
            }
        }
        self.memory.lose(cx, peer, is_split);
        self.arm_probe(cx);
    }

    /// A peer that is no neighbour cannot be reached: what hearsay says of it is old.
    pub(super) fn doubt(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        if self.memory.view.contains(&peer) {
            if self.heal.is_split_likely(cx.now) {
                self.memory.lose(cx, peer, true);
            } else {
                self.memory.view.retain(|known| *known != peer);
            }
        }
    }

    /// As the keeper of the center, by which all newcomers come: names some of those that came before,
    /// so that everyone knows peers in other branches.
    pub(super) fn hint(&mut self, cx: &mut Cx<'_>, walk: &mut Walk) {
        if walk.hints.is_empty() {
            let count = self.memory.view.len();
            for _ in 0..HINTS.min(count) {
                walk.hints
                    .extend(cx.random.pick(&self.memory.view).copied());
            }
            self.memory.see(cx, walk.joiner());
        }
    }

    /// Newcomers remember whom those who were there before have lost.
    pub(super) fn inherit(
        &mut self,
        cx: &mut Cx<'_>,
        hints: &[Peer],
        split: impl IntoIterator<Item = Peer>,
    ) {
        for peer in hints.iter().take(HINTS) {
            self.memory.see(cx, *peer);
        }
        let me = cx.me();
        for peer in split.into_iter().take(SPLIT).filter(|peer| *peer != me) {
            self.memory.lose(cx, peer, true);
        }
        self.arm_probe(cx);
    }

    /// Somebody named a peer: it is greeted now and then until it answers.
    pub(super) fn look_for(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        self.memory.lose(cx, peer, false);
        self.arm_probe(cx);
    }

    pub(super) fn arm_probe(&mut self, cx: &mut Cx<'_>) {
        let is_alarmed = self.is_alarmed(cx.now);
        if !(self.memory.has_lost() || is_alarmed) || cx.config().without == Some(Rule::Merge) {
            return;
        }
        let (low, high) = if is_alarmed { ALARM } else { PROBE };
        let is_soon = |at: Time| at > cx.now && at <= cx.now + high;
        if self.memory.probe_at.is_some_and(is_soon) {
            return;
        }
        let span = cx.random.between(low, high);
        self.memory.probe_at = Some(cx.now + span);
        cx.after(span, Timer::Probe);
    }

    /// The center changed: whether all of it but my position is gone, to which I may have been promoted.
    pub(super) fn note_center(&mut self, cx: &mut Cx<'_>) {
        let is_left_alone = self.own.staffed().count() <= 1 && self.own.positions().count() > 1;
        self.memory.founded = match self.memory.founded {
            None if is_left_alone => Some(cx.now),
            known => known.filter(|_| self.own.positions().count() > 1),
        };
        self.arm_probe(cx);
    }

    /// Whether so much is lost that others are looked for in a hurry: no neighbour, no way inward, a
    /// center that I founded for want of another, or one that has lost more than it has.
    fn is_alarmed(&self, now: Time) -> bool {
        let is_center = self.own.id == PositionId::CENTER;
        let lost = self.memory.lost.len() + self.memory.split.len();
        let founded = self.memory.founded;
        self.links.is_cut_off()
            || founded.is_some_and(|since| !has_passed(now, since, FOUNDED))
            || (!is_center && self.above.is_empty())
            || (is_center && lost > self.own.population())
    }

    /// Greets a few of those remembered, the lists in turn.
    pub(super) fn on_probe(&mut self, cx: &mut Cx<'_>) {
        if self.record.is_none() || self.memory.probe_at.is_none_or(|at| cx.now < at) {
            return;
        }
        self.memory.probe_at = None;
        let is_alarmed = self.is_alarmed(cx.now);
        let has_split = !self.memory.split.is_empty();
        let count = match (is_alarmed, has_split) {
            (true, _) => ALARMED,
            (false, true) => 2,
            (false, false) => 1,
        };
        let mut greeted: SmallVec<[Peer; ALARMED]> = SmallVec::new();
        for _ in 0..count * 3 {
            if greeted.len() == count {
                break;
            }
            self.memory.turn = self.memory.turn.wrapping_add(1);
            let list = match self.memory.turn % 4 {
                0 => &mut self.memory.split,
                1 => &mut self.memory.lost,
                2 if is_alarmed && !self.join.contacts.is_empty() => {
                    greeted.extend(cx.random.pick(&self.join.contacts).copied());
                    continue;
                }
                2 if !is_alarmed => &mut self.memory.split,
                _ if is_alarmed || has_split => {
                    greeted.extend(cx.random.pick(&self.memory.view).copied());
                    continue;
                }
                _ => continue,
            };
            if list.is_empty() {
                continue;
            }
            let mut next = list.remove(0);
            next.tries += 1;
            greeted.push(next.peer);
            if next.tries < TRIES {
                list.push(next);
            }
        }
        for peer in greeted {
            // A connection that stands for another reason says nothing of who is lost here.
            if peer != cx.me() && !(self.is_up(peer) && self.is_neighbour(peer)) {
                self.greet(cx, peer);
            }
        }
        self.arm_probe(cx);
    }

    /// A peer says who its center is: another one than mine?
    pub(super) fn compare_centers(&mut self, cx: &mut Cx<'_>, from: Peer, theirs: &[Peer]) {
        let mine = self.center(cx);
        let is_other = !theirs.is_empty()
            && !mine.is_empty()
            && !theirs
                .iter()
                .any(|peer| mine.contains(peer) || *peer == cx.me());
        if !is_other || cx.config().without == Some(Rule::Merge) {
            return;
        }
        let mut contacts: SmallVec<[Peer; CENTER + 1]> = SmallVec::from_slice(theirs);
        contacts.truncate(CENTER);
        if !contacts.contains(&from) {
            contacts.push(from);
        }
        self.meet(cx, &contacts);
    }

    /// Strangers of the same network: the center greets them.
    fn meet(&mut self, cx: &mut Cx<'_>, strangers: &[Peer]) {
        let is_center = self.own.id == PositionId::CENTER;
        if is_center {
            self.memory.met = Some(cx.now);
        }
        if self
            .memory
            .told
            .is_some_and(|told| !has_passed(cx.now, told, MEET))
        {
            return;
        }
        self.memory.told = Some(cx.now);
        if is_center {
            for peer in strangers.iter().take(CENTER + 1) {
                if *peer != cx.me() && !self.own.lives(*peer) {
                    self.greet(cx, *peer);
                }
            }
            return;
        }
        let mut parents = self.table.parent.iter().filter(|link| link.is_up);
        if let Some(parent) = parents.next().map(|link| link.peer) {
            let strangers = strangers.to_vec();
            cx.send(parent, Message::Meet { strangers });
        }
    }

    pub(super) fn on_meet(&mut self, cx: &mut Cx<'_>, from: Peer, strangers: Vec<Peer>) {
        if self.is_neighbour(from) && self.record.is_some() {
            self.meet(cx, &strangers);
        }
    }

    /// Whether strangers were met lately, whose center is taken on its own word.
    pub(super) fn is_meeting(&self, now: Time) -> bool {
        let met = self.memory.met;
        met.is_some_and(|met| !has_passed(now, met, MEETING))
    }
}

#[cfg(test)]
mod tests {
    use crate::polyring::{Config, PositionId, testing::Swarm};

    /// Two networks that meet know each other by their centers: who was never told of its own would see
    /// no difference. In clusters only some members are paired with the leader above.
    #[test]
    fn everybody_is_told_who_the_center_is() {
        let config = Config {
            ring_size: 4,
            ..Config::default()
        };
        let swarm = Swarm::grown(config, 80, |_| "");
        for (number, (peer, ..)) in &swarm.peers {
            let is_told = !peer.memory.center.is_empty();
            assert!(is_told || peer.own.id == PositionId::CENTER, "{number}");
        }
    }
}
