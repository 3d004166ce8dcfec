//! `lockstep remove` and `lockstep drain`: a node leaves, for good or for a while.
//!
//! They go to the peer ports, with the cluster's secret out of a settings file: clients cannot prove who they are, so the client
//! port does not know these calls. The primary is found, and asked again after a failover, as a gateway does it.
//!
//! Not here: who may leave, and how it goes (`lockstep_protocol`).

use super::{Failure, block_on};
use crate::http::call_client::CallClient;
use crate::settings::{Role, Settings};
use clap::Args;
use lockstep_actors::gateway::{
    ClientCall, ClusterReport, Gateway, GatewayActor, GatewayConfig, GatewayHandle, NodePort,
};
use lockstep_protocol::ids::{Address, NodeId, ViewNumber, Voter, WitnessName};
use lockstep_protocol::operation::Answer;
use lockstep_protocol::operator::{OperatorAnswer, OperatorCall};
use lockstep_protocol::view::View;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the cluster is looked at while a node leaves.
const LOOK: Duration = Duration::from_millis(200);

/// How long the node itself may take to answer.
const NODE_PATIENCE: Duration = Duration::from_secs(5);

/// What both take.
#[derive(Debug, Args)]
struct Target {
    /// The settings of any process of the cluster: its seeds and its secret are needed
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How long to wait until the node is out of the view
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
}

/// What `remove` takes.
#[derive(Debug, Args)]
pub struct Remove {
    /// A data node's id, or a gateway's name
    node: String,
    #[command(flatten)]
    target: Target,
}

/// What `drain` takes.
#[derive(Debug, Args)]
pub struct Drain {
    /// A data node's id
    node: u32,
    /// Let it come back, without a restart
    #[arg(long)]
    end: bool,
    #[command(flatten)]
    target: Target,
}

/// Removes a node for good.
pub fn remove(arguments: &Remove) -> Result<ExitCode, Failure> {
    let said = block_on(async { Operator::of(&arguments.target)?.remove(voter(&arguments.node)).await })?;
    println!("{said}");
    Ok(ExitCode::SUCCESS)
}

/// Drains a node, or ends that.
pub fn drain(arguments: &Drain) -> Result<ExitCode, Failure> {
    let id = NodeId(arguments.node);
    let said = block_on(async { Operator::of(&arguments.target)?.drain(id, !arguments.end).await })?;
    println!("{said}");
    Ok(ExitCode::SUCCESS)
}

/// A number is a data node's id; everything else is a gateway's name.
fn voter(text: &str) -> Voter {
    match text.parse() {
        Ok(id) => Voter::Replica(NodeId(id)),
        Err(_) => Voter::Witness(WitnessName::new(text)),
    }
}

/// Who asks.
pub struct Operator {
    /// Finds the nodes.
    pub gateway: Gateway,
    /// Asks one of them.
    pub port: CallClient,
    patience: Duration,
}

impl Operator {
    fn of(target: &Target) -> Result<Self, Failure> {
        Self::new(&target.config, Duration::from_secs(target.patience))
    }

    /// With the seeds and the secret out of the settings of any process.
    pub fn new(config: &Path, patience: Duration) -> Result<Self, Failure> {
        let as_gateway = Settings::load(Some(config), Role::Gateway);
        let settings = as_gateway.or_else(|_| Settings::load(Some(config), Role::Node))?;
        let secret = settings.secret()?.as_str().to_owned();
        let config = GatewayConfig {
            data_nodes: settings.data_nodes(),
            request_timeout: patience,
            refresh: Duration::from_secs(1),
            requests_max: 16,
        };
        let seed = getrandom::u64().map_err(|error| Failure::new(format!("no randomness: {error}")))?;
        let gateway = Gateway::default();
        gateway.start_here(|| {
            GatewayActor::new(config, Box::new(CallClient::new(&secret, "operator")), seed, Arc::default())
        });
        Ok(Self { gateway, port: CallClient::new(&secret, "operator"), patience })
    }

