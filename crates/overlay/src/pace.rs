//! The pace of upkeep: soon after a change, half as often each time, up to a longest wait (Trickle, Levis
//! et al., NSDI 2004).

use std::time::Duration;

use ringweave_ids::Random;

/// The wait after a change, in milliseconds.
const QUICK: u32 = 500;

/// Which round of upkeep is to come, and how long it waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    round: u32,
    wait_ms: u32,
}

impl Pace {
    /// Begins at the quickest.
    pub(crate) const fn hurry(&mut self) {
        self.wait_ms = QUICK;
    }

    /// Begins at the slowest: nothing is new.
    pub(crate) const fn rest(&mut self, longest_ms: u32) {
        self.wait_ms = longest_ms;
    }

    /// Something changed; whether the next round is sooner now, so that its timer is to be asked for.
    pub(crate) const fn quicken(&mut self) -> bool {
        let is_slow = self.wait_ms > QUICK;
        if is_slow {
            self.hurry();
        }
        is_slow
    }

    /// When the next round is due, and its number, for a timer; those of earlier rounds are stale.
    pub(crate) fn next(&mut self, random: &mut Random) -> (Duration, u32) {
        self.round = self.round.wrapping_add(1);
        let wait = Duration::from_millis(u64::from(self.wait_ms.max(QUICK)));
        (random.between(wait / 2, wait), self.round)
    }

    /// A round's timer ran out: how long it had waited at most, in milliseconds, unless it is stale. The
    /// next waits twice as long.
    pub(crate) fn elapse(&mut self, round: u32, longest_ms: u32) -> Option<u32> {
        if round != self.round {
            return None;
        }
        let waited = self.wait_ms;
        self.wait_ms = (waited.max(QUICK) * 2).min(longest_ms);
        Some(waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_something_changes() {
        let (mut pace, mut random) = (Pace::default(), Random::new(1));
        pace.hurry();
        let mut waited = Vec::new();
        for _ in 0..4 {
            let (span, round) = pace.next(&mut random);
            waited.extend(pace.elapse(round, 3_000));
            assert!(span <= Duration::from_millis(3_000));
            assert_eq!(pace.elapse(round + 1, 3_000), None);
        }
        assert_eq!(waited, [500, 1_000, 2_000, 3_000]);
        assert!(pace.quicken() && !pace.quicken());
    }
}
