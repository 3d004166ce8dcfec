//! What one node shows of itself: its last view, whether it serves, and its last view changes with their stalls.
//!
//! Fed with the notes that its machines tell; read by the peer port, by the gateway's probes and by who waits for a handover.
//! The machines never read it. Their own state is asked of them when somebody wants it, so that it costs a write nothing.

use crate::gateway::{Leading, ViewChange};
use lockstep_protocol::ids::{ClusterId, Millis, Now, ViewNumber};
use lockstep_protocol::machine::Note;
use lockstep_protocol::view::View;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How many view changes are kept.
const CHANGES_MAX: usize = 100;

/// A copy of what the node's machines told each other, for others to look at.
#[derive(Debug)]
pub struct Observer {
    seen: Mutex<Seen>,
    view: watch::Sender<Option<Arc<View>>>,
}

#[derive(Debug, Default)]
struct Seen {
    serving: Option<ViewNumber>,
    stalled_since: Option<Millis>,
    changes: VecDeque<ViewChange>,
}

impl Observer {
    /// Knows the view that was found on disk, if any.
    #[must_use]
    pub fn new(view: Option<Arc<View>>) -> Self {
        Self { seen: Mutex::default(), view: watch::Sender::new(view) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last decided view that this node knows.
    #[must_use]
    pub fn view(&self) -> Option<Arc<View>> {
        self.view.borrow().clone()
    }

    /// To wait for the next view.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.view.subscribe()
    }

    /// Whether this node leads, for those who know the views up to `known`.
    #[must_use]
    pub fn leading(&self, known: ViewNumber) -> Leading {
        let view = self.view();
        let cluster: Option<ClusterId> = view.as_ref().map(|view| view.cluster);
        Leading { cluster, serving: self.seen().serving, view: view.filter(|view| view.number > known) }
    }

    /// The last view changes, oldest first.
    #[must_use]
    pub fn changes(&self) -> Vec<ViewChange> {
        self.seen().changes.iter().cloned().collect()
    }

    /// Called with each note before its hearers get it.
    pub fn hear(&self, now: Now, note: &Note) {
        match note {
            Note::ViewChanged { view } => self.on_view(now, view),
            Note::Serving { view } => {
                self.seen().serving = Some(*view);
                self.seen().end_stall(now, *view);
            }
            Note::Trusted { view } => self.seen().end_stall(now, *view),
            Note::NotServing { .. } => {
                self.seen().serving = None;
                self.seen().begin_stall(now);
            }
            Note::Suspected { view: _, reason: _ } => self.seen().begin_stall(now),
            Note::Lead { .. }
            | Note::Silent { .. }
            | Note::Campaign { .. }
            | Note::SetOffline { .. }
            | Note::AddReplica { .. }
            | Note::AddFailed { .. }
            | Note::Fence { .. }
            | Note::Fenced { .. }
            | Note::AddWitness { .. }
            | Note::HandOver { .. }
            | Note::HandOverNow { .. }
            | Note::CampaignFailed { .. }
            | Note::Learnt { .. }
            | Note::Acquire { .. }
            | Note::Release { .. }
            | Note::Granted { .. }
            | Note::CommitSeen { .. }
            | Note::LogPosition { .. }
            | Note::SyncBegan { .. }
            | Note::Synced { .. }
            | Note::Pace { .. }
            | Note::AnswerWhenConfirmed { .. }
            | Note::Diverged => {}
        }
    }

    fn on_view(&self, now: Now, view: &Arc<View>) {
        let is_new = self.seen().on_view(now, view);
        if is_new || self.view.borrow().is_none() {
            self.view.send_replace(Some(view.clone()));
        }
    }
}

impl Seen {
    fn on_view(&mut self, now: Now, view: &Arc<View>) -> bool {
        if self.changes.back().is_some_and(|last| last.view >= view.number) {
            return false;
        }
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        let cause = view.cause.clone();
        self.changes.push_back(ViewChange { view: view.number, at: now.wall, cause, stall_ms: None });
        self.serving = self.serving.filter(|serving| *serving >= view.number);
        self.begin_stall(now);
        true
    }

    /// The first sign of trouble counts.
    fn begin_stall(&mut self, now: Now) {
        self.stalled_since.get_or_insert(now.elapsed);
    }

    fn end_stall(&mut self, now: Now, view: ViewNumber) {
        let Some(since) = self.stalled_since.take() else { return };
        if let Some(change) = self.changes.back_mut().filter(|change| change.view == view) {
            change.stall_ms = Some(now.elapsed.since(since));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lockstep_protocol::ids::{Address, Incarnation, NodeId, Timestamp};
    use lockstep_protocol::view::Seat;

    pub(crate) fn view(number: u64, primary: u32) -> Arc<View> {
        let seat = |id: u32| Seat { incarnation: Incarnation(1), address: Address::new(&format!("127.0.0.1:{id}")) };
        Arc::new(View {
            cluster: ClusterId(9),
            number: ViewNumber(number),
            primary: NodeId(primary),
            replicas: (1..=3).map(|id| (NodeId(id), seat(id))).collect(),
            witnesses: std::collections::BTreeMap::new(),
            cause: format!("cause {number}"),
        })
    }

    fn at(ms: u64) -> Now {
        Now { elapsed: Millis(ms), wall: Timestamp(ms * 1_000) }
    }

    #[test]
    fn a_stall_lasts_from_the_first_suspicion_until_the_next_view_serves() {
        let observer = Observer::new(Some(view(1, 3)));
        observer.hear(at(100), &Note::Suspected { view: ViewNumber(1), reason: "reset".into() });
        observer.hear(at(120), &Note::Suspected { view: ViewNumber(1), reason: "again".into() });
        observer.hear(at(130), &Note::ViewChanged { view: view(2, 2) });
        assert_eq!(observer.changes()[0].stall_ms, None);
        observer.hear(at(150), &Note::Serving { view: ViewNumber(2) });
        let changes = observer.changes();
        assert_eq!((changes.len(), changes[0].stall_ms), (1, Some(50)));
        assert_eq!(changes[0].cause, "cause 2");
        assert_eq!(observer.leading(ViewNumber(1)).serving, Some(ViewNumber(2)));
        assert_eq!(observer.leading(ViewNumber(2)).view, None, "the caller knows it");
    }

    #[test]
    fn a_new_view_ends_serving_in_the_old_one() {
        let observer = Observer::new(None);
        observer.hear(at(1), &Note::ViewChanged { view: view(1, 1) });
        observer.hear(at(2), &Note::Serving { view: ViewNumber(1) });
        observer.hear(at(3), &Note::ViewChanged { view: view(2, 2) });
        assert_eq!(observer.leading(ViewNumber(0)).serving, None);
        assert_eq!(observer.view().map(|view| view.number), Some(ViewNumber(2)));
    }

    #[test]
    fn only_the_last_changes_are_kept() {
        let observer = Observer::new(None);
        for number in 1..=150 {
            observer.hear(at(number), &Note::ViewChanged { view: view(number, 1) });
        }
        let changes = observer.changes();
        assert_eq!((changes.len(), changes[0].view), (CHANGES_MAX, ViewNumber(51)));
    }
}
