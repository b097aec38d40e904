//! The words of `sim`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ringweave_sim::Targets;

use super::flags::{Given, Shape, TROUBLE, WORLD};

/// What to do in the laboratory.
#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// Run one world and print what was measured
    Run(RunArgs),
    /// Run one world with several settings and print one table
    Compare(CompareArgs),
    /// Walk over ready tables, without time: hops, and what of the dead a geometry bears
    Walk(WalkArgs),
    /// Run a grid of settings and seeds, a JSON line for each run; goes on where it was stopped
    Sweep(SweepArgs),
    /// Search a graph by random walks and by flooding, and count the messages
    Search(SearchArgs),
}

/// What `sim run` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ringweave sim run --peers 10000 --lookups 10000 --broadcasts 3
  ringweave sim run --peers 1000000 --seed 1 --lookups 100000 --broadcasts 1 --json
  ringweave sim run --peers 5000 --churn weibull:0.4:600 --duration 600 --lookups 5000
  ringweave sim run --latency rtt.gz --policy nearest --pairs local --lookups 10000
  ringweave sim run --crash 0.3@10 --fault 'slow@20+10:ring=[4],factor=8' --lookups 1000
  ringweave sim run --fault crash@10:level=1,spare=1 --expect heal_s=30 --expect renumbered=0
  ringweave sim run --fault partition@10+30:parts=2 --without merge       the two never meet: it fails
  ringweave sim run --scenario world.toml --seed 2

Faults, at T seconds for LENGTH seconds:
  crash@10:share=0.3             these vanish without a word
  leave@10:share=0.3             these say goodbye and go
  freeze@10+20:position=[0]      these do nothing, and go on with the state they had
  slow@10+5:level=1,factor=8     delays of these are multiplied
  partition@10+30:parts=3        so many parts; or branches=2, or these are cut off from the others
  loss@10+20:share=0.1           a share of packets is lost
  dead_pairs@10+60:share=0.2     a share of pairs cannot connect
  flap@10+60:rate=0.01           connections break, with this probability a second
  churn@10+300:law=exponential:600   peers come and go by a law
  flash_crowd@10+5:peers=500     so many more join
  meet@10                        networks that were founded apart (--networks 2) meet
These are share=0.3, ring=[4], position=[4.2] or level=1-2; of them spare=N positions go free, and
only=N are struck. repeat=20,every=60 brings any fault back. In a shell, quote what has brackets.

Figures to expect, at most: heal_s, routes_s, redundant, misdelivered, renumbered, promoted,
promotions, moved, removed, handles, upkeep_messages, upkeep_bytes, violated; at least: delivered,
reached, cluster.

A scenario file is TOML: the flags' names with underscores, [[fault]] for each fault, and [expect]:
  peers = 10000
  latency = \"uniform:20-80\"
  [[fault]]
  at = 10
  kind = \"freeze\"
  ring = \"[4]\"
  length = 5
  [expect]
  heal_s = 30

The same settings and seed give the same digest, on any number of threads.
Exit codes: 0 ok, 1 an invariant was violated or an expectation missed, 2 settings or files that
make no sense.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) world: WorldArgs,
}

/// What `sim compare` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ringweave sim compare --vary policy=balanced,nearest --latency geo --lookups 5000
  ringweave sim compare --vary ring-size=8,32,128 --peers 20000 --broadcasts 3 --html rings.html
  ringweave sim compare --vary policy=balanced,nearest --vary pairs=uniform,local --lookups 5000
  ringweave sim compare --page docs/topologies.md

KEY is a flag of `ringweave sim run`; the other flags are the same for all runs.

