//! Letters made of bytes, as no machine would send them: of any kind, from any peer, with small numbers, and with what the node
//! under test said itself (its rounds, sessions, ballots, entries and views), so that some of them fit.

use crate::store;
use arbitrary::{Result, Unstructured};
use lockstep_protocol::change::Sign;
use lockstep_protocol::ids::{
    Address, Attempt, Ballot, ClusterId, Hash, Incarnation, Index, NodeId, Peer, SessionId, Timestamp, ViewNumber,
    Voter, WitnessName,
};
use lockstep_protocol::log::{Batch, Entry};
use lockstep_protocol::message::{
    BallotAnswer, Envelope, PROTOCOL_VERSION, PeerMessage as P, Refusal, SyncFrom, SyncRefusal,
};
use lockstep_protocol::operation::KeyOwner;
use lockstep_protocol::sync::chunk_checksum;
use lockstep_protocol::view::View;
use std::sync::Arc;

/// So much is remembered of each kind.
const POOL_MAX: usize = 16;

/// What was said.
#[derive(Debug)]
pub struct Pool {
    numbers: Vec<u64>,
    ballots: Vec<Ballot>,
    entries: Vec<Arc<Entry>>,
    views: Vec<View>,
}

fn keep<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        if list.len() == POOL_MAX {
            list.remove(0);
        }
        list.push(item);
    }
}

impl Default for Pool {
    fn default() -> Self {
        let views = vec![store::view(1, 3), store::view(2, 2), store::view(2, 3)];
        Self { numbers: Vec::new(), ballots: Vec::new(), entries: store::entries(), views }
    }
}

impl Pool {
    /// The node said this.
    pub fn learn(&mut self, message: &P) {
        match message {
            P::Prepare { entry, .. } => keep(&mut self.entries, entry.clone()),
            P::Entries { entries, .. } => entries.iter().for_each(|entry| keep(&mut self.entries, entry.clone())),
            P::Promise { ballot, .. } => keep(&mut self.ballots, *ballot),
            P::Accept { ballot, proposal, .. } => {
                keep(&mut self.ballots, *ballot);
                keep(&mut self.views, proposal.clone());
            }
            P::ViewIs { view } | P::Victory { view, .. } | P::Election { view } => keep(&mut self.views, view.clone()),
            P::Confirm { round: number, .. }
            | P::Trial { campaign: number, .. }
            | P::BeginSync { nonce: number, .. }
            | P::Hello { round: number, .. }
            | P::SyncOk { session: SessionId(number), .. } => keep(&mut self.numbers, *number),
            _ => {} // They name nothing that an answer must name.
        }
    }

    fn number(&self, bytes: &mut Unstructured<'_>) -> Result<u64> {
        if self.numbers.is_empty() || bytes.ratio(1, 4)? {
            bytes.int_in_range(0..=6)
        } else {
            bytes.choose(&self.numbers).copied()
        }
    }

    fn ballot(&self, bytes: &mut Unstructured<'_>) -> Result<Ballot> {
        if self.ballots.is_empty() || bytes.ratio(1, 2)? {
            return Ok(Ballot { round: bytes.int_in_range(0..=4)?, node: NodeId(bytes.int_in_range(1..=4)?) });
        }
        bytes.choose(&self.ballots).copied()
    }

    fn view(&self, bytes: &mut Unstructured<'_>) -> Result<View> {
        let mut view = bytes.choose(&self.views)?.clone();
        match bytes.int_in_range(0..=7)? {
            0 => view.number = number(bytes)?,
            1 => view.primary = NodeId(bytes.int_in_range(1..=4)?),
            2 => drop(view.replicas.remove(&NodeId(bytes.int_in_range(1..=4)?))),
            3 => view.witnesses.clear(),
            4 => view.cluster = ClusterId(bytes.int_in_range(0..=2)?),
            _ => {}
        }
        Ok(view)
    }

