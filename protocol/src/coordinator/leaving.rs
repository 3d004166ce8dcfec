//! Who leaves by somebody's wish: removed for good, or drained for a while.
//!
//! - A removal is an entry of the log first, and a view change afterwards. The entry is what cannot be taken back; every
//!   later primary finds it in its store, and has the view changed if that was not done yet.
//! - Who is to leave is left out like one that has failed; a primary that is to leave hands over.
//! - Nobody leaves so that fewer than `replication.min_replicas` would hold everything, or none: then it stays a replica
//!   like any other until somebody else has joined.
//! - An entry that removes takes IX on the store like any write: none is committed in the last round of a join.
//!
//! Not here: who is not let in any more (`sync/giver.rs`, `heartbeat.rs`), and how a removed or drained node behaves itself
//! (`heartbeat.rs`, `sync/taker.rs`).

use super::{Coordinator, Flight, Phase};
use crate::change::{Leave, Reason};
use crate::ids::{Millis, NodeId, Now, Peer, RequestId, ViewNumber, Voter};
use crate::lock::LockOwner;
use crate::log::{Batch, Entry};
use crate::machine::{Effects, Note};
use crate::member::Members;
use crate::message::PeerMessage;
use crate::operation::{Answer, OperationError};
use crate::operator::{OperatorAnswer, OperatorCall, OperatorRefusal};
use crate::view::View;
use std::collections::{BTreeSet, VecDeque};

/// So many removals may wait at once.
const WAITING_MAX: usize = 16;

/// Who is to leave, as far as this node knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaving {
    pub members: Members,
    /// Removals that somebody waits for; the first may be in flight.
    waiting: VecDeque<(RequestId, Voter)>,
    /// Replicas of the view in force that asked to be let go.
    drained: BTreeSet<NodeId>,
    /// This node is to leave the view itself.
    draining: bool,
    /// When who has not left yet is seen off again.
    again_at: Option<Millis>,
}

impl Leaving {
    /// Another view: who still wants to be let go of it says so again.
    pub fn view_changed(&mut self) {
        self.drained.clear();
        self.again_at = None;
    }

    /// When something is to be done again.
    pub fn deadline(&self) -> Option<Millis> {
        self.again_at
    }

    /// Whether a removal waits to be sent.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Nobody knows here what becomes of them; whoever asked asks the next primary.
    pub fn give_up(&mut self) -> Effects {
        let requests = std::mem::take(&mut self.waiting).into_iter().map(|(request, _)| request);
        super::fail_or(requests, &Answer::Failed(OperationError::OutcomeUnknown))
    }

    fn done(&mut self, voter: &Voter, answer: &OperatorAnswer) -> Effects {
        let (told, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(_, whom)| whom == voter);
        self.waiting = waiting;
        let told: VecDeque<_> = told;
        let requests = told.into_iter().map(|(request, _)| request);
        super::fail_or(requests, &Answer::Operator(answer.clone()))
    }
}

impl Coordinator {
    /// How many replicas the cluster goes on with at least.
    fn copies_min(&self) -> usize {
        usize::try_from(self.limits.replicas_min).unwrap_or(usize::MAX).max(1)
    }

    /// Who of this view is to leave, and why.
    fn leaver(&self, peer: &Peer) -> Option<Leave> {
        let is_me = peer.voter == self.me.voter;
        let has_asked = peer.voter.node().is_some_and(|id| self.leaving.drained.contains(&id));
        match self.leaving.members.is_removed(peer) {
            true => Some(Leave::Removed),
            false => (has_asked || (is_me && self.leaving.draining)).then_some(Leave::Drained),
        }
    }

