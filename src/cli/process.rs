//! `lockstep node` and `lockstep gateway`: settings, the logger, the pid file, and then the process itself.

use super::{Failure, block_on};
use crate::gateway::GatewayPlan;
use crate::http::client::ClientApi;
use crate::node::{EXIT_REMOVED, NodePlan, Stopped};
use crate::settings::{Role, Settings};
use clap::Args;
use lockstep_actors::NodeConfig;
use lockstep_actors::engine::FaultPlan;
use lockstep_actors::gateway::GatewayConfig;
use lockstep_protocol::ids::{Address, Voter};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// For tests and drills alone: while the file that this names exists, every flush fails.
pub const FAIL_FLUSH_VARIABLE: &str = "LOCKSTEP_FAIL_FLUSH_WHILE";

/// What both take.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The settings that differ from config/default.toml
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Keep this process's id in this file while it runs
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
}

/// Runs a data node until it is told to stop.
pub fn node(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (settings, _pid_file) = begin(arguments, Role::Node)?;
    let stopped = block_on(crate::node::run(node_plan(&settings)?, settings.metrics_listen())).map_err(Failure::new)?;
    Ok(exit_code(stopped))
}

/// Runs a gateway until it is told to stop.
pub fn gateway(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (settings, _pid_file) = begin(arguments, Role::Gateway)?;
    let plan = gateway_plan(&settings)?;
    let stopped = block_on(crate::gateway::run(plan, |handle| ClientApi::new(handle, &settings)));
    Ok(exit_code(stopped.map_err(Failure::new)?))
}

fn exit_code(stopped: Stopped) -> ExitCode {
    match stopped {
        Stopped::Told => ExitCode::SUCCESS,
        Stopped::Removed => ExitCode::from(EXIT_REMOVED),
    }
}

fn node_plan(settings: &Settings) -> Result<NodePlan, Failure> {
    let config = voter_config(settings, settings.node_voter(), settings.node_address(), &settings.node.data_dir);
    Ok(NodePlan { config, listen: settings.node.listen, secret: settings.secret()?.as_str().to_owned() })
}

fn gateway_plan(settings: &Settings) -> Result<GatewayPlan, Failure> {
    let secret = settings.secret()?.as_str().to_owned();
    let witness = settings.witness_voter().map(|voter| NodePlan {
        config: voter_config(settings, voter, settings.witness_address(), &settings.witness.data_dir),
        listen: settings.witness.listen,
        secret: secret.clone(),
    });
    let config = GatewayConfig {
        data_nodes: settings.data_nodes(),
        request_timeout: Duration::from_millis(settings.gateway.request_timeout_ms),
        refresh: Duration::from_millis(settings.gateway.refresh_ms),
        requests_max: settings.queue.max_ops,
    };
    let (name, listen) = (settings.gateway.name.clone(), settings.gateway.listen);
    Ok(GatewayPlan { config, name, listen, secret, witness, metrics: settings.metrics_listen() })
}

/// A witness is told of the data nodes that its gateway knows.
fn voter_config(settings: &Settings, voter: Voter, address: Address, data_dir: &Path) -> NodeConfig {
    let seeds = if voter.node().is_some() { settings.seeds() } else { settings.data_nodes() };
    let fail_flush_file = std::env::var_os(FAIL_FLUSH_VARIABLE).map(PathBuf::from);
    NodeConfig {
        voter,
        address,
        seeds,
        timing: settings.timing(),
        limits: settings.limits(),
        data_dir: data_dir.to_owned(),
        faults: FaultPlan { fail_flush_file },
    }
}

fn begin(arguments: &Arguments, role: Role) -> Result<(Settings, Option<PidFile>), Failure> {
    let settings = Settings::load(Some(&arguments.config), role)?;
    begin_logger(&settings.logger.level);
    let pid_file = arguments.pid_file.as_deref().map(PidFile::write).transpose()?;
    Ok((settings, pid_file))
}

/// Lines for people, short: when, how grave, what. `RUST_LOG` goes before the settings.
fn begin_logger(level: &str) {
    // What libraries say is for their makers, except when it is grave.
    let others = if matches!(level, "off" | "error") { level } else { "warn" };
    let filter = env_logger::Env::default().default_filter_or(format!("{others},lockstep={level}"));
    let line = |out: &mut env_logger::fmt::Formatter, record: &log::Record<'_>| {
        writeln!(out, "{} {:<5} {}", out.timestamp_millis(), record.level(), record.args())
    };
    env_logger::Builder::from_env(filter).format(line).init();
}

/// A file with this process's id, there as long as this value.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<Self, Failure> {
        let written = std::fs::write(path, format!("{}\n", std::process::id()));
        written.map_err(|e| Failure::new(format!("the pid file {} cannot be written: {e}", path.display())))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // One that stays behind names a process that is gone, and is told from a live one by that.
        let _ = std::fs::remove_file(&self.0);
    }
}
