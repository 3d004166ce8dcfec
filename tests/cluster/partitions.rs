//! Wires that are cut, one way and both ways: exactly the side with a quorum serves, and nothing is lost or read stale.

use super::check;
use super::harness::{Cluster, DEMO, Plan, gateway_name, node_name};
use super::http::Client;
use super::load::{Load, Told};
use std::collections::BTreeSet;
use std::time::Duration;

/// The third gateway has no vote, and no cut concerns it: it is the client that reaches everybody.
const RELAYED: Plan = Plan { relayed: true, gateways: 3, ..DEMO };
const OBSERVER: usize = 2;
const SOME: u64 = 50;

/// The three data nodes and the two gateways with their witnesses.
fn voters() -> Vec<String> {
    (1..=3).map(node_name).chain((0..2).map(gateway_name)).collect()
}

/// All voters but these.
fn all_but(names: &[String]) -> Vec<String> {
    voters().into_iter().filter(|name| !names.contains(name)).collect()
}

fn ready() -> Cluster {
    let cluster = Cluster::ready(RELAYED);
    cluster.wait_for_witnesses(2);
    cluster
}

/// Writers go on past a primary that `cut` has cut off, as told its name; healed, everyone is a member again.
fn is_replaced(cut: impl Fn(&Cluster, &[String])) {
    let mut cluster = ready();
    let load = Load::start(&cluster.client_ports, "busy", 4);
    load.wait_for_more(SOME);
    let (view, primary) = cluster.primary();
    cut(&cluster, &[node_name(primary)]);
    load.wait_for_more(SOME);
    assert!(cluster.primary().0 > view);
    cluster.links.heal();
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn a_primary_that_is_cut_off_is_replaced() {
    is_replaced(|cluster, alone| cluster.links.cut(alone, &all_but(alone)));
}

#[test]
fn a_primary_that_is_heard_but_does_not_hear_is_replaced() {
    is_replaced(|cluster, alone| cluster.links.cut_one_way(&all_but(alone), alone));
}

#[test]
fn a_primary_that_hears_but_is_not_heard_is_replaced() {
    is_replaced(|cluster, alone| cluster.links.cut_one_way(alone, &all_but(alone)));
}

#[test]
fn a_replica_with_one_cut_wire_to_the_primary_is_left_out_and_returns() {
    // R-13's trial: it suspects the primary, and disturbs nobody who does not.
    let mut cluster = ready();
    let load = Load::start(&cluster.client_ports, "busy", 4);
    load.wait_for_more(SOME);
    let (_, primary) = cluster.primary();
    let replica = (1..=3).find(|id| *id != primary).expect("another");
    cluster.links.cut(&[node_name(primary)], &[node_name(replica)]);
    let left: BTreeSet<u32> = (1..=3).filter(|id| *id != replica).collect();
    load.wait_for_more(SOME);
    cluster.wait_for_view_of(&left);
    cluster.links.heal();
    cluster.wait_for_members();
    load.wait_for_more(SOME);
    let told = load.finish();
    check::all_is_there_once_on_every_replica(cluster, "busy", &told);
}

#[test]
fn any_two_voters_against_the_other_three() {
    // Section 3: the side of three is a quorum whoever is in it, unless no data node is; the other side never serves.
    let mut cluster = ready();
    let mut told = Told::default();
    let all = voters();
    let pairs = (0..5).flat_map(|one| (one + 1..5).map(move |other| (one, other)));
    for (round, (one, other)) in pairs.enumerate() {
        cluster.wait_for_all();
        cluster.wait_for_witnesses(2);
        let cut_off = [all[one].clone(), all[other].clone()];
        cluster.links.cut(&cut_off, &all_but(&cut_off));
        let text = format!("split-{round:06}");
        let reply = cluster.post("general", &text);
        assert_eq!(reply.status, 201, "{}", reply.json);
        told.acked.push((text, reply.json["message"]["id"].as_str().expect("an id").to_owned()));
        // Who is cut off may believe for a while that it serves, but it cannot confirm a read any more.
        (0..3).for_each(|gateway| a_read_is_refused_or_fresh(&cluster, gateway, &told));
        cluster.links.heal();
        println!("{cut_off:?} were cut off, and the others served");
    }
    check::all_is_there_once_on_every_replica(cluster, "general", &told);
}

fn a_read_is_refused_or_fresh(cluster: &Cluster, gateway: usize, told: &Told) {
    let mut client = Client::new(cluster.client_ports[gateway]).patient_for(Duration::from_secs(2));
    let reply = client.get("/v1/channels/general/messages?limit=1");
    let newest = &told.acked.last().expect("one was acknowledged").0;
    let fresh = |text: &serde_json::Value| *text == newest.as_str();
    match reply {
        Ok(reply) => assert!(reply.status == 503 || fresh(&reply.json["messages"][0]["text"]), "stale: {}", reply.json),
        Err(_) => assert!(gateway != OBSERVER, "who reaches everybody is answered"),
    }
}
