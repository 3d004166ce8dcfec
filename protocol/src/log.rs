//! The replicated log: entries, their hash chain, and the record in which one lies on disk (section 4).
//!
//! The hash chains over the previous hash, the index and the batch, and nothing else, so equal hashes mean equal history.
//! What was voted on it, and what the primary knew to be committed then, stand beside the entry in its record.
//!
//! Not here: which entry may replace which (`replica.rs`), and where records lie (`storage.rs`).

use crate::change::Course;
use crate::ids::{Attempt, Hash, Index, Timestamp, ViewNumber, Voter};
use crate::lock::{Mode, Resource};
use crate::operation::{KeyOwner, LoggedOperation};
use crate::view::View;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One distributed transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Batch {
    /// One or more client operations, in order of arrival.
    Operations {
        /// Never empty.
        operations: Vec<LoggedOperation>,
        /// When their idempotency keys were given out, by the keys' clock (section 4).
        keys_at: Timestamp,
        /// Idempotency keys older than this, by that clock, are dropped, on every replica alike.
        expire_keys_before: Timestamp,
    },
    /// these keys took no effect and never will.
    Abort {
        /// The keys of the aborted operations, with the instants that the batch had given them.
        keys: Vec<(KeyOwner, Timestamp)>,
        /// When they were given out, by the keys' clock.
        keys_at: Timestamp,
    },
    /// from here on this view serves.
    View(View),
    /// Section 12: what the primary of each of these views knows of how it came about, told once it serves. Never empty.
    Courses(Vec<Course>),
    /// this member has left for good.
    Remove(Voter),
}

/// One slot of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place.
    pub index: Index,
    /// The hash of the entry before it; zero for the first.
    pub prev_hash: Hash,
    /// What it does.
    pub batch: Batch,
    /// The chain's hash up to here.
    pub hash: Hash,
}

impl Entry {
    /// Chains a batch onto the log's end.
    #[must_use]
    pub fn new(index: Index, prev_hash: Hash, batch: Batch) -> Self {
        let hash = chain_hash(index, prev_hash, &batch);
        Self { index, prev_hash, batch, hash }
    }

    /// Whether the hash is that of the contents. What comes from network or disk is asked before it is used.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.index.0 > 0 && self.hash == chain_hash(self.index, self.prev_hash, &self.batch)
    }

    /// The locks that it holds while in doubt, in canonical order (section 6). Aborts and views take none. Whatever a primary
    /// forms while it serves takes IX on the store at least: nothing may be committed during the last round of a join.
    #[must_use]
    pub fn locks(&self) -> Vec<(Resource, Mode)> {
        let operations = match &self.batch {
            Batch::Operations { operations, .. } => operations,
            Batch::Courses(_) | Batch::Remove(_) => return vec![(Resource::Store, Mode::IntentExclusive)],
            Batch::Abort { .. } | Batch::View(_) => return Vec::new(),
        };
        let channels: BTreeSet<_> = operations.iter().map(|operation| operation.channel.clone()).collect();
        let exclusive = channels.into_iter().map(|channel| (Resource::Channel(channel), Mode::Exclusive));
        std::iter::once((Resource::Store, Mode::IntentExclusive)).chain(exclusive).collect()
    }

    /// When its idempotency keys were given out, by the keys' clock; none when it holds none.
    #[must_use]
    pub fn keys_at(&self) -> Option<Timestamp> {
        match &self.batch {
            Batch::Operations { keys_at, .. } | Batch::Abort { keys_at, .. } => Some(*keys_at),
            Batch::View(_) | Batch::Courses(_) | Batch::Remove(_) => None,
        }
    }

    /// The latest instant that it gives out; none when it gives none.
    #[must_use]
    pub fn last_timestamp(&self) -> Option<Timestamp> {
        match &self.batch {
            Batch::Operations { operations, .. } => operations.iter().map(|operation| operation.at).max(),
            Batch::Abort { keys, .. } => keys.iter().map(|(_, at)| *at).max(),
            Batch::View(_) | Batch::Courses(_) | Batch::Remove(_) => None,
        }
    }
}

