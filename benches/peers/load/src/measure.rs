//! Measuring: clients in a closed loop, a warm-up, a window.
//!
//! Counted is what ends within the window; timed is what begins in it, to its end. The servers' CPU is taken at both ends of the
//! window and their memory at its end, on a thread of its own, so that it does not wait for a busy runtime. One wrong answer makes the
//! figure void: there are no errors to be reported beside it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::args::{Run, Target, Work};
use crate::usage;
use crate::work::Client;

/// The longest time that is told apart, one minute: in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
/// How long the last answers may take after the window.
const GRACE: Duration = Duration::from_secs(30);

/// What is measured, and how long.
pub struct Plan {
    target: Target,
    work: Work,
    clients: usize,
    connections: usize,
    round: u32,
    warm: Duration,
    window: Duration,
    pids: Vec<u32>,
}

impl Plan {
    /// As the command line says.
    pub fn new(run: &Run, connections: usize) -> Self {
        Self {
            target: run.target,
            work: run.work,
            clients: run.clients,
            connections,
            round: run.round,
            warm: Duration::from_millis(run.warm_ms),
            window: Duration::from_millis(run.window_ms),
            pids: run.pids.clone(),
        }
    }
}

/// One figure: a line in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub target: Target,
    pub work: Work,
    pub clients: usize,
    pub connections: usize,
    pub round: u32,
    pub ops_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// CPU seconds of all server processes together, a thousand operations.
    pub server_cpu_s: f64,
    /// The same of this process.
    pub client_cpu_s: f64,
    /// Of all server processes together, shared pages counted once.
    pub memory_mib: f64,
}

/// What one client saw.
struct Tally {
    count: u64,
    latency_us: Histogram<u32>,
}

impl Tally {
    fn new() -> Result<Self> {
        Ok(Self { count: 0, latency_us: Histogram::new_with_max(LATENCY_US_MAX, 3)? })
    }
}

/// Lets all clients work at once.
///
/// # Errors
/// Any wrong answer, and no answer for [`GRACE`] after the window.
pub async fn measure<C: Client>(clients: Vec<C>, plan: &Plan) -> Result<Outcome> {
    let begin = Instant::now() + plan.warm;
    let end = begin + plan.window;
    let pids = plan.pids.clone();
    let watch = std::thread::spawn(move || watch(&pids, begin, end));
    let tasks: Vec<_> = clients.into_iter().map(|client| tokio::spawn(drive(client, plan.work, begin, end))).collect();
    let mut all = Tally::new()?;
    let mut kept = Vec::new(); // Connections stay until memory was taken: a server forgets with them.
    for task in tasks {
        let limit = tokio::time::Instant::from_std(end + GRACE);
        let (client, tally) = tokio::time::timeout_at(limit, task).await.context("no answer")???;
        all.count += tally.count;
        all.latency_us.add(&tally.latency_us)?;
        kept.push(client);
    }
    let used = watch.join().map_err(|_| anyhow::anyhow!("the watch over the servers ended"))??;
    drop(kept);
    Ok(outcome(plan, &all, &used))
}

async fn drive<C: Client>(mut client: C, work: Work, begin: Instant, end: Instant) -> Result<(C, Tally)> {
    let mut tally = Tally::new()?;
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok((client, tally));
        }
        client.call(work).await?;
        let done = Instant::now();
        if started >= begin {
            tally.latency_us.saturating_record(((done - started).as_micros() as u64).max(1));
        }
        if (begin..end).contains(&done) {
            tally.count += 1;
        }
    }
}

/// What the servers and this process used in the window.
struct Used {
    server_cpu_s: f64,
    client_cpu_s: f64,
    memory_mib: f64,
}

fn watch(pids: &[u32], begin: Instant, end: Instant) -> Result<Used> {
    let own = [std::process::id()];
    std::thread::sleep(begin.saturating_duration_since(Instant::now()));
    let before = (usage::cpu_s(pids)?, usage::cpu_s(&own)?);
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    let after = (usage::cpu_s(pids)?, usage::cpu_s(&own)?);
    let memory_mib = usage::memory_mib(pids)?;
    Ok(Used { server_cpu_s: after.0 - before.0, client_cpu_s: after.1 - before.1, memory_mib })
}

fn outcome(plan: &Plan, all: &Tally, used: &Used) -> Outcome {
    let ms = |us: u64| us as f64 / 1e3;
    let thousands = all.count as f64 / 1e3;
    Outcome {
        target: plan.target,
        work: plan.work,
        clients: plan.clients,
        connections: plan.connections,
        round: plan.round,
        ops_per_s: all.count as f64 / plan.window.as_secs_f64(),
        p50_ms: ms(all.latency_us.value_at_quantile(0.5)),
        p99_ms: ms(all.latency_us.value_at_quantile(0.99)),
        max_ms: ms(all.latency_us.max()),
        server_cpu_s: used.server_cpu_s / thousands,
        client_cpu_s: used.client_cpu_s / thousands,
        memory_mib: used.memory_mib,
    }
}
