//! One hop: to the next peer, to several of them, or to the port it is for.

use std::sync::Arc;

use ringweave_ids::Peer;
use ringweave_overlay::{Hop, Overlay, Target};
use smallvec::SmallVec;

use super::{Ground, Local, Router, head};
use crate::{Cast, Envelope, Failure, Flow, Frame, Lane, Output, Port, Receiver};

/// Hops after which a message is given up: far above the bound of any topology at work, so only
/// tables that contradict each other meet it.
pub(super) const HOP_LIMIT: u8 = 64;
/// Flows under a corrected address kept: more than one renumbering at a time is rare.
const CORRECTIONS: usize = 16;

/// A flow that was given a corrected address.
pub(super) struct Correction<A> {
    came: Arc<Flow<A>>,
    goes: Arc<Flow<A>>,
}

/// A neighbour, and the receivers of a multicast that lie beyond it.
type Direction<A> = (Peer, Vec<Receiver<A>>);

impl<O: Overlay> Router<O> {
    /// Sends an envelope to one target a hop further, or to its port if it has arrived.
    pub(crate) fn route(&mut self, ground: &mut Ground<'_, O>, mut envelope: Envelope<O>) {
        let flow = &envelope.flow;
        let hash = at_hop(flow_hash(flow), envelope.hops);
        let hop = match &flow.target {
            Target::Peer { id, .. } if *id == self.me => Hop::Arrived,
            // The way to a branch is the way to its holder, who then starts the spreading.
            Target::Prefix(address) => {
                ground
                    .overlay
                    .next_hop(&ground.view, &Target::Holder(address.clone()), hash)
            }
            target => ground.overlay.next_hop(&ground.view, target, hash),
        };
        match hop {
            Hop::Arrived => self.arrive(ground, envelope),
            _ if envelope.hops >= HOP_LIMIT => self.fail(ground, &envelope, Failure::NoRoute),
            Hop::To(peer) => self.forward(ground, peer, envelope),
            Hop::Corrected(peer, address) => {
                envelope.flow = self.correct(envelope.flow, address);
                self.forward(ground, peer, envelope);
            }
            Hop::Nobody => self.fail(ground, &envelope, Failure::NotFound),
            Hop::Cut => self.fail(ground, &envelope, Failure::NoRoute),
        }
    }

    /// The same flow under a corrected address; the same one each time, so that links know it.
    fn correct(
        &mut self,
        flow: Arc<Flow<O::Address>>,
        address: O::Address,
    ) -> Arc<Flow<O::Address>> {
        let target = corrected(&flow.target, address);
        let is_it = |known: &&Correction<O::Address>| {
            Arc::ptr_eq(&known.came, &flow) && known.goes.target == target
        };
        if let Some(known) = self.corrections.iter().find(is_it) {
            return Arc::clone(&known.goes);
        }
        let goes = Arc::new(Flow {
            target,
            ..Flow::clone(&flow)
        });
        if self.corrections.len() == CORRECTIONS {
            self.corrections.pop_front();
        }
        self.corrections.push_back(Correction {
            came: flow,
            goes: Arc::clone(&goes),
        });
        goes
    }

    fn forward(&mut self, ground: &mut Ground<'_, O>, peer: Peer, mut envelope: Envelope<O>) {
        if envelope.is_traced && envelope.hops > 0 {
            self.report_hop(ground, &envelope, false);
        }
        envelope.hops += 1;
        self.hand_over(ground, peer, envelope);
    }

    /// Gives an envelope to a neighbour.
    pub(super) fn hand_over(
        &mut self,
        ground: &mut Ground<'_, O>,
        peer: Peer,
        envelope: Envelope<O>,
    ) {
        let lane = if envelope.flow.port == Port::APP {
            self.counters.forwarded += 1;
            Lane::Message
        } else if envelope.flow.port == Port::RECORDS {
            // As large as messages.
            Lane::Message
        } else {
            Lane::Control
        };
        ground
            .out
            .push(Output::Send(peer, lane, Frame::Envelope(envelope)));
    }

