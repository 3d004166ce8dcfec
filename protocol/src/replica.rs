//! What this node has promised: the log's end, votes (R-4..R-9), ballots; a witness is one without a log.
//!
//! A vote and a ballot exclude each other, so both live here and reach the disk through one queue. What a letter of
//! this machine says yes to is durable before the letter is sent.
//!
//! Here: which view is in force, and letters of a later one, which wait for it. `slots.rs`: what may be voted for.
//! `voting.rs`: entries. `ballots.rs`: next views. Not here: being primary (`coordinator.rs`), and who suspects whom
//! (`heartbeat.rs`).
//!
//! Source: Lamport, "Paxos Made Simple", 2001, for ballots; Gray, Lamport, "Consensus on Transaction Commit", 2006, for a
//! vote that is durable at the voter.

mod ballots;
mod slots;
#[cfg(test)]
mod tests;
mod voting;

use crate::change::Sign;
use crate::ids::{Address, Attempt, Ballot, Hash, Index, Millis, Now, Peer, SessionId, Timestamp, ViewNumber, WriteId};
use crate::lock::LockOwner;
use crate::log::Entry;
use crate::machine::{Effect, Effects, Machine, Note, Setup};
use crate::member::Members;
use crate::message::{PeerMessage, SyncFrom};
use crate::status::{NodeStatus, Role};
use crate::storage::{Recovered, StorageRequest, VoteRecord};
use crate::view::View;
use slots::Slots;
use std::collections::BTreeMap;
use std::sync::Arc;
use voting::{Acknowledgement, Waiting};

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// R-4, from the primary, this node's own coordinator included.
    Prepare { from: Peer, view: ViewNumber, attempt: Attempt, entry: Arc<Entry>, commit_index: Index },
    /// R-6, from the primary.
    Commit { from: Peer, view: ViewNumber, attempt: Attempt, index: Index, hash: Hash },
    /// Section 6, from the primary.
    Confirm { from: Peer, view: ViewNumber, round: u64 },
    /// R-13, from a candidate.
    Trial { from: Peer, view: ViewNumber, campaign: u64 },
    /// R-13, phase 1.
    Promise { from: Peer, view: ViewNumber, ballot: Ballot },
    /// R-14, phase 2.
    Accept { from: Peer, view: ViewNumber, ballot: Ballot, proposal: View },
    /// Section 11: a sender that is behind, or should be.
    AskView { from: Peer },
    /// Section 11: a letter came whose sender knows another view than this node.
    Heard { from: Peer, view: ViewNumber },
    /// A decided view, from wherever.
    Learnt { view: View },
    /// Its write is durable.
    Durable { write: WriteId },
    /// The entry is applied.
    Applied { index: Index },
    /// The locks of the entry in doubt are held.
    Granted { owner: LockOwner },
    /// Whether this node suspects the primary of that view, and why.
    Suspects { view: ViewNumber, sign: Option<Sign> },
    /// The primary says that this is committed.
    CommitSeen { index: Index, hash: Hash },
    /// R-18, giver: has a view after this one been accepted? Answered by `Fenced`.
    Fence { view: ViewNumber, session: SessionId },
    /// A sync session began: what was above the commit index is dropped.
    SyncBegan { from: SyncFrom },
    /// The sync session brought the log here.
    Synced { index: Index, hash: Hash, last_timestamp: Timestamp },
}

/// How many letters of a later view wait until it is in force here. What is more is lost, and sent again.
const HELD_LETTERS_MAX: usize = 32;

/// What follows once a write is durable.
#[derive(Clone, Debug)]
enum AfterWrite {
    /// The view comes into force.
    Adopt(View),
    /// A ballot is answered.
    Say { to: Address, view: ViewNumber, message: PeerMessage },
    /// A vote is cast, if the slot still holds what was written.
    Vote { to: Address, view: ViewNumber, attempt: Attempt, index: Index },
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Replica {
    me: Peer,
    lock_timeout_ms: u64,
    started: bool,
    view: Option<Arc<View>>,
    /// In memory ahead of the disk: from the moment of deciding on, refusals follow it.
    promised: Option<Ballot>,
    accepted: Option<(Ballot, View)>,
    /// The number of the decided view that is being made durable.
    adopting: Option<View>,
    suspects: Option<Sign>,
    diverged: bool,
    slots: Slots,
    /// The entry whose locks this node waits for.
    waiting: Option<Waiting>,
    acknowledgements: Vec<Acknowledgement>,
    /// Counts acquisitions of locks.
    last_lock: u64,
    /// What the disk said of them, until it is told.
    members: Members,
    writes: BTreeMap<WriteId, AfterWrite>,
    last_write: WriteId,
    held: Vec<Input>,
}

impl Replica {
    /// A replica, or a witness, with what its disk holds; its first `tick` puts the recovered view into force.
    #[must_use]
    pub fn new(setup: &Setup, recovered: &Recovered) -> Self {
        let vote = recovered.vote.clone();
        let (promised, accepted) = vote.as_ref().map_or((None, None), |vote| (vote.promised, vote.accepted.clone()));
        Self {
            me: setup.me.clone(),
            lock_timeout_ms: setup.timing.lock_timeout_ms,
            started: false,
            view: vote.map(|vote| Arc::new(vote.view)),
            promised,
            accepted,
            adopting: None,
            suspects: None,
            diverged: false,
            slots: Slots::new(recovered),
            waiting: None,
            acknowledgements: Vec::new(),
            last_lock: 0,
            members: recovered.members.clone(),
            writes: BTreeMap::new(),
            last_write: WriteId(0),
            held: Vec::new(),
        }
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        status.view.clone_from(&self.view);
        status.log_end = self.slots.end().0;
        status.commit_index = self.slots.committed.0;
        status.applied = self.slots.applied;
        status.role = match &self.view {
            _ if self.me.voter.node().is_none() => Role::Witness,
            None => Role::Waiting,
            Some(view) if view.lists(&self.me) => Role::Replica,
            Some(_) => Role::Syncing,
        };
    }

