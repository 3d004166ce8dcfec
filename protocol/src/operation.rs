//! What clients wish and what they are told: actions, queries, outcomes and errors, as types that were checked.
//!
//! Not here: what an action does to the store (`store.rs`), and how any of it looks in HTTP.

use crate::ids::{Index, NodeId, Timestamp, ViewNumber};
use crate::operator::OperatorAnswer;
use crate::page::Messages;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// The longest channel name. Bytes.
pub const CHANNEL_BYTES_MAX: usize = 80;
/// The longest user name. Bytes.
pub const USER_BYTES_MAX: usize = 80;
/// The longest text. Unicode scalar values.
pub const TEXT_CHARS_MAX: usize = 40_000;
/// The longest idempotency key. Bytes.
pub const KEY_BYTES_MAX: usize = 255;
/// The longest page. Messages, or channels.
pub const PAGE_MAX: u32 = 1_000;

/// A page ends once its messages are so long, or the names of those who starred them; one message it always has. Bytes.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// Why text from outside is no name, text or key: which field, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field as the caller knows it.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl Invalid {
    /// Names a field and what it should be.
    #[must_use]
    pub fn new(field: &str, reason: impl Into<String>) -> Self {
        Self { field: field.to_owned(), reason: reason.into() }
    }
}

/// Checked text on the wire: written as it is, checked as it is read, and copied once.
macro_rules! text_on_the_wire {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Checked(Self::new))
            }
        }
    };
}

/// Reads text, and lets through what the check does.
struct Checked<T>(fn(&str) -> Result<T, Invalid>);

impl<T> Visitor<'_> for Checked<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        text_on_the_wire!($name);
    };
}

name! {
    /// A channel's name: `[a-z0-9_-]{1,80}`, first character a letter or digit.
    ChannelName
}
name! {
    /// Who posts and stars: 1 to 80 bytes of visible ASCII.
    UserName
}
name! {
    /// What a client names one write with, so that repeating it has no second effect: 1 to 255 bytes of visible ASCII.
    IdempotencyKey
}

fn is_visible_ascii(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

impl ChannelName {
    /// # Errors
    /// When the text is no channel name.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let fits = (1..=CHANNEL_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| allowed(b) || b == b'_' || b == b'-')
            && text.bytes().next().is_some_and(allowed);
        let reason = "a channel's name is 1 to 80 of a-z, 0-9, _ and -, and begins with a letter or digit";
        fits.then(|| Self(text.into())).ok_or_else(|| Invalid::new("channel", reason))
    }
}

impl UserName {
    /// # Errors
    /// When the text is no user name.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        Self::check(text).map(|()| Self(text.into()))
    }

    pub(crate) fn check(text: &str) -> Result<(), Invalid> {
        let reason = "a user's name is 1 to 80 visible ASCII characters without spaces";
        is_visible_ascii(text, USER_BYTES_MAX).then_some(()).ok_or_else(|| Invalid::new("user", reason))
    }
}

impl IdempotencyKey {
    /// # Errors
    /// When the text is no idempotency key.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let reason = "an idempotency key is 1 to 255 visible ASCII characters without spaces";
        let field = "Idempotency-Key";
        is_visible_ascii(text, KEY_BYTES_MAX).then(|| Self(text.into())).ok_or_else(|| Invalid::new(field, reason))
    }
}

/// A message's text: 1 to 40,000 Unicode scalar values, kept to the byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Arc<str>);

text_on_the_wire!(Text);

impl Text {
    /// # Errors
    /// When the text is empty or too long.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        Self::check(text).map(|()| Self(text.into()))
    }

    pub(crate) fn check(text: &str) -> Result<(), Invalid> {
        // No text has more characters than bytes, and most are far from the limit.
        let chars =
            if text.len() <= TEXT_CHARS_MAX { text.len() } else { text.chars().take(TEXT_CHARS_MAX + 1).count() };
        match chars {
            0 => Err(Invalid::new("text", "must not be empty: 1 to 40000 characters")),
            1..=TEXT_CHARS_MAX => Ok(()),
            _ => Err(Invalid::new("text", "is too long: at most 40000 characters")),
        }
    }

    /// The text, as it was posted.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An idempotency key belongs to its caller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyOwner {
    /// Who sent it.
    pub user: UserName,
    /// The key.
    pub key: IdempotencyKey,
}

impl KeyOwner {
    /// # Errors
    /// When either text is not what it should be.
    pub fn new(user: &str, key: &str) -> Result<Self, Invalid> {
        Ok(Self { user: UserName::new(user)?, key: IdempotencyKey::new(key)? })
    }
}

