//! Reads everything back when the load is over, through every gateway, page by page.
//!
//! It asks a gateway that is in trouble again for a while: what it must not do is to give up silently. A gateway that cannot be
//! read through fails the run.

use super::super::Failure;
use super::answer::{self, Expected};
use super::client::Finished;
use super::connection::{Answer, Connection, Gateway};
use super::request::Encoder;
use super::tally::Violations;
use super::verifier::Verifier;
use serde::Serialize;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long one request is tried again.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long to wait before the next try.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest page. Messages.
const PAGE_MAX: usize = 1_000;

/// What one gateway showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadBack {
    /// The gateway.
    pub gateway: String,
    /// How many messages of this run, as far as it was read.
    pub messages: usize,
    /// Why it was not read to the end.
    pub failure: Option<String>,
}

/// Reads all channels through this gateway, and checks them.
pub async fn read_back(finished: &Finished, gateway: &Gateway, violations: &mut Violations) -> ReadBack {
    let Finished { expected, ledger, .. } = finished;
    let mut verifier = Verifier::new(ledger, expected, &gateway.name, violations);
    let read = read_all(expected, gateway, &mut verifier).await;
    let (messages, failure) = match read {
        Ok(()) => (verifier.finish(), None),
        // What was not asked for is not lost.
        Err(failure) => (verifier.seen(), Some(failure.to_string())),
    };
    ReadBack { gateway: gateway.name.clone(), messages, failure }
}

async fn read_all(expected: &Expected, gateway: &Gateway, verifier: &mut Verifier<'_>) -> Result<(), Failure> {
    let mut reader = Reader::new(expected, gateway);
    for (place, channel) in expected.channels.iter().enumerate() {
        verifier.channel(place);
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/channels/{channel}/messages?order=asc&limit={PAGE_MAX}{cursor}");
            let body = reader.get(&path).await?;
            let page = answer::page(&body).map_err(|violation| Failure::new(violation.to_string()))?;
            page.messages.iter().for_each(|message| verifier.message(message));
            match page.next {
                Some(next) if page.has_more => cursor = format!("&cursor={next}"),
                Some(_) | None => break,
            }
        }
    }
    Ok(())
}

/// Asks one gateway until it answers.
pub struct Reader {
    connection: Connection,
    encoder: Encoder,
    gateway: Gateway,
}

impl Reader {
    /// Of this gateway and no other.
    pub fn new(expected: &Expected, gateway: &Gateway) -> Self {
        let connection = Connection::new(Rc::from([gateway.clone()]), 0);
        Self { connection, encoder: Encoder::new(&expected.user), gateway: gateway.clone() }
    }

    /// The body of a 200.
    pub async fn get(&mut self, path: &str) -> Result<Vec<u8>, Failure> {
        let request = self.encoder.get(&self.gateway.name, format_args!("{path}")).to_vec();
        self.insist(&request).await
    }

    /// Creates a channel.
    pub async fn create(&mut self, channel: &str) -> Result<(), Failure> {
        let path = format_args!("/v1/channels/{channel}");
        let request = self.encoder.write("PUT", &self.gateway.name, path, channel).to_vec();
        self.insist(&request).await.map(drop)
    }

    async fn insist(&mut self, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let begun = Instant::now();
        loop {
            let why = match self.connection.ask(request).await {
                Ok(Answer { status: 200 | 201, body, .. }) => return Ok(body.to_vec()),
                Ok(Answer { status, body, .. }) => format!("{status} {}", answer::code(body)),
                Err(trouble) => trouble.to_string(),
            };
            if begun.elapsed() > PATIENCE {
                return Err(self.failure(&why));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn failure(&self, why: &str) -> Failure {
        Failure::new(format!("{} was asked for {} s in vain: {why}", self.gateway.name, PATIENCE.as_secs()))
    }
}
