//! What one seed draws before anything runs: the cluster, its settings, its weather, its faults and its clients' calls.
//!
//! All times scale with the cluster's heartbeat, so a quick cluster sees as many failures as a slow one. A plan is plain data,
//! so that a failing one can be made smaller and run again (`story.rs`).
//!
//! Not here: how faults are drawn (`deal.rs`).

use super::deal::{self, Ground};
use crate::machine::{Limits, Timing};
use fastrand::Rng;

/// Microseconds in a millisecond.
pub const MS: u64 = 1_000;
/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;
/// Parts in a million.
pub const PPM: u32 = 1_000_000;

/// The most witnesses of a run.
pub const WITNESSES_MAX: u32 = 3;

/// What whoever runs a seed fixes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Data nodes, 1 to 5; drawn when not given.
    pub data: Option<u32>,
    /// Witnesses, 0 to 3; drawn when not given.
    pub witnesses: Option<u32>,
    /// Whether faults become permanent at the end, and leave a core that has to serve (`lasting.rs`).
    pub is_lasting: bool,
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
    /// After a piece of what a step wants done, others have their turns before the next.
    pub between_ppm: u32,
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
            between_ppm: 0,
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
        /// How long; `u64::MAX`, here and in other cuts: until the faults end.
        lasts_us: u64,
    },
    /// Two nodes lose sight of each other, and both see all others.
    CutPair {
        /// One.
        one: usize,
        /// The other.
        other: usize,
        /// How long.
        lasts_us: u64,
    },
    /// No letter reaches the node; its own arrive.
    Deaf {
        /// Who.
        node: usize,
        /// How long.
        lasts_us: u64,
    },
    /// No letter of the node arrives; it hears all others.
    Mute {
        /// Who.
        node: usize,
        /// How long.
        lasts_us: u64,
    },
    /// A process crashes, starts again, and crashes again.
    Flap {
        /// Who.
        node: usize,
        /// How long it lives each time.
        up_us: u64,
        /// How long it stays away each time.
        away_us: u64,
        /// How often it crashes.
        times: u32,
    },
    /// When the next letter of a kind is sent, its sender or its receiver dies.
    Ambush {
        /// Which kind.
        at: Moment,
        /// The receiver, else the sender.
        receiver: bool,
        /// How many effects are still carried out.
        effects: u32,
        /// How long it stays away.
        away_us: u64,
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
    /// A node's steps, letters and disk take 100 times as long.
    Hundredfold {
        /// Whose.
        node: usize,
        /// How long this lasts.
        lasts_us: u64,
    },
    /// There is no space on the disk: every write fails, those of a start too.
    DiskFull {
        /// Whose.
        node: usize,
        /// How long.
        lasts_us: u64,
    },
    /// A bit of the disk flips while the process is down. It is found at the start, which is refused; the operator gives the node
    /// an empty disk, where the promise allows it.
    FlipBit {
        /// Whose.
        node: usize,
        /// Which bit.
        dice: u64,
        /// How long it stays away.
        away_us: u64,
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

impl Fault {
    /// Whom it befalls, when that is drawn beforehand.
    #[must_use]
    pub fn places(&self) -> [Option<usize>; 2] {
        match *self {
            Self::Crash { node, .. }
            | Self::Deaf { node, .. }
            | Self::Mute { node, .. }
            | Self::Flap { node, .. }
            | Self::ClockStep { node, .. }
            | Self::SlowDisk { node, .. }
            | Self::SlowNode { node, .. }
            | Self::Hundredfold { node, .. }
            | Self::DiskFull { node, .. }
            | Self::FlipBit { node, .. }
            | Self::DiskFails { node, .. }
            | Self::HoldLock { node, .. }
            | Self::Wipe { node, .. }
            | Self::Stop { node, .. }
            | Self::Remove { node, .. }
            | Self::Drain { node, .. } => [Some(node), None],
            Self::Cut { from, to, .. } => [Some(from), Some(to)],
            Self::CutPair { one, other, .. } => [Some(one), Some(other)],
            Self::CrashPrimary { .. }
            | Self::Partition { .. }
            | Self::IsolatePrimary { .. }
            | Self::Ambush { .. }
            | Self::Garble => [None, None],
        }
    }

    /// How long it lasts, of one that may as well last until the faults end.
    pub fn lasts_us_mut(&mut self) -> Option<&mut u64> {
        match self {
            Self::Partition { lasts_us, .. }
            | Self::IsolatePrimary { lasts_us }
            | Self::Cut { lasts_us, .. }
            | Self::CutPair { lasts_us, .. }
            | Self::Deaf { lasts_us, .. }
            | Self::Mute { lasts_us, .. }
            | Self::SlowDisk { lasts_us, .. }
            | Self::SlowNode { lasts_us, .. }
            | Self::Hundredfold { lasts_us, .. }
            | Self::DiskFull { lasts_us, .. }
            | Self::HoldLock { lasts_us, .. }
            | Self::Drain { lasts_us, .. } => Some(lasts_us),
            Self::Crash { .. }
            | Self::CrashPrimary { .. }
            | Self::Flap { .. }
            | Self::Ambush { .. }
            | Self::ClockStep { .. }
            | Self::FlipBit { .. }
            | Self::DiskFails { .. }
            | Self::Garble
            | Self::Wipe { .. }
            | Self::Stop { .. }
            | Self::Remove { .. } => None,
        }
    }
}

/// A letter that decides much: what dies with it is half done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A vote request.
    Prepare,
    /// A commit.
    Commit,
    /// A promise asked for.
    Promise,
    /// A view proposed.
    Accept,
    /// A view decided.
    Victory,
    /// A join let in.
    SyncOk,
    /// Entries for a joiner.
    Entries,
    /// A joiner that has everything.
    EndSync,
}

/// What is wrong for ever with a node outside the core that has to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ill {
    /// Nothing; but nobody relies on it.
    Well,
    /// It is dead.
    Dead,
    /// No letter passes between it and the core.
    Cut,
    /// It hears nothing from the core, and the core hears it.
    Deaf,
    /// It hears the core, and the core hears nothing from it.
    Mute,
    /// Of the core, it hears those whose bit is set in one mask, and those whose bit is set in the other hear it.
    Partial {
        /// Whom it hears.
        hears: u8,
        /// Who hears it.
        heard_by: u8,
    },
    /// Its steps, letters and disk take 100 times as long.
    Hundredfold,
    /// It crashes and starts again and again.
    Flaps {
        /// How long it lives each time.
        up_us: u64,
        /// How long it stays away each time.
        away_us: u64,
    },
    /// Its disk is full.
    DiskFull,
    /// Of the letters between it and anybody, half are lost, and some are reported as a reset connection.
    Lossy,
    /// Its links to the core are cut, whole, and cut again.
    Blinks {
        /// How long they are whole each time.
        up_us: u64,
        /// How long they are cut each time.
        away_us: u64,
    },
}

