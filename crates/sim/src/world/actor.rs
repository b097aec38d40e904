//! One simulated peer: the real node, its connections, and what carries its outputs out.

use std::{mem, sync::Arc};

use ringweave_ids::{Peer, Random, Time};
use ringweave_node::{
    Cast, Command, Counters, Event as Told, Frame, Input, Lane, Message, Node, Output, Port,
    Settings, Ticket,
};
use ringweave_overlay::{Loss, Profile};

use super::{
    Common,
    event::{ANY, Deed, Event, Parcel, What},
    lab::Lab,
    links::{DIAL, Hold, IDLE, Links, NOT_NOW, SILENCE, State, micros},
    load::{self, Heard, Kind},
    mix,
    shard::Sink,
};
use crate::Canary;

/// A peer of the world.
pub(crate) struct Actor<O: Lab> {
    me: u32,
    /// Nothing while it is down.
    node: Option<Box<Node<O>>>,
    random: Random,
    links: Links<O>,
    /// Its doings so far: with them its events are ordered.
    number: u32,
    /// Which life it is in; 0 before the first.
    life: u16,
    /// When this life began.
    since: u64,
    /// Which broadcasts this life has, its own included.
    heard: Heard,
    /// When its dials and idle connections are looked at; the largest number for never.
    tend: u64,
    /// It does nothing from then until then.
    frozen: (u64, u64),
    /// When its link to the network is free again, for control and for messages, and from it.
    uplink: [u64; 2],
    downlink: u64,
}

impl<O: Lab> Actor<O> {
    pub(crate) fn new(me: u32) -> Self {
        Self {
            me,
            node: None,
            random: Random::new(0),
            links: Links::default(),
            number: 0,
            life: 0,
            since: 0,
            heard: Heard::default(),
            tend: u64::MAX,
            frozen: (0, 0),
            uplink: [0; 2],
            downlink: 0,
        }
    }

    /// The node, while it is up.
    pub(crate) fn node(&self) -> Option<&Node<O>> {
        self.node.as_deref()
    }

    /// Where the peer sits, if it is up and has a place.
    pub(crate) fn address(&self) -> Option<&O::Address> {
        self.node.as_deref().and_then(Node::address)
    }

    pub(crate) fn life(&self) -> u16 {
        self.life
    }

    /// Until when it does nothing; a moment in the past if it does.
    pub(crate) fn frozen_until(&self) -> u64 {
        self.frozen.1
    }

    /// Whether the broadcast came to this life, or is its own.
    pub(crate) fn has_heard(&self, broadcast: u64) -> bool {
        self.heard.has(broadcast)
    }

    /// Puts a peer with ready tables into the world, its connections standing.
    pub(crate) fn settle_in(&mut self, common: &Common<O>, overlay: O, sink: &mut Sink<'_, O>) {
        let desk = common.desk(self.me);
        let mut table = Vec::new();
        overlay.neighbours(&mut table);
        self.begin(common, sink.now);
        let node = Node::built(self.settings(common, sink.now), &desk, overlay);
        self.node = Some(Box::new(node));
        for neighbour in table {
            self.links.establish(neighbour.peer.0, 1, sink.now);
            if let Some(link) = self.links.get(neighbour.peer.0) {
                link.hold = Hold::Held;
            }
        }
        self.input(common, sink, Input::Join(Vec::new()));
    }

    /// A connection from a peer stands from the start.
    pub(crate) fn meet_first(&mut self, peer: u32, now: u64) {
        if self.links.establish(peer, 1, now)
            && let Some(link) = self.links.get(peer)
        {
            link.hold = Hold::Unheard;
        }
    }

