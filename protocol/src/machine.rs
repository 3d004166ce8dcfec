//! What a machine is: an input in, effects out. Everything a machine can do to the world is a variant here.
//!
//! A machine never waits, reads a clock or draws from the system: time and clocks come as [`Now`], randomness as a seed at
//! its making, durability as an event that says so. Effects are carried out in the order in which they are returned.
//!
//! Not here: who hears a [`Note`] (`route.rs`), and who carries effects out (the actors, or the simulator).

use crate::change::{Decision, Leave, Reason, Suspicion};
use crate::ids::{Address, Hash, Index, Millis, NodeId, Now, Peer, RequestId, SessionId, Timestamp, ViewNumber, Voter};
use crate::lock::{LockOwner, Mode, Resource};
use crate::log::Entry;
use crate::member::Members;
use crate::message::{PeerMessage, SyncFrom};
use crate::operation::Answer;
use crate::storage::StorageRequest;
use crate::view::View;
use std::sync::Arc;

/// A state machine that decides one thing.
pub trait Machine {
    /// What it hears.
    type Input;

    /// Takes one input. Never panics on anything that came from outside.
    fn step(&mut self, now: Now, input: Self::Input) -> Effects;

    /// When it wants [`Machine::tick`] even if it hears nothing; none when it waits for nothing.
    fn deadline(&self) -> Option<Millis>;

    /// Called at its deadline or later. Called too early, it does nothing.
    fn tick(&mut self, now: Now) -> Effects;
}

/// One thing that a machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a letter; it may be lost. To the node's own address it is delivered here, as any other.
    Send {
        /// Where to.
        to: Address,
        /// What.
        message: PeerMessage,
    },
    /// Tell the machines of this node that [`crate::route`] names.
    Tell(Note),
    /// Ask the storage, which serves in order.
    Storage(StorageRequest),
    /// Answer a client's request, once.
    Answer {
        /// Which request.
        request: RequestId,
        /// What.
        answer: Answer,
    },
    /// Keep one request open at this address instead of any other; none closes it. Its end is told as `WatchEnded`.
    Watch(Option<Address>),
    /// One line for people: what changed, and why.
    Announce(String),
    /// This cannot be: say so loudly and end the process, before it does harm.
    Halt(String),
    /// Its data directory was removed from the cluster for good: say so loudly and end the process. Nothing is wrong.
    Retire(String),
}

