//! Who hears what: the only list of it, used by the actors and by the simulator alike.
//!
//! A letter, a note of another machine, what the storage says and what the network reports each become the inputs of the
//! machines that they concern, in a fixed order. Refuses letters of other clusters and versions (section 11).
//!
//! Not here: any decision about the protocol beyond who is concerned.

use crate::change::Decision;
use crate::ids::{Address, ClusterId, Peer, RequestId, ViewNumber};
use crate::machine::Note;
use crate::member::Members;
use crate::message::{Envelope, PROTOCOL_VERSION, PeerMessage, PeerMessage as P};
use crate::operation::{Operation, Query};
use crate::operator::OperatorCall;
use crate::storage::{StorageEvent, Writer};
use crate::view::View;
use crate::{birth, campaign, coordinator, election, heartbeat, lock, read, replica, sync};
use std::sync::Arc;

/// An input and the machine that hears it.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// For `replica.rs`.
    Replica(replica::Input),
    /// For `coordinator.rs`.
    Coordinator(coordinator::Input),
    /// For `lock.rs`.
    Locks(lock::Input),
    /// For `read.rs`.
    Reads(read::Input),
    /// For `heartbeat.rs`.
    Heartbeat(heartbeat::Input),
    /// For `election.rs`.
    Election(election::Input),
    /// For `campaign.rs`.
    Campaign(campaign::Input),
    /// For `sync.rs`.
    Sync(sync::Input),
    /// For `birth.rs`.
    Birth(birth::Input),
}

/// The machines of one node, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MachineName {
    /// `replica.rs`
    Replica,
    /// `coordinator.rs`
    Coordinator,
    /// `lock.rs`
    Locks,
    /// `read.rs`
    Reads,
    /// `heartbeat.rs`
    Heartbeat,
    /// `election.rs`
    Election,
    /// `campaign.rs`
    Campaign,
    /// `sync.rs`
    Sync,
    /// `birth.rs`
    Birth,
}

impl MachineName {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Replica,
        Self::Coordinator,
        Self::Locks,
        Self::Reads,
        Self::Heartbeat,
        Self::Election,
        Self::Campaign,
        Self::Sync,
        Self::Birth,
    ];
}

/// The actors of a node that host machines: each steps its own, one step after the other, and has all of a step's effects carried out
/// before the next. What the others do meanwhile comes between two effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorName {
    /// Replica, coordinator and reads.
    TransactionCoordinator,
    /// The lock table.
    LockManager,
    /// Election, campaign and birth.
    Election,
    /// Heartbeats.
    Heartbeat,
    /// Synchronisation.
    Sync,
}

impl ActorName {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::TransactionCoordinator, Self::LockManager, Self::Election, Self::Heartbeat, Self::Sync];

    /// Who hosts this machine.
    #[must_use]
    pub fn hosting(machine: MachineName) -> Self {
        match machine {
            MachineName::Replica | MachineName::Coordinator | MachineName::Reads => Self::TransactionCoordinator,
            MachineName::Locks => Self::LockManager,
            MachineName::Heartbeat => Self::Heartbeat,
            MachineName::Election | MachineName::Campaign | MachineName::Birth => Self::Election,
            MachineName::Sync => Self::Sync,
        }
    }
}

impl Delivery {
    /// Who hears it.
    #[must_use]
    pub fn machine(&self) -> MachineName {
        match self {
            Self::Replica(_) => MachineName::Replica,
            Self::Coordinator(_) => MachineName::Coordinator,
            Self::Locks(_) => MachineName::Locks,
            Self::Reads(_) => MachineName::Reads,
            Self::Heartbeat(_) => MachineName::Heartbeat,
            Self::Election(_) => MachineName::Election,
            Self::Campaign(_) => MachineName::Campaign,
            Self::Sync(_) => MachineName::Sync,
            Self::Birth(_) => MachineName::Birth,
        }
    }
}

/// One message an actor, so that what was told together is heard together; order within an actor is kept.
#[must_use]
pub fn by_actor(deliveries: Vec<Delivery>) -> Vec<(ActorName, Vec<Delivery>)> {
    let mut groups: Vec<(ActorName, Vec<Delivery>)> = Vec::with_capacity(1);
    for delivery in deliveries {
        let actor = ActorName::hosting(delivery.machine());
        match groups.iter_mut().find(|(name, _)| *name == actor) {
            Some((_, group)) => group.push(delivery),
            None => groups.push((actor, vec![delivery])),
        }
    }
    groups
}

