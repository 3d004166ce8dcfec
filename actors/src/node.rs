//! One node, data node or witness: opens its disk, starts its actors, and is its handle.
//!
//! Two steps, because letters may come as soon as there is a socket: [`open`] reads the disk, which may take seconds, and
//! [`Opened::start`] starts the actors on arbiters that exist by then.
//!
//! A witness runs the same actors: the machines that it has no use for hear nothing that they act on.

use crate::election::ElectionActor;
use crate::engine::{FaultPlan, Frozen};
use crate::figures::StorageFigures;
use crate::gateway::{CallReplies, ClientCall, Leading, NodeReport};
use crate::hands::{End, Hands, OnEnd, Outbox};
use crate::heartbeat::HeartbeatActor;
use crate::lock_manager::LockManager;
use crate::mailboxes::Mailboxes;
use crate::observe::Observer;
use crate::shell::{Begin, Hosted, Observe, Shell};
use crate::storage::{self, Freeze, StorageHandle};
use crate::sync::SyncActor;
use crate::transaction_coordinator::TransactionCoordinator;
use actix::{Actor, Addr};
use actix_rt::ArbiterHandle;
use lockstep_protocol::birth::Birth;
use lockstep_protocol::campaign::Campaign;
use lockstep_protocol::change::Change;
use lockstep_protocol::coordinator::Coordinator;
use lockstep_protocol::election::Election;
use lockstep_protocol::heartbeat::Heartbeats;
use lockstep_protocol::ids::{Address, Hash, Incarnation, Index, Millis, Peer, RequestId, ViewNumber, Voter};
use lockstep_protocol::lock::LockTable;
use lockstep_protocol::machine::{Limits, Note, Setup, Timing};
use lockstep_protocol::message::Envelope;
use lockstep_protocol::operation::{Answer, OperationError};
use lockstep_protocol::read::Reads;
use lockstep_protocol::replica::Replica;
use lockstep_protocol::route::{self, Delivery, Known, LetterRefused};
use lockstep_protocol::status::NodeStatus;
use lockstep_protocol::storage::scan::scan;
use lockstep_protocol::storage::{Recovered, StorageError, StorageEvent};
use lockstep_protocol::store::VIEWS_MAX;
use lockstep_protocol::sync::Sync;
use lockstep_protocol::verify::{FreezeAnswer, ScanAnswer};
use lockstep_protocol::view::View;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a client's call may wait at a node: longer than any gateway waits, so that nothing is kept for ever.
const CALL_PATIENCE: Duration = Duration::from_secs(60);

/// How long the machines may take to say how they are.
const OBSERVE_PATIENCE: Duration = Duration::from_secs(2);

/// How many view changes a report tells of.
const REPORT_CHANGES: usize = 10;

/// How long what was frozen is kept for the scan of it: it keeps files on the disk that the engine is done with.
const FREEZE_KEPT: Duration = Duration::from_secs(60);

/// The longest that a freeze waits for its index.
const FREEZE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often a primary that is to hand over is told so.
const HAND_OVER_REPEAT: Duration = Duration::from_millis(250);

/// How often a stopping node looks whether its clients have their answers.
const DRAIN_POLL: Duration = Duration::from_millis(2);

/// What a node is made from. Plain values; the binary has checked them.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Who it is.
    pub voter: Voter,
    /// Its peer port, as others reach it.
    pub address: Address,
    /// Section 9; of a witness, the data nodes that it was told of.
    pub seeds: Vec<Address>,
    /// Time limits.
    pub timing: Timing,
    /// Other limits.
    pub limits: Limits,
    /// What it owns on disk.
    pub data_dir: PathBuf,
    /// Faults that a test wants; none by default.
    pub faults: FaultPlan,
}

/// The threads of a node's actors.
#[derive(Clone, Debug)]
pub struct Arbiters {
    /// Writes and reads: best where the peer port is served, so that a letter needs no other thread.
    pub work: ArbiterHandle,
    /// Heartbeats and elections. No bulk work runs here.
    pub vital: ArbiterHandle,
    /// Snapshots.
    pub bulk: ArbiterHandle,
}

/// A node whose disk was read, and whose actors do not run yet.
pub struct Opened {
    config: NodeConfig,
    storage: StorageHandle,
    recovered: Recovered,
    hears_storage: Arc<OnceLock<Arc<Hands>>>,
    on_end: OnEnd,
}

