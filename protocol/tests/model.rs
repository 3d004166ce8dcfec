//! Checks small clusters exhaustively, within bounds: every order in which letters, crashes and deadlines can come.
//!
//! `cargo test -p lockstep-protocol --features sim --release --test model -- --ignored --nocapture` runs the large models, each
//! for `LOCKSTEP_MODEL_SECONDS` at most (300 by default), and prints how many states there were, how deep, and whether that was
//! all.
//!
//! Not here: the model itself (`model/cluster.rs`), and long runs with many faults, which the simulator draws.
//!
//! Source: the crate `stateright`; Lamport, "Specifying Systems", 2002, for what exhaustive means.

mod model {
    pub mod cluster;
}
use model::cluster::{Budget, Cluster};
use stateright::{Checker, Model};
use std::time::{Duration, Instant};

/// What was found.
struct Found {
    states: usize,
    depth: usize,
    /// Nothing was left out, within the model's bounds.
    is_exhaustive: bool,
}

/// Checks a model until it is done, or for so long, or down to this depth.
fn check(name: &str, cluster: Cluster, depth_max: usize, time_max: Duration) -> Found {
    let began = Instant::now();
    let cluster = Cluster { until: Some(began + time_max), ..cluster };
    let checker = cluster.checker().target_max_depth(depth_max).spawn_bfs().join();
    let took = began.elapsed();
    for (property, path) in checker.discoveries() {
        let (last, steps) = (path.last_state().clone(), path.into_actions());
        let story: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        assert!(last.broken.is_none(), "{name}, {property}: {:?}\n  {}", last.broken, story.join("\n  "));
    }
    let found = Found {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        is_exhaustive: checker.max_depth() < depth_max && took < time_max,
    };
    println!(
        "{name}: {} states, {} steps, depth {}, {} s, {}",
        found.states,
        checker.state_count(),
        found.depth,
        took.as_secs(),
        if found.is_exhaustive { "exhaustive" } else { "cut off" }
    );
    found
}

#[test]
#[ignore = "explores"]
fn probe() {
    let budget = Budget { writes: 1, crashes: 1, views: 2, ..Budget::default() };
    for depth in [4, 8, 10, 12, 14] {
        check(
            "2+1 write+crash",
            Cluster { data: 2, witnesses: 1, budget, until: None },
            depth,
            Duration::from_secs(15),
        );
    }
}
