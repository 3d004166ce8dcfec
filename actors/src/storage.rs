//! Storage: the log and the store in the embedded engine, on a thread of their own.
//!
//! - The thread takes all that waits for it at once, and flushes once for all of it: the more load, the larger the groups. What stands
//!   before the first request that needs that flush is answered without it: clients of one batch do not wait for the next one's.
//! - What it says goes to `on_events`, in order. After an error it says so once, to `on_failure`, and serves nothing more:
//!   a failed flush stops the node, and is never tried again in place.
//! - Whoever wants to read all that it holds has it frozen at one index, and reads that on a thread of its own: writes go on.
//! - When the last handle is gone, it flushes, ends, and lets the data directory go.
//!
//! Not an actor: a blocking call would stand in the way of everything else on an actor's thread.
//!
//! Not here: what is asked (`lockstep_protocol`), and what follows from a failure (the wiring ends the process).

use crate::engine::{Engine, FaultPlan, Frozen};
use crate::figures::StorageFigures;
use lockstep_protocol::change::Change;
use lockstep_protocol::ids::{Hash, Incarnation, Index, Voter};
use lockstep_protocol::machine::Limits;
use lockstep_protocol::storage::kv::Kv;
use lockstep_protocol::storage::{Recovered, Storage, StorageError, StorageEvent, StorageRequest};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Hears what the storage says, on the storage's thread: it passes it on and does not wait.
pub type OnEvents = Box<dyn Fn(Vec<StorageEvent>) + Send>;

/// Hears, once, why the storage serves no more.
pub type OnFailure = Box<dyn Fn(StorageError) + Send>;

/// The most requests in one group, so that the first of them do not wait too long for their answers.
const GROUP_REQUESTS_MAX: usize = 256;

/// Likewise, of those that ask for a page: their answers are kept until all are there.
const GROUP_PAGES_MAX: usize = 32;

/// What the thread is asked.
#[allow(clippy::large_enum_variant, reason = "the large one is the usual one")]
enum Call {
    /// By a machine.
    Serve(StorageRequest),
    /// For people.
    Look(Look),
    /// To end.
    Stop,
}

/// What somebody wants to see of it, and where to.
enum Look {
    /// The records of the last view changes.
    ViewChanges { limit: usize, reply: oneshot::Sender<Vec<Change>> },
    /// The chain at an index.
    Chain { at: Index, reply: oneshot::Sender<Option<Hash>> },
    /// All tables, as they are at an index, or now.
    Freeze { at: Option<Index>, reply: oneshot::Sender<Freeze> },
}

/// What became of the wish to have all tables frozen.
#[derive(Debug)]
pub enum Freeze {
    /// They are, and this is the last applied entry.
    Done(Frozen, Index),
    /// More was applied already: this is the last.
    Passed(Index),
    /// A snapshot is being installed.
    NoStore,
}

/// Who waits for an index to come.
#[derive(Default)]
struct Freezes(Vec<(Index, oneshot::Sender<Freeze>)>);

impl Freezes {
    fn wants(&mut self, at: Option<Index>, reply: oneshot::Sender<Freeze>, storage: &mut Storage<Engine>) {
        let (applied, _) = storage.applied();
        let told = match at {
            _ if !storage.is_whole() => Freeze::NoStore,
            Some(at) if at > applied => return self.0.push((at, reply)),
            Some(at) if at < applied => Freeze::Passed(applied),
            Some(_) | None => Freeze::Done(storage.kv_mut().freeze(), applied),
        };
        let _ = reply.send(told); // Who asked may have gone.
    }

    /// This is the last applied entry now.
    fn reached(&mut self, engine: &Engine, applied: Index) {
        let is_due = |(at, reply): &mut (Index, oneshot::Sender<Freeze>)| *at <= applied || reply.is_closed();
        for (at, reply) in self.0.extract_if(.., is_due) {
            // Entries that came by synchronisation are applied several at once.
            let told = if at == applied { Freeze::Done(engine.freeze(), applied) } else { Freeze::Passed(applied) };
            let _ = reply.send(told); // Who asked may have gone.
        }
    }
}

/// Asks the storage. Clones ask the same one.
#[derive(Clone, Debug)]
pub struct StorageHandle {
    calls: Sender<Call>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    figures: Arc<StorageFigures>,
}

impl StorageHandle {
    /// Has a request served after all that were asked before. Does nothing once the storage has ended.
    pub fn ask(&self, request: StorageRequest) {
        // It ended: who ended it was told, or is the one that asks.
        let _ = self.calls.send(Call::Serve(request));
    }

    /// The records of the last view changes, oldest first, as they are applied here; none once the storage has ended.
    pub async fn view_changes(&self, limit: usize) -> Vec<Change> {
        let (reply, read) = oneshot::channel();
        self.look(Look::ViewChanges { limit, reply });
        read.await.unwrap_or_default()
    }

    /// The chain at an index that the log still knows; none once the storage has ended.
    pub async fn chain_at(&self, at: Index) -> Option<Hash> {
        let (reply, read) = oneshot::channel();
        self.look(Look::Chain { at, reply });
        read.await.unwrap_or_default()
    }

