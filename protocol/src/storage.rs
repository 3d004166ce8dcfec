//! What one node keeps: its vote, its log and its store, over a small ordered table (section 4).
//!
//! Requests are served in order. What must be durable is answered after one flush for all that waited.
//! A failed write or flush is never tried again in place: the node ends, and recovery reads the disk (section 9).
//!
//! Not here: what may be written (`replica.rs`, `sync.rs`), and what an operation does (`store.rs`).
//!
//! [`kv`] is the table that an engine offers, `recover` what is found at start, [`scan`] reads all, `serve` the requests, `slots` the log,
//! `snapshot` what joining nodes give and take.

pub mod kv;
mod recover;
pub mod scan;
mod serve;
mod slots;
mod snapshot;
#[cfg(all(test, feature = "sim"))]
pub(crate) mod tests;

#[cfg(any(test, feature = "sim"))]
pub(crate) use recover::is_half_installed;
pub use serve::Storage;

use crate::ids::{Ballot, Hash, Incarnation, Index, RequestId, SessionId, Timestamp, Voter, WriteId};
use crate::log::{Entry, LogRecord};
use crate::member::Members;
use crate::message::Pair;
use crate::operation::{ChannelName, Found, Operation, OperationError, Outcome, Query};
use crate::view::View;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a voter has promised, as one durable record (section 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteRecord {
    /// The last decided view that it knows.
    pub view: View,
    /// The highest ballot promised for the view after it.
    pub promised: Option<Ballot>,
    /// What it accepted for the view after it.
    pub accepted: Option<(Ballot, View)>,
}

/// Who the data directory belongs to; drawn when it is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The voter that it is.
    pub voter: Voter,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

/// What was found on disk, made durable again (section 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whose directory it is.
    pub identity: Identity,
    /// Its vote; none before it knows a view.
    pub vote: Option<VoteRecord>,
    /// What is committed, as far as this disk knows, and the chain there; all of it is applied.
    pub committed: (Index, Hash),
    /// The last committed entries that are still in the log, in order: enough to tell a repeated letter.
    pub recent: Vec<(Index, Hash)>,
    /// The records above the commit index, in order.
    pub tail: Vec<LogRecord>,
    /// The highest instant in the log and the store.
    pub last_timestamp: Timestamp,
    /// Who was ever a voter, as far as the store is applied.
    pub members: Members,
}

/// What the store says of an operation before it is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may enter the batch; it touches this channel.
    Valid(ChannelName),
    /// Its key is known with the same request: this is the first one's result.
    Known(Outcome, Index),
    /// It fails; the error is not remembered.
    Failed(OperationError),
}

/// What machines ask of the storage.
#[derive(Clone, Debug, PartialEq)]
pub enum StorageRequest {
    /// Replaces the vote. Answered by `Durable`.
    WriteVote {
        /// Named in the answer.
        write: WriteId,
        /// The vote.
        vote: VoteRecord,
    },
    /// Puts this record into its slot, and drops all behind it, unless the slot holds the same entry already.
    /// Answered by `Durable`.
    WriteLog {
        /// Named in the answer.
        write: WriteId,
        /// The record.
        record: LogRecord,
    },
    /// Applies the next committed entry. Not flushed; answered by `Applied`.
    Apply {
        /// The entry; the one after the last applied.
        entry: Arc<Entry>,
    },
    /// In which channel is this message? Answered by `Located`.
    Locate {
        /// Named in the answer.
        request: RequestId,
        /// The message.
        id: Timestamp,
    },
    /// May these enter a batch, in this order, in the state after all that was applied? Answered by `Examined`.
    Examine {
        /// Named in the answer.
        round: u64,
        /// In order of arrival.
        operations: Vec<Operation>,
    },
    /// Answered by `Queried`.
    Query {
        /// Named in the answer.
        request: RequestId,
        /// What.
        query: Query,
    },
    /// Pins the store and the log as they are. Answered by `Pinned`. One snapshot at a time: replaces another.
    Pin {
        /// Named in the answer.
        session: SessionId,
    },
    /// Reads a chunk of the pinned snapshot. Answered by `ChunkRead`.
    ReadChunk {
        /// Named in the answer.
        session: SessionId,
        /// The key after which it begins.
        cursor: Option<Vec<u8>>,
        /// Its size, unless one pair alone is larger.
        bytes_max: usize,
    },
    /// Lets the snapshot and the log go.
    Unpin {
        /// Which; another one stays.
        session: SessionId,
    },
    /// Reads committed entries. Answered by `LogRead`.
    ReadLog {
        /// Named in the answer.
        session: SessionId,
        /// They begin after this index.
        after: Index,
        /// Their size, unless one entry alone is larger.
        bytes_max: usize,
    },
    /// drops what the log holds above the last applied entry. Durable before the next request's answer.
    DropTail,
    /// drops store and log; what follows is a snapshot, until `InstallEnd`. A restart before that finds nothing.
    InstallBegin,
    /// puts a chunk's pairs. Answered by `Durable`.
    InstallChunk {
        /// Named in the answer.
        write: WriteId,
        /// The pairs.
        pairs: Vec<Pair>,
    },
    /// the snapshot is whole, and ends at this entry. Answered by `Durable`, or `Mismatch` when it does not.
    InstallEnd {
        /// Named in the answer.
        write: WriteId,
        /// The last entry that it holds.
        index: Index,
        /// The chain there.
        hash: Hash,
    },
    /// logs and applies committed entries that follow the last one; those applied already are passed over.
    /// Answered by `Durable`.
    WriteCommitted {
        /// Named in the answer.
        write: WriteId,
        /// In order, without a gap; the first follows the last applied one, or is applied already.
        entries: Vec<Arc<Entry>>,
    },
}

