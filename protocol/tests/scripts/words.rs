//! What nodes did, in words: one line a letter, a write to the disk, a view, an answer.
//!
//! `v2a3` is attempt 3 of view 2; `b4.1` is the ballot of round 4 of node 1; `view 3 (2 leads 1 2 w1)` is view 3, whose
//! primary is node 2, and which lists nodes 1 and 2 and witness w1. What does not matter to any story is left out: hashes,
//! sessions, and how long things took.
//!
//! Not here: which lines are told (`play.rs`).

use lockstep_protocol::ids::{Peer, Voter};
use lockstep_protocol::log::{Batch, Entry};
use lockstep_protocol::message::{BallotAnswer, PeerMessage as P, Refusal, SyncFrom, SyncRefusal};
use lockstep_protocol::operation::{Action, Answer, Found, OperationError, Outcome};
use lockstep_protocol::operator::{OperatorAnswer, OperatorRefusal};
use lockstep_protocol::storage::StorageRequest;
use lockstep_protocol::view::View;

/// `1`, or `w1`.
pub fn name(peer: &Peer) -> String {
    voter(&peer.voter)
}

fn voter(voter: &Voter) -> String {
    match voter {
        Voter::Replica(id) => id.to_string(),
        Voter::Witness(name) => name.to_string(),
    }
}

/// `view 3 (2 leads 1 2 w1)`.
pub fn view(view: &View) -> String {
    let members: Vec<String> = view.voters().map(|peer| name(&peer)).collect();
    format!("view {} ({} leads {})", view.number, view.primary, members.join(" "))
}

fn batch(batch: &Batch) -> String {
    match batch {
        Batch::Operations { operations, .. } => {
            let words = operations.iter().map(|logged| {
                let key = logged.operation.owner.key.as_str();
                match &logged.operation.action {
                    Action::Post { text, .. } => format!("post {key} {:?}", text.as_str()),
                    Action::Star { .. } => format!("star {key}"),
                    Action::Unstar { .. } => format!("unstar {key}"),
                    Action::CreateChannel { channel } => format!("channel {key} {channel}"),
                }
            });
            words.collect::<Vec<_>>().join(" + ")
        }
        Batch::Abort { keys, .. } => {
            let keys: Vec<&str> = keys.iter().map(|(owner, _)| owner.key.as_str()).collect();
            format!("abort {}", keys.join(" + "))
        }
        Batch::View(view) => format!("view entry {}", view.number),
        Batch::Courses(courses) => {
            let numbers: Vec<String> = courses.iter().map(|course| course.view.to_string()).collect();
            format!("course of view {}", numbers.join(" "))
        }
        Batch::Remove(gone) => format!("removal of {}", voter(gone)),
    }
}

fn slot(entry: &Entry) -> String {
    format!("slot {} {}", entry.index, batch(&entry.batch))
}

fn refusal(refusal: Option<&Refusal>) -> String {
    let Some(refusal) = refusal else { return "yes".to_owned() };
    let why = match refusal {
        Refusal::StaleView => "stale view".to_owned(),
        Refusal::Accepted(ballot) => format!("accepted b{ballot}"),
        Refusal::StaleAttempt => "stale attempt".to_owned(),
        Refusal::Gap(end) => format!("gap after slot {end}"),
        Refusal::LockTimeout => "lock timeout".to_owned(),
        Refusal::Storage => "storage".to_owned(),
        Refusal::Malformed => "malformed".to_owned(),
    };
    format!("no, {why}")
}

fn ballot_answer(answer: &BallotAnswer) -> String {
    match answer {
        BallotAnswer::Yes(None) => "yes".to_owned(),
        BallotAnswer::Yes(Some((ballot, proposal))) => format!("yes, accepted b{ballot} {}", view(proposal)),
        BallotAnswer::Outbid(ballot) => format!("outbid by b{ballot}"),
    }
}

fn sync_refusal(reason: SyncRefusal) -> &'static str {
    match reason {
        SyncRefusal::Busy => "busy",
        SyncRefusal::Listed => "listed",
        SyncRefusal::NotPrimary => "not primary",
        SyncRefusal::NoSession => "no session",
    }
}

