//! A view: the cluster's agreed configuration (section 2), and what is a quorum of it (section 3).
//!
//! Not here: how the next one is decided (`campaign.rs`), and who remembers the last one (`replica.rs`).
//!
//! Source: Lamport, Malkhi, Zhou, "Vertical Paxos and Primary-Backup Replication", 2009: each configuration's voters
//! decide the next.

use crate::change::Cause;
use crate::ids::{Address, ClusterId, Incarnation, NodeId, Peer, ViewNumber, Voter, WitnessName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A voter's place in a view: which life of its data directory, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seat {
    /// The data directory that votes.
    pub incarnation: Incarnation,
    /// The peer port.
    pub address: Address,
}

/// The cluster's agreed configuration. Two views of one number are one view; a node that meets two stops.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct View {
    /// The cluster that it belongs to, so that a view alone tells a newcomer where it is.
    pub cluster: ClusterId,
    /// Counts decided views, from 1.
    pub number: ViewNumber,
    /// Orders all writes in this view; one of `replicas`.
    pub primary: NodeId,
    /// All who hold every committed entry.
    pub replicas: BTreeMap<NodeId, Seat>,
    /// Voters without data; at most `replicas.len() - 1`.
    pub witnesses: BTreeMap<WitnessName, Seat>,
    /// Why it was proposed, for people: nothing follows from it.
    pub cause: Arc<Cause>,
}

impl View {
    /// Whether what came from the network can be a view at all.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        self.number.0 > 0
            && self.replicas.contains_key(&self.primary)
            && self.witnesses.len() < self.replicas.len()
            && self.cause.is_well_formed()
    }

    /// All voters, replicas first, by id and name.
    pub fn voters(&self) -> impl Iterator<Item = Peer> + '_ {
        let peer = |voter, seat: &Seat| Peer { voter, incarnation: seat.incarnation, address: seat.address.clone() };
        let replicas = self.replicas.iter().map(move |(id, seat)| peer(Voter::Replica(*id), seat));
        replicas.chain(self.witnesses.iter().map(move |(name, seat)| peer(Voter::Witness(name.clone()), seat)))
    }

    /// All voters but this one.
    pub fn others(&self, me: &Voter) -> impl Iterator<Item = Peer> + '_ {
        let me = me.clone();
        self.voters().filter(move |peer| peer.voter != me)
    }

    /// The replicas, by id, as peers.
    pub fn replica_peers(&self) -> impl Iterator<Item = Peer> + '_ {
        self.voters().filter(|peer| peer.voter.node().is_some())
    }

    /// The seat of a voter, if it has one.
    #[must_use]
    pub fn seat(&self, voter: &Voter) -> Option<&Seat> {
        match voter {
            Voter::Replica(id) => self.replicas.get(id),
            Voter::Witness(name) => self.witnesses.get(name),
        }
    }

    /// Whether this very peer votes here: a wiped disk under an old name does not.
    #[must_use]
    pub fn lists(&self, peer: &Peer) -> bool {
        self.seat(&peer.voter).is_some_and(|seat| seat.incarnation == peer.incarnation)
    }

    /// Whether this very peer is a replica here.
    #[must_use]
    pub fn lists_replica(&self, peer: &Peer) -> bool {
        peer.voter.node().is_some() && self.lists(peer)
    }

    /// Whether this very peer is the primary of this view.
    #[must_use]
    pub fn is_primary(&self, peer: &Peer) -> bool {
        peer.voter == Voter::Replica(self.primary) && self.lists(peer)
    }

    /// Where the primary is. A view that names a primary without a seat is never adopted (`is_well_formed`).
    #[must_use]
    pub fn primary_peer(&self) -> Option<Peer> {
        self.replica_peers().find(|peer| peer.voter == Voter::Replica(self.primary))
    }

    /// Who has this address.
    #[must_use]
    pub fn voter_at(&self, address: &Address) -> Option<Voter> {
        self.voters().find(|peer| peer.address == *address).map(|peer| peer.voter)
    }

    /// Section 3: more than half of the votes, or exactly half with the primary among them. Any two such sets meet.
    #[must_use]
    pub fn is_quorum(&self, votes: &BTreeSet<Voter>) -> bool {
        let all = self.replicas.len() + self.witnesses.len();
        let yes = votes.iter().filter(|voter| self.seat(voter).is_some()).count();
        yes * 2 > all || (yes * 2 == all && votes.contains(&Voter::Replica(self.primary)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{LIST_MAX, Reason};
    use crate::ids::Timestamp;

    fn view(replicas: u32, witnesses: u32, primary: u32) -> View {
        let seat = |n: u32| Seat { incarnation: Incarnation(n.into()), address: Address::new(&format!("n{n}")) };
        View {
            cluster: ClusterId(1),
            number: ViewNumber(1),
            primary: NodeId(primary),
            replicas: (1..=replicas).map(|n| (NodeId(n), seat(n))).collect(),
            witnesses: (1..=witnesses).map(|n| (WitnessName::new(&format!("w{n}")), seat(100 + n))).collect(),
            cause: Cause::new(Timestamp(0), NodeId(primary), Vec::new()).into(),
        }
    }

    fn subsets(view: &View) -> Vec<BTreeSet<Voter>> {
        let voters: Vec<Voter> = view.voters().map(|peer| peer.voter).collect();
        (0..1_u32 << voters.len())
            .map(|mask| voters.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, v)| v.clone()).collect())
            .collect()
    }

    #[test]
    fn section_3_any_two_quorums_meet() {
        for replicas in 1..=4 {
            for witnesses in 0..replicas {
                for primary in 1..=replicas {
                    let view = view(replicas, witnesses, primary);
                    let quorums: Vec<_> = subsets(&view).into_iter().filter(|set| view.is_quorum(set)).collect();
                    assert!(!quorums.is_empty());
                    for a in &quorums {
                        assert!(quorums.iter().all(|b| !a.is_disjoint(b)), "{a:?} has a quorum without it");
                    }
                }
            }
        }
    }

    #[test]
    fn section_3_data_nodes_alone_are_a_quorum() {
        for replicas in 1..=5 {
            let view = view(replicas, replicas - 1, 1);
            assert!(view.is_quorum(&view.replica_peers().map(|peer| peer.voter).collect()));
        }
    }

    #[test]
    fn section_1_a_wiped_disk_is_another_voter() {
        let view = view(3, 2, 3);
        let mut peer = view.primary_peer().expect("listed");
        assert!(view.is_primary(&peer) && view.lists_replica(&peer));
        peer.incarnation = peer.incarnation.next();
        assert!(!view.is_primary(&peer) && !view.lists(&peer));
    }

    #[test]
    fn section_11_what_cannot_be_a_view_is_not_taken_for_one() {
        let good = view(2, 1, 1);
        assert!(good.is_well_formed());
        let unborn = View { number: ViewNumber(0), ..good.clone() };
        let headless = View { primary: NodeId(3), ..good.clone() };
        let toothless = View { replicas: good.replicas.clone().into_iter().take(1).collect(), ..good.clone() };
        let cause =
            Cause { reasons: vec![Reason::NodeJoined { node: NodeId(1) }; LIST_MAX + 1], ..(*good.cause).clone() };
        let endless = View { cause: cause.into(), ..good };
        for malformed in [unborn, headless, toothless, endless] {
            assert!(!malformed.is_well_formed(), "{malformed:?}");
        }
    }
}
