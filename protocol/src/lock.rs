//! The lock table: who may touch what, while a batch is in doubt.

use crate::ids::{Millis, Now, RequestId, SessionId};
use crate::machine::{Effects, Machine};
use crate::operation::ChannelName;
use crate::status::NodeStatus;
use serde::{Deserialize, Serialize};

/// What can be locked, in canonical order: the store before its channels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// Everything.
    Store,
    /// One channel with its messages and stars.
    Channel(ChannelName),
}

/// The classic multi-granularity modes (Gray 1976).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// IS: will read below.
    IntentShared,
    /// IX: will write below.
    IntentExclusive,
    /// S: reads all of it.
    Shared,
    /// X: writes it.
    Exclusive,
}

/// Who holds locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockOwner {
    /// The primary's coordinator: the operations on one channel that will go into one batch.
    Ticket(u64),
    /// A replica: an entry in doubt. Counts its acquisitions, so that a late grant is never taken for another's.
    Slot(u64),
    /// The primary: a read.
    Read(RequestId),
    /// The primary: the end of a join.
    Join(SessionId),
}

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// Take these, in this order, all or wait.
    Acquire { owner: LockOwner, locks: Vec<(Resource, Mode)> },
    /// Let go of everything, held or waited for.
    Release { owner: LockOwner },
}

/// The machine.
#[derive(Debug)]
pub struct LockTable {}

impl LockTable {
    /// A machine that has heard nothing yet; its first `tick` begins.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        let _ = status;
    }
}

impl Machine for LockTable {
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
