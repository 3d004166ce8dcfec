//! What the answer about view changes looks like: each record as a sentence, and field by field.
//!
//! Not here: the sentence itself (`lockstep_protocol::change`).

use super::client_json::instant;
use lockstep_protocol::change::{Change, Decision, Fault, Reason, Sign};
use lockstep_protocol::ids::Voter;
use serde::Serialize;

/// `GET /v1/cluster/changes`.
#[derive(Debug, Serialize)]
pub struct ChangesJson {
    changes: Vec<ChangeJson>,
}

impl From<&[Change]> for ChangesJson {
    /// The newest first.
    fn from(changes: &[Change]) -> Self {
        Self { changes: changes.iter().rev().map(ChangeJson::from).collect() }
    }
}

/// One view change.
#[derive(Debug, Serialize)]
struct ChangeJson {
    view: u64,
    at: String,
    text: String,
    cause: CauseJson,
    primary: u32,
    replicas: Vec<u32>,
    witnesses: Vec<String>,
    decision: Option<DecisionJson>,
    phases: Option<PhasesJson>,
    stall_ms: Option<u64>,
}

impl From<&Change> for ChangeJson {
    fn from(change: &Change) -> Self {
        let course = change.course.as_ref();
        let decision = course.and_then(|course| course.decision.as_ref());
        Self {
            view: change.view.0,
            at: instant(change.cause.at),
            text: change.to_string(),
            cause: CauseJson::from(change),
            primary: change.primary.0,
            replicas: change.replicas.iter().map(|id| id.0).collect(),
            witnesses: change.witnesses.iter().map(ToString::to_string).collect(),
            decision: decision.map(DecisionJson::from),
            phases: course.map(|course| PhasesJson {
                suspect_ms: decision.map(|decision| decision.suspect_ms),
                trial_ms: decision.map(|decision| decision.trial_ms),
                promise_ms: decision.map(|decision| decision.promise_ms),
                accept_ms: decision.map(|decision| decision.accept_ms),
                finish_ms: course.finish_ms,
                serve_ms: course.serve_ms,
            }),
            stall_ms: change.stall_ms(),
        }
    }
}

#[derive(Debug, Serialize)]
struct CauseJson {
    text: String,
    asked_by: u32,
    reasons: Vec<ReasonJson>,
    seen_by: Vec<SignJson>,
    unheard: Vec<String>,
}

impl From<&Change> for CauseJson {
    fn from(change: &Change) -> Self {
        let cause = &change.cause;
        Self {
            text: cause.to_string(),
            asked_by: cause.asked_by.0,
            reasons: cause.reasons.iter().map(ReasonJson::from).collect(),
            seen_by: cause.seen.iter().map(|(voter, sign)| SignJson::new(voter, *sign)).collect(),
            unheard: cause.unheard.iter().map(name).collect(),
        }
    }
}

/// A voter's name: a data node's id, a witness's name.
fn name(voter: &Voter) -> String {
    match voter {
        Voter::Replica(id) => id.to_string(),
        Voter::Witness(name) => name.to_string(),
    }
}

/// What kind of reason, and whom it is about.
#[derive(Debug, Serialize)]
struct ReasonJson {
    kind: &'static str,
    who: Option<String>,
    fault: Option<&'static str>,
    ms: Option<u64>,
}

impl From<&Reason> for ReasonJson {
    fn from(reason: &Reason) -> Self {
        let (who, fault, ms) = match reason {
            Reason::Founded | Reason::Recovered { .. } => (None, None, None),
            Reason::PrimaryLost { primary } => (Some(primary.to_string()), None, None),
            Reason::SetOffline { voter, fault } => {
                let (fault, ms) = fault_json(fault);
                (Some(name(voter)), Some(fault), ms)
            }
            Reason::NodeJoined { node } => (Some(node.to_string()), None, None),
            Reason::WitnessJoined { name } => (Some(name.to_string()), None, None),
            Reason::HandedOver { from, leaves: Some(_), .. } => (Some(from.to_string()), None, None),
            Reason::HandedOver { to, leaves: None, .. } => (Some(to.to_string()), None, None),
            Reason::Left { voter, .. } | Reason::Unfinished { voter } => (Some(name(voter)), None, None),
        };
        Self { kind: reason.kind(), who, fault, ms }
    }
}

fn fault_json(fault: &Fault) -> (&'static str, Option<u64>) {
    match fault {
        Fault::Reset => ("reset", None),
        Fault::Silent { ms } => ("silent", Some(*ms)),
        Fault::Slow { ms } => ("slow", Some(*ms)),
        Fault::Late { ms, .. } => ("late", Some(*ms)),
        Fault::Storage => ("storage", None),
        Fault::Malformed => ("malformed", None),
        Fault::Gap => ("gap", None),
    }
}

/// What one voter noticed of the lost primary.
#[derive(Debug, Serialize)]
struct SignJson {
    voter: String,
    sign: &'static str,
    ms: Option<u64>,
}

impl SignJson {
    fn new(voter: &Voter, sign: Sign) -> Self {
        let (sign, ms) = match sign {
            Sign::Reset => ("reset", None),
            Sign::Silent { ms } => ("silent", Some(ms)),
            Sign::SteppedDown => ("stepped_down", None),
            Sign::Restarted => ("restarted", None),
        };
        Self { voter: name(voter), sign, ms }
    }
}

#[derive(Debug, Serialize)]
struct DecisionJson {
    ballot: String,
    votes: u32,
    promised: Vec<String>,
    accepted: Vec<String>,
}

impl From<&Decision> for DecisionJson {
    fn from(decision: &Decision) -> Self {
        Self {
            ballot: decision.ballot.to_string(),
            votes: decision.votes,
            promised: decision.promised.iter().map(name).collect(),
            accepted: decision.accepted.iter().map(name).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct PhasesJson {
    suspect_ms: Option<u64>,
    trial_ms: Option<u64>,
    promise_ms: Option<u64>,
    accept_ms: Option<u64>,
    finish_ms: u64,
    serve_ms: u64,
}
