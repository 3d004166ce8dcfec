//! What clients ask: pages of messages, stars and channels, each by one walk over the keys that the page needs.
//!
//! The newest hundred of a million messages cost a hundred reads, and stars are found without looking at what is unstarred. A page
//! is bounded in bytes, too: the rest is the next page's.
//!
//! Not here: that what is read is the last committed state (`read.rs`).

use super::changes::{Changes, damaged, decode};
use super::{ChannelRecord, keys, messages};
use crate::ids::Timestamp;
use crate::operation::{
    Channel, ChannelName, Found, Message, OperationError, PAGE_BYTES_MAX, PAGE_MAX, Page, Query, UserName,
};
use crate::page::Messages;
use crate::storage::StorageError;
use crate::storage::kv::{Direction, KeyRange, Kv, Table};
use std::ops::ControlFlow;

type Answer = Result<Found, OperationError>;

/// Answers a query from the store as it is.
pub(crate) fn query<K: Kv>(kv: &K, query: &Query) -> Result<Answer, StorageError> {
    let store = Changes::new(kv);
    match query {
        Query::History { channel, page } => within(&store, channel, || history(&store, channel, page)),
        Query::Stars { channel, user, page } => within(&store, channel, || stars(&store, channel, user.as_ref(), page)),
        Query::Message { id } => Ok(match find(&store, *id)? {
            Some(message) => Ok(Found::Message(message)),
            None => Err(OperationError::MessageNotFound { id: *id }),
        }),
        Query::Channels { limit, after } => channels(kv, *limit, after.as_ref()).map(Ok),
        Query::Channel { channel } => Ok(match channel_named(&store, channel)? {
            Some(found) => Ok(Found::Channel(found)),
            None => Err(OperationError::ChannelNotFound { channel: channel.clone() }),
        }),
    }
}

/// What a query is told when there is nothing at all.
pub(crate) fn nothing(query: &Query) -> Answer {
    match query {
        Query::History { channel, .. } | Query::Stars { channel, .. } | Query::Channel { channel } => {
            Err(OperationError::ChannelNotFound { channel: channel.clone() })
        }
        Query::Message { id } => Err(OperationError::MessageNotFound { id: *id }),
        Query::Channels { .. } => Ok(Found::Channels { channels: Vec::new(), has_more: false }),
    }
}

fn within<K: Kv>(
    store: &Changes<'_, K>,
    channel: &ChannelName,
    read: impl FnOnce() -> Result<Found, StorageError>,
) -> Result<Answer, StorageError> {
    match channel_named(store, channel)? {
        Some(_) => read().map(Ok),
        None => Ok(Err(OperationError::ChannelNotFound { channel: channel.clone() })),
    }
}

pub(super) fn channel_named<K: Kv>(
    store: &Changes<'_, K>,
    name: &ChannelName,
) -> Result<Option<Channel>, StorageError> {
    Ok(store.read::<ChannelRecord>(&keys::channel(name))?.map(|record| record.named(name.clone())))
}

/// A message with its stars.
pub(super) fn find<K: Kv>(store: &Changes<'_, K>, id: Timestamp) -> Result<Option<Message>, StorageError> {
    let Some(place) = messages::locate(store.kv(), id)? else { return Ok(None) };
    with_stars(store, messages::read_at(store.kv(), &place, id)?).map(Some)
}

fn with_stars<K: Kv>(store: &Changes<'_, K>, message: Message) -> Result<Message, StorageError> {
    let starred_by = store.read(&keys::stars(&message.channel, message.id))?.unwrap_or_default();
    Ok(Message { starred_by, ..message })
}

/// What a page may still hold.
struct Room {
    items: usize,
    bytes: usize,
    has_more: bool,
}

impl Room {
    fn of(limit: u32) -> Self {
        Self { items: limit.clamp(1, PAGE_MAX) as usize, bytes: PAGE_BYTES_MAX, has_more: false }
    }

    /// Takes one of so many bytes; breaks when the page is full, and there is more.
    fn take(&mut self, bytes: usize) -> ControlFlow<()> {
        if self.items == 0 || self.bytes == 0 {
            self.has_more = true;
            return ControlFlow::Break(());
        }
        self.items -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        ControlFlow::Continue(())
    }
}

