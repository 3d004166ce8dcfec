//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

/// Drives and measures Lockstep and its peers. `run.sh` calls it.
#[derive(Parser)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// What is done.
#[derive(Subcommand)]
pub enum Command {
    /// Measures one kind of work against a running cluster, and appends the figure to a file.
    Run(Run),
    /// Makes what the reads need: a channel of so many messages.
    Fill {
        #[arg(long)]
        target: Target,
        #[arg(long)]
        count: u64,
        #[command(flatten)]
        at: Addresses,
    },
    /// Waits until all replicas serve, and prints which address the primary has, counted from 1.
    Primary {
        #[arg(long)]
        target: Target,
        #[command(flatten)]
        at: Addresses,
    },
    /// Kills a process under 8 writers, and appends how long it takes until one succeeds again.
    Failover {
        #[arg(long)]
        target: Target,
        #[command(flatten)]
        at: Addresses,
        /// Who is killed.
        #[arg(long)]
        pid: u32,
        #[arg(long)]
        round: u32,
        #[arg(long)]
        out: PathBuf,
    },
    /// An HTTP server that does nothing, on one thread.
    Ceiling {
        #[arg(long)]
        listen: String,
    },
    /// One of the four processes of the floor.
    Floor(FloorPart),
    /// Prints free ports.
    Ports { count: usize },
    /// Prints the table of a file of figures.
    Report { file: PathBuf },
}

/// One figure.
#[derive(clap::Args)]
pub struct Run {
    #[arg(long)]
    pub target: Target,
    #[arg(long)]
    pub work: Work,
    /// How many ask at once. Each waits for its answer before it asks again.
    #[arg(long)]
    pub clients: usize,
    /// Connections of those peers whose clients share some; what is best for it by default.
    #[arg(long)]
    pub connections: Option<usize>,
    /// Not counted, before the window. Milliseconds.
    #[arg(long, default_value_t = 1_000)]
    pub warm_ms: u64,
    /// The window. Milliseconds.
    #[arg(long, default_value_t = 4_000)]
    pub window_ms: u64,
    /// Threads of this process.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// The servers' processes, whose CPU and memory are counted, their children's too.
    #[arg(long, value_delimiter = ',')]
    pub pids: Vec<u32>,
    #[arg(long, default_value_t = 1)]
    pub round: u32,
    #[arg(long)]
    pub out: PathBuf,
    #[command(flatten)]
    pub at: Addresses,
}

/// Where the servers listen.
#[derive(clap::Args)]
pub struct Addresses {
    /// Each host:port.
    #[arg(long, value_delimiter = ',', required = true)]
    pub at: Vec<String>,
}

/// A process of the floor: a gateway has `next` alone, a replica `file` alone, the primary both.
#[derive(clap::Args)]
pub struct FloorPart {
    #[arg(long)]
    pub listen: String,
    /// What each record is appended to, and flushed.
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// To whom each record goes before it is answered.
    #[arg(long, value_delimiter = ',')]
    pub next: Vec<String>,
}

/// Who is measured. The order is the table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    Lockstep,
    Etcd,
    Postgres,
    Nats,
    Redis,
    Floor,
    Ceiling,
}

impl Target {
    /// How many connections serve so many clients best: each was tried on two cores.
    pub fn connections(self, clients: usize) -> usize {
        match self {
            Self::Etcd => crate::etcd::CONNECTIONS_MAX.min(clients),
            Self::Nats => crate::nats::CONNECTIONS_MAX.min(clients),
            Self::Postgres => crate::postgres::CONNECTIONS_MAX.min(clients),
            Self::Lockstep | Self::Redis | Self::Floor | Self::Ceiling => clients,
        }
    }
}

/// What is asked for. The order is the table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// One message of 256 bytes is stored.
    Post,
    /// The newest 100 messages of a channel.
    Newest,
    /// One message, by its id.
    One,
}