    /// Why a replica of the view may not leave, if it may not: too few would stay.
    fn spares(&self, view: &View, voter: &Voter) -> Option<OperatorRefusal> {
        let goes = |peer: &Peer| {
            let is_asked_for = self.leaving.waiting.iter().any(|(_, whom)| *whom == peer.voter);
            peer.voter == *voter || is_asked_for || self.leaver(peer).is_some()
        };
        let left = view.replica_peers().filter(|peer| !goes(peer)).count();
        let needed = self.copies_min();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let voter = voter.clone();
        match left {
            _ if view.seat(&voter).is_none() || voter.node().is_none() || left >= needed => None,
            0 => Some(OperatorRefusal::LastCopy { voter }),
            _ => Some(OperatorRefusal::TooFew { voter, left: number(left), needed: number(needed) }),
        }
    }

    /// Why a voter may not be removed, if it may not.
    fn objection(&self, view: &View, voter: &Voter) -> Option<OperatorRefusal> {
        let is_known = self.leaving.members.knows(voter) || view.seat(voter).is_some();
        if is_known { self.spares(view, voter) } else { Some(OperatorRefusal::Unknown { voter: voter.clone() }) }
    }

    pub(super) fn on_operator(&mut self, now: Now, request: RequestId, call: OperatorCall) -> Effects {
        match call {
            OperatorCall::Remove { voter } => self.on_remove(now, request, voter),
            OperatorCall::Drain { on } => self.on_drain(now, request, on),
        }
    }

    /// of what is refused or known, the answer rests on what this primary knows, so it is confirmed first, like a read.
    fn on_remove(&mut self, now: Now, request: RequestId, voter: Voter) -> Effects {
        let mut effects = Effects::none();
        let leads = matches!(self.phase, Phase::Serving | Phase::Recovering);
        let Some(view) = self.view.clone().filter(|_| leads) else {
            effects.answer(request, Answer::Failed(self.not_primary()));
            return effects;
        };
        if self.leaving.waiting.len() >= WAITING_MAX {
            effects.answer(request, Answer::Failed(OperationError::Overloaded));
            return effects;
        }
        let known = match self.leaving.members.has_left(&voter) {
            true => Some(OperatorAnswer::Removed),
            false => self.objection(&view, &voter).map(OperatorAnswer::Refused),
        };
        if let Some(answer) = known {
            effects.tell(Note::AnswerWhenConfirmed { request, answer: Answer::Operator(answer) });
            return effects;
        }
        self.leaving.waiting.push_back((request, voter));
        if self.phase == Phase::Serving {
            effects.append(self.next(now));
        }
        effects
    }

    /// The next removal, sent once its lock is held, as an inherited entry is.
    pub(super) fn form_removal(&mut self, now: Now) -> Effects {
        let mut effects = Effects::none();
        while let Some((_, voter)) = self.leaving.waiting.front().cloned() {
            let refusal = self.view.as_ref().and_then(|view| self.objection(view, &voter));
            let answer = match refusal {
                // Committed by an earlier view's primary, and so by every replica of the view that serves now.
                _ if self.leaving.members.has_left(&voter) => OperatorAnswer::Removed,
                // Since it was asked for, the view has shrunk, or has lost a voter that no view entry ever listed.
                Some(refusal) => OperatorAnswer::Refused(refusal),
                None => {
                    effects.append(self.send_removal(voter));
                    return effects;
                }
            };
            effects.append(self.leaving.done(&voter, &answer));
        }
        effects.append(self.next(now));
        effects
    }

    fn send_removal(&mut self, voter: Voter) -> Effects {
        let mut effects = Effects::none();
        let entry = Entry::new(self.end.0.next(), self.end.1, Batch::Remove(voter));
        let mut flight = Flight::new(entry.into(), None);
        let owner = LockOwner::Ticket(self.queue.new_ticket());
        flight.inherited_lock = Some(owner);
        effects.tell(Note::Acquire { owner, locks: flight.entry.locks() });
        self.flight = Some(flight);
        effects
    }

    /// An entry is committed on every replica.
    pub(super) fn removed(&mut self, batch: &Batch) -> Effects {
        match batch {
            Batch::Remove(voter) => self.leaving.done(voter, &OperatorAnswer::Removed),
            Batch::Operations { .. } | Batch::Abort { .. } | Batch::View(_) | Batch::Courses(_) => Effects::none(),
        }
    }