/// One page of a range: the pairs, and whether there are more.
fn page_of<K: Kv, T>(
    kv: &K,
    range: &KeyRange,
    (limit, direction): (u32, Direction),
    mut read: impl FnMut(&[u8], &[u8]) -> Result<T, StorageError>,
) -> Result<(Vec<T>, bool), StorageError> {
    let (mut found, mut room) = (Vec::new(), Room::of(limit));
    kv.scan(Table::Store, range, direction, &mut |key, value| {
        let taken = room.take(value.len());
        if taken.is_continue() {
            found.push(read(key, value)?);
        }
        Ok(taken)
    })?;
    Ok((found, room.has_more))
}

fn id_of(key: &[u8]) -> Result<Timestamp, StorageError> {
    keys::id_of(key).ok_or_else(|| damaged(key, "ends with no id"))
}

fn history<K: Kv>(store: &Changes<'_, K>, channel: &ChannelName, page: &Page) -> Result<Found, StorageError> {
    let (mut shown, mut ids, mut room) = (Messages::new(channel.clone()), Vec::new(), Room::of(page.limit));
    messages::walk(store.kv(), channel, page, &mut |id, packed| {
        room.take(packed.len())?;
        shown.push(id, packed);
        ids.push(id);
        ControlFlow::Continue(())
    })?;
    let mut has_more = room.has_more;
    let (starred, full_at) = stars_of(store.kv(), channel, &ids, keys::direction(page))?;
    if let Some(id) = full_at {
        shown.cut_at(id);
        has_more = true;
    }
    for (id, users) in starred {
        shown.star(id, users);
    }
    Ok(Found::Messages { messages: shown, has_more })
}

/// Who starred which message.
type Starred = Vec<(Timestamp, Vec<UserName>)>;

/// The stars of a page, in its order: one walk over the starred ones among them. And the first whose stars are too much for it; never
/// the page's first.
fn stars_of<K: Kv>(
    kv: &K,
    channel: &ChannelName,
    ids: &[Timestamp],
    direction: Direction,
) -> Result<(Starred, Option<Timestamp>), StorageError> {
    let (mut starred, mut bytes, mut full_at) = (Vec::new(), 0, None);
    let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { return Ok((starred, None)) };
    let range = keys::starred_between(channel, *first, *last);
    kv.scan(Table::Store, &range, direction, &mut |key, value| {
        let id = id_of(key)?;
        bytes += value.len();
        if bytes > PAGE_BYTES_MAX && ids.first() != Some(&id) {
            full_at = Some(id);
            return Ok(ControlFlow::Break(()));
        }
        starred.push((id, decode(key, value)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((starred, full_at))
}

fn stars<K: Kv>(
    store: &Changes<'_, K>,
    channel: &ChannelName,
    user: Option<&UserName>,
    page: &Page,
) -> Result<Found, StorageError> {
    let range = match user {
        Some(user) => keys::user_starred(channel, user, page),
        None => keys::starred(channel, page),
    };
    let (ids, mut has_more) = page_of(store.kv(), &range, (page.limit, keys::direction(page)), |key, _| id_of(key))?;
    let (mut messages, mut bytes) = (Vec::new(), 0);
    for id in ids {
        if bytes >= PAGE_BYTES_MAX {
            has_more = true;
            break;
        }
        let message = with_stars(store, messages::read(store.kv(), channel, id)?)?;
        bytes += message.text.as_str().len() + message.starred_by.iter().map(|user| user.as_str().len()).sum::<usize>();
        messages.push(message);
    }
    Ok(Found::Messages { messages: Messages::of(channel.clone(), &messages), has_more })
}

fn channels<K: Kv>(kv: &K, limit: u32, after: Option<&ChannelName>) -> Result<Found, StorageError> {
    let range = keys::channels(after);
    let (channels, has_more) = page_of(kv, &range, (limit, Direction::Forward), |key, value| {
        let name = keys::channel_of(key).ok_or_else(|| damaged(key, "names no channel"))?;
        Ok(decode::<ChannelRecord>(key, value)?.named(name))
    })?;
    Ok(Found::Channels { channels, has_more })
}
