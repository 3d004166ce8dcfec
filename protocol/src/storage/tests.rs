//! The storage on a disk that forgets: what a crash may take, and what it must not.

mod bounds;

use crate::change::Cause;
use crate::ids::{
    Address, Attempt, Ballot, ClusterId, Hash, Incarnation, Index, NodeId, SessionId, Timestamp, ViewNumber, Voter,
    WriteId,
};
use crate::log::{Batch, Entry, LogRecord};
use crate::machine::Limits;
use crate::member::Members;
use crate::operation::{Action, ChannelName, KeyOwner, LoggedOperation, Operation, Text};
use crate::sim::disk::{Fault, SimDisk};
use crate::storage::kv::{Direction, KeyRange, Kv, ReadKv, Table, Visit, WriteBatch};
use crate::storage::scan::scan;
use crate::storage::{
    FORMAT_VERSION, Recovered, Storage, StorageError, StorageEvent, StorageRequest, VoteRecord, Writer,
};
use crate::view::{Seat, View};
use std::sync::Arc;

pub(crate) fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).expect("a name")
}

pub(crate) fn owner(user: &str, key: &str) -> KeyOwner {
    KeyOwner::new(user, key).expect("valid")
}

pub(crate) fn posting(user: &str, key: &str, to: &str, text: &str) -> Operation {
    let action = Action::Post { channel: channel(to), text: Text::new(text).expect("a text"), create_channel: true };
    Operation { owner: owner(user, key), action }
}

/// Builds a history: entries that follow each other.
#[derive(Clone, Default)]
pub(crate) struct History {
    index: Index,
    hash: Hash,
    pub(crate) entries: Vec<Arc<Entry>>,
}

impl History {
    pub(crate) fn add(&mut self, batch: Batch) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(self.index.next(), self.hash, batch));
        (self.index, self.hash) = (entry.index, entry.hash);
        self.entries.push(Arc::clone(&entry));
        entry
    }

    /// One entry of operations, the first at `at`, each a microsecond later than the one before.
    pub(crate) fn operations(&mut self, at: u64, expire_before: u64, operations: Vec<Operation>) -> Arc<Entry> {
        let logged = |(i, operation): (usize, Operation)| {
            let touched = match &operation.action {
                Action::Post { channel, .. } | Action::CreateChannel { channel } => channel.clone(),
                Action::Star { .. } | Action::Unstar { .. } => channel("general"),
            };
            LoggedOperation { operation, channel: touched, at: Timestamp(at + i as u64) }
        };
        let operations = operations.into_iter().enumerate().map(logged).collect();
        self.add(Batch::Operations { operations, keys_at: Timestamp(at), expire_keys_before: Timestamp(expire_before) })
    }

    pub(crate) fn post(&mut self, at: u64, text: &str) -> Arc<Entry> {
        self.operations(at, 0, vec![posting("ada", &format!("k{at}"), "general", text)])
    }
}

fn voter() -> Voter {
    Voter::Replica(NodeId(1))
}

pub(crate) fn open_with(disk: &SimDisk, limits: &Limits) -> (Storage<SimDisk>, Recovered) {
    Storage::open(disk.clone(), voter(), Incarnation(7), limits).expect("opens")
}

pub(crate) fn open(disk: &SimDisk) -> (Storage<SimDisk>, Recovered) {
    open_with(disk, &Limits::default())
}

fn record(entry: &Arc<Entry>, commit_index: u64) -> LogRecord {
    let (view, attempt) = (ViewNumber(1), Attempt(entry.index.0));
    LogRecord { entry: Arc::clone(entry), view, attempt, commit_index: Index(commit_index) }
}

fn write_log(entry: &Arc<Entry>, commit_index: u64) -> StorageRequest {
    StorageRequest::WriteLog { write: WriteId(entry.index.0), record: record(entry, commit_index) }
}

fn apply(entry: &Arc<Entry>) -> StorageRequest {
    StorageRequest::Apply { entry: Arc::clone(entry) }
}

fn durable(write: u64, by: Writer) -> StorageEvent {
    StorageEvent::Durable { write: WriteId(write), by }
}

fn vote(number: u64, promised: Option<u64>) -> VoteRecord {
    let seat = Seat { incarnation: Incarnation(7), address: Address::new("n1") };
    let view = View {
        cluster: ClusterId(1),
        number: ViewNumber(number),
        primary: NodeId(1),
        replicas: [(NodeId(1), seat)].into(),
        witnesses: [].into(),
        cause: Cause::new(Timestamp(0), NodeId(1), Vec::new()).into(),
    };
    VoteRecord { view, promised: promised.map(|round| Ballot { round, node: NodeId(1) }), accepted: None }
}

