//! Watches one run: what was asked, prepared, decided and answered; refuses what breaks S1 to S5.
//!
//! The decided log is the witness order. A write must stand in it after all that was known when its first copy reached a
//! node; a read must show the state at the index that its receipt names, and that state may not be older than what was
//! known when the read reached the node (S2). Reaching a node and leaving it are used, not the client's clock: the window
//! is narrower than the client's, so nothing that the client could notice is missed.
//!
//! Not here: what each disk holds (`node.rs` mirrors it, `observe.rs` compares), and whether the cluster comes back
//! (`calm.rs`).

use super::oracle::Oracle;
use crate::ids::{Attempt, Hash, Incarnation, Index, Peer, Timestamp, ViewNumber, Voter};
use crate::invariant::{
    Checked, Contents, DecidedLog, DecidedViews, Fate, Keys, RealTime, Records, Rule, Violation, cause_fits, require,
};
use crate::log::{Batch, Entry};
use crate::machine::Timing;
use crate::operation::{
    Action, Answer, Found, KeyOwner, LoggedOperation, Operation, OperationError, Outcome, Query, Receipt,
};
use crate::operator::{OperatorAnswer, OperatorCall};
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One write of a client, over all the copies of its request.
#[derive(Clone, Debug, Default)]
struct Write {
    action: Option<Action>,
    /// What was known when its first copy reached a node.
    floor: Index,
    /// How many copies reached a node, and how many of those were told that they took no effect.
    copies: u32,
    refused: u32,
    /// Where it took effect, and what it did.
    effect: Option<(Index, Outcome)>,
}

/// One copy of a request, at one node.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A write.
    Write {
        /// What.
        operation: Operation,
        /// What was known when it came.
        floor: Index,
    },
    /// A query.
    Read {
        /// What.
        query: Query,
        /// What was known when it came.
        floor: Index,
    },
    /// An operator's call.
    Operator(OperatorCall),
}

/// The record of one run.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    log: DecidedLog,
    views: DecidedViews,
    records: Records,
    contents: Contents,
    entries: BTreeMap<(ViewNumber, Attempt), Arc<Entry>>,
    keys: Keys,
    time: RealTime,
    oracle: Oracle,
    writes: BTreeMap<KeyOwner, Write>,
    /// Every disk that a view entry listed, and those that were removed since.
    members: BTreeSet<(Voter, Incarnation)>,
    removed: BTreeSet<(Voter, Incarnation)>,
    last_instant: Timestamp,
    acknowledged: u64,
}

impl Checker {
    /// The decided log.
    #[must_use]
    pub fn log(&self) -> &DecidedLog {
        &self.log
    }

    /// The decided views.
    #[must_use]
    pub fn views(&self) -> &DecidedViews {
        &self.views
    }

    /// What the records of view changes should be.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// What the store should hold.
    #[must_use]
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// What this attempt asked votes for.
    #[must_use]
    pub fn entry(&self, view: ViewNumber, attempt: Attempt) -> Option<&Arc<Entry>> {
        self.entries.get(&(view, attempt))
    }

    /// How many writes were acknowledged to a client.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// A node acts on a view.
    ///
    /// # Errors
    /// When it is not the only one of its number.
    pub fn view(&mut self, view: &View, timing: &Timing) -> Checked {
        match self.views.get(ViewNumber(view.number.0.saturating_sub(1))) {
            Some(before) if self.views.get(view.number).is_none() => {
                cause_fits(before, view, timing)?;
                self.lets_nobody_in_again(before, view)?;
            }
            Some(_) | None => {}
        }
        self.views.learnt(view)
    }

    /// a removed data node leaves as soon as that can be, and no view takes it in again. (A witness may be listed by a
    /// view that was on its way, and be left out by the next.)
    fn lets_nobody_in_again(&self, before: &View, view: &View) -> Checked {
        let back = view.replica_peers().find(|peer| !before.lists(peer) && self.is_removed(peer));
        require(back.is_none(), Rule::Returned, || format!("view {} takes in {back:?}", view.number))
    }

    /// Whether this very disk was removed.
    #[must_use]
    pub fn is_removed(&self, peer: &Peer) -> bool {
        self.removed.contains(&(peer.voter.clone(), peer.incarnation))
    }

    /// A primary asks for votes.
    ///
    /// # Errors
    /// When the attempt named another entry before.
    pub fn prepared(&mut self, view: ViewNumber, attempt: Attempt, entry: &Arc<Entry>) -> Checked {
        self.contents.prepared(view, attempt, (entry.index, entry.hash))?;
        self.entries.entry((view, attempt)).or_insert_with(|| entry.clone());
        Ok(())
    }

