//! A page of messages as one piece of bytes: put together where they are stored, carried as it is, and read where it becomes JSON.
//!
//! A hundred messages would else be some hundreds of small allocations at each of three places, freed by other threads than made them.
//!
//! Messages lie packed alike in the store (`store/messages.rs`).
//!
//! Not here: which messages are on a page (`store/query.rs`).

use crate::ids::Timestamp;
use crate::operation::{ChannelName, Message, Text, UserName};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use simdutf8::basic::from_utf8;
use std::collections::BTreeMap;
use std::fmt;

/// Messages of one channel, in the order asked for.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Messages {
    channel: ChannelName,
    /// One after the other: id, author, text.
    packed: Packed,
    /// Of those that are starred: who starred them.
    stars: BTreeMap<Timestamp, Vec<UserName>>,
    #[serde(skip)]
    count: usize,
    #[serde(skip)]
    last: Option<Timestamp>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRef<'a> {
    /// Its id and instant.
    pub id: Timestamp,
    /// Where it was posted.
    pub channel: &'a ChannelName,
    /// Who posted it.
    pub user: &'a str,
    /// What was posted.
    pub text: &'a str,
    /// Who starred it, by name.
    pub starred_by: &'a [UserName],
}

impl Messages {
    /// An empty page.
    #[must_use]
    pub fn new(channel: ChannelName) -> Self {
        Self { channel, packed: Packed::default(), stars: BTreeMap::new(), count: 0, last: None }
    }

    /// These, which are all of that channel.
    #[must_use]
    pub fn of(channel: ChannelName, messages: &[Message]) -> Self {
        let records = messages.iter().map(|message| (message.id, message.user.as_str(), message.text.as_str()));
        let (packed, last) = (Packed(pack(records)), messages.last().map(|message| message.id));
        let mut page = Self { packed, count: messages.len(), last, ..Self::new(channel) };
        for message in messages {
            page.star(message.id, message.starred_by.clone());
        }
        page
    }

    /// One more, which lies packed like this.
    pub(crate) fn push(&mut self, id: Timestamp, packed: &[u8]) {
        self.packed.0.extend_from_slice(packed);
        self.count += 1;
        self.last = Some(id);
    }

    /// This one of them goes, with all that follow.
    pub(crate) fn cut_at(&mut self, id: Timestamp) {
        let (mut count, mut last, mut rest) = (0, None, self.packed.0.as_slice());
        while let Some(((found, ..), others)) = unpack(rest).filter(|((found, ..), _)| *found != id) {
            (count, last, rest) = (count + 1, Some(found), others);
        }
        let end = self.packed.0.len() - rest.len();
        self.packed.0.truncate(end);
        (self.count, self.last) = (count, last);
    }

