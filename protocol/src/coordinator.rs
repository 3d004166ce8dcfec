//! The primary's side of two-phase commit (R-1..R-10), and what a new primary does first.
//!
//! One entry is out for votes at a time: while it is, the next batch gathers. That one is sent as soon as the store here was asked
//! to apply the decided one, whose acknowledgements come in meanwhile: so one slot is in doubt on each replica, as before.
//! Votes and acknowledgements count only for the view and attempt in which they were asked. A replica that does not answer is
//! set offline by a view change, after which the entry goes on in the new view; only what this primary formed itself may be aborted.
//!
//! `queue.rs`: what waits, and its locks. `flight.rs`: the entry in flight. `leaving.rs`: who leaves by somebody's wish. `course.rs`: what is told of a view. Not here: this node's own vote, which is cast
//! like any other (`replica.rs`), and deciding the next view (`campaign.rs`).
//!
//! Source: Gray, "Notes on Data Base Operating Systems", 1978, for two-phase commit; Liskov, Cowling, "Viewstamped
//! Replication Revisited", 2012, for a primary that first finishes what it finds in its log.

mod course;
mod flight;
mod lead;
mod leaving;
mod queue;
mod sending;
mod slow;
#[cfg(test)]
mod tests;

use crate::change::{Decision, Leave};
use crate::ids::{Address, Attempt, Hash, Index, Millis, NodeId, Now, Peer, RequestId, Timestamp, ViewNumber, Voter};
use crate::lock::LockOwner;
use crate::log::{Batch, Entry};
use crate::machine::{Effects, Limits, Machine, Note, Setup, Timing};
use crate::member::Members;
use crate::message::Refusal;
use crate::operation::{Action, Answer, ChannelName, LoggedOperation, Operation, OperationError, Outcome, Receipt};
use crate::operator::OperatorCall;
use crate::status::{NodeStatus, Role};
use crate::storage::{StorageRequest, Verdict};
use crate::tally::Tally;
use crate::view::View;
use course::Courses;
use flight::{Flight, Own, Stage};
use leaving::Leaving;
use queue::{Pending, Picked, Queue};
use slow::Laggard;
use std::collections::VecDeque;
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// A client's write.
    Submit { request: RequestId, operation: Operation },
    /// Where the message to star is.
    Located { request: RequestId, channel: Option<ChannelName> },
    /// A ticket's or an inherited entry's locks are held.
    Granted { owner: LockOwner },
    /// What the store says of the next batch.
    Examined { round: u64, verdicts: Vec<Verdict>, keys_at: Timestamp, index: Index },
    ///
    Vote { from: Peer, view: ViewNumber, attempt: Attempt, index: Index, refusal: Option<Refusal> },
    ///
    Committed { from: Peer, view: ViewNumber, attempt: Attempt, index: Index },
    /// The store here was asked to apply what is committed up to this index.
    Applying { index: Index },
    /// The entry is applied here.
    Applied { index: Index, outcomes: Vec<Outcome> },
    /// A view is in force.
    ViewChanged(Arc<View>),
    /// It names this node, which may lead.
    Lead { view: Arc<View>, tail: Vec<Arc<Entry>>, committed: (Index, Hash), last_timestamp: Timestamp },
    /// A voter was silent too long.
    Silent { view: ViewNumber, voter: Voter, ms: u64 },
    /// A connection was refused or reset: whoever is there has crashed.
    Unreachable { address: Address },
    /// The view that it wanted was not decided.
    CampaignFailed { view: ViewNumber, no_quorum: bool, reason: String },
    /// How a view was decided, by this node's campaign or another's.
    Decided { view: ViewNumber, decision: Decision },
    ///
    HandOver { to: Option<NodeId> },
    /// a letter.
    TakeOver { from: Peer, view: ViewNumber },
    ///
    Pace { delay_ms: u64 },
    /// an operator's call.
    Operator { request: RequestId, call: OperatorCall },
    /// R-26, a letter.
    LetMeGo { from: Peer, view: ViewNumber },
    /// who is a member.
    Members(Members),
}

/// What the coordinator does in the view.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Another node leads, or nobody does.
    Idle,
    /// what was found in the log, then the view entry.
    Recovering,
    /// Takes writes.
    Serving,
    /// finishes what is in flight; the next view is to name this node as primary.
    HandingOver { to: NodeId, leaves: Option<Leave>, since: Millis },
}

/// How many decided entries may wait for acknowledgements before the next one is sent for votes.
const COMMITTING_MAX: usize = 4;

