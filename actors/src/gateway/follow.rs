//! Where the cluster is: the data nodes that a gateway knows, the last view that any told of, and who leads.
//!
//! Plain values, no waiting: what `actor.rs` hears goes in, whom to ask comes out. A view of another cluster than the first
//! one heard of is refused: a gateway with a wrong address in its settings must not mix two clusters.

use super::Leading;
use lockstep_protocol::ids::{Address, ClusterId, ViewNumber, Voter};
use lockstep_protocol::view::View;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The primary that serves, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub address: Address,
    /// In which view.
    pub view: ViewNumber,
}

/// What a gateway knows.
#[derive(Debug)]
pub struct Follow {
    nodes: BTreeSet<Address>,
    cluster: Option<ClusterId>,
    view: Option<Arc<View>>,
    target: Option<Target>,
}

impl Follow {
    /// Knows these data nodes, and nothing of them.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = Address>) -> Self {
        Self { nodes: nodes.into_iter().collect(), cluster: None, view: None, target: None }
    }

    /// All data nodes that it was told of or learnt, members of the view or not.
    #[must_use]
    pub fn nodes(&self) -> &BTreeSet<Address> {
        &self.nodes
    }

    /// The last view that it heard of.
    #[must_use]
    pub fn view(&self) -> Option<&Arc<View>> {
        self.view.as_ref()
    }

    /// The number of the last view that it heard of; 0 for none.
    #[must_use]
    pub fn view_number(&self) -> ViewNumber {
        self.view.as_ref().map_or(ViewNumber(0), |view| view.number)
    }

    /// Who leads.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// Data nodes, and the view's witnesses, with what the view says of them.
    #[must_use]
    pub fn everybody(&self) -> Vec<(Address, Option<Voter>)> {
        let witnesses = self.view.iter().flat_map(|view| view.voters()).filter(|peer| peer.voter.node().is_none());
        let all: BTreeSet<Address> = self.nodes.iter().cloned().chain(witnesses.map(|peer| peer.address)).collect();
        let voter_at = |address: &Address| self.view.as_ref().and_then(|view| view.voter_at(address));
        all.into_iter().map(|address| (address.clone(), voter_at(&address))).collect()
    }

    /// A node told of a view. A later one with another primary ends the trust in the old one.
    pub fn on_view(&mut self, view: &Arc<View>) {
        let is_ours = *self.cluster.get_or_insert(view.cluster) == view.cluster;
        if !is_ours || !view.is_well_formed() || view.number <= self.view_number() {
            return;
        }
        self.nodes.extend(view.replica_peers().map(|peer| peer.address));
        self.view = Some(view.clone());
        let primary = view.primary_peer().map(|peer| peer.address);
        self.target = self.target.take().filter(|target| Some(&target.address) == primary.as_ref());
    }

    /// A node said whether it leads. Of two that say so, the one of the later view does.
    pub fn on_leading(&mut self, address: &Address, leading: &Leading) {
        if leading.cluster.is_some() && self.cluster.is_some() && leading.cluster != self.cluster {
            return;
        }
        if let Some(view) = &leading.view {
            self.on_view(view);
        }
        let since = self.target.as_ref().map_or(ViewNumber(0), |target| target.view).max(self.view_number());
        match leading.serving.filter(|serving| *serving >= since) {
            Some(view) => self.target = Some(Target { address: address.clone(), view }),
            None => self.on_trouble_at(address),
        }
    }

    /// It did not answer as a primary does.
    pub fn on_trouble(&mut self, target: &Target) {
        self.target = self.target.take().filter(|current| current != target);
    }

    fn on_trouble_at(&mut self, address: &Address) {
        self.target = self.target.take().filter(|current| current.address != *address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::view;

    fn address(id: u32) -> Address {
        Address::new(&format!("127.0.0.1:{id}"))
    }

    fn serves(number: u64, primary: u32) -> Leading {
        Leading { cluster: Some(ClusterId(9)), serving: Some(ViewNumber(number)), view: Some(view(number, primary)) }
    }

    #[test]
    fn section_10_one_address_is_enough_to_learn_all() {
        let mut follow = Follow::new([address(1)]);
        follow.on_leading(&address(1), &Leading { serving: None, ..serves(4, 3) });
        assert_eq!((follow.nodes().len(), follow.target()), (3, None));
        follow.on_leading(&address(3), &Leading { view: None, ..serves(4, 3) });
        assert_eq!(follow.target(), Some(&Target { address: address(3), view: ViewNumber(4) }));
    }

    #[test]
    fn the_later_view_leads() {
        let mut follow = Follow::new([address(1)]);
        follow.on_leading(&address(2), &serves(5, 2));
        follow.on_leading(&address(3), &serves(4, 3));
        assert_eq!(follow.target().map(|target| target.view), Some(ViewNumber(5)));
        follow.on_view(&view(6, 1));
        assert_eq!(follow.target(), None, "another primary is named");
    }

    #[test]
    fn the_same_primary_in_a_later_view_is_kept() {
        let mut follow = Follow::new([]);
        follow.on_leading(&address(2), &serves(5, 2));
        follow.on_view(&view(6, 2));
        assert!(follow.target().is_some());
    }

    #[test]
    fn trouble_with_an_old_target_does_not_hurt_the_new_one() {
        let mut follow = Follow::new([]);
        follow.on_leading(&address(2), &serves(5, 2));
        let old = follow.target().cloned().expect("leads");
        follow.on_leading(&address(3), &serves(6, 3));
        follow.on_trouble(&old);
        assert_eq!(follow.target().map(|target| target.view), Some(ViewNumber(6)));
    }

    #[test]
    fn another_cluster_is_not_followed() {
        let mut follow = Follow::new([]);
        follow.on_leading(&address(2), &serves(5, 2));
        let mut other = (*view(9, 1)).clone();
        other.cluster = ClusterId(8);
        follow.on_leading(&address(1), &Leading { cluster: Some(ClusterId(8)), ..serves(9, 1) });
        follow.on_view(&Arc::new(other));
        assert_eq!(follow.view_number(), ViewNumber(5));
    }
}
