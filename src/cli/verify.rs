//! `lockstep verify`: whether all replicas hold the same (S5), while they serve. Exit code 0 all equal, 1 one differs, cannot
//! read what it holds, or could not be asked.
//!
//! All are frozen at one index, each is read whole where it is, and the answers are compared here. It goes to the peer ports, as
//! `remove` and `drain` do. Nothing is changed: what to do is said, and an operator does it.
//!
//! Not here: what differs since when (`lockstep_protocol::verify`).

use super::Failure;
use super::operator::Operator;
use super::people::{print, safe};
use clap::Args;
use futures_util::future::join_all;
use lockstep_actors::gateway::{CallFailed, ClusterReport, GatewayHandle, NodeAnswer};
use lockstep_protocol::ids::{Address, Index, NodeId, Voter};
use lockstep_protocol::verify::{
    Bisect, FreezeAnswer, Held, ScanAnswer, Since, Standing, Target, Verdict, judge, next_target,
};
use lockstep_protocol::view::View;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long a node waits for the index at which all are to be frozen.
const FREEZE_WAIT: Duration = Duration::from_secs(2);

/// How often all are asked for another index, while more is applied than was foreseen.
const ROUNDS_MAX: u32 = 10;

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The settings of any process of the cluster: its seeds and its secret are needed
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How long each node may take to read all that it holds
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    patience: u64,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let operator = Operator::new(&arguments.config, Duration::from_secs(arguments.patience))?;
    let report = Run { operator, patience: Duration::from_secs(arguments.patience) }.report().await?;
    print(arguments.json, &report.json(), report.lines());
    Ok(if report.verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a data node is, or why it cannot be asked.
type Place = Result<Address, String>;

/// One comparison.
struct Run {
    operator: Operator,
    patience: Duration,
}

/// What came of it.
struct Report {
    view: Arc<View>,
    index: Index,
    held: BTreeMap<NodeId, Held>,
    verdict: Verdict,
    /// Of those with another history.
    since: BTreeMap<NodeId, Since>,
}

impl Run {
    async fn report(&self) -> Result<Report, Failure> {
        let cluster = self.operator.gateway.cluster().await;
        let Some(view) = cluster.view.clone() else { return Err(Failure::new("no data node answers")) };
        let mut places = places(&cluster, &view);
        let (index, tickets) = self.freeze(&mut places, last_applied(&cluster)).await?;
        let held = self.scan(&places, &tickets).await;
        let verdict = judge(&held, Some(view.primary));
        let since = self.search(&places, &held, &verdict, index).await;
        Ok(Report { view, index, held, verdict, since })
    }

    /// Has all keep what they hold at one index. Who does not answer is asked no more.
    async fn freeze(
        &self,
        places: &mut BTreeMap<NodeId, Place>,
        mut at: Index,
    ) -> Result<(Index, BTreeMap<NodeId, u64>), Failure> {
        for _ in 0..ROUNDS_MAX {
            let asked = places.iter().filter_map(|(id, place)| Some((*id, place.as_ref().ok()?)));
            let asked = asked.map(|(id, address)| {
                let answer = self.operator.port.freeze(address, at, FREEZE_WAIT);
                async move { (id, answer.await) }
            });
            let (mut tickets, mut told) = (BTreeMap::new(), Vec::new());
            for (id, answer) in join_all(asked).await {
                match &answer {
                    Ok(FreezeAnswer::Frozen { ticket, .. }) => drop(tickets.insert(id, *ticket)),
                    Ok(FreezeAnswer::Passed { .. }) => {}
                    Ok(FreezeAnswer::NoStore) => {
                        drop(places.insert(id, Err("it joins: its store is not whole".into())))
                    }
                    Err(failed) => drop(places.insert(id, Err(failed.to_string()))),
                }
                told.extend(answer.ok());
            }
            match next_target(at, &told) {
                Target::Reached(index) => return Ok((index, tickets)),
                Target::Again(later) => at = later,
            }
        }
        Err(Failure::new("the replicas could not be read at one index; ask again, or when less is written"))
    }

    async fn scan(&self, places: &BTreeMap<NodeId, Place>, tickets: &BTreeMap<NodeId, u64>) -> BTreeMap<NodeId, Held> {
        let each = places.iter().map(|(id, place)| async move {
            let (Ok(address), Some(ticket)) = (place, tickets.get(id)) else {
                let why = place.as_ref().err().cloned().unwrap_or_else(|| "it kept nothing to read".to_owned());
                return (*id, Held::NotAsked(why));
            };
            (*id, held(self.operator.port.scan(address, *ticket, self.patience).await))
        });
        join_all(each).await.into_iter().collect()
    }

    /// Looks for the first entry that differs, of each that has another history.
    async fn search(
        &self,
        places: &BTreeMap<NodeId, Place>,
        held: &BTreeMap<NodeId, Held>,
        verdict: &Verdict,
        index: Index,
    ) -> BTreeMap<NodeId, Since> {
        let mut found = BTreeMap::new();
        let Some(measure) = verdict.measure else { return found };
        let differing = verdict.standings.iter().filter(|(_, standing)| **standing == Standing::OtherHistory);
        for (id, _) in differing {
            let (Some(Ok(here)), Some(Ok(there))) = (places.get(id), places.get(&measure)) else { continue };
            let (Some(Held::Scanned(one)), Some(Held::Scanned(other))) = (held.get(id), held.get(&measure)) else {
                continue;
            };
            let mut bisect = Bisect::new(index, one.log_first, other.log_first);
            while let Some(at) = bisect.next() {
                let port = &self.operator.port;
                let (Ok(one), Ok(other)) = futures_util::join!(port.chain_at(here, at), port.chain_at(there, at))
                else {
                    break; // What is known by now is told.
                };
                bisect.hear(at, one, other);
            }
            found.insert(*id, bisect.since());
        }
        found
    }
}

fn held(answer: Result<ScanAnswer, CallFailed>) -> Held {
    match answer {
        Ok(ScanAnswer::Whole(scan)) => Held::Scanned(scan),
        Ok(ScanAnswer::Unreadable(why)) => Held::Unreadable(why),
        Ok(ScanAnswer::Gone) => Held::NotAsked("somebody else's verify came between; ask again".to_owned()),
        Err(failed) => Held::NotAsked(format!("while it was read: {failed}")),
    }
}

/// The last entry that any of them has applied.
fn last_applied(cluster: &ClusterReport) -> Index {
    let reports = cluster.nodes.iter().filter_map(|node| node.report.as_ref().ok());
    reports.map(|report| report.status.applied).max().unwrap_or_default()
}

/// All data nodes that are not removed: a copy that is not there is no copy that is equal.
fn places(cluster: &ClusterReport, view: &View) -> BTreeMap<NodeId, Place> {
    let members = cluster.primary().map(|primary| primary.status.members.clone()).unwrap_or_default();
    let known = members.iter().map(|member| member.peer.voter.clone());
    let answering = cluster.nodes.iter().filter_map(|node| node.voter.clone());
    let listed = view.replicas.keys().map(|id| Voter::Replica(*id));
    let all = known.chain(answering).chain(listed).filter(|voter| !members.has_left(voter));
    all.filter_map(|voter| Some((voter.node()?, place(&voter, cluster, view)))).collect()
}

fn place(voter: &Voter, cluster: &ClusterReport, view: &View) -> Place {
    let is_it = |node: &&NodeAnswer| node.voter.as_ref() == Some(voter);
    match cluster.nodes.iter().find(is_it).map(|node| (&node.address, &node.report)) {
        Some((address, Ok(_))) if view.seat(voter).is_some() => Ok(address.clone()),
        Some((_, Ok(_))) => Err("it is not in the view".to_owned()),
        Some((_, Err(why))) => Err(why.clone()),
        None => Err("it is nowhere to be found".to_owned()),
    }
}

impl Report {
    fn lines(&self) -> Vec<String> {
        let count = self.verdict.standings.len();
        let (index, view) = (self.index, self.view.number);
        let head = match (self.verdict.is_good(), self.verdict.measure) {
            (true, _) if count == 1 => format!("One replica, whole and readable at entry {index}, view {view}."),
            (true, _) => format!("All {count} replicas hold the same at entry {index}, view {view}."),
            (false, Some(measure)) => {
                format!("NOT ALL EQUAL at entry {index}, view {view}; the measure is node {measure}.")
            }
            (false, None) => format!("Nothing could be read, view {view}."),
        };
        let mut lines = vec![head];
        lines.extend(self.verdict.standings.iter().map(|(id, standing)| self.line(*id, standing)));
        lines.extend(self.advice());
        lines
    }

    fn line(&self, id: NodeId, standing: &Standing) -> String {
        let said = match standing {
            Standing::Equal => "equal".to_owned(),
            Standing::OtherHistory => format!("DIFFERS: it applied other entries, {}", self.since_text(id)),
            Standing::OtherStore => "DIFFERS: its log is the same, and its store is not what that log makes".to_owned(),
            Standing::Unreadable(why) => format!("CANNOT READ what it holds: {}", safe(why)),
            Standing::NotCompared(why) => format!("not compared: {}", safe(why)),
        };
        let Some(Held::Scanned(scan)) = self.held.get(&id) else { return format!("node {id}: {said}") };
        let (first, end) = (scan.log_first, scan.log_end);
        let read = format!("{} pairs, {} bytes, log {first} to {end}", scan.pairs, scan.bytes);
        format!("node {id}: {said} ({read}; chain {}, store {})", scan.hash, scan.digest)
    }

    fn since_text(&self, id: NodeId) -> String {
        match self.since.get(&id) {
            Some(Since::Entry(index)) => format!("since entry {index}"),
            Some(Since::NoLater(index)) => {
                format!("no later than entry {index}: before that, not both logs know any more")
            }
            None => format!("no later than entry {}", self.index),
        }
    }

    /// What to do next, a line for each kind of trouble.
    fn advice(&self) -> Vec<String> {
        let ids = |wanted: fn(&Standing) -> bool| {
            let such = self.verdict.standings.iter().filter(|(_, standing)| wanted(standing));
            such.map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(", ")
        };
        let is_other = |standing: &Standing| matches!(standing, Standing::OtherHistory | Standing::OtherStore);
        let (differ, rotten) = (ids(is_other), ids(|standing| matches!(standing, Standing::Unreadable(_))));
        let away = ids(|standing| matches!(standing, Standing::NotCompared(_)));
        let empty = "`lockstep drain ID`, stop it, put its data directory aside, and start it with an empty one: it copies \
                     everything from the primary";
        let mut lines = Vec::new();
        if !differ.is_empty() {
            lines.push(format!("Next, for {differ}: {empty}. Keep the old directory for a report. Then verify again."));
        }
        if !rotten.is_empty() {
            lines.push(format!("Next, for {rotten}: its disk lost or changed bytes. Another disk; {empty}."));
        }
        if !away.is_empty() {
            lines.push(format!("Next, for {away}: see `lockstep status`; verify again when it is in the view."));
        }
        lines
    }

    fn json(&self) -> Value {
        let nodes = self.verdict.standings.iter().map(|(id, standing)| self.node_json(*id, standing));
        json!({
            "equal": self.verdict.is_good(),
            "index": self.index,
            "view": self.view.number,
            "measure": self.verdict.measure,
            "nodes": nodes.collect::<Vec<_>>(),
            "next": self.advice(),
        })
    }

    fn node_json(&self, id: NodeId, standing: &Standing) -> Value {
        let (state, detail) = match standing {
            Standing::Equal => ("equal", None),
            Standing::OtherHistory => ("other_history", None),
            Standing::OtherStore => ("other_store", None),
            Standing::Unreadable(why) => ("unreadable", Some(why)),
            Standing::NotCompared(why) => ("not_compared", Some(why)),
        };
        let since = self.since.get(&id).map(|since| match since {
            Since::Entry(index) => json!({ "entry": index }),
            Since::NoLater(index) => json!({ "no_later_than": index }),
        });
        let mut node = json!({ "id": id, "state": state, "detail": detail, "since": since });
        if let (Some(Held::Scanned(scan)), Some(node)) = (self.held.get(&id), node.as_object_mut()) {
            node.insert("pairs".into(), json!(scan.pairs));
            node.insert("bytes".into(), json!(scan.bytes));
            node.insert("log_first".into(), json!(scan.log_first));
            node.insert("log_end".into(), json!(scan.log_end));
            node.insert("chain".into(), json!(scan.hash.to_string()));
            node.insert("store".into(), json!(scan.digest.to_string()));
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_protocol::change::Cause;
    use lockstep_protocol::ids::{ClusterId, Hash, Timestamp, ViewNumber};
    use lockstep_protocol::verify::Scan;

    fn report(held: Vec<Held>, since: Since) -> Report {
        let held: BTreeMap<_, _> = (1..).map(NodeId).zip(held).collect();
        let primary = NodeId(3);
        let view = View {
            cluster: ClusterId(1),
            number: ViewNumber(4),
            primary,
            replicas: BTreeMap::new(),
            witnesses: BTreeMap::new(),
            cause: Cause::new(Timestamp(0), primary, Vec::new()).into(),
        };
        let verdict = judge(&held, Some(primary));
        Report { view: view.into(), index: Index(9), held, verdict, since: [(NodeId(2), since)].into() }
    }

    fn scan(chain: u8, digest: u8) -> Held {
        let (hash, digest, index) = (Hash([chain; 32]), Hash([digest; 32]), Index(9));
        Held::Scanned(Scan { index, hash, digest, pairs: 5, bytes: 70, log_first: Index(2), log_end: index })
    }

    #[test]
    fn s5_equal_replicas_are_told_in_one_line_each() {
        let report = report(vec![scan(1, 1), scan(1, 1)], Since::Entry(Index(9)));
        let read = "equal (5 pairs, 70 bytes, log 2 to 9; chain 01010101, store 01010101)";
        let lines = [
            "All 2 replicas hold the same at entry 9, view 4.".into(),
            format!("node 1: {read}"),
            format!("node 2: {read}"),
        ];
        assert_eq!(report.lines(), lines);
        assert_eq!(report.json()["equal"], true);
    }

    #[test]
    fn s5_who_differs_since_when_and_what_to_do_is_told() {
        let apart = report(vec![scan(1, 1), scan(2, 2), scan(1, 1)], Since::Entry(Index(7)));
        let lines = apart.lines();
        assert_eq!(lines[0], "NOT ALL EQUAL at entry 9, view 4; the measure is node 3.");
        assert!(lines[2].starts_with("node 2: DIFFERS: it applied other entries, since entry 7 ("), "{}", lines[2]);
        assert!(lines[4].starts_with("Next, for 2: `lockstep drain ID`, stop it"), "{}", lines[4]);
        assert_eq!(apart.json()["nodes"][1]["since"]["entry"], 7);
        let rotten = vec![scan(1, 1), Held::Unreadable("checksum\u{1b}[2J".into()), Held::NotAsked("no answer".into())];
        let lines = report(rotten, Since::NoLater(Index(3))).lines();
        assert_eq!(lines[2], "node 2: CANNOT READ what it holds: checksum\\u{1b}[2J");
        assert_eq!(lines[3], "node 3: not compared: no answer");
        assert!(lines[4].starts_with("Next, for 2: its disk lost") && lines[5].starts_with("Next, for 3: see"));
    }
}
