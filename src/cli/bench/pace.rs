//! When a client may ask again: at once (closed loop), when an operation is due (open loop), or until enough is there (preload).

use super::schedule::Turns;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How the clients of one stage are paced.
pub enum Pace {
    /// Each client asks again as soon as it is answered, until this moment.
    Closed {
        /// The end.
        until: Instant,
    },
    /// Each free client takes the next operation that is due.
    Open(Turns),
    /// Until so many are done: each error is one more to do.
    Count {
        /// How many are to do.
        left: Cell<u64>,
        /// How many errors may come yet.
        errors_left: Cell<u32>,
    },
}

impl Pace {
    /// The moment at which the next operation of a client is due, once it is; none when it is over.
    pub async fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        match self {
            Self::Closed { until } => (now < *until).then_some(now),
            Self::Open(turns) => turns.next().await,
            Self::Count { left, errors_left } => {
                let rest = left.get().checked_sub(1).filter(|_| errors_left.get() > 0)?;
                left.set(rest);
                Some(now)
            }
        }
    }

    /// After an operation, which was an error if there is a pause to make. The open loop makes none: its rate is its own.
    pub async fn rest(&self, pause: Option<Duration>) {
        let Some(pause) = pause else { return };
        match self {
            Self::Closed { until } => {
                tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            }
            Self::Open(_) => {}
            Self::Count { left, errors_left } => {
                left.set(left.get() + 1);
                errors_left.set(errors_left.get().saturating_sub(1));
                tokio::time::sleep(pause).await;
            }
        }
    }
}
