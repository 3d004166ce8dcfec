//! Why a view changed, and how that went: the record that every view leaves behind, and the sentences that tell it.
//!
//! - The [`Cause`] is decided with the view, so that all nodes tell one story: what was wanted, who asked, who saw what.
//! - The [`Course`] is what only its primary knows once it serves: votes, durations, and the time without service.
//! - All of it is bounded: a list is cut to [`LIST_MAX`], and a letter that brings a longer one is malformed.
//!
//! Every sentence about a view change is made here, and nowhere else.
//!
//! Not here: who notices what (`heartbeat.rs`, `coordinator.rs`), how it is measured (`campaign/account.rs`,
//! `coordinator/course.rs`), and where the records lie (`store/views.rs`).

use crate::ids::{Ballot, Millis, NodeId, Timestamp, ViewNumber, Voter, WitnessName};
use crate::view::View;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// The most reasons, sightings or voters that a record lists.
pub const LIST_MAX: usize = 64;

/// What a voter noticed of the primary that it suspects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sign {
    /// Its connection was refused or reset: its process, or the link to it, ended.
    Reset,
    /// It answered no heartbeat for so long. Milliseconds.
    Silent {
        /// Since its last answer.
        ms: u64,
    },
    /// It answered that it leads no more.
    SteppedDown,
    /// It is this node itself, which has restarted (section 2), or stepped down.
    Restarted,
}

/// Why a voter is to be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// Its connection was refused or reset while its answer was awaited.
    Reset,
    /// No heartbeat came for so long. Milliseconds.
    Silent {
        /// Since the last one.
        ms: u64,
    },
    /// It neither voted nor acknowledged for so long, though it may be alive. Milliseconds.
    Slow {
        /// Since it was asked.
        ms: u64,
    },
    /// It voted so long after all others, and so for this while on end.
    Late {
        /// More than this. Milliseconds.
        limit_ms: u64,
        /// For so long. Milliseconds.
        ms: u64,
    },
    /// It voted `storage`: its disk fails, or its history is another.
    Storage,
    /// It called an entry malformed that may be committed.
    Malformed,
    /// Its log ends before what this view has sent.
    Gap,
}

/// Why a voter leaves that nothing is wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Leave {
    /// its process ends.
    Stops,
    /// an operator removed it for good.
    Removed,
    /// an operator drains it, for a while.
    Drained,
}

impl Leave {
    /// In one word, for programs.
    fn kind(self) -> &'static str {
        match self {
            Self::Stops => "stopped",
            Self::Removed => "removed",
            Self::Drained => "drained",
        }
    }
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stops => "stops",
            Self::Removed => "was removed for good",
            Self::Drained => "is drained",
        })
    }
}

/// One thing that the next view was wanted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// Section 9: the first view.
    Founded,
    /// Section 9: `lockstep recover` made this view of a node's last known one.
    Recovered {
        /// The last view that the node knew.
        from: ViewNumber,
        /// The view that the operator made.
        made: ViewNumber,
    },
    /// the primary is suspected; who saw what stands beside it.
    PrimaryLost {
        /// The primary.
        primary: NodeId,
    },
    /// left out.
    SetOffline {
        /// Who.
        voter: Voter,
        /// Why.
        fault: Fault,
    },
    ///
    NodeJoined {
        /// Who.
        node: NodeId,
    },
    ///
    WitnessJoined {
        /// Who.
        name: WitnessName,
    },
    /// another primary.
    HandedOver {
        /// Who was it.
        from: NodeId,
        /// Who is.
        to: NodeId,
        /// Why the first one leaves the view; else the second one asked, having the higher id.
        leaves: Option<Leave>,
    },
    /// a voter had accepted a next view that nobody brought to its end.
    Unfinished {
        /// Who.
        voter: Voter,
    },
    /// it leaves by somebody's wish, not by a fault.
    Left {
        /// Who.
        voter: Voter,
        /// Why.
        why: Leave,
    },
}

