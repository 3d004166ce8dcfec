//! One simulated node: its disk, its process with nine machines and nine queues, and a mirror of what the disk holds.
//!
//! Queues are first in, first out; which one has its turn is drawn. What a step wants done is done piece by piece by the hands of
//! the actor that hosts its machine; whatever is left when somebody else comes between waits for a later turn, and none of that
//! actor's machines is stepped before. A process dies with its queues; the disk stays, less what was not flushed.
//!
//! Not here: when anything happens, and what an effect does (`world.rs`).

use super::checker::Asked;
use super::disk::SimDisk;
use crate::ids::{Address, Attempt, Ballot, Hash, Index, Millis, Now, Peer, RequestId, Timestamp, ViewNumber, WriteId};
use crate::log::Entry;
use crate::machine::{Effect, Effects, Limits, Setup};
use crate::node::Machines;
use crate::route::{self, ActorName, Delivery, Known, MachineName};
use crate::status::NodeStatus;
use crate::storage::{Recovered, Storage, StorageRequest, VoteRecord};
use crate::view::{Seat, View};
use fastrand::Rng;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const MACHINES: usize = MachineName::ALL.len();

/// A client's request at this process.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which call it is of; none of a late copy whose client has long gone.
    pub call: Option<(usize, u32)>,
    /// What was asked, and what was known then.
    pub asked: Asked,
}

/// Who carries out effects, or passes inputs on, one piece after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hands {
    /// Of a step of one of this actor's machines.
    Actor(ActorName),
    /// What the disk says.
    Disk,
    /// Letters of other nodes.
    Letters,
    /// Clients' calls, and what becomes of connections.
    Network,
}

const ACTORS: usize = ActorName::ALL.len();

impl Hands {
    const COUNT: usize = ACTORS + 3;

    fn all() -> impl Iterator<Item = Self> {
        ActorName::ALL.into_iter().map(Self::Actor).chain([Self::Disk, Self::Letters, Self::Network])
    }

    fn place(self) -> usize {
        match self {
            Self::Actor(actor) => actor as usize,
            Self::Disk => ACTORS,
            Self::Letters => ACTORS + 1,
            Self::Network => ACTORS + 2,
        }
    }
}

/// What hands have to do, undivided.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub enum Piece {
    /// What a machine wants done.
    Effect(Effect),
    /// Inputs for one actor's machines.
    Inputs(Vec<Delivery>),
}

/// What had its turn.
#[derive(Debug)]
pub struct Begun {
    /// Whose hands are at work now.
    pub hands: Hands,
    /// The machine that was stepped for it, if one was, and what it heard, if that was asked for.
    pub step: Option<(MachineName, Option<Delivery>)>,
}

/// What one turn was.
#[derive(Debug)]
pub struct Turn {
    /// Whose.
    pub name: MachineName,
    /// What it heard, if that was asked for; none for a tick.
    pub input: Option<Delivery>,
    /// What it wants done.
    pub effects: Effects,
}

/// A living process.
#[derive(Clone, Debug)]
pub struct Process {
    machines: Machines,
    /// Its half of the disk.
    pub storage: Storage<SimDisk>,
    queues: [VecDeque<Delivery>; MACHINES],
    hands: [VecDeque<Piece>; Hands::COUNT],
    /// Until when hands rest. Microseconds.
    rests: [u64; Hands::COUNT],
    /// Where the log stands, by who is to hear it: told with the next input for one of that actor's machines, or before its next tick.
    states: [Vec<Delivery>; ACTORS],
    due: [bool; MACHINES],
    deadlines: [Option<Millis>; MACHINES],
    /// What the disk was asked and has not served.
    pub asks: VecDeque<StorageRequest>,
    /// Whether the disk is at work.
    pub disk_busy: bool,
    /// Whether a turn is on its way.
    pub turn_pending: bool,
    /// For when a wake-up is set. Microseconds.
    pub wake_at: Option<u64>,
    /// What it puts on its letters.
    pub known: Known,
    /// The request that it keeps open, and which opening that was.
    pub watch: Option<(Address, u32)>,
    /// Requests not answered yet.
    pub requests: BTreeMap<RequestId, Request>,
    /// When it started. Microseconds.
    pub born: u64,
    /// The view in which it serves as primary.
    pub serving: Option<ViewNumber>,
}

