//! What must hold in every run: S1 to S5 (section 1), and what they rest on, as plain records that refuse what cannot be.
//!
//! Whoever watches a cluster tells these records what happened, in order of time: what was prepared, decided, applied,
//! begun and answered. The first thing that breaks a promise comes back as a [`Violation`], which names it.
//!
//! Not here: how the run is watched, and what a read should have found (`sim`). Nothing here is part of a node.
//!
//! Source: Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects", 1990: the decided log is
//! the witness order, so checking a history is comparing places in it.

mod records;

pub use records::{Records, cause_fits};

use crate::ids::{Attempt, Hash, Index, Timestamp, ViewNumber};
use crate::operation::KeyOwner;
use crate::view::View;
use std::collections::BTreeMap;
use std::fmt;

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// S1: what a client was told is done was lost.
    Lost,
    /// S2: a read, or the order of writes, contradicts real time.
    Stale,
    /// S2: an answer is not what the store held.
    WrongAnswer,
    /// S3: an idempotency key took effect twice.
    Twice,
    /// S4: what was told `aborted`, or refused, took effect.
    Resurrected,
    /// S5: two replicas applied different entries in one place.
    Diverged,
    /// Section 2: two decided views of one number differ.
    TwoViews,
    /// Section 4: one `(view, attempt)` names two entries.
    TwoContents,
    /// Section 2: a replica of a view that acts lacks a committed entry.
    Lacks,
    /// Section 12: a view change has no record, or one that cannot be.
    Untold,
    /// who was removed for good is back.
    Returned,
    /// said before it was durable.
    NotDurable,
    /// A request was answered twice, or by nobody's request.
    Unasked,
    /// A node stopped itself, or its disk was unreadable, although nothing forbidden was done to it.
    Stopped,
    /// A changed byte of a disk was taken for what had been written.
    Unnoticed,
    /// The faults ended, or left a healthy core, and the cluster did not come back.
    Liveness,
}

impl Rule {
    /// A short name, for tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "S1 lost",
            Self::Stale => "S2 stale",
            Self::WrongAnswer => "S2 wrong answer",
            Self::Twice => "S3 twice",
            Self::Resurrected => "S4 resurrected",
            Self::Diverged => "S5 diverged",
            Self::TwoViews => "two views",
            Self::TwoContents => "two contents",
            Self::Lacks => "lacks a committed entry",
            Self::Untold => "not told",
            Self::Returned => "returned",
            Self::NotDurable => "not durable",
            Self::Unasked => "unasked answer",
            Self::Stopped => "stopped",
            Self::Unnoticed => "unnoticed",
            Self::Liveness => "liveness",
        }
    }
}

/// A broken promise, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", rule.name())]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// What happened, for people.
    pub what: String,
}

impl Violation {
    /// Names what happened.
    #[must_use]
    pub fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// Nothing, or the promise that was broken.
pub type Checked = Result<(), Violation>;

/// Breaks `rule` unless `holds`; the text is only made when it is needed.
///
/// # Errors
/// When it does not hold.
pub fn require(holds: bool, rule: Rule, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation::new(rule, what())) }
}

/// One slot that is decided for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The chain there.
    pub hash: Hash,
    /// The first view in which it was decided.
    pub view: ViewNumber,
}

/// The one log that all replicas apply (S5): slot by slot, in the order in which they were decided.
#[derive(Clone, Debug, Default)]
pub struct DecidedLog(Vec<Decided>);

impl DecidedLog {
    /// The last decided place; 0 when there is none.
    #[must_use]
    pub fn last(&self) -> Index {
        Index(self.0.len() as u64)
    }

    /// What was decided there.
    #[must_use]
    pub fn get(&self, index: Index) -> Option<Decided> {
        usize::try_from(index.0).ok().and_then(|place| self.0.get(place.checked_sub(1)?)).copied()
    }

    /// A primary decided this. True when the slot is new; a slot may be decided again, in a later view, as the same.
    ///
    /// # Errors
    /// When the slot was decided otherwise (S5), or one before it was not.
    pub fn decide(&mut self, view: ViewNumber, index: Index, hash: Hash) -> Result<bool, Violation> {
        if let Some(known) = self.get(index) {
            require(known.hash == hash, Rule::Diverged, || {
                format!(
                    "slot {index} was decided as {} in view {}, and as {hash} in view {view}",
                    known.hash, known.view
                )
            })?;
            return Ok(false);
        }
        require(index == self.last().next(), Rule::Lacks, || {
            format!("view {view} decided slot {index}, and the last decided one is {}", self.last())
        })?;
        self.0.push(Decided { hash, view });
        Ok(true)
    }

    /// A replica applied this.
    ///
    /// # Errors
    /// When it was not decided, or otherwise (S5).
    pub fn applied(&self, who: &dyn fmt::Display, index: Index, hash: Hash) -> Checked {
        match self.get(index) {
            Some(known) => require(known.hash == hash, Rule::Diverged, || {
                format!("{who} applied {hash} in slot {index}, where {} was decided in view {}", known.hash, known.view)
            }),
            None => Err(Violation::new(Rule::Diverged, format!("{who} applied slot {index}, which nobody decided"))),
        }
    }