/// How many entries of this view are remembered for a replica with a gap.
const SENT_ENTRIES_MAX: usize = 8;

/// The machine.
#[derive(Clone, Debug)]
pub struct Coordinator {
    me: Peer,
    timing: Timing,
    limits: Limits,
    view: Option<Arc<View>>,
    phase: Phase,
    /// The last view in which this process led until the view's end.
    led: Option<ViewNumber>,
    attempt: Attempt,
    /// The last decided entry, and the chain there.
    end: (Index, Hash),
    last_timestamp: Timestamp,
    /// The keys' clock when this node first asked for it as primary, and when that was (section 4).
    keys_clock_base: Option<(Timestamp, Millis)>,
    queue: Queue,
    /// The batch that the storage looks at, and its round.
    examining: Option<Picked>,
    /// The storage was asked about it under this round; else it is to be asked (again) first.
    asked: bool,
    round: u64,
    /// The entry that is out for votes, or waits for its locks.
    flight: Option<Flight>,
    /// Decided entries whose acknowledgements come in, in order.
    committing: VecDeque<Flight>,
    /// entries of the log that are still to be committed again, in order.
    inherited: VecDeque<Flight>,
    view_entry_done: bool,
    /// Decided batches whose clients hear once this view's entry is committed.
    settled: Vec<(Index, Own)>,
    /// Entries of this view and the attempts under which they were committed.
    sent: VecDeque<(Attempt, Arc<Entry>)>,
    /// When the campaign for the next view, which is under way, may be asked for again.
    campaign_until: Option<Millis>,
    laggard: Laggard,
    pace_ms: u64,
    paced_until: Millis,
    courses: Courses,
    tally: Tally,
    leaving: Leaving,
}

