//! A data directory's tables, with records that were changed, cut, moved or lost. A start finds what it would have found, or
//! refuses it; what it finds holds together, and a second start finds the same.

#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use lockstep_fuzz::store;
use lockstep_protocol::ids::{Attempt, Ballot, Index, NodeId, ViewNumber, WriteId};
use lockstep_protocol::log::{LogRecord, seal};
use lockstep_protocol::message::Pair;
use lockstep_protocol::sim::disk::SimDisk;
use lockstep_protocol::storage::kv::{Direction, KeyRange, Kv, ReadKv, TABLES, Table, WriteBatch};
use lockstep_protocol::storage::{Recovered, StorageRequest, VoteRecord};
use std::ops::ControlFlow;

/// What a sealed record begins with.
const CHECKSUM_BYTES: usize = 16;

/// So many entries in the log, of which so many are applied; and a vote.
fn filled(logged: usize, applied: usize) -> SimDisk {
    let disk = store::disk();
    let (mut storage, _) = store::open(&disk);
    let promised = Some(Ballot { round: 2, node: NodeId(3) });
    let vote = VoteRecord { view: store::view(1, 3), promised, accepted: None };
    let mut asks = vec![StorageRequest::WriteVote { write: WriteId(1), vote }];
    for entry in store::entries().into_iter().take(logged) {
        let commit_index = entry.index.before().min(Index(applied as u64));
        let record = LogRecord { entry: entry.clone(), view: ViewNumber(1), attempt: Attempt(1), commit_index };
        asks.push(StorageRequest::WriteLog { write: WriteId(2), record });
        if entry.index.0 as usize <= applied {
            asks.push(StorageRequest::Apply { entry });
        }
    }
    storage.perform(asks).expect("they follow");
    disk
}

fn pairs(disk: &SimDisk, table: Table) -> Vec<Pair> {
    let mut found = Vec::new();
    let read = disk.scan(table, &KeyRange::all(), Direction::Forward, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    });
    read.expect("a disk in memory is read");
    found
}

/// Changes one pair. Of values, some are sealed anew, so that their checksum is right.
fn change(bytes: &mut Unstructured<'_>, disk: &mut SimDisk) -> arbitrary::Result<()> {
    let table = *bytes.choose(&TABLES)?;
    let known = pairs(disk, table);
    let (key, mut value) = if known.is_empty() { bytes.arbitrary()? } else { bytes.choose(&known)?.clone() };
    let mut batch = WriteBatch::default();
    match bytes.int_in_range(0..=5)? {
        0 => batch.delete(table, key),
        1 => batch.put(table, key, bytes.arbitrary()?),
        2 => batch.put(table, bytes.arbitrary()?, value),
        3 => {
            let at = bytes.int_in_range(0..=value.len())?;
            value.truncate(at);
            batch.put(table, key, value);
        }
        4 if !value.is_empty() => {
            let at = bytes.choose_index(value.len())?;
            value[at] ^= bytes.int_in_range(1..=255)?;
            batch.put(table, key, value);
        }
        _ if value.len() > CHECKSUM_BYTES => {
            let mut body = value.split_off(CHECKSUM_BYTES);
            let at = bytes.choose_index(body.len())?;
            body[at] = bytes.arbitrary()?;
            batch.put(table, key, seal(&Raw(&body)));
        }
        _ => batch.put(table, key, Vec::new()),
    }
    disk.write(batch).expect("a disk in memory is written");
    Ok(())
}

/// Bytes that encode as they are.
struct Raw<'a>(&'a [u8]);

impl serde::Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

fn holds_together(found: &Recovered) {
    let mut end = found.committed;
    for record in &found.tail {
        assert!(record.entry.is_intact());
        assert_eq!((record.entry.index.before(), record.entry.prev_hash), end, "the tail follows");
        end = (record.entry.index, record.entry.hash);
    }
    assert!(found.recent.iter().all(|(index, _)| *index <= found.committed.0));
}

fn run(data: &[u8]) -> arbitrary::Result<()> {
    let mut bytes = Unstructured::new(data);
    let logged = bytes.int_in_range(0..=4)?;
    let applied = bytes.int_in_range(0..=logged)?;
    let mut disk = filled(logged, applied);
    for _ in 0..bytes.int_in_range(0..=4)? {
        change(&mut bytes, &mut disk)?;
    }
    let Ok((storage, found)) = store::try_open(&disk) else { return Ok(()) };
    holds_together(&found);
    let held = (storage.applied(), storage.digest());
    drop(storage);
    let (storage, again) = store::try_open(&disk).expect("what was found once is found again");
    assert_eq!((storage.applied(), storage.digest()), held);
    assert_eq!(again, found);
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data); // Too few bytes are no run.
});
