//! Which faults there are, and in which order a seed has them.
//!
//! The order is a deck of cards: every kind comes up once before any comes up again. Who is hit is drawn with the fault, as a
//! role, since a seed cannot know who will be primary.
//!
//! Not here: doing it (`nemesis.rs`).

use fastrand::Rng;
use serde::Serialize;
use std::time::Duration;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Kill -9 of one data node.
    Kill,
    /// Kill -9 of all data nodes but one, at one moment.
    KillSeveral,
    /// Kill -9 of all data nodes, at one moment.
    KillAll,
    /// A data node is stopped, and goes on later as if nothing had been.
    Pause,
    /// A data node is stopped and goes on again and again: a machine that is too slow.
    Stutter,
    /// A data node is cut off from all others.
    Cut,
    /// A data node is not heard any more, or does not hear any more.
    CutOneWay,
    /// All that is sent to a data node comes late.
    Delay,
    /// A data node's disk does not flush any more: its process ends by itself.
    FailedFlush,
    /// A data node's disk is full: its process ends by itself.
    FullDisk,
    /// A fourth data node joins, and is removed again.
    Join,
    /// A data node is killed, loses its disk, and comes back with an empty one.
    Wipe,
    /// Kill -9 of a gateway, and so of its witness.
    KillGateway,
    /// Every process is asked to stop and started again, one after the other.
    RollingRestart,
}

/// All of them.
pub const KINDS: [Kind; 14] = [
    Kind::Kill,
    Kind::KillSeveral,
    Kind::KillAll,
    Kind::Pause,
    Kind::Stutter,
    Kind::Cut,
    Kind::CutOneWay,
    Kind::Delay,
    Kind::FailedFlush,
    Kind::FullDisk,
    Kind::Join,
    Kind::Wipe,
    Kind::KillGateway,
    Kind::RollingRestart,
];

impl Kind {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillSeveral => "kill-several",
            Self::KillAll => "kill-all",
            Self::Pause => "pause",
            Self::Stutter => "stutter",
            Self::Cut => "cut",
            Self::CutOneWay => "cut-one-way",
            Self::Delay => "delay",
            Self::FailedFlush => "failed-flush",
            Self::FullDisk => "full-disk",
            Self::Join => "join",
            Self::Wipe => "wipe",
            Self::KillGateway => "kill-gateway",
            Self::RollingRestart => "rolling-restart",
        }
    }

    /// Reads what was typed.
    ///
    /// # Errors
    /// When there is no such fault; the text names those that there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = KINDS.into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| format!("there is no such fault; there are {}", KINDS.map(Self::name).join(", ")))
    }
}

/// Which data node is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever is primary then.
    Primary,
    /// Another one than the primary: the lowest, or the highest.
    Replica { highest: bool },
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Who.
    pub who: Who,
    /// How long it lasts, beside what it takes to begin it.
    pub lasts: Duration,
    /// Which of two ways: it is not heard, or does not hear; the first gateway, or the last.
    pub other_way: bool,
}

/// A fault lasts so long at least, and at most. Milliseconds. The longest is longer than a failover by silence takes.
const LASTS_MS: std::ops::RangeInclusive<u64> = 1_500..=6_000;

/// All faults of a seed, one after the other, without an end.
#[derive(Debug)]
pub struct Deck {
    random: Rng,
    kinds: Vec<Kind>,
    left: Vec<Kind>,
}

impl Deck {
    /// Of these kinds.
    pub fn new(seed: u64, kinds: &[Kind]) -> Self {
        Self { random: Rng::with_seed(seed), kinds: kinds.to_vec(), left: Vec::new() }
    }
}

impl Iterator for Deck {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.random.shuffle(&mut self.left);
        }
        let kind = self.left.pop()?;
        let (is_primary, highest) = (self.random.bool(), self.random.bool());
        let who = if is_primary { Who::Primary } else { Who::Replica { highest } };
        let lasts = Duration::from_millis(self.random.u64(LASTS_MS));
        Some(Fault { kind, who, lasts, other_way: self.random.bool() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn one_seed_has_one_order_of_faults_and_another_another() {
        let of = |seed| Deck::new(seed, &KINDS).take(40).collect::<Vec<_>>();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn every_kind_comes_up_once_before_any_comes_up_again() {
        let faults: Vec<_> = Deck::new(3, &KINDS).take(3 * KINDS.len()).collect();
        for round in faults.chunks(KINDS.len()) {
            assert_eq!(round.iter().map(|fault| fault.kind).collect::<BTreeSet<_>>().len(), KINDS.len());
        }
        assert!(faults.iter().all(|fault| LASTS_MS.contains(&u64::try_from(fault.lasts.as_millis()).expect("short"))));
        let of_primary = faults.iter().filter(|fault| fault.who == Who::Primary).count();
        assert!((1..faults.len()).contains(&of_primary), "both are hit");
    }

    #[test]
    fn without_kinds_there_are_no_faults() {
        assert_eq!(Deck::new(1, &[]).next(), None);
    }

    #[test]
    fn a_fault_is_typed_by_its_name() {
        for kind in KINDS {
            assert_eq!(Kind::parse(kind.name()), Ok(kind));
        }
        assert!(Kind::parse("flood").is_err_and(|why| why.ends_with("kill-gateway, rolling-restart")));
    }
}
