//! Redis: XADD to a stream, then WAIT for both replicas, sent as one. WAIT holds its connection up, so each client has its own.

use anyhow::{Result, ensure};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, IntoConnectionInfo as _};

use crate::args::Work;
use crate::work::{Client, Texts};

/// How long WAIT may take; then a replica is missing, and the figure void. Milliseconds.
const WAIT_MS: u64 = 10_000;
const REPLICAS: u64 = 2;

/// One client.
pub struct RedisClient {
    connection: MultiplexedConnection,
    texts: Texts,
}

/// Connects so many clients to the primary, which is the first.
///
/// # Errors
/// It does not answer.
pub async fn connect(at: &[String], count: usize) -> Result<Vec<RedisClient>> {
    let info = format!("redis://{}", at[0]).into_connection_info()?;
    let client = redis::Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))?;
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let mut clients = Vec::new();
    for _ in 0..count {
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        clients.push(RedisClient { connection, texts: Texts::new() });
    }
    Ok(clients)
}

impl Client for RedisClient {
    async fn call(&mut self, work: Work) -> Result<()> {
        ensure!(work == Work::Post, "only posts are compared");
        let mut both = redis::pipe();
        both.cmd("XADD").arg("posted").arg("*").arg("text").arg(self.texts.take()).ignore();
        both.cmd("WAIT").arg(REPLICAS).arg(WAIT_MS);
        let (replicas,): (u64,) = both.query_async(&mut self.connection).await?;
        ensure!(replicas == REPLICAS, "only {replicas} replicas have it");
        Ok(())
    }
}
