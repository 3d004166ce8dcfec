//! The taking side of a join: a data node that the view does not list becomes one that it does.
//!
//! What keeps a join safe:
//! - Nothing is dropped before a `SyncOk` that answers this very `BeginSync`, in the view that this node knows, from that
//!   view's primary. Any other may be late, and this node may be in a next view by now that counts on what it holds.
//! - After that, only committed entries and a verified snapshot are written, and `Synced` is told before `EndSync` is sent:
//!   from then on this node may find itself listed at any time.
//! - A store that is being installed is not one: until it is whole, only a snapshot will do (`is_scratch`). A view that
//!   listed it then could not be; the node stops.
//!
//! What keeps it going: each letter is repeated until it is answered; a long write is bridged by repeating `BeginSync`; when
//! the giver is silent the others are asked for the view, and after `sync.timeout` it begins again. A node that is set
//! offline soon after it joined waits longer each time.

use super::{SCRATCH_HASH, bytes_of, chunk_checksum};
use crate::ids::{Address, Hash, Index, Millis, Now, Peer, SessionId, Timestamp, ViewNumber, WriteId};
use crate::log::Entry;
use crate::machine::{Effects, Note, Setup};
use crate::member::{Members, Turns};
use crate::message::{Pair, PeerMessage, SyncFrom, SyncRefusal};
use crate::status::{NodeStatus, Role, SyncStatus};
use crate::storage::{Recovered, StorageRequest};
use crate::view::View;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A node that is set offline so soon after it joined flaps. Milliseconds.
const FLAP_MS: u64 = 60_000;
/// The longest wait of a node that flaps. Milliseconds.
const BACKOFF_MAX_MS: u64 = 30_000;
/// Chunks that may be on their way to the disk while the next one is asked for.
const CHUNKS_IN_FLIGHT_MAX: usize = 2;
/// While it writes, it says so so many times in `sync.timeout`.
const SIGNS_OF_LIFE: u64 = 4;
/// After so many `seek_interval`s of the giver's silence the others are asked for the view.
const SILENT_SEEKS: u64 = 2;

/// What a drained node waits for, for people.
const DRAINED: &str = "the end of its drain, or a restart";

/// What a `Chunk` brings.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub cursor: Option<Vec<u8>>,
    pub pairs: Vec<Pair>,
    pub checksum: Hash,
    pub last: bool,
}

/// What `Entries` bring.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    pub after: Index,
    pub entries: Vec<Arc<Entry>>,
    pub last: bool,
}

/// How far a session has come.
#[derive(Clone, Debug)]
enum Phase {
    /// the snapshot comes in chunks.
    Snapshot {
        /// Where it ends.
        target: (Index, Hash),
        /// The last key that was taken.
        cursor: Option<Vec<u8>>,
        /// The next chunk was asked for; else two are being written.
        is_asking: bool,
        in_flight: BTreeSet<WriteId>,
    },
    /// The snapshot is whole, and is being made durable.
    Installing { write: WriteId, target: (Index, Hash) },
    /// the next entries were asked for.
    Asking,
    /// They are being made durable.
    Writing { write: WriteId, end: (Index, Hash), last: bool },
    /// `EndSync` was sent.
    Ending,
}

#[derive(Clone, Debug)]
struct Session {
    id: SessionId,
    giver: Peer,
    /// That of the `BeginSync`, which is repeated as a sign of life.
    nonce: u64,
    phase: Phase,
    began_at: Millis,
    heard_at: Millis,
    /// When the letter that was sent last is sent again.
    repeat_at: Millis,
    /// When the others are asked for the view, if the giver is silent till then.
    seek_at: Millis,
    bytes: u64,
    entries: u64,
}

#[derive(Clone, Debug)]
enum State {
    /// Listed by the view, or knows none, or is a witness.
    Idle,
    /// Asks for a session.
    Seeking { nonce: u64, ask_at: Millis, tries: u64 },
    /// Is in one.
    Taking(Box<Session>),
}

