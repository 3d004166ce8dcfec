//! Liveness: from some instant on the faults last for ever, and leave a healthy core, which has to serve.
//!
//! The core is what the protocol promises to serve with (section 1): nodes that see each other, a quorum of the last decided view
//! among them (section 3), with one data node of it at least. Chosen are as few as that allows, or more. Everybody else is
//! ill for ever, each in a way of its own: dead, cut off, in one direction or from some only, 100 times slower, crashing and
//! restarting, out of disk; and may disturb as much as it can.
//!
//! Each write that begins at a gateway beside a node of the core is answered within [`SERVED_WITHIN_US`], round after round. In
//! the end no voter is listed that the primary cannot talk to: else the next failure would be one too many. In some runs
//! others of the core fall ill then, as the view that is left allows (the cluster shrinks, down to one data node).
//!
//! What was begun before the instant may still decide a view in which the core is no quorum, since some of it were dead or
//! unreachable a moment ago. Then, for a while after the instant, the choice is made anew in that view.
//!
//! Not here: safety, which is watched as in any run.

use super::faults::HUNDREDFOLD;
use super::met::Met;
use super::plan::{Ending, Ill, Lasting, MS, SECOND};
use super::story::Weight;
use super::world::{Event, World};
use crate::ids::{Address, ViewNumber, Voter};
use crate::invariant::{Checked, Rule, Violation};
use crate::view::View;
use fastrand::Rng;
use std::collections::BTreeSet;

/// How long a write at a gateway of the core may take. Microseconds.
pub const SERVED_WITHIN_US: u64 = 10 * SECOND;
/// How long a voter that the primary cannot talk to may stay listed. Microseconds.
pub const LISTED_WITHIN_US: u64 = 30 * SECOND;

/// How many rounds of writes a core has to serve.
const ROUNDS: u32 = 3;
/// How often a core is chosen anew before the run counts for nothing.
const CHOICES_MAX: u32 = 6;

/// What the core has to do, and how far it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Duty {
    core: BTreeSet<usize>,
    ill: BTreeSet<usize>,
    /// When it was chosen.
    since: u64,
    choices: u32,
    /// Whether others of the core fell ill after it had served.
    is_last: bool,
    rounds: u32,
    asked_at: u64,
    /// Whose gateways wait for an answer.
    waiting: BTreeSet<usize>,
    next_round_at: u64,
    /// Since when a voter is listed in vain, once all rounds are over.
    in_vain_since: Option<u64>,
}

impl World {
    /// Whether all that is over which began before the core was chosen.
    pub(super) fn is_past(&self) -> bool {
        self.plan.lasting.is_some() && self.calm.has_begun()
    }

    /// The instant: from here on it lasts.
    pub(super) fn begin_duty(&mut self) {
        let all = (0..self.nodes.len()).filter(|place| !self.nodes[*place].gone).collect();
        self.choose(&all);
    }

    /// Chooses the core among these, and lets the others fall ill.
    fn choose(&mut self, among: &BTreeSet<usize>) {
        let Some(Lasting { ills, dice }) = self.plan.lasting.clone() else { return };
        self.duty.choices += 1;
        let mut rng = Rng::with_seed(dice.wrapping_add(self.duty.choices.into()));
        let Some(core) = self.draw_core(&mut rng, among) else {
            self.met.add(Met::CoresWithoutDuty);
            self.finished = true;
            return;
        };
        self.met.add(Met::CoresChosen);
        let names: Vec<String> = core.iter().map(|place| self.nodes[*place].me.voter.to_string()).collect();
        self.trace.say(self.now, Weight::Story, || format!("from here on for ever; healthy: {}", names.join(", ")));
        let (choices, is_last) = (self.duty.choices, self.duty.is_last);
        let ill =
            among.difference(&core).chain(&self.duty.ill).copied().filter(|place| !core.contains(place)).collect();
        self.duty = Duty { core, ill, since: self.now, choices, is_last, ..Duty::default() };
        let isolates = self.partial_links_suffice(&ills);
        for place in self.duty.ill.clone() {
            let ill = ills.get(place).copied().unwrap_or(Ill::Well);
            let ill = if isolates && matches!(ill, Ill::Partial { .. }) { Ill::Cut } else { ill };
            if among.contains(&place) {
                self.fall_ill(place, ill, &mut rng);
            }
        }
        self.begin_round();
    }