/// Why a letter is refused unread. Nothing changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LetterRefused {
    /// Another protocol version.
    #[error("protocol version {theirs}, and this node speaks {PROTOCOL_VERSION}")]
    Version {
        /// The sender's.
        theirs: u16,
    },
    /// Another cluster.
    #[error("cluster {theirs}, and this node belongs to {ours}")]
    Cluster {
        /// The sender's.
        theirs: ClusterId,
        /// This node's.
        ours: ClusterId,
    },
    /// Only `Hello` may come from, or go to, a node that knows no cluster.
    #[error("the sender or this node knows no cluster yet")]
    NoCluster,
    /// A view in it cannot be one.
    #[error("malformed")]
    Malformed,
}

/// What this node knows, for the letters that it sends and gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// The last decided view in force here; 0 for none.
    pub view: ViewNumber,
}

impl Known {
    /// A view is in force here.
    pub fn learn(&mut self, view: &View) {
        self.cluster = Some(view.cluster);
        self.view = self.view.max(view.number);
    }
}

fn refusal(known: &Known, envelope: &Envelope) -> Option<LetterRefused> {
    if envelope.version != PROTOCOL_VERSION {
        return Some(LetterRefused::Version { theirs: envelope.version });
    }
    let is_hello = matches!(envelope.message, PeerMessage::Hello { .. } | PeerMessage::HelloAnswer { .. });
    match (known.cluster, envelope.cluster) {
        (Some(ours), Some(theirs)) if ours != theirs => return Some(LetterRefused::Cluster { theirs, ours }),
        (None, _) | (_, None) if !is_hello => return Some(LetterRefused::NoCluster),
        (Some(_) | None, Some(_) | None) => {}
    }
    if let PeerMessage::Victory { decision: Some(decision), .. } = &envelope.message
        && !decision.is_well_formed()
    {
        return Some(LetterRefused::Malformed);
    }
    let view = match &envelope.message {
        PeerMessage::Election { view } | PeerMessage::Victory { view, .. } | PeerMessage::ViewIs { view } => Some(view),
        PeerMessage::HelloAnswer { view, .. } => view.as_ref(),
        PeerMessage::Accept { proposal, .. } => Some(proposal),
        _ => None, // No other letter carries a view that would be acted on.
    };
    match (view, known.cluster) {
        (Some(view), _) if !view.is_well_formed() => Some(LetterRefused::Malformed),
        (Some(view), Some(ours)) if view.cluster != ours => Some(LetterRefused::Cluster { theirs: view.cluster, ours }),
        (Some(_) | None, Some(_) | None) => None,
    }
}

/// What a letter sets off.
///
/// # Errors
/// When it is refused unread; nothing changes then.
pub fn letter(known: &Known, envelope: Envelope) -> Result<Vec<Delivery>, LetterRefused> {
    if let Some(refusal) = refusal(known, &envelope) {
        return Err(refusal);
    }
    let Envelope { from, view: sender_view, message, cluster, .. } = envelope;
    let mut deliveries = Vec::with_capacity(2);
    // What tells the view, or asks for it, shows no more than that.
    let is_about_it = match &message {
        P::Victory { view, .. } | P::ViewIs { view } => view.number > known.view && view.number >= sender_view,
        P::AskView => sender_view < known.view,
        _ => false, // No other letter does.
    };
    if sender_view != known.view && !is_about_it && known.cluster.is_some() && cluster.is_some() {
        deliveries.push(Delivery::Replica(replica::Input::Heard { from: from.clone(), view: sender_view }));
    }
    open(from, message, &mut deliveries);
    Ok(deliveries)
}

