//! What a cluster may never do, as its clients see it: each fails a drill, with the calls that show it.

use super::super::history::{Call, Client, Id, Post};
use std::fmt::Write as _;

/// What is broken. Every one has its own name, so that a test can ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// An answer that is none, or is about something else than what was asked.
    WrongAnswer,
    /// A message with a text that nobody posted.
    Strange,
    /// A message in another channel than it was posted to.
    OtherChannel,
    /// A message of another user than who posted it.
    OtherUser,
    /// S3: one post stands under two ids.
    Doubled,
    /// Two posts have one id.
    SharedId,
    /// S4: what was refused is there.
    Resurrected,
    /// A page is not in its order, or shows a message twice, or shows what is beyond its bounds.
    Page,
    /// A page leaves out a message between those that it shows.
    Gap,
    /// S1: what was acknowledged is not there, and no later read shows it.
    Lost,
    /// S2: a read does not show what was there before it began.
    Stale,
    /// S2: a read shows what was only called after it had returned.
    FromTheFuture,
    /// S2: a post has a lower id than one that had returned before it was called.
    Reordered,
    /// S2: no order of all calls explains what each was shown.
    Contradiction,
    /// A star that nobody gave, or not on that message.
    StarStrange,
    /// S1, S2: a star that was given and not taken back is not shown.
    StarLost,
    /// S2: a star that was taken back, or not yet given, is shown.
    StarStale,
    /// A message was starred before it was posted.
    StarBeforePost,
    /// A later answer's receipt names an earlier state, or an earlier view.
    ReceiptFell,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What kind.
    pub broken: Broken,
    /// What happened, in a sentence.
    pub text: String,
    /// The calls that show it, by their place in the record.
    pub calls: Vec<usize>,
}

impl Violation {
    /// One that these calls show.
    pub fn new(broken: Broken, text: impl Into<String>, calls: &[usize]) -> Self {
        let is_first = |(at, call): &(usize, &usize)| !calls[..*at].contains(call);
        let calls = calls.iter().enumerate().filter(is_first).map(|(_, call)| *call).collect();
        Self { broken, text: text.into(), calls }
    }

    /// With the calls, one a line.
    pub fn story(&self, all: &[Call]) -> String {
        let mut told = format!("{:?}: {}", self.broken, self.text);
        for place in &self.calls {
            if let Some(call) = all.get(*place) {
                // Writing to a String cannot fail.
                let _ = write!(told, "\n    {}", describe(*place, call));
            }
        }
        told
    }
}

/// A call in a line.
pub fn describe(place: usize, call: &Call) -> String {
    use super::super::history::{End, Wish};
    let seconds = |us: u64| us as f64 / 1e6;
    let what = match call.wish {
        Wish::Post { channel, post } => format!("posts {} to channel {channel}", post_name(post)),
        Wish::Star { message, on: true } => format!("stars {}", id_text(message)),
        Wish::Star { message, on: false } => format!("takes its star from {}", id_text(message)),
        Wish::History(page) => format!("reads {} messages of channel {}", page.limit, page.channel),
        Wish::Stars { channel, of: None, .. } => format!("reads the starred messages of channel {channel}"),
        Wish::Stars { channel, of: Some(user), .. } => format!("reads those of channel {channel} that {user} starred"),
        Wish::Message { message } => format!("reads {}", id_text(message)),
    };
    let end = match &call.end {
        End::Answered { at, .. } => format!("answered at {:.6} s{}", seconds(at.0), shown_text(call)),
        End::Refused { at } => format!("refused at {:.6} s", seconds(at.0)),
        End::Unknown { at } => format!("given up at {:.6} s", seconds(at.0)),
    };
    format!("#{place} client {} {what}: called at {:.6} s, {end}", call.client, seconds(call.called.0))
}

fn shown_text(call: &Call) -> String {
    let shown = call.shown();
    let one = |message: &super::super::history::Shown| {
        let name = message.post.map_or_else(|| "a strange text".to_owned(), post_name);
        let stars: Vec<_> = message.stars.iter().map(ToString::to_string).collect();
        let stars = if stars.is_empty() { String::new() } else { format!(" starred by {}", stars.join(", ")) };
        format!("{name} as {}{stars}", id_text(message.id))
    };
    match shown {
        [] => ", shown nothing".to_owned(),
        [only] => format!(", shown {}", one(only)),
        [first, .., last] => format!(", shown {} messages from {} to {}", shown.len(), one(first), one(last)),
    }
}

/// As the report calls a post.
pub fn post_name(post: Post) -> String {
    format!("post {post}")
}

/// An id as the API writes it.
pub fn id_text(id: Id) -> String {
    lockstep_protocol::ids::Timestamp(id.0).to_string()
}

/// As the report calls a client's star.
pub fn star_name(message: Id, user: Client) -> String {
    format!("client {user}'s star on {}", id_text(message))
}