fn write_vote(number: u64, promised: Option<u64>) -> StorageRequest {
    StorageRequest::WriteVote { write: WriteId(100 + number), vote: vote(number, promised) }
}

/// Logs and applies each entry, as a replica does.
fn run(storage: &mut Storage<SimDisk>, entries: &[Arc<Entry>]) {
    for entry in entries {
        let events = storage.perform(vec![write_log(entry, entry.index.0 - 1), apply(entry)]).expect("performs");
        assert_eq!(events.first(), Some(&durable(entry.index.0, Writer::Replica)));
        assert!(matches!(events.get(1), Some(StorageEvent::Applied { .. })), "{events:?}");
    }
}

fn posts(count: u64) -> History {
    let mut history = History::default();
    (1..=count).for_each(|n| drop(history.post(n * 10, &format!("text {n}"))));
    history
}

#[test]
fn section_1_a_new_directory_gets_an_incarnation_and_keeps_it() {
    let disk = SimDisk::new();
    let (storage, recovered) = open(&disk);
    drop(storage);
    assert_eq!((recovered.identity.voter, recovered.identity.incarnation), (voter(), Incarnation(7)));
    assert_eq!((recovered.vote, recovered.committed, recovered.tail), (None, (Index(0), Hash::default()), vec![]));
    disk.crash_keeping(0);
    let again = Storage::open(disk.clone(), voter(), Incarnation(8), &Limits::default()).expect("opens").1;
    assert_eq!(again.identity.incarnation, Incarnation(7));
    let theirs = Storage::open(disk, Voter::Replica(NodeId(2)), Incarnation(8), &Limits::default());
    assert_eq!(theirs.err(), Some(StorageError::Owner { theirs: voter(), ours: Voter::Replica(NodeId(2)) }));
}

#[test]
fn r5_durable_is_said_after_one_flush_for_all_that_waited() {
    let disk = SimDisk::new();
    let (mut storage, _) = open(&disk);
    let entry = posts(1).entries.remove(0);
    let (_, before) = disk.counts();
    let events = storage.perform(vec![write_vote(1, None), write_log(&entry, 0)]).expect("performs");
    assert_eq!(events, vec![durable(101, Writer::Replica), durable(1, Writer::Replica)]);
    assert_eq!((disk.counts().1, disk.unflushed()), (before + 1, 0));
    storage.perform(vec![apply(&entry)]).expect("performs");
    assert_eq!((disk.counts().1, disk.unflushed()), (before + 1, 1), "an apply needs no flush");
}

#[test]
fn r5_a_failed_write_or_flush_says_nothing() {
    for fault in [Fault::Write, Fault::Flush] {
        let disk = SimDisk::new();
        let (mut storage, _) = open(&disk);
        disk.fail_next(fault);
        let entry = posts(1).entries.remove(0);
        assert!(matches!(storage.perform(vec![write_log(&entry, 0)]), Err(StorageError::Engine(_))));
        assert!(storage.perform(vec![write_vote(1, None)]).is_err(), "it does not come back by itself");
        drop(storage);
        disk.crash_keeping(0);
        assert_eq!(open(&disk).1.tail, vec![]);
    }
}

#[test]
fn section_9_vote_and_tail_are_written_and_flushed_again() {
    let disk = SimDisk::new();
    let (mut storage, _) = open(&disk);
    let entry = posts(1).entries.remove(0);
    storage.perform(vec![write_vote(3, Some(9)), write_log(&entry, 0)]).expect("performs");
    drop(storage);
    let before = disk.counts();
    let (_, recovered) = open(&disk);
    assert!(disk.counts().0 > before.0 && disk.counts().1 > before.1 && disk.unflushed() == 0);
    assert_eq!((recovered.vote, recovered.tail), (Some(vote(3, Some(9))), vec![record(&entry, 0)]));
    assert_eq!(recovered.last_timestamp, Timestamp(10));
}

/// A disk whose batches are looked at.
struct Watched(SimDisk, Vec<WriteBatch>);

impl ReadKv for Watched {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.0.get(table, key)
    }

    fn scan(&self, table: Table, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
        self.0.scan(table, range, direction, visit)
    }
}

impl Kv for Watched {
    fn write(&mut self, batch: WriteBatch) -> Result<(), StorageError> {
        self.1.push(batch.clone());
        self.0.write(batch)
    }

    fn clear(&mut self, table: Table) -> Result<(), StorageError> {
        self.0.clear(table)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.0.flush()
    }

    fn pin(&mut self) -> Result<(), StorageError> {
        self.0.pin()
    }

    fn scan_pinned(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), StorageError> {
        self.0.scan_pinned(range, visit)
    }

    fn unpin(&mut self) {
        self.0.unpin();
    }

