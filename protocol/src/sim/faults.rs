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

use super::met::Met;
use super::network::NODES_MAX;
use super::node::Node;
use super::plan::{Fault, Moment};
use super::story::Weight;
use super::world::{Event, World};
use crate::ids::{Address, Incarnation, RequestId, ViewNumber, Voter};
use crate::invariant::{Checked, Rule, Violation, require};
use crate::lock::{LockOwner, Mode, Resource};
use crate::log::Entry;
use crate::machine::Note;
use crate::message::PeerMessage;
use crate::operator::OperatorCall;
use crate::route;
use crate::sim::disk;
use crate::storage::{Storage, is_half_installed, scan};
use crate::view::View;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Somebody dies at a letter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ambush {
    at: Moment,
    receiver: bool,
    effects: u32,
    away_us: u64,
}

/// How many times as long everything takes on a node that is slow.
pub(super) const HUNDREDFOLD: u32 = 100;

/// A step of a clock by this, or more, is one of an hour. Microseconds.
const HOUR_US: u64 = 3_600 * super::plan::SECOND;

impl World {
    pub(super) fn fault(&mut self, fault: Fault) -> Checked {
        if self.calm.has_begun() {
            return Ok(());
        }
        self.trace.say(self.now, Weight::Story, || format!("fault: {fault:?}"));
        match fault {
            Fault::Crash { node, effects, away_us, torn } => self.nodes[node].dies = Some((effects, torn, away_us)),
            Fault::CrashPrimary { effects, away_us, torn } => {
                if let Some(node) = self.primary() {
                    self.nodes[node].dies = Some((effects, torn, away_us));
                }
            }
            Fault::Flap { node, up_us, away_us, times } => self.begin_flapping(node, (up_us, away_us), times),
            Fault::Ambush { at, receiver, effects, away_us } => {
                self.ambushes.push(Ambush { at, receiver, effects, away_us });
            }
            Fault::Partition { .. }
            | Fault::IsolatePrimary { .. }
            | Fault::Cut { .. }
            | Fault::CutPair { .. }
            | Fault::Deaf { .. }
            | Fault::Mute { .. } => self.cut_links(fault),
            Fault::ClockStep { .. } | Fault::SlowDisk { .. } | Fault::SlowNode { .. } | Fault::Hundredfold { .. } => {
                self.disturb(fault)
            }
            Fault::DiskFull { .. } | Fault::DiskFails { .. } | Fault::FlipBit { .. } | Fault::Wipe { .. } => {
                return self.harm_disk(fault);
            }
            Fault::HoldLock { node, channel, lasts_us } => self.hold_lock(node, channel, lasts_us),
            Fault::Garble => {
                if let Some(node) = self.primary() {
                    self.nodes[node].garble += 1;
                }
            }
            Fault::Stop { node, grace_us, away_us } => self.stop(node, grace_us, away_us),
            Fault::Remove { node, times } => self.remove(node, times),
            Fault::Drain { node, lasts_us } => {
                self.met.add(Met::Drains);
                let life = self.nodes[node].life;
                self.drain(node, life, true);
                self.after(lasts_us, Event::EndDrain { node, life });
            }
        }
        Ok(())
    }

    fn cut_links(&mut self, fault: Fault) {
        let everybody = || 0..self.nodes.len().min(NODES_MAX);
        let others = |node: usize| everybody().filter(move |other| *other != node);
        let (met, ways, lasts_us): (Met, Vec<(usize, usize)>, u64) = match fault {
            Fault::Partition { side, lasts_us } => (Met::Partitions, self.ways_between(side), lasts_us),
            Fault::IsolatePrimary { lasts_us } => {
                let Some(node) = self.primary() else { return };
                (Met::PrimaryIsolated, self.ways_between(1 << node), lasts_us)
            }
            Fault::Cut { from, to, .. } | Fault::CutPair { one: from, other: to, .. } if from == to => return,
            Fault::Cut { from, to, lasts_us } => (Met::CutsOneWay, vec![(from, to)], lasts_us),
            Fault::CutPair { one, other, lasts_us } => (Met::CutsOfPairs, vec![(one, other), (other, one)], lasts_us),
            Fault::Deaf { node, lasts_us } => (Met::Deaf, others(node).map(|other| (other, node)).collect(), lasts_us),
            Fault::Mute { node, lasts_us } => (Met::Mute, others(node).map(|other| (node, other)).collect(), lasts_us),
            _ => return, // `fault` sends nothing else here.
        };
        if ways.is_empty() {
            return;
        }
        self.met.add(met);
        if lasts_us == u64::MAX {
            self.met.add(Met::TillTheEnd);
        }
        self.cut(ways, lasts_us);
    }

