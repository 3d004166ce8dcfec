//! Whether replicas hold the same: what an operator's `verify` asks of each, and what follows from the answers (S5).
//!
//! - All are compared at one index: each keeps what it holds as it is once it has applied that entry ([`Target`]), and is then
//!   read whole ([`Scan`]). Under load the index lies ahead, by as much as was applied meanwhile; at rest it is the last.
//! - Equal chains mean equal history, so a difference is of one of two kinds: another history, or the same history and
//!   another store. Whoever differs from most is the one that differs; between halves the primary's is taken for the measure,
//!   since it is the one that clients see.
//! - Of another history the first entry that differs is looked for among the indexes that both logs hold ([`Bisect`]).
//!
//! Not here: reading (`storage/scan.rs`), and repair: nothing is changed.

use crate::ids::{Hash, Index, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether a node keeps what it holds as it is, at the index that it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FreezeAnswer {
    /// It does, until it is scanned or a minute is over. Entries that were not there in time are not waited for.
    Frozen {
        /// Names what was frozen; another freeze replaces it.
        ticket: u64,
        /// The last entry that was applied.
        index: Index,
    },
    /// It had applied more already.
    Passed {
        /// The last entry that was applied.
        index: Index,
    },
    /// It has no store that is whole: it joins, or votes only.
    NoStore,
}

/// What one node holds, read whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The last entry that was applied.
    pub index: Index,
    /// The chain there.
    pub hash: Hash,
    /// Over every pair of the store.
    pub digest: Hash,
    /// Pairs in the store.
    pub pairs: u64,
    /// Their size. Bytes.
    pub bytes: u64,
    /// The log begins here; every record from here on is intact and follows the one before it.
    pub log_first: Index,
    /// The log ends here; right before `log_first` when it is empty.
    pub log_end: Index,
}

/// What came of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScanAnswer {
    /// It was read to its end.
    Whole(Scan),
    /// It could not be: what was read back is not what was written, or the engine failed. Why, for people.
    Unreadable(String),
    /// Nothing is frozen under that ticket (any more).
    Gone,
}

/// What is known of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// All of it.
    Scanned(Scan),
    /// It cannot read what it holds. Why, for people.
    Unreadable(String),
    /// Nothing. Why, for people.
    NotAsked(String),
}

/// How a replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds what the others hold.
    Equal,
    /// Its chain is another one: it applied other entries.
    OtherHistory,
    /// Its chain is the others', and its store is not what they made of it.
    OtherStore,
    /// It cannot read what it holds. Why, for people.
    Unreadable(String),
    /// Nothing is known of it. Why, for people.
    NotCompared(String),
}

/// What follows for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The replica whose contents are the measure; none when nobody was scanned.
    pub measure: Option<NodeId>,
    /// How each stands.
    pub standings: BTreeMap<NodeId, Standing>,
}

impl Verdict {
    /// Whether all were compared, and are equal.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.measure.is_some() && self.standings.values().all(|standing| *standing == Standing::Equal)
    }
}

/// Compares what all hold.
#[must_use]
pub fn judge(held: &BTreeMap<NodeId, Held>, primary: Option<NodeId>) -> Verdict {
    let measure = measure(held, primary);
    let against = measure.and_then(|id| scan_of(held, id));
    let standings = held.iter().map(|(id, held)| (*id, standing(held, against))).collect();
    Verdict { measure, standings }
}

fn scan_of(held: &BTreeMap<NodeId, Held>, id: NodeId) -> Option<&Scan> {
    match held.get(&id)? {
        Held::Scanned(scan) => Some(scan),
        Held::Unreadable(_) | Held::NotAsked(_) => None,
    }
}

