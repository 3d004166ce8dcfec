//! Becoming primary, staying it across a view change, and ceasing to be it (R-10, R-16, section 2).

use super::{Coordinator, Flight, Phase, Stage, fail_or};
use crate::ids::{Attempt, Hash, Index, Millis, Now, Timestamp, ViewNumber};
use crate::lock::LockOwner;
use crate::log::{Batch, Entry};
use crate::machine::{Effects, Note};
use crate::operation::{Answer, OperationError};
use crate::view::View;
use std::sync::Arc;

impl Coordinator {
    /// A view is in force. If it names this node, `Lead` follows; else nothing is led any more.
    pub(super) fn on_view_changed(&mut self, now: Now, view: Arc<View>) -> Effects {
        let was = self.number();
        let names_me = view.is_primary(&self.me);
        let number = view.number;
        let mut effects = Effects::none();
        if !names_me || number != was.next() {
            effects.append(self.stop_leading());
        } else if self.is_leading() {
            self.led = Some(was);
        }
        let interrupted = self.committing.iter().chain(&self.flight).find_map(|flight| flight.sent_at);
        self.courses.view_changed(number, interrupted, now.elapsed);
        // Till `Lead` comes nothing is sent: the attempts in flight are those of the view that has ended.
        self.committing.iter_mut().chain(&mut self.flight).for_each(Flight::pause);
        self.leaving.view_changed();
        self.queue.hold();
        self.asked = false; // What was examined meets another state now.
        self.phase = Phase::Idle;
        self.view = Some(view);
        self.campaign_until = None;
        effects
    }

    /// An entry of this node's own that no other primary came after stays its own.
    pub(super) fn on_lead(
        &mut self,
        now: Now,
        view: &Arc<View>,
        tail: Vec<Arc<Entry>>,
        committed: (Index, Hash),
        last_timestamp: Timestamp,
    ) -> Effects {
        if self.view.as_ref() != Some(view) {
            return Effects::none();
        }
        let goes_on = self.led.take().is_some_and(|led| led.next() == view.number);
        let mut effects = if goes_on { Effects::none() } else { self.stop_leading() };
        self.courses.leads(now.elapsed, view.number);
        self.phase = Phase::Recovering;
        self.attempt = Attempt(0);
        self.view_entry_done = false;
        self.sent.clear();
        self.end = committed;
        self.last_timestamp = self.last_timestamp.max(last_timestamp);
        self.keys_clock_base = None;
        effects.append(self.inherit(tail, committed));
        effects.append(self.next(now));
        effects
    }

    /// What is to be committed again, in order; a flight of this node's own takes its slot, or is settled already.
    /// The locks of all that was found are asked for at once, and those of clients only once this primary serves: it would wait for
    /// what they hold, and they for it.
    fn inherit(&mut self, tail: Vec<Arc<Entry>>, committed: (Index, Hash)) -> Effects {
        let mut effects = Effects::none();
        let in_flight = self.committing.drain(..).chain(self.flight.take());
        let mut known: Vec<Flight> = in_flight.chain(self.inherited.drain(..)).collect();
        for flight in &mut known {
            flight.stage = Stage::Locking;
            if flight.entry.index <= committed.0
                && let Some(own) = flight.own.take()
            {
                self.settled.push((flight.entry.index, own));
            }
        }
        let mut end = committed;
        for entry in tail {
            let same =
                |flight: &Flight| flight.entry.index == entry.index && flight.own.is_some() || flight.entry == entry;
            let at = known.iter().position(same);
            let flight = at.map_or_else(|| Flight::new(entry.clone(), None), |at| known.remove(at));
            end = (flight.entry.index, flight.entry.hash);
            self.inherited.push_back(flight);
        }
        // Sent by this node, but not yet in its own log when the view changed.
        for flight in known {
            if flight.own.is_some() && flight.entry.index == end.0.next() && flight.entry.prev_hash == end.1 {
                end = (flight.entry.index, flight.entry.hash);
                self.inherited.push_back(flight);
            } else {
                effects.append(super::release(flight.inherited_lock.into_iter().collect()));
            }
        }
        for flight in &mut self.inherited {
            let locks = flight.entry.locks();
            if flight.own.is_none() && flight.inherited_lock.is_none() && !locks.is_empty() {
                let owner = LockOwner::Ticket(self.queue.new_ticket());
                flight.inherited_lock = Some(owner);
                effects.tell(Note::Acquire { owner, locks });
            }
        }
        effects
    }