fn open(from: Peer, message: PeerMessage, to: &mut Vec<Delivery>) {
    use Delivery::{Birth, Campaign, Coordinator, Election, Heartbeat, Reads, Replica, Sync};
    let learnt = |view| Replica(replica::Input::Learnt { view });
    let delivery = match message {
        P::Prepare { view, attempt, entry, commit_index } => {
            Replica(replica::Input::Prepare { from, view, attempt, entry, commit_index })
        }
        P::Vote { view, attempt, index, refusal } => {
            Coordinator(coordinator::Input::Vote { from, view, attempt, index, refusal })
        }
        P::Commit { view, attempt, index, hash } => {
            Replica(replica::Input::Commit { from, view, attempt, index, hash })
        }
        P::Committed { view, attempt, index } => {
            Coordinator(coordinator::Input::Committed { from, view, attempt, index })
        }
        P::Confirm { view, round } => Replica(replica::Input::Confirm { from, view, round }),
        P::Confirmed { view, round, refusal } => Reads(read::Input::Confirmed { from, view, round, refusal }),
        P::Heartbeat { view, beat, log_end, commit_index, hash, is_answered } => {
            Heartbeat(heartbeat::Input::Heartbeat { from, view, beat, log_end, commit_index, hash, is_answered })
        }
        P::HeartbeatAnswer { view, beat, serving } => {
            Heartbeat(heartbeat::Input::HeartbeatAnswer { from, view, beat, serving })
        }
        P::Election { view } => {
            to.push(learnt(view.clone()));
            Election(election::Input::Election { from, view })
        }
        P::Alive { view, can_lead } => Election(election::Input::Alive { from, view, can_lead }),
        P::Victory { view, decision } => victory(from, view, decision, to),
        P::TakeOver { view } => Coordinator(coordinator::Input::TakeOver { from, view }),
        P::Trial { view, campaign } => Replica(replica::Input::Trial { from, view, campaign }),
        P::TrialAnswer { view, campaign, willing, promised, sign } => {
            Campaign(campaign::Input::TrialAnswer { from, view, campaign, willing, promised, sign })
        }
        P::Promise { view, ballot } => Replica(replica::Input::Promise { from, view, ballot }),
        P::Promised { view, ballot, answer } => Campaign(campaign::Input::Promised { from, view, ballot, answer }),
        P::Accept { view, ballot, proposal } => Replica(replica::Input::Accept { from, view, ballot, proposal }),
        P::Accepted { view, ballot, answer } => Campaign(campaign::Input::Accepted { from, view, ballot, answer }),
        P::AskView => Replica(replica::Input::AskView { from }),
        P::ViewIs { view } => {
            to.push(Election(election::Input::Reached { from, view: view.number }));
            learnt(view)
        }
        P::BeginSync { nonce, commit_index, hash } => Sync(sync::Input::BeginSync { from, nonce, commit_index, hash }),
        P::SyncOk { nonce, view, session, from: start } => {
            Sync(sync::Input::SyncOk { from, nonce, view, session, start })
        }
        P::SyncRefused { session, reason } => Sync(sync::Input::SyncRefused { from, session, reason }),
        P::GiveMeAllData { session, cursor } => Sync(sync::Input::GiveMeAllData { from, session, cursor }),
        P::Chunk { session, cursor, pairs, checksum, last } => {
            Sync(sync::Input::Chunk { from, session, cursor, pairs, checksum, last })
        }
        P::GiveEntries { session, after } => Sync(sync::Input::GiveEntries { from, session, after }),
        P::Entries { session, after, entries, last } => {
            Sync(sync::Input::Entries { from, session, after, entries, last })
        }
        P::EndSync { session, index, hash } => Sync(sync::Input::EndSync { from, session, index, hash }),
        P::ListMe { view } => Heartbeat(heartbeat::Input::ListMe { from, view }),
        P::Removed { incarnation } => Heartbeat(heartbeat::Input::Removed { incarnation }),
        P::LetMeGo { view } => Coordinator(coordinator::Input::LetMeGo { from, view }),
        P::Hello { round, seeds } => Birth(birth::Input::Hello { from, round, seeds }),
        P::HelloAnswer { round, seeds, view } => {
            to.extend(view.clone().map(learnt));
            Birth(birth::Input::HelloAnswer { from, round, seeds, view })
        }
    };
    to.push(delivery);
}

