//! Admission: every record is verified before it enters a roster or is passed on, and answered
//! where it speaks of this peer itself (DESIGN.md, decision 10).

use std::sync::Arc;

use ringweave_ids::{Peer, Signature};

use super::{
    Cx, Grant, Member, Message, Polyring, Position, PositionId, Proof, Ring, Seat,
    record::{MAX_VOTES, vote_words},
};

impl Polyring {
    /// Whether a record may enter the roster of this ring.
    pub(super) fn admit_member(
        &self,
        cx: &mut Cx<'_>,
        from: Peer,
        id: PositionId,
        record: &Arc<Member>,
    ) -> bool {
        let Some(ring) = self.ring(id) else {
            return false;
        };
        let mine = ring.record(record.peer);
        if mine.is_some_and(|mine| !record.outranks(mine)) {
            return false;
        }
        if !record.is_signed(cx.host()) {
            cx.fault("a record that its peer did not sign");
            return false;
        }
        if !record.is_accusation_signed(cx.host()) {
            cx.fault("an accusation that its observers did not sign");
            return false;
        }
        if let Some(accusation) = &record.accusation {
            let few = ring.peers().count() <= 3;
            if record.peer != cx.me() && self.is_up(record.peer) {
                // I hear it myself. It should hear this, too: it refutes, so that whoever lost it for
                // a moment need not take it for dead until the record has aged.
                let (members, positions, wanted) = (vec![record.clone()], Vec::new(), Vec::new());
                let news = Message::Records {
                    ring: id,
                    members,
                    positions,
                    wanted,
                };
                cx.send(record.peer, news);
                return false;
            }
            // I do not hear it either: one observer is enough if nobody said that it does hear it, unless
            // I know neither of the two.
            let is_near = self.links.is_wanted(record.peer) || self.is_neighbour(from);
            let is_lost = is_near && !self.heal.is_vouched(record.peer);
            let is_enough = accusation.by.len() >= 2 || few || is_lost;
            if record.peer != cx.me() && !is_enough {
                return false;
            }
        }
        let Some(seat) = record.seat.filter(|seat| seat.ring == id) else {
            return true;
        };
        // The right to the place was looked at when the older record came.
        if mine.is_some_and(|mine| mine.seat == record.seat && mine.proof == record.proof) {
            return true;
        }
        let is_vouched = from != record.peer && self.is_neighbour(from);
        let (is_sound, is_known) = match &record.proof {
            Proof::Grant(grant) => {
                let is_founder = ring.position(seat.position).map(|it| &it.grant) == Some(grant);
                let is_sound = grant.peer == record.peer
                    && grant.seat == seat
                    && grant.coordinate <= MAX_COORDINATE
                    && (is_founder || grant.is_signed(cx.host()));
                let is_known = is_founder
                    || if grant.founds(cx.host()) {
                        self.may_grant(ring, grant.by)
                            || (id == PositionId::CENTER && self.is_meeting(cx.now))
                    } else {
                        self.may_seat(ring, grant)
                            || (id == PositionId::CENTER && self.is_meeting(cx.now))
                    };
                (is_sound, is_known)
            }
            Proof::Takeover(takeover) => {
                let words = vote_words(cx.host(), seat.position, &cx.id(record.peer));
                let is_cast = |(voter, signature): &(Peer, Signature)| {
                    cx.host().verify(&cx.id(*voter), &words, signature)
                };
                let count = takeover.votes.len();
                let is_sound = takeover.seat == seat
                    && (1..=MAX_VOTES).contains(&count)
                    && takeover.votes.iter().all(is_cast);
                (is_sound, ring.position(seat.position).is_some())
            }
            Proof::None => (false, false),
        };
        if !is_sound {
            cx.fault("a record whose right to its position is not proven");
        }
        // Whose granter is not known here may be known to a neighbour, who says so later.
        is_sound && (is_known || is_vouched)
    }