/// Opens the data directory, and makes what it holds durable again. Blocks, for seconds if much is there.
///
/// # Errors
/// When it belongs to another node, is damaged, or cannot be read.
pub fn open(config: NodeConfig, on_end: OnEnd) -> Result<Opened, StorageError> {
    let hears_storage: Arc<OnceLock<Arc<Hands>>> = Arc::default();
    let (hears, end) = (hears_storage.clone(), on_end.clone());
    let on_events = move |events: Vec<StorageEvent>| match hears.get() {
        Some(hands) => hands.deliver_surely(events.into_iter().flat_map(route::storage).collect()),
        None => log::error!("the storage spoke before it was asked"),
    };
    let on_failure = move |failure: StorageError| {
        log::error!("{failure}{}", failure.remedy());
        end(End::Halted(&failure.to_string()));
    };
    let (storage, recovered) = storage::start_with_faults(
        &config.data_dir,
        config.voter.clone(),
        Incarnation(random()?),
        &config.limits,
        Box::new(on_events),
        Box::new(on_failure),
        config.faults.clone(),
    )?;
    Ok(Opened { config, storage, recovered, hears_storage, on_end })
}

/// # Errors
/// When the system has no randomness to give.
fn random() -> Result<u64, StorageError> {
    getrandom::u64().map_err(|error| StorageError::Engine(format!("no randomness: {error}")))
}

impl Opened {
    /// Starts the actors.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn start(self, arbiters: &Arbiters, outbox: Arc<dyn Outbox>) -> Result<Node, StorageError> {
        let Self { config, storage, recovered, hears_storage, on_end } = self;
        let voter = recovered.identity.voter.clone();
        let me = Peer { voter, incarnation: recovered.identity.incarnation, address: config.address };
        let mut seeds = config.seeds;
        seeds.sort();
        seeds.dedup();
        let setup = Setup { me, seeds, timing: config.timing, limits: config.limits, seed: random()? };
        let view = recovered.vote.as_ref().map(|vote| Arc::new(vote.view.clone()));
        let known = Known {
            cluster: view.as_ref().map(|view| view.cluster),
            view: view.as_ref().map_or(ViewNumber(0), |view| view.number),
        };
        let asked = storage.clone();
        let hands = Arc::new(Hands::new(
            setup.me.clone(),
            known,
            Observer::new(view),
            Box::new(move |request| asked.ask(request)),
            outbox,
            on_end,
        ));
        let _ = hears_storage.set(hands.clone()); // Set once: `self` is gone.
        let shells = Shells::start(arbiters, &hands, &setup, &Arc::new(recovered));
        Ok(Node { hands, shells, storage, frozen: Arc::default() })
    }
}

/// The five actors that host machines.
#[derive(Clone, Debug)]
struct Shells {
    coordinator: Addr<Shell<TransactionCoordinator>>,
    locks: Addr<Shell<LockManager>>,
    election: Addr<Shell<ElectionActor>>,
    heartbeat: Addr<Shell<HeartbeatActor>>,
    sync: Addr<Shell<SyncActor>>,
}

impl Shells {
    fn start(arbiters: &Arbiters, hands: &Arc<Hands>, setup: &Setup, recovered: &Arc<Recovered>) -> Self {
        let (s, r) = (setup.clone(), recovered.clone());
        let coordinator = spawn(&arbiters.work, hands, move || TransactionCoordinator {
            replica: Replica::new(&s, &r),
            coordinator: Coordinator::new(&s),
            reads: Reads::new(&s),
        });
        let locks = spawn(&arbiters.work, hands, move || LockManager { locks: LockTable::new() });
        let (s, r) = (setup.clone(), recovered.clone());
        let election = spawn(&arbiters.vital, hands, move || ElectionActor {
            election: Election::new(&s),
            campaign: Campaign::new(&s),
            birth: Birth::new(&s, &r),
        });
        let s = setup.clone();
        let heartbeat = spawn(&arbiters.vital, hands, move || HeartbeatActor { heartbeat: Heartbeats::new(&s) });
        let (s, r) = (setup.clone(), recovered.clone());
        let sync = spawn(&arbiters.bulk, hands, move || SyncActor { sync: Sync::new(&s, &r) });
        let shells = Self { coordinator, locks, election, heartbeat, sync };
        shells.begin(hands);
        shells
    }

