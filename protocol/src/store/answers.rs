//! Idempotency keys: what each did first, so that its repetition is told the same and does nothing (S3, S4, R-2).
//!
//! A record holds what is needed to give the first answer again exactly: of a post nothing but where it is, since a message
//! never changes and its first answer has no stars; of a star those who had starred it then.
//!
//! Keys grow old by a clock of their own, which the log carries (section 4), all of an entry's together; and each entry drops those
//! of a bounded number of old ones: the same on every replica.
//!
//! Not here: keys in flight, which the coordinator knows.

use super::changes::{Changes, damaged};
use super::keys::Digest;
use super::{ChannelRecord, Hints, keys, messages};
use crate::ids::{Index, Timestamp};
use crate::operation::LoggedOperation;
use crate::operation::{Action, ChannelName, KeyOwner, Message, Operation, OperationError, Outcome, UserName};
use crate::storage::kv::{Direction, KeyRange, Kv, Table};
use crate::storage::{StorageError, Verdict};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// An entry drops no more old entries' keys once it has dropped this many, and two more for each of its operations, so that
/// they never pile up.
const DROPPED_KEYS_MIN: usize = 16;

const FINGERPRINT_BYTES: usize = 16;

type Fingerprint = [u8; FINGERPRINT_BYTES];

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeyRecord {
    /// By the keys' clock.
    at: Timestamp,
    index: Index,
    first: First,
}

/// What the first request with a key did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum First {
    /// Nothing, for ever, whatever the request was.
    Aborted,
    Posted {
        request: Fingerprint,
        channel: ChannelName,
        id: Timestamp,
    },
    Starred {
        request: Fingerprint,
        channel: ChannelName,
        id: Timestamp,
        starred_by: Vec<UserName>,
    },
    Created {
        request: Fingerprint,
        channel: ChannelName,
        created: bool,
    },
}

/// What tells one request from another under the same key. A gateway may change `create_channel` between two tries.
fn fingerprint(action: &Action) -> Fingerprint {
    let bytes = match action {
        Action::Post { channel, text, create_channel: _ } => postcard::to_stdvec(&(0_u8, channel, text)),
        Action::Star { id } => postcard::to_stdvec(&(1_u8, id)),
        Action::Unstar { id } => postcard::to_stdvec(&(2_u8, id)),
        Action::CreateChannel { channel } => postcard::to_stdvec(&(3_u8, channel)),
    };
    xxhash_rust::xxh3::xxh3_128(&bytes.unwrap_or_default()).to_be_bytes()
}

/// What is known of an operation's key: the first result and its entry, or that the key stands for another request.
pub(super) fn known<K: Kv>(changes: &Changes<'_, K>, operation: &Operation) -> Result<Option<Verdict>, StorageError> {
    let key = keys::idempotency(&keys::digest(&operation.owner));
    let Some(record) = changes.read::<KeyRecord>(&key)? else { return Ok(None) };
    let known = fingerprint(&operation.action);
    let verdict = match &record.first {
        First::Posted { request, .. } | First::Starred { request, .. } | First::Created { request, .. }
            if *request != known =>
        {
            Verdict::Failed(OperationError::KeyReused)
        }
        First::Aborted | First::Posted { .. } | First::Starred { .. } | First::Created { .. } => {
            Verdict::Known(first_outcome(changes, &record.first)?, record.index)
        }
    };
    Ok(Some(verdict))
}

fn first_outcome<K: Kv>(changes: &Changes<'_, K>, first: &First) -> Result<Outcome, StorageError> {
    match first {
        First::Aborted => Ok(Outcome::Aborted),
        First::Posted { channel, id, .. } => first_message(changes, channel, *id, &[]),
        First::Starred { channel, id, starred_by, .. } => first_message(changes, channel, *id, starred_by),
        First::Created { channel, created, .. } => {
            let key = keys::channel(channel);
            let record: ChannelRecord =
                changes.read(&key)?.ok_or_else(|| damaged(&key, "a key's first answer is about it, and it is gone"))?;
            Ok(Outcome::Channel { channel: record.named(channel.clone()), created: *created })
        }
    }
}

