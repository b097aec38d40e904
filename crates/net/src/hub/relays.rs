//! Relays: whether this peer hosts one, which others it uses, and what it tells of that on its card.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use iroh::{Endpoint, RelayConfig, RelayUrl, Watcher as _, endpoint::Connection};
use iroh_relay::RelayQuicConfig;
use ringweave_ids::{Peer, PeerId};
use ringweave_overlay::Host as _;
use tokio::sync::mpsc;

use super::Hub;
use crate::{
    book::Book,
    card::Card,
    door::reachable,
    event::Event,
    handle::PeerEvent,
    link::LinkId,
    note::{self, Note},
    reach::Reach,
    relay::{Host, Site},
    settings::Hosting,
};

/// Relays known to the endpoint at once: it picks the nearest, and is reached through others' picks.
const SITES: usize = 16;
/// Relays that a peer keeps in sight for itself: the one in use, and two for its bad days.
const SPARES: usize = 3;
/// Cards that wait to be passed on; what is more is told by greetings and introductions.
const NEWS: usize = 256;
/// How long changed cards are gathered before they are passed on.
const GATHER: Duration = Duration::from_millis(100);

/// All about relays.
pub(crate) struct Relays {
    hosting: Hosting,
    /// Whether the endpoint uses relays at all.
    is_on: bool,
    pub(super) reach: Reach,
    host: Option<Box<Host>>,
    is_starting: bool,
    /// What the endpoint knows, the longest unused first.
    sites: Vec<Site>,
    /// The relay through which this peer is reached.
    home: Option<Site>,
    /// Peers whose cards changed.
    news: Vec<Peer>,
}

/// A relay that the endpoint does not know yet.
pub(super) type Fresh = (RelayUrl, Arc<RelayConfig>);

impl Relays {
    pub(crate) fn new(hosting: Hosting, is_on: bool, reach: Reach) -> Self {
        Self {
            hosting,
            is_on,
            reach,
            host: None,
            is_starting: false,
            sites: Vec::new(),
            home: None,
            news: Vec::new(),
        }
    }

    /// The relay that this peer hosts.
    pub(super) fn hosted(&self) -> Option<Site> {
        self.host.as_ref().map(|host| host.site)
    }

    /// The relay through which others reach this peer.
    pub(super) const fn home(&self) -> Option<Site> {
        self.home
    }

    /// Ends the relay, if there is one.
    pub(super) async fn stop(&mut self) {
        if let Some(host) = self.host.take() {
            host.stop().await;
        }
    }
}

/// Tells the event loop which relay passes packets on to this peer.
async fn watch_home(endpoint: Endpoint, report: mpsc::Sender<Event>) {
    let mut told = endpoint.home_relay_status().stream();
    // The stream must not keep the endpoint.
    drop(endpoint);
    while let Some(homes) = told.next().await {
        let site = |is_wanted: &dyn Fn(&iroh::endpoint::RelayStatus) -> bool| {
            let home = homes.iter().find(|home| is_wanted(home))?;
            Site::read(home.url().as_str())
        };
        let home = Event::Home {
            found: site(&|home| home.is_connected()),
            lost: site(&|home| !home.is_connected() && home.last_error().is_some()),
        };
        if report.send(home).await.is_err() {
            return;
        }
    }
}

/// Tells the event loop whenever the way of a link's packets may be another.
async fn watch_paths(connection: Connection, link: LinkId, report: mpsc::Sender<Event>) {
    let mut changes = connection.path_events();
    // The stream ends with the connection, which must not live on for its sake.
    drop(connection);
    while changes.next().await.is_some() {
        if report.send(Event::Rerouted(link)).await.is_err() {
            return;
        }
    }
}

impl Hub {
    /// Starts what goes on as long as the peer lives.
    pub(super) fn start_relays(&mut self) {
        if !self.relays.is_on {
            return;
        }
        let home = watch_home(self.endpoint.clone(), self.report.clone());
        self.tasks.spawn(home);
        if self.relays.hosting == Hosting::Always {
            let addresses = self.book.addresses(Book::ME);
            let ip = match self.relays.reach {
                Reach::Unproven(ip) | Reach::Proven(ip) => Some(ip),
                _ => addresses.first().map(|address| address.ip()),
            };
            if let Some(ip) = ip {
                self.host_relay(ip);
            }
        }
    }

