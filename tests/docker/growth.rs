//! A data node more, and one that lost its volume.

use super::check;
use super::harness::{Cluster, node};
use super::load::Load;

const WRITERS: usize = 4;
const SOME: u64 = 50;

#[test]
#[ignore = "needs an engine; docker/test.sh"]
fn a_fourth_data_node_joins_under_load() {
    let cluster = Cluster::ready();
    let load = Load::start(&cluster.client_ports, "busy", WRITERS);
    load.wait_for_more(SOME);
    cluster.add_node(4);
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    assert_eq!(cluster.running().len(), 4);
    check::all_is_there_once_on_every_replica(cluster, "busy", &load.finish());
}

#[test]
#[ignore = "needs an engine; docker/test.sh"]
fn a_data_node_without_its_volume_copies_everything() {
    let cluster = Cluster::ready();
    let load = Load::start(&cluster.client_ports, "busy", WRITERS);
    load.wait_for_more(SOME);
    let (_, primary) = cluster.primary();
    for id in [primary, if primary == 1 { 2 } else { 1 }] {
        cluster.tell("kill", &[node(id)]);
        load.wait_for_more(SOME);
        cluster.replace(id);
        cluster.wait_for_members();
        load.wait_for_more(SOME);
    }
    check::all_is_there_once_on_every_replica(cluster, "busy", &load.finish());
}