impl Process {
    /// The machines over what was found on disk.
    #[must_use]
    pub fn new(setup: &Setup, storage: Storage<SimDisk>, recovered: &Recovered, born: u64) -> Self {
        let machines = Machines::new(setup, recovered);
        let deadlines = MachineName::ALL.map(|name| machines.deadline(name));
        Self {
            machines,
            storage,
            queues: std::array::from_fn(|_| VecDeque::new()),
            hands: std::array::from_fn(|_| VecDeque::new()),
            rests: [0; Hands::COUNT],
            states: std::array::from_fn(|_| Vec::new()),
            due: [false; MACHINES],
            deadlines,
            asks: VecDeque::new(),
            disk_busy: false,
            turn_pending: false,
            wake_at: None,
            known: Known { cluster: None, view: ViewNumber(0) },
            watch: None,
            requests: BTreeMap::new(),
            born,
            serving: None,
        }
    }

    /// Puts an input into its machine's queue.
    pub fn queue(&mut self, delivery: Delivery) {
        self.tell_states(ActorName::hosting(delivery.machine()));
        self.queues[delivery.machine() as usize].push_back(delivery);
    }

    /// Keeps the news of where the log stands for the next input; of one machine's, the last counts.
    pub fn keep_states(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let states = &mut self.states[ActorName::hosting(delivery.machine()) as usize];
            states.retain(|earlier| earlier.machine() != delivery.machine());
            states.push(delivery);
        }
    }

    /// True when there were any.
    fn tell_states(&mut self, actor: ActorName) -> bool {
        let states = std::mem::take(&mut self.states[actor as usize]);
        let is_any = !states.is_empty();
        states.into_iter().for_each(|delivery| self.queues[delivery.machine() as usize].push_back(delivery));
        is_any
    }

    /// Has hands pass inputs on, after all else that they have to do.
    pub fn give(&mut self, hands: Hands, deliveries: Vec<Delivery>) {
        let pieces = route::by_actor(deliveries).into_iter().map(|(_, inputs)| Piece::Inputs(inputs));
        self.hands[hands.place()].extend(pieces);
    }

    /// The same, before all else.
    pub fn give_first(&mut self, hands: Hands, deliveries: Vec<Delivery>) {
        for (_, inputs) in route::by_actor(deliveries).into_iter().rev() {
            self.hands[hands.place()].push_front(Piece::Inputs(inputs));
        }
    }

    /// Puts together what was to be passed on one after the other, as of letters that come in one bundle: each actor hears all that is for
    /// it at once.
    pub fn bundle(&mut self, hands: Hands) {
        let mut inputs = Vec::new();
        let pieces = &mut self.hands[hands.place()];
        while let Some(Piece::Inputs(_)) = pieces.front() {
            if let Some(Piece::Inputs(more)) = pieces.pop_front() {
                inputs.extend(more);
            }
        }
        self.give_first(hands, inputs);
    }

    /// Has hands do nothing before this moment.
    pub fn rest(&mut self, hands: Hands, until: u64) {
        self.rests[hands.place()] = until;
    }

    /// What hands do next.
    pub fn next_piece(&mut self, hands: Hands) -> Option<Piece> {
        self.hands[hands.place()].pop_front()
    }

    /// Whether hands have anything left to do.
    #[must_use]
    pub fn has_work(&self, hands: Hands) -> bool {
        !self.hands[hands.place()].is_empty()
    }

    /// Marks the machines whose deadline has come. True when there is any.
    pub fn ring(&mut self, elapsed: Millis) -> bool {
        let mut any = false;
        for (place, deadline) in self.deadlines.iter().enumerate() {
            if deadline.is_some_and(|deadline| deadline <= elapsed) {
                self.due[place] = true;
                any = true;
            }
        }
        any
    }

    /// When a machine wants its tick.
    #[must_use]
    pub fn deadline(&self, name: MachineName) -> Option<Millis> {
        self.deadlines[name as usize]
    }

    /// Marks one machine, whose deadline has come.
    pub fn ring_one(&mut self, name: MachineName) {
        self.due[name as usize] = true;
    }

    /// When the next machine wants its tick, of those that are not due already.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let waiting = self.deadlines.iter().zip(&self.due).filter(|(_, due)| !**due);
        waiting.filter_map(|(deadline, _)| *deadline).min()
    }

    /// Whether any machine, or any hands, have something to do now.
    #[must_use]
    pub fn is_busy(&self, now_us: u64) -> bool {
        (0..MACHINES).any(|place| self.is_ready(place)) || Hands::all().any(|hands| self.has_turn(hands, now_us))
    }

    /// Whether hands have something to do, and do not rest.
    fn has_turn(&self, hands: Hands, now_us: u64) -> bool {
        self.has_work(hands) && self.rests[hands.place()] <= now_us
    }

    /// How many inputs wait in all.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// Gives one machine or pair of hands, drawn among those with something to do, its turn. What a step wants done is its actor's
    /// hands' to do then. `is_told`: with a copy of what a machine heard.
    pub fn turn(&mut self, rng: &mut Rng, now_us: u64, now: Now, is_told: bool) -> Option<Begun> {
        let ready = (0..MACHINES).filter(|place| self.is_ready(*place)).count();
        let busy = Hands::all().filter(|hands| self.has_turn(*hands, now_us)).count();
        if ready + busy == 0 {
            return None;
        }
        let drawn = rng.usize(0..ready + busy);
        if let Some(number) = drawn.checked_sub(ready) {
            let hands = Hands::all().filter(|hands| self.has_turn(*hands, now_us)).nth(number)?;
            return Some(Begun { hands, step: None });
        }
        let place = (0..MACHINES).filter(|place| self.is_ready(*place)).nth(drawn)?;
        let ticks = self.due[place] && (self.queues[place].is_empty() || rng.bool());
        let Turn { name, input, effects } = self.take_turn(place, ticks, now, is_told)?;
        effects.views().for_each(|view| self.known.learn(view));
        let hands = Hands::Actor(ActorName::hosting(name));
        self.hands[hands.place()].extend(effects.into_iter().map(Piece::Effect));
        Some(Begun { hands, step: Some((name, input)) })
    }

    /// Gives the first machine with something to do its turn: its tick, then what waits for it.
    pub fn first_turn(&mut self, now: Now) -> Option<Turn> {
        let place = (0..MACHINES).find(|place| self.is_ready(*place))?;
        self.take_turn(place, self.due[place], now, false)
    }

    /// What the node says of itself.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.machines.status()
    }

    fn is_ready(&self, place: usize) -> bool {
        let hands = Hands::Actor(ActorName::hosting(MachineName::ALL[place]));
        !self.has_work(hands) && (self.due[place] || !self.queues[place].is_empty())
    }

    fn take_turn(&mut self, place: usize, ticks: bool, now: Now, is_told: bool) -> Option<Turn> {
        let name = MachineName::ALL[place];
        let is_told_first = ticks && self.tell_states(ActorName::hosting(name)) && !self.queues[place].is_empty();
        let (input, effects) = if ticks && !is_told_first {
            self.due[place] = false;
            (None, self.machines.tick(now, name))
        } else {
            let delivery = self.queues[place].pop_front()?;
            (is_told.then(|| delivery.clone()), self.machines.step(now, delivery))
        };
        self.deadlines[place] = self.machines.deadline(name);
        Some(Turn { name, input, effects })
    }
}

