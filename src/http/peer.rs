//! The peer port: what other nodes and gateways ask of this process (section 11).
//!
//! | call | body | answer |
//! | --- | --- | --- |
//! | `POST /peer/v1/letters` | postcard, `Vec<Envelope>` | 204; what they set off comes as letters of its own |
//! | `GET /peer/v1/stream` | a web socket; each binary frame is a body of `letters` | none; it is closed when one is refused |
//! | `POST /peer/v1/calls` | postcard, `CallRequest` | postcard, `CallReplies` |
//! | `GET /peer/v1/leading?known=` | | postcard, `Leading` |
//! | `GET /peer/v1/status` | | JSON, `NodeReport` |
//! | `GET /peer/v1/changes?limit=` | | postcard, `Vec<Change>`: why views changed |
//! | `GET /peer/v1/freeze?at=&wait_ms=` | | postcard, `FreezeAnswer`: all that it holds, kept at one index |
//! | `GET /peer/v1/scan?ticket=` | | postcard, `ScanAnswer`; takes as long as reading all that was frozen |
//! | `GET /peer/v1/chain?at=` | | postcard, `Option<Hash>`: the log's chain at an index |
//! | `GET /peer/v1/watch` | | a body that ends when this process does |
//!
//! Every request shows the cluster's secret and its protocol version; without them nothing is read, and nothing changes.
//! A refusal says which it was, as text: 401 the secret, 400 the version or a malformed body, 409 another cluster; 503 is no
//! refusal: the node begins, ends, or knows no cluster yet.
//!
//! Not here: what a letter means, and the other end (`peer_client.rs`, `call_client.rs`).

use super::metrics::Connections;
use crate::system::{disk_figures, used_bytes};
use actix_rt::time::timeout;
use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, ResponseError, web};
use actix_ws::{Message as Frame, MessageStream, Session};
use bytes::Bytes;
use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt};
use lockstep_actors::Node;
use lockstep_actors::gateway::{CallRequest, DiskReport};
use lockstep_protocol::ids::{Index, ViewNumber};
use lockstep_protocol::message::{Envelope, PROTOCOL_VERSION};
use lockstep_protocol::route::LetterRefused;
use serde::{Deserialize, Serialize};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// The header with the cluster's secret.
pub const SECRET_HEADER: &str = "lockstep-secret";
/// The header with the protocol's version.
pub const VERSION_HEADER: &str = "lockstep-version";
/// Names the sending process, for whoever looks at the wire. Nothing is decided by it: a letter says who it is from.
pub const FROM_HEADER: &str = "lockstep-from";

/// The largest body. Bytes: the largest batch that settings allow, with all that stands around its texts.
pub const BODY_BYTES_MAX: usize = 128 << 20;

/// How long a connection may be idle. Longer than the clients keep theirs, so that they close first and never find one closed.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// How often a watch's body shows a byte, so that one whose reader is gone is noticed.
const WATCH_BEAT: Duration = Duration::from_secs(5);

/// How often whoever sends a stream of letters asks it whether it is still one.
pub const STREAM_BEAT: Duration = Duration::from_secs(1);

/// A stream that shows nothing for so long has lost its other end.
const STREAM_QUIET: Duration = Duration::from_secs(60);

/// How long connections may take to end when the server stops. Seconds.
const SHUTDOWN_SECONDS: u64 = 1;

/// Why a request was refused. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum PeerRefused {
    /// No secret, or another.
    #[error("{SECRET_HEADER} is missing or wrong: peers of one cluster share one secret")]
    Secret,
    /// No version, or another.
    #[error("{VERSION_HEADER} is {theirs:?}, and this node speaks {PROTOCOL_VERSION}")]
    Version {
        /// What the header says.
        theirs: String,
    },
    /// The body is not what it should be.
    #[error("malformed body: {0}")]
    Malformed(postcard::Error),
    /// The letter was for another cluster, or from another version.
    #[error("{0}")]
    Letter(#[from] LetterRefused),
    /// The process begins or ends.
    #[error("this node does not run yet")]
    NotRunning,
}