    /// A primary says that an attempt is decided. True when its slot is new.
    ///
    /// # Errors
    /// When it cannot be decided.
    pub fn decided(&mut self, slot: (ViewNumber, Attempt), index: Index, hash: Hash) -> Result<bool, Violation> {
        let (view, attempt) = slot;
        if self.log.get(index).is_some_and(|known| known.hash == hash) {
            return Ok(false);
        }
        let entry = self.entries.get(&slot).filter(|entry| entry.hash == hash && entry.index == index).cloned();
        let is_new = self.log.decide(view, index, hash)?;
        let Some(entry) = entry else {
            let what =
                format!("slot {index} is decided in attempt {attempt} of view {view}, which asked for no votes on it");
            return Err(Violation::new(Rule::TwoContents, what));
        };
        self.take(&entry)?;
        Ok(is_new)
    }

    fn take(&mut self, entry: &Entry) -> Checked {
        match &entry.batch {
            Batch::Operations { operations, keys_at, expire_keys_before } => {
                self.keys.expire(*expire_keys_before);
                operations.iter().try_for_each(|logged| self.take_operation((entry.index, *keys_at), logged))
            }
            Batch::Abort { keys, keys_at } => keys.iter().try_for_each(|(owner, _)| {
                self.keys.decided(owner, Fate { index: entry.index, at: *keys_at, effect: false })
            }),
            Batch::View(view) => {
                self.views.learnt(view)?;
                self.members.extend(view.voters().map(|peer| (peer.voter, peer.incarnation)));
                self.records.begun(view)
            }
            Batch::Remove(voter) => {
                let disks = self.members.iter().filter(|(known, _)| known == voter);
                self.removed.extend(disks.cloned());
                Ok(())
            }
            Batch::Courses(courses) => courses.iter().try_for_each(|course| {
                let before = self.views.get(ViewNumber(course.view.0.saturating_sub(1)));
                self.records.told(course, before)
            }),
        }
    }

    fn take_operation(&mut self, (index, keys_at): (Index, Timestamp), logged: &LoggedOperation) -> Checked {
        let owner = &logged.operation.owner;
        require(logged.at > self.last_instant, Rule::WrongAnswer, || {
            format!("R-3: slot {index} gives out {}, and the log had {} before", logged.at, self.last_instant)
        })?;
        self.last_instant = logged.at;
        self.keys.decided(owner, Fate { index, at: keys_at, effect: true })?;
        let Some(write) = self.writes.get_mut(owner) else {
            return Err(Violation::new(
                Rule::Unasked,
                format!("slot {index} holds a write that nobody sent: {owner:?}"),
            ));
        };
        require(write.action.as_ref() == Some(&logged.operation.action), Rule::Twice, || {
            format!("key {:?} was used again for another request, and that took effect", owner.key)
        })?;
        require(write.copies > write.refused, Rule::Resurrected, || {
            format!("every copy of the request with key {:?} was refused, and it took effect", owner.key)
        })?;
        RealTime::write(write.floor, index)?;
        let outcome = self.oracle.apply(index, logged).ok_or_else(|| {
            Violation::new(Rule::WrongAnswer, format!("slot {index} holds what cannot be done: {logged:?}"))
        })?;
        write.effect = Some((index, outcome));
        Ok(())
    }

    /// A copy of a write reached a node. `is_reuse`: its key stands for another request, so it must never take effect.
    pub fn write_came(&mut self, operation: &Operation, is_reuse: bool) -> Asked {
        let floor = self.time.now();
        let write = self.writes.entry(operation.owner.clone()).or_default();
        if !is_reuse {
            if write.action.is_none() {
                write.action = Some(operation.action.clone());
                write.floor = floor;
            }
            write.copies += 1;
        }
        Asked::Write { operation: operation.clone(), floor }
    }

    /// A copy of a query reached a node.
    pub fn read_came(&mut self, query: &Query) -> Asked {
        Asked::Read { query: query.clone(), floor: self.time.now() }
    }

    /// A node answers what it was asked.
    ///
    /// # Errors
    /// When the answer breaks a promise.
    pub fn answered(&mut self, asked: &Asked, answer: &Answer) -> Checked {
        match (asked, answer) {
            (Asked::Write { operation, .. }, Answer::Written(Outcome::Aborted, _)) => self.told_aborted(operation),
            (Asked::Write { operation, .. }, Answer::Written(outcome, receipt)) => {
                self.written(operation, outcome, *receipt)
            }
            (Asked::Read { query, floor }, Answer::Read(found, receipt)) => self.found(query, *floor, found, *receipt),
            (Asked::Write { operation, floor }, Answer::Failed(error)) => self.write_failed(operation, *floor, error),
            (Asked::Read { floor, .. }, Answer::Failed(error)) => self.not_found(*floor, error),
            (Asked::Operator(OperatorCall::Remove { voter }), Answer::Operator(OperatorAnswer::Removed)) => {
                require(self.removed.iter().any(|(known, _)| known == voter), Rule::Lost, || {
                    format!("{voter} is said to be removed, and no entry that says so is decided")
                })
            }
            (Asked::Operator(_), Answer::Operator(_) | Answer::Failed(_)) => Ok(()),
            (Asked::Write { .. }, Answer::Read(..) | Answer::Operator(_))
            | (Asked::Read { .. }, Answer::Written(..) | Answer::Operator(_))
            | (Asked::Operator(_), Answer::Written(..) | Answer::Read(..)) => {
                Err(Violation::new(Rule::WrongAnswer, format!("{asked:?} is answered with {answer:?}")))
            }
        }
    }