    /// Of time: clocks that jump, and nodes that are slow.
    fn disturb(&mut self, fault: Fault) {
        match fault {
            Fault::ClockStep { node, by_us } => {
                let is_of_an_hour = by_us.unsigned_abs() >= HOUR_US;
                self.met.add(if is_of_an_hour { Met::ClockStepsOfAnHour } else { Met::ClockSteps });
                self.nodes[node].clock_ahead += by_us;
            }
            Fault::SlowDisk { node, disk_us, lasts_us } => {
                self.met.add(Met::SlowDisks);
                self.nodes[node].disk_us = Some(disk_us);
                self.after(lasts_us, Event::Quicken { node });
            }
            Fault::SlowNode { node, turn_us, lasts_us } => {
                self.met.add(Met::SlowNodes);
                self.nodes[node].turn_us = Some(turn_us);
                self.after(lasts_us, Event::Quicken { node });
            }
            Fault::Hundredfold { node, lasts_us } => {
                self.met.add(Met::HundredfoldSlow);
                self.slow_down(node, HUNDREDFOLD);
                self.after(lasts_us, Event::Quicken { node });
            }
            _ => {} // `fault` sends nothing else here.
        }
    }

    fn harm_disk(&mut self, fault: Fault) -> Checked {
        match fault {
            Fault::DiskFull { node, lasts_us } => {
                self.nodes[node].disk.fill(true);
                self.after(lasts_us, Event::Space { node });
            }
            Fault::DiskFails { node, write, away_us } => self.fail_disk(node, write, away_us),
            Fault::FlipBit { node, dice, away_us } => return self.flip_bit(node, dice, away_us),
            Fault::Wipe { node, away_us } => self.lose_disk(node, away_us),
            _ => {} // `fault` sends nothing else here.
        }
        Ok(())
    }

    pub(super) fn slow_down(&mut self, node: usize, slowness: u32) {
        self.nodes[node].slowness = slowness;
        self.network.slow_down(node, slowness);
    }

    /// What was slow is itself again. Once the faults are over all is, but for what stays for ever.
    pub(super) fn quicken(&mut self, node: usize) {
        if self.calm.has_begun() {
            return;
        }
        self.slow_down(node, 1);
        let known = &mut self.nodes[node];
        (known.turn_us, known.disk_us) = (None, None);
    }

    pub(super) fn heal(&mut self, ways: Vec<(usize, usize)>) {
        if self.calm.has_begun() {
            return;
        }
        ways.into_iter().for_each(|(from, to)| self.network.heal(from, to));
        self.trace.say(self.now, Weight::Story, || "a cut is healed".to_owned());
    }

    pub(super) fn free_disk(&mut self, node: usize) {
        if !self.calm.has_begun() {
            self.nodes[node].disk.fill(false);
        }
    }

    /// A start on a full disk ends at once; it is tried again later.
    pub(super) fn starts_in_vain(&mut self, node: usize) {
        self.met.add(Met::StartsOnFullDisks);
        let known = &mut self.nodes[node];
        known.life += 1;
        known.disk.crash(&mut self.rng);
        let voter = &known.me.voter;
        self.trace.say(self.now, Weight::Story, || format!("{voter} does not start: its disk is full"));
        self.after(self.plan.beat_us() / 4, Event::Start { node });
    }

    pub(super) fn begin_flapping(&mut self, node: usize, ways: (u64, u64), times: u32) {
        self.nodes[node].flapping += 1;
        self.flap(node, self.nodes[node].flapping, ways, times);
    }

    /// It crashes, and will again, so many times in all.
    pub(super) fn flap(&mut self, node: usize, round: u32, (up_us, away_us): (u64, u64), times: u32) {
        if times == 0 || round != self.nodes[node].flapping {
            return;
        }
        if self.nodes[node].process.is_some() {
            self.met.add(Met::Flaps);
            let torn = self.rng.bool();
            self.kill(node, torn, away_us);
        }
        self.after(away_us + up_us, Event::Flap { node, round, ways: (up_us, away_us), times: times - 1 });
    }

    /// Whether somebody dies at this letter.
    pub(super) fn spring(&mut self, sender: usize, receiver: usize, message: &PeerMessage) {
        if self.ambushes.is_empty() || sender == receiver {
            return;
        }
        let Some(place) = self.ambushes.iter().position(|ambush| is_at(ambush.at, message)) else { return };
        let Ambush { receiver: dies_there, effects, away_us, .. } = self.ambushes.remove(place);
        let victim = if dies_there { receiver } else { sender };
        if self.nodes[victim].process.is_some() {
            self.met.add(Met::Ambushes);
            self.nodes[victim].dies = Some((effects, self.rng.bool(), away_us));
        }
    }

    /// Who serves, in the latest view in which anybody does.
    pub(super) fn primary(&self) -> Option<usize> {
        let serving = |place: &usize| self.nodes[*place].serving();
        (0..self.nodes.len()).filter(|place| serving(place).is_some()).max_by_key(serving)
    }

    /// All ways between a group of nodes and the others.
    fn ways_between(&self, side: u32) -> Vec<(usize, usize)> {
        let is_on_side = |place: usize| side >> place & 1 == 1;
        let places = self.nodes.len().min(NODES_MAX);
        let pairs = (0..places).flat_map(|from| (0..places).map(move |to| (from, to)));
        pairs.filter(|(from, to)| is_on_side(*from) != is_on_side(*to)).collect()
    }

