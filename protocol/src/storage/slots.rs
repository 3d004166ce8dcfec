//! The log as a table: one sealed record an index, without gaps, from the oldest that is kept to the end.
//!
//! - Whatever puts a record drops all behind it in the same batch: a left-over tail never lies behind a new record.
//! - Applied entries beyond `log_retain_entries` or `log_retain_bytes` are dropped, a few with each that is applied, but none
//!   that a pinned snapshot's taker will ask for, nor the newest.
//!
//! Not here: which record may replace which (`replica.rs`).

use crate::ids::{Attempt, Hash, Index, ViewNumber};
use crate::log::{Entry, LogRecord, seal, unseal};
use crate::storage::StorageError;
use crate::storage::kv::{Direction, KeyRange, Kv, ReadKv, Table, WriteBatch};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How many old records go with each entry that is applied: more than one, so that a log that was kept for a joining node
/// shrinks again; few, so that no write waits for it. Of records that are smaller than that entry, as many as make up its
/// size twice.
const RETIRED_PER_ENTRY_MAX: u64 = 8;

/// Which slots are filled: from `first` to `end`, both included; empty when `end` is right before `first`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slots {
    first: Index,
    end: Index,
    /// The size of each record, the oldest first, and all of them together. Bytes.
    sizes: VecDeque<u32>,
    bytes: u64,
}

/// How much of the log is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    /// Nothing behind this one goes: it is applied, and nobody asks for what is before it.
    pub unneeded: Index,
    /// The most records that are kept of those.
    pub entries: u64,
    /// The most bytes of records.
    pub bytes: u64,
}

fn size_of(record: &[u8]) -> u32 {
    u32::try_from(record.len()).unwrap_or(u32::MAX)
}

fn key(index: Index) -> Vec<u8> {
    index.0.to_be_bytes().to_vec()
}

fn damaged(index: Index, reason: impl Into<String>) -> StorageError {
    StorageError::Damaged { place: format!("log record {index}"), reason: reason.into() }
}

fn index_of(key: &[u8]) -> Result<Index, StorageError> {
    let bytes = key.try_into().map_err(|_| damaged(Index(0), "its key is no index"))?;
    Ok(Index(u64::from_be_bytes(bytes)))
}

fn decode(index: Index, bytes: &[u8]) -> Result<LogRecord, StorageError> {
    let record: LogRecord = unseal(bytes).map_err(|error| damaged(index, error.to_string()))?;
    if record.entry.index != index {
        return Err(damaged(index, format!("it is that of {}", record.entry.index)));
    }
    Ok(record)
}

/// Shows the records after `after`, in order, with their size in bytes.
fn scan<K: ReadKv>(
    kv: &K,
    after: Index,
    visit: &mut dyn FnMut(LogRecord, usize) -> Result<ControlFlow<()>, StorageError>,
) -> Result<(), StorageError> {
    let range = KeyRange { from: key(after.next()), to: None };
    kv.scan(Table::Log, &range, Direction::Forward, &mut |key, value| {
        visit(decode(index_of(key)?, value)?, value.len())
    })
}

impl Slots {
    /// An empty log, whose next record follows `applied`.
    pub(super) fn after(applied: Index) -> Self {
        Self { first: applied.next(), end: applied, sizes: VecDeque::new(), bytes: 0 }
    }

