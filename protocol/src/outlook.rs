//! What would happen next: how many more nodes may fail, and whom a cluster that stands still waits for.
//!
//! Found by trying: every set of nodes that could fail is taken away, and what is left is asked for a quorum (section 3). One
//! failure at a time is followed by a view change, as the survivors would decide it. For people only: nothing follows from it.
//!
//! Not here: who answers now (the gateway asks), and whether anybody leads.

use crate::ids::{NodeId, Voter};
use crate::view::View;
use std::collections::BTreeSet;

/// More failures than these are not tried: the sets are many, and the answer is good enough.
pub const FAILURES_MAX: usize = 3;

/// With more voters than these only single failures are tried, and one way out is told of.
const VOTERS_MAX: usize = 16;

/// The most ways out that are told of.
const WAYS_MAX: usize = 3;

/// What would happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Whether those who answer can decide a next view, and hold enough copies for writes.
    pub can_serve: bool,
    /// So many data nodes may fail at one moment, whichever they are.
    pub at_once: usize,
    /// So many data nodes may fail one after the other, whichever they are, with a view change after each.
    pub one_by_one: usize,
    /// Voters each of whose failure alone would end service.
    pub needed: BTreeSet<Voter>,
    /// When it cannot serve: the smallest sets of those who do not answer that would be enough.
    pub waits_for: Vec<BTreeSet<Voter>>,
}

impl Outlook {
    /// By the last view, who of its voters answers, and `replication.min_replicas`.
    #[must_use]
    pub fn new(view: &View, answers: &BTreeSet<Voter>, copies_min: u32) -> Self {
        let copies_min = usize::try_from(copies_min).unwrap_or(usize::MAX).max(1);
        let all: BTreeSet<Voter> = view.voters().map(|peer| peer.voter).collect();
        let alive: BTreeSet<Voter> = answers.intersection(&all).cloned().collect();
        let can_serve = serves(view, &alive, copies_min);
        if !can_serve {
            let dead: Vec<Voter> = all.difference(&alive).cloned().collect();
            let waits_for = ways_out(view, &alive, &dead, copies_min);
            return Self { can_serve, at_once: 0, one_by_one: 0, needed: BTreeSet::new(), waits_for };
        }
        let without = |gone: &[Voter]| alive.iter().filter(|voter| !gone.contains(voter)).cloned().collect();
        let fails = |gone: &[Voter]| !serves(view, &without(gone), copies_min);
        let tries_max = if all.len() > VOTERS_MAX { 1 } else { FAILURES_MAX };
        let data: Vec<Voter> = alive.iter().filter(|voter| voter.node().is_some()).cloned().collect();
        let holds = |count: &usize| subsets(&data, *count).iter().all(|gone| !fails(gone));
        let at_once = (1..=tries_max.min(data.len())).take_while(holds).last().unwrap_or(0);
        let one_by_one = one_by_one(view, &alive, copies_min, tries_max);
        let needed = alive.iter().filter(|voter| fails(std::slice::from_ref(voter))).cloned().collect();
        Self { can_serve, at_once, one_by_one, needed, waits_for: Vec::new() }
    }

    /// In a sentence or two.
    #[must_use]
    pub fn text(&self) -> String {
        if !self.can_serve {
            let ways: Vec<String> = self.waits_for.iter().map(|way| join(way.iter().map(called), " and ")).collect();
            return match ways.is_empty() {
                true => "cannot form a quorum, whoever comes back".to_owned(),
                false => format!("cannot form a quorum: waiting for {}", join(ways.into_iter(), ", or for ")),
            };
        }
        let data = self.needed.iter().filter(|voter| voter.node().is_some());
        let may_fail = match (self.at_once, self.one_by_one) {
            (0, _) => format!("no more data node may fail: {} is needed", join(data.map(called), " or ")),
            (1, 1) => "any one data node may fail".to_owned(),
            (1, more) => format!("any one data node may fail; {}, one after the other", number(more)),
            (count, _) if count >= FAILURES_MAX => {
                format!("any {} data nodes may fail at once, or more", number(count))
            }
            (count, _) => format!("any {} data nodes may fail at once", number(count)),
        };
        let gateways: Vec<_> = self.needed.iter().filter(|voter| voter.node().is_none()).map(called).collect();
        match gateways.is_empty() {
            true => may_fail,
            false => format!("{may_fail}; without {} there is no quorum", join(gateways.into_iter(), " or ")),
        }
    }
}