    async fn remove(&self, voter: Voter) -> Result<String, Failure> {
        let call = OperatorCall::Remove { voter: voter.clone() };
        judge(self.gateway.call(ClientCall::Operator(call)).await)?;
        let view = self.leaves(&voter, "it is removed, and leaves as soon as another copy is there").await?;
        let is_data = voter.node().is_some();
        let rest = if is_data { "; its data is not needed any more" } else { "" };
        Ok(format!("{voter} is removed for good, and out of view {}: {}{rest}", view.number, copies(&view)))
    }

    async fn drain(&self, id: NodeId, on: bool) -> Result<String, Failure> {
        let voter = Voter::Replica(id);
        let address = self.address_of(&voter).await?;
        let asked = self.port.call(&address, ViewNumber(u64::MAX), ClientCall::Operator(OperatorCall::Drain { on }));
        let answer = tokio::time::timeout(NODE_PATIENCE, asked).await;
        let answer = answer.map_err(|_| Failure::new(format!("{voter} does not answer at {address}")))?;
        judge(answer.map_err(|failed| Failure::new(format!("{voter} at {address}: {failed}")))?.answer)?;
        if !on {
            return Ok(format!("{voter} joins again; `lockstep status` says when it is in the view"));
        }
        let view = self.leaves(&voter, "it leaves as soon as the view can spare it; `--end` takes that back").await?;
        let back = "It comes back when it is restarted, or with --end.";
        Ok(format!("{voter} is out of view {}: {}; stop it when you like. {back}", view.number, copies(&view)))
    }

    async fn address_of(&self, voter: &Voter) -> Result<Address, Failure> {
        let report = self.gateway.cluster().await;
        let is_it = |node: &&lockstep_actors::gateway::NodeAnswer| node.voter.as_ref() == Some(voter);
        let known = report.nodes.iter().find(is_it);
        known.map(|node| node.address.clone()).ok_or_else(|| Failure::new(format!("{voter} is nowhere to be found")))
    }

    /// Waits until a primary serves in a view without it.
    async fn leaves(&self, voter: &Voter, else_what: &str) -> Result<Arc<View>, Failure> {
        let begin = Instant::now();
        loop {
            let report = self.gateway.cluster().await;
            if let Some(view) = served(&report).filter(|view| view.seat(voter).is_none()) {
                return Ok(view);
            }
            if begin.elapsed() > self.patience {
                let waited = self.patience.as_secs();
                return Err(Failure::new(format!("{voter} is in the view still, after {waited} s: {else_what}")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The view in which a primary serves.
fn served(report: &ClusterReport) -> Option<Arc<View>> {
    let status = &report.primary()?.status;
    status.view.clone().filter(|view| status.serving == Some(view.number))
}

fn judge(answer: Answer) -> Result<(), Failure> {
    match answer {
        Answer::Operator(OperatorAnswer::Refused(refusal)) => Err(Failure::new(format!("refused: {refusal}"))),
        Answer::Operator(OperatorAnswer::Removed | OperatorAnswer::Draining | OperatorAnswer::DrainEnded) => Ok(()),
        Answer::Failed(error) => Err(Failure::new(format!("{error}; ask again, that is no error"))),
        Answer::Written(..) | Answer::Read(..) => Err(Failure::new("the answer is to something else")),
    }
}

fn copies(view: &View) -> String {
    let ids: Vec<_> = view.replicas.keys().map(ToString::to_string).collect();
    match ids.len() {
        1 => format!("one copy remains (node {})", ids.join(", ")),
        count => format!("{count} copies remain (nodes {})", ids.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_protocol::operator::OperatorRefusal;

    #[test]
    fn r25_a_number_is_a_data_node_and_anything_else_a_gateway() {
        assert_eq!(voter("3"), Voter::Replica(NodeId(3)));
        assert_eq!(voter("gateway-1"), Voter::Witness(WitnessName::new("gateway-1")));
    }

    #[test]
    fn r25_a_refusal_is_told_in_a_sentence() {
        let refusal = OperatorRefusal::TooFew { voter: Voter::Replica(NodeId(2)), left: 1, needed: 2 };
        let said = judge(Answer::Operator(OperatorAnswer::Refused(refusal))).expect_err("refused").to_string();
        assert_eq!(said, "refused: without node 2 there would be 1 copies, and replication.min_replicas is 2");
        assert_eq!(judge(Answer::Operator(OperatorAnswer::Removed)), Ok(()));
    }
}
