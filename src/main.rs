//! The command `lockstep`: parses the command line, runs one command, and ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep::cli::main()
}
