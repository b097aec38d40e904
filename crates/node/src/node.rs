//! One peer: an overlay, and the router and services above it.

use std::{fmt, ops::AddAssign, sync::Arc};

use ringweave_ids::{Key, Peer, Random, Time};
use ringweave_overlay::{
    Cx, Event as Upkeep, Host, Input as OverlayInput, Neighbour, Output as OverlayOutput, Overlay,
    Profile, View, Wish,
};

use crate::{
    Event, Frame, Input, Lane, Output, Saved,
    router::{Ground, Router},
};

/// What makes a peer.
pub struct Settings<O: Overlay> {
    /// What all peers of the network agree on.
    pub config: Arc<O::Config>,
    /// This peer's handle in its host's book.
    pub me: Peer,
    /// What it says of itself when it joins.
    pub profile: Profile,
    /// The name it gives itself, at most [`MAX_NAME`](crate::MAX_NAME) bytes; a longer one is not
    /// published.
    pub name: Option<String>,
}

/// A peer over any overlay.
pub struct Node<O: Overlay> {
    settings: Settings<O>,
    overlay: O,
    router: Router<O>,
}

/// What a timer of a node hands back: the overlay's, or the router's own.
pub enum Timer<O: Overlay> {
    /// For the overlay.
    Overlay(O::Timer),
    /// For the router.
    Router(Tick),
}

/// A timer of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Acknowledgements that waited for company go out.
    Acks,
    /// Deadlines and retries are looked at.
    Retries,
    /// The directory renews, expires or hands over.
    Directory,
    /// Neighbours came or went: those that came hear which broadcasts are recent.
    Compare,
    /// Broadcasts that are no longer recent are forgotten.
    Forget,
    /// Records are renewed, compared with their other holders, and expire.
    Records,
}

/// Counters since the start of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages of the application that this peer sent; one for each receiver of a multicast.
    pub sent: u64,
    /// Messages delivered to the application here.
    pub delivered: u64,
    /// Copies of the application's messages handed to a neighbour, own ones and retries included.
    pub forwarded: u64,
    /// Those of them that belong to broadcasts.
    pub spread: u64,
    /// Messages that arrived more than once.
    pub duplicates: u64,
    /// Those of them that belong to broadcasts.
    pub spread_twice: u64,
    /// Broadcasts that came because this peer asked for them.
    pub repaired: u64,
    /// Broadcasts delivered after a later one of their sender.
    pub late: u64,
    /// Broadcasts offered to a neighbour, each time one is.
    pub offered: u64,
    /// Broadcasts asked of a neighbour, each time one is.
    pub asked: u64,
    /// Broadcasts that were offered or missed, and came from nobody who was asked.
    pub missed: u64,
    /// Messages dropped: the inbox was full, or too many waited for an earlier one.
    pub dropped: u64,
    /// Nonsense from the network.
    pub faults: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        let Self {
            sent,
            delivered,
            forwarded,
            spread,
            duplicates,
            spread_twice,
            repaired,
            late,
            offered,
            asked,
            missed,
            dropped,
            faults,
        } = other;
        self.sent += sent;
        self.delivered += delivered;
        self.forwarded += forwarded;
        self.spread += spread;
        self.duplicates += duplicates;
        self.spread_twice += spread_twice;
        self.repaired += repaired;
        self.late += late;
        self.offered += offered;
        self.asked += asked;
        self.missed += missed;
        self.dropped += dropped;
        self.faults += faults;
    }
}

impl<O: Overlay> Node<O> {
    /// A peer that has not joined.
    pub fn new(settings: Settings<O>, host: &dyn Host) -> Self {
        let view = View {
            config: &*settings.config,
            me: settings.me,
            profile: &settings.profile,
            host,
        };
        let overlay = O::new(&view);
        Self::built(settings, host, overlay)
    }

    /// A peer over an overlay with ready tables, for simulations that do not begin with joins. If it
    /// has a place, the directory does not know it before its first renewal.
    pub fn built(settings: Settings<O>, host: &dyn Host, overlay: O) -> Self {
        let router = Router::new(
            host.id(settings.me),
            settings.profile.incarnation,
            settings.name.clone(),
            overlay.address().cloned(),
        );
        Self {
            settings,
            overlay,
            router,
        }
    }