impl Coordinator {
    /// A coordinator that has heard of no view yet.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self {
            me: setup.me.clone(),
            timing: setup.timing.clone(),
            limits: setup.limits.clone(),
            view: None,
            phase: Phase::Idle,
            led: None,
            attempt: Attempt(0),
            end: (Index(0), Hash::default()),
            last_timestamp: Timestamp(0),
            keys_clock_base: None,
            queue: Queue::default(),
            examining: None,
            asked: false,
            round: 0,
            flight: None,
            committing: VecDeque::new(),
            inherited: VecDeque::new(),
            view_entry_done: false,
            settled: Vec::new(),
            sent: VecDeque::new(),
            campaign_until: None,
            laggard: Laggard::default(),
            pace_ms: 0,
            paced_until: Millis(0),
            courses: Courses::default(),
            tally: Tally::default(),
            leaving: Leaving::default(),
        }
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        if let Phase::Serving | Phase::HandingOver { .. } = self.phase {
            status.serving = Some(self.number());
            status.role = Role::Primary;
        }
        status.members = self.leaving.members.clone();
        status.replicas_min = self.limits.replicas_min;
        let in_flight = self.committing.iter().chain(&self.flight).filter_map(|flight| flight.own.as_ref());
        let examined = self.examining.as_ref().map_or(0, |picked| picked.operations.len());
        let sent = in_flight.map(|own| own.picked.operations.len()).sum::<usize>();
        status.writes_waiting = (self.queue.len() + examined + sent) as u64;
        status.tally.clone_from(&self.tally);
    }

    fn number(&self) -> ViewNumber {
        self.view.as_ref().map_or(ViewNumber(0), |view| view.number)
    }

    fn is_leading(&self) -> bool {
        self.phase != Phase::Idle
    }

    fn not_primary(&self) -> OperationError {
        let primary = self.view.as_ref().map(|view| view.primary);
        let primary = primary.filter(|id| Voter::Replica(*id) != self.me.voter);
        OperationError::NotPrimary { view: self.number(), primary }
    }

    /// Why an operation is turned away before anything is done for it.
    fn refusal(&self) -> Option<OperationError> {
        let view = self.view.as_ref()?;
        if let Phase::Idle | Phase::HandingOver { .. } = self.phase {
            return Some(self.not_primary());
        }
        let replicas = u32::try_from(view.replicas.len()).unwrap_or(u32::MAX);
        if replicas < self.limits.replicas_min {
            return Some(OperationError::TooFewReplicas { replicas, needed: self.limits.replicas_min });
        }
        (self.queue.len() >= self.limits.queue_ops_max).then_some(OperationError::Overloaded)
    }

    fn on_submit(&mut self, now: Now, request: RequestId, operation: Operation) -> Effects {
        let mut effects = Effects::none();
        let refusal = if self.view.is_none() { Some(self.not_primary()) } else { self.refusal() };
        if let Some(error) = refusal {
            effects.answer(request, Answer::Failed(error));
            return effects;
        }
        if let Some(pending) = self.pending_with_key(&operation) {
            if pending.operation.action.is_same_request(&operation.action) {
                pending.requests.push(request);
            } else if self.queue.with_key(&operation.owner).is_none() && self.examining.is_none() {
                let answer = Answer::Failed(OperationError::KeyReused);
                effects.tell(Note::AnswerWhenConfirmed { request, answer });
            } else {
                // The store was not asked yet which of the two the key stands for: it may be this one.
                effects.answer(request, Answer::Failed(OperationError::OutcomeUnknown));
            }
            return effects;
        }
        let until = now.elapsed.plus(self.timing.lock_timeout_ms);
        let (asked, id) = self.queue.push(request, operation, until);
        effects.append(asked);
        if let Some(id) = id {
            effects.storage(StorageRequest::Locate { request, id });
        }
        effects
    }

    /// an operation with this key that waits, is looked at, or is in flight.
    fn pending_with_key(&mut self, operation: &Operation) -> Option<&mut Pending> {
        let in_flight = self.committing.iter_mut().chain(&mut self.flight).filter_map(|flight| flight.own.as_mut());
        let inherited = self.inherited.iter_mut().filter_map(|flight| flight.own.as_mut());
        let settled = self.settled.iter_mut().map(|(_, own)| own);
        let owns = in_flight.chain(inherited).chain(settled).map(|own| &mut own.picked);
        let picked = self.examining.as_mut().into_iter().chain(owns);
        let mut known = picked.flat_map(|picked| picked.operations.iter_mut().map(|(_, pending)| pending));
        let known = known.find(|pending| pending.operation.owner == operation.owner);
        known.or_else(|| self.queue.with_key(&operation.owner))
    }

    fn on_located(&mut self, now: Now, request: RequestId, channel: Option<ChannelName>) -> Effects {
        let until = now.elapsed.plus(self.timing.lock_timeout_ms);
        let (mut effects, lost) = self.queue.located(request, channel, until);
        if let Some(pending) = lost {
            effects.append(answer_not_found(&pending));
        }
        effects
    }

    /// forms the next batch when nothing is out for votes and something is ready. What it meets is the state after all that
    /// was decided.
    fn form(&mut self, now: Now) -> Effects {
        let serves = matches!(self.phase, Phase::Serving | Phase::HandingOver { .. });
        let asked = self.examining.is_some() && self.asked;
        let busy = !serves || asked || !self.may_send() || self.paced_until > now.elapsed;
        if busy || (self.examining.is_none() && !self.queue.is_ready()) {
            return Effects::none();
        }
        let mut effects = Effects::none();
        if self.examining.is_none() {
            let until = now.elapsed.plus(self.timing.lock_timeout_ms);
            let (picked, queued) = self.queue.pick(self.limits.batch_ops_max, self.limits.batch_bytes_max, until);
            effects.append(queued);
            self.examining = Some(picked);
        }
        self.round += 1;
        self.asked = true;
        let operations = self.examining.iter().flat_map(|picked| &picked.operations);
        let operations = operations.map(|(_, pending)| pending.operation.clone()).collect();
        effects.storage(StorageRequest::Examine { round: self.round, operations });
        effects
    }

    /// what is valid goes into the batch; the rest is answered. Only what was looked at in the very state that the batch
    /// meets: no replica looks again whether a key is known.
    fn on_examined(&mut self, now: Now, verdicts: Vec<Verdict>, keys_at: Timestamp, index: Index) -> Effects {
        if index != self.end.0 {
            self.asked = false;
            return self.form(now);
        }
        let Some(picked) = self.examining.take() else { return Effects::none() };
        let mut effects = Effects::none();
        let mut own =
            Own { picked: Picked::default(), instants: Vec::new(), attempts: 0, outcomes: None, aborted: false };
        own.picked.tickets = picked.tickets;
        let mut logged = Vec::new();
        for ((arrival, pending), verdict) in picked.operations.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Valid(channel) => {
                    let at = self.next_timestamp(now);
                    own.instants.push(at);
                    logged.push(LoggedOperation { operation: pending.operation.clone(), channel, at });
                    own.picked.operations.push((arrival, pending));
                }
                Verdict::Known(outcome, index) => effects.append(self.tell(&pending, Some(outcome), index)),
                Verdict::Failed(error) => {
                    for request in pending.requests {
                        let answer = Answer::Failed(error.clone());
                        effects.tell(Note::AnswerWhenConfirmed { request, answer });
                    }
                }
            }
        }
        if logged.is_empty() {
            effects.append(release(own.picked.tickets));
            effects.append(self.next(now));
            return effects;
        }
        let keys_at = self.keys_clock(now, keys_at);
        let expire_keys_before = Timestamp(keys_at.0.saturating_sub(self.limits.idempotency_retention_us));
        let batch = Batch::Operations { operations: logged, keys_at, expire_keys_before };
        let entry = Entry::new(self.end.0.next(), self.end.1, batch);
        effects.append(self.send_for_votes(now, Flight::new(entry.into(), Some(own))));
        effects
    }

    /// unique and increasing in log order, across failovers and clock jumps.
    fn next_timestamp(&mut self, now: Now) -> Timestamp {
        let at = now.wall.0.max(self.last_timestamp.0.saturating_add(1));
        self.last_timestamp = Timestamp(at.min(crate::ids::TIMESTAMP_MAX.0));
        self.last_timestamp
    }

    /// Section 4: goes on from what the log says of it, by the time that goes by while this node leads, and by no clock on
    /// any wall: so no key is dropped before its time, whatever clocks do (S3).
    fn keys_clock(&mut self, now: Now, applied: Timestamp) -> Timestamp {
        let (base, since) = *self.keys_clock_base.get_or_insert((applied, now.elapsed));
        let elapsed_us = now.elapsed.since(since).saturating_mul(1_000);
        Timestamp(base.0.saturating_add(elapsed_us))
    }

    /// Answers all who wait for an operation; one that has no outcome, though it was applied, is not called anything else.
    fn tell(&self, pending: &Pending, outcome: Option<Outcome>, index: Index) -> Effects {
        let requests = pending.requests.iter().copied();
        let copies = self.view.as_ref().map_or(0, |view| u32::try_from(view.replicas.len()).unwrap_or(u32::MAX));
        let receipt = Receipt { view: self.number(), index, copies };
        let answer = match outcome {
            None => Answer::Failed(OperationError::OutcomeUnknown),
            Some(Outcome::Aborted) => Answer::Failed(OperationError::Aborted),
            Some(outcome) => Answer::Written(outcome, receipt),
        };
        fail_or(requests, &answer)
    }

    /// The batch is committed by all: every client hears. Its locks went when the commit was ordered; those of one that a view change
    /// settled go here.
    fn tell_all(&mut self, index: Index, own: Own) -> Effects {
        self.tally.finished(own.aborted, own.picked.operations.len(), own.picked.bytes());
        let mut effects = release(own.picked.tickets);
        let outcomes = own.outcomes.unwrap_or_default();
        for (at, (_, pending)) in own.picked.operations.iter().enumerate() {
            let outcome = if own.aborted { Some(Outcome::Aborted) } else { outcomes.get(at).cloned() };
            effects.append(self.tell(pending, outcome, index));
        }
        effects
    }

    /// Whether the store was asked to apply all that was decided.
    fn is_ordered(&self) -> bool {
        self.committing.iter().all(|flight| flight.ordered)
    }

    /// Whether another entry may be sent for votes.
    fn may_send(&self) -> bool {
        self.flight.is_none() && self.is_ordered() && self.committing.len() < COMMITTING_MAX
    }

    /// Whether it serves, and nothing holds locks up that a client could wait for.
    fn is_idle(&self) -> bool {
        let is_free = self.flight.is_none() && self.examining.is_none() && self.is_ordered();
        self.phase == Phase::Serving && is_free
    }

    /// What happens next when nothing is out for votes; a view begins, and ends, with nothing to be acknowledged either.
    fn next(&mut self, now: Now) -> Effects {
        if self.flight.is_some() {
            return Effects::none();
        }
        match self.phase {
            Phase::Idle => Effects::none(),
            Phase::Serving => self.form_or_tell(now),
            Phase::HandingOver { .. } if self.examining.is_some() => self.form(now),
            Phase::Recovering | Phase::HandingOver { .. } if !self.committing.is_empty() => Effects::none(),
            Phase::Recovering => self.recover(now),
            Phase::HandingOver { to, leaves, since } => self.hand_over_now(now, (to, leaves), since),
        }
    }
}