/// A slot of the log, as the disk holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    index: Index,
    hash: Hash,
    view: ViewNumber,
    attempt: Attempt,
}

/// What a disk holds for certain: told by what it was asked and served, so that letters can be compared with it.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    slots: VecDeque<Slot>,
    /// The last applied entry.
    pub applied: Index,
    /// The vote.
    pub vote: Option<VoteRecord>,
}

/// How many applied slots keep their attempt.
const SLOTS_KEPT: usize = 32;

impl Mirror {
    /// What a restart found.
    #[must_use]
    pub fn recovered(found: &Recovered) -> Self {
        let slot = |record: &crate::log::LogRecord| Slot {
            index: record.entry.index,
            hash: record.entry.hash,
            view: record.view,
            attempt: record.attempt,
        };
        Self { slots: found.tail.iter().map(slot).collect(), applied: found.committed.0, vote: found.vote.clone() }
    }

    /// The disk served this, and flushed it. Says what was applied.
    pub fn served(&mut self, request: &StorageRequest) -> Vec<Arc<Entry>> {
        match request {
            StorageRequest::WriteVote { vote, .. } => self.vote = Some(vote.clone()),
            StorageRequest::WriteLog { record, .. } => {
                self.cut(record.entry.index.before());
                let (index, hash) = (record.entry.index, record.entry.hash);
                self.slots.push_back(Slot { index, hash, view: record.view, attempt: record.attempt });
            }
            StorageRequest::Apply { entry } => {
                self.applied = entry.index;
                return vec![entry.clone()];
            }
            StorageRequest::DropTail => self.cut(self.applied),
            StorageRequest::InstallBegin => *self = Self { vote: self.vote.take(), ..Self::default() },
            StorageRequest::InstallEnd { index, .. } => self.applied = *index,
            StorageRequest::WriteCommitted { entries, .. } => {
                self.cut(self.applied);
                self.applied = entries.last().map_or(self.applied, |entry| entry.index);
                return entries.clone();
            }
            StorageRequest::Locate { .. }
            | StorageRequest::Examine { .. }
            | StorageRequest::Query { .. }
            | StorageRequest::Pin { .. }
            | StorageRequest::ReadChunk { .. }
            | StorageRequest::Unpin { .. }
            | StorageRequest::ReadLog { .. }
            | StorageRequest::InstallChunk { .. } => {}
        }
        Vec::new()
    }

