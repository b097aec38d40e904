//! How peers come and go, worked out before the run from the seed alone.
//!
//! Session lengths are exponential or Weibull (short ones are many, long ones very long: Stutzbach &
//! Rejaie, *Understanding churn in peer-to-peer networks*, IMC 2006,
//! <https://doi.org/10.1145/1177080.1177105>), or a recorded trace. The peers that are up at T = 0
//! have been for a while, and long sessions are more likely to be met under way than short ones: what
//! is left of theirs follows the residual law, not the law of fresh sessions. Who goes is replaced,
//! so that the population stays about constant.

mod law;
mod trace;

use ringweave_ids::Random;

use self::{law::Law, trace::Trace};
use crate::{Churn, FileError, draw::mix};

/// One life of a peer. Times are in microseconds from T = 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Whose.
    pub who: u32,
    /// When it comes up: 0 for those that are up at T = 0, later than 0 for all others.
    pub up: i64,
    /// When it goes, later than `up` and before the end of the run; nothing if it outlives the run.
    pub down: Option<i64>,
}

/// All lives of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lives {
    /// The lives by (up, who). Those of one peer do not overlap.
    pub lives: Vec<Life>,
    /// How many distinct peers they are of: handles 0 to this, and not this.
    pub handles: u32,
    /// How many peers are up at T = 0: handles 0 to this, and not this.
    pub at_start: u32,
}

impl Lives {
    /// The lives of a run that starts with `peers` peers and lasts `duration_s` seconds.
    ///
    /// Without a trace, a peer that goes is replaced after a pause of 0 to 2 s by a newcomer with a
    /// handle of its own, and so on. With a trace, T = 0 is the moment in the middle half of the
    /// trace when most sessions run and the run still fits. Nodes are drawn from the trace, each any
    /// number of times, until `peers` of them are up then; a peer that returns keeps its handle. Each
    /// is moved in time by up to half the trace's grain either way, lest a coarse trace make steps:
    /// the grain is its shortest session, but at most a fiftieth of the trace.
    ///
    /// # Errors
    /// If a figure of the model makes no sense, if there would be more than 50,000,000 lives, or if
    /// the trace cannot be read, is malformed, is shorter than the run, or has nobody up.
    pub fn new(churn: &Churn, peers: u32, duration_s: f64, seed: u64) -> Result<Self, FileError> {
        // A salt of its own: other draws of the same run know the same seed.
        let seed = mix(seed, SALT);
        let end = (duration_s * 1e6) as i64;
        let law = match churn {
            Churn::None => return Ok(Self::endless(peers)),
            Churn::Exponential { mean_s } => Law::exponential(*mean_s)?,
            Churn::Weibull { shape, median_s } => Law::weibull(*shape, *median_s)?,
            Churn::File(path) => return Trace::read(path)?.lives(peers, end, seed),
        };
        Self::drawn(law, peers, end, seed)
    }

    fn endless(peers: u32) -> Self {
        let life = |who| Life {
            who,
            up: 0,
            down: None,
        };
        Self {
            lives: (0..peers).map(life).collect(),
            handles: peers,
            at_start: peers,
        }
    }

    fn drawn(law: Law, peers: u32, end: i64, seed: u64) -> Result<Self, FileError> {
        let mut lives = Vec::with_capacity(peers as usize);
        let mut later = Vec::new();
        for who in 0..peers {
            let mut random = Random::new(mix(seed, u64::from(who)));
            let mut down = law.residual(&mut random);
            lives.push(Life {
                who,
                up: 0,
                down: within(down, end),
            });
            while let Some(gone) = within(down, end) {
                let up = gone + random.below(PAUSE + 1) as i64;
                if up >= end {
                    break;
                }
                down = up.saturating_add(law.fresh(&mut random));
                later.push((up, who, within(down, end)));
                bounded(lives.len() + later.len())?;
            }
        }
        later.sort_unstable();
        let newcomers = (peers..).zip(later);
        lives.extend(newcomers.map(|(who, (up, _, down))| Life { who, up, down }));
        Ok(Self {
            handles: lives.len() as u32,
            at_start: peers,
            lives,
        })
    }
}

