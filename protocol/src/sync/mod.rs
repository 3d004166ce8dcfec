//! A new or returning node (R-18..R-24): how it comes to hold what the view's replicas hold, and is listed again.
//!
//! ```text
//! taker: BeginSync    ->  giver: compares histories, pins a snapshot if it must, asks the replica: no next view accepted?
//!        drops        <-         SyncOk
//!        GiveMeAllData -> Chunk ...            reads and writes go on
//!        GiveEntries   -> Entries ...          in rounds, until less than one is left (R-20)
//!                                S on the store: writes wait, reads go on (R-21)
//!        GiveEntries   -> Entries, the last
//!        EndSync       ->        AddReplica, ViewChanged, lock let go (R-22)
//! ```
//!
//! Both sides are one machine, since a node may change sides at any view: `giver.rs` and `taker.rs` decide, this file
//! hands out. Every letter of a session is repeated by the taker until it is answered; the giver only answers.
//!
//! Not here: the decision on the view (`campaign.rs`), witnesses (R-24, `heartbeat.rs`): they hold nothing, and neither
//! give nor take.

mod giver;
mod taker;

#[cfg(test)]
mod tests;

use crate::ids::{Address, Hash, Index, Millis, Now, Peer, SessionId, Timestamp, ViewNumber, WriteId};
use crate::lock::LockOwner;
use crate::log::Entry;
use crate::machine::{Effects, Machine, Setup};
use crate::member::Members;
use crate::message::{Pair, SyncFrom, SyncRefusal};
use crate::status::NodeStatus;
use crate::storage::Recovered;
use crate::view::View;
use giver::Giver;
use std::sync::Arc;
use taker::Taker;

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
    /// R-25, who is a member.
    Members(Members),
    /// R-26.
    Draining { on: bool },
    /// A connection was refused or reset.
    Unreachable { address: Address },
}

/// The hash that no chain has: with index 0, it asks for a snapshot, whatever the log could give.
pub const SCRATCH_HASH: Hash = Hash([0xff; 32]);

/// What sets this machine's randomness apart from that of the others, which begin with the same seed.
const SEED_SALT: u64 = 0x7379_6e63_0000;

