//! How a run ends: the faults stop, and the cluster has to come back.
//!
//! In order, each within a bound of simulated time: a write that began after the faults is answered; every data node is
//! listed, and the witnesses for which there is room; in some runs, all but a quorum die at one moment and those who are
//! left answer a write; everything comes to rest, and all listed replicas hold the same store, which is the one that the
//! decided log makes.
//!
//! Not here: what the promises demand at every moment (`checker.rs`, `observe.rs`).

use super::met::Met;
use super::plan::{Ending, MS, SECOND};
use super::story::Weight;
use super::world::{Event, World};
use crate::ids::{Hash, RequestId, Voter};
use crate::invariant::{Checked, Rule, Violation, require};
use crate::operation::{Found, PAGE_MAX, Page, Query};
use crate::storage::{StorageEvent, StorageRequest};
use crate::store::VIEWS_MAX;
use crate::view::View;
use std::collections::BTreeSet;

/// How long a write may take once the faults stop. Microseconds.
pub const WRITE_BOUND_US: u64 = 30 * SECOND;
/// How long it may take until every data node is listed: joins come one at a time, and with back-off. Microseconds.
pub const WHOLE_BOUND_US: u64 = 180 * SECOND;
/// How long it may take until nothing happens any more. Microseconds.
pub const REST_BOUND_US: u64 = 60 * SECOND;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Faults, till the plan says.
    #[default]
    Faults,
    /// Till a write is answered.
    Writes,
    /// Till every data node is listed.
    Whole,
    /// Till the survivors answer a write.
    Survivors,
    /// Till nothing is in flight.
    Rest,
    /// Some of the faults stay for ever, and a healthy core serves (`lasting.rs`).
    Core,
}

/// Where the run stands on its way to its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calm {
    phase: Phase,
    since: u64,
    /// When the last answered pulse began.
    answered: Option<u64>,
    /// Looks in a row at which all was at rest.
    quiet: u32,
}

impl Calm {
    /// Whether the faults are over.
    pub(super) fn has_begun(&self) -> bool {
        self.phase != Phase::Faults
    }

    /// A pulse that began then is answered.
    pub(super) fn written(&mut self, began: u64) {
        self.answered = self.answered.max(Some(began));
    }

    fn enter(&mut self, phase: Phase, now: u64) {
        *self = Self { phase, since: now, answered: None, quiet: 0 };
    }
}

impl World {
    /// One look, and the next one later.
    pub(super) fn look(&mut self) -> Checked {
        let waited = self.now - self.calm.since;
        match self.calm.phase {
            Phase::Faults => {
                self.end_faults();
                let is_lasting = self.plan.lasting.is_some();
                self.calm.enter(if is_lasting { Phase::Core } else { Phase::Writes }, self.now);
                if is_lasting {
                    self.begin_duty();
                } else {
                    self.pulse();
                }
            }
            Phase::Core => self.look_at_core()?,
            Phase::Writes => self.writes_resume(waited, Phase::Whole)?,
            Phase::Whole => self.becomes_whole(waited)?,
            Phase::Survivors => self.writes_resume(waited, Phase::Rest)?,
            Phase::Rest => self.comes_to_rest(waited)?,
        }
        let pause = (self.plan.beat_us() / 8).max(10 * MS);
        self.after(pause, Event::Look);
        Ok(())
    }

    fn writes_resume(&mut self, waited: u64, next: Phase) -> Checked {
        let since = self.calm.since;
        if self.calm.answered.is_some_and(|began| began >= since) {
            self.trace.say(self.now, Weight::Story, || format!("a write is answered after {} ms", waited / MS));
            self.calm.enter(next, self.now);
            return Ok(());
        }
        require(waited < WRITE_BOUND_US, Rule::Liveness, || {
            format!("no write was answered for {} s after the faults stopped", waited / SECOND)
        })?;
        self.pulse();
        Ok(())
    }

    fn becomes_whole(&mut self, waited: u64) -> Checked {
        self.give_seeds();
        match self.missing() {
            None => {
                let survive = self.plan.ending == Ending::Survivors && self.lose_all_but_a_quorum();
                if survive {
                    self.met.add(Met::Survivors);
                }
                self.calm.enter(if survive { Phase::Survivors } else { Phase::Rest }, self.now);
                Ok(())
            }
            Some(missing) => require(waited < WHOLE_BOUND_US, Rule::Liveness, || {
                format!("{missing}, {} s after the faults stopped", waited / SECOND)
            }),
        }
    }

    /// A node that knows nobody any more but those who were removed is restarted with other seeds, as an operator would.
    fn give_seeds(&mut self) {
        let Some(view) = self.checker.views().last().cloned() else { return };
        for node in 0..self.nodes.len() {
            let known = &self.nodes[node];
            let is_lost = !known.gone && !known.is_reseeded && !view.lists(&known.me) && self.has_no_seeds(node);
            if is_lost {
                self.nodes[node].is_reseeded = true;
                self.kill(node, false, 0);
            }
        }
    }

