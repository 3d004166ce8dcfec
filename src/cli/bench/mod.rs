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
mod connection;
mod ledger;
mod pace;
mod plan;
mod process;
mod read_back;
mod report;
mod request;
mod response;
mod schedule;
mod stage;
mod tally;
mod text;
mod verifier;
mod violation;
mod work;

pub use plan::Arguments;

use super::Failure;
use super::api::random_hex;
use answer::Expected;
use client::Shared;
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
use tally::Tally;
use text::{RUN_CHARS, Texts};
use work::KINDS;

/// Runs the load, tells what came of it, and fails when a promise was broken.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let json = arguments.json;
    let plan = Plan::new(arguments)?;
    let shared = prepare(&plan).await?;
    let measured = stage::measure(&shared, &plan).await?;
    let back = read_all_back(&shared).await?;
    let report = report(&plan, &shared, measured, back);
    if json {
        let text = serde_json::to_string_pretty(&report);
        println!("{}", text.map_err(|e| Failure::new(format!("the report cannot be written: {e}")))?);
    } else {
        println!("{report}");
    }
    match report.verified.violations {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(Failure::new(format!("{count} promises were broken: {}", report.verified.told.join("; ")))),
    }
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
    let mut reader = Reader::new(&shared, &shared.gateways[0]);
    for channel in &shared.expected.channels {
        reader.create(channel).await?;
    }
    stage::preload(&shared, plan).await?;
    Ok(shared)
}

async fn read_all_back(shared: &Shared) -> Result<Vec<ReadBack>, Failure> {
    let mut all = Vec::new();
    for gateway in shared.gateways.iter() {
        let mut violations = std::mem::take(&mut shared.tally.borrow_mut().violations);
        let read = read_back(shared, gateway, &mut violations).await;
        shared.tally.borrow_mut().violations = violations;
        all.push(read?);
    }
    Ok(all)
}

fn report(plan: &Plan, shared: &Shared, measured: Measured, read_back: Vec<ReadBack>) -> Report {
    let tally = shared.tally.borrow();
    let seconds = tally.lasted().as_secs_f64();
    let all = tally.all();
    let mut lines: Vec<_> = KINDS
        .iter()
        .filter(|kind| plan.mix.has(**kind))
        .map(|kind| Line::new(kind.name(), tally.of(*kind), seconds))
        .collect();
    if lines.len() > 1 {
        lines.push(Line::new("all", &all, seconds));
    }
    let cost = |(Process { name, pid }, cost)| CostLine::new(name, pid, cost, all.len());
    Report {
        setup: plan.to_string(),
        seconds,
        lines,
        errors: tally.errors.clone(),
        reconnects: tally.reconnects,
        schedule: plan.rate.map(|rate| report::Schedule {
            rate,
            unsent: measured.unsent,
            late_p99_us: tally.sent_late.value_at_quantile(0.99),
            late_max_us: tally.sent_late.max(),
        }),
        processes: measured.costs.into_iter().map(cost).collect(),
        verified: Verified::new(shared.ledger.borrow().counts(), read_back, tally.violations.clone()),
    }
}