    /// Follows the way of a link's packets.
    pub(super) fn follow(&mut self, connection: &Connection, link: LinkId) {
        if self.relays.is_on {
            let paths = watch_paths(connection.clone(), link, self.report.clone());
            self.tasks.spawn(paths);
        }
    }

    /// A peer from elsewhere dialled this one at a public address. It says nothing if this peer knew
    /// the other before: a firewall lets answers in.
    pub(super) fn on_reached(&mut self, by: &PeerId, at: IpAddr) {
        let is_known = self.book.peer(by).is_some_and(|peer| {
            self.slots
                .get(peer.0 as usize)
                .is_some_and(|slot| slot.link.is_some() || slot.dial.is_some())
        });
        if is_known || self.relays.reach.is_proven() {
            return;
        }
        self.relays.reach = Reach::Proven(at);
        if self.relays.hosting == Hosting::WhenReached {
            self.host_relay(at);
        }
    }

    fn host_relay(&mut self, at: IpAddr) {
        let socket = self.about.listen.iter();
        let socket = socket
            .copied()
            .find(|socket| socket.is_ipv4() == at.is_ipv4());
        let Some(socket) = socket.filter(|_| self.relays.is_on && !self.relays.is_starting) else {
            return;
        };
        self.relays.is_starting = true;
        let (key, gate) = (self.endpoint.secret_key().clone(), Arc::clone(&self.gate));
        let report = self.report.clone();
        self.tasks.spawn(async move {
            let host = Host::start(&key, gate, socket, at).await.map(Box::new);
            // The loop may be gone.
            let _ = report.send(Event::Hosting(host)).await;
        });
    }

    pub(super) fn on_hosting(&mut self, host: io::Result<Box<Host>>) {
        match host {
            Ok(host) => {
                tracing::info!("hosts a relay at {}", host.site.address);
                self.relays.host = Some(host);
                self.renew_card();
            }
            Err(error) => tracing::warn!(
                "hosts no relay, as the system gives it no port: {error}. Peers behind NATs need one \
                 of another peer; start this one again to have it try again"
            ),
        }
    }

    /// The relay that passes packets on to this peer is another, or out of reach.
    pub(super) fn on_home(&mut self, found: Option<Site>, lost: Option<Site>) {
        if let Some(lost) = lost
            && self.relays.sites.len() > 1
        {
            // The endpoint picks another; this one comes back with the next word of its host.
            self.relays.sites.retain(|site| *site != lost);
            let (endpoint, url) = (self.endpoint.clone(), lost.url());
            self.tasks.spawn(async move {
                endpoint.remove_relay(&url).await;
            });
        }
        if found.is_some() && found != self.relays.home {
            self.relays.home = found;
            self.renew_card();
        }
    }

    /// A newer card of a neighbour: a relay on it may serve this peer, too, if nobody can dial it.
    pub(super) fn consider(&mut self, peer: Peer) {
        if let Some(site) = self.site(peer) {
            self.consider_site(site);
        }
    }

    fn consider_site(&mut self, site: Site) {
        let has_enough = self.relays.reach.is_proven() || self.relays.sites.len() >= SPARES;
        if !has_enough && let Some((url, config)) = self.want(site) {
            let endpoint = self.endpoint.clone();
            self.tasks.spawn(async move {
                endpoint.insert_relay(url, config).await;
            });
        }
    }

    /// The relay on a peer's card, if this peer uses relays.
    pub(super) fn site(&self, peer: Peer) -> Option<Site> {
        self.site_on(self.book.told(peer)?)
    }

    fn site_on(&self, card: &Card) -> Option<Site> {
        let site = Site::read(card.relay.as_deref()?)?;
        // What a card from elsewhere says of this very machine is no relay.
        let is_fine = self.relays.reach == Reach::Loopback || !site.address.ip().is_loopback();
        (self.relays.is_on && is_fine).then_some(site)
    }

    /// Makes a relay one that the endpoint may use; what to tell the endpoint, if it is new.
    pub(super) fn want(&mut self, site: Site) -> Option<Fresh> {
        let sites = &mut self.relays.sites;
        if let Some(place) = sites.iter().position(|known| *known == site) {
            sites[place..].rotate_left(1);
            return None;
        }
        if sites.len() >= SITES {
            let home = self.relays.home;
            let place = sites.iter().position(|known| Some(*known) != home)?;
            let (endpoint, url) = (self.endpoint.clone(), sites.remove(place).url());
            self.tasks.spawn(async move {
                endpoint.remove_relay(&url).await;
            });
        }
        sites.push(site);
        let mirror = Some(RelayQuicConfig::new(site.mirror));
        let config =
            RelayConfig::new(site.url(), mirror).with_auth_token(self.gate.pass(&site.host));
        Some((site.url(), Arc::new(config)))
    }