/// A decided view; with it, to its primary, how it was decided.
fn victory(from: Peer, view: View, decision: Option<Decision>, to: &mut Vec<Delivery>) -> Delivery {
    to.push(Delivery::Replica(replica::Input::Learnt { view: view.clone() }));
    let decided = |decision| coordinator::Input::Decided { view: view.number, decision };
    to.extend(decision.map(decided).map(Delivery::Coordinator));
    Delivery::Election(election::Input::Victory { from, view })
}

/// What a note sets off.
#[must_use]
pub fn note(note: Note) -> Vec<Delivery> {
    use Delivery::{Campaign, Coordinator, Election, Heartbeat, Locks, Reads, Replica, Sync};
    match note {
        Note::ViewChanged { view } => view_changed(&view),
        Note::Lead { view, tail, committed, last_timestamp } => {
            vec![Coordinator(coordinator::Input::Lead { view, tail, committed, last_timestamp })]
        }
        Note::Serving { view } => vec![
            Reads(read::Input::Serving { view }),
            Heartbeat(heartbeat::Input::Serving { view }),
            Election(election::Input::Serving { view }),
            Sync(sync::Input::Serving { view }),
        ],
        Note::NotServing { view, can_lead } => not_serving(view, can_lead),
        Note::Suspected { view, suspicion } => vec![
            Replica(replica::Input::Suspects { view, sign: Some(suspicion.sign) }),
            Election(election::Input::Suspected { view, suspicion }),
        ],
        Note::Trusted { view } => {
            vec![Replica(replica::Input::Suspects { view, sign: None }), Election(election::Input::Trusted { view })]
        }
        Note::Silent { view, voter, ms } => vec![Coordinator(coordinator::Input::Silent { view, voter, ms })],
        Note::Campaign { view, suspicion } => vec![Campaign(campaign::Input::Campaign { view, suspicion })],
        Note::SetOffline { view, reasons } => vec![Campaign(campaign::Input::SetOffline { view, reasons })],
        Note::AddReplica { view, peer, locked_at } => {
            vec![Campaign(campaign::Input::AddReplica { view, peer, locked_at })]
        }
        Note::AddFailed { view, peer } => vec![Sync(sync::Input::AddFailed { view, peer })],
        Note::AddWitness { view, peer } => vec![Campaign(campaign::Input::AddWitness { view, peer })],
        Note::HandOver { to } => vec![Coordinator(coordinator::Input::HandOver { to })],
        Note::HandOverNow { view, to, leaves, since } => {
            vec![Campaign(campaign::Input::HandOverNow { view, to, leaves, since })]
        }
        Note::Decided { view, decision } => vec![Coordinator(coordinator::Input::Decided { view, decision })],
        Note::CampaignFailed { view, no_quorum, reason } => vec![
            Coordinator(coordinator::Input::CampaignFailed { view, no_quorum, reason: reason.clone() }),
            Election(election::Input::CampaignFailed { view, no_quorum, reason }),
        ],
        Note::Learnt { view } => vec![Replica(replica::Input::Learnt { view })],
        Note::Acquire { owner, locks } => vec![Locks(lock::Input::Acquire { owner, locks })],
        Note::Release { owner } => vec![Locks(lock::Input::Release { owner })],
        Note::Granted { owner } => vec![granted(owner)],
        Note::CommitSeen { index, hash } => vec![Replica(replica::Input::CommitSeen { index, hash })],
        Note::Applying { index } => vec![Coordinator(coordinator::Input::Applying { index })],
        Note::LogPosition { log_end, committed } => vec![
            Heartbeat(heartbeat::Input::LogPosition { log_end, committed }),
            Sync(sync::Input::LogPosition { log_end, committed }),
        ],
        Note::Fence { view, session } => vec![Replica(replica::Input::Fence { view, session })],
        Note::Fenced { view, session, accepted } => vec![Sync(sync::Input::Fenced { view, session, accepted })],
        Note::SyncBegan { from } => vec![Replica(replica::Input::SyncBegan { from })],
        Note::Synced { index, hash, last_timestamp } => {
            vec![Replica(replica::Input::Synced { index, hash, last_timestamp })]
        }
        Note::Pace { delay_ms } => vec![Coordinator(coordinator::Input::Pace { delay_ms })],
        Note::AnswerWhenConfirmed { request, answer } => {
            vec![Reads(read::Input::AnswerWhenConfirmed { request, answer })]
        }
        Note::Diverged => vec![Sync(sync::Input::Diverged)],
        Note::Members { members } => self::members(members),
        Note::Draining { on } => {
            vec![Heartbeat(heartbeat::Input::Draining { on }), Sync(sync::Input::Draining { on })]
        }
    }
}