    /// The views of which these must be a quorum: the last one that any of them knows, all that are decided after it, and what may
    /// be decided already. (Who decides a view and dies before anybody hears of it has taken its vote in the one before along.)
    fn views_in_doubt(&self, places: &BTreeSet<usize>) -> Vec<View> {
        let Some(last) = self.checker.views().last().map(|view| view.number) else { return Vec::new() };
        let known = places.iter().map(|place| self.nodes[*place].mirror.view()).max().unwrap_or_default();
        let numbers = || (known.min(last).0..=last.0).map(ViewNumber);
        let decided = numbers().filter_map(|number| self.checker.views().get(number)).cloned();
        let proposed = numbers().filter_map(|number| self.proposals.get(&number)).flatten().cloned();
        decided.chain(proposed.filter(|view| view.number > last)).collect()
    }

    fn is_quorum(&self, view: &View, places: &BTreeSet<usize>) -> bool {
        let listed = places.iter().map(|place| &self.nodes[*place].me).filter(|me| view.lists(me));
        let votes: BTreeSet<Voter> = listed.map(|me| me.voter.clone()).collect();
        view.is_quorum(&votes) && votes.iter().any(|voter| voter.node().is_some())
    }

    /// Leaves out one after the other, in a drawn order, while the rest suffices. None when nobody does.
    fn draw_core(&self, rng: &mut Rng, among: &BTreeSet<usize>) -> Option<BTreeSet<usize>> {
        let last = self.checker.views().last().cloned();
        let Some(last) = last else { return Some(among.clone()) }; // Nobody knows a view: all have to be there (section 9).
        let suffices = |core: &BTreeSet<usize>| {
            let views = self.views_in_doubt(core);
            !views.is_empty() && views.iter().all(|view| self.is_quorum(view, core))
        };
        if !suffices(among) {
            return self.is_quorum(&last, among).then(|| among.clone()); // What was proposed is not what these can decide.
        }
        let mut order: Vec<usize> = among.iter().copied().collect();
        rng.shuffle(&mut order);
        let mut core = among.clone();
        for place in order {
            core.remove(&place);
            if !suffices(&core) || rng.u8(0..8) == 0 {
                core.insert(place);
            }
        }
        Some(core)
    }

    /// Whether those outside the core, with those of it whom one of them can talk to, are a quorum: then that one may rightly lead
    /// without the others, who would see nobody lead.
    fn partial_links_suffice(&self, ills: &[Ill]) -> bool {
        let two_way = |place: &usize| match ills.get(*place) {
            Some(Ill::Partial { hears, heard_by }) => hears & heard_by,
            _ => 0,
        };
        let seen = self.duty.ill.iter().map(two_way).fold(0, |all, some| all | some);
        let mut places = self.duty.ill.clone();
        places.extend(self.duty.core.iter().filter(|place| seen >> **place & 1 == 1));
        self.views_in_doubt(&self.duty.core).iter().any(|view| self.is_quorum(view, &places))
    }

    fn fall_ill(&mut self, place: usize, ill: Ill, rng: &mut Rng) {
        let voter = &self.nodes[place].me.voter;
        self.trace.say(self.now, Weight::Story, || format!("for ever: {voter} {ill:?}"));
        let core: Vec<usize> = self.duty.core.iter().copied().collect();
        let to = |mask: u8| core.iter().filter(move |other| mask >> **other & 1 == 1).map(move |other| (place, *other));
        let from = |mask: u8| to(mask).map(|(place, other)| (other, place));
        let (met, ways): (Met, Vec<(usize, usize)>) = match ill {
            Ill::Well => (Met::IllWell, Vec::new()),
            Ill::Dead => {
                (Met::IllDead, if rng.bool() { to(u8::MAX).chain(from(u8::MAX)).collect() } else { Vec::new() })
            }
            Ill::Cut => (Met::IllCut, to(u8::MAX).chain(from(u8::MAX)).collect()),
            Ill::Deaf => (Met::IllDeaf, from(u8::MAX).collect()),
            Ill::Mute => (Met::IllMute, to(u8::MAX).collect()),
            Ill::Partial { hears, heard_by } => (Met::IllPartial, to(!heard_by).chain(from(!hears)).collect()),
            Ill::Hundredfold => (Met::IllSlow, Vec::new()),
            Ill::Flaps { .. } => (Met::IllFlapping, Vec::new()),
            Ill::DiskFull => (Met::IllFullDisk, Vec::new()),
            Ill::Lossy => (Met::IllLossy, Vec::new()),
            Ill::Blinks { .. } => (Met::IllBlinking, Vec::new()),
        };
        self.met.add(met);
        self.cut(ways, u64::MAX);
        match ill {
            Ill::Dead => {
                self.nodes[place].is_off = true;
                self.kill(place, false, 0);
            }
            Ill::Hundredfold => self.slow_down(place, HUNDREDFOLD),
            Ill::Flaps { up_us, away_us } => self.begin_flapping(place, (up_us, away_us), u32::MAX),
            Ill::DiskFull => self.nodes[place].disk.fill(true),
            Ill::Lossy => self.network.make_lossy(place, true),
            Ill::Blinks { up_us, away_us } => {
                self.nodes[place].flapping += 1;
                self.blink(place, self.nodes[place].flapping, (up_us, away_us), true);
            }
            Ill::Well | Ill::Cut | Ill::Deaf | Ill::Mute | Ill::Partial { .. } => {}
        }
    }

