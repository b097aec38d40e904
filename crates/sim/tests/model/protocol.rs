//! The model itself: which steps a world may take, and what must hold.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use ringweave_ids::{Peer, Time};
use ringweave_overlay::{
    Overlay as _,
    polyring::{Member, PositionId, Proof},
};
use stateright::{Model, Path, Property};

use crate::{
    whole::{Verdict, judge},
    world::{Setup, World},
};

/// How long a network is given to heal once nothing goes wrong any more: longer than the records of
/// the gone are remembered.
const PATIENCE: Duration = Duration::from_secs(180);

// What must hold.
pub(crate) const DOUBLED: &str = "at rest no two clusters hold one GUID";
pub(crate) const LOST: &str = "nobody is lost for ever";
pub(crate) const UNTRUE: &str = "at rest rosters are true and alike";
const RESTLESS: &str = "messages end";
const FORGED: &str = "who is honest forges nothing";

// What happens somewhere.
pub(crate) const TAKEN_OVER: &str = "a position is taken over";
pub(crate) const RELABELLED: &str = "a position has a new coordinate";
pub(crate) const ACCUSED: &str = "a living peer is taken for dead";
pub(crate) const SEATED: &str = "a position has two members";
pub(crate) const MERGED: &str = "one center has all peers that are in any";

/// An exploration.
pub(crate) struct Protocol {
    pub(crate) setup: Setup,
    pub(crate) start: World,
    /// What goes wrong goes wrong before this.
    pub(crate) faults_until: Time,
    /// All orders of events are tried up to this moment.
    pub(crate) horizon: Time,
    /// How worlds at rest end if nothing goes wrong any more.
    pub(crate) verdicts: Mutex<HashMap<u64, Verdict>>,
    /// The first world that ended so: the nearest to the start.
    pub(crate) first: Mutex<HashMap<Verdict, u64>>,
}

/// One step of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The oldest parcel from the first to the second is handed over.
    Deliver(usize, usize),
    /// The next timer runs out.
    Tick,
    /// The connection breaks.
    Break(usize, usize),
    /// The two cannot connect any more.
    Cut(usize, usize),
    /// Those of the mask cannot connect to the others any more.
    Split(u32),
    /// All can connect again.
    Mend,
    /// A peer vanishes.
    Crash(usize),
    /// A peer enters, with everyone as its contact.
    Enter(usize),
}

impl Protocol {
    pub(crate) fn new(setup: Setup, start: World, faults: Duration, horizon: Duration) -> Self {
        Self {
            setup,
            faults_until: start.now + faults,
            horizon: start.now + horizon,
            start,
            verdicts: Mutex::default(),
            first: Mutex::default(),
        }
    }

    /// How a world ends, once all can connect and nothing goes wrong any more.
    pub(crate) fn verdict(&self, world: &World) -> Verdict {
        let mut world = world.clone();
        world.mend();
        world.left = Default::default();
        let end = self.horizon + PATIENCE;
        let mut passed = Vec::new();
        let verdict = loop {
            if !world.settle(&self.setup) {
                break Verdict::Restless;
            }
            let key = world.key();
            if let Some(known) = self.verdicts.lock().expect("no panic").get(&key) {
                break *known;
            }
            passed.push(key);
            if world.next_alarm().is_none_or(|at| at > end) {
                break judge(&world, &self.setup);
            }
            world.tick(&self.setup);
        };
        let mut verdicts = self.verdicts.lock().expect("no panic");
        verdicts.extend(passed.into_iter().map(|key| (key, verdict)));
        verdict
    }

    /// Whether a world at rest is not the first that ends in this way.
    fn never(&self, world: &World, wrong: Verdict) -> bool {
        if !world.is_quiet() || self.verdict(world) != wrong {
            return true;
        }
        let key = world.key();
        let mut first = self.first.lock().expect("no panic");
        *first.entry(wrong).or_insert(key) != key
    }

    /// The way to a world that must not be, step by step, and how it ends.
    pub(crate) fn story(&self, path: Path<World, Step>) -> String {
        let mut story = String::new();
        let mut last = self.start.clone();
        for (world, step) in path.into_vec() {
            if let Some(step) = step {
                let what = match step {
                    Step::Deliver(from, to) => world.next_word(from, to),
                    Step::Tick => world.next_alarm_word(),
                    _ => String::new(),
                };
                story += &format!("  {} {step:?} {what}\n", world.now);
            }
            last = world;
        }
        story += &format!("{last:?}");
        last.mend();
        last.run(&self.setup, self.horizon + PATIENCE);
        story + &format!("in the end {last:?} {:?}", last.forged)
    }

