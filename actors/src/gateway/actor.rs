//! The gateway's actor: finds out who leads, has clients' calls done there, and holds them while nobody does (section 10).
//!
//! Each known data node is asked whether it leads, about once a second; while nobody is known to lead, every few
//! milliseconds. Calls that wait do not ask themselves: they wait for the answer to that, so a thousand held requests are no
//! load on a cluster that elects.
//!
//! Not here: what a try's outcome means (`judge.rs`), who leads (`follow.rs`), and any socket: a [`NodePort`] goes there.

use super::figures::GatewayFigures;
use super::follow::{Follow, Target};
use super::judge::{Next, Outcome, Tries};
use super::{CallFailed, CallReply, ClientCall, ClusterReport, GatewayHandle, Leading, NodeAnswer, NodeReport};
use actix::{Actor, Addr, Context, Handler, Message, ResponseFuture};
use actix_rt::time::{Instant, sleep, sleep_until, timeout};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, LocalBoxFuture, join_all};
use lockstep_protocol::change::Change;
use lockstep_protocol::ids::{Address, ViewNumber};
use lockstep_protocol::operation::{Answer, OperationError};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// How long a node may take to say whether it leads, before it is asked again.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// How long a node may take to say how it is.
const REPORT_PATIENCE: Duration = Duration::from_millis(1_000);

/// While nobody leads, each node is asked this often at first; later half as often, and so on, up to the longest.
const SEEK_SHORTEST: Duration = Duration::from_millis(5);
const SEEK_LONGEST: Duration = Duration::from_millis(100);

/// For so many rounds the shortest is kept: about a second.
const SEEK_ROUNDS_SHORTEST: u32 = 200;

/// What a gateway is made from.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Data nodes to begin with; one that answers is enough.
    pub data_nodes: Vec<Address>,
    /// How long a request is held. Then its outcome is told as unknown, or as refused.
    pub request_timeout: Duration,
    /// How often each node is asked whether it leads.
    pub refresh: Duration,
    /// How many requests may be under way or held at once; one more is told `overloaded`.
    pub requests_max: usize,
}

/// Goes to the nodes. Lives on the actor's thread.
pub trait NodePort: 'static {
    /// Has a call done. Waits as long as the node does.
    fn call(
        &self,
        to: &Address,
        known: ViewNumber,
        call: ClientCall,
    ) -> LocalBoxFuture<'static, Result<CallReply, CallFailed>>;

    /// Asks whether the node leads.
    fn leading(&self, of: &Address, known: ViewNumber) -> LocalBoxFuture<'static, Result<Leading, CallFailed>>;

    /// Asks how the node is.
    fn report(&self, of: &Address) -> LocalBoxFuture<'static, Result<NodeReport, CallFailed>>;

    /// Asks for the records of the last view changes.
    fn view_changes(&self, of: &Address, limit: usize) -> LocalBoxFuture<'static, Result<Vec<Change>, CallFailed>>;
}

#[derive(Message)]
#[rtype(result = "Answer")]
struct Call(ClientCall);

#[derive(Message)]
#[rtype(result = "ClusterReport")]
struct AskCluster;

#[derive(Message)]
#[rtype(result = "Option<Vec<Change>>")]
struct AskViewChanges(usize);

#[derive(Message)]
#[rtype(result = "bool")]
struct AskReady;

/// The actor. Its handlers wait, so that its state is shared between them: they only ever touch it between two waits.
pub struct GatewayActor {
    shared: Rc<Shared>,
}

struct Shared {
    config: GatewayConfig,
    port: Box<dyn NodePort>,
    follow: RefCell<Follow>,
    target: watch::Sender<Option<Target>>,
    probed: RefCell<BTreeSet<Address>>,
    figures: Arc<GatewayFigures>,
    dice: RefCell<u64>,
}

