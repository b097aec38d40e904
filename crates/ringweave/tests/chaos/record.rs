//! What happened, and whether it was allowed to: a judgement on paper, after the processes are gone.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use ringweave_api::Word;

/// How long a listener may take to fetch what its peer acknowledged; a receiver that died sooner may
/// have taken the message along.
const FETCH: Duration = Duration::from_secs(2);
/// Stories told of one run that failed; more would hide the first.
const STORIES: usize = 12;

/// One process of a peer, from its start to its death.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) seat: usize,
    pub(crate) spawned: Instant,
    pub(crate) ready: Option<Instant>,
    pub(crate) killed: Option<Instant>,
}

/// A message, and what its sender was told.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) number: u64,
    /// The sender's life.
    pub(crate) from: usize,
    /// The receiver's seat.
    pub(crate) to: usize,
    pub(crate) since: Instant,
    pub(crate) told: Instant,
    pub(crate) outcome: Outcome,
}

/// What a sender was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Failed(Word),
    /// No answer, or none of the contract.
    Nonsense(String),
}

/// A message that came out of a peer's inbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) number: u64,
    /// The receiver's life.
    pub(crate) life: usize,
    /// The seat that the message says it came from.
    pub(crate) from: Option<usize>,
    pub(crate) at: Instant,
}

/// All that happened in a run.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) origin: Instant,
    pub(crate) lives: Vec<Life>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) heard: Vec<Heard>,
    /// What else went wrong, when, and in words.
    pub(crate) oddities: Vec<(Instant, String)>,
}

/// What a run comes to.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) delivered: usize,
    /// Acknowledged by a receiver that died before its listener can have fetched it.
    pub(crate) excused: usize,
    /// Failures by their word.
    pub(crate) failed: Vec<(String, usize)>,
    /// Senders that died with their question.
    pub(crate) orphans: usize,
    /// Messages that two lives of a receiver heard.
    pub(crate) reborn: usize,
    /// What was not allowed, when it showed, and in words; the earliest first.
    pub(crate) violations: Vec<(Duration, String)>,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            lives: Vec::new(),
            sent: Vec::new(),
            heard: Vec::new(),
            oddities: Vec::new(),
        }
    }

    /// Holds everything against the contract.
    pub(crate) fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for (at, words) in &self.oddities {
            verdict.accuse(*at - self.origin, words.clone());
        }
        let mut heard: HashMap<u64, Vec<&Heard>> = HashMap::new();
        for one in &self.heard {
            heard.entry(one.number).or_default().push(one);
        }
        for sent in &self.sent {
            let heard = heard.remove(&sent.number).unwrap_or_default();
            self.judge_one(sent, &heard, &mut verdict);
        }
        for one in heard.into_values().flatten() {
            let seat = self.lives[one.life].seat;
            let words = format!("p{seat} heard message {}, which nobody sent", one.number);
            verdict.accuse(one.at - self.origin, words);
        }
        verdict.violations.sort();
        verdict
    }

    fn judge_one(&self, sent: &Sent, heard: &[&Heard], verdict: &mut Verdict) {
        let mut accuse = |what: &str| {
            let story = format!("{what}: {}", self.story(sent, heard));
            verdict.accuse(sent.told - self.origin, story);
        };
        let mut lives: Vec<usize> = heard.iter().map(|heard| heard.life).collect();
        lives.sort_unstable();
        if lives.windows(2).any(|pair| pair[0] == pair[1]) {
            accuse("delivered twice in one life");
        }
        lives.dedup();
        if lives.iter().any(|life| self.lives[*life].seat != sent.to) {
            accuse("delivered to another peer");
        }
        let sender = self.lives[sent.from];
        if heard.iter().any(|heard| heard.from != Some(sender.seat)) {
            accuse("delivered with another sender's name");
        }
        let is_orphan = sender.killed.is_some_and(|killed| killed <= sent.told);
        match &sent.outcome {
            Outcome::Delivered if lives.is_empty() && self.lived_on(sent) => {
                accuse("acknowledged, but never delivered");
            }
            Outcome::Delivered => {
                verdict.delivered += 1;
                verdict.excused += usize::from(lives.is_empty());
            }
            _ if is_orphan => verdict.orphans += 1,
            Outcome::Failed(word) => {
                let word = name(*word);
                if !WORDS.contains(&word.as_str()) {
                    accuse("an error that is none of the contract's");
                }
                match verdict.failed.iter_mut().find(|(known, _)| *known == word) {
                    Some((_, count)) => *count += 1,
                    None => verdict.failed.push((word, 1)),
                }
            }
            Outcome::Nonsense(_) => accuse("no outcome"),
        }
        verdict.reborn += usize::from(lives.len() > 1);
    }

    /// Whether every life that can have acknowledged the message went on for long enough.
    fn lived_on(&self, sent: &Sent) -> bool {
        let mut lives = self.lives_in(sent).peekable();
        let is_any = lives.peek().is_some();
        is_any && lives.all(|life| life.killed.is_none_or(|killed| killed > sent.told + FETCH))
    }

    /// The receiver's lives between the sending and its outcome.
    fn lives_in(&self, sent: &Sent) -> impl Iterator<Item = &Life> {
        self.lives.iter().filter(|life| {
            let is_over = life.killed.is_some_and(|killed| killed < sent.since);
            life.seat == sent.to && !is_over && life.spawned <= sent.told
        })
    }

    fn story(&self, sent: &Sent, heard: &[&Heard]) -> String {
        let at = |moment: Instant| format!("{:.3}", (moment - self.origin).as_secs_f64());
        let ends = |life: &Life| {
            let ready = life.ready.map_or("never".into(), at);
            let killed = life.killed.map_or("lives".into(), at);
            format!("{}/{ready}/{killed}", at(life.spawned))
        };
        let sender = &self.lives[sent.from];
        let receivers = self.lives.iter().filter(|life| life.seat == sent.to);
        let heard = heard.iter().map(|heard| ends(&self.lives[heard.life]));
        format!(
            "message {} from p{} to p{}, sent {} told {}: {:?}; sender {}; receiver's lives \
             (spawned/ready/killed) {}; heard in {:?}",
            sent.number,
            sender.seat,
            sent.to,
            at(sent.since),
            at(sent.told),
            sent.outcome,
            ends(sender),
            receivers.map(ends).collect::<Vec<_>>().join(" "),
            heard.collect::<Vec<_>>(),
        )
    }

    /// How long the restarts took until they had a place, the quickest first.
    pub(crate) fn restarts(&self) -> Vec<Duration> {
        let later = self.lives.iter().enumerate().filter(|(number, life)| {
            let before = &self.lives[..*number];
            before.iter().any(|earlier| earlier.seat == life.seat)
        });
        let mut spans: Vec<_> = later
            .filter_map(|(_, life)| Some(life.ready? - life.spawned))
            .collect();
        spans.sort_unstable();
        spans
    }
}

