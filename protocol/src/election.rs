//! Bully: who stands.

use crate::ids::{Address, Millis, Now, Peer, ViewNumber};
use crate::machine::{Effects, Machine, Setup};
use crate::status::NodeStatus;
use crate::view::View;
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// The primary is suspected.
    Suspected { view: ViewNumber, reason: String },
    /// It is not any more.
    Trusted { view: ViewNumber },
    /// A lower replica stands.
    Election { from: Peer, view: View },
    /// A higher replica lives.
    Alive { from: Peer, view: ViewNumber, can_lead: bool },
    /// Somebody leads.
    Victory { from: Peer, view: View },
    /// A connection was refused or reset.
    Unreachable { address: Address },
    /// A view is in force.
    ViewChanged(Arc<View>),
    /// This node serves as primary.
    Serving { view: ViewNumber },
    /// It does not any more.
    NotServing { view: ViewNumber },
    /// A campaign of this node's own ended without its view.
    CampaignFailed { view: ViewNumber, no_quorum: bool, reason: String },
}

/// The machine.
#[derive(Debug)]
pub struct Election {}

impl Election {
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

impl Machine for Election {
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
