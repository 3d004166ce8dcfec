//! Deciding the next view (R-13..R-17): Paxos, whose acceptors are the voters of the view in force.
//!
//! One campaign at a time. A candidate first asks whether it would be heard (a trial that changes nothing), then gathers
//! promises from all who live, then proposes. It promises and accepts itself, durably, before it asks others: so it never
//! uses one ballot twice, and so no entry commits in the old view once it has accepted the next one.
//!
//! `goals.rs`: what the next view is to look like; `answers.rs`: what comes back; `account.rs`: what is told of it later. Not here: when to stand (`election.rs`), whom to set offline
//! (`coordinator.rs`), and the votes themselves (`replica.rs`), this node's own included.
//!
//! Source: Lamport, "Paxos Made Simple", 2001.

mod account;
mod answers;
mod goals;
#[cfg(test)]
mod tests;

use crate::change::{Leave, Reason, Sign, Suspicion};
use crate::ids::{Address, Ballot, Millis, NodeId, Now, Peer, ViewNumber, Voter};
use crate::machine::{Effect, Effects, Machine, Note, Setup, Timing};
use crate::message::{BallotAnswer, PeerMessage};
use crate::status::NodeStatus;
use crate::view::View;
use account::{Account, Closed};
use goals::Goals;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// Election: stand.
    Campaign { view: ViewNumber, suspicion: Option<Suspicion> },
    /// Coordinator: leave these out; nobody: bring a half-decided view to its end.
    SetOffline { view: ViewNumber, reasons: Vec<Reason> },
    /// Sync: a replica more.
    AddReplica { view: ViewNumber, peer: Peer, locked_at: Millis },
    /// Heartbeat: a witness more.
    AddWitness { view: ViewNumber, peer: Peer },
    /// Coordinator: another primary.
    HandOverNow { view: ViewNumber, to: NodeId, leaves: Option<Leave>, since: Millis },
    ///
    TrialAnswer {
        from: Peer,
        view: ViewNumber,
        campaign: u64,
        willing: bool,
        promised: Option<Ballot>,
        sign: Option<Sign>,
    },
    ///
    Promised { from: Peer, view: ViewNumber, ballot: Ballot, answer: BallotAnswer },
    ///
    Accepted { from: Peer, view: ViewNumber, ballot: Ballot, answer: BallotAnswer },
    /// A connection was refused or reset.
    Unreachable { address: Address },
    /// This node serves no more; `can_lead`: since it has begun anew, or accepted a next view.
    NotServing { view: ViewNumber, can_lead: bool },
    /// A view is in force.
    ViewChanged(Arc<View>),
}

/// How often the primary tries again at once when it is outbid: a candidate that outbids it was let by a quorum.
const OUTBID_TRIES_MAX: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Would you promise?
    Trial,
    /// The own promise is being made durable.
    PromiseSelf,
    /// Promises come in.
    Promise,
    /// The own acceptance is being made durable.
    AcceptSelf,
    /// Acceptances come in.
    Accept,
}

