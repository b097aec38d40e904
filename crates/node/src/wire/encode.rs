//! Frames into bytes.

use std::{collections::HashMap, sync::Arc};

use bytes::{BufMut, BytesMut};
use ringweave_ids::{Peer, wire::to_vec};
use ringweave_overlay::{Message, Overlay};

use super::{
    Book, Contact, ENVELOPE, FLOW, INSTANCE, KEPT, MAX_CARD, MAX_CONTACTS, MAX_FRAME, OVERLAY,
    REPAIR, SEQUENCE, SEVERAL, SLOTS, SPAN, TRACED, WireError, check, zigzag,
};
use crate::{Cast, Envelope, Flow, Frame, lru::Seed};

/// Writes the frames of one stream. It remembers which flows the other side knows.
pub struct Encoder<O: Overlay> {
    slots: Vec<Slot<O::Address>>,
    /// Slots by the address of their flow, which the slot keeps alive.
    index: HashMap<usize, u8, Seed>,
    /// The slot used last.
    last: usize,
    uses: u64,
    instance: u32,
}

struct Slot<A> {
    flow: Arc<Flow<A>>,
    sequence: u64,
    used: u64,
}

impl<O: Overlay> Default for Encoder<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: Overlay> Encoder<O> {
    /// An encoder for a new stream.
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            index: HashMap::with_hasher(Seed(0)),
            last: 0,
            uses: 0,
            instance: 0,
        }
    }

    /// Says which overlay of the two peers the frames that follow belong to, if it is another one.
    pub fn turn_to(&mut self, instance: u32, out: &mut BytesMut) {
        if std::mem::replace(&mut self.instance, instance) != instance {
            let mut number = [0; 10];
            let len = varint(instance.into(), &mut number);
            put_varint(out, len as u64 + 1);
            out.put_u8(INSTANCE);
            out.put_slice(&number[..len]);
        }
    }

    /// Writes a frame to the end of `out`. Frames must be sent in the order they were written.
    ///
    /// # Errors
    /// [`WireError::TooLong`] if the frame is longer than [`MAX_FRAME`], names more than
    /// [`MAX_CONTACTS`] peers or has a longer card than [`MAX_CARD`]; `out` is as it was then.
    pub fn encode(
        &mut self,
        frame: &Frame<O>,
        book: &dyn Book,
        out: &mut BytesMut,
    ) -> Result<(), WireError> {
        match frame {
            Frame::Overlay(message) => encode_upkeep::<O>(message, book, out),
            Frame::Envelope(envelope) => self.encode_envelope(envelope, out),
            Frame::Repair(repair) => {
                let body = to_vec(repair);
                check(body.len() + 1, MAX_FRAME)?;
                put_varint(out, body.len() as u64 + 1);
                out.put_u8(REPAIR);
                out.put_slice(&body);
                Ok(())
            }
        }
    }

    fn encode_envelope(
        &mut self,
        envelope: &Envelope<O>,
        out: &mut BytesMut,
    ) -> Result<(), WireError> {
        let (cast, cast_flag) = match &envelope.cast {
            Cast::One => (Vec::new(), 0),
            Cast::Several(receivers) => (to_vec(receivers), SEVERAL),
            Cast::Span(span) => (to_vec(span), SPAN),
            Cast::Kept => (Vec::new(), KEPT),
        };
        // Tag, slot, hops, sequence and the length of the cast.
        let longest = 3 + 10 + 5 + cast.len() + envelope.payload.len();
        check(longest, MAX_FRAME)?;
        let slot = self.slot(&envelope.flow, out)?;
        let known = &mut self.slots[slot];
        let delta = envelope.sequence.wrapping_sub(known.sequence) as i64;
        known.sequence = envelope.sequence;
        let mut head = [0_u8; 3 + 10 + 5];
        let mut len = 3;
        let mut flags = ENVELOPE | cast_flag;
        if envelope.is_traced {
            flags |= TRACED;
        }
        if delta != 1 {
            flags |= SEQUENCE;
            len += varint(zigzag(delta), &mut head[len..]);
        }
        if matches!(cast_flag, SEVERAL | SPAN) {
            len += varint(cast.len() as u64, &mut head[len..]);
        }
        head[0] = flags;
        head[1] = slot as u8;
        head[2] = envelope.hops;
        put_varint(out, (len + cast.len() + envelope.payload.len()) as u64);
        out.put_slice(&head[..len]);
        out.put_slice(&cast);
        out.put_slice(&envelope.payload);
        Ok(())
    }

    /// The slot of a flow; tells the other side if it does not know it.
    fn slot(
        &mut self,
        flow: &Arc<Flow<O::Address>>,
        out: &mut BytesMut,
    ) -> Result<usize, WireError> {
        self.uses += 1;
        let is_last = self
            .slots
            .get(self.last)
            .is_some_and(|slot| Arc::ptr_eq(&slot.flow, flow));
        if !is_last {
            let place = Arc::as_ptr(flow) as usize;
            self.last = match self.index.get(&place) {
                Some(slot) => usize::from(*slot),
                None => self.learn(flow, out)?,
            };
        }
        self.slots[self.last].used = self.uses;
        Ok(self.last)
    }

    fn learn(
        &mut self,
        flow: &Arc<Flow<O::Address>>,
        out: &mut BytesMut,
    ) -> Result<usize, WireError> {
        let body = to_vec(&**flow);
        check(body.len() + 2, MAX_FRAME)?;
        let oldest = self
            .slots
            .iter()
            .enumerate()
            .min_by_key(|(_, slot)| slot.used);
        let slot = match oldest {
            Some((slot, _)) if self.slots.len() >= SLOTS => slot,
            _ => self.slots.len(),
        };
        let known = Slot {
            flow: Arc::clone(flow),
            sequence: 0,
            used: 0,
        };
        if slot < self.slots.len() {
            let old = std::mem::replace(&mut self.slots[slot], known);
            self.index.remove(&(Arc::as_ptr(&old.flow) as usize));
        } else {
            self.slots.push(known);
        }
        self.index.insert(Arc::as_ptr(flow) as usize, slot as u8);
        put_varint(out, body.len() as u64 + 2);
        out.put_slice(&[FLOW, slot as u8]);
        out.put_slice(&body);
        Ok(slot)
    }
}