/// What kinds of causes there are, by the first reason of each; `election` when none is given.
pub const KINDS: [&str; 12] = [
    "election",
    "founded",
    "recovered",
    "primary_lost",
    "set_offline",
    "node_joined",
    "witness_joined",
    "stopped",
    "removed",
    "drained",
    "took_over",
    "unfinished",
];

impl Reason {
    /// What kind it is, in one word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Founded => "founded",
            Self::Recovered { .. } => "recovered",
            Self::PrimaryLost { .. } => "primary_lost",
            Self::SetOffline { .. } => "set_offline",
            Self::NodeJoined { .. } => "node_joined",
            Self::WitnessJoined { .. } => "witness_joined",
            Self::HandedOver { leaves: Some(why), .. } | Self::Left { why, .. } => why.kind(),
            Self::HandedOver { leaves: None, .. } => "took_over",
            Self::Unfinished { .. } => "unfinished",
        }
    }
}

/// Why a view was proposed. Decided with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// When who proposed it noticed that it was needed, by its clock.
    pub at: Timestamp,
    /// Who proposed it.
    pub asked_by: NodeId,
    /// What it was wanted for, in order.
    pub reasons: Vec<Reason>,
    /// What the voters noticed of the lost primary, as far as they said before it was proposed.
    pub seen: Vec<(Voter, Sign)>,
    /// Who else did not promise in time, and was left out for it.
    pub unheard: BTreeSet<Voter>,
}

impl Cause {
    /// A cause without sightings.
    #[must_use]
    pub fn new(at: Timestamp, asked_by: NodeId, reasons: Vec<Reason>) -> Self {
        Self { at, asked_by, reasons, seen: Vec::new(), unheard: BTreeSet::new() }
    }

    /// What kind it is: one of [`KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.reasons.first().map_or(KINDS[0], Reason::kind)
    }

    /// Whether what came from the network can be one.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        self.reasons.len().max(self.seen.len()).max(self.unheard.len()) <= LIST_MAX
    }

    fn tell(&self, reason: &Reason) -> String {
        match reason {
            Reason::Founded => format!("node {} founded the cluster", self.asked_by),
            Reason::Recovered { from, .. } => {
                format!("an operator recovered node {} from view {from}", self.asked_by)
            }
            Reason::PrimaryLost { primary } => self.tell_lost(*primary),
            Reason::SetOffline { voter, fault } => format!("{voter} {fault}"),
            Reason::NodeJoined { node } => format!("node {node} joined"),
            Reason::WitnessJoined { name } => format!("witness {name} joined"),
            Reason::HandedOver { from, to, leaves: Some(why) } => {
                format!("node {from} {why}, and handed over to node {to}")
            }
            Reason::HandedOver { from, to, leaves: None } => {
                format!("node {to} took over from node {from}, having the higher id")
            }
            Reason::Left { voter, why } => format!("{voter} {why}"),
            Reason::Unfinished { voter } => format!("{voter} had accepted a next view that nobody had finished"),
        }
    }

    fn tell_lost(&self, primary: NodeId) -> String {
        let first = self.seen.iter().find(|(voter, _)| *voter == Voter::Replica(self.asked_by)).or(self.seen.first());
        let Some((_, first)) = first else { return format!("node {primary} was lost") };
        let mut kinds: Vec<Sign> = vec![*first];
        for (_, sign) in &self.seen {
            if !kinds.iter().any(|kind| kind.is_like(sign)) {
                kinds.push(*sign);
            }
        }
        let told = kinds.iter().map(|kind| {
            let seers = self.seen.iter().filter(|(_, sign)| kind.is_like(sign)).map(|(voter, _)| short(voter));
            format!("{kind}, seen by {}", seers.collect::<Vec<_>>().join(", "))
        });
        format!("node {primary} {} ({})", first.verb(), told.collect::<Vec<_>>().join("; "))
    }
}

