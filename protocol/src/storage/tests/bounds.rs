//! What is flushed, what is shown, and how much: of the log, of a page, of a snapshot.

use super::*;
use crate::ids::RequestId;
use crate::log::seal;
use crate::operation::Query;

#[test]
fn section_4_what_is_said_to_need_a_flush_is_what_is_flushed() {
    let history = posts(3);
    let e = &history.entries;
    let (session, request, write) = (SessionId(1), RequestId(1), WriteId(1));
    let query = Query::Channel { channel: channel("general") };
    let course = vec![
        write_vote(1, None),
        write_log(&e[0], 0),
        apply(&e[0]),
        StorageRequest::Locate { request, id: Timestamp(10) },
        StorageRequest::Examine { round: 1, operations: vec![posting("ada", "k", "general", "hi")] },
        StorageRequest::Query { request, query },
        StorageRequest::Pin { session },
        StorageRequest::ReadChunk { session, cursor: None, bytes_max: 100 },
        StorageRequest::ReadLog { session, after: Index(0), bytes_max: 100 },
        StorageRequest::Unpin { session },
        StorageRequest::WriteCommitted { write, entries: e[1..2].to_vec() },
        write_log(&e[2], 2),
        StorageRequest::DropTail,
        StorageRequest::InstallBegin,
        StorageRequest::InstallChunk { write, pairs: Vec::new() },
        StorageRequest::InstallEnd { write, index: Index(0), hash: Hash::default() },
    ];
    let disk = SimDisk::new();
    let (mut storage, _) = open(&disk);
    for request in course {
        let (_, before) = disk.counts();
        storage.perform(vec![request.clone()]).expect("performs");
        assert_eq!(disk.counts().1 > before, request.needs_flush(), "{request:?}");
    }
}

/// With the cause mended the node goes on with the directory: nobody is to be told to put away what is whole.
#[test]
fn section_9_only_a_damaged_directory_is_to_be_put_aside() {
    let damaged = StorageError::Damaged { place: "vote".into(), reason: "malformed".into() };
    assert!(damaged.remedy().contains("put this data directory aside"), "{}", damaged.remedy());
    let owner = StorageError::Owner { theirs: voter(), ours: Voter::Replica(NodeId(2)) };
    for whole in [StorageError::Engine("no space".into()), owner, StorageError::Format { theirs: 0 }] {
        assert_eq!(whole.remedy(), "", "{whole}");
    }
}

#[test]
fn r19_of_a_snapshot_that_is_not_whole_nothing_is_shown() {
    let mut history = posts(2);
    history.add(Batch::View(crate::testing::view(1, 3, &[1, 3], 1)));
    let e = &history.entries;
    let (mut giver, _) = open(&SimDisk::new());
    run(&mut giver, &e[..2]);
    giver.perform(vec![write_log(&e[2], 2), apply(&e[2])]).expect("performs");
    giver.perform(vec![StorageRequest::Pin { session: SessionId(4) }]).expect("performs");
    let told = |storage: &Storage<SimDisk>| -> Vec<u64> {
        storage.view_changes(9).expect("reads").iter().map(|change| change.view.0).collect()
    };
    assert_eq!(told(&giver), [1]);
    let (mut taker, _) = open(&SimDisk::new());
    assert!(taker.is_whole() && told(&taker).is_empty());
    install(&mut taker, chunks(&mut giver, SessionId(4), 300));
    assert!(!taker.is_whole() && told(&taker).is_empty(), "all is there, and nobody has said so");
    assert_eq!((taker.chain_at(Index(0)), taker.chain_at(Index(3))), (Ok(None), Ok(None)));
    let (index, hash) = giver.applied();
    taker.perform(vec![StorageRequest::InstallEnd { write: WriteId(99), index, hash }]).expect("performs");
    assert!(taker.is_whole());
    assert_eq!(told(&taker), [1]);
    assert_eq!(taker.chain_at(Index(3)), Ok(Some(e[2].hash)), "though no record of it is in the log");
    assert_eq!(read_log(&mut taker, 3, 100), (Some(e[2].hash), vec![]), "and whoever has all of it lacks nothing");
}

