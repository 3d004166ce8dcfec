//! Votes on entries, and their commits (R-4..R-6, R-9), as a replica.
//!
//! Locks first, then the disk, then the vote. The primary's own votes go the same way; its locks are its coordinator's.
//!
//! Not here: what may go into a slot (`slots.rs`).

use super::slots::{Judgement, Slot};
use super::{AfterWrite, Input, Replica};
use crate::ids::{Address, Attempt, Hash, Index, Millis, Now, Peer, Timestamp, ViewNumber};
use crate::lock::LockOwner;
use crate::log::{Entry, LogRecord};
use crate::machine::{Effects, Note};
use crate::message::{PeerMessage, Refusal, SyncFrom};
use crate::storage::StorageRequest;
use crate::view::View;
use std::sync::Arc;

/// One sending of an entry for votes.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    from: Peer,
    view: ViewNumber,
    attempt: Attempt,
    entry: Arc<Entry>,
    commit_index: Index,
}

/// An entry whose locks this node waits for; nothing in the log has changed for it yet.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    ask: Ask,
    lock: u64,
    /// When the wait fails.
    pub until: Millis,
}

/// A commit that is acknowledged once it is applied.
#[derive(Clone, Debug)]
pub(super) struct Acknowledgement {
    to: Address,
    view: ViewNumber,
    attempt: Attempt,
    index: Index,
}

impl Replica {
    /// A letter of the primary, of this view or an earlier one.
    pub(super) fn on_primary(&mut self, now: Now, input: Input) -> Effects {
        match input {
            Input::Prepare { from, view, attempt, entry, commit_index } => {
                self.on_prepare(now, Ask { from, view, attempt, entry, commit_index })
            }
            Input::Commit { from, view, attempt, index, hash } => {
                self.on_commit(Acknowledgement { to: from.address, view, attempt, index }, hash)
            }
            Input::Confirm { from, view, round } => self.on_confirm(&from, view, round),
            _ => Effects::none(), // `step` sends nothing else here.
        }
    }

    /// every reason to say no that does not depend on the log; the outer none drops the letter.
    fn refusal(&self, ask: &Ask) -> Option<Option<Refusal>> {
        let known = self.view.as_ref()?;
        if ask.view < known.number || self.adopting.is_some() {
            return Some(Some(Refusal::StaleView));
        }
        if !known.is_primary(&ask.from) || !known.lists_replica(&self.me) {
            return None;
        }
        if let Some((ballot, _)) = &self.accepted {
            return Some(Some(Refusal::Accepted(*ballot)));
        }
        if self.diverged {
            return Some(Some(Refusal::Storage));
        }
        Some((ask.from != self.me && !ask.entry.is_intact()).then_some(Refusal::Malformed))
    }

    fn on_prepare(&mut self, now: Now, ask: Ask) -> Effects {
        match self.refusal(&ask) {
            None => return Effects::none(),
            Some(Some(refusal)) => return vote(&ask, Some(refusal)),
            Some(None) => {}
        }
        let judgement = self.slots.judge(ask.view, ask.attempt, &ask.entry);
        let mut effects = Effects::none();
        if !matches!(judgement, Judgement::Refuse(_)) && ask.commit_index < ask.entry.index {
            effects.append(self.commit_below(ask.commit_index)); // `prev_hash` agrees, so what is before it agrees.
        }
        effects.append(match judgement {
            Judgement::Refuse(refusal) => vote(&ask, Some(refusal)),
            Judgement::Committed => vote(&ask, None),
            Judgement::Repeated => self.repeat_vote(&ask),
            Judgement::Restamp => self.restamp(&ask),
            Judgement::Put => self.lock_then_put(now, ask),
        });
        effects
    }

    fn repeat_vote(&mut self, ask: &Ask) -> Effects {
        match self.slots.slot_mut(ask.entry.index) {
            Some(slot) if slot.durable => vote(ask, None), // The first vote may have been lost.
            Some(_) | None => Effects::none(),             // It is being written.
        }
    }

    /// A repeated yes takes over the new attempt, durably: else a late copy of an earlier attempt could replace what was
    /// voted for.
    fn restamp(&mut self, ask: &Ask) -> Effects {
        if let Some(slot) = self.slots.slot_mut(ask.entry.index) {
            slot.stamp = (ask.view, ask.attempt);
            slot.durable = false;
        }
        self.write(ask)
    }

    fn lock_then_put(&mut self, now: Now, ask: Ask) -> Effects {
        if let Some(waiting) = &self.waiting {
            let (known, this) = (&waiting.ask, &ask);
            if known.view == this.view && known.attempt >= this.attempt {
                return Effects::none(); // A late copy, or a repeated one, of what already waits or was given up.
            }
        }
        let index = ask.entry.index;
        let mut effects = self.stop_waiting();
        let locks = ask.entry.locks();
        effects.append(self.unlock_from(index));
        if ask.from == self.me || locks.is_empty() {
            effects.append(self.put(ask, None));
            return effects;
        }
        let lock = self.new_lock();
        effects.tell(Note::Acquire { owner: LockOwner::Slot(lock), locks });
        self.waiting = Some(Waiting { ask, lock, until: now.elapsed.plus(self.lock_timeout_ms) });
        effects
    }