    fn number(&self) -> ViewNumber {
        self.view.as_ref().map_or(ViewNumber(0), |view| view.number)
    }

    fn leads(&self, view: &View) -> bool {
        view.is_primary(&self.me)
    }

    fn write_vote(&mut self, vote: VoteRecord, after: AfterWrite) -> Effects {
        let write = self.remember_write(after);
        Effects::one(Effect::Storage(StorageRequest::WriteVote { write, vote }))
    }

    fn remember_write(&mut self, after: AfterWrite) -> WriteId {
        self.last_write = self.last_write.next();
        self.writes.insert(self.last_write, after);
        self.last_write
    }

    /// The vote for the next view, as it should be on disk.
    fn vote_record(&self, view: &View) -> VoteRecord {
        VoteRecord { view: view.clone(), promised: self.promised, accepted: self.accepted.clone() }
    }

    /// Section 2: only a decided view is ever acted on, and it is made durable first.
    fn on_learnt(&mut self, view: View) -> Effects {
        let rivals = [self.view.as_deref(), self.adopting.as_ref()];
        for rival in rivals.into_iter().flatten() {
            if rival.number == view.number && *rival != view {
                return Effects::one(Effect::Halt(format!(
                    "two different views have the number {}: {rival:?} and {view:?}",
                    view.number
                )));
            }
            if rival.cluster != view.cluster || rival.number >= view.number {
                return Effects::none();
            }
        }
        self.adopting = Some(view.clone());
        let record = VoteRecord { view: view.clone(), promised: None, accepted: None };
        self.write_vote(record, AfterWrite::Adopt(view))
    }

    fn adopt(&mut self, now: Now, view: View) -> Effects {
        if self.number() >= view.number {
            return Effects::none(); // A later one was learnt while this one was being written.
        }
        if self.adopting.as_ref().is_some_and(|adopting| adopting.number == view.number) {
            self.adopting = None;
        }
        self.promised = None;
        self.accepted = None;
        self.suspects = None;
        self.acknowledgements.clear();
        let view = Arc::new(view);
        self.view = Some(view.clone());
        let mut effects = Effects::none();
        effects.announce(format!("view {}: {}", view.number, describe(&view)));
        if self.diverged && !view.lists(&self.me) {
            self.diverged = false;
            effects.tell(Note::Diverged); // First, so that it asks once, and for all data.
        }
        effects.tell(Note::ViewChanged { view: view.clone() });
        effects.append(self.settle_locks(&view));
        if self.leads(&view) {
            effects.tell(Note::Lead {
                view,
                tail: self.slots.tail().map(|slot| slot.entry.clone()).collect(),
                committed: self.slots.committed,
                last_timestamp: self.slots.last_timestamp,
            });
        }
        effects.append(self.replay(now));
        effects
    }

    /// Letters that came before the view that they were sent in.
    fn replay(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        for input in std::mem::take(&mut self.held) {
            effects.append(self.step(now, input));
        }
        effects
    }

    /// Whether a letter of that view must wait, and if so, keeps it.
    fn hold(&mut self, view: ViewNumber, input: Input) -> Option<Input> {
        if view <= self.number() {
            return Some(input);
        }
        if self.held.len() < HELD_LETTERS_MAX && !self.held.contains(&input) {
            self.held.push(input);
        }
        None
    }

