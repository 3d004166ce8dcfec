//! Where everything lies in the store table: one letter for the kind, names closed by a zero byte (no name has one), and
//! instants as eight bytes, largest first, so that the order of keys is the order of posting; behind a channel all bits are turned over,
//! so that the newest comes first: engines walk forward more cheaply than back.
//!
//! | key | value |
//! | --- | --- |
//! | `a` | how far it is applied: [`super::State`] |
//! | `c` channel | who created the channel, and when |
//! | `i` id | in which channels the messages are that one entry posted; the newest one's id |
//! | `k` digest of user and key | what an idempotency key did |
//! | `n` voter, incarnation | a disk that voted: [`crate::member::Member`] |
//! | `m` channel, id | a run of messages, without stars; the oldest one's id |
//! | `s` channel, id | who starred it; only while somebody does |
//! | `u` channel, user, id | nothing: this user starred it |
//! | `v` view | why and how it came about: [`crate::change::Change`] |
//! | `x` instant, entry | the digests of the keys that the entry gave a meaning, by age, on the keys' clock |
//!
//! An idempotency key of any length is told from all others by 16 bytes of a cryptographic hash: engines keep short keys in place, and
//! tell random ones apart at their first bytes.
//!
//! Not here: what the values hold (`store.rs`).

use crate::ids::{Incarnation, Index, Timestamp, ViewNumber, Voter};
use crate::operation::{ChannelName, KeyOwner, Page, UserName};
use crate::storage::kv::{Direction, KeyRange};

/// The key of [`super::State`].
pub(super) const STATE: &[u8] = b"a";

const ID_BYTES: usize = 8;

const DIGEST_BYTES: usize = 16;

/// What stands for an id where the newest comes first.
fn newest_first(id: Timestamp) -> u64 {
    !id.0
}

fn compose(kind: u8, names: &[&str], last: Option<u64>) -> Vec<u8> {
    let length = 1 + names.iter().map(|name| name.len() + 1).sum::<usize>() + ID_BYTES;
    let mut key = Vec::with_capacity(length);
    key.push(kind);
    for name in names {
        key.extend_from_slice(name.as_bytes());
        key.push(0);
    }
    if let Some(last) = last {
        key.extend_from_slice(&last.to_be_bytes());
    }
    key
}

pub(super) fn channel(name: &ChannelName) -> Vec<u8> {
    compose(b'c', &[name.as_str()], None)
}

/// The channels after this one, by name.
pub(super) fn channels(after: Option<&ChannelName>) -> KeyRange {
    let from = after.map_or_else(|| vec![b'c'], |name| KeyRange::after(&channel(name)).from);
    KeyRange { from, to: Some(vec![b'c' + 1]) }
}

/// The name in a channel's key.
pub(super) fn channel_of(key: &[u8]) -> Option<ChannelName> {
    name_of(key.strip_prefix(b"c")?.strip_suffix(&[0])?)
}

fn name_of(bytes: &[u8]) -> Option<ChannelName> {
    ChannelName::new(std::str::from_utf8(bytes).ok()?).ok()
}

/// Where the messages of an entry are.
pub(super) fn located(newest: Timestamp) -> Vec<u8> {
    compose(b'i', &[], Some(newest.0))
}

/// The same, of the entry that posted this message, and of all later ones.
pub(super) fn located_from(id: Timestamp) -> KeyRange {
    KeyRange { from: located(id), to: Some(vec![b'i' + 1]) }
}

/// The newest message's id in the key of [`located`].
pub(super) fn located_of(key: &[u8]) -> Option<Timestamp> {
    Some(Timestamp(u64::from_be_bytes(key.strip_prefix(b"i")?.try_into().ok()?)))
}

/// A run of messages.
pub(super) fn run(channel: &ChannelName, oldest: Timestamp) -> Vec<u8> {
    compose(b'm', &[channel.as_str()], Some(newest_first(oldest)))
}

/// The runs of this message and of all older ones.
pub(super) fn runs(channel: &ChannelName, newest: Timestamp) -> KeyRange {
    KeyRange { from: run(channel, newest), to: Some(end_of_ids(&compose(b'm', &[channel.as_str()], None))) }
}

pub(super) fn stars(channel: &ChannelName, id: Timestamp) -> Vec<u8> {
    compose(b's', &[channel.as_str()], Some(newest_first(id)))
}

pub(super) fn starred(channel: &ChannelName, page: &Page) -> KeyRange {
    ids(compose(b's', &[channel.as_str()], None), page)
}

/// The stars of messages from the first to the last, both included.
pub(super) fn starred_between(channel: &ChannelName, first: Timestamp, last: Timestamp) -> KeyRange {
    KeyRange { from: stars(channel, last), to: Some(KeyRange::after(&stars(channel, first)).from) }
}

pub(super) fn user_star(channel: &ChannelName, user: &UserName, id: Timestamp) -> Vec<u8> {
    compose(b'u', &[channel.as_str(), user.as_str()], Some(newest_first(id)))
}

