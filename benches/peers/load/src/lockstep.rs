//! Lockstep: its HTTP API, one connection a client, the clients spread over the gateways.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::args::Work;
use crate::http::{self, Http};
use crate::work::{Client, PAGE, Texts};

/// Where posts go, so that the channel that is read keeps its size.
const POSTED: &str = "posted";
/// The channel that is read.
pub const READ: &str = "read";
/// Of so many of the newest messages one is read by its id, pages of 1,000: as many as etcd has keys.
const ID_PAGES: usize = 20;

/// One client.
pub struct LockstepClient {
    http: Http,
    channel: &'static str,
    texts: Texts,
    ids: Arc<Vec<String>>,
}

/// Connects so many clients.
///
/// # Errors
/// A gateway does not answer.
pub async fn connect(at: &[String], count: usize, work: Work) -> Result<Vec<LockstepClient>> {
    let ids = Arc::new(if work == Work::One { ids(&at[0]).await? } else { Vec::new() });
    connect_to(POSTED, at, count, &ids).await
}

/// Connects clients that fill the channel that is read.
///
/// # Errors
/// A gateway does not answer.
pub async fn connect_fillers(at: &[String], count: usize) -> Result<Vec<LockstepClient>> {
    connect_to(READ, at, count, &Arc::default()).await
}

async fn connect_to(
    channel: &'static str,
    at: &[String],
    count: usize,
    ids: &Arc<Vec<String>>,
) -> Result<Vec<LockstepClient>> {
    let mut clients = Vec::new();
    for at in at.iter().cycle().take(count) {
        let http = Http::connect(at).await?;
        clients.push(LockstepClient { http, channel, texts: Texts::new(), ids: ids.clone() });
    }
    Ok(clients)
}

/// The newest ids of the channel that is read.
async fn ids(at: &str) -> Result<Vec<String>> {
    let mut http = Http::connect(at).await?;
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..ID_PAGES {
        let before = ids.last().map(|id| format!("&before={id}")).unwrap_or_default();
        let answer = http.call(&http::get(&format!("/v1/channels/{READ}/messages?limit=1000{before}"))).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        let page: Page = serde_json::from_slice(&answer.body)?;
        ids.extend(page.messages.into_iter().map(|message| message.id));
    }
    ensure!(!ids.is_empty(), "the channel {READ} is empty");
    Ok(ids)
}

/// A page, as far as it matters here.
#[derive(Deserialize)]
struct Page {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    id: String,
}

impl Client for LockstepClient {
    async fn call(&mut self, work: Work) -> Result<()> {
        let (request, expected) = match work {
            Work::Post => {
                let json = format!(r#"{{"text":"{}"}}"#, self.texts.take());
                (http::post(&format!("/v1/channels/{}/messages", self.channel), &json), 201)
            }
            Work::Newest => (http::get(&format!("/v1/channels/{READ}/messages?limit={PAGE}")), 200),
            Work::One => {
                let id = fastrand::choice(self.ids.iter()).context("no ids are known")?;
                (http::get(&format!("/v1/messages/{id}")), 200)
            }
        };
        let answer = self.http.call(&request).await?;
        ensure!(answer.status == expected, "status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        if work == Work::Newest {
            // Each of its messages has the text at least.
            ensure!(answer.body.len() > PAGE * crate::work::TEXT_BYTES, "a page of {} bytes", answer.body.len());
        }
        Ok(())
    }
}
