//! `lockstep verify` on real processes (S5): equal replicas under load, one whose store was changed behind its back, one whose
//! disk rotted; and how they are repaired from a peer.

use super::check;
use super::gate::{WIDE, eventually};
use super::harness::{Cluster, SOME, busy_cluster, gateway_name};
use super::load::Load;
use super::process::{BINARY, Process};
use lockstep_actors::engine::{Engine, FaultPlan};
use lockstep_protocol::ids::{Hash, Incarnation, Index, NodeId, Timestamp, Voter, WriteId};
use lockstep_protocol::log::{Batch, Entry};
use lockstep_protocol::machine::Limits;
use lockstep_protocol::storage::kv::{Direction, KeyRange, Kv, ReadKv, Table, WriteBatch};
use lockstep_protocol::storage::{Storage, StorageEvent, StorageRequest, Writer};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// Its exit code, and its answer.
fn verify(cluster: &Cluster) -> (Option<i32>, Value) {
    let config = cluster.path(&format!("{}.toml", gateway_name(0)));
    let output = Command::new(BINARY).args(["verify", "--json", "--config"]).arg(config).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let answer = serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code(), answer)
}

/// What the node's line says of it.
fn state(answer: &Value, id: u32) -> &str {
    let nodes = answer["nodes"].as_array().expect("nodes");
    let node = nodes.iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("node {id} in {answer:#}"));
    node["state"].as_str().expect("text")
}

fn a_replica(cluster: &mut Cluster) -> u32 {
    let (_, primary) = cluster.primary();
    if primary == 1 { 2 } else { 1 }
}

