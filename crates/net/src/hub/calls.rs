//! What handles ask for, and the answers that come back from the node.

use ringweave_ids::{Guid, PeerId, Time};
use ringweave_node::{
    Command, Destination, Event as Told, Failure, Fetched, Input, NotKept, Outcome, Owned, Placed,
    Query, Stored, Ticket,
};
use ringweave_overlay::Host as _;
use tokio::sync::oneshot;

use super::{Hub, Numbered, lookup::Lookup, tree::Walk};
use crate::{
    book::Book,
    handle::{
        Answer, CallError, Counters, Delivery, PeerRef, REQUESTS, Request, Run, Spread, Status,
        TracedHop,
    },
};

/// Questions to the node under way at once; requests wait beyond.
const PENDING: usize = 16 * REQUESTS;
/// The node answers within its own deadline of 5 s; what it forgot is answered after this.
const FORGOTTEN: std::time::Duration = std::time::Duration::from_secs(8);

/// What goes on with the outcomes of a multicast.
pub(super) type Gathered = Box<dyn FnOnce(Vec<Result<Delivery, CallError>>) + Send>;

/// Whom a question of the node is for.
pub(super) enum Pending {
    Send(String, Answer<Delivery>),
    Multicast(Vec<String>, Gathered),
    Run(String, Answer<Run>),
    Broadcast(String, Answer<Spread>),
    Trace(String, Answer<Vec<TracedHop>>),
    Put(Answer<Stored>),
    Get(Answer<Option<Fetched>>),
    Owned(oneshot::Sender<Vec<Owned>>),
    /// Part of the lookup of this number.
    Lookup(u64, Part),
    /// Part of the tree of this number.
    Tree(u64),
}

/// What a lookup asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Peers of a name.
    Name,
    /// Peers whose id starts so, or the one peer meant.
    Exact,
}

/// All that is under way for handles.
#[derive(Default)]
pub(super) struct Calls {
    count: u64,
    pending: Numbered<(Time, Pending)>,
    pub(super) lookups: Numbered<Lookup>,
    pub(super) trees: Numbered<Walk>,
}

impl Calls {
    /// Whether the node owes no answer.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether another request may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < PENDING && self.lookups.len() < REQUESTS && self.trees.len() < REQUESTS
    }

    /// A number that no other thing under way has.
    pub(super) fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}

impl Hub {
    /// Asks the node.
    pub(super) fn ask(&mut self, pending: Pending, command: Command<Guid>) {
        let number = self.calls.number();
        self.calls.pending.insert(number, (self.now, pending));
        self.step(self.voice, Input::Command(Ticket(number), command));
    }

    pub(super) fn on_request(&mut self, request: Request) {
        match request {
            Request::Send(to, payload, answer) => {
                let name = name(&to);
                self.look_up(to, move |hub, found| match found {
                    Ok(to) => hub.ask(Pending::Send(name, answer), Command::Send(to, payload)),
                    Err(error) => reply(answer, Err(error)),
                });
            }
            Request::Run(to, payloads, answer) => {
                let name = name(&to);
                self.look_up(to, move |hub, found| match found {
                    Ok(to) => hub.ask(Pending::Run(name, answer), Command::Run(to, payloads)),
                    Err(error) => reply(answer, Err(error)),
                });
            }
            Request::Multicast(to, payload, answer) => self.multicast(to, payload, answer),
            Request::Broadcast(below, payload, answer) => {
                let name = below
                    .as_ref()
                    .map_or_else(|| "everyone".into(), Guid::to_string);
                self.ask(
                    Pending::Broadcast(name, answer),
                    Command::Broadcast(below, payload),
                );
            }
            Request::Trace(to, answer) => {
                let name = name(&to);
                self.look_up(to, move |hub, found| match found {
                    Ok(to) => hub.ask(Pending::Trace(name, answer), Command::Trace(to)),
                    Err(error) => reply(answer, Err(error)),
                });
            }
            Request::Resolve(who, answer) => self.resolve(who, answer),
            Request::Tree(limit, answer) => self.tree(limit, answer),
            Request::Status(answer) => reply(answer, self.status()),
            Request::Peers(answer) => reply(answer, self.peers()),
            Request::Invite(answer) => reply(answer, self.invite()),
            Request::Listen(answer) => reply(answer, self.shelf.listen()),
            Request::Evolve(to, answer) => reply(answer, self.begin_evolution(to)),
            Request::Put(name, value, lease, answer) => {
                self.ask(Pending::Put(answer), Command::Put { name, value, lease });
            }
            Request::Get(key, answer) => self.ask(Pending::Get(answer), Command::Get(key)),
            Request::Watch(key, answer) => {
                let watch = self.watch_key(key);
                reply(answer, watch);
            }
            Request::Owned(answer) => self.ask(Pending::Owned(answer), Command::Owned),
            Request::Leave(answer) => self.leave(Some(answer)),
        }
    }