/// How a run for liveness ends: what ails whom, once a core is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lasting {
    /// Of each node, in case that it is not in the core.
    pub ills: Vec<Ill>,
    /// What the core is drawn from.
    pub dice: u64,
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
    /// How much faster each node's timers run than they should. Parts in a million, at most 5 % either way.
    pub drifts_ppm: Vec<i32>,
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
    /// What stays for ever, in a run for liveness.
    pub lasting: Option<Lasting>,
}

impl Plan {
    /// What this seed draws.
    #[must_use]
    pub fn new(seed: u64, shape: Shape) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x10c4_57e9_5eed_0001);
        let data = shape.data.unwrap_or_else(|| pick(&mut rng, &[1, 2, 2, 3, 3, 3, 3, 3, 4, 5])).clamp(1, 5);
        let witnesses = shape.witnesses.unwrap_or_else(|| pick(&mut rng, &[0, 0, 1, 2, 2, 3])).min(WITNESSES_MAX);
        let timing = timing(&mut rng);
        let beat = timing.heartbeat_timeout_ms * MS;
        let faults_end_us = beat * rng.u64(4..=10);
        let nodes = (data + witnesses) as usize;
        let seeds = if rng.u8(0..4) == 0 { rng.u32(1..=data) } else { data };
        let is_born = rng.u8(0..3) > 0;
        let starts = starts(&mut rng, nodes, seeds as usize, faults_end_us);
        let channels = rng.u32(1..=4);
        let highest = if ids_go_up(seed) { data as usize - 1 } else { 0 };
        let ground = Ground { nodes, highest, beat, channels, end: faults_end_us };
        let faults = deal::faults(&mut rng, &ground);
        let limits = limits(&mut rng, faults_end_us);
        let calls = calls(&mut rng, faults_end_us);
        let writes_permille = pick(&mut rng, &[300, 500, 500, 700]);
        let weather = weather(&mut rng, beat);
        let ending = if rng.u8(0..4) == 0 { Ending::Survivors } else { Ending::All };
        let drifts_ppm = deal::drifts_ppm(&mut rng, nodes);
        let lasting = shape.is_lasting.then(|| deal::lasting(&mut rng, &ground));
        Self {
            seed,
            data,
            witnesses,
            seeds,
            is_born,
            starts,
            drifts_ppm,
            timing,
            limits,
            weather,
            faults,
            calls,
            writes_permille,
            channels,
            faults_end_us,
            ending,
            lasting,
        }
    }

    /// Takes the last witness away, and what was to befall it.
    pub fn without_a_witness(&mut self) {
        if self.witnesses == 0 {
            return;
        }
        self.witnesses -= 1;
        let nodes = self.nodes();
        self.faults.retain(|(_, fault)| fault.places().into_iter().flatten().all(|place| place < nodes));
        self.starts.truncate(nodes);
        self.drifts_ppm.truncate(nodes);
        if let Some(lasting) = &mut self.lasting {
            lasting.ills.truncate(nodes);
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

/// One of these.
pub(super) fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(0..of.len())]
}

/// Whether ids go up with the places of the data nodes, else down: so a joiner may be the highest or the lowest.
pub(super) fn ids_go_up(seed: u64) -> bool {
    seed.is_multiple_of(2)
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
    let by = pick(rng, &[1, 1, 1, 3]);
    let mut rate = |most: u32| if rng.bool() { rng.u32(0..=most * by) } else { 0 };
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
        between_ppm: pick(rng, &[0, 20_000, 300_000]),
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
        let plan = Plan::new(7, Shape { data: Some(3), witnesses: Some(2), ..Shape::default() });
        assert_eq!((plan.data, plan.witnesses, plan.nodes()), (3, 2, 5));
    }
}