    /// Meets one event.
    pub(crate) fn meet(&mut self, common: &Common<O>, event: Event<O>, sink: &mut Sink<'_, O>) {
        sink.now = event.at;
        if let What::Deed(deed) = event.what {
            return self.suffer(common, *deed, sink);
        }
        if self.node.is_none() {
            return;
        }
        if event.life != ANY && event.life != self.life {
            // Another life of this peer held that connection.
            if matches!(event.what, What::Frame(_)) {
                self.post(common, sink, event.from, What::Bye);
            }
            return;
        }
        if event.at < self.frozen.1 {
            return self.defer(event, sink);
        }
        let from = event.from;
        match event.what {
            What::Frame(parcel) => self.on_frame(common, sink, from, parcel),
            What::Passed(from, parcel) => {
                self.input(common, sink, Input::Received(Peer(from), parcel.frame));
            }
            What::Timer(timer) => self.input(common, sink, Input::Timer(timer)),
            What::Knock(life) => {
                let is_new = self.links.establish(from, life, sink.now);
                self.post(common, sink, from, What::Welcome(self.life));
                if is_new {
                    self.go_up(common, sink, from);
                }
            }
            What::Welcome(life) => {
                if self.links.establish(from, life, sink.now) {
                    self.go_up(common, sink, from);
                }
            }
            What::Bye => {
                let is_up = self
                    .links
                    .get(from)
                    .is_some_and(|link| link.state == State::Up);
                if is_up {
                    self.lose(common, sink, from, Loss::Closed);
                }
            }
            What::Idle => {
                let link = self.links.get(from);
                // Held or used here, it stays; the other side asks again later.
                if link.is_none_or(|link| link.is_idle(sink.now)) {
                    self.post(common, sink, from, What::Bye);
                    self.lose(common, sink, from, Loss::Closed);
                }
            }
            What::Silence(peer, life) => {
                let is_it = self
                    .links
                    .get(peer)
                    .is_some_and(|link| link.state == State::Up && link.life == life);
                // What was made anew since then is another connection.
                if is_it {
                    self.post(common, sink, peer, What::Bye);
                    self.lose(common, sink, peer, Loss::Silent);
                }
            }
            What::Tend => self.tend(common, sink),
            What::Deed(_) => {}
        }
    }

    fn suffer(&mut self, common: &Common<O>, deed: Deed<O>, sink: &mut Sink<'_, O>) {
        match deed {
            Deed::Start(contacts) => self.start(common, contacts, sink),
            Deed::Crash => self.crash(sink),
            Deed::Leave => self.leave(common, sink),
            Deed::Freeze(until) => {
                self.frozen = (sink.now, until);
                if until - sink.now >= SILENCE {
                    self.fall_silent(sink);
                }
                self.later(sink, until, What::Deed(Box::new(Deed::Thaw)));
            }
            Deed::Thaw => self.thaw(common, sink),
            Deed::Cut(number) => self.be_cut(common, number, sink),
            Deed::Flap(chance) => self.flap(common, chance, sink),
            Deed::Hear(contacts) => {
                let contacts = contacts.into_iter().map(Peer).collect();
                self.input(common, sink, Input::Join(contacts));
            }
            Deed::Command(ticket, command) => self.command(common, ticket, command, sink),
            Deed::Whisper(from, frame) => {
                if self.node.is_some() {
                    self.input(common, sink, Input::Received(Peer(from), frame));
                }
            }
        }
    }

    fn begin(&mut self, common: &Common<O>, now: u64) {
        self.life += 1;
        self.since = now;
        self.random = Random::new(common.chance(self.me, self.life));
        self.links = Links::default();
        self.heard = Heard::default();
        (self.tend, self.frozen) = (u64::MAX, (0, 0));
    }

    fn settings(&self, common: &Common<O>, now: u64) -> Settings<O> {
        let profile = Profile {
            label: common.label(self.me),
            // Milliseconds, and larger in each life whatever the clock says.
            incarnation: now / 1_000 + u64::from(self.life),
            is_private: common.weather.is_private(self.me),
            home: None,
        };
        Settings {
            config: Arc::clone(&common.config),
            me: Peer(self.me),
            profile,
            name: None,
        }
    }

    fn start(&mut self, common: &Common<O>, contacts: Vec<u32>, sink: &mut Sink<'_, O>) {
        if self.node.is_some() {
            return;
        }
        self.begin(common, sink.now);
        let node = Node::new(self.settings(common, sink.now), &common.desk(self.me));
        self.node = Some(Box::new(node));
        self.input(
            common,
            sink,
            Input::Join(contacts.into_iter().map(Peer).collect()),
        );
    }

