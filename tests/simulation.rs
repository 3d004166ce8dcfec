//! Runs the simulator: a fixed thousand seeds, and some that nobody has run before.
//!
//! A failing seed is told with its shortest story. See it again with `lockstep sim --seed N --trace`.
//!
//! `LOCKSTEP_SIM_FRESH` sets how many fresh seeds are run (200 by default).

use lockstep_protocol::sim::plan::Shape;
use lockstep_protocol::sim::{self, Report};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What all threads of one test share.
struct Seeds {
    next: AtomicU64,
    end: u64,
    acknowledged: AtomicU64,
    views: AtomicU64,
}

fn run_all(seeds: Range<u64>) -> Seeds {
    let seeds = Seeds {
        next: AtomicU64::new(seeds.start),
        end: seeds.end,
        acknowledged: AtomicU64::new(0),
        views: AtomicU64::new(0),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run_some(&seeds));
        }
    });
    seeds
}

fn run_some(seeds: &Seeds) {
    loop {
        let seed = seeds.next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds.end {
            return;
        }
        let run = catch_unwind(AssertUnwindSafe(|| sim::run(seed, Shape::default())));
        let report = run.unwrap_or_else(|_| panic!("seed {seed}: a machine panicked"));
        seeds.acknowledged.fetch_add(report.acknowledged, Ordering::Relaxed);
        seeds.views.fetch_add(report.views, Ordering::Relaxed);
        keeps_every_promise(&report);
    }
}

fn keeps_every_promise(report: &Report) {
    if let Some(violation) = &report.violation {
        let story = sim::shortest_story(report.seed, Shape::default());
        panic!("seed {}: {violation}\n{}", report.seed, story.join("\n"));
    }
}

#[test]
fn a_thousand_seeds_keep_every_promise() {
    let seeds = run_all(0..1_000);
    let (acknowledged, views) = (seeds.acknowledged.into_inner(), seeds.views.into_inner());
    assert!(acknowledged > 5_000, "the workload is too thin to show anything: {acknowledged} writes in all");
    assert!(views > 3_000, "the faults are too few to show anything: {views} views in all");
}

#[test]
fn fresh_seeds_keep_every_promise() {
    let count = std::env::var("LOCKSTEP_SIM_FRESH").ok().and_then(|count| count.parse().ok()).unwrap_or(200);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let first = u64::try_from(now % (1 << 48)).unwrap_or(0);
    run_all(first..first + count);
}

#[test]
fn two_newcomers_that_lose_their_disks_cost_the_next_view_no_quorum() {
    // View 3 was to take in a data node and a witness and to let a drained node go; both were wiped before it was learnt.
    keeps_every_promise(&sim::run(62_811, Shape::default()));
}

#[test]
fn one_seed_is_one_run() {
    for seed in [1, 2, 3, 5, 8, 13] {
        assert_eq!(sim::run(seed, Shape::default()), sim::run(seed, Shape::default()));
    }
}
