//! What a node says of itself to people: a copy of each machine's state, never read back by a machine.

use crate::ids::{Index, Millis, NodeId, SessionId, ViewNumber, Voter};
use crate::member::Members;
use crate::tally::Tally;
use crate::view::View;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a node is in its cluster now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Knows no view yet.
    #[default]
    Waiting,
    /// Serves as primary.
    Primary,
    /// Listed by its view, and not serving as primary.
    Replica,
    /// Not listed: joins, or waits for its turn.
    Syncing,
    /// Votes, holds nothing.
    Witness,
    /// Not listed, and stays out.
    Drained,
}

/// What the primary knows of another voter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Where its log ended at its last heartbeat.
    pub log_end: Index,
    /// What it knew to be committed then.
    pub commit_index: Index,
    /// When it was last heard.
    pub heard_at: Millis,
}

/// A sync session as its giver, or its taker, sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// Which.
    pub session: SessionId,
    /// Who joins.
    pub node: NodeId,
    /// `snapshot`, `entries` or `ending`.
    pub phase: String,
    /// Bytes of the snapshot that were sent or taken.
    pub bytes: u64,
    /// Roughly how many there are; 0 when not known.
    pub bytes_total: u64,
    /// The last entry that was sent or taken.
    pub index: Index,
}

/// One node, as it sees itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// What it is.
    pub role: Role,
    /// The last decided view that it knows.
    pub view: Option<Arc<View>>,
    /// The view in which it serves as primary.
    pub serving: Option<ViewNumber>,
    /// Where its log ends.
    pub log_end: Index,
    /// What it knows to be committed.
    pub commit_index: Index,
    /// What its store shows.
    pub applied: Index,
    /// Of the primary: the others, as last heard. A list of pairs in JSON, whose keys can only be text.
    #[serde(with = "as_pairs")]
    pub peers: BTreeMap<Voter, PeerStatus>,
    /// The session under way.
    pub sync: Option<SyncStatus>,
    /// Writes that wait or are in flight.
    pub writes_waiting: u64,
    /// Reads that wait.
    pub reads_waiting: u64,
    /// Locks held.
    pub locks_held: u64,
    /// Lock requests that wait.
    pub locks_waiting: u64,
    /// What it waits for before it can serve, for people; empty when it does not.
    pub waiting_for: String,
    /// What it counted since its process began. It does not travel.
    #[serde(skip)]
    pub tally: Tally,
    /// Who was ever a voter, as far as it has applied; none at a witness.
    pub members: Members,
    /// `replication.min_replicas`, as it was told.
    pub replicas_min: u32,
}

mod as_pairs {
    use super::{BTreeMap, PeerStatus, Voter};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(peers: &BTreeMap<Voter, PeerStatus>, to: S) -> Result<S::Ok, S::Error> {
        peers.iter().collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Voter, PeerStatus>, D::Error> {
        Ok(Vec::<(Voter, PeerStatus)>::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, view, witness};

    #[test]
    fn what_a_node_says_of_itself_arrives_as_it_was_said() {
        let heard = |n| PeerStatus { log_end: Index(n), commit_index: Index(n - 1), heard_at: Millis(1_000 * n) };
        let status = NodeStatus {
            role: Role::Primary,
            view: Some(Arc::new(view(2, 3, &[1, 3], 1))),
            serving: Some(ViewNumber(2)),
            peers: [(node(1).voter, heard(7)), (witness(1).voter, heard(2))].into(),
            ..NodeStatus::default()
        };
        let bytes = postcard::to_stdvec(&status).expect("encodes");
        assert_eq!(postcard::from_bytes::<NodeStatus>(&bytes).expect("decodes"), status);
    }
}
