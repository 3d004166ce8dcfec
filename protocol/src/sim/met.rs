//! How often a run met each kind of fault, and each corner that faults are meant to drive it into.
//!
//! A simulator that never reaches a corner shows nothing about it; so `lockstep sim` prints these, and a test demands that
//! each of them occurs.
//!
//! Not here: where they are counted (`corners.rs`, `faults.rs`, `lasting.rs`).

/// A kind of fault that took effect, or a corner that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each has its name for people below")]
pub enum Met {
    Crashes,
    TornGroups,
    LostUnflushed,
    Ambushes,
    Flaps,
    Partitions,
    PrimaryIsolated,
    CutsOneWay,
    CutsOfPairs,
    Deaf,
    Mute,
    TillTheEnd,
    ClockSteps,
    ClockStepsOfAnHour,
    ClocksThatDrift,
    SlowDisks,
    SlowNodes,
    HundredfoldSlow,
    FailedWrites,
    FailedFlushes,
    FullDisks,
    StartsOnFullDisks,
    FlippedBits,
    LostDisks,
    HeldLocks,
    GarbledEntries,
    Stops,
    Removals,
    Drains,
    Views,
    ViewsWhileAnotherIsDecided,
    Outbids,
    AcceptedTakenOver,
    RestartsWithAccepted,
    RestartsWithTail,
    Inherited,
    Aborts,
    HandOvers,
    TakeOvers,
    JoinsBegun,
    JoinsFinished,
    JoinsWithSnapshot,
    JoinsWhileThePrimaryDies,
    WitnessesListed,
    StepDowns,
    SetOfflineSlow,
    Survivors,
    CoresChosen,
    CoresChosenAnew,
    CoresWithoutDuty,
    IllDead,
    IllCut,
    IllDeaf,
    IllMute,
    IllPartial,
    IllSlow,
    IllFlapping,
    IllFullDisk,
    IllLossy,
    IllBlinking,
    IllWell,
}

impl Met {
    /// All of them, in order.
    pub const ALL: [Self; 61] = {
        use Met::*;
        [
            Crashes,
            TornGroups,
            LostUnflushed,
            Ambushes,
            Flaps,
            Partitions,
            PrimaryIsolated,
            CutsOneWay,
            CutsOfPairs,
            Deaf,
            Mute,
            TillTheEnd,
            ClockSteps,
            ClockStepsOfAnHour,
            ClocksThatDrift,
            SlowDisks,
            SlowNodes,
            HundredfoldSlow,
            FailedWrites,
            FailedFlushes,
            FullDisks,
            StartsOnFullDisks,
            FlippedBits,
            LostDisks,
            HeldLocks,
            GarbledEntries,
            Stops,
            Removals,
            Drains,
            Views,
            ViewsWhileAnotherIsDecided,
            Outbids,
            AcceptedTakenOver,
            RestartsWithAccepted,
            RestartsWithTail,
            Inherited,
            Aborts,
            HandOvers,
            TakeOvers,
            JoinsBegun,
            JoinsFinished,
            JoinsWithSnapshot,
            JoinsWhileThePrimaryDies,
            WitnessesListed,
            StepDowns,
            SetOfflineSlow,
            Survivors,
            CoresChosen,
            CoresChosenAnew,
            CoresWithoutDuty,
            IllDead,
            IllCut,
            IllDeaf,
            IllMute,
            IllPartial,
            IllSlow,
            IllFlapping,
            IllFullDisk,
            IllLossy,
            IllBlinking,
            IllWell,
        ]
    };

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crashes => "crashes",
            Self::TornGroups => "crashes in the middle of a write or flush",
            Self::LostUnflushed => "crashes that lost what was not flushed",
            Self::Ambushes => "crashes at a chosen letter",
            Self::Flaps => "crashes of one that flaps",
            Self::Partitions => "partitions",
            Self::PrimaryIsolated => "primaries cut off",
            Self::CutsOneWay => "links cut in one direction",
            Self::CutsOfPairs => "pairs cut that both see others",
            Self::Deaf => "nodes that hear nobody",
            Self::Mute => "nodes that nobody hears",
            Self::TillTheEnd => "cuts until the faults end",
            Self::ClockSteps => "wall clocks that jump",
            Self::ClockStepsOfAnHour => "wall clocks that jump by an hour",
            Self::ClocksThatDrift => "timers that drift",
            Self::SlowDisks => "slow disks",
            Self::SlowNodes => "slow nodes",
            Self::HundredfoldSlow => "nodes 100 times slower",
            Self::FailedWrites => "failed writes",
            Self::FailedFlushes => "failed flushes",
            Self::FullDisks => "full disks",
            Self::StartsOnFullDisks => "starts on a full disk",
            Self::FlippedBits => "flipped bits, each detected",
            Self::LostDisks => "lost disks",
            Self::HeldLocks => "locks held by a stranger",
            Self::GarbledEntries => "garbled entries",
            Self::Stops => "stops by an operator",
            Self::Removals => "removals asked for",
            Self::Drains => "drains",
            Self::Views => "view changes",
            Self::ViewsWhileAnotherIsDecided => "proposals beside another for the same view",
            Self::Outbids => "ballots outbid",
            Self::AcceptedTakenOver => "proposals taken over from a lost candidate",
            Self::RestartsWithAccepted => "restarts with an accepted view",
            Self::RestartsWithTail => "restarts with entries in doubt",
            Self::Inherited => "primaries that found entries in doubt",
            Self::Aborts => "aborts",
            Self::HandOvers => "views handed over",
            Self::TakeOvers => "takeovers asked for",
            Self::JoinsBegun => "joins begun",
            Self::JoinsFinished => "joins finished",
            Self::JoinsWithSnapshot => "joins with a snapshot",
            Self::JoinsWhileThePrimaryDies => "primaries that died during a join",
            Self::WitnessesListed => "witnesses listed",
            Self::StepDowns => "primaries that stepped down",
            Self::SetOfflineSlow => "replicas set offline for being slow",
            Self::Survivors => "all but a quorum dead at once",
            Self::CoresChosen => "healthy cores that had to serve",
            Self::CoresChosenAnew => "cores chosen anew: an earlier campaign left them out",
            Self::CoresWithoutDuty => "runs whose core was left out again and again",
            Self::IllDead => "for ever: dead",
            Self::IllCut => "for ever: cut off",
            Self::IllDeaf => "for ever: hears nobody",
            Self::IllMute => "for ever: nobody hears it",
            Self::IllPartial => "for ever: some links, some directions",
            Self::IllSlow => "for ever: 100 times slower",
            Self::IllFlapping => "for ever: crashes and restarts",
            Self::IllFullDisk => "for ever: disk full",
            Self::IllLossy => "for ever: loses letters",
            Self::IllBlinking => "for ever: cut off now and then",
            Self::IllWell => "outside the core, and well",
        }
    }

    /// Whether only runs for liveness meet it.
    #[must_use]
    pub fn is_of_liveness(self) -> bool {
        self >= Self::CoresChosen
    }
}

