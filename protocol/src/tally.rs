//! What a node counts of its own doing since its process began: plain numbers for people, which no rule ever reads.
//!
//! The coordinator counts batches, votes and attempts here as it goes; whoever shows them gets a copy with its status.
//!
//! Not here: what actors count (flushes, requests), and how any of it is shown.

use crate::message::Refusal;

/// The most operations of a batch, by which batches are told apart.
const OPERATIONS_BOUNDS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];
/// The most text of a batch. Bytes.
const BYTES_BOUNDS: &[u64] = &[64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
/// How long an entry took at most. Milliseconds.
const ENTRY_MS_BOUNDS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// How many values there were, by size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    bounds: &'static [u64],
    /// One for each bound, for values up to it and above the one before; one more for what is above all.
    counts: Vec<u64>,
    sum: u64,
}

impl Distribution {
    /// Of no values yet. The bounds increase.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0 }
    }

    /// Of values that were counted elsewhere: one count for each bound, and one for what is above all.
    #[must_use]
    pub fn of(bounds: &'static [u64], counts: Vec<u64>, sum: u64) -> Self {
        debug_assert!(counts.len() == bounds.len() + 1, "one count more than bounds");
        Self { bounds, counts, sum }
    }

    /// The place of a value among the counts.
    #[must_use]
    pub fn place(bounds: &[u64], value: u64) -> usize {
        bounds.partition_point(|bound| *bound < value)
    }

    /// One more value.
    pub fn add(&mut self, value: u64) {
        if let Some(count) = self.counts.get_mut(Self::place(self.bounds, value)) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    /// Each bound, and how many values are not above it.
    pub fn up_to(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut total = 0;
        self.bounds.iter().zip(&self.counts).map(move |(bound, count)| {
            total += count;
            (*bound, total)
        })
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

/// What a vote says, in the order of [`Tally::votes`].
pub const VOTES: [&str; 8] =
    ["yes", "stale_view", "accepted", "stale_attempt", "gap", "lock_timeout", "storage", "malformed"];

fn place(refusal: Option<&Refusal>) -> usize {
    match refusal {
        None => 0,
        Some(Refusal::StaleView) => 1,
        Some(Refusal::Accepted(_)) => 2,
        Some(Refusal::StaleAttempt) => 3,
        Some(Refusal::Gap(_)) => 4,
        Some(Refusal::LockTimeout) => 5,
        Some(Refusal::Storage) => 6,
        Some(Refusal::Malformed) => 7,
    }
}

/// What the coordinator of a node counted while it was primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Batches of clients' operations that were committed, and whose clients were told.
    pub committed: u64,
    /// The same, aborted.
    pub aborted: u64,
    /// Operations of each committed batch.
    pub operations: Distribution,
    /// Text of each committed batch. Bytes.
    pub bytes: Distribution,
    /// From an entry's first sending until every replica had acknowledged its commit. Milliseconds.
    pub entry_ms: Distribution,
    /// Times that an entry was sent for votes under a new attempt; a letter that is sent again counts not.
    pub attempts: u64,
    /// Votes that counted, by what they say: of the view, attempt and slot that was asked for. See [`VOTES`].
    pub votes: [u64; VOTES.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            committed: 0,
            aborted: 0,
            operations: Distribution::new(OPERATIONS_BOUNDS),
            bytes: Distribution::new(BYTES_BOUNDS),
            entry_ms: Distribution::new(ENTRY_MS_BOUNDS),
            attempts: 0,
            votes: [0; VOTES.len()],
        }
    }
}

impl Tally {
    /// A vote that counts.
    pub fn vote(&mut self, refusal: Option<&Refusal>) {
        self.votes[place(refusal)] += 1;
    }

    /// The clients of a batch are told: of so many operations, with so much text.
    pub fn finished(&mut self, aborted: bool, operations: usize, bytes: usize) {
        if aborted {
            self.aborted += 1;
            return;
        }
        self.committed += 1;
        self.operations.add(operations as u64);
        self.bytes.add(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_up_to_every_bound_that_it_is_not_above() {
        let mut sizes = Distribution::new(&[1, 10, 100]);
        [0, 1, 2, 10, 101].into_iter().for_each(|value| sizes.add(value));
        assert_eq!(sizes.up_to().collect::<Vec<_>>(), [(1, 2), (10, 4), (100, 4)]);
        assert_eq!((sizes.count(), sizes.sum()), (5, 114));
    }

    #[test]
    fn every_vote_has_a_name_of_its_own() {
        use crate::ids::Index;
        let mut tally = Tally::default();
        tally.vote(None);
        tally.vote(Some(&Refusal::Gap(Index(7))));
        tally.vote(Some(&Refusal::Malformed));
        let named: Vec<_> = VOTES.into_iter().zip(tally.votes).filter(|(_, count)| *count > 0).collect();
        assert_eq!(named, [("yes", 1), ("gap", 1), ("malformed", 1)]);
    }

    #[test]
    fn batches_are_counted_by_their_end_and_measured_when_they_took_effect() {
        let mut tally = Tally::default();
        tally.finished(false, 3, 100);
        tally.finished(false, 1, 5);
        tally.finished(true, 9, 900);
        assert_eq!((tally.committed, tally.aborted), (2, 1));
        assert_eq!((tally.operations.count(), tally.operations.sum(), tally.bytes.sum()), (2, 4, 105));
    }
}
