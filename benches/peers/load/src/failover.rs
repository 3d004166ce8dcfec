//! A process is killed (`kill -9`) under 8 writers: how long until a write succeeds that began after that.
//!
//! A writer whose call fails, or takes longer than [`ATTEMPT`], goes to the next address at once, over a new connection: so a server that
//! holds its calls until somebody leads again is asked anew, four times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::args::{Target, Work};
use crate::work::Client;
use crate::{etcd, lockstep, nats};

const WRITERS: usize = 8;
/// They write so long before the kill.
const BEFORE: Duration = Duration::from_secs(1);
/// How long a call may take.
const ATTEMPT: Duration = Duration::from_millis(250);
/// Between a failed call and the next.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the cluster may take.
const LIMIT: Duration = Duration::from_secs(30);

/// One kill: a line in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failover {
    pub target: Target,
    pub round: u32,
    /// From the kill to the first answer to a write that began after it.
    pub failover_ms: f64,
}

/// One write that succeeded.
#[derive(Clone, Copy)]
struct Written {
    began: Instant,
    done: Instant,
}

/// Kills once.
///
/// # Errors
/// Nothing was written before, or nothing in time after it.
pub async fn measure(target: Target, at: &[String], pid: u32, round: u32) -> Result<Failover> {
    let failover_ms = match target {
        Target::Lockstep => observe(pid, at, async |at| lockstep::connect(&[at], 1, Work::Post).await).await?,
        Target::Etcd => observe(pid, at, async |at| etcd::connect(&[at], 1, 1).await).await?,
        Target::Nats => observe(pid, at, async |at| nats::connect(&[at], 1, 1).await).await?,
        Target::Postgres | Target::Redis | Target::Floor | Target::Ceiling => {
            bail!("{target:?} does not fail over by itself")
        }
    };
    Ok(Failover { target, round, failover_ms })
}

async fn observe<C, F>(pid: u32, at: &[String], connect: F) -> Result<f64>
where
    C: Client,
    F: AsyncFn(String) -> Result<Vec<C>> + Clone + 'static,
{
    let is_over = Arc::new(AtomicBool::new(false));
    let local = tokio::task::LocalSet::new();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut addresses = at.to_vec();
        addresses.rotate_left(writer % at.len());
        writers.push(local.spawn_local(write(addresses, connect.clone(), is_over.clone())));
    }
    let killed = local.run_until(kill_later(pid)).await?;
    let mut written = Vec::new();
    local.run_until(tokio::time::sleep(Duration::from_millis(100))).await;
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        written.extend(local.run_until(writer).await??);
    }
    ensure!(written.iter().any(|written| written.done < killed), "nothing was written before the kill");
    let after = written.iter().filter(|written| written.began > killed).map(|written| written.done - killed).min();
    Ok(after.context("nothing was written after the kill")?.as_secs_f64() * 1e3)
}

/// The moment of the kill.
async fn kill_later(pid: u32) -> Result<Instant> {
    tokio::time::sleep(BEFORE).await;
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL).context("it cannot be killed")?;
    Ok(Instant::now())
}

/// Writes until it is over, and until its last write has succeeded: so each writer has one that began after the kill.
async fn write<C: Client>(
    at: Vec<String>,
    connect: impl AsyncFn(String) -> Result<Vec<C>>,
    is_over: Arc<AtomicBool>,
) -> Result<Vec<Written>> {
    let limit = Instant::now() + LIMIT;
    let mut written = Vec::new();
    for at in at.iter().cycle() {
        let connected = tokio::time::timeout(ATTEMPT, connect(at.clone())).await;
        if let Some(mut client) = connected.ok().and_then(Result::ok).and_then(|clients| clients.into_iter().next()) {
            loop {
                let was_over = is_over.load(Ordering::Relaxed);
                let began = Instant::now();
                if !matches!(tokio::time::timeout(ATTEMPT, client.call(Work::Post)).await, Ok(Ok(()))) {
                    break;
                }
                written.push(Written { began, done: Instant::now() });
                if was_over {
                    return Ok(written);
                }
            }
        }
        ensure!(Instant::now() < limit, "no write succeeds any more");
        tokio::time::sleep(PAUSE).await;
    }
    bail!("no address is given")
}
