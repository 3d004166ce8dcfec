//! An entry's way through votes, decision and acknowledgements (R-4..R-9).

use super::{Coordinator, Flight, Phase, SENT_ENTRIES_MAX, Stage};
use crate::change::{Fault, Leave, Reason};
use crate::ids::{Address, Attempt, Index, Millis, NodeId, Now, Peer, ViewNumber, Voter};
use crate::lock::LockOwner;
use crate::machine::{Effects, Note};
use crate::message::{PeerMessage, Refusal};
use crate::operation::{Answer, Outcome};
use crate::view::View;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

impl Coordinator {
    /// Sends an entry for votes under the next attempt; the third failed attempt is followed by an abort.
    pub(super) fn send_for_votes(&mut self, now: Now, mut flight: Flight) -> Effects {
        assert!(self.is_leading(), "only who leads the view in force numbers attempts in it");
        let attempts = flight.own.as_ref().map_or(0, |own| own.attempts);
        if flight.may_abort() && attempts >= self.limits.attempts_max {
            flight.abort();
        }
        if let Some(own) = &mut flight.own {
            own.attempts += 1;
        }
        self.attempt = self.attempt.next();
        self.tally.attempts += 1;
        flight.attempt = self.attempt;
        let effects = self.enter(now, &mut flight, Stage::Voting);
        self.flight = Some(flight);
        effects
    }

    /// Sends the letters of this stage.
    fn enter(&self, now: Now, flight: &mut Flight, stage: Stage) -> Effects {
        flight.stage = stage;
        flight.sent_at.get_or_insert(now.elapsed);
        flight.heard.clear();
        flight.heard_at = now.elapsed;
        flight.resend_at = now.elapsed.plus(self.timing.resend_ms);
        flight.deadline = now.elapsed.plus(self.timing.vote_timeout_ms);
        self.send_stage(flight)
    }

    /// The stage's letter to every replica that has not answered it, this node's own included.
    fn send_stage(&self, flight: &Flight) -> Effects {
        let mut effects = Effects::none();
        let Some(view) = &self.view else { return effects };
        let Some(letter) = flight.letter(view.number, self.end.0) else { return effects };
        for id in flight.missing(view) {
            if let Some(seat) = view.replicas.get(&id) {
                effects.send(&seat.address, letter.clone());
            }
        }
        effects
    }

    /// Who answers, if that one is a replica of the view that this node leads.
    pub(super) fn answers(&self, from: &Peer, view: ViewNumber) -> Option<NodeId> {
        let leads = |known: &&Arc<View>| self.is_leading() && known.number == view && known.lists_replica(from);
        let known = self.view.as_ref().filter(leads)?;
        from.voter.node().filter(|id| known.replicas.contains_key(id))
    }

    pub(super) fn on_vote(&mut self, now: Now, from: NodeId, refusal: Option<Refusal>) -> Effects {
        let Some(refusal) = refusal else { return self.on_yes(now, from) };
        self.tally.vote(Some(&refusal));
        match refusal {
            // The view itself comes in a letter of its own; a stale attempt is a late copy's answer, or meets the deadline.
            Refusal::StaleView | Refusal::StaleAttempt => Effects::none(),
            Refusal::Accepted(_) => self.finish_next_view(now, Voter::Replica(from)),
            Refusal::Gap(end) => self.fill_gap(now, from, end),
            Refusal::LockTimeout => self.on_lock_timeout(now),
            Refusal::Storage => self.set_offline(now, &[from], Fault::Storage),
            Refusal::Malformed if self.may_abort() => self.abort(now),
            Refusal::Malformed => self.set_offline(now, &[from], Fault::Malformed),
        }
    }

    fn on_yes(&mut self, now: Now, from: NodeId) -> Effects {
        let (Some(view), Some(mut flight)) = (self.view.clone(), self.flight.take()) else { return Effects::none() };
        let (is_new, before) = (flight.heard.insert(from), flight.heard_at);
        if is_new {
            self.tally.vote(None);
            flight.heard_at = now.elapsed;
        }
        if !flight.is_complete(&view) {
            self.flight = Some(flight);
            return Effects::none();
        }
        let mut effects = self.decide(now, flight);
        effects.append(self.judge_slowness(now, &view, from, before));
        effects
    }