fn first_message<K: Kv>(
    changes: &Changes<'_, K>,
    channel: &ChannelName,
    id: Timestamp,
    starred_by: &[UserName],
) -> Result<Outcome, StorageError> {
    let message = messages::read(changes.kv(), channel, id)?;
    Ok(Outcome::Message(Message { starred_by: starred_by.to_vec(), ..message }))
}

/// The keys that one entry gives a meaning.
#[derive(Debug)]
pub(super) struct NewKeys {
    index: Index,
    at: Timestamp,
    digests: Vec<Digest>,
}

impl NewKeys {
    /// None yet.
    pub(super) fn of(entry: Index, at: Timestamp) -> Self {
        Self { index: entry, at, digests: Vec::new() }
    }

    fn put<K: Kv>(&mut self, changes: &mut Changes<'_, K>, digest: Digest, first: First) {
        let record = KeyRecord { at: self.at, index: self.index, first };
        changes.put(keys::idempotency(&digest), super::changes::encode(&record));
        self.digests.push(digest);
    }

    /// Writes down that they grow old together. Goes last in an entry.
    pub(super) fn finish<K: Kv>(self, changes: &mut Changes<'_, K>) {
        if !self.digests.is_empty() {
            changes.put(keys::age(self.at, self.index), self.digests.concat());
        }
    }
}

/// Remembers what an operation did.
pub(super) fn remember<K: Kv>(
    changes: &mut Changes<'_, K>,
    new: &mut NewKeys,
    logged: &LoggedOperation,
    outcome: &Outcome,
) {
    let action = &logged.operation.action;
    let request = fingerprint(action);
    let first = match outcome {
        Outcome::Aborted => First::Aborted,
        Outcome::Channel { channel, created } => {
            First::Created { request, channel: channel.name.clone(), created: *created }
        }
        Outcome::Message(Message { id, channel, starred_by, .. }) => {
            let (channel, id) = (channel.clone(), *id);
            match action {
                Action::Star { .. } | Action::Unstar { .. } => {
                    First::Starred { request, channel, id, starred_by: starred_by.clone() }
                }
                Action::Post { .. } | Action::CreateChannel { .. } => First::Posted { request, channel, id },
            }
        }
    };
    new.put(changes, keys::digest(&logged.operation.owner), first);
}

/// Remembers that a key's request had no effect and never will. What a key did before is not forgotten for it.
pub(super) fn abort<K: Kv>(
    changes: &mut Changes<'_, K>,
    new: &mut NewKeys,
    owner: &KeyOwner,
) -> Result<(), StorageError> {
    let digest = keys::digest(owner);
    if changes.get(&keys::idempotency(&digest))?.is_none() {
        new.put(changes, digest, First::Aborted);
    }
    Ok(())
}

/// Drops the oldest keys, if older than `before`; how many at most depends on the entry alone. Goes first in an entry:
/// it looks only at what is written.
pub(super) fn expire<K: Kv>(
    changes: &mut Changes<'_, K>,
    hints: &mut Hints,
    before: Timestamp,
    operations: usize,
) -> Result<(), StorageError> {
    let from = keys::age_from(Timestamp(0)).max(hints.expired_to.clone());
    let range = KeyRange { from, to: Some(keys::age_from(before)) };
    let count_max = operations.saturating_mul(2).saturating_add(DROPPED_KEYS_MIN);
    let (mut old, mut count) = (Vec::new(), 0);
    changes.kv().scan(Table::Store, &range, Direction::Forward, &mut |key, value| {
        let (digests, rest) = value.as_chunks();
        if !rest.is_empty() {
            return Err(damaged(key, "holds half a digest"));
        }
        count += digests.len();
        old.push((key.to_vec(), digests.to_vec()));
        Ok(if count < count_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    for (key, digests) in old {
        for digest in digests {
            changes.delete(keys::idempotency(&digest));
        }
        hints.expired_to.clone_from(&key);
        changes.delete(key);
    }
    Ok(())
}