/// The election hears of it before the heartbeat: what that one suspects in answer must not come to one that does not know yet.
fn not_serving(view: ViewNumber, can_lead: bool) -> Vec<Delivery> {
    vec![
        Delivery::Reads(read::Input::NotServing { view }),
        Delivery::Election(election::Input::NotServing { view, can_lead }),
        Delivery::Campaign(campaign::Input::NotServing { view, can_lead }),
        Delivery::Heartbeat(heartbeat::Input::NotServing { view }),
        Delivery::Sync(sync::Input::NotServing { view }),
    ]
}

/// A view in force concerns everyone but the lock table: owners let go of their locks themselves. Here, too, the election goes first.
fn view_changed(view: &Arc<View>) -> Vec<Delivery> {
    vec![
        Delivery::Coordinator(coordinator::Input::ViewChanged(view.clone())),
        Delivery::Reads(read::Input::ViewChanged(view.clone())),
        Delivery::Election(election::Input::ViewChanged(view.clone())),
        Delivery::Campaign(campaign::Input::ViewChanged(view.clone())),
        Delivery::Birth(birth::Input::ViewChanged(view.clone())),
        Delivery::Heartbeat(heartbeat::Input::ViewChanged(view.clone())),
        Delivery::Sync(sync::Input::ViewChanged(view.clone())),
    ]
}

fn granted(owner: lock::LockOwner) -> Delivery {
    use lock::LockOwner;
    match owner {
        LockOwner::Ticket(_) => Delivery::Coordinator(coordinator::Input::Granted { owner }),
        LockOwner::Slot(_) => Delivery::Replica(replica::Input::Granted { owner }),
        LockOwner::Read(_) => Delivery::Reads(read::Input::Granted { owner }),
        LockOwner::Join(_) => Delivery::Sync(sync::Input::Granted { owner }),
    }
}

/// What an answer of the storage sets off.
#[must_use]
pub fn storage(event: StorageEvent) -> Vec<Delivery> {
    use Delivery::{Coordinator, Reads, Replica, Sync};
    match event {
        StorageEvent::Durable { write, by: Writer::Replica } => vec![Replica(replica::Input::Durable { write })],
        StorageEvent::Durable { write, by: Writer::Sync } => vec![Sync(sync::Input::Durable { write })],
        StorageEvent::Applied { index, outcomes } => vec![
            Replica(replica::Input::Applied { index }),
            Coordinator(coordinator::Input::Applied { index, outcomes }),
        ],
        // Request ids are unique in a node: whoever did not ask drops it.
        StorageEvent::Located { request, channel } => vec![
            Coordinator(coordinator::Input::Located { request, channel: channel.clone() }),
            Reads(read::Input::Located { request, channel }),
        ],
        StorageEvent::Examined { round, verdicts, keys_at, index } => {
            vec![Coordinator(coordinator::Input::Examined { round, verdicts, keys_at, index })]
        }
        StorageEvent::Queried { request, found, index } => vec![Reads(read::Input::Queried { request, found, index })],
        StorageEvent::Pinned { session, index, hash, bytes, last_timestamp } => {
            vec![Sync(sync::Input::Pinned { session, index, hash, bytes, last_timestamp })]
        }
        StorageEvent::ChunkRead { session, cursor, chunk } => {
            vec![Sync(sync::Input::ChunkRead { session, cursor, chunk })]
        }
        StorageEvent::LogRead { session, after, hash, entries, applied } => {
            vec![Sync(sync::Input::LogRead { session, after, hash, entries, applied })]
        }
        StorageEvent::Members { members } => self::members(members),
        StorageEvent::Mismatch { write } => vec![Sync(sync::Input::Mismatch { write })],
    }
}

/// A client's write.
#[must_use]
pub fn submit(request: RequestId, operation: Operation) -> Delivery {
    Delivery::Coordinator(coordinator::Input::Submit { request, operation })
}

