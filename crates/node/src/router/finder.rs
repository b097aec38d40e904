//! Where a peer sits: the overlay's own table, then a cache, then the directory.
//!
//! A search asks the first owner of the key, then the second, and says "nobody" only after both, in
//! more than one round: a record is in the making while a ring heals. Found addresses are kept until
//! somebody says that they are wrong; absence is believed for a few seconds only. Where the topology
//! has no structure, the overlay searches for the peer itself, and nothing is believed but its links.

use std::{collections::BTreeMap, time::Duration};

use ringweave_ids::{PeerId, Time, wire};
use ringweave_overlay::{Overlay, Wish};

use super::{
    Ground, Router,
    asks::{Aim, Purpose, Reply},
    holder::{Holders, Waiting},
};
use crate::{
    Effort, Event, Failure, Placed, Port, Query, Ticket,
    directory::{Word, query_key},
    lru::Lru,
};

/// Addresses kept: 65,536 of them take some 8 MB.
const KNOWN: usize = 65_536;
/// Absent peers kept.
const ABSENT: usize = 4_096;
/// How long absence is believed: a peer that rejoins is back in the directory within it.
const ABSENT_FOR: Duration = Duration::from_secs(5);
/// Searches under way.
const LOOKUPS: usize = 1_024;
/// Owners asked in a round.
const CHOICES: u8 = 2;
/// The waits before each further round of a search that found nobody.
const ROUNDS: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(700)];
/// Prefixes shorter than this are looked for in this peer's own table only.
pub(crate) const HOME_PREFIX: usize = 4;

/// What this peer knows of where others sit.
pub(super) struct Finder<A> {
    known: Lru<PeerId, (A, Option<String>)>,
    absent: Lru<PeerId, Time>,
    last: u64,
    lookups: BTreeMap<u64, Lookup<A>>,
    pub(super) holders: Holders<A>,
}

struct Lookup<A> {
    query: Query<A>,
    choice: u8,
    round: usize,
    effort: Effort,
    failure: Option<Failure>,
    tickets: Vec<Ticket>,
    /// When the next round begins, if it has not.
    due: Option<Time>,
}

/// What is known of a peer's address.
#[derive(Debug)]
pub(super) enum Found<A> {
    /// It sits, or sat, there.
    At(A),
    /// It is being looked for; the end comes through `on_receiver_sought` and `on_asked_sought`.
    Sought,
    /// The directory does not know it.
    Absent,
    /// It cannot be looked for now.
    Unknown,
}

impl<A: Clone + PartialEq> Finder<A> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            known: Lru::new(KNOWN, seed),
            absent: Lru::new(ABSENT, seed),
            last: 0,
            lookups: BTreeMap::new(),
            holders: Holders::default(),
        }
    }

    /// The address of this peer was wrong.
    pub(super) fn drop_address(&mut self, id: &PeerId) {
        self.known.remove(id);
        self.holders.drop_peer(id);
    }

    /// The network changed: who was absent may be there.
    pub(super) fn forget_absent(&mut self) {
        self.absent.clear();
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.lookups.is_empty()
    }

    /// A peer said where it sits.
    pub(super) fn learn(&mut self, placed: &Placed<A>) {
        self.known
            .insert(placed.id, (placed.address.clone(), placed.name.clone()));
    }

    /// The name of a peer, if it came along with its address.
    pub(super) fn name(&self, id: &PeerId) -> Option<String> {
        self.known.peek(id).and_then(|(_, name)| name.clone())
    }
}

impl<O: Overlay> Router<O> {
    /// Where a peer sits; `avoid` is where it turned out not to be.
    pub(super) fn find(
        &mut self,
        ground: &mut Ground<'_, O>,
        id: &PeerId,
        avoid: Option<&O::Address>,
    ) -> Found<O::Address> {
        match self.find_near(ground, id, avoid) {
            Found::Unknown => {}
            found => return found,
        }
        match self.look_up(ground, Query::Peer(*id), Effort::Patient) {
            Some(_) => Found::Sought,
            None => Found::Unknown,
        }
    }

    fn find_near(
        &mut self,
        ground: &mut Ground<'_, O>,
        id: &PeerId,
        avoid: Option<&O::Address>,
    ) -> Found<O::Address> {
        if let Some(address) = ground.overlay.locate(&ground.view, id)
            && avoid != Some(&address)
        {
            return Found::At(address);
        }
        // Where nothing leads to an address, knowing it is of no use.
        if let Some((address, _)) = self.finder.known.get(id)
            && ground.overlay.is_structured()
        {
            return Found::At(address.clone());
        }
        match self.finder.absent.peek(id) {
            Some(&since) if ground.now.since(since) < ABSENT_FOR => Found::Absent,
            _ => Found::Unknown,
        }
    }

