//! What one seed draws before anything runs: the cluster, its settings, its weather, its faults and its clients' calls.
//!
//! Each kind of fault is in or out as a whole (swarm testing): a run with one kind of fault goes deeper than one with a
//! little of each. All times scale with the cluster's heartbeat, so a quick cluster sees as many failures as a slow one.
//!
//! A plan is plain data, so that a failing one can be made smaller and run again (`story.rs`).
//!
//! Source: Groce and others, "Swarm Testing", 2012.

use crate::machine::{Limits, Timing};
use fastrand::Rng;

/// Microseconds in a millisecond.
pub const MS: u64 = 1_000;
/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;
/// Parts in a million.
pub const PPM: u32 = 1_000_000;

/// What whoever runs a seed fixes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Data nodes, 1 to 5; drawn when not given.
    pub data: Option<u32>,
    /// Witnesses, 0 to 3; drawn when not given.
    pub witnesses: Option<u32>,
}

/// How letters and processes fare while the faults last. `ppm`: parts in a million, of letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Lost.
    pub loss_ppm: u32,
    /// Repeated, the copy after a delay of its own.
    pub repeat_ppm: u32,
    /// Delayed by up to `late_us`.
    pub late_ppm: u32,
    /// Not delivered, and reported as a reset connection.
    pub reset_ppm: u32,
    /// A letter to a dead process is reported as refused; else it is only lost.
    pub refused_ppm: u32,
    /// The longest extraordinary delay.
    pub late_us: u64,
    /// The longest ordinary delay.
    pub delay_us: u64,
    /// Whether letters of one lane may overtake each other.
    pub overtake: bool,
    /// The longest that a machine's step waits for its turn.
    pub turn_us: u64,
    /// The longest that the disk takes to serve.
    pub disk_us: u64,
}

impl Weather {
    /// What is left when the faults stop.
    #[must_use]
    pub fn calm(&self) -> Self {
        Self {
            loss_ppm: 0,
            repeat_ppm: 0,
            late_ppm: 0,
            reset_ppm: 0,
            refused_ppm: PPM,
            late_us: 0,
            delay_us: 500,
            overtake: false,
            turn_us: 20,
            disk_us: 400,
        }
    }
}

/// One thing that goes wrong. Nodes are places in the list: data nodes first, then witnesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies while it carries out its next effects, after so many of them; it is back later.
    Crash {
        /// Who.
        node: usize,
        /// How many effects are still carried out.
        effects: u32,
        /// How long it stays away.
        away_us: u64,
        /// Whether the disk is caught in the middle of what it was asked.
        torn: bool,
    },
    /// As `Crash`, of whoever serves as primary then.
    CrashPrimary {
        /// How many effects are still carried out.
        effects: u32,
        /// How long it stays away.
        away_us: u64,
        /// Whether the disk is caught in the middle of what it was asked.
        torn: bool,
    },
    /// Two groups lose sight of each other.
    Partition {
        /// Who is on one side.
        side: u32,
        /// How long.
        lasts_us: u64,
    },
    /// Nobody can reach whoever serves as primary then, nor it them.
    IsolatePrimary {
        /// How long.
        lasts_us: u64,
    },
    /// Letters of one node to another are lost.
    Cut {
        /// From.
        from: usize,
        /// To.
        to: usize,
        /// How long.
        lasts_us: u64,
    },
    /// The wall clock jumps.
    ClockStep {
        /// Whose.
        node: usize,
        /// By how much. Microseconds.
        by_us: i64,
    },
    /// The disk takes long.
    SlowDisk {
        /// Whose.
        node: usize,
        /// How long at most, each time.
        disk_us: u64,
        /// How long this lasts.
        lasts_us: u64,
    },
    /// The machines get their turn late.
    SlowNode {
        /// Whose.
        node: usize,
        /// How late at most.
        turn_us: u64,
        /// How long this lasts.
        lasts_us: u64,
    },
    /// The disk's next write or flush fails; the process ends.
    DiskFails {
        /// Whose.
        node: usize,
        /// The write, else the flush.
        write: bool,
        /// How long it stays away.
        away_us: u64,
    },
    /// Somebody holds a channel's lock, so that votes on it are no.
    HoldLock {
        /// Where.
        node: usize,
        /// Which channel.
        channel: u32,
        /// How long.
        lasts_us: u64,
    },
    /// The next vote request that the primary sends is not what it means, so that the vote is no and the batch aborted.
    Garble,
    /// The node loses its disk, where the promise allows it, and is back as another voter.
    Wipe {
        /// Who.
        node: usize,
        /// How long it stays away.
        away_us: u64,
    },
    /// The operator stops a node: it hands over first, if it leads.
    Stop {
        /// Who.
        node: usize,
        /// How long after the request the process ends.
        grace_us: u64,
        /// How long it stays away.
        away_us: u64,
    },
    /// The operator removes a node for good.
    Remove {
        /// Whom.
        node: usize,
        /// How often the operator asks.
        times: u8,
    },
    /// The operator drains a node for a while.
    Drain {
        /// Whom.
        node: usize,
        /// How long, unless it is restarted before.
        lasts_us: u64,
    },
}

