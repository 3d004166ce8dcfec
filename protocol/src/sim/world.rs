//! The world of one run: events in order of time, and what becomes of each effect.
//!
//! One seed is one run, bit for bit: events at one instant keep the order in which they were made, all randomness comes
//! from one generator, and nothing reads a clock. Machines are stepped through `node.rs` of the crate, letters and notes
//! find their machines through `route.rs`, as in a real node.
//!
//! Not here: faults (`faults.rs`), clients (`client.rs`), what is compared (`observe.rs`), how a run ends (`calm.rs`).

use super::calm::Calm;
use super::checker::Checker;
use super::client::Clients;
use super::faults::Ambush;
use super::lasting::Duty;
use super::met::{Meetings, Met};
use super::network::{Fate, Network, happens};
use super::node::{Begun, Hands, Node, Piece, Process, when_shows};
use super::observe::Observer;
use super::plan::{Plan, Weather, ids_go_up};
use super::schedule::Scheduled;
use super::story::{Trace, Weight};
use crate::change::{Cause, Reason};
use crate::ids::{Address, ClusterId, Incarnation, Millis, NodeId, Peer, Timestamp, ViewNumber, Voter, WitnessName};
use crate::invariant::{Checked, Rule, Violation, require};
use crate::lock::LockOwner;
use crate::machine::{Effect, Note, Setup};
use crate::message::{Envelope, PROTOCOL_VERSION, PeerMessage};
use crate::route;
use crate::storage::{Storage, StorageError};
use crate::view::View;
use fastrand::Rng;
use std::collections::{BTreeMap, BinaryHeap};

pub(super) use super::schedule::Event;

/// What a run counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Turns of machines.
    pub turns: u64,
    /// Letters sent.
    pub letters: u64,
    /// Events of all kinds.
    pub events: u64,
    /// The longest that a gateway of a core waited for its answer. Microseconds.
    pub longest_wait_us: u64,
}

/// A run.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    /// Microseconds since the run began.
    pub(super) now: u64,
    events: BinaryHeap<Scheduled>,
    order: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Network,
    pub(super) weather: Weather,
    pub(super) checker: Checker,
    pub(super) clients: Clients,
    pub(super) calm: Calm,
    pub(super) trace: Trace,
    pub(super) counts: Counts,
    pub(super) met: Meetings,
    /// Who dies at which letter.
    pub(super) ambushes: Vec<Ambush>,
    /// What was proposed for the view after each.
    pub(super) proposals: BTreeMap<ViewNumber, Vec<View>>,
    /// What the core has to do, in a run for liveness.
    pub(super) duty: Duty,
    /// Locks that a fault holds.
    pub(super) held: Vec<(usize, u32, LockOwner)>,
    /// The view in which a node lost its disk that this view does not list.
    pub(super) newcomer_lost: Option<ViewNumber>,
    pub(super) finished: bool,
    watches: u32,
}

/// More events than any run needs: then something goes round in circles.
const EVENTS_MAX: u64 = 2_000_000;

/// More inputs than ever wait at one node: then it tells itself the same for ever.
const WAITING_MAX: usize = 20_000;

impl World {
    pub(super) fn new(plan: Plan, trace: Trace) -> Self {
        let mut rng = Rng::with_seed(plan.seed ^ 0x10c4_57e9_5eed_0002);
        let nodes = (0..plan.nodes()).map(|place| Node::new(peer(&plan, place, &mut rng))).collect();
        let mut world = Self {
            rng,
            now: 0,
            events: BinaryHeap::new(),
            order: 0,
            nodes,
            network: Network::new(),
            weather: plan.weather.clone(),
            checker: Checker::default(),
            clients: Clients::new(&plan),
            calm: Calm::default(),
            trace,
            counts: Counts::default(),
            met: Meetings::default(),
            ambushes: Vec::new(),
            proposals: BTreeMap::new(),
            duty: Duty::default(),
            held: Vec::new(),
            newcomer_lost: None,
            finished: false,
            watches: 0,
            plan,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        if self.plan.is_born {
            self.found();
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].drift_ppm = self.plan.drifts_ppm.get(node).copied().unwrap_or(0);
            if self.nodes[node].drift_ppm != 0 {
                self.met.add(Met::ClocksThatDrift);
            }
            let at = self.plan.starts.get(node).copied().unwrap_or(0);
            self.at(at, Event::Start { node });
        }
        for place in 0..self.plan.faults.len() {
            let (at, fault) = self.plan.faults[place];
            self.at(at, Event::Fault(fault));
        }
        for call in 0..self.plan.calls.len() {
            self.at(self.plan.calls[call].at_us, Event::Call { call });
        }
        self.at(self.plan.faults_end_us, Event::Look);
    }

