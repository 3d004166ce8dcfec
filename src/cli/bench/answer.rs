//! What is read out of the bodies of answers, and what an answer must show: as much as the reader could know when it asked.

use super::ledger::{Known, Ledger, Place};
use super::text::{PostName, Texts, Wrong};
use super::violation::Violation;
use lockstep_protocol::ids::Timestamp;
use serde::Deserialize;
use std::borrow::Cow;

/// How many messages a history is asked for while the load is on.
pub const HISTORY_LIMIT: usize = 100;

/// A message, as it lies in the answer.
#[derive(Debug, Deserialize)]
pub struct MessageJson<'a> {
    id: &'a str,
    channel: &'a str,
    #[serde(borrow)]
    text: Cow<'a, str>,
    /// Who starred it.
    #[serde(borrow)]
    pub starred_by: Vec<Cow<'a, str>>,
}

/// `{message}`.
#[derive(Debug, Deserialize)]
struct OneJson<'a> {
    #[serde(borrow)]
    message: MessageJson<'a>,
}

/// A page of a history.
#[derive(Debug, Deserialize)]
pub struct PageJson<'a> {
    /// In the order asked for.
    #[serde(borrow)]
    pub messages: Vec<MessageJson<'a>>,
    /// The cursor of the next page.
    pub next: Option<&'a str>,
    /// Whether there is one.
    pub has_more: bool,
}

#[derive(Deserialize)]
struct ProblemJson<'a> {
    code: &'a str,
}

/// Reads a page.
pub fn page(body: &[u8]) -> Result<PageJson<'_>, Violation> {
    serde_json::from_slice(body).map_err(unreadable)
}

fn one(body: &[u8]) -> Result<MessageJson<'_>, Violation> {
    serde_json::from_slice::<OneJson<'_>>(body).map(|one| one.message).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Violation {
    Violation::Unreadable(error.to_string())
}

/// An error's stable code; empty when it has none.
pub fn code(body: &[u8]) -> &str {
    serde_json::from_slice(body).map(|problem: ProblemJson<'_>| problem.code).unwrap_or_default()
}

/// What a run's messages are compared with.
pub struct Expected {
    /// The texts.
    pub texts: Texts,
    /// The channels' names, in order.
    pub channels: Vec<String>,
    /// What the users' names begin with.
    pub user: String,
}

impl Expected {
    /// A client's own user name.
    pub fn user_of(&self, writer: u32) -> String {
        format!("{}-{writer}", self.user)
    }

    /// The writer with this user name.
    pub fn writer_of(&self, user: &str) -> Option<u32> {
        let number = user.strip_prefix(self.user.as_str())?.strip_prefix('-')?;
        number.parse().ok().filter(|writer| self.user_of(*writer) == user)
    }

    /// Which post a message is, and its id: its text must be that post's, and its channel that text's.
    pub fn post(&self, ledger: &Ledger, message: &MessageJson<'_>) -> Result<Place, Violation> {
        let id = Timestamp::parse(message.id).map_err(Violation::Unreadable)?;
        let post = self.texts.read(&message.text).map_err(|wrong| match wrong {
            Wrong::Strange => Violation::Strange { id },
            Wrong::Changed(post) => Violation::Changed { id, post },
        })?;
        if message.channel == self.channels[ledger.channel_of(post)] {
            Ok(Place { post, id })
        } else {
            Err(Violation::OtherChannel { id, channel: message.channel.to_owned() })
        }
    }

    /// The answer to a post: the message, with the id that it got.
    pub fn posted(&self, ledger: &Ledger, post: PostName, body: &[u8]) -> Result<Timestamp, Violation> {
        let shown = self.post(ledger, &one(body)?)?;
        if shown.post == post { Ok(shown.id) } else { Err(Violation::Changed { id: shown.id, post }) }
    }

    /// The answer to a read of one message.
    pub fn message(&self, ledger: &Ledger, asked: Place, body: &[u8]) -> Result<(), Violation> {
        self.same(ledger, asked, &one(body)?)
    }

    /// The answer to a star that was given or taken back.
    pub fn starred(&self, ledger: &Ledger, asked: Place, user: u32, star: bool, body: &[u8]) -> Result<(), Violation> {
        let message = one(body)?;
        self.same(ledger, asked, &message)?;
        let (name, id) = (self.user_of(user), asked.id);
        match (star, message.starred_by.iter().any(|by| *by == name)) {
            (true, false) => Err(Violation::StarLost { writer: user, id }),
            (false, true) => Err(Violation::StarStrange { id, user: name }),
            (true, true) | (false, false) => Ok(()),
        }
    }

    fn same(&self, ledger: &Ledger, asked: Place, message: &MessageJson<'_>) -> Result<(), Violation> {
        let shown = self.post(ledger, message)?;
        if shown.id != asked.id {
            return Err(Violation::OtherMessage { asked: asked.id, id: shown.id });
        }
        ledger.agrees(shown.post, shown.id)
    }

    /// The newest messages of a channel of which so much was known when it was asked: newest first, none of another channel,
    /// and all that was known.
    pub fn history(&self, ledger: &Ledger, channel: usize, known: Known, body: &[u8]) -> Result<(), Violation> {
        let messages = page(body)?.messages;
        let mut places = Vec::with_capacity(messages.len());
        for message in &messages {
            let place = self.in_channel(ledger, channel, message)?;
            ledger.agrees(place.post, place.id)?;
            places.push(place.id);
        }
        if let Some(pair) = places.windows(2).find(|pair| pair[0] <= pair[1]) {
            return Err(Violation::NotInOrder { id: pair[1], before: pair[0] });
        }
        if places.len() > HISTORY_LIMIT {
            return Err(Violation::TooLong { shown: places.len(), limit: HISTORY_LIMIT });
        }
        let newest = places.first().copied().unwrap_or_default();
        let expected = known.messages.min(HISTORY_LIMIT as u64);
        if (places.len() as u64) < expected || newest < known.newest {
            return Err(Violation::Stale { shown: places.len(), newest, expected, known: known.newest });
        }
        Ok(())
    }

    /// The same as [`Expected::post`], of a history of this channel.
    pub fn in_channel(&self, ledger: &Ledger, channel: usize, message: &MessageJson<'_>) -> Result<Place, Violation> {
        let place = self.post(ledger, message)?;
        let is_of_it = ledger.channel_of(place.post) == channel;
        is_of_it
            .then_some(place)
            .ok_or_else(|| Violation::OtherChannel { id: place.id, channel: self.channels[channel].clone() })
    }
}
