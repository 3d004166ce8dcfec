//! The storage on a real disk: what a killed process leaves, what a failed flush ends, and how it behaves when it is large.

use super::{OnEvents, OnFailure, StorageHandle, start, start_with_faults};
use crate::engine::{Engine, FaultPlan};
use crate::testing::{apply, copy_directory, history, post, write_log};
use lockstep_protocol::ids::{Hash, Incarnation, Index, NodeId, SessionId, Timestamp, Voter, WriteId};
use lockstep_protocol::log::Entry;
use lockstep_protocol::machine::Limits;
use lockstep_protocol::operation::{ChannelName, Found, Page, Query};
use lockstep_protocol::storage::kv::{Direction, KeyRange, Kv, ReadKv, Table, WriteBatch};
use lockstep_protocol::storage::{Recovered, Storage, StorageError, StorageEvent, StorageRequest, Writer};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn voter() -> Voter {
    Voter::Replica(NodeId(1))
}

fn open(directory: &Path) -> (Storage<Engine>, Recovered) {
    let engine = Engine::open(directory, FaultPlan::default()).expect("opens");
    Storage::open(engine, voter(), Incarnation(7), &Limits::default()).expect("opens")
}

#[test]
fn section_9_a_killed_process_leaves_all_that_was_told() {
    let directory = TempDir::new().expect("a directory");
    let (mut storage, _) = open(directory.path());
    let entries = history(50);
    for entry in &entries {
        storage.perform(vec![write_log(entry), apply(entry)]).expect("performs");
    }
    storage.perform(vec![StorageRequest::DropTail]).expect("performs");
    let left = TempDir::new().expect("a directory");
    copy_directory(directory.path(), left.path());
    let (again, recovered) = open(left.path());
    assert_eq!(recovered.committed, (Index(50), entries[49].hash));
    assert_eq!((again.digest(), again.log_span()), (storage.digest(), storage.log_span()));
}

/// A copy of a directory whose journal somebody changes.
fn with_journal(directory: &Path, change: impl FnOnce(&fs::File)) -> TempDir {
    let left = TempDir::new().expect("a directory");
    copy_directory(directory, left.path());
    let journal = fs::File::options().write(true).open(left.path().join("engine/0.jnl")).expect("opens");
    change(&journal);
    left
}

#[test]
fn section_9_a_torn_journal_loses_only_what_was_not_flushed() {
    let directory = TempDir::new().expect("a directory");
    let (mut storage, _) = open(directory.path());
    let entries = history(3);
    storage.perform(vec![write_log(&entries[0]), apply(&entries[0])]).expect("performs");
    let flushed = journal_length(directory.path());
    storage.perform(vec![apply(&entries[1])]).expect("performs, and flushes nothing");
    drop(storage); // Hands over to the system what it gathered, without a flush.
    let written = journal_length(directory.path());
    assert!(flushed < written, "{flushed} {written}");
    let middle = (flushed + written) / 2;
    let mut torn: Vec<_> = [written - 1, middle, flushed + 1, flushed]
        .map(|length| with_journal(directory.path(), |journal| journal.set_len(length).expect("cuts")))
        .into();
    // A part that never reached the disk, though what lies behind it did.
    torn.extend(
        (flushed..written - 16).step_by(16).map(|hole| {
            with_journal(directory.path(), |journal| journal.write_all_at(&[0; 16], hole).expect("writes"))
        }),
    );
    for left in torn {
        let (mut again, recovered) = open(left.path());
        assert_eq!((recovered.committed.0, recovered.tail.len()), (Index(1), 0));
        again.perform(vec![write_log(&entries[1]), apply(&entries[1])]).expect("performs");
        drop(again);
        assert_eq!(open(left.path()).1.committed.0, Index(2));
        assert!(!left.path().join("engine/0.torn").exists());
    }
}