impl ResponseError for PeerRefused {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Secret => StatusCode::UNAUTHORIZED,
            Self::Version { .. } | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Letter(LetterRefused::Version { .. } | LetterRefused::Malformed) => StatusCode::BAD_REQUEST,
            Self::Letter(LetterRefused::Cluster { .. }) => StatusCode::CONFLICT,
            Self::Letter(LetterRefused::NoCluster) | Self::NotRunning => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What the handlers hold.
#[derive(Clone)]
pub struct PeerApi {
    secret: Arc<str>,
    node: Arc<OnceLock<Node>>,
    stopping: watch::Receiver<bool>,
    data_dir: Arc<Path>,
    /// How many are open at the port.
    pub connections: Connections,
}

impl PeerApi {
    /// The node may be set later: letters that come before are told so. When `stopping` turns true, watches end.
    #[must_use]
    pub fn new(secret: &str, node: Arc<OnceLock<Node>>, stopping: watch::Receiver<bool>, data_dir: &Path) -> Self {
        let (secret, data_dir) = (secret.into(), data_dir.into());
        Self { secret, node, stopping, data_dir, connections: Connections::default() }
    }

    fn node(&self) -> Result<&Node, PeerRefused> {
        self.node.get().ok_or(PeerRefused::NotRunning)
    }

    fn refusal(&self, headers: &HeaderMap) -> Option<PeerRefused> {
        let shown = headers.get(SECRET_HEADER).map_or(&b""[..], |value| value.as_bytes());
        if !is_same_secret(self.secret.as_bytes(), shown) {
            return Some(PeerRefused::Secret);
        }
        let theirs = headers.get(VERSION_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_ours = theirs.parse() == Ok(PROTOCOL_VERSION);
        (!is_ours).then(|| PeerRefused::Version { theirs: theirs.to_owned() })
    }
}

/// Takes as long whatever the difference is: how long a guess takes must not tell how good it was.
fn is_same_secret(ours: &[u8], theirs: &[u8]) -> bool {
    let difference = ours.iter().zip(theirs).fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0 && ours.len() == theirs.len()
}

async fn authorised(
    api: web::Data<PeerApi>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    match api.refusal(request.headers()) {
        Some(refused) => Err(refused.into()),
        None => next.call(request).await,
    }
}

/// All of the body: what more it holds would be something that this version does not understand.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, PeerRefused> {
    let (value, rest) = postcard::take_from_bytes(body).map_err(PeerRefused::Malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(PeerRefused::Malformed(postcard::Error::DeserializeBadEncoding)) }
}

fn encoded<T: Serialize>(value: &T) -> Result<HttpResponse, PeerRefused> {
    encoded_in(Vec::new(), value)
}

/// In this buffer, which has room for most of it.
fn encoded_in<T: Serialize>(buffer: Vec<u8>, value: &T) -> Result<HttpResponse, PeerRefused> {
    let body = postcard::to_extend(value, buffer).map_err(PeerRefused::Malformed)?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(body))
}

async fn letters(api: web::Data<PeerApi>, body: Bytes) -> Result<HttpResponse, PeerRefused> {
    take_letters(&api, &body)?;
    Ok(HttpResponse::NoContent().finish())
}

/// Letters without an answer to each: a request and its answer cost more than what most letters set off.
async fn stream(api: web::Data<PeerApi>, request: HttpRequest, body: web::Payload) -> actix_web::Result<HttpResponse> {
    api.node()?;
    let (response, session, frames) = actix_ws::handle(&request, body)?;
    actix_rt::spawn(take_frames(api, session, frames.max_frame_size(BODY_BYTES_MAX)));
    Ok(response)
}

/// Until the other end closes it, or sends what is refused: it hears why when it asks with a request.
async fn take_frames(api: web::Data<PeerApi>, mut session: Session, mut frames: MessageStream) {
    while let Ok(Some(Ok(frame))) = timeout(STREAM_QUIET, frames.next()).await {
        let taken = match frame {
            Frame::Binary(body) => take_letters(&api, &body),
            Frame::Ping(asked) => match session.pong(&asked).await {
                Ok(()) => Ok(()),
                Err(_) => break,
            },
            Frame::Pong(_) | Frame::Nop => Ok(()),
            Frame::Text(_) | Frame::Continuation(_) | Frame::Close(_) => break,
        };
        if let Err(refused) = taken {
            log::debug!("a stream of letters ends: {refused}");
            break;
        }
    }
    let _ = session.close(None).await; // The other end may have gone.
}

