//! Section 12: for each fault the cause is named right, with who saw it, and all of it survives a restart of everything.

use super::gate::{WIDE, eventually};
use super::harness::{Cluster, DEMO, Plan, gateway_name, node_name};
use super::http::Client;
use super::process::{BINARY, Process};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::process::Command;

fn changes(cluster: &Cluster) -> Vec<Value> {
    let ask = |port| Client::new(port).get("/v1/cluster/changes?limit=100").ok();
    let reply = cluster.client_ports.iter().find_map(|port| ask(*port)).filter(|reply| reply.status == 200);
    reply.and_then(|reply| reply.json["changes"].as_array().cloned()).unwrap_or_default()
}

/// The first view change after `view` with a reason of this kind, once its primary has told all that it knows.
fn after(cluster: &Cluster, view: u64, kind: &str) -> Value {
    eventually(&format!("the record of {kind} after view {view}"), || {
        let is_it = |change: &&Value| {
            let reasons = change["cause"]["reasons"].as_array().into_iter().flatten();
            let is_later = change["view"].as_u64().is_some_and(|number| number > view);
            is_later && !change["phases"].is_null() && reasons.into_iter().any(|reason| reason["kind"] == kind)
        };
        changes(cluster).iter().rev().find(is_it).cloned()
    })
}

fn reasons(change: &Value) -> Vec<&Value> {
    change["cause"]["reasons"].as_array().into_iter().flatten().collect()
}

fn signs(change: &Value) -> Vec<&Value> {
    change["cause"]["seen_by"].as_array().into_iter().flatten().collect()
}

/// What every change that is told of in full says.
fn is_whole(change: &Value) {
    let decision = &change["decision"];
    let accepted = decision["accepted"].as_array().map_or(0, Vec::len) as u64;
    let votes = decision["votes"].as_u64().unwrap_or(0);
    assert!(2 * accepted >= votes && votes > 0, "a quorum decided it: {change:#}");
    assert!(change["stall_ms"].is_u64(), "{change:#}");
}

#[test]
fn kill_9_of_the_primary_is_a_reset_that_the_others_saw() {
    let mut cluster = Cluster::ready(DEMO);
    cluster.wait_for_witnesses(2);
    let (view, primary) = cluster.primary();
    cluster.node(primary).kill();
    let change = after(&cluster, view, "primary_lost");
    is_whole(&change);
    assert_eq!(reasons(&change)[0]["who"], primary.to_string());
    assert!(signs(&change).len() >= 3, "a quorum of five saw it: {change:#}");
    assert!(signs(&change).iter().all(|sign| sign["sign"] == "reset"), "{change:#}");
    let text = change["text"].as_str().expect("a sentence");
    assert!(text.starts_with(&format!("node {primary} died (connection reset, seen by ")), "{text}");
    assert!(text.contains(" of 5 votes in ") && text.contains("writes stood still for "), "{text}");
    let status = cluster.status().expect("a gateway answers");
    let last = status["changes"].as_array().and_then(|changes| changes.last()).expect("a change");
    assert!(last["cause"].as_str().is_some_and(|cause| cause.starts_with(&format!("node {primary} died"))), "{last}");
    let gateway = format!("http://{}", cluster.client_ports[0]);
    let told = Command::new(BINARY).args(["why", "--gateway", &gateway]).output().expect("the command runs");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.lines().last().is_some_and(|line| line.ends_with(text)), "the newest last: {told}");
}

