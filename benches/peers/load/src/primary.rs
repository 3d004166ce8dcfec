//! Who leads, once all replicas serve: what `run.sh` waits for, and whom it kills.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::args::{Target, Work};
use crate::work::Client as _;
use crate::{http, nats, redis_stream};

/// How long a cluster may take until all of it serves.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it is left alone between two questions.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Prints the position of the primary among the addresses, from 1; of Lockstep, whose gateways are asked, its id.
///
/// # Errors
/// Not all of them serve in time.
pub async fn print(target: Target, at: &[String]) -> Result<()> {
    let limit = Instant::now() + LIMIT;
    loop {
        let found = tokio::time::timeout(ANSWER, find(target, at)).await.context("no answer in time").flatten();
        match found {
            Ok(position) => {
                println!("{position}");
                return Ok(());
            }
            Err(error) if Instant::now() > limit => bail!("{target:?} does not serve: {error:#}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn find(target: Target, at: &[String]) -> Result<u64> {
    match target {
        Target::Lockstep => find_lockstep(at).await,
        Target::Etcd => find_etcd(at).await,
        Target::Nats => find_nats(at).await,
        Target::Redis => {
            let clients = redis_stream::connect(at, 1).await?;
            clients.into_iter().next().context("no client")?.call(Work::Post).await?;
            Ok(1)
        }
        Target::Postgres | Target::Floor | Target::Ceiling => bail!("nobody is asked about {target:?}"),
    }
}

/// Every gateway sees three replicas, led by the highest.
async fn find_lockstep(at: &[String]) -> Result<u64> {
    let mut primary = 0;
    for at in at {
        let cluster = http::ask(at, &http::get("/v1/cluster")).await?;
        let replicas = cluster["view"]["replicas"].as_array().context("no replicas")?;
        ensure!(replicas.len() == 3, "{} replicas", replicas.len());
        primary = cluster["view"]["primary"].as_u64().context("no primary")?;
        let highest = replicas.iter().filter_map(Value::as_u64).max();
        ensure!(highest == Some(primary), "the highest node has not taken over yet");
    }
    Ok(primary)
}

/// All members agree on who leads, and have applied the same.
async fn find_etcd(at: &[String]) -> Result<u64> {
    let mut states: Vec<Value> = Vec::new();
    for at in at {
        states.push(http::ask(at, &http::post("/v3/maintenance/status", "{}")).await?);
    }
    let same = |key: &str| states.iter().all(|state| state[key].is_string() && state[key] == states[0][key]);
    ensure!(same("leader") && same("raftAppliedIndex"), "they do not agree yet");
    let position = states.iter().position(|state| state["header"]["member_id"] == state["leader"]);
    Ok(position.context("it is none of them")? as u64 + 1)
}

/// The stream has somebody who leads, and that one says that both others are current. Servers are called `n1` and so on; asked are
/// their monitoring ports.
async fn find_nats(at: &[String]) -> Result<u64> {
    for position in 1..=at.len() {
        let state = http::ask(&at[position - 1], &http::get("/jsz?accounts=true&streams=true")).await?;
        let streams = state["account_details"].as_array().into_iter().flatten();
        let mut streams = streams.flat_map(|account| account["stream_detail"].as_array().into_iter().flatten());
        let Some(stream) = streams.find(|stream| stream["name"] == nats::STREAM) else { continue };
        let others = stream["cluster"]["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_current = |other: &Value| other["current"] == true && other["offline"] != true;
        if stream["cluster"]["leader"] == format!("n{position}") && others.len() == 2 && others.iter().all(is_current) {
            return Ok(position as u64);
        }
    }
    bail!("nobody leads the stream with two current replicas")
}
