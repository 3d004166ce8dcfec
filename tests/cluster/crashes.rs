//! Processes that die, all kinds of them, alone and together, under load; and one that is only frozen.

use super::check;
use super::four::the_four_calls_work;
use super::gate::WIDE;
use super::harness::{Cluster, DEMO, Plan, SOME, busy_cluster};
use super::http::Client;
use super::load::{Load, Told};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

const WRITERS: usize = 4;

fn finish(cluster: Cluster, load: Load) {
    load.wait_for_more(SOME);
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn kill_9_of_the_primary() {
    // another takes over, and the dead one returns as a replica.
    let (mut cluster, load) = busy_cluster();
    let (view, primary) = cluster.primary();
    cluster.node(primary).kill();
    load.wait_for_more(SOME);
    let (later, other) = cluster.primary();
    assert!(later > view && other != primary);
    cluster.node(primary).start();
    cluster.wait_for_members();
    finish(cluster, load);
}

#[test]
fn kill_9_of_a_replica() {
    // the primary goes on without it, and lists it again once it has returned.
    let (mut cluster, load) = busy_cluster();
    let (_, primary) = cluster.primary();
    let replica = (1..=3).find(|id| *id != primary).expect("another");
    cluster.node(replica).kill();
    load.wait_for_more(SOME);
    cluster.node(replica).start();
    cluster.wait_for_members();
    finish(cluster, load);
}

#[test]
fn kill_9_of_a_gateway() {
    // Its writers go on through the other gateway with the same keys.
    let (mut cluster, load) = busy_cluster();
    cluster.gateways[0].kill();
    load.wait_for_more(SOME);
    cluster.gateways[0].start();
    load.wait_for_more(SOME);
    finish(cluster, load);
}

#[test]
fn kill_9_of_both_others_at_once() {
    // Section 3: the primary and two witnesses are three of five votes.
    let (mut cluster, load) = busy_cluster();
    let (_, primary) = cluster.primary();
    let others: Vec<u32> = (1..=3).filter(|id| *id != primary).collect();
    others.iter().for_each(|id| cluster.node(*id).kill());
    load.wait_for_more(SOME);
    assert_eq!(cluster.primary().1, primary);
    others.iter().for_each(|id| cluster.node(*id).start());
    cluster.wait_for_members();
    finish(cluster, load);
}

#[test]
fn kill_9_of_all_nodes_at_once() {
    // Section 9: they come back with what was durable, and need a new view to serve.
    let (mut cluster, load) = busy_cluster();
    let (view, _) = cluster.primary();
    cluster.nodes.values_mut().for_each(super::process::Process::kill);
    sleep(Duration::from_millis(500));
    cluster.nodes.values_mut().for_each(super::process::Process::start);
    load.wait_for_more(SOME);
    assert!(cluster.primary().0 > view, "being primary is not durable");
    finish(cluster, load);
}

#[test]
fn kill_9_of_everything_at_once() {
    let (mut cluster, load) = busy_cluster();
    cluster.kill_all();
    cluster.nodes.values_mut().for_each(super::process::Process::start);
    cluster.gateways.iter_mut().for_each(super::process::Process::start);
    cluster.wait_for_members();
    finish(cluster, load);
}

#[test]
fn a_frozen_primary_does_not_answer_as_primary_when_it_wakes() {
    // S2, section 6: the second gateway is frozen with it, so that it still believes in it when both wake.
    let (mut cluster, load) = busy_cluster();
    let (view, primary) = cluster.primary();
    cluster.node(primary).signal(Signal::SIGSTOP);
    cluster.gateways[1].signal(Signal::SIGSTOP);
    let port = cluster.client_ports[1];
    let reads: Vec<_> = (0..4).map(|_| std::thread::spawn(move || Client::new(port).get(NEWEST))).collect();
    let others: BTreeSet<u32> = (1..=3).filter(|id| *id != primary).collect();
    let (later, _) = cluster.primary_among(&others);
    assert!(later > view);
    let acked_by_others = cluster.post("frozen", "only-others-know-000001");
    assert_eq!(acked_by_others.status, 201);
    cluster.node(primary).signal(Signal::SIGCONT);
    cluster.gateways[1].signal(Signal::SIGCONT);
    for read in reads {
        let reply = read.join().expect("no panic").expect("an answer");
        assert_eq!(reply.json["messages"][0]["text"], "only-others-know-000001", "a stale read: {}", reply.json);
        let answered_in: u64 = reply.header("lockstep-view").and_then(|text| text.parse().ok()).expect("a receipt");
        assert!(answered_in > view, "answered in view {answered_in}, and {later} serves");
    }
    cluster.wait_for_members();
    finish(cluster, load);
}

const NEWEST: &str = "/v1/channels/frozen/messages?limit=1";

#[test]
fn sigterm_hands_over() {
    // the next view is decided before the process ends, so nobody has to notice a silence.
    let (mut cluster, load) = busy_cluster();
    let (view, primary) = cluster.primary();
    cluster.node(primary).signal(Signal::SIGTERM);
    let status = cluster.node(primary).wait(WIDE);
    assert!(status.success(), "it ended with {status}");
    load.wait_for_more(SOME);
    assert!(cluster.primary().0 > view);
    cluster.node(primary).start();
    cluster.wait_for_members();
    finish(cluster, load);
}

#[test]
fn any_two_data_nodes_at_once() {
    // Section 3: with two witnesses alive any two of three may die at the same moment, and the last one serves.
    let mut cluster = Cluster::ready(DEMO);
    let mut told = Told::default();
    for last in 1..=3 {
        cluster.wait_for_all();
        cluster.wait_for_witnesses(2);
        let dead: Vec<u32> = (1..=3).filter(|id| *id != last).collect();
        dead.iter().for_each(|id| cluster.node(*id).kill());
        assert_eq!(cluster.primary().1, last);
        told.acked.extend(the_four_calls_work(&cluster, 0, 1, &format!("last-{last:06}")).acked);
        dead.iter().for_each(|id| cluster.node(*id).start());
    }
    check::all_is_there_once_on_every_replica(cluster, "general", &told);
}

#[test]
fn any_two_data_nodes_one_after_the_other() {
    let mut cluster = Cluster::ready(DEMO);
    let mut told = Told::default();
    for (round, (first, second)) in [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)].into_iter().enumerate() {
        cluster.wait_for_all();
        cluster.wait_for_witnesses(2);
        cluster.node(first).kill();
        cluster.wait_for_all();
        // A view of two lists one of them: without it, two that lost sight of each other would not both go on.
        cluster.wait_for_witnesses(1);
        cluster.node(second).kill();
        let (_, last) = cluster.primary();
        assert_eq!(last, 6 - first - second);
        told.acked.extend(the_four_calls_work(&cluster, 1, 0, &format!("round-{round:06}")).acked);
        [first, second].iter().for_each(|id| cluster.node(*id).start());
    }
    check::all_is_there_once_on_every_replica(cluster, "general", &told);
}

