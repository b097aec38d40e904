//! The cases that are explored: where each starts, and what may go wrong in it.

use std::time::Duration;

use ringweave_ids::Time;
use ringweave_overlay::polyring::{Config, Rule};

use crate::{
    protocol::{ACCUSED, DOUBLED, LOST, MERGED, Protocol, RELABELLED, SEATED, TAKEN_OVER},
    world::{Budget, Setup, World},
};

/// What is explored, and how far.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    peers: usize,
    ring_size: u16,
    cluster: u8,
    is_kept: bool,
    without: Option<Rule>,
    start: Start,
    left: Budget,
    /// What goes wrong goes wrong, or ends, within so many seconds.
    faults: u64,
    /// All orders of events are tried for so many seconds.
    horizon: u64,
    /// Steps at most.
    pub(crate) bound: usize,
    /// What is to be seen somewhere.
    pub(crate) sights: &'static [&'static str],
    /// Whether it is explored among other tests.
    pub(crate) is_small: bool,
    /// Whether something wrong is expected: it ends there.
    pub(crate) is_wrong: bool,
}

/// Where an exploration starts.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// Peer 0 founded the network; the others are not there yet.
    Founded,
    /// All joined, one after the other, and came to rest.
    Grown,
    /// All joined; those of the mask were cut off for so many seconds, and can connect again.
    Apart(u32, u64),
    /// So many peers are one network, the others another; the last has heard of peer 0.
    Foreign(usize),
}

/// Nothing goes wrong.
const NONE: Budget = Budget {
    breaks: 0,
    cuts: 0,
    splits: 0,
    crashes: 0,
    entries: 0,
    delays: 0,
};

/// Anything goes wrong, now and then.
const ANY: Budget = Budget {
    breaks: 3,
    cuts: 2,
    splits: 1,
    crashes: 2,
    entries: 5,
    delays: 5,
};

const CASE: Case = Case {
    name: "",
    peers: 3,
    ring_size: 2,
    cluster: 1,
    is_kept: false,
    without: None,
    start: Start::Grown,
    left: NONE,
    faults: 3,
    horizon: 20,
    bound: 20_000_000,
    sights: &[],
    is_small: false,
    is_wrong: false,
};

