//! What this peer itself puts and reads.

use std::time::Duration;

use bytes::Bytes;
use ringweave_ids::{Key, Time, wire};
use ringweave_overlay::Overlay;

use super::{
    Answer, Denial, Fetched, MAX_LEASE, MAX_RECORD_NAME, MAX_VALUE, MIN_LEASE, NotKept, Owned,
    Record, Records, Stored, Word, holder::is_nobody,
};
use crate::{
    Event, Failure, Port, Ticket,
    router::{Aim, Ground, Purpose, Reply, Router},
};

/// Records that a peer keeps alive at most.
const OWN: usize = 4_096;
/// Bytes of them.
const OWN_BYTES: usize = 32 * 1024 * 1024;
/// Reads under way at once.
const GETS: usize = 1_024;
/// How long the first holder is waited for before the far one is asked, too.
const HEDGE: Duration = Duration::from_millis(300);
/// How long a put is tried.
const PUT_PATIENCE: Duration = Duration::from_millis(6_500);
/// How long one of the two that a read asks is waited for.
const GET_PATIENCE: Duration = Duration::from_millis(2_500);
/// How long one holder waits for another.
const HOLDER_PATIENCE: Duration = Duration::from_millis(1_500);
/// How long after a renewal that failed the next one is tried.
const RENEW_AGAIN: Duration = Duration::from_secs(10);

/// What a question about records is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Errand {
    /// This peer's own record, with this number.
    Put(Key, u64, Option<Ticket>),
    /// A read of this number, at this choice.
    Get(u64, u8),
    /// A copy for a put of this number.
    Copy(u64),
    /// What another holder has of this key, for a read.
    Look(Key),
    /// Whether another holder has what this one has.
    Offer(Key, Whom),
    /// A copy for who lacked it.
    Mend(Key),
}

/// To whom something is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// To one next to the first holder.
    Near(ringweave_ids::PeerId),
    /// To the holder of this choice.
    Owner(u8),
}

impl Errand {
    /// How long it is asked at most.
    pub(crate) fn patience(self) -> Duration {
        match self {
            // As long as others wait, and then again.
            Self::Put(..) => PUT_PATIENCE,
            Self::Get(..) => GET_PATIENCE,
            Self::Copy(_) | Self::Look(_) | Self::Offer(..) | Self::Mend(_) => HOLDER_PATIENCE,
        }
    }
}

/// A record of this peer.
pub(super) struct Own {
    pub(super) record: Record,
    pub(super) lease: Duration,
    renew: Time,
    is_kept: bool,
    /// What it replaces, until its holders have it: if they never do, that goes on.
    before: Option<Box<Self>>,
}

impl Own {
    /// One of an earlier life, that is put again then.
    pub(super) const fn restored(record: Record, lease: Duration, renew: Time) -> Self {
        Self {
            record,
            lease,
            renew,
            is_kept: false,
            before: None,
        }
    }
}

/// For whom a read is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    /// A command.
    Once(Ticket),
    /// A watch.
    Watch(Ticket),
}

/// A read under way.
pub(super) struct Getting {
    reader: Reader,
    key: Key,
    legs: [Leg; 2],
    /// When the far holder is asked, too.
    hedge: Time,
    best: Option<(Duration, Box<Record>)>,
}

/// One of the two that a read asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    Idle,
    Open,
    Found,
    Nothing,
    Failed(Failure),
}

impl Leg {
    fn is_done(self) -> bool {
        !matches!(self, Self::Idle | Self::Open)
    }
}

