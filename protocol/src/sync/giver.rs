//! The giving side of a join: a primary that serves lets one node at a time come up to it.
//!
//! What keeps a join safe:
//! - The store's S lock is held from before the last entries are read until the view has changed or the campaign has
//!   forgotten the joiner. Neither a silent joiner nor the end of serving lets it go while that is open (`Adding`): a write
//!   that slipped in would be missing in a replica of the next view.
//! - `EndSync` counts under the lock of the view in force, and only when the storage says that nothing follows.
//! - `SyncOk` makes its receiver drop things, so it is sent only when no view that counts on them can come: earlier sessions
//!   of that node are forgotten, no `AddReplica` is open, and the replica says that it has accepted no next view.
//!
//! What keeps it short: the lock is asked for when less than one round is left and the joiner made the last one durable
//! promptly, waits no longer than `lock.timeout`, and is let go when `EndSync` does not come soon; both are tried again later. When rounds bring the joiner no nearer, batches
//! are paced.
//!
//! Any answer of the storage counts only when it is to the last question: it answers in order.

use super::{SCRATCH_HASH, bytes_of, chunk_checksum};
use crate::change::{Fault, Reason};
use crate::ids::{Address, Hash, Index, Millis, Now, Peer, SessionId, ViewNumber, Voter};
use crate::lock::{LockOwner, Mode, Resource};
use crate::log::Entry;
use crate::machine::{Effects, Note, Setup};
use crate::member::Members;
use crate::message::{Pair, PeerMessage, SyncFrom, SyncRefusal};
use crate::status::{NodeStatus, SyncStatus};
use crate::storage::StorageRequest;
use crate::view::View;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The first pause between batches. Milliseconds.
const PACE_FIRST_MS: u64 = 5;
/// The longest pause between batches: writers feel it as a stall, and a batch is bounded in bytes. Milliseconds.
const PACE_MAX_MS: u64 = 50;
/// How often progress is announced at least. Milliseconds.
const ANNOUNCE_MS: u64 = 5_000;
/// A joiner that needs longer for a round than so many times `slow_replica_limit` is still busy with what it got before, or
/// would be too slow a replica: the store is not locked for it.
const PROMPT_LIMITS: u64 = 2;
/// With fewer copies than these a slow one more is better than none: after `sync_rounds_max` slow rounds the store is locked.
const COPIES_MIN: usize = 2;
/// So many repeated questions, for a chunk or a round, are not answered while what was sent may be on its way: on a slow link,
/// what is sent again makes it slower. Then each that doubles their number is.
const REPEATS_MIN: u32 = 4;
/// The lock is held for so many `vote_timeout`s at most until `EndSync` comes.
const LOCK_VOTE_TIMEOUTS: u64 = 2;

/// What the storage says of the log.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub after: Index,
    pub hash: Option<Hash>,
    pub entries: Vec<Arc<Entry>>,
    pub applied: Index,
}

/// Where a session stands before the joiner hears of it, and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Does the joiner's history agree, and does the log reach back to it?
    Comparing { commit: (Index, Hash) },
    /// A snapshot is being pinned.
    Pinning,
    /// The replica is being asked whether it has accepted a next view.
    Fencing(SyncFrom),
    /// `SyncOk` was sent.
    Open(SyncFrom),
}

/// What the storage was asked last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Chunk(Option<Vec<u8>>),
    Entries(Index),
    /// Does anything follow what the joiner ends with?
    End(Index, Hash),
}

/// The store's S lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Free { retry_at: Millis },
    Waiting { until: Millis },
    Held { view: ViewNumber, since: Millis, until: Millis },
}

#[derive(Clone, Debug)]
struct Session {
    id: SessionId,
    peer: Peer,
    /// That of its `BeginSync`.
    nonce: u64,
    phase: Phase,
    /// It has sent a letter of this session, so it had the `SyncOk`.
    is_answered: bool,
    heard_at: Millis,
    asked: Option<Asked>,
    /// Questions to the storage that are not answered.
    unanswered: u32,
    lock: Lock,
    /// Which of the giver's acquisitions its lock is, or was.
    acquisition: u64,
    /// What the joiner has, as far as it said.
    after: Index,
    /// Where the oldest round ends that the joiner may not have taken yet, and when it went out.
    sent: Option<(Index, Millis)>,
    /// Which chunk went out last.
    given: Option<Asked>,
    /// How often what went out last was asked for again.
    repeats: u32,
    /// How many rounds in a row it was not prompt.
    slow_rounds: u32,
    /// the fewest entries that a round left over, and how many rounds since then left no fewer.
    fewest_left: Option<u64>,
    rounds_in_vain: u32,
    /// After which entry the latest round that was counted began: asked for again, it is no other one.
    counted: Option<Index>,
    progress: Progress,
}

