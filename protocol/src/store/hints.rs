//! What a replica need not look up again. Hints only: with none of them the store says the same, and is slower.
//!
//! Not here: anything that two replicas could differ in.

use super::keys;
use crate::ids::Timestamp;
use crate::operation::ChannelName;
use std::collections::BTreeSet;

/// So many channels are remembered; one more, and it begins anew.
const CHANNELS_MAX: usize = 10_000;

/// What is remembered of one store, from its opening on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Up to where idempotency keys were dropped: the next search begins here, so that it need not step over what an engine keeps of
    /// the dropped ones.
    pub(super) expired_to: Vec<u8>,
    /// Channels that there are. None is ever deleted.
    channels: BTreeSet<ChannelName>,
}

impl Hints {
    /// Keys of this age are written. When they are older than what was dropped last, search from there again.
    pub(super) fn saw_keys(&mut self, at: Timestamp) {
        let from = keys::age_from(at);
        if from < self.expired_to {
            self.expired_to = from;
        }
    }

    /// This channel is there, or is among what the entry at work writes.
    pub(super) fn saw_channel(&mut self, name: &ChannelName) {
        if self.channels.len() >= CHANNELS_MAX {
            self.channels.clear();
        }
        self.channels.insert(name.clone());
    }

    /// Whether this channel is there for sure.
    pub(super) fn has_channel(&self, name: &ChannelName) -> bool {
        self.channels.contains(name)
    }
}