    fn crash(&mut self, sink: &mut Sink<'_, O>) {
        let Some(node) = self.node.take() else { return };
        sink.tally.bury(node.counters());
        self.fall_silent(sink);
        self.links = Links::default();
    }

    fn leave(&mut self, common: &Common<O>, sink: &mut Sink<'_, O>) {
        self.input(common, sink, Input::Leave);
        let Some(node) = self.node.take() else { return };
        sink.tally.bury(node.counters());
        let peers: Vec<_> = self.links.iter().map(|link| link.peer).collect();
        for peer in peers {
            self.post(common, sink, peer, What::Bye);
        }
        self.links = Links::default();
    }

    /// Those it is connected to will miss it.
    fn fall_silent(&mut self, sink: &mut Sink<'_, O>) {
        for link in self.links.iter() {
            self.number += 1;
            // The other side of a dial may take it for up by then.
            let life = if link.state == State::Up {
                link.life
            } else {
                ANY
            };
            sink.push(Event {
                at: sink.now + SILENCE,
                to: link.peer,
                from: self.me,
                number: self.number,
                life,
                what: What::Silence(self.me, self.life),
            });
        }
    }

    fn thaw(&mut self, common: &Common<O>, sink: &mut Sink<'_, O>) {
        let (since, until) = self.frozen;
        if self.node.is_none() || sink.now < until || until - since < SILENCE {
            return;
        }
        // All that stood before has been given up by the others.
        let up = self
            .links
            .iter()
            .filter(|link| link.state == State::Up && link.at <= since);
        for peer in up.map(|link| link.peer).collect::<Vec<_>>() {
            self.lose(common, sink, peer, Loss::Silent);
        }
    }

    /// What comes while it is frozen waits for it, or is lost with its connection.
    fn defer(&mut self, event: Event<O>, sink: &mut Sink<'_, O>) {
        let (since, until) = self.frozen;
        let is_own = matches!(event.what, What::Timer(_) | What::Tend | What::Passed(..));
        if is_own || until - since < SILENCE {
            sink.push(Event { at: until, ..event });
        }
    }

    fn be_cut(&mut self, common: &Common<O>, number: usize, sink: &mut Sink<'_, O>) {
        let cut = &common.weather.cuts[number];
        if self.node.is_none() || cut.until - cut.from < SILENCE {
            return;
        }
        let beyond = self.links.iter().filter(|link| {
            link.state == State::Up && common.weather.parts(cut, self.me, link.peer)
        });
        for (peer, life) in beyond
            .map(|link| (link.peer, link.life))
            .collect::<Vec<_>>()
        {
            self.later(sink, sink.now + SILENCE, What::Silence(peer, life));
        }
    }

    /// Connections break by chance, at both ends; the peer of the smaller number decides.
    fn flap(&mut self, common: &Common<O>, chance: u64, sink: &mut Sink<'_, O>) {
        if sink.now < self.frozen.1 {
            return;
        }
        let (me, now) = (self.me, sink.now);
        let broken = self.links.iter().filter(|link| {
            let is_mine = link.state == State::Up && link.peer > me;
            is_mine && common.weather.breaks(me, link.peer, now, chance)
        });
        for (to, life, last) in broken
            .map(|link| (link.peer, link.life, link.at))
            .collect::<Vec<_>>()
        {
            self.number += 1;
            // What was sent before arrives before.
            let way = common.weather.way(me, to, self.number, 0, now);
            sink.push(Event {
                at: (now + way).max(last),
                to,
                from: me,
                number: self.number,
                life,
                what: What::Silence(me, self.life),
            });
            self.lose(common, sink, to, Loss::Silent);
        }
    }

