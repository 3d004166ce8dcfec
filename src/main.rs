//! The command `lockstep`: parses the command line, runs one command, and ends with its exit code.

use std::process::ExitCode;

/// Each post allocates in five processes; this allocator takes a tenth less of all their time than the system's
/// (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lockstep::cli::main()
}
