//! Draws that depend on nothing but what they are for: hashes of a seed and a name, and shares.

use ringweave_ids::Random;

/// 64 bits that look random and are a function of both arguments (the finalizer of splitmix64,
/// Steele, Lea & Flood 2014). Inlined into the delay of every message.
#[inline]
pub(crate) fn mix(seed: u64, value: u64) -> u64 {
    let mut x = seed ^ value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A uniform share, above 0 and below 1: both ends are left out so that logarithms are finite.
pub(crate) fn share(random: &mut Random) -> f64 {
    ((random.bits() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_values_mix_to_different_halves() {
        let ones: u32 = (0..1_000u64)
            .map(|value| (mix(1, value) ^ mix(1, value + 1)).count_ones())
            .sum();
        assert!((31_000..33_000).contains(&ones), "{ones}");
    }

    #[test]
    fn shares_are_even() {
        let mut random = Random::new(1);
        let mean = (0..10_000).map(|_| share(&mut random)).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