    fn store_bytes(&self) -> u64 {
        self.0.store_bytes()
    }
}

/// What an earlier life read back may never have reached the disk: each is written anew, or a power loss takes it after all.
#[test]
fn section_9_d18_a_start_writes_the_vote_and_each_record_of_the_tail_as_they_are() {
    let disk = SimDisk::new();
    let (mut storage, _) = open(&disk);
    let entry = posts(1).entries.remove(0);
    storage.perform(vec![write_vote(3, Some(9)), write_log(&entry, 0)]).expect("performs");
    drop(storage);
    let watched = Watched(disk, Vec::new());
    let opened = Storage::open(watched, Voter::Replica(NodeId(1)), Incarnation(7), &Limits::default());
    let Watched(disk, batches) = opened.expect("opens").0.kv;
    let written: Vec<_> = batches.into_iter().flat_map(|batch| batch.writes).collect();
    for table in [Table::Meta, Table::Log] {
        let mut again = written.iter().filter(|(at, ..)| *at == table);
        let there = again.any(|(_, key, value)| value.is_some() && disk.get(table, key).expect("reads") == *value);
        assert!(there, "{table:?}: {written:?}");
    }
}

#[test]
fn section_4_the_commit_index_is_found_in_the_records() {
    let disk = SimDisk::new();
    let history = posts(4);
    let (mut storage, _) = open(&disk);
    // Voted for, and known to be committed up to 2 when 4 was prepared; nothing was applied.
    let commits = [0, 0, 1, 2];
    let requests = history.entries.iter().zip(commits).map(|(entry, commit)| write_log(entry, commit)).collect();
    storage.perform(requests).expect("performs");
    drop(storage);
    disk.crash_keeping(0);
    let (storage, recovered) = open(&disk);
    assert_eq!(recovered.committed, (Index(2), history.entries[1].hash));
    assert_eq!(recovered.recent, vec![(Index(1), history.entries[0].hash), (Index(2), history.entries[1].hash)]);
    assert_eq!(recovered.tail, vec![record(&history.entries[2], 1), record(&history.entries[3], 2)]);
    assert_eq!((storage.applied().0, recovered.last_timestamp), (Index(2), Timestamp(40)));
}

/// What a node does in a short life, in the steps in which it does them.
fn scenario(history: &History) -> Vec<Vec<StorageRequest>> {
    let e = &history.entries;
    let other = Arc::new(Entry::new(Index(3), e[1].hash, Batch::Abort { keys: vec![], keys_at: Timestamp(0) }));
    vec![
        vec![write_vote(1, None)],
        vec![write_log(&e[0], 0)],
        vec![apply(&e[0]), write_log(&e[1], 1)],
        vec![write_vote(1, Some(4)), apply(&e[1])],
        vec![write_log(&other, 2)],
        vec![write_log(&e[2], 2), write_vote(2, None)],
        vec![apply(&e[2])],
        vec![StorageRequest::WriteCommitted { write: WriteId(50), entries: e[2..5].to_vec() }],
        vec![write_log(&e[5], 5)],
        vec![StorageRequest::DropTail],
    ]
}

/// What a node would find had it crashed never: the digest after each number of applied entries.
fn digests(history: &History) -> Vec<Hash> {
    let (mut storage, _) = open(&SimDisk::new());
    let mut digests = vec![storage.digest().expect("reads")];
    for entry in &history.entries {
        run(&mut storage, std::slice::from_ref(entry));
        digests.push(storage.digest().expect("reads"));
    }
    digests
}

#[test]
fn section_9_a_crash_at_any_point_leaves_a_state_that_was_told() {
    let history = posts(6);
    let digests = digests(&history);
    let steps = scenario(&history).len();
    for step in 0..=steps {
        for kept in 0..8 {
            for is_killed_in_step in [false, true] {
                let disk = SimDisk::new();
                let told = live(&disk, &history, step, is_killed_in_step);
                disk.crash_keeping(kept);
                check_recovered(&disk, &told, &digests, &format!("step {step}, kept {kept}, {is_killed_in_step}"));
            }
        }
    }
}

/// What the machines were told to be durable.
#[derive(Clone, Debug, Default)]
struct Told {
    vote: Option<VoteRecord>,
    slots: Vec<Arc<Entry>>,
    committed: Index,
}

impl Told {
    fn hear(&mut self, requests: &[StorageRequest]) {
        for request in requests {
            match request {
                StorageRequest::WriteVote { vote, .. } => self.vote = Some(vote.clone()),
                StorageRequest::WriteLog { record, .. } => self.put(&record.entry),
                StorageRequest::WriteCommitted { entries, .. } => {
                    entries.iter().for_each(|entry| self.put(entry));
                    self.committed = self.slots.last().map(|entry| entry.index).unwrap_or_default();
                }
                StorageRequest::DropTail => self.slots.truncate(self.committed.0 as usize),
                StorageRequest::Apply { .. } => {}
                other => panic!("not in the scenario: {other:?}"),
            }
        }
    }

