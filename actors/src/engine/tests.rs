//! Bytes that rot: one flipped bit, anywhere in a data directory, is refused, or changes nothing. Never silently wrong.

use super::{Engine, FaultPlan};
use crate::testing::{apply, copy_directory, post, write_log};
use lockstep_protocol::ids::{Hash, Incarnation, NodeId, Voter};
use lockstep_protocol::machine::Limits;
use lockstep_protocol::storage::kv::Kv;
use lockstep_protocol::storage::scan::scan;
use lockstep_protocol::storage::{Recovered, Storage, StorageError};
use lockstep_protocol::verify::Scan;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a directory holds, read whole.
fn contents(directory: &Path) -> Result<(Recovered, Scan), StorageError> {
    let engine = Engine::open(directory, FaultPlan::default())?;
    let voter = Voter::Replica(NodeId(1));
    let (mut storage, recovered) = Storage::open(engine, voter, Incarnation(7), &Limits::default())?;
    let scan = scan(&storage.kv_mut().freeze())?;
    Ok((recovered, scan))
}

/// A directory with so many entries of so many posts each.
fn filled(directory: &Path, entries: u64, texts: u64) {
    let engine = Engine::open(directory, FaultPlan::default()).expect("opens");
    let voter = Voter::Replica(NodeId(1));
    let (mut storage, _) = Storage::open(engine, voter, Incarnation(7), &Limits::default()).expect("opens");
    let mut prev_hash = Hash::default();
    for index in 1..=entries {
        let entry = post(index, prev_hash, texts);
        prev_hash = entry.hash;
        storage.perform(vec![write_log(&entry), apply(&entry)]).expect("performs");
    }
    storage.kv_mut().flush().expect("flushes");
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("reads") {
        let path = entry.expect("reads").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
    found.sort();
}

/// Flips one bit in each of so many places of each file, and looks at what becomes of the directory. How many were refused,
/// and how many changed nothing.
fn flip_everywhere(directory: &Path, places: u64, wanted: impl Fn(&Path) -> bool) -> (u32, u32) {
    let sound = contents(directory).expect("it is sound");
    let mut all = Vec::new();
    files(directory, &mut all);
    let (mut refused, mut unchanged) = (0, 0);
    for path in all.iter().filter(|path| wanted(path)) {
        let length = path.metadata().expect("it is there").len();
        for place in 0..places.min(length) {
            let offset = place * length / places.min(length);
            let left = TempDir::new().expect("a directory");
            copy_directory(directory, left.path());
            let file = left.path().join(path.strip_prefix(directory).expect("it is below"));
            flip(&file, offset, place % 8);
            // The engine may meet what it takes for impossible: that is loud enough.
            match std::panic::catch_unwind(|| contents(left.path())) {
                Err(_) | Ok(Err(_)) => refused += 1,
                Ok(Ok(found)) => {
                    assert_eq!(found, sound, "{} was flipped at {offset} of {length}", path.display());
                    unchanged += 1;
                }
            }
        }
    }
    (refused, unchanged)
}

fn flip(path: &Path, offset: u64, bit: u64) {
    let file = File::options().read(true).write(true).open(path).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("reads");
    file.write_all_at(&[byte[0] ^ (1 << bit)], offset).expect("writes");
}

#[test]
fn r11_a_flipped_bit_in_the_journal_is_refused_or_changes_nothing() {
    let directory = TempDir::new().expect("a directory");
    filled(directory.path(), 12, 1);
    contents(directory.path()).expect("what is left of the journal is what was written");
    let is_journal = |path: &Path| path.extension().is_some_and(|extension| extension == "jnl");
    let (refused, unchanged) = flip_everywhere(directory.path(), 120, is_journal);
    assert!(refused > 80, "{refused} refused, {unchanged} unchanged");
}

#[test]
fn r11_a_flipped_bit_in_any_file_is_refused_or_changes_nothing() {
    let directory = TempDir::new().expect("a directory");
    filled(directory.path(), 300, 500);
    let begun = Instant::now();
    let is_table = |path: &Path| path.parent().is_some_and(|parent| parent.ends_with("tables"));
    loop {
        let mut all = Vec::new();
        files(directory.path(), &mut all);
        if all.iter().filter(|path| is_table(path)).count() > 2 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no table was written: {all:#?}");
        contents(directory.path()).expect("opens, and goes on writing tables");
    }
    let (refused, unchanged) = flip_everywhere(directory.path(), 3, |_| true);
    assert!(refused > 10, "{refused} refused, {unchanged} unchanged");
}
