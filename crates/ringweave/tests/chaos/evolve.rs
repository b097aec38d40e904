//! A network of real processes that moves from topology to topology while its peers talk: every message
//! arrives, once, and everybody gets where the network goes.
//!
//! Eight peers, unless `EVOLVE_PEERS` says otherwise; `just evolve` is the full size.

use std::{
    env,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{task::JoinSet, time::sleep};

use super::{Load, Outcome, Stage, life, populate};

/// Where it begins.
const FIRST: &str = "star";
/// Where it goes.
const WAY: [&str; 3] = ["polyring", "kademlia", "polyring"];
/// How long it stays, with messages, before and after each move.
const STAY: Duration = Duration::from_secs(2);

/// `ringweave evolve --json` at the founder: its exit code, and its object.
fn evolve(stage: &Stage, at: usize, to: &str) -> (Option<i32>, Value) {
    let data = stage.seats()[at].data.path().to_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_ringweave"))
        .args(["--json", "--data"])
        .arg(&data)
        .args(["evolve", "--to", to])
        .env("XDG_CONFIG_HOME", &data)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_moves_and_no_message_is_lost_or_doubled() {
    let peers = env::var("EVOLVE_PEERS").map_or(8, |text| text.parse().unwrap());
    let stage = Stage::new(peers);
    populate(&stage, peers, &["--topology", FIRST]).await;
    let mut load = Load::new(peers, 1);
    let mut tasks = JoinSet::new();
    let other = Arc::clone(&stage);
    let moves = tokio::task::spawn_blocking(move || {
        let (code, refusal) = evolve(&other, 1, WAY[0]);
        assert_eq!((code, refusal["error"].as_str()), (Some(5), Some("denied")));
        let (code, _) = evolve(&other, 0, "pyramid");
        assert_eq!(code, Some(2));
        for to in WAY {
            std::thread::sleep(STAY);
            let began = Instant::now();
            let (code, answer) = evolve(&other, 0, to);
            assert_eq!(
                (code, answer["to"].as_str()),
                (Some(0), Some(to)),
                "{answer}"
            );
            println!("to {to} in {:.1?}: {answer}", began.elapsed());
        }
        std::thread::sleep(STAY);
    });
    while !moves.is_finished() {
        load.send(&stage, &mut tasks);
        sleep(Duration::from_millis(5)).await;
        while let Some(done) = tasks.try_join_next() {
            done.unwrap();
        }
    }
    let moved = moves.await;
    tasks.join_all().await;
    // What was acknowledged last is fetched.
    sleep(Duration::from_millis(500)).await;
    let clients: Vec<_> = stage
        .seats()
        .iter()
        .map(|seat| seat.client.clone())
        .collect();
    let mut missing = Vec::new();
    for (number, client) in clients.into_iter().enumerate() {
        let status = client.unwrap().status().await.unwrap();
        if status.topology != WAY[2] || status.evolution.is_some() || status.guid.is_none() {
            missing.push(format!("p{number} is elsewhere: {status:?}"));
        }
    }
    let record = stage.record();
    let verdict = record.judge();
    println!("{peers} peers, {} messages", record.sent.len());
    print!("{verdict}");
    let lost = record
        .sent
        .iter()
        .filter(|sent| sent.outcome != Outcome::Delivered);
    for sent in lost.take(10) {
        println!("not delivered: {sent:?}");
    }
    let all = record
        .sent
        .iter()
        .all(|sent| sent.outcome == Outcome::Delivered);
    let holds = moved.is_ok() && all && verdict.violations.is_empty() && missing.is_empty();
    if !holds {
        missing.iter().for_each(|words| println!("{words}"));
        for (number, seat) in stage.seats().drain(..).enumerate() {
            drop(seat.process);
            println!("p{number}: {}", seat.data.keep().join(life::LOG).display());
        }
        drop(record);
        panic!("a message was lost, or a peer; replay with EVOLVE_PEERS={peers}");
    }
}
