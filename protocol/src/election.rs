//! Bully: who stands.
//!
//! A replica that suspects the primary asks every replica with a higher id whether it lives; if none does, or none that
//! can lead, it campaigns. Any replica of the view may lead, since each holds every committed entry: so ids decide, and
//! logs need not be compared.
//!
//! Not here: who is suspected (`heartbeat.rs`), and whether a quorum agrees (`campaign.rs`): an election that stands wrongly
//! costs only letters.
//!
//! Source: Garcia-Molina, "Elections in a Distributed Computing System", 1982.

#[cfg(test)]
mod tests;

use crate::change::Suspicion;
use crate::ids::{Address, Millis, NodeId, Now, Peer, ViewNumber, Voter};
use crate::machine::{Effects, Machine, Note, Setup, Timing};
use crate::message::PeerMessage;
use crate::status::NodeStatus;
use crate::view::View;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// The primary is suspected.
    Suspected { view: ViewNumber, suspicion: Suspicion },
    /// It is not any more.
    Trusted { view: ViewNumber },
    /// A lower replica stands.
    Election { from: Peer, view: View },
    /// A higher replica lives.
    Alive { from: Peer, view: ViewNumber, can_lead: bool },
    /// Somebody leads.
    Victory { from: Peer, view: View },
    /// A node answered `AskView`: it can be reached, and knows this view.
    Reached { from: Peer, view: ViewNumber },
    /// A connection was refused or reset.
    Unreachable { address: Address },
    /// A view is in force.
    ViewChanged(Arc<View>),
    /// This node serves as primary.
    Serving { view: ViewNumber },
    /// It does not any more; whether it may stand again at once.
    NotServing { view: ViewNumber, can_lead: bool },
    /// A campaign of this node's own ended without its view.
    CampaignFailed { view: ViewNumber, no_quorum: bool, reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// No election.
    Idle,
    /// higher replicas were asked; these have not answered.
    Asking { waiting: BTreeSet<NodeId>, until: Millis },
    /// a higher one that can lead lives.
    AwaitingVictory { until: Millis },
    /// This node stands. The wait is only for a campaign that says nothing.
    Campaigning { until: Millis },
    /// a random wait after a campaign that failed.
    Resting { until: Millis },
}

/// a higher replica asks whether it reaches everyone, then asks the primary to hand over.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TakeOver {
    at: Millis,
    /// None before the question went out.
    reached: Option<BTreeSet<Voter>>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Election {
    me: Peer,
    timing: Timing,
    rng: fastrand::Rng,
    view: Option<Arc<View>>,
    /// This node is the view's primary, from the view's beginning on and until it ceases to be it.
    leading: bool,
    suspected: Option<Suspicion>,
    phase: Phase,
    /// Failed campaigns in a row: the random wait grows with them.
    failures: u32,
    /// until then this node says that it cannot lead.
    cannot_lead_until: Millis,
    take_over: Option<TakeOver>,
    last_take_over: Option<Millis>,
}