    fn put(&mut self, ask: Ask, lock: Option<u64>) -> Effects {
        let stamp = (ask.view, ask.attempt);
        let dropped = self.slots.put(Slot { entry: ask.entry.clone(), stamp, durable: false, lock });
        debug_assert!(
            dropped.iter().all(|slot| slot.lock.is_none()),
            "what is replaced lets go of its locks first (R-5)"
        );
        let mut effects = self.write(&ask);
        effects.append(self.log_position());
        effects
    }

    fn write(&mut self, ask: &Ask) -> Effects {
        let record = LogRecord {
            entry: ask.entry.clone(),
            view: ask.view,
            attempt: ask.attempt,
            commit_index: ask.commit_index.min(ask.entry.index.before()),
        };
        let write = self.remember_write(AfterWrite::Vote {
            to: ask.from.address.clone(),
            view: ask.view,
            attempt: ask.attempt,
            index: ask.entry.index,
        });
        let mut effects = Effects::none();
        effects.storage(StorageRequest::WriteLog { write, record });
        effects
    }

    /// The entry and its attempt are durable: the vote, unless the slot, the view or the next view has moved on.
    pub(super) fn on_logged(&mut self, to: &Address, view: ViewNumber, attempt: Attempt, index: Index) -> Effects {
        let mut effects = Effects::none();
        if view != self.number() || self.adopting.is_some() {
            return effects;
        }
        let slot = self.slots.slot_mut(index).filter(|slot| slot.stamp == (view, attempt));
        let Some(slot) = slot else { return effects };
        slot.durable = true;
        let refusal = self.accepted.as_ref().map(|(ballot, _)| Refusal::Accepted(*ballot));
        effects.send(to, PeerMessage::Vote { view, attempt, index, refusal });
        effects
    }

    pub(super) fn on_granted(&mut self, owner: LockOwner) -> Effects {
        let waited = self.waiting.take_if(|waiting| LockOwner::Slot(waiting.lock) == owner);
        let Some(Waiting { ask, lock, .. }) = waited else { return Effects::none() }; // Locks of an entry already in the log.
        if let Some(Some(refusal)) = self.refusal(&ask) {
            let mut effects = Effects::none();
            effects.tell(Note::Release { owner });
            effects.append(vote(&ask, Some(refusal)));
            return effects;
        }
        match self.slots.judge(ask.view, ask.attempt, &ask.entry) {
            Judgement::Put => self.put(ask, Some(lock)),
            Judgement::Refuse(_) | Judgement::Committed | Judgement::Repeated | Judgement::Restamp => {
                let mut effects = Effects::none(); // Something else took the slot meanwhile.
                effects.tell(Note::Release { owner });
                effects
            }
        }
    }

    /// a wait that is too long fails, and leaves the log as it was.
    pub(super) fn on_lock_deadline(&mut self, now: Now) -> Effects {
        let Some(waiting) = self.waiting.take_if(|waiting| waiting.until <= now.elapsed) else {
            return Effects::none();
        };
        let mut effects = Effects::none();
        effects.tell(Note::Release { owner: LockOwner::Slot(waiting.lock) });
        effects.append(vote(&waiting.ask, Some(Refusal::LockTimeout)));
        effects
    }

    fn stop_waiting(&mut self) -> Effects {
        let mut effects = Effects::none();
        if let Some(waiting) = self.waiting.take() {
            effects.tell(Note::Release { owner: LockOwner::Slot(waiting.lock) });
        }
        effects
    }

    /// what is about to be replaced lets go of its locks first.
    fn unlock_from(&mut self, index: Index) -> Effects {
        let mut effects = Effects::none();
        let behind = self.slots.tail_mut().filter(|slot| slot.entry.index >= index);
        for lock in behind.filter_map(|slot| slot.lock.take()) {
            effects.tell(Note::Release { owner: LockOwner::Slot(lock) });
        }
        effects
    }

    /// A new view: of a primary, the coordinator takes the locks of what is in doubt; of any other replica, this machine
    /// does (section 6); who is left out lets go of them.
    pub(super) fn settle_locks(&mut self, view: &View) -> Effects {
        let mut effects = self.stop_waiting();
        effects.append(self.unlock_from(Index(0)));
        if !view.lists_replica(&self.me) || self.leads(view) {
            return effects;
        }
        let mut last = self.last_lock;
        for slot in self.slots.tail_mut() {
            let locks = slot.entry.locks();
            if !locks.is_empty() {
                last += 1;
                slot.lock = Some(last);
                effects.tell(Note::Acquire { owner: LockOwner::Slot(last), locks });
            }
        }
        self.last_lock = last;
        effects
    }