    /// Some cuts are noticed at once by who keeps a request open across them, as a reset is; others by nobody, as a lost link.
    pub(super) fn cut(&mut self, ways: Vec<(usize, usize)>, lasts_us: u64) {
        let is_reset = self.rng.u8(0..3) == 0;
        for (from, to) in &ways {
            self.network.cut(*from, *to);
            if is_reset || self.rng.u8(0..6) == 0 {
                self.end_watches(*from, *to);
            }
        }
        if lasts_us < u64::MAX {
            self.after(lasts_us, Event::Heal(ways));
        }
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
        self.met.add(Met::HeldLocks);
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
            self.met.add(Met::GarbledEntries);
            let mut hash = entry.hash;
            hash.0[0] ^= 1;
            *entry = Arc::new(Entry { hash, ..Entry::clone(entry) });
        }
    }

    /// SIGTERM: a primary hands over, then the process ends.
    fn stop(&mut self, node: usize, grace_us: u64, away_us: u64) {
        self.met.add(Met::Stops);
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
        self.met.add(Met::Removals);
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
        self.count_death(node);
        let known = &mut self.nodes[node];
        let Some(mut process) = known.process.take() else { return };
        known.life += 1;
        known.dies = None;
        known.disk_away = None;
        if torn && !process.asks.is_empty() {
            self.met.add(Met::TornGroups);
            let count = self.rng.usize(1..=process.asks.len());
            let asked = process.asks.drain(..count).collect();
            known.disk.fail_next(if self.rng.bool() { disk::Fault::Write } else { disk::Fault::Flush });
            // Whatever it says, nobody hears it.
            let _unheard = process.storage.perform(asked);
        }
        let unflushed = known.disk.unflushed();
        let kept = self.rng.usize(0..=unflushed);
        known.disk.crash_keeping(kept);
        if kept < unflushed {
            self.met.add(Met::LostUnflushed);
        }
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
        self.kill(node, false, away_us);
        self.replace_disk(node);
    }

    fn replace_disk(&mut self, node: usize) {
        let view = self.checker.views().last().filter(|view| !view.lists(&self.nodes[node].me));
        if let Some(view) = view {
            self.newcomer_lost = Some(view.number);
        }
        self.wipe(node);
        self.met.add(Met::LostDisks);
    }

    /// A bit flips. The start reads the vote and the log's end; all of the log is read by `scan`, as the engine's walk and
    /// `lockstep verify` do. The node is refused, and has an empty disk from then on; so only where it may lose its own.
    fn flip_bit(&mut self, node: usize, dice: u64, away_us: u64) -> Checked {
        if !self.may_lose_disk(node) || self.nodes[node].gone {
            return Ok(());
        }
        self.kill(node, false, away_us);
        let known = &self.nodes[node];
        let rotten = known.disk.duplicate();
        // What a snapshot was replacing is thrown away unread.
        if !is_half_installed(&rotten).unwrap_or(false) && rotten.flip_bit(dice) {
            let me = &known.me;
            let opened = Storage::open(rotten.clone(), me.voter.clone(), me.incarnation, &self.plan.limits);
            let found = opened.map(drop).and_then(|()| scan::scan(&rotten).map(drop));
            if found.is_ok() {
                return Err(Violation::new(Rule::Unnoticed, format!("a bit of the disk of {} flipped", me.voter)));
            }
            self.met.add(Met::FlippedBits);
        }
        self.replace_disk(node);
        Ok(())
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
        self.ambushes.clear();
        for (node, life, owner) in std::mem::take(&mut self.held) {
            self.deliver(node, life, |_| route::note(Note::Release { owner }));
        }
        for node in 0..self.nodes.len() {
            let life = self.nodes[node].life;
            self.drain(node, life, false);
            self.slow_down(node, 1);
            let known = &mut self.nodes[node];
            (known.turn_us, known.disk_us, known.dies, known.garble) = (None, None, None, 0);
            known.flapping += 1;
            known.disk.fill(false);
            if let Some(process) = known.process.as_mut() {
                // What waits for a slow turn or disk waits no longer.
                (process.turn_pending, process.disk_busy) = (false, false);
            }
            if known.disk_away.is_some() {
                // Its fault has not shown yet: it takes the process with it now.
                self.kill(node, false, 0);
            }
            self.stir(node);
            self.stir_disk(node);
            self.after(self.now % 1_000, Event::Start { node });
        }
        self.trace.say(self.now, Weight::Story, || "the faults end".to_owned());
    }
}

/// Whether a letter is of this kind.
fn is_at(moment: Moment, message: &PeerMessage) -> bool {
    match moment {
        Moment::Prepare => matches!(message, PeerMessage::Prepare { .. }),
        Moment::Commit => matches!(message, PeerMessage::Commit { .. }),
        Moment::Promise => matches!(message, PeerMessage::Promise { .. }),
        Moment::Accept => matches!(message, PeerMessage::Accept { .. }),
        Moment::Victory => matches!(message, PeerMessage::Victory { .. }),
        Moment::SyncOk => matches!(message, PeerMessage::SyncOk { .. }),
        Moment::Entries => matches!(message, PeerMessage::Entries { .. }),
        Moment::EndSync => matches!(message, PeerMessage::EndSync { .. }),
    }
}
