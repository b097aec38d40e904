//! Records that applications put, replace and read, and what is known of each: what the last write was
//! that its writer heard to be kept.
//!
//! Puts take the first tenth of the time, reads the rest, in turn, so that the last round tells of every record
//! near the end. Every eighth read is followed by a new value, if the writer still lives.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use ringweave_node::{Command, Event, Fetched, Record};

use super::{World, event::Deed, lab::Lab, play::Pace};
use crate::Records as Figures;

/// Sets the tickets of puts and reads apart; the rest is a number.
const RECORDS: u64 = 1 << 60;
/// A record outlives its writer for so long.
const LEASE: Duration = Duration::from_secs(2 * 60 * 60);
/// The share of the time in which records are put.
const PUTTING: u64 = 10;
/// One read of so many is followed by a new value.
const REPLACED: u64 = 8;

/// A record of the application.
struct Kept {
    /// Who writes it, and in which life.
    owner: (u32, u16),
    /// The last value that was put, and the last that is known to be kept.
    put: u32,
    kept: Option<u32>,
}

/// What a ticket is for.
enum Open {
    Put { record: usize, version: u32 },
    Read { expected: u32 },
}

/// What was heard of a ticket.
pub(crate) enum Told {
    Stored(bool),
    /// The value's version; nothing if there is none.
    Read(Option<u32>),
    Failed,
}

/// All records of a run.
pub(crate) struct Records {
    puts: Pace,
    reads: Pace,
    payload: usize,
    all: Vec<Kept>,
    /// What waits for an answer, and who asked, in which life.
    open: BTreeMap<u64, (Open, (u32, u16))>,
    next: u64,
    pub(crate) figures: Figures,
}

impl Records {
    pub(crate) fn new(records: u32, reads: u64, payload: u32) -> Self {
        Self {
            puts: Pace::new(records.into()),
            reads: Pace::new(if records > 0 { reads } else { 0 }),
            payload: payload as usize,
            all: Vec::new(),
            open: BTreeMap::new(),
            next: 0,
            figures: Figures::default(),
        }
    }

    /// Whether nothing is under way.
    pub(crate) fn is_over(&self) -> bool {
        self.open.is_empty()
    }

    /// What is due before `until`, `from` T = 0 `to` the end; `anyone` draws a peer that is up.
    pub(crate) fn plan<O: Lab>(
        &mut self,
        world: &mut World<O>,
        (from, to, until): (u64, u64, u64),
        mut anyone: impl FnMut(&World<O>) -> Option<u32>,
    ) {
        self.forget(world);
        let turn = from + (to - from) / PUTTING;
        while let Some((at, _)) = self.puts.due(from, turn, until) {
            let Some(owner) = anyone(world) else { return };
            let life = world.actor(owner).life();
            let record = self.all.len();
            self.all.push(Kept {
                owner: (owner, life),
                put: 0,
                kept: None,
            });
            self.put(world, at, record);
        }
        while let Some((at, number)) = self.reads.due(turn, to, until) {
            let Some(reader) = anyone(world) else { return };
            let record = number as usize % self.all.len().max(1);
            let Some(kept) = self.all.get(record) else {
                return;
            };
            let (owner, life) = kept.owner;
            let Some(expected) = kept.kept else { continue };
            let key = Record::key_of(&world.id(owner), &record.to_string());
            let by = (reader, world.actor(reader).life());
            let ticket = self.ticket(Open::Read { expected }, by);
            world.deed(at, reader, Deed::Command(ticket, Command::Get(key)));
            let writer = world.actor(owner);
            let lives = writer.address().is_some() && writer.life() == life;
            if number % REPLACED == 0 && lives {
                self.put(world, at, record);
            }
        }
    }

    fn ticket(&mut self, open: Open, by: (u32, u16)) -> u64 {
        self.next += 1;
        self.open.insert(RECORDS | self.next, (open, by));
        RECORDS | self.next
    }

    fn put<O: Lab>(&mut self, world: &mut World<O>, at: u64, record: usize) {
        let kept = &mut self.all[record];
        kept.put += 1;
        let (version, by) = (kept.put, kept.owner);
        let mut value = vec![0; self.payload.max(12)];
        value[..4].copy_from_slice(&version.to_le_bytes());
        value[4..12].copy_from_slice(&(record as u64).to_le_bytes());
        let command = Command::Put {
            name: Some(record.to_string()),
            value: Some(Bytes::from(value)),
            lease: LEASE,
        };
        let ticket = self.ticket(Open::Put { record, version }, by);
        world.deed(at, by.0, Deed::Command(ticket, command));
    }

    /// Takes in what peers heard.
    pub(crate) fn gather(&mut self, heard: Vec<(u64, Told)>) {
        for (ticket, heard) in heard {
            let open = self.open.remove(&ticket).map(|(open, _)| open);
            match (open, heard) {
                (Some(Open::Put { record, version }), Told::Stored(is_kept)) => {
                    self.figures.put += 1;
                    if is_kept {
                        self.figures.kept += 1;
                        let kept = &mut self.all[record].kept;
                        *kept = (*kept).max(Some(version));
                    }
                }
                (Some(Open::Read { expected }), Told::Read(found)) => {
                    self.figures.read += 1;
                    match found {
                        Some(version) if version >= expected => self.figures.found += 1,
                        Some(_) => self.figures.stale += 1,
                        None => self.figures.missing += 1,
                    }
                }
                (Some(Open::Read { .. }), _) => {
                    self.figures.read += 1;
                    self.figures.unreachable += 1;
                }
                (Some(Open::Put { .. }), _) => self.figures.put += 1,
                (None, _) => {}
            }
        }
    }

    /// Forgets what was asked of peers that are gone.
    fn forget<O: Lab>(&mut self, world: &World<O>) {
        self.open.retain(|_, (_, (peer, life))| {
            let actor = world.actor(*peer);
            actor.node().is_some() && actor.life() == *life
        });
    }
}

/// What an event of a node says of a put or a read.
pub(crate) fn heard<A>(event: &Event<A>) -> Option<(u64, Told)> {
    let version = |found: &Fetched| {
        let bytes = found.value.get(..4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let told = |found: &Option<Fetched>| Told::Read(found.as_ref().and_then(version));
    Some(match event {
        Event::Put(ticket, result) => (ticket.0, Told::Stored(result.is_ok())),
        Event::Got(ticket, Ok(found)) => (ticket.0, told(found)),
        Event::Got(ticket, Err(_)) => (ticket.0, Told::Failed),
        _ => return None,
    })
}