#[derive(Clone, Debug)]
pub(super) struct Taker {
    setup: Setup,
    rng: fastrand::Rng,
    view: Option<Arc<View>>,
    state: State,
    /// What is applied here, and the chain there.
    position: (Index, Hash),
    /// The highest instant that this machine knows of.
    last_timestamp: Timestamp,
    /// Since `SyncOk` this machine moves the position, and the replica only hears of it at the end.
    is_driving: bool,
    /// What is here is of no use: another history, or half a snapshot.
    is_scratch: bool,
    writes: u64,
    /// Whom of the others it asked last for the view.
    asked: Turns,
    joined_at: Option<Millis>,
    flaps: u32,
    /// It is to stay out.
    draining: bool,
    members: Members,
    /// Why it waits, for people.
    obstacle: String,
}

impl Session {
    fn is_writing(&self) -> bool {
        match &self.phase {
            Phase::Snapshot { is_asking, .. } => !is_asking,
            Phase::Installing { .. } | Phase::Writing { .. } => true,
            Phase::Asking | Phase::Ending => false,
        }
    }
}

impl Taker {
    pub(super) fn new(setup: &Setup, recovered: &Recovered, rng: fastrand::Rng) -> Self {
        Self {
            setup: setup.clone(),
            rng,
            view: None,
            state: State::Idle,
            position: recovered.committed,
            last_timestamp: recovered.last_timestamp,
            is_driving: false,
            is_scratch: false,
            writes: 0,
            asked: Turns::default(),
            joined_at: None,
            flaps: 0,
            draining: false,
            members: Members::default(),
            obstacle: String::new(),
        }
    }

    pub(super) fn observe(&self, status: &mut NodeStatus) {
        if self.draining && status.role == Role::Syncing {
            status.role = Role::Drained;
            DRAINED.clone_into(&mut status.waiting_for);
        }
        match &self.state {
            State::Idle => {}
            State::Seeking { .. } => status.waiting_for.clone_from(&self.obstacle),
            State::Taking(session) => {
                let phase = match session.phase {
                    Phase::Snapshot { .. } | Phase::Installing { .. } => "snapshot",
                    Phase::Asking | Phase::Writing { .. } => "entries",
                    Phase::Ending => "ending",
                };
                let Some(node) = self.setup.me.voter.node() else { return };
                status.sync = Some(SyncStatus {
                    session: session.id,
                    node,
                    phase: phase.to_owned(),
                    bytes: session.bytes,
                    bytes_total: 0,
                    index: self.position.0,
                });
            }
        }
    }

    pub(super) fn on_log_position(&mut self, committed: (Index, Hash)) -> Effects {
        if !self.is_driving {
            self.position = committed;
        }
        Effects::none()
    }

    /// Its log and its vote still count while the view lists it: nothing happens before the view leaves it out.
    pub(super) fn on_diverged(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        if matches!(&self.state, State::Taking(session) if matches!(session.phase, Phase::Snapshot { .. } | Phase::Installing { .. }))
        {
            return effects; // It does so already.
        }
        self.is_scratch = true;
        if !matches!(self.state, State::Idle) {
            self.seek(now, 0, "its history is not the primary's: it joins from scratch", &mut effects);
        }
        effects
    }

    // Views.

    pub(super) fn on_view(&mut self, now: Now, view: &Arc<View>) -> Effects {
        let mut effects = Effects::none();
        let is_news = self.view.as_ref().is_none_or(|known| known.number < view.number);
        if !is_news || self.setup.me.voter.node().is_none() {
            return effects;
        }
        self.view = Some(view.clone());
        if view.lists_replica(&self.setup.me) {
            self.on_listed(now, view.number, &mut effects);
        } else if self.draining {
            self.stay_out(&mut effects);
        } else if !self.is_given_by_primary(view) {
            let delay_ms = self.backoff_ms(now);
            let reason = format!("not listed in view {}", view.number);
            self.seek(now, delay_ms, &reason, &mut effects);
        }
        effects
    }