#[test]
fn section_9_what_was_not_flushed_goes_with_the_process_whole() {
    let directory = TempDir::new().expect("a directory");
    let (mut storage, _) = open(directory.path());
    let entries = history(200);
    storage.perform(vec![write_log(&entries[0]), apply(&entries[0])]).expect("performs");
    // More than the engine gathers: the last batch that is handed over is torn.
    let unflushed = entries[1..].iter().map(apply).collect();
    storage.perform(unflushed).expect("performs, and flushes nothing");
    let left = TempDir::new().expect("a directory");
    copy_directory(directory.path(), left.path());
    let (again, recovered) = open(left.path());
    let kept = recovered.committed.0.0;
    assert!(1 < kept && kept < 200, "{kept}");
    assert_eq!((recovered.committed.1, again.log_span().1), (entries[kept as usize - 1].hash, Index(kept)));
    assert_eq!(recovered.tail.len(), 0);
}

#[test]
fn section_9_an_older_journal_that_is_not_whole_is_refused_by_name() {
    let directory = TempDir::new().expect("a directory");
    let (mut storage, _) = open(directory.path());
    let entries = history(2);
    storage.perform(vec![write_log(&entries[0]), apply(&entries[0])]).expect("performs");
    let first = journal_length(directory.path());
    storage.perform(vec![write_log(&entries[1])]).expect("performs");
    let hole = with_journal(directory.path(), |journal| journal.write_all_at(&[0; 8], first + 2).expect("writes"));
    fs::write(hole.path().join("engine/1.jnl"), []).expect("a newer one, just begun");
    let refused = Engine::open(hole.path(), FaultPlan::default());
    let Err(StorageError::Damaged { place, reason }) = refused else { panic!("{refused:?}") };
    assert!(place.ends_with("0.jnl") && reason.contains("is not whole after byte"), "{place}: {reason}");
}

#[test]
fn section_9_a_clear_that_the_process_did_not_survive_spoils_no_later_start() {
    let directory = TempDir::new().expect("a directory");
    let (mut storage, _) = open(directory.path());
    let entries = history(2);
    storage.perform(vec![write_log(&entries[0]), apply(&entries[0])]).expect("performs");
    storage.kv_mut().clear(Table::Store).expect("clears");
    let left = TempDir::new().expect("a directory");
    copy_directory(directory.path(), left.path());
    for _ in 0..3 {
        let mut engine = Engine::open(left.path(), FaultPlan::default()).expect("opens");
        engine.clear(Table::Store).expect("clears");
        let mut batch = WriteBatch::default();
        batch.put(Table::Store, vec![b'a'], vec![1]);
        engine.write(batch).expect("writes");
        engine.flush().expect("flushes");
    }
}

#[test]
fn section_9_a_journal_that_lost_what_was_flushed_is_refused_again_and_again() {
    let directory = TempDir::new().expect("a directory");
    let (mut storage, _) = open(directory.path());
    let entries = history(2);
    storage.perform(vec![write_log(&entries[0]), apply(&entries[0])]).expect("performs");
    let first = journal_length(directory.path());
    storage.perform(vec![write_log(&entries[1])]).expect("performs");
    let written = journal_length(directory.path());
    let cut = |length| with_journal(directory.path(), move |journal| journal.set_len(length).expect("cuts"));
    let hole = with_journal(directory.path(), |journal| journal.write_all_at(&[0; 8], first + 2).expect("writes"));
    for left in [cut(written - 1), cut(first), cut(0), hole] {
        for _ in 0..2 {
            let refused = Engine::open(left.path(), FaultPlan::default());
            let Err(StorageError::Damaged { reason, .. }) = refused else { panic!("{refused:?}") };
            assert!(reason.ends_with("what was flushed is lost"), "{reason}");
        }
    }
}

