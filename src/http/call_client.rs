//! Takes clients' calls from a gateway to data nodes: the [`NodePort`] of its actor.
//!
//! Calls to one node travel together: a lone one goes at once, and while a few requests are under way, what comes gathers
//! and goes with the next. Reads and writes travel apart, for a read must not wait for a disk.
//!
//! Not here: which node is asked, and what happens after a failure (`gateway/actor.rs`).

use super::peer_http::{self, PostFailed, Refusals};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use lockstep_actors::gateway::{
    CallFailed, CallReplies, CallReply, CallRequest, ClientCall, Leading, NodePort, NodeReport,
};
use lockstep_protocol::change::Change;
use lockstep_protocol::ids::{Address, Hash, Index, ViewNumber};
use lockstep_protocol::operation::{Action, PAGE_BYTES_MAX};
use lockstep_protocol::verify::{FreezeAnswer, ScanAnswer};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How many requests with calls may be under way to one node, of each kind.
const FLIGHTS_MAX: usize = 4;

/// A request takes no more calls once it has so many, or so much text, or asks for so many pages: the answer must not be larger than
/// a node may send. Count; bytes; count.
const FLIGHT_CALLS_MAX: usize = 512;
const FLIGHT_BYTES: usize = 4 << 20;
const FLIGHT_PAGES_MAX: usize = 8;
const _: () =
    assert!(FLIGHT_PAGES_MAX * 3 * PAGE_BYTES_MAX < super::peer::BODY_BYTES_MAX, "two bounds a page, and a message");

/// How long a node may take to answer calls. Longer than it keeps one, so that it says itself what became of it.
const CALL_PATIENCE: Duration = Duration::from_secs(90);

/// How long for small questions. The caller usually waits less.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// How many connections to nodes there may be.
const CONNECTIONS_MAX: usize = 256;

type Reply = Result<CallReply, CallFailed>;

struct Waiting {
    call: ClientCall,
    known: ViewNumber,
    reply: oneshot::Sender<Reply>,
}

/// Calls of one kind to one node.
struct Route {
    shared: Rc<Shared>,
    to: Address,
    waiting: RefCell<VecDeque<Waiting>>,
    flights: Cell<usize>,
}

struct Shared {
    client: awc::Client,
    refusals: Refusals,
}

/// The port. For one thread.
pub struct CallClient {
    shared: Rc<Shared>,
    routes: RefCell<HashMap<(Address, bool), Rc<Route>>>,
}

impl CallClient {
    /// Shows this secret to the nodes.
    #[must_use]
    pub fn new(secret: &str, own_name: &str) -> Self {
        let client = peer_http::client(secret, own_name, CONNECTIONS_MAX);
        Self { shared: Rc::new(Shared { client, refusals: Refusals::default() }), routes: RefCell::default() }
    }

    fn route(&self, to: &Address, is_write: bool) -> Rc<Route> {
        let make = || {
            let (shared, to) = (self.shared.clone(), to.clone());
            Rc::new(Route { shared, to, waiting: RefCell::default(), flights: Cell::new(0) })
        };
        self.routes.borrow_mut().entry((to.clone(), is_write)).or_insert_with(make).clone()
    }

    fn ask<T>(
        &self,
        of: &Address,
        what: &str,
        read: impl Fn(&[u8]) -> Option<T> + 'static,
    ) -> LocalBoxFuture<'static, Result<T, CallFailed>> {
        self.ask_within(ASK_PATIENCE, of, what, read)
    }

    fn ask_within<T>(
        &self,
        patience: Duration,
        of: &Address,
        what: &str,
        read: impl Fn(&[u8]) -> Option<T> + 'static,
    ) -> LocalBoxFuture<'static, Result<T, CallFailed>> {
        let (shared, of, url) = (self.shared.clone(), of.clone(), peer_http::url(of, what));
        let ask = async move {
            let body = peer_http::get(&shared.client, &url, patience).await;
            let body = body.map_err(|failed| shared.failed(&of, failed))?;
            read(&body).ok_or_else(|| CallFailed::Refused("an answer that cannot be read".to_owned()))
        };
        ask.boxed_local()
    }
}

/// What only an operator asks.
impl CallClient {
    /// Has a node keep what it holds once it has applied this entry, or as it is after `wait`.
    pub fn freeze(
        &self,
        of: &Address,
        at: Index,
        wait: Duration,
    ) -> LocalBoxFuture<'static, Result<FreezeAnswer, CallFailed>> {
        let what = format!("freeze?at={at}&wait_ms={}", wait.as_millis());
        self.ask_within(ASK_PATIENCE + wait, of, &what, |body| postcard::from_bytes(body).ok())
    }

    /// Has a node read all that it froze.
    pub fn scan(
        &self,
        of: &Address,
        ticket: u64,
        patience: Duration,
    ) -> LocalBoxFuture<'static, Result<ScanAnswer, CallFailed>> {
        self.ask_within(patience, of, &format!("scan?ticket={ticket}"), |body| postcard::from_bytes(body).ok())
    }

    /// The chain of a node's log at an index, if it knows it (any more).
    pub fn chain_at(&self, of: &Address, at: Index) -> LocalBoxFuture<'static, Result<Option<Hash>, CallFailed>> {
        self.ask(of, &format!("chain?at={at}"), |body| postcard::from_bytes(body).ok())
    }
}

