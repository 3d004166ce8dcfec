//! The stages of a run: messages that reads need, then the load, of which the time after the warm-up is measured.

use super::super::Failure;
use super::client::{Client, Shared};
use super::pace::Pace;
use super::plan::Plan;
use super::process::{Cost, Process, between};
use super::schedule::{Schedule, Turns};
use super::tally::Tally;
use super::work::{Kind, Mix};
use actix_rt::task::JoinHandle;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How many clients post what is there before: enough that batches are large.
pub const PRELOAD_CLIENTS: usize = 256;
/// How many errors the preload may meet.
const PRELOAD_ERRORS_MAX: u32 = 10_000;
/// How long an open loop that is late goes on after its end.
const DRAIN: Duration = Duration::from_secs(5);

/// What the measured stage came to, beside what was counted.
pub struct Measured {
    /// The measured processes and this one.
    pub costs: Vec<(Process, Option<Cost>)>,
    /// Operations that were due and never sent.
    pub unsent: u64,
}

/// Posts what must be there before.
pub async fn preload(shared: &Rc<Shared>, plan: &Plan) -> Result<(), Failure> {
    if plan.preload == 0 {
        return Ok(());
    }
    eprintln!("lockstep: posting {} messages before the load", plan.preload);
    let pace = Rc::new(Pace::Count { left: Cell::new(plan.preload), errors_left: Cell::new(PRELOAD_ERRORS_MAX) });
    let now = Instant::now();
    *shared.tally.borrow_mut() = Tally::new(now..now + Duration::from_secs(86_400));
    let posts = Mix::parse("post=1").map_err(Failure::new)?;
    join(spawn(shared, &pace, posts, PRELOAD_CLIENTS, 'p')).await?;
    let tally = shared.tally.borrow();
    if tally.of(Kind::Post).latencies.len() < plan.preload {
        return Err(Failure::new(format!("the messages could not be posted before the load: {:?}", tally.errors)));
    }
    Ok(())
}

/// The warm-up and the measured time, with the same clients.
pub async fn measure(shared: &Rc<Shared>, plan: &Plan) -> Result<Measured, Failure> {
    let begin = Instant::now();
    let window = begin + plan.warm_up..begin + plan.warm_up + plan.lasts;
    let violations = std::mem::take(&mut shared.tally.borrow_mut().violations);
    *shared.tally.borrow_mut() = Tally::new(window.clone());
    shared.tally.borrow_mut().violations = violations;
    let pace = Rc::new(match plan.rate {
        None => Pace::Closed { until: window.end },
        Some(rate) => Pace::Open(turns(Schedule::new(begin, rate, plan.warm_up + plan.lasts))?),
    });
    let clients = spawn(shared, &pace, plan.mix, plan.clients, 'm');
    tokio::time::sleep_until(window.start.into()).await;
    let processes = || plan.processes.iter().cloned().chain([Process::own()]);
    let before: Vec<_> = processes().map(|process| process.used()).collect();
    finish(&pace, clients, window.end).await?;
    let costs = processes().zip(before).map(|(process, before)| {
        let cost = between(before, process.used());
        (process, cost)
    });
    let unsent = if let Pace::Open(turns) = &*pace { turns.left() } else { 0 };
    Ok(Measured { costs: costs.collect(), unsent })
}

fn turns(schedule: Schedule) -> Result<Turns, Failure> {
    Turns::begin(schedule).map_err(|e| Failure::new(format!("no thread for the schedule: {e}")))
}

fn spawn(shared: &Rc<Shared>, pace: &Rc<Pace>, mix: Mix, clients: usize, stage: char) -> Vec<JoinHandle<()>> {
    let numbers = (0_u32..).take(clients);
    let client = |number| actix_rt::spawn(Client::new(shared.clone(), number, stage).run(pace.clone(), mix));
    numbers.map(client).collect()
}

async fn join(clients: Vec<JoinHandle<()>>) -> Result<(), Failure> {
    for client in clients {
        client.await.map_err(|e| Failure::new(format!("a client ended: {e}")))?;
    }
    Ok(())
}

/// Waits for all clients. An open loop that is late gets a little more time.
async fn finish(pace: &Pace, clients: Vec<JoinHandle<()>>, end: Instant) -> Result<(), Failure> {
    let mut joined = std::pin::pin!(join(clients));
    match tokio::time::timeout_at((end + DRAIN).into(), &mut joined).await {
        Ok(done) => done,
        Err(_) => {
            if let Pace::Open(turns) = pace {
                turns.end();
            }
            joined.await
        }
    }
}
