//! Joins, told as stories: each side alone, then both over a network that loses, repeats and overtakes.

use super::*;
use crate::change::{Cause, Reason};
use crate::ids::{ClusterId, Incarnation, NodeId, Voter, WitnessName};
use crate::lock::{Mode, Resource};
use crate::log::Batch;
use crate::machine::{Effect, Limits, Note, Timing};
use crate::member::Member;
use crate::message::PeerMessage;
use crate::operation::KeyOwner;
use crate::storage::{Identity, StorageEvent, StorageRequest, VoteRecord};
use crate::testing::observed;
use crate::view::Seat;
use std::collections::BTreeMap;

mod giving;
mod story;
mod taking;

fn peer(id: u32) -> Peer {
    Peer {
        voter: Voter::Replica(NodeId(id)),
        incarnation: Incarnation(id.into()),
        address: Address::new(&format!("n{id}")),
    }
}

fn wiped(id: u32) -> Peer {
    Peer { incarnation: Incarnation(u64::from(id) + 100), ..peer(id) }
}

fn witness() -> Peer {
    Peer { voter: Voter::Witness(WitnessName::new("w")), incarnation: Incarnation(7), address: Address::new("w") }
}

fn view_of(number: u64, primary: u32, replicas: &[Peer]) -> Arc<View> {
    let seat = |peer: &Peer| Seat { incarnation: peer.incarnation, address: peer.address.clone() };
    Arc::new(View {
        cluster: ClusterId(1),
        number: ViewNumber(number),
        primary: NodeId(primary),
        replicas: replicas.iter().filter_map(|peer| Some((peer.voter.node()?, seat(peer)))).collect(),
        witnesses: BTreeMap::new(),
        cause: Cause::new(Timestamp(0), NodeId(1), Vec::new()).into(),
    })
}

fn view(number: u64, primary: u32, replicas: &[u32]) -> Arc<View> {
    view_of(number, primary, &replicas.iter().map(|id| peer(*id)).collect::<Vec<_>>())
}

fn setup(me: Peer) -> Setup {
    let limits = Limits { chunk_bytes: 1_000, sync_rounds_max: 2, ..Limits::default() };
    let seeds = [1, 2, 3].map(|id| peer(id).address).to_vec();
    Setup { me, seeds, timing: Timing::default(), limits, seed: 1 }
}

fn recovered(me: &Peer, committed: (Index, Hash), view: Option<View>) -> Recovered {
    Recovered {
        identity: Identity { voter: me.voter.clone(), incarnation: me.incarnation },
        vote: view.map(|view| VoteRecord { view, promised: None, accepted: None }),
        committed,
        recent: Vec::new(),
        tail: Vec::new(),
        last_timestamp: Timestamp(0),
        members: Default::default(),
    }
}

fn at(ms: u64) -> Now {
    Now { elapsed: Millis(ms), wall: Timestamp(0) }
}

/// The entries 1 to `count`, the same every time; each gives out the instant of its index.
fn history(count: u64) -> Vec<Arc<Entry>> {
    let mut log: Vec<Arc<Entry>> = Vec::new();
    for _ in 0..count {
        append(&mut log);
    }
    log
}

fn append(log: &mut Vec<Arc<Entry>>) {
    let (index, prev_hash) = log.last().map_or((Index(1), Hash::default()), |entry| (entry.index.next(), entry.hash));
    let key = KeyOwner::new("ada", &format!("key-{index}")).expect("a key");
    log.push(Arc::new(Entry::new(
        index,
        prev_hash,
        Batch::Abort { keys: vec![(key, Timestamp(index.0))], keys_at: Timestamp(0) },
    )));
}

fn position(count: u64) -> (Index, Hash) {
    history(count).last().map_or((Index(0), Hash::default()), |entry| (entry.index, entry.hash))
}

fn entries(after: u64, to: u64) -> Vec<Arc<Entry>> {
    history(to).split_off(usize::try_from(after).expect("small"))
}

fn pair(key: u8) -> Pair {
    (vec![key], vec![key; 10])
}

fn span(entries: &[Arc<Entry>]) -> String {
    match (entries.first(), entries.last()) {
        (Some(first), Some(last)) => format!("{}..{}", first.index, last.index),
        (Some(_) | None, _) => "none".to_owned(),
    }
}

fn place(start: SyncFrom) -> String {
    match start {
        SyncFrom::Log(index) => format!("log {index}"),
        SyncFrom::Snapshot { index, .. } => format!("snapshot {index}"),
    }
}

fn letter(message: &PeerMessage) -> String {
    match message {
        PeerMessage::BeginSync { commit_index, hash, .. } if *hash == SCRATCH_HASH => {
            format!("begin {commit_index} from scratch")
        }
        PeerMessage::BeginSync { commit_index, .. } => format!("begin {commit_index}"),
        PeerMessage::SyncOk { nonce, view, from, .. } => format!("ok to {nonce} in {view}: {}", place(*from)),
        PeerMessage::SyncRefused { session, reason } => {
            format!("refused {}: {reason:?}", if session.is_some() { "session" } else { "begin" })
        }
        PeerMessage::GiveMeAllData { cursor, .. } => format!("give data {cursor:?}"),
        PeerMessage::Chunk { cursor, pairs, last, .. } => format!("chunk {cursor:?} {} {last}", pairs.len()),
        PeerMessage::GiveEntries { after, .. } => format!("give {after}"),
        PeerMessage::Entries { after, entries, last, .. } => format!("entries {after} {} {last}", span(entries)),
        PeerMessage::EndSync { index, .. } => format!("end {index}"),
        PeerMessage::AskView => "ask view".to_owned(),
        PeerMessage::Removed { .. } => "removed".to_owned(),
        other => panic!("unexpected {other:?}"),
    }
}

