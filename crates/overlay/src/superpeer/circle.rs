//! The inner circle: the Chord machine of a superpeer, and what passes between it and the host.

use ringweave_ids::{Guid, Peer, Point};

use super::{Cx, Message, Phase, Superpeer, Timer};
use crate::{Event, Hop, Input, Output, Overlay as _, Target, View, chord, chord::Chord};

/// What the inner machine sees of the world.
pub(super) const fn inner<'a>(view: &View<'a, Superpeer>) -> View<'a, Chord> {
    View {
        config: &view.config.inner,
        me: view.me,
        profile: view.profile,
        host: view.host,
    }
}

/// The word that a peer is not on the inner circle.
pub(super) const LEFT: chord::Message = chord::Message::Leave {
    predecessor: None,
    successors: Vec::new(),
};

impl Superpeer {
    /// Hands an input to the inner machine, if there is one, and passes on what comes of it.
    pub(super) fn drive(&mut self, cx: &mut Cx<'_>, input: Input<Chord>) {
        let Some(circle) = &mut self.circle else {
            return;
        };
        let mut out = Vec::new();
        let mut within = crate::Cx {
            view: inner(&cx.view),
            now: cx.now,
            random: &mut *cx.random,
            out: &mut out,
        };
        circle.handle(&mut within, input);
        for output in out {
            match output {
                Output::Send(peer, message) => cx.send(peer, Message::Inner(message)),
                Output::Open(peer) => cx.out.push(Output::Open(peer)),
                // The leaf that this peer may still be holds some, too.
                Output::Close(peer) if self.links.is_held(peer) => {}
                Output::Close(peer) => cx.out.push(Output::Close(peer)),
                Output::Timer(span, timer) => cx.after(span, Timer::Inner(self.life, timer)),
                Output::Event(event) => self.on_event(cx, event),
            }
        }
    }

    fn on_event(&mut self, cx: &mut Cx<'_>, event: Event<Guid>) {
        match event {
            Event::Placed(_) => self.be_super(cx),
            Event::Changed => {
                self.is_changed = true;
                cx.tell(Event::Changed);
            }
            Event::Fault(kind) => cx.fault(kind),
            Event::Displaced | Event::Refused(_) | Event::Left | Event::Sought { .. } => {}
        }
    }

    /// A new place on the circle, with what this peer knows of connections.
    pub(super) fn open_circle(&mut self, cx: &mut Cx<'_>, contacts: Vec<Peer>) {
        self.life = self.life.wrapping_add(1);
        self.circle = Some(Box::new(Chord::new(&inner(&cx.view))));
        let up = self.links.iter().filter(|link| link.is_up);
        for peer in up.map(|link| link.peer).collect::<Vec<_>>() {
            self.drive(cx, Input::Up(peer));
        }
        self.drive(cx, Input::Join(contacts));
    }

    /// Leaves the circle, telling everybody who may have this peer in a table.
    pub(super) fn close_circle(&mut self, cx: &mut Cx<'_>) {
        self.drive(cx, Input::Leave);
        let Some(circle) = self.circle.take() else {
            return;
        };
        self.life = self.life.wrapping_add(1);
        self.was_inside = true;
        let links: Vec<_> = self
            .links
            .iter()
            .map(|it| (it.peer, it.is_up, it.is_held))
            .collect();
        for (peer, is_up, is_held) in links {
            if is_up && self.leaves.iter().all(|it| it.contact.peer != peer) {
                cx.send(peer, Message::Inner(LEFT));
            }
            if circle.holds(peer) && !is_held {
                cx.out.push(Output::Close(peer));
            }
        }
    }

    /// The inner machine, while this peer has a place on the circle.
    pub(super) fn inside(&self) -> Option<&Chord> {
        let circle = self.circle.as_deref();
        circle.filter(|_| self.phase == Phase::Super)
    }

    /// Whether a point is this superpeer's own.
    pub(super) fn owns(&self, point: Point) -> bool {
        self.inside().is_some_and(|circle| circle.owns(point))
    }

    /// The way to the superpeer that owns a point: `Arrived` if this one does.
    pub(super) fn way(&self, view: &View<'_, Self>, point: Point) -> Hop<Guid> {
        let Some(circle) = self.inside() else {
            return self.first().map_or(Hop::Cut, |it| Hop::To(it.peer));
        };
        match circle.next_hop(&inner(view), &Target::Holder(point.into()), 0) {
            // Nobody is at the point, and it belongs to this one.
            Hop::Nobody => Hop::Arrived,
            hop => hop,
        }
    }
}
