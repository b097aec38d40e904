//! What a search costs in a given graph: Lv, Cao, Cohen, Li and Shenker, "Search and Replication in
//! Unstructured Peer-to-Peer Networks", ICS 2002, <https://doi.org/10.1145/514191.514206>, on real code.
//!
//! Each peer has the neighbours that the graph gives it, in both directions, and knows nobody else.
//! One after another, random peers search for others.
//!
//! Differs from the paper: nothing has copies, so a search is for one peer of all, and a peer knows who
//! its neighbours are, so it is found from any of them.

use std::path::Path;

use ringweave_ids::{Peer, Random};
use ringweave_node::{Command, Effort, Query};
use ringweave_overlay::{
    Contact, Profile, View,
    unstructured::{Config, Searched, Unstructured},
};

use super::{
    Common, START, World,
    event::Deed,
    keys::{Desk, Keys},
    mix,
    weather::Weather,
};
use crate::{
    FileError, Latency, Terrain,
    read::{Line, Text},
};

/// Most peers of a graph: what a laboratory of unstructured networks is built for.
const MAX_PEERS: u32 = 1_000_000;

/// Most neighbours of a peer; what a graph has beyond is left out.
const MAX_DEGREE: usize = 255;

/// Microseconds between two searches: all but the longest walks are over by then.
const APART: u64 = 2_000_000;

/// The way to another peer takes this long, in milliseconds.
const DELAY_MS: f64 = 20.0;

/// Who knows whom, in both directions.
#[derive(Clone, Debug)]
pub struct Graph {
    neighbours: Vec<Vec<u32>>,
}

/// What searches in a graph came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchCost {
    /// Searches made.
    pub searches: u32,
    /// Those that found their peer.
    pub found: u32,
    /// Messages of all of them, words between walkers and their origins included.
    pub messages: u64,
}

impl SearchCost {
    /// Messages sent for each search that found its peer.
    pub fn messages_each(&self) -> f64 {
        self.messages as f64 / f64::from(self.found.max(1))
    }
}

