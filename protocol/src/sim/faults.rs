//! What goes wrong, when the plan says so: processes die, links are cut, clocks jump, disks fail and are lost.
//!
//! A disk is lost (`wipe`) only where the promises allow it. S1 holds while one replica of the last view keeps its disk,
//! and a lost disk is a vote lost for ever, so a node is wiped when
//!
//! - the last view that anybody acts on does not list it, and in that view no other such node was wiped. A view after that
//!   one, not learnt yet, may list it only beside voters of this view, whose primary proposed it, and one vote more never
//!   costs them the quorum. Two would: one step may take in several voters, and let one go; or
//! - that view lists it, not as primary, and is at rest: every voter lives and acts in it, none has asked for promises in
//!   it, and those who stay are a quorum with the primary among them.
//!
//! And never so that no other seed knows the last view: seeds are all that a lost node can ask, and if every one of them
//! is empty, founding anew is what birth promises (section 9).

use super::network::NODES_MAX;
use super::node::Node;
use super::plan::Fault;
use super::story::Weight;
use super::world::{Event, World};
use crate::ids::{Address, Incarnation, RequestId, ViewNumber, Voter};
use crate::invariant::{Checked, Rule, require};
use crate::lock::{LockOwner, Mode, Resource};
use crate::log::Entry;
use crate::machine::Note;
use crate::message::PeerMessage;
use crate::operator::OperatorCall;
use crate::route;
use crate::sim::disk;
use crate::view::View;
use std::collections::BTreeSet;
use std::sync::Arc;

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        if self.calm.has_begun() {
            return;
        }
        self.trace.say(self.now, Weight::Story, || format!("fault: {fault:?}"));
        match fault {
            Fault::Crash { node, effects, away_us, torn } => self.nodes[node].dies = Some((effects, torn, away_us)),
            Fault::CrashPrimary { effects, away_us, torn } => {
                if let Some(node) = self.primary() {
                    self.nodes[node].dies = Some((effects, torn, away_us));
                }
            }
            Fault::Partition { side, lasts_us } => self.partition(side, lasts_us),
            Fault::IsolatePrimary { lasts_us } => {
                if let Some(node) = self.primary() {
                    self.partition(1 << node, lasts_us);
                }
            }
            Fault::Cut { from, to, lasts_us } => self.cut(vec![(from, to)], lasts_us),
            Fault::ClockStep { node, by_us } => self.nodes[node].clock_ahead += by_us,
            Fault::SlowDisk { node, disk_us, lasts_us } => {
                self.nodes[node].disk_us = Some(disk_us);
                self.after(lasts_us, Event::Quicken { node });
            }
            Fault::SlowNode { node, turn_us, lasts_us } => {
                self.nodes[node].turn_us = Some(turn_us);
                self.after(lasts_us, Event::Quicken { node });
            }
            Fault::DiskFails { node, write, away_us } => self.fail_disk(node, write, away_us),
            Fault::HoldLock { node, channel, lasts_us } => self.hold_lock(node, channel, lasts_us),
            Fault::Garble => {
                if let Some(node) = self.primary() {
                    self.nodes[node].garble += 1;
                }
            }
            Fault::Wipe { node, away_us } => self.lose_disk(node, away_us),
            Fault::Stop { node, grace_us, away_us } => self.stop(node, grace_us, away_us),
            Fault::Remove { node, times } => self.remove(node, times),
            Fault::Drain { node, lasts_us } => {
                let life = self.nodes[node].life;
                self.drain(node, life, true);
                self.after(lasts_us, Event::EndDrain { node, life });
            }
        }
    }

    /// Who serves, in the latest view in which anybody does.
    pub(super) fn primary(&self) -> Option<usize> {
        let serving = |place: &usize| self.nodes[*place].serving();
        (0..self.nodes.len()).filter(|place| serving(place).is_some()).max_by_key(serving)
    }

    fn partition(&mut self, side: u32, lasts_us: u64) {
        let is_on_side = |place: usize| side >> place & 1 == 1;
        let places = self.nodes.len().min(NODES_MAX);
        let pairs = (0..places).flat_map(|from| (0..places).map(move |to| (from, to)));
        self.cut(pairs.filter(|(from, to)| is_on_side(*from) != is_on_side(*to)).collect(), lasts_us);
    }

    /// Some cuts are noticed at once by who keeps a request open across them, as a reset is; others by nobody, as a lost link.
    fn cut(&mut self, ways: Vec<(usize, usize)>, lasts_us: u64) {
        let is_reset = self.rng.u8(0..3) == 0;
        for (from, to) in &ways {
            self.network.cut(*from, *to);
            if is_reset || self.rng.u8(0..6) == 0 {
                self.end_watches(*from, *to);
            }
        }
        self.after(lasts_us, Event::Heal(ways));
    }

    /// What this node keeps open at that one ends.
    fn end_watches(&mut self, node: usize, target: usize) {
        let address = &self.nodes[target].me.address;
        let process = self.nodes[node].process.as_ref();
        let watch = process.and_then(|process| process.watch.as_ref()).filter(|(known, _)| known == address);
        if let Some((_, watch)) = watch {
            let (watch, life) = (*watch, self.nodes[node].life);
            let wait = self.rng.u64(50..=1_000);
            self.after(wait, Event::WatchEnded { node, life, watch });
        }
    }

    fn fail_disk(&mut self, node: usize, write: bool, away_us: u64) {
        if self.nodes[node].process.is_some() {
            self.nodes[node].disk.fail_next(if write { disk::Fault::Write } else { disk::Fault::Flush });
            self.nodes[node].disk_away = Some(away_us);
        }
    }

    /// As a read by somebody who never lets go in time.
    fn hold_lock(&mut self, node: usize, channel: u32, lasts_us: u64) {
        let owner = LockOwner::Read(RequestId(u64::MAX - self.now));
        let Some(channel) = self.clients.channel(channel) else { return };
        let locks = vec![(Resource::Store, Mode::IntentExclusive), (Resource::Channel(channel), Mode::Exclusive)];
        let life = self.nodes[node].life;
        self.deliver(node, life, |_| route::note(Note::Acquire { owner, locks }));
        self.held.push((node, life, owner));
        self.after(lasts_us, Event::LetGo { node, life, owner });
    }

    /// The entry of a vote request is not what its hash says.
    pub(super) fn garble(&mut self, node: usize, message: &mut PeerMessage) {
        if self.nodes[node].garble == 0 {
            return;
        }
        if let PeerMessage::Prepare { entry, .. } = message {
            self.nodes[node].garble -= 1;
            let mut hash = entry.hash;
            hash.0[0] ^= 1;
            *entry = Arc::new(Entry { hash, ..Entry::clone(entry) });
        }
    }

    /// SIGTERM: a primary hands over, then the process ends.
    fn stop(&mut self, node: usize, grace_us: u64, away_us: u64) {
        let life = self.nodes[node].life;
        self.deliver(node, life, |_| route::note(Note::HandOver { to: None }));
        self.after(grace_us, Event::Die { node, life, away_us });
    }

    pub(super) fn drain(&mut self, node: usize, life: u32, on: bool) {
        self.operate(node, life, OperatorCall::Drain { on });
    }

    /// The operator asks whoever serves to remove a node, as often as the plan says. Another seed must be in the view: whoever
    /// lost its disk, starts late or was away has only the seeds to ask, when all whom it knew are gone.
    pub(super) fn remove(&mut self, node: usize, times: u8) {
        if times == 0 || self.calm.has_begun() {
            return;
        }
        self.after(self.plan.beat_us() / 3, Event::Remove { node, times: times - 1 });
        let is_listed = |view: &View, place: usize| view.lists(&self.nodes[place].me) && !self.nodes[place].unwanted;
        let mut others = (0..self.plan.seeds as usize).filter(|place| *place != node);
        let is_found = self.checker.views().last().is_some_and(|view| others.any(|place| is_listed(view, place)));
        let Some(primary) = self.primary().filter(|_| is_found && !self.nodes[node].gone) else { return };
        self.nodes[node].unwanted = true;
        let (voter, life) = (self.nodes[node].me.voter.clone(), self.nodes[primary].life);
        self.operate(primary, life, OperatorCall::Remove { voter });
    }

    /// A removed node ends. It is started again, in vain, on the same disk; or on an empty one, which makes it a new node; or never.
    pub(super) fn retire(&mut self, node: usize, why: &str) -> Checked {
        let me = &self.nodes[node].me;
        require(self.checker.is_removed(me), Rule::Stopped, || format!("{} retires: {why}", me.voter))?;
        let voter = &me.voter;
        self.trace.say(self.now, Weight::Story, || format!("{voter} retires"));
        let away_us = self.rng.u64(0..self.plan.beat_us());
        self.nodes[node].retired += 1;
        let is_tried = self.nodes[node].retired < 3 && self.rng.bool();
        let view = self.checker.views().last().map(|view| view.number);
        let may_return = view.is_some_and(|view| self.is_known_to_another(node, view));
        let is_emptied = !is_tried && self.rng.bool() && may_return;
        self.nodes[node].gone = self.calm.has_begun() || !(is_tried || is_emptied);
        self.kill(node, false, away_us);
        if is_emptied && !self.nodes[node].gone {
            self.wipe(node);
        }
        Ok(())
    }

    /// A node whose other seeds were all removed is given others: whoever the last view lists.
    pub(super) fn seeds_of(&self, node: usize) -> Vec<Address> {
        let seeds = self.nodes.iter().take(self.plan.seeds as usize).map(|seed| seed.me.address.clone());
        let view = self.checker.views().last().filter(|_| self.has_no_seeds(node));
        seeds.chain(view.iter().flat_map(|view| view.replica_peers()).map(|peer| peer.address)).collect()
    }

    /// Whether all other seeds were removed for good.
    pub(super) fn has_no_seeds(&self, node: usize) -> bool {
        let mut seeds = self.nodes.iter().enumerate().take(self.plan.seeds as usize);
        seeds.all(|(place, seed)| place == node || seed.gone)
    }

    /// Whether another seed, which stays, knows this view.
    fn is_known_to_another(&self, node: usize, view: ViewNumber) -> bool {
        let seeds = self.nodes.iter().enumerate().take(self.plan.seeds as usize);
        let stays = |known: &Node| !known.gone && !known.unwanted && known.mirror.view() == view;
        seeds.filter(|(place, _)| *place != node).any(|(_, known)| stays(known))
    }

    /// The process dies; its disk keeps what was flushed, and what was not at random. `torn`: while it served requests.
    pub(super) fn kill(&mut self, node: usize, torn: bool, away_us: u64) {
        let known = &mut self.nodes[node];
        let Some(mut process) = known.process.take() else { return };
        known.life += 1;
        known.dies = None;
        known.disk_away = None;
        if torn && !process.asks.is_empty() {
            let count = self.rng.usize(1..=process.asks.len());
            let asked = process.asks.drain(..count).collect();
            known.disk.fail_next(if self.rng.bool() { disk::Fault::Write } else { disk::Fault::Flush });
            // Whatever it says, nobody hears it.
            let _unheard = process.storage.perform(asked);
        }
        known.disk.crash(&mut self.rng);
        let voter = &known.me.voter;
        self.trace.say(self.now, Weight::Story, || format!("{voter} dies"));
        for request in process.requests.into_values() {
            if let Some((call, attempt)) = request.call.filter(|_| self.rng.bool()) {
                self.after(300, Event::Told { call, attempt, answer: None });
            }
        }
        for other in 0..self.nodes.len() {
            if self.network.is_open(node, other) && self.rng.u8(0..10) > 0 {
                self.end_watches(other, node);
            }
        }
        self.after(away_us, Event::Start { node });
    }

    /// Takes a node's disk away, where that is allowed.
    fn lose_disk(&mut self, node: usize, away_us: u64) {
        if !self.may_lose_disk(node) {
            self.trace.say(self.now, Weight::Story, || "the disk stays: too much rests on it".to_owned());
            return;
        }
        let view = self.checker.views().last().filter(|view| !view.lists(&self.nodes[node].me));
        if let Some(view) = view {
            self.newcomer_lost = Some(view.number);
        }
        self.kill(node, false, away_us);
        self.wipe(node);
    }

    /// A new, empty disk: another voter under the old name.
    fn wipe(&mut self, node: usize) {
        let known = &mut self.nodes[node];
        known.disk.wipe();
        known.mirror = super::node::Mirror::default();
        known.me.incarnation = Incarnation(self.rng.u64(..));
        known.left = None;
        known.unwanted = false;
        known.retired = 0;
        let voter = &known.me.voter;
        self.trace.say(self.now, Weight::Story, || format!("{voter} loses its disk"));
    }

    fn may_lose_disk(&self, node: usize) -> bool {
        let Some(view) = self.checker.views().last() else { return false };
        let may_be_lost = match view.lists(&self.nodes[node].me) {
            true => self.may_lose_listed(node, view),
            false => self.newcomer_lost != Some(view.number),
        };
        self.is_known_to_another(node, view.number) && may_be_lost
    }

    fn may_lose_listed(&self, node: usize, view: &View) -> bool {
        let me = &self.nodes[node].me.voter;
        let is_at_rest = |voter: &Voter| {
            self.nodes.iter().any(|known| {
                known.me.voter == *voter
                    && view.lists(&known.me)
                    && known.process.is_some()
                    && known.mirror.view() == view.number
                    && known.mirror.vote.as_ref().is_none_or(|vote| vote.accepted.is_none())
            })
        };
        let stay: BTreeSet<Voter> = view.others(me).map(|peer| peer.voter).collect();
        let nobody_campaigned = self.nodes.iter().all(|known| known.campaigned < view.number);
        *me != Voter::Replica(view.primary)
            && nobody_campaigned
            && view.voters().all(|peer| is_at_rest(&peer.voter))
            && view.is_quorum(&stay)
    }

    /// All that the plan did is over: links are whole, locks free, processes up.
    pub(super) fn end_faults(&mut self) {
        self.network.heal_all();
        self.weather = self.weather.calm();
        for (node, life, owner) in std::mem::take(&mut self.held) {
            self.deliver(node, life, |_| route::note(Note::Release { owner }));
        }
        for node in 0..self.nodes.len() {
            let life = self.nodes[node].life;
            self.drain(node, life, false);
            let known = &mut self.nodes[node];
            (known.turn_us, known.disk_us, known.dies, known.garble) = (None, None, None, 0);
            if known.disk_away.is_some() {
                // Its fault has not shown yet: it takes the process with it now.
                self.kill(node, false, 0);
            }
            self.after(self.now % 1_000, Event::Start { node });
        }
        self.trace.say(self.now, Weight::Story, || "the faults end".to_owned());
    }
}