    fn command(
        &mut self,
        common: &Common<O>,
        ticket: u64,
        command: Command<O::Address>,
        sink: &mut Sink<'_, O>,
    ) {
        if self.node.is_none() || sink.now < self.frozen.1 {
            return;
        }
        if let Command::Broadcast(_, payload) = &command
            && let Some((Kind::Broadcast, index)) = load::read(payload)
        {
            self.heard.mark(index);
        }
        sink.tally.asked.push(ticket);
        self.input(common, sink, Input::Command(Ticket(ticket), command));
    }

    /// Hands an input to the node and carries its outputs out.
    fn input(&mut self, common: &Common<O>, sink: &mut Sink<'_, O>, input: Input<O>) {
        let Some(node) = self.node.as_deref_mut() else {
            return;
        };
        let now = Time::from_micros(sink.now);
        let desk = common.desk(self.me);
        let mut outputs = std::mem::take(&mut sink.outputs);
        node.handle(now, &mut self.random, &desk, input, &mut outputs);
        let (mut messages, mut bytes) = (0, 0);
        let mut is_reshaped = false;
        let mut stood = Vec::new();
        for output in outputs.drain(..) {
            match output {
                Output::Send(peer, lane, frame) => self.send(common, sink, peer.0, lane, frame),
                Output::Open(peer) => {
                    if self.open(common, sink, peer.0) {
                        stood.push(peer);
                    }
                }
                Output::Close(peer) => {
                    if let Some(link) = self.links.get(peer.0) {
                        link.hold = Hold::Free;
                        link.at = link.at.max(sink.now);
                        self.arm(sink, sink.now + IDLE);
                    }
                }
                Output::Timer(span, timer) => {
                    self.later(sink, sink.now + micros(span), What::Timer(timer));
                }
                Output::Event(Told::Message(message)) => {
                    messages += 1;
                    bytes += message.payload.len();
                    self.hear(common, sink, &message);
                }
                Output::Event(event) => {
                    is_reshaped |= matches!(event, Told::Placed(_) | Told::Changed);
                    sink.tally.hear(common, &event);
                }
            }
        }
        sink.outputs = outputs;
        for peer in stood {
            self.input(common, sink, Input::Up(peer));
        }
        if is_reshaped && let Some(node) = self.node.as_deref_mut() {
            node.overlay_mut().share(sink.shared);
        }
        if messages > 0 {
            self.input(common, sink, Input::Drained(messages, bytes));
        }
    }

    /// A message comes to the application: a broadcast once in a life.
    fn hear(&mut self, common: &Common<O>, sink: &mut Sink<'_, O>, message: &Message) {
        let Some(broadcast) = sink.tally.deliver(self.me, sink.now, message) else {
            return;
        };
        let is_twice = common.canary == Some(Canary::DoubledDelivery) && self.me == 0;
        for _ in 0..1 + u32::from(is_twice) {
            if !self.heard.mark(broadcast) {
                sink.tally.doubled += 1;
                sink.tally.double = Some((self.me, broadcast));
            }
        }
    }

    fn send(
        &mut self,
        common: &Common<O>,
        sink: &mut Sink<'_, O>,
        to: u32,
        lane: Lane,
        frame: Frame<O>,
    ) {
        if common.canary.is_some() && self.sing(common, sink, to, &frame) {
            return;
        }
        let bytes = common.weigh(&frame, sink, self.number);
        let parcel = Box::new(Parcel { frame, lane, bytes });
        match self.links.get(to).map(|link| link.state) {
            Some(State::Up) => self.transmit(common, sink, to, parcel),
            Some(State::Dialled | State::Resting) => self.wait(sink, to, parcel),
            None => {
                self.dial(common, sink, to);
                self.wait(sink, to, parcel);
            }
        }
    }

