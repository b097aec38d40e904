//! What one part of the world counts; the parts are added up at the end.

use ringweave_node::{Counters, Event, Frame, Message, Port};

use super::{
    Common,
    actor::is_upkeep,
    event::Parcel,
    lab::Lab,
    load::{self, Kind},
    records::{self, Told},
};

/// Counts of one part.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) digest: u64,
    /// Frames lost with a connection, or with no room to wait for one.
    pub(crate) dropped: u64,
    /// Nonsense that nodes complained of.
    pub(crate) faults: u64,
    pub(crate) fault: Option<&'static str>,
    pub(crate) upkeep: Upkeep,
    /// Counters of nodes that are gone.
    pub(crate) buried: Counters,
    /// Commands that were given to a node.
    pub(crate) asked: Vec<u64>,
    /// Lookups and parts of multicasts that arrived.
    pub(crate) deliveries: Vec<Delivery>,
    /// Times that an application was handed a broadcast which it had.
    pub(crate) doubled: u64,
    /// One of them: the peer and the broadcast.
    pub(crate) double: Option<(u32, u64)>,
    /// Broadcasts: the last arrival of each.
    pub(crate) spreads: Vec<u64>,
    /// When the first broadcast came to each peer.
    pub(crate) reach: Vec<u64>,
    /// What was heard of puts and reads of records, by ticket.
    pub(crate) records: Vec<(u64, Told)>,
    /// Frames about records sent in the measured span.
    pub(crate) traffic: Upkeep,
    /// Questions to the directory that were answered, and those with the right answer.
    pub(crate) answers: (u64, u64),
}

/// Upkeep frames sent in the measured span.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Upkeep {
    pub(crate) messages: u64,
    /// Bytes of those that were weighed, and how many these were.
    pub(crate) bytes: u64,
    pub(crate) weighed: u64,
}

/// A message came to a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) kind: Kind,
    pub(crate) index: u64,
    pub(crate) at: u64,
    pub(crate) by: u32,
    pub(crate) hops: u8,
}

impl Tally {
    /// A message came to a peer's application; gives the broadcast that it is.
    pub(crate) fn deliver(&mut self, by: u32, at: u64, message: &Message) -> Option<u64> {
        let (kind, index) = load::read(&message.payload)?;
        if kind != Kind::Broadcast {
            let hops = message.hops;
            self.deliveries.push(Delivery {
                kind,
                index,
                at,
                by,
                hops,
            });
            return None;
        }
        let place = index as usize;
        if self.spreads.len() <= place {
            self.spreads.resize(place + 1, 0);
        }
        self.spreads[place] = self.spreads[place].max(at);
        if index == 0 {
            self.reach.push(at);
        }
        Some(index)
    }

    /// A node told its application something else.
    pub(crate) fn hear<O: Lab>(&mut self, common: &Common<O>, event: &Event<O::Address>) {
        match event {
            Event::Fault(kind) => {
                self.faults += 1;
                self.fault = Some(kind);
            }
            Event::Resolved(ticket, answer) => {
                self.answers.0 += 1;
                let wanted = common.keys.id(ticket.0 as u32);
                let is_right = answer
                    .as_ref()
                    .is_ok_and(|placed| placed.iter().any(|one| one.id == wanted));
                self.answers.1 += u64::from(is_right);
            }
            _ => self.records.extend(records::heard(event)),
        }
    }

    pub(crate) fn count_upkeep<O: Lab>(
        &mut self,
        common: &Common<O>,
        now: u64,
        parcel: &Parcel<O>,
    ) {
        if !common.measured.contains(&now) {
            return;
        }
        let counts = match &parcel.frame {
            frame if is_upkeep(frame) => &mut self.upkeep,
            Frame::Envelope(envelope) if envelope.flow.port == Port::RECORDS => &mut self.traffic,
            _ => return,
        };
        counts.messages += 1;
        if parcel.bytes > 0 {
            counts.bytes += u64::from(parcel.bytes);
            counts.weighed += 1;
        }
    }

    /// A node is gone: its counters stay.
    pub(crate) fn bury(&mut self, counters: &Counters) {
        add(&mut self.buried, counters);
    }
}

/// Adds counters up.
pub(crate) fn add(sum: &mut Counters, more: &Counters) {
    sum.sent += more.sent;
    sum.delivered += more.delivered;
    sum.forwarded += more.forwarded;
    sum.spread += more.spread;
    sum.duplicates += more.duplicates;
    sum.spread_twice += more.spread_twice;
    sum.repaired += more.repaired;
    sum.late += more.late;
    sum.offered += more.offered;
    sum.asked += more.asked;
    sum.missed += more.missed;
    sum.dropped += more.dropped;
    sum.faults += more.faults;
}