fn take_letters(api: &PeerApi, body: &[u8]) -> Result<(), PeerRefused> {
    let letters: Vec<Envelope> = parse(body)?;
    Ok(api.node()?.deliver_letters(letters)?)
}

async fn calls(api: web::Data<PeerApi>, body: Bytes) -> Result<HttpResponse, PeerRefused> {
    let CallRequest { known, calls } = parse(&body)?;
    let replies = api.node()?.calls(known, calls).await;
    encoded_in(Vec::with_capacity(replies.room()), &replies)
}

#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    known: u64,
}

async fn leading(api: web::Data<PeerApi>, query: web::Query<Known>) -> Result<HttpResponse, PeerRefused> {
    encoded(&api.node()?.leading(ViewNumber(query.known)))
}

async fn status(api: web::Data<PeerApi>) -> Result<HttpResponse, PeerRefused> {
    let mut report = api.node()?.report().await;
    let directory = api.data_dir.clone();
    report.disk = web::block(move || disk(&directory)).await.ok().flatten();
    Ok(HttpResponse::Ok().json(report))
}

fn disk(directory: &Path) -> Option<DiskReport> {
    let room = disk_figures(directory)?;
    Some(DiskReport { used_bytes: used_bytes(directory), free_bytes: room.free_bytes })
}

#[derive(Deserialize)]
struct Limit {
    limit: usize,
}

async fn changes(api: web::Data<PeerApi>, query: web::Query<Limit>) -> Result<HttpResponse, PeerRefused> {
    encoded(&api.node()?.view_changes(query.limit).await)
}

#[derive(Deserialize)]
struct FreezeAt {
    at: u64,
    wait_ms: u64,
}

async fn freeze(api: web::Data<PeerApi>, query: web::Query<FreezeAt>) -> Result<HttpResponse, PeerRefused> {
    encoded(&api.node()?.freeze(Index(query.at), Duration::from_millis(query.wait_ms)).await)
}

#[derive(Deserialize)]
struct Ticket {
    ticket: u64,
}

async fn scan(api: web::Data<PeerApi>, query: web::Query<Ticket>) -> Result<HttpResponse, PeerRefused> {
    encoded(&api.node()?.scan(query.ticket).await)
}

#[derive(Deserialize)]
struct At {
    at: u64,
}

async fn chain(api: web::Data<PeerApi>, query: web::Query<At>) -> Result<HttpResponse, PeerRefused> {
    encoded(&api.node()?.chain_at(Index(query.at)).await)
}

async fn watch(api: web::Data<PeerApi>) -> Result<HttpResponse, PeerRefused> {
    api.node()?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").streaming(watch_body(api.stopping.clone())))
}

/// One byte at once, so that the head goes out; then one now and then, until the process stops or dies.
fn watch_body(stopping: watch::Receiver<bool>) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
    unfold((stopping, Duration::ZERO), |(mut stopping, wait)| async move {
        let stopped = stopping.wait_for(|is_stopping| *is_stopping);
        let lives = timeout(wait, stopped).await.is_err();
        lives.then(|| (Ok(Bytes::from_static(b".")), (stopping, WATCH_BEAT)))
    })
}

/// The routes of the peer port.
pub fn configure(config: &mut web::ServiceConfig) {
    config.app_data(web::PayloadConfig::new(BODY_BYTES_MAX)).service(
        web::scope("/peer/v1")
            .wrap(from_fn(authorised))
            .route("/letters", web::post().to(letters))
            .route("/stream", web::get().to(stream))
            .route("/calls", web::post().to(calls))
            .route("/leading", web::get().to(leading))
            .route("/status", web::get().to(status))
            .route("/changes", web::get().to(changes))
            .route("/freeze", web::get().to(freeze))
            .route("/scan", web::get().to(scan))
            .route("/chain", web::get().to(chain))
            .route("/watch", web::get().to(watch)),
    );
}