impl<O: Overlay> Router<O> {
    /// Puts a value, or deletes it where there is none.
    pub(crate) fn put_record(
        &mut self,
        ground: &mut Ground<'_, O>,
        ticket: Ticket,
        name: Option<String>,
        value: Option<Bytes>,
        lease: Duration,
    ) {
        let refused = |why| Event::Put(ticket, Err(why));
        if !ground.overlay.is_structured() {
            return ground.tell(refused(NotKept::NoHolders));
        }
        let is_named = |name: &String| (1..=MAX_RECORD_NAME).contains(&name.len());
        let is_small = value.as_ref().is_none_or(|value| value.len() <= MAX_VALUE);
        if !is_small || !name.as_ref().is_none_or(is_named) {
            return ground.tell(refused(NotKept::Denied(Denial::TooLarge)));
        }
        let is_leased = (MIN_LEASE..=MAX_LEASE).contains(&lease);
        let key = match (&name, &value) {
            (Some(name), _) => Record::key_of(&self.me, name),
            (None, Some(value)) => Key::hash(value),
            (None, None) => return ground.tell(refused(NotKept::Denied(Denial::Malformed))),
        };
        if !is_leased {
            return ground.tell(refused(NotKept::Denied(Denial::Malformed)));
        }
        let records = self.records.get_or_insert_default();
        let others = records.own.iter().filter(|(other, _)| **other != key);
        let (count, bytes) = others.fold((0, 0), |(count, bytes), (_, own)| {
            (count + 1, bytes + own.record.size())
        });
        if count >= OWN || bytes + value.as_ref().map_or(0, Bytes::len) > OWN_BYTES {
            return ground.tell(refused(NotKept::Denied(Denial::Quota)));
        }
        self.put_own_record(ground, key, name, value, lease, Some(ticket));
    }

    fn put_own_record(
        &mut self,
        ground: &mut Ground<'_, O>,
        key: Key,
        name: Option<String>,
        value: Option<Bytes>,
        lease: Duration,
        ticket: Option<Ticket>,
    ) {
        let clock = ground.view.host.clock(ground.now);
        let me = self.me;
        let records = self.records.get_or_insert_default();
        let before = records.own.remove(&key);
        let last = before.as_ref().map_or(0, |own| own.record.sequence);
        // Of several that follow each other, the last one that was kept.
        let before = before.and_then(|own| {
            if own.is_kept {
                Some(Box::new(own))
            } else {
                own.before
            }
        });
        let sequence = clock.max(last + 1);
        let host = ground.view.host;
        let record = Record::signed(host, me, name, sequence, lease, value);
        // Half the lease, give or take a fifth, so that what was put together spreads out.
        let renew = ground.random.between(lease * 2 / 5, lease * 3 / 5);
        let own = Own {
            record: record.clone(),
            lease,
            renew: ground.now + renew,
            is_kept: false,
            before,
        };
        records.own.insert(key, own);
        ground.tell(Event::Kept(key));
        let number = self.next_ask();
        let payload = wire::to_vec(&Word::Put { number, record });
        let purpose = Purpose::Record(Errand::Put(key, sequence, ticket));
        self.ask(
            ground,
            Aim::owner(key, 0),
            Port::RECORDS,
            payload.into(),
            purpose,
        );
        self.arm_records(ground);
    }

    /// What became of a put of this peer.
    pub(super) fn on_own_put(
        &mut self,
        ground: &mut Ground<'_, O>,
        (key, sequence, ticket): (Key, u64, Option<Ticket>),
        started: Time,
        reply: Reply<O::Address>,
    ) {
        let result = match reply {
            Reply::Record(Answer::Kept(copies, _)) => Ok(copies),
            Reply::Record(Answer::Denied(why)) => Err(NotKept::Denied(why)),
            Reply::Failed(failure, _) => Err(NotKept::Failed(failure)),
            _ => Err(NotKept::Failed(Failure::Timeout)),
        };
        let now = ground.now;
        let records = self.records.get_or_insert_default();
        if let Some(own) = records.own.get_mut(&key)
            && own.record.sequence == sequence
        {
            let is_asked_for = ticket.is_some();
            match result {
                // What was deleted is not renewed.
                Ok(_) if own.record.value.is_none() => drop(records.own.remove(&key)),
                Ok(_) => (own.is_kept, own.before) = (true, None),
                Err(NotKept::Failed(_)) if !is_asked_for => own.renew = now + RENEW_AGAIN,
                // What was never kept is not tried again unasked.
                Err(_) => {
                    let before = own.before.take();
                    records.own.remove(&key);
                    records.own.extend(before.map(|before| (key, *before)));
                }
            }
            ground.tell(Event::Kept(key));
            self.arm_records(ground);
        }
        let Some(ticket) = ticket else { return };
        let stored = result.map(|copies| Stored {
            key,
            sequence,
            copies,
            took: now.since(started),
        });
        ground.tell(Event::Put(ticket, stored));
    }