    /// Answers a question of the application to the directory.
    pub(super) fn resolve(
        &mut self,
        ground: &mut Ground<'_, O>,
        ticket: Ticket,
        query: Query<O::Address>,
        effort: Effort,
    ) {
        match &query {
            Query::Holder(address) => {
                let address = address.clone();
                return self.await_holder(ground, address, Waiting::Ask(ticket));
            }
            Query::Peer(id) => {
                let id = *id;
                let found = match self.address.clone().filter(|_| id == self.me) {
                    Some(address) => Found::At(address),
                    None => self.find_near(ground, &id, None),
                };
                if let Found::At(address) = found {
                    let name = if id == self.me {
                        self.name.clone()
                    } else {
                        self.finder.name(&id)
                    };
                    let placed = Placed { id, address, name };
                    return ground.tell(Event::Resolved(ticket, Ok(vec![placed])));
                }
            }
            Query::Prefix(prefix) if prefix.len() < HOME_PREFIX => {
                let near = self.near(ground, prefix);
                return ground.tell(Event::Resolved(ticket, Ok(near)));
            }
            // Nobody keeps names or prefixes where there are no keys: it is this peer's links that count.
            Query::Prefix(prefix) if !ground.overlay.is_structured() => {
                let near = self.near(ground, prefix);
                return ground.tell(Event::Resolved(ticket, Ok(near)));
            }
            Query::Name(_) if !ground.overlay.is_structured() => {
                return ground.tell(Event::Resolved(ticket, Err(Failure::NotFound)));
            }
            Query::Prefix(_) | Query::Name(_) => {}
        }
        if query_key(&query).is_none() {
            return ground.tell(Event::Resolved(ticket, Ok(Vec::new())));
        }
        match self.look_up(ground, query, effort) {
            Some(lookup) => lookup.tickets.push(ticket),
            None => ground.tell(Event::Resolved(ticket, Err(Failure::NoRoute))),
        }
    }

    /// This peer and those of its own table whose ids start so.
    fn near(&self, ground: &Ground<'_, O>, prefix: &str) -> Vec<Placed<O::Address>> {
        let mut table = Vec::new();
        ground.overlay.neighbours(&mut table);
        let others = table.into_iter().map(|other| {
            let id = ground.view.id(other.peer);
            Placed {
                id,
                address: other.address,
                name: self.finder.name(&id),
            }
        });
        let me = self.address.clone();
        let me = me.map(|address| Placed {
            id: self.me,
            address,
            name: self.name.clone(),
        });
        let mut near = me
            .into_iter()
            .chain(others)
            .filter(|one| one.id.has_prefix(prefix))
            .collect::<Vec<_>>();
        near.sort_by_key(|one| one.id);
        near.dedup_by_key(|one| one.id);
        near
    }

    /// The search for this query, begun if there is none.
    fn look_up(
        &mut self,
        ground: &mut Ground<'_, O>,
        query: Query<O::Address>,
        effort: Effort,
    ) -> Option<&mut Lookup<O::Address>> {
        self.address.as_ref()?;
        let known = self
            .finder
            .lookups
            .iter()
            .find(|(_, lookup)| lookup.query == query);
        let number = match known {
            Some((number, _)) => *number,
            None if self.finder.lookups.len() >= LOOKUPS => return None,
            None => {
                self.finder.last += 1;
                let number = self.finder.last;
                self.finder.lookups.insert(
                    number,
                    Lookup {
                        query,
                        choice: 0,
                        round: 0,
                        effort,
                        failure: None,
                        tickets: Vec::new(),
                        due: None,
                    },
                );
                self.ask_owner(ground, number);
                number
            }
        };
        let lookup = self.finder.lookups.get_mut(&number)?;
        lookup.effort = lookup.effort.max(effort);
        Some(lookup)
    }

    /// Asks the owner whose turn it is.
    fn ask_owner(&mut self, ground: &mut Ground<'_, O>, number: u64) {
        let Some(lookup) = self.finder.lookups.get_mut(&number) else {
            return;
        };
        lookup.due = None;
        if !ground.overlay.is_structured()
            && let Query::Peer(id) = lookup.query
        {
            return self.wish(ground, Wish::Seek(id));
        }
        let Some(key) = query_key(&lookup.query) else {
            return;
        };
        let aim = Aim::owner(key, lookup.choice);
        let query = lookup.query.clone();
        let word = Word::Ask {
            number: self.next_ask(),
            query,
        };
        let payload = wire::to_vec(&word).into();
        let purpose = Purpose::Lookup(number);
        self.ask(ground, aim, Port::DIRECTORY, payload, purpose);
    }

