//! Figures out of counts, and what the process itself takes.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use crate::{Load, Quantiles};

/// The five figures of a distribution; `values` are put in order. Nothing if there are none.
pub(crate) fn quantiles(values: &mut [f64]) -> Option<Quantiles> {
    values.sort_unstable_by(f64::total_cmp);
    let max = *values.last()?;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let at = |share| quantile(values, share);
    Some(Quantiles {
        mean,
        p50: at(0.5),
        p95: at(0.95),
        p99: at(0.99),
        max,
    })
}

/// The smallest value that this share of all ordered values does not exceed.
pub(crate) fn quantile(ordered: &[f64], share: f64) -> f64 {
    let rank = (ordered.len() as f64 * share).ceil() as usize;
    ordered[rank.clamp(1, ordered.len()) - 1]
}

/// How evenly work is spread; nothing if there is none. `work` is put in order.
pub(crate) fn load(work: &mut [u64]) -> Option<Load> {
    work.sort_unstable();
    let sum: u64 = work.iter().sum();
    if sum == 0 {
        return None;
    }
    let (count, sum) = (work.len() as f64, sum as f64);
    // Mean absolute difference over twice the mean, from the ordered values.
    let weighted: f64 = work
        .iter()
        .zip(1..)
        .map(|(one, rank)| *one as f64 * f64::from(rank))
        .sum();
    let gini = (2.0 * weighted / (count * sum) - (count + 1.0) / count).max(0.0);
    let most = *work.last()? as f64;
    Some(Load {
        max_over_mean: most * count / sum,
        gini,
    })
}

/// Processor seconds of this process so far.
pub(crate) fn cpu_s() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// Resident memory of this process in bytes: now, and at its peak. Nothing where the system does not
/// tell.
pub(crate) fn memory() -> Option<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<u64>()
            .ok()
            .map(|kb| kb * 1_024)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_hundred_numbers_are_those_numbers() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let figures = quantiles(&mut values).unwrap();
        let wanted = Quantiles {
            mean: 50.5,
            p50: 50.0,
            p95: 95.0,
            p99: 99.0,
            max: 100.0,
        };
        assert_eq!(figures, wanted);
        assert_eq!(quantiles(&mut []), None);
    }

    #[test]
    fn even_work_has_no_gini_and_one_worker_all_of_it() {
        let even = load(&mut [5; 100]).unwrap();
        assert!(
            even.gini < 1e-9 && (even.max_over_mean - 1.0).abs() < 1e-9,
            "{even:?}"
        );
        let mut one = vec![0; 99];
        one.push(7);
        let alone = load(&mut one).unwrap();
        assert!((alone.gini - 0.99).abs() < 1e-9 && (alone.max_over_mean - 100.0).abs() < 1e-9);
        assert!(load(&mut [0; 4]).is_none());
    }
}
