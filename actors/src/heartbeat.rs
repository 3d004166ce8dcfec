//! Who is alive. Its arbiter does no bulk work, so that a beat is never late for our own sake.
//!
//! The machines decide (`lockstep_protocol`); `shell.rs` steps them.

use crate::shell::hosted;
use lockstep_protocol::heartbeat::Heartbeats;

hosted! {
    /// The machines of the actor.
    HeartbeatActor as Heartbeat {
        heartbeat: Heartbeats, hears Heartbeat;
    }
}
