//! The tables of `lockstep_protocol::storage` in an embedded engine: one directory, one journal, and
//! some keyspaces (`tables.rs`).
//!
//! - A batch is one record of the engine's journal, which is replayed in order up to the first torn record: so batches are
//!   whole and in order after a crash, and a flush is one `fdatasync` of the journal. What was not flushed goes with the process.
//! - The journals are walked before the engine reads them (`journal.rs`), and flushes are counted, in the engine and beside it
//!   (`mark.rs`): what a power loss left torn is dropped, and what was flushed is there, or the directory is refused.
//! - A directory is locked while it is open, and is whole or not there: a half-created one is created again.
//! - Memory is bounded: what is cached, what is buffered, and how much journal a start replays.
//!
//! Not here: what lies in the tables (`lockstep_protocol::storage`), and the thread on which this runs (`storage.rs`); nor a
//! repair: a node whose directory is refused joins again from an empty one.
//!
//! Source: Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.

mod journal;
mod mark;
mod tables;

use fjall::{Database, Guard, Keyspace, PersistMode, Readable, Snapshot};
use lockstep_protocol::storage::StorageError;
use lockstep_protocol::storage::kv::{Direction, KeyRange, Kv, ReadKv, TABLES, Table, Visit, WriteBatch};
use mark::Mark;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tables::Tables;

/// Blocks of the tables that are kept in memory. Bytes.
const CACHE_BYTES: u64 = 48 << 20;
/// The largest journal before keyspaces that lag behind are written out: bounds what a start replays. Bytes.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// Threads that write buffers out and merge tables. With two, the first asks itself again and again to leave a merge to the
/// second, for as long as that one is at work: a quarter of all that the cluster computes. And with two, one could seal a buffer after
/// the other had flushed the journal for it: a table would hold a part of a batch that the journal may yet lose.
const WORKERS: usize = 1;
/// How long a test waits for buffers to be written out.
const WRITE_OUT_LASTS_MAX: Duration = Duration::from_secs(60);
/// Files of tables that are held open.
const OPEN_FILES_MAX: usize = 200;
/// How many flushes have succeeded or are being tried. In the vote's table, under a key of the engine's own.
const FLUSHES: &[u8] = b"flushes";

/// Faults that a test of real processes provokes. Harmless by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// While this file exists, every flush fails.
    pub fail_flush_file: Option<PathBuf>,
}

/// An open data directory.
pub struct Engine {
    // The order matters: what is dropped last lets the directory go.
    pinned: Option<Frozen>,
    tables: Tables,
    database: Database,
    faults: FaultPlan,
    flush_took: Option<Duration>,
    flushes: u64,
    mark: Mark,
    _lock: File,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("path", &self.tables.meta.path()).finish_non_exhaustive()
    }
}

fn engine_error(error: fjall::Error) -> StorageError {
    let reason = error.to_string();
    match error {
        fjall::Error::Io(_)
        | fjall::Error::Storage(fjall::LsmError::Io(_))
        | fjall::Error::Poisoned
        | fjall::Error::KeyspaceDeleted
        | fjall::Error::Locked => StorageError::Engine(reason),
        // A checksum, a tag, a version, a file that is gone. Both enumerations may grow.
        _ => StorageError::Damaged { place: "a file of the storage engine".into(), reason },
    }
}

/// An error that names the file or directory that it is about.
fn at(path: &Path) -> impl Fn(io::Error) -> StorageError {
    move |error| StorageError::Engine(format!("{}: {error}", path.display()))
}

/// All tables as they were at one moment. What the engine drops or rewrites meanwhile stays on the disk until this goes.
#[derive(Clone)]
pub struct Frozen {
    snapshot: Snapshot,
    tables: Tables,
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").finish_non_exhaustive()
    }
}

impl ReadKv for Frozen {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let value = self.snapshot.get(self.tables.of(table, key), key).map_err(engine_error)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
        let parts = self.tables.parts(table, range, direction);
        scan_pairs(parts, direction, visit, |keyspace, bounds| self.snapshot.range(keyspace, bounds))
    }
}

impl Engine {
    /// Opens a data directory, and creates it if need be.
    ///
    /// # Errors
    /// When another process has it open, and when the disk or the engine fails.
    pub fn open(directory: &Path, faults: FaultPlan) -> Result<Self, StorageError> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        let lock = lock(directory)?;
        let place = directory.join("engine");
        if !place.try_exists().map_err(at(&place))? {
            create(directory, &place)?;
        }
        let torn = journal::renew(&place)?;
        let database = open_database(&place)?;
        let tables = Tables::open(&database)?;
        let (mark, flushes) = (Mark::open(directory)?, flushes(&tables.meta)?);
        mark.check(flushes)?;
        if let Some(torn) = torn {
            log::info!("{}: the end of the journal was torn, and was never flushed", directory.display());
            fs::remove_file(&torn).map_err(at(&torn))?;
        }
        Ok(Self { pinned: None, tables, database, faults, flush_took: None, flushes, mark, _lock: lock })
    }

    /// How long the last flush took, if there was one since this was asked.
    pub fn take_flush_time(&mut self) -> Option<Duration> {
        self.flush_took.take()
    }

    /// Keeps all tables as they are now, for another thread to read. Costs nothing by itself.
    #[must_use]
    pub fn freeze(&self) -> Frozen {
        Frozen { snapshot: self.database.snapshot(), tables: self.tables.clone() }
    }

    /// Writes what is buffered out to tables, which are merged once there are enough. Tests want it; else it is done when a buffer is full.
    ///
    /// # Errors
    /// When the engine fails, or is not done within a minute.
    pub fn write_out(&self) -> Result<(), StorageError> {
        let keyspaces: Vec<_> = TABLES.into_iter().flat_map(|table| self.tables.all_of(table)).collect();
        for keyspace in &keyspaces {
            keyspace.rotate_memtable().map_err(engine_error)?;
        }
        // A buffer that is sealed while the last one of its keyspace waits might be written out before the journal has it.
        let begun = Instant::now();
        while keyspaces.iter().any(|keyspace| keyspace.sealed_memtable_count() > 0) {
            if begun.elapsed() > WRITE_OUT_LASTS_MAX {
                return Err(StorageError::Engine("buffers are not written out".into()));
            }
            std::thread::sleep(Duration::from_millis(1));
            // Where the worker has failed, this tells.
            self.database.persist(PersistMode::Buffer).map_err(engine_error)?;
        }
        Ok(())
    }
}