    pub(super) fn on_members(&mut self, now: Now, members: Members) -> Effects {
        self.leaving.members = members;
        self.see_off(now)
    }

    /// R-26, of this node itself.
    fn on_drain(&mut self, now: Now, request: RequestId, on: bool) -> Effects {
        let mut effects = Effects::none();
        let me = self.me.clone();
        let refusal = match &self.view {
            _ if !on => None,
            _ if me.voter.node().is_none() => Some(OperatorRefusal::HoldsNothing { voter: me.voter.clone() }),
            Some(view) if view.lists(&me) => self.spares(view, &me.voter),
            Some(_) | None => None,
        };
        if let Some(refusal) = refusal {
            effects.answer(request, Answer::Operator(OperatorAnswer::Refused(refusal)));
            return effects;
        }
        self.leaving.draining = on;
        effects.announce(if on { "drained: leaves the view, and stays out" } else { "not drained any more" });
        effects.tell(Note::Draining { on });
        let answer = if on { OperatorAnswer::Draining } else { OperatorAnswer::DrainEnded };
        effects.answer(request, Answer::Operator(answer));
        effects.append(self.see_off(now));
        effects
    }

    /// R-26, of another replica.
    pub(super) fn on_let_me_go(&mut self, now: Now, from: &Peer, view: ViewNumber) -> Effects {
        if self.phase == Phase::Serving && self.view.as_ref().is_some_and(|known| !known.lists(from)) {
            return self.tell_if_removed(from);
        }
        let known = self.view.as_ref().filter(|known| known.number == view && known.lists_replica(from));
        match from.voter.node().filter(|_| known.is_some() && self.is_leading()) {
            Some(id) if self.leaving.drained.insert(id) => self.see_off(now),
            Some(_) | None => Effects::none(), // It is seen off already, or waits until it can be spared.
        }
    }

    /// R-25, of one that is drained and out of the view: it does not ask to join, and would never hear it.
    fn tell_if_removed(&self, from: &Peer) -> Effects {
        let mut effects = Effects::none();
        if self.leaving.members.is_removed(from) {
            effects.send(&from.address, PeerMessage::Removed { incarnation: from.incarnation });
        }
        effects
    }

    /// Has the next view decided without those who are to leave, as far as they can be spared; this node itself goes last.
    pub(super) fn see_off(&mut self, now: Now) -> Effects {
        let hands_over = matches!(self.phase, Phase::HandingOver { .. });
        self.leaving.again_at = Some(now.elapsed.plus(self.timing.election_retry_ms)).filter(|_| hands_over);
        let Some(view) = self.view.clone().filter(|_| self.phase == Phase::Serving) else { return Effects::none() };
        let mut spare = view.replicas.len().saturating_sub(self.copies_min());
        let mut reasons = Vec::new();
        for peer in view.others(&self.me.voter) {
            let is_replica = peer.voter.node().is_some();
            let Some(why) = self.leaver(&peer).filter(|_| !is_replica || spare > 0) else { continue };
            spare -= usize::from(is_replica);
            reasons.push(Reason::Left { voter: peer.voter, why });
        }
        let own = self.leaver(&self.me).filter(|_| spare > 0);
        if reasons.is_empty() && own.is_none() {
            return Effects::none();
        }
        self.leaving.again_at = Some(now.elapsed.plus(self.timing.election_retry_ms));
        match own.filter(|_| reasons.is_empty()) {
            Some(why) => self.leave(now, why),
            None => self.ask_next_view(now, reasons),
        }
    }

    /// Once the campaign is over, or has come to nothing.
    pub(super) fn see_off_again(&mut self, now: Now) -> Effects {
        if self.leaving.again_at.is_some_and(|at| at <= now.elapsed) { self.see_off(now) } else { Effects::none() }
    }
}