/// Changes one value of a stopped node's store, past all checksums, as only a bug could.
fn change_a_message(cluster: &Cluster, id: u32) {
    let mut engine = Engine::open(&cluster.data_dir(id), FaultPlan::default()).expect("opens");
    let mut found = None;
    let visit = &mut |key: &[u8], value: &[u8]| {
        found = value.windows(5).position(|part| part == b"busy-").map(|at| (key.to_vec(), value.to_vec(), at));
        Ok(if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    engine.scan(Table::Store, &KeyRange::all(), Direction::Forward, visit).expect("scans");
    let (key, mut value, at) = found.expect("there is a message");
    value[at] ^= 1;
    let mut batch = WriteBatch::default();
    batch.put(Table::Store, key, value);
    engine.write(batch).expect("writes");
    engine.flush().expect("flushes");
}

/// Flips one bit of what a stopped node has in its journal, in the middle of what was written.
fn flip_a_bit(cluster: &Cluster, id: u32) {
    let engine = cluster.data_dir(id).join("engine");
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jnl");
    let files = std::fs::read_dir(&engine).expect("a folder").map(|entry| entry.expect("an entry").path());
    let path = files.filter(is_journal).max_by_key(|path| path.metadata().expect("it is there").len());
    let path = path.expect("there is a journal");
    let mut bytes = std::fs::read(&path).expect("reads");
    let written = bytes.iter().rposition(|byte| *byte != 0).expect("something was written");
    bytes[written / 2] ^= 4;
    std::fs::write(&path, bytes).expect("writes");
}

/// Gives a stopped node another history: the entry before its last is one that nobody else has, and the last is gone.
fn forge_an_entry(cluster: &Cluster, id: u32) {
    let engine = Engine::open(&cluster.data_dir(id), FaultPlan::default()).expect("opens");
    let voter = Voter::Replica(NodeId(id));
    let (mut storage, _) = Storage::open(engine, voter, Incarnation(0), &Limits::default()).expect("opens");
    let (first, end) = storage.log_span();
    assert_eq!(first, Index(1), "its log reaches back to the beginning");
    let read = |index| storage.log_record(Index(index)).expect("reads").expect("it is there").entry;
    let mut entries: Vec<_> = (1..=end.0 - 2).map(read).collect();
    let (index, hash) = entries.last().map(|entry| (entry.index, entry.hash)).expect("there are some");
    let batch = Batch::Abort { keys: Vec::new(), keys_at: Timestamp(0) };
    entries.push(Arc::new(Entry::new(index.next(), hash, batch)));
    let nothing = StorageRequest::InstallEnd { write: WriteId(1), index: Index(0), hash: Hash::default() };
    let all = StorageRequest::WriteCommitted { write: WriteId(2), entries };
    let events = storage.perform(vec![StorageRequest::InstallBegin, nothing, all]).expect("performs");
    assert_eq!(events.last(), Some(&StorageEvent::Durable { write: WriteId(2), by: Writer::Sync }));
}

/// With an empty directory: it joins, and everything is on all of them.
fn returns_equal(mut cluster: Cluster, replica: u32, load: Load) {
    cluster.node(replica).start();
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    let (code, answer) = verify(&cluster);
    assert_eq!(code, Some(0), "{answer:#}");
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn r11_a_flipped_bit_on_a_replicas_disk_is_refused_loudly_and_repaired_from_a_peer() {
    let (mut cluster, load) = busy_cluster();
    let replica = a_replica(&mut cluster);
    cluster.node(replica).kill();
    flip_a_bit(&cluster, replica);
    // Whatever was lost with it, this node has voted for: it must not come back without knowing. Nor the second time.
    for _ in 0..2 {
        cluster.node(replica).start();
        let status = cluster.node(replica).wait(WIDE);
        assert!(!status.success(), "{status}");
        let lines = cluster.node(replica).lines();
        let last = lines.lines().last().unwrap_or_default();
        assert!(last.contains("is damaged") && last.contains("start with an empty one"), "{last}");
    }
    load.wait_for_more(SOME);
    let (code, answer) = verify(&cluster);
    assert_eq!((code, state(&answer, replica)), (Some(1), "not_compared"), "{answer:#}");
    // What it says is to be done.
    std::fs::rename(cluster.data_dir(replica), cluster.path("put-aside")).expect("it is put aside");
    returns_equal(cluster, replica, load);
}

#[test]
fn r11_a_member_of_the_view_with_another_history_leaves_it_and_joins_from_scratch() {
    let (mut cluster, load) = busy_cluster();
    let told = load.finish();
    cluster.wait_for_all();
    cluster.kill_all();
    // All stopped at one moment: the view still lists it when they come back. The lowest id is not the one that leads.
    forge_an_entry(&cluster, 1);
    let said_before = cluster.node(1).lines().len();
    cluster.nodes.values_mut().chain(&mut cluster.gateways).for_each(Process::start);
    let (_, primary) = cluster.primary_among(&BTreeSet::from([2, 3]));
    let said = eventually("node 1 joins again", || {
        let said = cluster.node(1).lines().split_off(said_before);
        said.contains("joined in view").then_some(said)
    });
    // A vote that it cannot give may show it before a heartbeat does: either way nothing of its history is built on.
    assert!(said.contains("not listed in view") && said.contains("the snapshot at entry"), "{said}");
    cluster.wait_for_all();
    let (code, answer) = verify(&cluster);
    assert_eq!((code, state(&answer, 1)), (Some(0), "equal"), "node {primary} leads: {answer:#}");
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn s5_equal_replicas_are_found_equal_under_load_and_at_rest() {
    let (mut cluster, load) = busy_cluster();
    let (code, answer) = verify(&cluster);
    assert_eq!((code, &answer["equal"]), (Some(0), &Value::Bool(true)), "{answer:#}");
    load.wait_for_more(SOME);
    let replica = a_replica(&mut cluster);
    cluster.node(replica).kill();
    let left: BTreeSet<_> = (1..=3).filter(|id| *id != replica).collect();
    cluster.wait_for_view_of(&left);
    let (code, answer) = verify(&cluster);
    assert_eq!((code, state(&answer, replica)), (Some(1), "not_compared"), "a copy that is away is none: {answer:#}");
    assert!(left.iter().all(|id| state(&answer, *id) == "equal"), "{answer:#}");
    cluster.node(replica).start();
    cluster.wait_for_members();
    let told = load.finish();
    cluster.wait_for_all();
    let (code, again) = verify(&cluster);
    assert_eq!(code, Some(0), "{again:#}");
    assert!(again["index"].as_u64() > answer["index"].as_u64(), "{again:#}");
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn s5_a_store_that_was_changed_behind_the_logs_back_is_found_and_joins_from_scratch() {
    let (mut cluster, load) = busy_cluster();
    let replica = a_replica(&mut cluster);
    cluster.node(replica).kill();
    change_a_message(&cluster, replica);
    cluster.node(replica).start();
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    let (code, answer) = verify(&cluster);
    assert_eq!((code, state(&answer, replica)), (Some(1), "other_store"), "{answer:#}");
    let next = answer["next"][0].as_str().expect("advice");
    assert!(next.starts_with(&format!("Next, for {replica}: ")) && next.contains("empty"), "{next}");
    // What it says is to be done.
    cluster.node(replica).kill();
    cluster.wipe(replica);
    returns_equal(cluster, replica, load);
}
