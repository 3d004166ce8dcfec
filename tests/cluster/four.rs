//! The four calls, as anybody may make them of any cluster that serves: post, history, star, stars.

use super::harness::Cluster;
use super::http::{Reply, Request};
use super::load::Told;
use serde_json::{Value, json};

/// Posts and takes the message from the answer.
fn post(cluster: &Cluster, gateway: usize, text: &str) -> Value {
    let request = Request::post("/v1/channels/general/messages", text).with("Lockstep-User", "ada");
    let reply = cluster.client(gateway).send(&request).expect("an answer");
    assert_eq!(reply.status, 201, "{}", reply.json);
    let copies: usize = reply.header("lockstep-copies").and_then(|text| text.parse().ok()).expect("a write's receipt");
    assert!(copies >= 1 && reply.header("lockstep-view").is_some() && reply.header("lockstep-index").is_some());
    reply.json["message"].clone()
}

fn call(cluster: &Cluster, gateway: usize, method: &str, path: &str) -> Reply {
    let reply = cluster.client(gateway).send(&Request::new(method, path).with("Lockstep-User", "bob"));
    reply.expect("an answer")
}

fn starred(cluster: &Cluster, gateway: usize) -> Vec<String> {
    let reply = call(cluster, gateway, "GET", "/v1/channels/general/stars?limit=1000");
    assert_eq!(reply.status, 200, "{}", reply.json);
    let messages = reply.json["messages"].as_array().expect("messages");
    messages.iter().map(|message| message["id"].as_str().expect("an id").to_owned()).collect()
}

/// Post, history, star, stars, unstar: written through one gateway, read through the other at once. Tells what was posted.
pub fn the_four_calls_work(cluster: &Cluster, write: usize, read: usize, text: &str) -> Told {
    let message = post(cluster, write, text);
    let id = message["id"].as_str().expect("an id");
    assert_eq!((&message["text"], &message["user"], &message["starred_by"]), (&json!(text), &json!("ada"), &json!([])));
    let newest = call(cluster, read, "GET", "/v1/channels/general/messages?limit=1");
    assert_eq!(newest.json["messages"], json!([message]), "a read after the answer shows the write");
    for _ in 0..2 {
        let reply = call(cluster, write, "PUT", &format!("/v1/messages/{id}/star"));
        assert_eq!((reply.status, &reply.json["message"]["starred_by"]), (200, &json!(["bob"])), "again is no error");
        assert!(starred(cluster, read).contains(&id.to_owned()));
    }
    for _ in 0..2 {
        let reply = call(cluster, read, "DELETE", &format!("/v1/messages/{id}/star"));
        assert_eq!((reply.status, &reply.json["message"]["starred_by"]), (200, &json!([])), "again is no error");
        assert!(!starred(cluster, write).contains(&id.to_owned()));
    }
    Told { acked: vec![(text.to_owned(), id.to_owned())], ..Told::default() }
}
