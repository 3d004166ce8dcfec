//! A cluster in hand: the shipped machines, and nothing happens until whoever holds the stage says so.
//!
//! He delivers letters, lets time go by, kills, starts and wipes. One action runs the machines of one node until they have
//! nothing more to do, in a fixed order, with the disk served whenever they are idle; what they send is his. All promises
//! that the simulator watches are watched here too, at every action.
//!
//! Not here: when anything happens (golden scripts, the model), chance (`world.rs`), and what must hold (`checker.rs`,
//! `observe.rs`).

use super::checker::{Asked, Checker};
use super::node::{Mirror, Node, Process, Request};
use super::observe::Observer;
use crate::change::{Cause, Reason};
use crate::ids::{Address, ClusterId, Incarnation, Millis, NodeId, Peer, RequestId, Timestamp, ViewNumber, Voter};
use crate::invariant::{Checked, Rule, Violation, require};
use crate::lock::{LockOwner, Mode, Resource};
use crate::machine::{Effect, Limits, Note, Setup, Timing};
use crate::message::{Envelope, PROTOCOL_VERSION, PeerMessage};
use crate::operation::{Answer, ChannelName, Operation, Query};
use crate::operator::OperatorCall;
use crate::route::{self, MachineName};
use crate::storage::{Storage, StorageEvent, StorageRequest};
use crate::view::View;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A letter on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Counts letters.
    pub number: u64,
    /// Who sent it.
    pub from: usize,
    /// Which of its processes.
    pub life: u32,
    /// To whom.
    pub to: usize,
    /// What.
    pub envelope: Envelope,
}

/// Something that a node did, as others or its disk can see it.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// It sent a letter, not to itself.
    Sent(Letter),
    /// It refused a letter unread.
    Refused(String),
    /// Its disk served this, and it is flushed unless it is an `Apply`.
    Served(StorageRequest),
    /// It acts in this view.
    Acts(Arc<View>),
    /// It serves as primary.
    Serves(ViewNumber),
    /// It serves no more, or could not.
    Stops(ViewNumber),
    /// It answered a request.
    Answered(RequestId, Answer),
    /// It ended: its disk was removed for good, or its disk failed.
    Ended(String),
    /// It ended: something cannot be.
    Halted(String),
}

/// The cluster. Nodes are places in the list that it was made from.
#[derive(Debug)]
pub struct Stage {
    nodes: Vec<Node>,
    /// Whose disk hangs at the next write.
    held_disks: Vec<bool>,
    timing: Timing,
    limits: Limits,
    seeds: Vec<Address>,
    checker: Checker,
    /// Microseconds.
    now: u64,
    letters: Vec<Letter>,
    happened: Vec<(usize, Happening)>,
    last_letter: u64,
    last_request: u64,
}

/// Holds locks that no machine asked for.
const STRANGER: LockOwner = LockOwner::Read(RequestId(u64::MAX));

/// More turns than any action needs: then a node tells itself the same for ever.
const TURNS_MAX: u32 = 20_000;

