//! What is counted while the load is on: latencies of what was done, errors by status and code, and broken promises.
//!
//! Counted is what was answered since the window began and was due before it ended: a stall that outlasts the window is in the
//! latencies. The rate is that of what was answered while the window was open. An error has no latency: it is never taken for
//! something done. Broken promises always count.

use super::violation::Violation;
use super::work::{KINDS, Kind};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The longest latency that is told apart. Microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Significant digits of a latency.
const DIGITS: u8 = 3;
/// How many broken promises are told; all are counted.
const VIOLATIONS_TOLD_MAX: usize = 20;

/// Latencies. Microseconds.
pub type Latencies = Histogram<u64>;

/// A histogram in which nothing is yet.
pub fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).expect("constant bounds")
}

/// Broken promises: the first ones, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    /// The first ones, each with where it was seen.
    pub told: Vec<String>,
    /// All of them.
    pub count: u64,
}

impl Violations {
    /// One more, seen at this gateway.
    pub fn add(&mut self, gateway: &str, violation: &Violation) {
        self.count += 1;
        if self.told.len() < VIOLATIONS_TOLD_MAX {
            self.told.push(format!("{gateway}: {violation}"));
        }
    }
}

/// What was done of one kind.
pub struct Done {
    /// How long each took.
    pub latencies: Latencies,
    /// How many were answered while the window was open.
    pub in_window: u64,
}

impl Done {
    fn new() -> Self {
        Self { latencies: latencies(), in_window: 0 }
    }
}

/// All that is counted.
pub struct Tally {
    window: Range<Instant>,
    by_kind: [Done; KINDS.len()],
    /// How much later than due operations were sent: all clients were busy, or this process was.
    pub sent_late: Latencies,
    /// Errors, by status and code.
    pub errors: BTreeMap<String, u64>,
    /// How often a client had to connect again.
    pub reconnects: u64,
    /// Broken promises.
    pub violations: Violations,
}

impl Tally {
    /// Of this window.
    pub fn new(window: Range<Instant>) -> Self {
        Self {
            by_kind: KINDS.map(|_| Done::new()),
            sent_late: latencies(),
            errors: BTreeMap::new(),
            reconnects: 0,
            violations: Violations::default(),
            window,
        }
    }

    /// An operation was sent.
    pub fn sent(&mut self, due: Instant, sent: Instant) {
        if self.counts(due, sent) {
            self.sent_late.saturating_record(micros(sent.saturating_duration_since(due)));
        }
    }

    /// An operation was done.
    pub fn done(&mut self, kind: Kind, due: Instant, done: Instant) {
        if self.counts(due, done) {
            let of = &mut self.by_kind[kind as usize];
            of.latencies.saturating_record(micros(done.saturating_duration_since(due)));
            of.in_window += u64::from(done < self.window.end);
        }
    }

    /// An operation was not done, as was known then.
    pub fn failed(&mut self, due: Instant, known: Instant, why: String) {
        if self.counts(due, known) {
            *self.errors.entry(why).or_default() += 1;
        }
    }

    fn counts(&self, due: Instant, answered: Instant) -> bool {
        answered >= self.window.start && due < self.window.end
    }

    /// What was done of a kind.
    pub fn of(&self, kind: Kind) -> &Done {
        &self.by_kind[kind as usize]
    }

    /// What was done of all kinds.
    pub fn all(&self) -> Done {
        let mut all = Done::new();
        for of in &self.by_kind {
            all.latencies.add(&of.latencies).expect("the same bounds");
            all.in_window += of.in_window;
        }
        all
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_is_what_overlaps_the_window_with_its_whole_latency() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut tally = Tally::new(at(100)..at(200));
        tally.done(Kind::Post, at(98), at(99));
        tally.done(Kind::Post, at(99), at(150));
        tally.done(Kind::Post, at(100), at(103));
        tally.done(Kind::Star, at(199), at(299));
        tally.done(Kind::Star, at(200), at(201));
        tally.failed(at(50), at(60), "503 no_primary".into());
        tally.failed(at(150), at(151), "503 no_primary".into());
        tally.failed(at(199), at(999), "503 no_primary".into());
        let counts = |of: &Done| (of.latencies.len(), of.in_window);
        assert_eq!((counts(tally.of(Kind::Post)), counts(tally.of(Kind::Star))), ((2, 2), (1, 0)));
        assert_eq!(counts(&tally.all()), (3, 2));
        assert_eq!(tally.errors, BTreeMap::from([("503 no_primary".to_owned(), 2)]));
        let max = tally.all().latencies.max();
        assert!((100_000..100_100).contains(&max), "{max} us, within three digits");
    }

    #[test]
    fn a_latency_beyond_all_bounds_is_counted_as_the_longest() {
        let begin = Instant::now();
        let mut tally = Tally::new(begin..begin + Duration::from_secs(1));
        tally.done(Kind::Post, begin, begin + Duration::from_secs(100_000));
        let latencies = tally.all().latencies;
        assert!(latencies.max() >= LATENCY_US_MAX && latencies.len() == 1);
    }

    #[test]
    fn all_broken_promises_are_counted_and_the_first_told() {
        let mut violations = Violations::default();
        for _ in 0..VIOLATIONS_TOLD_MAX + 5 {
            violations.add("g:1", &Violation::Unreadable("x".into()));
        }
        assert_eq!((violations.told.len(), violations.count), (VIOLATIONS_TOLD_MAX, VIOLATIONS_TOLD_MAX as u64 + 5));
        assert_eq!(violations.told[0], "g:1: an answer cannot be read: x");
    }
}
