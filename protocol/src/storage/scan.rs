//! Reads all that a node holds, once: every pair of the store and every record of the log, as they were frozen at one index.
//!
//! What cannot be read, or is not what was written, is an error, and so is a log that does not lead to the store.
//!
//! Not here: freezing (the engine), and comparing with other replicas (`verify.rs`).

use crate::ids::{Hash, Index};
use crate::storage::kv::{Direction, KeyRange, ReadKv, Table};
use crate::storage::slots;
use crate::storage::{Storage, StorageError};
use crate::store::{self, State};
use crate::verify::Scan;
use std::ops::ControlFlow;

/// Reads everything. Takes as long as that does; for a thread that nobody waits on.
///
/// # Errors
/// When the engine fails, or what it holds is damaged.
pub fn scan<R: ReadKv>(frozen: &R) -> Result<Scan, StorageError> {
    let State { index, hash, .. } = store::state(frozen)?;
    let (log_first, log_end) = slots::check_chain(frozen, index, hash)?;
    let mut hasher = blake3::Hasher::new();
    let (mut pairs, mut bytes) = (0, 0);
    frozen.scan(Table::Store, &KeyRange::all(), Direction::Forward, &mut |key, value| {
        store::digest_pair(&mut hasher, key, value);
        pairs += 1;
        bytes += (key.len() + value.len()) as u64;
        Ok(ControlFlow::Continue(()))
    })?;
    let digest = Hash(*hasher.finalize().as_bytes());
    Ok(Scan { index, hash, digest, pairs, bytes, log_first, log_end })
}

impl<K: super::kv::Kv> Storage<K> {
    /// The chain at an index that the log still knows, up to the last applied entry.
    ///
    /// # Errors
    /// When the engine fails, or the record is damaged.
    pub fn chain_at(&self, index: Index) -> Result<Option<Hash>, StorageError> {
        match index {
            _ if self.installing || index > self.state.index => Ok(None),
            _ if index == self.state.index => Ok(Some(self.state.hash)),
            _ => self.slots.hash_at(&self.kv, index),
        }
    }

    /// Whether its store is whole: not while a snapshot is being installed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.installing
    }
}
