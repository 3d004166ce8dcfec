//! The client API, version 1: its paths, and one handler for each call. `docs/api.md` is its description.
//!
//! A handler parses, asks the cluster, and answers. What a bad request gets is in `error.rs`; what may be written, who
//! leads and when to try again is decided elsewhere.
//!
//! Not here: the port (`client_server.rs`), event streams, proof of who calls, TLS.

use super::call_metrics::CallFigures;
use super::change_json::ChangesJson;
use super::client_json::{Body, ClusterJson, MessagesJson};
use super::error::ApiError;
use super::metrics::{Connections, GatewaySource, Sources};
use super::{client_body, client_query, metrics_server};
use crate::settings::{GatewaySettings, Settings};
use actix_web::dev::ServiceRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, ContentType, HeaderName};
use actix_web::{HttpRequest, HttpResponse, Resource, ResponseError, web};
use lockstep_actors::gateway::{ClientCall, GatewayFigures, GatewayHandle};
use lockstep_protocol::ids::{Timestamp, ViewNumber};
use lockstep_protocol::operation::{
    Action, Answer, ChannelName, Found, Invalid, KeyOwner, Operation, OperationError, Outcome, Query, Receipt,
};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a handler gives back.
type Reply = Result<HttpResponse, ApiError>;

/// What a client may send, and how long it may take. Beyond it the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// How long a header may take. Milliseconds.
    pub header_timeout_ms: u64,
    /// How long a body may take. Milliseconds.
    pub body_timeout_ms: u64,
    /// The largest header. Bytes.
    pub header_bytes_max: usize,
    /// The largest body. Bytes.
    pub body_bytes_max: usize,
    /// How many clients may be connected at once.
    pub connections_max: usize,
}

impl From<&GatewaySettings> for ClientLimits {
    fn from(settings: &GatewaySettings) -> Self {
        Self {
            header_timeout_ms: settings.header_timeout_ms,
            body_timeout_ms: settings.body_timeout_ms,
            header_bytes_max: settings.header_bytes_max,
            body_bytes_max: settings.body_bytes_max,
            connections_max: settings.connections_max,
        }
    }
}

/// What the handlers hold.
#[derive(Clone)]
pub struct ClientApi {
    gateway: Arc<dyn GatewayHandle>,
    create_on_post: bool,
    pub(super) limits: ClientLimits,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) calls: Arc<CallFigures>,
    pub(super) clients: Connections,
    sources: Sources,
}

impl ClientApi {
    /// The API over this gateway, with the settings' limits.
    #[must_use]
    pub fn new(gateway: Arc<dyn GatewayHandle>, settings: &Settings) -> Self {
        let limits = ClientLimits::from(&settings.gateway);
        Self {
            gateway,
            create_on_post: settings.channels.create_on_post,
            limits,
            stopping: Arc::default(),
            calls: Arc::default(),
            clients: Connections::default(),
            sources: Sources::default(),
        }
    }

    /// Tells this too at `/metrics`, beside the requests that it counts.
    #[must_use]
    pub fn telling(mut self, figures: Arc<GatewayFigures>, others: Sources) -> Self {
        let (calls, clients) = (self.calls.clone(), self.clients.clone());
        let gateway = GatewaySource { handle: self.gateway.clone(), figures, calls, clients };
        self.sources = Sources { gateway: Some(gateway), ..others };
        self
    }

    /// What it tells at `/metrics`.
    #[must_use]
    pub fn sources(&self) -> Sources {
        self.sources.clone()
    }