    /// Whether this keeper may have granted a position of the ring: a member (living or not) of its
    /// parent position, or one that was promoted out of the ring. In the center, any member known.
    fn may_grant(&self, ring: &Ring, keeper: Option<Peer>) -> bool {
        let Some(keeper) = keeper else {
            return ring.id == PositionId::CENTER;
        };
        let from_here = ring.record(keeper);
        if ring.id == PositionId::CENTER {
            return from_here.is_some();
        }
        let parents = [&self.own, &self.above]
            .into_iter()
            .find(|it| it.position(ring.id).is_some());
        let Some(parents) = parents else { return false };
        let held_it = |seat: Seat| seat.position == ring.id || seat.ring != parents.id;
        parents
            .record(keeper)
            .is_some_and(|record| record.seat.is_none_or(held_it))
            || from_here.is_some_and(|record| !record.lives_in(ring.id))
    }

    /// Whether the signer of this seat was a member of its position. Who sits elsewhere in the ring by now
    /// may have been one in an earlier life: it is believed where nobody lives who could say more.
    fn may_seat(&self, ring: &Ring, grant: &Grant) -> bool {
        let member = grant.by.and_then(|by| ring.record(by));
        member.is_some_and(|record| {
            let held_it = |seat: Seat| seat.position == grant.seat.position || seat.ring != ring.id;
            let is_vacant = ring.peers_of(grant.seat.position).next().is_none();
            record.seat.is_none_or(held_it) || is_vacant
        })
    }

    pub(super) fn admit_position(
        &self,
        cx: &mut Cx<'_>,
        from: Peer,
        id: PositionId,
        position: Position,
    ) -> Option<Position> {
        let ring = self.ring(id)?;
        let mine = ring.position(position.id());
        if mine == Some(&position) {
            return None;
        }
        let host = cx.host();
        // What is held already was verified when it came.
        let is_held = |part: &dyn Fn(&Position) -> bool| mine.is_some_and(part);
        let is_signed = is_sound(&position, id)
            && (is_held(&|mine| mine.grant == position.grant)
                || (position.grant.is_signed(host) && position.grant.founds(host)))
            && position.label().is_none_or(|label| {
                is_held(&|mine| mine.label() == Some(label))
                    || (label.is_signed(host)
                        && (self.is_neighbour(from) || self.may_grant(ring, Some(label.by))))
            })
            && position.census().is_none_or(|census| {
                is_held(&|mine| mine.census() == Some(census)) || census.is_signed(host)
            });
        if !is_signed {
            cx.fault("a position that its keeper did not sign");
            return None;
        }
        Some(position)
    }

    /// Someone says I am dead, or elsewhere: I say it anew, louder (HEALING.md, R6).
    pub(super) fn refute(&mut self, cx: &mut Cx<'_>) {
        let (Some(record), Some(seat)) = (self.record.clone(), self.seat()) else {
            return;
        };
        let told = self
            .own
            .record(cx.me())
            .cloned()
            .unwrap_or_else(|| record.clone());
        if told == record {
            return;
        }
        self.incarnation = self.incarnation.max(told.incarnation) + 1;
        let record = Member::signed(&cx.view, self.incarnation, Some(seat), record.proof.clone());
        self.own.merge_member(cx.host(), record.clone(), cx.now);
        self.record = Some(record.clone());
        let position: Vec<_> = self
            .own
            .position(seat.position)
            .cloned()
            .into_iter()
            .collect();
        let told: Vec<_> = self.links.wanted().map(|link| link.peer).collect();
        for peer in told {
            self.send_records(cx, peer, seat.ring, vec![record.clone()], position.clone());
        }
    }
}

/// The largest coordinate that is taken from the network: tables are arrays of it.
pub(super) const MAX_COORDINATE: u32 = 1 << 14;

/// Whether a position belongs to the ring and its coordinate is bounded.
pub(super) fn is_sound(position: &Position, ring: PositionId) -> bool {
    let of_ring = |seat: Seat| seat.ring == ring && seat.position == position.id();
    position.grant.seat.ring == ring
        && position.coordinate() <= MAX_COORDINATE
        && position.is_normal()
        && position.label().is_none_or(|label| of_ring(label.seat))
        && position.census().is_none_or(|census| of_ring(census.seat))
}