/// How far the journal is written; what follows are zeros.
fn journal_length(directory: &Path) -> u64 {
    let bytes = fs::read(directory.join("engine/0.jnl")).expect("reads");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

#[test]
fn section_9_a_half_created_directory_is_created_again() {
    let directory = TempDir::new().expect("a directory");
    fs::create_dir_all(directory.path().join("engine.new/keyspaces")).expect("creates");
    fs::write(directory.path().join("engine.new/0.jnl"), b"cut off").expect("writes");
    assert_eq!(open(directory.path()).1.committed.0, Index(0));
    assert!(!directory.path().join("engine.new").exists());
}

#[test]
fn section_1_a_directory_never_runs_twice() {
    let directory = TempDir::new().expect("a directory");
    let running = open(directory.path());
    let Err(StorageError::Engine(text)) = Engine::open(directory.path(), FaultPlan::default()) else {
        panic!("opened twice")
    };
    assert!(text.contains("in use") && text.contains(&directory.path().display().to_string()), "{text}");
    drop(running);
    assert_eq!(open(directory.path()).1.identity.incarnation, Incarnation(7));
}

#[test]
fn section_4_the_engine_scans_both_ways_within_bounds() {
    let directory = TempDir::new().expect("a directory");
    let mut engine = Engine::open(directory.path(), FaultPlan::default()).expect("opens");
    let mut batch = WriteBatch::default();
    (0..10_u8).for_each(|key| batch.put(Table::Store, vec![key], vec![key]));
    batch.put(Table::Log, vec![3], vec![99]);
    batch.delete(Table::Store, vec![4]);
    engine.write(batch).expect("writes");
    let scan = |engine: &Engine, range: KeyRange, direction, limit: usize| {
        let mut keys = Vec::new();
        let visit = &mut |key: &[u8], value: &[u8]| {
            assert_eq!(key, value);
            keys.push(key[0]);
            Ok(if keys.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        };
        engine.scan(Table::Store, &range, direction, visit).expect("scans");
        keys
    };
    let range = |from: u8, to: u8| KeyRange { from: vec![from], to: Some(vec![to]) };
    assert_eq!(scan(&engine, range(2, 6), Direction::Forward, 9), vec![2, 3, 5]);
    assert_eq!(scan(&engine, range(2, 6), Direction::Reverse, 2), vec![5, 3]);
    assert_eq!(scan(&engine, range(6, 2), Direction::Reverse, 2), vec![] as Vec<u8>);
    assert_eq!(scan(&engine, KeyRange::after(&[7]), Direction::Forward, 9), vec![8, 9]);
    assert_eq!(engine.get(Table::Store, &[4]), Ok(None));
    engine.clear(Table::Store).expect("clears");
    assert_eq!(scan(&engine, KeyRange::all(), Direction::Forward, 9), vec![] as Vec<u8>);
    assert_eq!(engine.get(Table::Log, &[3]), Ok(Some(vec![99])));
}

#[test]
fn r19_a_pinned_snapshot_stays_and_an_installed_one_survives_a_kill() {
    let directory = TempDir::new().expect("a directory");
    let (mut giver, _) = open(directory.path());
    let entries = history(40);
    let run = |storage: &mut Storage<Engine>, entries: &[Arc<Entry>]| {
        let write = StorageRequest::WriteCommitted { write: WriteId(1), entries: entries.to_vec() };
        storage.perform(vec![write]).expect("performs")
    };
    run(&mut giver, &entries[..20]);
    let (applied, digest) = (giver.applied(), giver.digest());
    let session = SessionId(5);
    giver.perform(vec![StorageRequest::Pin { session }]).expect("performs");
    run(&mut giver, &entries[20..]);

    let elsewhere = TempDir::new().expect("a directory");
    let (mut taker, _) = open(elsewhere.path());
    run(&mut taker, &history(5));
    taker.perform(vec![StorageRequest::InstallBegin]).expect("performs");
    let mut cursor = None;
    loop {
        let request = StorageRequest::ReadChunk { session, cursor: cursor.clone(), bytes_max: 500 };
        let mut events = giver.perform(vec![request]).expect("performs");
        let Some(StorageEvent::ChunkRead { chunk: Some((pairs, is_last)), .. }) = events.pop() else {
            panic!("no chunk")
        };
        cursor = pairs.last().map(|(key, _)| key.clone());
        taker.perform(vec![StorageRequest::InstallChunk { write: WriteId(2), pairs }]).expect("performs");
        if is_last {
            break;
        }
    }
    let half = TempDir::new().expect("a directory");
    copy_directory(elsewhere.path(), half.path());
    assert_eq!(open(half.path()).1.committed.0, Index(0));

    let end = StorageRequest::InstallEnd { write: WriteId(3), index: applied.0, hash: applied.1 };
    let events = taker.perform(vec![end]).expect("performs");
    let durable = StorageEvent::Durable { write: WriteId(3), by: Writer::Sync };
    assert_eq!(events, vec![StorageEvent::Members { members: Default::default() }, durable], "no view served");
    assert_eq!(taker.digest(), digest);
    run(&mut taker, &entries[20..]);
    let left = TempDir::new().expect("a directory");
    copy_directory(elsewhere.path(), left.path());
    let (again, recovered) = open(left.path());
    assert_eq!((again.digest(), recovered.committed.0), (giver.digest(), Index(40)));
}

/// A running storage, and what it says.
fn started(directory: &Path, faults: FaultPlan) -> (StorageHandle, Receiver<StorageEvent>, Receiver<StorageError>) {
    let (events, heard) = channel();
    let (failures, failed) = channel();
    let on_events: OnEvents = Box::new(move |batch| batch.into_iter().for_each(|event| drop(events.send(event))));
    let on_failure: OnFailure = Box::new(move |error| drop(failures.send(error)));
    let (handle, _) =
        start_with_faults(directory, voter(), Incarnation(7), &Limits::default(), on_events, on_failure, faults)
            .expect("starts");
    (handle, heard, failed)
}

#[test]
fn r5_the_thread_answers_in_order_and_stop_lets_the_directory_go() {
    let directory = TempDir::new().expect("a directory");
    let (handle, heard, failed) = started(directory.path(), FaultPlan::default());
    let entries = history(300);
    let other = handle.clone();
    entries.iter().for_each(|entry| [write_log(entry), apply(entry)].into_iter().for_each(|ask| other.ask(ask)));
    for entry in &entries {
        let durable = StorageEvent::Durable { write: WriteId(entry.index.0), by: Writer::Replica };
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(durable));
        let applied = heard.recv_timeout(PATIENCE);
        assert!(matches!(applied, Ok(StorageEvent::Applied { index, .. }) if index == entry.index), "{applied:?}");
    }
    handle.stop();
    other.ask(StorageRequest::DropTail);
    other.stop();
    assert!(failed.try_recv().is_err());
    assert_eq!(open(directory.path()).1.committed.0, Index(300));
}

#[test]
fn r5_a_failing_flush_is_reported_once_and_nothing_is_said_to_be_durable() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("fail-flush");
    let (handle, heard, failed) = started(directory.path(), FaultPlan { fail_flush_file: Some(file.clone()) });
    let entries = history(2);
    handle.ask(write_log(&entries[0]));
    assert!(heard.recv_timeout(PATIENCE).is_ok());
    fs::write(&file, b"").expect("writes");
    handle.ask(write_log(&entries[1]));
    assert!(matches!(failed.recv_timeout(PATIENCE), Ok(StorageError::Engine(_))));
    fs::remove_file(&file).expect("removes");
    handle.ask(write_log(&entries[1]));
    handle.stop();
    assert!(heard.try_recv().is_err() && failed.try_recv().is_err());
}

