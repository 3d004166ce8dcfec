//! Who stands, how the next view is decided, and the first one.
//!
//! The machines decide (`lockstep_protocol`); `shell.rs` steps them.

use crate::shell::hosted;
use lockstep_protocol::birth::Birth;
use lockstep_protocol::campaign::Campaign;
use lockstep_protocol::election::Election;

hosted! {
    /// The machines of the actor.
    ElectionActor as Election {
        election: Election, hears Election;
        campaign: Campaign, hears Campaign;
        birth: Birth, hears Birth;
    }
}