#[test]
fn each_other_fault_is_named_and_all_of_it_survives_a_restart_of_everything() {
    let mut cluster = Cluster::ready(DEMO);
    cluster.wait_for_witnesses(2);
    for (kind, who) in
        [("founded", Value::Null), ("node_joined", json!("1")), ("witness_joined", json!(gateway_name(0)))]
    {
        let is_there =
            |change: &Value| reasons(change).iter().any(|reason| reason["kind"] == kind && reason["who"] == who);
        eventually(kind, || changes(&cluster).iter().any(is_there).then_some(()));
    }
    is_whole(&after(&cluster, 0, "node_joined"));

    let (view, primary) = cluster.primary();
    let replica = (1..=3).find(|id| *id != primary).expect("another");
    cluster.node(replica).kill();
    cluster.post("why", "one-write-finds-out");
    let change = after(&cluster, view, "set_offline");
    let reset = json!({"kind": "set_offline", "who": replica.to_string(), "fault": "reset", "ms": null});
    assert_eq!(reasons(&change)[0], &reset, "{change:#}");
    is_whole(&change);
    cluster.node(replica).start();
    cluster.wait_for_members();
    let change = after(&cluster, view, "node_joined");
    assert_eq!(reasons(&change)[0]["who"], replica.to_string());

    let (view, primary) = cluster.primary();
    cluster.node(primary).signal(Signal::SIGTERM);
    let change = after(&cluster, view, "stopped");
    assert_eq!(reasons(&change)[0]["who"], primary.to_string());
    is_whole(&change);
    let _ = cluster.node(primary).wait(WIDE);
    cluster.node(primary).start();
    let change = after(&cluster, view, "took_over");
    assert_eq!(reasons(&change)[0]["who"], primary.to_string(), "the highest id takes over: {change:#}");

    let (view, primary) = cluster.primary();
    cluster.node(primary).signal(Signal::SIGSTOP);
    let change = after(&cluster, view, "primary_lost");
    assert!(signs(&change).iter().any(|sign| sign["sign"] == "silent"), "{change:#}");
    assert!(change["stall_ms"].as_u64().is_some_and(|ms| ms >= 1_000), "the silence counts: {change:#}");
    cluster.node(primary).signal(Signal::SIGCONT);
    cluster.wait_for_members();

    let before = changes(&cluster);
    cluster.kill_all();
    cluster.nodes.values_mut().for_each(Process::start);
    cluster.gateways.iter_mut().for_each(Process::start);
    cluster.wait_for_members();
    let later = changes(&cluster);
    for change in &before {
        let same = later.iter().find(|later| later["view"] == change["view"]).expect("it is still told");
        assert_eq!(same["cause"], change["cause"]);
    }
    assert!(
        later
            .iter()
            .any(|change| signs(change).iter().any(|sign| sign["sign"] == "restarted" || sign["sign"] == "reset"))
    );
}

#[test]
fn a_paused_replica_is_slow_and_a_primary_that_is_cut_off_is_silent() {
    let mut cluster = Cluster::ready(Plan { relayed: true, gateways: 3, ..DEMO });
    cluster.wait_for_witnesses(2);
    let (view, primary) = cluster.primary();
    let replica = (1..=3).find(|id| *id != primary).expect("another");
    cluster.node(replica).signal(Signal::SIGSTOP);
    cluster.post("why", "one-write-waits-for-it");
    let change = after(&cluster, view, "set_offline");
    assert_eq!(
        (&reasons(&change)[0]["who"], &reasons(&change)[0]["fault"]),
        (&json!(replica.to_string()), &json!("slow"))
    );
    let waited_ms = reasons(&change)[0]["ms"].as_u64().expect("for so long");
    assert!(change["stall_ms"].as_u64().is_some_and(|ms| ms >= waited_ms), "the batch in flight counts: {change:#}");
    cluster.node(replica).signal(Signal::SIGCONT);
    cluster.wait_for_members();

    let (view, primary) = cluster.primary();
    let others: Vec<_> = (1..=3).filter(|id| *id != primary).map(node_name).chain((0..2).map(gateway_name)).collect();
    cluster.links.cut(&[node_name(primary)], &others);
    let change = after(&cluster, view, "primary_lost");
    assert_eq!(reasons(&change)[0]["who"], primary.to_string());
    assert!(signs(&change).iter().any(|sign| sign["sign"] == "silent"), "{change:#}");
    assert!(
        change["decision"]["accepted"].as_array().is_some_and(|voters| !voters.contains(&json!(primary.to_string())))
    );
    is_whole(&change);
}