/// What machines of one node tell each other.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Replica to all: this decided view is durable here and in force.
    ViewChanged {
        /// The view.
        view: Arc<View>,
    },
    /// Replica to coordinator, right after `ViewChanged`: the view names this node primary, and was learnt in this
    /// process's lifetime (section 2).
    Lead {
        /// The view.
        view: Arc<View>,
        /// The entries above the commit index, in order.
        tail: Vec<Arc<Entry>>,
        /// The commit index and the chain there.
        committed: (Index, Hash),
        /// The highest instant in the log.
        last_timestamp: Timestamp,
    },
    /// Coordinator to others: the view entry is committed, this primary serves.
    Serving {
        /// The view in which it serves.
        view: ViewNumber,
    },
    /// Coordinator to others: it has stopped being primary, or stops.
    NotServing {
        /// The view in which it was primary.
        view: ViewNumber,
        /// Whether it may stand again at once: after a restart, not after it had to step down.
        can_lead: bool,
    },
    /// Heartbeat to election and replica: the primary of this view is suspected.
    Suspected {
        /// The view whose primary it is.
        view: ViewNumber,
        /// Why, and since when.
        suspicion: Suspicion,
    },
    /// Heartbeat to election and replica: the primary answers and serves, no suspicion (any more).
    Trusted {
        /// The view whose primary it is.
        view: ViewNumber,
    },
    /// Heartbeat to coordinator: nothing came from this voter for `heartbeat.timeout`.
    Silent {
        /// The view that lists it.
        view: ViewNumber,
        /// Who.
        voter: Voter,
        /// For how long. Milliseconds.
        ms: u64,
    },
    /// Election to campaign: stand for primary of the next view.
    Campaign {
        /// The view whose voters decide.
        view: ViewNumber,
        /// Why, and since when; none when a lower node's election set it off.
        suspicion: Option<Suspicion>,
    },
    /// Coordinator to campaign: have the next view decided, with these left out even if they promise. With nobody
    /// left out: bring a half-decided next view to its end (R-5 `accepted`).
    SetOffline {
        /// The view whose voters decide.
        view: ViewNumber,
        /// Whom, each with its fault (`Reason::SetOffline`); or what is unfinished.
        reasons: Vec<Reason>,
    },
    /// Sync to campaign: have the next view decided with this replica too. The store stays locked until its end is
    /// told, once: by `ViewChanged`, or by `AddFailed`.
    AddReplica {
        /// The view in which the store was locked.
        view: ViewNumber,
        /// Who.
        peer: Peer,
        /// Since when the store is locked.
        locked_at: Millis,
    },
    /// Campaign to sync: the `AddReplica` came to nothing, and is forgotten: no proposal that is made from now on names this
    /// replica because of it. `CampaignFailed` does not say that: it may be about a campaign that began earlier.
    AddFailed {
        /// The view of the `AddReplica`.
        view: ViewNumber,
        /// Its peer.
        peer: Peer,
    },
    /// Heartbeat to campaign: have the next view decided with this witness, if there is room.
    AddWitness {
        /// The view in which it asked.
        view: ViewNumber,
        /// Who.
        peer: Peer,
    },
    /// The shell (SIGTERM, nobody named), or a higher replica, to coordinator: hand over.
    HandOver {
        /// To whom; none for the highest other replica.
        to: Option<NodeId>,
    },
    /// Coordinator to campaign, when nothing is in flight: have the next view decided with this primary.
    HandOverNow {
        /// The view whose voters decide.
        view: ViewNumber,
        /// The next primary.
        to: NodeId,
        /// This node leaves: the view is to go on without it, so that nobody waits for it.
        leaves: Option<Leave>,
        /// Since when it takes no writes.
        since: Millis,
    },
    /// Campaign to coordinator, when the view that it had decided comes into force: how that went, for the record.
    Decided {
        /// The decided view.
        view: ViewNumber,
        /// How.
        decision: Decision,
    },
    /// Campaign to election and coordinator: it ended without the view that it was for.
    CampaignFailed {
        /// The view whose voters should have decided.
        view: ViewNumber,
        /// No quorum could be reached; else it was outbid or refused.
        no_quorum: bool,
        /// Why, for people.
        reason: String,
    },
    /// Campaign, election, birth or an incoming letter, to replica: this view is decided.
    Learnt {
        /// The decided view.
        view: View,
    },
    /// Who needs locks to lock table: take these, in this order, all or wait. Locks that the owner holds are kept.
    Acquire {
        /// Who.
        owner: LockOwner,
        /// What.
        locks: Vec<(Resource, Mode)>,
    },
    /// To lock table: let go of everything, held or waited for. Of an unknown owner: nothing happens.
    Release {
        /// Who.
        owner: LockOwner,
    },
    /// Lock table to owner: all that it asked for is held.
    Granted {
        /// Who.
        owner: LockOwner,
    },
    /// Heartbeat to replica: the primary says that this is committed; applied only where the hash agrees.
    CommitSeen {
        /// The index.
        index: Index,
        /// The chain there.
        hash: Hash,
    },
    /// Replica, of the primary, to coordinator: the store is asked to apply what is committed up to here. It serves in order, so
    /// whatever is asked of it from now on sees that.
    Applying {
        /// Up to where.
        index: Index,
    },
    /// Replica to heartbeat and sync: where the log stands.
    LogPosition {
        /// Where it ends.
        log_end: Index,
        /// What is committed, and the chain there.
        committed: (Index, Hash),
    },
    /// Sync to replica: has this node accepted a view after this one? `SyncOk` waits for the answer.
    Fence {
        /// The view in which it serves.
        view: ViewNumber,
        /// Whose `SyncOk` waits.
        session: SessionId,
    },
    /// Replica to sync, the answer, from what is durable or is being written.
    Fenced {
        /// The view of the `Fence`.
        view: ViewNumber,
        /// The session of the `Fence`.
        session: SessionId,
        /// Whether a later view is in force or was accepted.
        accepted: bool,
    },
    /// Sync to replica: `SyncOk` came, what the log holds above its commit index is dropped; for a snapshot, all.
    SyncBegan {
        /// What will be sent.
        from: SyncFrom,
    },
    /// Sync to replica: the log ends here now, committed and durable. Told before `EndSync` goes out.
    Synced {
        /// Where it ends.
        index: Index,
        /// The chain there.
        hash: Hash,
        /// The highest instant in the log.
        last_timestamp: Timestamp,
    },
    /// Sync to coordinator: wait so long between batches, so that a joining node comes nearer. 0 ends it.
    Pace {
        /// Milliseconds.
        delay_ms: u64,
    },
    /// Coordinator to read: answer this once a confirmation that begins from now on succeeds. What it says was read from
    /// the store, so a deposed primary must not say it.
    AnswerWhenConfirmed {
        /// Which request.
        request: RequestId,
        /// What.
        answer: Answer,
    },
    /// Replica to sync: this node's history is not the primary's; join from scratch once the view leaves it out.
    Diverged,
    /// Replica to coordinator, heartbeat and sync, when it starts: who is a member, as the disk says. Later the storage does.
    Members {
        /// All of them.
        members: Members,
    },
    /// Coordinator to heartbeat and sync: this node is to leave the view and stay out, or may come back.
    Draining {
        /// Whether it is to.
        on: bool,
    },
}

