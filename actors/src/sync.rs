//! A new or returning node: its own arbiter, since a snapshot's chunks are large.
//!
//! The machines decide (`lockstep_protocol`); `shell.rs` steps them.

use crate::shell::hosted;
use lockstep_protocol::sync::Sync;

hosted! {
    /// The machines of the actor.
    SyncActor as Sync {
        sync: Sync, hears Sync;
    }
}