    /// The overlay's own search for a peer ended.
    pub(super) fn on_sought(
        &mut self,
        ground: &mut Ground<'_, O>,
        id: PeerId,
        address: Option<O::Address>,
    ) {
        let query = Query::Peer(id);
        let lookups = self.finder.lookups.iter();
        let mut lookups = lookups.filter(|(_, lookup)| lookup.query == query);
        let Some(number) = lookups.next().map(|(number, _)| *number) else {
            return;
        };
        let name = self.finder.name(&id);
        let placed = address.map(|address| Placed { id, address, name });
        self.end_lookup(ground, number, Ok(placed.into_iter().collect()));
    }

    /// An owner answered a search, or could not.
    pub(super) fn on_looked_up(
        &mut self,
        ground: &mut Ground<'_, O>,
        number: u64,
        reply: Reply<O::Address>,
    ) {
        let Some(lookup) = self.finder.lookups.get_mut(&number) else {
            return;
        };
        match reply {
            Reply::Peers(mut found) => {
                found.retain(|placed| lookup.query.fits(placed));
                if !found.is_empty() {
                    return self.end_lookup(ground, number, Ok(found));
                }
            }
            // No second owner is no contradiction.
            Reply::Failed(Failure::NotFound, _) => {}
            Reply::Failed(failure, _) => lookup.failure = Some(failure),
            Reply::Kept | Reply::Listing(_) | Reply::Record(_) | Reply::Way => {}
        }
        lookup.choice += 1;
        if lookup.choice < CHOICES {
            return self.ask_owner(ground, number);
        }
        lookup.choice = 0;
        if let (Effort::Patient, Some(&wait)) = (lookup.effort, ROUNDS.get(lookup.round)) {
            lookup.round += 1;
            lookup.failure = None;
            lookup.due = Some(ground.now + wait);
            return self.tick(ground);
        }
        let result = lookup.failure.map_or(Ok(Vec::new()), Err);
        self.end_lookup(ground, number, result);
    }

    /// Begins the rounds that are due.
    pub(super) fn next_rounds(&mut self, ground: &mut Ground<'_, O>) {
        let due = |lookup: &Lookup<O::Address>| lookup.due.is_some_and(|due| due <= ground.now);
        let due = self.finder.lookups.iter().filter(|(_, lookup)| due(lookup));
        for number in due.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.ask_owner(ground, number);
        }
    }

    fn end_lookup(
        &mut self,
        ground: &mut Ground<'_, O>,
        number: u64,
        mut result: Result<Vec<Placed<O::Address>>, Failure>,
    ) {
        let Some(lookup) = self.finder.lookups.remove(&number) else {
            return;
        };
        for placed in result.iter().flatten() {
            self.finder.learn(placed);
        }
        match &lookup.query {
            Query::Peer(id) => {
                if result.as_ref().is_ok_and(Vec::is_empty) {
                    self.finder.absent.insert(*id, ground.now);
                }
                let found = match &result {
                    Ok(peers) => peers.iter().find(|peer| peer.id == *id),
                    Err(_) => None,
                };
                let found = match (&result, found) {
                    (_, Some(peer)) => Ok(peer.address.clone()),
                    (Err(failure), _) => Err(*failure),
                    (Ok(_), None) => Err(Failure::NotFound),
                };
                self.on_asked_sought(ground, id, &found);
                self.on_receiver_sought(ground, id, found);
            }
            // A neighbour may be so new that its record is still on its way home.
            Query::Prefix(prefix) => {
                let near = self.near(ground, prefix);
                match &mut result {
                    Ok(found) => {
                        let news = near
                            .into_iter()
                            .filter(|near| found.iter().all(|known| known.id != near.id));
                        let news = news.collect::<Vec<_>>();
                        found.extend(news);
                        found.sort_by_key(|one| one.id);
                    }
                    Err(_) if !near.is_empty() => result = Ok(near),
                    Err(_) => {}
                }
            }
            Query::Name(_) | Query::Holder(_) => {}
        }
        for ticket in lookup.tickets {
            ground.tell(Event::Resolved(ticket, result.clone()));
        }
    }
}
