//! The commands that ask a running peer, each an object for programs and a few lines for people.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use ringweave_api::{
    Client, Fault, Lines, Word,
    body::{
        BroadcastBody, EvolveBody, HopAnswer, MessageEvent, MulticastBody, Outcome, Payload,
        ReceiverResult, SendBody, StatusAnswer, TraceAnswer, TraceBody, Undelivered,
    },
    whom,
};
use ringweave_ids::{Guid, PeerId};
use ringweave_net::Topology;
use ringweave_node::MAX_PAYLOAD;
use serde::Serialize;
use serde_json::json;

use crate::{
    cli::{BroadcastArgs, EvolveArgs, MulticastArgs, PeerArgs, SendArgs, TreeArgs},
    draw,
    exit::Problem,
    print,
};

/// Between two looks at how far the network is.
const LOOK: Duration = Duration::from_millis(200);

/// Where the answers go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// The running peer's data directory.
    pub(crate) data: &'a Path,
    /// Objects instead of lines.
    pub(crate) is_json: bool,
}

impl Ask<'_> {
    pub(crate) async fn status(self) -> Result<(), Problem> {
        let status = self.client()?.status().await?;
        if self.is_json {
            print::json(&status)
        } else {
            print::line(status_lines(&status).trim_end())
        }
    }

    pub(crate) async fn id(self) -> Result<(), Problem> {
        let peer_id = self.client()?.status().await?.peer_id;
        if self.is_json {
            print::json(&json!({ "peer_id": peer_id }))
        } else {
            print::line(peer_id.to_string())
        }
    }

    pub(crate) async fn peers(self) -> Result<(), Problem> {
        let answer = self.client()?.peers().await?;
        if self.is_json {
            return print::json(&answer);
        }
        let rows: Vec<Vec<String>> = answer
            .peers
            .into_iter()
            .map(|peer| {
                let round_trip = peer
                    .round_trip_ms
                    .map_or_else(|| "-".into(), |ms| format!("{ms:.2} ms"));
                let path = match &peer.relay {
                    Some(host) => format!("{} {}", peer.path, host.short()),
                    None => peer.path,
                };
                vec![
                    peer.guid.to_string(),
                    peer.role,
                    peer.peer_id.short(),
                    path,
                    round_trip,
                    peer.addresses.join(" "),
                    peer.why,
                ]
            })
            .collect();
        print::line(
            draw::table(
                &[
                    "GUID",
                    "ROLE",
                    "PEER",
                    "PATH",
                    "ROUND TRIP",
                    "ADDRESSES",
                    "WHY",
                ],
                &rows,
            )
            .trim_end(),
        )
    }

    pub(crate) async fn tree(self, args: TreeArgs) -> Result<(), Problem> {
        let client = self.client()?;
        let answer = client.tree(args.limit.into()).await?;
        if self.is_json {
            return print::json(&answer);
        }
        let me = client.status().await?.peer_id;
        print::line(draw::tree(&answer, Some(&me)).trim_end())
    }

    pub(crate) async fn invite(self) -> Result<(), Problem> {
        let answer = self.client()?.invite().await?;
        if self.is_json {
            return print::json(&answer);
        }
        if answer.carries_secret {
            eprintln!(
                "This invite lets whoever holds it into the network; keep it to those you invite."
            );
        }
        print::line(answer.invite)
    }

    pub(crate) async fn ping(self, args: PeerArgs) -> Result<(), Problem> {
        let answer = self.follow(args).await?;
        let Some(last) = answer.hops.last() else {
            return Err(Problem::new(Word::Failed, "the peer told of no hop"));
        };
        let hops = answer.hops.len() - 1;
        if self.is_json {
            let HopAnswer {
                peer_id,
                guid,
                round_trip_ms,
            } = last;
            return print::json(&Pong {
                peer_id,
                guid,
                hops,
                ms: *round_trip_ms,
            });
        }
        print::line(format!(
            "{} at {}: {hops} hops, {:.2} ms",
            last.peer_id.short(),
            last.guid,
            last.round_trip_ms
        ))
    }

    pub(crate) async fn trace(self, args: PeerArgs) -> Result<(), Problem> {
        let answer = self.follow(args).await?;
        if self.is_json {
            return print::json(&answer);
        }
        let rows: Vec<Vec<String>> = answer
            .hops
            .iter()
            .enumerate()
            .map(|(n, hop)| {
                let round_trip = if n == 0 {
                    "-".into()
                } else {
                    format!("{:.2} ms", hop.round_trip_ms)
                };
                vec![
                    n.to_string(),
                    hop.guid.to_string(),
                    hop.peer_id.short(),
                    round_trip,
                ]
            })
            .collect();
        print::line(draw::table(&["HOP", "GUID", "PEER", "ROUND TRIP"], &rows).trim_end())
    }

    async fn follow(self, args: PeerArgs) -> Result<TraceAnswer, Problem> {
        whom(&args.peer)?;
        Ok(self.client()?.trace(&TraceBody { to: args.peer }).await?)
    }

    /// Begins to move the network, and follows it until it has moved.
    pub(crate) async fn evolve(self, args: EvolveArgs) -> Result<(), Problem> {
        let to = args.to.parse::<Topology>().map_err(Problem::usage)?.name();
        let client = self.client()?;
        let began = Instant::now();
        let mut status = client.status().await?;
        let from = status.topology.clone();
        if from != to || status.evolution.is_some() {
            let body = EvolveBody { to: to.into() };
            status = client.evolve(&body).await?;
        }
        let bar = self.spinner();
        while let Some(evolution) = &status.evolution {
            bar.set_message(format!(
                "{} -> {}: {}",
                evolution.from, evolution.to, evolution.stage
            ));
            tokio::time::sleep(LOOK).await;
            status = client.status().await?;
        }
        bar.finish_and_clear();
        if status.topology != to {
            let why = format!(
                "not everybody found a place in {to} within two minutes; the network stays {from}"
            );
            return Err(Problem::new(Word::Timeout, why));
        }
        let ms = began.elapsed().as_secs_f64() * 1_000.0;
        if self.is_json {
            return print::json(&Evolved { from, to, ms });
        }
        print::line(format!(
            "the network moved from {from} to {to} in {:.1} s",
            ms / 1_000.0
        ))
    }

    /// A sign of life on standard error, where a person watches.
    fn spinner(self) -> ProgressBar {
        if self.is_json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(LOOK);
        bar
    }

    /// A failure is told as an object that a program reads as it reads a success.
    pub(crate) async fn send(self, args: SendArgs) -> Result<(), Problem> {
        let sent = async {
            whom(&args.peer)?;
            let payload = payload(args.text)?;
            Ok(self
                .client()?
                .send(&SendBody {
                    to: args.peer,
                    payload,
                })
                .await?)
        };
        match sent.await {
            Ok(answer) if self.is_json => print::json(&answer),
            Ok(answer) => {
                let place = answer
                    .guid
                    .map(|guid| format!(" at {guid}"))
                    .unwrap_or_default();
                let to = answer.peer_id.short();
                print::line(format!(
                    "delivered to {to}{place}: {} hops, {:.2} ms",
                    answer.hops, answer.ms
                ))
            }
            Err(problem) => Err(self.told(problem)?),
        }
    }

    /// Ends with the first receiver's problem, if there is one.
    pub(crate) async fn multicast(self, args: MulticastArgs) -> Result<(), Problem> {
        let sent = async {
            for peer in &args.peers {
                whom(peer)?;
            }
            let payload = payload(args.text)?;
            Ok(self
                .client()?
                .multicast(&MulticastBody {
                    to: args.peers,
                    payload,
                })
                .await?)
        };
        let answer = match sent.await {
            Ok(answer) => answer,
            Err(problem) => return Err(self.told(problem)?),
        };
        if self.is_json {
            print::json(&answer)?;
        } else {
            let rows: Vec<Vec<String>> = answer.results.iter().map(result_row).collect();
            print::line(draw::table(&["TO", "GUID", "HOPS", "TIME", "RESULT"], &rows).trim_end())?;
        }
        let failed = answer
            .results
            .into_iter()
            .find_map(|result| match result.outcome {
                Outcome::Undelivered(Undelivered { fault, .. }) => Some(fault),
                Outcome::Delivered(_) => None,
            });
        failed.map_or(Ok(()), |fault| Err(Problem::from(fault).told()))
    }

    pub(crate) async fn broadcast(self, args: BroadcastArgs) -> Result<(), Problem> {
        let payload = payload(args.text)?;
        let answer = self
            .client()?
            .broadcast(&BroadcastBody {
                below: None,
                payload,
            })
            .await?;
        if self.is_json {
            return print::json(&answer);
        }
        print::line(format!(
            "{} peers hold it, this one included; {:.2} ms",
            answer.reached, answer.ms
        ))
    }

    /// Prints messages until the peer stops, another listener takes over, or Ctrl-C.
    pub(crate) async fn listen(self) -> Result<(), Problem> {
        let mut lines = self.client()?.listen().await?;
        tokio::select! {
            ended = self.print_all(&mut lines) => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }

    async fn print_all(self, lines: &mut Lines) -> Result<(), Problem> {
        while let Some(line) = lines.next().await? {
            if self.is_json {
                print::line(line)?;
                continue;
            }
            let event: MessageEvent = serde_json::from_str(&line).map_err(|error| {
                Problem::new(Word::Failed, format!("the peer sent an odd line: {error}"))
            })?;
            let kind = serde_json::to_value(event.kind).ok();
            let kind = kind
                .as_ref()
                .and_then(|kind| kind.as_str())
                .unwrap_or_default()
                .to_owned();
            let late = if event.late { " (late)" } else { "" };
            print::line(format!(
                "{}  {kind} {}{late}: {}",
                event.from.short(),
                event.seq,
                event.payload.payload
            ))?;
        }
        Err(Problem::new(
            Word::Stopped,
            "the stream has ended: the peer stopped, or another listener took over",
        ))
    }

    pub(crate) fn client(self) -> Result<Client, Problem> {
        Ok(Client::open(self.data)?)
    }

    /// Prints a failed delivery where programs look for the result; the problem goes on to people.
    fn told(self, problem: Problem) -> Result<Problem, Problem> {
        if self.is_json {
            let mut fault: Fault = problem.fault.clone();
            // To a sender, a peer that does not run is one more missing route.
            if fault.error == Word::Stopped {
                fault.error = Word::NoRoute;
            }
            print::json(&Undelivered::from(fault))?;
        }
        Ok(problem.told())
    }
}