    fn put(&mut self, entry: &Arc<Entry>) {
        self.slots.truncate(entry.index.before().0 as usize);
        self.slots.push(Arc::clone(entry));
    }
}

/// Runs so many steps, and what was told then; of a step in which the node was killed, what might have been told too.
fn live(disk: &SimDisk, history: &History, steps: usize, is_killed_in_step: bool) -> Vec<Told> {
    let (mut storage, _) = open(disk);
    let mut told = Told::default();
    let scenario = scenario(history);
    for requests in &scenario[..steps] {
        storage.perform(requests.clone()).expect("performs");
        told.hear(requests);
    }
    let Some(requests) = scenario.get(steps).filter(|_| is_killed_in_step) else { return vec![told] };
    disk.fail_next(Fault::Flush);
    let flushes = !matches!(requests[..], [StorageRequest::Apply { .. }]);
    assert_eq!(storage.perform(requests.clone()).is_err(), flushes);
    let mut nearly = told.clone();
    nearly.hear(requests);
    vec![told, nearly]
}

fn check_recovered(disk: &SimDisk, told: &[Told], digests: &[Hash], place: &str) {
    let (storage, recovered) = open(disk);
    assert!(told.iter().any(|told| told.vote == recovered.vote), "{place}: {:?}", recovered.vote);
    let (index, hash) = recovered.committed;
    assert!(index >= told[0].committed, "{place}: {index} is less than was durably committed");
    assert_eq!(storage.applied(), (index, hash), "{place}");
    assert_eq!(storage.digest().expect("reads"), digests[index.0 as usize], "{place}: another store at {index}");
    let tail: Vec<_> = recovered.tail.iter().map(|record| Arc::clone(&record.entry)).collect();
    let above = |told: &Told| told.slots.iter().filter(|entry| entry.index > index).cloned().collect::<Vec<_>>();
    assert!(told.iter().any(|told| above(told) == tail), "{place}: {tail:?}");
}

#[test]
fn r5_a_new_record_drops_the_left_over_tail_behind_it() {
    let disk = SimDisk::new();
    let history = posts(4);
    let (mut storage, _) = open(&disk);
    storage.perform(history.entries.iter().map(|entry| write_log(entry, 0)).collect()).expect("performs");
    let other =
        Arc::new(Entry::new(Index(2), history.entries[0].hash, Batch::Abort { keys: vec![], keys_at: Timestamp(0) }));
    storage.perform(vec![write_log(&other, 1)]).expect("performs");
    drop(storage);
    let (storage, recovered) = open(&disk);
    assert_eq!(recovered.tail, vec![record(&other, 1)]);
    assert_eq!(storage.log_span(), (Index(1), Index(2)));
    assert_eq!(storage.log_record(Index(3)), Ok(None));
}

#[test]
fn r5_the_same_entry_under_another_attempt_keeps_what_lies_behind_it() {
    let disk = SimDisk::new();
    let history = posts(3);
    let (mut storage, _) = open(&disk);
    storage.perform(history.entries.iter().map(|entry| write_log(entry, 0)).collect()).expect("performs");
    let again = LogRecord { view: ViewNumber(2), attempt: Attempt(1), ..record(&history.entries[1], 1) };
    let request = StorageRequest::WriteLog { write: WriteId(9), record: again.clone() };
    assert_eq!(storage.perform(vec![request]), Ok(vec![durable(9, Writer::Replica)]));
    drop(storage);
    disk.crash_keeping(0);
    let (_, recovered) = open(&disk);
    assert_eq!(recovered.committed.0, Index(1));
    assert_eq!(recovered.tail, vec![again, record(&history.entries[2], 0)]);
}

#[test]
fn r5_what_does_not_fit_is_not_written_and_never_called_durable() {
    let disk = SimDisk::new();
    let history = posts(5);
    let e = &history.entries;
    let (mut storage, _) = open(&disk);
    run(&mut storage, &e[..2]);
    let stranger = Arc::new(Entry::new(Index(3), Hash([9; 32]), Batch::Abort { keys: vec![], keys_at: Timestamp(0) }));
    let unfit = vec![write_log(&e[3], 2), write_log(&e[1], 0), write_log(&stranger, 2), apply(&e[4])];
    assert_eq!(storage.perform(unfit), Ok(vec![]));
    assert_eq!((storage.log_span(), storage.applied().0), ((Index(1), Index(2)), Index(2)));
    let repeated = storage.perform(vec![apply(&e[1])]);
    assert_eq!(repeated, Ok(vec![StorageEvent::Applied { index: Index(2), outcomes: vec![] }]));
    assert!(storage.perform(vec![apply(&stranger)]).is_err(), "a committed entry of another history stops the node");
}

