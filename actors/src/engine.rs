//! The tables of `lockstep_protocol::storage` in an embedded engine: one directory, one journal, three keyspaces.
//!
//! - A batch is one record of the engine's journal, which is replayed in order up to the first torn record: so batches are
//!   whole and in order after a crash, and a flush is one `fdatasync` of the journal.
//! - The journal is copied to a new file, flushed and put in its place before the engine reads it: a kernel that failed to
//!   write a page back says so once, and then shows the page as if it were on the disk (section 9).
//! - A directory is locked while it is open, and is whole or not there: a half-created one is created again.
//! - Memory is bounded: what is cached, what is buffered, and how much journal a start replays.
//!
//! Not here: what lies in the tables (`lockstep_protocol::storage`), and the thread on which this runs (`storage.rs`); nor a
//! repair: a journal whose last, unflushed record came back from a power loss with a hole in its middle is refused by the
//! engine as bit rot would be, and the node joins again from an empty directory.
//!
//! Source: Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.

use fjall::compaction::Leveled;
use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use lockstep_protocol::storage::StorageError;
use lockstep_protocol::storage::kv::{Direction, KeyRange, Kv, Table, Visit, WriteBatch};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Blocks of the tables that are kept in memory. Bytes.
const CACHE_BYTES: u64 = 48 << 20;
/// What is buffered of the store before it goes to a table file; up to four of them may wait. Bytes.
const STORE_BUFFER_BYTES: u64 = 12 << 20;
/// The same for the log, which is seldom read.
const LOG_BUFFER_BYTES: u64 = 8 << 20;
/// The same for the vote.
const META_BUFFER_BYTES: u64 = 1 << 20;
/// The largest journal before keyspaces that lag behind are written out: bounds what a start replays. Bytes.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// The size of a table. A merge takes some ten of them at a time, and no buffer is written out meanwhile. Bytes.
const TABLE_BYTES: u64 = 16 << 20;
/// Threads that write buffers out and merge tables. With two, the first asks itself again and again to leave a merge to the
/// second, for as long as that one is at work: a quarter of all that the cluster computes.
const WORKERS: usize = 1;
/// Files of tables that are held open.
const OPEN_FILES_MAX: usize = 200;
/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 16;

/// Faults that a test of real processes provokes. Harmless by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// While this file exists, every flush fails.
    pub fail_flush_file: Option<PathBuf>,
}

/// An open data directory.
pub struct Engine {
    // The order matters: what is dropped last lets the directory go.
    pinned: Option<Snapshot>,
    meta: Keyspace,
    log: Keyspace,
    store: Keyspace,
    database: Database,
    faults: FaultPlan,
    flush_took: Option<Duration>,
    _lock: File,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("path", &self.store.path()).finish_non_exhaustive()
    }
}

fn engine_error(error: impl fmt::Display) -> StorageError {
    StorageError::Engine(error.to_string())
}

/// An error that names the file or directory that it is about.
fn at(path: &Path) -> impl Fn(io::Error) -> StorageError {
    move |error| StorageError::Engine(format!("{}: {error}", path.display()))
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
        renew_journal(&place)?;
        let database = open_database(&place)?;
        let [meta, log, store] = open_keyspaces(&database)?;
        Ok(Self { pinned: None, meta, log, store, database, faults, flush_took: None, _lock: lock })
    }

    /// How long the last flush took, if there was one since this was asked.
    pub fn take_flush_time(&mut self) -> Option<Duration> {
        self.flush_took.take()
    }

    fn keyspace(&self, table: Table) -> &Keyspace {
        match table {
            Table::Meta => &self.meta,
            Table::Log => &self.log,
            Table::Store => &self.store,
        }
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
    let keyspaces = open_keyspaces(&database)?;
    database.persist(PersistMode::SyncAll).map_err(engine_error)?;
    drop((keyspaces, database));
    fs::rename(&draft, place).map_err(at(place))?;
    sync_directory(directory)?;
    // The data directory itself may be new, too.
    directory.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_directory)
}

fn sync_directory(path: &Path) -> Result<(), StorageError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(at(path))
}

fn open_database(path: &Path) -> Result<Database, StorageError> {
    Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_cached_files(Some(OPEN_FILES_MAX))
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .worker_threads(WORKERS)
        .open()
        .map_err(|error| StorageError::Engine(format!("{}: {error}", path.display())))
}