    fn begin(&self, hands: &Hands) {
        hands.connect(Mailboxes::new([
            self.coordinator.clone().recipient(),
            self.locks.clone().recipient(),
            self.election.clone().recipient(),
            self.heartbeat.clone().recipient(),
            self.sync.clone().recipient(),
        ]));
        let begun = [
            self.coordinator.try_send(Begin),
            self.locks.try_send(Begin),
            self.election.try_send(Begin),
            self.heartbeat.try_send(Begin),
            self.sync.try_send(Begin),
        ];
        if begun.iter().any(Result::is_err) {
            hands.halt("an actor ended before it began");
        }
    }

    async fn observe(&self) -> Result<NodeStatus, actix::MailboxError> {
        let status = self.coordinator.send(Observe(NodeStatus::default())).await?;
        let status = self.locks.send(Observe(status)).await?;
        let status = self.heartbeat.send(Observe(status)).await?;
        let status = self.election.send(Observe(status)).await?;
        self.sync.send(Observe(status)).await
    }
}

fn spawn<H: Hosted>(
    arbiter: &ArbiterHandle,
    hands: &Arc<Hands>,
    hosted: impl FnOnce() -> H + Send + 'static,
) -> Addr<Shell<H>> {
    let hands = hands.clone();
    Shell::start_in_arbiter(arbiter, move |_| Shell::new(hosted(), hands))
}

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    hands: Arc<Hands>,
    shells: Shells,
    storage: StorageHandle,
    frozen: Arc<Mutex<Option<(u64, Frozen)>>>,
}

/// Calls that wait for their answers, in order. Forgotten when their caller goes away.
struct Waits<'a> {
    hands: &'a Hands,
    waiting: VecDeque<(RequestId, bool, oneshot::Receiver<Answer>)>,
}

impl Waits<'_> {
    /// What the machines hear of a call.
    fn open(&mut self, call: ClientCall) -> Delivery {
        let is_write = !matches!(call, ClientCall::Read(_));
        let (request, receiver) = self.hands.pending.open();
        self.waiting.push_back((request, is_write, receiver));
        match call {
            ClientCall::Write(operation) => route::submit(request, operation),
            ClientCall::Read(query) => route::query(request, query),
            ClientCall::Operator(call) => route::operator(request, call),
        }
    }

    /// The answer to each, or none that came in time, and whether it was a write.
    async fn answers(&mut self, patience: Duration) -> Vec<(bool, Option<Answer>)> {
        let mut answers = Vec::with_capacity(self.waiting.len());
        let all = async {
            while let Some((_, is_write, receiver)) = self.waiting.front_mut() {
                answers.push((*is_write, receiver.await.ok()));
                self.waiting.pop_front();
            }
        };
        let _ = actix_rt::time::timeout(patience, all).await; // Behind one that is late others may have come.
        answers.extend(self.waiting.iter_mut().map(|(_, is_write, receiver)| (*is_write, receiver.try_recv().ok())));
        answers
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.waiting.iter().for_each(|(request, ..)| self.hands.pending.forget(*request));
    }
}

impl Node {
    /// Who it is.
    #[must_use]
    pub fn me(&self) -> &Peer {
        self.hands.me()
    }

    /// Takes letters that came together, in order. The good ones are delivered, whatever the others are.
    ///
    /// # Errors
    /// Why the first of those that were refused was refused; it changed nothing.
    pub fn deliver_letters(&self, letters: Vec<Envelope>) -> Result<(), LetterRefused> {
        let mut result = Ok(());
        let mut deliveries = Vec::with_capacity(letters.len());
        for letter in letters {
            match self.hands.open(letter) {
                Ok(more) => deliveries.extend(more),
                Err(refused) => result = result.and(Err(refused)),
            }
        }
        // What finds no room is lost, as letters may be; the mailboxes said so.
        let _ = self.hands.deliver_if_room(deliveries);
        result
    }

    /// A connection to this address was refused or reset.
    pub fn unreachable(&self, address: &Address) {
        self.hands.deliver_surely(route::unreachable(address));
    }