impl GatewayActor {
    /// Knows its data nodes and nothing of them yet. `seed` spreads the tries of several gateways. It alone counts `figures`.
    pub fn new(config: GatewayConfig, port: Box<dyn NodePort>, seed: u64, figures: Arc<GatewayFigures>) -> Self {
        let follow = RefCell::new(Follow::new(config.data_nodes.iter().cloned()));
        let shared = Shared {
            config,
            port,
            follow,
            target: watch::Sender::new(None),
            probed: RefCell::default(),
            figures,
            dice: RefCell::new(seed | 1),
        };
        Self { shared: Rc::new(shared) }
    }
}

impl Actor for GatewayActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.shared.config.requests_max.max(16));
        self.shared.probe_all();
    }
}

impl Handler<Call> for GatewayActor {
    type Result = ResponseFuture<Answer>;

    fn handle(&mut self, Call(call): Call, _: &mut Self::Context) -> Self::Result {
        let shared = self.shared.clone();
        shared.answer(call).boxed_local()
    }
}

impl Handler<AskCluster> for GatewayActor {
    type Result = ResponseFuture<ClusterReport>;

    fn handle(&mut self, AskCluster: AskCluster, _: &mut Self::Context) -> Self::Result {
        self.shared.clone().cluster().boxed_local()
    }
}

impl Handler<AskViewChanges> for GatewayActor {
    type Result = ResponseFuture<Option<Vec<Change>>>;

    fn handle(&mut self, AskViewChanges(limit): AskViewChanges, _: &mut Self::Context) -> Self::Result {
        self.shared.clone().view_changes(limit).boxed_local()
    }
}

impl Handler<AskReady> for GatewayActor {
    type Result = bool;

    fn handle(&mut self, AskReady: AskReady, _: &mut Self::Context) -> bool {
        self.shared.target.borrow().is_some()
    }
}

impl Shared {
    /// Something was heard: tells those who wait for a primary, and asks nodes that were not known before.
    fn heard(self: &Rc<Self>, hear: impl FnOnce(&mut Follow)) {
        hear(&mut self.follow.borrow_mut());
        let target = self.follow.borrow().target().cloned();
        self.target.send_if_modified(|current| {
            let is_news = *current != target;
            if is_news {
                *current = target;
            }
            is_news
        });
        self.probe_all();
    }

    /// One task for each data node: one that hangs must not keep the others' answers.
    fn probe_all(self: &Rc<Self>) {
        let follow = self.follow.borrow();
        for node in follow.nodes() {
            if self.probed.borrow_mut().insert(node.clone()) {
                actix_rt::spawn(self.clone().probe(node.clone()));
            }
        }
    }

    async fn probe(self: Rc<Self>, node: Address) {
        let mut target = self.target.subscribe();
        let mut rounds = 0;
        loop {
            let known = self.follow.borrow().view_number();
            match timeout(PROBE_PATIENCE, self.port.leading(&node, known)).await {
                Ok(Ok(leading)) => self.heard(|follow| follow.on_leading(&node, &leading)),
                Ok(Err(_)) => self.heard(|follow| follow.on_leading(&node, &Leading::default())),
                Err(_) => {} // Slow is not dead; if another leads meanwhile, that one says so.
            }
            let is_led = target.borrow_and_update().is_some();
            rounds = if is_led { 0 } else { rounds + 1 };
            let pause = if is_led { self.config.refresh } else { self.jitter(seek_pause(rounds)) };
            let lost = target.wait_for(Option::is_none);
            if is_led {
                let _ = timeout(pause, lost).await; // Whichever comes first: time to ask again.
            } else {
                sleep(pause).await;
            }
        }
    }

    /// Between half and all of it, so that many do not ask at once. A xorshift is random enough for that.
    fn jitter(&self, pause: Duration) -> Duration {
        let mut dice = self.dice.borrow_mut();
        *dice ^= *dice << 13;
        *dice ^= *dice >> 7;
        *dice ^= *dice << 17;
        pause / 2 + pause.mul_f64((*dice % 1_000) as f64 / 2_000.0)
    }

