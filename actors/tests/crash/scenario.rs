//! What the recorded process does to its data directory, step by step, and what must be found after an end between any two:
//! votes, entries, entries that replace another, commits, restarts, a snapshot, and tables that are written and merged.
//!
//! `History` knows each state without any disk. What is found (`Found`) is held against the states that the end could leave:
//! that of the last step that was acknowledged, or of the one that was under way.

use lockstep_actors::engine::{Engine, FaultPlan};
use lockstep_protocol::change::Cause;
use lockstep_protocol::ids::{
    Address, Attempt, ClusterId, Hash, Incarnation, Index, NodeId, SessionId, Timestamp, ViewNumber, Voter, WriteId,
};
use lockstep_protocol::log::{Batch, Entry, LogRecord};
use lockstep_protocol::machine::Limits;
use lockstep_protocol::message::Pair;
use lockstep_protocol::operation::{Action, ChannelName, KeyOwner, LoggedOperation, Operation, Text};
use lockstep_protocol::storage::scan::scan;
use lockstep_protocol::storage::{Storage, StorageError, StorageEvent, StorageRequest, VoteRecord};
use lockstep_protocol::view::{Seat, View};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Entries of the history.
const ENTRIES: u64 = 90;
/// The entry at which a snapshot is taken, from another directory.
const SNAPSHOT_AT: u64 = 60;
/// Every so many entries all buffers are written out.
const WRITTEN_OUT_EVERY: u64 = 5;

fn limits() -> Limits {
    Limits { log_retain_entries: 16, ..Limits::default() }
}

/// Opens a directory as a node does.
pub fn open(directory: &Path) -> Result<Storage<Engine>, StorageError> {
    let engine = Engine::open(directory, FaultPlan::default())?;
    Ok(Storage::open(engine, Voter::Replica(NodeId(1)), Incarnation(7), &limits())?.0)
}

/// One step, which is acknowledged when it is done.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub enum Step {
    /// One request; that it is answered is its acknowledgement.
    Ask(StorageRequest),
    /// The directory is closed and opened again.
    Restart,
    /// All buffers go to tables.
    WriteOut,
}

/// What a directory may hold between two steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    /// The view of the vote; 0 without one.
    vote: u64,
    /// The log up to its end, the first entry first.
    chain: Vec<Hash>,
    /// As much is known to be committed, whatever happens.
    known: u64,
    /// No more than this was ever decided.
    decided: u64,
}

/// The steps, and the states between them.
pub struct History {
    pub steps: Vec<Step>,
    /// The state after so many steps.
    states: Vec<State>,
    /// The first and the last step of the installation of a snapshot.
    install: (usize, usize),
    /// The store's digest after each entry.
    digests: BTreeMap<u64, Hash>,
    chain: Vec<Hash>,
}

fn entry(index: u64, prev_hash: Hash, text: &str) -> Arc<Entry> {
    let channel = ChannelName::new("general").expect("a name");
    let at = Timestamp(index * 1_000);
    // So long that a few of them fill a buffer, and some more than what the engine gathers before it hands over.
    let length = if index % 16 == 9 { 400 } else { 12 };
    let text = Text::new(&format!("{text} {index} {}", "so that it takes some room. ".repeat(length))).expect("a text");
    let action = Action::Post { channel: channel.clone(), text, create_channel: true };
    let operation = Operation { owner: KeyOwner::new("ada", &format!("k{index}")).expect("a key"), action };
    let operations = vec![LoggedOperation { operation, channel, at }];
    let batch = Batch::Operations { operations, keys_at: at, expire_keys_before: Timestamp(0) };
    Arc::new(Entry::new(Index(index), prev_hash, batch))
}

fn log(entry: &Arc<Entry>, attempt: u64) -> StorageRequest {
    let (view, commit_index) = (ViewNumber(1), entry.index.before());
    let record = LogRecord { entry: Arc::clone(entry), view, attempt: Attempt(attempt), commit_index };
    StorageRequest::WriteLog { write: WriteId(entry.index.0), record }
}

fn vote(number: u64) -> StorageRequest {
    let seat = Seat { incarnation: Incarnation(7), address: Address::new("n1") };
    let view = View {
        cluster: ClusterId(1),
        number: ViewNumber(number),
        primary: NodeId(1),
        replicas: [(NodeId(1), seat)].into(),
        witnesses: BTreeMap::new(),
        cause: Cause::new(Timestamp(0), NodeId(1), Vec::new()).into(),
    };
    StorageRequest::WriteVote { write: WriteId(0), vote: VoteRecord { view, promised: None, accepted: None } }
}

