//! The directory: where each peer sits and what it is called, kept by the peers themselves.
//!
//! A peer signs a record of itself and puts it under two keys, each with two owners (the overlay's
//! choices 0 and 1): one made of the *first four characters* of its id, so that a prefix of four
//! characters or more has one home which answers exactly: none, one or several; and one made of its
//! name, if it has one. Records are leases, renewed at half their time. Nobody is asked beyond the
//! two owners: nothing floods.
//!
//! An owner keeps the newest record of each peer, gives copies to those that may be asked in its place
//! (in a polyring the other members of its cluster) or come after it, and watches where the keys of its
//! records lead now: whenever that changes, it hands the record to the new owner, or to the new others.

mod records;

use std::time::Duration;

use records::{ANSWERED, Held, Kind, Record, Records, Signed, peer_key};
pub(crate) use records::{Way, Word, query_key};
use ringweave_ids::{Key, Peer, PeerId, Time, wire};
use ringweave_overlay::{Hop, Overlay, Target};

use crate::{
    Envelope, Flow, Placed, Port, Tick,
    router::{Aim, Ground, Purpose, Reply, Router, head},
};

/// The longest name of a peer that is published, in bytes.
pub const MAX_NAME: usize = 64;
/// How long a record lives without being renewed.
const LEASE: Duration = Duration::from_secs(30 * 60);
/// How long the directory waits before it offers this peer's record again.
const PUT_AGAIN: Duration = Duration::from_secs(5);
/// How long a change of the table settles before records are handed over, and between hand-overs.
const HAND_OVER_EVERY: Duration = Duration::from_millis(500);
/// Records handed over at once.
const HAND_OVER_AT_ONCE: usize = 256;
/// Records that wait to be shared with the others; the rest is, when the table changes next.
const FRESH: usize = 4_096;
/// Copies beside an owner's own, where not more may be asked in its place.
const NEAR: usize = 1;
/// How often expired records are swept out.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Owners of a key.
const CHOICES: u8 = 2;

/// The part of the directory that this peer keeps, and the state of its own record.
pub(crate) struct Directory<A> {
    records: Records<A>,
    sequence: u64,
    renew: Option<Time>,
    /// Records that have just come, of which the others have no copy yet.
    fresh: Vec<(Kind, PeerId)>,
    share: Option<Time>,
    hand_over: Option<Time>,
    sweep: Option<Time>,
    /// The earliest timer that is set.
    armed: Option<Time>,
}

impl<A> Default for Directory<A> {
    fn default() -> Self {
        Self {
            records: Records::default(),
            sequence: 0,
            renew: None,
            fresh: Vec::new(),
            share: None,
            hand_over: None,
            sweep: None,
            armed: None,
        }
    }
}

impl<A> Directory<A> {
    /// Appends the neighbours through which the keys of records lead.
    pub(crate) fn uses(&self, used: &mut Vec<Peer>) {
        let held = self.records.held().flat_map(|held| &held.ways);
        used.extend(held.filter_map(|way| match way {
            Way::Via(peer) => Some(*peer),
            Way::Here | Way::Nowhere => None,
        }));
    }
}

impl<O: Overlay> Router<O> {
    /// Something came in for the directory.
    pub(crate) fn on_directory(&mut self, ground: &mut Ground<'_, O>, envelope: &Envelope<O>) {
        let flow = &envelope.flow;
        match self.read(ground, envelope) {
            Some(Word::Put {
                number,
                kind,
                left,
                signed,
            }) => {
                let is_copy = matches!(flow.target, Target::Peer { .. });
                let is_kept = self.keep(ground, kind, left, signed, is_copy);
                self.confirm(ground, flow, is_kept.then_some(number));
            }
            Some(Word::Ask { number, query }) => {
                let signed = self.directory.records.answer(&query, ground.now);
                let told = wire::to_vec(&Word::Told { number, signed });
                let (to, at) = (flow.origin, flow.source.clone());
                self.post(ground, to, at, Port::DIRECTORY, told.into());
            }
            Some(Word::Kept { number }) => {
                self.answered(ground, flow.origin, number, Reply::Kept);
            }
            Some(Word::Told { number, signed }) => {
                let mut placed = Vec::with_capacity(signed.len().min(ANSWERED));
                for signed in signed.into_iter().take(ANSWERED) {
                    if self.is_signed(ground, &signed) {
                        let Record {
                            id, address, name, ..
                        } = signed.record;
                        placed.push(Placed { id, address, name });
                    }
                }
                self.answered(ground, flow.origin, number, Reply::Peers(placed));
            }
            None => {}
        }
    }

