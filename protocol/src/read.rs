//! Reads: locks, then a confirmation of the view, then the store (section 6).

use crate::ids::{Index, Millis, Now, Peer, RequestId, ViewNumber};
use crate::lock::LockOwner;
use crate::machine::{Effects, Machine, Setup};
use crate::message::Refusal;
use crate::operation::{Answer, ChannelName, Found, OperationError, Query};
use crate::status::NodeStatus;
use crate::view::View;
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// A client's query.
    Read { request: RequestId, query: Query },
    /// Where the message is that is asked for.
    Located { request: RequestId, channel: Option<ChannelName> },
    /// The read's locks are held.
    Granted { owner: LockOwner },
    /// A voter's answer to `Confirm`.
    Confirmed { from: Peer, view: ViewNumber, round: u64, refusal: Option<Refusal> },
    /// What the store says.
    Queried { request: RequestId, found: Result<Found, OperationError>, index: Index },
    /// A view is in force; till `Serving` this node answers `not_primary`.
    ViewChanged(Arc<View>),
    /// This node serves as primary.
    Serving { view: ViewNumber },
    /// It does not any more.
    NotServing { view: ViewNumber },
    /// Answer this once a confirmation that begins from now on succeeds.
    AnswerWhenConfirmed { request: RequestId, answer: Answer },
}

/// The machine.
#[derive(Debug)]
pub struct Reads {}

impl Reads {
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

impl Machine for Reads {
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