    /// Takes one input; what is to be done goes to the end of `out`, in order.
    ///
    /// Total: nonsense from the network is counted and told as [`Event::Fault`], never a panic.
    pub fn handle(
        &mut self,
        now: Time,
        random: &mut Random,
        host: &dyn Host,
        input: Input<O>,
        out: &mut Vec<Output<O>>,
    ) {
        match input {
            Input::Received(peer, Frame::Envelope(envelope)) => {
                self.with(now, random, host, out, |router, ground| {
                    router.on_envelope(ground, peer, envelope);
                });
            }
            Input::Received(peer, Frame::Overlay(message)) => {
                self.tend(
                    now,
                    random,
                    host,
                    OverlayInput::Received(peer, message),
                    out,
                );
            }
            Input::Received(peer, Frame::Repair(repair)) => {
                self.with(now, random, host, out, |router, ground| {
                    router.on_repair(ground, peer, repair);
                });
            }
            Input::Timer(Timer::Overlay(timer)) => {
                self.tend(now, random, host, OverlayInput::Timer(timer), out);
            }
            Input::Timer(Timer::Router(tick)) => {
                self.with(now, random, host, out, |router, ground| {
                    router.on_tick(ground, tick)
                });
            }
            Input::Join(contacts) => {
                self.tend(now, random, host, OverlayInput::Join(contacts), out);
            }
            Input::Up(peer) => {
                self.tend(now, random, host, OverlayInput::Up(peer), out);
                self.with(now, random, host, out, Router::compare_soon);
            }
            Input::Down(peer, loss) => {
                self.tend(now, random, host, OverlayInput::Down(peer, loss), out);
                self.with(now, random, host, out, |router, ground| {
                    router.on_down(ground, peer)
                });
            }
            Input::Command(ticket, command) => {
                self.with(now, random, host, out, |router, ground| {
                    router.on_command(ground, ticket, command);
                });
            }
            Input::Drained(messages, bytes) => {
                self.with(now, random, host, out, |router, ground| {
                    router.on_drained(ground, messages, bytes);
                });
            }
            Input::Restore(saved) => {
                self.with(now, random, host, out, |router, ground| {
                    router.restore_records(ground, saved);
                });
            }
            Input::Rest => {
                if self.router.owes() {
                    self.with(now, random, host, out, Router::flush_acks);
                }
            }
            Input::Leave => {
                self.with(now, random, host, out, Router::on_leave);
                self.tend(now, random, host, OverlayInput::Leave, out);
            }
        }
    }

    /// The overlay below.
    pub fn overlay(&self) -> &O {
        &self.overlay
    }

    /// The same, for a host of many peers to share what several hold alike.
    pub fn overlay_mut(&mut self) -> &mut O {
        &mut self.overlay
    }

    /// What made this peer.
    pub fn settings(&self) -> &Settings<O> {
        &self.settings
    }

    /// Where this peer sits, once it has joined.
    pub fn address(&self) -> Option<&O::Address> {
        self.overlay.address()
    }

    /// Counters since the start.
    pub fn counters(&self) -> &Counters {
        self.router.counters()
    }

    /// Whether the application should wait before it sends more: half of the queue of sends, or of
    /// the bytes kept for them, is in use. Beyond the whole, sends are refused.
    pub fn is_congested(&self) -> bool {
        self.router.is_congested()
    }

    /// Appends the peers of the overlay's table to `found`, in the overlay's order.
    pub fn neighbours(&self, found: &mut Vec<Neighbour<O::Address>>) {
        self.overlay.neighbours(found);
    }

    /// The record that this peer has under a key, for others or of its own.
    pub fn saved(&self, key: &Key, now: Time) -> Option<Saved> {
        self.router.saved(key, now)
    }

    /// Every record that this peer has, by key.
    pub fn all_saved(&self, now: Time) -> Vec<Saved> {
        self.router.all_saved(now)
    }

