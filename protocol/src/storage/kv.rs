//! The small ordered table that everything durable lies in: what an engine must offer, and nothing more.
//!
//! Rules for an engine: a [`WriteBatch`] takes effect whole or not at all, and after a crash never without all batches
//! before it; what a `flush` covered survives power loss; what is read after opening is as if just written: a flush that
//! failed in an earlier life counts for nothing, and the first one that succeeds covers it (section 9).
//!
//! Not here: what lies in the tables (`storage.rs`, `store.rs`), and the engines (`sim/disk.rs`, and the actors' own).

use crate::storage::StorageError;
use std::ops::ControlFlow;

/// The tables. Keys are ordered bytewise in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Of this node: identity and vote.
    Meta,
    /// Of this node: log records by index.
    Log,
    /// Replicated: equal histories make it byte-equal.
    Store,
}

/// All tables, in order.
pub const TABLES: [Table; 3] = [Table::Meta, Table::Log, Table::Store];

/// Keys from the first, inclusive, to the second, exclusive; without a second, to the end of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that may be in it.
    pub from: Vec<u8>,
    /// The first key that is not in it any more.
    pub to: Option<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self { from: Vec::new(), to: None }
    }

    /// The keys after this one.
    #[must_use]
    pub fn after(key: &[u8]) -> Self {
        let mut from = key.to_vec();
        from.push(0);
        Self { from, to: None }
    }

    /// Whether no key can be in it, because it ends before it begins.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

/// In which order a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Reverse,
}

/// What sees a scan's pairs, key and value, until it breaks off. Its errors end the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StorageError>;

/// One change: the table, the key, and its new value; none deletes the key.
pub type Write = (Table, Vec<u8>, Option<Vec<u8>>);

/// Changes that take effect together, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// The changes.
    pub writes: Vec<Write>,
}

impl WriteBatch {
    /// Sets a value.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push((table, key, Some(value)));
    }

    /// Removes a key; one that is not there is no error.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.writes.push((table, key, None));
    }
}

/// What can be read: an engine, or what was frozen of one.
pub trait ReadKv {
    /// The value of a key.
    ///
    /// # Errors
    /// When the engine fails.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// Shows pairs until the visitor breaks off. Lazy: what is not visited costs nothing.
    ///
    /// # Errors
    /// When the engine or the visitor fails.
    fn scan(&self, table: Table, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError>;
}

/// An engine. After an error nothing more is asked of it: the node ends.
pub trait Kv: ReadKv {
    /// Carries out a batch; not yet durable.
    ///
    /// # Errors
    /// When the engine fails.
    fn write(&mut self, batch: WriteBatch) -> Result<(), StorageError>;

    /// Empties a table. Whether it happened is unknown after a crash before the next flush.
    ///
    /// # Errors
    /// When the engine fails.
    fn clear(&mut self, table: Table) -> Result<(), StorageError>;

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// When the engine fails; it must not be tried again.
    fn flush(&mut self) -> Result<(), StorageError>;

    /// Keeps the store table as it is now for [`Kv::scan_pinned`], instead of what was pinned before.
    ///
    /// # Errors
    /// When the engine fails.
    fn pin(&mut self) -> Result<(), StorageError>;

    /// [`ReadKv::scan`], forward, of the pinned store table; shows nothing when none is pinned.
    ///
    /// # Errors
    /// When the engine or the visitor fails.
    fn scan_pinned(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), StorageError>;

    /// Lets the pinned table go. Without one, nothing happens.
    fn unpin(&mut self);

    /// Roughly how large the store table is. Bytes; 0 when the engine does not know.
    fn store_bytes(&self) -> u64;
}
