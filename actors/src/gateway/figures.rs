//! What a gateway counts of its clients' calls, for people.
//!
//! Not here: HTTP requests, of which some never become a call (`src/http` counts those).

use crate::figures::{Counter, Level};
use lockstep_protocol::operation::{Answer, OperationError, Outcome};

/// What a call was answered, in the order of [`GatewayFigures::writes`].
pub const ANSWERS: [&str; 9] = [
    "done",
    "aborted",
    "no_primary",
    "too_few_replicas",
    "overloaded",
    "outcome_unknown",
    "key_reused",
    "channel_not_found",
    "message_not_found",
];

/// Calls, by what became of them.
#[derive(Debug, Default)]
pub struct GatewayFigures {
    /// Calls under way or held.
    pub under_way: Level,
    /// Those of them that wait because nobody is known to lead.
    pub on_hold: Level,
    /// Calls that had to wait for that.
    pub held: Counter,
    /// Tries after a call's first.
    pub retries: Counter,
    /// Writes that were answered. See [`ANSWERS`].
    pub writes: [Counter; ANSWERS.len()],
    /// The same of reads.
    pub reads: [Counter; ANSWERS.len()],
}

impl GatewayFigures {
    /// A call is answered.
    pub fn answered(&self, is_write: bool, answer: &Answer) {
        let counters = if is_write { &self.writes } else { &self.reads };
        counters[place(answer)].add(1);
    }
}

fn place(answer: &Answer) -> usize {
    match answer {
        Answer::Written(Outcome::Aborted, _) | Answer::Failed(OperationError::Aborted) => 1,
        Answer::Written(..) | Answer::Read(..) | Answer::Operator(_) => 0,
        Answer::Failed(OperationError::NotPrimary { .. }) => 2,
        Answer::Failed(OperationError::TooFewReplicas { .. }) => 3,
        Answer::Failed(OperationError::Overloaded) => 4,
        Answer::Failed(OperationError::OutcomeUnknown) => 5,
        Answer::Failed(OperationError::KeyReused) => 6,
        Answer::Failed(OperationError::ChannelNotFound { .. }) => 7,
        Answer::Failed(OperationError::MessageNotFound { .. }) => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_under_its_name() {
        let figures = GatewayFigures::default();
        figures.answered(true, &Answer::Failed(OperationError::Overloaded));
        figures.answered(false, &Answer::Failed(OperationError::OutcomeUnknown));
        let named = |counters: &[Counter]| {
            let counted = ANSWERS.into_iter().zip(counters).filter(|(_, counter)| counter.get() > 0);
            counted.map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!((named(&figures.writes), named(&figures.reads)), (vec!["overloaded"], vec!["outcome_unknown"]));
    }
}