pub(super) fn user_starred(channel: &ChannelName, user: &UserName, page: &Page) -> KeyRange {
    ids(compose(b'u', &[channel.as_str(), user.as_str()], None), page)
}

/// In which direction a page goes where the newest comes first.
pub(super) fn direction(page: &Page) -> Direction {
    if page.ascending { Direction::Reverse } else { Direction::Forward }
}

/// The id at the end of a key, where the newest comes first.
pub(super) fn id_of(key: &[u8]) -> Option<Timestamp> {
    let at = key.len().checked_sub(ID_BYTES)?;
    Some(Timestamp(!u64::from_be_bytes(key.get(at..)?.try_into().ok()?)))
}

/// What tells an idempotency key from all others.
pub(super) type Digest = [u8; DIGEST_BYTES];

pub(super) fn digest(owner: &KeyOwner) -> Digest {
    let whole = blake3::hash(&compose(b'k', &[owner.user.as_str(), owner.key.as_str()], None));
    std::array::from_fn(|at| whole.as_bytes()[at])
}

pub(super) fn idempotency(digest: &Digest) -> Vec<u8> {
    [&b"k"[..], digest].concat()
}

/// The idempotency keys that an entry gave a meaning, by when that was.
pub(super) fn age(at: Timestamp, entry: Index) -> Vec<u8> {
    let mut key = age_from(at);
    key.extend_from_slice(&entry.0.to_be_bytes());
    key
}

pub(super) fn view(number: ViewNumber) -> Vec<u8> {
    [&b"v"[..], &number.0.to_be_bytes()].concat()
}

/// The records of all views, in order.
pub(super) fn views() -> KeyRange {
    KeyRange { from: b"v".to_vec(), to: Some(b"w".to_vec()) }
}

/// The record of one disk that voted.
pub(super) fn member(voter: &Voter, incarnation: Incarnation) -> Vec<u8> {
    let encoded = postcard::to_stdvec(&(voter, incarnation)).unwrap_or_default();
    debug_assert!(!encoded.is_empty(), "a name always encodes");
    [b"n", encoded.as_slice()].concat()
}

/// The records of all disks that voted.
pub(super) fn members() -> KeyRange {
    KeyRange { from: b"n".to_vec(), to: Some(b"o".to_vec()) }
}

/// Where the idempotency keys of this instant, and younger ones, begin.
pub(super) fn age_from(at: Timestamp) -> Vec<u8> {
    compose(b'x', &[], Some(at.0))
}

/// Behind all ids under a prefix.
fn end_of_ids(prefix: &[u8]) -> Vec<u8> {
    [prefix, &[0xff; ID_BYTES + 1]].concat()
}

/// The keys under a prefix, of ids between the page's bounds, neither included.
fn ids(prefix: Vec<u8>, page: &Page) -> KeyRange {
    let with = |last: u64| [prefix.as_slice(), &last.to_be_bytes()].concat();
    let to = match page.after {
        Some(after) => with(newest_first(after)),
        None => end_of_ids(&prefix),
    };
    let from = match page.before {
        Some(Timestamp(0)) => to.clone(),
        Some(before) => with(newest_first(before) + 1),
        None => with(0),
    };
    KeyRange { from, to: Some(to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ChannelName {
        ChannelName::new(text).expect("a name")
    }

    #[test]
    fn section_4_one_channels_keys_are_never_among_anothers() {
        let names = ["a", "a-", "a0", "aa", "b"];
        for range_of in names {
            let range = runs(&name(range_of), Timestamp(u64::MAX));
            for key_of in names {
                for id in [0, 1, u64::MAX] {
                    let key = run(&name(key_of), Timestamp(id));
                    let inside = range.from <= key && Some(&key) < range.to.as_ref();
                    assert_eq!(inside, key_of == range_of, "{key_of} {id} in {range_of}");
                }
            }
        }
    }

    #[test]
    fn section_4_names_come_back_out_of_keys() {
        assert_eq!(channel_of(&channel(&name("general"))), Some(name("general")));
        assert_eq!(id_of(&stars(&name("general"), Timestamp(9))), Some(Timestamp(9)));
        assert_eq!(located_of(&located(Timestamp(9))), Some(Timestamp(9)));
        assert_eq!(located_of(b"i\0"), None);
        for damaged in [&b"x"[..], b"c", b"", b"c\0", b"cA\0"] {
            assert_eq!(channel_of(damaged), None);
        }
    }

    #[test]
    fn api_page_bounds_are_exclusive_and_may_be_empty() {
        let bounds = |before: Option<u64>, after: Option<u64>| {
            let page = Page { limit: 1, before: before.map(Timestamp), after: after.map(Timestamp), ascending: true };
            starred(&name("a"), &page)
        };
        assert!(bounds(None, Some(9)).to == Some(stars(&name("a"), Timestamp(9))));
        assert!(bounds(Some(0), None).is_empty());
        assert!(bounds(Some(5), Some(5)).is_empty());
        assert!(bounds(Some(5), Some(4)).is_empty());
        assert!(!bounds(Some(5), Some(3)).is_empty());
        assert!(bounds(None, Some(u64::MAX)).is_empty());
    }
}
