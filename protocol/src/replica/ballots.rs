//! Ballots for the next view, as one of its voters.
//!
//! Not here: the candidate's side (`campaign.rs`), which asks this machine as it asks every other voter.

use super::{AfterWrite, Replica};
use crate::ids::{Ballot, NodeId, Peer, ViewNumber};
use crate::machine::Effects;
use crate::message::{BallotAnswer, PeerMessage};
use crate::view::View;
use std::sync::Arc;

impl Replica {
    /// The view in force, if that is the one whose voters are asked, no later one is known, this node votes in it and the
    /// sender may stand in it (R-13: voters refuse anyone else). Who is behind is told by `on_heard`.
    fn electorate(&self, from: &Peer, view: ViewNumber) -> Option<Arc<View>> {
        let known = self.view.as_ref()?;
        let fits = known.number == view && self.adopting.is_none() && known.lists(&self.me);
        (fits && known.lists_replica(from)).then(|| known.clone())
    }

    /// changes nothing. A voter that does not suspect the primary says no to anyone but the primary.
    pub(super) fn on_trial(&self, from: &Peer, view: ViewNumber, campaign: u64) -> Effects {
        let mut effects = Effects::none();
        if let Some(known) = self.electorate(from, view) {
            // Who knows that its own history is wrong does not want to lead.
            let unfit = *from == self.me && self.diverged;
            let willing = !unfit && (self.suspects.is_some() || known.is_primary(from));
            let answer =
                PeerMessage::TrialAnswer { view, campaign, willing, promised: self.promised, sign: self.suspects };
            effects.send(&from.address, answer);
        }
        effects
    }

    /// R-13, phase 1: durable before it is said.
    pub(super) fn on_promise(&mut self, from: &Peer, view: ViewNumber, ballot: Ballot) -> Effects {
        let Some(known) = self.electorate(from, view).filter(|_| stands_for_itself(from, ballot)) else {
            return Effects::none();
        };
        let answer = |answer| PeerMessage::Promised { view, ballot, answer };
        if let Some(higher) = self.promised.filter(|promised| *promised > ballot) {
            return self.say_when_durable(&known, from, answer(BallotAnswer::Outbid(higher)));
        }
        self.promised = Some(ballot);
        self.say_when_durable(&known, from, answer(BallotAnswer::Yes(self.accepted.clone())))
    }

    /// R-14, phase 2: from here on this node votes on nothing and confirms nothing in this view any more.
    pub(super) fn on_accept(&mut self, from: &Peer, view: ViewNumber, ballot: Ballot, proposal: View) -> Effects {
        let fits = proposal.number == view.next() && stands_for_itself(from, ballot);
        let Some(known) = self.electorate(from, view).filter(|known| fits && proposal.cluster == known.cluster) else {
            return Effects::none();
        };
        let answer = |answer| PeerMessage::Accepted { view, ballot, answer };
        if let Some(higher) = self.promised.filter(|promised| *promised > ballot) {
            return self.say_when_durable(&known, from, answer(BallotAnswer::Outbid(higher)));
        }
        self.promised = Some(ballot);
        self.accepted = Some((ballot, proposal));
        self.say_when_durable(&known, from, answer(BallotAnswer::Yes(None)))
    }

    /// A no rests on a promise as a yes does: one that a hung disk never keeps must not stop those whose disks are well.
    fn say_when_durable(&mut self, view: &View, to: &Peer, message: PeerMessage) -> Effects {
        let after = AfterWrite::Say { to: to.address.clone(), view: view.number, message };
        self.write_vote(self.vote_record(view), after)
    }
}

fn stands_for_itself(from: &Peer, ballot: Ballot) -> bool {
    from.voter.node().is_some_and(|id: NodeId| id == ballot.node)
}
