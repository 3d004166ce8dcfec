//! The client API over a cluster that says what the test wants: each call, and what each bad request gets.
//!
//! Requests are written byte by byte, so that a test can also send what no HTTP library would.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lockstep::http::client::ClientApi;
use lockstep::http::client_server::serve;
use lockstep::settings::{Role, Settings};
use lockstep_actors::gateway::{ClientCall, ClusterReport, DiskReport, GatewayHandle, NodeAnswer, NodeReport};
use lockstep_protocol::change::{Cause, Change, Course, Decision, Fault, Reason, Sign};
use lockstep_protocol::ids::{
    Address, Ballot, ClusterId, Incarnation, Index, NodeId, Peer, Timestamp, ViewNumber, Voter, WitnessName,
};
use lockstep_protocol::member::{Member, Members};
use lockstep_protocol::operation::{
    Action, Answer, Channel, ChannelName, Found, Message, Operation, OperationError, Outcome, Query, Receipt, Text,
    UserName,
};
use lockstep_protocol::page::Messages;
use lockstep_protocol::status::{NodeStatus, Role as NodeRole};
use lockstep_protocol::view::{Seat, View};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ID: Timestamp = Timestamp(1_700_000_000_000_123);
const RECEIPT: Receipt = Receipt { view: ViewNumber(7), index: Index(42), copies: 3 };
const READ_RECEIPT: Receipt = Receipt { view: ViewNumber(7), index: Index(42), copies: 0 };

/// A cluster that gives prepared answers, and remembers what it was asked.
#[derive(Default)]
struct Fake {
    answers: Mutex<VecDeque<Answer>>,
    calls: Mutex<Vec<ClientCall>>,
    report: Mutex<ClusterReport>,
    ready: Mutex<bool>,
    changes: Mutex<Option<Vec<Change>>>,
}

impl GatewayHandle for Fake {
    fn call(&self, call: ClientCall) -> BoxFuture<'static, Answer> {
        self.calls.lock().expect("calls").push(call);
        let answer = self.answers.lock().expect("answers").pop_front();
        async move { answer.expect("the test expected no call") }.boxed()
    }

    fn cluster(&self) -> BoxFuture<'static, ClusterReport> {
        let report = self.report.lock().expect("report").clone();
        async move { report }.boxed()
    }

    fn view_changes(&self, limit: usize) -> BoxFuture<'static, Option<Vec<Change>>> {
        let mut changes = self.changes.lock().expect("changes").clone();
        if let Some(changes) = &mut changes {
            changes.drain(..changes.len().saturating_sub(limit));
        }
        async move { changes }.boxed()
    }

    fn ready(&self) -> BoxFuture<'static, bool> {
        let ready = *self.ready.lock().expect("ready");
        async move { ready }.boxed()
    }
}

/// A gateway on a port of the loopback.
struct Server {
    fake: Arc<Fake>,
    address: SocketAddr,
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Value,
}

