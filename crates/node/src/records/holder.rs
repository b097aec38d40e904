//! What a holder does when it is asked.

use std::time::Duration;

use bytes::Bytes;
use ringweave_ids::{Key, PeerId, wire};
use ringweave_overlay::{Overlay, Target};
use smallvec::{SmallVec, smallvec};

use super::{
    Answer, Asker, Denial, Record, Word,
    client::Errand,
    store::{Fresh, Mark},
    upkeep::REFRESH,
};
use crate::{
    Envelope, Event, Failure, Port,
    directory::{Way, way},
    router::{Aim, Ground, Purpose, Reply, Router, head},
};

/// Copies next to the first holder; where several answer for a key, all of those have one.
pub(super) const NEAR: usize = 2;
/// Holders next to the first that are asked before a key is said to be empty.
const LOOKED: usize = 4;
/// Puts and reads that wait for other holders; more are not answered, and asked again.
const WAITING: usize = 4_096;
/// Readers of one key that wait.
const READERS: usize = 64;

/// A put that waits for its copies.
pub(super) struct Putting<A> {
    asker: Asker<A>,
    key: Key,
    open: usize,
    /// Who has it.
    copies: SmallVec<[PeerId; 4]>,
    is_whole: bool,
}

/// Reads that wait for what the other holders have.
pub(super) struct Check<A> {
    askers: Vec<Asker<A>>,
    open: usize,
    is_whole: bool,
}

impl<O: Overlay> Router<O> {
    /// Something came in for the records.
    pub(crate) fn on_records(&mut self, ground: &mut Ground<'_, O>, envelope: &Envelope<O>) {
        let flow = &envelope.flow;
        let asker = |number| Asker {
            id: flow.origin,
            at: flow.source.clone(),
            number,
        };
        let answer = match self.read(ground, envelope) {
            Some(Word::Put { number, record }) => {
                return self.on_put(ground, asker(number), record);
            }
            Some(Word::Copy {
                number,
                left,
                record,
            }) => {
                let left = Duration::from_secs(left.into());
                let is_handed_over = matches!(flow.target, Target::Key { .. });
                return self.on_copy_of(ground, asker(number), left, record, is_handed_over);
            }
            Some(Word::Get { number, key }) => {
                let is_far = matches!(flow.target, Target::Key { choice: 1.., .. });
                return self.on_get(ground, asker(number), key, is_far);
            }
            Some(Word::Watch { number, key }) => {
                let records = self.records.get_or_insert_default();
                records
                    .watches
                    .note(key, flow.origin, flow.source.clone(), ground.now);
                self.arm_records(ground);
                return self.on_get(ground, asker(number), key, false);
            }
            Some(Word::Touched { key }) => return self.on_touched(ground, &key),
            Some(Word::Look { number, key }) => {
                return self.tell_kept(ground, asker(number), &key, Word::Nothing { number });
            }
            Some(Word::Offer {
                number,
                key,
                sequence,
            }) => {
                return self.on_record_offer(ground, asker(number), key, sequence);
            }
            Some(Word::Kept { number, copies }) => (number, Answer::Kept(copies, flow.origin)),
            Some(Word::Denied { number, why }) => (number, Answer::Denied(why)),
            Some(Word::Found {
                number,
                left,
                record,
            }) => {
                let left = Duration::from_secs(left.into());
                (number, Answer::Found(left, Box::new(record)))
            }
            Some(Word::Nothing { number }) => (number, Answer::Nothing),
            Some(Word::Unsure { number }) => (number, Answer::Unsure),
            Some(Word::Wanted { number }) => (number, Answer::Wanted),
            None => return,
        };
        let (number, answer) = answer;
        self.answered(ground, flow.origin, number, Reply::Record(answer));
    }

    fn say(&mut self, ground: &mut Ground<'_, O>, asker: Asker<O::Address>, word: &Word) {
        let payload = wire::to_vec(word).into();
        self.post(ground, asker.id, asker.at, Port::RECORDS, payload);
    }

