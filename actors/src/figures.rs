//! What actors and the storage count as they go, for people: two relaxed atomics a figure, read whenever somebody asks.
//!
//! Nothing is ever decided by a figure. What is read while others count may be a few events old or torn between two figures.
//!
//! Not here: what machines count themselves (`lockstep_protocol::tally`), and how any of it is shown.

use lockstep_protocol::tally::Distribution;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many by now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something there are now.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// One more, as long as what is returned.
    #[must_use]
    pub fn enter(&self) -> Entered<'_> {
        self.raise();
        Entered(self)
    }

    /// One more, until [`Level::lower`].
    pub fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn lower(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of those that a [`Level`] counts.
#[derive(Debug)]
pub struct Entered<'a>(&'a Level);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.lower();
    }
}

/// A [`Distribution`] that any thread adds to.
#[derive(Debug)]
pub struct SharedDistribution {
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl SharedDistribution {
    /// Of no values yet. The bounds increase.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self { bounds, counts, sum: AtomicU64::default() }
    }

    /// One more value.
    pub fn add(&self, value: u64) {
        if let Some(count) = self.counts.get(Distribution::place(self.bounds, value)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// One more duration, in microseconds.
    pub fn add_duration(&self, duration: Duration) {
        self.add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// All values by now.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Distribution::of(self.bounds, counts, self.sum.load(Ordering::Relaxed))
    }
}

/// How long a flush took at most. Microseconds.
const FLUSH_BOUNDS_US: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// The sizes of groups of requests by which flushes are told apart: up to so many.
const GROUP_BOUNDS: &[u64] = &[1, 4, 16, 64, 256];

/// The same sizes, as words, in the order of [`StorageFigures::flush_us`].
pub const GROUPS: [&str; 6] = ["1", "2-4", "5-16", "17-64", "65-256", "more"];

/// What the storage counts.
#[derive(Debug)]
pub struct StorageFigures {
    /// How long each flush took, by the size of the group of requests that it was for. Microseconds. See [`GROUPS`].
    pub flush_us: [SharedDistribution; GROUPS.len()],
    /// Requests of each group that was served together, flushed or not.
    pub group_requests: SharedDistribution,
}

impl Default for StorageFigures {
    fn default() -> Self {
        Self {
            flush_us: std::array::from_fn(|_| SharedDistribution::new(FLUSH_BOUNDS_US)),
            group_requests: SharedDistribution::new(GROUP_BOUNDS),
        }
    }
}

impl StorageFigures {
    /// A group of so many requests was served, with one flush or none.
    pub fn served(&self, requests: usize, flush: Option<Duration>) {
        let requests = requests as u64;
        self.group_requests.add(requests);
        let group = self.flush_us.get(Distribution::place(GROUP_BOUNDS, requests));
        if let (Some(took), Some(group)) = (flush, group) {
            group.add_duration(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_is_told_apart_by_its_group() {
        let figures = StorageFigures::default();
        figures.served(1, None);
        figures.served(16, Some(Duration::from_micros(700)));
        figures.served(999, Some(Duration::from_secs(60)));
        let flushes: Vec<_> = figures.flush_us.iter().map(|group| group.read().count()).collect();
        assert_eq!(flushes, [0, 0, 1, 0, 0, 1]);
        assert_eq!(figures.flush_us[2].read().up_to().find(|(_, count)| *count > 0), Some((1_000, 1)));
        let groups = figures.group_requests.read();
        assert_eq!((groups.count(), groups.sum()), (3, 1_016));
    }

    #[test]
    fn a_level_falls_when_what_it_counts_is_gone() {
        let level = Level::default();
        let (one, other) = (level.enter(), level.enter());
        assert_eq!(level.get(), 2);
        drop((one, other));
        assert_eq!(level.get(), 0);
    }
}