    /// What is in the table; when that is nothing, the next record follows `applied`. Reads all of it.
    pub(super) fn find<K: Kv>(kv: &K, applied: Index) -> Result<Self, StorageError> {
        let mut found = Self::after(applied);
        kv.scan(Table::Log, &KeyRange::all(), Direction::Forward, &mut |key, value| {
            let index = index_of(key)?;
            if found.sizes.is_empty() {
                found.first = index;
            } else if index != found.end.next() {
                return Err(damaged(found.end.next(), "it is missing, and later ones are there"));
            }
            found.end = index;
            found.grow(size_of(value));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    fn grow(&mut self, size: u32) {
        self.sizes.push_back(size);
        self.bytes += u64::from(size);
    }

    pub(super) fn first(&self) -> Index {
        self.first
    }

    pub(super) fn end(&self) -> Index {
        self.end
    }

    /// Whether a record may be put here: in a filled slot, or right behind the last.
    pub(super) fn may_hold(&self, index: Index) -> bool {
        self.first <= index && index <= self.end.next()
    }

    /// Puts a record and drops all behind it.
    pub(super) fn put(&mut self, batch: &mut WriteBatch, record: &LogRecord) {
        let index = record.entry.index;
        assert!(self.may_hold(index), "the log has no gaps");
        self.cut(batch, index.before());
        let bytes = seal(record);
        self.grow(size_of(&bytes));
        batch.put(Table::Log, key(index), bytes);
        self.end = index;
    }

    /// Puts a record whose entry is there already, under another attempt: what lies behind it is in doubt as before, and
    /// may be all that is left of what some client was told.
    pub(super) fn restamp(batch: &mut WriteBatch, record: &LogRecord) {
        batch.put(Table::Log, key(record.entry.index), seal(record));
    }

    /// Drops all behind this slot.
    pub(super) fn cut(&mut self, batch: &mut WriteBatch, last: Index) {
        let last = last.max(self.first.before());
        while self.end > last {
            batch.delete(Table::Log, key(self.end));
            self.end = self.end.before();
            self.bytes -= u64::from(self.sizes.pop_back().unwrap_or_default());
        }
    }

    /// Drops a few of the oldest records, as far as they need not be kept.
    pub(super) fn retire(&mut self, batch: &mut WriteBatch, kept: Retention) {
        let budget = 2 * u64::from(self.sizes.back().copied().unwrap_or_default());
        let (mut count, mut bytes) = (0, 0);
        while self.first < kept.unneeded && (count < RETIRED_PER_ENTRY_MAX || bytes < budget) {
            let is_old = kept.unneeded.0 - self.first.0 >= kept.entries;
            let Some(size) = self.sizes.front().copied().filter(|_| is_old || self.bytes > kept.bytes) else { return };
            batch.delete(Table::Log, key(self.first));
            self.sizes.pop_front();
            self.first = self.first.next();
            self.bytes -= u64::from(size);
            (count, bytes) = (count + 1, bytes + u64::from(size));
        }
    }

    /// The record in a slot, if it is filled.
    pub(super) fn read<K: Kv>(&self, kv: &K, index: Index) -> Result<Option<LogRecord>, StorageError> {
        kv.get(Table::Log, &key(index))?.map(|bytes| decode(index, &bytes)).transpose()
    }

    /// The chain at a slot, or right before the first; none when the log does not reach there.
    pub(super) fn hash_at<K: Kv>(&self, kv: &K, index: Index) -> Result<Option<Hash>, StorageError> {
        match self.read(kv, index)? {
            Some(record) => Ok(Some(record.entry.hash)),
            None if index.next() == self.first => Ok(self.read(kv, self.first)?.map(|record| record.entry.prev_hash)),
            None => Ok(None),
        }
    }

    /// All records after `after`, checked: each follows the one before it, and the first the chain at `after`.
    pub(super) fn tail<K: Kv>(&self, kv: &K, after: Index, hash: Hash) -> Result<Vec<LogRecord>, StorageError> {
        let mut end = (after, hash);
        let mut records = Vec::new();
        scan(kv, after, &mut |record, _| {
            let entry = &record.entry;
            if !entry.is_intact() || (entry.index.before(), entry.prev_hash) != end {
                return Err(damaged(entry.index, format!("it does not follow {} ({})", end.0, end.1)));
            }
            end = (entry.index, entry.hash);
            records.push(record);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(records)
    }

    /// Entries after `after` up to `last`, of `bytes_max` together, unless one alone is larger.
    pub(super) fn entries<K: Kv>(
        &self,
        kv: &K,
        after: Index,
        last: Index,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Entry>>, StorageError> {
        let mut entries = Vec::new();
        let mut bytes = 0_usize;
        scan(kv, after, &mut |record, size| {
            bytes = bytes.saturating_add(size);
            if record.entry.index > last || (bytes > bytes_max && !entries.is_empty()) {
                return Ok(ControlFlow::Break(()));
            }
            entries.push(record.entry);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(entries)
    }
}

/// The record of an entry that came committed, by synchronisation: nobody voted for it here.
pub(super) fn committed(entry: &Arc<Entry>) -> LogRecord {
    LogRecord {
        entry: Arc::clone(entry),
        view: ViewNumber::default(),
        attempt: Attempt::default(),
        commit_index: entry.index,
    }
}

/// Where the log begins and ends, after a look at every record: each is intact and follows the one before it, and the one at
/// the last applied entry is the one that was applied.
pub(super) fn check_chain<K: ReadKv>(kv: &K, applied: Index, hash: Hash) -> Result<(Index, Index), StorageError> {
    let mut span = None;
    let mut before: Option<Hash> = None;
    scan(kv, Index(0), &mut |record, _| {
        let entry = &record.entry;
        let (first, end) = span.unwrap_or((entry.index, entry.index.before()));
        if entry.index != end.next() {
            return Err(damaged(end.next(), "it is missing, and later ones are there"));
        }
        if !entry.is_intact() || before.is_some_and(|before| entry.prev_hash != before) {
            return Err(damaged(entry.index, format!("it does not follow {end}")));
        }
        let differs =
            entry.index == applied && entry.hash != hash || entry.index.before() == applied && entry.prev_hash != hash;
        if differs {
            return Err(damaged(entry.index, format!("the store was applied from another one ({hash})")));
        }
        (span, before) = (Some((first, entry.index)), Some(entry.hash));
        Ok(ControlFlow::Continue(()))
    })?;
    let (first, end) = span.unwrap_or((applied.next(), applied));
    if end < applied {
        return Err(damaged(applied, format!("it is gone; the log ends at {end}")));
    }
    Ok((first, end))
}

/// Writes records again as they are (section 9).
pub(super) fn rewrite(batch: &mut WriteBatch, records: &[LogRecord]) {
    records.iter().for_each(|record| batch.put(Table::Log, key(record.entry.index), seal(record)));
}