/// What was sent, for people.
#[derive(Clone, Debug)]
struct Progress {
    began_at: Millis,
    announced_at: Millis,
    announced_tenths: u64,
    bytes: u64,
    bytes_total: u64,
    entries: u64,
}

/// The campaign was asked to list a joiner, and has not come to its end.
#[derive(Clone, Debug)]
struct Adding {
    view: ViewNumber,
    peer: Peer,
    owner: LockOwner,
    /// When the campaign is asked to bring the view to an end, so that writes do not wait for ever.
    nudge_at: Millis,
}

#[derive(Clone, Debug)]
pub(super) struct Giver {
    setup: Setup,
    rng: fastrand::Rng,
    view: Option<Arc<View>>,
    serving: Option<ViewNumber>,
    session: Option<Session>,
    acquisitions: u64,
    adding: Option<Adding>,
    /// Who was left out for being too slow: its first round shows whether it still is.
    slow: BTreeSet<Voter>,
    members: Members,
    pace_ms: u64,
}

impl Session {
    fn owner(&self) -> LockOwner {
        LockOwner::Join(self.acquisition)
    }

    fn is(&self, from: &Peer, id: SessionId) -> bool {
        self.id == id && self.peer == *from
    }

    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    fn has_pin(&self) -> bool {
        match self.phase {
            Phase::Comparing { .. } | Phase::Fencing(SyncFrom::Log(_)) | Phase::Open(SyncFrom::Log(_)) => false,
            Phase::Pinning => true,
            Phase::Fencing(SyncFrom::Snapshot { .. }) | Phase::Open(SyncFrom::Snapshot { .. }) => true,
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.lock, Lock::Waiting { .. })
    }

    /// Whether the store is locked for it, in this view.
    fn holds(&self, view: Option<ViewNumber>) -> bool {
        matches!(self.lock, Lock::Held { view: locked, .. } if Some(locked) == view)
    }

    fn locked_at(&self) -> Option<Millis> {
        match self.lock {
            Lock::Held { since, .. } => Some(since),
            Lock::Free { .. } | Lock::Waiting { .. } => None,
        }
    }

    /// Asks the storage; an answer to an earlier question does not count any more.
    fn ask(&mut self, asked: Asked, bytes_max: usize, effects: &mut Effects) {
        let session = self.id;
        effects.storage(match &asked {
            Asked::Chunk(cursor) => StorageRequest::ReadChunk { session, cursor: cursor.clone(), bytes_max },
            Asked::Entries(after) | Asked::End(after, _) => {
                StorageRequest::ReadLog { session, after: *after, bytes_max }
            }
        });
        self.asked = Some(asked);
        self.unanswered += 1;
    }

    /// The question that this answer is to; none for an earlier one.
    fn answered(&mut self) -> Option<Asked> {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered == 0 { self.asked.take() } else { None }
    }

    /// The joiner asks for the next round, so the last one is durable there.
    fn measure_round(&mut self, now: Now, after: Index, prompt_ms: u64) {
        let Some((_, sent_at)) = self.sent.take_if(|(end, _)| *end <= after) else { return };
        self.slow_rounds = if now.elapsed.since(sent_at) > prompt_ms { self.slow_rounds + 1 } else { 0 };
    }

    /// What is asked for was sent already, and it is too early to send it again. Writes that wait for it wait no longer than need be.
    fn is_on_its_way(&mut self) -> bool {
        self.is_too_early(self.sent.is_some() && matches!(self.lock, Lock::Free { .. }))
    }

    /// The same of a chunk.
    fn is_given(&mut self, asked: &Asked) -> bool {
        self.is_too_early(self.given.as_ref() == Some(asked))
    }

    fn is_too_early(&mut self, is_repeated: bool) -> bool {
        self.repeats = if is_repeated { self.repeats + 1 } else { 0 };
        is_repeated && (self.repeats < REPEATS_MIN || !self.repeats.is_power_of_two())
    }