/// Whether these could decide the next view, and hold enough copies in it.
fn serves(view: &View, alive: &BTreeSet<Voter>, copies_min: usize) -> bool {
    view.is_quorum(alive) && alive.iter().filter(|voter| voter.node().is_some()).count() >= copies_min
}

/// The smallest sets of the dead with which the living could serve; of very many dead, one of these sets.
fn ways_out(view: &View, alive: &BTreeSet<Voter>, dead: &[Voter], copies_min: usize) -> Vec<BTreeSet<Voter>> {
    let enough = |back: &[Voter]| serves(view, &alive.iter().chain(back).cloned().collect(), copies_min);
    // All votes are alike but for a tie, which is the primary's, and only data nodes are copies: who helps most comes first.
    let mut best = dead.to_vec();
    best.sort_by_key(|voter| (voter.node() != Some(view.primary), voter.node().is_none()));
    while best.split_last().is_some_and(|(_, fewer)| enough(fewer)) {
        best.pop();
    }
    let ways = if dead.len() > VOTERS_MAX { vec![best] } else { subsets(dead, best.len()) };
    ways.into_iter().filter(|way| enough(way)).take(WAYS_MAX).map(|way| way.into_iter().collect()).collect()
}

/// The worst order counts: after each failure the survivors change the view.
fn one_by_one(view: &View, alive: &BTreeSet<Voter>, copies_min: usize, depth: usize) -> usize {
    if depth == 0 {
        return 0;
    }
    let Some(view) = next_view(view, alive) else { return 0 };
    let alive: BTreeSet<Voter> = view.voters().map(|peer| peer.voter).collect();
    let after = |gone: &Voter| {
        let rest: BTreeSet<Voter> = alive.iter().filter(|voter| *voter != gone).cloned().collect();
        serves(&view, &rest, copies_min).then(|| 1 + one_by_one(&view, &rest, copies_min, depth - 1))
    };
    alive.iter().filter(|voter| voter.node().is_some()).map(|gone| after(gone).unwrap_or(0)).min().unwrap_or(0)
}

/// As the survivors would decide it: the primary stays, or the highest id leads; section 3 says how many witnesses there are.
fn next_view(view: &View, alive: &BTreeSet<Voter>) -> Option<View> {
    let mut next = view.clone();
    next.replicas.retain(|id, _| alive.contains(&Voter::Replica(*id)));
    next.witnesses.retain(|name, _| alive.contains(&Voter::Witness(name.clone())));
    let highest: NodeId = next.replicas.keys().next_back().copied()?;
    if !next.replicas.contains_key(&next.primary) {
        next.primary = highest;
    }
    while next.witnesses.len() >= next.replicas.len() {
        next.witnesses.pop_last();
    }
    Some(next)
}

/// All sets of so many of them.
fn subsets(of: &[Voter], count: usize) -> Vec<Vec<Voter>> {
    match (count, of) {
        (0, _) => vec![Vec::new()],
        (_, []) => Vec::new(),
        (_, [first, rest @ ..]) => {
            let with = subsets(rest, count - 1).into_iter().map(|mut set| {
                set.insert(0, first.clone());
                set
            });
            with.chain(subsets(rest, count)).collect()
        }
    }
}

fn called(voter: &Voter) -> String {
    match voter {
        Voter::Replica(id) => format!("node {id}"),
        Voter::Witness(name) => name.to_string(),
    }
}

fn join(parts: impl Iterator<Item = String>, between: &str) -> String {
    parts.collect::<Vec<_>>().join(between)
}