/// R-19: what a chunk's checksum covers, keys and values with their lengths.
#[must_use]
pub fn chunk_checksum(pairs: &[Pair]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for part in pairs.iter().flat_map(|(key, value)| [key, value]) {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    Hash(*hasher.finalize().as_bytes())
}

fn bytes_of(pairs: &[Pair]) -> u64 {
    pairs.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Sync {
    is_data_node: bool,
    /// The view of the disk, until the first tick.
    recovered: Option<Arc<View>>,
    has_begun: bool,
    giver: Giver,
    taker: Taker,
}

impl Sync {
    /// A machine that has heard nothing yet; its first `tick` begins.
    #[must_use]
    pub fn new(setup: &Setup, recovered: &Recovered) -> Self {
        let mut rng = fastrand::Rng::with_seed(setup.seed ^ SEED_SALT);
        Self {
            is_data_node: setup.me.voter.node().is_some(),
            recovered: recovered.vote.as_ref().map(|vote| Arc::new(vote.view.clone())),
            has_begun: false,
            giver: Giver::new(setup, rng.fork()),
            taker: Taker::new(setup, recovered, rng),
        }
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        self.giver.observe(status);
        self.taker.observe(status);
    }

    fn on_view(&mut self, now: Now, view: &Arc<View>) -> Effects {
        let mut effects = self.giver.on_view(now, view);
        effects.append(self.taker.on_view(now, view));
        effects
    }

    /// A witness is asked only by mistake: it never serves, so the giver's own answer is the right one.
    fn give(&mut self, now: Now, input: Input) -> Effects {
        let giver = &mut self.giver;
        match input {
            Input::BeginSync { from, nonce, commit_index, hash } => {
                giver.on_begin(now, from, nonce, (commit_index, hash))
            }
            Input::GiveMeAllData { from, session, cursor } => giver.on_give_data(now, &from, session, cursor),
            Input::GiveEntries { from, session, after } => giver.on_give_entries(now, &from, session, after),
            Input::EndSync { from, session, index, hash } => giver.on_end(now, &from, session, (index, hash)),
            Input::Pinned { session, index, hash, bytes, last_timestamp } => {
                giver.on_pinned(session, SyncFrom::Snapshot { index, hash, last_timestamp }, bytes)
            }
            Input::ChunkRead { session, cursor, chunk } => giver.on_chunk_read(now, session, cursor, chunk),
            Input::LogRead { session, after, hash, entries, applied } => {
                giver.on_log_read(now, session, giver::Read { after, hash, entries, applied })
            }
            Input::Granted { owner } => giver.on_granted(now, owner),
            Input::AddFailed { view, peer } => giver.on_add_failed(now, view, &peer),
            Input::Fenced { view, session, accepted } => giver.on_fenced(now, view, session, accepted),
            Input::Serving { view } => giver.on_serving(now, view),
            Input::NotServing { view } => giver.on_not_serving(view),
            Input::SyncOk { .. }
            | Input::SyncRefused { .. }
            | Input::Chunk { .. }
            | Input::Entries { .. }
            | Input::Durable { .. }
            | Input::Mismatch { .. }
            | Input::ViewChanged(_)
            | Input::LogPosition { .. }
            | Input::Diverged
            | Input::Draining { .. }
            | Input::Members(_)
            | Input::Unreachable { .. } => Effects::none(),
        }
    }
}

impl Machine for Sync {
    type Input = Input;

    fn step(&mut self, now: Now, input: Input) -> Effects {
        let taker = &mut self.taker;
        match input {
            Input::SyncOk { from, nonce, view, session, start } => {
                taker.on_sync_ok(now, from, nonce, view, (session, start))
            }
            Input::SyncRefused { from, session, reason } => taker.on_refused(now, &from, session, reason),
            Input::Chunk { from, session, cursor, pairs, checksum, last } => {
                taker.on_chunk(now, &from, session, taker::Chunk { cursor, pairs, checksum, last })
            }
            Input::Entries { from, session, after, entries, last } => {
                taker.on_entries(now, &from, session, taker::Entries { after, entries, last })
            }
            Input::Durable { write } => taker.on_durable(now, write),
            Input::Mismatch { write } => taker.on_mismatch(now, write),
            Input::LogPosition { log_end: _, committed } => taker.on_log_position(committed),
            Input::Diverged => taker.on_diverged(now),
            Input::Draining { on } => taker.on_draining(now, on),
            Input::Members(members) => {
                taker.on_members(members.clone());
                self.giver.on_members(members)
            }
            Input::Unreachable { address } => {
                let mut effects = self.giver.on_unreachable(now, &address);
                effects.append(self.taker.on_unreachable(&address));
                effects
            }
            Input::ViewChanged(view) => self.on_view(now, &view),
            input @ (Input::BeginSync { .. }
            | Input::GiveMeAllData { .. }
            | Input::GiveEntries { .. }
            | Input::EndSync { .. }
            | Input::Pinned { .. }
            | Input::ChunkRead { .. }
            | Input::LogRead { .. }
            | Input::Granted { .. }
            | Input::AddFailed { .. }
            | Input::Fenced { .. }
            | Input::Serving { .. }
            | Input::NotServing { .. }) => self.give(now, input),
        }
    }

    fn deadline(&self) -> Option<Millis> {
        let begin = (!self.has_begun && self.is_data_node).then_some(Millis(0));
        [begin, self.giver.deadline(), self.taker.deadline()].into_iter().flatten().min()
    }

    fn tick(&mut self, now: Now) -> Effects {
        self.has_begun = true;
        let mut effects = Effects::none();
        if let Some(view) = self.recovered.take() {
            effects.append(self.on_view(now, &view)); // The same as `ViewChanged`, whichever comes first.
        }
        effects.append(self.giver.tick(now));
        effects.append(self.taker.tick(now));
        effects
    }
}