    /// What the cluster lacks to be whole.
    fn missing(&self) -> Option<String> {
        let Some(view) = self.checker.views().last() else { return Some("nobody knows a view".to_owned()) };
        let behind = self.nodes.iter().find(|node| {
            let known = node.process.as_ref().map(|process| process.known.view);
            !node.gone && (node.is_data() || view.lists(&node.me)) && known != Some(view.number)
        });
        let unlisted = self.nodes.iter().find(|node| node.is_data() && !node.gone && !view.lists(&node.me));
        let witnesses = self.nodes.iter().filter(|node| !node.is_data() && view.lists(&node.me)).count();
        let lives = self.nodes.iter().filter(|node| !node.is_data() && !node.gone).count();
        let room = (view.replicas.len() - 1).min(lives);
        let primary = self.primary().filter(|place| self.nodes[*place].serving() == Some(view.number));
        let removed = view.voters().find(|peer| self.checker.is_removed(peer));
        match (unlisted, behind, primary) {
            _ if removed.is_some() => Some(format!("view {} lists {removed:?}, which was removed", view.number)),
            (Some(node), _, _) => Some(format!("{} is not listed in view {}", node.me.voter, view.number)),
            (None, Some(node), _) => Some(format!("{} does not act in view {}", node.me.voter, view.number)),
            (None, None, None) => Some(format!("nobody serves in view {}", view.number)),
            (None, None, Some(_)) if witnesses < room => Some(format!("{witnesses} witnesses are listed, not {room}")),
            (None, None, Some(_)) => None,
        }
    }

    /// As many voters as section 3 lets die, drawn, die for ever at this moment. False when none may: either too few are left,
    /// or a next view may be half-decided, of which they might be no quorum.
    fn lose_all_but_a_quorum(&mut self) -> bool {
        let Some(view) = self.checker.views().last().cloned() else { return false };
        if self.nodes.iter().any(|node| node.campaigned >= view.number) {
            return false;
        }
        let mut stay: BTreeSet<Voter> = view.voters().map(|peer| peer.voter).collect();
        let mut order: Vec<Voter> = stay.iter().cloned().collect();
        self.rng.shuffle(&mut order);
        let mut dead = Vec::new();
        for voter in order {
            stay.remove(&voter);
            if view.is_quorum(&stay) && stay.iter().any(|voter| voter.node().is_some()) {
                dead.push(voter);
            } else {
                stay.insert(voter);
            }
        }
        for place in 0..self.nodes.len() {
            if dead.contains(&self.nodes[place].me.voter) {
                self.nodes[place].gone = true;
                self.kill(place, false, 0);
            }
        }
        !dead.is_empty()
    }

    fn comes_to_rest(&mut self, waited: u64) -> Checked {
        let restless = self.restless();
        require(waited < REST_BOUND_US, Rule::Liveness, || format!("it does not come to rest: {restless:?}"))?;
        self.calm.quiet = if restless.is_none() { self.calm.quiet + 1 } else { 0 };
        if self.calm.quiet >= 3 {
            self.compare_stores()?;
            self.finished = true;
        }
        Ok(())
    }

    /// What is still in flight.
    fn restless(&self) -> Option<String> {
        if self.clients.open_calls() > 0 {
            return Some(format!("{} calls are open", self.clients.open_calls()));
        }
        let Some(view) = self.checker.views().last() else { return Some("nobody knows a view".to_owned()) };
        let last = self.checker.log().last();
        let listed = self.nodes.iter().filter(|node| !node.gone && node.is_data() && view.lists(&node.me));
        let mut behind = listed.filter(|node| node.mirror.applied != last);
        behind.next().map(|node| format!("{} applied {}, and {last} is decided", node.me.voter, node.mirror.applied))
    }

    fn compare_stores(&mut self) -> Checked {
        let Some(view) = self.checker.views().last().cloned() else { return Ok(()) };
        let mut first: Option<Hash> = None;
        for place in 0..self.nodes.len() {
            let node = &self.nodes[place];
            if node.gone || !node.is_data() || !view.lists(&node.me) {
                continue;
            }
            let Some(process) = node.process.as_ref() else { continue };
            let digest = process.storage.digest();
            let digest =
                digest.map_err(|error| Violation::new(Rule::Stopped, format!("{}: {error}", node.me.voter)))?;
            require(*first.get_or_insert(digest) == digest, Rule::Diverged, || {
                format!("the store of {} is not that of the others", node.me.voter)
            })?;
            let kept = process.storage.view_changes(VIEWS_MAX);
            let kept = kept.map_err(|error| Violation::new(Rule::Stopped, format!("{}: {error}", node.me.voter)))?;
            self.checker.records().are(&node.me.voter, &kept)?;
            self.compare_with_oracle(place, &view)?;
        }
        Ok(())
    }

    /// Every channel and message of a replica is as the decided log makes it (S1).
    fn compare_with_oracle(&mut self, place: usize, view: &View) -> Checked {
        let page = Page { limit: PAGE_MAX, before: None, after: None, ascending: true };
        let mut queries: Vec<Query> = vec![Query::Channels { limit: PAGE_MAX, after: None }];
        for channel in self.checker.oracle().channels() {
            queries.push(Query::History { channel: channel.clone(), page });
            queries.push(Query::Stars { channel: channel.clone(), user: None, page });
        }
        let requests =
            queries.iter().map(|query| StorageRequest::Query { request: RequestId(0), query: query.clone() });
        let requests: Vec<StorageRequest> = requests.collect();
        let node = &mut self.nodes[place];
        let Some(process) = node.process.as_mut() else { return Ok(()) };
        let served = process.storage.perform(requests);
        let events = served.map_err(|error| Violation::new(Rule::Stopped, error.to_string()))?;
        let last = self.checker.log().last();
        for (query, event) in queries.iter().zip(events) {
            let expected: Result<Found, _> = self.checker.oracle().query(query, last);
            let StorageEvent::Queried { found, .. } = event else { continue };
            require(found == expected, Rule::Lost, || {
                format!(
                    "{} of view {} has {found:?} for {query:?}, and should have {expected:?}",
                    node.me.voter, view.number
                )
            })?;
        }
        Ok(())
    }
}
