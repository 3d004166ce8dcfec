//! Counts the corners that a run reaches: what faults are for.
//!
//! Not here: the names (`met.rs`).

use super::met::Met;
use super::world::World;
use crate::change::{Fault, Reason};
use crate::ids::{ViewNumber, Voter};
use crate::log::Batch;
use crate::machine::Note;
use crate::message::{BallotAnswer, PeerMessage, SyncFrom};
use crate::storage::Recovered;
use crate::view::View;

impl World {
    /// A letter is sent.
    pub(super) fn count_letter(&mut self, (from, to): (usize, usize), message: &PeerMessage) {
        match message {
            PeerMessage::Promised { answer: BallotAnswer::Outbid(_), .. }
            | PeerMessage::Accepted { answer: BallotAnswer::Outbid(_), .. } => self.met.add(Met::Outbids),
            // A candidate asks itself first, and that once.
            PeerMessage::Accept { view, proposal, .. } if from == to => self.count_proposal(from, *view, proposal),
            PeerMessage::SyncOk { from, .. } => {
                self.met.add(Met::JoinsBegun);
                if let SyncFrom::Snapshot { .. } = from {
                    self.met.add(Met::JoinsWithSnapshot);
                }
            }
            PeerMessage::TakeOver { .. } => self.met.add(Met::TakeOvers),
            PeerMessage::Prepare { entry, .. } if from == to => {
                if let Batch::Abort { .. } = entry.batch {
                    self.met.add(Met::Aborts);
                }
            }
            _ => {} // Says nothing of a corner.
        }
    }

    fn count_proposal(&mut self, candidate: usize, view: ViewNumber, proposal: &View) {
        let is_own = self.nodes[candidate].me.voter == Voter::Replica(proposal.cause.asked_by);
        if !is_own {
            self.met.add(Met::AcceptedTakenOver);
        }
        let known = self.proposals.entry(view).or_default();
        if !known.contains(proposal) {
            if !known.is_empty() {
                self.met.add(Met::ViewsWhileAnotherIsDecided);
            }
            known.push(proposal.clone());
        }
    }

    /// A machine tells the others, before anybody heard it.
    pub(super) fn count_note(&mut self, note: &Note) {
        match note {
            Note::ViewChanged { view } => self.count_view(view),
            Note::Lead { tail, .. } if !tail.is_empty() => self.met.add(Met::Inherited),
            Note::NotServing { can_lead: false, .. } => self.met.add(Met::StepDowns),
            _ => {} // Says nothing of a corner.
        }
    }

    /// A view of which nobody knew comes into force somewhere.
    fn count_view(&mut self, view: &View) {
        let Some(before) = self.checker.views().last().filter(|before| before.number < view.number) else { return };
        let joined = view.replica_peers().filter(|peer| !before.lists(peer)).count();
        let listed = view.voters().filter(|peer| peer.voter.node().is_none() && !before.lists(peer)).count();
        let reasons = &view.cause.reasons;
        let hands_over = reasons.iter().any(|reason| matches!(reason, Reason::HandedOver { .. }));
        let is_slow = |reason: &Reason| matches!(reason, Reason::SetOffline { fault: Fault::Late { .. }, .. });
        let is_slow = reasons.iter().any(is_slow);
        self.met.add(Met::Views);
        let found = [
            (joined > 0, Met::JoinsFinished),
            (listed > 0, Met::WitnessesListed),
            (hands_over, Met::HandOvers),
            (is_slow, Met::SetOfflineSlow),
        ];
        found.into_iter().filter(|(is_met, _)| *is_met).for_each(|(_, met)| self.met.add(met));
    }

    /// A start found this on its disk.
    pub(super) fn count_recovered(&mut self, found: &Recovered) {
        if !found.tail.is_empty() {
            self.met.add(Met::RestartsWithTail);
        }
        if found.vote.as_ref().is_some_and(|vote| vote.accepted.is_some()) {
            self.met.add(Met::RestartsWithAccepted);
        }
    }

    /// A process is about to die.
    pub(super) fn count_death(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.as_ref() else { return };
        let gives = process.serving.is_some() && process.status().sync.is_some();
        self.met.add(Met::Crashes);
        if gives {
            self.met.add(Met::JoinsWhileThePrimaryDies);
        }
    }
}