/// One thing that a client wants. Its details are drawn from `dice` when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// When.
    pub at_us: u64,
    /// Where its randomness comes from.
    pub dice: u64,
}

/// How the run ends, after the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All nodes live.
    All,
    /// Once all is well, all but a quorum with one data node die at the same moment.
    Survivors,
}

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Data nodes.
    pub data: u32,
    /// Witnesses.
    pub witnesses: u32,
    /// How many of the data nodes are seeds; the others join.
    pub seeds: u32,
    /// Whether the run begins with a view that lists all seeds, and witnesses as there is room; else with empty disks.
    pub is_born: bool,
    /// When each process starts first.
    pub starts: Vec<u64>,
    /// The protocol's times.
    pub timing: Timing,
    /// The protocol's limits.
    pub limits: Limits,
    /// The weather till `faults_end_us`.
    pub weather: Weather,
    /// What goes wrong, in order of time.
    pub faults: Vec<(u64, Fault)>,
    /// What clients want, in order of time.
    pub calls: Vec<Call>,
    /// How many of a thousand calls are writes.
    pub writes_permille: u32,
    /// How many channels there are.
    pub channels: u32,
    /// When the faults stop.
    pub faults_end_us: u64,
    /// What comes then.
    pub ending: Ending,
}

impl Plan {
    /// What this seed draws.
    #[must_use]
    pub fn new(seed: u64, shape: Shape) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x10c4_57e9_5eed_0001);
        let data = shape.data.unwrap_or_else(|| pick(&mut rng, &[1, 2, 2, 3, 3, 3, 3, 3, 4, 5])).clamp(1, 5);
        let witnesses = shape.witnesses.unwrap_or_else(|| pick(&mut rng, &[0, 0, 1, 2, 2, 3])).min(3);
        let timing = timing(&mut rng);
        let beat = timing.heartbeat_timeout_ms * MS;
        let faults_end_us = beat * rng.u64(4..=10);
        let nodes = (data + witnesses) as usize;
        let seeds = if rng.u8(0..4) == 0 { rng.u32(1..=data) } else { data };
        let is_born = rng.u8(0..3) > 0;
        let starts = starts(&mut rng, nodes, seeds as usize, faults_end_us);
        let channels = rng.u32(1..=4);
        let mut dealer = Dealer { rng: &mut rng, nodes, beat, channels, end: faults_end_us, faults: Vec::new() };
        dealer.deal();
        let mut faults = dealer.faults;
        faults.sort_by_key(|(at, _)| *at);
        let limits = limits(&mut rng, faults_end_us);
        let calls = calls(&mut rng, faults_end_us);
        let writes_permille = pick(&mut rng, &[300, 500, 500, 700]);
        let weather = weather(&mut rng, beat);
        let ending = if rng.u8(0..4) == 0 { Ending::Survivors } else { Ending::All };
        Self {
            seed,
            data,
            witnesses,
            seeds,
            is_born,
            starts,
            timing,
            limits,
            weather,
            faults,
            calls,
            writes_permille,
            channels,
            faults_end_us,
            ending,
        }
    }

    /// All processes: data nodes, then witnesses.
    #[must_use]
    pub fn nodes(&self) -> usize {
        (self.data + self.witnesses) as usize
    }

    /// A heartbeat's timeout: the measure of all waiting in a run. Microseconds.
    #[must_use]
    pub fn beat_us(&self) -> u64 {
        self.timing.heartbeat_timeout_ms * MS
    }
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(0..of.len())]
}