    /// An envelope to one target is where it wanted to go.
    fn arrive(&mut self, ground: &mut Ground<'_, O>, envelope: Envelope<O>) {
        match (&envelope.flow.target, envelope.flow.port) {
            (Target::Peer { id, .. }, _) if *id != self.me => {
                self.fail(ground, &envelope, Failure::NotFound);
            }
            (Target::Peer { .. }, Port::APP) => {
                let Envelope {
                    flow,
                    sequence,
                    hops,
                    payload,
                    ..
                } = envelope;
                self.on_message(ground, &flow, sequence, hops, payload);
            }
            (Target::Prefix(_), Port::APP) => self.on_prefix(ground, envelope),
            (_, Port::APP) => self.fault(ground, "a message to nobody in particular"),
            _ => self.local.push_back(Local::Arrived(envelope)),
        }
    }

    /// A multicast: one copy in each direction, with the receivers that lie there, in order.
    pub(super) fn share_out(&mut self, ground: &mut Ground<'_, O>, envelope: Envelope<O>) {
        let Envelope {
            flow,
            sequence,
            hops,
            is_traced,
            cast,
            payload,
        } = envelope;
        let Cast::Several(receivers) = cast else {
            return;
        };
        let mut directions: SmallVec<[Direction<O::Address>; 8]> = SmallVec::new();
        for mut receiver in receivers {
            if receiver.id == self.me {
                let mut mine = Flow::clone(&flow);
                (mine.life, mine.first) = (receiver.life, receiver.first);
                self.on_message(
                    ground,
                    &Arc::new(mine),
                    receiver.sequence,
                    hops,
                    payload.clone(),
                );
                continue;
            }
            let target = Target::Peer {
                id: receiver.id,
                address: receiver.address.clone(),
            };
            let hash = head(&flow.origin) ^ head(&receiver.id).rotate_left(17);
            let hash = at_hop(hash, hops);
            let peer = match ground.overlay.next_hop(&ground.view, &target, hash) {
                Hop::To(peer) if hops < HOP_LIMIT => Ok(peer),
                Hop::Corrected(peer, address) if hops < HOP_LIMIT => {
                    receiver.address = address;
                    Ok(peer)
                }
                Hop::Arrived | Hop::Nobody => Err(Failure::NotFound),
                Hop::To(_) | Hop::Corrected(..) | Hop::Cut => Err(Failure::NoRoute),
            };
            match peer {
                Ok(peer) => match directions.iter_mut().find(|(there, _)| *there == peer) {
                    Some((_, others)) => others.push(receiver),
                    None => directions.push((peer, vec![receiver])),
                },
                Err(failure) => {
                    let whom = Some(receiver.id);
                    self.answer_failure(ground, &flow, receiver.sequence, whom, failure);
                }
            }
        }
        for (peer, receivers) in directions {
            let cast = Cast::Several(receivers);
            let copy = Envelope {
                flow: Arc::clone(&flow),
                sequence,
                hops: hops + 1,
                is_traced,
                cast,
                payload: payload.clone(),
            };
            self.hand_over(ground, peer, copy);
        }
    }
}

/// What picks among equal next hops: the same for all messages of an origin to one receiver.
pub(super) fn flow_hash<A>(flow: &Flow<A>) -> u64 {
    let target = match &flow.target {
        Target::Peer { id, .. } => head(id),
        Target::Key { key, .. } => key.head(),
        Target::Holder(_) | Target::Prefix(_) | Target::All => 0,
    };
    head(&flow.origin) ^ target.rotate_left(17)
}

/// What picks at this hop of a way: another number at each, so that no two peers on a way round a
/// connection hand a message to each other for ever; the same for each message of a flow.
pub fn at_hop(flow: u64, hops: u8) -> u64 {
    flow.rotate_left(7 * u32::from(hops))
}

/// The same target under a corrected address.
fn corrected<A: Clone>(target: &Target<A>, address: A) -> Target<A> {
    match target {
        Target::Peer { id, .. } => Target::Peer { id: *id, address },
        Target::Holder(_) => Target::Holder(address),
        Target::Prefix(_) => Target::Prefix(address),
        Target::Key { key, choice, .. } => Target::Key {
            scope: Some(address),
            key: *key,
            choice: *choice,
        },
        Target::All => Target::All,
    }
}