    /// the session goes on when another view of the same primary was decided.
    fn is_given_by_primary(&self, view: &View) -> bool {
        matches!(&self.state, State::Taking(session) if view.is_primary(&session.giver))
    }

    fn on_listed(&mut self, now: Now, view: ViewNumber, effects: &mut Effects) {
        if self.is_driving && self.is_scratch {
            return effects.halt(format!("view {view} lists this node, whose store is not whole"));
        }
        if !matches!(self.state, State::Idle) {
            self.joined_at = Some(now.elapsed);
            effects.announce(format!("joined in view {view}, at entry {}", self.position.0));
        }
        self.is_driving = false;
        self.state = State::Idle;
    }

    /// longer each time that it was set offline soon after it had joined.
    fn backoff_ms(&mut self, now: Now) -> u64 {
        let Some(joined_at) = self.joined_at.take() else { return 0 };
        if now.elapsed.since(joined_at) >= FLAP_MS {
            self.flaps = 0;
            return 0;
        }
        self.flaps = self.flaps.saturating_add(1);
        let factor = 1_u64.checked_shl(self.flaps).unwrap_or(u64::MAX);
        self.setup.timing.seek_interval_ms.saturating_mul(factor).min(BACKOFF_MAX_MS)
    }

    //

    pub(super) fn on_draining(&mut self, now: Now, on: bool) -> Effects {
        let mut effects = Effects::none();
        let is_listed = self.view.as_ref().is_none_or(|view| view.lists_replica(&self.setup.me));
        if self.setup.me.voter.node().is_none() || std::mem::replace(&mut self.draining, on) == on || is_listed {
            return effects;
        }
        match on {
            true => self.stay_out(&mut effects),
            false => self.seek(now, 0, "the drain has ended", &mut effects),
        }
        effects
    }

    /// A session that is under way is left: its giver finds it silent.
    fn stay_out(&mut self, effects: &mut Effects) {
        self.state = State::Idle;
        self.say("drained: stays out of the view".to_owned(), effects);
    }

    // asking for a session.

    /// From now on an answer to anything asked before does not count.
    fn seek(&mut self, now: Now, delay_ms: u64, why: &str, effects: &mut Effects) {
        self.state = State::Seeking { nonce: self.rng.u64(..), ask_at: now.elapsed.plus(delay_ms), tries: 0 };
        let wait = if delay_ms > 0 { format!(", in {delay_ms} ms") } else { String::new() };
        self.say(format!("{why}: asks to join{wait}"), effects);
        if delay_ms == 0 {
            self.ask_to_join(now, effects);
        }
    }

    /// One line to people whenever it changes.
    fn say(&mut self, obstacle: String, effects: &mut Effects) {
        if self.obstacle != obstacle {
            effects.announce(obstacle.clone());
            self.obstacle = obstacle;
        }
    }

    /// What it can build on; a hash that no chain has when there is nothing.
    fn base(&self) -> (Index, Hash) {
        if self.is_scratch { (Index(0), SCRATCH_HASH) } else { self.position }
    }

    /// The primary is asked first. When it does not answer, the others are asked, one after the other, whether there is a
    /// later view: only the primary of the view that this node knows can let it in.
    fn ask_to_join(&mut self, now: Now, effects: &mut Effects) {
        let (commit_index, hash) = self.base();
        let State::Seeking { nonce, ask_at, tries } = &mut self.state else { return };
        *ask_at = now.elapsed.plus(self.setup.timing.seek_interval_ms);
        *tries += 1;
        let is_first = *tries == 1;
        let primary = self.view.as_ref().and_then(|view| view.primary_peer()).map(|peer| peer.address);
        if let Some(primary) = primary.filter(|address| *address != self.setup.me.address) {
            effects.send(&primary, PeerMessage::BeginSync { nonce: *nonce, commit_index, hash });
        }
        if !is_first {
            self.ask_for_view(None, effects);
        }
    }

