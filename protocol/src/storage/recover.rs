//! What a node finds on its disk when it starts (section 9).
//!
//! - An empty directory is given an identity; one that is another voter's is refused, and so is what another version laid out
//!   otherwise.
//! - The vote and the log's uncommitted tail are written and flushed again before anything is said of them: a flush that
//!   failed before the crash must not count as one that succeeded.
//! - All that is known to be committed is applied: up to the highest commit index that a record of the tail kept.
//! - A snapshot that was not whole yet is dropped with the log; the vote stays.
//!
//! Not here: what the node then does (`replica.rs`, `birth.rs`).

use crate::ids::{Hash, Incarnation, Index, Voter};
use crate::log::{LogRecord, seal, unseal};
use crate::machine::Limits;
use crate::storage::kv::{Kv, ReadKv, Table, WriteBatch};
use crate::storage::slots::{self, Slots};
use crate::storage::{FORMAT_VERSION, Identity, Recovered, Storage, StorageError, VoteRecord};
use crate::store::{self, Hints};
use serde::Deserialize;

pub(super) const IDENTITY: &[u8] = b"identity";
/// By which version of the layout everything lies here.
pub(super) const FORMAT: &[u8] = b"format";
pub(super) const VOTE: &[u8] = b"vote";
/// There while a snapshot is being installed.
pub(super) const INSTALLING: &[u8] = b"installing";

/// How many committed entries are told after a restart: a letter about an older one is very late.
const RECENT_ENTRIES_MAX: u64 = 64;

fn read_meta<K: Kv, T: for<'a> Deserialize<'a>>(kv: &K, key: &[u8]) -> Result<Option<T>, StorageError> {
    let damaged = |error: crate::log::RecordError| StorageError::Damaged {
        place: String::from_utf8_lossy(key).into_owned(),
        reason: error.to_string(),
    };
    kv.get(Table::Meta, key)?.map(|bytes| unseal(&bytes).map_err(damaged)).transpose()
}

/// Whose directory it is; `new_incarnation` is taken when it is nobody's yet.
fn identify<K: Kv>(kv: &mut K, voter: Voter, new_incarnation: Incarnation) -> Result<Identity, StorageError> {
    if let Some(identity) = read_meta::<K, Identity>(kv, IDENTITY)? {
        check_format(kv)?;
        return match identity.voter == voter {
            true => Ok(identity),
            false => Err(StorageError::Owner { theirs: identity.voter, ours: voter }),
        };
    }
    refuse_without_identity(kv)?;
    let identity = Identity { voter, incarnation: new_incarnation };
    let mut batch = WriteBatch::default();
    batch.put(Table::Meta, IDENTITY.to_vec(), seal(&identity));
    batch.put(Table::Meta, FORMAT.to_vec(), seal(&FORMAT_VERSION));
    kv.write(batch)?;
    kv.flush()?;
    Ok(identity)
}

/// The first layouts did not say which they were.
fn check_format<K: Kv>(kv: &K) -> Result<(), StorageError> {
    let theirs = read_meta(kv, FORMAT)?.unwrap_or_default();
    if theirs == FORMAT_VERSION { Ok(()) } else { Err(StorageError::Format { theirs }) }
}

/// The identity is flushed before anything else is written: what has none must be empty.
fn refuse_without_identity<K: Kv>(kv: &K) -> Result<(), StorageError> {
    let is_empty = Slots::find(kv, Index(0))? == Slots::after(Index(0))
        && kv.get(Table::Meta, VOTE)?.is_none()
        && store::state(kv)? == store::State::default();
    let lost = || StorageError::Damaged { place: "identity".into(), reason: "there is data, and no owner".into() };
    is_empty.then_some(()).ok_or_else(lost)
}

/// Whether the node ended while it took a snapshot in: the log and the store are of no use then.
pub(crate) fn is_half_installed<K: ReadKv>(kv: &K) -> Result<bool, StorageError> {
    Ok(kv.get(Table::Meta, INSTALLING)?.is_some())
}

/// Drops a snapshot that was not whole when the node ended.
fn drop_half_installed<K: Kv>(kv: &mut K) -> Result<(), StorageError> {
    if !is_half_installed(kv)? {
        return Ok(());
    }
    kv.clear(Table::Log)?;
    kv.clear(Table::Store)?;
    kv.flush()?;
    let mut batch = WriteBatch::default();
    batch.delete(Table::Meta, INSTALLING.to_vec());
    kv.write(batch)
}

