//! Who was ever a voter of this cluster, and who was removed for good: replicated, like everything in the store.
//!
//! A voter becomes a member when a view that serves lists it. A removal is about a name and all disks that ever bore it; an
//! empty disk under that name is a new member, once a view lists it.
//!
//! Not here: where they lie (`store/members.rs`), and what follows from a removal (`coordinator/leaving.rs`).

use crate::ids::{Address, Peer, Voter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// One disk that voted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Whose disk it is, and where it was when a view last listed it.
    pub peer: Peer,
    /// It left for good: no view is to list it again.
    pub removed: bool,
}

/// Whose turn it is to be asked, of a set that may be another one each time: nobody who is in all of them is passed over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Option<Address>);

impl Turns {
    /// The one after whom it was last, in the order of addresses; none of none.
    pub fn next(&mut self, among: &BTreeSet<Address>) -> Option<Address> {
        let after = self.0.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next = among.range((after, Bound::Unbounded)).next().or_else(|| among.first());
        self.0 = next.cloned();
        self.0.clone()
    }
}

/// All of them, as the store holds them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members(Arc<Vec<Member>>);

impl Members {
    /// From the store.
    #[must_use]
    pub fn new(members: Vec<Member>) -> Self {
        Self(Arc::new(members))
    }

    /// Whether no view has served yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the store's order.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.iter()
    }

    /// Whether this very disk was removed.
    #[must_use]
    pub fn is_removed(&self, peer: &Peer) -> bool {
        let is_it = |known: &Peer| known.voter == peer.voter && known.incarnation == peer.incarnation;
        self.iter().any(|member| member.removed && is_it(&member.peer))
    }

    /// Where data nodes were that may still be there.
    pub fn data_addresses(&self) -> impl Iterator<Item = Address> + '_ {
        let data = self.iter().filter(|member| !member.removed && member.peer.voter.node().is_some());
        data.map(|member| member.peer.address.clone())
    }

    /// Whether any disk bore this name.
    #[must_use]
    pub fn knows(&self, voter: &Voter) -> bool {
        self.iter().any(|member| member.peer.voter == *voter)
    }

    /// Whether some disk bore this name, and all that did were removed.
    #[must_use]
    pub fn has_left(&self, voter: &Voter) -> bool {
        self.knows(voter) && self.iter().all(|member| member.removed || member.peer.voter != *voter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, witness};

    /// By their place in the list, one of three was never asked: the list was one shorter each second time (`lockstep sim --seed
    /// 396545`).
    #[test]
    fn r25_whoever_may_know_the_view_has_its_turn_though_another_is_left_out_now_and_then() {
        let all = |names: &[&str]| names.iter().map(|name| Address::new(name)).collect::<BTreeSet<_>>();
        let (three, two) = (all(&["node-1", "node-3", "node-4"]), all(&["node-1", "node-4"]));
        let mut turns = Turns::default();
        let asked: Vec<_> = [&three, &two, &three, &two].into_iter().filter_map(|some| turns.next(some)).collect();
        assert_eq!(asked, ["node-1", "node-4", "node-1", "node-4"].map(Address::new));
        let asked: Vec<_> = [&three, &three, &three].into_iter().filter_map(|some| turns.next(some)).collect();
        assert_eq!(asked, ["node-1", "node-3", "node-4"].map(Address::new));
        assert_eq!(turns.next(&BTreeSet::new()), None);
    }

    #[test]
    fn r25_who_was_removed_and_who_holds_no_data_is_asked_no_more() {
        let member = |peer: Peer, removed| Member { peer, removed };
        let all = vec![member(node(1), false), member(node(2), true), member(witness(1), false)];
        let members = Members::new(all);
        assert_eq!(members.data_addresses().collect::<Vec<_>>(), [node(1).address]);
        assert!(!members.is_empty() && Members::default().is_empty());
        let wiped = Peer { incarnation: node(2).incarnation.next(), ..node(2) };
        assert!(members.is_removed(&node(2)) && !members.is_removed(&node(1)) && !members.is_removed(&wiped));
        assert!(members.has_left(&node(2).voter) && !members.has_left(&node(1).voter));
        assert!(members.knows(&node(1).voter) && !members.knows(&node(9).voter) && !members.has_left(&node(9).voter));
    }
}