impl History {
    /// Runs it once on a directory that nothing happens to, to know what each state looks like.
    pub fn new(reference: &Path) -> Self {
        let mut storage = open(reference).expect("opens");
        let mut own = Self {
            steps: Vec::new(),
            states: vec![State::default()],
            install: (0, 0),
            digests: [(0, storage.digest().expect("reads"))].into(),
            chain: Vec::new(),
        };
        for index in 1..=ENTRIES {
            let prev_hash = own.chain.last().copied().unwrap_or_default();
            let real = entry(index, prev_hash, "real");
            let run = vec![log(&real, 1), StorageRequest::Apply { entry: real.clone() }];
            storage.perform(run).expect("performs");
            own.digests.insert(index, storage.digest().expect("reads"));
            own.chain.push(real.hash);
            if index % 10 == 4 {
                own.push(Step::Ask(vote(index)), |state| state.vote = index);
            }
            if index % 8 == 5 {
                let other = entry(index, prev_hash, "replaced");
                own.push(Step::Ask(log(&other, 1)), |state| state.logs(other.hash, index));
            }
            own.push(Step::Ask(log(&real, 2)), |state| {
                state.chain.truncate(index as usize - 1);
                state.logs(real.hash, index);
            });
            own.push(Step::Ask(StorageRequest::Apply { entry: real }), |state| state.decided = index);
            if index % WRITTEN_OUT_EVERY == 0 {
                own.push(Step::WriteOut, |_| {});
            }
            if index % 29 == 0 {
                own.push(Step::Restart, |state| state.known = state.known.max(index - 1));
            }
            if index == SNAPSHOT_AT {
                own.install(&mut storage);
            }
        }
        own
    }

    /// How many steps come before the snapshot.
    pub fn steps_before_install(&self) -> usize {
        self.install.0
    }

    fn push(&mut self, step: Step, change: impl FnOnce(&mut State)) {
        let mut state = self.states.last().cloned().unwrap_or_default();
        change(&mut state);
        self.steps.push(step);
        self.states.push(state);
    }

    /// The node begins from scratch, with what another holds by now.
    fn install(&mut self, giver: &mut Storage<Engine>) {
        let (session, bytes_max) = (SessionId(1), 4_000);
        giver.perform(vec![StorageRequest::Pin { session }]).expect("performs");
        let begin = self.steps.len();
        self.push(Step::Ask(StorageRequest::InstallBegin), |_| {});
        let mut cursor = None;
        loop {
            let read = StorageRequest::ReadChunk { session, cursor: cursor.clone(), bytes_max };
            let (pairs, is_last) = chunk(giver.perform(vec![read]).expect("performs"));
            cursor = pairs.last().map(|(key, _)| key.clone());
            self.push(Step::Ask(StorageRequest::InstallChunk { write: WriteId(1), pairs }), |_| {});
            if is_last {
                break;
            }
        }
        let (index, hash) = giver.applied();
        let end = StorageRequest::InstallEnd { write: WriteId(2), index, hash };
        self.push(Step::Ask(end), |state| (state.known, state.decided) = (index.0, index.0));
        self.install = (begin, self.steps.len() - 1);
        giver.perform(vec![StorageRequest::Unpin { session }]).expect("performs");
    }

    /// Does all of it, and tells of each step that is done.
    ///
    /// # Errors
    /// The first that the storage meets.
    pub fn run(&self, directory: &Path, mut acknowledge: impl FnMut()) -> Result<(), StorageError> {
        let mut storage = open(directory)?;
        for step in &self.steps {
            match step {
                Step::Ask(request) => drop(storage.perform(vec![request.clone()])?),
                Step::WriteOut => storage.kv_mut().write_out()?,
                Step::Restart => {
                    drop(storage);
                    storage = open(directory)?;
                }
            }
            acknowledge();
        }
        Ok(())
    }

    /// Why what a directory holds cannot be after so many acknowledged steps; none when it can.
    pub fn objection(&self, found: &Found, acknowledged: usize) -> Option<String> {
        let may_be = self.may_be(acknowledged);
        let objections: Vec<_> = may_be.iter().filter_map(|state| self.objection_to(found, state)).collect();
        let is_one = objections.len() < may_be.len();
        (!is_one).then(|| format!("after {acknowledged} steps: {}", objections.join("; or ")))
    }