    fn written(&mut self, operation: &Operation, outcome: &Outcome, receipt: Receipt) -> Checked {
        let key = &operation.owner.key;
        let write = self.writes.get(&operation.owner);
        let Some((index, expected)) = write.and_then(|write| write.effect.as_ref()) else {
            return Err(Violation::new(
                Rule::Lost,
                format!("key {key:?} is acknowledged, and no entry with it is decided"),
            ));
        };
        require(
            write.is_some_and(|write| write.action.as_ref() == Some(&operation.action)),
            Rule::WrongAnswer,
            || format!("key {key:?} is acknowledged for another request than the one that it stands for"),
        )?;
        require(outcome == expected, Rule::WrongAnswer, || {
            format!("key {key:?} is answered with {outcome:?}, and did {expected:?}")
        })?;
        require(receipt.index >= *index && receipt.index <= self.log.last(), Rule::WrongAnswer, || {
            format!("key {key:?} stands in slot {index}, and its receipt names {}", receipt.index)
        })?;
        let replicas = self.views.get(receipt.view).map_or(0, |view| view.replicas.len());
        require(receipt.copies >= 1 && receipt.copies as usize <= replicas, Rule::WrongAnswer, || {
            format!(
                "key {key:?} is said to be on {} replicas, and view {} has {replicas}",
                receipt.copies, receipt.view
            )
        })?;
        self.time.completed(*index);
        self.acknowledged += 1;
        Ok(())
    }

    fn told_aborted(&self, operation: &Operation) -> Checked {
        self.keys.told_aborted(&operation.owner)
    }

    fn write_failed(&mut self, operation: &Operation, floor: Index, error: &OperationError) -> Checked {
        match error {
            OperationError::Aborted => self.told_aborted(operation),
            OperationError::NotPrimary { .. } | OperationError::TooFewReplicas { .. } | OperationError::Overloaded => {
                self.refused(operation)
            }
            OperationError::ChannelNotFound { .. } | OperationError::MessageNotFound { .. } => {
                self.refused(operation)?;
                self.not_found(floor, error)
            }
            OperationError::KeyReused => self.key_reused(operation),
            OperationError::OutcomeUnknown => Ok(()),
        }
    }

    /// It was told that this copy took no effect.
    fn refused(&mut self, operation: &Operation) -> Checked {
        let Some(write) = self.writes.get_mut(&operation.owner) else { return Ok(()) };
        if write.action.as_ref() == Some(&operation.action) {
            write.refused += 1;
            require(write.copies > write.refused || write.effect.is_none(), Rule::Resurrected, || {
                format!("every copy of the request with key {:?} is refused, and it took effect", operation.owner.key)
            })?;
        }
        Ok(())
    }

    fn key_reused(&self, operation: &Operation) -> Checked {
        let first = self.writes.get(&operation.owner).and_then(|write| write.action.as_ref());
        require(first.is_some_and(|first| *first != operation.action), Rule::WrongAnswer, || {
            format!("key {:?} is said to stand for another request, and does not", operation.owner.key)
        })
    }

    fn not_found(&self, floor: Index, error: &OperationError) -> Checked {
        let is_there = match error {
            OperationError::ChannelNotFound { channel } => self.oracle.has_channel(channel, floor),
            OperationError::MessageNotFound { id } => self.oracle.has_message(*id, floor),
            OperationError::NotPrimary { .. }
            | OperationError::TooFewReplicas { .. }
            | OperationError::Overloaded
            | OperationError::Aborted
            | OperationError::OutcomeUnknown
            | OperationError::KeyReused => false,
        };
        require(!is_there, Rule::Stale, || format!("{error}, and it was there in slot {floor}, known before"))
    }

    fn found(&mut self, query: &Query, floor: Index, found: &Found, receipt: Receipt) -> Checked {
        RealTime::read(floor, receipt.index)?;
        require(receipt.index <= self.log.last(), Rule::WrongAnswer, || {
            format!("a read shows slot {}, and {} is the last decided one", receipt.index, self.log.last())
        })?;
        let expected = self.oracle.query(query, receipt.index);
        require(expected.as_ref() == Ok(found), Rule::WrongAnswer, || {
            format!("{query:?} found {found:?} in slot {}, and should have found {expected:?}", receipt.index)
        })?;
        self.time.completed(receipt.index);
        Ok(())
    }
}
