//! What tests of the storage and of the engine share: a history, and copies of directories.

use lockstep_protocol::ids::{Attempt, Hash, Index, Timestamp, ViewNumber, WriteId};
use lockstep_protocol::log::{Batch, Entry, LogRecord};
use lockstep_protocol::operation::{Action, ChannelName, KeyOwner, LoggedOperation, Operation, Text};
use lockstep_protocol::storage::StorageRequest;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// An entry of so many posts.
pub fn post(index: u64, prev_hash: Hash, texts: u64) -> Arc<Entry> {
    let channel = ChannelName::new("general").expect("a name");
    let logged = |n: u64| {
        let at = Timestamp(index * 1_000_000 + n);
        let text = Text::new(&format!("message {n} of entry {index}, about as long as most are")).expect("a text");
        let action = Action::Post { channel: channel.clone(), text, create_channel: true };
        let owner = KeyOwner::new("ada", &format!("{index}-{n}")).expect("a key");
        LoggedOperation { operation: Operation { owner, action }, channel: channel.clone(), at }
    };
    let operations = (0..texts).map(logged).collect();
    Arc::new(Entry::new(
        Index(index),
        prev_hash,
        Batch::Operations { operations, keys_at: Timestamp(0), expire_keys_before: Timestamp(0) },
    ))
}

/// So many entries of one post each.
pub fn history(entries: u64) -> Vec<Arc<Entry>> {
    let mut history: Vec<Arc<Entry>> = Vec::new();
    for index in 1..=entries {
        let prev_hash = history.last().map(|entry| entry.hash).unwrap_or_default();
        history.push(post(index, prev_hash, 1));
    }
    history
}

/// To log it.
pub fn write_log(entry: &Arc<Entry>) -> StorageRequest {
    let commit_index = entry.index.before();
    let record = LogRecord { entry: Arc::clone(entry), view: ViewNumber(1), attempt: Attempt(1), commit_index };
    StorageRequest::WriteLog { write: WriteId(entry.index.0), record }
}

/// To apply it.
pub fn apply(entry: &Arc<Entry>) -> StorageRequest {
    StorageRequest::Apply { entry: Arc::clone(entry) }
}

/// All files, as a killed process would leave them.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creates");
    for found in fs::read_dir(from).expect("reads") {
        let path = found.expect("reads").path();
        let copy = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy_directory(&path, &copy),
            false => drop(fs::copy(&path, &copy).expect("copies")),
        }
    }
}
