//! Reads: locks, then a confirmation of the view, then the store (section 6).
//!
//! A primary that was deposed without knowing it would answer from a store that the world has left behind. So before a read
//! is answered, a quorum of the view's voters, this node's own replica among them, says that the view is still theirs and
//! that they accepted no next one. One confirmation serves every read that held its locks before it began; the next one
//! begins at once when reads wait.
//!
//! Its rules:
//! - What is not found is read too: "no such message" is confirmed before it is answered. So are answers that the
//!   coordinator read from the store.
//! - An answer counts for the view and the round in which it was asked. One that says `accepted` never turns into a yes in
//!   this view, so the campaign is asked, now and then, to bring the half-decided one to its end.
//! - Waiting for locks longer than `lock.timeout` ends in `overloaded`, and for a confirmation longer than
//!   `heartbeat.timeout` in `not_primary`. Another view, or the end of serving, ends every read in `not_primary`, even when
//!   this node leads again: whoever asked asks again.
//!
//! Not here: what a query finds (`storage.rs`), and what a voter answers (`replica.rs`).

use crate::change::Reason;
use crate::ids::{Index, Millis, Now, Peer, RequestId, ViewNumber, Voter};
use crate::lock::{LockOwner, Mode, Resource};
use crate::machine::{Effects, Machine, Note, Setup};
use crate::message::{PeerMessage, Refusal};
use crate::operation::{Answer, ChannelName, Found, OperationError, Query, Receipt};
use crate::status::NodeStatus;
use crate::storage::StorageRequest;
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// A client's query.
    Read { request: RequestId, query: Query },
    /// Where the message is that is asked for.
    Located { request: RequestId, channel: Option<ChannelName> },
    /// The read's locks are held.
    Granted { owner: LockOwner },
    /// A voter's answer to `Confirm`.
    Confirmed { from: Peer, view: ViewNumber, round: u64, refusal: Option<Refusal> },
    /// What the store says.
    Queried { request: RequestId, found: Result<Found, OperationError>, index: Index },
    /// A view is in force; till `Serving` this node answers `not_primary`.
    ViewChanged(Arc<View>),
    /// This node serves as primary.
    Serving { view: ViewNumber },
    /// It does not any more.
    NotServing { view: ViewNumber },
    /// Answer this once a confirmation that begins from now on succeeds.
    AnswerWhenConfirmed { request: RequestId, answer: Answer },
}

/// How far a read has come.
#[derive(Clone, Debug)]
enum Stage {
    /// The storage looks for the channel of the message.
    Locating(Query),
    /// It waits for its locks.
    Locking(Query),
    /// It waits for a confirmation, with its locks held.
    Query(Query),
    /// It waits for a confirmation; what it will say is known.
    Answer(Answer),
    /// The store is being asked.
    Reading,
}

/// One read that is not answered yet.
#[derive(Clone, Debug)]
struct Read {
    stage: Stage,
    /// When it is given up; none while only the storage can end it.
    until: Option<Millis>,
}