/// One campaign.
#[derive(Clone, Debug)]
struct Run {
    campaign: u64,
    stage: Stage,
    ballot: Ballot,
    /// Who said yes at this stage.
    yes: BTreeSet<Voter>,
    /// Who said no at this stage, or cannot be reached.
    no: BTreeSet<Voter>,
    /// It suspects the primary and does not support itself: its history is not the primary's, and it cannot lead either.
    is_unfit: bool,
    /// Who answered anything at this stage: of a trial, an unwilling quorum is a quorum all the same.
    answered: BTreeSet<Voter>,
    /// The accepted view of the highest ballot that was reported.
    accepted: Option<(Ballot, View)>,
    proposal: Option<View>,
    resend_at: Millis,
    /// Till then everyone is waited for, though a quorum has answered.
    gather_until: Millis,
    deadline: Millis,
    account: Account,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Campaign {
    me: Peer,
    timing: Timing,
    rng: fastrand::Rng,
    view: Option<Arc<View>>,
    goals: Goals,
    run: Option<Run>,
    campaigns: u64,
    /// The highest ballot round heard of for the view after the one in force.
    round: u64,
    outbid_tries: u32,
    /// What this campaign had decided and is not in force here yet: till then nothing is begun.
    decided: Option<Closed>,
    retry_at: Option<Millis>,
}

impl Campaign {
    /// A machine that has heard of no view yet.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self {
            me: setup.me.clone(),
            timing: setup.timing.clone(),
            rng: fastrand::Rng::with_seed(setup.seed ^ 0x00ca_33a1),
            view: None,
            goals: Goals::default(),
            run: None,
            campaigns: 0,
            round: 0,
            outbid_tries: 0,
            decided: None,
            retry_at: None,
        }
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        if self.run.is_some() && status.waiting_for.is_empty() {
            "a quorum for the next view".clone_into(&mut status.waiting_for);
        }
    }

    /// The view in force, if it is this one and lists this node as a replica: nobody else stands.
    fn electorate(&self, view: ViewNumber) -> Option<Arc<View>> {
        self.view.clone().filter(|known| known.number == view && known.lists_replica(&self.me))
    }

    /// A goal has come: begins a campaign, or changes the one that has not proposed yet.
    fn pursue(&mut self, now: Now) -> Effects {
        match &self.run {
            None if self.retry_at.is_none() && self.decided.is_none() => self.begin(now),
            Some(run) if run.stage == Stage::Promise => self.advance(now),
            None | Some(_) => Effects::none(),
        }
    }

    fn begin(&mut self, now: Now) -> Effects {
        let Some(view) = self.view.clone() else { return Effects::none() };
        self.retry_at = None;
        self.campaigns += 1;
        let Voter::Replica(node) = self.me.voter else { return Effects::none() };
        self.run = Some(Run {
            campaign: self.campaigns,
            stage: Stage::Trial,
            ballot: Ballot { round: 0, node },
            yes: BTreeSet::new(),
            no: BTreeSet::new(),
            is_unfit: false,
            answered: BTreeSet::new(),
            accepted: None,
            proposal: None,
            resend_at: Millis(0),
            gather_until: Millis(0),
            deadline: Millis(0),
            account: Account::default(),
        });
        self.enter(now, &view, Stage::Trial)
    }

    fn enter(&mut self, now: Now, view: &View, stage: Stage) -> Effects {
        // Disks are waited for as long as for votes; a trial of a candidate that nobody supports costs nothing to repeat.
        let only_asks = stage == Stage::Trial && !self.goals.as_primary;
        let patience_ms = if only_asks { self.timing.gather_timeout_ms } else { self.timing.vote_timeout_ms };
        let resend_ms = (self.timing.gather_timeout_ms / 3).max(1);
        let Some(run) = &mut self.run else { return Effects::none() };
        let keep_own = matches!(stage, Stage::Promise | Stage::Accept);
        run.stage = stage;
        run.account.entered(now.elapsed, stage);
        run.yes.retain(|voter| keep_own && *voter == self.me.voter);
        run.answered = run.yes.clone();
        run.no.clear();
        run.gather_until = now.elapsed.plus(self.timing.gather_timeout_ms);
        run.deadline = now.elapsed.plus(patience_ms);
        run.resend_at = now.elapsed.plus(resend_ms);
        let mut effects = self.ask(view);
        effects.append(self.advance(now)); // Alone in its view, it is done already.
        effects
    }

    /// The stage's letter to all who are asked and have not answered.
    fn ask(&self, view: &View) -> Effects {
        let mut effects = Effects::none();
        let Some(run) = &self.run else { return effects };
        for peer in view.voters().filter(|peer| self.is_asked(run, &peer.voter)) {
            if run.yes.contains(&peer.voter) || run.no.contains(&peer.voter) {
                continue;
            }
            let (view, ballot) = (view.number, run.ballot);
            let letter = match (run.stage, &run.proposal) {
                (Stage::Trial, _) => PeerMessage::Trial { view, campaign: run.campaign },
                (Stage::PromiseSelf | Stage::Promise, _) => PeerMessage::Promise { view, ballot },
                (Stage::AcceptSelf | Stage::Accept, Some(proposal)) => {
                    PeerMessage::Accept { view, ballot, proposal: proposal.clone() }
                }
                (Stage::AcceptSelf | Stage::Accept, None) => return effects, // Never: a proposal precedes these stages.
            };
            effects.send(&peer.address, letter);
        }
        effects
    }

    /// Whom a stage asks: itself first, where its own durability must come first. A primary needs nobody's leave to begin
    /// only its own last ballot.
    fn is_asked(&self, run: &Run, voter: &Voter) -> bool {
        match run.stage {
            Stage::PromiseSelf | Stage::AcceptSelf => *voter == self.me.voter,
            Stage::Trial => *voter == self.me.voter || !self.goals.as_primary,
            Stage::Promise | Stage::Accept => true,
        }
    }

    /// Whether this stage has heard enough, and what follows.
    fn advance(&mut self, now: Now) -> Effects {
        let (Some(view), Some(run)) = (self.view.clone(), &self.run) else { return Effects::none() };
        let timed_out = run.deadline <= now.elapsed;
        let gathered = run.gather_until <= now.elapsed;
        let own = run.yes.contains(&self.me.voter);
        let heard = |peer: &Peer| {
            run.yes.contains(&peer.voter) || run.no.contains(&peer.voter) || !self.is_asked(run, &peer.voter)
        };
        let all = view.voters().all(|peer| heard(&peer) || self.goals.offline.contains(&peer.voter));
        let quorum = view.is_quorum(&run.yes);
        match run.stage {
            Stage::Trial if own && (quorum || self.goals.as_primary) => self.ask_own_promise(now, &view),
            Stage::PromiseSelf if own => self.enter(now, &view, Stage::Promise),
            Stage::Promise if (all || gathered) && quorum => self.propose(now, &view),
            Stage::AcceptSelf if own => self.enter(now, &view, Stage::Accept),
            Stage::Accept if quorum => self.decide(now, &view),
            Stage::Trial | Stage::PromiseSelf | Stage::Promise | Stage::AcceptSelf | Stage::Accept => {
                // Who is to be set offline is waited for after all: without a quorum, it may be alive.
                let hopeless = view.voters().all(|peer| heard(&peer)) && run.stage != Stage::Accept;
                if hopeless || timed_out { self.give_up(&view) } else { Effects::none() }
            }
        }
    }

    fn ask_own_promise(&mut self, now: Now, view: &View) -> Effects {
        self.round = self.round.saturating_add(1);
        let round = self.round;
        if let Some(run) = &mut self.run {
            run.ballot.round = round;
        }
        self.enter(now, view, Stage::PromiseSelf)
    }

    /// what was accepted under the highest ballot; else this campaign's own wish.
    fn propose(&mut self, now: Now, view: &View) -> Effects {
        let Some(run) = &mut self.run else { return Effects::none() };
        let accepted = run.accepted.clone().map(|(_, view)| view);
        if accepted.is_none() && self.goals.can_wait() && !view.voters().all(|peer| run.yes.contains(&peer.voter)) {
            return self.fail(view, false, "a witness is listed once everybody answers"); // It asks again.
        }
        run.account.gathered(&run.yes);
        let cause = self.goals.cause(view, &self.me, &run.yes, &run.account.seen);
        let Some(proposal) = accepted.or_else(|| self.goals.proposal(view, &self.me, &run.yes, cause)) else {
            return self.fail(view, false, "the node that was to lead did not answer");
        };
        run.proposal = Some(proposal);
        self.enter(now, view, Stage::AcceptSelf)
    }

    /// A quorum has accepted: the next view is decided, whatever happens to this node.
    fn decide(&mut self, now: Now, view: &View) -> Effects {
        let mut effects = Effects::none();
        let Some(mut run) = self.run.take() else { return effects };
        let Some(next) = run.proposal.take() else { return effects };
        let closed = run.account.close(now.elapsed, &self.goals, view, (run.ballot, &run.yes));
        let decision = closed.decision();
        self.decided = Some(closed);
        effects.tell(Note::Learnt { view: next.clone() });
        let concerned: BTreeSet<Peer> = view.voters().chain(next.voters()).chain(self.goals.newcomers()).collect();
        for peer in concerned.iter().filter(|peer| peer.address != self.me.address) {
            let (view, decision) = (next.clone(), Some(decision.clone()).filter(|_| next.is_primary(peer)));
            effects.send(&peer.address, PeerMessage::Victory { view, decision });
        }
        effects
    }

    fn give_up(&mut self, view: &View) -> Effects {
        let Some(run) = &self.run else { return Effects::none() };
        let mut reached = run.answered.clone();
        reached.extend(run.yes.iter().cloned());
        let no_quorum = run.is_unfit || !view.is_quorum(&reached) || run.stage == Stage::Accept;
        let silent: Vec<String> =
            view.voters().filter(|p| !reached.contains(&p.voter)).map(|p| p.voter.to_string()).collect();
        let reason = if no_quorum {
            format!("no quorum of view {}: no answer from {}", view.number, silent.join(", "))
        } else {
            "the others do not suspect the primary".to_owned()
        };
        self.fail(view, no_quorum, &reason)
    }

    fn fail(&mut self, view: &View, no_quorum: bool, reason: &str) -> Effects {
        self.run = None;
        self.outbid_tries = 0;
        self.retry_at = None;
        let joiner = std::mem::take(&mut self.goals).into_replica();
        let mut effects = Effects::none();
        if let Some(peer) = joiner {
            effects.tell(Note::AddFailed { view: view.number, peer });
        }
        effects.tell(Note::CampaignFailed { view: view.number, no_quorum, reason: reason.to_owned() });
        effects
    }

    /// a random wait, then again under a higher round; a candidate's wait is its election's.
    fn outbid(&mut self, now: Now, higher: Ballot) -> Effects {
        let Some(view) = self.view.clone() else { return Effects::none() };
        self.round = self.round.max(higher.round);
        let tries_on = self.goals.as_primary && self.outbid_tries < OUTBID_TRIES_MAX;
        if !tries_on {
            return self.fail(&view, false, &format!("outbid by ballot {higher}"));
        }
        self.outbid_tries += 1;
        self.run = None;
        self.retry_at = Some(now.elapsed.plus(self.rng.u64(0..=self.timing.resend_ms)));
        Effects::none()
    }

    /// what a primary wanted is nothing to one that stepped down, whose election stands like any other's.
    fn on_not_serving(&mut self, view: ViewNumber, can_lead: bool) -> Effects {
        match self.electorate(view) {
            Some(view) if self.goals.as_primary && !can_lead => self.fail(&view, false, "its primary has stepped down"),
            Some(_) | None => Effects::none(),
        }
    }

    /// What this primary still wants goes on in the next view that it leads.
    fn on_view_changed(&mut self, now: Now, view: &Arc<View>) -> Effects {
        if self.view.as_ref().is_some_and(|known| known.number >= view.number) {
            return Effects::none();
        }
        self.view = Some(view.clone());
        self.run = None;
        let mut effects = Effects::none();
        if let Some(closed) = self.decided.take().filter(|closed| closed.view == view.number) {
            effects.tell(Note::Decided { view: view.number, decision: closed.when_in_force(now.elapsed) });
        }
        self.round = 0;
        self.outbid_tries = 0;
        self.retry_at = None;
        if self.goals.carry_over(now, view, &self.me) {
            effects.append(self.begin(now));
        }
        effects
    }
}