#[test]
fn s5_the_chain_is_told_of_what_is_applied_and_of_nothing_in_doubt() {
    let history = posts(3);
    let e = &history.entries;
    let (mut storage, _) = open(&SimDisk::new());
    run(&mut storage, &e[..2]);
    storage.perform(vec![write_log(&e[2], 2)]).expect("performs");
    let chain: Vec<_> = (0..=4).map(|n| storage.chain_at(Index(n)).expect("reads")).collect();
    assert_eq!(chain, [Some(Hash::default()), Some(e[0].hash), Some(e[1].hash), None, None]);
}

#[test]
fn section_9_whatever_lies_in_a_directory_without_an_owner_is_refused() {
    let full = SimDisk::new();
    let (mut storage, _) = open(&full);
    run(&mut storage, &posts(1).entries);
    storage.perform(vec![write_vote(1, None)]).expect("performs");
    let first = 1_u64.to_be_bytes();
    for (table, key) in [(Table::Meta, &b"vote"[..]), (Table::Log, &first[..]), (Table::Store, &b"a"[..])] {
        let mut disk = SimDisk::new();
        let mut batch = WriteBatch::default();
        batch.put(table, key.to_vec(), full.get(table, key).expect("reads").expect("there"));
        disk.write(batch).expect("writes");
        let found = Storage::open(disk, voter(), Incarnation(1), &Limits::default()).err();
        assert!(matches!(found, Some(StorageError::Damaged { place, .. }) if place == "identity"), "{table:?}");
    }
}

#[test]
fn section_4_a_log_holds_records_in_its_slots_and_right_behind_them() {
    let (mut storage, _) = open_with(&SimDisk::new(), &Limits { log_retain_entries: 3, ..Limits::default() });
    run(&mut storage, &posts(5).entries);
    let held: Vec<u64> = (0..9).filter(|n| storage.slots.may_hold(Index(*n))).collect();
    assert_eq!((storage.log_span(), held), ((Index(3), Index(5)), vec![3, 4, 5, 6]));
}

#[test]
fn section_4_a_record_that_was_replaced_or_dropped_counts_no_more() {
    let limits = Limits { log_retain_bytes: 2_000, ..Limits::default() };
    let (mut steady, _) = open_with(&SimDisk::new(), &limits);
    let (mut shaken, _) = open_with(&SimDisk::new(), &limits);
    let keys = vec![(owner("ada", &"k".repeat(250)), Timestamp(0)); 4];
    for entry in &posts(40).entries {
        let batch = Batch::Abort { keys: keys.clone(), keys_at: Timestamp(0) };
        let other = Arc::new(Entry::new(entry.index, entry.prev_hash, batch));
        let dropped = vec![write_log(&other, 0), StorageRequest::DropTail, write_log(&other, 0)];
        shaken.perform(dropped).expect("performs");
        for storage in [&mut steady, &mut shaken] {
            run(storage, std::slice::from_ref(entry));
        }
        assert_eq!(shaken.log_span(), steady.log_span());
    }
    assert!(steady.log_span().0 > Index(1), "the oldest have gone");
}

/// Else a log that was kept for a joining node would grow on under large entries.
#[test]
fn section_4_small_records_go_by_twice_the_size_of_what_is_applied() {
    let (mut storage, _) = open_with(&SimDisk::new(), &Limits { log_retain_bytes: 1_000, ..Limits::default() });
    storage.perform(vec![StorageRequest::Pin { session: SessionId(1) }]).expect("performs");
    let mut history = posts(100);
    run(&mut storage, &history.entries);
    assert_eq!(storage.log_span(), (Index(1), Index(100)));
    storage.perform(vec![StorageRequest::Unpin { session: SessionId(1) }]).expect("performs");
    // One that is half as large as some of the oldest together.
    let together = |count: usize| history.entries[..count].iter().map(size).sum::<usize>();
    let count = (30..40).find(|count| together(*count) % 2 == 0).expect("a half");
    let half = together(count) / 2;
    let too_large = size(&history.clone().post(2_000, &"x".repeat(3_000))) - half;
    let large = history.post(2_000, &"x".repeat(3_000 - too_large));
    assert_eq!(size(&large), half);
    run(&mut storage, &[large]);
    assert_eq!(storage.log_span(), (Index(count as u64 + 1), Index(101)));
}

