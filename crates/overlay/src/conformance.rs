//! What a machine must do, whatever its topology, told of all seven beside the polyring, which has
//! its own: handles have no order, and nonsense does nothing.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use ringweave_ids::Peer;

use crate::{
    Event, Message as _, Overlay,
    chord::{self, Chord},
    kademlia::{self, Kademlia},
    pastry::{self, Pastry},
    star::{self, Star},
    superpeer::{self, Superpeer},
    swarm::{Books, Swarm},
    tapestry::{self, Tapestry},
    unstructured::{self, Unstructured},
};

/// Peers of the small networks here.
const PEERS: u32 = 14;

/// The same world, however the hosts number their peers.
fn has_no_order<O: Overlay<Config: Default>>() {
    let told = |books| {
        let mut swarm = Swarm::<O>::transcribed(O::Config::default(), 40, books);
        swarm.crash(3);
        swarm.leave(7);
        swarm.start(&[5, 9]);
        swarm.run(90.0);
        swarm.digest()
    };
    let name = std::any::type_name::<O>();
    assert_eq!(told(Books::Alike), told(Books::Apart), "{name}");
}

#[test]
fn handles_have_no_order() {
    has_no_order::<Chord>();
    has_no_order::<Kademlia>();
    has_no_order::<Pastry>();
    has_no_order::<Tapestry>();
    has_no_order::<Unstructured>();
    has_no_order::<Star>();
    has_no_order::<Superpeer>();
}

/// Who says what to whom: any bytes that are a message of the topology, about anybody.
type Said = (u32, u32, Vec<u8>);

/// A member hears members and strangers; bytes are such that choices and lists too long are frequent
/// in what they decode to.
fn said() -> impl Strategy<Value = Vec<Said>> {
    let byte = prop_oneof![
        3 => 0..2_u8,
        4 => 2..16_u8,
        4 => 16..128_u8,
        1 => any::<u8>(),
    ];
    let bytes = (0..14_u8, prop::collection::vec(byte, 400));
    let bytes = bytes.prop_map(|(first, rest)| [vec![first], rest].concat());
    prop::collection::vec((0..PEERS, 0..2 * PEERS, bytes), 1..100)
}

/// Whom a number in the `nth` message means: often a member, else any of thousands.
const fn anybody(nth: usize, number: u32) -> Peer {
    match number % 4 {
        0 => Peer(number / 4 % PEERS),
        _ => Peer((number % 128 * 31 + nth as u32 * 97) % 4_000),
    }
}

/// What a machine must keep to, whatever it is told.
struct Bounds {
    /// Others that it may name beside those that it is connected to.
    named: usize,
    /// Outputs of one input.
    outputs: usize,
}

/// Seconds after which a network is whole again: what was said of a peer that left is not believed
/// for one minute, and all compare their tables twice in another.
const HEAL_S: f64 = 150.0;