    /// Puts those of this peer's records again whose lease is half over.
    pub(super) fn renew_records(&mut self, ground: &mut Ground<'_, O>) {
        let Some(records) = &self.records else { return };
        let now = ground.now;
        let due = records.own.iter().filter(|(_, own)| own.renew <= now);
        let due: Vec<_> = due
            .map(|(key, own)| (*key, own.record.clone(), own.lease))
            .collect();
        for (key, record, lease) in due {
            self.put_own_record(ground, key, record.name, record.value, lease, None);
        }
    }

    /// A question about records ended.
    pub(crate) fn on_record_reply(
        &mut self,
        ground: &mut Ground<'_, O>,
        errand: Errand,
        started: Time,
        reply: Reply<O::Address>,
    ) {
        match errand {
            Errand::Put(key, sequence, ticket) => {
                self.on_own_put(ground, (key, sequence, ticket), started, reply);
            }
            Errand::Get(number, choice) => self.on_get_reply(ground, number, choice, reply),
            Errand::Copy(put) => self.on_copied(ground, put, reply),
            Errand::Look(key) => self.on_looked(ground, key, reply),
            Errand::Offer(key, whom) => self.on_offered(ground, key, whom, reply),
            Errand::Mend(key) => self.on_mended(ground, key, reply),
        }
    }

    /// When the next record of this peer is renewed.
    pub(super) fn next_renewal(records: &Records<O::Address>) -> Option<Time> {
        records.own.values().map(|own| own.renew).min()
    }

    /// What this peer keeps alive.
    pub(crate) fn own_records(&self) -> Vec<Owned> {
        let own = self.records.iter().flat_map(|records| &records.own);
        let owned = own.map(|(key, own)| Owned {
            key: *key,
            name: own.record.name.clone(),
            sequence: own.record.sequence,
            lease: own.lease,
            bytes: own.record.value.as_ref().map_or(0, Bytes::len),
            is_kept: own.is_kept,
        });
        owned.collect()
    }

    /// Reads a key.
    pub(crate) fn get_record(&mut self, ground: &mut Ground<'_, O>, ticket: Ticket, key: Key) {
        if !ground.overlay.is_structured() {
            return ground.tell(Event::Got(ticket, Err(NotKept::NoHolders)));
        }
        self.begin_read(ground, Reader::Once(ticket), key);
    }

    pub(super) fn begin_read(&mut self, ground: &mut Ground<'_, O>, reader: Reader, key: Key) {
        let records = self.records.get_or_insert_default();
        if records.gets.len() >= GETS {
            let busy = Err(NotKept::Failed(Failure::Refused));
            return self.end_read(ground, reader, busy);
        }
        let number = records.number();
        let getting = Getting {
            reader,
            key,
            legs: [Leg::Idle; 2],
            hedge: ground.now + HEDGE,
            best: None,
        };
        records.gets.insert(number, getting);
        self.ask_leg(ground, number, 0);
    }

    fn ask_leg(&mut self, ground: &mut Ground<'_, O>, number: u64, choice: u8) {
        let getting = self
            .records
            .as_mut()
            .and_then(|records| records.gets.get_mut(&number));
        let Some(getting) = getting else { return };
        let leg = &mut getting.legs[usize::from(choice)];
        if *leg != Leg::Idle {
            return;
        }
        let mut others = Vec::new();
        if choice > 0 {
            ground.overlay.neighbours(&mut others);
            if others.is_empty() {
                // A lone peer is the only holder.
                *leg = Leg::Nothing;
                return self.conclude_read(ground, number);
            }
        }
        *leg = Leg::Open;
        let (key, reader) = (getting.key, getting.reader);
        let asked = self.next_ask();
        let word = match reader {
            Reader::Watch(_) if choice == 0 => Word::Watch { number: asked, key },
            _ => Word::Get { number: asked, key },
        };
        let purpose = Purpose::Record(Errand::Get(number, choice));
        let payload = wire::to_vec(&word).into();
        self.ask(
            ground,
            Aim::owner(key, choice),
            Port::RECORDS,
            payload,
            purpose,
        );
    }

