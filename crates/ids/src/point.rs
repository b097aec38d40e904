//! Points: where a peer or a key sits in the topologies that arrange peers by number.
//!
//! A point is a 128-bit number, as in Pastry (Rowstron and Druschel, Middleware 2001, section 2.1);
//! it is a hash, so nobody chooses its own. On the circle it is read clockwise, towards larger
//! numbers and from the largest to zero; in a prefix tree as digits, the most significant first.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{GuidError, Key, PeerId};

/// A number of 128 bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    // Two halves, so that it needs no more alignment than a word.
    high: u64,
    low: u64,
}

impl Point {
    /// The number of bits.
    pub const BITS: u32 = u128::BITS;

    /// Point number `value`.
    #[inline]
    pub const fn new(value: u128) -> Self {
        Self {
            high: (value >> 64) as u64,
            low: value as u64,
        }
    }

    /// Its number.
    #[inline]
    pub const fn value(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// Where a peer sits: a hash of its public key.
    pub fn of_peer(id: &PeerId) -> Self {
        Self::of_key(&Key::of("point", id.as_bytes()))
    }

    /// Where a key sits: its first 16 bytes.
    pub fn of_key(key: &Key) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&key.0[..16]);
        Self::new(u128::from_be_bytes(bytes))
    }

    /// How far it is from here clockwise to `to`.
    #[inline]
    pub const fn clockwise(self, to: Self) -> u128 {
        to.value().wrapping_sub(self.value())
    }

    /// How far the two are apart the shorter way round.
    #[inline]
    pub const fn apart(self, other: Self) -> u128 {
        let (there, back) = (self.clockwise(other), other.clockwise(self));
        if there < back { there } else { back }
    }

    /// How far the two are apart in the metric of Kademlia (Maymounkov and Mazieres, IPTPS 2002, 2.1).
    #[inline]
    pub const fn xor(self, other: Self) -> u128 {
        self.value() ^ other.value()
    }

    /// The point this far clockwise from here.
    #[inline]
    #[must_use]
    pub const fn plus(self, distance: u128) -> Self {
        Self::new(self.value().wrapping_add(distance))
    }

    /// Whether it lies clockwise after `after` and not beyond `upto`; where these are the same point,
    /// everything does.
    #[inline]
    pub const fn is_in(self, after: Self, upto: Self) -> bool {
        let here = after.clockwise(self).wrapping_sub(1);
        here <= after.clockwise(upto).wrapping_sub(1)
    }

    /// How many leading bits the two share, 0 to 128.
    #[inline]
    pub const fn shared_bits(self, other: Self) -> u32 {
        self.xor(other).leading_zeros()
    }

    /// Digit number `at`, the most significant first, of digits of `bits` bits (1 to 8).
    #[inline]
    pub const fn digit(self, at: u32, bits: u32) -> u8 {
        let shift = Self::BITS - (at + 1) * bits;
        ((self.value() >> shift) as u32 & ((1 << bits) - 1)) as u8
    }
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.value())
    }
}

impl FromStr for Point {
    type Err = GuidError;

    /// Reads 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, GuidError> {
        let is_whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = is_whole.then(|| u128::from_str_radix(text, 16).ok());
        let value = value
            .flatten()
            .ok_or_else(|| GuidError::Point(text.into()))?;
        Ok(Self::new(value))
    }
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().to_be_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <[u8; 16]>::deserialize(deserializer)?;
        Ok(Self::new(u128::from_be_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: u128) -> Point {
        Point::new(value)
    }

    #[test]
    fn intervals_wrap_and_hold_their_end_alone() {
        assert!(at(5).is_in(at(3), at(7)) && at(7).is_in(at(3), at(7)));
        assert!(!at(3).is_in(at(3), at(7)) && !at(8).is_in(at(3), at(7)));
        assert!(at(1).is_in(at(u128::MAX), at(2)) && !at(3).is_in(at(u128::MAX), at(2)));
        assert!(at(9).is_in(at(4), at(4)) && at(4).is_in(at(4), at(4)));
    }

    #[test]
    fn digits_are_read_from_the_front() {
        let point = at(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let digits: Vec<_> = (0..5).map(|at| point.digit(at, 4)).collect();
        assert_eq!(digits, [0, 1, 2, 3, 4]);
        assert_eq!((point.digit(31, 4), point.digit(127, 1)), (15, 1));
    }

    #[test]
    fn distances() {
        assert_eq!(at(3).clockwise(at(1)), u128::MAX - 1);
        assert_eq!((at(3).apart(at(1)), at(1).apart(at(3))), (2, 2));
        assert_eq!(at(1).shared_bits(at(2)), 126);
        assert_eq!(at(u128::MAX).plus(2), at(1));
    }

    #[test]
    fn text_and_back() {
        let point = Point::of_key(&Key([0xa5; 32]));
        assert_eq!(point.to_string().parse(), Ok(point));
        assert!("a5".parse::<Point>().is_err());
    }
}
