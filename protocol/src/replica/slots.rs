//! The log's end as a replica knows it: what is committed, the slots in doubt, and what may be voted into them.
//!
//! Not here: locks, the disk and letters (`voting.rs`).

use crate::ids::{Attempt, Hash, Index, Timestamp, ViewNumber};
use crate::log::Entry;
use crate::message::Refusal;
use crate::storage::Recovered;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many committed hashes are remembered, to tell a repeated letter from a wrong one. Late copies of older ones are
/// dropped unanswered, which costs nothing: their senders have gone on.
const RECENT_MAX: usize = 64;

/// A slot in doubt.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// What it holds.
    pub entry: Arc<Entry>,
    /// Under which view and attempt it was last voted for.
    pub stamp: (ViewNumber, Attempt),
    /// Entry and stamp are flushed.
    pub durable: bool,
    /// The number under which this machine holds, or waits for, its locks; none when they are the coordinator's.
    pub lock: Option<u64>,
}

/// What R-5 says of an entry that is sent for votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Vote no.
    Refuse(Refusal),
    /// It is committed already: vote yes at once.
    Committed,
    /// It is there under this very attempt: vote as soon as it is durable.
    Repeated,
    /// It is there under an earlier attempt: write the new one, then vote.
    Restamp,
    /// Put it into its slot, and drop what differs there and behind.
    Put,
}

/// The log's end.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    /// The last committed entry, and the chain there.
    pub committed: (Index, Hash),
    /// What the store shows.
    pub applied: Index,
    /// The highest instant in the log.
    pub last_timestamp: Timestamp,
    recent: VecDeque<(Index, Hash)>,
    tail: VecDeque<Slot>,
}

impl Slots {
    /// From what was found on disk.
    pub fn new(recovered: &Recovered) -> Self {
        let slot = |record: &crate::log::LogRecord| Slot {
            entry: record.entry.clone(),
            stamp: (record.view, record.attempt),
            durable: true,
            lock: None,
        };
        Self {
            committed: recovered.committed,
            applied: recovered.committed.0,
            last_timestamp: recovered.last_timestamp,
            recent: recovered.recent.iter().copied().collect(),
            tail: recovered.tail.iter().map(slot).collect(),
        }
    }

    /// Where the log ends.
    pub fn end(&self) -> (Index, Hash) {
        self.tail.back().map_or(self.committed, |slot| (slot.entry.index, slot.entry.hash))
    }

    /// The entries above the commit index, in order.
    pub fn tail(&self) -> impl Iterator<Item = &Slot> {
        self.tail.iter()
    }

    /// The same, to change.
    pub fn tail_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.tail.iter_mut()
    }

    /// The slot in doubt at this index.
    pub fn slot_mut(&mut self, index: Index) -> Option<&mut Slot> {
        self.tail.iter_mut().find(|slot| slot.entry.index == index)
    }

    /// The chain at an index, if it is remembered.
    pub fn hash_at(&self, index: Index) -> Option<Hash> {
        if index == self.committed.0 {
            return Some(self.committed.1);
        }
        let in_tail = self.tail.iter().find(|slot| slot.entry.index == index).map(|slot| slot.entry.hash);
        in_tail.or_else(|| self.recent.iter().find(|(at, _)| *at == index).map(|(_, hash)| *hash))
    }

    /// R-5, as far as the log decides it.
    pub fn judge(&self, view: ViewNumber, attempt: Attempt, entry: &Entry) -> Judgement {
        let end = self.end().0;
        if entry.index <= self.committed.0 {
            let same = self.hash_at(entry.index) == Some(entry.hash);
            return if same { Judgement::Committed } else { Judgement::Refuse(Refusal::StaleAttempt) };
        }
        if entry.index > end.next() {
            return Judgement::Refuse(Refusal::Gap(end));
        }
        if self.hash_at(entry.index.before()) != Some(entry.prev_hash) {
            return Judgement::Refuse(Refusal::Gap(entry.index.before().before()));
        }
        let Some(slot) = self.tail.iter().find(|slot| slot.entry.index == entry.index) else {
            return Judgement::Put;
        };
        let same = slot.entry.hash == entry.hash;
        let voted = if slot.stamp.0 == view { Some(slot.stamp.1) } else { None };
        match voted {
            Some(voted) if voted > attempt || (voted == attempt && !same) => Judgement::Refuse(Refusal::StaleAttempt),
            Some(voted) if voted == attempt => Judgement::Repeated,
            Some(_) | None if same => Judgement::Restamp,
            Some(_) | None => Judgement::Put,
        }
    }

    /// Puts an entry into its slot; what was there and behind is dropped, and returned.
    pub fn put(&mut self, slot: Slot) -> Vec<Slot> {
        let keep = self.tail.iter().take_while(|known| known.entry.index < slot.entry.index).count();
        let dropped = self.tail.drain(keep..).collect();
        assert_eq!(self.end().0.next(), slot.entry.index, "an entry extends the log");
        self.last_timestamp = self.last_timestamp.max(slot.entry.last_timestamp().unwrap_or_default());
        self.tail.push_back(slot);
        dropped
    }

    /// Commits everything up to and including this index, which is in the tail. Returns the slots, in order.
    pub fn commit_to(&mut self, index: Index) -> Vec<Slot> {
        let count = self.tail.iter().take_while(|slot| slot.entry.index <= index).count();
        let slots: Vec<Slot> = self.tail.drain(..count).collect();
        for slot in &slots {
            assert_eq!(self.committed.0.next(), slot.entry.index, "commits leave no gap");
            assert_eq!(self.committed.1, slot.entry.prev_hash, "commits follow the chain");
            self.remember();
            self.committed = (slot.entry.index, slot.entry.hash);
        }
        slots
    }

    fn remember(&mut self) {
        self.recent.push_back(self.committed);
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
    }

    /// Drops everything in doubt.
    pub fn drop_tail(&mut self) {
        self.tail.clear();
    }

    /// The log ends here now, all of it committed and applied.
    pub fn reset(&mut self, committed: (Index, Hash), last_timestamp: Timestamp) {
        self.tail.clear();
        self.recent.clear();
        self.committed = committed;
        self.applied = committed.0;
        // Whoever synchronised knows the instants of what came so, and not of what was applied here before it began.
        self.last_timestamp = self.last_timestamp.max(last_timestamp);
    }
}
