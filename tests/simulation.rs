//! Runs the simulator: a fixed set of seeds for safety and for liveness, and some that nobody has run before.
//!
//! A failing seed is told with its shortest story. See it again with `lockstep sim --seed N --trace`, one for liveness with `--liveness` too.
//!
//! `LOCKSTEP_SIM_FRESH` sets how many fresh seeds are run (200 by default).

use lockstep_protocol::sim::met::{Met, Totals};
use lockstep_protocol::sim::plan::Shape;
use lockstep_protocol::sim::{self, Report};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// For safety: one seed, one cluster, faults that end.
const SAFETY: Shape = Shape { data: None, witnesses: None, is_lasting: false };
/// For liveness: faults that become permanent, and leave a core that has to serve.
const LIVENESS: Shape = Shape { is_lasting: true, ..SAFETY };

/// What all threads of one test share.
struct Seeds {
    next: AtomicU64,
    end: u64,
    shape: Shape,
    acknowledged: AtomicU64,
    views: AtomicU64,
    met: Mutex<Totals>,
}

fn run_all(seeds: Range<u64>, shape: Shape) -> Seeds {
    let seeds = Seeds {
        next: AtomicU64::new(seeds.start),
        end: seeds.end,
        shape,
        acknowledged: AtomicU64::new(0),
        views: AtomicU64::new(0),
        met: Mutex::new(Totals::default()),
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
    let mut met = Totals::default();
    loop {
        let seed = seeds.next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds.end {
            break;
        }
        let run = catch_unwind(AssertUnwindSafe(|| sim::run(seed, seeds.shape)));
        let report = run.unwrap_or_else(|_| panic!("seed {seed}: a machine panicked"));
        met.add(&report.met);
        seeds.acknowledged.fetch_add(report.acknowledged, Ordering::Relaxed);
        seeds.views.fetch_add(report.views, Ordering::Relaxed);
        keeps_every_promise(&report, seeds.shape);
    }
    seeds.met.lock().expect("nobody panics while holding it").merge(&met);
}

fn keeps_every_promise(report: &Report, shape: Shape) {
    if let Some(violation) = &report.violation {
        let story = sim::shortest_story(report.seed, shape);
        panic!("seed {}: {violation}\n{}", report.seed, story.join("\n"));
    }
}

/// Every kind of fault, and every corner that faults are for, occurs.
fn meets_everything(seeds: Seeds, kinds: impl Fn(Met) -> bool) {
    let met = seeds.met.into_inner().expect("nobody panics while holding it");
    let missing: Vec<_> =
        Met::ALL.into_iter().filter(|kind| kinds(*kind) && met.runs_with(*kind) == 0).map(Met::name).collect();
    assert!(missing.is_empty(), "these never occurred: {missing:?}\n{}", met.table().join("\n"));
}

#[test]
fn fixed_seeds_keep_every_promise() {
    let seeds = run_all(0..600, SAFETY);
    let (acknowledged, views) = (seeds.acknowledged.load(Ordering::Relaxed), seeds.views.load(Ordering::Relaxed));
    assert!(acknowledged > 3_000, "the workload is too thin to show anything: {acknowledged} writes in all");
    assert!(views > 1_800, "the faults are too few to show anything: {views} views in all");
    meets_everything(seeds, |kind| !kind.is_of_liveness());
}

#[test]
fn a_healthy_core_serves_whatever_ails_the_others() {
    let seeds = run_all(0..400, LIVENESS);
    let views = seeds.views.load(Ordering::Relaxed);
    assert!(views > 1_800, "the faults are too few to show anything: {views} views in all");
    // That a core is left out again and again is rare, and nothing to strive for.
    meets_everything(seeds, |kind| kind.is_of_liveness() && kind != Met::CoresWithoutDuty);
}

#[test]
fn fresh_seeds_keep_every_promise() {
    let count: u64 = std::env::var("LOCKSTEP_SIM_FRESH").ok().and_then(|count| count.parse().ok()).unwrap_or(200);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let first = u64::try_from(now % (1 << 48)).unwrap_or(0);
    run_all(first..first + count / 2, SAFETY);
    run_all(first..first + count.div_ceil(2), LIVENESS);
}

#[test]
fn one_seed_is_one_run() {
    for seed in [1, 2, 3, 5, 8, 13] {
        for shape in [SAFETY, LIVENESS] {
            assert_eq!(sim::run(seed, shape), sim::run(seed, shape));
        }
    }
}
