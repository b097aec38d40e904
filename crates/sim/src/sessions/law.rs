//! How long sessions last: the Weibull law, of which the exponential is the one of shape 1, for
//! fresh sessions and for what is left of sessions met under way.
//!
//! The residual law has the density S(x)/E[X], where S is the share of sessions longer than x (Cox,
//! *Renewal Theory*, 1962, section 5.2). For a Weibull, substituting y = (x/scale)^shape turns it
//! into a gamma density of shape 1/shape, so that it is drawn exactly, without integrating.

use ringweave_ids::Random;

use crate::{FileError, draw::share};

/// A Weibull law; times in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Law {
    shape: f64,
    scale: f64,
}

impl Law {
    pub(super) fn exponential(mean_s: f64) -> Result<Self, FileError> {
        positive("the mean session in seconds", mean_s)?;
        Ok(Self {
            shape: 1.0,
            scale: mean_s * 1e6,
        })
    }

    pub(super) fn weibull(shape: f64, median_s: f64) -> Result<Self, FileError> {
        positive("the shape", shape)?;
        positive("the median session in seconds", median_s)?;
        Ok(Self {
            shape,
            scale: median_s * 1e6 / std::f64::consts::LN_2.powf(1.0 / shape),
        })
    }

    /// The length of a session that begins now, at least 1 microsecond.
    pub(super) fn fresh(self, random: &mut Random) -> i64 {
        self.length(-share(random).ln())
    }

    /// What is left of a session that was met under way, at least 1 microsecond.
    pub(super) fn residual(self, random: &mut Random) -> i64 {
        self.length(gamma(1.0 / self.shape, random))
    }

    fn length(self, y: f64) -> i64 {
        // Longer than any run, and still far from where sums of times overflow.
        const MOST: f64 = (1u64 << 60) as f64;
        (self.scale * y.powf(1.0 / self.shape)).clamp(1.0, MOST) as i64
    }
}

/// A draw from the gamma law of this shape and scale 1 (Marsaglia & Tsang, *A simple method for
/// generating gamma variables*, ACM TOMS 26(3), 2000).
fn gamma(shape: f64, random: &mut Random) -> f64 {
    if shape < 1.0 {
        // Their section 6: the method wants a shape of at least 1.
        return gamma(shape + 1.0, random) * share(random).powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(random);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && share(random).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// A draw from the standard normal law (Box & Muller 1958).
fn normal(random: &mut Random) -> f64 {
    let radius = (-2.0 * share(random).ln()).sqrt();
    radius * (std::f64::consts::TAU * share(random)).cos()
}

fn positive(what: &str, value: f64) -> Result<(), FileError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(FileError::Setting {
        field: "churn",
        problem: format!("{what} is {value}; it must be more than 0"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mut draw: impl FnMut(&mut Random) -> i64) -> f64 {
        let mut random = Random::new(5);
        let draws = 200_000;
        (0..draws).map(|_| draw(&mut random) as f64).sum::<f64>() / f64::from(draws) / 1e6
    }

    #[test]
    fn exponential_sessions_forget_how_long_they_have_lasted() {
        let law = Law::exponential(100.0).unwrap();
        for mean in [
            mean(|random| law.fresh(random)),
            mean(|random| law.residual(random)),
        ] {
            assert!((mean - 100.0).abs() < 1.0, "{mean}");
        }
    }

    #[test]
    fn weibull_sessions_have_the_mean_and_the_median_asked_for() {
        let law = Law::weibull(0.8, 100.0).unwrap();
        // E[X] = scale * gamma(1 + 1/0.8) = 158.113 * 1.133003.
        let mean = mean(|random| law.fresh(random));
        assert!((mean - 179.14).abs() < 2.0, "{mean}");
        let mut random = Random::new(6);
        let short = (0..20_000).filter(|_| law.fresh(&mut random) < 100_000_000);
        let short = short.count();
        assert!((9_800..10_200).contains(&short), "{short}");
    }

    #[test]
    fn what_is_left_of_a_session_has_the_length_biased_mean() {
        // E[X^2] / (2 E[X]) = scale * gamma(1 + 2/shape) / (2 gamma(1 + 1/shape)), for a median of 100.
        for (shape, expected) in [(0.8, 231.89), (2.0, 67.76)] {
            let law = Law::weibull(shape, 100.0).unwrap();
            let mean = mean(|random| law.residual(random));
            assert!((mean / expected - 1.0).abs() < 0.02, "{shape}: {mean}");
        }
    }
}