#[test]
fn r6_an_entry_whose_record_sync_dropped_is_logged_when_it_is_applied() {
    let disk = SimDisk::new();
    let history = posts(2);
    let (mut storage, _) = open(&disk);
    run(&mut storage, &history.entries[..1]);
    storage
        .perform(vec![write_log(&history.entries[1], 1), StorageRequest::DropTail, apply(&history.entries[1])])
        .expect("performs");
    assert_eq!((storage.log_span().1, storage.applied().0), (Index(2), Index(2)));
    drop(storage);
    assert_eq!(open(&disk).1.committed.0, Index(2));
}

#[test]
fn r20_committed_entries_are_logged_applied_and_durable() {
    let history = posts(5);
    let disk = SimDisk::new();
    let (mut storage, _) = open(&disk);
    run(&mut storage, &history.entries[..1]);
    let request =
        |entries: &[Arc<Entry>]| StorageRequest::WriteCommitted { write: WriteId(9), entries: entries.to_vec() };
    assert_eq!(storage.perform(vec![request(&history.entries[..4])]), Ok(vec![durable(9, Writer::Sync)]));
    assert_eq!(storage.perform(vec![request(&[])]), Ok(vec![durable(9, Writer::Sync)]));
    let gap = vec![StorageEvent::Mismatch { write: WriteId(9) }];
    let mut stranger = (*history.entries[4]).clone();
    stranger.prev_hash = Hash([3; 32]);
    assert_eq!(storage.perform(vec![request(&[stranger.into()])]), Ok(gap));
    drop(storage);
    disk.crash_keeping(0);
    let (storage, recovered) = open(&disk);
    assert_eq!(recovered.committed, (Index(4), history.entries[3].hash));
    assert_eq!(storage.log_record(Index(4)).expect("reads").expect("there").commit_index, Index(4));
}

fn read_log(storage: &mut Storage<SimDisk>, after: u64, bytes_max: usize) -> (Option<Hash>, Vec<Arc<Entry>>) {
    let request = StorageRequest::ReadLog { session: SessionId(1), after: Index(after), bytes_max };
    match storage.perform(vec![request]).expect("performs").remove(0) {
        StorageEvent::LogRead { hash, entries, .. } => (hash, entries),
        other => panic!("{other:?}"),
    }
}

#[test]
fn r20_the_log_is_read_as_far_as_it_reaches_and_is_committed() {
    let history = posts(6);
    let e = &history.entries;
    let (mut storage, _) = open_with(&SimDisk::new(), &Limits { log_retain_entries: 3, ..Limits::default() });
    run(&mut storage, &e[..5]);
    storage.perform(vec![write_log(&e[5], 5)]).expect("performs");
    assert_eq!(storage.log_span(), (Index(3), Index(6)));
    assert_eq!(read_log(&mut storage, 1, 1 << 20), (None, vec![]), "the log does not reach back");
    assert_eq!(read_log(&mut storage, 2, 1 << 20), (Some(e[1].hash), e[2..5].to_vec()));
    assert_eq!(read_log(&mut storage, 2, 1), (Some(e[1].hash), e[2..3].to_vec()), "one alone may be larger");
    assert_eq!(read_log(&mut storage, 5, 1 << 20), (Some(e[4].hash), vec![]));
    assert_eq!(read_log(&mut storage, 6, 1 << 20), (None, vec![]), "what is in doubt is nobody's");
}

#[test]
fn section_4_old_entries_go_but_not_what_a_pinned_session_needs() {
    let history = posts(60);
    let limits = Limits { log_retain_entries: 5, ..Limits::default() };
    let (mut storage, _) = open_with(&SimDisk::new(), &limits);
    run(&mut storage, &history.entries[..20]);
    assert_eq!(storage.log_span(), (Index(16), Index(20)));
    storage.perform(vec![StorageRequest::Pin { session: SessionId(4) }]).expect("performs");
    run(&mut storage, &history.entries[20..55]);
    assert_eq!(storage.log_span(), (Index(21), Index(55)));
    assert_eq!(read_log(&mut storage, 20, 1 << 20).1.len(), 35);
    storage.perform(vec![StorageRequest::Unpin { session: SessionId(3) }]).expect("performs");
    run(&mut storage, &history.entries[55..56]);
    assert_eq!(storage.log_span().0, Index(21), "another session's end does not let go");
    storage.perform(vec![StorageRequest::Unpin { session: SessionId(4) }]).expect("performs");
    run(&mut storage, &history.entries[56..57]);
    assert_eq!(storage.log_span().0, Index(29), "a few with each entry");
    run(&mut storage, &history.entries[57..60]);
    assert_eq!(storage.log_span(), (Index(53), Index(60)));
}

