//! The table: medians of all rounds with the lowest and the highest, and what Lockstep is to each peer.
//!
//! The ratio is taken within each round, since the machine's speed differs between them, and then the median of those.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::args::{Target, Work};
use crate::failover::Failover;
use crate::measure::Outcome;

/// A work with how many clients.
type Key = (Work, usize);
/// Figures of all rounds.
type Rows = BTreeMap<(Work, std::cmp::Reverse<usize>, Target), Vec<Outcome>>;

/// Median, lowest, highest.
#[derive(Clone, Copy, Serialize)]
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    /// None of nothing.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, low, high })
    }

    fn show(self, write: impl Fn(f64) -> String) -> String {
        format!("{} ({}-{})", write(self.median), write(self.low), write(self.high))
    }
}

/// Prints it.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn print(file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let (mut rows, mut failovers) = (Rows::new(), BTreeMap::<Target, Vec<f64>>::new());
    for line in text.lines() {
        if let Ok(failover) = serde_json::from_str::<Failover>(line) {
            failovers.entry(failover.target).or_default().push(failover.failover_ms);
            continue;
        }
        let figure: Outcome = serde_json::from_str(line).with_context(|| line.to_owned())?;
        rows.entry((figure.work, std::cmp::Reverse(figure.clients), figure.target)).or_default().push(figure);
    }
    println!("| work | server | ops/s | Lockstep is | p50 ms | p99 ms | CPU s a thousand: servers / client | MiB |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut last = None;
    for ((work, clients, target), figures) in &rows {
        let key = (*work, clients.0);
        let title = if last.replace(key) == Some(key) { String::new() } else { title(key) };
        println!("| {title} | {} | {} |", name(*target), row(figures, &lockstep(&rows, key)).unwrap_or_default());
    }
    print_failovers(&failovers);
    Ok(())
}

fn print_failovers(failovers: &BTreeMap<Target, Vec<f64>>) {
    if failovers.is_empty() {
        return;
    }
    println!("\n| kill -9 of who leads, under 8 writers, until the next success | s | kills |");
    println!("| --- | --- | --- |");
    for (target, all) in failovers {
        let spread = Spread::of(all.clone()).map(|spread| spread.show(|ms| format!("{:.2}", ms / 1e3)));
        println!("| {} | {} | {} |", name(*target), spread.unwrap_or_default(), all.len());
    }
}

/// What Lockstep did at the same work, by round.
fn lockstep(rows: &Rows, (work, clients): Key) -> BTreeMap<u32, f64> {
    let figures = rows.get(&(work, std::cmp::Reverse(clients), Target::Lockstep)).into_iter().flatten();
    figures.map(|figure| (figure.round, figure.ops_per_s)).collect()
}

fn row(figures: &[Outcome], lockstep: &BTreeMap<u32, f64>) -> Option<String> {
    let of = |value: fn(&Outcome) -> f64| Spread::of(figures.iter().map(value).collect());
    let is_lockstep = figures.first()?.target == Target::Lockstep;
    let ratios = figures.iter().filter_map(|figure| Some(lockstep.get(&figure.round)? / figure.ops_per_s)).collect();
    let ratio = Spread::of(ratios).filter(|_| !is_lockstep).map(|ratio| ratio.show(|x| format!("{x:.2}")));
    Some(format!(
        "{} | {} | {:.2} | {:.1} | {:.3} / {:.3} | {:.0}",
        of(|figure| figure.ops_per_s)?.show(|x| format!("{x:.0}")),
        ratio.map(|ratio| format!("x {ratio}")).unwrap_or_default(),
        of(|figure| figure.p50_ms)?.median,
        of(|figure| figure.p99_ms)?.median,
        of(|figure| figure.server_cpu_s)?.median,
        of(|figure| figure.client_cpu_s)?.median,
        of(|figure| figure.memory_mib)?.median,
    ))
}

fn title((work, clients): Key) -> String {
    let work = match work {
        Work::Post => "post",
        Work::Newest => "newest 100 of a channel",
        Work::One => "one message by id",
    };
    let plural = if clients == 1 { "" } else { "s" };
    format!("{work}, {clients} client{plural}")
}

fn name(target: Target) -> &'static str {
    match target {
        Target::Lockstep => "**Lockstep**",
        Target::Etcd => "etcd",
        Target::Postgres => "PostgreSQL",
        Target::Nats => "NATS JetStream (unflushed)",
        Target::Redis => "Redis (no consensus)",
        Target::Floor => "(floor: hops and flushes alone)",
        Target::Ceiling => "(ceiling: actix-web, nothing stored)",
    }
}
