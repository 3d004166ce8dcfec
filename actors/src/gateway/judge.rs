//! What a gateway does with the outcome of one try (section 10): tell the client, or hold the request and try again.
//!
//! Tries repeat the same idempotency key, so a write that took effect twice is no danger; that the client is told the truth
//! is: once one try *may* have taken effect, nothing that says "it never did" is passed on.

use super::CallFailed;
use lockstep_protocol::operation::{Answer, OperationError};

/// How one try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The node answered.
    Answered(Answer),
    /// It did not.
    Failed(CallFailed),
    /// A later view named another primary meanwhile: this one will not answer, or not with anything that counts.
    Deposed,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The client is told this.
    Tell(Answer),
    /// Try again, where somebody leads.
    Again {
        /// Whether the node that was asked leads must be asked first.
        is_trouble: bool,
        /// The shortest wait before.
        pause_ms: u64,
    },
}

/// The shortest wait after a try that a node refused. Milliseconds; the caller adds a random part of the same size.
const PAUSE_MS: u64 = 4;

/// The wait after `TooFewReplicas`: a node joins in seconds, not in milliseconds.
const FEW_REPLICAS_PAUSE_MS: u64 = 50;

/// One request's tries so far.
#[derive(Clone, Debug)]
pub struct Tries {
    is_write: bool,
    /// Whether one of them may have taken effect.
    in_doubt: bool,
    last_refusal: Option<OperationError>,
}

impl Tries {
    /// None yet.
    #[must_use]
    pub fn new(is_write: bool) -> Self {
        Self { is_write, in_doubt: false, last_refusal: None }
    }

    /// A try ended.
    pub fn judge(&mut self, outcome: Outcome) -> Next {
        match outcome {
            Outcome::Answered(Answer::Failed(error)) => self.on_error(error),
            Outcome::Answered(answer @ (Answer::Written(..) | Answer::Read(..) | Answer::Operator(_))) => {
                Next::Tell(answer)
            }
            // Never sent: certainly without effect. Another node may lead by now, so no pause.
            Outcome::Failed(CallFailed::Unreached) => Next::Again { is_trouble: true, pause_ms: 0 },
            Outcome::Failed(CallFailed::Refused(_)) => {
                Next::Again { is_trouble: true, pause_ms: FEW_REPLICAS_PAUSE_MS }
            }
            Outcome::Failed(CallFailed::Lost) | Outcome::Deposed => {
                self.in_doubt = self.is_write;
                Next::Again { is_trouble: true, pause_ms: 0 }
            }
        }
    }

    fn on_error(&mut self, error: OperationError) -> Next {
        match error {
            OperationError::NotPrimary { .. } => {
                self.last_refusal = Some(error);
                Next::Again { is_trouble: true, pause_ms: PAUSE_MS }
            }
            OperationError::OutcomeUnknown => {
                self.in_doubt = self.is_write;
                Next::Again { is_trouble: true, pause_ms: PAUSE_MS }
            }
            OperationError::TooFewReplicas { .. } => {
                self.last_refusal = Some(error);
                Next::Again { is_trouble: false, pause_ms: FEW_REPLICAS_PAUSE_MS }
            }
            OperationError::Overloaded if self.in_doubt => {
                Next::Again { is_trouble: false, pause_ms: FEW_REPLICAS_PAUSE_MS }
            }
            OperationError::Overloaded
            | OperationError::Aborted
            | OperationError::KeyReused
            | OperationError::ChannelNotFound { .. }
            | OperationError::MessageNotFound { .. } => Next::Tell(Answer::Failed(error)),
        }
    }

    /// The time is over, while a try was under way or between two.
    #[must_use]
    pub fn give_up(self, is_under_way: bool, nobody_leads: OperationError) -> Answer {
        if self.is_write && (self.in_doubt || is_under_way) {
            return Answer::Failed(OperationError::OutcomeUnknown);
        }
        Answer::Failed(self.last_refusal.unwrap_or(nobody_leads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_protocol::ids::ViewNumber;

    fn failed(error: OperationError) -> Outcome {
        Outcome::Answered(Answer::Failed(error))
    }

    fn not_primary() -> OperationError {
        OperationError::NotPrimary { view: ViewNumber(1), primary: None }
    }

    #[test]
    fn section_10_a_refused_write_is_tried_again_and_was_never_in_doubt() {
        let mut tries = Tries::new(true);
        assert!(matches!(tries.judge(failed(not_primary())), Next::Again { is_trouble: true, .. }));
        assert!(matches!(tries.judge(Outcome::Failed(CallFailed::Unreached)), Next::Again { pause_ms: 0, .. }));
        let few = OperationError::TooFewReplicas { replicas: 1, needed: 2 };
        assert!(matches!(tries.judge(failed(few.clone())), Next::Again { is_trouble: false, .. }));
        assert_eq!(tries.give_up(false, not_primary()), Answer::Failed(few));
    }

    #[test]
    fn section_10_a_write_that_may_have_taken_effect_is_never_called_undone() {
        for doubtful in [Outcome::Failed(CallFailed::Lost), Outcome::Deposed, failed(OperationError::OutcomeUnknown)] {
            let mut tries = Tries::new(true);
            assert!(matches!(tries.judge(doubtful), Next::Again { .. }));
            assert!(matches!(tries.judge(failed(OperationError::Overloaded)), Next::Again { .. }));
            assert!(matches!(tries.judge(failed(not_primary())), Next::Again { .. }));
            assert_eq!(tries.give_up(false, not_primary()), Answer::Failed(OperationError::OutcomeUnknown));
        }
        assert_eq!(Tries::new(true).give_up(true, not_primary()), Answer::Failed(OperationError::OutcomeUnknown));
    }

    #[test]
    fn a_read_is_never_in_doubt() {
        let mut tries = Tries::new(false);
        assert!(matches!(tries.judge(Outcome::Failed(CallFailed::Lost)), Next::Again { .. }));
        assert_eq!(tries.give_up(true, not_primary()), Answer::Failed(not_primary()));
    }

    #[test]
    fn overload_and_final_errors_are_told_at_once() {
        for error in [OperationError::Overloaded, OperationError::Aborted, OperationError::KeyReused] {
            assert_eq!(Tries::new(true).judge(failed(error.clone())), Next::Tell(Answer::Failed(error)));
        }
    }
}
