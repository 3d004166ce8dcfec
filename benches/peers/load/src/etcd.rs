//! etcd: gRPC, keys that sort the newest first, linearizable reads (its default).
//!
//! etcd sorts by nothing but the key without reading the whole range, so a message's key counts down. And it counts all keys of a range for
//! every answer, so the range ends at the 100th of the messages that the client knows already: what is newer comes before those,
//! and the limit makes it the newest 100 whatever was posted since. Without that end it slows down with every message.

use anyhow::{Result, ensure};
use etcd_client::{GetOptions, KvClient, Txn, TxnOp};

use crate::args::Work;
use crate::work::{Client, PAGE, Texts};

/// Connections that all clients share: few are slower, more than these not faster.
pub const CONNECTIONS_MAX: usize = 16;
/// The channel that is read.
const READ: &str = "read/";
/// How many keys it has.
pub const KEYS: u64 = 20_000;
/// Writes of one transaction while filling; etcd takes up to 128.
const FILL_BATCH: u64 = 100;

/// One client.
pub struct EtcdClient {
    kv: KvClient,
    /// Different for each client and run, so that every post is a key of its own.
    prefix: String,
    posted: u64,
    texts: Texts,
}

/// Connects so many clients over so many connections.
///
/// # Errors
/// It does not answer.
pub async fn connect(at: &[String], count: usize, connections: usize) -> Result<Vec<EtcdClient>> {
    let mut shared = Vec::new();
    for at in at.iter().cycle().take(connections) {
        let client = etcd_client::Client::connect([format!("http://{at}")], None).await?;
        shared.push(client.kv_client());
    }
    let client = |kv: &KvClient| EtcdClient {
        kv: kv.clone(),
        prefix: format!("posted/{:016x}/", fastrand::u64(..)),
        posted: 0,
        texts: Texts::new(),
    };
    Ok(shared.iter().cycle().take(count).map(client).collect())
}

fn key(number: u64) -> String {
    format!("{READ}{:020}", u64::MAX - number)
}

/// Writes the channel that is read.
///
/// # Errors
/// A write fails.
pub async fn fill(at: &[String], count: u64) -> Result<()> {
    let mut kv = etcd_client::Client::connect([format!("http://{}", at[0])], None).await?.kv_client();
    let mut texts = Texts::new();
    for first in (0..count).step_by(FILL_BATCH as usize) {
        let numbers = first..(first + FILL_BATCH).min(count);
        let puts: Vec<_> = numbers.map(|number| TxnOp::put(key(number), texts.take(), None)).collect();
        ensure!(kv.txn(Txn::new().and_then(puts)).await?.succeeded(), "a transaction without a condition failed");
    }
    Ok(())
}

impl Client for EtcdClient {
    async fn call(&mut self, work: Work) -> Result<()> {
        match work {
            Work::Post => {
                self.posted += 1;
                let key = format!("{}{:012}", self.prefix, self.posted);
                self.kv.put(key, self.texts.take(), None).await?;
            }
            Work::Newest => {
                let newest = GetOptions::new().with_range(key(KEYS - 1 - PAGE as u64)).with_limit(PAGE as i64);
                let found = self.kv.get(READ, Some(newest)).await?.kvs().len();
                ensure!(found == PAGE, "a page of {found}");
            }
            Work::One => {
                let found = self.kv.get(key(fastrand::u64(..KEYS)), None).await?.kvs().len();
                ensure!(found == 1, "{found} of one message");
            }
        }
        Ok(())
    }
}
