//! One node, whose peers are bytes: all its machines, its storage on a disk in memory, and nothing else. What it says is compared with
//! what its disk holds, and what it answers with what it was asked; it may end, by a `Halt`, a `Retire` or a damaged disk, but it
//! never panics, and never tells itself the same for ever.
//!
//! Not here: what a cluster promises. Peers that lie can break that, and are none of its faults.

use crate::letters::Pool;
use lockstep_protocol::ids::{Millis, Now, Peer, RequestId, Timestamp, ViewNumber};
use lockstep_protocol::machine::{Effect, Limits, Note, Setup, Timing};
use lockstep_protocol::message::{BallotAnswer, Envelope, PROTOCOL_VERSION, PeerMessage};
use lockstep_protocol::node::Machines;
use lockstep_protocol::route::{self, Delivery, Known, MachineName};
use lockstep_protocol::sim::disk::SimDisk;
use lockstep_protocol::sim::node::{Mirror, WALL_AT_START};
use lockstep_protocol::storage::{Storage, StorageRequest};
use std::collections::{BTreeSet, VecDeque};

/// More turns than any event needs.
const TURNS_MAX: usize = 20_000;

/// A living process.
struct Process {
    machines: Machines,
    storage: Storage<SimDisk>,
    known: Known,
    born: u64,
    queue: VecDeque<Delivery>,
    asks: VecDeque<StorageRequest>,
    open: BTreeSet<RequestId>,
}

/// The node.
pub struct Lone {
    me: Peer,
    disk: SimDisk,
    mirror: Mirror,
    process: Option<Process>,
    /// What it said.
    pub pool: Pool,
    /// Whether its disk hangs: nothing that it is asked is served.
    pub is_held: bool,
    now: u64,
    last_request: u64,
    lives: u64,
}

impl Lone {
    /// A node over this disk, which has not started.
    #[must_use]
    pub fn new(me: Peer, disk: SimDisk) -> Self {
        let (mirror, pool) = (Mirror::default(), Pool::default());
        Self { me, disk, mirror, process: None, pool, is_held: false, now: 0, last_request: 0, lives: 0 }
    }

    /// Who it is.
    #[must_use]
    pub fn me(&self) -> &Peer {
        &self.me
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.process.is_some()
    }

    /// It starts, or cannot.
    pub fn start(&mut self) {
        let limits = Limits { queue_ops_max: 8, batch_ops_max: 3, chunk_bytes: 200, ..Limits::default() };
        let opened = Storage::open(self.disk.clone(), self.me.voter.clone(), self.me.incarnation, &limits);
        let Ok((storage, recovered)) = opened else { return };
        self.lives += 1;
        self.mirror = Mirror::recovered(&recovered);
        let seeds = vec![crate::letters::node(1).address, crate::letters::node(3).address];
        let setup = Setup { me: self.me.clone(), seeds, timing: Timing::default(), limits, seed: self.lives };
        self.process = Some(Process {
            machines: Machines::new(&setup, &recovered),
            storage,
            known: Known { cluster: None, view: ViewNumber(0) },
            born: self.now,
            queue: VecDeque::new(),
            asks: VecDeque::new(),
            open: BTreeSet::new(),
        });
        self.wait(0);
    }

    /// The process dies, and so many of the batches that were not flushed stay.
    pub fn crash(&mut self, kept: usize) {
        self.process = None;
        self.is_held = false;
        self.disk.crash_keeping(kept);
    }

    /// Time goes by, and every machine whose deadline has come is ticked.
    pub fn wait(&mut self, ms: u64) {
        self.now += ms;
        for name in MachineName::ALL {
            let now = self.clock();
            let Some(process) = &mut self.process else { return };
            if process.machines.deadline(name).is_some_and(|at| at <= now.elapsed) {
                let effects = process.machines.tick(now, name);
                effects.into_iter().for_each(|effect| self.perform(effect));
            }
            self.settle();
        }
    }

