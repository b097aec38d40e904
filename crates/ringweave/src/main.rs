//! The program `ringweave`: a peer in the foreground, words to talk to it, and a laboratory.

mod ask;
mod cli;
mod demo;
mod draw;
mod exit;
mod kv;
mod print;
mod settings;
mod sim;
mod up;

use std::{io, process::ExitCode};

use ask::Ask;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, parser::ValueSource};
use cli::{Cli, Command};
use exit::Problem;
use ringweave_api::Word;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

/// A million simulated peers live in small blocks that one thread makes and another frees.
/// With jemalloc a grown world of 65,000 took 7.2 s where it took 10.3 s with the system's allocator
/// (glibc), which packs 6 % closer.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let filter =
        EnvFilter::try_from_env("RINGWEAVE_LOG").unwrap_or_else(|_| EnvFilter::new(quiet(&cli)));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    let is_json = cli.json;
    match run(cli, &matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            if is_json && !problem.is_told {
                // A reader that has gone away gets no object; the exit code stands.
                let _ = print::json(&problem.fault);
            }
            eprintln!("{problem}");
            problem.exit.into()
        }
    }
}

fn run(cli: Cli, matches: &ArgMatches) -> Result<(), Problem> {
    if let Command::Completions { shell } = cli.command {
        clap_complete::generate(shell, &mut Cli::command(), "ringweave", &mut io::stdout());
        return Ok(());
    }
    if let Command::Demo(args) = cli.command {
        return demo::run(&args, cli.json);
    }
    if let Command::Sim(command) = cli.command {
        return sim::run(&command, cli.json);
    }
    let file = settings::File::read(cli.config.as_deref())?;
    let data = settings::data(cli.data.as_deref(), &file)?;
    if let Command::Up(args) = cli.command {
        let settings = settings::up(*args, is_plain_join(matches), data, file)?;
        return runtime(Builder::new_multi_thread())?.block_on(up::run(settings, cli.json));
    }
    let ask = Ask {
        data: &data,
        is_json: cli.json,
    };
    runtime(Builder::new_current_thread())?.block_on(async {
        match cli.command {
            Command::Status => ask.status().await,
            Command::Peers => ask.peers().await,
            Command::Tree(args) => ask.tree(args).await,
            Command::Invite => ask.invite().await,
            Command::Id => ask.id().await,
            Command::Ping(args) => ask.ping(args).await,
            Command::Trace(args) => ask.trace(args).await,
            Command::Send(args) => ask.send(args).await,
            Command::Multicast(args) => ask.multicast(args).await,
            Command::Broadcast(args) => ask.broadcast(args).await,
            Command::Listen => ask.listen().await,
            Command::Evolve(args) => ask.evolve(args).await,
            Command::Kv(command) => ask.kv(command).await,
            Command::Completions { .. } | Command::Demo(_) | Command::Sim(_) | Command::Up(_) => {
                unreachable!("answered above")
            }
        }
    })
}

/// What is logged unless asked otherwise. The demo crashes peers on purpose, which QUIC deplores; iroh
/// takes the end of its own relay client for an error.
fn quiet(cli: &Cli) -> &'static str {
    if matches!(cli.command, Command::Demo(_)) {
        "error,iroh=off"
    } else {
        "error,iroh::socket::transports::relay=off,iroh::socket::transports::relay::actor=error"
    }
}

/// Whether the invite stands on the command line itself, not in the environment.
fn is_plain_join(matches: &ArgMatches) -> bool {
    matches
        .subcommand()
        .is_some_and(|(_, up)| up.value_source("join") == Some(ValueSource::CommandLine))
}

fn runtime(mut builder: Builder) -> Result<Runtime, Problem> {
    let built = builder.enable_all().build();
    built.map_err(|error| Problem::new(Word::Failed, format!("cannot start the runtime: {error}")))
}