/// Three peers: exhausted.
pub(crate) const THREE: &[Case] = &[
    Case {
        name: "enter-small",
        start: Start::Founded,
        left: Budget { entries: 2, ..NONE },
        faults: 2,
        horizon: 10,
        is_small: true,
        ..CASE
    },
    Case {
        name: "enter",
        start: Start::Founded,
        left: Budget {
            entries: 2,
            breaks: 1,
            ..NONE
        },
        ..CASE
    },
    Case {
        name: "enter-wide",
        ring_size: 8,
        start: Start::Founded,
        left: Budget {
            entries: 2,
            breaks: 1,
            ..NONE
        },
        ..CASE
    },
    Case {
        name: "enter-slowly",
        start: Start::Founded,
        left: Budget {
            entries: 2,
            delays: 2,
            ..NONE
        },
        ..CASE
    },
    Case {
        name: "break-small",
        left: Budget { breaks: 1, ..NONE },
        faults: 20,
        is_small: true,
        ..CASE
    },
    Case {
        name: "break-twice",
        left: Budget { breaks: 2, ..NONE },
        faults: 20,
        ..CASE
    },
    Case {
        name: "break-wide",
        ring_size: 8,
        left: Budget { breaks: 2, ..NONE },
        ..CASE
    },
    Case {
        name: "crash-small",
        left: Budget { crashes: 1, ..NONE },
        faults: 20,
        horizon: 40,
        sights: &[TAKEN_OVER],
        is_small: true,
        ..CASE
    },
    Case {
        name: "return-small",
        left: Budget {
            crashes: 1,
            entries: 1,
            ..NONE
        },
        faults: 2,
        horizon: 10,
        is_small: true,
        ..CASE
    },
    Case {
        name: "return",
        left: Budget {
            crashes: 1,
            entries: 1,
            ..NONE
        },
        faults: 40,
        horizon: 60,
        sights: &[TAKEN_OVER, ACCUSED],
        ..CASE
    },
    Case {
        name: "return-wide",
        ring_size: 8,
        left: Budget {
            crashes: 1,
            entries: 1,
            ..NONE
        },
        faults: 20,
        horizon: 40,
        sights: &[ACCUSED],
        ..CASE
    },
    Case {
        name: "crash-and-break",
        left: Budget {
            crashes: 1,
            breaks: 2,
            ..NONE
        },
        sights: &[TAKEN_OVER],
        ..CASE
    },
    Case {
        name: "cut-small",
        left: Budget { cuts: 1, ..NONE },
        faults: 2,
        horizon: 10,
        is_small: true,
        ..CASE
    },
    Case {
        name: "cut",
        left: Budget {
            cuts: 1,
            breaks: 1,
            ..NONE
        },
        horizon: 30,
        sights: &[ACCUSED],
        ..CASE
    },
    Case {
        name: "split",
        left: Budget { splits: 1, ..NONE },
        faults: 3,
        horizon: 10,
        ..CASE
    },
    Case {
        name: "apart-0-small",
        start: Start::Apart(0b001, 200),
        is_small: true,
        sights: &[MERGED],
        ..CASE
    },
    Case {
        name: "apart-0",
        start: Start::Apart(0b001, 40),
        sights: &[MERGED],
        ..CASE
    },
    Case {
        name: "apart-1",
        start: Start::Apart(0b010, 40),
        sights: &[MERGED],
        ..CASE
    },
    Case {
        name: "apart-2",
        start: Start::Apart(0b100, 40),
        left: Budget { breaks: 1, ..NONE },
        ..CASE
    },
    Case {
        name: "apart-0-long",
        start: Start::Apart(0b001, 200),
        left: Budget { breaks: 1, ..NONE },
        ..CASE
    },
    Case {
        name: "apart-1-long",
        start: Start::Apart(0b010, 200),
        left: Budget { breaks: 1, ..NONE },
        ..CASE
    },
    Case {
        name: "foreign-1",
        start: Start::Foreign(1),
        sights: &[RELABELLED, MERGED],
        is_small: true,
        ..CASE
    },
    Case {
        name: "foreign-2",
        start: Start::Foreign(2),
        left: Budget { delays: 1, ..NONE },
        sights: &[RELABELLED, MERGED],
        ..CASE
    },
    // A stranger whose connection breaks before it answers is greeted again.
    Case {
        name: "foreign-break",
        start: Start::Foreign(2),
        left: Budget { breaks: 1, ..NONE },
        is_small: true,
        ..CASE
    },
    // One taken for dead while an application holds the connection to it.
    Case {
        name: "kept",
        is_kept: true,
        start: Start::Founded,
        left: Budget {
            entries: 2,
            breaks: 2,
            delays: 1,
            ..NONE
        },
        faults: 2,
        horizon: 4,
        ..CASE
    },
];

/// Five peers: as far as the bounds reach.
pub(crate) const FIVE: &[Case] = &[
    Case {
        name: "five-return-small",
        peers: 5,
        left: Budget {
            crashes: 1,
            entries: 1,
            ..NONE
        },
        bound: 20_000,
        is_small: true,
        ..CASE
    },
    Case {
        name: "five-return",
        peers: 5,
        left: Budget {
            crashes: 1,
            entries: 1,
            ..NONE
        },
        bound: 500_000,
        ..CASE
    },
    Case {
        name: "five-crash",
        peers: 5,
        cluster: 3,
        left: Budget { crashes: 1, ..NONE },
        faults: 20,
        horizon: 40,
        sights: &[SEATED],
        ..CASE
    },
    Case {
        name: "five-enter",
        peers: 5,
        cluster: 3,
        start: Start::Founded,
        left: Budget { entries: 4, ..NONE },
        bound: 500_000,
        ..CASE
    },
    Case {
        name: "five-apart",
        peers: 5,
        cluster: 3,
        start: Start::Apart(0b00011, 60),
        left: Budget { breaks: 1, ..NONE },
        bound: 500_000,
        ..CASE
    },
    Case {
        name: "five-foreign",
        peers: 5,
        start: Start::Foreign(2),
        bound: 500_000,
        ..CASE
    },
];