fn open_keyspaces(database: &Database) -> Result<[Keyspace; 3], StorageError> {
    let open = |name, buffer_bytes| {
        let merging = Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES));
        let options = || KeyspaceCreateOptions::default().max_memtable_size(buffer_bytes).compaction_strategy(merging);
        database.keyspace(name, options).map_err(engine_error)
    };
    Ok([open("meta", META_BUFFER_BYTES)?, open("log", LOG_BUFFER_BYTES)?, open("store", STORE_BUFFER_BYTES)?])
}

/// Puts a flushed copy of the journal in its place. Only the newest can hold what was not flushed: the engine flushes one
/// before it begins the next, and begins none when that fails.
fn renew_journal(place: &Path) -> Result<(), StorageError> {
    let Some(journal) = newest_journal(place)? else { return Ok(()) };
    let draft = journal.with_extension("copy");
    copy_sparse(&journal, &draft).map_err(at(&journal))?;
    fs::rename(&draft, &journal).map_err(at(&journal))?;
    sync_directory(place)
}

fn newest_journal(place: &Path) -> Result<Option<PathBuf>, StorageError> {
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let mut newest = None;
    for found in fs::read_dir(place).map_err(at(place))? {
        let path = found.map_err(at(place))?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            newest = newest.max(number(&path).map(|number| (number, path)));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Copies and flushes a file, most of which may be zeros that were never written: they are not written now either.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let (mut source, mut copy) = (File::open(from)?, File::create(to)?);
    let mut buffer = vec![0; COPY_BYTES];
    let mut length = 0_u64;
    loop {
        let count = source.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        if bytes.iter().any(|byte| *byte != 0) {
            copy.seek(SeekFrom::Start(length))?;
            copy.write_all(bytes)?;
        }
        length += count as u64;
    }
    copy.set_len(length)?;
    copy.sync_all()
}

fn visit_all(pairs: impl Iterator<Item = Guard>, visit: Visit<'_>) -> Result<(), StorageError> {
    for pair in pairs {
        let (key, value) = pair.into_inner().map_err(engine_error)?;
        if visit(&key, &value)?.is_break() {
            break;
        }
    }
    Ok(())
}

impl Kv for Engine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let value = self.keyspace(table).get(key).map_err(engine_error)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StorageError> {
        if range.is_empty() {
            return Ok(());
        }
        let keyspace = self.keyspace(table);
        let pairs = match &range.to {
            Some(to) => keyspace.range(range.from.clone()..to.clone()),
            None => keyspace.range(range.from.clone()..),
        };
        match direction {
            Direction::Forward => visit_all(pairs, visit),
            Direction::Reverse => visit_all(pairs.rev(), visit),
        }
    }

    fn write(&mut self, batch: WriteBatch) -> Result<(), StorageError> {
        let mut writes = self.database.batch();
        for (table, key, value) in batch.writes {
            match value {
                Some(value) => writes.insert(self.keyspace(table), key, value),
                None => writes.remove(self.keyspace(table), key),
            }
        }
        writes.commit().map_err(engine_error)
    }

    fn clear(&mut self, table: Table) -> Result<(), StorageError> {
        self.keyspace(table).clear().map_err(engine_error)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if self.faults.fail_flush_file.as_ref().is_some_and(|file| file.exists()) {
            return Err(StorageError::Engine("a flush failed, as this test wants it".into()));
        }
        let begun = Instant::now();
        self.database.persist(PersistMode::SyncData).map_err(engine_error)?;
        self.flush_took = Some(begun.elapsed());
        Ok(())
    }

    fn pin(&mut self) -> Result<(), StorageError> {
        self.pinned = Some(self.database.snapshot());
        Ok(())
    }

    fn scan_pinned(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), StorageError> {
        let Some(snapshot) = self.pinned.as_ref().filter(|_| !range.is_empty()) else { return Ok(()) };
        let pairs = match &range.to {
            Some(to) => snapshot.range(&self.store, range.from.clone()..to.clone()),
            None => snapshot.range(&self.store, range.from.clone()..),
        };
        visit_all(pairs, visit)
    }

    fn unpin(&mut self) {
        self.pinned = None;
    }

    fn store_bytes(&self) -> u64 {
        self.store.disk_space()
    }
}