impl NodePort for CallClient {
    fn call(&self, to: &Address, known: ViewNumber, call: ClientCall) -> LocalBoxFuture<'static, Reply> {
        let route = self.route(to, matches!(call, ClientCall::Write(_)));
        let (reply, answered) = oneshot::channel();
        route.waiting.borrow_mut().push_back(Waiting { call, known, reply });
        if route.flights.get() < FLIGHTS_MAX {
            route.flights.set(route.flights.get() + 1);
            actix_rt::spawn(route.fly());
        }
        answered.map(|reply| reply.unwrap_or(Err(CallFailed::Lost))).boxed_local()
    }

    fn leading(&self, of: &Address, known: ViewNumber) -> LocalBoxFuture<'static, Result<Leading, CallFailed>> {
        self.ask(of, &format!("leading?known={known}"), |body| postcard::from_bytes(body).ok())
    }

    fn report(&self, of: &Address) -> LocalBoxFuture<'static, Result<NodeReport, CallFailed>> {
        self.ask(of, "status", |body| serde_json::from_slice(body).ok())
    }

    fn view_changes(&self, of: &Address, limit: usize) -> LocalBoxFuture<'static, Result<Vec<Change>, CallFailed>> {
        self.ask(of, &format!("changes?limit={limit}"), |body| postcard::from_bytes(body).ok())
    }
}

impl Route {
    /// Takes what waits to the node, until nothing does.
    async fn fly(self: Rc<Self>) {
        while let Some((request, replies)) = self.board() {
            self.take(request, replies).await;
        }
        self.flights.set(self.flights.get().saturating_sub(1));
    }

    /// What goes next; those whose caller went away stay behind.
    fn board(&self) -> Option<(CallRequest, Vec<oneshot::Sender<Reply>>)> {
        let mut waiting = self.waiting.borrow_mut();
        let mut request = CallRequest { known: ViewNumber(u64::MAX), calls: Vec::new() };
        let mut replies = Vec::new();
        let (mut bytes, mut pages) = (0, 0);
        while request.calls.len() < FLIGHT_CALLS_MAX
            && bytes < FLIGHT_BYTES
            && pages < FLIGHT_PAGES_MAX
            && let Some(next) = waiting.pop_front()
        {
            if next.reply.is_closed() {
                continue;
            }
            bytes += text_bytes(&next.call);
            pages += usize::from(matches!(&next.call, ClientCall::Read(query) if query.is_page()));
            request.known = request.known.min(next.known);
            request.calls.push(next.call);
            replies.push(next.reply);
        }
        (!replies.is_empty()).then_some((request, replies))
    }

    async fn take(&self, request: CallRequest, mut replies: Vec<oneshot::Sender<Reply>>) {
        let Ok(body) = postcard::to_stdvec(&request) else { return };
        let url = peer_http::url(&self.to, "calls");
        let answered = {
            let post = peer_http::post(&self.shared.client, &url, Bytes::from(body), CALL_PATIENCE);
            // A node that hangs must not keep the flight once all its callers have gone elsewhere.
            let all_gone = async {
                for reply in &mut replies {
                    reply.closed().await;
                }
            };
            tokio::select! {
                biased;
                answered = post => answered,
                () = all_gone => return,
            }
        };
        let each = self.each(answered, replies.len());
        for (reply, sender) in each.into_iter().zip(replies) {
            let _ = sender.send(reply); // Its caller may have gone.
        }
    }

    fn each(&self, answered: Result<Bytes, PostFailed>, count: usize) -> Vec<Reply> {
        let answers = match answered {
            Ok(body) => postcard::from_bytes::<CallReplies>(&body).map_err(|_| CallFailed::Lost),
            Err(failed) => Err(self.shared.failed(&self.to, failed)),
        };
        match answers {
            Ok(CallReplies { answers, view }) if answers.len() == count => {
                let reply = |answer| Ok(CallReply { answer, view: view.clone() });
                answers.into_iter().map(reply).collect()
            }
            Ok(_) => vec![Err(CallFailed::Lost); count],
            Err(failed) => vec![Err(failed); count],
        }
    }
}

impl Shared {
    fn failed(&self, to: &Address, failed: PostFailed) -> CallFailed {
        match failed {
            PostFailed::Refused => CallFailed::Unreached,
            PostFailed::NotReady => CallFailed::Refused("not ready".to_owned()),
            PostFailed::Broken | PostFailed::Silent => CallFailed::Lost,
            PostFailed::Denied(reason) => {
                self.refusals.log(to, &reason);
                CallFailed::Refused(reason)
            }
        }
    }
}

fn text_bytes(call: &ClientCall) -> usize {
    match call {
        ClientCall::Write(operation) => match &operation.action {
            Action::Post { text, .. } => text.as_str().len(),
            Action::Star { .. } | Action::Unstar { .. } | Action::CreateChannel { .. } => 0,
        },
        ClientCall::Read(_) | ClientCall::Operator(_) => 0,
    }
}