    fn may_lock(&self, now: Now) -> bool {
        matches!(self.lock, Lock::Free { retry_at } if retry_at <= now.elapsed)
    }
}

impl Progress {
    fn new(now: Now) -> Self {
        let at = now.elapsed;
        Self { began_at: at, announced_at: at, announced_tenths: 0, bytes: 0, bytes_total: 0, entries: 0 }
    }

    /// About every tenth of the snapshot, or when it takes long.
    fn announce(&mut self, now: Now, node: &Peer, effects: &mut Effects) {
        let tenths = (self.bytes * 10).checked_div(self.bytes_total).unwrap_or(0).min(10);
        if tenths <= self.announced_tenths && now.elapsed.since(self.announced_at) < ANNOUNCE_MS {
            return;
        }
        self.announced_tenths = tenths.max(self.announced_tenths);
        self.announced_at = now.elapsed;
        effects.announce(format!("joining {}: {} so far", node.voter, self.sum()));
    }

    fn sum(&self) -> String {
        match self.bytes_total {
            0 => format!("{} bytes of snapshot, {} entries", self.bytes, self.entries),
            total => format!("{} of about {total} bytes of snapshot, {} entries", self.bytes, self.entries),
        }
    }
}

fn left_out_as_slow(reason: &Reason) -> Option<Voter> {
    match reason {
        Reason::SetOffline { voter, fault: Fault::Late { .. } } => Some(voter.clone()),
        _ => None,
    }
}

impl Giver {
    pub(super) fn new(setup: &Setup, rng: fastrand::Rng) -> Self {
        let setup = setup.clone();
        Self {
            setup,
            rng,
            view: None,
            serving: None,
            session: None,
            acquisitions: 0,
            adding: None,
            slow: BTreeSet::new(),
            members: Members::default(),
            pace_ms: 0,
        }
    }

    pub(super) fn observe(&self, status: &mut NodeStatus) {
        let Some(session) = &self.session else { return };
        let Some(node) = session.peer.voter.node() else { return };
        let phase = match (session.phase, session.lock) {
            (Phase::Open(_), Lock::Held { .. }) => "ending",
            (Phase::Open(SyncFrom::Snapshot { .. }), _) if session.after == Index(0) => "snapshot",
            (Phase::Open(_), _) => "entries",
            (Phase::Comparing { .. } | Phase::Pinning | Phase::Fencing(_), _) => "beginning",
        };
        status.sync = Some(SyncStatus {
            session: session.id,
            node,
            phase: phase.to_owned(),
            bytes: session.progress.bytes,
            bytes_total: session.progress.bytes_total,
            index: session.after,
        });
    }

    // how a session begins.

    fn refusal(&self, from: &Peer) -> Option<SyncRefusal> {
        let Some(view) = self.view.as_ref().filter(|view| self.serving == Some(view.number)) else {
            return Some(SyncRefusal::NotPrimary);
        };
        if view.seat(&from.voter).is_some() {
            return Some(SyncRefusal::Listed);
        }
        let others = self.session.as_ref().is_some_and(|session| session.peer.voter != from.voter);
        // While an `AddReplica` is open, the node may be in the next view: it must not be told to drop anything.
        (others || self.adding.is_some()).then_some(SyncRefusal::Busy)
    }

    pub(super) fn on_begin(&mut self, now: Now, from: Peer, nonce: u64, commit: (Index, Hash)) -> Effects {
        let mut effects = Effects::none();
        if from.voter.node().is_none() {
            return effects; // A witness has nothing to catch up with.
        }
        if self.on_begin_again(now, &from, nonce, &mut effects) {
            return effects;
        }
        if let Some(reason) = self.refusal(&from) {
            effects.send(&from.address, PeerMessage::SyncRefused { session: None, reason });
            return effects;
        }
        if self.members.is_removed(&from) {
            effects.send(&from.address, PeerMessage::Removed { incarnation: from.incarnation });
            return effects;
        }
        self.end("it begins again", None, &mut effects);
        let is_slow = self.slow.contains(&from.voter);
        let id = SessionId(self.rng.u64(1..));
        let from_scratch = commit.1 == SCRATCH_HASH;
        effects.storage(if from_scratch {
            StorageRequest::Pin { session: id }
        } else {
            StorageRequest::ReadLog { session: id, after: commit.0, bytes_max: 1 }
        });
        self.session = Some(Session {
            id,
            peer: from,
            nonce,
            phase: if from_scratch { Phase::Pinning } else { Phase::Comparing { commit } },
            is_answered: false,
            heard_at: now.elapsed,
            asked: None,
            unanswered: 0,
            lock: Lock::Free { retry_at: now.elapsed },
            acquisition: 0,
            after: Index(0),
            given: None,
            sent: None,
            repeats: 0,
            slow_rounds: u32::from(is_slow),
            fewest_left: None,
            rounds_in_vain: 0,
            counted: None,
            progress: Progress::new(now),
        });
        effects
    }

