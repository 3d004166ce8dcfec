//! Runs a range of seeds of the simulator, on one thread, until one breaks a promise: `seeds FROM TO`, or for liveness
//! `seeds FROM TO lasting`.
//!
//! `lockstep sim` does the same and more. This one needs nothing but the protocol, so that a changed rule is tried quickly
//! (`tests/audit/run.sh`). Prints `kept` and how many seeds were run, or `broken`, the seed and what it broke.

use lockstep_protocol::sim::{self, plan::Shape};
use std::cell::Cell;
use std::process::ExitCode;

thread_local! {
    static RUNNING: Cell<u64> = const { Cell::new(0) };
}

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [from, to] = numbers[..] else {
        eprintln!("usage: seeds FROM TO");
        return ExitCode::from(2);
    };
    let is_lasting = std::env::args().nth(3).is_some_and(|word| word == "lasting");
    let shape = Shape { is_lasting, ..Shape::default() };
    // A machine that finds the impossible panics, and the process ends.
    std::panic::set_hook(Box::new(|info| println!("broken: seed {}: panic: {info}", RUNNING.get())));
    for seed in from..to {
        RUNNING.set(seed);
        if let Some(violation) = sim::run(seed, shape).violation {
            println!("broken: seed {seed}: {violation}");
            return ExitCode::FAILURE;
        }
    }
    println!("kept: {} seeds", to - from);
    ExitCode::SUCCESS
}
