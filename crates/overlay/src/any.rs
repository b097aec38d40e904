//! All topologies as one: what a host runs that learns only at run time which topology it is.
//!
//! Each type here is a choice of the eight, and each call goes to the one at hand. A machine and its
//! configuration are of one topology, as both come from one [`Config`]; what another peer says may be of
//! any, and of another one it is a counted fault.

use ringweave_ids::{Guid, Key, Peer, PeerId};
use serde::{Deserialize, Serialize};

use crate::{
    Cx, Hop, Input, Neighbour, Output, Overlay, Reach, Target, Topology, View, Wish,
    chord::{self, Chord},
    kademlia::{self, Kademlia},
    pastry::{self, Pastry},
    polyring::{self, Polyring},
    star::{self, Star},
    superpeer::{self, Superpeer},
    tapestry::{self, Tapestry},
    unstructured::{self, Unstructured},
};

/// A topology that is one of the choices.
trait Choice: Overlay<Address = Guid> {
    fn of_message(message: Self::Message) -> Message;
    fn own_message(message: Message) -> Option<Self::Message>;
    fn of_timer(timer: Self::Timer) -> Timer;
    fn own_timer(timer: Timer) -> Option<Self::Timer>;
    fn of_span(span: Self::Span) -> Span;
    fn own_span(span: &Span) -> Option<&Self::Span>;
}

