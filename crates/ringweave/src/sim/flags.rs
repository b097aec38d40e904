//! A flag for each setting of a scenario; what it takes is read by the laboratory, which reads files and
//! grids by the same rules.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use ringweave_sim::{Form, Scenario, Setting, setting};

/// The settings that were given as flags, with their texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given(pub(crate) Vec<(&'static Setting, String)>);

/// The same of those settings that say what tables are like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape(pub(crate) Given);

/// A flag: its name, which is the setting's with dashes; what its value is called; the heading that
/// it stands under; the help.
type Flag = (&'static str, &'static str, &'static str, &'static str);

pub(super) const WORLD: &str = "World";
const SHAPE: &str = "Shape";
const LOAD: &str = "Load";
pub(super) const TROUBLE: &str = "Trouble";

/// Every setting's flag, in the order of the help.
const FLAGS: &[Flag] = &[
    (
        "topology",
        "TOPOLOGY",
        WORLD,
        "How peers arrange themselves: polyring, chord, kademlia, pastry, tapestry, unstructured, star, superpeer",
    ),
    ("peers", "N", WORLD, "Peers at T = 0, up to 4000000"),
    (
        "seed",
        "N",
        WORLD,
        "Everything that is drawn follows from it",
    ),
    (
        "threads",
        "N",
        WORLD,
        "Threads that run it [default: one for each core]",
    ),
    (
        "bootstrap",
        "HOW",
        WORLD,
        "grown: every peer joins through the protocol; built: ready tables",
    ),
    (
        "networks",
        "N",
        WORLD,
        "Networks of one key that are founded apart, until the fault meet@T",
    ),
    (
        "duration",
        "SECONDS",
        WORLD,
        "From T = 0 to the end; the load is spread evenly",
    ),
    (
        "ring-size",
        "N",
        SHAPE,
        "Most positions in a ring [default: the topology's own]",
    ),
    (
        "cluster",
        "N",
        SHAPE,
        "Members of a position with children, 1 to 16 [default: the topology's own]",
    ),
    (
        "policy",
        "POLICY",
        SHAPE,
        "Where newcomers go: balanced, nearest, labelled",
    ),
    (
        "order",
        "ORDER",
        SHAPE,
        "Whom a broadcast is passed to first: inward, the parent; sideways, the siblings",
    ),
    (
        "successors",
        "N",
        SHAPE,
        "Successors that a peer of chord or a superpeer keeps, 1 to 64 [default: the topology's own]",
    ),
    (
        "fingers",
        "CHOICE",
        SHAPE,
        "Where a finger of chord points: fixed, to the first peer of its interval; random, to any",
    ),
    (
        "no-shortcuts",
        "BOOL",
        SHAPE,
        "Messages of chord go over fingers alone, not over successors",
    ),
    (
        "bucket",
        "N",
        SHAPE,
        "Peers in a bucket of kademlia (k), 1 to 64 [default: the topology's own]",
    ),
    (
        "links",
        "N",
        SHAPE,
        "Connections into each bucket of kademlia, 1 to 16 [default: the topology's own]",
    ),
    (
        "digit-bits",
        "N",
        SHAPE,
        "Bits of a digit of pastry and tapestry, 1, 2 or 4 [default: the topology's own]",
    ),
    (
        "active",
        "N",
        SHAPE,
        "Neighbours in an unstructured network, 2 to 255 [default: the topology's own]",
    ),
    (
        "leaves",
        "N",
        SHAPE,
        "Peers of a leaf set of pastry, 4 to 64, or 0 in built tables [default: the topology's own]",
    ),
    (
        "slot",
        "N",
        SHAPE,
        "Peers in a slot of tapestry, 1 to 8 [default: the topology's own]",
    ),
    (
        "no-surrogates",
        "BOOL",
        SHAPE,
        "Messages of tapestry get nowhere when their next digit is missing",
    ),
    (
        "latency",
        "LATENCY",
        WORLD,
        "One-way delays: constant:MS, uniform:LO-HI, geo, or a file of round trips",
    ),
    (
        "jitter",
        "SHARE",
        WORLD,
        "Most that is added to a message's delay at random, as a share of it",
    ),
    (
        "upload",
        "BYTES",
        WORLD,
        "Bytes a second that a peer sends at most [default: no limit]",
    ),
    (
        "download",
        "BYTES",
        WORLD,
        "Bytes a second that a peer receives at most [default: no limit]",
    ),
    (
        "anchors",
        "N",
        WORLD,
        "Peers that stay whatever happens, whose addresses everybody is given",
    ),
    (
        "private",
        "SHARE",
        WORLD,
        "Share of peers that nobody can dial",
    ),
    (
        "real-keys",
        "BOOL",
        WORLD,
        "Sign with real Ed25519 keys, up to 10000 peers",
    ),
    ("lookups", "N", LOAD, "Messages from peers to peers"),
    (
        "pairs",
        "PAIRS",
        LOAD,
        "Whom they go to: uniform, any peer; local, one of the nearest",
    ),
    ("broadcasts", "N", LOAD, "Messages to everyone"),
    ("multicasts", "N", LOAD, "Messages to eight peers each"),
    ("keys", "N", LOAD, "Questions to the directory"),
    (
        "records",
        "N",
        LOAD,
        "Records that are put in the first tenth of the time",
    ),
    ("reads", "N", LOAD, "Reads of records in the rest of it"),
    (
        "payload",
        "BYTES",
        LOAD,
        "Payload of each message, 16 to 65536",
    ),
    (
        "loss",
        "SHARE",
        TROUBLE,
        "Share of packets lost on the way, felt as delay",
    ),
    (
        "churn",
        "CHURN",
        TROUBLE,
        "How peers come and go: none, exponential:MEAN_S, weibull:SHAPE:MEDIAN_S, or a trace",
    ),
    (
        "crash",
        "SHARE@T",
        TROUBLE,
        "A share of the peers vanishes at T seconds",
    ),
    (
        "partition",
        "SHARE@T+LENGTH",
        TROUBLE,
        "A share of the peers is cut off for LENGTH seconds",
    ),
    (
        "one-way",
        "SHARE",
        TROUBLE,
        "Share of pairs that can never connect, as the way is open in one direction only",
    ),
    (
        "without",
        "RULE",
        TROUBLE,
        "A rule of healing that all go without: takeover, merge, suspicion, patience, memory, repair",
    ),
    (
        "canary",
        "CANARY",
        TROUBLE,
        "A fault in the laboratory itself: such a run must fail",
    ),
];

