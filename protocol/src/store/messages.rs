//! Messages as they lie: in runs of what one entry posted to one channel, a few thousand bytes each, the newest first.
//!
//! - A channel under load costs a pair for a dozen messages instead of two for each, and a page of it a read for a dozen. Where a
//!   message is, is a pair an entry.
//! - All of it rests on R-3: instants increase in the order of the log. So no two runs of a channel overlap, and the one that
//!   holds a message is the first at or behind the message's own place.
//! - A run is packed as a page is (`page.rs`): what is shown is copied as it lies.
//!
//! Not here: which messages make a page (`query.rs`), and stars, which lie apart, since a text is long and never changes.

use super::changes::{Changes, damaged, encode};
use super::keys;
use crate::ids::Timestamp;
use crate::operation::{ChannelName, Invalid, Message, Page, Text, UserName};
use crate::page::{self, Record};
use crate::storage::StorageError;
use crate::storage::kv::{Direction, KeyRange, Kv, Table};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A run whose texts are this long is not continued. Bytes; about a block of an engine, which is read as a whole for one message, too.
const RUN_BYTES_MAX: usize = 4096;

/// Of each channel its runs, and of each run how much older than the key's id its messages are, the oldest first. Microseconds.
type Places<'a> = Vec<(&'a str, Vec<Vec<u64>>)>;

/// Where a message is.
pub(super) struct Place {
    pub(super) channel: ChannelName,
    /// The oldest message of its run.
    oldest: Timestamp,
}

/// What one entry posts, in order.
pub(super) struct NewMessages<'e> {
    /// The highest instant of all entries before, and of this one's operations so far.
    last: Timestamp,
    channels: BTreeMap<&'e ChannelName, Vec<Record<'e>>>,
}

impl<'e> NewMessages<'e> {
    /// None yet, after entries with instants up to this one.
    pub(super) fn after(last: Timestamp) -> Self {
        Self { last, channels: BTreeMap::new() }
    }

    /// Whether an operation's instant follows all earlier ones, as R-3 has it. Asked of each operation, in order.
    pub(super) fn follows(&mut self, at: Timestamp) -> bool {
        let follows = at > self.last;
        self.last = self.last.max(at);
        follows
    }

    /// One more, whose instant follows.
    pub(super) fn add(&mut self, channel: &'e ChannelName, record: Record<'e>) {
        self.channels.entry(channel).or_default().push(record);
    }

    /// Writes them down. Goes last in an entry: its own operations do not find them.
    pub(super) fn finish<K: Kv>(self, changes: &mut Changes<'_, K>) {
        let newest = self.channels.values().filter_map(|posted| posted.last()).map(|(id, ..)| *id).max();
        let Some(newest) = newest else { return };
        let mut places: Places<'_> = Vec::with_capacity(self.channels.len());
        for (channel, posted) in &self.channels {
            let (mut ages, mut rest) = (Vec::new(), posted.as_slice());
            while let [(oldest, ..), ..] = rest {
                let (run, others) = rest.split_at(run_length(rest));
                changes.put(keys::run(channel, *oldest), page::pack(run.iter().rev().copied()));
                ages.push(run.iter().map(|(id, ..)| newest.0 - id.0).collect());
                rest = others;
            }
            places.push((channel.as_str(), ages));
        }
        changes.put(keys::located(newest), encode(&places));
    }
}

/// How many of these make a run.
fn run_length(posted: &[Record<'_>]) -> usize {
    let mut bytes = 0;
    let is_continued = |(.., text): &&Record<'_>| {
        let is_continued = bytes < RUN_BYTES_MAX;
        bytes += text.len();
        is_continued
    };
    posted.iter().take_while(is_continued).count()
}