impl Sign {
    /// The same but for its length.
    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Reset => "died",
            Self::Silent { .. } => "fell silent",
            Self::SteppedDown => "stepped down",
            Self::Restarted => "restarted",
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("connection reset"),
            Self::Silent { ms } => write!(f, "no answer for {ms} ms"),
            Self::SteppedDown => f.write_str("it leads no more"),
            Self::Restarted => f.write_str("it leads no more since it started"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("died (connection reset)"),
            Self::Silent { ms } => write!(f, "fell silent (nothing heard for {ms} ms)"),
            Self::Late { limit_ms, ms } => {
                write!(f, "held writes up (its votes came more than {limit_ms} ms after all others for {ms} ms)")
            }
            Self::Slow { ms } => write!(f, "was too slow (no vote or acknowledgement for {ms} ms)"),
            Self::Storage => f.write_str("has a failing disk, or another history"),
            Self::Malformed => f.write_str("calls an entry malformed that may be committed"),
            Self::Gap => f.write_str("lacks entries that this view has sent"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.reasons.iter().map(|reason| self.tell(reason)).collect();
        if parts.is_empty() {
            parts.push(format!("node {} stood for election", self.asked_by));
        }
        if !self.unheard.is_empty() {
            parts.push(format!("no answer from {}", list(self.unheard.iter().map(ToString::to_string))));
        }
        f.write_str(&parts.join("; "))
    }
}

/// How a decided view was decided, as its decider knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decision {
    /// Under which ballot; it names the decider.
    pub ballot: Ballot,
    /// How many votes there were in the view before.
    pub votes: u32,
    /// Who promised.
    pub promised: BTreeSet<Voter>,
    /// Who is known to have accepted: a quorum, or more.
    pub accepted: BTreeSet<Voter>,
    /// From the last sign of life until the suspicion; 0 when nobody was suspected. Milliseconds.
    pub suspect_ms: u64,
    /// From there until the campaign could begin: the election and the trial. Milliseconds.
    pub trial_ms: u64,
    /// Until the promises were gathered. Milliseconds.
    pub promise_ms: u64,
    /// Until a quorum had accepted. Milliseconds.
    pub accept_ms: u64,
    /// For how long the cluster had been without service when this was told. Milliseconds.
    pub stalled_ms: u64,
}

impl Decision {
    /// Whether what came from the network can be one.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        self.promised.len().max(self.accepted.len()) <= LIST_MAX
    }
}

/// What the primary of a view knows once it serves. What it never learnt is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Course {
    /// Of which view.
    pub view: ViewNumber,
    /// How it was decided; none when another node decided it and its letter was lost.
    pub decision: Option<Decision>,
    /// From the view's beginning here until the log was finished. Milliseconds.
    pub finish_ms: u64,
    /// From there until this primary served. Milliseconds.
    pub serve_ms: u64,
    /// The time without service; none when its beginning is not known. Milliseconds.
    pub stall_ms: Option<u64>,
}

/// One view change, as every replica keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// The view's number.
    pub view: ViewNumber,
    /// Its primary.
    pub primary: NodeId,
    /// Its replicas.
    pub replicas: BTreeSet<NodeId>,
    /// Its witnesses.
    pub witnesses: BTreeSet<WitnessName>,
    /// Why it was proposed.
    pub cause: Cause,
    /// How it came about; none until its primary has told, and for ever when it could not.
    pub course: Option<Course>,
}

impl Change {
    /// What is known when the view entry is committed.
    #[must_use]
    pub fn new(view: &View) -> Self {
        Self {
            view: view.number,
            primary: view.primary,
            replicas: view.replicas.keys().copied().collect(),
            witnesses: view.witnesses.keys().cloned().collect(),
            cause: Cause::clone(&view.cause),
            course: None,
        }
    }

    /// The time without service, if it is known. Milliseconds.
    #[must_use]
    pub fn stall_ms(&self) -> Option<u64> {
        self.course.as_ref().and_then(|course| course.stall_ms)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; view {}, primary {}", self.cause, self.view, self.primary)?;
        if let Some(decision) = self.course.as_ref().and_then(|course| course.decision.as_ref()) {
            let took_ms = decision.trial_ms + decision.promise_ms + decision.accept_ms;
            write!(f, ", decided by {} of {} votes in {took_ms} ms", decision.accepted.len(), decision.votes)?;
        }
        match self.stall_ms() {
            Some(ms) => write!(f, "; writes stood still for {ms} ms"),
            None => Ok(()),
        }
    }
}

