//! Checks small clusters in every order in which letters, crashes and deadlines can come, within bounds.
//!
//! `cargo test --release -p lockstep-protocol --features sim --test model -- --ignored --nocapture` runs the large models, each for
//! `LOCKSTEP_MODEL_SECONDS` at most (60 by default), and prints how many states there were, how deep, and whether that was all.
//!
//! Not here: the model itself (`model/cluster.rs`), and long runs with many faults, which the simulator draws.
//!
//! Source: the crate `stateright`; Lamport, "Specifying Systems", 2002, for what exhaustive means.

#![allow(clippy::disallowed_types, reason = "a run is bounded by time; no machine sees that clock")]

mod model {
    pub mod cluster;
}
use model::cluster::{Budget, Cluster};
use stateright::{Checker, Model};
use std::sync::Arc;
use std::sync::atomic::Ordering as MemoryOrdering;
use std::time::{Duration, Instant};

/// In which order states are looked at: nearest first finds the shortest counterexample; deepest first needs little memory.
#[derive(Clone, Copy)]
enum Order {
    NearestFirst,
    DeepestFirst,
}

/// What a model came to.
struct Found {
    states: usize,
    /// Nothing was left out, within the model's bounds.
    is_exhaustive: bool,
    /// What should happen some time, and did.
    reached: Vec<&'static str>,
}

/// One write of a client, and up to three views.
const ONE_WRITE: Budget =
    Budget { writes: 1, reads: 0, crashes: 0, starts: 0, losses: 0, repeats: 0, timers: 0, resets: 0, views: 2 };
/// Two data nodes and a witness; three data nodes.
const SHAPES: [(u32, u32); 2] = [(2, 1), (3, 0)];
/// Deeper than any model goes by itself.
const DEPTH_MAX: usize = 10_000;

/// Checks a model until it is done, down to a depth, or for so long.
fn check(shape: (u32, u32), budget: Budget, order: Order, depth_max: usize, time_max: Duration) -> Found {
    let began = Instant::now();
    let (data, witnesses) = shape;
    let until = began.checked_add(time_max);
    let cluster = Cluster { data, witnesses, budget, until, is_done: Arc::default() };
    let builder = cluster.clone().checker().target_max_depth(depth_max);
    match order {
        Order::NearestFirst => judge(&cluster, &builder.spawn_bfs().join(), depth_max, began, time_max),
        Order::DeepestFirst => judge(&cluster, &builder.spawn_dfs().join(), depth_max, began, time_max),
    }
}

fn judge(
    cluster: &Cluster,
    checker: &impl Checker<Cluster>,
    depth_max: usize,
    began: Instant,
    time_max: Duration,
) -> Found {
    let took = began.elapsed();
    cluster.is_done.store(true, MemoryOrdering::Relaxed);
    let Cluster { data, witnesses, budget, .. } = cluster;
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let mut reached = Vec::new();
    for (property, path) in checker.discoveries() {
        let (last, steps) = (path.last_state().clone(), path.into_actions());
        let story: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        assert!(last.broken.is_none(), "{property}: {:?}, after\n  {}", last.broken, story.join("\n  "));
        reached.push(property);
    }
    let is_exhaustive = depth < depth_max && took < time_max;
    let ending = if is_exhaustive { "exhaustive" } else { "cut off" };
    println!(
        "{data} data nodes, {witnesses} witnesses, {budget:?}: {states} states, {} transitions, depth {depth}, {} s, {ending}",
        checker.state_count(),
        took.as_secs()
    );
    Found { states, is_exhaustive, reached }
}

#[test]
fn one_write_and_one_small_fault_in_every_order_keep_every_promise() {
    let faults = [
        Budget { reads: 1, repeats: 1, ..ONE_WRITE },
        Budget { reads: 1, losses: 1, ..ONE_WRITE },
        Budget { timers: 1, views: 0, ..ONE_WRITE },
    ];
    for shape in SHAPES {
        for budget in faults {
            let found = check(shape, budget, Order::NearestFirst, DEPTH_MAX, Duration::MAX);
            assert!(found.is_exhaustive && found.states > 20, "{} states", found.states);
            assert!(found.reached.contains(&"a write is acknowledged"), "{:?}", found.reached);
        }
    }
}

#[test]
fn one_silence_and_the_view_that_follows_in_every_order_keep_every_promise() {
    for shape in SHAPES {
        let budget = Budget { timers: 1, writes: 0, views: 1, ..ONE_WRITE };
        let found = check(shape, budget, Order::NearestFirst, DEPTH_MAX, Duration::MAX);
        assert!(found.is_exhaustive && found.states > 500, "{} states", found.states);
        assert!(found.reached.contains(&"another view is in force"), "{:?}", found.reached);
    }
}

#[test]
fn a_write_a_retry_and_one_crash_keep_every_promise() {
    let crash = Budget { crashes: 1, ..ONE_WRITE };
    let retry = Budget { writes: 2, ..crash };
    for (shape, budget, depth_max) in [((2, 1), retry, DEPTH_MAX), ((2, 0), retry, DEPTH_MAX), ((3, 0), crash, 12)] {
        let found = check(shape, budget, Order::NearestFirst, depth_max, Duration::MAX);
        assert!(found.states > 100, "{} states", found.states);
        assert!(found.is_exhaustive || depth_max < DEPTH_MAX, "{} states, and that was not all", found.states);
        let has_next_view = found.reached.contains(&"another view is in force");
        assert!(has_next_view || shape != (2, 1), "{:?}", found.reached);
    }
}

#[test]
#[ignore = "minutes; see the opening"]
fn large_models_keep_every_promise() {
    let seconds = std::env::var("LOCKSTEP_MODEL_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let faults = [
        Budget { crashes: 1, starts: 1, ..ONE_WRITE },
        Budget { timers: 1, views: 1, ..ONE_WRITE },
        Budget { reads: 1, timers: 1, repeats: 1, ..ONE_WRITE },
        Budget { reads: 1, timers: 1, resets: 2, ..ONE_WRITE },
        Budget { reads: 1, crashes: 1, starts: 1, losses: 1, repeats: 1, timers: 2, resets: 1, ..ONE_WRITE },
    ];
    for shape in SHAPES {
        for budget in faults {
            check(shape, budget, Order::DeepestFirst, DEPTH_MAX, Duration::from_secs(seconds));
        }
    }
}
