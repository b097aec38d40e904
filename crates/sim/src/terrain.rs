//! stub
use ringweave_ids::Random;
use crate::Latency;
pub struct Terrain { delay: u32 , peers: u32}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct FileError;
impl Terrain {
    pub fn new(latency: &Latency, peers: u32, _seed: u64) -> Result<Self, FileError> {
        let Latency::Constant(ms) = latency else { return Err(FileError) };
        Ok(Self { delay: (ms * 1000.0) as u32, peers })
    }
    pub fn delay(&self, _a: u32, _b: u32) -> u32 { self.delay }
    pub fn least(&self) -> u32 { self.delay }
    pub fn near(&self, _peer: u32, limit: u32, random: &mut Random) -> u32 { random.below(limit.min(self.peers) as usize) as u32 }
    pub fn label(&self, _: u32) -> String { String::new() }
}
