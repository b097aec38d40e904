//! libp2p-kad's part: TCP, noise and yamux, servers all, each bootstrapped through the first.

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
        let (mut asks, mut first): (Vec<_>, Option<(PeerId, Multiaddr)>) = (Vec::new(), None);
        for _ in 0..NODES {
            let mut swarm = node()?;
            swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
            let address = loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    break address;
                }
            };
            if let Some((id, address)) = &first {
                swarm.behaviour_mut().add_address(id, address.clone());
                swarm.behaviour_mut().bootstrap()?;
            } else {
                first = Some((*swarm.local_peer_id(), address));
            }
            let (sender, receiver) = mpsc::channel(256);
            asks.push(sender);
            tokio::spawn(run(swarm, receiver));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self(asks))
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
        self.0[0].send(Ask::Get(RecordKey::new(&key), answer)).await.ok().context("the node runs")?;
        told.await?
    }
}