    /// Its links to the core are cut, or whole again.
    pub(super) fn blink(&mut self, node: usize, round: u32, (up_us, away_us): (u64, u64), is_cut: bool) {
        if round != self.nodes[node].flapping {
            return;
        }
        let ways: Vec<(usize, usize)> =
            self.duty.core.iter().flat_map(|other| [(node, *other), (*other, node)]).collect();
        if is_cut {
            self.cut(ways, u64::MAX);
        } else {
            ways.into_iter().for_each(|(from, to)| self.network.heal(from, to));
        }
        self.after(
            if is_cut { away_us } else { up_us },
            Event::Blink { node, round, ways: (up_us, away_us), is_cut: !is_cut },
        );
    }

    /// All are well again.
    fn recover_all(&mut self) {
        self.network.heal_all();
        for node in 0..self.nodes.len() {
            self.slow_down(node, 1);
            self.network.make_lossy(node, false);
            let known = &mut self.nodes[node];
            known.flapping += 1;
            known.is_off = false;
            known.disk.fill(false);
            self.after(1, Event::Start { node });
        }
        self.duty.ill.clear();
    }

    /// Those of the core who are told of the last view, since it lists them, or who know the address of one who is. (A node whose
    /// seeds are all dead, and that no view lists any more, finds nobody.)
    fn informed(&self) -> BTreeSet<usize> {
        let Some(last) = self.checker.views().last() else { return self.duty.core.clone() };
        let (mut informed, mut lost): (BTreeSet<usize>, BTreeSet<usize>) =
            self.duty.core.iter().partition(|place| last.lists(&self.nodes[**place].me));
        loop {
            let finds = |place: &usize| {
                let view = self.nodes[*place].mirror.vote.as_ref().map(|vote| &vote.view);
                let known: BTreeSet<Address> = view
                    .iter()
                    .flat_map(|view| view.voters())
                    .map(|peer| peer.address)
                    .chain(self.seeds_of(*place))
                    .collect();
                informed.iter().any(|other| known.contains(&self.nodes[*other].me.address))
            };
            let Some(found) = lost.iter().copied().find(finds) else { return informed };
            lost.remove(&found);
            informed.insert(found);
        }
    }

    fn begin_round(&mut self) {
        self.duty.rounds += 1;
        self.duty.asked_at = self.now;
        self.duty.waiting = self.informed().into_iter().filter(|place| !self.nodes[*place].gone).collect();
        for host in self.duty.waiting.clone() {
            self.pulse_at(host);
        }
    }

    /// A write at a gateway was answered. One that took no effect is begun again.
    pub(super) fn told_gateway(&mut self, host: usize, began: Option<u64>, is_done: bool) {
        if began.is_none_or(|began| began < self.duty.asked_at) || !self.duty.waiting.contains(&host) {
            return;
        }
        if !is_done {
            self.pulse_at(host);
            return;
        }
        self.duty.waiting.remove(&host);
        self.counts.longest_wait_us = self.counts.longest_wait_us.max(self.now - self.duty.asked_at);
        if self.duty.waiting.is_empty() {
            let took_ms = (self.now - self.duty.asked_at) / MS;
            self.trace.say(self.now, Weight::Story, || {
                format!("every gateway of the core has its answer, after {took_ms} ms")
            });
            self.duty.next_round_at = self.now + self.rng.u64(0..=3 * self.plan.beat_us());
        }
    }

