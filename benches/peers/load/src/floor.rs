//! The floor: the same hops and flushes as a post's, with nothing decided on the way. No replicated post can be quicker.
//!
//! client -> gateway -> primary, which appends and flushes while both replicas do the same, and back. The second round of a two-phase
//! commit is not in it. Blocking threads, one a connection: a lone record wakes as few as can be.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::args::{FloorPart, Work};
use crate::work::Client;

/// A text with what a log keeps beside it. Bytes.
const RECORD_BYTES: usize = 300;
/// How long the next process may take to listen.
const START: Duration = Duration::from_secs(10);

/// Serves until it is killed.
///
/// # Errors
/// The port is taken, the next one does not answer, or the file cannot be written.
pub fn serve(part: &FloorPart) -> Result<()> {
    let listener = TcpListener::bind(&part.listen)?;
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        let next = part.next.iter().map(|at| dial(at)).collect::<Result<Vec<_>>>()?;
        let open = |path| File::options().create(true).append(true).open(path);
        let file = part.file.as_ref().map(open).transpose()?;
        // It ends with its connection: nothing to report.
        std::thread::spawn(move || pass(stream, next, file));
    }
    Ok(())
}

fn dial(at: &str) -> Result<TcpStream> {
    let limit = Instant::now() + START;
    loop {
        match TcpStream::connect(at) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > limit => return Err(error).with_context(|| at.to_owned()),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Records in, acknowledgements out, one at a time.
fn pass(mut from: TcpStream, mut next: Vec<TcpStream>, mut file: Option<File>) -> std::io::Result<()> {
    let mut record = [0; RECORD_BYTES];
    let mut ack = [0; 1];
    loop {
        from.read_exact(&mut record)?;
        for next in &mut next {
            next.write_all(&record)?;
        }
        if let Some(file) = &mut file {
            file.write_all(&record)?;
            file.sync_data()?;
        }
        for next in &mut next {
            next.read_exact(&mut ack)?;
        }
        from.write_all(&ack)?;
    }
}

/// One client.
pub struct FloorClient {
    stream: tokio::net::TcpStream,
}

/// Connects so many to the gateway, which is the first.
///
/// # Errors
/// It does not answer.
pub async fn connect(at: &[String], count: usize) -> Result<Vec<FloorClient>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let stream = tokio::net::TcpStream::connect(&at[0]).await?;
        stream.set_nodelay(true)?;
        clients.push(FloorClient { stream });
    }
    Ok(clients)
}

impl Client for FloorClient {
    async fn call(&mut self, _: Work) -> Result<()> {
        self.stream.write_all(&[b'x'; RECORD_BYTES]).await?;
        self.stream.read_u8().await?;
        Ok(())
    }
}
