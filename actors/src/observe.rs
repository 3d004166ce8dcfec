//! What one node shows of itself: its last view, and whether it serves. Why views changed is in its store.
//!
//! Fed with the notes that its machines tell; read by the peer port, by the gateway's probes and by who waits for a handover.
//! The machines never read it. Their own state is asked of them when somebody wants it, so that it costs a write nothing.

use crate::gateway::Leading;
use lockstep_protocol::ids::{ClusterId, ViewNumber};
use lockstep_protocol::machine::Note;
use lockstep_protocol::view::View;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A copy of what the node's machines told each other, for others to look at.
#[derive(Debug)]
pub struct Observer {
    seen: Mutex<Seen>,
    view: watch::Sender<Option<Arc<View>>>,
}

#[derive(Debug, Default)]
struct Seen {
    serving: Option<ViewNumber>,
    /// The last view that came into force in this process.
    last: ViewNumber,
    /// The last one that is counted: the one that was found on disk, and then each that came into force.
    counted: ViewNumber,
    /// How many of each kind of cause came into force in this process.
    changes: BTreeMap<&'static str, u64>,
}

impl Observer {
    /// Knows the view that was found on disk, if any.
    #[must_use]
    pub fn new(view: Option<Arc<View>>) -> Self {
        let counted = view.as_ref().map_or(ViewNumber(0), |view| view.number);
        let seen = Seen { counted, ..Seen::default() };
        Self { seen: Mutex::new(seen), view: watch::Sender::new(view) }
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

    /// How many views came into force here since the process began, by the kind of their cause; those that it slept through are
    /// not among them.
    #[must_use]
    pub fn view_changes(&self) -> BTreeMap<&'static str, u64> {
        self.seen().changes.clone()
    }

    /// Whether this node leads, for those who know the views up to `known`.
    #[must_use]
    pub fn leading(&self, known: ViewNumber) -> Leading {
        let view = self.view();
        let cluster: Option<ClusterId> = view.as_ref().map(|view| view.cluster);
        Leading { cluster, serving: self.seen().serving, view: view.filter(|view| view.number > known) }
    }

    /// Called with each note before its hearers get it.
    pub fn hear(&self, note: &Note) {
        match note {
            Note::ViewChanged { view } => self.on_view(view),
            Note::Serving { view } => self.seen().serving = Some(*view),
            Note::NotServing { .. } => self.seen().serving = None,
            Note::Trusted { .. }
            | Note::Suspected { .. }
            | Note::Decided { .. }
            | Note::Lead { .. }
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
            | Note::Applying { .. }
            | Note::LogPosition { .. }
            | Note::SyncBegan { .. }
            | Note::Synced { .. }
            | Note::Pace { .. }
            | Note::AnswerWhenConfirmed { .. }
            | Note::Members { .. }
            | Note::Draining { .. }
            | Note::Diverged => {}
        }
    }

    fn on_view(&self, view: &Arc<View>) {
        let is_new = self.seen().on_view(view);
        if is_new || self.view.borrow().is_none() {
            self.view.send_replace(Some(view.clone()));
        }
    }
}

impl Seen {
    fn on_view(&mut self, view: &View) -> bool {
        let is_new = view.number > self.last;
        if is_new {
            self.last = view.number;
            self.serving = self.serving.filter(|serving| *serving >= view.number);
        }
        if view.number > self.counted {
            self.counted = view.number;
            *self.changes.entry(view.cause.kind()).or_default() += 1;
        }
        is_new
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lockstep_protocol::change::Cause;
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
            cause: Cause::new(Timestamp(0), NodeId(primary), Vec::new()).into(),
        })
    }

    #[test]
    fn a_view_is_counted_once_and_the_one_on_disk_not_at_all() {
        let observer = Observer::new(Some(view(3, 1)));
        for number in [3, 4, 4, 6] {
            observer.hear(&Note::ViewChanged { view: view(number, 1) });
        }
        assert_eq!(observer.view_changes(), BTreeMap::from([("election", 2)]));
    }

    #[test]
    fn a_new_view_ends_serving_in_the_old_one() {
        let observer = Observer::new(None);
        observer.hear(&Note::ViewChanged { view: view(1, 1) });
        observer.hear(&Note::Serving { view: ViewNumber(1) });
        observer.hear(&Note::ViewChanged { view: view(2, 2) });
        assert_eq!(observer.leading(ViewNumber(0)).serving, None);
        assert_eq!(observer.view().map(|view| view.number), Some(ViewNumber(2)));
    }
}
