//! What comes back to a candidate: answers to its trial, its ballot and its proposal, or nobody.
//!
//! An answer counts only at the stage that asked for it; what it says of the lost primary is written down a little longer.
//!
//! Not here: what follows when a stage has heard enough (`campaign.rs`).

use super::{Campaign, Run, Stage};
use crate::change::Sign;
use crate::ids::{Address, Ballot, Now, Peer, ViewNumber};
use crate::machine::Effects;
use crate::message::BallotAnswer;

impl Campaign {
    /// The run, if the answer is to what it asks now, by one of the voters of the view in force.
    fn current(&mut self, from: &Peer, view: ViewNumber, stages: [Stage; 2]) -> Option<&mut Run> {
        let known = self.electorate(view)?;
        let run = self.run.as_mut()?;
        (known.lists(from) && stages.contains(&run.stage)).then_some(run)
    }

    pub(super) fn on_trial_answer(
        &mut self,
        now: Now,
        from: &Peer,
        view: ViewNumber,
        campaign: u64,
        (willing, promised, sign): (bool, Option<Ballot>, Option<Sign>),
    ) -> Effects {
        let is_own = from.voter == self.me.voter;
        let listed = self.electorate(view).is_some_and(|known| known.lists(from));
        if let Some(run) = self.run.as_mut().filter(|run| listed && run.campaign == campaign) {
            run.account.saw(&from.voter, sign);
        }
        let Some(run) = self.current(from, view, [Stage::Trial; 2]).filter(|run| run.campaign == campaign) else {
            return Effects::none();
        };
        run.answered.insert(from.voter.clone());
        // One that stands for a lower node, and suspects nobody yet, will soon support itself.
        run.is_unfit |= is_own && !willing && sign.is_some();
        if willing {
            run.yes.insert(from.voter.clone());
        } else {
            run.no.insert(from.voter.clone());
        }
        self.round = self.round.max(promised.map_or(0, |ballot| ballot.round));
        self.advance(now)
    }

    pub(super) fn on_promised(
        &mut self,
        now: Now,
        from: &Peer,
        view: ViewNumber,
        ballot: Ballot,
        answer: BallotAnswer,
    ) -> Effects {
        let stages = [Stage::PromiseSelf, Stage::Promise];
        let Some(run) = self.current(from, view, stages).filter(|run| run.ballot == ballot) else {
            return Effects::none();
        };
        match answer {
            BallotAnswer::Outbid(higher) => return self.outbid(now, higher),
            BallotAnswer::Yes(accepted) => {
                run.yes.insert(from.voter.clone());
                if accepted.as_ref().map(|(ballot, _)| *ballot) > run.accepted.as_ref().map(|(ballot, _)| *ballot) {
                    run.accepted = accepted;
                }
            }
        }
        self.advance(now)
    }

    pub(super) fn on_accepted(
        &mut self,
        now: Now,
        from: &Peer,
        view: ViewNumber,
        ballot: Ballot,
        answer: &BallotAnswer,
    ) -> Effects {
        if let (Some(closed), BallotAnswer::Yes(_)) = (&mut self.decided, answer) {
            closed.accepted_late(from, view, ballot);
        }
        let stages = [Stage::AcceptSelf, Stage::Accept];
        let Some(run) = self.current(from, view, stages).filter(|run| run.ballot == ballot) else {
            return Effects::none();
        };
        match answer {
            BallotAnswer::Outbid(higher) => return self.outbid(now, *higher),
            BallotAnswer::Yes(_) => {
                run.yes.insert(from.voter.clone());
            }
        }
        self.advance(now)
    }

    /// Nobody is there: no answer will come, except to what was sent before.
    pub(super) fn on_unreachable(&mut self, now: Now, address: &Address) -> Effects {
        let (Some(view), Some(run)) = (&self.view, &mut self.run) else { return Effects::none() };
        match view.voter_at(address) {
            Some(voter) if voter != self.me.voter && !run.yes.contains(&voter) => {
                run.no.insert(voter);
                self.advance(now)
            }
            Some(_) | None => Effects::none(),
        }
    }
}
