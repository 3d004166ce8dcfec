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
    /// Who posted it.
    #[serde(borrow)]
    pub user: Cow<'a, str>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::client_json::{Body, MessagesJson};
    use lockstep_protocol::operation::{ChannelName, Message, Text, UserName};
    use lockstep_protocol::page::Messages;

    const CHANNELS: [&str; 2] = ["bench-a", "bench-b"];

    fn expected() -> Expected {
        let channels = CHANNELS.map(str::to_owned).to_vec();
        Expected { texts: Texts::new("0123456789ab", 64), channels, user: "u".into() }
    }

    /// Client 0's posts, all acknowledged: 0, 2, 4 ... in the first channel, 1, 3, 5 ... in the other; ids from 1 on.
    fn told(count: u64) -> Ledger {
        let mut ledger = Ledger::new(1, 2);
        for id in 1..=count {
            let post = ledger.begin_post(0);
            ledger.acknowledge(post, Timestamp(id)).expect("ids grow");
        }
        ledger
    }

    fn post(number: u32) -> PostName {
        PostName { writer: 0, number }
    }

    fn message(number: u32, id: u64, channel: &str, stars: &[&str]) -> Message {
        let mut text = Vec::new();
        expected().texts.write(post(number), &mut text);
        Message {
            id: Timestamp(id),
            channel: ChannelName::new(channel).expect("a name"),
            user: UserName::new("u-0").expect("a name"),
            text: Text::new(&String::from_utf8_lossy(&text)).expect("a text"),
            starred_by: stars.iter().map(|user| UserName::new(user).expect("a name")).collect(),
        }
    }

    /// As a gateway answers.
    fn one_body(message: &Message) -> Vec<u8> {
        Body::Message { message: message.into() }.json().expect("JSON")
    }

    fn page_body(messages: &[Message]) -> Vec<u8> {
        let channel =
            messages.first().map_or_else(|| message(0, 0, CHANNELS[0], &[]).channel, |first| first.channel.clone());
        let messages = Messages::of(channel, messages);
        let messages = MessagesJson(&messages);
        Body::Messages { messages, next: None, has_more: false }.json().expect("JSON")
    }

    /// The first channel's messages with these ids, as told.
    fn page_of(ids: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let of = |id: u64| message(u32::try_from(id).expect("small") - 1, id, CHANNELS[0], &[]);
        page_body(&ids.into_iter().map(of).collect::<Vec<_>>())
    }

    fn history(ledger: &Ledger, body: &[u8]) -> Result<(), Violation> {
        expected().history(ledger, 0, ledger.known(0), body)
    }

    #[test]
    fn a_post_is_acknowledged_with_its_own_text() {
        let (expected, ledger) = (expected(), told(3));
        let answer = one_body(&message(2, 9, CHANNELS[0], &[]));
        assert_eq!(expected.posted(&ledger, post(2), &answer), Ok(Timestamp(9)));
        let changed = Violation::Changed { id: Timestamp(9), post: post(4) };
        assert_eq!(expected.posted(&ledger, post(4), &answer), Err(changed), "another post's text");
        let elsewhere = one_body(&message(2, 9, CHANNELS[1], &[]));
        assert!(matches!(expected.posted(&ledger, post(2), &elsewhere), Err(Violation::OtherChannel { .. })));
        for unreadable in ["", "{}", "null", r#"{"message": {"id": "x"}}"#, "HTTP/1.1 201 Created"] {
            let read = expected.posted(&ledger, post(2), unreadable.as_bytes());
            assert!(matches!(read, Err(Violation::Unreadable(_))), "{unreadable:?}");
        }
    }

    #[test]
    fn a_history_shows_the_newest_first_and_all_that_was_known() {
        let ledger = told(5);
        assert_eq!(history(&ledger, &page_of([5, 3, 1])), Ok(()));
        let not_in_order = |id, before| Violation::NotInOrder { id: Timestamp(id), before: Timestamp(before) };
        assert_eq!(history(&ledger, &page_of([5, 1, 3])), Err(not_in_order(3, 1)));
        assert_eq!(history(&ledger, &page_of([5, 3, 3, 1])), Err(not_in_order(3, 3)));
        for stale in [&[3, 1][..], &[5, 3], &[]] {
            let read = history(&ledger, &page_of(stale.iter().copied()));
            assert!(matches!(read, Err(Violation::Stale { expected: 3, known: Timestamp(5), .. })), "{stale:?}");
        }
    }

    #[test]
    fn a_history_has_a_hundred_messages_when_there_are_more() {
        let ledger = told(301);
        let newest = |count: u64| page_of((0..count).map(|place| 301 - 2 * place));
        assert_eq!(history(&ledger, &newest(100)), Ok(()));
        assert!(matches!(history(&ledger, &newest(99)), Err(Violation::Stale { shown: 99, expected: 100, .. })));
        assert_eq!(history(&ledger, &newest(101)), Err(Violation::TooLong { shown: 101, limit: 100 }));
        let without_the_newest = page_of((1..=100).map(|place| 301 - 2 * place));
        assert!(matches!(history(&ledger, &without_the_newest), Err(Violation::Stale { shown: 100, .. })));
    }

    #[test]
    fn a_history_of_another_channel_is_refused() {
        let ledger = told(2);
        let other = page_body(&[message(1, 2, CHANNELS[1], &[])]);
        let of_other = Violation::OtherChannel { id: Timestamp(2), channel: CHANNELS[0].to_owned() };
        assert_eq!(history(&ledger, &other), Err(of_other));
        let named_wrong = page_body(&[message(0, 1, CHANNELS[1], &[])]);
        assert!(matches!(history(&ledger, &named_wrong), Err(Violation::OtherChannel { .. })));
    }

    #[test]
    fn a_message_is_the_one_that_was_asked_for() {
        let (expected, ledger) = (expected(), told(5));
        let asked = Place { post: post(2), id: Timestamp(3) };
        let read = |number, id| expected.message(&ledger, asked, &one_body(&message(number, id, CHANNELS[0], &[])));
        assert_eq!(read(2, 3), Ok(()));
        assert_eq!(read(4, 5), Err(Violation::OtherMessage { asked: Timestamp(3), id: Timestamp(5) }));
        assert!(matches!(read(4, 3), Err(Violation::OtherId { .. })), "another post's text under this id");
    }

    #[test]
    fn a_star_is_there_once_it_was_given_and_gone_once_it_was_taken_back() {
        let (expected, ledger) = (expected(), told(1));
        let asked = Place { post: post(0), id: Timestamp(1) };
        let read = |star, by: &[&str]| {
            let body = one_body(&message(0, 1, CHANNELS[0], by));
            expected.starred(&ledger, asked, 7, star, &body)
        };
        assert_eq!((read(true, &["u-0", "u-7"]), read(false, &["u-0"])), (Ok(()), Ok(())));
        assert!(matches!(read(true, &["u-0"]), Err(Violation::StarLost { writer: 7, .. })));
        assert!(matches!(read(false, &["u-7"]), Err(Violation::StarStrange { .. })));
    }

    #[test]
    fn an_errors_code_is_read_where_there_is_one() {
        assert_eq!(code(br#"{"type": "x", "code": "no_primary"}"#), "no_primary");
        assert_eq!((code(b"{}"), code(b"oops"), code(b"")), ("", "", ""));
    }
}