    /// The states that an end may leave after so many acknowledged steps, while the next is under way.
    fn may_be(&self, acknowledged: usize) -> Vec<State> {
        let at = |steps: usize| self.states.get(steps).cloned();
        // From its beginning to its end there is nothing but the vote.
        let empty = at(acknowledged).map(|state| State { vote: state.vote, ..State::default() });
        let (begin, end) = self.install;
        let two = match acknowledged {
            _ if acknowledged == begin => [at(acknowledged), empty],
            _ if acknowledged == end => [empty, at(acknowledged + 1)],
            _ if begin < acknowledged && acknowledged < end => [empty, None],
            _ => [at(acknowledged), at(acknowledged + 1)],
        };
        two.into_iter().flatten().collect()
    }

    /// S1: what was durable is there. S4, S5: what was not decided is not shown, and the store is the log applied.
    fn objection_to(&self, found: &Found, state: &State) -> Option<String> {
        let (committed, hash) = found.committed;
        if found.vote != state.vote {
            return Some(format!("the vote is {}, not {}", found.vote, state.vote));
        }
        if found.end != state.chain.len() as u64 {
            return Some(format!("the log ends at {}, not {}", found.end, state.chain.len()));
        }
        if let Some((index, _)) =
            found.records.iter().find(|(index, hash)| state.chain.get(*index as usize - 1) != Some(hash))
        {
            return Some(format!("record {index} is another"));
        }
        if committed < state.known || committed > state.decided {
            return Some(format!("{committed} entries are shown, {} to {} are decided", state.known, state.decided));
        }
        let expected = committed.checked_sub(1).map_or(Hash::default(), |last| self.chain[last as usize]);
        let is_log_applied = hash == expected && self.digests.get(&committed) == Some(&found.digest);
        (!is_log_applied).then(|| format!("the store is not what the first {committed} entries make"))
    }
}

impl State {
    fn logs(&mut self, hash: Hash, index: u64) {
        self.chain.push(hash);
        self.known = self.known.max(index - 1);
    }
}

fn chunk(mut events: Vec<StorageEvent>) -> (Vec<Pair>, bool) {
    match events.pop() {
        Some(StorageEvent::ChunkRead { chunk: Some(chunk), .. }) => chunk,
        other => panic!("no chunk: {other:?}"),
    }
}

/// Waits until a directory is let go of: a process that another test is just starting holds all that this one has open until it runs.
fn open_engine(directory: &Path) -> Result<Engine, StorageError> {
    loop {
        match Engine::open(directory, FaultPlan::default()) {
            Err(StorageError::Engine(reason)) if reason.contains("is in use by another process") => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened,
        }
    }
}

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    vote: u64,
    end: u64,
    records: Vec<(u64, Hash)>,
    committed: (u64, Hash),
    digest: Hash,
}

impl Found {
    /// Opens it as a node does, and reads all of it; and sees to it that the node's next lives remember, too.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn read(directory: &Path) -> Result<Self, StorageError> {
        let (found, mut storage) = Self::open(directory)?;
        let later = found.vote + 1_000;
        storage.perform(vec![vote(later)])?;
        drop(storage);
        let (again, _) = Self::open(directory)?;
        let expected = Self { vote: later, ..found.clone() };
        if again != expected {
            return Err(StorageError::Engine(format!("a life later it holds {again:?}, not {expected:?}")));
        }
        Ok(found)
    }

    fn open(directory: &Path) -> Result<(Self, Storage<Engine>), StorageError> {
        let engine = open_engine(directory)?;
        let (mut storage, recovered) = Storage::open(engine, Voter::Replica(NodeId(1)), Incarnation(7), &limits())?;
        let scanned = scan(&storage.kv_mut().freeze())?;
        let (first, end) = storage.log_span();
        let mut records = Vec::new();
        for index in first.0..=end.0 {
            let record = storage.log_record(Index(index))?;
            records.push((index, record.map(|record| record.entry.hash).unwrap_or_default()));
        }
        let (index, hash) = storage.applied();
        assert_eq!((scanned.index, scanned.hash), (index, hash), "a scan reads what is there");
        let vote = recovered.vote.map_or(0, |vote| vote.view.number.0);
        let found = Self { vote, end: end.0, records, committed: (index.0, hash), digest: scanned.digest };
        Ok((found, storage))
    }
}
