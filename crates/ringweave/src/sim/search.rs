//! `sim search`: what a search costs in a given graph, by random walks beside flooding.

use ringweave_overlay::unstructured::{Config, Search};
use ringweave_sim::{Graph, SearchCost};
use serde::Serialize;

use super::{
    cli::SearchArgs,
    table::{aligned, count, decimal},
};
use crate::{exit::Problem, print};

/// What `--json` prints.
#[derive(Serialize)]
struct Searched {
    peers: u32,
    links: usize,
    seed: u64,
    runs: Vec<Run>,
}

/// One way to search.
#[derive(Serialize)]
struct Run {
    search: Search,
    searches: u32,
    found: u32,
    messages: u64,
    /// Messages of all searches over those that found their peer.
    messages_each: f64,
}

/// Searches the graph and prints what it cost.
///
/// # Errors
/// If the file is no graph.
pub(super) fn run(args: &SearchArgs, is_json: bool) -> Result<(), Problem> {
    let graph = Graph::read(&args.graph).map_err(Problem::usage)?;
    let both = [Search::Walk, Search::Flood].into_iter();
    let ways = both.filter(|search| {
        args.search
            .as_deref()
            .is_none_or(|one| one == word(*search))
    });
    let runs = ways.map(|search| {
        let config = Config {
            search,
            walkers: args.walkers,
            ttl: args.ttl,
            search_ms: args.limit * 1_000,
            ..Config::default()
        };
        let cost = graph.search(&config, args.searches, args.seed);
        let messages_each = cost.messages_each();
        let SearchCost {
            searches,
            found,
            messages,
        } = cost;
        Run {
            search,
            searches,
            found,
            messages,
            messages_each,
        }
    });
    let searched = Searched {
        peers: graph.peers(),
        links: graph.links(),
        seed: args.seed,
        runs: runs.collect(),
    };
    if is_json {
        return print::json(&searched);
    }
    print::line(searched.table().trim_end())
}

impl Searched {
    fn table(&self) -> String {
        let heads = ["search", "searches", "found", "messages", "for each found"];
        let mut lines = vec![heads.map(str::to_owned).to_vec()];
        for run in &self.runs {
            lines.push(vec![
                word(run.search).to_owned(),
                count(u64::from(run.searches)),
                count(u64::from(run.found)),
                count(run.messages),
                decimal(run.messages_each),
            ]);
        }
        let (peers, links) = (count(u64::from(self.peers)), count(self.links as u64));
        format!("{peers} peers, {links} links\n{}", aligned(&lines))
    }
}

const fn word(search: Search) -> &'static str {
    match search {
        Search::Walk => "walk",
        Search::Flood => "flood",
    }
}
