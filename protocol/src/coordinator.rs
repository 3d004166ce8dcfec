//! The primary's side of two-phase commit (R-1..R-10).

use crate::ids::{Address, Attempt, Hash, Index, Millis, NodeId, Now, Peer, RequestId, Timestamp, ViewNumber, Voter};
use crate::lock::LockOwner;
use crate::log::Entry;
use crate::machine::{Effects, Machine, Setup};
use crate::message::Refusal;
use crate::operation::{ChannelName, Operation, Outcome};
use crate::status::NodeStatus;
use crate::storage::Verdict;
use crate::view::View;
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// A client's write.
    Submit { request: RequestId, operation: Operation },
    /// Where the message to star is.
    Located { request: RequestId, channel: Option<ChannelName> },
    /// A ticket's or an inherited entry's locks are held.
    Granted { owner: LockOwner },
    /// What the store says of the next batch.
    Examined { round: u64, verdicts: Vec<Verdict> },
    ///
    Vote { from: Peer, view: ViewNumber, attempt: Attempt, index: Index, refusal: Option<Refusal> },
    ///
    Committed { from: Peer, view: ViewNumber, attempt: Attempt, index: Index },
    /// The entry is applied here.
    Applied { index: Index, outcomes: Vec<Outcome> },
    /// A view is in force.
    ViewChanged(Arc<View>),
    /// It names this node, which may lead.
    Lead { view: Arc<View>, tail: Vec<Arc<Entry>>, committed: (Index, Hash), last_timestamp: Timestamp },
    /// A voter was silent too long.
    Silent { view: ViewNumber, voter: Voter, reason: String },
    /// A connection was refused or reset: whoever is there has crashed.
    Unreachable { address: Address },
    /// The view that it wanted was not decided.
    CampaignFailed { view: ViewNumber, no_quorum: bool, reason: String },
    ///
    HandOver { to: Option<NodeId> },
    /// a letter.
    TakeOver { from: Peer, view: ViewNumber },
    ///
    Pace { delay_ms: u64 },
}

/// The machine.
#[derive(Debug)]
pub struct Coordinator {}

impl Coordinator {
    /// A machine that has heard nothing yet; its first `tick` begins.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        let _ = setup;
        Self {}
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        let _ = status;
    }
}

impl Machine for Coordinator {
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