/// What a client wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Post a message.
    Post {
        /// Where to.
        channel: ChannelName,
        /// What.
        text: Text,
        /// Whether an unknown channel is created (`channels.create_on_post` of the gateway).
        create_channel: bool,
    },
    /// Star a message, by the caller. Again is no error.
    Star {
        /// Which message.
        id: Timestamp,
    },
    /// Take the caller's star back. Again is no error.
    Unstar {
        /// Which message.
        id: Timestamp,
    },
    /// Create a channel. Again is no error.
    CreateChannel {
        /// Its name.
        channel: ChannelName,
    },
}

impl Action {
    /// Whether both ask for the same. Gateways may differ in whether posting creates a channel; their clients do not.
    #[must_use]
    pub fn is_same_request(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Post { channel, text, .. }, Self::Post { channel: other_channel, text: other_text, .. }) => {
                channel == other_channel && text == other_text
            }
            (Self::Post { .. } | Self::Star { .. } | Self::Unstar { .. } | Self::CreateChannel { .. }, _) => {
                self == other
            }
        }
    }
}

/// One write, as a gateway hands it to the primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Who, and under which key.
    pub owner: KeyOwner,
    /// What.
    pub action: Action,
}

/// One write, as it stands in the log: validated, with its instant and its channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedOperation {
    /// The write.
    pub operation: Operation,
    /// The channel that it touches.
    pub channel: ChannelName,
    /// Its instant; of a post, the message's id.
    pub at: Timestamp,
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id and instant.
    pub id: Timestamp,
    /// Where it was posted.
    pub channel: ChannelName,
    /// Who posted it.
    pub user: UserName,
    /// What was posted.
    pub text: Text,
    /// Who starred it, by name.
    pub starred_by: Vec<UserName>,
}

/// A stored channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name.
    pub name: ChannelName,
    /// When it was created.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: UserName,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The message, as it is after a post, a star or an unstar.
    Message(Message),
    /// The channel, and whether this write created it.
    Channel {
        /// The channel.
        channel: Channel,
        /// False when it was there.
        created: bool,
    },
    /// no effect, for ever.
    Aborted,
}

/// Which part of a list, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// At most so many: 1 to [`PAGE_MAX`].
    pub limit: u32,
    /// Only what is older than this message.
    pub before: Option<Timestamp>,
    /// Only what is newer than this message.
    pub after: Option<Timestamp>,
    /// Oldest first, instead of newest first.
    pub ascending: bool,
}

/// What a client wants to know. Linearizable (section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// The messages of a channel.
    History {
        /// Which.
        channel: ChannelName,
        /// Which part.
        page: Page,
    },
    /// The starred messages of a channel.
    Stars {
        /// Which.
        channel: ChannelName,
        /// Only those that this user starred.
        user: Option<UserName>,
        /// Which part.
        page: Page,
    },
    /// One message.
    Message {
        /// Which.
        id: Timestamp,
    },
    /// The channels, by name.
    Channels {
        /// At most so many: 1 to [`PAGE_MAX`].
        limit: u32,
        /// Only names after this one.
        after: Option<ChannelName>,
    },
    /// One channel.
    Channel {
        /// Which.
        channel: ChannelName,
    },
}

impl Query {
    /// Whether many things may be found: some bytes more than twice [`PAGE_BYTES_MAX`].
    #[must_use]
    pub fn is_page(&self) -> bool {
        match self {
            Self::History { .. } | Self::Stars { .. } | Self::Channels { .. } => true,
            Self::Message { .. } | Self::Channel { .. } => false,
        }
    }
}

/// What a query found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// Messages in the order asked for, and whether there are more beyond the last.
    Messages {
        /// The page.
        messages: Messages,
        /// Whether a next page has any.
        has_more: bool,
    },
    /// Channels by name, and whether there are more beyond the last.
    Channels {
        /// The page.
        channels: Vec<Channel>,
        /// Whether a next page has any.
        has_more: bool,
    },
    /// One message.
    Message(Message),
    /// One channel.
    Channel(Channel),
}

/// Why an operation or a query was not carried out. Each variant tells the caller what it may do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum OperationError {
    /// Another node leads. Ask it; without a name there is an election, so ask again soon.
    #[error("not the primary of view {view}")]
    NotPrimary {
        /// The last view that the answering node knows.
        view: ViewNumber,
        /// Who leads, as far as it knows.
        primary: Option<NodeId>,
    },
    /// The view has fewer replicas than `replication.min_replicas`. It never took effect.
    #[error("the view has {replicas} replicas, and writes need {needed}")]
    TooFewReplicas {
        /// How many there are.
        replicas: u32,
        /// How many writes need.
        needed: u32,
    },
    /// Too much waits already. It never took effect.
    #[error("overloaded: too many requests wait")]
    Overloaded,
    /// It never took effect and never will (S4). A new try takes a new key.
    #[error("aborted: it never took effect and never will")]
    Aborted,
    /// It may have taken effect. Ask again with the same idempotency key to learn which.
    #[error("outcome unknown: the primary was lost while committing")]
    OutcomeUnknown,
    /// The key stands for another request already.
    #[error("this idempotency key was used for a different request")]
    KeyReused,
    /// No such channel.
    #[error("there is no channel {channel}")]
    ChannelNotFound {
        /// The name asked for.
        channel: ChannelName,
    },
    /// No such message.
    #[error("there is no message {id}")]
    MessageNotFound {
        /// The id asked for.
        id: Timestamp,
    },
}