    /// An answer of the node to one of its commands.
    pub(super) fn on_answer(&mut self, event: Told<Guid>) {
        let ticket = match &event {
            Told::Sent(ticket, _)
            | Told::Ran(ticket, ..)
            | Told::Spread(ticket, _)
            | Told::Traced(ticket, _)
            | Told::Resolved(ticket, _)
            | Told::Inspected(ticket, _)
            | Told::Put(ticket, _)
            | Told::Got(ticket, _)
            | Told::Owned(ticket, _) => *ticket,
            _ => return,
        };
        let Some((_, pending)) = self.calls.pending.remove(&ticket.0) else {
            return;
        };
        match (pending, event) {
            (Pending::Send(to, answer), Told::Sent(_, outcomes)) => {
                let outcome = outcomes.into_iter().next();
                reply(
                    answer,
                    outcome.map_or(Err(CallError::Stopped), |outcome| delivery(outcome, to)),
                );
            }
            (Pending::Multicast(names, done), Told::Sent(_, outcomes)) => {
                done(
                    outcomes
                        .into_iter()
                        .zip(names)
                        .map(|(outcome, name)| delivery(outcome, name))
                        .collect(),
                );
            }
            (Pending::Run(to, answer), Told::Ran(_, delivered, outcome)) => {
                let took = outcome.took;
                let last = delivery(outcome, to);
                reply(
                    answer,
                    last.map(|last| Run {
                        delivered,
                        hops: last.hops,
                        took,
                    }),
                );
            }
            (Pending::Broadcast(to, answer), Told::Spread(_, result)) => {
                let spread = result.map(|(reached, took)| Spread { reached, took });
                reply(answer, spread.map_err(|failure| failed(failure, to, None)));
            }
            (Pending::Trace(to, answer), Told::Traced(_, result)) => {
                let hops = result.map(|hops| hops.into_iter().map(traced).collect());
                reply(answer, hops.map_err(|outcome| undelivered(outcome, to)));
            }
            (Pending::Lookup(number, part), Told::Resolved(_, result)) => {
                self.on_looked_up(number, part, result)
            }
            (Pending::Tree(number), Told::Inspected(_, result)) => {
                self.on_listing(number, result.ok())
            }
            (Pending::Put(answer), Told::Put(_, result)) => {
                reply(answer, result.map_err(CallError::Record));
            }
            (Pending::Get(answer), Told::Got(_, result)) => {
                reply(answer, result.map_err(CallError::Record));
            }
            (Pending::Owned(answer), Told::Owned(_, owned)) => reply(answer, owned),
            (pending, _) => self.fail(pending),
        }
    }

