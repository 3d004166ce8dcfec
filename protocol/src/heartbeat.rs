//! Who is alive.

use crate::ids::{Address, Hash, Index, Millis, Now, Peer, ViewNumber};
use crate::machine::{Effects, Machine, Setup};
use crate::status::NodeStatus;
use crate::view::View;
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// A replica or witness lives.
    Heartbeat { from: Peer, view: ViewNumber, beat: u64, log_end: Index, commit_index: Index, hash: Hash },
    /// The primary's answer.
    HeartbeatAnswer { from: Peer, view: ViewNumber, beat: u64, serving: Option<(Index, Hash)> },
    /// The request kept open at the primary ended.
    WatchEnded { address: Address },
    /// A connection was refused or reset.
    Unreachable { address: Address },
    /// A view is in force.
    ViewChanged(Arc<View>),
    /// Where this node's log stands.
    LogPosition { log_end: Index, committed: (Index, Hash) },
    /// This node serves as primary.
    Serving { view: ViewNumber },
    /// It does not any more.
    NotServing { view: ViewNumber },
    /// R-24, a witness asks to be listed.
    ListMe { from: Peer },
}

/// The machine.
#[derive(Debug)]
pub struct Heartbeats {}

impl Heartbeats {
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

impl Machine for Heartbeats {
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
