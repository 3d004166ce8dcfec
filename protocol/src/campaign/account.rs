//! What a campaign can tell of itself: who saw what, who voted, how long each stage took. For the record of the view.
//!
//! Nothing follows from any of it.
//!
//! Not here: the record (`change.rs`), and what the new primary adds to it (`coordinator/course.rs`).

use super::Stage;
use super::goals::Goals;
use crate::change::{Decision, LIST_MAX, Sign};
use crate::ids::{Ballot, Millis, Peer, ViewNumber, Voter};
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};

/// Of a campaign that is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// What each voter noticed of the primary, as far as it has said.
    pub seen: BTreeMap<Voter, Sign>,
    promised: BTreeSet<Voter>,
    trial_won_at: Option<Millis>,
    gathered_at: Option<Millis>,
}

impl Account {
    /// A voter answered the trial, in time or a little late.
    pub fn saw(&mut self, voter: &Voter, sign: Option<Sign>) {
        if let Some(sign) = sign {
            self.seen.insert(voter.clone(), sign);
        }
    }

    /// Who promised in the end.
    pub fn gathered(&mut self, promised: &BTreeSet<Voter>) {
        self.promised = promised.iter().take(LIST_MAX).cloned().collect();
    }

    /// A stage begins.
    pub fn entered(&mut self, now: Millis, stage: Stage) {
        match stage {
            Stage::PromiseSelf => self.trial_won_at = Some(now),
            Stage::AcceptSelf => self.gathered_at = Some(now),
            Stage::Trial | Stage::Promise | Stage::Accept => {}
        }
    }

    /// The view is decided, under this ballot and by those who accepted.
    pub fn close(
        self,
        now: Millis,
        goals: &Goals,
        view: &View,
        (ballot, accepted): (Ballot, &BTreeSet<Voter>),
    ) -> Closed {
        let gathered_at = self.gathered_at.unwrap_or(now);
        let trial_won_at = self.trial_won_at.unwrap_or(gathered_at);
        let noticed_at = goals.since().map_or(trial_won_at, |since| since.noticed.elapsed);
        let served_at = goals.since().map_or(noticed_at, |since| since.served_at);
        // From the own acceptance on the old view commits nothing.
        let stalled = goals.since().and_then(|since| since.stalled).map_or(gathered_at, |at| at.min(gathered_at));
        let decision = Decision {
            ballot,
            votes: u32::try_from(view.voters().count()).unwrap_or(u32::MAX),
            promised: self.promised,
            accepted: accepted.iter().take(LIST_MAX).cloned().collect(),
            suspect_ms: noticed_at.since(served_at),
            trial_ms: trial_won_at.since(noticed_at),
            promise_ms: gathered_at.since(trial_won_at),
            accept_ms: now.since(gathered_at),
            stalled_ms: now.since(stalled),
        };
        Closed { view: view.number.next(), voters: view.clone(), decision, at: now }
    }
}

/// Of a campaign whose view is decided, and not in force here yet.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    /// The decided view.
    pub view: ViewNumber,
    voters: View,
    decision: Decision,
    at: Millis,
}

impl Closed {
    /// As it is known now.
    pub fn decision(&self) -> Decision {
        self.decision.clone()
    }

    /// One more voter accepted: it was not waited for, and is counted all the same.
    pub fn accepted_late(&mut self, from: &Peer, view: ViewNumber, ballot: Ballot) {
        let counts = view.next() == self.view && ballot == self.decision.ballot && self.voters.lists(from);
        if counts && self.decision.accepted.len() < LIST_MAX {
            self.decision.accepted.insert(from.voter.clone());
        }
    }

    /// As it is told when the view is in force.
    pub fn when_in_force(self, now: Millis) -> Decision {
        let stalled_ms = self.decision.stalled_ms + now.since(self.at);
        Decision { stalled_ms, ..self.decision }
    }
}
