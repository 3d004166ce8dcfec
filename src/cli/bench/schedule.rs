//! The open loop's schedule: when each operation is meant to be sent, whatever became of those before it.
//!
//! Operation `k` is due at `begin + k / rate`. A client that is free takes the next one that is due; when none is free they wait,
//! and that wait is part of their latency, since latency counts from the moment at which an operation was due. (A generator
//! that counts from sending hides every stall behind the requests that it did not send: Tene, "How NOT to Measure Latency", 2013.)
//!
//! A thread of its own says what is due: the timers of the async runtime count whole milliseconds.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The shortest pause of the thread that says what is due: what is due meanwhile is late by as much, which counts as its latency. A
/// wake-up for each operation would cost more than the operation.
const TICK: Duration = Duration::from_micros(500);

/// When operations are due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    begin: Instant,
    per_second: f64,
    count: u64,
}

impl Schedule {
    /// So many a second from this moment on, for so long.
    pub fn new(begin: Instant, per_second: f64, lasts: Duration) -> Self {
        // A float that is too large becomes the largest number, which is what it means.
        let count = (per_second * lasts.as_secs_f64()).ceil().max(0.0) as u64;
        Self { begin, per_second, count }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// When this one is due, counted from 0.
    pub fn due_at(&self, number: u64) -> Instant {
        self.begin + Duration::from_secs_f64(number as f64 / self.per_second)
    }

    /// How many are due by now.
    pub fn due_by(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.begin).as_secs_f64();
        ((since * self.per_second).floor() as u64).saturating_add(1).min(self.count)
    }
}

/// Hands out what is due, one at a time, in order.
pub struct Turns {
    schedule: Schedule,
    taken: Cell<u64>,
    due: Arc<Semaphore>,
}

impl Turns {
    /// Begins: the thread that says what is due ends by itself when all is.
    pub fn begin(schedule: Schedule) -> std::io::Result<Self> {
        let due = Arc::new(Semaphore::new(0));
        let permits = due.clone();
        std::thread::Builder::new().name("schedule".to_owned()).spawn(move || release(schedule, &permits))?;
        Ok(Self { schedule, taken: Cell::new(0), due })
    }

    /// When the next operation was due, once it is; none when all were taken, or it was ended.
    pub async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.taken.get();
        self.taken.set(number + 1);
        if number + 1 == self.schedule.count() {
            self.end();
        }
        Some(self.schedule.due_at(number))
    }

    /// Hands out no more.
    pub fn end(&self) {
        self.due.close();
    }

    /// How many were never taken.
    pub fn left(&self) -> u64 {
        self.schedule.count() - self.taken.get()
    }
}

fn release(schedule: Schedule, permits: &Semaphore) {
    let mut released = 0;
    while released < schedule.count() && !permits.is_closed() {
        let due = schedule.due_by(Instant::now());
        permits.add_permits(usize::try_from(due - released).unwrap_or(0));
        released = due;
        std::thread::sleep(schedule.due_at(released).saturating_duration_since(Instant::now()).max(TICK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_due_at_even_distances_from_the_beginning() {
        let begin = Instant::now();
        let schedule = Schedule::new(begin, 400.0, Duration::from_secs(3));
        assert_eq!(schedule.count(), 1_200);
        let at = |number: u64| schedule.due_at(number) - begin;
        assert_eq!([at(0), at(1), at(400)], [Duration::ZERO, Duration::from_micros(2_500), Duration::from_secs(1)]);
        let due_after = |us| schedule.due_by(begin + Duration::from_micros(us));
        assert_eq!([0, 2_499, 2_500, 1_000_000].map(due_after), [1, 1, 2, 401]);
        assert_eq!(due_after(60_000_000), 1_200, "and no more than there are");
    }

    #[test]
    fn a_rate_need_not_be_whole() {
        let schedule = Schedule::new(Instant::now(), 0.5, Duration::from_secs(3));
        assert_eq!((schedule.count(), schedule.due_at(1) - schedule.due_at(0)), (2, Duration::from_secs(2)));
    }

    #[actix_rt::test]
    async fn a_late_taker_is_told_when_it_was_due() {
        let begin = Instant::now() - Duration::from_secs(100);
        let schedule = Schedule::new(begin, 10.0, Duration::from_secs(1));
        let turns = Turns::begin(schedule).expect("a thread");
        for number in 0..10 {
            assert_eq!(turns.next().await, Some(schedule.due_at(number)), "in order, however late");
        }
        assert_eq!((turns.next().await, turns.left()), (None, 0));
    }

    #[actix_rt::test]
    async fn what_nobody_took_is_counted() {
        let turns = Turns::begin(Schedule::new(Instant::now(), 1e6, Duration::from_secs(1_000))).expect("a thread");
        assert!(turns.next().await.is_some());
        turns.end();
        assert_eq!((turns.next().await, turns.left()), (None, 999_999_999));
    }
}