/// As it lies in the log.
fn size(entry: &Arc<Entry>) -> usize {
    seal(&record(entry, entry.index.0 - 1)).len()
}

#[test]
fn section_4_a_log_may_be_just_as_large_as_its_limit() {
    let history = posts(5);
    let all: usize = history.entries.iter().map(size).sum();
    for (bytes, first) in [(all, 1), (all - 1, 2)] {
        let limits = Limits { log_retain_bytes: bytes as u64, ..Limits::default() };
        let (mut storage, _) = open_with(&SimDisk::new(), &limits);
        run(&mut storage, &history.entries);
        assert_eq!(storage.log_span(), (Index(first), Index(5)));
    }
}

#[test]
fn r20_a_round_and_a_chunk_may_be_just_as_large_as_they_were_asked_for() {
    let history = posts(4);
    let (mut storage, _) = open(&SimDisk::new());
    run(&mut storage, &history.entries);
    let two: usize = history.entries[..2].iter().map(size).sum();
    assert_eq!([two, two - 1].map(|bytes| read_log(&mut storage, 0, bytes).1.len()), [2, 1]);
    storage.perform(vec![StorageRequest::Pin { session: SessionId(4) }]).expect("performs");
    let pairs = chunks(&mut storage, SessionId(4), usize::MAX).remove(0);
    let two: usize = pairs[..2].iter().map(|(key, value)| key.len() + value.len()).sum();
    assert_eq!([two, two - 1].map(|bytes| chunks(&mut storage, SessionId(4), bytes)[0].len()), [2, 1]);
}

#[test]
fn r5_a_record_stays_as_it_was_voted_for_when_its_entry_is_applied() {
    let history = posts(2);
    let disk = SimDisk::new();
    let (mut storage, _) = open(&disk);
    run(&mut storage, &history.entries);
    for entry in &history.entries {
        assert_eq!(storage.log_record(entry.index), Ok(Some(record(entry, entry.index.0 - 1))));
    }
}

#[test]
fn section_9_a_tail_that_does_not_follow_or_was_changed_is_refused() {
    let history = posts(3);
    let e = &history.entries;
    let stranger = Entry::new(Index(3), Hash([9; 32]), Batch::Courses(vec![]));
    let changed = Entry { batch: Batch::Courses(vec![]), ..(*e[2]).clone() };
    for tail in [stranger, changed] {
        let disk = SimDisk::new();
        let (mut storage, _) = open(&disk);
        run(&mut storage, &e[..2]);
        let mut batch = WriteBatch::default();
        batch.put(Table::Log, 3_u64.to_be_bytes().to_vec(), seal(&record(&Arc::new(tail), 2)));
        storage.kv_mut().write(batch).expect("writes");
        drop(storage);
        let found = Storage::open(disk, voter(), Incarnation(7), &Limits::default()).err();
        assert!(matches!(&found, Some(StorageError::Damaged { place, .. }) if place == "log record 3"), "{found:?}");
    }
}

#[test]
fn s5_a_scan_says_how_much_it_read() {
    let disk = SimDisk::new();
    let (mut storage, _) = open(&disk);
    run(&mut storage, &posts(3).entries);
    storage.perform(vec![StorageRequest::Pin { session: SessionId(4) }]).expect("performs");
    let pairs = chunks(&mut storage, SessionId(4), usize::MAX).remove(0);
    let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    let found = scan(&disk).expect("reads");
    assert_eq!((found.pairs, found.bytes), (pairs.len() as u64, bytes as u64));
}
