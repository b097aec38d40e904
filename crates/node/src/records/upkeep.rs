//! Copies are compared when their holders change, and now and then; what expired goes.

use std::time::Duration;

use ringweave_ids::{Key, Time, wire};
use ringweave_overlay::Overlay;

use super::{
    Answer, Word,
    client::{Errand, Whom},
    holder::{NEAR, copy},
    store::Mark,
};
use crate::{
    Event, Port, Tick,
    router::{Aim, Ground, Purpose, Reply, Router},
};

/// How often copies are compared that nothing happened to.
pub(super) const REFRESH: Duration = Duration::from_secs(5 * 60);
/// How long after a comparison that failed the next one is.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a change of the table settles before holders are looked at.
const SETTLE: Duration = Duration::from_millis(500);
/// Comparisons begun at once.
const AT_ONCE: usize = 256;
/// How often what expired is swept out.
const SWEEP: Duration = Duration::from_secs(60);
/// A copy that its holders have not spoken of for so long is not needed here.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);

/// A comparison with the other holders under way.
pub(super) struct Round {
    open: usize,
    is_whole: bool,
    /// Who held it when it began.
    mark: Mark,
}

impl<O: Overlay> Router<O> {
    /// The table changed: others may hold what this peer keeps.
    pub(crate) fn holders_changed(&mut self, ground: &mut Ground<'_, O>) {
        if self
            .records
            .as_ref()
            .is_some_and(|records| !records.store.is_empty())
        {
            self.look_soon(ground);
        }
    }

    pub(super) fn look_soon(&mut self, ground: &mut Ground<'_, O>) {
        let records = self.records.get_or_insert_default();
        let soon = ground.now + SETTLE;
        records.look = Some(records.look.map_or(soon, |look| look.min(soon)));
        self.arm_records(ground);
    }

    /// Makes sure that a timer is set for what is due next.
    pub(super) fn arm_records(&mut self, ground: &mut Ground<'_, O>) {
        let Some(records) = &mut self.records else {
            return;
        };
        let is_empty = records.store.is_empty() && records.watches.is_empty();
        if records.sweep.is_none() && !is_empty {
            records.sweep = Some(ground.now + SWEEP);
        }
        let renew = Self::next_renewal(records);
        let watch = records.watches.next();
        let due = [renew, watch, records.look, records.sweep]
            .into_iter()
            .flatten()
            .min();
        let Some(due) = due else { return };
        if records.armed.is_none_or(|armed| due < armed) {
            records.armed = Some(due);
            ground.after(due.since(ground.now), Tick::Records);
        }
    }

    /// Does what is due.
    pub(crate) fn tend_records(&mut self, ground: &mut Ground<'_, O>) {
        let now = ground.now;
        let is_due = |at: &Option<Time>| at.is_some_and(|at| at <= now);
        let Some(records) = &mut self.records else {
            return;
        };
        records.armed.take_if(|at| *at <= now);
        if is_due(&records.sweep) {
            records.watches.sweep(now);
            records.sweep = None;
            // Once a minute, too: what nothing happened to is compared now and then.
            records.look.get_or_insert(now);
            for key in records.store.sweep(now) {
                ground.tell(Event::Kept(key));
                self.touch_watchers(ground, &key);
            }
        }
        let look = self.records.as_ref().and_then(|records| records.look);
        if is_due(&look) {
            self.look_at_holders(ground);
        }
        self.renew_records(ground);
        self.read_watched(ground);
        self.arm_records(ground);
    }

    /// Begins a comparison for every record whose holders changed, or whose time has come.
    fn look_at_holders(&mut self, ground: &mut Ground<'_, O>) {
        let Some(records) = &self.records else { return };
        let mut due = Vec::new();
        let mut is_through = true;
        for (key, kept) in records.store.iter() {
            if records.rounds.contains_key(key) || kept.expires <= ground.now {
                continue;
            }
            let mark = Self::mark(ground, key);
            // One that failed has no mark, and waits until it is due.
            let has_changed = kept.mark != Mark::NONE && kept.mark != mark;
            if !has_changed && kept.due > ground.now {
                continue;
            }
            if due.len() == AT_ONCE {
                is_through = false;
                break;
            }
            due.push((*key, mark));
        }
        let again = ground.now + SETTLE;
        let records = self.records.get_or_insert_default();
        records.look = (!is_through).then_some(again);
        for (key, mark) in due {
            self.compare_copies(ground, key, mark);
        }
    }