    /// Has a write done, and answers with what it did and its receipt.
    async fn write(&self, owner: KeyOwner, action: Action) -> Reply {
        let done = if matches!(action, Action::Post { .. }) { StatusCode::CREATED } else { StatusCode::OK };
        let key = owner.key.clone();
        let failed = |error| Err(ApiError::Operation { error, key: Some(key) });
        match self.gateway.call(ClientCall::Write(Operation { owner, action })).await {
            Answer::Written(Outcome::Message(message), receipt) => {
                Ok(answer(done, &receipt, &Body::Message { message: (&message).into() }))
            }
            Answer::Written(Outcome::Channel { channel, created }, receipt) => {
                let done = if created { StatusCode::CREATED } else { StatusCode::OK };
                Ok(answer(done, &receipt, &Body::Channel { channel: (&channel).into() }))
            }
            Answer::Written(Outcome::Aborted, _) => failed(OperationError::Aborted),
            Answer::Failed(error) => failed(error),
            Answer::Read(..) | Answer::Operator(_) => Err(ApiError::Internal("a write was answered like a query")),
        }
    }

    /// Asks a query, and answers with what it found and its receipt.
    async fn read(&self, query: Query) -> Reply {
        match self.gateway.call(ClientCall::Read(query.clone())).await {
            Answer::Read(found, receipt) => Ok(answer(StatusCode::OK, &receipt, &body(&query, &found))),
            Answer::Failed(error) => Err(ApiError::Operation { error, key: None }),
            Answer::Written(..) | Answer::Operator(_) => Err(ApiError::Internal("a query was answered like a write")),
        }
    }
}

fn body<'a>(query: &Query, found: &'a Found) -> Body<'a> {
    let next = client_query::next(query, found);
    match found {
        Found::Messages { messages, has_more } => {
            Body::Messages { messages: MessagesJson(messages), next, has_more: *has_more }
        }
        Found::Channels { channels, has_more } => {
            Body::Channels { channels: channels.iter().map(Into::into).collect(), next, has_more: *has_more }
        }
        Found::Message(message) => Body::Message { message: message.into() },
        Found::Channel(channel) => Body::Channel { channel: channel.into() },
    }
}

/// The headers of a receipt.
const VIEW: HeaderName = HeaderName::from_static("lockstep-view");
const INDEX: HeaderName = HeaderName::from_static("lockstep-index");
const COPIES: HeaderName = HeaderName::from_static("lockstep-copies");

/// An answer about stored data, with its receipt.
fn answer(status: StatusCode, receipt: &Receipt, body: &Body<'_>) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    response.insert_header((VIEW, receipt.view.0)).insert_header((INDEX, receipt.index.0));
    if receipt.copies > 0 {
        response.insert_header((COPIES, receipt.copies));
    }
    match body.json() {
        Ok(json) => response.content_type(ContentType::json()).body(json),
        Err(_) => ApiError::Internal("an answer has no JSON").error_response(),
    }
}

type Api = web::Data<ClientApi>;

async fn history(api: Api, request: HttpRequest) -> Reply {
    api.read(client_query::history(&request, channel(&request)?)?).await
}

async fn stars(api: Api, request: HttpRequest) -> Reply {
    api.read(client_query::stars(&request, channel(&request)?)?).await
}

async fn post(api: Api, request: HttpRequest, body: web::Payload) -> Reply {
    let (channel, owner) = (channel(&request)?, client_body::owner(&request)?);
    let text = client_body::text(&request, body, &api.limits).await?;
    api.write(owner, Action::Post { channel, text, create_channel: api.create_on_post }).await
}

async fn star(api: Api, request: HttpRequest) -> Reply {
    api.write(client_body::owner(&request)?, Action::Star { id: message_id(&request)? }).await
}

async fn unstar(api: Api, request: HttpRequest) -> Reply {
    api.write(client_body::owner(&request)?, Action::Unstar { id: message_id(&request)? }).await
}

async fn message(api: Api, request: HttpRequest) -> Reply {
    api.read(Query::Message { id: message_id(&request)? }).await
}

async fn create_channel(api: Api, request: HttpRequest) -> Reply {
    api.write(client_body::owner(&request)?, Action::CreateChannel { channel: channel(&request)? }).await
}

async fn one_channel(api: Api, request: HttpRequest) -> Reply {
    api.read(Query::Channel { channel: channel(&request)? }).await
}

