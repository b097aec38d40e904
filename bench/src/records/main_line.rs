//! mainline's part: the crate's own local network of servers, immutable values of BEP 44.

use anyhow::{Context as _, Result};
use mainline::{Id, Testnet, async_dht::AsyncDht};

use crate::{NODES, Network};

pub struct MainLine {
    nodes: Vec<AsyncDht>,
    /// Its nodes end with it.
    _testnet: Testnet,
}

impl MainLine {
    pub async fn start() -> Result<Self> {
        let testnet = tokio::task::spawn_blocking(|| Testnet::builder(NODES).build()).await??;
        let nodes = testnet.nodes.iter().map(|node| node.clone().as_async()).collect();
        Ok(Self { nodes, _testnet: testnet })
    }
}

impl Network for MainLine {
    async fn put(&self, node: usize, _: usize, value: Vec<u8>) -> Result<Vec<u8>> {
        let id = self.nodes[node].put_immutable(&value).await?;
        Ok(id.as_bytes().to_vec())
    }

    async fn get(&self, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
        let id = Id::from_bytes(key).ok().context("an id has 20 bytes")?;
        let found = self.nodes[NODES - 1].get_immutable(id).await;
        Ok(found.map(|found| found.to_vec()))
    }
}