#[test]
fn r7_what_needs_no_flush_does_not_wait_for_the_one_behind_it() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("fail-flush");
    let faults = FaultPlan { fail_flush_file: Some(file.clone()) };
    // What is said is taken one by one, and the storage waits so long: what is asked meanwhile is one group.
    let (events, heard) = sync_channel(0);
    let on_events: OnEvents = Box::new(move |batch| batch.into_iter().for_each(|event| drop(events.send(event))));
    let (handle, _) = start_with_faults(
        directory.path(),
        voter(),
        Incarnation(7),
        &Limits::default(),
        on_events,
        Box::new(drop),
        faults,
    )
    .expect("starts");
    let entries = history(2);
    handle.ask(write_log(&entries[0]));
    while handle.figures().group_requests.read().count() == 0 {
        std::thread::yield_now();
    }
    fs::write(&file, b"").expect("writes");
    handle.ask(apply(&entries[0]));
    handle.ask(write_log(&entries[1]));
    assert!(matches!(heard.recv_timeout(PATIENCE), Ok(StorageEvent::Durable { .. })));
    let applied = heard.recv_timeout(PATIENCE);
    assert!(matches!(applied, Ok(StorageEvent::Applied { index: Index(1), .. })), "{applied:?}");
    assert!(heard.recv_timeout(PATIENCE).is_err(), "the flush behind it failed");
    handle.stop();
}

