//! What the primary tells of its view's beginning, as an entry of its own: a [`Course`] for the record (section 12).
//!
//! - It is told once the primary serves and nothing waits; under a load that never ends, a little later all the same.
//! - It takes IX on the store like any write: nothing may be committed during the last round of a join.
//! - No client waits for it. When this node ceases to be primary first, the record says that it is not known.
//!
//! Not here: how it was decided (`campaign/account.rs`), and what is kept of it (`store/views.rs`).

use super::{Coordinator, Flight, Phase, Stage};
use crate::change::{Course, Decision, LIST_MAX};
use crate::ids::{Millis, Now, ViewNumber};
use crate::lock::LockOwner;
use crate::log::{Batch, Entry};
use crate::machine::{Effects, Note};

/// So many times as long a course waits for a moment in which nothing else is to be done.
const BUSY_WAITS: u64 = 10;

/// The view that this node leads, as far as it has come.
#[derive(Clone, Debug)]
struct Beginning {
    view: ViewNumber,
    led_at: Millis,
    finished_at: Option<Millis>,
    served_at: Option<Millis>,
}

/// Views whose courses are not committed yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Courses {
    /// Of the last view that was decided, and since when writes stand still by that account.
    decision: Option<(ViewNumber, Decision, Millis)>,
    /// Since when the batch was in flight that the last view change of this primary interrupted.
    interrupted: Option<(ViewNumber, Millis)>,
    beginning: Option<Beginning>,
    waiting: Vec<Course>,
    /// When they may be told, and when they must.
    due_at: Option<(Millis, Millis)>,
}

impl Courses {
    /// How a view was decided; it may be in force here already.
    pub fn decided(&mut self, now: Millis, view: ViewNumber, decision: Decision) {
        if self.decision.as_ref().is_none_or(|(known, ..)| *known < view) {
            let stalled_since = Millis(now.0.saturating_sub(decision.stalled_ms));
            self.decision = Some((view, decision, stalled_since));
        }
    }

    /// A view is in force, which ends the one before; a batch of this primary may have been in flight since then.
    pub fn view_changed(&mut self, view: ViewNumber, sent_at: Option<Millis>, now: Millis) {
        self.close();
        self.interrupted = sent_at.map(|at| (view, at.min(now)));
    }

    /// This node is to lead it.
    pub fn leads(&mut self, now: Millis, view: ViewNumber) {
        self.beginning = Some(Beginning { view, led_at: now, finished_at: None, served_at: None });
    }

    /// what was found in the log is committed; the view entry follows.
    pub fn log_finished(&mut self, now: Millis) {
        if let Some(beginning) = &mut self.beginning {
            beginning.finished_at = Some(now);
        }
    }

    /// It serves; how long that took since the view was in force. Milliseconds.
    pub fn serves(&mut self, now: Millis, wait_ms: u64) -> u64 {
        let Some(beginning) = &mut self.beginning else { return 0 };
        beginning.served_at = Some(now);
        self.due_at = Some((now.plus(wait_ms), now.plus(wait_ms.saturating_mul(BUSY_WAITS))));
        now.since(beginning.led_at)
    }

    /// Writes down what is known of the view that was led till now, if it served.
    fn close(&mut self) {
        let Some(beginning) = self.beginning.take() else { return };
        let (Some(finished_at), Some(served_at)) = (beginning.finished_at, beginning.served_at) else { return };
        let view = beginning.view;
        let known = self.decision.take_if(|(of, ..)| *of == view);
        let interrupted = self.interrupted.filter(|(of, _)| *of == view).map(|(_, at)| at);
        let stall_ms = known.as_ref().map(|(_, _, since)| {
            let since = interrupted.map_or(*since, |at| at.min(*since));
            served_at.since(since)
        });
        let course = Course {
            view,
            decision: known.map(|(_, decision, _)| decision),
            finish_ms: finished_at.since(beginning.led_at),
            serve_ms: served_at.since(finished_at),
            stall_ms,
        };
        if self.waiting.len() < LIST_MAX {
            self.waiting.push(course);
        }
    }

    /// An entry is committed: what it tells needs no telling any more.
    pub fn told(&mut self, batch: &Batch) {
        if let Batch::Courses(told) = batch {
            self.waiting.retain(|course| told.iter().all(|known| known.view != course.view));
        }
    }

    /// This node is primary no more: nobody will tell.
    pub fn forget(&mut self) {
        let decision = self.decision.take(); // It may be of the view that begins.
        *self = Self { decision, ..Self::default() };
    }

    /// When something is to be told, if anything is.
    pub fn deadline(&self) -> Option<Millis> {
        self.due_at.map(|(idle, _)| idle)
    }
}

impl Coordinator {
    /// The next batch; or, when none is ready or this has waited for long, what is to be told.
    pub(super) fn form_or_tell(&mut self, now: Now) -> Effects {
        if self.examining.is_none() && self.leaving.is_waiting() {
            // One that is decided and not yet answered would be sent again.
            return if self.committing.is_empty() { self.form_removal(now) } else { Effects::none() };
        }
        let Some((idle, busy)) = self.courses.due_at.filter(|_| self.examining.is_none()) else {
            return self.form(now);
        };
        let mut effects = if busy <= now.elapsed { Effects::none() } else { self.form(now) };
        if idle <= now.elapsed && self.may_tell() {
            effects.append(self.tell_courses());
        }
        effects
    }

    /// Whether an entry may be sent that no client waits for.
    pub(super) fn may_tell(&self) -> bool {
        self.is_idle() && self.may_send()
    }

    /// Sent once its lock is held, as an inherited entry is.
    fn tell_courses(&mut self) -> Effects {
        let mut effects = Effects::none();
        self.courses.due_at = None;
        self.courses.close();
        if self.courses.waiting.is_empty() {
            return effects;
        }
        let batch = Batch::Courses(self.courses.waiting.clone());
        let mut flight = Flight::new(Entry::new(self.end.0.next(), self.end.1, batch).into(), None);
        let owner = LockOwner::Ticket(self.queue.new_ticket());
        flight.inherited_lock = Some(owner);
        effects.tell(Note::Acquire { owner, locks: flight.entry.locks() });
        self.flight = Some(flight);
        effects
    }

    /// what no client's batch is in and was not sent for votes is dropped; a join that holds the store would hold the
    /// hand-over up.
    pub(super) fn untell(&mut self) -> Effects {
        debug_assert!(matches!(self.phase, Phase::HandingOver { .. }), "only then is it dropped");
        let unsent = |flight: &mut Flight| {
            flight.stage == Stage::Locking && matches!(flight.entry.batch, Batch::Courses(_) | Batch::Remove(_))
        };
        let unsent = self.flight.take_if(unsent);
        super::release(unsent.and_then(|flight| flight.inherited_lock).into_iter().collect())
    }
}