    /// What a canary does to a frame; says whether it is gone.
    fn sing(
        &mut self,
        common: &Common<O>,
        sink: &mut Sink<'_, O>,
        to: u32,
        frame: &Frame<O>,
    ) -> bool {
        match (common.canary, frame) {
            (Some(Canary::RepairOff), Frame::Overlay(message)) => {
                let is_lost = O::is_news(message)
                    && mix(u64::from(self.number) ^ mix(u64::from(self.me))).is_multiple_of(16);
                O::is_repair(message) || is_lost
            }
            (Some(Canary::DroppedDelta), Frame::Overlay(message)) => {
                to.is_multiple_of(2) && self.me + 1 == common.keys.count() && O::is_news(message)
            }
            (Some(Canary::DoubledBroadcast), Frame::Envelope(envelope))
                if self.me == 0 && matches!(envelope.cast, Cast::Span(_)) =>
            {
                let parcel = Parcel {
                    frame: frame.clone(),
                    lane: Lane::Message,
                    bytes: 0,
                };
                self.transmit(common, sink, to, Box::new(parcel));
                false
            }
            _ => false,
        }
    }

    fn wait(&mut self, sink: &mut Sink<'_, O>, to: u32, parcel: Box<Parcel<O>>) {
        if !self.links.keep(to, parcel) {
            sink.tally.dropped += 1;
        }
    }

    /// Holds a connection; whether it stood, and the node never heard of it.
    fn open(&mut self, common: &Common<O>, sink: &mut Sink<'_, O>, to: u32) -> bool {
        self.dial(common, sink, to);
        let link = self.links.get(to);
        link.is_some_and(|link| mem::replace(&mut link.hold, Hold::Held) == Hold::Unheard)
    }

    fn dial(&mut self, common: &Common<O>, sink: &mut Sink<'_, O>, to: u32) {
        let Some(state) = self.links.dial(to, sink.now) else {
            return;
        };
        self.arm(
            sink,
            sink.now
                + if state == State::Resting {
                    NOT_NOW
                } else {
                    DIAL
                },
        );
        let is_open = common.weather.cut(self.me, to, sink.now).is_none()
            && common.weather.can_dial(self.me, to);
        if state == State::Resting || !is_open || to >= common.keys.count() {
            return;
        }
        self.number += 1;
        // There, back, and there again: QUIC's handshake with the greeting on its heels.
        let trips = [(self.me, to), (to, self.me), (self.me, to)]
            .into_iter()
            .zip(0..);
        let way = trips.map(|((a, b), trip)| {
            common.weather.way(
                a,
                b,
                self.number.wrapping_mul(4).wrapping_add(trip),
                0,
                sink.now,
            )
        });
        let at = sink.now + way.sum::<u64>();
        let what = What::Knock(self.life);
        sink.push(Event {
            at,
            to,
            from: self.me,
            number: self.number,
            life: ANY,
            what,
        });
    }

    /// Sends a word of the transport itself.
    fn post(&mut self, common: &Common<O>, sink: &mut Sink<'_, O>, to: u32, what: What<O>) {
        if common.weather.cut(self.me, to, sink.now).is_some() {
            return;
        }
        self.number += 1;
        let mut at = sink.now + common.weather.way(self.me, to, self.number, 0, sink.now);
        if let Some(link) = self.links.get(to) {
            at = at.max(link.at);
            link.at = at;
        }
        sink.push(Event {
            at,
            to,
            from: self.me,
            number: self.number,
            life: ANY,
            what,
        });
    }

    fn transmit(
        &mut self,
        common: &Common<O>,
        sink: &mut Sink<'_, O>,
        to: u32,
        parcel: Box<Parcel<O>>,
    ) {
        sink.tally.count_upkeep(common, sink.now, &parcel);
        let mut now = sink.now;
        if let Some((reopens, is_lasting)) = common.weather.cut(self.me, to, now) {
            if is_lasting {
                // The connection breaks before the way is open again, and this frame with it.
                sink.tally.dropped += 1;
                return;
            }
            now = reopens;
        }
        if let Some(rate) = common.upload {
            let lane = parcel.lane as usize;
            // Control goes first; messages wait for both.
            let free = if lane == 0 {
                self.uplink[0]
            } else {
                self.uplink[0].max(self.uplink[1])
            };
            now = now.max(free) + u64::from(parcel.bytes) * 1_000_000 / rate;
            self.uplink[lane] = now;
        }
        self.number += 1;
        let Some(link) = self.links.get(to) else {
            return;
        };
        let way = common
            .weather
            .way(self.me, to, self.number, parcel.bytes, now);
        let at = (now + way).max(link.at);
        link.at = at;
        let life = link.life;
        let what = What::Frame(parcel);
        sink.push(Event {
            at,
            to,
            from: self.me,
            number: self.number,
            life,
            what,
        });
    }

