//! The four calls, and containers that are killed or paused.

use super::check;
use super::four::the_four_calls_work;
use super::harness::{Cluster, node};
use super::load::{Load, Told};
use std::time::Duration;

const WRITERS: usize = 4;
/// Posts that show that the cluster serves.
const SOME: u64 = 50;

#[test]
#[ignore = "needs an engine; docker/test.sh"]
fn the_four_calls_work_through_the_published_ports() {
    let mut cluster = Cluster::ready();
    cluster.client_ports.clone_from(&cluster.published);
    let mut told = the_four_calls_work(&cluster, 0, 1, "first-000001");
    told.acked.extend(the_four_calls_work(&cluster, 1, 0, "first-000002").acked);
    (1..=3).for_each(|id| assert!(cluster.health(id).starts_with("of cluster"), "node {id} is not well"));
    check::all_is_there_once_on_every_replica(cluster, "general", &told);
}

/// Something happens to the primary under load; another takes over; it comes back, and is a member again.
fn is_replaced(before: &str, after: &str) {
    let cluster = Cluster::ready();
    let load = Load::start(&cluster.client_ports, "busy", WRITERS);
    load.wait_for_more(SOME);
    let (view, primary) = cluster.primary();
    cluster.tell(before, &[node(primary)]);
    load.wait_for_more(SOME);
    let (later, other) = cluster.primary();
    assert!(later > view && other != primary);
    cluster.tell(after, &[node(primary)]);
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    check::all_is_there_once_on_every_replica(cluster, "busy", &load.finish());
}

#[test]
#[ignore = "needs an engine; docker/test.sh"]
fn a_killed_primary_is_replaced_and_returns() {
    is_replaced("kill", "start");
}

#[test]
#[ignore = "needs an engine; docker/test.sh"]
fn a_paused_primary_is_replaced_and_returns() {
    is_replaced("pause", "unpause");
}

#[test]
#[ignore = "needs an engine; docker/test.sh"]
fn any_two_data_nodes_are_killed_at_once() {
    // Section 3: with both witnesses the last data node is a quorum, whichever it is.
    let cluster = Cluster::ready();
    let load = Load::start(&cluster.client_ports, "busy", WRITERS);
    let mut told = Told::default();
    for last in 1..=3 {
        load.wait_for_more(SOME);
        cluster.wait_for_members();
        cluster.wait_for_witnesses();
        let dead: Vec<_> = (1..=3).filter(|id| *id != last).map(node).collect();
        cluster.tell("kill", &dead);
        load.wait_for_more(SOME);
        assert_eq!(cluster.primary().1, last);
        told.acked.extend(the_four_calls_work(&cluster, 0, 1, &format!("last-{last:06}")).acked);
        cluster.tell("start", &dead);
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.wait_for_members();
    let busy = load.finish();
    check::agrees_with_what_was_told(&check::history(&mut cluster.client(0), "general"), &told);
    check::all_is_there_once_on_every_replica(cluster, "busy", &busy);
}