fn number(count: usize) -> String {
    match count {
        2 => "two".to_owned(),
        3 => "three".to_owned(),
        more => more.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, view, witness};

    /// Of view 1 with primary 3: replicas, witnesses, `min_replicas`, who answers, and what is told.
    type Row = (&'static [u32], u32, u32, &'static [u32], &'static [u32], &'static str);

    #[test]
    fn section_3_the_outlook_is_what_the_quorum_rule_says() {
        let table: &[Row] = &[
            (&[1, 2, 3], 2, 1, &[1, 2, 3], &[1, 2], "any two data nodes may fail at once"),
            (&[1, 2, 3], 1, 1, &[1, 2, 3], &[1], "any one data node may fail; two, one after the other"),
            (&[1, 2, 3], 0, 1, &[1, 2, 3], &[], "any one data node may fail"),
            (&[1, 3], 1, 1, &[1, 3], &[1], "any one data node may fail"),
            (&[1, 3], 0, 1, &[1, 3], &[], "no more data node may fail: node 3 is needed"),
            (&[1, 3], 1, 1, &[1, 3], &[], "no more data node may fail: node 1 or node 3 is needed"),
            (&[3], 0, 1, &[3], &[], "no more data node may fail: node 3 is needed"),
            (&[1, 2, 3], 2, 2, &[1, 2, 3], &[1, 2], "any one data node may fail"),
            (&[1, 2, 3], 0, 1, &[1], &[], "cannot form a quorum: waiting for node 2, or for node 3"),
            (
                &[1, 2, 3],
                2,
                1,
                &[1],
                &[],
                "cannot form a quorum: waiting for node 2 and node 3, or for node 2 and w1, or for node 2 and w2",
            ),
            (&[1, 3], 0, 1, &[1], &[], "cannot form a quorum: waiting for node 3"),
            (&[1, 3], 1, 1, &[], &[1], "cannot form a quorum: waiting for node 1, or for node 3"),
            (&[1, 2, 3, 4, 5], 4, 1, &[1, 2, 3, 4, 5], &[1, 2, 3, 4], "any three data nodes may fail at once, or more"),
            (&[1, 2, 3, 4, 5], 0, 1, &[1, 2, 3, 4, 5], &[], "any two data nodes may fail at once"),
            (
                &[1, 2, 3],
                2,
                1,
                &[3],
                &[1, 2],
                "no more data node may fail: node 3 is needed; without w1 or w2 there is no quorum",
            ),
        ];
        for (replicas, witnesses, copies_min, nodes, gateways, told) in table {
            let view = view(1, 3, replicas, *witnesses);
            let answers = nodes.iter().map(|n| node(*n).voter).chain(gateways.iter().map(|n| witness(*n).voter));
            let outlook = Outlook::new(&view, &answers.collect(), *copies_min);
            assert_eq!(outlook.text(), *told, "{replicas:?} and {witnesses}, {nodes:?} and {gateways:?} answer");
        }
    }

    #[test]
    fn section_3_a_gateway_that_is_needed_is_named() {
        let view = view(1, 3, &[1, 2, 3], 2);
        let outlook = |answers: &[Voter]| Outlook::new(&view, &answers.iter().cloned().collect(), 1);
        let few = outlook(&[node(1).voter, node(2).voter, witness(1).voter]);
        assert!(few.can_serve && few.needed.len() == 3, "three of five, without the primary: {few:?}");
        assert!(few.text().ends_with("without w1 there is no quorum"), "{}", few.text());
        assert!(!outlook(&[witness(1).voter, witness(2).voter, node(9).voter]).can_serve, "no copy, and a stranger");
    }

    #[test]
    fn section_3_no_more_failures_are_tried_than_it_says() {
        let view = view(1, 5, &[1, 2, 3, 4, 5], 4);
        let outlook = Outlook::new(&view, &view.voters().map(|peer| peer.voter).collect(), 1);
        assert_eq!((outlook.at_once, outlook.one_by_one), (FAILURES_MAX, FAILURES_MAX), "four would be survived too");
    }

    #[test]
    fn section_3_of_as_many_missing_as_are_tried_every_set_is() {
        let replicas: Vec<u32> = (1..=34).collect();
        let missing = u32::try_from(VOTERS_MAX).expect("few");
        let answers = (missing + 1..=34).map(|n| node(n).voter).collect();
        let outlook = Outlook::new(&view(1, 34, &replicas, 0), &answers, 20);
        assert!(!outlook.can_serve, "18 copies of 20");
        assert_eq!(outlook.waits_for.len(), WAYS_MAX);
        assert!(outlook.waits_for.iter().all(|way| way.len() == 2), "{outlook:?}");
    }

    #[test]
    fn section_12_of_very_many_who_are_missing_it_says_how_few_would_be_enough() {
        let view = view(1, 3, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 9);
        let alone = [node(10).voter].into();
        let waits_for = |copies_min| Outlook::new(&view, &alone, copies_min).waits_for;
        let [way] = &waits_for(1)[..] else { panic!("one way is told") };
        assert!(way.len() == 9 && way.contains(&node(3).voter), "ten of 19 are a quorum: {way:?}");
        let [way] = &waits_for(10)[..] else { panic!("one way is told") };
        assert!(way.iter().all(|voter| voter.node().is_some()) && way.len() == 9, "all copies: {way:?}");
        assert_eq!(waits_for(11), Vec::<BTreeSet<Voter>>::new(), "so many were never listed");
    }
}
