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
    /// The view and the index that its receipt names.
    pub receipt: (Option<u64>, Option<u64>),
    /// The body.
    pub body: &'a [u8],
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nothing was sent.
    #[error("not connected")]
    NotSent,
    /// The connection ended between request and answer.
    #[error("connection lost")]
    Lost,
    /// It took longer than any answer may.
    #[error("no answer in time")]
    Late,
    /// What came is no answer.
    #[error("malformed answer: {0}")]
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
        Ok(Answer { status: head.status, retry_after_s: head.retry_after_s, receipt: head.receipt, body })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A gateway that plays this script on each connection in turn: what it sends after a request, piece by piece.
    fn scripted(script: Vec<Vec<&'static str>>) -> Rc<[Gateway]> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        std::thread::spawn(move || {
            for answers in script {
                let (mut stream, _) = listener.accept().expect("a connection");
                for answer in answers {
                    let _ = stream.read(&mut [0; 1_024]);
                    for piece in answer.split('|') {
                        let _ = stream.write_all(piece.as_bytes());
                        std::thread::yield_now();
                    }
                }
            }
        });
        Rc::from([Gateway { name: address.to_string(), address }])
    }

    async fn ask(connection: &mut Connection) -> Result<(u16, String), Trouble> {
        let answer = connection.ask(b"GET / HTTP/1.1\r\n\r\n").await?;
        Ok((answer.status, String::from_utf8_lossy(answer.body).into_owned()))
    }

    #[actix_rt::test]
    async fn answers_come_in_pieces_on_one_connection() {
        let first = "HTTP/1.1 200 OK\r\nConte|nt-Length: 5\r\n\r|\nhe|llo";
        let second = "HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
        let mut connection = Connection::new(scripted(vec![vec![first, second]]), 0);
        assert_eq!(ask(&mut connection).await, Ok((200, "hello".to_owned())));
        let answer = connection.ask(b"x").await.expect("an answer");
        assert_eq!(answer, Answer { status: 503, retry_after_s: Some(7), receipt: (None, None), body: b"" });
        assert_eq!(connection.reconnects(), 0);
    }

    #[actix_rt::test]
    async fn a_connection_that_was_closed_is_made_again_and_counted() {
        let last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        let kept = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        // The first says that it closes, the second closes without a word, and both before the next request.
        let mut connection = Connection::new(scripted(vec![vec![last], vec![kept], vec![kept]]), 0);
        for reconnects in 0..3 {
            if let Some(stream) = &connection.stream {
                stream.readable().await.expect("its end comes");
            }
            assert_eq!(ask(&mut connection).await, Ok((200, "ok".to_owned())));
            assert_eq!(connection.reconnects(), reconnects);
        }
    }

    #[actix_rt::test]
    async fn what_is_no_whole_answer_is_trouble() {
        let malformed = |why| Err(Trouble::Malformed(Malformed(why)));
        let cases = [
            ("", Err(Trouble::Lost)),
            ("HTTP/1.1 200 OK\r\nContent-Le", Err(Trouble::Lost)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", Err(Trouble::Lost)),
            ("hello", malformed("no HTTP response")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhello", malformed("more than one answer")),
        ];
        for (answer, trouble) in cases {
            let kept = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            let mut connection = Connection::new(scripted(vec![vec![answer], vec![kept]]), 0);
            assert_eq!(ask(&mut connection).await, trouble, "{answer:?}");
            assert_eq!(ask(&mut connection).await, Ok((200, "ok".to_owned())), "the next one goes on a new connection");
        }
    }

    #[actix_rt::test]
    async fn a_gateway_that_cannot_be_reached_is_left_for_the_next() {
        let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
        let alive = scripted(vec![vec!["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]]);
        let dead = Gateway { name: nobody.to_string(), address: nobody };
        let mut connection = Connection::new(Rc::from([dead, alive[0].clone()]), 0);
        assert_eq!(ask(&mut connection).await, Err(Trouble::NotSent));
        assert_eq!(ask(&mut connection).await, Ok((200, "ok".to_owned())));
    }
}