    /// Says that a record is kept, if it is; silence makes its sender offer it again.
    fn confirm(
        &mut self,
        ground: &mut Ground<'_, O>,
        flow: &Flow<O::Address>,
        number: Option<u64>,
    ) {
        let Some(number) = number else { return };
        let kept = wire::to_vec(&Word::<O::Address>::Kept { number });
        self.post(
            ground,
            flow.origin,
            flow.source.clone(),
            Port::DIRECTORY,
            kept.into(),
        );
    }

    fn is_signed(&mut self, ground: &mut Ground<'_, O>, signed: &Signed<O::Address>) -> bool {
        let Signed { record, signature } = signed;
        let host = ground.view.host;
        let is_signed = host.verify(&record.id, &record.bytes(host.network()), signature);
        if !is_signed {
            self.fault(ground, "a directory record that its peer did not sign");
        }
        is_signed
    }

    fn keep(
        &mut self,
        ground: &mut Ground<'_, O>,
        kind: Kind,
        left: u32,
        signed: Signed<O::Address>,
        is_copy: bool,
    ) -> bool {
        let record = &signed.record;
        let name = record.name.as_deref();
        let key = match kind {
            Kind::Peer => peer_key(&record.id),
            Kind::Name => Key::of("name", name.unwrap_or_default().as_bytes()),
        };
        let is_fair = u64::from(record.lease) <= LEASE.as_secs()
            && name.is_none_or(|name| !name.is_empty() && name.len() <= MAX_NAME)
            && (kind == Kind::Peer || name.is_some());
        if !is_fair {
            self.fault(ground, "a directory record beyond its bounds");
            return false;
        }
        if !self.is_signed(ground, &signed) {
            return false;
        }
        let left = Duration::from_secs(u64::from(left.min(signed.record.lease)));
        let ways: [Way; CHOICES as usize] =
            std::array::from_fn(|choice| way(ground, key, choice as u8));
        let is_owner = ways.contains(&Way::Here);
        let mut others = Vec::new();
        let near = if is_owner {
            near(ground, &key, &mut others)
        } else {
            0
        };
        let given = if is_copy { near } else { 0 };
        let id = signed.record.id;
        if signed.record.lease == 0 && is_owner && !is_copy {
            // Who is gone is gone everywhere.
            for other in others {
                let (aim, now) = (Aim::Peer(ground.view.id(other)), ground.now);
                self.put(ground, kind, aim, &signed, Some(now));
            }
        }
        let held = Held {
            signed,
            expires: ground.now + left,
            key,
            ways,
            near: ways.map(|way| if way == Way::Here { given } else { 0 }),
        };
        let is_kept = self.directory.records.keep(kind, held);
        if is_kept && is_owner && !is_copy && self.directory.fresh.len() < FRESH {
            self.directory.fresh.push((kind, id));
            let share = &mut self.directory.share;
            share.get_or_insert(ground.now + HAND_OVER_EVERY);
            self.arm(ground);
        }
        if self.directory.sweep.is_none() && !self.directory.records.is_empty() {
            self.directory.sweep = Some(ground.now + SWEEP_EVERY);
            self.arm(ground);
        }
        is_kept
    }

    /// Puts this peer's own record where it belongs, and plans the next time.
    pub(crate) fn publish(&mut self, ground: &mut Ground<'_, O>) {
        if !ground.overlay.is_structured() {
            return;
        }
        self.put_own(ground, LEASE);
        // Half the lease, give or take a fifth, so that peers which joined together spread out.
        let half = LEASE / 2;
        let wait = ground.random.between(half * 4 / 5, half * 6 / 5);
        self.directory.renew = Some(ground.now + wait);
        self.arm(ground);
    }

