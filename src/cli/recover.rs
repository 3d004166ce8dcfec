//! `lockstep recover`: the operator's last resort (section 9), when the disks of the last view are gone or its quorum never
//! comes back. It makes one stopped data node a cluster of its own: view `n+1000`, with that node alone.
//!
//! It says first what the node knows and what may be missing, and changes nothing until the cluster's id is typed.
//!
//! Why it needs a person: nobody else can know that the others are gone. A node of an older view may lack what later views
//! acknowledged, and if those still serve there are two clusters of one name.

use super::Failure;
use super::api::random_hex;
use crate::http::client_json::instant;
use crate::settings::{Role, Settings};
use clap::Args;
use lockstep_actors::engine::{Engine, FaultPlan};
use lockstep_protocol::change::{Cause, Reason};
use lockstep_protocol::ids::{Address, Incarnation, NodeId, Peer, Timestamp, ViewNumber, WriteId};
use lockstep_protocol::storage::kv::Kv;
use lockstep_protocol::storage::{Recovered, Storage, StorageError, StorageEvent, StorageRequest, VoteRecord};
use lockstep_protocol::view::{Seat, View};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How far the new view's number is from the last known one: further than any view that others may have decided meanwhile.
const VIEWS_SKIPPED: u64 = 1_000;

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The settings of the stopped data node
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::new(error.to_string())
    }
}

/// Asks on the terminal, and recovers or changes nothing.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = Settings::load(Some(&arguments.config), Role::Node)?;
    recover(&settings, &mut std::io::stdin().lock(), &mut std::io::stdout().lock())
}

/// The same, with the conversation as arguments.
fn recover(settings: &Settings, input: &mut impl BufRead, output: &mut impl Write) -> Result<ExitCode, Failure> {
    refuse_empty(&settings.node.data_dir)?;
    let engine = Engine::open(&settings.node.data_dir, FaultPlan::default())?;
    let (mut storage, recovered) =
        Storage::open(engine, settings.node_voter(), fresh_incarnation()?, &settings.limits())?;
    let plan = Plan::new(&recovered, NodeId(settings.node.id), settings.node_address())?;
    let said = |e: std::io::Error| Failure::new(format!("the terminal does not answer: {e}"));
    for line in &plan.story {
        writeln!(output, "{line}").map_err(said)?;
    }
    let cluster = plan.vote.view.cluster.to_string();
    write!(output, "\nTo go on, type the cluster's id, {cluster}: ").and_then(|()| output.flush()).map_err(said)?;
    let mut typed = String::new();
    input.read_line(&mut typed).map_err(said)?;
    if typed.trim() != cluster {
        writeln!(output, "That is not it. Nothing was changed.").map_err(said)?;
        return Ok(ExitCode::FAILURE);
    }
    let number = plan.vote.view.number;
    write_vote(&mut storage, plan.vote)?;
    writeln!(output, "Done: view {number}. Start the node; empty nodes, and old ones, join it.").map_err(said)?;
    Ok(ExitCode::SUCCESS)
}

/// Opening would create what is not there.
fn refuse_empty(data_dir: &Path) -> Result<(), Failure> {
    let shown = data_dir.display();
    let mut entries = std::fs::read_dir(data_dir).map_err(|e| Failure::new(format!("{shown} cannot be read: {e}")))?;
    entries.next().map(|_| ()).ok_or_else(|| Failure::new(format!("{shown} is empty: there is nothing to recover")))
}

/// Only an empty directory would take it, and those are refused.
fn fresh_incarnation() -> Result<Incarnation, Failure> {
    let digits = random_hex(8)?;
    u64::from_str_radix(&digits, 16).map(Incarnation).map_err(|e| Failure::new(e.to_string()))
}

fn write_vote<K: Kv>(storage: &mut Storage<K>, vote: VoteRecord) -> Result<(), Failure> {
    let write = WriteId(1);
    let events = storage.perform(vec![StorageRequest::WriteVote { write, vote }])?;
    let durable =
        events.iter().any(|event| matches!(event, StorageEvent::Durable { write: done, .. } if *done == write));
    if durable { Ok(()) } else { Err(Failure::new("the storage did not confirm the write; nothing is certain")) }
}

/// What will be written, and what the operator is told before.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    vote: VoteRecord,
    story: Vec<String>,
}