    fn entry(&self, bytes: &mut Unstructured<'_>) -> Result<Arc<Entry>> {
        let known = bytes.choose(&self.entries)?;
        if bytes.ratio(1, 2)? {
            return Ok(known.clone());
        }
        let batch = match bytes.int_in_range(0..=5)? {
            0 => Batch::View(self.view(bytes)?),
            1 => Batch::Courses(Vec::new()),
            2 => Batch::Remove(peer(bytes)?.voter),
            3 => Batch::Abort { keys: vec![(owner(bytes)?, Timestamp(7))], keys_at: Timestamp(0) },
            _ => store::batch(vec![store::post(bytes.choose(&["x", "y", "z"])?)], bytes.int_in_range(1..=100)?),
        };
        let (index, prev_hash) = if bytes.ratio(1, 4)? {
            (Index(bytes.int_in_range(0..=6)?), Hash::default())
        } else {
            (known.index.next(), known.hash)
        };
        let mut entry = Entry::new(index, prev_hash, batch);
        if bytes.ratio(1, 16)? {
            entry.hash.0[0] ^= 1;
        }
        Ok(entry.into())
    }

    fn place(&self, bytes: &mut Unstructured<'_>) -> Result<(Index, Hash)> {
        let entry = bytes.choose(&self.entries)?;
        let (index, hash) = if bytes.ratio(1, 4)? { (Index(0), Hash::default()) } else { (entry.index, entry.hash) };
        Ok((if bytes.ratio(1, 8)? { index.next() } else { index }, hash))
    }

    fn answer(&self, bytes: &mut Unstructured<'_>) -> Result<BallotAnswer> {
        Ok(match bytes.int_in_range(0..=3)? {
            0 => BallotAnswer::Outbid(self.ballot(bytes)?),
            1 => BallotAnswer::Yes(Some((self.ballot(bytes)?, self.view(bytes)?))),
            _ => BallotAnswer::Yes(None),
        })
    }

    fn refusal(&self, bytes: &mut Unstructured<'_>) -> Result<Option<Refusal>> {
        Ok(Some(match bytes.int_in_range(0..=10)? {
            0 => Refusal::StaleView,
            1 => Refusal::Accepted(self.ballot(bytes)?),
            2 => Refusal::StaleAttempt,
            3 => Refusal::Gap(Index(bytes.int_in_range(0..=6)?)),
            4 => Refusal::LockTimeout,
            5 => Refusal::Storage,
            6 => Refusal::Malformed,
            _ => return Ok(None),
        }))
    }

    /// A letter.
    ///
    /// # Errors
    /// When the bytes are used up.
    pub fn letter(&self, bytes: &mut Unstructured<'_>) -> Result<Envelope> {
        let cluster = match bytes.int_in_range(0..=15)? {
            0 => None,
            1 => Some(ClusterId(2)),
            _ => Some(ClusterId(1)),
        };
        let (from, view) = (peer(bytes)?, number(bytes)?);
        let message = match bytes.int_in_range(0..=2)? {
            0 => self.of_work(bytes)?,
            1 => self.of_views(bytes)?,
            _ => self.of_joins(bytes)?,
        };
        Ok(Envelope { version: PROTOCOL_VERSION, cluster, from, view, message })
    }

    fn of_work(&self, bytes: &mut Unstructured<'_>) -> Result<P> {
        let view = number(bytes)?;
        let attempt = Attempt(bytes.int_in_range(0..=4)?);
        let (index, hash) = self.place(bytes)?;
        Ok(match bytes.int_in_range(0..=7)? {
            0 | 1 => {
                let commit_index = Index(bytes.int_in_range(0..=6)?);
                P::Prepare { view, attempt, entry: self.entry(bytes)?, commit_index }
            }
            2 => P::Vote { view, attempt, index, refusal: self.refusal(bytes)? },
            3 => P::Commit { view, attempt, index, hash },
            4 => P::Committed { view, attempt, index },
            5 => P::Confirm { view, round: self.number(bytes)? },
            6 => P::Confirmed { view, round: self.number(bytes)?, refusal: self.refusal(bytes)? },
            _ => P::HeartbeatAnswer { view, beat: 1, serving: bytes.ratio(1, 2)?.then_some((index, hash)) },
        })
    }

