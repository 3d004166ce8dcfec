//! NATS JetStream: one stream on three replicas in files; a post is a publish with its acknowledgement.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, Context};

use crate::args::Work;
use crate::work::{Client, Texts};

/// One connection that all clients share: the more there are, the slower it is.
pub const CONNECTIONS_MAX: usize = 1;
/// The stream, and its only subject.
pub const STREAM: &str = "posted";
/// How long the servers may take to agree on a new stream.
const FILL_TIMEOUT: Duration = Duration::from_secs(20);

/// One client.
pub struct NatsClient {
    context: Context,
    texts: Texts,
}

/// Connects so many clients over so many connections.
///
/// # Errors
/// A server does not answer.
pub async fn connect(at: &[String], count: usize, connections: usize) -> Result<Vec<NatsClient>> {
    let mut shared = Vec::new();
    for at in at.iter().cycle().take(connections) {
        let options = async_nats::ConnectOptions::new().ignore_discovered_servers().max_reconnects(1);
        shared.push(jetstream::new(options.connect(format!("nats://{at}")).await?));
    }
    let client = |context: &Context| NatsClient { context: context.clone(), texts: Texts::new() };
    Ok(shared.iter().cycle().take(count).map(client).collect())
}

/// Makes the stream.
///
/// # Errors
/// The servers do not agree on one in time.
pub async fn fill(at: &[String]) -> Result<()> {
    let context = jetstream::new(async_nats::connect(format!("nats://{}", at[0])).await?);
    let config = || Config {
        name: STREAM.to_owned(),
        subjects: vec![STREAM.to_owned()],
        storage: StorageType::File,
        num_replicas: 3,
        ..Config::default()
    };
    let limit = tokio::time::Instant::now() + FILL_TIMEOUT;
    loop {
        match context.create_stream(config()).await {
            Ok(_) => return Ok(()),
            Err(error) if tokio::time::Instant::now() > limit => bail!("no stream: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await, // They have not met yet.
        }
    }
}

impl Client for NatsClient {
    async fn call(&mut self, work: Work) -> Result<()> {
        ensure!(work == Work::Post, "a stream has no such reads");
        let payload = bytes::Bytes::copy_from_slice(self.texts.take().as_bytes());
        let ack = self.context.publish(STREAM, payload).await?.await?;
        ensure!(ack.sequence > 0, "an acknowledgement without a number");
        Ok(())
    }
}