    /// Whether a log holds all that was decided in views before `view`: the first slot that it lacks.
    pub fn lacking(&self, view: ViewNumber, mut holds: impl FnMut(Index, Hash) -> bool) -> Option<Index> {
        let places = self.0.iter().enumerate().rev().take(LOOK_BACK);
        let slots = places.map(|(place, slot)| (Index(place as u64 + 1), slot));
        slots.filter(|(index, slot)| slot.view < view && !holds(*index, slot.hash)).map(|(index, _)| index).last()
    }
}

/// How far back a log is compared; what lies before was compared when it was near.
const LOOK_BACK: usize = 64;

/// Decided views, by number.
#[derive(Clone, Debug, Default)]
pub struct DecidedViews(BTreeMap<ViewNumber, View>);

impl DecidedViews {
    /// Somebody acts on this view.
    ///
    /// # Errors
    /// When another one of this number was acted on.
    pub fn learnt(&mut self, view: &View) -> Checked {
        match self.0.get(&view.number) {
            Some(known) => {
                require(known == view, Rule::TwoViews, || format!("view {} is {known:?}, and {view:?}", view.number))
            }
            None => {
                self.0.insert(view.number, view.clone());
                Ok(())
            }
        }
    }

    /// The view of this number, if somebody acted on it.
    #[must_use]
    pub fn get(&self, number: ViewNumber) -> Option<&View> {
        self.0.get(&number)
    }

    /// The highest that anybody acted on.
    #[must_use]
    pub fn last(&self) -> Option<&View> {
        self.0.last_key_value().map(|(_, view)| view)
    }
}

/// What was sent for votes: `(view, attempt)` names one entry for ever (section 4).
#[derive(Clone, Debug, Default)]
pub struct Contents(BTreeMap<(ViewNumber, Attempt), (Index, Hash)>);

impl Contents {
    /// A primary asks for votes on this.
    ///
    /// # Errors
    /// When the same attempt of the view named another entry.
    pub fn prepared(&mut self, view: ViewNumber, attempt: Attempt, slot: (Index, Hash)) -> Checked {
        let known = *self.0.entry((view, attempt)).or_insert(slot);
        require(known == slot, Rule::TwoContents, || {
            format!("attempt {attempt} of view {view} is {known:?}, and {slot:?}")
        })
    }
}

/// What became of an idempotency key in the decided log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Where.
    pub index: Index,
    /// When, by the keys' clock; the key is kept as long as the log's expiry has not passed it.
    pub at: Timestamp,
    /// Whether it took effect; else it was aborted.
    pub effect: bool,
}

/// S3 and S4: what the decided log says of each key.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    fates: BTreeMap<KeyOwner, Fate>,
    expired_before: Timestamp,
}

impl Keys {
    /// The log drops keys older than this.
    pub fn expire(&mut self, before: Timestamp) {
        self.expired_before = self.expired_before.max(before);
    }

    /// A decided entry holds this key.
    ///
    /// # Errors
    /// When the key, not expired, took effect before (S3) or was aborted before (S4).
    pub fn decided(&mut self, owner: &KeyOwner, fate: Fate) -> Checked {
        if let Some(first) = self.fate(owner).filter(|first| first.at >= self.expired_before) {
            let rule = if first.effect && fate.effect { Rule::Twice } else { Rule::Resurrected };
            return Err(Violation::new(rule, format!("key {:?} is decided as {first:?}, then as {fate:?}", owner.key)));
        }
        self.fates.insert(owner.clone(), fate);
        Ok(())
    }

    /// What the log says of it.
    #[must_use]
    pub fn fate(&self, owner: &KeyOwner) -> Option<Fate> {
        self.fates.get(owner).copied()
    }

    /// Whether the log has dropped keys of this fate.
    #[must_use]
    pub fn is_expired(&self, fate: Fate) -> bool {
        fate.at < self.expired_before
    }

    /// A client is told `aborted`.
    ///
    /// # Errors
    /// When no abort of the key is decided (S4).
    pub fn told_aborted(&self, owner: &KeyOwner) -> Checked {
        match self.fate(owner) {
            Some(fate) => require(!fate.effect || self.expired_before > Timestamp(0), Rule::Resurrected, || {
                format!("key {:?} was told aborted, and has an effect: {fate:?}", owner.key)
            }),
            None => Err(Violation::new(
                Rule::Resurrected,
                format!("key {:?} was told aborted, and no abort of it is decided", owner.key),
            )),
        }
    }
}

/// S2, the part about real time: what completed before something began comes before it in the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealTime {
    floor: Index,
}

impl RealTime {
    /// The place that whatever begins now must see.
    #[must_use]
    pub fn now(&self) -> Index {
        self.floor
    }

    /// Something that shows this place was answered.
    pub fn completed(&mut self, index: Index) {
        self.floor = self.floor.max(index);
    }