async fn channels(api: Api, request: HttpRequest) -> Reply {
    api.read(client_query::channels(&request)?).await
}

async fn cluster(api: Api) -> Reply {
    Ok(HttpResponse::Ok().json(ClusterJson::from(&api.gateway.cluster().await)))
}

async fn view_changes(api: Api, request: HttpRequest) -> Reply {
    match api.gateway.view_changes(client_query::limit(&request)?).await {
        Some(changes) => Ok(HttpResponse::Ok().json(ChangesJson::from(&changes[..]))),
        None => Err(nobody_leads()),
    }
}

fn nobody_leads() -> ApiError {
    let error = OperationError::NotPrimary { view: ViewNumber::default(), primary: None };
    ApiError::Operation { error, key: None }
}

async fn healthz() -> Reply {
    Ok(HttpResponse::Ok().json(json!({ "status": "ok" })))
}

async fn readyz(api: Api) -> Reply {
    if !api.stopping.load(Ordering::Relaxed) && api.gateway.ready().await {
        return Ok(HttpResponse::Ok().json(json!({ "status": "ready" })));
    }
    Err(nobody_leads())
}

async fn metrics(api: Api) -> HttpResponse {
    metrics_server::answer(&api.sources).await
}

async fn not_found() -> Reply {
    Err(ApiError::NotFound)
}

fn channel(request: &HttpRequest) -> Result<ChannelName, ApiError> {
    Ok(ChannelName::new(request.match_info().query("channel"))?)
}

fn message_id(request: &HttpRequest) -> Result<Timestamp, ApiError> {
    let parsed = Timestamp::parse(request.match_info().query("id"));
    parsed.map_err(|reason| Invalid::new("id", reason).into())
}

/// A path, and what a method gets that it does not know.
fn resource(path: &str, allow: &'static str) -> Resource {
    let refuse = move || async move { Reply::Err(ApiError::MethodNotAllowed { allow }) };
    web::resource(path).default_service(web::to(refuse))
}

/// All paths of the client API.
pub fn configure(config: &mut web::ServiceConfig) {
    // Those that are asked most come first: they are looked through one by one.
    config
        .service(
            resource("/v1/channels/{channel}/messages", "GET, POST")
                .route(web::post().to(post))
                .route(web::get().to(history)),
        )
        .service(resource("/v1/messages/{id}", "GET").route(web::get().to(message)))
        .service(
            resource("/v1/messages/{id}/star", "PUT, DELETE")
                .route(web::put().to(star))
                .route(web::delete().to(unstar)),
        )
        .service(resource("/v1/channels/{channel}/stars", "GET").route(web::get().to(stars)))
        .service(resource("/v1/channels", "GET").route(web::get().to(channels)))
        .service(
            resource("/v1/channels/{channel}", "GET, PUT")
                .route(web::get().to(one_channel))
                .route(web::put().to(create_channel)),
        )
        .service(resource("/v1/cluster", "GET").route(web::get().to(cluster)))
        .service(resource("/v1/cluster/changes", "GET").route(web::get().to(view_changes)))
        .service(resource("/healthz", "GET").route(web::get().to(healthz)))
        .service(resource("/readyz", "GET").route(web::get().to(readyz)))
        .service(resource("/metrics", "GET").route(web::get().to(metrics)))
        .default_service(web::to(not_found));
}

/// Why a request is refused before anything else is done: its header, or its announced body, is too large. The HTTP library's own
/// limit on headers, 128 KiB, cannot be set.
pub(super) fn over(request: &ServiceRequest, limits: &ClientLimits) -> Option<ApiError> {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let bytes = fields.sum::<usize>() + request.uri().path().len() + request.query_string().len();
    if bytes > limits.header_bytes_max {
        return Some(ApiError::HeaderTooLarge { bytes_max: limits.header_bytes_max });
    }
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let too_large = announced.is_some_and(|bytes| bytes > limits.body_bytes_max as u64);
    too_large.then_some(ApiError::BodyTooLarge { bytes_max: limits.body_bytes_max })
}