    /// Tells what this peer has of a key, or says `otherwise`.
    fn tell_kept(
        &mut self,
        ground: &mut Ground<'_, O>,
        asker: Asker<O::Address>,
        key: &Key,
        otherwise: Word,
    ) {
        let number = asker.number;
        let kept = self
            .records
            .as_ref()
            .and_then(|records| records.store.get(key, ground.now));
        let word = kept.map_or(otherwise, |kept| Word::Found {
            number,
            left: seconds(kept.expires.since(ground.now)),
            record: kept.record.clone(),
        });
        self.say(ground, asker, &word);
    }

    /// Keeps a record, if it is one; the owner that comes to be near says so.
    pub(super) fn keep_record(
        &mut self,
        ground: &mut Ground<'_, O>,
        record: Record,
        left: Duration,
    ) -> Result<Fresh, Denial> {
        let clock = ground.view.host.clock(ground.now);
        let checked = record.check(ground.view.host, clock);
        if let Err(why @ (Denial::Forged | Denial::TooLarge | Denial::Malformed)) = checked {
            self.fault(
                ground,
                "a record that its owner did not sign, or beyond its bounds",
            );
            return Err(why);
        }
        checked?;
        let key = record.key();
        let records = self.records.get_or_insert_default();
        let fresh = records.store.keep(key, record, left, ground.now)?;
        if fresh == Fresh::New {
            ground.tell(Event::Kept(key));
            self.touch_watchers(ground, &key);
        }
        self.arm_records(ground);
        Ok(fresh)
    }

    /// Keeps what another holder told of a key, which may be news to the rest; says whether it is in order.
    pub(super) fn adopt(
        &mut self,
        ground: &mut Ground<'_, O>,
        key: &Key,
        left: Duration,
        record: Record,
    ) -> bool {
        if record.key() != *key {
            return false;
        }
        let kept = self.keep_record(ground, record, left);
        if kept == Ok(Fresh::New) {
            self.look_soon(ground);
        }
        kept.is_ok()
    }

    /// Takes in what another holder told of a key; says whether it told anything.
    pub(super) fn takes_in(
        &mut self,
        ground: &mut Ground<'_, O>,
        key: &Key,
        reply: Reply<O::Address>,
    ) -> bool {
        match reply {
            Reply::Record(Answer::Kept(..) | Answer::Nothing) => true,
            Reply::Record(Answer::Found(left, record)) => self.adopt(ground, key, left, *record),
            reply => is_nobody(&reply),
        }
    }

    fn on_put(&mut self, ground: &mut Ground<'_, O>, asker: Asker<O::Address>, record: Record) {
        let number = asker.number;
        let (key, left) = (record.key(), record.lease());
        let is_known =
            |it: &Putting<O::Address>| it.asker.id == asker.id && it.asker.number == number;
        let puts = self.records.as_ref().map(|records| &records.puts);
        if puts.is_some_and(|puts| puts.len() >= WAITING || puts.values().any(is_known)) {
            return;
        }
        match self.keep_record(ground, record.clone(), left) {
            Err(why) => return self.say(ground, asker, &Word::Denied { number, why }),
            Ok(Fresh::Old) => {
                let why = Denial::Stale;
                return self.say(ground, asker, &Word::Denied { number, why });
            }
            Ok(Fresh::New | Fresh::Same) => {}
        }
        let mark = Self::mark(ground, &key);
        let near = Self::beside(ground, &key, NEAR);
        let mut aims: Vec<_> = near.into_iter().map(Aim::Peer).collect();
        // Who has nobody beside it is alone.
        if !mark.is_far() && !aims.is_empty() {
            aims.push(Aim::owner(key, 1));
        }
        let records = self.records.get_or_insert_default();
        if let Some(kept) = records.store.get_mut(&key) {
            kept.mark = mark;
            kept.is_sure = mark.is_first();
            kept.due = ground.now + ground.random.between(REFRESH * 4 / 5, REFRESH * 6 / 5);
        }
        if aims.is_empty() {
            return self.say(ground, asker, &Word::Kept { number, copies: 1 });
        }
        let (put, me) = (records.number(), self.me);
        let putting = Putting {
            asker,
            key,
            open: aims.len(),
            copies: smallvec![me],
            is_whole: true,
        };
        records.puts.insert(put, putting);
        for aim in aims {
            let payload = copy(self.next_ask(), left, record.clone());
            let purpose = Purpose::Record(Errand::Copy(put));
            self.ask(ground, aim, Port::RECORDS, payload, purpose);
        }
    }

