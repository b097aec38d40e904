//! Peers in one room: messages are carried in order of sending, connections never fail unless told.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    time::Duration,
};

use ringweave_ids::{Random, Signature, Time};

use super::*;
use crate::{Event, Host, Loss, Output, Profile};

/// Peer number n has an id made of n.
struct Desk;

impl Host for Desk {
    fn id(&self, peer: Peer) -> PeerId {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&peer.0.to_le_bytes());
        PeerId::from_bytes(bytes)
    }

    fn peer(&self, id: &PeerId) -> Option<Peer> {
        let bytes = id.as_bytes();
        let peer = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Some(Peer(peer))
    }

    fn sign(&self, _: &[u8]) -> Signature {
        Signature([0; 64])
    }

    fn sign_as_network(&self, _: &[u8]) -> Option<Signature> {
        None
    }

    fn verify(&self, _: &PeerId, _: &[u8], _: &Signature) -> bool {
        false
    }

    fn verify_network(&self, _: &[u8], _: &Signature) -> bool {
        false
    }

    fn network(&self) -> &[u8; 32] {
        &[0; 32]
    }
}

struct Room {
    config: Config,
    profile: Profile,
    peers: Vec<Option<Unstructured>>,
    now: Time,
    random: Random,
    /// When, to whom, what.
    events: VecDeque<(Time, u32, Input<Unstructured>)>,
    sought: Vec<(PeerId, bool)>,
}

impl Room {
    fn new(config: Config) -> Self {
        Self {
            config,
            profile: Profile::default(),
            peers: Vec::new(),
            now: Time::from_micros(1),
            random: Random::new(11),
            events: VecDeque::new(),
            sought: Vec::new(),
        }
    }

    /// So many peers, each joined through a random earlier one.
    fn grown(peers: u32, config: Config) -> Self {
        let mut room = Self::new(config);
        for peer in 0..peers {
            let known = (peer > 0).then(|| Peer(room.random.below(peer as usize) as u32));
            let new = room.with(peer, |view| Unstructured::new(&view));
            room.peers.push(Some(new));
            room.give(peer, Input::Join(known.into_iter().collect()));
            room.run(Duration::from_millis(300));
        }
        room.run(Duration::from_secs(60));
        room
    }

