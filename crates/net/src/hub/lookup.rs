//! Who is meant: words are looked up in the directory before anything is sent.
//!
//! A word is a name or the first characters of a PeerId. Both are asked for at once; a name that one
//! peer bears wins, since names are chosen and prefixes happen. Only where neither is found are both
//! asked for again, with patience: a new peer's record may still be on its way.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use ringweave_ids::Guid;
use ringweave_node::{Command, Destination, Effort, Failure, Placed, Query};
use ringweave_overlay::Overlay as _;
use tokio::sync::oneshot;

use super::{
    Hub,
    calls::{Answered, Part, Pending, failed, name, reply},
};
use crate::handle::{CallError, Delivery, PeerRef};

/// Longest word that can be a name.
const NAME_CAP: usize = 64;

type Found = Result<Placed<Guid>, CallError>;
type Then = Box<dyn FnOnce(&mut Hub, Found) + Send>;

/// Questions to the directory that together say who is meant.
pub(super) struct Lookup {
    name: String,
    queries: Vec<(Part, Query<Guid>)>,
    effort: Effort,
    open: usize,
    named: Vec<Placed<Guid>>,
    exact: Vec<Placed<Guid>>,
    failure: Option<Failure>,
    then: Then,
}

impl Hub {
    /// Finds whom a caller means, and goes on with it.
    pub(super) fn look_up(
        &mut self,
        who: PeerRef,
        then: impl FnOnce(&mut Self, Result<Destination<Guid>, CallError>) + Send + 'static,
    ) {
        let word = match who {
            PeerRef::Id(id) => return then(self, Ok(Destination::Peer(id))),
            PeerRef::Guid(guid) => return then(self, Ok(Destination::Holder(guid))),
            PeerRef::Word(word) => word,
        };
        if let Err(error) = check(&word) {
            return then(self, Err(error));
        }
        let mut queries = vec![(Part::Name, Query::Name(word.clone()))];
        if word
            .bytes()
            .all(|byte| matches!(byte.to_ascii_lowercase(), b'a'..=b'z' | b'2'..=b'7'))
        {
            queries.push((Part::Exact, Query::Prefix(word.to_ascii_lowercase())));
        }
        self.find(queries, word, move |hub, found| {
            then(hub, found.map(|placed| Destination::Peer(placed.id)));
        });
    }

    /// Asks the directory; the answers together name one peer, or an error.
    pub(super) fn find(
        &mut self,
        queries: Vec<(Part, Query<Guid>)>,
        name: String,
        then: impl FnOnce(&mut Self, Found) + Send + 'static,
    ) {
        // One question has no other to wait for.
        let effort = if queries.len() > 1 {
            Effort::Once
        } else {
            Effort::Patient
        };
        let lookup = Lookup {
            name,
            queries,
            effort,
            open: 0,
            named: Vec::new(),
            exact: Vec::new(),
            failure: None,
            then: Box::new(then),
        };
        self.ask_directory(lookup);
    }

    fn ask_directory(&mut self, mut lookup: Lookup) {
        let number = self.calls.number();
        let (queries, effort) = (lookup.queries.clone(), lookup.effort);
        lookup.open = queries.len();
        self.calls.lookups.insert(number, lookup);
        for (part, query) in queries {
            self.ask(
                Pending::Lookup(number, part),
                Command::Resolve(query, effort),
            );
        }
    }

    pub(super) fn on_looked_up(&mut self, number: u64, part: Part, result: Answered) {
        let Some(lookup) = self.calls.lookups.get_mut(&number) else {
            return;
        };
        match result {
            Ok(found) if part == Part::Name => lookup.named = found,
            Ok(found) => lookup.exact = found,
            Err(Failure::NotFound) => {}
            Err(failure) => lookup.failure = Some(failure),
        }
        lookup.open -= 1;
        if lookup.open == 0
            && let Some(lookup) = self.calls.lookups.remove(&number)
        {
            if lookup.effort == Effort::Once && lookup.named.is_empty() && lookup.exact.is_empty() {
                return self.ask_directory(Lookup {
                    effort: Effort::Patient,
                    failure: None,
                    ..lookup
                });
            }
            let Lookup {
                name,
                queries,
                named,
                exact,
                failure,
                then,
                ..
            } = lookup;
            let word = name.clone();
            let found = verdict(name, named, exact, failure);
            let is_word = queries.iter().any(|(part, _)| *part == Part::Name);
            then(
                self,
                match found {
                    Err(CallError::Failed {
                        failure: Failure::NotFound,
                        ..
                    }) if is_word && !self.node().overlay().is_structured() => {
                        Err(CallError::NoNames { word })
                    }
                    found => found,
                },
            );
        }
    }