    /// Says that this peer is leaving.
    pub(crate) fn withdraw(&mut self, ground: &mut Ground<'_, O>) {
        if !ground.overlay.is_structured() {
            return;
        }
        self.put_own(ground, Duration::ZERO);
        self.directory.renew = None;
    }

    /// The record could not be put: soon again.
    pub(crate) fn on_put_failed(&mut self, ground: &mut Ground<'_, O>) {
        let again = ground.now + PUT_AGAIN;
        if let Some(renew) = &mut self.directory.renew {
            *renew = again.min(*renew);
            self.arm(ground);
        }
    }

    fn put_own(&mut self, ground: &mut Ground<'_, O>, lease: Duration) {
        let Some(Placed { id, address, name }) = self.placed() else {
            return;
        };
        self.drop_puts();
        let name = name.filter(|name| !name.is_empty() && name.len() <= MAX_NAME);
        self.directory.sequence += 1;
        let record = Record {
            id,
            address,
            name: name.clone(),
            incarnation: ground.view.profile.incarnation,
            sequence: self.directory.sequence,
            lease: lease.as_secs() as u32,
        };
        let host = ground.view.host;
        let signature = host.sign(&record.bytes(host.network()));
        let signed = Signed { record, signature };
        for choice in 0..CHOICES {
            let aim = Aim::owner(peer_key(&id), choice);
            self.put(ground, Kind::Peer, aim, &signed, None);
            if let Some(name) = &name {
                let aim = Aim::owner(Key::of("name", name.as_bytes()), choice);
                self.put(ground, Kind::Name, aim, &signed, None);
            }
        }
    }

    /// Offers a record to an owner of its key, or to who may be asked in its place; `expires` is given for
    /// those of other peers.
    fn put(
        &mut self,
        ground: &mut Ground<'_, O>,
        kind: Kind,
        aim: Aim<O::Address>,
        signed: &Signed<O::Address>,
        expires: Option<Time>,
    ) {
        let left = expires.map(|expires| expires.since(ground.now).as_secs() as u32);
        let purpose = if left.is_some() {
            Purpose::HandOver
        } else {
            Purpose::Put
        };
        let word = Word::Put {
            number: self.next_ask(),
            kind,
            left: left.unwrap_or(signed.record.lease),
            signed: signed.clone(),
        };
        self.ask(
            ground,
            aim,
            Port::DIRECTORY,
            wire::to_vec(&word).into(),
            purpose,
        );
    }

    /// The table changed: keys may lead elsewhere.
    pub(crate) fn on_changed(&mut self, ground: &mut Ground<'_, O>) {
        if !self.directory.records.is_empty() && self.directory.hand_over.is_none() {
            self.directory.hand_over = Some(ground.now + HAND_OVER_EVERY);
            self.arm(ground);
        }
    }

    /// Does what is due.
    pub(crate) fn tend_directory(&mut self, ground: &mut Ground<'_, O>) {
        let now = ground.now;
        let is_due = |at: &Option<Time>| at.is_some_and(|at| at <= now);
        self.directory.armed.take_if(|at| *at <= now);
        if is_due(&self.directory.renew) {
            self.publish(ground);
        }
        if is_due(&self.directory.sweep) {
            self.directory.records.sweep_out(now);
            let is_empty = self.directory.records.is_empty();
            self.directory.sweep = (!is_empty).then(|| now + SWEEP_EVERY);
        }
        if is_due(&self.directory.hand_over) {
            let is_through = self.hand_over_records(ground);
            self.directory.hand_over = (!is_through).then(|| now + HAND_OVER_EVERY);
        }
        if is_due(&self.directory.share) {
            self.directory.share = None;
            self.share_fresh(ground);
        }
        self.arm(ground);
    }

    /// Hands records over whose keys lead elsewhere; says whether that was all.
    fn hand_over_records(&mut self, ground: &mut Ground<'_, O>) -> bool {
        let (mut others, mut moved) = (Vec::new(), Vec::new());
        let directory = &mut self.directory;
        let peers = directory
            .records
            .peers
            .values_mut()
            .map(|held| (Kind::Peer, held));
        let names = directory
            .records
            .names
            .values_mut()
            .map(|held| (Kind::Name, held));
        for (kind, held) in peers.chain(names) {
            if moved.len() >= HAND_OVER_AT_ONCE {
                break;
            }
            moves(ground, kind, held, &mut others, &mut moved);
        }
        let is_through = moved.len() < HAND_OVER_AT_ONCE;
        self.carry(ground, moved);
        is_through
    }

