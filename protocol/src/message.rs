//! Everything that nodes say to each other (section 11).
//!
//! Letters go one way: what answers a letter is a letter of its own, and names what it answers. Any of them may be lost,
//! delayed, repeated and overtaken; each says here what a late or repeated one does. Imports types, never machines.

use crate::change::{Decision, Sign};
use crate::ids::{
    Address, Attempt, Ballot, ClusterId, Hash, Incarnation, Index, Peer, SessionId, Timestamp, ViewNumber,
};
use crate::log::Entry;
use crate::view::View;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The version of everything in this file. Nodes of different versions refuse each other.
pub const PROTOCOL_VERSION: u16 = 5;

/// A letter and who sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The sender's protocol version; first, so that it can be read whatever follows.
    pub version: u16,
    /// The sender's cluster; none before it knows one.
    pub cluster: Option<ClusterId>,
    /// The sender.
    pub from: Peer,
    /// The number of the last decided view that the sender knows; 0 for none.
    pub view: ViewNumber,
    /// What it says.
    pub message: PeerMessage,
}

/// Why a replica votes no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// It knows a later view; the primary is told the view itself in a letter of its own.
    StaleView,
    /// It has accepted a next view under this ballot.
    Accepted(Ballot),
    /// It voted in this slot under a higher attempt of this view.
    StaleAttempt,
    /// Its log ends here, before the entry.
    Gap(Index),
    /// It did not get the entry's locks in time.
    LockTimeout,
    /// Its storage is failing, or its history is not the primary's.
    Storage,
    /// The entry cannot be what the primary meant: its hash is not that of its contents.
    Malformed,
}

/// What a voter answers to a ballot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BallotAnswer {
    /// It promised, or accepted, durably; with what it had accepted before (only to a promise).
    Yes(Option<(Ballot, View)>),
    /// It promised a higher one.
    Outbid(Ballot),
}

/// What a joining node still lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncFrom {
    /// Only the entries after its own commit index.
    Log(Index),
    /// Everything: a snapshot of the store at this index, where the chain had this hash, then the entries after it.
    Snapshot {
        /// The last entry that the snapshot holds.
        index: Index,
        /// The chain there.
        hash: Hash,
        /// The highest instant that it gives out.
        last_timestamp: Timestamp,
    },
}

/// Why no session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncRefusal {
    /// Another node is joining; wait.
    Busy,
    /// The view lists this id, under this incarnation or another, until it is set offline.
    Listed,
    /// Not a primary that serves and has accepted no next view.
    NotPrimary,
    /// The session is not known (any more): begin again.
    NoSession,
}

