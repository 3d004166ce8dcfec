//! The first view, and refusing a second cluster (section 9).

use crate::ids::{Address, Millis, Now, Peer};
use crate::machine::{Effects, Machine, Setup};
use crate::status::NodeStatus;
use crate::storage::Recovered;
use crate::view::View;
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// Somebody asks who this is.
    Hello { from: Peer, seeds: Vec<Address> },
    /// A seed answers.
    HelloAnswer { from: Peer, seeds: Vec<Address>, view: Option<View> },
    /// A view is in force.
    ViewChanged(Arc<View>),
}

/// The machine.
#[derive(Debug)]
pub struct Birth {}

impl Birth {
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

impl Machine for Birth {
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
