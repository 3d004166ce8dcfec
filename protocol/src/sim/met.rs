//! How often a run met each kind of fault, and each corner that faults are meant to drive it into.
//!
//! A simulator that never reaches a corner shows nothing about it; so `lockstep sim` prints these, and a test demands that
//! each of them occurs.
//!
//! Not here: where they are counted (`corners.rs`, `faults.rs`, `lasting.rs`).

/// One table: what there is, in order, and its name for people.
macro_rules! met {
    ($($met:ident => $name:literal,)*) => {
        /// A kind of fault that took effect, or a corner that was reached.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each has its name for people below")]
        pub enum Met {
            $($met,)*
        }

        impl Met {
            /// All of them, in order.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$met),*];

            /// For people.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$met => $name,)*
                }
            }
        }
    };
}

met! {
    Crashes => "crashes",
    TornGroups => "crashes in the middle of a write or flush",
    LostUnflushed => "crashes that lost what was not flushed",
    Ambushes => "crashes at a chosen letter",
    Flaps => "crashes of one that flaps",
    Partitions => "partitions",
    PrimaryIsolated => "primaries cut off",
    CutsOneWay => "links cut in one direction",
    CutsOfPairs => "pairs cut that both see others",
    Deaf => "nodes that hear nobody",
    Mute => "nodes that nobody hears",
    TillTheEnd => "cuts until the faults end",
    ClockSteps => "wall clocks that jump",
    ClockStepsOfAnHour => "wall clocks that jump by an hour",
    ClocksThatDrift => "timers that drift",
    SlowDisks => "slow disks",
    SlowNodes => "slow nodes",
    HundredfoldSlow => "nodes 100 times slower",
    FailedWrites => "failed writes",
    FailedFlushes => "failed flushes",
    FullDisks => "full disks",
    StartsOnFullDisks => "starts on a full disk",
    FlippedBits => "flipped bits, each detected",
    LostDisks => "lost disks",
    HeldLocks => "locks held by a stranger",
    ComeBetween => "turns of others between two effects of one step",
    RestBetween => "the same, for long",
    GarbledEntries => "garbled entries",
    Stops => "stops by an operator",
    Removals => "removals asked for",
    Drains => "drains",
    Views => "view changes",
    ViewsWhileAnotherIsDecided => "proposals beside another for the same view",
    Outbids => "ballots outbid",
    AcceptedTakenOver => "proposals taken over from a lost candidate",
    RestartsWithAccepted => "restarts with an accepted view",
    RestartsWithTail => "restarts with entries in doubt",
    Inherited => "primaries that found entries in doubt",
    Aborts => "aborts",
    HandOvers => "views handed over",
    TakeOvers => "takeovers asked for",
    JoinsBegun => "joins begun",
    JoinsFinished => "joins finished",
    JoinsWithSnapshot => "joins with a snapshot",
    JoinsWhileThePrimaryDies => "primaries that died during a join",
    WitnessesListed => "witnesses listed",
    StepDowns => "primaries that stepped down",
    SetOfflineSlow => "replicas set offline for being slow",
    Survivors => "all but a quorum dead at once",
    CoresChosen => "healthy cores that had to serve",
    CoresChosenAnew => "cores chosen anew: an earlier campaign left them out",
    CoresWithoutDuty => "runs whose core was left out again and again",
    IllDead => "for ever: dead",
    IllCut => "for ever: cut off",
    IllDeaf => "for ever: hears nobody",
    IllMute => "for ever: nobody hears it",
    IllPartial => "for ever: some links, some directions",
    IllSlow => "for ever: 100 times slower",
    IllFlapping => "for ever: crashes and restarts",
    IllFullDisk => "for ever: disk full",
    IllLossy => "for ever: loses letters",
    IllBlinking => "for ever: cut off now and then",
    IllWell => "outside the core, and well",
}

impl Met {
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
