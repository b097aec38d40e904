//! After every input: what follows from what changed in the rosters. Tables, the GUID, connections to hold,
//! who is to be told, and duties.

use std::sync::Arc;

use ringweave_ids::{Guid, Peer};
use smallvec::SmallVec;

use super::{
    Cx, NEW, Phase, Polyring, Position, PositionId, has_passed,
    ring::Change,
    table::{Link, Rank, Role},
};
use crate::{Event, Output, links};
/// What an input changed besides rosters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// A connection stands, or stands no more.
    pub(super) has_relinked: bool,
    /// It was a connection to a neighbour in the table.
    pub(super) has_rerouted: bool,
    /// I sit elsewhere: all rosters are other ones.
    pub(super) has_moved: bool,
    /// My parent's GUID is another.
    pub(super) has_new_prefix: bool,
    /// The center has other longest-granted members.
    pub(super) has_new_center: bool,
    /// Time has passed, for those that wait for it.
    pub(super) has_aged: bool,
}

impl Polyring {
    /// Derives what follows from what changed: GUID, connections to hold, table, duties.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>) {
        if self.record.is_none() || self.phase == Phase::Left {
            return;
        }
        if self.own.change() == Change::Shape {
            self.refute(cx);
        }
        if self.above.change() == Change::Shape {
            Arc::make_mut(&mut self.above).outline(self.own.id);
        }
        let news = std::mem::take(&mut self.news);
        let mut changes = self.settle_rings();
        if news.has_moved {
            changes = [Change::Shape; 3];
        }
        let [own, below, _] = changes;
        if news == News::default() && changes == [Change::Nothing; 3] {
            return;
        }
        let is_reshaped = changes.contains(&Change::Shape);
        let tells = own > Change::Nothing && !self.below.is_empty();
        let known = match tells {
            true => self.outline(),
            false => SmallVec::new(),
        };
        let rank = self.table.rank;
        if is_reshaped {
            self.derive_tables(changes);
            self.hold_links(cx);
        }
        let is_reranked = self.table.rank != rank;
        if own > Change::Nothing {
            let known = if news.has_moved {
                self.outline()
            } else {
                known
            };
            self.tell_outline(cx, &known);
        }
        self.watch_lead(cx);
        if news.has_new_prefix || own == Change::Shape {
            self.derive_guid(cx);
        }
        if self.own.id == PositionId::CENTER && own == Change::Shape {
            self.note_center(cx);
            let center = self.center(cx).into_vec();
            self.news_of_center(cx, center);
        } else if news.has_new_center {
            self.tell_children(cx);
        }
        if self.relabel(cx) {
            let changes = [self.own.change(), self.below.change(), Change::Nothing];
            self.derive_tables(changes);
        }
        self.watch_parent(cx);
        let may_lead_anew = news.has_rerouted && self.has_mates();
        if is_reranked || below > Change::Nothing || may_lead_anew || news.has_aged {
            self.count(cx);
            self.staff(cx);
        }
        self.serve_waiting(cx);
        if self.phase == Phase::Settling {
            self.on_ready(cx, false);
        }
        if self.phase == Phase::Placed && (is_reshaped || news.has_new_prefix || news.has_rerouted)
        {
            cx.tell(Event::Changed);
        }
    }

    /// What has become of the rosters since; from now on, nothing has.
    pub(super) fn settle_rings(&mut self) -> [Change; 3] {
        let above = match self.above.change() {
            Change::Nothing => Change::Nothing,
            _ => Arc::make_mut(&mut self.above).settle(),
        };
        [self.own.settle(), self.below.settle(), above]
    }

    fn hold_links(&mut self, cx: &mut Cx<'_>) {
        let missing = self.neighbourhood(cx.me(), |link| !link.is_held);
        while let Some(peer) = self.links.surplus() {
            self.links.release(peer);
            // A question under way is seen to its end: it may be a neighbour again in a moment.
            if self.heal.is_vouched(peer) || self.living_anywhere(peer).is_none() {
                self.heal.forget(peer);
            }
            cx.out.push(Output::Close(peer));
        }
        self.links.tidy();
        let mut is_missing = false;
        // Who came last dials; the others only if it does not.
        let is_new = !has_passed(cx.now, self.join.placed_at, NEW);
        for peer in missing {
            if is_new || self.is_up(peer) {
                self.links.hold(peer);
                cx.out.push(Output::Open(peer));
                if self.is_up(peer) && !self.sync.is_content(peer) {
                    // Connected for another reason, so that no `Up` will follow.
                    self.send_hello(cx, peer);
                } else if self.table.is_first_above(peer) {
                    self.send_lineage(cx, peer);
                }
            } else {
                is_missing = true;
            }
        }
        if is_missing {
            self.sync.arm_dial(cx);
        }
    }

    /// The neighbours: own ring, members of the parent position, child ring; of a cluster those that
    /// this peer is paired with. Links know them anew. Gives those whose links are meant.
    pub(super) fn neighbourhood(
        &mut self,
        me: Peer,
        is_meant: impl Fn(&links::Link<Role>) -> bool,
    ) -> links::Linked {
        let Self { table, links, .. } = self;
        let siblings = table.partners(&table.own).map(|peer| (peer, Role::Sibling));
        let parents = table.rank.partners(&table.parent);
        let parents = parents.map(|link| (link.peer, Role::Parent));
        let children = table.partners(&table.below).map(|peer| (peer, Role::Child));
        let neighbours = siblings.chain(parents).chain(children);
        links.want(neighbours.filter(|(peer, _)| *peer != me), is_meant)
    }

    /// Whether other members hold my position, too.
    pub(super) fn has_mates(&self) -> bool {
        self.table.rank.of > 1
    }

    /// The other members of my position.
    pub(super) fn mates(&self, me: Peer) -> SmallVec<[Peer; 4]> {
        let members = self.table.own.members_at(self.table.mine).iter();
        members
            .map(|link| link.peer)
            .filter(|peer| *peer != me)
            .collect()
    }

    fn derive_guid(&mut self, cx: &mut Cx<'_>) {
        if !self.place() {
            return;
        }
        for child in self.living_peers(&self.below, cx.me()) {
            self.send_lineage(cx, child);
        }
        if self.phase == Phase::Placed {
            cx.tell(Event::Placed(self.guid.clone()));
        }
    }

    /// As a member of the center: tells the children if its longest-granted members are others.
    fn news_of_center(&mut self, cx: &mut Cx<'_>, center: Vec<Peer>) {
        if self.learn_center(center) {
            self.tell_children(cx);
        }
    }

    /// Tells the children where they sit, each by the first of my position that is paired with it.
    fn tell_children(&self, cx: &mut Cx<'_>) {
        let mine = self.table.rank;
        let mut told: SmallVec<[Peer; 64]> = SmallVec::new();
        for cell in self.table.below.cells() {
            let members = self.table.below.members(cell);
            if mine.is_first(members.len() as u16) {
                told.extend(mine.partners(members).map(|link| link.peer));
            }
        }
        for child in told {
            self.send_lineage(cx, child);
        }
    }

    /// Takes other ancestors; whether the prefix is another one.
    pub(super) fn follow(&mut self, lineage: Vec<Position>) -> bool {
        let prefix = lineage.iter().fold(Guid::center(), |prefix, position| {
            prefix.child(ringweave_ids::Step {
                coordinate: position.coordinate(),
                tag: position.id().tag(),
            })
        });
        self.lineage = lineage;
        let is_other = self.prefix != prefix;
        self.prefix = prefix;
        is_other
    }

    /// My ancestors as my children have them: mine, and my position.
    pub(super) fn lineage_below(&self) -> Vec<Position> {
        let mine = self.own.position(self.position_id());
        self.lineage.iter().chain(mine).cloned().collect()
    }

    /// Puts the GUID together from the prefix and the position's label; whether it is another one.
    pub(super) fn place(&mut self) -> bool {
        let position = self.position_id();
        let Some(coordinate) = self.own.coordinate(position) else {
            return false;
        };
        let tag = position.tag();
        let step = ringweave_ids::Step { coordinate, tag };
        let guid = self.prefix.child(step);
        let is_other = guid != self.guid;
        self.guid = guid;
        is_other
    }

    /// Derives the tables anew, as far as their rings have other shapes.
    pub(super) fn derive_tables(&mut self, [own, below, above]: [Change; 3]) {
        let is_up = |peer| self.links.is_up(peer);
        (self.table.mine, self.table.above) = (self.position_id(), self.own.id);
        if own == Change::Shape {
            self.table.own.derive(&self.own, is_up);
            let mates = self.table.own.members_at(self.table.mine);
            let rank = self.me().and_then(|me| Rank::among(mates, me));
            self.table.rank = rank.unwrap_or_default();
            self.table.outline = None;
        }
        if below == Change::Shape {
            self.table.below.derive(&self.below, is_up);
        }
        if above == Change::Shape {
            let parents = self.above.peers_of(self.own.id);
            self.table.parent = parents
                .map(|peer| Link {
                    peer,
                    is_up: is_up(peer),
                })
                .collect();
        }
    }
}