impl Stage {
    /// Nodes with empty disks, none of which has started. `seeds`: how many of the first are seeds.
    #[must_use]
    pub fn new(peers: Vec<Peer>, seeds: usize, timing: Timing, limits: Limits) -> Self {
        let mut addresses: Vec<Address> = peers.iter().take(seeds).map(|peer| peer.address.clone()).collect();
        addresses.sort();
        Self {
            held_disks: vec![false; peers.len()],
            nodes: peers.into_iter().map(Node::new).collect(),
            timing,
            limits,
            seeds: addresses,
            checker: Checker::default(),
            now: 0,
            letters: Vec::new(),
            happened: Vec::new(),
            last_letter: 0,
            last_request: 0,
        }
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Microseconds since the beginning.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// What was asked, decided and answered.
    #[must_use]
    pub fn checker(&self) -> &Checker {
        &self.checker
    }

    /// The id of the next request.
    #[must_use]
    pub fn next_request(&self) -> RequestId {
        RequestId(self.last_request + 1)
    }

    /// Asks a living node's disk something, past its machines; only what changes nothing.
    ///
    /// # Errors
    /// When the node is dead, or its disk fails.
    pub fn ask_disk(&mut self, node: usize, requests: Vec<StorageRequest>) -> Result<Vec<StorageEvent>, String> {
        let process = self.nodes[node].process.as_mut().ok_or("the node is dead")?;
        process.storage.perform(requests).map_err(|error| error.to_string())
    }

    /// The letters sent since this was called last, in order.
    pub fn take_letters(&mut self) -> Vec<Letter> {
        std::mem::take(&mut self.letters)
    }

    /// What happened since this was called last, in order.
    pub fn take_happened(&mut self) -> Vec<(usize, Happening)> {
        std::mem::take(&mut self.happened)
    }

    /// Writes view 1 onto the disks of the first so many, which it lists, as if an earlier run had ended well. Says who is its
    /// primary: the highest; none when there is no data node among them.
    pub fn found(&mut self, count: usize) -> Option<NodeId> {
        let (mut replicas, mut witnesses) = (BTreeMap::new(), BTreeMap::new());
        for node in &self.nodes[..count] {
            match &node.me.voter {
                Voter::Replica(id) => drop(replicas.insert(*id, node.seat())),
                Voter::Witness(name) => drop(witnesses.insert(name.clone(), node.seat())),
            }
        }
        let primary = *replicas.keys().next_back()?;
        let cause = Cause::new(Timestamp(0), primary, vec![Reason::Founded]).into();
        let view = View { cluster: ClusterId(1), number: ViewNumber(1), primary, replicas, witnesses, cause };
        self.nodes[..count].iter().for_each(|node| node.know(&view, &self.limits));
        Some(primary)
    }

    /// The same cluster once more, with disks of its own.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            nodes: self.nodes.iter().map(Node::duplicate).collect(),
            held_disks: self.held_disks.clone(),
            timing: self.timing.clone(),
            limits: self.limits.clone(),
            seeds: self.seeds.clone(),
            checker: self.checker.clone(),
            now: self.now,
            letters: self.letters.clone(),
            happened: self.happened.clone(),
            last_letter: self.last_letter,
            last_request: self.last_request,
        }
    }

    /// Writes down all that the future of one node depends on, but for the clock: its machines, and its disk.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_node(&self, node: usize, to: &mut dyn fmt::Write) -> fmt::Result {
        write!(to, "{:?} {}", self.nodes[node], self.held_disks[node])
    }

    /// Writes down the clock, and all that was promised.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_record(&self, to: &mut dyn fmt::Write) -> fmt::Result {
        write!(to, "{} {:?}", self.now, self.checker)
    }

    /// A process starts, unless it lives.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn start(&mut self, node: usize) -> Checked {
        let known = &self.nodes[node];
        if known.process.is_some() {
            return Ok(());
        }
        let opened = Storage::open(known.disk.clone(), known.me.voter.clone(), known.me.incarnation, &self.limits);
        let (storage, recovered) =
            opened.map_err(|error| Violation::new(Rule::Stopped, format!("{}: {error}", known.me.voter)))?;
        let setup = Setup {
            me: known.me.clone(),
            seeds: self.seeds.clone(),
            timing: self.timing.clone(),
            limits: self.limits.clone(),
            seed: 1 + node as u64 + (u64::from(known.life) << 8),
        };
        self.observer().recovered(node, &recovered)?;
        let mut process = Process::new(&setup, storage, &recovered, self.now);
        process.ring(Millis(0));
        self.nodes[node].process = Some(Box::new(process));
        self.settle(node)
    }

    /// Power loss: the process dies, and its disk keeps what was flushed. Nobody hears of it.
    pub fn kill(&mut self, node: usize) {
        let known = &mut self.nodes[node];
        if known.process.take().is_some() {
            known.life += 1;
            known.disk.crash_keeping(0);
            self.held_disks[node] = false;
        }
    }

    /// A new, empty disk in the place of that of a dead node: another voter under the old name.
    pub fn wipe(&mut self, node: usize) {
        let known = &mut self.nodes[node];
        known.disk.wipe();
        known.mirror = Mirror::default();
        known.me.incarnation = Incarnation(known.me.incarnation.0 + 1_000);
        known.left = None;
    }

    /// Those who keep a request open at this node learn that it ended, as when its kernel closes it.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn end_watches(&mut self, target: usize) -> Checked {
        let address = self.nodes[target].me.address.clone();
        for node in 0..self.nodes.len() {
            let Some(process) = self.nodes[node].process.as_mut() else { continue };
            if process.watch.as_ref().is_some_and(|(watched, _)| *watched == address) {
                process.watch = None;
                self.hear(node, route::watch_ended(&address))?;
            }
        }
        Ok(())
    }

    /// A letter arrives. To a dead process it is lost.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn deliver(&mut self, letter: Letter) -> Checked {
        let node = letter.to;
        self.open(node, letter.envelope);
        self.settle(node)
    }

    /// A node hears that the connection to that one was refused or reset.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn refuse(&mut self, node: usize, target: usize) -> Checked {
        let address = self.nodes[target].me.address.clone();
        self.hear(node, route::unreachable(&address))
    }

    /// A client's write reaches a node.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn write(&mut self, node: usize, operation: Operation) -> Result<RequestId, Violation> {
        let asked = self.checker.write_came(&operation, false);
        self.ask(node, asked, |id| route::submit(id, operation))
    }

    /// A client's query reaches a node.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn read(&mut self, node: usize, query: Query) -> Result<RequestId, Violation> {
        let asked = self.checker.read_came(&query);
        self.ask(node, asked, |id| route::query(id, query))
    }

    /// An operator's call reaches a node.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn operate(&mut self, node: usize, call: OperatorCall) -> Result<RequestId, Violation> {
        self.ask(node, Asked::Operator(call.clone()), |id| route::operator(id, call))
    }

    fn ask(
        &mut self,
        node: usize,
        asked: Asked,
        delivery: impl FnOnce(RequestId) -> route::Delivery,
    ) -> Result<RequestId, Violation> {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.requests.insert(id, Request { call: None, asked });
        }
        self.hear(node, vec![delivery(id)])?;
        Ok(id)
    }

    /// The process is asked to stop: a primary hands over.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn stop(&mut self, node: usize) -> Checked {
        self.hear(node, route::note(Note::HandOver { to: None }))
    }

    /// Somebody takes the lock of a channel at a node, or lets go of it.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn lock(&mut self, node: usize, channel: ChannelName, is_held: bool) -> Checked {
        let owner = STRANGER;
        let locks = vec![(Resource::Store, Mode::IntentExclusive), (Resource::Channel(channel), Mode::Exclusive)];
        let note = if is_held { Note::Acquire { owner, locks } } else { Note::Release { owner } };
        self.hear(node, route::note(note))
    }

    /// Whether a disk hangs at the next write, and at all that is asked after it. What waits is served when it does not any more.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn hold_disk(&mut self, node: usize, is_held: bool) -> Checked {
        self.held_disks[node] = is_held;
        self.settle(node)
    }

    /// The disk fails at its next write.
    pub fn break_disk(&mut self, node: usize) {
        self.nodes[node].disk.fail_next(super::disk::Fault::Write);
    }

    /// The wall clock of a node is so much ahead. Microseconds.
    pub fn set_clock(&mut self, node: usize, ahead: i64) {
        self.nodes[node].clock_ahead = ahead;
    }

    /// When the next machine wants its tick, and at which node. Microseconds.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(u64, usize)> {
        let deadline = |(place, node): (usize, &Node)| {
            let process = node.process.as_ref()?;
            process.next_deadline().map(|at| ((process.born + at.0 * 1_000).max(self.now), place))
        };
        self.nodes.iter().enumerate().filter_map(deadline).min()
    }

    /// Time goes on; no machine is ticked for it.
    pub fn advance(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// Every machine of a node whose deadline has come is ticked.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn tick(&mut self, node: usize) -> Checked {
        let elapsed = self.nodes[node].now(self.now).elapsed;
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.ring(elapsed);
        }
        self.settle(node)
    }

    /// One machine's deadline comes, before others that are earlier: those are late. False when it has none.
    ///
    /// # Errors
    /// The promise that this broke.
    pub fn fire(&mut self, node: usize, name: MachineName) -> Result<bool, Violation> {
        let Some(process) = self.nodes[node].process.as_mut() else { return Ok(false) };
        let Some(deadline) = process.deadline(name) else { return Ok(false) };
        process.ring_one(name);
        self.now = self.now.max(process.born + deadline.0 * 1_000);
        self.settle(node)?;
        Ok(true)
    }

    fn hear(&mut self, node: usize, deliveries: Vec<route::Delivery>) -> Checked {
        if let Some(process) = self.nodes[node].process.as_mut() {
            deliveries.into_iter().for_each(|delivery| process.queue(delivery));
        }
        self.settle(node)
    }

    fn open(&mut self, node: usize, envelope: Envelope) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        match route::letter(&process.known, envelope) {
            Ok(deliveries) => deliveries.into_iter().for_each(|delivery| process.queue(delivery)),
            Err(why) => self.happened.push((node, Happening::Refused(why.to_string()))),
        }
    }

    /// Runs a node until it waits for others.
    fn settle(&mut self, node: usize) -> Checked {
        for _ in 0..TURNS_MAX {
            let now = self.nodes[node].now(self.now);
            let Some(process) = self.nodes[node].process.as_mut() else { return Ok(()) };
            if let Some(turn) = process.first_turn(now) {
                for effect in turn.effects {
                    self.perform(node, effect)?;
                }
            } else {
                let served = process.asks.iter().take_while(|ask| !self.held_disks[node] || only_reads(ask)).count();
                if served == 0 {
                    return Ok(());
                }
                self.serve(node, served)?;
            }
        }
        Err(Violation::new(Rule::Liveness, "a node tells itself the same for ever"))
    }

    fn serve(&mut self, node: usize, count: usize) -> Checked {
        let Some(process) = self.nodes[node].process.as_mut() else { return Ok(()) };
        let asked: Vec<_> = process.asks.drain(..count).collect();
        match process.storage.perform(asked.clone()) {
            Ok(events) => {
                events.into_iter().flat_map(route::storage).for_each(|delivery| process.queue(delivery));
                self.observer().served(node, &asked)?;
                self.happened.extend(asked.into_iter().map(|request| (node, Happening::Served(request))));
            }
            Err(error) => self.end(node, Happening::Ended(error.to_string())),
        }
        Ok(())
    }

    fn end(&mut self, node: usize, how: Happening) {
        self.happened.push((node, how));
        self.kill(node);
    }

    fn perform(&mut self, node: usize, effect: Effect) -> Checked {
        if self.nodes[node].process.is_none() {
            return Ok(()); // It ended in the middle of its turn.
        }
        match effect {
            Effect::Send { to, message } => self.send(node, &to, message),
            // Who holds it is no machine, and no machine need know.
            Effect::Tell(Note::Granted { owner: STRANGER }) => Ok(()),
            Effect::Tell(note) => self.tell(node, note),
            Effect::Storage(request) => {
                if let Some(process) = self.nodes[node].process.as_mut() {
                    process.asks.push_back(request);
                }
                Ok(())
            }
            Effect::Answer { request, answer } => self.answer(node, request, answer),
            Effect::Watch(address) => {
                if let Some(process) = self.nodes[node].process.as_mut() {
                    process.watch = address.map(|address| (address, 0));
                }
                Ok(())
            }
            Effect::Announce(_) => Ok(()),
            Effect::Retire(why) => {
                let me = &self.nodes[node].me;
                require(self.checker.is_removed(me), Rule::Stopped, || format!("{} retires: {why}", me.voter))?;
                self.end(node, Happening::Ended(why));
                Ok(())
            }
            Effect::Halt(why) => {
                self.end(node, Happening::Halted(why));
                Ok(())
            }
        }
    }

    fn send(&mut self, node: usize, to: &Address, message: PeerMessage) -> Checked {
        self.observer().said(node, &message)?;
        let known = &self.nodes[node];
        let Some(process) = known.process.as_ref() else { return Ok(()) };
        let (cluster, view) = (process.known.cluster, process.known.view);
        let Some(target) = self.nodes.iter().position(|other| other.me.address == *to) else { return Ok(()) };
        let (from, life) = (known.me.clone(), known.life);
        let envelope = Envelope { version: PROTOCOL_VERSION, cluster, from, view, message };
        if target == node {
            self.open(node, envelope);
            return Ok(());
        }
        self.last_letter += 1;
        let letter = Letter { number: self.last_letter, from: node, life, to: target, envelope };
        self.happened.push((node, Happening::Sent(letter.clone())));
        self.letters.push(letter);
        Ok(())
    }

    fn tell(&mut self, node: usize, note: Note) -> Checked {
        self.observer().note(node, &note)?;
        match &note {
            Note::ViewChanged { view } => self.happened.push((node, Happening::Acts(view.clone()))),
            Note::Serving { view } => self.happened.push((node, Happening::Serves(*view))),
            Note::NotServing { view, .. } => self.happened.push((node, Happening::Stops(*view))),
            _ => {} // Between the machines of one node; what others can see of it follows.
        }
        if let Some(process) = self.nodes[node].process.as_mut() {
            route::note(note).into_iter().for_each(|delivery| process.queue(delivery));
        }
        Ok(())
    }

    fn answer(&mut self, node: usize, id: RequestId, answer: Answer) -> Checked {
        let known = &mut self.nodes[node];
        let request = known.process.as_mut().and_then(|process| process.requests.remove(&id));
        let Some(request) = request else {
            let what = format!("{} answers request {id}, which waits for nothing: {answer:?}", known.me.voter);
            return Err(Violation::new(Rule::Unasked, what));
        };
        self.checker.answered(&request.asked, &answer)?;
        self.happened.push((node, Happening::Answered(id, answer)));
        Ok(())
    }

    fn observer(&mut self) -> Observer<'_> {
        let Self { nodes, checker, timing, now, .. } = self;
        Observer { nodes, checker, trace: None, timing, now: *now }
    }
}

/// Whether a disk that hangs at writes serves this.
fn only_reads(request: &StorageRequest) -> bool {
    match request {
        StorageRequest::Locate { .. }
        | StorageRequest::Examine { .. }
        | StorageRequest::Query { .. }
        | StorageRequest::Pin { .. }
        | StorageRequest::ReadChunk { .. }
        | StorageRequest::Unpin { .. }
        | StorageRequest::ReadLog { .. } => true,
        StorageRequest::WriteVote { .. }
        | StorageRequest::WriteLog { .. }
        | StorageRequest::Apply { .. }
        | StorageRequest::DropTail
        | StorageRequest::InstallBegin
        | StorageRequest::InstallChunk { .. }
        | StorageRequest::InstallEnd { .. }
        | StorageRequest::WriteCommitted { .. } => false,
    }
}