    /// Appends every handle that this peer may still name, in no order, some more than once: what the
    /// overlay uses ([`Overlay::uses`]), and what the router and the directory keep.
    pub fn uses(&self, used: &mut Vec<Peer>) {
        self.overlay.uses(used);
        self.router.uses(used);
    }

    /// Lets the router work on the overlay as it is.
    fn with(
        &mut self,
        now: Time,
        random: &mut Random,
        host: &dyn Host,
        out: &mut Vec<Output<O>>,
        work: impl FnOnce(&mut Router<O>, &mut Ground<'_, O>),
    ) {
        let view = View {
            config: &*self.settings.config,
            me: self.settings.me,
            profile: &self.settings.profile,
            host,
        };
        let mut ground = Ground {
            overlay: &self.overlay,
            view,
            now,
            random,
            out,
        };
        work(&mut self.router, &mut ground);
        self.router.settle(&mut ground);
        for wish in self.router.take_wishes() {
            self.grant(now, random, host, wish, out);
        }
    }

    /// Hands a wish of the router to the overlay.
    fn grant(
        &mut self,
        now: Time,
        random: &mut Random,
        host: &dyn Host,
        wish: Wish,
        out: &mut Vec<Output<O>>,
    ) {
        self.upkeep(now, random, host, out, |overlay, cx| overlay.wish(cx, wish));
    }

    /// Lets the overlay tend its table, and passes on what comes of it.
    fn tend(
        &mut self,
        now: Time,
        random: &mut Random,
        host: &dyn Host,
        input: OverlayInput<O>,
        out: &mut Vec<Output<O>>,
    ) {
        self.upkeep(now, random, host, out, |overlay, cx| {
            overlay.handle(cx, input)
        });
    }

    /// Lets the overlay work, and passes on what comes of it.
    fn upkeep(
        &mut self,
        now: Time,
        random: &mut Random,
        host: &dyn Host,
        out: &mut Vec<Output<O>>,
        work: impl FnOnce(&mut O, &mut Cx<'_, O>),
    ) {
        // Not kept: most inputs have no outputs, and a kept buffer would be a peer's largest part.
        let mut upkeep: Vec<OverlayOutput<O>> = Vec::new();
        let view = View {
            config: &*self.settings.config,
            me: self.settings.me,
            profile: &self.settings.profile,
            host,
        };
        let mut cx = Cx {
            view,
            now,
            random,
            out: &mut upkeep,
        };
        work(&mut self.overlay, &mut cx);
        for output in upkeep {
            match output {
                OverlayOutput::Send(peer, message) => {
                    out.push(Output::Send(peer, Lane::Control, Frame::Overlay(message)));
                }
                OverlayOutput::Open(peer) => out.push(Output::Open(peer)),
                OverlayOutput::Close(peer) => out.push(Output::Close(peer)),
                OverlayOutput::Timer(span, timer) => {
                    out.push(Output::Timer(span, Timer::Overlay(timer)));
                }
                OverlayOutput::Event(event) => {
                    self.with(now, random, host, out, |router, ground| {
                        router.on_upkeep(ground, &event);
                    });
                    out.extend(told(event).map(Output::Event));
                }
            }
        }
    }
}

/// An overlay's event as the host hears it; nothing where it is for the router alone.
fn told<A>(event: Upkeep<A>) -> Option<Event<A>> {
    Some(match event {
        Upkeep::Placed(address) => Event::Placed(address),
        Upkeep::Displaced => Event::Displaced,
        Upkeep::Changed => Event::Changed,
        Upkeep::Refused(why) => Event::Refused(why),
        Upkeep::Left => Event::Left,
        Upkeep::Fault(kind) => Event::Fault(kind),
        Upkeep::Sought { .. } => return None,
    })
}

impl<O: Overlay> Clone for Timer<O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O: Overlay> Copy for Timer<O> {}

impl<O: Overlay> fmt::Debug for Timer<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlay(timer) => f.debug_tuple("Overlay").field(timer).finish(),
            Self::Router(tick) => f.debug_tuple("Router").field(tick).finish(),
        }
    }
}