    /// that is the decision. It needs no record of its own.
    fn decide(&mut self, now: Now, mut flight: Flight) -> Effects {
        flight.decided = true;
        self.end = (flight.entry.index, flight.entry.hash);
        self.sent.push_back((flight.attempt, flight.entry.clone()));
        if self.sent.len() > SENT_ENTRIES_MAX {
            self.sent.pop_front();
        }
        self.courses.told(&flight.entry.batch);
        self.paced_until = if self.pace_ms > 0 { now.elapsed.plus(self.pace_ms) } else { Millis(0) };
        let effects = self.enter(now, &mut flight, Stage::Committing);
        self.committing.push_back(flight);
        effects
    }

    pub(super) fn may_abort(&self) -> bool {
        self.flight.as_ref().is_some_and(Flight::may_abort)
    }

    /// only what this primary formed itself is aborted; anything else may be committed already, and is asked again.
    fn on_lock_timeout(&mut self, now: Now) -> Effects {
        if self.may_abort() {
            return self.abort(now);
        }
        if let Some(flight) = &mut self.flight {
            flight.deadline = now.elapsed.plus(self.timing.vote_timeout_ms);
        }
        Effects::none()
    }

    fn abort(&mut self, now: Now) -> Effects {
        let Some(mut flight) = self.flight.take() else { return Effects::none() };
        flight.abort();
        let mut effects = Effects::none();
        effects.announce(format!("batch at index {} is aborted: a replica could not vote for it", flight.entry.index));
        effects.append(self.send_for_votes(now, flight));
        effects
    }

    /// the missing entries first, under the attempts that they had in this view; then the one in flight again.
    fn fill_gap(&mut self, now: Now, from: NodeId, end: Index) -> Effects {
        let Some(view) = self.view.clone() else { return Effects::none() };
        let Some(seat) = view.replicas.get(&from) else { return Effects::none() };
        let missing: Vec<_> = self.sent.iter().filter(|(_, entry)| entry.index > end).cloned().collect();
        if missing.first().is_none_or(|(_, entry)| entry.index != end.next()) {
            return self.set_offline(now, &[from], Fault::Gap);
        }
        let mut effects = Effects::none();
        for (attempt, entry) in missing {
            let commit_index = entry.index.before();
            let letter = PeerMessage::Prepare { view: view.number, attempt, entry, commit_index };
            effects.send(&seat.address, letter);
        }
        if let Some(letter) = self.flight.as_ref().and_then(|flight| flight.letter(view.number, self.end.0)) {
            effects.send(&seat.address, letter);
        }
        effects
    }

    pub(super) fn on_committed(&mut self, now: Now, from: NodeId, asked: (Attempt, Index)) -> Effects {
        let of =
            |flight: &&mut Flight| (flight.attempt, flight.entry.index) == asked && flight.stage == Stage::Committing;
        let Some(flight) = self.committing.iter_mut().find(of) else { return Effects::none() };
        flight.heard.insert(from);
        self.finish_complete(now)
    }

    /// Locks go as soon as nobody can come before what they protect: whoever gets them asks the store after this.
    pub(super) fn on_applying(&mut self, now: Now, index: Index) -> Effects {
        let mut effects = Effects::none();
        let decided = self.committing.iter_mut().filter(|flight| flight.stage == Stage::Committing);
        for flight in decided.filter(|flight| flight.entry.index <= index) {
            flight.ordered = true;
            effects.append(super::release(flight.locks_to_release()));
        }
        self.queue.restart_waits(now.elapsed.plus(self.timing.lock_timeout_ms));
        effects.append(self.next(now));
        effects
    }