/// The longest pause between a peer's going and its replacement's coming, in microseconds. Our
/// choice: short against any session, long enough that the two are not one event.
const PAUSE: usize = 2_000_000;

/// The most lives of a run: 1.6 GB of them. A session of a few milliseconds would ask for any number.
const MOST_LIVES: usize = 50_000_000;

const SALT: u64 = 0x5e55_1045;

/// The moment if it comes before the end.
fn within(moment: i64, end: i64) -> Option<i64> {
    (moment < end).then_some(moment)
}

/// # Errors
/// If there are more lives than a run may have.
fn bounded(lives: usize) -> Result<(), FileError> {
    if lives <= MOST_LIVES {
        return Ok(());
    }
    Err(FileError::Setting {
        field: "churn",
        problem: format!(
            "more than {MOST_LIVES} sessions in this run; take longer sessions, fewer peers or a \
             shorter run"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPONENTIAL: Churn = Churn::Exponential { mean_s: 50.0 };

    /// How many lives hold this moment.
    fn population(lives: &Lives, at: i64) -> usize {
        let holds = |life: &&Life| life.up <= at && life.down.is_none_or(|down| at < down);
        lives.lives.iter().filter(holds).count()
    }

    #[test]
    fn without_churn_nobody_comes_or_goes() {
        let lives = Lives::new(&Churn::None, 3, 60.0, 1).unwrap();
        assert_eq!((lives.handles, lives.at_start), (3, 3));
        assert!(lives.lives.iter().all(|life| life.down.is_none()));
    }

    #[test]
    fn who_goes_is_replaced_by_a_newcomer() {
        let lives = Lives::new(&EXPONENTIAL, 2_000, 200.0, 1).unwrap();
        let mut whos: Vec<u32> = lives.lives.iter().map(|life| life.who).collect();
        let order: Vec<_> = lives.lives.iter().map(|life| (life.up, life.who)).collect();
        assert!(order.is_sorted());
        whos.sort_unstable();
        assert!(whos.iter().copied().eq(0..lives.handles));
        // Each slot lives 50 s and pauses 1 s, so 200 s hold about 3.9 renewals.
        let renewals = f64::from(lives.handles - lives.at_start) / 2_000.0;
        assert!((3.7..4.1).contains(&renewals), "{renewals}");
    }

    #[test]
    fn the_population_stays_about_constant() {
        let weibull = Churn::Weibull {
            shape: 0.5,
            median_s: 60.0,
        };
        for churn in [EXPONENTIAL, weibull] {
            let lives = Lives::new(&churn, 2_000, 600.0, 3).unwrap();
            for second in [0, 1, 10, 100, 300, 599] {
                let now = population(&lives, second * 1_000_000);
                assert!((1_850..=2_000).contains(&now), "{churn:?} {second}: {now}");
            }
        }
    }

    #[test]
    fn starters_go_as_often_as_newcomers_do_later() {
        // With a heavy tail a starter drawn from the fresh law would go far too soon.
        let weibull = Churn::Weibull {
            shape: 0.5,
            median_s: 600.0,
        };
        let lives = Lives::new(&weibull, 40_000, 400.0, 1).unwrap();
        let gone = |from: i64, to: i64| {
            let span = from * 1_000_000..to * 1_000_000;
            let downs = lives.lives.iter().filter_map(|life| life.down);
            downs.filter(|down| span.contains(down)).count() as f64
        };
        // The first seconds are left out: nobody is replaced in them yet.
        let ratio = gone(4, 200) / gone(200, 396);
        assert!((0.9..1.1).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_same_seed_gives_the_same_lives() {
        let draw = |seed| Lives::new(&EXPONENTIAL, 100, 60.0, seed).unwrap();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn figures_that_make_no_sense_are_refused() {
        for mean_s in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Lives::new(&Churn::Exponential { mean_s }, 1, 1.0, 1).unwrap_err();
            assert!(error.to_string().starts_with("churn: "), "{error}");
        }
        let churn = Churn::Weibull {
            shape: 0.0,
            median_s: 1.0,
        };
        assert!(Lives::new(&churn, 1, 1.0, 1).is_err());
        assert!(bounded(MOST_LIVES + 1).is_err());
    }
}
