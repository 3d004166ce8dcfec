//! The engine's journals, walked before the engine reads them: any bytes, and whole batches that were changed. What is kept is
//! the beginning of what was there; what is cut is zeros, or kept beside it; a second walk changes nothing; and of journals
//! that nobody touched nothing is lost.

#![no_main]

#[path = "../../actors/src/engine/journal.rs"]
mod journal;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use lockstep_protocol::storage::StorageError;
use std::cell::OnceCell;
use std::fs;
use std::io;
use std::path::Path;
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

/// As the engine names what failed.
fn at(path: &Path) -> impl Fn(io::Error) -> StorageError {
    move |error| StorageError::Engine(format!("{}: {error}", path.display()))
}

/// Nothing is lost here with the power.
fn sync_directory(_: &Path) -> Result<(), StorageError> {
    Ok(())
}

fn batch(bytes: &mut Unstructured<'_>, number: u64, to: &mut Vec<u8>) -> arbitrary::Result<()> {
    let count: u32 = bytes.int_in_range(0..=3)?;
    let mut items = Vec::new();
    for _ in 0..count {
        if bytes.ratio(1, 8)? {
            items.push(4);
            items.extend(bytes.arbitrary::<u64>()?.to_le_bytes());
            continue;
        }
        let (key, value): (Vec<u8>, Vec<u8>) = bytes.arbitrary()?;
        let key = &key[..key.len().min(300)];
        items.extend([2, 0, 0]);
        items.extend(bytes.arbitrary::<u64>()?.to_le_bytes());
        items.extend((key.len() as u16).to_le_bytes());
        items.extend((value.len() as u32).to_le_bytes());
        items.extend((value.len() as u32).to_le_bytes());
        items.extend(key);
        items.extend(value);
    }
    to.push(1);
    to.extend(count.to_le_bytes());
    to.extend(number.to_le_bytes());
    to.extend(&items);
    to.push(3);
    to.extend(xxh3_64(&items).to_le_bytes());
    to.extend(b"FJL\x03");
    Ok(())
}

/// True when it is as it was written.
fn change(bytes: &mut Unstructured<'_>, journal: &mut Vec<u8>) -> arbitrary::Result<bool> {
    match bytes.int_in_range(0..=5)? {
        0 if !journal.is_empty() => {
            let at = bytes.choose_index(journal.len())?;
            journal[at] ^= bytes.int_in_range(1..=255)?;
        }
        1 => {
            let at = bytes.int_in_range(0..=journal.len())?;
            journal.truncate(at);
        }
        2 => journal.extend(bytes.arbitrary::<Vec<u8>>()?),
        3 => *journal = bytes.arbitrary()?,
        4 => journal.extend([0; 64]),
        _ => return Ok(true),
    }
    Ok(false)
}

fn check(folder: &Path, newest: &str, before: &[u8], is_whole: bool) {
    let path = folder.join(newest);
    let found = match journal::renew(folder) {
        Ok(found) => found,
        Err(StorageError::Damaged { .. }) if !is_whole => return,
        Err(error) => panic!("{error}"),
    };
    let after = fs::read(&path).expect("it is there");
    assert!(before.starts_with(&after));
    let rest = &before[after.len()..];
    match &found {
        Some(torn) => {
            assert!(rest.iter().any(|byte| *byte != 0));
            assert_eq!(fs::read(torn).expect("it is kept"), before);
        }
        None => assert!(rest.iter().all(|byte| *byte == 0)),
    }
    if is_whole {
        assert!(found.is_none() && after == before, "what was whole is not whole any more");
    }
    assert_eq!(journal::renew(folder), Ok(None));
    assert_eq!(fs::read(&path).expect("it is there"), after);
}

fn run(data: &[u8], folder: &Path) -> arbitrary::Result<()> {
    let mut bytes = Unstructured::new(data);
    let (mut number, mut is_whole) = (0, true);
    let mut last = (String::new(), Vec::new());
    for place in 0..bytes.int_in_range(1..=3)? {
        let mut journal = Vec::new();
        for _ in 0..bytes.int_in_range(0..=4)? {
            number += bytes.int_in_range(1..=3)?;
            batch(&mut bytes, number, &mut journal)?;
        }
        is_whole &= change(&mut bytes, &mut journal)?;
        last = (format!("{place}.jnl"), journal);
        fs::write(folder.join(&last.0), &last.1).expect("a file");
    }
    check(folder, &last.0, &last.1, is_whole);
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| TempDir::new().expect("a folder")).path();
        for found in fs::read_dir(folder).expect("a folder") {
            fs::remove_file(found.expect("a file").path()).expect("a file");
        }
        let _ = run(data, folder); // Too few bytes are no run.
    });
});
