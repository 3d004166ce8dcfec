//! `load`: does the same work against Lockstep and its peers, and measures all of them with the same code.
//!
//! `benches/peers/run.sh` starts the servers and calls this, once for each figure. A figure is one line of JSON; `report` makes
//! the table of them. What each peer is asked for, and over how many connections, stands in the file of its name.

#![forbid(unsafe_code)]

mod args;
mod ceiling;
mod etcd;
mod failover;
mod fill;
mod floor;
mod http;
mod lockstep;
mod measure;
mod nats;
mod ports;
mod postgres;
mod primary;
mod redis_stream;
mod report;
mod usage;
mod work;

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use serde::Serialize;

use args::{Args, Command, Target};
use measure::{Outcome, Plan};

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Run(run) => {
            let outcome = runtime(run.threads)?.block_on(measure_target(&run))?;
            append(&run.out, &outcome)
        }
        Command::Fill { target, count, at } => runtime(1)?.block_on(fill::fill(target, count, &at.at)),
        Command::Primary { target, at } => runtime(1)?.block_on(primary::print(target, &at.at)),
        Command::Failover { target, at, pid, round, out } => {
            append(&out, &runtime(1)?.block_on(failover::measure(target, &at.at, pid, round))?)
        }
        Command::Ceiling { listen } => ceiling::serve(&listen),
        Command::Floor(part) => floor::serve(&part),
        Command::Ports { count } => ports::print(count),
        Command::Report { file } => report::print(&file),
    }
}

/// One thread is best for all but the peers for which `run.sh` says so: the servers have the same cores.
fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().context("the runtime does not start")
}

/// Connects all clients, then measures.
async fn measure_target(run: &args::Run) -> Result<Outcome> {
    let (at, count) = (&run.at.at, run.clients);
    let connections = run.connections.unwrap_or_else(|| run.target.connections(count)).clamp(1, count);
    let plan = Plan::new(run, connections);
    match run.target {
        Target::Lockstep => measure::measure(lockstep::connect(at, count, run.work).await?, &plan).await,
        Target::Etcd => measure::measure(etcd::connect(at, count, connections).await?, &plan).await,
        Target::Postgres => measure::measure(postgres::connect(at, count, connections).await?, &plan).await,
        Target::Nats => measure::measure(nats::connect(at, count, connections).await?, &plan).await,
        Target::Redis => measure::measure(redis_stream::connect(at, count).await?, &plan).await,
        Target::Floor => measure::measure(floor::connect(at, count).await?, &plan).await,
        Target::Ceiling => measure::measure(ceiling::connect(at, count).await?, &plan).await,
    }
}

/// Adds one line to the file of figures.
fn append(path: &Path, figure: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(figure)?;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{line}").with_context(|| format!("{}: cannot be written", path.display()))
}
