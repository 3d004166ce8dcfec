//! Serves the machines' requests in order, and flushes once for all that waited.
//!
//! - `Durable` is said after the flush that covers the write, never before.
//! - Two machines ask, the replica and sync, each without seeing what the other has on its way. So a request that does not
//!   fit what is there any more (a slot beyond a gap, an entry that is applied already, anything while a snapshot is being
//!   installed) does nothing and is not answered: a write that did not happen is never called durable.
//! - A committed entry that does not follow the store's history is no such thing: the node ends (S5).
//!
//! Not here: what is found at start (`recover.rs`), snapshots (`snapshot.rs`), the log's slots (`slots.rs`).

use crate::change::Change;
use crate::ids::{Hash, Index, SessionId, WriteId};
use crate::log::{Batch, Entry, LogRecord, seal};
use crate::machine::Limits;
use crate::operation::Outcome;
use crate::storage::kv::{Kv, Table, WriteBatch};
use crate::storage::recover::VOTE;
use crate::storage::slots::{self, Retention, Slots};
use crate::storage::{StorageError, StorageEvent, StorageRequest, VoteRecord, Writer};
use crate::store::{self, Hints, State};
use std::sync::Arc;

/// What one node keeps, and who serves it.
#[derive(Clone, Debug)]
pub struct Storage<K> {
    pub(super) kv: K,
    pub(super) limits: Limits,
    /// How far the store is applied; what the table says too, except while a snapshot is being installed.
    pub(super) state: State,
    pub(super) slots: Slots,
    /// Whose snapshot is pinned, and the last entry that it holds.
    pub(super) pinned: Option<(SessionId, Index)>,
    pub(super) installing: bool,
    pub(super) hints: Hints,
    /// Something was written that must be durable before it is answered.
    pub(super) is_dirty: bool,
    /// Members were added or removed, and nobody was told.
    pub(super) has_new_members: bool,
}

impl<K: Kv> Storage<K> {
    /// Serves requests in order. Every answer may be passed on: what it says is durable is.
    ///
    /// # Errors
    /// When the engine fails, or what it holds is damaged. The node ends: nothing is tried again in place.
    pub fn perform(&mut self, requests: Vec<StorageRequest>) -> Result<Vec<StorageEvent>, StorageError> {
        self.perform_watched(requests, &mut |_, _| {})
    }

    /// The same, for one who wants to see the tables as they are at one index: `watch` is called after each request with them
    /// and the last applied entry.
    ///
    /// # Errors
    /// As [`Storage::perform`].
    pub fn perform_watched(
        &mut self,
        requests: Vec<StorageRequest>,
        watch: &mut dyn FnMut(&K, Index),
    ) -> Result<Vec<StorageEvent>, StorageError> {
        let mut events = Vec::new();
        for request in requests {
            let event = self.serve(request)?;
            if !self.installing {
                watch(&self.kv, self.state.index);
            }
            if std::mem::take(&mut self.has_new_members) {
                events.push(StorageEvent::Members { members: store::members(&self.kv)? });
            }
            events.extend(event);
        }
        if self.is_dirty {
            self.kv.flush()?;
            self.is_dirty = false;
        }
        Ok(events)
    }