/// The kernel lets a lock go when its process ends, however it ends.
fn lock(directory: &Path) -> Result<File, StorageError> {
    let path = directory.join("LOCK");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StorageError::Engine(format!(
            "the data directory {} is in use by another process; a data directory must never run twice",
            directory.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(at(&path)(error)),
    }
}

/// Creates the engine's directory beside its place, and moves it there when it is whole.
fn create(directory: &Path, place: &Path) -> Result<(), StorageError> {
    let draft = directory.join("engine.new");
    match fs::remove_dir_all(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&draft)(error)),
        Ok(()) | Err(_) => {}
    }
    let database = open_database(&draft)?;
    let keyspaces = Tables::open(&database)?;
    database.persist(PersistMode::SyncAll).map_err(engine_error)?;
    drop((keyspaces, database));
    sync_folders(&draft)?;
    fs::rename(&draft, place).map_err(at(place))?;
    sync_directory(directory)?;
    // The data directory itself may be new, too.
    directory.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_directory)
}

fn sync_directory(path: &Path) -> Result<(), StorageError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(at(path))
}

/// How many were flushed, as the engine knows.
fn flushes(meta: &Keyspace) -> Result<u64, StorageError> {
    let Some(bytes) = meta.get(FLUSHES).map_err(engine_error)? else { return Ok(0) };
    let damaged = || StorageError::Damaged { place: "flushes".into(), reason: "it is no number".into() };
    Ok(u64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| damaged())?))
}

/// The engine leaves out the folder in which it makes those of its keyspaces: a power loss could take them all.
fn sync_folders(folder: &Path) -> Result<(), StorageError> {
    for found in fs::read_dir(folder).map_err(at(folder))? {
        let path = found.map_err(at(folder))?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    sync_directory(folder)
}

fn open_database(path: &Path) -> Result<Database, StorageError> {
    Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_cached_files(Some(OPEN_FILES_MAX))
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .worker_threads(WORKERS)
        // Of batches: nothing is promised before its flush, which hands over what was gathered until then. (Keyspaces go on handing
        // over what they do by themselves: a clear must be in the journal before its files go.)
        .manual_journal_persist(true)
        .open()
        .map_err(engine_error)
}

/// Shows the pairs of a range, part by part; `pairs` has those of a part in order.
fn scan_pairs<I: DoubleEndedIterator<Item = Guard>>(
    parts: Vec<(&Keyspace, KeyRange)>,
    direction: Direction,
    visit: Visit<'_>,
    pairs: impl Fn(&Keyspace, (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> I,
) -> Result<(), StorageError> {
    for (keyspace, KeyRange { from, to }) in parts {
        let mut pairs = pairs(keyspace, (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded)));
        let mut next = || match direction {
            Direction::Forward => pairs.next(),
            Direction::Reverse => pairs.next_back(),
        };
        while let Some(pair) = next() {
            let (key, value) = pair.into_inner().map_err(engine_error)?;
            if visit(&key, &value)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl ReadKv for Engine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let value = self.tables.of(table, key).get(key).map_err(engine_error)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
        scan_pairs(self.tables.parts(table, range, direction), direction, visit, Keyspace::range)
    }
}

impl Kv for Engine {
    fn write(&mut self, batch: WriteBatch) -> Result<(), StorageError> {
        let mut writes = self.database.batch();
        for (table, key, value) in batch.writes {
            let keyspace = self.tables.of(table, &key);
            match value {
                Some(value) => writes.insert(keyspace, key, value),
                None => writes.remove(keyspace, key),
            }
        }
        writes.commit().map_err(engine_error)
    }

    fn clear(&mut self, table: Table) -> Result<(), StorageError> {
        self.tables.all_of(table).into_iter().try_for_each(|keyspace| keyspace.clear().map_err(engine_error))
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if self.faults.fail_flush_file.as_ref().is_some_and(|file| file.exists()) {
            return Err(StorageError::Engine("a flush failed, as this test wants it".into()));
        }
        let begun = Instant::now();
        let flushes = self.flushes + 1;
        self.tables.meta.insert(FLUSHES, flushes.to_be_bytes()).map_err(engine_error)?;
        self.database.persist(PersistMode::SyncData).map_err(engine_error)?;
        self.flushes = flushes;
        self.mark.set(flushes)?;
        self.flush_took = Some(begun.elapsed());
        Ok(())
    }

    fn pin(&mut self) -> Result<(), StorageError> {
        self.pinned = Some(self.freeze());
        Ok(())
    }

    fn scan_pinned(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), StorageError> {
        let Some(pinned) = &self.pinned else { return Ok(()) };
        pinned.scan(Table::Store, range, Direction::Forward, visit)
    }

    fn unpin(&mut self) {
        self.pinned = None;
    }

    fn store_bytes(&self) -> u64 {
        self.tables.all_of(Table::Store).into_iter().map(Keyspace::disk_space).sum()
    }
}

#[cfg(test)]
mod tests;
