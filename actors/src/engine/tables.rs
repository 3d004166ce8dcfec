//! The keyspaces of the engine, and which key lies in which.
//!
//! A keyspace is a log-structured merge tree: what is only ever appended to one is never merged, and what is not is merged
//! again and again. So each kind of key of the store of which there are many has a keyspace of its own: messages of busy
//! channels and what lies in the order of posting is written out once, and only idempotency keys, which are random, are merged.
//!
//! Not here: what the keys mean (`lockstep_protocol::store`).

use super::engine_error;
use fjall::compaction::Leveled;
use fjall::config::{CompressionPolicy, FilterPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions};
use lockstep_protocol::storage::StorageError;
use lockstep_protocol::storage::kv::{Direction, KeyRange, Table};
use std::sync::Arc;

/// The size of a table. A merge takes some sixteen of them at a time, and no buffer is written out meanwhile. Bytes.
const TABLE_BYTES: u64 = 8 << 20;
/// How many buffers are written out before they are merged with the first level, which is as large as so many tables: the more of them,
/// the less often it is written again. Each is one more place for a read to look at, and the engine holds writes up at twenty.
const UNMERGED_MAX: u8 = 8;
/// What is buffered of the vote, and of the number of flushes, which changes with each. Bytes.
const META_BUFFER_BYTES: u64 = 4 << 20;
/// The same of the log, which is seldom read.
const LOG_BUFFER_BYTES: u64 = 8 << 20;
/// The same of all kinds of which there are few.
const REST_BUFFER_BYTES: u64 = 4 << 20;
/// The kinds of which there are many, in order, and what is buffered of each before it goes to a table; up to four of them may wait. Bytes.
const KINDS: [(u8, &str, u64); 4] =
    [(b'i', "store-i", 3 << 20), (b'k', "store-k", 8 << 20), (b'm', "store-m", 8 << 20), (b'x', "store-x", 4 << 20)];

/// The engine's keyspaces. Copies are handles on the same.
#[derive(Clone)]
pub(super) struct Tables {
    pub meta: Keyspace,
    log: Keyspace,
    rest: Keyspace,
    kinds: [(u8, Keyspace); KINDS.len()],
}

impl Tables {
    pub fn open(database: &Database) -> Result<Self, StorageError> {
        let open = |name: &str, buffer_bytes: u64, options: KeyspaceCreateOptions| {
            let merging = Leveled::default().with_l0_threshold(UNMERGED_MAX).with_table_target_size(TABLE_BYTES);
            let options = || options.max_memtable_size(buffer_bytes).compaction_strategy(Arc::new(merging));
            database.keyspace(name, options).map_err(engine_error)
        };
        let usual = KeyspaceCreateOptions::default;
        let log = usual()
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
            .filter_policy(FilterPolicy::disabled());
        let [i, k, m, x] = KINDS.map(|(kind, name, buffer_bytes)| Ok((kind, open(name, buffer_bytes, usual())?)));
        Ok(Self {
            meta: open("meta", META_BUFFER_BYTES, usual())?,
            log: open("log", LOG_BUFFER_BYTES, log)?,
            rest: open("store", REST_BUFFER_BYTES, usual())?,
            kinds: [i?, k?, m?, x?],
        })
    }

    /// Where a key lies.
    pub fn of(&self, table: Table, key: &[u8]) -> &Keyspace {
        match table {
            Table::Meta => &self.meta,
            Table::Log => &self.log,
            Table::Store => {
                let kind = self.kinds.iter().find(|(kind, _)| key.first() == Some(kind));
                kind.map_or(&self.rest, |(_, keyspace)| keyspace)
            }
        }
    }

    /// All keyspaces in which keys of a table lie.
    pub fn all_of(&self, table: Table) -> Vec<&Keyspace> {
        match table {
            Table::Meta => vec![&self.meta],
            Table::Log => vec![&self.log],
            Table::Store => std::iter::once(&self.rest).chain(self.kinds.iter().map(|(_, kind)| kind)).collect(),
        }
    }

    /// Where the keys of a range lie: parts that make it up, in the order of the scan.
    pub fn parts(&self, table: Table, range: &KeyRange, direction: Direction) -> Vec<(&Keyspace, KeyRange)> {
        let mut parts = Vec::new();
        if table != Table::Store {
            parts.push((self.of(table, &range.from), range.clone()));
            parts.retain(|(_, part)| !part.is_empty());
            return parts;
        }
        let mut from = range.from.clone();
        for (kind, keyspace) in &self.kinds {
            for (end, keyspace) in [(*kind, &self.rest), (kind + 1, keyspace)] {
                let end = vec![end];
                if from < end {
                    let to = range.to.clone().filter(|to| *to < end).unwrap_or_else(|| end.clone());
                    parts.push((keyspace, KeyRange { from: std::mem::replace(&mut from, end), to: Some(to) }));
                }
            }
        }
        parts.push((&self.rest, KeyRange { from, to: range.to.clone() }));
        parts.retain(|(_, part)| !part.is_empty());
        if direction == Direction::Reverse {
            parts.reverse();
        }
        parts
    }
}