/// One confirmation of the view.
#[derive(Clone, Debug)]
struct Round {
    number: u64,
    answered: BTreeSet<Voter>,
    yes: BTreeSet<Voter>,
    reads: Vec<RequestId>,
    resend_at: Millis,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Reads {
    setup: Setup,
    view: Option<Arc<View>>,
    serving: Option<ViewNumber>,
    reads: BTreeMap<RequestId, Read>,
    timers: BTreeSet<(Millis, RequestId)>,
    /// Those that wait for the next round.
    ready: Vec<RequestId>,
    round: Option<Round>,
    /// Counts rounds over the process's lifetime, so that an answer of an older one never counts.
    round_count: u64,
    /// The view whose half-decided successor the campaign was asked to bring to its end, and when it is asked again.
    asked_to_end: Option<(ViewNumber, Millis)>,
}

impl Reads {
    /// A machine that has heard nothing yet.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self {
            setup: setup.clone(),
            view: None,
            serving: None,
            reads: BTreeMap::new(),
            timers: BTreeSet::new(),
            ready: Vec::new(),
            round: None,
            round_count: 0,
            asked_to_end: None,
        }
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        status.reads_waiting = self.reads.len() as u64;
    }

    fn serving_view(&self) -> Option<&Arc<View>> {
        self.view.as_ref().filter(|view| self.serving == Some(view.number))
    }

    /// Whom to ask instead. This node itself is nobody to ask: it may be primary of its view and not serve.
    fn not_primary(&self) -> Answer {
        let me = self.setup.me.voter.node();
        let view = self.view.as_ref().map_or(ViewNumber(0), |view| view.number);
        let primary = self.view.as_ref().map(|view| view.primary).filter(|primary| Some(*primary) != me);
        Answer::Failed(OperationError::NotPrimary { view, primary })
    }

    fn refusal(&self) -> Option<Answer> {
        if self.serving_view().is_none() {
            return Some(self.not_primary());
        }
        let is_full = self.reads.len() >= self.setup.limits.queue_ops_max;
        is_full.then_some(Answer::Failed(OperationError::Overloaded))
    }

    fn on_read(&mut self, now: Now, request: RequestId, query: Query) -> Effects {
        let mut effects = Effects::none();
        if let Some(answer) = self.refusal() {
            effects.answer(request, answer);
            return effects;
        }
        if let Query::Message { id } = &query {
            let id = *id;
            self.put(request, Stage::Locating(query), self.lock_limit(now));
            effects.storage(StorageRequest::Locate { request, id });
        } else {
            self.lock(now, request, query, None, &mut effects);
        }
        effects
    }

    fn lock_limit(&self, now: Now) -> Option<Millis> {
        Some(now.elapsed.plus(self.setup.timing.lock_timeout_ms))
    }

    fn lock(
        &mut self,
        now: Now,
        request: RequestId,
        query: Query,
        channel: Option<ChannelName>,
        effects: &mut Effects,
    ) {
        let locks = locks(&query, channel);
        let until = self.reads.get(&request).map_or_else(|| self.lock_limit(now), |read| read.until);
        self.put(request, Stage::Locking(query), until);
        effects.tell(Note::Acquire { owner: LockOwner::Read(request), locks });
    }

    fn on_located(&mut self, now: Now, request: RequestId, channel: Option<ChannelName>) -> Effects {
        let mut effects = Effects::none();
        // Request ids are shared with the coordinator: what it asked is not known here.
        let Some(Read { stage: Stage::Locating(query), .. }) = self.reads.get(&request) else { return effects };
        let query = query.clone();
        match (channel, &query) {
            (None, Query::Message { id }) => {
                let answer = Answer::Failed(OperationError::MessageNotFound { id: *id });
                self.confirm(now, request, Stage::Answer(answer), &mut effects);
            }
            (channel, _) => self.lock(now, request, query, channel, &mut effects),
        }
        effects
    }

    fn on_granted(&mut self, now: Now, owner: LockOwner) -> Effects {
        let mut effects = Effects::none();
        let LockOwner::Read(request) = owner else { return effects };
        match self.reads.get(&request) {
            Some(Read { stage: Stage::Locking(query), .. }) => {
                let stage = Stage::Query(query.clone());
                self.confirm(now, request, stage, &mut effects);
            }
            Some(_) => {}                                  // Told twice.
            None => effects.tell(Note::Release { owner }), // It was given up meanwhile.
        }
        effects
    }

    fn on_answer_when_confirmed(&mut self, now: Now, request: RequestId, answer: Answer) -> Effects {
        let mut effects = Effects::none();
        if self.serving_view().is_none() {
            effects.answer(request, self.not_primary());
            return effects;
        }
        // No bound here: the coordinator's queue has one, and `overloaded` would say that nothing took effect.
        self.confirm(now, request, Stage::Answer(answer), &mut effects);
        effects
    }

    /// From here on it waits for a confirmation that begins now or later.
    fn confirm(&mut self, now: Now, request: RequestId, stage: Stage, effects: &mut Effects) {
        self.put(request, stage, Some(now.elapsed.plus(self.setup.timing.heartbeat_timeout_ms)));
        self.ready.push(request);
        self.begin_round(now, effects);
    }

    fn begin_round(&mut self, now: Now, effects: &mut Effects) {
        if self.round.is_some() || self.ready.is_empty() {
            return;
        }
        self.round_count += 1;
        self.round = Some(Round {
            number: self.round_count,
            answered: BTreeSet::new(),
            yes: BTreeSet::new(),
            reads: std::mem::take(&mut self.ready),
            resend_at: now.elapsed,
        });
        self.ask(now, effects);
    }

    /// Asks those that have not answered this round. This node's own replica is asked by letter too: it alone knows what it
    /// has accepted. Where it is a quorum by itself, nobody else is asked.
    fn ask(&mut self, now: Now, effects: &mut Effects) {
        let (Some(view), Some(round)) = (&self.view, &mut self.round) else { return };
        round.resend_at = now.elapsed.plus(self.setup.timing.resend_ms);
        let me = &self.setup.me;
        let is_enough = view.is_quorum(&BTreeSet::from([me.voter.clone()]));
        let is_asked =
            |peer: &Peer| if is_enough { peer.voter == me.voter } else { !round.answered.contains(&peer.voter) };
        for peer in view.voters().filter(is_asked) {
            let address = if peer.voter == me.voter { &me.address } else { &peer.address };
            effects.send(address, PeerMessage::Confirm { view: view.number, round: round.number });
        }
    }

    fn on_confirmed(&mut self, now: Now, from: &Peer, view: ViewNumber, number: u64, no: Option<Refusal>) -> Effects {
        let mut effects = Effects::none();
        let Some(current) = self.serving_view().filter(|current| current.number == view).cloned() else {
            return effects;
        };
        let Some(round) = self.round.as_mut().filter(|round| round.number == number && current.lists(from)) else {
            return effects;
        };
        round.answered.insert(from.voter.clone());
        match no {
            None => {
                round.yes.insert(from.voter.clone());
            }
            Some(Refusal::Accepted(_)) => self.on_half_decided(now, view, &from.voter, &mut effects),
            // The later view itself comes in a letter of its own. The others are no answers to this question.
            Some(
                Refusal::StaleView
                | Refusal::StaleAttempt
                | Refusal::Gap(_)
                | Refusal::LockTimeout
                | Refusal::Storage
                | Refusal::Malformed,
            ) => {}
        }
        if self.is_confirmed(&current) {
            self.finish_round(now, &mut effects);
        }
        effects
    }

    fn on_half_decided(&mut self, now: Now, view: ViewNumber, voter: &Voter, effects: &mut Effects) {
        if self.asked_to_end.is_some_and(|(asked, again)| asked == view && now.elapsed < again) {
            return;
        }
        // Again after a while: the campaign may have been outbid.
        self.asked_to_end = Some((view, now.elapsed.plus(self.setup.timing.heartbeat_timeout_ms)));
        effects.tell(Note::SetOffline { view, reasons: vec![Reason::Unfinished { voter: voter.clone() }] });
    }

    fn is_confirmed(&self, view: &View) -> bool {
        let yes = self.round.as_ref().map(|round| &round.yes);
        yes.is_some_and(|yes| yes.contains(&self.setup.me.voter) && view.is_quorum(yes))
    }

    fn finish_round(&mut self, now: Now, effects: &mut Effects) {
        let Some(round) = self.round.take() else { return };
        for request in round.reads {
            self.serve(request, effects);
        }
        self.begin_round(now, effects);
    }

    fn serve(&mut self, request: RequestId, effects: &mut Effects) {
        match self.take(request) {
            Some(Stage::Query(query)) => {
                self.put(request, Stage::Reading, None);
                effects.storage(StorageRequest::Query { request, query });
            }
            Some(Stage::Answer(answer)) => effects.answer(request, answer),
            // Given up while the round ran. The other stages are in no round.
            None | Some(Stage::Locating(_) | Stage::Locking(_) | Stage::Reading) => {}
        }
    }

    fn on_queried(&mut self, request: RequestId, found: Result<Found, OperationError>, index: Index) -> Effects {
        let mut effects = Effects::none();
        let (Some(view), Some(Read { stage: Stage::Reading, .. })) = (self.serving, self.reads.get(&request)) else {
            return effects;
        };
        self.take(request);
        effects.tell(Note::Release { owner: LockOwner::Read(request) });
        effects.answer(
            request,
            match found {
                Ok(found) => Answer::Read(found, Receipt { view, index, copies: 0 }),
                Err(error) => Answer::Failed(error),
            },
        );
        effects
    }

    fn on_view_changed(&mut self, view: Arc<View>) -> Effects {
        if self.view.as_ref().is_some_and(|known| known.number >= view.number) {
            return Effects::none();
        }
        self.view = Some(view);
        self.depose()
    }

    fn on_not_serving(&mut self, view: ViewNumber) -> Effects {
        if self.serving == Some(view) { self.depose() } else { Effects::none() }
    }

    fn depose(&mut self) -> Effects {
        let mut effects = Effects::none();
        self.serving = None;
        self.round = None;
        self.ready.clear();
        let answer = self.not_primary();
        for request in self.reads.keys().copied().collect::<Vec<_>>() {
            self.give_up(request, answer.clone(), &mut effects);
        }
        assert!(self.reads.is_empty() && self.timers.is_empty(), "a read outlived its view");
        effects
    }

    fn give_up(&mut self, request: RequestId, answer: Answer, effects: &mut Effects) {
        match self.take(request) {
            Some(Stage::Locking(_) | Stage::Query(_) | Stage::Reading) => {
                effects.tell(Note::Release { owner: LockOwner::Read(request) });
            }
            Some(Stage::Locating(_) | Stage::Answer(_)) => {} // It has asked for no locks.
            None => return,
        }
        effects.answer(request, answer);
    }

    fn give_up_late(&mut self, now: Now, effects: &mut Effects) {
        while let Some((until, request)) = self.timers.first().copied().filter(|(until, _)| *until <= now.elapsed) {
            let answer = match self.reads.get(&request).map(|read| &read.stage) {
                Some(Stage::Locating(_) | Stage::Locking(_)) => Answer::Failed(OperationError::Overloaded),
                Some(Stage::Query(_) | Stage::Answer(_) | Stage::Reading) | None => self.not_primary(),
            };
            self.give_up(request, answer, effects);
            self.timers.remove(&(until, request));
        }
        let reads = &self.reads;
        self.ready.retain(|request| reads.contains_key(request));
        if self.round.as_ref().is_some_and(|round| round.reads.iter().all(|request| !reads.contains_key(request))) {
            self.round = None;
            self.begin_round(now, effects);
        }
    }

    fn put(&mut self, request: RequestId, stage: Stage, until: Option<Millis>) {
        self.take(request);
        self.timers.extend(until.map(|until| (until, request)));
        self.reads.insert(request, Read { stage, until });
    }

    fn take(&mut self, request: RequestId) -> Option<Stage> {
        let Read { stage, until } = self.reads.remove(&request)?;
        if let Some(until) = until {
            self.timers.remove(&(until, request));
        }
        Some(stage)
    }
}