/// The default times, up to twelve times as short.
fn timing(rng: &mut Rng) -> Timing {
    let by = pick(rng, &[1, 2, 4, 8, 12]);
    let default = Timing::default();
    let mut scale = |ms: u64| (ms / by).max(5) * rng.u64(8..=12) / 10;
    Timing {
        heartbeat_interval_ms: scale(default.heartbeat_interval_ms),
        heartbeat_timeout_ms: scale(default.heartbeat_timeout_ms),
        vote_timeout_ms: scale(default.vote_timeout_ms),
        slow_replica_limit_ms: scale(default.slow_replica_limit_ms),
        slow_replica_window_ms: scale(default.slow_replica_window_ms),
        resend_ms: scale(default.resend_ms),
        lock_timeout_ms: scale(default.lock_timeout_ms),
        election_answer_timeout_ms: scale(default.election_answer_timeout_ms),
        election_victory_timeout_ms: scale(default.election_victory_timeout_ms),
        election_retry_ms: scale(default.election_retry_ms),
        takeover_backoff_ms: scale(default.takeover_backoff_ms / 4),
        gather_timeout_ms: scale(default.gather_timeout_ms),
        sync_timeout_ms: scale(default.sync_timeout_ms / 2),
        seek_interval_ms: scale(default.seek_interval_ms),
    }
}

fn limits(rng: &mut Rng, faults_end_us: u64) -> Limits {
    let retention = if rng.u8(0..10) == 0 { faults_end_us / 4 } else { Limits::default().idempotency_retention_us };
    Limits {
        batch_ops_max: pick(rng, &[1, 2, 1_000]),
        queue_ops_max: pick(rng, &[3, 10_000, 10_000]),
        idempotency_retention_us: retention,
        log_retain_entries: pick(rng, &[2, 10, 100_000]),
        log_retain_bytes: pick(rng, &[1_000, 1 << 20, 256 << 20]),
        chunk_bytes: pick(rng, &[64, 400, 1 << 20]),
        sync_rounds_max: pick(rng, &[1, 4, 20]),
        ..Limits::default()
    }
}

/// The seeds begin at about the same time, the others whenever they like.
fn starts(rng: &mut Rng, nodes: usize, seeds: usize, end: u64) -> Vec<u64> {
    let together = rng.bool();
    let latest = |node: usize| match (node < seeds, together) {
        (true, true) => 10 * MS,
        (true, false) => end / 4,
        (false, _) => end / 2,
    };
    (0..nodes).map(|node| rng.u64(0..latest(node).max(1))).collect()
}

fn calls(rng: &mut Rng, end: u64) -> Vec<Call> {
    let count = rng.u64(15..=50);
    // Some come in bursts, so that batches form and locks are waited for.
    let bursts = rng.bool();
    let mut at = 0;
    let mut calls: Vec<Call> = (0..count)
        .map(|_| {
            if !bursts || rng.u8(0..4) == 0 {
                at = rng.u64(0..end);
            }
            Call { at_us: at, dice: rng.u64(..) }
        })
        .collect();
    calls.sort_by_key(|call| call.at_us);
    calls
}

fn weather(rng: &mut Rng, beat: u64) -> Weather {
    let mut rate = |most: u32| if rng.bool() { rng.u32(0..=most) } else { 0 };
    let (loss_ppm, repeat_ppm, late_ppm, reset_ppm) = (rate(80_000), rate(100_000), rate(60_000), rate(3_000));
    Weather {
        loss_ppm,
        repeat_ppm,
        late_ppm,
        reset_ppm,
        refused_ppm: pick(rng, &[0, 500_000, PPM]),
        late_us: beat * rng.u64(1..=3),
        delay_us: pick(rng, &[200, 1_000, 5_000]),
        overtake: rng.bool(),
        turn_us: pick(rng, &[5, 50, 300]),
        disk_us: pick(rng, &[100, 500, 5_000]),
    }
}

/// How many of a kind at most, and how one is drawn.
type Kind<'a> = (u8, fn(&mut Dealer<'a>) -> Fault);

/// Draws faults, each kind with its own rate or not at all.
struct Dealer<'a> {
    rng: &'a mut Rng,
    nodes: usize,
    beat: u64,
    channels: u32,
    end: u64,
    faults: Vec<(u64, Fault)>,
}