impl StorageRequest {
    /// Whether it writes what must be durable before anything that is asked after it is answered.
    #[must_use]
    pub fn needs_flush(&self) -> bool {
        match self {
            Self::WriteVote { .. }
            | Self::WriteLog { .. }
            | Self::DropTail
            | Self::InstallBegin
            | Self::InstallChunk { .. }
            | Self::InstallEnd { .. }
            | Self::WriteCommitted { .. } => true,
            Self::Apply { .. }
            | Self::Locate { .. }
            | Self::Examine { .. }
            | Self::Query { .. }
            | Self::Pin { .. }
            | Self::ReadChunk { .. }
            | Self::Unpin { .. }
            | Self::ReadLog { .. } => false,
        }
    }
}

/// What the storage says.
#[derive(Clone, Debug, PartialEq)]
pub enum StorageEvent {
    /// It is flushed, and so is all that was asked before it.
    Durable {
        /// Which write.
        write: WriteId,
        /// Whose.
        by: Writer,
    },
    /// The entry is applied.
    Applied {
        /// Its place.
        index: Index,
        /// What each of its operations did, in order; empty for other batches.
        outcomes: Vec<Outcome>,
    },
    /// Where a message is.
    Located {
        /// Who asked.
        request: RequestId,
        /// None when there is no such message.
        channel: Option<ChannelName>,
    },
    /// What the store says of the operations.
    Examined {
        /// Which round.
        round: u64,
        /// One for each operation, in order.
        verdicts: Vec<Verdict>,
        /// The keys' clock, as far as the store is applied (section 4).
        keys_at: Timestamp,
        /// The last entry in the state that was looked at.
        index: Index,
    },
    /// What a query found, in the state after `index`.
    Queried {
        /// Who asked.
        request: RequestId,
        /// What.
        found: Result<Found, OperationError>,
        /// The last entry that it shows.
        index: Index,
    },
    /// The snapshot is pinned.
    Pinned {
        /// Which.
        session: SessionId,
        /// The last entry that it holds.
        index: Index,
        /// The chain there.
        hash: Hash,
        /// Roughly how large the store is. Bytes; 0 when the engine does not know.
        bytes: u64,
        /// The highest instant that it gives out.
        last_timestamp: Timestamp,
    },
    /// A chunk of the pinned snapshot; none when it is not pinned (any more).
    ChunkRead {
        /// Which.
        session: SessionId,
        /// Where it began.
        cursor: Option<Vec<u8>>,
        /// The pairs, in order of key, and whether they are the last.
        chunk: Option<(Vec<Pair>, bool)>,
    },
    /// Committed entries.
    LogRead {
        /// Who asked.
        session: SessionId,
        /// Where they begin.
        after: Index,
        /// The chain at `after`; none when the log does not reach back to it.
        hash: Option<Hash>,
        /// In order.
        entries: Vec<Arc<Entry>>,
        /// The last applied entry then.
        applied: Index,
    },
    /// who is a member, and who was removed, has changed. Said before whatever says that it is applied.
    Members {
        /// All of them.
        members: Members,
    },
    /// the snapshot did not end where it should; begin again from scratch.
    Mismatch {
        /// Which write.
        write: WriteId,
    },
}

/// Who waits for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// `replica.rs`.
    Replica,
    /// `sync.rs`.
    Sync,
}

/// How everything lies on the disk: counted up with each change of it.
pub const FORMAT_VERSION: u16 = 1;

/// Why the storage cannot go on. The node ends; recovery reads the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The engine failed: no space, a device error, a failed flush. With the cause mended, the node goes on where it was.
    #[error("the storage engine failed: {0}")]
    Engine(String),
    /// What was read back is not what was written. The directory is of no use any more ([`StorageError::remedy`]).
    #[error("{place} is damaged: {reason}")]
    Damaged {
        /// Where.
        place: String,
        /// How.
        reason: String,
    },
    /// The directory belongs to another node.
    #[error("this data directory belongs to {theirs}, and the settings say {ours}")]
    Owner {
        /// Whose it is.
        theirs: Voter,
        /// Whom the settings name.
        ours: Voter,
    },
    /// The directory was written by a version that lays its data out otherwise.
    #[error(
        "this data directory has layout {theirs}, and this version reads layout {FORMAT_VERSION} only; start the version that wrote it"
    )]
    Format {
        /// Its layout.
        theirs: u16,
    },
}

impl StorageError {
    /// What an operator does about it, as the end of a sentence; nothing when the error says it itself.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Engine(_) | Self::Owner { .. } | Self::Format { .. } => "",
            Self::Damaged { .. } => {
                "; while another data node serves, put this data directory aside and start with an empty one: it joins, and \
                 copies everything"
            }
        }
    }
}
