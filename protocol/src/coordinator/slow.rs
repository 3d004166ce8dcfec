//! A replica that holds every write up: whose vote comes last, and long after all others', for a while on end.
//!
//! - It is compared with the others of the same batch: when all are slow, nobody is to blame.
//! - One vote in time clears it, so that a disk that stalls now and then is borne with.
//! - Not the primary itself, and never so that fewer than two copies are left, or than `replication.min_replicas`.
//!
//! Not here: one that does not vote at all (`sending.rs`), and its coming back, which waits longer each time (`sync.rs`).

use super::Coordinator;
use crate::change::Fault;
use crate::ids::{Millis, NodeId, Now, Voter};
use crate::machine::{Effects, Timing};
use crate::view::View;

/// So few late votes prove nothing, however long they took together.
const VOTES_MIN: u32 = 3;
/// What is kept however slow a replica is.
const COPIES_MIN: usize = 2;

/// Who was last to vote, and late, in the latest batches.
#[derive(Clone, Debug, Default)]
pub(super) struct Laggard {
    latest: Option<Late>,
}

#[derive(Clone, Debug)]
struct Late {
    who: NodeId,
    since: Millis,
    last: Millis,
    votes: u32,
}

impl Laggard {
    /// All have voted, this one last, so long after the one before it. Whether it has held writes up for long enough.
    fn is_too_slow(&mut self, now: Millis, who: NodeId, behind_ms: u64, timing: &Timing) -> bool {
        if behind_ms <= timing.slow_replica_limit_ms {
            self.latest = None;
            return false;
        }
        // What was late long ago, with nothing written since, says nothing about now.
        let goes_on = |late: &Late| late.who == who && now.since(late.last) <= timing.slow_replica_window_ms;
        let late = self.latest.take().filter(goes_on);
        let mut late = late.unwrap_or(Late { who, since: Millis(now.0 - behind_ms.min(now.0)), last: now, votes: 0 });
        late.last = now;
        late.votes += 1;
        let is_too_slow = late.votes >= VOTES_MIN && now.since(late.since) >= timing.slow_replica_window_ms;
        self.latest = Some(late).filter(|_| !is_too_slow);
        is_too_slow
    }
}

impl Coordinator {
    /// The votes of an entry are complete; sets the last one's sender offline if it was too slow for too long.
    pub(super) fn judge_slowness(&mut self, now: Now, view: &View, last: NodeId, before: Millis) -> Effects {
        let behind_ms = now.elapsed.since(before);
        let copies_min = COPIES_MIN.max(usize::try_from(self.limits.replicas_min).unwrap_or(usize::MAX));
        let is_spared = Voter::Replica(last) == self.me.voter || view.replicas.len() <= copies_min;
        if !self.laggard.is_too_slow(now.elapsed, last, behind_ms, &self.timing) || is_spared {
            return Effects::none();
        }
        let (limit_ms, ms) = (self.timing.slow_replica_limit_ms, self.timing.slow_replica_window_ms);
        self.set_offline(now, &[last], Fault::Late { limit_ms, ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of each vote: who was last, when, and how far behind.
    fn judged(votes: &[(u32, u64, u64)]) -> Vec<bool> {
        let (mut laggard, timing) = (Laggard::default(), Timing::default());
        let mut judge =
            |(who, at, behind): (u32, u64, u64)| laggard.is_too_slow(Millis(at), NodeId(who), behind, &timing);
        votes.iter().map(|vote| judge(*vote)).collect()
    }

    #[test]
    fn r8_late_for_the_whole_window_is_too_slow() {
        let late: Vec<_> = (0..8).map(|n| (1, 10_000 + n * 500, 60)).collect();
        assert_eq!(
            judged(&late),
            [false, false, false, false, false, false, true, false],
            "after 3 s, and from there anew"
        );
        let prompt: Vec<_> = (0..20).map(|n| (1, 10_000 + n * 500, 50)).collect();
        assert!(!judged(&prompt).contains(&true));
    }

    #[test]
    fn r8_one_vote_in_time_or_another_laggard_or_a_pause_clears_it() {
        let mut votes: Vec<_> = (0..20).map(|n| (1, 10_000 + n * 500, if n % 5 == 4 { 10 } else { 60 })).collect();
        assert!(!judged(&votes).contains(&true), "one in five is in time");
        votes = (0..20).map(|n| (u32::from(n % 5 == 4), 10_000 + n * 500, 60)).collect();
        assert!(!judged(&votes).contains(&true), "another one was last");
        votes = (0..20).map(|n| (1, 10_000 + n * 3_100, 60)).collect();
        assert!(!judged(&votes).contains(&true), "seldom written, seldom late");
        assert!(!judged(&[(1, 10_000, 60), (1, 13_000, 3_500)]).contains(&true), "two votes prove nothing");
    }
}