impl Election {
    /// A machine that has heard of no view yet.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self {
            me: setup.me.clone(),
            timing: setup.timing.clone(),
            rng: fastrand::Rng::with_seed(setup.seed ^ 0x0e1e_c710),
            view: None,
            leading: false,
            suspected: None,
            phase: Phase::Idle,
            failures: 0,
            cannot_lead_until: Millis(0),
            take_over: None,
            last_take_over: None,
        }
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        if let (Some(suspicion), true) = (&self.suspected, status.waiting_for.is_empty()) {
            status.waiting_for = format!("a primary: the last one is suspected ({})", suspicion.sign);
        }
    }

    /// The view in force, if this node is a replica of it: no one else stands, and no one else answers `Alive`.
    fn electorate(&self) -> Option<(Arc<View>, NodeId)> {
        let view = self.view.clone().filter(|view| view.lists_replica(&self.me))?;
        Some((view, self.me.voter.node()?))
    }

    ///
    fn begin(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        let Some((view, own)) = self.electorate() else { return effects };
        let higher: BTreeSet<NodeId> = view.replicas.keys().copied().filter(|id| *id > own).collect();
        if higher.is_empty() {
            return self.campaign(now);
        }
        for id in &higher {
            if let Some(seat) = view.replicas.get(id) {
                effects.send(&seat.address, PeerMessage::Election { view: view.as_ref().clone() });
            }
        }
        let until = now.elapsed.plus(self.timing.election_answer_timeout_ms);
        self.phase = Phase::Asking { waiting: higher, until };
        effects
    }

    /// nobody higher lives, or none that can lead.
    fn campaign(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        let Some((view, _)) = self.electorate() else { return effects };
        let suspicion = self.suspected;
        let patience_ms =
            self.timing.vote_timeout_ms.saturating_mul(2) + self.timing.gather_timeout_ms.saturating_mul(3);
        self.phase = Phase::Campaigning { until: now.elapsed.plus(patience_ms) };
        if self.failures == 0 || self.failures.is_power_of_two() {
            let why = suspicion.map_or("a lower node stands".to_owned(), |suspicion| suspicion.sign.to_string());
            effects.announce(format!(
                "election in view {}: stands as primary; of node {}: {why}",
                view.number, view.primary
            ));
        }
        effects.tell(Note::Campaign { view: view.number, suspicion });
        effects
    }

    /// Somebody who was asked has answered that it cannot lead, or cannot be reached.
    fn cross_off(&mut self, now: Now, id: NodeId) -> Effects {
        let Phase::Asking { waiting, .. } = &mut self.phase else { return Effects::none() };
        waiting.remove(&id);
        if waiting.is_empty() { self.campaign(now) } else { Effects::none() }
    }

    fn on_suspected(&mut self, now: Now, view: ViewNumber, suspicion: Suspicion) -> Effects {
        let known = self.electorate().is_some_and(|(known, _)| known.number == view);
        if !known || self.leading {
            return Effects::none();
        }
        self.suspected = Some(suspicion);
        if now.elapsed < self.cannot_lead_until {
            self.phase = Phase::Resting { until: self.cannot_lead_until };
            return Effects::none();
        }
        match self.phase {
            Phase::Idle | Phase::Resting { .. } => {
                self.failures = 0;
                self.begin(now)
            }
            Phase::Asking { .. } | Phase::AwaitingVictory { .. } | Phase::Campaigning { .. } => Effects::none(),
        }
    }

    fn on_trusted(&mut self, view: ViewNumber) {
        if self.electorate().is_some_and(|(known, _)| known.number == view) {
            self.suspected = None;
            self.failures = 0;
            self.phase = Phase::Idle;
        }
    }

    /// of a lower id. A sender that is behind is told the view by `replica.rs`.
    fn on_election(&mut self, now: Now, from: &Peer, theirs: ViewNumber) -> Effects {
        let mut effects = Effects::none();
        let Some((view, _)) = self.electorate() else { return effects };
        let lower = view.lists_replica(from) && from.voter < self.me.voter;
        if !lower || theirs != view.number {
            return effects;
        }
        if self.leading {
            effects.send(&from.address, PeerMessage::Victory { view: view.as_ref().clone(), decision: None });
            return effects;
        }
        let can_lead = now.elapsed >= self.cannot_lead_until;
        effects.send(&from.address, PeerMessage::Alive { view: view.number, can_lead });
        if self.phase == Phase::Idle {
            effects.append(self.begin(now));
        }
        effects
    }

    fn on_alive(&mut self, now: Now, from: &Peer, view: ViewNumber, can_lead: bool) -> Effects {
        let known = self.electorate().is_some_and(|(known, _)| known.number == view && known.lists_replica(from));
        let asked = match (&self.phase, from.voter.node()) {
            (Phase::Asking { waiting, .. }, Some(id)) => waiting.contains(&id).then_some(id),
            (Phase::Asking { .. } | Phase::Idle | Phase::AwaitingVictory { .. }, _) => None,
            (Phase::Campaigning { .. } | Phase::Resting { .. }, _) => None,
        };
        match asked.filter(|_| known) {
            Some(_) if can_lead => {
                let until = now.elapsed.plus(self.timing.election_victory_timeout_ms);
                self.phase = Phase::AwaitingVictory { until };
                Effects::none()
            }
            Some(id) => self.cross_off(now, id),
            None => Effects::none(),
        }
    }

    /// The serving primary of this very view says so: the suspicion was wrong, or one's own link is bad. Then heartbeats
    /// will say it again; and if the primary has lost its own quorum, they will get `not_primary`.
    fn on_victory(&mut self, now: Now, from: &Peer, view: &View) -> Effects {
        let known = self.electorate().is_some_and(|(known, _)| known.number == view.number && known.is_primary(from));
        if known && self.phase != Phase::Idle {
            self.phase = Phase::Resting { until: now.elapsed.plus(self.timing.election_retry_ms) };
        }
        Effects::none()
    }

    fn on_unreachable(&mut self, now: Now, address: &Address) -> Effects {
        let voter = self.view.as_ref().and_then(|view| view.voter_at(address));
        match voter.and_then(|voter| voter.node()) {
            Some(id) => self.cross_off(now, id),
            None => Effects::none(),
        }
    }

    /// a random wait, then R-12 again. It grows, so that duelling candidates part.
    fn on_campaign_failed(&mut self, now: Now, view: ViewNumber, no_quorum: bool) -> Effects {
        if self.electorate().is_none_or(|(known, _)| known.number != view) {
            return Effects::none();
        }
        if no_quorum {
            self.stand_back(now);
        }
        let first_ms = (self.timing.election_retry_ms / 16).max(1);
        let most_ms = first_ms.saturating_mul(1 << self.failures.min(4)).min(self.timing.election_retry_ms.max(1));
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Resting { until: now.elapsed.plus(self.rng.u64(most_ms / 2..=most_ms)) };
        Effects::none()
    }

    /// Lets others stand first, who hear with their next beat that nobody leads.
    fn stand_back(&mut self, now: Now) {
        let ms = self.timing.heartbeat_interval_ms + self.timing.election_retry_ms;
        self.cannot_lead_until = now.elapsed.plus(ms);
    }

    /// What made it step down may last: a disk that hangs, or a link that is cut.
    fn on_not_serving(&mut self, now: Now, view: ViewNumber, can_lead: bool) {
        if self.view.as_ref().is_none_or(|known| known.number != view) {
            return;
        }
        self.leading = false;
        if !can_lead {
            self.stand_back(now);
        }
    }

    fn on_view_changed(&mut self, now: Now, view: Arc<View>) -> Effects {
        self.suspected = None;
        self.leading = view.is_primary(&self.me);
        self.phase = Phase::Idle;
        self.failures = 0;
        self.take_over = None;
        let lower_leads = Voter::Replica(view.primary) < self.me.voter && view.lists_replica(&self.me);
        self.view = Some(view);
        if lower_leads {
            self.plan_take_over(now);
        }
        Effects::none()
    }

    /// Not before the new view has had time to settle, and once per `takeover_backoff` at most.
    fn plan_take_over(&mut self, now: Now) {
        let settled = now.elapsed.plus(self.timing.election_victory_timeout_ms);
        let backoff_ms = self.timing.takeover_backoff_ms;
        let at = self.last_take_over.map_or(settled, |last| settled.max(last.plus(backoff_ms)));
        self.take_over = Some(TakeOver { at, reached: None });
    }

    /// first, does it reach everyone? One that cannot hear a witness would lead a smaller view.
    fn on_take_over_due(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        let Some((view, _)) = self.electorate() else { return effects };
        self.last_take_over = Some(now.elapsed);
        self.plan_take_over(now);
        if self.suspected.is_some() || now.elapsed < self.cannot_lead_until {
            return effects;
        }
        if let Some(take_over) = &mut self.take_over {
            take_over.reached = Some(BTreeSet::from([self.me.voter.clone()]));
        }
        for peer in view.others(&self.me.voter) {
            effects.send(&peer.address, PeerMessage::AskView);
        }
        effects
    }

    fn on_reached(&mut self, from: &Peer, theirs: ViewNumber) -> Effects {
        let mut effects = Effects::none();
        let Some((view, _)) = self.electorate() else { return effects };
        let counts = view.number == theirs && view.lists(from) && self.suspected.is_none();
        let Some(take_over) = self.take_over.as_mut().filter(|_| counts) else { return effects };
        let Some(reached) = &mut take_over.reached else { return effects };
        reached.insert(from.voter.clone());
        if view.voters().all(|peer| reached.contains(&peer.voter)) {
            take_over.reached = None;
            if let Some(primary) = view.primary_peer() {
                effects.announce(format!("asks node {} to hand over: the highest id leads", view.primary));
                effects.send(&primary.address, PeerMessage::TakeOver { view: view.number });
            }
        }
        effects
    }
}

