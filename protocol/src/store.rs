//! What is replicated: channels, messages, stars, keys; deterministic [`apply`], over the tables of `storage.rs`.
//!
//! - Equal histories leave byte-equal tables (S5): nothing here reads a clock, and old idempotency keys are dropped by the
//!   log's own clock, a bounded number an entry.
//! - The table says itself how far it is applied ([`State`]), so that a snapshot is this table's pairs and nothing else.
//! - An operation whose key did something already, or was aborted, is not in the log: [`examine`] keeps it out, in the state that
//!   its batch meets, so that no replica need look again (S3, S4). One that the state cannot carry out, which R-2 kept out
//!   of the log too, has no effect, on every replica alike.
//!
//! Not here: which entries are committed (`replica.rs`), and what is locked meanwhile (`lock.rs`).

mod answers;
mod changes;
mod hints;
mod keys;
mod members;
mod messages;
mod query;
#[cfg(all(test, feature = "sim"))]
mod tests;
mod views;

pub use hints::Hints;
pub(crate) use query::{nothing, query};
pub use views::VIEWS_MAX;

use crate::change::Change;
use crate::ids::{Hash, Index, Timestamp};
use crate::log::{Batch, Entry};
use crate::member::Members;
use crate::operation::{
    Action, Channel, ChannelName, LoggedOperation, Message, Operation, OperationError, Outcome, UserName,
};
use crate::storage::kv::{Direction, KeyRange, Kv, ReadKv, Table, WriteBatch};
use crate::storage::{StorageError, Verdict};
use answers::NewKeys;
use changes::{Changes, encode};
use messages::NewMessages;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// How far the store is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The last applied entry.
    pub index: Index,
    /// The chain there.
    pub hash: Hash,
    /// The highest instant of all applied entries.
    pub last_timestamp: Timestamp,
    /// The keys' clock: the highest `keys_at` of all applied entries (section 4).
    pub keys_at: Timestamp,
}

/// A channel, under its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ChannelRecord {
    created_at: Timestamp,
    created_by: UserName,
}

impl ChannelRecord {
    fn named(self, name: ChannelName) -> Channel {
        Channel { name, created_at: self.created_at, created_by: self.created_by }
    }
}

/// What an entry does: the changes, not yet written, and what follows from them.
#[derive(Debug)]
pub struct Applied {
    /// To be written whole.
    pub changes: WriteBatch,
    /// How far the store is applied then.
    pub state: State,
    /// What each operation did, in order; empty for other batches.
    pub outcomes: Vec<Outcome>,
}

/// How far the store is applied; at its beginning, not at all.
///
/// # Errors
/// When the engine fails, or the table is damaged.
pub fn state<K: ReadKv>(kv: &K) -> Result<State, StorageError> {
    let bytes = kv.get(Table::Store, keys::STATE)?;
    Ok(bytes.map(|bytes| changes::decode(keys::STATE, &bytes)).transpose()?.unwrap_or_default())
}

/// Works out what an entry does to the store. The caller has checked that it follows the last one.
///
/// # Errors
/// When the engine fails, or the table is damaged.
pub fn apply<K: Kv>(kv: &K, state: &State, entry: &Entry, hints: &mut Hints) -> Result<Applied, StorageError> {
    assert!(entry.prev_hash == state.hash && entry.index == state.index.next(), "the entry follows the last one");
    let mut changes = Changes::new(kv);
    let outcomes = match &entry.batch {
        Batch::Operations { operations, keys_at, expire_keys_before } => {
            answers::expire(&mut changes, hints, *expire_keys_before, operations.len())?;
            hints.saw_keys(*keys_at);
            let mut new_keys = NewKeys::of(entry.index, *keys_at);
            let mut new_messages = NewMessages::after(state.last_timestamp);
            let mut outcomes = Vec::with_capacity(operations.len());
            for logged in operations {
                let outcome = apply_action(&mut changes, (&mut new_messages, hints), logged)?;
                answers::remember(&mut changes, &mut new_keys, logged, &outcome);
                outcomes.push(outcome);
            }
            new_messages.finish(&mut changes);
            new_keys.finish(&mut changes);
            outcomes
        }
        Batch::Abort { keys, keys_at } => {
            hints.saw_keys(*keys_at);
            let mut new_keys = NewKeys::of(entry.index, *keys_at);
            keys.iter().try_for_each(|(owner, _)| answers::abort(&mut changes, &mut new_keys, owner))?;
            new_keys.finish(&mut changes);
            Vec::new()
        }
        Batch::View(view) => {
            members::listed(&mut changes, view)?;
            views::begin(&mut changes, view).map(|()| Vec::new())?
        }
        Batch::Courses(courses) => views::complete(&mut changes, courses).map(|()| Vec::new())?,
        Batch::Remove(voter) => members::remove(&mut changes, voter).map(|()| Vec::new())?,
    };
    let last_timestamp = state.last_timestamp.max(entry.last_timestamp().unwrap_or_default());
    let keys_at = state.keys_at.max(entry.keys_at().unwrap_or_default());
    let state = State { index: entry.index, hash: entry.hash, last_timestamp, keys_at };
    changes.put(keys::STATE.to_vec(), encode(&state));
    Ok(Applied { changes: changes.into_batch(), state, outcomes })
}

