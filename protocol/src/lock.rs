//! The lock table: who may touch what, while a batch is in doubt.
//!
//! Strict two-phase locking (section 6): an operation takes its locks before it is prepared and keeps them until its commit
//! or abort is applied, on every replica. So no reader ever sees a write that could still be taken back (S2).
//!
//! Its rules:
//! - An owner takes its locks one after the other, in canonical order, so owners that ask once never wait for each other in
//!   a circle. `Granted` is told when it holds them all.
//! - A request waits when it conflicts with a holder, or with a request that came earlier and waits. So nobody is overtaken
//!   by somebody who could delay it, none starves, and a reader passes a waiting join (R-21: writes wait, reads go on).
//! - An owner that asks for more of what it holds goes before all who wait: whoever waits there would wait for it anyway.
//!   Two that ask so of the same resource wait for each other until one's time is up.
//!
//! Not here: waiting too long (whoever asks lets go, R-5, R-9), and what a lock protects (the store). Locks are never
//! written to disk; after a restart they are taken again for the entry in doubt.
//!
//! Source: Gray, Lorie, Putzolu, Traiger, "Granularity of Locks and Degrees of Consistency in a Shared Data Base", 1976.

use crate::ids::{Millis, Now, RequestId};
use crate::machine::{Effects, Machine, Note};
use crate::operation::ChannelName;
use crate::status::NodeStatus;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What can be locked, in canonical order: the store before its channels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// Everything.
    Store,
    /// One channel with its messages and stars.
    Channel(ChannelName),
}

/// The classic multi-granularity modes (Gray 1976).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// IS: will read below.
    IntentShared,
    /// IX: will write below.
    IntentExclusive,
    /// S: reads all of it.
    Shared,
    /// X: writes it.
    Exclusive,
}

impl Mode {
    /// All of them, weakest first.
    pub const ALL: [Self; 4] = [Self::IntentShared, Self::IntentExclusive, Self::Shared, Self::Exclusive];

    /// Whether two owners may hold these at the same time.
    #[must_use]
    pub fn is_compatible(self, other: Self) -> bool {
        match (self, other) {
            (Self::Exclusive, _) | (_, Self::Exclusive) => false,
            (Self::IntentShared, _) | (_, Self::IntentShared) => true,
            (Self::Shared, Self::Shared) | (Self::IntentExclusive, Self::IntentExclusive) => true,
            (Self::Shared, Self::IntentExclusive) | (Self::IntentExclusive, Self::Shared) => false,
        }
    }

    /// The weakest mode that allows what either allows. There is no SIX here: S and IX make X.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Shared, Self::IntentExclusive) | (Self::IntentExclusive, Self::Shared) => Self::Exclusive,
            (a, b) => a.max(b),
        }
    }
}

/// Who holds locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockOwner {
    /// The primary's coordinator: the operations on one channel that will go into one batch.
    Ticket(u64),
    /// A replica: an entry in doubt. Counts its acquisitions: a late grant of one that was given up is none of the next.
    Slot(u64),
    /// The primary: a read.
    Read(RequestId),
    /// The primary: the end of a join. Counts its acquisitions too.
    Join(u64),
}

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of the letters and notes that they come from")]
pub enum Input {
    /// Take these, in this order, all or wait. Asked again: what is new is added, and `Granted` told again once all is held.
    Acquire { owner: LockOwner, locks: Vec<(Resource, Mode)> },
    /// Let go of everything, held or waited for.
    Release { owner: LockOwner },
}

/// How many of each mode there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally([u32; 4]);

impl Tally {
    fn add(&mut self, mode: Mode) {
        self.0[mode as usize] += 1;
    }

    fn take(&mut self, mode: Mode) {
        assert!(self.0[mode as usize] > 0, "a mode is taken away that was never added");
        self.0[mode as usize] -= 1;
    }

    fn has(&self, mode: Mode) -> bool {
        self.0[mode as usize] > 0
    }

    /// Whether `mode` goes with all of these.
    fn admits(&self, mode: Mode) -> bool {
        Mode::ALL.into_iter().all(|other| !self.has(other) || mode.is_compatible(other))
    }
}