#[test]
fn two_nodes_without_witnesses_shrink_to_two_and_wait_for_a_quorum() {
    // Section 3: of two that lost sight of each other one must wait; it serves again with the other, and lost nothing.
    let mut cluster = Cluster::ready(super::harness::Plan { witnesses: 0, ..DEMO });
    let load = Load::start(&cluster.client_ports, "busy", WRITERS);
    load.wait_for_more(SOME);
    let (_, first) = cluster.primary();
    cluster.node(first).kill();
    load.wait_for_more(SOME);
    let (_, second) = cluster.primary();
    cluster.node(second).kill();
    cluster.node(second).start();
    load.wait_for_more(SOME);
    cluster.node(first).start();
    cluster.wait_for_members();
    finish(cluster, load);
}

/// Silence is noticed early, so that a round is short.
const HASTY: &str = "[heartbeat]\ninterval_ms = 100\ntimeout_ms = 1000\n\
    [election]\nanswer_timeout_ms = 100\nvictory_timeout_ms = 500\nretry_ms = 200\n";

/// One after the other the primary is killed, under clients that retry, and returns: `LOCKSTEP_FAILOVERS` times, 100 by default.
#[test]
#[ignore = "minutes; README.md names it"]
fn many_forced_failovers_lose_and_double_nothing() {
    let rounds = std::env::var("LOCKSTEP_FAILOVERS").ok().and_then(|count| count.parse().ok()).unwrap_or(100);
    let mut cluster = Cluster::ready(Plan { settings: HASTY, ..DEMO });
    cluster.wait_for_witnesses(2);
    let load = Load::start(&cluster.client_ports, "busy", WRITERS);
    load.wait_for_more(SOME);
    let (begin, (mut last, mut primary)) = (Instant::now(), cluster.primary());
    for round in 1..=rounds {
        cluster.node(primary).kill();
        load.wait_for_more(WRITERS as u64);
        cluster.node(primary).start();
        let (view, other) = cluster.primary();
        assert!(view > last && other != primary, "round {round}: node {other} leads view {view}");
        cluster.wait_for_members();
        (last, primary) = cluster.primary();
        if round % 500 == 0 {
            println!("{round} failovers in {} s, {} posts, view {last}", begin.elapsed().as_secs(), load.acked());
        }
    }
    println!("{rounds} failovers in {} s", begin.elapsed().as_secs());
    let told = load.finish();
    let (acked, aborted, retries) = (told.acked.len(), told.aborted.len(), told.retries);
    println!("{acked} posts acknowledged, {aborted} aborted, {} unknown, {retries} retries", told.unknown.len());
    println!("longest stall {:?}", told.longest_stall());
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}