fn apply_action<'e, K: Kv>(
    changes: &mut Changes<'_, K>,
    (new_messages, hints): (&mut NewMessages<'e>, &mut Hints),
    logged: &'e LoggedOperation,
) -> Result<Outcome, StorageError> {
    let user = &logged.operation.owner.user;
    let follows = new_messages.follows(logged.at);
    match &logged.operation.action {
        Action::Post { channel, text, create_channel } => {
            if !follows {
                return Ok(Outcome::Aborted);
            }
            if !hints.has_channel(channel) {
                if create(changes, channel, user, logged.at, *create_channel)?.1.is_none() {
                    return Ok(Outcome::Aborted);
                }
                hints.saw_channel(channel);
            }
            new_messages.add(channel, (logged.at, user.as_str(), text.as_str()));
            let (id, channel, user, text) = (logged.at, channel.clone(), user.clone(), text.clone());
            Ok(Outcome::Message(Message { id, channel, user, text, starred_by: Vec::new() }))
        }
        Action::Star { id } => star(changes, *id, user, true),
        Action::Unstar { id } => star(changes, *id, user, false),
        Action::CreateChannel { channel } => match create(changes, channel, user, logged.at, true)? {
            (created, Some(channel)) => Ok(Outcome::Channel { channel, created }),
            (_, None) => Ok(Outcome::Aborted),
        },
    }
}

/// The channel, and whether it was created for this; none when it is missing and may not be.
fn create<K: Kv>(
    changes: &mut Changes<'_, K>,
    name: &ChannelName,
    user: &UserName,
    at: Timestamp,
    may_create: bool,
) -> Result<(bool, Option<Channel>), StorageError> {
    if let Some(channel) = query::channel_named(changes, name)? {
        return Ok((false, Some(channel)));
    }
    if !may_create {
        return Ok((false, None));
    }
    let record = ChannelRecord { created_at: at, created_by: user.clone() };
    changes.put(keys::channel(name), encode(&record));
    Ok((true, Some(record.named(name.clone()))))
}

fn star<K: Kv>(
    changes: &mut Changes<'_, K>,
    id: Timestamp,
    user: &UserName,
    starred: bool,
) -> Result<Outcome, StorageError> {
    let Some(mut message) = query::find(changes, id)? else { return Ok(Outcome::Aborted) };
    let (key, index) = (keys::stars(&message.channel, id), keys::user_star(&message.channel, user, id));
    match (message.starred_by.binary_search(user), starred) {
        (Err(place), true) => {
            message.starred_by.insert(place, user.clone());
            changes.put(index, Vec::new());
        }
        (Ok(place), false) => {
            message.starred_by.remove(place);
            changes.delete(index);
        }
        (Ok(_), true) | (Err(_), false) => return Ok(Outcome::Message(message)),
    }
    match message.starred_by.is_empty() {
        true => changes.delete(key),
        false => changes.put(key, encode(&message.starred_by)),
    }
    Ok(Outcome::Message(message))
}

/// What the store says of operations before they are logged, each in the state that those before it would leave.
///
/// # Errors
/// When the engine fails, or the table is damaged.
pub fn examine<K: Kv>(kv: &K, operations: &[Operation]) -> Result<Vec<Verdict>, StorageError> {
    let store = Changes::new(kv);
    let mut created = BTreeSet::new();
    operations.iter().map(|operation| examine_one(&store, operation, &mut created)).collect()
}

fn examine_one<K: Kv>(
    store: &Changes<'_, K>,
    operation: &Operation,
    created: &mut BTreeSet<ChannelName>,
) -> Result<Verdict, StorageError> {
    if let Some(verdict) = answers::known(store, operation)? {
        return Ok(verdict);
    }
    match &operation.action {
        Action::Post { channel, create_channel: false, .. } => {
            let exists = created.contains(channel) || query::channel_named(store, channel)?.is_some();
            Ok(match exists {
                true => Verdict::Valid(channel.clone()),
                false => Verdict::Failed(OperationError::ChannelNotFound { channel: channel.clone() }),
            })
        }
        Action::Post { channel, create_channel: true, .. } | Action::CreateChannel { channel } => {
            created.insert(channel.clone());
            Ok(Verdict::Valid(channel.clone()))
        }
        Action::Star { id } | Action::Unstar { id } => Ok(match messages::locate(store.kv(), *id)? {
            Some(place) => Verdict::Valid(place.channel),
            None => Verdict::Failed(OperationError::MessageNotFound { id: *id }),
        }),
    }
}

/// In which channel a message is; none when there is no such message.
///
/// # Errors
/// When the engine fails, or the table is damaged.
pub fn locate<K: Kv>(kv: &K, id: Timestamp) -> Result<Option<ChannelName>, StorageError> {
    Ok(messages::locate(kv, id)?.map(|place| place.channel))
}

/// The records of the last view changes, oldest first.
///
/// # Errors
/// When the engine fails, or the table is damaged.
pub fn view_changes<K: Kv>(kv: &K, limit: usize) -> Result<Vec<Change>, StorageError> {
    views::last(kv, limit)
}

/// Who was ever a voter, and who was removed.
///
/// # Errors
/// When the engine fails, or the table is damaged.
pub fn members<K: Kv>(kv: &K) -> Result<Members, StorageError> {
    members::all(kv)
}

/// A hash over the whole store table: equal on replicas that applied the same entries. Reads everything.
///
/// # Errors
/// When the engine fails.
pub fn digest<K: ReadKv>(kv: &K) -> Result<Hash, StorageError> {
    let mut hasher = blake3::Hasher::new();
    kv.scan(Table::Store, &KeyRange::all(), Direction::Forward, &mut |key, value| {
        digest_pair(&mut hasher, key, value);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}

/// Adds a pair to a digest of the store.
pub(crate) fn digest_pair(hasher: &mut blake3::Hasher, key: &[u8], value: &[u8]) {
    for part in [key, value] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
}
