//! PostgreSQL: prepared statements over its native protocol, each in a transaction of its own.
//!
//! The key is (channel, id): it finds a message, and sorts a channel. One index is less work than the two that an id alone would
//! need.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::sync::{Mutex, Semaphore};
use tokio_postgres::{Config, NoTls, Statement};

use crate::args::Work;
use crate::work::{Client, PAGE, Texts};

/// Connections, of which a client takes a free one for each call; with as many clients each has its own.
pub const CONNECTIONS_MAX: usize = 256;
/// Who is asked: the database's owner.
const USER: &str = "postgres";
const POSTED: &str = "posted";
const READ: &str = "read";
/// The id of the first message of the channel that is read; they follow without a gap.
const FIRST: i64 = 1;

/// One connection with its statements.
struct Connection {
    client: tokio_postgres::Client,
    post: Statement,
    newest: Statement,
    one: Statement,
}

/// Free connections.
struct Pool {
    free: Mutex<Vec<Connection>>,
    count: Semaphore,
    /// How many messages the channel that is read has.
    messages: i64,
}

/// One client.
pub struct PostgresClient {
    pool: Arc<Pool>,
    texts: Texts,
}

/// Connects so many clients over so many connections to the primary, which is the first.
///
/// # Errors
/// It does not answer, or there is no table.
pub async fn connect(at: &[String], count: usize, connections: usize) -> Result<Vec<PostgresClient>> {
    let mut free = Vec::new();
    for _ in 0..connections {
        let client = open(&at[0]).await?;
        let post = client.prepare("INSERT INTO messages (channel, text) VALUES ($1, $2) RETURNING id").await?;
        let newest =
            client.prepare("SELECT id, text FROM messages WHERE channel = $1 ORDER BY id DESC LIMIT 100").await?;
        let one = client.prepare("SELECT text FROM messages WHERE channel = $1 AND id = $2").await?;
        free.push(Connection { client, post, newest, one });
    }
    let last =
        free[0].client.query_one("SELECT coalesce(max(id), 0) FROM messages WHERE channel = $1", &[&READ]).await?;
    let pool = Pool { free: Mutex::new(free), count: Semaphore::new(connections), messages: last.get(0) };
    let pool = Arc::new(pool);
    Ok((0..count).map(|_| PostgresClient { pool: pool.clone(), texts: Texts::new() }).collect())
}

async fn open(at: &str) -> Result<tokio_postgres::Client> {
    let mut config = Config::new();
    let (host, port) = at.split_once(':').ok_or_else(|| anyhow::anyhow!("{at}: is not host:port"))?;
    config.host(host).port(port.parse()?).user(USER).dbname("postgres");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Makes the table, and in it the channel that is read.
///
/// # Errors
/// A statement fails.
pub async fn fill(at: &[String], count: u64) -> Result<()> {
    let client = open(&at[0]).await?;
    let table = "CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY, channel text NOT NULL, text text NOT NULL, \
                 PRIMARY KEY (channel, id))";
    client.batch_execute(table).await?;
    let fill = format!(
        "INSERT INTO messages (channel, text) SELECT '{READ}', repeat(md5(random()::text), 8) FROM generate_series(1, {count})"
    );
    client.batch_execute(&fill).await?;
    client.batch_execute("VACUUM (ANALYZE) messages").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(())
}

impl Client for PostgresClient {
    async fn call(&mut self, work: Work) -> Result<()> {
        let permit = self.pool.count.acquire().await?;
        let Some(connection) = self.pool.free.lock().await.pop() else {
            anyhow::bail!("a permit without a connection")
        };
        let done = connection.call(work, self.texts.take(), self.pool.messages).await;
        self.pool.free.lock().await.push(connection);
        drop(permit);
        done
    }
}

impl Connection {
    async fn call(&self, work: Work, text: &str, messages: i64) -> Result<()> {
        let (rows, expected) = match work {
            Work::Post => (self.client.query(&self.post, &[&POSTED, &text]).await?, 1),
            Work::Newest => (self.client.query(&self.newest, &[&READ]).await?, PAGE),
            Work::One => {
                let id = fastrand::i64(FIRST..=messages);
                (self.client.query(&self.one, &[&READ, &id]).await?, 1)
            }
        };
        ensure!(rows.len() == expected, "{} rows", rows.len());
        Ok(())
    }
}
