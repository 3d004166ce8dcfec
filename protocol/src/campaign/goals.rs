//! What a campaign wants of the next view, and the proposal that follows.

use crate::change::{Cause, LIST_MAX, Leave, Reason, Sign, Suspicion};
use crate::ids::{Millis, NodeId, Now, Peer, Timestamp, Voter, WitnessName};
use crate::view::{Seat, View};
use std::collections::{BTreeMap, BTreeSet};

/// Wishes for the next view. Those of a primary add up while it campaigns.
#[derive(Clone, Debug, Default)]
pub(super) struct Goals {
    /// They are a primary's: nobody's leave is needed to campaign.
    pub as_primary: bool,
    /// Left out even if they promise.
    pub offline: BTreeSet<Voter>,
    replica: Option<Peer>,
    witnesses: BTreeMap<WitnessName, Peer>,
    primary: Option<NodeId>,
    /// This node leaves the view with its last act as primary.
    leaves: bool,
    reasons: Vec<Reason>,
    /// What this node noticed of the lost primary itself.
    sign: Option<Sign>,
    since: Option<Since>,
}

/// Since when the next view is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Since {
    /// When that was noticed, by both clocks.
    pub noticed: Now,
    /// When the lost primary was last known to serve; when nobody is lost, as `noticed`.
    pub served_at: Millis,
    /// Since when writes stand still for it, if they do already.
    pub stalled: Option<Millis>,
}

impl Since {
    fn at(now: Now) -> Self {
        Self { noticed: now, served_at: now.elapsed, stalled: None }
    }
}

impl Goals {
    /// this node as primary.
    pub fn stand(&mut self, now: Now, view: &View, me: &Peer, suspicion: Option<Suspicion>) {
        let since = suspicion.map_or(Since::at(now), |suspicion| {
            let ago_us = now.elapsed.since(suspicion.noticed_at).saturating_mul(1_000);
            let wall = Timestamp(now.wall.0.saturating_sub(ago_us));
            let noticed = Now { elapsed: suspicion.noticed_at, wall };
            Since { noticed, served_at: suspicion.served_at, stalled: Some(suspicion.served_at) }
        });
        // What an operator made was never served; the first view that is tells of it (section 9).
        let made = |reason: &&Reason| matches!(reason, Reason::Recovered { made, .. } if *made == view.number);
        let recovered = view.cause.reasons.iter().find(made).cloned();
        let reason = recovered.unwrap_or(Reason::PrimaryLost { primary: view.primary });
        // A primary that stands led before it restarted, or stepped down.
        let sign = if view.is_primary(me) { Some(Sign::Restarted) } else { suspicion.map(|suspicion| suspicion.sign) };
        *self = Self { reasons: vec![reason], sign, since: Some(since), ..Self::default() };
    }

    fn as_primary(&mut self, now: Now, reason: Reason) -> &mut Since {
        if !self.as_primary {
            *self = Self { as_primary: true, ..Self::default() };
        }
        let is_known = self.reasons.iter().any(|known| is_about_same(known, &reason));
        if !is_known && self.reasons.len() < LIST_MAX {
            self.reasons.push(reason);
        }
        self.since.get_or_insert(Since::at(now))
    }

    /// Since when the next view is wanted.
    pub fn since(&self) -> Option<Since> {
        self.since
    }

    ///
    pub fn set_offline(&mut self, now: Now, reasons: Vec<Reason>) {
        for reason in reasons {
            let voter = match &reason {
                Reason::SetOffline { voter, .. } | Reason::Left { voter, .. } => Some(voter.clone()),
                _ => None, // Nobody is left out; what is unfinished is brought to its end.
            };
            let _ = self.as_primary(now, reason);
            self.offline.extend(voter);
        }
    }

    ///
    pub fn add_replica(&mut self, now: Now, peer: Peer, locked_at: Millis) {
        let Voter::Replica(node) = peer.voter else { return };
        let since = self.as_primary(now, Reason::NodeJoined { node });
        since.stalled = Some(since.stalled.map_or(locked_at, |known| known.min(locked_at)));
        self.replica = Some(peer);
    }