    /// Has the call done, if there is room for it.
    async fn answer(self: Rc<Self>, call: ClientCall) -> Answer {
        let is_write = matches!(call, ClientCall::Write(_));
        let is_full = self.figures.under_way.get() >= self.config.requests_max as u64;
        let answer = if is_full { Answer::Failed(OperationError::Overloaded) } else { self.hold(call).await };
        self.figures.answered(is_write, &answer);
        answer
    }

    /// Has the call done, and holds it while nobody leads.
    async fn hold(self: &Rc<Self>, call: ClientCall) -> Answer {
        let _under_way = self.figures.under_way.enter();
        let mut was_held = false;
        let deadline = Instant::now() + self.config.request_timeout;
        let mut tries = Tries::new(!matches!(call, ClientCall::Read(_)));
        let mut target = self.target.subscribe();
        loop {
            let on_hold = target.borrow().is_none().then(|| self.figures.on_hold.enter());
            if on_hold.is_some() && !std::mem::replace(&mut was_held, true) {
                self.figures.held.add(1);
            }
            let led = tokio::select! {
                biased;
                led = target.wait_for(Option::is_some) => led.ok().and_then(|led| led.clone()),
                () = sleep_until(deadline) => None,
            };
            drop(on_hold);
            let Some(primary) = led else { return tries.give_up(false, self.nobody_leads()) };
            let outcome = tokio::select! {
                biased;
                outcome = self.try_once(&primary, call.clone()) => outcome,
                () = deposed(&mut target, &primary) => Outcome::Deposed,
                () = sleep_until(deadline) => return tries.give_up(true, self.nobody_leads()),
            };
            match tries.judge(outcome) {
                Next::Tell(answer) => return answer,
                Next::Again { is_trouble, pause_ms } => {
                    self.figures.retries.add(1);
                    if is_trouble {
                        self.heard(|follow| follow.on_trouble(&primary));
                    }
                    if pause_ms > 0 {
                        sleep(self.jitter(Duration::from_millis(2 * pause_ms))).await;
                    }
                }
            }
        }
    }

    async fn try_once(self: &Rc<Self>, primary: &Target, call: ClientCall) -> Outcome {
        let known = self.follow.borrow().view_number();
        match self.port.call(&primary.address, known, call).await {
            Ok(CallReply { answer, view }) => {
                if let Some(view) = view {
                    self.heard(|follow| follow.on_view(&view));
                }
                Outcome::Answered(answer)
            }
            Err(failed) => Outcome::Failed(failed),
        }
    }

    fn nobody_leads(&self) -> OperationError {
        let follow = self.follow.borrow();
        OperationError::NotPrimary { view: follow.view_number(), primary: follow.view().map(|view| view.primary) }
    }

    async fn cluster(self: Rc<Self>) -> ClusterReport {
        let everybody = self.follow.borrow().everybody();
        let ask = |(address, voter)| {
            let report = self.port.report(&address);
            async move {
                let report = match timeout(REPORT_PATIENCE, report).await {
                    Ok(report) => report.map_err(|failed| failed.to_string()),
                    Err(_) => Err("no answer".to_owned()),
                };
                let voter = report.as_ref().ok().map(|report: &NodeReport| report.me.voter.clone()).or(voter);
                NodeAnswer { address, voter, report }
            }
        };
        let nodes = join_all(everybody.into_iter().map(ask)).await;
        for view in nodes.iter().filter_map(|node| node.report.as_ref().ok()?.status.view.clone()) {
            self.heard(|follow| follow.on_view(&view));
        }
        ClusterReport { view: self.follow.borrow().view().cloned(), nodes }
    }
}

