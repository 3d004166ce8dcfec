//! `lockstep bench` against a cluster: what it says it did is what the cluster holds.

use super::check::history;
use super::harness::{Cluster, DEMO};
use super::process::BINARY;
use serde_json::Value;
use std::process::{Command, Stdio};

/// Its exit code and its report.
fn bench(cluster: &Cluster, more: &[&str]) -> (Option<i32>, Value) {
    let gateways: Vec<_> = cluster.client_ports.iter().map(|address| format!("http://{address}")).collect();
    let mut command = Command::new(BINARY);
    command.args(["bench", "--json", "--seconds", "2", "--warm-up", "0", "--clients", "8", "--channels", "3"]);
    command.args(["--gateway", &gateways.join(",")]).args(more);
    let output = command.stdin(Stdio::null()).output().expect("the binary starts");
    let report = serde_json::from_slice(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), report.unwrap_or_else(|error| panic!("no report: {error}; it said {said}")))
}

/// Every channel of these runs, read by another client than the bench's own: name and texts.
fn channels(cluster: &Cluster) -> Vec<(String, Vec<String>)> {
    let mut client = cluster.client(0);
    let reply = client.get("/v1/channels?limit=1000").expect("an answer");
    let all = reply.json["channels"].as_array().expect("channels").clone();
    let mut texts = |name: &str| history(&mut client, name).into_iter().map(|(_, text)| text).collect();
    let names = all.iter().map(|channel| channel["name"].as_str().expect("a name").to_owned());
    names.map(|name| (name.clone(), texts(&name))).collect()
}

fn count(value: &Value) -> usize {
    value.as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or_else(|| panic!("{value} is no count"))
}

/// So many messages are as many as were acknowledged, and at most those in doubt beside them.
fn agrees(report: &Value, messages: usize) {
    let posts = &report["verified"]["posts"];
    let acknowledged = count(&posts["acknowledged"]);
    let lawful = acknowledged..=acknowledged + count(&posts["doubtful"]);
    assert!(lawful.contains(&messages), "{messages} messages are there: {report:#}");
}

#[test]
fn a_bench_tells_what_the_cluster_holds() {
    let cluster = Cluster::ready(DEMO);
    let processes = cluster.nodes.values().chain(&cluster.gateways);
    let pids: Vec<_> = processes.map(|process| process.id().to_string()).collect();
    let (code, report) = bench(&cluster, &["--size", "77", "--pids", &pids.join(",")]);
    assert_eq!(code, Some(0), "{report:#}");
    let channels = channels(&cluster);
    assert!(channels.len() == 3 && channels.iter().all(|(name, _)| name.starts_with("bench-")), "{channels:?}");
    let held: usize = channels.iter().map(|(_, texts)| texts.len()).sum();
    assert!(held > 0 && channels.iter().all(|(_, texts)| texts.iter().all(|text| text.len() == 77)));
    agrees(&report, held);
    // Without a warm-up all that was acknowledged was counted.
    assert_eq!(report["lines"][0]["operations"], report["verified"]["posts"]["acknowledged"]);
    let read_back = report["verified"]["read_back"].as_array().expect("gateways");
    assert_eq!(read_back.len(), 2);
    read_back.iter().for_each(|read| agrees(&report, count(&read["messages"])));
    let processes = report["processes"].as_array().expect("processes");
    assert_eq!(processes.len(), 6, "three nodes, two gateways, and the bench itself");
    assert!(processes.iter().all(|process| count(&process["peak_bytes"]) > 0), "{report:#}");
}

#[test]
fn a_bench_of_all_work_in_an_open_loop_keeps_every_promise() {
    let cluster = Cluster::ready(DEMO);
    let (code, report) = bench(&cluster, &["--work", "mixed", "--rate", "100", "--preload", "500"]);
    assert_eq!(code, Some(0), "{report:#}");
    let kinds: Vec<_> = report["lines"].as_array().expect("lines").iter().map(|line| line["kind"].clone()).collect();
    assert_eq!(kinds, ["post", "history", "message", "star", "all"]);
    let failed: usize = report["errors"].as_object().expect("errors").values().map(count).sum();
    let done = count(&report["lines"][4]["operations"]);
    assert_eq!(done + failed + count(&report["schedule"]["unsent"]), 200, "{report:#}");
    let held: usize = channels(&cluster).iter().map(|(_, texts)| texts.len()).sum();
    agrees(&report, held);
    assert!(held >= 500 + count(&report["lines"][0]["operations"]), "{report:#}");
}

#[test]
fn a_bench_that_cannot_read_through_a_gateway_fails_and_says_which() {
    let mut cluster = Cluster::ready(DEMO);
    cluster.gateways[1].kill();
    let (code, report) = bench(&cluster, &[]);
    assert_eq!(code, Some(1), "{report:#}");
    let read_back = &report["verified"]["read_back"];
    assert!(read_back[0]["failure"].is_null(), "{report:#}");
    assert_eq!(read_back[1]["gateway"], cluster.client_ports[1].to_string());
    let why = read_back[1]["failure"].as_str().expect("a reason");
    assert!(why.ends_with("in vain: not connected"), "{why}");
    assert!(count(&report["errors"]["not connected"]) > 0, "{report:#}");
    assert_eq!(count(&report["verified"]["violations"]), 0, "nothing was lost: {report:#}");
}
