//! What lies between two peers at a moment: delay, jitter, loss, cuts, and who can be dialled.
//!
//! Everything follows from (seed, from, to, n): nothing is drawn from a shared stream, so the order in
//! which threads ask does not matter. Streams lose and reorder nothing: loss is felt as delay, and as
//! a frame that holds up those behind it.

use super::{links::SILENCE, mix};
use crate::Terrain;

/// A time-out of QUIC before a round trip was measured (RFC 9002, section 6.2.2).
const FIRST_TIMEOUT: u64 = 999_000;
/// What a probe time-out adds to a round trip: a receiver's delay of acknowledgement (RFC 9002).
const ACK_DELAY: u64 = 25_000;
/// A quiet link says something this often, as `net` does.
const BEAT: u64 = 1_000_000;
/// Losses of one packet in a row that are counted; beyond, the connection would be given up.
const MOST_LOSSES: u32 = 6;
/// The first peers of a world, all of whom can reach each other unless they are private.
const FOUNDERS: u32 = 4;
/// Bytes of payload in a packet.
const PACKET: u32 = 1_200;

/// The state of all ways.
pub(crate) struct Weather {
    pub(crate) seed: u64,
    pub(crate) terrain: Terrain,
    /// Largest share of a delay that is added at random, in 1/65,536.
    pub(crate) jitter: u64,
    /// Share of packets lost, in 1/2^32.
    pub(crate) loss: u64,
    /// Share of pairs of which one direction is dead, so that no handshake ends, in 1/2^32.
    pub(crate) one_way: u64,
    /// Share of peers that nobody can dial, in 1/2^32.
    pub(crate) private: u64,
    pub(crate) storms: Vec<Storm>,
    pub(crate) cuts: Vec<Cut>,
}

/// A span in which packets are lost, or some peers' links are slow.
pub(crate) struct Storm {
    pub(crate) from: u64,
    pub(crate) until: u64,
    /// Share of packets lost, in 1/2^32.
    pub(crate) loss: u64,
    /// Whose links are slow, and how much; nobody's where it is empty.
    pub(crate) slow: Vec<bool>,
    pub(crate) factor: f64,
}

impl Storm {
    /// Nothing is lost, and nobody slow.
    pub(crate) fn calm(from: u64, until: u64) -> Self {
        let (loss, slow, factor) = (0, Vec::new(), 1.0);
        Self {
            from,
            until,
            loss,
            slow,
            factor,
        }
    }
}

/// A span in which some peers cannot reach others.
pub(crate) struct Cut {
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) between: Between,
}

/// Whom a cut keeps apart.
pub(crate) enum Between {
    /// Peers of different parts, by handle; who has none is in part 0.
    Sides(Vec<u8>),
    /// This share of all pairs, in 1/2^32: the same pairs in every cut.
    Pairs(u64),
}

/// A share as a bound on 32 random bits.
pub(crate) fn share(of: f64) -> u64 {
    (of * 4_294_967_296.0) as u64
}

impl Cut {
    fn is_on(&self, now: u64) -> bool {
        (self.from..self.until).contains(&now)
    }
}

fn side(sides: &[u8], peer: u32) -> u8 {
    sides.get(peer as usize).copied().unwrap_or(0)
}

impl Weather {
    /// No jitter, no loss, no faults.
    pub(crate) fn calm(seed: u64, terrain: Terrain) -> Self {
        let (jitter, loss, one_way, private) = (0, 0, 0, 0);
        let (storms, cuts) = (Vec::new(), Vec::new());
        Self {
            seed,
            terrain,
            jitter,
            loss,
            one_way,
            private,
            storms,
            cuts,
        }
    }

    /// When the way between two peers is open again, and whether connections break before; nothing
    /// while it is open.
    pub(crate) fn cut(&self, a: u32, b: u32, now: u64) -> Option<(u64, bool)> {
        let parting = self.cuts.iter().filter(|cut| cut.is_on(now));
        parting
            .filter(|cut| self.parts(cut, a, b))
            .map(|cut| (cut.until, cut.until - cut.from >= SILENCE))
            .max()
    }

    /// Whether a cut keeps two peers apart while it lasts.
    pub(crate) fn parts(&self, cut: &Cut, a: u32, b: u32) -> bool {
        match &cut.between {
            Between::Sides(sides) => side(sides, a) != side(sides, b),
            Between::Pairs(dead) => self.draw(a.min(b), a.max(b), 0x6465_6164) < *dead,
        }
    }

