//! What the web tier asks of the cluster, and what it is told (section 10).
//!
//! Not here: HTTP in any direction. Handlers of the client port hold a [`GatewayHandle`]; what goes to the nodes goes
//! through a [`NodePort`] that the binary provides.
//!
//! Reading order: the words here, [`follow`] (who leads), [`judge`] (what a try's outcome means), [`actor`]; [`figures`] are
//! for people.

pub mod actor;
pub mod figures;
pub mod follow;
pub mod judge;

pub use actor::{Gateway, GatewayActor, GatewayConfig, NodePort};
pub use figures::GatewayFigures;

use futures_util::future::BoxFuture;
use lockstep_protocol::change::Change;
use lockstep_protocol::ids::{Address, ClusterId, Peer, ViewNumber, Voter};
use lockstep_protocol::operation::{Answer, Found, Operation, Query};
use lockstep_protocol::operator::OperatorCall;
use lockstep_protocol::status::NodeStatus;
use lockstep_protocol::view::View;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a client wants done. An operation carries its idempotency key already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientCall {
    /// A write.
    Write(Operation),
    /// A query.
    Read(Query),
    /// An operator's call: never a client's.
    Operator(OperatorCall),
}

/// A node's answer to a call, and the view when the caller seems to know an older one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReply {
    /// What the client is told, or why to look elsewhere.
    pub answer: Answer,
    /// The last decided view that the node knows.
    pub view: Option<Arc<View>>,
}

/// Calls that travel together, in one request to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRequest {
    /// The last view that the caller knows.
    pub known: ViewNumber,
    /// The calls.
    pub calls: Vec<ClientCall>,
}

/// The answers to a [`CallRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallReplies {
    /// One for each call, in order.
    pub answers: Vec<Answer>,
    /// The last decided view that the node knows, when the caller knows an older one.
    pub view: Option<Arc<View>>,
}

/// What most answers take at most. Bytes.
const ANSWER_BYTES: usize = 512;

impl CallReplies {
    /// How large they are, roughly: what grows as it is encoded is copied twice. Bytes.
    #[must_use]
    pub fn room(&self) -> usize {
        let pages = self.answers.iter().map(|answer| match answer {
            Answer::Read(Found::Messages { messages, .. }, _) => messages.bytes(),
            _ => 0,
        });
        pages.sum::<usize>() + self.answers.len() * ANSWER_BYTES
    }
}

/// Why a node did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailed {
    /// Nothing was sent: it refused the connection, or could not be found. Certainly without effect.
    #[error("cannot be reached")]
    Unreached,
    /// The connection broke, or no answer came. It may have taken effect.
    #[error("no answer")]
    Lost,
    /// It refused the request unread: another secret, cluster or version. Without effect.
    #[error("refused: {0}")]
    Refused(String),
}

/// Whether a node leads: cheap to ask and to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leading {
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// The view in which it serves as primary.
    pub serving: Option<ViewNumber>,
    /// The last decided view that it knows, when the caller knows an older one.
    pub view: Option<Arc<View>>,
}

/// One node, witness or data node, as it sees itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Who answers.
    pub me: Peer,
    /// Its cluster; none before it knows one.
    pub cluster: Option<ClusterId>,
    /// Its machines' state.
    pub status: NodeStatus,
    /// The records of the last view changes that are applied there, oldest first.
    pub changes: Vec<Change>,
    /// What its data directory takes, and what room there is; none when the system does not tell.
    #[serde(default)]
    pub disk: Option<DiskReport>,
}

/// A node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// What the data directory takes. Bytes.
    pub used_bytes: u64,
    /// What may still be written to its disk. Bytes.
    pub free_bytes: u64,
}

/// One node that was asked for its report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAnswer {
    /// Where it was asked.
    pub address: Address,
    /// Who it is: as it says itself, else as the last known view says.
    pub voter: Option<Voter>,
    /// Its report, or why there is none.
    pub report: Result<NodeReport, String>,
}

/// What a gateway knows of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterReport {
    /// The last decided view that any node told of.
    pub view: Option<Arc<View>>,
    /// All known data nodes, members of the view or not, and the view's witnesses; in order of address.
    pub nodes: Vec<NodeAnswer>,
}

impl ClusterReport {
    /// The report of the primary that serves in the latest view, if one answered.
    #[must_use]
    pub fn primary(&self) -> Option<&NodeReport> {
        let serving = self.nodes.iter().filter_map(|node| node.report.as_ref().ok());
        serving.filter(|report| report.status.serving.is_some()).max_by_key(|report| report.status.serving)
    }
}

/// What the handlers of the client port hold. Cheap to call from any thread.
pub trait GatewayHandle: Send + Sync {
    /// Has the cluster do it; holds and retries with the same key while nobody leads, until `request_timeout`.
    fn call(&self, call: ClientCall) -> BoxFuture<'static, Answer>;

    /// Asks all known nodes how they are; takes about a second at most.
    fn cluster(&self) -> BoxFuture<'static, ClusterReport>;

    /// The records of the last view changes, oldest first, from the primary, or from whoever of the nodes knows most; none
    /// when no node answers. Takes about a second at most.
    fn view_changes(&self, limit: usize) -> BoxFuture<'static, Option<Vec<Change>>>;

    /// Whether a primary with a confirmed view is known.
    fn ready(&self) -> BoxFuture<'static, bool>;
}