/// One resource: who holds it, and who waits in which order. It lives while somebody does either.
#[derive(Clone, Debug, Default)]
struct Queue {
    holders: BTreeMap<LockOwner, Mode>,
    held: Tally,
    /// By place: later requests have higher ones, those that ask for more than they hold have negative ones.
    waiters: BTreeMap<i64, (LockOwner, Mode)>,
    waiting: Tally,
}

impl Queue {
    /// Whether `owner` may hold `mode` beside the other holders and those that wait before it.
    fn admits(&self, owner: LockOwner, mode: Mode, before: Tally) -> bool {
        let mut others = self.held;
        if let Some(own) = self.holders.get(&owner) {
            others.take(*own);
        }
        others.admits(mode) && before.admits(mode)
    }

    fn hold(&mut self, owner: LockOwner, mode: Mode) {
        if let Some(weaker) = self.holders.insert(owner, mode) {
            self.held.take(weaker);
        }
        self.held.add(mode);
        debug_assert!(self.is_consistent(), "two incompatible holders");
    }

    /// Adds a request that must wait, and says where it stands.
    fn wait(&mut self, owner: LockOwner, mode: Mode) -> i64 {
        let holds = self.holders.contains_key(&owner);
        let first = self.waiters.first_key_value().map_or(0, |(place, _)| *place);
        let last = self.waiters.last_key_value().map_or(0, |(place, _)| *place);
        let place = if holds { first.min(0) - 1 } else { last.max(0) + 1 };
        self.waiters.insert(place, (owner, mode));
        self.waiting.add(mode);
        place
    }

    fn leave(&mut self, place: i64) {
        if let Some((_, mode)) = self.waiters.remove(&place) {
            self.waiting.take(mode);
        }
    }

    fn let_go(&mut self, owner: LockOwner) {
        if let Some(mode) = self.holders.remove(&owner) {
            self.held.take(mode);
        }
    }

    /// Gives the lock to all who may have it now, in order of arrival, and says to whom.
    fn promote(&mut self) -> Vec<(LockOwner, Mode)> {
        let mut ahead = Tally::default();
        let mut unseen = self.waiting;
        let mut granted = Vec::new();
        for (place, (owner, mode)) in &self.waiters {
            // Whoever holds something here may be admitted where others are not; they stand at negative places.
            if *place > 0 && !Mode::ALL.into_iter().any(|m| unseen.has(m) && self.held.admits(m) && ahead.admits(m)) {
                break;
            }
            unseen.take(*mode);
            if self.admits(*owner, *mode, ahead) {
                granted.push((*place, *owner, *mode));
                // Held at once, so that the next in line is measured against it.
                if let Some(weaker) = self.holders.insert(*owner, *mode) {
                    self.held.take(weaker);
                }
                self.held.add(*mode);
            } else {
                ahead.add(*mode);
            }
        }
        for (place, _, _) in &granted {
            self.leave(*place);
        }
        debug_assert!(self.is_consistent(), "two incompatible holders");
        granted.into_iter().map(|(_, owner, mode)| (owner, mode)).collect()
    }

    fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.waiters.is_empty()
    }

    fn is_consistent(&self) -> bool {
        Mode::ALL.into_iter().filter(|mode| self.held.has(*mode)).all(|mode| {
            let mut others = self.held;
            others.take(mode);
            others.admits(mode)
        })
    }
}

/// What an owner holds, waits for, and will ask for.
#[derive(Clone, Debug, Default)]
struct Claim {
    held: BTreeMap<Resource, Mode>,
    /// The one resource that it waits for, the mode, and its place there.
    waits: Option<(Resource, Mode, i64)>,
    /// What comes after that.
    wanted: BTreeMap<Resource, Mode>,
}

impl Claim {
    fn is_complete(&self) -> bool {
        self.waits.is_none() && self.wanted.is_empty()
    }

