//! The engine's journals, walked before the engine reads them: how far each is whole, and a flushed copy of the newest.
//!
//! The engine stops at the first place that is no record, drops what follows, and says nothing: that is right for the end of
//! the newest journal, which a power loss may tear, and wrong for what was flushed. So:
//!
//! - A journal that is not the newest was flushed before the next was begun: it is whole to its end, or refused.
//! - Of the newest, what is whole is copied to a new file, flushed and put in its place: a kernel that failed to write a page
//!   back says so once, and then shows the page as if it were on the disk (section 9). The mark (`mark.rs`) says whether that
//!   is all that was flushed; until it has, the old file is kept.
//!
//! A batch is whole when its structure and its checksum are, and, if it has items, it is later than the last one that had: the engine counts on
//! from the items that it finds at a start, and may give a clear's number out again. Numbers are little-endian:
//!
//! ```text
//! start: 1, items (4), sequence number (8)         end: 3, XXH3 of all items (8), "FJL", 3
//! item: 2, kind, compression, keyspace (8), key's length (2), value's length (4), its length here (4), key, value
//! clear: 4, keyspace (8)
//! ```
//!
//! Not here: what lies in the batches.

use super::{at, sync_directory};
use lockstep_protocol::storage::StorageError;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: [u8; 4] = [b'F', b'J', b'L', 3];

/// Bytes that are read or copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// How far a journal is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Walked {
    /// Where the last whole batch ends. Bytes from the beginning.
    end: u64,
    /// The sequence number of the last whole batch with items.
    last: Option<u64>,
    /// Something else than zeros, which stand where nothing was written yet, lies behind.
    has_rest: bool,
}

/// Checks all journals, and puts a flushed copy of what is whole of the newest in its place. What there was before is kept
/// beside it, when it was more; the answer names it.
///
/// # Errors
/// When a journal is damaged that was flushed, and when the disk fails.
pub(super) fn renew(place: &Path) -> Result<Option<PathBuf>, StorageError> {
    let mut journals = journals(place)?;
    let Some(newest) = journals.pop() else { return Ok(None) };
    let mut last = None;
    for journal in &journals {
        let walked = walk(journal, last).map_err(at(journal))?;
        if walked.has_rest {
            return Err(StorageError::Damaged {
                place: journal.display().to_string(),
                reason: format!("what was flushed is not whole after byte {}", walked.end),
            });
        }
        last = walked.last.or(last);
    }
    let walked = walk(&newest, last).map_err(at(&newest))?;
    let draft = newest.with_extension("copy");
    copy(&newest, &draft, walked.end).map_err(at(&newest))?;
    let torn = walked.has_rest.then(|| newest.with_extension("torn"));
    if let Some(torn) = &torn {
        match fs::remove_file(torn) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(torn)(error)),
            Ok(()) | Err(_) => fs::hard_link(&newest, torn).map_err(at(torn))?,
        }
    }
    fs::rename(&draft, &newest).map_err(at(&newest))?;
    sync_directory(place)?;
    Ok(torn)
}

/// The journals, oldest first.
fn journals(place: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let mut found = Vec::new();
    for entry in fs::read_dir(place).map_err(at(place))? {
        let path = entry.map_err(at(place))?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            found.extend(number(&path).map(|number| (number, path)));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// # Errors
/// When the disk fails; a journal that is not whole is no error.
fn walk(journal: &Path, after: Option<u64>) -> io::Result<Walked> {
    let file = File::open(journal)?;
    let length = file.metadata()?.len();
    let mut reader = Reader { source: BufReader::with_capacity(1 << 16, file), read: 0, length, hasher: Xxh3::new() };
    let mut walked = Walked { end: 0, last: after, has_rest: false };
    while let Some(Batch { number, has_items }) = reader.batch()? {
        if has_items {
            if walked.last.is_some_and(|last| number <= last) {
                break;
            }
            walked.last = Some(number);
        }
        walked.end = reader.read;
    }
    walked.has_rest = has_rest(journal, walked.end)?;
    Ok(walked)
}

/// Whether anything but zeros lies behind.
fn has_rest(journal: &Path, end: u64) -> io::Result<bool> {
    use std::io::Seek;
    let mut file = File::open(journal)?;
    file.seek(io::SeekFrom::Start(end))?;
    // Whole pieces are compared: most of 64 MiB may be zeros.
    let zeros = vec![0; COPY_BYTES as usize];
    let mut buffer = zeros.clone();
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(false),
            count if buffer[..count] != zeros[..count] => return Ok(true),
            _ => {}
        }
    }
}

/// Copies and flushes the beginning of a file.
fn copy(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let (mut source, mut copy) = (File::open(from)?.take(bytes), File::create(to)?);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        (&mut source).take(COPY_BYTES).read_to_end(&mut buffer)?;
        if buffer.is_empty() {
            return copy.sync_all();
        }
        copy.write_all(&buffer)?;
    }
}

/// A whole batch.
struct Batch {
    number: u64,
    has_items: bool,
}

/// Reads records. What is none is `None`, and so is the end of the file.
struct Reader {
    source: BufReader<File>,
    read: u64,
    length: u64,
    hasher: Xxh3,
}

impl Reader {
    fn take<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        if self.read + N as u64 > self.length {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        self.read += N as u64;
        Ok(Some(bytes))
    }

    /// The same, of what the batch's checksum covers.
    fn take_item<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let bytes = self.take::<N>()?;
        bytes.iter().for_each(|bytes| self.hasher.update(bytes));
        Ok(bytes)
    }

    fn skip_item(&mut self, count: u64) -> io::Result<Option<()>> {
        if count > self.length - self.read {
            return Ok(None);
        }
        let mut left = count;
        let mut buffer = [0; 4_096];
        while left > 0 {
            let part = &mut buffer[..left.min(4_096) as usize];
            self.source.read_exact(part)?;
            self.hasher.update(part);
            left -= part.len() as u64;
        }
        self.read += count;
        Ok(Some(()))
    }

    /// The batch that begins here, if it is whole.
    fn batch(&mut self) -> io::Result<Option<Batch>> {
        let Some([START]) = self.take()? else { return Ok(None) };
        let (Some(items), Some(number)) = (self.take()?, self.take()?) else { return Ok(None) };
        self.hasher.reset();
        let mut has_items = false;
        for _ in 0..u32::from_le_bytes(items) {
            match self.item()? {
                Some(kind) => has_items |= kind == ITEM,
                None => return Ok(None),
            }
        }
        let Some([END]) = self.take()? else { return Ok(None) };
        let (sum, magic) = (self.take()?, self.take()?);
        let is_whole = sum.map(u64::from_le_bytes) == Some(self.hasher.digest()) && magic == Some(MAGIC);
        Ok(is_whole.then(|| Batch { number: u64::from_le_bytes(number), has_items }))
    }

    /// Which kind of record comes next, all of which is there.
    fn item(&mut self) -> io::Result<Option<u8>> {
        match self.take_item()? {
            Some([CLEAR]) => Ok(self.skip_item(8)?.map(|()| CLEAR)),
            Some([ITEM]) => {
                // Kind, compression and keyspace.
                if self.skip_item(10)?.is_none() {
                    return Ok(None);
                }
                let (Some(key), Some(_), Some(value)) =
                    (self.take_item::<2>()?, self.take_item::<4>()?, self.take_item::<4>()?)
                else {
                    return Ok(None);
                };
                let bytes = u64::from(u16::from_le_bytes(key)) + u64::from(u32::from_le_bytes(value));
                Ok(self.skip_item(bytes)?.map(|()| ITEM))
            }
            Some(_) | None => Ok(None),
        }
    }
}