/// Since when, by one node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// What was noticed.
    pub sign: Sign,
    /// When the primary was last known to serve.
    pub served_at: Millis,
    /// When it was first suspected.
    pub noticed_at: Millis,
}

fn short(voter: &Voter) -> String {
    match voter {
        Voter::Replica(id) => id.to_string(),
        Voter::Witness(name) => name.to_string(),
    }
}

fn list(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{decision, node, witness};

    const LEAVES: [Leave; 3] = [Leave::Stops, Leave::Removed, Leave::Drained];

    fn cause(asked_by: u32, reasons: Vec<Reason>) -> Cause {
        Cause::new(Timestamp(0), NodeId(asked_by), reasons)
    }

    #[test]
    fn section_12_every_kind_of_cause_has_a_name_of_its_own() {
        let (from, to, voter) = (NodeId(1), NodeId(3), node(2).voter);
        let mut reasons = vec![
            Reason::Founded,
            Reason::Recovered { from: ViewNumber(1), made: ViewNumber(1_001) },
            Reason::PrimaryLost { primary: from },
            Reason::SetOffline { voter: voter.clone(), fault: Fault::Storage },
            Reason::NodeJoined { node: to },
            Reason::WitnessJoined { name: WitnessName::new("w1") },
            Reason::HandedOver { from, to, leaves: None },
            Reason::Unfinished { voter: voter.clone() },
        ];
        reasons.extend(LEAVES.map(|why| Reason::Left { voter: voter.clone(), why }));
        let named = reasons.into_iter().map(|reason| cause(3, vec![reason]).kind());
        let mut names: Vec<&str> = named.chain([cause(3, Vec::new()).kind()]).collect();
        let mut known = KINDS;
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        let is_word = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        assert!(names.iter().all(|name| is_word(name)), "{names:?}");
        for why in LEAVES {
            let alone = Reason::Left { voter: voter.clone(), why }.kind();
            assert_eq!(Reason::HandedOver { from, to, leaves: Some(why) }.kind(), alone, "a primary leaves likewise");
        }
    }

    #[test]
    fn section_12_what_lists_more_than_a_record_holds_is_malformed() {
        let voters = |count: usize| -> BTreeSet<Voter> { (1..).take(count).map(|n| node(n).voter).collect() };
        for (count, fits) in [(0, true), (LIST_MAX, true), (LIST_MAX + 1, false)] {
            let empty = || cause(3, Vec::new());
            let causes = [
                cause(3, vec![Reason::Founded; count]),
                Cause { seen: vec![(node(1).voter, Sign::Reset); count], ..empty() },
                Cause { unheard: voters(count), ..empty() },
            ];
            assert!(causes.iter().all(|cause| cause.is_well_formed() == fits), "{count}");
            assert_eq!(decision(voters(count), voters(1)).is_well_formed(), fits, "{count} promised");
            assert_eq!(decision(voters(1), voters(count)).is_well_formed(), fits, "{count} accepted");
        }
    }

    #[test]
    fn section_12_a_lost_primary_is_told_of_as_the_one_who_stood_saw_it() {
        let silent = |ms| Sign::Silent { ms };
        let seen = [(node(1).voter, silent(3_000)), (node(3).voter, Sign::Reset), (witness(1).voter, silent(2_900))];
        let told = |asked_by, seen: &[(Voter, Sign)]| {
            let lost = cause(asked_by, vec![Reason::PrimaryLost { primary: NodeId(2) }]);
            Cause { seen: seen.to_vec(), ..lost }.to_string()
        };
        let died = "node 2 died (connection reset, seen by 3; no answer for 3000 ms, seen by 1, w1)";
        let silenced = "node 2 fell silent (no answer for 3000 ms, seen by 1, w1; connection reset, seen by 3)";
        assert_eq!([told(3, &seen), told(1, &seen)], [died, silenced]);
        assert_eq!(told(9, &seen), silenced, "who saw nothing itself tells what the first one saw");
        assert_eq!(told(3, &[]), "node 2 was lost");
    }
}
