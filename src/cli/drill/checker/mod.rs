//! Whether a record can be explained by one order of all its calls: linearizability, of all reads and writes at once.
//!
//! **What is checked.** The store is one object: channels of messages, each message with the stars of users. A record is refused
//! unless there is one order of its calls in which each lies between its call and its return (Herlihy and Wing, 1990), every answer
//! shows the store as it is at that place, and ids grow, over all channels. A write of which nobody knows what became of it may
//! lie anywhere after its call, or nowhere; one that was refused lies nowhere. Nothing is believed that the cluster says about
//! itself: receipts (view, index) order nothing here, they are held against time on their own (`receipts.rs`).
//!
//! **Why this is quick**, although the question is NP-hard in general (Gibbons and Korach, 1997): the order of the writes can be seen.
//! - Posts: an id that any answer shows says where a post lies among all others. A post that nobody saw and nobody acknowledged
//!   changes no answer, and is put last.
//! - Stars: each is a register of its own (message, user), which its user alone writes, one call after the other, and never
//!   again after a call of which it knows no outcome. So its versions are known, and one without an outcome is the last.
//! - Then every answer says between which two writes it lies: a page after the newest post that it shows and before the next one
//!   of its channel, a star after the version that it shows and before the next version.
//!
//! That is a graph of "must come before" (`order.rs`). An order exists exactly when the graph has no circle and no call must
//! come after one that was called after it had returned. *Sound*: each edge holds in every order that explains the record.
//! *Complete*: without such a circle or path, put each call at the latest call time of all that must come before it; that lies
//! before its own return, and the order of these points, ties broken by the graph, explains every answer. Cost: the edges, once.
//!
//! One thing is left to try: a read that lasted longer than a star's whole round (given, taken back) may have seen the state
//! before or after. Such choices are first narrowed by time, and then tried one after the other, which is exponential in their
//! number alone; a drill has next to none.
//!
//! The proof by test: `tests.rs` has doctored records, each refused for its own reason, and compares with a search by Wing and Gong
//! (the crate `todc-utils`), which knows nothing of graphs, on two thousand random records.
//!
//! Source: Herlihy, Wing, "Linearizability: A Correctness Condition for Concurrent Objects", 1990; Gibbons, Korach, "Testing Shared
//! Memories", 1997 (when the order of writes is known); Adya, 1999 (reads-from, overwritten-by, as edges).

mod contents;
mod explain;
mod graph;
mod order;
mod receipts;
mod stars;
#[cfg(test)]
mod tests;
mod violation;

pub use violation::{Violation, describe};

use super::history::{Call, End};
use contents::Posts;
use std::collections::BTreeMap;

/// How many violations are told; one is enough to fail.
const TOLD_MAX: usize = 20;

/// What came of a check.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is broken, the plainest first, at most [`TOLD_MAX`].
    pub violations: Vec<Violation>,
    /// How many were found.
    pub found: usize,
    /// Calls that were judged, by kind.
    pub judged: BTreeMap<&'static str, u64>,
    /// Calls of which nobody knows what became of them, and those that were refused.
    pub unknown: u64,
    /// See `unknown`.
    pub refused: u64,
    /// Reads that could have seen more than one version of a star, which were tried.
    pub choices: usize,
}

impl Verdict {
    fn add(&mut self, violations: impl IntoIterator<Item = Violation>) {
        for violation in violations {
            self.found += 1;
            if self.violations.len() < TOLD_MAX {
                self.violations.push(violation);
            }
        }
    }

    fn count(&mut self, calls: &[Call]) {
        for call in calls {
            match call.end {
                End::Answered { .. } => *self.judged.entry(call.wish.kind()).or_default() += 1,
                End::Refused { .. } => self.refused += 1,
                End::Unknown { .. } => self.unknown += 1,
            }
        }
    }
}

/// A record that no check can judge: it was not made by the rules. Never the cluster's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record was not made by its own rules: {0}")]
pub struct Malformed(pub String);

/// Judges a record, all of it.
///
/// # Errors
/// When it is none: a call that returned before it was called, a client that wrote a star twice at once.
pub fn check(calls: &[Call]) -> Result<Verdict, Malformed> {
    let mut verdict = Verdict::default();
    verdict.count(calls);
    if let Some(place) = calls.iter().position(|call| call.called >= call.ended()) {
        return Err(Malformed(format!("it returned before it was called: {}", describe(place, &calls[place]))));
    }
    let stars = stars::Registers::new(calls)?;
    let posts = Posts::new(calls, &mut verdict);
    verdict.add(receipts::check(calls));
    // What is wrong by itself would only be told again, in other words, by the order of all.
    if verdict.found == 0 {
        match order::check(calls, &posts, &stars) {
            Ok(choices) => verdict.choices = choices,
            Err(violation) => verdict.add([*violation]),
        }
    }
    Ok(verdict)
}