/// A star of a message that does not exist needs no lock: there is nothing to protect. What was read must be confirmed.
fn answer_not_found(pending: &Pending) -> Effects {
    let mut effects = Effects::none();
    let id = match pending.operation.action {
        Action::Star { id } | Action::Unstar { id } => id,
        Action::Post { .. } | Action::CreateChannel { .. } => return effects,
    };
    for request in &pending.requests {
        let answer = Answer::Failed(OperationError::MessageNotFound { id });
        effects.tell(Note::AnswerWhenConfirmed { request: *request, answer });
    }
    effects
}

fn release(owners: Vec<LockOwner>) -> Effects {
    let mut effects = Effects::none();
    for owner in owners {
        effects.tell(Note::Release { owner });
    }
    effects
}

fn fail_or(requests: impl Iterator<Item = RequestId>, answer: &Answer) -> Effects {
    let mut effects = Effects::none();
    for request in requests {
        effects.answer(request, answer.clone());
    }
    effects
}

impl Machine for Coordinator {
    type Input = Input;

    fn step(&mut self, now: Now, input: Input) -> Effects {
        match input {
            Input::Submit { request, operation } => self.on_submit(now, request, operation),
            Input::Located { request, channel } => self.on_located(now, request, channel),
            Input::Granted { owner } => self.on_granted(now, owner),
            Input::Examined { round, verdicts, keys_at, index } => {
                let current = self.asked && round == self.round && self.is_leading();
                if current { self.on_examined(now, verdicts, keys_at, index) } else { Effects::none() }
            }
            Input::Vote { from, view, attempt, index, refusal } => {
                let asked = |flight: &&Flight| (flight.attempt, flight.entry.index) == (attempt, index);
                let is_asked = self.flight.iter().any(|flight| flight.stage == Stage::Voting && asked(&flight));
                let id = self.answers(&from, view).filter(|_| is_asked);
                id.map_or_else(Effects::none, |id| self.on_vote(now, id, refusal))
            }
            Input::Committed { from, view, attempt, index } => {
                let id = self.answers(&from, view);
                id.map_or_else(Effects::none, |id| self.on_committed(now, id, (attempt, index)))
            }
            Input::Applying { index } => self.on_applying(now, index),
            Input::Applied { index, outcomes } => self.on_applied(now, index, outcomes),
            Input::ViewChanged(view) => self.on_view_changed(now, view),
            Input::Lead { view, tail, committed, last_timestamp } => {
                self.on_lead(now, &view, tail, committed, last_timestamp)
            }
            Input::Silent { view, voter, ms } => self.on_silent(now, view, voter, ms),
            Input::Unreachable { address } => self.on_unreachable(now, &address),
            Input::CampaignFailed { view, no_quorum, reason } => self.on_campaign_failed(now, view, no_quorum, &reason),
            Input::Decided { view, decision } => {
                self.courses.decided(now.elapsed, view, decision);
                Effects::none()
            }
            Input::HandOver { to } => self.on_hand_over(now, to),
            Input::TakeOver { from, view } => self.on_take_over(now, &from, view),
            Input::Pace { delay_ms } => {
                self.pace_ms = delay_ms;
                Effects::none()
            }
            Input::Operator { request, call } => self.on_operator(now, request, call),
            Input::LetMeGo { from, view } => self.on_let_me_go(now, &from, view),
            Input::Members(members) => self.on_members(now, members),
        }
    }

