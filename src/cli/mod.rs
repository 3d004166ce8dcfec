//! The commands, one file each.

use std::process::ExitCode;

/// Parses the command line and runs what it names.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