    /// Writes a first view onto the disks of those that it lists, as if an earlier run had ended well.
    fn found(&mut self) {
        let data = self.plan.data as usize;
        let seeds = &self.nodes[..self.plan.seeds as usize];
        let replicas = seeds.iter().filter_map(|node| Some((node.me.voter.node()?, node.seat())));
        let room = seeds.len() - 1;
        let witnesses = self.nodes[data..].iter().take(room).filter_map(|node| match &node.me.voter {
            Voter::Witness(name) => Some((name.clone(), node.seat())),
            Voter::Replica(_) => None,
        });
        let view = View {
            cluster: ClusterId(u128::from(self.plan.seed) + 1),
            number: ViewNumber(1),
            primary: NodeId(1),
            replicas: replicas.collect(),
            witnesses: witnesses.collect(),
            cause: Cause::new(Timestamp(0), NodeId(1), vec![Reason::Founded]).into(),
        };
        let primary = view.replicas.keys().next_back().copied().unwrap_or(NodeId(1));
        let view = View { primary, ..view };
        for node in self.nodes.iter().filter(|node| view.lists(&node.me)) {
            node.know(&view, &self.plan.limits);
        }
    }

    /// Runs till the end, or till a promise is broken.
    pub(super) fn run(&mut self) -> Checked {
        while !self.finished {
            let Some(Scheduled { at, event, .. }) = self.events.pop() else {
                return Err(Violation::new(Rule::Liveness, "nothing happens any more"));
            };
            self.now = at;
            self.counts.events += 1;
            require(self.counts.events < EVENTS_MAX, Rule::Liveness, || "it goes round in circles".to_owned())?;
            self.happen(event)?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Turn { node, life } => self.turn(node, life),
            Event::Disk { node, life } => self.disk(node, life),
            Event::Start { node } => self.start(node),
            Event::Fault(fault) => self.fault(fault),
            Event::Look => self.look(),
            other => {
                self.occur(other);
                Ok(())
            }
        }
    }

    /// What breaks no promise by itself.
    fn occur(&mut self, event: Event) {
        match event {
            Event::Turn { .. } | Event::Disk { .. } | Event::Start { .. } | Event::Fault(_) | Event::Look => {} // Taken above.
            Event::Wake { node, life } => self.wake(node, life),
            Event::Rested { node, life } => {
                if self.lives(node, life) {
                    self.stir(node);
                }
            }
            Event::Letter { from, life, to, envelope } => self.letter(from, life, to, *envelope),
            Event::Unreachable { node, life, address } => {
                self.deliver(node, life, |_| route::unreachable(&address));
            }
            Event::WatchEnded { node, life, watch } => self.watch_ended(node, life, watch),
            Event::Die { node, life, away_us } => {
                // Where the core has to serve, an operator who wanted to stop a node thinks better of it.
                if self.lives(node, life) && !self.is_past() {
                    self.kill(node, false, away_us);
                }
            }
            Event::Heal(ways) => self.heal(ways),
            Event::Quicken { node } => self.quicken(node),
            Event::Space { node } => self.free_disk(node),
            Event::Flap { node, round, ways, times } => self.flap(node, round, ways, times),
            Event::Blink { node, round, ways, is_cut } => self.blink(node, round, ways, is_cut),
            Event::LetGo { node, life, owner } => {
                self.deliver(node, life, |_| route::note(Note::Release { owner }));
            }
            Event::Call { call } => self.call(call),
            Event::Ask { call, attempt, node } => self.ask(call, attempt, node),
            Event::Told { call, attempt, answer } => self.told(call, attempt, answer.map(|answer| *answer)),
            Event::Again { call, attempt } => self.again(call, attempt),
            Event::Remove { node, times } => self.remove(node, times),
            Event::EndDrain { node, life } => self.drain(node, life, false),
        }
    }