/// Serves the peer port on one thread. `on_thread` is called there before anything is served, so that the actors which most
/// letters are for can run on the same one: a wake-up across threads costs more than the step that it is for.
///
/// # Errors
/// When the socket cannot be listened on.
pub fn serve(
    listener: TcpListener,
    api: PeerApi,
    on_thread: impl Fn() + Clone + Send + 'static,
) -> std::io::Result<Server> {
    let connections = api.connections.clone();
    let server = HttpServer::new(move || {
        on_thread();
        App::new().app_data(web::Data::new(api.clone())).configure(configure)
    });
    let server = server.workers(1).keep_alive(KEEP_ALIVE).tcp_nodelay(true);
    let server = server.on_connect(move |_, data| connections.count(data));
    Ok(server.shutdown_timeout(SHUTDOWN_SECONDS).disable_signals().listen(listener)?.run())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test;

    const SECRET: &str = "a secret of the cluster";

    fn api() -> (PeerApi, watch::Sender<bool>) {
        let (stop, stopping) = watch::channel(false);
        (PeerApi::new(SECRET, Arc::default(), stopping, Path::new(".")), stop)
    }

    async fn answer(request: test::TestRequest) -> (StatusCode, String) {
        let (api, _stop) = api();
        let app = test::init_service(App::new().app_data(web::Data::new(api)).configure(configure)).await;
        let (status, body) = match test::try_call_service(&app, request.to_request()).await {
            Ok(response) => (response.status(), test::read_body(response).await),
            Err(error) => {
                let response = error.error_response();
                let status = response.status();
                (status, actix_web::body::to_bytes(response.into_body()).await.expect("a body in memory"))
            }
        };
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    fn post(body: Vec<u8>) -> test::TestRequest {
        test::TestRequest::post().uri("/peer/v1/letters").set_payload(body)
    }

    fn trusted(request: test::TestRequest) -> test::TestRequest {
        request.insert_header((SECRET_HEADER, SECRET)).insert_header((VERSION_HEADER, PROTOCOL_VERSION.to_string()))
    }

    #[test]
    async fn section_11_no_caller_without_the_secret() {
        for secret in ["", "a", "a secret of the cluster ", "b secret of the cluster"] {
            let request = post(vec![0]).insert_header((SECRET_HEADER, secret)).insert_header((VERSION_HEADER, "1"));
            let (status, reason) = answer(request).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            assert!(reason.contains("secret") && !reason.contains(SECRET));
        }
        assert_eq!(answer(post(vec![0])).await.0, StatusCode::UNAUTHORIZED);
    }

    #[test]
    async fn section_11_no_unknown_version() {
        let (older, newer) = ((PROTOCOL_VERSION - 1).to_string(), (PROTOCOL_VERSION + 1).to_string());
        for version in ["", "0", &older, &newer, "one"] {
            let request = post(vec![0]).insert_header((SECRET_HEADER, SECRET)).insert_header((VERSION_HEADER, version));
            let (status, reason) = answer(request).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(reason.contains(&format!("this node speaks {PROTOCOL_VERSION}")), "{reason}");
        }
    }

    #[test]
    async fn section_11_a_malformed_body_is_refused() {
        for body in [vec![], vec![9], vec![255; 100], vec![1; 4_000]] {
            let (status, reason) = answer(trusted(post(body))).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(reason.contains("malformed"), "{reason}");
        }
    }

    #[test]
    async fn a_node_that_does_not_run_yet_says_so() {
        let none = postcard::to_stdvec(&Vec::<Envelope>::new()).expect("encodes");
        assert_eq!(answer(trusted(post(none))).await.0, StatusCode::SERVICE_UNAVAILABLE);
        let status = test::TestRequest::get().uri("/peer/v1/status");
        assert_eq!(answer(trusted(status)).await.0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    async fn a_watch_ends_when_the_process_stops() {
        use futures_util::StreamExt;
        let (api, stop) = api();
        let mut body = Box::pin(watch_body(api.stopping.clone()));
        assert!(body.next().await.is_some(), "the head goes out at once");
        let (end, ()) = tokio::join!(body.next(), async {
            stop.send_replace(true);
        });
        assert!(end.is_none());
    }
}
