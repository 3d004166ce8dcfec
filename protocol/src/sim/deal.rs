//! What goes wrong in a run, as its seed draws it.
//!
//! Each seed draws how many kinds of fault there are at all, each kind is in or out as a whole, and a kind that is in comes now
//! and then or all the time (swarm testing): a run with much of one kind goes deeper than one with a little of each.
//!
//! Not here: what a fault does (`faults.rs`).
//!
//! Source: Groce and others, "Swarm Testing", 2012.

use super::plan::{Fault, Ill, Lasting, MS, Moment, SECOND, pick};
use fastrand::Rng;

/// What faults are drawn for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    /// How many nodes there are.
    pub nodes: usize,
    /// The data node with the highest id.
    pub highest: usize,
    /// A heartbeat's timeout. Microseconds.
    pub beat: u64,
    /// How many channels there are.
    pub channels: u32,
    /// When the faults end. Microseconds.
    pub end: u64,
}

/// An hour. Microseconds.
const HOUR: i64 = 3_600 * SECOND.cast_signed();
/// The most that a timer runs too fast or too slow. Parts in a million.
pub(super) const DRIFT_PPM_MAX: i32 = 50_000;

/// How many of a kind at most, where it comes now and then, and how one is drawn.
type Kind<'a> = (u8, fn(&mut Dealer<'a>) -> Fault);

struct Dealer<'a> {
    rng: &'a mut Rng,
    ground: Ground,
    /// How many kinds of a hundred are in.
    kinds_percent: u8,
    faults: Vec<(u64, Fault)>,
}