    fn of_views(&self, bytes: &mut Unstructured<'_>) -> Result<P> {
        let (view, ballot) = (number(bytes)?, self.ballot(bytes)?);
        Ok(match bytes.int_in_range(0..=12)? {
            0 => P::Election { view: self.view(bytes)? },
            1 => P::Alive { view, can_lead: bytes.arbitrary()? },
            2 => P::Victory { view: self.view(bytes)?, decision: None },
            3 => P::TakeOver { view },
            4 => P::Trial { view, campaign: self.number(bytes)? },
            5 => {
                let (willing, sign) = (bytes.arbitrary()?, bytes.ratio(1, 2)?.then_some(Sign::Reset));
                P::TrialAnswer { view, campaign: self.number(bytes)?, willing, promised: Some(ballot), sign }
            }
            6 => P::Promise { view, ballot },
            7 => P::Promised { view, ballot, answer: self.answer(bytes)? },
            8 => P::Accept { view, ballot, proposal: self.view(bytes)? },
            9 => P::Accepted { view, ballot, answer: self.answer(bytes)? },
            10 => P::AskView,
            11 => P::ViewIs { view: self.view(bytes)? },
            _ => {
                let (commit_index, hash) = self.place(bytes)?;
                let (beat, is_answered) = (self.number(bytes)?, bytes.arbitrary()?);
                P::Heartbeat { view, beat, log_end: commit_index, commit_index, hash, is_answered }
            }
        })
    }

    fn of_joins(&self, bytes: &mut Unstructured<'_>) -> Result<P> {
        let (view, session) = (number(bytes)?, SessionId(self.number(bytes)?));
        let (index, hash) = self.place(bytes)?;
        Ok(match bytes.int_in_range(0..=12)? {
            0 => P::BeginSync { nonce: self.number(bytes)?, commit_index: index, hash },
            1 => {
                let snapshot = SyncFrom::Snapshot { index, hash, last_timestamp: Timestamp(40) };
                let from = if bytes.arbitrary()? { snapshot } else { SyncFrom::Log(index) };
                P::SyncOk { nonce: self.number(bytes)?, view, session, from }
            }
            2 => {
                let reasons = [SyncRefusal::Busy, SyncRefusal::Listed, SyncRefusal::NotPrimary, SyncRefusal::NoSession];
                P::SyncRefused { session: Some(session), reason: *bytes.choose(&reasons)? }
            }
            3 => P::GiveMeAllData { session, cursor: bytes.arbitrary()? },
            4 => {
                let pairs: Vec<_> = bytes.arbitrary()?;
                let checksum = if bytes.ratio(1, 8)? { hash } else { chunk_checksum(&pairs) };
                P::Chunk { session, cursor: None, pairs, checksum, last: bytes.arbitrary()? }
            }
            5 => P::GiveEntries { session, after: index },
            6 => {
                let entries = (0..bytes.int_in_range(0..=3)?).map(|_| self.entry(bytes)).collect::<Result<_>>()?;
                P::Entries { session, after: index, entries, last: bytes.arbitrary()? }
            }
            7 => P::EndSync { session, index, hash },
            8 => P::ListMe { view },
            9 => P::Removed { incarnation: Incarnation(bytes.int_in_range(1..=4)?) },
            10 => P::LetMeGo { view },
            11 => P::Hello { round: self.number(bytes)?, seeds: vec![Address::new("1")] },
            _ => {
                let view = if bytes.arbitrary()? { Some(self.view(bytes)?) } else { None };
                P::HelloAnswer { round: self.number(bytes)?, seeds: vec![Address::new("1")], view }
            }
        })
    }
}

fn number(bytes: &mut Unstructured<'_>) -> Result<ViewNumber> {
    Ok(ViewNumber(bytes.int_in_range(0..=5)?))
}

/// One of four data nodes, a witness, or a data node with another disk.
///
/// # Errors
/// When the bytes are used up.
pub fn peer(bytes: &mut Unstructured<'_>) -> Result<Peer> {
    Ok(match bytes.int_in_range(0..=5)? {
        0 => Peer {
            voter: Voter::Witness(WitnessName::new("w")),
            incarnation: Incarnation(9),
            address: Address::new("9"),
        },
        1 => Peer { incarnation: Incarnation(77), ..node(bytes.int_in_range(1..=4)?) },
        n => node(n - 1),
    })
}

/// A data node.
#[must_use]
pub fn node(n: u32) -> Peer {
    Peer {
        voter: Voter::Replica(NodeId(n)),
        incarnation: Incarnation(u64::from(n)),
        address: Address::new(&n.to_string()),
    }
}

/// Whose write it is.
///
/// # Errors
/// When the bytes are used up.
pub fn owner(bytes: &mut Unstructured<'_>) -> Result<KeyOwner> {
    Ok(KeyOwner::new("ada", bytes.choose(&["x", "y", "z"])?).expect("a key"))
}
