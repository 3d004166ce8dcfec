//! What must be true in the end, whatever happened: every acknowledged message is there once, in one order, on every replica,
//! and what was told `aborted` is nowhere.
//!
//! Asked of both sides: of the gateways, as a client sees it; and of each data directory, once all processes are dead, with
//! the entries that its own disk does not know to be committed (no load, all at one index: they are).

use super::harness::Cluster;
use super::http::Client;
use super::load::Told;
use lockstep_protocol::ids::{Hash, Incarnation, Index, NodeId, Timestamp, Voter};
use lockstep_protocol::log::{Batch, LogRecord};
use lockstep_protocol::machine::Limits;
use lockstep_protocol::operation::{Action, ChannelName, Found, Page, Query};
use lockstep_protocol::storage::{StorageEvent, StorageRequest};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::channel;

/// Id and text, oldest first.
pub type History = Vec<(String, String)>;

/// One channel through one gateway, page by page.
pub fn history(client: &mut Client, channel: &str) -> History {
    let mut found = History::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/channels/{channel}/messages?order=asc&limit=1000{cursor}");
        let reply = client.get(&path).expect("a history");
        assert_eq!(reply.status, 200, "{path}: {}", reply.json);
        let text = |message: &Value, field: &str| message[field].as_str().expect("text").to_owned();
        let messages = reply.json["messages"].as_array().expect("messages");
        found.extend(messages.iter().map(|message| (text(message, "id"), text(message, "text"))));
        match reply.json["next"].as_str() {
            Some(next) if reply.json["has_more"] == true => cursor = format!("&cursor={next}"),
            Some(_) | None => return found,
        }
    }
}

/// Ends the cluster: all running data nodes come to rest at one index, then clients and disks are asked.
pub fn all_is_there_once_on_every_replica(mut cluster: Cluster, channel: &str, told: &Told) {
    cluster.wait_for_all();
    let mut histories: Vec<_> =
        cluster.client_ports.iter().map(|address| history(&mut Client::new(*address), channel)).collect();
    let seen = histories.pop().expect("there is a gateway");
    assert!(histories.iter().all(|other| *other == seen), "two gateways show different histories");
    agrees_with_what_was_told(&seen, told);
    let ids = cluster.running();
    cluster.kill_all();
    let disks: BTreeMap<u32, Disk> =
        ids.iter().map(|id| (*id, Disk::read(&cluster.data_dir(*id), *id, channel))).collect();
    // One may have noticed the end of another before its own, and have logged a view: only that may stand beyond.
    let shortest = disks.values().map(Disk::end).min().expect("there is a replica");
    for (id, disk) in &disks {
        assert!(disk.chain.contains(&shortest), "node {id}'s log does not hold {shortest:?}: {:?}", disk.chain);
        assert!(disk.history == seen, "node {id}'s disk holds another history than clients saw");
    }
    println!(
        "{} acknowledged, {} aborted, {} retries, longest stall {:?}; {} messages on each of {ids:?}",
        told.acked.len(),
        told.aborted.len(),
        told.retries,
        told.longest_stall(),
        seen.len(),
    );
}

/// A history against what the writers were told.
pub fn agrees_with_what_was_told(history: &History, told: &Told) {
    let in_order = history.windows(2).all(|pair| pair[0].0 < pair[1].0);
    assert!(in_order, "ids do not grow in the order of posting");
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, (_, text)) in history.iter().enumerate() {
        assert!(places.insert(text, place).is_none(), "{text} is there twice");
    }
    for (text, id) in &told.acked {
        let place = places.get(text.as_str()).unwrap_or_else(|| panic!("{text} was acknowledged and is lost"));
        assert_eq!(&history[*place].0, id, "{text} has another id than was told");
    }
    for text in &told.aborted {
        assert!(!places.contains_key(text.as_str()), "{text} was told aborted and is there");
    }
    writers_kept_their_order(history);
    nobody_else_wrote(history, told);
}

/// A writer posts one after the other, so its numbers grow.
fn writers_kept_their_order(history: &History) {
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for (_, text) in history {
        let Some((writer, number)) = text.rsplit_once('-') else { continue };
        let before = last.insert(writer, number);
        assert!(before.is_none_or(|before| before < number), "{text} stands after {before:?} of the same writer");
    }
}

fn nobody_else_wrote(history: &History, told: &Told) {
    let known: BTreeSet<&str> =
        told.acked.iter().map(|(text, _)| text.as_str()).chain(told.unknown.iter().map(String::as_str)).collect();
    let strange = history.iter().find(|(_, text)| !known.contains(text.as_str()));
    assert!(strange.is_none(), "{strange:?} was never posted");
}

/// What one data directory holds.
struct Disk {
    /// The last entries of its log, in order, and the chain at each.
    chain: Vec<(Index, Hash)>,
    history: History,
}

impl Disk {
    /// Opens a dead node's directory as the node itself would.
    fn read(directory: &Path, id: u32, channel_name: &str) -> Self {
        let (say, said) = channel();
        let (storage, recovered) = lockstep_actors::storage::start(
            directory,
            Voter::Replica(NodeId(id)),
            Incarnation(0),
            &Limits::default(),
            Box::new(move |events| drop(say.send(events))),
            Box::new(|error| panic!("the storage failed: {error}")),
        )
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut history = History::new();
        let mut after = None;
        loop {
            storage.ask(StorageRequest::Query { request: Default::default(), query: page(channel_name, after) });
            let events = said.recv().expect("the storage answers");
            if !read_page(&events, &mut history, &mut after) {
                break;
            }
        }
        storage.stop();
        let tail = recovered.tail.iter();
        history.extend(tail.clone().flat_map(|record| posts(record, channel_name)));
        let mut chain = recovered.recent.clone();
        chain.push(recovered.committed);
        chain.extend(tail.map(|record| (record.entry.index, record.entry.hash)));
        Self { chain, history }
    }

    fn end(&self) -> (Index, Hash) {
        self.chain.last().copied().unwrap_or_default()
    }
}

fn page(channel: &str, after: Option<Timestamp>) -> Query {
    let channel = ChannelName::new(channel).expect("a channel's name");
    Query::History { channel, page: Page { limit: 1_000, before: None, after, ascending: true } }
}

/// Adds a page; whether there are more.
fn read_page(events: &[StorageEvent], history: &mut History, after: &mut Option<Timestamp>) -> bool {
    let Some(StorageEvent::Queried { found: Ok(Found::Messages { messages, has_more }), .. }) = events.first() else {
        panic!("the storage was asked for a history and said {events:?}");
    };
    history.extend(messages.iter().map(|message| (message.id.to_string(), message.text.to_owned())));
    *after = messages.last();
    *has_more
}

fn posts(record: &LogRecord, channel: &str) -> History {
    let Batch::Operations { operations, .. } = &record.entry.batch else { return History::new() };
    let of_channel = operations.iter().filter(|operation| operation.channel.as_str() == channel);
    let post = |operation: &lockstep_protocol::operation::LoggedOperation| match &operation.operation.action {
        Action::Post { text, .. } => Some((operation.at.to_string(), text.as_str().to_owned())),
        Action::Star { .. } | Action::Unstar { .. } | Action::CreateChannel { .. } => None,
    };
    of_channel.filter_map(post).collect()
}
