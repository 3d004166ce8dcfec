//! Deciding the next view (R-13..R-17).

use crate::ids::{Address, Ballot, Millis, NodeId, Now, Peer, ViewNumber, Voter};
use crate::machine::{Effects, Machine, Setup};
use crate::message::BallotAnswer;
use crate::status::NodeStatus;
use crate::view::View;
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// Election: stand.
    Campaign { view: ViewNumber, reason: String },
    /// Coordinator: leave these out; nobody: bring a half-decided view to its end.
    SetOffline { view: ViewNumber, voters: Vec<Voter>, reason: String },
    /// Sync: a replica more.
    AddReplica { view: ViewNumber, peer: Peer },
    /// Heartbeat: a witness more.
    AddWitness { view: ViewNumber, peer: Peer },
    /// Coordinator: another primary.
    HandOverNow { view: ViewNumber, to: NodeId },
    ///
    TrialAnswer { from: Peer, view: ViewNumber, campaign: u64, willing: bool, promised: Option<Ballot> },
    ///
    Promised { from: Peer, view: ViewNumber, ballot: Ballot, answer: BallotAnswer },
    ///
    Accepted { from: Peer, view: ViewNumber, ballot: Ballot, answer: BallotAnswer },
    /// A connection was refused or reset.
    Unreachable { address: Address },
    /// A view is in force.
    ViewChanged(Arc<View>),
}

/// The machine.
#[derive(Debug)]
pub struct Campaign {}

impl Campaign {
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

impl Machine for Campaign {
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
