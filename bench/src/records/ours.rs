//! Ringweave's part: named records in a polyring of the demo's size.

use std::time::Duration;

use anyhow::{Context as _, Result};
use ringweave_ids::Key;
use ringweave_net::{Data, Entrance, Handle, Settings, start};

use crate::{NODES, Network};

const LEASE: Duration = Duration::from_secs(3_600);

pub struct Ours(Vec<Handle>);

impl Ours {
    pub async fn start() -> Result<Self> {
        let settings = |entrance| Settings {
            data: Data::Ephemeral,
            entrance,
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            lan: false,
            ..Settings::default()
        };
        let founder = start(settings(Entrance::New)).await?;
        let invite = founder.invite().await?;
        let mut peers = vec![founder];
        for _ in 1..NODES {
            peers.push(start(settings(Entrance::Join(invite.clone().into()))).await?);
        }
        Ok(Self(peers))
    }
}

impl Network for Ours {
    async fn put(&self, node: usize, name: usize, value: Vec<u8>) -> Result<Vec<u8>> {
        let stored = self.0[node].put(name.to_string(), value.into(), LEASE).await?;
        Ok(stored.key.0.to_vec())
    }

    async fn get(&self, key: Vec<u8>) -> Result<Option<Vec<u8>>> {
        let key = Key(key.try_into().ok().context("a key has 32 bytes")?);
        let found = self.0[NODES - 1].get(key).await?;
        Ok(found.map(|found| found.value.to_vec()))
    }
}