impl Plan {
    fn new(recovered: &Recovered, me: NodeId, address: Address) -> Result<Self, Failure> {
        let Some(old) = &recovered.vote else {
            return Err(Failure::new("this node never was in a cluster: there is nothing to recover"));
        };
        let incarnation = recovered.identity.incarnation;
        let last = &old.view;
        let number = ViewNumber(last.number.0.saturating_add(VIEWS_SKIPPED));
        let view = View {
            cluster: last.cluster,
            number,
            primary: me,
            replicas: [(me, Seat { incarnation, address })].into(),
            witnesses: Default::default(),
            cause: Cause::new(now()?, me, vec![Reason::Recovered { from: last.number, made: number }]).into(),
        };
        let mut story = what_it_knows(recovered, old);
        story.push(String::new());
        story.extend(what_may_be_missing(recovered, old));
        story.extend([
            String::new(),
            format!("This makes it view {number}, with node {me} alone. Before that, be sure that no other data node and"),
            "no witness of this cluster runs, or ever starts again without joining: they would go on as a second cluster.".into(),
        ]);
        Ok(Self { vote: VoteRecord { view, promised: None, accepted: None }, story })
    }
}

/// By this machine's clock; for people.
fn now() -> Result<Timestamp, Failure> {
    let since = std::time::UNIX_EPOCH.elapsed().map_err(|e| Failure::new(format!("the clock is before 1970: {e}")))?;
    Ok(Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)))
}

fn what_it_knows(recovered: &Recovered, vote: &VoteRecord) -> Vec<String> {
    let view = &vote.view;
    let ids: Vec<_> = view.replicas.keys().map(ToString::to_string).collect();
    let names: Vec<_> = view.witnesses.keys().map(ToString::to_string).collect();
    let (committed, hash) = recovered.committed;
    let mut story = vec![
        format!("{} of cluster {}", recovered.identity.voter, view.cluster),
        format!("  last view that it knows: {}, primary {}", view.number, view.primary),
        format!(
            "  its replicas: {}; its witnesses: {}",
            ids.join(", "),
            if names.is_empty() { "none".into() } else { names.join(", ") }
        ),
        format!("  committed up to entry {committed} (hash {hash}), {}", until(recovered.last_timestamp)),
    ];
    if let (Some(first), Some(end)) = (recovered.tail.first(), recovered.tail.last()) {
        let (first, end) = (first.entry.index, end.entry.index);
        story.push(format!(
            "  entries {first} to {end} are prepared, and not known to be committed: they WILL be committed"
        ));
    }
    story
}

fn until(last: Timestamp) -> String {
    if last == Timestamp::default() {
        "with no write in them".to_owned()
    } else {
        format!("the last write at {}", instant(last))
    }
}