    /// A hash over the whole store: equal on replicas that applied the same entries (S5). Reads everything.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn digest(&self) -> Result<Hash, StorageError> {
        store::digest(&self.kv)
    }

    /// The records of the last view changes, oldest first; none while a snapshot is being installed.
    ///
    /// # Errors
    /// When the engine fails, or the table is damaged.
    pub fn view_changes(&self, limit: usize) -> Result<Vec<Change>, StorageError> {
        if self.installing { Ok(Vec::new()) } else { store::view_changes(&self.kv, limit) }
    }

    /// The last applied entry, and the chain there.
    #[must_use]
    pub fn applied(&self) -> (Index, Hash) {
        (self.state.index, self.state.hash)
    }

    /// Where the log begins and ends; it is empty when it ends before it begins.
    #[must_use]
    pub fn log_span(&self) -> (Index, Index) {
        (self.slots.first(), self.slots.end())
    }

    /// The record in a slot of the log, if it is filled.
    ///
    /// # Errors
    /// When the engine fails, or the record is damaged.
    pub fn log_record(&self, index: Index) -> Result<Option<LogRecord>, StorageError> {
        self.slots.read(&self.kv, index)
    }

    /// The engine, for those who look after it.
    pub fn kv_mut(&mut self) -> &mut K {
        &mut self.kv
    }

    fn serve(&mut self, request: StorageRequest) -> Result<Option<StorageEvent>, StorageError> {
        match request {
            StorageRequest::WriteVote { write, vote } => self.write_vote(write, &vote).map(Some),
            StorageRequest::WriteLog { write, record } => self.write_log(write, &record),
            StorageRequest::Apply { entry } => self.apply(&entry),
            StorageRequest::Locate { request, id } => {
                let channel = if self.installing { None } else { store::locate(&self.kv, id)? };
                Ok(Some(StorageEvent::Located { request, channel }))
            }
            StorageRequest::Examine { round, operations } => {
                let verdicts = if self.installing { Vec::new() } else { store::examine(&self.kv, &operations)? };
                let State { keys_at, index, .. } = self.state;
                Ok(Some(StorageEvent::Examined { round, verdicts, keys_at, index }))
            }
            StorageRequest::Query { request, query } => {
                let found = if self.installing { store::nothing(&query) } else { store::query(&self.kv, &query)? };
                Ok(Some(StorageEvent::Queried { request, found, index: self.state.index }))
            }
            StorageRequest::Pin { session } => self.pin(session),
            StorageRequest::ReadChunk { session, cursor, bytes_max } => {
                self.read_chunk(session, cursor, bytes_max).map(Some)
            }
            StorageRequest::Unpin { session } => {
                self.unpin(session);
                Ok(None)
            }
            StorageRequest::ReadLog { session, after, bytes_max } => self.read_log(session, after, bytes_max).map(Some),
            StorageRequest::DropTail => self.drop_tail().map(|()| None),
            StorageRequest::InstallBegin => self.install_begin().map(|()| None),
            StorageRequest::InstallChunk { write, pairs } => self.install_chunk(write, pairs),
            StorageRequest::InstallEnd { write, index, hash } => self.install_end(write, index, hash),
            StorageRequest::WriteCommitted { write, entries } => self.write_committed(write, &entries),
        }
    }

    /// To be said after the next flush, which `perform` does before it says anything.
    pub(super) fn durable(&mut self, write: WriteId, by: Writer) -> StorageEvent {
        self.is_dirty = true;
        StorageEvent::Durable { write, by }
    }

    fn write_vote(&mut self, write: WriteId, vote: &VoteRecord) -> Result<StorageEvent, StorageError> {
        let mut batch = WriteBatch::default();
        batch.put(Table::Meta, VOTE.to_vec(), seal(vote));
        self.kv.write(batch)?;
        Ok(self.durable(write, Writer::Replica))
    }

    fn write_log(&mut self, write: WriteId, record: &LogRecord) -> Result<Option<StorageEvent>, StorageError> {
        let entry = &record.entry;
        let fits = !self.installing && entry.index > self.state.index && self.slots.may_hold(entry.index);
        if !fits || self.chain_before(entry.index)? != Some(entry.prev_hash) {
            return Ok(None);
        }
        let mut batch = WriteBatch::default();
        let is_there = entry.index <= self.slots.end()
            && self.slots.read(&self.kv, entry.index)?.is_some_and(|known| known.entry.hash == entry.hash);
        if is_there {
            Slots::restamp(&mut batch, record);
        } else {
            self.slots.put(&mut batch, record);
        }
        self.kv.write(batch)?;
        Ok(Some(self.durable(write, Writer::Replica)))
    }

    /// The chain right before a slot above the applied ones.
    fn chain_before(&self, index: Index) -> Result<Option<Hash>, StorageError> {
        match index.before() {
            before if before == self.state.index => Ok(Some(self.state.hash)),
            before => self.slots.hash_at(&self.kv, before),
        }
    }

    fn apply(&mut self, entry: &Arc<Entry>) -> Result<Option<StorageEvent>, StorageError> {
        if self.installing || entry.index > self.state.index.next() {
            return Ok(None);
        }
        if entry.index <= self.state.index {
            // Sync brought it meanwhile; what its operations did is in the store.
            let known = self.slots.hash_at(&self.kv, entry.index)? == Some(entry.hash);
            return Ok(known.then(|| StorageEvent::Applied { index: entry.index, outcomes: Vec::new() }));
        }
        let mut batch = WriteBatch::default();
        if self.slots.end() < entry.index {
            // Sync dropped the tail meanwhile; a commit is true for ever, and the log has no gaps.
            self.slots.put(&mut batch, &slots::committed(entry));
        }
        let outcomes = self.apply_entry(entry, batch)?;
        Ok(Some(StorageEvent::Applied { index: entry.index, outcomes }))
    }

    /// Applies the entry after the last one, and writes it together with `batch`.
    pub(super) fn apply_entry(
        &mut self,
        entry: &Arc<Entry>,
        mut batch: WriteBatch,
    ) -> Result<Vec<Outcome>, StorageError> {
        if entry.prev_hash != self.state.hash || entry.index != self.state.index.next() {
            return Err(StorageError::Damaged {
                place: format!("entry {}", entry.index),
                reason: format!("it is said to be committed, and does not follow {}", self.state.hash),
            });
        }
        let applied = store::apply(&self.kv, &self.state, entry, &mut self.hints)?;
        batch.writes.extend(applied.changes.writes);
        let kept = self.retention(entry.index);
        self.slots.retire(&mut batch, kept);
        self.kv.write(batch)?;
        self.state = applied.state;
        self.has_new_members |= matches!(entry.batch, Batch::View(_) | Batch::Remove(_));
        Ok(applied.outcomes)
    }

    /// What the log keeps (section 4): of a pinned snapshot, all that follows it.
    fn retention(&self, applied: Index) -> Retention {
        let unneeded = self.pinned.map_or(applied, |(_, index)| applied.min(index.next()));
        let entries = self.limits.log_retain_entries.saturating_sub(applied.0 - unneeded.0);
        Retention { unneeded, entries, bytes: self.limits.log_retain_bytes }
    }

    fn read_log(&self, session: SessionId, after: Index, bytes_max: usize) -> Result<StorageEvent, StorageError> {
        let applied = self.state.index;
        let hash = match after {
            _ if self.installing || after > applied => None,
            _ if after == applied => Some(self.state.hash),
            _ => self.slots.hash_at(&self.kv, after)?,
        };
        let entries = match hash {
            Some(_) => self.slots.entries(&self.kv, after, applied, bytes_max)?,
            None => Vec::new(),
        };
        Ok(StorageEvent::LogRead { session, after, hash, entries, applied })
    }

    fn drop_tail(&mut self) -> Result<(), StorageError> {
        let mut batch = WriteBatch::default();
        self.slots.cut(&mut batch, self.state.index);
        self.kv.write(batch)?;
        self.is_dirty = true;
        Ok(())
    }

    fn write_committed(
        &mut self,
        write: WriteId,
        entries: &[Arc<Entry>],
    ) -> Result<Option<StorageEvent>, StorageError> {
        if self.installing {
            return Ok(None);
        }
        let applied = self.state.index;
        for entry in entries.iter().skip_while(|entry| entry.index <= applied) {
            if entry.index != self.state.index.next() || entry.prev_hash != self.state.hash {
                return Ok(Some(StorageEvent::Mismatch { write }));
            }
            let mut batch = WriteBatch::default();
            self.slots.put(&mut batch, &slots::committed(entry));
            self.apply_entry(entry, batch)?;
        }
        Ok(Some(self.durable(write, Writer::Sync)))
    }
}
