//! What a cluster must never do, as the load generator sees it: each fails the run.

use super::text::PostName;
use lockstep_protocol::ids::Timestamp;
use std::fmt;

impl fmt::Display for PostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "post {} of client {}", self.number, self.writer)
    }
}

/// A broken promise, or an answer that cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// S1.
    #[error("{post} was acknowledged as {id} and is not there")]
    Lost { post: PostName, id: Timestamp },
    /// S3.
    #[error("{post} is there twice, as {first} and as {second}")]
    Doubled { post: PostName, first: Timestamp, second: Timestamp },
    /// S2: the client sent the later one when it had the answer of the earlier one.
    #[error("{post} stands after {later}")]
    Reordered { post: PostName, later: PostName },
    /// A writer's ids must grow.
    #[error("{post} was acknowledged as {id}, after one of the same client as {before}")]
    IdFell { post: PostName, id: Timestamp, before: Timestamp },
    /// A message keeps its id.
    #[error("{post} was acknowledged as {told} and is there as {id}")]
    OtherId { post: PostName, told: Timestamp, id: Timestamp },
    /// S4.
    #[error("{post} was refused and is there as {id}")]
    RefusedIsThere { post: PostName, id: Timestamp },
    /// Nobody has sent it yet.
    #[error("{post} was never sent and is there as {id}")]
    NeverPosted { post: PostName, id: Timestamp },
    /// The text differs from what was posted.
    #[error("message {id} has not the text of {post}, which it begins with")]
    Changed { id: Timestamp, post: PostName },
    /// It is none of this run's, in a channel that only this run knows.
    #[error("message {id} has a text that nobody posted")]
    Strange { id: Timestamp },
    /// Messages of a page are in the order asked for, each once.
    #[error("message {id} stands after {before} in a history")]
    NotInOrder { id: Timestamp, before: Timestamp },
    /// It is of another channel than its text says, or than was asked for.
    #[error("message {id} is shown in channel {channel}")]
    OtherChannel { id: Timestamp, channel: String },
    /// A message keeps who posted it.
    #[error("message {id} of client {writer} is shown as posted by {user}")]
    OtherUser { id: Timestamp, writer: u32, user: String },
    /// S2: a read shows what was acknowledged before it began.
    #[error("a history of {shown} messages up to {newest} was shown when {expected} up to {known} were acknowledged")]
    Stale { shown: usize, newest: Timestamp, expected: u64, known: Timestamp },
    /// A page has the length asked for at most.
    #[error("a history has {shown} messages, of which {limit} were asked for")]
    TooLong { shown: usize, limit: usize },
    /// Another message than was asked for.
    #[error("message {asked} was asked for, and {id} was shown")]
    OtherMessage { asked: Timestamp, id: Timestamp },
    /// S1: what was acknowledged is found.
    #[error("message {id} was acknowledged and is not found ({code})")]
    NotFound { id: Timestamp, code: String },
    /// S1, S2: an acknowledged star is there.
    #[error("client {writer} starred message {id}, and its star is not there")]
    StarLost { writer: u32, id: Timestamp },
    /// A star that nobody gave, or that was taken back.
    #[error("message {id} has a star of {user}, who gave none or took it back")]
    StarStrange { id: Timestamp, user: String },
    /// No JSON of the client API.
    #[error("an answer cannot be read: {0}")]
    Unreadable(String),
}
