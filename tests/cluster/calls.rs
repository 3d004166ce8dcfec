//! The four calls, on a cluster that nothing disturbs and on what is left of one.

use super::check;
use super::four::the_four_calls_work;
use super::harness::{Cluster, DEMO};
use super::http::Request;
use super::load::Told;

#[test]
fn the_four_calls_work_through_either_gateway() {
    let cluster = Cluster::ready(DEMO);
    let mut told = the_four_calls_work(&cluster, 0, 1, "first-000001");
    told.acked.extend(the_four_calls_work(&cluster, 1, 0, "first-000002").acked);
    check::all_is_there_once_on_every_replica(cluster, "general", &told);
}

#[test]
fn a_key_gets_the_first_answer_through_another_gateway_and_after_a_failover() {
    // S3, R-2: the same key is the same write, whoever leads and whoever is asked.
    let mut cluster = Cluster::ready(DEMO);
    cluster.wait_for_witnesses(2);
    let request = Request::post("/v1/channels/general/messages", "once-000001").with("Idempotency-Key", "k1");
    let first = cluster.client(0).send(&request).expect("an answer");
    assert_eq!(first.status, 201);
    let again = cluster.client(1).send(&request).expect("an answer");
    assert_eq!((again.status, &again.json), (201, &first.json));
    let (_, primary) = cluster.primary();
    cluster.node(primary).kill();
    assert_eq!(cluster.insist(&request).json, first.json, "after a failover too");
    let other = Request::post("/v1/channels/general/messages", "other").with("Idempotency-Key", "k1");
    let refused = cluster.insist(&other);
    assert_eq!((refused.status, refused.code()), (422, "idempotency_key_reused"));
    let id = first.json["message"]["id"].as_str().expect("an id").to_owned();
    let told = Told { acked: vec![("once-000001".to_owned(), id)], ..Told::default() };
    check::all_is_there_once_on_every_replica(cluster, "general", &told);
}
