//! The commands, one file each, and the command line that names them.
//!
//! Exit codes: 0 done, 1 not done (or, of `status`, degraded; of `verify`, not equal), 2 a wrong command line (or, of `status`, not serving).

mod api;
mod bench;
mod channels;
mod demo;
pub mod drill;
mod health;
mod history;
mod operator;
mod people;
mod post;
mod process;
mod recover;
pub mod sim;
mod star;
mod stars;
mod status;
mod verify;
mod why;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Why a command did not do what it was asked, in a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<crate::settings::SettingsError> for Failure {
    fn from(error: crate::settings::SettingsError) -> Self {
        Self(error.to_string())
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "lockstep",
    version,
    about = "A team-messaging store: strongly consistent, replicated, and serving as long as one data node lives"
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster on this machine, to try things out: 3 data nodes and 2 gateways
    Demo(demo::Arguments),
    /// Start a cluster, break it again and again under load, and check that every promise was kept
    Drill(drill::Arguments),
    /// Run a data node
    Node(process::Arguments),
    /// Run a gateway, with a witness when its settings name a directory for one
    Gateway(process::Arguments),
    /// Ask a process at its own port how it is: exit code 0 well, 1 not
    Health(health::Arguments),
    /// Take a node out of the cluster for good, dead or alive
    Remove(operator::Remove),
    /// Take a data node out of the view for a while, before maintenance
    Drain(operator::Drain),
    /// Compare what all replicas hold, byte by byte: exit code 0 all equal, 1 one differs or was not read
    Verify(verify::Arguments),
    /// Last resort: make one stopped data node a cluster of its own
    Recover(recover::Arguments),
    /// Run the protocol in the simulator: one seed, one run
    Sim(sim::SimArgs),
    /// Put a load on a cluster: latencies, cost, and whether it kept its promises
    Bench(Box<bench::Arguments>),
    /// Post a message
    Post(post::Arguments),
    /// Show the messages of a channel
    History(history::Arguments),
    /// Star a message, or take the star back
    Star(star::Arguments),
    /// Show the starred messages of a channel
    Stars(stars::Arguments),
    /// List the channels, or create one
    Channels(channels::Arguments),
    /// Show how the cluster is: exit code 0 healthy, 1 degraded, 2 not serving
    Status(status::Arguments),
    /// Show why views changed: who failed, who saw it, who decided, and how long writes stood still
    Why(why::Arguments),
}

/// Parses the command line and runs what it names.
#[must_use]
pub fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Drill(arguments) => Ok(drill::run(&arguments)),
        Command::Node(arguments) => process::node(&arguments),
        Command::Gateway(arguments) => process::gateway(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Remove(arguments) => operator::remove(&arguments),
        Command::Drain(arguments) => operator::drain(&arguments),
        Command::Verify(arguments) => block_on(verify::run(arguments)),
        Command::Recover(arguments) => recover::run(&arguments),
        Command::Sim(arguments) => Ok(sim::run(&arguments)),
        Command::Bench(arguments) => block_on(bench::run(*arguments)),
        Command::Post(arguments) => block_on(post::run(arguments)),
        Command::History(arguments) => block_on(history::run(arguments)),
        Command::Star(arguments) => block_on(star::run(arguments)),
        Command::Stars(arguments) => block_on(stars::run(arguments)),
        Command::Channels(arguments) => block_on(channels::run(arguments)),
        Command::Status(arguments) => block_on(status::run(arguments)),
        Command::Why(arguments) => block_on(why::run(arguments)),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("lockstep: {failure}");
        ExitCode::FAILURE
    })
}

/// Runs one asynchronous command on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(future)
}