fn chain_hash(index: Index, prev_hash: Hash, batch: &Batch) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&prev_hash.0);
    hasher.update(&index.0.to_be_bytes());
    // Postcard has one encoding for one value, and its wire format is fixed since 1.0: the chain can be recomputed for ever.
    let encoded = postcard::to_stdvec(batch).unwrap_or_default();
    debug_assert!(!encoded.is_empty(), "a batch always encodes");
    hasher.update(&encoded);
    Hash(*hasher.finalize().as_bytes())
}

/// An entry as it lies in the log of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// The entry.
    pub entry: std::sync::Arc<Entry>,
    /// The view in which it was last voted for; 0 when it came by synchronisation.
    pub view: ViewNumber,
    /// The attempt of that view.
    pub attempt: Attempt,
    /// What the sender knew to be committed: after a restart too, only the last entries are in doubt.
    pub commit_index: Index,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Cut short, or not of this format.
    #[error("malformed")]
    Malformed,
    /// The checksum over the bytes differs.
    #[error("checksum differs")]
    Checksum,
}

/// Bytes of checksum before each record or chunk.
const CHECKSUM_BYTES: usize = 16;

/// What the record of a small entry takes at most. Bytes.
const SEALED_BYTES: usize = 512;

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM_BYTES]);
    sum
}

/// Encodes a value with its checksum before it, for the disk.
#[must_use]
pub fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SEALED_BYTES);
    bytes.extend_from_slice(&[0; CHECKSUM_BYTES]);
    let mut bytes = postcard::to_extend(value, bytes).unwrap_or_default();
    debug_assert!(bytes.len() > CHECKSUM_BYTES, "what is sealed always encodes");
    if let Some((sum, body)) = bytes.split_at_mut_checked(CHECKSUM_BYTES) {
        sum.copy_from_slice(&checksum(body));
    }
    bytes
}

/// Decodes what [`seal`] made.
///
/// # Errors
/// When the bytes are cut short, changed, or of another kind.
pub fn unseal<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, RecordError> {
    let (sum, body) = bytes.split_at_checked(CHECKSUM_BYTES).ok_or(RecordError::Malformed)?;
    if checksum(body) != sum {
        return Err(RecordError::Checksum);
    }
    postcard::from_bytes(body).map_err(|_| RecordError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_4_a_record_survives_the_disk_and_a_flipped_bit_does_not() {
        let entry = Entry::new(Index(7), Hash([9; 32]), Batch::Abort { keys: Vec::new(), keys_at: Timestamp(0) });
        let record =
            LogRecord { entry: entry.into(), view: ViewNumber(3), attempt: Attempt(2), commit_index: Index(6) };
        let bytes = seal(&record);
        assert_eq!(unseal::<LogRecord>(&bytes), Ok(record));
        for bit in 0..bytes.len() * 8 {
            let mut torn = bytes.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal::<LogRecord>(&torn), Err(RecordError::Checksum), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(unseal::<LogRecord>(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn section_4_the_chain_covers_index_history_and_batch() {
        let entry = Entry::new(Index(1), Hash::default(), Batch::Abort { keys: Vec::new(), keys_at: Timestamp(0) });
        assert!(entry.is_intact());
        assert!(!Entry { index: Index(2), ..entry.clone() }.is_intact());
        assert!(!Entry { prev_hash: Hash([1; 32]), ..entry.clone() }.is_intact());
        let key = (KeyOwner::new("ada", "k").expect("valid"), Timestamp(1));
        assert!(!Entry { batch: Batch::Abort { keys: vec![key], keys_at: Timestamp(0) }, ..entry }.is_intact());
    }

    #[test]
    fn section_4_no_entry_stands_before_the_first() {
        let batch = || Batch::Abort { keys: Vec::new(), keys_at: Timestamp(0) };
        assert!(Entry::new(Index(1), Hash::default(), batch()).is_intact());
        assert!(!Entry::new(Index(0), Hash::default(), batch()).is_intact());
    }
}