    /// The request kept open at this address ended.
    pub fn watch_ended(&self, address: &Address) {
        self.hands.deliver_surely(route::watch_ended(address));
    }

    /// Calls that came together, until all are answered. One actor hears them: all of them find room in its mailbox, or none.
    pub async fn calls(&self, known: ViewNumber, calls: Vec<ClientCall>) -> CallReplies {
        let count = calls.len();
        let mut waits = Waits { hands: &self.hands, waiting: VecDeque::with_capacity(count) };
        let deliveries = calls.into_iter().map(|call| waits.open(call)).collect();
        let answers = if self.hands.deliver_if_room(deliveries) {
            let told = waits.answers(CALL_PATIENCE).await.into_iter();
            told.map(|(is_write, answer)| answer.unwrap_or_else(|| self.nothing_said(is_write))).collect()
        } else {
            vec![Answer::Failed(OperationError::Overloaded); count]
        };
        CallReplies { answers, view: self.leading(known).view }
    }

    /// What a caller is told to whom the machines said nothing.
    fn nothing_said(&self, is_write: bool) -> Answer {
        Answer::Failed(if is_write { OperationError::OutcomeUnknown } else { self.not_primary() })
    }

    fn not_primary(&self) -> OperationError {
        let view = self.hands.observer.view();
        let primary = view.as_ref().map(|view| view.primary);
        OperationError::NotPrimary { view: view.map_or(ViewNumber(0), |view| view.number), primary }
    }

    /// Whether it leads, for a caller that knows the views up to `known`.
    #[must_use]
    pub fn leading(&self, known: ViewNumber) -> Leading {
        self.hands.observer.leading(known)
    }

    /// Its machines' state; none when they do not answer in time.
    pub async fn status(&self) -> Option<NodeStatus> {
        let observed = actix_rt::time::timeout(OBSERVE_PATIENCE, self.shells.observe()).await;
        observed.ok()?.ok()
    }