/// One stored pair of a snapshot: key and value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// What a letter says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// R-4, primary to replica: vote on this entry. Repeated when no vote comes; a late one meets a higher attempt or view.
    Prepare {
        /// The view in which it is sent.
        view: ViewNumber,
        /// Which sending it is.
        attempt: Attempt,
        /// The entry.
        entry: Arc<Entry>,
        /// What the primary knows to be committed.
        commit_index: Index,
    },
    /// R-5, replica to primary. Counts only for the last attempt sent.
    Vote {
        /// The view of the `Prepare`.
        view: ViewNumber,
        /// The attempt of the `Prepare`.
        attempt: Attempt,
        /// The slot.
        index: Index,
        /// None for yes: durable, locks held.
        refusal: Option<Refusal>,
    },
    /// R-6, primary to replica: true for ever, applied only where the hash agrees. Repeated until acknowledged.
    Commit {
        /// The view in which it was decided.
        view: ViewNumber,
        /// The attempt in which it was decided.
        attempt: Attempt,
        /// The slot.
        index: Index,
        /// What was decided.
        hash: Hash,
    },
    /// R-6, replica to primary: applied, locks released.
    Committed {
        /// The view of the `Commit`.
        view: ViewNumber,
        /// The attempt of the `Commit`.
        attempt: Attempt,
        /// The slot.
        index: Index,
    },
    /// Section 6, primary to voters: is this still your view, and have you accepted no next one?
    Confirm {
        /// The primary's view.
        view: ViewNumber,
        /// Counts confirmations; an answer names it.
        round: u64,
    },
    /// Section 6, voter to primary.
    Confirmed {
        /// The view of the `Confirm`.
        view: ViewNumber,
        /// The round of the `Confirm`.
        round: u64,
        /// None for yes; else `StaleView` or `Accepted`.
        refusal: Option<Refusal>,
    },
    /// R-11, replica or witness to primary, each `heartbeat.interval`.
    Heartbeat {
        /// The sender's view.
        view: ViewNumber,
        /// Counts this sender's heartbeats; an answer names it.
        beat: u64,
        /// Where its log ends; 0 from a witness.
        log_end: Index,
        /// Its commit index; 0 from a witness.
        commit_index: Index,
        /// The chain at its commit index.
        hash: Hash,
        /// Whether an answer came within `heartbeat.timeout`. Who hears nothing is as lost as who says nothing.
        is_answered: bool,
    },
    /// R-11, the answer.
    HeartbeatAnswer {
        /// The answering node's view.
        view: ViewNumber,
        /// The beat answered.
        beat: u64,
        /// Its commit index and the chain there when it serves as primary; none means `not_primary`.
        serving: Option<(Index, Hash)>,
    },
    /// R-12, to replicas with a higher id: is any of you alive? Carries the sender's view, which its receiver merges.
    Election {
        /// The sender's view.
        view: View,
    },
    /// R-12, the answer.
    Alive {
        /// The answering node's view.
        view: ViewNumber,
        /// Whether it may become primary itself now.
        can_lead: bool,
    },
    /// a decided view, announced by its decider; or by a primary that serves, in answer to `Election`.
    Victory {
        /// The decided view.
        view: View,
        /// How it was decided, for the record of its primary; only from its decider.
        decision: Option<Decision>,
    },
    /// a higher replica that reaches every replica asks the primary to hand over.
    TakeOver {
        /// The view in which it asks.
        view: ViewNumber,
    },
    /// R-13, candidate to voters: would you promise? Changes nothing.
    Trial {
        /// The candidate's view.
        view: ViewNumber,
        /// Counts the candidate's campaigns; an answer names it.
        campaign: u64,
    },
    /// R-13, the answer.
    TrialAnswer {
        /// The view of the `Trial`.
        view: ViewNumber,
        /// The campaign of the `Trial`.
        campaign: u64,
        /// Yes, when the voter suspects the primary or the candidate is the primary.
        willing: bool,
        /// The highest ballot that the voter has promised, so that the candidate begins above it.
        promised: Option<Ballot>,
        /// What the voter noticed of the primary, if it suspects it; for the record.
        sign: Option<Sign>,
    },
    /// R-13, phase 1 for the view after `view`.
    Promise {
        /// The view whose voters decide.
        view: ViewNumber,
        /// The candidate's ballot.
        ballot: Ballot,
    },
    /// R-13, the answer, durable.
    Promised {
        /// The view of the `Promise`.
        view: ViewNumber,
        /// The ballot of the `Promise`.
        ballot: Ballot,
        /// Yes with what was accepted, or outbid.
        answer: BallotAnswer,
    },
    /// R-14, phase 2 for the view after `view`.
    Accept {
        /// The view whose voters decide.
        view: ViewNumber,
        /// The candidate's ballot.
        ballot: Ballot,
        /// The next view.
        proposal: View,
    },
    /// R-14, the answer, durable.
    Accepted {
        /// The view of the `Accept`.
        view: ViewNumber,
        /// The ballot of the `Accept`.
        ballot: Ballot,
        /// Yes, or outbid.
        answer: BallotAnswer,
    },
    /// Section 11: the receiver seems to know a later view; please tell it.
    AskView,
    /// Section 11: the last decided view that the sender knows. A late one is older than the receiver's and changes nothing.
    ViewIs {
        /// The decided view.
        view: View,
    },
    /// R-18, joining node to primary; the envelope says who. Repeated until answered.
    BeginSync {
        /// Drawn at random for each session that it asks for; the answer names it.
        nonce: u64,
        /// Its commit index; 0 when it holds nothing or drops all.
        commit_index: Index,
        /// The chain there; one that no chain has (`sync::SCRATCH_HASH`) asks for a snapshot.
        hash: Hash,
    },
    /// R-18, the answer: from now on an earlier session of this node is forgotten. A late one would have its receiver drop
    /// what a next view may count on: it counts only for the very `BeginSync`, and in the receiver's own view.
    SyncOk {
        /// That of the `BeginSync`.
        nonce: u64,
        /// The view in which its sender serves.
        view: ViewNumber,
        /// The session.
        session: SessionId,
        /// What will be sent.
        from: SyncFrom,
    },
    /// R-18, no session; or the end of one.
    SyncRefused {
        /// The session that has ended, if the letter was about one.
        session: Option<SessionId>,
        /// Why.
        reason: SyncRefusal,
    },
    /// R-19, joining node to primary: the snapshot's next chunk, please. Repeated after a loss.
    GiveMeAllData {
        /// The session.
        session: SessionId,
        /// The last key it has; none for the first chunk.
        cursor: Option<Vec<u8>>,
    },
    /// R-19, one chunk.
    Chunk {
        /// The session.
        session: SessionId,
        /// The cursor of the `GiveMeAllData`; another one's chunk is dropped.
        cursor: Option<Vec<u8>>,
        /// Pairs in order of key.
        pairs: Vec<Pair>,
        /// BLAKE3 over the pairs.
        checksum: Hash,
        /// No more follow.
        last: bool,
    },
    /// R-20, joining node to primary: the committed entries after this index, please. Repeated after a loss.
    GiveEntries {
        /// The session.
        session: SessionId,
        /// The last one that it has, durably.
        after: Index,
    },
    /// committed entries in order. Repeated ones are known already.
    Entries {
        /// The session.
        session: SessionId,
        /// The index of the `GiveEntries`.
        after: Index,
        /// They begin right after it. May be empty.
        entries: Vec<Arc<Entry>>,
        /// the store is locked, nothing follows these; say `EndSync` when they are durable.
        last: bool,
    },
    /// R-21, joining node to primary: all is durable. Counts only in the view in which the lock was taken.
    EndSync {
        /// The session.
        session: SessionId,
        /// Where its log ends.
        index: Index,
        /// The chain there.
        hash: Hash,
    },
    /// R-24, a witness that the view does not list to the primary: list me when there is room. Repeated until listed.
    ListMe {
        /// The view that the witness knows: one that cannot keep up with views is of no use in one.
        view: ViewNumber,
    },
    /// R-25, primary to one who asks to join or to be listed: this very disk was removed for good. A late one is as true.
    Removed {
        /// The disk: an empty one at the same address is not meant.
        incarnation: Incarnation,
    },
    /// R-26, a drained replica to the primary: have the next view decided without me. Repeated while it is drained, so that it
    /// hears of later views.
    LetMeGo {
        /// The view that lists it.
        view: ViewNumber,
    },
    /// Section 9: who are you, and do you know a view?
    Hello {
        /// Of this question: no other life of the sender's address asked under it.
        round: u64,
        /// The sender's seeds, sorted.
        seeds: Vec<Address>,
    },
    /// Section 9, the answer.
    HelloAnswer {
        /// That of the question.
        round: u64,
        /// The answering node's seeds, sorted.
        seeds: Vec<Address>,
        /// The last decided view that it knows.
        view: Option<View>,
    },
}