/// A network that moved.
#[derive(Serialize)]
struct Evolved {
    from: String,
    to: &'static str,
    ms: f64,
}

/// The answer to a ping.
#[derive(Serialize)]
struct Pong<'a> {
    peer_id: &'a PeerId,
    guid: &'a Guid,
    hops: usize,
    ms: f64,
}

fn payload(text: String) -> Result<Payload, Problem> {
    if text.len() > MAX_PAYLOAD {
        let message = format!(
            "the text has {} bytes, over the limit of {MAX_PAYLOAD}; send it in parts",
            text.len()
        );
        return Err(Problem::new(Word::TooLarge, message));
    }
    Ok(Payload::text(text))
}

fn result_row(result: &ReceiverResult) -> Vec<String> {
    let to = result.to.clone();
    match &result.outcome {
        Outcome::Delivered(done) => {
            let guid = done
                .guid
                .as_ref()
                .map_or_else(|| "-".into(), ToString::to_string);
            vec![
                to,
                guid,
                done.hops.to_string(),
                format!("{:.2} ms", done.ms),
                "delivered".into(),
            ]
        }
        Outcome::Undelivered(failed) => vec![
            to,
            "-".into(),
            "-".into(),
            "-".into(),
            failed.fault.message.clone(),
        ],
    }
}