    /// Section 11: whoever is behind is told, or asks.
    fn on_heard(&self, from: &Peer, theirs: ViewNumber) -> Effects {
        let mut effects = Effects::none();
        let adopting = self.adopting.as_ref().map_or(ViewNumber(0), |view| view.number);
        match &self.view {
            Some(view) if theirs < view.number => {
                effects.send(&from.address, PeerMessage::ViewIs { view: view.as_ref().clone() });
            }
            Some(_) if theirs > self.number() && theirs > adopting => effects.send(&from.address, PeerMessage::AskView),
            Some(_) | None => {}
        }
        effects
    }

    fn on_ask_view(&self, from: &Peer) -> Effects {
        let mut effects = Effects::none();
        if let Some(view) = &self.view {
            effects.send(&from.address, PeerMessage::ViewIs { view: view.as_ref().clone() });
        }
        effects
    }

    fn on_durable(&mut self, now: Now, write: WriteId) -> Effects {
        match self.writes.remove(&write) {
            Some(AfterWrite::Adopt(view)) => self.adopt(now, view),
            Some(AfterWrite::Say { to, view, message }) => {
                let mut effects = Effects::none();
                if view == self.number() {
                    effects.send(&to, message);
                }
                effects
            }
            Some(AfterWrite::Vote { to, view, attempt, index }) => self.on_logged(&to, view, attempt, index),
            None => Effects::none(),
        }
    }

    /// whether a later view is known or accepted, in memory or on disk.
    fn on_fence(&self, view: ViewNumber, session: SessionId) -> Effects {
        let accepted = self.accepted.is_some() || self.adopting.is_some() || self.number() != view;
        Effects::one(Effect::Tell(Note::Fenced { view, session, accepted }))
    }

    /// Section 9: what was recovered comes into force; a primary from before the restart is none any more (section 2).
    fn start(&mut self) -> Effects {
        let mut effects = Effects::none();
        let members = std::mem::take(&mut self.members);
        if !members.is_empty() {
            effects.tell(Note::Members { members });
        }
        let Some(view) = self.view.clone() else { return effects };
        effects.tell(Note::ViewChanged { view: view.clone() });
        effects.append(self.log_position());
        effects.append(self.settle_locks(&view));
        if self.leads(&view) {
            effects.tell(Note::NotServing { view: view.number, can_lead: true });
        }
        effects
    }

    /// Where the log stands, for heartbeats and synchronisation.
    fn log_position(&self) -> Effects {
        Effects::one(Effect::Tell(Note::LogPosition { log_end: self.slots.end().0, committed: self.slots.committed }))
    }
}

fn describe(view: &View) -> String {
    let list = |names: Vec<String>| names.join(", ");
    let replicas = list(view.replicas.keys().map(ToString::to_string).collect());
    let witnesses = list(view.witnesses.keys().map(ToString::to_string).collect());
    let witnesses = if witnesses.is_empty() { "none".to_owned() } else { witnesses };
    format!("primary {}, replicas {replicas}, witnesses {witnesses}: {}", view.primary, view.cause)
}

impl Machine for Replica {
    type Input = Input;

    fn step(&mut self, now: Now, input: Input) -> Effects {
        if let Input::Prepare { view, .. } | Input::Commit { view, .. } | Input::Confirm { view, .. } = &input {
            return match self.hold(*view, input) {
                Some(input) => self.on_primary(now, input),
                None => Effects::none(),
            };
        }
        match input {
            Input::Prepare { .. } | Input::Commit { .. } | Input::Confirm { .. } => Effects::none(), // Taken above.
            Input::Trial { from, view, campaign } => self.on_trial(&from, view, campaign),
            Input::Promise { from, view, ballot } => self.on_promise(&from, view, ballot),
            Input::Accept { from, view, ballot, proposal } => self.on_accept(&from, view, ballot, proposal),
            Input::AskView { from } => self.on_ask_view(&from),
            Input::Heard { from, view } => self.on_heard(&from, view),
            Input::Learnt { view } => self.on_learnt(view),
            Input::Durable { write } => self.on_durable(now, write),
            Input::Applied { index } => self.on_applied(index),
            Input::Granted { owner } => self.on_granted(owner),
            Input::Suspects { view, sign } => {
                if view == self.number() {
                    self.suspects = sign;
                }
                Effects::none()
            }
            Input::CommitSeen { index, hash } => self.on_commit_seen(index, hash),
            Input::Fence { view, session } => self.on_fence(view, session),
            Input::SyncBegan { from } => self.on_sync_began(from),
            Input::Synced { index, hash, last_timestamp } => self.on_synced((index, hash), last_timestamp),
        }
    }

    fn deadline(&self) -> Option<Millis> {
        if !self.started {
            return Some(Millis(0));
        }
        self.waiting.as_ref().map(|waiting| waiting.until)
    }

    fn tick(&mut self, now: Now) -> Effects {
        if !self.started {
            self.started = true;
            return self.start();
        }
        self.on_lock_deadline(now)
    }
}