/// Section 9: flushes the vote and the tail as if they were new.
fn rewrite<K: Kv>(kv: &mut K, vote: Option<&VoteRecord>, tail: &[LogRecord]) -> Result<(), StorageError> {
    let mut batch = WriteBatch::default();
    if let Some(vote) = vote {
        batch.put(Table::Meta, VOTE.to_vec(), seal(vote));
    }
    slots::rewrite(&mut batch, tail);
    kv.write(batch)?;
    kv.flush()
}

impl<K: Kv> Storage<K> {
    /// Opens what is on the disk: creates it, or checks it, makes it durable again and applies what is committed.
    ///
    /// # Errors
    /// When the disk is another voter's, when what is read back is not what was written, and when the engine fails.
    pub fn open(
        mut kv: K,
        voter: Voter,
        new_incarnation: Incarnation,
        limits: &Limits,
    ) -> Result<(Self, Recovered), StorageError> {
        let identity = identify(&mut kv, voter, new_incarnation)?;
        drop_half_installed(&mut kv)?;
        let vote = read_meta(&kv, VOTE)?;
        let state = store::state(&kv)?;
        let slots = Slots::find(&kv, state.index)?;
        let tail = checked_tail(&kv, &slots, &state)?;
        rewrite(&mut kv, vote.as_ref(), &tail)?;
        let mut storage = Self {
            kv,
            limits: limits.clone(),
            state,
            slots,
            pinned: None,
            installing: false,
            hints: Hints::default(),
            is_dirty: false,
            has_new_members: false,
        };
        let tail = storage.apply_committed(tail)?;
        storage.has_new_members = false; // What was found says it.
        let recovered = storage.describe(identity, vote, tail)?;
        Ok((storage, recovered))
    }

    /// Applies what the tail's records say is committed, and flushes; leaves the rest.
    fn apply_committed(&mut self, mut tail: Vec<LogRecord>) -> Result<Vec<LogRecord>, StorageError> {
        let known = |record: &LogRecord| record.commit_index.min(record.entry.index);
        let commit_index = tail.iter().map(known).max().unwrap_or_default();
        let in_doubt = tail.split_off(tail.partition_point(|record| record.entry.index <= commit_index));
        for record in &tail {
            self.apply_entry(&record.entry, WriteBatch::default())?;
        }
        self.kv.flush()?;
        Ok(in_doubt)
    }

    fn describe(
        &self,
        identity: Identity,
        vote: Option<VoteRecord>,
        tail: Vec<LogRecord>,
    ) -> Result<Recovered, StorageError> {
        let committed = (self.state.index, self.state.hash);
        let recent = self.recent()?;
        let instants = tail.iter().filter_map(|record| record.entry.last_timestamp());
        let last_timestamp = instants.max().unwrap_or_default().max(self.state.last_timestamp);
        assert!(tail.first().is_none_or(|record| record.entry.prev_hash == committed.1), "the tail follows");
        let members = store::members(&self.kv)?;
        Ok(Recovered { identity, vote, committed, recent, tail, last_timestamp, members })
    }

    fn recent(&self) -> Result<Vec<(Index, Hash)>, StorageError> {
        let oldest = Index(self.state.index.0.saturating_sub(RECENT_ENTRIES_MAX)).next().max(self.slots.first());
        let mut recent = Vec::new();
        for index in (oldest.0..=self.state.index.0).map(Index) {
            if let Some(record) = self.slots.read(&self.kv, index)? {
                recent.push((index, record.entry.hash));
            }
        }
        Ok(recent)
    }
}

/// What lies in the log above the store, after a look whether both tell one history.
fn checked_tail<K: Kv>(kv: &K, slots: &Slots, state: &store::State) -> Result<Vec<LogRecord>, StorageError> {
    if slots.end() < state.index {
        return Err(StorageError::Damaged {
            place: format!("log record {}", state.index),
            reason: format!("it is gone; the log ends at {}", slots.end()),
        });
    }
    let differs = |record: &LogRecord| record.entry.hash != state.hash;
    if slots.read(kv, state.index)?.as_ref().is_some_and(differs) {
        return Err(StorageError::Damaged {
            place: format!("log record {}", state.index),
            reason: format!("the store was applied from another one ({})", state.hash),
        });
    }
    slots.tail(kv, state.index, state.hash)
}
