//! Upkeep: finding the hub, keeping the line of stand-ins, taking over, and giving way.

use std::time::Duration;

use ringweave_ids::Peer;

use super::{Cx, Message, Phase, Roster, Star, Timer};
use crate::{Contact, Event, Loss, Overlay as _, lost::PROBE};

/// How long a peer has to lead to the hub, or to be it, before the next is asked.
const SEEK: (Duration, Duration) = (Duration::from_millis(800), Duration::from_millis(1_200));

/// How soon a spoke asks the first in line after its hub said that it leaves: the word has reached
/// that one by then.
const HANDED_OVER: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(400));

/// How long changes of the line wait for company before the spokes hear of them.
const TELL: Duration = Duration::from_millis(300);

/// Peers followed from word to word in one round of a search: words that are behind may go in circles.
const MAX_LED: u8 = 8;

/// Rounds of a search, of about a second each, after which nobody in line is taken to live.
const LAST_RESORT: u32 = 40;

/// The most contacts remembered.
const MAX_CONTACTS: usize = 8;

/// The most stand-ins taken from one list.
const MAX_LISTED: usize = 16;

/// The most other spokes told of, and taken from one list.
const MAX_OTHERS: usize = 4;

/// The term of the first hub: a hub that nobody was in line for stays below those that follow in turn.
const FIRST_TERM: u32 = 16;

/// A search for the hub.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    round: u32,
    /// Rounds since the hub was lost.
    tries: u32,
    led: u8,
    /// Whose answer is waited for.
    asked: Option<Peer>,
    /// The hub before.
    former: Option<Peer>,
}

impl Search {
    pub(super) fn uses(&self) -> impl Iterator<Item = Peer> {
        self.asked.into_iter().chain(self.former)
    }
}

impl Star {
    pub(super) fn enter(&mut self, cx: &mut Cx<'_>, mut contacts: Vec<Peer>) {
        contacts.retain(|contact| *contact != cx.me());
        if self.address().is_some() {
            if contacts.is_empty() {
                self.check_later(cx);
            }
            // They may be of another star.
            contacts
                .into_iter()
                .for_each(|contact| cx.send(contact, Message::Ask));
            return;
        }
        contacts.truncate(MAX_CONTACTS);
        self.contacts = contacts;
        if self.contacts.is_empty() {
            self.term = FIRST_TERM;
            return self.be_hub(cx);
        }
        self.phase = Phase::Joining;
        self.seek(cx);
    }

    /// This peer has a place from now on, if it had none.
    fn be_placed(&mut self, cx: &mut Cx<'_>, phase: Phase) {
        let is_new = self.address().is_none();
        self.phase = phase;
        if is_new {
            cx.tell(Event::Placed(self.guid.clone()));
            self.check_later(cx);
        }
        cx.tell(Event::Changed);
    }

    fn check_later(&self, cx: &mut Cx<'_>) {
        let span = Duration::from_millis(u64::from(cx.config().check_ms.max(1_000)));
        let span = cx.random.between(span / 2, span);
        cx.after(span, Timer::Check);
    }

    pub(super) fn on_check(&mut self, cx: &mut Cx<'_>) {
        self.check_later(cx);
        self.is_dialling = true;
        if let Some(hub) = self.hub {
            self.ask_to_join(cx, hub.peer);
        }
    }

    /// Begins a search, with whoever was the hub: it may live, and only the connection be gone.
    fn seek(&mut self, cx: &mut Cx<'_>) {
        self.search.tries = 0;
        self.next_round(cx, SEEK);
        self.ask_next(cx);
    }

    fn next_round(&mut self, cx: &mut Cx<'_>, (least, most): (Duration, Duration)) {
        self.search.round = self.search.round.wrapping_add(1);
        let span = cx.random.between(least, most);
        cx.after(span, Timer::Seek(self.search.round));
    }

    pub(super) fn on_seek(&mut self, cx: &mut Cx<'_>, round: u32) {
        let is_seeking = matches!(self.phase, Phase::Joining | Phase::Spoke) && self.hub.is_none();
        if round != self.search.round || !is_seeking {
            return;
        }
        // Nobody is skipped who was not asked.
        let was_asked = self.search.tries > 0;
        if self.phase == Phase::Spoke && was_asked && self.is_next() {
            // Who sees nobody at all is rather cut off than the last that lives.
            let is_alone = self.links.is_cut_off();
            let term = self.term;
            self.term = if is_alone {
                term.saturating_sub(1)
            } else {
                term.saturating_add(1)
            };
            return self.be_hub(cx);
        }
        if self.phase == Phase::Spoke && self.is_last_resort(cx) {
            self.term = self.term.saturating_sub(1);
            return self.be_hub(cx);
        }
        self.next_round(cx, SEEK);
        self.ask_next(cx);
    }