/// A letter, without its sender and receiver.
pub fn letter(message: &P) -> String {
    two_phase_commit(message).or_else(|| next_view(message)).unwrap_or_else(|| membership(message))
}

fn two_phase_commit(message: &P) -> Option<String> {
    Some(match message {
        P::Prepare { view, attempt, entry, commit_index } => {
            format!("Prepare v{view}a{attempt} {}, committed {commit_index}", slot(entry))
        }
        P::Vote { view, attempt, index, refusal: why } => {
            format!("Vote v{view}a{attempt} slot {index} {}", refusal(why.as_ref()))
        }
        P::Commit { view, attempt, index, .. } => format!("Commit v{view}a{attempt} slot {index}"),
        P::Committed { view, attempt, index } => format!("Committed v{view}a{attempt} slot {index}"),
        P::Confirm { view, round } => format!("Confirm view {view} round {round}"),
        P::Confirmed { view, round, refusal: why } => {
            format!("Confirmed view {view} round {round} {}", refusal(why.as_ref()))
        }
        P::Heartbeat { view, log_end, commit_index, is_answered, .. } => {
            let unanswered = if *is_answered { "" } else { ", not answered" };
            format!("Heartbeat view {view}, log ends {log_end}, committed {commit_index}{unanswered}")
        }
        P::HeartbeatAnswer { view, serving, .. } => match serving {
            Some((index, _)) => format!("HeartbeatAnswer view {view}, serving, committed {index}"),
            None => format!("HeartbeatAnswer view {view}, not primary"),
        },
        _ => return None,
    })
}

fn next_view(message: &P) -> Option<String> {
    Some(match message {
        P::Election { view } => format!("Election view {}", view.number),
        P::Alive { view, can_lead: true } => format!("Alive view {view}, can lead"),
        P::Alive { view, can_lead: false } => format!("Alive view {view}, cannot lead"),
        P::Victory { view: decided, .. } => format!("Victory {}", view(decided)),
        P::TakeOver { view } => format!("TakeOver view {view}"),
        P::Trial { view, .. } => format!("Trial view {view}"),
        P::TrialAnswer { view, willing, .. } => {
            format!("TrialAnswer view {view}, {}", if *willing { "willing" } else { "unwilling" })
        }
        P::Promise { view, ballot } => format!("Promise? after view {view}, b{ballot}"),
        P::Promised { view, ballot, answer } => {
            format!("Promised after view {view}, b{ballot} {}", ballot_answer(answer))
        }
        P::Accept { view: after, ballot, proposal } => {
            format!("Accept? after view {after}, b{ballot} {}", view(proposal))
        }
        P::Accepted { view, ballot, answer } => {
            format!("Accepted after view {view}, b{ballot} {}", ballot_answer(answer))
        }
        P::AskView => "AskView".to_owned(),
        P::ViewIs { view: known } => format!("ViewIs {}", view(known)),
        _ => return None,
    })
}

fn membership(message: &P) -> String {
    match message {
        P::BeginSync { commit_index, .. } => format!("BeginSync, committed {commit_index}"),
        P::SyncOk { view, from: SyncFrom::Log(after), .. } => format!("SyncOk in view {view}, entries after {after}"),
        P::SyncOk { view, from: SyncFrom::Snapshot { index, .. }, .. } => {
            format!("SyncOk in view {view}, snapshot at {index}")
        }
        P::SyncRefused { reason, .. } => format!("SyncRefused, {}", sync_refusal(*reason)),
        P::GiveMeAllData { cursor, .. } => {
            format!("GiveMeAllData{}", if cursor.is_some() { " from the cursor" } else { "" })
        }
        P::Chunk { pairs, last, .. } => format!("Chunk, {} pairs{}", pairs.len(), is_last(*last)),
        P::GiveEntries { after, .. } => format!("GiveEntries after {after}"),
        P::Entries { after, entries, last, .. } => {
            format!("Entries after {after}, {} of them{}", entries.len(), is_last(*last))
        }
        P::EndSync { index, .. } => format!("EndSync at {index}"),
        P::ListMe { view } => format!("ListMe in view {view}"),
        P::Removed { .. } => "Removed".to_owned(),
        P::LetMeGo { view } => format!("LetMeGo view {view}"),
        P::Hello { .. } => "Hello".to_owned(),
        P::HelloAnswer { view: None, .. } => "HelloAnswer, knows no view".to_owned(),
        P::HelloAnswer { view: Some(known), .. } => format!("HelloAnswer {}", view(known)),
        other => format!("{other:?}"),
    }
}

