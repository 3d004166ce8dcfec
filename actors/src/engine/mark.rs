//! The mark: a small file beside the engine that says how many flushes have succeeded.
//!
//! The same number lies in the engine, written as the last thing before each flush. An engine that comes back with a smaller
//! one than the mark's has lost what was flushed: bytes rotted, or a disk lied, or somebody put an old copy there. It is
//! refused, for this node has promised things that it does not remember.
//!
//! The mark is written after the flush, and not flushed itself, but at each start: it never says too much, and what it says is
//! at worst as old as the start when a power loss takes it. It lies in two places in turn, so that a torn one is not the last.
//!
//! Not here: what is flushed.

use super::{at, sync_directory};
use lockstep_protocol::log::{seal, unseal};
use lockstep_protocol::storage::StorageError;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The two places. Bytes from the beginning: never in one sector.
const PLACES: [u64; 2] = [0, 4_096];

/// Its file.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: File,
}

/// A number as it lies there: always of one size.
fn sealed(flushes: u64) -> Vec<u8> {
    seal(&flushes.to_be_bytes())
}

impl Mark {
    /// Opens it, and creates it if need be.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn open(directory: &Path) -> Result<Self, StorageError> {
        let path = directory.join("FLUSHED");
        let file =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(at(&path))?;
        Ok(Self { path, file })
    }

    /// Whether the engine, which says that so many flushes succeeded, has all that was flushed; then it goes on from there.
    ///
    /// # Errors
    /// When it has not, when the mark cannot be read, and when the disk fails.
    pub(super) fn check(&self, flushes: u64) -> Result<(), StorageError> {
        let is_new = self.file.metadata().map_err(at(&self.path))?.len() == 0;
        let damaged = |reason| Err(StorageError::Damaged { place: self.path.display().to_string(), reason });
        match PLACES.into_iter().filter_map(|place| self.read(place)).max() {
            Some(known) if known > flushes => {
                return damaged(format!(
                    "{known} flushes had succeeded, and {flushes} of them are there: what was flushed is lost"
                ));
            }
            // One that was torn when it was first written stands beside an engine that was never flushed.
            None if !is_new && flushes > 0 => return damaged("neither of its two numbers can be read".to_owned()),
            Some(_) | None => {}
        }
        self.set(flushes)?;
        self.file.sync_all().map_err(at(&self.path))?;
        // It may be new.
        self.path.parent().map_or(Ok(()), sync_directory)
    }

    fn read(&self, place: u64) -> Option<u64> {
        let mut bytes = sealed(0);
        self.file.read_exact_at(&mut bytes, place).ok()?;
        unseal::<[u8; 8]>(&bytes).ok().map(u64::from_be_bytes)
    }

    /// So many have succeeded.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn set(&self, flushes: u64) -> Result<(), StorageError> {
        let place = PLACES[usize::from(flushes % 2 == 1)];
        self.file.write_all_at(&sealed(flushes), place).map_err(at(&self.path))
    }
}