/// What a query locks. A list of all channels locks the store as a whole, since IS would let a channel come into being; a
/// channel that does not exist is locked by its name, so that it does not come into being meanwhile.
fn locks(query: &Query, located: Option<ChannelName>) -> Vec<(Resource, Mode)> {
    let channel = match query {
        Query::History { channel, .. } | Query::Stars { channel, .. } | Query::Channel { channel } => {
            Some(channel.clone())
        }
        Query::Message { .. } => located,
        Query::Channels { .. } => None,
    };
    match channel {
        Some(channel) => {
            vec![(Resource::Store, Mode::IntentShared), (Resource::Channel(channel), Mode::Shared)]
        }
        None => vec![(Resource::Store, Mode::Shared)],
    }
}

impl Machine for Reads {
    type Input = Input;

    fn step(&mut self, now: Now, input: Input) -> Effects {
        match input {
            Input::Read { request, query } => self.on_read(now, request, query),
            Input::Located { request, channel } => self.on_located(now, request, channel),
            Input::Granted { owner } => self.on_granted(now, owner),
            Input::Confirmed { from, view, round, refusal } => self.on_confirmed(now, &from, view, round, refusal),
            Input::Queried { request, found, index } => self.on_queried(request, found, index),
            Input::ViewChanged(view) => self.on_view_changed(view),
            Input::Serving { view } => {
                if self.view.as_ref().is_some_and(|known| known.number == view && known.is_primary(&self.setup.me)) {
                    self.serving = Some(view);
                }
                Effects::none()
            }
            Input::NotServing { view } => self.on_not_serving(view),
            Input::AnswerWhenConfirmed { request, answer } => self.on_answer_when_confirmed(now, request, answer),
        }
    }

    fn deadline(&self) -> Option<Millis> {
        let first = self.timers.first().map(|(until, _)| *until);
        first.into_iter().chain(self.round.as_ref().map(|round| round.resend_at)).min()
    }

    fn tick(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        self.give_up_late(now, &mut effects);
        if self.round.as_ref().is_some_and(|round| round.resend_at <= now.elapsed) {
            self.ask(now, &mut effects);
        }
        effects
    }
}

#[cfg(test)]
mod tests;