#[test]
fn section_4_the_log_is_bounded_in_bytes_too() {
    const BYTES: usize = 4_000;
    let kept = |storage: &Storage<SimDisk>| {
        let (first, end) = storage.log_span();
        let size = |n| storage.log_record(Index(n)).expect("reads").map_or(0, |record| crate::log::seal(&record).len());
        (first, end, (first.0..=end.0).map(size).sum::<usize>())
    };
    let mut history = posts(100);
    let limits = Limits { log_retain_bytes: BYTES as u64, ..Limits::default() };
    let disk = SimDisk::new();
    let (mut storage, _) = open_with(&disk, &limits);
    run(&mut storage, &history.entries);
    let (first, end, bytes) = kept(&storage);
    assert!(first > Index(2) && end == Index(100) && bytes <= BYTES && bytes > BYTES / 2, "{first} {bytes}");
    for n in 0..3 {
        let large = history.post(2_000 + n, &"x".repeat(3_000));
        run(&mut storage, &[large]);
    }
    let (first, end, bytes) = kept(&storage);
    assert_eq!((first, end), (Index(103), Index(103)), "small ones go by their size, not their number: {bytes}");
    let huge = history.post(3_000, &"x".repeat(10_000));
    run(&mut storage, &[huge]);
    assert_eq!(kept(&storage).0, Index(104), "the newest stays");
    let span = storage.log_span();
    drop(storage);
    let (mut storage, _) = open_with(&disk, &limits);
    assert_eq!(storage.log_span(), span);
    run(&mut storage, &[history.post(4_000, "small")]);
    assert_eq!(kept(&storage).0, Index(105), "what was found counts as well");
}

