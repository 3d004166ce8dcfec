//! What an operator asks of the cluster, and what is answered: to remove a node for good, to drain one for a while
//! . Never asked on the client port: who asks shows the cluster's secret.
//!
//! Not here: what becomes of it (`coordinator/leaving.rs`).

use crate::ids::Voter;
use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorCall {
    /// R-25, to the primary. Again is no error.
    Remove {
        /// Whom.
        voter: Voter,
    },
    /// R-26, to the node itself. Again is no error.
    Drain {
        /// It is to leave and stay out; else it may come back.
        on: bool,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperatorAnswer {
    /// It is decided, on every replica: it leaves the view as soon as that can be, and never comes back.
    Removed,
    /// It leaves the view as soon as that can be, and stays out.
    Draining,
    /// It comes back.
    DrainEnded,
    /// Nothing was changed.
    Refused(OperatorRefusal),
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum OperatorRefusal {
    /// No view that served ever listed it.
    #[error("{voter} was never a member of this cluster")]
    Unknown {
        /// Whom.
        voter: Voter,
    },
    /// Nobody else holds everything.
    #[error("{voter} holds the last copy")]
    LastCopy {
        /// Whom.
        voter: Voter,
    },
    /// `replication.min_replicas`.
    #[error("without {voter} there would be {left} copies, and replication.min_replicas is {needed}")]
    TooFew {
        /// Whom.
        voter: Voter,
        /// How many copies would be left.
        left: u32,
        /// How many there must be.
        needed: u32,
    },
    /// It holds nothing.
    #[error("{voter} holds no data: stop it whenever you like")]
    HoldsNothing {
        /// Whom.
        voter: Voter,
    },
}
