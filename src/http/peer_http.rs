//! One HTTP client for what goes to peers: headers, connections, and what its failures mean.
//!
//! - **Refused**: the connection was not made. Certainly without effect, and the process is not there.
//! - **Broken**: the connection ended before the answer. A pooled one may just have been closed by the other end.
//! - **Silent**: no answer in time; the letter is simply lost.

use super::peer::{FROM_HEADER, SECRET_HEADER, VERSION_HEADER};
use actix_rt::net::TcpStream;
use actix_tls::connect::{ConnectError as TcpError, ConnectInfo, Connection, ConnectorService};
use actix_web::dev::{Service, fn_service};
use awc::error::{ConnectError, SendRequestError};
use awc::http::{StatusCode, Uri, header};
use bytes::Bytes;
use lockstep_protocol::ids::Address;
use lockstep_protocol::message::PROTOCOL_VERSION;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// How long one may take to a peer whose last connection just broke: a live one is back at once, or refuses. One that is gone
/// together with its address does neither, and everybody waits until that is known.
const RECONNECT_PATIENCE: Duration = Duration::from_millis(100);

/// How long an idle connection is kept. Shorter than the server keeps it.
const KEEP_ALIVE: Duration = Duration::from_secs(90);

/// The longest reason of a refusal that is read. Bytes.
const REASON_BYTES_MAX: usize = 4_096;

/// The same refusal is logged this often at most.
const REFUSAL_QUIET: Duration = Duration::from_secs(60);

/// How many refusals are remembered.
const REFUSALS_MAX: usize = 256;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostFailed {
    /// The connection was not made.
    Refused,
    /// The connection ended before the answer.
    Broken,
    /// No answer in time.
    Silent,
    /// The peer begins or ends. Without effect.
    NotReady,
    /// The peer refused the request unread, and says why.
    Denied(String),
}

/// A client for one thread, of the process that calls itself so.
pub fn client(secret: &str, own_name: &str, connections_max: usize) -> awc::Client {
    connecting_within(CONNECT_PATIENCE, secret, own_name, connections_max)
}

/// A client for the second try after a connection broke.
pub fn reconnecting_client(secret: &str, own_name: &str) -> awc::Client {
    connecting_within(RECONNECT_PATIENCE, secret, own_name, 1)
}

fn connecting_within(patience: Duration, secret: &str, own_name: &str, connections_max: usize) -> awc::Client {
    let connector = awc::Connector::new()
        .connector(without_delay())
        .timeout(patience)
        .conn_keep_alive(KEEP_ALIVE)
        .conn_lifetime(Duration::from_secs(24 * 3_600))
        .limit(connections_max);
    awc::Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .add_default_header((SECRET_HEADER, secret))
        .add_default_header((FROM_HEADER, own_name))
        .add_default_header((VERSION_HEADER, PROTOCOL_VERSION.to_string()))
        .finish()
}

/// Connections that send at once: the end of a large letter must not wait for the acknowledgement of its middle.
fn without_delay()
-> impl Service<ConnectInfo<Uri>, Response = Connection<Uri, TcpStream>, Error = TcpError, Future: 'static> + Clone + 'static
{
    let connector = ConnectorService::default();
    fn_service(move |info: ConnectInfo<Uri>| {
        let connecting = connector.call(info);
        async move {
            let connection = connecting.await?;
            if let Err(error) = connection.io_ref().set_nodelay(true) {
                log::debug!("a connection to a peer sends with delays: {error}");
            }
            Ok(connection)
        }
    })
}

/// Where a peer's call is.
pub fn url(of: &Address, call: &str) -> String {
    format!("http://{of}/peer/v1/{call}")
}

/// Sends a body and takes the answer's.
///
/// # Errors
/// When there is no answer, or a refusal.
pub async fn post(client: &awc::Client, url: &str, body: Bytes, patience: Duration) -> Result<Bytes, PostFailed> {
    let answered = async { read(client.post(url).send_body(body).await, BYTES_MAX).await };
    actix_rt::time::timeout(patience, answered).await.unwrap_or(Err(PostFailed::Silent))
}

/// Asks, and takes the answer's body.
///
/// # Errors
/// When there is no answer, or a refusal.
pub async fn get(client: &awc::Client, url: &str, patience: Duration) -> Result<Bytes, PostFailed> {
    let answered = async { read(client.get(url).send().await, BYTES_MAX).await };
    actix_rt::time::timeout(patience, answered).await.unwrap_or(Err(PostFailed::Silent))
}

/// The largest answer. Bytes.
const BYTES_MAX: usize = super::peer::BODY_BYTES_MAX;

type Response<S> = awc::ClientResponse<S>;