    /// Writes a new card if where this peer is reached has changed.
    pub(super) fn renew_card(&mut self) {
        let addresses = reachable(&self.about.listen);
        let relay = match (self.relays.hosted(), self.relays.reach) {
            (Some(site), _) => Some(site),
            (None, Reach::Proven(_)) => None,
            (None, _) => self.relays.home,
        };
        let relay = relay.map(|site| site.text());
        let Some(told) = self.book.told(Book::ME) else {
            return;
        };
        if told.relay == relay && told.addresses == addresses {
            return;
        }
        let card = Card {
            addresses,
            relay,
            ..told.clone()
        };
        let signed = self.book.renew(card);
        self.gate.renew(signed);
        self.spread_card(Book::ME);
    }

    fn spread_card(&mut self, of: Peer) {
        let news = &mut self.relays.news;
        if news.len() < NEWS && !news.contains(&of) {
            news.push(of);
            self.next_tick = self.next_tick.min(self.now + GATHER);
        }
    }

    /// A neighbour passes on cards: its own, or those of its neighbours. Only what comes from its owner
    /// is passed on, so that it goes two links far and no further.
    pub(super) fn on_cards(&mut self, link: LinkId, cards: Vec<note::Told>) {
        for (id, card) in cards {
            let Some(peer) = self.book.peer(&id) else {
                // A stranger is introduced when it matters, but its relay may be of use before.
                self.on_host(&id, &card);
                continue;
            };
            if !self.book.learn(peer, &card) {
                continue;
            }
            self.rests.forget(&id);
            self.consider(peer);
            self.redial(peer);
            if peer == link.peer {
                self.contacts.note(&self.book, peer);
                self.spread_card(peer);
            }
        }
    }

    /// The card of a peer that this one has nothing to do with, but that hosts a relay.
    fn on_host(&mut self, id: &PeerId, card: &[u8]) {
        if let Some((card, signature)) = Card::read(card)
            && let Some(site) = self.site_on(&card).filter(|site| site.host == *id)
            && card.is_by(id, &signature)
        {
            self.consider_site(site);
        }
    }

    /// Names relays to a new neighbour, so that it knows another one when the one that it uses, often
    /// this peer's, is gone.
    pub(super) fn name_hosts(&mut self, to: Peer) {
        if !self.relays.is_on {
            return;
        }
        let links = self.slots.iter().filter_map(|slot| slot.link.as_deref());
        let hosts = links.map(|link| link.id.peer).filter(|peer| {
            let id = self.book.id(*peer);
            *peer != to && self.site(*peer).is_some_and(|site| site.host == id)
        });
        let cards: Vec<note::Told> = hosts
            .take(SPARES)
            .map(|peer| (self.book.id(peer), self.book.card(peer)))
            .collect();
        if let Some(link) = self.link(to).filter(|_| !cards.is_empty()) {
            let sending = note::send(link.connection.clone(), Note::Cards(cards));
            self.tasks.spawn(sending);
        }
    }

    /// Passes on the cards that changed.
    pub(super) fn tell_news(&mut self) {
        let news = std::mem::take(&mut self.relays.news);
        if news.is_empty() {
            return;
        }
        let links = self.slots.iter().filter_map(|slot| slot.link.as_deref());
        for link in links {
            let cards: Vec<note::Told> = news
                .iter()
                .filter(|peer| **peer != link.id.peer && self.book.has(**peer))
                .map(|peer| (self.book.id(*peer), self.book.card(*peer)))
                .collect();
            for cards in cards.chunks(note::CARDS) {
                let sending = note::send(link.connection.clone(), Note::Cards(cards.to_vec()));
                self.tasks.spawn(sending);
            }
        }
    }

    /// Packets of a link may go another way: says so if they do.
    pub(super) fn on_rerouted(&mut self, link: LinkId) {
        let Some(link) = self.link_mut(link) else {
            return;
        };
        let Some(way) = super::paths::way(&link.connection) else {
            return;
        };
        if link.way == Some(way) {
            return;
        }
        link.way = Some(way);
        let peer = link.id.peer;
        self.watch(PeerEvent::Path {
            peer: self.book.id(peer),
            path: way.word().into(),
            relay: way.relay(),
        });
    }
}
