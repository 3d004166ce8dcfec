//! `lockstep bench`: a load over HTTP, its latencies and its cost, and whether the cluster kept its promises under it.
//!
//! It says how long clients wait, and never how fast something would be if: latency counts from the moment at which an
//! operation was meant to be sent, errors are no operations, and what was acknowledged is read back in the end. One thread, since it
//! runs beside what it measures.
//!
//! Reading order: `work` (what is done), `schedule` and `pace` (when), `client` (one client), `connection`, `request` and `response`
//! (how it asks), `ledger` (what it was told), `answer` and `verifier` (what must be true), `tally`, `process` and `report`.

mod answer;
mod client;
pub mod connection;
mod ledger;
mod pace;
mod plan;
mod process;
mod read_back;
mod report;
pub mod request;
mod response;
mod schedule;
mod stage;
mod tally;
#[cfg(test)]
mod tests;
mod text;
mod verifier;
mod violation;
mod work;

pub use plan::Arguments;

use super::Failure;
use super::api::random_hex;
use answer::Expected;
use client::{Finished, Shared};
use ledger::Ledger;
use plan::Plan;
use process::Process;
use read_back::{ReadBack, Reader, read_back};
use report::{CostLine, Line, Report, Verified};
use stage::Measured;
use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;
use tally::{Done, Tally};
use text::{RUN_CHARS, Texts};
use work::KINDS;

/// Runs the load, tells what came of it, and fails when a promise was broken.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let json = arguments.json;
    let report = measure(&Plan::new(arguments)?).await?;
    if json {
        let text = serde_json::to_string_pretty(&report);
        println!("{}", text.map_err(|e| Failure::new(format!("the report cannot be written: {e}")))?);
    } else {
        print!("{report}");
    }
    report.verified.failure().map_or(Ok(ExitCode::SUCCESS), |why| Err(Failure::new(why)))
}

/// All stages of a run.
async fn measure(plan: &Plan) -> Result<Report, Failure> {
    let shared = prepare(plan).await?;
    let measured = stage::measure(&shared, plan).await?;
    let shared = Rc::into_inner(shared).ok_or_else(|| Failure::new("a client has not ended"))?;
    let mut finished = shared.finish();
    let back = read_all_back(&mut finished).await;
    Ok(report(plan, finished, measured, back))
}

/// Creates the channels, and the messages that reads need.
async fn prepare(plan: &Plan) -> Result<Rc<Shared>, Failure> {
    let run = random_hex(RUN_CHARS / 2)?;
    let channels: Vec<_> = (0..plan.channels).map(|number| format!("bench-{run}-{number}")).collect();
    let now = Instant::now();
    let shared = Rc::new(Shared {
        gateways: plan.gateways.clone().into(),
        expected: Expected { texts: Texts::new(&run, plan.size), channels, user: plan.user.clone() },
        ledger: RefCell::new(Ledger::new(plan.writers(), plan.channels)),
        tally: RefCell::new(Tally::new(now..now)),
        run,
    });
    let mut reader = Reader::new(&shared.expected, &shared.gateways[0]);
    for channel in &shared.expected.channels {
        reader.create(channel).await?;
    }
    stage::preload(&shared, plan).await?;
    Ok(shared)
}

async fn read_all_back(finished: &mut Finished) -> Vec<ReadBack> {
    let mut violations = std::mem::take(&mut finished.tally.violations);
    let mut all = Vec::new();
    for gateway in finished.gateways.iter() {
        all.push(read_back(finished, gateway, &mut violations).await);
    }
    finished.tally.violations = violations;
    all
}

fn report(plan: &Plan, finished: Finished, measured: Measured, read_back: Vec<ReadBack>) -> Report {
    let Finished { ledger, tally, .. } = finished;
    let (seconds, all) = (plan.lasts.as_secs_f64(), tally.all());
    let schedule = |rate| report::Schedule {
        rate,
        unsent: measured.unsent,
        late_p99_us: tally.sent_late.value_at_quantile(0.99),
        late_max_us: tally.sent_late.max(),
    };
    let cost = |(Process { name, pid }, cost)| CostLine::new(name, pid, cost, all.latencies.len());
    Report {
        setup: plan.to_string(),
        seconds,
        lines: lines(plan, &tally, &all, seconds),
        schedule: plan.rate.map(schedule),
        processes: measured.costs.into_iter().map(cost).collect(),
        errors: tally.errors,
        reconnects: tally.reconnects,
        verified: Verified::new(ledger.counts(), read_back, tally.violations),
    }
}

/// One for each kind, and if there are several, one for all.
fn lines(plan: &Plan, tally: &Tally, all: &Done, seconds: f64) -> Vec<Line> {
    let kinds = KINDS.into_iter().filter(|kind| plan.mix.has(*kind));
    let mut lines: Vec<_> = kinds.map(|kind| Line::new(kind.name(), tally.of(kind), seconds)).collect();
    if lines.len() > 1 {
        lines.push(Line::new("all", all, seconds));
    }
    lines
}