    /// A repeated `BeginSync`: the `SyncOk` was lost, or it is on its way, or the joiner says that it still writes.
    fn on_begin_again(&mut self, now: Now, from: &Peer, nonce: u64, effects: &mut Effects) -> bool {
        let serving = self.serving;
        let Some(session) = self.session.as_mut().filter(|s| s.peer == *from && s.nonce == nonce) else { return false };
        session.heard_at = now.elapsed;
        if let (Phase::Open(start), false, Some(view)) = (session.phase, session.is_answered, serving) {
            let session = session.id;
            effects.send(&from.address, PeerMessage::SyncOk { nonce, view, session, from: start });
        }
        true
    }

    fn on_compared(&mut self, commit: (Index, Hash), read: &Read, effects: &mut Effects) {
        let Some(session) = &mut self.session else { return };
        if read.hash == Some(commit.1) {
            session.after = commit.0;
            self.fence(SyncFrom::Log(commit.0), effects);
        } else {
            session.phase = Phase::Pinning;
            effects.storage(StorageRequest::Pin { session: session.id });
        }
    }

    pub(super) fn on_pinned(&mut self, id: SessionId, start: SyncFrom, bytes: u64) -> Effects {
        let mut effects = Effects::none();
        let pinning = self.session.as_mut().filter(|session| session.id == id && session.phase == Phase::Pinning);
        if let Some(session) = pinning {
            session.progress.bytes_total = bytes;
            self.fence(start, &mut effects);
        }
        effects
    }

    fn fence(&mut self, start: SyncFrom, effects: &mut Effects) {
        let (Some(session), Some(view)) = (&mut self.session, self.serving) else { return };
        session.phase = Phase::Fencing(start);
        effects.tell(Note::Fence { view, session: session.id });
    }

    pub(super) fn on_fenced(&mut self, now: Now, view: ViewNumber, id: SessionId, accepted: bool) -> Effects {
        let mut effects = Effects::none();
        let serving = self.serving == Some(view);
        let Some(session) = self.session.as_mut().filter(|session| serving && session.id == id) else { return effects };
        let Phase::Fencing(start) = session.phase else { return effects };
        if accepted {
            let reasons = vec![Reason::Unfinished { voter: self.setup.me.voter.clone() }];
            self.end("the next view is half decided", Some(SyncRefusal::NotPrimary), &mut effects);
            effects.tell(Note::SetOffline { view, reasons });
            return effects;
        }
        session.phase = Phase::Open(start);
        session.heard_at = now.elapsed;
        let begins = match start {
            SyncFrom::Log(index) => format!("it needs the entries after {index}"),
            SyncFrom::Snapshot { index, .. } => {
                format!("it needs a snapshot, at entry {index}, about {} bytes", session.progress.bytes_total)
            }
        };
        effects.announce(format!("{} at {} joins: {begins}", session.peer.voter, session.peer.address));
        let ok = PeerMessage::SyncOk { nonce: session.nonce, view, session: id, from: start };
        effects.send(&session.peer.address, ok);
        effects
    }

    // what it is given.

    /// The session that a letter is about, with its silence ended. None when there is nothing to do: another session is
    /// refused, and while this node does not serve (yet, in a new view) the joiner repeats its letter.
    fn heard(&mut self, now: Now, from: &Peer, id: SessionId, effects: &mut Effects) -> Option<&mut Session> {
        let is_serving = self.serving.is_some();
        let Some(session) = self.session.as_mut().filter(|session| session.is(from, id) && session.is_open()) else {
            let refused = PeerMessage::SyncRefused { session: Some(id), reason: SyncRefusal::NoSession };
            effects.send(&from.address, refused);
            return None;
        };
        session.heard_at = now.elapsed;
        session.is_answered = true;
        is_serving.then_some(session)
    }