/// Who lets nodes in hears first, so that nobody is let in whom the primary knows to be removed.
fn members(members: Members) -> Vec<Delivery> {
    vec![
        Delivery::Sync(sync::Input::Members(members.clone())),
        Delivery::Heartbeat(heartbeat::Input::Members(members.clone())),
        Delivery::Coordinator(coordinator::Input::Members(members)),
    ]
}

/// What an operator asks.
#[must_use]
pub fn operator(request: RequestId, call: OperatorCall) -> Delivery {
    Delivery::Coordinator(coordinator::Input::Operator { request, call })
}

/// A client's query.
#[must_use]
pub fn query(request: RequestId, query: Query) -> Delivery {
    Delivery::Reads(read::Input::Read { request, query })
}

/// A connection to this address was refused or reset; a letter that only timed out is simply lost.
#[must_use]
pub fn unreachable(address: &Address) -> Vec<Delivery> {
    vec![
        Delivery::Heartbeat(heartbeat::Input::Unreachable { address: address.clone() }),
        Delivery::Election(election::Input::Unreachable { address: address.clone() }),
        Delivery::Campaign(campaign::Input::Unreachable { address: address.clone() }),
        Delivery::Coordinator(coordinator::Input::Unreachable { address: address.clone() }),
        Delivery::Sync(sync::Input::Unreachable { address: address.clone() }),
    ]
}

