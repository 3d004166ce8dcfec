//! Nodes and gateways that are added under load, and nodes that return: with the log's help, or from scratch.

use super::check;
use super::gate::eventually;
use super::harness::{Cluster, DEMO, Plan, node_name};
use super::load::Load;
use std::time::Duration;

/// More than one batch, and what a node may miss and still need only the log.
const MISSED: u64 = 1_000;
const SOME: u64 = 50;

#[test]
fn a_fourth_and_a_fifth_data_node_join_under_load() {
    //
    let mut cluster = Cluster::ready(DEMO);
    let load = Load::start(&cluster.client_ports, "busy", 4);
    load.wait_for_more(SOME);
    cluster.add_node(4);
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    cluster.add_node(5);
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

/// A replica that is not the primary.
fn a_replica(cluster: &mut Cluster) -> u32 {
    let (_, primary) = cluster.primary();
    if primary == 1 { 2 } else { 1 }
}

/// Whether the node was sent a snapshot since it had said so many bytes.
fn took_a_snapshot(cluster: &mut Cluster, id: u32, bytes_before: usize) -> bool {
    cluster.node(id).lines()[bytes_before..].contains("sends a snapshot")
}

#[test]
fn a_node_that_missed_a_thousand_writes_takes_the_log_only() {
    // the log reaches back to its commit index.
    let mut cluster = Cluster::ready(DEMO);
    let load = Load::start(&cluster.client_ports, "busy", 4);
    load.wait_for_more(SOME);
    let id = a_replica(&mut cluster);
    cluster.node(id).kill();
    load.wait_for_more(MISSED);
    let bytes_before = cluster.node(id).lines().len();
    cluster.node(id).start();
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    assert!(!took_a_snapshot(&mut cluster, id, bytes_before), "it needed only the entries that it missed");
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn a_wiped_node_takes_a_snapshot() {
    // the log does not reach back to nothing; and the snapshot takes many chunks.
    let settings = "[log]\nretain_entries = 50\n[sync]\nchunk_bytes = 16384\n";
    let mut cluster = Cluster::ready(Plan { settings, ..DEMO });
    let load = Load::start(&cluster.client_ports, "busy", 4);
    load.wait_for_more(MISSED);
    let before = cluster.status().expect("a status")["cluster_id"].clone();
    let id = a_replica(&mut cluster);
    cluster.node(id).kill();
    cluster.wipe(id);
    let bytes_before = cluster.node(id).lines().len();
    cluster.node(id).start();
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    assert!(took_a_snapshot(&mut cluster, id, bytes_before), "only a snapshot reaches back to nothing");
    assert_eq!(cluster.status().expect("a status")["cluster_id"], before);
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn a_wiped_highest_node_founds_no_second_cluster() {
    // Section 9: it would found one if all seeds were empty.
    let mut cluster = Cluster::ready(DEMO);
    cluster.wait_for_witnesses(2);
    let load = Load::start(&cluster.client_ports, "busy", 2);
    load.wait_for_more(SOME);
    let before = cluster.status().expect("a status")["cluster_id"].clone();
    cluster.node(3).kill();
    cluster.wipe(3);
    cluster.node(3).start();
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    assert_eq!(cluster.status().expect("a status")["cluster_id"], before);
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn a_gateway_is_added() {
    // its witness waits, since a view of three lists two.
    let mut cluster = Cluster::ready(DEMO);
    cluster.wait_for_witnesses(2);
    let load = Load::start(&cluster.client_ports, "busy", 2);
    cluster.add_gateway(true);
    super::gate::eventually("the new gateway serves", || {
        cluster.client(2).get("/readyz").ok().filter(|reply| reply.status == 200)
    });
    let more = Load::start(&cluster.client_ports[2..], "other", 2);
    more.wait_for_more(SOME);
    load.wait_for_more(SOME);
    cluster.wait_for_witnesses(2);
    let (told, through_new) = (load.finish(), more.finish());
    check::agrees_with_what_was_told(&check::history(&mut cluster.client(0), "other"), &through_new);
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn a_replica_that_holds_every_write_up_is_set_offline_and_returns() {
    // R-8, `slow_replica`.
    let mut cluster = Cluster::ready(Plan { relayed: true, ..DEMO });
    let load = Load::start(&cluster.client_ports, "busy", 4);
    load.wait_for_more(SOME);
    let slow = a_replica(&mut cluster);
    cluster.links.slow_down(&node_name(slow), Duration::from_millis(200));
    let others = cluster.running().into_iter().filter(|id| *id != slow).collect();
    cluster.wait_for_view_of(&others);
    let (_, primary) = cluster.primary();
    let why = "its votes came more than 50 ms after all others for 3000 ms";
    eventually("it says why", || cluster.node(primary).lines().contains(why).then_some(()));
    load.wait_for_more(SOME);
    cluster.links.slow_down(&node_name(slow), Duration::ZERO);
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}