/// Where a message is.
pub(super) fn locate<K: Kv>(kv: &K, id: Timestamp) -> Result<Option<Place>, StorageError> {
    let mut found = None;
    kv.scan(Table::Store, &keys::located_from(id), Direction::Forward, &mut |key, value| {
        let newest = keys::located_of(key).ok_or_else(|| damaged(key, "ends with no id"))?;
        let age = newest.0.saturating_sub(id.0);
        let place = place_of(age, value).map_err(|error| damaged(key, error.to_string()))?;
        if let Some((name, oldest)) = place {
            let channel = ChannelName::new(name).map_err(|invalid| damaged(key, invalid.to_string()))?;
            found = Some(Place { channel, oldest: Timestamp(newest.0.saturating_sub(oldest)) });
        }
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// The channel, and the age of its run's oldest message: found in encoded [`Places`] as they lie, one number after the other, since an
/// entry has hundreds of messages, and one of them is looked for.
fn place_of(age: u64, places: &[u8]) -> postcard::Result<Option<(&str, u64)>> {
    let mut places = postcard::Deserializer::from_bytes(places);
    for _ in 0..u64::deserialize(&mut places)? {
        let (name, runs) = <(&str, u64)>::deserialize(&mut places)?;
        for _ in 0..runs {
            let (mut oldest, mut is_here) = (None, false);
            for _ in 0..u64::deserialize(&mut places)? {
                let found = u64::deserialize(&mut places)?;
                oldest = oldest.or(Some(found));
                is_here |= found == age;
            }
            if let Some(oldest) = oldest.filter(|_| is_here) {
                return Ok(Some((name, oldest)));
            }
        }
    }
    Ok(None)
}

/// The message at a place, with no stars.
pub(super) fn read_at<K: Kv>(kv: &K, place: &Place, id: Timestamp) -> Result<Message, StorageError> {
    let key = keys::run(&place.channel, place.oldest);
    let run = kv.get(Table::Store, &key)?;
    let found = run.map(|run| message_in(&key, &run, &place.channel, id)).transpose()?.flatten();
    found.ok_or_else(|| damaged(&key, "an index names a message of it, and it is gone"))
}

/// A message that is known to be in this channel, with no stars.
pub(super) fn read<K: Kv>(kv: &K, channel: &ChannelName, id: Timestamp) -> Result<Message, StorageError> {
    let mut found = None;
    kv.scan(Table::Store, &keys::runs(channel, id), Direction::Forward, &mut |key, value| {
        found = message_in(key, value, channel, id)?;
        Ok(ControlFlow::Break(()))
    })?;
    found.ok_or_else(|| damaged(&keys::run(channel, id), "its message is known, and it is gone"))
}

fn message_in(key: &[u8], run: &[u8], channel: &ChannelName, id: Timestamp) -> Result<Option<Message>, StorageError> {
    for found in records(key, run) {
        let ((at, user, text), _) = found?;
        if at == id {
            let message = || -> Result<_, Invalid> {
                let (channel, starred_by) = (channel.clone(), Vec::new());
                Ok(Message { id, channel, user: UserName::new(user)?, text: Text::new(text)?, starred_by })
            };
            return message().map(Some).map_err(|invalid| damaged(key, invalid.to_string()));
        }
    }
    Ok(None)
}

/// Shows a channel's messages between the page's bounds, in its order, each also as it lies, until the visitor breaks off.
pub(super) fn walk<K: Kv>(
    kv: &K,
    channel: &ChannelName,
    page: &Page,
    visit: &mut dyn FnMut(Timestamp, &[u8]) -> ControlFlow<()>,
) -> Result<(), StorageError> {
    let is_early = |id| page.after.is_some_and(|after| id <= after);
    let is_late = |id| page.before.is_some_and(|before| id >= before);
    kv.scan(Table::Store, &runs_of(kv, channel, page)?, keys::direction(page), &mut |key, value| {
        let mut records = records(key, value).collect::<Result<Vec<_>, _>>()?;
        if page.ascending {
            records.reverse();
        }
        for ((id, ..), packed) in records {
            let (is_before, is_behind) = match page.ascending {
                true => (is_early(id), is_late(id)),
                false => (is_late(id), is_early(id)),
            };
            if is_behind || (!is_before && visit(id, packed).is_break()) {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// The runs in which a page's messages may be; its first and last may reach over its bounds.
fn runs_of<K: Kv>(kv: &K, channel: &ChannelName, page: &Page) -> Result<KeyRange, StorageError> {
    let newest = page.before.map_or(u64::MAX, |before| before.0.saturating_sub(1));
    let mut range = keys::runs(channel, Timestamp(newest));
    if let Some(after) = page.after.filter(|_| page.ascending) {
        kv.scan(Table::Store, &keys::runs(channel, after), Direction::Forward, &mut |key, _| {
            range.to = Some(KeyRange::after(key).from);
            Ok(ControlFlow::Break(()))
        })?;
    }
    Ok(range)
}

/// What a run holds, each also as it lies, the newest first; what follows something malformed is not looked at.
fn records<'v>(key: &[u8], run: &'v [u8]) -> impl Iterator<Item = Result<(Record<'v>, &'v [u8]), StorageError>> {
    let mut rest = run;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let all = std::mem::take(&mut rest);
        let next = page::unpack_checked(all).map_err(|invalid| damaged(key, invalid));
        Some(next.map(|(record, others)| {
            rest = others;
            (record, &all[..all.len() - others.len()])
        }))
    })
}