    /// Adds to what it wants, unless it holds or waits for as much already.
    fn want(&mut self, resource: Resource, mode: Mode) {
        let held = self.held.get(&resource).copied();
        let waited = self.waits.as_ref().filter(|(r, _, _)| *r == resource).map(|(_, m, _)| *m);
        let had = held.into_iter().chain(waited).reduce(Mode::join);
        let needed = had.map_or(mode, |had| had.join(mode));
        if had != Some(needed) {
            let wanted = self.wanted.entry(resource).or_insert(needed);
            *wanted = wanted.join(needed);
        }
    }
}

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct LockTable {
    queues: BTreeMap<Resource, Queue>,
    claims: BTreeMap<LockOwner, Claim>,
}

impl LockTable {
    /// A machine that has heard nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes its part of what the node says of itself.
    pub fn observe(&self, status: &mut NodeStatus) {
        status.locks_held = self.claims.values().map(|claim| claim.held.len() as u64).sum();
        status.locks_waiting = self.claims.values().filter(|claim| claim.waits.is_some()).count() as u64;
    }

    fn acquire(&mut self, owner: LockOwner, locks: Vec<(Resource, Mode)>) -> Effects {
        if locks.is_empty() && !self.claims.contains_key(&owner) {
            return granted(owner); // An abort or a view entry: it holds nothing, and nothing need be remembered of it.
        }
        let claim = self.claims.entry(owner).or_default();
        for (resource, mode) in locks {
            claim.want(resource, mode);
        }
        if self.advance(owner) { granted(owner) } else { Effects::none() }
    }

    /// Takes one lock after the other, until one must be waited for. True when all are held.
    fn advance(&mut self, owner: LockOwner) -> bool {
        let Some(claim) = self.claims.get_mut(&owner) else { return false };
        while claim.waits.is_none() {
            let Some((resource, mode)) = claim.wanted.pop_first() else { break };
            let queue = self.queues.entry(resource.clone()).or_default();
            // One that holds a part already stands before all waiters: it is measured against the holders alone.
            let before = if queue.holders.contains_key(&owner) { Tally::default() } else { queue.waiting };
            if queue.admits(owner, mode, before) {
                queue.hold(owner, mode);
                claim.held.insert(resource, mode);
            } else {
                let place = queue.wait(owner, mode);
                claim.waits = Some((resource, mode, place));
            }
        }
        claim.is_complete()
    }

    /// Lets go, and lets those go on who waited for it: each resource in order, and in it each waiter in order.
    fn release(&mut self, owner: LockOwner) -> Effects {
        let mut effects = Effects::none();
        let Some(claim) = self.claims.remove(&owner) else { return effects };
        let mut freed = BTreeSet::new();
        if let Some((resource, _, place)) = claim.waits {
            if let Some(queue) = self.queues.get_mut(&resource) {
                queue.leave(place);
            }
            freed.insert(resource);
        }
        for resource in claim.held.into_keys() {
            if let Some(queue) = self.queues.get_mut(&resource) {
                queue.let_go(owner);
            }
            freed.insert(resource);
        }
        for resource in freed {
            self.promote(&resource, &mut effects);
        }
        effects
    }

    /// Whoever gets the resource takes the rest of what it wants, which frees nothing: one pass is enough.
    fn promote(&mut self, resource: &Resource, effects: &mut Effects) {
        let Some(queue) = self.queues.get_mut(resource) else { return };
        let promoted = queue.promote();
        if queue.is_empty() {
            self.queues.remove(resource);
        }
        for (owner, mode) in promoted {
            let Some(claim) = self.claims.get_mut(&owner) else { continue };
            claim.waits = None;
            claim.held.insert(resource.clone(), mode);
            if self.advance(owner) {
                effects.append(granted(owner));
            }
        }
    }
}

fn granted(owner: LockOwner) -> Effects {
    Effects::one(crate::machine::Effect::Tell(Note::Granted { owner }))
}

impl Machine for LockTable {
    type Input = Input;

    fn step(&mut self, _now: Now, input: Input) -> Effects {
        match input {
            Input::Acquire { owner, locks } => self.acquire(owner, locks),
            Input::Release { owner } => self.release(owner),
        }
    }

    /// None: whoever waits too long lets go.
    fn deadline(&self) -> Option<Millis> {
        None
    }