    pub(super) fn on_applied(&mut self, now: Now, index: Index, outcomes: Vec<Outcome>) -> Effects {
        let waiting = self.committing.iter_mut().chain(&mut self.flight).chain(&mut self.inherited);
        for flight in waiting.filter(|flight| flight.entry.index == index) {
            flight.applied = true;
            if let Some(own) = &mut flight.own {
                own.outcomes.get_or_insert_with(|| outcomes.clone());
            }
        }
        for (_, own) in self.settled.iter_mut().filter(|(at, _)| *at == index) {
            own.outcomes.get_or_insert_with(|| outcomes.clone());
        }
        let mut effects = self.finish_complete(now);
        effects.append(self.tell_settled_if_serving());
        effects
    }

    /// the clients hear only after every replica of the view has acknowledged the commit.
    fn finish_complete(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        let Some(view) = self.view.clone() else { return effects };
        let is_done =
            |flight: &Flight| flight.stage == Stage::Committing && flight.is_complete(&view) && flight.applied;
        let done: VecDeque<Flight>;
        (done, self.committing) = std::mem::take(&mut self.committing).into_iter().partition(is_done);
        if done.is_empty() {
            return effects;
        }
        for mut flight in done {
            self.tally.entry_ms.add(now.elapsed.since(flight.sent_at.unwrap_or(now.elapsed)));
            effects.append(super::release(flight.locks_to_release()));
            effects.append(self.removed(&flight.entry.batch));
            if let Some(own) = flight.own {
                effects.append(self.tell_all(flight.entry.index, own));
            }
        }
        effects.append(self.next(now));
        effects
    }

    pub(super) fn on_granted(&mut self, now: Now, owner: LockOwner) -> Effects {
        let waiting = self.flight.iter_mut().chain(self.inherited.iter_mut());
        for flight in waiting.filter(|flight| flight.inherited_lock == Some(owner)) {
            flight.lock_held = true;
        }
        let leads = self.is_leading();
        if let Some(flight) = self.flight.take_if(|flight| leads && flight.stage == Stage::Locking && flight.lock_held)
        {
            return self.send_for_votes(now, flight);
        }
        match owner {
            LockOwner::Ticket(number) if self.queue.granted(number) => self.form(now),
            // Of a ticket that was given up meanwhile; its release is on its way.
            LockOwner::Ticket(_) | LockOwner::Slot(_) | LockOwner::Read(_) | LockOwner::Join(_) => Effects::none(),
        }
    }

    /// Letters that may be lost are sent again; who stays silent is set offline.
    pub(super) fn on_flight_deadlines(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        let Some(view) = self.view.clone() else { return effects };
        let (resend_ms, ms) = (self.timing.resend_ms, self.timing.vote_timeout_ms);
        let (mut silent, mut due) = (BTreeSet::new(), Vec::new());
        for flight in self.committing.iter_mut().chain(&mut self.flight) {
            if flight.deadline <= now.elapsed {
                flight.deadline = now.elapsed.plus(ms);
                silent.extend(flight.missing(&view));
            } else if flight.resend_at <= now.elapsed {
                flight.resend_at = now.elapsed.plus(resend_ms);
                due.push(flight.clone());
            }
        }
        for flight in due {
            effects.append(self.send_stage(&flight));
        }
        if !silent.is_empty() {
            let silent: Vec<NodeId> = silent.into_iter().collect();
            effects.append(self.set_offline(now, &silent, Fault::Slow { ms }));
        }
        effects
    }

    /// A primary that cannot vote itself stops being one.
    pub(super) fn set_offline(&mut self, now: Now, who: &[NodeId], fault: Fault) -> Effects {
        if who.iter().any(|id| Voter::Replica(*id) == self.me.voter) {
            return self.step_down("this node cannot commit itself");
        }
        let reason = |id: &NodeId| Reason::SetOffline { voter: Voter::Replica(*id), fault };
        self.ask_next_view(now, who.iter().map(reason).collect())
    }