/// How often each was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meetings([u32; Met::ALL.len()]);

impl Default for Meetings {
    fn default() -> Self {
        Self([0; Met::ALL.len()])
    }
}

impl Meetings {
    /// One more.
    pub fn add(&mut self, met: Met) {
        self.0[met as usize] = self.0[met as usize].saturating_add(1);
    }

    /// How many.
    #[must_use]
    pub fn count(&self, met: Met) -> u32 {
        self.0[met as usize]
    }
}

/// What many runs met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    runs: u64,
    /// In how many runs, and how often in all.
    of: [(u64, u64); Met::ALL.len()],
}

impl Default for Totals {
    fn default() -> Self {
        Self { runs: 0, of: [(0, 0); Met::ALL.len()] }
    }
}

impl Totals {
    /// One more run.
    pub fn add(&mut self, run: &Meetings) {
        self.runs += 1;
        for met in Met::ALL {
            let (runs, times) = &mut self.of[met as usize];
            *runs += u64::from(run.count(met) > 0);
            *times += u64::from(run.count(met));
        }
    }

    /// What others met, too.
    pub fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        for ((runs, times), (more_runs, more_times)) in self.of.iter_mut().zip(other.of) {
            *runs += more_runs;
            *times += more_times;
        }
    }

    /// In how many runs this was met.
    #[must_use]
    pub fn runs_with(&self, met: Met) -> u64 {
        self.of[met as usize].0
    }

    /// A table: in how many of a hundred runs, how often in all, what.
    #[must_use]
    pub fn table(&self) -> Vec<String> {
        let met = Met::ALL.into_iter().filter(|met| !met.is_of_liveness() || self.runs_with(Met::CoresChosen) > 0);
        let line = |met: Met| {
            let (runs, times) = self.of[met as usize];
            format!("{:>6.2} % {times:>9}  {}", 100.0 * runs as f64 / self.runs.max(1) as f64, met.name())
        };
        met.map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_listed_in_order_and_have_names_of_their_own() {
        assert!(Met::ALL.iter().enumerate().all(|(place, met)| *met as usize == place));
        let names: std::collections::BTreeSet<_> = Met::ALL.iter().map(|met| met.name()).collect();
        assert_eq!(names.len(), Met::ALL.len());
    }
}
