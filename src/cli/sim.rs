//! `lockstep sim`: runs seeds of the simulator on all cores, tells which faults and corners they met, and the shortest story of
//! one that fails.
//!
//! Not here: what a run is and what it must keep (`lockstep_protocol::sim`).

use clap::Args;
use lockstep_protocol::sim::met::Totals;
use lockstep_protocol::sim::plan::Shape;
use lockstep_protocol::sim::story::Weight;
use lockstep_protocol::sim::{self, Report};
use std::cell::Cell;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Runs the deterministic simulator: one seed is one run, bit for bit.
#[derive(Args, Clone, Debug)]
pub struct SimArgs {
    /// The seeds to run, `A..B`, without B.
    #[arg(long, value_parser = parse_range, default_value = "0..1000", conflicts_with = "seed")]
    pub seeds: Range<u64>,
    /// One seed only.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print what happens in that one seed; twice, with every letter; three times, with every input.
    #[arg(long, action = clap::ArgAction::Count, requires = "seed")]
    pub trace: u8,
    /// Data nodes, 1 to 5; drawn by each seed when not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=5))]
    pub data: Option<u32>,
    /// Witnesses, 0 to 3; drawn by each seed when not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=3))]
    pub witnesses: Option<u32>,
    /// For liveness: faults become permanent, and leave a healthy core, which has to serve.
    #[arg(long)]
    pub liveness: bool,
    /// How many seeds run at once; by default as many as there are cores.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Go on after a failing seed.
    #[arg(long)]
    pub keep_going: bool,
    /// Do not look for the shortest story of a failing seed.
    #[arg(long)]
    pub no_story: bool,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text:?} is no range of seeds: expected A..B with A below B");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) if from < to => Ok(from..to),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => Err(wrong()),
    }
}

thread_local! {
    /// Which seed this thread runs: a machine that panics takes the process with it, and its seed is wanted then.
    static RUNNING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs the command. The exit code is 1 when a promise was broken.
#[must_use]
pub fn run(args: &SimArgs) -> ExitCode {
    name_the_seed_of_a_panic(args.liveness);
    let shape = Shape { data: args.data, witnesses: args.witnesses, is_lasting: args.liveness };
    match args.seed {
        Some(seed) if args.trace > 0 => run_traced(seed, shape, args.trace),
        Some(seed) => run_many(args, seed..seed.saturating_add(1), shape),
        None => run_many(args, args.seeds.clone(), shape),
    }
}

fn name_the_seed_of_a_panic(is_lasting: bool) {
    let mode = if is_lasting { " --liveness" } else { "" };
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Some(seed) = RUNNING.get() {
            eprintln!(
                "seed {seed} failed: a machine panicked. See it again with: lockstep sim{mode} --seed {seed} --trace"
            );
        }
        before(info);
    }));
}

fn run_traced(seed: u64, shape: Shape, trace: u8) -> ExitCode {
    let most = match trace {
        0 | 1 => Weight::Call,
        2 => Weight::Letter,
        _ => Weight::Full,
    };
    RUNNING.set(Some(seed));
    let report = sim::run_traced(seed, shape, most, Box::new(|_, line| println!("{line}")));
    println!("{}", describe(&report));
    exit_code(report.violation.is_none())
}

fn describe(report: &Report) -> String {
    let Report { seed, violation, counts, acknowledged, decided, views, lasted_us, met: _ } = report;
    let outcome = violation.as_ref().map_or("kept every promise".to_owned(), ToString::to_string);
    let seconds = *lasted_us as f64 / 1e6;
    format!(
        "seed {seed}: {outcome} ({seconds:.1} s simulated, {} turns, {} letters, {acknowledged} writes acknowledged, \
         {decided} slots, {views} views)",
        counts.turns, counts.letters
    )
}

/// What all threads share.
struct Shared {
    next: AtomicU64,
    done: AtomicU64,
    turns: AtomicU64,
    acknowledged: AtomicU64,
    views: AtomicU64,
    longest_wait_us: AtomicU64,
    stop: AtomicBool,
    met: Mutex<Totals>,
    failed: Mutex<Vec<Report>>,
}

fn run_many(args: &SimArgs, seeds: Range<u64>, shape: Shape) -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(cores).max(1);
    let shared = Shared {
        next: AtomicU64::new(seeds.start),
        done: AtomicU64::new(0),
        turns: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        views: AtomicU64::new(0),
        longest_wait_us: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        met: Mutex::new(Totals::default()),
        failed: Mutex::new(Vec::new()),
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run_thread(&shared, seeds.end, shape, args.keep_going));
        }
    });
    report(&shared, began.elapsed().as_secs_f64(), threads.min(cores));
    if args.liveness {
        let longest_ms = shared.longest_wait_us.load(Ordering::Relaxed) / 1_000;
        println!("the longest wait of a write at a gateway of a healthy core: {longest_ms} ms, simulated");
    }
    if seeds.end - seeds.start > 1 {
        println!("of these seeds, how many met what, and how often in all:");
        whole(&shared.met).table().iter().for_each(|line| println!("{line}"));
    }
    let mut failed = std::mem::take(&mut *whole(&shared.failed));
    failed.sort_by_key(|report| report.seed);
    failed.iter().for_each(|report| println!("{}", describe(report)));
    if let Some(first) = failed.first().filter(|_| !args.no_story) {
        sim::shortest_story(first.seed, shape).iter().for_each(|line| println!("{line}"));
    }
    exit_code(failed.is_empty())
}

fn run_thread(shared: &Shared, end: u64, shape: Shape, keep_going: bool) {
    let mut met = Totals::default();
    while !shared.stop.load(Ordering::Relaxed) {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        RUNNING.set(Some(seed));
        let report = sim::run(seed, shape);
        RUNNING.set(None);
        met.add(&report.met);
        shared.done.fetch_add(1, Ordering::Relaxed);
        shared.turns.fetch_add(report.counts.turns, Ordering::Relaxed);
        shared.acknowledged.fetch_add(report.acknowledged, Ordering::Relaxed);
        shared.views.fetch_add(report.views, Ordering::Relaxed);
        shared.longest_wait_us.fetch_max(report.counts.longest_wait_us, Ordering::Relaxed);
        if report.violation.is_some() {
            shared.stop.store(!keep_going, Ordering::Relaxed);
            whole(&shared.failed).push(report);
        }
    }
    whole(&shared.met).merge(&met);
}

/// Who holds it never panics while it does.
fn whole<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn report(shared: &Shared, seconds: f64, cores: usize) {
    let done = shared.done.load(Ordering::Relaxed);
    let each = |sum: &AtomicU64| sum.load(Ordering::Relaxed) as f64 / done.max(1) as f64;
    let rate = done as f64 / seconds.max(1e-9);
    println!(
        "{done} seeds in {seconds:.1} s: {rate:.0} seeds/s, {:.0} seeds/s a core; a seed: {:.0} turns, {:.1} writes \
         acknowledged, {:.1} views",
        rate / cores as f64,
        each(&shared.turns),
        each(&shared.acknowledged),
        each(&shared.views)
    );
}

fn exit_code(kept: bool) -> ExitCode {
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn a_range_of_seeds_has_a_beginning_below_its_end() {
        assert_eq!(parse_range("3..10"), Ok(3..10));
        for bad in ["", "3", "3..", "..3", "3..3", "4..3", "a..b", "1..2..3"] {
            assert!(parse_range(bad).is_err(), "{bad:?} was taken for a range");
        }
    }
}