impl Server {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(variables: &[(&str, &str)]) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let mut all = vec![
            ("LOCKSTEP__GATEWAY__NAME".to_owned(), "test".to_owned()),
            ("LOCKSTEP__CLUSTER__SEEDS".to_owned(), "127.0.0.1:1".to_owned()),
            ("LOCKSTEP__CLUSTER__SECRET_FILE".to_owned(), "none".to_owned()),
        ];
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let settings = Settings::from_layers(None, Role::Gateway, all).expect("settings");
        let fake = Arc::new(Fake::default());
        drop(serve(listener, ClientApi::new(fake.clone(), &settings), || {}).expect("serves"));
        Self { fake, address }
    }

    fn will_answer(&self, answer: Answer) -> &Self {
        self.fake.answers.lock().expect("answers").push_back(answer);
        self
    }

    fn calls(&self) -> Vec<ClientCall> {
        self.fake.calls.lock().expect("calls").clone()
    }

    /// Sends the bytes and reads until the connection closes. The write may fail: the server may have closed already.
    async fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        let _ = stream.write_all(bytes).await;
        Self::reply(&mut stream).await
    }

    async fn reply(stream: &mut TcpStream) -> Reply {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("an answer within 20 s");
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer but {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Reply {
            status: status.parse().expect("a status"),
            headers: lines.filter_map(header).collect(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        let mut request = (request + &format!("Content-Length: {}\r\n\r\n", body.len())).into_bytes();
        request.extend_from_slice(body);
        self.raw(&request).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    async fn post(&self, body: &[u8]) -> Reply {
        let json = [("Content-Type", "application/json")];
        self.send("POST", "/v1/channels/general/messages", &json, body).await
    }
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    #[track_caller]
    fn is_problem(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        for field in ["type", "title", "detail"] {
            assert!(self.body[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {self:?}");
        }
        self
    }

    #[track_caller]
    fn names_field(&self, field: &str) {
        assert_eq!(self.body["field"], field, "{self:?}");
    }
}

fn channel_name() -> ChannelName {
    ChannelName::new("general").expect("a name")
}

fn stored(id: Timestamp, text: &str) -> Message {
    let user = |name| UserName::new(name).expect("a name");
    let text = Text::new(text).expect("a text");
    Message { id, channel: channel_name(), user: user("ada"), text, starred_by: vec![user("grace")] }
}

fn page(messages: &[Message]) -> Messages {
    Messages::of(channel_name(), messages)
}

fn written() -> Answer {
    Answer::Written(Outcome::Message(stored(ID, "Hello, <b>world</b> \u{1F44B}")), RECEIPT)
}

fn stored_channel() -> Channel {
    Channel { name: channel_name(), created_at: ID, created_by: UserName::new("ada").expect("a name") }
}

fn operation(call: &ClientCall) -> &Operation {
    match call {
        ClientCall::Write(operation) => operation,
        ClientCall::Read(_) | ClientCall::Operator(_) => panic!("{call:?} is no write"),
    }
}

#[actix_rt::test]
async fn post_answers_201_with_the_message_and_its_receipt() {
    let server = Server::start();
    server.will_answer(written());
    let headers =
        [("Content-Type", "application/json; charset=UTF-8"), ("Lockstep-User", "ada"), ("Idempotency-Key", "k-1")];
    let body = r#"{"text": "Hello, <b>world</b> \ud83d\udc4b", "newer": [1, {"field": null}]}"#;
    let reply = server.send("POST", "/v1/channels/general/messages", &headers, body.as_bytes()).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let expected = json!({"message": {
        "id": "1700000000.000123", "channel": "general", "user": "ada", "text": "Hello, <b>world</b> \u{1F44B}",
        "posted_at": "2023-11-14T22:13:20.000123Z", "starred_by": ["grace"],
    }});
    assert_eq!(reply.body, expected);
    let receipt = ["lockstep-view", "lockstep-index", "lockstep-copies"].map(|name| reply.header(name));
    assert_eq!(receipt, ["7", "42", "3"]);
    assert_eq!((reply.header("content-type"), reply.header("cache-control")), ("application/json", "no-store"));

    let calls = server.calls();
    let Operation { owner, action } = operation(&calls[0]);
    assert_eq!((owner.user.as_str(), owner.key.as_str()), ("ada", "k-1"));
    let Action::Post { channel, text, create_channel: true } = action else { panic!("{action:?}") };
    assert_eq!((channel.as_str(), text.as_str()), ("general", "Hello, <b>world</b> \u{1F44B}"));
}

#[actix_rt::test]
async fn a_write_without_key_gets_a_fresh_one_and_an_unnamed_caller_is_anonymous() {
    let server = Server::start();
    for _ in 0..2 {
        server.will_answer(written()).post(br#"{"text": "x"}"#).await;
    }
    let calls = server.calls();
    let keys: Vec<_> = calls.iter().map(|call| operation(call).owner.key.as_str()).collect();
    assert_eq!(operation(&calls[0]).owner.user.as_str(), "anonymous");
    assert!(keys.iter().all(|key| key.len() == 32 && key.bytes().all(|b| b.is_ascii_hexdigit())), "{keys:?}");
    assert_ne!(keys[0], keys[1]);
}

#[actix_rt::test]
async fn create_on_post_is_the_gateways_setting() {
    let server = Server::with(&[("LOCKSTEP__CHANNELS__CREATE_ON_POST", "false")]);
    server.will_answer(written()).post(br#"{"text": "x"}"#).await;
    let calls = server.calls();
    assert!(matches!(operation(&calls[0]).action, Action::Post { create_channel: false, .. }));
}

#[actix_rt::test]
async fn star_unstar_and_one_message() {
    let server = Server::start();
    let path = "/v1/messages/1700000000.000123";
    let star = format!("{path}/star");
    assert_eq!(server.will_answer(written()).send("PUT", &star, &[], b"").await.status, 200);
    assert_eq!(server.will_answer(written()).send("DELETE", &star, &[], b"").await.status, 200);
    let reply = server.will_answer(Answer::Read(Found::Message(stored(ID, "x")), READ_RECEIPT)).get(path).await;
    assert_eq!((reply.status, &reply.body["message"]["text"]), (200, &json!("x")));
    assert_eq!((reply.header("lockstep-index"), reply.header("lockstep-copies")), ("42", ""));

    let calls = server.calls();
    assert_eq!(operation(&calls[0]).action, Action::Star { id: ID });
    assert_eq!(operation(&calls[1]).action, Action::Unstar { id: ID });
    assert_eq!(calls[2], ClientCall::Read(Query::Message { id: ID }));
}

#[actix_rt::test]
async fn a_channel_is_created_once_and_201_says_so() {
    let server = Server::start();
    for (created, status) in [(true, 201), (false, 200)] {
        let outcome = Outcome::Channel { channel: stored_channel(), created };
        let put = server.will_answer(Answer::Written(outcome, RECEIPT));
        let reply = put.send("PUT", "/v1/channels/general", &[], b"").await;
        assert_eq!(reply.status, status);
        let channel = json!({"name": "general", "created_at": "2023-11-14T22:13:20.000123Z", "created_by": "ada"});
        assert_eq!(reply.body, json!({ "channel": channel }));
    }
    let one = server.will_answer(Answer::Read(Found::Channel(stored_channel()), READ_RECEIPT));
    assert_eq!(one.get("/v1/channels/general").await.status, 200);
}

#[actix_rt::test]
async fn pages_carry_what_was_asked_for_and_a_cursor_that_names_the_last_message() {
    let server = Server::start();
    let page =
        |has_more| Found::Messages { messages: page(&[stored(Timestamp(ID.0 + 1), "b"), stored(ID, "a")]), has_more };
    server.will_answer(Answer::Read(page(true), READ_RECEIPT));
    let reply = server.get("/v1/channels/general/messages?limit=2&after=1600000000.000000&unknown=1").await;
    assert_eq!((reply.status, &reply.body["has_more"]), (200, &json!(true)), "{reply:?}");
    let cursor = reply.body["next"].as_str().expect("a cursor").to_owned();

    server.will_answer(Answer::Read(page(false), READ_RECEIPT));
    let reply = server.get(&format!("/v1/channels/general/messages?limit=3&cursor={cursor}")).await;
    assert_eq!((&reply.body["next"], &reply.body["has_more"]), (&Value::Null, &json!(false)));
    let pages = server.calls().into_iter().map(|call| match call {
        ClientCall::Read(Query::History { page, .. }) => page,
        other => panic!("{other:?}"),
    });
    let pages = pages.into_iter().collect::<Vec<_>>();
    let after = Some(Timestamp(1_600_000_000_000_000));
    assert_eq!((pages[0].limit, pages[0].before, pages[0].after, pages[0].ascending), (2, None, after, false));
    assert_eq!((pages[1].limit, pages[1].before, pages[1].after, pages[1].ascending), (3, Some(ID), after, false));

    for (path, field) in [
        (format!("/v1/channels/other/messages?cursor={cursor}"), "cursor"),
        (format!("/v1/channels/general/stars?cursor={cursor}"), "cursor"),
        (format!("/v1/channels?cursor={cursor}"), "cursor"),
        (format!("/v1/channels/general/messages?cursor={cursor}00"), "cursor"),
        (format!("/v1/channels/general/messages?order=asc&cursor={cursor}"), "order"),
    ] {
        server.get(&path).await.is_problem(400, "invalid_argument").names_field(field);
    }
}

#[actix_rt::test]
async fn stars_of_one_user_oldest_first() {
    let server = Server::start();
    let found = Found::Messages { messages: page(&[stored(ID, "a")]), has_more: true };
    server.will_answer(Answer::Read(found.clone(), READ_RECEIPT));
    let reply = server.get("/v1/channels/general/stars?user=grace&order=asc").await;
    let cursor = reply.body["next"].as_str().expect("a cursor").to_owned();
    server.will_answer(Answer::Read(found, READ_RECEIPT));
    server.get(&format!("/v1/channels/general/stars?user=grace&cursor={cursor}")).await;
    for (call, expected) in server.calls().iter().zip([None, Some(ID)]) {
        let ClientCall::Read(Query::Stars { user: Some(user), page, .. }) = call else { panic!("{call:?}") };
        assert_eq!((user.as_str(), page.after, page.ascending, page.limit), ("grace", expected, true, 100));
    }
    let other_user = server.get(&format!("/v1/channels/general/stars?user=ada&cursor={cursor}")).await;
    other_user.is_problem(400, "invalid_argument").names_field("cursor");
}

#[actix_rt::test]
async fn channels_are_paged_by_name() {
    let server = Server::start();
    let found = Found::Channels { channels: vec![stored_channel()], has_more: true };
    server.will_answer(Answer::Read(found.clone(), READ_RECEIPT)).will_answer(Answer::Read(found, READ_RECEIPT));
    let reply = server.get("/v1/channels?limit=1").await;
    let cursor = reply.body["next"].as_str().expect("a cursor");
    server.get(&format!("/v1/channels?limit=1&cursor={cursor}")).await;
    let second = ClientCall::Read(Query::Channels { limit: 1, after: Some(channel_name()) });
    assert_eq!(server.calls()[1], second);
}

#[actix_rt::test]
async fn each_error_of_the_cluster_has_its_row() {
    let not_primary = OperationError::NotPrimary { view: ViewNumber(3), primary: None };
    let too_few = OperationError::TooFewReplicas { replicas: 1, needed: 2 };
    for (error, status, code) in [
        (not_primary, 503, "no_primary"),
        (too_few, 503, "too_few_replicas"),
        (OperationError::Overloaded, 503, "overloaded"),
        (OperationError::Aborted, 409, "aborted"),
        (OperationError::OutcomeUnknown, 504, "outcome_unknown"),
        (OperationError::KeyReused, 422, "idempotency_key_reused"),
        (OperationError::ChannelNotFound { channel: channel_name() }, 404, "channel_not_found"),
        (OperationError::MessageNotFound { id: ID }, 404, "message_not_found"),
    ] {
        let server = Server::start();
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k-1")];
        server.will_answer(Answer::Failed(error.clone())).will_answer(Answer::Failed(error));
        let reply = server.send("POST", "/v1/channels/general/messages", &headers, br#"{"text": "x"}"#).await;
        reply.is_problem(status, code);
        assert_eq!(reply.header("retry-after"), if status == 503 { "1" } else { "" });
        let key = if status == 504 { json!("k-1") } else { Value::Null };
        assert_eq!(reply.body["idempotency_key"], key);
        server.get("/v1/messages/1700000000.000123").await.is_problem(status, code);
    }
}

#[actix_rt::test]
async fn r9_an_aborted_write_that_is_repeated_is_still_409() {
    let server = Server::start();
    let reply = server.will_answer(Answer::Written(Outcome::Aborted, RECEIPT)).post(br#"{"text": "x"}"#).await;
    reply.is_problem(409, "aborted");
}

#[actix_rt::test]
async fn bad_bodies_are_refused_before_the_cluster_is_asked() {
    let server = Server::start();
    let long = format!(r#"{{"text": "{}"}}"#, "\u{e9}".repeat(40_001));
    for (body, code, field) in [
        (r#"{"text": ""}"#.as_bytes(), "invalid_argument", "text"),
        (long.as_bytes(), "invalid_argument", "text"),
        (br#"{"text": 5}"#, "invalid_argument", "text"),
        (br#"{"text": null}"#, "invalid_argument", "text"),
        (br#"{"text": ["x"]}"#, "invalid_argument", "text"),
        (br#"{"txt": "x"}"#, "invalid_argument", "text"),
        (b"{}", "invalid_argument", "text"),
        (br#"{"text": "a", "text": "b"}"#, "malformed", ""),
        (br#"{"text": "a", "other": 1, "other": 1}"#, "malformed", ""),
        (br#"["x"]"#, "malformed", ""),
        (br#""x""#, "malformed", ""),
        (b"null", "malformed", ""),
        (b"", "malformed", ""),
        (br#"{"text": "x""#, "malformed", ""),
        (br#"{"text": "x"} more"#, "malformed", ""),
        (b"{\"text\": \"\xff\xfe\"}", "malformed", ""),
        (br#"{"text": "\ud800"}"#, "malformed", ""),
        (b"{\"text\": \"a\x01b\"}", "malformed", ""),
        ("[".repeat(100_000).as_bytes(), "malformed", ""),
    ] {
        let reply = server.post(body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        assert_eq!((reply.status, &reply.body["code"]), (400, &json!(code)), "{shown}: {reply:?}");
        reply.is_problem(400, code);
        assert_eq!(reply.body["field"].as_str().unwrap_or(""), field, "{shown}");
    }
    assert_eq!(server.calls(), Vec::new());
}

#[actix_rt::test]
async fn forty_thousand_characters_are_kept_to_the_byte() {
    let server = Server::start();
    let text = "\u{1F980}".repeat(40_000);
    let body = json!({ "text": text }).to_string();
    assert_eq!(server.will_answer(written()).post(body.as_bytes()).await.status, 201);
    let calls = server.calls();
    let Action::Post { text: posted, .. } = &operation(&calls[0]).action else { panic!("no post") };
    assert_eq!(posted.as_str(), text);
}

#[actix_rt::test]
async fn a_body_cut_short_reaches_nobody() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address).await.expect("connects");
    let head = "POST /v1/channels/general/messages HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: 100\r\n\r\n{{\"text\": \"x\"}}");
    stream.write_all(request.as_bytes()).await.expect("written");
    stream.shutdown().await.expect("half closed");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(server.calls(), Vec::new());
}

#[actix_rt::test]
async fn a_body_of_two_mebibytes_is_413_and_the_connection_ends() {
    let server = Server::start();
    let body = vec![b'x'; 2 << 20];
    let json = [("Content-Type", "application/json")];
    let announced = server.send("POST", "/v1/channels/general/messages", &json, &body).await;
    announced.is_problem(413, "too_large");

    let head = "POST /v1/channels/general/messages HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n";
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).into_bytes();
    chunked.extend_from_slice(&body);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    server.raw(&chunked).await.is_problem(413, "too_large");
    assert_eq!(server.calls(), Vec::new());
}

#[actix_rt::test]
async fn a_header_over_16_kib_is_431() {
    let server = Server::start();
    let long = "x".repeat(17_000);
    server.send("GET", "/healthz", &[("X-Long", &long)], b"").await.is_problem(431, "too_large");
    server.get(&format!("/healthz?{long}")).await.is_problem(431, "too_large");
    let fits = "x".repeat(15_000);
    assert_eq!(server.send("GET", "/healthz", &[("X-Long", &fits)], b"").await.status, 200);
}

#[actix_rt::test]
async fn slow_headers_and_bodies_are_408_and_the_connection_ends() {
    let times = [("LOCKSTEP__GATEWAY__HEADER_TIMEOUT_MS", "1000"), ("LOCKSTEP__GATEWAY__BODY_TIMEOUT_MS", "300")];
    let server = Server::with(&times);
    let head = "POST /v1/channels/general/messages HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n";
    assert_eq!(server.raw(head.as_bytes()).await.status, 408);
    let begun = format!("{head}Content-Length: 100\r\n\r\n{{");
    server.raw(begun.as_bytes()).await.is_problem(408, "request_timeout");
    assert_eq!(server.calls(), Vec::new());
}

#[actix_rt::test]
async fn a_body_must_be_announced_as_json() {
    let server = Server::start();
    let path = "/v1/channels/general/messages";
    let body = br#"{"text": "x"}"#;
    server.send("POST", path, &[], body).await.is_problem(415, "unsupported_media_type");
    for kind in ["text/plain", "application/jsonp", "application/json; charset=latin1", "application/json; q=1"] {
        let reply = server.send("POST", path, &[("Content-Type", kind)], body).await;
        reply.is_problem(415, "unsupported_media_type");
    }
    for kind in ["application/json", "Application/JSON;charset=\"utf-8\"", "application/json;"] {
        assert_eq!(server.will_answer(written()).send("POST", path, &[("Content-Type", kind)], body).await.status, 201);
    }
}

#[actix_rt::test]
async fn names_ids_and_parameters_out_of_bounds_name_their_field() {
    let server = Server::start();
    let long = "a".repeat(81);
    for name in ["General", "-a", "_a", "a.b", "a%20b", "a%2Fb", "%ff", "%C3%A9", "a%00", &long] {
        let reply = server.get(&format!("/v1/channels/{name}/messages")).await;
        reply.is_problem(400, "invalid_argument").names_field("channel");
        let put = server.send("PUT", &format!("/v1/channels/{name}"), &[], b"").await;
        put.is_problem(400, "invalid_argument").names_field("channel");
    }
    for id in ["1", "1700000000", "1700000000.00012", "1700000000,000123", "x", "-1", "17000000000.000123"] {
        let star = server.send("PUT", &format!("/v1/messages/{id}/star"), &[], b"").await;
        star.is_problem(400, "invalid_argument").names_field("id");
        server.get(&format!("/v1/messages/{id}")).await.is_problem(400, "invalid_argument").names_field("id");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=1&limit=2", "limit"),
        ("before=now", "before"),
        ("after=1", "after"),
        ("order=up", "order"),
        ("cursor=zz", "cursor"),
        ("cursor=0", "cursor"),
        ("cursor=", "cursor"),
    ] {
        let reply = server.get(&format!("/v1/channels/general/messages?{query}")).await;
        reply.is_problem(400, "invalid_argument").names_field(field);
    }
    let stars = server.get("/v1/channels/general/stars?user=a%20b").await;
    stars.is_problem(400, "invalid_argument").names_field("user");
    assert_eq!(server.calls(), Vec::new());
}

#[actix_rt::test]
async fn callers_and_keys_out_of_bounds_name_their_header() {
    let server = Server::start();
    let star = "/v1/messages/1700000000.000123/star";
    let (long_user, long_key) = ("u".repeat(81), "k".repeat(256));
    for user in ["a b", "", "\u{e9}", &long_user] {
        let reply = server.send("PUT", star, &[("Lockstep-User", user)], b"").await;
        reply.is_problem(400, "invalid_argument").names_field("Lockstep-User");
    }
    for key in ["a b", "", &long_key] {
        let reply = server.send("PUT", star, &[("Idempotency-Key", key)], b"").await;
        reply.is_problem(400, "invalid_argument").names_field("Idempotency-Key");
    }
    let twice = server.send("PUT", star, &[("Idempotency-Key", "a"), ("Idempotency-Key", "b")], b"").await;
    twice.is_problem(400, "invalid_argument").names_field("Idempotency-Key");
    assert_eq!(server.calls(), Vec::new());
}

#[actix_rt::test]
async fn unknown_paths_are_404_and_unknown_methods_405() {
    let server = Server::start();
    for path in ["/", "/v1", "/v1/channels/", "/v1/channels//messages", "/v2/channels", "/v1/messages", "/%ff"] {
        server.get(path).await.is_problem(404, "not_found");
    }
    let reply = server.send("DELETE", "/v1/channels/general", &[], b"").await;
    reply.is_problem(405, "method_not_allowed");
    assert_eq!(reply.header("allow"), "GET, PUT");
    server.send("POST", "/v1/cluster", &[], b"").await.is_problem(405, "method_not_allowed");
}

#[actix_rt::test]
async fn what_is_no_http_is_refused_and_the_server_goes_on() {
    let server = Server::start();
    for bytes in [b"GET\r\n\r\n".as_slice(), b"\x16\x03\x01\x00\xff\x01\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"] {
        assert_eq!(server.raw(bytes).await.status, 400);
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[actix_rt::test]
async fn health_is_the_process_and_readiness_the_cluster() {
    let server = Server::start();
    assert_eq!(server.get("/healthz").await.status, 200);
    let reply = server.get("/readyz").await;
    assert_eq!(reply.is_problem(503, "no_primary").header("retry-after"), "1");
    *server.fake.ready.lock().expect("ready") = true;
    assert_eq!(server.get("/readyz").await.status, 200);
}

const SILENT_2: &str = "node 2 fell silent (nothing heard for 3000 ms)";

fn silent_2() -> Cause {
    let fault = Fault::Silent { ms: 3_000 };
    Cause::new(ID, NodeId(3), vec![Reason::SetOffline { voter: Voter::Replica(NodeId(2)), fault }])
}

/// The primary, node 3, died; node 2 leads view 8.
fn died_3() -> Change {
    let [one, two, witness] =
        [Voter::Replica(NodeId(1)), Voter::Replica(NodeId(2)), Voter::Witness(WitnessName::new("gateway-1"))];
    let mut cause = Cause::new(ID, NodeId(2), vec![Reason::PrimaryLost { primary: NodeId(3) }]);
    cause.seen = [&one, &two, &witness].map(|voter| (voter.clone(), Sign::Reset)).to_vec();
    let voters: std::collections::BTreeSet<_> = [one, two, witness].into();
    let ballot = Ballot { round: 2, node: NodeId(2) };
    let (promised, accepted) = (voters.clone(), voters);
    let (suspect_ms, trial_ms, promise_ms, accept_ms, stalled_ms) = (0, 11, 10, 20, 41);
    let decision =
        Decision { ballot, votes: 5, promised, accepted, suspect_ms, trial_ms, promise_ms, accept_ms, stalled_ms };
    let view = ViewNumber(8);
    let course = Course { view, decision: Some(decision), finish_ms: 9, serve_ms: 14, stall_ms: Some(64) };
    let (replicas, witnesses) = ([NodeId(1), NodeId(2)].into(), [WitnessName::new("gateway-1")].into());
    Change { view, primary: NodeId(2), replicas, witnesses, cause, course: Some(course) }
}

#[actix_rt::test]
async fn why_the_view_changed_as_a_sentence_and_field_by_field() {
    let server = Server::start();
    server.get("/v1/cluster/changes").await.is_problem(503, "no_primary");
    let older = Change { view: ViewNumber(7), course: None, ..died_3() };
    *server.fake.changes.lock().expect("changes") = Some(vec![older, died_3()]);
    let body = server.get("/v1/cluster/changes").await.body;
    let change = &body["changes"][0];
    assert_eq!(
        change["text"],
        "node 3 died (connection reset, seen by 1, 2, gateway-1); view 8, primary 2, decided by 3 of 5 votes in 41 ms; \
         writes stood still for 64 ms"
    );
    assert_eq!(change["at"], "2023-11-14T22:13:20.000123Z");
    assert_eq!(change["cause"]["reasons"], json!([{"kind": "primary_lost", "who": "3", "fault": null, "ms": null}]));
    assert_eq!(change["cause"]["seen_by"][2], json!({"voter": "gateway-1", "sign": "reset", "ms": null}));
    let decision =
        json!({"ballot": "2.2", "votes": 5, "promised": ["1", "2", "gateway-1"], "accepted": ["1", "2", "gateway-1"]});
    assert_eq!(change["decision"], decision);
    let phases =
        json!({"suspect_ms": 0, "trial_ms": 11, "promise_ms": 10, "accept_ms": 20, "finish_ms": 9, "serve_ms": 14});
    assert_eq!((&change["phases"], &change["stall_ms"]), (&phases, &json!(64)));
    let unknown = &body["changes"][1];
    assert_eq!(
        (&unknown["decision"], &unknown["phases"], &unknown["stall_ms"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let one = server.get("/v1/cluster/changes?limit=1").await.body;
    assert_eq!(one["changes"].as_array().map(Vec::len), Some(1), "the newest");
    for limit in ["0", "1001", "-1", "x"] {
        server.get(&format!("/v1/cluster/changes?limit={limit}")).await.is_problem(400, "invalid_argument");
    }
}

fn peer(voter: Voter, n: u64) -> Peer {
    Peer { voter, incarnation: Incarnation(n), address: Address::new(&format!("127.0.0.1:{n}")) }
}

fn report(me: Peer, role: NodeRole, view: &Arc<View>, applied: u64) -> NodeAnswer {
    let serving = (role == NodeRole::Primary).then_some(view.number);
    let (log_end, applied) = (Index(applied), Index(applied));
    let status = NodeStatus { role, view: Some(view.clone()), serving, log_end, applied, ..NodeStatus::default() };
    let (decision, view_number) = (None, view.number);
    let course = Course { view: view_number, decision, finish_ms: 1, serve_ms: 2, stall_ms: Some(140) };
    let change = Change { course: Some(course), ..Change::new(view) };
    let answer = NodeReport {
        me: me.clone(),
        cluster: Some(view.cluster),
        status,
        changes: vec![change],
        disk: Some(DiskReport { used_bytes: 3, free_bytes: 5 }),
    };
    NodeAnswer { address: me.address, voter: Some(me.voter), report: Ok(answer) }
}

/// View 7: data nodes 1 and 3, which leads, and perhaps a witness.
fn view_7(one: &Peer, three: &Peer, witness: Option<&Peer>) -> Arc<View> {
    let seat = |peer: &Peer| Seat { incarnation: peer.incarnation, address: peer.address.clone() };
    Arc::new(View {
        cluster: ClusterId(0xabc),
        number: ViewNumber(7),
        primary: NodeId(3),
        replicas: [(NodeId(1), seat(one)), (NodeId(3), seat(three))].into(),
        witnesses: witness.map(|witness| (WitnessName::new("gateway-1"), seat(witness))).into_iter().collect(),
        cause: silent_2().into(),
    })
}

#[actix_rt::test]
async fn the_cluster_as_people_see_it() {
    let server = Server::start();
    let empty = server.get("/v1/cluster").await;
    assert_eq!((empty.status, &empty.body["view"]), (200, &Value::Null));

    let [three, one, two] = [3, 1, 2].map(|n| peer(Voter::Replica(NodeId(n)), n.into()));
    let witness = peer(Voter::Witness(WitnessName::new("gateway-1")), 9);
    let view = view_7(&one, &three, Some(&witness));
    let silent = NodeAnswer { address: two.address, voter: Some(two.voter), report: Err("connection refused".into()) };
    let nodes = vec![
        report(one, NodeRole::Replica, &view, 40),
        silent,
        report(three, NodeRole::Primary, &view, 42),
        report(witness, NodeRole::Witness, &view, 0),
    ];
    *server.fake.report.lock().expect("report") = ClusterReport { view: Some(view), nodes };
    let body = server.get("/v1/cluster").await.body;
    assert_eq!(body["cluster_id"], "00000000000000000000000000000abc");
    assert_eq!(body["view"], json!({"number": 7, "primary": 3, "replicas": [1, 3], "witnesses": ["gateway-1"]}));
    let node = |id, state, index: Value, lag: Value, detail: Value| {
        let disk = if index.is_null() { Value::Null } else { json!({"used_bytes": 3, "free_bytes": 5}) };
        json!({"id": id, "address": format!("127.0.0.1:{id}"), "state": state, "log_end": index, "applied": index,
            "lag": lag, "disk": disk, "detail": detail})
    };
    let expected = json!([
        node(1, "replica", json!(40), json!(2), Value::Null),
        node(2, "offline", Value::Null, Value::Null, json!("connection refused")),
        node(3, "primary", json!(42), json!(0), Value::Null),
    ]);
    assert_eq!(body["nodes"], expected);
    let vote = json!({"name": "gateway-1", "address": "127.0.0.1:9", "state": "voting", "detail": null});
    assert_eq!(body["witnesses"], json!([vote]));
    let change = json!({"view": 7, "at": "2023-11-14T22:13:20.000123Z", "cause": SILENT_2, "stall_ms": 140});
    assert_eq!((&body["sync"], &body["changes"]), (&Value::Null, &json!([change])));
}

#[actix_rt::test]
async fn r25_who_was_removed_is_not_missed_and_a_member_that_nobody_knows_is() {
    let server = Server::start();
    let [one, two, three, four] = [1, 2, 3, 4].map(|n| peer(Voter::Replica(NodeId(n)), n.into()));
    let view = view_7(&one, &three, None);
    let member = |peer: &Peer, removed| Member { peer: peer.clone(), removed };
    let members = [member(&one, false), member(&two, true), member(&three, false), member(&four, false)];
    let silent = NodeAnswer { address: two.address, voter: None, report: Err("connection refused".into()) };
    let mut primary = report(three, NodeRole::Primary, &view, 42);
    if let Ok(report) = &mut primary.report {
        report.status.members = Members::new(members.into());
    }
    let nodes = vec![report(one, NodeRole::Replica, &view, 42), silent, primary];
    *server.fake.report.lock().expect("report") = ClusterReport { view: Some(view), nodes };
    let body = server.get("/v1/cluster").await.body;
    let nodes: Vec<_> = body["nodes"].as_array().expect("nodes").iter().map(|n| (&n["id"], &n["state"])).collect();
    assert_eq!(nodes, [(&json!(1), &json!("replica")), (&json!(3), &json!("primary")), (&json!(4), &json!("offline"))]);
    assert_eq!(body["outlook"]["text"], "no more data node may fail: node 3 is needed");
    assert_eq!(body["outlook"]["needed"], json!(["3"]));
}