    /// A read that began when `floor` was known is answered from the state at `index`.
    ///
    /// # Errors
    /// When that state is older than what was known.
    pub fn read(floor: Index, index: Index) -> Checked {
        require(index >= floor, Rule::Stale, || {
            format!("a read is answered from slot {index}, and slot {floor} was known before it began")
        })
    }

    /// A write that began when `floor` was known is decided at `index`.
    ///
    /// # Errors
    /// When it stands before what was completed before it began.
    pub fn write(floor: Index, index: Index) -> Checked {
        require(index > floor, Rule::Stale, || {
            format!("a write is decided in slot {index}, and slot {floor} was known before it began")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> Hash {
        Hash([n; 32])
    }

    fn rule<T>(result: Result<T, Violation>) -> Option<Rule> {
        result.err().map(|violation| violation.rule)
    }

    fn log() -> DecidedLog {
        let mut log = DecidedLog::default();
        for n in 1..=3 {
            assert_eq!(log.decide(ViewNumber(u64::from(n)), Index(n.into()), hash(n)), Ok(true));
        }
        log
    }

    #[test]
    fn s5_a_slot_is_decided_once_and_applied_as_decided() {
        let mut log = log();
        assert_eq!(log.decide(ViewNumber(9), Index(2), hash(2)), Ok(false));
        assert_eq!(rule(log.decide(ViewNumber(9), Index(2), hash(8))), Some(Rule::Diverged));
        assert_eq!(rule(log.decide(ViewNumber(9), Index(5), hash(5))), Some(Rule::Lacks));
        assert_eq!(log.applied(&"node 1", Index(3), hash(3)), Ok(()));
        assert_eq!(rule(log.applied(&"node 1", Index(3), hash(2))), Some(Rule::Diverged));
        assert_eq!(rule(log.applied(&"node 1", Index(4), hash(4))), Some(Rule::Diverged));
    }

    #[test]
    fn s1_a_log_lacks_the_first_slot_decided_before_its_view() {
        let log = log();
        assert_eq!(log.lacking(ViewNumber(9), |_, _| true), None);
        assert_eq!(log.lacking(ViewNumber(9), |index, _| index < Index(2)), Some(Index(2)));
        assert_eq!(log.lacking(ViewNumber(2), |index, _| index < Index(2)), None);
        assert_eq!(log.lacking(ViewNumber(9), |_, there| there != hash(1)), Some(Index(1)));
    }

    #[test]
    fn s3_and_s4_a_key_has_one_fate_until_it_expires() {
        let owner = KeyOwner::new("ada", "k").expect("valid");
        let fate = |effect, at| Fate { index: Index(1), at: Timestamp(at), effect };
        for (first, second, broken) in
            [(true, true, Rule::Twice), (false, true, Rule::Resurrected), (true, false, Rule::Resurrected)]
        {
            let mut keys = Keys::default();
            assert_eq!(keys.decided(&owner, fate(first, 5)), Ok(()));
            assert_eq!(rule(keys.decided(&owner, fate(second, 7))), Some(broken));
            keys.expire(Timestamp(6));
            assert_eq!(keys.decided(&owner, fate(second, 7)), Ok(()));
        }
    }

    #[test]
    fn s4_aborted_is_told_only_of_what_the_log_aborted() {
        let owner = KeyOwner::new("ada", "k").expect("valid");
        let mut keys = Keys::default();
        assert_eq!(rule(keys.told_aborted(&owner)), Some(Rule::Resurrected));
        let fate = Fate { index: Index(1), at: Timestamp(5), effect: true };
        assert_eq!(keys.decided(&owner, fate), Ok(()));
        assert_eq!(rule(keys.told_aborted(&owner)), Some(Rule::Resurrected));
    }

    #[test]
    fn s2_what_completed_comes_before_what_began_later() {
        let mut time = RealTime::default();
        time.completed(Index(4));
        time.completed(Index(2));
        assert_eq!(time.now(), Index(4));
        assert_eq!(RealTime::read(time.now(), Index(4)), Ok(()));
        assert_eq!(rule(RealTime::read(time.now(), Index(3))), Some(Rule::Stale));
        assert_eq!(RealTime::write(time.now(), Index(5)), Ok(()));
        assert_eq!(rule(RealTime::write(time.now(), Index(4))), Some(Rule::Stale));
    }

    #[test]
    fn section_4_an_attempt_names_one_entry() {
        let mut contents = Contents::default();
        let slot = (Index(1), hash(1));
        assert_eq!(contents.prepared(ViewNumber(1), Attempt(1), slot), Ok(()));
        assert_eq!(contents.prepared(ViewNumber(1), Attempt(1), slot), Ok(()));
        let other = (Index(1), hash(2));
        assert_eq!(rule(contents.prepared(ViewNumber(1), Attempt(1), other)), Some(Rule::TwoContents));
        assert_eq!(contents.prepared(ViewNumber(1), Attempt(2), other), Ok(()));
    }
}