    /// How many views came into force here since the process began, by the kind of their cause.
    #[must_use]
    pub fn view_change_counts(&self) -> BTreeMap<&'static str, u64> {
        self.hands.observer.view_changes()
    }

    /// What its storage counts.
    #[must_use]
    pub fn storage_figures(&self) -> &StorageFigures {
        self.storage.figures()
    }

    /// How long its process's clock has run, as the times in its status count.
    #[must_use]
    pub fn elapsed(&self) -> Millis {
        self.hands.now().elapsed
    }

    /// How it is; of its disk, who knows the system tells. Empty machines' state when they do not answer in time.
    pub async fn report(&self) -> NodeReport {
        let silent = || NodeStatus { waiting_for: "its own actors".to_owned(), ..NodeStatus::default() };
        let status = self.status().await.unwrap_or_else(silent);
        let cluster = self.hands.known().cluster;
        let changes = self.view_changes(REPORT_CHANGES).await;
        NodeReport { me: self.me().clone(), cluster, status, changes, disk: None }
    }

    /// The records of the last view changes that are applied here, oldest first; of a witness, none.
    pub async fn view_changes(&self, limit: usize) -> Vec<Change> {
        let read = self.storage.view_changes(limit.min(VIEWS_MAX));
        actix_rt::time::timeout(OBSERVE_PATIENCE, read).await.unwrap_or_default()
    }

    /// Keeps what it holds as it is once it has applied this entry, for one scan; after `wait`, as it is then.
    pub async fn freeze(&self, at: Index, wait: Duration) -> FreezeAnswer {
        if self.me().voter.node().is_none() {
            return FreezeAnswer::NoStore;
        }
        let in_time = actix_rt::time::timeout(wait.min(FREEZE_WAIT_MAX), self.storage.freeze(Some(at))).await;
        let done = match in_time {
            Ok(done) => done,
            Err(_) => self.storage.freeze(None).await,
        };
        match (done, random()) {
            (Some(Freeze::Done(frozen, index)), Ok(ticket)) => {
                self.keep(ticket, frozen);
                FreezeAnswer::Frozen { ticket, index }
            }
            (Some(Freeze::Passed(index)), _) => FreezeAnswer::Passed { index },
            (Some(Freeze::Done(..) | Freeze::NoStore) | None, _) => FreezeAnswer::NoStore,
        }
    }

    /// Until it is scanned, and not for ever.
    fn keep(&self, ticket: u64, frozen: Frozen) {
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = Some((ticket, frozen));
        let node = self.clone();
        actix_rt::spawn(async move {
            actix_rt::time::sleep(FREEZE_KEPT).await;
            drop(node.take_frozen(ticket));
        });
    }

    fn take_frozen(&self, ticket: u64) -> Option<Frozen> {
        let mut kept = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take_if(|(kept, _)| *kept == ticket).map(|(_, frozen)| frozen)
    }

    /// Reads all that was frozen under this ticket, on a thread of its own; takes as long as that does. What cannot be read is
    /// told, and the node goes on: it ends when it needs it itself.
    pub async fn scan(&self, ticket: u64) -> ScanAnswer {
        let Some(frozen) = self.take_frozen(ticket) else { return ScanAnswer::Gone };
        let (reply, read) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name("scan".into()).spawn(move || {
            let _ = reply.send(scan(&frozen)); // Who asked may have gone.
        });
        match (thread, read.await) {
            (Ok(_), Ok(Ok(scan))) => ScanAnswer::Whole(scan),
            (Ok(_), Ok(Err(error))) => {
                log::error!("a scan of all that is stored here: {error}");
                ScanAnswer::Unreadable(error.to_string())
            }
            (Ok(_), Err(_)) => ScanAnswer::Gone,
            (Err(error), _) => ScanAnswer::Unreadable(format!("it cannot start a thread: {error}")),
        }
    }

    /// The chain at an index, as far as the log knows it (any more).
    pub async fn chain_at(&self, at: Index) -> Option<Hash> {
        actix_rt::time::timeout(OBSERVE_PATIENCE, self.storage.chain_at(at)).await.ok().flatten()
    }

    /// asks the machines to hand over, if this node leads others, and waits until another primary's view is in force
    /// here and all clients have their answers, or until `patience` is over.
    pub async fn hand_over(&self, patience: Duration) {
        let mut views = self.hands.observer.views();
        let leads = |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| view.is_primary(self.hands.me()));
        let is_alone = |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| view.replicas.len() == 1);
        let view = views.borrow().clone();
        if leads(&view) && !is_alone(&view) {
            let handed_over = async {
                // Asked again while it leads: a primary that has just begun, or whose campaign failed, forgets it.
                loop {
                    self.hands.tell(Note::HandOver { to: None });
                    let done = views.wait_for(|view| !leads(view));
                    if actix_rt::time::timeout(HAND_OVER_REPEAT, done).await.is_ok() {
                        return;
                    }
                }
            };
            if actix_rt::time::timeout(patience, handed_over).await.is_err() {
                log::warn!("nobody took over within {} ms", patience.as_millis());
            }
            self.hands.fall_silent();
        }
        let _ = actix_rt::time::timeout(patience, self.drained()).await;
    }

    async fn drained(&self) {
        while self.hands.pending.count() > 0 {
            actix_rt::time::sleep(DRAIN_POLL).await;
        }
    }

    /// Flushes and closes the disk. The machines' later wishes are lost, as in a crash.
    pub fn stop(self) {
        self.storage.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hands::tests::{Probe, hands};
    use lockstep_protocol::ids::Timestamp;
    use lockstep_protocol::operation::Query;

    #[actix_rt::test]
    async fn a_call_that_is_late_keeps_no_other_answer_back() {
        let hands = hands(&Probe::default());
        let mut waits = Waits { hands: &hands, waiting: VecDeque::new() };
        let _heard: Vec<_> =
            (1..=3).map(|id| waits.open(ClientCall::Read(Query::Message { id: Timestamp(id) }))).collect();
        let requests: Vec<_> = waits.waiting.iter().map(|(request, ..)| *request).collect();
        let answer = Answer::Failed(OperationError::Aborted);
        hands.pending.answer(requests[0], answer.clone());
        hands.pending.answer(requests[2], answer.clone());
        let answers = waits.answers(Duration::from_millis(20)).await;
        assert_eq!(answers, [(false, Some(answer.clone())), (false, None), (false, Some(answer))]);
        assert_eq!(hands.pending.count(), 1);
        drop(waits);
        assert_eq!(hands.pending.count(), 0, "its caller went away");
    }
}