/// Too much for every order: for random walks alone.
pub(crate) const ANYTHING: &[Case] = &[
    Case {
        name: "anything-three",
        start: Start::Founded,
        left: ANY,
        faults: 30,
        horizon: 60,
        is_small: true,
        ..CASE
    },
    Case {
        name: "anything-five",
        peers: 5,
        start: Start::Founded,
        left: ANY,
        faults: 30,
        horizon: 60,
        is_small: true,
        ..CASE
    },
    Case {
        name: "anything-clusters",
        peers: 5,
        cluster: 3,
        left: ANY,
        faults: 30,
        horizon: 60,
        is_small: true,
        ..CASE
    },
    Case {
        name: "anything-apart",
        peers: 5,
        cluster: 2,
        start: Start::Apart(0b00011, 60),
        left: ANY,
        faults: 10,
        horizon: 30,
        is_small: true,
        ..CASE
    },
];

/// Without a rule, what is found.
pub(crate) const CANARIES: &[(Case, &str)] = &[
    (
        Case {
            name: "without-merge-0",
            without: Some(Rule::Merge),
            start: Start::Apart(0b001, 40),
            is_wrong: true,
            ..CASE
        },
        DOUBLED,
    ),
    (
        Case {
            name: "without-merge-1",
            without: Some(Rule::Merge),
            start: Start::Apart(0b010, 40),
            is_wrong: true,
            ..CASE
        },
        LOST,
    ),
    (
        Case {
            name: "without-takeover",
            peers: 5,
            without: Some(Rule::Takeover),
            left: Budget { crashes: 1, ..NONE },
            is_wrong: true,
            ..CASE
        },
        LOST,
    ),
    (
        Case {
            name: "without-repair-enter",
            without: Some(Rule::Repair),
            ring_size: 8,
            start: Start::Founded,
            left: Budget {
                entries: 2,
                breaks: 1,
                ..NONE
            },
            is_wrong: true,
            ..CASE
        },
        LOST,
    ),
];

impl Case {
    pub(crate) fn protocol(&self) -> Protocol {
        let setup = Setup {
            config: Config {
                ring_size: self.ring_size,
                cluster: self.cluster,
                without: self.without,
                ..Config::default()
            },
            count: self.peers,
            is_kept: self.is_kept,
            seed: 1,
        };
        let mut start = self.start.world(&setup);
        start.left = self.left;
        let seconds = Duration::from_secs;
        Protocol::new(setup, start, seconds(self.faults), seconds(self.horizon))
    }
}

impl Start {
    fn world(self, setup: &Setup) -> World {
        let mut world = World::new(setup);
        let first = match self {
            Self::Founded => 1,
            Self::Grown | Self::Apart(..) => setup.count,
            Self::Foreign(first) => first,
        };
        for peer in 0..first {
            let contacts: Vec<usize> = (0..peer).collect();
            world.enter(setup, peer, &contacts);
            rest(&mut world, setup, 10);
        }
        if let Self::Foreign(first) = self {
            for peer in first..setup.count {
                let contacts: Vec<usize> = (first..peer).collect();
                world.enter(setup, peer, &contacts);
                rest(&mut world, setup, 10);
            }
        }
        rest(&mut world, setup, 100);
        match self {
            Self::Founded | Self::Grown => {}
            Self::Apart(mask, seconds) => {
                world.split(setup, mask);
                rest(&mut world, setup, seconds);
                world.mend();
            }
            Self::Foreign(_) => world.greet(setup, setup.count - 1, 0),
        }
        world
    }
}

/// So many seconds pass in which nothing goes wrong.
fn rest(world: &mut World, setup: &Setup, seconds: u64) {
    let end: Time = world.now + Duration::from_secs(seconds);
    assert!(world.run(setup, end), "it comes to rest");
}