    /// Answers what the node forgot, and trees that took too long.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        let is_old = |_: &u64, (since, _): &mut (Time, Pending)| now.since(*since) > FORGOTTEN;
        let old: Vec<_> = self.calls.pending.extract_if(is_old).collect();
        for (_, (_, pending)) in old {
            self.fail(pending);
        }
        self.expire_trees();
    }

    fn fail(&mut self, pending: Pending) {
        let timeout = |to| failed(Failure::Timeout, to, None);
        match pending {
            Pending::Send(to, answer) => reply(answer, Err(timeout(to))),
            Pending::Multicast(names, done) => {
                done(names.into_iter().map(|to| Err(timeout(to))).collect())
            }
            Pending::Run(to, answer) => reply(answer, Err(timeout(to))),
            Pending::Broadcast(to, answer) => reply(answer, Err(timeout(to))),
            Pending::Trace(to, answer) => reply(answer, Err(timeout(to))),
            Pending::Put(answer) => reply(answer, Err(unanswered())),
            Pending::Get(answer) => reply(answer, Err(unanswered())),
            Pending::Owned(answer) => reply(answer, Vec::new()),
            Pending::Lookup(number, part) => self.on_looked_up(number, part, Err(Failure::Timeout)),
            Pending::Tree(number) => self.on_listing(number, None),
        }
    }

    fn resolve(&mut self, who: PeerRef, answer: Answer<PeerId>) {
        match who {
            PeerRef::Guid(guid) => {
                let name = guid.to_string();
                self.find(
                    vec![(Part::Exact, Query::Holder(guid))],
                    name,
                    move |_, found| {
                        reply(answer, found.map(|placed| placed.id));
                    },
                );
            }
            PeerRef::Id(id) => {
                self.find(
                    vec![(Part::Exact, Query::Peer(id))],
                    id.to_string(),
                    move |_, found| {
                        reply(answer, found.map(|placed| placed.id));
                    },
                );
            }
            PeerRef::Word(_) => self.look_up(who, move |_, found| {
                let id = found.and_then(|found| match found {
                    Destination::Peer(id) => Ok(id),
                    Destination::Holder(guid) => {
                        Err(failed(Failure::NotFound, guid.to_string(), None))
                    }
                });
                reply(answer, id);
            }),
        }
    }

    fn status(&self) -> Status {
        let settled = &self.book.about().settled;
        let mut neighbours = Vec::new();
        self.node().neighbours(&mut neighbours);
        Status {
            peer_id: self.book.id(Book::ME),
            name: self.about.name.clone(),
            guid: self.node().address().cloned(),
            network: self.book.about().name(),
            closed: self.book.about().is_closed(),
            topology: settled.topology.name(),
            evolution: self.evolution_told(),
            ring_size: settled.ring_size as usize,
            cluster: settled.cluster as usize,
            policy: settled.policy.name().into(),
            listen: self.about.listen.clone(),
            reachable: self.relays.reach.is_proven(),
            why: self.relays.reach.to_string(),
            hosts_relay: self.relays.hosted().map(|site| site.address),
            home_relay: self.relays.home().map(|site| site.host),
            neighbours: neighbours.len(),
            links: self.slots.iter().filter(|slot| slot.link.is_some()).count(),
            uptime: self.origin.elapsed(),
            counters: self.counters(),
        }
    }

    fn counters(&self) -> Counters {
        let mut node = self.past;
        for instance in &self.instances {
            node += *instance.node.counters();
        }
        Counters {
            sent: node.sent,
            delivered: node.delivered,
            forwarded: node.forwarded,
            spread: node.spread,
            duplicates: node.duplicates,
            repaired: node.repaired,
            late: node.late,
            offered: node.offered,
            asked: node.asked,
            missed: node.missed,
            dropped: node.dropped + self.traffic.dropped,
            faults: node.faults + self.traffic.faults + self.book.forgeries,
            bytes_out: self.traffic.bytes_out,
            bytes_in: self.bytes_in(),
        }
    }
}

/// Answers a caller, who may have given up.
pub(super) fn reply<T>(answer: oneshot::Sender<T>, value: T) {
    let _ = answer.send(value);
}

/// A peer as its caller named it.
pub(super) fn name(who: &PeerRef) -> String {
    match who {
        PeerRef::Id(id) => id.to_string(),
        PeerRef::Guid(guid) => guid.to_string(),
        PeerRef::Word(word) => word.clone(),
    }
}

pub(super) const fn failed(failure: Failure, peer: String, at: Option<Guid>) -> CallError {
    CallError::Failed { failure, peer, at }
}

const fn unanswered() -> CallError {
    CallError::Record(NotKept::Failed(Failure::Timeout))
}

fn undelivered(outcome: Outcome<Guid>, to: String) -> CallError {
    failed(
        outcome.result.err().unwrap_or(Failure::Timeout),
        to,
        outcome.at,
    )
}

fn delivery(outcome: Outcome<Guid>, to: String) -> Result<Delivery, CallError> {
    match (outcome.result, outcome.peer) {
        (Ok(hops), Some(peer)) => Ok(Delivery {
            peer,
            guid: outcome.at,
            hops,
            took: outcome.took,
        }),
        (Ok(_), None) => Err(failed(Failure::NotFound, to, outcome.at)),
        (Err(failure), _) => Err(failed(failure, to, outcome.at)),
    }
}

fn traced(hop: ringweave_node::Traced<Guid>) -> TracedHop {
    TracedHop {
        peer: hop.id,
        guid: hop.address,
        round_trip: hop.round_trip,
    }
}

/// What the directory said about one question.
pub(super) type Answered = Result<Vec<Placed<Guid>>, Failure>;