    /// One look at what the core does.
    pub(super) fn look_at_core(&mut self) -> Checked {
        if self.is_left_out() && self.now < self.duty.since + self.grace_us() && self.duty.choices < CHOICES_MAX {
            self.met.add(Met::CoresChosenAnew);
            self.recover_all();
            self.begin_duty();
            return Ok(());
        }
        if !self.duty.waiting.is_empty() {
            let is_served = self.now < self.duty.asked_at + SERVED_WITHIN_US;
            return if is_served { Ok(()) } else { Err(self.stands_still()) };
        }
        if self.duty.rounds < ROUNDS {
            if self.now >= self.duty.next_round_at {
                self.begin_round();
            }
            return Ok(());
        }
        let in_vain = self.listed_in_vain();
        let since = *self.duty.in_vain_since.get_or_insert(self.now);
        match in_vain {
            Some(what) if self.now >= since + LISTED_WITHIN_US => Err(Violation::new(Rule::Liveness, what)),
            Some(_) => Ok(()),
            None if self.plan.ending == Ending::Survivors && !self.duty.is_last => {
                self.duty.is_last = true;
                let among = self.duty.core.clone();
                self.choose(&among.into_iter().filter(|place| !self.nodes[*place].gone).collect());
                Ok(())
            }
            None => {
                self.finished = true;
                Ok(())
            }
        }
    }

    /// Whether the last view counts the core as no quorum.
    fn is_left_out(&self) -> bool {
        self.checker.views().last().is_some_and(|view| !self.is_quorum(view, &self.duty.core))
    }

    /// How long what was noticed before the instant may still have effects.
    fn grace_us(&self) -> u64 {
        2 * self.plan.beat_us() + 2 * self.plan.timing.vote_timeout_ms * MS
    }

    /// A voter with which the primary, who is of the core, cannot talk, and which its view still lists. (Of a full disk nobody
    /// knows before something is written to it.)
    fn listed_in_vain(&self) -> Option<String> {
        let view = self.checker.views().last()?;
        let place_of = |voter: &Voter| self.nodes.iter().position(|node| node.me.voter == *voter);
        let primary = place_of(&Voter::Replica(view.primary)).filter(|place| self.duty.core.contains(place))?;
        let is_lost = |place: &usize| {
            let is_cut = !self.network.is_open(primary, *place) || !self.network.is_open(*place, primary);
            let known = &self.nodes[*place];
            view.lists(&known.me) && (is_cut || known.is_off)
        };
        let lost = self.duty.ill.iter().copied().find(is_lost)?;
        let (voter, number) = (&self.nodes[lost].me.voter, view.number);
        Some(format!("view {number} still lists {voter}, with which its primary {} cannot talk", view.primary))
    }

    fn stands_still(&self) -> Violation {
        let seconds = (self.now - self.duty.asked_at) / SECOND;
        let name = |place: &usize| self.nodes[*place].me.voter.to_string();
        let waiting: Vec<String> = self.duty.waiting.iter().map(name).collect();
        let view = self.checker.views().last().map_or("none".to_owned(), super::observe::brief);
        let states: Vec<String> = self.duty.core.iter().map(|place| self.state_of(*place)).collect();
        let (waiting, states) = (waiting.join(", "), states.join("; "));
        let what = format!(
            "no write was answered for {seconds} s at the gateways beside {waiting}. View {view}. The core: {states}"
        );
        Violation::new(Rule::Liveness, what)
    }

    fn state_of(&self, place: usize) -> String {
        let node = &self.nodes[place];
        let Some(process) = node.process.as_ref() else { return format!("{} is not running", node.me.voter) };
        let status = process.status();
        let view = process.known.view;
        let serving = if status.serving.is_some() { ", serves" } else { "" };
        let sync = status.sync.map_or(String::new(), |sync| format!(", {} of the join of {}", sync.phase, sync.node));
        let waits =
            if status.waiting_for.is_empty() { String::new() } else { format!(", waits for {}", status.waiting_for) };
        format!(
            "{} is {:?} in view {view}{serving}{sync}{waits}, {} writes wait, {} locks held, {} waited for",
            node.me.voter, status.role, status.writes_waiting, status.locks_held, status.locks_waiting
        )
    }
}
