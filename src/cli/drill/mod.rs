//! `lockstep drill`: a cluster of its own, a load, one fault after the other, and in the end whether every promise was kept.
//!
//! It starts data nodes and gateways as `lockstep demo` does, in a directory and on loopback ports of its own, with relays between
//! them. Clients post, star and read through all gateways, and every call is written down. All of it is then checked for one order
//! that explains every answer; what each gateway shows in the end is read, compared and counted; and after each fault new writes
//! must be answered through every gateway within a limit.
//!
//! Reading order: `fault` (which faults), `nemesis` (what they do), `cluster`, `links`, `disk` and `watch` (to what), `history`, `answer` and
//! `client` (the load and its record), `checker` (what must be true), `stage` (the course of a drill), `finale`, `report` and `page`.
//!
//! Exit codes: 0 passed, 1 not passed, 2 could not be run.

mod answer;
mod checker;
mod client;
mod cluster;
mod disk;
mod fault;
mod finale;
mod history;
pub mod links;
mod nemesis;
mod page;
mod report;
mod stage;
mod watch;

use super::api::random_hex;
use super::demo::layout::{GATEWAYS_MAX, Layout, NODES_MAX};
use super::demo::{Stops, lock, make_dir, refuse_survivors, write_secret};
use super::{Failure, block_on};
use clap::Args;
use cluster::Cluster;
use fault::{KINDS, Kind};
use report::Report;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Where a drill keeps everything when nobody says.
const DIR: &str = "lockstep-drill";
/// A file that says that a directory is a drill's, whose contents may be deleted.
const MARK: &str = "drill";
/// It could not be run.
const EXIT_NOT_RUN: u8 = 2;

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How long faults go on; the last one, and the check, come on top
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Which faults, with commas between them [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = Kind::parse)]
    faults: Vec<Kind>,
    /// End after so many faults, even if there is time
    #[arg(long)]
    rounds: Option<u32>,
    /// Chooses the order of the faults [default: a random one, which the report names]
    #[arg(long)]
    seed: Option<u64>,
    /// Where everything is kept: what an earlier drill kept there is deleted
    #[arg(long, default_value = DIR)]
    dir: PathBuf,
    /// How many data nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..i64::from(NODES_MAX)))]
    data_nodes: u32,
    /// How many gateways
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=i64::from(GATEWAYS_MAX)))]
    gateways: u32,
    /// How many clients
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=200))]
    clients: u32,
    /// How long after the end of a fault new writes must be answered through every gateway
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    limit: f64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// A checked run.
pub struct Plan {
    /// Which faults.
    kinds: Vec<Kind>,
    /// How long.
    lasts: Duration,
    /// How many at most.
    rounds: u32,
    /// Their order.
    seed: u64,
    /// How many clients.
    clients: u32,
    /// See [`Arguments`].
    limit: Duration,
    /// Whether nothing is said while it runs.
    quiet: bool,
}

/// Runs a drill, tells what came of it, and fails when a promise was broken.
pub fn run(arguments: &Arguments) -> ExitCode {
    match drill(arguments) {
        Ok(report) => tell(arguments, &report),
        Err(failure) => {
            eprintln!("lockstep: the drill could not be run: {failure}");
            ExitCode::from(EXIT_NOT_RUN)
        }
    }
}

fn drill(arguments: &Arguments) -> Result<Report, Failure> {
    let plan = plan(arguments)?;
    make_dir(&arguments.dir)?;
    let dir = arguments.dir.canonicalize().map_err(|e| Failure::new(format!("{}: {e}", arguments.dir.display())))?;
    let layout = Layout::new(&dir, arguments.data_nodes, arguments.gateways, 0);
    let _lock = lock(&layout)?;
    refuse_survivors(&layout)?;
    clear(&layout)?;
    write_secret(&layout.secret())?;
    block_on(async {
        let mut cluster = Cluster::new(&dir, arguments.data_nodes, arguments.gateways)?;
        let mut stops = Stops::new()?;
        tokio::select! {
            report = stage::run(&mut cluster, &plan) => report,
            () = stops.next() => Err(Failure::new("it was told to stop")),
        }
    })
}

fn plan(arguments: &Arguments) -> Result<Plan, Failure> {
    let seconds = |name: &str, seconds: f64| {
        Duration::try_from_secs_f64(seconds).map_err(|e| Failure::new(format!("{name} {seconds}: {e}")))
    };
    let drawn = || Ok::<_, Failure>(u64::from_str_radix(&random_hex(4)?, 16).unwrap_or_default());
    let kinds = if arguments.faults.is_empty() { KINDS.to_vec() } else { arguments.faults.clone() };
    Ok(Plan {
        kinds,
        lasts: seconds("--minutes", arguments.minutes * 60.0)?,
        rounds: arguments.rounds.unwrap_or(u32::MAX),
        seed: arguments.seed.map_or_else(drawn, Ok)?,
        clients: arguments.clients,
        limit: seconds("--limit", arguments.limit)?,
        quiet: arguments.json,
    })
}

/// Deletes what an earlier drill kept; what another command kept is nobody's to delete.
fn clear(layout: &Layout) -> Result<(), Failure> {
    let dir = layout.dir.display();
    let wrong = |e: std::io::Error| Failure::new(format!("{dir} cannot be cleared: {e}"));
    let mark = layout.dir.join(MARK);
    if !mark.exists() && layout.members.iter().any(|member| layout.dir.join(&member.name).exists()) {
        return Err(Failure::new(format!("{dir} holds a cluster that no drill has made: take another --dir")));
    }
    std::fs::write(&mark, "What lies here is deleted by the next drill.\n").map_err(wrong)?;
    layout.clear().map_err(wrong)
}

fn tell(arguments: &Arguments, report: &Report) -> ExitCode {
    let path = arguments.dir.join("report.html");
    let written = std::fs::write(&path, page::page(report));
    match (arguments.json, serde_json::to_string_pretty(report)) {
        (true, Ok(text)) => println!("{text}"),
        (true, Err(error)) => eprintln!("lockstep: the report cannot be written: {error}"),
        (false, _) => print!("\n{report}"),
    }
    tell_page(&path, written.err());
    if report.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell_page(path: &Path, error: Option<std::io::Error>) {
    match error {
        None => eprintln!("The same as a page, with a timeline: {}", path.display()),
        Some(error) => eprintln!("lockstep: {} cannot be written: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_deletes_what_a_drill_kept_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path(), 3, 2, 0);
        let kept = dir.path().join("node-1");
        std::fs::create_dir(&kept).expect("made");
        assert!(clear(&layout).is_err_and(|why| why.to_string().ends_with("take another --dir")));
        assert!(kept.exists());
        std::fs::write(dir.path().join(MARK), "").expect("written");
        assert_eq!(clear(&layout), Ok(()));
        assert!(!kept.exists());
    }
}