macro_rules! choices {
    ($($name:ident in $module:ident),*) => {
        /// A machine of any topology.
        #[derive(Clone, Debug)]
        pub enum Any {
            $(#[doc = concat!("One of [`", stringify!($module), "`].")] $name(Box<$name>),)*
        }

        /// What all peers of a network agree on: its topology, and the shape that it has in it.
        #[derive(Clone, Debug)]
        pub enum Config {
            $(#[doc = concat!("One of [`", stringify!($module), "`].")] $name($module::Config),)*
        }

        /// What peers tell each other, in any topology.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub enum Message {
            $(#[doc = concat!("One of [`", stringify!($module), "`].")] $name(<$name as Overlay>::Message),)*
        }

        /// What a timer is for, in any topology.
        #[derive(Clone, Copy, Debug)]
        pub enum Timer {
            $(#[doc = concat!("One of [`", stringify!($module), "`].")] $name(<$name as Overlay>::Timer),)*
        }

        /// What a broadcast still has to cover, in any topology.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Span {
            $(#[doc = concat!("One of [`", stringify!($module), "`].")] $name(<$name as Overlay>::Span),)*
        }

        impl From<Topology> for Config {
            /// The shape that networks of this topology usually have.
            fn from(topology: Topology) -> Self {
                match topology {
                    $(Topology::$name => Self::$name($module::Config::default()),)*
                }
            }
        }

        impl crate::Message for Message {
            fn visit(&mut self, visit: &mut dyn FnMut(&mut Peer)) {
                match self {
                    $(Self::$name(message) => message.visit(visit),)*
                }
            }
        }

        $(impl Choice for $name {
            fn of_message(message: Self::Message) -> Message {
                Message::$name(message)
            }

            fn own_message(message: Message) -> Option<Self::Message> {
                match message {
                    Message::$name(message) => Some(message),
                    _ => None,
                }
            }

            fn of_timer(timer: Self::Timer) -> Timer {
                Timer::$name(timer)
            }

            fn own_timer(timer: Timer) -> Option<Self::Timer> {
                match timer {
                    Timer::$name(timer) => Some(timer),
                    _ => None,
                }
            }

            fn of_span(span: Self::Span) -> Span {
                Span::$name(span)
            }

            fn own_span(span: &Span) -> Option<&Self::Span> {
                match span {
                    Span::$name(span) => Some(span),
                    _ => None,
                }
            }
        })*

        /// Does something with the machine at hand.
        macro_rules! each {
            ($any:expr, $machine:ident => $work:expr) => {
                match $any {
                    $(Any::$name($machine) => $work,)*
                }
            };
        }

        /// Does something with the machine at hand and the view that it has of its host.
        macro_rules! each_in {
            ($any:expr, $outer:expr, ($machine:ident, $view:ident) => $work:expr) => {
                match ($any, $outer.config) {
                    $((Any::$name($machine), Config::$name(config)) => {
                        let $view = View {
                            config,
                            me: $outer.me,
                            profile: $outer.profile,
                            host: $outer.host,
                        };
                        $work
                    })*
                    _ => unreachable!("a machine and its configuration are of one topology"),
                }
            };
        }

        impl Any {
            fn of(view: &View<'_, Self>) -> Self {
                match view.config {
                    $(Config::$name(config) => {
                        let view = View {
                            config,
                            me: view.me,
                            profile: view.profile,
                            host: view.host,
                        };
                        Self::$name(Box::new($name::new(&view)))
                    })*
                }
            }
        }
    };
}

choices!(
    Polyring in polyring,
    Chord in chord,
    Kademlia in kademlia,
    Pastry in pastry,
    Tapestry in tapestry,
    Unstructured in unstructured,
    Star in star,
    Superpeer in superpeer
);

impl Overlay for Any {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Address = Guid;
    type Span = Span;

    fn new(view: &View<'_, Self>) -> Self {
        Self::of(view)
    }

    fn is_structured(&self) -> bool {
        each!(self, machine => machine.is_structured())
    }

    fn handle(&mut self, cx: &mut Cx<'_, Self>, input: Input<Self>) {
        each_in!(self, cx.view, (machine, view) => match own_input(input) {
            Some(input) => work(&mut **machine, view, cx, |machine, cx| machine.handle(cx, input)),
            None => cx.fault("a message of another topology"),
        });
    }

    fn wish(&mut self, cx: &mut Cx<'_, Self>, wish: Wish) {
        each_in!(self, cx.view, (machine, view) => {
            work(&mut **machine, view, cx, |machine, cx| machine.wish(cx, wish));
        });
    }

    fn address(&self) -> Option<&Guid> {
        each!(self, machine => machine.address())
    }

    fn next_hop(&self, view: &View<'_, Self>, target: &Target<Guid>, flow: u64) -> Hop<Guid> {
        each_in!(self, view, (machine, view) => machine.next_hop(&view, target, flow))
    }

    fn span(&self, reach: Reach) -> Span {
        each!(self, machine => whole(&**machine, reach))
    }

    fn fan_out(&self, span: &Span, flow: u64, copies: &mut Vec<(Peer, Span)>) {
        each!(self, machine => spread(&**machine, span, flow, copies));
    }

    fn announces(&self, span: &Span) -> bool {
        each!(self, machine => announced(&**machine, span))
    }

    fn closest(
        &self,
        view: &View<'_, Self>,
        target: &Target<Guid>,
        n: usize,
        found: &mut Vec<Peer>,
    ) {
        each_in!(self, view, (machine, view) => machine.closest(&view, target, n, found));
    }

    fn replicas(&self, view: &View<'_, Self>, key: &Key, n: usize, found: &mut Vec<Peer>) {
        each_in!(self, view, (machine, view) => machine.replicas(&view, key, n, found));
    }

    fn locate(&self, view: &View<'_, Self>, peer: &PeerId) -> Option<Guid> {
        each_in!(self, view, (machine, view) => machine.locate(&view, peer))
    }

    fn neighbours(&self, found: &mut Vec<Neighbour<Guid>>) {
        each!(self, machine => machine.neighbours(found));
    }

    fn uses(&self, used: &mut Vec<Peer>) {
        each!(self, machine => machine.uses(used));
    }
}

/// The input as a machine of this topology takes it; nothing if it is of another one.
fn own_input<O: Choice>(input: Input<Any>) -> Option<Input<O>> {
    Some(match input {
        Input::Join(contacts) => Input::Join(contacts),
        Input::Received(from, message) => Input::Received(from, O::own_message(message)?),
        Input::Timer(timer) => Input::Timer(O::own_timer(timer)?),
        Input::Up(peer) => Input::Up(peer),
        Input::Down(peer, loss) => Input::Down(peer, loss),
        Input::Leave => Input::Leave,
    })
}

/// Lets a machine work, and passes its outputs on.
fn work<O: Choice>(
    machine: &mut O,
    view: View<'_, O>,
    cx: &mut Cx<'_, Any>,
    work: impl FnOnce(&mut O, &mut Cx<'_, O>),
) {
    let mut out = Vec::new();
    let mut own = Cx {
        view,
        now: cx.now,
        random: &mut *cx.random,
        out: &mut out,
    };
    work(machine, &mut own);
    cx.out.extend(out.into_iter().map(|output| match output {
        Output::Send(peer, message) => Output::Send(peer, O::of_message(message)),
        Output::Open(peer) => Output::Open(peer),
        Output::Close(peer) => Output::Close(peer),
        Output::Timer(span, timer) => Output::Timer(span, O::of_timer(timer)),
        Output::Event(event) => Output::Event(event),
    }));
}

fn whole<O: Choice>(machine: &O, reach: Reach) -> Span {
    O::of_span(Overlay::span(machine, reach))
}

/// The copies of a broadcast; none of one that another topology spreads.
fn spread<O: Choice>(machine: &O, span: &Span, flow: u64, copies: &mut Vec<(Peer, Span)>) {
    let Some(span) = O::own_span(span) else {
        return;
    };
    let mut own = Vec::new();
    machine.fan_out(span, flow, &mut own);
    copies.extend(own.into_iter().map(|(peer, span)| (peer, O::of_span(span))));
}

fn announced<O: Choice>(machine: &O, span: &Span) -> bool {
    O::own_span(span).is_some_and(|span| machine.announces(span))
}