    /// Who starred this one of them, by name.
    pub(crate) fn star(&mut self, id: Timestamp, users: Vec<UserName>) {
        if !users.is_empty() {
            self.stars.insert(id, users);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// How long they are as they lie, without who starred them. Bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.packed.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The id of the last one.
    #[must_use]
    pub fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = MessageRef<'_>> {
        let mut rest = self.packed.0.as_slice();
        std::iter::from_fn(move || {
            let (id, user, text);
            ((id, user, text), rest) = unpack(rest)?;
            let starred_by = self.stars.get(&id).map_or(&[][..], Vec::as_slice);
            Some(MessageRef { id, channel: &self.channel, user, text, starred_by })
        })
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Id, author, text.
pub(crate) type Record<'a> = (Timestamp, &'a str, &'a str);

/// What a message takes beside its words, as a rule. Bytes.
const RECORD_BYTES: usize = 16;

/// Packs messages, one after the other.
pub(crate) fn pack<'a>(records: impl Iterator<Item = Record<'a>> + Clone) -> Vec<u8> {
    let bytes = records.clone().map(|(_, user, text)| RECORD_BYTES + user.len() + text.len()).sum();
    records.fold(Vec::with_capacity(bytes), |packed, record| {
        postcard::to_extend(&record, packed).unwrap_or_default() // Memory takes all.
    })
}

/// The first of packed messages, and the rest; none when there is none, or it is malformed.
fn unpack(packed: &[u8]) -> Option<(Record<'_>, &[u8])> {
    // As bytes, since a whole vector of them is checked at a time then.
    let ((id, user, text), rest) = postcard::take_from_bytes::<(Timestamp, &[u8], &[u8])>(packed).ok()?;
    Some(((id, from_utf8(user).ok()?, from_utf8(text).ok()?), rest))
}

/// The same, of bytes that come from network or disk.
///
/// # Errors
/// When there is none, or it is malformed.
pub(crate) fn unpack_checked(packed: &[u8]) -> Result<(Record<'_>, &[u8]), String> {
    let (record, rest) = unpack(packed).ok_or("a malformed message")?;
    UserName::check(record.1).and_then(|()| Text::check(record.2)).map_err(|invalid| invalid.to_string())?;
    Ok((record, rest))
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Sent = (ChannelName, Packed, BTreeMap<Timestamp, Vec<UserName>>);
        let (channel, packed, stars) = Sent::deserialize(deserializer)?;
        let (mut count, mut last, mut rest) = (0, None, packed.0.as_slice());
        while !rest.is_empty() {
            let ((id, ..), others) = unpack_checked(rest).map_err(D::Error::custom)?;
            (count, last, rest) = (count + 1, Some(id), others);
        }
        Ok(Self { channel, packed, stars, count, last })
    }
}

/// Bytes that serde moves as such, and not one by one.
#[derive(Clone, Default, PartialEq, Eq)]
struct Packed(Vec<u8>);

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Bytes)
    }
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Packed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Packed, E> {
        Ok(Packed(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64, user: &str, text: &str, starred_by: &[&str]) -> Message {
        let name = |name: &&str| UserName::new(name).expect("a name");
        Message {
            id: Timestamp(id),
            channel: channel(),
            user: name(&user),
            text: Text::new(text).expect("a text"),
            starred_by: starred_by.iter().map(name).collect(),
        }
    }

    fn channel() -> ChannelName {
        ChannelName::new("general").expect("a name")
    }

    #[test]
    fn a_page_is_what_was_put_on_it_here_and_at_the_other_end() {
        let posted = [message(7, "ada", "hello", &[]), message(5, "bob", "\u{1f600} \"quoted\"\n", &["ada", "bob"])];
        let page = Messages::of(channel(), &posted);
        let bytes = postcard::to_stdvec(&page).expect("encodes");
        let arrived: Messages = postcard::from_bytes(&bytes).expect("decodes");
        assert_eq!(arrived, page);
        assert_eq!((arrived.len(), arrived.last(), arrived.is_empty()), (2, Some(Timestamp(5)), false));
        for (read, posted) in arrived.iter().zip(&posted) {
            assert_eq!((read.id, read.channel, read.user), (posted.id, &posted.channel, posted.user.as_str()));
            assert_eq!((read.text, read.starred_by), (posted.text.as_str(), posted.starred_by.as_slice()));
        }
        assert_eq!(arrived.iter().count(), 2);
        let empty = Messages::new(channel());
        let arrived: Messages = postcard::from_bytes(&postcard::to_stdvec(&empty).expect("encodes")).expect("decodes");
        assert_eq!((arrived.len(), arrived.last(), arrived.is_empty()), (0, None, true));
    }

    #[test]
    fn a_page_is_cut_at_one_of_its_messages() {
        let posted = [7, 5, 3].map(|id| message(id, "ada", "hello", &[]));
        for (at, left) in [(7, 0), (5, 1), (3, 2), (1, 3)] {
            let mut page = Messages::of(channel(), &posted);
            page.cut_at(Timestamp(at));
            assert_eq!(page, Messages::of(channel(), &posted[..left]));
        }
    }

    #[test]
    fn what_is_no_page_is_refused_as_it_arrives() {
        let sent = |packed: &[u8]| postcard::to_stdvec(&(channel(), Packed(packed.to_vec()), Vec::<u8>::new()));
        let refused = |packed: &[u8]| postcard::from_bytes::<Messages>(&sent(packed).expect("encodes")).is_err();
        let one = |user: &str, text: &str| postcard::to_stdvec(&(Timestamp(1), user, text)).expect("encodes");
        assert!(!refused(&one("ada", "hello")));
        assert!(refused(&one("a b", "hello")), "no user's name");
        assert!(refused(&one("ada", "")), "no text");
        assert!(refused(&one("ada", "hello")[..6]), "cut short");
        assert!(refused(&[one("ada", "hello"), vec![1, 3]].concat()), "and half a message more");
        assert!(refused(&[1, 1, 0xff, 1, b'x']), "no text at all");
    }

    #[test]
    fn what_is_no_piece_of_bytes_is_refused_with_a_word_on_what_it_should_be() {
        use serde::de::{IntoDeserializer, value};
        let number: value::U64Deserializer<value::Error> = 7_u64.into_deserializer();
        let told = Packed::deserialize(number).err().expect("refused").to_string();
        assert!(told.ends_with("expected bytes"), "{told}");
    }

    #[test]
    fn a_page_takes_the_longest_name_beside_the_shortest_text() {
        let long = "x".repeat(crate::operation::USER_BYTES_MAX);
        let page = Messages::of(channel(), &[message(7, &long, "h", &[])]);
        let arrived: Messages = postcard::from_bytes(&postcard::to_stdvec(&page).expect("encodes")).expect("decodes");
        assert_eq!(arrived.iter().map(|read| (read.user, read.text)).collect::<Vec<_>>(), [(long.as_str(), "h")]);
    }
}