fn is_last(last: bool) -> &'static str {
    if last { ", the last" } else { "" }
}

/// What the disk did; none for what only reads, and for a snapshot's chunks.
pub fn served(request: &StorageRequest) -> Option<String> {
    Some(match request {
        StorageRequest::WriteVote { vote, .. } => {
            let promised = vote.promised.map(|ballot| format!(", promised b{ballot}")).unwrap_or_default();
            let accepted = vote.accepted.as_ref();
            let accepted = accepted.map(|(ballot, next)| format!(", accepted b{ballot} {}", view(next)));
            format!("on disk: {}{promised}{}", view(&vote.view), accepted.unwrap_or_default())
        }
        StorageRequest::WriteLog { record, .. } => {
            format!("on disk: {} v{}a{}", slot(&record.entry), record.view, record.attempt)
        }
        StorageRequest::Apply { entry } => format!("applies {}", slot(entry)),
        StorageRequest::WriteCommitted { entries, .. } => {
            let slots: Vec<String> = entries.iter().map(|entry| slot(entry)).collect();
            format!("on disk: committed {}", slots.join(", "))
        }
        StorageRequest::DropTail => "drops what its log holds above what it applied".to_owned(),
        StorageRequest::InstallBegin => "drops store and log for a snapshot".to_owned(),
        StorageRequest::InstallEnd { index, .. } => format!("on disk: the snapshot at {index}"),
        StorageRequest::InstallChunk { .. }
        | StorageRequest::Locate { .. }
        | StorageRequest::Examine { .. }
        | StorageRequest::Query { .. }
        | StorageRequest::Pin { .. }
        | StorageRequest::ReadChunk { .. }
        | StorageRequest::Unpin { .. }
        | StorageRequest::ReadLog { .. } => return None,
    })
}

/// What a client or an operator is told.
pub fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Written(Outcome::Aborted, _) => "aborted".to_owned(),
        Answer::Written(Outcome::Message(_) | Outcome::Channel { .. }, _) => "done".to_owned(),
        Answer::Read(Found::Messages { messages, .. }, _) => {
            let texts: Vec<String> = messages.iter().map(|message| format!("{:?}", message.text)).collect();
            format!("found {}", if texts.is_empty() { "nothing".to_owned() } else { texts.join(" ") })
        }
        Answer::Read(found, _) => format!("found {found:?}"),
        Answer::Failed(error) => failed(error),
        Answer::Operator(OperatorAnswer::Removed) => "removed".to_owned(),
        Answer::Operator(OperatorAnswer::Draining) => "draining".to_owned(),
        Answer::Operator(OperatorAnswer::DrainEnded) => "drain ended".to_owned(),
        Answer::Operator(OperatorAnswer::Refused(refusal)) => match refusal {
            OperatorRefusal::Unknown { .. } => "refused, never a member".to_owned(),
            OperatorRefusal::LastCopy { .. } => "refused, the last copy".to_owned(),
            OperatorRefusal::TooFew { .. } => "refused, too few would be left".to_owned(),
            OperatorRefusal::HoldsNothing { .. } => "refused, holds nothing".to_owned(),
        },
    }
}

fn failed(error: &OperationError) -> String {
    match error {
        OperationError::NotPrimary { primary: Some(id), .. } => format!("not primary, ask {id}"),
        OperationError::NotPrimary { primary: None, .. } => "not primary".to_owned(),
        OperationError::TooFewReplicas { .. } => "too few replicas".to_owned(),
        OperationError::Overloaded => "overloaded".to_owned(),
        OperationError::Aborted => "aborted".to_owned(),
        OperationError::OutcomeUnknown => "outcome unknown".to_owned(),
        OperationError::KeyReused => "key reused".to_owned(),
        OperationError::ChannelNotFound { .. } => "no such channel".to_owned(),
        OperationError::MessageNotFound { .. } => "no such message".to_owned(),
    }
}