    /// Looks all receivers up, then sends to those that were found.
    pub(super) fn multicast(&mut self, to: Vec<PeerRef>, payload: Bytes, answer: Several) {
        let names: Vec<_> = to.iter().map(name).collect();
        let gather = Arc::new(Mutex::new(Gather {
            places: vec![None; to.len()],
            open: to.len(),
            rest: Some((names, payload, answer)),
        }));
        if to.is_empty() {
            return send_gathered(self, &gather);
        }
        for (place, who) in to.into_iter().enumerate() {
            let gather = Arc::clone(&gather);
            self.look_up(who, move |hub, found| {
                let is_whole = {
                    let mut gather = gather
                        .lock()
                        .expect("nothing panics while it holds this lock");
                    gather.places[place] = Some(found);
                    gather.open -= 1;
                    gather.open == 0
                };
                if is_whole {
                    send_gathered(hub, &gather);
                }
            });
        }
    }
}

type Several = oneshot::Sender<Vec<Result<Delivery, CallError>>>;

/// A multicast whose receivers are being looked up.
struct Gather {
    places: Vec<Option<Result<Destination<Guid>, CallError>>>,
    open: usize,
    rest: Option<(Vec<String>, Bytes, Several)>,
}

fn send_gathered(hub: &mut Hub, gather: &Mutex<Gather>) {
    let (places, rest) = {
        let mut gather = gather
            .lock()
            .expect("nothing panics while it holds this lock");
        (std::mem::take(&mut gather.places), gather.rest.take())
    };
    let Some((names, payload, answer)) = rest else {
        return;
    };
    let (mut sent, mut sent_names, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (found, name)) in places.into_iter().zip(names).enumerate() {
        match found {
            Some(Ok(destination)) => {
                results.push(Err(place));
                sent.push(destination);
                sent_names.push(name);
            }
            Some(Err(error)) => results.push(Ok(Err(error))),
            None => results.push(Ok(Err(failed(Failure::NotFound, name, None)))),
        }
    }
    let done = move |outcomes: Vec<Result<Delivery, CallError>>| {
        let mut outcomes = outcomes.into_iter();
        let whole = results.into_iter().map(|result| {
            result.unwrap_or_else(|_| outcomes.next().unwrap_or(Err(CallError::Stopped)))
        });
        reply(answer, whole.collect());
    };
    if sent.is_empty() {
        done(Vec::new());
    } else {
        hub.ask(
            Pending::Multicast(sent_names, Box::new(done)),
            Command::Multicast(sent, payload),
        );
    }
}

fn check(word: &str) -> Result<(), CallError> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !word.is_empty() && word.len() <= NAME_CAP && word.bytes().all(is_fine) {
        Ok(())
    } else {
        Err(CallError::Malformed(format!(
            "{word:?} is neither a name, nor a PeerId or its beginning, nor a GUID"
        )))
    }
}

/// One peer, or why not.
fn verdict(
    word: String,
    mut named: Vec<Placed<Guid>>,
    mut exact: Vec<Placed<Guid>>,
    failure: Option<Failure>,
) -> Found {
    for found in [&mut named, &mut exact] {
        let mut seen = HashSet::new();
        found.retain(|placed| seen.insert(placed.id));
        match found.len() {
            0 => {}
            1 => return Ok(found.remove(0)),
            _ => {
                let candidates = found.iter().map(|placed| placed.id).collect();
                return Err(CallError::Ambiguous {
                    prefix: word,
                    candidates,
                });
            }
        }
    }
    Err(failed(failure.unwrap_or(Failure::NotFound), word, None))
}

#[cfg(test)]
mod tests {
    use ringweave_ids::PeerId;

    use super::*;

    fn placed(byte: u8) -> Placed<Guid> {
        Placed {
            id: PeerId::from_bytes([byte; 32]),
            address: Guid::of(&[u32::from(byte)]),
            name: None,
        }
    }

    #[test]
    fn a_name_goes_before_a_prefix_and_two_are_too_many() {
        let ask = |named: &[u8], exact: &[u8], failure| {
            let list = |bytes: &[u8]| bytes.iter().map(|&byte| placed(byte)).collect();
            verdict("word".into(), list(named), list(exact), failure)
        };
        assert_eq!(ask(&[1], &[2, 3], None).unwrap(), placed(1));
        assert_eq!(ask(&[], &[2, 2], None).unwrap(), placed(2));
        assert!(
            matches!(ask(&[], &[2, 3], None), Err(CallError::Ambiguous { candidates, .. }) if candidates.len() == 2)
        );
        let failure = |result: Found| match result {
            Err(CallError::Failed { failure, .. }) => failure,
            other => panic!("{other:?}"),
        };
        assert_eq!(failure(ask(&[], &[], None)), Failure::NotFound);
        assert_eq!(
            failure(ask(&[], &[], Some(Failure::Timeout))),
            Failure::Timeout
        );
    }

    #[test]
    fn what_can_be_no_word_is_malformed() {
        for word in ["", "a b", "ä", "x/y", &"x".repeat(NAME_CAP + 1)] {
            assert!(
                matches!(check(word), Err(CallError::Malformed(_))),
                "{word:?}"
            );
        }
        assert!(check("anna-2.home").is_ok());
    }
}
