//! What the reads need: a channel with messages in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};

use crate::args::{Target, Work};
use crate::work::Client as _;
use crate::{etcd, lockstep, nats, postgres};

/// How many post to Lockstep at once: as its users do, since it has no other way in.
const FILLERS: usize = 256;

/// Makes it.
///
/// # Errors
/// A write fails, or the target has nothing to be filled.
pub async fn fill(target: Target, count: u64, at: &[String]) -> Result<()> {
    match target {
        Target::Lockstep => fill_lockstep(at, count).await,
        Target::Etcd => etcd::fill(at, count).await,
        Target::Postgres => postgres::fill(at, count).await,
        Target::Nats => nats::fill(at).await,
        Target::Redis | Target::Floor | Target::Ceiling => bail!("{target:?} has nothing to be filled"),
    }
}

async fn fill_lockstep(at: &[String], count: u64) -> Result<()> {
    let taken = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for mut client in lockstep::connect_fillers(at, FILLERS).await? {
        let taken = taken.clone();
        tasks.push(tokio::spawn(async move {
            while taken.fetch_add(1, Ordering::Relaxed) < count {
                client.call(Work::Post).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}
