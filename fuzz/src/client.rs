//! The client API in this process, over a cluster that answers everything, and says of each list that there is more.

use actix_rt::SystemRunner;
use actix_web::body::to_bytes;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::CONTENT_TYPE;
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, web};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, LocalBoxFuture, ready};
use lockstep::http::client::{ClientApi, configure};
use lockstep::http::error::PROBLEM_JSON;
use lockstep::settings::{Role, Settings};
use lockstep_actors::gateway::{ClientCall, ClusterReport, GatewayHandle};
use lockstep_protocol::change::Change;
use lockstep_protocol::ids::{Index, Timestamp, ViewNumber};
use lockstep_protocol::operation::{
    Action, Answer, Channel, ChannelName, Found, Message, Outcome, Query, Receipt, Text, UserName,
};
use lockstep_protocol::page::Messages;
use serde_json::Value;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// The newest message of every page.
pub const NEWEST: Timestamp = Timestamp(1_700_000_000_000_000);
/// The oldest of it.
pub const OLDEST: Timestamp = Timestamp(1_600_000_000_000_000);

/// Codes of `docs/api.md` that this cluster can bring about.
const CODES: [&str; 6] =
    ["malformed", "invalid_argument", "not_found", "method_not_allowed", "too_large", "unsupported_media_type"];

#[derive(Default)]
struct Cluster(Mutex<Vec<ClientCall>>);

fn message(id: Timestamp) -> Message {
    let (channel, user) = (ChannelName::new("general").expect("a name"), UserName::new("ada").expect("a name"));
    Message { id, channel, user, text: Text::new("a text").expect("a text"), starred_by: Vec::new() }
}

fn found(query: &Query) -> Found {
    let name = ChannelName::new("zebra").expect("a name");
    let channel = Channel { name, created_at: OLDEST, created_by: UserName::new("ada").expect("a name") };
    match query {
        Query::History { page, .. } | Query::Stars { page, .. } => {
            let mut messages = vec![message(NEWEST), message(OLDEST)];
            if page.ascending {
                messages.reverse();
            }
            Found::Messages { messages: Messages::of(message(NEWEST).channel, &messages), has_more: true }
        }
        Query::Channels { .. } => Found::Channels { channels: vec![channel], has_more: true },
        Query::Message { id } => Found::Message(message(*id)),
        Query::Channel { .. } => Found::Channel(channel),
    }
}

fn done(call: &ClientCall) -> Answer {
    let receipt = Receipt { view: ViewNumber(1), index: Index(1), copies: 3 };
    match call {
        ClientCall::Read(query) => Answer::Read(found(query), receipt),
        ClientCall::Write(operation) => match &operation.action {
            Action::CreateChannel { channel } => {
                let user = operation.owner.user.clone();
                let channel = Channel { name: channel.clone(), created_at: OLDEST, created_by: user };
                Answer::Written(Outcome::Channel { channel, created: true }, receipt)
            }
            Action::Post { .. } | Action::Star { .. } | Action::Unstar { .. } => {
                Answer::Written(Outcome::Message(message(NEWEST)), receipt)
            }
        },
        ClientCall::Operator(_) => panic!("the client API asks for nothing of an operator's"),
    }
}

impl GatewayHandle for Cluster {
    fn call(&self, call: ClientCall) -> BoxFuture<'static, Answer> {
        let answer = done(&call);
        self.0.lock().expect("no panic").push(call);
        ready(answer).boxed()
    }

    fn cluster(&self) -> BoxFuture<'static, ClusterReport> {
        ready(ClusterReport::default()).boxed()
    }

    fn view_changes(&self, _: usize) -> BoxFuture<'static, Option<Vec<Change>>> {
        ready(Some(Vec::new())).boxed()
    }

    fn ready(&self) -> BoxFuture<'static, bool> {
        ready(true).boxed()
    }
}

type Serve = Box<dyn Fn(actix_http::Request) -> LocalBoxFuture<'static, ServiceResponse>>;

struct Api {
    system: SystemRunner,
    serve: Serve,
    cluster: Arc<Cluster>,
}

impl Api {
    fn new() -> Self {
        let variables =
            [("GATEWAY__NAME", "test"), ("CLUSTER__SEEDS", "127.0.0.1:1"), ("CLUSTER__SECRET_FILE", "none")];
        let variables = variables.map(|(name, value)| (format!("LOCKSTEP__{name}"), value.to_owned()));
        let settings = Settings::from_layers(None, Role::Gateway, variables).expect("settings");
        let cluster = Arc::<Cluster>::default();
        let api = ClientApi::new(cluster.clone(), &settings);
        let system = actix_rt::System::new();
        let app = App::new().app_data(web::Data::new(api)).configure(configure);
        let service = Rc::new(system.block_on(init_service(app)));
        let serve = move |request| {
            let service = service.clone();
            async move { service.call(request).await.expect("every error is an answer") }.boxed_local()
        };
        Self { system, serve: Box::new(serve), cluster }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Value,
    /// What the cluster was asked.
    pub calls: Vec<ClientCall>,
}

/// Sends a request. What is refused asks the cluster nothing, and says why by a code of the API; nothing fails inside.
///
/// # Panics
/// When that does not hold.
#[must_use]
pub fn call(request: TestRequest) -> Reply {
    thread_local! {
        // Never dropped: the framework keeps thread-local values too, which may be gone by then.
        static API: ManuallyDrop<Api> = ManuallyDrop::new(Api::new());
    }
    API.with(|api| {
        api.cluster.0.lock().expect("no panic").clear();
        let answered = (api.serve)(request.to_request());
        let (status, kind, bytes) = api.system.block_on(async move {
            let response = answered.await;
            let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
            let status = response.status().as_u16();
            let bytes = to_bytes(response.into_body()).await;
            (status, kind.unwrap_or_default(), bytes.ok().unwrap_or_default())
        });
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{status} {bytes:?}: {error}"));
        let reply = Reply { status, body, calls: api.cluster.0.lock().expect("no panic").clone() };
        if status >= 300 {
            assert!((400..500).contains(&status) && kind == PROBLEM_JSON, "{kind} {reply:?}");
            assert!(CODES.iter().any(|code| reply.body["code"] == *code), "{reply:?}");
            assert!(reply.calls.is_empty(), "{reply:?}");
        }
        reply
    })
}

/// Bytes as they may stand in a query.
#[must_use]
pub fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}
