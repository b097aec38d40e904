//! Bytes into frames. Nothing here trusts a byte.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use ringweave_ids::{Peer, PeerId, wire::decode};
use ringweave_overlay::{Message, Overlay};

use super::{
    Book, CAST, Contact, ENVELOPE, FLOW, INSTANCE, KEPT, MAX_CARD, MAX_CONTACTS, MAX_FRAME,
    OVERLAY, REPAIR, SEQUENCE, SEVERAL, SLOTS, SPAN, TRACED, WireError, check, unzigzag,
};
use crate::{Cast, Envelope, Flow, Frame, MAX_NAMED, MAX_PAYLOAD, MAX_RECEIVERS, Repair};

/// Reads the frames of one stream. The messages of a flow come with one and the same [`Flow`].
pub struct Decoder<O: Overlay> {
    slots: Vec<Option<Slot<O::Address>>>,
    skipped: u64,
    instance: u32,
}

struct Slot<A> {
    flow: Arc<Flow<A>>,
    sequence: u64,
}

impl<O: Overlay> Default for Decoder<O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O: Overlay> Decoder<O> {
    /// A decoder for a new stream.
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            skipped: 0,
            instance: 0,
        }
    }

    /// Which overlay of the two peers the frame decoded last belongs to.
    pub fn instance(&self) -> u32 {
        self.instance
    }

    /// Frames that were skipped so far: of unknown tags, with contacts that the book refused, or
    /// words about broadcasts that do not decode.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Takes the next frame off the front of `input`; nothing while it is not all there. Payloads
    /// are slices of `input`'s memory, not copies.
    ///
    /// # Errors
    /// If the bytes are not what an [`Encoder`](super::Encoder) writes. The stream is of no use then.
    pub fn decode(
        &mut self,
        input: &mut BytesMut,
        book: &mut dyn Book,
    ) -> Result<Option<Frame<O>>, WireError> {
        while let Some((head, len)) = frame_length(input)? {
            if input.len() < head + len {
                return Ok(None);
            }
            let mut frame = input.split_to(head + len).freeze();
            frame.advance(head);
            if let Some(frame) = self.decode_frame(frame, book)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn decode_frame(
        &mut self,
        mut frame: Bytes,
        book: &mut dyn Book,
    ) -> Result<Option<Frame<O>>, WireError> {
        let tag = take_byte(&mut frame)?;
        let known = ENVELOPE | TRACED | SEQUENCE | CAST;
        match tag {
            OVERLAY => match decode_upkeep::<O>(&mut frame, book)? {
                Some(message) => return Ok(Some(Frame::Overlay(message))),
                None => self.skipped += 1,
            },
            FLOW => self.learn(&mut frame)?,
            INSTANCE => {
                let number = u32::try_from(take_varint(&mut frame)?);
                self.instance = number.map_err(|_| WireError::Malformed("no such instance"))?;
            }
            // A word that does not decode may be a newer one; the stream is none the worse for it.
            REPAIR => match decode::<Repair<O::Span>>(&frame, MAX_FRAME) {
                Ok(repair) if repair.named() <= MAX_NAMED => {
                    return Ok(Some(Frame::Repair(repair)));
                }
                _ => self.skipped += 1,
            },
            _ if tag & ENVELOPE != 0 && tag & !known == 0 => {
                return self
                    .decode_envelope(tag, frame)
                    .map(|envelope| Some(Frame::Envelope(envelope)));
            }
            _ => self.skipped += 1,
        }
        Ok(None)
    }

    fn learn(&mut self, frame: &mut Bytes) -> Result<(), WireError> {
        let slot = usize::from(take_byte(frame)?);
        let flow = Arc::new(decode(frame, MAX_FRAME)?);
        if self.slots.len() <= slot {
            self.slots.resize_with((slot + 1).min(SLOTS), || None);
        }
        self.slots[slot] = Some(Slot { flow, sequence: 0 });
        Ok(())
    }

    fn decode_envelope(&mut self, tag: u8, mut frame: Bytes) -> Result<Envelope<O>, WireError> {
        let slot = usize::from(take_byte(&mut frame)?);
        let hops = take_byte(&mut frame)?;
        let delta = match tag & SEQUENCE {
            0 => 1,
            _ => unzigzag(take_varint(&mut frame)?),
        };
        let slot = self.slots.get_mut(slot).and_then(Option::as_mut);
        let slot = slot.ok_or(WireError::Malformed("an envelope of an unknown flow"))?;
        slot.sequence = slot.sequence.wrapping_add(delta as u64);
        let (flow, sequence) = (Arc::clone(&slot.flow), slot.sequence);
        let cast = match tag & CAST {
            SEVERAL => {
                let receivers: Vec<_> = decode(&take_part(&mut frame)?, MAX_FRAME)?;
                check(receivers.len(), MAX_RECEIVERS)?;
                Cast::Several(receivers)
            }
            SPAN => Cast::Span(decode(&take_part(&mut frame)?, MAX_FRAME)?),
            KEPT => Cast::Kept,
            _ => Cast::One,
        };
        check(frame.len(), MAX_PAYLOAD)?;
        let is_traced = tag & TRACED != 0;
        Ok(Envelope {
            flow,
            sequence,
            hops,
            is_traced,
            cast,
            payload: frame,
        })
    }
}

/// The length of the next frame's head and body, if the head is all there.
fn frame_length(input: &[u8]) -> Result<Option<(usize, usize)>, WireError> {
    let mut len = 0_usize;
    for (place, byte) in input.iter().enumerate().take(4) {
        len |= usize::from(byte & 0x7f) << (7 * place);
        if len > MAX_FRAME {
            return Err(WireError::TooLong {
                len,
                cap: MAX_FRAME,
            });
        }
        if byte & 0x80 == 0 {
            return match len {
                0 => Err(WireError::Malformed("an empty frame")),
                _ => Ok(Some((place + 1, len))),
            };
        }
    }
    if input.len() < 4 {
        Ok(None)
    } else {
        Err(WireError::Malformed("an endless length"))
    }
}

/// The message of an upkeep frame; nothing if the book refused one of its contacts.
fn decode_upkeep<O: Overlay>(
    frame: &mut Bytes,
    book: &mut dyn Book,
) -> Result<Option<O::Message>, WireError> {
    let count = take_varint(frame)?;
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_CONTACTS);
    let count = count.ok_or(WireError::Malformed("more contacts than allowed"))?;
    let mut contacts = Vec::with_capacity(count.min(frame.len() / 33));
    for _ in 0..count {
        if frame.len() < 32 {
            return Err(WireError::Malformed("a contact cut short"));
        }
        let mut id = [0; 32];
        frame.copy_to_slice(&mut id);
        let card = take_part(frame)?;
        check(card.len(), MAX_CARD)?;
        contacts.push(Contact {
            id: PeerId::from_bytes(id),
            card,
        });
    }
    let mut message: O::Message = decode(frame, MAX_FRAME)?;
    let mut is_in_range = true;
    message.visit(&mut |peer| is_in_range &= (peer.0 as usize) < count);
    if !is_in_range {
        return Err(WireError::Malformed(
            "a message names a peer that is not in its table",
        ));
    }
    let mut handles = Vec::with_capacity(count);
    for contact in contacts {
        match book.intern(contact) {
            Some(peer) => handles.push(peer),
            None => return Ok(None),
        }
    }
    message.visit(&mut |peer| {
        *peer = handles
            .get(peer.0 as usize)
            .copied()
            .unwrap_or(Peer(u32::MAX));
    });
    Ok(Some(message))
}

fn take_byte(frame: &mut Bytes) -> Result<u8, WireError> {
    if frame.is_empty() {
        return Err(WireError::Malformed("a frame cut short"));
    }
    Ok(frame.get_u8())
}

fn take_varint(frame: &mut Bytes) -> Result<u64, WireError> {
    let mut word = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(frame)?;
        word |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(word);
        }
    }
    Err(WireError::Malformed("an endless number"))
}

/// A part with its length before it.
fn take_part(frame: &mut Bytes) -> Result<Bytes, WireError> {
    let len = take_varint(frame)?;
    let len = usize::try_from(len).ok().filter(|len| *len <= frame.len());
    let len = len.ok_or(WireError::Malformed("a part longer than its frame"))?;
    Ok(frame.split_to(len))
}
