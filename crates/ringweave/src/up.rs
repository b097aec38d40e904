//! `up`: one peer in the foreground, until Ctrl-C.

use std::{
    io::{self, IsTerminal as _},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use ringweave_api::{Door, Server, Word, body::StatusAnswer};
use ringweave_ids::{Guid, PeerId};
use ringweave_net::{Data, Entrance, Handle, PeerEvent, Settings};
use serde::Serialize;
use serde_json::json;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::broadcast::{Receiver, error::RecvError},
};

use crate::{draw, exit::Problem, print, settings::Up};

/// How long leaving may take before the process ends anyway.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs a peer until it is told to stop, or has left.
pub(crate) async fn run(up: Up, is_json: bool) -> Result<(), Problem> {
    let mut stop = Stop::new()?;
    // The port first: one in use is found out before anybody hears of this peer.
    let door = Door::bind(up.api).await?;
    let data = up.data.clone();
    let settings = Settings {
        data: Data::Directory(up.data),
        listen: up.listen,
        // Without an invite: the remembered network, or a new one.
        entrance: up
            .join
            .map_or(Entrance::New, |invite| Entrance::Join(Box::new(invite))),
        shape: up.shape,
        name: up.name,
        label: up.label,
        lan: up.lan,
        relay: up.relay,
        chance: None,
    };
    if !is_json {
        eprintln!("joining...");
    }
    let peer = tokio::select! {
        started = ringweave_net::start(settings) => started?,
        () = stop.told() => return Err(Problem::new(Word::Failed, "stopped before the peer had joined")),
    };
    let events = peer.events();
    let server = door.open(peer.clone(), &data)?;
    let ready = if is_json {
        print_ready(&peer, &server).await
    } else {
        welcome(&peer, &server).await
    };
    let ended = match ready {
        Ok(()) => tokio::select! {
            ended = watch(events, is_json) => ended,
            () = stop.told() => Ok(()),
        },
        Err(problem) => Err(problem),
    };
    if !is_json {
        eprintln!("leaving...");
    }
    let farewell = async {
        peer.leave().await;
        server.shut().await;
    };
    tokio::select! {
        _ = tokio::time::timeout(FAREWELL, farewell) => {}
        // Told twice: at once.
        () = stop.told() => {}
    }
    if is_json && ended.is_ok() {
        // A reader that has gone away need not know that the peer has left, too.
        let _ = print::json(&PeerEvent::Left);
    }
    ended
}

/// The first object: who, where, and how others and programs get in.
async fn print_ready(peer: &Handle, server: &Server) -> Result<(), Problem> {
    let status = peer.status().await.map_err(stopped)?;
    let invite = peer.invite().await.map_err(stopped)?;
    print::json(&Ready {
        event: "ready",
        peer_id: status.peer_id,
        guid: status.guid,
        invite: invite.to_string(),
        api: server.url(),
        token_file: server.token_file(),
        network: status.network,
        listen: status.listen,
    })
}

/// What programs read of a peer that has joined.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    peer_id: PeerId,
    guid: Option<Guid>,
    invite: String,
    api: &'a str,
    token_file: &'a Path,
    network: String,
    listen: Vec<SocketAddr>,
}

async fn welcome(peer: &Handle, server: &Server) -> Result<(), Problem> {
    let status = StatusAnswer::from(peer.status().await.map_err(stopped)?);
    let invite = peer.invite().await.map_err(stopped)?;
    let text = invite.to_string();
    let listen = status
        .listen
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    let lines = draw::pairs(&[
        ("peer", Some(status.peer_id.to_string())),
        ("name", status.name.clone()),
        ("place", status.guid.as_ref().map(ToString::to_string)),
        ("network", Some(status.network.clone())),
        ("listens", Some(listen)),
        (
            "api",
            Some(format!(
                "{} (token in {})",
                server.url(),
                server.token_file().display()
            )),
        ),
    ]);
    print::line(lines)?;
    if invite.carries_secret() {
        print::line(
            "Others join with this invite. It lets whoever holds it in, so hand it over in a file:",
        )?;
        print::line(format!("\n  {text}\n\n  ringweave up --join @FILE\n"))?;
    } else {
        print::line(format!(
            "Others join with\n\n  ringweave up --join {text}\n"
        ))?;
    }
    if io::stdout().is_terminal()
        && let Some(code) = draw::qr(&text)
    {
        print::line(code)?;
    }
    print::line(
        "From another terminal: ringweave status | peers | tree | send PEER TEXT | listen",
    )?;
    print::line("Ctrl-C leaves the network.")
}

/// Prints what happens, until the peer has left.
async fn watch(mut events: Receiver<PeerEvent>, is_json: bool) -> Result<(), Problem> {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(count)) if is_json => {
                print::json(&json!({"event": "missed", "count": count}))?;
                continue;
            }
            Err(RecvError::Lagged(count)) => {
                print::line(format!("{count} events are not shown: too many at once"))?;
                continue;
            }
            Err(RecvError::Closed) => {
                return Err(Problem::new(Word::Failed, "the peer has stopped by itself"));
            }
        };
        match &event {
            PeerEvent::Left => return Ok(()),
            PeerEvent::Refused { why } => {
                if is_json {
                    print::json(&event)?;
                }
                return Err(Problem::new(
                    Word::Denied,
                    format!("the network refused this peer: {why}"),
                ));
            }
            _ if is_json => print::json(&event)?,
            PeerEvent::Placed { guid } => print::line(format!("placed at {guid}"))?,
            PeerEvent::Displaced => print::line("lost its place, joining again")?,
            PeerEvent::Up { peer } => print::line(format!("linked with {}", peer.short()))?,
            PeerEvent::Down { peer, why } => print::line(format!("lost {} ({why})", peer.short()))?,
            PeerEvent::Path { peer, path, .. } => {
                print::line(format!("{} is reached by {path}", peer.short()))?;
            }
            PeerEvent::Evolving {
                topology,
                evolution,
            } => print::line(match evolution {
                Some(it) => format!(
                    "the network moves from {} to {}: {}",
                    it.from, it.to, it.stage
                ),
                None => format!("the network is settled: {topology}"),
            })?,
        }
    }
}

fn stopped(error: ringweave_net::CallError) -> Problem {
    Problem::new(Word::Failed, error)
}

/// The two signals that end a peer.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self, Problem> {
        let on = |kind| {
            signal(kind).map_err(|error| {
                Problem::new(Word::Failed, format!("cannot watch for signals: {error}"))
            })
        };
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
        })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