impl Shared {
    /// From the primary; while none answers, from whoever knows the latest view, and of two the one that knows more of it.
    async fn view_changes(self: Rc<Self>, limit: usize) -> Option<Vec<Change>> {
        let primary = self.target.borrow().as_ref().map(|target| target.address.clone());
        if let Some(primary) = primary
            && let Ok(Ok(changes)) = timeout(PROBE_PATIENCE, self.port.view_changes(&primary, limit)).await
        {
            return Some(changes);
        }
        let nodes: Vec<Address> = self.follow.borrow().nodes().iter().cloned().collect();
        let asked = nodes.iter().map(|node| timeout(PROBE_PATIENCE, self.port.view_changes(node, limit)));
        let told = join_all(asked).await.into_iter().filter_map(|told| told.ok()?.ok());
        told.max_by_key(|changes| changes.last().map(|last| (last.view, last.course.is_some())))
    }
}

fn seek_pause(rounds: u32) -> Duration {
    let doublings = rounds.saturating_sub(SEEK_ROUNDS_SHORTEST).min(8);
    (SEEK_SHORTEST * 2_u32.pow(doublings)).min(SEEK_LONGEST)
}

/// Another primary is known to lead. While nobody is, the one that was asked may still answer.
async fn deposed(target: &mut watch::Receiver<Option<Target>>, primary: &Target) {
    let other = |current: &Option<Target>| current.as_ref().is_some_and(|current| current.address != primary.address);
    if target.wait_for(other).await.is_err() {
        std::future::pending::<()>().await; // The actor is gone, and this with it.
    }
}

/// A handle on the actor, for any thread. Made before the actor, which is best started on the thread that serves clients.
#[derive(Clone, Default)]
pub struct Gateway(Arc<OnceLock<Addr<GatewayActor>>>);

impl Gateway {
    /// Starts the actor on this thread, unless it runs already.
    pub fn start_here(&self, make: impl FnOnce() -> GatewayActor) {
        self.0.get_or_init(|| make().start());
    }

    /// What the actor answers; none when it does not run, or not any more.
    fn ask<M>(&self, message: M) -> impl Future<Output = Option<M::Result>> + Send + use<M>
    where
        M: Message<Result: Send> + Send + 'static,
        GatewayActor: Handler<M>,
    {
        let asked = self.0.get().map(|actor| actor.send(message));
        async move { asked?.await.ok() }
    }
}

