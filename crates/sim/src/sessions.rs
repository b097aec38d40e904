//! stub
use crate::{Churn, FileError};
pub struct Life { pub who: u32, pub up: i64, pub down: Option<i64> }
pub struct Lives { pub lives: Vec<Life>, pub handles: u32, pub at_start: u32 }
impl Lives { pub fn new(_churn: &Churn, peers: u32, _duration_s: f64, _seed: u64) -> Result<Self, FileError> {
  Ok(Self { lives: (0..peers).map(|who| Life { who, up: 0, down: None }).collect(), handles: peers, at_start: peers }) } }