    fn cut(&mut self, last: Index) {
        while self.slots.back().is_some_and(|slot| slot.index > last) {
            self.slots.pop_back();
        }
        while self.slots.len() > SLOTS_KEPT && self.slots.front().is_some_and(|slot| slot.index < self.applied) {
            self.slots.pop_front();
        }
    }

    /// Whether the log holds this entry: what is applied was compared when it was.
    #[must_use]
    pub fn holds(&self, index: Index, hash: Hash) -> bool {
        index <= self.applied || self.slots.iter().any(|slot| slot.index == index && slot.hash == hash)
    }

    /// Whether the slot bears this attempt, or a later one.
    #[must_use]
    pub fn voted(&self, view: ViewNumber, attempt: Attempt, index: Index) -> bool {
        self.slots.iter().any(|slot| slot.index == index && (slot.view, slot.attempt) >= (view, attempt))
    }

    /// The last decided view on this disk.
    #[must_use]
    pub fn view(&self) -> ViewNumber {
        self.vote.as_ref().map_or(ViewNumber(0), |vote| vote.view.number)
    }

    /// Whether the promise of this ballot is on disk.
    #[must_use]
    pub fn promised(&self, view: ViewNumber, ballot: Ballot) -> bool {
        let promised = self.vote.as_ref().map(|vote| (vote.view.number, vote.promised));
        promised.is_some_and(|(number, promised)| number > view || (number == view && promised >= Some(ballot)))
    }

    /// Whether the acceptance of this ballot, or of a higher one, is on disk.
    #[must_use]
    pub fn accepted(&self, view: ViewNumber, ballot: Ballot) -> bool {
        let accepted =
            self.vote.as_ref().map(|vote| (vote.view.number, vote.accepted.as_ref().map(|(ballot, _)| *ballot)));
        accepted.is_some_and(|(number, accepted)| number > view || (number == view && accepted >= Some(ballot)))
    }
}

/// A node, alive or not.
#[derive(Clone, Debug)]
pub struct Node {
    /// Who it is.
    pub me: Peer,
    /// Its disk.
    pub disk: SimDisk,
    /// What the disk holds.
    pub mirror: Mirror,
    /// Its process, when it lives.
    pub process: Option<Box<Process>>,
    /// Counts its processes: what belonged to an earlier one is dropped.
    pub life: u32,
    /// What its wall clock is ahead. Microseconds.
    pub clock_ahead: i64,
    /// How much faster its timers run than they should. Parts in a million.
    pub drift_ppm: i32,
    /// How many times as long its steps, letters and disk take.
    pub slowness: u32,
    /// Which flapping of it is under way: an earlier one has no effect any more.
    pub flapping: u32,
    /// It does not start while this lasts.
    pub is_off: bool,
    /// The longest that a step waits for its turn; none for the weather's.
    pub turn_us: Option<u64>,
    /// The longest that the disk takes; none for the weather's.
    pub disk_us: Option<u64>,
    /// After how many more effects it dies, whether torn, and how long it stays away.
    pub dies: Option<(u32, bool, u64)>,
    /// How many of its vote requests are garbled.
    pub garble: u32,
    /// The last view in which it asked for promises.
    pub campaigned: ViewNumber,
    /// The last view after which it said that it accepted another: it votes on nothing there any more.
    pub left: Option<ViewNumber>,
    /// How long it stays away when its disk fails, as the plan said it will.
    pub disk_away: Option<u64>,
    /// It is not to live again.
    pub gone: bool,
    /// An operator asked for its removal.
    pub unwanted: bool,
    /// It was restarted with other seeds.
    pub is_reseeded: bool,
    /// How often its process ended because it was removed.
    pub retired: u32,
}