impl Note {
    /// Whether it tells where something stands: the last one counts, and it may wait for what else its hearers are told.
    #[must_use]
    pub fn is_state(&self) -> bool {
        matches!(self, Self::LogPosition { .. })
    }
}

/// What a step wants done, in order. To drop it is to lose letters.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// One effect.
    pub fn one(effect: Effect) -> Self {
        Self(vec![effect])
    }

    /// Adds one more at the end.
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Adds all of `more` at the end.
    pub fn append(&mut self, more: Self) {
        if self.0.is_empty() {
            self.0 = more.0; // As it often is: nothing need be moved.
        } else {
            self.0.extend(more.0);
        }
    }

    /// Sends a letter.
    pub fn send(&mut self, to: &Address, message: PeerMessage) {
        self.push(Effect::Send { to: to.clone(), message });
    }

    /// Tells the other machines.
    pub fn tell(&mut self, note: Note) {
        self.push(Effect::Tell(note));
    }

    /// Asks the storage.
    pub fn storage(&mut self, request: StorageRequest) {
        self.push(Effect::Storage(request));
    }

    /// Answers a client.
    pub fn answer(&mut self, request: RequestId, answer: Answer) {
        self.push(Effect::Answer { request, answer });
    }

    /// Says one line to people.
    pub fn announce(&mut self, text: impl Into<String>) {
        self.push(Effect::Announce(text.into()));
    }

    /// Ends the process of a node that was removed.
    pub fn retire(&mut self, why: impl Into<String>) {
        self.push(Effect::Retire(why.into()));
    }

    /// Ends the process.
    pub fn halt(&mut self, why: impl Into<String>) {
        self.push(Effect::Halt(why.into()));
    }

    /// The views that they bring into force: known before anything of the step goes out, so that no letter speaks for an older one.
    pub fn views(&self) -> impl Iterator<Item = &View> {
        self.0.iter().filter_map(|effect| match effect {
            Effect::Tell(Note::ViewChanged { view }) => Some(&**view),
            _ => None,
        })
    }

    /// The effects, to look at.
    #[must_use]
    pub fn as_slice(&self) -> &[Effect] {
        &self.0
    }
}

