//! One kept connection to one gateway at a time: HTTP/1.1 by hand, one request after the other.
//!
//! It costs the measured machine little, which a general client would not. It tells apart what was not sent, and so cannot
//! have taken effect, from what was sent and not answered. It never sends anything twice.

use super::response::{Head, Malformed, parse};
use bytes::BytesMut;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take: longer than a gateway holds a request.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Where a gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// As it was typed, without `http://`: also the `Host` of requests.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
}

/// An answer, whatever its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// After how many seconds to ask again, when it says so.
    pub retry_after_s: Option<u64>,
    /// The body.
    pub body: &'a [u8],
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing was sent.
    NotSent,
    /// The connection ended between request and answer.
    Lost,
    /// No answer within [`ANSWER_PATIENCE`].
    Late,
    /// What came is no answer.
    Malformed(Malformed),
}

/// A client's connection.
pub struct Connection {
    gateways: Rc<[Gateway]>,
    place: usize,
    stream: Option<TcpStream>,
    buffer: BytesMut,
    connects: u64,
}

impl Connection {
    /// To the gateway in this place of the list, when it is first asked.
    pub fn new(gateways: Rc<[Gateway]>, place: usize) -> Self {
        Self { gateways, place, stream: None, buffer: BytesMut::new(), connects: 0 }
    }

    /// The gateway that is asked next.
    pub fn gateway(&self) -> &Gateway {
        &self.gateways[self.place % self.gateways.len()]
    }

    /// How often it had to connect again.
    pub fn reconnects(&self) -> u64 {
        self.connects.saturating_sub(1)
    }

    /// Asks once. When the gateway cannot be reached, the next time another one is asked.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer<'_>, Trouble> {
        let mut stream = self.reach().await?;
        self.buffer.clear();
        let exchanged = tokio::time::timeout(ANSWER_PATIENCE, exchange(&mut stream, request, &mut self.buffer)).await;
        let head = exchanged.unwrap_or(Err(Trouble::Late))?;
        if !head.closes {
            self.stream = Some(stream);
        }
        let body = &self.buffer[head.head_bytes..];
        Ok(Answer { status: head.status, retry_after_s: head.retry_after_s, body })
    }

    /// The kept connection, unless the other end has closed it meanwhile, or a new one.
    async fn reach(&mut self) -> Result<TcpStream, Trouble> {
        if let Some(stream) = self.stream.take().filter(is_open) {
            return Ok(stream);
        }
        self.connects += 1;
        let connected = tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(self.gateway().address)).await;
        let stream = connected.ok().and_then(Result::ok).filter(|stream| stream.set_nodelay(true).is_ok());
        if stream.is_none() {
            self.place += 1;
        }
        stream.ok_or(Trouble::NotSent)
    }
}

/// Whether an idle connection is: neither its end nor anything that was not asked for has come.
fn is_open(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut BytesMut) -> Result<Head, Trouble> {
    stream.write_all(request).await.map_err(|_| Trouble::Lost)?;
    let head = loop {
        read(stream, buffer).await?;
        if let Some(head) = parse(buffer).map_err(Trouble::Malformed)? {
            break head;
        }
    };
    let whole = head.head_bytes + head.body_bytes;
    buffer.reserve(whole.saturating_sub(buffer.len()));
    while buffer.len() < whole {
        read(stream, buffer).await?;
    }
    if buffer.len() > whole {
        return Err(Trouble::Malformed(Malformed("more than one answer")));
    }
    Ok(head)
}

async fn read(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), Trouble> {
    match stream.read_buf(buffer).await {
        Ok(0) | Err(_) => Err(Trouble::Lost),
        Ok(_) => Ok(()),
    }
}