impl Node {
    /// A node with an empty disk that has not started.
    #[must_use]
    pub fn new(me: Peer) -> Self {
        Self {
            me,
            disk: SimDisk::new(),
            mirror: Mirror::default(),
            process: None,
            life: 0,
            clock_ahead: 0,
            drift_ppm: 0,
            slowness: 1,
            flapping: 0,
            is_off: false,
            turn_us: None,
            disk_us: None,
            dies: None,
            garble: 0,
            campaigned: ViewNumber(0),
            left: None,
            disk_away: None,
            gone: false,
            unwanted: false,
            is_reseeded: false,
            retired: 0,
        }
    }

    /// Writes a view onto the disk of a node that has not started, as if an earlier run had ended well.
    pub fn know(&self, view: &View, limits: &Limits) {
        let vote = VoteRecord { view: view.clone(), promised: None, accepted: None };
        let request = StorageRequest::WriteVote { write: WriteId(0), vote };
        let opened = Storage::open(self.disk.clone(), self.me.voter.clone(), self.me.incarnation, limits);
        let _events = opened.and_then(|(mut storage, _)| storage.perform(vec![request]));
    }

    /// The same node once more, with a disk of its own.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let mut copy = self.clone();
        copy.disk = self.disk.duplicate();
        if let Some(process) = copy.process.as_mut() {
            *process.storage.kv_mut() = copy.disk.clone();
        }
        copy
    }

    /// Its place in a view.
    #[must_use]
    pub fn seat(&self) -> Seat {
        Seat { incarnation: self.me.incarnation, address: self.me.address.clone() }
    }

    /// Whether it holds data.
    #[must_use]
    pub fn is_data(&self) -> bool {
        self.me.voter.node().is_some()
    }

    /// Both clocks of its process.
    #[must_use]
    pub fn now(&self, run_us: u64) -> Now {
        let born = self.process.as_ref().map_or(run_us, |process| process.born);
        let wall = WALL_AT_START.saturating_add(run_us).saturating_add_signed(self.clock_ahead);
        Now { elapsed: Millis(shown_us(run_us - born, self.drift_ppm) / 1_000), wall: Timestamp(wall) }
    }

    /// The view in which it serves as primary.
    #[must_use]
    pub fn serving(&self) -> Option<ViewNumber> {
        self.process.as_ref().and_then(|process| process.serving)
    }
}

/// What wall clocks show when a run begins.
pub const WALL_AT_START: u64 = 1_700_000_000_000_000;

/// A second of the run, as a timer counts it that is true. Microseconds.
const TRUE_SECOND: i64 = 1_000_000;

/// What a timer shows that runs so much too fast, after so long. Microseconds.
fn shown_us(elapsed_us: u64, drift_ppm: i32) -> u64 {
    let speed = (TRUE_SECOND + i64::from(drift_ppm)).unsigned_abs();
    if drift_ppm == 0 { elapsed_us } else { elapsed_us.saturating_mul(speed) / TRUE_SECOND.unsigned_abs() }
}

/// When the timer of a process that was born then first shows this. Microseconds of the run.
pub(super) fn when_shows(born: u64, deadline: Millis, drift_ppm: i32) -> u64 {
    let wanted = deadline.0.saturating_mul(1_000);
    if drift_ppm == 0 {
        return born.saturating_add(wanted);
    }
    let speed = (TRUE_SECOND + i64::from(drift_ppm)).unsigned_abs();
    born.saturating_add(wanted.saturating_mul(TRUE_SECOND.unsigned_abs()).div_ceil(speed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_drifts_shows_its_deadline_when_it_is_woken_and_not_before() {
        for drift_ppm in [-50_000, -1, 0, 1, 333, 50_000] {
            for deadline in [1, 7, 1_000, 86_400_000] {
                let at = when_shows(5, Millis(deadline), drift_ppm);
                assert!(shown_us(at - 5, drift_ppm) >= deadline * 1_000, "{drift_ppm} {deadline}");
                assert!(shown_us(at - 6, drift_ppm) < deadline * 1_000, "{drift_ppm} {deadline}");
            }
        }
    }
}
