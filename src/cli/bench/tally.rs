//! What is counted while the load is on: latencies of what was done, errors by status and code, and broken promises.
//!
//! Only operations that were due within the window are counted; broken promises always are. An error has no latency here: it is
//! never taken for something done.

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
    // The bounds are constants of which the crate's own are wider.
    Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).unwrap_or_else(|_| unreachable!("constant bounds"))
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

/// All that is counted.
pub struct Tally {
    window: Range<Instant>,
    by_kind: [Latencies; KINDS.len()],
    /// How much later than due operations were sent: all clients were busy, or this process was.
    pub sent_late: Latencies,
    /// Errors, by status and code.
    pub errors: BTreeMap<String, u64>,
    /// How often a client had to connect again.
    pub reconnects: u64,
    /// Broken promises.
    pub violations: Violations,
    last: Instant,
}

impl Tally {
    /// Counts what is due within this window.
    pub fn new(window: Range<Instant>) -> Self {
        Self {
            by_kind: KINDS.map(|_| latencies()),
            sent_late: latencies(),
            errors: BTreeMap::new(),
            reconnects: 0,
            violations: Violations::default(),
            last: window.start,
            window,
        }
    }

    /// An operation was sent.
    pub fn sent(&mut self, due: Instant, sent: Instant) {
        if self.window.contains(&due) {
            self.sent_late.saturating_record(micros(sent.saturating_duration_since(due)));
        }
    }

    /// An operation was done.
    pub fn done(&mut self, kind: Kind, due: Instant, done: Instant) {
        if self.window.contains(&due) {
            self.by_kind[kind as usize].saturating_record(micros(done.saturating_duration_since(due)));
            self.last = self.last.max(done);
        }
    }

    /// An operation was not done.
    pub fn failed(&mut self, due: Instant, why: String) {
        if self.window.contains(&due) {
            *self.errors.entry(why).or_default() += 1;
        }
    }

    /// The latencies of a kind.
    pub fn of(&self, kind: Kind) -> &Latencies {
        &self.by_kind[kind as usize]
    }

    /// The latencies of all kinds.
    pub fn all(&self) -> Latencies {
        let mut all = latencies();
        for of in &self.by_kind {
            // They have the same bounds.
            let _ = all.add(of);
        }
        all
    }

    /// From the beginning of the window to its end, or to the last answer, if that came later.
    pub fn lasted(&self) -> Duration {
        self.last.max(self.window.end) - self.window.start
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_due_in_the_window_is_counted_with_its_whole_latency() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut tally = Tally::new(at(100)..at(200));
        tally.done(Kind::Post, at(99), at(150));
        tally.done(Kind::Post, at(100), at(103));
        tally.done(Kind::Star, at(199), at(299));
        tally.done(Kind::Star, at(200), at(201));
        tally.failed(at(50), "503 no_primary".into());
        tally.failed(at(150), "503 no_primary".into());
        tally.failed(at(160), "503 no_primary".into());
        assert_eq!((tally.of(Kind::Post).len(), tally.of(Kind::Star).len(), tally.all().len()), (1, 1, 2));
        assert_eq!(tally.errors, BTreeMap::from([("503 no_primary".to_owned(), 2)]));
        let max = tally.all().max();
        assert!((100_000..100_100).contains(&max), "{max} us, within three digits");
        assert_eq!(tally.lasted(), Duration::from_millis(199), "until the last answer");
    }

    #[test]
    fn a_latency_beyond_all_bounds_is_counted_as_the_longest() {
        let begin = Instant::now();
        let mut tally = Tally::new(begin..begin + Duration::from_secs(1));
        tally.done(Kind::Post, begin, begin + Duration::from_secs(100_000));
        assert!(tally.all().max() >= LATENCY_US_MAX && tally.all().len() == 1);
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