    pub(super) fn on_give_data(&mut self, now: Now, from: &Peer, id: SessionId, cursor: Option<Vec<u8>>) -> Effects {
        let mut effects = Effects::none();
        let bytes_max = self.setup.limits.chunk_bytes;
        let Some(session) = self.heard(now, from, id, &mut effects) else { return effects };
        let asked = Asked::Chunk(cursor);
        if session.asked.as_ref() != Some(&asked) && !session.is_given(&asked) {
            session.ask(asked, bytes_max, &mut effects);
        }
        effects
    }

    pub(super) fn on_chunk_read(
        &mut self,
        now: Now,
        id: SessionId,
        cursor: Option<Vec<u8>>,
        chunk: Option<(Vec<Pair>, bool)>,
    ) -> Effects {
        let mut effects = Effects::none();
        let is_serving = self.serving.is_some();
        let Some(session) = self.session.as_mut().filter(|session| session.id == id) else { return effects };
        let expected = session.answered() == Some(Asked::Chunk(cursor.clone()));
        if !expected || !is_serving {
            return effects;
        }
        let Some((pairs, last)) = chunk else {
            self.end("its snapshot is gone", Some(SyncRefusal::NoSession), &mut effects);
            return effects;
        };
        session.given = Some(Asked::Chunk(cursor.clone()));
        session.progress.bytes += bytes_of(&pairs);
        let checksum = chunk_checksum(&pairs);
        let letter = PeerMessage::Chunk { session: id, cursor, pairs, checksum, last };
        effects.send(&session.peer.address, letter);
        session.progress.announce(now, &session.peer, &mut effects);
        effects
    }

    pub(super) fn on_give_entries(&mut self, now: Now, from: &Peer, id: SessionId, after: Index) -> Effects {
        let mut effects = Effects::none();
        let prompt_ms = self.setup.timing.slow_replica_limit_ms.saturating_mul(PROMPT_LIMITS);
        let bytes_max = self.setup.limits.chunk_bytes;
        let Some(session) = self.heard(now, from, id, &mut effects) else { return effects };
        session.after = after;
        session.measure_round(now, after, prompt_ms);
        if session.is_on_its_way() {
            return effects;
        }
        let asked = Asked::Entries(after);
        // While the lock is waited for, the answer is what will be there when it is held.
        if !session.is_waiting() && session.asked.as_ref() != Some(&asked) {
            session.ask(asked, bytes_max, &mut effects);
        }
        effects
    }

    pub(super) fn on_log_read(&mut self, now: Now, id: SessionId, read: Read) -> Effects {
        let mut effects = Effects::none();
        let Some(session) = self.session.as_mut().filter(|session| session.id == id) else { return effects };
        match session.phase {
            Phase::Comparing { commit } => self.on_compared(commit, &read, &mut effects),
            Phase::Open(_) => match session.answered() {
                Some(Asked::Entries(after)) if after == read.after => self.on_round(now, read, &mut effects),
                Some(Asked::End(index, hash)) if index == read.after => {
                    self.on_end_read(now, hash, read, &mut effects);
                }
                Some(Asked::Chunk(_) | Asked::Entries(_) | Asked::End(..)) | None => {}
            },
            Phase::Pinning | Phase::Fencing(_) => {}
        }
        effects
    }

