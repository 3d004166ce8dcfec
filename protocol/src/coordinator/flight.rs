//! An entry that is out for votes, or decided and not yet acknowledged by all (R-4..R-9).
//!
//! Not here: what follows from a vote (`coordinator.rs`).

use super::queue::Picked;
use crate::ids::{Attempt, Index, Millis, NodeId, Timestamp, ViewNumber};
use crate::lock::LockOwner;
use crate::log::{Batch, Entry};
use crate::message::PeerMessage;
use crate::operation::Outcome;
use crate::view::View;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// An inherited entry waits for its locks.
    Locking,
    /// Out for votes.
    Voting,
    /// Decided; acknowledgements of the commit come in.
    Committing,
}

/// A batch that this primary formed itself, with no other primary since: the clients that wait for it.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// The operations, and the tickets that hold their locks.
    pub picked: Picked,
    /// The instant that each operation was given, in the same order.
    pub instants: Vec<Timestamp>,
    /// Voting attempts so far.
    pub attempts: u32,
    /// What each operation did, once it is applied.
    pub outcomes: Option<Vec<Outcome>>,
    /// Its entry is an abort by now.
    pub aborted: bool,
}

/// The entry in flight.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// The entry.
    pub entry: Arc<Entry>,
    /// The attempt under which it was last sent.
    pub attempt: Attempt,
    /// How far it is.
    pub stage: Stage,
    /// Who voted yes on this attempt; then, who acknowledged the commit.
    pub heard: BTreeSet<NodeId>,
    /// The store here was asked to apply it: whatever asks the store from now on sees it.
    pub ordered: bool,
    /// It is applied here.
    pub applied: bool,
    /// Every replica of some view voted yes: it can never be aborted any more.
    pub decided: bool,
    /// Locks that the coordinator took for an inherited entry.
    pub inherited_lock: Option<LockOwner>,
    /// Those are held.
    pub lock_held: bool,
    /// Whose it is.
    pub own: Option<Own>,
    /// When the latest of those came, or this stage began.
    pub heard_at: Millis,
    /// When it was first sent for votes.
    pub sent_at: Option<Millis>,
    /// When letters are sent again.
    pub resend_at: Millis,
    /// When whoever has not answered is set offline.
    pub deadline: Millis,
}

impl Flight {
    /// An entry that has not been sent in this view yet.
    pub fn new(entry: Arc<Entry>, own: Option<Own>) -> Self {
        Self {
            entry,
            attempt: Attempt(0),
            stage: Stage::Locking,
            heard: BTreeSet::new(),
            ordered: false,
            applied: false,
            decided: false,
            inherited_lock: None,
            lock_held: false,
            own,
            heard_at: Millis(0),
            sent_at: None,
            resend_at: Millis(u64::MAX),
            deadline: Millis(u64::MAX),
        }
    }

    /// Whether all replicas of the view have answered at this stage.
    pub fn is_complete(&self, view: &View) -> bool {
        view.replicas.keys().all(|id| self.heard.contains(id))
    }

    /// Who has not.
    pub fn missing<'a>(&'a self, view: &'a View) -> impl Iterator<Item = NodeId> + 'a {
        view.replicas.keys().copied().filter(|id| !self.heard.contains(id))
    }

    /// The letter of this stage; none while it waits for locks.
    pub fn letter(&self, view: ViewNumber, commit_index: Index) -> Option<PeerMessage> {
        let (attempt, index) = (self.attempt, self.entry.index);
        match self.stage {
            Stage::Locking => None,
            Stage::Voting => Some(PeerMessage::Prepare { view, attempt, entry: self.entry.clone(), commit_index }),
            Stage::Committing => Some(PeerMessage::Commit { view, attempt, index, hash: self.entry.hash }),
        }
    }

    /// Whether it may be aborted: formed here, never decided, not an abort already.
    pub fn may_abort(&self) -> bool {
        !self.decided && self.own.as_ref().is_some_and(|own| !own.aborted)
    }

    /// Decided: what it locked here may go, once the store was asked to apply it.
    pub fn locks_to_release(&mut self) -> Vec<LockOwner> {
        let tickets = self.own.as_mut().map(|own| std::mem::take(&mut own.picked.tickets));
        tickets.into_iter().flatten().chain(self.inherited_lock.take()).collect()
    }

    /// A view has ended: nothing is sent until the next one is led.
    pub fn pause(&mut self) {
        self.stage = Stage::Locking;
        (self.resend_at, self.deadline) = (Millis(u64::MAX), Millis(u64::MAX));
    }

    /// Turns it into an abort of the same slot, to be sent under the next attempt.
    pub fn abort(&mut self) {
        let keys_at = self.entry.keys_at().unwrap_or_default();
        let Some(own) = &mut self.own else { return };
        own.aborted = true;
        let operations = own.picked.operations.iter();
        let keys = operations.zip(&own.instants).map(|((_, p), at)| (p.operation.owner.clone(), *at)).collect();
        self.entry = Entry::new(self.entry.index, self.entry.prev_hash, Batch::Abort { keys, keys_at }).into();
    }
}