    /// Has something happen at an instant.
    pub(super) fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Scheduled { at: at.max(self.now), order: self.order, event });
    }

    /// Has something happen after a while.
    pub(super) fn after(&mut self, us: u64, event: Event) {
        self.at(self.now + us, event);
    }

    /// Whether this very process lives.
    pub(super) fn lives(&self, node: usize, life: u32) -> bool {
        self.nodes[node].life == life && self.nodes[node].process.is_some()
    }

    /// Who has this address.
    pub(super) fn place_of(&self, address: &Address) -> Option<usize> {
        self.nodes.iter().position(|node| node.me.address == *address)
    }

    /// Starts a process over what its disk holds.
    fn start(&mut self, node: usize) -> Checked {
        if self.nodes[node].process.is_some() || self.nodes[node].gone || self.nodes[node].is_off {
            return Ok(());
        }
        let limits = self.plan.limits.clone();
        let known = &self.nodes[node];
        let opened = Storage::open(known.disk.clone(), known.me.voter.clone(), known.me.incarnation, &limits);
        if opened.is_err() && known.disk.is_full() {
            self.starts_in_vain(node);
            return Ok(());
        }
        let (storage, recovered) =
            opened.map_err(|error| Violation::new(Rule::Stopped, format!("{}: {error}", known.me.voter)))?;
        self.observer().recovered(node, &recovered)?;
        self.count_recovered(&recovered);
        let setup = Setup {
            me: self.nodes[node].me.clone(),
            seeds: self.seeds_of(node),
            timing: self.plan.timing.clone(),
            limits,
            seed: self.rng.u64(..),
        };
        let mut process = Process::new(&setup, storage, &recovered, self.now);
        process.ring(Millis(0));
        self.nodes[node].process = Some(Box::new(process));
        self.nodes[node].dies = None;
        let voter = &self.nodes[node].me.voter;
        self.trace.say(self.now, Weight::Story, || {
            format!("{voter} starts, committed {}, tail {}", recovered.committed.0, recovered.tail.len())
        });
        self.stir(node);
        Ok(())
    }

    /// Sees to it that a node with something to do has its turn, and one with a deadline its wake-up.
    pub(super) fn stir(&mut self, node: usize) {
        let known = &mut self.nodes[node];
        let turn_us = known.turn_us.unwrap_or(self.weather.turn_us * u64::from(known.slowness));
        let (life, drift_ppm) = (known.life, known.drift_ppm);
        let Some(process) = known.process.as_mut() else { return };
        let (busy, born) = (process.is_busy(self.now), process.born);
        let needs_turn = busy && !process.turn_pending;
        process.turn_pending |= needs_turn;
        let wake = process.next_deadline().map(|at| when_shows(born, at, drift_ppm).max(self.now + 1));
        let wake = wake.filter(|at| process.wake_at.is_none_or(|set| *at < set));
        if wake.is_some() {
            process.wake_at = wake;
        }
        if needs_turn {
            let wait = 1 + self.rng.u64(0..=turn_us);
            self.after(wait, Event::Turn { node, life });
        }
        if let Some(at) = wake {
            self.at(at, Event::Wake { node, life });
        }
    }

    fn wake(&mut self, node: usize, life: u32) {
        if !self.lives(node, life) {
            return;
        }
        let elapsed = self.nodes[node].now(self.now).elapsed;
        if let Some(process) = self.nodes[node].process.as_mut() {
            if process.wake_at.is_some_and(|at| at <= self.now) {
                process.wake_at = None;
            }
            process.ring(elapsed);
        }
        self.stir(node);
    }

    fn turn(&mut self, node: usize, life: u32) -> Checked {
        if !self.lives(node, life) {
            return Ok(());
        }
        let now = self.nodes[node].now(self.now);
        let is_told = self.trace.is_full();
        let Some(process) = self.nodes[node].process.as_mut() else { return Ok(()) };
        process.turn_pending = false;
        require(process.waiting() < WAITING_MAX, Rule::Liveness, || {
            "a node tells itself the same for ever".to_owned()
        })?;
        if let Some(Begun { hands, step }) = process.turn(&mut self.rng, self.now, now, is_told) {
            if let Some((name, input)) = step {
                self.counts.turns += 1;
                let voter = &self.nodes[node].me.voter;
                self.trace.say(self.now, Weight::Full, || format!("{voter} {name:?} hears {input:?}"));
            }
            self.carry_out(node, hands)?;
        }
        self.stir(node);
        Ok(())
    }

    /// Has hands do what they have to do, until they are done, or somebody else comes between.
    fn carry_out(&mut self, node: usize, hands: Hands) -> Checked {
        while let Some(effect) = self.next_effect(node, hands) {
            if self.dies_now(node) {
                return Ok(());
            }
            self.perform((node, hands), effect)?;
            let has_more = self.nodes[node].process.as_ref().is_some_and(|process| process.has_work(hands));
            if has_more && self.comes_between(node, hands) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Has hands pass inputs on up to their next effect; none when there is none, or when somebody else comes between.
    fn next_effect(&mut self, node: usize, hands: Hands) -> Option<Effect> {
        while let Some(piece) = self.nodes[node].process.as_mut()?.next_piece(hands) {
            match piece {
                Piece::Effect(effect) => return Some(effect),
                Piece::Inputs(inputs) => {
                    let process = self.nodes[node].process.as_mut()?;
                    inputs.into_iter().for_each(|delivery| process.queue(delivery));
                    if process.has_work(hands) && self.comes_between(node, hands) {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Whether others have their turns now, before these hands go on; seldom for long, as when the system lets a thread wait.
    fn comes_between(&mut self, node: usize, hands: Hands) -> bool {
        if !happens(&mut self.rng, self.weather.between_ppm) {
            return false;
        }
        self.met.add(Met::ComeBetween);
        let life = self.nodes[node].life;
        if self.rng.u8(..16) == 0 {
            let until = self.now + self.rng.u64(0..=2 * self.plan.beat_us());
            if let Some(process) = self.nodes[node].process.as_mut() {
                process.rest(hands, until);
            }
            self.met.add(Met::RestBetween);
            self.at(until, Event::Rested { node, life });
        }
        true
    }

    /// Counts down to a crash between two effects.
    fn dies_now(&mut self, node: usize) -> bool {
        match self.nodes[node].dies {
            Some((0, torn, away_us)) => {
                self.kill(node, torn, away_us);
                true
            }
            Some((effects, torn, away_us)) => {
                self.nodes[node].dies = Some((effects - 1, torn, away_us));
                false
            }
            None => false,
        }
    }

    fn perform(&mut self, (node, hands): (usize, Hands), effect: Effect) -> Checked {
        match effect {
            Effect::Send { to, message } => self.send((node, hands), &to, message),
            // Of a lock that a fault holds: the machine that such an owner belongs to would let go of what it did not ask for.
            Effect::Tell(Note::Granted { owner }) if self.held.iter().any(|(_, _, held)| *held == owner) => Ok(()),
            Effect::Tell(note) => {
                self.count_note(&note);
                self.observer().note(node, &note)?;
                let is_state = note.is_state();
                match self.nodes[node].process.as_mut() {
                    Some(process) if is_state => process.keep_states(route::note(note)),
                    Some(process) => process.give_first(hands, route::note(note)),
                    None => {}
                }
                Ok(())
            }
            Effect::Storage(request) => {
                if let Some(process) = self.nodes[node].process.as_mut() {
                    process.asks.push_back(request);
                }
                self.stir_disk(node);
                Ok(())
            }
            Effect::Answer { request, answer } => self.answer(node, request, answer),
            Effect::Watch(address) => {
                self.watch(node, address);
                Ok(())
            }
            Effect::Announce(text) => {
                let voter = &self.nodes[node].me.voter;
                self.trace.say(self.now, Weight::Story, || format!("{voter}: {text}"));
                Ok(())
            }
            Effect::Retire(why) => self.retire(node, &why),
            Effect::Halt(why) => {
                Err(Violation::new(Rule::Stopped, format!("{} halts: {why}", self.nodes[node].me.voter)))
            }
        }
    }

    /// Puts inputs into the queues of a process, if it is still this one.
    pub(super) fn deliver(&mut self, node: usize, life: u32, inputs: impl FnOnce(&Process) -> Vec<route::Delivery>) {
        if !self.lives(node, life) {
            return;
        }
        self.hear(node, Hands::Network, inputs);
    }

    /// Has hands pass inputs on, at once or a little later; those that come meanwhile may go with them.
    fn hear(&mut self, node: usize, hands: Hands, inputs: impl FnOnce(&Process) -> Vec<route::Delivery>) {
        if let Some(process) = self.nodes[node].process.as_mut() {
            let inputs = inputs(process);
            let is_alone = !process.has_work(hands);
            process.give(hands, inputs);
            if !is_alone && self.rng.bool() {
                process.bundle(hands);
            }
            if is_alone && !self.comes_between(node, hands) {
                let effect = self.next_effect(node, hands);
                debug_assert!(effect.is_none(), "only a machine's step wants anything done");
            }
        }
        self.stir(node);
    }

    fn send(&mut self, (node, hands): (usize, Hands), to: &Address, message: PeerMessage) -> Checked {
        self.counts.letters += 1;
        self.observer().said(node, &message)?;
        let voter = &self.nodes[node].me.voter;
        self.trace.letter(self.now, voter, to, &message);
        let (lane, life, me) = (message.lane(), self.nodes[node].life, self.nodes[node].me.clone());
        let Some(process) = self.nodes[node].process.as_ref() else { return Ok(()) };
        let (cluster, view) = (process.known.cluster, process.known.view);
        let Some(target) = self.place_of(to) else { return Ok(()) };
        self.count_letter((node, target), &message);
        self.spring(node, target, &message);
        let mut envelope = Envelope { version: PROTOCOL_VERSION, cluster, from: me, view, message };
        if target == node {
            let opened = self.open(node, envelope);
            if let Some(process) = self.nodes[node].process.as_mut() {
                process.give_first(hands, opened);
            }
            return Ok(());
        }
        self.garble(node, &mut envelope.message);
        if self.rng.u8(..) == 0 {
            envelope = recoded(&envelope)?;
        }
        let again = happens(&mut self.rng, self.weather.repeat_ppm).then(|| envelope.clone());
        self.post((node, life, target), lane, envelope, false);
        if let Some(copy) = again {
            self.post((node, life, target), lane, copy, true);
        }
        Ok(())
    }

    fn post(&mut self, way: (usize, u32, usize), lane: crate::message::Lane, envelope: Envelope, is_copy: bool) {
        let (from, life, to) = way;
        let wait = if is_copy { self.rng.u64(0..=self.weather.late_us) } else { 0 };
        match self.network.fate(&mut self.rng, &self.weather, self.now, (from, to, lane)) {
            Fate::Lost => {}
            Fate::Reset => self.unreachable(from, life, to),
            Fate::Arrives(at) => self.at(at + wait, Event::Letter { from, life, to, envelope: Box::new(envelope) }),
        }
    }

    /// The sender hears that its connection was refused or reset, unless that answer is lost too.
    fn unreachable(&mut self, node: usize, life: u32, target: usize) {
        if self.network.is_open(target, node) {
            let address = self.nodes[target].me.address.clone();
            let wait = self.rng.u64(50..=500);
            self.after(wait, Event::Unreachable { node, life, address });
        }
    }

    fn letter(&mut self, from: usize, life: u32, to: usize, envelope: Envelope) {
        if self.nodes[to].process.is_some() {
            let opened = self.open(to, envelope);
            self.hear(to, Hands::Letters, |_| opened);
        } else if happens(&mut self.rng, self.weather.refused_ppm) {
            self.unreachable(from, life, to);
        }
    }

    /// What a letter sets off at a node.
    fn open(&mut self, node: usize, envelope: Envelope) -> Vec<route::Delivery> {
        let known = &self.nodes[node];
        let Some(process) = known.process.as_ref() else { return Vec::new() };
        route::letter(&process.known, envelope).unwrap_or_else(|why| {
            self.trace.say(self.now, Weight::Full, || format!("{} refuses a letter: {why}", known.me.voter));
            Vec::new()
        })
    }

    fn watch(&mut self, node: usize, address: Option<Address>) {
        self.watches += 1;
        let (watch, life) = (self.watches, self.nodes[node].life);
        let target = address.as_ref().and_then(|address| self.place_of(address));
        if let Some(process) = self.nodes[node].process.as_mut() {
            process.watch = address.map(|address| (address, watch));
        }
        let Some(target) = target else { return };
        let is_open = self.network.is_open(node, target) && self.network.is_open(target, node);
        if is_open && self.nodes[target].process.is_none() {
            // Nobody opens it again without a pause.
            self.after(self.plan.beat_us() / 16, Event::WatchEnded { node, life, watch });
        } else if !is_open && self.rng.bool() {
            let wait = self.rng.u64(0..=self.plan.beat_us());
            self.after(wait, Event::WatchEnded { node, life, watch });
        }
    }

    fn watch_ended(&mut self, node: usize, life: u32, watch: u32) {
        if !self.lives(node, life) {
            return;
        }
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        if process.watch.as_ref().is_some_and(|(_, known)| *known == watch) {
            let Some((address, _)) = process.watch.take() else { return };
            self.deliver(node, life, |_| route::watch_ended(&address));
        }
    }

    fn observer(&mut self) -> Observer<'_> {
        let Self { nodes, checker, trace, plan, now, .. } = self;
        Observer { nodes, checker, trace: Some(trace), timing: &plan.timing, now: *now }
    }

    /// A disk failed: the process ends, which is lawful only when the plan said so.
    fn disk_failed(&mut self, node: usize, error: &StorageError) -> Checked {
        match self.nodes[node].disk_away.take() {
            Some(away_us) => {
                self.met.add(if self.nodes[node].disk.failed_at_flush() {
                    Met::FailedFlushes
                } else {
                    Met::FailedWrites
                });
                self.kill(node, false, away_us);
                Ok(())
            }
            None if self.nodes[node].disk.is_full() => {
                self.met.add(Met::FullDisks);
                self.kill(node, false, self.plan.beat_us() / 4);
                Ok(())
            }
            None => Err(Violation::new(Rule::Stopped, format!("the disk of {}: {error}", self.nodes[node].me.voter))),
        }
    }

    pub(super) fn stir_disk(&mut self, node: usize) {
        let known = &mut self.nodes[node];
        let slowness = u64::from(known.slowness);
        let (life, most) = (known.life, known.disk_us.unwrap_or(self.weather.disk_us * slowness));
        let Some(process) = known.process.as_mut() else { return };
        if process.disk_busy || process.asks.is_empty() {
            return;
        }
        process.disk_busy = true;
        let wait = 20 * slowness + self.rng.u64(0..=most);
        self.after(wait, Event::Disk { node, life });
    }

    /// The disk serves a random number of what waits, with one flush.
    fn disk(&mut self, node: usize, life: u32) -> Checked {
        if !self.lives(node, life) {
            return Ok(());
        }
        let Some(process) = self.nodes[node].process.as_mut() else { return Ok(()) };
        process.disk_busy = false;
        let count = self.rng.usize(1..=process.asks.len().max(1)).min(process.asks.len());
        let asked: Vec<_> = process.asks.drain(..count).collect();
        let copy = asked.clone();
        match process.storage.perform(asked) {
            Ok(events) => {
                self.observer().served(node, &copy)?;
                self.hear(node, Hands::Disk, |_| events.into_iter().flat_map(route::storage).collect());
            }
            Err(error) => self.disk_failed(node, &error)?,
        }
        self.stir_disk(node);
        Ok(())
    }
}

/// Data nodes have ids 1 and up in their places' order, or reversed, so that a joiner may be the highest or the lowest.
fn peer(plan: &Plan, place: usize, rng: &mut Rng) -> Peer {
    let incarnation = Incarnation(rng.u64(..));
    let number = u32::try_from(place).unwrap_or(0);
    if number < plan.data {
        let id = if ids_go_up(plan.seed) { number + 1 } else { plan.data - number };
        let address = Address::new(&format!("node-{id}"));
        return Peer { voter: Voter::Replica(NodeId(id)), incarnation, address };
    }
    let name = format!("witness-{}", number - plan.data + 1);
    Peer { voter: Voter::Witness(WitnessName::new(&name)), incarnation, address: Address::new(&name) }
}

/// A letter as it looks on the wire.
fn recoded(envelope: &Envelope) -> Result<Envelope, Violation> {
    let wrong = |what: &str| Violation::new(Rule::Stopped, format!("{what}: {envelope:?}"));
    let bytes = postcard::to_stdvec(envelope).map_err(|_| wrong("a letter does not encode"))?;
    let read: Envelope = postcard::from_bytes(&bytes).map_err(|_| wrong("a letter does not decode"))?;
    if read == *envelope { Ok(read) } else { Err(wrong("a letter changes on the wire")) }
}