    fn deadline(&self) -> Option<Millis> {
        let in_flight = self.committing.iter().chain(&self.flight);
        let flight = in_flight.flat_map(|flight| [flight.resend_at, flight.deadline]).min();
        let idle = self.is_idle();
        let locks = self.queue.deadline().filter(|_| idle);
        let forms = matches!(self.phase, Phase::Serving | Phase::HandingOver { .. }) && self.may_send();
        let ready = if self.examining.is_some() { !self.asked } else { idle && self.queue.is_ready() };
        let paced = Some(self.paced_until).filter(|_| forms && ready);
        let told = self.courses.deadline().filter(|_| self.may_tell());
        let deadlines = [flight, locks, paced, told, self.campaign_until, self.leaving.deadline()];
        deadlines.into_iter().flatten().filter(|at| at.0 < u64::MAX).min()
    }

    fn tick(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        self.campaign_until.take_if(|until| *until <= now.elapsed);
        effects.append(self.on_flight_deadlines(now));
        if self.is_idle() {
            let (gone, failed) = self.queue.expire(now.elapsed);
            effects.append(gone);
            for pending in failed {
                effects.append(fail_or(pending.requests.into_iter(), &Answer::Failed(OperationError::Overloaded)));
            }
        }
        effects.append(self.next(now));
        effects.append(self.see_off_again(now));
        effects
    }
}