impl<'a> Dealer<'a> {
    fn deal(&mut self) {
        let kinds: [Kind<'a>; 14] = [
            (4, Self::crash),
            (4, Self::crash_primary),
            (3, Self::partition),
            (3, Self::isolate_primary),
            (4, Self::cut),
            (3, Self::clock),
            (3, Self::slow_disk),
            (3, Self::slow_node),
            (2, Self::disk_fails),
            (5, Self::hold_lock),
            (2, Self::wipe),
            (2, Self::stop),
            (2, Self::remove),
            (2, Self::drain),
        ];
        for (most, draw) in kinds {
            self.some(most, draw);
        }
        self.some(8, |_| Fault::Garble);
    }

    fn some(&mut self, most: u8, draw: fn(&mut Self) -> Fault) {
        if self.rng.u8(0..5) >= 2 {
            return;
        }
        for _ in 0..self.rng.u8(1..=most) {
            let at = self.rng.u64(0..self.end);
            let fault = draw(self);
            self.faults.push((at, fault));
        }
    }

    fn node(&mut self) -> usize {
        self.rng.usize(0..self.nodes)
    }

    /// Shorter and longer than what others wait for.
    fn while_us(&mut self) -> u64 {
        let most = self.beat * pick(self.rng, &[1, 2, 4]);
        self.rng.u64(most / 20..=most)
    }

    fn crash(&mut self) -> Fault {
        let (node, torn) = (self.node(), self.rng.bool());
        Fault::Crash { node, effects: self.rng.u32(0..30), away_us: self.while_us(), torn }
    }

    fn crash_primary(&mut self) -> Fault {
        let torn = self.rng.bool();
        Fault::CrashPrimary { effects: self.rng.u32(0..60), away_us: self.while_us(), torn }
    }

    fn partition(&mut self) -> Fault {
        Fault::Partition { side: self.rng.u32(..), lasts_us: self.while_us() }
    }

    fn isolate_primary(&mut self) -> Fault {
        Fault::IsolatePrimary { lasts_us: self.while_us() }
    }

    fn cut(&mut self) -> Fault {
        let (from, to) = (self.node(), self.node());
        Fault::Cut { from, to, lasts_us: self.while_us() }
    }

    fn clock(&mut self) -> Fault {
        let most = pick(self.rng, &[SECOND, 3_600 * SECOND]).cast_signed();
        Fault::ClockStep { node: self.node(), by_us: self.rng.i64(-most..=most) }
    }

    fn slow_disk(&mut self) -> Fault {
        let disk_us = self.rng.u64(MS..=self.beat);
        Fault::SlowDisk { node: self.node(), disk_us, lasts_us: self.while_us() }
    }

    fn slow_node(&mut self) -> Fault {
        let turn_us = self.rng.u64(MS..=self.beat / 4);
        Fault::SlowNode { node: self.node(), turn_us, lasts_us: self.while_us() }
    }

    fn disk_fails(&mut self) -> Fault {
        Fault::DiskFails { node: self.node(), write: self.rng.bool(), away_us: self.while_us() }
    }

    fn hold_lock(&mut self) -> Fault {
        let channel = self.rng.u32(0..self.channels);
        Fault::HoldLock { node: self.node(), channel, lasts_us: self.while_us() }
    }

    fn wipe(&mut self) -> Fault {
        Fault::Wipe { node: self.node(), away_us: self.while_us() }
    }

    fn remove(&mut self) -> Fault {
        Fault::Remove { node: self.node(), times: self.rng.u8(1..=3) }
    }

    fn drain(&mut self) -> Fault {
        Fault::Drain { node: self.node(), lasts_us: self.while_us() }
    }

    fn stop(&mut self) -> Fault {
        let grace_us = self.rng.u64(0..self.beat);
        Fault::Stop { node: self.node(), grace_us, away_us: self.while_us() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_plan_and_keeps_its_bounds() {
        for seed in 0..500 {
            let plan = Plan::new(seed, Shape::default());
            assert_eq!(plan, Plan::new(seed, Shape::default()));
            assert!((1..=5).contains(&plan.data) && plan.witnesses <= 3 && (1..=plan.data).contains(&plan.seeds));
            assert_eq!(plan.starts.len(), plan.nodes());
            assert!(plan.faults.is_sorted_by_key(|(at, _)| *at) && plan.calls.is_sorted_by_key(|call| call.at_us));
            assert!(plan.timing.heartbeat_timeout_ms >= 2 * plan.timing.heartbeat_interval_ms);
        }
    }

    #[test]
    fn the_shape_can_be_fixed() {
        let plan = Plan::new(7, Shape { data: Some(3), witnesses: Some(2) });
        assert_eq!((plan.data, plan.witnesses, plan.nodes()), (3, 2, 5));
    }
}