fn note(note: &Note) -> String {
    match note {
        Note::Acquire { locks, .. } => {
            assert_eq!(*locks, [(Resource::Store, Mode::Shared)]);
            "acquire".to_owned()
        }
        Note::Release { .. } => "release".to_owned(),
        Note::Fence { view, .. } => format!("fence {view}"),
        Note::AddReplica { view, peer, .. } => format!("add {} in {view}", peer.voter),
        Note::SetOffline { view, reasons } if matches!(reasons[..], [Reason::Unfinished { .. }]) => {
            format!("end view {view}")
        }
        Note::SyncBegan { from } => format!("began {}", place(*from)),
        Note::Synced { index, last_timestamp, .. } => format!("synced {index} {}", last_timestamp.0),
        Note::Pace { delay_ms } => format!("pace {delay_ms}"),
        other => panic!("unexpected {other:?}"),
    }
}

fn request(request: &StorageRequest) -> String {
    match request {
        StorageRequest::Pin { .. } => "pin".to_owned(),
        StorageRequest::Unpin { .. } => "unpin".to_owned(),
        StorageRequest::ReadChunk { cursor, bytes_max, .. } => format!("read chunk {cursor:?} {bytes_max}"),
        StorageRequest::ReadLog { after, bytes_max, .. } => format!("read log {after} {bytes_max}"),
        StorageRequest::DropTail => "drop tail".to_owned(),
        StorageRequest::InstallBegin => "install".to_owned(),
        StorageRequest::InstallChunk { write, pairs } => format!("write {write}: {} pairs", pairs.len()),
        StorageRequest::InstallEnd { write, index, .. } => format!("write {write}: whole at {index}"),
        StorageRequest::WriteCommitted { write, entries } => format!("write {write}: entries {}", span(entries)),
        other => panic!("unexpected {other:?}"),
    }
}

/// One line for each effect; what is announced is left out.
fn lines(effects: Effects) -> Vec<String> {
    let line = |effect: Effect| match effect {
        Effect::Send { to, message } => Some(format!("{to}: {}", letter(&message))),
        Effect::Tell(told) => Some(note(&told)),
        Effect::Storage(asked) => Some(request(&asked)),
        Effect::Halt(_) => Some("halt".to_owned()),
        Effect::Announce(_) => None,
        other @ (Effect::Answer { .. } | Effect::Watch(_) | Effect::Retire(_)) => panic!("unexpected {other:?}"),
    };
    effects.into_iter().filter_map(line).collect()
}

/// What is announced, which `lines` leaves out.
fn said(effects: &Effects) -> Vec<String> {
    let line = |effect: &Effect| match effect {
        Effect::Announce(line) => Some(line.clone()),
        _ => None,
    };
    effects.as_slice().iter().filter_map(line).collect()
}

const NONE: [&str; 0] = [];

/// A machine, and whose locks it asked for last.
struct Machine1(Sync, Option<LockOwner>);

impl Machine1 {
    fn hears(&mut self, ms: u64, input: Input) -> Vec<String> {
        let effects = self.0.step(at(ms), input);
        let acquired = |effect: &Effect| match effect {
            Effect::Tell(Note::Acquire { owner, .. }) => Some(*owner),
            _ => None,
        };
        self.1 = effects.as_slice().iter().find_map(acquired).or(self.1);
        lines(effects)
    }

    fn tick(&mut self, ms: u64) -> Vec<String> {
        let deadline = self.0.deadline();
        assert!(deadline.is_some_and(|deadline| deadline.0 <= ms), "{deadline:?}");
        lines(self.0.tick(at(ms)))
    }

    /// What it announces when it hears this.
    fn says(&mut self, ms: u64, input: Input) -> Vec<String> {
        said(&self.0.step(at(ms), input))
    }

    /// It wakes at each of its deadlines up to this instant: what it does, and when.
    fn run_to(&mut self, ms: u64) -> Vec<String> {
        let (mut done, mut woke_at) = (Vec::new(), None);
        while let Some(now) = self.0.deadline().filter(|deadline| deadline.0 <= ms) {
            assert!(woke_at < Some(now), "it wakes at {} without end", now.0);
            woke_at = Some(now);
            done.extend(lines(self.0.tick(at(now.0))).into_iter().map(|line| format!("{}: {line}", now.0)));
        }
        done
    }

    fn sync_status(&self) -> Option<SyncStatusLine> {
        observed(|status| self.0.observe(status)).sync.map(|sync| (sync.node.0, sync.phase, sync.bytes, sync.index.0))
    }
}

type SyncStatusLine = (u32, String, u64, u64);
