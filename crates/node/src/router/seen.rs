//! The numbers of one origin's broadcasts that came by: which are new, and which are still awaited.

/// Words of a window of numbers: 1,024 of them.
const WORDS: usize = 16;
/// Numbers that a window shows.
const WIDTH: u64 = (WORDS * 64) as u64;

/// The numbers of one life of an origin: a window below the highest.
pub(super) struct Seen {
    pub(super) incarnation: u64,
    /// The first number that is not settled: the application got all before it, or does not wait
    /// for them. It starts with the first number that came by: a newcomer waits for no history.
    pub(super) expected: u64,
    /// The number after the highest.
    next: u64,
    /// Nothing while only the number before `next` came by.
    bits: Option<Box<[u64; WORDS]>>,
}

impl Seen {
    /// The window of an origin of which `number` is the first that comes by; it is noted.
    pub(super) fn new(incarnation: u64, number: u64) -> Self {
        Self {
            incarnation,
            expected: number,
            next: number + 1,
            bits: None,
        }
    }

    /// Whether the number came by, or lies so far back that nobody can say.
    pub(super) fn has(&self, number: u64) -> bool {
        if number >= self.next {
            return false;
        }
        if self.next - number > WIDTH {
            return true;
        }
        match &self.bits {
            Some(bits) => bits[word(number)] & bit(number) != 0,
            None => number + 1 == self.next,
        }
    }

    /// Notes the number; says whether it is new.
    pub(super) fn mark(&mut self, number: u64) -> bool {
        if self.has(number) {
            return false;
        }
        let last = self.next - 1;
        let bits = self.bits.get_or_insert_with(|| {
            let mut bits = [0; WORDS];
            bits[word(last)] = bit(last);
            Box::new(bits)
        });
        if number >= self.next {
            // The window moves on: places that it has not shown yet begin empty.
            let steps = (number - self.next).saturating_add(1).min(WIDTH);
            for number in (0..steps).map(|step| number - step) {
                bits[word(number)] &= !bit(number);
            }
            self.next = number.saturating_add(1);
        }
        bits[word(number)] |= bit(number);
        true
    }

    /// The awaited numbers before `number` that have not come by, the lowest first.
    pub(super) fn holes(&self, number: u64) -> impl Iterator<Item = u64> {
        let first = self.expected.max(number.saturating_sub(WIDTH));
        (first..number).filter(|hole| !self.has(*hole))
    }
}

fn word(number: u64) -> usize {
    (number % WIDTH) as usize / 64
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once_within_its_window() {
        let mut seen = Seen::new(1, 5);
        assert!(!seen.mark(5));
        assert!(seen.mark(900));
        assert!(seen.mark(7));
        assert!(!seen.mark(7));
        assert!(seen.mark(5_000));
        assert!(!seen.mark(900), "below the window nothing is new");
        assert!(seen.mark(4_999));
    }

    #[test]
    fn holes_lie_between_what_is_expected_and_what_came() {
        let mut seen = Seen::new(1, 5);
        seen.expected = 6;
        for number in [9, 7, 3] {
            assert!(seen.mark(number));
        }
        assert_eq!(seen.holes(9).collect::<Vec<_>>(), [6, 8]);
        assert!(seen.holes(6).next().is_none(), "no history");
    }
}