fn encode_upkeep<O: Overlay>(
    message: &O::Message,
    book: &dyn Book,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let mut message = message.clone();
    let mut named: HashMap<Peer, u32, Seed> = HashMap::with_hasher(Seed(0));
    let mut body = BytesMut::new();
    let mut longest_card = 0;
    message.visit(&mut |peer| {
        let next = named.len() as u32;
        let index = *named.entry(*peer).or_insert_with(|| {
            let Contact { id, card } = book.contact(*peer);
            longest_card = longest_card.max(card.len());
            body.put_slice(id.as_bytes());
            put_varint(&mut body, card.len() as u64);
            body.put_slice(&card);
            next
        });
        *peer = Peer(index);
    });
    check(longest_card, MAX_CARD)?;
    check(named.len(), MAX_CONTACTS)?;
    let message = to_vec(&message);
    let mut count = [0; 10];
    let count_len = varint(named.len() as u64, &mut count);
    let len = 1 + count_len + body.len() + message.len();
    check(len, MAX_FRAME)?;
    put_varint(out, len as u64);
    out.put_u8(OVERLAY);
    out.put_slice(&count[..count_len]);
    out.put_slice(&body);
    out.put_slice(&message);
    Ok(())
}

/// Writes a varint (LEB128) to the start of `out`, which holds ten bytes or as many as it takes.
fn varint(mut word: u64, out: &mut [u8]) -> usize {
    let mut len = 0;
    while word >= 0x80 {
        out[len] = word as u8 | 0x80;
        word >>= 7;
        len += 1;
    }
    out[len] = word as u8;
    len + 1
}

fn put_varint(out: &mut BytesMut, word: u64) {
    let mut bytes = [0; 10];
    let len = varint(word, &mut bytes);
    out.put_slice(&bytes[..len]);
}
