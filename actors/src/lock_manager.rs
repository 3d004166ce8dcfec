//! Who may touch what, while a batch is in doubt.
//!
//! The machines decide (`lockstep_protocol`); `shell.rs` steps them.

use crate::shell::hosted;
use lockstep_protocol::lock::LockTable;

hosted! {
    /// The machines of the actor.
    LockManager as LockManager {
        locks: LockTable, hears Locks;
    }
}