async fn read<S>(sent: Result<Response<S>, SendRequestError>, bytes_max: usize) -> Result<Bytes, PostFailed>
where
    S: futures_util::Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin + 'static,
{
    let mut response = sent.map_err(|error| failed(&error))?;
    let status = response.status();
    if status == StatusCode::NO_CONTENT {
        return Ok(Bytes::new());
    }
    let bytes_max = if status.is_success() { bytes_max } else { REASON_BYTES_MAX };
    let said = response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body = response.body().limit(bytes_max).await.map_err(|_| PostFailed::Broken)?;
    if said.is_some_and(|said: usize| body.len() < said) {
        return Err(PostFailed::Broken); // The connection ended, which the client library takes for the body's end.
    }
    if status.is_success() { Ok(body) } else { Err(denied(status, &body)) }
}

/// What a refusal says.
pub fn denied(status: StatusCode, body: &[u8]) -> PostFailed {
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return PostFailed::NotReady;
    }
    PostFailed::Denied(format!("{}: {}", status.as_u16(), String::from_utf8_lossy(body).escape_debug()))
}

/// What a failure means.
pub fn failed(error: &SendRequestError) -> PostFailed {
    match error {
        SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => PostFailed::Silent,
        SendRequestError::Connect(ConnectError::Disconnected)
        | SendRequestError::Send(_)
        | SendRequestError::Response(_)
        | SendRequestError::Body(_) => PostFailed::Broken,
        SendRequestError::Connect(_) => PostFailed::Refused,
        other => {
            log::warn!("a request to a peer could not be sent: {other}");
            PostFailed::Silent
        }
    }
}

/// Says refusals to people, each once in a while.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<(Address, String), Instant>>);

impl Refusals {
    /// Logs it, unless it was logged lately.
    pub fn log(&self, peer: &Address, reason: &str) {
        if self.is_news(peer, reason, Instant::now()) {
            log::warn!("{peer} refuses what this process sends: {reason}");
        }
    }

    fn is_news(&self, peer: &Address, reason: &str, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.duration_since(*at) < REFUSAL_QUIET);
        let key = (peer.clone(), reason.to_owned());
        if told.contains_key(&key) || told.len() >= REFUSALS_MAX {
            return false;
        }
        told.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn a_refusal_is_logged_once_in_a_while() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let peer = Address::new("127.0.0.1:1");
        assert!(refusals.is_news(&peer, "401", now));
        assert!(!refusals.is_news(&peer, "401", now + Duration::from_secs(59)));
        assert!(refusals.is_news(&peer, "409", now));
        assert!(refusals.is_news(&peer, "401", now + Duration::from_secs(61)));
    }

    /// Asks a peer that answers this.
    async fn asked(answer: String) -> Result<Bytes, PostFailed> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let peer = std::thread::spawn(move || {
            let (mut asked, _) = listener.accept().expect("it asks");
            let _ = asked.read(&mut [0; 4_096]).expect("its head");
            let _ = asked.write_all(answer.as_bytes()); // It may have heard enough.
        });
        let answered = get(&client("a secret of the cluster", "n1", 1), &url, Duration::from_secs(60)).await;
        peer.join().expect("no panic");
        answered
    }

    #[actix_rt::test]
    async fn an_answer_is_read_whole_up_to_its_bound_or_not_at_all() {
        let told = |status: &str, length: usize| {
            asked(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length)))
        };
        let in_chunks = |status: &str, length: usize| {
            let chunk = format!("{length:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(length));
            asked(format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"))
        };
        let long = Ok(Bytes::from("x".repeat(100_000)));
        assert_eq!((told("200 OK", 100_000).await, in_chunks("200 OK", 100_000).await), (long.clone(), long));
        let reason = Err(denied(StatusCode::CONFLICT, "x".repeat(REASON_BYTES_MAX).as_bytes()));
        assert_eq!(told("409 No", REASON_BYTES_MAX).await, reason);
        let broken = Err(PostFailed::Broken);
        assert_eq!(told("409 No", REASON_BYTES_MAX + 1).await, broken);
        assert_eq!(in_chunks("409 No", REASON_BYTES_MAX + 1).await, broken);
        for more in ["2", "18446744073709551615"] {
            let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: {more}\r\n\r\nx");
            assert_eq!(asked(cut).await, broken, "{more}, and no memory is taken for what does not come");
        }
    }

    #[test]
    fn what_a_refusal_says_cannot_break_a_log_line() {
        let said = denied(StatusCode::CONFLICT, b"two\nlines");
        assert_eq!(said, PostFailed::Denied("409: two\\nlines".to_owned()));
    }
}
