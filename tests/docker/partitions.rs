//! Containers off the network: what they send vanishes and nobody refuses anything, and their names lead nowhere.

use super::check;
use super::gate::eventually;
use super::harness::Cluster;
use super::http::{Client, Request};
use super::load::Load;

const WRITERS: usize = 4;
const SOME: u64 = 50;

#[test]
#[ignore = "needs an engine; docker/test.sh"]
fn a_primary_off_the_network_is_replaced_serves_nobody_and_rejoins() {
    let cluster = Cluster::ready();
    let load = Load::start(&cluster.client_ports, "busy", WRITERS);
    load.wait_for_more(SOME);
    let (view, primary) = cluster.primary();
    assert!(cluster.health(primary).contains("primary in view"), "it says that it serves");
    cluster.disconnect(&[primary]);
    load.wait_for_more(SOME);
    let (later, other) = cluster.primary();
    assert!(later > view && other != primary);
    eventually("it says that it does not serve", || cluster.health(primary).ends_with("not the primary").then_some(()));
    cluster.reconnect(&[primary]);
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    check::all_is_there_once_on_every_replica(cluster, "busy", &load.finish());
}

#[test]
#[ignore = "needs an engine; docker/test.sh"]
fn two_data_nodes_on_an_island_serve_nobody_and_rejoin() {
    // Section 3: two of five votes are no quorum, the primary among them or not.
    let cluster = Cluster::ready();
    let load = Load::start(&cluster.client_ports, "busy", WRITERS);
    load.wait_for_more(SOME);
    let (view, primary) = cluster.primary();
    let other = (1..=3).find(|id| *id != primary).expect("another");
    let last = 6 - primary - other;
    let mut castaway = cluster.exile(&[primary, other]);
    load.wait_for_more(SOME);
    let (later, serving) = cluster.primary();
    assert!(later > view && serving == last, "node {serving} serves in view {later}");
    nobody_is_served(&mut castaway);
    cluster.bring_back(&[primary, other]);
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    check::all_is_there_once_on_every_replica(cluster, "busy", &load.finish());
}

/// A client on the island: it reaches two data nodes, and neither a read nor a write is answered.
fn nobody_is_served(castaway: &mut Client) {
    let read = castaway.get("/v1/channels/busy/messages?limit=1").expect("an answer");
    assert_eq!(read.status, 503, "a stale read: {}", read.json);
    let write = Request::post("/v1/channels/island/messages", "never").with("Idempotency-Key", "never");
    let write = castaway.send(&write).expect("an answer");
    assert!(matches!(write.status, 503 | 504), "{} {}", write.status, write.json);
}