/// Reads the pinned snapshot in chunks.
fn chunks(storage: &mut Storage<SimDisk>, session: SessionId, bytes_max: usize) -> Vec<Vec<crate::message::Pair>> {
    let mut chunks = Vec::new();
    let mut cursor = None;
    loop {
        let request = StorageRequest::ReadChunk { session, cursor: cursor.clone(), bytes_max };
        let event = storage.perform(vec![request]).expect("performs").remove(0);
        let StorageEvent::ChunkRead { chunk: Some((pairs, is_last)), cursor: from, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!(from, cursor);
        cursor = pairs.last().map(|(key, _)| key.clone());
        chunks.push(pairs);
        if is_last {
            return chunks;
        }
    }
}

fn install(storage: &mut Storage<SimDisk>, chunks: Vec<Vec<crate::message::Pair>>) {
    storage.perform(vec![StorageRequest::InstallBegin]).expect("performs");
    for (n, pairs) in chunks.into_iter().enumerate() {
        let write = WriteId(n as u64);
        let events = storage.perform(vec![StorageRequest::InstallChunk { write, pairs }]).expect("performs");
        assert_eq!(events, vec![durable(n as u64, Writer::Sync)]);
    }
}

#[test]
fn r19_a_snapshot_makes_another_disk_equal() {
    let history = posts(30);
    let (mut giver, _) = open(&SimDisk::new());
    run(&mut giver, &history.entries[..20]);
    let pinned = giver.perform(vec![StorageRequest::Pin { session: SessionId(4) }]).expect("performs").remove(0);
    let StorageEvent::Pinned { index, hash, bytes, .. } = pinned else { panic!("{pinned:?}") };
    assert_eq!((index, hash), (Index(20), history.entries[19].hash));
    assert!(bytes > 0);
    run(&mut giver, &history.entries[20..]);
    let chunks = chunks(&mut giver, SessionId(4), 300);
    assert!(chunks.len() > 5, "{} chunks", chunks.len());

    let disk = SimDisk::new();
    let (mut taker, _) = open(&disk);
    run(&mut taker, &posts(3).entries);
    taker.perform(vec![write_vote(5, None)]).expect("performs");
    install(&mut taker, chunks);
    let end = |index, hash| StorageRequest::InstallEnd { write: WriteId(99), index, hash };
    let wrong = taker.perform(vec![end(Index(20), Hash([1; 32]))]);
    assert_eq!(wrong, Ok(vec![StorageEvent::Mismatch { write: WriteId(99) }]));
    let members = StorageEvent::Members { members: Members::default() };
    assert_eq!(taker.perform(vec![end(index, hash)]), Ok(vec![members, durable(99, Writer::Sync)]), "no view served");
    let rest = StorageRequest::WriteCommitted { write: WriteId(100), entries: history.entries[20..].to_vec() };
    assert_eq!(taker.perform(vec![rest]), Ok(vec![durable(100, Writer::Sync)]));
    assert_eq!((taker.applied(), taker.digest()), (giver.applied(), giver.digest()));
    drop(taker);
    disk.crash_keeping(0);
    let (taker, recovered) = open(&disk);
    assert_eq!((taker.digest(), recovered.vote), (giver.digest(), Some(vote(5, None))));
}

#[test]
fn r19_a_half_installed_snapshot_is_found_empty_and_the_vote_stays() {
    let (mut giver, _) = open(&SimDisk::new());
    run(&mut giver, &posts(20).entries);
    giver.perform(vec![StorageRequest::Pin { session: SessionId(4) }]).expect("performs");
    let chunks = chunks(&mut giver, SessionId(4), 300);
    for kept in 0..6 {
        let disk = SimDisk::new();
        let (mut taker, _) = open(&disk);
        run(&mut taker, &posts(3).entries);
        taker.perform(vec![write_vote(5, None)]).expect("performs");
        install(&mut taker, chunks[..2].to_vec());
        drop(taker);
        disk.crash_keeping(kept);
        let (taker, recovered) = open(&disk);
        assert_eq!((recovered.committed.0, recovered.tail.len(), recovered.recent.len()), (Index(0), 0, 0));
        assert_eq!((taker.log_span(), recovered.vote), ((Index(1), Index(0)), Some(vote(5, None))));
        assert_eq!(taker.digest(), open(&SimDisk::new()).0.digest());
        drop(taker);
        disk.crash_keeping(0);
        assert_eq!(open(&disk).1.committed.0, Index(0));
    }
}

#[test]
fn r18_a_crash_right_at_the_drop_leaves_all_or_nothing() {
    for kept in 0..4 {
        let disk = SimDisk::new();
        let (mut storage, _) = open(&disk);
        run(&mut storage, &posts(3).entries);
        disk.fail_next(Fault::Flush);
        assert!(storage.perform(vec![StorageRequest::InstallBegin]).is_err());
        drop(storage);
        disk.crash_keeping(kept);
        let (storage, recovered) = open(&disk);
        assert!([Index(0), Index(2), Index(3)].contains(&recovered.committed.0), "{recovered:?}");
        assert_eq!(storage.log_span().1.0 == 0, recovered.committed.0 == Index(0));
    }
}

#[test]
fn r19_while_a_snapshot_is_installed_nothing_else_is_written() {
    let history = posts(2);
    let (mut storage, _) = open(&SimDisk::new());
    run(&mut storage, &history.entries[..1]);
    storage.perform(vec![StorageRequest::InstallBegin]).expect("performs");
    let e = &history.entries;
    let stray = vec![write_log(&e[0], 0), apply(&e[0]), StorageRequest::Pin { session: SessionId(1) }];
    assert_eq!(storage.perform(stray), Ok(vec![]));
    assert_eq!(read_log(&mut storage, 0, 9), (None, vec![]));
    assert_eq!(storage.perform(vec![write_vote(2, None)]), Ok(vec![durable(102, Writer::Replica)]));
    let unpinned = StorageRequest::ReadChunk { session: SessionId(1), cursor: None, bytes_max: 9 };
    let nothing = StorageEvent::ChunkRead { session: SessionId(1), cursor: None, chunk: None };
    assert_eq!(storage.perform(vec![unpinned]), Ok(vec![nothing]));
}

#[test]
fn section_9_what_is_damaged_is_refused_by_name() {
    let history = posts(3);
    let damage = |table, key: &[u8], value: Option<Vec<u8>>| {
        let disk = SimDisk::new();
        let (mut storage, _) = open(&disk);
        run(&mut storage, &history.entries[..2]);
        storage.perform(vec![write_log(&history.entries[2], 2), write_vote(1, None)]).expect("performs");
        let mut batch = WriteBatch::default();
        batch.writes.push((table, key.to_vec(), value));
        storage.kv_mut().write(batch).expect("writes");
        drop(storage);
        Storage::open(disk, voter(), Incarnation(1), &Limits::default()).err()
    };
    let slot = |index: u64| index.to_be_bytes();
    let cases = [
        (damage(Table::Log, &slot(3), Some(b"rubbish".to_vec())), "log record 3"),
        (damage(Table::Log, &slot(2), Some(crate::log::seal(&record(&history.entries[0], 0)))), "log record 2"),
        (damage(Table::Log, &slot(5), Some(crate::log::seal(&record(&history.entries[2], 0)))), "log record 4"),
        (damage(Table::Meta, b"vote", Some(vec![1; 40])), "vote"),
        (damage(Table::Meta, b"identity", None), "identity"),
        (damage(Table::Store, b"a", Some(vec![0xff; 3])), "store key \"a\""),
    ];
    for (found, expected) in cases {
        match found {
            Some(StorageError::Damaged { place, .. }) => assert_eq!(place, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn section_9_what_another_version_laid_out_is_refused() {
    for (layout, theirs) in [(None, 0), (Some(crate::log::seal(&(FORMAT_VERSION + 1))), FORMAT_VERSION + 1)] {
        let disk = SimDisk::new();
        let (mut storage, _) = open(&disk);
        let mut batch = WriteBatch::default();
        batch.writes.push((Table::Meta, b"format".to_vec(), layout));
        storage.kv_mut().write(batch).expect("writes");
        drop(storage);
        let found = Storage::open(disk, voter(), Incarnation(1), &Limits::default()).err();
        assert_eq!(found, Some(StorageError::Format { theirs }));
    }
}

#[test]
fn s5_a_scan_reads_all_and_says_what_is_damaged_by_name() {
    let history = posts(4);
    let disk = SimDisk::new();
    let (mut storage, _) = open(&disk);
    run(&mut storage, &history.entries[..3]);
    storage.perform(vec![write_log(&history.entries[3], 2)]).expect("performs");
    let found = scan(&disk).expect("reads");
    assert_eq!((found.index, found.hash), storage.applied());
    assert_eq!((Ok(found.digest), (found.log_first, found.log_end)), (storage.digest(), (Index(1), Index(4))));
    assert!(found.pairs > 3 && found.bytes > 100, "{found:?}");
    let other = crate::log::seal(&record(&Arc::new(Entry::new(Index(2), Hash([3; 32]), Batch::Courses(vec![]))), 1));
    let slot = |index: u64| index.to_be_bytes();
    let changed = Arc::new(Entry { batch: Batch::Courses(vec![]), ..(*history.entries[1]).clone() });
    let changed = crate::log::seal(&record(&changed, 1));
    let cases = [
        (Table::Log, slot(1).to_vec(), Some(b"rubbish".to_vec()), "log record 1"),
        (Table::Log, slot(2).to_vec(), Some(changed), "log record 2"),
        (Table::Log, slot(2).to_vec(), Some(other), "log record 2"),
        (Table::Log, slot(2).to_vec(), None, "log record 2"),
        (Table::Log, slot(4).to_vec(), Some(crate::log::seal(&record(&history.entries[2], 0))), "log record 4"),
        (Table::Store, b"a".to_vec(), Some(vec![0xff; 3]), "store key \"a\""),
    ];
    for (table, key, value, expected) in cases {
        let before = disk.get(table, &key).expect("reads");
        disk.clone().write(WriteBatch { writes: vec![(table, key.clone(), value)] }).expect("writes");
        assert!(matches!(scan(&disk), Err(StorageError::Damaged { place, .. }) if place == expected), "{expected}");
        disk.clone().write(WriteBatch { writes: vec![(table, key, before)] }).expect("writes");
    }
    assert_eq!(scan(&disk), Ok(found));
}

#[test]
fn s5_a_scan_knows_a_log_that_does_not_lead_to_the_store() {
    let (history, mut other) = (posts(2), History::default());
    ["a", "b"].iter().for_each(|text| drop(other.post(5, text)));
    let disk = SimDisk::new();
    let (mut storage, _) = open(&disk);
    run(&mut storage, &history.entries);
    for entry in &other.entries {
        let mut batch = WriteBatch::default();
        batch.put(Table::Log, entry.index.0.to_be_bytes().to_vec(), crate::log::seal(&record(entry, 0)));
        storage.kv_mut().write(batch).expect("writes");
    }
    assert!(matches!(scan(&disk), Err(StorageError::Damaged { place, .. }) if place == "log record 2"));
}

#[test]
fn s5_whoever_watches_sees_each_index_in_the_middle_of_a_group() {
    let history = posts(3);
    let disk = SimDisk::new();
    let (mut storage, _) = open(&disk);
    let requests = history.entries.iter().flat_map(|entry| [write_log(entry, entry.index.0 - 1), apply(entry)]);
    let mut seen = Vec::new();
    let watch = &mut |kv: &SimDisk, index: Index| seen.push((index, scan(kv).map(|scan| scan.index)));
    storage.perform_watched(requests.collect(), watch).expect("performs");
    let expected: Vec<_> = [0, 1, 1, 2, 2, 3].map(|index| (Index(index), Ok(Index(index)))).into();
    assert_eq!(seen, expected);
    assert_eq!(storage.chain_at(Index(2)), Ok(Some(history.entries[1].hash)));
    assert_eq!((storage.chain_at(Index(0)), storage.chain_at(Index(4))), (Ok(Some(Hash::default())), Ok(None)));
}