    /// All tables as they are when this entry is the last applied one, or as they are now. Waits until that entry comes; none
    /// once the storage has ended.
    pub async fn freeze(&self, at: Option<Index>) -> Option<Freeze> {
        let (reply, done) = oneshot::channel();
        self.look(Look::Freeze { at, reply });
        done.await.ok()
    }

    fn look(&self, look: Look) {
        let _ = self.calls.send(Call::Look(look)); // When it has ended, nobody answers.
    }

    /// What it counts.
    #[must_use]
    pub fn figures(&self) -> &StorageFigures {
        &self.figures
    }

    /// Waits until all that was asked is served and flushed and the data directory is let go, for all handles alike. Not
    /// to be called on the storage's own thread.
    pub fn stop(self) {
        let _ = self.calls.send(Call::Stop);
        // Held while it waits, so that another handle's `stop` waits too.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            let _ = thread.join(); // A panic has aborted the process already.
        }
    }
}

/// Opens a node's data directory, creates it if need be, and serves it on a new thread.
///
/// # Errors
/// When the directory is another voter's or in use, when it is damaged, and when the engine fails.
pub fn start(
    directory: &Path,
    voter: Voter,
    new_incarnation: Incarnation,
    limits: &Limits,
    on_events: OnEvents,
    on_failure: OnFailure,
) -> Result<(StorageHandle, Recovered), StorageError> {
    let faults = FaultPlan::default();
    start_with_faults(directory, voter, new_incarnation, limits, on_events, on_failure, faults)
}

/// [`start`], with faults that a test wants.
///
/// # Errors
/// As [`start`].
pub fn start_with_faults(
    directory: &Path,
    voter: Voter,
    new_incarnation: Incarnation,
    limits: &Limits,
    on_events: OnEvents,
    on_failure: OnFailure,
    faults: FaultPlan,
) -> Result<(StorageHandle, Recovered), StorageError> {
    let engine = Engine::open(directory, faults)?;
    let (storage, recovered) = Storage::open(engine, voter, new_incarnation, limits)?;
    let (calls, waiting) = channel();
    let figures = Arc::<StorageFigures>::default();
    let counts = figures.clone();
    let thread = std::thread::Builder::new()
        .name("storage".into())
        .spawn(move || serve(storage, &waiting, &counts, &on_events, &on_failure))
        .map_err(|error| StorageError::Engine(format!("cannot start its thread: {error}")))?;
    Ok((StorageHandle { calls, thread: Arc::new(Mutex::new(Some(thread))), figures }, recovered))
}

fn serve(
    mut storage: Storage<Engine>,
    waiting: &Receiver<Call>,
    figures: &StorageFigures,
    on_events: &OnEvents,
    on_failure: &OnFailure,
) {
    let outcome = serve_all(&mut storage, waiting, figures, on_events);
    if let Err(error) = outcome {
        on_failure(error);
    }
}

fn serve_all(
    storage: &mut Storage<Engine>,
    waiting: &Receiver<Call>,
    figures: &StorageFigures,
    on_events: &OnEvents,
) -> Result<(), StorageError> {
    let mut freezes = Freezes::default();
    loop {
        let (mut requests, looks, is_last) = next_group(waiting);
        let needs_flush = requests.iter().position(StorageRequest::needs_flush);
        let flushed = needs_flush.map(|first| requests.split_off(first)).unwrap_or_default();
        for requests in [requests, flushed].into_iter().filter(|requests| !requests.is_empty()) {
            let count = requests.len();
            let events = storage.perform_watched(requests, &mut |engine, applied| freezes.reached(engine, applied))?;
            figures.served(count, storage.kv_mut().take_flush_time());
            if !events.is_empty() {
                on_events(events);
            }
        }
        for look in looks {
            show(storage, look, &mut freezes)?;
        }
        if is_last {
            return storage.kv_mut().flush();
        }
    }
}

fn show(storage: &mut Storage<Engine>, look: Look, freezes: &mut Freezes) -> Result<(), StorageError> {
    // Who asked may have gone: that is no error.
    match look {
        Look::ViewChanges { limit, reply } => drop(reply.send(storage.view_changes(limit)?)),
        Look::Chain { at, reply } => drop(reply.send(storage.chain_at(at)?)),
        Look::Freeze { at, reply } => freezes.wants(at, reply, storage),
    }
    Ok(())
}

/// Waits for a request, and takes what waits behind it; and says whether that was the last.
fn next_group(waiting: &Receiver<Call>) -> (Vec<StorageRequest>, Vec<Look>, bool) {
    let (mut requests, mut looks, mut pages) = (Vec::new(), Vec::new(), 0);
    let first = waiting.recv().unwrap_or(Call::Stop); // Nobody is left to ask.
    for call in std::iter::once(first).chain(waiting.try_iter()) {
        match call {
            Call::Serve(request) => {
                pages += usize::from(matches!(&request, StorageRequest::Query { query, .. } if query.is_page()));
                requests.push(request);
            }
            Call::Look(look) => looks.push(look),
            Call::Stop => return (requests, looks, true),
        }
        if requests.len() + looks.len() >= GROUP_REQUESTS_MAX || pages >= GROUP_PAGES_MAX {
            break;
        }
    }
    (requests, looks, false)
}

#[cfg(test)]
mod tests;