A page is Markdown. Its parts are filled in from results of `ringweave sim sweep`; the words around
them stay. A table:
  <!-- compare
  results = [\"study.jsonl\"]             # paths start in the page's folder
  where = { peers = 10000 }             # only these runs; or a list: [1000, 10000]
  each = [\"topology\"]                  # a row for each
  columns = [[\"hops\", \"hops.mean\"], [\"lost\", \"lost / sent %\"]]
  -->
  <!-- /compare -->
A plot has a line for each, and instead of columns:
  plot = { file = \"hops.svg\", title = \"Hops\", x = [\"peers\", \"peers\"], y = [\"hops\", \"hops.mean\"], log = [\"x\"] }
A figure is a path in the JSON of `sim run`, or a varied setting; of several runs their mean.")]
pub(crate) struct CompareArgs {
    /// A setting and its values; given more than once, all crossings are run
    #[arg(long, required_unless_present = "page", value_name = "KEY=V1,V2")]
    pub(crate) vary: Vec<String>,
    /// Run nothing: fill in the tables and plots of this page from results
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vary", "html"])]
    pub(crate) page: Option<PathBuf>,
    /// Also write a page with pictures
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) world: WorldArgs,
}

/// What `sim walk` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ringweave sim walk --topology chord --peers 100000 --paths 100000
  ringweave sim walk --topology pastry --peers 65536 --dead 0.3
  ringweave sim walk --topology chord --peers 10000 --dead 0.3 --repair 60 --targets keys
  ringweave sim walk --topology kademlia --peers 10000 --targets closest

The machines are those of `ringweave sim run --bootstrap built`, and take each hop; there are no
messages and no delays. Who is dead is gone at once, and those that held a connection to it know. The
same settings and seed give the same figures. Exit codes: 0 ok, 2 settings that make no sense.")]
pub(crate) struct WalkArgs {
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Paths from random peers [default: 10000]
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        hide_default_value = true
    )]
    pub(crate) paths: u32,
    /// Where they go: peers; keys, to who owned them before anybody died; predecessors of keys (chord);
    /// closest, all peers closest to a key, by lookups (kademlia)
    #[arg(long, value_name = "TARGETS", default_value = "peers")]
    pub(crate) targets: Targets,
    /// Share of the peers that dies first
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(crate) dead: f64,
    /// Simulated time in which the others mend their tables; with 0 nobody does
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub(crate) repair: f64,
}

/// What `sim sweep` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ringweave sim sweep study.toml --out study.jsonl            run what has no line yet
  ringweave sim sweep study.toml --out study.jsonl --check    run all again and compare digests
  ringweave sim sweep study.toml --print-jobs                 the runs as commands, for a scheduler

A study file is TOML:
  [base]                                 # the keys of a scenario file
  peers = 10000
  lookups = 10000
  [grid]                                 # every crossing is a run
  policy = [\"balanced\", \"nearest\"]
  seed = \"1-20\"                          # or a list

Paths in a study file start in its folder. A run takes one thread unless the file says otherwise.
Exit codes: 0 ok, 1 a run failed, violated an invariant or (--check) differs, 2 usage.")]
pub(crate) struct SweepArgs {
    /// The study
    pub(crate) file: PathBuf,
    /// Where the results are, a JSON line for each run
    #[arg(long, value_name = "FILE", required_unless_present = "print_jobs")]
    pub(crate) out: Option<PathBuf>,
    /// Processes at once [default: cores over threads of a run]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub(crate) jobs: Option<u16>,
    /// Print the runs as commands, one a line, and run nothing
    #[arg(long, conflicts_with_all = ["out", "check", "jobs"])]
    pub(crate) print_jobs: bool,
    /// Run every line of the results again and compare the digests
    #[arg(long)]
    pub(crate) check: bool,
}

/// What `sim search` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ringweave sim search --graph gnutella.txt.gz
  ringweave sim search --graph gnutella.txt.gz --search walk --walkers 16 --searches 500 --json

A graph is a file of edges, two numbers of peers a line, packed (gzip) or not. Random peers search for
random others, one after another; 20 ms lie between any two.")]
pub(crate) struct SearchArgs {
    /// Who knows whom
    #[arg(long, value_name = "FILE")]
    pub(crate) graph: PathBuf,
    /// How to search [default: both ways, in turn]
    #[arg(long, value_name = "WAY", value_parser = ["walk", "flood"])]
    pub(crate) search: Option<String>,
    /// Walkers of a search
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) walkers: u8,
    /// Steps that a flood goes
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) ttl: u8,
    /// Searches
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) searches: u32,
    /// How long a search may take
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) limit: u32,
    /// Everything that is drawn follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// A world: a file, and flags that win over it.