/// The faults of a run, in order of time.
pub(super) fn faults(rng: &mut Rng, ground: &Ground) -> Vec<(u64, Fault)> {
    let kinds_percent = pick(rng, &[0, 8, 16, 25, 25, 35, 50]);
    let mut dealer = Dealer { rng, ground: *ground, kinds_percent, faults: Vec::new() };
    dealer.deal();
    let mut faults = dealer.faults;
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// In every other run all timers are true.
pub(super) fn drifts_ppm(rng: &mut Rng, nodes: usize) -> Vec<i32> {
    let most = if rng.bool() { DRIFT_PPM_MAX } else { 0 };
    (0..nodes).map(|_| rng.i32(-most..=most)).collect()
}

/// What ails whom for ever. In some runs all that are ill have the same.
pub(super) fn lasting(rng: &mut Rng, ground: &Ground) -> Lasting {
    let same = (rng.u8(0..3) == 0).then(|| ill(rng, ground));
    let ills = (0..ground.nodes).map(|_| same.unwrap_or_else(|| ill(rng, ground))).collect();
    Lasting { ills, dice: rng.u64(..) }
}

fn ill(rng: &mut Rng, ground: &Ground) -> Ill {
    let mut ways = || {
        let most = ground.beat * pick(rng, &[1, 4, 8]);
        (rng.u64(most / 20..=most), rng.u64(MS..=2 * ground.beat))
    };
    let (up_us, away_us) = ways();
    match rng.u8(0..14) {
        0 | 1 => Ill::Dead,
        2 => Ill::Cut,
        3 | 4 => Ill::Deaf,
        5 => Ill::Mute,
        6 | 7 => Ill::Partial { hears: rng.u8(..), heard_by: rng.u8(..) },
        8 => Ill::Hundredfold,
        9 => Ill::Flaps { up_us, away_us: away_us / 2 },
        10 => Ill::DiskFull,
        11 => Ill::Lossy,
        12 => Ill::Blinks { up_us, away_us },
        _ => Ill::Well,
    }
}

impl<'a> Dealer<'a> {
    fn deal(&mut self) {
        let kinds: [Kind<'a>; 23] = [
            (4, Self::crash),
            (4, Self::crash_primary),
            (3, Self::partition),
            (3, Self::isolate_primary),
            (4, Self::cut),
            (2, Self::cut_pair),
            (2, Self::deaf),
            (2, Self::mute),
            (1, Self::flap),
            (4, Self::ambush),
            (3, Self::clock),
            (3, Self::slow_disk),
            (3, Self::slow_node),
            (2, Self::hundredfold),
            (2, Self::disk_full),
            (2, Self::disk_fails),
            (2, Self::flip_bit),
            (5, Self::hold_lock),
            (8, |_| Fault::Garble),
            (2, Self::wipe),
            (2, Self::stop),
            (2, Self::remove),
            (2, Self::drain),
        ];
        for (most, draw) in kinds {
            self.some(most, draw);
        }
    }

    fn some(&mut self, most: u8, draw: fn(&mut Self) -> Fault) {
        if self.rng.u8(0..100) >= self.kinds_percent {
            return;
        }
        let by = pick(self.rng, &[1, 1, 1, 1, 3]);
        for _ in 0..self.rng.u8(1..=most * by) {
            let at = self.rng.u64(0..self.ground.end);
            let fault = draw(self);
            self.faults.push((at, fault));
        }
    }

    fn node(&mut self) -> usize {
        self.rng.usize(0..self.ground.nodes)
    }

    /// Shorter and longer than what others wait for.
    fn while_us(&mut self) -> u64 {
        let most = self.ground.beat * pick(self.rng, &[1, 2, 4]);
        self.rng.u64(most / 20..=most)
    }

    /// The same, or until the faults end.
    fn long_us(&mut self) -> u64 {
        if self.rng.u8(0..6) == 0 { u64::MAX } else { self.while_us() }
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
        Fault::Partition { side: self.rng.u32(..), lasts_us: self.long_us() }
    }

    fn isolate_primary(&mut self) -> Fault {
        Fault::IsolatePrimary { lasts_us: self.while_us() }
    }

    fn cut(&mut self) -> Fault {
        let (from, to) = (self.node(), self.node());
        Fault::Cut { from, to, lasts_us: self.long_us() }
    }

    fn cut_pair(&mut self) -> Fault {
        let (one, other) = (self.node(), self.node());
        Fault::CutPair { one, other, lasts_us: self.long_us() }
    }

    fn deaf(&mut self) -> Fault {
        Fault::Deaf { node: self.node(), lasts_us: self.long_us() }
    }

    fn mute(&mut self) -> Fault {
        Fault::Mute { node: self.node(), lasts_us: self.long_us() }
    }

    /// Mostly the highest, since that one takes over again and again.
    fn flap(&mut self) -> Fault {
        let node = if self.rng.u8(0..4) > 0 { self.ground.highest } else { self.node() };
        let beat = self.ground.beat;
        let (up_us, away_us) = (self.rng.u64(beat / 20..=2 * beat), self.rng.u64(MS..=beat));
        Fault::Flap { node, up_us, away_us, times: self.rng.u32(2..=8) }
    }

    fn ambush(&mut self) -> Fault {
        let moments = [
            Moment::Prepare,
            Moment::Commit,
            Moment::Promise,
            Moment::Accept,
            Moment::Victory,
            Moment::SyncOk,
            Moment::Entries,
            Moment::EndSync,
        ];
        let (at, receiver) = (pick(self.rng, &moments), self.rng.bool());
        Fault::Ambush { at, receiver, effects: self.rng.u32(0..12), away_us: self.while_us() }
    }

    fn clock(&mut self) -> Fault {
        let by_us = match self.rng.u8(0..4) {
            0 => HOUR,
            1 => -HOUR,
            2 => self.rng.i64(-HOUR..=HOUR),
            _ => self.rng.i64(-SECOND.cast_signed()..=SECOND.cast_signed()),
        };
        Fault::ClockStep { node: self.node(), by_us }
    }

    fn slow_disk(&mut self) -> Fault {
        let disk_us = self.rng.u64(MS..=self.ground.beat);
        Fault::SlowDisk { node: self.node(), disk_us, lasts_us: self.while_us() }
    }

    fn slow_node(&mut self) -> Fault {
        let turn_us = self.rng.u64(MS..=self.ground.beat / 4);
        Fault::SlowNode { node: self.node(), turn_us, lasts_us: self.while_us() }
    }

    fn hundredfold(&mut self) -> Fault {
        Fault::Hundredfold { node: self.node(), lasts_us: self.while_us() }
    }

    fn disk_full(&mut self) -> Fault {
        Fault::DiskFull { node: self.node(), lasts_us: self.while_us() }
    }

    fn disk_fails(&mut self) -> Fault {
        Fault::DiskFails { node: self.node(), write: self.rng.bool(), away_us: self.while_us() }
    }

    fn flip_bit(&mut self) -> Fault {
        Fault::FlipBit { node: self.node(), dice: self.rng.u64(..), away_us: self.while_us() }
    }

    fn hold_lock(&mut self) -> Fault {
        let channel = self.rng.u32(0..self.ground.channels);
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
        let grace_us = self.rng.u64(0..self.ground.beat);
        Fault::Stop { node: self.node(), grace_us, away_us: self.while_us() }
    }
}