impl GatewayHandle for Gateway {
    fn call(&self, call: ClientCall) -> BoxFuture<'static, Answer> {
        let unknown = Answer::Failed(OperationError::OutcomeUnknown);
        self.ask(Call(call)).map(|answer| answer.unwrap_or(unknown)).boxed()
    }

    fn cluster(&self) -> BoxFuture<'static, ClusterReport> {
        self.ask(AskCluster).map(Option::unwrap_or_default).boxed()
    }

    fn view_changes(&self, limit: usize) -> BoxFuture<'static, Option<Vec<Change>>> {
        self.ask(AskViewChanges(limit)).map(Option::flatten).boxed()
    }

    fn ready(&self) -> BoxFuture<'static, bool> {
        self.ask(AskReady).map(|is_ready| is_ready == Some(true)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::view;
    use lockstep_protocol::ids::ClusterId;
    use lockstep_protocol::operation::{ChannelName, Found, Query, Receipt};
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// What a fake node does with a call.
    #[derive(Clone, Debug)]
    enum Node {
        Dead,
        Replica,
        Serves,
        Hangs,
        Resets,
    }

    #[derive(Clone, Default)]
    struct Fake {
        nodes: Arc<Mutex<BTreeMap<Address, (Node, u64)>>>,
        calls: Arc<Mutex<Vec<Address>>>,
    }

    fn address(id: u32) -> Address {
        Address::new(&format!("127.0.0.1:{id}"))
    }

    fn answer() -> Answer {
        let receipt = Receipt { view: ViewNumber(1), index: lockstep_protocol::ids::Index(1), copies: 0 };
        Answer::Read(Found::Channels { channels: Vec::new(), has_more: false }, receipt)
    }

    impl Fake {
        fn set(&self, id: u32, node: Node, view: u64) {
            self.nodes.lock().expect("no panic").insert(address(id), (node, view));
        }

        fn at(&self, address: &Address) -> (Node, u64) {
            self.nodes.lock().expect("no panic").get(address).cloned().unwrap_or((Node::Dead, 0))
        }
    }

    impl NodePort for Fake {
        fn call(
            &self,
            to: &Address,
            _: ViewNumber,
            _: ClientCall,
        ) -> LocalBoxFuture<'static, Result<CallReply, CallFailed>> {
            self.calls.lock().expect("no panic").push(to.clone());
            let failed = |view| OperationError::NotPrimary { view, primary: None };
            match self.at(to) {
                (Node::Dead, _) => std::future::ready(Err(CallFailed::Unreached)).boxed_local(),
                (Node::Resets, _) => std::future::ready(Err(CallFailed::Lost)).boxed_local(),
                (Node::Hangs, _) => std::future::pending().boxed_local(),
                (Node::Serves, _) => std::future::ready(Ok(CallReply { answer: answer(), view: None })).boxed_local(),
                (Node::Replica, number) => {
                    let answer = Answer::Failed(failed(ViewNumber(number)));
                    std::future::ready(Ok(CallReply { answer, view: Some(view(number, 3)) })).boxed_local()
                }
            }
        }

        fn leading(&self, of: &Address, _: ViewNumber) -> LocalBoxFuture<'static, Result<Leading, CallFailed>> {
            let cluster = Some(ClusterId(9));
            let id = of.as_str().rsplit(':').next().and_then(|id| id.parse().ok()).unwrap_or(0);
            let leading = match self.at(of) {
                (Node::Dead, _) => Err(CallFailed::Unreached),
                (Node::Replica, _) => Ok(Leading { cluster, serving: None, view: None }),
                (Node::Serves | Node::Hangs | Node::Resets, number) => {
                    let serving = Some(ViewNumber(number));
                    Ok(Leading { cluster, serving, view: Some(view(number, id)) })
                }
            };
            std::future::ready(leading).boxed_local()
        }

        fn report(&self, _: &Address) -> LocalBoxFuture<'static, Result<NodeReport, CallFailed>> {
            std::future::ready(Err(CallFailed::Refused("fake".to_owned()))).boxed_local()
        }

        fn view_changes(&self, of: &Address, _: usize) -> LocalBoxFuture<'static, Result<Vec<Change>, CallFailed>> {
            let id = of.as_str().rsplit(':').next().and_then(|id| id.parse().ok()).unwrap_or(0);
            std::future::ready(match self.at(of) {
                (Node::Dead | Node::Resets, _) => Err(CallFailed::Unreached),
                (_, number) => Ok(vec![Change::new(&view(number, id))]),
            })
            .boxed_local()
        }
    }

    fn gateway(fake: &Fake, request_timeout_ms: u64, requests_max: usize) -> Gateway {
        counting(fake, request_timeout_ms, requests_max).0
    }

    fn counting(fake: &Fake, request_timeout_ms: u64, requests_max: usize) -> (Gateway, Arc<GatewayFigures>) {
        let figures = Arc::<GatewayFigures>::default();
        let config = GatewayConfig {
            data_nodes: vec![address(1), address(2), address(3)],
            request_timeout: Duration::from_millis(request_timeout_ms),
            refresh: Duration::from_millis(20),
            requests_max,
        };
        let gateway = Gateway::default();
        gateway.start_here(|| GatewayActor::new(config, Box::new(fake.clone()), 7, figures.clone()));
        (gateway, figures)
    }

    fn read() -> ClientCall {
        ClientCall::Read(Query::Channels { limit: 1, after: None })
    }

    fn write() -> ClientCall {
        use lockstep_protocol::operation::{Action, IdempotencyKey, KeyOwner, Operation, UserName};
        let owner =
            KeyOwner { user: UserName::new("ada").expect("a name"), key: IdempotencyKey::new("k1").expect("a key") };
        let channel = ChannelName::new("general").expect("a name");
        ClientCall::Write(Operation { owner, action: Action::CreateChannel { channel } })
    }

    #[actix_rt::test]
    async fn section_10_a_held_request_is_answered_when_somebody_leads() {
        let fake = Fake::default();
        let (gateway, figures) = counting(&fake, 5_000, 10);
        let held = gateway.call(read());
        let leads = async {
            sleep(Duration::from_millis(50)).await;
            fake.set(3, Node::Serves, 1);
        };
        let (answered, ()) = tokio::join!(held, leads);
        assert_eq!(answered, answer());
        assert_eq!(*fake.calls.lock().expect("no panic"), [address(3)], "it was tried only where somebody leads");
        assert!(gateway.ready().await);
        let levels = (figures.under_way.get(), figures.on_hold.get());
        assert_eq!((figures.held.get(), figures.retries.get(), levels), (1, 0, (0, 0)));
        assert_eq!(figures.reads[0].get(), 1);
    }

    #[actix_rt::test]
    async fn section_10_a_failover_is_one_slow_request() {
        for broken in [Node::Dead, Node::Resets, Node::Hangs, Node::Replica] {
            let fake = Fake::default();
            fake.set(3, Node::Serves, 1);
            let gateway = gateway(&fake, 5_000, 10);
            assert_eq!(gateway.call(read()).await, answer());
            fake.set(3, broken.clone(), 1);
            let fails_over = async {
                sleep(Duration::from_millis(50)).await;
                fake.set(2, Node::Serves, 2);
            };
            let (answered, ()) = tokio::join!(gateway.call(write()), fails_over);
            assert_eq!(answered, answer(), "{broken:?}");
        }
    }

    #[actix_rt::test]
    async fn section_10_the_time_limit_tells_what_is_known() {
        let fake = Fake::default();
        let gateway = gateway(&fake, 60, 10);
        let nobody = OperationError::NotPrimary { view: ViewNumber(0), primary: None };
        assert_eq!(gateway.call(write()).await, Answer::Failed(nobody));
        assert!(!gateway.ready().await);
        fake.set(1, Node::Hangs, 1);
        assert_eq!(gateway.call(write()).await, Answer::Failed(OperationError::OutcomeUnknown));
        let known =
            OperationError::NotPrimary { view: ViewNumber(1), primary: Some(lockstep_protocol::ids::NodeId(1)) };
        assert_eq!(gateway.call(read()).await, Answer::Failed(known));
    }

    #[actix_rt::test]
    async fn section_10_held_requests_are_bounded() {
        let fake = Fake::default();
        let gateway = gateway(&fake, 200, 2);
        let (first, second) = (gateway.call(read()), gateway.call(read()));
        let third = async {
            sleep(Duration::from_millis(20)).await;
            gateway.call(read()).await
        };
        let (_, _, third) = tokio::join!(first, second, third);
        assert_eq!(third, Answer::Failed(OperationError::Overloaded));
        fake.set(1, Node::Serves, 1);
        assert_eq!(gateway.call(read()).await, answer(), "the count goes down again");
    }

    #[actix_rt::test]
    async fn the_cluster_is_reported_even_when_nobody_answers() {
        let report = gateway(&Fake::default(), 100, 10).cluster().await;
        assert_eq!(report.nodes.len(), 3);
        assert!(report.nodes.iter().all(|node| node.report.is_err()) && report.primary().is_none());
    }

    #[actix_rt::test]
    async fn section_12_while_nobody_leads_whoever_knows_the_latest_view_tells_of_it() {
        let fake = Fake::default();
        let gateway = gateway(&fake, 100, 10);
        assert_eq!(gateway.view_changes(5).await, None, "nobody answers");
        fake.set(1, Node::Replica, 4);
        fake.set(2, Node::Replica, 7);
        let told = gateway.view_changes(5).await.expect("told");
        assert_eq!(told.iter().map(|change| change.view).collect::<Vec<_>>(), [ViewNumber(7)]);
    }
}
