//! What a campaign wants of the next view, and the proposal that follows.

use crate::ids::{NodeId, Peer, Voter, WitnessName};
use crate::view::{CAUSE_BYTES_MAX, Seat, View};
use std::collections::{BTreeMap, BTreeSet};

/// Wishes for the next view. Those of a primary add up while it campaigns.
#[derive(Debug, Default)]
pub(super) struct Goals {
    /// They are a primary's: nobody's leave is needed to campaign.
    pub as_primary: bool,
    /// Left out even if they promise.
    pub offline: BTreeSet<Voter>,
    replica: Option<Peer>,
    witnesses: BTreeMap<WitnessName, Peer>,
    primary: Option<NodeId>,
    /// This node stops: it leaves the view with its last act.
    leaves: bool,
    reasons: Vec<String>,
}

impl Goals {
    /// this node as primary.
    pub fn stand(&mut self, reason: String) {
        *self = Self { reasons: vec![reason], ..Self::default() };
    }

    fn as_primary(&mut self, reason: String) {
        if !self.as_primary {
            *self = Self { as_primary: true, ..Self::default() };
        }
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    ///
    pub fn set_offline(&mut self, voters: Vec<Voter>, reason: String) {
        self.as_primary(reason);
        self.offline.extend(voters);
    }

    ///
    pub fn add_replica(&mut self, peer: Peer) {
        self.as_primary(format!("{} joined", peer.voter));
        self.replica = Some(peer);
    }

    /// The replica that was to be added, if one was.
    pub fn into_replica(self) -> Option<Peer> {
        self.replica
    }

    /// only where there is room; whether it is wanted now and was not before.
    pub fn add_witness(&mut self, view: &View, peer: Peer) -> bool {
        let Voter::Witness(name) = &peer.voter else { return false };
        let room = view.witnesses.len() + self.witnesses.len() + 1 < view.replicas.len();
        if !room || view.witnesses.contains_key(name) || self.witnesses.contains_key(name) {
            return false;
        }
        self.as_primary(format!("{} joined", peer.voter));
        self.witnesses.insert(name.clone(), peer);
        true
    }

    ///
    pub fn hand_over(&mut self, to: NodeId, leaves: bool) {
        self.as_primary(format!("handed over to node {to}"));
        self.primary = Some(to);
        self.leaves = leaves;
    }

    /// Who is to hear of the view besides its voters.
    pub fn newcomers(&self) -> impl Iterator<Item = Peer> + '_ {
        self.replica.iter().chain(self.witnesses.values()).cloned()
    }

    /// The next view by these wishes: who promised, and is wanted. None when the node that was to lead did not promise.
    pub fn proposal(&self, view: &View, me: &Peer, promised: &BTreeSet<Voter>) -> Option<View> {
        let stays = |voter: &Voter| promised.contains(voter) && !self.offline.contains(voter);
        let seat = |peer: &Peer| Seat { incarnation: peer.incarnation, address: peer.address.clone() };
        let mut replicas: BTreeMap<NodeId, Seat> = view.replicas.clone();
        replicas.retain(|id, _| match Voter::Replica(*id) {
            voter if voter == me.voter => !self.leaves,
            voter => stays(&voter),
        });
        let mut witnesses: BTreeMap<WitnessName, Seat> = view.witnesses.clone();
        witnesses.retain(|name, _| stays(&Voter::Witness(name.clone())));
        let own = me.voter.node()?;
        let primary = self.primary.unwrap_or(own);
        if !replicas.contains_key(&primary) {
            return None;
        }
        if let Some((peer, id)) = self.replica.as_ref().and_then(|peer| Some((peer, peer.voter.node()?))) {
            replicas.entry(id).or_insert_with(|| seat(peer));
        }
        for (name, peer) in &self.witnesses {
            witnesses.entry(name.clone()).or_insert_with(|| seat(peer));
        }
        while witnesses.len() >= replicas.len() {
            let spare = witnesses.keys().rev().find(|name| !view.witnesses.contains_key(*name));
            let spare = spare.or_else(|| witnesses.keys().next_back()).cloned()?;
            witnesses.remove(&spare);
        }
        let number = view.number.next();
        Some(View { cluster: view.cluster, number, primary, replicas, witnesses, cause: self.cause(view, promised) })
    }

    fn cause(&self, view: &View, promised: &BTreeSet<Voter>) -> String {
        let silent: Vec<String> = view
            .voters()
            .filter(|peer| !promised.contains(&peer.voter) && !self.offline.contains(&peer.voter))
            .map(|peer| peer.voter.to_string())
            .collect();
        let mut cause = self.reasons.join("; ");
        if !silent.is_empty() {
            cause = format!("{cause}; no answer from {}", silent.join(", "));
        }
        let end = (0..=CAUSE_BYTES_MAX.min(cause.len())).rev().find(|at| cause.is_char_boundary(*at)).unwrap_or(0);
        cause.truncate(end);
        cause
    }

    /// A view was decided: whether something is left to do in it. A join counts only in the view of its lock, a
    /// hand-over is the coordinator's to repeat, and only a primary's wishes go on.
    pub fn carry_over(&mut self, view: &View, me: &Peer) -> bool {
        if !self.as_primary || !view.is_primary(me) {
            *self = Self::default();
            return false;
        }
        self.replica = None;
        self.primary = None;
        self.leaves = false;
        self.witnesses.clear(); // They ask again.
        self.offline.retain(|voter| view.seat(voter).is_some());
        if self.offline.is_empty() {
            *self = Self::default();
            return false;
        }
        true
    }
}
