//! What the records of view changes must say (section 12): each view that served has one, and it fits the views around it.
//!
//! Not here: whether all replicas keep the same (S5, the store's digest).

use super::{Checked, Rule, require};
use crate::change::{Cause, Change, Course, Fault, Reason, Sign};
use crate::ids::{NodeId, ViewNumber, Voter};
use crate::machine::Timing;
use crate::store::VIEWS_MAX;
use crate::view::View;
use std::collections::BTreeMap;

/// The records that the decided log makes.
#[derive(Clone, Debug, Default)]
pub struct Records(BTreeMap<ViewNumber, Change>);

impl Records {
    /// A view entry is decided.
    ///
    /// # Errors
    /// When the view has one already.
    pub fn begun(&mut self, view: &View) -> Checked {
        let before = self.0.insert(view.number, Change::new(view));
        require(before.is_none(), Rule::Untold, || format!("view {} begins twice", view.number))
    }

    /// A primary told how a view came about, decided by the voters of the one `before`, if anybody acted in that.
    ///
    /// # Errors
    /// When it tells of a view that never served, or of votes that decide nothing.
    pub fn told(&mut self, course: &Course, before: Option<&View>) -> Checked {
        let view = course.view;
        let Some(change) = self.0.get_mut(&view) else {
            return require(false, Rule::Untold, || format!("view {view} is told of, and never served"));
        };
        change.course.get_or_insert_with(|| course.clone());
        let (Some(before), Some(decision)) = (before, &course.decision) else { return Ok(()) };
        let votes = before.voters().count();
        let decides = before.is_quorum(&decision.accepted) && before.is_quorum(&decision.promised);
        require(decides && decision.votes as usize == votes, Rule::Untold, || {
            format!("view {view} is said to be decided by {decision:?}, out of {votes} votes")
        })
    }

    /// The last of them, oldest first, as every store should have them.
    pub fn last(&self) -> impl Iterator<Item = &Change> {
        self.0.values().skip(self.0.len().saturating_sub(VIEWS_MAX))
    }

    /// Whether a store has them.
    ///
    /// # Errors
    /// When it has others.
    pub fn are(&self, who: &Voter, kept: &[Change]) -> Checked {
        require(self.last().eq(kept), Rule::Untold, || {
            let expected: Vec<_> = self.last().collect();
            format!("{who} keeps the records {kept:?}, and should keep {expected:?}")
        })
    }
}

/// Whether the cause of a view names everyone who came and went, rightly.
///
/// # Errors
/// When somebody is missing, or what it says cannot be.
pub fn cause_fits(before: &View, after: &View, timing: &Timing) -> Checked {
    let wrong = |what: &str| format!("view {}, after {before:?}, is {what}: {after:?}", after.number);
    let cause = &after.cause;
    let is_full = after.witnesses.len() + 1 == after.replicas.len();
    for peer in before.voters().filter(|peer| !after.lists(peer)) {
        let crowded = peer.voter.node().is_none() && is_full;
        require(crowded || names_left(cause, &peer.voter), Rule::Untold, || wrong("missing who left"))?;
    }
    for peer in after.voters().filter(|peer| !before.lists(peer)) {
        let joined = cause.reasons.iter().any(|reason| match reason {
            Reason::NodeJoined { node } => Voter::Replica(*node) == peer.voter,
            Reason::WitnessJoined { name } => Voter::Witness(name.clone()) == peer.voter,
            _ => false,
        });
        require(joined, Rule::Untold, || wrong("missing who joined"))?;
    }
    let is_true = cause.reasons.iter().all(|reason| can_be(reason, before, after, timing));
    let silent = |(_, sign): &(Voter, Sign)| !matches!(sign, Sign::Silent { ms } if *ms < timing.heartbeat_timeout_ms);
    let seers = cause.seen.iter().all(|(voter, _)| before.seat(voter).is_some());
    require(is_true && seers && cause.seen.iter().all(silent), Rule::Untold, || wrong("caused by what cannot be"))
}

fn names_left(cause: &Cause, who: &Voter) -> bool {
    let is = |id: &NodeId| Voter::Replica(*id) == *who;
    cause.unheard.contains(who)
        || cause.reasons.iter().any(|reason| match reason {
            Reason::PrimaryLost { primary } => is(primary),
            Reason::SetOffline { voter, .. } => voter == who,
            Reason::HandedOver { from, leaves, .. } => leaves.is_some() && is(from),
            Reason::Left { voter, .. } => voter == who,
            Reason::Founded
            | Reason::Recovered { .. }
            | Reason::NodeJoined { .. }
            | Reason::WitnessJoined { .. }
            | Reason::Unfinished { .. } => false,
        })
}

