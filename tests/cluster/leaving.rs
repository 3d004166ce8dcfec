//! nodes that an operator removes for good, or drains for a while, under load.

use super::check;
use super::gate::{WIDE, eventually};
use super::harness::{Cluster, SOME, busy_cluster, gateway_name, node_name};
use super::load::Load;
use super::process::BINARY;
use std::collections::BTreeSet;
use std::process::{Command, Output};

/// What a process that was removed ends with.
const EXIT_REMOVED: i32 = 71;

/// An operator's command, with the settings of the first gateway.
fn operator(cluster: &Cluster, arguments: &[&str]) -> Output {
    let config = cluster.path(&format!("{}.toml", gateway_name(0)));
    let mut command = Command::new(BINARY);
    command.args(arguments).arg("--config").arg(config);
    command.output().expect("the command runs")
}

fn done(output: &Output) -> String {
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{wrong}");
    said.into_owned()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The exit code of `lockstep status`.
fn health(cluster: &Cluster) -> Option<i32> {
    let gateway = format!("http://{}", cluster.client_ports[0]);
    Command::new(BINARY).args(["status", "--gateway", &gateway]).output().expect("the command runs").status.code()
}

fn others(of: u32) -> BTreeSet<u32> {
    (1..=3).filter(|id| *id != of).collect()
}

/// The removed process ends with the sentence, and again when it is started on that directory.
fn ends_for_good(cluster: &mut Cluster, id: u32) {
    for _ in 0..2 {
        assert_eq!(cluster.node(id).wait(WIDE).code(), Some(EXIT_REMOVED));
        let sentence = format!("node {id} was removed from cluster");
        assert!(cluster.node(id).lines().contains(&sentence), "{}", cluster.node(id).lines());
        cluster.node(id).start();
    }
    assert_eq!(cluster.node(id).wait(WIDE).code(), Some(EXIT_REMOVED));
}

fn finish(cluster: Cluster, load: Load) {
    load.wait_for_more(SOME);
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn a_live_replica_is_removed_and_an_empty_directory_brings_it_back_as_another() {
    let (mut cluster, load) = busy_cluster();
    let (_, primary) = cluster.primary();
    let gone = *others(primary).first().expect("a replica");
    let said = done(&operator(&cluster, &["remove", &gone.to_string()]));
    assert!(said.starts_with(&format!("node {gone} is removed for good, and out of view ")), "{said}");
    cluster.wait_for_view_of(&others(gone));
    ends_for_good(&mut cluster, gone);
    load.wait_for_more(SOME);
    eventually("healthy without it", || (health(&cluster) == Some(0)).then_some(()));
    done(&operator(&cluster, &["remove", &gone.to_string()]));
    cluster.wipe(gone);
    cluster.node(gone).start();
    cluster.wait_for_members();
    finish(cluster, load);
}

#[test]
fn the_primary_is_removed() {
    let (mut cluster, load) = busy_cluster();
    let (view, primary) = cluster.primary();
    done(&operator(&cluster, &["remove", &primary.to_string()]));
    let (later, other) = cluster.primary_among(&others(primary));
    assert!(later > view && other != primary);
    ends_for_good(&mut cluster, primary);
    finish(cluster, load);
}

#[test]
fn a_dead_node_is_removed_and_nobody_misses_it() {
    let (mut cluster, load) = busy_cluster();
    let (_, primary) = cluster.primary();
    let gone = *others(primary).first().expect("a replica");
    cluster.node(gone).kill();
    cluster.wait_for_view_of(&others(gone));
    assert_eq!(health(&cluster), Some(1), "it is missed");
    done(&operator(&cluster, &["remove", &gone.to_string()]));
    eventually("healthy without it", || (health(&cluster) == Some(0)).then_some(()));
    let unknown = refused(&operator(&cluster, &["remove", "9"]));
    assert!(unknown.contains("node 9 was never a member of this cluster"), "{unknown}");
    let second = *others(gone).first().expect("another");
    done(&operator(&cluster, &["remove", &second.to_string()]));
    assert_eq!(cluster.node(second).wait(WIDE).code(), Some(EXIT_REMOVED));
    let last = *others(gone).last().expect("the last");
    let refusal = refused(&operator(&cluster, &["remove", &last.to_string()]));
    assert!(refusal.contains(&format!("node {last} holds the last copy")), "{refusal}");
    let refusal = refused(&operator(&cluster, &["drain", &last.to_string()]));
    assert!(refusal.contains(&format!("node {last} holds the last copy")), "{refusal}");
    finish(cluster, load);
}

#[test]
fn a_gateway_is_removed() {
    let (mut cluster, load) = busy_cluster();
    let said = done(&operator(&cluster, &["remove", &gateway_name(1)]));
    assert!(said.starts_with("witness gateway-2 is removed for good"), "{said}");
    assert_eq!(cluster.gateways[1].wait(WIDE).code(), Some(EXIT_REMOVED));
    assert!(cluster.gateways[1].lines().contains("witness gateway-2 was removed from cluster"));
    cluster.client_ports.pop();
    load.wait_for_more(SOME);
    eventually("healthy without it", || (health(&cluster) == Some(0)).then_some(()));
    finish(cluster, load);
}

#[test]
fn a_drained_node_stays_out_until_the_drain_ends_or_it_restarts() {
    let (mut cluster, load) = busy_cluster();
    let (_, primary) = cluster.primary();
    for id in [primary, *others(primary).first().expect("a replica")] {
        let said = done(&operator(&cluster, &["drain", &id.to_string()]));
        assert!(said.contains("2 copies remain") && said.contains("stop it when you like"), "{said}");
        cluster.wait_for_view_of(&others(id));
        load.wait_for_more(SOME);
        let node = node_name(id);
        let state = eventually("it says that it is drained", || {
            let status = cluster.status()?;
            let nodes = status["nodes"].as_array()?;
            nodes.iter().find(|node| node["id"] == id && node["state"] == "drained").cloned()
        });
        assert!(cluster.node(id).is_running(), "{node}: {state}");
        if id == primary {
            done(&operator(&cluster, &["drain", &id.to_string(), "--end"]));
        } else {
            cluster.node(id).kill();
            cluster.node(id).start();
        }
        cluster.wait_for_members();
        load.wait_for_more(SOME);
    }
    finish(cluster, load);
}