    /// The replica that was to be added, if one was.
    pub fn into_replica(self) -> Option<Peer> {
        self.replica
    }

    /// only where there is room; whether it is wanted now and was not before.
    pub fn add_witness(&mut self, now: Now, view: &View, peer: Peer) -> bool {
        let Voter::Witness(name) = &peer.voter else { return false };
        let room = view.witnesses.len() + self.witnesses.len() + 1 < view.replicas.len();
        if !room || view.witnesses.contains_key(name) || self.witnesses.contains_key(name) {
            return false;
        }
        let _ = self.as_primary(now, Reason::WitnessJoined { name: name.clone() });
        self.witnesses.insert(name.clone(), peer);
        true
    }

    /// Nothing is wanted but witnesses: that hurries nobody, and whoever is slow to promise is not to be lost for it.
    pub fn can_wait(&self) -> bool {
        self.reasons.iter().all(|reason| matches!(reason, Reason::WitnessJoined { .. }))
    }

    ///
    pub fn hand_over(&mut self, now: Now, (from, to): (NodeId, NodeId), leaves: Option<Leave>, stopped_at: Millis) {
        let since = self.as_primary(now, Reason::HandedOver { from, to, leaves });
        since.stalled = Some(since.stalled.map_or(stopped_at, |known| known.min(stopped_at)));
        self.primary = Some(to);
        self.leaves = leaves.is_some();
    }

    /// Who is to hear of the view besides its voters.
    pub fn newcomers(&self) -> impl Iterator<Item = Peer> + '_ {
        self.replica.iter().chain(self.witnesses.values()).cloned()
    }

    /// The next view by these wishes: who promised, and is wanted. None when the node that was to lead did not promise.
    pub fn proposal(&self, view: &View, me: &Peer, promised: &BTreeSet<Voter>, cause: Cause) -> Option<View> {
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
        Some(View { cluster: view.cluster, number, primary, replicas, witnesses, cause: cause.into() })
    }

    /// Why, as it will be decided with the view: with what the voters saw of a lost primary.
    pub fn cause(&self, view: &View, me: &Peer, promised: &BTreeSet<Voter>, seen: &BTreeMap<Voter, Sign>) -> Cause {
        let at = self.since.map_or(Timestamp(0), |since| since.noticed.wall);
        let asked_by = me.voter.node().unwrap_or(view.primary);
        let mut cause = Cause::new(at, asked_by, self.reasons.clone());
        let is_lost = |voter: &Voter| {
            let lost = |reason: &Reason| matches!(reason, Reason::PrimaryLost { primary } if Voter::Replica(*primary) == *voter);
            self.reasons.iter().any(lost)
        };
        if is_lost(&Voter::Replica(view.primary)) {
            let mut seen = seen.clone();
            seen.extend(self.sign.map(|sign| (me.voter.clone(), sign)));
            cause.seen = seen.into_iter().take(LIST_MAX).collect();
        }
        let is_told = |voter: &Voter| promised.contains(voter) || self.offline.contains(voter) || is_lost(voter);
        let unheard = view.voters().map(|peer| peer.voter).filter(|voter| !is_told(voter));
        cause.unheard = unheard.take(LIST_MAX).collect();
        cause
    }

    /// A view was decided: whether something is left to do in it. A join counts only in the view of its lock, a
    /// hand-over is the coordinator's to repeat, and only a primary's wishes go on.
    pub fn carry_over(&mut self, now: Now, view: &View, me: &Peer) -> bool {
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
        let offline = &self.offline;
        self.reasons.retain(|reason| match reason {
            Reason::SetOffline { voter, .. } | Reason::Left { voter, .. } => offline.contains(voter),
            _ => false, // What was reached, or is somebody else's to repeat.
        });
        self.since = Some(Since::at(now));
        true
    }
}

/// Whether two reasons tell the same: a voter is set offline for one fault, the first.
fn is_about_same(known: &Reason, reason: &Reason) -> bool {
    match (known, reason) {
        (Reason::SetOffline { voter: known, .. }, Reason::SetOffline { voter, .. }) => known == voter,
        _ => known == reason,
    }
}