fn status_lines(status: &StatusAnswer) -> String {
    let counters = &status.counters;
    let kind = if status.closed { "closed" } else { "open" };
    draw::pairs(&[
        ("peer", Some(status.peer_id.to_string())),
        ("name", status.name.clone()),
        (
            "place",
            Some(
                status
                    .guid
                    .as_ref()
                    .map_or_else(|| "joining".into(), ToString::to_string),
            ),
        ),
        ("network", Some(format!("{} ({kind})", status.network))),
        (
            "shape",
            Some(format!(
                "{}, rings of {}, clusters of {}, {}",
                status.topology, status.ring_size, status.cluster, status.policy
            )),
        ),
        (
            "moves",
            status
                .evolution
                .as_ref()
                .map(|it| format!("from {} to {}: {}", it.from, it.to, it.stage)),
        ),
        (
            "listens",
            Some(
                status
                    .listen
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
        ),
        (
            "reach",
            Some(format!(
                "{}: {}",
                if status.reachable {
                    "public"
                } else {
                    "not public"
                },
                status.why
            )),
        ),
        (
            "relay",
            match (&status.hosts_relay, &status.home_relay) {
                (Some(address), _) => Some(format!("hosts one at {address}")),
                (None, Some(host)) => Some(format!("is reached through {}", host.short())),
                (None, None) => None,
            },
        ),
        (
            "links",
            Some(format!(
                "{} of {} neighbours",
                status.links, status.neighbours
            )),
        ),
        ("up for", Some(span(status.uptime_s))),
        (
            "memory",
            status
                .rss_bytes
                .map(|bytes| format!("{:.1} MiB", bytes as f64 / 1_048_576.0)),
        ),
        (
            "messages",
            Some(format!(
                "{} sent, {} delivered, {} forwarded, {} copies of broadcasts",
                counters.sent, counters.delivered, counters.forwarded, counters.spread
            )),
        ),
        (
            "repair",
            Some(format!(
                "broadcasts: {} repaired, {} late, {} missed, {} offered, {} asked",
                counters.repaired, counters.late, counters.missed, counters.offered, counters.asked
            )),
        ),
        (
            "trouble",
            Some(format!(
                "{} duplicates, {} dropped, {} faults",
                counters.duplicates, counters.dropped, counters.faults
            )),
        ),
        (
            "bytes",
            Some(format!(
                "{} out, {} in",
                counters.bytes_out, counters.bytes_in
            )),
        ),
    ])
}

/// Seconds as people say them.
fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    match (
        whole / 86_400,
        whole / 3_600 % 24,
        whole / 60 % 60,
        whole % 60,
    ) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_up_to_the_limit_is_taken() {
        assert!(payload("x".repeat(MAX_PAYLOAD)).is_ok());
        assert_eq!(
            payload("x".repeat(MAX_PAYLOAD + 1)).unwrap_err().exit,
            crate::exit::Exit::Usage
        );
    }

    #[test]
    fn spans_read_well() {
        assert_eq!(span(59.9), "59 s");
        assert_eq!(span(75.0), "1 min 15 s");
        assert_eq!(span(90_000.0), "1 d 1 h");
    }
}