    fn on_frame(
        &mut self,
        common: &Common<O>,
        sink: &mut Sink<'_, O>,
        from: u32,
        parcel: Box<Parcel<O>>,
    ) {
        match self.links.get(from) {
            Some(link) if link.state == State::Up => link.at = link.at.max(sink.now),
            // It came over the connection before this dial, which replaces it at the other end, too.
            Some(link) if link.state == State::Dialled => {
                sink.tally.dropped += 1;
                return;
            }
            _ => return self.post(common, sink, from, What::Bye),
        }
        if let Some(rate) = common.download {
            let free = self.downlink.max(sink.now) + u64::from(parcel.bytes) * 1_000_000 / rate;
            self.downlink = free;
            if free > sink.now {
                return self.later(sink, free, What::Passed(from, parcel));
            }
        }
        self.input(common, sink, Input::Received(Peer(from), parcel.frame));
    }

    /// A connection stands.
    fn go_up(&mut self, common: &Common<O>, sink: &mut Sink<'_, O>, peer: u32) {
        for parcel in self.links.flush(peer) {
            self.transmit(common, sink, peer, parcel);
        }
        self.input(common, sink, Input::Up(Peer(peer)));
        if self
            .links
            .get(peer)
            .is_some_and(|link| link.hold != Hold::Held)
        {
            self.arm(sink, sink.now + IDLE);
        }
    }

    fn lose(&mut self, common: &Common<O>, sink: &mut Sink<'_, O>, peer: u32, loss: Loss) {
        if self.links.remove(peer).is_none() {
            return;
        }
        self.input(common, sink, Input::Down(Peer(peer), loss));
    }

    /// Dials that failed, and connections that nobody used.
    fn tend(&mut self, common: &Common<O>, sink: &mut Sink<'_, O>) {
        if self.tend > sink.now {
            return;
        }
        self.tend = u64::MAX;
        let due: Vec<_> = self
            .links
            .iter()
            .filter(|link| link.due().is_some_and(|due| due <= sink.now))
            .map(|link| (link.peer, link.state))
            .collect();
        for (peer, state) in due {
            if state == State::Up {
                self.post(common, sink, peer, What::Idle);
                if let Some(link) = self.links.get(peer) {
                    link.at = sink.now;
                }
                continue;
            }
            if state == State::Dialled {
                self.links.rest(peer, sink.now);
            }
            self.lose(common, sink, peer, Loss::Unreachable);
        }
        if let Some(due) = self.links.due() {
            self.arm(sink, due.max(sink.now));
        }
    }

    /// Makes sure that dials and idle connections are looked at by then.
    fn arm(&mut self, sink: &mut Sink<'_, O>, due: u64) {
        if due < self.tend {
            self.tend = due;
            self.later(sink, due, What::Tend);
        }
    }

    fn later(&mut self, sink: &mut Sink<'_, O>, at: u64, what: What<O>) {
        self.number += 1;
        let (me, number, life) = (self.me, self.number, self.life);
        sink.push(Event {
            at,
            to: me,
            from: me,
            number,
            life,
            what,
        });
    }

    /// Counters of the node that lives.
    pub(crate) fn counters(&self) -> Counters {
        self.node
            .as_deref()
            .map_or_else(Counters::default, |node| *node.counters())
    }
}

/// Whether a frame is upkeep: the overlay's, the directory's, or the words about broadcasts.
pub(crate) fn is_upkeep<O: Lab>(frame: &Frame<O>) -> bool {
    match frame {
        Frame::Overlay(_) | Frame::Repair(_) => true,
        Frame::Envelope(envelope) => envelope.flow.port == Port::DIRECTORY,
    }
}