    pub(super) fn on_members(&mut self, members: Members) {
        self.members = members;
    }

    /// The next of all replicas of the last view, all seeds and all data nodes that were ever listed and not removed, less one that
    /// has just refused: asked again at once, it would be asked without end.
    fn ask_for_view(&mut self, except: Option<&Address>, effects: &mut Effects) {
        let replicas =
            self.view.iter().flat_map(|view| view.replica_peers().map(|peer| peer.address).collect::<Vec<_>>());
        let members = self.members.data_addresses();
        let all = replicas.chain(self.setup.seeds.iter().cloned()).chain(members);
        let is_other = |address: &Address| *address != self.setup.me.address && Some(address) != except;
        if let Some(address) = self.asked.next(&all.filter(is_other).collect()) {
            effects.send(&address, PeerMessage::AskView);
        }
    }

    pub(super) fn on_refused(&mut self, now: Now, from: &Peer, id: Option<SessionId>, reason: SyncRefusal) -> Effects {
        let mut effects = Effects::none();
        let why = match reason {
            SyncRefusal::Busy => "another node is joining",
            SyncRefusal::Listed => "the view lists this id, under another data directory or not yet set offline",
            SyncRefusal::NotPrimary => "it does not serve as primary",
            SyncRefusal::NoSession => "the session has ended",
        };
        let why = format!("{} says: {why}", from.voter);
        match &self.state {
            State::Idle => {}
            State::Seeking { .. } => self.say(why, &mut effects), // It asks again in a while anyway.
            State::Taking(session) if Some(session.id) == id && session.giver == *from => {
                self.seek(now, self.setup.timing.seek_interval_ms, &why, &mut effects);
            }
            State::Taking(_) => {} // Late.
        }
        effects
    }

    pub(super) fn on_sync_ok(
        &mut self,
        now: Now,
        from: Peer,
        answered: u64,
        view: ViewNumber,
        (id, start): (SessionId, SyncFrom),
    ) -> Effects {
        let mut effects = Effects::none();
        let State::Seeking { nonce, .. } = &self.state else { return effects };
        let is_primary = self.view.as_ref().is_some_and(|known| known.number == view && known.is_primary(&from));
        if *nonce != answered || !is_primary {
            return effects;
        }
        let is_usable = match start {
            SyncFrom::Log(index) => !self.is_scratch && index <= self.position.0,
            SyncFrom::Snapshot { .. } => true,
        };
        if !is_usable {
            self.seek(now, 0, "what was offered does not fit any more", &mut effects);
            return effects;
        }
        self.begin(now, from, answered, (id, start), &mut effects);
        effects
    }

    /// Here, and nowhere else, something is dropped.
    fn begin(&mut self, now: Now, giver: Peer, nonce: u64, (id, start): (SessionId, SyncFrom), effects: &mut Effects) {
        effects.tell(Note::SyncBegan { from: start });
        self.is_driving = true;
        self.obstacle.clear();
        let phase = match start {
            SyncFrom::Log(_) => {
                effects.announce(format!("{} sends the entries after {}", giver.voter, self.position.0));
                effects.storage(StorageRequest::DropTail);
                Phase::Asking
            }
            SyncFrom::Snapshot { index, hash, last_timestamp } => {
                effects.announce(format!("{} sends a snapshot at entry {index}", giver.voter));
                effects.storage(StorageRequest::InstallBegin);
                self.is_scratch = true;
                self.position = (Index(0), Hash::default());
                self.last_timestamp = last_timestamp;
                let target = (index, hash);
                Phase::Snapshot { target, cursor: None, is_asking: true, in_flight: BTreeSet::new() }
            }
        };
        self.state = State::Taking(Box::new(Session {
            id,
            giver,
            nonce,
            phase,
            began_at: now.elapsed,
            heard_at: now.elapsed,
            repeat_at: now.elapsed,
            seek_at: now.elapsed.plus(self.setup.timing.seek_interval_ms * SILENT_SEEKS),
            bytes: 0,
            entries: 0,
        }));
        self.send_again(now, effects);
    }