    fn with<T>(&self, me: u32, work: impl FnOnce(View<'_, Unstructured>) -> T) -> T {
        work(View {
            config: &self.config,
            me: Peer(me),
            profile: &self.profile,
            host: &Desk,
        })
    }

    fn give(&mut self, to: u32, input: Input<Unstructured>) {
        self.act(to, |peer, cx| peer.handle(cx, input));
    }

    fn act(&mut self, to: u32, work: impl FnOnce(&mut Unstructured, &mut Cx<'_>)) {
        let Some(mut peer) = self.peers[to as usize].take() else {
            return;
        };
        let mut out = Vec::new();
        let mut cx = crate::Cx {
            view: View {
                config: &self.config,
                me: Peer(to),
                profile: &self.profile,
                host: &Desk,
            },
            now: self.now,
            random: &mut self.random,
            out: &mut out,
        };
        work(&mut peer, &mut cx);
        self.peers[to as usize] = Some(peer);
        for output in out {
            match output {
                Output::Send(whom, message) => self.carry(to, whom, message),
                Output::Timer(span, timer) => self.later(span, to, Input::Timer(timer)),
                Output::Event(Event::Sought { id, address }) => {
                    self.sought.push((id, address.is_some()));
                }
                Output::Event(Event::Fault(kind)) => panic!("{kind}"),
                Output::Open(_) | Output::Close(_) | Output::Event(_) => {}
            }
        }
    }

    fn carry(&mut self, from: u32, to: Peer, message: Message) {
        if self.peers[to.0 as usize].is_none() {
            let down = Input::Down(to, Loss::Unreachable);
            return self.later(Duration::from_secs(5), from, down);
        }
        let way = Duration::from_millis(10);
        if !self.peers[from as usize].as_ref().unwrap().links.is_up(to) {
            self.later(way, from, Input::Up(to));
        }
        self.later(way, to.0, Input::Received(Peer(from), message));
    }

    fn later(&mut self, span: Duration, to: u32, input: Input<Unstructured>) {
        let at = self.now + span;
        let place = self.events.partition_point(|(other, ..)| *other <= at);
        self.events.insert(place, (at, to, input));
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.events.front().is_some_and(|(at, ..)| *at <= end)
            && let Some((at, to, input)) = self.events.pop_front()
        {
            self.now = at;
            self.give(to, input);
        }
        self.now = end;
    }

    fn crash(&mut self, peer: u32) {
        self.peers[peer as usize] = None;
        self.events.retain(|(_, to, input)| {
            let is_from = matches!(input, Input::Received(from, _) if from.0 == peer);
            *to != peer && !is_from
        });
        for other in 0..self.peers.len() as u32 {
            let other_is_up = self.peers[other as usize]
                .as_ref()
                .is_some_and(|it| it.links.is_up(Peer(peer)));
            if other_is_up {
                let down = Input::Down(Peer(peer), Loss::Silent);
                self.later(Duration::from_millis(2_500), other, down);
            }
        }
    }

    fn living(&self) -> impl Iterator<Item = (u32, &Unstructured)> {
        let all = (0..).zip(&self.peers);
        all.filter_map(|(peer, it)| Some((peer, it.as_ref()?)))
    }

    /// The paper's invariants: symmetric, bounded, disjoint, connected.
    fn check(&self) {
        for (me, peer) in self.living() {
            assert!(peer.phase == Phase::Placed, "{me} has no place");
            let active: Vec<_> = peer.active.iter().map(|it| it.peer).collect();
            let passive: Vec<_> = peer.passive.iter().collect();
            assert!(active.len() <= usize::from(self.config.active));
            assert!(passive.len() <= usize::from(self.config.passive));
            assert!(!active.contains(&Peer(me)) && !passive.contains(&Peer(me)));
            assert!(active.iter().all(|it| !passive.contains(it)));
            assert!(peer.lazy.iter().all(|it| active.contains(it)));
            for other in active {
                let back = self.peers[other.0 as usize].as_ref();
                assert!(
                    back.is_some_and(|it| it.active.has(Peer(me))),
                    "{me} {other:?}"
                );
            }
        }
        let (first, _) = self.living().next().unwrap();
        let mut reached = vec![first];
        let mut next = 0;
        while let Some(at) = reached.get(next) {
            next += 1;
            let peer = self.peers[*at as usize].as_ref().unwrap();
            let news: Vec<_> = peer.active.iter().map(|it| it.peer.0).collect();
            let news = news.into_iter().filter(|it| !reached.contains(it));
            let news: Vec<_> = news.collect();
            reached.extend(news);
        }
        assert_eq!(reached.len(), self.living().count(), "it is in parts");
    }

    /// A broadcast, as the router has it (Plumtree, section 3.4): who gets a second copy wants none over
    /// that link, and who lacks one that was announced wants copies over that. Gives the copies in vain.
    fn spread(&mut self, origin: u32) -> usize {
        let mut reached = BTreeMap::from([(origin, origin)]);
        let mut open = VecDeque::from([origin]);
        let (mut twice, mut announced, mut copies) = (0, Vec::new(), Vec::new());
        loop {
            while let Some(at) = open.pop_front() {
                let peer = self.peers[at as usize].as_ref().unwrap();
                peer.fan_out(&Push::Eager, 0, &mut copies);
                copies.retain(|(to, _)| to.0 != reached[&at]);
                for (to, push) in copies.drain(..) {
                    if push == Push::Lazy {
                        announced.push((at, to.0));
                    } else if let Entry::Vacant(place) = reached.entry(to.0) {
                        place.insert(at);
                        open.push_back(to.0);
                    } else {
                        twice += 1;
                        self.act(to.0, |peer, cx| peer.wish(cx, Wish::Prune(Peer(at))));
                    }
                }
            }
            let lacking = announced.iter().find(|(_, to)| !reached.contains_key(to));
            let Some((at, to)) = lacking.copied() else {
                break;
            };
            for (me, other) in [(to, at), (at, to)] {
                self.act(me, |peer, cx| peer.wish(cx, Wish::Graft(Peer(other))));
            }
            reached.insert(to, at);
            open.push_back(to);
        }
        assert_eq!(reached.len(), self.living().count(), "who is not reached");
        self.run(Duration::from_millis(100));
        twice
    }

    fn seek(&mut self, from: u32, whom: u32) -> bool {
        let id = Desk.id(Peer(whom));
        self.sought.clear();
        self.act(from, |peer, cx| peer.wish(cx, Wish::Seek(id)));
        self.run(Duration::from_secs(5));
        assert_eq!(self.sought.len(), 1, "a search always ends, once");
        self.sought[0] == (id, true)
    }
}

#[test]
fn a_grown_network_is_symmetric_bounded_and_connected() {
    for peers in [1, 2, 3, 7, 60] {
        let room = Room::grown(peers, Config::default());
        room.check();
        let links: usize = room.living().map(|(_, it)| it.active.iter().count()).sum();
        let most = 5.min(peers as usize - 1) * peers as usize;
        assert!(
            links * 10 >= most * 8,
            "{peers} peers with {links} of {most} links"
        );
    }
}

#[test]
fn most_crash_at_once_and_the_rest_finds_together() {
    let mut room = Room::grown(100, Config::default());
    for peer in 0..80 {
        room.crash(peer * 5 / 4);
    }
    room.run(Duration::from_secs(90));
    room.check();
}

#[test]
fn a_leaver_is_forgotten() {
    let mut room = Room::grown(20, Config::default());
    room.give(7, Input::Leave);
    room.run(Duration::from_secs(1));
    room.peers[7] = None;
    assert!(room.living().all(|(_, it)| !it.active.has(Peer(7))));
    room.check();
}

#[test]
fn walks_and_floods_find_whoever_is_there_and_end_where_nobody_is() {
    for search in [Search::Walk, Search::Flood] {
        let config = Config {
            search,
            passive: 2,
            ..Config::default()
        };
        let mut room = Room::grown(60, config);
        for whom in 1..20 {
            assert!(room.seek(0, whom), "{search:?} for {whom}");
            let address = room.with(0, |view| {
                room.peers[0]
                    .as_ref()
                    .unwrap()
                    .locate(&view, &Desk.id(Peer(whom)))
            });
            assert_eq!(address, Some(Contact::of(&Desk, Peer(whom)).point.into()));
        }
        room.crash(33);
        room.run(Duration::from_secs(30));
        assert!(!room.seek(0, 33), "{search:?} for nobody");
        let count = room.peers[0].as_ref().unwrap().searched();
        assert!(count.begun > count.found && count.sent >= count.begun);
    }
}

#[test]
fn a_pruned_link_is_announced_over_until_it_is_grafted() {
    let mut room = Room::grown(2, Config::default());
    let pushes = |room: &Room| {
        let peers = room.living();
        peers
            .map(|(me, it)| it.push(Peer(1 - me)))
            .collect::<Vec<_>>()
    };
    assert_eq!(pushes(&room), [Push::Eager, Push::Eager]);
    room.act(0, |peer, cx| peer.wish(cx, Wish::Prune(Peer(1))));
    room.run(Duration::from_secs(1));
    assert_eq!(pushes(&room), [Push::Lazy, Push::Lazy]);
    let mut copies = Vec::new();
    let peer = room.peers[0].as_ref().unwrap();
    peer.fan_out(&Push::Eager, 0, &mut copies);
    assert!(copies == [(Peer(1), Push::Lazy)] && peer.announces(&copies[0].1));
    for (me, other) in [(0, 1), (1, 0)] {
        room.act(me, |peer, cx| peer.wish(cx, Wish::Graft(Peer(other))));
    }
    assert_eq!(pushes(&room), [Push::Eager, Push::Eager]);
}

/// Section 4: once each link that brought a second copy is pruned, the eager ones are a spanning tree; when
/// peers die, offers mend it.
#[test]
fn two_broadcasts_leave_a_spanning_tree() {
    for peers in [2, 9, 60] {
        let mut room = Room::grown(peers, Config::default());
        let origin = peers / 2;
        let first = room.spread(origin);
        assert!(peers < 9 || first > 0, "{first} copies in vain");
        room.spread(origin);
        is_tree(&room);
        assert_eq!(room.spread(origin), 0);
        if peers == 60 {
            [4, 9, 21, 40, 41].into_iter().for_each(|it| room.crash(it));
            room.run(Duration::from_secs(60));
            room.spread(origin);
            room.spread(origin);
            is_tree(&room);
            assert_eq!(room.spread(origin), 0);
        }
    }
}

/// Eager links are eager on both ends, and as many as a tree of all has; that they reach all, a broadcast
/// shows.
fn is_tree(room: &Room) {
    let mut links = 0;
    for (me, peer) in room.living() {
        for other in peer.active.iter().map(|it| it.peer) {
            let back = room.peers[other.0 as usize].as_ref().unwrap();
            assert_eq!(peer.push(other), back.push(Peer(me)), "{me} and {other:?}");
            links += usize::from(peer.push(other) == Push::Eager);
        }
    }
    assert_eq!(links, 2 * (room.living().count() - 1));
}