    fn tick(&mut self, _now: Now) -> Effects {
        Effects::none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Effect;
    use crate::testing::observed;
    use Mode::{Exclusive as X, IntentExclusive as IX, IntentShared as IS, Shared as S};

    fn channel(name: &str) -> Resource {
        Resource::Channel(ChannelName::new(name).expect("a name"))
    }

    fn owner(n: u64) -> LockOwner {
        LockOwner::Ticket(n)
    }

    fn owners(effects: Effects) -> Vec<u64> {
        effects
            .into_iter()
            .map(|effect| match effect {
                Effect::Tell(Note::Granted { owner: LockOwner::Ticket(n) }) => n,
                other => panic!("unexpected {other:?}"),
            })
            .collect()
    }

    #[derive(Default)]
    struct Table(LockTable);

    impl Table {
        fn acquire(&mut self, n: u64, locks: &[(Resource, Mode)]) -> Vec<u64> {
            owners(self.0.step(Now::default(), Input::Acquire { owner: owner(n), locks: locks.to_vec() }))
        }

        fn release(&mut self, n: u64) -> Vec<u64> {
            owners(self.0.step(Now::default(), Input::Release { owner: owner(n) }))
        }

        fn write(&mut self, n: u64, name: &str) -> Vec<u64> {
            self.acquire(n, &[(Resource::Store, IX), (channel(name), X)])
        }

        fn read(&mut self, n: u64, name: &str) -> Vec<u64> {
            self.acquire(n, &[(Resource::Store, IS), (channel(name), S)])
        }

        fn counts(&self) -> (u64, u64) {
            let status = observed(|status| self.0.observe(status));
            (status.locks_held, status.locks_waiting)
        }
    }

    const NONE: [u64; 0] = [];

    #[test]
    fn section_6_compatibility_table_is_grays() {
        let table = [
            (IS, [true, true, true, false]),
            (IX, [true, true, false, false]),
            (S, [true, false, true, false]),
            (X, [false, false, false, false]),
        ];
        for (held, row) in table {
            for (asked, allowed) in Mode::ALL.into_iter().zip(row) {
                assert_eq!(held.is_compatible(asked), allowed, "{held:?} {asked:?}");
                assert_eq!(asked.is_compatible(held), allowed, "symmetric: {held:?} {asked:?}");
                let mut locks = Table::default();
                assert_eq!(locks.acquire(1, &[(Resource::Store, held)]), [1]);
                let second = locks.acquire(2, &[(Resource::Store, asked)]);
                assert_eq!(second == [2], allowed, "{held:?} held, {asked:?} asked");
            }
        }
    }

    #[test]
    fn section_6_join_of_modes_allows_no_more_company_than_either() {
        for a in Mode::ALL {
            for b in Mode::ALL {
                assert_eq!(a.join(b), b.join(a));
                for other in Mode::ALL {
                    let both = a.is_compatible(other) && b.is_compatible(other);
                    assert!(!a.join(b).is_compatible(other) || both, "{a:?} {b:?} {other:?}");
                }
            }
        }
        assert_eq!((S.join(IX), IS.join(S), IS.join(IX), X.join(S)), (X, S, IX, X));
    }

    #[test]
    fn section_6_writers_of_one_channel_go_in_order_of_arrival() {
        let mut locks = Table::default();
        assert_eq!(locks.write(1, "a"), [1]);
        assert_eq!(locks.write(2, "a"), NONE);
        assert_eq!(locks.write(3, "a"), NONE);
        assert_eq!(locks.write(4, "b"), [4], "another channel is free");
        assert_eq!(locks.counts(), (6, 2), "two for each that goes, the store's for each that waits");
        assert_eq!(locks.release(1), [2]);
        assert_eq!(locks.release(2), [3]);
        assert_eq!(locks.release(3), NONE);
        assert_eq!(locks.release(4), NONE);
        assert_eq!(locks.counts(), (0, 0));
        assert!(locks.0.queues.is_empty() && locks.0.claims.is_empty(), "nothing is remembered of who has gone");
    }

    #[test]
    fn section_6_a_reader_does_not_overtake_a_waiting_writer() {
        let mut locks = Table::default();
        assert_eq!(locks.read(1, "a"), [1]);
        assert_eq!(locks.write(2, "a"), NONE);
        assert_eq!(locks.read(3, "a"), NONE, "else a stream of readers would starve the writer");
        assert_eq!(locks.read(4, "a"), NONE);
        assert_eq!(locks.release(1), [2]);
        assert_eq!(locks.release(2), [3, 4], "both readers at once, in order");
    }

    #[test]
    fn r21_while_a_join_ends_writes_wait_and_reads_go_on() {
        let mut locks = Table::default();
        assert_eq!(locks.write(1, "a"), [1]);
        assert_eq!(locks.acquire(2, &[(Resource::Store, S)]), NONE);
        assert_eq!(locks.write(3, "b"), NONE, "a later write does not overtake the join");
        assert_eq!(locks.read(4, "c"), [4], "a read passes the join that waits");
        assert_eq!(locks.release(1), [2]);
        assert_eq!(locks.read(5, "c"), [5], "and the join that holds");
        assert_eq!(locks.release(2), [3]);
    }

    #[test]
    fn section_6_a_waiter_that_lets_go_unblocks_those_behind_it() {
        let mut locks = Table::default();
        assert_eq!(locks.read(1, "a"), [1]);
        assert_eq!(locks.write(2, "a"), NONE);
        assert_eq!(locks.read(3, "a"), NONE);
        assert_eq!(locks.release(2), [3], "its time was up");
        assert_eq!(locks.release(9), NONE, "an unknown owner");
    }

    #[test]
    fn section_6_asking_again_changes_nothing_and_tells_again() {
        let mut locks = Table::default();
        assert_eq!(locks.write(1, "a"), [1]);
        assert_eq!(locks.write(1, "a"), [1]);
        assert_eq!(locks.read(1, "a"), [1], "less than it holds");
        assert_eq!(locks.write(2, "a"), NONE);
        assert_eq!(locks.write(2, "a"), NONE);
        assert_eq!(locks.counts(), (3, 1));
        assert_eq!(locks.write(1, "b"), [1], "more is added");
        assert_eq!(locks.counts(), (4, 1));
        assert_eq!(locks.release(1), [2]);
        assert_eq!(locks.acquire(7, &[]), [7], "an entry without locks");
        assert_eq!(locks.counts(), (2, 0));
    }

    #[test]
    fn section_6_more_of_the_same_goes_before_those_who_wait() {
        let mut locks = Table::default();
        let a = channel("a");
        assert_eq!(locks.acquire(1, &[(a.clone(), S)]), [1]);
        assert_eq!(locks.acquire(2, &[(a.clone(), S)]), [2]);
        assert_eq!(locks.acquire(3, &[(a.clone(), X)]), NONE);
        assert_eq!(locks.acquire(1, &[(a.clone(), X)]), NONE, "2 reads still");
        assert_eq!(locks.release(2), [1]);
        assert_eq!(locks.release(1), [3]);
        assert_eq!(locks.acquire(4, &[(Resource::Store, IS)]), [4]);
        assert_eq!(locks.acquire(4, &[(Resource::Store, IX)]), [4], "at once when it can");
        assert_eq!(locks.counts(), (2, 0));
    }

    #[test]
    fn section_6_canonical_order_makes_no_deadlock() {
        let mut locks = Table::default();
        assert_eq!(locks.acquire(1, &[(channel("b"), X), (channel("a"), X)]), [1]);
        assert_eq!(locks.acquire(2, &[(channel("a"), X), (channel("b"), X)]), NONE);
        assert_eq!(locks.acquire(3, &[(channel("b"), X), (channel("a"), X)]), NONE);
        assert_eq!(locks.release(1), [2]);
        assert_eq!(locks.release(2), [3]);
    }

    /// What must hold after every step: no two incompatible holders, nobody waits who could go, claims and queues agree.
    fn check(table: &LockTable) {
        for (resource, queue) in &table.queues {
            assert!(!queue.is_empty(), "{resource:?} is remembered for nobody");
            for (a, mode) in &queue.holders {
                assert_eq!(table.claims[a].held.get(resource), Some(mode));
                let mut others = queue.holders.iter().filter(|(b, _)| *b != a);
                assert!(others.all(|(_, other)| mode.is_compatible(*other)), "{resource:?}: {:?}", queue.holders);
            }
            let mut before: Vec<Mode> = Vec::new();
            for (place, (owner, mode)) in &queue.waiters {
                assert_eq!(table.claims[owner].waits.as_ref(), Some(&(resource.clone(), *mode, *place)));
                let mut holders = queue.holders.iter().filter(|(o, _)| *o != owner);
                let free =
                    holders.all(|(_, m)| m.is_compatible(*mode)) && before.iter().all(|m| m.is_compatible(*mode));
                assert!(!free, "{owner:?} waits for {resource:?} {mode:?} and could go");
                before.push(*mode);
            }
        }
        for (owner, claim) in &table.claims {
            assert!(claim.held.keys().all(|r| table.queues[r].holders.contains_key(owner)));
            assert!(claim.waits.is_some() || claim.wanted.is_empty(), "{owner:?} wants and does not wait");
        }
    }

    #[test]
    fn section_6_random_steps_keep_the_invariants_and_all_come_to_their_turn() {
        for seed in 0..60 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut table = LockTable::new();
            let mut live: Vec<u64> = Vec::new();
            for n in 0..300 {
                if rng.u32(..100) < 55 || live.is_empty() {
                    let mut locks: Vec<_> = (0..rng.usize(1..3))
                        .map(|_| (channel(["a", "b", "c"][rng.usize(..3)]), [S, X][rng.usize(..2)]))
                        .collect();
                    let store = if locks.iter().any(|(_, mode)| *mode == X) { IX } else { IS };
                    locks.push((Resource::Store, if rng.u32(..20) == 0 { S } else { store }));
                    drop(table.step(Now::default(), Input::Acquire { owner: owner(n), locks }));
                    live.push(n);
                } else {
                    let gone = live.swap_remove(rng.usize(..live.len()));
                    drop(table.step(Now::default(), Input::Release { owner: owner(gone) }));
                }
                check(&table);
            }
            while !live.is_empty() {
                let done = live.iter().position(|n| table.claims[&owner(*n)].is_complete());
                let done = done.expect("somebody can always go: there is no circle");
                drop(table.step(Now::default(), Input::Release { owner: owner(live.swap_remove(done)) }));
                check(&table);
            }
            assert!(table.claims.is_empty() && table.queues.is_empty());
        }
    }

