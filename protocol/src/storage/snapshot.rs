//! Snapshots: given to a joining node in chunks, and taken.
//!
//! A snapshot is the store table's pairs; the table says itself where it ends. From `InstallBegin` until `InstallEnd` a mark
//! stands on the disk, flushed before anything is dropped: a restart in between finds nothing, and keeps the vote.
//!
//! Not here: sessions, checksums on the way, and when to begin again (`sync.rs`).

use crate::ids::{Hash, Index, SessionId, WriteId};
use crate::message::Pair;
use crate::storage::kv::{KeyRange, Kv, Table, WriteBatch};
use crate::storage::recover::INSTALLING;
use crate::storage::slots::Slots;
use crate::storage::{Storage, StorageError, StorageEvent, Writer};
use crate::store::{self, Hints, State};
use std::ops::ControlFlow;

impl<K: Kv> Storage<K> {
    pub(super) fn pin(&mut self, session: SessionId) -> Result<Option<StorageEvent>, StorageError> {
        if self.installing {
            return Ok(None);
        }
        self.kv.pin()?;
        let State { index, hash, last_timestamp, .. } = self.state;
        self.pinned = Some((session, index));
        Ok(Some(StorageEvent::Pinned { session, index, hash, last_timestamp, bytes: self.kv.store_bytes() }))
    }

    pub(super) fn unpin(&mut self, session: SessionId) {
        if self.pinned.is_some_and(|(pinned, _)| pinned == session) {
            self.pinned = None;
            self.kv.unpin();
        }
    }

    pub(super) fn read_chunk(
        &self,
        session: SessionId,
        cursor: Option<Vec<u8>>,
        bytes_max: usize,
    ) -> Result<StorageEvent, StorageError> {
        let is_pinned = self.pinned.is_some_and(|(pinned, _)| pinned == session);
        let chunk = if is_pinned { Some(self.chunk(cursor.as_deref(), bytes_max)?) } else { None };
        Ok(StorageEvent::ChunkRead { session, cursor, chunk })
    }

    /// The pairs after a key, and whether they are the last.
    fn chunk(&self, cursor: Option<&[u8]>, bytes_max: usize) -> Result<(Vec<Pair>, bool), StorageError> {
        let range = cursor.map_or_else(KeyRange::all, KeyRange::after);
        let mut pairs: Vec<Pair> = Vec::new();
        let mut bytes = 0_usize;
        let mut is_last = true;
        self.kv.scan_pinned(&range, &mut |key, value| {
            bytes = bytes.saturating_add(key.len() + value.len());
            if bytes > bytes_max && !pairs.is_empty() {
                is_last = false;
                return Ok(ControlFlow::Break(()));
            }
            pairs.push((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((pairs, is_last))
    }

    pub(super) fn install_begin(&mut self) -> Result<(), StorageError> {
        self.pinned = None;
        self.kv.unpin();
        let mut batch = WriteBatch::default();
        batch.put(Table::Meta, INSTALLING.to_vec(), Vec::new());
        self.kv.write(batch)?;
        self.kv.flush()?;
        self.kv.clear(Table::Log)?;
        self.kv.clear(Table::Store)?;
        self.installing = true;
        self.state = State::default();
        self.slots = Slots::after(Index(0));
        self.hints = Hints::default();
        self.is_dirty = true;
        Ok(())
    }

    pub(super) fn install_chunk(
        &mut self,
        write: WriteId,
        pairs: Vec<Pair>,
    ) -> Result<Option<StorageEvent>, StorageError> {
        if !self.installing {
            return Ok(None);
        }
        let mut batch = WriteBatch::default();
        pairs.into_iter().for_each(|(key, value)| batch.put(Table::Store, key, value));
        self.kv.write(batch)?;
        Ok(Some(self.durable(write, Writer::Sync)))
    }

    pub(super) fn install_end(
        &mut self,
        write: WriteId,
        index: Index,
        hash: Hash,
    ) -> Result<Option<StorageEvent>, StorageError> {
        if !self.installing {
            return Ok(None);
        }
        // What is no state at all does not end where it should either.
        let state = store::state(&self.kv).unwrap_or_default();
        if (state.index, state.hash) != (index, hash) {
            return Ok(Some(StorageEvent::Mismatch { write }));
        }
        let mut batch = WriteBatch::default();
        batch.delete(Table::Meta, INSTALLING.to_vec());
        self.kv.write(batch)?;
        self.installing = false;
        self.state = state;
        self.slots = Slots::after(index);
        self.has_new_members = true;
        Ok(Some(self.durable(write, Writer::Sync)))
    }
}