    /// Whether the two are in different parts of the network.
    pub(crate) fn are_apart(&self, a: u32, b: u32, now: u64) -> bool {
        self.cuts.iter().any(|cut| {
            let is_parting = matches!(cut.between, Between::Sides(_));
            is_parting && cut.is_on(now) && self.parts(cut, a, b)
        })
    }

    /// A newcomer is in the part of `other`, however often the network is parted now.
    pub(crate) fn put_beside(&mut self, newcomer: u32, other: u32, now: u64) {
        for cut in self.cuts.iter_mut().filter(|cut| cut.is_on(now)) {
            if let Between::Sides(sides) = &mut cut.between {
                sides[newcomer as usize] = side(sides, other);
            }
        }
    }

    /// Whether a connection breaks now, by a chance in 1/2^32.
    pub(crate) fn breaks(&self, a: u32, b: u32, now: u64, chance: u64) -> bool {
        self.draw(a, b, now ^ 0x666c_6170) < chance
    }

    /// Whether nobody can dial the peer.
    pub(crate) fn is_private(&self, peer: u32) -> bool {
        self.private > 0 && self.draw(peer, peer, 0x7072_6976) < self.private
    }

    /// Whether a connection from `from` to `to` can be made at all.
    pub(crate) fn can_dial(&self, from: u32, to: u32) -> bool {
        let (low, high) = (from.min(to), from.max(to));
        // Founders who reach nobody found nothing.
        let is_dead = high >= FOUNDERS && self.draw(low, high, 0x6f6e_6577) < self.one_way;
        !(self.is_private(to) || self.one_way > 0 && is_dead)
    }

    /// Whether no connection between the two can be made, whoever dials.
    pub(crate) fn is_dead(&self, a: u32, b: u32) -> bool {
        !self.can_dial(a, b) && !self.can_dial(b, a)
    }

    /// Whether there are pairs that can never connect.
    pub(crate) fn has_dead_pairs(&self) -> bool {
        self.one_way > 0 || self.private > 0
    }

    /// How long the `number`-th frame of `from` is on its way to `to`, in microseconds.
    pub(crate) fn way(&self, from: u32, to: u32, number: u32, bytes: u32, now: u64) -> u64 {
        let mut delay = u64::from(self.terrain.delay(from, to));
        if self.jitter == 0 && self.loss == 0 && self.storms.is_empty() {
            return delay;
        }
        let mut loss = self.loss;
        let mut factor = 1.0_f64;
        for storm in self
            .storms
            .iter()
            .filter(|it| (it.from..it.until).contains(&now))
        {
            loss = loss.max(storm.loss);
            let is_slow = |peer: u32| storm.slow.get(peer as usize).copied().unwrap_or(false);
            if is_slow(from) || is_slow(to) {
                factor = factor.max(storm.factor);
            }
        }
        if factor > 1.0 {
            delay = (delay as f64 * factor) as u64;
        }
        let round_trip = 2 * delay;
        let base = delay;
        if self.jitter > 0 {
            let draw = self.draw(from, to, u64::from(number) << 8 | 1) >> 16;
            delay += (((base * self.jitter) >> 16) * draw) >> 16;
        }
        if loss > 0 {
            let mut longest = 0;
            for packet in 0..u64::from(1 + bytes / PACKET) {
                let draw = |again: u32| {
                    let salt = (u64::from(number) << 24) | packet << 8 | 2 | u64::from(again) << 4;
                    self.draw(from, to, salt)
                };
                let losses = (0..MOST_LOSSES)
                    .take_while(|again| draw(*again) < loss)
                    .count() as u32;
                if losses > 0 {
                    // Each further time-out is twice the one before, but what is sent meanwhile, the next
                    // beat of the link at the latest, tells of the loss as well (RFC 9002, 6.1 and 6.2).
                    let timeout = (round_trip * 3 / 2 + ACK_DELAY).min(FIRST_TIMEOUT);
                    let wait = |again: u32| (timeout << again).min(BEAT + round_trip);
                    longest = longest.max((0..losses).map(wait).sum());
                }
            }
            delay += longest;
        }
        delay
    }

    /// 32 bits drawn for a pair.
    fn draw(&self, a: u32, b: u32, salt: u64) -> u64 {
        mix(self.seed ^ mix(u64::from(a) << 32 | u64::from(b)) ^ mix(salt)) >> 32
    }
}