    /// Gives copies of what has just come to those that may be asked in this peer's place.
    fn share_fresh(&mut self, ground: &mut Ground<'_, O>) {
        let (mut others, mut moved) = (Vec::new(), Vec::new());
        let directory = &mut self.directory;
        for (kind, id) in std::mem::take(&mut directory.fresh) {
            if let Some(held) = directory.records.get_mut(kind, &id) {
                moves(ground, kind, held, &mut others, &mut moved);
            }
        }
        self.carry(ground, moved);
    }

    fn carry(&mut self, ground: &mut Ground<'_, O>, moved: Vec<Move<O::Address>>) {
        for Move {
            kind,
            aim,
            signed,
            expires,
        } in moved
        {
            self.put(ground, kind, aim, &signed, Some(expires));
        }
    }

    /// Makes sure that a timer is set for what is due next.
    fn arm(&mut self, ground: &mut Ground<'_, O>) {
        let directory = &mut self.directory;
        let Directory {
            renew,
            share,
            hand_over,
            sweep,
            ..
        } = directory;
        let due = [*renew, *share, *hand_over, *sweep];
        let Some(due) = due.into_iter().flatten().min() else {
            return;
        };
        if directory.armed.is_none_or(|armed| due < armed) {
            directory.armed = Some(due);
            ground.after(due.since(ground.now), Tick::Directory);
        }
    }
}

/// A record that goes to another peer.
struct Move<A> {
    kind: Kind,
    aim: Aim<A>,
    signed: Signed<A>,
    expires: Time,
}

/// Appends where a record has to go, as far as that has changed since it was looked at last.
fn moves<O: Overlay>(
    ground: &Ground<'_, O>,
    kind: Kind,
    held: &mut Held<O::Address>,
    others: &mut Vec<Peer>,
    moved: &mut Vec<Move<O::Address>>,
) {
    for choice in 0..CHOICES {
        let way = way(ground, held.key, choice);
        let place = usize::from(choice);
        let known = std::mem::replace(&mut held.ways[place], way);
        let mut aims = Vec::new();
        if way == Way::Here {
            let mark = near(ground, &held.key, others);
            if std::mem::replace(&mut held.near[place], mark) != mark {
                aims.extend(others.iter().map(|peer| Aim::Peer(ground.view.id(*peer))));
            }
        } else {
            held.near[place] = 0;
            if way != known && matches!(way, Way::Via(_)) {
                aims.push(Aim::owner(held.key, choice));
            }
        }
        moved.extend(aims.into_iter().map(|aim| Move {
            kind,
            aim,
            signed: held.signed.clone(),
            expires: held.expires,
        }));
    }
}

/// Fills `others` with those that may be asked in this peer's place, or come after it; gives a hash of them
/// that is never 0. It is asked of every record when the table changes, so it allocates nothing.
fn near<O: Overlay>(ground: &Ground<'_, O>, key: &Key, others: &mut Vec<Peer>) -> u64 {
    others.clear();
    ground.overlay.replicas(&ground.view, key, NEAR, others);
    // The same peers in another order are the same.
    let marks = others
        .iter()
        .map(|peer| head(&ground.view.id(*peer)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    marks.fold(0, u64::wrapping_add) | 1
}

/// Where a key leads from here.
pub(crate) fn way<O: Overlay>(ground: &Ground<'_, O>, key: Key, choice: u8) -> Way {
    let target = Target::Key {
        scope: None,
        key,
        choice,
    };
    match ground.overlay.next_hop(&ground.view, &target, key.head()) {
        Hop::Arrived => Way::Here,
        Hop::To(peer) | Hop::Corrected(peer, _) => Way::Via(peer),
        Hop::Nobody | Hop::Cut => Way::Nowhere,
    }
}