/// The request kept open at this address ended.
#[must_use]
pub fn watch_ended(address: &Address) -> Vec<Delivery> {
    vec![Delivery::Heartbeat(heartbeat::Input::WatchEnded { address: address.clone() })]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::LIST_MAX;
    use crate::ids::{Ballot, NodeId};
    use crate::testing::{decision, node, view};

    /// Each actor's inbox is filled in this order, and the heartbeat may answer before the last of them is.
    #[test]
    fn r11_a_suspicion_does_not_come_to_an_election_that_still_leads() {
        let view = Arc::new(view(2, 3, &[1, 2, 3], 1));
        let stops = Note::NotServing { view: view.number, can_lead: false };
        for told in [Note::ViewChanged { view }, stops] {
            let order: Vec<MachineName> = note(told).iter().map(Delivery::machine).collect();
            let place = |machine| order.iter().position(|name| *name == machine);
            assert!(place(MachineName::Election) < place(MachineName::Heartbeat), "{order:?}");
            assert!(place(MachineName::Campaign) < place(MachineName::Heartbeat), "of the same actor: {order:?}");
        }
    }

    #[test]
    fn section_12_what_is_told_together_each_actor_hears_together_and_in_order() {
        let told = note(Note::ViewChanged { view: Arc::new(view(2, 3, &[1, 2, 3], 1)) });
        let groups = by_actor(told.clone());
        let actors: Vec<ActorName> = groups.iter().map(|(actor, _)| *actor).collect();
        let each = [ActorName::TransactionCoordinator, ActorName::Election, ActorName::Heartbeat, ActorName::Sync];
        assert_eq!(actors, each, "one message to each");
        for (actor, heard) in groups {
            let is_its = |delivery: &&Delivery| ActorName::hosting(delivery.machine()) == actor;
            assert_eq!(heard, told.iter().filter(is_its).cloned().collect::<Vec<_>>());
        }
    }

    const OURS: ClusterId = ClusterId(7);
    const BALLOT: Ballot = Ballot { round: 1, node: NodeId(1) };

    fn known(view: u64) -> Known {
        Known { cluster: Some(OURS), view: ViewNumber(view) }
    }

    /// From node 1, which knows this view.
    fn envelope(view: u64, message: P) -> Envelope {
        let (version, cluster) = (PROTOCOL_VERSION, Some(OURS));
        Envelope { version, cluster, from: node(1), view: ViewNumber(view), message }
    }

    #[test]
    fn section_11_letters_of_another_version_or_cluster_or_of_none_are_refused() {
        let theirs = ClusterId(8);
        let hello = || P::Hello { round: 1, seeds: Vec::new() };
        let refusal = |known: &Known, cluster: Option<ClusterId>, message| {
            letter(known, Envelope { cluster, ..envelope(1, message) }).err()
        };
        let newer = Envelope { version: PROTOCOL_VERSION + 1, ..envelope(1, hello()) };
        let version = LetterRefused::Version { theirs: PROTOCOL_VERSION + 1 };
        assert_eq!(letter(&known(1), newer).err(), Some(version));
        for message in [hello(), P::AskView] {
            let other = LetterRefused::Cluster { theirs, ours: OURS };
            assert_eq!(refusal(&known(1), Some(theirs), message), Some(other));
        }
        let newborn = Known { cluster: None, view: ViewNumber(0) };
        for (known, cluster) in [(&newborn, Some(OURS)), (&known(1), None), (&newborn, None)] {
            assert_eq!(refusal(known, cluster, P::AskView), Some(LetterRefused::NoCluster));
            assert_eq!(refusal(known, cluster, hello()), None, "so that it learns of one");
        }
        assert_eq!(refusal(&known(1), Some(OURS), P::AskView), None);
    }

    #[test]
    fn section_11_a_view_that_cannot_be_one_or_is_another_clusters_is_refused_unread() {
        let good = view(2, 3, &[1, 2, 3], 1);
        let headless = View { primary: NodeId(9), ..good.clone() };
        let foreign = View { cluster: ClusterId(8), ..good.clone() };
        let other = LetterRefused::Cluster { theirs: ClusterId(8), ours: OURS };
        for (view, refused) in [(&good, None), (&headless, Some(LetterRefused::Malformed)), (&foreign, Some(other))] {
            let carriers = [
                P::Election { view: view.clone() },
                P::Victory { view: view.clone(), decision: None },
                P::ViewIs { view: view.clone() },
                P::HelloAnswer { round: 1, seeds: Vec::new(), view: Some(view.clone()) },
                P::Accept { view: ViewNumber(1), ballot: BALLOT, proposal: view.clone() },
            ];
            for message in carriers {
                assert_eq!(letter(&known(1), envelope(1, message.clone())).err(), refused, "{message:?}");
            }
        }
    }

    #[test]
    fn section_12_how_a_view_was_decided_goes_to_its_primary_unless_that_cannot_be_told() {
        let told = |voters: usize| {
            let promised = (1..).take(voters).map(|n| node(n).voter).collect();
            let decision = decision(promised, [node(1).voter].into());
            let victory = P::Victory { view: view(2, 3, &[1, 2, 3], 1), decision: Some(decision) };
            letter(&known(1), envelope(1, victory))
        };
        let is_told =
            |delivery: &Delivery| matches!(delivery, Delivery::Coordinator(coordinator::Input::Decided { .. }));
        assert!(told(3).is_ok_and(|deliveries| deliveries.iter().any(is_told)));
        assert_eq!(told(LIST_MAX + 1), Err(LetterRefused::Malformed));
    }

    #[test]
    fn section_11_that_a_sender_knows_another_view_is_heard_unless_the_letter_is_about_that() {
        let asks = || P::ListMe { view: ViewNumber(2) };
        let tells = |number| P::ViewIs { view: view(number, 3, &[1, 2, 3], 1) };
        let victory = |number| P::Victory { view: view(number, 3, &[1, 2, 3], 1), decision: None };
        // Which view is known here, which to the sender, what it says, and whether that it knows another is heard.
        let table = [
            (2, 2, asks(), false, "both know the same"),
            (3, 2, asks(), true, "the sender is behind"),
            (2, 3, asks(), true, "this node is behind"),
            (3, 2, P::AskView, false, "it is behind, and asks"),
            (2, 3, P::AskView, true, "it asks, and knows more"),
            (2, 3, tells(3), false, "it brings what this node lacks"),
            (2, 1, victory(3), false, "the same, of a view that the sender has just decided"),
            (2, 4, tells(3), true, "it knows a later one still"),
            (3, 2, victory(3), true, "the sender is behind, and tells what is known"),
            (3, 1, tells(2), true, "the sender is behind, and tells old news"),
        ];
        for (ours, theirs, message, is_heard, why) in table {
            let deliveries = letter(&known(ours), envelope(theirs, message)).expect("taken");
            let heard = Delivery::Replica(replica::Input::Heard { from: node(1), view: ViewNumber(theirs) });
            assert_eq!(deliveries.contains(&heard), is_heard, "{why}");
            assert!(deliveries.len() > usize::from(is_heard), "and is opened: {why}");
        }
    }
}