impl Verdict {
    fn accuse(&mut self, at: Duration, words: String) {
        self.violations.push((at, words));
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} delivered ({} to receivers that died at once, {} to two lives), {} senders died, failed: {:?}",
            self.delivered, self.excused, self.reborn, self.orphans, self.failed
        )?;
        for (at, story) in self.violations.iter().take(STORIES) {
            writeln!(f, "VIOLATION at {:.3} s: {story}", at.as_secs_f64())?;
        }
        let rest = self.violations.len().saturating_sub(STORIES);
        if rest > 0 {
            writeln!(f, "and {rest} more")?;
        }
        Ok(())
    }
}

/// The words of a failed send, by contract.
const WORDS: [&str; 5] = ["not_found", "no_route", "refused", "timeout", "too_large"];

fn name(word: Word) -> String {
    let value = serde_json::to_value(word).unwrap();
    value.as_str().unwrap().to_owned()
}

/// The judge is judged: each kind of wrong is found, and what is right is not.
mod tests {
    use super::*;

    /// Two peers, the second of which has two lives, and a message from the first to the second.
    fn record(outcome: Outcome, heard: &[usize]) -> Record {
        let mut record = Record::new();
        let at = |seconds| record.origin + Duration::from_secs(seconds);
        let life = |seat, spawned, killed: Option<u64>| Life {
            seat,
            spawned: at(spawned),
            ready: Some(at(spawned)),
            killed: killed.map(at),
        };
        let lives = vec![life(0, 0, None), life(1, 0, Some(10)), life(1, 11, None)];
        let sent = Sent {
            number: 7,
            from: 0,
            to: 1,
            since: at(5),
            told: at(6),
            outcome,
        };
        record.lives = lives;
        record.sent.push(sent);
        record.heard.extend(heard.iter().map(|life| Heard {
            number: 7,
            life: *life,
            from: Some(0),
            at: at(6),
        }));
        record
    }

    fn violations(record: &Record) -> usize {
        record.judge().violations.len()
    }

    #[test]
    fn what_went_wrong_is_told_in_its_order() {
        let mut record = record(Outcome::Delivered, &[]);
        let odd = |seconds, words: &str| {
            (
                record.origin + Duration::from_secs(seconds),
                words.to_owned(),
            )
        };
        record.oddities = vec![odd(9, "late"), odd(1, "early")];
        let stories = record.judge().violations;
        let seconds = stories.iter().map(|(at, _)| at.as_secs());
        assert_eq!(seconds.collect::<Vec<_>>(), [1, 6, 9]);
    }

    #[test]
    fn a_message_that_was_acknowledged_and_is_missing_is_found() {
        assert_eq!(violations(&record(Outcome::Delivered, &[1])), 0);
        assert_eq!(violations(&record(Outcome::Delivered, &[])), 1);
    }

    #[test]
    fn a_receiver_that_died_at_once_is_excused() {
        let mut record = record(Outcome::Delivered, &[]);
        record.lives[1].killed = Some(record.sent[0].told + FETCH / 2);
        let verdict = record.judge();
        assert_eq!((verdict.violations.len(), verdict.excused), (0, 1));
    }

    #[test]
    fn a_second_delivery_in_one_life_is_found_and_one_in_another_life_counted() {
        assert_eq!(violations(&record(Outcome::Delivered, &[1, 1])), 1);
        let verdict = record(Outcome::Delivered, &[1, 2]).judge();
        assert_eq!((verdict.violations.len(), verdict.reborn), (0, 1));
    }

    #[test]
    fn a_delivery_elsewhere_or_out_of_nowhere_is_found() {
        assert_eq!(violations(&record(Outcome::Delivered, &[0])), 1);
        let mut record = record(Outcome::Delivered, &[1]);
        record.sent.clear();
        assert_eq!(violations(&record), 1);
    }

    #[test]
    fn a_failure_has_one_of_five_words_unless_its_sender_died() {
        assert_eq!(violations(&record(Outcome::Failed(Word::NoRoute), &[])), 0);
        assert_eq!(violations(&record(Outcome::Failed(Word::Failed), &[])), 1);
        let mut record = record(Outcome::Nonsense("cut".into()), &[]);
        assert_eq!(violations(&record), 1);
        record.lives[0].killed = Some(record.sent[0].told);
        assert_eq!(violations(&record), 0);
    }
}
