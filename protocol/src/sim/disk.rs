//! A disk that forgets what was not flushed: the engine of the simulator and of the tests.
//!
//! It keeps the current tables, and how to undo each batch that is not flushed yet. A crash undoes a random number of the
//! last ones: batches are whole and in order, as those of an engine with one journal are. A batch that a power loss tore, or that
//! lies behind a hole, is dropped by that engine with all after it, so that it counts as one of those.
//!
//! Not here: a disk that is copied or rolled back (section 1).

use crate::storage::StorageError;
use crate::storage::kv::{Direction, KeyRange, Kv, ReadKv, Table, Visit, WriteBatch};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Bytes = Arc<[u8]>;
type Pairs = BTreeMap<Bytes, Bytes>;

/// A disk in memory. A handle: clones are the same disk, which survives the `Storage` that ran on it.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<Disk>>);

/// What was there before a batch.
#[derive(Clone, Debug)]
enum Undo {
    Pair(Table, Bytes, Option<Bytes>),
    Table(Table, Arc<Pairs>),
}

#[derive(Clone, Debug, Default)]
struct Disk {
    meta: Arc<Pairs>,
    log: Arc<Pairs>,
    store: Arc<Pairs>,
    pinned: Option<Arc<Pairs>>,
    /// One element a batch that is not flushed, oldest first.
    undo: Vec<Vec<Undo>>,
    store_bytes: usize,
    fault: Option<Fault>,
    failed: bool,
    full: bool,
    writes: u64,
    flushes: u64,
}

/// What goes wrong next. The disk fails from then on, until it crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next batch is refused: no space, a device error.
    Write,
    /// The next flush fails: none, some or all of what it should cover is durable.
    Flush,
}

impl fmt::Debug for SimDisk {
    /// A hash over all that it holds, and over what a crash would take back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.disk();
        let mut hasher = blake3::Hasher::new();
        for (key, value) in [&disk.meta, &disk.log, &disk.store].into_iter().flat_map(|pairs| pairs.iter()) {
            for bytes in [key, value] {
                hasher.update(&(bytes.len() as u64).to_be_bytes());
                hasher.update(bytes);
            }
        }
        hasher.update(format!("{:?} {:?} {} {}", disk.undo, disk.fault, disk.failed, disk.full).as_bytes());
        write!(f, "SimDisk({})", hasher.finalize().to_hex())
    }
}

impl SimDisk {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk that holds the same.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(Arc::new(Mutex::new(self.disk().clone())))
    }

    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Power loss, or `kill -9`: what was flushed stays, and of the batches after it a random number from the front.
    pub fn crash(&self, rng: &mut fastrand::Rng) {
        let unflushed = self.unflushed();
        self.crash_keeping(rng.usize(0..=unflushed));
    }

    /// A crash after which so many of the batches that were not flushed are there.
    pub fn crash_keeping(&self, kept: usize) {
        let mut disk = self.disk();
        while disk.undo.len() > kept {
            let batch = disk.undo.pop().unwrap_or_default();
            batch.into_iter().rev().for_each(|undo| disk.take_back(undo));
        }
        disk.undo.clear();
        disk.pinned = None;
        disk.fault = None;
        disk.failed = false;
    }

    /// A new, empty disk in the place of this one.
    pub fn wipe(&self) {
        *self.disk() = Disk::default();
    }

    /// Has the next write or flush fail, and everything after it.
    pub fn fail_next(&self, fault: Fault) {
        self.disk().fault = Some(fault);
    }

    /// Whether there is no space: no batch is taken, those of a start neither.
    pub fn fill(&self, is_full: bool) {
        self.disk().full = is_full;
    }

    /// Whether there is no space.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.disk().full
    }

    /// Whether it failed at a flush.
    #[must_use]
    pub fn failed_at_flush(&self) -> bool {
        let disk = self.disk();
        disk.failed && disk.fault == Some(Fault::Flush)
    }

    /// Flips one bit of a record of the vote or the log, which its checksum covers. (What covers the store's pairs is the engine's.)
    /// False when there is none.
    #[must_use]
    pub fn flip_bit(&self, dice: u64) -> bool {
        let mut disk = self.disk();
        let mut rng = fastrand::Rng::with_seed(dice);
        let keys = |table: Table, pairs: &Arc<Pairs>| pairs.keys().map(|key| (table, key.clone())).collect::<Vec<_>>();
        let mut records = keys(Table::Meta, &disk.meta);
        if records.is_empty() || rng.bool() {
            records.extend(keys(Table::Log, &disk.log));
        }
        let Some((table, key)) = rng.choice(&records).cloned() else { return false };
        let Some(value) = disk.table(table).get(&key).filter(|value| !value.is_empty()).cloned() else { return false };
        let mut changed = value.to_vec();
        changed[rng.usize(0..value.len())] ^= 1 << rng.u8(0..8);
        disk.set(table, &key, Some(changed.into()));
        true
    }

    /// How many batches a crash could take back.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        self.disk().undo.len()
    }

    /// How many batches were written and how many flushes succeeded, ever.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let disk = self.disk();
        (disk.writes, disk.flushes)
    }
}