    /// Any group of less than half, and with an even count half of them.
    fn masks(&self) -> impl Iterator<Item = u32> {
        let count = self.setup.count as u32;
        (1..1 << count).filter(move |mask: &u32| {
            let size = mask.count_ones();
            size * 2 < count || (size * 2 == count && mask & 1 == 1)
        })
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![self.start.clone()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let (left, count) = (world.left, self.setup.count);
        steps.extend(world.ways().map(|(from, to)| Step::Deliver(from, to)));
        let is_due = world.next_alarm().is_some_and(|at| at <= self.horizon);
        if is_due && (world.is_quiet() || left.delays > 0) {
            steps.push(Step::Tick);
        }
        if world.now > self.faults_until {
            return;
        }
        if !world.cut.is_empty() {
            steps.push(Step::Mend);
        }
        let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
        for (a, b) in pairs {
            if left.breaks > 0 && world.is_linked(a, b) {
                steps.push(Step::Break(a, b));
            }
            if left.cuts > 0 && !world.cut.has(a, b) && world.is_there(a) && world.is_there(b) {
                steps.push(Step::Cut(a, b));
            }
        }
        if left.splits > 0 && world.cut.is_empty() {
            steps.extend(self.masks().map(Step::Split));
        }
        let placed = |peer: usize| {
            world
                .living()
                .any(|(it, node)| it != peer && node.machine.address().is_some())
        };
        for peer in 0..count {
            // With the last that has a place the network would be gone.
            if left.crashes > 0 && world.is_there(peer) && placed(peer) {
                steps.push(Step::Crash(peer));
            }
            if left.entries > 0 && !world.is_there(peer) {
                steps.push(Step::Enter(peer));
            }
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        let left = &mut world.left;
        match step {
            Step::Deliver(from, to) => world.deliver(&self.setup, from, to),
            Step::Tick => {
                if !last.is_quiet() {
                    left.delays -= 1;
                }
                world.tick(&self.setup);
            }
            Step::Break(a, b) => {
                left.breaks -= 1;
                world.break_link(&self.setup, a, b);
            }
            Step::Cut(a, b) => {
                left.cuts -= 1;
                world.cut(&self.setup, a, b);
            }
            Step::Split(mask) => {
                left.splits -= 1;
                world.split(&self.setup, mask);
            }
            Step::Mend => world.mend(),
            Step::Crash(peer) => {
                left.crashes -= 1;
                world.crash(&self.setup, peer);
            }
            Step::Enter(peer) => {
                left.entries -= 1;
                let others: Vec<_> = (0..self.setup.count).filter(|it| *it != peer).collect();
                world.enter(&self.setup, peer, &others);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(DOUBLED, |model, world| model.never(world, Verdict::Doubled)),
            Property::<Self>::always(LOST, |model, world| model.never(world, Verdict::Lost)),
            Property::<Self>::always(UNTRUE, |model, world| model.never(world, Verdict::Untrue)),
            Property::<Self>::always(RESTLESS, |model, world| {
                model.never(world, Verdict::Restless)
            }),
            Property::<Self>::always(FORGED, |_, world| world.forged.is_none()),
            Property::<Self>::sometimes(TAKEN_OVER, |_, world| {
                has_record(world, |record| matches!(record.proof, Proof::Takeover(_)))
            }),
            Property::<Self>::sometimes(RELABELLED, |_, world| {
                let rings = world.living().flat_map(|(_, node)| node.machine.rings());
                rings
                    .into_iter()
                    .any(|ring| ring.positions().any(|it| it.label().is_some()))
            }),
            Property::<Self>::sometimes(ACCUSED, |_, world| {
                let lives = |peer: Peer| world.is_there(peer.0 as usize);
                has_record(world, |it| it.accusation.is_some() && lives(it.peer))
            }),
            Property::<Self>::sometimes(SEATED, |_, world| {
                let mut rings = world.living().map(|(_, node)| node.machine.rings()[0]);
                rings.any(|ring| {
                    ring.staffed()
                        .any(|it| ring.members_of(it.id()).count() > 1)
                })
            }),
            Property::<Self>::sometimes(MERGED, is_merged),
        ]
    }
}

fn has_record(world: &World, is_it: impl Fn(&Member) -> bool) -> bool {
    let mut rings = world.living().flat_map(|(_, node)| node.machine.rings());
    rings.any(|ring| ring.records().any(|record| is_it(record)))
}

/// Whether all whose ring is the center have it alike, which were of two networks at the start.
fn is_merged(_: &Protocol, world: &World) -> bool {
    let nodes = world.living().map(|(_, node)| node.machine.rings()[0]);
    let centers: Vec<_> = nodes.filter(|ring| ring.id == PositionId::CENTER).collect();
    centers.len() > 1
        && centers
            .iter()
            .all(|ring| ring.living().count() == centers.len())
}
