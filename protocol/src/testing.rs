//! What the machines' own tests share: nodes, views, entries, and ways to look at effects. Only in tests.

use crate::change::{Cause, Decision, Sign, Suspicion};
use crate::ids::{
    Address, Ballot, ClusterId, Hash, Incarnation, Index, Millis, NodeId, Now, Peer, Timestamp, ViewNumber, Voter,
    WitnessName,
};
use crate::log::{Batch, Entry};
use crate::machine::{Effect, Effects, Limits, Note, Setup, Timing};
use crate::message::PeerMessage;
use crate::operation::{Action, ChannelName, KeyOwner, LoggedOperation, Operation, Text};
use crate::status::NodeStatus;
use crate::storage::{Identity, Recovered, StorageRequest, VoteRecord};
use crate::view::{Seat, View};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Data node `n`, at address `n`.
pub fn node(n: u32) -> Peer {
    Peer {
        voter: Voter::Replica(NodeId(n)),
        incarnation: Incarnation(u64::from(n)),
        address: Address::new(&n.to_string()),
    }
}

/// Witness `w{n}`, at address `w{n}`.
pub fn witness(n: u32) -> Peer {
    let name = format!("w{n}");
    let voter = Voter::Witness(WitnessName::new(&name));
    Peer { voter, incarnation: Incarnation(1_000 + u64::from(n)), address: Address::new(&name) }
}

/// View `number` with this primary, these replicas, and so many witnesses.
pub fn view(number: u64, primary: u32, replicas: &[u32], witnesses: u32) -> View {
    let seat = |peer: Peer| Seat { incarnation: peer.incarnation, address: peer.address };
    View {
        cluster: ClusterId(7),
        number: ViewNumber(number),
        primary: NodeId(primary),
        replicas: replicas.iter().map(|n| (NodeId(*n), seat(node(*n)))).collect(),
        witnesses: (1..=witnesses).map(|n| (WitnessName::new(&format!("w{n}")), seat(witness(n)))).collect(),
        cause: Cause::new(Timestamp(0), NodeId(primary), Vec::new()).into(),
    }
}

/// How `me` is set.
pub fn setup(me: &Peer) -> Setup {
    Setup { me: me.clone(), seeds: Vec::new(), timing: Timing::default(), limits: Limits::default(), seed: 1 }
}

/// A disk that holds this view and nothing else.
pub fn recovered(me: &Peer, view: Option<View>) -> Recovered {
    Recovered {
        identity: Identity { voter: me.voter.clone(), incarnation: me.incarnation },
        vote: view.map(|view| VoteRecord { view, promised: None, accepted: None }),
        committed: (Index(0), Hash::default()),
        recent: Vec::new(),
        tail: Vec::new(),
        last_timestamp: Timestamp(0),
        members: Default::default(),
    }
}

/// So many milliseconds after the start.
pub fn at(ms: u64) -> Now {
    Now { elapsed: Millis(ms), wall: Timestamp(1_700_000_000_000_000 + ms * 1_000) }
}

/// A post of `text` to channel `general`, by ada, under the key `text`.
pub fn post(text: &str) -> Operation {
    let channel = ChannelName::new("general").expect("a name");
    let action = Action::Post { channel, text: Text::new(text).expect("a text"), create_channel: true };
    Operation { owner: KeyOwner::new("ada", text).expect("a key"), action }
}

/// An entry with one post.
pub fn entry(index: u64, prev_hash: Hash, text: &str) -> Arc<Entry> {
    let channel = ChannelName::new("general").expect("a name");
    let operation = LoggedOperation { operation: post(text), channel, at: Timestamp(index) };
    let batch =
        Batch::Operations { operations: vec![operation], keys_at: Timestamp(0), expire_keys_before: Timestamp(0) };
    Arc::new(Entry::new(Index(index), prev_hash, batch))
}

/// The letters to one address, in order.
pub fn letters(effects: &Effects, to: &Peer) -> Vec<PeerMessage> {
    let letter = |effect: &Effect| match effect {
        Effect::Send { to: address, message } if *address == to.address => Some(message.clone()),
        _ => None,
    };
    effects.as_slice().iter().filter_map(letter).collect()
}

/// All letters, with their addresses.
pub fn all_letters(effects: &Effects) -> Vec<(String, PeerMessage)> {
    let letter = |effect: &Effect| match effect {
        Effect::Send { to, message } => Some((to.to_string(), message.clone())),
        _ => None,
    };
    effects.as_slice().iter().filter_map(letter).collect()
}

/// The notes, in order.
pub fn notes(effects: &Effects) -> Vec<Note> {
    let note = |effect: &Effect| match effect {
        Effect::Tell(note) => Some(note.clone()),
        _ => None,
    };
    effects.as_slice().iter().filter_map(note).collect()
}

/// What the storage is asked, in order.
pub fn requests(effects: &Effects) -> Vec<StorageRequest> {
    let request = |effect: &Effect| match effect {
        Effect::Storage(request) => Some(request.clone()),
        _ => None,
    };
    effects.as_slice().iter().filter_map(request).collect()
}

/// A primary whose connection was reset at instant 1.
pub fn suspicion() -> Suspicion {
    Suspicion { sign: Sign::Reset, served_at: Millis(1), noticed_at: Millis(1) }
}

/// What a machine says of itself.
pub fn observed(observe: impl FnOnce(&mut NodeStatus)) -> NodeStatus {
    let mut status = NodeStatus::default();
    observe(&mut status);
    status
}

/// How a view was decided, in no time, by who promised and who accepted.
pub fn decision(promised: BTreeSet<Voter>, accepted: BTreeSet<Voter>) -> Decision {
    Decision {
        ballot: Ballot { round: 1, node: NodeId(3) },
        votes: 3,
        promised,
        accepted,
        suspect_ms: 0,
        trial_ms: 0,
        promise_ms: 0,
        accept_ms: 0,
        stalled_ms: 0,
    }
}