/// The setting that a flag stands for.
fn stands_for(flag: &str) -> &'static Setting {
    setting(&flag.replace('-', "_")).expect("each flag stands for a setting")
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        augment(command, FLAGS.iter())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(given(matches, FLAGS.iter()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

impl Args for Shape {
    fn augment_args(command: Command) -> Command {
        augment(command, shaping())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Shape {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(given(matches, shaping())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.0.extend(Self::from_arg_matches(matches)?.0.0);
        Ok(())
    }
}

/// The flags that say what tables are like, and whose.
fn shaping() -> impl Iterator<Item = &'static Flag> {
    let others = ["topology", "peers", "seed", "threads", "real-keys"];
    let is_one = move |(name, _, heading, _): &&Flag| *heading == SHAPE || others.contains(name);
    FLAGS.iter().filter(is_one)
}

fn augment(command: Command, flags: impl Iterator<Item = &'static Flag>) -> Command {
    let usual = Scenario::default();
    let args = flags.map(|(name, value, heading, help)| {
        let setting = stands_for(name);
        let default = setting
            .get(&usual)
            .map_or_else(String::new, |text| format!(" [default: {text}]"));
        let arg = Arg::new(*name)
            .long(*name)
            .value_name(*value)
            .help_heading(*heading)
            .help(format!("{help}{default}"))
            .hide(*name == "canary");
        if setting.form == Form::Flag {
            arg.num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
        } else {
            arg
        }
    });
    command.args(args)
}

fn given(matches: &ArgMatches, flags: impl Iterator<Item = &'static Flag>) -> Given {
    let given = flags.filter_map(|(name, ..)| {
        let text = matches.get_one::<String>(name)?;
        Some((stands_for(name), text.clone()))
    });
    Given(given.collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ringweave_sim::SETTINGS;

    use super::*;

    #[test]
    fn every_setting_has_a_flag() {
        let flags: BTreeSet<_> = FLAGS
            .iter()
            .map(|(name, ..)| stands_for(name).name)
            .collect();
        let settings: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(flags, settings);
        assert_eq!(flags.len(), FLAGS.len());
    }
}