fn can_be(reason: &Reason, before: &View, after: &View, timing: &Timing) -> bool {
    match reason {
        Reason::Founded | Reason::Recovered { .. } => false, // Not after another view.
        Reason::PrimaryLost { primary } => *primary == before.primary && !after.cause.seen.is_empty(),
        Reason::SetOffline { voter, fault } => {
            let long_enough = match fault {
                Fault::Silent { ms } => *ms >= timing.heartbeat_timeout_ms,
                Fault::Slow { ms } => *ms >= timing.vote_timeout_ms,
                Fault::Late { ms, .. } => *ms >= timing.slow_replica_window_ms,
                Fault::Reset | Fault::Storage | Fault::Malformed | Fault::Gap => true,
            };
            long_enough && before.seat(voter).is_some()
        }
        Reason::NodeJoined { node } => !before.replicas.contains_key(node),
        Reason::WitnessJoined { name } => !before.witnesses.contains_key(name),
        Reason::HandedOver { from, to, leaves } => {
            let higher = leaves.is_some() || to > from;
            *from == before.primary && *to == after.primary && higher
        }
        Reason::Unfinished { voter } | Reason::Left { voter, .. } => before.seat(voter).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Decision;
    use crate::ids::{Ballot, Timestamp};
    use crate::testing::{view, witness};
    use std::collections::BTreeSet;

    fn caused(mut view: View, reasons: Vec<Reason>) -> View {
        view.cause = Cause::new(Timestamp(1), NodeId(3), reasons).into();
        view
    }

    #[test]
    fn section_12_a_cause_names_who_came_and_who_went() {
        let timing = Timing::default();
        let before = view(1, 3, &[1, 2, 3], 1);
        let offline = |fault| Reason::SetOffline { voter: Voter::Replica(NodeId(2)), fault };
        let fits = |after: &View| cause_fits(&before, after, &timing).is_ok();
        let without_2 = |reasons| caused(view(2, 3, &[1, 3], 1), reasons);
        assert!(fits(&without_2(vec![offline(Fault::Reset)])));
        assert!(!fits(&without_2(Vec::new())), "who left is not named");
        assert!(!fits(&without_2(vec![offline(Fault::Silent { ms: 9 })])), "nobody is silent after 9 ms");
        let join = || Reason::NodeJoined { node: NodeId(4) };
        assert!(fits(&caused(view(2, 3, &[1, 2, 3, 4], 1), vec![join()])));
        assert!(!fits(&caused(view(2, 3, &[1, 2, 3, 4], 1), Vec::new())), "who joined is not named");
        let lost = Reason::PrimaryLost { primary: NodeId(2) };
        assert!(!fits(&caused(view(2, 3, &[1, 2, 3], 1), vec![lost])), "that was not the primary");
    }

    #[test]
    fn section_12_a_record_tells_of_a_view_that_served_and_of_votes_that_decide() {
        let before = view(1, 3, &[1, 2, 3], 0);
        let voters = |ids: &[u32]| ids.iter().map(|id| Voter::Replica(NodeId(*id))).collect::<BTreeSet<_>>();
        let course = |accepted: &[u32]| {
            let ballot = Ballot { round: 1, node: NodeId(3) };
            let (promised, accepted) = (voters(&[1, 3]), voters(accepted));
            let (suspect_ms, trial_ms, promise_ms, accept_ms, stalled_ms) = (0, 0, 0, 0, 0);
            let decision = Some(Decision {
                ballot,
                votes: 3,
                promised,
                accepted,
                suspect_ms,
                trial_ms,
                promise_ms,
                accept_ms,
                stalled_ms,
            });
            Course { view: ViewNumber(2), decision, finish_ms: 0, serve_ms: 0, stall_ms: Some(0) }
        };
        let mut records = Records::default();
        assert!(records.told(&course(&[1, 3]), Some(&before)).is_err(), "it never served");
        assert!(records.begun(&view(2, 3, &[1, 3], 0)).is_ok());
        assert!(records.told(&course(&[3]), Some(&before)).is_err(), "one of three decides nothing");
        assert!(records.are(&witness(1).voter, &[]).is_err());
        assert!(records.begun(&view(2, 3, &[1, 3], 0)).is_err(), "twice");
    }
}
