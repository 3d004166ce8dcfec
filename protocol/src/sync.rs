//! A new or returning node (R-18..R-24), as giver and as taker.

use crate::ids::{Address, Hash, Index, Millis, Now, Peer, SessionId, Timestamp, ViewNumber, WriteId};
use crate::lock::LockOwner;
use crate::log::Entry;
use crate::machine::{Effects, Machine, Setup};
use crate::message::{Pair, SyncFrom, SyncRefusal};
use crate::status::NodeStatus;
use crate::storage::Recovered;
use crate::view::View;
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// R-18, giver.
    BeginSync { from: Peer, nonce: u64, commit_index: Index, hash: Hash },
    /// R-18, taker.
    SyncOk { from: Peer, nonce: u64, view: ViewNumber, session: SessionId, start: SyncFrom },
    /// R-18, taker.
    SyncRefused { from: Peer, session: Option<SessionId>, reason: SyncRefusal },
    /// R-19, giver.
    GiveMeAllData { from: Peer, session: SessionId, cursor: Option<Vec<u8>> },
    /// R-19, taker.
    Chunk { from: Peer, session: SessionId, cursor: Option<Vec<u8>>, pairs: Vec<Pair>, checksum: Hash, last: bool },
    /// R-20, giver.
    GiveEntries { from: Peer, session: SessionId, after: Index },
    /// R-20, taker.
    Entries { from: Peer, session: SessionId, after: Index, entries: Vec<Arc<Entry>>, last: bool },
    /// R-21, giver.
    EndSync { from: Peer, session: SessionId, index: Index, hash: Hash },
    /// Giver: the snapshot is pinned.
    Pinned { session: SessionId, index: Index, hash: Hash, bytes: u64, last_timestamp: Timestamp },
    /// Giver: a chunk of it.
    ChunkRead { session: SessionId, cursor: Option<Vec<u8>>, chunk: Option<(Vec<Pair>, bool)> },
    /// Giver: entries.
    LogRead { session: SessionId, after: Index, hash: Option<Hash>, entries: Vec<Arc<Entry>>, applied: Index },
    /// Taker: its write is durable.
    Durable { write: WriteId },
    /// Taker: the snapshot is not what it should be.
    Mismatch { write: WriteId },
    /// Giver: the store is locked.
    Granted { owner: LockOwner },
    /// Giver: the view with the joiner was not decided, and will not be because of it.
    AddFailed { view: ViewNumber, peer: Peer },
    /// Giver: whether this node has accepted a next view.
    Fenced { view: ViewNumber, session: SessionId, accepted: bool },
    /// A view is in force.
    ViewChanged(Arc<View>),
    /// This node serves as primary.
    Serving { view: ViewNumber },
    /// It does not any more.
    NotServing { view: ViewNumber },
    /// Where this node's log stands.
    LogPosition { log_end: Index, committed: (Index, Hash) },
    /// This node's history is not the primary's: once left out, join from scratch.
    Diverged,
    /// A connection was refused or reset.
    Unreachable { address: Address },
}

/// The hash that no chain has: with index 0, it asks for a snapshot, whatever the log could give.
pub const SCRATCH_HASH: Hash = Hash([0xff; 32]);

/// The machine.
#[derive(Debug)]
pub struct Sync {}

impl Sync {
    /// A machine that has heard nothing yet; its first `tick` begins.
    #[must_use]
    pub fn new(setup: &Setup, recovered: &Recovered) -> Self {
        let _ = (setup, recovered);
        Self {}
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        let _ = status;
    }
}

impl Machine for Sync {
    type Input = Input;

    fn step(&mut self, _now: Now, _input: Input) -> Effects {
        Effects::none()
    }

    fn deadline(&self) -> Option<Millis> {
        None
    }

    fn tick(&mut self, _now: Now) -> Effects {
        Effects::none()
    }
}
