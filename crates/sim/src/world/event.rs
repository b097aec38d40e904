//! What happens to a peer, and when: the events of a world and their one order.

use std::cmp::Reverse;

use ringweave_node::{Command, Frame, Lane, Timer};
use ringweave_overlay::Overlay;

use super::mix;

/// The sender of what the world itself does to a peer; it comes after what peers do at that moment.
pub(crate) const WORLD: u32 = u32::MAX;

/// Something happens to a peer.
///
/// A peer meets its events in order of (time, sender, the sender's n-th): what it does depends on
/// nothing else, so no number of threads changes it.
pub(crate) struct Event<O: Overlay> {
    /// When, in microseconds of the world.
    pub(crate) at: u64,
    /// To whom.
    pub(crate) to: u32,
    /// By whom.
    pub(crate) from: u32,
    /// The how-manieth of that one's doings.
    pub(crate) number: u32,
    /// The life of `to` that it is meant for; [`ANY`] for any.
    pub(crate) life: u16,
    /// What.
    pub(crate) what: What<O>,
}

/// A life's number that stands for every life.
pub(crate) const ANY: u16 = u16::MAX;

/// What happens. Lives in handshakes are the sender's.
pub(crate) enum What<O: Overlay> {
    /// A frame came over a connection.
    Frame(Box<Parcel<O>>),
    /// A frame of that peer has passed the receiver's narrow link.
    Passed(u32, Box<Parcel<O>>),
    /// One of its own timers.
    Timer(Timer<O>),
    /// Someone has dialled and been greeted: its third trip of the handshake.
    Knock(u16),
    /// The answer to a knock: the connection stands.
    Welcome(u16),
    /// The other side has closed the connection, or does not know it.
    Bye,
    /// The other side neither holds nor uses the connection: it is closed if this one does not, either.
    Idle,
    /// Nothing was heard for too long from that peer in that life.
    Silence(u32, u16),
    /// Dials and idle connections are looked at.
    Tend,
    /// The world does something to it.
    Deed(Box<Deed<O>>),
}

/// A frame and what it weighs.
pub(crate) struct Parcel<O: Overlay> {
    pub(crate) frame: Frame<O>,
    pub(crate) lane: Lane,
    /// Bytes on the wire; 0 where nobody asks.
    pub(crate) bytes: u32,
}

/// What the world does to a peer.
pub(crate) enum Deed<O: Overlay> {
    /// It starts, and joins through these; through nobody: it founds the network.
    Start(Vec<u32>),
    /// It vanishes without a word.
    Crash,
    /// It says goodbye and goes.
    Leave,
    /// It does nothing until then.
    Freeze(u64),
    /// It goes on.
    Thaw,
    /// The network is cut, as the weather's cut of this number says.
    Cut(usize),
    /// Each of its connections may break, by a chance in 1/2^32.
    Flap(u64),
    /// It is given the addresses of these, wherever it is already.
    Hear(Vec<u32>),
    /// Its application wants something.
    Command(u64, Command<O::Address>),
    /// It hears this frame from that peer out of nowhere: a canary.
    Whisper(u32, Frame<O>),
}

impl<O: Overlay> Event<O> {
    /// What orders the events of one peer.
    pub(crate) fn order(&self) -> (u64, u32, u32) {
        (self.at, self.from, self.number)
    }

    /// Its share in the digest of the world.
    pub(crate) fn mark(&self) -> u64 {
        let kind = match &self.what {
            What::Frame(parcel) => match parcel.frame {
                Frame::Overlay(_) => 1,
                Frame::Envelope(_) => 2,
                Frame::Repair(_) => 11,
            },
            What::Passed(..) => 3,
            What::Timer(_) => 4,
            What::Knock(_) => 5,
            What::Welcome(_) => 6,
            What::Bye => 7,
            What::Silence(..) => 8,
            What::Tend => 9,
            What::Deed(_) => 10,
            What::Idle => 12,
        };
        let ends = u64::from(self.to) << 32 | u64::from(self.from);
        mix(mix(self.at ^ mix(ends)) ^ (u64::from(self.number) << 8 | kind))
    }
}

/// An event in a heap whose top is the earliest.
pub(crate) struct Soon<O: Overlay>(pub(crate) Event<O>);

impl<O: Overlay> PartialEq for Soon<O> {
    fn eq(&self, other: &Self) -> bool {
        self.0.order() == other.0.order()
    }
}

impl<O: Overlay> Eq for Soon<O> {}

impl<O: Overlay> PartialOrd for Soon<O> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<O: Overlay> Ord for Soon<O> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        Reverse(self.0.order()).cmp(&Reverse(other.0.order()))
    }
}