    /// the next entry of the log, then the view entry, then service.
    pub(super) fn recover(&mut self, now: Now) -> Effects {
        if let Some(flight) = self.inherited.pop_front() {
            return self.lock_then_send(now, flight);
        }
        let Some(view) = self.view.clone() else { return Effects::none() };
        if !self.view_entry_done {
            self.view_entry_done = true;
            self.courses.log_finished(now.elapsed);
            let entry = Entry::new(self.end.0.next(), self.end.1, Batch::View(view.as_ref().clone()));
            return self.send_for_votes(now, Flight::new(entry.into(), None));
        }
        self.phase = Phase::Serving;
        let mut effects = Effects::none();
        let took_ms = self.courses.serves(now.elapsed, self.timing.resend_ms);
        effects.announce(format!("serves as primary of view {} ({took_ms} ms after it was in force)", view.number));
        effects.tell(Note::Serving { view: view.number });
        effects.append(self.tell_settled_if_serving());
        if let Some(error @ OperationError::TooFewReplicas { .. }) = self.refusal() {
            effects.append(self.turn_away(&Answer::Failed(error)));
        }
        effects.append(self.queue.serve(now.elapsed.plus(self.timing.lock_timeout_ms)));
        effects.append(self.form_or_tell(now));
        effects.append(self.see_off(now));
        effects
    }

    /// Strict two-phase locking here too: an inherited entry is sent once its locks are held.
    fn lock_then_send(&mut self, now: Now, flight: Flight) -> Effects {
        if flight.inherited_lock.is_none() || flight.lock_held {
            return self.send_for_votes(now, flight);
        }
        self.flight = Some(flight);
        Effects::none()
    }

    /// clients of decided batches hear once this primary's next view entry is committed.
    pub(super) fn tell_settled_if_serving(&mut self) -> Effects {
        let mut effects = Effects::none();
        if !matches!(self.phase, Phase::Serving | Phase::HandingOver { .. }) {
            return effects;
        }
        let (told, waiting) = std::mem::take(&mut self.settled).into_iter().partition(|(_, own)| {
            own.outcomes.is_some() // Applied here; for an abort that is an empty list.
        });
        self.settled = waiting;
        let told: Vec<_> = told;
        for (index, own) in told {
            effects.append(self.tell_all(index, own));
        }
        effects
    }

    /// what was not sent never took effect; what was sent may have.
    fn stop_leading(&mut self) -> Effects {
        let mut effects = self.turn_away(&Answer::Failed(self.not_primary()));
        let flights = self.committing.drain(..).chain(self.flight.take()).chain(self.inherited.drain(..));
        let mut owns: Vec<_> = self.settled.drain(..).map(|(_, own)| own).collect();
        for flight in flights {
            effects.append(super::release(flight.inherited_lock.into_iter().collect()));
            owns.extend(flight.own);
        }
        for own in owns {
            effects.append(super::release(own.picked.tickets));
            for (_, pending) in own.picked.operations {
                let answer = Answer::Failed(OperationError::OutcomeUnknown);
                effects.append(fail_or(pending.requests.into_iter(), &answer));
            }
        }
        effects.append(self.leaving.give_up());
        self.led = None;
        self.courses.forget();
        self.pace_ms = 0;
        self.paced_until = Millis(0);
        effects
    }

    /// What waits and was not sent gets this answer: it never took effect.
    fn turn_away(&mut self, answer: &Answer) -> Effects {
        let mut effects = self.turn_away_waiting(answer);
        if let Some(picked) = self.examining.take() {
            effects.append(super::release(picked.tickets));
            let requests = picked.operations.into_iter().flat_map(|(_, pending)| pending.requests);
            effects.append(fail_or(requests, answer));
        }
        effects
    }

    /// The same, but for what is being examined: that goes on.
    pub(super) fn turn_away_waiting(&mut self, answer: &Answer) -> Effects {
        let (mut effects, waiting) = self.queue.clear();
        let requests = waiting.into_iter().flat_map(|pending| pending.requests);
        effects.append(fail_or(requests, answer));
        effects
    }

    ///
    pub(super) fn step_down(&mut self, reason: &str) -> Effects {
        if !self.is_leading() {
            return Effects::none();
        }
        let mut effects = Effects::none();
        effects.announce(format!("is primary of view {} no more: {reason}", self.number()));
        // Told before any lock goes: what waits for one, a join above all, must not take this node for a primary still.
        effects.tell(Note::NotServing { view: self.number(), can_lead: false });
        effects.append(self.stop_leading());
        self.phase = Phase::Idle;
        effects
    }

    pub(super) fn on_campaign_failed(&mut self, now: Now, view: ViewNumber, no_quorum: bool, reason: &str) -> Effects {
        if view != self.number() || !self.is_leading() {
            return Effects::none();
        }
        let is_own = self.campaign_until.take().is_some();
        if no_quorum {
            return self.step_down(reason);
        }
        // One for a witness fails without harm to a hand-over that was not asked for yet.
        if is_own && matches!(self.phase, Phase::HandingOver { .. }) {
            self.phase = Phase::Serving;
        }
        self.next(now)
    }
}