    /// Asks the campaign for the next view; the same wish again only after a while.
    pub(super) fn ask_next_view(&mut self, now: Now, reasons: Vec<Reason>) -> Effects {
        let mut effects = Effects::none();
        if !self.is_leading() {
            return effects;
        }
        self.campaign_until = Some(now.elapsed.plus(self.timing.gather_timeout_ms));
        effects.tell(Note::SetOffline { view: self.number(), reasons });
        effects
    }

    /// R-5 `accepted`: nobody is left out; once is enough for a while.
    fn finish_next_view(&mut self, now: Now, voter: Voter) -> Effects {
        match self.campaign_until {
            Some(_) => Effects::none(),
            None => self.ask_next_view(now, vec![Reason::Unfinished { voter }]),
        }
    }

    pub(super) fn on_silent(&mut self, now: Now, view: ViewNumber, voter: Voter, ms: u64) -> Effects {
        let listed = self.view.as_ref().is_some_and(|known| known.number == view && known.seat(&voter).is_some());
        if !listed || voter == self.me.voter {
            return Effects::none();
        }
        self.ask_next_view(now, vec![Reason::SetOffline { voter, fault: Fault::Silent { ms } }])
    }

    /// a replica whose answer is awaited has crashed.
    pub(super) fn on_unreachable(&mut self, now: Now, address: &Address) -> Effects {
        let Some(view) = &self.view else { return Effects::none() };
        let sent = self.committing.iter().chain(&self.flight).filter(|flight| flight.stage != Stage::Locking);
        let crashed = sent.flat_map(|flight| flight.missing(view)).find(|id| {
            let seat = view.replicas.get(id);
            Voter::Replica(*id) != self.me.voter && seat.is_some_and(|seat| seat.address == *address)
        });
        crashed.map_or_else(Effects::none, |id| self.set_offline(now, &[id], Fault::Reset))
    }

    /// finishes what is in flight, then has the next view decided. Named nobody, this node is about to stop.
    pub(super) fn on_hand_over(&mut self, now: Now, to: Option<NodeId>) -> Effects {
        match to {
            Some(to) => self.hand_over(now, Some(to), None),
            None => self.leave(now, Leave::Stops),
        }
    }

    /// To the highest other replica; the view goes on without this node.
    pub(super) fn leave(&mut self, now: Now, why: Leave) -> Effects {
        self.hand_over(now, None, Some(why))
    }

    fn hand_over(&mut self, now: Now, to: Option<NodeId>, leaves: Option<Leave>) -> Effects {
        let Some(view) = self.view.clone().filter(|_| self.phase == Phase::Serving) else { return Effects::none() };
        let others = || view.replicas.keys().copied().filter(|id| Voter::Replica(*id) != self.me.voter);
        let wanted = to.map_or_else(|| others().max(), |to| others().find(|id| *id == to));
        let Some(target) = wanted else { return Effects::none() };
        self.phase = Phase::HandingOver { to: target, leaves, since: now.elapsed };
        let mut effects = self.untell();
        effects.append(self.turn_away_waiting(&Answer::Failed(self.not_primary())));
        effects.announce(format!("hands over to node {target}"));
        effects.append(self.next(now));
        effects
    }

    pub(super) fn on_take_over(&mut self, now: Now, from: &Peer, view: ViewNumber) -> Effects {
        let known = self.view.as_ref().filter(|known| known.number == view && known.lists_replica(from));
        match (known, from.voter.node()) {
            (Some(_), Some(id)) => self.on_hand_over(now, Some(id)),
            (Some(_) | None, _) => Effects::none(),
        }
    }

    pub(super) fn hand_over_now(&mut self, now: Now, (to, leaves): (NodeId, Option<Leave>), since: Millis) -> Effects {
        let mut effects = Effects::none();
        if self.campaign_until.is_none() {
            self.campaign_until = Some(now.elapsed.plus(self.timing.vote_timeout_ms.max(1)));
            effects.tell(Note::HandOverNow { view: self.number(), to, leaves, since });
        }
        effects
    }
}
