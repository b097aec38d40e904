//! The inspection service: a peer tells of its rings, so that a network can be walked and drawn.

use bytes::Bytes;
use ringweave_ids::wire;
use ringweave_overlay::Overlay;
use serde::{Deserialize, Serialize};

use crate::{
    Envelope, Listing, MAX_PAYLOAD, Placed, Port,
    router::{Ground, Reply, Router},
};

/// Neighbours told of at most.
const LISTED: usize = 1_024;

/// What the inspection services of two peers say. Variants are only ever added, at the end.
#[derive(Debug, Serialize, Deserialize)]
enum Word<A> {
    /// Tell of yourself, and of your neighbours if `is_whole`.
    Ask { number: u64, is_whole: bool },
    /// This is what there is.
    Told { number: u64, listing: Listing<A> },
}

/// The payload of a question.
pub(crate) fn ask(number: u64, is_whole: bool) -> Bytes {
    wire::to_vec(&Word::<()>::Ask { number, is_whole }).into()
}

impl<O: Overlay> Router<O> {
    /// Something came in for the inspection service.
    pub(crate) fn on_inspect(&mut self, ground: &mut Ground<'_, O>, envelope: &Envelope<O>) {
        let flow = &envelope.flow;
        match self.read(ground, envelope) {
            Some(Word::Ask { number, is_whole }) => {
                let Some(listing) = self.listing(ground, is_whole) else {
                    return;
                };
                let told = wire::to_vec(&Word::Told { number, listing });
                let source = flow.source.clone();
                self.post(ground, flow.origin, source, Port::INSPECT, told.into());
            }
            Some(Word::Told { number, listing }) if listing.me.id == flow.origin => {
                self.answered(ground, flow.origin, number, Reply::Listing(listing));
            }
            Some(Word::Told { .. }) => self.fault(ground, "a listing in another peer's name"),
            None => {}
        }
    }

    /// What this peer tells of its rings, once it has a place; cut to what one message carries.
    pub(crate) fn listing(
        &self,
        ground: &Ground<'_, O>,
        is_whole: bool,
    ) -> Option<Listing<O::Address>> {
        let mut table = Vec::new();
        if is_whole {
            ground.overlay.neighbours(&mut table);
        }
        let neighbours = table.into_iter().take(LISTED).map(|other| {
            let id = ground.view.id(other.peer);
            let placed = Placed {
                id,
                address: other.address,
                name: self.known_name(&id),
            };
            (placed, other.role.to_owned())
        });
        let me = self.placed()?;
        let mut listing = Listing {
            me,
            neighbours: neighbours.collect(),
        };
        // Deep addresses and long names can make it too long for one message.
        while wire::to_vec(&listing).len() + WORD_BYTES > MAX_PAYLOAD {
            listing.neighbours.truncate(listing.neighbours.len() / 2);
        }
        Some(listing)
    }
}

/// What a [`Word`] adds to its listing: the variant and the number.
const WORD_BYTES: usize = 11;