    /// Asks the far holder where the first one takes its time; says whether any read is under way.
    pub(crate) fn hedge_reads(&mut self, ground: &mut Ground<'_, O>) -> bool {
        let Some(records) = &self.records else {
            return false;
        };
        let late = records
            .gets
            .iter()
            .filter(|(_, getting)| getting.legs[1] == Leg::Idle && getting.hedge <= ground.now);
        for number in late.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.ask_leg(ground, number, 1);
        }
        self.records
            .as_ref()
            .is_some_and(|records| !records.gets.is_empty())
    }

    /// One of the two holders that a read asks has answered, or cannot be reached.
    pub(super) fn on_get_reply(
        &mut self,
        ground: &mut Ground<'_, O>,
        number: u64,
        choice: u8,
        reply: Reply<O::Address>,
    ) {
        let clock = ground.view.host.clock(ground.now);
        let getting = self
            .records
            .as_mut()
            .and_then(|records| records.gets.get_mut(&number));
        let Some(getting) = getting else { return };
        let mut is_false = false;
        let leg = match reply {
            Reply::Record(Answer::Found(left, record)) => {
                let is_it = record.key() == getting.key;
                if is_it && record.check(ground.view.host, clock).is_ok() {
                    let is_newer =
                        |(_, best): &(Duration, Box<Record>)| best.sequence < record.sequence;
                    if getting.best.as_ref().is_none_or(is_newer) {
                        getting.best = Some((left.min(record.lease()), record));
                    }
                    Leg::Found
                } else {
                    is_false = true;
                    Leg::Failed(Failure::Refused)
                }
            }
            Reply::Record(Answer::Nothing) => Leg::Nothing,
            // A network may be too small for a far holder.
            reply if choice > 0 && is_nobody(&reply) => Leg::Nothing,
            Reply::Record(Answer::Unsure) => Leg::Failed(Failure::NoRoute),
            Reply::Failed(failure, _) => Leg::Failed(failure),
            _ => Leg::Failed(Failure::Timeout),
        };
        getting.legs[usize::from(choice)] = leg;
        if is_false {
            self.fault(
                ground,
                "a record that is not what was asked for, or that its owner did not sign",
            );
        }
        self.conclude_read(ground, number);
    }

    /// Ends a read if enough is known.
    fn conclude_read(&mut self, ground: &mut Ground<'_, O>, number: u64) {
        let Some(records) = &mut self.records else {
            return;
        };
        let Some(getting) = records.gets.get(&number) else {
            return;
        };
        let [first, far] = getting.legs;
        let is_immutable = getting
            .best
            .as_ref()
            .is_some_and(|(_, best)| best.is_immutable());
        let is_over = match (first, far) {
            (Leg::Found, _) => true,
            // The far holder may be a little behind; the first one's word is waited for.
            (_, Leg::Found) if is_immutable => true,
            (first, far) => first.is_done() && far.is_done(),
        };
        if !is_over {
            if first.is_done() {
                self.ask_leg(ground, number, 1);
            }
            return;
        }
        let Some(getting) = records.gets.remove(&number) else {
            return;
        };
        // Who put it knows what it put, wherever the copies are.
        let own = records
            .own
            .get(&getting.key)
            .map(|own| (own.lease, Box::new(own.record.clone())));
        let is_newer = |(_, own): &(Duration, Box<Record>)| {
            let best = getting.best.as_ref();
            best.is_none_or(|(_, best)| best.sequence < own.sequence)
        };
        let best = own.filter(is_newer).or(getting.best);
        let failed = [first, far].into_iter().find_map(|leg| match leg {
            Leg::Failed(failure) => Some(failure),
            _ => None,
        });
        let result = match (best, failed) {
            (Some((left, record)), _) => {
                let Record {
                    owner,
                    name,
                    sequence,
                    value,
                    ..
                } = *record;
                Ok(value.map(|value| Fetched {
                    key: getting.key,
                    owner,
                    name,
                    sequence,
                    left,
                    value,
                }))
            }
            (None, Some(failure)) => Err(NotKept::Failed(failure)),
            (None, None) => Ok(None),
        };
        self.end_read(ground, getting.reader, result);
    }

    fn end_read(
        &mut self,
        ground: &mut Ground<'_, O>,
        reader: Reader,
        result: Result<Option<Fetched>, NotKept>,
    ) {
        match reader {
            Reader::Once(ticket) => ground.tell(Event::Got(ticket, result)),
            Reader::Watch(ticket) => self.on_watched_read(ground, ticket, result),
        }
    }
}