impl Graph {
    /// Reads edges, two numbers of peers a line, packed or not. Peers are numbered anew, in the order in
    /// which the file names them.
    ///
    /// # Errors
    /// If a line does not hold two numbers, or the file no edge.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = Text::read(path)?;
        let mut names = std::collections::BTreeMap::new();
        let mut graph = Self {
            neighbours: Vec::new(),
        };
        for line in text.lines().filter(|line| !line.is_header()) {
            let (from, to) = edge(line)?;
            let mut number = |name: u32| {
                let next = names.len() as u32;
                *names.entry(name).or_insert(next)
            };
            let (from, to) = (number(from), number(to));
            if names.len() > MAX_PEERS as usize {
                return Err(line.error(format!("more than {MAX_PEERS} peers")));
            }
            graph.neighbours.resize(names.len(), Vec::new());
            graph.link(from, to);
        }
        match graph.neighbours.is_empty() {
            true => Err(text.error("there is no edge in it")),
            false => Ok(graph),
        }
    }

    fn link(&mut self, from: u32, to: u32) {
        let degree = |peer: u32| self.neighbours[peer as usize].len();
        let is_new = from != to && !self.neighbours[from as usize].contains(&to);
        if is_new && degree(from) < MAX_DEGREE && degree(to) < MAX_DEGREE {
            self.neighbours[from as usize].push(to);
            self.neighbours[to as usize].push(from);
        }
    }

    /// How many peers it has.
    pub fn peers(&self) -> u32 {
        self.neighbours.len() as u32
    }

    /// How many pairs know each other.
    pub fn links(&self) -> usize {
        self.neighbours.iter().map(Vec::len).sum::<usize>() / 2
    }

    /// Lets random peers search for random others, one after another, and counts what that takes.
    ///
    /// `config` says how; its views are the graph's.
    pub fn search(&self, config: &Config, searches: u32, seed: u64) -> SearchCost {
        let mut world = self.world(config, seed);
        let mut random = Random::new(mix(seed));
        for _ in 0..searches {
            let from = random.below(self.neighbours.len()) as u32;
            let to = random.below(self.neighbours.len()) as u32;
            let query = Query::Peer(world.id(to));
            let command = Command::Resolve(query, Effort::Once);
            world.deed(world.now, from, Deed::Command(u64::from(to), command));
            world.run(world.now + APART, &mut |_, _| {});
        }
        let late = u64::from(config.search_ms) * 1_000;
        world.run(world.now + late, &mut |_, _| {});
        let mut all = Searched::default();
        let mut messages = 0;
        for (_, actor) in world.actors() {
            let one = actor.node().map(|node| node.overlay().searched());
            let one = one.unwrap_or_default();
            all.begun += one.begun;
            all.found += one.found;
            messages += u64::from(one.sent);
        }
        SearchCost {
            searches: all.begun,
            found: all.found,
            messages,
        }
    }

    /// Everyone with the neighbours that it has here.
    fn world(&self, config: &Config, seed: u64) -> World<Unstructured> {
        let degree = self.neighbours.iter().map(Vec::len).max().unwrap_or(0);
        let config = Config {
            active: degree as u8,
            passive: 1,
            // Nobody hears of others, so the graph stays what it is.
            shuffle_ms: u32::MAX,
            ..config.clone()
        };
        let keys = Keys::drawn(mix(seed ^ 1), self.peers(), false);
        let terrain = Terrain::new(&Latency::Constant(DELAY_MS), self.peers(), 0)
            .expect("a constant delay needs no file");
        let weather = Weather::calm(mix(seed ^ 2), terrain);
        let profile = Profile::default();
        let built = |(me, neighbours): (u32, &Vec<u32>)| {
            let desk = Desk {
                keys: &keys,
                me,
                is_blind: false,
            };
            let view = View {
                config: &config,
                me: Peer(me),
                profile: &profile,
                host: &desk,
            };
            let contacts = neighbours.iter().map(|it| Contact::of(&desk, Peer(*it)));
            Unstructured::built(&view, contacts, None)
        };
        let overlays = (0..).zip(&self.neighbours).map(built).collect();
        let mut world = World::new(Common::quiet(keys, weather, config), 1);
        world.now = START;
        world.settle(overlays);
        world
    }
}

/// The two peers of an edge.
fn edge(line: Line<'_>) -> Result<(u32, u32), FileError> {
    let fields = line.fields();
    let [from, to] = fields[..] else {
        return Err(line.error("an edge is two numbers"));
    };
    let number = |text: &str| {
        let number = text.parse::<u32>();
        number.map_err(|_| line.error(format!("{text:?} is no number of a peer")))
    };
    Ok((number(from)?, number(to)?))
}

#[cfg(test)]
mod tests {
    use ringweave_overlay::unstructured::Search;

    use super::*;

    /// So many peers, each knowing two before it.
    fn written(peers: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut text = String::from("# From\tTo\n");
        for peer in 1..peers {
            text += &format!("{}\t{}\n", peer * 10, (peer - 1) * 10);
            text += &format!(
                "{}\t{}\n",
                peer * 10,
                mix(u64::from(peer)) % u64::from(peer) * 10
            );
        }
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn walks_take_fewer_messages_than_floods_and_the_same_seed_the_same() {
        let graph = Graph::read(written(400).path()).unwrap();
        assert_eq!(graph.peers(), 400);
        let cost = |search| {
            let config = Config {
                search,
                walkers: 16,
                search_ms: 20_000,
                ..Config::default()
            };
            graph.search(&config, 20, 7)
        };
        let (walks, floods) = (cost(Search::Walk), cost(Search::Flood));
        assert!(
            walks.found >= 18 && floods.found >= 18,
            "{walks:?} {floods:?}"
        );
        assert!(
            walks.messages_each() < floods.messages_each(),
            "{walks:?} {floods:?}"
        );
        assert_eq!(cost(Search::Walk), walks);
    }

    #[test]
    fn a_file_that_is_no_graph_is_told() {
        for text in ["", "# nothing\n", "1 2 3\n", "1\tx\n"] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            assert!(Graph::read(file.path()).is_err(), "{text:?}");
        }
    }
}
