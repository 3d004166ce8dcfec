//! `lockstep recover`.

use super::Failure;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The settings of the stopped data node
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    Err(Failure::new(format!("{}", arguments.config.display())))
}