    /// A copy for a put is there, or not.
    pub(super) fn on_copied(
        &mut self,
        ground: &mut Ground<'_, O>,
        put: u64,
        reply: Reply<O::Address>,
    ) {
        let Some(records) = &mut self.records else {
            return;
        };
        let Some(putting) = records.puts.get_mut(&put) else {
            return;
        };
        putting.open -= 1;
        match &reply {
            Reply::Record(Answer::Kept(_, by)) => {
                // The far holder may be one of the near ones.
                if !putting.copies.contains(by) {
                    putting.copies.push(*by);
                }
            }
            reply if is_nobody(reply) => {}
            _ => putting.is_whole = false,
        }
        if putting.open == 0
            && let Some(Putting {
                asker,
                key,
                copies,
                is_whole,
                ..
            }) = records.puts.remove(&put)
        {
            if !is_whole && let Some(kept) = records.store.get_mut(&key) {
                // Whoever lacks it is offered it soon.
                kept.mark = Mark::NONE;
                kept.due = ground.now;
                self.look_soon(ground);
            }
            // Without an answer it is put again, to those who hold the key then: one of them that lacks it
            // would go on to answer with what was before.
            if is_whole {
                let number = asker.number;
                let copies = u8::try_from(copies.len()).unwrap_or(u8::MAX);
                self.say(ground, asker, &Word::Kept { number, copies });
            }
        }
    }

    fn on_copy_of(
        &mut self,
        ground: &mut Ground<'_, O>,
        asker: Asker<O::Address>,
        left: Duration,
        record: Record,
        is_handed_over: bool,
    ) {
        let number = asker.number;
        let key = record.key();
        match self.keep_record(ground, record, left) {
            Err(why) => self.say(ground, asker, &Word::Denied { number, why }),
            Ok(Fresh::Old) => {
                self.tell_kept(
                    ground,
                    asker,
                    &key,
                    Word::Denied {
                        number,
                        why: Denial::Stale,
                    },
                );
            }
            Ok(Fresh::New | Fresh::Same) => {
                let mark = Self::mark(ground, &key);
                let refresh = ground.random.between(REFRESH * 4 / 5, REFRESH * 6 / 5);
                let records = self.records.get_or_insert_default();
                if let Some(kept) = records.store.get_mut(&key) {
                    kept.heard = ground.now;
                    if is_handed_over && mark.is_first() {
                        // Who held it before may have missed a newer one: the others are asked.
                        kept.mark = Mark::NONE;
                        kept.is_sure = false;
                        kept.due = ground.now;
                        self.look_soon(ground);
                    } else {
                        // It comes from one that answers for the key, so that all of those have it.
                        kept.mark = mark;
                        kept.is_sure = true;
                        kept.due = ground.now + refresh;
                    }
                }
                self.say(ground, asker, &Word::Kept { number, copies: 1 });
            }
        }
    }

    fn on_record_offer(
        &mut self,
        ground: &mut Ground<'_, O>,
        asker: Asker<O::Address>,
        key: Key,
        sequence: u64,
    ) {
        let number = asker.number;
        let records = self.records.get_or_insert_default();
        let kept = records
            .store
            .get(&key, ground.now)
            .map(|kept| kept.record.sequence);
        if let Some(kept) = records.store.get_mut(&key) {
            kept.heard = ground.now;
        }
        match kept {
            Some(kept) if kept == sequence => {
                self.say(ground, asker, &Word::Kept { number, copies: 1 });
            }
            Some(kept) if kept > sequence => {
                self.tell_kept(ground, asker, &key, Word::Wanted { number });
            }
            _ => self.say(ground, asker, &Word::Wanted { number }),
        }
    }