fn does_nothing<O: Overlay<Config: Default>>(
    said: Vec<Said>,
    bounds: &Bounds,
) -> Result<(), TestCaseError> {
    let mut swarm = Swarm::<O>::grown(O::Config::default(), PEERS);
    let mut most = 0;
    for (nth, (to, from, bytes)) in said.into_iter().enumerate() {
        let Ok((mut message, _)) = postcard::take_from_bytes::<O::Message>(&bytes) else {
            continue;
        };
        message.visit(&mut |peer| *peer = anybody(nth, peer.0));
        if to != from {
            swarm.hear(to, from, message);
        }
        most = most.max(swarm.most_named());
    }
    prop_assert!(most <= bounds.named, "{most} named");
    prop_assert!(
        swarm.most_outputs() <= bounds.outputs,
        "{} outputs",
        swarm.most_outputs()
    );
    swarm.strangers_go();
    swarm.run(HEAL_S);
    let count = PEERS as usize;
    for (peer, machine) in swarm.peers() {
        prop_assert!(machine.address().is_some(), "{peer} has no place");
        let mut table = Vec::new();
        machine.neighbours(&mut table);
        let stranger = table.iter().find(|it| it.peer.0 >= PEERS);
        prop_assert!(stranger.is_none(), "{peer} has {stranger:?} in its table");
        let (reached, twice) = swarm.broadcast(peer);
        prop_assert_eq!(
            reached,
            count,
            "a broadcast of {} reaches {}",
            peer,
            reached
        );
        prop_assert!(twice == 0 || !machine.is_structured());
    }
    if swarm.peers().all(|(_, machine)| machine.is_structured()) {
        prop_assert!(swarm.longest_way().is_ok(), "{:?}", swarm.longest_way());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Its list of successors, its fingers, and questions.
    #[test]
    fn nonsense_does_nothing_to_chord(said in said()) {
        does_nothing::<Chord>(said, &Bounds { named: 40, outputs: 64 })?;
    }

    /// Nobody is taken in who has not answered: questions and replacement caches.
    #[test]
    fn nonsense_does_nothing_to_kademlia(said in said()) {
        does_nothing::<Kademlia>(said, &Bounds { named: 40, outputs: 64 })?;
    }

    /// Leaves, one for each slot of the first rows, near ones, and questions.
    #[test]
    fn nonsense_does_nothing_to_pastry(said in said()) {
        does_nothing::<Pastry>(said, &Bounds { named: 80, outputs: 64 })?;
    }

    /// Three for each slot of the first rows, and questions.
    #[test]
    fn nonsense_does_nothing_to_tapestry(said in said()) {
        does_nothing::<Tapestry>(said, &Bounds { named: 120, outputs: 64 })?;
    }

    /// The passive view, those asked to be neighbours, and origins of walkers.
    #[test]
    fn nonsense_does_nothing_to_unstructured(said in said()) {
        does_nothing::<Unstructured>(said, &Bounds { named: 120, outputs: 64 })?;
    }

    /// The line of stand-ins, and contacts.
    #[test]
    fn nonsense_does_nothing_to_star(said in said()) {
        does_nothing::<Star>(said, &Bounds { named: 40, outputs: 64 })?;
    }

    /// What Chord has, superpeers, spares and contacts.
    #[test]
    fn nonsense_does_nothing_to_superpeer(said in said()) {
        does_nothing::<Superpeer>(said, &Bounds { named: 60, outputs: 64 })?;
    }
}

/// A peer that hears a message counts a fault, which nobody does in a network at rest.
fn is_counted<O: Overlay<Config: Default>>(nonsense: impl IntoIterator<Item = O::Message>) {
    for message in nonsense {
        let mut swarm = Swarm::<O>::grown(O::Config::default(), 5);
        let faults = |swarm: &Swarm<O>| swarm.heard(|event| matches!(event, Event::Fault(_)));
        assert_eq!(faults(&swarm), 0);
        let told = format!("{message:?}");
        swarm.hear(1, 0, message);
        assert_eq!(faults(&swarm), 1, "{told}");
    }
}

fn crowd(count: u32) -> Vec<Peer> {
    (0..count).map(Peer).collect()
}

#[test]
fn lists_too_long_and_ways_without_an_end_are_counted() {
    let (target, number, hops, row) = (ringweave_ids::Point::new(7), 9, 255, 0);
    let find = || chord::Message::Find {
        target,
        origin: Peer(2),
        number,
        hops,
    };
    let tell = || chord::Message::Tell {
        predecessor: None,
        successors: crowd(65),
    };
    is_counted::<Chord>([
        find(),
        tell(),
        chord::Message::Found {
            number,
            successors: crowd(65),
        },
        chord::Message::Leave {
            predecessor: None,
            successors: crowd(65),
        },
    ]);
    is_counted::<Chord>(
        [(4, 1), (0, 65)].map(|(nearer, successors)| chord::Message::Stepped {
            number,
            nearer: crowd(nearer),
            successors: crowd(successors),
        }),
    );
    is_counted::<Kademlia>([kademlia::Message::Found {
        number,
        closest: crowd(65),
    }]);
    let part = pastry::Part::Leaves;
    is_counted::<Pastry>([
        pastry::Message::Join {
            newcomer: Peer(2),
            number,
            row,
            hops,
        },
        pastry::Message::Tell {
            number,
            part,
            peers: crowd(129),
        },
        pastry::Message::Leave { leaves: crowd(129) },
    ]);
    is_counted::<Tapestry>([
        tapestry::Message::Join {
            newcomer: Peer(2),
            number,
            row,
            hops,
        },
        tapestry::Message::Tell {
            number,
            peers: crowd(129),
        },
        tapestry::Message::Welcome { peers: crowd(129) },
        tapestry::Message::Leave { peers: crowd(129) },
    ]);
    is_counted::<Unstructured>([
        unstructured::Message::Shuffle {
            origin: Peer(2),
            steps: 3,
            peers: crowd(65),
        },
        unstructured::Message::Shuffled { peers: crowd(65) },
    ]);
    let lead = |stand_ins, others| star::Message::Lead {
        term: 16,
        version: 9,
        stand_ins: crowd(stand_ins),
        others: crowd(others),
    };
    is_counted::<Star>([lead(17, 1), lead(2, 5)]);
    is_counted::<Superpeer>([
        superpeer::Message::Seek {
            origin: Peer(2),
            number,
            hops,
        },
        superpeer::Message::Inner(find()),
        superpeer::Message::Inner(tell()),
    ]);
}
