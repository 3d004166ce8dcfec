//! A storage in memory, of data node 1, and something that lies in it.

use lockstep_protocol::change::{Cause, Reason};
use lockstep_protocol::ids::{
    Address, ClusterId, Hash, Incarnation, Index, NodeId, Timestamp, ViewNumber, Voter, WitnessName, WriteId,
};
use lockstep_protocol::log::{Batch, Entry};
use lockstep_protocol::machine::Limits;
use lockstep_protocol::operation::{Action, ChannelName, KeyOwner, LoggedOperation, Operation, Text};
use lockstep_protocol::sim::disk::SimDisk;
use lockstep_protocol::storage::{Recovered, Storage, StorageError, StorageRequest};
use lockstep_protocol::view::{Seat, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An empty disk.
#[must_use]
pub fn disk() -> SimDisk {
    SimDisk::new()
}

/// What a start of data node 1 finds, if it starts.
///
/// # Errors
/// When the disk holds what cannot be.
pub fn try_open(disk: &SimDisk) -> Result<(Storage<SimDisk>, Recovered), StorageError> {
    Storage::open(disk.clone(), Voter::Replica(NodeId(1)), Incarnation(1), &Limits::default())
}

/// The same, of a disk on which nothing strange was put.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn open(disk: &SimDisk) -> (Storage<SimDisk>, Recovered) {
    try_open(disk).expect("a disk that was written by the storage is read by it")
}

/// View `number`: data nodes 1 to 3, one witness, and this primary.
#[must_use]
pub fn view(number: u64, primary: u32) -> View {
    let seat = |n: u64| Seat { incarnation: Incarnation(n), address: Address::new(&n.to_string()) };
    View {
        cluster: ClusterId(1),
        number: ViewNumber(number),
        primary: NodeId(primary),
        replicas: (1..=3).map(|n| (NodeId(n), seat(u64::from(n)))).collect(),
        witnesses: BTreeMap::from([(WitnessName::new("w"), seat(9))]),
        cause: Cause::new(Timestamp(0), NodeId(primary), vec![Reason::Founded]).into(),
    }
}

/// A post to `general` by ada under this key, which is its text too.
///
/// # Panics
/// When the key is none.
#[must_use]
pub fn post(key: &str) -> Operation {
    let channel = ChannelName::new("general").expect("a name");
    let action = Action::Post { channel, text: Text::new(key).expect("a text"), create_channel: true };
    Operation { owner: KeyOwner::new("ada", key).expect("a key"), action }
}

/// These operations on `general`, as a batch.
///
/// # Panics
/// Never.
#[must_use]
pub fn batch(operations: Vec<Operation>, first_at: u64) -> Batch {
    let channel = ChannelName::new("general").expect("a name");
    let logged = operations.into_iter().zip(first_at..).map(|(operation, at)| LoggedOperation {
        operation,
        channel: channel.clone(),
        at: Timestamp(at),
    });
    Batch::Operations { operations: logged.collect(), keys_at: Timestamp(0), expire_keys_before: Timestamp(0) }
}

/// A view entry, posts, a star, an abort: each entry follows the one before.
///
/// # Panics
/// Never.
#[must_use]
pub fn entries() -> Vec<Arc<Entry>> {
    let star =
        Operation { owner: KeyOwner::new("bob", "star").expect("a key"), action: Action::Star { id: Timestamp(10) } };
    let keys = vec![(KeyOwner::new("ada", "gone").expect("a key"), Timestamp(30))];
    let batches = [
        Batch::View(view(1, 3)),
        batch(vec![post("a"), post("b")], 10),
        batch(vec![star], 20),
        Batch::Abort { keys, keys_at: Timestamp(0) },
    ];
    let (mut found, mut end) = (Vec::new(), (Index(0), Hash::default()));
    for batch in batches {
        let entry = Entry::new(end.0.next(), end.1, batch);
        end = (entry.index, entry.hash);
        found.push(Arc::new(entry));
    }
    found
}

/// A storage that has applied [`entries`].
///
/// # Panics
/// Never.
#[must_use]
pub fn filled() -> Storage<SimDisk> {
    let (mut storage, _) = open(&disk());
    let all = StorageRequest::WriteCommitted { write: WriteId(1), entries: entries() };
    storage.perform(vec![all]).expect("they follow");
    storage
}
