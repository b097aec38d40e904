//! `demo`: a network of real peers on loopback, in one process.

use ringweave_api::Word;

use crate::{cli::DemoArgs, exit::Problem, settings};

/// Runs the demo.
pub(crate) async fn run(args: DemoArgs, _is_json: bool) -> Result<(), Problem> {
    settings::topology(&args.topology)?;
    settings::cluster(args.cluster)?;
    args.ring_size.map(settings::ring_size).transpose()?;
    Err(Problem::new(
        Word::Failed,
        format!("a demo of {} peers is not built yet", args.peers),
    ))
}
