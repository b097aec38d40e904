//! The other side of a suspicion (`heal.rs`): a neighbour asks whether I hear somebody. I ask the suspect
//! itself and say what came of it; and take an accusation back if it is heard after all.

use std::time::Duration;

use ringweave_ids::Peer;

use super::{Cx, Message, Polyring, Testimony, Timer, heal::VERDICT, record::accusation_words};
use crate::Loss;

/// How long a suspect has to answer a neighbour that was asked.
pub(super) const WITNESS: Duration = Duration::from_millis(400);

/// Questions about suspects under way at once, for others.
const MAX_WITNESSED: usize = 256;

/// A question about a suspect, of another or my own.
#[derive(Clone, Debug)]
pub(super) struct Witnessed {
    pub(super) number: u64,
    pub(super) asker: Peer,
    pub(super) suspect: Peer,
    pub(super) incarnation: u64,
    /// I have said that it does not answer, and take that back if it does.
    pub(super) has_accused: bool,
}

impl Polyring {
    pub(super) fn on_ask(&mut self, cx: &mut Cx<'_>, from: Peer, suspect: Peer, incarnation: u64) {
        if suspect == cx.me() {
            testify(cx, from, suspect, incarnation, Testimony::Heard);
            return;
        }
        if self.living_anywhere(suspect).is_none() {
            self.tell_gone(cx, from, suspect);
            return;
        }
        if !self.is_up(suspect) {
            // Only who has lost it is a witness: not who never had it.
            if let Some(redial) = self.heal.redial(suspect) {
                // What is passed on once is not passed on again: two could vouch for each other.
                if !redial.is_hearsay {
                    let hearsay = Testimony::Hearsay(redial.voucher);
                    testify(cx, from, suspect, incarnation, hearsay);
                }
            } else if self.heal.has_lost(suspect) {
                accuse(cx, from, suspect, incarnation);
                self.watch(cx, VERDICT, (from, suspect, incarnation), true);
            }
        } else {
            self.witness(cx, from, suspect, incarnation);
        }
    }

    /// Remembers a question for so long; its number, if there is room.
    fn watch(
        &mut self,
        cx: &mut Cx<'_>,
        span: Duration,
        (asker, suspect, incarnation): (Peer, Peer, u64),
        has_accused: bool,
    ) -> Option<u64> {
        if self.heal.witnessed.len() >= MAX_WITNESSED {
            return None;
        }
        self.heal.next_number += 1;
        let number = self.heal.next_number;
        self.heal.witnessed.push(Witnessed {
            number,
            asker,
            suspect,
            incarnation,
            has_accused,
        });
        cx.after(span, Timer::Witness(number));
        Some(number)
    }

    /// Who asks about one that is dead or elsewhere has missed that.
    fn tell_gone(&self, cx: &mut Cx<'_>, to: Peer, peer: Peer) {
        let rings = [&self.own, &self.below, &self.above].into_iter();
        let known = rings.filter_map(|ring| Some((ring.id, ring.record(peer)?.clone())));
        if let Some((ring, record)) = known.max_by_key(|(_, record)| record.incarnation) {
            self.send_records(cx, to, ring, vec![record], Vec::new());
        }
    }

    /// Asks the suspect itself, on behalf of `asker`.
    pub(super) fn witness(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Peer,
        suspect: Peer,
        incarnation: u64,
    ) {
        let question = (asker, suspect, incarnation);
        if let Some(number) = self.watch(cx, WITNESS, question, false) {
            cx.send(suspect, Message::Ping(number));
        }
    }

    pub(super) fn on_pong(&mut self, cx: &mut Cx<'_>, from: Peer, number: u64) {
        if self.on_measured(cx, from, number) {
            return;
        }
        let answered = self
            .heal
            .witnessed
            .iter()
            .position(|it| it.number == number && it.suspect == from);
        if let Some(at) = answered {
            let Witnessed {
                asker,
                suspect,
                incarnation,
                ..
            } = self.heal.witnessed.swap_remove(at);
            testify(cx, asker, suspect, incarnation, Testimony::Heard);
        }
    }

    pub(super) fn on_witness(&mut self, cx: &mut Cx<'_>, number: u64) {
        let mut witnessed = self.heal.witnessed.iter();
        let Some(at) = witnessed.position(|it| it.number == number) else {
            return;
        };
        let Witnessed {
            asker,
            suspect,
            incarnation,
            has_accused,
            ..
        } = self.heal.witnessed.swap_remove(at);
        if has_accused {
            return;
        }
        if asker != cx.me() {
            accuse(cx, asker, suspect, incarnation);
            self.watch(cx, VERDICT, (asker, suspect, incarnation), true);
        }
        // Two of us have lost it now: no need to wait until my own link has been silent for so long.
        self.on_down(cx, suspect, Loss::Silent);
    }

    /// The peer is there: those who asked about it hear so.
    pub(super) fn vouch(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        let (about, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.heal.witnessed)
            .into_iter()
            .partition(|witnessed| witnessed.suspect == peer);
        self.heal.witnessed = others;
        for Witnessed {
            asker,
            suspect,
            incarnation,
            ..
        } in about
        {
            testify(cx, asker, suspect, incarnation, Testimony::Heard);
        }
    }
}

/// Says to one who asked what came of asking the suspect.
fn testify(cx: &mut Cx<'_>, asker: Peer, suspect: Peer, incarnation: u64, testimony: Testimony) {
    if asker != cx.me() {
        cx.send(
            asker,
            Message::Answer {
                suspect,
                incarnation,
                testimony,
            },
        );
    }
}

/// Says that the suspect does not answer.
fn accuse(cx: &mut Cx<'_>, asker: Peer, suspect: Peer, incarnation: u64) {
    let words = accusation_words(cx.host(), &cx.id(suspect), incarnation);
    let accusation = cx.host().sign(&words);
    testify(
        cx,
        asker,
        suspect,
        incarnation,
        Testimony::Accused(accusation),
    );
}