/// Which connection a letter takes, so that a snapshot never delays a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Heartbeats, elections, views.
    Vital,
    /// Votes, commits, confirmations.
    Work,
    /// Snapshots and entries for a joining node.
    Bulk,
}

impl PeerMessage {
    /// The connection that it takes. Letters of one lane to one address stay in order unless one is lost.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Prepare { .. }
            | Self::Vote { .. }
            | Self::Commit { .. }
            | Self::Committed { .. }
            | Self::Confirm { .. }
            | Self::Confirmed { .. } => Lane::Work,
            Self::Heartbeat { .. }
            | Self::HeartbeatAnswer { .. }
            | Self::Election { .. }
            | Self::Alive { .. }
            | Self::Victory { .. }
            | Self::TakeOver { .. }
            | Self::Trial { .. }
            | Self::TrialAnswer { .. }
            | Self::Promise { .. }
            | Self::Promised { .. }
            | Self::Accept { .. }
            | Self::Accepted { .. }
            | Self::AskView
            | Self::ViewIs { .. }
            | Self::ListMe { .. }
            | Self::Removed { .. }
            | Self::LetMeGo { .. }
            | Self::Hello { .. }
            | Self::HelloAnswer { .. } => Lane::Vital,
            Self::BeginSync { .. }
            | Self::SyncOk { .. }
            | Self::SyncRefused { .. }
            | Self::GiveMeAllData { .. }
            | Self::Chunk { .. }
            | Self::GiveEntries { .. }
            | Self::Entries { .. }
            | Self::EndSync { .. } => Lane::Bulk,
        }
    }
}