#[test]
fn section_1_another_nodes_directory_is_refused() {
    let directory = TempDir::new().expect("a directory");
    drop(open(directory.path()));
    let other = Voter::Replica(NodeId(2));
    let (on_events, on_failure): (OnEvents, OnFailure) = (Box::new(drop), Box::new(drop));
    let refused = start(directory.path(), other.clone(), Incarnation(1), &Limits::default(), on_events, on_failure);
    assert_eq!(refused.err(), Some(StorageError::Owner { theirs: voter(), ours: other }));
}

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}

#[test]
#[ignore = "writes a million messages: half a minute and more"]
fn section_4_a_million_messages_stay_small_and_quick() {
    let directory = TempDir::new().expect("a directory");
    let (mut storage, _) = open(directory.path());
    let mut prev_hash = Hash::default();
    let begun = Instant::now();
    for index in 1..=2_000 {
        let entry = post(index, prev_hash, 500);
        prev_hash = entry.hash;
        storage.perform(vec![write_log(&entry), apply(&entry)]).expect("performs");
    }
    eprintln!("written in {:?}, {} MiB resident", begun.elapsed(), resident_mib());
    let newest = |storage: &mut Storage<Engine>| {
        let page = Page { limit: 100, before: None, after: None, ascending: false };
        let query = Query::History { channel: ChannelName::new("general").expect("a name"), page };
        let request = StorageRequest::Query { request: Default::default(), query };
        let begun = Instant::now();
        let mut events = storage.perform(vec![request]).expect("performs");
        let Some(StorageEvent::Queried { found: Ok(Found::Messages { messages, .. }), .. }) = events.pop() else {
            panic!("no messages")
        };
        let first = messages.iter().next().map(|message| message.id);
        assert_eq!((messages.len(), first), (100, Some(Timestamp(2_000_000_499))));
        begun.elapsed()
    };
    let times = [newest(&mut storage), newest(&mut storage)];
    let left = TempDir::new().expect("a directory");
    copy_directory(directory.path(), left.path());
    drop(storage);
    let begun = Instant::now();
    let (mut storage, recovered) = open(left.path());
    let opened = begun.elapsed();
    eprintln!("newest 100: {times:?}, opened in {opened:?}, then {:?}", newest(&mut storage));
    eprintln!("{} MiB resident", resident_mib());
    assert_eq!(recovered.committed.0, Index(2_000));
    assert!(opened < Duration::from_secs(5), "{opened:?}");
    assert!(times[1] < Duration::from_millis(50), "{times:?}");
    assert!(resident_mib() < 300, "{} MiB", resident_mib());
}