    /// Whether this peer is the first in line to whom the others lead: all before it are gone.
    fn is_next(&self) -> bool {
        let before = self.stand_ins.iter().take_while(|it| **it != self.me);
        let mut before = before.map(|it| self.links.is_up(it.peer));
        self.is_in_line() && !before.any(|is_up| is_up)
    }

    /// Whether nobody in line lives, it seems, and it falls to this peer to be the hub for those who
    /// find it. They meet later.
    fn is_last_resort(&self, cx: &mut Cx<'_>) -> bool {
        let is_open = !cx.view.profile.is_private;
        self.search.tries >= LAST_RESORT && is_open && cx.random.below(8) == 0
    }

    fn ask_next(&mut self, cx: &mut Cx<'_>) {
        let line = self.stand_ins.iter().map(|it| it.peer);
        let all = self.search.former.into_iter().chain(line);
        let mut all: Vec<_> = all.chain(self.contacts.iter().copied()).collect();
        all.retain(|it| *it != cx.me());
        let at = self.search.tries as usize % all.len().max(1);
        self.search.tries = self.search.tries.saturating_add(1);
        self.search.led = 0;
        if let Some(next) = all.get(at) {
            self.ask_to_join(cx, *next);
        }
    }

    fn ask_to_join(&mut self, cx: &mut Cx<'_>, whom: Peer) {
        self.search.asked = Some(whom);
        let is_private = cx.view.profile.is_private;
        let (term, version) = match self.hub {
            Some(hub) if hub.peer == whom => (self.term, self.version),
            _ => (0, 0),
        };
        cx.send(
            whom,
            Message::Join {
                is_private,
                term,
                version,
            },
        );
    }

    /// This peer takes its place in the middle.
    fn be_hub(&mut self, cx: &mut Cx<'_>) {
        self.hub = None;
        self.version = 1;
        let others = self.stand_ins.iter().filter(|it| **it != self.me);
        let others: Vec<_> = others.copied().collect();
        self.roster = Roster::after(&others);
        self.stand_ins.clear();
        let hub = cx.me();
        let term = self.term;
        // They would come by themselves, only later; and one of them may be a hub, too.
        for other in others {
            cx.send(other.peer, Message::Led { hub, term });
        }
        for contact in self.contacts.clone() {
            self.lose(cx, contact);
        }
        self.be_placed(cx, Phase::Hub);
    }

    pub(super) fn on_join(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        is_open: bool,
        known: (u32, u32),
    ) {
        if self.hub.is_some_and(|hub| hub.peer == from) {
            // It looks for a hub itself.
            return self.lose_hub(cx, SEEK);
        }
        if self.phase != Phase::Hub {
            return self.tell_hub(cx, from);
        }
        let contact = Contact::of(cx.host(), from);
        if contact.point == self.me.point {
            return cx.fault("a peer at this one's point");
        }
        let is_known = self.roster.at(contact.point).is_some();
        if !is_known && self.roster.len() >= cx.config().spokes as usize {
            return cx.send(from, Message::Full);
        }
        if self.roster.admit(contact, is_open) {
            cx.tell(Event::Changed);
        }
        self.review_line(cx);
        if !is_known || known != (self.term, self.version) {
            self.tell_line(cx, from);
        }
    }

    fn tell_line(&self, cx: &mut Cx<'_>, to: Peer) {
        let stand_ins = self.stand_ins.iter().map(|it| it.peer).collect();
        let drawn = (0..MAX_OTHERS).filter_map(|_| self.roster.draw(cx.random));
        let others = drawn.filter(|it| *it != to).collect();
        cx.send(
            to,
            Message::Lead {
                term: self.term,
                version: self.version,
                stand_ins,
                others,
            },
        );
    }