    fn on_get(
        &mut self,
        ground: &mut Ground<'_, O>,
        asker: Asker<O::Address>,
        key: Key,
        is_far: bool,
    ) {
        let number = asker.number;
        let now = ground.now;
        let mark = Self::mark(ground, &key);
        let records = self.records.get_or_insert_default();
        // Where others hold the key than those who were asked last, one of them may have a newer one.
        let is_sure = records.store.get(&key, now).is_some_and(|kept| {
            is_far || kept.record.is_immutable() || (kept.is_sure && kept.mark == mark)
        });
        if is_sure {
            return self.tell_kept(ground, asker, &key, Word::Nothing { number });
        }
        if let Some(check) = records.checks.get_mut(&key) {
            let is_known = |it: &Asker<O::Address>| it.id == asker.id && it.number == number;
            if check.askers.len() < READERS && !check.askers.iter().any(is_known) {
                check.askers.push(asker);
            }
            return;
        }
        if records.checks.len() >= WAITING {
            return;
        }
        let near = Self::beside(ground, &key, LOOKED);
        let has_far = mark.is_first() && !mark.is_far() && !near.is_empty();
        if near.is_empty() && !has_far {
            return self.tell_kept(ground, asker, &key, Word::Nothing { number });
        }
        let check = Check {
            askers: vec![asker],
            open: near.len() + usize::from(has_far),
            is_whole: true,
        };
        let records = self.records.get_or_insert_default();
        records.checks.insert(key, check);
        for id in near {
            let number = self.next_ask();
            self.look(ground, Aim::Peer(id), &Word::Look { number, key }, key);
        }
        if has_far {
            // One of several that answer for the far copy has it, and asks the others.
            let number = self.next_ask();
            self.look(ground, Aim::owner(key, 1), &Word::Get { number, key }, key);
        }
    }

    fn look(&mut self, ground: &mut Ground<'_, O>, aim: Aim<O::Address>, word: &Word, key: Key) {
        let purpose = Purpose::Record(Errand::Look(key));
        self.ask(
            ground,
            aim,
            Port::RECORDS,
            wire::to_vec(word).into(),
            purpose,
        );
    }

    /// Another holder told what it has, for a read.
    pub(super) fn on_looked(
        &mut self,
        ground: &mut Ground<'_, O>,
        key: Key,
        reply: Reply<O::Address>,
    ) {
        let is_told = self.takes_in(ground, &key, reply);
        let Some(records) = &mut self.records else {
            return;
        };
        let Some(check) = records.checks.get_mut(&key) else {
            return;
        };
        check.open -= 1;
        check.is_whole &= is_told;
        if check.open > 0 {
            return;
        }
        let Some(check) = records.checks.remove(&key) else {
            return;
        };
        let is_first = Self::mark(ground, &key).is_first();
        let records = self.records.get_or_insert_default();
        if let Some(kept) = records.store.get_mut(&key) {
            kept.is_sure |= check.is_whole && is_first;
        }
        for asker in check.askers {
            let number = asker.number;
            let otherwise = match check.is_whole {
                true => Word::Nothing { number },
                false => Word::Unsure { number },
            };
            self.tell_kept(ground, asker, &key, otherwise);
        }
    }

    /// Those next to this peer for a key.
    pub(super) fn beside(ground: &Ground<'_, O>, key: &Key, n: usize) -> Vec<PeerId> {
        let mut found = Vec::with_capacity(n);
        ground.overlay.replicas(&ground.view, key, n, &mut found);
        found.into_iter().map(|peer| ground.view.id(peer)).collect()
    }

    /// Who holds a key, as far as this peer sees.
    pub(super) fn mark(ground: &Ground<'_, O>, key: &Key) -> Mark {
        let is_mine = |choice| way(ground, *key, choice) == Way::Here;
        let is_first = is_mine(0);
        let near = if is_first {
            Self::beside(ground, key, NEAR)
        } else {
            Vec::new()
        };
        // The same peers in another order are the same; ids are public keys, and uniform.
        let near = near.iter().map(head).fold(0, u64::wrapping_add);
        Mark::new(is_first, is_mine(1), near)
    }
}

/// Whether nobody is asked: a network may be too small for a far holder.
pub(super) const fn is_nobody<A>(reply: &Reply<A>) -> bool {
    matches!(reply, Reply::Failed(Failure::NotFound, _))
}

/// A span in whole seconds, rounded up: a copy lives as long as the one it was made of.
pub(super) fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// The payload of a copy.
pub(super) fn copy(number: u64, left: Duration, record: Record) -> Bytes {
    let left = seconds(left);
    wire::to_vec(&Word::Copy {
        number,
        left,
        record,
    })
    .into()
}
