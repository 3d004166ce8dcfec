//! What this node has promised: the log's end, votes (R-4..R-9), ballots; a witness is one without a log.

use crate::ids::{Attempt, Ballot, Hash, Index, Millis, Now, Peer, SessionId, Timestamp, ViewNumber, WriteId};
use crate::lock::LockOwner;
use crate::log::Entry;
use crate::machine::{Effects, Machine, Setup};
use crate::message::SyncFrom;
use crate::status::NodeStatus;
use crate::storage::Recovered;
use crate::view::View;
use std::sync::Arc;

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
    /// Whether this node suspects the primary of that view.
    Suspects { view: ViewNumber, suspected: bool },
    /// The primary says that this is committed.
    CommitSeen { index: Index, hash: Hash },
    /// R-18, giver: has a view after this one been accepted? Answered by `Fenced`.
    Fence { view: ViewNumber, session: SessionId },
    /// A sync session began: what was above the commit index is dropped.
    SyncBegan { from: SyncFrom },
    /// The sync session brought the log here.
    Synced { index: Index, hash: Hash, last_timestamp: Timestamp },
}

/// The machine.
#[derive(Debug)]
pub struct Replica {}

impl Replica {
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

impl Machine for Replica {
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