    /// Offers a record to the others that should have it.
    fn compare_copies(&mut self, ground: &mut Ground<'_, O>, key: Key, mark: Mark) {
        let near = if mark.is_first() {
            Self::beside(ground, &key, NEAR)
        } else {
            Vec::new()
        };
        let records = self.records.get_or_insert_default();
        let Some(kept) = records.store.get_mut(&key) else {
            return;
        };
        let before = std::mem::replace(&mut kept.mark, mark);
        // Who is first speaks of it to the others, as long as all is well.
        let is_heard = ground.now.since(kept.heard) < REFRESH * 3 / 2;
        let is_due = kept.due <= ground.now && !is_heard;
        kept.due = ground.now + ground.random.between(REFRESH * 4 / 5, REFRESH * 6 / 5);
        let sequence = kept.record.sequence;
        // Others may have answered for the key meanwhile.
        if before != mark {
            kept.is_sure = false;
        }
        let is_alone = mark.is_first() && near.is_empty();
        let mut whom: Vec<_> = near.into_iter().map(Whom::Near).collect();
        if !mark.is_first() && (is_due || before.is_first() || before == Mark::NONE) {
            whom.push(Whom::Owner(0));
        }
        if !mark.is_far() && !is_alone && (is_due || before.is_far() || mark.is_first()) {
            whom.push(Whom::Owner(1));
        }
        let round = Round {
            open: whom.len(),
            is_whole: true,
            mark,
        };
        if whom.is_empty() {
            return self.end_round(ground, key, &round);
        }
        records.rounds.insert(key, round);
        for whom in whom {
            let number = self.next_ask();
            let word = Word::Offer {
                number,
                key,
                sequence,
            };
            let purpose = Purpose::Record(Errand::Offer(key, whom));
            self.ask(
                ground,
                aim(key, whom),
                Port::RECORDS,
                wire::to_vec(&word).into(),
                purpose,
            );
        }
    }

    /// Another holder answered an offer.
    pub(super) fn on_offered(
        &mut self,
        ground: &mut Ground<'_, O>,
        key: Key,
        whom: Whom,
        reply: Reply<O::Address>,
    ) {
        if !matches!(reply, Reply::Record(Answer::Wanted)) {
            return self.on_mended(ground, key, reply);
        }
        let kept = self
            .records
            .as_ref()
            .and_then(|records| records.store.get(&key, ground.now));
        let Some(kept) = kept else {
            return self.offered(ground, key, false);
        };
        let left = kept.expires.since(ground.now);
        let payload = copy(self.next_ask(), left, kept.record.clone());
        let purpose = Purpose::Record(Errand::Mend(key));
        self.ask(ground, aim(key, whom), Port::RECORDS, payload, purpose);
    }

    /// A holder has what it was offered, or has told what it has.
    pub(super) fn on_mended(
        &mut self,
        ground: &mut Ground<'_, O>,
        key: Key,
        reply: Reply<O::Address>,
    ) {
        let is_told = self.takes_in(ground, &key, reply);
        self.offered(ground, key, is_told);
    }

    fn offered(&mut self, ground: &mut Ground<'_, O>, key: Key, is_told: bool) {
        let Some(records) = &mut self.records else {
            return;
        };
        let Some(round) = records.rounds.get_mut(&key) else {
            return;
        };
        round.open -= 1;
        round.is_whole &= is_told;
        if round.open == 0
            && let Some(round) = records.rounds.remove(&key)
        {
            self.end_round(ground, key, &round);
        }
    }

    fn end_round(&mut self, ground: &mut Ground<'_, O>, key: Key, round: &Round) {
        let now = ground.now;
        let records = self.records.get_or_insert_default();
        let Some(kept) = records.store.get_mut(&key) else {
            return;
        };
        if !round.is_whole {
            kept.mark = Mark::NONE;
            kept.due = kept.due.min(now + AGAIN);
            records.look = Some(
                records
                    .look
                    .map_or(now + AGAIN, |look| look.min(now + AGAIN)),
            );
            return self.arm_records(ground);
        }
        if round.mark == kept.mark && round.mark.is_first() {
            kept.is_sure = true;
        }
        let is_needed = round.mark.is_first() || round.mark.is_far();
        if !is_needed && now.since(kept.heard) > FORGOTTEN {
            records.store.remove(&key);
            ground.tell(Event::Kept(key));
        }
    }
}

fn aim<A>(key: Key, whom: Whom) -> Aim<A> {
    match whom {
        Whom::Near(id) => Aim::Peer(id),
        Whom::Owner(choice) => Aim::owner(key, choice),
    }
}
