//! What this node has promised, the primary's side of two-phase commit, and reads that wait.
//!
//! The machines decide (`lockstep_protocol`); `shell.rs` steps them.

use crate::shell::hosted;
use lockstep_protocol::coordinator::Coordinator;
use lockstep_protocol::read::Reads;
use lockstep_protocol::replica::Replica;

hosted! {
    /// The machines of the actor.
    TransactionCoordinator as TransactionCoordinator {
        replica: Replica, hears Replica;
        coordinator: Coordinator, hears Coordinator;
        reads: Reads, hears Reads;
    }
}