impl IntoIterator for Effects {
    type Item = Effect;
    type IntoIter = std::vec::IntoIter<Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Every time limit of the protocol. Milliseconds. They cost only time: no rule of safety depends on one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a replica or a witness tells the primary that it lives.
    pub heartbeat_interval_ms: u64,
    /// How long silence lasts before the silent one is suspected, or set offline.
    pub heartbeat_timeout_ms: u64,
    /// How long the primary waits for a vote or a commit's acknowledgement before it sets a replica offline.
    pub vote_timeout_ms: u64,
    /// A replica whose vote comes so long after all others' is late.
    pub slow_replica_limit_ms: u64,
    /// How long it may be late on end before it is set offline.
    pub slow_replica_window_ms: u64,
    /// How often a letter that should have been answered is sent again.
    pub resend_ms: u64,
    /// How long a wait for locks lasts before it fails (section 6).
    pub lock_timeout_ms: u64,
    /// How long a candidate waits for `Alive`.
    pub election_answer_timeout_ms: u64,
    /// How long a candidate that heard `Alive` waits for `Victory`.
    pub election_victory_timeout_ms: u64,
    /// The longest random wait before the next try, and how long `can_lead` stays false.
    pub election_retry_ms: u64,
    /// How often a takeover is asked for at most.
    pub takeover_backoff_ms: u64,
    /// How long a candidate waits for slow voters.
    pub gather_timeout_ms: u64,
    /// How long a sync session's other side may be silent.
    pub sync_timeout_ms: u64,
    /// How long a seed or a primary that did not answer is left alone before it is asked again.
    pub seek_interval_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 1_000,
            heartbeat_timeout_ms: 3_000,
            vote_timeout_ms: 2_000,
            slow_replica_limit_ms: 50,
            slow_replica_window_ms: 3_000,
            resend_ms: 100,
            lock_timeout_ms: 1_000,
            election_answer_timeout_ms: 300,
            election_victory_timeout_ms: 1_500,
            election_retry_ms: 1_000,
            takeover_backoff_ms: 30_000,
            gather_timeout_ms: 300,
            sync_timeout_ms: 10_000,
            seek_interval_ms: 500,
        }
    }
}

/// The numbers of the protocol that are not times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most operations in one batch.
    pub batch_ops_max: usize,
    /// The most bytes of text in one batch, unless one operation alone is larger.
    pub batch_bytes_max: usize,
    /// The most operations, and the most reads, that may wait at a primary; one more is told `overloaded`.
    pub queue_ops_max: usize,
    /// Voting attempts a batch.
    pub attempts_max: u32,
    /// `replication.min_replicas` (section 3).
    pub replicas_min: u32,
    /// How long idempotency keys are kept (section 4). Microseconds.
    pub idempotency_retention_us: u64,
    /// How many applied entries the log keeps (section 4).
    pub log_retain_entries: u64,
    /// How many bytes of log records are kept, but for the newest (section 4).
    pub log_retain_bytes: u64,
    /// The size of a snapshot's chunk, and of a round of entries, unless one pair or entry alone is larger. Bytes.
    pub chunk_bytes: usize,
    /// Rounds of entries before the primary paces its batches.
    pub sync_rounds_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_ops_max: 1_000,
            batch_bytes_max: 1 << 20,
            queue_ops_max: 10_000,
            attempts_max: 3,
            replicas_min: 1,
            idempotency_retention_us: 24 * 3_600 * 1_000_000,
            log_retain_entries: 100_000,
            log_retain_bytes: 256 << 20,
            chunk_bytes: 1 << 20,
            sync_rounds_max: 20,
        }
    }
}

/// Who a node is and how it is set: what every machine is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This node.
    pub me: Peer,
    /// Its seeds, sorted (section 9): of a gateway's witness, the data nodes that it was told of.
    pub seeds: Vec<Address>,
    /// Time limits.
    pub timing: Timing,
    /// Other limits.
    pub limits: Limits,
    /// Where each machine's randomness comes from; drawn anew by each process.
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::suspicion;

    /// Such a note is held back, and replaced by the next one: of any other that would lose what happened.
    #[test]
    fn r11_only_of_where_a_log_stands_the_last_word_is_enough() {
        let (index, hash, view) = (Index(1), Hash::default(), ViewNumber(1));
        assert!(Note::LogPosition { log_end: Index(2), committed: (index, hash) }.is_state());
        let told_each = [
            Note::Serving { view },
            Note::NotServing { view, can_lead: true },
            Note::Suspected { view, suspicion: suspicion() },
            Note::Trusted { view },
            Note::CommitSeen { index, hash },
            Note::Applying { index },
            Note::Pace { delay_ms: 0 },
            Note::Draining { on: true },
        ];
        for note in told_each {
            assert!(!note.is_state(), "{note:?}");
        }
    }
}