    /// Sees to it that those in line are the right ones, and that the spokes hear of it.
    fn review_line(&mut self, cx: &mut Cx<'_>) {
        let room = usize::from(cx.config().stand_ins).min(MAX_LISTED);
        let line = self.roster.line(room);
        if line == self.stand_ins {
            return;
        }
        self.stand_ins = line;
        self.version = self.version.wrapping_add(1).max(1);
        self.is_dialling = true;
        if !std::mem::replace(&mut self.is_telling, true) {
            cx.after(TELL, Timer::Tell);
        }
    }

    pub(super) fn on_tell(&mut self, cx: &mut Cx<'_>) {
        self.is_telling = false;
        for spoke in self.roster.iter() {
            self.tell_line(cx, spoke.peer);
        }
    }

    pub(super) fn on_lead(
        &mut self,
        cx: &mut Cx<'_>,
        from: Peer,
        (term, version): (u32, u32),
        stand_ins: &[Peer],
    ) {
        let is_seeking = matches!(self.phase, Phase::Joining | Phase::Spoke);
        let is_asked = self.search.asked == Some(from);
        let is_mine = self.hub.is_some_and(|hub| hub.peer == from);
        if !is_seeking || !(is_asked || is_mine) {
            // It takes me for a spoke, and I have another hub, or am one.
            return cx.send(from, Message::Leave);
        }
        if let Some(before) = self.hub.filter(|hub| hub.peer != from) {
            cx.send(before.peer, Message::Leave);
        }
        let listed = cx.listed(stand_ins, MAX_LISTED).iter();
        let listed: Vec<_> = listed.map(|peer| Contact::of(cx.host(), *peer)).collect();
        self.stand_ins.clear();
        for contact in listed {
            if contact.peer != from && !self.stand_ins.contains(&contact) {
                self.stand_ins.push(contact);
            }
        }
        (self.term, self.version) = (term, version);
        self.hub = Some(Contact::of(cx.host(), from));
        self.search.former = Some(from);
        if is_asked {
            self.search.asked = None;
        }
        self.is_dialling = true;
        self.be_placed(cx, Phase::Spoke);
    }

    /// Some spokes of the own hub are remembered as contacts.
    pub(super) fn learn(&mut self, cx: &mut Cx<'_>, from: Peer, others: &[Peer]) {
        if self.hub.is_none_or(|hub| hub.peer != from) {
            return;
        }
        let me = cx.me();
        for other in cx.listed(others, MAX_OTHERS).iter().filter(|it| **it != me) {
            self.contacts.retain(|it| it != other);
            if self.contacts.len() >= MAX_CONTACTS {
                self.contacts.remove(0);
            }
            self.contacts.push(*other);
        }
    }

    pub(super) fn on_led(&mut self, cx: &mut Cx<'_>, from: Peer, hub: Peer, term: u32) {
        if hub == cx.me() {
            return;
        }
        match self.phase {
            Phase::Hub if hub == from => self.meet_hub(cx, hub, term),
            // What others say of a hub, it is to say itself.
            Phase::Hub => cx.send(hub, Message::Ask),
            Phase::Joining | Phase::Spoke => {
                let led = self.search.led;
                let is_told_by_hub = self.hub.is_some_and(|it| it.peer == from);
                match self.hub {
                    Some(known) if !is_told_by_hub && known.peer != hub => {
                        cx.send(known.peer, Message::Led { hub, term });
                    }
                    Some(_) if !is_told_by_hub => {}
                    _ if led < MAX_LED || is_told_by_hub => {
                        self.search.led = led.saturating_add(1);
                        self.ask_to_join(cx, hub);
                    }
                    _ => {}
                }
            }
            Phase::Out | Phase::Left => {}
        }
    }

    /// Two hubs: the one of the higher term stays, the one at the larger point among equals.
    fn meet_hub(&mut self, cx: &mut Cx<'_>, other: Peer, term: u32) {
        let point = Contact::of(cx.host(), other).point;
        if (self.term, self.me.point) > (term, point) {
            let (hub, term) = (cx.me(), self.term);
            return cx.send(other, Message::Led { hub, term });
        }
        for spoke in self.roster.iter() {
            cx.send(spoke.peer, Message::Led { hub: other, term });
        }
        self.roster = Roster::default();
        self.search.former = Some(other);
        self.be_placed(cx, Phase::Spoke);
        self.seek(cx);
    }