    fn new_lock(&mut self) -> u64 {
        self.last_lock += 1;
        self.last_lock
    }

    /// true for ever, applied only where the hash agrees; of an unknown entry, not even acknowledged.
    fn on_commit(&mut self, acknowledgement: Acknowledgement, hash: Hash) -> Effects {
        let index = acknowledgement.index;
        if self.slots.hash_at(index) != Some(hash) {
            return Effects::none();
        }
        let mut effects = self.commit_below(index);
        if index <= self.slots.applied {
            effects.append(acknowledge(&acknowledgement));
        } else {
            self.acknowledgements.push(acknowledgement);
        }
        effects
    }

    /// the primary's commit index, in an answer to a heartbeat.
    pub(super) fn on_commit_seen(&mut self, index: Index, hash: Hash) -> Effects {
        let mut effects = Effects::none();
        match self.slots.hash_at(index) {
            Some(known) if known == hash => return self.commit_below(index),
            Some(_) if index == self.slots.committed.0 && !self.diverged => {
                self.diverged = true;
                effects.announce(format!(
                    "this node's history is not the primary's at index {index}: it serves no more, and joins from \
                     scratch once it is set offline (R-11)"
                ));
            }
            Some(_) | None => {}
        }
        effects
    }

    /// Commits, in order, what is in the log up to this index.
    fn commit_below(&mut self, index: Index) -> Effects {
        let mut effects = Effects::none();
        let committed = self.slots.commit_to(index);
        for slot in &committed {
            effects.storage(StorageRequest::Apply { entry: slot.entry.clone() });
            // Strict: the locks go when the commit is ordered, for the store serves in order.
            if let Some(lock) = slot.lock {
                effects.tell(Note::Release { owner: LockOwner::Slot(lock) });
            }
        }
        if let Some(last) = committed.last() {
            if self.view.as_ref().is_some_and(|view| self.leads(view)) {
                effects.tell(Note::Applying { index: last.entry.index });
            }
            effects.append(self.log_position());
        }
        effects
    }

    pub(super) fn on_applied(&mut self, index: Index) -> Effects {
        self.slots.applied = self.slots.applied.max(index);
        let mut effects = Effects::none();
        for done in self.acknowledgements.extract_if(.., |waiting| waiting.index <= index) {
            effects.append(acknowledge(&done));
        }
        effects
    }

    /// Section 6: is this still the view, and is no next one accepted?
    fn on_confirm(&self, from: &Peer, view: ViewNumber, round: u64) -> Effects {
        let mut effects = Effects::none();
        let Some(known) = &self.view else { return effects };
        if known.number == view && !known.is_primary(from) {
            return effects;
        }
        let refusal = match &self.accepted {
            _ if known.number != view || self.adopting.is_some() => Some(Refusal::StaleView),
            Some((ballot, _)) => Some(Refusal::Accepted(*ballot)),
            None => None,
        };
        effects.send(&from.address, PeerMessage::Confirmed { view, round, refusal });
        effects
    }

    /// the log ends here now. A node that a view lists has voted since, perhaps: what it is told late changes nothing.
    pub(super) fn on_synced(&mut self, committed: (Index, Hash), last_timestamp: Timestamp) -> Effects {
        let views = [self.view.as_deref(), self.adopting.as_ref()];
        if views.into_iter().flatten().any(|view| view.lists(&self.me)) {
            return Effects::none();
        }
        let mut effects = self.unlock_from(Index(0));
        self.slots.reset(committed, last_timestamp);
        effects.append(self.log_position());
        effects
    }

    /// `SyncOk` came; a node that a view lists never gets one.
    pub(super) fn on_sync_began(&mut self, from: SyncFrom) -> Effects {
        let mut effects = self.stop_waiting();
        effects.append(self.unlock_from(Index(0)));
        self.slots.drop_tail();
        self.diverged = false;
        if let SyncFrom::Snapshot { .. } = from {
            self.slots.reset((Index(0), Hash::default()), Timestamp(0));
        }
        effects.append(self.log_position());
        effects
    }
}

fn vote(ask: &Ask, refusal: Option<Refusal>) -> Effects {
    let mut effects = Effects::none();
    let (view, attempt, index) = (ask.view, ask.attempt, ask.entry.index);
    effects.send(&ask.from.address, PeerMessage::Vote { view, attempt, index, refusal });
    effects
}

fn acknowledge(done: &Acknowledgement) -> Effects {
    let mut effects = Effects::none();
    let (view, attempt, index) = (done.view, done.attempt, done.index);
    effects.send(&done.to, PeerMessage::Committed { view, attempt, index });
    effects
}