/// A commit needs all replicas of its view. So whoever the last view lists holds all that was acknowledged up to then.
fn what_may_be_missing(recovered: &Recovered, vote: &VoteRecord) -> Vec<String> {
    let view = &vote.view;
    let end = recovered.tail.last().map_or(recovered.committed.0, |record| record.entry.index);
    let me = Peer {
        voter: recovered.identity.voter.clone(),
        incarnation: recovered.identity.incarnation,
        address: Address::new(""),
    };
    let mut story = vec!["What may be missing:".to_owned()];
    if view.lists_replica(&me) {
        story.push(format!(
            "  Nothing that was acknowledged in view {} or before: it was one of the replicas.",
            view.number
        ));
        story.push(format!(
            "  Every write that was acknowledged in a LATER view, if there was one: entries after {end}."
        ));
    } else {
        story.push(format!(
            "  View {} LEFT THIS NODE OUT. Every write acknowledged after entry {end} is missing.",
            view.number
        ));
        story.push("  A node that the last view lists is a better choice, if one still has its disk.".to_owned());
    }
    if let Some((_, next)) = &vote.accepted {
        let number = next.number;
        story.push(format!(
            "  It accepted view {number} (primary {}) and never learnt whether that was decided.",
            next.primary
        ));
    }
    story
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_protocol::ids::{Ballot, ClusterId, Voter};

    const CLUSTER: ClusterId = ClusterId(0xabc);

    fn settings(dir: &Path) -> Settings {
        let set = |name: &str, value: &str| (format!("LOCKSTEP__{name}"), value.to_owned());
        let data_dir = dir.join("data");
        let variables = [
            set("NODE__ID", "2"),
            set("NODE__DATA_DIR", &data_dir.display().to_string()),
            set("NODE__LISTEN", "127.0.0.1:7102"),
            set("CLUSTER__SEEDS", "127.0.0.1:7101"),
            set("CLUSTER__SECRET_FILE", "none"),
        ];
        Settings::from_layers(None, Role::Node, variables).expect("settings")
    }

    fn open(settings: &Settings) -> (Storage<Engine>, Recovered) {
        let engine = Engine::open(&settings.node.data_dir, FaultPlan::default()).expect("opens");
        Storage::open(engine, settings.node_voter(), Incarnation(7), &settings.limits()).expect("opens")
    }

    fn view(number: u64, listed: &[u32]) -> View {
        let seat =
            |n: u32| Seat { incarnation: Incarnation(if n == 2 { 7 } else { n.into() }), address: Address::new("x") };
        View {
            cluster: CLUSTER,
            number: ViewNumber(number),
            primary: NodeId(3),
            replicas: listed.iter().map(|n| (NodeId(*n), seat(*n))).collect(),
            witnesses: Default::default(),
            cause: Cause::new(Timestamp(0), NodeId(3), Vec::new()).into(),
        }
    }

    fn converse(settings: &Settings, typed: &str) -> (Result<ExitCode, Failure>, String) {
        let mut output = Vec::new();
        let done = recover(settings, &mut typed.as_bytes(), &mut output);
        (done, String::from_utf8(output).expect("text"))
    }

    #[test]
    fn section_9_the_typed_id_makes_it_a_view_of_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = settings(dir.path());
        let (mut storage, _) = open(&settings);
        let accepted = Some((Ballot { round: 1, node: NodeId(3) }, view(8, &[1, 3])));
        let before = VoteRecord { view: view(7, &[1, 2, 3]), promised: None, accepted };
        write_vote(&mut storage, before.clone()).expect("written");
        drop(storage);

        let (done, said) = converse(&settings, "yes\n");
        assert_eq!(done, Ok(ExitCode::FAILURE));
        assert!(
            said.ends_with("Nothing was changed.\n") && said.contains("Nothing that was acknowledged in view 7"),
            "{said}"
        );
        assert!(said.contains("It accepted view 8 (primary 3)"), "{said}");
        assert_eq!(open(&settings).1.vote, Some(before));

        let (done, said) = converse(&settings, &format!("{CLUSTER}\n"));
        assert_eq!(done, Ok(ExitCode::SUCCESS), "{said}");
        let after = open(&settings).1.vote.expect("a vote");
        assert_eq!((after.promised, &after.accepted), (None, &None));
        assert!(after.view.is_well_formed());
        assert_eq!(
            (after.view.cluster, after.view.number, after.view.primary),
            (CLUSTER, ViewNumber(1_007), NodeId(2))
        );
        let seat = Seat { incarnation: Incarnation(7), address: Address::new("127.0.0.1:7102") };
        assert_eq!(after.view.replicas, [(NodeId(2), seat)].into());
    }

    #[test]
    fn section_9_a_node_that_was_left_out_says_so() {
        let recovered = Recovered {
            identity: lockstep_protocol::storage::Identity {
                voter: Voter::Replica(NodeId(2)),
                incarnation: Incarnation(7),
            },
            vote: Some(VoteRecord { view: view(9, &[1, 3]), promised: None, accepted: None }),
            committed: Default::default(),
            recent: Vec::new(),
            tail: Vec::new(),
            last_timestamp: Timestamp(1_700_000_000_000_123),
            members: Default::default(),
        };
        let plan = Plan::new(&recovered, NodeId(2), Address::new("x")).expect("a plan");
        let story = plan.story.join("\n");
        assert!(story.contains("View 9 LEFT THIS NODE OUT") && story.contains("2023-11-14T22:13:20"), "{story}");
    }

    #[test]
    fn section_9_there_must_be_something_to_recover() {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = settings(dir.path());
        let said = |settings: &Settings| converse(settings, "").0.expect_err("nothing is there").to_string();
        assert!(said(&settings).contains("cannot be read"));
        assert!(!settings.node.data_dir.exists(), "it was created");
        drop(open(&settings));
        assert!(said(&settings).contains("never was in a cluster"));
        let _running = open(&settings);
        assert!(said(&settings).contains("in use by another process"), "{}", said(&settings));
    }
}