/// One of those whose contents most have; of equally many the primary, or else the highest id, which is the next primary.
fn measure(held: &BTreeMap<NodeId, Held>, primary: Option<NodeId>) -> Option<NodeId> {
    let contents = |scan: &Scan| (scan.index, scan.hash, scan.digest);
    let scans: Vec<_> = held.keys().filter_map(|id| Some((*id, contents(scan_of(held, *id)?)))).collect();
    let alike = |own| scans.iter().filter(|(_, other)| *other == own).count();
    let best = scans.iter().max_by_key(|(id, own)| (alike(*own), Some(*id) == primary, *id));
    best.map(|(id, _)| *id)
}

fn standing(held: &Held, against: Option<&Scan>) -> Standing {
    let scan = match held {
        Held::Scanned(scan) => scan,
        Held::Unreadable(why) => return Standing::Unreadable(why.clone()),
        Held::NotAsked(why) => return Standing::NotCompared(why.clone()),
    };
    let Some(against) = against else { return Standing::NotCompared("there is nothing to compare it with".into()) };
    match (scan.index == against.index, scan.hash == against.hash, scan.digest == against.digest) {
        (false, _, _) => Standing::NotCompared(format!("it was read at entry {}, not {}", scan.index, against.index)),
        (true, false, _) => Standing::OtherHistory,
        (true, true, false) => Standing::OtherStore,
        (true, true, true) => Standing::Equal,
    }
}

/// Where all are to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// All are frozen at this index.
    Reached(Index),
    /// Ask them all again, for this one.
    Again(Index),
}

/// What is added to the entries that were applied since the last question: a cluster that begins to be busy.
const LEAD_ENTRIES: u64 = 8;

/// What follows when all were asked for `asked`. Without any answer, there is nothing to wait for.
#[must_use]
pub fn next_target(asked: Index, answers: &[FreezeAnswer]) -> Target {
    let frozen = |answer: &FreezeAnswer| match answer {
        FreezeAnswer::Frozen { index, .. } => Some((*index, true)),
        FreezeAnswer::Passed { index } => Some((*index, false)),
        FreezeAnswer::NoStore => None,
    };
    let told: Vec<_> = answers.iter().filter_map(frozen).collect();
    let latest = told.iter().map(|(index, _)| *index).max().unwrap_or(asked);
    if told.iter().all(|told| *told == (latest, true)) {
        return Target::Reached(latest);
    }
    // One that did not come so far in time has what follows coming; the next question travels as long as this one did.
    let meanwhile = latest.0.saturating_sub(asked.0);
    Target::Again(Index(latest.0.saturating_add(2 * meanwhile).saturating_add(LEAD_ENTRIES)))
}

/// Since when two logs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// This is the first entry that differs.
    Entry(Index),
    /// They differ at this entry already, and one of the logs reaches no further back.
    NoLater(Index),
}

/// Looks for the first entry that differs, question by question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bisect {
    /// The last entry at which the chains are known to be equal.
    equal: Option<Index>,
    /// Nothing before this one can be asked of both.
    floor: Index,
    /// They differ here.
    differs: Index,
}

impl Bisect {
    /// Two nodes whose chains differ at `differs`, and where their logs begin.
    #[must_use]
    pub fn new(differs: Index, first: Index, other_first: Index) -> Self {
        // A log knows the chain right before its first record, too.
        let floor = first.max(other_first).before().min(differs);
        let equal = (floor == Index(0)).then_some(floor); // Before the first entry all are equal.
        Self { equal, floor, differs }
    }

    /// For which index to ask both; none when no answer can tell more.
    #[must_use]
    pub fn next(&self) -> Option<Index> {
        let Some(equal) = self.equal else { return (self.floor < self.differs).then_some(self.floor) };
        let middle = Index(equal.0 + (self.differs.0 - equal.0) / 2);
        (middle > equal).then_some(middle)
    }