    /// A letter comes.
    pub fn open(&mut self, letter: Envelope) {
        let Some(process) = &mut self.process else { return };
        if let Ok(deliveries) = route::letter(&process.known, letter) {
            process.queue.extend(deliveries);
        }
        self.settle();
    }

    /// Somebody asks something.
    pub fn ask(&mut self, delivery: impl FnOnce(RequestId) -> Delivery) {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        if let Some(process) = &mut self.process {
            process.open.insert(request);
        }
        self.hear(vec![delivery(request)]);
    }

    /// The network or the process's owner says something.
    pub fn hear(&mut self, deliveries: Vec<Delivery>) {
        if let Some(process) = &mut self.process {
            process.queue.extend(deliveries);
        }
        self.settle();
    }

    fn clock(&self) -> Now {
        let born = self.process.as_ref().map_or(self.now, |process| process.born);
        Now { elapsed: Millis(self.now - born), wall: Timestamp(WALL_AT_START + self.now * 1_000) }
    }

    /// Runs until it waits for others.
    pub fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let now = self.clock();
            let Some(process) = &mut self.process else { return };
            if let Some(delivery) = process.queue.pop_front() {
                let effects = process.machines.step(now, delivery);
                effects.into_iter().for_each(|effect| self.perform(effect));
            } else if process.asks.is_empty() || self.is_held {
                return;
            } else {
                self.serve();
            }
        }
        panic!("the node tells itself the same for ever");
    }

    fn serve(&mut self) {
        let Some(process) = &mut self.process else { return };
        let asked: Vec<_> = process.asks.drain(..).collect();
        match process.storage.perform(asked.clone()) {
            Ok(events) => {
                process.queue.extend(events.into_iter().flat_map(route::storage));
                asked.iter().for_each(|request| drop(self.mirror.served(request)));
            }
            Err(_) => self.crash(usize::MAX),
        }
    }

    fn perform(&mut self, effect: Effect) {
        let Some(process) = &mut self.process else { return }; // It ended in the middle of its turn.
        match effect {
            Effect::Send { to, message } => self.send(&to, message),
            Effect::Tell(note) => {
                if let Note::ViewChanged { view } = &note {
                    process.known = Known { cluster: Some(view.cluster), view: view.number };
                }
                process.queue.extend(route::note(note));
            }
            Effect::Storage(request) => process.asks.push_back(request),
            Effect::Answer { request, answer } => {
                assert!(process.open.remove(&request), "request {request} is answered twice: {answer:?}");
            }
            Effect::Watch(_) | Effect::Announce(_) => {}
            Effect::Halt(_) | Effect::Retire(_) => self.crash(usize::MAX),
        }
    }

    fn send(&mut self, to: &lockstep_protocol::ids::Address, message: PeerMessage) {
        self.check_durable(&message);
        let Some(process) = &mut self.process else { return };
        if *to == self.me.address {
            let Known { cluster, view } = process.known;
            let letter = Envelope { version: PROTOCOL_VERSION, cluster, from: self.me.clone(), view, message };
            if let Ok(deliveries) = route::letter(&process.known, letter) {
                process.queue.extend(deliveries);
            }
        } else {
            self.pool.learn(&message);
        }
    }

    /// what is said is on the disk.
    fn check_durable(&self, message: &PeerMessage) {
        let is_durable = match message {
            PeerMessage::Vote { view, attempt, index, refusal: None } => {
                *index <= self.mirror.applied || self.mirror.voted(*view, *attempt, *index)
            }
            PeerMessage::Promised { view, ballot, answer: BallotAnswer::Yes(_) } => {
                self.mirror.promised(*view, *ballot)
            }
            PeerMessage::Accepted { view, ballot, answer: BallotAnswer::Yes(_) } => {
                self.mirror.accepted(*view, *ballot)
            }
            _ => true,
        };
        assert!(is_durable, "said before it is durable: {message:?}");
    }
}
