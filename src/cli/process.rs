//! `lockstep node` and `lockstep gateway`: settings, the logger, the pid file, and then the process itself.

use super::{Failure, block_on};
use crate::settings::{Role, Settings};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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
    block_on(crate::node::run(&settings)).map_err(|error| Failure::new(error.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a gateway until it is told to stop.
pub fn gateway(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (settings, _pid_file) = begin(arguments, Role::Gateway)?;
    block_on(crate::gateway::run(&settings)).map_err(|error| Failure::new(error.to_string()))?;
    Ok(ExitCode::SUCCESS)
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