    /// sends a round; the last one only under the lock, which is asked for when no more than this is left.
    fn on_round(&mut self, now: Now, read: Read, effects: &mut Effects) {
        let Some(session) = self.session.as_mut().filter(|_| self.serving.is_some()) else { return };
        if read.hash.is_none() {
            return self.end("the log does not reach back to it any more", Some(SyncRefusal::NoSession), effects);
        }
        let end = read.entries.last().map_or(read.after, |entry| entry.index);
        let left = read.applied.0.saturating_sub(end.0);
        let is_held = session.holds(self.serving);
        let is_needed = self.view.as_ref().is_some_and(|view| view.replicas.len() < COPIES_MIN);
        let rounds_max = self.setup.limits.sync_rounds_max;
        let is_slow = session.slow_rounds > rounds_max;
        let is_prompt = session.slow_rounds == 0 || is_slow && is_needed || read.entries.is_empty();
        if left == 0 && is_prompt && session.may_lock(now) {
            self.acquisitions += 1;
            session.acquisition = self.acquisitions;
            session.lock = Lock::Waiting { until: now.elapsed.plus(self.setup.timing.lock_timeout_ms) };
            let locks = vec![(Resource::Store, Mode::Shared)];
            return effects.tell(Note::Acquire { owner: session.owner(), locks });
        }
        if is_slow && !is_needed {
            // A round is short whatever is left: writes that wait for this one would not bring it nearer.
            Self::end_pace(&mut self.pace_ms, effects);
        } else if left > 0 && session.counted.replace(read.after) != Some(read.after) {
            Self::pace(session, &mut self.pace_ms, left, rounds_max, effects);
        }
        if left == 0 && read.entries.is_empty() && !is_held {
            return; // It has all there is, and asks again until the lock may be tried again.
        }
        session.progress.entries += read.entries.len() as u64;
        session.sent.get_or_insert((end, now.elapsed));
        let last = is_held && left == 0;
        let letter = PeerMessage::Entries { session: session.id, after: read.after, entries: read.entries, last };
        effects.send(&session.peer.address, letter);
        session.progress.announce(now, &session.peer, effects);
    }

    /// after `sync_rounds_max` rounds that brought it no nearer, each further one makes the pause longer.
    fn pace(session: &mut Session, pace_ms: &mut u64, left: u64, rounds_max: u32, effects: &mut Effects) {
        if session.fewest_left.is_none_or(|fewest| left < fewest) {
            session.fewest_left = Some(left);
            session.rounds_in_vain = 0;
            return;
        }
        session.rounds_in_vain += 1;
        let longer = (*pace_ms * 2).clamp(PACE_FIRST_MS, PACE_MAX_MS);
        if session.rounds_in_vain >= rounds_max && longer != *pace_ms {
            *pace_ms = longer;
            effects.tell(Note::Pace { delay_ms: longer });
        }
    }

    fn end_pace(pace_ms: &mut u64, effects: &mut Effects) {
        if std::mem::take(pace_ms) > 0 {
            effects.tell(Note::Pace { delay_ms: 0 });
        }
    }

    /// who was removed is not let in any more. One whom the campaign was asked to list already may be in the next view;
    /// that one's primary has it left out again.
    pub(super) fn on_members(&mut self, members: Members) -> Effects {
        let mut effects = Effects::none();
        self.members = members;
        let joiner = self.session.as_ref().map(|session| session.peer.clone());
        if let Some(joiner) = joiner.filter(|joiner| self.members.is_removed(joiner)) {
            effects.send(&joiner.address, PeerMessage::Removed { incarnation: joiner.incarnation });
            self.end("it was removed", None, &mut effects);
        }
        effects
    }

    // how it ends.

    pub(super) fn on_granted(&mut self, now: Now, owner: LockOwner) -> Effects {
        let mut effects = Effects::none();
        if self.adding.as_ref().is_some_and(|adding| adding.owner == owner) {
            return effects; // Told twice.
        }
        let session = self.session.as_mut().filter(|session| session.owner() == owner);
        match (session, self.serving) {
            (Some(session), Some(view)) if session.is_waiting() => {
                let until = now.elapsed.plus(self.setup.timing.vote_timeout_ms * LOCK_VOTE_TIMEOUTS);
                session.lock = Lock::Held { view, since: now.elapsed, until };
                session.ask(Asked::Entries(session.after), self.setup.limits.chunk_bytes, &mut effects);
            }
            (Some(session), _) if session.holds(self.serving) => {} // Told twice.
            (Some(_) | None, _) => effects.tell(Note::Release { owner }), // It was given up meanwhile.
        }
        effects
    }

    /// An `EndSync` that does not count, since the lock was let go or the view has changed, asks for what follows.
    pub(super) fn on_end(&mut self, now: Now, from: &Peer, id: SessionId, (index, hash): (Index, Hash)) -> Effects {
        let mut effects = Effects::none();
        let (serving, is_adding) = (self.serving, self.adding.is_some());
        let bytes_max = self.setup.limits.chunk_bytes;
        let Some(session) = self.heard(now, from, id, &mut effects) else { return effects };
        session.after = index;
        if is_adding || session.is_waiting() {
            return effects;
        }
        let asked = if session.holds(serving) { Asked::End(index, hash) } else { Asked::Entries(index) };
        if session.asked.as_ref() != Some(&asked) {
            session.ask(asked, bytes_max, &mut effects);
        }
        effects
    }