#[derive(Debug, Default, Args)]
pub(crate) struct WorldArgs {
    /// Read the settings of this file (TOML); flags win over it
    #[arg(long, value_name = "FILE", help_heading = WORLD)]
    pub(crate) scenario: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) given: Given,
    /// A further fault, like crash@10:share=0.3; may be given more than once
    #[arg(
        long = "fault",
        value_name = "KIND@T[+LENGTH]:KEY=VALUE",
        help_heading = TROUBLE
    )]
    pub(crate) faults: Vec<String>,
    /// A bound on a figure, like heal_s=30, or the run fails; may be given more than once
    #[arg(long = "expect", value_name = "FIGURE=BOUND", help_heading = TROUBLE)]
    pub(crate) expect: Vec<String>,
}

impl WorldArgs {
    /// Whether anything is said of the world.
    pub(crate) fn is_given(&self) -> bool {
        let Self {
            scenario,
            given,
            faults,
            expect,
        } = self;
        scenario.is_some() || !given.0.is_empty() || !faults.is_empty() || !expect.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, Parser as _};
    use ringweave_sim::{Expectation, Fault, Scenario, Share};

    use super::*;
    use crate::cli::{Cli, Command as Word};

    #[test]
    fn every_fault_and_figure_that_the_help_tells_of_is_one() {
        let mut command = SimCommand::augment_subcommands(Command::new("sim"));
        let run = command.find_subcommand_mut("run").unwrap();
        let help = run.get_after_help().unwrap().to_string();
        for word in help.split_whitespace().filter(|word| word.contains('@')) {
            let word = word.trim_matches('\'');
            let is_one = word.parse::<Fault>().is_ok() || word.parse::<Share>().is_ok();
            assert!(is_one, "{word}");
        }
        let unknown = "?@1".parse::<Fault>().unwrap_err().to_string();
        let (_, kinds) = unknown.split_once("choose one of ").unwrap();
        for kind in kinds.split(", ") {
            assert!(help.contains(&format!("  {kind}@")), "{kind}");
        }
        let (_, figures) = help.split_once("at most: ").unwrap();
        let (figures, _) = figures.split_once(".\n").unwrap();
        let words = figures.split([' ', '\n', ',', ';', ':']);
        for figure in words.filter(|word| !["", "at", "least"].contains(word)) {
            format!("{figure}=0").parse::<Expectation>().unwrap();
        }
        let unknown = "?=0".parse::<Expectation>().unwrap_err().to_string();
        let (_, all) = unknown.split_once("there are ").unwrap();
        for figure in all.split(", ") {
            assert!(figures.contains(figure), "{figure}");
        }
    }

    #[test]
    fn the_command_that_replays_a_run_replays_it() {
        let scenario = Scenario {
            peers: 77,
            loss: 0.25,
            real_keys: true,
            ring_size: Some(8),
            crash: Some("0.3@10".parse().unwrap()),
            canary: Some("misrouted".parse().unwrap()),
            faults: vec![
                "slow@5+5:position=[4.2],factor=3".parse().unwrap(),
                "loss@20+5:share=0.1".parse().unwrap(),
            ],
            expect: vec!["heal_s=30".parse().unwrap()],
            ..Scenario::default()
        };
        let words = ["ringweave", "sim", "run"].map(str::to_owned);
        let cli = Cli::try_parse_from(words.into_iter().chain(scenario.words())).unwrap();
        let Word::Sim(SimCommand::Run(args)) = cli.command else {
            panic!("another command");
        };
        assert_eq!(super::super::world(&args.world).unwrap(), scenario);
    }
}