impl OperationError {
    /// Whether the same request, with the same key, may be sent again at once.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotPrimary { .. } | Self::TooFewReplicas { .. } | Self::Overloaded | Self::OutcomeUnknown => true,
            Self::Aborted | Self::KeyReused | Self::ChannelNotFound { .. } | Self::MessageNotFound { .. } => false,
        }
    }
}

/// Where an answer stands: what a client gets as its receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The view that answered.
    pub view: ViewNumber,
    /// Of a write, the entry that holds it, or an entry applied after it; of a read, the last applied entry that it shows.
    pub index: Index,
    /// Of a write, on how many replicas it was durable when it was answered; 0 for a read.
    pub copies: u32,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The write is done, on every replica of the view.
    Written(Outcome, Receipt),
    /// What the query found.
    Read(Found, Receipt),
    /// It was not carried out, or that is not known.
    Failed(OperationError),
    /// Of an operator's call.
    Operator(OperatorAnswer),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, U64Deserializer};

    fn channel() -> ChannelName {
        ChannelName::new("general").expect("a name")
    }

    #[test]
    fn api_a_text_is_measured_in_characters() {
        let fits = |character: &str, count: usize| Text::new(&character.repeat(count)).is_ok();
        for character in ["x", "\u{e9}", "\u{1f600}"] {
            assert!(fits(character, 1) && fits(character, TEXT_CHARS_MAX), "{character}");
            assert!(!fits(character, 0) && !fits(character, TEXT_CHARS_MAX + 1), "{character}");
        }
        let told = |count| Text::new(&"x".repeat(count)).expect_err("refused").reason;
        assert_ne!(told(0), told(TEXT_CHARS_MAX + 1), "one says what is too short, the other what is too long");
    }

    #[test]
    fn api_a_query_for_many_things_is_a_page_and_one_for_one_thing_is_none() {
        let page = Page { limit: 1, before: None, after: None, ascending: false };
        let queries = [
            (Query::History { channel: channel(), page }, true),
            (Query::Stars { channel: channel(), user: None, page }, true),
            (Query::Channels { limit: 1, after: None }, true),
            (Query::Message { id: Timestamp(1) }, false),
            (Query::Channel { channel: channel() }, false),
        ];
        for (query, is_page) in queries {
            assert_eq!(query.is_page(), is_page, "{query:?}");
        }
    }

    #[test]
    fn section_10_only_what_may_come_to_another_end_is_tried_again_with_the_same_key() {
        let errors = [
            (OperationError::NotPrimary { view: ViewNumber(1), primary: None }, true),
            (OperationError::TooFewReplicas { replicas: 1, needed: 2 }, true),
            (OperationError::Overloaded, true),
            (OperationError::OutcomeUnknown, true),
            (OperationError::Aborted, false),
            (OperationError::KeyReused, false),
            (OperationError::ChannelNotFound { channel: channel() }, false),
            (OperationError::MessageNotFound { id: Timestamp(1) }, false),
        ];
        for (error, again) in errors {
            assert_eq!(error.is_retryable(), again, "{error}");
        }
    }

    #[test]
    fn section_11_what_is_no_text_is_refused_with_a_word_on_what_it_should_be() {
        let number = || -> U64Deserializer<Error> { 7_u64.into_deserializer() };
        let refusals = [
            ChannelName::deserialize(number()).err(),
            UserName::deserialize(number()).err(),
            IdempotencyKey::deserialize(number()).err(),
            Text::deserialize(number()).err(),
        ];
        for refusal in refusals {
            let told = refusal.expect("refused").to_string();
            assert!(told.ends_with("expected text"), "{told}");
        }
    }

    #[test]
    fn r2_a_request_is_the_same_when_its_client_asked_for_the_same() {
        let post = |text: &str, create_channel| {
            let text = Text::new(text).expect("a text");
            Action::Post { channel: channel(), text, create_channel }
        };
        let (star, unstar) = (|id| Action::Star { id: Timestamp(id) }, Action::Unstar { id: Timestamp(1) });
        let create = Action::CreateChannel { channel: channel() };
        assert!(post("hi", true).is_same_request(&post("hi", false)), "gateways differ in that, not clients");
        let others = [post("hi", true), post("ho", true), star(1), star(2), unstar, create];
        for (n, one) in others.iter().enumerate() {
            for (m, other) in others.iter().enumerate() {
                assert_eq!(one.is_same_request(other), n == m, "{one:?} {other:?}");
            }
        }
    }
}