    /// the storage, asked under the lock, knows best what is committed.
    fn on_end_read(&mut self, now: Now, hash: Hash, read: Read, effects: &mut Effects) {
        let Some(session) = &mut self.session else { return };
        if read.hash.is_some_and(|ours| ours != hash) {
            return self.end("its history is another", Some(SyncRefusal::NoSession), effects);
        }
        let is_whole = read.hash == Some(hash) && read.entries.is_empty() && read.applied == read.after;
        let Some(view) = self.serving.filter(|view| is_whole && session.holds(Some(*view))) else {
            return self.on_round(now, read, effects);
        };
        let nudge_at = now.elapsed.plus(self.setup.timing.sync_timeout_ms);
        let (owner, peer) = (session.owner(), session.peer.clone());
        let locked_at = session.locked_at().unwrap_or(now.elapsed);
        assert!(self.adding.is_none(), "one AddReplica at a time");
        self.adding = Some(Adding { view, peer: peer.clone(), owner, nudge_at });
        effects.tell(Note::AddReplica { view, peer, locked_at });
    }

    pub(super) fn on_add_failed(&mut self, now: Now, view: ViewNumber, peer: &Peer) -> Effects {
        let mut effects = Effects::none();
        let Some(adding) = self.adding.take_if(|adding| adding.view == view && adding.peer == *peer) else {
            return effects;
        };
        effects.tell(Note::Release { owner: adding.owner });
        if let Some(session) = self.session.as_mut().filter(|session| session.owner() == adding.owner) {
            session.lock = Lock::Free { retry_at: now.elapsed.plus(self.setup.timing.lock_timeout_ms) };
        }
        effects
    }

    // Views, and ends before the end.

    pub(super) fn on_view(&mut self, now: Now, view: &Arc<View>) -> Effects {
        let mut effects = Effects::none();
        if self.view.as_ref().is_some_and(|known| known.number >= view.number) {
            return effects;
        }
        self.view = Some(view.clone());
        self.serving = None;
        self.slow.retain(|voter| view.seat(voter).is_none());
        self.slow.extend(view.cause.reasons.iter().filter_map(left_out_as_slow));
        let released = self.adding.take().map(|adding| adding.owner);
        if let Some(owner) = released {
            effects.tell(Note::Release { owner });
        }
        let Some(session) = &mut self.session else { return effects };
        let owner = session.owner();
        let lock = std::mem::replace(&mut session.lock, Lock::Free { retry_at: now.elapsed });
        let is_locked = !matches!(lock, Lock::Free { .. });
        if is_locked && released != Some(owner) {
            effects.tell(Note::Release { owner });
        }
        if view.lists(&session.peer) {
            self.end_joined(now, view, lock, &mut effects);
        } else if view.seat(&session.peer.voter).is_some() {
            self.end("the view lists its id under another disk", Some(SyncRefusal::Listed), &mut effects);
        } else if !view.is_primary(&self.setup.me) {
            self.end("this node is not the primary any more", Some(SyncRefusal::NotPrimary), &mut effects);
        } else if !session.is_open() {
            self.end("the view has changed", None, &mut effects);
        }
        effects
    }

    fn end_joined(&mut self, now: Now, view: &View, lock: Lock, effects: &mut Effects) {
        let Some(session) = &self.session else { return };
        let took = now.elapsed.since(session.progress.began_at);
        let locked = match lock {
            Lock::Held { since, .. } => now.elapsed.since(since),
            Lock::Free { .. } | Lock::Waiting { .. } => 0,
        };
        let (node, sent) = (&session.peer.voter, session.progress.sum());
        let line = format!("{node} has joined in view {}, after {took} ms: {sent}; writes waited", view.number);
        effects.announce(format!("{line} {locked} ms for it"));
        self.drop_session(effects);
    }

    pub(super) fn on_serving(&mut self, now: Now, view: ViewNumber) -> Effects {
        let mut effects = Effects::none();
        let is_mine = |known: &Arc<View>| known.number == view && known.is_primary(&self.setup.me);
        if !self.view.as_ref().is_some_and(is_mine) {
            return effects;
        }
        self.serving = Some(view);
        if let Some(session) = &mut self.session {
            session.heard_at = now.elapsed; // It was not answered meanwhile: its silence begins to count now.
            if self.pace_ms > 0 {
                effects.tell(Note::Pace { delay_ms: self.pace_ms });
            }
        }
        effects
    }

