//! The bytes that signatures are made over: those that [`ringweave_ids::wire`] writes for a tuple
//! of the same fields, put together without the heap and without going byte by byte.

use std::ops::Deref;

use smallvec::SmallVec;

use super::record::Seat;
use crate::Host;

/// What is signed. Most records fit without the heap.
pub(super) struct Words(SmallVec<[u8; 256]>);

impl Words {
    /// Opens with what kind of word it is, so that none passes for another, and the network; the rest
    /// is written by `rest`, in place.
    pub(super) fn of(kind: &str, host: &dyn Host, rest: impl FnOnce(&mut Self)) -> Self {
        let mut words = Self(SmallVec::new());
        words.text(kind).raw(host.network());
        rest(&mut words);
        words
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64).raw(text.as_bytes())
    }

    /// Keys and signatures: arrays of a length that their type says.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Seven bits at a time, the lowest first.
    pub(super) fn number(&mut self, mut number: u64) -> &mut Self {
        if number < 0x80 {
            self.0.push(number as u8);
            return self;
        }
        let (mut bytes, mut len) = ([0; 10], 1);
        while number >= 0x80 {
            bytes[len - 1] = number as u8 | 0x80;
            number >>= 7;
            len += 1;
        }
        bytes[len - 1] = number as u8;
        self.raw(&bytes[..len])
    }

    pub(super) fn seat(&mut self, seat: Seat) -> &mut Self {
        self.number(seat.ring.0).number(seat.position.0)
    }

    /// A byte that says whether there is one, and then it.
    pub(super) fn maybe<T>(
        &mut self,
        it: Option<T>,
        write: impl FnOnce(&mut Self, T) -> &mut Self,
    ) -> &mut Self {
        match it {
            Some(it) => write(self.number(1), it),
            None => self.number(0),
        }
    }
}

impl Deref for Words {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringweave_ids::{Peer, Signature, wire};

    use super::*;
    use crate::polyring::{record::PositionId, testing::Faker};

    proptest! {
        #[test]
        fn words_are_what_the_wire_would_write(
            ring in any::<u64>(), position in 0..1_000_u64, number in any::<u64>(), branch in ".{0,200}",
            keeper in prop::option::of(0..9_u32), signature in prop::option::of(any::<u8>()),
        ) {
            let host = Faker::new(0);
            let seat = Seat { ring: PositionId(ring), position: PositionId(position) };
            let keeper = keeper.map(|keeper| host.id(Peer(keeper)));
            let signature = signature.map(|byte| Signature([byte; 64]));
            let words = Words::of("grant", &host, |words| {
                words.seat(seat).number(number).text(&branch);
                words.maybe(keeper, |words, keeper| words.raw(keeper.as_bytes()));
                words.maybe(signature, |words, signature| words.raw(&signature.0));
            });
            let wire = wire::to_vec(&("grant", host.network(), seat, number, &branch, keeper, signature));
            prop_assert_eq!(&*words, &wire[..]);
        }
    }
}