    /// What both answered: their chains at `index`, none where the log does not reach back to it any more.
    pub fn hear(&mut self, index: Index, one: Option<Hash>, other: Option<Hash>) {
        match (one, other) {
            (Some(one), Some(other)) if one == other => self.equal = self.equal.max(Some(index)),
            (Some(_), Some(_)) => self.differs = self.differs.min(index),
            (_, _) => {
                // It was dropped meanwhile, with all before it.
                self.floor = self.floor.max(index.next()).min(self.differs);
                self.equal = self.equal.filter(|equal| *equal > index);
            }
        }
    }

    /// What is known.
    #[must_use]
    pub fn since(&self) -> Since {
        match self.equal {
            Some(equal) if equal.next() == self.differs => Since::Entry(self.differs),
            Some(_) | None => Since::NoLater(self.differs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> Hash {
        Hash([n; 32])
    }

    fn scan(index: u64, chain: u8, digest: u8) -> Held {
        Held::Scanned(Scan {
            index: Index(index),
            hash: hash(chain),
            digest: hash(digest),
            pairs: 1,
            bytes: 1,
            log_first: Index(1),
            log_end: Index(index),
        })
    }

    fn judged(held: &[Held], primary: u32) -> (Option<u32>, Vec<Standing>) {
        let held = held.iter().enumerate().map(|(at, held)| (NodeId(at as u32 + 1), held.clone())).collect();
        let verdict = judge(&held, Some(NodeId(primary)));
        (verdict.measure.map(|id| id.0), verdict.standings.into_values().collect())
    }

    #[test]
    fn s5_whoever_differs_from_most_is_the_one_that_differs() {
        use Standing::{Equal, OtherHistory, OtherStore};
        let (a, b, c) = (scan(9, 1, 1), scan(9, 1, 2), scan(9, 2, 1));
        assert_eq!(judged(&[a.clone(), a.clone(), a.clone()], 3), (Some(3), vec![Equal, Equal, Equal]));
        assert_eq!(judged(&[a.clone(), a.clone(), b.clone()], 3), (Some(2), vec![Equal, Equal, OtherStore]));
        assert_eq!(judged(&[c.clone(), a.clone(), a.clone()], 1), (Some(3), vec![OtherHistory, Equal, Equal]));
        // Of two, or of three that are all different, the primary's is what clients see.
        assert_eq!(judged(&[a.clone(), b.clone()], 1), (Some(1), vec![Equal, OtherStore]));
        assert_eq!(judged(&[a, b, c], 2), (Some(2), vec![OtherStore, Equal, OtherHistory]));
    }

    #[test]
    fn s5_what_was_not_read_is_never_called_equal() {
        use Standing::{Equal, NotCompared, Unreadable};
        let (a, rotten, away) = (scan(9, 1, 1), Held::Unreadable("rot".into()), Held::NotAsked("away".into()));
        let (_, standings) = judged(&[a.clone(), rotten.clone(), away.clone()], 2);
        assert_eq!(standings, vec![Equal, Unreadable("rot".into()), NotCompared("away".into())]);
        let (_, standings) = judged(&[a.clone(), a, scan(8, 1, 1)], 2);
        assert_eq!(standings[2], NotCompared("it was read at entry 8, not 9".into()));
        for nobody in [BTreeMap::new(), [(NodeId(1), rotten)].into(), [(NodeId(1), away)].into()] {
            let verdict = judge(&nobody, Some(NodeId(1)));
            assert!(!verdict.is_good() && verdict.measure.is_none(), "{verdict:?}");
        }
        let good = |held: [Held; 2]| judge(&(1..).map(NodeId).zip(held).collect(), None).is_good();
        let a = || scan(9, 1, 1);
        assert!(good([a(), a()]) && !good([a(), scan(9, 1, 2)]) && !good([a(), Held::NotAsked("away".into())]));
    }

    #[test]
    fn s5_all_are_compared_at_one_index() {
        let frozen = |index| FreezeAnswer::Frozen { ticket: 1, index: Index(index) };
        let passed = |index| FreezeAnswer::Passed { index: Index(index) };
        let next = |asked, answers: &[FreezeAnswer]| next_target(Index(asked), answers);
        assert_eq!(next(5, &[frozen(5), frozen(5), FreezeAnswer::NoStore]), Target::Reached(Index(5)));
        // The load ended before it was reached: wherever all stand is as good.
        assert_eq!(next(90, &[frozen(50), frozen(50)]), Target::Reached(Index(50)));
        assert_eq!(next(5, &[frozen(5), passed(15)]), Target::Again(Index(15 + 20 + LEAD_ENTRIES)));
        assert_eq!(next(5, &[frozen(5), frozen(4)]), Target::Again(Index(5 + LEAD_ENTRIES)));
        assert_eq!(next(5, &[passed(5), passed(5)]), Target::Again(Index(5 + LEAD_ENTRIES)));
    }

    /// Two chains that are equal before `differ`, in logs that begin at `first`; asked until nothing more can be told.
    fn found(differ: u64, end: u64, first: (u64, u64), mut lost: impl FnMut(u64) -> bool) -> (Since, u32) {
        let mut bisect = Bisect::new(Index(end), Index(first.0), Index(first.1));
        let mut questions = 0;
        while let Some(index) = bisect.next() {
            let known = |first: u64, other| {
                let chain = if index.0 >= differ { hash(other) } else { hash(0) };
                (index.0 + 1 >= first).then_some(chain)
            };
            let one = known(first.0, 1).filter(|_| !lost(index.0));
            bisect.hear(index, one, known(first.1, 2));
            questions += 1;
            assert!(questions < 200, "it goes on for ever: {bisect:?}");
        }
        (bisect.since(), questions)
    }

    #[test]
    fn s5_the_first_entry_that_differs_is_found_as_far_as_both_logs_reach() {
        for end in 1..40 {
            for differ in 1..=end {
                for first in 1..=end {
                    let (since, _) = found(differ, end, (1, first), |_| false);
                    let expected =
                        if differ >= first { Since::Entry(Index(differ)) } else { Since::NoLater(Index(first - 1)) };
                    assert_eq!(since, expected, "differ {differ}, end {end}, first {first}");
                }
            }
        }
        assert!(found(700_000, 1_000_000, (1, 3), |_| false).1 <= 21, "a bisection, not a scan");
    }

    #[test]
    fn s5_a_log_that_shrinks_meanwhile_is_told_as_what_it_is() {
        for cut in 1..30 {
            let (since, _) = found(20, 30, (1, 1), |index| index < cut);
            match since {
                Since::Entry(index) => assert_eq!(index, Index(20), "cut {cut}"),
                Since::NoLater(index) => assert!(index.0 >= 20 && cut > 1, "cut {cut}: {index}"),
            }
        }
    }

    #[test]
    fn s5_what_nobody_was_asked_is_not_told_and_what_is_dropped_before_is_no_loss() {
        let mut bisect = Bisect::new(Index(10), Index(1), Index(1));
        assert_eq!(bisect.since(), Since::NoLater(Index(10)), "nobody was asked yet");
        bisect.hear(Index(5), Some(hash(0)), Some(hash(0)));
        assert_eq!((bisect.next(), bisect.since()), (Some(Index(7)), Since::NoLater(Index(10))));
        bisect.hear(Index(3), None, Some(hash(0)));
        assert_eq!((bisect.next(), bisect.since()), (Some(Index(7)), Since::NoLater(Index(10))), "5 is equal still");
        let mut cut = bisect;
        cut.hear(Index(5), None, None);
        assert_eq!(
            (cut.next(), cut.since()),
            (Some(Index(6)), Since::NoLater(Index(10))),
            "and here it is not any more"
        );
        bisect.hear(Index(7), Some(hash(1)), Some(hash(2)));
        bisect.hear(Index(6), Some(hash(1)), Some(hash(2)));
        assert_eq!((bisect.next(), bisect.since()), (None, Since::Entry(Index(6))));
    }
}