impl Machine for Campaign {
    type Input = Input;

    fn step(&mut self, now: Now, input: Input) -> Effects {
        match input {
            Input::Campaign { view, suspicion } => {
                let Some(known) = self.electorate(view) else { return Effects::none() };
                if self.goals.as_primary || self.run.is_some() {
                    return Effects::none();
                }
                self.goals.stand(now, &known, &self.me, suspicion);
                self.pursue(now)
            }
            Input::SetOffline { view, reasons } => {
                if self.electorate(view).is_none() {
                    return Effects::none();
                }
                self.goals.set_offline(now, reasons);
                self.pursue(now)
            }
            Input::AddReplica { view, peer, locked_at } => {
                let known = self.electorate(view);
                if known.is_none_or(|known| known.seat(&peer.voter).is_some()) {
                    return Effects::one(Effect::Tell(Note::AddFailed { view, peer }));
                }
                self.goals.add_replica(now, peer, locked_at);
                self.pursue(now)
            }
            Input::AddWitness { view, peer } => {
                let Some(known) = self.electorate(view) else { return Effects::none() };
                if !self.goals.add_witness(now, &known, peer) {
                    return Effects::none();
                }
                self.pursue(now)
            }
            Input::HandOverNow { view, to, leaves, since } => {
                let Some(known) = self.electorate(view) else { return Effects::none() };
                self.goals.hand_over(now, (known.primary, to), leaves, since);
                self.pursue(now)
            }
            Input::TrialAnswer { from, view, campaign, willing, promised, sign } => {
                self.on_trial_answer(now, &from, view, campaign, (willing, promised, sign))
            }
            Input::Promised { from, view, ballot, answer } => self.on_promised(now, &from, view, ballot, answer),
            Input::Accepted { from, view, ballot, answer } => self.on_accepted(now, &from, view, ballot, &answer),
            Input::Unreachable { address } => self.on_unreachable(now, &address),
            Input::NotServing { view, can_lead } => self.on_not_serving(view, can_lead),
            Input::ViewChanged(view) => self.on_view_changed(now, &view),
        }
    }

    fn deadline(&self) -> Option<Millis> {
        let run = self.run.as_ref().map(|run| run.deadline.min(run.resend_at));
        run.into_iter().chain(self.retry_at).min()
    }

    fn tick(&mut self, now: Now) -> Effects {
        if self.retry_at.is_some_and(|at| at <= now.elapsed) && self.run.is_none() {
            return self.begin(now);
        }
        let (Some(view), Some(run)) = (self.view.clone(), &mut self.run) else { return Effects::none() };
        let gathered = run.stage == Stage::Promise && run.gather_until <= now.elapsed;
        if run.deadline <= now.elapsed || gathered {
            let before = (run.campaign, run.stage);
            let effects = self.advance(now);
            if self.run.as_ref().map(|run| (run.campaign, run.stage)) != Some(before) {
                return effects;
            }
        }
        let Some(run) = &mut self.run else { return Effects::none() };
        if run.resend_at > now.elapsed {
            return Effects::none();
        }
        run.resend_at = now.elapsed.plus((self.timing.gather_timeout_ms / 3).max(1));
        if run.stage != Stage::Trial {
            run.no.clear(); // Who was unreachable may be back.
        }
        self.ask(&view)
    }
}