impl Machine for Election {
    type Input = Input;

    fn step(&mut self, now: Now, input: Input) -> Effects {
        match input {
            Input::Suspected { view, suspicion } => self.on_suspected(now, view, suspicion),
            Input::Trusted { view } => {
                self.on_trusted(view);
                Effects::none()
            }
            Input::Election { from, view } => self.on_election(now, &from, view.number),
            Input::Alive { from, view, can_lead } => self.on_alive(now, &from, view, can_lead),
            Input::Victory { from, view } => self.on_victory(now, &from, &view),
            Input::Reached { from, view } => self.on_reached(&from, view),
            Input::Unreachable { address } => self.on_unreachable(now, &address),
            Input::ViewChanged(view) => self.on_view_changed(now, view),
            Input::Serving { view } => {
                self.on_trusted(view);
                Effects::none()
            }
            Input::NotServing { view, can_lead } => {
                self.on_not_serving(now, view, can_lead);
                Effects::none()
            }
            Input::CampaignFailed { view, no_quorum, .. } => self.on_campaign_failed(now, view, no_quorum),
        }
    }

    fn deadline(&self) -> Option<Millis> {
        let phase = match self.phase {
            Phase::Idle => None,
            Phase::Asking { until, .. }
            | Phase::AwaitingVictory { until }
            | Phase::Campaigning { until }
            | Phase::Resting { until } => Some(until),
        };
        phase.into_iter().chain(self.take_over.as_ref().map(|take_over| take_over.at)).min()
    }

    fn tick(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        if self.take_over.as_ref().is_some_and(|take_over| take_over.at <= now.elapsed) {
            effects.append(self.on_take_over_due(now));
        }
        effects.append(match self.phase {
            Phase::Asking { until, .. } if until <= now.elapsed => self.campaign(now),
            Phase::AwaitingVictory { until } | Phase::Campaigning { until } | Phase::Resting { until }
                if until <= now.elapsed =>
            {
                self.phase = Phase::Idle;
                if self.suspected.is_some() { self.begin(now) } else { Effects::none() }
            }
            Phase::Idle
            | Phase::Asking { .. }
            | Phase::AwaitingVictory { .. }
            | Phase::Campaigning { .. }
            | Phase::Resting { .. } => Effects::none(),
        });
        effects
    }
}
