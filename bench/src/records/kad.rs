//! libp2p-kad's part: TCP, noise and yamux, servers all, and each is told of all others before it starts, so
//! that no table lacks anybody.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    futures::StreamExt as _,
    kad::{self, GetRecordOk, QueryId, QueryResult, Quorum, Record, RecordKey, store::MemoryStore},
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};
use tokio::sync::{mpsc, oneshot};

use crate::{NODES, Network};

enum Ask {
    Put(Record, oneshot::Sender<Result<()>>),
    Get(RecordKey, oneshot::Sender<Result<Option<Vec<u8>>>>),
}

pub struct Kad(Vec<mpsc::Sender<Ask>>);

type Node = Swarm<kad::Behaviour<MemoryStore>>;

fn node() -> Result<Node> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let mut kad = kad::Behaviour::new(id, MemoryStore::new(id));
            kad.set_mode(Some(kad::Mode::Server));
            kad
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    Ok(swarm)
}

impl Kad {
    pub async fn start() -> Result<Self> {
        let mut swarms = Vec::with_capacity(NODES);
        for _ in 0..NODES {
            let mut swarm = node()?;
            swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
            let address = loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    break address;
                }
            };
            swarms.push((swarm, address));
        }
        let known: Vec<(PeerId, Multiaddr)> =
            swarms.iter().map(|(swarm, address)| (*swarm.local_peer_id(), address.clone())).collect();
        let asks = swarms.into_iter().map(|(mut swarm, _)| {
            let me = *swarm.local_peer_id();
            for (id, address) in known.iter().filter(|(id, _)| *id != me) {
                swarm.behaviour_mut().add_address(id, address.clone());
            }
            let (sender, receiver) = mpsc::channel(256);
            tokio::spawn(run(swarm, receiver));
            sender
        });
        Ok(Self(asks.collect()))
    }
}

async fn run(mut swarm: Node, mut asks: mpsc::Receiver<Ask>) {
    let mut puts: HashMap<QueryId, oneshot::Sender<Result<()>>> = HashMap::new();
    let mut gets: HashMap<QueryId, oneshot::Sender<Result<Option<Vec<u8>>>>> = HashMap::new();
    loop {
        tokio::select! {
            ask = asks.recv() => match ask {
                None => return,
                Some(Ask::Put(record, answer)) => {
                    match swarm.behaviour_mut().put_record(record, Quorum::One) {
                        Ok(query) => drop(puts.insert(query, answer)),
                        Err(error) => drop(answer.send(Err(error.into()))),
                    }
                }
                Some(Ask::Get(key, answer)) => {
                    let query = swarm.behaviour_mut().get_record(key);
                    gets.insert(query, answer);
                }
            },
            event = swarm.select_next_some() => {
                let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { id, result, .. }) = event else {
                    continue;
                };
                match result {
                    QueryResult::PutRecord(result) => {
                        if let Some(answer) = puts.remove(&id) {
                            // Whoever asked may have gone; likewise below.
                            let _ = answer.send(result.map(drop).map_err(Into::into));
                        }
                    }
                    QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                        if let Some(answer) = gets.remove(&id) {
                            let _ = answer.send(Ok(Some(found.record.value)));
                        }
                        // The first copy is enough.
                        if let Some(mut query) = swarm.behaviour_mut().query_mut(&id) {
                            query.finish();
                        }
                    }
                    QueryResult::GetRecord(_) => {
                        if let Some(answer) = gets.remove(&id) {
                            let _ = answer.send(Ok(None));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Network for Kad {
    async fn put(&self, node: usize, name: usize, value: Vec<u8>) -> Result<Vec<u8>> {
        let key = format!("record {name}").into_bytes();
        let (answer, told) = oneshot::channel();
        let record = Record::new(key.clone(), value);
        self.0[node].send(Ask::Put(record, answer)).await.ok().context("the node runs")?;
        told.await??;
        Ok(key)
    }

    async fn get(&self, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
        let (answer, told) = oneshot::channel();
        self.0[NODES - 1].send(Ask::Get(RecordKey::new(&key), answer)).await.ok().context("the node runs")?;
        told.await?
    }
}