    // In a session.

    fn session(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Taking(session) => Some(session),
            State::Idle | State::Seeking { .. } => None,
        }
    }

    fn heard(&mut self, now: Now, from: &Peer, id: SessionId) -> Option<&mut Session> {
        let session = self.session().filter(|session| session.id == id && session.giver == *from)?;
        session.heard_at = now.elapsed;
        Some(session)
    }

    /// Sends what the phase asks for; a sign of life while it writes.
    fn send_again(&mut self, now: Now, effects: &mut Effects) {
        let (position, base) = (self.position, self.base());
        let (resend_ms, sign_ms) = (self.setup.timing.resend_ms, self.setup.timing.sync_timeout_ms / SIGNS_OF_LIFE);
        let Some(session) = self.session() else { return };
        let is_writing = session.is_writing();
        session.repeat_at = now.elapsed.plus(if is_writing { sign_ms } else { resend_ms });
        let id = session.id;
        let letter = match &session.phase {
            Phase::Snapshot { cursor, is_asking: true, .. } => {
                PeerMessage::GiveMeAllData { session: id, cursor: cursor.clone() }
            }
            Phase::Asking => PeerMessage::GiveEntries { session: id, after: position.0 },
            Phase::Ending => PeerMessage::EndSync { session: id, index: position.0, hash: position.1 },
            Phase::Snapshot { is_asking: false, .. } | Phase::Installing { .. } | Phase::Writing { .. } => {
                PeerMessage::BeginSync { nonce: session.nonce, commit_index: base.0, hash: base.1 }
            }
        };
        effects.send(&session.giver.address, letter);
    }

    /// It writes now: the next sign of life comes in a while.
    fn set_phase(&mut self, now: Now, phase: Phase) {
        let sign_ms = self.setup.timing.sync_timeout_ms / SIGNS_OF_LIFE;
        if let Some(session) = self.session() {
            session.phase = phase;
            if session.is_writing() {
                session.repeat_at = now.elapsed.plus(sign_ms);
            }
        }
    }

    fn next_write(&mut self) -> WriteId {
        self.writes += 1;
        WriteId(self.writes)
    }

    pub(super) fn on_chunk(&mut self, now: Now, from: &Peer, id: SessionId, chunk: Chunk) -> Effects {
        let mut effects = Effects::none();
        let write = self.next_write();
        let sign_ms = self.setup.timing.sync_timeout_ms / SIGNS_OF_LIFE;
        let Some(session) = self.heard(now, from, id) else { return effects };
        let Phase::Snapshot { target, cursor, is_asking, in_flight } = &mut session.phase else { return effects };
        if !*is_asking || *cursor != chunk.cursor {
            return effects; // Repeated, or overtaken.
        }
        if !is_sound(&chunk) {
            effects.announce(format!("a chunk from {} is broken: asks for it again", from.voter));
            return effects;
        }
        let target = *target;
        session.bytes += bytes_of(&chunk.pairs);
        if let Some((key, _)) = chunk.pairs.last() {
            *cursor = Some(key.clone());
        }
        in_flight.insert(write);
        *is_asking = !chunk.last && in_flight.len() < CHUNKS_IN_FLIGHT_MAX;
        let is_asking = *is_asking;
        session.repeat_at = now.elapsed.plus(sign_ms);
        effects.storage(StorageRequest::InstallChunk { write, pairs: chunk.pairs });
        if chunk.last {
            let write = self.next_write();
            effects.storage(StorageRequest::InstallEnd { write, index: target.0, hash: target.1 });
            self.set_phase(now, Phase::Installing { write, target });
        } else if is_asking {
            self.send_again(now, &mut effects);
        }
        effects
    }

    pub(super) fn on_durable(&mut self, now: Now, durable: WriteId) -> Effects {
        let mut effects = Effects::none();
        let Some(session) = self.session() else { return effects };
        match &mut session.phase {
            Phase::Snapshot { is_asking, in_flight, .. } => {
                in_flight.retain(|write| *write > durable);
                session.heard_at = now.elapsed;
                if !*is_asking && in_flight.len() < CHUNKS_IN_FLIGHT_MAX {
                    *is_asking = true;
                    self.send_again(now, &mut effects);
                }
            }
            Phase::Installing { write, target } if *write == durable => {
                let (index, hash) = *target;
                session.heard_at = now.elapsed;
                self.position = (index, hash);
                self.is_scratch = false;
                self.set_phase(now, Phase::Asking);
                effects.announce(format!("the snapshot at entry {index} is installed"));
                self.send_again(now, &mut effects);
            }
            Phase::Writing { write, end, last } if *write == durable => {
                let (end, last) = (*end, *last);
                session.heard_at = now.elapsed;
                self.position = end;
                if last {
                    self.end(now, &mut effects);
                } else {
                    self.set_phase(now, Phase::Asking);
                    self.send_again(now, &mut effects);
                }
            }
            // A chunk's, or an earlier session's.
            Phase::Installing { .. } | Phase::Asking | Phase::Writing { .. } | Phase::Ending => {}
        }
        effects
    }

    /// What was written does not fit: the snapshot is not what it should be, or the entries do not follow what is applied.
    pub(super) fn on_mismatch(&mut self, now: Now, failed: WriteId) -> Effects {
        let mut effects = Effects::none();
        let delay_ms = self.setup.timing.seek_interval_ms;
        match self.session().map(|session| &session.phase) {
            Some(Phase::Installing { write, .. }) if *write == failed => {
                self.seek(now, delay_ms, "the snapshot did not end where it should", &mut effects);
            }
            Some(Phase::Writing { write, .. }) if *write == failed => {
                self.is_scratch = true;
                self.seek(now, delay_ms, "the primary's entries do not follow those here", &mut effects);
            }
            Some(
                Phase::Snapshot { .. }
                | Phase::Installing { .. }
                | Phase::Asking
                | Phase::Writing { .. }
                | Phase::Ending,
            )
            | None => {} // An earlier session's.
        }
        effects
    }

    /// In `Ending` too: the lock was let go, or the view has changed, and R-20 is repeated.
    pub(super) fn on_entries(&mut self, now: Now, from: &Peer, id: SessionId, given: Entries) -> Effects {
        let mut effects = Effects::none();
        let position = self.position;
        let Some(session) = self.heard(now, from, id) else { return effects };
        let is_ending = matches!(session.phase, Phase::Ending);
        let is_expected = (is_ending || matches!(session.phase, Phase::Asking)) && given.after == position.0;
        if !is_expected || !given.entries.iter().all(|entry| entry.is_intact()) {
            return effects; // Repeated, overtaken, or broken: what is missing is asked for again.
        }
        let Some(end) = end_of_chain(position, &given.entries) else {
            self.is_scratch = true;
            let delay_ms = self.setup.timing.seek_interval_ms;
            self.seek(now, delay_ms, "the primary's entries do not follow those here", &mut effects);
            return effects;
        };
        if given.entries.is_empty() {
            match (given.last, is_ending) {
                (true, true) => self.send_again(now, &mut effects), // Under another lock perhaps; nothing new to tell here.
                (true, false) => self.end(now, &mut effects),
                (false, _) => {}
            }
            return effects;
        }
        session.entries += given.entries.len() as u64;
        let latest = given.entries.iter().filter_map(|entry| entry.last_timestamp()).max();
        self.last_timestamp = self.last_timestamp.max(latest.unwrap_or_default());
        let write = self.next_write();
        effects.storage(StorageRequest::WriteCommitted { write, entries: given.entries });
        self.set_phase(now, Phase::Writing { write, end, last: given.last });
        effects
    }

    /// The replica hears first: as soon as `EndSync` is out, a view may list this node, and it must be ready to vote.
    fn end(&mut self, now: Now, effects: &mut Effects) {
        assert!(!self.is_scratch, "a node that holds nothing is no replica");
        let (index, hash) = self.position;
        effects.tell(Note::Synced { index, hash, last_timestamp: self.last_timestamp });
        if let Some(session) = self.session() {
            let took = now.elapsed.since(session.began_at);
            let (bytes, entries) = (session.bytes, session.entries);
            effects.announce(format!("all up to {index} is durable after {took} ms: {bytes} bytes, {entries} entries"));
        }
        self.set_phase(now, Phase::Ending);
        self.send_again(now, effects);
    }

    // Time.

    /// Whoever refuses a connection may be dead, and another one lead.
    pub(super) fn on_unreachable(&mut self, address: &Address) -> Effects {
        let mut effects = Effects::none();
        let asked = match &self.state {
            State::Idle => None,
            State::Seeking { .. } => self.view.as_ref().and_then(|view| view.primary_peer()).map(|peer| peer.address),
            State::Taking(session) => Some(session.giver.address.clone()),
        };
        if asked.as_ref() == Some(address) {
            self.ask_for_view(Some(address), &mut effects);
        }
        effects
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        match &self.state {
            State::Idle => None,
            State::Seeking { ask_at, .. } => Some(*ask_at),
            State::Taking(session) => Some(self.silent_at(session).min(session.repeat_at).min(session.seek_at)),
        }
    }

    /// A giver is not silent while this node has nothing to ask.
    fn silent_at(&self, session: &Session) -> Millis {
        if session.is_writing() { Millis(u64::MAX) } else { session.heard_at.plus(self.setup.timing.sync_timeout_ms) }
    }

    pub(super) fn tick(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        match &self.state {
            State::Idle => {}
            State::Seeking { ask_at, .. } => {
                if *ask_at <= now.elapsed {
                    self.ask_to_join(now, &mut effects);
                }
            }
            State::Taking(session) => {
                if self.silent_at(session) <= now.elapsed {
                    let why = format!("{} is silent", session.giver.voter);
                    self.seek(now, 0, &why, &mut effects);
                    return effects;
                }
                if session.repeat_at <= now.elapsed {
                    self.send_again(now, &mut effects);
                }
                self.seek_when_silent(now, &mut effects);
            }
        }
        effects
    }

    fn seek_when_silent(&mut self, now: Now, effects: &mut Effects) {
        let interval = self.setup.timing.seek_interval_ms;
        let Some(session) = self.session().filter(|session| session.seek_at <= now.elapsed) else { return };
        let heard_at = if session.is_writing() { now.elapsed } else { session.heard_at };
        let silent_at = heard_at.plus(interval * SILENT_SEEKS);
        if silent_at > now.elapsed {
            session.seek_at = silent_at;
        } else {
            session.seek_at = now.elapsed.plus(interval);
            self.ask_for_view(None, effects);
        }
    }
}

/// Whether a chunk is what was sent, and brings the copy nearer: keys go up, from its cursor.
fn is_sound(chunk: &Chunk) -> bool {
    let keys: Vec<_> = chunk.cursor.iter().chain(chunk.pairs.iter().map(|(key, _)| key)).collect();
    let is_ascending = keys.windows(2).all(|pair| pair[0] < pair[1]);
    chunk.checksum == chunk_checksum(&chunk.pairs) && is_ascending && (chunk.last || !chunk.pairs.is_empty())
}

/// Where the chain ends with these entries; none when they do not follow.
fn end_of_chain(start: (Index, Hash), entries: &[Arc<Entry>]) -> Option<(Index, Hash)> {
    entries.iter().try_fold(start, |(index, hash), entry| {
        (entry.index == index.next() && entry.prev_hash == hash).then_some((entry.index, entry.hash))
    })
}
