//! The store as it will be: what is on disk, and over it what the entry at work has changed so far.
//!
//! So each operation of a batch meets the state that those before it leave, and all of them reach the disk at once.
//!
//! Not here: ranges over what is not yet written; nothing that is applied needs them.

use crate::storage::StorageError;
use crate::storage::kv::{Kv, Table, WriteBatch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an entry changes in the store table.
pub(super) struct Changes<'a, K> {
    kv: &'a K,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// What was read back is not what was written.
pub(super) fn damaged(key: &[u8], reason: impl Into<String>) -> StorageError {
    StorageError::Damaged { place: format!("store key \"{}\"", key.escape_ascii()), reason: reason.into() }
}

/// What most records take at most. Bytes.
const RECORD_BYTES: usize = 64;

/// Postcard has one encoding for one value, so equal stores are equal bytes.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let bytes = postcard::to_extend(value, Vec::with_capacity(RECORD_BYTES)).unwrap_or_default();
    debug_assert!(!bytes.is_empty(), "what is stored always encodes");
    bytes
}

pub(super) fn decode<'b, T: Deserialize<'b>>(key: &[u8], bytes: &'b [u8]) -> Result<T, StorageError> {
    postcard::from_bytes(bytes).map_err(|error| damaged(key, error.to_string()))
}

impl<'a, K: Kv> Changes<'a, K> {
    pub(super) fn new(kv: &'a K) -> Self {
        Self { kv, writes: BTreeMap::new() }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        match self.writes.get(key) {
            Some(written) => Ok(written.clone()),
            None => self.kv.get(Table::Store, key),
        }
    }

    pub(super) fn read<T: for<'b> Deserialize<'b>>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        self.get(key)?.map(|bytes| decode(key, &bytes)).transpose()
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.insert(key, Some(value));
    }

    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.writes.insert(key, None);
    }

    pub(super) fn kv(&self) -> &'a K {
        self.kv
    }

    pub(super) fn into_batch(self) -> WriteBatch {
        WriteBatch { writes: self.writes.into_iter().map(|(key, value)| (Table::Store, key, value)).collect() }
    }
}