    pub(super) fn on_full(&mut self, cx: &mut Cx<'_>, from: Peer) {
        let is_mine = self.hub.is_some_and(|hub| hub.peer == from);
        if self.search.asked != Some(from) || is_mine {
            return;
        }
        self.search.asked = None;
        if self.phase != Phase::Joining {
            // Who has a place stays with its hub, or goes on looking for one.
            return;
        }
        self.phase = Phase::Out;
        let limit = cx.config().spokes;
        cx.tell(Event::Refused(format!(
            "the hub of this star has all the {limit} spokes that it takes"
        )));
    }

    /// Somebody asks who the hub is; who does not know it says nothing.
    pub(super) fn tell_hub(&self, cx: &mut Cx<'_>, to: Peer) {
        if let Some((hub, term)) = self.hub() {
            cx.send(
                to,
                Message::Led {
                    hub: hub.peer,
                    term,
                },
            );
        }
    }

    pub(super) fn on_leave(&mut self, cx: &mut Cx<'_>, from: Peer) {
        self.drop_spoke(cx, from);
        if self.hub.is_none_or(|hub| hub.peer != from) {
            return;
        }
        self.hub = None;
        if self.stand_ins.first() == Some(&self.me) {
            self.term = self.term.saturating_add(1);
            return self.be_hub(cx);
        }
        self.lose_hub(cx, HANDED_OVER);
    }

    /// There is no hub right now; the first that is asked comes a little later where it is known to
    /// be another.
    fn lose_hub(&mut self, cx: &mut Cx<'_>, pace: (Duration, Duration)) {
        self.hub = None;
        cx.tell(Event::Changed);
        if pace == SEEK {
            return self.seek(cx);
        }
        self.search.former = None;
        self.search.tries = 0;
        self.next_round(cx, pace);
    }

    /// Takes a spoke out; whether it was one.
    fn drop_spoke(&mut self, cx: &mut Cx<'_>, peer: Peer) -> bool {
        let was_there = self.phase == Phase::Hub && {
            let point = Contact::of(cx.host(), peer).point;
            self.roster.remove(point)
        };
        if was_there {
            cx.tell(Event::Changed);
            self.review_line(cx);
        }
        was_there
    }

    pub(super) fn on_up(&mut self, peer: Peer) {
        self.lost.found(peer);
        self.links.set_up(peer, true);
    }

    pub(super) fn on_down(&mut self, cx: &mut Cx<'_>, peer: Peer, loss: Loss) {
        self.links.set_up(peer, false);
        self.links.release(peer);
        let was_hub = self.hub.is_some_and(|hub| hub.peer == peer);
        let was_in_line = self.stand_ins.iter().any(|it| it.peer == peer);
        let was_spoke = self.drop_spoke(cx, peer);
        let is_gone = loss != Loss::Closed || was_hub;
        if is_gone && (was_hub || was_in_line || was_spoke) {
            self.lose(cx, peer);
        }
        if was_hub {
            self.lose_hub(cx, SEEK);
        }
        if self.search.asked == Some(peer) {
            self.search.asked = None;
        }
    }

    /// A peer is lost that may live beyond a split.
    fn lose(&mut self, cx: &mut Cx<'_>, peer: Peer) {
        if peer != cx.me() && self.lost.add(cx.now, peer) {
            self.probe_later(cx);
        }
    }

    fn probe_later(&self, cx: &mut Cx<'_>) {
        let span = cx.random.between(PROBE.0, PROBE.1);
        cx.after(span, Timer::Probe);
    }

    /// Asks a peer that was lost who its hub is.
    pub(super) fn on_probe(&mut self, cx: &mut Cx<'_>) {
        if let Some(lost) = self.lost.next(cx.now, cx.random) {
            self.probe_later(cx);
            cx.send(lost, Message::Ask);
        }
    }

    pub(super) fn leave(&mut self, cx: &mut Cx<'_>) {
        // Those in line first: they are next.
        let line = self.stand_ins.iter().map(|it| it.peer);
        let spokes = self.roster.iter().map(|it| it.peer);
        let spokes = spokes.filter(|it| self.stand_ins.iter().all(|other| other.peer != *it));
        let told: Vec<_> = match self.phase {
            Phase::Hub => line.chain(spokes).collect(),
            _ => self.hub.iter().map(|it| it.peer).collect(),
        };
        for peer in told {
            cx.send(peer, Message::Leave);
        }
        self.phase = Phase::Left;
        cx.tell(Event::Left);
    }
}
