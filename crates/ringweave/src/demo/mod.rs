//! `demo`: a network of real peers with real sockets on loopback, in one process, put through its
//! paces: join, route between every pair, broadcast, multicast, crash, heal.
//!
//! The peers that will crash run on a runtime, and a thread, of their own. It is left standing
//! between two steps: no goodbye, no closed connection, as if their machines had lost power.

mod crowd;
mod report;
mod trial;

use std::{sync::mpsc, thread, time::Duration};

use ringweave_api::{Door, Server, Word};
use ringweave_net::Shape;
use tokio::{signal::ctrl_c, sync::oneshot};

use self::{
    crowd::Crowd,
    report::{Report, Teller},
};
use crate::{cli::DemoArgs, exit::Problem, settings};

/// Peers that one process can hold with the usual limits on open files and memory.
const MOST: usize = 1_000;

/// How long the network may take to heal before the demo gives up.
const HEALING: Duration = Duration::from_secs(30);

/// Runs the demo.
///
/// # Errors
/// Where a peer does not start, or something that the demo shows did not hold.
pub(crate) fn run(args: &DemoArgs, is_json: bool) -> Result<(), Problem> {
    let topology = settings::topology(&args.topology)?;
    settings::cluster(args.cluster)?;
    if !(2..=MOST).contains(&args.peers) {
        return Err(Problem::usage(format!(
            "a demo has 2 to {MOST} peers, not {}",
            args.peers
        )));
    }
    let ring_size = match args.ring_size {
        Some(size) => settings::ring_size(size)?,
        None => small_rings(args.peers),
    };
    let shape = Shape {
        topology: Some(topology),
        ring_size: Some(ring_size),
        cluster: Some(args.cluster),
        ..Shape::default()
    };
    let steady = super::runtime(tokio::runtime::Builder::new_multi_thread())?;
    let doomed = super::runtime(tokio::runtime::Builder::new_current_thread())?;
    let handle = doomed.handle().clone();
    let (crash, crashed) = oneshot::channel::<()>();
    let (end, ended) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        // Told, or forgotten: either way nothing on this runtime moves any more.
        let _ = doomed.block_on(crashed);
        let _ = ended.recv();
    });
    let shown = steady.block_on(show(args, &shape, is_json, &handle, || drop(crash)));
    drop(end);
    if thread.join().is_err() {
        return Err(Problem::new(
            Word::Failed,
            "the peers that crash did so by themselves",
        ));
    }
    shown
}

async fn show(
    args: &DemoArgs,
    shape: &Shape,
    is_json: bool,
    doomed: &tokio::runtime::Handle,
    crash: impl FnOnce(),
) -> Result<(), Problem> {
    let teller = Teller::new(is_json);
    let mut report = Report::new(args.peers, shape);

    teller.say(&format!(
        "{} peers with real sockets on loopback, {}\n",
        args.peers,
        report.shape()
    ))?;
    let mut crowd = Crowd::gather(args.peers, shape, doomed, &teller).await?;
    report.joined(&crowd);
    teller.joined(&crowd, &report)?;

    let progress = teller.progress("routes between every pair", crowd.pairs());
    let routes = trial::routes(&crowd, &progress).await;
    progress.finish();
    report.latencies = trial::latencies(&crowd).await;
    report.routes(&routes);
    teller.routes(&report)?;

    report.broadcast(trial::broadcast(&crowd).await);
    report.multicast(trial::multicast(&crowd).await);
    teller.spread(&report)?;

    let victims = crowd.doom();
    teller.crash(&victims)?;
    let healing = trial::heal(&crowd, HEALING, crash).await;
    // Routes are whole; the dead that nobody routes through may still be in a roster.
    crowd.settle(&victims).await?;
    let progress = teller.progress("routes between every pair of survivors", crowd.pairs());
    let after = trial::routes(&crowd, &progress).await;
    progress.finish();
    report.healed(victims.len(), healing, &after);
    report.broadcast_after(trial::broadcast(&crowd).await);
    teller.healed(&report)?;

    let verdict = report.verdict();
    if is_json {
        crate::print::json(&report)?;
    } else {
        teller.verdict(&report)?;
    }
    if !args.once {
        stay(&crowd, &teller).await?;
    }
    crowd.part().await;
    match verdict {
        failed if failed.is_empty() => Ok(()),
        failed => Err(Problem::new(
            Word::Failed,
            format!("the demo did not hold: {}", failed.join("; ")),
        )
        .told()),
    }
}

/// Serves the first peer's API until Ctrl-C, so that the other commands can be tried.
async fn stay(crowd: &Crowd, teller: &Teller) -> Result<(), Problem> {
    let home = crowd::Scratch::new()?;
    let door = Door::bind(([127, 0, 0, 1], 0).into()).await?;
    let server: Server = door.open(crowd.first().handle.clone(), home.path())?;
    let invite = crowd
        .first()
        .handle
        .invite()
        .await
        .map_err(|error| Problem::new(Word::Failed, error))?;
    let (inner, outer) = (crowd.first(), crowd.deepest());
    teller.commands(
        home.path(),
        &inner.name,
        &outer.name,
        &outer.guid.to_string(),
        &invite.to_string(),
    )?;
    let stopped = ctrl_c().await;
    server.shut().await;
    stopped.map_err(|error| Problem::new(Word::Failed, format!("cannot watch for Ctrl-C: {error}")))
}

/// The largest rings that still need three levels, with the third well filled.
fn small_rings(peers: usize) -> u32 {
    let needs_three = |size: &u32| {
        let size = *size as usize;
        (size + size * size) * 10 <= peers * 7
    };
    (2..=32).take_while(needs_three).last().unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::small_rings;

    #[test]
    fn rings_are_small_enough_for_three_levels() {
        for peers in [9, 32, 60, 200, 1_000] {
            let size = small_rings(peers) as usize;
            assert!(size + size * size < peers, "{peers} {size}");
            assert!(
                size + size * size + size * size * size >= peers,
                "{peers} {size}"
            );
        }
    }
}