    pub(super) fn on_not_serving(&mut self, view: ViewNumber) -> Effects {
        let mut effects = Effects::none();
        if self.serving == Some(view) {
            self.serving = None;
            self.end("this node has stopped serving", Some(SyncRefusal::NotPrimary), &mut effects);
        }
        effects
    }

    /// A crashed joiner need not be waited for with the store locked. The session stays: it may only have lost a connection.
    pub(super) fn on_unreachable(&mut self, now: Now, address: &Address) -> Effects {
        let mut effects = Effects::none();
        if self.session.as_ref().is_some_and(|session| session.peer.address == *address) {
            self.unlock(now, &mut effects);
        }
        effects
    }

    /// Lets the lock go for now, unless the campaign counts on it.
    fn unlock(&mut self, now: Now, effects: &mut Effects) {
        let Some(session) = self.session.as_mut().filter(|_| self.adding.is_none()) else { return };
        if !matches!(session.lock, Lock::Free { .. }) {
            session.lock = Lock::Free { retry_at: now.elapsed.plus(self.setup.timing.lock_timeout_ms) };
            effects.tell(Note::Release { owner: session.owner() });
        }
    }

    /// Ends a session that did not come to its end, and says why.
    fn end(&mut self, why: &str, refusal: Option<SyncRefusal>, effects: &mut Effects) {
        let Some(session) = &self.session else { return };
        if let Some(reason) = refusal {
            let refused = PeerMessage::SyncRefused { session: Some(session.id), reason };
            effects.send(&session.peer.address, refused);
        }
        if session.is_open() {
            let (node, sent) = (&session.peer.voter, session.progress.sum());
            effects.announce(format!("{node} has not joined: {why} ({sent})"));
        }
        self.drop_session(effects);
    }

    fn drop_session(&mut self, effects: &mut Effects) {
        let Some(session) = self.session.take() else { return };
        if session.has_pin() {
            effects.storage(StorageRequest::Unpin { session: session.id });
        }
        let is_kept = self.adding.as_ref().is_some_and(|adding| adding.owner == session.owner());
        if !matches!(session.lock, Lock::Free { .. }) && !is_kept {
            effects.tell(Note::Release { owner: session.owner() });
        }
        Self::end_pace(&mut self.pace_ms, effects);
    }

    // Time.

    fn silent_at(&self) -> Option<Millis> {
        self.session.as_ref().map(|session| session.heard_at.plus(self.setup.timing.sync_timeout_ms))
    }

    fn unlock_at(&self) -> Option<Millis> {
        match self.session.as_ref().filter(|_| self.adding.is_none())?.lock {
            Lock::Free { .. } => None,
            Lock::Waiting { until } | Lock::Held { until, .. } => Some(until),
        }
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        let nudge_at = self.adding.as_ref().map(|adding| adding.nudge_at);
        [self.silent_at(), self.unlock_at(), nudge_at].into_iter().flatten().min()
    }

    pub(super) fn tick(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        let is_due = |at: Option<Millis>| at.is_some_and(|at| at <= now.elapsed);
        if is_due(self.silent_at()) {
            self.end("it is silent", Some(SyncRefusal::NoSession), &mut effects);
        }
        if is_due(self.unlock_at()) {
            self.on_lock_late(now, &mut effects);
        }
        if let Some(adding) = self.adding.as_mut().filter(|adding| adding.nudge_at <= now.elapsed) {
            adding.nudge_at = now.elapsed.plus(self.setup.timing.sync_timeout_ms);
            effects.announce(format!("writes wait for the end of the join of {}", adding.peer.voter));
            let reasons = vec![Reason::Unfinished { voter: self.setup.me.voter.clone() }];
            effects.tell(Note::SetOffline { view: adding.view, reasons });
        }
        effects
    }

    /// Writes have waited long enough. What there is goes out as a plain round, and the lock is tried again later.
    fn on_lock_late(&mut self, now: Now, effects: &mut Effects) {
        self.unlock(now, effects);
        let bytes_max = self.setup.limits.chunk_bytes;
        if let Some(session) = self.session.as_mut().filter(|_| self.serving.is_some()) {
            session.ask(Asked::Entries(session.after), bytes_max, effects);
        }
    }
}