impl Disk {
    fn table(&self, table: Table) -> &Arc<Pairs> {
        match table {
            Table::Meta => &self.meta,
            Table::Log => &self.log,
            Table::Store => &self.store,
        }
    }

    fn table_mut(&mut self, table: Table) -> &mut Arc<Pairs> {
        match table {
            Table::Meta => &mut self.meta,
            Table::Log => &mut self.log,
            Table::Store => &mut self.store,
        }
    }

    /// Sets or removes a pair; says what was there.
    fn set(&mut self, table: Table, key: &Bytes, value: Option<Bytes>) -> Option<Bytes> {
        let added = value.as_ref().map_or(0, |value| key.len() + value.len());
        // Copies the table when it is pinned, once.
        let pairs = Arc::make_mut(self.table_mut(table));
        let old = match value {
            Some(value) => pairs.insert(Arc::clone(key), value),
            None => pairs.remove(key),
        };
        if table == Table::Store {
            let removed = old.as_ref().map_or(0, |old| key.len() + old.len());
            self.store_bytes = (self.store_bytes + added).saturating_sub(removed);
        }
        old
    }

    fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Pair(table, key, old) => {
                self.set(table, &key, old);
            }
            Undo::Table(table, pairs) => {
                *self.table_mut(table) = pairs;
                self.measure(table);
            }
        }
    }

    fn measure(&mut self, table: Table) {
        if table == Table::Store {
            self.store_bytes = self.store.iter().map(|(key, value)| key.len() + value.len()).sum();
        }
    }

    fn refuse(&mut self, fault: Fault) -> Result<(), StorageError> {
        if self.fault == Some(fault) {
            self.failed = true;
        }
        if self.full && fault == Fault::Write {
            return Err(StorageError::Engine("simulated fault: no space".to_owned()));
        }
        if self.failed { Err(StorageError::Engine(format!("simulated fault: {fault:?}"))) } else { Ok(()) }
    }
}

fn visit_range(pairs: &Pairs, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
    if range.is_empty() {
        return Ok(());
    }
    let to = range.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut found = pairs.range::<[u8], _>((Bound::Included(range.from.as_slice()), to));
    loop {
        let next = match direction {
            Direction::Forward => found.next(),
            Direction::Reverse => found.next_back(),
        };
        let Some((key, value)) = next else { return Ok(()) };
        if visit(key, value)?.is_break() {
            return Ok(());
        }
    }
}

impl ReadKv for SimDisk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.disk().table(table).get(key).map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
        visit_range(self.disk().table(table), range, direction, visit)
    }
}

impl Kv for SimDisk {
    fn write(&mut self, batch: WriteBatch) -> Result<(), StorageError> {
        let mut disk = self.disk();
        disk.refuse(Fault::Write)?;
        let mut undo = Vec::with_capacity(batch.writes.len());
        for (table, key, value) in batch.writes {
            let key: Bytes = key.into();
            let old = disk.set(table, &key, value.map(Into::into));
            undo.push(Undo::Pair(table, key, old));
        }
        disk.undo.push(undo);
        disk.writes += 1;
        Ok(())
    }

    fn clear(&mut self, table: Table) -> Result<(), StorageError> {
        let mut disk = self.disk();
        disk.refuse(Fault::Write)?;
        let old = std::mem::take(disk.table_mut(table));
        disk.undo.push(vec![Undo::Table(table, old)]);
        disk.measure(table);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let mut disk = self.disk();
        disk.refuse(Fault::Flush)?;
        disk.undo.clear();
        disk.flushes += 1;
        Ok(())
    }

    fn pin(&mut self) -> Result<(), StorageError> {
        let mut disk = self.disk();
        disk.pinned = Some(Arc::clone(&disk.store));
        Ok(())
    }

    fn scan_pinned(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), StorageError> {
        let pinned = self.disk().pinned.clone();
        pinned.map_or(Ok(()), |pairs| visit_range(&pairs, range, Direction::Forward, visit))
    }

    fn unpin(&mut self) {
        self.disk().pinned = None;
    }

    fn store_bytes(&self) -> u64 {
        self.disk().store_bytes as u64
    }
}