    #[test]
    fn section_6_random_requests_for_more_keep_the_invariants() {
        for seed in 0..60 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut table = LockTable::new();
            for _ in 0..400 {
                let owner = owner(rng.u64(..8));
                let resource = [Resource::Store, channel("a"), channel("b")][rng.usize(..3)].clone();
                let input = match rng.u32(..3) {
                    0 => Input::Release { owner },
                    _ => Input::Acquire { owner, locks: vec![(resource, Mode::ALL[rng.usize(..4)])] },
                };
                drop(table.step(Now::default(), input));
                check(&table);
            }
            for n in 0..8 {
                drop(table.step(Now::default(), Input::Release { owner: owner(n) }));
            }
            assert!(table.claims.is_empty() && table.queues.is_empty());
        }
    }

    #[test]
    fn section_6_an_entry_without_locks_is_granted_unless_its_owner_waits() {
        let mut locks = Table::default();
        assert_eq!(locks.acquire(7, &[]), [7]);
        assert!(locks.0.claims.is_empty(), "nothing is remembered of it");
        assert_eq!(locks.write(1, "a"), [1]);
        assert_eq!(locks.acquire(1, &[]), [1], "told again");
        assert_eq!(locks.write(2, "a"), NONE);
        assert_eq!(locks.acquire(2, &[]), NONE, "it waits as before");
        assert_eq!(locks.release(1), [2]);
    }

    #[test]
    fn section_6_two_holders_that_exclude_each_other_are_noticed() {
        for (a, b) in Mode::ALL.into_iter().flat_map(|a| Mode::ALL.map(|b| (a, b))) {
            let mut queue = Queue::default();
            [a, b].into_iter().for_each(|mode| queue.held.add(mode));
            assert_eq!(queue.is_consistent(), a.is_compatible(b), "{a:?} {b:?}");
        }
    }
}
